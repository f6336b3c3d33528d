//! One restore at a machine's console, or at a machine where nobody sits: from the server's address to the reboot.

mod ask;
mod choose;
mod connect;
mod consent;
mod done;
mod memory;
mod narrow;
mod plan;
mod progress;
mod refusal;
mod settings;
mod settle;
mod socket;
mod teller;
mod upload;
mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bundle::Hash;
use bundle::trust::Fingerprint;
use linux_io::scan::{machine_identity, network_interfaces};
use linux_io::{Roots, mount};
use node_model::Bytes;
use restore_events::{After, Event, LogLevel, Outcome, RestoreReport, SessionStart, Stage, TargetState};
use restore_plan::Plan;
use server_api::{ClaimRequest, ClientError, RestoreClient};
use tokio::runtime::Runtime;

pub use ask::Exit;
pub use settings::{Settings, SettingsError};

use ask::{Desk, Next};
use choose::Chosen;
use connect::Access;
use memory::Memory;
use narrow::Erase;
use progress::{Ticker, Total};
use settle::{Disks, block_devices};
use teller::Teller;
use upload::Upload;

use crate::consent::ConsentedPlan;
use crate::data::{Meter, Notice, Patient, PipelineOptions, SnapshotSource, chain};
use crate::execute::{Told, execute};
use crate::journal::{Journal, bytes_per_second, limit};
use crate::live::{LiveMachine, Work};
use crate::prove::ProvenSnapshot;

/// Where device nodes and mount points of a restore lie, beside the screens' socket: in memory.
const WORK_DIRECTORY: &str = "work";
/// First wait before an unattended machine tries a failed restore again; it doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How long a server is waited for while its snapshot is read before consent; then somebody is told.
const PROOF_PATIENCE: Duration = Duration::from_secs(30);
/// How long the result is shown before the machine reboots by itself.
const RESULT_SHOWN: Duration = Duration::from_secs(5);
/// The same where something is left to be done at the server.
const UNTOLD_SHOWN: Duration = Duration::from_secs(60);

/// Why an attempt did not lead to a restored node.
enum Stop {
    /// Something else was chosen.
    Exit(Exit),
    /// Something went wrong.
    Trouble(Box<Failure>),
}

/// What went wrong, in the three parts that every error has.
struct Failure {
    what: String,
    which: String,
    now_what: String,
    disks_written: bool,
    /// Whether it may work by itself later.
    passing: bool,
    /// Whether nothing is left to be brought to an end: the disks can be booted.
    over: bool,
}

impl From<Exit> for Stop {
    fn from(exit: Exit) -> Self {
        Self::Exit(exit)
    }
}

impl Stop {
    fn trouble(what: &str, which: impl Into<String>, now_what: impl Into<String>) -> Self {
        let (what, which, now_what) = (what.to_owned(), which.into(), now_what.into());
        Self::Trouble(Box::new(Failure { what, which, now_what, disks_written: false, passing: false, over: false }))
    }

    fn client(error: &ClientError) -> Self {
        let stop = Self::trouble("The server did not answer as it should", chain(error), hint_or(error.hint(), ""));
        stop.if_passing(error.is_transient())
    }

    /// What the repository holds is no good: the error knows best what helps, such as a newer rerack.
    fn damaged(what: &str, error: &dyn std::error::Error, hint: Option<String>) -> Self {
        Self::trouble(what, chain(error), hint_or(hint, "run `rerack verify` on the server"))
    }

    /// The same, which may work by itself later.
    fn if_passing(mut self, passing: bool) -> Self {
        if let Self::Trouble(failure) = &mut self {
            failure.passing = passing;
        }
        self
    }

    /// The arm erased this plan's disks, and now all of them can be booted.
    fn over() -> Self {
        let mut stop = Self::trouble(
            "A restore under this code came to its end, or wrote nothing",
            "every target disk can be booted, and the arm says erased",
            "start the machine from its own disk; to restore the node once more, arm it again: rerack arm NODE",
        );
        if let Self::Trouble(failure) = &mut stop {
            failure.over = true;
        }
        stop
    }
}

fn hint_or(hint: Option<String>, otherwise: &str) -> String {
    hint.unwrap_or_else(|| otherwise.to_owned())
}

