//! What the bundle server and its clients say to each other.
