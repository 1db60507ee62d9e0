//! Avro's binary form onto a tape.

use std::rc::Rc;

use longshore_files::tape::{Span, Token, Value};
use longshore_files::values::calendar;

use super::schema::{KEY, Node, Schema, VALUE};
use crate::decimal;
use crate::error::AVRO_INVALID;
use crate::fault::Fault;
use crate::sheet::Sheet;
use crate::times::{self, Finer};

/// Nesting of values; a schema may name itself.
const MOST_NESTED: usize = 200;
/// Values that a message may stand for without bytes of its own, beside those that its bytes may be. (An array of nulls takes no bytes.)
const MOST_EMPTY: usize = 100_000;

/// Writes the value that `content` is at the end of the sheet; returns its token.
pub(crate) fn read(schema: &Schema, content: &[u8], finer: Finer, sheet: &mut Sheet) -> Result<u32, Fault> {
    let names = sheet.names(&schema.names);
    let token = sheet.tape.len();
    let left = content.len().saturating_mul(2).saturating_add(MOST_EMPTY);
    let mut reader = Reader { schema, bytes: content, names, finer, sheet, left };
    let read = reader.value(schema.root, 0).and_then(|()| match reader.bytes.len() {
        0 => Ok(()),
        more => Err(Broken::new(format!("{more} bytes are left over: it was written by another schema, or is damaged"))),
    });
    match read {
        Ok(()) => Ok(token),
        Err(broken) => Err(broken.to_fault(schema)),
    }
}

/// What does not fit the schema, and the fields around it, innermost first.
struct Broken {
    what: String,
    path: Vec<usize>,
}

impl Broken {
    fn new(what: impl Into<String>) -> Box<Self> {
        // Boxed, so that the common case hands back one word.
        Box::new(Self { what: what.into(), path: Vec::new() })
    }

