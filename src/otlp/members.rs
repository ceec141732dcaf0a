//! Members of an object by their places, for taking one out.

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

/// What to delete so that one member is gone, its comma included.
pub(crate) fn without_member(members: &[(Text, Range<usize>)], place: usize) -> Range<usize> {
    let (_, member) = &members[place];
    match (members.get(place + 1), place.checked_sub(1)) {
        (Some((_, following)), _) => member.start..following.start,
        (None, Some(before)) => members[before].1.end..member.end,
        (None, None) => member.clone(),
    }
}
