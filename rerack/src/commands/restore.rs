//! `rerack restore`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use node_model::Bytes;
use restore_engine::consent::{ConsentedPlan, NoConsent};
use restore_engine::data::{Meter, Notice, PipelineOptions, ProvenVolume, Reading, SnapshotSource};
use restore_engine::execute::{Told, execute};
use restore_engine::journal::{Journal, Lines, limit};
use restore_engine::live::{LiveMachine, Work};
use restore_engine::planning::{find_resume, make_plan, policy_for};
use restore_events::{Stage, StageTime};
use serde_json::json;

use super::print_json;
use super::target::{PolicyOptions, TargetOptions, Targets, planning_hint};
use crate::problem::{OrProblem, Outcome, Problem};
use crate::progress::bytes_bar;
use crate::scratch::Scratch;
use crate::snapshot::{self, RepositoryOptions, SnapshotName};

/// Restore a snapshot onto disks or images of this machine.
///
/// Only the plan whose digest is given by --confirm is carried out: `rerack plan` with the same options prints it.
///
/// Example: rerack restore web-03 --dir /srv/bundles --target new.img --confirm 9c1e...
#[derive(clap::Args)]
pub(crate) struct Options {
    /// NODE (its newest snapshot) or NODE@SNAPSHOT.
    snapshot: SnapshotName,
    #[command(flatten)]
    repository: RepositoryOptions,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    policy: PolicyOptions,
    /// The digest of the plan that you read and agree to.
    #[arg(long, value_name = "DIGEST")]
    confirm: Option<String>,
    /// Go on with a restore of this plan that was interrupted: what is right already is kept after it was read and
    /// hashed.
    #[arg(long)]
    resume: bool,
    /// Print JSON at the end; what goes on is then told on standard error.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    // Mounts of the restore are seen by this program and its children alone, and end with it.
    linux_io::mount::private_namespace().or_hint(|error| error.hint())?;
    let runtime = snapshot::runtime()?;
    let repository = snapshot::open(&runtime, &options.repository.dir)?;
    let proven = snapshot::load_proven(&runtime, &repository, &options.snapshot)?;
    let mut policy =
        policy_for(&proven, &repository, runtime.handle()).or_hint(|_| "run `rerack verify`".to_owned())?;
    options.policy.apply(&mut policy);
    let targets = Targets::attach(&options.target)?;
    let mut inventory = targets.inventory()?;
    targets.apply(&options.target, &mut inventory, &mut policy)?;
    let mut plan = make_plan(&proven, &inventory, &policy).or_hint(planning_hint)?;
    let Some(digest) = &options.confirm else {
        return Err(Problem::words(
            format!("the plan is not confirmed; its digest is {}", plan.digest()),
            "read it with `rerack plan`, then add --confirm with its digest",
        ));
    };
    if options.resume {
        policy.resume = find_resume(&plan, &proven).or_hint(planning_hint)?;
        plan = make_plan(&proven, &inventory, &policy).or_hint(planning_hint)?;
    }
    let consented = ConsentedPlan::new(plan, digest).or_hint(|error: &NoConsent| error.hint().to_owned())?;

