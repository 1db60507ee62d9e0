//! One delivery, decoded: every message routed, read, and among the rows of its table or the rejects.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::RecordBatch;
use longshore_core::Result;
use longshore_core::batch::{Batch, Changes, Operation, Reject, Rows};
use longshore_core::commit::Contract;
use longshore_core::error::code;
use longshore_core::source::Target;
use longshore_core::stream::{Decode, Decoded, Tables};
use longshore_files::columns::{Decoder as Columns, Fitted, Misfit};
use longshore_files::tape::Span;

use crate::changes;
use crate::decoder::Decoder;
use crate::error::{TABLE_UNWRITABLE, TOMBSTONE, UNKNOWN_TABLE};
use crate::fault::Fault;
use crate::formats::Unread;
use crate::message::Messages;
use crate::metadata::Forms;
use crate::plan::Plan;
use crate::reject::reject;
use crate::route::{check_name, is_ours};
use crate::sheet::Sheet;
use crate::wanted;

/// Bytes that are on one tape at most, unless one message has more. A tape counts in 32 bits.
const TAPE: usize = 1 << 30;

/// The messages of one delivery with what decodes them.
pub(crate) struct Contents {
    pub decoder: Arc<Decoder>,
    pub messages: Messages,
    /// The table of messages that name none.
    pub table: Option<String>,
    /// Whether that table is everybody's, whatever the messages name.
    pub readdressed: bool,
}

impl Decode for Contents {
    fn decode(&self, tables: &Tables) -> Result<Decoded> {
        let mut out = Decoded::default();
        let all = self.messages.len() as u32;
        let mut start = 0;
        while start < all {
            let (mut end, mut bytes) = (start, 0);
            while end < all && (end == start || bytes + self.messages.size(end) <= TAPE) {
                bytes += self.messages.size(end);
                end += 1;
            }
            Pass::new(self, tables, bytes, &mut out).run(start..end)?;
            start = end;
        }
        Ok(out)
    }
}

/// The decoding of some messages on one tape.
struct Pass<'a> {
    decoder: &'a Decoder,
    messages: &'a Messages,
    /// As in [`Contents`].
    table: Option<&'a str>,
    readdressed: bool,
    tables: &'a Tables,
    sheet: Sheet,
    /// Spans of the names of metadata columns.
    names: Rc<[Span]>,
    groups: Vec<Group>,
    by_table: HashMap<String, usize>,
    out: &'a mut Decoded,
}

/// The messages for one table, and the record of each that has been read already.
struct Group {
    table: String,
    messages: Vec<(u32, Option<u32>)>,
}

/// The records of a group that could be read.
#[derive(Default)]
pub(crate) struct Read {
    /// The message and the record of each.
    pub records: Vec<(u32, u32)>,
    /// The key alone of each, if they are changes.
    pub keys: Vec<u32>,
    /// The others, and why.
    faults: Vec<(u32, Fault)>,
}

impl<'a> Pass<'a> {
    fn new(contents: &'a Contents, tables: &'a Tables, bytes: usize, out: &'a mut Decoded) -> Self {
        let Contents { decoder, messages, table, readdressed } = contents;
        let mut sheet = Sheet::new(bytes);
        let names = sheet.names(&decoder.names);
        Self {
            decoder,
            messages,
            table: table.as_deref(),
            readdressed: *readdressed,
            tables,
            sheet,
            names,
            groups: Vec::new(),
            by_table: HashMap::new(),
            out,
        }
    }

    fn run(mut self, range: Range<u32>) -> Result<()> {
        self.route(range)?;
        for group in std::mem::take(&mut self.groups) {
            if let Some(why) = self.tables.closed.get(&group.table) {
                let why = format!("the table `{}` takes no rows at present: {why}", group.table);
                self.reject_all(&group, &Fault::new(TABLE_UNWRITABLE, why))?;
                continue;
            }
            match (self.tables.known.get(&group.table), check_name(&group.table)) {
                (Some(target), _) if !is_ours(&group.table) => self.known(&group, target)?,
                (_, Err(fault)) => self.reject_all(&group, &fault)?,
                _ if self.tables.unknown.contains(&group.table) => {
                    let why = format!("there is no table `{}`; create it, or correct the message, and replay it", group.table);
                    self.reject_all(&group, &Fault::new(UNKNOWN_TABLE, why))?;
                }
                _ => self.undetermined(&group)?,
            }
        }
        Ok(())
    }

