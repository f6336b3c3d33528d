//! `rerack serve`.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bundle_server::{Server, ServerError, system_clock};
use tokio::signal::unix::{SignalKind, signal};

use crate::problem::{OrProblem, Outcome};
use crate::snapshot;

/// Serve a repository over HTTPS.
///
/// The first start makes the repository, its root key and its certificates. SIGTERM and SIGINT end it after the
/// requests that run.
///
/// Example: rerack serve /srv/bundles
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The repository's directory.
    dir: PathBuf,
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let listener = TcpListener::bind(options.listen).with_context(|| format!("cannot listen on {}", options.listen))?;
    let runtime = snapshot::runtime()?;
    runtime.block_on(async {
        let server = Server::open(&options.dir, system_clock()).await.or_hint(ServerError::hint)?;
        println!("repository   {}", options.dir.display());
        println!("fingerprint  {}", server.fingerprint());
        println!("listening    https://{}", options.listen);
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
        let asked_to_end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.serve(listener, asked_to_end).await.or_hint(ServerError::hint)?;
        Ok(ExitCode::SUCCESS)
    })
}
