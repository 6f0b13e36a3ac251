//! Group actions on sampled domains: signals, images and volumes, warped about the array's centre.
//!
//! Conventions. The origin is the centre of the array, `(size - 1) / 2` along each axis, and the unit is one pixel.
//! x points along the width (the only axis of a signal), y against the height index and z against the depth index.
//! An image printed with its first row on top thus has x to the right and y up; (x, y, z) is right-handed when the
//! slices of a volume are stacked away from the viewer. Actions are active, `(W f)(p) = f(T^-1 p)` with
//! `T p = linear p + translation`. An axis taken alone is a signal, with x along its index: for a height that is -y.
//!
//! In numpy's words, for axes (depth, height, width), or the last of them:
//!
//! | T | W f |
//! | --- | --- |
//! | +90 degrees about z, x to y (all of the plane's turns) | `rot90(f, 1, (height, width))` |
//! | +90 degrees about x, y to z | `rot90(f, 1, (height, depth))` |
//! | +90 degrees about y, z to x | `rot90(f, 1, (width, depth))` |
//! | x to -x; y to -y; z to -z | `flip(f, width)`; `flip(f, height)`; `flip(f, depth)` |
//! | translation by (a, b, c) on a torus | `roll(f, (-c, -b, a), (depth, height, width))` |
//!
//! This is escnn's convention too (its `gspaces/utils.py` calls the axes "-Z, -Y, X"): for the matrix
//! `gspace.basespace_action(g)`, `GeometricTensor.transform(g)` of trivial fields gives the same bits on quarter turns
//! and flips. Its reflection, in `flip2dOnR2()` and `flipRot2dOnR2(N)`, keeps y by default (axis pi/2) and is
//! `flip(f, width)`; with `axis=0` it keeps x and is `flip(f, height)`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::str::FromStr;

use nalgebra::DMatrix;
use ndarray::{Array2, ArrayD, ArrayView, ArrayViewD, IxDyn};
use thiserror::Error;

use crate::error::nearest;
use crate::model::{DType, Tensor};

/// What lies beyond the edge of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domain {
    /// The opposite edge: a torus. Its symmetries are those of the lattice (shifts, flips, quarter turns).
    Periodic,
    /// Nothing that is known: pixels that come from there are undefined.
    Open,
}

/// How values between pixels are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// Multilinear, two pixels per axis: second order, exact on polynomials of degree 1 in each coordinate.
    Linear,
    /// Cubic convolution with a = -1/2, four pixels per axis: third order, exact on polynomials of degree 2 in each
    /// coordinate (R. Keys, Cubic convolution interpolation for digital image processing, IEEE Transactions on
    /// Acoustics, Speech, and Signal Processing 29, 1981, equation 15). On an open domain a pixel whose four
    /// neighbours are not all inside is undefined, where Keys extrapolates (his equations 19 and 25).
    Cubic,
    /// Trigonometric, all pixels: exact on periodic band-limited signals. An even axis's Nyquist mode is read as a
    /// cosine. An open domain is continued periodically, so only signals that vanish towards the edge are turned
    /// faithfully; after a turn the inscribed disc (ball) alone is defined.
    Fourier,
}

const DOMAINS: [(&str, Domain); 2] = [("periodic", Domain::Periodic), ("open", Domain::Open)];
const INTERPOLATIONS: [(&str, Interpolation); 7] = [
    ("linear", Interpolation::Linear),
    ("bilinear", Interpolation::Linear),
    ("trilinear", Interpolation::Linear),
    ("cubic", Interpolation::Cubic),
    ("bicubic", Interpolation::Cubic),
    ("tricubic", Interpolation::Cubic),
    ("fourier", Interpolation::Fourier),
];

fn word<T: Copy>(kind: &'static str, text: &str, words: &[(&'static str, T)]) -> Result<T, GridError> {
    words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names = words.iter().map(|(name, _)| *name);
        let help = match nearest(text, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {}", names.collect::<Vec<_>>().join(", ")),
        };
        GridError::Word { kind, word: text.to_owned(), help }
    })
}

impl FromStr for Domain {
    type Err = GridError;

    fn from_str(text: &str) -> Result<Self, GridError> {
        word("domain", text, &DOMAINS)
    }
}

impl FromStr for Interpolation {
    type Err = GridError;

    fn from_str(text: &str) -> Result<Self, GridError> {
        word("interpolation", text, &INTERPOLATIONS)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Domain::Periodic => "periodic",
            Domain::Open => "open",
        })
    }
}

impl fmt::Display for Interpolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Interpolation::Linear => "linear",
            Interpolation::Cubic => "cubic",
            Interpolation::Fourier => "fourier",
        })
    }
}

