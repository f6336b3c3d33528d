//! rerack as an operator runs it: a server over HTTPS, a captured node, and the engine of the boot image on a disk.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::disk::{Attached, Target, text};
use super::link::Link;
use super::measured::{Cost, StageCost, cpu_of, measure, peak_of};
use super::sets::Source;

/// The captured node.
const NODE: &str = "bench";
/// How long the engine may take to listen, or to say the next thing.
const PATIENCE: Duration = Duration::from_secs(300);

/// A repository, its server, and what runs on them.
pub(super) struct Ours<'a> {
    programs: PathBuf,
    link: &'a Link,
    directory: PathBuf,
    server: Served,
}

struct Served {
    child: Child,
    address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Ours<'a> {
    /// A server with an empty repository below `directory`, at the far end of `link`.
    pub(super) fn serve(programs: &Path, directory: &Path, link: &'a Link) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let address = link.free_address()?;
        let mut command = link.command(text(&programs.join("rerack")));
        command.args(["serve", "repo", "--listen", &address.to_string()]).current_dir(directory);
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().context("cannot start rerack")?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let listens = lines.any(|line| line.is_ok_and(|line| line.starts_with("listening")));
        let server = Served { child, address };
        if !listens {
            bail!("the server does not start");
        }
        let ours = Self { programs: programs.to_owned(), link, directory: directory.to_owned(), server };
        ours.rerack(&["node", "add", NODE, "--url", &format!("https://{address}"), "-o", "node.json"])?;
        Ok(ours)
    }

    /// Where the repository lies.
    pub(super) fn repository(&self) -> PathBuf {
        self.directory.join("repo")
    }

