//! What the engine tells.

use node_model::MacAddress;
use serde::{Deserialize, Serialize};

use crate::{PlanView, Progress, Question, QuestionId, RestoreReport};

/// One thing the engine tells its screens, its log and the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The engine began. It replaces everything told before.
    SessionStarted(SessionStart),
    /// The network as it is now. It replaces the network told before.
    Network(NetworkState),
    /// The server as it is now. It replaces the server told before.
    Server(ServerState),
    /// The engine waits for an answer. Only one question is open at a time; a new one replaces it.
    Question(Question),
    /// The open question is answered or no longer of interest.
    QuestionClosed {
        /// The question.
        id: QuestionId,
    },
    /// The plan for this machine. It replaces the plan told before.
    Plan(PlanView),
    /// A stage began. The time is the record's.
    StageStarted {
        /// The stage.
        stage: Stage,
    },
    /// A stage ended. The time is the record's.
    StageFinished {
        /// The stage.
        stage: Stage,
        /// Whether it did what it should.
        ok: bool,
    },
    /// How far the running stage is. It replaces the progress told before.
    Progress(Progress),
    /// A line for the log.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The line. It holds no secret.
        text: String,
    },
    /// Something went wrong; the engine waits for a command or tries again by itself.
    Trouble(Trouble),
    /// The trouble told before is over.
    TroubleOver,
    /// The restore ended.
    Result(RestoreReport),
}

/// The beginning of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStart {
    /// Version of rerack.
    pub version: String,
    /// How often the engine had begun before on this boot: above 0 after a crash.
    pub restarts: u32,
    /// The machine in a few words: maker, product, serial number.
    pub machine: String,
    /// Whether nobody is expected at the console.
    pub unattended: bool,
    /// Whether the rescue shell may be opened.
    pub shell_allowed: bool,
}

/// The network of the restoring machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkState {
    /// Physical interfaces.
    pub interfaces: Vec<InterfaceState>,
    /// Default gateway.
    #[serde(default)]
    pub gateway: Option<String>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<String>,
    /// What is going on, in words: `asking for an address by DHCP`.
    #[serde(default)]
    pub note: Option<String>,
}

/// One interface of the restoring machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceState {
    /// Kernel name.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddress,
    /// Driver, if known.
    #[serde(default)]
    pub driver: Option<String>,
    /// Whether it has a link.
    pub link_up: bool,
    /// Link speed, if known.
    #[serde(default)]
    pub speed_mbps: Option<u32>,
    /// Addresses with prefix length, such as `10.0.2.15/24`.
    pub addresses: Vec<String>,
}

/// The bundle server as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerState {
    /// Its address, as typed or configured.
    pub url: String,
    /// Whether it answered and proved that it is the right one.
    pub authenticated: bool,
    /// Fingerprint of the repository's root key, once known.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// What is going on, in words.
    #[serde(default)]
    pub note: Option<String>,
}

/// The stages of a restore, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// From power-on or the kernel's start to the engine's.
    Kernel,
    /// Until there is a network.
    Network,
    /// Until the server is reached and has authenticated this machine; node and snapshot chosen.
    Server,
    /// Manifest and segments checked, machine scanned, plan made, checked and consented to.
    Plan,
    /// Tables and filesystems made.
    Layout,
    /// Data fetched and written.
    Data,
    /// What was written is read back and compared.
    Verify,
    /// Boot code, loader and firmware entry.
    BootChain,
    /// Report kept and sent, everything closed.
    Finish,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 9] = [
        Self::Kernel,
        Self::Network,
        Self::Server,
        Self::Plan,
        Self::Layout,
        Self::Data,
        Self::Verify,
        Self::BootChain,
        Self::Finish,
    ];

    /// What people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kernel => "Kernel",
            Self::Network => "Network",
            Self::Server => "Server",
            Self::Plan => "Plan",
            Self::Layout => "Layout",
            Self::Data => "Data",
            Self::Verify => "Verify",
            Self::BootChain => "Boot chain",
            Self::Finish => "Finish",
        }
    }
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Of interest to somebody who searches for a cause.
    Detail,
    /// What an operator may want to read.
    Info,
    /// What an operator should read.
    Warning,
    /// Why something did not work.
    Error,
}

/// Something that went wrong, in the three parts every error has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What happened.
    pub what: String,
    /// To which disk, address, node or file.
    pub which: String,
    /// What to do now.
    pub now_what: String,
    /// What the operator may choose; empty where the engine goes on by itself.
    pub choices: Vec<TroubleChoice>,
    /// What happens by itself if nobody chooses, if anything does.
    #[serde(default)]
    pub by_itself: Option<ByItself>,
    /// What the target disks are good for now.
    pub disks: TargetState,
}

/// A choice that is made by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByItself {
    /// Which.
    pub choice: TroubleChoice,
    /// In how many milliseconds.
    pub in_ms: u64,
}

/// What the target disks are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetState {
    /// Nothing was written to any disk.
    Untouched,
    /// Something was written, and they cannot be booted before a restore is brought to its end.
    Unbootable,
    /// Every one of them can be booted: a restore came to its end.
    Bootable,
}

/// A way out of trouble. Each is a [`crate::Command`] of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TroubleChoice {
    /// Try again.
    Retry,
    /// Open the rescue shell.
    Shell,
    /// Reboot.
    Reboot,
    /// Power off.
    PowerOff,
}
