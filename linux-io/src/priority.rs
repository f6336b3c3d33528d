//! Stepping back behind other work.

/// How much nicer: half-way to the lowest.
const NICE: i32 = 10;

/// `ioprio_set(2)`: this thread, best effort, lowest level.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_BEST_EFFORT_LOWEST: libc::c_int = (2 << 13) | 7;
/// The class that gets a disk only when nobody else wants it.
const IOPRIO_CLASS_IDLE: libc::c_long = 3;

/// Lowers the priority of the calling thread, and of those it starts later, for the processor and for disks. What
/// cannot be lowered, or is lower already, stays as it is: no work should fail for want of modesty.
pub fn lower() {
    // SAFETY: no call takes a pointer; 0 means the calling thread in all. Linux keeps both values per thread.
    unsafe {
        if libc::getpriority(libc::PRIO_PROCESS, 0) < NICE {
            libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        }
        if libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) >> 13 != IOPRIO_CLASS_IDLE {
            libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_BEST_EFFORT_LOWEST);
        }
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

    #[test]
    fn who_is_lower_already_stays_there() {
        // SAFETY: no pointers; 0 is the calling thread, which ends here.
        let both = std::thread::spawn(|| unsafe {
            libc::setpriority(libc::PRIO_PROCESS, 0, NICE + 5);
            libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE << 13);
            lower();
            let io = libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
            (libc::getpriority(libc::PRIO_PROCESS, 0), io >> 13)
        });
        assert_eq!(both.join().unwrap(), (NICE + 5, IOPRIO_CLASS_IDLE));
    }
}
