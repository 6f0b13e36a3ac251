//! An element of a group: what it does to space and to each permuted axis.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use ndarray::{Array1, Array2};

use super::finite::FiniteGroup;
use super::lie;

/// An element: a matrix on space, a translation, one permutation per permuted axis, and what it is in the other
/// factors of the group.
///
/// Acts on points as `v -> g v + t` (active) and along a permuted axis as `x'[i] = x[p[i]]`. The product
/// [`compose`](Element::compose) is the one for which every representation is a homomorphism:
/// `(g, t)(h, s) = (g h, g s + t)` and `(p.q)[i] = q[p[i]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    linear: Array2<f64>,
    geometry: Geometry,
    translation: Array1<f64>,
    permutations: BTreeMap<String, Vec<usize>>,
    shifts: BTreeMap<String, f64>,
    finite: Option<(Arc<FiniteGroup>, usize)>,
    sign: f64,
    phase: f64,
    scale: f64,
    wraps: bool,
    custom: Option<u64>,
}

/// What the matrix preserves, which decides how it is inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Geometry {
    /// Orthogonal: the inverse is the transpose.
    Euclidean,
    /// Lorentz: the inverse is `eta g^T eta`.
    Minkowski,
    /// Any invertible matrix.
    General,
}

impl Default for Element {
    /// The identity of a group that acts on nothing.
    fn default() -> Self {
        Self::identity(0, &BTreeMap::new())
    }
}

impl Element {
    /// The identity on a space of the given dimension (0 if the group does not act on space) and on axes of the
    /// given lengths.
    pub fn identity(dimension: usize, axes: &BTreeMap<String, usize>) -> Self {
        Self {
            linear: Array2::eye(dimension),
            geometry: Geometry::Euclidean,
            translation: Array1::zeros(dimension),
            permutations: axes.iter().map(|(axis, n)| (axis.clone(), (0..*n).collect())).collect(),
            shifts: BTreeMap::new(),
            finite: None,
            sign: 1.0,
            phase: 0.0,
            scale: 1.0,
            wraps: false,
            custom: None,
        }
    }

    /// The same element with another orthogonal matrix `g`, `n x n`.
    #[must_use]
    pub fn with_linear(mut self, linear: Array2<f64>) -> Self {
        self.linear = linear;
        self.geometry = Geometry::Euclidean;
        self
    }

    /// The same element with a Lorentz transformation of (t, x, y, z), `4 x 4`.
    #[must_use]
    pub fn with_lorentz(mut self, linear: Array2<f64>) -> Self {
        self.linear = linear;
        self.geometry = Geometry::Minkowski;
        self
    }

    /// The same element with any invertible matrix, `n x n`.
    #[must_use]
    pub fn with_general(mut self, linear: Array2<f64>) -> Self {
        self.geometry = if is_orthogonal(&linear) { Geometry::Euclidean } else { Geometry::General };
        self.linear = linear;
        self
    }

    /// The same element with element `index` of a finite group, and that one's matrix if the group acts on space.
    #[must_use]
    pub fn with_finite(mut self, group: Arc<FiniteGroup>, index: usize) -> Self {
        if let Some(matrix) = group.matrix(index) {
            let matrix = matrix.clone();
            self = self.with_general(matrix);
            if self.translation.is_empty() {
                self.translation = Array1::zeros(self.linear.nrows());
            }
        }
        self.finite = Some((group, index));
        self
    }

    /// The same element with another translation `t`, length `n`; pixels on grids.
    #[must_use]
    pub fn with_translation(mut self, translation: Array1<f64>) -> Self {
        self.translation = translation;
        self
    }

    /// The same element with a shift by `pixels` along one axis of a grid, towards higher indices.
    #[must_use]
    pub fn with_shift(mut self, axis: &str, pixels: f64) -> Self {
        self.shifts.insert(axis.to_owned(), pixels);
        self
    }

    /// The same element with another permutation `p` along `axis`.
    #[must_use]
    pub fn with_permutation(mut self, axis: &str, permutation: Vec<usize>) -> Self {
        self.permutations.insert(axis.to_owned(), permutation);
        self
    }

    /// The same element with another element of `Z2`, 1 or -1.
    #[must_use]
    pub fn with_sign(mut self, sign: f64) -> Self {
        self.sign = sign;
        self
    }

    /// The same element with another angle of U(1), in radian.
    #[must_use]
    pub fn with_phase(mut self, phase: f64) -> Self {
        self.phase = phase;
        self
    }

    /// The same element with another dilation, by a positive factor.
    #[must_use]
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// The same element, which afterwards brings coordinates in or modulo a lattice back into the home cell: another
    /// representative of the same points.
    #[must_use]
    pub fn with_wrapping(mut self) -> Self {
        self.wraps = true;
        self
    }

