//! What comes with a message beside its content, as columns.

use longshore_core::commit::Contract;
use longshore_core::schema::{Field, Mode, Type};
use longshore_core::source::Target;
use longshore_files::error::ENCODING_INVALID;
use longshore_files::tape::{self, Span, Token};
use serde::de::Error as _;
use serde_json::Value;

use crate::fault::Fault;
use crate::message::{From, Messages};
use crate::sheet::Sheet;

/// The columns that were asked for, in the order in which they were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataColumns(pub Vec<MetadataColumn>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataColumn {
    /// What it holds.
    pub what: Metadata,
    /// Its name.
    pub name: String,
    /// Whether bytes are STRING instead of BYTES where the column is made; `None` for what is usual.
    pub text: Option<bool>,
}

/// What may come with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// Kafka's key.
    Key,
    /// Kafka's headers: `ARRAY<STRUCT<name STRING, value BYTES>>`.
    Headers,
    /// Pub/Sub's attributes: `ARRAY<STRUCT<name STRING, value STRING>>`.
    Attributes,
    /// When it was written, as the broker says it: TIMESTAMP.
    Time,
    /// Kafka's topic: STRING.
    Topic,
    /// Kafka's partition: INT64.
    Partition,
    /// Kafka's offset: INT64.
    Offset,
    /// Pub/Sub's subscription: STRING.
    Subscription,
    /// Pub/Sub's id of the message: STRING.
    MessageId,
    /// Pub/Sub's ordering key: STRING, NULL for none.
    OrderingKey,
}

impl Metadata {
    /// Each with its word in settings and its column's name.
    const ALL: [(Self, &'static str, &'static str); 10] = [
        (Self::Key, "key", "_key"),
        (Self::Headers, "headers", "_headers"),
        (Self::Attributes, "attributes", "_attributes"),
        (Self::Time, "time", "_time"),
        (Self::Topic, "topic", "_topic"),
        // BigQuery keeps names that begin with `_PARTITION` for itself.
        (Self::Partition, "partition", "_topic_partition"),
        (Self::Offset, "offset", "_offset"),
        (Self::Subscription, "subscription", "_subscription"),
        (Self::MessageId, "message_id", "_message_id"),
        (Self::OrderingKey, "ordering_key", "_ordering_key"),
    ];

    /// Its word in settings.
    pub fn word(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> (Self, &'static str, &'static str) {
        Self::ALL.into_iter().find(|(what, ..)| *what == self).unwrap_or_else(|| unreachable!("all are listed"))
    }

    fn is_bytes(self) -> bool {
        matches!(self, Self::Key | Self::Headers | Self::Attributes)
    }
}

impl MetadataColumn {
    /// The column that a table would get for it.
    pub fn field(&self) -> Field {
        let text = self.text.unwrap_or(self.what == Metadata::Attributes);
        let bytes = if text { Type::String } else { Type::Bytes };
        match self.what {
            Metadata::Key => Field::new(&self.name, bytes),
            Metadata::Headers | Metadata::Attributes => {
                let fields = vec![Field::new("name", Type::String), Field::new("value", bytes)];
                Field::new(&self.name, Type::Struct(fields)).with_mode(Mode::Repeated)
            }
            Metadata::Time => Field::new(&self.name, Type::Timestamp),
            Metadata::Partition | Metadata::Offset => Field::new(&self.name, Type::Int64),
            Metadata::Topic | Metadata::Subscription | Metadata::MessageId | Metadata::OrderingKey => {
                Field::new(&self.name, Type::String)
            }
        }
    }

    fn usual(what: Metadata) -> Self {
        Self { what, name: what.entry().2.to_owned(), text: None }
    }
}

/// How the columns are written for one table: whether at all, and whether their bytes are text.
pub(crate) type Forms = Vec<Option<bool>>;

impl MetadataColumns {
    /// Their names, and those of the fields inside of them: what [`MetadataColumns::write`] takes the spans of.
    pub(crate) fn names(&self) -> Vec<String> {
        let inner = ["name".to_owned(), "value".to_owned()];
        self.0.iter().map(|column| column.name.clone()).chain(inner).collect()
    }

    /// The columns that a table would get for them.
    pub(crate) fn fields(&self) -> Vec<Field> {
        self.0.iter().map(MetadataColumn::field).collect()
    }

    /// How they are written for a table, or for one that is yet to be made. A table that ignores what it does not know is given only
    /// those that it has.
    pub(crate) fn forms(&self, target: Option<&Target>) -> Forms {
        let form = |column: &MetadataColumn| {
            let usual = is_text(&column.field());
            let Some(target) = target else { return Some(usual) };
            match target.schema.fields.iter().find(|field| field.name == column.name) {
                Some(field) => Some(is_text(field)),
                None if target.contract == Contract::Ignore => None,
                None => Some(usual),
            }
        };
        self.0.iter().map(form).collect()
    }

