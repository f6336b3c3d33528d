//! `rerack node`.

use std::path::PathBuf;
use std::process::ExitCode;

use bundle::trust::NodeFileError;
use bundle_server::{Server, ServerError, system_clock};
use node_model::NodeName;

use crate::problem::{OrProblem, Outcome};
use crate::snapshot::{self, RepositoryOptions};

/// Manage the nodes of a repository.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Add a node and write the file that makes a machine this node.
    ///
    /// The file holds the node's secret: copy it to the node, mode 0600, and delete it here.
    Add {
        /// The node's name.
        name: NodeName,
        #[command(flatten)]
        repository: RepositoryOptions,
        /// An address of the server, as nodes see it; may be given several times.
        #[arg(long = "url", required = true)]
        urls: Vec<String>,
        /// Where to write the file.
        #[arg(short, long)]
        output: PathBuf,
        /// Give a node that exists a new secret; its old file becomes worthless.
        #[arg(long)]
        replace: bool,
    },
}

pub(crate) fn run(options: &Options) -> Outcome {
    let Action::Add { name, repository, urls, output, replace } = &options.action;
    let servers = urls.iter().map(|url| url.parse::<server_api::ServerUrl>());
    let servers: Vec<String> = servers
        .map(|url| url.map(|url| url.to_string()))
        .collect::<Result<_, _>>()
        .or_hint(|error| error.hint().to_owned())?;
    let file = snapshot::runtime()?.block_on(async {
        let server = Server::open_existing(&repository.dir, system_clock()).await?;
        server.node_add(name, servers, *replace).await
    });
    file.or_hint(ServerError::hint)?.write_new(output).or_hint(NodeFileError::hint)?;
    println!("{name}: {} (copy it to the node, then delete it here)", output.display());
    Ok(ExitCode::SUCCESS)
}
