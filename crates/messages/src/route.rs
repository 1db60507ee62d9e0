//! Which table a message goes to.

use longshore_core::commit::DEAD_LETTERS;
use longshore_core::names::MAX_NAME;
use longshore_files::columns::shorten;
use longshore_files::tape::{Tape, Token};

use crate::error::{BAD_DESTINATION, NO_DESTINATION};
use crate::fault::Fault;
use crate::message::{From, Messages};
use crate::pointer::Pointer;
use crate::template::Template;

/// What names the table of a message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub enum Route {
    /// Nothing: they all go to this one.
    Table(String),
    /// The last header, or the attribute, of this name.
    Header(String),
    /// The key; with Pub/Sub the ordering key.
    Key,
    /// The topic, with `_` for what no table's name has. Only Kafka's messages tell it.
    Topic,
    /// A field of the content.
    Field(Pointer),
    /// Several of these.
    Expression(Template),
}

/// What names the table of a message: one of these.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// One table for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    /// The attribute of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    attribute: Option<String>,
    /// The header of this name; the last one, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// The key; with Pub/Sub the ordering key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    key: bool,
    /// The topic's name, with `_` for what no table's name has (`shop.orders` goes to `shop_orders`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    topic: bool,
    /// The field of this name, or at this JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// A text with `{topic}`, `{key}`, `{header.NAME}`, `{attribute.NAME}` and `{field.NAME}` or `{field./JSON/POINTER}` in it. `|lower`,
    /// `|upper` and `|name` change what is put in: `{topic|name}` is the topic with `_` for what no table's name has.
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
}

impl Route {
    /// The header, or attribute, of this name.
    pub fn header(name: impl Into<String>) -> Self {
        Route::Header(name.into())
    }

    /// As [`Route::header`], in Pub/Sub's word.
    pub fn attribute(name: impl Into<String>) -> Self {
        Route::header(name)
    }

    /// Whether it asks for the topic, which Pub/Sub's messages do not tell.
    pub fn needs_topic(&self) -> bool {
        match self {
            Route::Topic => true,
            Route::Expression(template) => template.needs_topic(),
            _ => false,
        }
    }

    /// Whether the content has to be read before the table is known.
    pub(crate) fn needs_content(&self) -> bool {
        match self {
            Route::Field(_) => true,
            Route::Expression(template) => template.needs_content(),
            _ => false,
        }
    }

    /// Writes the name of a message's table behind `out`. `content` is the record, if it was asked for.
    pub(crate) fn write(
        &self,
        messages: &Messages,
        index: u32,
        content: Option<(&Tape, u32)>,
        out: &mut String,
    ) -> Result<(), Fault> {
        match self {
            Route::Table(table) => out.push_str(table),
            Route::Header(name) => header(messages, index, name, out)?,
            Route::Key => key(messages, index, out)?,
            Route::Topic => out.extend(topic(messages, index)?.chars().map(plain)),
            Route::Field(pointer) => field(content, pointer, out)?,
            Route::Expression(template) => template.write(messages, index, content, out)?,
        }
        Ok(())
    }
}

/// Whether a table can have this name: 1 to 300 letters, digits, `_`, `-` and spaces, and none of ours.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    let bad = |why: &str| {
        let shown = shorten(name, 60);
        Err(Fault::new(BAD_DESTINATION, format!("the message names {shown:?} as its table, {why}")))
    };
    if name.is_empty() {
        return bad("which is empty");
    }
    if name.chars().count() > MAX_NAME {
        return bad("which is longer than 300 characters");
    }
    if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ')) {
        return bad("but names of tables have letters, digits, `_`, `-` and spaces only");
    }
    if is_ours(name) {
        return bad("which is one of Longshore's own");
    }
    Ok(())
}

/// The character of a table's name for one of a topic's.
pub(crate) fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}

/// Whether it is a name that tables of Longshore's own have.
pub(crate) fn is_ours(name: &str) -> bool {
    name == DEAD_LETTERS || name.starts_with("_longshore")
}

