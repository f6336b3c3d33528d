//! Small real repositories for tests, of this crate and of those that stand on it (feature `testing`).
//!
//! Everything here panics where it cannot go on, and nothing is for use outside tests.

use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use node_model::{
    BootChain, Bytes as Size, Consistency, Content, Device, DeviceKey, DeviceKind, DiskIdentity, Entry, EntryKind,
    ExtDetails, ExtFlavor, Filesystem, FilesystemDetails, Firmware, Gpt, GptPartition, Guid, HexBytes, Layout, Lba,
    MachineIdentity, Mount, NodeName, NodeSpec, PartitionTable, SectorSize, SnapshotId, Transport, Volume, VolumeKind,
};

use crate::Hash;
use crate::catalog::{CatalogEntry, CatalogWriter, SourceStamp};
use crate::cut::{ChunkHashes, CutVolume, RawChunk, RawCutter, VolumeCutter, is_large};
use crate::frame;
use crate::manifest::v1::MANIFEST_FORMAT;
use crate::manifest::{Manifest, ManifestVolume};
use crate::pack::{Pack, PackBuilder};
use crate::repository::{
    CutKey, Repository, RepositoryId, RepositoryInfo, SignedManifest, VerifiedPack, VerifiedSnapshot,
};
use crate::sign::{NodeKey, RootKey, SignContext};
use crate::trust::{NodeCertificate, NodeSecret, Pin};

/// The time at which everything in tests happens.
pub fn some_time() -> Timestamp {
    "2026-11-21T03:00:00Z".parse().expect("a time")
}

/// The root key of test repositories.
pub fn root_key() -> RootKey {
    RootKey::from_seed(&[0x52; 32])
}

/// The secret of a test node: its name, hashed.
pub fn node_secret(node: &NodeName) -> NodeSecret {
    NodeSecret::from_bytes(*Hash::of(node.as_str().as_bytes()).as_bytes())
}

/// The name of the test node.
pub fn node_name() -> NodeName {
    "web-03".parse().expect("a name")
}

/// A new repository in `path`, with the certificate of each of `nodes`. Its id and keys are always the same, so that
/// equal snapshots are made of equal objects.
pub async fn repository(path: &Path, nodes: &[NodeName]) -> Repository {
    let root = root_key();
    let mut info = RepositoryInfo::generate(&root.public(), some_time()).expect("randomness");
    info.repository = RepositoryId::from_bytes([0x1d; 16]);
    info.cut_key = CutKey::from_bytes([0xc0; 32]);
    let repository = Repository::create_directory_with(path, &root, info).await.expect("a new repository");
    for node in nodes {
        repository.put_certificate(&certificate(&repository, node), &root).await.expect("a certificate");
    }
    repository
}

/// Opens the repository in `path` again, pinned.
pub async fn reopen(path: &Path) -> Repository {
    Repository::open_directory(path, &Pin::Fingerprint(root_key().id())).await.expect("the repository")
}

/// The certificate of a test node.
pub fn certificate(repository: &Repository, node: &NodeName) -> NodeCertificate {
    let key = node_secret(node).signing_key().public();
    NodeCertificate::new(repository.info().repository, node.clone(), key, some_time())
}

/// A file of a test volume: path, mode and content.
#[derive(Debug, Clone)]
pub struct TestFile {
    /// Path below the root; parents are made as directories.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl TestFile {
    /// A file with this content.
    pub fn new(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into() }
    }
}

/// Bytes that do not compress and depend on `seed` only.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What the test node holds when nobody says otherwise: a few small files, one of several data chunks, one of one.
pub fn some_files() -> Vec<TestFile> {
    vec![
        TestFile::new("etc/hostname", *b"web-03\n"),
        TestFile::new("etc/fstab", *b"UUID=11111111-2222-3333-4444-555555555555 / ext4 defaults 0 1\n"),
        TestFile::new("srv/large", noise(1, 9 << 20)),
        TestFile::new("srv/medium", noise(2, 300_000)),
        TestFile::new("srv/zeros", vec![0; 2 << 20]),
        TestFile::new("usr/bin/tool", noise(3, 100_000)),
    ]
}

/// One snapshot's objects before they are in any repository.
#[derive(Debug, Clone)]
pub struct BuiltSnapshot {
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// `manifest.sig`.
    pub signature_bytes: Vec<u8>,
    /// The packs.
    pub packs: Vec<Pack>,
    /// Segments of chunk lists.
    pub lists: Vec<Vec<u8>>,
    /// Segments of catalogs.
    pub catalogs: Vec<Vec<u8>>,
}

