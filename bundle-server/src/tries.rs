//! How many wrong restore codes are listened to. Forty bits cannot be guessed at this rate within an hour, nor in the
//! age of the universe; an operator who mistypes does not notice it.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

/// Wrong codes that one address may send at once.
const BURST_OF_ADDRESS: u32 = 10;
/// Wrong codes that all addresses together may send at once.
const BURST_OF_ALL: u32 = 200;
/// Seconds after which one wrong code of an address is forgotten.
const FORGOTTEN_AFTER_SECONDS: i64 = 30;
/// Seconds after which one wrong code of all is forgotten.
const ALL_FORGOTTEN_AFTER_SECONDS: i64 = 1;
/// Addresses remembered; beyond them, those whose tries are forgotten are dropped, and then all count as one.
const ADDRESSES_MAX: usize = 4096;

/// A bucket that leaks.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u32,
    since: Timestamp,
}

impl Bucket {
    fn new(now: Timestamp) -> Self {
        Self { level: 0, since: now }
    }

    fn leak(&mut self, now: Timestamp, seconds_each: i64) {
        let passed = now.duration_since(self.since).as_secs().max(0) / seconds_each;
        self.level = self.level.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
        self.since = if self.level == 0 { now } else { self.since + SignedDuration::from_secs(passed * seconds_each) };
    }
}

/// The wrong codes of late.
#[derive(Debug)]
pub(crate) struct Tries {
    all: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
}

impl Tries {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { all: Bucket::new(now), by_address: HashMap::new() }
    }

    /// Whether a code from this address is looked at now; else, seconds to wait.
    pub(crate) fn check(&mut self, address: IpAddr, now: Timestamp) -> Result<(), u64> {
        self.all.leak(now, ALL_FORGOTTEN_AFTER_SECONDS);
        if self.all.level >= BURST_OF_ALL {
            return Err(ALL_FORGOTTEN_AFTER_SECONDS as u64);
        }
        match self.by_address.get_mut(&address) {
            Some(bucket) => {
                bucket.leak(now, FORGOTTEN_AFTER_SECONDS);
                if bucket.level >= BURST_OF_ADDRESS { Err(FORGOTTEN_AFTER_SECONDS as u64) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    /// Counts a wrong code.
    pub(crate) fn failed(&mut self, address: IpAddr, now: Timestamp) {
        self.all.level = self.all.level.saturating_add(1);
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.retain(|_, bucket| {
                bucket.leak(now, FORGOTTEN_AFTER_SECONDS);
                bucket.level > 0
            });
        }
        if self.by_address.len() < ADDRESSES_MAX || self.by_address.contains_key(&address) {
            self.by_address.entry(address).or_insert_with(|| Bucket::new(now)).level += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(1_795_219_200 + n).unwrap()
    }

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn one_address_that_guesses_is_slowed_down_and_others_are_not() {
        let mut tries = Tries::new(second(0));
        for _ in 0..10 {
            assert_eq!(tries.check(address(1), second(0)), Ok(()));
            tries.failed(address(1), second(0));
        }
        assert_eq!(tries.check(address(1), second(0)), Err(30));
        assert_eq!(tries.check(address(2), second(0)), Ok(()));
        assert_eq!(tries.check(address(1), second(29)), Err(30));
        assert_eq!(tries.check(address(1), second(30)), Ok(()));
        tries.failed(address(1), second(30));
        assert_eq!(tries.check(address(1), second(31)), Err(30));
    }

    #[test]
    fn a_thousand_addresses_together_get_no_more_than_one_a_second() {
        let mut tries = Tries::new(second(0));
        let mut heard = 0;
        for n in 0..60_000_u32 {
            let address = IpAddr::from(n.to_be_bytes());
            if tries.check(address, second(i64::from(n / 1000))).is_ok() {
                tries.failed(address, second(i64::from(n / 1000)));
                heard += 1;
            }
        }
        assert!((200..=260).contains(&heard), "{heard}");
    }

    #[test]
    fn a_clock_set_back_opens_nothing() {
        let mut tries = Tries::new(second(1000));
        for _ in 0..10 {
            tries.failed(address(1), second(1000));
        }
        assert_eq!(tries.check(address(1), second(0)), Err(30));
    }
}
