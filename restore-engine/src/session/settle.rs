//! When the disks that this machine shows are all it has: some take their time to appear.
//!
//! Nothing tells that a controller or a hub has found everything behind it. So the disks are taken for complete once
//! nothing has changed for a while; and where none of them fits, others are waited for a while longer.

use std::collections::BTreeSet;
use std::time::Duration;

use linux_io::Roots;
use restore_events::LogLevel;

use super::Session;

/// So long no disk must have come or gone and no driver been loaded. A USB disk takes one second from its driver to its
/// first sector; what a driver finds while it is loaded is there when that is done.
const QUIET_MS: u64 = 2_000;
/// Longest wait for that, whatever comes and goes.
const SETTLE_MS_MAX: u64 = 30_000;
/// How long after the last change a disk is still waited for where none fits: time to spin up behind a controller.
const LATE_MS_MAX: u64 = 30_000;
/// How often sysfs is looked at meanwhile.
const LOOK_MS: u64 = 200;

/// The disks of this machine, as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disks {
    names: BTreeSet<String>,
    changed_ms: u64,
}

impl Disks {
    /// Those seen at the beginning. What had changed before was at `changed_ms`.
    pub(super) fn new(names: BTreeSet<String>, changed_ms: u64) -> Self {
        Self { names, changed_ms }
    }

    /// Looks again; returns whether a disk came or went since.
    fn see(&mut self, names: BTreeSet<String>, now_ms: u64) -> bool {
        let is_other = names != self.names;
        if is_other {
            (self.names, self.changed_ms) = (names, now_ms);
        }
        is_other
    }

    /// How long nothing must change from now on for these to be all; `None` if they are. It is waited for from
    /// `since_ms` on.
    fn unsettled_ms(&self, since_ms: u64, now_ms: u64) -> Option<u64> {
        let settled_ms = (self.changed_ms + QUIET_MS).min(since_ms + SETTLE_MS_MAX);
        settled_ms.checked_sub(now_ms).filter(|&left_ms| left_ms > 0)
    }

    /// Until when another one may come, although these are settled.
    pub(super) fn late_until_ms(&self) -> u64 {
        self.changed_ms + LATE_MS_MAX
    }
}

/// The block devices there are.
pub(super) fn block_devices() -> BTreeSet<String> {
    let entries = std::fs::read_dir(Roots::live().sysfs.join("block"));
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

impl Session {
    /// Waits until the disks are all there, as far as one can tell.
    pub(super) fn settle(&mut self) {
        // Disks that are named are there or not: nobody waits for others.
        if !self.settings.disks.is_empty() {
            return;
        }
        let since_ms = self.teller.now_ms();
        let mut is_told = false;
        loop {
            let now_ms = self.teller.now_ms();
            self.disks.see(block_devices(), now_ms);
            let Some(left_ms) = self.disks.unsettled_ms(since_ms, now_ms) else { return };
            if !is_told {
                is_told = true;
                self.teller.log(LogLevel::Info, "waiting until no more disks of this machine appear, at most 30 s");
            }
            std::thread::sleep(Duration::from_millis(left_ms.min(LOOK_MS)));
        }
    }

    /// Waits for a change of the disks until `until_ms`; returns whether there was one.
    pub(super) fn another_disk_comes(&mut self, until_ms: u64, why: &str) -> bool {
        if !self.settings.disks.is_empty() {
            return false;
        }
        let mut is_told = false;
        loop {
            let now_ms = self.teller.now_ms();
            if self.disks.see(block_devices(), now_ms) {
                return true;
            }
            let Some(left_ms) = until_ms.checked_sub(now_ms).filter(|&left_ms| left_ms > 0) else { return false };
            if !is_told {
                is_told = true;
                let seconds = left_ms.div_ceil(1000);
                self.teller.log(LogLevel::Info, format!("{why}; waiting up to {seconds} s for a disk that comes late"));
            }
            std::thread::sleep(Duration::from_millis(left_ms.min(LOOK_MS)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a machine takes its disks for complete that begins to ask at `since_ms`, and where the named disks appear
    /// at these times; and which it has then.
    fn settles(changed_ms: u64, since_ms: u64, coming: &[(u64, &str)]) -> (u64, Vec<String>) {
        let names = |now_ms: u64| coming.iter().filter(|(at, _)| *at <= now_ms).map(|(_, n)| (*n).to_owned()).collect();
        let mut disks = Disks::new(names(0), changed_ms);
        let mut now_ms = since_ms;
        loop {
            disks.see(names(now_ms), now_ms);
            match disks.unsettled_ms(since_ms, now_ms) {
                Some(left_ms) => now_ms += left_ms.min(LOOK_MS),
                None => return (now_ms, disks.names.into_iter().collect()),
            }
        }
    }

    #[test]
    fn who_comes_long_after_the_last_disk_waits_for_nothing() {
        assert_eq!(settles(1_500, 40_000, &[(0, "sda")]), (40_000, vec!["sda".to_owned()]));
        assert_eq!(settles(1_500, 3_000, &[(0, "sda")]).0, 3_500, "two seconds after the last change");
    }

    #[test]
    fn disks_that_come_one_after_the_other_are_all_waited_for() {
        let (now_ms, names) = settles(1_000, 2_000, &[(0, "sda"), (2_900, "sdb"), (4_700, "sdc"), (6_000, "sdd")]);
        assert_eq!(names, ["sda", "sdb", "sdc", "sdd"]);
        assert_eq!(now_ms, 8_000);
        let (_, names) = settles(1_000, 2_000, &[(0, "sda"), (5_500, "sdb")]);
        assert_eq!(names, ["sda"], "after two quiet seconds it is over");
    }

    #[test]
    fn a_disk_that_comes_and_goes_for_ever_holds_nobody_up_for_longer_than_half_a_minute() {
        let mut disks = Disks::new(BTreeSet::new(), 9_900);
        let mut now_ms = 10_000;
        while let Some(left_ms) = disks.unsettled_ms(10_000, now_ms) {
            now_ms += left_ms.min(LOOK_MS);
            let flapping = (now_ms / LOOK_MS).is_multiple_of(2).then(|| "sda".to_owned());
            disks.see(flapping.into_iter().collect(), now_ms);
        }
        assert_eq!(now_ms, 40_000);
    }
}
