//! One HTTP client for all servers of a repository: TLS under a pin, no redirects, no proxies, bounded answers, and a
//! watchdog that looks for movement instead of a limit on the whole time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bundle::trust::{BearerToken, Pin};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;

use super::error::ClientError;
use crate::limits::ERROR_BODY_BYTES_MAX;
use crate::{ApiError, ErrorCode, ServerUrl, tls};

/// A body is handed to the connection in pieces of this size, so that its movement can be seen.
const UPLOAD_PIECE_BYTES: usize = 256 << 10;

/// How long a client waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next piece of a body, in either direction.
    pub stall: Duration,
    /// For an answer to begin after the request is sent: the server may have to wait for its disk.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), stall: Duration::from_secs(30), answer: Duration::from_secs(300) }
    }
}

/// A request before it is sent.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) token: Option<&'a BearerToken>,
    pub(super) body: Option<(Bytes, &'static str)>,
    pub(super) range: Option<std::ops::Range<u64>>,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: String, token: &'a BearerToken) -> Self {
        Self { method: Method::GET, path, token: Some(token), body: None, range: None }
    }

    pub(super) fn send(method: Method, path: String, token: &'a BearerToken, body: Bytes) -> Self {
        Self { method, path, token: Some(token), body: Some((body, "application/octet-stream")), range: None }
    }
}

#[derive(Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    pin: Pin,
    patience: Patience,
}

impl Transport {
    pub(super) fn new(pin: Pin, patience: Patience) -> Self {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(pin.clone()))
            .http1_only()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(patience.connect)
            .tcp_keepalive(Duration::from_secs(15))
            .user_agent(concat!("rerack/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the settings above fit together");
        Self { http, pin, patience }
    }

    /// Sends a request and waits for the head of its answer, which is of class 2xx.
    pub(super) async fn send(&self, server: &ServerUrl, request: Request<'_>) -> Result<Answer, ClientError> {
        let mut builder = self.http.request(request.method, server.at(&request.path));
        if let Some(token) = request.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).expect("hexadecimal digits");
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        if let Some(range) = request.range {
            builder = builder.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let moved = Arc::new(AtomicU64::new(0));
        let mut length = 0;
        if let Some((body, content_type)) = request.body {
            length = body.len() as u64;
            builder = builder
                .header(CONTENT_TYPE, content_type)
                .header(CONTENT_LENGTH, length)
                .body(watched_body(body, Arc::clone(&moved)));
        }
        let response = self.watch(server, builder.send(), &moved, length).await?;
        self.judge(server, response).await
    }

    /// Waits for an answer as long as the body moves, then for the time an answer may take.
    async fn watch(
        &self,
        server: &ServerUrl,
        sending: impl Future<Output = reqwest::Result<Response>>,
        moved: &AtomicU64,
        length: u64,
    ) -> Result<Response, ClientError> {
        let mut sending = std::pin::pin!(sending);
        let mut seen = 0;
        loop {
            let limit = if seen == length { self.patience.answer } else { self.patience.stall + self.patience.connect };
            match tokio::time::timeout(limit, &mut sending).await {
                Ok(answer) => return answer.map_err(|error| ClientError::from_http(server, &self.pin, &error)),
                Err(_) => {
                    let now = moved.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(ClientError::Stalled { server: server.clone(), limit });
                    }
                    seen = now;
                }
            }
        }
    }

    async fn judge(&self, server: &ServerUrl, response: Response) -> Result<Answer, ClientError> {
        let status = response.status();
        let answer = Answer {
            server: server.clone(),
            pin: self.pin.clone(),
            stall: self.patience.stall,
            status: status.as_u16(),
            length: response.content_length(),
            retry_after: seconds_of(response.headers().get(RETRY_AFTER)),
            response,
            read: 0,
        };
        if status.is_success() {
            Ok(answer)
        } else if status.is_redirection() {
            Err(ClientError::Redirected { server: server.clone(), status: status.as_u16() })
        } else {
            Err(answer.into_refusal(status).await)
        }
    }
}

