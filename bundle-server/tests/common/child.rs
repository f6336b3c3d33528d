//! A server in a process of its own, which can be killed and watched.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bundle_server::{Server, system_clock};
use server_api::ServerUrl;

/// Names the directory that a child of a test is to serve.
const CHILD: &str = "RERACK_TEST_SERVE";

/// Serves, if this process is a child that was started for it by [`Killable`].
pub async fn serve() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let directory = Path::new(&directory);
    let server = Server::open(directory, system_clock()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    fs::write(directory.with_extension("address.new"), address).unwrap();
    fs::rename(directory.with_extension("address.new"), directory.with_extension("address")).unwrap();
    server.serve(listener, std::future::pending()).await.unwrap();
}

/// A running child; killed on drop. The test binary needs a test `serve_until_killed` that calls [`serve`].
pub struct Killable(Child);

impl Killable {
    /// Starts it, under another program if `watcher` names one with its arguments.
    pub async fn start(directory: &Path, watcher: &[&str]) -> (Self, ServerUrl) {
        let address = directory.with_extension("address");
        let _ = fs::remove_file(&address);
        let own = std::env::current_exe().unwrap();
        let mut words = watcher.iter().map(|word| word.to_string()).chain([own.to_str().unwrap().to_owned()]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(["--exact", "serve_until_killed", "--nocapture"])
            .env(CHILD, directory)
            .stdout(Stdio::null());
        let child = Self(command.spawn().unwrap());
        for _ in 0..400 {
            if let Ok(address) = fs::read_to_string(&address) {
                return (child, format!("https://{address}").parse().unwrap());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not start");
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
