//! Tests of several modules together, on small real repositories.

mod crash;
mod documents;
mod export;
mod rescue;
mod verify;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use node_model::NodeName;
use tempfile::TempDir;

use crate::repository::{ObjectName, Repository};
use crate::testing::{self, node_name};

struct Bench {
    dir: TempDir,
    repository: Repository,
    node: NodeName,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = node_name();
        let repository = testing::repository(dir.path(), std::slice::from_ref(&node)).await;
        Self { dir, repository, node }
    }

    fn path(&self, object: &ObjectName) -> PathBuf {
        self.dir.path().join(object.to_string())
    }

    /// Inverts one byte of an object.
    fn flip(&self, object: &ObjectName, at: usize) {
        let path = self.path(object);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 0xff;
        fs::write(path, bytes).unwrap();
    }
}

fn is_installed(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|out| out.status.success())
}
