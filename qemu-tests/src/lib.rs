//! Drives virtual machines the way an operator does.
