//! Serves and receives bundles: a repository in a directory, who may read and write what in it, the arms that allow a
//! restore, and HTTPS in front of it.
//!
//! [`Server`] is the directory, open; `rerack serve` calls [`Server::serve`], the other commands work on the same
//! directory beside it.
//!
//! # Architecture invariants
//! - Nothing is acknowledged before it is verified and durable.
//! - There is no request that deletes anything, for any token.
//! - A token is kept as a digest only; no token, code or secret is ever logged.
//! - A node reads nothing that it has not stored itself; a restore reads its own node and writes nothing but events.

mod arm;
mod chunks;
mod error;
mod events;
mod http;
mod reads;
mod reconcile;
mod server;
mod state;
mod tls;
mod tries;
mod verify;

pub use arm::{Arm, ArmId, ArmRefusal, ArmState, ClaimedPlan};
pub use error::ServerError;
pub use server::{Armed, Clock, NodeListing, Server, VALIDITY_DEFAULT, system_clock};
pub use state::StateError;
pub use verify::RehashedSnapshot;