/// Builds snapshots of a test node: one GPT disk with boot code and an ext4 root.
#[derive(Debug, Clone)]
pub struct SnapshotBuilder {
    node: NodeName,
    id: SnapshotId,
    files: Vec<TestFile>,
    boot_code: Vec<u8>,
    pack_bytes: u64,
    edit: fn(&mut Manifest),
}

impl SnapshotBuilder {
    /// The snapshot `id` of `node`, which holds [`some_files`].
    pub fn new(node: &NodeName, id: &str) -> Self {
        Self {
            node: node.clone(),
            id: id.parse().expect("a snapshot id"),
            files: some_files(),
            boot_code: noise(7, 440),
            pack_bytes: 2 << 20,
            edit: |_| {},
        }
    }

    /// Lets the root filesystem hold these files, in any order.
    pub fn files(self, files: Vec<TestFile>) -> Self {
        Self { files, ..self }
    }

    /// Closes packs at this many stored bytes (2 MiB unless told, so that there are several).
    pub fn pack_bytes(self, pack_bytes: u64) -> Self {
        Self { pack_bytes, ..self }
    }

    /// Changes the manifest before it is signed.
    pub fn edit(self, edit: fn(&mut Manifest)) -> Self {
        Self { edit, ..self }
    }

    /// Makes all objects.
    pub fn build(&self, repository: &Repository) -> BuiltSnapshot {
        let mut packer = Packer { pack_bytes: self.pack_bytes, ..Packer::default() };
        let (root_volume, catalogs) = self.cut_root(repository.info().cut_key.as_bytes(), &mut packer);
        let root_lists = packer.lists(&root_volume);
        packer.hashes = ChunkHashes::new();
        let mut raw = RawCutter::new(|chunk| {
            packer.take(chunk);
            Ok(())
        });
        raw.write(&self.boot_code).expect("raw bytes");
        let raw_volume = raw.finish().expect("a raw volume");
        let raw_lists = packer.lists(&raw_volume);
        let spec = some_spec();
        let volumes = vec![
            self.boot_code_volume(&raw_volume, &raw_lists),
            self.root_volume(&root_volume, &root_lists, &catalogs),
        ];
        let mut manifest = Manifest {
            format: MANIFEST_FORMAT,
            requires: Vec::new(),
            agent_version: "0.1.0".into(),
            repository: repository.info().repository,
            node: self.node.clone(),
            snapshot: self.id.clone(),
            captured_at: some_time(),
            previous: None,
            spec,
            volumes,
        };
        (self.edit)(&mut manifest);
        let mut manifest_bytes = serde_json::to_vec_pretty(&manifest).expect("JSON");
        manifest_bytes.push(b'\n');
        let key = node_secret(&self.node).signing_key();
        let signature_bytes = key.sign(SignContext::Manifest, &manifest_bytes).to_json();
        let lists = [raw_lists, root_lists].concat();
        BuiltSnapshot { manifest, manifest_bytes, signature_bytes, packs: packer.finish(), lists, catalogs }
    }

    /// Makes all objects, stores them and commits.
    pub async fn commit(&self, repository: &Repository) -> VerifiedSnapshot {
        self.build(repository).commit(repository).await
    }

    fn cut_root(&self, cut_key: &[u8; 32], packer: &mut Packer) -> (CutVolume, Vec<Vec<u8>>) {
        let mut catalog = CatalogWriter::new(3).expect("zstd");
        let mut segments = Vec::new();
        let mut cutter = VolumeCutter::new(*cut_key, |chunk| {
            packer.take(chunk);
            Ok(())
        });
        for (entry, content) in entries_of(&self.files) {
            let placed = if is_large(&entry) {
                let mut large = cutter.begin_large(&entry).expect("a large file");
                large.write(&content).expect("content");
                large.commit(false).expect("all of it")
            } else {
                cutter.push(&entry, &content, false).expect("an entry")
            };
            let source = SourceStamp { inode: placed.ordinal + 2, ctime: entry.mtime };
            segments.extend(catalog.push(&CatalogEntry { entry, source, placed }).expect("a catalog entry"));
        }
        segments.extend(catalog.finish().expect("a catalog"));
        (cutter.finish().expect("a volume"), segments)
    }

    fn boot_code_volume(&self, cut: &CutVolume, lists: &[Vec<u8>]) -> ManifestVolume {
        let length_bytes = Size(self.boot_code.len() as u64);
        let volume = Volume {
            name: "boot-code".parse().expect("a name"),
            device: DeviceKey::disk(0),
            volume: VolumeKind::Raw { offset_bytes: Size(0), length_bytes },
            consistency: Consistency::Live,
            stream_bytes: Size(cut.stream_bytes),
        };
        ManifestVolume { volume, lists: names(lists), catalogs: Vec::new() }
    }

