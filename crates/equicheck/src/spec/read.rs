//! Reading TOML values into the types of the audit file, with all that is wrong collected. Each type knows its JSON
//! Schema too, so that the two cannot part.

use std::ops::Range;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::nearest;

use super::error::Problem;

/// What stands for an answer that has yet to be given.
pub(crate) const OPEN: &str = "?";

/// The value of a key: given, absent, or "?" for an answer that has yet to be given.
#[derive(Debug, Clone, PartialEq)]
pub struct Said<T> {
    value: Option<T>,
    span: Option<Range<usize>>,
}

impl<T> Default for Said<T> {
    fn default() -> Self {
        Self { value: None, span: None }
    }
}

impl<T> Said<T> {
    /// The value, where one is given.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The bytes of the file where the value or the "?" is; `None` where the key is absent.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// Whether the key is there.
    pub fn is_present(&self) -> bool {
        self.span.is_some()
    }

    /// Whether it is there and holds "?", or a value that could not be read.
    pub fn is_open(&self) -> bool {
        self.is_present() && self.value.is_none()
    }

    /// Puts another value in its place, such as one of a command line. A question that the file leaves open stays open.
    pub fn set(&mut self, value: T) {
        self.value = Some(value);
    }

    /// The value alone.
    pub(crate) fn into_value(self) -> Option<T> {
        self.value
    }

    /// A value at a place.
    pub(crate) fn new(value: T, span: Range<usize>) -> Self {
        Self { value: Some(value), span: Some(span) }
    }
}

/// Reads a value, or "?" in its place.
pub(crate) fn read_said<T: Read>(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Said<T> {
    let span = reader.span(value.span());
    if !T::QUESTIONS_INSIDE && value.get_ref().as_str() == Some(OPEN) {
        reader.open.push((reader.path(), span.clone()));
        return Said { value: None, span: Some(span) };
    }
    Said { value: T::read(value, reader), span: Some(span) }
}

/// A type of values in the file.
pub(crate) trait Read: Sized {
    /// Whether it reads "?" itself.
    const QUESTIONS_INSIDE: bool = false;

    /// Reads it; what is wrong goes to the reader.
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self>;

    /// Its JSON Schema, "?" apart.
    fn schema() -> Value;
}

/// A schema that takes "?" too.
pub(crate) fn or_open(schema: Value) -> Value {
    if schema == json!({ "type": "string" }) {
        return schema;
    }
    match schema {
        Value::Object(mut map) if map.len() == 1 && map.contains_key("anyOf") => {
            if let Some(Value::Array(options)) = map.get_mut("anyOf")
                && !options.contains(&json!({ "type": "string" }))
            {
                options.push(json!({ "const": OPEN }));
            }
            Value::Object(map)
        }
        other => json!({ "anyOf": [other, { "const": OPEN }] }),
    }
}

/// What reading has found so far.
pub(crate) struct Reader<'a> {
    pub(crate) text: &'a str,
    /// Keys on the way to the value that is being read.
    keys: Vec<String>,
    pub(crate) problems: Vec<Problem>,
    /// Paths and places of "?".
    pub(crate) open: Vec<(String, Range<usize>)>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, keys: Vec::new(), problems: Vec::new(), open: Vec::new() }
    }

    /// The path of the value that is being read, such as `run.samples`.
    pub(crate) fn path(&self) -> String {
        self.keys.join(".")
    }

    /// A place that is certainly one of the text.
    pub(crate) fn span(&self, span: Range<usize>) -> Range<usize> {
        if self.text.get(span.clone()).is_some() { span } else { 0..0 }
    }

    pub(crate) fn within<R>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> R) -> R {
        self.keys.push(shown(key));
        let result = read(self);
        self.keys.pop();
        result
    }

    /// The value is not of the type that is expected.
    pub(crate) fn wrong<T>(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) -> Option<T> {
        let span = self.span(value.span());
        let message = format!("`{}` is {expected}, found {}", self.path(), kind(value.get_ref()));
        self.problems.push(Problem::at(span, message).mark(format!("expected {expected}")));
        None
    }

    /// The value is of the right type, and cannot be what is meant.
    pub(crate) fn refuse<T>(&mut self, span: Range<usize>, why: &str, help: &str) -> Option<T> {
        let span = self.span(span);
        let problem = Problem::at(span, format!("`{}`: {why}", self.path()));
        self.problems.push(if help.is_empty() { problem } else { problem.help(help) });
        None
    }
}

/// A key as it is written in a path: quoted where it has to be.
pub(crate) fn shown(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("\"{}\"", key.escape_debug())
    }
}

