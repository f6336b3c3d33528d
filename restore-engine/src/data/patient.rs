//! A source whose segments are waited for, as the pipeline waits for its packs.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundle::Hash;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::pipeline::{BACKOFF_FIRST, BACKOFF_MAX, Notice};
use super::source::{PackSource, SnapshotSource, SourceError};

/// Asks another source again for as long as it only does not deliver. Catalogs are read once more while files are
/// written, finished and verified: a server that is gone then is no more the end of a restore than one that is gone
/// between two packs.
pub(crate) struct Patient {
    source: Arc<dyn SnapshotSource>,
    patience: Duration,
    notify: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl Patient {
    /// Waits for `source` for up to `patience` each time, and tells `notify` of it.
    pub(crate) fn new(
        source: Arc<dyn SnapshotSource>,
        patience: Duration,
        notify: Arc<dyn Fn(Notice) + Send + Sync>,
    ) -> Self {
        Self { source, patience, notify }
    }

    async fn ask<'a>(
        &'a self,
        read: impl Fn() -> BoxFuture<'a, Result<Bytes, SourceError>>,
    ) -> Result<Bytes, SourceError> {
        let started = Instant::now();
        let mut wait = BACKOFF_FIRST;
        loop {
            match read().await {
                Err(error @ SourceError::Passing { .. }) if started.elapsed() < self.patience => {
                    (self.notify)(Notice::Waiting { why: error.to_string(), again_in: wait });
                }
                answer => {
                    if answer.is_ok() && wait > BACKOFF_FIRST {
                        (self.notify)(Notice::Resumed);
                    }
                    return answer;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (2 * wait).min(BACKOFF_MAX);
        }
    }
}

impl PackSource for Patient {
    fn read<'a>(&'a self, pack: &'a Hash, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        // The pipeline waits by itself: it can also be told to stop.
        self.source.read(pack, range)
    }
}

impl SnapshotSource for Patient {
    fn list<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        self.ask(|| self.source.list(name)).boxed()
    }

    fn catalog<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        self.ask(|| self.source.catalog(name)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A source of catalogs that fails as told, then delivers.
    struct Failing(Mutex<Vec<SourceError>>);

    fn passing() -> SourceError {
        SourceError::Passing { from: "the server".to_owned(), why: "connection refused".to_owned() }
    }

    impl PackSource for Failing {
        fn read<'a>(&'a self, _: &'a Hash, _: Range<u64>) -> BoxFuture<'a, Result<Bytes, SourceError>> {
            async { Err(passing()) }.boxed()
        }
    }

    impl SnapshotSource for Failing {
        fn list<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>> {
            self.catalog(name)
        }

        fn catalog<'a>(&'a self, _: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>> {
            let answer = self.0.lock().unwrap().pop().map_or_else(|| Ok(Bytes::from("segment")), Err);
            async move { answer }.boxed()
        }
    }

    /// What comes of these failures, and what is told meanwhile.
    fn ask(failures: Vec<SourceError>, patience: Duration) -> (Result<Bytes, SourceError>, Vec<Notice>) {
        let told: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let teller = told.clone();
        let source = Arc::new(Failing(Mutex::new(failures)));
        let patient = Patient::new(source, patience, Arc::new(move |notice| teller.lock().unwrap().push(notice)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(patient.catalog(&Hash::of(b"segment")));
        let told = told.lock().unwrap().clone();
        (answer, told)
    }

    #[test]
    fn who_is_away_is_asked_again() {
        let (answer, told) = ask(vec![passing(), passing()], Duration::from_secs(60));
        assert_eq!(answer.unwrap(), "segment");
        assert!(matches!(&told[..], [Notice::Waiting { .. }, Notice::Waiting { .. }, Notice::Resumed]), "{told:?}");
    }

    #[test]
    fn who_refuses_or_stays_away_is_not() {
        let refusal = SourceError::Lasting { from: "the server".to_owned(), why: "no such segment".to_owned() };
        let (answer, told) = ask(vec![refusal], Duration::from_secs(60));
        assert!(matches!(answer, Err(SourceError::Lasting { .. })) && told.is_empty(), "{told:?}");
        let (answer, told) = ask((0..10).map(|_| passing()).collect(), Duration::from_millis(300));
        assert!(matches!(answer, Err(SourceError::Passing { .. })) && told.len() == 2, "{told:?}");
    }
}
