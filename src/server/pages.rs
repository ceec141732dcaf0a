//! Routes for `GET` that sources have besides the paths of their receivers.
//!
//! In: a path. Out: the text of the page, which a reload of the configuration may change.
//! Promises: a page of a source that is not configured is not found; a page depends on nothing downstream.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::config::ReceiversConfig;
use crate::receiver::{Page, PageText, pages};

/// Pages of all sources. Clones share the texts.
#[derive(Clone)]
pub(crate) struct Pages(Arc<RwLock<Arc<[Served]>>>);

struct Served {
    page: &'static Page,
    /// `None` if the source is not configured.
    text: Option<PageContent>,
}

enum PageContent {
    Fixed(Bytes),
    Shell(fn(&str) -> Option<String>),
}

/// A page that a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageRoute {
    index: usize,
    pub(super) name: &'static str,
    /// Route for self-traces.
    pub(super) template: &'static str,
    /// A shell executes the text.
    pub(super) is_shell: bool,
}

/// Response of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PageResponse {
    /// The source is not configured.
    Nothing,
    /// The rest of the path is invalid.
    Invalid,
    Text(Bytes),
}

// === impl Pages ===

impl Pages {
    /// Creates the pages of all sources.
    pub(crate) fn new(receivers: &ReceiversConfig) -> Self {
        Self::of(pages(receivers), receivers)
    }

    /// Creates these pages, each with whether its source is configured.
    pub(super) fn of(
        pages: impl IntoIterator<Item = (&'static Page, bool)>,
        receivers: &ReceiversConfig,
    ) -> Self {
        Self(Arc::new(RwLock::new(served(pages, receivers))))
    }

    /// Replaces the texts by those of a new configuration.
    pub(crate) fn reload(&self, receivers: &ReceiversConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = served(pages(receivers), receivers);
    }

    /// Returns the page at a path: the one with the longest path, because the pages of a shell line have paths below theirs.
    pub(super) fn at(&self, path: &str) -> Option<PageRoute> {
        let served = self.served();
        let found = served.iter().enumerate().filter(|(_, served)| served.page.covers(path));
        let (index, Served { page, .. }) = found.max_by_key(|(_, served)| served.page.path.len())?;
        let is_shell = matches!(page.text, PageText::Shell(_));
        Some(PageRoute { index, name: page.name, template: page.template, is_shell })
    }

    /// Returns the response of a page.
    pub(super) fn find(&self, route: PageRoute, path: &str) -> PageResponse {
        let served = self.served();
        let Served { page, text } = &served[route.index];
        match text {
            None => PageResponse::Nothing,
            Some(PageContent::Fixed(text)) => PageResponse::Text(text.clone()),
            Some(PageContent::Shell(line)) => {
                let rest = path.strip_prefix(page.path).and_then(|rest| rest.strip_prefix('/'));
                rest.and_then(line).map_or(PageResponse::Invalid, |line| PageResponse::Text(line.into()))
            }
        }
    }

    fn served(&self) -> Arc<[Served]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn served(
    pages: impl IntoIterator<Item = (&'static Page, bool)>,
    receivers: &ReceiversConfig,
) -> Arc<[Served]> {
    let text = |page: &Page| match page.text {
        PageText::Fixed(text) => PageContent::Fixed(text(receivers).into()),
        PageText::Shell(line) => PageContent::Shell(line),
    };
    let served = |(page, is_configured): (&'static Page, bool)| Served {
        page,
        text: is_configured.then(|| text(page)),
    };
    pages.into_iter().map(served).collect()
}
