//! Carries out a restore plan.

pub mod data;
