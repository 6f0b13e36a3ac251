//! The layout language: one word per axis, each saying how that axis transforms.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::Error;
use crate::error::{ParseError, nearest};

use super::finite::FiniteRepresentation;
use super::group::{GRID_AXES, Group, Term};
use super::irreps::{ARRANGEMENTS, Irreps};
use super::representation::{DirectSum, Representation, Summand};
use super::tensors::Voigt;
use super::user::{Representations, User};

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
    /// An axis of a sampled domain: `length`, `depth`, `height` or `width`.
    Grid(String),
    /// A direct sum of representations: `vector`, `8x0e+4x1o`, `8*scalar+2*vector`.
    Components(DirectSum),
    /// Several axes in one, row-major: `(graphs 3)`.
    Flattened(Vec<Axis>),
}

impl Axis {
    /// The axis of one representation.
    pub fn of(representation: Representation) -> Self {
        Axis::Components(representation.into())
    }

    /// The representations along it.
    pub fn components(&self) -> Option<&DirectSum> {
        match self {
            Axis::Components(sum) => Some(sum),
            _ => None,
        }
    }

    /// The axes that it consists of: itself, unless it is flattened.
    pub fn parts(&self) -> &[Axis] {
        match self {
            Axis::Flattened(parts) => parts,
            axis => std::slice::from_ref(axis),
        }
    }

    /// Whether the defining matrix acts along this axis.
    pub fn is_spatial(&self) -> bool {
        if let Axis::Flattened(parts) = self {
            return parts.iter().any(Axis::is_spatial);
        }
        self.components().is_some_and(|sum| sum.0.iter().any(|s| s.representation.is_spatial()))
    }

    /// Whether it may stand without an axis of its own: a number that every entry is multiplied by.
    pub(crate) fn is_weight(&self) -> bool {
        self.components().is_some_and(DirectSum::is_weight)
    }

    /// Whether the tensor may have no axis, or any number of them, for this word.
    pub(crate) fn may_lack_axis(&self) -> bool {
        *self == Axis::Ellipsis || self.is_weight()
    }

    /// Whether translations act along it.
    pub(crate) fn is_affine(&self) -> bool {
        if let Axis::Flattened(parts) = self {
            return parts.iter().any(Axis::is_affine);
        }
        self.components().is_some_and(|sum| sum.0.iter().any(|s| s.representation.is_affine()))
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Axis::Plain { name, marked } => write!(f, "{name}{}", if *marked { "!" } else { "" }),
            Axis::Size(n) => write!(f, "{n}"),
            Axis::Batch => f.write_str("batch"),
            Axis::Ellipsis => f.write_str("..."),
            Axis::Permuted(name) | Axis::Grid(name) => f.write_str(name),
            Axis::Components(sum) => write!(f, "{sum}"),
            Axis::Flattened(parts) => {
                let words: Vec<String> = parts.iter().map(ToString::to_string).collect();
                write!(f, "({})", words.join(" "))
            }
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

/// `~ sign` after the axes: an output that is defined only up to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpTo {
    /// One sign per vector: over the axes on which the group's matrices act, else per tensor.
    Sign,
    /// One complex phase `exp(i theta)` per vector, in the same sense.
    Phase,
    /// The order of the rows along this plain axis. Each entry of the axes to the left of it has an order of its own,
    /// unless they are a size or components, which are parts of a row: `2 edges : nodes ~ S(edges)`.
    Order(String),
}

impl fmt::Display for UpTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpTo::Sign => f.write_str("sign"),
            UpTo::Phase => f.write_str("phase"),
            UpTo::Order(axis) => write!(f, "S({axis})"),
        }
    }
}

