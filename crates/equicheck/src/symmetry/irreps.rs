//! Direct sums of irreducible representations of O(3), in e3nn's notation, basis and order.
//!
//! `8x0e+4x1o` is eight even scalars followed by four odd vectors. An irrep is a degree `l` and a
//! parity, `e` (even) or `o` (odd) under inversion; e3nn's `y` stands for the parity `(-1)^l` of the
//! spherical harmonics. A feature is laid out block by block, each block as `(multiplicity, 2l+1)`
//! row-major (e3nn's `mul_ir`), the components in the basis of [`wigner`](super::wigner); an
//! [`Arrangement`] may say otherwise.
//!
//! For `g` in O(3), write `g = R` or `g = -R` with `R` a proper rotation. Then
//! `D(g) = D^l(R)` or `D(g) = p D^l(R)`, with `p = 1` for even and `p = -1` for odd irreps.

use std::{error::Error, fmt, ops::Range, str::FromStr};

use ndarray::{Array2, ArrayView2};

use super::wigner::{L_MAX, WignerMatrices, determinant, to_rows};

/// How an irrep of O(3) behaves under inversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Parity {
    /// Unchanged: `e`.
    Even,
    /// Changes sign: `o`.
    Odd,
}

impl Parity {
    /// The factor under inversion: 1 or -1.
    #[must_use]
    pub fn sign(self) -> f64 {
        match self {
            Self::Even => 1.0,
            Self::Odd => -1.0,
        }
    }

    /// The parity `(-1)^l` of the spherical harmonics of degree `l`, e3nn's `y`.
    #[must_use]
    pub fn of_harmonics(l: usize) -> Self {
        if l.is_multiple_of(2) { Self::Even } else { Self::Odd }
    }
}

impl fmt::Display for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Even => "e",
            Self::Odd => "o",
        })
    }
}

/// One irreducible representation of O(3): degree and parity. Displays as `1o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Irrep {
    l: usize,
    parity: Parity,
}

impl Irrep {
    /// # Errors
    ///
    /// If `l > L_MAX`.
    pub fn new(l: usize, parity: Parity) -> Result<Self, IrrepsError> {
        if l > L_MAX {
            let text = format!("{l}{parity}");
            let span = 0..text.len();
            return Err(IrrepsError::new(&text, span, IrrepsErrorKind::DegreeTooLarge));
        }
        Ok(Self { l, parity })
    }

    /// The degree.
    #[must_use]
    pub fn l(self) -> usize {
        self.l
    }

    /// The behaviour under inversion.
    #[must_use]
    pub fn parity(self) -> Parity {
        self.parity
    }

    /// `2l + 1`.
    #[must_use]
    pub fn dim(self) -> usize {
        2 * self.l + 1
    }

    /// The factor that multiplies `D^l` of the proper part of an element.
    #[must_use]
    pub fn sign(self, improper: bool) -> f64 {
        if improper { self.parity.sign() } else { 1.0 }
    }
}

impl fmt::Display for Irrep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.l, self.parity)
    }
}

/// How the numbers of a feature are arranged, where it is not e3nn's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Arrangement {
    /// `ir_mul(...)`: each block is `(2l+1, multiplicity)` row-major, as in cuEquivariance; else `(multiplicity, 2l+1)`.
    pub copies_last: bool,
    /// `yzx(...)`: the components are `m = -l..=l` of the real harmonics about z, `(y, z, x)` for `l = 1` (sphericart,
    /// and what e3nn's guide calls standard); else about y, which is `(x, y, z)`. Neither has a Condon-Shortley sign.
    pub polar_z: bool,
}

/// The words before parentheses that say an [`Arrangement`], those for e3nn's way last.
pub(crate) const ARRANGEMENTS: [&str; 4] = ["ir_mul", "yzx", "mul_ir", "xyz"];

/// A run of equal irreps in a direct sum, and its place along the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IrrepsBlock {
    /// How many copies.
    pub multiplicity: usize,
    /// The irrep.
    pub irrep: Irrep,
    /// The index of the block's first component.
    pub offset: usize,
}

impl IrrepsBlock {
    /// `multiplicity (2l + 1)`.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.multiplicity * self.irrep.dim()
    }

    /// The components of the block.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.dim()
    }
}

