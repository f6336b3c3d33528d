//! Places: the table is the captured one, nothing overlaps, and no step writes where it must not.

use node_model::{Content, Gpt, PartitionTable};

use super::{Case, Faults};
use crate::{BootSector, ByteRange, Plan, Step, TargetDisk};

pub(super) fn judge(case: &Case<'_>, faults: &mut Faults) {
    for target in &case.plan.targets {
        judge_table(case, target, faults);
        let key = &target.key;
        let count = |is: fn(&Step) -> bool| case.plan.steps.iter().filter(|s| s.device() == Some(key) && is(s)).count();
        let written = count(|step| matches!(step, Step::WriteGpt { .. }));
        let wiped = count(|step| matches!(step, Step::WipeSignatures { .. }));
        let wanted = usize::from(!target.keeps_table);
        if (written, wiped) != (wanted, wanted) {
            faults.add("table-count", format!("{key} is wiped {wiped} times, and its table written {written} times"));
        }
    }
    for partition in &case.plan.partitions {
        let key = &partition.key;
        let Some(target) = case.plan.target(&partition.disk) else {
            faults.add("unknown-disk", format!("{key} is on {}, which is no target", partition.disk));
            continue;
        };
        let entry = target.table.partitions.iter().find(|entry| entry.number == partition.number);
        let block = target.sector_size_bytes.get();
        let blocks = partition.range.length_bytes.get() / block;
        let same_place = |entry: &node_model::GptPartition| {
            entry.first_lba == partition.first_lba
                && entry.last_lba == partition.last_lba
                && entry
                    .last_lba
                    .0
                    .checked_sub(entry.first_lba.0)
                    .is_some_and(|length| length == blocks.wrapping_sub(1))
                && partition.range == ByteRange::new(entry.first_lba.0.saturating_mul(block), blocks * block)
        };
        if !entry.is_some_and(same_place) {
            faults.add("place-differs", format!("the place of {key} is not what the table of {} says", target.key));
        }
    }
    for step in &case.plan.steps {
        judge_step(case.plan, step, faults);
    }
}

fn judge_table(case: &Case<'_>, target: &TargetDisk, faults: &mut Faults) {
    let key = &target.key;
    let captured = case.spec.layout.get(key).map(|device| &device.content);
    let Some(Content::Table { table: PartitionTable::Gpt(captured) }) = captured else {
        faults.add("table-changed", format!("{key} had no GPT"));
        return;
    };
    let same = Gpt { last_usable_lba: captured.last_usable_lba, ..target.table.clone() } == *captured;
    if !same {
        faults.add("table-changed", format!("the table of {key} is not the captured one"));
    }
    let block = target.sector_size_bytes.get();
    let blocks = target.identity.size_bytes.get() / block;
    let entry_bytes = u64::from(captured.entry_count) * u64::from(captured.entry_size);
    let copy = entry_bytes.div_ceil(block) + 1;
    if target.backup_header_lba.0 != blocks.saturating_sub(1) {
        faults.add("backup-misplaced", format!("the table's copy on {key} is not at the disk's end"));
    }
    if target.table.last_usable_lba.0.saturating_add(copy) >= blocks {
        faults.add("out-of-bounds", format!("the usable blocks of {key} reach into the table's copy"));
    }
    let mut entries: Vec<_> = target.table.partitions.iter().collect();
    entries.sort_by_key(|entry| entry.first_lba);
    for pair in entries.windows(2).filter(|pair| pair[1].first_lba <= pair[0].last_lba) {
        let (a, b) = (pair[0].number, pair[1].number);
        faults.add("overlap", format!("partitions {a} and {b} of {key} overlap"));
    }
    for entry in entries {
        let (first, last) = (entry.first_lba, entry.last_lba);
        if first > last || first < target.table.first_usable_lba || last > target.table.last_usable_lba {
            faults.add("out-of-bounds", format!("partition {} of {key} is out of bounds", entry.number));
        }
    }
    if target.table.first_usable_lba.0 < 1 + copy {
        faults.add("out-of-bounds", format!("the usable blocks of {key} begin within its table"));
    }
}

