//! Partition tables against other programs' understanding of them, and against the defects of the crates gpt and
//! mbrman.

use std::cell::RefCell;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ::gpt::disk::LogicalBlockSize;
use linux_io::blockdev::{Disk, ReadAt};
use linux_io::gpt::{self, GptCopies, GptError, HybridMbr, Unfit};
use linux_io::runner::Tool;
use node_model::{Bytes, Gpt, GptPartition, Guid, HexBytes, Lba, SectorSize};
use proptest::prelude::*;

const DISK_BYTES: u64 = 16 << 20;

fn partition(number: u32, first: u64, last: u64, name: &[u8]) -> GptPartition {
    let mut guid = [number as u8; 16];
    guid[7] = 0x40;
    GptPartition {
        number,
        type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".parse().unwrap(),
        guid: Guid(guid),
        first_lba: Lba(first),
        last_lba: Lba(last),
        attributes: 1 << 60 | u64::from(number),
        name_utf16le: HexBytes(name.to_vec()),
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// What Ubuntu's cloud images have: numbers 1, 14 and 15, the first one last on the disk.
fn cloud_image_table(sector: SectorSize, entry_size: u32) -> Gpt {
    let blocks = DISK_BYTES / sector.get();
    let table_blocks = (128 * u64::from(entry_size)).div_ceil(sector.get());
    let first = (2 + table_blocks).max((1 << 20) / sector.get());
    Gpt {
        disk_guid: "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap(),
        first_usable_lba: Lba(2 + table_blocks),
        last_usable_lba: Lba(blocks - 2 - table_blocks),
        entry_count: 128,
        entry_size,
        partitions: vec![
            partition(1, first + 300, blocks - 200, &utf16("root ü")),
            partition(14, first, first + 99, &[]),
            // A lone surrogate: no text, but a name all the same.
            partition(15, first + 100, first + 299, &[0x00, 0xD8, 0x41, 0x00]),
        ],
    }
}

/// A zeroed image with `gpt` on it, written through the same pieces as a disk, and a protective MBR.
fn image_with(gpt: &Gpt, sector: SectorSize, directory: &Path) -> std::path::PathBuf {
    let path = directory.join("disk.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(DISK_BYTES).unwrap();
    drop(file);
    let disk = Disk::open_with(&path, sector, &linux_io::Roots::live()).unwrap();
    let planned = disk.identity().clone();
    let claimed = disk.into_idle().unwrap().claim(&planned).unwrap();
    gpt::write(&claimed, gpt).unwrap();
    let mbr = gpt::protective_mbr(&[], DISK_BYTES / sector.get(), sector);
    claimed.write_at(&mbr, 0).unwrap();
    path
}

fn read(path: &Path, sector: SectorSize) -> Result<Option<gpt::GptFound>, GptError> {
    gpt::read(&fs::File::open(path).unwrap(), Bytes(DISK_BYTES), sector)
}

#[test]
fn defect_of_gpt_slots_1_14_and_15_come_back_as_1_14_and_15() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let directory = tempfile::tempdir().unwrap();
        let table = cloud_image_table(sector, 128);
        let path = image_with(&table, sector, directory.path());
        let found = read(&path, sector).unwrap().unwrap();
        assert_eq!(found.table, table);
        assert_eq!((found.copies, found.block_zero), (GptCopies::Both, HybridMbr::Protective));
    }
}

#[test]
fn defect_of_gpt_the_sector_size_is_always_told() {
    for (sector, theirs) in [(SectorSize::B512, LogicalBlockSize::Lb512), (SectorSize::B4096, LogicalBlockSize::Lb4096)]
    {
        let directory = tempfile::tempdir().unwrap();
        let table = cloud_image_table(sector, 128);
        let path = image_with(&table, sector, directory.path());
        // Ours has no default: a wrong sector size finds nothing, or a table that cannot be where it is.
        let other = if sector == SectorSize::B512 { SectorSize::B4096 } else { SectorSize::B512 };
        assert!(!matches!(read(&path, other), Ok(Some(_))), "{sector:?}");

        let theirs = ::gpt::GptConfig::new().writable(false).logical_block_size(theirs).open(&path).unwrap();
        assert_eq!(theirs.partitions().keys().copied().collect::<Vec<_>>(), [1, 14, 15]);
        assert_eq!(theirs.guid().to_string(), table.disk_guid.to_string());
        for ours in &table.partitions {
            let their = &theirs.partitions()[&ours.number];
            assert_eq!(
                (their.first_lba, their.last_lba, their.flags),
                (ours.first_lba.0, ours.last_lba.0, ours.attributes)
            );
            assert_eq!(their.part_guid.to_string(), ours.guid.to_string());
        }
    }
}

#[test]
fn the_mbrman_crate_reads_the_protective_mbr_we_write() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        for (blocks, covered) in [(100, 99), (1 << 32, u32::MAX), (1 << 33, u32::MAX)] {
            let block = gpt::protective_mbr(&[0xEB; 440], blocks, sector);
            assert_eq!(block.len() as u64, sector.get());
            let mbr = mbrman::MBRHeader::read_from(&mut Cursor::new(&block)).unwrap();
            assert_eq!((&mbr.bootstrap_code[..], mbr.disk_signature), (&[0xEB; 440][..], [0; 4]));
            let used: Vec<_> = mbr.iter().filter(|(_, entry)| entry.is_used()).collect();
            let &[(1, entry)] = &used[..] else { panic!("{used:?}") };
            assert_eq!((entry.sys, entry.is_active(), entry.starting_lba, entry.sectors), (0xEE, false, 1, covered));
        }
    }
}

