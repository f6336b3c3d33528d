//! `restore-tui`: one screen of a restore, on its standard input and output.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use crossbeam_channel::RecvTimeoutError;
use restore_tui::terminal::{RawTerminal, Size, is_hung_up, read_keys};
use restore_tui::{Action, EXIT_SHELL, Input, Look, Model, draw, link};

/// How often times on the screen move on.
const TICK: Duration = Duration::from_millis(1000);
/// A serial line takes a fifth of a second for a screen; more pictures than that only make it late.
const PAUSE_SERIAL: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(50);

/// Show the screens of a restore and drive it.
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit codes: 12 asks init for the rescue shell; 1 is an error.")]
struct Options {
    /// Attach to the engine at this socket.
    #[arg(long, default_value = "/run/rerack/engine.sock")]
    socket: PathBuf,
    /// Show the line in this file while no engine answers.
    #[arg(long)]
    status: Option<PathBuf>,
    /// Tell the engine this name of the screen.
    #[arg(long, default_value = "screen")]
    name: String,
    /// Use ASCII characters and no colours.
    #[arg(long)]
    ascii: bool,
    /// Use this size, such as 80x24, whatever the terminal says.
    #[arg(long)]
    size: Option<Size>,
    /// Offer the rescue shell.
    #[arg(long)]
    shell: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("restore-tui: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut raw = RawTerminal::open(options.size).context("standard input and output must be a terminal")?;
    let size = raw.terminal.size().context("the terminal's size cannot be read")?;
    let look = if options.ascii { Look::PLAIN } else { Look::LINUX };
    let pause = if options.ascii { PAUSE_SERIAL } else { PAUSE };
    let mut model = Model::new(size.width, size.height, options.shell);

    let (sender, inputs) = crossbeam_channel::bounded(1024);
    let commands = link::attach(options.socket.clone(), options.status.clone(), options.name.clone(), sender.clone());
    // When the line closes the thread ends and the process with it; nothing was answered.
    let keys = thread::spawn(move || read_keys(&sender));

    let begun = Instant::now();
    let mut stale = true;
    let mut drawn = None;
    loop {
        if stale && drawn.is_none_or(|at: Instant| at.elapsed() >= pause) {
            raw.terminal.draw(|frame| draw(&model, look, frame)).context("the terminal cannot be written to")?;
            (stale, drawn) = (false, Some(Instant::now()));
        }
        let input = match inputs.recv_timeout(if stale { pause } else { TICK }) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => Input::Tick(begun.elapsed().as_millis() as u64),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the terminal and the engine are gone"),
        };
        if keys.is_finished() || is_hung_up() {
            anyhow::bail!("the line is closed");
        }
        model.handle(Input::Tick(begun.elapsed().as_millis() as u64));
        for action in model.handle(input) {
            match action {
                Action::Send(command) => commands.send(command),
                Action::OpenShell => return Ok(ExitCode::from(EXIT_SHELL)),
                Action::Repaint => raw.repaint().context("the terminal cannot be cleared")?,
            }
        }
        stale = true;
    }
}
