//! Consent of machines at which nobody sits: what `rerack.erase=` allows.

use node_model::Inventory;
use restore_plan::Plan;

/// What may be erased without a person's word. It only narrows: an arm is needed besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Erase {
    /// Only if this is the recorded machine.
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

    /// Whether this plan may be carried out on this machine; if not, why not.
    ///
    /// # Errors
    /// Why nothing may be erased.
    pub(super) fn allows(
        &self,
        plan: &Plan,
        is_recorded_machine: bool,
        inventory: &Inventory,
        erased_under_this_claim: bool,
    ) -> Result<(), String> {
        match self {
            Self::Identity if is_recorded_machine => Ok(()),
            Self::Identity => Err("rerack.erase=identity, and this is not the recorded machine".to_owned()),
            Self::Plan(digest) if *digest == plan.digest() => Ok(()),
            Self::Plan(digest) => Err(format!("rerack.erase=plan:{digest}, and the plan is {}", plan.digest())),
            Self::Blank if erased_under_this_claim => Ok(()),
            Self::Blank => {
                let signed = plan.targets.iter().find_map(|target| {
                    let disk = inventory.disks.iter().find(|disk| disk.identity.is_same_disk(&target.identity));
                    match disk {
                        Some(disk) if disk.signatures.is_empty() => None,
                        _ => Some(target.identity.describe()),
                    }
                });
                match signed {
                    None => Ok(()),
                    Some(disk) => Err(format!("rerack.erase=blank, and this disk is not blank: {disk}")),
                }
            }
        }
    }
}