/// An MBR with these entries: type, first block and boot flag of each.
fn mbr_of(entries: &[(u8, u32, u8)]) -> [u8; 512] {
    let mut block = [0; 512];
    for (slot, &(kind, first, flag)) in entries.iter().enumerate() {
        let entry = &mut block[446 + 16 * slot..][..16];
        (entry[0], entry[4]) = (flag, kind);
        entry[8..12].copy_from_slice(&first.to_le_bytes());
        entry[12..16].copy_from_slice(&1000_u32.to_le_bytes());
    }
    block[510..].copy_from_slice(&[0x55, 0xAA]);
    block
}

#[test]
fn what_stands_beside_the_protective_entry_makes_a_hybrid() {
    let directory = tempfile::tempdir().unwrap();
    let path = image_with(&cloud_image_table(SectorSize::B512, 128), SectorSize::B512, directory.path());
    for (entries, expected) in [
        (&[(0xEE, 1, 0)][..], HybridMbr::Protective),
        (&[(0, 0, 0), (0xEE, 1, 0x80)], HybridMbr::Protective),
        (&[(0xEE, 1, 0), (0x83, 2048, 0)], HybridMbr::Hybrid),
        (&[(0x83, 2048, 0x80)], HybridMbr::Hybrid),
        (&[(0xEE, 1, 0x7F)], HybridMbr::Hybrid),
        (&[], HybridMbr::Absent),
    ] {
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&mbr_of(entries), 0).unwrap();
        assert_eq!(read(&path, SectorSize::B512).unwrap().unwrap().block_zero, expected, "{entries:?}");
    }
}

/// A disk of 4 TiB that is nowhere: two pieces of it and nothing else, and where it was read.
struct Watched {
    pieces: Vec<(u64, Vec<u8>)>,
    reads: RefCell<Vec<u64>>,
}

