//! Wigner-D matrices of proper rotations, in e3nn's real basis.
//!
//! **Convention.** Active: for the real spherical harmonics `Y_l`, `Y_l(R x) = D^l(R) Y_l(x)`, and
//! `D^l(R S) = D^l(R) D^l(S)`. The components are `m = -l..=l` of the real harmonics with y as the
//! polar axis and no Condon-Shortley sign, as in e3nn: `l = 1` is `(x, y, z)`, so `D^1(R) = R`, and
//! `l = 2` is proportional to `(xz, xy, y² - (x² + z²)/2, yz, (z² - x²)/2)`.
//!
//! **Method.** The recursion over `l` of Ivanic and Ruedenberg (J. Phys. Chem. 1996, 100, 6342;
//! additions and corrections 1998, 102, 9099). It starts from the entries of `R`; there are no
//! angles, hence no poles where accuracy is lost. Their basis for `l = 1` is `(y, z, x)` with z as
//! the polar axis; renaming the axes cyclically turns it into e3nn's, so that `R` itself, rows and
//! columns read as `m = -1, 0, 1`, is the start.
//!
//! Written for whole rows: with the weights `u, v, w` of the paper, row `m` of `D^l` is a
//! combination of at most five rows of `D^(l-1)`, the same for all interior columns up to a factor
//! per column, which the compiler vectorises.

use std::sync::LazyLock;

use ndarray::{Array2, ArrayView2};

/// The largest degree `l` that is supported.
pub const L_MAX: usize = 12;

/// Entries in all matrices of degree `0..=lmax` together: `Σ (2l+1)²`.
#[must_use]
pub const fn flat_len(lmax: usize) -> usize {
    flat_offset(lmax + 1)
}

/// Where the matrix of degree `l` starts in a flat buffer that holds degrees `0, 1, ...` in turn.
#[must_use]
pub const fn flat_offset(l: usize) -> usize {
    // Σ_{k<l} (2k+1)² = l (4l² - 1) / 3; written without the underflow at l = 0.
    l * (4 * l * l).saturating_sub(1) / 3
}

/// The Wigner-D matrix of degree `l`, real orthogonal, of shape `(2l+1, 2l+1)`.
///
/// `rotation` is a proper 3x3 rotation, active, on Cartesian `(x, y, z)`; see the module for the
/// basis. A departure of `rotation` from orthogonality enters the result about `l`-fold.
///
/// # Panics
///
/// If `l > L_MAX`, or `rotation` is not 3x3 with a positive determinant.
#[must_use]
pub fn wigner_d(l: usize, rotation: &ArrayView2<f64>) -> Array2<f64> {
    WignerMatrices::new(l, rotation).get(l).to_owned()
}

/// The Wigner-D matrices of degrees `0..=lmax`, in that order; see [`wigner_d`].
///
/// # Panics
///
/// As [`wigner_d`].
#[must_use]
pub fn wigner_d_up_to(lmax: usize, rotation: &ArrayView2<f64>) -> Vec<Array2<f64>> {
    let matrices = WignerMatrices::new(lmax, rotation);
    (0..=lmax).map(|l| matrices.get(l).to_owned()).collect()
}

/// The Wigner-D matrices of degrees `0..=lmax` of one rotation, in one buffer that can be reused.
#[derive(Clone, Debug, PartialEq)]
pub struct WignerMatrices {
    lmax: usize,
    flat: Vec<f64>,
}

impl WignerMatrices {
    /// Computes the matrices of `rotation`; see [`wigner_d`].
    ///
    /// # Panics
    ///
    /// As [`wigner_d`].
    #[must_use]
    pub fn new(lmax: usize, rotation: &ArrayView2<f64>) -> Self {
        assert_degree(lmax);
        let mut matrices = Self { lmax, flat: vec![0.0; flat_len(lmax)] };
        wigner_d_into(lmax, &to_rows(rotation), &mut matrices.flat);
        matrices
    }

    /// Replaces the matrices by those of another rotation, without allocating.
    ///
    /// # Panics
    ///
    /// As [`wigner_d`].
    pub fn update(&mut self, rotation: &ArrayView2<f64>) {
        wigner_d_into(self.lmax, &to_rows(rotation), &mut self.flat);
    }

    /// The largest degree held.
    #[must_use]
    pub fn lmax(&self) -> usize {
        self.lmax
    }

