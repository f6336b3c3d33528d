//! Consent to a plan: a person's, or what `rerack.erase=` says; and when it was given before.

use node_model::Inventory;
use restore_events::{Answer, QuestionKind};
use restore_plan::Plan;
use server_api::OpenAnswer;

use super::ask::Exit;
use super::narrow::Erase;
use super::{Session, Stop, digest_of, hint_or, view};
use crate::consent::ConsentedPlan;
use crate::data::chain;
use crate::planning::shows_first_write;
use crate::prove::ProvenSnapshot;

impl Session {
    /// Whether `plan` is one that this machine is in the midst of: its arm erased disks for it, and a disk shows so, or
    /// consent was given since the machine started. The server's word alone is not enough: where all disks can be
    /// booted again, the node may have run since.
    pub(super) fn goes_on(&self, plan: &Plan, answer: &OpenAnswer) -> Result<bool, Stop> {
        if !is_erased_for(plan, answer) {
            return Ok(false);
        }
        if self.consented.as_deref() == Some(&plan.digest()) {
            return Ok(true);
        }
        shows_first_write(plan).map_err(|error| Stop::trouble("A target cannot be read", chain(&error), error.hint()))
    }

    /// Consent to exactly this plan. What a person consented to still holds for a restore that goes on; what
    /// `rerack.erase=` says is always asked.
    pub(super) fn consent(
        &mut self,
        plan: Plan,
        proven: &ProvenSnapshot,
        inventory: &Inventory,
        answer: &OpenAnswer,
    ) -> Result<ConsentedPlan, Stop> {
        let digest = plan.digest();
        let refused = |error: crate::consent::NoConsent| {
            Stop::trouble("The plan must not be carried out", error.to_string(), error.hint())
        };
        if let Some(blocker) = plan.findings.iter().find(|finding| finding.severity == restore_plan::Severity::Blocker)
        {
            let now_what = hint_or(blocker.hint.clone(), "resolve what the plan names, and try again");
            return Err(Stop::trouble("The plan must not be carried out", blocker.what.clone(), now_what));
        }
        let goes_on = self.goes_on(&plan, answer)?;
        if is_erased_for(&plan, answer) && !goes_on {
            self.disks_written = false;
            if self.desk.is_unattended() {
                return Err(Stop::over());
            }
        }
        let erase = self.settings.erase.as_deref().and_then(Erase::parse);
        if self.desk.is_unattended() {
            let Some(erase) = erase else {
                return Err(Stop::trouble(
                    "Nothing may be erased",
                    "rerack.unattended is given without rerack.erase=",
                    "add rerack.erase=identity, blank or plan:DIGEST",
                ));
            };
            let recorded = inventory.identity.is_surely_same_machine(&proven.snapshot.manifest().spec.identity);
            erase.allows(&plan, recorded, inventory, goes_on).map_err(|why| {
                Stop::trouble("Nothing may be erased", why, "change rerack.erase=, or restore at the console")
            })?;
            return ConsentedPlan::new(plan, &digest).map_err(refused);
        }
        if goes_on {
            return ConsentedPlan::new(plan, &digest).map_err(refused);
        }
        let consent = view::consent(&plan);
        let mut problem = None;
        loop {
            let answer = self.desk.ask(QuestionKind::PlanConsent(consent.clone()), problem.take())?;
            if answer == Answer::Decline {
                return Err(Stop::Exit(Exit::Retry));
            }
            match consent.judge(&answer) {
                Ok(()) => return ConsentedPlan::new(plan, &digest).map_err(refused),
                Err(why) => problem = Some(why.to_string()),
            }
        }
    }
}

/// Whether the arm is bound to this very plan and says that its disks are erased.
fn is_erased_for(plan: &Plan, answer: &OpenAnswer) -> bool {
    answer.claim.as_ref().is_some_and(|claim| claim.erased && claim.plan_digest == digest_of(plan))
}
