//! A plan as screens show it.

use bundle::repository::VerifiedSnapshot;
use node_model::Bytes;
use restore_events::{ChangeView, ConsentDisk, DiskView, FindingView, PlanConsent, PlanView, Severity, UntouchedView};
use restore_plan::Plan;

/// The plan for screens. How old the snapshot is comes from its signed receipt, not from what a server says of it.
pub(super) fn plan_view(plan: &Plan, snapshot: &VerifiedSnapshot) -> PlanView {
    let received = snapshot.receipt().received_at.strftime("%Y-%m-%d %H:%M UTC");
    PlanView {
        digest: plan.digest(),
        node: plan.source.node.to_string(),
        snapshot: format!("{received}, {}", plan.source.snapshot),
        disks: plan.targets.iter().map(|target| disk_view(plan, target)).collect(),
        changes: plan
            .changes
            .iter()
            .map(|change| ChangeView { what: change.what.clone(), reason: change.reason.clone() })
            .collect(),
        findings: plan
            .findings
            .iter()
            .map(|finding| FindingView {
                severity: match finding.severity {
                    restore_plan::Severity::Note => Severity::Note,
                    restore_plan::Severity::Warning => Severity::Warning,
                    restore_plan::Severity::Blocker => Severity::Blocker,
                },
                what: finding.what.clone(),
                hint: finding.hint.clone(),
            })
            .collect(),
        untouched: plan
            .untouched
            .iter()
            .map(|disk| UntouchedView {
                disk: format!("{} ({})", disk.identity.describe(), disk.kernel_name),
                reason: disk.reason.clone(),
            })
            .collect(),
        data_bytes: Bytes(plan.volumes.iter().map(|volume| volume.stream_bytes.get()).sum()),
        file_count: plan.volumes.iter().map(|volume| volume.file_count).sum(),
    }
}

fn disk_view(plan: &Plan, target: &restore_plan::TargetDisk) -> DiskView {
    let partitions = plan.partitions.iter().filter(|partition| partition.disk == target.key);
    DiskView {
        old: target.old.describe(),
        new: target.identity.describe(),
        new_serial: target.serial(),
        kernel_name: target.kernel_name.clone(),
        size_bytes: target.identity.size_bytes,
        matched_by: target.matched_by.describe().to_owned(),
        erased: target
            .erased
            .iter()
            .map(|signature| match &signature.label {
                Some(label) => format!("{} `{label}` on {}", signature.kind, signature.device),
                None => format!("{} on {}", signature.kind, signature.device),
            })
            .collect(),
        holds: partitions
            .map(|partition| format!("{}: {}, {}", partition.number, partition.range.length_bytes, partition.holds))
            .collect(),
    }
}

/// What must be typed to consent to the plan.
pub(super) fn consent(plan: &Plan) -> PlanConsent {
    let untouched = plan.untouched.iter().filter_map(|disk| disk.identity.serial.clone());
    let serials: Vec<String> = plan.targets.iter().map(restore_plan::TargetDisk::serial).chain(untouched).collect();
    let disks = plan.targets.iter().enumerate().map(|(index, target)| {
        let others = serials.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, serial)| serial.as_str());
        let label = format!("{} ({})", target.identity.describe(), target.kernel_name);
        ConsentDisk::new(label, target.serial(), others)
    });
    PlanConsent { digest: plan.digest(), disks: disks.collect() }
}