    /// Whether it brings coordinates in or modulo a lattice back into the home cell.
    pub fn wraps(&self) -> bool {
        self.wraps
    }

    /// An element of the user's own functions, known to them by `key`.
    #[must_use]
    pub fn with_custom(mut self, key: u64) -> Self {
        self.custom = Some(key);
        self
    }

    /// The key by which the user's own functions know it.
    pub fn custom(&self) -> Option<u64> {
        self.custom
    }

    /// The finite group and the number of the element in it.
    pub fn finite(&self) -> Option<(&FiniteGroup, usize)> {
        self.finite.as_ref().map(|(group, index)| (&**group, *index))
    }

    /// The shift along an axis of a grid, in pixels towards higher indices.
    pub fn shift(&self, axis: &str) -> f64 {
        self.shifts.get(axis).copied().unwrap_or(0.0)
    }

    /// The element of `Z2`: 1 or -1.
    pub fn sign(&self) -> f64 {
        self.sign
    }

    /// The angle of U(1), in radian.
    pub fn phase(&self) -> f64 {
        self.phase
    }

    /// The dilation's factor.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether its matrix is not the identity.
    pub fn turns(&self) -> bool {
        self.linear != Array2::<f64>::eye(self.linear.nrows())
    }

    /// Whether it changes no length: neither a boost nor a dilation nor another matrix that is not orthogonal.
    pub fn preserves_norms(&self) -> bool {
        self.geometry == Geometry::Euclidean && self.scale == 1.0
    }

    /// The inverse of its matrix, `n x n`.
    pub fn linear_inverse(&self) -> Array2<f64> {
        match self.geometry {
            Geometry::Euclidean => self.linear.t().to_owned(),
            Geometry::Minkowski => lie::lorentz_inverse(&self.linear),
            Geometry::General => general_inverse(&self.linear),
        }
    }

    /// Coordinates in the Lie algebra of the part that is connected to the identity: the matrix logarithm in the basis of
    /// [`lie`](super::lie) (the angle for n = 2, the rotation vector for n = 3, rotation and rapidity for Lorentz
    /// groups), an improper element taken after its reflection. `None` for matrices of neither kind.
    pub fn lie_algebra(&self) -> Option<Vec<f64>> {
        match self.geometry {
            Geometry::Euclidean => Some(lie::rotation_log(&lie::split_improper(&self.linear).0)),
            Geometry::Minkowski => Some(lie::lorentz_log(&lie::split_lorentz(&self.linear).0).to_vec()),
            Geometry::General => None,
        }
    }

    /// The defining representation's matrix `g`, `n x n`.
    pub fn linear(&self) -> &Array2<f64> {
        &self.linear
    }

    /// The translation `t`, length `n`.
    pub fn translation(&self) -> &Array1<f64> {
        &self.translation
    }

    /// The permutation `p` along `axis`, if the group permutes it.
    pub fn permutation(&self, axis: &str) -> Option<&[usize]> {
        self.permutations.get(axis).map(Vec::as_slice)
    }

    /// Whether this is the identity, exactly.
    pub fn is_identity(&self) -> bool {
        self.linear == Array2::<f64>::eye(self.linear.nrows())
            && self.translation.iter().all(|t| *t == 0.0)
            && self.permutations.values().all(|p| is_identity(p))
            && self.shifts.values().all(|s| *s == 0.0)
            && self.finite.as_ref().is_none_or(|(group, index)| *index == group.identity())
            && self.sign == 1.0
            && self.phase == 0.0
            && self.scale == 1.0
            && !self.wraps
            && self.custom.is_none()
    }

    /// A number that tells elements of one run apart.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The axes that it permutes.
    pub fn permuted_axes(&self) -> impl Iterator<Item = &str> {
        self.permutations.keys().map(String::as_str)
    }

    /// Whether the two have a product: matrices and permutations of equal sizes, of one finite group.
    pub fn is_composable(&self, other: &Self) -> bool {
        let axes = self.permutations.iter().all(|(axis, p)| {
            let q = other.permutations.get(axis);
            q.is_none_or(|q| q.len() == p.len())
        });
        let finite = match (&self.finite, &other.finite) {
            (Some((a, _)), Some((b, _))) => Arc::ptr_eq(a, b) || a == b,
            _ => true,
        };
        axes && finite
            && self.linear.dim() == other.linear.dim()
            && self.translation.len() == other.translation.len()
    }

