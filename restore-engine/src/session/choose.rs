//! Which snapshot of the node is restored.

use std::sync::Arc;

use bundle::repository::{RepositoryInfo, SnapshotParts, VerifiedSnapshot};
use bundle::trust::Pin;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use node_model::{NodeName, SnapshotId};
use restore_events::{Answer, Choice, QuestionKind};
use server_api::{DamagedSnapshot, NodeFacts, RestoreClient, SnapshotSummary};

use super::ask::Exit;
use super::{Session, Stop, hint_or};
use crate::data::{Place, ServerSource, SnapshotSource, chain};
use crate::prove::{ProvenSnapshot, Whereabouts, prove};

/// What led to a snapshot.
pub(super) enum Chosen {
    /// The claim that this machine goes on with.
    Claimed(SnapshotId),
    /// The server's list, which nobody signed.
    Listed(Box<SnapshotSummary>),
}

impl Chosen {
    fn id(&self) -> &SnapshotId {
        match self {
            Self::Claimed(snapshot) => snapshot,
            Self::Listed(summary) => &summary.snapshot,
        }
    }

    /// Compares what the server's list said with what the receipt says under signature: an old snapshot must not pass
    /// for a new one.
    fn check(&self, snapshot: &VerifiedSnapshot) -> Result<(), String> {
        let Self::Listed(listed) = self else { return Ok(()) };
        let receipt = snapshot.receipt();
        let signed = (receipt.sequence, receipt.received_at.to_string());
        if (listed.sequence, &listed.received_at) == (signed.0, &signed.1) && listed.manifest == receipt.manifest {
            return Ok(());
        }
        Err(format!(
            "the server lists snapshot {} as number {}, received {}; its receipt says number {}, received {}",
            listed.snapshot, listed.sequence, listed.received_at, signed.0, signed.1
        ))
    }
}

impl Session {
    /// Has the operator confirm the node that the code is for. Naming it is what allows another machine to take its
    /// identity. Where the node's disks are erased already, that was said.
    pub(super) fn confirm_node(&mut self, facts: &NodeFacts, is_begun: bool) -> Result<(), Stop> {
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
        if is_begun || self.settings.node.is_some() || self.desk.is_unattended() {
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
                hint_or(damaged.hint.clone(), "run `rerack verify` on the server, and name another snapshot"),
            ));
        }
        let Some(latest) = list.snapshots.last() else {
            return Err(Stop::trouble(
                "The node has no snapshot",
                format!("node `{}` was never captured completely", client.reader().node()),
                "capture the node, or choose another one",
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
                label: format!("{}, number {}", moment(&snapshot.received_at), snapshot.sequence),
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
        chosen: &Chosen,
    ) -> Result<(ProvenSnapshot, Arc<dyn SnapshotSource>), Stop> {
        let (reader, snapshot) = (client.reader(), chosen.id());
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
        let info = describe(&facts.repository, &pin)?;
        let parts = SnapshotParts {
            manifest: documents.manifest.to_vec(),
            signature: documents.signature.to_vec(),
            receipt: documents.receipt.to_vec(),
        };
        let verified = verify(parts, &info, &facts.node, snapshot)?;
        chosen.check(&verified).map_err(|why| {
            let now_what = "do not trust this server's list before you know why";
            Stop::trouble("The snapshot is not what the server says", why, now_what)
        })?;
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
        let patient = self.patient(&source);
        let proven = prove(Arc::new(verified), &patient, &whereabouts, self.runtime.handle()).map_err(|error| {
            let what = if error.is_passing() { "The server stopped to answer" } else { "The snapshot is not complete" };
            Stop::trouble(what, chain(&error), error.hint()).if_passing(error.is_passing())
        })?;
        Ok((proven, source))
    }
}

/// Checks what is signed of the repository.
fn describe(repository: &str, pin: &Pin) -> Result<RepositoryInfo, Stop> {
    RepositoryInfo::unseal(repository.as_bytes(), pin)
        .map_err(|error| Stop::damaged("The repository's description cannot be used", &error, Some(error.hint())))
}

/// Checks what is signed of a snapshot.
fn verify(
    parts: SnapshotParts,
    info: &RepositoryInfo,
    node: &NodeName,
    snapshot: &SnapshotId,
) -> Result<VerifiedSnapshot, Stop> {
    VerifiedSnapshot::verify(parts, info, node, snapshot)
        .map_err(|error| Stop::damaged("The snapshot cannot be used", &error, Some(error.hint())))
}

/// A time as people read it, to the second: the server writes RFC 3339 in UTC with fractions.
fn moment(received_at: &str) -> String {
    match received_at.get(..19) {
        Some(second) => second.replacen('T', " ", 1) + " UTC",
        None => received_at.to_owned(),
    }
}

/// The snapshot named by its id, or the newest one received not after a time.
fn pick<'a>(snapshots: &'a [SnapshotSummary], named: &str) -> Result<&'a SnapshotSummary, Stop> {
    let by_id = snapshots.iter().find(|snapshot| snapshot.snapshot.as_str() == named);
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    // A time without a zone is meant in UTC, as the server shows times.
    let in_utc = |text: &str| Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    let not_after = time(named).or_else(|| in_utc(named));
    let is_early_enough = |snapshot: &&SnapshotSummary| {
        time(&snapshot.received_at).zip(not_after).is_some_and(|(received, not_after)| received <= not_after)
    };
    let by_time = || snapshots.iter().rev().find(is_early_enough);
    by_id.or_else(by_time).ok_or_else(|| {
        Stop::trouble(
            "There is no such snapshot",
            format!("rerack.snapshot={named} is neither an id nor a time after the first snapshot"),
            "see `rerack list NODE` on the server; `latest` is the newest",
        )
    })
}

