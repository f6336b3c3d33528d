//! Reading what clients send: bounded, and not for ever.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use server_api::ErrorCode;

use super::refusal::Refusal;

/// How long the next piece of a body is waited for.
const STALL_WAIT: Duration = Duration::from_secs(60);
/// Pieces of a body are gathered to this size before they are written.
const WRITE_BYTES: usize = 4 << 20;

fn too_large(max: u64) -> Refusal {
    Refusal::new(ErrorCode::TooLarge, format!("the body is longer than the {max} bytes that are accepted here"))
}

/// Refuses by the announced length, before anything is read.
fn check_announced(headers: &HeaderMap, max: u64) -> Result<(), Refusal> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max) { Err(too_large(max)) } else { Ok(()) }
}

async fn next(stream: &mut BodyDataStream) -> Result<Option<Bytes>, Refusal> {
    match tokio::time::timeout(STALL_WAIT, stream.next()).await {
        Err(_) => Err(Refusal::new(ErrorCode::BadRequest, "the body stalled")),
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(_))) => Err(Refusal::new(ErrorCode::BadRequest, "the body ended early")),
    }
}

/// The whole body in memory; for small ones.
pub(super) async fn read(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, Refusal> {
    check_announced(headers, max as u64)?;
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    while let Some(piece) = next(&mut stream).await? {
        if bytes.len() + piece.len() > max {
            return Err(too_large(max as u64));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// The whole body as JSON.
pub(super) async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body, max: usize) -> Result<T, Refusal> {
    let bytes = read(headers, body, max).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(ErrorCode::BadRequest, format!("the body is not the JSON expected: {error}")))
}

/// A large body in a file that vanishes with this value, so that slow clients hold disk and not memory.
#[derive(Debug)]
pub(super) struct Upload {
    path: PathBuf,
    length: u64,
}

impl Upload {
    /// Reads a body into a new file below `directory`.
    pub(super) async fn receive(headers: &HeaderMap, body: Body, max: u64, directory: &Path) -> Result<Self, Refusal> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        check_announced(headers, max)?;
        let path = directory.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        let mut file = File::create_new(&path)?;
        let mut upload = Self { path, length: 0 };
        let mut stream = body.into_data_stream();
        let mut waiting = BytesMut::new();
        loop {
            let piece = next(&mut stream).await?;
            let ended = piece.is_none();
            waiting.extend_from_slice(&piece.unwrap_or_default());
            if upload.length + waiting.len() as u64 > max {
                return Err(too_large(max));
            }
            if waiting.len() >= WRITE_BYTES || ended {
                let block = waiting.split().freeze();
                upload.length += block.len() as u64;
                let write = move || file.write_all(&block).map(|()| file);
                file = tokio::task::spawn_blocking(write).await.map_err(|_| crate::ServerError::Task)??;
            }
            if ended {
                return Ok(upload);
            }
        }
    }

    /// The body, in memory. It may take long; call it where waiting is allowed.
    pub(super) fn load(&self) -> std::io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(self.length as usize);
        File::open(&self.path)?.take(self.length).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the server starts again.
        let _ = std::fs::remove_file(&self.path);
    }
}
