//! Swap areas.

use node_model::{Bytes, Swap};

use super::{Fields, SuperblockError, read_bytes};
use crate::blockdev::ReadAt;

const MAGIC: &[u8; 10] = b"SWAPSPACE2";
/// Page sizes of the machines that Linux runs on.
const PAGE_SIZES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];

pub(super) fn read<R: ReadAt + ?Sized>(device: &R) -> Result<Swap, SuperblockError> {
    for page_size in PAGE_SIZES {
        // An area smaller than the page has no magic at its end either.
        let Ok(magic) = read_bytes::<10, R>(device, page_size - MAGIC.len() as u64) else { break };
        if &magic != MAGIC {
            continue;
        }
        let bytes: [u8; 512] = read_bytes(device, 1024)?;
        let header = Fields(&bytes);
        let version = header.le32(0);
        if version != 1 {
            return Err(SuperblockError::Damaged { kind: "swap", field: "version", value: version.into() });
        }
        let uuid = header.uuid(12);
        return Ok(Swap {
            uuid: uuid.bytes().any(|byte| !matches!(byte, b'0' | b'-')).then_some(uuid),
            label: header.label::<16>(28),
            page_size_bytes: page_size,
            size_bytes: Bytes((u64::from(header.le32(4)) + 1) * page_size),
        });
    }
    Err(SuperblockError::Absent { kind: "swap" })
}
