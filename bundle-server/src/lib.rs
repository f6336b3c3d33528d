//! Serves and receives bundles.