/// Why a transformation cannot act on a grid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GridError {
    /// A word that is no domain or interpolation.
    #[error("{kind}: unknown word `{word}`: {help}")]
    Word {
        /// "domain" or "interpolation".
        kind: &'static str,
        /// The word.
        word: String,
        /// The nearest valid one, or all of them.
        help: String,
    },

    /// Not a signal, image or volume.
    #[error("a grid of shape {sizes:?} cannot be warped: {why}")]
    Sizes {
        /// The shape.
        sizes: Vec<usize>,
        /// What is wrong with it.
        why: &'static str,
    },

    /// The transformation does not fit the grid's dimension, or is not a finite invertible one.
    #[error("the transformation cannot act on a grid of shape {sizes:?}: {why}")]
    Transformation {
        /// The grid's shape.
        sizes: Vec<usize>,
        /// What is wrong with it.
        why: String,
    },

    /// Axes of unequal length would be exchanged.
    #[error(
        "{first} ({first_size} pixels) and {second} ({second_size} pixels) are exchanged by this transformation: a \
         rotation by 90 degrees (or a diagonal reflection) needs equal {first} and {second}; crop or pad the grid to \
         equal sizes, or use a group without it (C2, flips)"
    )]
    UnequalSizes {
        /// One axis, e.g. "height".
        first: &'static str,
        /// Its length.
        first_size: usize,
        /// The other axis.
        second: &'static str,
        /// Its length.
        second_size: usize,
    },

    /// A torus has no such symmetry.
    #[error(
        "a periodic domain has only the symmetries of its lattice (shifts, flips and rotations by 90 degrees), and the \
         matrix {linear} is none of them: use domain=\"open\", or a group such as C4, D4 or T({dimension})"
    )]
    NotOfLattice {
        /// The matrix, in words.
        linear: String,
        /// The grid's dimension.
        dimension: usize,
    },

    /// The operator would be too costly.
    #[error(
        "Fourier interpolation of a grid of shape {sizes:?} takes {cost:.2e} multiplications per channel, the limit is \
         4.29e9 (a turn of 256 x 256 pixels): use interpolation=\"bicubic\", or a smaller grid"
    )]
    FourierCost {
        /// The grid's shape.
        sizes: Vec<usize>,
        /// Multiplications per channel.
        cost: u64,
    },
}

/// Multiplications per channel that Fourier interpolation may take: those of a turn of 256 x 256 pixels.
const MAX_FOURIER: u64 = 1 << 32;
/// Pixels in a grid; beyond, indices and masks alone take gigabytes.
const MAX_PIXELS: usize = 1 << 31;
/// Rounding that is forgiven in an entry of a matrix that is meant to be of the lattice (cos 90 degrees is 6e-17) and,
/// times the grid's extent, in a coordinate that is meant to be a pixel's.
const ROUNDING: f64 = 1e-12;

/// Warps that are remembered, per thread: one for each of the grids of a model that has several.
const MOST_KEPT: usize = 4;

/// A warp, and what it was made from.
struct Known {
    linear: Array2<f64>,
    translation: Vec<f64>,
    warp: Rc<GridWarp>,
}

thread_local! {
    static KEPT: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
}

/// The action of one affine transformation on grids of one shape.
///
/// A linear operator W on the grid's values: `W f` holds, at each pixel p, the interpolant of f at `T^-1 p`.
///
/// Cost: an index per pixel when exact, else nothing is stored but a mask; linear and cubic stencils are computed while
/// they are applied, once per pixel for all channels.
#[derive(Debug, Clone)]
pub struct GridWarp {
    sizes: Vec<usize>,
    domain: Domain,
    interpolation: Interpolation,
    /// Along axis a the source of pixel i is at `base[a] + sum_b step[a][b] i[b]`, in pixels from the first one.
    step: Vec<Vec<f64>>,
    base: Vec<f64>,
    /// Two coordinates this close are one.
    tolerance: f64,
    mask: Vec<bool>,
    map: Map,
}

#[derive(Debug, Clone)]
enum Map {
    /// Values move. The source of each pixel; meaningless where the mask is false.
    Exact(Vec<usize>),
    /// Each pixel is a product of one-dimensional stencils at its source.
    Stencils,
    /// Fourier interpolation when axes map to axes: one-dimensional operators along each source axis, then a
    /// transposition.
    Lines(Vec<Line>),
}

/// Along one source axis: position `sign * i + whole + part` for index i along the output axis `to`.
#[derive(Debug, Clone)]
struct Line {
    to: usize,
    sign: i64,
    whole: i64,
    /// Twice over, the weights of `m = j - sign * i - whole` (mod n) for source index j; empty if `part` is 0.
    weights: Vec<f64>,
}

