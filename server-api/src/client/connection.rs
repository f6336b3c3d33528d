//! Finding a server and making sure that it is the right one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bundle::code::RestoreCode;
use bundle::node_model::{MachineIdentity, NodeName};
use bundle::sign::PublicKey;
use bundle::trust::{BearerToken, Pin};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::node::NodeClient;
use super::restore::RestoreClient;
use super::transport::{Answer, Patience, Request, Transport};
use crate::limits::JSON_ANSWER_BYTES_MAX;
use crate::{API_VERSION, Hello, OpenAnswer, OpenRequest, ServerUrl, routes};

/// How long the other servers are waited for once one has answered.
const OTHERS_WAIT: Duration = Duration::from_secs(2);

/// The servers of one repository, of which at least one has answered and proved that it is the repository's.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    transport: Transport,
    /// Those that answered well, the first to do so first.
    servers: Vec<ServerUrl>,
    /// Which of them is asked first: the last that answered.
    turn: AtomicUsize,
    root: PublicKey,
}

impl Connection {
    /// Asks all servers together. The first that answers well is used for everything but bulk reads, until it fails
    /// for the time being; others that answer well soon after it then take its place, and are used for those too.
    ///
    /// # Errors
    /// With one server its error, with several [`ClientError::NoneUsable`] of all.
    pub async fn open(servers: &[ServerUrl], pin: &Pin, patience: Patience) -> Result<Self, ClientError> {
        if *pin == Pin::LocalDirectory {
            return Err(ClientError::NoPin);
        }
        let transport = Transport::new(pin.clone(), patience);
        let (transport_ref, pin_ref) = (&transport, pin);
        let ask = |server| async move { (server, hello(transport_ref, server, pin_ref).await) };
        let mut asked: FuturesUnordered<_> = servers.iter().map(ask).collect();
        let mut errors = Vec::new();
        let mut found = None;
        while let Some((server, answer)) = asked.next().await {
            match answer {
                Ok(root) => {
                    found = Some((server.clone(), root));
                    break;
                }
                Err(error) => errors.push(error),
            }
        }
        let Some((control, root)) = found else {
            return Err(match errors.len() {
                0 => ClientError::NoServer,
                1 => errors.remove(0),
                _ => ClientError::NoneUsable(errors),
            });
        };
        let mut usable = vec![control];
        let others = async {
            while let Some((server, answer)) = asked.next().await {
                match answer {
                    Ok(_) => usable.push(server.clone()),
                    Err(error) => tracing::warn!(%error, "this server is not used"),
                }
            }
        };
        // Who takes longer is not worth waiting for.
        let _ = tokio::time::timeout(OTHERS_WAIT, others).await;
        drop(asked);
        Ok(Self { inner: Arc::new(Inner { transport, servers: usable, turn: AtomicUsize::new(0), root }) })
    }

    /// The server used for everything but bulk reads now.
    pub fn server(&self) -> &ServerUrl {
        &self.inner.servers[self.inner.turn.load(Ordering::Relaxed)]
    }

    /// All servers that answered well, the first to do so first. Bulk reads may be asked of any.
    pub fn servers(&self) -> &[ServerUrl] {
        &self.inner.servers
    }

    /// The repository's root key, which fits the pin.
    pub fn root(&self) -> &PublicKey {
        &self.inner.root
    }

    /// Speaks as a node.
    pub fn as_node(&self, node: NodeName, token: BearerToken) -> NodeClient {
        NodeClient::new(self.clone(), node, token)
    }

    /// Exchanges a restore code for the right to restore its node. The same machine may do so again with the same
    /// code, and goes on with the claim it has.
    pub async fn open_restore(
        &self,
        code: &RestoreCode,
        machine: &MachineIdentity,
    ) -> Result<(RestoreClient, OpenAnswer), ClientError> {
        let request = OpenRequest { secret: code.reveal_secret(), machine: machine.clone() };
        let answer: OpenAnswer = self.post_json(routes::template::RESTORE_OPEN, None, &request).await?;
        let token = BearerToken::parse(&answer.token).ok_or_else(|| ClientError::AnswerMalformed {
            server: self.server().clone(),
            reason: "its token has not the form of one".to_owned(),
        })?;
        let client = RestoreClient::new(self.clone(), answer.facts.node.clone(), token);
        Ok((client, answer))
    }

    pub(super) async fn send(&self, request: Request<'_>) -> Result<Answer, ClientError> {
        let servers = &self.inner.servers;
        let first = self.inner.turn.load(Ordering::Relaxed);
        let mut answer = self.send_to(&servers[first], request.clone()).await;
        for next in (1..servers.len()).map(|step| (first + step) % servers.len()) {
            match &answer {
                Err(error) if error.is_transient() => tracing::warn!(%error, "another server is asked"),
                _ => break,
            }
            let other = self.send_to(&servers[next], request.clone()).await;
            if other.is_ok() {
                self.inner.turn.store(next, Ordering::Relaxed);
                answer = other;
            }
        }
        // Where none answers, the error is that of the server that did until now.
        answer
    }

    pub(super) async fn send_to(&self, server: &ServerUrl, request: Request<'_>) -> Result<Answer, ClientError> {
        self.inner.transport.send(server, request).await
    }

    pub(super) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&BearerToken>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send_json(Method::POST, path, token, body).await
    }

    pub(super) async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: Option<&BearerToken>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("wire types serialise").into();
        let body = Some((body, "application/json"));
        let request = Request { method, path: path.to_owned(), token, body, range: None };
        self.send(request).await?.json(JSON_ANSWER_BYTES_MAX).await
    }
}

async fn hello(transport: &Transport, server: &ServerUrl, pin: &Pin) -> Result<PublicKey, ClientError> {
    let path = routes::template::HELLO.to_owned();
    let request = Request { method: Method::GET, path, token: None, body: None, range: None };
    let hello: Hello = transport.send(server, request).await?.json(JSON_ANSWER_BYTES_MAX).await?;
    let server = server.clone();
    if hello.service != "rerack" {
        return Err(ClientError::NotABundleServer { server, reason: format!("it calls itself `{}`", hello.service) });
    }
    if hello.api != API_VERSION {
        return Err(ClientError::OtherVersion { server, found: hello.api, known: API_VERSION });
    }
    let root = PublicKey::try_from(hello.root_public_key)
        .map_err(|error| ClientError::AnswerMalformed { server: server.clone(), reason: error.to_string() })?;
    if pin.accepts(&root) {
        Ok(root)
    } else {
        Err(ClientError::WrongRoot { server, expected: pin.clone(), found: Some(root.id().0) })
    }
}
