//! Axes whose entries come in another order in another pass, and nobody says in which: lists of edges or pairs that the
//! model makes itself, tokens, coarser grids, channels of a regular representation (METHOD 14). The order is found by
//! comparing the entries.

use ndarray::{Array2, ArrayD, Axis};

use super::super::super::sampling::Draws;
use super::{MARGIN, value};
use crate::model::Trace;
use crate::symmetry::{BoundLayout, Element, Layout};

/// Marks names of such axes; no word of the layout language holds it.
const MARK: char = '#';
/// Longest axis on which entries are compared each with each.
const LONGEST_COMPARED: usize = 128;
/// Directions along which entries are told apart.
const ATTEMPTS: usize = 3;

/// An axis that several tensors share.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Its name in layouts.
    pub(super) name: String,
    pub(super) length: usize,
    /// Where it is, in the order of the pass.
    pub(super) uses: Vec<Use>,
}

/// An axis of a tensor.
#[derive(Debug, Clone)]
pub(super) struct Use {
    /// In the first sample's pass.
    pub(super) tensor: usize,
    pub(super) axis: usize,
    /// Change of the tensor by rounding over its size.
    pub(super) noise: f64,
    /// How the other axes move, where the tensor has no layout because some entries are wrong.
    pub(super) layout: Option<Layout>,
}

impl Order {
    /// Whether it was found from tensors with wrong entries alone.
    pub(super) fn is_guessed(&self) -> bool {
        self.uses.iter().all(|place| place.layout.is_some())
    }

    pub(super) fn name(k: usize) -> String {
        format!("order{MARK}{}", k + 1)
    }
}

/// Whether an element says how every permuted axis of the layout moves.
pub(super) fn is_known(layout: &BoundLayout, element: &Element) -> bool {
    layout.permuted_lengths().all(|(name, length)| match element.permutation(name) {
        Some(order) => order.len() == length,
        None => element.is_identity() || !name.contains(MARK),
    })
}

/// One tensor's entries along an axis, before and after, and how far apart equal ones may be.
pub(super) struct Entries {
    before: Array2<f64>,
    after: Array2<f64>,
    tolerance: f64,
}

impl Entries {
    /// `noise` is relative to the root mean square entry; `None` where shapes differ.
    pub(super) fn new(before: &ArrayD<f64>, after: &ArrayD<f64>, axis: usize, noise: f64) -> Option<Self> {
        if before.shape() != after.shape() || axis >= before.ndim() {
            return None;
        }
        let (before, after) = (along(before, axis), along(after, axis));
        let size = (before.iter().map(|v| v * v).sum::<f64>() / before.nrows().max(1) as f64).sqrt();
        let tolerance = MARGIN * noise;
        (size > 0.0 && size.is_finite()).then(|| Self {
            before: before / size,
            after: after / size,
            tolerance,
        })
    }

    /// Distance of an entry after from one before, squared, over the root mean square entry.
    fn apart(&self, after: usize, before: usize) -> f64 {
        let rows = self.after.row(after).into_iter().zip(self.before.row(before));
        rows.map(|(a, b)| (a - b).powi(2)).sum()
    }

    /// The farthest that an entry is from what it would be in this order, over the root mean square entry.
    pub(super) fn missed(&self, order: &[usize]) -> f64 {
        order.iter().enumerate().map(|(i, from)| self.apart(i, *from).sqrt()).fold(0.0, f64::max)
    }

    fn agree(&self, order: &[usize]) -> bool {
        order.iter().enumerate().all(|(i, from)| self.apart(i, *from).sqrt() <= self.tolerance)
    }
}

fn along(values: &ArrayD<f64>, axis: usize) -> Array2<f64> {
    let mut rows: Vec<f64> = Vec::with_capacity(values.len());
    for row in values.axis_iter(Axis(axis)) {
        rows.extend(row.iter());
    }
    let length = values.shape()[axis];
    let width = values.len().checked_div(length).unwrap_or(0);
    Array2::from_shape_vec((length, width), rows).unwrap_or_default()
}

/// The one order `after[i] = before[order[i]]` in which the entries of all these tensors agree.
pub(super) fn order_of(tensors: &[Entries], draws: &mut Draws) -> Option<Vec<usize>> {
    let length = tensors.first()?.before.nrows();
    if tensors.iter().any(|entries| entries.before.nrows() != length) {
        return None;
    }
    let agree = |order: &[usize]| tensors.iter().all(|entries| entries.agree(order));
    let unmoved: Vec<usize> = (0..length).collect();
    if agree(&unmoved) {
        return Some(unmoved);
    }
    for _ in 0..ATTEMPTS {
        let (mut before, mut after) = (vec![0.0; length], vec![0.0; length]);
        for entries in tensors {
            let direction: Vec<f64> = (0..entries.before.ncols()).map(|_| draws.normal()).collect();
            let add = |sums: &mut [f64], rows: &Array2<f64>| {
                for (sum, row) in sums.iter_mut().zip(rows.outer_iter()) {
                    *sum += row.iter().zip(&direction).map(|(a, b)| a * b).sum::<f64>();
                }
            };
            add(&mut before, &entries.before);
            add(&mut after, &entries.after);
        }
        let sorted = |sums: &[f64]| {
            let mut order: Vec<usize> = (0..sums.len()).collect();
            order.sort_by(|a, b| sums[*a].total_cmp(&sums[*b]));
            order
        };
        let mut order = vec![0; length];
        for (to, from) in sorted(&after).into_iter().zip(sorted(&before)) {
            order[to] = from;
        }
        if agree(&order) {
            return Some(order);
        }
    }
    nearest(tensors).filter(|order| agree(order))
}

