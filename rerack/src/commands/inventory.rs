//! `rerack inventory`.

use std::process::ExitCode;

use linux_io::Roots;
use linux_io::scan::{InventoryOptions, ScanError, inventory};

use super::print_json;
use crate::problem::{OrProblem, Outcome};

/// Show what this machine has: disks, interfaces, firmware.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print JSON, as `rerack plan --inventory` reads it.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let found = inventory(&Roots::live(), &InventoryOptions::default()).or_hint(ScanError::hint)?;
    if options.json {
        print_json(&found);
        return Ok(ExitCode::SUCCESS);
    }
    let identity = &found.identity;
    println!(
        "machine   {}",
        identity.system_serial.as_deref().or(identity.system_uuid.as_deref()).unwrap_or("unnamed")
    );
    println!("memory    {}", found.hardware.memory_bytes);
    for disk in &found.disks {
        println!("disk      {:<12} {}", disk.kernel_name, disk.identity.describe());
        for held in &disk.held_by {
            println!("          in use: {} {}", held.device, held.reason);
        }
    }
    for interface in &found.interfaces {
        let link = if interface.link_up { "link" } else { "no link" };
        println!("network   {:<12} {}  {}  {link}", interface.name, interface.permanent_mac, interface.bus_path);
    }
    Ok(ExitCode::SUCCESS)
}
