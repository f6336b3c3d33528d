//! `rerack`: capture, serve, arm, plan, restore. Each command is a thin layer over a library.

mod commands;
#[cfg(test)]
mod mentions;
mod problem;
mod progress;
mod scratch;
mod snapshot;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{arm, capture, compare, docs, export, image, inventory, list, node, plan, restore, serve, verify};
use problem::Outcome;

/// Bare-metal restore for Linux cluster nodes.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 differences or damage found.
#[derive(Parser)]
#[command(name = "rerack", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Each command is described at its options.
#[derive(Subcommand)]
enum Command {
    Capture(capture::Options),
    Serve(serve::Options),
    Node(node::Options),
    Arm(arm::ArmOptions),
    Disarm(arm::DisarmOptions),
    Arms(arm::ArmsOptions),
    List(list::Options),
    Verify(verify::Options),
    Export(export::Options),
    Inventory(inventory::Options),
    Plan(plan::Options),
    Restore(restore::Options),
    Compare(compare::Options),
    Image(image::Options),
    Completions(docs::CompletionOptions),
    Man(docs::ManOptions),
}

impl Command {
    /// Whether it may end at any moment without leaving anything half done.
    fn only_shows(&self) -> bool {
        matches!(
            self,
            Self::Arms(_) | Self::List(_) | Self::Verify(_) | Self::Inventory(_) | Self::Plan(_) | Self::Completions(_)
        )
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("RERACK_LOG").unwrap_or_else(|_| "warn".into()))
        .init();
    if arguments.command.only_shows() {
        linux_io::terminal::end_with_the_reader();
    }
    match run(arguments.command) {
        Ok(code) => code,
        Err(problem) => {
            problem.print();
            ExitCode::from(problem::EXIT_FAILED)
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Capture(options) => capture::run(&options),
        Command::Serve(options) => serve::run(&options),
        Command::Node(options) => node::run(&options),
        Command::Arm(options) => arm::arm(&options),
        Command::Disarm(options) => arm::disarm(&options),
        Command::Arms(options) => arm::arms(&options),
        Command::List(options) => list::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Export(options) => export::run(&options),
        Command::Inventory(options) => inventory::run(&options),
        Command::Plan(options) => plan::run(&options),
        Command::Restore(options) => restore::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Image(options) => image::run(&options),
        Command::Completions(options) => docs::completions(&options),
        Command::Man(options) => docs::man(&options),
    }
}
