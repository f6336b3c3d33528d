//! Restore codes: what a person types at a dead machine.
//!
//! `XXXX-XXXX-XXXX-XXXX-XXXX`, twenty characters of Crockford's base32, 100 bits. The first twelve characters are the
//! first 60 bits of the root key's fingerprint, so typing the code proves the server to the machine; the last eight
//! are a secret of 40 bits that the server accepts once.

use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

use crate::Hash;
use crate::sign::{self, RandomnessError};
use crate::trust::{self, Fingerprint};

/// Characters of a code without its dashes.
pub const CODE_CHARS: usize = 20;
const PREFIX_CHARS: usize = 12;
const GROUP_CHARS: usize = 4;
/// Longest text that is looked at, dashes and blanks included.
const CODE_TEXT_BYTES_MAX: usize = 128;
/// Crockford's alphabet: no I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A restore code. `Debug` does not show it; [`RestoreCode::reveal`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct RestoreCode {
    root_prefix: u64,
    secret: Zeroizing<u64>,
}

/// Text that is no restore code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Too few or too many characters.
    #[error("a restore code has {CODE_CHARS} characters in five groups; this has {0}")]
    Length(usize),
    /// The secret part alone, sent by a client, has not eight characters.
    #[error("the secret part of a restore code has 8 characters; this has {0}")]
    SecretLength(usize),
    /// A character that no code has.
    #[error("`{character}` (character {position}) does not occur in restore codes")]
    Character {
        /// The character.
        character: char,
        /// Its position among the characters that count, from 1.
        position: usize,
    },
}

impl CodeError {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Length(_) | Self::SecretLength(_) => {
                "compare it with what `rerack arm` printed: XXXX-XXXX-XXXX-XXXX-XXXX; dashes and case do not matter"
            }
            Self::Character { .. } => {
                "codes are digits and letters without I, L, O and U; O is read as 0, I and L as 1"
            }
        }
    }
}

impl RestoreCode {
    /// The code for the repository with this root key, with a given secret.
    pub fn new(root: &Fingerprint, secret: [u8; 5]) -> Self {
        let [a, b, c, d, e] = secret;
        Self {
            root_prefix: trust::root_prefix_of(root),
            secret: Zeroizing::new(u64::from_be_bytes([0, 0, 0, a, b, c, d, e])),
        }
    }

    /// A new code for the repository with this root key.
    pub fn generate(root: &Fingerprint) -> Result<Self, RandomnessError> {
        Ok(Self::new(root, *sign::random_bytes()?))
    }

    /// The first 60 bits of the root key's fingerprint.
    pub fn root_prefix(&self) -> u64 {
        self.root_prefix
    }

    /// What the server keeps of the secret.
    ///
    /// Forty bits can be found again from any plain hash, so the key derivation's context only separates this use
    /// from others: the code's short life and the limit on tries are what protects it.
    pub fn secret_digest(&self) -> Hash {
        digest(*self.secret)
    }

    /// The eight characters of the secret, for the request that opens a session. Do not log them.
    pub fn reveal_secret(&self) -> String {
        spell(*self.secret, CODE_CHARS - PREFIX_CHARS)
    }

    /// The whole code in groups. Do not log it.
    pub fn reveal(&self) -> String {
        let all = spell(self.root_prefix, PREFIX_CHARS) + &self.reveal_secret();
        let groups: Vec<&str> = (0..CODE_CHARS).step_by(GROUP_CHARS).map(|at| &all[at..at + GROUP_CHARS]).collect();
        groups.join("-")
    }
}

impl fmt::Debug for RestoreCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestoreCode(..)")
    }
}

impl FromStr for RestoreCode {
    type Err = CodeError;

