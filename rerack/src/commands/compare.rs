//! `rerack compare`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use linux_io::blockdev::Disk;
use linux_io::fs::{Comparison, Difference, Excludes, Expected, FsError, compare, hash_packed, open_root};
use linux_io::loopdev::{LoopDevice, LoopOptions};
use linux_io::mount::{MountOptions, Mounted, private_namespace};
use linux_io::partitions::{DeviceNode, PartitionPlace, announce};
use node_model::{
    Bytes, Content, DeviceKey, DeviceKind, Filesystem, Layout, PartitionTable, SectorSize, VolumeKind, VolumeName,
};
use restore_engine::data::{CatalogReadError, ProvenVolume};
use restore_engine::prove::ProvenSnapshot;
use serde_json::json;
use tokio::runtime::Runtime;

use super::target::NO_LOOP;
use crate::problem::{EXIT_FOUND, OrProblem, Outcome, Problem};
use crate::scratch::Scratch;
use crate::snapshot::{self, RepositoryOptions, SnapshotName};

/// Compare a tree or a restored image with a snapshot: every path and all its metadata.
///
/// Ends with exit code 3 if anything differs. Paths named by --except may differ; they are counted.
///
/// Example: rerack compare web-03 --image new.img --dir /srv/bundles
#[derive(clap::Args)]
pub(crate) struct Options {
    /// NODE (its newest snapshot) or NODE@SNAPSHOT.
    snapshot: SnapshotName,
    /// The root of a mounted filesystem, compared with one volume.
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    root: Option<PathBuf>,
    /// The volume of the root.
    #[arg(long, default_value = "root")]
    volume: VolumeName,
    /// The image of a restored disk: all its filesystems are compared. They are mounted read-only.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Which captured disk the image is of.
    #[arg(long, default_value = "disk0")]
    disk: DeviceKey,
    /// A path in the node that may differ; may be given several times.
    #[arg(long, value_name = "PATH")]
    except: Vec<String>,
    #[command(flatten)]
    repository: RepositoryOptions,
    /// Print JSON: one object a line, for each volume.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let runtime = snapshot::runtime()?;
    let repository = snapshot::open(&runtime, &options.repository.dir)?;
    let proven = snapshot::load_proven(&runtime, &repository, &options.snapshot)?;
    let comparer = Comparer {
        runtime: &runtime,
        source: &repository,
        proven: &proven,
        except: &options.except,
        json: options.json,
    };
    let different = match (&options.root, &options.image) {
        (Some(root), _) => comparer.tree(&options.volume, root)?,
        (None, Some(image)) => comparer.image(image, &options.disk)?,
        (None, None) => 0,
    };
    Ok(if different == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
}

struct Comparer<'a> {
    runtime: &'a Runtime,
    source: &'a bundle::repository::Repository,
    proven: &'a ProvenSnapshot,
    except: &'a [String],
    json: bool,
}

/// A filesystem of the image.
struct OnImage<'a> {
    volume: &'a VolumeName,
    filesystem: &'a Filesystem,
    /// Where the node mounts it.
    node_path: String,
    place: PartitionPlace,
}

