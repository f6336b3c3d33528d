//! FAT12, FAT16, FAT32.

use node_model::{Bytes, FatBits, Filesystem, FilesystemDetails, VfatDetails};

use super::{Fields, SuperblockError, read_bytes};
use crate::blockdev::ReadAt;

/// Entries of the root directory that are searched for a label: it is among the first.
const ROOT_ENTRIES_SEARCHED_MAX: u64 = 512;
/// Bytes of a FAT that are read to count free clusters: all of a FAT16, and of a FAT32 the usual system partition's.
const FAT_BYTES_COUNTED_MAX: u64 = 4 << 20;

/// The boot sector's geometry.
struct Geometry {
    sector: u64,
    cluster_sectors: u64,
    reserved: u64,
    fat_count: u64,
    fat_sectors: u64,
    root_entries: u64,
    sectors: u64,
    clusters: u64,
    bits: FatBits,
}

pub(super) fn read<R: ReadAt + ?Sized>(device: &R) -> Result<Filesystem, SuperblockError> {
    let bytes: [u8; 512] = read_bytes(device, 0)?;
    let boot = Fields(&bytes);
    if bytes[510..] != [0x55, 0xAA] || !matches!(bytes[0], 0xEB | 0xE9) {
        return Err(SuperblockError::Absent { kind: "FAT" });
    }
    let geometry = Geometry::parse(&boot)?;
    let extended = if geometry.bits == FatBits::Fat32 { 66 } else { 38 };
    // 0x28 promises a volume id alone, 0x29 a label and a type as well.
    let signature = boot.u8(extended);
    if !matches!(signature, 0x28 | 0x29) {
        return Err(SuperblockError::Unsupported { what: "a FAT filesystem without a volume id" });
    }
    let volume_id = boot.le32(extended + 1);
    let boot_label = (signature == 0x29).then(|| padded_text(&boot.bytes::<11>(extended + 5))).flatten();
    let label = root_label(device, &boot, &geometry)?.or(boot_label.filter(|label| label != "NO NAME"));
    let used_clusters = used_clusters(device, &boot, &geometry)?;
    let details = VfatDetails {
        bits: geometry.bits,
        volume_id,
        sector_size_bytes: geometry.sector,
        sectors_per_cluster: geometry.cluster_sectors,
        reserved_sectors: geometry.reserved,
        fat_count: geometry.fat_count,
        root_entries: geometry.root_entries,
        sector_count: geometry.sectors,
        media: boot.u8(21),
    };
    Ok(Filesystem {
        uuid: format!("{:04X}-{:04X}", volume_id >> 16, volume_id & 0xffff),
        label,
        size_bytes: Bytes(geometry.sectors * geometry.sector),
        used_bytes: Bytes(used_clusters * geometry.cluster_sectors * geometry.sector),
        details: FilesystemDetails::Vfat(details),
    })
}

impl Geometry {
    fn parse(boot: &Fields<'_>) -> Result<Self, SuperblockError> {
        let damaged = |field, value: u64| SuperblockError::Damaged { kind: "FAT", field, value };
        let sector = u64::from(boot.le16(11));
        if !matches!(sector, 512 | 1024 | 2048 | 4096) {
            return Err(damaged("bytes per sector", sector));
        }
        let cluster_sectors = u64::from(boot.u8(13));
        if !cluster_sectors.is_power_of_two() {
            return Err(damaged("sectors per cluster", cluster_sectors));
        }
        let either = |short: usize, long: usize| match boot.le16(short) {
            0 => u64::from(boot.le32(long)),
            count => u64::from(count),
        };
        let (reserved, fat_count) = (u64::from(boot.le16(14)), u64::from(boot.u8(16)));
        let (fat_sectors, sectors) = (either(22, 36), either(19, 32));
        let root_entries = u64::from(boot.le16(17));
        if reserved == 0 || fat_count == 0 || fat_sectors == 0 {
            return Err(damaged("sectors before the data", 0));
        }
        let before_data = reserved + fat_count * fat_sectors + (root_entries * 32).div_ceil(sector);
        let clusters = sectors.checked_sub(before_data).ok_or(damaged("sectors", sectors))? / cluster_sectors;
        let bits = match clusters {
            _ if boot.le16(22) == 0 => FatBits::Fat32,
            0..4085 => FatBits::Fat12,
            _ => FatBits::Fat16,
        };
        Ok(Self { sector, cluster_sectors, reserved, fat_count, fat_sectors, root_entries, sectors, clusters, bits })
    }

