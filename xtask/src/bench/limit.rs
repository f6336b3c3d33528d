//! What no restore can be faster than on this machine, measured in the same run.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use super::disk::{Target, blank_image, text};
use super::files::FileServer;
use super::measured::{cpu_seconds, flush, measure};
use super::peers::Ground;
use super::statistics::Summary;
use crate::command;

/// What is written and hashed at once.
const PIECE_BYTES: usize = 1 << 20;
/// What TLS carries in one record.
const TLS_RECORD_BYTES: &str = "16384";

/// The parts of the limit, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Limit {
    /// Writing the same bytes, one after another, to one file of the same filesystem, flushed.
    pub(super) device: f64,
    /// Bringing the same bytes over the link.
    pub(super) link: f64,
    /// Processor seconds that cannot be saved.
    pub(super) cpu: Cpu,
    /// How many processors share them.
    pub(super) cores: f64,
}

/// Processor seconds of one processor.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Cpu {
    /// zstd, decoding.
    pub(super) decode: f64,
    /// BLAKE3 over the content.
    pub(super) hash: f64,
    /// AES-GCM over the stored bytes, at both ends.
    pub(super) tls: f64,
    /// Opening, writing, owning and closing each file.
    pub(super) create: f64,
}

impl Cpu {
    fn sum(&self) -> f64 {
        self.decode + self.hash + self.tls + self.create
    }
}

impl Limit {
    /// The processors' part: the work shared by all of them.
    pub(super) fn cpu_seconds(&self) -> f64 {
        self.cpu.sum() / self.cores.max(1.0)
    }

    /// The limit, and what sets it.
    pub(super) fn binding(&self) -> (f64, &'static str) {
        let parts = [(self.device, "device"), (self.link, "link"), (self.cpu_seconds(), "processors")];
        parts.into_iter().max_by(|one, other| one.0.total_cmp(&other.0)).expect("there are three")
    }

    /// The medians of several.
    pub(super) fn median(all: &[Self]) -> Option<Self> {
        let of = |pick: fn(&Self) -> f64| Summary::of(all.iter().map(pick)).map(|summary| summary.median);
        Some(Self {
            device: of(|limit| limit.device)?,
            link: of(|limit| limit.link)?,
            cpu: Cpu {
                decode: of(|limit| limit.cpu.decode)?,
                hash: of(|limit| limit.cpu.hash)?,
                tls: of(|limit| limit.cpu.tls)?,
                create: of(|limit| limit.cpu.create)?,
            },
            cores: of(|limit| limit.cores)?,
        })
    }

    pub(super) fn as_json(&self) -> Value {
        let (seconds, bound_by) = self.binding();
        json!({
            "seconds": seconds, "bound_by": bound_by, "device_seconds": self.device, "link_seconds": self.link,
            "cores": self.cores, "cpu_seconds": {
                "decode": self.cpu.decode, "hash": self.cpu.hash, "tls": self.cpu.tls, "create": self.cpu.create,
            },
        })
    }

    pub(super) fn text(&self) -> String {
        let (seconds, bound_by) = self.binding();
        let Cpu { decode, hash, tls, create } = self.cpu;
        let parts = format!("decode {decode:.2} + hash {hash:.2} + TLS {tls:.2} + create {create:.2}");
        let cpu = format!("processors {:.2} ({parts}, on {:.0} cores)", self.cpu_seconds(), self.cores);
        format!("limit {seconds:.2} s, set by: {bound_by}; device {:.2}, link {:.2}, {cpu}", self.device, self.link)
    }
}

/// Measures all parts for a restore that fetches `moved_bytes`. `make` gives an empty filesystem each time.
pub(super) fn measure_parts(ground: &Ground, moved_bytes: u64, make: &dyn Fn() -> Result<Target>) -> Result<Limit> {
    let skeleton = Skeleton::of(ground.source)?;
    let archive = ground.archive();
    let decode = measure(&["zstd", "-dc", text(&archive)], ground.stores, None, ground.log)?.cpu_seconds;
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let bytes = skeleton.content_bytes();
    let cpu = Cpu { decode, hash: hash(bytes)?, tls: 2.0 * tls(moved_bytes)?, create: skeleton.create(&make()?)? };
    Ok(Limit { device: write_one_file(&make()?, bytes)?, link: fetch(ground, moved_bytes)?, cpu, cores })
}

/// How long curl takes for as many bytes over the same link.
fn fetch(ground: &Ground, bytes: u64) -> Result<f64> {
    const NAME: &str = "as-many-bytes";
    let file = ground.stores.join(NAME);
    blank_image(&file, bytes)?;
    let server = FileServer::start(ground.stores, ground.link)?;
    let url = format!("{}/{NAME}", server.url);
    let cost = measure(&["curl", "--silent", "--show-error", "--fail", &url], ground.stores, None, ground.log)?;
    fs::remove_file(&file)?;
    Ok(cost.seconds)
}