impl Comparer<'_> {
    /// Compares one tree with one volume and prints the differences. Returns how many there are.
    fn tree(&self, name: &VolumeName, root: &Path) -> Result<u64, Problem> {
        let node_path = node_path(&self.proven.snapshot.manifest().spec.mounts, self.device_of(name)?);
        self.compare(name, &node_path, root)
    }

    fn device_of(&self, name: &VolumeName) -> Result<&DeviceKey, Problem> {
        let manifest = self.proven.snapshot.manifest();
        let files = |volume: &&bundle::manifest::ManifestVolume| {
            volume.volume.name == *name && matches!(volume.volume.volume, VolumeKind::Files { .. })
        };
        manifest.volumes.iter().find(files).map(|volume| &volume.volume.device).ok_or_else(|| {
            Problem::words(format!("the snapshot has no volume of files named `{name}`"), "see `rerack list NODE`")
        })
    }

    fn compare(&self, name: &VolumeName, node_path: &str, root: &Path) -> Result<u64, Problem> {
        let volume: &ProvenVolume = self.proven.volume(name).expect("its device was found in the same manifest");
        let expected = volume.entries(self.source, self.runtime.handle()).map(|entry| {
            entry.map_err(CompareError::from).map(|held| Expected {
                content_hash: held.placed.content_hash.map(|hash| *hash.as_bytes()),
                entry: held.entry,
                allocated: None,
            })
        });
        let root = open_root(root).or_hint(|error| error.hint().map(str::to_owned))?;
        let found: Comparison = compare(expected, root, Excludes::default(), &|entry, file| hash_packed(entry, file))
            .or_hint(|_: &CompareError| None::<String>)?;
        let (excepted, wrong): (Vec<&Difference>, Vec<&Difference>) =
            found.differences.iter().partition(|difference| self.is_excepted(node_path, difference));
        let count = wrong.len() as u64 + found.unlisted_count;
        if self.json {
            let difference = |difference: &&Difference| {
                json!({
                    "path": String::from_utf8_lossy(&difference.path), "what": difference.what(),
                    "text": difference.to_string(),
                })
            };
            let differences: Vec<_> = wrong.iter().map(difference).collect();
            let line = json!({
                "volume": name, "path_count": found.entry_count, "file_count": found.file_count,
                "content_bytes": found.content_bytes, "difference_count": count, "excepted_count": excepted.len(),
                "differences": differences,
            });
            println!("{line}");
            return Ok(count);
        }
        for difference in &wrong {
            println!("{name}: {difference}");
        }
        println!(
            "{name}: {} paths, {} in {} files compared: {count} differences, {} excepted",
            found.entry_count,
            Bytes(found.content_bytes),
            found.file_count,
            excepted.len()
        );
        Ok(count)
    }

    fn is_excepted(&self, node_path: &str, difference: &Difference) -> bool {
        let path = format!("{}/{}", node_path.trim_end_matches('/'), String::from_utf8_lossy(&difference.path));
        self.except.contains(&path)
    }

    /// Mounts all filesystems of a disk's image read-only, one after another, and compares each.
    fn image(&self, image: &Path, disk: &DeviceKey) -> Result<u64, Problem> {
        private_namespace().or_hint(|error| error.hint())?;
        let found = self.on_image(disk)?;
        let attached = LoopDevice::attach(image, LoopOptions::default()).or_hint(|_| NO_LOOP.to_owned())?;
        let opened = Disk::open(attached.path()).or_hint(|error| error.hint())?;
        let identity = opened.identity().clone();
        let claimed = opened.into_idle().and_then(|idle| idle.claim(&identity)).or_hint(|error| error.hint())?;
        let places: Vec<PartitionPlace> = found.iter().map(|one| one.place).collect();
        let known = announce(&claimed, &places).or_hint(|error| error.hint())?;
        let scratch = Scratch::new()?;
        let work = scratch.path();
        let mut different = 0;
        for (one, known) in found.iter().zip(known) {
            let fstype = one.filesystem.type_name();
            let target = work.join(one.volume.as_str());
            let node = std::fs::create_dir_all(&target)
                .and_then(|()| DeviceNode::create(&work.join("dev"), one.volume.as_str(), known.device))
                .map_err(|error| Problem::new(error, None))?;
            // Nothing is replayed: a filesystem that was unmounted cleanly needs it not, another one differs.
            let data = match fstype {
                "ext3" | "ext4" => "noload",
                "xfs" => "norecovery,nouuid",
                _ => "",
            };
            match Mounted::new(
                node.path(),
                &target,
                fstype,
                MountOptions { read_only: true, data, ..Default::default() },
            ) {
                Ok(mounted) => {
                    different += self.compare(one.volume, &one.node_path, &target)?;
                    mounted.unmount().or_hint(|error| error.hint())?;
                }
                Err(error) if error.is_unknown_filesystem() => {
                    eprintln!("warning: {}: not compared, this kernel knows no {fstype}", one.volume);
                }
                Err(error) => return Err(Problem::new(error, None)),
            }
        }
        linux_io::partitions::withdraw(&claimed).or_hint(|error| error.hint())?;
        Ok(different)
    }

    /// The captured filesystems of a disk, with their places.
    fn on_image(&self, disk: &DeviceKey) -> Result<Vec<OnImage<'_>>, Problem> {
        let manifest = self.proven.snapshot.manifest();
        let layout: &Layout = &manifest.spec.layout;
        let unknown = || Problem::words(format!("the snapshot has no disk `{disk}` with a GPT"), "see `rerack plan`");
        let captured = layout.get(disk).ok_or_else(unknown)?;
        let (DeviceKind::Disk { sector_size_bytes, .. }, Content::Table { table: PartitionTable::Gpt(gpt) }) =
            (&captured.device, &captured.content)
        else {
            return Err(unknown());
        };
        let volumes = manifest.volumes.iter().map(|volume| &volume.volume);
        let found = volumes.filter(|volume| matches!(volume.volume, VolumeKind::Files { .. })).filter_map(|volume| {
            let device = layout.get(&volume.device)?;
            let (DeviceKind::Partition { disk: on, number }, Content::Filesystem { filesystem }) =
                (&device.device, &device.content)
            else {
                return None;
            };
            let entry = gpt.partitions.iter().find(|entry| on == disk && entry.number == *number)?;
            let place = place(*number, entry, *sector_size_bytes)?;
            let node_path = node_path(&manifest.spec.mounts, &volume.device);
            Some(OnImage { volume: &volume.name, filesystem, node_path, place })
        });
        Ok(found.collect())
    }
}

fn place(number: u32, entry: &node_model::GptPartition, sector: SectorSize) -> Option<PartitionPlace> {
    let length = (entry.last_lba.0 + 1).checked_sub(entry.first_lba.0)?.checked_mul(sector.get())?;
    Some(PartitionPlace { number, start: entry.first_lba.start_byte(sector)?, length: Bytes(length) })
}

fn node_path(mounts: &[node_model::Mount], device: &DeviceKey) -> String {
    let mount = mounts.iter().find(|mount| mount.device.as_ref() == Some(device));
    mount.map_or_else(|| "/".to_owned(), |mount| mount.target.clone())
}

/// What ends a comparison.
#[derive(Debug, thiserror::Error)]
enum CompareError {
    #[error(transparent)]
    Catalog(#[from] CatalogReadError),
    #[error(transparent)]
    Fs(#[from] FsError),
}
