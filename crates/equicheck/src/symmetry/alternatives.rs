//! Other layouts that the author of a declaration may have meant, or that a model may in fact follow.

use ndarray::{Array2, ArrayD};

use super::basis::InBasis;
use super::group::{Factor, Group};
use super::irreps::{Arrangement, Irrep, Irreps, Parity};
use super::layout::IndexValues;
use super::representation::{DirectSum, Representation, Summand};
use super::tensors::Voigt;
use super::{Axis, Layout};
use crate::report::Variation;

/// Largest power of a scale and largest charge.
const POWER: i32 = 3;
/// Axes that are tried component by component have at most this many.
const LONGEST: usize = 3;

/// Another layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Other {
    pub(crate) layout: Layout,
    pub(crate) variation: Variation,
    /// How it is called, where the language has no word for it.
    pub(crate) words: Option<String>,
}

impl Other {
    /// As a report prints it.
    pub(crate) fn name(&self) -> String {
        self.words.clone().unwrap_or_else(|| match self.layout.to_string().as_str() {
            "" => "\"\"".to_owned(),
            text => text.to_owned(),
        })
    }
}

/// Layouts of the same shape in which one thing is changed, for a tensor of this shape.
pub(crate) fn alternatives(layout: &Layout, shape: &[usize], group: &Group) -> Vec<Other> {
    let mut found: Vec<Other> = Vec::new();
    let mut add = |layout: Layout, variation: Variation, words: Option<String>| {
        if !found.iter().any(|other| other.layout == layout && other.words == words) {
            found.push(Other { layout, variation, words });
        }
    };
    let axes = layout.axes();
    let with = |at: usize, axis: Axis| {
        let mut axes = axes.to_vec();
        axes[at] = axis;
        Layout::of(axes)
    };
    for (at, axis) in axes.iter().enumerate() {
        let Some(sum) = axis.components() else { continue };
        for (k, summand) in sum.0.iter().enumerate() {
            if let Representation::User(user) = &summand.representation {
                let mut sum = sum.clone();
                sum.0[k] =
                    Summand { representation: Representation::User(user.to_the(-1)), ..summand.clone() };
                let words = format!("`@{}` of the inverse", user.name());
                add(with(at, Axis::Components(sum)), Variation::Inverse, Some(words));
            }
            for (representation, change, words) in others(&summand.representation, group) {
                let mut sum = sum.clone();
                sum.0[k] = Summand { representation, ..summand.clone() };
                add(with(at, Axis::Components(sum)), change, words);
            }
        }
        // All of one kind together, as where every odd irrep was written even.
        for (sum, change) in whole(sum) {
            add(with(at, Axis::Components(sum)), change, None);
        }
        if let [Summand { multiplicity: 1, representation: Representation::User(_) }] = &sum.0[..] {
            let length = shape.len().checked_sub(axes.len() - at).map(|at| shape[at]);
            for axis in standard(length.unwrap_or(0), group) {
                add(with(at, axis), Variation::Representation, None);
            }
        }
        // Last, as the square of a representation of order 2 is trivial.
        for (k, summand) in sum.0.iter().enumerate() {
            let Representation::User(user) = &summand.representation else { continue };
            for (power, what) in
                [(2, "done twice"), (3, "done three times"), (-2, "of the inverse, done twice")]
            {
                let mut sum = sum.clone();
                let representation = Representation::User(user.to_the(power));
                sum.0[k] = Summand { representation, ..summand.clone() };
                let words = format!("`@{}` {what}", user.name());
                add(with(at, Axis::Components(sum)), Variation::Representation, Some(words));
            }
        }
    }
    if axes.iter().all(|axis| axis.components().is_none()) {
        for (representation, change) in weights(&Representation::Scalar, group) {
            let mut axes = axes.to_vec();
            axes.push(Axis::of(representation));
            add(Layout::of(axes), change, None);
        }
    }
    found
}

