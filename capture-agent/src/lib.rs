//! Reads a live node and writes its bundle.