#[cfg(test)]
mod tests {
    use bundle::testing::{self, SnapshotBuilder, node_name};

    use super::*;

    fn received(number: u64, at: &str) -> SnapshotSummary {
        serde_json::from_value(serde_json::json!({
            "snapshot": format!("{number:032x}"), "sequence": number, "received_at": at,
            "manifest": "00".repeat(32), "stream_bytes": 1, "identity": {"macs": []},
        }))
        .unwrap()
    }

    #[test]
    fn a_snapshot_is_named_by_its_id_or_by_a_time_not_before_it() {
        let all = [received(1, "2026-11-20T22:10:00.5Z"), received(2, "2026-11-21T06:37:05.214202849Z")];
        let number = |named: &str| pick(&all, named).ok().map(|snapshot| snapshot.sequence);
        assert_eq!(number(&format!("{:032x}", 1)), Some(1));
        assert_eq!(number("2026-11-21T06:37:06Z"), Some(2));
        assert_eq!(number("2026-11-21T06:37:05Z"), Some(1), "the fraction counts");
        assert_eq!(number("2026-11-21T08:37:06+02:00"), Some(2), "another zone");
        assert_eq!(number("2026-11-21"), Some(1), "the beginning of the day, in UTC");
        assert_eq!(number("2026-11-20T22:10:00Z"), None, "before the first");
        assert_eq!(number("yesterday"), None);
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(moment("2026-11-21T06:37:05.214202849Z"), "2026-11-21 06:37:05 UTC");
        assert_eq!(moment("?"), "?");
    }

    /// The listing of a snapshot as an honest server makes it.
    fn listed(snapshot: &VerifiedSnapshot) -> SnapshotSummary {
        let receipt = snapshot.receipt();
        SnapshotSummary {
            snapshot: receipt.snapshot.clone(),
            sequence: receipt.sequence,
            received_at: receipt.received_at.to_string(),
            manifest: receipt.manifest,
            hostname: None,
            stream_bytes: 0,
            identity: snapshot.manifest().spec.identity.clone(),
        }
    }

    fn now_what<T>(stopped: Result<T, Stop>) -> String {
        let Err(Stop::Trouble(failure)) = stopped else { panic!("no trouble") };
        failure.now_what
    }

    #[test]
    fn who_meets_a_newer_format_is_told_to_use_a_newer_rerack_and_not_to_look_for_damage() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let root = testing::root_key();
        let (info, snapshot) = runtime.block_on(async {
            let repository = testing::repository(directory.path(), &[node_name()]).await;
            (repository.info().clone(), SnapshotBuilder::new(&node_name(), "new").commit(&repository).await)
        });
        let mut newer = info.clone();
        newer.format += 1;
        let sealed = String::from_utf8(newer.seal(&root)).unwrap();
        assert_eq!(now_what(describe(&sealed, &Pin::Fingerprint(info.root_key.id()))), "use a later version of rerack");

        let mut receipt = snapshot.receipt().clone();
        receipt.format += 1;
        let parts = || SnapshotParts { manifest: Vec::new(), signature: Vec::new(), receipt: receipt.seal(&root) };
        let stopped = verify(parts(), &info, &node_name(), &receipt.snapshot);
        assert_eq!(now_what(stopped), "use a later version of rerack");
    }

    #[test]
    fn fault_38_an_old_snapshot_does_not_pass_for_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let snapshot = runtime.block_on(async {
            let repository = testing::repository(directory.path(), &[node_name()]).await;
            SnapshotBuilder::new(&node_name(), "old").commit(&repository).await
        });
        let honest = listed(&snapshot);
        assert_eq!(Chosen::Listed(Box::new(honest.clone())).check(&snapshot), Ok(()));
        assert_eq!(Chosen::Claimed(honest.snapshot.clone()).check(&snapshot), Ok(()));
        let lies: [fn(&mut SnapshotSummary); 3] = [
            |listed| listed.sequence += 1,
            |listed| listed.received_at = "2027-01-01T00:00:00Z".to_owned(),
            |listed| listed.manifest = bundle::Hash::of(b"another manifest"),
        ];
        for lie in lies {
            let mut listed = honest.clone();
            lie(&mut listed);
            let why = Chosen::Listed(Box::new(listed)).check(&snapshot).unwrap_err();
            assert!(why.contains("its receipt says number 1, received 2026-11-21T03:00:00Z"), "{why}");
        }
    }
}
