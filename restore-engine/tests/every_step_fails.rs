//! Plans on a machine in memory that fails at every step in turn.

#[path = "../../restore-plan/tests/common/mod.rs"]
mod common;
mod fake;

use common::*;
use fake::{FailAt, FakeMachine, FirstBlock};
use node_model::{DeviceKey, DiskId, Inventory};
use restore_engine::consent::{ConsentedPlan, NoConsent};
use restore_engine::execute::{Told, execute};
use restore_events::Stage;
use restore_plan::{Plan, Policy, Step, plan};

/// A node with what is needed to plan its restore again and again.
struct Case {
    node: Node,
    machine: Inventory,
    policy: Policy,
}

impl Case {
    fn bios() -> Self {
        let node = bios_node();
        let machine = machine(&node, vec![disk("sda", "NEW1", 10 * GIB)]);
        Self { node, machine, policy: policy() }
    }

    fn uefi() -> Self {
        let node = uefi_node();
        let machine = machine(&node, vec![disk("sda", "NEW1", 5 * GIB), disk("sdb", "NEW2", 9 * GIB)]);
        let mut policy = policy();
        let id = |serial: &str| DiskId::Serial(serial.to_owned());
        policy.mapping = [(DeviceKey::disk(0), id("NEW1")), (DeviceKey::disk(1), id("NEW2"))].into();
        let files = ["EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi", "EFI/debian/grub.cfg"];
        policy.esp_files.insert("boot-efi".parse().unwrap(), files.map(str::to_owned).to_vec());
        Self { node, machine, policy }
    }

    fn plan(&self) -> Plan {
        plan(&self.node.spec, &self.node.volumes, &self.machine, &self.policy).unwrap()
    }
}

fn consented(plan: Plan) -> ConsentedPlan {
    let digest = plan.digest();
    ConsentedPlan::new(plan, &digest).unwrap()
}

fn run(plan: &ConsentedPlan, machine: &mut FakeMachine) -> Result<Vec<Told>, usize> {
    let mut told = Vec::new();
    execute(plan, machine, &mut |what| told.push(what)).map(|()| told).map_err(|failed| failed.number)
}

#[test]
fn an_undisturbed_restore_ends_complete_and_bootable() {
    for case in [Case::bios(), Case::uefi()] {
        let plan = consented(case.plan());
        let mut machine = FakeMachine::default();
        let told = run(&plan, &mut machine).unwrap();
        assert!(machine.is_complete(plan.plan()));
        let stages: Vec<Stage> =
            told.iter().filter_map(|told| if let Told::Stage(stage) = told { Some(*stage) } else { None }).collect();
        assert_eq!(stages.first(), Some(&Stage::Layout));
        assert_eq!(stages.last(), Some(&Stage::BootChain));
    }
}

#[test]
fn fault_03_after_a_failure_at_any_step_nothing_boots_and_the_next_run_completes() {
    for case in [Case::bios(), Case::uefi()] {
        let first = case.plan();
        let bootable_from = first.steps.iter().position(|step| matches!(step, Step::MakeBootable { .. })).unwrap();
        for number in 0..first.steps.len() {
            for fail_at in [FailAt::Before(number), FailAt::After(number)] {
                let mut machine = FakeMachine::failing(fail_at);
                let plan = consented(case.plan());
                assert_eq!(run(&plan, &mut machine), Err(number), "{fail_at:?}");
                let may_boot = fail_at == FailAt::After(number) && number >= bootable_from || number > bootable_from;
                assert!(may_boot || !machine.boots(), "{fail_at:?}: something boots half restored");

                let mut machine = machine.restart();
                let mut policy = case.policy.clone();
                policy.resume = machine.resume(&first);
                let again = restore_plan::plan(&case.node.spec, &case.node.volumes, &case.machine, &policy).unwrap();
                assert_eq!(again.digest(), first.digest(), "{fail_at:?}: consent would be asked for again");
                let again = consented(again);
                run(&again, &mut machine).unwrap_or_else(|step| panic!("{fail_at:?}: the next run fails at {step}"));
                assert!(machine.is_complete(again.plan()), "{fail_at:?}");
            }
        }
    }
}

#[test]
fn fault_15_a_disk_that_cannot_be_taken_hold_of_is_found_before_any_is_written() {
    let plan = consented(Case::uefi().plan());
    let mut machine = FakeMachine::failing(FailAt::Claim);
    let failed = execute(&plan, &mut machine, &mut |_| {}).unwrap_err();
    assert!(!failed.disks_written && machine.disks.is_empty());

    let mut machine = FakeMachine::failing(FailAt::Before(0));
    let failed = execute(&plan, &mut machine, &mut |_| {}).unwrap_err();
    assert!(failed.disks_written, "who knows how far the first write came");
}

#[test]
fn the_first_step_on_each_disk_makes_it_unbootable() {
    for case in [Case::bios(), Case::uefi()] {
        let plan = case.plan();
        for target in &plan.targets {
            let first = plan.steps.iter().find(|step| step.device() == Some(&target.key)).unwrap();
            assert!(matches!(first, Step::MakeUnbootable { .. }));
            let mut machine = FakeMachine::failing(FailAt::After(0));
            run(&consented(case.plan()), &mut machine).unwrap_err();
            assert_eq!(machine.disks.values().next().unwrap().first_block, FirstBlock::Zero);
        }
    }
}

#[test]
fn fault_42_a_plan_is_carried_out_under_its_own_digest_only() {
    let plan = Case::bios().plan();
    for wrong in ["", "yes", &"0".repeat(64), &plan.digest()[1..]] {
        assert!(matches!(ConsentedPlan::new(plan.clone(), wrong), Err(NoConsent::AnotherPlan { .. })), "{wrong}");
    }
    assert!(ConsentedPlan::new(plan.clone(), &plan.digest()).is_ok());
}
