//! Reading packs by range. A range is served only if every byte of it belongs to a chunk of the snapshot: a pack may
//! hold other nodes' chunks in between.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use bundle::Hash;
use bytes::Bytes;
use futures::stream;
use server_api::ErrorCode;
use server_api::limits::RANGE_BYTES_MAX;

use super::refusal::{Refusal, told};
use super::snapshots::parse_snapshot;
use super::upload::parse_hash;
use super::{App, Reply, Shared};

/// A range is read from the disk in pieces of this size, so that many readers need little memory.
const PIECE_BYTES: u64 = 1 << 20;

/// The one range in a `Range` header, half-open.
fn parse_range(headers: &HeaderMap) -> Result<Range<u64>, Refusal> {
    let header = headers.get(RANGE).ok_or_else(|| {
        Refusal::new(ErrorCode::BadRequest, "packs are read by range only").hint("send `Range: bytes=FIRST-LAST`")
    })?;
    let (first, last) = header
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
        .and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)))
        .ok_or_else(|| Refusal::new(ErrorCode::BadRequest, "the range is not of the form `bytes=FIRST-LAST`"))?;
    match last.checked_add(1) {
        Some(end) if end > first && end - first <= RANGE_BYTES_MAX => Ok(first..end),
        _ => Err(Refusal::new(
            ErrorCode::RangeNotSatisfiable,
            format!("the range is empty or longer than {RANGE_BYTES_MAX} bytes"),
        )),
    }
}

pub(super) async fn range(
    State(app): Shared,
    Path((node, id, pack)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    let (id, pack) = (parse_snapshot(&id)?, parse_hash(&pack)?);
    let range = parse_range(&headers)?;
    let reads = app.reads.get(&app.server, &app.index, &node, &id).await?;
    if !reads.covers(&pack, &range) {
        let message = format!("bytes {range:?} of pack {pack} are not all chunks of this snapshot");
        return Err(Refusal::new(ErrorCode::RangeNotAllowed, message)
            .hint("ask for frames as the placement gives them; ranges may join neighbours but bridge no gap"));
    }
    let total = reads.placement().packs().iter().find(|known| known.hash == pack).map_or(0, |known| known.length_bytes);
    let first_end = range.end.min(range.start + PIECE_BYTES);
    // Read before the answer begins: a pack that cannot be read is an error with a reason, not a broken answer.
    let first = app.server.repository.pack_range(&pack, range.start..first_end).await?;
    let head = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, (range.end - range.start).to_string()),
        (CONTENT_RANGE, format!("bytes {}-{}/{total}", range.start, range.end - 1)),
        (ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let body = Body::from_stream(pieces(app, pack, first, first_end..range.end));
    Ok((StatusCode::PARTIAL_CONTENT, head, body).into_response())
}

/// The first piece, then the rest, each read when the one before it is on its way.
fn pieces(
    app: Arc<App>,
    pack: Hash,
    first: Bytes,
    rest: Range<u64>,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send {
    stream::try_unfold((app, Some(first), rest), move |(app, ready, rest)| async move {
        if let Some(ready) = ready {
            return Ok(Some((ready, (app, None, rest))));
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let end = rest.end.min(rest.start + PIECE_BYTES);
        match app.server.repository.pack_range(&pack, rest.start..end).await {
            Ok(piece) => Ok(Some((piece, (app, None, end..rest.end)))),
            Err(error) => {
                tracing::warn!(%pack, error = told(&error), "a pack became unreadable while it was sent");
                Err(std::io::Error::other(error))
            }
        }
    })
}