/// Processor seconds of this process.
fn own_cpu() -> Result<f64> {
    Ok(cpu_seconds(&getrusage(UsageWho::RUSAGE_SELF)?))
}

fn write_one_file(target: &Target, bytes: u64) -> Result<f64> {
    let piece = vec![0xA5; PIECE_BYTES];
    let began = Instant::now();
    let mut file = File::create(target.root().join("one"))?;
    let mut left = bytes as usize;
    while left > 0 {
        let length = left.min(piece.len());
        file.write_all(&piece[..length]).context("the target is too small")?;
        left -= length;
    }
    flush(target.root())?;
    Ok(began.elapsed().as_secs_f64())
}

fn hash(bytes: u64) -> Result<f64> {
    let piece = vec![0xA5; PIECE_BYTES];
    let before = own_cpu()?;
    let mut left = bytes as usize;
    let mut last = None;
    while left > 0 {
        let length = left.min(piece.len());
        last = Some(blake3::hash(&piece[..length]));
        left -= length;
    }
    std::hint::black_box(last);
    Ok(own_cpu()? - before)
}

/// Processor seconds of one end.
fn tls(bytes: u64) -> Result<f64> {
    let speed = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", TLS_RECORD_BYTES, "-evp", "aes-256-gcm"];
    let told = command::output(&speed)?;
    Ok(bytes as f64 / openssl_speed(&told).context("openssl speed tells nothing")?)
}

/// Bytes a second in what `openssl speed -mr` prints: `+F:25:AES-256-GCM:4815162342.00`.
fn openssl_speed(told: &str) -> Option<f64> {
    let line = told.lines().find(|line| line.starts_with("+F:"))?;
    line.rsplit(':').next()?.trim().parse().ok().filter(|speed| *speed > 0.0)
}

/// The directories and files of a tree, without content.
struct Skeleton {
    directories: Vec<PathBuf>,
    files: Vec<(PathBuf, u64)>,
}

impl Skeleton {
    fn of(root: &Path) -> Result<Self> {
        let mut skeleton = Self { directories: vec![PathBuf::new()], files: Vec::new() };
        let mut next = 0;
        while let Some(directory) = skeleton.directories.get(next).cloned() {
            next += 1;
            for entry in fs::read_dir(root.join(&directory))? {
                let entry = entry?;
                let (kind, path) = (entry.file_type()?, directory.join(entry.file_name()));
                if kind.is_dir() {
                    skeleton.directories.push(path);
                } else if kind.is_file() {
                    // What is sparse takes no time to write.
                    let metadata = entry.metadata()?;
                    skeleton.files.push((path, metadata.len().min(metadata.blocks() * 512)));
                }
            }
        }
        Ok(skeleton)
    }

    fn content_bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Processor seconds of making all of it, one after another, without flushing.
    fn create(&self, target: &Target) -> Result<f64> {
        let piece = vec![0xA5; PIECE_BYTES];
        let before = own_cpu()?;
        for directory in &self.directories {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(target.root().join(directory))?;
        }
        for (path, bytes) in &self.files {
            let mut file = File::options().write(true).create_new(true).mode(0o644).open(target.root().join(path))?;
            let mut left = *bytes as usize;
            while left > 0 {
                let length = left.min(piece.len());
                file.write_all(&piece[..length])?;
                left -= length;
            }
            fchown(&file, Some(0), Some(0))?;
        }
        Ok(own_cpu()? - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(device: f64, link: f64, decode: f64) -> Limit {
        Limit { device, link, cpu: Cpu { decode, hash: 1.0, tls: 0.5, create: 0.5 }, cores: 2.0 }
    }

    #[test]
    fn the_largest_part_sets_the_limit() {
        assert_eq!(limit(1.0, 2.0, 6.0).binding(), (4.0, "processors"));
        assert_eq!(limit(1.0, 9.0, 6.0).binding(), (9.0, "link"));
        assert_eq!(limit(10.0, 9.0, 6.0).binding(), (10.0, "device"));
    }

    #[test]
    fn each_part_has_its_own_median() {
        let median = Limit::median(&[limit(1.0, 0.0, 9.0), limit(3.0, 0.0, 1.0), limit(2.0, 0.0, 2.0)]).unwrap();
        assert_eq!((median.device, median.cpu.decode), (2.0, 2.0));
        assert!(Limit::median(&[]).is_none());
    }

    #[test]
    fn the_speed_of_openssl_is_read() {
        assert_eq!(openssl_speed("+H:16384\n+F:22:AES-256-GCM:4815162342.00\n"), Some(4_815_162_342.0));
        assert_eq!(openssl_speed("+F:22:AES-256-GCM:0.00"), None);
        assert_eq!(openssl_speed("usage: openssl"), None);
    }
}
