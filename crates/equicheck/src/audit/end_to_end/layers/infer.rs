//! Layouts of tensors that nobody describes: hypotheses from the shape, tested on every pass (METHOD 12-14).
//!
//! Each pass moves one factor of the group alone, so that the roles of the axes are found factor by factor: which are
//! permuted, on which a representation acts, which are sampled. A fit is evidence and no proof.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::model::{ModuleCall, Tensor, Trace};
use crate::report::Origin;
use crate::symmetry::{
    Axis, BoundLayout, DirectSum, Element, Factor, Lattice, Layout, Representation, Summand, positions,
};

use super::super::super::measure::{Scales, norm};
use super::super::super::sampling::{Draws, Purpose};
use super::super::EndToEnd;
use super::hidden::{self, Hidden};
use super::matching::{Entries, Order, Use, nearest, order_of};
use super::private;
use super::segments::{self, Kind};
use super::{LAST, MARGIN, Passes, Probe, acted, value};

/// Layouts that are offered for a tensor which none fits, at most (METHOD 14: six sufficed).
const CANDIDATES: usize = 6;
/// Tensors that an order is found from, and orders that wrong entries leave uncertain, at most.
const USES: usize = 8;
const GUESSES: usize = 8;
/// Bases of their own that are offered for one shape.
const BASES: usize = 2;
/// Axes of one length that are told apart.
const MOST_PLACES: usize = 4;
/// Largest charge, or power of a scale, that is tried.
const POWER: i32 = 4;
/// A hypothesis that misses by so much is not measured block by block.
const ROUGH: f64 = 0.05;

/// What was found.
pub(super) struct Inferred {
    /// By tensor without a layout: what it may be meant to have.
    pub(super) candidates: Vec<Vec<Layout>>,
    /// By tensor without a layout: what fits in a basis of its own.
    pub(super) private: Vec<Option<Layout>>,
    /// By tensor: whether this basis is stretched, where the group only turns.
    pub(super) anisotropic: Vec<bool>,
    pub(super) orders: Vec<Order>,
}

struct Pass<'a> {
    probe: &'a Probe,
    /// That of the probe, with the orders found so far.
    element: Element,
    trace: &'a Trace,
    there: Vec<Option<usize>>,
}

/// A pass that differs by rounding: from which, itself, and where its tensors are.
type Quiet<'a> = (Option<usize>, &'a Trace, Vec<Option<usize>>);

/// A tensor that fits no layout of anybody's convention.
struct Unfit {
    candidates: Vec<Layout>,
    private: Option<Layout>,
    /// Whether the basis of its own is stretched, where the group only turns.
    anisotropic: bool,
}

/// One tensor in all passes.
struct Values {
    tensor: usize,
    shape: Vec<usize>,
    before: ArrayD<f64>,
    /// By pass.
    after: Vec<Option<ArrayD<f64>>>,
    /// Under rounding alone.
    quiet: Vec<ArrayD<f64>>,
    /// The largest change by rounding over the size.
    noise: f64,
}

struct Inference<'a> {
    stage: &'a EndToEnd<'a>,
    sample: usize,
    clean: &'a Trace,
    passes: Vec<Pass<'a>>,
    /// With the pass that each is compared with.
    quiet: Vec<Quiet<'a>>,
    roundoff: f64,
    /// Lengths of named axes, and lattices of the inputs.
    lengths: BTreeMap<String, usize>,
    lattices: BTreeMap<String, Lattice>,
    kinds: Vec<Kind>,
    /// Those found in bases of their own.
    private: Vec<Kind>,
    orders: Vec<Order>,
    draws: Draws,
}

type Roles = Vec<Axis>;

fn moves_order(probe: &Probe) -> bool {
    probe.permutes
}

fn moves_values(probe: &Probe) -> bool {
    !probe.permutes
}

fn any(_: &Probe) -> bool {
    true
}

