//! Finds the disk that takes each captured disk's place: the one named, else the disk itself, else a free one if
//! there can be no doubt. Ambiguity stops.

use std::collections::{BTreeMap, BTreeSet};

use node_model::{DeviceKey, DiskId, Inventory, InventoryDisk, Signature};

use crate::eligibility::{Refusal, refusal};
use crate::intake::{CapturedDisk, Snapshot};
use crate::plan::{MatchedBy, Untouched};
use crate::policy::Policy;
use crate::{PlanError, table};

/// The disk that takes a captured one's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Match<'a> {
    pub(crate) captured: CapturedDisk<'a>,
    pub(crate) disk: &'a InventoryDisk,
    pub(crate) by: MatchedBy,
}

/// A disk of the machine in a sentence.
pub(crate) fn describe(disk: &InventoryDisk) -> String {
    format!("{} ({})", disk.kernel_name, disk.identity.describe())
}

/// A disk of the machine as one line of a list.
fn line(disk: &InventoryDisk) -> String {
    let mut text = describe(disk);
    if let Some(path) = &disk.bus_path {
        text.push_str(&format!(" at {path}"));
    }
    let kinds: Vec<&str> = disk.signatures.iter().map(|signature: &Signature| signature.kind.as_str()).collect();
    text.push_str(&if kinds.is_empty() { ", blank".to_owned() } else { format!(", holds {}", kinds.join(" ")) });
    text
}

fn lines<'a>(disks: impl IntoIterator<Item = &'a InventoryDisk>) -> String {
    disks.into_iter().map(|disk| format!("\n  {}", line(disk))).collect()
}

/// Chooses a target for every captured disk, in their order.
pub(crate) fn choose<'a>(
    snapshot: &Snapshot<'a>,
    inventory: &'a Inventory,
    policy: &Policy,
) -> Result<Vec<Match<'a>>, PlanError> {
    let mut chooser = Chooser { snapshot, inventory, policy, chosen: BTreeMap::new() };
    chooser.take_named()?;
    chooser.take_same()?;
    chooser.take_free()?;
    chooser.reject_shared_ids()?;
    Ok(snapshot.disks.iter().filter_map(|disk| chooser.chosen.remove(disk.key)).collect())
}

