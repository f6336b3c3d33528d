//! `rerack compare`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use linux_io::blockdev::Disk;
use linux_io::fs::{
    Comparison, Difference, DifferenceKind, Excludes, Expected, FsError, compare, hash_packed, open_root,
};
use linux_io::loopdev::{LoopDevice, LoopOptions};
use linux_io::mount::{MountOptions, Mounted, private_namespace};
use linux_io::partitions::{DeviceNode, PartitionPlace, announce};
use node_model::{
    Bytes, Content, DeviceKey, DeviceKind, Filesystem, Layout, PartitionTable, SectorSize, VolumeKind, VolumeName,
};
use restore_engine::data::{CatalogReadError, ProvenVolume};
use restore_engine::prove::ProvenSnapshot;
use restore_plan::{KeptLog, Plan, Step};
use serde_json::json;
use tokio::runtime::Runtime;

use super::target::NO_LOOP;
use crate::problem::{EXIT_FOUND, OrProblem, Outcome, Problem};
use crate::scratch::Scratch;
use crate::snapshot::{self, RepositoryOptions, SnapshotName};

/// Compare a tree or a restored image with a snapshot: every path and all its metadata.
///
/// Ends with exit code 3 if anything differs. The log that the restore left may be there; paths named by --except, and
/// those that a plan changes (`rerack plan --json`), may differ. Each such difference is listed with its reason.
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
    /// The plan of the restore as JSON: what it changes may differ.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// A volume of the image that is not compared; may be given several times.
    #[arg(long, value_name = "VOLUME", requires = "image")]
    skip: Vec<VolumeName>,
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
    let allowances = Allowances::new(&proven, &options.except, options.plan.as_deref())?;
    let comparer = Comparer { runtime: &runtime, source: &repository, proven: &proven, allowances, json: options.json };
    let different = match (&options.root, &options.image) {
        (Some(root), _) => comparer.tree(&options.volume, root)?,
        (None, Some(image)) => comparer.image(image, &options.disk, &options.skip)?,
        (None, None) => 0,
    };
    Ok(if different == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
}

struct Comparer<'a> {
    runtime: &'a Runtime,
    source: &'a bundle::repository::Repository,
    proven: &'a ProvenSnapshot,
    allowances: Allowances,
    json: bool,
}

/// Differences that are as they should be.
struct Allowances {
    /// Paths in the node that a person named.
    named: Vec<String>,
    /// Paths of a device that the restore changes or adds.
    planned: Vec<Planned>,
}

/// One path that a restore changes or adds.
struct Planned {
    device: DeviceKey,
    path: String,
    /// Whether it may be there although it was not captured, and must be as captured otherwise.
    new_only: bool,
    reason: String,
}

impl Allowances {
    fn new(proven: &ProvenSnapshot, named: &[String], plan: Option<&Path>) -> Result<Self, Problem> {
        let manifest = proven.snapshot.manifest();
        let volumes = restore_engine::planning::volumes(proven);
        let log = KeptLog::of(&manifest.spec, &volumes, &manifest.snapshot);
        let logs = log.iter().flat_map(|log| {
            log.added().into_iter().map(|path| Planned {
                device: log.device.clone(),
                path,
                new_only: true,
                reason: "the log of the restore".to_owned(),
            })
        });
        let mut planned: Vec<Planned> = logs.collect();
        if let Some(path) = plan {
            let plan = read_plan(path)?;
            if plan.source.snapshot != manifest.snapshot {
                let what = format!("{} is the plan of a restore of snapshot {}", path.display(), plan.source.snapshot);
                return Err(Problem::words(what, format!("this is snapshot {}", manifest.snapshot)));
            }
            planned.extend(plan.steps.iter().flat_map(changed_by));
        }
        Ok(Self { named: named.to_vec(), planned })
    }

    /// Why a difference is as it should be; `None` if it is not.
    fn reason(&self, device: &DeviceKey, node_path: &str, difference: &Difference) -> Option<&str> {
        let path = String::from_utf8_lossy(&difference.path);
        if self.named.contains(&format!("{}/{path}", node_path.trim_end_matches('/'))) {
            return Some("named by --except");
        }
        let allows = |planned: &&Planned| {
            let fits = !planned.new_only || difference.kind == DifferenceKind::Extra;
            fits && planned.device == *device && planned.path == path
        };
        self.planned.iter().find(allows).map(|planned| planned.reason.as_str())
    }
}

fn read_plan(path: &Path) -> Result<Plan, Problem> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_slice(&bytes).with_context(|| format!("{} is no plan", path.display()))?)
}

/// What a step of a plan changes besides what was captured.
fn changed_by(step: &Step) -> Vec<Planned> {
    let planned = |device: &DeviceKey, path: &str, reason: &str| Planned {
        device: device.clone(),
        path: path.to_owned(),
        new_only: false,
        reason: reason.to_owned(),
    };
    match step {
        Step::Adapt(adaptation) => vec![planned(&adaptation.device, &adaptation.path, &adaptation.reason)],
        Step::EnsureFallbackLoader { device, copies } => {
            let paths = copies.iter().flat_map(|copy| {
                // A file that is added changes the times of the directory it is added to.
                let parents = copy.to.match_indices('/').map(|(at, _)| &copy.to[..at]);
                parents.chain([copy.to.as_str()])
            });
            paths.map(|path| planned(device, path, "firmware without a boot entry finds a loader there")).collect()
        }
        _ => Vec::new(),
    }
}

