//! Plans a restore, and judges plans; pure.
