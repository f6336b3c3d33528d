//! PID 1 of the restore environment.
//!
//! It mounts, reads the kernel command line, loads drivers, brings up the network, starts the engine and one screen
//! per console, and starts them again when they fail. It links no engine, no TLS and no decompressor: no bundle can
//! kill it.
//!
//! What decides ([`words`], [`ip`], [`arguments`], [`supervisor`]) is pure; what acts ([`run`]) decides nothing.

pub mod arguments;
pub mod consoles;
pub mod devices;
pub mod ip;
pub mod log;
pub mod mounts;
pub mod network;
pub mod run;
pub mod settings;
pub mod supervisor;
pub mod words;
