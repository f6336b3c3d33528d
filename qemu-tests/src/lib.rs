//! Drives virtual machines the way an operator does.
//!
//! A scenario is prose: build a machine, boot it, wait for what a person would see on its serial console, type what a
//! person would type. Nothing in here links what it tests: it drives what ships, from outside.
//!
//! ```no_run
//! use std::time::Duration;
//! use qemu_tests::{Disk, Firmware, Lab, Net};
//!
//! # fn main() -> Result<(), qemu_tests::Error> {
//! let lab = Lab::new("target/qemu-cache")?;
//! let mut vm = lab
//!     .vm("example")
//!     .firmware(Firmware::Bios)
//!     .memory_mib(768)
//!     .disk(Disk::new("blank.img").serial("NEW-0001"))
//!     .net(Net::user("52:54:00:00:00:01"))
//!     .cdrom("rerack.iso")
//!     .start()?;
//! vm.wait_for("Server address", Duration::from_secs(180))?;
//! vm.type_line("https://10.0.2.2:8443")?;
//! # Ok(())
//! # }
//! ```

mod accel;
mod awkward;
mod builder;
mod cmdline;
mod console;
mod disk;
mod error;
mod guest;
mod host;
mod kernel;
mod lab;
mod net;
mod node;
mod programs;
mod qmp;
mod recipe;
pub mod scenarios;
mod vm;

pub use accel::Acceleration;
pub use awkward::plant_awkward_files;
pub use builder::VmBuilder;
pub use cmdline::{BootFirst, Firmware, Smbios};
pub use console::Console;
pub use disk::{Bus, Disk};
pub use error::Error;
pub use guest::{Guest, Output};
pub use kernel::{BootFiles, cpio_of};
pub use lab::Lab;
pub use net::{Forward, Net};
pub use node::{Node, NodeDisk};
pub use programs::{BundleServer, Programs};
pub use qmp::Qmp;
pub use recipe::{Filesystem, NodeRecipe};
pub use vm::{Exit, Vm};