    /// The matrix of degree `l`, of shape `(2l+1, 2l+1)`.
    ///
    /// # Panics
    ///
    /// If `l > self.lmax()`.
    #[must_use]
    pub fn get(&self, l: usize) -> ArrayView2<'_, f64> {
        assert!(l <= self.lmax, "degree {l} was not computed: the largest is {}", self.lmax);
        ArrayView2::from_shape((2 * l + 1, 2 * l + 1), &self.flat[flat_offset(l)..flat_offset(l + 1)])
            .expect("the slice has (2l+1)² entries")
    }
}

/// Writes the matrices of degrees `0..=lmax` into `out`, row-major, one after the other: degree `l`
/// starts at [`flat_offset`]`(l)`. Does not allocate. See [`wigner_d`] for the rest.
///
/// # Panics
///
/// If `lmax > L_MAX`, `out.len() != flat_len(lmax)`, or the determinant is not positive.
pub fn wigner_d_into(lmax: usize, rotation: &[[f64; 3]; 3], out: &mut [f64]) {
    assert_degree(lmax);
    assert_eq!(out.len(), flat_len(lmax), "the buffer must hold flat_len({lmax}) entries");
    // The recursion would go through for an improper matrix, and return the matrix of its proper
    // part times (-1)^l: a parity that the caller did not choose.
    assert!(
        determinant(rotation) > 0.0,
        "a proper rotation is needed, but the determinant is {}",
        determinant(rotation)
    );
    out[0] = 1.0;
    if lmax == 0 {
        return;
    }
    out[1..10].copy_from_slice(rotation.as_flattened());
    for l in 2..=lmax {
        let (lower, upper) = out.split_at_mut(flat_offset(l));
        step(&LEVELS[l], rotation, &lower[flat_offset(l - 1)..], &mut upper[..(2 * l + 1) * (2 * l + 1)]);
    }
}

