//! The scenarios and how they are run. A scenario that cannot run says why.

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
            play: boot::kernel_to_init,
        },
        Scenario {
            name: "devices",
            about: "disks on every bus, the disc, the cable and the screen obey the monitor",
            needs: &["qemu-system-x86_64"],
            always: true,
            play: devices::devices,
        },
        Scenario {
            name: "node-bios",
            about: "a small node boots by BIOS, has a network and powers off",
            needs: NODE_TOOLS,
            always: false,
            play: boot::node_bios,
        },
        Scenario {
            name: "node-uefi",
            about: "a small node boots by UEFI from its NVRAM entry",
            needs: NODE_TOOLS,
            always: false,
            play: boot::node_uefi,
        },
        Scenario {
            name: "iso-as-disk",
            about: "the boot image starts by BIOS as a USB stick does",
            needs: IMAGE_TOOLS,
            always: true,
            play: boot::iso_as_disk,
        },
        Scenario {
            name: "iso-uefi-secure-boot",
            about: "the boot image starts by UEFI with Secure Boot on",
            needs: IMAGE_TOOLS,
            always: true,
            play: boot::iso_uefi_secure_boot,
        },
        Scenario {
            name: "interactive-bios",
            about: "an operator brings a lost node back at the console of a BIOS machine",
            needs: RESTORE_TOOLS,
            always: true,
            play: restore::interactive_bios,
        },
        Scenario {
            name: "unattended-uefi",
            about: "an armed server and kernel arguments bring a UEFI node back with nobody there",
            needs: RESTORE_TOOLS,
            always: true,
            play: restore::unattended_uefi,
        },
        Scenario {
            name: "killed-in-data",
            about: "fault 03: a machine loses power early and late in the data; each next start goes on with the restore",
            needs: RESTORE_TOOLS,
            always: true,
            play: restore::killed_in_data,
        },
        Scenario {
            name: "engine-killed",
            about: "fault 03: the engine is killed early, midway and late in the data, and goes on without being asked to",
            needs: RESTORE_TOOLS,
            always: true,
            play: killed::interactive,
        },
        Scenario {
            name: "engine-killed-unattended",
            about: "the same where nobody sits",
            needs: RESTORE_TOOLS,
            always: false,
            play: killed::unattended,
        },
        Scenario {
            name: "no-consent",
            about: "fault 42: a wrong code, an empty Enter and a wrong serial number leave the disk unwritten",
            needs: RESTORE_TOOLS,
            always: true,
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
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for scenario in scenarios.iter().filter(is_wanted) {
        let begun = Instant::now();
        let missing = scenario.needs.iter().find(|program| !host::has(program));
        let outcome = match missing {
            Some(program) => Ok(Outcome::Skipped(format!("{program} is not installed"))),
            None => (scenario.play)(lab),
        };
        let seconds = begun.elapsed().as_secs_f32();
        match outcome {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("ok      {:<24} {seconds:7.1} s", scenario.name);
            }
            Ok(Outcome::Skipped(reason)) => {
                skipped += 1;
                println!("skipped {:<24} {reason}", scenario.name);
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  {:<24} {seconds:7.1} s", scenario.name);
                println!("{}", describe(&error));
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed)
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
