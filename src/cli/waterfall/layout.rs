//! Positions of columns in a line, and of times in a bar.

use super::trace::TraceSpan;

/// Minimum width for bars; a narrower drawing is a list.
pub(super) const MIN_COLUMNS_WITH_BARS: usize = 40;
/// Minimum width for a column of services.
const MIN_COLUMNS_WITH_SERVICES: usize = 72;
const MAX_SERVICE_COLUMNS: usize = 16;
const MIN_LABEL_COLUMNS: usize = 14;
/// Space between columns.
pub(super) const GAP: usize = 2;

/// Widths of the columns: label, service, bar, duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) label: usize,
    pub(super) services: ServiceColumn,
    /// Width of the bars; zero for none.
    pub(super) bar: usize,
    pub(super) duration: usize,
}

/// Position of the service's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceColumn {
    /// Heading only: all spans belong to one service.
    None,
    /// Line below the span, for lack of room.
    Below,
    /// Column of its own, of this width.
    Column(usize),
}

/// Time range of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Width of the widest text of each column.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Widest {
    pub(super) label: usize,
    pub(super) service: usize,
    pub(super) duration: usize,
}

// === impl Layout ===

impl Layout {
    /// Lays out `columns` columns for a trace of `services` services.
    pub(super) fn new(columns: usize, widest: Widest, services: usize) -> Self {
        let services = match services {
            0 | 1 => ServiceColumn::None,
            _ if columns < MIN_COLUMNS_WITH_SERVICES => ServiceColumn::Below,
            _ => ServiceColumn::Column(widest.service.min(MAX_SERVICE_COLUMNS)),
        };
        if columns < MIN_COLUMNS_WITH_BARS {
            let label = columns.saturating_sub(GAP + widest.duration).min(widest.label);
            return Self { label, services, bar: 0, duration: widest.duration };
        }
        let label = widest.label.min((columns * 2 / 5).max(MIN_LABEL_COLUMNS));
        let service = if let ServiceColumn::Column(width) = services { width + GAP } else { 0 };
        let bar = columns - label - service - 2 * GAP - widest.duration;
        Self { label, services, bar, duration: widest.duration }
    }

    /// Returns the column in which bars begin.
    pub(super) fn bar_start(&self) -> usize {
        let service = if let ServiceColumn::Column(width) = self.services { width + GAP } else { 0 };
        self.label + GAP + service
    }
}

// === impl Range ===

impl Range {
    /// Returns the range from the first start to the last end. Spans without a start and ends before their start are
    /// ignored.
    pub(super) fn of(spans: &[TraceSpan]) -> Option<Self> {
        let start = spans.iter().filter_map(|span| span.start).min()?;
        let end = spans.iter().filter_map(|span| Some(span.start?.max(span.end.unwrap_or(0)))).max()?;
        Some(Self { start, end })
    }

    pub(super) fn nanoseconds(&self) -> u64 {
        self.end - self.start
    }

    /// Returns the cells of a bar between two times, first and one past the last; never empty.
    pub(super) fn cells(&self, from: u64, to: u64, bar: usize) -> (usize, usize) {
        let first = self.cell(from, bar);
        let last = if to > from { self.scaled(to - 1, bar) } else { first };
        (first, last.clamp(first, bar.saturating_sub(1)) + 1)
    }

    /// Returns the cell of a time; times outside the range are at the edges.
    pub(super) fn cell(&self, moment: u64, bar: usize) -> usize {
        self.scaled(moment, bar).min(bar.saturating_sub(1))
    }

    fn scaled(&self, moment: u64, bar: usize) -> usize {
        let offset = u128::from(moment.saturating_sub(self.start));
        let total = u128::from(self.nanoseconds().max(1));
        usize::try_from(offset * bar as u128 / total).unwrap_or(usize::MAX)
    }
}
