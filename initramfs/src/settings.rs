//! What the engine is told: one JSON file, `/run/rerack/settings.json`, mode 0600, because it may hold a code.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;

use crate::arguments::Arguments;

/// Version of the file. A reader refuses every other.
pub const SETTINGS_FORMAT: u32 = 1;

/// The file's content. Fields are added, never changed in meaning, within one [`SETTINGS_FORMAT`].
#[derive(Clone, Serialize)]
pub struct Settings<'a> {
    /// [`SETTINGS_FORMAT`].
    pub format: u32,
    /// Bundle servers.
    pub servers: &'a [String],
    /// Pin of the repository's root key.
    pub fingerprint: Option<&'a str>,
    /// Whose bundle.
    pub node: Option<&'a str>,
    /// Which snapshot.
    pub snapshot: Option<&'a str>,
    /// Restore code, as typed.
    pub code: Option<&'a str>,
    /// Whether nobody is expected at the console.
    pub unattended: bool,
    /// `identity`, `blank` or `plan:DIGEST`.
    pub erase: Option<&'a str>,
    /// `reboot`, `poweroff` or `wait`.
    pub after: Option<&'a str>,
    /// `reboot`, `poweroff` or `wait`.
    pub refused: Option<&'a str>,
    /// Whether the rescue shell may be opened.
    pub shell: bool,
    /// How often the engine had begun before on this boot.
    pub engine_restarts: u32,
    /// What took how long until now.
    pub timeline: Timeline,
    /// The network.
    pub network: &'a NetworkReport,
}

/// Milliseconds since the kernel's start at which something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Timeline {
    /// PID 1 began.
    pub init_ms: u64,
    /// A driver was loaded or a device came last.
    pub devices_ms: u64,
    /// The network was up, or given up.
    pub network_ms: u64,
}

/// The network as PID 1 left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkReport {
    /// Whether it is there.
    pub state: NetworkOutcome,
    /// Physical interfaces.
    pub interfaces: Vec<InterfaceReport>,
    /// Default gateway.
    pub gateway: Option<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Time servers.
    pub ntp: Vec<String>,
    /// In words: what is wrong and what to do, or how the network was set up.
    pub note: Option<String>,
}

/// Whether there is a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkOutcome {
    /// At least one interface has an address.
    Up,
    /// None has; the report's note says why.
    Failed,
    /// None was wanted: `ip=off`.
    Off,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceReport {
    /// Kernel name.
    pub name: String,
    /// Hardware address.
    pub mac: String,
    /// Driver.
    pub driver: Option<String>,
    /// Whether it has a link.
    pub link_up: bool,
    /// Link speed.
    pub speed_mbps: Option<u32>,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
}

impl<'a> Settings<'a> {
    /// The settings for an engine that is about to start.
    pub fn new(arguments: &'a Arguments, network: &'a NetworkReport, timeline: Timeline) -> Self {
        Self {
            format: SETTINGS_FORMAT,
            servers: &arguments.servers,
            fingerprint: arguments.fingerprint.as_deref(),
            node: arguments.node.as_deref(),
            snapshot: arguments.snapshot.as_deref(),
            code: arguments.code.as_ref().map(|code| code.reveal()),
            unattended: arguments.unattended,
            erase: arguments.erase.as_deref(),
            after: arguments.after.as_deref(),
            refused: arguments.refused.as_deref(),
            shell: arguments.shell,
            engine_restarts: 0,
            timeline,
            network,
        }
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        drop(file);
        std::fs::rename(&new, path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::words::split;

    /// The engine reads this file: what the snapshot shows is settled.
    #[test]
    fn the_engine_reads_everything_in_one_file_that_only_root_can_read() {
        let line = "rerack.server=https://10.0.2.2:8443 rerack.code=ABCD-EFGH-JKMN-PQRS-TVWX rerack.unattended \
                    rerack.erase=identity rerack.after=reboot rerack.refused=wait";
        let (arguments, _) = Arguments::read(split(line));
        let network = NetworkReport {
            state: NetworkOutcome::Up,
            interfaces: vec![InterfaceReport {
                name: "eth0".into(),
                mac: "52:54:00:00:00:01".into(),
                driver: Some("virtio_net".into()),
                link_up: true,
                speed_mbps: None,
                addresses: vec!["10.0.2.15/24".into()],
            }],
            gateway: Some("10.0.2.2".into()),
            dns: vec!["10.0.2.3".into()],
            ntp: vec![],
            note: Some("address by DHCP from 10.0.2.2".into()),
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.json");
        let timeline = Timeline { init_ms: 900, devices_ms: 1500, network_ms: 3200 };
        Settings::new(&arguments, &network, timeline).write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        insta::assert_snapshot!(std::fs::read_to_string(path).unwrap());
    }
}
