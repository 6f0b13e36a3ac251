//! What is looked at of a module beside its clean activations, which may be few, small, or zero where its weights are
//! wrong: generic inputs, permutations of the axes that are permuted, and entries of a batch that are turned apart.

use ndarray::{ArrayD, Axis, concatenate};

use crate::Error;
use crate::model::{Model, Tensor, Tracing};
use crate::report::{LayerCheck, LayerKind, Origin, Under};
use crate::symmetry::{BoundLayout, Element};

use super::super::super::measure::{Scales, root_mean_square};
use super::super::super::noise;
use super::super::super::sampling::{Draws, Purpose};
use super::super::EndToEnd;
use super::alone::{Alone, Leaf, Scene};
use super::{LAST, MARGIN, Probe, Seen, change, kind_of, tracing_of};

impl EndToEnd<'_> {
    /// All checks of all calls; what is seen on real activations under permutations counts as own error.
    pub(super) fn checks(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        calls: &[Alone<'_>],
        seen: &mut [Seen],
    ) -> Result<(), Error> {
        let Some(tracing) = tracing_of(model) else { return Ok(()) };
        let trace = &scene.reference.trace;
        for call in calls {
            if self.spent(LAST) {
                break;
            }
            if !seen[call.row].repeats {
                continue;
            }
            let container = trace.calls.iter().any(|other| other.parent == Some(call.row));
            let kind = kind_of(&trace.calls[call.row].class, container);
            let mut checks = Vec::new();
            if let Some(error) = self.under_permutations(tracing, scene, call)? {
                let own = &mut seen[call.row].own;
                *own = Some(own.unwrap_or(0.0).max(error));
                let noise = scene.noise(call);
                checks.push(LayerCheck { under: Under::Permutations, error: Some(error), noise });
            }
            if kind == LayerKind::Normalisation {
                checks.extend(self.turned_apart(tracing, scene, call)?);
            }
            if kind != LayerKind::Container {
                checks.extend(self.on_generic_inputs(tracing, scene, call)?);
            }
            seen[call.row].checks = checks;
        }
        Ok(())
    }

    /// Own error under permutations: where it is known of every tensor which of its axes are permuted, and some are.
    fn under_permutations(
        &mut self,
        tracing: &mut dyn Tracing,
        scene: &Scene<'_>,
        call: &Alone<'_>,
    ) -> Result<Option<f64>, Error> {
        let said = |leaf: &Leaf<'_>| {
            let hidden = scene.reference.layouts[leaf.tensor].as_ref();
            let by_whom = hidden.map(|hidden| hidden.origin);
            matches!(by_whom, Some(Origin::Declared | Origin::Library | Origin::Model))
        };
        if !call.leaves().all(said) {
            return Ok(None);
        }
        let mut worst: Option<f64> = None;
        for (probe, _) in scene.passes.moved.iter().filter(|(probe, _)| probe.permutes) {
            let Some(error) = self.own_error(tracing, call, &probe.element)? else { continue };
            worst = Some(worst.unwrap_or(0.0).max(error));
        }
        Ok(worst)
    }

    /// Its error under an element; `None` where that moves none of its inputs.
    fn own_error(
        &mut self,
        tracing: &mut dyn Tracing,
        call: &Alone<'_>,
        element: &Element,
    ) -> Result<Option<f64>, Error> {
        if !call.knows(element) {
            return Ok(None);
        }
        let acted = call.inputs(Some(element));
        if acted.iter().zip(&call.inputs).all(|(after, leaf)| after.same_bits(leaf.value)) {
            return Ok(None);
        }
        let Some(returned) = self.again(tracing, call, &acted)? else { return Ok(None) };
        Ok(call.error(element, &returned))
    }

    /// Normal noise of each input's size in place of it. What it says holds of the module and not of the model, whose
    /// activations may never be of that kind.
    fn on_generic_inputs(
        &mut self,
        tracing: &mut dyn Tracing,
        scene: &Scene<'_>,
        call: &Alone<'_>,
    ) -> Result<Option<LayerCheck>, Error> {
        let mut draws = Draws::new(self.options.seed, scene.sample, call.row as u64, Purpose::Generic);
        // What only looks invariant may have components that happen to be zero; then noise would be no such tensor.
        let known = |leaf: &Leaf<'_>| {
            let hidden = scene.reference.layouts[leaf.tensor].as_ref();
            hidden.is_some_and(|hidden| hidden.origin != Origin::Invariant)
        };
        let mut drawn =
            |leaf: &Leaf<'_>| if known(leaf) { noise_like(leaf, &mut draws) } else { leaf.value.clone() };
        let generic: Vec<Tensor> = call.inputs.iter().map(&mut drawn).collect();
        let inputs = with_values(&call.inputs, &generic);
        let moves =
            |probe: &&Probe| inputs.iter().any(|leaf| !leaf.acted(&probe.element).same_bits(leaf.value));
        let turns = scene.passes.moved.iter().map(|(probe, _)| probe).filter(|probe| !probe.permutes);
        let turns: Vec<&Probe> = turns.filter(moves).collect();
        let changed = inputs.iter().zip(&call.inputs).any(|(noise, leaf)| !noise.value.same_bits(leaf.value));
        if turns.is_empty() || !changed {
            return Ok(None);
        }
        let cannot =
            || Ok(Some(LayerCheck { under: Under::GenericInputs, error: None, noise: scene.noise(call) }));
        let Some(before) = self.again(tracing, call, &generic)? else { return cannot() };
        let finite = |tensors: &[Tensor]| tensors.iter().all(|t| t.to_real().iter().all(|v| v.is_finite()));
        let as_before =
            before.iter().zip(&call.outputs).all(|(after, leaf)| after.shape() == leaf.value.shape());
        if !as_before || !finite(&before) {
            return cannot();
        }
        let nudged: Vec<Tensor> =
            generic.iter().map(|tensor| noise::moved_by_one_ulp(tensor, None, &mut draws)).collect();
        let Some(beside) = self.again(tracing, call, &nudged)? else { return cannot() };
        let changes = call.outputs.iter().zip(before.iter().zip(&beside));
        let rounding = changes
            .filter_map(|(leaf, (before, beside))| change(leaf.layout, None, Some(before), Some(beside)))
            .fold(scene.noise(call), f64::max);
        let there = Alone {
            row: call.row,
            position: call.position,
            inputs,
            outputs: with_values(&call.outputs, &before),
        };
        let mut worst: Option<f64> = None;
        for probe in turns {
            let Some(error) = self.own_error(tracing, &there, &probe.element)? else { continue };
            worst = Some(worst.unwrap_or(0.0).max(error));
        }
        Ok(worst.map(|error| LayerCheck { under: Under::GenericInputs, error: Some(error), noise: rounding }))
    }

    /// The two halves of a batch under two elements: statistics that are taken over the batch have to be invariant, or
    /// samples that have nothing to do with each other turn each other.
    fn turned_apart(
        &mut self,
        tracing: &mut dyn Tracing,
        scene: &Scene<'_>,
        call: &Alone<'_>,
    ) -> Result<Option<LayerCheck>, Error> {
        let mut elements = scene.passes.moved.iter().map(|(probe, _)| probe);
        let first = elements.find(|probe| !probe.permutes);
        let Some(turned) = first.map(|probe| &probe.element) else { return Ok(None) };
        let mut entries = call.leaves().filter_map(|leaf| {
            let layout = leaf.layout?;
            Some(layout.length(layout.batch_axis()?))
        });
        let Some(count) = entries.next().filter(|count| *count > 1 && entries.all(|n| n == *count)) else {
            return Ok(None);
        };
        // By leaf: acted on in the first half of the batch; nothing where a tensor that is no batch moves.
        let half = |leaf: &Leaf<'_>| -> Option<Tensor> {
            let Some(layout) = leaf.layout else { return Some(leaf.value.clone()) };
            let acted = layout.act(turned, leaf.value);
            if layout.batch_axis().is_none() {
                return acted.same_bits(leaf.value).then_some(acted);
            }
            let halves = halves(layout, count / 2, &acted.to_real(), &leaf.value.to_real())?;
            Some(Tensor::from_real(halves, leaf.value.dtype()))
        };
        if !call.leaves().all(|leaf| leaf.value.dtype().is_inexact() || leaf.layout.is_none()) {
            return Ok(None);
        }
        let Some(inputs) = call.inputs.iter().map(half).collect::<Option<Vec<_>>>() else { return Ok(None) };
        if inputs.iter().zip(&call.inputs).all(|(after, leaf)| after.same_bits(leaf.value)) {
            return Ok(None);
        }
        let Some(returned) = self.again(tracing, call, &inputs)? else { return Ok(None) };
        let errors = call.outputs.iter().zip(&returned).filter_map(|(leaf, after)| {
            let layout = leaf.layout.filter(|_| after.shape() == leaf.value.shape())?;
            let (before, expected) = (leaf.value.to_real(), half(leaf)?.to_real());
            let off = |element: &Element| layout.difference(element, &after.to_real(), &expected);
            let difference = halves(layout, count / 2, &off(turned), &off(&Element::default()))?;
            let scales = Scales::new([(layout, &before)].into_iter());
            Some(scales.measure(layout, &difference, &expected).scaled)
        });
        Ok(errors.reduce(f64::max).map(|error| LayerCheck {
            under: Under::EntriesTurnedApart,
            error: Some(error),
            noise: scene.noise(call),
        }))
    }
}