impl EndToEnd<'_> {
    /// Layouts for tensors that have none, where all passes agree with one.
    pub(super) fn infer(
        &self,
        passes: &Passes,
        layouts: &mut [Option<Hidden>],
        sample: usize,
        roundoff: f64,
    ) -> Inferred {
        let clean = &passes.clean;
        let places = hidden::places(clean);
        let at = |trace: &Trace| hidden::matched(&places, trace);
        let group = self.specification.group();
        let kinds =
            segments::kinds(group, &passes.moved.iter().map(|(probe, _)| &probe.element).collect::<Vec<_>>());
        let (lengths, lattices) = self.told_by_inputs(sample);
        let mut inference = Inference {
            stage: self,
            sample,
            clean,
            passes: passes
                .moved
                .iter()
                .map(|(probe, trace)| Pass { probe, element: probe.element.clone(), trace, there: at(trace) })
                .collect(),
            quiet: passes.quiet.iter().map(|(base, trace)| (*base, trace, at(trace))).collect(),
            roundoff,
            lengths,
            lattices,
            kinds,
            private: Vec::new(),
            orders: Vec::new(),
            draws: Draws::new(self.options.seed, sample, super::ORDERS, Purpose::Layers),
        };
        // By tensor: the first call that ends with it among what it gives.
        let mut givers: Vec<Option<&ModuleCall>> = vec![None; layouts.len()];
        for call in &clean.calls {
            for leaf in &call.outputs {
                let giver = &mut givers[leaf.tensor];
                if giver.is_none_or(|other| call.ended < other.ended) {
                    *giver = Some(call);
                }
            }
        }
        let mut by_shape: BTreeMap<&[usize], Vec<Layout>> = BTreeMap::new();
        let mut private_by_shape: BTreeMap<&[usize], Vec<Layout>> = BTreeMap::new();
        let mut candidates = vec![Vec::new(); layouts.len()];
        let mut private = vec![None; layouts.len()];
        let mut anisotropic = vec![false; layouts.len()];
        for t in 0..layouts.len() {
            let shape = clean.tensors[t].shape.as_slice();
            if layouts[t].is_none() && !self.spent(LAST) {
                let mut known = given(clean, layouts, t, givers[t]);
                for layout in by_shape.get(shape).into_iter().flatten() {
                    if !known.contains(layout) {
                        known.push(layout.clone());
                    }
                }
                known.truncate(CANDIDATES);
                let in_own_basis = private_by_shape.entry(shape).or_default();
                match inference.tensor(t, &known, in_own_basis) {
                    Some(Ok((layout, origin))) => layouts[t] = Some(Hidden { layout, origin }),
                    Some(Err(unfit)) => {
                        candidates[t] = unfit.candidates;
                        if let Some(layout) = &unfit.private
                            && in_own_basis.len() < BASES
                            && !in_own_basis.contains(layout)
                        {
                            in_own_basis.push(layout.clone());
                        }
                        private[t] = unfit.private;
                        anisotropic[t] = unfit.anisotropic;
                    }
                    None => {}
                }
            }
            if let Some(hidden) = layouts[t].as_ref().filter(|hidden| hidden.layout.values().is_none()) {
                let of_shape = by_shape.entry(shape).or_default();
                if !of_shape.contains(&hidden.layout) {
                    of_shape.push(hidden.layout.clone());
                }
            }
        }
        Inferred { candidates, private, anisotropic, orders: inference.orders }
    }
}

/// Layouts with as many axes of what the module was given that gave a tensor of another shape: one that resamples a grid
/// leaves the others alone.
fn given(clean: &Trace, layouts: &[Option<Hidden>], t: usize, giver: Option<&ModuleCall>) -> Vec<Layout> {
    let shape = |t: usize| clean.tensors[t].shape.as_slice();
    let mut found = Vec::new();
    for leaf in giver.into_iter().flat_map(|call| &call.inputs) {
        if let Some(Hidden { layout, .. }) = &layouts[leaf.tensor]
            && shape(leaf.tensor) != shape(t)
            && layout.axes().len() == shape(t).len()
            && layout.axes().iter().any(|axis| matches!(axis, Axis::Grid(_)))
            && !found.contains(layout)
        {
            found.push(layout.clone());
        }
    }
    found
}

