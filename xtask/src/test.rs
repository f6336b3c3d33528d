//! Everything that CI runs, part by part.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::{command, programs, setup, tidy};

#[derive(Args)]
pub(crate) struct Options {
    /// Run only the parts named, separated by commas: setup, fmt, tidy, deny, clippy, doc, unit,
    /// programs, scenarios.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Play every scenario, not only those that CI plays.
    #[arg(long)]
    all: bool,
}

/// One part of the test run: its name and what it does.
type Part = (&'static str, fn(&Options) -> Result<()>);

/// Cheap parts first, so that a slip shows within seconds.
const PARTS: &[Part] = &[
    ("setup", |_| setup::run()),
    ("fmt", |_| fmt()),
    ("tidy", |_| tidy::run()),
    ("deny", |_| deny()),
    ("clippy", |_| clippy()),
    ("doc", |_| doc()),
    ("unit", |_| unit()),
    ("programs", |_| programs::build().map(drop)),
    ("scenarios", |options| programs::scenarios(if options.all { &["run", "--all"] } else { &["run"] })),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(unknown) = options.only.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("no part is named `{unknown}`; there are {}", known.join(", "));
    }
    let mut results = Vec::new();
    for (name, part) in PARTS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            println!("==> {name}");
            let start = Instant::now();
            let outcome = part(options);
            if let Err(error) = &outcome {
                eprintln!("error: {name}: {error:#}");
            }
            results.push((*name, start.elapsed(), outcome.is_ok()));
        }
    }
    report(&results)
}

/// Prints how long each part took; an error if any failed.
fn report(results: &[(&str, Duration, bool)]) -> Result<()> {
    println!("\n{:<12} {:>8}", "part", "seconds");
    for (name, took, passed) in results {
        println!("{name:<12} {:>8.1}{}", took.as_secs_f64(), if *passed { "" } else { "  FAILED" });
    }
    let failed = results.iter().filter(|(.., passed)| !passed).count();
    println!("parts: {} passed, {failed} failed", results.len() - failed);
    if failed > 0 {
        bail!("{failed} of {} parts failed", results.len());
    }
    Ok(())
}

fn fmt() -> Result<()> {
    command::run(&["cargo", "fmt", "--all", "--check"])
}

fn clippy() -> Result<()> {
    command::run(&[
        "cargo",
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])
}

fn doc() -> Result<()> {
    let mut doc = command::command(&["cargo", "doc", "--workspace", "--all-features", "--no-deps", "--quiet"]);
    command::check(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences, sources and bans always; advisories where their database can be reached.
fn deny() -> Result<()> {
    command::run(&["cargo", "deny", "--log-level", "error", "check", "bans", "licenses", "sources"])?;
    if command::succeeds(&["cargo", "deny", "fetch", "db"]) {
        command::run(&["cargo", "deny", "--log-level", "error", "check", "advisories"])?;
    } else {
        println!("advisories: skipped, their database cannot be reached");
    }
    Ok(())
}

/// Rings one to three: pure tests, the fake machine, loop devices (these only as root).
fn unit() -> Result<()> {
    command::run(&["cargo", "nextest", "run", "--workspace", "--all-features", "--no-fail-fast"])?;
    command::run(&["cargo", "test", "--workspace", "--all-features", "--doc", "--quiet"])
}
