//! Superblocks made by the real programs, against what those programs say of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use linux_io::runner::Tool;
use linux_io::superblock::{self, Described, SuperblockError, SuperblockKind, Window};
use node_model::{ExtFlavor, FatBits, Filesystem, FilesystemDetails, Swap};
use proptest::prelude::*;

fn image(directory: &Path, mebibytes: u64) -> PathBuf {
    let path = directory.join("image");
    File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
    path
}

fn made(argv: &[&str], mebibytes: u64) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), mebibytes);
    Tool::from_argv(argv).unwrap().arg(&path).run().unwrap();
    (directory, path)
}

fn filesystem(path: &Path, kind: SuperblockKind) -> Filesystem {
    match superblock::read(&File::open(path).unwrap(), kind).unwrap() {
        Described::Filesystem(filesystem) => filesystem,
        Described::Swap(swap) => panic!("{swap:?}"),
    }
}

fn swap(path: &Path) -> Swap {
    match superblock::read(&File::open(path).unwrap(), SuperblockKind::Swap).unwrap() {
        Described::Swap(swap) => swap,
        Described::Filesystem(filesystem) => panic!("{filesystem:?}"),
    }
}

/// The value that `dumpe2fs -h` or `xfs_db` prints after `name`.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.split([':', '=']).next().is_some_and(|key| key.trim() == name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).split_once([':', '=']).unwrap().1.trim()
}

