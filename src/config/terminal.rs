//! Capabilities of the terminal: width, colours, and characters beyond ASCII.
//!
//! In:  the environment (`COLUMNS`, `NO_COLOR`, `TERM`, `LC_ALL`, `LC_CTYPE`, `LANG`) and standard output itself.
//! Out: a [`Terminal`], read once at the start of a command that draws.
//! Leaves to others: drawing.

use std::io::IsTerminal;

use super::Environment;

/// Width if neither `COLUMNS` nor a terminal specifies one.
const DEFAULT_COLUMNS: usize = 80;
/// Maximum width: wider lines are unreadable, and a stray `COLUMNS=1000000` must not produce lines of a megabyte.
const MAX_COLUMNS: usize = 400;

/// Properties of the output terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Width of a line in columns, at least 1.
    pub(crate) columns: usize,
    pub(crate) colour: Colour,
    pub(crate) charset: Charset,
}

/// Colour support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Ansi,
    None,
}

/// Character set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Unicode,
    Ascii,
}

// === impl Terminal ===

impl Terminal {
    /// Detects the terminal of this process's standard output.
    pub(crate) fn of_stdout() -> Self {
        let measured = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let kind = if std::io::stdout().is_terminal() { Colour::Ansi } else { Colour::None };
        Self::new(&Environment::of_process(), measured, kind)
    }

    /// Detects the terminal from variables; an empty one counts as unset. `possible` is the colour support to use unless a
    /// variable disables it.
    fn new(environment: &Environment, measured: Option<usize>, possible: Colour) -> Self {
        let variable = |name: &str| {
            let value = environment.get_os(name)?.to_str()?;
            (!value.is_empty()).then_some(value)
        };
        let columns = variable("COLUMNS")
            .and_then(|columns| columns.trim().parse().ok())
            .filter(|&columns| columns > 0)
            .or(measured.filter(|&columns| columns > 0))
            .unwrap_or(DEFAULT_COLUMNS)
            .min(MAX_COLUMNS);
        let plain = variable("NO_COLOR").is_some() || variable("TERM") == Some("dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
        Self {
            columns,
            colour: if plain { Colour::None } else { possible },
            charset: locale.map_or(Charset::Unicode, Charset::of_locale),
        }
    }
}

// === impl Charset ===

impl Charset {
    /// Returns the character set of a locale. `de_DE.UTF-8`, `C.utf8`: Unicode. `C`, `POSIX`, `en_US`, `ja_JP.eucJP`: only
    /// ASCII is certain. Without a locale (containers, Windows): Unicode, because today's terminals show UTF-8.
    fn of_locale(locale: &str) -> Self {
        let locale = locale.to_ascii_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { Self::Unicode } else { Self::Ascii }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(variables: &[(&str, &str)], measured: Option<usize>) -> Terminal {
        Terminal::new(&variables.iter().copied().collect(), measured, Colour::Ansi)
    }

    #[test]
    fn columns_come_before_the_terminal_and_the_terminal_before_eighty() {
        assert_eq!(terminal(&[("COLUMNS", "123")], Some(99)).columns, 123);
        assert_eq!(terminal(&[("COLUMNS", "many")], Some(99)).columns, 99);
        assert_eq!(terminal(&[("COLUMNS", "0")], None).columns, 80);
        assert_eq!(terminal(&[], Some(0)).columns, 80);
        assert_eq!(terminal(&[("COLUMNS", "1000000")], None).columns, 400);
    }

    #[test]
    fn no_color_and_a_dumb_terminal_turn_colours_off_and_an_empty_no_color_does_not() {
        assert_eq!(terminal(&[], None).colour, Colour::Ansi);
        assert_eq!(terminal(&[("NO_COLOR", "")], None).colour, Colour::Ansi);
        assert_eq!(terminal(&[("NO_COLOR", "1")], None).colour, Colour::None);
        assert_eq!(terminal(&[("TERM", "dumb")], None).colour, Colour::None);
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides_on_ascii() {
        assert_eq!(terminal(&[], None).charset, Charset::Unicode);
        assert_eq!(terminal(&[("LANG", "de_DE.UTF-8")], None).charset, Charset::Unicode);
        assert_eq!(terminal(&[("LANG", "C.utf8")], None).charset, Charset::Unicode);
        assert_eq!(terminal(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")], None).charset, Charset::Ascii);
        assert_eq!(terminal(&[("LANG", "C"), ("LC_CTYPE", "C.UTF-8")], None).charset, Charset::Unicode);
        assert_eq!(terminal(&[("LANG", "POSIX")], None).charset, Charset::Ascii);
    }
}
