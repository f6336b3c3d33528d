//! `rerack plan`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use node_model::Inventory;
use restore_engine::planning::{make_plan, policy_for};

use super::print_json;
use super::target::{PolicyOptions, TargetOptions, Targets, planning_hint};
use crate::problem::{EXIT_FOUND, OrProblem, Outcome};
use crate::snapshot::{self, RepositoryOptions, SnapshotName};

/// Show what a restore would do, to the last step.
///
/// This is the dry run: nothing is written. The second line has the plan's digest, which `rerack restore --confirm`
/// takes. Ends with exit code 3 if the plan must not be carried out.
#[derive(clap::Args)]
#[command(mut_arg("targets", |target| target.required(false).required_unless_present("inventory")))]
pub(crate) struct Options {
    /// NODE (its newest snapshot) or NODE@SNAPSHOT.
    snapshot: SnapshotName,
    #[command(flatten)]
    repository: RepositoryOptions,
    /// Plan for the machine that this file describes (`rerack inventory --json`), with all its disks.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["targets", "mappings"])]
    inventory: Option<PathBuf>,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let runtime = snapshot::runtime()?;
    let repository = snapshot::open(&runtime, &options.repository.dir)?;
    let proven = snapshot::load_proven(&runtime, &repository, &options.snapshot)?;
    let mut policy =
        policy_for(&proven, &repository, runtime.handle()).or_hint(|_| "run `rerack verify`".to_owned())?;
    options.policy.apply(&mut policy);
    let described = options.inventory.as_ref().map(|path| {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice::<Inventory>(&text).with_context(|| format!("{} is no inventory", path.display()))
    });
    let plan = match described.transpose()? {
        Some(inventory) => make_plan(&proven, &inventory, &policy),
        None => {
            let targets = Targets::attach(&options.target)?;
            let mut inventory = targets.inventory()?;
            targets.apply(&options.target, &mut inventory, &mut policy)?;
            make_plan(&proven, &inventory, &policy)
        }
    };
    let plan = plan.or_hint(planning_hint)?;
    if options.json {
        print_json(&plan);
    } else {
        print!("{}", plan.render());
    }
    Ok(if plan.blockers().next().is_some() { ExitCode::from(EXIT_FOUND) } else { ExitCode::SUCCESS })
}
