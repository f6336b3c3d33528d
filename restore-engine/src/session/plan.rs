//! Which disk takes which place: the plan for what this machine has.

use std::sync::Arc;

use linux_io::Roots;
use linux_io::scan::{InventoryOptions, inventory};
use node_model::{DiskId, Inventory, InventoryDisk};
use restore_events::{Answer, Choice, LogLevel, QuestionKind};
use restore_plan::{Plan, PlanError, Policy};
use server_api::OpenAnswer;

use super::ask::Exit;
use super::{Session, Stop, hint_or};
use crate::data::{SnapshotSource, chain};
use crate::planning::{PlanningError, find_resume, make_plan, policy_for};
use crate::prove::ProvenSnapshot;

/// Why there is no plan yet.
enum NoPlan {
    /// The planner found none.
    Planning(PlanningError),
    /// Something else.
    Stop(Stop),
}

impl From<PlanningError> for NoPlan {
    fn from(error: PlanningError) -> Self {
        Self::Planning(error)
    }
}

impl Session {
    /// A plan, and what this machine has. Where no disk fits, one that comes late is waited for; where several fit
    /// equally, a person is asked.
    pub(super) fn plan(
        &mut self,
        proven: &ProvenSnapshot,
        source: &Arc<dyn SnapshotSource>,
        answer: &OpenAnswer,
    ) -> Result<(Plan, Inventory), Stop> {
        let policy = policy_for(proven, &self.patient(source), self.runtime.handle()).map_err(|error| {
            Stop::damaged("The snapshot's catalog cannot be read", &error, None).if_passing(error.is_passing())
        })?;
        // The arm names the node, so another machine may take its identity.
        let mut policy = Policy { other_machine_allowed: true, ..policy };
        // The disks of a claim that erased them are no longer blank: they are told apart by the claim.
        if let Some(claim) = answer.claim.as_ref().filter(|claim| claim.erased) {
            let captured = proven.snapshot.manifest().spec.layout.disks().map(|disk| disk.key.clone());
            policy.mapping = captured.zip(claim.disks.iter().cloned()).collect();
        }
        self.settle();
        let late_until_ms = self.disks.late_until_ms();
        loop {
            let inventory = self.scan()?;
            let error = match self.plan_for(proven, &inventory, &policy, answer) {
                Ok(plan) => return Ok((plan, inventory)),
                Err(NoPlan::Stop(stop)) => return Err(stop),
                Err(NoPlan::Planning(error)) => error,
            };
            if let PlanningError::Plan(PlanError::Ambiguous { key, old, disks, .. }) = &error
                && !self.desk.is_unattended()
            {
                let disk = self.choose_disk(old, disks, &inventory)?;
                policy.mapping.insert(key.clone(), disk);
                continue;
            }
            if !error.another_disk_may_help() || !self.another_disk_comes(late_until_ms) {
                return Err(Stop::trouble(
                    "The node cannot be restored onto this machine",
                    chain(&error),
                    error.hint(),
                ));
            }
            self.settle();
        }
    }

    fn plan_for(
        &self,
        proven: &ProvenSnapshot,
        inventory: &Inventory,
        policy: &Policy,
        answer: &OpenAnswer,
    ) -> Result<Plan, NoPlan> {
        let plan = make_plan(proven, inventory, policy)?;
        if !self.goes_on(&plan, answer).map_err(NoPlan::Stop)? {
            return Ok(plan);
        }
        let resume = find_resume(&plan, proven)?;
        self.teller.log(LogLevel::Info, "going on with the restore that this machine began");
        Ok(make_plan(proven, inventory, &Policy { resume, ..policy.clone() })?)
    }

    /// What this machine has.
    fn scan(&self) -> Result<Inventory, Stop> {
        let options = InventoryOptions { named: self.settings.disks.clone(), ..InventoryOptions::default() };
        let mut found = inventory(&Roots::live(), &options).map_err(|error| {
            Stop::trouble("This machine cannot be scanned", chain(&error), hint_or(error.hint(), ""))
        })?;
        found.disks.retain(|disk| self.settings.disks.is_empty() || disk.named_explicitly);
        Ok(found)
    }

    /// Has a person say which of several disks takes the place of `old`. It is erased only under consent all the same.
    fn choose_disk(&mut self, old: &str, disks: &[DiskId], inventory: &Inventory) -> Result<DiskId, Stop> {
        let candidate = |id: &DiskId| inventory.disks.iter().find(|disk| disk.identity.stable_ids().contains(id));
        let choices: Vec<Choice> = disks.iter().filter_map(|id| Some(choice(id, candidate(id)?))).collect();
        loop {
            let ask = QuestionKind::Disk { old: old.to_owned(), choices: choices.clone() };
            match self.desk.ask(ask, None)? {
                Answer::Choice(key) => {
                    if let Some(id) = disks.iter().find(|id| id.to_string() == key) {
                        return Ok(id.clone());
                    }
                }
                Answer::Decline => return Err(Stop::Exit(Exit::Retry)),
                _ => {}
            }
        }
    }
}

/// A disk as people tell it from others: what it is, where it is, and what lies on it.
fn choice(id: &DiskId, disk: &InventoryDisk) -> Choice {
    let mut detail = disk.kernel_name.clone();
    if let Some(path) = &disk.bus_path {
        detail.push_str(&format!(" at {path}"));
    }
    let mut kinds: Vec<&str> = disk.signatures.iter().map(|signature| signature.kind.as_str()).collect();
    kinds.dedup();
    detail.push_str(&if kinds.is_empty() { ", blank".to_owned() } else { format!(", holds {}", kinds.join(" ")) });
    Choice { key: id.to_string(), label: disk.identity.describe(), detail: Some(detail) }
}
