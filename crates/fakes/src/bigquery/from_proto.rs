//! Rows that come in as protocol buffers, read by the descriptor that the client sent.

use std::collections::HashMap;

use arrow::datatypes::i256;
use longshore_core::schema::{Field, Mode, Type};
use prost_types::DescriptorProto;
use prost_types::field_descriptor_proto::{Label, Type as ProtoType};

use super::cell::{self, Cell, Row};
use super::from_arrow::Mismatch;

/// A message type, its nested ones found.
#[derive(Clone)]
pub(crate) struct Message {
    fields: Vec<Member>,
}

#[derive(Clone)]
struct Member {
    name: String,
    tag: u32,
    type_: ProtoType,
    required: bool,
    message: Option<Message>,
    /// The values of an enum, by number.
    names: HashMap<i32, String>,
}

/// A value as it stands on the wire.
enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Message {
    /// Reads a descriptor that holds all the types it names.
    pub(crate) fn new(descriptor: &DescriptorProto) -> Result<Self, String> {
        build(descriptor, descriptor, 0)
    }

    /// Whether it has a field of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|member| member.name.eq_ignore_ascii_case(name))
    }

    /// Whether its fields go into these columns, whatever the values.
    pub(crate) fn fits(&self, columns: &[Field]) -> Result<(), Mismatch> {
        let unknown = self.fields.iter().filter(|member| !columns.iter().any(|f| f.name.eq_ignore_ascii_case(&member.name)));
        let unknown: Vec<String> = unknown.map(|member| member.name.clone()).collect();
        if !unknown.is_empty() {
            return Err(Mismatch::Unknown(unknown));
        }
        for field in columns {
            match (self.member(&field.name), &field.type_) {
                (None, _) => _ = cell::missing(field).map_err(Mismatch::Invalid)?,
                (Some(Member { message: Some(message), .. }), Type::Struct(fields)) => message.fits(fields)?,
                (Some(Member { message: Some(_), .. }), _) | (Some(_), Type::Struct(_)) => {
                    let why = format!("The proto field {} does not match the column's type {}.", field.name, field.type_.name());
                    return Err(Mismatch::Invalid(why));
                }
                (Some(_), _) => {}
            }
        }
        Ok(())
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.fields.iter().find(|member| member.name.eq_ignore_ascii_case(name))
    }

    /// Reads one row.
    pub(crate) fn row(&self, columns: &[Field], bytes: &[u8]) -> Result<Row, String> {
        let values = wire(bytes).ok_or("Could not parse the row as a message of the given type.")?;
        let read = |field: &Field| -> Result<Cell, String> {
            let Some(member) = self.member(&field.name) else { return cell::missing(field) };
            let found = values.get(&member.tag).map(Vec::as_slice).unwrap_or_default();
            if member.required && found.is_empty() {
                return Err(format!("The required proto field {} has no value.", member.name));
            }
            let cell = if field.mode == Mode::Repeated {
                let mut cells = Vec::new();
                for raw in found {
                    member.append(field, raw, &mut cells)?;
                }
                Cell::List(cells)
            } else {
                // The last of several values is the one that counts.
                found.last().map_or_else(|| cell::missing(field), |raw| member.value(field, raw))?
            };
            cell::check(field, &cell)?;
            Ok(cell)
        };
        columns.iter().map(read).collect()
    }
}

fn build(descriptor: &DescriptorProto, root: &DescriptorProto, depth: usize) -> Result<Message, String> {
    if depth > longshore_core::schema::MAX_DEPTH {
        return Err("the proto schema is nested too deep".into());
    }
    let members = descriptor.field.iter().map(|field| {
        let last = field.type_name().rsplit('.').next().unwrap_or_default();
        let message = match field.r#type() {
            ProtoType::Message => {
                let nested = nested(descriptor, last).or_else(|| nested(root, last));
                let nested = nested.ok_or_else(|| format!("the proto schema does not hold the type {}", field.type_name()))?;
                Some(build(nested, root, depth + 1)?)
            }
            ProtoType::Group => return Err("proto groups are not supported".into()),
            _ => None,
        };
        let values = enum_values(root, last);
        Ok(Member {
            name: field.name().to_owned(),
            tag: u32::try_from(field.number()).map_err(|e| e.to_string())?,
            type_: field.r#type(),
            required: field.label() == Label::Required,
            message,
            names: values,
        })
    });
    Ok(Message { fields: members.collect::<Result<_, String>>()? })
}

