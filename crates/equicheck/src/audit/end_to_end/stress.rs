//! The stress stage: does the symmetry hold on inputs at the edge of what the model is used on.
//!
//! Each input takes the place of the sample that it was derived from while it is measured, with the same actions,
//! errors and probes of noise as the plan's.

use crate::Error;
use crate::model::{Model, Tensor};
use crate::report::{Outcome, Rows, StressKind, StressRow};
use crate::symmetry::Element;

use super::super::calls::Value;
use super::super::composition::Batch;
use super::super::measure::Scales;
use super::super::sampling::{Draws, Part, Purpose};
use super::super::stress::{self, NEAR_CUTOFF, OFF_CUTOFF, Source};
use super::super::subset::Sample;
use super::super::verdict::MARGIN;
use super::cases::spread_of_points;
use super::judgement::{Figures, Ground};
use super::probes::Point;
use super::{Case, DoubleModel, EndToEnd, Noise};

/// Elements of the group per input.
const ELEMENTS: usize = 4;
/// Share of the budget that is spent when the plan's pairs end: with other stages to come, and without.
const PAIRS_BEFORE: f64 = 0.75;
const PAIRS_ALONE: f64 = 0.93;
/// Share that is spent when no further stress input is begun.
const LAST: f64 = 0.95;
const PURPOSE: &str = "stress";

/// What one input showed, per output.
struct Measured {
    elements: usize,
    figures: Vec<Figures>,
    /// An answer that no number describes.
    failures: Vec<Option<(Outcome, String)>>,
    noise: Vec<Noise>,
    /// Effect of the inputs' own rounding on the function, in double precision.
    conditioning: Vec<Option<f64>>,
}

/// An input that gives no figures.
type Unmeasured = (Outcome, String);

/// Points at stress inputs draw other random numbers than those of the plan.
const STRESS: u64 = 1 << 33;

