//! `cargo xtask bench restore`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::disk::{Attached, Filesystem, Mounted, Target};
use super::limit::{Limit, measure_parts};
use super::link::{Link, Rate};
use super::measured::Cost;
use super::ours::Ours;
use super::peers::{Ground, Peer, bytes_below, warm};
use super::sets::{ROOT_PARTITION, Source, Tree};
use super::table::{OURS, Report, Row};
use super::{Options, Place};

/// What only this bench can be told.
#[derive(clap::Args)]
pub(crate) struct RestoreOptions {
    #[command(flatten)]
    common: Options,
    /// The link to the server; without it, loopback. Takes part who can restore over a network.
    #[arg(long, value_enum)]
    link: Option<Rate>,
    /// How long the link takes there and back.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
}

pub(super) fn run(options: &RestoreOptions) -> Result<()> {
    let RestoreOptions { common: options, link, latency_ms } = options;
    let programs = options.programs()?;
    let place = Place::new(options.keep)?;
    let source = options.source()?;
    let (mut peers, mut skipped) = options.peers();
    let link = Link::new(*link, *latency_ms)?;
    if link.is_narrow() {
        let others: Vec<Peer> = peers.iter().copied().filter(|peer| !peer.crosses_a_network()).collect();
        skipped.extend(others.iter().map(|peer| (peer.name().to_owned(), "its store is local here".to_owned())));
        peers.retain(|peer| peer.crosses_a_network());
    }
    let bench = Bench { place: &place, source: &source, programs: &programs, link: &link };
    let report = bench.run(&peers, skipped, options.rounds)?;
    match options.json {
        true => println!("{:#}", report.as_json()),
        false => print!("{}", report.text()),
    }
    Ok(())
}

/// One set, restored by everybody.
pub(super) struct Bench<'a> {
    pub(super) place: &'a Place,
    pub(super) source: &'a Source,
    pub(super) programs: &'a Path,
    pub(super) link: &'a Link,
}

/// Somebody who takes part, with the turns so far.
struct Contender<'a> {
    who: Who<'a>,
    row: Row,
}

enum Who<'a> {
    Ours(&'a Ours<'a>),
    Peer(Peer),
}