    /// By how much a boost enlarges rounding: products of entries of size `exp(rapidity)` cancel. 1 without one.
    pub(crate) fn stretch(&self) -> f64 {
        match self.geometry {
            Geometry::Minkowski => (2.0 * lie::rapidity(&lie::split_lorentz(&self.linear).0)).exp(),
            Geometry::Euclidean | Geometry::General => 1.0,
        }
    }

    /// Determinant of `g`; exactly 1 or -1 where the group preserves a metric.
    pub fn determinant(&self) -> f64 {
        let determinant = lie::to_nalgebra(&self.linear).determinant();
        match self.geometry {
            Geometry::General if (determinant.abs() - 1.0).abs() > 1e-9 => determinant,
            _ if determinant < 0.0 => -1.0,
            _ => 1.0,
        }
    }

    /// The product `self . other`: first `other` acts, then `self`. An axis that one of them lacks is not permuted
    /// by it.
    #[must_use]
    pub fn compose(&self, other: &Self) -> Self {
        let mut permutations = other.permutations.clone();
        for (axis, p) in &self.permutations {
            let product = match other.permutations.get(axis) {
                Some(q) => p.iter().map(|&i| q[i]).collect(),
                None => p.clone(),
            };
            permutations.insert(axis.clone(), product);
        }
        let mut shifts = other.shifts.clone();
        for (axis, pixels) in &self.shifts {
            *shifts.entry(axis.clone()).or_insert(0.0) += pixels;
        }
        let finite = match (&self.finite, &other.finite) {
            (Some((group, a)), Some((_, b))) => Some((Arc::clone(group), group.multiply(*a, *b))),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let geometry = match (self.geometry, other.geometry) {
            (a, b) if a == b => a,
            (Geometry::General, _) | (_, Geometry::General) => Geometry::General,
            // The one of them is the identity of no geometry in particular.
            _ => Geometry::Minkowski,
        };
        // Products in a finite group are read off its table: no rounding piles up.
        let listed = finite.as_ref().and_then(|(group, index)| group.matrix(*index)).cloned();
        Self {
            linear: listed.unwrap_or_else(|| self.linear.dot(&other.linear)),
            geometry,
            translation: self.linear.dot(&other.translation) + &self.translation,
            permutations,
            shifts,
            finite,
            sign: self.sign * other.sign,
            phase: self.phase + other.phase,
            scale: self.scale * other.scale,
            wraps: self.wraps || other.wraps,
            custom: None,
        }
    }

    /// The inverse element; `custom` elements have none that the library knows.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let linear = self.linear_inverse();
        Self {
            translation: -linear.dot(&self.translation),
            linear,
            geometry: self.geometry,
            permutations: self
                .permutations
                .iter()
                .map(|(axis, p)| (axis.clone(), inverse_permutation(p)))
                .collect(),
            shifts: self.shifts.iter().map(|(axis, pixels)| (axis.clone(), -pixels)).collect(),
            finite: self.finite.as_ref().map(|(group, index)| (Arc::clone(group), group.inverse(*index))),
            sign: self.sign,
            phase: -self.phase,
            scale: 1.0 / self.scale,
            wraps: self.wraps,
            custom: None,
        }
    }
}

impl Hash for Element {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for value in self.linear.iter().chain(&self.translation) {
            // -0 and 0 are one number.
            (value + 0.0).to_bits().hash(hasher);
        }
        self.permutations.hash(hasher);
        for (axis, pixels) in &self.shifts {
            (axis, (pixels + 0.0).to_bits()).hash(hasher);
        }
        (self.finite.as_ref().map(|(_, index)| *index), self.wraps, self.custom).hash(hasher);
        [self.sign, self.phase + 0.0, self.scale].map(f64::to_bits).hash(hasher);
    }
}

/// Inverse of an invertible matrix; not-a-number for a singular one.
pub(crate) fn general_inverse(matrix: &Array2<f64>) -> Array2<f64> {
    let inverse = lie::to_nalgebra(matrix).try_inverse();
    Array2::from_shape_fn(matrix.dim(), |(i, j)| inverse.as_ref().map_or(f64::NAN, |m| m[(i, j)]))
}

fn is_orthogonal(matrix: &Array2<f64>) -> bool {
    let n = matrix.nrows();
    let excess = matrix.t().dot(matrix) - Array2::<f64>::eye(n);
    excess.iter().all(|v| v.abs() <= 1e-12)
}

/// `argsort(p)`: the permutation `q` with `q[p[i]] = i`.
pub(crate) fn inverse_permutation(p: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; p.len()];
    for (i, &target) in p.iter().enumerate() {
        inverse[target] = i;
    }
    inverse
}

fn is_identity(p: &[usize]) -> bool {
    p.iter().enumerate().all(|(i, &target)| i == target)
}

