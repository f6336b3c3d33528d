//! QEMU's monitor protocol: JSON lines over a Unix socket, as much of it as scenarios need.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::Error;

/// A command is answered in moments, unless QEMU hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to QEMU's monitor.
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    events: Vec<Value>,
}

impl Qmp {
    /// Greets the monitor.
    pub fn attach(stream: UnixStream) -> Result<Self, Error> {
        let refused = |source: std::io::Error| Error::Qmp { command: "connect".into(), reason: source.to_string() };
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(refused)?;
        let writer = stream.try_clone().map_err(refused)?;
        let mut qmp = Qmp { reader: BufReader::new(stream), writer, events: Vec::new() };
        let greeting = qmp.read("greeting")?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Qmp { command: "greeting".into(), reason: greeting.to_string() });
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its answer. Events that arrive meanwhile are kept.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.writer
            .write_all(line.as_bytes())
            .map_err(|source| Error::Qmp { command: command.into(), reason: source.to_string() })?;
        loop {
            let mut answer = self.read(command)?;
            if answer.get("event").is_some() {
                self.events.push(answer);
            } else if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            } else {
                let reason = answer.pointer("/error/desc").unwrap_or(&answer).to_string();
                return Err(Error::Qmp { command: command.into(), reason });
            }
        }
    }

    /// Events received so far.
    pub fn events(&self) -> &[Value] {
        &self.events
    }

    /// Ends QEMU at once. To the guest this is a power cut, except that what QEMU holds in host memory survives.
    pub fn quit(&mut self) -> Result<(), Error> {
        self.execute("quit", json!({})).map(drop)
    }

    /// Presses the reset button.
    pub fn system_reset(&mut self) -> Result<(), Error> {
        self.execute("system_reset", json!({})).map(drop)
    }

    /// Presses the power button.
    pub fn system_powerdown(&mut self) -> Result<(), Error> {
        self.execute("system_powerdown", json!({})).map(drop)
    }

    /// Plugs or pulls the network cable of card number `index`.
    pub fn set_link(&mut self, index: usize, up: bool) -> Result<(), Error> {
        self.execute("set_link", json!({ "name": format!("nic{index}"), "up": up })).map(drop)
    }

    /// Pulls out a device, such as `disk0`.
    pub fn device_del(&mut self, id: &str) -> Result<(), Error> {
        self.execute("device_del", json!({ "id": id })).map(drop)
    }

    /// Takes the disc out of the drive, locked or not.
    pub fn eject_cdrom(&mut self) -> Result<(), Error> {
        self.execute("eject", json!({ "id": "cd0", "force": true })).map(drop)
    }

    /// Writes a picture (PNG) of the graphical screen.
    pub fn screendump(&mut self, path: &Path) -> Result<(), Error> {
        self.execute("screendump", json!({ "filename": path, "format": "png" })).map(drop)
    }

    fn read(&mut self, command: &str) -> Result<Value, Error> {
        let fault = |reason: String| Error::Qmp { command: command.into(), reason };
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(fault("the monitor closed".into())),
            Ok(_) => serde_json::from_str(&line).map_err(|error| fault(format!("{error}: {line}"))),
            Err(error) => Err(fault(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A monitor that greets, takes the capabilities and then answers each command with these lines.
    fn monitor(answers: &'static [&'static str]) -> Qmp {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            let mut lines = BufReader::new(theirs).lines();
            writeln!(writer, r#"{{"QMP": {{"version": {{}}}}}}"#).unwrap();
            lines.next();
            writeln!(writer, r#"{{"return": {{}}}}"#).unwrap();
            lines.next();
            for answer in answers {
                writeln!(writer, "{answer}").unwrap();
            }
        });
        Qmp::attach(ours).unwrap()
    }

    #[test]
    fn events_before_an_answer_are_kept() {
        let mut qmp = monitor(&[r#"{"event": "RESET"}"#, r#"{"return": {"status": "running"}}"#]);
        let answer = qmp.execute("query-status", json!({})).unwrap();
        assert_eq!(answer["status"], "running");
        assert_eq!(qmp.events().len(), 1);
    }

    #[test]
    fn a_refusal_carries_the_reason() {
        let mut qmp = monitor(&[r#"{"error": {"class": "GenericError", "desc": "Device 'x' not found"}}"#]);
        let error = qmp.device_del("x").unwrap_err().to_string();
        assert!(error.contains("Device 'x' not found"), "{error}");
    }

    #[test]
    fn a_monitor_that_closes_is_an_error() {
        assert!(monitor(&[]).quit().is_err());
    }
}