impl Bench<'_> {
    pub(super) fn run(&self, peers: &[Peer], mut skipped: Vec<(String, String)>, rounds: u32) -> Result<Report> {
        let (name, run) = (&self.source.name, self.run_folder());
        let stores = run.join("stores");
        fs::create_dir_all(&stores).with_context(|| format!("cannot make {}", stores.display()))?;
        let ours = Ours::serve(self.programs, &run.join("ours"), self.link)?;
        eprintln!("{OURS} captures {name}");
        let captured = ours.capture(self.source, &self.place.log());
        let disk = Attached::with_partitions(&self.source.image)?;
        let device = disk.partition(ROOT_PARTITION);
        let mounted = Mounted::new(&device, read_only(self.source.filesystem), &self.place.run.join("node"))?;
        let log = self.place.log();
        let ground = Ground { source: &mounted.at, device: &device, stores: &stores, log: &log, link: self.link };
        let mut contenders = Vec::new();
        match captured {
            Ok(_) => contenders.push(Contender::new(OURS, None, Who::Ours(&ours))),
            Err(error) => skipped.push((OURS.to_owned(), format!("{error:#}"))),
        }
        // The limit needs tar's archive, whoever takes part.
        store(Peer::Tar, &ground, name)?;
        for peer in peers {
            let stored = if peer.shares_tars_archive() { Ok(()) } else { store(*peer, &ground, name) };
            match stored {
                Ok(()) => contenders.push(Contender::new(peer.name(), peer.note(self.link), Who::Peer(*peer))),
                Err(error) => skipped.push((peer.name().to_owned(), format!("{error:#}"))),
            }
        }
        self.link.narrow()?;
        let mut limits = Vec::new();
        for round in 1..=rounds {
            contenders.retain_mut(|contender| {
                eprintln!("turn {round} of {rounds}: {}", contender.row.name);
                self.turn(contender, &ground)
                    .map_err(|error| skipped.push((contender.row.name.clone(), format!("gave up: {error:#}"))))
                    .is_ok()
            });
            eprintln!("turn {round} of {rounds}: the limit");
            let moved_bytes = ours_moved(&contenders).unwrap_or_else(|| bytes_below(&ground.archive()));
            limits.push(measure_parts(&ground, moved_bytes, &|| self.formatted())?);
        }
        let rows = contenders.into_iter().map(|contender| contender.row).collect();
        drop((mounted, disk, ours));
        if !self.place.keep {
            fs::remove_dir_all(&run).with_context(|| format!("cannot remove {}", run.display()))?;
        }
        Ok(Report {
            what: format!("restore over {}", self.link.text()),
            set: name.clone(),
            filesystem: self.source.filesystem.name(),
            files: self.source.tree.files,
            content_bytes: self.source.tree.content_bytes,
            rows,
            limit: Limit::median(&limits),
            skipped,
        })
    }

    /// Where archives and repositories of this set lie.
    fn run_folder(&self) -> PathBuf {
        self.place.run.join(&self.source.name)
    }

    fn formatted(&self) -> Result<Target> {
        Target::formatted(self.place.memory(), self.source.image_bytes, self.source.filesystem)
    }

    /// One turn. What was restored has to be what was stored.
    fn turn(&self, contender: &mut Contender, ground: &Ground) -> Result<()> {
        let (cost, restored) = match contender.who {
            Who::Ours(ours) => self.ours(ours)?,
            Who::Peer(peer) => self.peer(peer, ground)?,
        };
        let (wanted, restored) = (self.source.tree, Tree { other_entries: 0, ..restored });
        if restored != (Tree { other_entries: 0, ..wanted }) {
            bail!("{restored:?} came back of {wanted:?}");
        }
        contender.row.turns.push(cost);
        Ok(())
    }

    /// One turn of a peer, and what it restored.
    fn peer(&self, peer: Peer, ground: &Ground) -> Result<(Cost, Tree)> {
        peer.warm(ground)?;
        let mut target = self.formatted()?;
        let cost = peer.restore(ground, &mut target)?;
        let restored = Tree::below(target.root())?;
        Ok((cost, restored))
    }

    /// One turn of ours, and what it restored besides the log that the node keeps of its restore.
    fn ours(&self, ours: &Ours) -> Result<(Cost, Tree)> {
        warm(&ours.repository())?;
        let memory = self.place.memory();
        let target = Target::blank(memory, self.source.image_bytes)?;
        let cost = ours.restore(&target, memory)?;
        let image = memory.join("target.img");
        let disk = Attached::with_partitions(&image)?;
        let options = read_only(self.source.filesystem);
        let mounted = Mounted::new(&disk.partition(ROOT_PARTITION), options, &memory.join("target"))?;
        let mut restored = Tree::below(&mounted.at)?;
        let log = mounted.at.join("var/log/rerack");
        if log.is_dir() {
            let kept = Tree::below(&log)?;
            restored.files -= kept.files;
            restored.content_bytes -= kept.content_bytes;
        }
        Ok((cost, restored))
    }
}

impl<'a> Contender<'a> {
    fn new(name: &str, note: Option<&str>, who: Who<'a>) -> Self {
        Self { who, row: Row { name: name.to_owned(), turns: Vec::new(), note: note.map(str::to_owned) } }
    }
}

/// What ours fetched in its last turn.
fn ours_moved(contenders: &[Contender]) -> Option<u64> {
    let ours = contenders.iter().find(|contender| matches!(contender.who, Who::Ours(_)))?;
    ours.row.turns.last().map(|cost| cost.moved_bytes)
}

fn store(peer: Peer, ground: &Ground, name: &str) -> Result<()> {
    eprintln!("{} stores {name}", peer.name());
    peer.begin_store(ground)?;
    peer.store(ground, 1).map(drop)
}

/// How a filesystem is mounted that has a twin elsewhere.
pub(super) fn read_only(filesystem: Filesystem) -> &'static str {
    match filesystem {
        Filesystem::Xfs => "ro,nouuid",
        Filesystem::Ext4 | Filesystem::Btrfs => "ro",
    }
}