/// Every byte that a step names lies where the step may write.
fn judge_step(plan: &Plan, step: &Step, faults: &mut Faults) {
    let Some(device) = step.device() else {
        return;
    };
    let Some((target, place)) = plan.place(device) else {
        faults.add("unknown-device", format!("a step names {device}, which is not in the plan: {step}"));
        return;
    };
    let block = target.sector_size_bytes.get();
    let size = place.length_bytes.get();
    let aligned = |range: &ByteRange| {
        range.offset_bytes.get().is_multiple_of(block) && range.length_bytes.get().is_multiple_of(block)
    };
    let mut within = |range: &ByteRange, must_align: bool| {
        if range.length_bytes.get() == 0 || range.end() > size {
            faults.add("out-of-bounds", format!("{range} is not within {device}: {step}"));
        } else if must_align && !aligned(range) {
            faults.add("not-aligned", format!("{range} is not made of blocks of {block} bytes: {step}"));
        }
    };
    match step {
        Step::MakeUnbootable { zero, .. } => {
            zero.iter().for_each(|range| within(range, true));
            if zero.first() != Some(&ByteRange::new(0, block)) {
                faults.add("still-bootable", format!("the first block of {device} is not the first to go"));
            }
        }
        Step::WipeSignatures { ranges, .. } => ranges.iter().for_each(|range| within(range, false)),
        Step::AnnouncePartitions { partitions, .. } => {
            partitions.iter().for_each(|partition| within(&partition.range, true));
            for announced in partitions {
                let planned = plan.partition(&announced.device);
                if !planned
                    .is_some_and(|p| p.range == announced.range && p.number == announced.number && p.disk == *device)
                {
                    faults.add("place-differs", format!("{} is announced elsewhere than planned", announced.device));
                }
            }
        }
        Step::WriteGpt { table, backup_header_lba, .. }
            if *table != target.table || *backup_header_lba != target.backup_header_lba =>
        {
            faults.add("table-changed", format!("the table written to {device} is not the planned one"));
        }
        Step::WriteRaw { range, .. } | Step::VerifyRaw { range, .. } => {
            within(range, false);
            if plan.target(device).is_some() {
                judge_raw_on_disk(plan, target, range, faults);
            }
        }
        Step::MakeBootable { boot_sector: BootSector::Rebuilt { protective_sectors, .. }, .. } => {
            let blocks = target.identity.size_bytes.get() / block;
            if u64::from(*protective_sectors) != blocks.saturating_sub(1).min(u64::from(u32::MAX)) {
                faults.add("protective-mbr", format!("the protective MBR of {device} does not cover the disk"));
            }
        }
        Step::MakeBootable { boot_sector: BootSector::Verbatim { .. }, .. }
            if target.old.size_bytes != target.identity.size_bytes =>
        {
            faults.add("protective-mbr", format!("{device} has another size than the protective MBR it gets"));
        }
        _ => {}
    }
}

/// Raw bytes on a whole disk meet neither its first block nor its tables nor a partition.
fn judge_raw_on_disk(plan: &Plan, target: &TargetDisk, range: &ByteRange, faults: &mut Faults) {
    let block = target.sector_size_bytes.get();
    let size = target.identity.size_bytes.get();
    let entry_bytes = u64::from(target.table.entry_count) * u64::from(target.table.entry_size);
    let copy = (entry_bytes.div_ceil(block) + 1) * block;
    let front = ByteRange::new(0, block + copy);
    let back = ByteRange::new(size.saturating_sub(copy), copy);
    let partitions = plan.partitions.iter().filter(|partition| partition.disk == target.key).map(|p| p.range);
    if partitions.chain([front, back]).any(|other| other.overlaps(range)) {
        faults.add("overlap", format!("raw bytes {range} of {} overlap its table or a partition", target.key));
    }
}