impl GridWarp {
    /// The action of `T p = linear p + translation` on a grid of shape `sizes`: `[length]`, `[height, width]` or
    /// `[depth, height, width]`. `linear` is n by n and `translation` n long, in coordinates (x, y, z), pixels from the
    /// centre.
    ///
    /// When `linear` is a signed permutation (to 1e-12) and pixels land on pixels, values are moved, not interpolated.
    /// On a torus they wrap around; on an open domain pixels whose source, or a neighbour that its interpolation
    /// needs, lies outside are undefined. The result has the shape of the input, so axes that are exchanged must be
    /// equal.
    ///
    /// # Errors
    /// A grid that is empty or has more than three axes; a transformation of another dimension, or not finite and
    /// invertible; axes of unequal length that are exchanged; on a torus, a matrix that is not of the lattice; Fourier
    /// interpolation beyond 2^32 multiplications per channel (a turn of 256 x 256 pixels).
    pub fn new(
        sizes: &[usize],
        domain: Domain,
        interpolation: Interpolation,
        linear: &Array2<f64>,
        translation: &[f64],
    ) -> Result<Self, GridError> {
        let n = sizes.len();
        let invalid = |why| Err(GridError::Sizes { sizes: sizes.to_vec(), why });
        if !(1..=3).contains(&n) {
            return invalid("expected 1 (length), 2 (height, width) or 3 (depth, height, width) axes");
        }
        if sizes.contains(&0) {
            return invalid("an axis is empty");
        }
        match sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size)) {
            Some(pixels) if pixels <= MAX_PIXELS => {}
            _ => return invalid("it has more than 2^31 pixels; crop it"),
        }
        let lattice = signed_permutation(linear);
        let inverse = inverse(sizes, linear, translation, lattice.as_ref())?;
        if domain == Domain::Periodic && lattice.is_none() {
            return Err(GridError::NotOfLattice { linear: in_words(linear), dimension: n });
        }

        // Array axis a holds coordinate n - 1 - a, reversed for all but x.
        let sign = |axis: usize| if axis == n - 1 { 1.0 } else { -1.0 };
        let coordinate = |axis: usize| n - 1 - axis;
        let step: Vec<Vec<f64>> = (0..n)
            .map(|a| (0..n).map(|b| sign(a) * sign(b) * inverse[(coordinate(a), coordinate(b))]).collect())
            .collect();
        let tolerance = ROUNDING * (1.0 + sizes.iter().fold(0, |m, s| m.max(*s)) as f64);
        let mut base = vec![0.0; n];
        for a in 0..n {
            let moved: f64 = (0..n).map(|c| inverse[(coordinate(a), c)] * translation[c]).sum();
            let turned: f64 = (0..n).map(|b| step[a][b] * (sizes[b] - 1) as f64).sum();
            base[a] = ((sizes[a] - 1) as f64 - turned) / 2.0 - sign(a) * moved;
            if domain == Domain::Periodic {
                base[a] = base[a].rem_euclid(sizes[a] as f64);
            }
            if lattice.is_some() {
                base[a] = snapped(base[a], tolerance);
            }
            // Far outside is outside, however far: this fits an i64 with room for an index.
            base[a] = base[a].clamp(-1e12, 1e12);
        }
        if base.iter().any(|b| b.is_nan()) {
            return Err(GridError::Transformation {
                sizes: sizes.to_vec(),
                why: "its inverse is not finite".to_owned(),
            });
        }

        let mut warp = Self {
            sizes: sizes.to_vec(),
            domain,
            interpolation,
            step,
            base,
            tolerance,
            mask: Vec::new(),
            map: Map::Stencils,
        };
        if lattice.is_some() {
            let turn = warp.axis_map()?;
            if warp.base.iter().all(|b| b.fract() == 0.0) {
                warp.set_exact(&turn);
                return Ok(warp);
            }
            if interpolation == Interpolation::Fourier {
                warp.map = Map::Lines(warp.lines(&turn));
            }
        }
        warp.check_cost()?;
        warp.mask = warp.interpolated_mask();
        Ok(warp)
    }

    /// The same as [`new`](GridWarp::new), which remembers the last few warps: one pair of an audit asks for its own a dozen
    /// times.
    ///
    /// # Errors
    /// As [`new`](GridWarp::new).
    pub(crate) fn kept(
        sizes: &[usize],
        domain: Domain,
        interpolation: Interpolation,
        linear: &Array2<f64>,
        translation: &[f64],
    ) -> Result<Rc<Self>, GridError> {
        let same = |known: &Known| {
            let warp = &known.warp;
            let place = warp.sizes == sizes && warp.domain == domain && warp.interpolation == interpolation;
            place && known.linear == linear && known.translation == translation
        };
        KEPT.with_borrow_mut(|kept| {
            if let Some(known) = kept.iter().find(|known| same(known)) {
                return Ok(Rc::clone(&known.warp));
            }
            let warp = Rc::new(Self::new(sizes, domain, interpolation, linear, translation)?);
            kept.truncate(MOST_KEPT - 1);
            kept.push_front(Known {
                linear: linear.clone(),
                translation: translation.to_vec(),
                warp: Rc::clone(&warp),
            });
            Ok(warp)
        })
    }

    /// The grid's shape.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// What lies beyond the edge.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// How values between pixels are made, where that is needed.
    pub fn interpolation(&self) -> Interpolation {
        self.interpolation
    }

    /// Whether values are moved bit for bit, without interpolation.
    pub fn is_exact(&self) -> bool {
        matches!(self.map, Map::Exact(_))
    }

    /// Whether each pixel, in row-major order, is defined.
    pub fn mask(&self) -> &[bool] {
        &self.mask
    }

    /// The share of pixels that are defined.
    pub fn defined_share(&self) -> f64 {
        self.mask.iter().filter(|defined| **defined).count() as f64 / self.mask.len() as f64
    }

    /// Where the value of a pixel comes from, both in row-major order. `None` for an undefined pixel or one beyond the
    /// grid, and for every pixel of a warp that is not exact.
    pub fn source(&self, pixel: usize) -> Option<usize> {
        match &self.map {
            Map::Exact(source) if *self.mask.get(pixel)? => Some(source[pixel]),
            _ => None,
        }
    }

    /// Where every pixel comes from, as an affine map: along axis a the pixel at index i has its source at
    /// `base[a] + sum_b step[a][b] i[b]`, in pixels from the first one, on the grid or beyond it.
    pub(crate) fn sources(&self) -> (&[f64], &[Vec<f64>]) {
        (&self.base, &self.step)
    }

    /// Acts on `values`, whose axes number `axes` are the grid's, in its order; other axes are left alone.
    /// Undefined pixels are 0.
    ///
    /// # Panics
    /// If `axes` are not distinct axes of `values` of the grid's sizes.
    pub fn apply(&self, values: &ArrayD<f64>, axes: &[usize]) -> ArrayD<f64> {
        if let Map::Exact(source) = &self.map {
            return self.moved(values, axes, source);
        }
        self.by_channel(values.view(), axes, |data| self.interpolate(data))
    }

    /// The adjoint: `<apply(f), g> = <f, apply_transposed(g)>` for the plain dot product over all elements. Undefined
    /// pixels of `cotangent` do not count. For an exact warp of a torus it is the action of the inverse; for an
    /// interpolated one it is not.
    ///
    /// # Panics
    /// As [`apply`](GridWarp::apply).
    pub fn apply_transposed(&self, cotangent: &ArrayD<f64>, axes: &[usize]) -> ArrayD<f64> {
        self.by_channel(cotangent.view(), axes, |data| match &self.map {
            Map::Exact(source) => {
                let mut result = vec![0.0; data.len()];
                for (from, to) in data.chunks_exact(source.len()).zip(result.chunks_exact_mut(source.len())) {
                    for ((value, source), defined) in from.iter().zip(source).zip(&self.mask) {
                        if *defined {
                            to[*source] = *value;
                        }
                    }
                }
                result
            }
            _ => self.interpolate_transposed(data),
        })
    }

    /// Acts on a tensor. An exact warp moves elements of every type bit for bit (undefined pixels are 0, or false); an
    /// interpolated one computes in f64 and rounds once into the tensor's type, while integers and booleans become
    /// `Float64`.
    ///
    /// # Panics
    /// As [`apply`](GridWarp::apply).
    pub fn apply_tensor(&self, tensor: &Tensor, axes: &[usize]) -> Tensor {
        let Map::Exact(source) = &self.map else {
            let dtype = if tensor.dtype().is_inexact() { tensor.dtype() } else { DType::Float64 };
            // The parts of complex numbers are a last axis, after those of the grid.
            return Tensor::from_real(self.apply(&tensor.to_real(), axes), dtype);
        };
        macro_rules! moved {
            ($($name:ident),*) => {
                match tensor {
                    $(Tensor::$name(a) => Tensor::$name(self.moved(a, axes, source)),)*
                }
            };
        }
        moved!(
            Bool, UInt8, Int8, Int16, Int32, Int64, Float16, BFloat16, Float32, Float64, Complex64,
            Complex128
        )
    }

    /// For each source axis the output axis that it is read along, and in which direction.
    fn axis_map(&self) -> Result<Vec<(usize, i64)>, GridError> {
        let names: &[&'static str] = match self.sizes.len() {
            1 => &["length"],
            2 => &["height", "width"],
            _ => &["depth", "height", "width"],
        };
        let mut turn = Vec::new();
        for (a, row) in self.step.iter().enumerate() {
            let b = row.iter().position(|s| *s != 0.0).expect("a row of a signed permutation has an entry");
            if self.sizes[a] != self.sizes[b] {
                let (a, b) = (a.min(b), a.max(b));
                return Err(GridError::UnequalSizes {
                    first: names[a],
                    first_size: self.sizes[a],
                    second: names[b],
                    second_size: self.sizes[b],
                });
            }
            turn.push((b, row[b] as i64));
        }
        Ok(turn)
    }

    fn pixels(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Index along each axis of a pixel.
    fn index(&self, pixel: usize) -> [usize; 3] {
        let mut rest = pixel;
        let mut index = [0; 3];
        for (i, size) in index.iter_mut().zip(&self.sizes).rev() {
            *i = rest % size;
            rest /= size;
        }
        index
    }

    fn set_exact(&mut self, turn: &[(usize, i64)]) {
        let mut source = Vec::with_capacity(self.pixels());
        let mut mask = Vec::with_capacity(self.pixels());
        for pixel in 0..self.pixels() {
            let index = self.index(pixel);
            let mut flat = 0;
            let mut inside = true;
            for ((size, base), (b, sign)) in self.sizes.iter().zip(&self.base).zip(turn) {
                let size = *size as i64;
                let at = *base as i64 + sign * index[*b] as i64;
                inside &= self.domain == Domain::Periodic || (0..size).contains(&at);
                flat = flat * size + at.rem_euclid(size);
            }
            source.push(flat as usize);
            mask.push(inside);
        }
        self.mask = mask;
        self.map = Map::Exact(source);
    }

    fn lines(&self, turn: &[(usize, i64)]) -> Vec<Line> {
        turn.iter()
            .zip(&self.base)
            .zip(&self.sizes)
            .map(|((&(to, sign), base), &n)| {
                let whole = base.floor();
                let part = base - whole;
                let weights = if part == 0.0 {
                    Vec::new()
                } else {
                    (0..2 * n).map(|m| trigonometric(part - (m % n) as f64, n)).collect()
                };
                Line { to, sign, whole: whole as i64, weights }
            })
            .collect()
    }

    fn check_cost(&self) -> Result<(), GridError> {
        if self.interpolation != Interpolation::Fourier {
            return Ok(());
        }
        let pixels = self.pixels() as u64;
        let per_pixel = match &self.map {
            Map::Lines(lines) => lines.iter().map(|line| line.weights.len() as u64 / 2).sum(),
            _ => pixels,
        };
        // At most 2^31 pixels, so that the product fits.
        let cost = pixels * per_pixel;
        if cost > MAX_FOURIER {
            return Err(GridError::FourierCost { sizes: self.sizes.clone(), cost });
        }
        Ok(())
    }

    /// Source coordinate along axis a of the pixel at `index`, in pixels from the first one.
    fn source_coordinate(&self, a: usize, index: [usize; 3]) -> f64 {
        let at = self.step[a].iter().zip(index).fold(self.base[a], |sum, (step, i)| sum + step * i as f64);
        snapped(at, self.tolerance)
    }

    fn interpolated_mask(&self) -> Vec<bool> {
        if self.domain == Domain::Periodic {
            return vec![true; self.pixels()];
        }
        let disc = self.interpolation == Interpolation::Fourier && matches!(self.map, Map::Stencils);
        let diameter = self.sizes.iter().fold(usize::MAX, |m, s| m.min(s - 1)) as f64;
        (0..self.pixels())
            .map(|pixel| {
                let index = self.index(pixel);
                let mut square = 0.0;
                let inside = self.sizes.iter().enumerate().all(|(a, size)| {
                    let at = self.source_coordinate(a, index);
                    let last = (size - 1) as f64;
                    square += (2.0 * at - last).powi(2);
                    let rim = match self.interpolation {
                        Interpolation::Cubic if at.fract() != 0.0 => 1.0,
                        _ => 0.0,
                    };
                    rim <= at && at <= last - rim
                });
                inside && !(disc && square > (diameter + self.tolerance).powi(2))
            })
            .collect()
    }

    /// Moves the axes of the grid last, so that each channel is contiguous, calls `f` on them all, and moves them back.
    fn by_channel<T: Copy>(
        &self,
        values: ArrayViewD<'_, T>,
        axes: &[usize],
        f: impl FnOnce(&[T]) -> Vec<T>,
    ) -> ArrayD<T> {
        let lengths: Vec<Option<usize>> = axes.iter().map(|a| values.shape().get(*a).copied()).collect();
        let expected: Vec<Option<usize>> = self.sizes.iter().copied().map(Some).collect();
        assert_eq!(lengths, expected, "axes {axes:?} of an array of shape {:?}", values.shape());
        let mut order: Vec<usize> = (0..values.ndim()).filter(|a| !axes.contains(a)).collect();
        order.extend(axes);
        assert_eq!(order.len(), values.ndim(), "axes {axes:?} are not distinct");
        let mut back = vec![0; order.len()];
        for (k, axis) in order.iter().enumerate() {
            back[*axis] = k;
        }
        let channels = values.permuted_axes(IxDyn(&order));
        let shape = channels.raw_dim();
        let data = channels.as_standard_layout();
        let result = f(data.as_slice().expect("standard layout is contiguous"));
        ArrayD::from_shape_vec(shape, result)
            .expect("as many values as before")
            .permuted_axes(IxDyn(&back))
            .as_standard_layout()
            .into_owned()
    }

    fn moved<T: Copy + Default>(&self, values: &ArrayD<T>, axes: &[usize], source: &[usize]) -> ArrayD<T> {
        self.by_channel(values.view(), axes, |data| {
            let mut result = Vec::with_capacity(data.len());
            for channel in data.chunks_exact(source.len()) {
                result.extend(
                    source.iter().zip(&self.mask).map(|(s, ok)| if *ok { channel[*s] } else { T::default() }),
                );
            }
            result
        })
    }

    fn interpolate(&self, data: &[f64]) -> Vec<f64> {
        let pixels = self.pixels();
        if let Map::Lines(lines) = &self.map {
            let mut result = along_lines(data, &self.sizes, lines);
            for channel in result.chunks_exact_mut(pixels) {
                clear(channel, &self.mask);
            }
            return result;
        }
        let mut result = vec![0.0; data.len()];
        self.for_each_block(|block, rows| {
            for (from, to) in data.chunks_exact(pixels).zip(result.chunks_exact_mut(pixels)) {
                for (value, row) in to[block.clone()].iter_mut().zip(rows.iter()) {
                    *value = row.iter().map(|(at, weight)| weight * from[*at]).sum();
                }
            }
        });
        result
    }

    fn interpolate_transposed(&self, data: &[f64]) -> Vec<f64> {
        let pixels = self.pixels();
        if let Map::Lines(lines) = &self.map {
            let mut masked = data.to_vec();
            for channel in masked.chunks_exact_mut(pixels) {
                clear(channel, &self.mask);
            }
            return along_lines_transposed(&masked, &self.sizes, lines);
        }
        let mut result = vec![0.0; data.len()];
        self.for_each_block(|block, rows| {
            for (from, to) in data.chunks_exact(pixels).zip(result.chunks_exact_mut(pixels)) {
                for (value, row) in from[block.clone()].iter().zip(rows.iter()) {
                    for (at, weight) in row {
                        to[*at] += weight * value;
                    }
                }
            }
        });
        result
    }

    /// Calls `f` with runs of pixels and their stencils; a run's stencils fit in the processor's cache.
    fn for_each_block(&self, mut f: impl FnMut(Range<usize>, &Rows)) {
        let per_pixel: usize = match self.interpolation {
            Interpolation::Linear => 1 << self.sizes.len(),
            Interpolation::Cubic => 1 << (2 * self.sizes.len()),
            Interpolation::Fourier => self.pixels(),
        };
        let run = (4096 / per_pixel).max(1);
        let mut rows = Rows::default();
        let mut line = Vec::new();
        for start in (0..self.pixels()).step_by(run) {
            let block = start..(start + run).min(self.pixels());
            rows.clear();
            for pixel in block.clone() {
                if self.mask[pixel] {
                    self.push_row(pixel, &mut rows, &mut line);
                }
                rows.ends.push(rows.taps.len());
            }
            f(block, &rows);
        }
    }

    /// Appends the stencil of a defined pixel: the product of those along the axes. `line` is scratch space.
    fn push_row(&self, pixel: usize, rows: &mut Rows, line: &mut Vec<(usize, f64)>) {
        let index = self.index(pixel);
        let start = rows.taps.len();
        rows.taps.push((0, 1.0));
        for (a, &size) in self.sizes.iter().enumerate() {
            self.taps(self.source_coordinate(a, index), size, line);
            // Each tap so far becomes one per tap of this axis: the first in its place, the others behind.
            let so_far = rows.taps.len();
            for k in start..so_far {
                let (at, weight) = rows.taps[k];
                let mut product = line.iter().map(|(i, w)| (at * size + i, weight * w));
                rows.taps[k] = product.next().expect("a stencil has at least one tap");
                rows.taps.extend(product);
            }
        }
    }

    /// Indices and weights along an axis of length `size` for the position `at`.
    fn taps(&self, at: f64, size: usize, line: &mut Vec<(usize, f64)>) {
        line.clear();
        let whole = at.floor();
        let s = at - whole;
        // Indices of defined pixels are in range, or wrap.
        let wrapped = |i: i64| (whole as i64 + i).rem_euclid(size as i64) as usize;
        if s == 0.0 {
            line.push((wrapped(0), 1.0));
            return;
        }
        match self.interpolation {
            Interpolation::Linear => line.extend([(wrapped(0), 1.0 - s), (wrapped(1), s)]),
            Interpolation::Cubic => line.extend([
                (wrapped(-1), ((-0.5 * s + 1.0) * s - 0.5) * s),
                (wrapped(0), (1.5 * s - 2.5) * s * s + 1.0),
                (wrapped(1), ((-1.5 * s + 2.0) * s + 0.5) * s),
                (wrapped(2), (0.5 * s - 0.5) * s * s),
            ]),
            Interpolation::Fourier => line.extend((0..size).map(|j| (j, trigonometric(at - j as f64, size)))),
        }
    }
}

