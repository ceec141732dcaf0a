//! Recognizes the syslog headers that stand before objects and lines of text: `<134>…`, in octet-counted framing after the length of the frame.

/// Maximum number of digits of a count.
const MAX_DIGITS: usize = 20;

/// Returns the length of the syslog header before an object or an array, or zero if there is none.
pub(super) fn prefix_length(line: &[u8]) -> usize {
    if !is_header(line) {
        return 0;
    }
    let brace = memchr::memchr(b'{', line);
    let header = &line[..brace.unwrap_or(line.len())];
    // Brackets at the end of the header open arrays, whose first object may be on a later line.
    let is_in_header = |byte: &u8| !matches!(byte, b'[' | b' ' | b'\t');
    let end = header.iter().rposition(is_in_header).map_or(0, |last| last + 1);
    memchr::memchr(b'[', &header[end..]).map(|offset| end + offset).or(brace).unwrap_or(0)
}

/// Returns the length of the syslog header before a text, or zero if there is none.
pub(in super::super) fn header_length(line: &[u8]) -> usize {
    let header = memchr::memchr(b'{', line).map_or(line, |brace| &line[..brace]);
    text_start(header).unwrap_or(0)
}

fn text_start(line: &[u8]) -> Option<usize> {
    let count = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let priority = if count == 0 { 0 } else { count + 1 };
    let mut at = priority + priority_length(line.get(priority..)?)?;
    if !line[at..].starts_with(b"1 ") {
        // The name of the process ends with a colon.
        return Some(at + memchr::memmem::find(&line[at..], b": ")? + 2);
    }
    // RFC 5424: version, time, host, application, process, message id.
    for _ in 0..6 {
        at += memchr::memchr(b' ', &line[at..])? + 1;
    }
    // Logplex leaves the structured data out.
    while line[at..].starts_with(b"[") {
        at += memchr::memchr(b']', &line[at..])? + 1;
    }
    let is_nil = line[at..].starts_with(b"- ");
    Some(if is_nil { at + 2 } else { at })
}

/// Returns the length of the octet-counted frame at the start of `line`, if its end is known.
///
/// A count may be wrong, or the frame truncated. The count is therefore used only if the line ends or the next frame starts
/// there. Otherwise, a frame without a brace ends where the next one starts.
pub(super) fn counted_frame_length(line: &[u8]) -> Option<usize> {
    let length = counted_length(line)?;
    let is_right = |rest: &[u8]| rest.is_empty() || counted_length(rest).is_some();
    if line.get(length..).is_some_and(is_right) {
        return Some(length);
    }
    let marks = memchr::memchr2_iter(b'{', b'<', line).take_while(|at| line[*at] == b'<');
    marks.filter_map(|priority| counted_start(line, priority)).find(|start| *start > 0)
}

/// Returns the start of the octet-counted RFC 5424 header that has its priority at `priority`.
fn counted_start(line: &[u8], priority: usize) -> Option<usize> {
    let count = line[..priority].strip_suffix(b" ")?;
    let digits = count.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let start = count.len() - digits;
    counted_length(&line[start..])?;
    let version = priority + priority_length(&line[priority..])?;
    line[version..].starts_with(b"1 ").then_some(start)
}

/// Returns whether `line` starts with a priority, or with a count of octets and a priority.
pub(super) fn is_header(line: &[u8]) -> bool {
    counted_length(line).or(priority_length(line)).is_some()
}

/// Returns the length of the octet-counted frame at the start of `line` according to its count, the count included.
fn counted_length(line: &[u8]) -> Option<usize> {
    let count = line.iter().take(MAX_DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    priority_length(line[count..].strip_prefix(b" ")?)?;
    let octets: usize = std::str::from_utf8(&line[..count]).ok()?.parse().ok()?;
    octets.checked_add(count + 1)
}

/// Returns the length of the priority at the start of `text`, which is one to three digits in angle brackets.
fn priority_length(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b"<")?;
    let digits = rest.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    ((1..=3).contains(&digits) && rest.get(digits) == Some(&b'>')).then_some(digits + 2)
}
