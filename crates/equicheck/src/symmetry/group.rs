//! Groups, written as in papers: `E(3) x S(nodes)`, `D4 @ (0,0,1)`, `2T(2) x C4`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ndarray::Array2;

use crate::error::{ParseError, nearest};

use super::finite::{FiniteError, FiniteGroup, PointGroupName};

/// Generated groups of at most this many elements are listed; larger ones are sampled by random words.
pub const LARGEST_LISTED: usize = 4096;

/// One factor as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// `SO(n)`: rotations.
    SpecialOrthogonal(usize),
    /// `O(n)`: rotations and reflections.
    Orthogonal(usize),
    /// `SE(n)`: rotations and translations.
    SpecialEuclidean(usize),
    /// `E(n)`: rotations, reflections and translations.
    Euclidean(usize),
    /// `SO+(1,3)` or `O(1,3)`: Lorentz transformations of (t, x, y, z).
    Lorentz {
        /// Whether reflections of space and of time belong to it.
        improper: bool,
    },
    /// `T(n)`, `kT(n)`, `T(1) @ axis`: translations.
    Translation(Shift),
    /// `C4`, `D4 @ (0,0,1)`, `Oh`, `generated([[0, -1], [1, 0]])`: a finite group of matrices.
    Finite(Arc<FiniteGroup>),
    /// `generated(...)` by matrices whose group is infinite, or too large to be listed.
    Generated(Arc<Generators>),
    /// `S(axis)`: permutations along a named axis.
    Symmetric(String),
    /// `generated(axis: [1, 0, 2])`: a group of permutations along a named axis.
    Permutations {
        /// The axis.
        axis: String,
        /// The permutations.
        group: Arc<FiniteGroup>,
    },
    /// `Z2`: acts by `sign`.
    Sign,
    /// `U(1)`: acts by `charge^k`.
    Phase,
    /// `Scale`: dilations, acts by `scale^k`.
    Scale,
}

/// Translations of a space of `dimension`, or along one named axis of a grid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shift {
    /// Dimension of space; 1 for a named axis.
    pub dimension: usize,
    /// Grids are shifted by multiples of this many pixels.
    pub step: usize,
    /// The one axis of a grid that is shifted, towards higher indices.
    pub along: Option<String>,
}

impl Shift {
    /// `T(n)`.
    pub fn of(dimension: usize) -> Self {
        Self { dimension, step: 1, along: None }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.step > 1 {
            write!(f, "{}", self.step)?;
        }
        write!(f, "T({})", self.dimension)?;
        self.along.as_ref().map_or(Ok(()), |axis| write!(f, " @ {axis}"))
    }
}

/// Invertible matrices that generate a group which is not listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Generators {
    /// `n x n` each.
    pub matrices: Vec<Array2<f64>>,
    /// Their inverses.
    pub inverses: Vec<Array2<f64>>,
}

impl fmt::Display for Generators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generated({})", print_matrices(&self.matrices))
    }
}

fn print_matrices(matrices: &[Array2<f64>]) -> String {
    let row = |row: ndarray::ArrayView1<'_, f64>| {
        let numbers: Vec<String> = row.iter().map(|v| format!("{}", v + 0.0)).collect();
        format!("[{}]", numbers.join(", "))
    };
    let matrix = |m: &Array2<f64>| {
        let rows: Vec<String> = m.outer_iter().map(row).collect();
        format!("[{}]", rows.join(", "))
    };
    matrices.iter().map(matrix).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::SpecialOrthogonal(n) => write!(f, "SO({n})"),
            Term::Orthogonal(n) => write!(f, "O({n})"),
            Term::SpecialEuclidean(n) => write!(f, "SE({n})"),
            Term::Euclidean(n) => write!(f, "E({n})"),
            Term::Lorentz { improper } => f.write_str(if *improper { "O(1,3)" } else { "SO+(1,3)" }),
            Term::Translation(shift) => write!(f, "{shift}"),
            Term::Finite(group) | Term::Permutations { group, .. } => f.write_str(group.name()),
            Term::Generated(generators) => write!(f, "{generators}"),
            Term::Symmetric(axis) => write!(f, "S({axis})"),
            Term::Sign => f.write_str("Z2"),
            Term::Phase => f.write_str("U(1)"),
            Term::Scale => f.write_str("Scale"),
        }
    }
}

