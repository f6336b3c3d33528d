//! `rerack verify`.

use std::process::ExitCode;

use bundle::repository::RepositoryError;
use bundle::verify::{Depth, Finding, Report};
use bundle_server::{Server, ServerError, system_clock};
use node_model::Bytes;
use serde_json::json;

use super::print_json;
use crate::problem::{EXIT_FOUND, OrProblem, Outcome};
use crate::snapshot::{self, RepositoryOptions, SnapshotName};

/// Check that everything stored is there and right, or one snapshot.
///
/// Reads and hashes every stored byte; works beside a running server. Ends with exit code 3 if anything is wrong.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this snapshot: NODE (its newest) or NODE@SNAPSHOT.
    snapshot: Option<SnapshotName>,
    #[command(flatten)]
    repository: RepositoryOptions,
    /// Check signatures, lists and lengths, and read no chunk.
    #[arg(long)]
    quick: bool,
    /// First write anew what is lost and can be made from the packs: where chunks lie.
    #[arg(long, conflicts_with = "snapshot")]
    repair: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let runtime = snapshot::runtime()?;
    let depth = if options.quick { Depth::Quick } else { Depth::Full };
    if options.repair {
        let repository = snapshot::open(&runtime, &options.repository.dir)?;
        let rebuilt = runtime.block_on(repository.rebuild_placement()).or_hint(RepositoryError::hint)?;
        eprintln!("placement: {} written anew, {} removed", rebuilt.written, rebuilt.removed);
    }
    let report = match &options.snapshot {
        None => runtime
            .block_on(async {
                let server = Server::open_existing(&options.repository.dir, system_clock()).await?;
                server.verify(depth, |_| ()).await
            })
            .or_hint(ServerError::hint)?,
        Some(name) => {
            let repository = snapshot::open(&runtime, &options.repository.dir)?;
            let verified = snapshot::load(&runtime, &repository, name)?;
            let snapshot = verified.receipt().snapshot.clone();
            runtime
                .block_on(async {
                    let placement = repository.load_placement().await?.placement;
                    Ok(repository.check_snapshot(&name.node, &snapshot, depth, &placement).await)
                })
                .or_hint(RepositoryError::hint)?
        }
    };
    if options.json {
        print_json(&as_json(&report));
    } else {
        print(&report);
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
}

fn as_json(report: &Report) -> serde_json::Value {
    let checked = &report.checked;
    let finding =
        |finding: &Finding| json!({ "what": finding.to_string(), "loss": finding.is_loss(), "hint": finding.hint() });
    json!({
        "snapshots": checked.snapshots, "packs": checked.packs, "chunks": checked.chunks,
        "hashed_bytes": checked.bytes, "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn print(report: &Report) {
    for finding in &report.findings {
        println!("wrong: {finding}");
        if let Some(hint) = finding.hint() {
            println!("hint: {hint}");
        }
    }
    let checked = &report.checked;
    println!(
        "{} snapshots, {} packs, {} chunks, {} hashed: {}",
        checked.snapshots,
        checked.packs,
        checked.chunks,
        Bytes(checked.bytes),
        if report.is_clean() { "all is right".to_owned() } else { format!("{} findings", report.findings.len()) }
    );
}