impl Inference<'_> {
    /// `None` where there is nothing to go by. `known` and `private` are layouts of tensors of this shape.
    fn tensor(
        &mut self,
        tensor: usize,
        known: &[Layout],
        private: &[Layout],
    ) -> Option<Result<(Layout, Origin), Unfit>> {
        let Some(values) = self.values(tensor) else { return self.positions(tensor) };
        let still = Layout::of(vec![Axis::Ellipsis]);
        if self.fits(&values, &still, any) {
            return Some(Ok((still, Origin::Invariant)));
        }
        for layout in known {
            if self.fits(&values, layout, any) {
                return Some(Ok((self.used(&values, layout), Origin::Inferred)));
            }
        }
        let permuted = self.permuted(&values);
        let plain = plain(&values.shape);
        let fixed = permuted.as_ref().unwrap_or(&plain).clone();
        let moved = self.moved(&values, &fixed);
        if let (Ok(permuted), Ok(moved)) = (&permuted, &moved)
            && let Some(axes) = overlaid(permuted, moved)
        {
            let layout = Layout::of(axes);
            if self.fits(&values, &layout, any) {
                return Some(Ok((self.used(&values, &layout), Origin::Inferred)));
            }
        }
        let own = private
            .iter()
            .find(|layout| self.fits(&values, layout, any))
            .cloned()
            .or_else(|| self.in_own_basis(&values, permuted.as_deref().ok()?));
        let listed = |roles: Result<Roles, Vec<Roles>>| roles.map_or_else(|several| several, |one| vec![one]);
        let (permuted, moved) = (listed(permuted), listed(moved));
        let mut candidates = known.to_vec();
        for moved in &moved {
            for permuted in &permuted {
                let Some(axes) = overlaid(permuted, moved) else { continue };
                let layout = Layout::of(axes);
                if !candidates.contains(&layout) && self.bound(&layout, &values.shape).is_some() {
                    candidates.push(layout);
                }
            }
        }
        candidates.truncate(CANDIDATES);
        candidates.extend(private.iter().filter(|layout| own.as_ref() != Some(layout)).cloned());
        let anisotropic = own.as_ref().is_some_and(|layout| self.is_anisotropic(layout, values.noise));
        Some(Err(Unfit { candidates, private: own, anisotropic }))
    }

    /// Whole numbers that may be positions along an axis that the group permutes. Where the same numbers come in another
    /// order, they are a list in an order of its own.
    fn positions(&self, tensor: usize) -> Option<Result<(Layout, Origin), Unfit>> {
        let before = value(self.clean, Some(tensor)).filter(|before| !before.dtype().is_inexact())?;
        let after: Vec<(&Element, &Tensor)> = self
            .passes
            .iter()
            .map(|pass| Some((&pass.element, value(pass.trace, pass.there[tensor])?)))
            .collect::<Option<_>>()?;
        if before.is_empty()
            || after.is_empty()
            || after.iter().any(|(_, after)| after.shape() != before.shape())
        {
            return None;
        }
        let sorted = |tensor: &Tensor| {
            let mut values: Vec<f64> = tensor.to_real().iter().copied().collect();
            values.sort_by(f64::total_cmp);
            values
        };
        // Each number once: that they are the same says nothing.
        let each_once = sorted(before).iter().enumerate().all(|(k, v)| *v == k as f64);
        let mut roles = vec![(plain(before.shape()), None)];
        for (name, n) in self.stage.permuted_lengths_of(self.sample) {
            for axes in options(before.shape(), &name, n) {
                roles.push((axes.clone(), None));
                roles.extend(positions(&before.to_real(), &name, n).map(|values| (axes, Some(values))));
            }
        }
        let mut candidates = Vec::new();
        let mut own_order = false;
        for (axes, values) in roles {
            let layout = match values {
                Some(values) => Layout::of_positions(axes, values),
                None => Layout::of(axes),
            };
            let Some(bound) = self.bound(&layout, before.shape()) else { continue };
            let pairs: Vec<(Tensor, &Tensor)> =
                after.iter().map(|(element, after)| (bound.act(element, before), *after)).collect();
            if pairs.iter().all(|(acted, after)| acted.same_bits(after)) {
                // What nothing moves needs no layout.
                let moves = layout != Layout::of(plain(before.shape()));
                return moves.then_some(Ok((layout, Origin::Inferred)));
            }
            if !each_once && pairs.iter().all(|(acted, after)| sorted(acted) == sorted(after)) {
                own_order = true;
            } else if layout.values().is_some() {
                candidates.push(layout);
            }
        }
        if own_order {
            return None;
        }
        candidates.truncate(CANDIDATES);
        (!candidates.is_empty()).then_some(Err(Unfit { candidates, private: None, anisotropic: false }))
    }

    fn is_anisotropic(&self, layout: &Layout, noise: f64) -> bool {
        let tolerance = MARGIN * noise * layout.condition();
        layout.representations().any(|representation| match representation {
            Representation::InBasis(basis) => {
                self.passes.iter().any(|pass| basis.is_orthogonal(&pass.element, tolerance) == Some(false))
            }
            _ => false,
        })
    }

    /// A layout with a basis of its own along one axis, or with such as other tensors have.
    fn in_own_basis(&mut self, values: &Values, permuted: &[Axis]) -> Option<Layout> {
        for base in &self.bases(values, permuted) {
            let Some(passes) = self.passes_moving(values, base) else { continue };
            let with = |at: usize, axis: Axis| {
                let mut axes = base.clone();
                axes[at] = axis;
                let layout = Layout::of(overlaid(permuted, &axes)?);
                self.fits(values, &layout, any).then_some(layout)
            };
            let kinds: Vec<Kind> = self.kinds.iter().chain(&self.private).cloned().collect();
            for at in free(base, permuted).rev() {
                if !self.private.is_empty()
                    && let Some(found) = segments::along(at, &passes, &values.quiet, self.roundoff, &kinds)
                    && found.unexplained == 0
                    && let Some(layout) = with(at, found.axis)
                {
                    return Some(layout);
                }
                let Some(found) = private::in_own_basis(at, &passes, values.noise, &self.kinds) else {
                    continue;
                };
                if let Some(layout) = with(at, Axis::of(Representation::InBasis(found.clone()))) {
                    if self.private.len() < BASES {
                        self.private.push(Kind::in_basis(found));
                    }
                    return Some(layout);
                }
            }
        }
        None
    }

    fn values(&self, tensor: usize) -> Option<Values> {
        let before = value(self.clean, Some(tensor))?;
        if !before.dtype().is_inexact() || self.passes.is_empty() {
            return None;
        }
        let shape = before.shape().to_vec();
        let before = before.to_real();
        let real = |trace: &Trace, at: Option<usize>| {
            value(trace, at)
                .map(crate::model::Tensor::to_real)
                .filter(|after| after.shape() == before.shape())
        };
        let after: Vec<Option<ArrayD<f64>>> =
            self.passes.iter().map(|pass| real(pass.trace, pass.there[tensor])).collect();
        let quiet: Vec<ArrayD<f64>> = self
            .quiet
            .iter()
            .filter_map(|(base, trace, at)| {
                let unmoved = base.map_or(Some(&before), |k| after[k].as_ref());
                Some(real(trace, at[tensor])? - unmoved?)
            })
            .collect();
        let finite = |values: &ArrayD<f64>| values.iter().all(|v| v.is_finite());
        // Masks of attention hold infinities: nothing is compared with them.
        if !finite(&before) || !after.iter().flatten().chain(&quiet).all(finite) {
            return None;
        }
        let size = norm(&before);
        let rounded = quiet.iter().map(norm).fold(0.0, f64::max);
        let noise = (2.0 * self.roundoff).max(if size > 0.0 { rounded / size } else { 0.0 });
        Some(Values { tensor, shape, before, after, quiet, noise })
    }

    fn bound(&self, layout: &Layout, shape: &[usize]) -> Option<BoundLayout> {
        self.stage.bound_knowing(layout, shape, self.sample, (&self.lengths, &self.lattices))
    }

    /// Whether the tensor transforms by this layout in all passes over what `which` tells.
    fn fits(&self, values: &Values, layout: &Layout, which: fn(&Probe) -> bool) -> bool {
        let Some(bound) = self.bound(layout, &values.shape) else { return false };
        let mut differences = Vec::new();
        for (pass, after) in self.passes.iter().zip(&values.after).filter(|(pass, _)| which(pass.probe)) {
            let Some(after) = after else { return false };
            let Some(expected) = acted(&bound, &pass.element, &values.before) else { return false };
            let difference = bound.difference(&pass.element, after, &expected);
            let (missed, size) = (norm(&difference), norm(&expected).max(norm(&values.before)));
            if missed.is_nan() || missed > size * ROUGH.max(MARGIN * values.noise) {
                return false;
            }
            differences.push((difference, expected));
        }
        let scales = Scales::new([(&bound, &values.before)].into_iter());
        let noise = values
            .quiet
            .iter()
            .map(|change| scales.measure(&bound, change, &values.before).scaled)
            .fold(2.0 * self.roundoff, f64::max)
            * layout.condition();
        differences.iter().all(|(difference, expected)| {
            scales.measure(&bound, difference, expected).scaled <= MARGIN * noise
        })
    }

    /// By how much of its size the tensor misses a layout, at most; `None` where that cannot act.
    fn missed(&self, values: &Values, layout: &Layout, which: fn(&Probe) -> bool) -> Option<f64> {
        let bound = self.bound(layout, &values.shape)?;
        let mut worst = 0.0_f64;
        for (pass, after) in self.passes.iter().zip(&values.after).filter(|(pass, _)| which(pass.probe)) {
            let expected = acted(&bound, &pass.element, &values.before)?;
            let difference = bound.difference(&pass.element, after.as_ref()?, &expected);
            let size = norm(&expected).max(norm(&values.before));
            worst = worst.max(norm(&difference) / size.max(f64::MIN_POSITIVE));
        }
        Some(worst).filter(|worst| !worst.is_nan())
    }

    /// Notes that the tensor has these axes.
    fn used(&mut self, values: &Values, layout: &Layout) -> Layout {
        for (at, axis) in layout.axes().iter().enumerate() {
            if let Axis::Permuted(name) = axis
                && let Some(order) = self.orders.iter_mut().find(|order| order.name == *name)
                && order.uses.len() < USES
                && order.uses.iter().all(|known| (known.tensor, known.axis) != (values.tensor, at))
            {
                order.uses.push(Use { tensor: values.tensor, axis: at, noise: values.noise, layout: None });
            }
        }
        layout.clone()
    }

    /// Which axes the permutations of the group move; else what seems likely.
    fn permuted(&mut self, values: &Values) -> Result<Roles, Vec<Roles>> {
        let nothing = plain(&values.shape);
        let lengths = self.stage.permuted_lengths_of(self.sample);
        if lengths.is_empty() || !self.passes.iter().any(|pass| moves_order(pass.probe)) {
            return Ok(nothing);
        }
        let mut likely: Vec<Roles> = Vec::new();
        let mut roles = vec![nothing.clone()];
        for (name, n) in &lengths {
            // Axes that several permutations move are found together.
            let mut next = Vec::new();
            for option in options(&values.shape, name, *n) {
                next.extend(roles.iter().filter_map(|so_far| overlaid(so_far, &option)));
            }
            roles = next;
        }
        for axes in roles {
            if self.fits(values, &Layout::of(axes.clone()), moves_order) {
                return Ok(axes);
            }
            if likely.len() < 2 && axes != nothing {
                likely.push(axes);
            }
        }
        if let Some(axes) = self.ordered(values, &nothing, moves_order) {
            return Ok(axes);
        }
        // Axes of other tensors of this length.
        for (at, length) in values.shape.iter().enumerate() {
            for order in self.orders.iter().filter(|order| order.length == *length) {
                let mut axes = nothing.clone();
                axes[at] = Axis::Permuted(order.name.clone());
                likely.push(axes);
            }
        }
        likely.push(nothing);
        likely.truncate(3);
        Err(likely)
    }

    /// Which axes may be sampled, beside those that are permuted; last, that none is.
    fn bases(&self, values: &Values, fixed: &[Axis]) -> Vec<Roles> {
        let mut bases = self.stage.grids_on(&values.shape, self.sample);
        bases.retain(|axes| overlaid(axes, fixed).is_some());
        bases.push(plain(&values.shape));
        bases
    }

    /// What acts on the values, and on the grid; else what seems likely. `fixed` says which axes are permuted.
    fn moved(&mut self, values: &Values, fixed: &[Axis]) -> Result<Roles, Vec<Roles>> {
        let nothing = plain(&values.shape);
        if !self.passes.iter().any(|pass| moves_values(pass.probe)) {
            return Ok(nothing);
        }
        let mut bases = self.bases(values, fixed);
        for weight in self.weights() {
            let mut axes = nothing.clone();
            axes.push(Axis::of(weight));
            bases.push(axes);
        }
        for base in &bases {
            if self.fits(values, &Layout::of(base.clone()), moves_values) {
                return Ok(base.clone());
            }
        }
        let mut likely: Vec<(f64, Roles)> = Vec::new();
        for base in &bases {
            for at in free(base, fixed).rev() {
                let Some(found) = self.segmented(values, base, at) else { continue };
                let mut axes = base.clone();
                axes[at] = found.axis;
                if found.unexplained == 0 && self.fits(values, &Layout::of(axes.clone()), moves_values) {
                    return Ok(axes);
                }
                likely.push((found.unexplained as f64 / values.shape[at] as f64, axes));
            }
            // A component that is wrong everywhere, as one that is always zero, may look like a scalar.
            let of_vectors = self.of_vectors(values, base, fixed, usize::MAX);
            likely.extend(of_vectors.into_iter().rev().map(|axes| (1.0, axes)));
            for axes in self.vectors(values, base, fixed) {
                if self.fits(values, &Layout::of(axes.clone()), moves_values) {
                    return Ok(axes);
                }
                likely.push((1.0, axes));
            }
        }
        // Frames turn, and come in another order.
        let turned: Vec<Roles> =
            bases.iter().flat_map(|base| self.of_vectors(values, base, fixed, 1)).collect();
        for base in bases.iter().cloned().chain(turned) {
            if let Some(axes) = self.ordered(values, &base, moves_values) {
                return Ok(axes);
            }
        }
        if self.passes.iter().any(|pass| moves_values(pass.probe) && pass.probe.discrete) {
            let guesses: Vec<Roles> =
                bases.iter().flat_map(|base| self.nearly_ordered(values, base, moves_values)).collect();
            likely.extend(guesses.into_iter().map(|axes| (0.0, axes)));
        }
        likely.sort_by(|a, b| a.0.total_cmp(&b.0));
        let likely = likely.into_iter().filter(|(share, axes)| *share < 1.0 || *axes != nothing);
        let mut likely: Vec<Roles> = likely.map(|(_, axes)| axes).chain(bases).collect();
        // What is wrong by little comes near to what it is meant to be.
        likely.sort_by_cached_key(|axes| {
            let missed = self.missed(values, &Layout::of(axes.clone()), moves_values);
            missed.filter(|missed| *missed < ROUGH).unwrap_or(f64::INFINITY).to_bits()
        });
        likely.truncate(CANDIDATES);
        Err(likely)
    }

    /// Numbers that a whole tensor may be multiplied by.
    fn weights(&self) -> Vec<Representation> {
        let factors = self.stage.specification.group().factors();
        let powers = || (1..=POWER).flat_map(|k| [k, -k]);
        let mut weights = Vec::new();
        for word in [Representation::Pseudoscalar, Representation::Sign] {
            weights.extend(self.kinds.iter().any(|kind| kind.is(&word)).then_some(word));
        }
        if factors.contains(&Factor::Phase) {
            weights.extend(powers().map(Representation::Charge));
        }
        if factors.contains(&Factor::Scale) {
            weights.extend(powers().map(Representation::Scale));
        }
        weights
    }

    /// The passes that permute nothing, with the tensor as it would be if only the axes of `base` moved.
    fn passes_moving<'a>(&'a self, values: &'a Values, base: &[Axis]) -> Option<Vec<segments::Moved<'a>>> {
        let bound = self.bound(&Layout::of(base.to_vec()), &values.shape)?;
        self.passes
            .iter()
            .zip(&values.after)
            .filter(|(pass, _)| moves_values(pass.probe))
            .map(|(pass, after)| {
                let element = &pass.element;
                let before = acted(&bound, element, &values.before)?;
                Some(segments::Moved { element, before, after: after.as_ref()? })
            })
            .collect()
    }

    fn segmented(&self, values: &Values, base: &[Axis], at: usize) -> Option<segments::Segmented> {
        let passes = self.passes_moving(values, base)?;
        let found = segments::along(at, &passes, &values.quiet, self.roundoff, &self.kinds)?;
        let copies = if found.unexplained > 0 {
            segments::copies_last(&self.kinds, values.shape[at])
        } else {
            Vec::new()
        };
        if copies.is_empty() {
            return Some(found);
        }
        let kinds: Vec<Kind> = self.kinds.iter().cloned().chain(copies).collect();
        segments::along(at, &passes, &values.quiet, self.roundoff, &kinds)
    }

    /// One axis as vectors alone, at most so many.
    fn of_vectors(&self, values: &Values, base: &[Axis], fixed: &[Axis], most: usize) -> Vec<Roles> {
        let Some(d) = self.stage.specification.group().dimension().filter(|d| *d > 1) else {
            return Vec::new();
        };
        let along = |at: usize| {
            let (length, multiplicity) = (values.shape[at], values.shape[at] / d);
            let whole = length.is_multiple_of(d) && (1..=most).contains(&multiplicity);
            whole.then(|| {
                let vectors = Summand { multiplicity, representation: Representation::Vector };
                let mut axes = base.to_vec();
                axes[at] = Axis::Components(DirectSum(vec![vectors]));
                axes
            })
        };
        free(base, fixed).filter_map(along).collect()
    }

    /// Vectors that lie otherwise than along one axis: tensors of higher rank, and components before their channels.
    fn vectors(&self, values: &Values, base: &[Axis], fixed: &[Axis]) -> Vec<Roles> {
        let Some(d) = self.stage.specification.group().dimension().filter(|d| *d > 1) else {
            return Vec::new();
        };
        let words = [Representation::Vector, Representation::Pseudovector, Representation::Covector];
        let words = words.into_iter().filter(|word| self.kinds.iter().any(|kind| kind.is(word)));
        let along: Vec<usize> = free(base, fixed).filter(|at| values.shape[*at] == d).collect();
        let mut found = Vec::new();
        for word in words {
            for rank in (2..=along.len().min(3)).rev() {
                for first in 0..=along.len() - rank {
                    let mut axes = base.to_vec();
                    for (k, at) in along[first..first + rank].iter().enumerate() {
                        axes[*at] = Axis::of(if k == 0 { word.clone() } else { Representation::Vector });
                    }
                    found.push(axes);
                }
            }
            let several = |at: &usize| values.shape[*at] > d && values.shape[*at].is_multiple_of(d);
            for at in free(base, fixed).filter(several) {
                let mut axes = base.to_vec();
                let copies = named("copies");
                axes[at] = Axis::Flattened(vec![Axis::of(word.clone()), copies.clone()]);
                found.push(axes);
                if values.shape[at].is_multiple_of(d * d) {
                    let mut axes = base.to_vec();
                    let pair = [Axis::of(word.clone()), Axis::of(Representation::Vector)];
                    axes[at] = Axis::Flattened([copies].into_iter().chain(pair).collect());
                    found.push(axes);
                }
            }
        }
        found
    }

    /// One axis whose entries come in another order.
    fn ordered(&mut self, values: &Values, base: &[Axis], which: fn(&Probe) -> bool) -> Option<Roles> {
        for at in (0..values.shape.len()).filter(|at| values.shape[*at] > 1 && is_plain(&base[*at])) {
            let length = values.shape[at];
            let here = Use { tensor: values.tensor, axis: at, noise: values.noise, layout: None };
            let with = |name: &str| {
                let mut axes = base.to_vec();
                axes[at] = Axis::Permuted(name.to_owned());
                axes
            };
            let names: Vec<usize> = (0..self.orders.len())
                .filter(|k| self.orders[*k].length == length && !self.orders[*k].is_guessed())
                .collect();
            for k in &names {
                let axes = with(&self.orders[*k].name);
                if self.fits(values, &Layout::of(axes.clone()), which) {
                    return Some(axes);
                }
            }
            // Entries that another tensor cannot tell apart this one may, and the other way round.
            for k in names.into_iter().map(Some).chain([None]) {
                let Some(found) = self.orders_of(values, base, at, k, which) else { continue };
                let name = k.map_or_else(|| Order::name(self.orders.len()), |k| self.orders[k].name.clone());
                let before: Vec<Element> = self.passes.iter().map(|pass| pass.element.clone()).collect();
                for (pass, order) in self.passes.iter_mut().zip(found) {
                    pass.element = pass.element.clone().with_permutation(&name, order);
                }
                let axes = with(&name);
                if self.fits(values, &Layout::of(axes.clone()), which) {
                    match k {
                        Some(k) if self.orders[k].uses.len() < USES => self.orders[k].uses.push(here.clone()),
                        Some(_) => {}
                        None => self.orders.push(Order { name, length, uses: vec![here.clone()] }),
                    }
                    return Some(axes);
                }
                for (pass, element) in self.passes.iter_mut().zip(before) {
                    pass.element = element;
                }
            }
        }
        None
    }

    /// Axes whose entries seem to come in another order, but for an error in some of them.
    fn nearly_ordered(&mut self, values: &Values, base: &[Axis], which: fn(&Probe) -> bool) -> Vec<Roles> {
        let Some(bound) = self.bound(&Layout::of(base.to_vec()), &values.shape) else { return Vec::new() };
        let mut found = Vec::new();
        for at in (0..values.shape.len()).filter(|at| values.shape[*at] > 1 && is_plain(&base[*at])) {
            let mut orders = Vec::new();
            let (mut before, mut after) = (0f64, 0f64);
            let unmoved: Vec<usize> = (0..values.shape[at]).collect();
            for (pass, value) in self.passes.iter().zip(&values.after) {
                if !which(pass.probe) {
                    orders.push(unmoved.clone());
                    continue;
                }
                let expected = acted(&bound, &pass.element, &values.before).zip(value.as_ref());
                let entries =
                    expected.and_then(|(expected, value)| Entries::new(&expected, value, at, values.noise));
                let Some(entries) = entries else { break };
                let Some(order) = nearest(std::slice::from_ref(&entries)) else { break };
                before = before.max(entries.missed(&unmoved));
                after = after.max(entries.missed(&order));
                orders.push(order);
            }
            let guesses = self.orders.iter().filter(|order| order.is_guessed()).count();
            if orders.len() < self.passes.len() || after >= 0.5 * before || guesses >= GUESSES {
                continue;
            }
            let name = Order::name(self.orders.len());
            for (pass, order) in self.passes.iter_mut().zip(orders) {
                pass.element = pass.element.clone().with_permutation(&name, order);
            }
            let noise = 2.0 * after / MARGIN;
            let layout = Some(Layout::of(base.to_vec()));
            let uses = vec![Use { tensor: values.tensor, axis: at, noise, layout }];
            self.orders.push(Order { name: name.clone(), length: values.shape[at], uses });
            let mut axes = base.to_vec();
            axes[at] = Axis::Permuted(name);
            found.push(axes);
        }
        found
    }

    /// By pass, the order of this axis, together with what tensors of a known one say; that of the others unmoved.
    fn orders_of(
        &mut self,
        values: &Values,
        base: &[Axis],
        at: usize,
        known: Option<usize>,
        which: fn(&Probe) -> bool,
    ) -> Option<Vec<Vec<usize>>> {
        let bound = self.bound(&Layout::of(base.to_vec()), &values.shape)?;
        let length = values.shape[at];
        let uses = known.map_or_else(Vec::new, |k| self.orders[k].uses.clone());
        let others: Vec<(Values, usize)> =
            uses.into_iter().filter_map(|known| Some((self.values(known.tensor)?, known.axis))).collect();
        let mut found = Vec::new();
        for (k, pass) in self.passes.iter().enumerate() {
            if !which(pass.probe) {
                found.push((0..length).collect());
                continue;
            }
            let expected = acted(&bound, &pass.element, &values.before)?;
            let mut entries = vec![Entries::new(&expected, values.after[k].as_ref()?, at, values.noise)?];
            for (other, axis) in &others {
                // Orders are found where nothing but the order moves.
                entries.push(Entries::new(&other.before, other.after[k].as_ref()?, *axis, other.noise)?);
            }
            found.push(order_of(&entries, &mut self.draws)?);
        }
        Some(found)
    }
}

