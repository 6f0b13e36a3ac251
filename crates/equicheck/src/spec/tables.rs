//! The tables of an audit file. Documentation of a field is the description of its key in the JSON Schema.

#![expect(clippy::doc_markdown, reason = "words of the file stand in its own quotes")]

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use crate::audit::{BatchSize, NoiseLayouts, Precision};
use crate::model::DType;
use crate::report::{Levels, Shard};
use crate::symmetry::grid::{Domain, Interpolation};

use super::generators::Generate;
use super::read::{Count, Named, Read, Reader, Said, Table, read_said, table, words};

table! {
    /// The file as a whole.
    pub(crate) Top = "the file" {
        /// Version of this format: 1.
        spec_version: u64, required;
        /// The group, such as "E(3) x S(nodes)".
        group: String, required;
        /// The model.
        model: ModelTable, required;
        /// Inputs by name or path, in the order in which the model takes them.
        inputs: Named<Input>, required;
        /// Outputs by name or path: a layout, `false` for an output that is not audited, or a table.
        outputs: Named<AnyOutput>, required;
        /// Sizes that generated inputs refer to: a whole number, or [smallest, largest], drawn anew for every
        /// sample.
        sizes: Named<Size>;
        /// How the audit is run.
        run: Run;
    }
    advice = advice_on_top
}

fn advice_on_top(_: &str, key: &str, _: &DeValue<'_>) -> Option<String> {
    let tables = [("[run]", Run::KEYS), ("[model]", ModelTable::KEYS)];
    let table = tables.into_iter().find(|(_, keys)| keys.contains(&key)).map(|(table, _)| table)?;
    Some(format!("`{key}` is a key of {table}"))
}

table! {
    /// `[model]`: what is audited. Exactly one of `onnx` and `python` is given.
    pub ModelTable = "[model]" {
        /// Path of an ONNX file, relative to the audit file's folder.
        onnx: String;
        /// "package.module:name" of a function that takes a dtype and returns the model, or "file.py:name".
        python: String;
        /// Method of the module to audit; goes with `python`.
        method: String;
        /// How a module is set while it is called: "eval", "train", or "as_is"; goes with `python`.
        mode: Mode;
        /// What runs the ONNX file: "tract" or "onnxruntime"; goes with `onnx`.
        backend: Backend;
        /// Path of ONNX Runtime's shared library; goes with `onnx`.
        onnxruntime: String;
    }
}

/// How a module is set while it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of `audit(mode=)`")]
pub enum Mode {
    Eval,
    Train,
    AsIs,
}

words!(Mode, "a mode", ["eval" => Mode::Eval, "train" => Mode::Train, "as_is" => Mode::AsIs]);

impl Mode {
    /// The word in the file, and of `audit(mode=)`.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Eval => "eval",
            Mode::Train => "train",
            Mode::AsIs => "as_is",
        }
    }
}

/// What runs an ONNX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// tract, built in.
    Tract,
    /// ONNX Runtime, a shared library.
    OnnxRuntime,
}

words!(Backend, "a backend", ["tract" => Backend::Tract, "onnxruntime" => Backend::OnnxRuntime]);

words!(Domain, "a domain", ["periodic" => Domain::Periodic, "open" => Domain::Open]);
words!(Precision, "a precision", [
    "both" => Precision::Both,
    "as_is" => Precision::AsIs,
    "float64" => Precision::Float64,
]);
words!(Interpolation, "an interpolation", [
    "bilinear" => Interpolation::Linear,
    "bicubic" => Interpolation::Cubic,
    "fourier" => Interpolation::Fourier,
]);
words!(DType, "an element type", [
    "float32" => DType::Float32,
    "float64" => DType::Float64,
    "float16" => DType::Float16,
    "bfloat16" => DType::BFloat16,
    "int64" => DType::Int64,
    "int32" => DType::Int32,
    "int16" => DType::Int16,
    "int8" => DType::Int8,
    "uint8" => DType::UInt8,
    "bool" => DType::Bool,
    "complex64" => DType::Complex64,
    "complex128" => DType::Complex128,
]);

/// `run.randomness`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of `audit(randomness=)`")]
pub enum RandomnessWord {
    Fixed,
    Transform,
    Distribution,
}

words!(RandomnessWord, "a treatment of randomness", [
    "fixed" => RandomnessWord::Fixed,
    "transform" => RandomnessWord::Transform,
    "distribution" => RandomnessWord::Distribution,
]);

/// The layout of a tensor, or `false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// A text in the layout language.
    Layout(String),
    /// `false`: an input that is not transformed, an output that is not audited.
    No,
}

