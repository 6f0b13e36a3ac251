//! Modules that are blamed, by themselves: what their operations are, which places and components of their inputs their
//! outputs depend on, and where they go wrong. Diagnosis reads it.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayD, Axis as ArrayAxis};

use crate::Error;
use crate::model::{Call, CallError, Model, ModuleCall, Performed, Tensor, Trace, TracedLeaf, Tracing};
use crate::report::{BreakKind, Examination, Outcome, Placement, Unread, Variation, is_narrowing};
use crate::symmetry::{Axis, BoundLayout, Layout, alternatives, orders};

use super::super::super::evidence::{Evidence, Judgement};
use super::super::super::measure::root_mean_square;
use super::super::super::precision::Proof;
use super::super::super::sampling::{Draws, Part, Purpose};
use super::super::EndToEnd;
use super::super::judgement::outcome;
use super::search::{Found, Scene};
use super::{Figures, LAST, MARGIN, Reference, acted, noise_of, relative_error, tracing_of, value};

/// Entries, and places, whose influence is followed one by one.
const FOLLOWED: usize = 6;
/// Most nodes of a square pattern of neighbours.
const MOST_NODES: usize = 1024;
/// Longest axis of which every place is.
const LONGEST: usize = 64;
/// Powers of two by which inputs are changed to see what rounding swallows, the largest first.
const POWERS: [i32; 14] = [-4, -8, -9, -10, -11, -12, -14, -16, -18, -20, -22, -24, -28, -34];
/// How many times as much as its input a smooth function moves at most, next to one that jumps.
const JUMPS: f64 = 64.0;
/// Most components of a representation whose orders are tried.
const LARGEST_BLOCK: usize = 9;
/// How probable it may be that what is wrong lies along a border by chance.
const CHANCE: f64 = 0.01;
/// By how much an entry is moved, in units of its tensor's root mean square: large enough to see what is not linear.
const STEP: f64 = 0.5;
/// What is left of a linear function's second difference, over its first, beyond rounding.
const CURVED: f64 = 1e-3;

/// Axes by name, and where they are.
type Named = Vec<(String, usize)>;

/// A blamed call in the pass that is kept.
struct Blamed<'a> {
    /// Position in that pass.
    position: usize,
    inputs: Vec<Tensor>,
    /// With where it is in the scene's clean pass.
    given: Vec<(&'a TracedLeaf, Option<&'a BoundLayout>)>,
    /// What comes out: values, layouts that it may have.
    outputs: Vec<(Tensor, &'a [BoundLayout], usize)>,
    /// Their positions, those that are most wrong first.
    order: Vec<usize>,
    noise: f64,
}

impl<'a> Blamed<'a> {
    /// The output that is most wrong.
    fn worst(&self) -> &(Tensor, &'a [BoundLayout], usize) {
        &self.outputs[self.order[0]]
    }
}

