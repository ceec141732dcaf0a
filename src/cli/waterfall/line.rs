//! One line of a drawing: segments of text, each with its paint.

use super::text::{fit, width};
use crate::config::terminal::{Colour, Terminal};

/// One line, without its line end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StyledLine {
    pieces: Vec<(Paint, String)>,
}

/// Role of a segment of text, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Title,
    Aside,
    Error,
    Good,
    Event,
    /// Bar of a span of the service with this index.
    Bar(usize),
}

// === impl StyledLine ===

impl StyledLine {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends a segment. The text must be escaped already.
    pub(crate) fn with(mut self, paint: Paint, text: impl Into<String>) -> Self {
        self.push(paint, text);
        self
    }

    pub(crate) fn push(&mut self, paint: Paint, text: impl Into<String>) {
        let text = text.into();
        match self.pieces.last_mut() {
            Some((last, end)) if *last == paint => end.push_str(&text),
            _ => self.pieces.push((paint, text)),
        }
    }

    /// Appends spaces up to this column.
    pub(crate) fn pad_to(&mut self, column: usize) {
        let missing = column.saturating_sub(self.width());
        self.push(Paint::Plain, " ".repeat(missing));
    }

    pub(crate) fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| width(text)).sum()
    }

    /// Renders the line for the terminal: cut to its width, without trailing spaces.
    pub(crate) fn render(&self, terminal: &Terminal) -> String {
        let mut rendered = String::new();
        let mut room = terminal.columns;
        for (position, (paint, text)) in self.pieces.iter().enumerate() {
            let rest_is_blank =
                self.pieces.iter().skip(position + 1).all(|(_, text)| text.bytes().all(|byte| byte == b' '));
            let text = if rest_is_blank { text.trim_end_matches(' ') } else { text };
            let text = fit(text, room, terminal.charset);
            room -= width(&text);
            match paint.code().filter(|_| terminal.colour == Colour::Ansi && !text.is_empty()) {
                Some(code) => {
                    rendered.extend(["\u{1b}[", code, "m", text.as_str(), "\u{1b}[0m"]);
                }
                None => rendered.push_str(&text),
            }
            if rest_is_blank {
                break;
            }
        }
        rendered
    }
}

// === impl Paint ===

impl Paint {
    /// Returns the parameters of the ANSI sequence "select graphic rendition". Bars avoid red, which means error.
    fn code(self) -> Option<&'static str> {
        const BARS: [&str; 5] = ["36", "34", "35", "32", "33"];
        match self {
            Self::Plain => None,
            Self::Title => Some("1"),
            Self::Aside => Some("2"),
            Self::Error => Some("31"),
            Self::Good => Some("32"),
            Self::Event => Some("1;33"),
            Self::Bar(service) => Some(BARS[service % BARS.len()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::terminal::Charset;

    fn terminal(columns: usize, colour: Colour) -> Terminal {
        Terminal { columns, colour, charset: Charset::Unicode }
    }

    #[test]
    fn colours_appear_only_when_enabled() {
        let line =
            StyledLine::new().with(Paint::Title, "edge").with(Paint::Plain, "  ").with(Paint::Error, "!");
        assert_eq!(line.render(&terminal(80, Colour::None)), "edge  !");
        assert_eq!(line.render(&terminal(80, Colour::Ansi)), "\u{1b}[1medge\u{1b}[0m  \u{1b}[31m!\u{1b}[0m");
    }

    #[test]
    fn a_line_is_cut_to_the_terminal_without_trailing_spaces() {
        let line =
            StyledLine::new().with(Paint::Plain, "東京  ").with(Paint::Aside, "   ").with(Paint::Plain, "  ");
        assert_eq!(line.render(&terminal(80, Colour::Ansi)), "東京");
        let line = StyledLine::new().with(Paint::Title, "edge").with(Paint::Plain, " GET /checkout");
        assert_eq!(line.render(&terminal(9, Colour::None)), "edge GET…");
        assert_eq!(line.render(&terminal(4, Colour::None)), "edge");
    }
}