impl Declared {
    /// The text, unless it is `false`.
    pub fn layout(&self) -> Option<&str> {
        match self {
            Declared::Layout(text) => Some(text),
            Declared::No => None,
        }
    }
}

impl Read for Declared {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(Declared::Layout(text.to_string())),
            DeValue::Boolean(false) => Some(Declared::No),
            _ => reader.wrong(value, "a layout or `false`"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "string" }, { "const": false }] })
    }
}

table! {
    /// One table of `[inputs]`. Exactly one of `file` and `generate` is given.
    pub Input = "an input" {
        /// One word per axis, such as "nodes point", or `false` for an input that is not transformed.
        layout: Declared, required;
        /// What lies beyond the edge of its grid: "periodic", the opposite edge, or "open", nothing that is
        /// known.
        domain: Domain;
        /// Path of a file, relative to the audit file's folder; a pattern such as "data/*.npz", whose files
        /// are taken in the order of their names; or a list of both. One sample per file, or per frame of a
        /// file of structures.
        file: Files;
        /// Name of the array in the file; the input's own name by default.
        key: String;
        /// Whether the first axis counts samples.
        stacked: bool;
        /// Element type that values are converted to.
        dtype: DType;
        /// How values are made: a table with a `kind`.
        generate: Generate;
    }
    advice = advice_on_input
}

fn advice_on_input(path: &str, key: &str, value: &DeValue<'_>) -> Option<String> {
    match key {
        "shape" | "kind" => Some(format!(
            "`{key}` is part of `generate`: generate = {{ kind = \"normal\", shape = [\"nodes\", 3] }}"
        )),
        "path" | "source" => Some("did you mean `file`?".to_owned()),
        _ if value.is_table() => {
            let name = path.strip_prefix("inputs.").unwrap_or(path).trim_matches('"');
            let name = format!("{name}.{}", key.escape_debug());
            Some(format!("a name with a dot is one key, and quoted: [inputs.\"{name}\"]"))
        }
        _ => None,
    }
}

table! {
    /// One output of `[outputs]`, as a table.
    pub Output = "an output" {
        /// One word per axis, such as "nodes vector", "" for an invariant number, or `false` for an output
        /// that is not audited.
        layout: Declared, required;
        /// Violations below it pass.
        tolerance: f64;
        /// "sign" or "phase" for an output that is defined up to it, "S(axis)" for rows that come in any
        /// order; the same as `~ sign` after the layout.
        up_to: String;
        /// What lies beyond the edge of its grid: "periodic", the opposite edge, or "open", nothing that is
        /// known.
        domain: Domain;
    }
}

impl Output {
    /// The shorter form: a layout alone.
    fn of(layout: Said<Declared>) -> Self {
        Self { layout, ..Self::default() }
    }
}

/// Reads both forms of an output.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct AnyOutput(pub(crate) Output);

impl Read for AnyOutput {
    const QUESTIONS_INSIDE: bool = true;

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(_) => Output::read(value, reader).map(Self),
            DeValue::String(_) | DeValue::Boolean(false) => Some(Self(Output::of(read_said(value, reader)))),
            _ => reader.wrong(value, "a layout, `false` or a table"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "string" }, { "const": false }, Output::schema()] })
    }
}

/// A size of generated inputs, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The smallest that is drawn.
    pub smallest: usize,
    /// The largest that is drawn.
    pub largest: usize,
}

impl Size {
    /// All sizes that may be drawn.
    pub fn range(self) -> RangeInclusive<usize> {
        self.smallest..=self.largest
    }
}

impl Read for Size {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Integer(_) => {
                let Count(n) = Count::read(value, reader)?;
                Some(Self { smallest: n, largest: n })
            }
            DeValue::Array(list) if list.len() == 2 => {
                let ends: Vec<_> = list.iter().map(|end| Count::read(end, reader)).collect();
                let (Count(smallest), Count(largest)) = (ends[0]?, ends[1]?);
                if smallest > largest {
                    let why = format!("{smallest} is more than {largest}");
                    return reader.refuse(value.span(), &why, "a range is [smallest, largest]");
                }
                Some(Self { smallest, largest })
            }
            _ => reader.wrong(value, "a whole number or [smallest, largest]"),
        }
    }

    fn schema() -> Value {
        let ends = json!({ "type": "array", "items": Count::schema(), "minItems": 2, "maxItems": 2 });
        json!({ "anyOf": [Count::schema(), ends] })
    }
}

/// Paths or patterns.
#[derive(Debug, Clone, PartialEq)]
pub struct Files(pub Vec<Said<String>>);

