//! The screens of a restore: one process per console, each the same picture of what the engine tells.
//!
//! [`Model::handle`] takes an [`Input`] (a record of the engine, a key, the time) and returns [`Action`]s;
//! [`draw()`] is a pure function of the model. So a recording of events replays as a test, and a screen that
//! crashed is back where it was as soon as it is attached again.
//!
//! A screen opens no block device and decides nothing: consent is judged by the engine.

mod draw;
mod field;
mod input;
mod keys;
pub mod link;
mod model;
pub mod terminal;
mod update;

pub use draw::{Look, draw};
pub use field::{CodeField, Field};
pub use input::{Action, Input, Key};
pub use keys::EscapeJoiner;
pub use model::{Model, Overlay, StageRow, View};

/// A screen asks `init` for the rescue shell by exiting with this.
pub const EXIT_SHELL: u8 = 12;
