//! Escaping, measuring and cutting of foreign text for a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::config::terminal::Charset;

/// Maximum number of characters shown of one string.
const MAX_SHOWN_CHARS: usize = 1024;
/// Maximum number of combining marks per letter; hundreds of them would spill over the lines above and below.
const MAX_MARKS_IN_A_ROW: usize = 2;

/// Escapes every character that a terminal would interpret or that would hide or reorder its neighbours: control
/// characters (and with them every ANSI sequence), bidirectional controls, invisible characters. Drops variation
/// selectors, because terminals disagree about their effect on the width. With ASCII, escapes everything else too.
pub(crate) fn harmless(text: &str, charset: Charset) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_SHOWN_CHARS));
    let mut marks = 0;
    for character in text.chars().take(MAX_SHOWN_CHARS) {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => continue,
            _ if is_control(character) || (charset == Charset::Ascii && !character.is_ascii()) => {
                shown.extend(character.escape_unicode());
            }
            _ if character.width() == Some(0) => {
                marks += 1;
                if marks <= MAX_MARKS_IN_A_ROW {
                    shown.push(character);
                }
                continue;
            }
            _ => shown.push(character),
        }
        marks = 0;
    }
    shown
}

/// Returns the width of the text in columns. The text must be escaped already.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Cuts the text to `columns` columns; text that was cut ends with an ellipsis.
pub(crate) fn fit(text: &str, columns: usize, charset: Charset) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > room {
            break;
        }
        cut.push(character);
    }
    cut.push(ellipsis(charset));
    cut
}

/// Returns the character that replaces cut text; one column wide.
pub(crate) fn ellipsis(charset: Charset) -> char {
    match charset {
        Charset::Unicode => '…',
        Charset::Ascii => '~',
    }
}

fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'   // zero-width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}'   // line and paragraph separators, embeddings and overrides
            | '\u{2060}'..='\u{206f}'   // invisible operators, isolates
            | '\u{fff9}'..='\u{fffb}'   // interlinear annotations
            | '\u{e0000}'..='\u{e007f}' // tags
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_ansi_sequences_and_bidi_overrides_are_escaped() {
        assert_eq!(
            harmless("a\u{1b}[31mb\u{7}\r\n\tc\u{9b}", Charset::Unicode),
            "a\\u{1b}[31mb\\u{7}\\r\\n\\tc\\u{9b}"
        );
        assert_eq!(
            harmless("user\u{202e}txt.exe\u{2066}\u{200d}", Charset::Unicode),
            "user\\u{202e}txt.exe\\u{2066}\\u{200d}"
        );
    }

    #[test]
    fn letters_of_every_script_are_kept_and_are_escaped_in_ascii() {
        assert_eq!(harmless("größe 東京 🚀", Charset::Unicode), "größe 東京 🚀");
        assert_eq!(harmless("größe", Charset::Ascii), "gr\\u{f6}\\u{df}e");
    }

    #[test]
    fn excess_combining_marks_and_variation_selectors_are_dropped() {
        let piled = format!("a{}b", "\u{301}".repeat(500));
        assert_eq!(harmless(&piled, Charset::Unicode), "a\u{301}\u{301}b");
        assert_eq!(harmless("❤\u{fe0f}!", Charset::Unicode), "❤!");
    }

    #[test]
    fn long_text_is_cut_before_it_is_processed() {
        assert_eq!(harmless(&"x".repeat(1 << 20), Charset::Unicode).len(), MAX_SHOWN_CHARS);
    }

    #[test]
    fn cutting_never_splits_a_wide_character_and_never_exceeds_the_columns() {
        assert_eq!(fit("東京都", 6, Charset::Unicode), "東京都");
        assert_eq!(fit("東京都", 5, Charset::Unicode), "東京…");
        assert_eq!(fit("東京都", 4, Charset::Unicode), "東…");
        assert_eq!(fit("checkout", 5, Charset::Ascii), "chec~");
        assert_eq!(fit("ab", 1, Charset::Unicode), "…");
        assert_eq!(fit("ab", 0, Charset::Unicode), "");
    }
}
