//! The scenarios and how they are run. A scenario that cannot run says why.

use std::thread;
use std::time::Instant;

use crate::{Error, Lab, host};

mod boot;
mod demo;
mod devices;
mod killed;
mod lost;
mod portrait;
mod restore;

pub use demo::demo;

/// What a scenario ended with.
#[derive(Debug)]
pub enum Outcome {
    /// Everything was as it should be.
    Passed,
    /// It cannot run here; the reason.
    Skipped(String),
}

/// Scenarios that share a captured node take turns; chains are played side by side, because a machine that boots or
/// waits leaves most of the processors idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// Those with the node that starts by BIOS.
    Bios,
    /// Those with the node that starts by UEFI.
    Uefi,
}

/// A scenario.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// Programs of the host that it needs.
    pub needs: &'static [&'static str],
    /// Whether every run plays it; the others show nothing that these do not, and help to find where it went wrong.
    pub always: bool,
    /// With which others it takes turns.
    pub chain: Chain,
    /// Plays it.
    pub play: fn(&Lab) -> Result<Outcome, Error>,
}

/// What QEMU and the tools behind a Debian kernel are called.
const KERNEL_TOOLS: &[&str] = &["qemu-system-x86_64", "mmdebstrap", "tar"];
/// What building a node needs on top.
const NODE_TOOLS: &[&str] =
    &["qemu-system-x86_64", "mmdebstrap", "losetup", "sfdisk", "mkfs.ext4", "mkfs.xfs", "mkfs.vfat", "mkswap", "blkid"];

/// What making a boot image needs.
const IMAGE_TOOLS: &[&str] = &["qemu-system-x86_64", "mmdebstrap", "dpkg-deb", "xorriso", "mformat"];
/// What the whole way needs: a node and a boot image.
const RESTORE_TOOLS: &[&str] = &[
    "qemu-system-x86_64",
    "mmdebstrap",
    "dpkg-deb",
    "xorriso",
    "mformat",
    "losetup",
    "sfdisk",
    "mkfs.ext4",
    "mkfs.xfs",
    "mkfs.vfat",
    "mkswap",
    "blkid",
];
/// Why a scenario that needs what ships is skipped.
const NO_PROGRAMS: &str = "RERACK_PROGRAMS does not name a folder with the static programs";

/// Every scenario, quick ones first.
pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "kernel-to-init",
            about: "Debian's kernel starts a program of ours, which reads a line and powers off",
            needs: KERNEL_TOOLS,
            always: true,
            chain: Chain::Uefi,
            play: boot::kernel_to_init,
        },
        Scenario {
            name: "devices",
            about: "disks on every bus, the disc, the cable and the screen obey the monitor",
            needs: &["qemu-system-x86_64"],
            always: true,
            chain: Chain::Uefi,
            play: devices::devices,
        },
        Scenario {
            name: "node-bios",
            about: "a small node boots by BIOS, has a network and powers off",
            needs: NODE_TOOLS,
            always: false,
            chain: Chain::Bios,
            play: boot::node_bios,
        },
        Scenario {
            name: "node-uefi",
            about: "a small node boots by UEFI from its NVRAM entry",
            needs: NODE_TOOLS,
            always: false,
            chain: Chain::Uefi,
            play: boot::node_uefi,
        },
        Scenario {
            name: "iso-as-disk",
            about: "the boot image starts by BIOS as a USB stick does",
            needs: IMAGE_TOOLS,
            always: true,
            chain: Chain::Bios,
            play: boot::iso_as_disk,
        },
        Scenario {
            name: "iso-uefi-secure-boot",
            about: "the boot image starts by UEFI with Secure Boot on",
            needs: IMAGE_TOOLS,
            always: true,
            chain: Chain::Bios,
            play: boot::iso_uefi_secure_boot,
        },
        Scenario {
            name: "interactive-bios",
            about: "an operator brings a lost node back at the console of a BIOS machine",
            needs: RESTORE_TOOLS,
            always: true,
            chain: Chain::Bios,
            play: restore::interactive_bios,
        },
        Scenario {
            name: "unattended-uefi",
            about: "an armed server and kernel arguments bring a UEFI node back with nobody there",
            needs: RESTORE_TOOLS,
            always: true,
            chain: Chain::Uefi,
            play: restore::unattended_uefi,
        },
        Scenario {
            name: "killed-in-data",
            about: "fault 03: a machine loses power early and late in the data; each next start goes on with the restore",
            needs: RESTORE_TOOLS,
            always: true,
            chain: Chain::Bios,
            play: restore::killed_in_data,
        },
        Scenario {
            name: "engine-killed",
            about: "fault 03: the engine is killed early, midway and late in the data, and goes on without being asked to",
            needs: RESTORE_TOOLS,
            always: true,
            chain: Chain::Uefi,
            play: killed::interactive,
        },
        Scenario {
            name: "engine-killed-unattended",
            about: "the same where nobody sits",
            needs: RESTORE_TOOLS,
            always: false,
            chain: Chain::Uefi,
            play: killed::unattended,
        },
        Scenario {
            name: "no-consent",
            about: "fault 42: a wrong code, an empty Enter and a wrong serial number leave the disk unwritten",
            needs: RESTORE_TOOLS,
            always: true,
            chain: Chain::Uefi,
            play: restore::no_consent,
        },
    ]
}

