//! Plays scenarios: `scenarios list`, `scenarios run [--all | NAME...]`, `scenarios demo [--keep]`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use qemu_tests::scenarios::Which;
use qemu_tests::{Lab, Programs, scenarios};

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns how many scenarios failed.
fn run() -> Result<usize> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((verb, [])) if verb == "list" => {
            for scenario in scenarios::all() {
                println!("{:<24} {}", scenario.name, scenario.about);
            }
            Ok(0)
        }
        Some((verb, names)) if verb == "run" => {
            let lab = lab()?;
            println!("machines run by {:?}; transcripts are in {}", lab.acceleration(), lab.run_dir().display());
            let which = match names {
                [] => Which::Always,
                [all] if all == "--all" => Which::All,
                names => Which::Named(names),
            };
            Ok(scenarios::run(&lab, which)?)
        }
        Some((verb, keep)) if verb == "demo" && (keep.is_empty() || *keep == ["--keep"]) => {
            let programs = Programs::from_environment()
                .context("RERACK_PROGRAMS does not name a folder with the static programs; `cargo xtask demo` does")?;
            scenarios::demo(&lab()?, &programs, !keep.is_empty())?;
            Ok(0)
        }
        _ => bail!("usage: scenarios list | scenarios run [--all | NAME...] | scenarios demo [--keep]"),
    }
}

fn lab() -> Result<Lab> {
    let cache = std::env::var("RERACK_QEMU_CACHE").unwrap_or_else(|_| "target/qemu-cache".into());
    Lab::new(&cache).with_context(|| format!("cannot open the lab in {cache}"))
}
