//! A plan as text: the dry run.

use std::fmt::{self, Write};

use crate::plan::{Plan, TargetDisk};
use crate::step::{BootSector, ByteRange, FillMode, Step, ToolCall};
use crate::{Finding, Severity};

impl Plan {
    /// The whole plan as text for people, every step included.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.render_to(&mut text);
        text
    }

    fn render_to(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "Restore of {}, snapshot {}", self.source.node, self.source.snapshot)?;
        writeln!(out, "Plan {}", self.digest())?;
        writeln!(out, "\nDisks")?;
        for target in &self.targets {
            render_target(out, target)?;
            for partition in self.partitions.iter().filter(|partition| partition.disk == target.key) {
                let (first, last) = (partition.first_lba.0, partition.last_lba.0);
                writeln!(out, "    {:>2}  {first} to {last}  {}", partition.number, partition.holds)?;
            }
        }
        if !self.untouched.is_empty() {
            writeln!(out, "\nLeft alone")?;
            for disk in &self.untouched {
                writeln!(out, "  {} ({}): {}", disk.kernel_name, disk.identity.describe(), disk.reason)?;
            }
        }
        if !self.changes.is_empty() {
            writeln!(out, "\nChanges")?;
            for change in &self.changes {
                writeln!(out, "  {}\n    because {}", change.what, change.reason)?;
            }
        }
        if !self.findings.is_empty() {
            writeln!(out, "\nFindings")?;
            for finding in &self.findings {
                writeln!(out, "  {finding}")?;
            }
        }
        writeln!(out, "\nSteps")?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(out, "  {:>3}. {step}", number + 1)?;
        }
        Ok(())
    }
}

fn render_target(out: &mut String, target: &TargetDisk) -> fmt::Result {
    writeln!(out, "  {} was {}", target.key, target.old.describe())?;
    writeln!(
        out,
        "    becomes {} ({}): {}",
        target.kernel_name,
        target.identity.describe(),
        target.matched_by.describe()
    )?;
    let erased: Vec<String> = target.erased.iter().map(|s| format!("{} on {}", s.kind, s.device)).collect();
    let erased = if erased.is_empty() { "nothing: it is blank".to_owned() } else { erased.join(", ") };
    writeln!(out, "    erased: {erased}")?;
    if target.keeps_table { writeln!(out, "    its table is already there") } else { Ok(()) }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Blocker => "BLOCKER",
        };
        write!(f, "{severity}: {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.offset_bytes.get(), self.length_bytes.get())
    }
}

impl fmt::Display for ToolCall {
    /// As a person would read it. It is not quoted for a shell, and no shell ever sees it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| match arg.contains(char::is_whitespace) {
            true => write!(f, " {arg:?}"),
            false => write!(f, " {arg}"),
        })
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn commands(calls: &[ToolCall]) -> String {
    calls.iter().map(|call| format!("\n         {call}")).collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeUnbootable { disk, zero } => write!(f, "make {disk} unbootable: zeros at {}", list(zero)),
            Self::WipeSignatures { disk, ranges } => write!(f, "wipe signatures on {disk}: zeros at {}", list(ranges)),
            Self::WriteGpt { disk, table, backup_header_lba } => write!(
                f,
                "write the table of {disk}: disk GUID {}, {} of {} entries, usable blocks {} to {}, copy at block {}",
                table.disk_guid,
                table.partitions.len(),
                table.entry_count,
                table.first_usable_lba.0,
                table.last_usable_lba.0,
                backup_header_lba.0
            ),
            Self::AnnouncePartitions { disk, partitions } => {
                let partitions: Vec<String> =
                    partitions.iter().map(|p| format!("{} at {}", p.number, p.range)).collect();
                write!(f, "announce the partitions of {disk}: {}", partitions.join(", "))
            }
            Self::MakeFilesystem { device, commands: calls, expect } => {
                write!(f, "make {} on {device}:{}", expect.type_name(), commands(calls))
            }
            Self::CheckFilesystem { device, commands: calls, otherwise, expect } => {
                let (checks, otherwise) = (commands(calls), commands(otherwise));
                write!(f, "go on with {} on {device}:{checks}\n       or else:{otherwise}", expect.type_name())
            }
            Self::MakeSwap { device, commands: calls, .. } => write!(f, "make swap on {device}:{}", commands(calls)),
            Self::Mount { device, fstype, options, read_only, node_path } => {
                let how = if *read_only { "for reading" } else { "for writing" };
                let path = node_path.as_ref().map_or_else(String::new, |path| format!(", in the node {path}"));
                write!(f, "mount {device} {how} ({fstype}, {options}){path}")
            }
            Self::RestoreFiles { volume, device, mode } => match mode {
                FillMode::Fresh => write!(f, "restore the files of {volume} to {device}"),
                FillMode::Differential => write!(f, "restore the files of {volume} to {device}, keeping what is right"),
            },
            Self::Adapt(adaptation) => {
                write!(f, "rewrite {} on {}: {}", adaptation.node_path, adaptation.device, adaptation.reason)
            }
            Self::KeepLog { device, node_path, .. } => {
                write!(f, "keep the log of this restore as {node_path} on {device}")
            }
            Self::EnsureFallbackLoader { device, copies } => {
                let copies: Vec<String> = copies.iter().map(|copy| format!("{} to {}", copy.from, copy.to)).collect();
                write!(f, "copy on {device}: {}", copies.join(", "))
            }
            Self::Unmount { device } => write!(f, "unmount {device}"),
            Self::VerifyFiles { volume, device, except, added } => {
                write!(f, "read the files of {volume} back from {device} and compare them")?;
                if !except.is_empty() {
                    write!(f, ", but for {}", except.join(", "))?;
                }
                if added.is_empty() { Ok(()) } else { write!(f, "; new may be {}", added.join(", ")) }
            }
            Self::WriteRaw { volume, device, range } => write!(f, "write {volume} to {device} at {range}"),
            Self::VerifyRaw { volume, device, range } => {
                write!(f, "read {volume} back from {device} at {range} and compare it")
            }
            Self::MakeBootable { disk, boot_sector } => match boot_sector {
                BootSector::Verbatim { volume } => {
                    write!(f, "make {disk} bootable: write its first block from {volume}")
                }
                BootSector::Rebuilt { volume, protective_sectors } => {
                    let code =
                        volume.as_ref().map_or_else(|| "no boot code".to_owned(), |v| format!("boot code from {v}"));
                    write!(f, "make {disk} bootable: {code}, protective MBR of {protective_sectors} blocks")
                }
            },
            Self::RegisterEfiEntries { entries } => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{:?} ({} on {})", entry.description, entry.loader_path, entry.partition_guid))
                    .collect();
                write!(f, "put first into the firmware's boot order: {}", entries.join(", "))
            }
        }
    }
}
