//! Carries out a restore plan: proves that a snapshot is whole ([`prove`]), lets only a consented plan through
//! ([`consent`]), takes its steps one by one ([`execute`]) on the machine ([`live`]), and brings the data from its
//! source to the disk ([`data`]); a node that comes back keeps the log of it ([`journal`]).

pub mod consent;
pub mod data;
pub mod execute;
pub mod journal;
pub mod live;
pub mod machine;
pub mod planning;
pub mod prove;
pub mod raw;
pub mod session;