/// Each entry after takes the nearest before; `None` where two take the same.
pub(super) fn nearest(tensors: &[Entries]) -> Option<Vec<usize>> {
    let length = tensors.first()?.before.nrows();
    if length > LONGEST_COMPARED {
        return None;
    }
    let distance = |i: usize, j: usize| tensors.iter().map(|entries| entries.apart(i, j)).sum::<f64>();
    let mut taken = vec![false; length];
    (0..length)
        .map(|i| {
            let distances = (0..length).map(|j| (j, distance(i, j)));
            let (nearest, _) = distances.min_by(|a, b| a.1.total_cmp(&b.1))?;
            (!std::mem::replace(&mut taken[nearest], true)).then_some(nearest)
        })
        .collect()
}

/// A pass, and where the first sample's tensors are in it.
pub(super) struct Located<'a> {
    pub(super) trace: &'a Trace,
    pub(super) at: &'a [Option<usize>],
}

/// The element with the orders in which entries come in the pass over T x. Where tensors contradict each other, the
/// earlier ones count.
pub(super) fn with_orders(
    orders: &[Order],
    bound: &dyn Fn(&Use) -> Option<BoundLayout>,
    clean: &Located<'_>,
    moved: &Located<'_>,
    element: &Element,
    draws: &mut Draws,
) -> Element {
    let mut result = element.clone();
    for order in orders {
        let mut known: Vec<Entries> = Vec::new();
        let mut found: Option<Vec<usize>> = None;
        for place in &order.uses {
            let Use { tensor, axis, noise, .. } = place;
            let before = value(clean.trace, clean.at[*tensor]);
            let after = value(moved.trace, moved.at[*tensor]);
            let (Some(before), Some(after), Some(layout)) = (before, after, bound(place)) else { continue };
            if layout.admits(&result).is_err() {
                continue;
            }
            let expected = layout.act_on_real(&result, &before.to_real());
            let Some(entries) = Entries::new(&expected, &after.to_real(), *axis, *noise) else { continue };
            let agrees = found.as_ref().is_some_and(|order| entries.agree(order));
            known.push(entries);
            if agrees {
                continue;
            }
            match order_of(&known, draws) {
                Some(order) => found = Some(order),
                None => {
                    known.pop();
                }
            }
        }
        if let Some(found) = found {
            result = result.with_permutation(&order.name, found);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ArrayD, Axis};

    use super::{Entries, nearest, order_of};
    use crate::audit::sampling::{Draws, Purpose};

    const NOISE: f64 = 1e-15;
    const ORDER: [usize; 6] = [3, 0, 5, 1, 4, 2];

    fn draws() -> Draws {
        Draws::new(1, 0, 0, Purpose::Layers)
    }

    /// Six entries, and the same in another order along the second axis.
    fn shuffled(width: usize) -> (ArrayD<f64>, ArrayD<f64>) {
        let mut draws = draws();
        let before = Array2::from_shape_fn((width, 6), |_| draws.normal()).into_dyn();
        let after = before.select(Axis(1), &ORDER);
        (before, after)
    }

    #[test]
    fn the_order_of_entries_is_found_by_comparing_them() {
        let (before, after) = shuffled(4);
        let entries = Entries::new(&before, &after, 1, NOISE).expect("one shape");
        assert_eq!(order_of(&[entries], &mut draws()), Some(ORDER.to_vec()));
        let unmoved = Entries::new(&before, &before, 1, NOISE).expect("one shape");
        assert_eq!(order_of(&[unmoved], &mut draws()), Some((0..6).collect()));
    }

    #[test]
    fn entries_that_one_tensor_cannot_tell_apart_another_does() {
        let (mut before, _) = shuffled(4);
        let first = before.index_axis(Axis(1), 0).to_owned();
        before.index_axis_mut(Axis(1), 4).assign(&first);
        let after = before.select(Axis(1), &ORDER);
        let alike = Entries::new(&before, &after, 1, NOISE).expect("one shape");
        let (before, after) = shuffled(3);
        let told = Entries::new(&before, &after, 1, NOISE).expect("one shape");
        assert_eq!(order_of(&[alike, told], &mut draws()), Some(ORDER.to_vec()));
    }

    #[test]
    fn a_wrong_entry_has_no_order_but_a_nearest_one() {
        let (before, mut after) = shuffled(4);
        after.index_axis_mut(Axis(1), 2).mapv_inplace(|v| 1.1 * v);
        let entries = [Entries::new(&before, &after, 1, NOISE).expect("one shape")];
        assert_eq!(order_of(&entries, &mut draws()), None);
        assert_eq!(nearest(&entries), Some(ORDER.to_vec()));
        assert!(entries[0].missed(&ORDER) > 0.01);
    }

    #[test]
    fn no_order_is_found_where_two_entries_take_the_same() {
        let (before, mut after) = shuffled(4);
        let first = after.index_axis(Axis(1), 0).to_owned();
        after.index_axis_mut(Axis(1), 1).assign(&first);
        let entries = [Entries::new(&before, &after, 1, NOISE).expect("one shape")];
        assert_eq!(order_of(&entries, &mut draws()), None);
        assert_eq!(nearest(&entries), None);
    }
}
