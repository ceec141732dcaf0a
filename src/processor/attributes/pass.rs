//! One pass over a JSON text, which notes the edits that the rules require.

use std::ops::Range;

use super::value::{ValueChange, change, change_text};
use super::{Attributes, OF_RECORDS, Rule};
use crate::otlp::json::{Cursor, Fault, Text};
use crate::otlp::{Edits, KeyPath, Removals, text_attribute};

/// Length of what precedes the text of an attribute in the usual form, in its value.
const BEFORE_TEXT: usize = "{\"stringValue\":\"".len();

/// Names of lists of log records, in all spellings.
const RECORDS: [&[u8]; 3] = [b"logRecords", b"log_records", b"logs"];

/// Fields of objects that must not be kept, apart from attributes in their usual form.
#[derive(Clone, Copy)]
pub(super) enum FieldRules<'a> {
    /// Fields with a rule, and those that the function names by their path and by whether they are objects: of text that is not OTLP.
    Anywhere(&'a dyn Fn(&str, bool) -> bool),
    /// Fields with a rule of an object in the place of a list of attributes, which OTLP does not have.
    OfAttributes,
}

/// Members that hold attributes.
const ATTRIBUTES: [&str; 3] = ["attributes", "filteredAttributes", "kvlistValue"];

/// Entry of a path for a list.
const LIST: &str = "[]";

/// A text that is being read. A pass that ends in a fault has the edits of what it read.
pub(super) struct Pass<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) edits: Edits,
    rules: &'a Attributes,
    fields: Option<FieldRules<'a>>,
    /// Keys of the objects that are being read, if there are `fields`.
    path: KeyPath,
    /// Elements of the lists that are being read, innermost last.
    elements: Vec<Element<'a>>,
}

/// An element of a list.
struct Element<'a> {
    range: Range<usize>,
    /// The key, if the element is an attribute.
    key: Option<Text>,
    keep: KeepRule<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeepRule<'a> {
    Yes,
    /// Keep it, unless another attribute gets its key.
    UnlessReplaced,
    Renamed(&'a str),
    No,
}

/// The members by which an object is an attribute.
#[derive(Default)]
struct Pair {
    key: Option<Text>,
    value: Option<Range<usize>>,
    /// There are several values, of which only the last is the attribute's.
    is_ambiguous: bool,
}

// === impl Pass ===

impl<'a> Pass<'a> {
    pub(super) fn new(
        rules: &'a Attributes,
        text: &'a [u8],
        at: usize,
        fields: Option<FieldRules<'a>>,
    ) -> Self {
        Self {
            cursor: Cursor::new(text, at),
            edits: Edits::default(),
            rules,
            fields,
            path: KeyPath::default(),
            elements: Vec::new(),
        }
    }

    /// Reads the value at the cursor.
    pub(super) fn value(&mut self) -> Result<(), Fault> {
        self.value_of(false)
    }

    /// Reads the value of a member; `is_records` tells that a list holds log records.
    fn value_of(&mut self, is_records: bool) -> Result<(), Fault> {
        match self.cursor.peek() {
            Some(b'{') => {
                let checkpoint = self.edits.len();
                let pair = self.object(false)?;
                // An attribute that is in no list cannot be removed as a whole.
                if let (Some(rule), Some(value)) = (self.rule_of(pair.key), pair.value)
                    && rule.withholds()
                {
                    self.edits.truncate(checkpoint);
                    self.edits.replace(value, "null");
                }
                Ok(())
            }
            Some(b'[') => self.list(is_records),
            _ => self.cursor.skip_value(),
        }
    }

    fn object(&mut self, is_record: bool) -> Result<Pair, Fault> {
        self.cursor.expect(b'{', "expected '{' at the start of an object")?;
        self.cursor.enter()?;
        self.cursor.skip_whitespace();
        let mut pair = Pair::default();
        if self.cursor.peek() == Some(b'}') {
            self.cursor.at += 1;
        } else {
            let mut removals = Removals::default();
            let read = self.members(is_record, &mut pair, &mut removals);
            removals.finish(&mut self.edits);
            read?;
        }
        self.cursor.leave();
        Ok(pair)
    }

