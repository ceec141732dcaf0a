//! Positions of an object's members.

use std::ops::Range;

use super::json::{Cursor, Fault, Text};

/// Returns key and range of each member of the object that opens at `open`.
pub(crate) fn member_ranges(bytes: &[u8], open: usize) -> Result<Vec<(Text, Range<usize>)>, Fault> {
    let mut members = Vec::new();
    Cursor::new(bytes, open).object(|cursor, start, key| {
        cursor.skip_value()?;
        members.push((key, start..cursor.at));
        Ok(())
    })?;
    Ok(members)
}