/// A direct sum of irreps of O(3): a sequence of (multiplicity, irrep), of which there is at least
/// one. Order matters, and equal neighbours stay apart, as in e3nn.
///
/// Parses from e3nn's notation (`8x0e + 4x1o`), and displays in e3nn's canonical form
/// (`8x0e+4x1o`, `1x0e`), which parses again to an equal value. Around it may stand an
/// [`Arrangement`]: `ir_mul(yzx(8x0e+4x1o))`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Irreps {
    blocks: Vec<IrrepsBlock>,
    dim: usize,
    arrangement: Arrangement,
}

impl Irreps {
    /// # Errors
    ///
    /// If there is no term, or the total dimension does not fit a `usize`.
    pub fn new(terms: impl IntoIterator<Item = (usize, Irrep)>) -> Result<Self, IrrepsError> {
        let terms: Vec<_> = terms.into_iter().collect();
        Self::from_terms(&terms).map_err(|kind| {
            let terms = terms.iter().map(|(m, irrep)| format!("{m}x{irrep}"));
            let text = terms.collect::<Vec<_>>().join("+");
            let span = 0..text.len();
            IrrepsError::new(&text, span, kind)
        })
    }

    fn from_terms(terms: &[(usize, Irrep)]) -> Result<Self, IrrepsErrorKind> {
        if terms.is_empty() {
            return Err(IrrepsErrorKind::Empty);
        }
        let mut dim = 0_usize;
        let mut blocks = Vec::with_capacity(terms.len());
        for &(multiplicity, irrep) in terms {
            blocks.push(IrrepsBlock { multiplicity, irrep, offset: dim });
            dim = multiplicity
                .checked_mul(irrep.dim())
                .and_then(|size| dim.checked_add(size))
                .ok_or(IrrepsErrorKind::TooLarge)?;
        }
        Ok(Self { blocks, dim, arrangement: Arrangement::default() })
    }

    /// The same irreps, their numbers in another order.
    #[must_use]
    pub fn arranged(mut self, arrangement: Arrangement) -> Self {
        self.arrangement = arrangement;
        self
    }

    /// In which order the numbers come.
    #[must_use]
    pub fn arrangement(&self) -> Arrangement {
        self.arrangement
    }

    /// The index along the axis of component `0..2l+1` of a copy in a block.
    fn index(&self, block: &IrrepsBlock, copy: usize, component: usize) -> usize {
        block.offset
            + if self.arrangement.copies_last {
                component * block.multiplicity + copy
            } else {
                copy * block.irrep.dim() + component
            }
    }

    /// The rotation whose D in e3nn's basis is the one in this basis: the axes renamed cyclically.
    fn renamed(&self, rotation: &ArrayView2<f64>) -> Array2<f64> {
        if self.arrangement.polar_z {
            Array2::from_shape_fn((3, 3), |(i, j)| rotation[[(i + 1) % 3, (j + 1) % 3]])
        } else {
            rotation.to_owned()
        }
    }

    /// The total dimension, `Σ multiplicity (2l + 1)`.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The largest degree, blocks of multiplicity zero included.
    #[must_use]
    pub fn lmax(&self) -> usize {
        let degrees = self.blocks.iter().map(|block| block.irrep.l);
        degrees.max().expect("there is at least one block")
    }

    /// The blocks in order, with their offsets.
    #[must_use]
    pub fn blocks(&self) -> &[IrrepsBlock] {
        &self.blocks
    }

