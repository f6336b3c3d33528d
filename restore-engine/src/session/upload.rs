//! Sends events to the server while a restore runs. Nothing waits for it.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use restore_events::{Event, Record};
use server_api::{EventBatch, RestoreClient};
use tokio::runtime::Handle;

use super::teller::Teller;

/// How often a batch is sent.
const EVERY: Duration = Duration::from_secs(2);
/// Records in one batch; more wait for the next.
const BATCH_RECORDS_MAX: usize = 500;
/// Records kept while the server is away; beyond that the oldest are given up.
const WAITING_RECORDS_MAX: usize = 5_000;

/// Stops sending when dropped, after the last batch.
pub(super) struct Upload(Option<std::sync::mpsc::Sender<()>>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Begins to send everything told from now on.
pub(super) fn start(teller: &Arc<Teller>, client: &RestoreClient, runtime: &Handle) -> Upload {
    let (past, future) = teller.attach();
    let (alive, ended) = std::sync::mpsc::channel::<()>();
    let (client, runtime) = (client.clone(), runtime.clone());
    let session = session_name();
    thread::spawn(move || {
        let mut waiting: Vec<Record> = past.into_iter().filter(|record| is_of_interest(&record.event)).collect();
        loop {
            let deadline = Instant::now() + EVERY;
            let mut told_all = false;
            while let Ok(record) = match future.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Disconnected) => {
                    told_all = true;
                    Err(())
                }
                other => other.map_err(|_| ()),
            } {
                if is_of_interest(&record.event) {
                    waiting.push(record);
                }
            }
            let excess = waiting.len().saturating_sub(WAITING_RECORDS_MAX);
            waiting.drain(..excess);
            let count = waiting.len().min(BATCH_RECORDS_MAX);
            let batch = EventBatch { session: session.clone(), records: waiting[..count].to_vec() };
            if count > 0 && runtime.block_on(client.send_events(&batch)).is_ok() {
                waiting.drain(..count);
            }
            let over = matches!(ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
            if over || told_all {
                return;
            }
        }
    });
    Upload(Some(alive))
}

/// Names this run of the engine: process numbers repeat from boot to boot, the kernel's boot id does not.
fn session_name() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{}-{}", boot.trim(), std::process::id()).trim_start_matches('-').to_owned()
}

/// Progress comes twice a second and is of no interest afterwards.
fn is_of_interest(event: &Event) -> bool {
    !matches!(event, Event::Progress(_))
}
