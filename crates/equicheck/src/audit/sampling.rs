//! Which elements are drawn: a pure function of (seed, sample, index), so that any shard, thread count or resumed
//! run draws the same ones (METHOD 3).

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use nalgebra::DMatrix;
use ndarray::{Array1, Array2};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::symmetry::{Element, Factor, Group};

/// What a stream of random numbers is for; streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Haar = 1,
    NearIdentity = 2,
    Rounding = 3,
    Perturbation = 4,
    Precision = 5,
    Constants = 6,
    Parameters = 7,
}

/// A counter-based stream of draws.
#[derive(Debug, Clone)]
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    /// The stream for (seed, sample, index, purpose).
    pub(crate) fn new(seed: u64, sample: usize, index: u64, purpose: Purpose) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(sample as u64).to_le_bytes());
        key[16..24].copy_from_slice(&index.to_le_bytes());
        key[24] = purpose as u8;
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform on [0, 1), 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * 2f64.powi(-53)
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }

    /// Uniform on 0..n, without bias.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        let zone = u64::MAX - u64::MAX % n;
        loop {
            let draw = self.0.next_u64();
            if draw < zone {
                return (draw % n) as usize;
            }
        }
    }

    /// +1 or -1.
    pub(crate) fn sign(&mut self) -> f64 {
        if self.0.next_u64() & 1 == 0 { 1.0 } else { -1.0 }
    }

    /// Haar-distributed on O(n), or on SO(n).
    ///
    /// QR of a Gaussian matrix with the signs of R's diagonal moved into Q (Mezzadri, Notices of the AMS 54, 2007).
    fn orthogonal(&mut self, n: usize, improper: bool) -> Array2<f64> {
        let gaussian = DMatrix::from_fn(n, n, |_, _| self.normal());
        let (mut q, r) = gaussian.qr().unpack();
        for j in 0..n {
            if r[(j, j)] < 0.0 {
                q.column_mut(j).neg_mut();
            }
        }
        // Flipping one column maps the Haar measure of one component onto that of the other.
        if !improper && q.determinant() < 0.0 {
            q.column_mut(0).neg_mut();
        }
        Array2::from_shape_fn((n, n), |(i, j)| q[(i, j)])
    }

    /// Uniform among the permutations that keep each entry within its segment.
    fn permutation(&mut self, n: usize, segments: Option<&[i64]>) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        match segments {
            None => self.shuffle(&mut p),
            Some(labels) => {
                let mut members: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
                for (i, label) in labels.iter().enumerate() {
                    members.entry(*label).or_default().push(i);
                }
                for places in members.values() {
                    let mut shuffled = places.clone();
                    self.shuffle(&mut shuffled);
                    for (place, from) in places.iter().zip(shuffled) {
                        p[*place] = from;
                    }
                }
            }
        }
        p
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// What of a sample decides how elements are drawn for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    /// Dimension, 0 when the group does not act on space.
    pub(crate) dimension: usize,
    /// Lengths of the permuted axes.
    pub(crate) axes: BTreeMap<String, usize>,
    /// Segment labels per permuted axis.
    pub(crate) segments: BTreeMap<String, Vec<i64>>,
    /// Standard deviation of a translation's components.
    pub(crate) translation_scale: f64,
    /// A few directions from the origin to points of the sample, unit length.
    pub(crate) directions: Vec<Array1<f64>>,
}

impl Space {
    pub(crate) fn identity(&self) -> Element {
        Element::identity(self.dimension, &self.axes)
    }
}

/// Which part of the group acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Joint,
    Alone(Factor),
}

impl Part {
    pub(crate) fn name(&self) -> String {
        match self {
            Part::Joint => "joint".to_owned(),
            Part::Alone(factor) => factor.to_string(),
        }
    }

    fn includes(&self, factor: &Factor) -> bool {
        match self {
            Part::Joint => true,
            Part::Alone(one) => one == factor,
        }
    }
}

/// The parts in the order in which the plan cycles through them: jointly every second time, each factor alone in
/// between; a group of one factor has no other part.
pub(crate) fn cycle(group: &Group) -> Vec<Part> {
    let factors = group.factors();
    if factors.len() < 2 {
        return vec![Part::Joint];
    }
    factors.into_iter().flat_map(|factor| [Part::Joint, Part::Alone(factor)]).collect()
}

