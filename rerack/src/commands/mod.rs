//! The commands, a file each.

pub(crate) mod arm;
pub(crate) mod capture;
pub(crate) mod compare;
pub(crate) mod docs;
pub(crate) mod export;
pub(crate) mod image;
pub(crate) mod inventory;
pub(crate) mod list;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod target;
pub(crate) mod verify;

use serde::Serialize;

/// Prints a value as JSON for programs.
pub(crate) fn print_json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("plain data serialises"));
}