fn nested<'a>(descriptor: &'a DescriptorProto, name: &str) -> Option<&'a DescriptorProto> {
    let here = descriptor.nested_type.iter().find(|nested| nested.name() == name);
    here.or_else(|| descriptor.nested_type.iter().find_map(|inner| nested(inner, name)))
}

fn enum_values(descriptor: &DescriptorProto, name: &str) -> HashMap<i32, String> {
    if let Some(found) = descriptor.enum_type.iter().find(|e| e.name() == name) {
        return found.value.iter().map(|value| (value.number(), value.name().to_owned())).collect();
    }
    let inner = descriptor.nested_type.iter().map(|inner| enum_values(inner, name));
    inner.into_iter().find(|values| !values.is_empty()).unwrap_or_default()
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn fixed(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn wire(mut bytes: &[u8]) -> Option<HashMap<u32, Vec<Raw<'_>>>> {
    let mut values: HashMap<u32, Vec<Raw<'_>>> = HashMap::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let raw = match key & 7 {
            0 => Raw::Number(varint(&mut bytes)?),
            1 => Raw::Number(fixed(take(&mut bytes, 8)?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Raw::Bytes(take(&mut bytes, length)?)
            }
            5 => Raw::Number(fixed(take(&mut bytes, 4)?)),
            _ => return None,
        };
        values.entry(u32::try_from(key >> 3).ok()?).or_default().push(raw);
    }
    Some(values)
}

impl Member {
    /// Appends a value of a repeated field, or all those that are packed into one.
    fn append(&self, field: &Field, raw: &Raw<'_>, cells: &mut Vec<Cell>) -> Result<(), String> {
        let whole = matches!(self.type_, ProtoType::String | ProtoType::Bytes | ProtoType::Message);
        let &Raw::Bytes(mut packed) = raw else {
            cells.push(self.value(field, raw)?);
            return Ok(());
        };
        if whole {
            cells.push(self.value(field, raw)?);
            return Ok(());
        }
        while !packed.is_empty() {
            let number = match self.type_ {
                ProtoType::Double | ProtoType::Fixed64 | ProtoType::Sfixed64 => take(&mut packed, 8).map(fixed),
                ProtoType::Float | ProtoType::Fixed32 | ProtoType::Sfixed32 => take(&mut packed, 4).map(fixed),
                _ => varint(&mut packed),
            };
            cells.push(self.value(field, &Raw::Number(number.ok_or("Could not parse a packed field.")?))?);
        }
        Ok(())
    }

    fn value(&self, field: &Field, raw: &Raw<'_>) -> Result<Cell, String> {
        let refused = || format!("The proto field {} does not convert to {}.", self.name, field.type_.name());
        match (self.type_, raw) {
            (ProtoType::Message, Raw::Bytes(bytes)) => match (&self.message, &field.type_) {
                (Some(message), Type::Struct(fields)) => message.row(fields, bytes).map(Cell::Struct),
                _ => Err(refused()),
            },
            (ProtoType::String, Raw::Bytes(bytes)) => {
                let text = std::str::from_utf8(bytes).map_err(|_| format!("Field {} is not valid UTF-8.", self.name))?;
                if matches!(field.type_, Type::Bytes | Type::Bool) { Err(refused()) } else { cell::from_text(&field.type_, text) }
            }
            (ProtoType::Bytes, Raw::Bytes(bytes)) => from_bytes(&field.type_, bytes).ok_or_else(refused)?,
            (ProtoType::Double, Raw::Number(bits)) => from_float(&field.type_, f64::from_bits(*bits)).ok_or_else(refused),
            (ProtoType::Float, Raw::Number(bits)) => {
                from_float(&field.type_, f64::from(f32::from_bits(*bits as u32))).ok_or_else(refused)
            }
            (ProtoType::Enum, Raw::Number(bits)) => {
                let name = self.names.get(&(*bits as i32));
                let name = name.ok_or_else(|| format!("Field {}: invalid enum value {}.", self.name, *bits as i32))?;
                match field.type_ {
                    Type::String => Ok(Cell::Text(name.clone())),
                    _ => from_integer(&field.type_, i128::from(*bits as i32)).ok_or_else(refused)?,
                }
            }
            (_, Raw::Number(bits)) => from_integer(&field.type_, self.integer(*bits)).ok_or_else(refused)?,
            _ => Err(refused()),
        }
    }

