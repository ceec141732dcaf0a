//! Where things stand on a line, and where a moment stands in a bar.

use super::trace::Span;

/// Below this width there is no room for bars: a drawing becomes a list.
pub(super) const MIN_COLUMNS_WITH_BARS: usize = 40;
/// From this width on services have a column of their own.
const MIN_COLUMNS_WITH_SERVICES: usize = 72;
const MAX_SERVICE_COLUMNS: usize = 16;
const MIN_LABEL_COLUMNS: usize = 14;
/// Between columns.
pub(super) const GAP: usize = 2;

/// Widths of the columns: label, service, bar, duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) label: usize,
    pub(super) services: ServiceColumn,
    /// Zero: no bars.
    pub(super) bar: usize,
    pub(super) duration: usize,
}

/// Where the service of a span is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceColumn {
    /// In the heading: all spans are of one service.
    None,
    /// Below the span, for lack of room.
    Below,
    /// In a column of so many columns.
    Beside(usize),
}

/// The time that a drawing spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Widest text of each column.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Widest {
    pub(super) label: usize,
    pub(super) service: usize,
    pub(super) duration: usize,
}

// === impl Layout ===

impl Layout {
    /// For so many columns in all, and a trace of so many services.
    pub(super) fn new(columns: usize, widest: Widest, services: usize) -> Self {
        let services = match services {
            0 | 1 => ServiceColumn::None,
            _ if columns < MIN_COLUMNS_WITH_SERVICES => ServiceColumn::Below,
            _ => ServiceColumn::Beside(widest.service.min(MAX_SERVICE_COLUMNS)),
        };
        if columns < MIN_COLUMNS_WITH_BARS {
            let label = columns.saturating_sub(GAP + widest.duration).min(widest.label);
            return Self { label, services, bar: 0, duration: widest.duration };
        }
        let label = widest.label.min((columns * 2 / 5).max(MIN_LABEL_COLUMNS));
        let service = if let ServiceColumn::Beside(width) = services { width + GAP } else { 0 };
        let bar = columns - label - service - 2 * GAP - widest.duration;
        Self { label, services, bar, duration: widest.duration }
    }

    /// The column in which bars begin.
    pub(super) fn bar_start(&self) -> usize {
        let service = if let ServiceColumn::Beside(width) = self.services { width + GAP } else { 0 };
        self.label + GAP + service
    }
}

// === impl Range ===

impl Range {
    /// From the first start to the last end. Spans without a start, and ends before their start, have no say.
    pub(super) fn of(spans: &[Span]) -> Option<Self> {
        let start = spans.iter().filter_map(|span| span.start).min()?;
        let end = spans.iter().filter_map(|span| Some(span.start?.max(span.end.unwrap_or(0)))).max()?;
        Some(Self { start, end })
    }

    pub(super) fn nanoseconds(&self) -> u64 {
        self.end - self.start
    }

    /// The cells of a bar from one moment to another, first and one past the last; never empty.
    pub(super) fn cells(&self, from: u64, to: u64, bar: usize) -> (usize, usize) {
        let first = self.cell(from, bar);
        let last = if to > from { self.scaled(to - 1, bar) } else { first };
        (first, last.clamp(first, bar.saturating_sub(1)) + 1)
    }

    /// The cell of a moment; moments outside are at the edges.
    pub(super) fn cell(&self, moment: u64, bar: usize) -> usize {
        self.scaled(moment, bar).min(bar.saturating_sub(1))
    }

    fn scaled(&self, moment: u64, bar: usize) -> usize {
        let offset = u128::from(moment.saturating_sub(self.start));
        let total = u128::from(self.nanoseconds().max(1));
        usize::try_from(offset * bar as u128 / total).unwrap_or(usize::MAX)
    }
}
