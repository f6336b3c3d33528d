//! `cargo xtask bench`: ours against the programs that people use today, and against what the machine can do.
//!
//! Everything runs in turns on one machine, so that figures are compared as ratios within one run.

mod capture;
mod content;
mod curve;
mod disk;
pub(crate) mod files;
mod limit;
mod link;
pub(crate) mod measured;
mod ours;
mod peers;
mod plot;
mod restore;
mod sets;
mod statistics;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use disk::{Filesystem, Mounted};
use peers::Peer;
use sets::{Set, SetName, Source};

use crate::{command, programs, setup};

/// What benches use besides the contenders, with the Debian packages it comes with.
const TOOLS: &[(&str, &str)] = &[
    ("zstd", "zstd"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("losetup", "util-linux"),
    ("sfdisk", "fdisk"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mmdebstrap", "mmdebstrap"),
];

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Restore a node, ours from its server over HTTPS onto an empty disk, the others from a local store.
    Restore(restore::RestoreOptions),
    /// Store a node for the first time, again unchanged, and after one file in a hundred changed.
    Capture(Options),
    /// Restore files of many sizes and numbers, and draw how time grows.
    Curve(curve::Options),
}

/// What every bench can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What is restored or captured.
    #[arg(long, value_enum, default_value = "reference")]
    set: SetName,
    /// On which filesystem.
    #[arg(long, value_enum, default_value = "ext4")]
    filesystem: Filesystem,
    /// Whom to compare with, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tar,bsdtar,restic,borg,fsarchiver,rsync")]
    peers: Vec<Peer>,
    /// How many turns each contender has.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only this part of the set's files, to try the bench out: 40 means a fortieth.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    divisor: u64,
    /// Take our programs from this directory instead of building those that ship.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Leave repositories, archives and logs.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Restore(options) => restore::run(options),
        Bench::Capture(options) => capture::run(options),
        Bench::Curve(options) => curve::run(options),
    }
}

/// Where a bench works: sets are kept below, everything else goes with it.
struct Place {
    /// Archives, repositories, logs.
    run: PathBuf,
    /// A filesystem in memory; there until this is dropped.
    memory: Option<Mounted>,
    keep: bool,
    _lock: fs::File,
}

impl Place {
    /// # Errors
    /// If another bench runs here: neither would measure anything.
    fn new(keep: bool) -> Result<Self> {
        for (program, package) in TOOLS {
            setup::ensure(program, package)?;
        }
        fs::create_dir_all(folder()).with_context(|| format!("cannot make {}", folder().display()))?;
        let lock = fs::File::create(folder().join("lock")).context("no lock")?;
        lock.try_lock().context("another bench runs here")?;
        disk::detach_below(&folder())?;
        disk::private_mounts()?;
        let run = folder().join(format!("run-{}", std::process::id()));
        let memory = Some(Mounted::memory(&run.join("memory"))?);
        Ok(Self { run, memory, keep, _lock: lock })
    }

    fn memory(&self) -> &Path {
        &self.memory.as_ref().expect("it is taken by the drop only").at
    }

    fn log(&self) -> PathBuf {
        self.run.join("log")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.memory.take();
        if self.keep {
            eprintln!("repositories, archives and logs are in {}", self.run.display());
        } else if let Err(error) = fs::remove_dir_all(&self.run) {
            eprintln!("warning: {} cannot be removed: {error}", self.run.display());
        }
    }
}

/// Everything of all benches.
fn folder() -> PathBuf {
    command::target_folder().join("bench")
}

impl Options {
    fn source(&self) -> Result<Source> {
        let set = Set::named(self.set, self.divisor)?;
        Source::prepare(&set, self.filesystem, &folder().join("sets"))
    }

    fn programs(&self) -> Result<PathBuf> {
        match &self.programs {
            Some(directory) => directory.canonicalize().with_context(|| format!("no {}", directory.display())),
            None => programs::build(),
        }
    }

    /// The peers that are there, and those that are not with the reason.
    fn peers(&self) -> (Vec<Peer>, Vec<(String, String)>) {
        let (mut there, mut skipped) = (Vec::new(), Vec::new());
        for peer in &self.peers {
            match peer.ensure() {
                Ok(()) => there.push(*peer),
                Err(error) => skipped.push((peer.name().to_owned(), format!("{error:#}"))),
            }
        }
        (there, skipped)
    }
}
