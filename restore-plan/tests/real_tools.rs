//! Planned arguments against the real tools: a filesystem is made by hand, its superblock read, a plan made from
//! that, the plan's tools run on another image, and both superblocks compared. Needs no root: all are image files.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the tests run tools, the planner does not")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use node_model::*;
use restore_plan::{Step, ToolCall, compare_filesystems, compare_swap, plan};

/// Where Debian has these tools; a user's own path may lack it.
fn tool(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin"].map(|dir| Path::new(dir).join(name)).into_iter().find(|path| path.exists())
}

/// Whether the tools are here; says which is not.
fn have(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().filter(|name| tool(name).is_none()).collect();
    if !missing.is_empty() {
        println!("skipped: this machine has no {missing:?}");
    }
    missing.is_empty()
}

fn run(program: &str, args: &[String]) {
    let mut command = Command::new(tool(program).unwrap_or_else(|| panic!("{program} is missing")));
    let output = command.args(args).env_clear().env("LC_ALL", "C").env("MKE2FS_SYNC", "0").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
}

/// An image file that goes away with the test.
struct Image(tempfile::TempDir);

impl Image {
    fn new(size: u64) -> Self {
        let image = Self(tempfile::tempdir().unwrap());
        let file = File::create(image.path()).unwrap();
        file.set_len(size).unwrap();
        image
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("image")
    }

    /// Makes the original: a command line with `{}` for the image.
    fn by_hand(size: u64, command_lines: &[&str]) -> Self {
        let image = Self::new(size);
        for line in command_lines {
            let path = image.path().display().to_string();
            let mut words = line.split_whitespace();
            let program = words.next().unwrap();
            let args: Vec<String> = words.map(|word| word.replace("{}", &path).replace('~', " ")).collect();
            run(program, &args);
        }
        image
    }

    fn by_plan(size: u64, commands: &[ToolCall]) -> Self {
        let image = Self::new(size);
        for call in commands {
            run(&call.program, &call.args_for(&image.path().display().to_string()));
        }
        image
    }

    fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(self.path()).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }
}

