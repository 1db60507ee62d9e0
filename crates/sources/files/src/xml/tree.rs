//! The element paths of a document outside of its records, and what they say about where the records are.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use longshore_core::names::{Unique, table_name};

use super::entities::Entities;
use super::markup::local;
use super::scan::Events;
use super::structure::{Known, RecordPath, Structure};

/// The most paths that are kept; documents have dozens.
const MAX_PATHS: usize = 200_000;
/// The most paths that [`Structure::outside`] names.
const MAX_OUTSIDE: usize = 20;

/// One element path.
struct Node {
    name: Box<[u8]>,
    parent: usize,
    depth: usize,
    /// In the order in which they were first seen; those of wanted paths may not be there.
    children: Vec<usize>,
    /// Where in `children` the next one is looked for first.
    expected: usize,
    /// The number of the parent element under which it was seen last.
    seen_under: u64,
    present: bool,
    repeats: bool,
    attributes: bool,
    text: bool,
    /// A wanted path ends here.
    wanted: bool,
    /// A wanted path goes on below.
    leads_on: bool,
}

/// An open element.
struct Open {
    node: usize,
    number: u64,
}

/// The tree of paths. Node 0 stands for the document.
pub struct Tree {
    nodes: Vec<Node>,
    index: HashTable<usize>,
    hasher: std::hash::RandomState,
    open: Vec<Open>,
    /// How deep the scanner is inside of an element whose inside does not matter.
    skipped: usize,
    elements: u64,
    declaration: Vec<u8>,
    /// Whether the insides of records are checked.
    strict: bool,
    /// Whether the records are those that were named, and nothing else.
    named: bool,
    /// Whether the element whose inside does not matter is a record.
    in_record: bool,
}