    fn to_fault(&self, schema: &Schema) -> Fault {
        let path: Vec<&str> = self.path.iter().rev().map(|name| schema.name(*name)).collect();
        if path.is_empty() {
            return Fault::new(AVRO_INVALID, format!("the message is not what its schema says: {}", self.what));
        }
        let path = path.join(".");
        Fault::new(AVRO_INVALID, format!("the message is not what its schema says: field {path}: {}", self.what)).at(path)
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    names: Rc<[Span]>,
    finer: Finer,
    sheet: &'a mut Sheet,
    /// Values that may still come.
    left: usize,
}

type Read<T> = Result<T, Box<Broken>>;

impl<'a> Reader<'a> {
    fn value(&mut self, node: usize, depth: usize) -> Read<()> {
        if depth > MOST_NESTED {
            return Err(Broken::new(format!("it is nested more than {MOST_NESTED} deep")));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| Broken::new("it stands for more values than so few bytes may"))?;
        let schema = self.schema;
        match &schema.nodes[node] {
            Node::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|number| branches.get(number));
                let branch = branch.ok_or_else(|| Broken::new(format!("there are only {} branches", branches.len())))?;
                self.value(*branch, depth + 1)
            }
            Node::Record(fields) => {
                let object = self.sheet.tape.open(Token::Object { end: 0 });
                for field in fields {
                    self.sheet.tape.push(Token::Key(self.names[field.name]));
                    self.value(field.node, depth + 1).map_err(|mut broken| {
                        broken.path.push(field.name);
                        broken
                    })?;
                }
                self.sheet.tape.close(object);
                Ok(())
            }
            Node::Array(items) => self.blocks(|reader| reader.value(*items, depth + 1)),
            Node::Map(values) => self.blocks(|reader| reader.entry(*values, depth)),
            scalar => {
                let token = self.scalar(scalar)?;
                self.sheet.tape.push(token);
                Ok(())
            }
        }
    }

    fn scalar(&mut self, node: &Node) -> Read<Token> {
        Ok(match node {
            Node::Null => Token::Null,
            Node::Boolean => match self.take(1)?[0] {
                0 => Token::Bool(false),
                1 => Token::Bool(true),
                other => return Err(Broken::new(format!("{other} is no boolean"))),
            },
            Node::Int => Token::typed(Value::Int(self.int()?.into())),
            Node::Long => Token::typed(Value::Int(self.long()?)),
            Node::Float => Token::typed(Value::Double(f32::from_le_bytes(self.array()?).into())),
            Node::Double => Token::typed(Value::Double(f64::from_le_bytes(self.array()?))),
            Node::String => Token::String(self.text()?),
            Node::Bytes => {
                let bytes = self.bytes()?;
                self.sheet.tape.blob(bytes)
            }
            Node::Fixed(size) => {
                let bytes = self.take(*size)?;
                self.sheet.tape.blob(bytes)
            }
            Node::Date => {
                let days = self.int()?;
                if !calendar::is_day(days) {
                    return Err(Broken::new(format!("{days} days from 1970 is not within the years 1 to 9999")));
                }
                Token::typed(Value::Date(days))
            }
            Node::Time { long, units } => {
                let time = if *long { self.long()? } else { self.int()?.into() };
                let micros = times::scaled(time, *units, self.finer).and_then(times::time).map_err(Broken::new)?;
                Token::typed(Value::Time(micros))
            }
            Node::Moment { units, utc } => {
                let time = self.long()?;
                let micros = times::scaled(time, *units, self.finer).and_then(times::moment).map_err(Broken::new)?;
                Token::typed(if *utc { Value::Timestamp(micros) } else { Value::DateTime(micros) })
            }
            Node::Decimal { size, scale, .. } => {
                let bytes = match size {
                    Some(size) => self.take(*size)?,
                    None => self.bytes()?,
                };
                let text = decimal::text(bytes, *scale)
                    .ok_or_else(|| Broken::new("the decimal has more digits than any table takes"))?;
                Token::Number(self.sheet.tape.span(&text))
            }
            Node::Uuid => Token::String(uuid(self.array()?, self.sheet)),
            Node::Duration => {
                let text = duration(self.array()?);
                Token::String(self.sheet.tape.span(&text))
            }
            Node::Enum(symbols) => {
                let symbol = usize::try_from(self.int()?).ok().and_then(|number| symbols.get(number));
                let symbol = symbol.ok_or_else(|| Broken::new(format!("there are only {} symbols", symbols.len())))?;
                Token::String(self.names[*symbol])
            }
            Node::Declared => return Err(Broken::new("its type is not defined")),
            Node::Union(_) | Node::Record(_) | Node::Array(_) | Node::Map(_) => unreachable!("these hold other values"),
        })
    }

    /// An entry of a map, as an object of key and value.
    fn entry(&mut self, values: usize, depth: usize) -> Read<()> {
        let object = self.sheet.tape.open(Token::Object { end: 0 });
        self.sheet.tape.push(Token::Key(self.names[KEY]));
        let key = self.text()?;
        self.sheet.tape.push(Token::String(key));
        self.sheet.tape.push(Token::Key(self.names[VALUE]));
        self.value(values, depth + 1)?;
        self.sheet.tape.close(object);
        Ok(())
    }

    /// The items of an array or map, block by block.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        let array = self.sheet.tape.open(Token::Array { end: 0 });
        loop {
            let count = self.long()?;
            if count < 0 {
                // The size of the block in bytes, for those who skip it.
                self.long()?;
            }
            if count == 0 {
                self.sheet.tape.close(array);
                return Ok(());
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn take(&mut self, size: usize) -> Read<&'a [u8]> {
        match self.bytes.split_at_checked(size) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(Broken::new(format!("{size} bytes are needed, and only {} are there", self.bytes.len()))),
        }
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    #[inline]
    fn long(&mut self) -> Read<i64> {
        // Most numbers are small.
        if let Some((&byte, rest)) = self.bytes.split_first()
            && byte < 0x80
        {
            self.bytes = rest;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        self.long_of_many()
    }

    fn long_of_many(&mut self) -> Read<i64> {
        let mut value = 0u64;
        for (at, &byte) in self.bytes.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7F);
            if at == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * at);
            if byte < 0x80 {
                self.bytes = &self.bytes[at + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Broken::new(if self.bytes.len() < 10 { "it ends within a number" } else { "a number has more than 64 bits" }))
    }

    fn int(&mut self) -> Read<i32> {
        let long = self.long()?;
        i32::try_from(long).map_err(|_| Broken::new(format!("{long} is no 32-bit number")))
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let size = self.long()?;
        let size = usize::try_from(size).map_err(|_| Broken::new(format!("{size} is no length")))?;
        self.take(size)
    }

    fn text(&mut self) -> Read<Span> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(bytes).map_err(|_| Broken::new("the text is not UTF-8"))?;
        Ok(self.sheet.tape.span(text))
    }
}

fn uuid(bytes: [u8; 16], sheet: &mut Sheet) -> Span {
    let digits = u128::from_be_bytes(bytes);
    let part = |shift: u32, digits_: usize| format!("{:0digits_$x}", digits >> shift & ((1 << (4 * digits_)) - 1));
    let text = [part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12)].join("-");
    sheet.tape.span(&text)
}

/// Months, days and milliseconds as an INTERVAL's text.
fn duration(bytes: [u8; 12]) -> String {
    let part = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (months, days, millis) = (part(0), part(4), part(8));
    let seconds = millis / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}-{} {days} {hour}:{minute}:{second}.{:03}", months / 12, months % 12, millis % 1000)
}
