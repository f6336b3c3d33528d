//! Carries out a restore plan.
