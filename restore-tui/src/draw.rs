//! Drawing: a pure function of the model.

mod look;
mod page;
mod views;

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Padding, Paragraph};

pub use look::Look;

use crate::model::{Model, Overlay, View};
use look::Tone;
use page::Page;

/// Smaller than this there is nothing that could be read.
const WIDTH_MIN: u16 = 20;
const HEIGHT_MIN: u16 = 7;
/// Title, keys and the two borders.
const FRAME_LINES: u16 = 4;
/// Borders and one column of air on each side.
const FRAME_COLUMNS: u16 = 4;

/// Draws the screen.
pub fn draw(model: &Model, look: Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        frame.render_widget(Paragraph::new("rerack: enlarge this window"), area);
        return;
    }
    draw_title(model, look, frame, Rect { height: 1, ..area });
    let body = Rect { y: area.y + 1, height: area.height - 2, ..area };
    let block = Block::bordered().border_set(look.borders()).padding(Padding::horizontal(1));
    let inner = block.inner(body);
    frame.render_widget(block, body);

    let page = page_of(model, look, inner.width);
    let first = first_line(model, &page, inner.height);
    let more = page.lines.len().saturating_sub(first + usize::from(inner.height));
    let shown: Vec<Line<'_>> = page.lines.iter().skip(first).take(usize::from(inner.height)).cloned().collect();
    frame.render_widget(Paragraph::new(shown), inner);
    if let Some((line, column)) = page.cursor
        && let Some(line) = line.checked_sub(first)
        && line < usize::from(inner.height)
    {
        frame.set_cursor_position(Position::new(inner.x + column.min(inner.width - 1), inner.y + line as u16));
    }
    draw_keys(model, look, frame, Rect { y: area.bottom() - 1, height: 1, ..area }, first > 0, more);
    look.make_plain(frame.buffer_mut());
}

fn page_of(model: &Model, look: Look, width: u16) -> Page {
    let mut page = Page::new(width, look);
    views::fill(model, &mut page);
    page
}

/// The line at the top: where the operator scrolled to, or such that the cursor can be seen.
fn first_line(model: &Model, page: &Page, height: u16) -> usize {
    let height = usize::from(height);
    let end = page.lines.len().saturating_sub(height);
    match page.focus {
        Some(focus) => (focus + 2).saturating_sub(height).min(end),
        None => model.ui.scroll.min(end),
    }
}

/// How far the screen can be scrolled.
pub(crate) fn scroll_end(model: &Model) -> usize {
    let width = model.ui.width.saturating_sub(FRAME_COLUMNS);
    let height = usize::from(model.ui.height.saturating_sub(FRAME_LINES));
    page_of(model, Look::PLAIN, width).lines.len().saturating_sub(height)
}

/// One bar in one style, blanks included: so it reaches a serial line in one piece.
fn draw_title(model: &Model, look: Look, frame: &mut Frame<'_>, area: Rect) {
    let version = model.session.as_ref().map(|session| format!(" {}", session.version)).unwrap_or_default();
    let left = format!(" rerack{version} | {} ", model.title());
    let machine = model.session.as_ref().map(|session| session.machine.clone()).unwrap_or_default();
    let width = usize::from(area.width);
    let room = width.saturating_sub(left.chars().count() + 1);
    let right: String = machine.chars().filter(|c| !c.is_control()).take(room).collect();
    let bar = format!("{left}{right:>room$} ");
    frame.render_widget(Paragraph::new(Span::styled(bar, look.style(Tone::Title))), area);
}

fn draw_keys(model: &Model, look: Look, frame: &mut Frame<'_>, area: Rect, above: bool, more: usize) {
    let mut keys = views::keys(model);
    if above || more > 0 {
        keys.insert(0, ("Up/Down", if more > 0 { "more" } else { "scroll" }));
    }
    let width = usize::from(area.width);
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, meaning) in keys {
        let length = key.chars().count() + meaning.chars().count() + 4;
        if used + length > width {
            break;
        }
        used += length;
        spans.push(Span::raw(" "));
        spans.push(Span::styled(key.to_owned(), look.style(Tone::Key)));
        spans.push(Span::raw(format!(" {meaning}  ")));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// Whether this screen takes typed text, so that letters are no commands.
fn is_typing(model: &Model) -> bool {
    model.ui.overlay.is_none() && matches!(model.view(), View::Text | View::Code | View::Consent)
}

fn is_leaving(model: &Model) -> bool {
    model.ui.overlay == Some(Overlay::Leave)
}
