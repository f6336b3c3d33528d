//! Reads back what was written, from the medium and not from the cache.

use bundle::Hash;
use linux_io::fs::{Difference, DifferenceKind, Excludes, Expected, compare, hash_packed, open_root};
use node_model::{DeviceKey, VolumeName};
use restore_plan::{ByteRange, Plan, Step};

use super::adapt::read_file;
use super::{LiveMachine, StepError};

/// Differences that an error names; more are counted.
const NAMED_MAX: usize = 5;

impl LiveMachine {
    /// Compares every path of a volume with the catalog, but for those the plan says differ or come new; adapted files
    /// are compared with what they should have become.
    pub(super) fn verify_files(
        &self,
        plan: &Plan,
        volume: &VolumeName,
        device: &DeviceKey,
        (except, added): (&[String], &[String]),
    ) -> Result<(), StepError> {
        let root = self.mounted(device)?;
        let proven = self.volume(volume)?;
        let expected = proven.entries(&*self.work.source, &self.work.runtime).map(|entry| {
            entry.map(|held| Expected {
                content_hash: held.placed.content_hash.map(|hash| *hash.as_bytes()),
                entry: held.entry,
                allocated: None,
            })
        });
        let compared = compare::<VerifyError>(
            expected.map(|entry| Ok(entry?)),
            open_root(root)?,
            Excludes::default(),
            &|entry, file| {
                let hash = hash_packed(entry, file);
                self.work.meter.verified(entry.stored_bytes());
                hash
            },
        );
        let found = compared.map_err(VerifyError::into_step)?;
        let names = |paths: &[String], difference: &Difference| {
            paths.iter().any(|path| path.as_bytes() == &difference.path[..])
        };
        let is_excepted = |difference: &&Difference| {
            names(except, difference) || difference.kind == DifferenceKind::Extra && names(added, difference)
        };
        let mut wrong: Vec<String> =
            found.differences.iter().filter(|difference| !is_excepted(difference)).map(ToString::to_string).collect();
        for step in &plan.steps {
            let Step::Adapt(adaptation) = step else { continue };
            if adaptation.device != *device || !except.contains(&adaptation.path) {
                continue;
            }
            let content = read_file(root, adaptation.path.as_bytes())?.map(|(_, content)| content);
            let kept = |content: &Vec<u8>| Hash::of(content).as_bytes()[..] == adaptation.old_blake3.0[..];
            if content.as_ref().is_some_and(|content| *content != adaptation.new_content.0 && kept(content)) {
                wrong.push(format!("{} was not adapted", adaptation.node_path));
            }
        }
        let count = wrong.len() as u64 + found.unlisted_count;
        read_back(volume, count, wrong)
    }

    /// Compares a raw region with its chunks' hashes.
    pub(super) fn verify_raw(
        &mut self,
        plan: &Plan,
        volume: &VolumeName,
        device: &DeviceKey,
        range: ByteRange,
    ) -> Result<(), StepError> {
        let rows = self.volume(volume)?.rows.clone();
        let (disk, place) = self.place(plan, device)?;
        disk.flush()?;
        disk.drop_cache()?;
        let start = place.offset_bytes.get() + range.offset_bytes.get();
        let mut wrong = Vec::new();
        for row in rows.iter() {
            let mut content = vec![0; row.content_len as usize];
            disk.read_at(&mut content, start + row.packed_offset)?;
            if Hash::of(&content) != row.hash {
                wrong.push(format!("{} bytes at byte {}", row.content_len, start + row.packed_offset));
            }
        }
        read_back(volume, wrong.len() as u64, wrong)
    }
}

fn read_back(volume: &VolumeName, count: u64, mut wrong: Vec<String>) -> Result<(), StepError> {
    if count == 0 {
        return Ok(());
    }
    wrong.truncate(NAMED_MAX);
    Err(StepError::ReadBack { volume: volume.clone(), count, examples: wrong })
}

/// What ends a comparison: the catalog or the filesystem.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error(transparent)]
    Catalog(#[from] crate::data::CatalogReadError),
    #[error(transparent)]
    Fs(#[from] linux_io::fs::FsError),
}

impl VerifyError {
    fn into_step(self) -> StepError {
        match self {
            Self::Catalog(error) => StepError::Catalog(error),
            Self::Fs(error) => StepError::Fs(error),
        }
    }
}
