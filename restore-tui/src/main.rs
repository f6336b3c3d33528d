//! The screens of a restore.

fn main() {}
