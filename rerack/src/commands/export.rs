//! `rerack export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bundle::export::{ExportError, ExportForm};
use bundle::repository::RepositoryError;
use node_model::{Bytes, VolumeName};

use crate::problem::{OrProblem, Outcome, Problem};
use crate::snapshot::{self, RepositoryOptions, SnapshotName};

/// Write a volume of a snapshot to a file.
///
/// What comes out is a `.tar.zst` for files, and raw bytes compressed by zstd for the rest.
///
/// Example: rerack export web-03 disk0-p3 -o - | tar --zstd --numeric-owner --xattrs-include='*' -xpf -
#[derive(clap::Args)]
pub(crate) struct Options {
    /// NODE (its newest snapshot) or NODE@SNAPSHOT.
    snapshot: SnapshotName,
    /// The volume, as `rerack list NODE` names it.
    volume: VolumeName,
    #[command(flatten)]
    repository: RepositoryOptions,
    /// Where to write; `-` is standard output.
    #[arg(short, long)]
    output: PathBuf,
    /// Write the content decompressed.
    #[arg(long)]
    decoded: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let runtime = snapshot::runtime()?;
    let repository = snapshot::open(&runtime, &options.repository.dir)?;
    let verified = snapshot::load(&runtime, &repository, &options.snapshot)?;
    let Some(volume) = verified.manifest().volume(&options.volume) else {
        let names: Vec<_> = verified.manifest().volumes.iter().map(|v| v.volume.name.to_string()).collect();
        return Err(Problem::words(
            format!("the snapshot has no volume `{}`", options.volume),
            format!("it has {}", names.join(", ")),
        ));
    };
    let form = if options.decoded { ExportForm::Decoded } else { ExportForm::Compressed };
    let written = runtime.block_on(async {
        let placement = repository.load_placement().await.or_hint(RepositoryError::hint)?.placement;
        let stream = repository.export(volume, &placement, form).await.or_hint(RepositoryError::hint)?;
        if options.output.as_os_str() == "-" {
            return stream.write_to(&mut tokio::io::stdout()).await.or_hint(ExportError::hint);
        }
        let path = options.output.display();
        let mut file =
            tokio::fs::File::create_new(&options.output).await.with_context(|| format!("cannot create {path}"))?;
        let written = stream.write_to(&mut file).await.or_hint(ExportError::hint)?;
        file.sync_all().await.with_context(|| format!("cannot flush {path}"))?;
        Ok::<_, Problem>(written)
    })?;
    eprintln!("{}: {}", options.volume, Bytes(written));
    Ok(ExitCode::SUCCESS)
}
