//! An element of a group: what it does to space and to each permuted axis.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use ndarray::{Array1, Array2};

/// An element: an orthogonal matrix, a translation, and one permutation per permuted axis.
///
/// Acts on points as `v -> g v + t` (active) and along a permuted axis as `x'[i] = x[p[i]]`. The product
/// [`compose`](Element::compose) is the one for which every representation is a homomorphism:
/// `(g, t)(h, s) = (g h, g s + t)` and `(p.q)[i] = q[p[i]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    linear: Array2<f64>,
    translation: Array1<f64>,
    permutations: BTreeMap<String, Vec<usize>>,
}

impl Element {
    /// The identity on a space of the given dimension (0 if the group does not act on space) and on axes of the
    /// given lengths.
    pub fn identity(dimension: usize, axes: &BTreeMap<String, usize>) -> Self {
        Self {
            linear: Array2::eye(dimension),
            translation: Array1::zeros(dimension),
            permutations: axes.iter().map(|(axis, n)| (axis.clone(), (0..*n).collect())).collect(),
        }
    }

    /// The same element with another matrix `g`, `n x n`.
    #[must_use]
    pub fn with_linear(mut self, linear: Array2<f64>) -> Self {
        self.linear = linear;
        self
    }

    /// The same element with another translation `t`, length `n`.
    #[must_use]
    pub fn with_translation(mut self, translation: Array1<f64>) -> Self {
        self.translation = translation;
        self
    }

    /// The same element with another permutation `p` along `axis`.
    #[must_use]
    pub fn with_permutation(mut self, axis: &str, permutation: Vec<usize>) -> Self {
        self.permutations.insert(axis.to_owned(), permutation);
        self
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
    }

    /// A number that tells elements of one run apart.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for value in self.linear.iter().chain(&self.translation) {
            // -0 and 0 are one number.
            (value + 0.0).to_bits().hash(&mut hasher);
        }
        self.permutations.hash(&mut hasher);
        hasher.finish()
    }

    /// Determinant of `g`, rounded to +1 or -1.
    pub fn determinant(&self) -> f64 {
        let n = self.linear.nrows();
        let matrix = nalgebra::DMatrix::from_fn(n, n, |i, j| self.linear[[i, j]]);
        if matrix.determinant() < 0.0 { -1.0 } else { 1.0 }
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
        Self {
            linear: self.linear.dot(&other.linear),
            translation: self.linear.dot(&other.translation) + &self.translation,
            permutations,
        }
    }

    /// The inverse element.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let linear = self.linear.t().to_owned();
        let translation = -linear.dot(&self.translation);
        let permutations =
            self.permutations.iter().map(|(axis, p)| (axis.clone(), inverse_permutation(p))).collect();
        Self { linear, translation, permutations }
    }
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
            parts.push(describe_linear(&self.linear, self.determinant()));
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
        if parts.is_empty() { f.write_str("identity") } else { f.write_str(&parts.join("; ")) }
    }
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