impl Tree {
    /// A tree that holds the wanted paths already. If it is `strict`, the scanner checks the insides of records too.
    pub fn new(known: Known<'_>, strict: bool) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            index: HashTable::new(),
            hasher: std::hash::RandomState::new(),
            open: Vec::new(),
            skipped: 0,
            elements: 0,
            declaration: Vec::new(),
            strict,
            named: matches!(known, Known::Named(_)),
            in_record: false,
        };
        tree.nodes.push(Node::new(b"", 0, 0));
        tree.nodes[0].present = true;
        tree.open.push(Open { node: 0, number: 0 });
        let (Known::Named(paths) | Known::Earlier(paths)) = known;
        for path in paths {
            let mut node = 0;
            for name in steps(&path.path) {
                tree.nodes[node].leads_on = true;
                node = tree.child(node, name.as_bytes());
            }
            tree.nodes[node].wanted = true;
        }
        tree
    }

    /// Whether there are too many paths to go on.
    pub fn is_excessive(&self) -> bool {
        self.nodes.len() > MAX_PATHS
    }

    /// The child of a node, made if it is new.
    fn child(&mut self, parent: usize, name: &[u8]) -> usize {
        // Elements mostly come in the same order under each parent, or repeat.
        let expected = self.nodes[parent].expected;
        for guess in [expected, expected.wrapping_sub(1), expected + 1] {
            if let Some(&child) = self.nodes[parent].children.get(guess)
                && *self.nodes[child].name == *name
            {
                self.nodes[parent].expected = guess + 1;
                return child;
            }
        }
        let hash = self.hasher.hash_one((parent, name));
        let nodes = &self.nodes;
        let found = self.index.find(hash, |&id| nodes[id].parent == parent && *nodes[id].name == *name).copied();
        let child = found.unwrap_or_else(|| {
            let id = self.nodes.len();
            self.nodes.push(Node::new(name, parent, self.nodes[parent].depth + 1));
            self.nodes[parent].children.push(id);
            let (nodes, hasher) = (&self.nodes, &self.hasher);
            self.index.insert_unique(hash, id, |&id| hasher.hash_one((nodes[id].parent, &*nodes[id].name)));
            id
        });
        if found.is_none() {
            self.nodes[parent].expected = self.nodes[parent].children.len();
        }
        child
    }

    /// What the document is like.
    pub fn finish(self, known: Known<'_>) -> Structure {
        let mut structure = Structure { entities: Entities::from_doctype(&self.declaration), ..Structure::default() };
        let mut records: Vec<(usize, Option<String>)> = Vec::new();
        match known {
            Known::Named(paths) => {
                for path in paths {
                    match self.find(&path.path) {
                        Some(node) if self.nodes[node].present => records.push((node, Some(path.table.clone()))),
                        _ => structure.missing.push(path.clone()),
                    }
                }
            }
            Known::Earlier(paths) => {
                self.take_earlier(paths, &mut records, &mut structure);
                self.discover(&mut records, structure.missing.is_empty());
            }
        }
        // In document order, so that names do not depend on what was known before.
        records.sort_by_key(|(node, _)| *node);
        structure.records = self.name_tables(&records, &structure.missing);
        let mut inside = self.marked(records.iter().map(|(id, _)| *id));
        structure.blank = true;
        for id in 1..self.nodes.len() {
            inside[id] |= inside[self.nodes[id].parent];
            let node = &self.nodes[id];
            let data = node.text || node.attributes;
            let is_record = inside[id] && node.present;
            structure.blank &= !data && !is_record;
            if data && node.present && !inside[id] && structure.outside.len() < MAX_OUTSIDE {
                structure.outside.push(self.path(id));
            }
        }
        structure
    }

    /// The paths of earlier loads that this document has. One whose wrapper is there, but no record, is still known: it
    /// has none this time.
    fn take_earlier(&self, paths: &[RecordPath], records: &mut Vec<(usize, Option<String>)>, structure: &mut Structure) {
        for path in paths {
            let Some(node) = self.find(&path.path) else { continue };
            let taken = records.iter().any(|(other, _)| self.is_within(node, *other) || self.is_within(*other, node));
            if self.nodes[node].present && !taken {
                records.push((node, Some(path.table.clone())));
            } else if !taken
                && self.nodes[node].depth > 1
                && self.nodes[self.nodes[node].parent].present
                && !self.has_present_child(self.nodes[node].parent)
                && !structure.missing.iter().any(|m| m.table == path.table)
            {
                structure.missing.push(path.clone());
            }
        }
        structure.missing.retain(|m| !records.iter().any(|(_, table)| table.as_deref() == Some(m.table.as_str())));
    }

    /// The records of the branches that hold none of `records` yet.
    fn discover(&self, records: &mut Vec<(usize, Option<String>)>, may_be_root: bool) {
        let mut taken = self.marked(records.iter().map(|(id, _)| *id));
        let covered = self.covered(&taken);
        let mut repeating = Vec::new();
        self.each_outside(&taken, |id| {
            let is_record = self.nodes[id].repeats && !covered[id];
            if is_record {
                repeating.push(id);
            }
            is_record
        });
        for &id in &repeating {
            taken[id] = true;
        }
        records.extend(repeating.into_iter().map(|id| (id, None)));
        let covered = self.covered(&taken);
        let mut single = Vec::new();
        self.each_outside(&taken, |id| {
            let may_be = !covered[id] && self.nodes[id].parent != 0;
            let found = if may_be { self.only_child(id) } else { None };
            single.extend(found);
            found.is_some()
        });
        // Where nothing repeats, the root is the better record if part of it would be left out.
        if !records.is_empty() || (!single.is_empty() && !self.leaves_data(&single)) {
            records.extend(single.into_iter().map(|id| (id, None)));
        }
        if records.is_empty() && may_be_root && self.nodes.iter().any(|node| node.text || node.attributes) {
            records.extend(self.present_children(0).map(|id| (id, None)));
        }
    }

    /// The record that `id` is, or wraps, as its wrapper's only child name: through wrappers of wrappers down to the
    /// first element that has something of its own.
    fn only_child(&self, id: usize) -> Option<usize> {
        let siblings = self.present_children(self.nodes[id].parent).take(2).count();
        if siblings != 1 || !self.has_content(id) {
            return None;
        }
        let mut record = id;
        loop {
            let mut children = self.present_children(record);
            let node = &self.nodes[record];
            match (children.next(), children.next()) {
                (Some(child), None) if !node.attributes && !node.text && self.has_content(child) => record = child,
                _ => return Some(record),
            }
        }
    }

    /// Whether an element has children or attributes.
    fn has_content(&self, id: usize) -> bool {
        self.nodes[id].attributes || self.has_present_child(id)
    }

    /// Whether an element outside of these records has text, or attributes and no children.
    fn leaves_data(&self, records: &[usize]) -> bool {
        let mut leaves = false;
        self.each_outside(&self.marked(records.iter().copied()), |id| {
            let node = &self.nodes[id];
            leaves |= node.text || (node.attributes && !self.has_present_child(id));
            false
        });
        leaves
    }

    /// Visits each present element that is neither `taken` nor inside of one that is, parents first, in document order.
    /// What `stop` answers true to is not gone into.
    fn each_outside(&self, taken: &[bool], mut stop: impl FnMut(usize) -> bool) {
        let mut todo: Vec<usize> = self.present_children(0).collect();
        while let Some(id) = todo.pop() {
            if taken[id] || stop(id) {
                continue;
            }
            let below = todo.len();
            todo.extend(self.present_children(id));
            todo[below..].reverse();
        }
    }

    fn marked(&self, ids: impl Iterator<Item = usize>) -> Vec<bool> {
        let mut marked = vec![false; self.nodes.len()];
        ids.for_each(|id| marked[id] = true);
        marked
    }

    /// For each node whether one that is `taken` is at or below it.
    fn covered(&self, taken: &[bool]) -> Vec<bool> {
        let mut covered = taken.to_vec();
        // Parents come before their children.
        for id in (1..self.nodes.len()).rev() {
            covered[self.nodes[id].parent] |= covered[id];
        }
        covered
    }

    /// Gives each record its table: the wrapper's name if it holds only this one, else the element's.
    fn name_tables(&self, records: &[(usize, Option<String>)], missing: &[RecordPath]) -> Vec<RecordPath> {
        let mut taken = Unique::default();
        let known = records.iter().filter_map(|(_, table)| table.as_deref()).chain(missing.iter().map(|m| m.table.as_str()));
        for table in known {
            taken.take(table);
        }
        let named = records.iter().map(|(id, table)| {
            let table = table.clone().unwrap_or_else(|| {
                let parent = self.nodes[*id].parent;
                let alone = parent != 0 && self.present_children(parent).take(2).count() == 1;
                taken.take(&table_name(&self.name(if alone { parent } else { *id })))
            });
            RecordPath { table, path: self.path(*id) }
        });
        let mut all: Vec<RecordPath> = named.collect();
        all.extend(missing.iter().cloned());
        all
    }

    fn present_children(&self, id: usize) -> impl Iterator<Item = usize> + '_ {
        self.nodes[id].children.iter().copied().filter(|&child| self.nodes[child].present)
    }

    fn has_present_child(&self, id: usize) -> bool {
        self.present_children(id).next().is_some()
    }

    fn find(&self, path: &str) -> Option<usize> {
        steps(path).try_fold(0, |node, name| {
            self.nodes[node].children.iter().copied().find(|&child| *self.nodes[child].name == *name.as_bytes())
        })
    }

    /// Whether `id` is `ancestor` or below it.
    fn is_within(&self, mut id: usize, ancestor: usize) -> bool {
        while self.nodes[id].depth > self.nodes[ancestor].depth {
            id = self.nodes[id].parent;
        }
        id == ancestor
    }

    fn name(&self, id: usize) -> String {
        String::from_utf8_lossy(&self.nodes[id].name).into_owned()
    }

    fn path(&self, mut id: usize) -> String {
        let mut names = Vec::with_capacity(self.nodes[id].depth);
        while id != 0 {
            names.push(self.name(id));
            id = self.nodes[id].parent;
        }
        names.iter().rev().fold(String::new(), |path, name| path + "/" + name)
    }
}

