//! The names met inside the records of one table: each is looked up once per element and compared in a few bytes, since
//! elements mostly come in the order of the record before.

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::markup::local;
use super::words::same;
use crate::tape::{Span, Tape};

/// The name of the text that stands beside attributes or children.
pub const TEXT: &str = "_text";

/// The number of a name at its place in the record.
pub type Id = u32;

/// The record itself.
pub const RECORD: Id = 0;

/// A name at a place: a child element or an attribute of its parent.
struct Name {
    /// As written, with its prefix.
    raw: Box<str>,
    /// As the column is called.
    key: String,
    attribute: bool,
    parent: Id,
    /// The one that stands for all prefixes of this local name.
    canonical: Id,
    children: Vec<Id>,
    expected: usize,
    /// The attribute or element of the same name.
    twin: Option<Id>,
    /// The number of the parent under which it was seen last, as written and by its local name.
    raw_seen: u64,
    seen: u64,
    /// Its place among the members of that parent, for grouping.
    rank: (u64, u32),
    span: Option<(u32, Span)>,
}

/// The names of one table's records.
pub struct Names {
    names: Vec<Name>,
    index: HashTable<Id>,
    hasher: std::hash::RandomState,
    /// Attributes that are known to share their name with an element, as paths.
    clashes: BTreeSet<String>,
    /// Grows when texts of the tape were forgotten.
    epoch: u32,
}

impl Names {
    /// No names yet. `clashes`: paths of attributes that are called `_attr` in every record, since an element of some record
    /// has their name.
    pub fn new(clashes: &BTreeSet<String>) -> Self {
        let mut names = Self {
            names: Vec::new(),
            index: HashTable::new(),
            hasher: std::hash::RandomState::new(),
            clashes: clashes.clone(),
            epoch: 0,
        };
        names.names.push(Name::new("", String::new(), false, RECORD, RECORD));
        names
    }

    /// The id of a name as written.
    pub fn find(&mut self, parent: Id, attribute: bool, raw: &str) -> Id {
        let list = &self.names[parent as usize];
        for guess in [list.expected, list.expected.wrapping_sub(1), list.expected + 1] {
            if let Some(&id) = list.children.get(guess) {
                let name = &self.names[id as usize];
                if name.attribute == attribute && same(name.raw.as_bytes(), raw.as_bytes()) {
                    self.names[parent as usize].expected = guess + 1;
                    return id;
                }
            }
        }
        self.find_slowly(parent, attribute, raw)
    }

    /// The element that is expected next in its parent, if a tag without attributes begins with its name: its id and the length of its
    /// name. Spares looking for the name's end.
    #[inline]
    pub fn expected(&mut self, parent: Id, tag: &[u8]) -> Option<(Id, usize)> {
        let list = &self.names[parent as usize];
        let &id = list.children.get(list.expected)?;
        let name = &self.names[id as usize];
        let length = name.raw.len();
        let found = tag.get(length) == Some(&b'>') && !name.attribute && same(&tag[..length], name.raw.as_bytes());
        if !found {
            return None;
        }
        self.names[parent as usize].expected += 1;
        Some((id, length))
    }

    fn find_slowly(&mut self, parent: Id, attribute: bool, raw: &str) -> Id {
        let hash = self.hasher.hash_one((parent, attribute, raw));
        let names = &self.names;
        let same = |id: &Id| {
            let name = &names[*id as usize];
            name.parent == parent && name.attribute == attribute && *name.raw == *raw
        };
        if let Some(&id) = self.index.find(hash, same) {
            // A record may lack some: the next one is looked for behind this one. Lists are short, or names are few.
            let children = &self.names[parent as usize].children;
            if children.len() <= 64
                && let Some(place) = children.iter().position(|&child| child == id)
            {
                self.names[parent as usize].expected = place + 1;
            }
            return id;
        }
        let plain = local(raw.as_bytes()).len();
        let plain = &raw[raw.len() - plain..];
        let canonical = if plain.len() == raw.len() { None } else { Some(self.find(parent, attribute, plain)) };
        let id = self.names.len() as Id;
        let mut key = plain.to_owned();
        if attribute && !self.clashes.is_empty() && self.clashes.contains(&self.path(parent, plain)) {
            key += "_attr";
        }
        let mut name = Name::new(raw, key, attribute, parent, canonical.unwrap_or(id));
        if canonical.is_none() {
            name.twin = self.existing(parent, !attribute, plain);
            if let Some(twin) = name.twin {
                self.names[twin as usize].twin = Some(id);
            }
        }
        self.names.push(name);
        self.names[parent as usize].children.push(id);
        self.names[parent as usize].expected = self.names[parent as usize].children.len();
        let (names, hasher) = (&self.names, &self.hasher);
        self.index.insert_unique(hash, id, |&id| {
            let name = &names[id as usize];
            hasher.hash_one((name.parent, name.attribute, &*name.raw))
        });
        id
    }

