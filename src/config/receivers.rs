//! `receivers`: the enabled kinds.
//!
//! In: a [`ReceiverKind`] for each kind of receiver, which owns its section. Out: the configured receivers. Leaves to others: the
//! sections themselves, which the receivers declare.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::declare::{Key, Keys, Shape};
use super::field::Field;
use super::kind::Kind;
use super::section::Section;
use super::sections::{QueueConfig, RateLimitConfig, ServerConfig};
use super::tree::Tree;

/// A kind of receiver, which can be configured.
#[derive(Clone, Copy)]
pub struct ReceiverKind {
    name: &'static str,
    about: &'static str,
    instances: Instances,
    variables: &'static [SectionVariable],
    read: fn(&Field<'_>) -> Option<Arc<dyn ReceiverConfig>>,
    shape: fn() -> Shape,
}

/// A variable of the program that a kind of receiver replaces. Without a file it sets a key of the receiver's section.
#[derive(Clone, Copy)]
pub(crate) struct SectionVariable {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) form: VariableForm,
}

/// Form of a variable's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VariableForm {
    Text,
    /// Texts, separated by commas or white space.
    List,
    /// The secret that requests are signed with. Without it the receiver accepts unsigned requests, and is off where anyone can
    /// reach the port.
    Secret,
}

/// Number of instances of a kind of receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instances {
    /// Any number, with names.
    Named,
    /// A single instance; holds the reason that further ones are not supported.
    One(&'static str),
}

/// Section of one receiver. Derived from [`ReceiverSection`].
pub(crate) trait ReceiverConfig: ReceiverSection + Any + fmt::Debug + Send + Sync {
    fn to_tree(&self) -> Tree;

    /// Returns this section with the values of `new` that reload without a restart.
    fn reloaded(&self, new: &dyn ReceiverConfig) -> Arc<dyn ReceiverConfig>;
}

/// A receiver's own part in its section.
pub(crate) trait ReceiverSection {
    /// Returns the values that the sections of all receivers have.
    fn common(&self) -> ReceiverCommon<'_>;

    fn id(&self) -> &str {
        self.common().id
    }

    fn path(&self) -> Option<&str> {
        self.common().path
    }

    fn rate_limit(&self) -> Option<RateLimitConfig> {
        self.common().rate_limit
    }

    /// Logs that the receiver is enabled.
    fn announce(&self);

    /// Returns a risk that the operator should be aware of: the key within the section, and a description. `is_open` is set if
    /// anyone can reach the port.
    fn risk(&self, is_open: bool) -> Option<(&'static str, &'static str)>;

    /// Returns the request that sends `body` to this receiver once more.
    fn resubmit(&self, body: &Bytes) -> Resubmit;

    /// Returns a likely mistake in combination with the server's settings.
    fn note(&self, _server: &ServerConfig) -> Option<String> {
        None
    }

    /// Returns a key within the section that does not work with this queue, and why.
    fn unsupported(&self, _queue: &QueueConfig) -> Option<(&'static str, &'static str)> {
        None
    }
}

/// Values that the sections of all receivers have.
pub(crate) struct ReceiverCommon<'a> {
    /// Component id, which is the key of the section.
    pub(crate) id: &'a str,
    /// Path of its requests; `None` if its protocol defines the paths.
    pub(crate) path: Option<&'a str>,
    pub(crate) rate_limit: Option<RateLimitConfig>,
}

/// Path and headers of a request to a receiver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resubmit {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// `receivers`, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReceiversConfig(Vec<Arc<dyn ReceiverConfig>>);

// === impl ReceiverKind ===

impl ReceiverKind {
    /// Creates the kind of receiver with the section `C`.
    pub(crate) const fn of<C>(name: &'static str, about: &'static str, instances: Instances) -> Self
    where
        C: Keys + ReceiverSection + fmt::Debug + Send + Sync + 'static,
    {
        Self {
            name,
            about,
            instances,
            variables: &[],
            read: |field| Some(Arc::new(<C as Kind>::read(field)?)),
            shape: <C as Kind>::shape,
        }
    }

    /// Adds the variables of the program that the receiver replaces.
    pub(crate) const fn with_variables(self, variables: &'static [SectionVariable]) -> Self {
        Self { variables, ..self }
    }

    /// Returns the variables that set keys of its section.
    pub(super) fn variables(&self) -> &'static [SectionVariable] {
        self.variables
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    fn key(&self) -> Key {
        let key = Key::new(self.name, self.about, (self.shape)(), Tree::Absent).usual("");
        if self.instances == Instances::Named { key.named() } else { key }
    }
}

// === impl ReceiverConfig ===