/// Stencils of a run of pixels: flat indices and weights, row after row.
#[derive(Default)]
struct Rows {
    ends: Vec<usize>,
    taps: Vec<(usize, f64)>,
}

impl Rows {
    fn clear(&mut self) {
        self.ends.clear();
        self.taps.clear();
    }

    fn iter(&self) -> impl Iterator<Item = &[(usize, f64)]> {
        self.ends.iter().scan(0, |start, &end| {
            let row = &self.taps[*start..end];
            *start = end;
            Some(row)
        })
    }
}

/// Fourier interpolation along each axis of channels of shape `sizes`, then the transposition that `lines` asks for.
fn along_lines(data: &[f64], sizes: &[usize], lines: &[Line]) -> Vec<f64> {
    let mut result = data.to_vec();
    let mut order = vec![0; lines.len()];
    for (axis, line) in lines.iter().enumerate() {
        result = along_line(&result, sizes, axis, line, false);
        order[line.to] = axis;
    }
    transposed(&result, sizes, &order)
}

fn along_lines_transposed(data: &[f64], sizes: &[usize], lines: &[Line]) -> Vec<f64> {
    let order: Vec<usize> = lines.iter().map(|line| line.to).collect();
    let mut result = transposed(data, sizes, &order);
    for (axis, line) in lines.iter().enumerate() {
        result = along_line(&result, sizes, axis, line, true);
    }
    result
}

