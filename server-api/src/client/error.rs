//! What can go wrong between a client and its servers.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::Duration;

use bundle::Hash;
use bundle::trust::Pin;
use rustls::CertificateError;

use crate::tls::RootRefusal;
use crate::{ApiError, ErrorCode, ServerUrl};

/// Why a server did not do what it was asked. Every variant names the server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No address was given.
    #[error("no server address is given")]
    NoServer,
    /// There is nothing to authenticate a server by.
    #[error("nothing is given by which the server could be recognised")]
    NoPin,
    /// None of several servers answered.
    #[error("none of {} servers is usable:{}", .0.len(), one_per_line(.0))]
    NoneUsable(Vec<ClientError>),
    /// The server cannot be reached.
    #[error("server {server} cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        server: ServerUrl,
        /// The innermost cause, as the system words it.
        reason: String,
    },
    /// What answers there does not speak TLS as bundle servers do.
    #[error("server {server} does not answer as a bundle server: {reason}")]
    NotABundleServer {
        /// The server.
        server: ServerUrl,
        /// What it does instead.
        reason: String,
    },
    /// The server belongs to another repository.
    #[error("server {server} is not the one expected: {}", wrong_root(.expected, .found))]
    WrongRoot {
        /// The server.
        server: ServerUrl,
        /// What was known beforehand.
        expected: Pin,
        /// The root key it has, if it has any.
        found: Option<Hash>,
    },
    /// The server's certificate is not valid at this machine's time.
    #[error("server {server} cannot be trusted at the time this machine's clock shows: its certificate is {problem}")]
    Clock {
        /// The server.
        server: ServerUrl,
        /// `not valid yet` or `expired`.
        problem: &'static str,
    },
    /// The server speaks another version of the interface.
    #[error("server {server} speaks version {found} of the interface, this program version {known}")]
    OtherVersion {
        /// The server.
        server: ServerUrl,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The server refused the request and said why.
    #[error("server {server} refused: {error}")]
    Refused {
        /// The server.
        server: ServerUrl,
        /// HTTP status.
        status: u16,
        /// Its reason.
        error: ApiError,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The server sent the client elsewhere. Nothing is sent there: a token is for one server.
    #[error("server {server} redirects to another address, which is never followed")]
    Redirected {
        /// The server.
        server: ServerUrl,
        /// HTTP status.
        status: u16,
    },
    /// Nothing moved for too long.
    #[error("server {server} stalled: nothing moved for {} s", .limit.as_secs())]
    Stalled {
        /// The server.
        server: ServerUrl,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The connection broke, or the answer ended early.
    #[error("the connection to server {server} broke: {reason}")]
    BrokenOff {
        /// The server.
        server: ServerUrl,
        /// How.
        reason: String,
    },
    /// The answer is longer than it may be.
    #[error("server {server} sent more than the {max} bytes that this answer may have")]
    AnswerTooLong {
        /// The server.
        server: ServerUrl,
        /// The bound.
        max: u64,
    },
    /// The answer cannot be read.
    #[error("server {server} sent an answer that cannot be read: {reason}")]
    AnswerMalformed {
        /// The server.
        server: ServerUrl,
        /// What is wrong with it.
        reason: String,
    },
    /// The server sent other bytes than those asked for.
    #[error("server {server} sent wrong bytes for {object} {expected}")]
    WrongBytes {
        /// The server.
        server: ServerUrl,
        /// Kind of object.
        object: &'static str,
        /// Its name.
        expected: Hash,
    },
    /// More was asked for than one request may hold.
    #[error("{asked} {what} in one request are too many: at most {max}")]
    TooMuchAsked {
        /// What was asked for.
        what: &'static str,
        /// How many.
        asked: u64,
        /// The bound.
        max: u64,
    },
}

impl ClientError {
    /// What an operator can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoServer => "give one: https://HOST:PORT (rerack.server= on the kernel command line)",
            Self::NoPin => "give the repository's fingerprint (rerack.fingerprint=) or type the restore code",
            Self::NoneUsable(errors) => return errors.first().and_then(Self::hint),
            Self::Unreachable { .. } => {
                "check the address and port, that `rerack serve` is running there, and this machine's network and \
                 cable"
            }
            Self::NotABundleServer { .. } => "check the address and port: another program answers there",
            Self::WrongRoot { expected: Pin::Code { .. }, .. } => {
                "check the address and the first three groups of the restore code; if both are right, somebody else's \
                 server answers there"
            }
            Self::WrongRoot { .. } => {
                "check the address and the fingerprint (rerack.fingerprint=, or the node's file); if both are right, \
                 somebody else's server answers there"
            }
            Self::Clock { .. } => "set this machine's clock: bundle servers' certificates are valid from 2020 to 2120",
            Self::OtherVersion { .. } => "use client and server of the same rerack release",
            Self::Refused { error, .. } => {
                return error.hint.clone().or_else(|| hint_of(error.code).map(str::to_owned));
            }
            Self::Redirected { .. } => "give the server's own address; a bundle server never redirects",
            Self::Stalled { .. } | Self::BrokenOff { .. } => {
                "it is tried again; if it goes on, check the network between this machine and the server, and the \
                 server's log"
            }
            Self::AnswerTooLong { .. } | Self::AnswerMalformed { .. } => {
                "use client and server of the same rerack release; check that no proxy stands between them"
            }
            Self::WrongBytes { .. } => "run `rerack verify` on the server: what it stores is damaged",
            Self::TooMuchAsked { .. } => return None,
        };
        Some(text.to_owned())
    }

    /// Whether the same request may succeed later, or from another server, without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::BrokenOff { .. } => true,
            Self::NoneUsable(errors) => errors.iter().any(Self::is_transient),
            Self::Refused { status, error, .. } => error.code.is_transient() || matches!(status, 429 | 502..=504),
            _ => false,
        }
    }

    /// The server's reason, if it gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { error, .. } => Some(error.code),
            _ => None,
        }
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Sorts out what the HTTP library reports.
    pub(crate) fn from_http(server: &ServerUrl, pin: &Pin, error: &reqwest::Error) -> Self {
        let server = server.clone();
        let reason = innermost(error);
        match tls_error(error) {
            // A server that was recognised already, or a record that does not decrypt: bytes were damaged on the way.
            Some(tls) if !error.is_connect() || *tls == rustls::Error::DecryptError => {
                return Self::BrokenOff { server, reason };
            }
            Some(tls) => return Self::from_tls(server, pin, tls),
            None => {}
        }
        if error.is_connect() {
            let reason = if error.is_timeout() { "no answer".to_owned() } else { reason };
            Self::Unreachable { server, reason }
        } else {
            Self::BrokenOff { server, reason }
        }
    }

    fn from_tls(server: ServerUrl, pin: &Pin, error: &rustls::Error) -> Self {
        use CertificateError as Bad;
        let rustls::Error::InvalidCertificate(bad) = error else {
            return Self::NotABundleServer { server, reason: error.to_string() };
        };
        match bad {
            Bad::Other(other) => match other.0.downcast_ref::<RootRefusal>() {
                Some(RootRefusal::OtherRoot { found }) => {
                    Self::WrongRoot { server, expected: pin.clone(), found: Some(found.0) }
                }
                _ => Self::WrongRoot { server, expected: pin.clone(), found: None },
            },
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::Clock { server, problem: "not valid yet" },
            Bad::Expired | Bad::ExpiredContext { .. } => Self::Clock { server, problem: "expired" },
            _ => Self::WrongRoot { server, expected: pin.clone(), found: None },
        }
    }
}