impl<C: Keys + ReceiverSection + fmt::Debug + Send + Sync + 'static> ReceiverConfig for C {
    fn to_tree(&self) -> Tree {
        Keys::to_tree(self)
    }

    fn reloaded(&self, new: &dyn ReceiverConfig) -> Arc<dyn ReceiverConfig> {
        let mut reloaded = self.clone();
        if let Some(new) = (new as &dyn Any).downcast_ref() {
            reloaded.reload(new);
        }
        Arc::new(reloaded)
    }
}

// === impl ReceiversConfig ===

impl ReceiversConfig {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn ReceiverConfig> {
        self.0.iter().map(|receiver| &**receiver)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&dyn ReceiverConfig> {
        self.iter().find(|receiver| receiver.id() == id)
    }

    /// Returns the receivers of one kind, by the type of their sections.
    pub(crate) fn all<C: ReceiverConfig>(&self) -> Vec<&C> {
        self.iter().filter_map(|receiver| (receiver as &dyn Any).downcast_ref()).collect()
    }

    /// Returns `true` if there is an instance of this kind.
    pub(crate) fn has(&self, kind: &str) -> bool {
        self.iter().any(|receiver| receiver.id().split('/').next() == Some(kind))
    }

    /// Takes over what reloads without a restart. Receivers are neither added nor removed.
    pub(super) fn reload(&mut self, new: &Self) {
        for receiver in &mut self.0 {
            if let Some(new) = new.get(receiver.id()) {
                *receiver = receiver.reloaded(new);
            }
        }
    }

    /// Describes the keys of all kinds.
    pub(super) fn describe(kinds: &[ReceiverKind]) -> Shape {
        Shape::Section { name: "ReceiversConfig", keys: kinds.iter().map(ReceiverKind::key).collect() }
    }
}

impl PartialEq for ReceiversConfig {
    fn eq(&self, other: &Self) -> bool {
        Self::to_tree(self) == Self::to_tree(other)
    }
}

impl Kind for ReceiversConfig {
    type Value = Self;

    const IS_SECTION: bool = true;

    fn read(field: &Field<'_>) -> Option<Self> {
        Some(read(Section::of(field.clone())))
    }

    fn read_key(section: &mut Section<'_>, name: &'static str, target: &mut Self) {
        *target = read(section.section(name));
    }

    fn to_tree(receivers: &Self) -> Tree {
        // A receiver without values is enabled all the same.
        let enabled = |tree| if tree == Tree::Absent { Tree::Section(Vec::new()) } else { tree };
        let entry = |receiver: &dyn ReceiverConfig| (receiver.id().to_owned(), enabled(receiver.to_tree()));
        Tree::Section(receivers.iter().map(entry).collect())
    }

    fn shape() -> Shape {
        Shape::Receivers
    }
}

/// Reads the receivers in the order of the file.
fn read(mut section: Section<'_>) -> ReceiversConfig {
    let kinds = section.receivers();
    kinds.iter().for_each(|kind| section.know(kind.name));
    let mut receivers = ReceiversConfig::default();
    let mut is_empty = true;
    for (entry, field) in section.entries() {
        is_empty = false;
        let (of, name) = entry.key.split_once('/').map_or((&*entry.key, None), |(of, name)| (of, Some(name)));
        if name.is_some_and(|name| !is_name(name)) {
            field.problem("the name after the slash must consist of letters, digits, - and _");
            continue;
        }
        let receiver = match (kinds.iter().find(|kind| kind.name == of), name) {
            (None, _) => {
                section.unknown(entry, "receiver");
                continue;
            }
            (Some(ReceiverKind { instances: Instances::One(reason), .. }), Some(_)) => {
                field.problem(format!("named instances are not supported: {reason}"));
                continue;
            }
            (Some(kind), _) => (kind.read)(&field),
        };
        let Some(receiver) = receiver else { continue };
        if let Some(problem) = conflict(&receivers, &*receiver) {
            section.problem_at(&format!("{}.path", entry.key), problem);
        }
        receivers.0.push(receiver);
    }
    if is_empty {
        section.missing("no receiver is enabled; configure at least one, such as `fastly:` or `circleci:`");
    }
    receivers
}

/// Returns a problem if another receiver has the path of this one.
fn conflict(receivers: &ReceiversConfig, receiver: &dyn ReceiverConfig) -> Option<String> {
    let path = receiver.path()?;
    // A trailing slash is tolerated in requests, so that it tells no paths apart.
    let same = |taken: &str| taken.trim_end_matches('/') == path.trim_end_matches('/');
    let other = receivers.iter().find(|other| other.path().is_some_and(same))?;
    Some(format!("receivers.{} already uses {path}; each receiver needs its own path", other.id()))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