    fn integer(&self, bits: u64) -> i128 {
        match self.type_ {
            ProtoType::Uint64 | ProtoType::Fixed64 => bits.into(),
            ProtoType::Uint32 | ProtoType::Fixed32 => i128::from(bits as u32),
            ProtoType::Int32 | ProtoType::Sfixed32 => i128::from(bits as i32),
            ProtoType::Sint32 | ProtoType::Sint64 => i128::from((bits >> 1) as i64 ^ -((bits & 1) as i64)),
            _ => i128::from(bits as i64),
        }
    }
}

/// NUMERIC and BIGNUMERIC as the bytes of an unscaled integer, the lowest first.
fn from_bytes(type_: &Type, bytes: &[u8]) -> Option<Result<Cell, String>> {
    let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    match type_ {
        Type::Bytes => Some(Ok(Cell::Bytes(bytes.to_vec()))),
        Type::Numeric if bytes.len() <= 16 => {
            let mut wide = [fill; 16];
            wide[..bytes.len()].copy_from_slice(bytes);
            Some(Ok(Cell::Numeric(i128::from_le_bytes(wide))))
        }
        Type::BigNumeric if bytes.len() <= 32 => {
            let mut wide = [fill; 32];
            wide[..bytes.len()].copy_from_slice(bytes);
            Some(cell::big_numeric(&cell::decimal_text(&i256::from_le_bytes(wide).to_string(), 38)))
        }
        _ => None,
    }
}

fn from_float(type_: &Type, value: f64) -> Option<Cell> {
    match type_ {
        Type::Float64 => Some(Cell::Float(value)),
        Type::Numeric => cell::numeric(&value.to_string()).ok(),
        Type::BigNumeric => cell::big_numeric(&value.to_string()).ok(),
        _ => None,
    }
}

fn from_integer(type_: &Type, value: i128) -> Option<Result<Cell, String>> {
    let out_of_range = |_| format!("{} out of range: {value}", type_.name());
    Some(match type_ {
        Type::Bool => Ok(Cell::Bool(value != 0)),
        Type::Int64 => i64::try_from(value).map(Cell::Int).map_err(out_of_range),
        Type::Float64 => Ok(Cell::Float(value as f64)),
        Type::Numeric => cell::numeric(&value.to_string()),
        Type::BigNumeric => cell::big_numeric(&value.to_string()),
        Type::Timestamp => i64::try_from(value).map(Cell::Micros).map_err(out_of_range),
        Type::Date => i32::try_from(value).map(Cell::Days).map_err(out_of_range),
        Type::Time => packed_time(value).map(|micros| Cell::Text(cell::time_text(micros))),
        Type::DateTime => packed_date_time(value),
        _ => return None,
    })
}

/// A TIME packed into an integer: 5 bits of hours, 6 of minutes, 6 of seconds, 20 of microseconds.
fn packed_time(value: i128) -> Result<i64, String> {
    let (micros, second, minute, hour) = (value & 0xf_ffff, value >> 20 & 63, value >> 26 & 63, value >> 32);
    if !(0..24).contains(&hour) || minute > 59 || second > 59 || micros > 999_999 {
        return Err(format!("invalid TIME {value}"));
    }
    i64::try_from(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros).map_err(|e| e.to_string())
}

/// A DATETIME packed into an integer: the year, 4 bits of months, 5 of days, and a TIME.
fn packed_date_time(value: i128) -> Result<Cell, String> {
    let micros = packed_time(value & ((1 << 37) - 1))?;
    let (day, month, year) = (value >> 37 & 31, value >> 42 & 15, value >> 46);
    cell::date_time(&format!("{year:04}-{month:02}-{day:02}T{}", cell::time_text(micros)))
}