impl fmt::Display for Element {
    /// In words, parts that do nothing left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let n = self.linear.nrows();
        if self.linear != Array2::<f64>::eye(n) {
            parts.push(match self.geometry {
                Geometry::Euclidean => describe_linear(&self.linear, self.determinant()),
                Geometry::Minkowski => describe_lorentz(&self.linear),
                Geometry::General => {
                    format!("matrix in dimension {n}, determinant {}", decimal(self.determinant()))
                }
            });
        }
        if let Some((group, index)) = &self.finite
            && *index != group.identity()
        {
            parts.push(format!("{} of {}", group.label(*index), group.name()));
        }
        if self.translation.iter().any(|t| *t != 0.0) {
            let components: Vec<String> = self.translation.iter().map(|t| decimal(*t)).collect();
            parts.push(format!("translation by ({})", components.join(", ")));
        }
        for (axis, p) in &self.permutations {
            if !is_identity(p) {
                let shown: Vec<String> = p.iter().take(12).map(ToString::to_string).collect();
                let tail = if p.len() > 12 { " ..." } else { "" };
                parts.push(format!("permutation of {axis} [{}{tail}]", shown.join(" ")));
            }
        }
        for (axis, pixels) in &self.shifts {
            if *pixels != 0.0 {
                parts.push(format!("shift along {axis} by {pixels} pixels"));
            }
        }
        if self.sign != 1.0 {
            parts.push("sign flip".to_owned());
        }
        if self.phase != 0.0 {
            parts.push(format!("phase {} rad", decimal(self.phase)));
        }
        if self.scale != 1.0 {
            parts.push(format!("dilation by {}", decimal(self.scale)));
        }
        if self.wraps {
            parts.push("wrapped into the cell".to_owned());
        }
        if let Some(key) = self.custom {
            parts.push(format!("drawn element {key:016x}"));
        }
        if parts.is_empty() { f.write_str("identity") } else { f.write_str(&parts.join("; ")) }
    }
}

fn describe_lorentz(g: &Array2<f64>) -> String {
    let (proper, parity, reversal) = lie::split_lorentz(g);
    let mut text = format!("Lorentz transformation of rapidity {}", decimal(lie::rapidity(&proper)));
    if parity {
        text.push_str(", with parity");
    }
    if reversal {
        text.push_str(", with time reversal");
    }
    text
}

fn describe_linear(g: &Array2<f64>, determinant: f64) -> String {
    let n = g.nrows();
    let improper = determinant < 0.0;
    if n == 2 {
        return if improper {
            let axis = g[[1, 0]].atan2(g[[0, 0]]).to_degrees() / 2.0;
            format!("reflection in the line at {axis:.2} degrees")
        } else {
            format!("rotation by {:.2} degrees", g[[1, 0]].atan2(g[[0, 0]]).to_degrees())
        };
    }
    if n != 3 {
        return format!("orthogonal matrix in dimension {n}, determinant {determinant:+}");
    }
    // An improper element is a proper rotation after the inversion.
    let r = g * determinant;
    let cosine = ((r[[0, 0]] + r[[1, 1]] + r[[2, 2]] - 1.0) / 2.0).clamp(-1.0, 1.0);
    let antisymmetric = [r[[2, 1]] - r[[1, 2]], r[[0, 2]] - r[[2, 0]], r[[1, 0]] - r[[0, 1]]];
    let sine = antisymmetric.iter().map(|a| a * a).sum::<f64>().sqrt() / 2.0;
    let angle = sine.atan2(cosine);
    let suffix = if improper { ", with inversion" } else { "" };
    if angle < 1e-12 {
        return if improper { "inversion" } else { "rotation by 0.00 degrees" }.to_owned();
    }
    // Near a half turn the antisymmetric part vanishes; the axis is then a column of (R + 1) / 2.
    let axis = if sine > 1e-6 || cosine > 0.0 {
        antisymmetric.map(|a| a / (2.0 * sine))
    } else {
        let column = (0..3).max_by(|&a, &b| r[[a, a]].total_cmp(&r[[b, b]])).unwrap_or(0);
        let v: Vec<f64> = (0..3).map(|i| r[[i, column]] + f64::from(u8::from(i == column))).collect();
        let norm = v.iter().map(|a| a * a).sum::<f64>().sqrt();
        [v[0] / norm, v[1] / norm, v[2] / norm]
    };
    let axis = axis.map(decimal).join(", ");
    format!("rotation by {:.2} degrees about ({axis}){suffix}", angle.to_degrees())
}

/// Four decimals, without a sign on what rounds to zero.
fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    if text == "-0.0000" { text[1..].to_owned() } else { text }
}