/// Layouts for a tensor that nothing was said about, or that was said not to move: one axis acts as vectors do.
pub(crate) fn transformed(layout: Option<&Layout>, shape: &[usize], group: &Group) -> Vec<Other> {
    let Some(n) = group.dimension() else { return Vec::new() };
    let plain = || vec![Axis::Ellipsis; usize::from(!shape.is_empty())];
    let axes = match layout {
        Some(layout) if layout.axes().len() == shape.len() => layout.axes().to_vec(),
        Some(_) => return Vec::new(),
        None if shape.len() == 1 => vec![Axis::Size(shape[0])],
        None => plain().into_iter().chain(shape.iter().skip(1).map(|n| Axis::Size(*n))).collect(),
    };
    let free = |axis: &Axis| matches!(axis, Axis::Plain { .. } | Axis::Size(_));
    let mut kinds = vec![Representation::Vector];
    if group.has_improper() && n == 3 {
        kinds.push(Representation::Pseudovector);
    }
    if moves_points(group) {
        kinds.push(Representation::Point);
    }
    let mut found = Vec::new();
    for representation in kinds {
        for at in (0..shape.len()).rev().filter(|at| shape[*at] == n && axes.get(*at).is_some_and(free)) {
            let mut axes = axes.clone();
            axes[at] = Axis::of(representation.clone());
            found.push(Other { layout: Layout::of(axes), variation: Variation::Moved, words: None });
        }
    }
    found
}

/// Layouts for whole numbers that were said to be left as they are: positions along one of the axes that the group
/// permutes, with their lengths.
pub(crate) fn relabelled(
    layout: Option<&Layout>,
    values: &ArrayD<f64>,
    permuted: &[(String, usize)],
) -> Vec<Other> {
    let axes = match layout {
        Some(layout) if layout.values().is_none() => layout.axes().to_vec(),
        Some(_) => return Vec::new(),
        None => values.shape().iter().map(|n| Axis::Size(*n)).collect(),
    };
    let along = permuted.iter().filter_map(|(name, n)| positions(values, name, *n));
    along
        .map(|positions| Layout::of_positions(axes.clone(), positions))
        .map(|layout| Other { layout, variation: Variation::Moved, words: None })
        .collect()
}

/// Different whole numbers as positions along an axis of this length, -1 for none; `None` where some are no such.
pub(crate) fn positions(values: &ArrayD<f64>, name: &str, length: usize) -> Option<IndexValues> {
    let first = values.first()?;
    let fits = values.iter().all(|v| (-1.0..length as f64).contains(v)) && values.iter().any(|v| v != first);
    let sentinel = values.iter().any(|v| *v < 0.0).then_some(-1);
    fits.then(|| IndexValues { axis: name.to_owned(), sentinel })
}

fn moves_points(group: &Group) -> bool {
    group.factors().iter().any(|f| matches!(f, Factor::Translation(shift) if shift.along.is_none()))
}

/// Axes of this length that the language has words for.
fn standard(length: usize, group: &Group) -> Vec<Axis> {
    let Some(n) = group.dimension() else { return Vec::new() };
    let mut found = Vec::new();
    if length == n {
        found.extend([Representation::Vector, Representation::Pseudovector].map(Axis::of));
    }
    if length == n * n {
        let vector = || Axis::of(Representation::Vector);
        found.push(Axis::Flattened(vec![vector(), vector()]));
        // One index alone.
        found.push(Axis::Flattened(vec![vector(), Axis::Size(n)]));
        found.push(Axis::Flattened(vec![Axis::Size(n), vector()]));
    }
    if n == 3 && length == 6 {
        found.push(Axis::of(Representation::Voigt(Voigt::Stress)));
    }
    if n == 3 && length > 3 && !length.is_multiple_of(2) && group.is_orthogonal() {
        let l = length / 2;
        for parity in [Parity::of_harmonics(l), Parity::of_harmonics(l + 1)] {
            let irreps = Irrep::new(l, parity).ok().and_then(|irrep| Irreps::new([(1, irrep)]).ok());
            found.extend(irreps.map(|irreps| Axis::of(Representation::Irreps(irreps))));
        }
    }
    found
}

