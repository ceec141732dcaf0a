//! Drawing of one trace.

use super::glyphs::Glyphs;
use super::layout::{GAP, Layout, Range, ServiceColumn, Widest};
use super::line::{Paint, StyledLine};
use super::text::{fit, harmless, width};
use super::time::{between, human, moment, offset};
use super::trace::{Trace, TraceEvent, TraceSpan};
use super::tree::{MAX_GUIDES, Oddity, Row, rows};
use crate::config::terminal::{Charset, Terminal};

/// Maximum number of spans drawn per trace; the others are counted.
const MAX_ROWS: usize = 200;
/// Maximum number of attributes shown per event.
const SHOWN_ATTRIBUTES: usize = 4;

/// State shared by the rows of one drawing.
struct Drawing<'a> {
    trace: &'a Trace,
    rows: Vec<Row>,
    services: Vec<String>,
    range: Option<Range>,
    layout: Layout,
    glyphs: Glyphs,
    charset: Charset,
    columns: usize,
}

/// Draws a trace as lines: heading, scale, and for each span a row and its details.
pub(crate) fn draw(trace: &Trace, terminal: &Terminal) -> Vec<StyledLine> {
    let drawing = Drawing::new(trace, terminal);
    let mut lines = drawing.heading();
    lines.extend(drawing.scale());
    let mut service_above = None;
    for row in drawing.rows.iter().take(MAX_ROWS) {
        let service = drawing.service(row);
        let changed = (service_above != Some(service)).then_some(service);
        service_above = Some(service);
        lines.push(drawing.row(row, changed));
        lines.extend(drawing.below(row, changed));
    }
    lines.extend(drawing.footnotes());
    lines
}

// === impl Drawing ===

impl<'a> Drawing<'a> {
    fn new(trace: &'a Trace, terminal: &Terminal) -> Self {
        let charset = terminal.charset;
        let mut drawing = Self {
            trace,
            rows: rows(&trace.spans),
            services: Vec::new(),
            range: Range::of(&trace.spans),
            layout: Layout::new(terminal.columns, Widest::default(), 0),
            glyphs: Glyphs::of(charset),
            charset,
            columns: terminal.columns,
        };
        for span in &trace.spans {
            let service = harmless(&span.service, charset);
            if !drawing.services.contains(&service) && drawing.services.len() < MAX_ROWS {
                drawing.services.push(service);
            }
        }
        let mut widest = Widest::default();
        for row in drawing.rows.iter().take(MAX_ROWS) {
            widest.label = widest.label.max(drawing.label(row, usize::MAX).width());
            widest.duration = widest.duration.max(duration(&trace.spans[row.span]).len());
        }
        widest.service = drawing.services.iter().map(|service| width(service)).max().unwrap_or(0);
        drawing.layout = Layout::new(terminal.columns, widest, drawing.services.len());
        drawing
    }

    fn heading(&self) -> Vec<StyledLine> {
        let spans = &self.trace.spans;
        let events: usize = spans.iter().map(|span| span.events.len() + span.more_events).sum();
        let errors = spans.iter().filter(|span| span.error.is_some()).count();
        let mut facts = Vec::new();
        if let [service] = self.services.as_slice()
            && !service.is_empty()
        {
            facts.push(service.clone());
        }
        facts.push(count(spans.len(), "span"));
        facts.extend((events > 0).then(|| count(events, "event")));
        facts.extend((errors > 0).then(|| count(errors, "error")));
        if let Some(range) = self.range {
            facts.push(human(range.nanoseconds()));
            facts.extend(moment(range.start));
        }
        let id = if self.trace.id.is_empty() {
            "without an id".to_owned()
        } else {
            harmless(&self.trace.id, self.charset)
        };
        let mut lines = vec![StyledLine::new().with(Paint::Title, format!("trace {id}"))];
        lines.extend(wrapped(&facts, self.columns));
        lines
    }

    /// The two ends of the time axis above the bars.
    fn scale(&self) -> Option<StyledLine> {
        let range = self.range.filter(|range| range.nanoseconds() > 0 && self.layout.bar > 0)?;
        let end = human(range.nanoseconds());
        let mut line = StyledLine::new();
        line.pad_to(self.layout.bar_start());
        line.push(Paint::Aside, "0");
        line.pad_to(self.layout.bar_start() + self.layout.bar.saturating_sub(end.len()));
        Some(line.with(Paint::Aside, end))
    }

