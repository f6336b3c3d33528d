//! Tells how far the data is, twice a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use node_model::Bytes;
use restore_events::{Event, Limit, Progress, Stage};

use super::teller::Teller;
use crate::data::{Meter, Reading, Work};

const EVERY: Duration = Duration::from_millis(500);
/// Speed and limit are those of about this time.
const WINDOW: usize = 6;

/// Tells progress until it is dropped.
pub(super) struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    /// Bytes of content.
    pub(super) bytes: u64,
    /// Files.
    pub(super) files: u64,
}

impl Ticker {
    /// Begins to tell.
    pub(super) fn start(teller: Arc<Teller>, meter: Arc<Meter>, total: Total) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut readings = vec![(Instant::now(), meter.read())];
            let mut told = None;
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(EVERY);
                let now = (Instant::now(), meter.read());
                readings.push(now);
                if readings.len() > WINDOW {
                    readings.remove(0);
                }
                let done = now.1.written_bytes + now.1.reused_bytes;
                // Only the data stage moves the meter; other stages show their own state.
                if done > 0 && told != Some(now.1) {
                    told = Some(now.1);
                    teller.tell(Event::Progress(progress(&readings[0], &now, total)));
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only tells; a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

fn progress(before: &(Instant, Reading), now: &(Instant, Reading), total: Total) -> Progress {
    let done = |reading: &Reading| reading.written_bytes + reading.reused_bytes;
    let seconds = now.0.duration_since(before.0).as_secs_f64().max(0.001);
    let speed = ((done(&now.1) - done(&before.1)) as f64 / seconds) as u64;
    let left = total.bytes.saturating_sub(done(&now.1));
    Progress {
        stage: Stage::Data,
        step: None,
        done_bytes: Bytes(done(&now.1)),
        total_bytes: Bytes(total.bytes),
        file_count: now.1.files,
        file_total: total.files,
        bytes_per_second: Bytes(speed),
        eta_ms: (speed > 0).then(|| left.saturating_mul(1000) / speed),
        limit: limit(now.1.limit_since(&before.1)),
    }
}

/// What workers wait for, in the words of screens.
pub(super) fn limit(work: Option<Work>) -> Limit {
    match work {
        Some(Work::NetworkWait) => Limit::Network,
        Some(Work::Decode) => Limit::Cpu,
        Some(Work::Write) => Limit::Disk,
        None => Limit::Unknown,
    }
}
