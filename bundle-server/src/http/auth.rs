//! Who asks, and what that one may do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use bundle::Hash;
use bundle::node_model::NodeName;
use bundle::trust::BearerToken;
use server_api::ErrorCode;

use super::App;
use super::refusal::Refusal;
use crate::arm::Arm;

/// Who asks.
#[derive(Debug)]
enum Caller {
    Node(NodeName),
    Restore(Box<Arm>),
}

impl App {
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let digest = token_digest(headers)?;
        let found = self.server.with_state(move |state| {
            Ok::<_, crate::StateError>(match state.node_of_token(&digest)? {
                Some(node) => Some(Caller::Node(node)),
                None => state.arm_of_token(&digest)?.map(|arm| Caller::Restore(Box::new(arm))),
            })
        });
        found.await??.ok_or_else(|| {
            Refusal::new(ErrorCode::Unauthorized, "this token is not known here")
                .hint("a node's token is in the file that `rerack node add` wrote; a restore's token ends with the next use of its code")
        })
    }

    /// Lets a node write its own, and nobody else anything.
    pub(super) async fn may_write(&self, headers: &HeaderMap, node: &str) -> Result<NodeName, Refusal> {
        match self.caller(headers).await? {
            Caller::Node(caller) if caller.as_str() == node => Ok(caller),
            Caller::Node(caller) => Err(not_for(node).hint(format!("this token is node {caller}'s"))),
            Caller::Restore(_) => Err(Refusal::new(ErrorCode::Forbidden, "a restore may read, but store nothing")),
        }
    }

    /// Lets a node read its own, and a restore its node's.
    pub(super) async fn may_read(&self, headers: &HeaderMap, node: &str) -> Result<NodeName, Refusal> {
        match self.caller(headers).await? {
            Caller::Node(caller) if caller.as_str() == node => Ok(caller),
            Caller::Restore(arm) if arm.node.as_str() == node => {
                arm.check_alive(self.server.now())?;
                Ok(arm.node)
            }
            _ => Err(not_for(node)),
        }
    }

    /// Lets a restore speak of itself; gives the digest of its token too.
    pub(super) async fn restore(&self, headers: &HeaderMap) -> Result<(Arm, Hash), Refusal> {
        match self.caller(headers).await? {
            Caller::Restore(arm) => Ok((*arm, token_digest(headers)?)),
            Caller::Node(_) => Err(Refusal::new(ErrorCode::Forbidden, "a node's token opens no restore")),
        }
    }
}

fn not_for(node: &str) -> Refusal {
    let shown: String = node.chars().take(80).collect();
    Refusal::new(ErrorCode::Forbidden, format!("this token is not for node `{shown}`"))
}

fn token_digest(headers: &HeaderMap) -> Result<Hash, Refusal> {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .and_then(BearerToken::parse);
    token.map(|token| token.digest()).ok_or_else(|| {
        Refusal::new(ErrorCode::Unauthorized, "no token was sent").hint("send `Authorization: Bearer TOKEN`")
    })
}

/// The address a request came from.
pub(super) fn peer_of(request: &Request) -> String {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    address.map_or_else(|| "unknown".to_owned(), |ConnectInfo(address)| address.to_string())
}

/// By what tries are counted: an IPv4 address, or the network of an IPv6 one, of which a stranger has plenty.
pub(super) fn counted_address(address: SocketAddr) -> IpAddr {
    match address.ip() {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
        },
        IpAddr::V4(v4) if v4 == Ipv4Addr::UNSPECIFIED => IpAddr::V4(Ipv4Addr::LOCALHOST),
        v4 => v4,
    }
}
