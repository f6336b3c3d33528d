//! The way to the engine: a Unix socket that may break and come back at any time.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use restore_events::{CodecError, Command, CommandLine, LineReader, Record, encode};

use crate::Input;

const TRY_AGAIN: Duration = Duration::from_millis(250);
/// An engine that does not read is as good as gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// `init`'s line is a line.
const STATUS_BYTES_MAX: usize = 1024;

/// Sends commands over the connection there is now.
#[derive(Debug, Clone, Default)]
pub struct CommandSender {
    stream: Arc<Mutex<Option<UnixStream>>>,
}

impl CommandSender {
    /// Sends a command. Without a connection it is dropped: the engine asks again when it is back.
    pub fn send(&self, command: Command) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(line) = encode(&CommandLine::new(command)) else { return };
        if stream.as_mut().is_some_and(|stream| stream.write_all(line.as_bytes()).is_err()) {
            *stream = None;
        }
    }
}

/// Attaches to the engine at `socket` again and again, and passes on what it tells. While there is none, the line
/// in the file `status` is passed on. `screen` is this screen's name.
pub fn attach(socket: PathBuf, status: Option<PathBuf>, screen: String, inputs: Sender<Input>) -> CommandSender {
    let commands = CommandSender::default();
    let sender = commands.clone();
    thread::spawn(move || {
        loop {
            let gone = match connect(&socket) {
                Ok(stream) => follow(stream, &screen, &sender, &inputs).is_err(),
                Err(_) => {
                    status.as_deref().and_then(read_status).is_some_and(|s| inputs.send(Input::Status(s)).is_err())
                }
            };
            if gone {
                return;
            }
            thread::sleep(TRY_AGAIN);
        }
    });
    commands
}

fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    Ok(stream)
}

/// Nobody reads the inputs any more.
struct ScreenGone;

/// Passes on one connection's records until it ends.
fn follow(
    stream: UnixStream,
    screen: &str,
    commands: &CommandSender,
    inputs: &Sender<Input>,
) -> Result<(), ScreenGone> {
    let Ok(writer) = stream.try_clone() else { return Ok(()) };
    *commands.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    let tell = |input| inputs.send(input).map_err(|_| ScreenGone);
    tell(Input::Connected)?;
    commands.send(Command::Hello { screen: screen.to_owned() });
    let mut reader = LineReader::new(BufReader::new(stream));
    loop {
        match reader.next_line::<Record>() {
            Ok(Some(record)) => tell(Input::Record(Box::new(record)))?,
            Ok(None) | Err(CodecError::Io(_) | CodecError::TooLong | CodecError::Truncated) => break,
            Err(error @ (CodecError::Version { .. } | CodecError::Malformed(_))) => {
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                tell(Input::Nonsense(format!("the engine said something odd: {error}{hint}")))?;
            }
        }
    }
    *commands.stream.lock().unwrap_or_else(PoisonError::into_inner) = None;
    tell(Input::Disconnected)
}

fn read_status(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(STATUS_BYTES_MAX as u64).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use restore_events::{Event, LogLevel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_screen_reattaches_when_the_engine_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, status) = (directory.path().join("engine.sock"), directory.path().join("status"));
        std::fs::write(&status, "Waiting for the network\n").unwrap();
        let (sender, inputs) = crossbeam_channel::unbounded();
        let commands = attach(socket.clone(), Some(status), "ttyS0".into(), sender);
        assert_eq!(inputs.recv_timeout(PATIENCE).unwrap(), Input::Status("Waiting for the network".into()));

        for round in 0..2 {
            let _ = std::fs::remove_file(&socket);
            let listener = UnixListener::bind(&socket).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = LineReader::new(BufReader::new(stream.try_clone().unwrap()));
            let hello: CommandLine = reader.next_line().unwrap().unwrap();
            assert_eq!(hello.command, Command::Hello { screen: "ttyS0".into() });
            let record = Record::new(round, 0, Event::Log { level: LogLevel::Info, text: "there".into() });
            stream.write_all(b"nonsense\n").unwrap();
            stream.write_all(encode(&record).unwrap().as_bytes()).unwrap();

            let next = || loop {
                match inputs.recv_timeout(PATIENCE).unwrap() {
                    Input::Status(_) => {}
                    other => return other,
                }
            };
            assert_eq!(next(), Input::Connected);
            assert!(matches!(next(), Input::Nonsense(_)));
            assert_eq!(next(), Input::Record(Box::new(record)));
            commands.send(Command::Retry);
            let command: CommandLine = reader.next_line().unwrap().unwrap();
            assert_eq!(command.command, Command::Retry);
            drop((stream, reader, listener));
            assert_eq!(next(), Input::Disconnected);
        }
    }
}