impl ReadAt for Watched {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.reads.borrow_mut().push(offset);
        buffer.fill(0);
        for (start, piece) in &self.pieces {
            for (place, byte) in (*start..).zip(piece) {
                if let Some(at) = place.checked_sub(offset).filter(|at| *at < buffer.len() as u64) {
                    buffer[at as usize] = *byte;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn defect_of_mbrman_a_chain_that_wraps_at_32_bits_is_never_followed() {
    let sector = SectorSize::B512;
    let size = Bytes::gib(4096);
    let table_blocks = 32;
    let blocks = size.get() / 512;
    let table = Gpt {
        first_usable_lba: Lba(34),
        last_usable_lba: Lba(blocks - 2 - table_blocks),
        partitions: vec![partition(1, 2048, 4095, &[])],
        ..cloud_image_table(sector, 128)
    };
    let image = gpt::encode(&table, blocks, sector).unwrap();
    let mut pieces: Vec<(u64, Vec<u8>)> = image.backup.into_iter().chain(image.primary).collect();
    let own_places: Vec<u64> = pieces.iter().map(|(offset, _)| *offset).chain([0]).collect();
    // An extended partition at the end of 32 bits whose first record names a second one beyond it: whoever follows
    // the chain with 32 bits fails, or lands at the disk's beginning.
    let extended = u32::MAX - 15;
    pieces.push((0, mbr_of(&[(0xEE, 1, 0), (0x05, extended, 0)]).to_vec()));
    pieces.push((u64::from(extended) * 512, mbr_of(&[(0x83, 1, 0), (0x05, 64, 0)]).to_vec()));
    let disk = Watched { pieces, reads: RefCell::default() };

    let found = gpt::read(&disk, size, sector).unwrap().unwrap();
    assert_eq!((found.table, found.block_zero), (table, HybridMbr::Hybrid));
    let reads = disk.reads.into_inner();
    assert!(reads.iter().all(|offset| own_places.contains(offset)), "{reads:?}");
}

#[test]
fn sfdisk_and_sgdisk_accept_what_we_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = image_with(&cloud_image_table(SectorSize::B512, 128), SectorSize::B512, directory.path());
    let dump = Tool::new("sfdisk").arg("--dump").arg(&path).run().unwrap().text();
    for line in ["label-id: 01234567-89AB-CDEF-0123-456789ABCDEF", "img1 :", "img14 :", "img15 :", "name=\"root"] {
        assert!(dump.contains(line), "{line} in {dump}");
    }
    let verdict = Tool::new("sgdisk").arg("--verify").arg(&path).run().unwrap().text();
    assert!(verdict.contains("No problems found"), "{verdict}");
}

#[test]
fn what_sgdisk_writes_is_read_and_written_again_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("theirs.img");
    fs::File::create(&path).unwrap().set_len(DISK_BYTES).unwrap();
    let arguments = [
        "--new=3:2048:+1M",
        "--typecode=3:ef00",
        "--change-name=3:EFI System",
        "--new=7:8192:0",
        "--attributes=7:set:2",
    ];
    Tool::new("sgdisk").args(arguments).arg(&path).run().unwrap();
    let found = read(&path, SectorSize::B512).unwrap().unwrap();
    assert_eq!(found.table.partitions.iter().map(|p| p.number).collect::<Vec<_>>(), [3, 7]);
    assert_eq!(found.table.partitions[0].type_guid, Guid::ESP);
    assert_eq!(found.table.partitions[0].name(), "EFI System");
    assert_eq!(found.table.partitions[1].attributes, 4);

    let again = tempfile::tempdir().unwrap();
    let ours = fs::read(image_with(&found.table, SectorSize::B512, again.path())).unwrap();
    let theirs = fs::read(&path).unwrap();
    // sgdisk puts other cylinder numbers into the protective entry; no system looks at them.
    assert!(ours[512..] == theirs[512..], "both copies of the table are equal");
}

#[test]
fn defect_of_gpt_entries_of_256_bytes_are_no_reason_to_panic() {
    let directory = tempfile::tempdir().unwrap();
    for entry_size in [256, 512, 4096] {
        let table = cloud_image_table(SectorSize::B4096, entry_size);
        let path = image_with(&table, SectorSize::B4096, directory.path());
        assert_eq!(read(&path, SectorSize::B4096).unwrap().unwrap().table, table, "{entry_size}");
    }
}

#[test]
fn one_damaged_copy_is_noticed_and_the_other_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let table = cloud_image_table(SectorSize::B512, 128);
    let path = image_with(&table, SectorSize::B512, directory.path());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();

    file.write_all_at(b"X", 1024 + 13 * 128).unwrap();
    let found = read(&path, SectorSize::B512).unwrap().unwrap();
    assert_eq!(found.table, table);
    assert_eq!(found.copies, GptCopies::BackupOnly("the checksum of its entries is wrong".to_owned()));

    file.write_all_at(&[0; 8], DISK_BYTES - 512).unwrap();
    let error = read(&path, SectorSize::B512).unwrap_err();
    insta::assert_snapshot!(error, @"both copies of the partition table are damaged: the checksum of its entries is wrong; absent");
}

#[test]
fn a_disk_without_a_table_has_none() {
    assert!(gpt::read(&vec![0_u8; 1 << 20][..], Bytes::mib(1), SectorSize::B512).unwrap().is_none());
    assert!(gpt::read(&[0_u8; 512][..], Bytes(512), SectorSize::B512).unwrap().is_none());
}

#[test]
fn a_table_without_block_zero_is_still_read() {
    let directory = tempfile::tempdir().unwrap();
    let table = cloud_image_table(SectorSize::B512, 128);
    let path = image_with(&table, SectorSize::B512, directory.path());
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0; 512], 0).unwrap();
    let found = read(&path, SectorSize::B512).unwrap().unwrap();
    assert_eq!((found.table, found.block_zero), (table, HybridMbr::Absent));
}