    /// Returns the row of one span: label, service, bar, duration.
    fn row(&self, row: &Row, changed_service: Option<&str>) -> StyledLine {
        let span = &self.trace.spans[row.span];
        let mut line = self.label(row, self.layout.label);
        line.pad_to(self.layout.label + GAP);
        if let ServiceColumn::Column(columns) = self.layout.services {
            line.push(Paint::Aside, fit(changed_service.unwrap_or_default(), columns, self.charset));
        }
        if self.layout.bar > 0 {
            line.pad_to(self.layout.bar_start());
            self.bar(row, &mut line);
            line.pad_to(self.layout.bar_start() + self.layout.bar + GAP);
        }
        let duration = duration(span);
        let paint = if span.error.is_some() { Paint::Error } else { Paint::Plain };
        line.with(Paint::Plain, " ".repeat(self.layout.duration.saturating_sub(duration.len())))
            .with(paint, duration)
    }

    /// Returns guides, marks and name, in at most `columns` columns.
    fn label(&self, row: &Row, columns: usize) -> StyledLine {
        let span = &self.trace.spans[row.span];
        let mut line = StyledLine::new().with(Paint::Aside, self.guides(row, columns));
        if span.error.is_some() {
            line.push(Paint::Error, "! ");
        }
        if let Some(oddity) = row.oddity {
            line.push(Paint::Event, format!("{} ", oddity.mark()));
        }
        let name = harmless(&span.name, self.charset);
        let name = if name.is_empty() { "(no name)" } else { &name };
        let room = columns.saturating_sub(line.width());
        line.with(Paint::Plain, fit(name, room, self.charset))
    }

    /// Returns the lines of the tree, or the depth as a number where they would take half of the label.
    fn guides(&self, row: &Row, columns: usize) -> String {
        if self.is_deep(row, columns) {
            return format!("{}> ", row.depth);
        }
        let mut guides = self.trunks(row.guides.iter().take(row.depth.saturating_sub(1)));
        if let Some(&more_follow) = row.guides.last() {
            guides.push_str(if more_follow { self.glyphs.fork } else { self.glyphs.corner });
        }
        guides
    }

    /// Returns `true` if the lines of the tree would leave too little of the label for the name.
    fn is_deep(&self, row: &Row, columns: usize) -> bool {
        row.depth > MAX_GUIDES || row.depth * width(self.glyphs.blank) > columns / 2
    }