impl EndToEnd<'_> {
    /// One examination for each module among the breaks.
    pub(super) fn examined(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        found: &[Found],
        evidence: &Evidence,
    ) -> Result<Vec<Examination>, Error> {
        let mut examinations = Vec::new();
        let moved = self.breaking_axes(evidence);
        if found.is_empty() || self.spent(LAST) {
            return Ok(examinations);
        }
        let inputs = self.inputs(scene.sample, scene.wide);
        let Some(tracing) = tracing_of(model) else { return Ok(examinations) };
        let operations = self.operations(tracing, scene.sample, &inputs)?;
        let kept = self.traced(tracing, scene.sample, &inputs, &[], true)?;
        for found in found {
            let broken = &found.broken;
            let within = |path: &str| {
                path == broken.location
                    || path.strip_prefix(&broken.location).is_some_and(|rest| rest.starts_with('.'))
            };
            // Code between two calls of a container: its own operations alone.
            let own = |path: &str| match broken.kind {
                BreakKind::Module => within(path),
                _ => path == broken.location,
            };
            let mut examination = Examination {
                location: broken.location.clone(),
                call: broken.call,
                operations: distinct(
                    operations.iter().filter(|(p, ..)| own(p)).flat_map(|(.., o)| o.clone()),
                ),
                classes: distinct(
                    scene.clean.calls.iter().filter(|call| within(&call.path)).map(|call| call.class.clone()),
                ),
                ..Examination::default()
            };
            // Code of a module's own is seen in what the module does.
            if let (BreakKind::Module | BreakKind::Functional, Ok(kept)) = (broken.kind, &kept) {
                let at = |trace: &Trace| {
                    trace
                        .calls
                        .iter()
                        .position(|call| (&call.path, call.number) == (&broken.location, broken.call))
                };
                if let (Some(position), Some(call)) = (at(kept), at(&scene.clean)) {
                    self.look_at(tracing, scene, (position, call), &moved, &mut examination)?;
                }
            }
            examinations.push(examination);
        }
        tracing.forget();
        Ok(examinations)
    }

    /// Named axes that factors which break move: those that they permute, and all of the grid for others.
    fn breaking_axes(&self, evidence: &Evidence) -> BTreeSet<String> {
        let judged = evidence.judgements();
        let group = self.specification.group();
        let grid = || self.cases.iter().flat_map(|case| case.layouts.iter().flatten()).flat_map(grid_axes);
        let mut axes = BTreeSet::new();
        for factor in group.factors() {
            let label = Part::of(group, &factor).name();
            let breaks = |judgement: &Judgement| {
                judgement.factors.iter().any(|row| row.factor == label && row.exceeding > 0)
            };
            if judged.iter().any(breaks) {
                match factor.permuted_axis() {
                    Some(name) => axes.extend([name.to_owned()]),
                    None => axes.extend(grid().map(|(name, _)| name)),
                }
            }
        }
        axes
    }

    /// The operations of each module call; none of code that the host cannot watch.
    fn operations(
        &mut self,
        tracing: &mut dyn Tracing,
        sample: usize,
        inputs: &[Tensor],
    ) -> Result<Vec<Performed>, Error> {
        self.calls.count("diagnosis");
        let sample = self.calls.source(sample);
        match tracing.operations(&Call { sample, inputs, reset_generators: true, restore_state: true }) {
            Ok(operations) => Ok(operations),
            Err(CallError::Raised(_)) => Ok(Vec::new()),
            Err(CallError::Interrupted) => Err(Error::Interrupted),
        }
    }

    /// Where nothing is broken: the module that enlarges rounding beyond what passes, or that drops precision.
    pub(super) fn suspected(
        &mut self,
        model: &mut dyn Model,
        (reference, figures): (&Reference, &[Figures]),
        (sample, wide): (usize, bool),
        evidence: &Evidence,
    ) -> Result<Vec<Examination>, Error> {
        let trace = &reference.trace;
        let decisions = evidence.decisions();
        let void = evidence.outputs.iter().any(|output| matches!(output.proof, Proof::Drops { .. }));
        let enlarged = decisions.iter().any(|decision| outcome(decision) == Outcome::Amplified);
        let jumps =
            evidence.outputs.iter().any(|output| output.noise.discontinuous || !output.noise.same_function());
        if !(void || enlarged || jumps) || self.spent(LAST) {
            return Ok(Vec::new());
        }
        let inputs = self.inputs(sample, wide);
        let Some(tracing) = tracing_of(model) else { return Ok(Vec::new()) };
        let operations = self.operations(tracing, sample, &inputs)?;
        let nodes = self.permuted_lengths_of(sample);
        let performed = |call: &ModuleCall| {
            let own = operations.iter().filter(|(path, n, _)| (path, *n) == (&call.path, call.number));
            distinct(own.flat_map(|(.., names)| names.clone()))
        };
        let examination = |call: &ModuleCall| Examination {
            location: call.path.clone(),
            call: call.number,
            classes: vec![call.class.clone()],
            operations: performed(call),
            cap: call.outputs.iter().find_map(|leaf| cap(value(trace, Some(leaf.tensor))?, &nodes)),
            ..Examination::default()
        };
        let mut found = Vec::new();
        if enlarged || jumps {
            let floor = 2.0 * self.roundoff_in(wide);
            let noise = |leaves: &[TracedLeaf]| noise_of(leaves, figures).max(floor);
            let ratio = |call: &ModuleCall| noise(&call.outputs) / noise(&call.inputs);
            let total = trace.calls.first().map_or(1.0, |root| noise(&root.outputs) / floor);
            let innermost = |k: usize| {
                !trace.calls.iter().any(|child| child.parent == Some(k) && ratio(child) > total.sqrt())
            };
            let calls = trace.calls.iter().enumerate().skip(1);
            let most = calls
                .filter(|(k, call)| !call.inputs.is_empty() && innermost(*k))
                .map(|(_, call)| (ratio(call), call))
                .filter(|(ratio, _)| *ratio > total.sqrt())
                .max_by(|(a, _), (b, _)| a.total_cmp(b));
            found.extend(
                most.map(|(ratio, call)| Examination { amplifies: Some(ratio), ..examination(call) }),
            );
        }
        if void {
            let casts = |call: &&ModuleCall| performed(call).iter().any(|name| is_narrowing(name));
            found.extend(trace.calls.iter().skip(1).find(casts).map(examination));
        }
        Ok(found)
    }

    fn look_at(
        &mut self,
        tracing: &mut dyn Tracing,
        scene: &Scene<'_>,
        (position, call): (usize, usize),
        moved: &BTreeSet<String>,
        examination: &mut Examination,
    ) -> Result<(), Error> {
        let call = &scene.clean.calls[call];
        let values = |leaf: &TracedLeaf| value(&scene.clean, Some(leaf.tensor)).cloned();
        let inputs: Option<Vec<Tensor>> = call.inputs.iter().map(values).collect();
        let Some(inputs) = inputs else { return Ok(()) };
        let outputs = call
            .outputs
            .iter()
            .filter_map(|leaf| Some((values(leaf)?, scene.layouts[leaf.tensor].as_slice(), leaf.tensor)));
        let mut blamed = Blamed {
            position,
            inputs,
            given: call.inputs.iter().map(|leaf| (leaf, scene.layouts[leaf.tensor].first())).collect(),
            outputs: outputs.collect(),
            order: Vec::new(),
            noise: call.outputs.iter().map(|leaf| scene.noise[leaf.tensor]).fold(0.0, f64::max),
        };
        if blamed.outputs.len() != call.outputs.len() || blamed.outputs.is_empty() {
            return Ok(());
        }
        // The output that is most wrong first.
        let errors = scene.errors(&scene.moved);
        let error =
            |tensor: usize| errors[tensor].unwrap_or(0.0) / scene.noise[tensor].max(f64::MIN_POSITIVE);
        blamed.order = (0..blamed.outputs.len()).collect();
        blamed.order.sort_by(|a, b| error(blamed.outputs[*b].2).total_cmp(&error(blamed.outputs[*a].2)));
        examination.own_basis = blamed.outputs.iter().any(|(.., t)| scene.private[*t].is_some());
        self.in_this_pass(scene, &blamed, examination);
        let there = scene.there(&scene.moved);
        examination.unmoved = call.inputs.iter().all(|leaf| {
            let moved = value(&scene.moved, there[leaf.tensor]);
            moved.zip(value(&scene.clean, Some(leaf.tensor))).is_some_and(|(a, b)| a.same_bits(b))
        });
        examination.counts = blamed.inputs.iter().any(|input| {
            let values = input.to_real();
            !input.dtype().is_inexact()
                && values.len() > 2
                && values.iter().enumerate().all(|(k, v)| *v == k as f64)
        });
        examination.resampling = resampling(&blamed);
        let nodes = self.permuted_lengths_of(scene.sample);
        examination.cap = blamed.outputs.iter().find_map(|(values, ..)| cap(values, &nodes));
        // What reads state that is not among its arguments is not called again.
        let Some(again) = self.given_by(tracing, &blamed, &blamed.inputs)? else { return Ok(()) };
        if !again.iter().zip(&blamed.outputs).all(|(a, (b, ..))| a.same_bits(b)) {
            return Ok(());
        }
        self.by_rounding(tracing, &blamed, examination)?;
        self.by_component(tracing, scene, &blamed, examination)?;
        self.by_place(tracing, &blamed, moved, examination)?;
        self.by_order(tracing, scene, &blamed, examination)?;
        if examination.order.is_none() {
            self.by_exchange(tracing, scene, &blamed, examination)?;
        }
        Ok(())
    }

    /// What the module gives on other inputs.
    fn given_by(
        &mut self,
        tracing: &mut dyn Tracing,
        blamed: &Blamed<'_>,
        inputs: &[Tensor],
    ) -> Result<Option<Vec<Tensor>>, Error> {
        if self.spent(LAST) {
            return Ok(None);
        }
        let alike = |tensors: &Vec<Tensor>| {
            tensors.iter().zip(&blamed.outputs).all(|(a, (b, ..))| a.shape() == b.shape())
        };
        Ok(self.replayed(tracing, blamed.position, inputs, blamed.outputs.len())?.filter(alike))
    }

    /// Up to which changes of its inputs are swallowed.
    fn by_rounding(
        &mut self,
        tracing: &mut dyn Tracing,
        blamed: &Blamed<'_>,
        examination: &mut Examination,
    ) -> Result<(), Error> {
        let (output, ..) = blamed.worst();
        let w = blamed.order[0];
        let before = output.to_real();
        let unit = output.dtype().unit_roundoff().unwrap_or(1.0);
        // Entries that respond to a change that no rounding hides, and by how much they were changed last.
        let mut responsive: Option<(Vec<bool>, f64, bool)> = None;
        for step in POWERS.map(|power| 2f64.powi(power)).into_iter().take_while(|step| *step >= 64.0 * unit) {
            let mut draws = Draws::new(self.options.seed, 0, 0, Purpose::Generic);
            let inputs: Vec<Tensor> = blamed
                .inputs
                .iter()
                .map(|input| {
                    if !input.dtype().is_inexact() {
                        return input.clone();
                    }
                    let moved = input.to_real().mapv(|v| v * (1.0 + step * draws.sign()));
                    Tensor::from_real(moved, input.dtype())
                })
                .collect();
            let Some(given) = self.given_by(tracing, blamed, &inputs)? else { return Ok(()) };
            let after = given[w].to_real();
            let changed: Vec<bool> = after.iter().zip(before.iter()).map(|(a, b)| a != b).collect();
            // Rounding moves everything by about its own step; masks and floors jump, here and there.
            let jumps = root_mean_square(&(&after - &before)) > JUMPS * step * root_mean_square(&before);
            let Some((responds, last, jumped)) = &mut responsive else {
                let nonzero = before.iter().filter(|v| **v != 0.0).count();
                if 2 * changed.iter().filter(|c| **c).count() < nonzero || nonzero == 0 {
                    return Ok(());
                }
                responsive = Some((changed, step, jumps));
                continue;
            };
            let all = responds.iter().filter(|r| **r).count();
            let felt = changed.iter().zip(&*responds).filter(|(c, r)| **c && **r).count();
            if 2 * felt < all {
                examination.precision = (!*jumped).then_some(*last);
                return Ok(());
            }
            (*last, *jumped) = (step, jumps);
        }
        Ok(())
    }

    /// Whether wrong components depend on the same components of an input of the same shape alone, and how.
    fn by_component(
        &mut self,
        tracing: &mut dyn Tracing,
        scene: &Scene<'_>,
        blamed: &Blamed<'_>,
        examination: &mut Examination,
    ) -> Result<(), Error> {
        let (output, layouts, _) = blamed.worst();
        let w = blamed.order[0];
        let Some(i) = blamed.inputs.iter().position(|input| {
            input.shape() == output.shape() && input.dtype() == output.dtype() && input.dtype().is_inexact()
        }) else {
            return Ok(());
        };
        let before = output.to_real();
        // Pixels and channels of scalars are no components; what a sign or a scale multiplies is one by itself.
        let transforms = |layout: &BoundLayout| {
            layout.component_axis().is_some() || layout.layout().axes().iter().any(Axis::is_weight)
        };
        if !output.dtype().is_complex() && !layouts.first().is_some_and(transforms) {
            return Ok(());
        }
        let Some(axis) = component_axis(output, layouts.first()) else { return Ok(()) };
        if before.shape()[axis] < 2 {
            return Ok(());
        }
        let wrong = wrong_entries(scene, blamed);
        let real = blamed.inputs[i].to_real();
        let scale = root_mean_square(&real);
        let size = root_mean_square(&before);
        if !(scale > 0.0 && size > 0.0) || wrong.is_empty() {
            return Ok(());
        }
        let quiet = MARGIN * blamed.noise * size;
        let (mut alone, mut linear, mut answers) = (true, true, false);
        for entry in spread(&wrong, FOLLOWED) {
            let moved = |steps: f64| {
                let mut values = real.clone();
                values.as_slice_memory_order_mut().expect("made here")[entry] += steps * STEP * scale;
                let mut inputs = blamed.inputs.clone();
                inputs[i] = Tensor::from_real(values, blamed.inputs[i].dtype());
                inputs
            };
            let (Some(once), Some(twice)) =
                (self.given_by(tracing, blamed, &moved(1.0))?, self.given_by(tracing, blamed, &moved(2.0))?)
            else {
                return Ok(());
            };
            let (once, twice) = (once[w].to_real(), twice[w].to_real());
            let (first, second) = (&once - &before, &twice - &once);
            let at = |values: &ArrayD<f64>| values.as_slice_memory_order().expect("made here")[entry];
            answers |= at(&first).abs() > quiet;
            linear &= (at(&second) - at(&first)).abs() <= CURVED * at(&first).abs() + quiet;
            // Other components of the same row.
            let index = unravel(entry, before.shape());
            for c in 0..before.shape()[axis] {
                let mut other = index.clone();
                other[axis] = c;
                alone &= c == index[axis] || first[&other[..]].abs() <= quiet;
            }
        }
        if answers {
            examination.componentwise = Some(alone);
            examination.linear = Some(linear);
        }
        Ok(())
    }

    /// How places along permuted axes and those of a grid depend on each other.
    fn by_place(
        &mut self,
        tracing: &mut dyn Tracing,
        blamed: &Blamed<'_>,
        moved: &BTreeSet<String>,
        examination: &mut Examination,
    ) -> Result<(), Error> {
        let (output, layouts, _) = blamed.worst();
        let w = blamed.order[0];
        let before = output.to_real();
        let after = layouts.first();
        // By input: positions of its axes of places, by name.
        let axes: Vec<Named> = blamed
            .inputs
            .iter()
            .zip(&blamed.given)
            .map(|(input, (_, layout))| {
                let inexact = input.dtype().is_inexact();
                layout.filter(|_| inexact).map(place_axes).unwrap_or_default()
            })
            .collect();
        let named =
            |name: &str| after.and_then(|layout| place_axes(layout).into_iter().find(|(own, _)| own == name));
        let mut names: Vec<String> = axes.iter().flatten().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        // What else there is places of may be summed over rightly.
        if names.iter().any(|name| moved.contains(name)) {
            names.retain(|name| moved.contains(name));
        }
        let size = root_mean_square(&before);
        let quiet = MARGIN * blamed.noise * size;
        for name in &names {
            let at = |k: usize| axes[k].iter().find(|(own, _)| own == name).map(|(_, at)| *at);
            let Some(length) = (0..axes.len()).find_map(|k| Some(blamed.inputs[k].shape()[at(k)?])) else {
                continue;
            };
            let own = named(name).map(|(_, at)| at).filter(|at| before.shape()[*at] == length);
            if length < 3 {
                continue;
            }
            let chosen: Vec<usize> = if length <= LONGEST {
                (0..length).collect()
            } else {
                spread(&(0..length).collect::<Vec<_>>(), FOLLOWED)
            };
            let grid = is_grid(blamed, name);
            let (mut unread, mut local) = (Vec::new(), own.is_some());
            for place in if grid { chosen } else { spread(&chosen, FOLLOWED) } {
                let inputs = changed(blamed, &axes, &|k, values| {
                    // Another input may have fewer places, as in a U-net.
                    let at = at(k).filter(|at| place < values.shape()[*at])?;
                    let mut values = values.clone();
                    let step = STEP * root_mean_square(&values);
                    // Not along the others: what is the same in all channels may be taken away by a norm.
                    for (n, value) in values.index_axis_mut(ArrayAxis(at), place).iter_mut().enumerate() {
                        *value += step * if n % 3 == 1 { -0.7 } else { 1.0 };
                    }
                    Some(values)
                });
                let Some(given) = self.given_by(tracing, blamed, &inputs)? else { return Ok(()) };
                let change = given[w].to_real() - &before;
                if change.iter().all(|v| v.abs() <= quiet) {
                    unread.push(place);
                }
                if let Some(own) = own {
                    let elsewhere =
                        |p: usize| change.index_axis(ArrayAxis(own), p).iter().any(|v| v.abs() > quiet);
                    local &= !(0..length).any(|p| p != place && elsewhere(p));
                }
            }
            if own.is_some() {
                examination.pointwise = Some(examination.pointwise.unwrap_or(true) && local);
            }
            if grid && length <= LONGEST {
                let found = unread_among(&unread, length);
                examination.unread = Some(examination.unread.map_or(found, |other: Unread| other.max(found)));
            }
        }
        self.by_equal_places(tracing, blamed, (&axes, &names), examination)
    }

    /// All places alike, along all axes of places at once.
    fn by_equal_places(
        &mut self,
        tracing: &mut dyn Tracing,
        blamed: &Blamed<'_>,
        (axes, names): (&[Named], &[String]),
        examination: &mut Examination,
    ) -> Result<(), Error> {
        let (_, layouts, _) = blamed.worst();
        let (w, after) = (blamed.order[0], layouts.first());
        let grids: Vec<String> = names.iter().filter(|name| is_grid(blamed, name)).cloned().collect();
        let inputs = changed(blamed, axes, &|k, values| {
            let mut values = values.clone();
            for (name, at) in &axes[k] {
                if !grids.is_empty() && !grids.contains(name) {
                    continue;
                }
                let mean = values.mean_axis(ArrayAxis(*at))?.insert_axis(ArrayAxis(*at));
                values = mean.broadcast(values.raw_dim())?.to_owned();
            }
            Some(values)
        });
        if names.is_empty() {
            return Ok(());
        }
        let Some(given) = self.given_by(tracing, blamed, &inputs)? else { return Ok(()) };
        let given = given[w].to_real();
        let quiet = MARGIN * blamed.noise * root_mean_square(&given);
        for (name, at) in after.map(place_axes).unwrap_or_default() {
            if !names.contains(&name) || (!grids.is_empty() && !grids.contains(&name)) {
                continue;
            }
            let found = placement(&given, at, quiet);
            examination.placement =
                Some(examination.placement.map_or(found, |other: Placement| other.max(found)));
        }
        Ok(())
    }

    /// Whether it would be equivariant if the components of its tensors were in another order.
    fn by_order(
        &mut self,
        tracing: &mut dyn Tracing,
        scene: &Scene<'_>,
        blamed: &Blamed<'_>,
        examination: &mut Examination,
    ) -> Result<(), Error> {
        let element = &scene.probe.element;
        let group = self.specification.group().clone();
        let [(output, layouts, _)] = &blamed.outputs[..] else { return Ok(()) };
        let rewritten = |layout: &BoundLayout| -> Vec<(Layout, String)> {
            let own = (layout.layout().clone(), layout.layout().to_string());
            let others = alternatives(layout.layout(), layout.shape(), &group);
            let others = others
                .into_iter()
                .filter(|other| matches!(other.variation, Variation::Order | Variation::Flip));
            std::iter::once(own).chain(others.map(|other| (other.layout.clone(), other.name()))).collect()
        };
        let given: Option<Vec<&BoundLayout>> = blamed
            .given
            .iter()
            .zip(&blamed.inputs)
            .filter(|(_, input)| input.dtype().is_inexact())
            .map(|((_, layout), _)| *layout)
            .collect();
        let Some(given) = given else { return Ok(()) };
        let before = output.to_real();
        for layout in *layouts {
            for (after, name) in rewritten(layout).into_iter().filter(|(other, _)| other != layout.layout()) {
                let Some(after) = self.bound_to(&after, layout.shape(), scene.sample) else { continue };
                // The order that the output has now, or every input's that is written alike.
                for both in [false, true] {
                    let mut inputs = blamed.inputs.clone();
                    let inexact = inputs.iter_mut().filter(|input| input.dtype().is_inexact());
                    for (input, own) in inexact.zip(&given) {
                        let rewritten =
                            rewritten(own).into_iter().find(|(_, other)| both && same_order(other, &name));
                        let bound = match rewritten {
                            Some((other, _)) => self.bound_to(&other, own.shape(), scene.sample),
                            None => Some((**own).clone()),
                        };
                        let Some(bound) = bound else { return Ok(()) };
                        let Some(moved) = acted(&bound, element, &input.to_real()) else { return Ok(()) };
                        *input = Tensor::from_real(moved, input.dtype());
                    }
                    let Some(given) = self.given_by(tracing, blamed, &inputs)? else { continue };
                    let error = relative_error(&after, None, element, &before, &given[0].to_real());
                    if error.is_some_and(|error| error <= MARGIN * blamed.noise) {
                        examination.order = Some(name);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The same for any order of the components of one input, or of the output, which no convention has.
    fn by_exchange(
        &mut self,
        tracing: &mut dyn Tracing,
        scene: &Scene<'_>,
        blamed: &Blamed<'_>,
        examination: &mut Examination,
    ) -> Result<(), Error> {
        let element = &scene.probe.element;
        let [(output, layouts, _)] = &blamed.outputs[..] else { return Ok(()) };
        let holds = |before: &ArrayD<f64>, after: &ArrayD<f64>| {
            let error = |layout: &BoundLayout| relative_error(layout, None, element, before, after);
            let mut errors = layouts.iter().filter(|layout| has_components(layout)).filter_map(error);
            errors.any(|error| error <= MARGIN * blamed.noise)
        };
        let mut turned = Vec::new();
        for (input, (_, layout)) in blamed.inputs.iter().zip(&blamed.given) {
            let Some(layout) = layout else {
                if input.dtype().is_inexact() {
                    return Ok(());
                }
                turned.push(input.clone());
                continue;
            };
            if acted(layout, element, &input.to_real()).is_none() {
                return Ok(());
            }
            turned.push(layout.act(element, input));
        }
        if let Some((at, orders)) = layouts.first().and_then(exchanges) {
            let Some(after) = self.given_by(tracing, blamed, &turned)? else { return Ok(()) };
            let (before, after) = (output.to_real(), after[0].to_real());
            let found = orders.into_iter().find(|(order, _)| {
                holds(&before.select(ArrayAxis(at), order), &after.select(ArrayAxis(at), order))
            });
            if let Some((_, words)) = found {
                examination.order = Some(format!("{words} in its output"));
                return Ok(());
            }
        }
        for (k, (leaf, layout)) in blamed.given.iter().enumerate() {
            let Some((at, orders)) = layout.and_then(exchanges) else { continue };
            for (order, words) in orders {
                let given = |inputs: &[Tensor]| {
                    let mut inputs = inputs.to_vec();
                    inputs[k] = Tensor::from_real(
                        inputs[k].to_real().select(ArrayAxis(at), &order),
                        inputs[k].dtype(),
                    );
                    inputs
                };
                let Some(before) = self.given_by(tracing, blamed, &given(&blamed.inputs))? else { continue };
                let Some(after) = self.given_by(tracing, blamed, &given(&turned))? else { continue };
                if holds(&before[0].to_real(), &after[0].to_real()) {
                    let name = if leaf.name.is_empty() {
                        "its input".to_owned()
                    } else {
                        format!("`{}`", leaf.name)
                    };
                    examination.order = Some(format!("{words} in {name}"));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Shares of rows that are right, and whether what is wrong is the same in all of them.
    fn in_this_pass(&self, scene: &Scene<'_>, blamed: &Blamed<'_>, examination: &mut Examination) {
        let (output, layouts, tensor) = blamed.worst();
        let Some(layout) = layouts.first() else { return };
        let Some(LeftOver { left, allowed, back }) =
            left_over(scene, (*tensor, output), layout, blamed.noise)
        else {
            return;
        };
        examination.border = self.along_the_border(scene, layout, &left.mapv(|v| v.abs() > allowed));
        let before = output.to_real();
        let wrong = left.iter().zip(before.iter()).zip(back.iter()).filter(|((v, _), _)| v.abs() > allowed);
        let wrong: Vec<bool> = wrong.map(|((_, a), b)| (*a == 0.0) != (*b == 0.0)).collect();
        if !wrong.is_empty() {
            let dropped = wrong.iter().filter(|one_is_zero| **one_is_zero).count();
            examination.dropped = Some(dropped as f64 / wrong.len() as f64);
        }
        let places: Vec<usize> = place_axes(layout).into_iter().map(|(_, at)| at).collect();
        let mut rows: Vec<Vec<f64>> = Vec::new();
        if places.is_empty() {
            let Some(axis) = component_axis(output, Some(layout)) else { return };
            rows.extend(left.lanes(ArrayAxis(axis)).into_iter().map(|lane| lane.iter().copied().collect()));
        } else {
            // All that is at one place.
            let shape = left.shape().to_vec();
            let count: usize = places.iter().map(|at| shape[*at]).product();
            rows.resize(count, Vec::new());
            for (flat, value) in left.iter().enumerate() {
                let index = unravel(flat, &shape);
                let row = places.iter().fold(0, |row, at| row * shape[*at] + index[*at]);
                rows[row].push(*value);
            }
        }
        let wrong: Vec<&Vec<f64>> = rows.iter().filter(|row| row.iter().any(|v| v.abs() > allowed)).collect();
        examination.exact_rows = Some(1.0 - wrong.len() as f64 / rows.len().max(1) as f64);
        if rows.len() > 2
            && wrong.len() == rows.len()
            && (places.is_empty() || layout.component_axis().is_some())
        {
            let same = |row: &&Vec<f64>| {
                let apart = row.iter().zip(wrong[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let size = wrong[0].iter().fold(0.0_f64, |most, v| most.max(v.abs()));
                apart <= allowed.max(CURVED * size)
            };
            examination.constant = Some(wrong.iter().all(same));
        }
    }

    /// Whether what is wrong lies along the border of the grid or of its image under the element, and all further inside
    /// is right, by more than chance.
    fn along_the_border(
        &self,
        scene: &Scene<'_>,
        layout: &BoundLayout,
        wrong: &ArrayD<bool>,
    ) -> Option<bool> {
        let grid = grid_axes(layout);
        // Real and imaginary parts, and weights without an axis, make other positions: nothing is said of these.
        let positions = layout.layout().axes().len() == wrong.ndim() && layout.shape().len() == wrong.ndim();
        let fits = positions && grid.iter().all(|(_, at)| *at < wrong.ndim());
        if grid.is_empty() || !fits || !wrong.iter().any(|w| *w) {
            return None;
        }
        // Places alone: nothing acts on what is at them.
        let axes = layout.layout().axes().iter().zip(wrong.shape()).map(|(axis, n)| match axis {
            Axis::Grid(_) => axis.clone(),
            _ => Axis::Size(*n),
        });
        let places = self.bound_to(&Layout::of(axes.collect()), wrong.shape(), scene.sample)?;
        let depth = ArrayD::from_shape_fn(wrong.raw_dim(), |index| {
            let to_end = |at: usize| index[at].min(wrong.shape()[at] - 1 - index[at]);
            grid.iter().map(|(_, at)| to_end(*at)).min().unwrap_or(0) as f64
        });
        let inverse = scene.probe.element.inverse();
        if places.interpolates(&inverse) {
            return None;
        }
        let image = acted(&places, &inverse, &depth)?;
        let mut nearest: BTreeMap<Vec<usize>, (f64, bool)> = BTreeMap::new();
        for ((index, wrong), (own, there)) in wrong.indexed_iter().zip(depth.iter().zip(image.iter())) {
            let place = grid.iter().map(|(_, at)| index[*at]).collect();
            nearest.entry(place).or_insert((own.min(*there), false)).1 |= wrong;
        }
        let nearest: Vec<(f64, bool)> = nearest.into_values().collect();
        let band = nearest.iter().filter(|(_, wrong)| *wrong).map(|(d, _)| *d).fold(0.0, f64::max);
        let inside = nearest.iter().filter(|(d, _)| *d > band).count() as f64 / nearest.len() as f64;
        let count = nearest.iter().filter(|(_, wrong)| *wrong).count();
        Some((1.0 - inside).powi(i32::try_from(count).unwrap_or(i32::MAX)) < CHANCE)
    }
}

/// The inputs that have places, with other values.
fn changed(
    blamed: &Blamed<'_>,
    axes: &[Named],
    change: &impl Fn(usize, &ArrayD<f64>) -> Option<ArrayD<f64>>,
) -> Vec<Tensor> {
    let mut inputs = blamed.inputs.clone();
    for (k, input) in inputs.iter_mut().enumerate() {
        if !axes[k].is_empty()
            && let Some(values) = change(k, &input.to_real())
        {
            *input = Tensor::from_real(values, input.dtype());
        }
    }
    inputs
}

/// Whether two layouts are written in the same unusual order.
fn same_order(a: &str, b: &str) -> bool {
    let marks = ["ir_mul", "yzx"];
    let of = |text: &str| marks.map(|mark| text.contains(mark));
    of(a) == of(b) && of(a).iter().any(|mark| *mark)
}

/// An order of the entries along an axis, and what it is called.
type Exchange = (Vec<usize>, String);

/// Whether something acts on what is at its places.
fn has_components(layout: &BoundLayout) -> bool {
    layout.layout().axes().iter().any(|axis| axis.components().is_some())
}

/// Where the components of one representation lie that is all there is along an axis, once or several times; the orders
/// of that axis but its own, with their names: all of few components, exchanges, rotations and the reverse of more, and
/// components before copies where copies come first, or the other way round.
fn exchanges(layout: &BoundLayout) -> Option<(usize, Vec<Exchange>)> {
    let at = layout.component_axis().filter(|_| !is_flattened(layout))?;
    let mut sums = layout.layout().axes().iter().filter_map(Axis::components);
    let (Some(sum), None) = (sums.next(), sums.next()) else { return None };
    let [summand] = &sum.0[..] else { return None };
    let length = *layout.shape().get(at)?;
    if summand.multiplicity == 0 || !length.is_multiple_of(summand.multiplicity) {
        return None;
    }
    let n = length / summand.multiplicity;
    // Several irreps in one are no single block.
    if !(2..=LARGEST_BLOCK).contains(&n) {
        return None;
    }
    let own: Vec<usize> = (0..n).collect();
    let mut within = if n <= 4 { orders(n) } else { Vec::new() };
    if n > 4 {
        // Three that are passed round, as shears behind a diagonal.
        let ends = [n - 3, 0].into_iter();
        for (first, by) in ends.flat_map(|first| [(first, 1), (first, 2)]) {
            let mut order = own.clone();
            order[first..first + 3].rotate_left(by);
            within.push(order);
        }
        for (i, j) in (0..n).flat_map(|i| (0..i).map(move |j| (i, j))) {
            let mut order = own.clone();
            order.swap(i, j);
            within.push(order);
        }
        for by in [1, n - 1] {
            let mut order = own.clone();
            order.rotate_left(by);
            within.push(order);
        }
        within.push(own.iter().rev().copied().collect());
    }
    within.retain(|order| *order != own);
    let mut found = Vec::new();
    let copies = summand.multiplicity;
    if copies > 1 {
        let of = |rows: usize, columns: usize| (0..length).map(|k| k % rows * columns + k / rows).collect();
        found.push((of(copies, n), format!("{n} components of all {copies} copies one after the other")));
        found.push((of(n, copies), format!("{copies} copies of all {n} components one after the other")));
    }
    for order in within {
        let words: Vec<String> = order.iter().map(ToString::to_string).collect();
        found.push(((0..length).map(|k| k / n * n + order[k % n]).collect(), words.join(", ")));
    }
    Some((at, found))
}

/// The axis of components: that of representations, of real and imaginary parts, or the last.
fn component_axis(tensor: &Tensor, layout: Option<&BoundLayout>) -> Option<usize> {
    let shape = tensor.shape();
    if tensor.dtype().is_complex() {
        return Some(shape.len());
    }
    let layout = layout.filter(|layout| !is_flattened(layout));
    let known = layout.and_then(BoundLayout::component_axis).filter(|at| *at < shape.len());
    known.or_else(|| shape.len().checked_sub(1))
}

/// A tensor of the pass over T x, against that of the pass over x.
struct LeftOver {
    /// What it is off by, taken back by T.
    left: ArrayD<f64>,
    /// What rounding explains of an entry.
    allowed: f64,
    /// Itself, taken back by T.
    back: ArrayD<f64>,
}

fn left_over(
    scene: &Scene<'_>,
    (tensor, output): (usize, &Tensor),
    layout: &BoundLayout,
    noise: f64,
) -> Option<LeftOver> {
    let there = scene.there(&scene.moved)[tensor];
    let moved = value(&scene.moved, there).filter(|moved| moved.shape() == output.shape())?;
    let before = output.to_real();
    let inverse = scene.probe.element.inverse();
    let back = acted(layout, &inverse, &moved.to_real())?;
    let allowed = MARGIN * noise * root_mean_square(&before);
    Some(LeftOver { left: layout.difference(&inverse, &back, &before), allowed, back })
}

/// Flat positions of the entries that are wrong in this pass; all where that is not known.
fn wrong_entries(scene: &Scene<'_>, blamed: &Blamed<'_>) -> Vec<usize> {
    let (output, layouts, tensor) = blamed.worst();
    let left = layouts.first().and_then(|layout| left_over(scene, (*tensor, output), layout, blamed.noise));
    match left {
        Some(LeftOver { left, allowed, .. }) => {
            left.iter().enumerate().filter(|(_, v)| v.abs() > allowed).map(|(k, _)| k).collect()
        }
        None => (0..output.to_real().len()).collect(),
    }
}

/// Some of them, evenly.
fn spread(all: &[usize], count: usize) -> Vec<usize> {
    let count = count.min(all.len());
    (0..count).map(|k| all[k * all.len() / count]).collect()
}

fn distinct(all: impl Iterator<Item = String>) -> Vec<String> {
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (at, n) in shape.iter().enumerate().rev() {
        index[at] = flat % n;
        flat /= n;
    }
    index
}

/// Axes along which there are places: those that are permuted, and those of a grid, by name.
fn place_axes(layout: &BoundLayout) -> Named {
    // Axes that are flattened into others have no place of their own.
    if is_flattened(layout) {
        return Vec::new();
    }
    let mut found: Named = layout
        .permuted_lengths()
        .filter_map(|(name, _)| Some((name.to_owned(), layout.position_of(name)?)))
        .collect();
    found.extend(grid_axes(layout));
    found
}

fn is_flattened(layout: &BoundLayout) -> bool {
    layout.layout().axes().iter().any(|axis| matches!(axis, Axis::Flattened(_)))
}

/// Axes of the grid, by name.
fn grid_axes(layout: &BoundLayout) -> Named {
    layout.grid_sizes().map(|(name, _)| name.to_owned()).zip(layout.grid_positions()).collect()
}

/// Whether this name is that of a grid's axis.
fn is_grid(blamed: &Blamed<'_>, name: &str) -> bool {
    let layouts = blamed.given.iter().filter_map(|(_, layout)| *layout);
    layouts.into_iter().any(|layout| {
        layout
            .layout()
            .axes()
            .iter()
            .flat_map(Axis::parts)
            .any(|axis| matches!(axis, Axis::Grid(own) if own == name))
    })
}

/// Where a tensor differs along an axis.
fn placement(values: &ArrayD<f64>, at: usize, quiet: f64) -> Placement {
    let n = values.shape()[at];
    let differs = |p: usize| {
        let (a, b) = (values.index_axis(ArrayAxis(at), p), values.index_axis(ArrayAxis(at), p + 1));
        a.iter().zip(b.iter()).any(|(a, b)| (a - b).abs() > quiet)
    };
    let steps = (0..n.saturating_sub(1)).filter(|p| differs(*p)).count();
    if steps == 0 {
        Placement::Uniform
    } else if steps + 1 < n {
        Placement::Border
    } else {
        Placement::Everywhere
    }
}

/// Which places are not read.
fn unread_among(unread: &[usize], length: usize) -> Unread {
    let inside = |place: &usize| {
        // Not part of a run that reaches an end.
        !(0..=*place).all(|p| unread.contains(&p)) && !(*place..length).all(|p| unread.contains(&p))
    };
    if unread.is_empty() {
        Unread::Nothing
    } else if unread.iter().any(inside) {
        Unread::Between
    } else {
        Unread::Border
    }
}

/// Places that go out for one that comes in, where the two differ.
fn resampling(blamed: &Blamed<'_>) -> Option<f64> {
    let (output, ..) = blamed.worst();
    blamed.inputs.iter().zip(&blamed.given).find_map(|(input, (_, layout))| {
        let grid = grid_axes(layout.filter(|layout| !is_flattened(layout))?);
        let (a, b) = (input.shape(), output.shape());
        let same =
            a.len() == b.len() && (0..a.len()).all(|at| a[at] == b[at] || grid.iter().any(|(_, g)| *g == at));
        let (_, at) = grid.into_iter().find(|(_, at)| same && a[*at] != b[*at])?;
        Some(b[at] as f64 / a[at] as f64)
    })
}

/// The number at which a square pattern of neighbours is cut: rows that have just as many entries, which are not in turn
/// those of columns.
fn cap(values: &Tensor, nodes: &[(String, usize)]) -> Option<usize> {
    let shape = values.shape();
    if shape.len() < 2
        || shape[0] != shape[1]
        || !(4..=MOST_NODES).contains(&shape[0])
        || !nodes.iter().any(|(_, n)| *n == shape[0])
    {
        return None;
    }
    let n = shape[0];
    let values = values.to_real();
    let filled = |i: usize, j: usize| {
        values.index_axis(ArrayAxis(0), i).index_axis(ArrayAxis(0), j).iter().any(|v| *v != 0.0)
    };
    let along = |rows: bool| {
        let count = |i: usize| (0..n).filter(|j| if rows { filled(i, *j) } else { filled(*j, i) }).count();
        (0..n).map(count).collect::<Vec<_>>()
    };
    let one_sided = (0..n).any(|i| (0..i).any(|j| filled(i, j) != filled(j, i)));
    let cut = |counts: &[usize]| {
        let most = *counts.iter().max()?;
        let reach = counts.iter().filter(|count| **count == most).count();
        (most + 1 < n && 2 * reach >= n).then_some(most)
    };
    if !one_sided {
        return None;
    }
    let (rows, columns) = (along(true), along(false));
    let spread = |counts: &[usize]| counts.iter().max().zip(counts.iter().min()).map_or(0, |(a, b)| a - b);
    if spread(&rows) < spread(&columns) { cut(&rows) } else { cut(&columns) }
}
