//! `restore`: the engine of the restore environment. PID 1 starts it; screens attach to its socket.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use restore_engine::session::{Session, Settings};

/// Restore a node onto this machine, as asked on its screens or told by its settings.
#[derive(Parser)]
#[command(name = "restore", version)]
struct Arguments {
    /// The settings that PID 1 wrote.
    #[arg(long)]
    settings: PathBuf,
    /// Where screens attach.
    #[arg(long)]
    socket: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_target(false).without_time().init();
    let settings = Settings::read(&arguments.settings)?;
    let session = Session::begin(settings, &arguments.socket)?;
    Ok(ExitCode::from(session.run().code()))
}