/// A tensor's layout. Prints in one canonical form, which parses again under the same group.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    axes: Vec<Axis>,
    values: Option<IndexValues>,
    up_to: Option<UpTo>,
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
        if let Some(up_to) = &self.up_to {
            write!(f, "{}~ {up_to}", if self.axes.is_empty() { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Words for axes that do not transform (unless the group permutes an axis of that name).
pub const PLAIN_WORDS: [&str; 8] =
    ["channel", "features", "time", "heads", "classes", "nodes", "edges", "graphs"];
/// Words for axes that transform, and for those that lead.
const OTHER_WORDS: [&str; 27] = [
    "vector",
    "point",
    "point mod",
    "fractional",
    "pseudovector",
    "pseudoscalar",
    "scalar",
    "covector",
    "batch",
    "...",
    "regular",
    "trivial",
    "sign",
    "quotient",
    "irrep",
    "voigt",
    "voigt(strain)",
    "quaternion",
    "scale",
    "charge",
    "length",
    "depth",
    "height",
    "width",
    "m1",
    "ir_mul",
    "yzx",
];

/// Words before parentheses, but those around irreps.
const BEFORE_PARENTHESES: [&str; 3] = ["quotient", "irrep", "voigt"];

impl Layout {
    /// Parses a layout under a group: a name that the group permutes is a permuted axis.
    ///
    /// # Errors
    /// An unknown word (with the nearest one), malformed irreps, a misplaced `...`, a clause after the axes that is
    /// not `: axis`, a combination that has no meaning.
    pub fn parse(text: &str, group: &Group) -> Result<Self, ParseError> {
        Self::parse_with(text, group, &Representations::default(), None)
    }

    /// The same with a user's representations, each a word `@name`, and where `inputs` are known by name: those that
    /// `fractional(cell)` and `point mod cell` refer to must be among them.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); a representation or a cell that is not among them (with the nearest one).
    pub fn parse_with(
        text: &str,
        group: &Group,
        representations: &Representations,
        inputs: Option<&[&str]>,
    ) -> Result<Self, ParseError> {
        Parser { text, group, representations, inputs }.layout()
    }

    /// Of these axes, whatever the language would say of them.
    pub(crate) fn of(axes: Vec<Axis>) -> Self {
        Self { axes, values: None, up_to: None }
    }

    /// A layout of whole numbers that are positions along an axis.
    pub(crate) fn of_positions(axes: Vec<Axis>, values: IndexValues) -> Self {
        Self { axes, values: Some(values), up_to: None }
    }

    /// The axes, in order.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The clause on values, if any.
    pub fn values(&self) -> Option<&IndexValues> {
        self.values.as_ref()
    }

    /// What it is defined up to, if not exactly.
    pub fn up_to(&self) -> Option<&UpTo> {
        self.up_to.as_ref()
    }

    /// Inputs that hold the lattices which it refers to.
    pub fn cells(&self) -> impl Iterator<Item = &str> {
        let sums = self.axes.iter().flat_map(Axis::parts).filter_map(Axis::components);
        sums.flat_map(|sum| &sum.0).filter_map(|summand| summand.representation.cell())
    }

    /// Names of the permuted axes that it mentions, values included.
    pub fn permuted_axes(&self) -> impl Iterator<Item = &str> {
        let axes = self.axes.iter().flat_map(Axis::parts).filter_map(|axis| match axis {
            Axis::Permuted(name) => Some(name.as_str()),
            _ => None,
        });
        axes.chain(self.values.iter().map(|values| values.axis.as_str()))
    }

    /// The user's representations that it mentions.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.representations().filter_map(|representation| match representation {
            Representation::User(user) => Some(user),
            _ => None,
        })
    }

    /// By how much bases of their own may enlarge rounding.
    pub(crate) fn condition(&self) -> f64 {
        let of = |representation: &Representation| match representation {
            Representation::InBasis(basis) => basis.condition(),
            _ => 1.0,
        };
        self.representations().map(of).fold(1.0, f64::max)
    }

    /// All that acts along its axes.
    pub(crate) fn representations(&self) -> impl Iterator<Item = &Representation> {
        let sums = self.axes.iter().flat_map(Axis::parts).filter_map(Axis::components);
        sums.flat_map(|sum| &sum.0).map(|summand| &summand.representation)
    }

    /// The axes, with what a user's representations are for permuted axes of these lengths.
    ///
    /// # Errors
    /// A function of the user's fails.
    pub(crate) fn bound_axes(
        &self,
        group: &Group,
        lengths: &BTreeMap<String, usize>,
    ) -> Result<Vec<Axis>, Error> {
        let mut axes = self.axes.clone();
        for axis in &mut axes {
            let parts = if let Axis::Flattened(parts) = axis { parts } else { std::slice::from_mut(axis) };
            for part in parts {
                let Axis::Components(sum) = part else { continue };
                for summand in &mut sum.0 {
                    if let Representation::User(user) = &mut summand.representation {
                        *user = user.bound(group, lengths)?;
                    }
                }
            }
        }
        Ok(axes)
    }
}

