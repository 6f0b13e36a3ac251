//! Logarithms and exponentials of rotations and of Lorentz transformations.
//!
//! **Coordinates.** An element of a Lie algebra is written by its coordinates in a fixed basis, given as matrices by
//! [`so_generators`] and [`lorentz_generators`]; the logarithm of `m` are the coordinates `c` of smallest angle with
//! `m = exp(sum_k c_k G_k)`.
//!
//! - SO(2): the angle. SO(3): the rotation vector, axis times angle. SO(n), n > 3: one coordinate per plane `(i, j)`,
//!   `i < j`, in lexicographic order, positive from axis `i` towards axis `j`. (For n = 3 that order would read
//!   `z, -y, x`; the rotation vector is what everyone uses.)
//! - SO+(1,3), on four-vectors `(t, x, y, z)` or `(E, px, py, pz)` with the metric `diag(1, -1, -1, -1)`: the
//!   rotation vector, then the rapidity vector, six in all.
//!
//! Everything is active. A matrix that is not in the group, beyond rounding, gives NaN; a matrix of another shape
//! panics. Reflections are split off first: [`split_improper`], [`split_lorentz`].

use nalgebra::{DMatrix, DVector, SymmetricEigen};
use ndarray::{Array1, Array2, array};
use num_complex::Complex64;

use super::tensors::unit_quaternion;

/// How far a matrix may be from its group before it is refused; single precision passes.
const MEMBERSHIP: f64 = 1e-5;

// ---------------------------------------------------------------------------------------------------------------
// Rotations
// ---------------------------------------------------------------------------------------------------------------

/// The standard basis of so(n), `n (n-1) / 2` matrices of shape `(n, n)`, in the order of the module's coordinates.
///
/// The generator of the plane `(i, j)` has -1 at `[i, j]` and +1 at `[j, i]`: it turns axis `i` towards axis `j`. For
/// n = 3 the three are `L_x, L_y, L_z` with `L_a v = e_a x v`.
#[must_use]
pub fn so_generators(n: usize) -> Vec<Array2<f64>> {
    planes(n)
        .into_iter()
        .map(|(i, j)| {
            let mut generator = Array2::zeros((n, n));
            generator[[i, j]] = -1.0;
            generator[[j, i]] = 1.0;
            generator
        })
        .collect()
}

