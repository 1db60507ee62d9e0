//! A message's binary form onto a tape.

use std::borrow::Cow;

use longshore_files::tape::{self, Token};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

use super::WellKnown;
use crate::decimal;
use crate::error::PROTOBUF_INVALID;
use crate::fault::Fault;
use crate::sheet::Sheet;
use crate::times::{self, Finer};

/// Writes the message that `content` is at the end of the sheet; returns its token. A field that can be absent and is, is null; one that cannot has
/// its default value.
pub(crate) fn read(type_: &MessageDescriptor, content: &[u8], finer: Finer, sheet: &mut Sheet) -> Result<u32, Fault> {
    let message = DynamicMessage::decode(type_.clone(), content)
        .map_err(|e| Fault::new(PROTOBUF_INVALID, format!("the message is not what its schema says: {e}")))?;
    let token = sheet.tape.len();
    let mut writer = Writer { finer, sheet, path: Vec::new() };
    match writer.message(&message) {
        Ok(()) => Ok(token),
        Err(why) => {
            let path = writer.path.join(".");
            Err(Fault::new(PROTOBUF_INVALID, format!("field {path}: {why}")).at(path))
        }
    }
}

struct Writer<'a> {
    finer: Finer,
    sheet: &'a mut Sheet,
    /// The fields around the present value.
    path: Vec<String>,
}

