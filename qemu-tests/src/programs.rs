//! The programs that ship, from outside: the host's `rerack`, and what it does for a scenario.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Error, Lab, host};

/// How long a server may take until it listens: it makes keys at its first start.
const SERVER_START_MAX: Duration = Duration::from_secs(300);
/// How long it may take to end what it is doing.
const SERVER_STOP_MAX: Duration = Duration::from_secs(30);

/// The static programs of a build: `rerack`, `init`, `restore`, `restore-tui`.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// The folder that `RERACK_PROGRAMS` names, if it holds them.
    pub fn from_environment() -> Option<Self> {
        let directory = PathBuf::from(std::env::var_os("RERACK_PROGRAMS")?);
        ["rerack", "init", "restore", "restore-tui"]
            .iter()
            .all(|name| directory.join(name).is_file())
            .then_some(Self { directory })
    }

    /// The command that people type.
    pub fn rerack(&self) -> PathBuf {
        self.directory.join("rerack")
    }

    /// Runs `rerack` and returns what it prints.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(self.rerack());
        host::finish(&format!("rerack {}", arguments.join(" ")), command.args(arguments))
    }

    /// A boot image of these programs in the lab's run folder, made once in a process.
    pub fn iso(&self, lab: &Lab) -> Result<PathBuf, Error> {
        static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
        let iso = lab.run_dir().join("rerack.iso");
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if made.as_ref() != Some(&iso) {
            let paths = [&self.directory, lab.cache_dir(), &iso].map(|path: &Path| path.to_string_lossy().into_owned());
            let [programs, cache, out] = &paths;
            self.run(&["image", "iso", "--programs", programs, "--cache", cache, "-o", out])?;
            *made = Some(iso.clone());
        }
        Ok(iso)
    }
}

/// A bundle server on this host, which guests reach as 10.0.2.2. It is killed when dropped.
pub struct BundleServer {
    programs: Programs,
    directory: PathBuf,
    port: u16,
    child: Child,
    log: PathBuf,
}

impl BundleServer {
    /// Starts a server over `directory`, which it fills at its first start.
    pub fn start(programs: &Programs, directory: &Path) -> Result<Self, Error> {
        let port = free_port()?;
        let log = directory.with_extension("log");
        let child = spawn(programs, directory, port, &log)?;
        let mut server = Self { programs: programs.clone(), directory: directory.to_owned(), port, child, log };
        server.wait_until_listening()?;
        Ok(server)
    }

    /// Its address as guests see it.
    pub fn url(&self) -> String {
        format!("https://10.0.2.2:{}", self.port)
    }

    /// The directory of its repository.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs `rerack` with `--dir` and returns what it prints.
    pub fn rerack(&self, arguments: &[&str]) -> Result<String, Error> {
        let directory = self.directory.to_string_lossy();
        self.programs.run(&[arguments, &["--dir", &directory]].concat())
    }

    /// Adds a node; its file is written beside the server's directory.
    pub fn node_add(&self, node: &str) -> Result<PathBuf, Error> {
        let file = self.directory.with_extension(format!("{node}.node"));
        self.rerack(&["node", "add", node, "--url", &self.url(), "-o", &file.to_string_lossy()])?;
        Ok(file)
    }

    /// Arms a node's restore and returns the code.
    pub fn arm(&self, node: &str) -> Result<String, Error> {
        let printed = self.rerack(&["arm", node, "--json"])?;
        let answer: Value = serde_json::from_str(&printed)
            .map_err(|error| Error::Unexpected(format!("`rerack arm --json` printed no JSON ({error}):\n{printed}")))?;
        let code = answer["code"].as_str();
        code.map(str::to_owned).ok_or_else(|| Error::Unexpected(format!("`rerack arm --json` has no code:\n{printed}")))
    }

    /// Ends it as an operator does, and waits.
    pub fn stop(&mut self) -> Result<(), Error> {
        host::run("kill", ["-TERM", &self.child.id().to_string()])?;
        let deadline = Instant::now() + SERVER_STOP_MAX;
        loop {
            let ended = self.child.try_wait().map_err(Error::file("wait for the server of", &self.directory))?;
            match ended {
                Some(_) => return Ok(()),
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
                None => return Err(Error::Unexpected("the server does not end".into())),
            }
        }
    }

    /// Starts it again on the same port.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.child = spawn(&self.programs, &self.directory, self.port, &self.log)?;
        self.wait_until_listening()
    }

    /// It binds its port before it has made its repository; only what it prints says that both are there.
    fn wait_until_listening(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + SERVER_START_MAX;
        loop {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            if said.contains("listening ") {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(Error::file("wait for the server of", &self.directory))?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(Error::Unexpected(format!("the server does not listen; it said:\n{said}")));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for BundleServer {
    fn drop(&mut self) {
        // It may have been stopped; either way it is gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(programs: &Programs, directory: &Path, port: u16, log: &Path) -> Result<Child, Error> {
    let output = File::create(log).map_err(Error::file("create", log))?;
    let errors = output.try_clone().map_err(Error::file("share", log))?;
    Command::new(programs.rerack())
        .arg("serve")
        .arg(directory)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|source| Error::Spawn { program: "rerack serve".into(), source })
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::file("listen on", "127.0.0.1:0"))?;
    Ok(listener.local_addr().map_err(Error::file("listen on", "127.0.0.1:0"))?.port())
}
