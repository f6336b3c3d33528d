//! `rerack capture`.

use std::path::PathBuf;
use std::process::ExitCode;

use bundle::trust::{NodeFile, NodeFileError};
use capture_agent::sink::{DirectorySink, ServerSink};
use capture_agent::{
    CaptureError, CaptureOptions, CaptureReport, CaptureRequest, Sink, SinkError, Stage, VolumeReport, Warning,
    capture, sources,
};
use linux_io::Roots;
use linux_io::scan::{NodeOptions, ScanError, node};
use serde_json::json;
use server_api::ServerUrl;

use super::print_json;
use crate::problem::{OrProblem, Outcome, Problem};
use crate::progress::bytes_bar;

/// Capture this node and store it as a snapshot.
///
/// It goes to the node's bundle server, or into a repository on this machine. The node goes on running. Files that
/// change while they are read are named. Processor and disk priority are lowered unless --full-priority is given.
///
/// Example: rerack capture --node-file /etc/rerack/node.json --exclude '/var/cache/apt/archives/*'
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The file that `rerack node add` wrote.
    #[arg(long, default_value = "/etc/rerack/node.json")]
    node_file: PathBuf,
    /// An address of the server, instead of those in the node file; may be given several times.
    #[arg(long = "server")]
    servers: Vec<ServerUrl>,
    /// Store it in the repository in this directory instead, such as a mounted disk. No server may serve it meanwhile.
    #[arg(long, value_name = "DIR", conflicts_with = "servers")]
    dir: Option<PathBuf>,
    /// A path to leave out: `/var/cache/apt`, or `/tmp/*` for all but the directory itself; may be given several times.
    #[arg(long = "exclude", value_name = "PATH")]
    excludes: Vec<String>,
    /// A path that may be missing from the snapshot if it cannot be read; may be given several times.
    #[arg(long, value_name = "PATH")]
    accept_unreadable: Vec<String>,
    /// The node's disks, if they are not to be found by what is mounted.
    #[arg(long = "disk", value_name = "PATH")]
    disks: Vec<PathBuf>,
    /// zstd level of chunks.
    #[arg(long, default_value_t = bundle::frame::LEVEL_DEFAULT)]
    level: i32,
    /// Do not step back behind other programs.
    #[arg(long)]
    full_priority: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    if !options.full_priority {
        // Before any thread is started, so that those that scan and upload inherit it, too.
        linux_io::priority::lower();
    }
    let file = NodeFile::read(&options.node_file).or_hint(NodeFileError::hint)?;
    let scan = node(&Roots::live(), &NodeOptions { disks: options.disks.clone(), ..NodeOptions::default() })
        .or_hint(ScanError::hint)?;
    for warning in &scan.warnings {
        eprintln!("warning: {warning}");
    }
    let volumes = sources(&scan).or_hint(CaptureError::hint)?;
    let sink = open_sink(options, &file)?;
    let key = file.secret.signing_key();
    let how = CaptureOptions {
        level: options.level,
        lowered_priority: !options.full_priority,
        excludes: options.excludes.clone(),
        accept_unreadable: options.accept_unreadable.clone(),
        ..CaptureOptions::default()
    };
    let request = CaptureRequest { spec: &scan.spec, sources: &volumes, key: &key, options: &how };
    let bar = bytes_bar(0);
    let report = capture(&request, &*sink, &|progress| {
        bar.set_length(progress.expected_bytes.get().max(progress.read_bytes.get()));
        bar.set_position(progress.read_bytes.get());
        bar.set_message(match &progress.stage {
            Stage::Starting => "starting".to_owned(),
            Stage::Reading(volume) => format!("reading {volume}"),
            Stage::Storing => "storing".to_owned(),
            Stage::Committing => "committing".to_owned(),
            Stage::Done => "done".to_owned(),
        });
    });
    bar.finish_and_clear();
    let report = report.or_hint(CaptureError::hint)?;
    if options.json {
        print_json(&as_json(&file, &report));
    } else {
        print(&file, &report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the snapshot goes.
fn open_sink(options: &Options, file: &NodeFile) -> Result<Box<dyn Sink>, Problem> {
    if let Some(directory) = &options.dir {
        let sink = DirectorySink::open(directory, &file.node, &file.secret).or_hint(SinkError::hint)?;
        return Ok(Box::new(sink));
    }
    let servers = match options.servers.is_empty() {
        true => file.servers.iter().map(|url| url.parse()).collect::<Result<Vec<ServerUrl>, _>>(),
        false => Ok(options.servers.clone()),
    };
    let servers = servers.or_hint(|error| error.hint().to_owned())?;
    Ok(Box::new(ServerSink::connect(file, &servers).or_hint(SinkError::hint)?))
}

fn as_json(file: &NodeFile, report: &CaptureReport) -> serde_json::Value {
    let volume = |volume: &VolumeReport| {
        json!({
            "volume": volume.name, "entry_count": volume.entry_count, "stream_bytes": volume.stream_bytes,
            "vanished_count": volume.vanished_count, "skipped_socket_count": volume.skipped_socket_count,
        })
    };
    let warning = |warning: &Warning| json!({ "path": warning.path, "what": warning.to_string() });
    json!({
        "node": file.node, "snapshot": report.snapshot, "sequence": report.sequence, "manifest": report.manifest,
        "volumes": report.volumes.iter().map(volume).collect::<Vec<_>>(),
        "read_bytes": report.read_bytes, "chunk_count": report.chunk_count,
        "new_chunk_count": report.new_chunk_count, "uploaded_bytes": report.uploaded_bytes,
        "elapsed_ms": report.elapsed.as_millis() as u64,
        "warnings": report.warnings.iter().map(warning).collect::<Vec<_>>(),
        "unlisted_warning_count": report.unlisted_warning_count,
    })
}

fn print(file: &NodeFile, report: &CaptureReport) {
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    if report.unlisted_warning_count > 0 {
        eprintln!("warning: {} more warnings", report.unlisted_warning_count);
    }
    for volume in &report.volumes {
        println!("{:<24} {:>10}  {:>8} entries", volume.name, volume.stream_bytes.to_string(), volume.entry_count);
    }
    let seconds = report.elapsed.as_secs_f64().max(0.001);
    println!(
        "{}@{} (number {}): {} read in {seconds:.1} s ({:.1} MB/s), {} of {} chunks new, {} uploaded",
        file.node,
        report.snapshot,
        report.sequence,
        report.read_bytes,
        report.read_bytes.get() as f64 / 1e6 / seconds,
        report.new_chunk_count,
        report.chunk_count,
        report.uploaded_bytes,
    );
}
