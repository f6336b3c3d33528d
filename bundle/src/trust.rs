//! Who is trusted, and by what: the root's fingerprint, nodes' certificates, and the file that makes a machine a node.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use node_model::NodeName;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::Hash;
use crate::code::RestoreCode;
use crate::document::{self, DocumentError, Requirement, RootSigned};
use crate::repository::RepositoryId;
use crate::sign::{self, KeyId, NodeKey, PublicKey, RandomnessError, RootKey, SignContext};

/// The fingerprint of a repository's root key, by which it is pinned: 64 hexadecimal digits.
pub type Fingerprint = KeyId;

/// Upper bound for a node file.
pub const NODE_FILE_BYTES_MAX: u64 = 64 << 10;
/// Most server addresses that a node file may hold.
pub const SERVERS_MAX: usize = 16;

/// Under which a node's token is derived from its secret. The operator guide has a recipe with it.
const TOKEN_CONTEXT: &str = "rerack 2026-11 node bearer token v1";

/// What is known beforehand about the root key, and how surely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Its whole fingerprint.
    Fingerprint(Fingerprint),
    /// The first 60 bits of its fingerprint, from a typed restore code.
    Code {
        /// [`RestoreCode::root_prefix`].
        root_prefix: u64,
    },
    /// Nothing. For a directory on this machine only: who can write it can replace its key as well.
    LocalDirectory,
}

impl Pin {
    /// The pin that a restore code carries.
    pub fn from_code(code: &RestoreCode) -> Self {
        Self::Code { root_prefix: code.root_prefix() }
    }

    /// Whether `key` is the root key meant.
    pub fn accepts(&self, key: &PublicKey) -> bool {
        match self {
            Self::Fingerprint(fingerprint) => key.id() == *fingerprint,
            Self::Code { root_prefix } => root_prefix_of(&key.id()) == *root_prefix,
            Self::LocalDirectory => true,
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(fingerprint) => write!(f, "fingerprint {fingerprint}"),
            Self::Code { .. } => f.write_str("the restore code"),
            Self::LocalDirectory => f.write_str("nothing (a local directory)"),
        }
    }
}

/// The first 60 bits of a fingerprint, as restore codes carry them.
pub fn root_prefix_of(fingerprint: &Fingerprint) -> u64 {
    let bytes: &[u8; 32] = fingerprint.0.as_bytes();
    let first: [u8; 8] = bytes[..8].try_into().expect("eight of 32 bytes");
    u64::from_be_bytes(first) >> 4
}

/// The root's word that a key is a node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCertificate {
    /// Format of this document: 1.
    pub format: u32,
    /// What a reader must know.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// The repository.
    pub repository: RepositoryId,
    /// The node.
    pub node: NodeName,
    /// The key that signs its manifests.
    pub public_key: PublicKey,
    /// When the certificate was made, by the server's clock. For people: nothing is decided by it.
    pub issued_at: Timestamp,
}

impl RootSigned for NodeCertificate {
    const WHAT: &'static str = "the node's certificate";
    const CONTEXT: SignContext = SignContext::NodeCertificate;
    const FORMAT: u32 = 1;
}

impl NodeCertificate {
    /// A certificate of format 1.
    pub fn new(repository: RepositoryId, node: NodeName, public_key: PublicKey, issued_at: Timestamp) -> Self {
        Self { format: Self::FORMAT, requires: Vec::new(), repository, node, public_key, issued_at }
    }

    /// The certificate as a document signed by the root.
    pub fn seal(&self, root: &RootKey) -> Vec<u8> {
        document::seal(self, root)
    }

    /// Reads a certificate that `root` must have signed.
    pub fn unseal(bytes: &[u8], root: &PublicKey) -> Result<Self, DocumentError> {
        document::unseal(bytes, root)
    }
}

/// The secret of a node, from which its signing key and its bearer token grow. Never shown.
#[derive(Clone)]
pub struct NodeSecret(Zeroizing<[u8; 32]>);

impl NodeSecret {
    /// A new secret from the operating system's randomness.
    pub fn generate() -> Result<Self, RandomnessError> {
        sign::random_bytes().map(Self)
    }

    /// The secret with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The node's signing key.
    pub fn signing_key(&self) -> NodeKey {
        let seed = Zeroizing::new(blake3::derive_key("rerack 2026-11 node signing key v1", &self.0[..]));
        NodeKey::from_seed(&seed)
    }

    /// The node's bearer token.
    pub fn bearer_token(&self) -> BearerToken {
        let mut bytes = blake3::derive_key(TOKEN_CONTEXT, &self.0[..]);
        let token = BearerToken::from_bytes(&bytes);
        bytes.zeroize();
        token
    }
}

impl fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSecret(..)")
    }
}

