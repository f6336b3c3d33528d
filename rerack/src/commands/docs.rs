//! `rerack completions` and `rerack man`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::Arguments;
use crate::problem::Outcome;

/// Print completions for a shell.
///
/// Example: rerack completions bash > /etc/bash_completion.d/rerack
#[derive(clap::Args)]
pub(crate) struct CompletionOptions {
    /// The shell.
    shell: clap_complete::Shell,
}

pub(crate) fn completions(options: &CompletionOptions) -> Outcome {
    clap_complete::generate(options.shell, &mut Arguments::command(), "rerack", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

/// Write manual pages into a directory.
#[derive(clap::Args)]
pub(crate) struct ManOptions {
    /// The directory, such as /usr/local/share/man/man1.
    directory: PathBuf,
}

pub(crate) fn man(options: &ManOptions) -> Outcome {
    let path = options.directory.display();
    std::fs::create_dir_all(&options.directory).with_context(|| format!("cannot make {path}"))?;
    clap_mangen::generate_to(Arguments::command(), &options.directory)
        .with_context(|| format!("cannot write manual pages into {path}"))?;
    Ok(ExitCode::SUCCESS)
}