impl EndToEnd<'_> {
    /// Share of the budget that is spent when the pairs end.
    pub(super) fn share_of_pairs(&self) -> f64 {
        let options = self.options;
        let more = options.stress || options.gradients || options.layers;
        if more { PAIRS_BEFORE } else { PAIRS_ALONE }
    }

    pub(super) fn stress(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        ground: Ground<'_>,
    ) -> Result<Rows<StressRow>, Error> {
        let not_run = |reason: &str| Ok(Rows::NotRun { reason: reason.to_owned() });
        if !self.options.stress {
            return not_run("stress=True runs it");
        }
        if self.specification.custom_action().is_some() {
            return not_run(
                "a custom action does not say what its tensors hold, so that nothing can be derived",
            );
        }
        let mut rows = Vec::new();
        for kind in self.with_source(0, false, false, |source| Ok(stress::kinds(source))).unwrap_or_default()
        {
            rows.push(if self.spent(LAST) {
                row(
                    kind,
                    None,
                    (Outcome::NotJudged, "the time budget left no time for it: raise `budget`".to_owned()),
                )
            } else {
                self.stress_row(kind, model, double, ground)?
            });
        }
        name_the_jump(&mut rows);
        Ok(Rows::Ran { rows })
    }

    /// Calls `use_it` with what inputs are derived from; `alone`: with the first graph of a batch alone; `wide`: in double
    /// precision.
    pub(super) fn with_source<T>(
        &self,
        sample: usize,
        alone: bool,
        wide: bool,
        use_it: impl FnOnce(&Source<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let names = self.input_names();
        let case = &self.cases[sample];
        let segments = &self.options.segments;
        let tensors = self.inputs(sample, wide);
        let own = Sample { names: &names, tensors: &tensors, layouts: &case.layouts };
        let source = |sample| Source {
            sample,
            group: self.specification.group(),
            segments,
            spread: spread_of_points(&case.inputs, &case.layouts).unwrap_or(1.0),
            cutoff: self.options.cutoff,
        };
        if !alone || segments.is_empty() {
            return use_it(&source(own));
        }
        let first = Batch::of(own, segments)?.inputs(own, segments, &[0])?;
        let layouts = self.bind_inputs(&first).map_err(|error| error.to_string())?;
        use_it(&source(Sample { names: &names, tensors: &first, layouts: &layouts }))
    }

    fn stress_row(
        &mut self,
        kind: StressKind,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        ground: Ground<'_>,
    ) -> Result<StressRow, Error> {
        let alone = matches!(kind, StressKind::OneNode | StressKind::TwoNodes);
        let mut why = String::new();
        let mut found = None;
        for sample in 0..self.probed {
            let mut draws = Draws::new(self.options.seed, sample, kind as u64, Purpose::Stress);
            match self.with_source(sample, alone, false, |source| stress::derive(source, kind, &mut draws)) {
                Ok(inputs) => {
                    found = Some((sample, inputs));
                    break;
                }
                Err(reason) if why.is_empty() => why = reason,
                Err(_) => {}
            }
        }
        let Some((sample, inputs)) = found else { return Ok(row(kind, None, (Outcome::NotApplicable, why))) };
        if kind == StressKind::AcrossCutoff {
            return self.across_cutoff(sample, model, double, ground);
        }
        let case = match self.bound_case(PURPOSE, sample, inputs, model) {
            Ok(case) => case,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(Error::ModelFails { why, .. }) => {
                let why = format!("the model raises on this input as it is: {why}");
                return Ok(row(kind, Some(sample), (Outcome::NotJudged, why)));
            }
            Err(error) => return Ok(row(kind, Some(sample), (Outcome::NotJudged, error.to_string()))),
        };
        let finite = |v: &Value| v.values.iter().all(|v| v.is_finite());
        if let Some((bad, _)) = case.base.iter().zip(self.outputs()).find(|(v, _)| !finite(v)) {
            let what = if bad.values.iter().any(|v| v.is_nan()) { "NaN" } else { "infinite values" };
            let why = format!("the model gives {what} on this input as it is");
            return Ok(row(kind, Some(sample), (Outcome::NotJudged, why)));
        }
        let measured = self.in_place(sample, kind, case, double, |stage, double| {
            stage.measure_stress(sample, kind, model, double, ground)
        })?;
        Ok(match measured {
            Err(why) => row(kind, Some(sample), why),
            Ok(measured) => self.worst_of(kind, sample, &measured, ground),
        })
    }

    /// Puts `case` in the place of a sample while `measure` runs.
    fn in_place<T>(
        &mut self,
        sample: usize,
        kind: StressKind,
        mut case: Case,
        double: &mut DoubleModel,
        measure: impl FnOnce(&mut Self, &mut DoubleModel) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let own = &self.cases[sample];
        case.space.translation_scale = own.space.translation_scale;
        case.double = self.in_double(PURPOSE, sample, &case.inputs, &case.base, double)?;
        let own = &self.cases[sample];
        let scaled = matches!(kind, StressKind::TinyScale | StressKind::HugeScale);
        let scales = |usual: &[Scales], base: &[Value], own: &Case| -> Vec<Scales> {
            base.iter()
                .enumerate()
                .map(|(o, value)| {
                    // Only where everything is rescaled does the output have another scale than usual.
                    if scaled {
                        return Scales::new([(&case.outputs[o], &value.values)].into_iter()).or(&usual[o]);
                    }
                    usual[o].resized(value.values.len() as f64 / own.base[o].values.len().max(1) as f64)
                })
                .collect()
        };
        let working = scales(&self.own_scales[sample], &case.base, own);
        let wide = scales(&self.own_scales_double[sample], case.double.as_ref().unwrap_or(&case.base), own);
        // A copy that fails here gives no comparison here.
        let mut none = DoubleModel::NotRequested;
        let unavailable = matches!(double, DoubleModel::Copy(_)) && case.double.is_none();
        let case = std::mem::replace(&mut self.cases[sample], case);
        let working = std::mem::replace(&mut self.own_scales[sample], working);
        let wide = std::mem::replace(&mut self.own_scales_double[sample], wide);
        let result = measure(self, if unavailable { &mut none } else { double });
        self.cases[sample] = case;
        self.own_scales[sample] = working;
        self.own_scales_double[sample] = wide;
        result
    }

    fn measure_stress(
        &mut self,
        sample: usize,
        kind: StressKind,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        ground: Ground<'_>,
    ) -> Result<Result<Measured, Unmeasured>, Error> {
        let elements = self.stress_elements(sample, kind);
        if elements.is_empty() {
            let why =
                "the group holds no element but the identity for it, or none that moves pixels onto pixels"
                    .to_owned();
            return Ok(Err((Outcome::NotJudged, why)));
        }
        let count = self.outputs().len();
        let mut measured = Measured {
            elements: elements.len(),
            figures: Vec::new(),
            failures: vec![None; count],
            noise: ground.repeatability.iter().map(|_| Noise::default()).collect(),
            conditioning: vec![None; count],
        };
        let mut worst = (0.0, 0);
        for (k, element) in elements.iter().enumerate() {
            let inputs = self.transformed(sample, element, false)?;
            let outcome = self.calls.evaluate(PURPOSE, model, sample, &inputs)?;
            let (working, failures) = self.errors(sample, element, &outcome, false)?;
            let wide = match double {
                DoubleModel::Same => Some(working.clone()),
                DoubleModel::Copy(copy) => {
                    let inputs = self.transformed(sample, element, true)?;
                    let outcome = self.calls.evaluate(PURPOSE, copy.as_mut(), sample, &inputs)?;
                    let (errors, failures) = self.errors(sample, element, &outcome, true)?;
                    failures.iter().all(Option::is_none).then_some(errors)
                }
                _ => None,
            };
            let figures: Vec<Figures> = (0..count)
                .map(|o| Figures {
                    scaled: working[o].scaled,
                    relative: working[o].relative,
                    double: wide.as_ref().map(|errors| (errors[o].scaled, errors[o].relative)),
                })
                .collect();
            for (o, failure) in failures.into_iter().enumerate() {
                let kind = match &outcome {
                    Err(_) => Outcome::Raises,
                    Ok(values) if values[o].values.iter().any(|v| !v.is_finite()) => Outcome::NotFinite,
                    Ok(_) => Outcome::Violated,
                };
                measured.failures[o] = measured.failures[o].take().or(failure.map(|why| (kind, why)));
            }
            let size = figures.iter().map(|f| f.double.map_or(f.scaled, |d| d.0)).fold(0.0, f64::max);
            if size.is_finite() && size > worst.0 {
                worst = (size, k);
            }
            measured.figures = if measured.figures.is_empty() {
                figures
            } else {
                measured.figures.iter().zip(figures).map(|(a, b)| a.worse(b)).collect()
            };
        }
        let points = [Point { id: STRESS + kind as u64, sample, element: elements[worst.1].clone() }];
        measured.noise = self.probe_noise(model, double, ground.proven, &points, false)?.swap_remove(0);
        if matches!(kind, StressKind::FarFromOrigin | StressKind::TinyScale | StressKind::HugeScale) {
            measured.conditioning = self.conditioning(sample, &points[0].element, double)?;
        }
        Ok(Ok(measured))
    }

    /// Elements that move pixels onto pixels. Those that leave a symmetric input as it is count: its output must be as
    /// symmetric.
    fn stress_elements(&self, sample: usize, kind: StressKind) -> Vec<Element> {
        let case = &self.cases[sample];
        let mut draws = Draws::new(self.options.seed, sample, 1 << 32 | kind as u64, Purpose::Stress);
        let drawn = (0..ELEMENTS).map(|_| self.drawn_element(sample, &Part::Joint, &mut draws));
        let planned = self.planned_elements(sample).into_iter().map(|(_, element)| element);
        let usable =
            |element: &Element| !element.is_identity() && case.admits(element) && !case.interpolates(element);
        let drawn: Vec<Element> = drawn.collect();
        drawn.into_iter().chain(planned).filter(usable).take(ELEMENTS).collect()
    }

    /// Change of the double-precision output when the inputs, of their own types, move by one unit in the last place:
    /// what no model can avoid.
    fn conditioning(
        &mut self,
        sample: usize,
        element: &Element,
        double: &mut DoubleModel,
    ) -> Result<Vec<Option<f64>>, Error> {
        let count = self.outputs().len();
        let DoubleModel::Copy(copy) = double else { return Ok(vec![None; count]) };
        let inputs = self.transformed(sample, element, false)?;
        let wide = |inputs: &[Tensor]| inputs.iter().map(Tensor::double).collect::<Vec<_>>();
        let Ok(before) = self.calls.evaluate(PURPOSE, copy.as_mut(), sample, &wide(&inputs))? else {
            return Ok(vec![None; count]);
        };
        let mut largest = vec![None; count];
        for round in 0..3 {
            let mut draws = Draws::new(self.options.seed, sample, 2 << 32 | round, Purpose::Stress);
            let moved = self.nudged(sample, &inputs, &|_| None, &mut draws);
            let Ok(after) = self.calls.evaluate(PURPOSE, copy.as_mut(), sample, &wide(&moved))? else {
                continue;
            };
            for (o, largest) in largest.iter_mut().enumerate() {
                if let Some(step) = self.step(sample, o, &after[o], &before[o]) {
                    *largest = Some(largest.unwrap_or(0.0_f64).max(step));
                }
            }
        }
        Ok(largest)
    }

    /// Relative difference of two values of an output of the sample, at its scale.
    fn step(&self, sample: usize, o: usize, after: &Value, before: &Value) -> Option<f64> {
        let layout = &self.cases[sample].outputs[o];
        if !after.comparable(before) || !after.comparable(&self.cases[sample].base[o]) {
            return None;
        }
        let difference = layout.difference(&Element::default(), &after.values, &before.values);
        let scales = &self.own_scales_double[sample][o];
        Some(scales.measure(layout, &difference, &before.values).scaled).filter(|step| step.is_finite())
    }

    /// Whether the output jumps at the cutoff. Over a thousandth of the distance a smooth output changes by a thousandth
    /// as much, one with a vertical tangent like a root by a thirtieth, and one that jumps by as much.
    fn across_cutoff(
        &mut self,
        sample: usize,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        ground: Ground<'_>,
    ) -> Result<StressRow, Error> {
        let kind = StressKind::AcrossCutoff;
        let unjudged = |why: String| Ok(row(kind, Some(sample), (Outcome::NotJudged, why)));
        // Coordinates far larger than the cutoff are rounded by more than the step.
        let case = &self.cases[sample];
        let points = case
            .inputs
            .iter()
            .zip(&case.layouts)
            .filter(|(_, layout)| layout.as_ref().is_some_and(|layout| layout.point_axis().is_some()));
        let largest = points
            .flat_map(|(tensor, _)| tensor.to_real().into_iter().map(f64::abs))
            .filter(|size| size.is_finite())
            .fold(0.0, f64::max);
        let coarse = largest / self.options.cutoff.unwrap_or(f64::INFINITY);
        let wide = matches!(double, DoubleModel::Copy(_));
        let roundoff = if wide { 2f64.powi(-53) } else { ground.roundoff };
        if 4.0 * roundoff * coarse.max(4.0) > NEAR_CUTOFF {
            return unjudged(
                "the inputs' precision is too coarse for a step of 1e-6 of the cutoff".to_owned(),
            );
        }
        let mut values = Vec::new();
        for offset in [-NEAR_CUTOFF, NEAR_CUTOFF, -OFF_CUTOFF, OFF_CUTOFF] {
            let derived =
                self.with_source(sample, false, wide, |source| stress::at_distance(source, 1.0 + offset));
            let inputs = match derived {
                Ok(inputs) => inputs,
                Err(why) => return unjudged(why),
            };
            let outcome = match double {
                DoubleModel::Copy(copy) => self.calls.evaluate(PURPOSE, copy.as_mut(), sample, &inputs)?,
                _ => self.calls.evaluate(PURPOSE, model, sample, &inputs)?,
            };
            match outcome {
                Ok(outcome) => values.push(outcome),
                Err(why) => return unjudged(format!("the model raises near the cutoff: {why}")),
            }
        }
        let precise = matches!(double, DoubleModel::Copy(_) | DoubleModel::Same);
        let rounding = if precise { 2f64.powi(-52) } else { ground.roundoff };
        let mut worst: Option<StressRow> = None;
        for (o, (name, _)) in self.outputs().into_iter().enumerate() {
            let near = self.step(sample, o, &values[1][o], &values[0][o]);
            let (Some(near), Some(far)) = (near, self.step(sample, o, &values[3][o], &values[2][o])) else {
                return unjudged("the output is not finite, or changes its shape, at the cutoff".to_owned());
            };
            // Inputs in single precision miss the distance by a unit or so, which a smooth output follows.
            let jumps = near > 0.1 * far && near > 1e3 * rounding;
            let (outcome, reason) = if jumps {
                let why = format!(
                    "the output changes by {near:.1e} of its scale from just below to just above the cutoff"
                );
                (Outcome::Discontinuous, why)
            } else {
                (Outcome::Holds, "the output is continuous at the cutoff".to_owned())
            };
            let found = StressRow {
                output: Some(name.to_owned()),
                max_relative: Some(near),
                ..row(kind, Some(sample), (outcome, reason))
            };
            if worst.as_ref().is_none_or(|worst| found.outcome > worst.outcome) {
                worst = Some(found);
            }
        }
        Ok(worst.unwrap_or_else(|| row(kind, Some(sample), (Outcome::NotJudged, String::new()))))
    }

    /// The output with the worst outcome.
    fn worst_of(
        &self,
        kind: StressKind,
        sample: usize,
        measured: &Measured,
        ground: Ground<'_>,
    ) -> StressRow {
        let rows = self.outputs().into_iter().enumerate().map(|(o, (name, _))| {
            let (figures, noise) = (measured.figures[o], &measured.noise[o]);
            let judgement = self.judge(o, figures, noise, ground);
            let (mut outcome, mut reason) = (judgement.outcome, judgement.reason);
            let double = figures.double.filter(|_| judgement.counts);
            if let Some(failure) = &measured.failures[o] {
                (outcome, reason) = failure.clone();
            } else if outcome >= Outcome::Undetermined && noise.discontinuous {
                outcome = Outcome::Discontinuous;
                "a change of one unit in the last place of this input jumps the output".clone_into(&mut reason);
            } else if outcome == Outcome::Violated && double.is_some_and(|(e, _)| e <= MARGIN * noise.double) {
                // Inputs at an edge are ill-conditioned; what a unit in the last place does as well is no violation.
                outcome = Outcome::Undetermined;
                reason = format!(
                    "moves of one unit in the last place change the output as much ({:.1e} in double precision)",
                    noise.double
                );
            } else if outcome == Outcome::Amplified
                && let Some(own) = measured.conditioning[o]
                && figures.scaled <= MARGIN * own
            {
                outcome = Outcome::Holds;
                reason = format!(
                    "in double precision it holds; the inputs' own rounding changes the output by {own:.1e} at this scale"
                );
            }
            StressRow {
                kind,
                sample: Some(sample),
                output: Some(name.to_owned()),
                elements: measured.elements,
                max_relative: Some(figures.relative),
                max_relative_f64: double.map(|(_, relative)| relative),
                noise: Some(judgement.noise),
                outcome,
                reason,
            }
        });
        let size = |row: &StressRow| row.max_relative.unwrap_or(0.0);
        rows.reduce(|a, b| match a.outcome.cmp(&b.outcome).then(size(&a).total_cmp(&size(&b))) {
            std::cmp::Ordering::Less => b,
            _ => a,
        })
        .unwrap_or_else(|| row(kind, Some(sample), (Outcome::NotJudged, String::new())))
    }
}

/// Where the output jumps across the cutoff, rounding chooses a side at it: what that amounts to is the jump's size, and
/// no violation or amplification.
fn name_the_jump(rows: &mut [StressRow]) {
    let jumps =
        |row: &StressRow| row.kind == StressKind::AcrossCutoff && row.outcome == Outcome::Discontinuous;
    if !rows.iter().any(jumps) {
        return;
    }
    for row in rows.iter_mut().filter(|row| row.kind == StressKind::AtCutoff) {
        if matches!(row.outcome, Outcome::Amplified | Outcome::Undetermined | Outcome::Violated) {
            row.outcome = Outcome::Discontinuous;
            "rounding decides on which side of the cutoff the pair is".clone_into(&mut row.reason);
        }
    }
}

/// A row without figures.
fn row(kind: StressKind, sample: Option<usize>, (outcome, reason): Unmeasured) -> StressRow {
    StressRow {
        kind,
        sample,
        output: None,
        elements: 0,
        max_relative: None,
        max_relative_f64: None,
        noise: None,
        outcome,
        reason,
    }
}
