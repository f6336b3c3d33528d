//! The socket on which screens attach: records go out, commands come in.

use std::io::{self, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use restore_events::{Command, CommandLine, LineReader, LogLevel, encode};

use super::teller::Teller;

/// Listens at `path`, replacing what an engine that crashed left there, and hands every command to `commands`.
///
/// # Errors
/// If the socket cannot be made.
pub(super) fn listen(path: &Path, teller: &Arc<Teller>, commands: &Sender<Command>) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let (teller, commands) = (teller.clone(), commands.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (teller, commands) = (teller.clone(), commands.clone());
            thread::spawn(move || serve(stream, &teller, &commands));
        }
    });
    Ok(())
}

/// Talks to one screen until it goes. A screen that goes takes nothing with it.
fn serve(stream: UnixStream, teller: &Arc<Teller>, commands: &Sender<Command>) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut writing = Some(stream);
    let mut lines = LineReader::new(BufReader::new(reading));
    loop {
        match lines.next_line::<CommandLine>() {
            Ok(Some(CommandLine { command: Command::Hello { screen }, .. })) => {
                teller.log(LogLevel::Detail, format!("screen {screen} attached"));
                if let Some(stream) = writing.take() {
                    let teller = teller.clone();
                    thread::spawn(move || send(stream, &teller));
                }
            }
            Ok(Some(CommandLine { command, .. })) => {
                if commands.send(command).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                teller.log(LogLevel::Detail, format!("a screen sent a line that is no command: {error}"));
                if !matches!(error, restore_events::CodecError::Malformed(_)) {
                    return;
                }
            }
        }
    }
}

fn send(mut stream: UnixStream, teller: &Teller) {
    let (past, future) = teller.attach();
    for record in past.into_iter().chain(future) {
        let Ok(line) = encode(&record) else { continue };
        if stream.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}
