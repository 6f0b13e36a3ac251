//! What acts along an axis: the segmentation into representations that leaves least unexplained (METHOD 14; there are
//! too many strings of irreps to try).

use ndarray::{Array2, ArrayD, Axis as NdAxis};

use super::MARGIN;
use crate::symmetry::finite::{FiniteRepresentation, Subgroup};
use crate::symmetry::{
    Arrangement, Axis, DirectSum, Element, Factor, Group, InBasis, Irrep, Irreps, Parity, Representation,
    Summand,
};

/// Highest degree that is tried.
const DEGREE: usize = 4;
/// Longest axis, and the number of rows that are looked at.
const LONGEST: usize = 1024;
const ROWS: usize = 4096;
/// Longest axis on which copies are looked for whose components lie apart.
const LONGEST_OF_COPIES: usize = 64;
/// Cost of a change of kind, and of a block, where one unexplained component costs 1.
const CHANGE: f64 = 1e-4;
const BLOCK: f64 = 1e-7;

/// A representation that may act on a part of an axis.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    representation: Representation,
    /// For irreps, which are counted within.
    irrep: Option<(Irrep, Arrangement)>,
    dimension: usize,
}

impl Kind {
    pub(super) fn in_basis(basis: InBasis) -> Self {
        let dimension = basis.dimension();
        Self { representation: Representation::InBasis(basis), irrep: None, dimension }
    }

    pub(super) fn representation(&self) -> &Representation {
        &self.representation
    }

    /// Number of components.
    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    pub(super) fn is(&self, representation: &Representation) -> bool {
        self.representation == *representation
    }

    /// Whether it is linear, of a group of matrices, and no other order of one that is listed too.
    pub(super) fn is_linear(&self) -> bool {
        !self.representation.is_affine()
            && !matches!(self.representation, Representation::Finite(_))
            && self.irrep.is_none_or(|(_, arrangement)| !arrangement.polar_z)
    }
}

/// The representations that elements of this group tell apart.
pub(super) fn kinds(group: &Group, elements: &[&Element]) -> Vec<Kind> {
    let mut all = vec![Representation::Scalar];
    let improper = elements.iter().any(|element| element.determinant() < 0.0);
    let translated = elements.iter().any(|element| element.translation().iter().any(|t| *t != 0.0));
    let mut irreps = Vec::new();
    if improper {
        all.push(Representation::Pseudoscalar);
    }
    if group.factors().contains(&Factor::Sign) {
        all.push(Representation::Sign);
    }
    if group.dimension().is_some() {
        all.push(Representation::Vector);
        if translated {
            all.push(Representation::Point);
        }
        if improper {
            all.push(Representation::Pseudovector);
        }
        if !group.is_orthogonal() {
            all.push(Representation::Covector);
        }
    }
    if group.is_orthogonal() && group.dimension() == Some(3) {
        for (l, polar_z) in (1..=DEGREE).flat_map(|l| [(l, false), (l, true)]) {
            for parity in [Parity::of_harmonics(l), Parity::of_harmonics(l + 1)] {
                // A vector is the irrep of degree 1 in e3nn's order.
                if (improper || parity == Parity::of_harmonics(l)) && (l > 1 || polar_z) {
                    let irrep = Irrep::new(l, parity).ok();
                    irreps.extend(
                        irrep.map(|irrep| (irrep, Arrangement { polar_z, ..Arrangement::default() })),
                    );
                }
            }
        }
    }
    if group.is_orthogonal() && group.dimension() == Some(2) {
        all.extend((2..=DEGREE).map(Representation::Frequency));
    }
    if let Some(finite) = group.finite() {
        // Those that the group does not have are left out below.
        let n = finite.order();
        let mut add = |representation| all.push(Representation::Finite(representation));
        add(FiniteRepresentation::Regular);
        add(FiniteRepresentation::Sign);
        (1..=n / 2).for_each(|k| add(FiniteRepresentation::CyclicIrrep(k)));
        (0..=n / 4)
            .for_each(|k| [0, 1].into_iter().for_each(|j| add(FiniteRepresentation::DihedralIrrep(j, k))));
        (2..=n / 2).for_each(|m| add(FiniteRepresentation::Quotient(Subgroup::Cyclic(m))));
    }
    let of_irrep = |(irrep, arrangement): (Irrep, Arrangement)| {
        let representation = Representation::Irreps(Irreps::new([(1, irrep)]).ok()?.arranged(arrangement));
        Some(Kind { representation, irrep: Some((irrep, arrangement)), dimension: irrep.dim() })
    };
    let plain = all.into_iter().filter_map(|representation| {
        let dimension = representation.dimension(group).ok()??;
        Some(Kind { representation, irrep: None, dimension })
    });
    plain.chain(irreps.into_iter().filter_map(of_irrep)).collect()
}