    /// Adds the columns of a message to the object that is open at the end of the sheet. `names` are the spans of
    /// [`MetadataColumns::names`].
    pub(crate) fn write(
        &self,
        messages: &Messages,
        index: u32,
        forms: &Forms,
        names: &[Span],
        sheet: &mut Sheet,
    ) -> Result<(), Fault> {
        let inner = (names[self.0.len()], names[self.0.len() + 1]);
        for ((column, form), &name) in self.0.iter().zip(forms).zip(names) {
            let Some(text) = *form else { continue };
            sheet.tape.push(Token::Key(name));
            let bytes = |bytes: &[u8], sheet: &mut Sheet| write_bytes(bytes, text, &column.name, sheet);
            match (column.what, messages.from(index)) {
                (Metadata::Key, _) => match messages.key(index) {
                    Some(key) => bytes(key, sheet)?,
                    None => sheet.tape.push(Token::Null),
                },
                (Metadata::Headers | Metadata::Attributes, _) => {
                    let list = sheet.tape.open(Token::Array { end: 0 });
                    for (name, value) in messages.headers(index) {
                        let one = sheet.tape.open(Token::Object { end: 0 });
                        sheet.tape.push(Token::Key(inner.0));
                        sheet.string(name);
                        sheet.tape.push(Token::Key(inner.1));
                        bytes(value, sheet)?;
                        sheet.tape.close(one);
                    }
                    sheet.tape.close(list);
                }
                (Metadata::Time, _) => sheet.tape.push(
                    messages
                        .time(index)
                        .map_or(Token::Null, |time| Token::typed(tape::Value::Timestamp(time.timestamp_micros()))),
                ),
                (Metadata::Topic, From::Kafka { topic, .. }) => sheet.string(topic),
                (Metadata::Partition, From::Kafka { partition, .. }) => {
                    sheet.tape.push(Token::typed(tape::Value::Int(partition.into())));
                }
                (Metadata::Offset, From::Kafka { offset, .. }) => sheet.tape.push(Token::typed(tape::Value::Int(offset))),
                (Metadata::Subscription, From::PubSub { subscription, .. }) => sheet.string(subscription),
                (Metadata::MessageId, From::PubSub { id, .. }) => sheet.string(id),
                (Metadata::OrderingKey, From::PubSub { ordering_key, .. }) if !ordering_key.is_empty() => {
                    sheet.string(ordering_key);
                }
                // What the broker does not have.
                _ => sheet.tape.push(Token::Null),
            }
        }
        Ok(())
    }
}

fn is_text(field: &Field) -> bool {
    match &field.type_ {
        Type::Struct(children) => children.iter().any(|child| child.name == "value" && child.type_ != Type::Bytes),
        type_ => *type_ != Type::Bytes,
    }
}

fn write_bytes(bytes: &[u8], text: bool, column: &str, sheet: &mut Sheet) -> Result<(), Fault> {
    match std::str::from_utf8(bytes) {
        _ if !text => sheet.blob(bytes),
        Ok(text) => sheet.string(text),
        Err(_) => {
            let why = format!("column {column} is not BYTES, and what is to go there is not UTF-8");
            return Err(Fault::new(ENCODING_INVALID, why).at(column));
        }
    }
    Ok(())
}

/// A column as settings have it.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: Option<String>,
    #[serde(rename = "type")]
    type_: Option<String>,
}

impl<'de> serde::Deserialize<'de> for MetadataColumns {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let columns = match Value::deserialize(deserializer)? {
            Value::Null => Vec::new(),
            Value::String(word) => vec![listed(&Value::String(word))],
            Value::Array(words) => words.iter().map(listed).collect(),
            Value::Object(named) => named.into_iter().map(|(word, value)| mapped(&word, value)).collect(),
            other => return Err(D::Error::custom(format!("`columns` is a list or a map, not {other}"))),
        };
        let columns = columns.into_iter().collect::<Result<Vec<MetadataColumn>, String>>().map_err(D::Error::custom)?;
        for (at, column) in columns.iter().enumerate() {
            let twin = columns[..at].iter().find(|other| other.name.eq_ignore_ascii_case(&column.name));
            if let Some(twin) = twin {
                let why = format!("`columns`: `{}` and `{}` have one name, {}", twin.what.word(), column.what.word(), twin.name);
                return Err(D::Error::custom(why));
            }
        }
        Ok(Self(columns))
    }
}

impl serde::Serialize for MetadataColumns {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|column| {
            let type_ = column.text.map(|text| if text { "STRING" } else { "BYTES" }.to_owned());
            (column.what.word(), Named { name: Some(column.name.clone()), type_ })
        }))
    }
}

impl schemars::JsonSchema for MetadataColumns {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MetadataColumns".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // A list or a map; what is in it is checked as it is read.
        schemars::json_schema!({})
    }
}

fn what(word: &str) -> Result<Metadata, String> {
    let found = Metadata::ALL.into_iter().find(|(_, known, _)| *known == word);
    found.map(|(what, ..)| what).ok_or_else(|| {
        let known: Vec<&str> = Metadata::ALL.iter().map(|(_, word, _)| *word).collect();
        format!("`columns`: `{word}` is not known; known: {}", known.join(", "))
    })
}

fn listed(word: &Value) -> Result<MetadataColumn, String> {
    let Some(word) = word.as_str() else { return Err(format!("`columns`: {word} is not a word")) };
    what(word).map(MetadataColumn::usual)
}

fn mapped(word: &str, value: Value) -> Result<MetadataColumn, String> {
    let mut column = MetadataColumn::usual(what(word)?);
    let named = match value {
        Value::Null | Value::Bool(true) => return Ok(column),
        Value::String(name) => Named { name: Some(name), type_: None },
        other => serde_json::from_value(other).map_err(|e| format!("`columns.{word}`: {e}"))?,
    };
    if let Some(name) = named.name {
        let fits = |c: char| c.is_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(fits) {
            return Err(format!("`columns.{word}`: a column cannot be called {name:?}"));
        }
        column.name = name;
    }
    column.text = match named.type_.map(|type_| type_.to_ascii_uppercase()).as_deref() {
        None => None,
        Some(_) if !column.what.is_bytes() => return Err(format!("`columns.{word}`: its type is always the same")),
        Some("STRING") => Some(true),
        Some("BYTES") => Some(false),
        Some(other) => return Err(format!("`columns.{word}`: the type is STRING or BYTES, not {other}")),
    };
    Ok(column)
}