/// What a client shows to the server with every request: 64 hexadecimal digits. Never shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// A new token from the operating system's randomness, for a restore session.
    pub fn generate() -> Result<Self, RandomnessError> {
        Ok(Self::from_bytes(&*sign::random_bytes()?))
    }

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(data_encoding::HEXLOWER.encode(bytes)))
    }

    /// The token a client sent, or `None` if it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        sign::read_hex::<32>(text).map(|_| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text for the `Authorization` header. Do not log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the server keeps instead of the token. Two tokens are compared by their digests.
    pub fn digest(&self) -> Hash {
        Hash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// Everything a machine needs to be a node of a repository, as `rerack node add` writes it: JSON, readable by its
/// owner only.
#[derive(Debug, Clone)]
pub struct NodeFile {
    /// The repository.
    pub repository: RepositoryId,
    /// The node's name.
    pub node: NodeName,
    /// Addresses of the server, `https://host:port`, the first one preferred.
    pub servers: Vec<String>,
    /// The root key's fingerprint.
    pub root_fingerprint: Fingerprint,
    /// The node's secret.
    pub secret: NodeSecret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFileJson {
    format: u32,
    repository: RepositoryId,
    node: NodeName,
    servers: Vec<String>,
    root_fingerprint: Fingerprint,
    secret: Zeroizing<String>,
}

/// Why a node file cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum NodeFileError {
    /// The file cannot be opened, read or written.
    #[error("cannot {action} the node file {path}")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error("the node file {path} holds a secret, but its mode {mode:04o} lets others read it")]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a node file.
    #[error("{path} is not a node file: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl NodeFileError {
    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Io { action: "write", source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                "name another file: a node file is never overwritten, because its secret exists nowhere else".into()
            }
            Self::Io { action: "write", .. } => "name a file in a directory you may write to".into(),
            Self::Io { .. } => "name the file that `rerack node add` wrote, and run as a user who may read it".into(),
            Self::ReadableByOthers { path, .. } => format!("chmod 600 {}", path.display()),
            Self::Malformed { .. } => "write a new one with `rerack node add NAME` on the server".into(),
        }
    }
}