    /// Puts each message into the group of its table; rejects those that name none.
    fn route(&mut self, range: Range<u32>) -> Result<()> {
        let mut name = String::new();
        let mut last = usize::MAX;
        for index in range {
            let content = match self.decoder.route.needs_content() && !self.readdressed {
                true => match self.content(index) {
                    Ok(content) => content,
                    Err(Unread::Fault(fault)) => {
                        self.out.rejects.push(self.reject(index, None, fault)?);
                        continue;
                    }
                    Err(Unread::Error(error)) => return Err(error),
                },
                false => None,
            };
            name.clear();
            let with_tape = content.map(|token| (&self.sheet.tape, token));
            if let Some(table) = self.table.filter(|_| self.readdressed) {
                name.push_str(table);
            } else if let Err(fault) = self.decoder.route.write(self.messages, index, with_tape, &mut name) {
                let Some(table) = self.table else {
                    self.out.rejects.push(self.reject(index, None, fault)?);
                    continue;
                };
                name.clear();
                name.push_str(table);
            }
            if self.groups.get(last).is_none_or(|group| group.table != name) {
                last = match self.by_table.get(&name) {
                    Some(&found) => found,
                    None => {
                        self.by_table.insert(name.clone(), self.groups.len());
                        self.groups.push(Group { table: name.clone(), messages: Vec::new() });
                        self.groups.len() - 1
                    }
                };
            }
            self.groups[last].messages.push((index, content));
        }
        Ok(())
    }

    /// Reads a message's content; `None` if there is none and that is fine.
    fn content(&mut self, index: u32) -> Result<Option<u32>, Unread> {
        let (size, most) = (self.messages.size(index), self.decoder.most());
        if size > most {
            let why =
                format!("the message has {size} bytes, more than the {most} that fit a quarter of the memory; raise --memory");
            return Err(Fault::new(code::RECORD_TOO_LARGE, why).into());
        }
        let start = self.sheet.tape.len();
        let read = match self.messages.value(index) {
            Some(value) => self.decoder.reader.read(value, &mut self.sheet).map(Some),
            None if self.decoder.keys.is_some() => Ok(None),
            None => self.decoder.reader.nothing(&mut self.sheet).map(Some).ok_or_else(|| tombstone().into()),
        };
        if read.is_err() {
            self.sheet.give_up(start);
        }
        read
    }

    /// The record of a message, and that of its key alone.
    fn record(&mut self, index: u32, content: Option<u32>, forms: &Forms) -> Result<(u32, Option<u32>), Unread> {
        let content = match content {
            Some(content) => Some(content),
            None => self.content(index)?,
        };
        let key = match &self.decoder.keys {
            Some(keys) => Some(keys.read(self.messages.key(index), self.names[self.names.len() - 1], &mut self.sheet)?),
            None => None,
        };
        let tape = &mut self.sheet.tape;
        let record = match (key, content) {
            (Some(key), content) => changes::join(tape, key, content),
            // What is at the end of the tape can be added to.
            (None, Some(content)) if tape.after(content) == tape.len() => content,
            (None, Some(content)) => {
                let record = tape.len();
                tape.copy(content);
                record
            }
            (None, None) => return Err(tombstone().into()),
        };
        self.decoder.columns.write(self.messages, index, forms, &self.names, &mut self.sheet)?;
        self.sheet.tape.close(record);
        Ok((record, key))
    }

    /// Makes the records of a group.
    fn read(&mut self, group: &Group, forms: &Forms) -> Result<Read> {
        let mut read = Read { records: Vec::with_capacity(group.messages.len()), ..Read::default() };
        for &(index, content) in &group.messages {
            let start = self.sheet.tape.len();
            match self.record(index, content, forms) {
                Ok((record, key)) => {
                    read.records.push((index, record));
                    read.keys.extend(key);
                }
                Err(Unread::Fault(fault)) => {
                    self.sheet.give_up(start);
                    read.faults.push((index, fault));
                }
                Err(Unread::Error(error)) => return Err(error),
            }
        }
        Ok(read)
    }

    /// Messages for a table that is there.
    fn known(&mut self, group: &Group, target: &Target) -> Result<()> {
        let forms = self.decoder.columns.forms(Some(target));
        let mut read = self.read(group, &forms)?;
        let mut misses = Misses { faults: std::mem::take(&mut read.faults), unknown: Vec::new() };
        let key = wanted::key(&self.sheet.tape, &read.keys);
        let plan = self.decoder.plan(&group.table, target, &key);
        // Without its key a change is nothing.
        let lacks = key.iter().find(|name| target.contract == Contract::Ignore && !plan.has(name));
        if let Some(name) = lacks {
            let fault = fault_of(Misfit::unknown_column(name));
            misses.faults.extend(read.records.drain(..).map(|(index, _)| (index, fault.clone())));
        }
        let rows = match self.decoder.keys {
            None => {
                let all: Vec<usize> = (0..read.records.len()).collect();
                Rows::Plain(self.fit(&group.table, &plan.rows, &read, &all, &mut misses)?.0)
            }
            Some(_) => Rows::Changes(self.changes(&group.table, &plan, &read, &mut misses)?),
        };
        if !misses.unknown.is_empty() {
            self.want(group, &read, Some(&misses.unknown), key)?;
        }
        misses.faults.sort_by_key(|(index, _)| *index);
        let reject = |(index, fault)| self.reject(index, Some(&group.table), fault);
        let rejects = misses.faults.into_iter().map(reject).collect::<Result<_>>()?;
        self.out.batches.push(Batch { table: group.table.clone(), rows, rejects });
        Ok(())
    }

