//! Work going on, and how it ended.

use restore_events::{After, Limit, Outcome, Progress, Stage};

use super::super::look::Tone;
use super::super::page::{Page, duration};
use super::{LOG_TAIL, log};
use crate::model::Model;

pub(super) fn progress(model: &Model, page: &mut Page) {
    if let Some(plan) = &model.plan {
        page.text(Tone::Heading, &format!("Restoring {} from {}", plan.node, plan.snapshot));
        page.blank();
    }
    for stage in Stage::ALL {
        let row = model.stages.iter().find(|row| row.stage == stage);
        let (mark, tone, time) = match row {
            None => ("    ", Tone::Plain, String::new()),
            Some(row) => match row.finished {
                Some((at_ms, true)) => ("[ok]", Tone::Good, duration(at_ms.saturating_sub(row.started_ms))),
                Some((at_ms, false)) => ("[!!]", Tone::Bad, duration(at_ms.saturating_sub(row.started_ms))),
                None => ("[>>]", Tone::Key, duration(model.now_ms().saturating_sub(row.started_ms))),
            },
        };
        page.row(tone, &format!("{mark} {:<12} {time}", stage.title()));
    }
    page.blank();
    if let Some(progress) = &model.progress {
        numbers(progress, page);
        page.blank();
    }
    log(model, page, LOG_TAIL);
}

fn numbers(progress: &Progress, page: &mut Page) {
    if let Some(percent) = progress.percent() {
        page.bar(percent);
    }
    page.row(Tone::Plain, progress.step.as_deref().unwrap_or(progress.stage.title()));
    let mut parts = Vec::new();
    if progress.total_bytes.get() > 0 {
        parts.push(format!("{} of {}", progress.done_bytes, progress.total_bytes));
    }
    if progress.file_total > 0 {
        parts.push(format!("{} of {} files", progress.file_count, progress.file_total));
    }
    if progress.bytes_per_second.get() > 0 {
        parts.push(format!("{}/s", progress.bytes_per_second));
    }
    page.row(Tone::Plain, &parts.join(" - "));
    let left = progress.eta_ms.map_or_else(|| "not known yet".into(), duration);
    // Reading back tells no limit.
    let limit = match progress.limit {
        Limit::Unknown if progress.stage == Stage::Verify => String::new(),
        limit => format!(" - limit: {}", limit.title()),
    };
    page.row(Tone::Plain, &format!("time left: {left}{limit}"));
}

pub(super) fn result(model: &Model, page: &mut Page) {
    let Some(report) = &model.result else { return };
    match &report.outcome {
        Outcome::Restored => page.text(Tone::Good, &format!("[ok] {} is restored.", report.node)),
        Outcome::Failed { reason } => {
            page.text(Tone::Bad, &format!("[!!] {} is NOT restored: {reason}", report.node));
            page.text(Tone::Plain, "The target disks are not bootable.");
        }
    }
    page.text(
        Tone::Plain,
        match report.after {
            After::Reboot => "The machine reboots into the node.",
            After::Poweroff => "The machine powers off.",
            After::Wait => "Press b to reboot or p to power off.",
        },
    );
    // Before the numbers: what a person has to look after must not lie below the screen.
    if let Some(untold) = &report.untold {
        page.heading("The server does not know that the node is back");
        page.pair("Server", &untold.server);
        page.pair("Why", &untold.why);
        page.pair("What now", &untold.now_what);
    }
    if !report.warnings.is_empty() {
        page.heading("Warnings");
        for warning in &report.warnings {
            page.hanging(Tone::Warning, "* ", warning);
        }
    }
    page.heading("Timeline");
    let total_ms = report.timeline.iter().map(|stage| stage.finished_ms).max().unwrap_or(0);
    for stage in &report.timeline {
        let took = duration(stage.finished_ms.saturating_sub(stage.started_ms));
        page.row(Tone::Plain, &format!("{:<12} {took:>12}", stage.stage.title()));
    }
    page.row(Tone::Key, &format!("{:<12} {:>12}", "In all", duration(total_ms)));
    page.heading("Data");
    page.pair("Written", &format!("{} in {} files", report.written_bytes, report.file_count));
    page.pair("Fetched", &report.fetched_bytes.to_string());
    page.pair("Kept", &format!("{} found on the disks", report.reused_bytes));
    page.pair("Speed", &format!("{}/s, limit: {}", report.bytes_per_second, report.limit.title()));
    page.pair("Snapshot", &report.snapshot);
}