/// The names of a path.
pub fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

impl Node {
    fn new(name: &[u8], parent: usize, depth: usize) -> Self {
        Self {
            name: name.into(),
            parent,
            depth,
            children: Vec::new(),
            expected: 0,
            seen_under: 0,
            present: false,
            repeats: false,
            attributes: false,
            text: false,
            wanted: false,
            leads_on: false,
        }
    }
}

impl Events for Tree {
    fn start(&mut self, name: &[u8], _at: usize) {
        if self.skipped > 0 {
            self.skipped += 1;
            return;
        }
        let Some(&Open { node: parent, number }) = self.open.last() else { return };
        if self.is_excessive() {
            self.skipped = 1;
            return;
        }
        let id = self.child(parent, local(name));
        self.elements += 1;
        let node = &mut self.nodes[id];
        // The document itself has number 0, and one child.
        node.repeats |= node.present && node.seen_under == number;
        node.present = true;
        node.seen_under = number;
        node.expected = 0;
        // The inside of a record does not matter, unless a wanted path leads there.
        if node.wanted || (node.repeats && !node.leads_on) {
            self.skipped = 1;
            self.in_record = node.wanted || !self.named;
        } else {
            self.open.push(Open { node: id, number: self.elements });
        }
    }

    fn attributes(&mut self) {
        if self.skipped == 0
            && let Some(open) = self.open.last()
        {
            self.nodes[open.node].attributes = true;
        }
    }

    fn end(&mut self, _after: usize) {
        if self.skipped > 0 {
            self.skipped -= 1;
        } else {
            self.open.pop();
        }
    }

    fn text(&mut self) {
        if self.skipped == 0
            && let Some(open) = self.open.last()
        {
            self.nodes[open.node].text = true;
        }
    }

    fn passes(&self) -> bool {
        self.skipped == 1 && self.in_record && !self.strict
    }

    fn doctype(&mut self, declaration: &[u8]) {
        self.declaration = declaration.to_vec();
    }
}