struct Parser<'a> {
    text: &'a str,
    group: &'a Group,
    representations: &'a Representations,
    /// Names of the inputs, where they are known.
    inputs: Option<&'a [&'a str]>,
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
            if axis.is_affine() {
                affine = Some(span.clone());
            }
            axes.push(axis);
        }
        if let Some(span) = affine
            && axes.iter().flat_map(Axis::parts).filter(|axis| axis.is_spatial()).count() > 1
        {
            return Err(self.error(
                span,
                "`point` is affine and cannot be combined with another axis on which the group's matrix acts",
                "a displacement or a tensor of higher rank is `vector`",
            ));
        }
        let (values, up_to) = self.clauses(split, &axes)?;
        Ok(Layout { axes, values, up_to })
    }

    fn axis(&self, span: Range<usize>) -> Result<Axis, ParseError> {
        let word = &self.text[span.clone()];
        if self.group.permutes(word) {
            return Ok(Axis::Permuted(word.to_owned()));
        }
        if let Some(inside) = word.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            let start = span.start + 1;
            let parts = words(inside)
                .into_iter()
                .map(|part| {
                    let span = start + part.start..start + part.end;
                    match self.axis(span.clone())? {
                        Axis::Ellipsis | Axis::Flattened(_) => Err(self.error(
                            span,
                            "a flattened axis holds plain words alone",
                            "example: `(graphs 3) vector`",
                        )),
                        axis => Ok(axis),
                    }
                })
                .collect::<Result<Vec<_>, ParseError>>()?;
            if parts.is_empty() {
                return Err(self.error(
                    span,
                    "a flattened axis holds at least one word",
                    "example: `(graphs 3)`",
                ));
            }
            return Ok(Axis::Flattened(parts));
        }
        match word {
            "batch" => return Ok(Axis::Batch),
            "..." => return Ok(Axis::Ellipsis),
            _ => {}
        }
        if GRID_AXES.contains(&word) {
            return Ok(Axis::Grid(word.to_owned()));
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
        if let Some(sum) = self.direct_sum(word, &span)? {
            return Ok(Axis::Components(sum));
        }
        Err(self.unknown(word, span))
    }

    /// `8x0e+4x1o`, `vector`, `8*scalar+2*vector`; `None` for a word that is no sum of representations.
    fn direct_sum(&self, word: &str, span: &Range<usize>) -> Result<Option<DirectSum>, ParseError> {
        let mut summands: Vec<Summand> = Vec::new();
        let mut irreps: Option<Range<usize>> = None;
        let pieces = pieces(word);
        let whole = |piece: &Range<usize>| piece.is_empty() || is_irrep(&word[piece.clone()]);
        if pieces.iter().any(|piece| !piece.is_empty()) && pieces.iter().all(whole) {
            let irreps = self.irreps(word, span.clone())?;
            return Ok(Some(Representation::Irreps(irreps).into()));
        }
        if let Some(piece) = pieces.iter().find(|piece| piece.is_empty()) {
            let at = span.start + piece.start.min(word.len().saturating_sub(1));
            let at = (0..=at).rev().find(|k| self.text.is_char_boundary(*k)).unwrap_or(0);
            return Err(self.error(
                at..(at + 1..=span.end).find(|k| self.text.is_char_boundary(*k)).unwrap_or(span.end),
                "a direct sum lacks a summand on one side of `+`",
                "example: `8*scalar+2*vector`",
            ));
        }
        for (k, piece) in pieces.iter().enumerate() {
            let text = &word[piece.clone()];
            let at = span.start + piece.start..span.start + piece.end;
            if is_irrep(text) {
                // Neighbours belong to one text in e3nn's notation, which prints canonically as a whole.
                irreps = Some(irreps.map_or(piece.clone(), |before| before.start..piece.end));
                if k + 1 < pieces.len() {
                    continue;
                }
            }
            if let Some(range) = irreps.take() {
                let range_span = span.start + range.start..span.start + range.end;
                let irreps = self.irreps(&word[range], range_span)?;
                summands.push(Summand { multiplicity: 1, representation: Representation::Irreps(irreps) });
            }
            if is_irrep(text) {
                continue;
            }
            if is_arranged(text) {
                let irreps = self.irreps(text, at)?;
                summands.push(Summand { multiplicity: 1, representation: Representation::Irreps(irreps) });
                continue;
            }
            let (multiplicity, name, name_span) = self.multiplicity(text, at)?;
            match self.representation(name.as_str(), &name_span)? {
                Some(representation) => {
                    self.check_representation(&representation, &name_span)?;
                    summands.push(Summand { multiplicity, representation });
                }
                None if pieces.len() == 1 && name == word => return Ok(None),
                None => return Err(self.unknown(&name, name_span)),
            }
        }
        Ok(Some(DirectSum(summands)))
    }

    /// Splits `8*regular`, `3xm0` into the number of copies and the rest.
    fn multiplicity(
        &self,
        text: &str,
        span: Range<usize>,
    ) -> Result<(usize, String, Range<usize>), ParseError> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let rest = text[digits..].trim_start();
        if digits == 0 {
            return Ok((1, text.to_owned(), span));
        }
        let Some(name) = rest.strip_prefix(['*', 'x']).map(str::trim_start) else {
            return Ok((1, text.to_owned(), span));
        };
        let multiplicity =
            text[..digits].parse::<usize>().ok().filter(|n| *n <= 1 << 24).ok_or_else(|| {
                self.error(span.start..span.start + digits, "too many copies", "give at most 16777216 copies")
            })?;
        Ok((multiplicity, name.to_owned(), span.end - name.len()..span.end))
    }

    fn representation(&self, word: &str, span: &Range<usize>) -> Result<Option<Representation>, ParseError> {
        if let Some(representation) = self.in_lattice(word, span)? {
            return Ok(Some(representation));
        }
        Ok(Some(match word {
            "scalar" => Representation::Scalar,
            "vector" => Representation::Vector,
            "point" => Representation::Point,
            "pseudovector" => Representation::Pseudovector,
            "pseudoscalar" => Representation::Pseudoscalar,
            "covector" => Representation::Covector,
            "voigt" | "voigt(stress)" => Representation::Voigt(Voigt::Stress),
            "voigt(strain)" => Representation::Voigt(Voigt::Strain),
            "quaternion" => Representation::Quaternion,
            "sign" if self.group.terms().contains(&Term::Sign) || self.group.finite().is_none() => {
                if !self.group.terms().contains(&Term::Sign) {
                    return Err(self.error(
                        span.clone(),
                        format!("`sign` is a representation of `Z2` or of a finite group, and `{}` holds neither", self.group),
                        "add `Z2` to the group, or write `pseudoscalar` for what changes sign under reflections",
                    ));
                }
                Representation::Sign
            }
            _ if is_arranged(word) => {
                return Err(self.error(
                    span.clone(),
                    "irreps have their multiplicities inside the parentheses",
                    "example: `ir_mul(8x0e+4x1o)`",
                ));
            }
            _ if word.starts_with('@') => {
                let found = self.representations.get(&word[1..]);
                Representation::User(found.ok_or_else(|| self.unknown_user(word, span.clone()))?.clone())
            }
            _ => {
                if let Some(digits) = word.strip_prefix('m').filter(|d| is_number(d)) {
                    let m = digits.parse::<usize>().ok().filter(|m| *m <= 1024).ok_or_else(|| {
                        self.error(span.clone(), "the frequency is too large", "frequencies go up to 1024")
                    })?;
                    Representation::Frequency(m)
                } else if let Some((base, power)) =
                    word.split_once('^').filter(|(base, _)| ["scale", "charge"].contains(base))
                {
                    let k = power.parse::<i32>().ok().filter(|k| k.abs() <= 1024).ok_or_else(|| {
                        self.error(
                            span.clone(),
                            format!("`{base}^` needs a whole number from -1024 to 1024"),
                            format!("example: `{base}^2`"),
                        )
                    })?;
                    if base == "scale" { Representation::Scale(k) } else { Representation::Charge(k) }
                } else if FiniteRepresentation::is_name(word.split('(').next().unwrap_or(word).trim_end()) {
                    let representation = FiniteRepresentation::parse(word)
                        .map_err(|e| e.at("layout", self.text, span.clone()))?;
                    Representation::Finite(representation)
                } else {
                    return Ok(None);
                }
            }
        }))
    }

    /// `fractional(cell)`, `point mod cell`.
    fn in_lattice(&self, word: &str, span: &Range<usize>) -> Result<Option<Representation>, ParseError> {
        let modulo = word.strip_prefix("point").and_then(|rest| rest.trim_start().strip_prefix("mod"));
        let modulo = modulo.filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        let fractional = word.strip_prefix("fractional").map(str::trim);
        let (cell, example) = match (modulo, fractional) {
            (Some(cell), _) => (cell.trim(), "point mod cell"),
            (_, Some(rest)) if rest.is_empty() || rest.starts_with('(') => {
                let inside = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
                (inside.unwrap_or_default().trim(), "fractional(cell)")
            }
            _ => return Ok(None),
        };
        let is_path = |c: char| c.is_alphanumeric() || "_.-".contains(c);
        if cell.is_empty() || !cell.chars().all(is_path) {
            return Err(self.error(
                span.clone(),
                "the input that holds the lattice vectors is not named",
                format!("example: `{example}`, where input `cell` has the layout `3 vector`"),
            ));
        }
        if let Some(inputs) = self.inputs
            && !inputs.contains(&cell)
        {
            let at = span.start + word.rfind(cell).unwrap_or(0);
            let help = match nearest(cell, inputs.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "name the input that holds the lattice vectors as rows; inputs: {}",
                    inputs.join(", ")
                ),
            };
            return Err(self.error(at..at + cell.len(), format!("no input `{cell}`"), help));
        }
        let cell = cell.to_owned();
        let points = modulo.is_some();
        Ok(Some(if points { Representation::PointModulo(cell) } else { Representation::Fractional(cell) }))
    }

    fn check_representation(
        &self,
        representation: &Representation,
        span: &Range<usize>,
    ) -> Result<(), ParseError> {
        representation.dimension(self.group).map(|_| ()).map_err(|why| {
            let help = match representation {
                Representation::Finite(_) => "example: `4*regular` under `C4`",
                _ if !self.group.is_orthogonal() => "use `vector`, `covector` and their products",
                Representation::Frequency(_) => "use a group in dimension 2, such as `O(2)`",
                _ => "use `vector` or `point`, or a group in dimension 3",
            };
            self.error(span.clone(), why, help)
        })
    }

    fn irreps(&self, word: &str, span: Range<usize>) -> Result<Irreps, ParseError> {
        let irreps = word.parse::<Irreps>().map_err(|error| {
            let at = span.start + error.span().start..span.start + error.span().end;
            self.error(at, error.to_string(), "irreps are written as in e3nn: `8x0e+4x1o+2x2e`")
        })?;
        match self.group.dimension() {
            Some(3) | None => {
                self.check_representation(&Representation::Irreps(irreps.clone()), &span)?;
                Ok(irreps)
            }
            Some(n) => Err(self.error(
                span,
                format!("`{word}` are irreps of O(3), and `{}` acts in dimension {n}", self.group),
                "use `vector` or `point`, or a group in dimension 3",
            )),
        }
    }

    fn unknown_user(&self, word: &str, span: Range<usize>) -> ParseError {
        let names: Vec<&str> = self.representations.iter().map(User::name).collect();
        let help = match nearest(&word[1..], names.iter().copied()) {
            Some(near) => format!("did you mean `@{near}`?"),
            None if names.is_empty() => {
                format!(
                    "give the function with the audit: `representations={{\"{}\": function}}`",
                    &word[1..]
                )
            }
            None => format!("given: @{}", names.join(", @")),
        };
        self.error(span, format!("no representation `{word}` is given"), help)
    }

    fn unknown(&self, word: &str, span: Range<usize>) -> ParseError {
        if word.starts_with(['(', ')', '[']) {
            return self.error(
                span,
                "flattened axes are written in one pair of parentheses",
                "example: `(graphs 3) vector`, row-major as in einops",
            );
        }
        if self.representations.get(word).is_some() {
            return self.error(span, format!("unknown word `{word}`"), format!("did you mean `@{word}`?"));
        }
        if ARRANGEMENTS.contains(&word) {
            return self.error(
                span,
                format!("`{word}` stands before irreps in parentheses"),
                format!("example: `{word}(8x0e+4x1o)`"),
            );
        }
        if let Some((name, _)) = word.split_once('(')
            && let Some(near) = nearest(name, ARRANGEMENTS.into_iter().chain(BEFORE_PARENTHESES))
            && near != name
        {
            return self.error(span, format!("unknown word `{name}(`"), format!("did you mean `{near}(`?"));
        }
        let candidates: Vec<&str> =
            PLAIN_WORDS.into_iter().chain(OTHER_WORDS).chain(self.group.permuted_axes()).collect();
        let (head, inside) = word.split_at(word.find('(').unwrap_or(word.len()));
        // Known before the parenthesis: what stands inside is wrong, or the whole.
        let near = nearest(head, candidates.iter().copied()).filter(|near| *near != head);
        let help = match near.or_else(|| nearest(word, candidates)) {
            Some(near) if near.ends_with(')') => format!("did you mean `{near}`?"),
            Some(near) if inside.is_empty() => {
                format!("did you mean `{near}`? a plain axis of that name is written `{word}!`")
            }
            Some(near) => format!("did you mean `{near}{inside}`?"),
            None if is_name(word) => {
                format!(
                    "a plain axis of that name is written `{word}!`, a permuted one needs `S({word})` in the group"
                )
            }
            None => format!("known words: {}", [&PLAIN_WORDS[..], &OTHER_WORDS[..]].concat().join(", ")),
        };
        self.error(span, format!("unknown word `{word}`"), help)
    }

    fn clauses(
        &self,
        split: usize,
        axes: &[Axis],
    ) -> Result<(Option<IndexValues>, Option<UpTo>), ParseError> {
        let clause = &self.text[split..];
        let tilde = clause.find('~').map_or(self.text.len(), |at| split + at);
        let up_to = if tilde < self.text.len() { Some(self.up_to(tilde, axes)?) } else { None };
        let values = if split < tilde { self.values(split, tilde, axes)? } else { None };
        Ok((values, up_to))
    }

    fn up_to(&self, tilde: usize, axes: &[Axis]) -> Result<UpTo, ParseError> {
        let rest = &self.text[tilde + 1..];
        let word = rest.trim();
        let at = tilde + 1 + rest.len() - rest.trim_start().len();
        let span = if word.is_empty() { tilde..tilde + 1 } else { at..at + word.len() };
        let lattice = axes.iter().flat_map(Axis::parts).filter_map(Axis::components).flat_map(|sum| &sum.0);
        let modulo = lattice.map(|summand| &summand.representation).find(|r| r.cell().is_some());
        match (word, modulo) {
            ("sign" | "phase", Some(modulo)) => Err(self.error(
                span,
                format!("`{modulo}` is compared modulo a lattice, and not up to a {word} as well"),
                "drop one of the two",
            )),
            ("sign", _) => Ok(UpTo::Sign),
            ("phase", _) => Ok(UpTo::Phase),
            _ => match word.strip_prefix('S').map(str::trim_start).and_then(|rest| rest.strip_prefix('(')) {
                Some(inside) => self.order(inside.strip_suffix(')').unwrap_or("").trim(), span, axes),
                None => Err(self.error(
                    span,
                    "outputs defined only up to that are not supported",
                    "`~ sign`, `~ phase` and `~ S(axis)` are; else compare an invariant of it in a small wrapper \
                     around the model, e.g. the projector v v^T",
                )),
            },
        }
    }

    /// `~ S(axis)`: rows along a plain axis, in no definite order.
    fn order(&self, name: &str, span: Range<usize>, axes: &[Axis]) -> Result<UpTo, ParseError> {
        if self.group.permutes(name) {
            return Err(self.error(
                span,
                format!("the group permutes `{name}`, so that its rows have a definite order"),
                format!("drop the clause, or write the axis as `{name}!` under a group without `S({name})`"),
            ));
        }
        let plain: Vec<&str> = axes
            .iter()
            .flat_map(Axis::parts)
            .filter_map(|axis| match axis {
                Axis::Plain { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        match plain.iter().filter(|axis| **axis == name).count() {
            1 => Ok(UpTo::Order(name.to_owned())),
            0 => Err(self.error(
                span,
                format!("no plain axis `{name}` whose rows could be in another order"),
                match (nearest(name, plain.iter().copied()), &plain[..]) {
                    (Some(near), _) => format!("did you mean `~ S({near})`?"),
                    (None, []) => "example: `edges vector ~ S(edges)`".to_owned(),
                    (None, known) => format!("plain axes of the layout: {}", known.join(", ")),
                },
            )),
            _ => Err(self.error(
                span,
                format!("`{name}` stands for several axes"),
                format!("write the others by another name, such as `{name}2!`"),
            )),
        }
    }

    fn values(&self, split: usize, end: usize, axes: &[Axis]) -> Result<Option<IndexValues>, ParseError> {
        let start = split + 1;
        let (axis_part, sentinel_part) = match self.text[start..end].split_once('|') {
            Some((axis, sentinel)) => (axis, Some((start + axis.len() + 1, sentinel))),
            None => (&self.text[start..end], None),
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

/// Byte ranges of the summands; `+` within parentheses separates none.
fn pieces(word: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut depth = 0usize;
    let separates = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '+' && depth == 0
    };
    word.split(separates)
        .map(|part| {
            let start = at + part.len() - part.trim_start().len();
            at += part.len() + 1;
            start..start + part.trim().len()
        })
        .collect()
}

/// Whether a summand is meant in e3nn's notation: it starts with a digit and names no other representation.
fn is_irrep(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    if rest.len() == text.len() {
        return false;
    }
    match rest.chars().next() {
        Some('*') => false,
        Some('x') => !rest[1..].trim_start().starts_with(|c: char| c.is_alphabetic() || c == '@'),
        _ => true,
    }
}

/// Whether irreps in parentheses are meant, after a word on their arrangement.
fn is_arranged(text: &str) -> bool {
    text.split_once('(').is_some_and(|(word, _)| ARRANGEMENTS.contains(&word.trim_end()))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Byte ranges of the words; spaces around `+` and `*` and within parentheses do not separate (`8x0e + 4x1o` is one
/// word), nor do those of `point mod cell`.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut glue = false;
    let mut depth = 0usize;
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (start, c.is_whitespace() && (depth == 0 || at == text.len())) {
            (None, false) if !c.is_whitespace() => start = Some(at),
            (Some(begin), true) => {
                let word = &text[begin..at];
                let modulo =
                    word == "mod" && words.last().is_some_and(|last| ends_in_point(&text[last.clone()]));
                match words.last_mut() {
                    Some(last) if glue || modulo || word.starts_with(['+', '*']) => last.end = at,
                    _ => words.push(begin..at),
                }
                glue = modulo || word.ends_with(['+', '*']);
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// Whether a word is `point`, or a direct sum that ends in it.
fn ends_in_point(word: &str) -> bool {
    word.strip_suffix("point")
        .is_some_and(|before| before.trim_end().is_empty() || before.ends_with(['+', '*', 'x', ' ']))
}