/// A scalar, or another power or charge.
fn weights(from: &Representation, group: &Group) -> Vec<(Representation, Variation)> {
    let mut found = Vec::new();
    if group.has_improper() && group.dimension().is_some() {
        found.push((Representation::Pseudoscalar, Variation::Parity));
    }
    for factor in group.factors() {
        let powers = (-POWER..=POWER).filter(|k| *k != 0);
        match factor {
            Factor::Scale => found.extend(powers.map(|k| (Representation::Scale(k), Variation::Weight))),
            Factor::Phase => found.extend(powers.map(|k| (Representation::Charge(k), Variation::Weight))),
            _ => {}
        }
    }
    found.push((Representation::Scalar, Variation::Weight));
    found.retain(|(representation, _)| representation != from);
    found
}

fn others(from: &Representation, group: &Group) -> Vec<(Representation, Variation, Option<String>)> {
    let mut found: Vec<(Representation, Variation, Option<String>)> = Vec::new();
    let improper = group.has_improper();
    match from {
        Representation::Vector
        | Representation::Pseudovector
        | Representation::Covector
        | Representation::Point => {
            if matches!(from, Representation::Vector) {
                if moves_points(group) {
                    found.push((Representation::Point, Variation::Affine, None));
                }
                if improper {
                    found.push((Representation::Pseudovector, Variation::Parity, None));
                }
                if !group.is_orthogonal() {
                    found.push((Representation::Covector, Variation::Dual, None));
                }
            } else {
                let variation = match from {
                    Representation::Point => Variation::Affine,
                    Representation::Covector => Variation::Dual,
                    _ => Variation::Parity,
                };
                found.push((Representation::Vector, variation, None));
            }
            if *from != Representation::Point
                && let Some(n) = group.dimension().filter(|n| *n <= LONGEST)
            {
                found.extend(arranged(from, n));
            }
        }
        Representation::Pseudoscalar | Representation::Scale(_) | Representation::Charge(_) => {
            found.extend(weights(from, group).into_iter().map(|(r, change)| {
                let change = if *from == Representation::Pseudoscalar { Variation::Parity } else { change };
                (r, change, None)
            }));
        }
        Representation::Scalar => {
            found.extend(weights(from, group).into_iter().map(|(r, change)| (r, change, None)));
        }
        Representation::Voigt(kind) => {
            let other = if *kind == Voigt::Stress { Voigt::Strain } else { Voigt::Stress };
            found.push((Representation::Voigt(other), Variation::Representation, None));
            found.extend(orders_of_voigt(from));
        }
        Representation::Irreps(irreps) => {
            for block in 0..irreps.blocks().len() {
                let flipped = parities(irreps, |k| k == block);
                found.extend(flipped.filter(|_| improper).map(|r| (r, Variation::Parity, None)));
            }
            let own = irreps.arrangement();
            for (copies_last, polar_z) in [
                (!own.copies_last, own.polar_z),
                (own.copies_last, !own.polar_z),
                (!own.copies_last, !own.polar_z),
            ] {
                let arrangement = Arrangement { copies_last, polar_z };
                if arrangement != own {
                    let other = Representation::Irreps(irreps.clone().arranged(arrangement));
                    found.push((other, Variation::Order, None));
                }
            }
        }
        _ => {}
    }
    found
}

/// The irreps with the parity of some blocks changed.
fn parities(irreps: &Irreps, which: impl Fn(usize) -> bool) -> Option<Representation> {
    let flipped = irreps.blocks().iter().enumerate().map(|(k, block)| {
        let parity = match (block.irrep.parity(), which(k)) {
            (Parity::Even, true) | (Parity::Odd, false) => Parity::Odd,
            _ => Parity::Even,
        };
        Some((block.multiplicity, Irrep::new(block.irrep.l(), parity).ok()?))
    });
    let terms: Vec<(usize, Irrep)> = flipped.collect::<Option<_>>()?;
    Some(Representation::Irreps(Irreps::new(terms).ok()?.arranged(irreps.arrangement())))
}

