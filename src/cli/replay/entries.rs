//! Lines of a rejected-lines file, which may be larger than memory and truncated anywhere.

use std::io::{self, BufRead};

use crate::rejected::Entry;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Iterator over the number of each line that is not blank, with its entry or the reason why it is not one.
pub(super) struct Entries<R> {
    file: R,
    /// Number of the line that was read last, from 1.
    line: u64,
    failed: bool,
}

// === impl Entries ===

impl<R: BufRead> Entries<R> {
    pub(super) fn new(file: R) -> Self {
        Self { file, line: 0, failed: false }
    }

    /// Returns the number of the first unread line; `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Option<u64> {
        let at_end = self.failed || self.file.fill_buf().is_ok_and(<[u8]>::is_empty);
        (!at_end).then_some(self.line + 1)
    }

    /// Reads the next line, without a byte order mark before the first. `None` at the end of the file.
    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if self.file.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        if self.line == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Some(line))
    }
}

impl<R: BufRead> Iterator for Entries<R> {
    type Item = (u64, Result<Entry, String>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.read_line() {
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => return Some((self.line, entry(&line))),
                Ok(None) => return None,
                Err(error) => {
                    self.failed = true;
                    let reason = format!("the file cannot be read from here on: {error}");
                    return Some((self.line + 1, Err(reason)));
                }
            }
        }
        None
    }
}

fn entry(line: &[u8]) -> Result<Entry, String> {
    // An array with the values of an entry would be deserialised, too.
    let is_object = line.trim_ascii_start().starts_with(b"{");
    let entry = is_object.then(|| serde_json::from_slice(line).ok()).flatten();
    entry.ok_or_else(|| "not an entry of a rejected-lines file".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &[u8]) -> Vec<(u64, Result<Vec<u8>, String>)> {
        Entries::new(file).map(|(line, entry)| (line, entry.map(|entry| entry.bytes().unwrap()))).collect()
    }

    #[test]
    fn each_line_is_an_entry_or_not_regardless_of_other_lines() {
        let entry = r#"{"time":"t","receiver":"fastly","reason":"r","input":"x"}"#;
        let torn = &entry.as_bytes()[..30];
        let array = br#"["t","fastly",1,1,"r","x",null,false]"#;
        let file =
            [BYTE_ORDER_MARK, entry.as_bytes(), b"\r\n\n", torn, b"\n", array, b"\n\xff\n", entry.as_bytes()];
        let none = || Err("not an entry of a rejected-lines file".to_owned());
        assert_eq!(
            lines(&file.concat()),
            [(1, Ok(b"x".to_vec())), (3, none()), (4, none()), (5, none()), (6, Ok(b"x".to_vec()))]
        );
    }

    #[test]
    fn the_rest_of_a_file_begins_at_its_next_line() {
        let mut entries = Entries::new(&b"a\nb\n"[..]);
        assert_eq!(entries.next_line(), Some(1));
        entries.next();
        assert_eq!(entries.next_line(), Some(2));
        entries.next();
        assert_eq!((entries.next_line(), entries.next().is_none()), (None, true));
    }
}
