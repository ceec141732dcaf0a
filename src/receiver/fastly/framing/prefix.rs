//! Recognizes the syslog headers that stand before objects: `<134>…`, in octet-counted framing after the length of the frame.

/// Length of a syslog header before an object or an array. Zero where there is none.
pub(super) fn prefix_length(line: &[u8]) -> usize {
    if !is_header(line) {
        return 0;
    }
    let brace = memchr::memchr(b'{', line);
    let header = &line[..brace.unwrap_or(line.len())];
    // Brackets at the end of the header are those of an array, whose first object may be on a later line.
    let is_in_header = |byte: &u8| !matches!(byte, b'[' | b' ' | b'\t');
    let end = header.iter().rposition(is_in_header).map_or(0, |last| last + 1);
    memchr::memchr(b'[', &header[end..]).map(|offset| end + offset).or(brace).unwrap_or(0)
}

/// Length of the octet-counted frame at the start of `line`, if it holds no brace and the next frame starts where it ends.
pub(super) fn text_frame_length(line: &[u8]) -> Option<usize> {
    let length = counted_length(line).filter(|_| is_header(line))?;
    let next = line.get(length..)?;
    let is_text =
        counted_length(next).is_some() && is_header(next) && memchr::memchr(b'{', &line[..length]).is_none();
    is_text.then_some(length)
}

/// Returns whether `line` starts with a priority, or with a count of octets and a priority.
fn is_header(line: &[u8]) -> bool {
    let count = digits(line);
    let rest = match line.get(count) {
        Some(b' ') if count > 0 => &line[count + 1..],
        _ => line,
    };
    let Some(rest) = rest.strip_prefix(b"<") else { return false };
    let priority = digits(rest);
    (1..=3).contains(&priority) && rest.get(priority) == Some(&b'>')
}

/// Length of a frame by the count of octets at its start, the count included.
fn counted_length(line: &[u8]) -> Option<usize> {
    let count = digits(line);
    if line.get(count) != Some(&b' ') {
        return None;
    }
    let octets: usize = std::str::from_utf8(&line[..count]).ok()?.parse().ok()?;
    octets.checked_add(count + 1)
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}
