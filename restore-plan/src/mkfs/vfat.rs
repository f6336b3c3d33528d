//! mkfs.fat.

use node_model::{FatBits, Filesystem, VfatDetails};

use super::{CannotMake, Place, call, checked_label};
use crate::step::ToolCall;

/// The tool that makes a FAT filesystem.
pub(super) fn commands(fs: &Filesystem, fat: &VfatDetails, place: Place) -> Result<Vec<ToolCall>, CannotMake> {
    check(fs, fat)?;
    let bits = match fat.bits {
        FatBits::Fat12 => "12",
        FatBits::Fat16 => "16",
        FatBits::Fat32 => "32",
    };
    let mut args: Vec<String> = Vec::new();
    let mut arg = |option: &str, value: String| args.extend([option.to_owned(), value]);
    arg("-F", bits.to_owned());
    arg("-i", format!("{:08x}", fat.volume_id));
    arg("-S", fat.sector_size_bytes.to_string());
    arg("-s", fat.sectors_per_cluster.to_string());
    arg("-R", fat.reserved_sectors.to_string());
    arg("-f", fat.fat_count.to_string());
    if fat.bits != FatBits::Fat32 {
        arg("-r", fat.root_entries.to_string());
    }
    arg("-M", format!("{:#04x}", fat.media));
    // The field has 32 bits, and only loaders of another age read it.
    arg("-h", u32::try_from(place.first_lba).unwrap_or(0).to_string());
    if let Some(label) = &fs.label {
        arg("-n", checked_label(label, 11)?.to_owned());
    }
    let size = size_args(fat, place)?;
    let mut make = call("mkfs.fat", size.before.into_iter().chain(args));
    make.args.extend(size.after);
    Ok(vec![make])
}

/// How mkfs.fat is told the number of sectors.
struct SizeArgs {
    before: Vec<String>,
    after: Option<String>,
}

/// The size is given in KiB. What is no whole number of them is left to the partition's size; and a size given in
/// KiB that falls one sector short of the partition is taken to mean all of it, so there the rounding to whole
/// tracks (which `-a` turns off) has to take that sector away.
fn size_args(fat: &VfatDetails, place: Place) -> Result<SizeArgs, CannotMake> {
    let unaligned = || vec!["-a".to_owned()];
    let sectors = fat.sector_count;
    let has = place.size.get() / fat.sector_size_bytes;
    let bytes = sectors * fat.sector_size_bytes;
    if has == sectors {
        return Ok(SizeArgs { before: unaligned(), after: None });
    }
    if bytes.is_multiple_of(1024) && bytes / 1024 != place.size.get() / 1024 {
        return Ok(SizeArgs { before: unaligned(), after: Some((bytes / 1024).to_string()) });
    }
    match [(64, 32), (255, 63), (2, 2)].into_iter().find(|(_, track)| has / track * track == sectors) {
        Some((heads, track)) => Ok(SizeArgs { before: vec!["-g".to_owned(), format!("{heads}/{track}")], after: None }),
        None => {
            Err(CannotMake(format!("it has {sectors} sectors, its partition {has}, and mkfs.fat makes no such size")))
        }
    }
}

fn check(fs: &Filesystem, fat: &VfatDetails) -> Result<(), CannotMake> {
    if !matches!(fat.sector_size_bytes, 512 | 1024 | 2048 | 4096) {
        return Err(CannotMake(format!("its sectors have {} bytes", fat.sector_size_bytes)));
    }
    if !fat.sectors_per_cluster.is_power_of_two() || fat.sectors_per_cluster > 128 {
        return Err(CannotMake(format!("its clusters have {} sectors", fat.sectors_per_cluster)));
    }
    if fat.sector_count == 0 || fat.sector_count > u64::from(u32::MAX) {
        return Err(CannotMake(format!("it has {} sectors", fat.sector_count)));
    }
    if !(1..=4).contains(&fat.fat_count) || !(1..=0xffff).contains(&fat.reserved_sectors) {
        return Err(CannotMake(format!("it has {} tables behind {} sectors", fat.fat_count, fat.reserved_sectors)));
    }
    if fat.bits != FatBits::Fat32 && !(1..=0xffff).contains(&fat.root_entries) {
        return Err(CannotMake(format!("its root directory has {} entries", fat.root_entries)));
    }
    if fat.media < 0xf0 {
        return Err(CannotMake(format!("its media descriptor is {:#04x}", fat.media)));
    }
    let id = format!("{:04X}-{:04X}", fat.volume_id >> 16, fat.volume_id & 0xffff);
    if !fs.uuid.eq_ignore_ascii_case(&id) {
        return Err(CannotMake(format!("its UUID is not its volume id {id}")));
    }
    Ok(())
}
