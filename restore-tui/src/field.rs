//! Lines that are typed.

use crate::Key;

/// The longest text that a field takes.
const FIELD_CHARS_MAX: usize = 255;
/// Characters of a restore code, without the dashes between its groups of four.
const CODE_CHARS: usize = 20;
const CODE_GROUP: usize = 4;

/// A line of text with a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Field {
    text: Vec<char>,
    cursor: usize,
}

impl Field {
    /// A field that holds `text`, the cursor at its end.
    pub fn with(text: &str) -> Self {
        let text: Vec<char> = text.chars().filter(|c| !c.is_control()).take(FIELD_CHARS_MAX).collect();
        Self { cursor: text.len(), text }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// Where the cursor is, in characters.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Takes a key; whether it meant something here.
    pub fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Char(c) => self.insert(c),
            Key::Backspace | Key::Ctrl('h') if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::Delete | Key::Ctrl('d') if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
            }
            Key::Ctrl('u') => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            Key::Ctrl('k') => self.text.truncate(self.cursor),
            Key::Ctrl('w') => {
                let word = self.text[..self.cursor].iter().rev().skip_while(|c| !c.is_alphanumeric());
                let kept = word.skip_while(|c| c.is_alphanumeric()).count();
                self.text.drain(kept..self.cursor);
                self.cursor = kept;
            }
            Key::Left | Key::Ctrl('b') => self.cursor = self.cursor.saturating_sub(1),
            Key::Right | Key::Ctrl('f') => self.cursor = (self.cursor + 1).min(self.text.len()),
            Key::Home | Key::Ctrl('a') => self.cursor = 0,
            Key::End | Key::Ctrl('e') => self.cursor = self.text.len(),
            _ => return false,
        }
        true
    }

    /// Takes text that was pasted; line ends in it do not count as Enter.
    pub fn paste(&mut self, text: &str) {
        text.trim().chars().for_each(|c| self.insert(c));
    }

    fn insert(&mut self, c: char) {
        if !c.is_control() && self.text.len() < FIELD_CHARS_MAX {
            self.text.insert(self.cursor, c);
            self.cursor += 1;
        }
    }
}

/// A restore code: shown in groups, whatever dashes and cases are typed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CodeField {
    characters: String,
}

impl std::fmt::Debug for CodeField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl CodeField {
    /// Takes a key; whether it meant something here.
    pub fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Char(c) => self.insert(c),
            Key::Backspace | Key::Delete | Key::Ctrl('h') => {
                self.characters.pop();
            }
            Key::Ctrl('u') => self.characters.clear(),
            _ => return false,
        }
        true
    }

    /// Takes text that was pasted.
    pub fn paste(&mut self, text: &str) {
        text.chars().for_each(|c| self.insert(c));
    }

    /// Whether nothing is typed.
    pub fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    /// Whether all of it is typed.
    pub fn is_complete(&self) -> bool {
        self.characters.len() == CODE_CHARS
    }

    /// How many characters are missing.
    pub fn missing(&self) -> usize {
        CODE_CHARS - self.characters.len()
    }

    /// The code in groups of four.
    pub fn text(&self) -> String {
        let characters: Vec<char> = self.characters.chars().collect();
        characters.chunks(CODE_GROUP).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-")
    }

    fn insert(&mut self, c: char) {
        if c.is_ascii_alphanumeric() && self.characters.len() < CODE_CHARS {
            self.characters.push(c.to_ascii_uppercase());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(field: &mut Field, keys: impl IntoIterator<Item = Key>) -> String {
        keys.into_iter().for_each(|key| {
            field.press(key);
        });
        field.text()
    }

    #[test]
    fn a_line_is_edited_as_in_a_shell() {
        let mut field = Field::with("https://10.0.2.3");
        assert_eq!(typed(&mut field, [Key::Backspace, Key::Char('2')]), "https://10.0.2.2");
        assert_eq!(typed(&mut field, [Key::Home, Key::Char('>'), Key::Delete]), ">ttps://10.0.2.2");
        assert_eq!(typed(&mut field, [Key::End, Key::Ctrl('w')]), ">ttps://10.0.2.");
        assert_eq!(typed(&mut field, [Key::Left, Key::Left, Key::Ctrl('k')]), ">ttps://10.0.");
        assert_eq!(typed(&mut field, [Key::Ctrl('u')]), "");
        assert_eq!(typed(&mut field, [Key::Backspace, Key::Delete, Key::Left, Key::Ctrl('w')]), "");
    }

    #[test]
    fn pasted_line_ends_are_not_enter() {
        let mut field = Field::default();
        field.paste("  https://host\r\n:8443\n");
        assert_eq!(field.text(), "https://host:8443");
        field.paste(&"x".repeat(1000));
        assert_eq!(field.text().len(), FIELD_CHARS_MAX);
    }

    #[test]
    fn a_code_may_be_typed_in_any_way() {
        let mut field = CodeField::default();
        field.paste("abcd efgh-JKMN");
        assert_eq!((field.text().as_str(), field.missing()), ("ABCD-EFGH-JKMN", 8));
        "-p-qrstvwx9".chars().for_each(|c| {
            field.press(Key::Char(c));
        });
        assert_eq!((field.text().as_str(), field.is_complete()), ("ABCD-EFGH-JKMN-PQRS-TVWX", true));
        field.press(Key::Backspace);
        assert_eq!(field.text(), "ABCD-EFGH-JKMN-PQRS-TVW");
        assert!(!format!("{field:?}").contains("ABCD"));
    }
}
