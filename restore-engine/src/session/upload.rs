//! Sends events to the server while a restore runs. Nothing waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
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

/// How soon the end is noticed.
const NOTICED: Duration = Duration::from_millis(50);
/// How long the end waits for the last batches: the node is restored, and the server may be gone.
const LAST_MAX: Duration = Duration::from_secs(5);

/// Stops sending when dropped, after everything told until then; a server that is gone is not waited for long.
pub(super) struct Upload {
    alive: Option<Sender<()>>,
    /// Closed when the last batch is away.
    ended: Receiver<()>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.alive.take();
        // It only ends: nothing is ever sent.
        let _ = self.ended.recv_timeout(LAST_MAX);
    }
}

/// Begins to send everything told from now on.
pub(super) fn start(teller: &Arc<Teller>, client: &RestoreClient, runtime: &Handle) -> Upload {
    let (client, runtime, session) = (client.clone(), runtime.clone(), session_name());
    start_with(teller, move |records| {
        let batch = EventBatch { session: session.clone(), records: records.to_vec() };
        runtime.block_on(client.send_events(&batch)).is_ok()
    })
}

/// Sends batches by `send`, which says whether one has arrived.
fn start_with(teller: &Arc<Teller>, mut send: impl FnMut(&[Record]) -> bool + Send + 'static) -> Upload {
    let (past, future) = teller.attach();
    let (alive, asked) = channel::<()>();
    let (ending, ended) = channel::<()>();
    thread::spawn(move || {
        let _ending = ending;
        let mut waiting: Vec<Record> = past.into_iter().filter(|record| is_of_interest(&record.event)).collect();
        loop {
            let is_over = collect(&mut waiting, &future, &asked);
            let excess = waiting.len().saturating_sub(WAITING_RECORDS_MAX);
            waiting.drain(..excess);
            while !waiting.is_empty() {
                let count = waiting.len().min(BATCH_RECORDS_MAX);
                if !send(&waiting[..count]) {
                    break;
                }
                waiting.drain(..count);
            }
            if is_over {
                return;
            }
        }
    });
    Upload { alive: Some(alive), ended }
}

/// Takes what is told until the next batch is due, or until the end; says whether that is it.
fn collect(waiting: &mut Vec<Record>, future: &Receiver<Record>, asked: &Receiver<()>) -> bool {
    let deadline = Instant::now() + EVERY;
    loop {
        // Looked at first: whatever was told before the end is then still taken.
        let is_over = matches!(asked.try_recv(), Err(TryRecvError::Disconnected));
        waiting.extend(future.try_iter().filter(|record| is_of_interest(&record.event)));
        if is_over || Instant::now() >= deadline {
            return is_over;
        }
        match future.recv_timeout(NOTICED) {
            Ok(record) if is_of_interest(&record.event) => waiting.push(record),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use restore_events::LogLevel;

    use super::*;

    #[test]
    fn everything_told_before_the_end_is_sent_however_much_it_is() {
        let teller = Arc::new(Teller::new(0, Box::new(std::io::sink())));
        let sent: Arc<Mutex<Vec<usize>>> = Arc::default();
        let seen = sent.clone();
        let upload = start_with(&teller, move |records| {
            seen.lock().unwrap().push(records.len());
            true
        });
        let begun = Instant::now();
        for number in 0..1234 {
            teller.log(LogLevel::Info, format!("line {number}"));
        }
        drop(upload);
        let sent = sent.lock().unwrap();
        assert_eq!(sent.iter().sum::<usize>(), 1234, "{sent:?}");
        assert!(sent.iter().all(|&count| count <= BATCH_RECORDS_MAX), "{sent:?}");
        assert!(begun.elapsed() < LAST_MAX, "the end is noticed at once");
    }

    #[test]
    fn a_server_that_is_gone_ends_nothing() {
        let teller = Arc::new(Teller::new(0, Box::new(std::io::sink())));
        let upload = start_with(&teller, |_| false);
        teller.log(LogLevel::Info, "a line");
        let begun = Instant::now();
        drop(upload);
        assert!(begun.elapsed() < LAST_MAX, "a batch that cannot be sent is tried once");
    }
}
