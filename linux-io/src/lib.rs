//! The only door to the kernel: disks, mounts, files, programs.
//!
//! Every other crate of rerack is plain Rust over data; what needs an ioctl, a mount or a child process goes through
//! here. Paths of `/sys`, `/proc`, `/dev` and `/` are parameters ([`Roots`]), so that what reads them is tested
//! against fixtures.

// This crate is the one place where calls to the kernel are made that no safe wrapper covers. Each block says why it
// is sound.
#![allow(unsafe_code)]

pub mod blockdev;
pub mod efi;
pub mod fs;
pub mod gpt;
pub mod loopdev;
pub mod modules;
pub mod mount;
pub mod net;
pub mod partitions;
pub mod power;
pub mod priority;
pub mod proctab;
pub mod roots;
pub mod runner;
pub mod scan;
pub mod superblock;
pub mod terminal;
pub mod uevent;

pub use roots::Roots;
