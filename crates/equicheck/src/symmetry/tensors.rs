//! Matrices by which an element acts on tensors other than vectors: Voigt six-vectors, orientation quaternions,
//! planar irreps by frequency, covectors, weights; and coordinates in a lattice.
//!
//! Everything is active. Matrices act on column vectors from the left. Where a function takes a rotation and is
//! given an improper matrix, it returns NaN: split the reflection off first with
//! [`split_improper`](super::lie::split_improper). A matrix of another shape is a slip of the caller's and panics.

use nalgebra::DMatrix;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, array};
use num_complex::Complex64;
use thiserror::Error;

use super::wigner::{determinant, to_rows};

/// A matrix that an operation cannot use.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum MatrixError {
    /// The shape does not fit.
    #[error("{what} has shape {shape:?}, expected {expected}")]
    Shape {
        /// e.g. "the cell".
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// What fits, in words.
        expected: String,
    },

    /// Not invertible: an exact zero, a rank lost to rounding, or an entry that is not finite.
    #[error("{what} is singular or not finite, so {consequence}: {help}")]
    Singular {
        /// e.g. "the cell".
        what: &'static str,
        /// What cannot be computed.
        consequence: &'static str,
        /// What to do.
        help: &'static str,
    },
}

// ---------------------------------------------------------------------------------------------------------------
// Voigt notation
// ---------------------------------------------------------------------------------------------------------------

/// What the six components of [`voigt`] stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Voigt {
    /// The tensor's own components: `s_yz` and so on.
    Stress,
    /// Engineering strain: off-diagonal components doubled, `gamma_yz = 2 e_yz` and so on.
    Strain,
}

/// The index pairs of the six components: xx, yy, zz, yz, xz, xy, as in ASE.
pub const VOIGT_PAIRS: [(usize, usize); 6] = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)];

/// The 6 x 6 matrix by which `m` (3 x 3) acts on a symmetric tensor in Voigt notation, `s -> m s m^T`.
///
/// The components are those of [`VOIGT_PAIRS`]. For orthogonal `m` the two kinds are inverse transposes of each
/// other, so that the work `stress . strain` (the plain product of the six-vectors, which equals the contraction
/// `sum_ij s_ij e_ij` because the strain's shears are doubled) is invariant. Neither is orthogonal by itself: the
/// norm of a Voigt six-vector is not that of the tensor.
///
/// # Panics
/// If `m` is not 3 x 3.
#[must_use]
pub fn voigt(m: &Array2<f64>, kind: Voigt) -> Array2<f64> {
    let m = to_rows(&m.view());
    // The factor between a Voigt component and the tensor's entry.
    let weight = |(i, j): (usize, usize)| if kind == Voigt::Strain && i != j { 2.0 } else { 1.0 };
    Array2::from_shape_fn((6, 6), |(row, column)| {
        let ((i, j), (k, l)) = (VOIGT_PAIRS[row], VOIGT_PAIRS[column]);
        // s_kl and s_lk are one component.
        let once = m[i][k] * m[j][l];
        let entry = if k == l { once } else { once + m[i][l] * m[j][k] };
        entry * (weight((i, j)) / weight((k, l)))
    })
}

// ---------------------------------------------------------------------------------------------------------------
// Quaternions
// ---------------------------------------------------------------------------------------------------------------

