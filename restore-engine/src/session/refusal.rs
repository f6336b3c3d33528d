//! What a machine does at which nobody sits, when it is refused and nothing was written: it says why, stays, and asks
//! again ever more rarely; then it restarts, so that its own disk, or other arguments from the network, get a turn.
//!
//! A machine that boots from the network first comes back here after its restart, and knows nothing of the time before:
//! only what it waits itself keeps it from going round in minutes.

use std::time::Duration;

use restore_events::After;

use super::ask::Next;

/// First pause; it doubles from try to try.
const FIRST: Duration = Duration::from_secs(60);
/// After so many pauses nothing is expected of another try.
const PAUSES: u32 = 4;
/// All pauses together: how long a machine stays whose arguments are no good, which no try mends.
const STAY: Duration = Duration::from_secs(15 * 60);

/// What follows refusal number `refusals`, counted from 0. `at_last` is what `rerack.refused=` says.
pub(super) fn next(refusals: u32, at_last: After) -> Next {
    let pause = FIRST * (1 << refusals.min(PAUSES - 1));
    match at_last {
        _ if refusals + 1 < PAUSES => Next::Retry(pause),
        After::Reboot => Next::Reboot(pause),
        After::Poweroff => Next::PowerOff(pause),
        After::Wait => Next::Retry(STAY),
    }
}

/// What follows arguments that cannot be used: trying again would find the same.
pub(super) fn for_good(at_last: After) -> Next {
    match at_last {
        After::Reboot => Next::Reboot(STAY),
        After::Poweroff => Next::PowerOff(STAY),
        After::Wait => Next::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn a_refused_machine_asks_again_ever_more_rarely_and_then_restarts() {
        let tries: Vec<Next> = (0..4).map(|refusals| next(refusals, After::Reboot)).collect();
        let wanted =
            [Next::Retry(minutes(1)), Next::Retry(minutes(2)), Next::Retry(minutes(4)), Next::Reboot(minutes(8))];
        assert_eq!(tries, wanted);
        assert_eq!(next(3, After::Poweroff), Next::PowerOff(minutes(8)));
        assert_eq!(minutes(1 + 2 + 4 + 8), STAY, "as long as where no try helps");
        assert_eq!(for_good(After::Reboot), Next::Reboot(STAY));
    }

    #[test]
    fn one_that_is_to_wait_never_ends_by_itself() {
        for refusals in (0..50).chain([u32::MAX - 1]) {
            let Next::Retry(pause) = next(refusals, After::Wait) else { panic!("it ends after {refusals}") };
            assert!((minutes(1)..=STAY).contains(&pause), "{pause:?}");
        }
        assert_eq!(for_good(After::Wait), Next::Wait);
    }
}