    /// The rows of some of the records read, by their numbers, and the message of each row.
    fn fit(
        &self,
        table: &str,
        decoder: &Columns,
        read: &Read,
        of: &[usize],
        misses: &mut Misses,
    ) -> Result<(RecordBatch, Vec<u32>)> {
        let tokens: Vec<u32> = of.iter().map(|&number| read.records[number].1).collect();
        let Fitted { rows, misfits, ignored } = decoder.fit(&self.sheet.tape, &tokens)?;
        self.decoder.told.dropped(table, ignored);
        let mut misfits = misfits.into_iter().peekable();
        let mut fitting = Vec::with_capacity(rows.num_rows());
        for (place, &number) in of.iter().enumerate() {
            let index = read.records[number].0;
            match misfits.next_if(|(at, _)| *at == place) {
                None => fitting.push(index),
                Some((_, misfit)) => {
                    if misfit.code == code::UNKNOWN_COLUMN.name {
                        misses.unknown.push(number);
                    }
                    misses.faults.push((index, fault_of(misfit)));
                }
            }
        }
        Ok((rows, fitting))
    }

    /// The records read as changes.
    fn changes(&self, table: &str, plan: &Plan, read: &Read, misses: &mut Misses) -> Result<Changes> {
        let is_upsert = |index: u32| self.messages.value(index).is_some();
        let (upserts, deletes): (Vec<usize>, Vec<usize>) =
            (0..read.records.len()).partition(|&number| is_upsert(read.records[number].0));
        let (rows, numbers) = self.fit(table, &plan.rows, read, &upserts, misses)?;
        let (gone, gone_numbers) = self.fit(table, &plan.gone, read, &deletes, misses)?;
        let rows = plan.together(&rows, &numbers, &gone, &gone_numbers)?;
        let mut all = [numbers, gone_numbers].concat();
        all.sort_unstable();
        let operation = |&index: &u32| if is_upsert(index) { Operation::Upsert } else { Operation::Delete };
        let order = |&index: &u32| self.messages.order(index);
        Ok(Changes { rows, operations: all.iter().map(operation).collect(), order: all.iter().map(order).collect() })
    }

    /// Messages for a table of which nobody knows yet whether it is there. They wait.
    fn undetermined(&mut self, group: &Group) -> Result<()> {
        let forms = self.decoder.columns.forms(None);
        let read = self.read(group, &forms)?;
        if read.records.is_empty() {
            // Nothing that could be read says what the table is like.
            self.out.wanted.entry(group.table.clone()).or_default();
            return Ok(());
        }
        let key = wanted::key(&self.sheet.tape, &read.keys);
        self.want(group, &read, None, key)
    }

    /// Says what the table of these records would need.
    fn want(&mut self, group: &Group, read: &Read, of: Option<&[usize]>, key: Vec<String>) -> Result<()> {
        let columns = wanted::columns(self.decoder, self.messages, &self.sheet.tape, read, of)?;
        let wanted = wanted::wanted(columns, &key);
        match self.out.wanted.entry(group.table.clone()) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(wanted);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => wanted::merge(entry.get_mut(), wanted),
        }
        Ok(())
    }

    fn reject_all(&mut self, group: &Group, fault: &Fault) -> Result<()> {
        for &(index, _) in &group.messages {
            self.out.rejects.push(self.reject(index, Some(&group.table), fault.clone())?);
        }
        Ok(())
    }

    fn reject(&self, index: u32, table: Option<&str>, fault: Fault) -> Result<Reject> {
        reject(self.messages, index, table, fault, self.decoder.format)
    }
}

/// The messages of a group that are no rows.
struct Misses {
    faults: Vec<(u32, Fault)>,
    /// The numbers of those among them, as they were read, that have columns which the table lacks.
    unknown: Vec<usize>,
}

fn tombstone() -> Fault {
    let why =
        "the message has no content; in a topic of changes that deletes the row of its key: set `changes: true` to read it so";
    Fault::new(TOMBSTONE, why)
}

fn fault_of(misfit: Misfit) -> Fault {
    let advice = match misfit.code {
        name if name == code::UNKNOWN_COLUMN.name => "add it to the table, or let the schema evolve, and replay the message",
        name if name == code::REQUIRED_MISSING.name => "correct the message and replay it",
        _ => "give the column a type that holds it, or correct the message, and replay it",
    };
    Fault { code: misfit.code, reason: format!("{}; {advice}", misfit.what), field: Some(misfit.field) }
}
