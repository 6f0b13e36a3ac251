//! The kinds of generated inputs and what they take. How values are drawn: [`super::draw`].

#![expect(clippy::doc_markdown, reason = "words of the file stand in its own quotes")]

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use crate::error::nearest;
use crate::model::DType;

use super::read::{Count, OPEN, Read, Reader, Said, Table, in_order, read_said, table};
use super::tables::{Length, Shape};

table! {
    /// Normal numbers; of a complex type, both parts.
    pub Normal = "`generate` of kind \"normal\"" {
        /// "normal".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`.
        shape: Shape, required;
        /// Element type; "float32" by default.
        dtype: DType;
        /// Mean; 0 by default.
        mean: f64;
        /// Standard deviation; 1 by default.
        std: f64;
    }
}

table! {
    /// Uniform numbers between `low` and `high`.
    pub Uniform = "`generate` of kind \"uniform\"" {
        /// "uniform".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`.
        shape: Shape, required;
        /// Element type; "float32" by default.
        dtype: DType;
        /// Lower end; 0 by default.
        low: f64;
        /// Upper end; 1 by default.
        high: f64;
    }
}

table! {
    /// Whole numbers from `low` on, below `high`.
    pub Integers = "`generate` of kind \"integers\"" {
        /// "integers".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`.
        shape: Shape, required;
        /// Element type; "int64" by default.
        dtype: DType;
        /// The smallest number; 0 by default.
        low: i64;
        /// The first number that does not come any more: a whole number, or a name of `[sizes]` for positions
        /// along that axis.
        high: Bound, required;
    }
}

table! {
    /// Positive numbers: `scale` times exp(`std` z), z normal.
    pub Positive = "`generate` of kind \"positive\"" {
        /// "positive".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`.
        shape: Shape, required;
        /// Element type; "float32" by default.
        dtype: DType;
        /// The median; 1 by default.
        scale: f64;
        /// Standard deviation of the logarithm; 0.5 by default.
        std: f64;
    }
}

table! {
    /// Vectors of length 1 along the last axis, of uniform direction.
    pub UnitVectors = "`generate` of kind \"unit_vectors\"" {
        /// "unit_vectors".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`; the last axis holds the components.
        shape: Shape, required;
        /// Element type; "float32" by default.
        dtype: DType;
    }
}

table! {
    /// One 1 among zeros along the last axis, each position equally often.
    pub OneHot = "`generate` of kind \"one_hot\"" {
        /// "one_hot".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`; the last axis holds the classes.
        shape: Shape, required;
        /// Element type; "float32" by default.
        dtype: DType;
    }
}

table! {
    /// Smooth random fields that wrap around at their edges: sums of few waves with normal amplitudes.
    pub SmoothImage = "`generate` of kind \"smooth_image\"" {
        /// "smooth_image".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`; the last axes are the grid.
        shape: Shape, required;
        /// Element type; "float32" by default.
        dtype: DType;
        /// How many of the last axes are the grid: 1, 2 or 3; 2 by default.
        grid: Count;
        /// The largest number of waves along an axis; 3 by default, and never more than the grid can hold.
        waves: Count;
        /// Mean; 0 by default.
        mean: f64;
        /// Standard deviation of a pixel over all images; 1 by default.
        std: f64;
    }
}

table! {
    /// A graph without self loops, as edges [2, edges] of positions along the axis of nodes, each edge in
    /// both directions. Exactly one of `degree`, `complete` and a number of `edges` decides how many there
    /// are.
    pub RandomGraph = "`generate` of kind \"random_graph\"" {
        /// "random_graph".
        kind: String, required;
        /// Element type; "int64" by default.
        dtype: DType;
        /// Number of nodes: a name of `[sizes]` or a whole number; "nodes" by default.
        nodes: Length;
        /// Mean number of neighbours, as near as pairs can be counted out.
        degree: f64;
        /// Every pair of nodes is joined.
        complete: bool;
        /// Number of edges, both directions counted: an even number, or a name. If it is a name of `[sizes]`,
        /// that decides; if not, `degree` or `complete` decide, and shapes of other inputs can use the name.
        /// "edges" by default.
        edges: Length;
        /// Name of an input of kind "segments" with as many labels as there are nodes: edges join nodes of one label
        /// alone, as in a batch of graphs.
        segments: String;
    }
}

table! {
    /// Labels 0, 1, 2, ... in ascending order, each at least once: the graph that each node of a batch
    /// belongs to.
    pub Segments = "`generate` of kind \"segments\"" {
        /// "segments".
        kind: String, required;
        /// Element type; "int64" by default.
        dtype: DType;
        /// Length: a name of `[sizes]` or a whole number; "nodes" by default.
        nodes: Length;
        /// Number of labels: a name of `[sizes]` or a whole number, at most the length.
        count: Length, required;
    }
}

table! {
    /// Four-vectors (t, x, y, z) along the last axis, future-directed and on a mass shell: t² - x² - y² - z²
    /// = m².
    pub LorentzVectors = "`generate` of kind \"lorentz_vectors\"" {
        /// "lorentz_vectors".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`; the last axis has length 4.
        shape: Shape, required;
        /// Element type; "float32" by default.
        dtype: DType;
        /// [smallest, largest] mass m, uniform between; [0.5, 1.5] by default.
        mass: Range;
        /// Standard deviation of x, y and z; 1 by default.
        std: f64;
    }
}

table! {
    /// Lattice vectors as rows [n, n]: right-handed, of any orientation, condition number at most 4.
    pub Cell = "`generate` of kind \"cell\"" {
        /// "cell".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`; the last two axes are equal. [3, 3] by default.
        shape: Shape;
        /// Element type; "float32" by default.
        dtype: DType;
        /// Typical length of a lattice vector; 1 by default.
        scale: f64;
    }
}

