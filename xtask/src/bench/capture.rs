//! `cargo xtask bench capture`: storing a node for the first time, again unchanged, and after a small change.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::content::Content;
use super::disk::{Attached, Mounted, text};
use super::link::Link;
use super::measured::Cost;
use super::ours::Ours;
use super::peers::{Ground, Peer, bytes_below, warm};
use super::restore::read_only;
use super::sets::{ROOT_PARTITION, Source};
use super::table::{OURS, Report, Row};
use super::{Options, Place};
use crate::command;

/// One file of so many is changed, and one piece of so many in files longer than a piece.
const CHANGED_ONE_OF: u64 = 100;
const PIECE_BYTES: u64 = 1 << 20;

/// What is stored in a turn.
const PHASES: [&str; 3] =
    ["capture, the first", "capture, unchanged since", "capture, after a change of one file in a hundred"];

pub(super) fn run(options: &Options) -> Result<()> {
    let programs = options.programs()?;
    let place = Place::new(options.keep)?;
    let mut source = options.source()?;
    let (peers, mut skipped) = options.peers();
    let (peers, others): (Vec<Peer>, Vec<Peer>) = peers.into_iter().partition(|peer| peer.stores());
    skipped.extend(others.iter().map(|peer| (peer.name().to_owned(), "it has no store of its own".to_owned())));
    // Changes are made to a copy; the set stays what it is.
    let copy = place.run.join("node.img");
    command::output(&["cp", "--sparse=always", text(&source.image), text(&copy)])?;
    source.image = copy;
    let link = Link::new(None, 0)?;
    let bench = Bench { place: &place, source: &source, programs: &programs, link: &link };
    let reports = bench.run(&peers, skipped, options.rounds)?;
    match options.json {
        true => println!("{:#}", serde_json::Value::from_iter(reports.iter().map(Report::as_json))),
        false => reports.iter().for_each(|report| println!("{}", report.text())),
    }
    Ok(())
}

struct Bench<'a> {
    place: &'a Place,
    source: &'a Source,
    programs: &'a Path,
    link: &'a Link,
}

impl Bench<'_> {
    fn run(&self, peers: &[Peer], skipped: Vec<(String, String)>, rounds: u32) -> Result<Vec<Report>> {
        let names: Vec<&str> = std::iter::once(OURS).chain(peers.iter().map(|peer| peer.name())).collect();
        let mut turns = vec![vec![Vec::new(); names.len()]; PHASES.len()];
        for round in 1..=rounds {
            // Stores begin empty in each round, and lie in memory for all.
            let stores = self.place.memory().join("stores");
            fs::create_dir_all(&stores)?;
            let ours = Ours::serve(self.programs, &self.place.memory().join("ours"), self.link)?;
            for (phase, turns) in (1..).zip(&mut turns) {
                if phase == PHASES.len() {
                    self.change(u64::from(round))?;
                }
                for (name, turns) in names.iter().zip(turns.iter_mut()) {
                    eprintln!("round {round} of {rounds}, {}: {name}", PHASES[phase - 1]);
                    warm(&self.source.image)?;
                    turns.push(match peers.iter().find(|peer| peer.name() == *name) {
                        Some(peer) => self.peer(*peer, &stores, phase)?,
                        None => self.ours(&ours)?,
                    });
                }
            }
            drop(ours);
            fs::remove_dir_all(stores)?;
            fs::remove_dir_all(self.place.memory().join("ours"))?;
        }
        let row = |(name, turns): (&&str, Vec<Cost>)| Row { name: (*name).to_owned(), turns, note: None };
        let report = |(what, turns): (&str, Vec<Vec<Cost>>)| Report {
            what: what.to_owned(),
            set: self.source.name.clone(),
            filesystem: self.source.filesystem.name(),
            files: self.source.tree.files,
            content_bytes: self.source.tree.content_bytes,
            rows: names.iter().zip(turns).map(row).collect(),
            limit: None,
            skipped: skipped.clone(),
        };
        Ok(PHASES.into_iter().zip(turns).map(report).collect())
    }

    fn ours(&self, ours: &Ours) -> Result<Cost> {
        let before = bytes_below(&ours.repository());
        let cost = ours.capture(self.source, &self.place.log())?;
        Ok(Cost { moved_bytes: bytes_below(&ours.repository()).saturating_sub(before), ..cost })
    }

    fn peer(&self, peer: Peer, stores: &Path, phase: usize) -> Result<Cost> {
        let disk = Attached::with_partitions(&self.source.image)?;
        let device = disk.partition(ROOT_PARTITION);
        let mounted = Mounted::new(&device, read_only(self.source.filesystem), &self.place.run.join("node"))?;
        let log = self.place.log();
        let ground = Ground { source: &mounted.at, device: &device, stores, log: &log, link: self.link };
        peer.begin_store(&ground)?;
        let before = if peer.replaces_its_store() { 0 } else { peer.stored_bytes(&ground) };
        let cost = peer.store(&ground, phase)?;
        Ok(Cost { moved_bytes: peer.stored_bytes(&ground).saturating_sub(before), ..cost })
    }

    fn change(&self, seed: u64) -> Result<()> {
        let disk = Attached::with_partitions(&self.source.image)?;
        let options = if read_only(self.source.filesystem) == "ro" { "rw" } else { "rw,nouuid" };
        let mounted = Mounted::new(&disk.partition(ROOT_PARTITION), options, &self.place.run.join("node"))?;
        change(&mounted.at, seed)
    }
}

/// Writes other content of the same length into one file of a hundred, and into one piece of a hundred of long files.
fn change(root: &Path, seed: u64) -> Result<()> {
    let mut content = Content::new(seed << 32);
    let mut piece = vec![0; PIECE_BYTES as usize];
    let mut number = seed;
    for path in files_below(root)? {
        let file = File::options().write(true).open(&path);
        let file = file.with_context(|| format!("cannot change {}", path.display()))?;
        let length = file.metadata()?.len();
        for offset in (0..length).step_by(PIECE_BYTES as usize) {
            number += 1;
            if number.is_multiple_of(CHANGED_ONE_OF) {
                let piece = &mut piece[..PIECE_BYTES.min(length - offset) as usize];
                content.fill(piece);
                file.write_all_at(piece, offset)?;
            }
        }
    }
    Ok(())
}

/// All files below `root`, in an order that does not depend on the filesystem.
fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            match kind.is_dir() {
                true => directories.push(entry.path()),
                false if kind.is_file() => files.push(entry.path()),
                false => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_in_a_hundred_changes_and_none_changes_its_length() {
        let root = std::env::temp_dir().join(format!("rerack-bench-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let names: Vec<PathBuf> = (0..250).map(|number| root.join(format!("{number:03}"))).collect();
        names.iter().for_each(|name| fs::write(name, [7; 100]).unwrap());
        change(&root, 1).unwrap();
        let now: Vec<Vec<u8>> = names.iter().map(|name| fs::read(name).unwrap()).collect();
        fs::remove_dir_all(&root).unwrap();
        assert!(now.iter().all(|content| content.len() == 100));
        assert_eq!(now.iter().filter(|content| **content != [7; 100]).count(), 2);
    }
}