    fn trunks<'r>(&self, levels: impl Iterator<Item = &'r bool>) -> String {
        levels.map(|&more_follow| if more_follow { self.glyphs.trunk } else { self.glyphs.blank }).collect()
    }

    fn bar(&self, row: &Row, line: &mut StyledLine) {
        let span = &self.trace.spans[row.span];
        let (Some(range), Some(start)) = (self.range, span.start) else { return };
        let end = span.end.unwrap_or(start);
        let (first, past) = range.cells(start, end, self.layout.bar);
        let service = harmless(&span.service, self.charset);
        let service = self.services.iter().position(|known| *known == service).unwrap_or(0);
        let paint = if span.error.is_some() { Paint::Error } else { Paint::Bar(service) };
        let glyph = if end > start { self.glyphs.bar } else { self.glyphs.point };

        let mut cells = vec![(Paint::Plain, ' '); self.layout.bar];
        cells[first..past].fill((paint, glyph));
        for time in span.events.iter().filter_map(|event| event.time) {
            let glyph = match time {
                time if time < range.start => '<',
                time if time > range.end => '>',
                _ => self.glyphs.event,
            };
            cells[range.cell(time, self.layout.bar)] = (Paint::Event, glyph);
        }
        for (paint, glyph) in cells {
            line.push(paint, glyph.to_string());
        }
    }

    /// Returns the details below the row of a span: service, error, events.
    fn below(&self, row: &Row, changed_service: Option<&str>) -> Vec<StyledLine> {
        let span = &self.trace.spans[row.span];
        let guides = self.guides_below(row);
        let start = || StyledLine::new().with(Paint::Aside, guides.clone());
        let mut lines = Vec::new();
        if let (ServiceColumn::Below, Some(service)) = (self.layout.services, changed_service) {
            let service = if service.is_empty() { "no service name" } else { service };
            lines.push(start().with(Paint::Aside, format!("in {service}")));
        }
        if let Some(error) = &span.error {
            let text = if error.is_empty() { "! error".to_owned() } else { format!("! error: {error}") };
            lines.push(start().with(Paint::Error, harmless(&text, self.charset)));
        }
        let mut events: Vec<&TraceEvent> = span.events.iter().collect();
        events.sort_by_key(|event| event.time);
        lines.extend(events.into_iter().map(|event| self.event(start(), span, event)));
        if span.more_events > 0 {
            lines.push(start().with(Paint::Aside, format!("and {}", count(span.more_events, "more event"))));
        }
        lines
    }

    fn guides_below(&self, row: &Row) -> String {
        if self.is_deep(row, self.layout.label) {
            return " ".repeat(width(&self.guides(row, self.layout.label)));
        }
        let mut guides = self.trunks(row.guides.iter());
        guides.push_str(if row.has_children { self.glyphs.trunk } else { self.glyphs.blank });
        guides
    }

    fn event(&self, mut line: StyledLine, span: &TraceSpan, event: &TraceEvent) -> StyledLine {
        let name = harmless(&event.name, self.charset);
        let name = if name.is_empty() { "(no name)" } else { &name };
        line.push(Paint::Event, format!("{} ", self.glyphs.event));
        line.push(Paint::Plain, name);
        match (event.time, span.start) {
            (Some(time), Some(start)) => line.push(Paint::Plain, format!("  {}", offset(start, time))),
            (Some(_), None) => {}
            (None, _) => line.push(Paint::Aside, "  no time"),
        }
        if let Some(severity) = &event.severity {
            line.push(Paint::Plain, format!("  {}", harmless(severity, self.charset)));
        }
        for (key, value) in event.attributes.iter().take(SHOWN_ATTRIBUTES) {
            // Quoted where it would otherwise run into the next one.
            let quote = if value.is_empty() || value.contains([' ', '=', '"']) { "\"" } else { "" };
            let pair = harmless(&format!("{key}={quote}{value}{quote}"), self.charset);
            line.push(Paint::Aside, format!("  {pair}"));
        }
        if event.attributes.len() > SHOWN_ATTRIBUTES {
            line.push(Paint::Aside, format!("  {}", super::ellipsis(self.charset)));
        }
        line
    }

    /// Returns the legend of the marks used, and the number of spans not drawn.
    fn footnotes(&self) -> Vec<StyledLine> {
        let mut lines = Vec::new();
        if let Some(more) = self.rows.len().checked_sub(MAX_ROWS).filter(|&more| more > 0) {
            lines.push(StyledLine::new().with(Paint::Aside, format!("  and {}", count(more, "more span"))));
        }
        let mut oddities: Vec<Oddity> =
            self.rows.iter().take(MAX_ROWS).filter_map(|row| row.oddity).collect();
        oddities.sort();
        oddities.dedup();
        lines.extend(
            oddities
                .into_iter()
                .map(|oddity| StyledLine::new().with(Paint::Aside, format!("  {}", oddity.legend()))),
        );
        lines
    }

    fn service(&self, row: &Row) -> &str {
        let service = harmless(&self.trace.spans[row.span].service, self.charset);
        self.services.iter().find(|known| **known == service).map(String::as_str).unwrap_or_default()
    }
}

/// Returns the duration of the span, or the reason that it is unknown.
fn duration(span: &TraceSpan) -> String {
    match (span.start, span.end) {
        (Some(start), Some(end)) => between(start, end),
        (Some(_), None) => "no end".to_owned(),
        (None, _) => "no start".to_owned(),
    }
}

/// Joins facts with commas, on as many lines as they need.
fn wrapped(facts: &[String], columns: usize) -> Vec<StyledLine> {
    let mut lines: Vec<StyledLine> = Vec::new();
    for (position, fact) in facts.iter().enumerate() {
        let fact = if position + 1 < facts.len() { format!("{fact},") } else { fact.clone() };
        match lines.last_mut().filter(|line| line.width() + 1 + width(&fact) <= columns) {
            Some(line) => line.push(Paint::Aside, format!(" {fact}")),
            None => lines.push(StyledLine::new().with(Paint::Aside, format!("  {fact}"))),
        }
    }
    lines
}

/// `1 span`, `3 spans`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