/// A part of the group that is also tested alone. `E(n)` has two: `O(n)` and `T(n)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Factor {
    /// `SO(n)` or `O(n)`.
    Linear {
        /// Dimension of the defining representation.
        dimension: usize,
        /// Whether determinant -1 belongs to it.
        improper: bool,
    },
    /// `SO+(1,3)` or `O(1,3)`.
    Lorentz {
        /// Whether reflections of space and of time belong to it.
        improper: bool,
    },
    /// A finite group of matrices.
    Finite(Arc<FiniteGroup>),
    /// A group of matrices that is not listed.
    Generated(Arc<Generators>),
    /// `T(n)`.
    Translation(Shift),
    /// `S(axis)`.
    Permutation {
        /// The axis that is permuted.
        axis: String,
    },
    /// A group of permutations along an axis.
    Permutations {
        /// The axis that is permuted.
        axis: String,
        /// The permutations.
        group: Arc<FiniteGroup>,
    },
    /// `Z2`.
    Sign,
    /// `U(1)`.
    Phase,
    /// `Scale`.
    Scale,
    /// The user's own functions.
    Custom(String),
}

impl Factor {
    /// Whether elements of determinant -1 are found beside those of determinant 1.
    pub fn has_improper(&self) -> bool {
        match self {
            Factor::Linear { improper, .. } | Factor::Lorentz { improper } => *improper,
            Factor::Finite(group) => group.has_improper(),
            _ => false,
        }
    }

    /// Whether its matrices act on space.
    pub fn is_linear(&self) -> bool {
        matches!(
            self,
            Factor::Linear { .. } | Factor::Lorentz { .. } | Factor::Finite(_) | Factor::Generated(_)
        )
    }

    /// Whether it has a Haar measure of total mass 1, so that a share of the group means something by itself.
    pub fn is_compact(&self) -> bool {
        match self {
            Factor::Linear { .. }
            | Factor::Finite(_)
            | Factor::Permutation { .. }
            | Factor::Permutations { .. }
            | Factor::Sign
            | Factor::Phase => true,
            Factor::Lorentz { .. }
            | Factor::Generated(_)
            | Factor::Translation(_)
            | Factor::Scale
            | Factor::Custom(_) => false,
        }
    }

    /// The axis that it permutes.
    pub fn permuted_axis(&self) -> Option<&str> {
        match self {
            Factor::Permutation { axis } | Factor::Permutations { axis, .. } => Some(axis),
            _ => None,
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Factor::Linear { dimension, improper: false } => write!(f, "SO({dimension})"),
            Factor::Linear { dimension, improper: true } => write!(f, "O({dimension})"),
            Factor::Lorentz { improper } => write!(f, "{}", Term::Lorentz { improper: *improper }),
            Factor::Finite(group) | Factor::Permutations { group, .. } => f.write_str(group.name()),
            Factor::Generated(generators) => write!(f, "{generators}"),
            Factor::Translation(shift) => write!(f, "{shift}"),
            Factor::Permutation { axis } => write!(f, "S({axis})"),
            Factor::Sign => write!(f, "{}", Term::Sign),
            Factor::Phase => write!(f, "{}", Term::Phase),
            Factor::Scale => write!(f, "{}", Term::Scale),
            Factor::Custom(name) => f.write_str(name),
        }
    }
}

