//! Every refusal is JSON with a code, a message and, where there is one, advice.

use std::error::Error as StdError;
use std::io;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bundle::repository::{RepositoryError, SnapshotError};
use server_api::{ApiError, ErrorCode};

use crate::arm::ArmRefusal;
use crate::{ServerError, StateError};

/// An answer of class 4xx or 5xx.
#[derive(Debug)]
pub(super) struct Refusal {
    error: ApiError,
    retry_after_seconds: Option<u64>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { error: ApiError::new(code, message), retry_after_seconds: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// An error of the store, with its cause: what is full, what is read-only, what is damaged.
    fn of_store(error: &(dyn StdError + 'static), hint: Option<String>) -> Self {
        let (code, message) = match io_kind(error) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge) => {
                (ErrorCode::StorageFull, "the repository's disk is full".to_owned())
            }
            Some(io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
                (ErrorCode::StorageFailed, format!("the repository cannot be written: {}", told(error)))
            }
            _ => (ErrorCode::StorageFailed, told(error)),
        };
        let refusal = Self::new(code, message);
        match hint {
            Some(hint) if code != ErrorCode::StorageFull => refusal.hint(hint),
            _ => refusal,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self.error)).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self.error);
        response
    }
}

impl From<ServerError> for Refusal {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Repository(error) => (*error).into(),
            ServerError::State(error) => error.into(),
            error => Self::new(ErrorCode::Internal, told(&error)),
        }
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        if error.is_full() {
            return Self::new(ErrorCode::StorageFull, "the server's disk is full");
        }
        Self::new(ErrorCode::StorageFailed, told(&error))
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::of_store(&error, None)
    }
}

impl From<RepositoryError> for Refusal {
    fn from(error: RepositoryError) -> Self {
        use RepositoryError as E;
        let code = match &error {
            E::UnknownNode { .. } | E::NoSnapshot { .. } | E::UnknownSnapshot { .. } | E::UnknownVolume { .. } => {
                ErrorCode::NotFound
            }
            E::SnapshotExists { .. } => ErrorCode::SnapshotExists,
            E::Store { .. } | E::Directory { .. } | E::Randomness(_) | E::OtherRootKey { .. } => {
                return Self::of_store(&error, error.hint());
            }
            _ => ErrorCode::Damaged,
        };
        let refusal = Self::new(code, told(&error));
        match error.hint() {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }
}

impl From<SnapshotError> for Refusal {
    fn from(error: SnapshotError) -> Self {
        Self::new(ErrorCode::ManifestRefused, told(&error)).hint(error.hint())
    }
}

impl From<ArmRefusal> for Refusal {
    fn from(refusal: ArmRefusal) -> Self {
        let (code, hint) = match refusal {
            ArmRefusal::NoIdentity => (ErrorCode::BadRequest, None),
            ArmRefusal::OtherMachine => {
                (ErrorCode::CodeUsed, Some("a code is for one machine: arm the node again for this one"))
            }
            ArmRefusal::Expired => (ErrorCode::CodeExpired, Some("arm the node again: rerack arm NODE")),
            ArmRefusal::Revoked => (ErrorCode::CodeRevoked, Some("ask who took it back; then: rerack arm NODE")),
            ArmRefusal::Done => (
                ErrorCode::RestoreDone,
                Some("boot the machine from its own disk; to restore it once more: rerack arm NODE"),
            ),
            ArmRefusal::NotClaimed => (ErrorCode::WrongStep, None),
            ArmRefusal::OtherPlan => (
                ErrorCode::ClaimDiffers,
                Some("disks were erased under another plan: go on with that, or disarm and arm the node again"),
            ),
        };
        let made = Self::new(code, refusal.to_string());
        match hint {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }
}

/// An error and its causes in one line, none said twice.
pub(super) fn told(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source())
    })
    .filter_map(|error| error.downcast_ref::<io::Error>())
    .map(io::Error::kind)
    .find(|kind| *kind != io::ErrorKind::Other)
}