impl Writer<'_> {
    fn message(&mut self, message: &DynamicMessage) -> Result<(), String> {
        let object = self.sheet.tape.open(Token::Object { end: 0 });
        for field in message.descriptor().fields() {
            self.key(field.name());
            if field.supports_presence() && !message.has_field(&field) {
                self.sheet.tape.push(Token::Null);
                continue;
            }
            self.path.push(field.name().to_owned());
            self.value(&field, &message.get_field(&field))?;
            self.path.pop();
        }
        self.sheet.tape.close(object);
        Ok(())
    }

    fn key(&mut self, name: &str) {
        let span = self.sheet.name(name);
        self.sheet.tape.push(Token::Key(span));
    }

    fn value(&mut self, field: &FieldDescriptor, value: &Value) -> Result<(), String> {
        match value {
            Value::List(values) => {
                let list = self.sheet.tape.open(Token::Array { end: 0 });
                for value in values {
                    self.one(&field.kind(), value)?;
                }
                self.sheet.tape.close(list);
            }
            Value::Map(entries) => {
                let Kind::Message(entry) = field.kind() else { return Err("a map has no entries".to_owned()) };
                let kind = entry.map_entry_value_field().kind();
                let mut entries: Vec<(&MapKey, &Value)> = entries.iter().collect();
                // In an order of their own, because maps have none.
                entries.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
                let list = self.sheet.tape.open(Token::Array { end: 0 });
                for (key, value) in entries {
                    let object = self.sheet.tape.open(Token::Object { end: 0 });
                    self.key("key");
                    self.map_key(key);
                    self.key("value");
                    self.one(&kind, value)?;
                    self.sheet.tape.close(object);
                }
                self.sheet.tape.close(list);
            }
            value => self.one(&field.kind(), value)?,
        }
        Ok(())
    }

    fn map_key(&mut self, key: &MapKey) {
        match key {
            MapKey::Bool(value) => self.sheet.tape.push(Token::Bool(*value)),
            MapKey::I32(value) => self.int((*value).into()),
            MapKey::I64(value) => self.int(*value),
            MapKey::U32(value) => self.int((*value).into()),
            MapKey::U64(value) => self.unsigned(*value),
            MapKey::String(text) => self.sheet.string(text),
        }
    }

    fn int(&mut self, value: i64) {
        self.sheet.tape.push(Token::typed(tape::Value::Int(value)));
    }

    fn unsigned(&mut self, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => self.number(&value.to_string()),
        }
    }

    fn number(&mut self, text: &str) {
        let span = self.sheet.tape.span(text);
        self.sheet.tape.push(Token::Number(span));
    }

    fn one(&mut self, kind: &Kind, value: &Value) -> Result<(), String> {
        match value {
            Value::Bool(value) => self.sheet.tape.push(Token::Bool(*value)),
            Value::I32(value) => self.int((*value).into()),
            Value::I64(value) => self.int(*value),
            Value::U32(value) => self.int((*value).into()),
            Value::U64(value) => self.unsigned(*value),
            Value::F32(value) => self.sheet.tape.push(Token::typed(tape::Value::Double((*value).into()))),
            Value::F64(value) => self.sheet.tape.push(Token::typed(tape::Value::Double(*value))),
            Value::String(text) => self.sheet.string(text),
            Value::Bytes(bytes) => self.sheet.blob(bytes),
            Value::EnumNumber(number) => match kind {
                // A number without a name was given one after the schema was made.
                Kind::Enum(names) => match names.get_value(*number) {
                    Some(name) => self.sheet.string(name.name()),
                    None => self.sheet.string(&number.to_string()),
                },
                _ => self.int((*number).into()),
            },
            Value::Message(message) => match WellKnown::of(&message.descriptor()) {
                Some(known) => self.well_known(known, message)?,
                None => self.message(message)?,
            },
            Value::List(_) | Value::Map(_) => return Err("a list within a list".to_owned()),
        }
        Ok(())
    }

    fn well_known(&mut self, known: WellKnown, message: &DynamicMessage) -> Result<(), String> {
        let part = |name: &str| message.get_field_by_name(name);
        let int = |name: &str| match part(name).as_deref() {
            Some(Value::I64(value)) => *value,
            Some(Value::I32(value)) => (*value).into(),
            _ => 0,
        };
        match known {
            WellKnown::Timestamp => {
                let micros = times::of_parts(int("seconds"), int("nanos"), self.finer).and_then(times::moment)?;
                self.sheet.tape.push(Token::typed(tape::Value::Timestamp(micros)));
            }
            WellKnown::Duration => self.sheet.string(&duration(int("seconds"), int("nanos"))),
            WellKnown::Wrapper => match message.descriptor().get_field_by_name("value") {
                Some(field) => self.one(&field.kind(), &message.get_field(&field))?,
                None => self.sheet.tape.push(Token::Null),
            },
            WellKnown::FieldMask => {
                let paths = part("paths").map(Cow::into_owned);
                let texts =
                    |paths: &[Value]| paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect::<Vec<_>>();
                let paths = paths.as_ref().and_then(Value::as_list).map(texts).unwrap_or_default();
                self.sheet.string(&paths.join(","));
            }
            WellKnown::Decimal => {
                let value = part("value").map(Cow::into_owned);
                let bytes = value.as_ref().and_then(Value::as_bytes).map(|bytes| bytes.to_vec()).unwrap_or_default();
                let scale = u64::try_from(int("scale")).map_err(|_| "a decimal's scale is negative".to_owned())?;
                let text = decimal::text(&bytes, scale).ok_or("the decimal has more digits than any table takes")?;
                self.number(&text);
            }
            WellKnown::Json => self.json(message)?,
        }
        Ok(())
    }

    /// Any JSON, as messages of Google's have it.
    fn json(&mut self, message: &DynamicMessage) -> Result<(), String> {
        let list = |name: &str| message.get_field_by_name(name).map(Cow::into_owned);
        match message.descriptor().name() {
            "Struct" => {
                let fields = list("fields");
                let mut members: Vec<(&MapKey, &Value)> = fields.as_ref().and_then(Value::as_map).into_iter().flatten().collect();
                members.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
                let object = self.sheet.tape.open(Token::Object { end: 0 });
                for (key, value) in members {
                    self.key(key.as_str().unwrap_or_default());
                    self.json_value(value)?;
                }
                self.sheet.tape.close(object);
            }
            "ListValue" => {
                let values = list("values");
                let array = self.sheet.tape.open(Token::Array { end: 0 });
                for value in values.as_ref().and_then(Value::as_list).into_iter().flatten() {
                    self.json_value(value)?;
                }
                self.sheet.tape.close(array);
            }
            _ => match message.fields().next() {
                None => self.sheet.tape.push(Token::Null),
                Some((field, _)) if field.name() == "null_value" => self.sheet.tape.push(Token::Null),
                Some((field, value)) => self.one(&field.kind(), value)?,
            },
        }
        Ok(())
    }

    fn json_value(&mut self, value: &Value) -> Result<(), String> {
        match value.as_message() {
            Some(message) => self.json(message),
            None => Err("a JSON value is none".to_owned()),
        }
    }
}

/// Seconds with as many digits as there are, as Google's JSON has them: `1.5s`.
fn duration(seconds: i64, nanos: i64) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    match nanos {
        0 => format!("{sign}{seconds}s"),
        _ => format!("{sign}{seconds}.{}s", format!("{nanos:09}").trim_end_matches('0')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_texts_of_seconds() {
        assert_eq!(duration(0, 0), "0s");
        assert_eq!(duration(1, 500_000_000), "1.5s");
        assert_eq!(duration(0, -1), "-0.000000001s");
        assert_eq!(duration(-3, -20_000_000), "-3.02s");
    }
}
