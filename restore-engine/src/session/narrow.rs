//! Consent of machines at which nobody sits: what `rerack.erase=` allows.

use node_model::Inventory;
use restore_plan::{Plan, TargetDisk};

/// What may be erased without a person's word. It only narrows: an arm is needed besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Erase {
    /// Only if this is the recorded machine, and only disks that are its own or blank.
    Identity,
    /// Only disks without any signature.
    Blank,
    /// Only under exactly this plan.
    Plan(String),
}

impl Erase {
    /// Reads the argument.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "identity" => Some(Self::Identity),
            "blank" => Some(Self::Blank),
            _ => text.strip_prefix("plan:").filter(|digest| !digest.is_empty()).map(|d| Self::Plan(d.to_owned())),
        }
    }

    /// Whether this plan may be carried out on this machine; if not, why not. A restore that goes on finds what it
    /// made itself on its disks, so they need not be blank; everything else is asked as at its beginning.
    ///
    /// # Errors
    /// Why nothing may be erased.
    pub(super) fn allows(
        &self,
        plan: &Plan,
        is_recorded_machine: bool,
        inventory: &Inventory,
        goes_on: bool,
    ) -> Result<(), String> {
        // The captured disk may have been named by the claim, so how it was found says nothing.
        let is_own = |target: &TargetDisk| target.old.is_same_disk(&target.identity);
        let not_allowed = |also: &dyn Fn(&TargetDisk) -> bool| {
            let mut targets = plan.targets.iter().filter(|_| !goes_on);
            targets.find(|target| !is_blank(target, inventory) && !also(target)).map(|t| t.identity.describe())
        };
        match self {
            Self::Identity if !is_recorded_machine => {
                Err("rerack.erase=identity, and this is not the recorded machine".to_owned())
            }
            Self::Identity => match not_allowed(&is_own) {
                None => Ok(()),
                Some(disk) => Err(format!(
                    "rerack.erase=identity, and this disk is neither one of the recorded machine nor blank: {disk}"
                )),
            },
            Self::Plan(digest) if *digest == plan.digest() => Ok(()),
            Self::Plan(digest) => Err(format!("rerack.erase=plan:{digest}, and the plan is {}", plan.digest())),
            Self::Blank => match not_allowed(&|_| false) {
                None => Ok(()),
                Some(disk) => Err(format!("rerack.erase=blank, and this disk is not blank: {disk}")),
            },
        }
    }
}

fn is_blank(target: &TargetDisk, inventory: &Inventory) -> bool {
    let disk = inventory.disks.iter().find(|disk| disk.identity.is_same_disk(&target.identity));
    disk.is_some_and(|disk| disk.signatures.is_empty())
}