pub(crate) fn header(messages: &Messages, index: u32, name: &str, out: &mut String) -> Result<(), Fault> {
    let word = match messages.from(index) {
        From::Kafka { .. } => "header",
        From::PubSub { .. } => "attribute",
    };
    let Some(value) = messages.header(index, name) else {
        return Err(Fault::new(NO_DESTINATION, format!("the message has no {word} `{name}` to name its table")));
    };
    push_bytes(value, || format!("the {word} `{name}`"), out)
}

pub(crate) fn key(messages: &Messages, index: u32, out: &mut String) -> Result<(), Fault> {
    match (messages.key(index), messages.from(index)) {
        (Some(key), _) => push_bytes(key, || "the key".to_owned(), out),
        (None, From::PubSub { ordering_key, .. }) if !ordering_key.is_empty() => {
            out.push_str(ordering_key);
            Ok(())
        }
        _ => Err(Fault::new(NO_DESTINATION, "the message has no key to name its table")),
    }
}

pub(crate) fn topic(messages: &Messages, index: u32) -> Result<&str, Fault> {
    match messages.from(index) {
        From::Kafka { topic, .. } => Ok(topic),
        From::PubSub { .. } => Err(Fault::new(NO_DESTINATION, "a message of Pub/Sub does not tell its topic")),
    }
}

pub(crate) fn field(content: Option<(&Tape, u32)>, pointer: &Pointer, out: &mut String) -> Result<(), Fault> {
    let missing = || Fault::new(NO_DESTINATION, format!("the message has no field `{pointer}` to name its table"));
    let (tape, record) = content.ok_or_else(missing)?;
    let value = pointer.find(tape, record).ok_or_else(missing)?;
    match tape.token(value) {
        Token::Null => Err(missing()),
        Token::Object { .. } | Token::Array { .. } | Token::Bytes(_) => {
            let what = format!("the field `{pointer}` is not a text, so it cannot name a table");
            Err(Fault::new(BAD_DESTINATION, what).at(pointer.to_string()))
        }
        _ => {
            longshore_files::json::write_text(tape, value, out);
            Ok(())
        }
    }
}

fn push_bytes(value: &[u8], what: impl Fn() -> String, out: &mut String) -> Result<(), Fault> {
    match std::str::from_utf8(value) {
        Ok(text) => {
            out.push_str(text);
            Ok(())
        }
        Err(_) => Err(Fault::new(BAD_DESTINATION, format!("{} is not UTF-8, so it cannot name a table", what()))),
    }
}

impl TryFrom<Settings> for Route {
    type Error = String;

    fn try_from(settings: Settings) -> Result<Self, String> {
        let Settings { table, attribute, header, key, topic, field, expression } = settings;
        let given = [
            table.map(|table| Ok(Route::Table(table))),
            attribute.or(header).map(|name| Ok(Route::Header(name))),
            key.then_some(Ok(Route::Key)),
            topic.then_some(Ok(Route::Topic)),
            field.map(|field| field.parse().map(Route::Field)),
            expression.map(|text| text.parse().map(Route::Expression)),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(route), None) => match route {
                Ok(Route::Table(table)) => match check_name(&table) {
                    Ok(()) => Ok(Route::Table(table)),
                    Err(_) => Err(format!("`route.table`: a table cannot be called {table:?}")),
                },
                Ok(route) => Ok(route),
                Err(why) => Err(format!("`route`: {why}")),
            },
            _ => Err("`route` takes one of `table`, `attribute`, `header`, `key`, `topic`, `field` and `expression`".to_owned()),
        }
    }
}

impl std::convert::From<Route> for Settings {
    fn from(route: Route) -> Self {
        let mut settings = Self::default();
        match route {
            Route::Table(table) => settings.table = Some(table),
            Route::Header(name) => settings.header = Some(name),
            Route::Key => settings.key = true,
            Route::Topic => settings.topic = true,
            Route::Field(pointer) => settings.field = Some(pointer.to_string()),
            Route::Expression(template) => settings.expression = Some(template.to_string()),
        }
        settings
    }
}

impl schemars::JsonSchema for Route {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Route".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Settings::json_schema(generator)
    }
}
