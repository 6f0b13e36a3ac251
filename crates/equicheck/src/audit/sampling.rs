//! Which elements are drawn: a pure function of (seed, sample, index), so that any shard, thread count or resumed
//! run draws the same ones (METHOD 3).

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::sync::Arc;

use nalgebra::DMatrix;
use ndarray::{Array1, Array2};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::symmetry::{Element, Factor, Group, Shift, lie};

/// What a stream of random numbers is for; streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Haar = 1,
    NearIdentity = 2,
    Rounding = 3,
    Perturbation = 4,
    Precision = 5,
    Constants = 6,
    /// Inputs that were rounded to f32 before they were given.
    Given = 10,
    Parameters = 7,
    Order = 8,
    Rattling = 9,
    /// Elements whose laws are compared.
    Law = 40,
    /// Splits and simulations of tests of laws.
    Splits = 41,
    Stress = 20,
    Composition = 21,
    /// Elements that are evaluated alone and among others of one call.
    Batching = 23,
    /// Elements of smaller groups.
    Subgroups = 24,
    /// Values of generated inputs; the index is that of the input's name.
    Generated = 60,
    /// Sizes of generated inputs; the index is that of the size's name.
    Sizes = 61,
    /// Elements and rounding of passes that are looked into.
    Layers = 62,
    /// Inputs of single modules; the index is that of the call.
    Generic = 63,
    Analytic = 22,
    /// Elements under which gradients are compared.
    Gradients = 80,
    /// Cotangents of outputs.
    Cotangents = 81,
    /// Directions of finite differences.
    Directions = 82,
}

/// Kind of the planned elements that bring points back into their cell.
pub(crate) const WRAPPED: &str = "wrapped-translation";

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

    /// A name for an element of the user's own functions; 0 is the identity's.
    fn key(&mut self) -> u64 {
        self.0.next_u64().max(1)
    }

    /// A Lorentz transformation of (t, x, y, z): rotation, boost, rotation, and with `improper` each of parity and
    /// time reversal half of the times.
    fn lorentz(&mut self, rapidity: f64, improper: bool) -> Array2<f64> {
        let turn = |draws: &mut Self| {
            let r = draws.orthogonal(3, false);
            Array2::from_shape_fn((4, 4), |(i, j)| match (i, j) {
                (0, 0) => 1.0,
                (0, _) | (_, 0) => 0.0,
                _ => r[[i - 1, j - 1]],
            })
        };
        let (first, second) = (turn(self), turn(self));
        let boost = lie::boost([0.0, 0.0, rapidity * self.uniform()]);
        let mut g = second.dot(&boost).dot(&first);
        if improper {
            let (time, parity) = (self.sign(), self.sign());
            let reflection = Array2::from_diag(&Array1::from(vec![time, parity, parity, parity]));
            g = reflection.dot(&g);
        }
        g
    }

    /// +1 or -1.
    pub(crate) fn sign(&mut self) -> f64 {
        if self.0.next_u64() & 1 == 0 { 1.0 } else { -1.0 }
    }

    /// Haar-distributed on O(n), or on SO(n).
    ///
    /// QR of a Gaussian matrix with the signs of R's diagonal moved into Q (Mezzadri, Notices of the AMS 54, 2007).
    pub(crate) fn orthogonal(&mut self, n: usize, improper: bool) -> Array2<f64> {
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

    pub(crate) fn shuffle(&mut self, items: &mut [usize]) {
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
    /// Sizes of the grid that translations shift by whole pixels, by the names of its axes; empty without a grid.
    pub(crate) grid: BTreeMap<String, usize>,
    /// Whether the grid wraps around.
    pub(crate) periodic: bool,
    /// Largest rapidity of a drawn boost.
    pub(crate) rapidity: f64,
    /// Seed of the order in which small finite groups are enumerated.
    pub(crate) order: u64,
    /// Whether the model must find for itself which images of points in a lattice are neighbours: then points that cross
    /// the border of the cell are the same points.
    pub(crate) wraps: bool,
    /// A few directions from the origin to points of the sample, unit length.
    pub(crate) directions: Vec<Array1<f64>>,
}

impl Space {
    pub(crate) fn identity(&self) -> Element {
        Element::identity(self.dimension, &self.axes)
    }
}

/// Which part of the group acts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Joint,
    Alone(Factor),
}