/// The one-dimensional operator of `line`, or its transpose, along `axis`.
fn along_line(data: &[f64], sizes: &[usize], axis: usize, line: &Line, transposed: bool) -> Vec<f64> {
    let n = sizes[axis];
    let inner: usize = sizes[axis + 1..].iter().product();
    let mut result = vec![0.0; data.len()];
    for (from, to) in data.chunks_exact(n * inner).zip(result.chunks_exact_mut(n * inner)) {
        for i in 0..n {
            let at = line.sign * i as i64 + line.whole;
            let start = (-at).rem_euclid(n as i64) as usize;
            if line.weights.is_empty() {
                let j = at.rem_euclid(n as i64) as usize;
                let (j, i) = if transposed { (i, j) } else { (j, i) };
                to[i * inner..][..inner].copy_from_slice(&from[j * inner..][..inner]);
                continue;
            }
            // The inner loops run over what is contiguous.
            let weights = &line.weights[start..start + n];
            match (transposed, inner) {
                (false, 1) => to[i] = dot(weights, from),
                (true, 1) => add_scaled(to, from[i], weights),
                (false, _) => {
                    for (weight, from) in weights.iter().zip(from.chunks_exact(inner)) {
                        add_scaled(&mut to[i * inner..][..inner], *weight, from);
                    }
                }
                (true, _) => {
                    for (weight, to) in weights.iter().zip(to.chunks_exact_mut(inner)) {
                        add_scaled(to, *weight, &from[i * inner..][..inner]);
                    }
                }
            }
        }
    }
    result
}