/// Axes that nothing moves.
pub(super) fn plain(shape: &[usize]) -> Roles {
    let name =
        |k: usize| if k + 1 == shape.len() && k > 0 { "channel".to_owned() } else { format!("axis{k}") };
    (0..shape.len()).map(|k| Axis::Plain { name: name(k), marked: k + 1 != shape.len() || k == 0 }).collect()
}

/// A plain axis of any name.
fn named(name: &str) -> Axis {
    Axis::Plain { name: name.to_owned(), marked: true }
}

/// Axes on which a representation may act: neither sampled nor permuted.
fn free<'a>(base: &'a [Axis], fixed: &'a [Axis]) -> impl DoubleEndedIterator<Item = usize> + use<'a> {
    (0..fixed.len()).filter(|at| is_plain(&base[*at]) && !matches!(fixed[*at], Axis::Permuted(_)))
}

fn is_plain(axis: &Axis) -> bool {
    matches!(axis, Axis::Plain { .. })
}

/// Where an axis of the group of this length may be: on several axes or one, flattened, or nowhere.
fn options(shape: &[usize], name: &str, n: usize) -> Vec<Roles> {
    let nothing = plain(shape);
    let permuted = || Axis::Permuted(name.to_owned());
    let with = |places: &[(usize, Axis)]| {
        let mut axes = nothing.clone();
        for (at, axis) in places {
            axes[*at] = axis.clone();
        }
        axes
    };
    let places: Vec<usize> = (0..shape.len()).filter(|at| shape[*at] == n).collect();
    // Every subset of them, since a channel may be as long: larger ones first.
    let count = places.len().min(MOST_PLACES);
    let mut subsets: Vec<u32> = (1..1u32 << count).collect();
    subsets.sort_by_key(|subset| std::cmp::Reverse(subset.count_ones()));
    let mut found: Vec<Roles> = subsets
        .into_iter()
        .map(|subset| {
            let chosen = (0..count).filter(|k| subset >> k & 1 == 1);
            with(&chosen.map(|k| (places[k], permuted())).collect::<Vec<_>>())
        })
        .collect();
    for at in (0..shape.len()).filter(|at| n > 1 && shape[*at] > n && shape[*at].is_multiple_of(n)) {
        let rest = || named("rest");
        if shape[at] == n * n {
            found.push(with(&[(at, Axis::Flattened(vec![permuted(), permuted()]))]));
        }
        found.push(with(&[(at, Axis::Flattened(vec![permuted(), rest()]))]));
        found.push(with(&[(at, Axis::Flattened(vec![rest(), permuted()]))]));
    }
    found.push(nothing);
    found
}

