//! Groups, written as in papers: `E(3) x S(nodes)`.

use std::fmt;
use std::ops::Range;

use crate::error::{ParseError, nearest};

/// One factor as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// `SO(n)`: rotations.
    SpecialOrthogonal(usize),
    /// `O(n)`: rotations and reflections.
    Orthogonal(usize),
    /// `SE(n)`: rotations and translations.
    SpecialEuclidean(usize),
    /// `E(n)`: rotations, reflections and translations.
    Euclidean(usize),
    /// `T(n)`: translations.
    Translation(usize),
    /// `S(axis)`: permutations along a named axis.
    Symmetric(String),
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::SpecialOrthogonal(n) => write!(f, "SO({n})"),
            Term::Orthogonal(n) => write!(f, "O({n})"),
            Term::SpecialEuclidean(n) => write!(f, "SE({n})"),
            Term::Euclidean(n) => write!(f, "E({n})"),
            Term::Translation(n) => write!(f, "T({n})"),
            Term::Symmetric(axis) => write!(f, "S({axis})"),
        }
    }
}

/// A part of the group that is also tested alone. `E(n)` has two: `O(n)` and `T(n)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Factor {
    /// `SO(n)` or `O(n)`.
    Linear {
        /// Dimension of the defining representation.
        dimension: usize,
        /// Whether determinant -1 belongs to it.
        improper: bool,
    },
    /// `T(n)`.
    Translation {
        /// Dimension of space.
        dimension: usize,
    },
    /// `S(axis)`.
    Permutation {
        /// The axis that is permuted.
        axis: String,
    },
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Factor::Linear { dimension, improper: false } => write!(f, "SO({dimension})"),
            Factor::Linear { dimension, improper: true } => write!(f, "O({dimension})"),
            Factor::Translation { dimension } => write!(f, "T({dimension})"),
            Factor::Permutation { axis } => write!(f, "S({axis})"),
        }
    }
}

