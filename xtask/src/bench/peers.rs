//! The programs that people restore with today, each on its own ground: a store on a local disk, held in memory by the
//! page cache. None of them has to cross a network but rsync, unless a link is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::disk::{Target, text};
use super::files::{FileServer, wait_for};
use super::link::Link;
use super::measured::{Cost, cpu_of, measure};
use crate::{command, setup};

/// The level that everybody compresses at who can be told.
pub(super) const LEVEL: &str = "3";

/// A program to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Peer {
    Tar,
    Bsdtar,
    Restic,
    Borg,
    Fsarchiver,
    Rsync,
}

/// Where a peer reads from and what it may use.
pub(super) struct Ground<'a> {
    /// The node's filesystem, mounted read-only.
    pub(super) source: &'a Path,
    /// The device of that filesystem.
    pub(super) device: &'a str,
    /// A directory of the peers, with one for each of them.
    pub(super) stores: &'a Path,
    /// Where what a program complains of is kept.
    pub(super) log: &'a Path,
    /// The way to a server, for those that have one.
    pub(super) link: &'a Link,
}

impl Ground<'_> {
    /// The archive of tar, which bsdtar reads as well.
    pub(super) fn archive(&self) -> PathBuf {
        self.stores.join("node.tar.zst")
    }

    fn store(&self, peer: Peer) -> PathBuf {
        match peer {
            Peer::Tar | Peer::Bsdtar => self.archive(),
            Peer::Fsarchiver => self.stores.join("node.fsa"),
            _ => self.stores.join(peer.name()),
        }
    }

    fn run(&self, argv: &[&str]) -> Result<Cost> {
        measure(argv, self.source, None, self.log)
    }
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Bsdtar => "bsdtar",
            Self::Restic => "restic",
            Self::Borg => "borg",
            Self::Fsarchiver => "fsarchiver",
            Self::Rsync => "rsync",
        }
    }

    /// The program, and the Debian package it comes with.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Tar => ("tar", "tar"),
            Self::Bsdtar => ("bsdtar", "libarchive-tools"),
            Self::Restic => ("restic", "restic"),
            Self::Borg => ("borg", "borgbackup"),
            Self::Fsarchiver => ("fsarchiver", "fsarchiver"),
            Self::Rsync => ("rsync", "rsync"),
        }
    }

    /// Installs it if it is not there.
    pub(super) fn ensure(self) -> Result<()> {
        let (program, package) = self.program();
        setup::ensure(program, package)
    }

    /// Whether it reads what tar stored.
    pub(super) fn shares_tars_archive(self) -> bool {
        matches!(self, Self::Tar | Self::Bsdtar)
    }

    /// Whether it can restore from the far end of a link without a program of its own there that is not measured.
    pub(super) fn crosses_a_network(self) -> bool {
        self.shares_tars_archive() || self == Self::Rsync
    }

    /// Brings what it will read into memory.
    pub(super) fn warm(self, ground: &Ground) -> Result<()> {
        match self {
            Self::Rsync => warm(ground.source),
            _ => warm(&ground.store(self)),
        }
    }

    /// What its time holds besides what everybody's holds.
    pub(super) fn note(self, link: &Link) -> Option<&'static str> {
        match self {
            Self::Tar | Self::Bsdtar if link.is_narrow() => Some("from a plain web server, by curl"),
            Self::Fsarchiver => Some("makes the filesystem itself, within its time"),
            Self::Rsync => Some("from its own server, without compression or encryption"),
            _ => None,
        }
    }

    /// Whether it keeps nodes in a store of its own.
    pub(super) fn stores(self) -> bool {
        !matches!(self, Self::Bsdtar | Self::Rsync)
    }

    /// Whether storing a node again takes the place of what was there.
    pub(super) fn replaces_its_store(self) -> bool {
        !matches!(self, Self::Restic | Self::Borg)
    }

    /// Bytes of its store.
    pub(super) fn stored_bytes(self, ground: &Ground) -> u64 {
        let store = ground.store(self);
        // What a program remembers beside its repository is not stored.
        if self.replaces_its_store() { bytes_below(&store) } else { bytes_below(&store.join("repository")) }
    }

    /// Makes an empty repository, where it needs one and has none.
    pub(super) fn begin_store(self, ground: &Ground) -> Result<()> {
        let store = ground.store(self);
        let repository = store.join("repository");
        match self {
            Self::Restic if !repository.exists() => {
                ground.run(&Restic::in_directory(&store)?.argv(&["init", "--quiet"])).map(drop)
            }
            Self::Borg if !repository.exists() => {
                fs::create_dir_all(&store)?;
                ground.run(&with(&borg(&store), &["init", "-e", "none", text(&repository)])).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Stores the node for the `turn`th time.
    pub(super) fn store(self, ground: &Ground, turn: usize) -> Result<Cost> {
        let (store, from) = (ground.store(self), text(ground.source).to_owned());
        let path = text(&store);
        match self {
            Self::Tar | Self::Bsdtar => {
                let compress = format!("zstd -T0 -{LEVEL}");
                let create = ["tar", "--xattrs", "--acls", "--numeric-owner", "-I", &compress, "-cf", path];
                ground.run(&[&create[..], &["-C", &from, "."]].concat())
            }
            Self::Restic => {
                let restic = Restic::in_directory(&store)?;
                ground.run(&restic.argv(&["backup", "--quiet", "."]))
            }
            Self::Borg => {
                let name = format!("{}::{turn}", text(&store.join("repository")));
                ground.run(&with(&borg(&store), &["create", "-C", &format!("zstd,{LEVEL}"), &name, "."]))
            }
            Self::Fsarchiver => {
                let save = ["fsarchiver", "-o", "-A", "-j2", "-Z", LEVEL, "savefs", path, ground.device];
                ground.run(&save)
            }
            // It has no store: it reads the node's files.
            Self::Rsync => Ok(Cost::default()),
        }
    }

    /// Restores onto an empty filesystem and flushes it.
    pub(super) fn restore(self, ground: &Ground, target: &mut Target) -> Result<Cost> {
        let store = ground.store(self);
        let path = text(&store);
        let moved_bytes = self.stored_bytes(ground);
        let root = target.root().to_owned();
        let run = |argv: &[&str]| measure(argv, &root, Some(&root), ground.log);
        let cost = match self {
            Self::Tar | Self::Bsdtar if ground.link.is_narrow() => {
                let server = FileServer::start(ground.stores, ground.link)?;
                let archive = store.file_name().and_then(|name| name.to_str()).expect("it was named here");
                let url = format!("{}/{archive}", server.url);
                let extract = match self {
                    Self::Tar => "tar --xattrs --xattrs-include='*' --acls --numeric-owner -xpf -",
                    _ => "bsdtar --xattrs --acls --numeric-owner -xpf -",
                };
                let pipe = format!("curl --silent --show-error --fail \"$1\" | zstd -dc | {extract}");
                let cost = run(&["bash", "-o", "pipefail", "-euc", &pipe, "bash", &url])?;
                Cost { server_cpu_seconds: cpu_of(server.child.id())?.as_secs_f64(), ..cost }
            }
            Self::Tar => {
                let extract = ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"];
                run(&[&extract[..], &["-I", "zstd", "-xpf", path]].concat())?
            }
            Self::Bsdtar => run(&["bsdtar", "--xattrs", "--acls", "--numeric-owner", "-xpf", path])?,
            Self::Restic => {
                let restic = Restic::in_directory(&store)?;
                run(&restic.argv(&["restore", "--quiet", "latest", "--target", text(&root)]))?
            }
            Self::Borg => {
                let (borg, repository) = (borg(&store), store.join("repository"));
                let list = with(&borg, &["list", "--short", "--last", "1", text(&repository)]);
                let name = command::output(&list)?;
                let archive = format!("{}::{}", text(&repository), name.trim());
                run(&with(&borg, &["extract", "--numeric-ids", &archive]))?
            }
            Self::Fsarchiver => {
                target.mounted.take();
                let device = &target.disk.device;
                let onto = format!("id=0,dest={device}");
                let cost = measure(&["fsarchiver", "-j2", "restfs", path, &onto], ground.stores, None, ground.log)?;
                target.mounted = Some(super::disk::Mounted::new(device, "ro", &root)?);
                cost
            }
            Self::Rsync => {
                let daemon = RsyncServer::start(ground)?;
                let cost = run(&["rsync", "-aHAX", "--numeric-ids", &daemon.url, text(&root)])?;
                let server_cpu_seconds = cpu_of(daemon.child.id())?.as_secs_f64();
                return Ok(Cost { server_cpu_seconds, ..cost });
            }
        };
        Ok(Cost { moved_bytes, ..cost })
    }
}

/// restic's store, cache and password in one directory.
struct Restic {
    fixed: [String; 7],
}

impl Restic {
    fn in_directory(store: &Path) -> Result<Self> {
        fs::create_dir_all(store).with_context(|| format!("cannot make {}", store.display()))?;
        let password = store.join("password");
        fs::write(&password, "bench\n")?;
        let of = |path: PathBuf| text(&path).to_owned();
        let (repository, cache) = (of(store.join("repository")), of(store.join("cache")));
        let words = ["restic", "-r", &repository, "-p", &of(password), "--cache-dir", &cache];
        Ok(Self { fixed: words.map(str::to_owned) })
    }

    fn argv<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.fixed.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }
}

/// borg, keeping what it remembers in `store` and asking nothing.
fn borg(store: &Path) -> Vec<String> {
    let base = format!("BORG_BASE_DIR={}", text(store));
    let quiet = ["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes", "borg"];
    ["env", &base].into_iter().chain(quiet).map(str::to_owned).collect()
}

fn with<'a>(first: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    first.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// rsync's server; killed when dropped.
struct RsyncServer {
    child: Child,
    url: String,
}

impl RsyncServer {
    fn start(ground: &Ground) -> Result<Self> {
        let config = ground.stores.join("rsyncd.conf");
        let text_of = "uid = root\ngid = root\nuse chroot = no\nread only = yes\n[node]\npath = ";
        fs::write(&config, format!("{text_of}{}\n", text(ground.source)))?;
        let address = ground.link.free_address()?;
        let mut command = ground.link.command("rsync");
        command.args(["--daemon", "--no-detach"]).arg(format!("--address={}", address.ip()));
        command.arg(format!("--port={}", address.port())).arg(format!("--config={}", text(&config)));
        let child = command.stdin(Stdio::null()).spawn().context("cannot start rsync's server")?;
        let server = Self { child, url: format!("rsync://{}/node/", ground.link.way_to(address)?) };
        wait_for(address)?;
        Ok(server)
    }
}

impl Drop for RsyncServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of all files below `path`, or of the file.
pub(super) fn bytes_below(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| bytes_below(&entry.path())).sum()
}

/// Reads everything below `path`, so that it is in memory for whoever reads it next.
pub(super) fn warm(path: &Path) -> Result<()> {
    let kind = fs::symlink_metadata(path).with_context(|| format!("no {}", path.display()))?.file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            warm(&entry?.path())?;
        }
    } else if kind.is_file() {
        std::io::copy(&mut fs::File::open(path)?, &mut std::io::sink())?;
    }
    Ok(())
}
