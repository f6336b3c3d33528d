//! Where a file holds data.

use std::os::fd::AsFd;

use node_model::Extent;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Most extents recorded of one file, the bound of the bundle format; one in more pieces is stored densely.
pub const EXTENTS_MAX: usize = 65_536;

/// What is known of a file's holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileExtents {
    /// It has none, or its filesystem does not tell.
    Dense,
    /// The stretches that hold data; none for a file that is one hole.
    Sparse(Vec<Extent>),
    /// It has holes, but more than can be recorded.
    TooMany,
}

/// Asks the kernel where a file of `size` bytes holds data. The file's offset is moved.
pub fn data_extents(file: impl AsFd, size: u64) -> Result<FileExtents, std::io::Error> {
    let file = file.as_fd();
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) if at == 0 => return Ok(FileExtents::Dense),
            Err(errno) => return Err(errno.into()),
        };
        // The file may have grown since its size was asked for: what is beyond is not looked at.
        if start >= size {
            break;
        }
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            // It shrank between the two calls. Reading will find out and try again.
            Err(Errno::NXIO) => size,
            Err(errno) => return Err(errno.into()),
        };
        if start == 0 && end == size {
            return Ok(FileExtents::Dense);
        }
        if extents.len() == EXTENTS_MAX {
            return Ok(FileExtents::TooMany);
        }
        extents.push(Extent { offset: start, length: end - start });
        at = end;
    }
    Ok(if size == 0 { FileExtents::Dense } else { FileExtents::Sparse(extents) })
}
