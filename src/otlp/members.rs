//! Members of an object by their places.

use std::ops::Range;

use super::json::{Cursor, Fault, Text};

/// The members of the object that opens at `open`: key and range.
pub(crate) fn member_ranges(bytes: &[u8], open: usize) -> Result<Vec<(Text, Range<usize>)>, Fault> {
    let mut members = Vec::new();
    Cursor::new(bytes, open).object(|cursor, start, key| {
        cursor.skip_value()?;
        members.push((key, start..cursor.at));
        Ok(())
    })?;
    Ok(members)
}
