//! What a program costs: time until everything is on the device, processor seconds, memory.
//!
//! Each program runs below a fresh process of this task, so that what the kernel adds up for ended children is that
//! program's alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};

/// What one turn cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Cost {
    /// Wall-clock seconds.
    pub(super) seconds: f64,
    /// Processor seconds of the program and its children.
    pub(super) cpu_seconds: f64,
    /// Processor seconds of a server, if there is one.
    pub(super) server_cpu_seconds: f64,
    /// The most memory that one process held.
    pub(super) peak_bytes: u64,
    /// Bytes that came over a network, or were read from a store, as far as it is known.
    pub(super) moved_bytes: u64,
    /// Seconds of reading back what was written, which are not in `seconds`.
    pub(super) read_back_seconds: Option<f64>,
    /// The stages of ours.
    pub(super) stages: Vec<StageCost>,
    /// Round trips of ours until the data began, and in all, where they are counted.
    pub(super) round_trips: Option<(u64, u64)>,
}

/// What one stage of ours cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct StageCost {
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
}

/// A program to be measured, as the child process is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The filesystem that is flushed before the clock stops.
    #[arg(long)]
    sync: Option<PathBuf>,
    /// Where the program runs.
    #[arg(long)]
    directory: PathBuf,
    /// The program.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Runs the program and prints what it cost: what the hidden task does.
pub(crate) fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let mut command = Command::new(&options.argv[0]);
    command.args(&options.argv[1..]).current_dir(&options.directory).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("cannot start {}", options.argv[0]))?;
    if !status.success() {
        bail!("{}: {status}", options.argv.join(" "));
    }
    if let Some(root) = &options.sync {
        flush(root)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let (own, children) = (getrusage(UsageWho::RUSAGE_SELF)?, getrusage(UsageWho::RUSAGE_CHILDREN)?);
    let peak_bytes = children.max_rss() * 1024;
    let cpu_seconds = cpu_seconds(&own) + cpu_seconds(&children);
    println!("{}", json!({ "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak_bytes }));
    Ok(())
}

/// Has everything in the filesystem of `root` written to its device.
pub(super) fn flush(root: &Path) -> Result<()> {
    let opened = fs::File::open(root).with_context(|| format!("cannot open {}", root.display()))?;
    nix::unistd::syncfs(&opened).with_context(|| format!("cannot flush {}", root.display()))
}

/// Processor seconds, user's and kernel's.
pub(super) fn cpu_seconds(usage: &Usage) -> f64 {
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Runs `argv` in `directory` and says what it cost until all of `sync` is on its device.
pub(super) fn measure(argv: &[&str], directory: &Path, sync: Option<&Path>, log: &Path) -> Result<Cost> {
    let mut command = Command::new(std::env::current_exe().context("this program is not to be found")?);
    command.args(["measure", "--directory"]).arg(directory);
    if let Some(root) = sync {
        command.arg("--sync").arg(root);
    }
    let complaints = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let output = command.arg("--").args(argv).stderr(complaints).output().context("cannot start a measured program")?;
    if !output.status.success() {
        let complaints = fs::read_to_string(log).unwrap_or_default();
        bail!("{}: {}", argv[0], complaints.trim());
    }
    let told: Value = serde_json::from_slice(&output.stdout).context("a measured program tells nothing")?;
    Ok(Cost {
        seconds: told["seconds"].as_f64().context("no seconds")?,
        cpu_seconds: told["cpu_seconds"].as_f64().context("no processor seconds")?,
        peak_bytes: told["peak_bytes"].as_u64().context("no memory")?,
        ..Cost::default()
    })
}

/// Processor time of a running process and of its children that ended.
pub(super) fn cpu_of(process: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = ticks_in(&text).context("the kernel writes another /proc/PID/stat")?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// The sum of utime, stime, cutime and cstime in a line of `/proc/PID/stat`.
fn ticks_in(stat: &str) -> Option<u64> {
    // The program's name may hold anything, so what counts comes after the last parenthesis.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    fields.skip(11).take(4).map(|field| field.parse::<u64>().ok()).sum()
}

/// The most memory a running process has held.
pub(super) fn peak_of(process: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_does_not_shift_the_fields() {
        let line = "4711 (a) b) S 1 4711 4711 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 5 6 7";
        assert_eq!(ticks_in(line), Some(110));
        assert_eq!(ticks_in("nothing"), None);
    }

    #[test]
    fn this_process_has_taken_time_and_memory() {
        assert!(peak_of(std::process::id()).unwrap() > 0);
        cpu_of(std::process::id()).unwrap();
    }
}
