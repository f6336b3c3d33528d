//! The whole way: a node is captured, lost, and comes back on another machine.

use std::time::Duration;

use super::lost::{
    BOOT_TIMEOUT, Lost, RESTORE_TIMEOUT, SCREEN_TIMEOUT, consent, go_to_consent, introduce, let_in, remove, sum,
    wait_restored,
};
use super::{NO_PROGRAMS, Outcome};
use crate::{BootFirst, Error, Guest, Lab, NodeRecipe, Programs};

/// What every scenario here needs.
fn programs() -> Result<Programs, Outcome> {
    Programs::from_environment().ok_or_else(|| Outcome::Skipped(NO_PROGRAMS.into()))
}

/// An operator at the console of a BIOS machine brings a node back.
pub(super) fn interactive_bios(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small())?;
    let code = lost.arm()?;
    let new = lost.replacement("new-bios")?;
    let mut vm = new.machine.clone().cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    introduce(lab, &mut vm, &lost.server.url(), &code)?;
    go_to_consent(&mut vm)?;
    consent(&mut vm)?;
    wait_restored(&mut vm, RESTORE_TIMEOUT)?;
    lab.say(&vm.screen());
    vm.wait_off(BOOT_TIMEOUT)?;
    new.left_the_other_disk_alone()?;
    lost.equals_snapshot(&new.disk)?;
    lost.comes_back(lost.restored("back-bios", &new.disk))?;
    Ok(Outcome::Passed)
}

/// Nobody sits at the console: an armed server and kernel arguments bring a UEFI node back. Kernel and initramfs come
/// as from a network boot.
pub(super) fn unattended_uefi(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small_uefi())?;
    let code = lost.arm()?;
    let files = lost.network_boot()?;
    let arguments = format!(
        "console=ttyS0,115200 rerack.server={} rerack.code={code} rerack.unattended rerack.erase=blank",
        lost.server.url()
    );
    let variables = lab.run_dir().join("new-uefi.own.fd");
    remove(&variables)?;
    let new = lost.replacement("new-uefi")?;
    let mut vm = new.machine.clone().ovmf_vars(&variables).kernel(&files, &arguments).start()?;
    wait_restored(&mut vm, BOOT_TIMEOUT + RESTORE_TIMEOUT)?;
    lab.say(&vm.screen());
    vm.wait_off(BOOT_TIMEOUT)?;
    new.left_the_other_disk_alone()?;
    lost.equals_snapshot(&new.disk)?;
    // By the entry that the restore wrote into the firmware's variables; then on a board that knows of none, by the
    // fallback loader that the restore placed: the node had none of its own.
    lost.comes_back_and(lost.restored("back-uefi", &new.disk).ovmf_vars(&variables), |guest| {
        booted_by_its_entry(lab, guest)
    })?;
    lost.starts(lost.restored("back-uefi-fallback", &new.disk))?;
    Ok(Outcome::Passed)
}

/// The firmware has started the entry of this very disk's loader.
fn booted_by_its_entry(lab: &Lab, guest: &mut Guest<'_>) -> Result<(), Error> {
    let entries = guest.expect("efibootmgr -v", SCREEN_TIMEOUT)?;
    let current = entries.lines().find_map(|line| line.strip_prefix("BootCurrent: ")).unwrap_or("none");
    let entry = entries.lines().find(|line| line.starts_with(&format!("Boot{current}"))).unwrap_or_default();
    let esp = guest.expect("lsblk -no PARTUUID \"$(findmnt -no SOURCE /boot/efi)\"", SCREEN_TIMEOUT)?;
    lab.say(&format!("started by {entry}"));
    if entry.contains("debian") && entry.to_lowercase().contains(&esp.trim().to_lowercase()) {
        return Ok(());
    }
    Err(Error::Unexpected(format!("the node on {esp} was not started by its own entry:\n{entries}")))
}

/// The machine loses power early in the data phase, and again late; each next start goes on with what was begun, under
/// the same consent.
pub(super) fn killed_in_data(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small())?;
    let code = lost.arm()?;
    let new = lost.replacement("new-killed")?;
    let mut vm = new.machine.clone().cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    introduce(lab, &mut vm, &lost.server.url(), &code)?;
    go_to_consent(&mut vm)?;
    consent(&mut vm)?;
    for percent in [1, 60] {
        let is_far_enough = |screen: &str| data_percent(screen).is_some_and(|at| at >= percent);
        vm.console().wait_until(&format!("{percent} % of the data"), RESTORE_TIMEOUT, is_far_enough)?;
        lab.say(&format!("power lost at {} % of the data", data_percent(&vm.screen()).unwrap_or_default()));
        vm.kill()?;
        // Half restored: firmware finds nothing to start on the disk and goes on to the disc. The code is asked for
        // again, because a machine that lost power remembers nothing; node, snapshot and consent are the claim's.
        let again = lost.restored(&format!("new-killed-at-{percent}"), &new.disk);
        vm = again.cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
        let_in(lab, &mut vm, &lost.server.url(), &code)?;
    }
    wait_restored(&mut vm, RESTORE_TIMEOUT)?;
    lab.say(&vm.screen());
    vm.wait_off(BOOT_TIMEOUT)?;
    new.left_the_other_disk_alone()?;
    lost.equals_snapshot(&new.disk)?;
    lost.starts(lost.restored("back-killed", &new.disk))?;
    Ok(Outcome::Passed)
}

/// How far the data stage is, as the screen shows it.
fn data_percent(screen: &str) -> Option<u32> {
    let is_running = screen.contains("[>>] Data");
    let percent = || screen.split_whitespace().find_map(|word| word.strip_suffix('%')?.parse().ok());
    is_running.then(percent).flatten()
}

/// A wrong code, an empty Enter, a wrong serial number: nothing is written.
pub(super) fn no_consent(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small_uefi())?;
    let code = lost.arm()?;
    let new = lost.replacement("new-no-consent")?;
    let blank = sum(&new.disk)?;
    let mut vm = new.machine.clone().cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    // The right server's part with another secret.
    let wrong = format!("{}-0000-0000", &code[..14]);
    vm.wait_for_screen("Server address", BOOT_TIMEOUT)?;
    vm.type_line(&lost.server.url())?;
    vm.wait_for_screen("Restore code", SCREEN_TIMEOUT)?;
    vm.type_line(&wrong)?;
    vm.wait_for_screen("no node is armed with this restore", SCREEN_TIMEOUT)?;
    // The mistyped code stays to be corrected; Ctrl-U clears it.
    vm.type_text("\u{15}")?;
    vm.type_line(&code)?;
    vm.wait_for_screen("Which node is this machine to become?", SCREEN_TIMEOUT)?;
    vm.type_line("")?;
    go_to_consent(&mut vm)?;
    for nothing in ["", "", "0001", "B2C"] {
        vm.type_line(nothing)?;
    }
    std::thread::sleep(Duration::from_secs(5));
    vm.wait_for_screen("THESE DISKS WILL BE ERASED", SCREEN_TIMEOUT)?;
    vm.kill()?;
    if sum(&new.disk)? != blank {
        return Err(Error::Unexpected("the disk was written without consent".into()));
    }
    new.left_the_other_disk_alone()?;
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_the_data_is_is_read_from_its_stage_alone() {
        let screen = "| [>>] Data         28.5 s |\n| [######...]  99%  |";
        assert_eq!(data_percent(screen), Some(99));
        assert_eq!(data_percent(&screen.replace("Data", "Verify")), None);
        assert_eq!(data_percent("| [>>] Data 1 s |"), None);
    }
}
