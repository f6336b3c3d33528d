//! The bytes that may be on their way at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bundle::cut::Stopped;

/// Least that a chunk counts for: its places in queues cost something too.
const CHARGE_MIN: u64 = 4 << 10;

/// A number of bytes that chunks take on their way from the cutter to a pack. Who takes waits until there is room.
#[derive(Debug)]
pub(crate) struct Budget {
    state: Mutex<State>,
    changed: Condvar,
    max: u64,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// How many wait for room.
    waiting: u32,
    stopped: bool,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room for a chunk of `bytes`, and says what has to be given back. A chunk larger than the whole
    /// budget passes alone.
    pub(crate) fn take(&self, bytes: usize) -> Result<u64, Stopped> {
        let charge = (bytes as u64).max(CHARGE_MIN);
        let mut state = self.lock();
        state.waiting += 1;
        while !state.stopped && state.used > 0 && state.used + charge > self.max {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        if state.stopped {
            return Err(Stopped);
        }
        state.used += charge;
        Ok(charge)
    }

    /// Whether somebody waits for room.
    #[cfg(test)]
    pub(super) fn is_waited_for(&self) -> bool {
        self.lock().waiting > 0
    }

    /// Gives room back.
    pub(crate) fn give(&self, charge: u64) {
        self.lock().used -= charge;
        self.changed.notify_all();
    }

    /// Lets nobody take any more.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until_somebody_waits(budget: &Budget) {
        while !budget.is_waited_for() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_takes_more_than_there_is_waits_until_it_is_given_back() {
        let budget = Budget::new(10 << 20);
        let first = budget.take(8 << 20).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.take(4 << 20));
            until_somebody_waits(&budget);
            budget.give(first);
            assert_eq!(waiting.join().unwrap().unwrap(), 4 << 20);
        });
    }

    #[test]
    fn stopping_wakes_who_waits() {
        let budget = Budget::new(1);
        budget.take(5).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.take(5));
            until_somebody_waits(&budget);
            budget.stop();
            assert!(waiting.join().unwrap().is_err());
        });
    }
}
