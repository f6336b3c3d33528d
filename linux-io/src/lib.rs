//! The only door to the kernel: disks, mounts, files, programs.

pub mod modules;
pub mod net;
pub mod power;
pub mod uevent;
