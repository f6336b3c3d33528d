//! Which snapshot of the node is restored.

use std::sync::Arc;

use bundle::repository::{RepositoryInfo, SnapshotParts, VerifiedSnapshot};
use bundle::trust::Pin;
use node_model::SnapshotId;
use restore_events::{Answer, Choice, QuestionKind};
use server_api::{DamagedSnapshot, NodeFacts, RestoreClient, SnapshotSummary};

use super::ask::Exit;
use super::{Session, Stop};
use crate::data::{Place, ServerSource, SnapshotSource, chain};
use crate::prove::{ProvenSnapshot, Whereabouts, prove};

impl Session {
    /// Has the operator confirm the node that the code is for. Naming it is what allows another machine to take its
    /// identity.
    pub(super) fn confirm_node(&mut self, facts: &NodeFacts) -> Result<(), Stop> {
        let node = facts.node.to_string();
        if let Some(named) = &self.settings.node
            && *named != node
        {
            return Err(Stop::trouble(
                "This restore code is for another node",
                format!("the code is for `{node}`, and rerack.node= names `{named}`"),
                "arm the node you mean: rerack arm NODE",
            ));
        }
        if self.settings.node.is_some() || self.desk.is_unattended() {
            return Ok(());
        }
        let choice = Choice { key: node.clone(), label: node.clone(), detail: None };
        loop {
            let ask = QuestionKind::Node { choices: vec![choice.clone()], default: None };
            match self.desk.ask(ask, None)? {
                Answer::Choice(key) if key == node => return Ok(()),
                Answer::Decline => return Err(Stop::Exit(Exit::Retry)),
                _ => {}
            }
        }
    }

    /// The snapshot to restore: as named, or chosen on the screen, or the latest.
    pub(super) fn choose_snapshot(&mut self, client: &RestoreClient) -> Result<SnapshotSummary, Stop> {
        let list = self.runtime.block_on(client.reader().snapshots()).map_err(|error| Stop::client(&error))?;
        for damaged in &list.damaged {
            self.desk.warn(format!("snapshot {} cannot be used: {}", damaged.snapshot, damaged.problem));
        }
        let named = self.settings.snapshot.as_deref();
        let is_named = |damaged: &&DamagedSnapshot| named == Some(damaged.snapshot.as_str());
        let unusable = match list.snapshots.is_empty() {
            true => list.damaged.last(),
            false => list.damaged.iter().find(is_named),
        };
        if let Some(damaged) = unusable {
            return Err(Stop::trouble(
                "The snapshot cannot be used",
                damaged.problem.clone(),
                "no disk was written; run `rerack verify` on the server, and name another snapshot",
            ));
        }
        let Some(latest) = list.snapshots.last() else {
            return Err(Stop::trouble(
                "The node has no snapshot",
                format!("node `{}` was never captured completely", client.reader().node()),
                "no disk was written; capture the node, or choose another one",
            ));
        };
        match named {
            Some("latest") => return Ok(latest.clone()),
            Some(named) => return pick(&list.snapshots, named).cloned(),
            None if self.desk.is_unattended() => return Ok(latest.clone()),
            None => {}
        }
        let choices: Vec<Choice> = list
            .snapshots
            .iter()
            .rev()
            .map(|snapshot| Choice {
                key: snapshot.snapshot.to_string(),
                label: format!("{} (number {})", snapshot.received_at, snapshot.sequence),
                detail: Some(format!("{}, {}", node_model::Bytes(snapshot.stream_bytes), snapshot.snapshot)),
            })
            .collect();
        loop {
            let ask = QuestionKind::Snapshot { choices: choices.clone(), default: Some(latest.snapshot.to_string()) };
            match self.desk.ask(ask, None)? {
                Answer::Choice(key) => {
                    if let Some(snapshot) = list.snapshots.iter().find(|snapshot| snapshot.snapshot.as_str() == key) {
                        return Ok(snapshot.clone());
                    }
                }
                Answer::Decline => return Err(Stop::Exit(Exit::Retry)),
                _ => {}
            }
        }
    }

    /// Fetches and proves a snapshot: signatures, segments, and that every chunk is where the server says.
    pub(super) fn prove(
        &self,
        client: &RestoreClient,
        facts: &NodeFacts,
        snapshot: &SnapshotId,
    ) -> Result<(ProvenSnapshot, Arc<dyn SnapshotSource>), Stop> {
        let reader = client.reader();
        let (documents, placement, packs) = self
            .runtime
            .block_on(async {
                Ok((
                    reader.documents(snapshot).await?,
                    reader.placement(snapshot).await?,
                    reader.check(snapshot).await?,
                ))
            })
            .map_err(|error| Stop::client(&error))?;
        // The TLS connection has proven which key is the root's.
        let pin = Pin::Fingerprint(reader.connection().root().id());
        let info = RepositoryInfo::unseal(facts.repository.as_bytes(), &pin)
            .map_err(|error| Stop::damaged("The repository's description cannot be used", &error))?;
        let parts = SnapshotParts {
            manifest: documents.manifest.to_vec(),
            signature: documents.signature.to_vec(),
            receipt: documents.receipt.to_vec(),
        };
        let verified = VerifiedSnapshot::verify(parts, &info, &facts.node, snapshot)
            .map_err(|error| Stop::damaged("The snapshot cannot be used", &error))?;
        let source: Arc<dyn SnapshotSource> = Arc::new(ServerSource::new(reader.clone(), snapshot.clone()));
        let placement = Arc::new(placement);
        let places = placement.clone();
        let whereabouts = Whereabouts {
            locate: Arc::new(move |chunk| {
                let placed = places.find(chunk)?;
                Some(Place { pack: places.pack_of(placed).hash, offset: placed.offset, stored_len: placed.stored_len })
            }),
            pack_bytes: &|pack| {
                packs.packs.iter().find(|check| check.pack == *pack).and_then(|check| check.found_bytes)
            },
        };
        let proven = prove(Arc::new(verified), &*source, &whereabouts, self.runtime.handle())
            .map_err(|error| Stop::trouble("The snapshot is not complete", chain(&error), error.hint()))?;
        Ok((proven, source))
    }
}

/// The snapshot named by its id, or the newest one received not after a time.
fn pick<'a>(snapshots: &'a [SnapshotSummary], named: &str) -> Result<&'a SnapshotSummary, Stop> {
    let by_id = snapshots.iter().find(|snapshot| snapshot.snapshot.as_str() == named);
    // RFC 3339 in UTC sorts as text.
    let looks_like_time = named.len() >= 10 && named.as_bytes()[4] == b'-' && named.as_bytes()[7] == b'-';
    let by_time = || snapshots.iter().rev().find(|snapshot| looks_like_time && snapshot.received_at.as_str() <= named);
    by_id.or_else(by_time).ok_or_else(|| {
        Stop::trouble(
            "There is no such snapshot",
            format!("rerack.snapshot={named} is neither an id nor a time after the first snapshot"),
            "see `rerack list NODE` on the server; `latest` is the newest",
        )
    })
}
