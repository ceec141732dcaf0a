//! Row order of a drawing: every span once, children below their parents, siblings by start.
//!
//! The input can have missing parents, cycles and duplicate ids: such spans are drawn as roots or as siblings, with a
//! mark.

use std::collections::HashMap;

use super::trace::TraceSpan;

/// Maximum depth with guides; deeper rows show the depth as a number.
pub(super) const MAX_GUIDES: usize = 24;

/// Position of one span in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Index of the span.
    pub(super) span: usize,
    pub(super) depth: usize,
    /// One flag per level, from the first below the root to the span's own: `true` if more siblings follow. Empty below
    /// [`MAX_GUIDES`].
    pub(super) guides: Vec<bool>,
    pub(super) has_children: bool,
    pub(super) oddity: Option<Oddity>,
}

/// Anomaly in the position of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Oddity {
    MissingParent,
    Cycle,
    DuplicateId,
}

/// Parent and child links, by index.
struct Links {
    children: Vec<Vec<usize>>,
    parents: Vec<Option<usize>>,
    oddities: Vec<Option<Oddity>>,
}

/// Returns all spans in drawing order.
pub(super) fn rows(spans: &[TraceSpan]) -> Vec<Row> {
    let mut links = Links::new(spans);
    let mut rows = Vec::with_capacity(spans.len());
    let mut seen = vec![false; spans.len()];
    let by_start = by_start(spans, (0..spans.len()).collect());
    for &span in &by_start {
        if links.parents[span].is_none() {
            descend(span, &links, &mut seen, &mut rows);
        }
    }
    // The remaining spans have no root: they are on a cycle or below one.
    for &span in &by_start {
        if !seen[span] {
            let root = links.on_cycle(span);
            links.oddities[root] = Some(Oddity::Cycle);
            descend(root, &links, &mut seen, &mut rows);
        }
    }
    rows
}

/// Appends a root and its descendants. Iterative, because the input decides the depth.
fn descend(root: usize, links: &Links, seen: &mut [bool], rows: &mut Vec<Row>) {
    let mut stack = vec![(root, 0, Vec::new())];
    while let Some((span, depth, guides)) = stack.pop() {
        if std::mem::replace(&mut seen[span], true) {
            continue;
        }
        let children: Vec<usize> =
            links.children[span].iter().copied().filter(|&child| !seen[child]).collect();
        for (position, &child) in children.iter().enumerate().rev() {
            let mut below = Vec::new();
            if depth < MAX_GUIDES {
                below.clone_from(&guides);
                below.push(position + 1 < children.len());
            }
            stack.push((child, depth + 1, below));
        }
        rows.push(Row {
            span,
            depth,
            guides,
            has_children: !children.is_empty(),
            oddity: links.oddities[span],
        });
    }
}

fn by_start(spans: &[TraceSpan], mut order: Vec<usize>) -> Vec<usize> {
    order.sort_by_key(|&span| (spans[span].start.unwrap_or(u64::MAX), span));
    order
}

// === impl Links ===

impl Links {
    fn new(spans: &[TraceSpan]) -> Self {
        let mut first_with_id: HashMap<&str, usize> = HashMap::with_capacity(spans.len());
        let mut oddities = vec![None; spans.len()];
        for (position, span) in spans.iter().enumerate().filter(|(_, span)| !span.id.is_empty()) {
            if *first_with_id.entry(&span.id).or_insert(position) != position {
                oddities[position] = Some(Oddity::DuplicateId);
            }
        }
        let mut parents = vec![None; spans.len()];
        let mut children = vec![Vec::new(); spans.len()];
        for (position, span) in spans.iter().enumerate() {
            let Some(parent) = &span.parent else { continue };
            match first_with_id.get(parent.as_str()) {
                Some(&parent) => {
                    parents[position] = Some(parent);
                    children[parent].push(position);
                }
                None => oddities[position] = oddities[position].or(Some(Oddity::MissingParent)),
            }
        }
        let children = children.into_iter().map(|siblings| by_start(spans, siblings)).collect();
        Self { children, parents, oddities }
    }

    /// Returns a span of the cycle that the ancestors of this one end in.
    fn on_cycle(&self, from: usize) -> usize {
        let mut passed = std::collections::HashSet::new();
        let mut span = from;
        while passed.insert(span) {
            let Some(parent) = self.parents[span] else { break };
            span = parent;
        }
        span
    }
}