    /// The action of an element of O(3), block by block.
    ///
    /// `rotation` is a proper 3x3 rotation, active, on Cartesian `(x, y, z)`. The element is
    /// `rotation`, or `-rotation` if `improper`; [`proper_part`] splits a matrix that way.
    ///
    /// # Panics
    ///
    /// If `rotation` is not 3x3 with a positive determinant.
    #[must_use]
    pub fn matrices(&self, rotation: &ArrayView2<f64>, improper: bool) -> IrrepsMatrices<'_> {
        let wigner = WignerMatrices::new(self.lmax(), &self.renamed(rotation).view());
        IrrepsMatrices { irreps: self, improper, wigner }
    }

    /// The whole matrix `D(g)`, of shape `(dim, dim)`, for an orthogonal 3x3 matrix `g`. For tests
    /// and small dimensions; to act on tensors, use [`Irreps::matrices`].
    ///
    /// # Panics
    ///
    /// If `g` is not 3x3 with a non-zero determinant.
    #[must_use]
    pub fn dense(&self, g: &ArrayView2<f64>) -> Array2<f64> {
        let (rotation, improper) = proper_part(g);
        let matrices = self.matrices(&rotation.view(), improper);
        let mut dense = Array2::zeros((self.dim, self.dim));
        for BlockMatrix { block, sign, wigner } in matrices.blocks() {
            for copy in 0..block.multiplicity {
                for ((i, j), value) in wigner.indexed_iter() {
                    dense[[self.index(&block, copy, i), self.index(&block, copy, j)]] = sign * value;
                }
            }
        }
        dense
    }
}

/// Splits an orthogonal 3x3 matrix `g` into `(R, improper)`, with `R` a proper rotation and `g = -R`
/// if `improper`, else `g = R`.
///
/// # Panics
///
/// If `g` is not 3x3 with a non-zero determinant.
#[must_use]
pub fn proper_part(g: &ArrayView2<f64>) -> (Array2<f64>, bool) {
    let det = determinant(&to_rows(g));
    assert!(det.abs() > 0.0, "an orthogonal matrix is needed, but the determinant is {det}");
    if det < 0.0 { (-g, true) } else { (g.to_owned(), false) }
}

/// The action of one element of O(3) on [`Irreps`]; made by [`Irreps::matrices`].
#[derive(Clone, Debug)]
pub struct IrrepsMatrices<'a> {
    irreps: &'a Irreps,
    improper: bool,
    wigner: WignerMatrices,
}

/// One block of a direct sum, and the matrix that acts on each of its copies: `sign * wigner`.
#[derive(Clone, Debug)]
pub struct BlockMatrix<'a> {
    /// Which components.
    pub block: IrrepsBlock,
    /// The parity's factor: -1 for an odd irrep and an improper element, else 1.
    pub sign: f64,
    /// `D^l` of the proper part of the element, of shape `(2l+1, 2l+1)`.
    pub wigner: ArrayView2<'a, f64>,
}

impl IrrepsMatrices<'_> {
    /// Replaces the element; arguments as for [`Irreps::matrices`].
    ///
    /// # Panics
    ///
    /// As [`Irreps::matrices`].
    pub fn update(&mut self, rotation: &ArrayView2<f64>, improper: bool) {
        self.wigner.update(&self.irreps.renamed(rotation).view());
        self.improper = improper;
    }

    /// The blocks in order.
    #[must_use]
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = BlockMatrix<'_>> {
        self.irreps.blocks.iter().map(|&block| BlockMatrix {
            block,
            sign: block.irrep.sign(self.improper),
            wigner: self.wigner.get(block.irrep.l),
        })
    }
}

impl fmt::Display for Irreps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arrangement { copies_last, polar_z } = self.arrangement;
        let words = [(copies_last, "ir_mul("), (polar_z, "yzx(")];
        let said = || words.iter().filter(|(said, _)| *said);
        said().try_for_each(|(_, word)| f.write_str(word))?;
        for (index, block) in self.blocks.iter().enumerate() {
            let plus = if index == 0 { "" } else { "+" };
            write!(f, "{plus}{}x{}", block.multiplicity, block.irrep)?;
        }
        said().try_for_each(|_| f.write_str(")"))
    }
}

impl FromStr for Irreps {
    type Err = IrrepsError;

    fn from_str(text: &str) -> Result<Self, IrrepsError> {
        if text.trim().is_empty() {
            return Err(IrrepsError::new(text, 0..text.len(), IrrepsErrorKind::Empty));
        }
        let (arrangement, inside) = arrangement(text)?;
        let mut terms = Vec::new();
        let mut start = inside.start;
        for term in text[inside].split('+') {
            let end = start + term.len();
            terms.push(Scanner::new(text, start, end).term()?);
            start = end + 1;
        }
        let irreps = Self::from_terms(&terms);
        let irreps = irreps.map_err(|kind| IrrepsError::new(text, 0..text.len(), kind))?;
        Ok(irreps.arranged(arrangement))
    }
}