fn add_scaled(to: &mut [f64], weight: f64, from: &[f64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += weight * from;
    }
}

/// In eight partial sums, which the processor adds at once.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let whole = a.len() - a.len() % 8;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Channels of shape `sizes` with the axes in another order (exchanged axes have equal sizes).
fn transposed(data: &[f64], sizes: &[usize], order: &[usize]) -> Vec<f64> {
    let channels = data.len() / sizes.iter().product::<usize>();
    let shape: Vec<usize> = std::iter::once(channels).chain(sizes.iter().copied()).collect();
    let order: Vec<usize> = std::iter::once(0).chain(order.iter().map(|axis| axis + 1)).collect();
    let view = ArrayView::from_shape(IxDyn(&shape), data).expect("whole channels");
    view.permuted_axes(IxDyn(&order)).iter().copied().collect()
}

fn clear(channel: &mut [f64], mask: &[bool]) {
    for (value, defined) in channel.iter_mut().zip(mask) {
        if !defined {
            *value = 0.0;
        }
    }
}

/// The weight, at distance x from a sample, |x| < n, of trigonometric interpolation on n points with period n
/// (Dirichlet's kernel; for even n its Nyquist mode counts as a cosine).
fn trigonometric(x: f64, n: usize) -> f64 {
    let period = n as f64;
    if x == 0.0 {
        return 1.0;
    }
    let nearest = x.round();
    // sin(pi x), exactly 0 at integers.
    let sign = if nearest.rem_euclid(2.0) == 0.0 { 1.0 } else { -1.0 };
    let sine = sign * (std::f64::consts::PI * (x - nearest)).sin();
    let angle = std::f64::consts::PI * x / period;
    sine / period / if n.is_multiple_of(2) { angle.tan() } else { angle.sin() }
}

