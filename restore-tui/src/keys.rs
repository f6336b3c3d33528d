//! Keys from a line that may tear them apart.

use crate::Key;

/// On a slow serial line the bytes of a cursor key arrive one by one and are taken for Escape, `[` and a letter.
/// This puts them together again. Whoever feeds it must call [`EscapeJoiner::flush`] when nothing followed for a
/// little while, so that a real Escape is heard.
#[derive(Debug, Default)]
pub struct EscapeJoiner {
    held: Vec<Key>,
}

impl EscapeJoiner {
    /// Whether something is held back.
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes a key and returns those that are certain now.
    pub fn push(&mut self, key: Key) -> Vec<Key> {
        if key == Key::Esc {
            let before = self.flush();
            self.held.push(key);
            return before;
        }
        if self.held.is_empty() {
            return vec![key];
        }
        self.held.push(key);
        match meaning(&self.held) {
            Meaning::Part => Vec::new(),
            Meaning::Whole(key) => {
                self.held.clear();
                vec![key]
            }
            Meaning::Nothing => self.flush(),
        }
    }

    /// What was held back, as it came.
    pub fn flush(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.held)
    }
}

enum Meaning {
    Part,
    Whole(Key),
    Nothing,
}

fn meaning(held: &[Key]) -> Meaning {
    use Key::{Char, Esc};
    let key = match held {
        [Esc, Char('[' | 'O')] | [Esc, Char('['), Char('0'..='9')] => return Meaning::Part,
        [Esc, Char('[' | 'O'), Char(letter)] => match letter {
            'A' => Key::Up,
            'B' => Key::Down,
            'C' => Key::Right,
            'D' => Key::Left,
            'H' => Key::Home,
            'F' => Key::End,
            'Z' => Key::BackTab,
            _ => return Meaning::Nothing,
        },
        [Esc, Char('['), Char(digit), Char('~')] => match digit {
            '1' | '7' => Key::Home,
            '3' => Key::Delete,
            '4' | '8' => Key::End,
            '5' => Key::PageUp,
            '6' => Key::PageDown,
            _ => return Meaning::Nothing,
        },
        _ => return Meaning::Nothing,
    };
    Meaning::Whole(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Key::{Char, Esc};

    fn joined(keys: &[Key]) -> Vec<Key> {
        let mut joiner = EscapeJoiner::default();
        let mut certain: Vec<Key> = keys.iter().flat_map(|key| joiner.push(*key)).collect();
        certain.extend(joiner.flush());
        certain
    }

    #[test]
    fn torn_cursor_keys_are_put_together() {
        assert_eq!(joined(&[Esc, Char('['), Char('A'), Char('x')]), [Key::Up, Char('x')]);
        assert_eq!(joined(&[Esc, Char('O'), Char('F')]), [Key::End]);
        assert_eq!(joined(&[Esc, Char('['), Char('6'), Char('~')]), [Key::PageDown]);
    }

    #[test]
    fn a_real_escape_and_what_follows_are_kept() {
        assert_eq!(joined(&[Esc]), [Esc]);
        assert_eq!(joined(&[Esc, Esc, Char('q')]), [Esc, Esc, Char('q')]);
        assert_eq!(joined(&[Esc, Char('['), Key::Enter]), [Esc, Char('['), Key::Enter]);
        assert_eq!(joined(&[Char('['), Char('A')]), [Char('['), Char('A')]);
    }
}
