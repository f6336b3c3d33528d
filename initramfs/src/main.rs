//! PID 1 of the restore environment.

fn main() {}
