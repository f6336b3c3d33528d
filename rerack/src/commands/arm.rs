//! `rerack arm`, `disarm` and `arms`.

use std::process::ExitCode;
use std::time::Duration;

use bundle_server::{Server, ServerError, system_clock};
use node_model::NodeName;
use serde_json::json;

use super::print_json;
use crate::problem::{OrProblem, Outcome, Problem};
use crate::snapshot::{self, RepositoryOptions};

/// Allow one restore of a node, and print its code.
///
/// Every byte that the restore will need is read and hashed first. The code is printed once and is good for one
/// machine.
///
/// Example: rerack arm web-03 --dir /srv/bundles
#[derive(clap::Args)]
pub(crate) struct ArmOptions {
    /// The node.
    node: NodeName,
    #[command(flatten)]
    repository: RepositoryOptions,
    /// How long the code can be used: a number with s, m or h.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    valid: Duration,
    /// Do not read the snapshot's packs first.
    #[arg(long)]
    skip_verify: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn arm(options: &ArmOptions) -> Outcome {
    let armed = snapshot::runtime()?.block_on(async {
        let server = Server::open_existing(&options.repository.dir, system_clock()).await.or_hint(ServerError::hint)?;
        if !options.skip_verify {
            rehash(&server, &options.node).await?;
        }
        server.arm(&options.node, options.valid).await.or_hint(ServerError::hint)
    })?;
    let code = armed.code.reveal();
    if options.json {
        print_json(
            &json!({ "node": armed.arm.node, "arm": armed.arm.id, "code": code, "expires_at": armed.arm.expires_at }),
        );
    } else {
        println!("\n    {code}\n");
        println!("Type this code at the machine that takes the place of {}.", armed.arm.node);
        println!("It can be used until {} by one machine (arm {}).", armed.arm.expires_at, armed.arm.id);
    }
    Ok(ExitCode::SUCCESS)
}

async fn rehash(server: &Server, node: &NodeName) -> Result<(), Problem> {
    let Ok(latest) = server.repository().latest(node).await else {
        // Whatever is wrong, `arm` says it better.
        return Ok(());
    };
    let found = server.rehash_snapshot(node, &latest.snapshot).await.or_hint(ServerError::hint)?;
    if found.is_whole() {
        return Ok(());
    }
    let problem = match found.problems.first() {
        Some(problem) => problem.to_string(),
        None => format!("{} chunks are missing", found.missing_chunks.len()),
    };
    Err(Problem::words(
        format!("snapshot {} of {node} is damaged: {problem}", latest.snapshot),
        "see `rerack verify`; name an older snapshot at the machine, and arm with --skip-verify",
    ))
}

/// Take an arm back.
///
/// A machine that restores under it can read nothing more.
#[derive(clap::Args)]
pub(crate) struct DisarmOptions {
    /// The arm, as `rerack arms` lists it.
    arm: String,
    #[command(flatten)]
    repository: RepositoryOptions,
}

pub(crate) fn disarm(options: &DisarmOptions) -> Outcome {
    snapshot::runtime()?
        .block_on(async {
            let server = Server::open_existing(&options.repository.dir, system_clock()).await?;
            server.disarm(&options.arm).await
        })
        .or_hint(ServerError::hint)?;
    println!("arm {} is revoked", options.arm);
    Ok(ExitCode::SUCCESS)
}

/// List arms and how far they are, the newest first.
#[derive(clap::Args)]
pub(crate) struct ArmsOptions {
    #[command(flatten)]
    repository: RepositoryOptions,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn arms(options: &ArmsOptions) -> Outcome {
    let arms = snapshot::runtime()?
        .block_on(async { Server::open_existing(&options.repository.dir, system_clock()).await?.arms().await })
        .or_hint(ServerError::hint)?;
    if options.json {
        print_json(&arms);
        return Ok(ExitCode::SUCCESS);
    }
    for arm in &arms {
        println!("{}  {:<20} {:<8}  until {}", arm.id, arm.node, arm.state.word(), arm.expires_at);
    }
    if arms.is_empty() {
        println!("no arms");
    }
    Ok(ExitCode::SUCCESS)
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| "a number with s, m or h, such as 90m".to_owned())?;
    let seconds = match unit {
        "s" => number,
        "m" => number.saturating_mul(60),
        "h" => number.saturating_mul(3600),
        _ => return Err("a number with s, m or h, such as 90m".to_owned()),
    };
    Ok(Duration::from_secs(seconds))
}
