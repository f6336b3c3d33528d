//! What the bundle server and its clients say to each other: routes, wire types, limits, error codes, how a server is
//! authenticated, and the client that agents and the restore engine use.

mod bitmap;
pub mod client;
mod error;
pub mod limits;
mod placement;
pub mod routes;
mod server_url;
mod tls;
mod wire;

pub use bitmap::{BadBitmap, MissingChunks};
pub use client::{ClientError, Connection, NodeClient, Patience, Reader, RestoreClient};
pub use error::{ApiError, ErrorCode};
pub use placement::{BadPlacement, PlacedChunk, PlacedPack, SnapshotPlacement};
pub use server_url::{InvalidServerUrl, SERVERS_MAX, ServerUrl, is_like_code};
pub use wire::*;