/// All blocks of irreps with the other parity.
fn whole(sum: &DirectSum) -> Vec<(DirectSum, Variation)> {
    let flipped = |summand: &Summand| {
        let representation = match &summand.representation {
            Representation::Irreps(irreps) => parities(irreps, |_| true)?,
            Representation::Vector => Representation::Pseudovector,
            Representation::Pseudovector => Representation::Vector,
            Representation::Scalar => Representation::Pseudoscalar,
            Representation::Pseudoscalar => Representation::Scalar,
            _ => return None,
        };
        Some(Summand { representation, ..summand.clone() })
    };
    let all: Option<Vec<Summand>> = sum.0.iter().map(flipped).collect();
    all.map(|all| (DirectSum(all), Variation::Parity)).into_iter().collect()
}

/// Components of vectors in another order, or with an axis that points the other way.
fn arranged(from: &Representation, n: usize) -> Vec<(Representation, Variation, Option<String>)> {
    let letters = ["x", "y", "z"];
    let mut found = Vec::new();
    // In the plane an exchange of both is such a flip and a quarter turn, and rows that count downwards are met more often.
    for (turned, letter) in letters.iter().enumerate().take(n) {
        let basis = Array2::from_shape_fn((n, n), |(i, j)| match (i == j, i == turned) {
            (true, true) => -1.0,
            (true, false) => 1.0,
            _ => 0.0,
        });
        let words = format!("{from} with {letter} pointing the other way");
        found.extend(in_basis(from, basis, Variation::Flip, words));
    }
    for order in orders(n).into_iter().filter(|order| !order.is_sorted()) {
        let words: Vec<&str> = order.iter().map(|k| letters[*k]).collect();
        let words = format!("{from} with components {}", words.join(", "));
        // Component i of what is stored is component order[i] of the vector.
        let basis = Array2::from_shape_fn((n, n), |(i, j)| if order[j] == i { 1.0 } else { 0.0 });
        found.extend(in_basis(from, basis, Variation::Order, words));
    }
    found
}

/// Shears in another order, behind the diagonal or before it.
fn orders_of_voigt(from: &Representation) -> Vec<(Representation, Variation, Option<String>)> {
    let names = ["xx", "yy", "zz", "yz", "xz", "xy"];
    let mut found = Vec::new();
    let mut add = |order: [usize; 6]| {
        if order.is_sorted() {
            return;
        }
        let words: Vec<&str> = order.iter().map(|k| names[*k]).collect();
        let words = format!("{from} with components {}", words.join(", "));
        let basis = Array2::from_shape_fn((6, 6), |(i, j)| if order[j] == i { 1.0 } else { 0.0 });
        found.extend(in_basis(from, basis, Variation::Order, words));
    };
    for shears in orders(3) {
        add([0, 1, 2, 3 + shears[0], 3 + shears[1], 3 + shears[2]]);
    }
    // The upper and the lower triangle by rows.
    add([0, 5, 4, 1, 3, 2]);
    add([0, 5, 1, 4, 3, 2]);
    found
}

fn in_basis(
    from: &Representation,
    basis: Array2<f64>,
    variation: Variation,
    words: String,
) -> Option<(Representation, Variation, Option<String>)> {
    let basis = InBasis::new(&[(from.clone(), basis)])?;
    Some((Representation::InBasis(basis), variation, Some(words)))
}

/// All orders of n things.
pub(crate) fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut found = Vec::new();
    for shorter in orders(n - 1) {
        for at in 0..n {
            let mut longer = shorter.clone();
            longer.insert(at, n - 1);
            found.push(longer);
        }
    }
    found.sort();
    found
}