impl Read for Files {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => {
                let span = reader.span(value.span());
                Some(Self(vec![Said::new(text.to_string(), span)]))
            }
            DeValue::Array(list) if list.is_empty() => {
                reader.refuse(value.span(), "the list is empty", "name at least one file")
            }
            DeValue::Array(_) => Vec::read(value, reader).map(Self),
            _ => reader.wrong(value, "a path or a list of paths"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }] })
    }
}

table! {
    /// `[run]`: what `equicheck.audit` takes beside model, inputs and symmetry, under the same names.
    pub Run = "[run]" {
        /// Test samples, at most; by default 50, 100 or 200, by the model's size.
        samples: Count;
        /// Random elements of the group per sample; by default 50 or 100, by the model's size.
        transforms: Count;
        /// Limit of time: "120s", "2min", "1h", "inf", or a number of seconds; 120 s by default.
        budget: Budget;
        /// No limit of time, unless `budget` is given.
        thorough: bool;
        /// Seed of all random draws, those of generated inputs among them; 0 by default.
        seed: u64;
        /// Standard deviation of each component of a random translation, in the inputs' unit; by default the
        /// spread of the points.
        translation_scale: f64;
        /// Upper bounds of the levels perfect, excellent, approximate: three numbers or a table; [1e-6, 1e-4,
        /// 1e-2] by default.
        levels: Levels;
        /// Violations below it pass, for all outputs; an output's own table may say otherwise.
        tolerance: f64;
        /// "both" compares with double precision, "as_is" does not, "float64" audits a double-precision copy
        /// alone.
        precision: Precision;
        /// Permuted axis -> input whose values label the segments that it is permuted within (graphs of a
        /// batch).
        segments: Named<String>;
        /// What lies beyond the edge of all grids: "periodic", the opposite edge, or "open", nothing that is
        /// known.
        domain: Domain;
        /// How values between pixels are made: "bilinear", "bicubic" or "fourier".
        interpolation: Interpolation;
        /// Rapidity of the fastest boost that is drawn, at most 5; 2 by default.
        rapidity: f64;
        /// [i, n]: the i-th of n runs, from 0, that share the pairs of samples and elements.
        shard: Shard;
        /// End as soon as the answer is known.
        early_stop: bool;
        /// Pairs of samples and elements that one call of the model evaluates, at most, along the axes called `batch`; 1
        /// by default, "auto" finds it by timing.
        batch: BatchSize;
        /// How random numbers that the model draws are treated: "fixed", "transform" or "distribution".
        randomness: RandomnessWord;
        /// With randomness = "transform", the layout of each draw, in order, `false` for one that is replayed
        /// as it is; or one layout for all.
        noise_layouts: NoiseLayouts;
        /// Also try inputs at the edge of what the model is used on.
        stress: bool;
        /// The distance at which the model cuts off, for stress inputs at that edge.
        cutoff: f64;
        /// Look into the model's module calls, and say where symmetry is lost.
        layers: bool;
        /// Module -> `out`, `in`, or with the path of a tensor among several `out.0`, `in.x` -> layout of that hidden
        /// tensor.
        hidden_layouts: Named<Named<String>>;
        /// Also audit gradients, with respect to inputs and parameters.
        gradients: bool;
    }
    advice = advice_on_run
}

impl Read for BatchSize {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Integer(_) => Count::read(value, reader).map(|Count(pairs)| BatchSize::Pairs(pairs)),
            DeValue::String(text) if text.trim() == "auto" => Some(BatchSize::Auto),
            _ => reader.wrong(value, "a whole number of at least 1, or \"auto\""),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [Count::schema(), { "const": "auto" }] })
    }
}

fn advice_on_run(_: &str, key: &str, _: &DeValue<'_>) -> Option<String> {
    match key {
        "up_to" => Some("it is said of an output: y = { layout = \"vector\", up_to = \"sign\" }".to_owned()),
        "representations" | "factory" | "module" | "loss" | "progress" => Some(format!(
            "`{key}` is a function or an object, which a file cannot hold: use `equicheck.audit`"
        )),
        _ if ModelTable::KEYS.contains(&key) => Some(format!("`{key}` is a key of [model]")),
        _ if Top::KEYS.contains(&key) => {
            Some(format!("`{key}` stands at the top of the file, above all tables"))
        }
        _ => None,
    }
}

/// A limit of time in seconds; infinite for none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget(pub f64);