/// Takes off the words of an arrangement, and says where the irreps stand within them.
fn arrangement(text: &str) -> Result<(Arrangement, Range<usize>), IrrepsError> {
    let mut arrangement = Arrangement::default();
    let mut said = [false; 2];
    let mut inside = 0..text.len();
    loop {
        let rest = &text[inside.clone()];
        let start = inside.start + rest.len() - rest.trim_start().len();
        let rest = rest.trim();
        let Some((word, within)) = rest.split_once('(') else { return Ok((arrangement, inside)) };
        let Some(known) = ARRANGEMENTS.iter().position(|known| *known == word.trim_end()) else {
            return Ok((arrangement, inside));
        };
        let span = start..start + word.trim_end().len();
        if !within.ends_with(')') {
            return Err(IrrepsError::new(text, span, IrrepsErrorKind::Unclosed));
        }
        if std::mem::replace(&mut said[known % 2], true) {
            return Err(IrrepsError::new(text, span, IrrepsErrorKind::ArrangedTwice));
        }
        match known {
            0 => arrangement.copies_last = true,
            1 => arrangement.polar_z = true,
            _ => {}
        }
        inside = start + word.len() + 1..start + rest.len() - 1;
    }
}

/// Reads one term, `multiplicity x degree parity`, between two `+`.
struct Scanner<'a> {
    text: &'a str,
    /// The term without surrounding blanks.
    term: Range<usize>,
    position: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, start: usize, end: usize) -> Self {
        let raw = &text[start..end];
        let blank = raw.len() - raw.trim_start().len();
        let term =
            if blank == raw.len() { start..end } else { start + blank..start + blank + raw.trim().len() };
        Self { text, position: term.start, term }
    }

    fn term(mut self) -> Result<(usize, Irrep), IrrepsError> {
        if self.text[self.term.clone()].trim().is_empty() {
            // Point at the `+` that lacks a neighbour.
            let plus = if self.term.start > 0 { self.term.start - 1 } else { self.term.end };
            return Err(self.error(plus..plus + 1, IrrepsErrorKind::MissingTerm));
        }
        let first = self.number()?;
        let (multiplicity, l) = if self.take('x') {
            let Some((multiplicity, _)) = first else {
                return Err(self.error(self.term.clone(), IrrepsErrorKind::MissingMultiplicity));
            };
            (multiplicity, self.number()?)
        } else {
            (1, first)
        };
        let Some((l, l_span)) = l else {
            if self.peek().is_some_and(|c| !"eoy".contains(c)) {
                return Err(self.unexpected("a degree l"));
            }
            return Err(self.error(self.term.clone(), IrrepsErrorKind::MissingDegree));
        };
        let parity = if self.take('e') {
            Parity::Even
        } else if self.take('o') {
            Parity::Odd
        } else if self.take('y') {
            Parity::of_harmonics(l)
        } else if self.peek().is_some() {
            return Err(self.unexpected("the parity `e` or `o`"));
        } else {
            let kind = IrrepsErrorKind::MissingParity { multiplicity, l };
            return Err(self.error(self.term.clone(), kind));
        };
        if self.peek().is_some() {
            return Err(self.unexpected("`+` or the end"));
        }
        if l > L_MAX {
            return Err(self.error(l_span, IrrepsErrorKind::DegreeTooLarge));
        }
        Ok((multiplicity, Irrep { l, parity }))
    }

    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.position..self.term.end];
        let trimmed = rest.trim_start();
        self.position += rest.len() - trimmed.len();
        trimmed.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.position += wanted.len_utf8();
        }
        found
    }

    /// A run of decimal digits and its span, if there is one here.
    fn number(&mut self) -> Result<Option<(usize, Range<usize>)>, IrrepsError> {
        self.peek();
        let rest = &self.text[self.position..self.term.end];
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return Ok(None);
        }
        let span = self.position..self.position + length;
        self.position = span.end;
        match rest[..length].parse() {
            Ok(number) => Ok(Some((number, span))),
            Err(_) => Err(self.error(span, IrrepsErrorKind::TooLarge)),
        }
    }

    fn unexpected(&mut self, expected: &'static str) -> IrrepsError {
        let character = self.peek().map_or(1, char::len_utf8);
        let span = self.position..self.position + character;
        self.error(span, IrrepsErrorKind::Unexpected { expected })
    }

    fn error(&self, span: Range<usize>, kind: IrrepsErrorKind) -> IrrepsError {
        IrrepsError::new(self.text, span, kind)
    }
}

