//! The Common Log Format and the Combined Log Format of NCSA, as Fastly's `%h %l %u %t "%r" %>s %b` writes them.
//!
//! In: one line. Out: its fields, or `None`. A syslog header may precede it, and a virtual host (`%v`), as in one of Fastly's formats.
//! Quotes inside a quoted field are not escaped there, so that the end of such a field is found by what must follow it.

use memchr::memmem;

use super::super::framing::header_length;

/// Fields of a line in one of the two formats. A field that is `-` or absent is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NcsaLine<'a> {
    pub(super) virtual_host: &'a str,
    pub(super) client: &'a str,
    pub(super) user: &'a str,
    pub(super) time: &'a str,
    /// Method, target and protocol.
    pub(super) request: &'a str,
    pub(super) status: &'a str,
    /// Length of the response's body.
    pub(super) bytes: &'a str,
    pub(super) referer: &'a str,
    pub(super) user_agent: &'a str,
}

/// Reads a line, without its line end.
pub(super) fn read(line: &str) -> Option<NcsaLine<'_>> {
    let mut names = [""; 4];
    let mut count = 0;
    let mut rest = line.get(header_length(line.as_bytes())..)?.trim_matches(' ');
    let time = loop {
        if let Some((time, behind)) = time(rest) {
            rest = behind;
            break time;
        }
        let (name, behind) = word(rest)?;
        *names.get_mut(count)? = name;
        (count, rest) = (count + 1, behind);
    };
    let (virtual_host, [client, _, user]) = match (count, names) {
        (3, [client, ident, user, _]) => ("", [client, ident, user]),
        (4, [virtual_host, client, ident, user]) => (virtual_host, [client, ident, user]),
        _ => return None,
    };
    let (request, rest) = request(rest)?;
    let (status, rest) = rest.split_at(3);
    let (bytes, rest) = word(rest.trim_start_matches(' '))?;
    if !bytes.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (referer, user_agent) = if rest.is_empty() { ("", "") } else { referer_and_agent(rest)? };
    Some(NcsaLine { virtual_host, client, user, time, request, status, bytes, referer, user_agent })
}

/// Reads a word, quoted or not, and the blanks after it; `-` is an empty word.
fn word(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None if text.is_empty() => return None,
        None => text.split_once(' ').unwrap_or((text, "")),
    };
    Some((set(word), rest.trim_start_matches(' ')))
}

/// Reads a time: one in brackets, or one of HTTP headers (`Sat, 28 Nov 2026 10:11:12 GMT`).
fn time(text: &str) -> Option<(&str, &str)> {
    const HTTP_DATE: usize = "Sat, 28 Nov 2026 10:11:12 GMT".len();
    let (time, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']')?,
        None if text.get(3..5) == Some(", ") => text.split_at_checked(HTTP_DATE)?,
        None => return None,
    };
    Some((time, rest.trim_start_matches(' ')))
}

/// Reads the request, which ends at the first quote that is followed by a status. The rest starts with the status.
fn request(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let end = memmem::find_iter(text.as_bytes(), b"\" ").find(|end| {
        let mut status = text.as_bytes()[end + 2..].iter();
        let digits = status.by_ref().take(3).filter(|byte| byte.is_ascii_digit()).count();
        digits == 3 && matches!(status.next(), None | Some(b' '))
    })?;
    Some((set(text.get(..end)?), text.get(end + 2..)?))
}

/// Reads the two quoted fields of the Combined Log Format. A referer has no quotes, and a user agent ends with the
/// line.
fn referer_and_agent(text: &str) -> Option<(&str, &str)> {
    let (referer, rest) = text.strip_prefix('"')?.split_once("\" \"")?;
    let user_agent = rest.trim_end_matches(' ').strip_suffix('"')?;
    Some((set(referer), set(user_agent)))
}

fn set(field: &str) -> &str {
    if field == "-" { "" } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: &str =
        r#"192.0.2.7 - frank [28/Nov/2026:10:11:12 +0000] "GET /a.png?b=c HTTP/1.1" 200 2326"#;

    fn common() -> NcsaLine<'static> {
        NcsaLine {
            client: "192.0.2.7",
            user: "frank",
            time: "28/Nov/2026:10:11:12 +0000",
            request: "GET /a.png?b=c HTTP/1.1",
            status: "200",
            bytes: "2326",
            ..NcsaLine::default()
        }
    }

    #[test]
    fn the_common_log_format_is_read() {
        assert_eq!(read(COMMON), Some(common()));
        assert_eq!(
            read(&format!("www.example.com {COMMON}")),
            Some(NcsaLine { virtual_host: "www.example.com", ..common() })
        );
    }

    #[test]
    fn the_combined_log_format_is_read_whatever_quotes_are_in_it() {
        for (agent, referer) in [("curl/8", "https://example.com/"), (r#"a "b" c"#, ""), (r#"" " "#, "x")] {
            let line = format!(r#"{COMMON} "{}" "{agent}""#, if referer.is_empty() { "-" } else { referer });
            assert_eq!(read(&line), Some(NcsaLine { referer, user_agent: agent, ..common() }), "{line}");
        }
        let line = COMMON.replace("/a.png?b=c", r#"/"x" 2/y"#);
        assert_eq!(read(&line).unwrap().request, r#"GET /"x" 2/y HTTP/1.1"#);
    }

    #[test]
    fn fastlys_own_time_and_quoted_names_are_read() {
        let line = r#"2001:db8::1 "-" "-" Sat, 28 Nov 2026 10:11:12 GMT "GET / HTTP/1.1" 304 -"#;
        let expected = NcsaLine {
            client: "2001:db8::1",
            time: "Sat, 28 Nov 2026 10:11:12 GMT",
            request: "GET / HTTP/1.1",
            status: "304",
            ..NcsaLine::default()
        };
        assert_eq!(read(line), Some(expected));
    }

    #[test]
    fn a_syslog_header_may_precede_a_line() {
        for header in [
            "<134>2026-11-28T10:11:12Z cache-fra1 spanrelay[68541]: ",
            "<134>Nov 28 10:11:12 cache-fra1 spanrelay[68541]: ",
            "<134>1 2026-11-28T10:11:12Z cache-fra1 spanrelay 68541 - - ",
            "<134>1 2026-11-28T10:11:12Z cache-fra1 spanrelay - - [a@41058 tag=\"x\"][b c=\"d\"] ",
            "109 <134>1 2026-11-28T10:11:12Z cache-fra1 spanrelay - - ",
        ] {
            assert_eq!(read(&format!("{header}{COMMON}")), Some(common()), "{header}");
            let host = NcsaLine { virtual_host: "www.example.com", ..common() };
            assert_eq!(read(&format!("{header}www.example.com {COMMON}")), Some(host), "{header}");
        }
    }

    #[test]
    fn other_text_is_not_read() {
        for line in [
            "",
            "-",
            "hello world",
            r#"a b c [t] "GET /" 20"#,
            r#"a b c [t] "GET / 200 1"#,
            r#"a b [t] "GET /" 200 1"#,
            r#"a b c d e [t] "GET /" 200 1"#,
            r#"a b c [t "GET /" 200 1"#,
            r#"a b c [t] "GET /" 200 x"#,
            r#"a b c [t] "GET /" 200 1 "r" "u"#,
            r#"a b c [t] "GET /" 200 1 junk"#,
            r#"a b c [t] "GET /" 200"#,
            "é, é",
            "abc, 28 Nov 2026 10:11:12 GM\u{e9}",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