/// Advice for refusals to which the server gave none.
fn hint_of(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::Unauthorized | ErrorCode::Forbidden => "use the file that `rerack node add` wrote for this node",
        ErrorCode::WrongCode => "compare the code with what `rerack arm` printed, and type it again",
        ErrorCode::CodeUsed | ErrorCode::CodeExpired | ErrorCode::CodeRevoked | ErrorCode::RestoreDone => {
            "arm the node again on the server: rerack arm NODE"
        }
        ErrorCode::StorageFull => "make room on the server's disk",
        ErrorCode::StorageFailed | ErrorCode::Damaged => "look at the server's log; run `rerack verify` there",
        ErrorCode::Busy | ErrorCode::TooManyTries => "wait a minute; it is tried again",
        _ => return None,
    })
}

fn wrong_root(expected: &Pin, found: &Option<Hash>) -> String {
    match (found, expected) {
        (None, _) => "its certificate is not signed by the repository's root key".to_owned(),
        (Some(found), Pin::Fingerprint(fingerprint)) => {
            format!("its root key has the fingerprint {found}; expected was {fingerprint}")
        }
        (Some(found), _) => {
            format!("its root key has the fingerprint {found}, which does not fit the restore code")
        }
    }
}

fn one_per_line(errors: &[ClientError]) -> String {
    errors.iter().fold(String::new(), |mut text, error| {
        let _ = write!(text, "\n  {error}");
        text
    })
}

