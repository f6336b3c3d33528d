//! A page of lines, broken to a width, so that it can be scrolled.

use ratatui::text::{Line, Span};

use super::look::{Look, Tone};

/// Texts from outside may be long; a screen shows so much of one.
const TEXT_CHARS_MAX: usize = 4000;

/// Lines that fit a width.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) lines: Vec<Line<'static>>,
    /// Line and column of the cursor.
    pub(crate) cursor: Option<(usize, u16)>,
    /// The line that must be seen.
    pub(crate) focus: Option<usize>,
    pub(crate) look: Look,
    width: usize,
}

impl Page {
    pub(crate) fn new(width: u16, look: Look) -> Self {
        Self { lines: Vec::new(), cursor: None, focus: None, look, width: usize::from(width).max(8) }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn blank(&mut self) {
        self.lines.push(Line::default());
    }

    pub(crate) fn heading(&mut self, text: &str) {
        if !self.lines.is_empty() {
            self.blank();
        }
        self.text(Tone::Heading, text);
    }

    /// A paragraph.
    pub(crate) fn text(&mut self, tone: Tone, text: &str) {
        self.hanging(tone, "", text);
    }

    /// A paragraph whose first line begins with `mark` and whose others are moved in as far.
    pub(crate) fn hanging(&mut self, tone: Tone, mark: &str, text: &str) {
        let indent = mark.chars().count();
        let style = self.look.style(tone);
        for (at, piece) in broken(text, self.width.saturating_sub(indent)).into_iter().enumerate() {
            let front = if at == 0 { mark.to_owned() } else { " ".repeat(indent) };
            self.lines.push(Line::from(vec![Span::raw(front), Span::styled(piece, style)]));
        }
    }

    /// `label   value`, the values below one another.
    pub(crate) fn pair(&mut self, label: &str, value: &str) {
        let mark = format!("{label:<16} ");
        self.hanging(Tone::Plain, &mark, value);
    }

    /// One line as it is, cut at the width.
    pub(crate) fn row(&mut self, tone: Tone, text: &str) {
        let text: String = clean(text).chars().take(self.width).collect();
        self.lines.push(Line::styled(text, self.look.style(tone)));
    }

    /// A field with its cursor, if it has the focus.
    pub(crate) fn field(&mut self, text: &str, cursor: Option<usize>) {
        let room = self.width.saturating_sub(3);
        let skip = cursor.unwrap_or(0).saturating_sub(room);
        let shown: String = clean(text).chars().skip(skip).take(room).collect();
        if let Some(cursor) = cursor {
            self.cursor = Some((self.lines.len(), (2 + cursor - skip) as u16));
            self.focus = Some(self.lines.len());
        }
        let mark = if cursor.is_some() { "> " } else { "  " };
        let style = self.look.style(Tone::Key);
        let padded = format!("{shown:_<width$}", width = room.min(40));
        self.lines.push(Line::from(vec![Span::styled(mark, style), Span::raw(padded)]));
    }

    /// A bar of hundredths.
    pub(crate) fn bar(&mut self, percent: u8) {
        let room = self.width.saturating_sub(8);
        let full = room * usize::from(percent.min(100)) / 100;
        let [done, left] = self.look.bar();
        let style = self.look.style(Tone::Good);
        self.lines.push(Line::from(vec![
            Span::raw("["),
            Span::styled(done.repeat(full), style),
            Span::raw(format!("{}] {percent:>3}%", left.repeat(room - full))),
        ]));
    }
}

/// Control characters would move the cursor or change colours.
pub(crate) fn clean(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The text in pieces of at most `width` characters, broken at spaces where there are any.
fn broken(text: &str, width: usize) -> Vec<String> {
    let width = width.max(4);
    let mut pieces = Vec::new();
    for line in text.split('\n') {
        let mut piece = String::new();
        let mut length = 0;
        for word in clean(line).split(' ') {
            let mut word = word;
            let mut letters = word.chars().count();
            if length > 0 && length + 1 + letters <= width {
                piece.push(' ');
                length += 1;
            } else if length > 0 {
                pieces.push(std::mem::take(&mut piece));
                length = 0;
            }
            while letters > width {
                let at = word.char_indices().nth(width).map_or(word.len(), |(at, _)| at);
                pieces.push(word[..at].to_owned());
                word = &word[at..];
                letters -= width;
            }
            piece.push_str(word);
            length += letters;
        }
        pieces.push(piece);
    }
    pieces
}

/// `640 ms`, `4.2 s`, `1 min 05 s`, `2 h 03 min`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_spaces_and_long_words_anywhere() {
        assert_eq!(broken("one two three", 7), ["one two", "three"]);
        assert_eq!(broken("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(broken("a\n\nb", 9), ["a", "", "b"]);
        assert_eq!(broken("", 9), [""]);
        assert_eq!(broken("äöüß äö", 4), ["äöüß", "äö"]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\tc\u{9b}d"), "a [2Jb c d");
    }

    #[test]
    fn times_are_short() {
        let times = [640, 4_250, 65_000, 7_400_000].map(duration);
        assert_eq!(times, ["640 ms", "4.2 s", "1 min 05 s", "2 h 03 min"]);
    }
}