    /// Reads a code as people type it: any case, dashes and blanks anywhere or nowhere, O for 0, I and L for 1.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.len() > CODE_TEXT_BYTES_MAX {
            return Err(CodeError::Length(text.chars().count()));
        }
        let values = values_of(text)?;
        if values.len() != CODE_CHARS {
            return Err(CodeError::Length(values.len()));
        }
        let (prefix, secret) = values.split_at(PREFIX_CHARS);
        Ok(Self { root_prefix: number(prefix), secret: Zeroizing::new(number(secret)) })
    }
}

/// The digest of the secret part that a client sent, as [`RestoreCode::secret_digest`] has it of the whole code.
pub fn digest_of_secret(text: &str) -> Result<Hash, CodeError> {
    if text.len() > CODE_TEXT_BYTES_MAX {
        return Err(CodeError::SecretLength(text.chars().count()));
    }
    let values = values_of(text)?;
    if values.len() != CODE_CHARS - PREFIX_CHARS {
        return Err(CodeError::SecretLength(values.len()));
    }
    Ok(digest(number(&values)))
}

fn digest(secret: u64) -> Hash {
    let mut bytes = secret.to_be_bytes();
    let digest = Hash::from_bytes(blake3::derive_key("rerack 2026-11 restore code secret v1", &bytes));
    bytes.zeroize();
    digest
}

/// The values of the characters that count.
fn values_of(text: &str) -> Result<Zeroizing<Vec<u8>>, CodeError> {
    let mut values = Zeroizing::new(Vec::with_capacity(CODE_TEXT_BYTES_MAX));
    for character in text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}')) {
        let position = values.len() + 1;
        values.push(value_of(character).ok_or(CodeError::Character { character, position })?);
    }
    Ok(values)
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, &digit| number << 5 | u64::from(digit))
}

fn value_of(character: char) -> Option<u8> {
    let upper = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.iter().position(|&letter| letter as char == upper).map(|value| value as u8)
}

fn spell(number: u64, chars: usize) -> String {
    (0..chars).rev().map(|place| ALPHABET[(number >> (5 * place)) as usize & 31] as char).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sign::RootKey;

    fn code() -> RestoreCode {
        RestoreCode::new(&RootKey::from_seed(&[5; 32]).id(), [0x01, 0x23, 0x45, 0x67, 0x89])
    }

    #[test]
    fn a_code_is_pinned() {
        insta::assert_snapshot!(format!("{}\n{}", code().reveal(), code().secret_digest()));
        assert!(!format!("{:?}", code()).contains(&code().reveal_secret()));
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let text = code().reveal();
        let forms = [
            text.to_lowercase(),
            text.replace('-', ""),
            text.replace('-', " "),
            format!("  {} ", text.replace('0', "o").replace('1', "l")),
            text.replace('1', "I").replace('-', "\u{2013}"),
        ];
        for form in forms {
            assert_eq!(form.parse::<RestoreCode>(), Ok(code()), "{form}");
        }
    }

    #[test]
    fn what_is_no_code_is_refused_with_the_reason() {
        let refused = ["", "ABCD-EFGH", "0000-0000-0000-0000-000U", "0000-0000-0000-0000-00000", "пароль"]
            .map(|text| {
                let error = text.parse::<RestoreCode>().unwrap_err();
                format!("{text:?}\n  {error}\n  hint: {}", error.hint())
            })
            .join("\n");
        insta::assert_snapshot!(refused);
        assert_eq!("x".repeat(4000).parse::<RestoreCode>(), Err(CodeError::Length(4000)));
    }

    proptest! {
        #[test]
        fn every_code_survives_its_text(seed: [u8; 32], secret: [u8; 5]) {
            let code = RestoreCode::new(&RootKey::from_seed(&seed).id(), secret);
            prop_assert_eq!(code.reveal().parse::<RestoreCode>(), Ok(code.clone()));
            prop_assert_eq!(digest_of_secret(&code.reveal_secret()), Ok(code.secret_digest()));
            prop_assert_eq!(code.root_prefix() >> 60, 0);
        }
    }
}