/// A product of terms. Prints in one canonical form, which parses again.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    terms: Vec<Term>,
    /// Set for a group that the user's own functions stand for.
    custom: Option<String>,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.custom {
            return f.write_str(name);
        }
        for (k, term) in self.terms.iter().enumerate() {
            if k > 0 {
                f.write_str(" x ")?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

/// Names that take an argument in parentheses.
const WITH_ARGUMENT: [&str; 9] = ["SO", "O", "SE", "E", "T", "S", "U", "SO+", "generated"];
/// Other names, but for the point groups'.
const WITHOUT_ARGUMENT: [&str; 2] = ["Z2", "Scale"];
/// Words of layouts that a permuted axis cannot be called.
const LAYOUT_WORDS: [&str; 24] = [
    "vector",
    "point",
    "pseudovector",
    "covector",
    "scalar",
    "pseudoscalar",
    "regular",
    "trivial",
    "sign",
    "quotient",
    "irrep",
    "voigt",
    "quaternion",
    "fractional",
    "scale",
    "charge",
    "height",
    "width",
    "depth",
    "length",
    "mod",
    "strain",
    "stress",
    "phase",
];
const AVAILABLE: &str = "SO(n), O(n), SE(n), E(n), T(n), S(axis), SO+(1,3), O(1,3), U(1), Scale, Z2, Cn and Dn of the \
                         plane, point groups such as `D4 @ (0,0,1)` and `Oh`, generated([[0, -1], [1, 0]]), and products \
                         with `x`";

impl Group {
    /// Parses a product such as `E(3) x S(nodes)`; `×` and `*` are accepted for `x`.
    ///
    /// # Errors
    /// A word that is no group, a missing or wrong argument, two terms that act on the same space or axis.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Parser { text, at: 0 }.group()
    }

    /// The group that the user's own functions stand for; `name` is how reports call it.
    pub fn custom(name: &str) -> Self {
        Self { terms: Vec::new(), custom: Some(name.to_owned()) }
    }

    /// The terms as they were written.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The parts that are tested alone as well as jointly, in the order of the terms.
    pub fn factors(&self) -> Vec<Factor> {
        if let Some(name) = &self.custom {
            return vec![Factor::Custom(name.clone())];
        }
        let linear = |n: &usize, improper| Factor::Linear { dimension: *n, improper };
        let shift = |n: &usize| Factor::Translation(Shift::of(*n));
        let mut factors = Vec::new();
        for term in &self.terms {
            match term {
                Term::SpecialOrthogonal(n) => factors.push(linear(n, false)),
                Term::Orthogonal(n) => factors.push(linear(n, true)),
                Term::SpecialEuclidean(n) => factors.extend([linear(n, false), shift(n)]),
                Term::Euclidean(n) => factors.extend([linear(n, true), shift(n)]),
                Term::Lorentz { improper } => factors.push(Factor::Lorentz { improper: *improper }),
                Term::Translation(shift) => factors.push(Factor::Translation(shift.clone())),
                Term::Finite(group) => factors.push(Factor::Finite(Arc::clone(group))),
                Term::Generated(generators) => factors.push(Factor::Generated(Arc::clone(generators))),
                Term::Symmetric(axis) => factors.push(Factor::Permutation { axis: axis.clone() }),
                Term::Permutations { axis, group } => {
                    factors.push(Factor::Permutations { axis: axis.clone(), group: Arc::clone(group) });
                }
                Term::Sign => factors.push(Factor::Sign),
                Term::Phase => factors.push(Factor::Phase),
                Term::Scale => factors.push(Factor::Scale),
            }
        }
        factors
    }

    /// Dimension of space, if the group acts on it: 4 for Lorentz groups.
    pub fn dimension(&self) -> Option<usize> {
        self.terms.iter().find_map(|term| space_of(term).dimension)
    }

    /// The finite group whose representations `regular`, `irrep(..)` and so on are.
    pub fn finite(&self) -> Option<&Arc<FiniteGroup>> {
        self.terms.iter().find_map(|term| match term {
            Term::Finite(group) => Some(group),
            _ => None,
        })
    }

    /// Whether vectors of space are 4-vectors (t, x, y, z).
    pub fn is_lorentz(&self) -> bool {
        self.terms.iter().any(|term| matches!(term, Term::Lorentz { .. }))
    }

    /// Whether all its matrices are orthogonal, as irreps, frequencies and quaternions need them.
    pub(crate) fn is_orthogonal(&self) -> bool {
        let orthogonal = |m: &Array2<f64>| {
            (m.t().dot(m) - Array2::<f64>::eye(m.nrows())).iter().all(|excess| excess.abs() <= 1e-9)
        };
        self.terms.iter().all(|term| match term {
            Term::Lorentz { .. } => false,
            Term::Finite(group) => group.generators().iter().filter_map(|g| group.matrix(*g)).all(orthogonal),
            Term::Generated(generators) => generators.matrices.iter().all(orthogonal),
            _ => true,
        })
    }

    /// Whether elements of determinant -1 belong to it.
    pub fn has_improper(&self) -> bool {
        self.factors().iter().any(Factor::has_improper)
    }

    /// Whether the group permutes this axis.
    pub fn permutes(&self, axis: &str) -> bool {
        self.permuted_axes().any(|name| name == axis)
    }

    /// The axes that the group permutes.
    pub fn permuted_axes(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().filter_map(permuted_by)
    }

    /// The translations.
    pub(crate) fn shifts(&self) -> Vec<Shift> {
        let factors = self.factors().into_iter();
        factors
            .filter_map(|factor| match factor {
                Factor::Translation(shift) => Some(shift),
                _ => None,
            })
            .collect()
    }
}

fn permuted_by(term: &Term) -> Option<&str> {
    match term {
        Term::Symmetric(axis) | Term::Permutations { axis, .. } => Some(axis),
        _ => None,
    }
}

/// What a term does to space.
struct OnSpace<'a> {
    dimension: Option<usize>,
    turns: bool,
    shifts: bool,
    along: Option<&'a str>,
}

