//! Colours and characters of a kind of terminal.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

/// What a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Only ASCII characters: a serial line.
    pub ascii: bool,
    /// The eight colours.
    pub colour: bool,
}

/// What a piece of text is, said in words or signs as well: no meaning is in a colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Title,
    Heading,
    Key,
    Good,
    Warning,
    Bad,
    Chosen,
}

impl Look {
    /// For lines of unknown abilities.
    pub const PLAIN: Self = Self { ascii: true, colour: false };
    /// For the virtual terminals of the kernel.
    pub const LINUX: Self = Self { ascii: false, colour: true };

    pub(crate) fn style(self, tone: Tone) -> Style {
        let colour = |colour: Color| if self.colour { Style::new().fg(colour) } else { Style::new() };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Title | Tone::Chosen => Style::new().add_modifier(Modifier::REVERSED),
            Tone::Heading => colour(Color::Cyan).add_modifier(Modifier::BOLD),
            Tone::Key => Style::new().add_modifier(Modifier::BOLD),
            Tone::Good => colour(Color::Green),
            Tone::Warning => colour(Color::Yellow),
            Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    pub(crate) fn borders(self) -> border::Set<'static> {
        const ASCII: border::Set<'static> = border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        };
        if self.ascii { ASCII } else { border::PLAIN }
    }

    /// Full and empty parts of a bar.
    pub(crate) const fn bar(self) -> [&'static str; 2] {
        if self.ascii { ["#", "."] } else { ["█", "░"] }
    }

    /// Texts of engine and manifests may hold any character; a serial line gets none that it may not know.
    pub(crate) fn make_plain(self, buffer: &mut Buffer) {
        if !self.ascii {
            return;
        }
        for cell in &mut buffer.content {
            if !cell.symbol().is_ascii() {
                let plain = match cell.symbol() {
                    "…" => ".",
                    "→" => ">",
                    "–" | "—" => "-",
                    "‘" | "’" => "'",
                    "“" | "”" => "\"",
                    _ => "?",
                };
                cell.set_symbol(plain);
            }
        }
    }
}