/// Calls `look` on an error and everything below it, errors wrapped in [`std::io::Error`] included, which `source`
/// steps over.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use bundle::code::RestoreCode;
    use bundle::sign::RootKey;

    use super::*;

    fn server() -> ServerUrl {
        "https://bundle.example:8443".parse().unwrap()
    }

    fn refused(code: ErrorCode, message: &str) -> ClientError {
        let error = ApiError::new(code, message);
        ClientError::Refused { server: server(), status: code.status(), error, retry_after: None }
    }

    fn every_error() -> Vec<ClientError> {
        let (root, other) = (RootKey::from_seed(&[5; 32]).id(), RootKey::from_seed(&[6; 32]).id());
        let code = RestoreCode::new(&root, [1, 2, 3, 4, 5]);
        let reason = || "Connection refused (os error 111)".to_owned();
        let limit = Duration::from_secs(30);
        let unreachable = || ClientError::Unreachable { server: server(), reason: reason() };
        vec![
            ClientError::NoServer,
            ClientError::NoPin,
            unreachable(),
            ClientError::NoneUsable(vec![unreachable(), ClientError::Stalled { server: server(), limit }]),
            ClientError::NotABundleServer { server: server(), reason: "received corrupt message".to_owned() },
            ClientError::WrongRoot { server: server(), expected: Pin::Fingerprint(root), found: Some(other.0) },
            ClientError::WrongRoot { server: server(), expected: Pin::from_code(&code), found: Some(other.0) },
            ClientError::WrongRoot { server: server(), expected: Pin::from_code(&code), found: None },
            ClientError::Clock { server: server(), problem: "not valid yet" },
            ClientError::OtherVersion { server: server(), found: 2, known: 1 },
            ClientError::Redirected { server: server(), status: 302 },
            ClientError::Stalled { server: server(), limit },
            ClientError::BrokenOff { server: server(), reason: "the answer ended early".to_owned() },
            ClientError::AnswerTooLong { server: server(), max: 4096 },
            ClientError::AnswerMalformed { server: server(), reason: "expected value at line 1 column 1".to_owned() },
            ClientError::WrongBytes { server: server(), object: "chunk list", expected: Hash::of(b"x") },
            ClientError::TooMuchAsked { what: "chunks", asked: 70_000, max: 65_536 },
            refused(ErrorCode::Unauthorized, "this token is not known here"),
            refused(ErrorCode::WrongCode, "no armed node has this restore code"),
            refused(ErrorCode::CodeUsed, "this restore code was used by another machine"),
            refused(ErrorCode::CodeExpired, "this restore code expired"),
            refused(ErrorCode::TooManyTries, "too many wrong restore codes"),
            refused(ErrorCode::StorageFull, "the repository's disk is full"),
            refused(ErrorCode::Unknown, "HTTP status 502 Bad Gateway, without a reason"),
        ]
    }

    #[test]
    fn every_error_says_which_server_and_what_now() {
        let text: Vec<String> = every_error()
            .iter()
            .map(|error| format!("{error}\n  hint: {}", error.hint().unwrap_or_else(|| "-".to_owned())))
            .collect();
        insta::assert_snapshot!(text.join("\n\n"));
    }

    #[test]
    fn only_what_may_pass_by_itself_is_worth_another_try() {
        let again: Vec<String> =
            every_error().iter().filter(|error| error.is_transient()).map(ToString::to_string).collect();
        insta::assert_snapshot!(again.join("\n"));
    }
}