/// Why a text or a list is not a direct sum of irreps of O(3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IrrepsError {
    text: String,
    span: Range<usize>,
    kind: IrrepsErrorKind,
}

/// The kinds of [`IrrepsError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IrrepsErrorKind {
    /// Nothing, or only blanks.
    Empty,
    /// A `+` with nothing before or after it.
    MissingTerm,
    /// A word such as `ir_mul(` without its closing parenthesis.
    Unclosed,
    /// Two words on the same thing: `ir_mul(ir_mul(...))`, `xyz(yzx(...))`.
    ArrangedTwice,
    /// An `x` with nothing before it.
    MissingMultiplicity,
    /// A term without a degree.
    MissingDegree,
    /// A term that ends after its degree.
    MissingParity {
        /// The term's multiplicity.
        multiplicity: usize,
        /// The term's degree.
        l: usize,
    },
    /// A character that cannot stand where it does.
    Unexpected {
        /// What can.
        expected: &'static str,
    },
    /// A degree above [`L_MAX`].
    DegreeTooLarge,
    /// A number, or the total dimension, that does not fit a `usize`.
    TooLarge,
}

impl IrrepsError {
    fn new(text: &str, span: Range<usize>, kind: IrrepsErrorKind) -> Self {
        Self { text: text.to_owned(), span, kind }
    }

    /// The whole text that was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where in [`text`](Self::text) the error is, in bytes.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> IrrepsErrorKind {
        self.kind
    }
}

impl fmt::Display for IrrepsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == IrrepsErrorKind::Empty {
            return f.write_str("the irreps are empty: write a sum of irreps such as `8x0e+4x1o`");
        }
        let Range { start, end } = self.span;
        let part = &self.text[start..end];
        write!(f, "irreps `{}`: ", self.text)?;
        if start + 1 == end {
            write!(f, "`{part}` at byte {start} ")?;
        } else {
            write!(f, "`{part}` at bytes {start}..{end} ")?;
        }
        match self.kind {
            IrrepsErrorKind::Empty => Ok(()),
            IrrepsErrorKind::MissingTerm => {
                f.write_str("lacks an irrep on one side: write a sum such as `8x0e+4x1o`")
            }
            IrrepsErrorKind::Unclosed => f.write_str("lacks a closing `)`: write `ir_mul(8x0e+4x1o)`"),
            IrrepsErrorKind::ArrangedTwice => f.write_str(
                "comes second on the same thing: one of `ir_mul` and `mul_ir`, and one of `yzx` and `xyz`, is enough",
            ),
            IrrepsErrorKind::MissingMultiplicity => {
                f.write_str("lacks a multiplicity before `x`: write it as in `4x1o`, or drop `x`")
            }
            IrrepsErrorKind::MissingDegree => {
                f.write_str("lacks a degree l: write it before the parity, as in `4x1o`")
            }
            IrrepsErrorKind::MissingParity { l, .. } if l > L_MAX => write!(
                f,
                "lacks a parity, and {l} is too large for a degree l (at most {L_MAX}): write \
                 multiplicity, degree and parity, as in `{l}x0e`"
            ),
            IrrepsErrorKind::MissingParity { multiplicity, l } => {
                let term = match multiplicity {
                    1 => format!("{l}"),
                    _ => format!("{multiplicity}x{l}"),
                };
                write!(f, "lacks a parity: write `{term}e` (even) or `{term}o` (odd)")
            }
            IrrepsErrorKind::Unexpected { expected } => {
                write!(f, "is unexpected: {expected} is expected here, as in `8x0e+4x1o`")
            }
            IrrepsErrorKind::DegreeTooLarge => {
                write!(f, "has too large a degree: degrees l up to {L_MAX} are supported")
            }
            IrrepsErrorKind::TooLarge => {
                f.write_str("is too large: the dimension does not fit the machine's integers")
            }
        }
    }
}

impl Error for IrrepsError {}
