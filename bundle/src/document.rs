//! JSON documents that carry a format number, what they require of their reader, and a signature.
//!
//! A signed document is `{"document": ..., "signature": ...}`. The signature covers the exact bytes of the inner
//! value as they stand in the file, so nothing depends on how JSON is written.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::sign::{PublicKey, RootKey, SignContext, Signature, SignatureError};

/// Upper bound for the small signed documents: `repository.json`, receipts, certificates.
pub const SIGNED_DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// The features that this version knows beyond format 1. None exist yet.
const KNOWN_FEATURES: [&str; 0] = [];

/// Something that a reader must know to understand a document, with the first version of rerack that knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Name of the feature.
    pub feature: String,
    /// First version that knows it.
    pub since: String,
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// More bytes than such a document may have.
    #[error("{what} has {bytes} bytes; at most {max} are read")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Not JSON of the expected shape.
    #[error("{what} is damaged: it cannot be read as JSON of its kind")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// Written in a format of the future.
    #[error("{what} is in format {found}; this version reads up to format {known}")]
    NewerFormat {
        /// Which document.
        what: &'static str,
        /// The format it names.
        found: u64,
        /// The newest format known here.
        known: u32,
        /// The version that wrote it, where it says so.
        written_by: Option<String>,
    },
    /// Requires something unknown here.
    #[error("{what} requires `{feature}`, which this version does not know")]
    UnknownRequirement {
        /// Which document.
        what: &'static str,
        /// The feature.
        feature: String,
        /// The first version that knows it.
        since: String,
    },
    /// Not signed as it must be.
    #[error("{what} is not trusted")]
    Signature {
        /// Which document.
        what: &'static str,
        /// Why.
        source: SignatureError,
    },
}

impl DocumentError {
    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::TooLarge { .. } | Self::Malformed { .. } => {
                "run `rerack verify` on the server; restore the object from a mirror, or choose another snapshot".into()
            }
            Self::NewerFormat { written_by: Some(version), .. } => {
                format!("it was written by rerack {version}: use that version or a later one")
            }
            Self::NewerFormat { written_by: None, .. } => "use a later version of rerack".into(),
            Self::UnknownRequirement { since, .. } => format!("use rerack {since} or a later version"),
            Self::Signature { source, .. } => source.hint().into(),
        }
    }
}

/// The fields by which any version can tell whether it understands a document.
#[derive(Deserialize)]
struct Header {
    format: u64,
    #[serde(default)]
    requires: Vec<Requirement>,
    #[serde(default)]
    agent_version: Option<String>,
}

/// Refuses a document of a newer format or with unknown requirements, before anything else of it is read.
pub(crate) fn check_header(what: &'static str, bytes: &[u8], known: u32) -> Result<(), DocumentError> {
    let header: Header = serde_json::from_slice(bytes).map_err(|source| DocumentError::Malformed { what, source })?;
    if header.format > u64::from(known) {
        let written_by = header.agent_version.map(|version| shortened(&version));
        return Err(DocumentError::NewerFormat { what, found: header.format, known, written_by });
    }
    let unknown = header.requires.iter().find(|r| !KNOWN_FEATURES.contains(&r.feature.as_str()));
    match unknown {
        Some(Requirement { feature, since }) => {
            Err(DocumentError::UnknownRequirement { what, feature: shortened(feature), since: shortened(since) })
        }
        None => Ok(()),
    }
}

/// Text of a stranger, as far as an error message shows it.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// A small document that the root key signs.
pub(crate) trait RootSigned: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const WHAT: &'static str;
    /// What its signature is made for.
    const CONTEXT: SignContext;
    /// The newest format known.
    const FORMAT: u32;
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    document: &'a RawValue,
    signature: Signature,
}

/// The bytes of `document` signed by `key`.
pub(crate) fn seal<D: RootSigned>(document: &D, key: &RootKey) -> Vec<u8> {
    let text = serde_json::to_string_pretty(document).expect("plain data serialises");
    // Strings in JSON hold no line feeds, so this indents the lines for people and changes no value.
    let document = RawValue::from_string(text.replace('\n', "\n  ")).expect("still the same JSON");
    let signature = key.sign(D::CONTEXT, document.get().as_bytes());
    let mut bytes =
        serde_json::to_vec_pretty(&Envelope { document: &document, signature }).expect("an envelope serialises");
    bytes.push(b'\n');
    bytes
}

/// Reads a document without looking at its signature: to learn which key it names before that key is trusted.
pub(crate) fn peek<D: RootSigned>(bytes: &[u8]) -> Result<D, DocumentError> {
    read::<D>(bytes).map(|(document, _)| document)
}

/// Reads a document that `root` must have signed.
pub(crate) fn unseal<D: RootSigned>(bytes: &[u8], root: &PublicKey) -> Result<D, DocumentError> {
    let (document, envelope) = read::<D>(bytes)?;
    root.verify(D::CONTEXT, envelope.document.get().as_bytes(), &envelope.signature)
        .map_err(|source| DocumentError::Signature { what: D::WHAT, source })?;
    Ok(document)
}

fn read<D: RootSigned>(bytes: &[u8]) -> Result<(D, Envelope<'_>), DocumentError> {
    let what = D::WHAT;
    if bytes.len() > SIGNED_DOCUMENT_BYTES_MAX {
        return Err(DocumentError::TooLarge { what, bytes: bytes.len(), max: SIGNED_DOCUMENT_BYTES_MAX });
    }
    let malformed = |source| DocumentError::Malformed { what, source };
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(malformed)?;
    check_header(what, envelope.document.get().as_bytes(), D::FORMAT)?;
    let document = serde_json::from_str(envelope.document.get()).map_err(malformed)?;
    Ok((document, envelope))
}
