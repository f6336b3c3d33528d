//! Tells how far the data is, and then reading it back, twice a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use node_model::Bytes;
use restore_events::{Event, Limit, Progress, Stage};

use super::teller::Teller;
use crate::data::{Meter, Reading};
use crate::journal::limit;

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
                // Only these two stages move the meter; other stages show their own state.
                if now.1 != Reading::default() && told != Some(now.1) {
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
    let is_verifying = now.1.verified_files > 0;
    let done = |reading: &Reading| match is_verifying {
        true => reading.verified_bytes,
        false => reading.written_bytes + reading.reused_bytes,
    };
    let seconds = now.0.duration_since(before.0).as_secs_f64().max(0.001);
    let speed = ((done(&now.1) - done(&before.1)) as f64 / seconds) as u64;
    let left = total.bytes.saturating_sub(done(&now.1));
    Progress {
        stage: if is_verifying { Stage::Verify } else { Stage::Data },
        step: None,
        done_bytes: Bytes(done(&now.1)),
        total_bytes: Bytes(total.bytes),
        file_count: if is_verifying { now.1.verified_files } else { now.1.files },
        file_total: total.files,
        bytes_per_second: Bytes(speed),
        eta_ms: (speed > 0).then(|| left.saturating_mul(1000) / speed),
        // The meter's waits are those of fetching and writing.
        limit: if is_verifying { Limit::Unknown } else { limit(now.1.limit_since(&before.1)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64, reading: Reading) -> (Instant, Reading) {
        (start + Duration::from_secs(seconds), reading)
    }

    #[test]
    fn reading_back_is_told_as_a_stage_of_its_own() {
        let start = Instant::now();
        let written = Reading { written_bytes: 900, reused_bytes: 100, files: 10, ..Reading::default() };
        let total = Total { bytes: 1000, files: 10 };
        let data = progress(&at(start, 0, Reading::default()), &at(start, 2, written), total);
        assert_eq!((data.stage, data.done_bytes, data.bytes_per_second), (Stage::Data, Bytes(1000), Bytes(500)));
        let half = Reading { verified_bytes: 500, verified_files: 4, ..written };
        let back = progress(&at(start, 2, written), &at(start, 4, half), total);
        assert_eq!((back.stage, back.done_bytes, back.file_count), (Stage::Verify, Bytes(500), 4));
        assert_eq!((back.bytes_per_second, back.eta_ms), (Bytes(250), Some(2000)));
    }
}