/// A product of terms. Prints in one canonical form, which parses again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    terms: Vec<Term>,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (k, term) in self.terms.iter().enumerate() {
            if k > 0 {
                f.write_str(" x ")?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

const NAMES: [&str; 6] = ["SO", "O", "SE", "E", "T", "S"];
/// Words of layouts that say how an axis turns.
const LAYOUT_WORDS: [&str; 3] = ["vector", "point", "pseudovector"];
const AVAILABLE: &str = "SO(n), O(n), SE(n), E(n), T(n), S(axis), and products with `x`";

impl Group {
    /// Parses a product such as `E(3) x S(nodes)`; `×` and `*` are accepted for `x`.
    ///
    /// # Errors
    /// A word that is no group, a missing or wrong argument, two terms that act on the same space or axis.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Parser { text, at: 0 }.group()
    }

    /// The terms as they were written.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The parts that are tested alone as well as jointly, in the order of the terms.
    pub fn factors(&self) -> Vec<Factor> {
        let linear = |n: &usize, improper| Factor::Linear { dimension: *n, improper };
        let shift = |n: &usize| Factor::Translation { dimension: *n };
        let mut factors = Vec::new();
        for term in &self.terms {
            match term {
                Term::SpecialOrthogonal(n) => factors.push(linear(n, false)),
                Term::Orthogonal(n) => factors.push(linear(n, true)),
                Term::SpecialEuclidean(n) => factors.extend([linear(n, false), shift(n)]),
                Term::Euclidean(n) => factors.extend([linear(n, true), shift(n)]),
                Term::Translation(n) => factors.push(shift(n)),
                Term::Symmetric(axis) => factors.push(Factor::Permutation { axis: axis.clone() }),
            }
        }
        factors
    }

    /// Dimension of space, if the group acts on it.
    pub fn dimension(&self) -> Option<usize> {
        self.factors().iter().find_map(|factor| match factor {
            Factor::Linear { dimension, .. } | Factor::Translation { dimension } => Some(*dimension),
            Factor::Permutation { .. } => None,
        })
    }

    /// Whether the group holds `S(axis)`.
    pub fn permutes(&self, axis: &str) -> bool {
        self.permuted_axes().any(|name| name == axis)
    }

    /// The axes that the group permutes.
    pub fn permuted_axes(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().filter_map(|term| match term {
            Term::Symmetric(axis) => Some(axis.as_str()),
            _ => None,
        })
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
        Ok(Group { terms: terms.into_iter().map(|(term, _)| term).collect() })
    }

    fn term(&mut self) -> Result<(Term, Range<usize>), ParseError> {
        let (name, name_span) = self.take_while(|c| c.is_alphanumeric() || matches!(c, '+' | '_'));
        if name.is_empty() {
            let (_, span) = self.take_while(|c| !c.is_whitespace());
            return Err(self.error(span, "expected a group", format!("available: {AVAILABLE}")));
        }
        if !NAMES.contains(&name) {
            // `SO3` and `se(3)` are slips; `S4`, `D4` and `T` with a letter are other groups.
            let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let digits = &name[letters.len()..];
            let help = match nearest(letters, NAMES) {
                Some(near) if near.eq_ignore_ascii_case(letters) && digits.is_empty() => {
                    format!("did you mean `{near}`? available: {AVAILABLE}")
                }
                Some(near) if near.eq_ignore_ascii_case(letters) && near != "S" => {
                    format!("did you mean `{near}({digits})`? available: {AVAILABLE}")
                }
                _ => format!("available: {AVAILABLE}"),
            };
            return Err(self.error(name_span, format!("`{name}` is not a group known here"), help));
        }
        self.skip_space();
        if !self.rest().starts_with('(') {
            let example = if name == "S" { "S(nodes)".to_owned() } else { format!("{name}(3)") };
            return Err(self.error(
                name_span,
                format!("`{name}` needs an argument in parentheses"),
                format!("example: `{example}`"),
            ));
        }
        self.at += 1;
        self.skip_space();
        let (argument, argument_span) = self.take_while(|c| c.is_alphanumeric() || c == '_');
        self.skip_space();
        if !self.rest().starts_with(')') {
            let (_, span) = self.take_while(|c| c != ')' && !c.is_whitespace());
            let span = if span.is_empty() { argument_span } else { span };
            return Err(self.error(span, "expected `)`", format!("available: {AVAILABLE}")));
        }
        self.at += 1;
        let span = name_span.start..self.at;
        if name == "S" {
            if argument.chars().next().is_none_or(char::is_numeric) {
                return Err(self.error(
                    argument_span,
                    "a permutation group needs the name of the axis that it permutes",
                    "example: `S(nodes)`, with `nodes` in the layouts",
                ));
            }
            if LAYOUT_WORDS.contains(&argument) {
                return Err(self.error(
                    argument_span,
                    format!("`{argument}` is a word of the layout language and cannot name a permuted axis"),
                    "give the axis another name, such as `nodes` or `points`",
                ));
            }
            return Ok((Term::Symmetric(argument.to_owned()), span));
        }
        let minimum = if name == "T" { 1 } else { 2 };
        let n = argument.parse::<usize>().ok().filter(|n| (minimum..=64).contains(n)).ok_or_else(|| {
            self.error(
                if argument_span.is_empty() { span.clone() } else { argument_span },
                format!("`{name}(n)` needs a dimension from {minimum} to 64"),
                format!("example: `{name}(3)`"),
            )
        })?;
        let term = match name {
            "SO" => Term::SpecialOrthogonal(n),
            "O" => Term::Orthogonal(n),
            "SE" => Term::SpecialEuclidean(n),
            "E" => Term::Euclidean(n),
            _ => Term::Translation(n),
        };
        Ok((term, span))
    }
}

/// Why two terms cannot stand in one group, and what to do: they turn or shift the same space, permute one axis, or
/// live in different dimensions.
fn clash(a: &Term, b: &Term) -> Option<(&'static str, &'static str)> {
    let parts = |term: &Term| match term {
        Term::SpecialOrthogonal(n) | Term::Orthogonal(n) => (Some(*n), true, false),
        Term::SpecialEuclidean(n) | Term::Euclidean(n) => (Some(*n), true, true),
        Term::Translation(n) => (Some(*n), false, true),
        Term::Symmetric(_) => (None, false, false),
    };
    if let (Term::Symmetric(a), Term::Symmetric(b)) = (a, b) {
        return (a == b).then_some(("permute the same axis", "keep one of them"));
    }
    let ((da, turns_a, shifts_a), (db, turns_b, shifts_b)) = (parts(a), parts(b));
    if matches!((da, db), (Some(x), Some(y)) if x != y) {
        return Some((
            "act on spaces of different dimensions",
            "a group acts on one space: keep one of them",
        ));
    }
    let overlap = (turns_a && turns_b) || (shifts_a && shifts_b);
    overlap.then_some(("act on the same space", "keep the larger one"))
}
