//! One capture from beginning to end.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bundle::cut::CutVolume;
use bundle::manifest::{Manifest, ManifestVolume};
use bundle::sign::{NodeKey, SignContext};
use bundle::{Hash, manifest};
use linux_io::fs::{Excludes, open_bare_root, open_unmounted};
use linux_io::priority;
use node_model::{Bytes, Consistency, Content, DeviceKind, NodeSpec, SnapshotId, Volume, VolumeKind};

use crate::files::{FilesReader, FilesVolume};
use crate::pipeline::{Intake, Pipeline};
use crate::progress::{CaptureProgress, Counters, Stage};
use crate::report::{CaptureReport, VolumeReport, WarningKind, Warnings};
use crate::source::{FilesRoot, SourceKind, VolumeSource};
use crate::{CaptureError, CaptureOptions, Sink, raw};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// What is captured.
#[derive(Debug)]
pub struct CaptureRequest<'a> {
    /// What the scan found.
    pub spec: &'a NodeSpec,
    /// The volumes to read; see [`sources`](crate::sources).
    pub sources: &'a [VolumeSource],
    /// The node's key, which signs the manifest.
    pub key: &'a NodeKey,
    /// How.
    pub options: &'a CaptureOptions,
}

/// A volume that was read; its chunks are on their way.
struct ReadVolume {
    volume: Volume,
    cut: CutVolume,
    catalogs: Vec<Hash>,
    vanished_count: u64,
}

/// Captures a node into a repository. It blocks until the snapshot is committed, and tells `progress` about four times
/// a second how far it is. It must not be called from an async task.
pub fn capture(
    request: &CaptureRequest<'_>,
    sink: &dyn Sink,
    progress: &(dyn Fn(&CaptureProgress) + Sync),
) -> Result<CaptureReport, CaptureError> {
    let used = |filesystem: &node_model::Filesystem| filesystem.used_bytes.get();
    let expected = request.spec.layout.filesystems().map(|(_, filesystem)| used(filesystem)).sum();
    let counters = Counters::new(expected);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let teller = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                progress(&counters.now());
                std::thread::park_timeout(PROGRESS_INTERVAL);
            }
        });
        // A thread of its own, because priorities belong to threads: the caller keeps its own, the threads of the
        // pipeline inherit the lowered one.
        let worker = scope.spawn(|| {
            if request.options.lowered_priority {
                priority::lower();
            }
            run(request, sink, &counters)
        });
        let result = worker.join().unwrap_or(Err(CaptureError::BrokenOff));
        done.store(true, Ordering::Release);
        teller.thread().unpark();
        if result.is_ok() {
            counters.enter(Stage::Done);
        }
        progress(&counters.now());
        result
    })
}

