//! Which disk takes which place: the plan for what this machine has.

use std::sync::Arc;

use linux_io::Roots;
use linux_io::scan::{InventoryOptions, inventory};
use node_model::Inventory;
use restore_events::LogLevel;
use restore_plan::{Plan, Policy};
use server_api::OpenAnswer;

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
    /// A plan, and what this machine has. Where no disk fits, one that comes late is waited for.
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
            if !error.another_disk_may_help() || !self.another_disk_comes(late_until_ms, "no disk fits yet") {
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
}
