//! The audit file `equicheck.toml`: model, inputs, outputs and symmetry as text, for audits without a script.
//!
//! [`AuditFile::parse`] reads it and says everything that is wrong with it at once, pointing at bytes of the file;
//! [`AuditFile::specification`], [`AuditFile::options`] and [`AuditFile::samples`] turn it into what
//! [`audit()`](crate::audit()) takes. The keys are the parameters of the Python function `equicheck.audit`.

mod cast;
mod check;
mod convert;
mod draw;
mod error;
#[cfg(feature = "files")]
mod files;
mod generators;
mod place;
mod read;
mod samples;
mod tables;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

pub use error::{Problem, SpecError};
pub use generators::{
    Bound, Cell, Constant, Generate, Integers, KINDS, LorentzVectors, Normal, OneHot, Positive, RandomGraph,
    Range as Interval, Segments, SmoothImage, Uniform, UnitVectors,
};
pub use read::{Count, Named, Said};
pub use samples::{NoStructures, SpecSamples, Structure, Structures};
pub use tables::{
    Backend, Budget, Declared, Files, Input, Length, Mode, ModelTable, Output, RandomnessWord, Run, Shape,
    Size,
};

use error::Source;
use generators::keys_of_kinds;
use read::{Reader, Table, read_table, shown, table_schema};
use tables::{AnyOutput, LevelsTable, Top};

/// The version of the format that this library reads.
pub const SPEC_VERSION: u64 = 1;

/// An audit file: everything that it says, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditFile {
    /// The version of the format.
    pub spec_version: Said<u64>,
    /// The group, such as `E(3) x S(nodes)`.
    pub group: Said<String>,
    /// What is audited.
    pub model: ModelTable,
    /// Inputs by name or path, in the order in which the model takes them.
    pub inputs: Vec<(String, Input)>,
    /// Outputs by name or path.
    pub outputs: Vec<(String, Output)>,
    /// Sizes that generated inputs refer to.
    pub sizes: Named<Size>,
    /// How the audit is run.
    pub run: Run,
    source: Arc<Source>,
    open: Vec<OpenQuestion>,
    /// Where tables and the keys of `[run]` are, by path.
    places: BTreeMap<String, Range<usize>>,
}

/// A place of the file that holds "?", for an answer that has yet to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenQuestion {
    /// The path of the key, such as `inputs.pos.layout`.
    pub path: String,
    /// The bytes of the file.
    pub span: Range<usize>,
}

impl AuditFile {
    /// Reads the text of an audit file; `name` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, as far as that can be told from the text alone; groups and layouts are read by
    /// [`specification`](Self::specification).
    pub fn parse(text: &str, name: &str) -> Result<Self, SpecError> {
        let source = Arc::new(Source { name: name.to_owned(), text: text.to_owned() });
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader::new(text);
        if !errors.is_empty() {
            // What was recovered from a file that is no TOML says little: further errors would be guesses.
            let problems = errors.iter().map(|error| {
                let span = error.span().map(|span| reader.span(span));
                Problem::maybe_at(span, format!("this is no TOML: {}", error.message().trim()))
            });
            return Err(SpecError::new(&source, problems.collect()));
        }
        let top: Top = read_table(table.get_ref(), &(0..0), &mut reader);
        let Reader { mut problems, open, .. } = reader;
        let open = open.into_iter().map(|(path, span)| OpenQuestion { path, span }).collect();
        let places = places(&top);
        let inputs = top.inputs.into_value().unwrap_or_default();
        let outputs = top.outputs.into_value().unwrap_or_default();
        let unwrapped =
            |(name, said): (String, Said<AnyOutput>)| (name, said.into_value().unwrap_or_default().0);
        let file = Self {
            spec_version: top.spec_version,
            group: top.group,
            model: top.model.into_value().unwrap_or_default(),
            inputs: inputs
                .0
                .into_iter()
                .map(|(name, said)| (name, said.into_value().unwrap_or_default()))
                .collect(),
            outputs: outputs.0.into_iter().map(unwrapped).collect(),
            sizes: top.sizes.into_value().unwrap_or_default(),
            run: top.run.into_value().unwrap_or_default(),
            source: Arc::clone(&source),
            open,
            places,
        };
        problems.extend(file.check());
        if problems.is_empty() { Ok(file) } else { Err(SpecError::new(&source, problems)) }
    }

    /// Reads an audit file.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, SpecError> {
        let name = path.display().to_string();
        std::fs::read_to_string(path).map_or_else(
            |error| {
                let source = Arc::new(Source { name: name.clone(), text: String::new() });
                let problem = Problem::general(format!("cannot read `{}`: {error}", name.escape_debug()));
                Err(SpecError::new(&source, vec![problem]))
            },
            |text| Self::parse(&text, &name),
        )
    }

    /// All places that hold "?", in the order of the file.
    pub fn open_questions(&self) -> Vec<OpenQuestion> {
        let mut open = self.open.clone();
        open.sort_by_key(|question| question.span.start);
        open
    }

    /// The text that was read.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// What errors call the file.
    pub fn name(&self) -> &str {
        &self.source.name
    }

    fn error(&self, problems: Vec<Problem>) -> SpecError {
        SpecError::new(&self.source, problems)
    }
}

fn places(top: &Top) -> BTreeMap<String, Range<usize>> {
    let mut places = BTreeMap::new();
    let mut add = |path: String, span: Option<Range<usize>>| {
        if let Some(span) = span {
            places.insert(path, span);
        }
    };
    add("model".to_owned(), top.model.span());
    for (name, input) in top.inputs.get().into_iter().flat_map(Named::iter) {
        add(format!("inputs.{}", shown(name)), input.span());
    }
    if let Some(run) = top.run.get() {
        for (key, span) in run.spans() {
            add(format!("run.{key}"), span);
        }
    }
    places
}

/// The JSON Schema (draft 7) of audit files, for editors and checkers.
pub fn json_schema() -> serde_json::Value {
    let mut schema = table_schema::<Top>();
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "equicheck.toml".into();
    schema["description"] =
        "What equicheck audits, and how; \"?\" stands for an answer that has yet to be given".into();
    schema
}

/// All keys, by table: `""` for the top of the file, `model`, `inputs`, `outputs`, `run`, `run.levels`, and `generate`
/// followed by a kind.
pub fn keys() -> Vec<(String, Vec<&'static str>)> {
    let tables: [(&str, &[&'static str]); 6] = [
        ("", Top::KEYS),
        ("model", ModelTable::KEYS),
        ("inputs", Input::KEYS),
        ("outputs", Output::KEYS),
        ("run", Run::KEYS),
        ("run.levels", LevelsTable::KEYS),
    ];
    let tables = tables.into_iter().map(|(name, keys)| (name.to_owned(), keys.to_vec()));
    let kinds = keys_of_kinds().into_iter().map(|(kind, keys)| (format!("generate {kind}"), keys.to_vec()));
    tables.chain(kinds).collect()
}
