//! What a restoring machine may do: read its node, claim, and report.

use bundle::Hash;
use bundle::node_model::NodeName;
use bundle::trust::BearerToken;

use super::connection::Connection;
use super::error::ClientError;
use super::reader::Reader;
use crate::routes::template;
use crate::{Claim, ClaimRequest, EventBatch, EventsStored, StepRequest};

/// A client that has the token of one restore.
#[derive(Debug, Clone)]
pub struct RestoreClient {
    reader: Reader,
}

impl RestoreClient {
    pub(super) fn new(connection: Connection, node: NodeName, token: BearerToken) -> Self {
        Self { reader: Reader::new(connection, node, token) }
    }

    /// Reads the node's snapshots.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Binds the arm to a plan, right before its consent is acted on. The same claim again answers the same; until
    /// disks are erased another plan may take its place.
    pub async fn claim(&self, claim: &ClaimRequest) -> Result<Claim, ClientError> {
        self.reader.connection.post_json(template::RESTORE_CLAIM, Some(&self.reader.token), claim).await
    }

    /// Says that the plan's disks are about to be erased. From then on no other plan is accepted.
    pub async fn erased(&self, plan_digest: Hash) -> Result<Claim, ClientError> {
        self.step(template::RESTORE_ERASED, plan_digest).await
    }

    /// Says that the restore is over. The arm is burnt; only events are taken afterwards.
    pub async fn done(&self, plan_digest: Hash) -> Result<Claim, ClientError> {
        self.step(template::RESTORE_DONE, plan_digest).await
    }

    /// Stores events on the server; safe to repeat.
    pub async fn send_events(&self, batch: &EventBatch) -> Result<EventsStored, ClientError> {
        self.reader.connection.post_json(template::RESTORE_EVENTS, Some(&self.reader.token), batch).await
    }

    async fn step(&self, path: &str, plan_digest: Hash) -> Result<Claim, ClientError> {
        self.reader.connection.post_json(path, Some(&self.reader.token), &StepRequest { plan_digest }).await
    }
}