/// The nearest integer, when it is within `tolerance`.
fn snapped(value: f64, tolerance: f64) -> f64 {
    let nearest = value.round();
    if (value - nearest).abs() <= tolerance { nearest } else { value }
}

/// `linear` with its entries rounded, if it is a signed permutation up to rounding.
fn signed_permutation(linear: &Array2<f64>) -> Option<Array2<f64>> {
    let rounded = linear.mapv(f64::round);
    let near = linear.iter().zip(&rounded).all(|(a, b)| (a - b).abs() <= ROUNDING);
    let one_each = |lines: ndarray::iter::Lanes<'_, f64, ndarray::Ix1>| {
        lines.into_iter().all(|line| {
            line.iter().filter(|v| **v != 0.0).count() == 1 && line.iter().all(|v| v.abs() <= 1.0)
        })
    };
    (near && one_each(rounded.rows()) && one_each(rounded.columns())).then_some(rounded)
}

/// The inverse of the linear part, once the transformation is known to be one.
fn inverse(
    sizes: &[usize],
    linear: &Array2<f64>,
    translation: &[f64],
    lattice: Option<&Array2<f64>>,
) -> Result<Array2<f64>, GridError> {
    let fail = |why: String| Err(GridError::Transformation { sizes: sizes.to_vec(), why });
    let n = sizes.len();
    if linear.dim() != (n, n) {
        let (rows, columns) = linear.dim();
        return fail(format!("its matrix is {rows} x {columns}, expected {n} x {n}"));
    }
    if translation.len() != n {
        return fail(format!("its translation has {} components, expected {n}", translation.len()));
    }
    if !linear.iter().chain(translation).all(|v| v.is_finite()) {
        return fail("it has entries that are not finite".to_owned());
    }
    if let Some(exact) = lattice {
        // Orthogonal.
        return Ok(exact.t().to_owned());
    }
    let matrix = DMatrix::from_row_iterator(n, n, linear.iter().copied());
    // Hadamard: |det| is at most the product of the rows' lengths.
    let largest: f64 = matrix.row_iter().map(|row| row.norm()).product();
    let regular = matrix.determinant().abs() > 1e-12 * largest;
    match matrix.try_inverse() {
        Some(inverse) if regular && inverse.iter().all(|v| v.is_finite()) => {
            Ok(Array2::from_shape_fn((n, n), |(i, j)| inverse[(i, j)]))
        }
        _ => fail(format!("its matrix {} has no inverse", in_words(linear))),
    }
}

fn in_words(matrix: &Array2<f64>) -> String {
    let rows: Vec<String> = matrix
        .rows()
        .into_iter()
        .map(|row| format!("[{}]", row.iter().map(|v| format!("{v:.3}")).collect::<Vec<_>>().join(", ")))
        .collect();
    format!("[{}]", rows.join(", "))
}
