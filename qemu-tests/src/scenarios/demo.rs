//! The whole way once, told as it happens.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::lost::{
    ADAPTED, BOOT_TIMEOUT, Boot, Lost, RESTORE_TIMEOUT, consent, go_to_consent, indent, introduce, remove,
    wait_restored,
};
use crate::{BootFirst, Error, Lab, NodeRecipe, Programs, Vm};

/// How often the restore is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What the demo may take on two cores that translate.
const DEMO_MAX: Duration = Duration::from_secs(20 * 60);

/// Captures a node, loses it and brings it back on another machine from the boot image, as an operator does at its
/// serial console. With `keep` the files stay, and how to look at them is printed.
pub fn demo(lab: &Lab, programs: &Programs, keep: bool) -> Result<(), Error> {
    let begun = Instant::now();
    chapter(begun, "a node is prepared, started, captured over the network while it runs, and its disk is deleted");
    let lost = Lost::of(lab, programs, NodeRecipe::small())?;
    let node = lost.name().to_owned();
    let code = lost.arm()?;
    chapter(begun, &format!("its restore is armed: `rerack arm {node}` says {code}"));

    chapter(begun, "an empty machine, with another disk and another network card, starts from the disc");
    let new = lost.replacement("demo")?;
    let mut vm = new.machine.clone().cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    introduce(lab, &mut vm, &lost.server.url(), &code)?;
    go_to_consent(&mut vm)?;
    show(&vm);
    consent(&mut vm)?;
    let consented = vm.uptime();
    follow(&mut vm)?;
    let restored = vm.uptime();
    show(&vm);
    let stages = stages(&vm.screen())?;
    vm.wait_off(BOOT_TIMEOUT)?;

    chapter(begun, "its disk, before it was ever started, is compared with the snapshot");
    new.left_the_other_disk_alone()?;
    lost.equals_snapshot(&new.disk)?;
    chapter(begun, "the machine starts from its own disk, and the node is compared with what it was");
    // A copy of it: a disk that was started is no longer what was restored.
    let started = lab.copy_disk(&new.disk, "demo-back.img")?;
    let boot = lost.comes_back(lost.restored("demo-back", &started))?;
    remove(&started)?;

    println!("\n{}", timeline(&stages, boot));
    if keep {
        println!("{}", how_to_look(programs, &lost, &new.disk));
    } else {
        lost.remove(&new.disk)?;
    }
    println!(
        "{node} is back, and nothing differs but what the plan names: {} from power-on to login, {} of it after consent; the demo took {}.",
        seconds(restored + boot.login),
        seconds(restored - consented + boot.login),
        seconds(begun.elapsed())
    );
    if begun.elapsed() > DEMO_MAX {
        println!("That is more than the {} minutes it should take.", DEMO_MAX.as_secs() / 60);
    }
    Ok(())
}

/// A heading, with the time since the beginning.
fn chapter(begun: Instant, what: &str) {
    println!("[{:>6}] {what}", seconds(begun.elapsed()));
}

fn show(vm: &Vm) {
    println!("{}", indent(&vm.screen()));
}

/// Watches the restore until it is over; shows how far it is where somebody looks.
fn follow(vm: &mut Vm) -> Result<(), Error> {
    let is_watched = std::io::stdout().is_terminal();
    let deadline = Instant::now() + RESTORE_TIMEOUT;
    let mut shown = String::new();
    loop {
        let screen = vm.screen();
        if ["In all", "| Trouble"].iter().any(|end| screen.contains(end)) || Instant::now() > deadline {
            break;
        }
        if let Some(line) = progress(&screen, is_watched).filter(|line| *line != shown) {
            match is_watched {
                // A person watches one line change.
                true => print!("\r         {line:<68}"),
                false => println!("         {line}"),
            }
            // Only a display: what cannot be shown does not stop the restore.
            let _ = std::io::stdout().flush();
            shown = line;
        }
        thread::sleep(LOOK_EVERY);
    }
    if is_watched {
        println!();
    }
    wait_restored(vm, LOOK_EVERY)
}

