//! JSON as text: the same values in the same order with the same digits, with different white space.

/// Removes white space between tokens.
pub(crate) fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |character: &char| {
        let blank = !in_string && character.is_ascii_whitespace();
        in_string ^= *character == '"' && !escaped;
        escaped = in_string && *character == '\\' && !escaped;
        !blank
    };
    json.chars().filter(keep).collect()
}

/// Writes one member or element per line, so that a change is a readable diff. Short objects and lists stay on one
/// line.
pub(crate) fn pretty(json: &str) -> String {
    let json = compact(json);
    let mut out = String::new();
    write(&json, 0, &mut out);
    out.push('\n');
    out
}

const WIDTH: usize = 100;

fn write(json: &str, depth: usize, out: &mut String) {
    let (Some(open @ ('{' | '[')), true) = (json.chars().next(), json.len() + 2 * depth > WIDTH) else {
        out.push_str(&spaced(json));
        return;
    };
    let close = if open == '{' { '}' } else { ']' };
    out.push(open);
    let indent = "  ".repeat(depth + 1);
    for (index, part) in parts(&json[1..json.len() - 1]).into_iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(&indent);
        let value = match open {
            '{' => {
                let colon = key_length(part);
                out.push_str(&part[..colon]);
                out.push_str(": ");
                &part[colon + 1..]
            }
            _ => part,
        };
        write(value, depth + 1, out);
    }
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
    out.push(close);
}

/// Splits the text between brackets into elements or members.
fn parts(inside: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    outside_of_strings(inside, |at, character| match character {
        '{' | '[' => depth += 1,
        '}' | ']' => depth -= 1,
        ',' if depth == 0 => {
            parts.push(&inside[start..at]);
            start = at + 1;
        }
        _ => {}
    });
    if !inside.is_empty() {
        parts.push(&inside[start..]);
    }
    parts
}

fn key_length(member: &str) -> usize {
    let mut colon = member.len();
    outside_of_strings(member, |at, character| {
        if character == ':' && at < colon {
            colon = at;
        }
    });
    colon
}

fn spaced(json: &str) -> String {
    let mut out = json.to_owned();
    let mut places = Vec::new();
    outside_of_strings(json, |at, character| {
        if matches!(character, ',' | ':') {
            places.push(at + 1);
        }
    });
    for place in places.into_iter().rev() {
        out.insert(place, ' ');
    }
    out
}

fn outside_of_strings(json: &str, mut visit: impl FnMut(usize, char)) {
    let (mut in_string, mut escaped) = (false, false);
    for (at, character) in json.char_indices() {
        if !in_string && character != '"' {
            visit(at, character);
        }
        in_string ^= character == '"' && !escaped;
        escaped = in_string && character == '\\' && !escaped;
    }
}

#[test]
fn pretty_printing_changes_only_white_space() {
    let json = r#"{"a":[],"b":{"c":"x , : \" { ","d":[1,2.50,{"e":null}]},"long":"................................................................"}"#;
    assert_eq!(compact(&pretty(json)), json);
    assert!(pretty(json).lines().count() > 3);
}