/// The kind of a value, with its article.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a decimal point",
        DeValue::Boolean(true) => "`true`",
        DeValue::Boolean(false) => "`false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The keys of a table in the order of the file. Keys of one table may stand apart from each other.
pub(crate) fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t str, Range<usize>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> =
        table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    entries
}

/// A table of known keys.
pub(crate) trait Table: Default {
    /// What it is called, such as `[run]`.
    const NAME: &'static str;
    /// Its keys.
    const KEYS: &'static [&'static str];

    /// Reads one key; whether it is one.
    fn set(&mut self, key: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> bool;

    /// Keys, descriptions and schemas; whether the key has to be there.
    fn properties() -> Vec<(&'static str, String, Value, bool)>;

    /// Keys and where their values are.
    fn spans(&self) -> Vec<(&'static str, Option<Range<usize>>)>;

    /// What to do about a key that is none, if there is more to say than the nearest one; `path` is the table's.
    fn advice(_path: &str, _key: &str, _value: &DeValue<'_>) -> Option<String> {
        None
    }
}

/// Reads the keys of a table; `place` is where to say that one is missing.
pub(crate) fn read_table<T: Table>(table: &DeTable<'_>, place: &Range<usize>, reader: &mut Reader<'_>) -> T {
    let mut result = T::default();
    for (key, span, value) in in_order(table) {
        let known = reader.within(key, |reader| result.set(key, value, reader));
        if known {
            continue;
        }
        let span = reader.span(span);
        let problem = Problem::at(span, format!("`{}` is no key of {}", shown(key), T::NAME));
        let advice = T::advice(&reader.path(), key, value.get_ref())
            .or_else(|| nearest(key, T::KEYS.iter().copied()).map(|near| format!("did you mean `{near}`?")))
            .unwrap_or_else(|| format!("its keys are {}", T::KEYS.join(", ")));
        reader.problems.push(problem.mark("unknown key").help(advice));
    }
    let missing = |key: &str| result.spans().iter().any(|(other, span)| *other == key && span.is_none());
    for (key, description, _, required) in T::properties() {
        if required && missing(key) {
            let message = format!("`{key}` is missing from {}", T::NAME);
            // The file as a whole is no place.
            let problem = match reader.span(place.clone()) {
                span if span.is_empty() => Problem::general(message),
                span => Problem::at(span, message),
            };
            reader.problems.push(problem.help(format!("`{key}`: {}", first_sentence(&description))));
        }
    }
    result
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

/// The JSON Schema of a table.
pub(crate) fn table_schema<T: Table>() -> Value {
    let mut properties = serde_json::Map::new();
    let mut required = Vec::new();
    for (key, description, mut schema, needed) in T::properties() {
        if let Value::Object(map) = &mut schema {
            map.insert("description".to_owned(), Value::String(description));
        }
        properties.insert(key.to_owned(), schema);
        if needed {
            required.push(key);
        }
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let Value::Object(map) = &mut schema
        && !required.is_empty()
    {
        map.insert("required".to_owned(), json!(required));
    }
    schema
}

/// A table of the file: a struct whose fields are its keys, and whose documentation is their description. `required`
/// after a type: the key has to be there.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $vis:vis $name:ident = $called:literal {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty $(, $required:ident)? ; )*
        }
        $(advice = $advice:path)?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Default)]
        $vis struct $name {
            $( $(#[doc = $doc])+ pub $key: $crate::spec::Said<$type>, )*
        }

        impl $crate::spec::read::Table for $name {
            const NAME: &'static str = $called;
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            fn set(
                &mut self,
                key: &str,
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::spec::read::Reader<'_>,
            ) -> bool {
                match key {
                    $( stringify!($key) => self.$key = $crate::spec::read::read_said(value, reader), )*
                    _ => return false,
                }
                true
            }

            fn properties() -> Vec<(&'static str, String, serde_json::Value, bool)> {
                vec![$((
                    stringify!($key),
                    [$($doc.trim()),+].join(" "),
                    $crate::spec::read::or_open(<$type as $crate::spec::read::Read>::schema()),
                    $crate::spec::read::is_required(&[$(stringify!($required))?]),
                )),*]
            }

            fn spans(&self) -> Vec<(&'static str, Option<std::ops::Range<usize>>)> {
                vec![$((stringify!($key), self.$key.span())),*]
            }

            $(fn advice(path: &str, key: &str, value: &toml::de::DeValue<'_>) -> Option<String> {
                $advice(path, key, value)
            })?
        }

        impl $crate::spec::read::Read for $name {
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::spec::read::Reader<'_>,
            ) -> Option<Self> {
                let Some(table) = value.get_ref().as_table() else { return reader.wrong(value, "a table") };
                Some($crate::spec::read::read_table(table, &value.span(), reader))
            }

            fn schema() -> serde_json::Value {
                $crate::spec::read::table_schema::<Self>()
            }
        }
    };
}
pub(crate) use table;