/// One run of the engine.
pub struct Session {
    settings: Settings,
    /// The repository's root key, if it was set beforehand.
    pin: Option<Fingerprint>,
    teller: Arc<Teller>,
    desk: Desk,
    memory: Memory,
    work_directory: PathBuf,
    /// The plan that was consented to and claimed since this machine started: no node can have run in between.
    consented: Option<String>,
    /// Whether disks may have been written, now or before: a restore that was begun has to be brought to its end.
    disks_written: bool,
    disks: Disks,
    /// How often this machine was refused.
    refusals: u32,
    /// What is told goes to the server that let this machine in, also what refuses it afterwards.
    upload: Option<Upload>,
    runtime: Runtime,
}

/// Why a session could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The fingerprint is none.
    #[error("the fingerprint `{0}` is not 64 hexadecimal digits")]
    Fingerprint(String),
    /// What may be erased is not understood.
    #[error("rerack.erase={0} is neither `identity`, `blank` nor `plan:DIGEST`")]
    Erase(String),
    /// Something that every session needs could not be had.
    #[error("{what} cannot be had")]
    Start {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// No mount namespace of its own.
    #[error(transparent)]
    Namespace(#[from] mount::MountError),
}

impl Session {
    /// Begins a session whose screens attach at `socket` and whose log goes to standard output.
    ///
    /// # Errors
    /// What keeps it from beginning.
    pub fn begin(settings: Settings, socket: &Path) -> Result<Self, SessionError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| SessionError::Start { what, source }
        };
        let pin = match &settings.fingerprint {
            Some(text) => Some(text.parse::<Fingerprint>().map_err(|_| SessionError::Fingerprint(text.clone()))?),
            None => None,
        };
        if let Some(erase) = settings.erase.as_deref().filter(|text| Erase::parse(text).is_none()) {
            return Err(SessionError::Erase(erase.to_owned()));
        }
        // Mounts of the restore are seen by this program and its children alone, and end with it.
        mount::private_namespace()?;
        let teller = Arc::new(Teller::new(uptime_ms(), Box::new(io::stdout())));
        let (commands, hear) = channel();
        socket::listen(socket, &teller, &commands).map_err(failed("the screens' socket"))?;
        let desk = Desk::new(teller.clone(), hear, settings.unattended);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(failed("a runtime"))?;
        let work_directory = socket.with_file_name(WORK_DIRECTORY);
        let memory = Memory::beside(socket);
        let disks = Disks::new(block_devices(), settings.timeline.devices_ms);
        Ok(Self {
            settings,
            pin,
            teller,
            desk,
            memory,
            work_directory,
            consented: None,
            disks_written: false,
            disks,
            refusals: 0,
            upload: None,
            runtime,
        })
    }

    /// Runs until the node is restored or somebody chooses otherwise.
    pub fn run(mut self) -> Exit {
        self.tell_begin();
        let servers = (!self.settings.servers.is_empty()).then(|| self.settings.servers.join(","));
        let mut access = Access::new(servers, self.settings.code.clone());
        self.consented = self.memory.recall(&mut access);
        self.disks_written = self.consented.is_some();
        let mut wait = RETRY_FIRST;
        loop {
            let failure = match self.restore(&mut access) {
                Ok(report) => return self.finish(&report),
                Err(Stop::Exit(exit)) => return exit,
                Err(Stop::Trouble(failure)) => *failure,
            };
            self.teller.end(false);
            self.disks_written = !failure.over && (self.disks_written || failure.disks_written);
            // What a wait may heal is tried again where nobody sits; what is written already must be brought to an
            // end there too, whatever stopped it. From everything else the machine's own disk is the way out.
            let next = match self.desk.is_unattended() {
                false => Next::Wait,
                true if failure.passing || self.disks_written => Next::Retry(wait),
                true => self.after_refusal(),
            };
            wait = (2 * wait).min(RETRY_MAX);
            let words = (failure.what, failure.which, failure.now_what);
            let disks = if failure.over { TargetState::Bootable } else { self.target_state() };
            if let Err(exit) = self.desk.trouble(words, disks, next) {
                return exit;
            }
        }
    }

    fn tell_begin(&self) {
        self.teller.tell(Event::SessionStarted(SessionStart {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            restarts: self.settings.engine_restarts,
            machine: machine_name(),
            unattended: self.settings.unattended,
            shell_allowed: self.settings.shell,
        }));
        let times = self.settings.timeline;
        self.teller.book(Stage::Kernel, 0, times.init_ms);
        self.teller.book(Stage::Network, times.init_ms, times.network_ms.max(times.init_ms));
        self.teller.tell(Event::Network(self.settings.network.clone()));
    }

    /// What follows a refusal where nobody sits.
    fn after_refusal(&mut self) -> Next {
        let next = refusal::next(self.refusals, self.at_last());
        self.refusals = self.refusals.saturating_add(1);
        next
    }

    /// What a machine at which nobody sits does when no try is left.
    fn at_last(&self) -> After {
        self.settings.refused.unwrap_or(After::Reboot)
    }

    /// What the targets are good for while no restore has come to its end.
    fn target_state(&self) -> TargetState {
        if self.disks_written { TargetState::Unbootable } else { TargetState::Untouched }
    }

    /// One attempt, from the server to the last write.
    fn restore(&mut self, access: &mut Access) -> Result<RestoreReport, Stop> {
        self.upload = None;
        self.teller.begin(Stage::Server);
        let roots = Roots::live();
        let (client, answer) = self.connect(access, &machine_identity(&roots, &network_interfaces(&roots)))?;
        self.upload = Some(upload::start(&self.teller, &client, self.runtime.handle()));
        // A claim that erased disks is brought to its end; nothing else may be begun under it.
        let begun = answer.claim.as_ref().filter(|claim| claim.erased);
        self.disks_written |= begun.is_some();
        self.confirm_node(&answer.facts, begun.is_some())?;
        let chosen = match begun {
            Some(claim) => Chosen::Claimed(claim.snapshot.clone()),
            None => Chosen::Listed(Box::new(self.choose_snapshot(&client)?)),
        };
        self.teller.begin(Stage::Plan);
        let (proven, source) = self.prove(&client, &answer.facts, &chosen)?;
        let (plan, inventory) = self.plan(&proven, &source, &answer)?;
        self.teller.tell(Event::Plan(view::plan_view(&plan, &proven.snapshot)));
        let consented = self.consent(plan, &proven, &inventory, &answer)?;
        self.claim(&client, &consented)?;
        let digest = consented.plan().digest();
        self.consented = Some(digest.clone());
        if let Err(error) = self.memory.keep(access, digest) {
            self.desk.warn(format!("should the engine fail, it will ask for the server and the code again: {error}"));
        }
        let mut report = self.carry_out(&consented, proven, source)?;
        self.teller.tell(Event::Result(report.clone()));
        if let Err(untold) = self.tell_done(&client, digest_of(consented.plan())) {
            self.desk.warn(format!("{} does not know that the restore is done: {}", untold.server, untold.why));
            report.untold = Some(untold);
            self.teller.tell(Event::Result(report.clone()));
        }
        if let Err(error) = self.memory.forget() {
            self.desk.warn(format!("the used restore code stays in this machine's memory: {error}"));
        }
        self.teller.begin(Stage::Finish);
        Ok(report)
    }

    /// Asks `source` again for a while if it only does not deliver.
    fn patient(&self, source: &Arc<dyn SnapshotSource>) -> Patient {
        let teller = self.teller.clone();
        Patient::new(source.clone(), PROOF_PATIENCE, Arc::new(move |notice| tell_notice(&teller, &notice)))
    }

    /// Binds the arm to the plan, then books that its disks are erased from now on.
    fn claim(&self, client: &RestoreClient, consented: &ConsentedPlan) -> Result<(), Stop> {
        let plan = consented.plan();
        let plan_digest = digest_of(plan);
        let disks = plan.targets.iter().map(|target| target.id.clone()).collect();
        let claim = ClaimRequest { plan_digest, disks, snapshot: plan.source.snapshot.clone() };
        self.runtime
            .block_on(async {
                client.claim(&claim).await?;
                client.erased(plan_digest).await
            })
            .map(drop)
            .map_err(|error| Stop::client(&error))
    }

    fn carry_out(
        &self,
        consented: &ConsentedPlan,
        snapshot: ProvenSnapshot,
        source: Arc<dyn SnapshotSource>,
    ) -> Result<RestoreReport, Stop> {
        let plan = consented.plan();
        let meter = Arc::new(Meter::default());
        let total = Total {
            bytes: snapshot.volumes().map(crate::data::ProvenVolume::content_bytes).sum(),
            files: plan.volumes.iter().map(|volume| volume.file_count).sum(),
        };
        let teller = self.teller.clone();
        let work = Work {
            snapshot,
            source,
            runtime: self.runtime.handle().clone(),
            options: PipelineOptions::default(),
            meter: meter.clone(),
            notify: Arc::new(move |notice| tell_notice(&teller, &notice)),
            log: self.log(&meter),
            directory: self.work_directory.clone(),
        };
        let before = meter.read();
        let ticker = Ticker::start(self.teller.clone(), meter.clone(), total);
        let mut machine = LiveMachine::new(work);
        let mut warnings = Vec::new();
        let done = execute(consented, &mut machine, &mut |told| match told {
            Told::Stage(stage) => self.teller.begin(stage),
            Told::Step { what, .. } => self.teller.log(LogLevel::Info, what),
            Told::Warning(text) => {
                self.desk.warn(text.clone());
                warnings.push(text);
            }
        });
        drop(ticker);
        done.map_err(|error| {
            Stop::Trouble(Box::new(Failure {
                what: "The restore stopped; the disks cannot be booted".to_owned(),
                which: chain(&error),
                now_what: error.source.hint(),
                disks_written: error.disks_written,
                passing: false,
                over: false,
            }))
        })?;
        self.teller.end(true);
        let reading = meter.read();
        let findings = plan.findings.iter().filter(|finding| finding.severity == restore_plan::Severity::Warning);
        let timeline = self.teller.timeline();
        Ok(RestoreReport {
            outcome: Outcome::Restored,
            node: plan.source.node.to_string(),
            snapshot: plan.source.snapshot.to_string(),
            bytes_per_second: Bytes(bytes_per_second(&timeline, reading.written_bytes)),
            timeline,
            written_bytes: Bytes(reading.written_bytes),
            fetched_bytes: Bytes(reading.fetched_bytes),
            reused_bytes: Bytes(reading.reused_bytes),
            file_count: reading.files,
            limit: limit(reading.limit_since(&before)),
            warnings: findings.map(|finding| finding.what.clone()).chain(warnings).collect(),
            after: self.settings.after.unwrap_or(After::Reboot),
            untold: None,
        })
    }

    /// The log that the restored node keeps.
    fn log(&self, meter: &Arc<Meter>) -> Arc<dyn Fn(&Plan) -> String + Send + Sync> {
        let (teller, meter, before) = (self.teller.clone(), meter.clone(), meter.read());
        let engine_restarts = self.settings.engine_restarts;
        Arc::new(move |plan| {
            let (timeline, lines) = teller.journal();
            let reading = meter.read();
            let journal = Journal {
                machine: machine_name(),
                engine_restarts,
                timeline,
                reading,
                limit: limit(reading.limit_since(&before)),
                lines,
            };
            journal.text(plan)
        })
    }

    fn finish(&mut self, report: &RestoreReport) -> Exit {
        self.teller.end(true);
        let shown = if report.untold.is_some() { UNTOLD_SHOWN } else { RESULT_SHOWN };
        match report.after {
            After::Poweroff if report.untold.is_none() => Exit::PowerOff,
            After::Poweroff => self.desk.wait(Some((shown, Exit::PowerOff))),
            After::Wait => self.desk.wait(None),
            After::Reboot => self.desk.wait(Some((shown, Exit::Reboot))),
        }
    }
}

fn machine_name() -> String {
    linux_io::scan::machine_name(&Roots::live())
}

fn digest_of(plan: &Plan) -> Hash {
    plan.digest().parse().expect("a plan's digest is 64 hexadecimal digits")
}

fn tell_notice(teller: &Teller, notice: &Notice) {
    match notice {
        Notice::Waiting { why, again_in } => {
            teller.log(LogLevel::Warning, format!("{why}; trying again in {:.1} s", again_in.as_secs_f64()));
        }
        Notice::Resumed => teller.log(LogLevel::Info, "the data flows again"),
        Notice::Damaged { pack, chunk } => {
            teller.log(LogLevel::Warning, format!("chunk {chunk} of pack {pack} arrived damaged; asking for it again"));
        }
    }
}

/// Milliseconds since the kernel's start.
fn uptime_ms() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: Option<f64> = uptime.split_whitespace().next().and_then(|text| text.parse().ok());
    (seconds.unwrap_or(0.0) * 1000.0) as u64
}
