//! `cargo xtask bench restore`.

use anyhow::{Context, Result, bail};

use super::disk::{Attached, Filesystem, Mounted, Target};
use super::limit::{Limit, measure_parts};
use super::measured::Cost;
use super::ours::Ours;
use super::peers::{Ground, Peer, bytes_below, warm};
use super::sets::{ROOT_PARTITION, Source, Tree};
use super::table::{OURS, Report, Row};
use super::{Options, Place};

pub(super) fn run(options: &Options) -> Result<()> {
    let programs = options.programs()?;
    let place = Place::new(options.keep)?;
    let source = options.source()?;
    let (peers, skipped) = options.peers();
    let report = Bench { place: &place, source: &source, programs: &programs }.run(&peers, skipped, options.rounds)?;
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
    pub(super) programs: &'a std::path::Path,
}

impl Bench<'_> {
    pub(super) fn run(&self, peers: &[Peer], mut skipped: Vec<(String, String)>, rounds: u32) -> Result<Report> {
        let stores = self.place.run.join("stores");
        std::fs::create_dir_all(&stores).with_context(|| format!("cannot make {}", stores.display()))?;
        let ours = Ours::serve(self.programs, &self.place.run.join("ours"))?;
        eprintln!("{OURS} captures {}", self.source.name);
        let ours = match ours.capture(self.source, &self.place.log()) {
            Ok(_) => Some(ours),
            Err(error) => {
                skipped.insert(0, (OURS.to_owned(), format!("{error:#}")));
                None
            }
        };
        let disk = Attached::with_partitions(&self.source.image)?;
        let device = disk.partition(ROOT_PARTITION);
        let mounted = Mounted::new(&device, read_only(self.source.filesystem), &self.place.run.join("node"))?;
        let log = self.place.log();
        let ground = Ground { source: &mounted.at, device: &device, stores: &stores, log: &log };
        // The limit needs tar's archive, whoever takes part.
        for peer in std::iter::once(Peer::Tar).chain(peers.iter().copied().filter(|peer| !peer.shares_tars_archive())) {
            eprintln!("{} stores {}", peer.name(), self.source.name);
            peer.begin_store(&ground)?;
            peer.store(&ground, 1)?;
        }
        let mut rows = Vec::new();
        if ours.is_some() {
            rows.push(Row { name: OURS.to_owned(), turns: Vec::new(), note: None });
        }
        rows.extend(peers.iter().map(|peer| Row {
            name: peer.name().to_owned(),
            turns: Vec::new(),
            note: peer.note().map(str::to_owned),
        }));
        let mut limits = Vec::new();
        for round in 0..rounds {
            for row in &mut rows {
                eprintln!("turn {} of {rounds}: {}", round + 1, row.name);
                let peer = peers.iter().find(|peer| peer.name() == row.name);
                let (cost, restored) = match (peer, &ours) {
                    (Some(peer), _) => self.peer(*peer, &ground)?,
                    (None, Some(ours)) => self.ours(ours)?,
                    (None, None) => bail!("{} is nobody", row.name),
                };
                if restored.files != self.source.tree.files || restored.content_bytes != self.source.tree.content_bytes
                {
                    bail!("{} restored {restored:?} instead of {:?}", row.name, self.source.tree);
                }
                row.turns.push(cost);
            }
            eprintln!("turn {} of {rounds}: the limit", round + 1);
            let stored_bytes = bytes_below(&ground.archive());
            limits.push(measure_parts(&ground, stored_bytes, &|| self.formatted())?);
        }
        Ok(Report {
            what: "restore".to_owned(),
            set: self.source.name.clone(),
            filesystem: self.source.filesystem.name(),
            files: self.source.tree.files,
            content_bytes: self.source.tree.content_bytes,
            rows,
            limit: Limit::median(&limits),
            skipped,
        })
    }

    fn formatted(&self) -> Result<Target> {
        Target::formatted(self.place.memory(), self.source.image_bytes, self.source.filesystem)
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

/// How a filesystem is mounted that has a twin elsewhere.
pub(super) fn read_only(filesystem: Filesystem) -> &'static str {
    match filesystem {
        Filesystem::Xfs => "ro,nouuid",
        Filesystem::Ext4 | Filesystem::Btrfs => "ro",
    }
}