#[test]
fn fault_39_tables_that_overlap_or_leave_the_disk_are_not_written() {
    let sector = SectorSize::B512;
    let blocks = DISK_BYTES / 512;
    let good = cloud_image_table(sector, 128);
    type Change = fn(&mut Gpt);
    let cases: [(Change, &str); 8] = [
        (|t| t.partitions[1].last_lba.0 += 1, "partitions 14 and 15 overlap"),
        (|t| t.partitions[1].number = 15, "partition number 15 has no slot of its own among 128"),
        (|t| t.partitions[1].number = 129, "partition number 129 has no slot of its own among 128"),
        (
            |t| t.partitions[0].last_lba = Lba(DISK_BYTES),
            "partition 1 (2348 to 16777216) lies outside of the usable blocks",
        ),
        (
            |t| t.last_usable_lba.0 += 1,
            "usable blocks 34 to 32735 do not lie between the two copies of the table (34 to 32734)",
        ),
        (|t| t.entry_size = 200, "128 entries of 200 bytes are not a possible table"),
        (
            |t| t.partitions[0].name_utf16le.0 = vec![65; 74],
            "the name of partition 1 has 74 bytes; it may have 72, in pairs",
        ),
        (|t| t.partitions[0].type_guid = Guid::NIL, "partition 1 has no type"),
    ];
    for (change, expected) in cases {
        let mut table = good.clone();
        change(&mut table);
        let refused: Unfit = gpt::encode(&table, blocks, sector).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    assert!(gpt::encode(&good, blocks - 1, sector).is_err(), "a disk one block smaller");
}

proptest! {
    #[test]
    fn a_damaged_disk_never_makes_the_reader_panic(changes in proptest::collection::vec((0_usize..34 * 512, any::<u8>()), 1..8), fix in any::<bool>()) {
        let sector = SectorSize::B512;
        let image = gpt::encode(&cloud_image_table(sector, 128), DISK_BYTES / 512, sector).unwrap();
        let mut disk = vec![0_u8; DISK_BYTES as usize];
        for (offset, bytes) in image.primary.iter().chain(&image.backup) {
            disk[*offset as usize..*offset as usize + bytes.len()].copy_from_slice(bytes);
        }
        for (place, value) in changes {
            disk[place] = value;
        }
        if fix {
            // With a right checksum the odd values get past the first door.
            disk[512 + 16..512 + 20].fill(0);
            let size = u32::from_le_bytes(disk[524..528].try_into().unwrap()) as usize;
            let crc = crc32fast::hash(&disk[512..512 + size.clamp(92, 512)]);
            disk[528..532].copy_from_slice(&crc.to_le_bytes());
        }
        let _ = gpt::read(&disk[..], Bytes(DISK_BYTES), sector);
    }
}
