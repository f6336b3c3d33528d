//! Telling the server that its arm is burnt.

use std::time::{Duration, Instant};

use bundle::Hash;
use server_api::RestoreClient;

use super::Session;
use crate::data::chain;

/// How long a server that is gone is waited for: the node is restored, and nothing but this keeps it from its cluster.
const PATIENCE: Duration = Duration::from_secs(60);
/// First wait before the next try; it doubles.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

impl Session {
    /// Tells the server that the restore is done. An arm that is not burnt lets the same machine begin again without
    /// new consent, so a server that is gone for a moment is waited for.
    pub(super) fn tell_done(&self, client: &RestoreClient, digest: Hash) {
        let started = Instant::now();
        let mut wait = BACKOFF_FIRST;
        loop {
            match self.runtime.block_on(client.done(digest)) {
                Ok(_) => return,
                Err(error) if error.is_transient() && started.elapsed() + wait < PATIENCE => {
                    std::thread::sleep(wait);
                    wait *= 2;
                }
                Err(error) => {
                    let why = chain(&error);
                    self.desk
                        .warn(format!("the server does not know that the restore is done; disarm it there: {why}"));
                    return;
                }
            }
        }
    }
}