    fn members(&mut self, is_record: bool, pair: &mut Pair, removals: &mut Removals) -> Result<(), Fault> {
        loop {
            let (start, checkpoint) = (self.cursor.at, self.edits.len());
            let key = self.cursor.key()?;
            let name = key.unescaped(self.cursor.bytes());
            let from = self.cursor.at;
            let is_withheld = self.enter_field(&name);
            let read = match (&*name, self.cursor.peek()) {
                (b"key", Some(b'"')) => self.cursor.string().map(|text| {
                    if self.rule_of(pair.key).is_none() {
                        pair.key = Some(text);
                    }
                }),
                _ => self.value_of(RECORDS.contains(&&*name)),
            };
            self.leave_field();
            let value = from..self.cursor.at;
            let is_removed = is_withheld || (is_record && self.removes_of_record(&name, &value, checkpoint));
            if is_removed {
                self.edits.truncate(checkpoint);
                removals.remove(start..self.cursor.at);
            } else {
                removals.keep(start..self.cursor.at, &mut self.edits);
            }
            read?;
            if *name == *b"value" {
                pair.is_ambiguous |= pair.value.is_some();
                pair.value = Some(value);
            }
            if self.cursor.closes(b'}', "expected ',' or '}' after a value")? {
                return Ok(());
            }
        }
    }

    /// Notes the key of a field, and returns whether the field must not be kept.
    fn enter_field(&mut self, name: &[u8]) -> bool {
        let Some(fields) = self.fields else { return false };
        self.path.enter(name);
        let is_object = self.cursor.peek() == Some(b'{');
        let first = match fields {
            FieldRules::Anywhere(_) => 0,
            FieldRules::OfAttributes => {
                let holds_attributes = |key: &String| ATTRIBUTES.contains(&&**key);
                let keys = self.path.keys();
                match keys[..keys.len() - 1].iter().rposition(holds_attributes) {
                    Some(at) if !keys[at + 1..].iter().any(|key| key == LIST) => at + 1,
                    _ => return false,
                }
            }
        };
        self.path.names(first).any(|name| {
            let is_named =
                matches!(fields, FieldRules::Anywhere(is_withheld) if is_withheld(&name, is_object));
            self.rules.withholds(&name) || is_named
        })
    }

    fn leave_field(&mut self) {
        if self.fields.is_some() {
            self.path.leave();
        }
    }

    /// Applies the rules of a log record's member, and returns whether it must be removed.
    fn removes_of_record(&mut self, name: &[u8], value: &Range<usize>, checkpoint: usize) -> bool {
        let Some((member, attribute)) = OF_RECORDS.iter().find(|(member, _)| member.as_bytes() == name)
        else {
            return false;
        };
        let Some(rule) = self.rules.get(attribute.as_bytes()) else { return false };
        let change = match *member {
            "body" => change(self.cursor.bytes(), value, rule),
            "severityText" => change_text(self.cursor.bytes(), value, rule),
            // A number has no hash that is a number.
            _ if rule.withholds() => ValueChange::Remove,
            _ => ValueChange::Keep,
        };
        self.applies(change, value, checkpoint)
    }

    /// Makes the edit for a value, and returns whether its attribute must be removed.
    fn applies(&mut self, change: ValueChange, value: &Range<usize>, checkpoint: usize) -> bool {
        match change {
            ValueChange::Keep => {}
            ValueChange::Remove => return true,
            ValueChange::Replace(new) => {
                self.edits.truncate(checkpoint);
                self.edits.replace(value.clone(), new);
            }
        }
        false
    }

    fn list(&mut self, is_records: bool) -> Result<(), Fault> {
        self.cursor.expect(b'[', "expected '[' at the start of an array")?;
        self.cursor.enter()?;
        self.cursor.skip_whitespace();
        if self.cursor.peek() == Some(b']') {
            self.cursor.at += 1;
        } else {
            let (base, checkpoint) = (self.elements.len(), self.edits.len());
            let is_marked = matches!(self.fields, Some(FieldRules::OfAttributes));
            if is_marked {
                self.path.enter(LIST.as_bytes());
            }
            let read = self.read_elements(is_records);
            if is_marked {
                self.path.leave();
            }
            self.settle(base, checkpoint);
            read?;
        }
        self.cursor.leave();
        Ok(())
    }

