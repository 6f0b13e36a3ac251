//! The layout language: one word per axis, each saying how that axis transforms.

use std::fmt;
use std::ops::Range;

use crate::error::{ParseError, nearest};

use super::group::Group;
use super::irreps::Irreps;

/// How one axis of a tensor transforms.
#[derive(Debug, Clone, PartialEq)]
pub enum Axis {
    /// Not at all: one of [`PLAIN_WORDS`], or any name written with a final `!`.
    Plain {
        /// The name.
        name: String,
        /// Whether it was written with `!`.
        marked: bool,
    },
    /// Not at all, and of this length.
    Size(usize),
    /// Independent samples: not at all.
    Batch,
    /// Any number of leading axes, untouched.
    Ellipsis,
    /// Set elements: permuted.
    Permuted(String),
    /// Coordinates in the defining representation: `g v`.
    Vector,
    /// The same, affine: `g v + t`.
    Point,
    /// Axial vector: `det(g) g v`.
    Pseudovector,
    /// A direct sum of O(3) irreps, e3nn notation, basis and order.
    Irreps(Irreps),
}

impl Axis {
    /// Whether the defining matrix acts along this axis.
    pub fn is_spatial(&self) -> bool {
        matches!(self, Axis::Vector | Axis::Point | Axis::Pseudovector | Axis::Irreps(_))
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Axis::Plain { name, marked } => write!(f, "{name}{}", if *marked { "!" } else { "" }),
            Axis::Size(n) => write!(f, "{n}"),
            Axis::Batch => f.write_str("batch"),
            Axis::Ellipsis => f.write_str("..."),
            Axis::Permuted(name) => f.write_str(name),
            Axis::Vector => f.write_str("vector"),
            Axis::Point => f.write_str("point"),
            Axis::Pseudovector => f.write_str("pseudovector"),
            Axis::Irreps(irreps) => write!(f, "{irreps}"),
        }
    }
}

/// `: nodes | -1` after the axes: integer values are positions along an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexValues {
    /// The axis that the values point into.
    pub axis: String,
    /// A value that is no position and stays as it is.
    pub sentinel: Option<i64>,
}

/// A tensor's layout. Prints in one canonical form, which parses again under the same group.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    axes: Vec<Axis>,
    values: Option<IndexValues>,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (k, axis) in self.axes.iter().enumerate() {
            if k > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{axis}")?;
        }
        if let Some(values) = &self.values {
            write!(f, "{}: {}", if self.axes.is_empty() { "" } else { " " }, values.axis)?;
            if let Some(sentinel) = values.sentinel {
                write!(f, " | {sentinel}")?;
            }
        }
        Ok(())
    }
}

/// Words for axes that do not transform (unless the group permutes an axis of that name).
pub const PLAIN_WORDS: [&str; 8] =
    ["channel", "features", "time", "heads", "classes", "nodes", "edges", "graphs"];
/// Words for axes that transform, and for those that lead.
const OTHER_WORDS: [&str; 5] = ["vector", "point", "pseudovector", "batch", "..."];

impl Layout {
    /// Parses a layout under a group: a name that the group permutes is a permuted axis.
    ///
    /// # Errors
    /// An unknown word (with the nearest one), malformed irreps, a misplaced `...`, a clause after the axes that is
    /// not `: axis`, a combination that has no meaning.
    pub fn parse(text: &str, group: &Group) -> Result<Self, ParseError> {
        Parser { text, group }.layout()
    }

    /// The axes, in order.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The clause on values, if any.
    pub fn values(&self) -> Option<&IndexValues> {
        self.values.as_ref()
    }

    /// Names of the permuted axes that it mentions, values included.
    pub fn permuted_axes(&self) -> impl Iterator<Item = &str> {
        let axes = self.axes.iter().filter_map(|axis| match axis {
            Axis::Permuted(name) => Some(name.as_str()),
            _ => None,
        });
        axes.chain(self.values.iter().map(|values| values.axis.as_str()))
    }
}

struct Parser<'a> {
    text: &'a str,
    group: &'a Group,
}