/// Little-endian numbers of a superblock.
fn le(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Big-endian numbers of a superblock.
fn be(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(String::from_utf8(bytes[..end].to_vec()).unwrap()).filter(|text| !text.is_empty())
}

fn uuid_text(bytes: &[u8]) -> String {
    let hex = HexBytes(bytes.to_vec()).to_string();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn read_ext(image: &Image) -> Filesystem {
    let sb = image.bytes(1024, 1024);
    assert_eq!(le(&sb, 0x38, 2), 0xef53, "no ext superblock");
    let block = 1024 << le(&sb, 0x18, 4);
    let wide = |low: usize, high: usize| le(&sb, low, 4) | le(&sb, high, 4) << 32;
    let (compat, incompat) = (le(&sb, 0x5c, 4) as u32, le(&sb, 0x60, 4) as u32);
    let journal = compat & 4 != 0;
    let flavor = match (incompat & 0x2c0 != 0, journal) {
        (true, _) => ExtFlavor::Ext4,
        (false, true) => ExtFlavor::Ext3,
        (false, false) => ExtFlavor::Ext2,
    };
    let journal_bytes = le(&sb, 0x10c + 16 * 4, 4) | le(&sb, 0x10c + 15 * 4, 4) << 32;
    Filesystem {
        uuid: uuid_text(&sb[0x68..0x78]),
        label: text(&sb[0x78..0x88]),
        size_bytes: Bytes(wide(4, 0x150) * block),
        used_bytes: Bytes(0),
        details: FilesystemDetails::Ext(ExtDetails {
            flavor,
            block_size_bytes: block,
            block_count: wide(4, 0x150),
            inode_count: le(&sb, 0, 4),
            inode_size_bytes: le(&sb, 0x58, 2),
            reserved_block_count: wide(8, 0x154),
            inodes_per_group: le(&sb, 0x28, 4),
            blocks_per_group: le(&sb, 0x20, 4),
            groups_per_flex: 1 << sb[0x174],
            feature_compat: compat,
            feature_incompat: incompat,
            feature_ro_compat: le(&sb, 0x64, 4) as u32,
            journal_blocks: journal.then_some(journal_bytes / block),
            hash_seed: HexBytes(sb[0xec..0xfc].to_vec()),
            hash_version: sb[0xfc],
            default_mount_opts: le(&sb, 0x100, 4) as u32,
            errors_behavior: le(&sb, 0x3c, 2) as u16,
            raid_stride: le(&sb, 0x164, 2) as u16,
            raid_stripe_width: le(&sb, 0x170, 4) as u32,
        }),
    }
}

fn read_xfs(image: &Image) -> Filesystem {
    let sb = image.bytes(0, 512);
    assert_eq!(&sb[..4], b"XFSB", "no xfs superblock");
    let block = be(&sb, 4, 4);
    let incompat = be(&sb, 216, 4) as u32;
    Filesystem {
        uuid: uuid_text(&sb[32..48]),
        label: text(&sb[108..120]),
        size_bytes: Bytes(be(&sb, 8, 8) * block),
        used_bytes: Bytes(0),
        details: FilesystemDetails::Xfs(XfsDetails {
            block_size_bytes: block,
            sector_size_bytes: be(&sb, 102, 2),
            block_count: be(&sb, 8, 8),
            inode_size_bytes: be(&sb, 104, 2),
            directory_block_size_bytes: block << sb[192],
            ag_count: be(&sb, 88, 4),
            ag_blocks: be(&sb, 84, 4),
            log_blocks: be(&sb, 96, 4),
            stripe_unit_blocks: be(&sb, 184, 4),
            stripe_width_blocks: be(&sb, 188, 4),
            inode_max_percent: sb[127],
            version: be(&sb, 100, 2) as u16,
            features2: be(&sb, 200, 4) as u32,
            feature_compat: be(&sb, 208, 4) as u32,
            feature_ro_compat: be(&sb, 212, 4) as u32,
            feature_incompat: incompat,
            meta_uuid: (incompat & 4 != 0).then(|| uuid_text(&sb[248..264])),
        }),
    }
}

fn read_vfat(image: &Image) -> Filesystem {
    let sb = image.bytes(0, 512);
    let short = le(&sb, 17, 2) != 0;
    let (id, label) = if short { (39, 43) } else { (67, 71) };
    let volume_id = le(&sb, id, 4) as u32;
    let label = text(&sb[label..label + 11]).map(|label| label.trim_end().to_owned());
    let sectors = if le(&sb, 19, 2) == 0 { le(&sb, 32, 4) } else { le(&sb, 19, 2) };
    let bits = match &sb[if short { 54 } else { 82 }..][..5] {
        b"FAT12" => FatBits::Fat12,
        b"FAT16" => FatBits::Fat16,
        _ => FatBits::Fat32,
    };
    Filesystem {
        uuid: format!("{:04X}-{:04X}", volume_id >> 16, volume_id & 0xffff),
        label: label.filter(|label| label != "NO NAME"),
        size_bytes: Bytes(sectors * le(&sb, 11, 2)),
        used_bytes: Bytes(0),
        details: FilesystemDetails::Vfat(VfatDetails {
            bits,
            volume_id,
            sector_size_bytes: le(&sb, 11, 2),
            sectors_per_cluster: u64::from(sb[13]),
            reserved_sectors: le(&sb, 14, 2),
            fat_count: u64::from(sb[16]),
            root_entries: le(&sb, 17, 2),
            sector_count: sectors,
            media: sb[21],
        }),
    }
}

/// What a plan runs to make this on a partition of `size` bytes.
fn planned(holds: Holds, size: u64) -> Vec<ToolCall> {
    let mut node = Node::new();
    let disk = node.disk("OLD1", 8 * GIB, SectorSize::B512);
    node.part(&disk, 1, MIB, MIB + size / 512 - 1, holds);
    node.boot_code(&disk);
    let machine = machine(&node, vec![common::disk("sda", "OLD1", 8 * GIB)]);
    let plan = plan(&node.spec, &node.volumes, &machine, &policy()).unwrap_or_else(|error| panic!("{error}"));
    let commands = plan.steps.into_iter().find_map(|step| match step {
        Step::MakeFilesystem { commands, .. } | Step::MakeSwap { commands, .. } => Some(commands),
        _ => None,
    });
    commands.unwrap()
}

/// Makes a filesystem by hand, and again by plan, on images of the same size.
fn comes_back(size: u64, by_hand: &[&str], read: fn(&Image) -> Filesystem) {
    let original = read(&Image::by_hand(size, by_hand));
    let commands = planned(Holds::Files(original.clone(), "/"), size);
    let made = read(&Image::by_plan(size, &commands));
    let differences = compare_filesystems(&original, &made);
    assert!(differences.is_empty(), "{by_hand:?}\nbecame {commands:#?}\nwith {differences:#?}");
}

#[test]
fn ext_filesystems_come_back_with_exactly_their_features() {
    if !have(&["mke2fs", "tune2fs"]) {
        return;
    }
    let size = 256 << 20;
    for original in [
        vec!["mke2fs -q -t ext4 -L root {}"],
        vec!["mke2fs -q -t ext4 -O metadata_csum_seed,orphan_file {}"],
        vec!["mke2fs -q -t ext4 -O ^metadata_csum,^64bit {}"],
        vec!["mke2fs -q -t ext4 -O ^metadata_csum,uninit_bg {}"],
        vec!["mke2fs -q -t ext4 -O ^has_journal {}"],
        vec!["mke2fs -q -t ext4 -O quota,project,verity,encrypt,stable_inodes {}"],
        vec!["mke2fs -q -t ext4 -O inline_data,large_dir,ea_inode {}"],
        vec!["mke2fs -q -t ext4 -J size=24 {}"],
        vec!["mke2fs -q -t ext4 -O ^resize_inode,meta_bg {}"],
        vec!["mke2fs -q -t ext4 -O ^resize_inode,sparse_super2 {}"],
        vec!["mke2fs -q -t ext4 -O ^flex_bg,^extra_isize -I 128 {}"],
        vec!["mke2fs -q -t ext4 -b 1024 -N 5000 -m 1.37 -e panic -J size=8 {}"],
        vec!["mke2fs -q -t ext4 -b 2048 -g 8192 -G 4 -E stride=16,stripe_width=64 {}"],
        vec!["mke2fs -q -t ext4 -b 4096 {} 50001"],
        vec!["mke2fs -q -t ext4 -L --force {}"],
        vec!["mke2fs -q -t ext4 {}", "tune2fs -o ^acl,journal_data_writeback,nodelalloc -E hash_alg=tea -r 777 {}"],
        vec!["mke2fs -q -t ext3 {}"],
        vec!["mke2fs -q -t ext2 {}"],
        vec!["mke2fs -q -t ext2 -b 1024 -O ^dir_index,^resize_inode {}"],
    ] {
        comes_back(size, &original, read_ext);
    }
}

#[test]
fn xfs_filesystems_come_back_with_exactly_their_features() {
    if !have(&["mkfs.xfs", "xfs_db"]) {
        return;
    }
    let (size, small) = (512 << 20, 64 << 20);
    for original in [
        vec!["mkfs.xfs -q -L data {}"],
        vec!["mkfs.xfs -q -m crc=0 {}"],
        vec!["mkfs.xfs -q -m crc=0 -n ftype=0 -i projid32bit=0,attr=1 -l lazy-count=0 {}"],
        vec!["mkfs.xfs -q -m rmapbt=1,bigtime=0,inobtcount=0 -i nrext64=1 {}"],
        vec!["mkfs.xfs -q -m reflink=0,finobt=0,inobtcount=0 -i sparse=0,maxpct=7,size=1024 {}"],
        vec!["mkfs.xfs -q -b size=1024 -n size=8192 -d agcount=4 -l size=65m {}"],
        vec!["mkfs.xfs -q -d su=64k,sw=4,agcount=2 -l size=68m {}"],
        vec!["mkfs.xfs -q -s size=4096 -n version=ci {}"],
        vec!["mkfs.xfs -q -d size=400m -L --force {}"],
        vec!["mkfs.xfs -q {}", "xfs_db -x -p test -c uuid~77777777-2222-3333-4444-555555555555 {}"],
    ] {
        comes_back(size, &original, read_xfs);
    }
    comes_back(small, &["mkfs.xfs -q --unsupported {}"], read_xfs);
}

#[test]
fn fat_filesystems_come_back_with_their_geometry() {
    if !have(&["mkfs.fat"]) {
        return;
    }
    for (size, original) in [
        (100 << 20, "mkfs.fat -F 32 -n EFI {}"),
        (512 << 20, "mkfs.fat -F 32 -s 8 -R 64 -i cafe0123 {}"),
        (64 << 20, "mkfs.fat -F 32 -s 1 -f 1 -a {}"),
        (64 << 20, "mkfs.fat -F 16 -r 1024 -n --FORCE {}"),
        (16 << 20, "mkfs.fat -F 16 {} 16000"),
        (2 << 20, "mkfs.fat -F 12 {}"),
        (512 << 20, "mkfs.fat -F 32 -S 4096 -s 1 {}"),
        ((64 << 20) + 512, "mkfs.fat -F 32 -s 1 {}"),
    ] {
        comes_back(size, &[original], read_vfat);
    }
}

#[test]
fn swap_areas_come_back_with_uuid_and_label() {
    if !have(&["mkswap"]) {
        return;
    }
    let size = 8 << 20;
    for swap in [
        swap(7, size),
        Swap { label: Some("--force".into()), ..swap(7, size) },
        Swap { uuid: None, ..swap(7, size - 4096) },
        Swap { page_size_bytes: 65536, ..swap(7, size) },
    ] {
        let made = Image::by_plan(size, &planned(Holds::Swap(swap.clone()), size));
        let page = swap.page_size_bytes;
        assert_eq!(made.bytes(page - 10, 10), b"SWAPSPACE2");
        let header = made.bytes(1024, 512);
        let uuid = uuid_text(&header[12..28]);
        let found = Swap {
            uuid: Some(uuid).filter(|uuid| uuid.chars().any(|c| !matches!(c, '0' | '-'))),
            label: text(&header[28..44]),
            page_size_bytes: page,
            size_bytes: Bytes((le(&header, 4, 4) + 1) * page),
        };
        assert!(compare_swap(&swap, &found).is_empty(), "{:#?}", compare_swap(&swap, &found));
    }
}
