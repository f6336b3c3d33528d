//! What a contributor types: demo, test, lint, tidy.

fn main() {}