/// What `table!` makes of the word after a type.
pub(crate) fn is_required(words: &[&str]) -> bool {
    words == ["required"]
}

impl Read for String {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref().as_str() {
            Some(text) => Some(text.to_owned()),
            None => reader.wrong(value, "a string"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Read for bool {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref().as_bool() {
            Some(given) => Some(given),
            None => reader.wrong(value, "`true` or `false`"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl Read for i64 {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(number) = value.get_ref() else { return reader.wrong(value, "a whole number") };
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(number),
            Err(_) => reader.refuse(value.span(), "the number is too large for 64 bits", ""),
        }
    }

    fn schema() -> Value {
        json!({ "type": "integer" })
    }
}

impl Read for u64 {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(number) = value.get_ref() else { return reader.wrong(value, "a whole number") };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(number),
            Err(_) => reader.refuse(value.span(), "a whole number from 0 to 2**64 - 1 is expected", ""),
        }
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0 })
    }
}

/// A whole number of at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub usize);

impl Read for Count {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = i64::read(value, reader)?;
        match usize::try_from(number) {
            Ok(number) if number > 0 => Some(Count(number)),
            _ => reader.refuse(value.span(), "a whole number of at least 1 is expected", ""),
        }
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 1 })
    }
}

impl Read for f64 {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Integer(_) => i64::read(value, reader).map(|number| number as f64),
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if !number.is_nan() => Some(number),
                _ => reader.refuse(value.span(), "a number is expected, and `nan` is none", ""),
            },
            _ => reader.wrong(value, "a number"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "number" })
    }
}

impl<T: Read> Read for Vec<Said<T>> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(list) = value.get_ref().as_array() else { return reader.wrong(value, "a list") };
        let entry = |(k, entry): (usize, _)| reader.within(&k.to_string(), |reader| read_said(entry, reader));
        Some(list.iter().enumerate().map(entry).collect())
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": or_open(T::schema()) })
    }
}

/// Values by name, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<T>(pub(crate) Vec<(String, Said<T>)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Said<T>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Said<T>> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }
}

impl<T: Read> Read for Named<T> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else { return reader.wrong(value, "a table") };
        let entries = in_order(table).into_iter().map(|(key, span, value)| {
            let said = reader.within(key, |reader| {
                if key.is_empty() {
                    return reader.refuse(span, "the name is empty", "").unwrap_or_default();
                }
                read_said(value, reader)
            });
            (key.to_owned(), said)
        });
        Some(Self(entries.collect()))
    }

    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": or_open(T::schema()) })
    }
}

/// A value that is one of a few words.
pub(crate) trait Word: Copy + 'static {
    /// What the words are, with the article, such as "a domain".
    const WHAT: &'static str;
    /// The words and what they mean.
    const WORDS: &'static [(&'static str, Self)];
}

/// Implements [`Word`] and [`Read`].
macro_rules! words {
    ($type:ty, $what:literal, [$($word:literal => $value:expr),+ $(,)?]) => {
        impl $crate::spec::read::Word for $type {
            const WHAT: &'static str = $what;
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $value)),+];
        }

        impl $crate::spec::read::Read for $type {
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::spec::read::Reader<'_>,
            ) -> Option<Self> {
                $crate::spec::read::read_word(value, reader)
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),+] })
            }
        }
    };
}
pub(crate) use words;

pub(crate) fn read_word<T: Word>(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<T> {
    let words = || T::WORDS.iter().map(|(word, _)| *word);
    let list = words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let Some(given) = value.get_ref().as_str() else {
        return reader.wrong(value, &format!("one of {list}"));
    };
    if let Some((_, meant)) = T::WORDS.iter().find(|(word, _)| *word == given) {
        return Some(*meant);
    }
    let help = match nearest(given, words()) {
        Some(near) => format!("did you mean \"{near}\"? {} is one of {list}", T::WHAT),
        None => format!("{} is one of {list}", T::WHAT),
    };
    reader.refuse(value.span(), &format!("\"{}\" is not {}", given.escape_debug(), T::WHAT), &help)
}