/// Which scenarios to play.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Those that every run plays.
    Always,
    /// All there are.
    All,
    /// These, by name.
    Named(&'a [String]),
}

/// Plays scenarios, prints how each ended and returns how many failed.
pub fn run(lab: &Lab, which: Which<'_>) -> Result<usize, Error> {
    let scenarios = all();
    if let Which::Named(names) = which
        && let Some(unknown) = names.iter().find(|name| !scenarios.iter().any(|one| one.name == **name))
    {
        return Err(Error::Unexpected(format!("there is no scenario `{unknown}`; `scenarios list` shows them")));
    }
    let is_wanted = |one: &&Scenario| match which {
        Which::Always => one.always,
        Which::All => true,
        Which::Named(names) => names.iter().any(|name| name == one.name),
    };
    let wanted: Vec<&Scenario> = scenarios.iter().filter(is_wanted).collect();
    let play_chain =
        |chain| wanted.iter().filter(|one| one.chain == chain).map(|one| play(lab, one)).collect::<Vec<_>>();
    let outcomes = thread::scope(|scope| {
        let players = [Chain::Bios, Chain::Uefi].map(|chain| scope.spawn(move || play_chain(chain)));
        players.into_iter().map(thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
    });
    let Ok(outcomes) = outcomes else { return Err(Error::Unexpected("a scenario panicked".into())) };
    let count =
        |wanted: fn(&Result<Outcome, Error>) -> bool| outcomes.iter().flatten().filter(|one| wanted(one)).count();
    let failed = count(Result::is_err);
    let (passed, skipped) =
        (count(|one| matches!(one, Ok(Outcome::Passed))), count(|one| matches!(one, Ok(Outcome::Skipped(_)))));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed)
}

/// Plays one and says how it ended.
fn play(lab: &Lab, scenario: &Scenario) -> Result<Outcome, Error> {
    let lab = lab.heard_as(scenario.name);
    let begun = Instant::now();
    let missing = scenario.needs.iter().find(|program| !host::has(program));
    let outcome = match missing {
        Some(program) => Ok(Outcome::Skipped(format!("{program} is not installed"))),
        None => (scenario.play)(&lab),
    };
    let seconds = begun.elapsed().as_secs_f32();
    match &outcome {
        Ok(Outcome::Passed) => println!("ok      {:<24} {seconds:7.1} s", scenario.name),
        Ok(Outcome::Skipped(reason)) => println!("skipped {:<24} {reason}", scenario.name),
        Err(error) => {
            println!("FAILED  {:<24} {seconds:7.1} s", scenario.name);
            lab.say(&describe(error));
        }
    }
    outcome
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
