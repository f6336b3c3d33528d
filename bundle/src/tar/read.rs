//! Reading: the entries of one tar chunk.

use ::tar::{EntryType, Header};
use node_model::{DeviceNumber, Entry, EntryKind};

use super::header::whole_second;
use super::pax::Records;
use super::{BLOCK_BYTES, TarError, encode_header, padded, sparse};
use crate::limits::PAX_BYTES_MAX;

/// Where an entry's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Here: the stored bytes without padding. Empty for everything that has no content.
    Here(&'a [u8]),
    /// In the data chunks that follow this tar chunk. Whether there are any, and whether they hold as much as the entry
    /// stores, is for [`crate::list::check_data`] to say.
    InDataChunks,
}

/// One entry of a tar chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarItem<'a> {
    /// The entry.
    pub entry: Entry,
    /// Where in the chunk its first header block is.
    pub offset: u32,
    /// Its content.
    pub content: Content<'a>,
}

/// Goes through the entries of one tar chunk. After an error it ends.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    chunk: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of a chunk's content.
    pub fn new(chunk: &'a [u8]) -> Self {
        Self { chunk, at: 0 }
    }

    /// A reader of the entries from the one that begins at `offset`.
    pub fn starting_at(chunk: &'a [u8], offset: u32) -> Self {
        Self { chunk, at: (offset as usize).min(chunk.len()) }
    }

    fn read(&mut self) -> Result<TarItem<'a>, &'static str> {
        let bytes = &self.chunk[self.at..];
        let mut rest = bytes;
        let mut header = take_header(&mut rest)?;
        let mut records = Records::default();
        if header.entry_type() == EntryType::XHeader {
            let size = header.entry_size().map_err(|_| "its PAX header has no size")?;
            if size > PAX_BYTES_MAX as u64 {
                return Err("its PAX header is larger than 1 MiB");
            }
            let body = take_blocks(&mut rest, size)?;
            records = Records::parse(&body[..size as usize])?;
            header = take_header(&mut rest)?;
        }
        let mut entry = entry_of(&header, &records)?;
        if let EntryKind::File { sparse: Some(extents), .. } = &mut entry.kind {
            *extents = sparse::parse(rest).ok_or("its sparse map is malformed")?;
        }
        // One spelling for each entry: comparing covers every field, checksum and padding at once.
        let written = encode_header(&entry).map_err(|error| match error {
            TarError::Entry { why, .. } | TarError::Malformed { why, .. } => why,
            TarError::TooMuchMetadata { .. } => "its PAX header is larger than 1 MiB",
        })?;
        let mut rest = bytes.strip_prefix(&written[..]).ok_or("its header is not spelled as this format does")?;

        let stored = entry.stored_bytes();
        let content = if stored > 0 && rest.is_empty() {
            Content::InDataChunks
        } else {
            let (content, padding) = take_blocks(&mut rest, stored)?.split_at(stored as usize);
            if padding.iter().any(|&byte| byte != 0) {
                return Err("the padding behind its content is not zero");
            }
            Content::Here(content)
        };
        let offset = self.at as u32;
        self.at = self.chunk.len() - rest.len();
        Ok(TarItem { entry, offset, content })
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<TarItem<'a>, TarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.chunk.len() {
            return None;
        }
        let offset = self.at;
        let item = self.read().map_err(|why| TarError::Malformed { offset, why });
        if item.is_err() {
            self.at = self.chunk.len();
        }
        Some(item)
    }
}

fn take_header(rest: &mut &[u8]) -> Result<Header, &'static str> {
    let block = take_blocks(rest, BLOCK_BYTES as u64)?;
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    if header.as_ustar().is_none() {
        return Err("no ustar header is there");
    }
    Ok(header)
}

fn take_blocks<'a>(rest: &mut &'a [u8], bytes: u64) -> Result<&'a [u8], &'static str> {
    let length = usize::try_from(padded(bytes)).map_err(|_| "the chunk ends within it")?;
    let (taken, left) = rest.split_at_checked(length).ok_or("the chunk ends within it")?;
    *rest = left;
    Ok(taken)
}

/// The entry that the headers describe. A sparse file's extents are left empty.
fn entry_of(header: &Header, records: &Records) -> Result<Entry, &'static str> {
    let number = |field: std::io::Result<u64>| field.map_err(|_| "a number in its header is malformed");
    let id = |field, record: Option<u32>| match record {
        Some(id) => Ok(id),
        None => u32::try_from(number(field)?).map_err(|_| "its owner is out of range"),
    };
    let mut path = match (&records.sparse, &records.path) {
        (Some((name, _)), _) => name.clone(),
        (None, Some(path)) => path.clone(),
        (None, None) => header.path_bytes().into_owned(),
    };
    let target = || match &records.linkpath {
        Some(target) => Ok(target.clone()),
        None => header.link_name_bytes().map(|name| name.into_owned()).ok_or("it is a link to nothing"),
    };
    let device = || match (header.device_major(), header.device_minor()) {
        (Ok(Some(major)), Ok(Some(minor))) => Ok(DeviceNumber { major, minor }),
        _ => Err("it is a device without a number"),
    };
    let kind = match header.entry_type() {
        EntryType::Regular => match records.sparse {
            Some((_, size)) => EntryKind::File { size, sparse: Some(Vec::new()) },
            None => {
                EntryKind::File { size: records.size.map_or_else(|| number(header.entry_size()), Ok)?, sparse: None }
            }
        },
        EntryType::Link => EntryKind::Hardlink { target: target()? },
        EntryType::Directory => EntryKind::Directory,
        EntryType::Symlink => EntryKind::Symlink { target: target()? },
        EntryType::Char => EntryKind::CharDevice(device()?),
        EntryType::Block => EntryKind::BlockDevice(device()?),
        EntryType::Fifo => EntryKind::Fifo,
        _ => return Err("its type is unknown"),
    };
    if kind == EntryKind::Directory {
        path.pop_if(|last| *last == b'/');
        if path == b"." {
            path.clear();
        }
    }
    let whole_seconds = || number(header.mtime()).and_then(|secs| whole_second(secs).ok_or("its time is out of range"));
    Ok(Entry {
        path,
        kind,
        mode: header.mode().map_err(|_| "a number in its header is malformed")?,
        uid: id(header.uid(), records.uid)?,
        gid: id(header.gid(), records.gid)?,
        mtime: records.mtime.map_or_else(whole_seconds, Ok)?,
        xattrs: records.xattrs.clone(),
        flags: records.flags,
        project_id: records.project_id,
    })
}
