//! What a contributor types: `cargo xtask setup`, `test`, `tidy`, `demo`, `bench`.
//!
//! It depends on no other room of the house, so that it starts within seconds on a fresh clone and can install what
//! the others need to be built.

mod bench;
mod command;
mod programs;
mod setup;
mod skipped;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of rerack's development.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need: packages, the static target, cargo tools.
    ///
    /// Needs root or sudo, and Debian's or Ubuntu's package manager. Does nothing where all is present.
    Setup,
    /// Show the whole way: capture a node in a virtual machine, lose it, and bring it back on another one.
    ///
    /// Installs what it needs first. Takes some minutes; the node is prepared once and kept in `target/qemu-cache`.
    Demo {
        /// Leave the repository, the restored disk and the boot image, and say how to look at them.
        #[arg(long)]
        keep: bool,
    },
    /// Run everything that CI runs, and print how long each part took and what was skipped.
    Test(test::Options),
    /// Measure ours against the programs that people use today, and against what this machine can do. Needs root.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run a program for a bench and print what it cost.
    #[command(hide = true)]
    Measure(bench::measured::Options),
    /// Serve files for a bench.
    #[command(hide = true)]
    Files(bench::files::Options),
    /// Check what no compiler checks: the arrows between crates, file lengths, marks of unfinished work, links.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Demo { keep } => demo(keep),
        Task::Test(options) => test::run(&options),
        Task::Bench(what) => bench::run(&what),
        Task::Measure(options) => bench::measured::run(&options),
        Task::Files(options) => bench::files::run(&options),
        Task::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(keep: bool) -> anyhow::Result<()> {
    setup::run()?;
    println!("building the programs that ship");
    command::check(&mut programs::scenarios(if keep { &["demo", "--keep"] } else { &["demo"] })?)
}