/// A filesystem of the image.
struct OnImage<'a> {
    volume: &'a VolumeName,
    device: &'a DeviceKey,
    filesystem: &'a Filesystem,
    place: PartitionPlace,
}

impl Comparer<'_> {
    /// Compares one tree with one volume and prints the differences. Returns how many there are.
    fn tree(&self, name: &VolumeName, root: &Path) -> Result<u64, Problem> {
        self.compare(name, self.device_of(name)?, root)
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

    fn compare(&self, name: &VolumeName, device: &DeviceKey, root: &Path) -> Result<u64, Problem> {
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
        let node_path = node_path(&self.proven.snapshot.manifest().spec.mounts, device);
        let (mut allowed, mut wrong) = (Vec::new(), Vec::new());
        for difference in &found.differences {
            match self.allowances.reason(device, &node_path, difference) {
                Some(reason) => allowed.push((difference, reason)),
                None => wrong.push(difference),
            }
        }
        let count = wrong.len() as u64 + found.unlisted_count;
        if self.json {
            let difference = |difference: &&Difference| {
                json!({
                    "path": String::from_utf8_lossy(&difference.path), "what": difference.what(),
                    "text": difference.to_string(),
                })
            };
            let differences: Vec<_> = wrong.iter().map(difference).collect();
            let reasons = allowed.iter().map(|(excepted, reason)| {
                let mut line = difference(excepted);
                line["reason"] = json!(reason);
                line
            });
            let excepted: Vec<_> = reasons.collect();
            let line = json!({
                "volume": name, "path_count": found.entry_count, "file_count": found.file_count,
                "content_bytes": found.content_bytes, "difference_count": count, "excepted_count": excepted.len(),
                "differences": differences, "excepted": excepted,
            });
            println!("{line}");
            return Ok(count);
        }
        for difference in &wrong {
            println!("{name}: {difference}");
        }
        for (difference, reason) in &allowed {
            println!("{name}: {difference}; allowed: {reason}");
        }
        println!(
            "{name}: {} paths, {} in {} files compared: {count} differences, {} excepted",
            found.entry_count,
            Bytes(found.content_bytes),
            found.file_count,
            allowed.len()
        );
        Ok(count)
    }

    /// Mounts all filesystems of a disk's image read-only, one after another, and compares each.
    fn image(&self, image: &Path, disk: &DeviceKey, skip: &[VolumeName]) -> Result<u64, Problem> {
        private_namespace().or_hint(|error| error.hint())?;
        let found = self.on_image(disk)?;
        if let Some(unknown) = skip.iter().find(|name| !found.iter().any(|one| one.volume == *name)) {
            let known: Vec<&str> = found.iter().map(|one| one.volume.as_str()).collect();
            let hint = format!("{disk} has {}", known.join(", "));
            return Err(Problem::words(format!("there is no volume `{unknown}` to skip"), hint));
        }
        let attached = LoopDevice::attach(image, LoopOptions::default()).or_hint(|_| NO_LOOP.to_owned())?;
        let opened = Disk::open(attached.path()).or_hint(|error| error.hint())?;
        let identity = opened.identity().clone();
        let claimed = opened.into_idle().and_then(|idle| idle.claim(&identity)).or_hint(|error| error.hint())?;
        let places: Vec<PartitionPlace> = found.iter().map(|one| one.place).collect();
        let known = announce(&claimed, &places).or_hint(|error| error.hint())?;
        let scratch = Scratch::new()?;
        let work = scratch.path();
        let (mut different, mut unread) = (0, Vec::new());
        for (one, known) in found.iter().zip(known).filter(|(one, _)| !skip.contains(one.volume)) {
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
                    different += self.compare(one.volume, one.device, &target)?;
                    mounted.unmount().or_hint(|error| error.hint())?;
                }
                Err(error) if error.is_unknown_filesystem() => unread.push((one.volume, fstype)),
                Err(error) => return Err(Problem::new(error, None)),
            }
        }
        linux_io::partitions::withdraw(&claimed).or_hint(|error| error.hint())?;
        // What was not looked at is not equal.
        not_compared(&unread).map_or(Ok(different), Err)
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
            Some(OnImage { volume: &volume.name, device: &device.key, filesystem, place })
        });
        Ok(found.collect())
    }
}

/// The complaint about volumes that this kernel cannot mount.
fn not_compared(unread: &[(&VolumeName, &str)]) -> Option<Problem> {
    let (_, fstype) = unread.first()?;
    let names: Vec<String> = unread.iter().map(|(volume, fstype)| format!("{volume} ({fstype})")).collect();
    let skip: Vec<String> = unread.iter().map(|(volume, _)| format!("--skip {volume}")).collect();
    Some(Problem::words(
        format!("this kernel cannot mount, so it was not compared: {}", names.join(", ")),
        format!("load the module `{fstype}`, or leave it out with {}", skip.join(" ")),
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_compared_is_not_equal() {
        assert!(not_compared(&[]).is_none());
        let (esp, old): (VolumeName, VolumeName) = ("boot-efi".parse().unwrap(), "srv-old".parse().unwrap());
        let problem = not_compared(&[(&esp, "vfat"), (&old, "jfs")]).unwrap();
        assert_eq!(
            problem.to_string(),
            "this kernel cannot mount, so it was not compared: boot-efi (vfat), srv-old (jfs)"
        );
    }
}