/// The disks that are not targets, each with the reason.
pub(crate) fn untouched(inventory: &Inventory, matches: &[Match<'_>], policy: &Policy) -> Vec<Untouched> {
    let is_target = |disk: &InventoryDisk| matches.iter().any(|m| std::ptr::eq(m.disk, disk));
    let disks = inventory.disks.iter().filter(|disk| !is_target(disk));
    disks
        .map(|disk| Untouched {
            identity: disk.identity.clone(),
            kernel_name: disk.kernel_name.clone(),
            reason: refusal(disk, false, &policy.foreign_allowed).map_or("not needed".to_owned(), |r| r.reason),
        })
        .collect()
}

struct Chooser<'a, 'b> {
    snapshot: &'b Snapshot<'a>,
    inventory: &'a Inventory,
    policy: &'b Policy,
    chosen: BTreeMap<&'a DeviceKey, Match<'a>>,
}

impl<'a> Chooser<'a, '_> {
    fn take_named(&mut self) -> Result<(), PlanError> {
        for (key, id) in &self.policy.mapping {
            let Some(captured) = self.snapshot.disk(key).copied() else {
                let known: Vec<String> = self.snapshot.disks.iter().map(CapturedDisk::describe).collect();
                return Err(PlanError::UnknownCapturedDisk { key: key.clone(), known: known.join(", ") });
            };
            let disk = self.one_disk(id)?;
            self.take(captured, disk, MatchedBy::Named)?;
        }
        Ok(())
    }

    /// The one disk that has this identifier.
    fn one_disk(&self, id: &DiskId) -> Result<&'a InventoryDisk, PlanError> {
        let found: Vec<&InventoryDisk> =
            self.inventory.disks.iter().filter(|disk| disk.identity.stable_ids().contains(id)).collect();
        match found[..] {
            [disk] => Ok(disk),
            [] => Err(PlanError::UnknownTarget { id: id.to_string(), candidates: lines(&self.inventory.disks) }),
            _ => Err(PlanError::DuplicateIdentity { id: id.to_string(), candidates: lines(found) }),
        }
    }

    /// A captured disk that is still there takes its own place or none: never does a restore slide to another disk
    /// because the right one is in use.
    fn take_same(&mut self) -> Result<(), PlanError> {
        for captured in self.open() {
            let same: Vec<&InventoryDisk> =
                self.inventory.disks.iter().filter(|disk| captured.identity.is_same_disk(&disk.identity)).collect();
            match same[..] {
                [] => {}
                [disk] => self.take(captured, disk, MatchedBy::Identity)?,
                _ => {
                    let id = captured.identity.describe();
                    return Err(PlanError::DuplicateIdentity { id, candidates: lines(same) });
                }
            }
        }
        Ok(())
    }

    fn take_free(&mut self) -> Result<(), PlanError> {
        // What is certain for one disk leaves fewer candidates for the next.
        loop {
            let certain = self.next_certain()?;
            if certain.is_empty() {
                break;
            }
            for Match { captured, disk, by } in certain {
                self.take(captured, disk, by)?;
            }
        }
        match self.open().first() {
            Some(captured) => {
                let found = self.candidates(captured);
                let disks = found.iter().filter_map(|disk| disk.identity.stable_ids().into_iter().next()).collect();
                let (key, old, candidates) = (captured.key.clone(), captured.describe(), lines(found));
                Err(PlanError::Ambiguous { key, old, candidates, disks })
            }
            None => Ok(()),
        }
    }

    /// The next captured disk whose place only one free disk can take; or several of one size, where there are just
    /// as many blank disks of it.
    fn next_certain(&self) -> Result<Vec<Match<'a>>, PlanError> {
        let open = self.open();
        for captured in &open {
            let candidates = self.candidates(captured);
            let mut exact = exact_size(captured, &candidates);
            let rivals = open.iter().filter(|other| other.identity.size_bytes == captured.identity.size_bytes);
            let found =
                |captured: &CapturedDisk<'a>, disk: &'a InventoryDisk, by| Match { captured: *captured, disk, by };
            match (&candidates[..], &exact[..]) {
                ([], _) => return Err(self.no_candidate(captured)),
                ([disk], _) if open.len() == 1 => return Ok(vec![found(captured, disk, MatchedBy::OnlyOne)]),
                (_, [disk]) if rivals.clone().count() == 1 => return Ok(vec![found(captured, disk, MatchedBy::Size)]),
                (_, disks) if disks.len() == rivals.clone().count() && in_order(disks) => {
                    exact.sort_by_key(|disk| &disk.bus_path);
                    return Ok(rivals.zip(exact).map(|(rival, disk)| found(rival, disk, MatchedBy::Order)).collect());
                }
                _ => {}
            }
        }
        Ok(Vec::new())
    }

    /// Captured disks that have no target yet, in order.
    fn open(&self) -> Vec<CapturedDisk<'a>> {
        self.snapshot.disks.iter().filter(|disk| !self.chosen.contains_key(disk.key)).copied().collect()
    }

    /// Disks that may take a captured one's place.
    fn candidates(&self, captured: &CapturedDisk<'_>) -> Vec<&'a InventoryDisk> {
        self.inventory.disks.iter().filter(|disk| self.why_not(captured, disk).is_none()).collect()
    }

    /// Why a disk cannot take a captured one's place by itself.
    fn why_not(&self, captured: &CapturedDisk<'_>, disk: &InventoryDisk) -> Option<String> {
        if let Some(taken) = self.chosen.values().find(|m| std::ptr::eq(m.disk, disk)) {
            return Some(format!("takes the place of {}", taken.captured.key));
        }
        if let Some(Refusal { reason, .. }) = refusal(disk, false, &self.policy.foreign_allowed) {
            return Some(reason);
        }
        match table::fit(captured, disk) {
            Ok(_) => None,
            Err(PlanError::SectorSize { found, .. }) => Some(format!("its blocks have {found} bytes")),
            Err(_) => Some("it is too small".to_owned()),
        }
    }

    fn no_candidate(&self, captured: &CapturedDisk<'_>) -> PlanError {
        let disks = self.inventory.disks.iter();
        // Where only one disk can be meant, say what is wrong with that one.
        let taken = |disk: &InventoryDisk| self.chosen.values().any(|m| std::ptr::eq(m.disk, disk));
        let meant: Vec<&InventoryDisk> = disks.clone().filter(|disk| !disk.boot_medium && !taken(disk)).collect();
        if let [only] = meant[..] {
            if let Some(refused) = refusal(only, false, &self.policy.foreign_allowed) {
                return not_eligible(only, refused);
            }
            if let Err(error) = table::fit(captured, only) {
                return error;
            }
        }
        let why = |disk: &InventoryDisk| self.why_not(captured, disk).unwrap_or_default();
        let mut candidates: String = disks.map(|disk| format!("\n  {}: {}", line(disk), why(disk))).collect();
        if candidates.is_empty() {
            candidates = " no disk at all".to_owned();
        }
        PlanError::NoCandidate { key: captured.key.clone(), old: captured.describe(), candidates }
    }

    fn take(&mut self, captured: CapturedDisk<'a>, disk: &'a InventoryDisk, by: MatchedBy) -> Result<(), PlanError> {
        if let Some(other) = self.chosen.values().find(|m| std::ptr::eq(m.disk, disk)) {
            let (first, second) = (other.captured.key.clone(), captured.key.clone());
            return Err(PlanError::TargetUsedTwice { disk: describe(disk), first, second });
        }
        if let Some(refused) = refusal(disk, by == MatchedBy::Named, &self.policy.foreign_allowed) {
            return Err(not_eligible(disk, refused));
        }
        table::fit(&captured, disk)?;
        self.chosen.insert(captured.key, Match { captured, disk, by });
        Ok(())
    }

    /// A target that shares an identifier with another disk, target or not, could be taken for it later.
    fn reject_shared_ids(&self) -> Result<(), PlanError> {
        for target in self.chosen.values() {
            let ids: BTreeSet<DiskId> = target.disk.identity.stable_ids().into_iter().collect();
            let shares = |disk: &&InventoryDisk| target.disk.identity.is_same_disk(&disk.identity);
            let twins: Vec<&InventoryDisk> = self.inventory.disks.iter().filter(shares).collect();
            if twins.len() > 1 {
                let id = ids.first().map_or_else(String::new, DiskId::to_string);
                return Err(PlanError::DuplicateIdentity { id, candidates: lines(twins) });
            }
        }
        Ok(())
    }
}

fn not_eligible(disk: &InventoryDisk, Refusal { reason, hint, overruled_by }: Refusal) -> PlanError {
    PlanError::NotEligible { disk: describe(disk), reason, hint, overruled_by: overruled_by.map(Box::new) }
}

fn exact_size<'a>(captured: &CapturedDisk<'_>, candidates: &[&'a InventoryDisk]) -> Vec<&'a InventoryDisk> {
    candidates.iter().filter(|disk| disk.identity.size_bytes == captured.identity.size_bytes).copied().collect()
}

/// Whether disks may be taken in the order of their places: all blank, each place known and another.
fn in_order(disks: &[&InventoryDisk]) -> bool {
    let places: BTreeSet<&Option<String>> = disks.iter().map(|disk| &disk.bus_path).collect();
    !disks.is_empty()
        && disks.iter().all(|disk| disk.signatures.is_empty() && disk.bus_path.is_some())
        && places.len() == disks.len()
}