#[test]
fn ext4_reads_as_dumpe2fs_prints_it() {
    let uuid = "11111111-2222-3333-4444-555555555555";
    let argv =
        ["mkfs.ext4", "-q", "-L", "rööt", "-U", uuid, "-m", "3", "-E", "stride=4,stripe_width=16", "-e", "remount-ro"];
    let (_directory, path) = made(&argv, 64);
    let read = filesystem(&path, SuperblockKind::Ext);
    assert_eq!((read.uuid.as_str(), read.label.as_deref(), read.type_name()), (uuid, Some("rööt"), "ext4"));
    let FilesystemDetails::Ext(ext) = read.details else { panic!() };
    let said = Tool::new("dumpe2fs").arg("-h").arg(&path).run().unwrap().text();
    let number = |name: &str| field(&said, name).split(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(ext.block_size_bytes, number("Block size"));
    assert_eq!(ext.block_count, number("Block count"));
    assert_eq!(ext.inode_count, number("Inode count"));
    assert_eq!(ext.inode_size_bytes, number("Inode size"));
    assert_eq!(ext.reserved_block_count, number("Reserved block count"));
    assert_eq!(ext.inodes_per_group, number("Inodes per group"));
    assert_eq!(ext.blocks_per_group, number("Blocks per group"));
    assert_eq!(ext.groups_per_flex, number("Flex block group size"));
    assert_eq!(ext.journal_blocks, Some(number("Total journal blocks")));
    assert_eq!(read.used_bytes.get() / ext.block_size_bytes, ext.block_count - number("Free blocks"));
    assert_eq!((ext.raid_stride, ext.raid_stripe_width, ext.errors_behavior), (4, 16, 2));
    let seed = ext.hash_seed.to_string();
    assert_eq!(seed, field(&said, "Directory Hash Seed").replace('-', ""));
    assert_eq!(read.size_bytes.get(), 64 << 20);
}

#[test]
fn the_ext_family_is_told_apart_by_features() {
    for (flavor, expected) in [("ext2", ExtFlavor::Ext2), ("ext3", ExtFlavor::Ext3), ("ext4", ExtFlavor::Ext4)] {
        let (_directory, path) = made(&["mkfs.ext4", "-q", "-t", flavor], 32);
        let read = filesystem(&path, SuperblockKind::Ext);
        let FilesystemDetails::Ext(ext) = &read.details else { panic!() };
        assert_eq!(ext.flavor, expected);
        assert_eq!(read.type_name(), flavor);
        assert_eq!(ext.journal_blocks.is_some(), flavor != "ext2");
    }
    let (_directory, path) = made(&["mkfs.ext4", "-q", "-O", "^has_journal"], 32);
    assert_eq!(filesystem(&path, SuperblockKind::Ext).type_name(), "ext4", "without a journal, with extents");
}

#[test]
fn what_ext4_could_not_be_made_with_again_is_refused_by_name() {
    let (_directory, path) = made(&["mkfs.ext4", "-q", "-O", "bigalloc"], 64);
    let error = superblock::read(&File::open(&path).unwrap(), SuperblockKind::Ext).unwrap_err();
    insta::assert_snapshot!(error, @"an ext4 filesystem with clusters (bigalloc) cannot be captured yet");
    let (_directory, path) = made(&["mkfs.ext4", "-q", "-O", "casefold"], 64);
    let error = superblock::read(&File::open(&path).unwrap(), SuperblockKind::Ext).unwrap_err();
    insta::assert_snapshot!(error, @"an ext4 filesystem with case folding cannot be captured yet");
}

#[test]
fn xfs_reads_as_xfs_db_prints_it() {
    let uuid = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
    let argv = [
        "mkfs.xfs",
        "-q",
        "-f",
        "-L",
        "twelve-bytes",
        "-m",
        "rmapbt=1",
        "-m",
        &format!("uuid={uuid}"),
        "-i",
        "maxpct=30,size=1024",
        "-n",
        "size=8192",
    ];
    let (_directory, path) = made(&argv, 400);
    let read = filesystem(&path, SuperblockKind::Xfs);
    assert_eq!((read.uuid.as_str(), read.label.as_deref()), (uuid, Some("twelve-bytes")));
    let FilesystemDetails::Xfs(xfs) = read.details else { panic!() };
    let said = Tool::new("xfs_db").args(["-r", "-c", "sb 0", "-c", "p"]).arg(&path).run().unwrap().text();
    let number = |name: &str| {
        let text = field(&said, name);
        text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap()
    };
    assert_eq!(xfs.block_size_bytes, number("blocksize"));
    assert_eq!(xfs.block_count, number("dblocks"));
    assert_eq!(xfs.sector_size_bytes, number("sectsize"));
    assert_eq!((xfs.inode_size_bytes, number("inodesize")), (1024, 1024));
    assert_eq!((xfs.directory_block_size_bytes, number("dirblklog")), (8192, 1));
    assert_eq!((xfs.ag_count, xfs.ag_blocks), (number("agcount"), number("agblocks")));
    assert_eq!(xfs.log_blocks, number("logblocks"));
    assert_eq!((u64::from(xfs.inode_max_percent), number("imax_pct")), (30, 30));
    assert_eq!(u64::from(xfs.version), number("versionnum") & !0x50);
    // xfs_db calls by this name what the kernel calls sb_features2.
    assert_eq!(u64::from(xfs.features2), number("features2"));
    assert_eq!(u64::from(xfs.feature_ro_compat), number("features_ro_compat"));
    assert_eq!(u64::from(xfs.feature_incompat), number("features_incompat"));
    assert_eq!(read.used_bytes.get(), (xfs.block_count - xfs.log_blocks - number("fdblocks")) * xfs.block_size_bytes);
}

#[test]
fn fat_of_each_width_is_read() {
    for (width, mebibytes, bits) in [("12", 4, FatBits::Fat12), ("16", 64, FatBits::Fat16), ("32", 64, FatBits::Fat32)]
    {
        let argv = ["mkfs.vfat", "-F", width, "-n", "EFI SYS", "-i", "ABCD1234", "-s", "1"];
        let (_directory, path) = made(&argv[..if width == "32" { 9 } else { 7 }], mebibytes);
        let read = filesystem(&path, SuperblockKind::Vfat);
        let FilesystemDetails::Vfat(fat) = &read.details else { panic!() };
        assert_eq!((fat.bits, fat.volume_id), (bits, 0xABCD_1234), "{width}");
        assert_eq!((read.uuid.as_str(), read.label.as_deref()), ("ABCD-1234", Some("EFI SYS")));
        assert_eq!(read.size_bytes.get(), mebibytes << 20);

        let before = read.used_bytes.get();
        let content = vec![7; 100_000];
        fs::write(path.with_extension("content"), content).unwrap();
        Tool::new("mcopy").arg("-i").arg(&path).arg(path.with_extension("content")).arg("::file").run().unwrap();
        let after = filesystem(&path, SuperblockKind::Vfat).used_bytes.get();
        let cluster = fat.sectors_per_cluster * fat.sector_size_bytes;
        assert_eq!(after - before, 100_000_u64.div_ceil(cluster) * cluster, "{width}");
    }
}

#[test]
fn a_fat_without_a_label_has_none() {
    let (_directory, path) = made(&["mkfs.vfat"], 8);
    assert_eq!(filesystem(&path, SuperblockKind::Vfat).label, None);
}

#[test]
fn swap_is_read_with_and_without_a_label() {
    let uuid = "99999999-8888-7777-6666-555555555555";
    let (_directory, path) = made(&["mkswap", "-q", "-U", uuid, "-L", "swap-one"], 8);
    let area = swap(&path);
    assert_eq!((area.uuid.as_deref(), area.label.as_deref()), (Some(uuid), Some("swap-one")));
    assert_eq!((area.page_size_bytes, area.size_bytes.get()), (4096, 8 << 20));
    let (_directory, path) = made(&["mkswap", "-q", "-p", "65536"], 8);
    assert_eq!((swap(&path).page_size_bytes, swap(&path).label), (65536, None));
}

#[test]
fn a_superblock_in_the_middle_of_a_disk_is_read_through_a_window() {
    let (directory, path) = made(&["mkfs.ext4", "-q"], 16);
    let disk = directory.path().join("disk");
    let mut bytes = vec![0; 1 << 20];
    bytes.extend(fs::read(&path).unwrap());
    fs::write(&disk, bytes).unwrap();
    let file = File::open(&disk).unwrap();
    let window = Window::new(&file, 1 << 20, 16 << 20);
    let Described::Filesystem(inner) = superblock::read(&window, SuperblockKind::Ext).unwrap() else { panic!() };
    assert_eq!(inner, filesystem(&path, SuperblockKind::Ext));
    let narrow = Window::new(&file, 1 << 20, 1500);
    assert!(matches!(superblock::read(&narrow, SuperblockKind::Ext), Err(SuperblockError::Read { .. })));
}

const KINDS: [SuperblockKind; 4] =
    [SuperblockKind::Ext, SuperblockKind::Xfs, SuperblockKind::Vfat, SuperblockKind::Swap];

proptest! {
    #[test]
    fn no_damage_makes_a_parser_panic(changes in proptest::collection::vec((0_usize..2048, any::<u8>()), 1..40)) {
        let mut ext = vec![0_u8; 1 << 20];
        ext[0x438..0x43a].copy_from_slice(&[0x53, 0xEF]);
        let mut xfs = vec![0_u8; 1 << 20];
        xfs[..8].copy_from_slice(b"XFSB\0\0\x10\0");
        xfs[55] = 1;
        let mut fat = vec![0_u8; 1 << 20];
        fat[..64].copy_from_slice(&[0xEB, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0, 2, 0, 2, 0, 8, 0xF8, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        fat[510..512].copy_from_slice(&[0x55, 0xAA]);
        let mut swap = vec![0_u8; 1 << 20];
        swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
        swap[1024] = 1;
        for mut device in [ext, xfs, fat, swap] {
            for &(place, value) in &changes {
                device[place] = value;
            }
            for kind in KINDS {
                let _ = superblock::read(&device[..], kind);
            }
        }
    }
}