impl Part {
    /// A factor by itself; a group of one factor acts jointly.
    pub(crate) fn of(group: &Group, factor: &Factor) -> Self {
        if group.factors().len() > 1 { Part::Alone(factor.clone()) } else { Part::Joint }
    }

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

/// Finite groups of fewer elements are enumerated (DESIGN 4).
const ENUMERATED: usize = 50;
/// Standard deviation of the logarithm of a drawn dilation: most lie between 1/4 and 4.
const SCALE_SPREAD: f64 = 0.7;
/// Longest random word in generators.
const LONGEST_WORD: usize = 12;

/// How often this part of the group has come before pair `index` of a sample whose cycle starts at `sample`.
pub(crate) fn turn(cycle: &[Part], part: &Part, sample: usize, index: u64) -> u64 {
    let n = cycle.len() as u64;
    let is_part = |k: u64| u64::from(cycle[((k + sample as u64) % n) as usize] == *part);
    let per_cycle: u64 = (0..n).map(is_part).sum();
    let rest: u64 = (0..index % n).map(is_part).sum();
    index / n * per_cycle + rest
}

/// Number of elements of a part of the group, where they are so few that they are enumerated.
pub(crate) fn order(group: &Group, part: &Part) -> Option<usize> {
    let factors = group.factors();
    let included = factors.iter().filter(|factor| part.includes(factor));
    let orders = included.map(|factor| match factor {
        Factor::Finite(group) | Factor::Permutations { group, .. } => Some(group.order()),
        Factor::Sign => Some(2),
        _ => None,
    });
    orders
        .into_iter()
        .try_fold(1usize, |product, order| product.checked_mul(order?))
        .filter(|order| *order < ENUMERATED)
}

/// How many indices of the plan it takes until every part of the group has come with all its elements, if all are
/// enumerated.
pub(crate) fn indices_of_all(group: &Group, cycle: &[Part]) -> Option<usize> {
    cycle.iter().try_fold(0, |most: usize, part| {
        let per_cycle = cycle.iter().filter(|other| *other == part).count();
        Some(most.max(cycle.len() * order(group, part)?.div_ceil(per_cycle)))
    })
}

/// A Haar-drawn element of a part of the group; translations of points are normal with the declared scale, those of
/// grids whole pixels: uniform where the grid wraps around, up to a quarter of its size where it does not. Boosts have
/// uniform direction and uniform rapidity up to the cap. `turn` counts the draws of this part for the sample, by which
/// small finite groups are enumerated, every element once before any comes again, in an order of the sample's own;
/// without it they are drawn uniformly.
pub(crate) fn haar(
    group: &Group,
    part: &Part,
    space: &Space,
    turn: Option<u64>,
    draws: &mut Draws,
) -> Element {
    let mut element = space.identity();
    // Position in the list of all elements, of which each factor takes a digit.
    let mut listed = order(group, part).zip(turn).map(|(order, turn)| {
        let mut shuffled: Vec<usize> = (0..order).collect();
        Draws::new(space.order, 0, 0, Purpose::Order).shuffle(&mut shuffled);
        shuffled[(turn % order as u64) as usize]
    });
    let mut pick = |order: usize, draws: &mut Draws| match &mut listed {
        Some(rest) => {
            let digit = *rest % order;
            *rest /= order;
            digit
        }
        None => draws.below(order),
    };
    for factor in group.factors() {
        if !part.includes(&factor) {
            continue;
        }
        element = match &factor {
            Factor::Linear { dimension, improper } => {
                let g = draws.orthogonal(*dimension, *improper);
                element.with_linear(g)
            }
            Factor::Lorentz { improper } => element.with_lorentz(draws.lorentz(space.rapidity, *improper)),
            Factor::Finite(finite) => {
                let index = pick(finite.order(), draws);
                element.with_finite(Arc::clone(finite), index)
            }
            Factor::Generated(generators) => {
                let n = generators.matrices.len();
                let mut g = Array2::eye(space.dimension);
                for _ in 0..=draws.below(LONGEST_WORD) {
                    let k = draws.below(n);
                    let letter =
                        if draws.sign() > 0.0 { &generators.matrices[k] } else { &generators.inverses[k] };
                    g = g.dot(letter);
                }
                element.with_general(g)
            }
            Factor::Translation(shift) => shifted(element, shift, space, |reach| match reach {
                Reach::Scale(scale) => scale * draws.normal(),
                Reach::Pixels { size, step } => {
                    let steps = if space.periodic { size / step } else { size / 4 / step };
                    if space.periodic {
                        (draws.below(steps.max(1)) * step) as f64
                    } else {
                        draws.below(2 * steps.max(1) + 1) as f64 * step as f64 - (steps.max(1) * step) as f64
                    }
                }
            }),
            Factor::Permutation { axis } => {
                let n = space.axes.get(axis).copied().unwrap_or(0);
                let p = draws.permutation(n, space.segments.get(axis).map(Vec::as_slice));
                element.with_permutation(axis, p)
            }
            Factor::Permutations { axis, group } => {
                let index = pick(group.order(), draws);
                match group.permutation(index) {
                    Some(p) => element.with_permutation(axis, p.to_vec()),
                    None => element,
                }
            }
            Factor::Sign => {
                let sign = if pick(2, draws) == 0 { 1.0 } else { -1.0 };
                element.with_sign(sign)
            }
            Factor::Phase => {
                let phase = TAU * draws.uniform();
                element.with_phase(phase)
            }
            Factor::Scale => {
                let scale = (SCALE_SPREAD * draws.normal()).exp();
                element.with_scale(scale)
            }
            Factor::Custom(_) => {
                let key = draws.key();
                element.with_custom(key)
            }
        };
    }
    element
}

/// How far a component of a translation goes.
enum Reach {
    Scale(f64),
    Pixels { size: usize, step: usize },
}

/// The element with every component of a translation that `component` gives: one per dimension of space, pixels where
/// there is a grid.
fn shifted(
    element: Element,
    shift: &Shift,
    space: &Space,
    mut component: impl FnMut(Reach) -> f64,
) -> Element {
    if let Some(axis) = &shift.along {
        let size = space.grid.get(axis).copied().unwrap_or(1);
        let pixels = component(Reach::Pixels { size, step: shift.step });
        return element.with_shift(axis, pixels);
    }
    let names: &[&str] = if shift.dimension == 1 { &["length"] } else { &["width", "height", "depth"] };
    let t = Array1::from_shape_fn(shift.dimension, |k| {
        component(match names.get(k).and_then(|name| space.grid.get(*name)) {
            Some(size) => Reach::Pixels { size: *size, step: shift.step },
            None => Reach::Scale(space.translation_scale),
        })
    });
    element.with_translation(t)
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
                // In the planes of neighbouring axes: for n = 3 about z, x and y.
                for k in 0..if *n == 2 { 1 } else { *n } {
                    let half = Array2::from_diag(&Array1::from_shape_fn(*n, |i| {
                        if i == k || i == (k + 1) % n { -1.0 } else { 1.0 }
                    }));
                    elements.push(("half-turn", identity.clone().with_linear(half)));
                }
                if !space.grid.is_empty() && *n <= 3 {
                    // Lattice symmetries need no interpolation: they decide whether a grid's action is exact.
                    for k in 0..if *n == 2 { 1 } else { *n } {
                        let (i, j) = (k, (k + 1) % n);
                        let mut quarter = Array2::eye(*n);
                        (quarter[[i, i]], quarter[[j, j]]) = (0.0, 0.0);
                        (quarter[[i, j]], quarter[[j, i]]) = (-1.0, 1.0);
                        elements.push(("quarter-turn", identity.clone().with_linear(quarter)));
                    }
                }
                if *n == 3 {
                    for (pole, direction) in [1, 2].into_iter().zip(space.directions.iter().cycle()) {
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
            Factor::Lorentz { improper } => elements.extend(planned_lorentz(*improper, space, draws)),
            Factor::Finite(group) => {
                let one = |g: &usize| ("generator", identity.clone().with_finite(Arc::clone(group), *g));
                elements.extend(group.generators().iter().map(one));
            }
            Factor::Generated(generators) => {
                let one = |m: &Array2<f64>| ("generator", identity.clone().with_general(m.clone()));
                elements.extend(generators.matrices.iter().map(one));
            }
            Factor::Translation(shift) => {
                let along = shift.along.as_ref();
                let on_grid = match along {
                    Some(_) => true,
                    None => !space.grid.is_empty(),
                };
                if !on_grid {
                    let far = Array1::from_elem(shift.dimension, 2.0 * space.translation_scale);
                    elements.push(("translation", identity.clone().with_translation(far)));
                    if space.wraps {
                        // In no simple ratio, or a crystal may come back onto itself.
                        let across = Array1::from_shape_fn(shift.dimension, |k| {
                            space.translation_scale * (2.0 - 0.3 * k as f64)
                        });
                        for sign in [1.0, -1.0] {
                            let moved = identity.clone().with_translation(&across * sign);
                            elements.push((WRAPPED, moved.with_wrapping()));
                        }
                    }
                } else if along.is_some() || shift.dimension <= 3 {
                    // A stride of 2 shows under odd shifts alone.
                    for (kind, steps) in [("odd-shift", 1), ("even-shift", 2)] {
                        let by = |reach| match reach {
                            Reach::Pixels { step, .. } => (steps * step) as f64,
                            Reach::Scale(scale) => 2.0 * scale,
                        };
                        elements.push((kind, shifted(identity.clone(), shift, space, by)));
                    }
                }
            }
            Factor::Permutation { axis } => {
                let n = space.axes.get(axis).copied().unwrap_or(0);
                elements.push(("reversal", {
                    let p = reversal(n, space.segments.get(axis).map(Vec::as_slice));
                    identity.clone().with_permutation(axis, p)
                }));
            }
            Factor::Permutations { axis, group } => {
                for g in group.generators() {
                    if let Some(p) = group.permutation(*g) {
                        elements.push(("generator", identity.clone().with_permutation(axis, p.to_vec())));
                    }
                }
            }
            Factor::Sign => elements.push(("sign-flip", identity.clone().with_sign(-1.0))),
            Factor::Phase => {
                elements.push(("quarter-phase", identity.clone().with_phase(TAU / 4.0)));
                elements.push(("near-identity", identity.clone().with_phase(1e-3)));
            }
            Factor::Scale => {
                elements.push(("doubling", identity.clone().with_scale(2.0)));
                elements.push(("near-identity", identity.clone().with_scale(1.001)));
            }
            Factor::Custom(_) => {}
        }
    }
    elements
}

/// Near the identity, far from it in all directions, and the reflections.
fn planned_lorentz(improper: bool, space: &Space, draws: &mut Draws) -> Vec<(&'static str, Element)> {
    let lorentz = |matrix| space.identity().with_lorentz(matrix);
    let mut small = Array2::eye(4);
    small.slice_mut(ndarray::s![1.., 1..]).assign(&small_rotation(3, draws));
    let far = space.rapidity / 3f64.sqrt();
    let mut elements = vec![
        ("near-identity", lorentz(lie::boost([0.0, 0.0, 1e-3]).dot(&small))),
        ("boost", lorentz(lie::boost([far, far, far]))),
    ];
    if improper {
        for (kind, d) in [("parity", [1.0, -1.0, -1.0, -1.0]), ("time-reversal", [-1.0, 1.0, 1.0, 1.0])] {
            elements.push((kind, lorentz(Array2::from_diag(&Array1::from(d.to_vec())))));
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

/// A rotation that takes the unit vector `direction` onto the coordinate axis `axis`.
fn turn_onto_axis(direction: &Array1<f64>, axis: usize) -> Array2<f64> {
    let unit = |k: usize| Array1::from_shape_fn(3, |i| f64::from(u8::from(i == k)));
    let target = unit(axis);
    // Two reflections make a rotation. The one that swaps two vectors has their difference for its normal, which
    // must not be short: near the axis, turn the direction over first; else reflect it onto the axis, then keep that.
    let near = direction[axis] > 0.0;
    let normal = if near { direction + &target } else { direction - &target };
    let normal = &normal / normal.dot(&normal).sqrt();
    if near {
        householder(&normal).dot(&householder(direction))
    } else {
        householder(&unit((axis + 1) % 3)).dot(&householder(&normal))
    }
}

fn householder(normal: &Array1<f64>) -> Array2<f64> {
    Array2::from_shape_fn((3, 3), |(i, j)| f64::from(u8::from(i == j)) - 2.0 * normal[i] * normal[j])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ndarray::array;

    use super::*;
    use crate::symmetry::wigner_d_up_to;

    fn group(text: &str) -> Group {
        Group::parse(text).unwrap()
    }

    fn space(dimension: usize, axes: &[(&str, usize)]) -> Space {
        Space {
            dimension,
            axes: axes.iter().map(|(axis, n)| ((*axis).to_owned(), *n)).collect(),
            translation_scale: 2.5,
            ..Space::default()
        }
    }

    fn draw(group: &Group, space: &Space, seed: u64, sample: usize, index: u64) -> Element {
        haar(group, &Part::Joint, space, None, &mut Draws::new(seed, sample, index, Purpose::Haar))
    }

    /// Matrices drawn for indices 0..n.
    fn matrices(text: &str, n: u64) -> impl Iterator<Item = Array2<f64>> {
        let group = group(text);
        let space = space(group.dimension().unwrap(), &[]);
        (0..n).map(move |index| draw(&group, &space, 7, 0, index).linear().clone())
    }

    fn determinant(g: &Array2<f64>) -> f64 {
        let n = g.nrows();
        DMatrix::from_fn(n, n, |i, j| g[[i, j]]).determinant()
    }

    #[test]
    fn an_element_depends_on_seed_sample_and_index_alone() {
        let group = group("E(3) x S(nodes)");
        let space = space(3, &[("nodes", 20)]);
        let first = draw(&group, &space, 3, 5, 8);
        for other in [[2, 5, 8], [3, 4, 8], [3, 5, 9], [5, 3, 8], [8, 5, 3]] {
            let other = draw(&group, &space, other[0], other[1] as usize, other[2]);
            assert_ne!(other.linear(), first.linear());
            assert_ne!(other.translation(), first.translation());
            assert_ne!(other.permutation("nodes"), first.permutation("nodes"));
        }
        assert_eq!(draw(&group, &space, 3, 5, 8), first, "whatever was drawn in between");
        let mut seen = BTreeSet::new();
        for purpose in [
            Purpose::Haar,
            Purpose::NearIdentity,
            Purpose::Rounding,
            Purpose::Perturbation,
            Purpose::Precision,
            Purpose::Constants,
            Purpose::Parameters,
            Purpose::Order,
            Purpose::Rattling,
            Purpose::Stress,
            Purpose::Composition,
        ] {
            assert!(seen.insert(Draws::new(3, 5, 8, purpose).uniform().to_bits()), "{purpose:?}");
        }
    }

    /// The elements of a saved report can be drawn again only as long as these numbers stay. Those that pass through
    /// the platform's logarithm and cosine may differ in the last bit between platforms.
    #[test]
    fn the_stream_never_changes() {
        let mut draws = Draws::new(42, 1, 2, Purpose::Haar);
        assert_eq!(draws.uniform(), 0.404_545_744_759_307_93);
        assert!((draws.normal() - -0.169_793_649_334_354_37).abs() < 1e-15);
        assert_eq!((draws.below(1000), draws.sign()), (386, -1.0));
        assert_eq!(draws.permutation(6, None), [1, 0, 2, 4, 3, 5]);
    }

    #[test]
    fn parts_of_a_group_act_alone() {
        let group = group("E(3) x S(nodes)");
        let space = space(3, &[("nodes", 30)]);
        let names: Vec<String> = cycle(&group).iter().map(Part::name).collect();
        assert_eq!(names, ["joint", "O(3)", "joint", "T(3)", "joint", "S(nodes)"]);
        for part in cycle(&group) {
            let element = haar(&group, &part, &space, None, &mut Draws::new(0, 0, 0, Purpose::Haar));
            let turned = *element.linear() != Array2::<f64>::eye(3);
            let shifted = element.translation().iter().any(|t| *t != 0.0);
            let permuted = element.permutation("nodes").unwrap() != (0..30).collect::<Vec<_>>();
            let name = part.name();
            let wanted = |alone: &str| name == "joint" || name == alone;
            assert_eq!(
                (turned, shifted, permuted),
                (wanted("O(3)"), wanted("T(3)"), wanted("S(nodes)")),
                "{name}"
            );
        }
        assert_eq!(cycle(&self::group("SO(3)")), [Part::Joint]);
    }

    #[test]
    fn matrices_are_orthogonal() {
        for text in ["SO(2)", "O(2)", "SO(3)", "O(3)", "SO(4)", "O(5)", "SO(64)"] {
            for g in matrices(text, 20) {
                let n = g.nrows();
                let error =
                    (g.dot(&g.t()) - Array2::<f64>::eye(n)).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
                assert!(error < 1e-13, "{text}: {error:e}");
                let d = determinant(&g);
                assert!((d.abs() - 1.0).abs() < 1e-12);
                assert!(d > 0.0 || text.starts_with('O'), "{text}");
            }
        }
    }

    const N: u64 = 4000;

    /// Haar measure has no moment: the mean of every entry of D^l vanishes, and its mean square is 1 / (2l + 1)
    /// (Schur). Five standard errors for 454 entries: a chance of 3e-4 once and for all, as the seed is fixed.
    #[test]
    fn rotations_are_haar_distributed() {
        for (text, component) in [("SO(3)", 1.0), ("O(3)", 1.0), ("O(3)", -1.0)] {
            let drawn: Vec<_> = matrices(text, N)
                .map(|g| g * component)
                .filter(|g| determinant(g) > 0.0)
                .map(|g| wigner_d_up_to(6, &g.view()))
                .collect();
            let n = drawn.len() as f64;
            for l in 1..=6 {
                let dim = (2 * l + 1) as f64;
                for entry in 0..(2 * l + 1) * (2 * l + 1) {
                    let values = || drawn.iter().map(|d| *d[l].iter().nth(entry).unwrap());
                    let mean = values().sum::<f64>() / n;
                    assert!(
                        mean.abs() < 5.0 / (dim * n).sqrt(),
                        "{text} {component}: l = {l}, entry {entry}: {mean}"
                    );
                    let square = values().map(|v| v * v).sum::<f64>() / n;
                    let fourth = values().map(|v| v.powi(4)).sum::<f64>() / n;
                    let error = ((fourth - square * square) / n).sqrt();
                    assert!(
                        (square - 1.0 / dim).abs() < 5.0 * error,
                        "{text}: l = {l}, entry {entry}: {square}"
                    );
                }
            }
        }
    }

    /// The angle of a Haar rotation has density (1 - cos a) / pi, hence mean pi / 2 + 2 / pi and distribution function
    /// (a - sin a) / pi; the Kolmogorov-Smirnov distance exceeds 1.95 / sqrt(n) with probability 1e-3.
    #[test]
    fn angles_are_distributed_as_haar_angles() {
        use std::f64::consts::PI;
        let mut angles: Vec<f64> =
            matrices("SO(3)", N).map(|g| ((g.diag().sum() - 1.0) / 2.0).clamp(-1.0, 1.0).acos()).collect();
        angles.sort_by(f64::total_cmp);
        let n = angles.len() as f64;
        let mean = angles.iter().sum::<f64>() / n;
        let variance = PI * PI / 3.0 + 2.0 - (PI / 2.0 + 2.0 / PI).powi(2);
        assert!((mean - (PI / 2.0 + 2.0 / PI)).abs() < 5.0 * (variance / n).sqrt(), "{mean}");
        let distance = angles
            .iter()
            .enumerate()
            .map(|(k, a)| ((a - a.sin()) / PI - (k as f64 + 0.5) / n).abs())
            .fold(0.0, f64::max);
        assert!(distance < 1.95 / n.sqrt(), "{distance}");
    }

    #[test]
    fn both_components_of_o_n_are_equally_likely() {
        for text in ["O(2)", "O(3)", "O(4)"] {
            let improper = matrices(text, N).filter(|g| determinant(g) < 0.0).count() as f64;
            let n = N as f64;
            assert!((improper - n / 2.0).abs() < 5.0 * (n / 4.0).sqrt(), "{text}: {improper}");
        }
    }

    /// Entries have mean 0, mean square `1 / n`, mean fourth power `3 / (n (n + 2))` on O(n), and on SO(n) for n > 4.
    #[test]
    fn other_dimensions_are_haar_distributed() {
        for text in ["O(2)", "O(4)", "SO(5)"] {
            let drawn: Vec<_> = matrices(text, N).collect();
            let dim = drawn[0].nrows() as f64;
            let fourth = 3.0 / (dim * (dim + 2.0));
            let n = N as f64;
            for entry in 0..drawn[0].len() {
                let moment =
                    |power| drawn.iter().map(|g| g.iter().nth(entry).unwrap().powi(power)).sum::<f64>() / n;
                assert!(moment(1).abs() < 5.0 / (dim * n).sqrt(), "{text}, entry {entry}");
                let error = ((fourth - 1.0 / (dim * dim)) / n).sqrt();
                assert!((moment(2) - 1.0 / dim).abs() < 5.0 * error, "{text}, entry {entry}");
                assert!((moment(4) - fourth).abs() < 5.0 * (fourth / n).sqrt(), "{text}, entry {entry}");
            }
        }
        // The plane: no harmonic of the angle has a mean.
        let angles: Vec<f64> = matrices("SO(2)", N).map(|g| g[[1, 0]].atan2(g[[0, 0]])).collect();
        for m in 1..=8 {
            let mean = |f: fn(f64) -> f64| angles.iter().map(|a| f(f64::from(m) * a)).sum::<f64>() / N as f64;
            let bar = 5.0 / (2.0 * N as f64).sqrt();
            assert!(mean(f64::cos).abs() < bar && mean(f64::sin).abs() < bar, "m = {m}");
        }
    }

    #[test]
    fn translations_have_the_declared_scale() {
        let group = group("T(3)");
        let space = space(3, &[]);
        let drawn: Vec<f64> =
            (0..N).flat_map(|index| draw(&group, &space, 7, 0, index).translation().to_vec()).collect();
        let n = drawn.len() as f64;
        let mean = drawn.iter().sum::<f64>() / n;
        let variance = drawn.iter().map(|t| t * t).sum::<f64>() / n;
        let kurtosis = drawn.iter().map(|t| t.powi(4)).sum::<f64>() / n / variance.powi(2);
        assert!(mean.abs() < 5.0 * 2.5 / n.sqrt(), "{mean}");
        assert!((variance / 6.25 - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{variance}");
        assert!((kurtosis - 3.0).abs() < 5.0 * (24.0 / n).sqrt(), "{kurtosis}");
    }

    /// Pearson's statistic against the 0.999 quantile of chi-square with 5 and 23 degrees of freedom.
    #[test]
    fn permutations_are_uniform() {
        for (n, share, bar) in [(3, 6.0, 20.52), (4, 24.0, 49.73)] {
            let mut counts: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
            for index in 0..N {
                let mut draws = Draws::new(11, 0, index, Purpose::Haar);
                *counts.entry(draws.permutation(n, None)).or_default() += 1.0;
            }
            assert_eq!(counts.len() as f64, share);
            let expected = N as f64 / share;
            let statistic: f64 = counts.values().map(|c| (c - expected).powi(2) / expected).sum();
            assert!(statistic < bar, "S({n}): {statistic}");
        }
    }

    #[test]
    fn permutations_stay_within_their_segments_and_are_uniform_there() {
        // Two interleaved graphs of three nodes, one of a single node.
        let labels = [4_i64, -1, 4, 0, -1, 4, -1];
        let mut counts: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
        for index in 0..N {
            let p = Draws::new(11, 0, index, Purpose::Haar).permutation(7, Some(&labels));
            assert!(p.iter().enumerate().all(|(i, from)| labels[i] == labels[*from]), "{p:?}");
            *counts.entry(p).or_default() += 1.0;
        }
        assert_eq!(counts.len(), 36, "3! times 3! times 1, jointly");
        let expected = N as f64 / 36.0;
        let statistic: f64 = counts.values().map(|c| (c - expected).powi(2) / expected).sum();
        // 0.999 quantile with 35 degrees of freedom.
        assert!(statistic < 66.62, "{statistic}");
        let group = group("S(nodes)");
        let mut space = space(0, &[("nodes", 7)]);
        space.segments.insert("nodes".to_owned(), labels.to_vec());
        let p = draw(&group, &space, 1, 0, 0).permutation("nodes").unwrap().to_vec();
        assert!(p.iter().enumerate().all(|(i, from)| labels[i] == labels[*from]));
    }

    #[test]
    fn bounded_draws_are_uniform() {
        let mut draws = Draws::new(0, 0, 0, Purpose::Precision);
        let mut counts = [0.0_f64; 10];
        for _ in 0..10_000 {
            counts[draws.below(10)] += 1.0;
        }
        // 0.999 quantile with 9 degrees of freedom.
        assert!(counts.iter().map(|c| (c - 1000.0).powi(2) / 1000.0).sum::<f64>() < 27.88);
        assert!((0..100).all(|_| draws.below(1) == 0));
        let signs: f64 = (0..10_000).map(|_| draws.sign()).sum();
        assert!(signs.abs() < 500.0, "{signs}");
    }

    fn named(group: &str, space: &Space) -> Vec<(&'static str, Element)> {
        planned(&self::group(group), space, &mut Draws::new(0, 0, 0, Purpose::NearIdentity))
    }

    #[test]
    fn planned_elements_are_what_their_names_say() {
        let mut space = space(3, &[("nodes", 5)]);
        let directions = [array![0.6, 0.0, 0.8], array![1.0, 2.0, -2.0] / 3.0];
        space.directions = directions.to_vec();
        let elements = named("E(3) x S(nodes)", &space);
        let all = |name: &str| -> Vec<Element> {
            elements.iter().filter(|(n, _)| *n == name).map(|(_, e)| e.clone()).collect()
        };
        assert!(elements[0].0 == "identity" && elements[0].1.is_identity());
        assert!(elements[1..].iter().all(|(_, element)| !element.is_identity()));

        let near = &all("near-identity")[0];
        let angle = ((near.linear().diag().sum() - 1.0) / 2.0).acos();
        assert!((angle - 1e-3).abs() < 1e-9, "{angle}");
        assert!(near.linear().iter().all(|v| *v != 0.0 && *v != 1.0), "about a generic axis");

        let mut axes: Vec<Vec<f64>> = all("half-turn").iter().map(|e| e.linear().diag().to_vec()).collect();
        axes.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(axes, [[-1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, -1.0]], "about z, y and x");
        assert!(all("half-turn").iter().all(|e| e.determinant() == 1.0));

        let alignments = all("axis-alignment");
        assert_eq!(alignments.len(), 2);
        for ((element, direction), pole) in alignments.iter().zip(&directions).zip([1, 2]) {
            let turned = element.linear().dot(direction);
            for k in 0..3 {
                let wanted = f64::from(u8::from(k == pole));
                assert!((turned[k] - wanted).abs() < 1e-15, "{direction} goes to {turned}");
            }
            assert_eq!(element.determinant(), 1.0);
            let square = element.linear().dot(&element.linear().t()) - Array2::<f64>::eye(3);
            assert!(square.iter().all(|v| v.abs() < 1e-15));
        }

        assert_eq!(all("mirror")[0].determinant(), -1.0);
        assert_eq!(all("inversion")[0].linear(), &-Array2::<f64>::eye(3));
        assert_eq!(all("translation")[0].translation(), &array![5.0, 5.0, 5.0]);
        assert_eq!(all("reversal")[0].permutation("nodes"), Some(&[4, 3, 2, 1, 0][..]));
        assert_eq!(elements.len(), 1 + 1 + 3 + 2 + 1 + 1 + 1 + 1);
    }

    #[test]
    fn planned_elements_belong_to_the_group() {
        let names = |group: &str, space: &Space| {
            let elements = named(group, space);
            let proper = elements.iter().all(|(_, e)| e.determinant() == 1.0);
            (elements.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" "), proper)
        };
        let of = |text: &str, proper| (text.to_owned(), proper);
        assert_eq!(
            names("SO(3)", &space(3, &[])),
            of("identity near-identity half-turn half-turn half-turn", true)
        );
        assert_eq!(names("SO(2)", &space(2, &[])), of("identity near-identity half-turn", true));
        assert_eq!(names("O(2)", &space(2, &[])), of("identity near-identity half-turn mirror", false));
        assert_eq!(names("T(2)", &space(2, &[])), of("identity translation", true));
        let mut graphs = space(0, &[("nodes", 5)]);
        graphs.segments.insert("nodes".to_owned(), vec![0, 1, 0, 0, 1]);
        assert_eq!(names("S(nodes)", &graphs), of("identity reversal", true));
        let p = named("S(nodes)", &graphs)[1].1.permutation("nodes").unwrap().to_vec();
        assert_eq!(p, [3, 4, 2, 0, 1], "within segments");
    }

    /// A sample with one direction only (two points) is brought onto both poles; a direction that is on its pole
    /// stays there.
    #[test]
    fn every_pole_is_reached() {
        let mut space = space(3, &[]);
        space.directions = vec![array![0.0, 1.0, 0.0]];
        let elements = named("SO(3)", &space);
        let turned: Vec<Array1<f64>> = elements
            .iter()
            .filter(|(name, _)| *name == "axis-alignment")
            .map(|(_, e)| e.linear().dot(&space.directions[0]))
            .collect();
        assert_eq!(turned.len(), 2);
        assert_eq!(turned[0], array![0.0, 1.0, 0.0]);
        assert!((turned[1][2] - 1.0).abs() < 1e-15);
        for direction in [array![0.0, -1.0, 0.0], array![1e-8, 1.0, 0.0], array![0.0, 1.0, -1e-5]] {
            let length: f64 = direction.dot(&direction);
            let direction = direction / length.sqrt();
            let turned = turn_onto_axis(&direction, 1).dot(&direction);
            assert!((turned[1] - 1.0).abs() < 1e-15 && turned[0].abs() < 1e-15 && turned[2].abs() < 1e-15);
        }
    }
}
