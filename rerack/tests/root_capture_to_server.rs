//! A capture to a real bundle server over HTTPS, and one that outlives the server's absence. Needs root.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use bundle::testing::{noise, some_spec};
use bundle::trust::NodeFile;
use bundle_server::{Server, system_clock};
use capture_agent::sink::ServerSink;
use capture_agent::{
    CaptureError, CaptureOptions, CaptureReport, CaptureRequest, FilesRoot, SourceKind, VolumeSource, capture,
};
use node_model::DeviceKey;
use server_api::ServerUrl;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A server that runs until it is told to stop.
struct Running {
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(directory: &Path, listener: TcpListener) -> (Self, Server) {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::open(directory, system_clock())).unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = server.clone();
        let until = async { drop(stopped.await) };
        let served = runtime.spawn(async move { serving.serve(listener, until).await.unwrap() });
        (Self { runtime, stop, served }, server)
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.served).unwrap();
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).unwrap()
}

fn capture_files(at: &Path, file: &NodeFile, sink: &ServerSink) -> Result<CaptureReport, CaptureError> {
    let root = FilesRoot::Mounted { at: at.to_owned(), shown: "/".into() };
    let device = DeviceKey::partition(&DeviceKey::disk(0), 2);
    let sources = [VolumeSource { name: "root".parse().unwrap(), device, kind: SourceKind::Files(root) }];
    let (spec, key, options) = (some_spec(), file.secret.signing_key(), CaptureOptions::default());
    capture(&CaptureRequest { spec: &spec, sources: &sources, key: &key, options: &options }, sink, &|_| {})
}

fn write_files(at: &Path, generation: u64) {
    for number in 0..300 {
        fs::write(at.join(format!("file {number}")), noise(generation * 1000 + number, 280_000)).unwrap();
    }
}

#[test]
fn a_capture_outlives_its_servers_absence_and_stores_nothing_twice() {
    if !is_root() {
        return;
    }
    let (store, node) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_files(node.path(), 1);
    let listener = listen("127.0.0.1:0".parse().unwrap());
    let address = listener.local_addr().unwrap();
    let (running, server) = Running::start(store.path(), listener);
    let url = format!("https://{address}");
    let name = "web-03".parse().unwrap();
    let file = running.runtime.block_on(server.node_add(&name, vec![url.clone()], false)).unwrap();
    let sink = ServerSink::connect(&file, &ServerUrl::parse_list(&url).unwrap()).unwrap();

    let first = capture_files(node.path(), &file, &sink).unwrap();
    assert!(first.uploaded_bytes.get() > 300 * 280_000 && first.sequence == 1, "{first:?}");
    let second = capture_files(node.path(), &file, &sink).unwrap();
    assert_eq!((second.new_chunk_count, second.uploaded_bytes.get(), second.sequence), (0, 0, 2));

    write_files(node.path(), 2);
    running.stop();
    drop(server);
    let again = std::thread::scope(|scope| {
        let again = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(2));
            Running::start(store.path(), listen(address)).0
        });
        let third = capture_files(node.path(), &file, &sink).unwrap();
        assert!(third.sequence == 3 && third.elapsed >= Duration::from_millis(1500), "{third:?}");
        again.join().unwrap()
    });
    again.stop();

    let impatient = sink.with_outage_max(Duration::from_secs(1));
    let error = capture_files(node.path(), &file, &impatient).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.hint().is_some());
}

fn is_root() -> bool {
    let root = fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t0"));
    if !root {
        eprintln!("skipped: private views of mounts need root");
    }
    root
}
