//! The plan: what is erased, what will stand there, what differs.

use restore_events::{PlanView, Severity};

use super::super::look::Tone;
use super::super::page::Page;
use crate::model::Model;

pub(super) fn plan(model: &Model, page: &mut Page) {
    let Some(plan) = &model.plan else { return };
    page.pair("Node", &plan.node);
    page.pair("Snapshot", &plan.snapshot);
    page.pair("Data", &format!("{} in {} files", plan.data_bytes, plan.file_count));
    disks(plan, page);
    findings(plan, page);
    if !plan.changes.is_empty() {
        page.heading("What will differ from the captured node");
        for change in &plan.changes {
            page.hanging(Tone::Plain, "- ", &change.what);
            page.hanging(Tone::Plain, "  ", &format!("because {}", change.reason));
        }
    }
    if !plan.untouched.is_empty() {
        page.heading("Disks that are left alone");
        for disk in &plan.untouched {
            page.hanging(Tone::Plain, "- ", &format!("{}: {}", disk.disk, disk.reason));
        }
    }
    page.heading("Digest");
    page.text(Tone::Plain, &plan.digest);
}

fn disks(plan: &PlanView, page: &mut Page) {
    for disk in &plan.disks {
        page.heading(&format!("{} -> {}", disk.old, disk.new));
        page.pair("New disk", &format!("{}, {}, now {}", disk.new_serial, disk.size_bytes, disk.kernel_name));
        page.pair("Matched by", &disk.matched_by);
        if disk.erased.is_empty() {
            page.pair("Erased", "nothing: the disk is blank");
        }
        for (at, erased) in disk.erased.iter().enumerate() {
            let label = if at == 0 { "ERASED" } else { "" };
            page.hanging(Tone::Bad, &format!("{label:<16} "), erased);
        }
        for (at, holds) in disk.holds.iter().enumerate() {
            page.pair(if at == 0 { "Will hold" } else { "" }, holds);
        }
    }
}

fn findings(plan: &PlanView, page: &mut Page) {
    if plan.findings.is_empty() {
        return;
    }
    page.heading("Findings");
    let mut findings: Vec<_> = plan.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in findings {
        let (mark, tone) = match finding.severity {
            Severity::Note => ("  note     ", Tone::Plain),
            Severity::Warning => ("* warning  ", Tone::Warning),
            Severity::Blocker => ("! blocker  ", Tone::Bad),
        };
        page.hanging(tone, mark, &finding.what);
        if let Some(hint) = &finding.hint {
            page.hanging(Tone::Plain, "  hint     ", hint);
        }
    }
}
