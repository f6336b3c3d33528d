//! When the disks that this machine shows are all it has: some take their time to appear.
//!
//! Nothing tells that a controller or a hub has found everything behind it. So the disks are taken for complete once
//! nothing has changed for a while; and where none of them fits, others are waited for a while longer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use linux_io::Roots;
use restore_events::LogLevel;

use super::Session;
use super::teller::Teller;

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

    /// Waits until these are all; `tell` says so, if it has to be waited for.
    fn settle(&mut self, machine: &mut impl Watch, tell: impl FnOnce()) {
        let since_ms = machine.now_ms();
        let mut tell = Some(tell);
        loop {
            let now_ms = machine.now_ms();
            self.see(machine.block_devices(), now_ms);
            let Some(left_ms) = self.unsettled_ms(since_ms, now_ms) else { return };
            if let Some(tell) = tell.take() {
                tell();
            }
            machine.wait(left_ms.min(LOOK_MS));
        }
    }

    /// Waits for a change until `until_ms` and returns whether there was one; `tell` is told for how long at most.
    fn change_until(&mut self, until_ms: u64, machine: &mut impl Watch, tell: impl FnOnce(u64)) -> bool {
        let mut tell = Some(tell);
        loop {
            let now_ms = machine.now_ms();
            if self.see(machine.block_devices(), now_ms) {
                return true;
            }
            let Some(left_ms) = until_ms.checked_sub(now_ms).filter(|&left_ms| left_ms > 0) else { return false };
            if let Some(tell) = tell.take() {
                tell(left_ms);
            }
            machine.wait(left_ms.min(LOOK_MS));
        }
    }
}

/// A machine whose disks come and go, and its clock.
trait Watch {
    /// Milliseconds since the kernel's start.
    fn now_ms(&self) -> u64;
    /// The block devices there are.
    fn block_devices(&self) -> BTreeSet<String>;
    /// Lets time pass.
    fn wait(&mut self, ms: u64);
}

/// This machine.
struct Live(Arc<Teller>);

impl Watch for Live {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn block_devices(&self) -> BTreeSet<String> {
        block_devices()
    }

    fn wait(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
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
        let tell =
            || self.teller.log(LogLevel::Info, "waiting until no more disks of this machine appear, at most 30 s");
        self.disks.settle(&mut Live(self.teller.clone()), tell);
    }

    /// Waits for a change of the disks until `until_ms`; returns whether there was one.
    pub(super) fn another_disk_comes(&mut self, until_ms: u64) -> bool {
        if !self.settings.disks.is_empty() {
            return false;
        }
        let tell = |left_ms: u64| {
            let seconds = left_ms.div_ceil(1000);
            let text = format!("no disk fits yet; waiting up to {seconds} s for one that comes late");
            self.teller.log(LogLevel::Info, text);
        };
        self.disks.change_until(until_ms, &mut Live(self.teller.clone()), tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose disks are there from some time on.
    struct Machine {
        now_ms: u64,
        coming: Vec<(u64, &'static str)>,
        /// One more comes and goes at every look.
        flaps: bool,
    }

    impl Machine {
        fn at(now_ms: u64, coming: &[(u64, &'static str)]) -> Self {
            Self { now_ms, coming: coming.to_vec(), flaps: false }
        }

        /// Its disks as an engine knows them that began at the kernel's start, when something had changed last at
        /// `changed_ms`.
        fn known(&self, changed_ms: u64) -> Disks {
            Disks::new(Self::at(0, &self.coming).block_devices(), changed_ms)
        }
    }

    impl Watch for Machine {
        fn now_ms(&self) -> u64 {
            self.now_ms
        }

        fn block_devices(&self) -> BTreeSet<String> {
            let flapping = (self.flaps && (self.now_ms / LOOK_MS).is_multiple_of(2)).then_some("sdx");
            let there = self.coming.iter().filter(|(at_ms, _)| *at_ms <= self.now_ms).map(|(_, name)| *name);
            there.chain(flapping).map(str::to_owned).collect()
        }

        fn wait(&mut self, ms: u64) {
            self.now_ms += ms;
        }
    }

    /// When the disks are taken for complete, and which there are then.
    fn settles(changed_ms: u64, mut machine: Machine) -> (u64, Vec<String>) {
        let mut disks = machine.known(changed_ms);
        disks.settle(&mut machine, || {});
        (machine.now_ms, disks.names.into_iter().collect())
    }

    #[test]
    fn who_comes_long_after_the_last_disk_waits_for_nothing_and_hears_of_nothing() {
        let mut machine = Machine::at(40_000, &[(0, "sda")]);
        let mut disks = machine.known(1_500);
        disks.settle(&mut machine, || panic!("nothing is waited for"));
        assert_eq!(machine.now_ms, 40_000);
        let (now_ms, _) = settles(1_500, Machine::at(3_000, &[(0, "sda")]));
        assert_eq!(now_ms, 3_500, "two seconds after the last change");
    }

    #[test]
    fn disks_that_come_one_after_the_other_are_all_waited_for() {
        let coming = [(0, "sda"), (2_900, "sdb"), (4_700, "sdc"), (6_000, "sdd")];
        let (now_ms, names) = settles(1_000, Machine::at(2_000, &coming));
        assert_eq!((now_ms, names), (8_000, ["sda", "sdb", "sdc", "sdd"].map(str::to_owned).to_vec()));
        let (_, names) = settles(1_000, Machine::at(2_000, &[(0, "sda"), (5_500, "sdb")]));
        assert_eq!(names, ["sda"], "after two quiet seconds it is over");
    }

    #[test]
    fn a_disk_that_comes_and_goes_for_ever_holds_nobody_up_for_longer_than_half_a_minute() {
        let (now_ms, _) = settles(9_900, Machine { flaps: true, ..Machine::at(10_000, &[]) });
        assert_eq!(now_ms, 40_000);
    }

    #[test]
    fn where_no_disk_fits_one_is_waited_for_until_half_a_minute_after_the_last_change() {
        let waits = |mut machine: Machine| {
            let mut disks = machine.known(1_000);
            let mut told_ms = None;
            let came = disks.change_until(disks.late_until_ms(), &mut machine, |left_ms| told_ms = Some(left_ms));
            (came, machine.now_ms, told_ms)
        };
        assert_eq!(waits(Machine::at(4_000, &[(0, "sda"), (19_900, "sdb")])), (true, 20_000, Some(27_000)));
        assert_eq!(waits(Machine::at(4_000, &[(0, "sda"), (40_000, "sdb")])), (false, 31_000, Some(27_000)));
        assert_eq!(waits(Machine::at(60_000, &[(0, "sda")])), (false, 60_000, None), "who typed a code has waited");
    }
}