    fn root_volume(&self, cut: &CutVolume, lists: &[Vec<u8>], catalogs: &[Vec<u8>]) -> ManifestVolume {
        let volume = Volume {
            name: "root".parse().expect("a name"),
            device: DeviceKey::partition(&DeviceKey::disk(0), 2),
            volume: VolumeKind::Files {
                entry_count: cut.entry_count,
                file_count: self.files.len() as u64,
                content_bytes: Size(self.files.iter().map(|file| file.content.len() as u64).sum()),
                skipped_socket_count: 0,
            },
            consistency: Consistency::Live,
            stream_bytes: Size(cut.stream_bytes),
        };
        ManifestVolume { volume, lists: names(lists), catalogs: names(catalogs) }
    }
}

impl BuiltSnapshot {
    /// Stores packs, lists and catalogs, but commits nothing.
    pub async fn upload(&self, repository: &Repository) {
        for pack in &self.packs {
            let pack = VerifiedPack::verify(pack.name, Bytes::from(pack.bytes.clone())).expect("a good pack");
            repository.put_pack(&pack).await.expect("the pack is stored");
        }
        for list in &self.lists {
            repository.put_list(&Hash::of(list), list.clone().into()).await.expect("the list is stored");
        }
        for catalog in &self.catalogs {
            repository.put_catalog(&Hash::of(catalog), catalog.clone().into()).await.expect("the catalog is stored");
        }
    }

    /// The manifest under its signature.
    pub fn signed(&self, repository: &Repository) -> SignedManifest {
        let certificate = certificate(repository, &self.manifest.node);
        SignedManifest::verify(self.manifest_bytes.clone(), self.signature_bytes.clone(), &certificate)
            .expect("a good manifest")
    }

    /// Stores everything and commits.
    pub async fn commit(&self, repository: &Repository) -> VerifiedSnapshot {
        self.upload(repository).await;
        let placement = repository.load_placement().await.expect("placement").placement;
        let placed = |chunk: &Hash| placement.contains(chunk);
        repository.commit(&self.signed(repository), placed, &root_key(), some_time()).await.expect("a commit")
    }

    /// Signs the manifest again with another key.
    pub fn sign_with(&mut self, key: &NodeKey) {
        self.signature_bytes = key.sign(SignContext::Manifest, &self.manifest_bytes).to_json();
    }
}

fn names(segments: &[Vec<u8>]) -> Vec<Hash> {
    segments.iter().map(|segment| Hash::of(segment)).collect()
}

#[derive(Default)]
struct Packer {
    pack_bytes: u64,
    builder: PackBuilder,
    done: Vec<Pack>,
    hashes: ChunkHashes,
}

impl Packer {
    fn take(&mut self, chunk: RawChunk) {
        let hash = Hash::of(&chunk.content);
        self.hashes.set(chunk.ticket, hash);
        let known = self.done.iter().any(|pack| pack.index.rows().iter().any(|row| row.hash == hash));
        if known || self.builder.contains(&hash) {
            return;
        }
        self.builder.push(hash, &frame::compress(&chunk.content, 3).expect("zstd")).expect("room in the pack");
        if self.builder.stored_bytes() >= self.pack_bytes {
            self.done.extend(std::mem::take(&mut self.builder).finish());
        }
    }

    fn lists(&self, volume: &CutVolume) -> Vec<Vec<u8>> {
        volume.list_segments(&self.hashes).expect("every chunk was hashed")
    }

    fn finish(mut self) -> Vec<Pack> {
        self.done.extend(self.builder.finish());
        self.done
    }
}

/// The entries of a tree with these files, depth first, siblings in order of their bytes.
fn entries_of(files: &[TestFile]) -> Vec<(Entry, Vec<u8>)> {
    let mut paths: Vec<(Vec<Vec<u8>>, Option<&TestFile>)> = vec![(Vec::new(), None)];
    for file in files {
        let parts: Vec<Vec<u8>> = file.path.split('/').map(|part| part.as_bytes().to_vec()).collect();
        for depth in 1..parts.len() {
            if !paths.iter().any(|(path, _)| path[..] == parts[..depth]) {
                paths.push((parts[..depth].to_vec(), None));
            }
        }
        paths.push((parts, Some(file)));
    }
    paths.sort_by(|(a, _), (b, _)| a.cmp(b));
    let entry = |(parts, file): (Vec<Vec<u8>>, Option<&TestFile>)| {
        let kind = match file {
            Some(file) => EntryKind::File { size: file.content.len() as u64, sparse: None },
            None => EntryKind::Directory,
        };
        let entry = Entry {
            path: parts.join(&b'/'),
            mode: if file.is_some() { 0o644 } else { 0o755 },
            kind,
            uid: 0,
            gid: 0,
            mtime: node_model::Timestamp { secs: 1_700_000_000, nanos: 123_456_789 },
            xattrs: Vec::new(),
            flags: 0,
            project_id: 0,
        };
        (entry, file.map(|file| file.content.clone()).unwrap_or_default())
    };
    paths.into_iter().map(entry).collect()
}

