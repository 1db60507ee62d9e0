//! Inference: what the values of a table look like, and which columns hold them all without changing one.
//!
//! A [`Shape`] gathers facts about a table's records; facts only accumulate and joining is order-free but for the order of
//! columns, so the result depends on the content alone, not on how it was cut. [`Shape::resolve`] turns the facts into columns:
//!
//! | seen | column |
//! |---|---|
//! | only nulls, empty arrays, objects without a known field | none yet |
//! | integers | INT64; beyond 64 bits NUMERIC, then BIGNUMERIC, then STRING |
//! | plain decimals as text | NUMERIC, then BIGNUMERIC, then STRING |
//! | numbers with an exponent; in JSON also with a fraction | FLOAT64 if each is a double's own (see [`crate::values::double`]), else STRING |
//! | integers and such numbers | FLOAT64 if each integer is within 2^53, else STRING |
//! | decimals as text and numbers with an exponent | STRING |
//! | days and datetimes | DATETIME |
//! | empty texts and T | T; empty texts alone STRING |
//! | T and arrays of T | ARRAY of T |
//! | objects | STRUCT; beyond 15 levels, or 10,000 different keys, JSON |
//! | objects and open text (XML) | STRUCT whose field `_text` holds the text |
//! | objects and typed scalars; arrays of arrays | JSON |
//! | any other mix | STRING |

mod resolve;

pub use resolve::{MAX_COLUMNS, Overrides, TEXT_FIELD};

use hashbrown::HashMap;

use crate::tape::{Records, Tape, Token};
use crate::values::{self, kind};

/// An object with more different keys than this is a dictionary rather than a STRUCT.
const MAX_KEYS: usize = 10_000;
/// The number of paths at which looking stops: no table has as many columns, and memory must be bounded.
const MAX_NODES: usize = 500_000;
/// Objects of fewer fields are searched one by one.
const HASH_FROM: usize = 9;

/// The facts about one table's records.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    record: Node,
    rows: u64,
    nodes: usize,
    overflow: bool,
}

/// The facts about the values at one path.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Bits of [`kind`].
    kinds: u32,
    /// The fields of its objects, in the order in which they were first seen.
    fields: Vec<(Box<str>, Node)>,
    /// Where each field is; empty while there are few.
    index: HashMap<Box<str>, u32>,
    /// What its arrays hold.
    element: Option<Box<Node>>,
    /// Set for a dictionary: its fields are no longer looked at.
    dictionary: bool,
}

impl Shape {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many records have been seen.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds the facts of a table's records.
    pub fn observe_all(&mut self, records: &Records) {
        for row in &records.rows {
            self.observe(&records.tape, row.token);
        }
    }

    /// Adds the facts of one record, the object at `token`.
    pub fn observe(&mut self, tape: &Tape, token: u32) {
        self.rows += 1;
        if self.nodes > MAX_NODES {
            self.overflow = true;
            return;
        }
        self.record.observe(tape, token, &mut self.nodes);
    }

    /// Adds the facts of `later`, whose records come after these in the input.
    pub fn merge(&mut self, later: Shape) {
        self.rows += later.rows;
        self.overflow |= later.overflow;
        self.record.merge(later.record, &mut self.nodes);
        self.overflow |= self.nodes > MAX_NODES;
    }
}

impl Node {
    fn observe(&mut self, tape: &Tape, token: u32, nodes: &mut usize) {
        match tape.token(token) {
            Token::Null => self.kinds |= kind::NULL,
            Token::Text(span) => {
                // Once it is STRING, only whether there are empty ones or any at all could be learnt: nothing.
                if self.kinds & kind::STRING == 0 {
                    self.add(values::classify(tape.text(span)));
                }
            }
            Token::String(span) => {
                const DONE: u32 = kind::STRING | kind::TYPED;
                if self.kinds & DONE != DONE {
                    self.add(kind::TYPED | values::classify_string(tape.text(span)));
                }
            }
            Token::Number(span) => {
                const DONE: u32 = kind::STRING | kind::TYPED;
                if self.kinds & DONE != DONE {
                    self.add(kind::TYPED | values::classify_json_number(tape.text(span)));
                }
            }
            Token::Bool(_) => self.add(kind::TYPED | kind::BOOL),
            Token::Bytes(_) => self.add(kind::TYPED | kind::BYTES),
            Token::Typed(..) => {
                if let Some(value) = tape.token(token).value() {
                    self.add(kind::TYPED | values::classify_typed(value));
                }
            }
            Token::Object { .. } => self.observe_object(tape, token, nodes),
            Token::Array { .. } => {
                self.kinds |= kind::ARRAY;
                let element = self.element.get_or_insert_with(|| {
                    *nodes += 1;
                    Box::default()
                });
                for value in tape.elements(token) {
                    element.observe(tape, value, nodes);
                }
            }
            Token::Key(_) => {}
        }
    }

    fn observe_object(&mut self, tape: &Tape, token: u32, nodes: &mut usize) {
        self.kinds |= kind::OBJECT;
        if self.dictionary {
            return;
        }
        // Records mostly repeat their keys in one order.
        let mut guess = 0;
        for (key, value) in tape.members(token) {
            let at = match self.fields.get(guess) {
                Some((name, _)) if **name == *key => guess,
                _ => self.find_or_add(key, nodes),
            };
            if self.dictionary {
                return;
            }
            self.fields[at].1.observe(tape, value, nodes);
            guess = at + 1;
        }
    }

    fn find_or_add(&mut self, key: &str, nodes: &mut usize) -> usize {
        let found = if self.index.is_empty() {
            self.fields.iter().position(|(name, _)| **name == *key)
        } else {
            self.index.get(key).map(|&at| at as usize)
        };
        if let Some(at) = found {
            return at;
        }
        let at = self.fields.len();
        if at >= MAX_KEYS {
            self.become_dictionary();
            return at;
        }
        *nodes += 1;
        self.fields.push((key.into(), Node::default()));
        if !self.index.is_empty() {
            self.index.insert(key.into(), at as u32);
        } else if self.fields.len() >= HASH_FROM {
            self.index = self.fields.iter().zip(0..).map(|((name, _), at)| (name.clone(), at)).collect();
        }
        at
    }

    fn become_dictionary(&mut self) {
        self.dictionary = true;
        self.fields = Vec::new();
        self.index = HashMap::default();
    }

    fn add(&mut self, kinds: u32) {
        if self.kinds | kinds != self.kinds {
            self.kinds |= kinds;
            // A mix that can only be STRING stays one, whatever comes: no need to look closely any more.
            if resolve::scalar_type(self.kinds).is_some_and(|t| t == longshore_core::schema::Type::String)
                && self.kinds & kind::SCALAR != 0
            {
                self.kinds |= kind::STRING;
            }
        }
    }

    fn merge(&mut self, later: Node, nodes: &mut usize) {
        self.kinds |= later.kinds;
        if later.dictionary {
            self.become_dictionary();
        }
        for (key, field) in later.fields {
            if self.dictionary {
                break;
            }
            let at = self.find_or_add(&key, nodes);
            if !self.dictionary {
                self.fields[at].1.merge(field, nodes);
            }
        }
        if let Some(element) = later.element {
            let own = self.element.get_or_insert_with(|| {
                *nodes += 1;
                Box::default()
            });
            own.merge(*element, nodes);
        }
    }
}

#[cfg(test)]
mod tests;
