//! Where a file holds data.

use std::os::fd::{AsFd, BorrowedFd};

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

/// Asks the kernel where a file of `size` bytes holds data, and leaves the file's offset at its beginning.
pub fn data_extents(file: impl AsFd, size: u64) -> Result<FileExtents, std::io::Error> {
    let extents = seek_extents(file.as_fd(), size)?;
    // Asking moved the offset, and whoever reads the file next means all of it.
    seek(file, SeekFrom::Start(0))?;
    Ok(extents)
}

fn seek_extents(file: BorrowedFd<'_>, size: u64) -> Result<FileExtents, std::io::Error> {
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_file_is_read_whole_after_its_holes_were_asked_for() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"all of it").unwrap();
        assert_eq!(data_extents(&file, 9).unwrap(), FileExtents::Dense);
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "all of it");
    }
}
