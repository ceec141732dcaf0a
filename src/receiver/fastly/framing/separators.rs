//! Skips what separates objects: blanks, commas, and the brackets of arrays.

use super::Frames;

// === impl Frames ===

impl Frames<'_> {
    /// Skips blanks, commas, and the brackets of arrays.
    pub(super) fn skip_separators(&mut self) {
        while let Some(&byte) = self.body[..self.end].get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
                b']' if self.closes_array() => {}
                b'[' if self.opens_array() => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    /// Returns whether the bracket at the cursor closes an array, and notes that.
    fn closes_array(&mut self) -> bool {
        if self.open_arrays > 0 {
            self.open_arrays -= 1;
            return true;
        }
        let is_end = self.separates() && (self.outer_arrays > 0 || !self.is_bare);
        if is_end {
            self.outer_arrays = self.outer_arrays.saturating_sub(1);
        }
        is_end
    }

    /// Returns whether the bracket at the cursor opens an array, and notes that. An array without elements may be skipped.
    fn opens_array(&mut self) -> bool {
        if !self.separates() {
            return false;
        }
        if self.is_bare && self.next_content() == self.body.len() && self.joined(self.at).is_none() {
            // No element follows: the array ends on this line, or these are stray brackets.
            let Some((end, _)) = self.scanner.value_end(self.at, self.end) else { return false };
            self.at = end - 1;
            return true;
        }
        self.open_arrays += 1;
        true
    }

    /// Returns whether the bracket at the cursor is followed by an object or, on this line, by nothing but separators.
    fn separates(&mut self) -> bool {
        if self.is_array && self.open_arrays == 0 {
            return true;
        }
        let content = self.next_content();
        match self.body[..self.end].get(content) {
            Some(byte) => *byte == b'{',
            None => self.is_array || self.joined(self.at).is_none_or(|value| value.end <= content),
        }
    }

    /// Returns the offset of the next byte that is not a separator, on this line or a later one.
    pub(super) fn next_content(&mut self) -> usize {
        if self.at >= self.content {
            let is_content = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'[' | b']' | b',');
            let next = self.body[self.at..].iter().position(is_content);
            self.content = next.map_or(self.body.len(), |offset| self.at + offset);
        }
        self.content
    }
}
