//! Everything that CI runs, part by part.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::skipped::Skipped;
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

/// One part of the test run: its name and what it does. It notes what it leaves out.
type Part = (&'static str, fn(&Options, &mut Skipped) -> Result<()>);

/// Cheap parts first, so that a slip shows within seconds.
const PARTS: &[Part] = &[
    ("setup", |_, _| setup::run()),
    ("fmt", |_, _| fmt()),
    ("tidy", |_, _| tidy::run()),
    ("deny", |_, skipped| deny(skipped)),
    ("clippy", |_, _| clippy()),
    ("doc", |_, _| doc()),
    ("unit", |_, skipped| unit(skipped)),
    ("programs", |_, _| programs::build().map(drop)),
    ("scenarios", scenarios),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(unknown) = options.only.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("no part is named `{unknown}`; there are {}", known.join(", "));
    }
    let mut results = Vec::new();
    let mut skipped = Skipped::default();
    for (name, part) in PARTS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            println!("==> {name}");
            let start = Instant::now();
            let outcome = part(options, &mut skipped);
            if let Err(error) = &outcome {
                eprintln!("error: {name}: {error:#}");
            }
            results.push((*name, start.elapsed(), outcome.is_ok()));
        } else {
            skipped.add(*name, "not asked for");
        }
    }
    println!("\n{}", report(&results, &skipped));
    let failed = failed(&results);
    if failed > 0 {
        bail!("{failed} of {} parts failed", results.len());
    }
    Ok(())
}

/// A part that ran: its name, how long it took, and whether it passed.
type Ran<'a> = (&'a str, Duration, bool);

fn failed(results: &[Ran<'_>]) -> usize {
    results.iter().filter(|(.., passed)| !passed).count()
}

/// How long each part took, what was left out, and how many parts passed.
fn report(results: &[Ran<'_>], skipped: &Skipped) -> String {
    let mut text = format!("{:<12} {:>8}\n", "part", "seconds");
    for (name, took, passed) in results {
        let verdict = if *passed { "" } else { "  FAILED" };
        text.push_str(&format!("{name:<12} {:>8.1}{verdict}\n", took.as_secs_f64()));
    }
    text.push_str(&skipped.render());
    let failed = failed(results);
    text.push_str(&format!("parts: {} passed, {failed} failed", results.len() - failed));
    text
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
fn deny(skipped: &mut Skipped) -> Result<()> {
    command::run(&["cargo", "deny", "--log-level", "error", "check", "bans", "licenses", "sources"])?;
    if command::succeeds(&["cargo", "deny", "fetch", "db"]) {
        command::run(&["cargo", "deny", "--log-level", "error", "check", "advisories"])?;
    } else {
        skipped.add("advisories", "their database cannot be reached");
    }
    Ok(())
}

/// Rings one to three: pure tests, the fake machine, loop devices (these only as root).
fn unit(skipped: &mut Skipped) -> Result<()> {
    if !command::is_root()? {
        println!("ring three skipped: not root");
        skipped.add("ring three", "not root");
    }
    let junit = command::target_folder().join("nextest/xtask/junit.xml");
    // One of an earlier run is not taken for this one's.
    let _ = fs::remove_file(&junit);
    let run = ["cargo", "nextest", "run", "--profile", "xtask", "--workspace", "--all-features", "--no-fail-fast"];
    let outcome = command::run(&run);
    if let Ok(report) = fs::read_to_string(&junit) {
        skipped.add_tests(&report);
    }
    outcome?;
    command::run(&["cargo", "test", "--workspace", "--all-features", "--doc", "--quiet"])
}

fn scenarios(options: &Options, skipped: &mut Skipped) -> Result<()> {
    let run: &[&str] = if options.all { &["run", "--all"] } else { &["run"] };
    command::check_reading(&mut programs::scenarios(run)?, |line| skipped.add_scenario(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_gives_times_and_what_was_left_out() {
        let seconds = Duration::from_secs_f64;
        let mut skipped = Skipped::default();
        skipped.add("ring three", "not root");
        skipped.add_scenario("skipped iso-as-disk              xorriso is not installed");
        let results = [("unit", seconds(61.25), true), ("scenarios", seconds(600.0), false)];
        assert_eq!(
            report(&results, &skipped),
            "part          seconds\n\
             unit             61.2\n\
             scenarios       600.0  FAILED\n\
             ring three skipped: not root\n\
             scenario iso-as-disk skipped: xorriso is not installed\n\
             parts: 1 passed, 1 failed"
        );
        assert_eq!(failed(&results), 1);
        assert!(report(&[], &Skipped::default()).contains("nothing was skipped"));
    }
}
