//! Carries a partition table over to another disk: partitions keep their places, the backup moves to the end.

use node_model::{Bytes, Gpt, InventoryDisk, Lba};

use crate::PlanError;
use crate::intake::{CapturedDisk, entry_blocks};
use crate::matching::describe;

/// A table made for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FittedTable {
    pub(crate) table: Gpt,
    pub(crate) backup_header_lba: Lba,
}

/// The captured table as it will stand on `disk`.
pub(crate) fn fit(captured: &CapturedDisk<'_>, disk: &InventoryDisk) -> Result<FittedTable, PlanError> {
    let block = captured.sector.get();
    if disk.sector_size_bytes != captured.sector {
        let found = disk.sector_size_bytes.get();
        return Err(PlanError::SectorSize { disk: describe(disk), key: captured.key.clone(), needed: block, found });
    }
    let has = disk.identity.size_bytes;
    let mut table = captured.table.clone();
    let blocks = has.get() / block;
    if has != captured.identity.size_bytes {
        let backup = entry_blocks(&table, captured.sector) + 1;
        let end = table.partitions.iter().map(|entry| entry.last_lba.0 + 1).max().unwrap_or(0);
        let end = end.max(table.first_usable_lba.0 + 1);
        if end + backup > blocks {
            let (disk, key) = (describe(disk), captured.key.clone());
            let (end, backup) = (Bytes(end * block), Bytes(backup * block));
            // A last, incomplete block is of no use.
            return Err(PlanError::TooSmall { disk, key, end, backup, has: Bytes(blocks * block) });
        }
        table.last_usable_lba = Lba(blocks - backup - 1);
    }
    Ok(FittedTable { table, backup_header_lba: Lba(blocks - 1) })
}