impl Parser<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> ParseError {
        ParseError {
            subject: "layout".to_owned(),
            text: self.text.to_owned(),
            span,
            message: message.into(),
            help: Some(help.into()),
        }
    }

    fn layout(&self) -> Result<Layout, ParseError> {
        let split = self.text.find([':', '~']).unwrap_or(self.text.len());
        let mut axes: Vec<Axis> = Vec::new();
        let mut affine: Option<Range<usize>> = None;
        for span in words(&self.text[..split]) {
            let axis = self.axis(span.clone())?;
            if axis == Axis::Ellipsis && !axes.is_empty() {
                return Err(self.error(
                    span,
                    "`...` stands for leading axes and must come first",
                    "name the axes before it, or move it to the front",
                ));
            }
            if axis == Axis::Point {
                affine = Some(span.clone());
            }
            axes.push(axis);
        }
        if let Some(span) = affine
            && axes.iter().filter(|axis| axis.is_spatial()).count() > 1
        {
            return Err(self.error(
                span,
                "`point` is affine and cannot be combined with another axis on which the group's matrix acts",
                "a displacement or a tensor of higher rank is `vector`",
            ));
        }
        let values = self.values(split, &axes)?;
        Ok(Layout { axes, values })
    }

    fn axis(&self, span: Range<usize>) -> Result<Axis, ParseError> {
        let word = &self.text[span.clone()];
        if self.group.permutes(word) {
            return Ok(Axis::Permuted(word.to_owned()));
        }
        match word {
            "batch" => return Ok(Axis::Batch),
            "..." => return Ok(Axis::Ellipsis),
            "vector" => return Ok(Axis::Vector),
            "point" => return Ok(Axis::Point),
            "pseudovector" => return Ok(Axis::Pseudovector),
            _ => {}
        }
        if PLAIN_WORDS.contains(&word) {
            return Ok(Axis::Plain { name: word.to_owned(), marked: false });
        }
        if let Some(name) = word.strip_suffix('!') {
            if is_name(name) {
                return Ok(Axis::Plain { name: name.to_owned(), marked: true });
            }
            return Err(self.error(
                span,
                "`!` must follow a name of letters, digits and `_`",
                "example: `bins!` is a plain axis of that name",
            ));
        }
        if word.chars().all(|c| c.is_ascii_digit()) {
            return word.parse().map(Axis::Size).map_err(|_| {
                self.error(span, format!("`{word}` is too large for a size"), "give the axis a name instead")
            });
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return self.irreps(word, span);
        }
        Err(self.unknown(word, span))
    }

    fn irreps(&self, word: &str, span: Range<usize>) -> Result<Axis, ParseError> {
        let irreps = word.parse::<Irreps>().map_err(|error| {
            let at = span.start + error.span().start..span.start + error.span().end;
            self.error(at, error.to_string(), "irreps are written as in e3nn: `8x0e+4x1o+2x2e`")
        })?;
        match self.group.dimension() {
            Some(3) | None => Ok(Axis::Irreps(irreps)),
            Some(n) => Err(self.error(
                span,
                format!("`{word}` are irreps of O(3), and `{}` acts in dimension {n}", self.group),
                "use `vector` or `point`, or a group in dimension 3",
            )),
        }
    }

    fn unknown(&self, word: &str, span: Range<usize>) -> ParseError {
        if word.starts_with(['(', '[']) {
            return self.error(
                span,
                "flattened axes are not supported",
                "reshape the tensor in a small wrapper around the model, one word per axis",
            );
        }
        let candidates = PLAIN_WORDS.into_iter().chain(OTHER_WORDS).chain(self.group.permuted_axes());
        let help = match nearest(word, candidates) {
            Some(near) => format!("did you mean `{near}`? a plain axis of that name is written `{word}!`"),
            None if is_name(word) => {
                format!(
                    "a plain axis of that name is written `{word}!`, a permuted one needs `S({word})` in the group"
                )
            }
            None => format!("known words: {}", [&PLAIN_WORDS[..], &OTHER_WORDS[..]].concat().join(", ")),
        };
        self.error(span, format!("unknown word `{word}`"), help)
    }

    fn values(&self, split: usize, axes: &[Axis]) -> Result<Option<IndexValues>, ParseError> {
        let clause = &self.text[split..];
        if clause.is_empty() {
            return Ok(None);
        }
        if clause.starts_with('~') {
            return Err(self.error(
                split..self.text.len(),
                "outputs defined only up to a sign, phase or order are not supported",
                "compare an invariant of it in a small wrapper around the model, e.g. the projector v v^T",
            ));
        }
        let start = split + 1;
        let (axis_part, sentinel_part) = match self.text[start..].split_once('|') {
            Some((axis, sentinel)) => (axis, Some((start + axis.len() + 1, sentinel))),
            None => (&self.text[start..], None),
        };
        let offset = start + axis_part.len() - axis_part.trim_start().len();
        let axis = axis_part.trim();
        let span = if axis.is_empty() { split..start } else { offset..offset + axis.len() };
        if !is_name(axis) || axis.starts_with(char::is_numeric) {
            return Err(self.error(span, "expected one axis name after `:`", "example: `2 edges : nodes`"));
        }
        if let Some(axis) = axes.iter().find(|axis| axis.is_spatial()) {
            return Err(self.error(
                span,
                format!("index values cannot stand in a tensor with a `{axis}` axis"),
                "values that are positions along an axis are integers without geometry",
            ));
        }
        let sentinel = match sentinel_part {
            None => None,
            Some((at, rest)) => {
                let word = rest.trim();
                let at = at + rest.len() - rest.trim_start().len();
                let span = if word.is_empty() { at..at } else { at..at + word.len() };
                Some(word.parse::<i64>().map_err(|_| {
                    self.error(span, "expected an integer after `|`", "example: `: nodes | -1`")
                })?)
            }
        };
        if self.group.permutes(axis) {
            return Ok(Some(IndexValues { axis: axis.to_owned(), sentinel }));
        }
        if PLAIN_WORDS.contains(&axis) {
            // Positions along an axis that nothing permutes stay as they are.
            return Ok(None);
        }
        Err(self.error(
            span,
            format!("the group does not permute `{axis}`"),
            match nearest(axis, self.group.permuted_axes()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `S({axis})` to the group, or drop the clause"),
            },
        ))
    }
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Byte ranges of the words; spaces around `+` do not separate (`8x0e + 4x1o` is one word).
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut glue = false;
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, c.is_whitespace()) {
            (None, false) => start = Some(at),
            (Some(begin), true) => {
                let word = &text[begin..at];
                match words.last_mut() {
                    Some(last) if glue || word.starts_with('+') => last.end = at,
                    _ => words.push(begin..at),
                }
                glue = word.ends_with('+');
                start = None;
            }
            _ => {}
        }
    }
    words
}
