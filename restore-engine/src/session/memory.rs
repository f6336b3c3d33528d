//! What let this machine in, kept from the first write until the restore is done: an engine that is started again
//! goes on by itself, as a machine does that was told everything by its kernel arguments.
//!
//! The file lies in memory beside the settings, which hold the code just as well where it came as an argument. The
//! code is of no use to another machine by then.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use restore_events::Secret;
use serde::{Deserialize, Serialize};

use super::connect::Access;

const FILE_NAME: &str = "access.json";
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The place of the file.
#[derive(Debug, Clone)]
pub(super) struct Memory(PathBuf);

#[derive(Serialize, Deserialize)]
struct Kept {
    servers: String,
    code: Secret,
    /// The plan that was consented to: the disks cannot have been booted since, or this file would be gone.
    plan_digest: String,
}

impl Memory {
    /// In the directory of the screens' socket.
    pub(super) fn beside(socket: &Path) -> Self {
        Self(socket.with_file_name(FILE_NAME))
    }

    /// Fills in what is not known, if an earlier engine left it, and gives the digest of the plan that it was at.
    pub(super) fn recall(&self, access: &mut Access) -> Option<String> {
        let kept = self.read()?;
        access.servers.get_or_insert(kept.servers);
        access.code.get_or_insert(kept.code);
        Some(kept.plan_digest)
    }

    fn read(&self) -> Option<Kept> {
        let mut bytes = Vec::new();
        File::open(&self.0).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps what let this machine in, and the plan that was consented to.
    pub(super) fn keep(&self, access: &Access, plan_digest: String) -> io::Result<()> {
        let (Some(servers), Some(code)) = (access.servers.clone(), access.code.clone()) else { return Ok(()) };
        let new = self.0.with_extension("new");
        // Whatever an interrupted write left is replaced, never opened: it could have another mode.
        self.remove(&new)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&Kept { servers, code, plan_digest })?)?;
        fs::rename(&new, &self.0)
    }

    /// Forgets it.
    pub(super) fn forget(&self) -> io::Result<()> {
        self.remove(&self.0)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn access(servers: Option<&str>, code: Option<&str>) -> Access {
        Access::new(servers.map(str::to_owned), code.map(|code| Secret(code.to_owned())))
    }

    #[test]
    fn the_next_engine_knows_what_the_killed_one_was_told() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::beside(&directory.path().join("engine.sock"));
        let told = access(Some("https://10.0.2.2:8443"), Some("ABCD-EFGH-JKMN-PQRS-TVWX"));
        fs::write(directory.path().join("access.new"), "half of what an engine wrote before it was killed").unwrap();
        memory.keep(&told, "d1".to_owned()).unwrap();
        let mode = fs::metadata(directory.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the code is root's alone");

        let mut next = access(None, None);
        assert_eq!(memory.recall(&mut next).as_deref(), Some("d1"));
        assert_eq!((next.servers, next.code), (told.servers.clone(), told.code.clone()));
        let mut given = access(Some("https://other:8443"), None);
        memory.recall(&mut given);
        assert_eq!(given.servers.as_deref(), Some("https://other:8443"), "an argument is not overruled");

        memory.forget().unwrap();
        let mut later = access(None, None);
        assert_eq!(memory.recall(&mut later), None);
        assert_eq!((later.servers, later.code), (None, None), "what is done is forgotten");
        memory.forget().unwrap();
    }

    #[test]
    fn what_is_unknown_is_asked_for_and_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::beside(&directory.path().join("engine.sock"));
        memory.keep(&access(Some("https://10.0.2.2:8443"), None), "d1".to_owned()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        fs::write(directory.path().join(FILE_NAME), "{\"servers\": 7}").unwrap();
        let mut next = access(None, None);
        memory.recall(&mut next);
        assert_eq!((next.servers, next.code), (None, None));
    }
}
