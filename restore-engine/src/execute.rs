//! Carries out a plan, step by step. There is nothing to decide here.

use restore_events::Stage;
use restore_plan::Step;

use crate::consent::ConsentedPlan;
use crate::machine::Machine;

/// What is told while a plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A stage begins.
    Stage(Stage),
    /// A step begins.
    Step {
        /// Its number, from 0.
        number: usize,
        /// In words.
        what: String,
    },
    /// Something that an operator should know.
    Warning(String),
}

/// A step that failed. The disks stay unbootable: the step that makes them bootable comes last.
#[derive(Debug, thiserror::Error)]
#[error("{what} failed")]
pub struct StepFailed<E: std::error::Error + 'static> {
    /// The step's number, from 0.
    pub number: usize,
    /// The step, in words.
    pub what: String,
    /// Whether any disk had been written to.
    pub disks_written: bool,
    /// Why.
    #[source]
    pub source: E,
}

/// Carries out every step of `plan` on `machine`, telling `tell` what goes on.
///
/// # Errors
/// The first step that fails; the machine has then let go of everything.
pub fn execute<M>(plan: &ConsentedPlan, machine: &mut M, tell: &mut dyn FnMut(Told)) -> Result<(), StepFailed<M::Error>>
where
    M: Machine,
    M::Error: std::error::Error + 'static,
{
    let plan = plan.plan();
    if let Err(source) = machine.claim(plan) {
        machine.let_go();
        let what = "taking hold of the disks".to_owned();
        return Err(StepFailed { number: 0, what, disks_written: false, source });
    }
    let mut stage = None;
    for (number, step) in plan.steps.iter().enumerate() {
        // The ESP is made after the other data; that is still the data stage, so that every stage is shown once.
        let next = stage_of(step).max(stage).unwrap_or(Stage::Layout);
        if stage != Some(next) {
            tell(Told::Stage(next));
            stage = Some(next);
        }
        let what = describe(step);
        tell(Told::Step { number, what: what.clone() });
        match machine.carry_out(plan, step) {
            Ok(warnings) => warnings.into_iter().for_each(|warning| tell(Told::Warning(warning))),
            Err(source) => {
                machine.let_go();
                // The first step of all is the first write.
                return Err(StepFailed { number, what, disks_written: true, source });
            }
        }
    }
    Ok(())
}

/// The stage that a step belongs to; `None` for one that belongs to whatever stage it stands in.
fn stage_of(step: &Step) -> Option<Stage> {
    match step {
        Step::MakeUnbootable { .. }
        | Step::WipeSignatures { .. }
        | Step::WriteGpt { .. }
        | Step::AnnouncePartitions { .. }
        | Step::MakeFilesystem { .. }
        | Step::CheckFilesystem { .. }
        | Step::MakeSwap { .. } => Some(Stage::Layout),
        Step::RestoreFiles { .. } | Step::WriteRaw { .. } => Some(Stage::Data),
        Step::VerifyFiles { .. } | Step::VerifyRaw { .. } => Some(Stage::Verify),
        Step::MakeBootable { .. } | Step::RegisterEfiEntries { .. } => Some(Stage::BootChain),
        Step::Mount { .. }
        | Step::Unmount { .. }
        | Step::Adapt(_)
        | Step::KeepLog { .. }
        | Step::EnsureFallbackLoader { .. } => None,
    }
}

/// A step in words, for the log and for errors.
pub fn describe(step: &Step) -> String {
    match step {
        Step::MakeUnbootable { disk, .. } => format!("making {disk} unbootable"),
        Step::WipeSignatures { disk, .. } => format!("wiping old signatures from {disk}"),
        Step::WriteGpt { disk, .. } => format!("writing the partition table of {disk}"),
        Step::AnnouncePartitions { disk, .. } => format!("announcing the partitions of {disk}"),
        Step::MakeFilesystem { device, expect, .. } => format!("making {} on {device}", expect.type_name()),
        Step::CheckFilesystem { device, expect, .. } => format!("checking {} on {device}", expect.type_name()),
        Step::MakeSwap { device, .. } => format!("making swap on {device}"),
        Step::Mount { device, node_path, .. } => match node_path {
            Some(path) => format!("mounting {device} ({path})"),
            None => format!("mounting {device}"),
        },
        Step::RestoreFiles { volume, .. } => format!("restoring volume {volume}"),
        Step::Adapt(adaptation) => format!("adapting {}", adaptation.node_path),
        Step::KeepLog { node_path, .. } => format!("keeping the log of this restore as {node_path}"),
        Step::EnsureFallbackLoader { device, .. } => format!("placing the fallback loader on {device}"),
        Step::Unmount { device } => format!("unmounting {device}"),
        Step::VerifyFiles { volume, .. } | Step::VerifyRaw { volume, .. } => format!("verifying volume {volume}"),
        Step::WriteRaw { volume, .. } => format!("writing volume {volume}"),
        Step::MakeBootable { disk, .. } => format!("making {disk} bootable"),
        Step::RegisterEfiEntries { .. } => "registering the boot entries with the firmware".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use node_model::DeviceKey;

    use super::*;

    #[test]
    fn a_fallback_loader_is_placed_before_the_read_back_and_is_no_stage_of_its_own() {
        let step = Step::EnsureFallbackLoader { device: DeviceKey::disk(0), copies: Vec::new() };
        assert_eq!(stage_of(&step), None);
    }
}