impl NodeFile {
    /// Reads a node file, and refuses one that others may read.
    pub fn read(path: &Path) -> Result<Self, NodeFileError> {
        let io = |source| NodeFileError::Io { action: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(NodeFileError::ReadableByOthers { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(Vec::new());
        file.take(NODE_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(io)?;
        Self::from_json(&text).map_err(|reason| NodeFileError::Malformed { path: path.to_owned(), reason })
    }

    /// Writes the node file durably with mode 0600. An existing file is left alone and is an error.
    pub fn write_new(&self, path: &Path) -> Result<(), NodeFileError> {
        write_new_secret_file(path, self.to_json().as_bytes()).map_err(|source| NodeFileError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }

    /// The file's text.
    pub fn to_json(&self) -> Zeroizing<String> {
        let json = NodeFileJson {
            format: 1,
            repository: self.repository,
            node: self.node.clone(),
            servers: self.servers.clone(),
            root_fingerprint: self.root_fingerprint,
            secret: Zeroizing::new(data_encoding::HEXLOWER.encode(&self.secret.0[..])),
        };
        let mut text = Zeroizing::new(serde_json::to_string_pretty(&json).expect("plain data serialises"));
        text.push('\n');
        text
    }

    fn from_json(text: &[u8]) -> Result<Self, String> {
        if text.len() as u64 > NODE_FILE_BYTES_MAX {
            return Err(format!("it has more than {NODE_FILE_BYTES_MAX} bytes"));
        }
        let json: NodeFileJson = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if json.format != 1 {
            return Err(format!("it is in format {}; this version reads format 1", json.format));
        }
        if json.servers.is_empty() || json.servers.len() > SERVERS_MAX {
            return Err(format!("it names {} servers; 1 to {SERVERS_MAX} are read", json.servers.len()));
        }
        let secret = sign::read_hex(&json.secret).ok_or("its secret is not 64 hexadecimal digits")?;
        Ok(Self {
            repository: json.repository,
            node: json.node,
            servers: json.servers,
            root_fingerprint: json.root_fingerprint,
            secret: NodeSecret::from_bytes(secret),
        })
    }
}

impl RootKey {
    /// Reads a root key's file.
    pub fn read_file(path: &Path) -> Result<Self, RootKeyFileError> {
        let io = |source| RootKeyFileError::Io { action: "read", path: path.to_owned(), source };
        let mut text = Zeroizing::new(String::new());
        File::open(path).map_err(io)?.take(NODE_FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
        Self::from_pem(&text).map_err(|_| RootKeyFileError::Malformed { path: path.to_owned() })
    }

    /// Writes the key durably with mode 0600. An existing file is left alone and is an error.
    pub fn write_new_file(&self, path: &Path) -> Result<(), RootKeyFileError> {
        write_new_secret_file(path, self.to_pem().as_bytes()).map_err(|source| RootKeyFileError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }
}

/// Why a root key's file cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyFileError {
    /// The file cannot be opened, read or written.
    #[error("cannot {action} the root key {path}")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no root key.
    #[error("{path} is not a root key (an Ed25519 private key in PKCS#8 PEM)")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl RootKeyFileError {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "run as the user who owns the repository's directory",
            Self::Malformed { .. } => "bring the file back from a backup: receipts cannot be signed without it",
        }
    }
}

/// Writes a file that only its owner may read, so that it is either there whole after a power cut or not there.
fn write_new_secret_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let staged = {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.new", std::process::id()));
        path.with_file_name(name)
    };
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::hard_link(&staged, path)
    })();
    let removed = fs::remove_file(&staged);
    written?;
    removed?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_file() -> NodeFile {
        NodeFile {
            repository: RepositoryId::from_bytes([1; 16]),
            node: "web-03".parse().unwrap(),
            servers: vec!["https://10.0.2.2:7373".into()],
            root_fingerprint: RootKey::from_seed(&[5; 32]).id(),
            secret: NodeSecret::from_bytes([0xab; 32]),
        }
    }

    #[test]
    fn a_node_file_is_for_its_owner_only_and_survives_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web-03.json");
        node_file().write_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let read = NodeFile::read(&path).unwrap();
        assert_eq!(read.secret.signing_key().id(), node_file().secret.signing_key().id());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");

        let error = node_file().write_new(&path).unwrap_err();
        assert!(error.hint().contains("never overwritten"), "{error:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = NodeFile::read(&path).unwrap_err();
        assert!(matches!(error, NodeFileError::ReadableByOthers { mode: 0o640, .. }));
        assert!(error.hint().starts_with("chmod 600"));
    }

    #[test]
    fn a_damaged_node_file_is_refused_with_what_is_wrong() {
        let good = node_file().to_json();
        for (bad, expected) in [
            (good.replace("abab", "xyxy"), "secret"),
            (good.replace("\"format\": 1", "\"format\": 2"), "format 2"),
            (good.replace("web-03", "--force"), "node name"),
            (good.replace("[\n    \"https://10.0.2.2:7373\"\n  ]", "[]"), "0 servers"),
            ("{}".to_owned(), "missing field"),
        ] {
            let reason = NodeFile::from_json(bad.as_bytes()).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
        assert!(NodeFile::from_json(&vec![b' '; NODE_FILE_BYTES_MAX as usize + 1]).is_err());
    }

    #[test]
    fn the_guide_derives_the_token_as_it_is_derived_here() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let guide = fs::read_to_string(root.join("docs/operator-guide.md")).unwrap();
        assert!(guide.contains(&format!(
            "jq -r .secret node.json | xxd -r -p | b3sum --no-names --derive-key '{TOKEN_CONTEXT}'"
        )));
    }

    #[test]
    fn key_and_token_of_a_node_are_pinned_and_differ() {
        let secret = NodeSecret::from_bytes([0xab; 32]);
        insta::assert_snapshot!(format!(
            "key {}\ntoken {}",
            secret.signing_key().public(),
            secret.bearer_token().reveal()
        ));
        for shown in [format!("{secret:?}"), format!("{:?}", secret.bearer_token()), format!("{:?}", node_file())] {
            assert!(!shown.contains("abab") && !shown.contains(secret.bearer_token().reveal()), "{shown}");
        }
    }

    #[test]
    fn a_token_is_sixty_four_digits_and_nothing_else() {
        let token = NodeSecret::from_bytes([1; 32]).bearer_token();
        assert_eq!(BearerToken::parse(token.reveal()).unwrap().digest(), token.digest());
        assert!(BearerToken::parse(&token.reveal()[1..]).is_none());
        assert!(BearerToken::parse(&token.reveal().to_uppercase()).is_none());
    }

    #[test]
    fn a_certificate_holds_under_its_root_only() {
        let root = RootKey::from_seed(&[5; 32]);
        let key = NodeKey::from_seed(&[6; 32]).public();
        let certificate = NodeCertificate::new(
            RepositoryId::from_bytes([1; 16]),
            "web-03".parse().unwrap(),
            key,
            "2026-11-21T03:00:00Z".parse().unwrap(),
        );
        let sealed = certificate.seal(&root);
        insta::assert_snapshot!(String::from_utf8(sealed.clone()).unwrap());
        assert_eq!(NodeCertificate::unseal(&sealed, &root.public()).unwrap(), certificate);
        assert!(NodeCertificate::unseal(&sealed, &RootKey::from_seed(&[9; 32]).public()).is_err());
        let renamed = String::from_utf8(sealed).unwrap().replace("web-03", "web-04");
        assert!(NodeCertificate::unseal(renamed.as_bytes(), &root.public()).is_err());
    }

    #[test]
    fn a_pin_accepts_the_key_it_was_made_from() {
        let (root, other) = (RootKey::from_seed(&[5; 32]), RootKey::from_seed(&[6; 32]));
        let code = RestoreCode::new(&root.id(), [1, 2, 3, 4, 5]);
        for pin in [Pin::Fingerprint(root.id()), Pin::from_code(&code)] {
            assert!(pin.accepts(&root.public()) && !pin.accepts(&other.public()), "{pin}");
        }
    }
}