fn run(request: &CaptureRequest<'_>, sink: &dyn Sink, counters: &Counters) -> Result<CaptureReport, CaptureError> {
    let started = Instant::now();
    let captured_at = jiff::Timestamp::now();
    let previous = sink.latest()?;
    let mut warnings = Warnings::default();
    warn_of_unknown_partitions(request.spec, request.sources, &mut warnings);
    let pipeline = Pipeline::new(sink, counters, request.options);
    let read = std::thread::scope(|scope| {
        let mut intake = pipeline.start(scope);
        let read = read_volumes(request, sink, counters, &mut warnings, &mut intake);
        counters.enter(Stage::Storing);
        // Dropping the intake lets the threads finish; the scope waits for them.
        read
    });
    // If the pipeline failed, the reader only knows that nobody takes its chunks.
    if let Some(error) = pipeline.take_failure() {
        return Err(error);
    }
    let read = read?;
    let hashes = pipeline.into_hashes();
    let mut volumes = Vec::new();
    let mut reports = Vec::new();
    for (index, ReadVolume { volume, cut, catalogs, vanished_count }) in read.into_iter().enumerate() {
        let mut lists = Vec::new();
        for segment in cut.list_segments(hashes.get(index).unwrap_or(&Default::default()))? {
            let name = Hash::of(&segment);
            sink.put_list(name, segment)?;
            lists.push(name);
        }
        let skipped_socket_count = match volume.volume {
            VolumeKind::Files { skipped_socket_count, .. } => skipped_socket_count,
            VolumeKind::Raw { .. } => 0,
        };
        reports.push(VolumeReport {
            name: volume.name.clone(),
            entry_count: cut.entry_count,
            stream_bytes: Bytes(cut.stream_bytes),
            vanished_count,
            skipped_socket_count,
        });
        volumes.push(ManifestVolume { volume, lists, catalogs });
    }
    counters.enter(Stage::Committing);
    let manifest = Manifest {
        format: manifest::v1::MANIFEST_FORMAT,
        requires: Vec::new(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        repository: sink.info().repository,
        node: sink.node().clone(),
        snapshot: random_id()?,
        captured_at,
        previous,
        spec: request.spec.clone(),
        volumes,
    };
    let bytes = manifest.to_json()?;
    let signature = request.key.sign(SignContext::Manifest, &bytes).to_json();
    let committed = sink.commit(&manifest.snapshot, bytes, signature)?;
    let counted = counters.now();
    Ok(CaptureReport {
        snapshot: manifest.snapshot,
        sequence: committed.receipt().sequence,
        manifest: committed.manifest_hash(),
        volumes: reports,
        read_bytes: counted.read_bytes,
        chunk_count: counted.chunk_count,
        new_chunk_count: counted.new_chunk_count,
        uploaded_bytes: counted.uploaded_bytes,
        elapsed: started.elapsed(),
        warnings: warnings.listed,
        unlisted_warning_count: warnings.unlisted_count,
    })
}

fn read_volumes(
    request: &CaptureRequest<'_>,
    sink: &dyn Sink,
    counters: &Counters,
    warnings: &mut Warnings,
    intake: &mut Intake<'_>,
) -> Result<Vec<ReadVolume>, CaptureError> {
    let mut volumes = Vec::new();
    let wanted = request.sources.iter().filter(|source| !is_excluded(source, &request.options.excludes));
    for (index, source) in wanted.enumerate() {
        counters.enter(Stage::Reading(source.name.clone()));
        let chunks = intake.of_volume(index);
        let (kind, read) = match &source.kind {
            SourceKind::Raw { path, base_bytes, offset_bytes, length_bytes } => {
                let (offset_bytes, length_bytes) = (*offset_bytes, *length_bytes);
                let at = (*base_bytes + offset_bytes).get();
                let cut = raw::read_raw(&source.name, path, at, length_bytes.get(), counters, chunks)?;
                (VolumeKind::Raw { offset_bytes, length_bytes }, (cut, Vec::new(), 0))
            }
            SourceKind::Files(root) => {
                let (prefix, fd) = open_files(source, root)?;
                let FilesVolume { cut, catalogs, file_count, content_bytes, vanished_count, skipped_socket_count } =
                    FilesReader {
                        volume: &source.name,
                        prefix,
                        accept_unreadable: &request.options.accept_unreadable,
                        sink,
                        counters,
                        warnings: &mut *warnings,
                    }
                    .read(
                        fd,
                        excludes_below(prefix, &request.options.excludes),
                        *sink.info().cut_key.as_bytes(),
                        request.options.level,
                        chunks,
                    )?;
                let entry_count = cut.entry_count;
                let content_bytes = Bytes(content_bytes);
                let kind = VolumeKind::Files { entry_count, file_count, content_bytes, skipped_socket_count };
                (kind, (cut, catalogs, vanished_count))
            }
        };
        let (cut, catalogs, vanished_count) = read;
        let volume = Volume {
            name: source.name.clone(),
            device: source.device.clone(),
            volume: kind,
            consistency: Consistency::Live,
            stream_bytes: Bytes(cut.stream_bytes),
        };
        volumes.push(ReadVolume { volume, cut, catalogs, vanished_count });
    }
    Ok(volumes)
}

/// Opens a filesystem without what is mounted on top of it. The string is what the node's absolute paths in it begin
/// with.
fn open_files<'s>(source: &VolumeSource, root: &'s FilesRoot) -> Result<(&'s str, OwnedFd), CaptureError> {
    match root {
        FilesRoot::Mounted { at, shown } => {
            let volume = source.name.clone();
            let fd = open_bare_root(at).map_err(|source| CaptureError::Volume { volume, source })?;
            Ok((shown.trim_end_matches('/'), fd))
        }
        FilesRoot::Unmounted { device, fstype } => {
            let fd = open_unmounted(device, fstype).map_err(|error| CaptureError::NotMounted {
                device: source.device.clone(),
                path: device.clone(),
                source: error,
            })?;
            Ok(("", fd))
        }
    }
}

/// The rules that concern a filesystem mounted at `prefix`, as paths below its root.
fn excludes_below(prefix: &str, rules: &[String]) -> Excludes {
    let below = |rule: &'_ String| {
        let rest = Path::new(rule.as_str()).strip_prefix(if prefix.is_empty() { "/" } else { prefix }).ok()?;
        Some(rest.to_string_lossy().into_owned())
    };
    let rules: Vec<String> = rules.iter().filter_map(below).collect();
    Excludes::new(rules.iter().map(String::as_bytes))
}

/// Whether a rule leaves out the directory a filesystem is mounted on, or one above it.
fn is_excluded(source: &VolumeSource, rules: &[String]) -> bool {
    let SourceKind::Files(FilesRoot::Mounted { shown, .. }) = &source.kind else { return false };
    let covers = |rule: &String| match rule.strip_suffix("/*") {
        Some(directory) => Path::new(shown) != directory && Path::new(shown).starts_with(directory),
        None => Path::new(shown).starts_with(rule),
    };
    shown != "/" && rules.iter().any(covers)
}

/// A partition that holds something unknown has no volume; whoever captures should hear it now, not at a restore.
fn warn_of_unknown_partitions(spec: &NodeSpec, sources: &[VolumeSource], warnings: &mut Warnings) {
    for device in &spec.layout.devices {
        let unknown = matches!(device.content, Content::Unknown | Content::Raw)
            && matches!(device.device, DeviceKind::Partition { .. });
        if unknown && !sources.iter().any(|source| source.device == device.key) {
            warnings.push(device.key.to_string(), WarningKind::NotCaptured);
        }
    }
}

/// A new snapshot's id: 16 random bytes.
fn random_id() -> Result<SnapshotId, CaptureError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(CaptureError::Randomness)?;
    Ok(node_model::HexBytes(bytes.to_vec()).to_string().parse()?)
}