fn seconds_of(value: Option<&HeaderValue>) -> Option<Duration> {
    let seconds: u64 = value?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

/// A body whose way into the connection can be watched.
fn watched_body(body: Bytes, moved: Arc<AtomicU64>) -> reqwest::Body {
    let pieces = stream::unfold(body, move |mut rest| {
        let piece = rest.split_to(rest.len().min(UPLOAD_PIECE_BYTES));
        moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        std::future::ready((!piece.is_empty()).then_some((Ok::<_, std::io::Error>(piece), rest)))
    });
    reqwest::Body::wrap_stream(pieces)
}

/// An answer of which the head is there: a stream of its body, each piece waited for no longer than the stall limit.
#[derive(Debug)]
pub struct Answer {
    server: ServerUrl,
    pin: Pin,
    stall: Duration,
    status: u16,
    length: Option<u64>,
    retry_after: Option<Duration>,
    response: Response,
    read: u64,
}

impl Answer {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Length of the body, if the server told it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece, or `None` at the end. An answer that ends early is an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let piece = match tokio::time::timeout(self.stall, self.response.chunk()).await {
            Err(_) => return Err(ClientError::Stalled { server: self.server.clone(), limit: self.stall }),
            Ok(Err(error)) => return Err(ClientError::from_http(&self.server, &self.pin, &error)),
            Ok(Ok(piece)) => piece,
        };
        self.read += piece.as_ref().map_or(0, Bytes::len) as u64;
        if piece.is_none() && self.length.is_some_and(|length| length != self.read) {
            let reason = "the answer ended early".to_owned();
            return Err(ClientError::BrokenOff { server: self.server.clone(), reason });
        }
        Ok(piece)
    }

    /// The whole body, at most `max` bytes.
    pub async fn collect(mut self, max: usize) -> Result<Bytes, ClientError> {
        let too_long = || ClientError::AnswerTooLong { server: self.server.clone(), max: max as u64 };
        if self.length.is_some_and(|length| length > max as u64) {
            return Err(too_long());
        }
        let mut body = BytesMut::with_capacity(self.length.unwrap_or(0) as usize);
        while let Some(piece) = self.next().await? {
            if body.len() + piece.len() > max {
                return Err(ClientError::AnswerTooLong { server: self.server, max: max as u64 });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// The whole body as JSON.
    pub(super) async fn json<T: DeserializeOwned>(self, max: usize) -> Result<T, ClientError> {
        let server = self.server.clone();
        let body = self.collect(max).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::AnswerMalformed { server, reason: error.to_string() })
    }

    /// The body as a stream, for those who want one.
    pub fn into_stream(self) -> impl futures::Stream<Item = Result<Bytes, ClientError>> + Send {
        stream::try_unfold(self, |mut answer| async move { Ok(answer.next().await?.map(|piece| (piece, answer))) })
            .fuse()
    }

    async fn into_refusal(mut self, status: StatusCode) -> ClientError {
        let mut body = Vec::new();
        while let Ok(Some(piece)) = self.next().await {
            body.extend_from_slice(&piece);
            if body.len() > ERROR_BODY_BYTES_MAX {
                body.truncate(ERROR_BODY_BYTES_MAX);
                break;
            }
        }
        let error = serde_json::from_slice(&body)
            .unwrap_or_else(|_| ApiError::new(ErrorCode::Unknown, format!("HTTP status {status}, without a reason")));
        ClientError::Refused { server: self.server, status: self.status, error, retry_after: self.retry_after }
    }
}

#[cfg(test)]
mod tests {
    use bundle::sign::RootKey;

    use super::*;

    #[test]
    fn defect_of_reqwest_a_client_needs_no_installed_provider_and_no_certificates_of_the_system() {
        // A client without settings of its own panics for want of a provider; this one brings its provider, and trusts
        // what the pin accepts, so that it works in an initramfs that has no root certificates.
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
        let pin = Pin::Fingerprint(RootKey::from_seed(&[5; 32]).id());
        Transport::new(pin, Patience::default());
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    }
}
