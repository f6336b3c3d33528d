//! Row 39, at random: a snapshot is JSON from outside. Whatever its numbers and words say, planning ends with a plan
//! that passes the checker, or with a reason; it never panics and never plans a write out of bounds.

mod common;

use common::*;
use node_model::*;
use proptest::prelude::*;
use restore_plan::{check, plan};
use serde_json::{Value, json};

/// Paths of all values that are neither objects nor lists.
fn leaves(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut descend = |key: String, value: &Value| {
        path.push(key);
        leaves(value, path, found);
        path.pop();
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| descend(key.clone(), value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| descend(at.to_string(), value)),
        _ => found.push(path.clone()),
    }
}

fn set(value: &mut Value, path: &[String], new: &Value) {
    let pointer: String = path.iter().map(|part| format!("/{part}")).collect();
    if let Some(place) = value.pointer_mut(&pointer) {
        *place = new.clone();
    }
}

fn evil() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            json!(0),
            json!(1),
            json!(2),
            json!(7),
            json!(127),
            json!(129),
            json!(511),
            json!(513),
            json!(4096),
            json!(65536),
            json!(u32::MAX),
            json!(u64::from(u32::MAX) + 1),
            json!(u64::MAX / 4096),
            json!(u64::MAX / 512),
            json!(i64::MAX),
            json!(u64::MAX - 1),
            json!(u64::MAX),
            json!("disk0"),
            json!("disk0-p1"),
            json!("--force"),
            json!("/../x"),
            json!("/"),
            json!(""),
            json!("{device}"),
            json!("\u{0}"),
            json!("ext4"),
            json!(null),
            json!(true),
        ]),
        any::<u64>().prop_map(Value::from),
        (0u64..10_000_000).prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn fault_39_no_number_or_word_of_a_snapshot_breaks_planning(
        uefi in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), evil()), 1..4),
    ) {
        let good = if uefi { uefi_node() } else { bios_node() };
        let mut machine = machine(&good, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
        machine.disks[0].signatures = vec![signature("sda1", "vfat", u64::MAX), signature("sda", "gpt", 0)];
        let mut node = json!({ "spec": good.spec, "volumes": good.volumes });
        let mut paths = Vec::new();
        leaves(&node, &mut Vec::new(), &mut paths);
        for (index, value) in &changes {
            set(&mut node, &paths[index.index(paths.len())], value);
        }
        let spec: Result<NodeSpec, _> = serde_json::from_value(node["spec"].clone());
        let volumes: Result<Vec<Volume>, _> = serde_json::from_value(node["volumes"].clone());
        let (Ok(spec), Ok(volumes)) = (spec, volumes) else { return Ok(()) };
        match plan(&spec, &volumes, &machine, &policy()) {
            Ok(plan) => {
                let faults = check(&plan, &spec, &volumes, &machine);
                prop_assert!(faults.is_empty(), "{faults:#?}\n{}", plan.render());
                prop_assert_eq!(plan.digest().len(), 64);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty() && !error.hint().is_empty()),
        }
    }
}
