//! Where machines are built: a cache of what is slow to make, a folder for what runs leave behind.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};

use crate::{Acceleration, Error, VmBuilder, host};

/// A cache folder, a run folder and what is known about this host.
#[derive(Debug)]
pub struct Lab {
    cache: PathBuf,
    run: PathBuf,
    acceleration: Cell<Acceleration>,
}

impl Lab {
    /// Opens a lab below this folder, making it if need be. The first time it probes how fast machines can run.
    pub fn new(cache: impl AsRef<Path>) -> Result<Self, Error> {
        let cache = cache.as_ref();
        let run = cache.join("run");
        fs::create_dir_all(&run).map_err(Error::file("make", &run))?;
        let cache = cache.canonicalize().map_err(Error::file("resolve", cache))?;
        let run = cache.join("run");
        let remembered = Acceleration::remembered(&cache);
        let lab = Lab { cache, run, acceleration: Cell::new(remembered.unwrap_or(Acceleration::Tcg)) };
        if remembered.is_none() {
            lab.acceleration.set(Acceleration::probe(&lab)?);
        }
        Ok(lab)
    }

    /// How machines of this lab run.
    pub fn acceleration(&self) -> Acceleration {
        self.acceleration.get()
    }

    /// Things that are slow to make, one folder for each recipe.
    pub fn cache_dir(&self) -> &Path {
        &self.cache
    }

    /// What machines leave behind: transcripts, messages, UEFI variables. Named after the machine, so a later machine
    /// of the same name replaces them.
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// Begins a machine. Names its files in the run folder.
    pub fn vm(&self, name: &str) -> VmBuilder {
        VmBuilder::new(self, name)
    }

    /// Makes a private copy of a prepared disk for one machine, sparse as the original.
    pub fn copy_disk(&self, from: &Path, name: &str) -> Result<PathBuf, Error> {
        let to = self.run.join(name);
        let mut copy = std::process::Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto", "--"]).arg(from).arg(&to);
        host::finish("cp", &mut copy)?;
        Ok(to)
    }

    /// The folder named `key`, made by `make` the first time. `make` fills a folder of another name that is renamed
    /// when it is complete, so an interrupted build leaves nothing that looks finished.
    pub(crate) fn cached(&self, key: &str, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<PathBuf, Error> {
        let path = self.cache.join(key);
        if path.is_dir() {
            return Ok(path);
        }
        let partial = tempfile::Builder::new()
            .prefix(&format!("{key}.partial."))
            .tempdir_in(&self.cache)
            .map_err(Error::file("make a folder in", &self.cache))?;
        make(partial.path())?;
        match fs::rename(partial.path(), &path) {
            Ok(()) => {
                // Renamed: there is nothing left to remove.
                let _ = partial.keep();
                Ok(path)
            }
            // Somebody else made the same meanwhile.
            Err(_) if path.is_dir() => Ok(path),
            Err(source) => Err(Error::File { action: "complete", path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(dir: &Path) -> Lab {
        fs::write(dir.join("acceleration"), "tcg").unwrap();
        Lab::new(dir).unwrap()
    }

    #[test]
    fn a_cached_thing_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let lab = lab(dir.path());
        let first = lab.cached("thing", |dir| fs::write(dir.join("file"), "1").map_err(Error::file("write", dir)));
        let second = lab.cached("thing", |_| Err(Error::Unexpected("made twice".into())));
        assert_eq!(first.unwrap(), second.unwrap());
    }

    #[test]
    fn a_failed_build_leaves_nothing_that_looks_finished() {
        let dir = tempfile::tempdir().unwrap();
        let lab = lab(dir.path());
        let failed = lab.cached("thing", |dir| {
            fs::write(dir.join("half"), "1").map_err(Error::file("write", dir))?;
            Err(Error::Unexpected("interrupted".into()))
        });
        assert!(failed.is_err());
        assert!(!dir.path().join("thing").exists());
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().contains("partial")), "{names:?}");
    }
}