    fn read_elements(&mut self, is_records: bool) -> Result<(), Fault> {
        loop {
            let (start, checkpoint) = (self.cursor.at, self.edits.len());
            let pair = match self.cursor.peek() {
                Some(b'{') => match text_attribute(self.cursor.bytes(), start) {
                    Some(attribute) if !matches!(self.fields, Some(FieldRules::Anywhere(_))) => {
                        self.cursor.at = attribute.end;
                        let value = attribute.value.start - BEFORE_TEXT..attribute.end - 1;
                        Pair { key: Some(attribute.key), value: Some(value), is_ambiguous: false }
                    }
                    _ => self.object(is_records)?,
                },
                _ => {
                    self.value()?;
                    Pair::default()
                }
            };
            let keep = self.keep(&pair, checkpoint);
            self.elements.push(Element { range: start..self.cursor.at, key: pair.key, keep });
            if self.cursor.closes(b']', "expected ',' or ']' after a value")? {
                return Ok(());
            }
        }
    }

    fn rule_of(&self, key: Option<Text>) -> Option<&'a Rule> {
        let (key, rules) = (key?, self.rules);
        rules.get(&key.unescaped(self.cursor.bytes()))
    }

    /// Applies a rule to the value of an attribute.
    fn keep(&mut self, pair: &Pair, checkpoint: usize) -> KeepRule<'a> {
        let Some(rule) = self.rule_of(pair.key) else { return KeepRule::Yes };
        if rule.drop {
            return KeepRule::No;
        }
        if rule.withholds() {
            let Some(value) = pair.value.as_ref().filter(|_| !pair.is_ambiguous) else { return KeepRule::No };
            let change = change(self.cursor.bytes(), value, rule);
            if self.applies(change, value, checkpoint) {
                return KeepRule::No;
            }
        }
        match &rule.new_key {
            Some(new_key) => KeepRule::Renamed(new_key),
            None if rule.is_new_key => KeepRule::UnlessReplaced,
            None => KeepRule::Yes,
        }
    }

    /// Removes and renames elements of a list.
    fn settle(&mut self, base: usize, checkpoint: usize) {
        let is_kept =
            |element: &Element<'_>| matches!(element.keep, KeepRule::Yes | KeepRule::UnlessReplaced);
        if self.elements[base..].iter().all(is_kept) {
            return self.elements.truncate(base);
        }
        self.remove_replaced(base);
        let elements = &self.elements[base..];
        self.edits.forget(checkpoint, |edit| {
            let next = elements.partition_point(|element| element.range.start <= edit.start);
            next.checked_sub(1).is_some_and(|index| {
                elements[index].keep == KeepRule::No && edit.end <= elements[index].range.end
            })
        });
        let mut removals = Removals::default();
        for Element { range, key, keep } in self.elements.drain(base..) {
            if keep == KeepRule::No {
                removals.remove(range);
                continue;
            }
            if let (KeepRule::Renamed(new_key), Some(key)) = (keep, key) {
                self.edits.replace(key.start..key.end, new_key.to_owned());
            }
            removals.keep(range, &mut self.edits);
        }
        removals.finish(&mut self.edits);
    }

    /// Removes attributes whose key another one gets. Of several renamed to one key, the last is kept.
    fn remove_replaced(&mut self, base: usize) {
        let bytes = self.cursor.bytes();
        let mut new_keys: Vec<&str> = Vec::new();
        for element in self.elements[base..].iter_mut().rev() {
            if let KeepRule::Renamed(new_key) = element.keep {
                match new_keys.contains(&new_key) {
                    true => element.keep = KeepRule::No,
                    false => new_keys.push(new_key),
                }
            }
        }
        for element in &mut self.elements[base..] {
            if let (KeepRule::UnlessReplaced, Some(key)) = (element.keep, element.key)
                && new_keys.iter().any(|new_key| new_key.as_bytes() == &*key.unescaped(bytes))
            {
                element.keep = KeepRule::No;
            }
        }
    }
}