/// A node with one GPT disk of 1 GiB: a BIOS boot partition and an ext4 root.
pub fn some_spec() -> NodeSpec {
    let disk = DeviceKey::disk(0);
    let root = DeviceKey::partition(&disk, 2);
    let partition = |number, type_guid, guid: u8, first: u64, last: u64| GptPartition {
        number,
        type_guid,
        guid: Guid([guid; 16]),
        first_lba: Lba(first),
        last_lba: Lba(last),
        attributes: 0,
        name_utf16le: HexBytes(Vec::new()),
    };
    let linux: Guid = "0fc63daf-8483-4772-8e79-3d69d8477de4".parse().expect("a GUID");
    let gpt = Gpt {
        disk_guid: Guid([0x0d; 16]),
        first_usable_lba: Lba(34),
        last_usable_lba: Lba((1 << 21) - 34),
        entry_count: 128,
        entry_size: 128,
        partitions: vec![
            partition(1, Guid::BIOS_BOOT, 1, 2048, 4095),
            partition(2, linux, 2, 4096, (1 << 21) - 4096 - 1),
        ],
    };
    let root_bytes = Size(((1 << 21) - 8192) * 512);
    let devices = vec![
        Device {
            key: disk.clone(),
            size_bytes: Size::gib(1),
            device: DeviceKind::Disk {
                identity: DiskIdentity {
                    wwn: None,
                    nguid: None,
                    eui64: None,
                    serial: Some("RR-OLD-0001".into()),
                    backing: None,
                    model: Some("QEMU HARDDISK".into()),
                    transport: Transport::Virtio,
                    size_bytes: Size::gib(1),
                },
                sector_size_bytes: SectorSize::B512,
                kernel_name: "vda".into(),
            },
            content: Content::Table { table: PartitionTable::Gpt(gpt) },
        },
        Device {
            key: DeviceKey::partition(&disk, 1),
            size_bytes: Size::mib(1),
            device: DeviceKind::Partition { disk: disk.clone(), number: 1 },
            content: Content::Raw,
        },
        Device {
            key: root.clone(),
            size_bytes: root_bytes,
            device: DeviceKind::Partition { disk, number: 2 },
            content: Content::Filesystem { filesystem: some_ext4(root_bytes) },
        },
    ];
    NodeSpec {
        identity: MachineIdentity {
            system_uuid: Some("6b1f2f3c-0000-4000-8000-000000000003".into()),
            macs: vec!["52:54:00:12:34:56".parse().expect("a MAC")],
            hostname: Some("web-03".into()),
            ..MachineIdentity::default()
        },
        os: Default::default(),
        hardware: Default::default(),
        layout: Layout { devices },
        mounts: vec![Mount {
            device: Some(root),
            source: "/dev/vda2".into(),
            target: "/".into(),
            fstype: "ext4".into(),
            options: "rw,relatime".into(),
        }],
        fstab: None,
        boot: BootChain {
            firmware: Firmware::Bios,
            efi_entries: Vec::new(),
            kernel_cmdline: "root=/dev/vda2 ro".into(),
        },
        network: Default::default(),
    }
}

fn some_ext4(size_bytes: Size) -> Filesystem {
    Filesystem {
        uuid: "11111111-2222-3333-4444-555555555555".into(),
        label: Some("root".into()),
        size_bytes,
        used_bytes: Size::mib(16),
        details: FilesystemDetails::Ext(ExtDetails {
            flavor: ExtFlavor::Ext4,
            block_size_bytes: 4096,
            block_count: size_bytes.get() / 4096,
            inode_count: 65_280,
            inode_size_bytes: 256,
            reserved_block_count: 13_056,
            inodes_per_group: 8160,
            blocks_per_group: 32_768,
            groups_per_flex: 16,
            feature_compat: 0x3c,
            feature_incompat: 0x2c2,
            feature_ro_compat: 0x46b,
            journal_blocks: Some(4096),
            hash_seed: HexBytes(vec![0x5e; 16]),
            hash_version: 1,
            default_mount_opts: 0xc,
            errors_behavior: 1,
            raid_stride: 0,
            raid_stripe_width: 0,
        }),
    }
}
