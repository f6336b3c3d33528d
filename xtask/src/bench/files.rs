//! A web server of files, as plain as one can be: what `curl | tar` restores from over a link, and what shows how fast
//! the link is.

use std::fs::File;
use std::io::{BufRead, BufReader, Write, copy};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::disk::text;
use super::link::Link;

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is served, as the child process is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until it is killed: what the hidden task does.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen).with_context(|| format!("cannot listen at {}", options.listen))?;
    for stream in listener.incoming().flatten() {
        let directory = options.directory.clone();
        thread::spawn(move || answer(stream, &directory));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, directory: &Path) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().context("no request")??;
    // The headers are of no interest, and must have been read before the connection is closed.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let file = requested(&request).and_then(|path| File::open(directory.join(path)).ok());
    let Some(mut file) = file else {
        return Ok(stream.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")?);
    };
    let length = file.metadata()?.len();
    stream.write_all(format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
    copy(&mut file, &mut stream)?;
    Ok(())
}

/// The path in a request line, if it stays below the directory.
fn requested(line: &str) -> Option<&str> {
    let path = line.strip_prefix("GET /")?.split(' ').next()?;
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// A running server at the far end of a link; killed when dropped.
pub(super) struct FileServer {
    pub(super) child: Child,
    pub(super) url: String,
}

impl FileServer {
    pub(super) fn start(directory: &Path, link: &Link) -> Result<Self> {
        let address = link.free_address()?;
        let this = std::env::current_exe().context("this program is not to be found")?;
        let mut command = link.command(text(&this));
        command.args(["files", "--directory", text(directory), "--listen", &address.to_string()]);
        let child = command.stdin(Stdio::null()).spawn().context("cannot start the server of files")?;
        let server = Self { child, url: format!("http://{}", link.way_to(address)?) };
        wait_for(address)?;
        Ok(server)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until somebody listens.
pub(super) fn wait_for(address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            bail!("nobody listens at {address}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_above_the_directory_is_served() {
        assert_eq!(requested("GET /node.tar.zst HTTP/1.1"), Some("node.tar.zst"));
        for line in ["GET /../secret HTTP/1.1", "GET //etc/passwd HTTP/1.1", "POST /x HTTP/1.1", "GET"] {
            assert_eq!(requested(line), None, "{line}");
        }
    }
}
