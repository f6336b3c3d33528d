//! Bare-metal restore for Linux cluster nodes.

fn main() {}