fn space_of(term: &Term) -> OnSpace<'_> {
    let space = |dimension, turns, shifts| OnSpace { dimension, turns, shifts, along: None };
    match term {
        Term::SpecialOrthogonal(n) | Term::Orthogonal(n) => space(Some(*n), true, false),
        Term::SpecialEuclidean(n) | Term::Euclidean(n) => space(Some(*n), true, true),
        Term::Lorentz { .. } => space(Some(4), true, false),
        Term::Translation(Shift { along: Some(axis), .. }) => {
            OnSpace { dimension: None, turns: false, shifts: false, along: Some(axis) }
        }
        Term::Translation(shift) => space(Some(shift.dimension), false, true),
        Term::Finite(group) => space(group.dimension(), true, false),
        Term::Generated(generators) => space(generators.matrices.first().map(Array2::nrows), true, false),
        Term::Symmetric(_) | Term::Permutations { .. } | Term::Sign | Term::Phase | Term::Scale => {
            space(None, false, false)
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> ParseError {
        ParseError {
            subject: "group".to_owned(),
            text: self.text.to_owned(),
            span,
            message: message.into(),
            help: Some(help.into()),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> (&'a str, Range<usize>) {
        let start = self.at;
        let rest = self.rest();
        let length = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += length;
        (&rest[..length], start..start + length)
    }

    /// Steps over `c`, after spaces, if it is next.
    fn takes(&mut self, c: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    /// The next run without spaces, to be marked.
    fn mark(&mut self) -> Range<usize> {
        self.skip_space();
        self.take_while(|c| !c.is_whitespace()).1
    }

    fn group(mut self) -> Result<Group, ParseError> {
        self.skip_space();
        if self.rest().is_empty() {
            return Err(self.error(0..0, "the text is empty", format!("available: {AVAILABLE}")));
        }
        let mut terms: Vec<(Term, Range<usize>)> = Vec::new();
        loop {
            let (term, span) = self.term()?;
            for (earlier, _) in &terms {
                if let Some((why, help)) = clash(earlier, &term) {
                    return Err(self.error(span, format!("`{earlier}` and `{term}` {why}"), help));
                }
            }
            terms.push((term, span));
            self.skip_space();
            let Some(separator) = self.rest().chars().next() else { break };
            if !matches!(separator, 'x' | '×' | '*') {
                let (_, span) = self.take_while(|c| !c.is_whitespace());
                return Err(self.error(
                    span,
                    "expected `x` between two groups",
                    "example: `E(3) x S(nodes)`",
                ));
            }
            self.at += separator.len_utf8();
            self.skip_space();
        }
        Ok(Group { terms: terms.into_iter().map(|(term, _)| term).collect(), custom: None })
    }

    fn term(&mut self) -> Result<(Term, Range<usize>), ParseError> {
        let start = self.at;
        let (name, name_span) =
            self.take_while(|c| c.is_alphanumeric() || matches!(c, '+' | '_' | '-' | '−' | '/'));
        if name.is_empty() {
            let (_, span) = self.take_while(|c| !c.is_whitespace());
            return Err(self.error(span, "expected a group", format!("available: {AVAILABLE}")));
        }
        // `C4xT(2)`: no name holds an `x`.
        let (name, name_span) = match name.split_once('x') {
            Some((before, _)) if is_bare(before) => {
                self.at = start + before.len();
                (before, start..self.at)
            }
            _ => (name, name_span),
        };
        self.skip_space();
        let has_argument = self.rest().starts_with('(');
        let term = if has_argument && name == "generated" {
            self.at += 1;
            self.generated(start)?
        } else if has_argument && WITH_ARGUMENT.contains(&name) {
            self.at += 1;
            self.with_argument(name, &name_span)?
        } else if has_argument && let Some(step) = name.strip_suffix('T').filter(|step| !step.is_empty()) {
            self.at += 1;
            let step = self.step(step, &name_span)?;
            match self.with_argument("T", &name_span)? {
                Term::Translation(shift) => Term::Translation(Shift { step, ..shift }),
                other => other,
            }
        } else if !has_argument && name == "Z2" {
            Term::Sign
        } else if !has_argument && name == "Scale" {
            Term::Scale
        } else {
            self.point_group(name, &name_span, has_argument)?
        };
        Ok((term, start..self.at))
    }

    fn step(&self, step: &str, span: &Range<usize>) -> Result<usize, ParseError> {
        step.parse::<usize>().ok().filter(|k| *k > 0).ok_or_else(|| {
            self.error(
                span.clone(),
                format!("`{step}` before `T` is no number of pixels"),
                "example: `2T(2)` shifts grids by multiples of 2",
            )
        })
    }

    /// `NAME(` was read.
    fn with_argument(&mut self, name: &str, name_span: &Range<usize>) -> Result<Term, ParseError> {
        self.skip_space();
        let (argument, argument_span) = self.take_while(|c| c.is_alphanumeric() || c == '_');
        if matches!(name, "O" | "SO" | "SO+") && argument == "1" && self.takes(',') {
            return self.lorentz(name, name_span);
        }
        self.skip_space();
        if !self.rest().starts_with(')') {
            let (_, span) = self.take_while(|c| c != ')' && !c.is_whitespace());
            let span = if span.is_empty() { argument_span } else { span };
            return Err(self.error(span, "expected `)`", format!("available: {AVAILABLE}")));
        }
        self.at += 1;
        let span = name_span.start..self.at;
        if name == "SO+" {
            return Err(self.error(span, "`SO+` is known in 1 + 3 dimensions alone", "write `SO+(1,3)`"));
        }
        if name == "S" {
            if argument.chars().next().is_none_or(char::is_numeric) {
                let bare = format!("S{argument}");
                let help = if PointGroupName::parse(&bare).is_ok() && argument.len() < 3 {
                    format!(
                        "example: `S(nodes)`, with `nodes` in the layouts; the point group is `{bare} @ (0,0,1)`"
                    )
                } else {
                    "example: `S(nodes)`, with `nodes` in the layouts".to_owned()
                };
                return Err(self.error(
                    argument_span,
                    "a permutation group needs the name of the axis that it permutes",
                    help,
                ));
            }
            self.check_axis(argument, &argument_span)?;
            return Ok(Term::Symmetric(argument.to_owned()));
        }
        if name == "U" {
            if argument == "1" {
                return Ok(Term::Phase);
            }
            return Err(self.error(
                argument_span,
                "of the unitary groups, `U(1)` alone is known",
                "write `U(1)`",
            ));
        }
        let minimum = if name == "T" { 1 } else { 2 };
        let n = argument.parse::<usize>().ok().filter(|n| (minimum..=64).contains(n)).ok_or_else(|| {
            self.error(
                if argument_span.is_empty() { span.clone() } else { argument_span },
                format!("`{name}(n)` needs a dimension from {minimum} to 64"),
                format!("example: `{name}(3)`"),
            )
        })?;
        Ok(match name {
            "SO" => Term::SpecialOrthogonal(n),
            "O" => Term::Orthogonal(n),
            "SE" => Term::SpecialEuclidean(n),
            "E" => Term::Euclidean(n),
            _ => Term::Translation(Shift { dimension: n, step: 1, along: self.along(n)? }),
        })
    }

    fn check_axis(&self, axis: &str, span: &Range<usize>) -> Result<(), ParseError> {
        if !LAYOUT_WORDS.contains(&axis) {
            return Ok(());
        }
        Err(self.error(
            span.clone(),
            format!("`{axis}` is a word of the layout language and cannot name a permuted axis"),
            "give the axis another name, such as `nodes` or `points`",
        ))
    }

    /// `O(1,` was read.
    fn lorentz(&mut self, name: &str, name_span: &Range<usize>) -> Result<Term, ParseError> {
        self.skip_space();
        let (space, span) = self.take_while(char::is_alphanumeric);
        if space != "3" {
            return Err(self.error(
                if span.is_empty() { name_span.start..self.at } else { span },
                "Lorentz groups are known in 1 + 3 dimensions",
                "write `SO+(1,3)` or `O(1,3)`",
            ));
        }
        if !self.takes(')') {
            let span = self.mark();
            return Err(self.error(span, "expected `)`", "example: `SO+(1,3)`"));
        }
        match name {
            "O" => Ok(Term::Lorentz { improper: true }),
            "SO+" => Ok(Term::Lorentz { improper: false }),
            _ => Err(self.error(
                name_span.start..self.at,
                "`SO(1,3)` holds the total inversion, which turns time around",
                "write `SO+(1,3)` for boosts and rotations, `O(1,3)` for all Lorentz transformations",
            )),
        }
    }

    /// `@ axis` after `T(n)`.
    fn along(&mut self, n: usize) -> Result<Option<String>, ParseError> {
        let start = self.at;
        if !self.takes('@') {
            self.at = start;
            return Ok(None);
        }
        self.skip_space();
        let (axis, span) = self.take_while(|c| c.is_alphanumeric() || c == '_');
        if !GRID_AXES.contains(&axis) {
            let help = match nearest(axis, GRID_AXES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("axes of grids: {}", GRID_AXES.join(", ")),
            };
            let span = if span.is_empty() { self.mark() } else { span };
            return Err(self.error(span, "expected an axis of a grid after `@`", help));
        }
        if n != 1 {
            return Err(self.error(
                span,
                format!("`T({n})` shifts {n} axes, `@ {axis}` names one"),
                format!("write `T(1) @ {axis}`"),
            ));
        }
        Ok(Some(axis.to_owned()))
    }

    /// A finite group of matrices by its name; `@` and an axis may follow.
    fn point_group(
        &mut self,
        name: &str,
        span: &Range<usize>,
        has_argument: bool,
    ) -> Result<Term, ParseError> {
        let point_group = if has_argument { None } else { PointGroupName::parse(name).ok() };
        let start = self.at;
        let has_axis = !has_argument && self.takes('@');
        if !has_axis {
            self.at = start;
        }
        if let Some(group) = planar(name).filter(|_| !has_argument && !has_axis) {
            return Ok(Term::Finite(Arc::new(group)));
        }
        let Some(point_group) = point_group else {
            return Err(self.unknown(name, span.clone(), has_argument));
        };
        if !has_axis {
            if point_group.needs_axis() {
                return Err(self.error(
                    span.clone(),
                    format!("`{name}` needs the axis that it turns about"),
                    format!("example: `{name} @ (0,0,1)`"),
                ));
            }
            return self.build(&point_group, span, None, None);
        }
        let at = self.at;
        let axis = self.direction()?;
        let after = self.at;
        let secondary = if self.takes(',') {
            Some(self.direction()?)
        } else {
            self.at = after;
            None
        };
        self.skip_back();
        self.build(&point_group, &(at..self.at), Some(axis), secondary)
    }

    fn finite(&self, error: FiniteError, span: Range<usize>) -> ParseError {
        error.at("group", self.text, span)
    }

    fn skip_back(&mut self) {
        let read = &self.text[..self.at];
        self.at = read.trim_end().len();
    }

    fn build(
        &self,
        name: &PointGroupName,
        span: &Range<usize>,
        axis: Option<[f64; 3]>,
        secondary: Option<[f64; 3]>,
    ) -> Result<Term, ParseError> {
        let Some(axis) = axis else {
            let group = FiniteGroup::from_point_group(name, [0.0, 0.0, 1.0], None)
                .map_err(|e| self.finite(e, span.clone()))?;
            // `1` is a group of space, the bare `C1` one of the plane.
            let name = match planar(group.name()) {
                Some(_) => format!("{} @ (0,0,1)", group.name()),
                None => group.name().to_owned(),
            };
            return Ok(Term::Finite(Arc::new(group.with_name(name))));
        };
        let group = FiniteGroup::from_point_group(name, axis, secondary).map_err(|e| {
            let start = span.end - self.text[span.clone()].trim_start().len();
            self.finite(e, start..span.end)
        })?;
        let secondary = secondary.map_or(String::new(), |v| format!(", {}", print_direction(v)));
        let name = format!("{} @ {}{secondary}", group.name(), print_direction(axis));
        Ok(Term::Finite(Arc::new(group.with_name(name))))
    }

    /// `(a,b,c)` or `x`, `y`, `z`.
    fn direction(&mut self) -> Result<[f64; 3], ParseError> {
        self.skip_space();
        let start = self.at;
        for (letter, direction) in [('x', [1.0, 0.0, 0.0]), ('y', [0.0, 1.0, 0.0]), ('z', [0.0, 0.0, 1.0])] {
            if self.rest().starts_with(letter)
                && !self.rest()[1..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
            {
                self.at += 1;
                return Ok(direction);
            }
        }
        let help = "example: `D4 @ (0,0,1)`";
        if !self.takes('(') {
            let span = self.mark();
            return Err(self.error(span, "expected a direction in space after `@`", help));
        }
        let (inside, span) = self.take_while(|c| c != ')');
        if !self.takes(')') {
            return Err(self.error(start..self.at, "expected `)`", help));
        }
        let numbers: Vec<Option<f64>> =
            inside.split([',', ' ']).filter(|s| !s.is_empty()).map(|s| s.trim().parse().ok()).collect();
        match numbers[..] {
            [Some(x), Some(y), Some(z)]
                if [x, y, z].iter().all(|v: &f64| v.is_finite()) && [x, y, z] != [0.0; 3] =>
            {
                Ok([x, y, z])
            }
            _ => Err(self.error(span, "a direction is three numbers, not all zero", help)),
        }
    }

    /// `generated(` was read.
    fn generated(&mut self, start: usize) -> Result<Term, ParseError> {
        let (inside, mut span) = self.take_while(|c| c != ')');
        if !self.takes(')') {
            return Err(self.error(
                start..self.at,
                "expected `)`",
                "example: `generated([[0, -1], [1, 0]])`",
            ));
        }
        span.start += inside.len() - inside.trim_start().len();
        let (axis, lists) = match inside.split_once(':') {
            Some((axis, lists)) => (Some(axis.trim()), lists),
            None => (None, inside),
        };
        let whole = format!("[{lists}]");
        if let Some(axis) = axis {
            let help = "example: `generated(nodes: [1, 0, 2])`, entry i of the result is entry p[i]";
            let axis_span = span.start..span.start + axis.len();
            if axis.is_empty()
                || axis.starts_with(char::is_numeric)
                || !axis.chars().all(|c| c.is_alphanumeric() || c == '_')
            {
                return Err(self.error(axis_span, "expected the name of an axis before `:`", help));
            }
            self.check_axis(axis, &axis_span)?;
            let permutations: Vec<Vec<usize>> = serde_json::from_str(&whole)
                .map_err(|_| self.error(span.clone(), "expected lists of positions", help))?;
            let printed: Vec<String> = permutations.iter().map(|p| format!("{p:?}")).collect();
            let name = format!("generated({axis}: {})", printed.join(", "));
            return match FiniteGroup::generated_permutations(&name, &permutations, LARGEST_LISTED) {
                Ok(Some(group)) => Ok(Term::Permutations { axis: axis.to_owned(), group: Arc::new(group) }),
                Ok(None) => Err(self.error(
                    span,
                    format!("these permutations generate more than {LARGEST_LISTED} elements"),
                    format!("all permutations of the axis are `S({axis})`"),
                )),
                Err(error) => Err(self.finite(error, span)),
            };
        }
        let help = "example: `generated([[0, -1], [1, 0]])`, one matrix per generator, row by row";
        let matrices: Vec<Vec<Vec<f64>>> = serde_json::from_str(&whole)
            .map_err(|_| self.error(span.clone(), "expected matrices as lists of rows", help))?;
        let mut generators = Vec::new();
        for rows in &matrices {
            let n = rows.len();
            if n == 0 || n > 64 || rows.iter().any(|row| row.len() != n) {
                return Err(self.error(span, "generators are square matrices, of 1 to 64 rows", help));
            }
            generators.push(Array2::from_shape_fn((n, n), |(i, j)| rows[i][j]));
        }
        let name = format!("generated({})", print_matrices(&generators));
        match FiniteGroup::generated(&name, &generators, LARGEST_LISTED) {
            Ok(Some(group)) => Ok(Term::Finite(Arc::new(group))),
            Ok(None) => {
                let inverses = generators.iter().map(super::element::general_inverse).collect();
                Ok(Term::Generated(Arc::new(Generators { matrices: generators, inverses })))
            }
            Err(error) => Err(self.finite(error, span)),
        }
    }

    fn unknown(&self, name: &str, span: Range<usize>, has_argument: bool) -> ParseError {
        if WITH_ARGUMENT.contains(&name) && !has_argument {
            let example = match name {
                "S" => "S(nodes)",
                "U" => "U(1)",
                "SO+" => "SO+(1,3)",
                "generated" => "generated([[0, -1], [1, 0]])",
                _ => &format!("{name}(3)"),
            };
            return self.error(
                span,
                format!("`{name}` needs an argument in parentheses"),
                format!("example: `{example}`"),
            );
        }
        // `SO3` and `se(3)` are slips.
        let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[letters.len()..];
        let names = WITH_ARGUMENT.into_iter().chain(WITHOUT_ARGUMENT);
        let help = match nearest(letters, names) {
            _ if name == "U1" => "did you mean `U(1)`?".to_owned(),
            Some(near) if near.eq_ignore_ascii_case(letters) && digits.is_empty() => {
                format!("did you mean `{near}`? available: {AVAILABLE}")
            }
            Some(near) if near.eq_ignore_ascii_case(letters) && near != "S" => {
                format!("did you mean `{near}({digits})`? available: {AVAILABLE}")
            }
            _ => format!("available: {AVAILABLE}"),
        };
        self.error(span, format!("`{name}` is not a group known here"), help)
    }
}

/// The shortest vector of integers along a direction, where there is one of small integers.
fn print_direction(v: [f64; 3]) -> String {
    let smallest = v.iter().filter(|x| **x != 0.0).fold(f64::INFINITY, |m, x| m.min(x.abs()));
    let whole = (1..=12)
        .map(|k| v.map(|x| x / smallest * f64::from(k)))
        .find(|w| w.iter().all(|x| (x - x.round()).abs() <= 1e-12 * x.abs().max(1.0) && x.abs() < 1e3));
    let v = whole.map_or(v, |w| w.map(f64::round));
    format!("({},{},{})", v[0] + 0.0, v[1] + 0.0, v[2] + 0.0)
}

/// Names of the axes of grids.
pub(crate) const GRID_AXES: [&str; 4] = ["length", "depth", "height", "width"];

/// Whether a name is a group's that takes no argument in parentheses.
fn is_bare(name: &str) -> bool {
    WITHOUT_ARGUMENT.contains(&name) || planar(name).is_some() || PointGroupName::parse(name).is_ok()
}

/// `Cn` or `Dn` of the plane, by its bare name.
fn planar(name: &str) -> Option<FiniteGroup> {
    let n = name.get(1..)?.parse::<usize>().ok().filter(|n| (1..=360).contains(n))?;
    // Not `C04`: names are written in one way.
    if name[1..].starts_with('0') || !name[1..].bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match name.as_bytes()[0] {
        b'C' => FiniteGroup::cyclic(n).ok(),
        b'D' => FiniteGroup::dihedral(n).ok(),
        _ => None,
    }
}

/// Why two terms cannot stand in one group, and what to do: they turn or shift the same space, permute one axis, or
/// live in different dimensions.
fn clash(a: &Term, b: &Term) -> Option<(&'static str, &'static str)> {
    if let (Some(a), Some(b)) = (permuted_by(a), permuted_by(b)) {
        return (a == b).then_some(("permute the same axis", "keep one of them"));
    }
    if matches!((a, b), (Term::Sign, Term::Sign) | (Term::Phase, Term::Phase) | (Term::Scale, Term::Scale)) {
        return Some(("are the same group", "keep one of them"));
    }
    let (on_a, on_b) = (space_of(a), space_of(b));
    if on_a.along.is_some() && (on_a.along == on_b.along || on_b.shifts)
        || on_b.along.is_some() && on_a.shifts
    {
        return Some(("shift the same axis", "keep one of them"));
    }
    if on_a.along.is_some() && on_b.turns || on_b.along.is_some() && on_a.turns {
        return Some((
            "do not form a group: turns mix the axes",
            "shift all axes, as in `T(2)`, or drop the turns",
        ));
    }
    if matches!((on_a.dimension, on_b.dimension), (Some(x), Some(y)) if x != y) {
        return Some((
            "act on spaces of different dimensions",
            "a group acts on one space: keep one of them",
        ));
    }
    let overlap = (on_a.turns && on_b.turns) || (on_a.shifts && on_b.shifts);
    overlap.then_some(("act on the same space", "keep the larger one"))
}