table! {
    /// One number everywhere.
    pub Constant = "`generate` of kind \"constant\"" {
        /// "constant".
        kind: String, required;
        /// Whole numbers and names of `[sizes]`.
        shape: Shape, required;
        /// Element type; "float32" by default.
        dtype: DType;
        /// The number.
        value: f64, required;
    }
}

/// The upper end of whole numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A number.
    Number(i64),
    /// A name of `[sizes]`.
    Name(String),
}

impl Read for Bound {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Integer(_) => i64::read(value, reader).map(Bound::Number),
            DeValue::String(name) => Some(Bound::Name(name.to_string())),
            _ => reader.wrong(value, "a whole number or a name of [sizes]"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }] })
    }
}

/// [smallest, largest].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The smallest.
    pub smallest: f64,
    /// The largest.
    pub largest: f64,
}

impl Read for Range {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Array(list) if list.len() == 2 => {
                let ends: Vec<_> = list.iter().map(|end| f64::read(end, reader)).collect();
                let (smallest, largest) = (ends[0]?, ends[1]?);
                if smallest > largest {
                    let why = format!("{smallest} is more than {largest}");
                    return reader.refuse(value.span(), &why, "a range is [smallest, largest]");
                }
                Some(Self { smallest, largest })
            }
            _ => reader.wrong(value, "[smallest, largest]"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": f64::schema(), "minItems": 2, "maxItems": 2 })
    }
}

/// Makes the enum of all kinds.
macro_rules! kinds {
    ($($kind:ident = $word:literal),* $(,)?) => {
        /// How values of an input are made.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "each table says it")]
        pub enum Generate {
            $($kind($kind)),*
        }

        /// The words for `kind`.
        pub const KINDS: &[&str] = &[$($word),*];

        /// The keys of each kind's table.
        pub(crate) fn keys_of_kinds() -> Vec<(&'static str, &'static [&'static str])> {
            vec![$(($word, $kind::KEYS)),*]
        }

        impl Generate {
            /// The word for its kind.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Generate::$kind(_) => $word),*
                }
            }

            /// The element type that is asked for.
            pub fn dtype(&self) -> Option<DType> {
                match self {
                    $(Generate::$kind(table) => table.dtype.get().copied()),*
                }
            }

            fn read_kind(
                kind: &str,
                value: &Spanned<DeValue<'_>>,
                reader: &mut Reader<'_>,
            ) -> Option<Option<Self>> {
                match kind {
                    $($word => Some($kind::read(value, reader).map(Generate::$kind)),)*
                    _ => None,
                }
            }
        }

        fn schemas() -> Vec<Value> {
            vec![$(of_kind($word, $kind::schema())),*]
        }
    };
}

kinds! {
    Normal = "normal",
    Uniform = "uniform",
    Integers = "integers",
    Positive = "positive",
    UnitVectors = "unit_vectors",
    OneHot = "one_hot",
    SmoothImage = "smooth_image",
    RandomGraph = "random_graph",
    Segments = "segments",
    LorentzVectors = "lorentz_vectors",
    Cell = "cell",
    Constant = "constant",
}

fn of_kind(word: &str, mut schema: Value) -> Value {
    schema["properties"]["kind"] = json!({ "const": word });
    schema
}

impl Generate {
    /// The shape that is asked for; `None` for kinds that know their own.
    pub fn shape(&self) -> Option<&Said<Shape>> {
        match self {
            Generate::Normal(t) => Some(&t.shape),
            Generate::Uniform(t) => Some(&t.shape),
            Generate::Integers(t) => Some(&t.shape),
            Generate::Positive(t) => Some(&t.shape),
            Generate::UnitVectors(t) => Some(&t.shape),
            Generate::OneHot(t) => Some(&t.shape),
            Generate::SmoothImage(t) => Some(&t.shape),
            Generate::LorentzVectors(t) => Some(&t.shape),
            Generate::Cell(t) => Some(&t.shape),
            Generate::Constant(t) => Some(&t.shape),
            Generate::RandomGraph(_) | Generate::Segments(_) => None,
        }
    }
}

impl Read for Generate {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            return reader.wrong(value, "a table with a `kind`");
        };
        let list = || KINDS.join(", ");
        let Some((_, kind)) = table.iter().find(|(key, _)| key.get_ref() == "kind") else {
            return reader.refuse(value.span(), "`kind` is missing", &format!("the kinds are {}", list()));
        };
        let Some(word) = kind.get_ref().as_str() else {
            return reader.within("kind", |reader| reader.wrong(kind, "a string"));
        };
        if word == OPEN {
            // What else is open is to be answered too.
            for (key, _, value) in in_order(table) {
                if value.get_ref().as_str() == Some(OPEN) {
                    let _: Said<String> = reader.within(key, |reader| read_said(value, reader));
                }
            }
            return None;
        }
        if let Some(read) = Self::read_kind(word, value, reader) {
            return read;
        }
        let help = match nearest(word, KINDS.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? The kinds are {}", list()),
            None => format!("the kinds are {}", list()),
        };
        let why = format!("no kind of generated values is called \"{}\"", word.escape_debug());
        reader.within("kind", |reader| reader.refuse(kind.span(), &why, &help))
    }

    fn schema() -> Value {
        let mut schemas = schemas();
        schemas.push(json!({
            "type": "object",
            "properties": { "kind": { "const": OPEN } },
            "required": ["kind"],
        }));
        json!({ "anyOf": schemas })
    }
}