    let scratch = Scratch::new()?;
    let meter = Arc::new(Meter::default());
    let bar = bytes_bar(proven.volumes().map(ProvenVolume::content_bytes).sum());
    let waiting = bar.clone();
    let story = Story::begin();
    let (told, counted) = (story.clone(), meter.clone());
    let work = Work {
        snapshot: proven,
        source: Arc::new(repository) as Arc<dyn SnapshotSource>,
        runtime: runtime.handle().clone(),
        options: PipelineOptions::default(),
        meter: meter.clone(),
        notify: Arc::new(move |notice| {
            if let Notice::Waiting { why, .. } = notice {
                waiting.suspend(|| eprintln!("warning: {why}"));
            }
        }),
        log: Arc::new(move |plan| told.journal(counted.read()).text(plan)),
        directory: scratch.path().to_owned(),
    };
    let mut machine = LiveMachine::new(work);
    let ticking = tick(&bar, &meter);
    let done = execute(&consented, &mut machine, &mut |told| match told {
        Told::Stage(stage) => story.enter(stage),
        Told::Step { what, .. } => {
            story.tell(&what);
            bar.set_message(what.clone());
            if bar.is_hidden() {
                tell(&what, options.json);
            }
        }
        Told::Warning(text) => {
            story.tell(&format!("warning: {text}"));
            bar.suspend(|| eprintln!("warning: {text}"));
        }
    });
    drop(ticking);
    bar.finish_and_clear();
    let timeline = story.end();
    done.map_err(|failed| {
        let hint = failed.source.hint();
        let state = match failed.disks_written {
            true => "the disks cannot be booted; add --resume to go on",
            false => "nothing was written",
        };
        Problem::new(failed, Some(format!("{hint}; {state}")))
    })?;
    let (source, reading) = (&consented.plan().source, meter.read());
    if options.json {
        print_json(&json!({
            "node": source.node, "snapshot": source.snapshot, "plan": digest, "file_count": reading.files,
            "written_bytes": reading.written_bytes, "kept_bytes": reading.reused_bytes,
            "read_bytes": reading.fetched_bytes, "timeline": timeline.as_json(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    timeline.lines().for_each(|line| tell(&line, false));
    let done = format!(
        "{} is restored: {} files, {} written, {} kept, {} read from the repository",
        source.node,
        reading.files,
        Bytes(reading.written_bytes),
        Bytes(reading.reused_bytes),
        Bytes(reading.fetched_bytes)
    );
    tell(&done, false);
    Ok(ExitCode::SUCCESS)
}

/// Says what goes on. That nobody listens is no reason to leave a disk half restored.
fn tell(what: &str, json: bool) {
    let _ = if json { writeln!(std::io::stderr(), "{what}") } else { writeln!(std::io::stdout(), "{what}") };
}

/// Moves the bar while the restore runs; ends when dropped.
struct Ticking(Option<std::sync::mpsc::Sender<()>>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.take();
    }
}

fn tick(bar: &indicatif::ProgressBar, meter: &Arc<Meter>) -> Ticking {
    let (alive, ended) = std::sync::mpsc::channel::<()>();
    let (bar, meter) = (bar.clone(), meter.clone());
    std::thread::spawn(move || {
        while ended.recv_timeout(Duration::from_millis(200)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let reading = meter.read();
            bar.set_position(reading.written_bytes + reading.reused_bytes);
        }
    });
    Ticking(Some(alive))
}

/// What went on, shared with whoever keeps the log of it.
#[derive(Clone)]
struct Story {
    began: Instant,
    told: Arc<Mutex<Chapters>>,
}

#[derive(Default)]
struct Chapters {
    timeline: Timeline,
    lines: Lines,
}

impl Story {
    fn begin() -> Self {
        Self { began: Instant::now(), told: Arc::default() }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Chapters> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, stage: Stage) {
        self.told().timeline.enter(stage, self.now_ms());
    }

    fn tell(&self, what: &str) {
        self.told().lines.push(self.now_ms(), what);
    }

    fn end(&self) -> Timeline {
        let mut told = self.told();
        told.timeline.end(self.now_ms());
        std::mem::take(&mut told.timeline)
    }

    /// The log until now, for the restored node.
    fn journal(&self, reading: Reading) -> Journal {
        let told = self.told();
        Journal {
            machine: linux_io::scan::machine_name(&linux_io::Roots::live()),
            engine_restarts: 0,
            timeline: told.timeline.until(self.now_ms()),
            reading,
            limit: limit(reading.limit_since(&Reading::default())),
            lines: told.lines.clone(),
        }
    }
}

/// When each stage began and ended, in milliseconds since the restore began. A stage may be entered again.
#[derive(Default)]
struct Timeline {
    rows: Vec<StageTime>,
    running: Option<(Stage, u64)>,
}

impl Timeline {
    fn enter(&mut self, stage: Stage, now_ms: u64) {
        self.end(now_ms);
        self.running = Some((stage, now_ms));
    }

    fn end(&mut self, now_ms: u64) {
        self.rows = self.until(now_ms);
        self.running = None;
    }

    fn until(&self, now_ms: u64) -> Vec<StageTime> {
        let running = self.running.map(|(stage, started_ms)| StageTime { stage, started_ms, finished_ms: now_ms });
        self.rows.iter().copied().chain(running).collect()
    }

    /// How long each stage took, all its times together.
    fn sums(&self) -> Vec<(Stage, u64)> {
        let mut sums: Vec<(Stage, u64)> = Vec::new();
        for row in &self.rows {
            let took = row.finished_ms.saturating_sub(row.started_ms);
            match sums.iter_mut().find(|(known, _)| *known == row.stage) {
                Some((_, sum)) => *sum += took,
                None => sums.push((row.stage, took)),
            }
        }
        sums
    }

    fn as_json(&self) -> Vec<serde_json::Value> {
        self.sums().into_iter().map(|(stage, ms)| json!({ "stage": stage, "ms": ms })).collect()
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let line = |(stage, ms): (Stage, u64)| format!("{:<12} {:>8.2} s", stage.title(), ms as f64 / 1000.0);
        self.sums().into_iter().map(line)
    }
}