/// The unit quaternion `(w, x, y, z)` of a proper rotation (3 x 3), with the [`canonical_sign`].
///
/// `w = cos(a/2)`, `(x, y, z) = sin(a/2)` times the axis. Accurate to rounding at every angle: the largest component
/// is taken from the diagonal and the others from it (Shepperd, J. Guidance and Control 1, 223 (1978)). All NaN if
/// the determinant is not positive.
///
/// # Panics
/// If `m` is not 3 x 3.
#[must_use]
pub fn unit_quaternion(m: &Array2<f64>) -> [f64; 4] {
    let m = to_rows(&m.view());
    if determinant(&m).is_nan() || determinant(&m) <= 0.0 {
        return [f64::NAN; 4];
    }
    // Row c holds 4 q_c q: the diagonal has the squares.
    let trace = m[0][0] + m[1][1] + m[2][2];
    let squares =
        [1.0 + trace, 1.0 + 2.0 * m[0][0] - trace, 1.0 + 2.0 * m[1][1] - trace, 1.0 + 2.0 * m[2][2] - trace];
    let largest = (0..4).max_by(|&a, &b| squares[a].total_cmp(&squares[b])).unwrap_or(0);
    let skew = [m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]];
    let q = match largest {
        0 => [squares[0], skew[0], skew[1], skew[2]],
        1 => [skew[0], squares[1], m[0][1] + m[1][0], m[0][2] + m[2][0]],
        2 => [skew[1], m[0][1] + m[1][0], squares[2], m[1][2] + m[2][1]],
        _ => [skew[2], m[0][2] + m[2][0], m[1][2] + m[2][1], squares[3]],
    };
    let norm = q.iter().map(|c| c * c).sum::<f64>().sqrt();
    canonical_sign(q.map(|c| c / norm))
}

/// Of `q` and `-q`, which are one orientation, the one whose first component that is not zero, in the order
/// (w, x, y, z), is positive.
///
/// Discontinuous where `w` changes sign, as any such rule must be: compare quaternions up to sign, and use this for
/// printing and for counting orientations.
#[must_use]
pub fn canonical_sign(q: [f64; 4]) -> [f64; 4] {
    match q.iter().find(|c| **c != 0.0) {
        // Adding 0 turns -0 into 0.
        Some(first) if *first < 0.0 => q.map(|c| 0.0 - c),
        _ => q.map(|c| c + 0.0),
    }
}