    fn root_directory(&self, boot: &Fields<'_>) -> (u64, u64) {
        let after_fats = self.reserved + self.fat_count * self.fat_sectors;
        match self.bits {
            FatBits::Fat32 => {
                let cluster = u64::from(boot.le32(44)).saturating_sub(2);
                let entries = self.cluster_sectors * self.sector / 32;
                ((after_fats + cluster * self.cluster_sectors) * self.sector, entries)
            }
            _ => (after_fats * self.sector, self.root_entries),
        }
    }
}

/// The label entry of the root directory, which counts before the boot sector's.
fn root_label<R: ReadAt + ?Sized>(
    device: &R,
    boot: &Fields<'_>,
    geometry: &Geometry,
) -> Result<Option<String>, SuperblockError> {
    const VOLUME_LABEL: u8 = 0x08;
    const DELETED: u8 = 0xE5;
    let (start, entries) = geometry.root_directory(boot);
    for index in 0..entries.min(ROOT_ENTRIES_SEARCHED_MAX) {
        let entry: [u8; 32] = read_bytes(device, start + 32 * index)?;
        match (entry[0], entry[11]) {
            (0, _) => break,
            (DELETED, _) => {}
            // Parts of long names have this bit among others.
            (_, attributes) if attributes & 0x3f == VOLUME_LABEL => return Ok(padded_text(&entry[..11])),
            _ => {}
        }
    }
    Ok(None)
}

/// Clusters in use; all of them where they are too many to count and nobody wrote the number down.
fn used_clusters<R: ReadAt + ?Sized>(
    device: &R,
    boot: &Fields<'_>,
    geometry: &Geometry,
) -> Result<u64, SuperblockError> {
    let bits = match geometry.bits {
        FatBits::Fat12 => 12,
        FatBits::Fat16 => 16,
        FatBits::Fat32 => 32,
    };
    let fat_bytes = ((geometry.clusters + 2) * bits).div_ceil(8).min(geometry.fat_sectors * geometry.sector);
    if fat_bytes > FAT_BYTES_COUNTED_MAX {
        let info: [u8; 512] = read_bytes(device, u64::from(boot.le16(48)) * geometry.sector)?;
        let free = u64::from(Fields(&info).le32(488));
        let known = info.starts_with(b"RRaA") && free <= geometry.clusters;
        return Ok(if known { geometry.clusters - free } else { geometry.clusters });
    }
    let mut fat = vec![0; fat_bytes as usize];
    let start = geometry.reserved * geometry.sector;
    device.read_exact_at(&mut fat, start).map_err(|source| SuperblockError::Read { source })?;
    let in_use = |cluster: u64| {
        let at = (cluster * bits / 8) as usize;
        let low = |index: usize| u32::from(fat.get(at + index).copied().unwrap_or(0));
        let value = match geometry.bits {
            FatBits::Fat12 if cluster.is_multiple_of(2) => low(0) | (low(1) & 0xf) << 8,
            FatBits::Fat12 => low(0) >> 4 | low(1) << 4,
            FatBits::Fat16 => low(0) | low(1) << 8,
            FatBits::Fat32 => low(0) | low(1) << 8 | low(2) << 16 | (low(3) & 0xf) << 24,
        };
        value != 0
    };
    Ok((2..geometry.clusters + 2).filter(|&cluster| in_use(cluster)).count() as u64)
}

/// Text padded with blanks; `None` if there is nothing else.
fn padded_text(field: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(field);
    let text = text.trim_end_matches([' ', '\0']);
    (!text.is_empty()).then(|| text.to_owned())
}
