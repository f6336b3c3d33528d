//! The log of a restore, as the restored node keeps it: what an operator asks of a node that came back.

use std::collections::VecDeque;
use std::fmt::{self, Write};

use jiff::Timestamp;
use node_model::Bytes;
use restore_events::{Limit, Stage, StageTime};
use restore_plan::{Plan, Severity};

use crate::data::{Reading, Work};

/// Lines kept of what went on: far more than a restore tells as long as it works.
const LINES_MAX: usize = 4_000;
/// Bytes kept of one line: the end of what a program complained.
const LINE_BYTES_MAX: usize = 2_048;

/// What went on, in lines; the oldest are given up when they become too many. None of them holds a secret: answers,
/// codes and tokens are never told.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    lines: VecDeque<String>,
    given_up: u64,
}

impl Lines {
    /// Keeps a line of what went on at `at_ms`.
    pub fn push(&mut self, at_ms: u64, text: &str) {
        let text = &text[..text.floor_char_boundary(LINE_BYTES_MAX)];
        self.lines.push_back(format!("[{:>6}.{:03}] {}", at_ms / 1000, at_ms % 1000, text.replace('\n', " ")));
        if self.lines.len() > LINES_MAX {
            self.lines.pop_front();
            self.given_up += 1;
        }
    }
}

/// What the log says besides the plan.
#[derive(Debug, Clone)]
pub struct Journal {
    /// The machine, in words.
    pub machine: String,
    /// How often the engine had begun before on this boot.
    pub engine_restarts: u32,
    /// When each stage began and ended.
    pub timeline: Vec<StageTime>,
    /// What was done.
    pub reading: Reading,
    /// What held it back.
    pub limit: Limit,
    /// What went on.
    pub lines: Lines,
}

impl Journal {
    /// The log as text, with the time of day that it is now.
    pub fn text(&self, plan: &Plan) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut text, plan);
        text
    }

    fn write(&self, out: &mut String, plan: &Plan) -> fmt::Result {
        let now = Timestamp::now();
        // To the second: nobody reads more of it.
        let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
        writeln!(out, "Restore of {}, snapshot {}", plan.source.node, plan.source.snapshot)?;
        writeln!(out, "Written {at} by rerack {} on {}", env!("CARGO_PKG_VERSION"), self.machine)?;
        if self.engine_restarts > 0 {
            writeln!(out, "The restore was interrupted and had been started {} times before", self.engine_restarts)?;
        }
        writeln!(out, "Plan {}", plan.digest())?;
        writeln!(out, "\nEverything is written. It is read back after this; only then do the disks become bootable.")?;
        writeln!(out, "\nDisks")?;
        for target in &plan.targets {
            let (old, new) = (target.old.describe(), target.identity.describe());
            writeln!(out, "  {} was {old}\n    is now {new}: {}", target.key, target.matched_by.describe())?;
        }
        if !plan.changes.is_empty() {
            writeln!(out, "\nWhat differs from the captured node")?;
            plan.changes
                .iter()
                .try_for_each(|change| writeln!(out, "  {}\n    because {}", change.what, change.reason))?;
        }
        let told: Vec<_> = plan.findings.iter().filter(|finding| finding.severity != Severity::Note).collect();
        if !told.is_empty() {
            writeln!(out, "\nWhat to look after")?;
            told.iter().try_for_each(|finding| writeln!(out, "  {finding}"))?;
        }
        self.write_figures(out)?;
        writeln!(out, "\nWhat went on")?;
        if self.lines.given_up > 0 {
            writeln!(out, "  {} earlier lines are left out", self.lines.given_up)?;
        }
        self.lines.lines.iter().try_for_each(|line| writeln!(out, "{line}"))
    }

    fn write_figures(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nTime")?;
        for row in &self.timeline {
            let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
            let took = seconds(row.finished_ms.saturating_sub(row.started_ms));
            writeln!(out, "  {:<10} {took:>10} s, from {} s", row.stage.title(), seconds(row.started_ms))?;
        }
        let Reading { written_bytes, reused_bytes, fetched_bytes, files, .. } = self.reading;
        writeln!(out, "\nData")?;
        writeln!(
            out,
            "  {files} files; {} written, {} kept, {} fetched",
            Bytes(written_bytes),
            Bytes(reused_bytes),
            Bytes(fetched_bytes)
        )?;
        let speed = Bytes(bytes_per_second(&self.timeline, written_bytes));
        writeln!(out, "  {speed} in each second; limited by: {}", self.limit.title())
    }
}

/// What workers waited for, in the words of people.
pub fn limit(work: Option<Work>) -> Limit {
    match work {
        Some(Work::NetworkWait) => Limit::Network,
        Some(Work::Decode) => Limit::Cpu,
        Some(Work::Write) => Limit::Disk,
        None => Limit::Unknown,
    }
}

/// Bytes written in each second of the data stage, on average.
pub fn bytes_per_second(timeline: &[StageTime], written_bytes: u64) -> u64 {
    let data = timeline.iter().filter(|row| row.stage == Stage::Data);
    let data_ms: u64 = data.map(|row| row.finished_ms.saturating_sub(row.started_ms)).sum();
    written_bytes.saturating_mul(1000) / data_ms.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_say_so() {
        let mut lines = Lines::default();
        lines.push(61_005, &format!("mkfs said\n{}", "ä".repeat(LINE_BYTES_MAX)));
        let first = &lines.lines[0];
        assert!(first.starts_with("[    61.005] mkfs said ä") && first.len() < LINE_BYTES_MAX + 16, "{first}");
        (0..LINES_MAX as u64 + 2).for_each(|number| lines.push(number, "line"));
        assert_eq!((lines.lines.len(), lines.given_up), (LINES_MAX, 3));
    }

    #[test]
    fn speed_is_that_of_the_data_stage_alone() {
        let row = |stage, started_ms, finished_ms| StageTime { stage, started_ms, finished_ms };
        let timeline = [row(Stage::Layout, 0, 5_000), row(Stage::Data, 5_000, 6_500), row(Stage::Data, 9_000, 9_500)];
        assert_eq!(bytes_per_second(&timeline, 4_000), 2_000);
        assert_eq!(bytes_per_second(&[], 7), 7_000);
    }
}