/// The 4 x 4 orthogonal matrix of `q -> q_m q` on quaternions `(w, x, y, z)`, for a proper rotation `m` (3 x 3).
///
/// `q_m` is [`unit_quaternion`]`(m)`. An orientation, the rotation from the body's frame to the laboratory's, is
/// multiplied from the left when the laboratory turns. As `q_m` is defined up to sign, so is this matrix: products
/// hold up to sign, `L(m n) = ± L(m) L(n)`, and outputs must be compared up to sign. All NaN if `m` is improper.
///
/// # Panics
/// If `m` is not 3 x 3.
#[must_use]
pub fn quaternion(m: &Array2<f64>) -> Array2<f64> {
    let [w, x, y, z] = unit_quaternion(m);
    array![[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]
}

/// As [`quaternion`], on quaternions in scipy's order `(x, y, z, w)`.
///
/// # Panics
/// If `m` is not 3 x 3.
#[must_use]
pub fn quaternion_xyzw(m: &Array2<f64>) -> Array2<f64> {
    let left = quaternion(m);
    Array2::from_shape_fn((4, 4), |(i, j)| left[[(i + 1) % 4, (j + 1) % 4]])
}

// ---------------------------------------------------------------------------------------------------------------
// Planar irreps, phases, weights
// ---------------------------------------------------------------------------------------------------------------

/// The irrep of frequency `k` of SO(2) or O(2), for an orthogonal `m` (2 x 2).
///
/// Every such matrix is `m = R(a) F^f` with `R(a) = [[cos a, -sin a], [sin a, cos a]]`, `F = diag(1, -1)` and
/// `f = 1` if the determinant is negative. Then
///
/// - `k = 0`: the trivial representation, `[[1]]`; its other extension to reflections is [`pseudoscalar`];
/// - `k >= 1`: `R(k a) F^f`, 2 x 2. `k = 1` is `m` itself.
///
/// This is escnn's basis: if `m = irrep(1, 1)(g)` for `g` in `o2_group()`, this is `irrep(1, k)(g)`, and on
/// rotations `so2_group().irrep(k)`. escnn's *base space* may be another frame: `flipRot2dOnR2(-1)` reflects, by
/// default, in the vertical axis, `f` being `diag(-1, 1)` there. In general it acts on the plane by
/// `B(g) = R(c) irrep(1, 1)(g) R(-c)`, `c` its `axis`, and so the irrep for the geometric matrix `B(g)` is
/// `R(k c) irrep(1, k)(g) R(-k c)`: the same representation in a frame that is turned by `k c`.
///
/// Computed as a power of `cos a + i sin a`, without angles: quarter turns stay exact.
///
/// # Panics
/// If `m` is not 2 x 2.
#[must_use]
pub fn frequency(m: &Array2<f64>, k: usize) -> Array2<f64> {
    let (turn, reflected) = planar(m);
    if k == 0 {
        return array![[1.0]];
    }
    let Complex64 { re: c, im: s } = power(turn, k);
    if reflected { array![[c, s], [s, -c]] } else { array![[c, -s], [s, c]] }
}

/// The one-dimensional representation `det(m)` of O(2), `[[1]]` or `[[-1]]`: escnn's `irrep(1, 0)`.
///
/// # Panics
/// If `m` is not 2 x 2.
#[must_use]
pub fn pseudoscalar(m: &Array2<f64>) -> Array2<f64> {
    array![[if planar(m).1 { -1.0 } else { 1.0 }]]
}

/// `m = R(a) F^f` as `(exp(i a), f = 1)`.
fn planar(m: &Array2<f64>) -> (Complex64, bool) {
    assert_eq!(m.dim(), (2, 2), "a 2x2 matrix is needed");
    let reflected = m[[0, 0]] * m[[1, 1]] < m[[0, 1]] * m[[1, 0]];
    let sign = if reflected { -1.0 } else { 1.0 };
    let turn = Complex64::new(m[[0, 0]] + sign * m[[1, 1]], m[[1, 0]] - sign * m[[0, 1]]);
    // Normalised, or the powers would grow with the departure from orthogonality.
    (turn / turn.norm(), reflected)
}

/// `z^k` by repeated squaring.
fn power(z: Complex64, mut k: usize) -> Complex64 {
    let (mut result, mut square) = (Complex64::new(1.0, 0.0), z);
    while k > 0 {
        if k & 1 == 1 {
            result *= square;
        }
        square *= square;
        k >>= 1;
    }
    result
}

/// `exp(i charge theta)`: what U(1)'s element `theta` (radians) does to a field of this charge.
///
/// The charge is an integer: only then is this a representation of U(1), single-valued at `theta = 2 pi`.
#[must_use]
pub fn complex_phase(charge: i32, theta: f64) -> Complex64 {
    Complex64::cis(f64::from(charge) * theta)
}

/// `s^k`: what a dilation by `s > 0` does to a quantity of weight `k`, such as 1 for a length, -2 for its inverse
/// square. Any real `k` gives a representation.
#[must_use]
pub fn scale_weight(s: f64, k: f64) -> f64 {
    // Exact where it can be: `powf` need not be.
    if k.fract() == 0.0 && k.abs() <= 1024.0 { s.powi(k as i32) } else { s.powf(k) }
}

// ---------------------------------------------------------------------------------------------------------------
// Covectors
// ---------------------------------------------------------------------------------------------------------------

/// `m^-T`: how covectors (gradients, reciprocal vectors) transform when vectors transform by `m` (n x n), so that
/// `<m^-T w, m v> = <w, v>`.
///
/// For an orthogonal matrix the result is `m`, to the last bit. For a Lorentz matrix prefer `eta m eta` (see
/// [`lorentz_inverse`](super::lie::lorentz_inverse)), which has no rounding at all.
///
/// # Errors
/// If `m` is not square, or singular to working precision, or not finite.
pub fn inverse_transpose(m: &Array2<f64>) -> Result<Array2<f64>, MatrixError> {
    let n = square("the matrix", &m.view())?;
    let singular = MatrixError::Singular {
        what: "the matrix",
        consequence: "it has no action on covectors",
        help: "give an invertible matrix",
    };
    let excess = m.t().dot(m) - Array2::<f64>::eye(n);
    if excess.iter().all(|e| e.abs() <= 4.0 * (n as f64) * f64::EPSILON) {
        return Ok(m.clone());
    }
    Ok(inverse(m, singular)?.reversed_axes())
}

/// The order of a square matrix.
fn square(what: &'static str, m: &ArrayView2<f64>) -> Result<usize, MatrixError> {
    if m.nrows() == m.ncols() {
        return Ok(m.nrows());
    }
    let expected = "a square matrix".to_owned();
    Err(MatrixError::Shape { what, shape: m.shape().to_vec(), expected })
}

/// The inverse by LU; `singular` if the condition number leaves no digit.
fn inverse(m: &Array2<f64>, singular: MatrixError) -> Result<Array2<f64>, MatrixError> {
    let n = m.nrows();
    // Rows of one size, or a lattice with vectors of 1 and 1e-20 would count as singular.
    let scales: Vec<f64> =
        m.rows().into_iter().map(|row| row.iter().fold(0.0, |a: f64, b| a.max(b.abs()))).collect();
    let regular = |x: f64| x.is_finite() && x > 0.0;
    if !scales.iter().all(|s| regular(*s)) || m.iter().any(|x| !x.is_finite()) {
        return Err(singular);
    }
    let scaled = DMatrix::from_fn(n, n, |i, j| m[[i, j]] / scales[i]);
    let norm = |a: &DMatrix<f64>| a.iter().fold(0.0, |s: f64, x| s.max(x.abs()));
    let Some(inverse) = scaled.clone().lu().try_inverse() else { return Err(singular) };
    let condition = norm(&scaled) * norm(&inverse);
    if !condition.is_finite() || condition * f64::EPSILON > 0.1 {
        return Err(singular);
    }
    Ok(Array2::from_shape_fn((n, n), |(i, j)| inverse[(i, j)] / scales[j]))
}

// ---------------------------------------------------------------------------------------------------------------
// Lattices
// ---------------------------------------------------------------------------------------------------------------

/// Fractional coordinates: the `f` with `x = f cell`, row by row.
///
/// `points` is `(N, n)`; `cell` is `(n, n)` with the lattice vectors as rows, as in ASE and pymatgen.
///
/// # Errors
/// If the shapes do not fit, or the cell is singular.
pub fn cartesian_to_fractional(points: &Array2<f64>, cell: &Array2<f64>) -> Result<Array2<f64>, MatrixError> {
    let inverse = inverse_cell(points, cell)?;
    Ok(points.dot(&inverse))
}

/// Cartesian coordinates `x = f cell`, row by row; shapes as in [`cartesian_to_fractional`].
///
/// # Errors
/// If the shapes do not fit, or the cell is singular.
pub fn fractional_to_cartesian(
    fractional: &Array2<f64>,
    cell: &Array2<f64>,
) -> Result<Array2<f64>, MatrixError> {
    inverse_cell(fractional, cell)?;
    Ok(fractional.dot(cell))
}

/// The shortest representatives of `differences` (Cartesian, `(N, n)`) modulo the lattice whose vectors are the rows
/// of `cell` (`(n, n)`, periodic along all).
///
/// Rounding the fractional coordinates to the nearest integers is not enough when the cell is skewed. The cell is
/// first reduced (the same lattice, shorter vectors), the rounded difference then compared with every image that can
/// be shorter: an image of length at most `d` has fractional coordinates at most `d` times the lengths of the
/// reciprocal vectors. The result is the true minimum; of equally short images (to a relative 1e-12, as at half
/// a cell) it is the difference itself where that is one of them, otherwise any: compare lengths there. What is not
/// finite, or too long for its digits to resolve the cell, gives NaN.
///
/// # Errors
/// If the shapes do not fit, or the cell is singular.
pub fn wrap_difference(differences: &Array2<f64>, cell: &Array2<f64>) -> Result<Array2<f64>, MatrixError> {
    inverse_cell(differences, cell)?;
    let reduced = reduce(cell);
    let inverse = inverse_cell(differences, &reduced)?;
    // Column i of the inverse is the i-th reciprocal vector.
    let reciprocal: Vec<f64> = inverse.columns().into_iter().map(|c| c.dot(&c).sqrt()).collect();
    let mut wrapped = differences.clone();
    for mut row in wrapped.rows_mut() {
        let shortest = shortest_image(&row.view(), &reduced, &inverse, &reciprocal);
        row.assign(&shortest);
    }
    Ok(wrapped)
}

fn inverse_cell(points: &Array2<f64>, cell: &Array2<f64>) -> Result<Array2<f64>, MatrixError> {
    let n = square("the cell", &cell.view())?;
    if points.ncols() != n {
        let expected = format!("(N, {n}), one row per point in the cell's dimension");
        return Err(MatrixError::Shape {
            what: "the array of points",
            shape: points.shape().to_vec(),
            expected,
        });
    }
    let singular = MatrixError::Singular {
        what: "the cell",
        consequence: "its vectors span no lattice",
        help: "give linearly independent lattice vectors as rows, also along directions that are not periodic",
    };
    inverse(cell, singular)
}

/// A basis of the same lattice from which no vector can be shortened by adding the others with coefficients -1, 0, 1.
fn reduce(cell: &Array2<f64>) -> Array2<f64> {
    let n = cell.nrows();
    let mut basis = cell.clone();
    let squared = |v: &Array1<f64>| v.dot(v);
    // Each change shortens a vector by a fixed factor at least, so this ends; the bound is for rounding.
    for _ in 0..10_000 {
        let mut changed = false;
        for i in 0..n {
            for j in (0..n).filter(|j| *j != i) {
                let (a, b) = (basis.row(i).to_owned(), basis.row(j).to_owned());
                let shorter = &a - &b * (a.dot(&b) / squared(&b)).round();
                if squared(&shorter) < squared(&a) * (1.0 - 1e-9) {
                    basis.row_mut(i).assign(&shorter);
                    changed = true;
                }
            }
            let others: Vec<usize> = (0..n).filter(|j| *j != i).collect();
            let bounds = vec![(-1_i64, 1_i64); others.len()];
            let mut best = basis.row(i).to_owned();
            for_each_integer_point(&bounds, |coefficients| {
                let mut candidate = basis.row(i).to_owned();
                for (j, c) in others.iter().zip(coefficients) {
                    candidate.scaled_add(*c as f64, &basis.row(*j));
                }
                if squared(&candidate) < squared(&best) * (1.0 - 1e-9) {
                    best = candidate;
                    changed = true;
                }
            });
            basis.row_mut(i).assign(&best);
        }
        if !changed {
            break;
        }
    }
    basis
}

fn shortest_image(
    difference: &ArrayView1<f64>,
    cell: &Array2<f64>,
    inverse: &Array2<f64>,
    reciprocal: &[f64],
) -> Array1<f64> {
    let rounded = difference.dot(inverse).mapv(f64::round);
    let start = difference - &rounded.dot(cell);
    let length = start.dot(&start).sqrt();
    // Beyond 2^50 cells no digit says where in the cell; and rounding leaves half of each vector at most.
    let longest: f64 = cell.rows().into_iter().map(|row| row.dot(&row).sqrt()).sum();
    let resolved = rounded.iter().all(|r| r.abs() < 1e15) && length <= longest;
    if !resolved {
        return Array1::from_elem(cell.nrows(), f64::NAN);
    }
    let fraction = start.dot(inverse);
    let bounds: Vec<(i64, i64)> = fraction
        .iter()
        .zip(reciprocal)
        .map(|(f, r)| {
            let reach = length * r * (1.0 + 1e-9);
            ((-reach - f).ceil() as i64, (reach - f).floor() as i64)
        })
        .collect();
    let mut best = start.clone();
    for_each_integer_point(&bounds, |shift| {
        let mut candidate = start.clone();
        for (row, c) in cell.rows().into_iter().zip(shift) {
            candidate.scaled_add(*c as f64, &row);
        }
        if candidate.dot(&candidate) < best.dot(&best) * (1.0 - 1e-12) {
            best = candidate;
        }
    });
    // Where nothing needs to be wrapped, nothing is rounded.
    if difference.dot(difference) <= best.dot(&best) * (1.0 + 1e-12) { difference.to_owned() } else { best }
}

/// Visits every integer point of a box, both bounds included.
fn for_each_integer_point(bounds: &[(i64, i64)], mut visit: impl FnMut(&[i64])) {
    if bounds.iter().any(|(low, high)| low > high) {
        return;
    }
    let mut point: Vec<i64> = bounds.iter().map(|b| b.0).collect();
    loop {
        visit(&point);
        let Some(axis) = (0..point.len()).rev().find(|&a| point[a] < bounds[a].1) else { return };
        point[axis] += 1;
        for later in axis + 1..point.len() {
            point[later] = bounds[later].0;
        }
    }
}