/// Several copies, each component of all of them before the next: what flattening `(3, channel)` gives.
pub(super) fn copies_last(kinds: &[Kind], length: usize) -> Vec<Kind> {
    if length > LONGEST_OF_COPIES {
        return Vec::new();
    }
    let arrangement = Arrangement { copies_last: true, ..Arrangement::default() };
    let several = |irrep: Irrep| {
        let of = move |copies: usize| {
            let representation =
                Representation::Irreps(Irreps::new([(copies, irrep)]).ok()?.arranged(arrangement));
            Some(Kind { representation, irrep: None, dimension: copies * irrep.dim() })
        };
        (2..=length / irrep.dim()).filter_map(of)
    };
    let vector = |kind: &Kind| match kind.representation {
        Representation::Vector => {
            Irrep::new(1, Parity::Odd).ok().filter(|irrep| irrep.dim() == kind.dimension)
        }
        Representation::Pseudovector => {
            Irrep::new(1, Parity::Even).ok().filter(|irrep| irrep.dim() == kind.dimension)
        }
        _ => None,
    };
    let plain = kinds.iter().filter_map(|kind| {
        vector(kind).or_else(|| kind.irrep.filter(|(_, a)| !a.polar_z).map(|(irrep, _)| irrep))
    });
    plain.filter(|irrep| irrep.l() <= 2).flat_map(several).collect()
}

/// What a segmentation left.
pub(super) struct Segmented {
    pub(super) axis: Axis,
    /// Components that transform by nothing that was tried.
    pub(super) unexplained: usize,
}

/// One pass: the tensor as it would be if only the other axes moved, and as it is.
pub(super) struct Moved<'a> {
    pub(super) element: &'a Element,
    pub(super) before: ArrayD<f64>,
    pub(super) after: &'a ArrayD<f64>,
}

/// Rows by components.
pub(super) fn rows(values: &ArrayD<f64>, axis: usize) -> Array2<f64> {
    let length = values.shape()[axis];
    let lanes = values.lanes(NdAxis(axis));
    let every = (values.len() / length.max(1)).div_ceil(ROWS).max(1);
    let mut data = Vec::new();
    for lane in lanes.into_iter().step_by(every) {
        data.extend(lane.iter());
    }
    Array2::from_shape_vec((data.len() / length.max(1), length), data).unwrap_or_default()
}