/// The planes of the coordinates, each turned from its first axis towards its second.
fn planes(n: usize) -> Vec<(usize, usize)> {
    if n == 3 {
        return vec![(1, 2), (2, 0), (0, 1)];
    }
    (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect()
}

/// Writes an orthogonal matrix as `m = p F^f` with `p` proper; returns `(p, f = 1)`.
///
/// `F` is the inversion `-1` if n is odd, and `diag(1, ..., 1, -1)` if it is even, where the inversion is proper.
///
/// # Panics
/// If `m` is not square.
#[must_use]
pub fn split_improper(m: &Array2<f64>) -> (Array2<f64>, bool) {
    let n = order(m);
    let reflected = to_nalgebra(m).determinant() < 0.0;
    let mut proper = m.clone();
    if reflected {
        let first = if n % 2 == 1 { 0 } else { n - 1 };
        for column in first..n {
            proper.column_mut(column).mapv_inplace(|x| 0.0 - x);
        }
    }
    (proper, reflected)
}

/// The logarithm of a proper rotation (n x n) in the module's coordinates; all NaN if `m` is none.
///
/// Every angle is in `[-pi, pi]`. Stable everywhere: `exp(log(m))` is `m` to rounding, near the identity to a
/// relative error of rounding. At a half turn the logarithm is not unique: for n = 3 the first component of the axis
/// that is not zero is positive; for n > 3 the planes of equal half turns are arbitrary.
///
/// # Panics
/// If `m` is not square.
#[must_use]
pub fn rotation_log(m: &Array2<f64>) -> Vec<f64> {
    let n = order(m);
    let unknown = vec![f64::NAN; n * n.saturating_sub(1) / 2];
    let excess = m.t().dot(m) - Array2::<f64>::eye(n);
    let proper = to_nalgebra(m).determinant() > 0.0;
    if !proper || excess.iter().any(|e| e.is_nan() || e.abs() > MEMBERSHIP) {
        return unknown;
    }
    match n {
        0 | 1 => vec![],
        2 => vec![(m[[1, 0]] - m[[0, 1]]).atan2(m[[0, 0]] + m[[1, 1]])],
        3 => {
            let [w, v @ ..] = unit_quaternion(m);
            let sine = norm(&v);
            // The quaternion's w is not negative, so the angle is at most pi.
            let scale = if sine == 0.0 { 2.0 } else { 2.0 * sine.atan2(w) / sine };
            v.iter().map(|c| c * scale).collect()
        }
        _ => small_log(m).or_else(|| general_log(m)).unwrap_or(unknown),
    }
}

/// Close to the identity, the logarithm to a *relative* error of rounding.
fn small_log(m: &Array2<f64>) -> Option<Vec<f64>> {
    let n = m.nrows();
    let away = m - &Array2::<f64>::eye(n);
    if away.iter().map(|x| x * x).sum::<f64>() > 0.04 {
        return None;
    }
    let log = asinh_of_skew_part(&to_nalgebra(m));
    Some(planes(n).iter().map(|&(i, j)| log[(j, i)]).collect())
}

/// The logarithm of a rotation by angles up to 0.2: its skew part `a` is `sinh` of it, and
/// `asinh(a) = a - a^3/6 + 3 a^5/40 - ...`
fn asinh_of_skew_part(m: &DMatrix<f64>) -> DMatrix<f64> {
    let skew = (m - m.transpose()) / 2.0;
    let square = &skew * &skew;
    let mut power = skew.clone();
    let mut log = skew;
    let mut coefficient = 1.0;
    // 0.04 to the power 12 is 2e-17.
    for k in 1..12 {
        let k = f64::from(k);
        coefficient *= -(2.0 * k - 1.0) / (2.0 * k);
        power *= &square;
        log += &power * (coefficient / (2.0 * k + 1.0));
    }
    log
}

/// The logarithm by splitting off invariant planes, each where it is best determined.
///
/// General Schur iterations stall on clusters of eigenvalues, which is what lattice rotations have; eigenvectors of
/// symmetric matrices are always found. With `c = cos(angle)` an eigenvalue of the symmetric part and `v` its vector,
/// `v` and `m v` span an invariant plane up to rounding / sin(angle), whatever the multiplicity of `c`. What is left
/// when all sines are small is close to 1 on one subspace and to -1 on another, far apart. On the first the series
/// of [`small_log`] serves. On the second, it gives the small logarithm of `-m`, whose planes are split off by
/// falling angle, and each angle is moved by a half turn.
fn general_log(m: &Array2<f64>) -> Option<Vec<f64>> {
    let n = m.nrows();
    let matrix = to_nalgebra(m);
    let mut log = DMatrix::zeros(n, n);
    // An orthonormal basis, as columns, of what is left.
    let mut frame = DMatrix::identity(n, n);
    loop {
        let rest = frame.transpose() * &matrix * &frame;
        let (cosines, vectors) = eigen((&rest + rest.transpose()) / 2.0)?;
        let middle = (0..cosines.len()).min_by(|&a, &b| cosines[a].abs().total_cmp(&cosines[b].abs()));
        let Some(middle) = middle.filter(|&k| cosines[k].abs() < SMALL_ANGLE_COSINE) else {
            let side = |positive: bool| {
                let columns: Vec<usize> =
                    (0..cosines.len()).filter(|&k| (cosines[k] > 0.0) == positive).collect();
                &frame * vectors.select_columns(&columns)
            };
            let (near, far) = (side(true), side(false));
            log += &near * asinh_of_skew_part(&(near.transpose() * &matrix * &near)) * near.transpose();
            let opposite = asinh_of_skew_part(&-(far.transpose() * &matrix * &far));
            log += &far * less_a_half_turn(opposite)? * far.transpose();
            return Some(planes(n).iter().map(|&(i, j)| (log[(j, i)] - log[(i, j)]) / 2.0).collect());
        };
        let v = vectors.column(middle).into_owned();
        let image = &rest * &v;
        let cosine = v.dot(&image);
        let w = image - &v * cosine;
        let sine = w.norm();
        let (v, w) = (&frame * v, &frame * (w / sine));
        log += plane(&v, &w) * sine.atan2(cosine);
        frame = complement(&frame, &v, &w)?;
    }
}

/// Planes that turn by less, or by less than a half turn less this, count as close to 1 and -1: an angle of 0.2.
const SMALL_ANGLE_COSINE: f64 = 0.98;

/// For a small logarithm `x` of `-m`, the logarithm of `m`; `None` if the dimension is odd, when `m` is improper.
fn less_a_half_turn(mut x: DMatrix<f64>) -> Option<DMatrix<f64>> {
    let n = x.nrows();
    let mut log = DMatrix::zeros(n, n);
    let mut frame = DMatrix::identity(n, n);
    while frame.ncols() > 1 {
        let size = x.amax();
        let (v, w, angle) = if size == 0.0 {
            // A half turn by any plane.
            (frame.column(0).into_owned(), frame.column(1).into_owned(), 0.0)
        } else {
            // The plane of the largest angle: best determined, relative to what is left.
            let unit = &x / size;
            let (squares, vectors) = eigen(unit.transpose() * &unit)?;
            let v = vectors.column(squares.imax());
            let w = &x * v;
            let angle = w.norm();
            (&frame * v, &frame * (w / angle), angle)
        };
        log += plane(&v, &w) * (angle - std::f64::consts::PI);
        let rest = complement(&frame, &v, &w)?;
        let change = frame.transpose() * &rest;
        x = change.transpose() * x * change;
        x = (&x - x.transpose()) / 2.0;
        frame = rest;
    }
    (frame.ncols() == 0).then_some(log)
}

/// The generator of the turn from `v` towards `w`, orthonormal.
fn plane(v: &DVector<f64>, w: &DVector<f64>) -> DMatrix<f64> {
    w * v.transpose() - v * w.transpose()
}

/// An orthonormal basis of the part of `frame`'s span that is orthogonal to `v` and `w`, which lie in it.
fn complement(frame: &DMatrix<f64>, v: &DVector<f64>, w: &DVector<f64>) -> Option<DMatrix<f64>> {
    let (v, w) = (frame.transpose() * v, frame.transpose() * w);
    let (_, vectors) = eigen(&v * v.transpose() + &w * w.transpose())?;
    // The eigenvalues are 1, twice, and 0.
    let kept: Vec<usize> = (0..vectors.ncols())
        .filter(|&k| vectors.column(k).dot(&v).hypot(vectors.column(k).dot(&w)) < 0.5)
        .collect();
    Some(frame * vectors.select_columns(&kept))
}

/// Eigenvalues and eigenvectors (columns) of a symmetric matrix.
fn eigen(m: DMatrix<f64>) -> Option<(DVector<f64>, DMatrix<f64>)> {
    if m.is_empty() {
        return Some((DVector::zeros(0), m));
    }
    let steps = 1000 * m.nrows();
    let decomposition = SymmetricEigen::try_new(m, f64::EPSILON, steps)?;
    Some((decomposition.eigenvalues, decomposition.eigenvectors))
}

/// The rotation (n x n) whose logarithm has these coordinates: `exp(sum_k c_k G_k)`.
///
/// # Panics
/// If `coordinates` does not hold `n (n-1) / 2` numbers.
#[must_use]
pub fn rotation_exp(coordinates: &[f64], n: usize) -> Array2<f64> {
    let planes = planes(n);
    assert_eq!(coordinates.len(), planes.len(), "so({n}) has {} coordinates", planes.len());
    match n {
        2 => {
            let (s, c) = coordinates[0].sin_cos();
            array![[c, -s], [s, c]]
        }
        3 => {
            let vector = [coordinates[0], coordinates[1], coordinates[2]];
            let angle = norm(&vector);
            let cross = skew(vector);
            // Rodrigues' formula; 1 - cos without cancellation.
            let half = sinc(angle / 2.0);
            Array2::eye(3) + &cross * sinc(angle) + cross.dot(&cross) * (half * half / 2.0)
        }
        _ => {
            let mut log = DMatrix::zeros(n, n);
            for (&(i, j), c) in planes.iter().zip(coordinates) {
                log[(j, i)] = *c;
                log[(i, j)] = -c;
            }
            let exp = log.exp();
            Array2::from_shape_fn((n, n), |(i, j)| exp[(i, j)])
        }
    }
}

/// `sin(x) / x`.
fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// The matrix of `v x`.
fn skew([x, y, z]: [f64; 3]) -> Array2<f64> {
    array![[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]
}

/// Euclidean length, without underflow of the squares.
fn norm(v: &[f64; 3]) -> f64 {
    v[0].hypot(v[1]).hypot(v[2])
}

fn order(m: &Array2<f64>) -> usize {
    assert_eq!(m.nrows(), m.ncols(), "a square matrix is needed");
    m.nrows()
}

pub(super) fn to_nalgebra(m: &Array2<f64>) -> DMatrix<f64> {
    DMatrix::from_fn(m.nrows(), m.ncols(), |i, j| m[[i, j]])
}

// ---------------------------------------------------------------------------------------------------------------
// Lorentz transformations
// ---------------------------------------------------------------------------------------------------------------

/// The metric `diag(1, -1, -1, -1)` on `(t, x, y, z)`; also the parity transformation.
#[must_use]
pub fn metric() -> Array2<f64> {
    Array2::from_diag(&Array1::from_vec(vec![1.0, -1.0, -1.0, -1.0]))
}

/// The standard basis of so(1,3), 4 x 4 each: `J_x, J_y, J_z` (rotations), `K_x, K_y, K_z` (boosts).
///
/// `J_a` is `L_a` of [`so_generators`]`(3)` on `(x, y, z)`; `K_a` is symmetric with ones at `[0, a]` and `[a, 0]`.
#[must_use]
pub fn lorentz_generators() -> Vec<Array2<f64>> {
    let rotations = so_generators(3).into_iter().map(|l| {
        let mut generator = Array2::zeros((4, 4));
        generator.slice_mut(ndarray::s![1.., 1..]).assign(&l);
        generator
    });
    let boosts = (1..4).map(|a| {
        let mut generator = Array2::zeros((4, 4));
        generator[[0, a]] = 1.0;
        generator[[a, 0]] = 1.0;
        generator
    });
    rotations.chain(boosts).collect()
}

/// The boost by a rapidity vector (dimensionless, along x, y, z), 4 x 4, active: a particle at rest gets the velocity
/// `tanh |rapidity|`, in units of c, along `rapidity`.
#[must_use]
pub fn boost(rapidity: [f64; 3]) -> Array2<f64> {
    let size = norm(&rapidity);
    let direction = rapidity.map(|r| if size == 0.0 { 0.0 } else { r / size });
    let (sinh, versine) = (size.sinh(), 2.0 * (size / 2.0).sinh().powi(2));
    Array2::from_shape_fn((4, 4), |(i, j)| match (i, j) {
        (0, 0) => size.cosh(),
        (0, k) | (k, 0) => sinh * direction[k - 1],
        (i, j) => f64::from(u8::from(i == j)) + versine * direction[i - 1] * direction[j - 1],
    })
}

/// The inverse of a Lorentz matrix, `eta m^T eta`: no rounding.
///
/// # Panics
/// If `m` is not 4 x 4.
#[must_use]
pub fn lorentz_inverse(m: &Array2<f64>) -> Array2<f64> {
    assert_lorentz_shape(m);
    Array2::from_shape_fn((4, 4), |(i, j)| if (i == 0) == (j == 0) { m[[j, i]] } else { 0.0 - m[[j, i]] })
}

/// The size of the boost in a Lorentz matrix: `acosh |m[0,0]|`, the rapidity of a particle that was at rest.
///
/// Computed as `asinh` of the momentum given to a unit mass at rest, which loses nothing for tiny rapidities.
///
/// # Panics
/// If `m` is not 4 x 4.
#[must_use]
pub fn rapidity(m: &Array2<f64>) -> f64 {
    assert_lorentz_shape(m);
    norm(&[m[[1, 0]], m[[2, 0]], m[[3, 0]]]).asinh()
}

/// Whether `m^T eta m = eta` to `tolerance * exp(2 rapidity)`, entry by entry: products of entries of size
/// `exp(rapidity)` cancel there, and so does their rounding.
///
/// # Panics
/// If `m` is not 4 x 4.
#[must_use]
pub fn is_lorentz(m: &Array2<f64>, tolerance: f64) -> bool {
    let eta = metric();
    let excess = m.t().dot(&eta).dot(m) - eta;
    let bar = tolerance * (2.0 * rapidity(m)).exp();
    // Written so that NaN is refused.
    excess.iter().all(|e| e.abs() <= bar) && m.iter().all(|x| x.is_finite())
}

/// Whether a Lorentz matrix keeps the direction of time.
///
/// # Panics
/// If `m` is not 4 x 4.
#[must_use]
pub fn is_orthochronous(m: &Array2<f64>) -> bool {
    assert_lorentz_shape(m);
    m[[0, 0]] > 0.0
}

/// Whether a Lorentz matrix is proper, of determinant 1. (Total reflection, `-1`, is proper and reverses time.)
///
/// # Panics
/// If `m` is not 4 x 4.
#[must_use]
pub fn is_proper(m: &Array2<f64>) -> bool {
    assert_lorentz_shape(m);
    // By Cramer's rule the spatial block's determinant is det(m) times the inverse's [0, 0], which is m[0, 0]: at
    // least 1 in size, where that of a strongly boosted matrix itself would be lost to cancellation.
    let spatial = DMatrix::from_fn(3, 3, |i, j| m[[i + 1, j + 1]]).determinant();
    is_orthochronous(m) == (spatial > 0.0)
}

/// A Lorentz matrix as `m = p P^a T^b`, with `p` proper and orthochronous, parity `P = diag(1, -1, -1, -1)` and time
/// reversal `T = diag(-1, 1, 1, 1)`; returns `(p, a = 1, b = 1)`.
///
/// # Panics
/// If `m` is not 4 x 4.
#[must_use]
pub fn split_lorentz(m: &Array2<f64>) -> (Array2<f64>, bool, bool) {
    let reversal = !is_orthochronous(m);
    let parity = is_proper(m) == reversal;
    let p = Array2::from_shape_fn((4, 4), |(i, j)| {
        let flip = if j == 0 { reversal } else { parity };
        if flip { 0.0 - m[[i, j]] } else { m[[i, j]] }
    });
    (p, parity, reversal)
}

/// The proper orthochronous Lorentz matrix with these coordinates: `exp(sum_k c_k G_k)`, with the rotation vector in
/// `c[..3]`, the rapidity vector in `c[3..]`, and `G` of [`lorentz_generators`].
///
/// Through SL(2,C): with `w = rapidity - i rotation` and the Pauli matrices s, `A = exp(w.s / 2)` acts on
/// `X = t + x.s` by `A X A^+`. In closed form, `A = cosh z + (sinh z / z) w.s / 2` with `z^2 = w.w / 4`.
#[must_use]
pub fn lorentz_exp(coordinates: [f64; 6]) -> Array2<f64> {
    let c = coordinates;
    let half: [Complex64; 3] = std::array::from_fn(|k| Complex64::new(c[k + 3], -c[k]) / 2.0);
    let z = dot(&half, &half).sqrt();
    let ratio = if z.norm() < 1e-4 { 1.0 + z * z / 6.0 } else { z.sinh() / z };
    spinor_to_lorentz(z.cosh(), half.map(|h| h * ratio))
}

/// The logarithm of a proper orthochronous Lorentz matrix (4 x 4): rotation vector, then rapidity vector; all NaN if
/// `m` is none. An inverse of [`lorentz_exp`]: the principal one, `|Im sqrt(w.w)| <= pi` for the `w` defined there,
/// which is the rotation's angle where rotation and boost commute.
///
/// These are the coordinates of the *matrix* logarithm. Where rotation and boost do not commute they differ from
/// those of a boost after a rotation; see [`rapidity`] for the size of the latter.
///
/// Stable near the identity, near half turns, and to a relative error of rounding times `exp(2 rapidity)` for boosts.
///
/// # Panics
/// If `m` is not 4 x 4.
#[must_use]
pub fn lorentz_log(m: &Array2<f64>) -> [f64; 6] {
    if !is_lorentz(m, MEMBERSHIP) || !is_orthochronous(m) || !is_proper(m) {
        return [f64::NAN; 6];
    }
    let (scalar, vector) = lorentz_to_spinor(m);
    // tanh(z/2) = sinh z / (1 + cosh z); the real part of cosh z is not negative, so nothing cancels.
    let sinh = dot(&vector, &vector).sqrt();
    let z = 2.0 * atanh(sinh / (1.0 + scalar));
    let ratio = if sinh.norm() == 0.0 { Complex64::new(1.0, 0.0) } else { z / sinh };
    let w = vector.map(|a| 2.0 * a * ratio);
    [-w[0].im, -w[1].im, -w[2].im, w[0].re, w[1].re, w[2].re]
}

/// `A = a + v.s`, of determinant `a^2 - v.v = 1`, as a Lorentz matrix: `m[mu, nu] = tr(s_mu A s_nu A^+) / 2`, with
/// the products written out so that tiny components keep their digits.
fn spinor_to_lorentz(a: Complex64, v: [Complex64; 3]) -> Array2<f64> {
    let lengths: [f64; 3] = v.map(|c| c.norm_sqr());
    let total = lengths.iter().sum::<f64>();
    Array2::from_shape_fn((4, 4), |(mu, nu)| match (mu, nu) {
        (0, 0) => a.norm_sqr() + total,
        (0, k) | (k, 0) => {
            let (_, i, j) = cyclic(k - 1);
            let twist = 2.0 * (v[i] * v[j].conj()).im;
            2.0 * (a.conj() * v[k - 1]).re + if mu == 0 { twist } else { -twist }
        }
        (k, l) if k == l => a.norm_sqr() + 2.0 * lengths[k - 1] - total,
        (k, l) => {
            let (k, l) = (k - 1, l - 1);
            let third = 3 - k - l;
            let turn = 2.0 * (a.conj() * v[third]).im;
            let sign = if cyclic(third).1 == k { 1.0 } else { -1.0 };
            2.0 * (v[k] * v[l].conj()).re + sign * turn
        }
    })
}

/// The inverse of [`spinor_to_lorentz`], of the two solutions the one with `Re a >= 0`.
///
/// The 16 products `4 a_mu conj(a_nu)` are linear in the matrix; the column of the largest component gives them all
/// up to a phase, which the determinant fixes.
fn lorentz_to_spinor(m: &Array2<f64>) -> (Complex64, [Complex64; 3]) {
    let products = |mu: usize, nu: usize| -> Complex64 {
        match (mu, nu) {
            (0, 0) => (m[[0, 0]] + m[[1, 1]] + m[[2, 2]] + m[[3, 3]]).into(),
            (0, k) | (k, 0) => {
                let (_, i, j) = cyclic(k - 1);
                let im = m[[i + 1, j + 1]] - m[[j + 1, i + 1]];
                Complex64::new(m[[0, k]] + m[[k, 0]], if nu == 0 { im } else { -im })
            }
            (k, l) if k == l => (m[[0, 0]] + 2.0 * m[[k, k]] - m[[1, 1]] - m[[2, 2]] - m[[3, 3]]).into(),
            (k, l) => {
                let third = 6 - k - l;
                let sign = if cyclic(third - 1).1 == k - 1 { 1.0 } else { -1.0 };
                Complex64::new(m[[k, l]] + m[[l, k]], sign * (m[[0, third]] - m[[third, 0]]))
            }
        }
    };
    let largest = (0..4).max_by(|&a, &b| products(a, a).re.total_cmp(&products(b, b).re)).unwrap_or(0);
    let column: [Complex64; 4] = std::array::from_fn(|mu| products(mu, largest));
    let [a, v @ ..] = column;
    let root = (a * a - dot(&v, &v)).sqrt();
    let (a, v) = (a / root, v.map(|c| c / root));
    if a.re < 0.0 { (-a, v.map(|c| -c)) } else { (a, v) }
}

/// `k` and the two axes after it, in cyclic order.
fn cyclic(k: usize) -> (usize, usize, usize) {
    (k, (k + 1) % 3, (k + 2) % 3)
}

/// The bilinear product, without conjugation.
fn dot(a: &[Complex64; 3], b: &[Complex64; 3]) -> Complex64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Inverse hyperbolic tangent with a small relative error near zero, which the logarithmic formula lacks.
fn atanh(t: Complex64) -> Complex64 {
    let (x, y) = (t.re, t.im);
    let re = (4.0 * x / ((1.0 - x) * (1.0 - x) + y * y)).ln_1p() / 4.0;
    let im = (2.0 * y).atan2((1.0 - x) * (1.0 + x) - y * y) / 2.0;
    Complex64::new(re, im)
}

fn assert_lorentz_shape(m: &Array2<f64>) {
    assert_eq!(m.dim(), (4, 4), "a 4x4 matrix is needed");
}