impl Budget {
    /// Reads "120s", "2min", "1.5h", "inf", or seconds without a unit.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "inf" {
            return Ok(Self(f64::INFINITY));
        }
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[number.len()..];
        // `1e3s` would lose nothing: the exponent's digits end the number.
        let seconds = match unit {
            "s" | "sec" | "" => 1.0,
            "ms" => 1e-3,
            "min" | "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("`{}` is no unit of time: s, min or h", unit.escape_debug())),
        };
        match number.trim_end().parse::<f64>() {
            Ok(number) if number > 0.0 && number.is_finite() => Ok(Self(number * seconds)),
            _ => Err("expected a time such as \"120s\", \"2min\", \"1h\" or \"inf\"".to_owned()),
        }
    }
}

impl Read for Budget {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => match Self::parse(text) {
                Ok(budget) => Some(budget),
                Err(why) => reader.refuse(value.span(), &why, ""),
            },
            DeValue::Integer(_) | DeValue::Float(_) => match f64::read(value, reader)? {
                seconds if seconds > 0.0 => Some(Self(seconds)),
                _ => reader.refuse(value.span(), "a positive number of seconds is expected", ""),
            },
            _ => reader.wrong(value, "a time such as \"120s\", or a number of seconds"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "string" }, { "type": "number", "exclusiveMinimum": 0 }] })
    }
}

table! {
    /// `run.levels` as a table.
    pub(crate) LevelsTable = "`levels`" {
        /// Below: perfect.
        perfect: f64;
        /// Below: excellent.
        excellent: f64;
        /// Below: approximate; at or above: broken.
        approximate: f64;
    }
}

impl Read for Levels {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(_) => {
                let table = LevelsTable::read(value, reader)?;
                let default = Levels::default();
                let or = |said: &Said<f64>, default| said.get().copied().unwrap_or(default);
                Some(Levels {
                    perfect: or(&table.perfect, default.perfect),
                    excellent: or(&table.excellent, default.excellent),
                    approximate: or(&table.approximate, default.approximate),
                })
            }
            DeValue::Array(list) if list.len() == 3 => {
                let bounds: Vec<_> = list.iter().map(|bound| f64::read(bound, reader)).collect();
                Some(Levels { perfect: bounds[0]?, excellent: bounds[1]?, approximate: bounds[2]? })
            }
            _ => reader.wrong(value, "three numbers [perfect, excellent, approximate], or a table"),
        }
    }

    fn schema() -> Value {
        let bounds = json!({ "type": "array", "items": f64::schema(), "minItems": 3, "maxItems": 3 });
        json!({ "anyOf": [bounds, LevelsTable::schema()] })
    }
}

impl Read for Shard {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let whole = |entry: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>| {
            u64::read(entry, reader).and_then(|number| usize::try_from(number).ok())
        };
        match value.get_ref() {
            DeValue::Array(list) if list.len() == 2 => {
                let (index, count) = (whole(&list[0], reader), whole(&list[1], reader));
                let shard = Shard { index: index?, count: count? };
                if shard.index >= shard.count {
                    let why =
                        format!("[{}, {}]: [i, n] with 0 <= i < n is expected", shard.index, shard.count);
                    return reader.refuse(value.span(), &why, "shards are counted from 0");
                }
                Some(shard)
            }
            _ => reader.wrong(value, "[i, n]"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": u64::schema(), "minItems": 2, "maxItems": 2 })
    }
}

impl Read for NoiseLayouts {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(NoiseLayouts::All(text.to_string())),
            DeValue::Array(_) => {
                let entries: Vec<Said<Declared>> = Vec::read(value, reader)?;
                let layouts =
                    entries.iter().filter_map(Said::get).map(|entry| entry.layout().map(str::to_owned));
                Some(NoiseLayouts::Each(layouts.collect()))
            }
            _ => reader.wrong(value, "a layout, or a list of layouts and `false`"),
        }
    }

    fn schema() -> Value {
        let list = json!({ "type": "array", "items": Declared::schema() });
        json!({ "anyOf": [{ "type": "string" }, list] })
    }
}

/// The length of an axis that is generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Length {
    /// A number of at least 1.
    Number(usize),
    /// A name of `[sizes]`.
    Name(String),
}

impl Read for Length {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Integer(_) => Count::read(value, reader).map(|Count(n)| Length::Number(n)),
            DeValue::String(name) => Some(Length::Name(name.to_string())),
            _ => reader.wrong(value, "a whole number or a name of [sizes]"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [Count::schema(), { "type": "string" }] })
    }
}

/// The shape of a generated input.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape(pub Vec<Said<Length>>);

impl Read for Shape {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        if !value.get_ref().is_array() {
            return reader.wrong(value, "a list of whole numbers and names of [sizes]");
        }
        Vec::read(value, reader).map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": Length::schema() })
    }
}
