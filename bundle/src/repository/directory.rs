//! What is particular to a repository in a local directory.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use super::RepositoryError;

/// How old a half-written file must be before it is taken for one that a dead process left behind. No upload takes a
/// day, and room for them is not scarce.
const UNFINISHED_AGE_MIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The directories of a repository, made at once so that no later write has to make one of the shared ones durable.
const DIRECTORIES: [&str; 6] = ["nodes", "snapshots", "lists", "catalogs", "packs", "placement"];

/// A store over the directory that makes each object durable before it says that it wrote it.
pub(super) fn open_store(path: &Path) -> Result<Arc<dyn ObjectStore>, RepositoryError> {
    let store = LocalFileSystem::new_with_prefix(path).map_err(|source| RepositoryError::Store {
        action: "open",
        object: path.display().to_string(),
        source,
    })?;
    Ok(Arc::new(store.with_fsync(true)))
}

/// Makes the directories of a new repository, durably. They hold every file of every node, so they are their owner's
/// alone; the repository's own directory keeps its mode if it is there already.
pub(super) fn prepare(path: &Path) -> Result<(), RepositoryError> {
    let make_directory = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    let make = || -> io::Result<()> {
        make_directory(path)?;
        for name in DIRECTORIES {
            make_directory(&path.join(name))?;
        }
        let packs = path.join("packs");
        for first_byte in 0..=255u8 {
            make_directory(&packs.join(format!("{first_byte:02x}")))?;
        }
        File::open(packs)?.sync_all()?;
        File::open(path)?.sync_all()?;
        match path.canonicalize()?.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    make().map_err(|source| RepositoryError::Directory { action: "make", path: path.to_owned(), source })
}

/// Removes what processes that died while writing left behind. What cannot be removed is left: it harms nobody.
pub(super) fn sweep_unfinished(path: &Path) {
    let now = SystemTime::now();
    let mut waiting: Vec<_> = DIRECTORIES.iter().map(|name| path.join(name)).collect();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                Ok(kind) if kind.is_file() && is_unfinished(&entry, now) => {
                    let removed = fs::remove_file(entry.path());
                    tracing::info!(file = %entry.path().display(), ?removed, "swept an unfinished upload");
                }
                _ => {}
            }
        }
    }
}

fn is_unfinished(entry: &fs::DirEntry, now: SystemTime) -> bool {
    let name = entry.file_name();
    let staged = name
        .to_str()
        .and_then(|name| name.rsplit_once('#'))
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()));
    staged
        && entry
            .metadata()
            .and_then(|meta| meta.modified())
            .is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > UNFINISHED_AGE_MIN))
}

/// Flushes the directory that holds `path`.
pub(super) fn flush_parent(path: &Path) -> Result<(), RepositoryError> {
    let directory = path.parent().unwrap_or(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|source| RepositoryError::Directory {
        action: "flush",
        path: directory.to_owned(),
        source,
    })
}

/// Holds the lock that keeps two processes from giving two snapshots of a node the same sequence number. It is
/// released when the file is closed. Waiting for it happens beside the runtime: who holds it needs the runtime to go on.
pub(super) async fn lock_commits(directory: &Path) -> Result<File, RepositoryError> {
    let path = directory.join("commit.lock");
    let file = path.clone();
    let locked = tokio::task::spawn_blocking(move || -> io::Result<File> {
        let lock = File::options().create(true).truncate(false).write(true).open(file)?;
        lock.lock()?;
        Ok(lock)
    });
    let locked = locked.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    locked.map_err(|source| RepositoryError::Directory { action: "lock", path, source })
}
