//! What a screen hears and what it does.

use restore_events::{Command, Record};

/// A key, as far as the screens know keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Control and a letter.
    Ctrl(char),
    /// Enter.
    Enter,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// A screenful up.
    PageUp,
    /// A screenful down.
    PageDown,
    /// Next field.
    Tab,
    /// Field before.
    BackTab,
    /// Escape.
    Esc,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The engine told something.
    Record(Box<Record>),
    /// The engine said something that is not understood; in words.
    Nonsense(String),
    /// The engine answers.
    Connected,
    /// The engine is gone.
    Disconnected,
    /// What `init` says is going on.
    Status(String),
    /// A key.
    Key(Key),
    /// Text pasted at once.
    Paste(String),
    /// The terminal has another size.
    Resize {
        /// Columns.
        width: u16,
        /// Lines.
        height: u16,
    },
    /// Milliseconds since this process began.
    Tick(u64),
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the engine.
    Send(Command),
    /// Exit so that `init` opens the rescue shell here.
    OpenShell,
    /// Draw everything anew, whatever the terminal shows.
    Repaint,
}
