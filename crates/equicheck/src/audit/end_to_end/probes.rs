//! Probes beside the pairs: repeated calls, the proof of precision, vacuity, rounding.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Call, DType, Model, Tensor};
use crate::report::{Repeatability, VacuityRow};
use crate::symmetry::{BoundLayout, Element, Factor};

use super::super::calls::Value;
use super::super::evidence::Noise;
use super::super::measure::{Scales, norm};
use super::super::precision::{self, Proven};
use super::super::sampling::{self, Draws, Part, Purpose};
use super::super::statistics::{maximum, quantile};
use super::super::{noise, vacuity};
use super::{Case, DoubleModel, EndToEnd, PROBED_SAMPLES};

/// Where noise is measured.
pub(super) struct Point {
    /// Its own random numbers.
    pub(super) id: u64,
    pub(super) sample: usize,
    pub(super) element: Element,
}

impl EndToEnd<'_> {
    /// Calls again: with generators reset, without, and after other calls with the state left as they leave it.
    pub(super) fn repeat(
        &mut self,
        model: &mut dyn Model,
        double: bool,
    ) -> Result<Vec<Repeatability>, Error> {
        let mut result = vec![Repeatability::default(); self.outputs().len()];
        let inputs = self.inputs(0, double);
        let purpose = "repeat";
        let Ok(reference) = self.calls.evaluate(purpose, model, 0, &inputs)? else { return Ok(result) };
        let steps = [(true, true, 1), (false, true, 1), (false, false, 2), (true, false, 1), (true, true, 3)];
        for (k, (reset, restore, rounds)) in steps.into_iter().enumerate() {
            // What differs otherwise may differ between equal calls too, if not between the first two.
            if k + 1 == steps.len() && result.iter().all(|r| r.unseeded == 0.0 && r.drift == 0.0) {
                break;
            }
            // What other inputs leave behind shows when the calls in between are about another sample.
            let between = !reset && !restore;
            let sample = if between { self.cases.len().min(2) - 1 } else { 0 };
            let other = self.inputs(sample, double);
            let call = Call { sample, inputs: &other, reset_generators: reset, restore_state: restore };
            for _ in 0..rounds {
                let Ok((outputs, _)) = self.calls.raw(purpose, model, &call)? else { continue };
                let Ok(values) = self.calls.pick(outputs) else { continue };
                if between {
                    continue;
                }
                for (o, (value, before)) in values.iter().zip(&reference).enumerate() {
                    let difference = self.repeat_difference(o, value, before, double);
                    let slot = &mut result[o];
                    match (reset, restore) {
                        (true, true) => slot.seeded = slot.seeded.max(difference),
                        (false, true) => slot.unseeded = slot.unseeded.max(difference),
                        (_, false) => slot.drift = slot.drift.max(difference),
                    }
                }
            }
        }
        Ok(result)
    }

    /// Difference of two calls on sample 0, in the units of errors; infinite where they cannot be compared.
    fn repeat_difference(&self, o: usize, value: &Value, reference: &Value, double: bool) -> f64 {
        if !value.comparable(reference) || !value.comparable(&self.cases[0].base[o]) {
            return f64::INFINITY;
        }
        let same = value.values.iter().zip(&reference.values).all(|(a, b)| a.to_bits() == b.to_bits());
        if same {
            return 0.0;
        }
        let scales = if double { &self.own_scales_double } else { &self.own_scales };
        let layout = &self.cases[0].outputs[o];
        let difference = layout.change(&Element::default(), &value.values, &reference.values);
        scales[0][o].measure(&self.cases[0].outputs[o], &difference, &reference.values).scaled
    }

    pub(super) fn holds_labels(&self, sample: usize, input: usize) -> bool {
        let case = &self.cases[sample];
        let turned = case.layouts[input].as_ref().is_some_and(BoundLayout::is_spatial);
        noise::holds_labels(&case.inputs[input], turned)
    }

    /// The inputs of a sample, transformed or not, moved by one unit in the last place, but for labels. `precision` is by
    /// input, as in [`noise::moved_by_one_ulp`].
    pub(super) fn nudged(
        &self,
        sample: usize,
        inputs: &[Tensor],
        precision: &dyn Fn(usize) -> Option<f64>,
        draws: &mut Draws,
    ) -> Vec<Tensor> {
        let nudge = |(k, tensor): (usize, &Tensor)| {
            if self.holds_labels(sample, k) {
                tensor.clone()
            } else {
                noise::moved_by_one_ulp(tensor, precision(k), draws)
            }
        };
        inputs.iter().enumerate().map(nudge).collect()
    }

    /// How many samples are probed: a model so slow that the probes of three would eat a quarter of the budget is
    /// probed on one. Decided once, so that all probes see the same samples.
    pub(super) fn decide_probed(&mut self) {
        let slow = self.options.budget.is_some_and(|b| self.calls.last.mul_f64(400.0) > b);
        self.probed = if slow { 1 } else { self.cases.len().min(PROBED_SAMPLES) };
    }

    /// Whether the double-precision comparison counts, per output; the reason it does not for all.
    pub(super) fn prove(&mut self, model: &mut dyn Model, double: &mut DoubleModel) -> Result<Proven, Error> {
        let names = self.input_names();
        let mut proven = Proven::assumed(names.len(), self.outputs().len());
        let is_copy = matches!(double, DoubleModel::Copy(_));
        for sample in self.probes().into_iter().take(2) {
            let prover: &mut dyn Model = match double {
                DoubleModel::Copy(copy) => copy.as_mut(),
                DoubleModel::Same => &mut *model,
                _ => return Ok(proven),
            };
            let inputs = self.inputs(sample, is_copy);
            let labels: Vec<bool> = (0..inputs.len()).map(|k| self.holds_labels(sample, k)).collect();
            let case = &self.cases[sample];
            let base = case.double.as_ref().unwrap_or(&case.base);
            let seed = self.options.seed;
            let (calls, layouts) = (&mut self.calls, &case.outputs);
            match precision::prove(calls, prover, sample, &inputs, &labels, &names, base, layouts, seed)? {
                Ok(found) => proven.join(found),
                Err(why) => {
                    *double = DoubleModel::Unavailable(format!("the proof of precision failed: {why}"));
                    return Ok(proven);
                }
            }
        }
        Ok(proven)
    }

    /// For every factor and output, block by block: does it respond to a change of the inputs that is no symmetry,
    /// and does the declared action move it. The least responsive block counts.
    pub(super) fn vacuity(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Vec<Vec<VacuityRow>>, Error> {
        // In double precision where there is a copy: a small response is then not lost in rounding.
        let wide = matches!(double, DoubleModel::Copy(_));
        let model: &mut dyn Model = match double {
            DoubleModel::Copy(copy) => copy.as_mut(),
            _ => model,
        };
        let roundoff = self.roundoff_in(wide);
        let group = self.specification.group().clone();
        let count = self.outputs().len();
        let mut rows: Vec<Vec<VacuityRow>> = vec![Vec::new(); count];
        // Ten times a noise of a few units in the last place; order of summation alone makes hundreds of them.
        let least = if wide { 1e4 * roundoff } else { 20.0 * roundoff };
        for (f, factor) in group.factors().iter().enumerate() {
            // By output and block: one figure per probed sample.
            let mut sensitivity: Vec<BTreeMap<String, Vec<f64>>> = vec![BTreeMap::new(); count];
            let mut discrimination: Vec<BTreeMap<String, Vec<f64>>> = vec![BTreeMap::new(); count];
            let mut acted = false;
            for (done, sample) in self.probes().into_iter().enumerate() {
                if self.late(0.5) && done > 0 {
                    break;
                }
                let mut draws = Draws::new(self.options.seed, sample, f as u64, Purpose::Perturbation);
                let part = Part::Alone(factor.clone());
                let (element, transformed) = self.moving_element(sample, &part, &mut draws)?;
                let expected = self.expected(sample, &element, false)?;
                let case = &self.cases[sample];
                for (o, expected) in expected.iter().enumerate() {
                    // What a sign, a phase, an order or a lattice leaves open tells nothing apart.
                    let difference = case.outputs[o].change(&element, expected, &case.base[o].values);
                    let moved = case.outputs[o].blocks_moved_by(factor);
                    let sizes = self.scales[o].by_block(&case.outputs[o], &difference, expected);
                    for ((block, size), _) in sizes.into_iter().zip(moved).filter(|(_, moved)| *moved) {
                        discrimination[o].entry(block).or_default().push(size);
                    }
                }
                let (own, layouts) = (&case.inputs, &case.layouts);
                let inputs = vacuity::perturbed(own, &transformed, layouts, &element, factor, &mut draws);
                let Some(inputs) = inputs else { continue };
                acted = true;
                let Some(values) = self.perturbed_outputs(model, sample, &inputs, wide)? else { continue };
                for (o, value) in values.iter().enumerate() {
                    let case = &self.cases[sample];
                    let base = if wide { case.double.as_ref().unwrap_or(&case.base) } else { &case.base };
                    let comparable = value.comparable(&case.base[o]);
                    let base = &base[o].values;
                    let other = if comparable { &value.values } else { base };
                    let change = case.outputs[o].change(&Element::default(), other, base);
                    for (block, size) in self.scales[o].by_block(&case.outputs[o], &change, base) {
                        // Another number of rows (neighbours within a cutoff) is a change of the whole.
                        sensitivity[o].entry(block).or_default().push(if comparable { size } else { 1.0 });
                    }
                }
            }
            for o in 0..count {
                let (sensitive, discriminates) =
                    (least_block(&sensitivity[o]), least_block(&discrimination[o]));
                let of =
                    |block: &str| if block.is_empty() { String::new() } else { format!("block {block}: ") };
                let vacuous = match (&sensitive, &discriminates) {
                    _ if !acted => Some(format!("`{factor}` moves no test input")),
                    (None, _) => Some(format!(
                        "whether the output depends on what `{factor}` moves is unknown: the model gives no finite \
                         output on inputs that are changed at random"
                    )),
                    (Some((block, size)), _) if *size < least => Some(format!(
                        "{}the output does not change when the inputs that `{factor}` moves are changed at random",
                        of(block)
                    )),
                    (_, Some((block, size))) if *size < least => Some(format!(
                        "{}the declared action of `{factor}` leaves the output as it is on every test input",
                        of(block)
                    )),
                    _ => None,
                };
                rows[o].push(VacuityRow {
                    factor: factor.to_string(),
                    sensitivity: sensitive.map_or(f64::NAN, |(_, size)| size),
                    discrimination: discriminates.map(|(_, size)| size),
                    vacuous,
                });
            }
        }
        Ok(rows)
    }

    /// Outputs on changed inputs. A model may refuse inputs without symmetry or far from the data, or return other
    /// shapes: then it is asked again halfway, down to a thousandth of the change. Other shapes are given where all
    /// finite answers have them.
    fn perturbed_outputs(
        &mut self,
        model: &mut dyn Model,
        sample: usize,
        changed: &[Tensor],
        wide: bool,
    ) -> Result<Option<Vec<Value>>, Error> {
        let mut reshaped = None;
        for share in [1.0, 0.03, 0.001] {
            let moved = vacuity::towards(&self.cases[sample].inputs, changed, share);
            let inputs: Vec<Tensor> =
                moved.iter().map(|tensor| if wide { tensor.double() } else { tensor.clone() }).collect();
            if let Ok(values) = self.calls.evaluate("vacuity", model, sample, &inputs)? {
                if values.iter().any(|value| value.values.iter().any(|x| !x.is_finite())) {
                    continue;
                }
                if values.iter().zip(&self.cases[sample].base).all(|(v, b)| v.comparable(b)) {
                    return Ok(Some(values));
                }
                reshaped = reshaped.or(Some(values));
            }
        }
        Ok(reshaped)
    }

    /// How much scalars vary around each sample, under a change as large as what a joint element does: a large
    /// constant offset must not make a violation look small (METHOD 7).
    pub(super) fn variation(&mut self, model: &mut dyn Model) -> Result<(), Error> {
        let group = self.specification.group().clone();
        let count = self.outputs().len();
        let mut changes: Vec<Option<Vec<ArrayD<f64>>>> = vec![None; self.cases.len()];
        let scalar = |case: &Case| case.outputs.iter().any(BoundLayout::has_scalars);
        if let Some(factor) = group.factors().first()
            && self.cases.first().is_some_and(scalar)
        {
            for (sample, change) in changes.iter_mut().enumerate() {
                if self.late(0.5) {
                    break;
                }
                let mut draws = Draws::new(self.options.seed, sample, 0, Purpose::Haar);
                let (element, transformed) = self.moving_element(sample, &Part::Joint, &mut draws)?;
                let mut draws = Draws::new(self.options.seed, sample, u64::MAX, Purpose::Perturbation);
                let case = &self.cases[sample];
                let (own, layouts) = (&case.inputs, &case.layouts);
                let inputs = vacuity::perturbed(own, &transformed, layouts, &element, factor, &mut draws);
                let Some(inputs) = inputs else { continue };
                let Ok(values) = self.calls.evaluate("variation", model, sample, &inputs)? else { continue };
                let Case { base, outputs, .. } = &self.cases[sample];
                if values.iter().zip(base).all(|(v, b)| v.comparable(b)) {
                    let same = Element::default();
                    let pairs = values.iter().zip(base).zip(outputs);
                    *change =
                        Some(pairs.map(|((v, b), out)| out.change(&same, &v.values, &b.values)).collect());
                }
            }
        }
        for o in 0..count {
            let known = self.cases.iter().zip(&changes).filter_map(|(case, change)| {
                let change = &change.as_ref()?[o];
                norm(change).is_finite().then_some((&case.outputs[o], change))
            });
            let known: Vec<_> = known.collect();
            self.scales[o].set_spread(known.iter().copied());
            self.scales_double[o].set_spread(known.iter().copied());
        }
        let own = |scales: &[Scales]| -> Vec<Vec<Scales>> {
            let of_sample = |(case, change): (&Case, &Option<Vec<ArrayD<f64>>>)| {
                (0..count)
                    .map(|o| match change {
                        Some(change) if norm(&change[o]).is_finite() => {
                            scales[o].with_change(&case.outputs[o], &change[o])
                        }
                        _ => scales[o].clone(),
                    })
                    .collect()
            };
            self.cases.iter().zip(&changes).map(of_sample).collect()
        };
        (self.own_scales, self.own_scales_double) = (own(&self.scales), own(&self.scales_double));
        Ok(())
    }

    /// Why an output is a mere copy of an input, if it is on every sample.
    pub(super) fn copied_input(&self, output: usize) -> Option<String> {
        let name = self.outputs()[output].0;
        let returned = |case: &Case, tensor: &Tensor| {
            let value = &case.base[output];
            value.shape == tensor.shape() && !value.shape.is_empty() && value.values == tensor.to_real()
        };
        let names = self.input_names();
        names.iter().enumerate().find_map(|(k, input)| {
            let copy = self.cases.iter().all(|case| returned(case, &case.inputs[k]));
            copy.then(|| format!("output `{name}` is a bit-for-bit copy of input `{input}`"))
        })
    }

    /// The first Haar-drawn joint element of a sample, shared by the probes.
    pub(super) fn probe_element(&self, sample: usize) -> Element {
        let mut draws = Draws::new(self.options.seed, sample, 0, Purpose::Haar);
        self.drawn_element(sample, &Part::Joint, &mut draws)
    }

    /// Whether an element moves every block of the outputs that its factor can move.
    pub(super) fn moves_all(&self, sample: usize, factor: &Factor, expected: &[ArrayD<f64>]) -> bool {
        let case = &self.cases[sample];
        expected.iter().enumerate().all(|(o, expected)| {
            let difference = expected - &case.base[o].values;
            let moved = case.outputs[o].blocks_moved_by(factor);
            let sizes = self.scales[o].by_block(&case.outputs[o], &difference, expected);
            sizes.into_iter().zip(moved).all(|((_, size), moved)| !moved || size != 0.0)
        })
    }

    /// A random element of a part, drawn again a few times where a small group gives the identity.
    pub(super) fn drawn_element(&self, sample: usize, part: &Part, draws: &mut Draws) -> Element {
        let mut draw =
            || sampling::haar(self.specification.group(), part, &self.cases[sample].space, None, draws);
        let mut element = draw();
        for _ in 0..64 {
            if !element.is_identity() {
                break;
            }
            element = draw();
        }
        element
    }

    pub(super) fn noise(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        proven: &Proven,
    ) -> Result<Vec<Noise>, Error> {
        let points: Vec<Point> = self
            .probes()
            .into_iter()
            .map(|sample| Point { id: sample as u64, sample, element: self.probe_element(sample) })
            .collect();
        let mut noise = self.probe_noise(model, double, proven, &points, false)?.swap_remove(0);
        for (slot, jumps) in noise.iter_mut().zip(&proven.jumps) {
            slot.discontinuous |= *jumps;
        }
        Ok(noise)
    }

    /// Noise per output: measured over all points together, or (`apart`) at each point for itself.
    pub(super) fn probe_noise(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        proven: &Proven,
        points: &[Point],
        apart: bool,
    ) -> Result<Vec<Vec<Noise>>, Error> {
        let count = self.outputs().len();
        let groups: Vec<std::ops::Range<usize>> = if apart {
            (0..points.len()).map(|p| p..p + 1).collect()
        } else {
            std::iter::once(0..points.len()).collect()
        };
        let group_of = |p: usize| if apart { p } else { 0 };
        let mut noise = vec![vec![Noise::default(); count]; groups.len()];
        // What jumps is told from rounding by the values of a group: median and largest.
        let settle = |values: &[Vec<Vec<f64>>], group: &std::ops::Range<usize>, o: usize| {
            let all: Vec<f64> = values[group.clone()].iter().flat_map(|point| point[o].clone()).collect();
            let (middle, largest) = (quantile(&all, 0.5), maximum(&all));
            let jump = middle > 0.0 && largest > 100.0 * middle;
            (if jump { middle } else { largest }, jump)
        };
        // Where a model drops precision inside, a unit in the last place is one of what it keeps.
        let working = self.rounding(model, points, false, &proven.kept)?;
        for (group, slots) in groups.iter().zip(&mut noise) {
            for (o, slot) in slots.iter_mut().enumerate() {
                (slot.rounding, slot.discontinuous) = settle(&working, group, o);
            }
        }
        if let DoubleModel::Same = double {
            for slot in noise.iter_mut().flatten() {
                slot.double = slot.rounding;
            }
            self.probe_constants(model, points, false, &mut |p, o, change| {
                let slot = &mut noise[group_of(p)][o];
                slot.constants = slot.constants.max(change);
            })?;
        }
        let DoubleModel::Copy(copy) = double else { return Ok(noise) };
        let in_double = self.rounding(copy.as_mut(), points, true, &[])?;
        for (group, slots) in groups.iter().zip(&mut noise) {
            for (o, slot) in slots.iter_mut().enumerate() {
                let (size, jump) = settle(&in_double, group, o);
                slot.double = size;
                slot.discontinuous |= jump;
            }
        }
        // The two precisions on the same rounded inputs: all the rounding there is, not its conditioning alone. In
        // double precision it shrinks with the unit roundoff.
        for (p, Point { sample, element, .. }) in points.iter().enumerate() {
            let rounded = self.transformed(*sample, element, false)?;
            let wide: Vec<Tensor> = rounded.iter().map(Tensor::double).collect();
            let at = Some(element);
            let Ok(low) = self.calls.evaluate_at("noise", model, *sample, at, &rounded)? else { continue };
            let Ok(high) = self.calls.evaluate_at("noise", copy.as_mut(), *sample, at, &wide)? else {
                continue;
            };
            let expected = self.expected(*sample, element, true)?;
            for (o, slot) in noise[group_of(p)].iter_mut().enumerate() {
                let case = &self.cases[*sample];
                if !low[o].comparable(&case.base[o]) || !high[o].comparable(&case.base[o]) {
                    continue;
                }
                let layout = &case.outputs[o];
                let at_tx = self.own_scales_double[*sample][o].measure(
                    layout,
                    &layout.change(element, &low[o].values, &high[o].values),
                    &expected[o],
                );
                let wide = case.double.as_ref().map_or(&case.base[o].values, |d| &d[o].values);
                let difference = layout.change(&Element::default(), &case.base[o].values, wide);
                let at_x = self.own_scales_double[*sample][o].measure(layout, &difference, wide);
                let differ = at_tx.scaled + at_x.scaled;
                if differ.is_finite() {
                    slot.precisions_differ = slot.precisions_differ.max(differ);
                    let ratio = 2f64.powi(-53) / self.roundoff("");
                    slot.double = slot.double.max(differ * ratio);
                }
            }
        }
        self.probe_constants(copy.as_mut(), points, true, &mut |p, o, change| {
            let slot = &mut noise[group_of(p)][o];
            slot.constants = slot.constants.max(change);
        })?;
        Ok(noise)
    }

    /// Effect of inputs and state moved by one unit in the last place, by point and output.
    fn rounding(
        &mut self,
        model: &mut dyn Model,
        points: &[Point],
        double: bool,
        kept: &[Option<f64>],
    ) -> Result<Vec<Vec<Vec<f64>>>, Error> {
        let mut found: Vec<Vec<Vec<f64>>> = vec![vec![Vec::new(); self.outputs().len()]; points.len()];
        let mut draws = Draws::new(self.options.seed, 0, u64::from(double), Purpose::Parameters);
        let coarser = self.computes_in.filter(|_| !double);
        let mut moved_state = match noise::with_moved_state(model, coarser, &mut draws) {
            Ok(copy) => Some(copy),
            Err(why) => {
                let note = format!("rounding of the model's parameters was not probed: {}", why.0);
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                None
            }
        };
        for (Point { id, sample, element }, found) in points.iter().zip(&mut found) {
            let inputs = self.transformed(*sample, element, double)?;
            let Ok(reference) = self.calls.evaluate_at("noise", model, *sample, Some(element), &inputs)?
            else {
                continue;
            };
            for round in 0..3 {
                let mut draws = Draws::new(self.options.seed, *sample, id * 3 + round, Purpose::Rounding);
                let moved = self.nudged(
                    *sample,
                    &inputs,
                    &|k| kept.get(k).copied().flatten().or(coarser),
                    &mut draws,
                );
                let target: &mut dyn Model = match &mut moved_state {
                    Some(copy) if round > 0 => copy.as_mut(),
                    _ => &mut *model,
                };
                let Ok(values) = self.calls.evaluate_at("noise", target, *sample, Some(element), &moved)?
                else {
                    continue;
                };
                let layouts = &self.cases[*sample].outputs;
                let scales = &if double { &self.own_scales_double } else { &self.own_scales }[*sample];
                for (o, (value, before)) in values.iter().zip(&reference).enumerate() {
                    if !value.comparable(before) || !value.comparable(&self.cases[*sample].base[o]) {
                        continue;
                    }
                    let difference = layouts[o].change(element, &value.values, &before.values);
                    let size = scales[o].measure(&layouts[o], &difference, &before.values).scaled;
                    if size.is_finite() {
                        found[o].push(size);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Change of the error when constants that were rounded to f32 move by half a unit of it (METHOD 9).
    fn probe_constants(
        &mut self,
        model: &mut dyn Model,
        points: &[Point],
        double: bool,
        found: &mut dyn FnMut(usize, usize, f64),
    ) -> Result<(), Error> {
        for round in 0..2 {
            let mut draws = Draws::new(self.options.seed, 0, round, Purpose::Constants);
            let Ok(Some(mut moved)) = noise::with_moved_constants(model, &mut draws) else { return Ok(()) };
            for (p, point) in points.iter().enumerate() {
                let inputs = self.inputs(point.sample, double);
                let turned = self.taken_by(point.sample, &point.element, &inputs)?;
                let (purpose, sample, at) = ("constants", point.sample, Some(&point.element));
                let Ok(before) = self.calls.evaluate_at(purpose, model, sample, at, &turned)? else {
                    continue;
                };
                let Ok(at_x) = self.calls.evaluate(purpose, moved.as_mut(), sample, &inputs)? else {
                    continue;
                };
                let Ok(at_tx) = self.calls.evaluate_at(purpose, moved.as_mut(), sample, at, &turned)? else {
                    continue;
                };
                for (o, change) in self.changes_of_error(point, double, &before, (&at_x, &at_tx))? {
                    found(p, o, change);
                }
            }
        }
        Ok(())
    }

    /// Change of the error in double precision when inputs that were given in f32 move by half a unit of it: what is
    /// built on lengths of 1, on right angles or on a centre of mass at 0 has its symmetry no better than its inputs have
    /// these. A move by a sixteenth of that has to change it by a sixteenth: a jump is no rounding.
    pub(super) fn probe_given(
        &mut self,
        copy: &mut dyn Model,
        point: &Point,
    ) -> Result<Vec<(usize, f64)>, Error> {
        let turned = self.transformed(point.sample, &point.element, true)?;
        let at = Some(&point.element);
        let Ok(before) = self.calls.evaluate_at("given", copy, point.sample, at, &turned)? else {
            return Ok(Vec::new());
        };
        let whole = self.changes_when_given(copy, point, &before, 1.0)?;
        let part = self.changes_when_given(copy, point, &before, 1.0 / 16.0)?;
        let in_proportion = |(o, change): &(usize, f64)| {
            part.iter().any(|(other, small)| other == o && (change / 32.0..=change / 8.0).contains(small))
        };
        Ok(whole.into_iter().filter(in_proportion).collect())
    }

    /// The same for a move by a share of that; `before` is at T x.
    fn changes_when_given(
        &mut self,
        copy: &mut dyn Model,
        point: &Point,
        before: &[Value],
        share: f64,
    ) -> Result<Vec<(usize, f64)>, Error> {
        let Point { id, sample, element } = point;
        let mut draws = Draws::new(self.options.seed, *sample, *id, Purpose::Given);
        let given = self.inputs(*sample, false);
        let moved: Vec<Tensor> = given
            .iter()
            .enumerate()
            .map(|(k, given)| match given.dtype() {
                DType::Float32 | DType::Complex64 if !self.holds_labels(*sample, k) => {
                    noise::moved_by_half_a_single(&given.double(), share, &mut draws)
                }
                _ => given.double(),
            })
            .collect();
        let (purpose, at) = ("given", Some(element));
        let Ok(at_x) = self.calls.evaluate(purpose, copy, *sample, &moved)? else { return Ok(Vec::new()) };
        let turned = self.taken_by(*sample, element, &moved)?;
        let Ok(at_tx) = self.calls.evaluate_at(purpose, copy, *sample, at, &turned)? else {
            return Ok(Vec::new());
        };
        self.changes_of_error(point, true, before, (&at_x, &at_tx))
    }

    /// By output that can be compared: how far the error at a point, where `before` is at T x, differs from that of values
    /// at x and T x which something else has moved.
    fn changes_of_error(
        &self,
        Point { sample, element, .. }: &Point,
        double: bool,
        before: &[Value],
        (at_x, at_tx): (&[Value], &[Value]),
    ) -> Result<Vec<(usize, f64)>, Error> {
        let case = &self.cases[*sample];
        let expected = self.expected(*sample, element, double)?;
        let comparable = at_x.iter().zip(&case.base);
        let comparable: Vec<Value> =
            comparable.map(|(v, b)| if v.comparable(b) { v } else { b }.clone()).collect();
        let moved_expected = self.acted(*sample, element, &comparable)?;
        let mut changes = Vec::new();
        for o in 0..self.outputs().len() {
            let (layout, base) = (&case.outputs[o], &case.base[o]);
            if [&before[o], &at_x[o], &at_tx[o]].iter().any(|v| !v.comparable(base)) {
                continue;
            }
            let error = layout.difference(element, &before[o].values, &expected[o]);
            let moved_error = layout.difference(element, &at_tx[o].values, &moved_expected[o]);
            let change = self.own_scales_double[*sample][o]
                .measure(layout, &(moved_error - error), &expected[o])
                .scaled;
            if change.is_finite() {
                changes.push((o, change));
            }
        }
        Ok(changes)
    }
}

/// The block whose figure is least, each by the sample that shows most: an output in steps (an index, a neighbour list)
/// need not change on every one.
fn least_block(figures: &BTreeMap<String, Vec<f64>>) -> Option<(String, f64)> {
    figures
        .iter()
        .map(|(block, sizes)| (block.clone(), maximum(sizes)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
}