    /// Runs the command and returns what it prints.
    fn rerack(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.join("rerack"));
        command.args(arguments).current_dir(&self.directory).env("RERACK_DIR", "repo").stdin(Stdio::null());
        let output = command.output().context("cannot start rerack")?;
        if !output.status.success() {
            bail!("rerack {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Captures the source.
    pub(super) fn capture(&self, source: &Source, log: &Path) -> Result<Cost> {
        let disk = Attached::with_partitions(&source.image)?;
        let program = self.programs.join("rerack");
        let argv = [text(&program), "capture", "--node-file", "node.json", "--full-priority", "--disk", &disk.device];
        let before = cpu_of(self.server.child.id())?;
        let cost = measure(&argv, &self.directory, None, log)?;
        let server_cpu = cpu_of(self.server.child.id())?.saturating_sub(before);
        Ok(Cost { server_cpu_seconds: server_cpu.as_secs_f64(), ..cost })
    }

    /// Restores the newest snapshot onto an empty disk, checked from the manifest to the last byte read back. What the
    /// engine needs for partition table and filesystem is taken out, and reading back is told by itself.
    pub(super) fn restore(&self, target: &Target, work: &Path) -> Result<Cost> {
        let armed: Value = serde_json::from_str(&self.rerack(&["arm", NODE, "--skip-verify", "--json"])?)?;
        let server = format!("https://{}", self.link.way_to(self.server.address)?);
        let settings = json!({
            "format": 1, "servers": [server], "code": armed["code"], "node": NODE, "snapshot": "latest",
            "disks": [target.disk.device], "unattended": true, "erase": "blank", "after": "wait",
        });
        let (file, socket) = (work.join("settings.json"), work.join("engine.sock"));
        fs::write(&file, settings.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let log = work.join("engine.log");
        let server_before = cpu_of(self.server.child.id())?;
        let began = Instant::now();
        let mut command = Command::new(self.programs.join("restore"));
        command.args(["--settings", text(&file), "--socket", text(&socket)]);
        command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let mut engine = Engine(command.spawn().context("cannot start the engine")?);
        let told = engine.follow(&socket, began, self.link).map_err(|error| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            error.context(format!("the engine's log:\n{said}"))
        })?;
        let server_cpu = cpu_of(self.server.child.id())?.saturating_sub(server_before);
        Ok(Cost { server_cpu_seconds: server_cpu.as_secs_f64(), ..told })
    }
}

/// A running engine; killed when dropped.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Engine {
    /// Listens as a screen does until everything is done, then has the engine end.
    fn follow(&mut self, socket: &Path, began: Instant, link: &Link) -> Result<Cost> {
        let trips_before = link.round_trips().unwrap_or(0);
        let trips = || link.round_trips().map(|all| all - trips_before);
        let mut until_data = 0;
        let mut stream = self.attach(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"{\"v\":1,\"command\":\"hello\",\"screen\":\"bench\"}\n")?;
        let mut stages = Stages::default();
        for line in BufReader::new(stream.try_clone()?).lines() {
            let record: Value = serde_json::from_str(&line.context("the engine fell silent")?)?;
            let now = (began.elapsed().as_secs_f64(), cpu_of(self.0.id())?.as_secs_f64());
            if record["event"] == "stage-started" && record["stage"] == "data" {
                until_data = trips().unwrap_or(0);
            }
            stages.tell(&record, now)?;
            if let Some(ended) = stages.ended {
                let peak_bytes = peak_of(self.0.id())?;
                stream.write_all(b"{\"v\":1,\"command\":\"power-off\"}\n")?;
                self.0.wait()?;
                let round_trips = trips().map(|all| (until_data, all));
                return Ok(Cost { peak_bytes, round_trips, ..stages.cost(ended) });
            }
        }
        bail!("the engine ended early")
    }

    fn attach(&mut self, socket: &Path) -> Result<UnixStream> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(stream) = UnixStream::connect(socket) {
                return Ok(stream);
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("the engine ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("the engine does not listen");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A moment: seconds since the start, and processor seconds until then.
type Moment = (f64, f64);

/// What the engine's events say, as they come.
#[derive(Debug, Default)]
struct Stages {
    running: Option<(String, Moment)>,
    /// What each stage took.
    over: Vec<(String, Moment)>,
    fetched_bytes: u64,
    ended: Option<Moment>,
}

impl Stages {
    fn tell(&mut self, record: &Value, now: Moment) -> Result<()> {
        match record["event"].as_str().unwrap_or_default() {
            "stage-started" => {
                self.running = Some((record["stage"].as_str().unwrap_or_default().to_owned(), now));
            }
            "stage-finished" => {
                let Some((stage, began)) = self.running.take() else { return Ok(()) };
                if stage == "finish" {
                    self.ended = Some(now);
                }
                self.over.push((stage, (now.0 - began.0, now.1 - began.1)));
            }
            "result" => {
                self.fetched_bytes = record["fetched_bytes"].as_u64().context("a report without bytes fetched")?;
            }
            "trouble" => bail!("the engine is in trouble: {record}"),
            "question" => bail!("the engine asks: {record}"),
            _ => {}
        }
        Ok(())
    }

    fn cost(&self, ended: Moment) -> Cost {
        let all = |name: &str| {
            let of = self.over.iter().filter(|(stage, _)| stage == name).map(|(_, took)| *took);
            of.fold((0.0, 0.0), |sum: Moment, took| (sum.0 + took.0, sum.1 + took.1))
        };
        let (layout, verify) = (all("layout"), all("verify"));
        Cost {
            seconds: ended.0 - layout.0 - verify.0,
            cpu_seconds: ended.1 - layout.1 - verify.1,
            moved_bytes: self.fetched_bytes,
            read_back_seconds: Some(verify.0),
            stages: self
                .over
                .iter()
                .map(|(name, took)| StageCost { name: name.clone(), seconds: took.0, cpu_seconds: took.1 })
                .collect(),
            ..Cost::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_reading_back_are_taken_out_and_told() {
        let mut stages = Stages::default();
        let events = [
            (json!({"event": "stage-started", "stage": "server"}), (0.1, 0.0)),
            (json!({"event": "stage-finished", "stage": "server", "ok": true}), (0.2, 0.1)),
            (json!({"event": "stage-started", "stage": "layout"}), (0.2, 0.1)),
            (json!({"event": "stage-finished", "stage": "layout", "ok": true}), (1.2, 0.6)),
            (json!({"event": "stage-started", "stage": "verify"}), (5.0, 4.0)),
            (json!({"event": "stage-finished", "stage": "verify", "ok": true}), (7.0, 5.5)),
            (json!({"event": "result", "fetched_bytes": 77}), (7.0, 5.5)),
            (json!({"event": "stage-started", "stage": "finish"}), (7.1, 5.5)),
            (json!({"event": "stage-finished", "stage": "finish", "ok": true}), (7.5, 5.5)),
        ];
        for (event, now) in &events {
            assert_eq!(stages.ended, None);
            stages.tell(event, *now).unwrap();
        }
        let cost = stages.cost(stages.ended.unwrap());
        assert!((cost.seconds - 4.5).abs() < 1e-9 && (cost.cpu_seconds - 3.5).abs() < 1e-9, "{cost:?}");
        assert_eq!((cost.moved_bytes, cost.read_back_seconds), (77, Some(2.0)));
        assert_eq!(
            cost.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(),
            ["server", "layout", "verify", "finish"]
        );
    }

    #[test]
    fn a_trouble_ends_the_turn() {
        let trouble = json!({"event": "trouble", "what": "no disk"});
        assert!(Stages::default().tell(&trouble, (0.0, 0.0)).unwrap_err().to_string().contains("no disk"));
    }
}
