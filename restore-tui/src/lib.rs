//! The screens of a restore.
