//! `rerack list`.

use std::process::ExitCode;

use bundle::repository::RepositoryError;
use bundle_server::{NodeListing, Server, ServerError, system_clock};
use node_model::{Bytes, NodeName};
use serde_json::json;

use super::print_json;
use crate::problem::{EXIT_FOUND, OrProblem, Outcome, Problem};
use crate::snapshot::{self, RepositoryOptions};

/// List nodes and their snapshots, the newest last.
///
/// With a node's name, its snapshots are verified down to their manifests and shown with their volumes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this node.
    node: Option<NodeName>,
    #[command(flatten)]
    repository: RepositoryOptions,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let runtime = snapshot::runtime()?;
    let server =
        runtime.block_on(Server::open_existing(&options.repository.dir, system_clock())).or_hint(ServerError::hint)?;
    let mut nodes = runtime.block_on(server.list()).or_hint(ServerError::hint)?;
    if let Some(wanted) = &options.node {
        nodes.retain(|listing| listing.node == *wanted);
        if nodes.is_empty() {
            return Err(Problem::words(
                format!("node `{wanted}` is not known here"),
                "`rerack list` names the nodes; `rerack node add` adds one",
            ));
        }
    }
    if options.json {
        print_json(&nodes.iter().map(as_json).collect::<Vec<_>>());
    } else {
        for listing in &nodes {
            print(listing);
            if options.node.is_some() {
                runtime.block_on(print_volumes(&server, listing)).or_hint(RepositoryError::hint)?;
            }
        }
    }
    let damaged = nodes.iter().any(|listing| !listing.snapshots.damaged.is_empty());
    Ok(if damaged { ExitCode::from(EXIT_FOUND) } else { ExitCode::SUCCESS })
}

fn as_json(listing: &NodeListing) -> serde_json::Value {
    let snapshots: Vec<_> = listing
        .snapshots
        .snapshots
        .iter()
        .map(|snapshot| {
            json!({
                "snapshot": snapshot.snapshot, "sequence": snapshot.sequence,
                "received_at": snapshot.received_at, "manifest": snapshot.manifest,
            })
        })
        .collect();
    let damaged: Vec<_> = listing
        .snapshots
        .damaged
        .iter()
        .map(|damaged| json!({ "snapshot": damaged.snapshot, "problem": damaged.error.to_string() }))
        .collect();
    json!({ "node": listing.node, "snapshots": snapshots, "damaged": damaged })
}

fn print(listing: &NodeListing) {
    println!("{}", listing.node);
    if listing.snapshots.snapshots.is_empty() {
        println!("  no snapshot yet");
    }
    for snapshot in &listing.snapshots.snapshots {
        println!("  {:>4}  {}  {}", snapshot.sequence, snapshot.received_at, snapshot.snapshot);
    }
    for damaged in &listing.snapshots.damaged {
        println!("  damaged  {}: {}", damaged.snapshot, damaged.error);
    }
}

async fn print_volumes(server: &Server, listing: &NodeListing) -> Result<(), RepositoryError> {
    for snapshot in &listing.snapshots.snapshots {
        let verified = server.repository().load(&listing.node, &snapshot.snapshot).await?;
        println!("\n  {}:", snapshot.snapshot);
        for volume in &verified.manifest().volumes {
            println!("    {:<24} {:>10}", volume.volume.name, Bytes::to_string(&volume.volume.stream_bytes));
        }
    }
    Ok(())
}