/// Determinant of a 3x3 matrix.
pub(super) fn determinant(m: &[[f64; 3]; 3]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

/// Copies a 3x3 view; panics on any other shape.
pub(super) fn to_rows(matrix: &ArrayView2<f64>) -> [[f64; 3]; 3] {
    assert_eq!(matrix.dim(), (3, 3), "a 3x3 matrix is needed");
    std::array::from_fn(|i| std::array::from_fn(|j| matrix[[i, j]]))
}

fn assert_degree(l: usize) {
    assert!(l <= L_MAX, "degree {l} is not supported: the largest is {L_MAX}");
}

/// The weights of one step of the recursion, from degree `l - 1` to `l`.
struct Level {
    l: usize,
    /// `1 / sqrt((l+n)(l-n))` for the interior columns `n = -(l-1)..=l-1`.
    interior: [f64; 2 * L_MAX - 1],
    /// `1 / sqrt(2l (2l-1))` for the columns `n = ±l`.
    edge: f64,
    /// By `m = 0..=l`.
    rows: [RowWeights; L_MAX + 1],
}

/// The weights of rows `m` and `-m`; zero where the row of degree `l - 1` does not exist.
#[derive(Clone, Copy, Default)]
struct RowWeights {
    /// Of row `±m`: `sqrt((l+m)(l-m))`.
    u: f64,
    /// Of row `m-1`: `sqrt((l+m-1)(l+m)) / 2`, times sqrt(2) where that is row 0. For `m = 0`, of
    /// rows 1 and -1: `-sqrt(l (l-1) / 2)`.
    v: f64,
    /// Of row `-(m-1)`: as `v`, zero where that is row 0.
    v_negative: f64,
    /// Of rows `±(m+1)`: `-sqrt((l-m-1)(l-m)) / 2`.
    w: f64,
}

static LEVELS: LazyLock<[Level; L_MAX + 1]> = LazyLock::new(|| std::array::from_fn(level));

fn level(l: usize) -> Level {
    // All products are small integers, hence exact, and each weight is rounded once or twice.
    let root = |a: usize, b: usize| ((a * b) as f64).sqrt();
    let mut level =
        Level { l, interior: [0.0; 2 * L_MAX - 1], edge: 0.0, rows: [RowWeights::default(); L_MAX + 1] };
    if l < 2 {
        return level;
    }
    level.edge = 1.0 / root(2 * l, 2 * l - 1);
    for column in 0..2 * l - 1 {
        // n = column - (l - 1), so l + n = column + 1 and l - n = 2l - 1 - column.
        level.interior[column] = 1.0 / root(column + 1, 2 * l - 1 - column);
    }
    for m in 0..=l {
        let weights = &mut level.rows[m];
        weights.u = root(l + m, l - m);
        match m {
            0 => weights.v = -(l as f64 * (l - 1) as f64 / 2.0).sqrt(),
            1 => weights.v = (l as f64 * (l + 1) as f64 / 2.0).sqrt(),
            _ => {
                weights.v = root(l + m - 1, l + m) / 2.0;
                weights.v_negative = weights.v;
            }
        }
        if m > 0 && m + 1 < l {
            weights.w = -root(l - m - 1, l - m) / 2.0;
        }
    }
    level
}

/// One step of the recursion: `next` (degree `l`) from `previous` (degree `l - 1`), `l >= 2`.
///
/// Entry `(m, n)` is a sum over `i = -1, 0, 1` of the entry of `R` in row `i` times a combination
/// `S_i` of rows of the previous degree, which depends on `m` alone. Column `n` decides which column
/// of `R` (0 inside; 1 and -1 at the edges) and which columns of `S_i` take part. With `e` and `f`
/// the rows `m` and `-m`, `a` and `b` the rows `m-1` and `-(m-1)`, `c` and `d` the rows `m+1` and
/// `-(m+1)` of the previous degree:
///
/// ```text
/// row  m:   S_0 = u e   S_1 = v a + w c    S_-1 = -v' b + w d
/// row -m:   S_0 = u f   S_1 = v' b + w d   S_-1 = v a - w c
/// row  0:   S_0 = u e   S_1 = v c          S_-1 = v d
/// ```
fn step(level: &Level, rotation: &[[f64; 3]; 3], previous: &[f64], next: &mut [f64]) {
    let l = level.l;
    // A row that does not exist has weight zero; row 0 will stand in for it.
    let row = |m: usize, negative: bool| {
        let m = if m < l { m } else { 0 };
        let index = if negative { l - 1 - m } else { l - 1 + m };
        &previous[index * (2 * l - 1)..][..2 * l - 1]
    };
    let (lower, upper) = next.split_at_mut(l * (2 * l + 1));
    let (centre, upper) = upper.split_at_mut(2 * l + 1);
    {
        let RowWeights { u, v, .. } = level.rows[0];
        let weights = [0, 1, 2].map(|column| {
            let [minus, zero, plus] = rotation.map(|r| r[column]);
            [u * zero, v * plus, v * minus]
        });
        write_row(level, [row(0, false), row(1, false), row(1, true)], &weights, centre);
    }
    let rows = upper.chunks_exact_mut(2 * l + 1).zip(lower.chunks_exact_mut(2 * l + 1).rev());
    for (m, (positive, negative)) in (1..=l).zip(rows) {
        let RowWeights { u, v, v_negative, w } = level.rows[m];
        let [e, f] = [row(m, false), row(m, true)];
        let [a, b] = [row(m - 1, false), row(m - 1, true)];
        let weights = [0, 1, 2].map(|column| {
            let [minus, zero, plus] = rotation.map(|r| r[column]);
            (
                [u * zero, v * plus, -v_negative * minus, w * plus, w * minus],
                [u * zero, v * minus, v_negative * plus, -w * minus, w * plus],
            )
        });
        let (upper_weights, lower_weights) = (weights.map(|k| k.0), weights.map(|k| k.1));
        if m + 1 < l {
            let [c, d] = [row(m + 1, false), row(m + 1, true)];
            write_row(level, [e, a, b, c, d], &upper_weights, positive);
            write_row(level, [f, a, b, c, d], &lower_weights, negative);
        } else {
            // The rows `c` and `d` do not exist.
            let three = |k: [f64; 5]| [k[0], k[1], k[2]];
            write_row(level, [e, a, b], &upper_weights.map(three), positive);
            write_row(level, [f, a, b], &lower_weights.map(three), negative);
        }
    }
}

/// Writes one row of degree `l` as a combination of `N` rows of degree `l - 1`; the weights belong
/// to the columns -1, 0, 1 of the rotation.
#[inline]
fn write_row<const N: usize>(level: &Level, rows: [&[f64]; N], weights: &[[f64; N]; 3], out: &mut [f64]) {
    let width = 2 * level.l - 1;
    let [left, centre, right] = weights;
    // Slices of one known length: no bounds checks inside the loops, and the first one vectorises.
    let rows = rows.map(|row| &row[..width]);
    let factors = &level.interior[..width];
    let out = &mut out[..width + 2];
    for column in 0..width {
        let mut sum = rows[0][column] * centre[0];
        for k in 1..N {
            sum += rows[k][column] * centre[k];
        }
        out[column + 1] = factors[column] * sum;
    }
    let mut edges = [0.0; 2];
    for k in 0..N {
        let (first, last) = (rows[k][0], rows[k][width - 1]);
        edges[0] += first * right[k] + last * left[k];
        edges[1] += last * right[k] - first * left[k];
    }
    out[0] = level.edge * edges[0];
    out[width + 1] = level.edge * edges[1];
}
