//! Where machines are built: a cache of what is slow to make, a folder for what runs leave behind.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{Acceleration, Error, VmBuilder, host};

/// A cache folder, a run folder and what is known about this host.
#[derive(Debug, Clone)]
pub struct Lab {
    cache: PathBuf,
    run: PathBuf,
    acceleration: Acceleration,
    /// Who speaks; nobody in particular if empty.
    speaker: String,
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
        let acceleration = remembered.unwrap_or(Acceleration::Tcg);
        let mut lab = Lab { cache, run, acceleration, speaker: String::new() };
        if remembered.is_none() {
            lab.acceleration = Acceleration::probe(&lab)?;
        }
        Ok(lab)
    }

    /// How machines of this lab run.
    pub fn acceleration(&self) -> Acceleration {
        self.acceleration
    }

    /// The same lab, in which `name` speaks.
    #[must_use]
    pub fn heard_as(&self, name: &str) -> Self {
        Lab { speaker: name.to_owned(), ..self.clone() }
    }

    /// Prints lines under the name of who speaks: several scenarios are played at once.
    pub fn say(&self, text: &str) {
        let speaker = &self.speaker;
        print!("{}", text.lines().map(|line| format!("{speaker:<16}  {line}\n")).collect::<String>());
        // Only a display: what cannot be shown stops no scenario.
        let _ = std::io::stdout().flush();
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
    /// when it is complete, so an interrupted build leaves nothing that looks finished. Who wants it meanwhile waits.
    pub(crate) fn cached(&self, key: &str, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<PathBuf, Error> {
        let path = self.cache.join(key);
        let lock_path = self.cache.join(format!("{key}.lock"));
        let lock = File::create(&lock_path).map_err(Error::file("create", &lock_path))?;
        lock.lock().map_err(Error::file("lock", &lock_path))?;
        if path.is_dir() {
            return Ok(path);
        }
        let partial = tempfile::Builder::new()
            .prefix(&format!("{key}.partial."))
            .tempdir_in(&self.cache)
            .map_err(Error::file("make a folder in", &self.cache))?;
        make(partial.path())?;
        fs::rename(partial.path(), &path).map_err(Error::file("complete", &path))?;
        // Renamed: there is nothing left to remove.
        let _ = partial.keep();
        Ok(path)
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
    fn who_wants_what_another_is_making_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let lab = lab(dir.path());
        let (begun, wait) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lab.cached("thing", |dir| {
                    begun.send(()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    fs::write(dir.join("file"), "1").map_err(Error::file("write", dir))
                })
            });
            wait.recv().unwrap();
            let second = lab.cached("thing", |_| Err(Error::Unexpected("made twice".into()))).unwrap();
            assert!(second.join("file").exists());
        });
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
