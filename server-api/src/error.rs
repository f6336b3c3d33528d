//! What the server answers instead of what was asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request was refused, for programs. The words are part of the interface; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request is not of the form this route takes.
    BadRequest,
    /// No token, or one that nobody holds.
    Unauthorized,
    /// The token is good, but not for this.
    Forbidden,
    /// There is no such route, node, snapshot or object.
    NotFound,
    /// The route exists with another method.
    MethodNotAllowed,
    /// The body is longer than this route accepts.
    TooLarge,
    /// No arm has this restore code.
    WrongCode,
    /// Another machine has used this restore code.
    CodeUsed,
    /// The restore code was not used in time.
    CodeExpired,
    /// The arm was taken back.
    CodeRevoked,
    /// The arm's restore is over.
    RestoreDone,
    /// Too many wrong codes of late.
    TooManyTries,
    /// The arm is not in the state this step needs.
    WrongStep,
    /// The claim covers another plan, other disks or another snapshot.
    ClaimDiffers,
    /// The bytes are not those of the hash they were sent under.
    HashMismatch,
    /// The pack is not well formed.
    BadPack,
    /// The segment is not well formed.
    BadSegment,
    /// A list names a chunk this node has not uploaded.
    ChunkNotUploaded,
    /// A manifest names a list or catalog this node has not uploaded.
    SegmentNotUploaded,
    /// The manifest or its signature was refused.
    ManifestRefused,
    /// The snapshot exists already with another content.
    SnapshotExists,
    /// The range holds bytes that are no chunk of this snapshot.
    RangeNotAllowed,
    /// The range lies outside the object.
    RangeNotSatisfiable,
    /// The repository's disk is full.
    StorageFull,
    /// The repository cannot be read or written.
    StorageFailed,
    /// The repository holds something damaged.
    Damaged,
    /// The server is stopping or has too much to do; try again.
    Busy,
    /// A defect of the server.
    Internal,
    /// A word of a newer server.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The HTTP status it travels with.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden
            | Self::WrongCode
            | Self::CodeUsed
            | Self::CodeExpired
            | Self::CodeRevoked
            | Self::RestoreDone
            | Self::RangeNotAllowed => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::WrongStep | Self::ClaimDiffers | Self::SnapshotExists => 409,
            Self::TooLarge => 413,
            Self::RangeNotSatisfiable => 416,
            Self::HashMismatch
            | Self::BadPack
            | Self::BadSegment
            | Self::ChunkNotUploaded
            | Self::SegmentNotUploaded
            | Self::ManifestRefused => 422,
            Self::TooManyTries => 429,
            Self::StorageFailed | Self::Damaged | Self::Internal | Self::Unknown => 500,
            Self::Busy => 503,
            Self::StorageFull => 507,
        }
    }

    /// Whether the same request may succeed later without anybody's doing.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Busy | Self::TooManyTries)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The JSON body of every answer of class 4xx and 5xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    #[serde(rename = "error")]
    pub code: ErrorCode,
    /// What went wrong and with which object, for people.
    pub message: String,
    /// What to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    /// An error without advice.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same error with advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_json_with_a_code_in_kebab_case() {
        let error = ApiError::new(ErrorCode::ChunkNotUploaded, "chunk 12 is not there").with_hint("upload it");
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(json, r#"{"error":"chunk-not-uploaded","message":"chunk 12 is not there","hint":"upload it"}"#);
        assert_eq!(serde_json::from_str::<ApiError>(&json).unwrap(), error);
        assert_eq!(ErrorCode::ChunkNotUploaded.to_string(), "chunk-not-uploaded");
    }

    #[test]
    fn a_code_of_a_newer_server_still_reads() {
        let error: ApiError = serde_json::from_str(r#"{"error":"moon-phase","message":"wait"}"#).unwrap();
        assert_eq!(error.code, ErrorCode::Unknown);
    }
}