    fn existing(&self, parent: Id, attribute: bool, raw: &str) -> Option<Id> {
        let hash = self.hasher.hash_one((parent, attribute, raw));
        let same = |id: &Id| {
            let name = &self.names[*id as usize];
            name.parent == parent && name.attribute == attribute && *name.raw == *raw
        };
        self.index.find(hash, same).copied()
    }

    /// An element of this name begins: its first member is expected next.
    pub fn restart(&mut self, id: Id) {
        self.names[id as usize].expected = 0;
    }

    /// The id that stands for this name under every prefix.
    pub fn canonical(&self, id: Id) -> Id {
        self.names[id as usize].canonical
    }

    /// Marks a name as written as seen under the parent of this number; says whether it had been.
    pub fn see_raw(&mut self, id: Id, parent: u64) -> bool {
        std::mem::replace(&mut self.names[id as usize].raw_seen, parent) == parent
    }

    /// Marks a canonical name as seen under the parent of this number; says whether it had been.
    pub fn see(&mut self, id: Id, parent: u64) -> bool {
        std::mem::replace(&mut self.names[id as usize].seen, parent) == parent
    }

    /// Whether this is an attribute whose name an element under the same parent has, and that is not told apart yet.
    pub fn clashes(&self, id: Id, parent: u64) -> bool {
        let name = &self.names[id as usize];
        name.attribute && name.twin.is_some_and(|twin| self.names[twin as usize].seen == parent) && name.key == *name.raw
    }

    /// The column name on the tape.
    pub fn span(&mut self, id: Id, tape: &mut Tape) -> Span {
        let epoch = self.epoch;
        let name = &mut self.names[id as usize];
        match name.span {
            Some((written, span)) if written == epoch => span,
            _ => {
                let span = tape.span(&name.key);
                name.span = Some((epoch, span));
                span
            }
        }
    }

    /// The column name.
    pub fn key(&self, id: Id) -> &str {
        &self.names[id as usize].key
    }

    /// The place of a canonical name among the members of the parent of this number; `next` if it is its first.
    pub fn rank(&mut self, id: Id, parent: u64, next: u32) -> u32 {
        let name = &mut self.names[id as usize];
        if name.rank.0 != parent {
            name.rank = (parent, next);
        }
        name.rank.1
    }

    /// Texts written since some mark were forgotten: names are written again.
    pub fn forget_spans(&mut self) {
        self.epoch += 1;
    }

    /// The paths of the attributes whose name an element has, in any record.
    pub fn found_clashes(&self) -> impl Iterator<Item = String> + '_ {
        self.names.iter().filter(|name| name.attribute && name.twin.is_some()).map(|name| self.path(name.parent, &name.raw))
    }

    fn path(&self, parent: Id, name: &str) -> String {
        let mut path = name.to_owned();
        let mut id = parent;
        while id != RECORD {
            let parent = &self.names[id as usize];
            path = format!("{}/{path}", parent.raw);
            id = parent.parent;
        }
        path
    }
}

impl Name {
    fn new(raw: &str, key: String, attribute: bool, parent: Id, canonical: Id) -> Self {
        Self {
            raw: raw.into(),
            key,
            attribute,
            parent,
            canonical,
            children: Vec::new(),
            expected: 0,
            twin: None,
            raw_seen: 0,
            seen: 0,
            rank: (0, 0),
            span: None,
        }
    }
}
