//! Where the restored node keeps the log of its restore.

mod common;

use common::*;
use node_model::*;
use restore_plan::{KeptLog, Plan, Step, check, plan};

fn planned(node: &Node) -> Plan {
    let machine = machine(node, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
    let plan = plan(&node.spec, &node.volumes, &machine, &policy()).unwrap();
    assert_eq!(check(&plan, &node.spec, &node.volumes, &machine), []);
    plan
}

fn kept(plan: &Plan) -> Option<(String, &str)> {
    plan.steps.iter().find_map(|step| match step {
        Step::KeepLog { device, path, .. } => Some((device.to_string(), path.as_str())),
        _ => None,
    })
}

/// What each filesystem may hold that was not captured.
fn added(plan: &Plan) -> Vec<(String, Vec<String>)> {
    let read_back = plan.steps.iter().filter_map(|step| match step {
        Step::VerifyFiles { device, added, .. } if !added.is_empty() => Some((device.to_string(), added.clone())),
        _ => None,
    });
    read_back.collect()
}

fn mounted_at(node: &mut Node, target: &str, path: &str) {
    let mount = node.spec.mounts.iter_mut().find(|mount| mount.target == target).unwrap();
    path.clone_into(&mut mount.target);
}

#[test]
fn it_lies_on_the_filesystem_that_holds_var_log() {
    let node = uefi_node();
    let plan = planned(&node);
    let (device, path) = kept(&plan).unwrap();
    assert_eq!(device, "disk0-p2");
    let id: String = plan.source.snapshot.as_str().chars().take(12).collect();
    assert_eq!(path, format!("var/log/rerack/restore-{id}.log"));
    let may_be_new = ["var", "var/log", "var/log/rerack", path].map(str::to_owned).to_vec();
    assert_eq!(added(&plan), [(device, may_be_new)], "this and nothing else may be new, and only there");
    assert!(plan.changes.iter().any(|change| change.what.contains(path)), "the operator is told");

    let mut node = uefi_node();
    mounted_at(&mut node, "/srv/data", "/var/log");
    let plan = planned(&node);
    assert_eq!(kept(&plan), Some(("disk1-p1".to_owned(), &*format!("rerack/restore-{id}.log"))));
}

#[test]
fn it_is_the_last_that_is_written_before_everything_is_read_back() {
    let plan = planned(&uefi_node());
    let at = |is: fn(&Step) -> bool| plan.steps.iter().position(is).unwrap();
    let keep = at(|step| matches!(step, Step::KeepLog { .. }));
    let last_write = plan.steps.iter().rposition(|step| {
        matches!(step, Step::RestoreFiles { .. } | Step::WriteRaw { .. } | Step::EnsureFallbackLoader { .. })
    });
    assert!(last_write.unwrap() < keep);
    assert!(keep < at(|step| matches!(step, Step::VerifyFiles { .. })));
}

#[test]
fn a_node_that_keeps_no_logs_gets_none_and_the_operator_is_told() {
    let mut node = uefi_node();
    let tmpfs = ("tmpfs", "/var/log");
    node.spec.mounts.push(Mount {
        device: None,
        source: tmpfs.0.into(),
        target: tmpfs.1.into(),
        fstype: tmpfs.0.into(),
        options: "rw".into(),
    });
    let plan = planned(&node);
    assert_eq!((kept(&plan), added(&plan)), (None, vec![]));
    assert!(plan.findings.iter().any(|finding| finding.code == "log-not-kept"));
}

#[test]
fn everybody_who_has_the_snapshot_knows_its_place() {
    let node = uefi_node();
    let plan = planned(&node);
    let known = KeptLog::of(&node.spec, &node.volumes, &plan.source.snapshot).unwrap();
    let step = Step::KeepLog { device: known.device, node_path: known.node_path, path: known.path };
    assert!(plan.steps.contains(&step));
}