/// Roles of different factors together; `None` where they contradict each other.
fn overlaid(a: &[Axis], b: &[Axis]) -> Option<Roles> {
    // Weights have no axis, and come after those that have one.
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let weights = long[short.len()..].iter().map(|axis| Some(axis.clone()));
    a.iter().zip(b).map(|(a, b)| one_axis(a, b)).chain(weights).collect()
}

fn one_axis(a: &Axis, b: &Axis) -> Option<Axis> {
    match (a, b) {
        (a, b) if a == b || is_plain(b) => Some(a.clone()),
        (a, b) if is_plain(a) => Some(b.clone()),
        (Axis::Flattened(first), Axis::Flattened(second)) if first.len() == second.len() => {
            Some(Axis::Flattened(overlaid(first, second)?))
        }
        // `(nodes rest!)` with `6*vector` along it.
        (Axis::Flattened(parts), Axis::Components(sum)) | (Axis::Components(sum), Axis::Flattened(parts)) => {
            match (&parts[..], &sum.0[..]) {
                ([first, rest], [summand]) if is_plain(rest) => Some(Axis::Flattened(vec![
                    first.clone(),
                    named("copies"),
                    Axis::Components(DirectSum::from(summand.representation.clone())),
                ])),
                _ => None,
            }
        }
        _ => None,
    }
}
