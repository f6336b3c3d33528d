//! Content of made-up files: the same for the same seed, and about as compressible as a node's files are.

/// Words are taken from this many bytes. They recur within every chunk and every block of a compressor.
const VOCABULARY_BYTES: usize = 16 << 10;
/// Each piece is words, then noise: zstd makes about a third of it.
const PIECE_BYTES: usize = 64;
const NOISE_BYTES: usize = 16;
/// A database's page.
const PAGE_BYTES: usize = 8 << 10;
/// Every page has room left, which is zeros.
const PAGE_FILLED_BYTES: usize = 6 << 10;

/// A stream of content.
pub(super) struct Content {
    state: u64,
    vocabulary: Vec<u8>,
}

impl Content {
    pub(super) fn new(seed: u64) -> Self {
        let mut content = Self { state: 0x5EED, vocabulary: Vec::new() };
        while content.vocabulary.len() < VOCABULARY_BYTES {
            let random = content.next();
            let letters = (0..3 + random % 7).map(|at| b'a' + ((random >> (5 * at + 8)) % 26) as u8);
            content.vocabulary.extend(letters.chain([b' ']));
        }
        // A state of zero would stay zero.
        content.state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        content.next();
        content
    }

    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Fills `buffer` with words and noise.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(PIECE_BYTES) {
            let from = (self.next() as usize) % (VOCABULARY_BYTES - PIECE_BYTES);
            piece.copy_from_slice(&self.vocabulary[from..from + piece.len()]);
            for noise in piece.chunks_exact_mut(8).take(NOISE_BYTES / 8) {
                noise.copy_from_slice(&self.next().to_le_bytes());
            }
        }
    }

    /// Fills `buffer` as a database does: pages with a header, rows and room.
    pub(super) fn fill_pages(&mut self, buffer: &mut [u8]) {
        for page in buffer.chunks_mut(PAGE_BYTES) {
            let filled = page.len().min(PAGE_FILLED_BYTES);
            self.fill(&mut page[..filled]);
            page[filled..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(seed: u64) -> Vec<u8> {
        let mut buffer = vec![0; 5000];
        Content::new(seed).fill(&mut buffer);
        buffer
    }

    #[test]
    fn a_seed_makes_its_content_and_no_other() {
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }

    #[test]
    fn pages_have_room_left() {
        let mut buffer = vec![7; 2 * PAGE_BYTES];
        Content::new(3).fill_pages(&mut buffer);
        assert!(buffer[PAGE_FILLED_BYTES..PAGE_BYTES].iter().all(|byte| *byte == 0));
        assert!(buffer[PAGE_BYTES..PAGE_BYTES + PAGE_FILLED_BYTES].iter().any(|byte| *byte != 0));
    }
}
