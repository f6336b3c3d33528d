//! Stepping back behind other work.

/// How much nicer: half-way to the lowest.
const NICE: i32 = 10;

/// `ioprio_set(2)`: this thread, best effort, lowest level.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_BEST_EFFORT_LOWEST: libc::c_int = (2 << 13) | 7;

/// Lowers the priority of the calling thread, and of those it starts later, for the processor and for disks. What
/// cannot be lowered stays as it is: no work should fail for want of modesty.
pub fn lower() {
    // SAFETY: neither call takes a pointer; 0 means the calling thread in both. Linux keeps both values per thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_BEST_EFFORT_LOWEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_that_asks_is_lowered_and_others_are_not() {
        // SAFETY: no pointers; 0 is the calling thread.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let lowered = std::thread::spawn(move || {
            lower();
            nice()
        });
        assert_eq!(lowered.join().unwrap(), NICE.max(before));
        assert_eq!(nice(), before);
    }
}