/// The stage that runs and, if wanted, how far it is.
fn progress(screen: &str, in_detail: bool) -> Option<String> {
    let lines = || screen.lines().map(|line| line.trim_matches(|c| c == '|' || c == ' '));
    let stage = lines().find_map(|line| line.strip_prefix("[>>] "))?;
    let name = stage.split("  ").next().unwrap_or(stage);
    match lines().find(|line| line.contains(" files - ")) {
        Some(amount) if in_detail => Some(format!("{name}: {amount}")),
        _ => Some(name.to_owned()),
    }
}

/// The stages and their times, as the last screen lists them.
fn stages(screen: &str) -> Result<Vec<(String, String)>, Error> {
    let lines = screen.lines().map(|line| line.trim_matches(|c| c == '|' || c == ' '));
    let rows: Vec<_> = lines
        .skip_while(|line| *line != "Timeline")
        .skip(1)
        .take_while(|line| !line.starts_with("In all"))
        .filter_map(|line| line.split_once("  ").map(|(stage, took)| (stage.to_owned(), took.trim().to_owned())))
        .collect();
    match rows.is_empty() {
        true => Err(Error::Unexpected(format!("the last screen has no timeline:\n{screen}"))),
        false => Ok(rows),
    }
}

fn timeline(stages: &[(String, String)], boot: Boot) -> String {
    let reboot = [("Reboot".to_owned(), seconds(boot.kernel)), ("Login".to_owned(), seconds(boot.login - boot.kernel))];
    let rows = stages.iter().chain(&reboot).map(|(stage, took)| format!("    {stage:<12} {took:>12}\n"));
    "Timeline of the restore (Server and Plan hold the operator's typing; Reboot is from power-on to the kernel)\n"
        .to_owned()
        + &rows.collect::<String>()
}

fn how_to_look(programs: &Programs, lost: &Lost, disk: &Path) -> String {
    let (rerack, directory) = (programs.rerack(), lost.server.directory().to_owned());
    let (rerack, directory, iso, disk) = (rerack.display(), directory.display(), lost.iso.display(), disk.display());
    let node = lost.name();
    format!(
        "Kept, to be looked at:\n\
         \x20   the repository      {rerack} list {node} --dir {directory}\n\
         \x20                       {rerack} serve {directory}\n\
         \x20   the restored disk   qemu-system-x86_64 -m 768 -nographic -drive file={disk},format=raw,if=virtio\n\
         \x20                       {rerack} compare {node} --dir {directory} --image {disk} --except {ADAPTED}\n\
         \x20   the boot image      qemu-system-x86_64 -m 768 -cdrom {iso}\n"
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: &str = "\
+--------------------------------+
| [ok] web-03 is restored.       |
| Timeline                       |
| Kernel              3.2 s      |
| Boot chain         899 ms      |
| In all         1 min 21 s      |
| Data                           |
+--------------------------------+";

    #[test]
    fn the_timeline_is_read_from_the_last_screen() {
        let rows = stages(LAST).unwrap();
        let rows: Vec<_> = rows.iter().map(|(stage, took)| (stage.as_str(), took.as_str())).collect();
        assert_eq!(rows, [("Kernel", "3.2 s"), ("Boot chain", "899 ms")]);
        assert!(stages("| In all  3 s |").is_err());
    }

    #[test]
    fn progress_names_the_stage_and_for_a_person_the_amount() {
        let screen =
            "| [ok] Plan         14.9 s |\n| [>>] Data         5.8 s |\n| 5 of 9 MiB - 3 of 8 files - 9 MiB/s |";
        assert_eq!(progress(screen, false).unwrap(), "Data");
        assert_eq!(progress(screen, true).unwrap(), "Data: 5 of 9 MiB - 3 of 8 files - 9 MiB/s");
        assert_eq!(progress("| Trouble |", true), None);
    }
}
