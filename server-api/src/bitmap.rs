//! The answer to "which of these chunks are missing".

/// One bit for each chunk asked for, in the order asked: chunk `i` is bit `i % 8` (least significant first) of byte
/// `i / 8`; set means missing. Bits beyond the last chunk are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingChunks {
    bits: Vec<u8>,
    count: usize,
}

/// An answer that does not fit its question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer has {found} bytes for {asked} chunks, or bits set beyond them")]
pub struct BadBitmap {
    found: usize,
    asked: usize,
}

impl MissingChunks {
    /// The answer whose `i`-th item says whether chunk `i` is missing.
    pub fn from_flags(flags: impl IntoIterator<Item = bool>) -> Self {
        let mut bits = Vec::new();
        let mut count = 0;
        for missing in flags {
            if count % 8 == 0 {
                bits.push(0);
            }
            bits[count / 8] |= u8::from(missing) << (count % 8);
            count += 1;
        }
        Self { bits, count }
    }

    /// Reads the answer to a question of `asked` chunks.
    pub fn from_bytes(bytes: &[u8], asked: usize) -> Result<Self, BadBitmap> {
        let stray = !asked.is_multiple_of(8) && bytes.last().is_some_and(|&last| last >> (asked % 8) != 0);
        if bytes.len() != asked.div_ceil(8) || stray {
            return Err(BadBitmap { found: bytes.len(), asked });
        }
        Ok(Self { bits: bytes.to_vec(), count: asked })
    }

    /// The bytes that travel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Whether chunk `index` of the question is missing; chunks that were not asked for are not.
    pub fn is_missing(&self, index: usize) -> bool {
        index < self.count && self.bits[index / 8] >> (index % 8) & 1 == 1
    }

    /// How many are missing.
    pub fn missing_count(&self) -> usize {
        self.bits.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_survives_the_way() {
        let flags = [true, false, false, true, false, true, true, false, true, true];
        let sent = MissingChunks::from_flags(flags);
        assert_eq!(sent.as_bytes(), [0b0110_1001, 0b11]);
        let read = MissingChunks::from_bytes(sent.as_bytes(), flags.len()).unwrap();
        for (index, missing) in flags.into_iter().enumerate() {
            assert_eq!(read.is_missing(index), missing, "chunk {index}");
        }
        assert_eq!(read.missing_count(), 6);
        assert!(!read.is_missing(10));
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        assert!(MissingChunks::from_bytes(&[0], 9).is_err());
        assert!(MissingChunks::from_bytes(&[0, 0], 8).is_err());
        assert!(MissingChunks::from_bytes(&[0b100], 2).is_err());
        assert!(MissingChunks::from_bytes(&[], 0).is_ok());
    }
}