/// `quiet` are changes by rounding alone, `roundoff` the unit roundoff.
pub(super) fn along(
    axis: usize,
    passes: &[Moved<'_>],
    quiet: &[ArrayD<f64>],
    roundoff: f64,
    kinds: &[Kind],
) -> Option<Segmented> {
    let shape = passes.first()?.before.shape().to_vec();
    let length = shape[axis];
    if length == 0 || length > LONGEST || passes.iter().any(|pass| pass.after.shape() != shape) {
        return None;
    }
    let data: Vec<(Array2<f64>, Array2<f64>)> =
        passes.iter().map(|pass| (rows(&pass.before, axis), rows(pass.after, axis))).collect();
    // Sums of squares by component.
    let squares = |values: &Array2<f64>| values.map_axis(NdAxis(0), |lane| lane.dot(&lane));
    let sizes = squares(&data[0].0);
    let floor = sizes.sum() / length as f64;
    let noises: Vec<_> = quiet.iter().map(|change| squares(&rows(change, axis))).collect();
    let allowed = |start: usize, dimension: usize| {
        let over = start..start + dimension;
        let rounded = (2.0 * roundoff).powi(2)
            * (sizes.slice(ndarray::s![over.clone()]).sum() + floor * dimension as f64);
        let noise = noises.iter().map(|noise| noise.slice(ndarray::s![over.clone()]).sum());
        MARGIN.powi(2) * noise.fold(rounded, f64::max)
    };
    let fits: Vec<Vec<bool>> = kinds
        .iter()
        .map(|kind| {
            let actions: Vec<_> = passes
                .iter()
                .map(|pass| {
                    let shift = kind.representation.is_affine().then(|| pass.element.translation().to_vec());
                    (kind.representation.matrix(pass.element), shift)
                })
                .collect();
            (0..length)
                .map(|start| {
                    start + kind.dimension <= length && {
                        let allowed = allowed(start, kind.dimension);
                        data.iter().zip(&actions).all(|((before, after), action)| {
                            agrees((before, after), action, start, kind.dimension, allowed)
                        })
                    }
                })
                .collect()
        })
        .collect();
    Some(cheapest(length, kinds, &fits))
}

fn agrees(
    (before, after): (&Array2<f64>, &Array2<f64>),
    (matrix, shift): &(Option<Array2<f64>>, Option<Vec<f64>>),
    start: usize,
    dimension: usize,
    allowed: f64,
) -> bool {
    let mut sum = 0.0;
    for (before, after) in before.outer_iter().zip(after.outer_iter()) {
        for i in 0..dimension {
            let mut expected = match matrix {
                Some(matrix) => (0..dimension).map(|j| matrix[[i, j]] * before[start + j]).sum(),
                None => before[start + i],
            };
            if let Some(shift) = shift {
                expected += shift.get(i).copied().unwrap_or(0.0);
            }
            sum += (after[start + i] - expected).powi(2);
        }
        if sum.is_nan() || sum > allowed {
            return false;
        }
    }
    true
}

/// The cheapest way through the axis: unexplained components first, then changes of kind, then blocks.
fn cheapest(length: usize, kinds: &[Kind], fits: &[Vec<bool>]) -> Segmented {
    // By end and kind of the last block: cost, unexplained components, kind before.
    let mut best: Vec<Vec<(f64, usize, usize)>> = vec![vec![(f64::INFINITY, 0, 0); kinds.len()]; length + 1];
    best[0] = vec![(0.0, 0, 0); kinds.len()];
    for end in 1..=length {
        for (k, kind) in kinds.iter().enumerate() {
            let Some(start) = end.checked_sub(kind.dimension) else { continue };
            let unexplained = if fits[k][start] { 0 } else { kind.dimension };
            for (before, (cost, left, _)) in best[start].clone().into_iter().enumerate() {
                let change = if before == k || start == 0 { 0.0 } else { CHANGE };
                let cost = cost + unexplained as f64 + change + BLOCK;
                if cost < best[end][k].0 {
                    best[end][k] = (cost, left + unexplained, before);
                }
            }
        }
    }
    let cheapest = |at: usize| {
        (0..kinds.len()).min_by(|a, b| best[at][*a].0.total_cmp(&best[at][*b].0)).unwrap_or_default()
    };
    let mut kind = cheapest(length);
    let unexplained = best[length][kind].1;
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut at = length;
    while at > 0 {
        match found.last_mut() {
            Some((last, count)) if *last == kind => *count += 1,
            _ => found.push((kind, 1)),
        }
        let before = best[at][kind].2;
        at -= kinds[kind].dimension;
        kind = before;
    }
    let summands = found.iter().rev().flat_map(|(k, count)| {
        let kind = &kinds[*k];
        let counted = |(irrep, arrangement)| Some(Irreps::new([(*count, irrep)]).ok()?.arranged(arrangement));
        match kind.irrep.and_then(counted) {
            Some(irreps) => {
                vec![Summand { multiplicity: 1, representation: Representation::Irreps(irreps) }]
            }
            // Irreps are counted within.
            None if matches!(kind.representation, Representation::Irreps(_)) => {
                vec![Summand { multiplicity: 1, representation: kind.representation.clone() }; *count]
            }
            None => vec![Summand { multiplicity: *count, representation: kind.representation.clone() }],
        }
    });
    Segmented { axis: Axis::Components(DirectSum(summands.collect())), unexplained }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::{Moved, along, copies_last, kinds};
    use crate::audit::sampling::{Draws, Purpose};
    use crate::symmetry::{BoundLayout, Element, Group, Layout};

    /// The segmentation of values that transform as `truth` says, but for the components in `broken`.
    fn segmented(truth: &str, length: usize, broken: &[usize]) -> (String, usize) {
        let group = Group::parse("E(3)").expect("parses");
        let layout = Layout::parse(&format!("nodes! {truth}"), &group).expect("parses");
        let bound = BoundLayout::new(&layout, &[4, length], &group, "x").expect("fits");
        let mut draws = Draws::new(3, 0, 0, Purpose::Layers);
        let before = ArrayD::from_shape_fn(IxDyn(&[4, length]), |_| draws.normal());
        let turn = draws.orthogonal(3, false);
        let identity = Element::identity(3, &[].into());
        let elements = [
            identity.clone().with_linear(turn.clone()),
            identity.clone().with_linear(-turn),
            identity.with_translation(ndarray::arr1(&[1.0, -2.0, 0.5])),
        ];
        let afters: Vec<ArrayD<f64>> = elements
            .iter()
            .map(|element| {
                let mut after = bound.act_on_real(element, &before);
                for component in broken {
                    after.column_mut_of(*component);
                }
                after
            })
            .collect();
        let passes: Vec<Moved<'_>> = elements
            .iter()
            .zip(&afters)
            .map(|(element, after)| Moved { element, before: before.clone(), after })
            .collect();
        let mut kinds = kinds(&group, &elements.iter().collect::<Vec<_>>());
        if truth.contains("ir_mul") {
            kinds.extend(copies_last(&kinds, length));
        }
        let found = along(1, &passes, &[], f64::EPSILON / 2.0, &kinds).expect("runs");
        (found.axis.to_string(), found.unexplained)
    }

    trait Spoil {
        fn column_mut_of(&mut self, component: usize);
    }

    impl Spoil for ArrayD<f64> {
        fn column_mut_of(&mut self, component: usize) {
            self.index_axis_mut(ndarray::Axis(1), component).mapv_inplace(f64::tanh);
        }
    }

    #[test]
    fn what_acts_along_an_axis_is_told_from_its_values() {
        for (truth, length) in [
            ("vector", 3),
            ("5*scalar+2*vector", 11),
            ("2*pseudovector+point", 9),
            ("4*scalar+3*pseudoscalar+vector", 10),
            ("3*scalar+2x2e+1x3o", 20),
            ("scalar+vector+1x2e", 9),
            ("5*scalar+ir_mul(3x1o)", 14),
            ("2*scalar+yzx(2x1o)+yzx(1x2e)", 13),
        ] {
            assert_eq!(segmented(truth, length, &[]), (truth.to_owned(), 0));
        }
    }

    #[test]
    fn a_block_that_is_broken_is_what_its_neighbours_are() {
        assert_eq!(segmented("4*vector", 12, &[4]), ("4*vector".to_owned(), 3));
        assert_eq!(segmented("5*scalar+2*vector", 11, &[1]), ("5*scalar+2*vector".to_owned(), 1));
    }
}