/// A Haar-drawn element of a part of the group; translations are normal with the declared scale.
pub(crate) fn haar(group: &Group, part: &Part, space: &Space, draws: &mut Draws) -> Element {
    let mut element = space.identity();
    for factor in group.factors() {
        if !part.includes(&factor) {
            continue;
        }
        element = match &factor {
            Factor::Linear { dimension, improper } => {
                let g = draws.orthogonal(*dimension, *improper);
                element.with_linear(g)
            }
            Factor::Translation { dimension } => {
                let scale = space.translation_scale;
                let t = Array1::from_shape_fn(*dimension, |_| scale * draws.normal());
                element.with_translation(t)
            }
            Factor::Permutation { axis } => {
                let n = space.axes.get(axis).copied().unwrap_or(0);
                let p = draws.permutation(n, space.segments.get(axis).map(Vec::as_slice));
                element.with_permutation(axis, p)
            }
        };
    }
    element
}

/// Elements that random draws are unlikely to hit, each with the name of its kind (DESIGN 4).
///
/// The identity (randomness, drift, mutation); near-identity; for matrices: inversion (n = 3), a mirror, half turns
/// about the coordinate axes, turns that bring a point of the sample onto the y and z axes (poles of common
/// parametrisations); for permutations: the reversal within segments.
pub(crate) fn planned(group: &Group, space: &Space, draws: &mut Draws) -> Vec<(&'static str, Element)> {
    let identity = space.identity();
    let mut elements = vec![("identity", identity.clone())];
    for factor in group.factors() {
        match &factor {
            Factor::Linear { dimension: n, improper } => {
                elements.push(("near-identity", identity.clone().with_linear(small_rotation(*n, draws))));
                for k in 0..n.saturating_sub(1) {
                    let half = Array2::from_diag(&Array1::from_shape_fn(*n, |i| {
                        if i == k || i == k + 1 { -1.0 } else { 1.0 }
                    }));
                    elements.push(("half-turn", identity.clone().with_linear(half)));
                }
                if *n == 3 {
                    for (pole, direction) in [1, 2].into_iter().zip(&space.directions) {
                        let turn = turn_onto_axis(direction, pole);
                        elements.push(("axis-alignment", identity.clone().with_linear(turn)));
                    }
                }
                if *improper {
                    let mut mirror = Array2::eye(*n);
                    mirror[[0, 0]] = -1.0;
                    elements.push(("mirror", identity.clone().with_linear(mirror)));
                    if *n == 3 {
                        elements.push(("inversion", identity.clone().with_linear(-Array2::<f64>::eye(3))));
                    }
                }
            }
            Factor::Translation { dimension } => {
                let far = Array1::from_elem(*dimension, 2.0 * space.translation_scale);
                elements.push(("translation", identity.clone().with_translation(far)));
            }
            Factor::Permutation { axis } => {
                let n = space.axes.get(axis).copied().unwrap_or(0);
                elements.push(("reversal", {
                    let p = reversal(n, space.segments.get(axis).map(Vec::as_slice));
                    identity.clone().with_permutation(axis, p)
                }));
            }
        }
    }
    elements
}

fn reversal(n: usize, segments: Option<&[i64]>) -> Vec<usize> {
    let Some(labels) = segments else { return (0..n).rev().collect() };
    let mut p: Vec<usize> = (0..n).collect();
    let mut members: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (i, label) in labels.iter().enumerate() {
        members.entry(*label).or_default().push(i);
    }
    for places in members.values() {
        for (place, from) in places.iter().zip(places.iter().rev()) {
            p[*place] = *from;
        }
    }
    p
}

/// A rotation by 1e-3 radian in a random plane.
fn small_rotation(n: usize, draws: &mut Draws) -> Array2<f64> {
    let frame = draws.orthogonal(n, false);
    let (sine, cosine) = 1e-3f64.sin_cos();
    let mut turn = Array2::eye(n);
    turn[[0, 0]] = cosine;
    turn[[1, 1]] = cosine;
    turn[[0, 1]] = -sine;
    turn[[1, 0]] = sine;
    frame.dot(&turn).dot(&frame.t())
}

/// The rotation of least angle that takes the unit vector `direction` onto the coordinate axis `axis`.
fn turn_onto_axis(direction: &Array1<f64>, axis: usize) -> Array2<f64> {
    // Two reflections: through the plane normal to `direction - e`, then through one that holds `e`.
    let mut target = Array1::zeros(3);
    target[axis] = 1.0;
    let mut normal = direction - &target;
    let length = normal.dot(&normal).sqrt();
    if length < 1e-9 {
        return Array2::eye(3);
    }
    normal /= length;
    let mut other = Array1::zeros(3);
    other[(axis + 1) % 3] = 1.0;
    householder(&other).dot(&householder(&normal))
}

fn householder(normal: &Array1<f64>) -> Array2<f64> {
    Array2::from_shape_fn((3, 3), |(i, j)| f64::from(u8::from(i == j)) - 2.0 * normal[i] * normal[j])
}