/// What there is to say of a check for a module that is equivariant on its activations.
pub(super) fn remark(check: &LayerCheck) -> Option<String> {
    let fails = |error: &f64| error.is_nan() || *error > MARGIN * check.noise;
    match (check.under, check.error) {
        (Under::GenericInputs, None) => Some("could not be checked on generic inputs".to_owned()),
        (Under::GenericInputs, Some(error)) if fails(&error) => {
            Some(format!("equivariant on these activations, not on generic inputs: error {error:.1e}"))
        }
        (Under::EntriesTurnedApart, Some(error)) if fails(&error) => Some(format!(
            "mixes entries of the batch, which turn each other: error {error:.1e} where half of them is turned"
        )),
        // Under permutations it is its own error that is too large.
        _ => None,
    }
}

/// The first `count` entries of a batch from `first`, the others from `second`.
fn halves(
    layout: &BoundLayout,
    count: usize,
    first: &ArrayD<f64>,
    second: &ArrayD<f64>,
) -> Option<ArrayD<f64>> {
    let axis = Axis(layout.batch_axis()?);
    let (upper, lower) = (layout.expand(first), layout.expand(second));
    let parts = [upper.view().split_at(axis, count).0, lower.view().split_at(axis, count).1];
    let joined = concatenate(axis, &parts).ok()?;
    joined.as_standard_layout().into_owned().into_shape_with_order(first.raw_dim()).ok()
}

/// Standard normal noise times the tensor's size; what holds whole numbers that nothing turns stays.
fn noise_like(leaf: &Leaf<'_>, draws: &mut Draws) -> Tensor {
    let dtype = leaf.value.dtype();
    let turned = leaf.layout.is_some_and(BoundLayout::is_spatial);
    if !dtype.is_inexact() || noise::holds_labels(leaf.value, turned) {
        return leaf.value.clone();
    }
    let values = leaf.value.to_real();
    let size = match root_mean_square(&values) {
        0.0 => 1.0,
        size if size.is_finite() => size,
        // A mask of infinities.
        _ => return leaf.value.clone(),
    };
    Tensor::from_real(values.mapv(|_| size * draws.normal()), dtype)
}

fn with_values<'a>(leaves: &[Leaf<'a>], values: &'a [Tensor]) -> Vec<Leaf<'a>> {
    leaves.iter().zip(values).map(|(leaf, value)| Leaf { value, ..*leaf }).collect()
}
