//! The end-to-end stage: f(T x) against T' f(x), many inputs by many elements.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use ndarray::{Array1, ArrayD, Axis as NdAxis};

use crate::Error;
use crate::diagnosis;
use crate::model::{Call, DType, Model, Output, Samples, Tensor};
use crate::report::{
    ExecutedPlan, FORMAT_VERSION, FactorRow, Float64, Levels, OutputResult, PlannedRow, Repeatability,
    Report, Stage, SymmetryType, Timings, TransformRow, VacuityRow, Verdict, WorstCase,
};
use crate::symmetry::{Axis, BoundLayout, Element, Factor, Layout, permuted_lengths};

use super::calls::{Calls, Evaluation, Value};
use super::measure::{self, Scales, median, norm};
use super::noise;
use super::precision::{self, Proof, Proven};
use super::sampling::{self, Draws, Part, Purpose, Space};
use super::statistics::{clopper_pearson_upper, maximum, quantile, summary};
use super::vacuity;
use super::verdict::{Decision, Double, Evidence, decide};
use super::{Options, Precision, Progress, Specification, help_for_idle};

/// Confidence of all bounds of one report together.
const CONFIDENCE: f64 = 0.95;
/// Samples on which the probes (noise, vacuity, precision) are run.
const PROBED_SAMPLES: usize = 3;
/// Samples for which the planned elements are tried.
const PLANNED_SAMPLES: usize = 5;
/// Fewer Haar-drawn pairs than this for any part of the group bound its violating share by no better than a
/// quarter at 95 % confidence: a budget that cuts below it leaves the audit undetermined.
const LEAST_PAIRS: usize = 11;

/// One test sample, with everything that is known of it.
struct Case {
    inputs: Vec<Tensor>,
    layouts: Vec<Option<BoundLayout>>,
    space: Space,
    /// f(x), declared outputs.
    base: Vec<Value>,
    outputs: Vec<BoundLayout>,
    /// The same in double precision.
    double: Option<Vec<Value>>,
}

/// One (sample, element) pair of the plan.
struct Pair {
    sample: usize,
    index: u64,
    part: Part,
    kind: &'static str,
    element: Element,
}

/// What one pair showed, per output.
struct Record {
    pair: Pair,
    working: Vec<measure::Error>,
    double: Option<Vec<measure::Error>>,
    failure: Vec<Option<String>>,
}

/// The double-precision model.
enum DoubleModel {
    /// The model under audit is in double precision itself.
    Same,
    Copy(Box<dyn Model>),
    Unavailable(String),
    NotRequested,
}

/// Noise figures of one output.
#[derive(Debug, Clone, Copy, Default)]
struct Noise {
    /// In the precision under audit: moves of one unit in the last place.
    rounding: f64,
    double: f64,
    constants: f64,
    discontinuous: bool,
    /// Relative difference of the two precisions on equal inputs.
    precisions_differ: f64,
    repeat_double: f64,
}

pub(super) fn run(
    specification: &Specification,
    options: &Options,
    model: &mut dyn Model,
    samples: &mut dyn Samples,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    let started = Instant::now();
    let names = declared(specification).map(|(name, _)| name.to_owned()).collect();
    if options.precision == Precision::Float64 {
        let mut copy = model.double().map_err(|why| Error::Option {
            option: "precision".to_owned(),
            why: format!("\"float64\" is not available: {}", why.0),
        })?;
        let mut doubled = DoubledSamples(samples);
        return EndToEnd::new(specification, options, started, names).run(
            copy.as_mut(),
            &mut doubled,
            progress,
        );
    }
    EndToEnd::new(specification, options, started, names).run(model, samples, progress)
}

/// Samples with every floating tensor in double precision.
struct DoubledSamples<'a>(&'a mut dyn Samples);

impl Samples for DoubledSamples<'_> {
    fn count(&self) -> Option<usize> {
        self.0.count()
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        Ok(self.0.get(index)?.iter().map(Tensor::double).collect())
    }
}

/// Declared outputs that have a layout.
fn declared(specification: &Specification) -> impl Iterator<Item = (&str, &Layout)> {
    specification.outputs().iter().filter_map(|(name, layout)| Some((name.as_str(), layout.as_ref()?)))
}

/// State of the stage.
struct EndToEnd<'a> {
    specification: &'a Specification,
    options: &'a Options,
    started: Instant,
    calls: Calls,
    notes: Vec<String>,
    cases: Vec<Case>,
    /// By output.
    scales: Vec<Scales>,
    scales_double: Vec<Scales>,
    /// By sample and output: the same with that sample's own variation of scalars.
    own_scales: Vec<Vec<Scales>>,
    own_scales_double: Vec<Vec<Scales>>,
    first_outputs: Vec<Output>,
    written: Vec<String>,
}

impl<'a> EndToEnd<'a> {
    fn new(
        specification: &'a Specification,
        options: &'a Options,
        started: Instant,
        names: Vec<String>,
    ) -> Self {
        Self {
            specification,
            options,
            started,
            calls: Calls::new(names),
            notes: Vec::new(),
            cases: Vec::new(),
            scales: Vec::new(),
            scales_double: Vec::new(),
            own_scales: Vec::new(),
            own_scales_double: Vec::new(),
            first_outputs: Vec::new(),
            written: Vec::new(),
        }
    }

    fn input_names(&self) -> Vec<String> {
        self.specification.inputs().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether the share of the budget is spent.
    fn spent(&self, share: f64) -> bool {
        self.options.budget.is_some_and(|budget| self.started.elapsed() >= budget.mul_f64(share.min(1.0)))
    }

    fn run(
        mut self,
        model: &mut dyn Model,
        samples: &mut dyn Samples,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Report, Error> {
        let info = model.info();
        let size = info.parameters.unwrap_or(0);
        // The mission's sample sizes by the model's size: targets and upper limits (DESIGN 4).
        let (default_samples, transforms) = match size {
            0..1_000_000 => (50, 50),
            1_000_000..100_000_000 => (100, 100),
            _ => (200, 100),
        };
        let wanted = self.options.samples.unwrap_or(default_samples);
        let wanted = samples.count().map_or(wanted, |given| wanted.min(given));
        let transforms = self.options.transforms.unwrap_or(transforms);
        self.first_call(model, samples)?;
        while self.cases.len() < wanted && (self.cases.len() < PROBED_SAMPLES || !self.spent(0.1)) {
            let case = self.case(self.cases.len(), model, samples)?;
            self.cases.push(case);
        }
        self.check_factors()?;
        let repeatability = self.repeat(model, false)?;
        let translation_scale = self.set_translation_scale();
        self.scales = (0..self.outputs().len())
            .map(|o| Scales::new(self.cases.iter().map(|case| (&case.outputs[o], &case.base[o].values))))
            .collect();
        let roundoff = self.roundoff(&info.dtype);
        let levels = self.levels(roundoff);
        let mut double = self.double_model(model, roundoff)?;
        self.scales_double = match double {
            DoubleModel::Copy(_) => (0..self.outputs().len())
                .map(|o| {
                    Scales::new(
                        self.cases
                            .iter()
                            .filter_map(|case| Some((&case.outputs[o], &case.double.as_ref()?[o].values))),
                    )
                })
                .collect(),
            _ => self.scales.clone(),
        };
        let proven = self.prove(model, &mut double)?;
        let vacuity = self.vacuity(model)?;
        self.variation(model)?;
        let mut noise = self.noise(model, &mut double, &proven)?;
        let repeat_double = match &mut double {
            DoubleModel::Copy(copy) => self.repeat(copy.as_mut(), true)?.iter().map(|r| r.seeded).collect(),
            _ => repeatability.iter().map(|r| r.seeded).collect::<Vec<f64>>(),
        };
        for (noise, repeat) in noise.iter_mut().zip(repeat_double) {
            noise.repeat_double = repeat;
        }
        let plan = self.plan(transforms);
        let planned = plan.len();
        let records = self.pairs(plan, model, &mut double, progress)?;
        self.refine_noise(model, &mut double, &proven, &records, &mut noise)?;
        let measured = Measured { noise, proven, vacuity, repeatability, roundoff, levels, planned };
        Ok(self.report(model, &double, &records, &measured, translation_scale))
    }

    fn outputs(&self) -> Vec<(&'a str, &'a Layout)> {
        declared(self.specification).collect()
    }

    /// The first call tells what the model returns, and whether it writes to its inputs.
    fn first_call(&mut self, model: &mut dyn Model, samples: &mut dyn Samples) -> Result<(), Error> {
        let inputs = samples.get(0)?;
        self.bind_inputs(&inputs)?;
        let call = Call { sample: 0, inputs: &inputs, reset_generators: true, restore_state: true };
        let (outputs, written) = self
            .calls
            .raw("first call", model, &call)?
            .map_err(|why| Error::ModelFails { sample: 0, why })?;
        let returned = || {
            let names: Vec<String> = outputs
                .iter()
                .map(|o| match &o.tensor {
                    Some(tensor) => format!("`{}` {:?}", o.name, tensor.shape()),
                    None => format!("`{}` (not a tensor)", o.name),
                })
                .collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        if self.outputs().is_empty() {
            return Err(Error::NothingToAudit { returned: returned() });
        }
        for (name, _) in self.outputs() {
            if !outputs.iter().any(|o| o.name == name) {
                return Err(Error::MissingOutput { name: name.to_owned(), returned: returned() });
            }
        }
        for output in outputs.iter().filter(|o| o.positional && o.tensor.is_some()) {
            if !self.specification.outputs().iter().any(|(name, _)| *name == output.name) {
                return Err(Error::Option {
                    option: "out_layouts".to_owned(),
                    why: format!(
                        "output `{}` is an entry of a tuple and has no layout: give one, or None to leave it out",
                        output.name
                    ),
                });
            }
        }
        for (name, _) in self.outputs() {
            if outputs.iter().any(|o| o.name == name && o.tensor.is_none()) {
                return Err(Error::Option {
                    option: "out_layouts".to_owned(),
                    why: format!("output `{name}` has a layout but is not a tensor"),
                });
            }
        }
        let names = self.input_names();
        self.written = written.iter().filter_map(|k| names.get(*k).cloned()).collect();
        self.first_outputs = outputs;
        Ok(())
    }

    fn bind_inputs(&self, inputs: &[Tensor]) -> Result<Vec<Option<BoundLayout>>, Error> {
        let group = self.specification.group();
        self.specification
            .inputs()
            .iter()
            .zip(inputs)
            .map(|((name, layout), tensor)| {
                let Some(layout) = layout else { return Ok(None) };
                let what = format!("input `{name}`");
                let bound = BoundLayout::new(layout, tensor.shape(), group, &what)?;
                let fail = |why: String| Error::Shape {
                    tensor: what.clone(),
                    layout: layout.to_string(),
                    shape: tensor.shape().to_vec(),
                    why,
                };
                if !tensor.dtype().is_inexact() && layout.axes().iter().any(Axis::is_spatial) {
                    return Err(fail(format!(
                        "{} values cannot be turned: give floating values, or None to leave the input alone",
                        tensor.dtype().name()
                    )));
                }
                if layout.values().is_some() && tensor.map_integers(|v| v).is_none() {
                    return Err(fail(format!(
                        "`:` says that values are positions, and {} values are no integers",
                        tensor.dtype().name()
                    )));
                }
                Ok(Some(bound))
            })
            .collect()
    }

    /// Evaluates f(x) for one more sample.
    fn case(
        &mut self,
        index: usize,
        model: &mut dyn Model,
        samples: &mut dyn Samples,
    ) -> Result<Case, Error> {
        let inputs = samples.get(index)?;
        let layouts = self.bind_inputs(&inputs)?;
        let names: Vec<String> = self.input_names().iter().map(|n| format!("input `{n}`")).collect();
        let bound = names.iter().zip(&layouts).filter_map(|(n, l)| Some((n.as_str(), l.as_ref()?)));
        let axes = permuted_lengths(bound)?;
        let mut space = Space {
            dimension: self.specification.group().dimension().unwrap_or(0),
            axes,
            ..Space::default()
        };
        for (axis, input) in &self.options.segments {
            let position = self.specification.inputs().iter().position(|(name, _)| name == input);
            let labels: Vec<i64> = position
                .and_then(|k| inputs.get(k))
                .filter(|tensor| tensor.map_integers(|v| v).is_some())
                .map(|tensor| tensor.to_real().iter().map(|v| *v as i64).collect())
                .unwrap_or_default();
            if labels.len() != space.axes.get(axis).copied().unwrap_or(0) {
                return Err(Error::Option {
                    option: "segments".to_owned(),
                    why: format!(
                        "input `{input}` must hold one integer label per entry of `{axis}`: {} labels for {} entries",
                        labels.len(),
                        space.axes.get(axis).copied().unwrap_or(0)
                    ),
                });
            }
            space.segments.insert(axis.clone(), labels);
        }
        space.directions = directions(&inputs, &layouts);
        let base = self
            .calls
            .evaluate("base", model, index, &inputs)?
            .map_err(|why| Error::ModelFails { sample: index, why })?;
        let outputs = self
            .outputs()
            .iter()
            .zip(&base)
            .map(|((name, layout), value)| {
                let shape = if value.dtype.is_complex() {
                    &value.values.shape()[..value.shape.len()]
                } else {
                    &value.shape[..]
                };
                let what = format!("output `{name}`");
                let bound = BoundLayout::new(layout, shape, self.specification.group(), &what)?;
                for (axis, length) in bound.permuted_lengths() {
                    if let Some(expected) = space.axes.get(axis).filter(|n| **n != length) {
                        return Err(Error::AxisLength {
                            axis: axis.to_owned(),
                            first: *expected,
                            first_tensor: "the inputs".to_owned(),
                            second: length,
                            second_tensor: what,
                        });
                    }
                }
                Ok(bound)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Case { inputs, layouts, space, base, outputs, double: None })
    }

    /// Every factor must be able to move some input.
    fn check_factors(&self) -> Result<(), Error> {
        let group = self.specification.group();
        for factor in group.factors() {
            let moved = |case: &Case| case.layouts.iter().flatten().any(|layout| layout.is_moved_by(&factor));
            if !self.cases.iter().any(moved) {
                let help = help_for_idle(&factor, group);
                return Err(Error::FactorMovesNothing { factor: factor.to_string(), help });
            }
        }
        Ok(())
    }

    /// Spread of the points: root mean square distance from their centroid, median over samples.
    fn set_translation_scale(&mut self) -> f64 {
        let scale = self.options.translation_scale.unwrap_or_else(|| {
            let mut spreads: Vec<f64> =
                self.cases.iter().filter_map(|case| spread_of_points(&case.inputs, &case.layouts)).collect();
            let spread = median(&mut spreads);
            if spread > 0.0 && spread.is_finite() { spread } else { 1.0 }
        });
        for case in &mut self.cases {
            case.space.translation_scale = scale;
        }
        scale
    }

    /// Unit roundoff of the precision under audit: the coarsest of the inputs' floating types, else the outputs',
    /// else the model's.
    fn roundoff(&self, model_dtype: &str) -> f64 {
        let inputs = self.cases[0].inputs.iter().filter_map(|t| t.dtype().unit_roundoff());
        let outputs = self.cases[0].base.iter().filter_map(|v| v.dtype.unit_roundoff());
        inputs.reduce(f64::max).or_else(|| outputs.reduce(f64::max)).unwrap_or(match model_dtype {
            "float64" => 2f64.powi(-53),
            _ => 2f64.powi(-24),
        })
    }

    /// The level bounds, scaled to types coarser than single precision.
    fn levels(&self, roundoff: f64) -> Levels {
        let factor = (roundoff / 2f64.powi(-24)).max(1.0);
        let Levels { perfect, excellent, approximate } = self.options.levels;
        let approximate = approximate.max(excellent * factor).min(approximate * factor);
        Levels { perfect: perfect * factor, excellent: excellent * factor, approximate }
    }

    fn double_model(&mut self, model: &mut dyn Model, roundoff: f64) -> Result<DoubleModel, Error> {
        if self.options.precision == Precision::AsIs {
            return Ok(DoubleModel::NotRequested);
        }
        if roundoff <= 2f64.powi(-53) {
            return Ok(DoubleModel::Same);
        }
        let mut copy = match model.double() {
            Ok(copy) => copy,
            Err(why) => return Ok(DoubleModel::Unavailable(why.0)),
        };
        for index in 0..self.cases.len() {
            let inputs: Vec<Tensor> = self.cases[index].inputs.iter().map(Tensor::double).collect();
            let values = match self.calls.evaluate("float64 base", copy.as_mut(), index, &inputs)? {
                Ok(values) => values,
                Err(why) => return Ok(DoubleModel::Unavailable(why)),
            };
            let case = &self.cases[index];
            for ((value, base), (name, _)) in values.iter().zip(&case.base).zip(self.outputs()) {
                if value.shape != base.shape {
                    return Ok(DoubleModel::Unavailable(format!(
                        "output `{name}` has shape {:?} in double precision and {:?} in the model's own",
                        value.shape, base.shape
                    )));
                }
            }
            self.cases[index].double = Some(values);
        }
        Ok(DoubleModel::Copy(copy))
    }

    /// Calls again: with generators reset, without, and after other calls with the state left as they leave it.
    fn repeat(&mut self, model: &mut dyn Model, double: bool) -> Result<Vec<Repeatability>, Error> {
        let mut result = vec![Repeatability::default(); self.outputs().len()];
        let inputs = self.inputs(0, double);
        let purpose = "repeat";
        let Ok(reference) = self.calls.evaluate(purpose, model, 0, &inputs)? else { return Ok(result) };
        for (reset, restore, rounds) in
            [(true, true, 1), (false, true, 1), (false, false, 2), (true, false, 1)]
        {
            let call = Call { sample: 0, inputs: &inputs, reset_generators: reset, restore_state: restore };
            for _ in 0..rounds {
                let Ok((outputs, _)) = self.calls.raw(purpose, model, &call)? else { continue };
                let Ok(values) = self.calls.pick(outputs) else { continue };
                for (o, (value, before)) in values.iter().zip(&reference).enumerate() {
                    let difference = relative_difference(value, before);
                    let slot = &mut result[o];
                    match (reset, restore) {
                        (true, true) => slot.seeded = slot.seeded.max(difference),
                        (false, true) => slot.unseeded = slot.unseeded.max(difference),
                        (true, false) => slot.drift = slot.drift.max(difference),
                        (false, false) => {}
                    }
                }
            }
        }
        Ok(result)
    }

    fn inputs(&self, sample: usize, double: bool) -> Vec<Tensor> {
        let inputs = &self.cases[sample].inputs;
        if double { inputs.iter().map(Tensor::double).collect() } else { inputs.clone() }
    }

    fn probed(&self) -> usize {
        // A model so slow that a hundred calls eat the budget is probed on one sample.
        let slow = self.options.budget.is_some_and(|b| self.calls.last.mul_f64(400.0) > b);
        if slow { 1 } else { self.cases.len().min(PROBED_SAMPLES) }
    }

    /// Whether the double-precision comparison counts, per output; the reason it does not for all.
    fn prove(&mut self, model: &mut dyn Model, double: &mut DoubleModel) -> Result<Proven, Error> {
        let names = self.input_names();
        let mut proven = Proven::assumed(names.len(), self.outputs().len());
        let is_copy = matches!(double, DoubleModel::Copy(_));
        for sample in 0..self.probed().min(2) {
            let prover: &mut dyn Model = match double {
                DoubleModel::Copy(copy) => copy.as_mut(),
                DoubleModel::Same => &mut *model,
                _ => return Ok(proven),
            };
            let inputs = self.inputs(sample, is_copy);
            let case = &self.cases[sample];
            let base = case.double.as_ref().unwrap_or(&case.base);
            let seed = self.options.seed;
            match precision::prove(&mut self.calls, prover, sample, &inputs, &names, base, seed)? {
                Ok(found) => proven.join(found),
                Err(why) => {
                    *double = DoubleModel::Unavailable(format!("the proof of precision failed: {why}"));
                    return Ok(proven);
                }
            }
        }
        Ok(proven)
    }

    /// T x in the tensors' own types, or in double precision.
    fn transformed(&self, sample: usize, element: &Element, double: bool) -> Vec<Tensor> {
        let case = &self.cases[sample];
        case.inputs
            .iter()
            .zip(&case.layouts)
            .map(|(tensor, layout)| {
                let wide = if double { tensor.double() } else { tensor.clone() };
                layout.as_ref().map_or_else(|| wide.clone(), |layout| layout.act(element, &wide))
            })
            .collect()
    }

    /// T' f(x) per output.
    fn expected(&self, sample: usize, element: &Element, double: bool) -> Vec<ArrayD<f64>> {
        let case = &self.cases[sample];
        let base = if double { case.double.as_ref().unwrap_or(&case.base) } else { &case.base };
        base.iter().zip(&case.outputs).map(|(v, layout)| layout.act_on_real(element, &v.values)).collect()
    }

    /// For every factor and output, block by block: does it respond to a change of the inputs that is no symmetry,
    /// and does the declared action move it. The least responsive block counts.
    fn vacuity(&mut self, model: &mut dyn Model) -> Result<Vec<Vec<VacuityRow>>, Error> {
        let group = self.specification.group().clone();
        let count = self.outputs().len();
        let mut rows: Vec<Vec<VacuityRow>> = vec![Vec::new(); count];
        let least = 20.0 * self.roundoff("");
        for (f, factor) in group.factors().iter().enumerate() {
            // By output and block: one figure per probed sample.
            let mut sensitivity: Vec<BTreeMap<String, Vec<f64>>> = vec![BTreeMap::new(); count];
            let mut discrimination: Vec<BTreeMap<String, Vec<f64>>> = vec![BTreeMap::new(); count];
            let mut acted = false;
            for sample in 0..self.probed() {
                let mut draws = Draws::new(self.options.seed, sample, f as u64, Purpose::Perturbation);
                let part = Part::Alone(factor.clone());
                let element = sampling::haar(&group, &part, &self.cases[sample].space, &mut draws);
                let expected = self.expected(sample, &element, false);
                let case = &self.cases[sample];
                for (o, expected) in expected.iter().enumerate() {
                    let difference = expected - &case.base[o].values;
                    let moved = case.outputs[o].blocks_moved_by(factor);
                    let sizes = self.scales[o].by_block(&case.outputs[o], &difference, expected);
                    for ((block, size), _) in sizes.into_iter().zip(moved).filter(|(_, moved)| *moved) {
                        discrimination[o].entry(block).or_default().push(size);
                    }
                }
                let inputs = vacuity::perturbed(&case.inputs, &case.layouts, &element, factor, &mut draws);
                let Some(inputs) = inputs else { continue };
                acted = true;
                // A model may refuse inputs without symmetry; then nothing is known of it.
                let Ok(values) = self.calls.evaluate("vacuity", model, sample, &inputs)? else { continue };
                for (o, value) in values.iter().enumerate() {
                    let case = &self.cases[sample];
                    if value.shape != case.base[o].shape {
                        continue;
                    }
                    let base = &case.base[o].values;
                    for (block, size) in
                        self.scales[o].by_block(&case.outputs[o], &(&value.values - base), base)
                    {
                        sensitivity[o].entry(block).or_default().push(size);
                    }
                }
            }
            for o in 0..count {
                let (sensitive, discriminates) =
                    (least_block(&mut sensitivity[o]), least_block(&mut discrimination[o]));
                let of =
                    |block: &str| if block.is_empty() { String::new() } else { format!("block {block}: ") };
                let vacuous = match (&sensitive, &discriminates) {
                    _ if !acted => Some(format!("`{factor}` moves no test input")),
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

    /// How much scalars vary around each sample, under a change as large as what a joint element does: a large
    /// constant offset must not make a violation look small (METHOD 7).
    fn variation(&mut self, model: &mut dyn Model) -> Result<(), Error> {
        let group = self.specification.group().clone();
        let count = self.outputs().len();
        let mut changes: Vec<Option<Vec<ArrayD<f64>>>> = vec![None; self.cases.len()];
        let scalar = |case: &Case| case.outputs.iter().any(BoundLayout::has_scalars);
        if let Some(factor) = group.factors().first()
            && self.cases.first().is_some_and(scalar)
        {
            for (sample, change) in changes.iter_mut().enumerate() {
                let element = self.probe_element(sample);
                let mut draws = Draws::new(self.options.seed, sample, u64::MAX, Purpose::Perturbation);
                let case = &self.cases[sample];
                let inputs = vacuity::perturbed(&case.inputs, &case.layouts, &element, factor, &mut draws);
                let Some(inputs) = inputs else { continue };
                let Ok(values) = self.calls.evaluate("variation", model, sample, &inputs)? else { continue };
                let base = &self.cases[sample].base;
                if values.iter().zip(base).all(|(v, b)| v.shape == b.shape) {
                    let differences = values.iter().zip(base).map(|(v, b)| &v.values - &b.values);
                    *change = Some(differences.collect());
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
    fn copied_input(&self, output: usize) -> Option<String> {
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
    fn probe_element(&self, sample: usize) -> Element {
        let mut draws = Draws::new(self.options.seed, sample, 0, Purpose::Haar);
        sampling::haar(self.specification.group(), &Part::Joint, &self.cases[sample].space, &mut draws)
    }

    fn noise(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        proven: &Proven,
    ) -> Result<Vec<Noise>, Error> {
        let points: Vec<(usize, Element)> = (0..self.probed()).map(|i| (i, self.probe_element(i))).collect();
        let mut noise = vec![Noise::default(); self.outputs().len()];
        self.probe_noise(model, double, proven, &points, &mut noise)?;
        Ok(noise)
    }

    /// Measures noise again where the error was largest: an ill-conditioned input is judged by its own noise.
    fn refine_noise(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        proven: &Proven,
        records: &[Record],
        noise: &mut [Noise],
    ) -> Result<(), Error> {
        let mut points: Vec<(usize, Element)> = Vec::new();
        let mut seen: HashSet<usize> = HashSet::new();
        for o in 0..noise.len() {
            let by_working = |r: &Record| r.working[o].scaled;
            let by_double = |r: &Record| r.double.as_ref().map_or(0.0, |d| d[o].scaled);
            let figures: [&dyn Fn(&Record) -> f64; 2] = [&by_working, &by_double];
            for figure in figures {
                let worst = records
                    .iter()
                    .enumerate()
                    .filter(|(_, r)| figure(r).is_finite() && figure(r) > 0.0)
                    .max_by(|(_, a), (_, b)| figure(a).total_cmp(&figure(b)));
                if let Some((k, record)) = worst
                    && seen.insert(k)
                {
                    points.push((record.pair.sample, record.pair.element.clone()));
                }
            }
        }
        self.probe_noise(model, double, proven, &points, noise)
    }

    /// Adds to `noise` what is measured at the given (sample, element) points.
    fn probe_noise(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        proven: &Proven,
        points: &[(usize, Element)],
        noise: &mut [Noise],
    ) -> Result<(), Error> {
        // Where a model drops precision inside, a unit in the last place is one of what it keeps.
        let working = self.rounding(model, points, false, &proven.kept)?;
        for (slot, values) in noise.iter_mut().zip(working) {
            let (middle, largest) = (quantile(&values, 0.5), maximum(&values));
            let jump = middle > 0.0 && largest > 100.0 * middle;
            slot.discontinuous |= jump;
            slot.rounding = slot.rounding.max(if jump { middle } else { largest });
        }
        if let DoubleModel::Same = double {
            for slot in noise.iter_mut() {
                slot.double = slot.rounding;
            }
            self.probe_constants(model, points, false, noise)?;
        }
        let DoubleModel::Copy(copy) = double else { return Ok(()) };
        let in_double = self.rounding(copy.as_mut(), points, true, &[])?;
        for (slot, values) in noise.iter_mut().zip(in_double) {
            let (middle, largest) = (quantile(&values, 0.5), maximum(&values));
            let jump = middle > 0.0 && largest > 100.0 * middle;
            slot.discontinuous |= jump;
            slot.double = slot.double.max(if jump { middle } else { largest });
        }
        // The two precisions on the same rounded inputs: all the rounding there is, not its conditioning alone. In
        // double precision it shrinks with the unit roundoff.
        for (sample, element) in points {
            let rounded = self.transformed(*sample, element, false);
            let wide: Vec<Tensor> = rounded.iter().map(Tensor::double).collect();
            let Ok(low) = self.calls.evaluate("noise", model, *sample, &rounded)? else { continue };
            let Ok(high) = self.calls.evaluate("noise", copy.as_mut(), *sample, &wide)? else { continue };
            let expected = self.expected(*sample, element, true);
            for (o, slot) in noise.iter_mut().enumerate() {
                let case = &self.cases[*sample];
                if low[o].shape != case.base[o].shape || high[o].shape != case.base[o].shape {
                    continue;
                }
                let layout = &case.outputs[o];
                let at_tx = self.own_scales_double[*sample][o].measure(
                    layout,
                    &(&low[o].values - &high[o].values),
                    &expected[o],
                );
                let wide = case.double.as_ref().map_or(&case.base[o].values, |d| &d[o].values);
                let at_x =
                    self.own_scales_double[*sample][o].measure(layout, &(&case.base[o].values - wide), wide);
                let differ = at_tx.scaled + at_x.scaled;
                if differ.is_finite() {
                    slot.precisions_differ = slot.precisions_differ.max(differ);
                    let ratio = 2f64.powi(-53) / self.roundoff("");
                    slot.double = slot.double.max(differ * ratio);
                }
            }
        }
        self.probe_constants(copy.as_mut(), points, true, noise)
    }

    /// Effect of inputs and state moved by one unit in the last place, at each point, per output.
    fn rounding(
        &mut self,
        model: &mut dyn Model,
        points: &[(usize, Element)],
        double: bool,
        kept: &[Option<f64>],
    ) -> Result<Vec<Vec<f64>>, Error> {
        let mut found: Vec<Vec<f64>> = vec![Vec::new(); self.outputs().len()];
        let mut draws = Draws::new(self.options.seed, 0, u64::from(double), Purpose::Parameters);
        let mut moved_state = match noise::with_moved_state(model, &mut draws) {
            Ok(copy) => Some(copy),
            Err(why) => {
                let note = format!("rounding of the model's parameters was not probed: {}", why.0);
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                None
            }
        };
        for (p, (sample, element)) in points.iter().enumerate() {
            let inputs = self.transformed(*sample, element, double);
            let Ok(reference) = self.calls.evaluate("noise", model, *sample, &inputs)? else { continue };
            for round in 0..3 {
                let mut draws =
                    Draws::new(self.options.seed, *sample, (p * 3 + round) as u64, Purpose::Rounding);
                let moved: Vec<Tensor> = inputs
                    .iter()
                    .enumerate()
                    .map(|(k, t)| noise::moved_by_one_ulp(t, kept.get(k).copied().flatten(), &mut draws))
                    .collect();
                let target: &mut dyn Model = match &mut moved_state {
                    Some(copy) if round > 0 => copy.as_mut(),
                    _ => &mut *model,
                };
                let Ok(values) = self.calls.evaluate("noise", target, *sample, &moved)? else { continue };
                let layouts = &self.cases[*sample].outputs;
                let scales = &if double { &self.own_scales_double } else { &self.own_scales }[*sample];
                for (o, (value, before)) in values.iter().zip(&reference).enumerate() {
                    if value.shape != before.shape || value.shape != self.cases[*sample].base[o].shape {
                        continue;
                    }
                    let difference = &value.values - &before.values;
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
        points: &[(usize, Element)],
        double: bool,
        noise: &mut [Noise],
    ) -> Result<(), Error> {
        for round in 0..2 {
            let mut draws = Draws::new(self.options.seed, 0, round, Purpose::Constants);
            let Ok(Some(mut moved)) = noise::with_moved_constants(model, &mut draws) else { return Ok(()) };
            for (sample, element) in points {
                let inputs = self.inputs(*sample, double);
                let turned = self.transformed(*sample, element, double);
                let Ok(before) = self.calls.evaluate("constants", model, *sample, &turned)? else { continue };
                let Ok(at_x) = self.calls.evaluate("constants", moved.as_mut(), *sample, &inputs)? else {
                    continue;
                };
                let Ok(at_tx) = self.calls.evaluate("constants", moved.as_mut(), *sample, &turned)? else {
                    continue;
                };
                let expected = self.expected(*sample, element, double);
                for (o, slot) in noise.iter_mut().enumerate() {
                    let layout = &self.cases[*sample].outputs[o];
                    let shapes = [&before[o], &at_x[o], &at_tx[o]].map(|v| v.shape == layout.shape());
                    if shapes.contains(&false) && !before[o].dtype.is_complex() {
                        continue;
                    }
                    let error = &before[o].values - &expected[o];
                    let moved_error = &at_tx[o].values - &layout.act_on_real(element, &at_x[o].values);
                    let change = self.own_scales_double[*sample][o]
                        .measure(layout, &(moved_error - error), &expected[o])
                        .scaled;
                    if change.is_finite() {
                        slot.constants = slot.constants.max(change);
                    }
                }
            }
        }
        Ok(())
    }

    /// Planned elements for the first samples, then Haar-drawn ones; any prefix of the latter is balanced over
    /// samples and over the parts of the group.
    fn plan(&self, transforms: usize) -> Vec<Pair> {
        let group = self.specification.group();
        let mut pairs = Vec::new();
        for sample in 0..self.cases.len().min(PLANNED_SAMPLES) {
            let mut draws = Draws::new(self.options.seed, sample, 0, Purpose::NearIdentity);
            let elements = sampling::planned(group, &self.cases[sample].space, &mut draws);
            pairs.extend(elements.into_iter().enumerate().map(|(k, (kind, element))| Pair {
                sample,
                index: k as u64,
                part: Part::Joint,
                kind,
                element,
            }));
        }
        // The identity of every planned sample first: it is the cheapest look at randomness and mutation.
        pairs.sort_by_key(|pair| pair.kind != "identity");
        let cycle = sampling::cycle(group);
        for index in 0..transforms {
            for sample in 0..self.cases.len() {
                // Samples start at different places of the cycle, so that few elements per sample cover all parts.
                let part = cycle[(index + sample) % cycle.len()].clone();
                let mut draws = Draws::new(self.options.seed, sample, index as u64, Purpose::Haar);
                let element = sampling::haar(group, &part, &self.cases[sample].space, &mut draws);
                pairs.push(Pair { sample, index: index as u64, part, kind: "haar", element });
            }
        }
        pairs
    }

    fn pairs(
        &mut self,
        plan: Vec<Pair>,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Record>, Error> {
        let planned = plan.len();
        let mut records = Vec::with_capacity(planned);
        for (done, pair) in plan.into_iter().enumerate() {
            progress(Progress { done, planned });
            // What follows the pairs (noise at the worst of them) takes a few per cent.
            if self.spent(0.93) && !records.is_empty() {
                break;
            }
            records.push(self.pair(pair, model, double)?);
        }
        progress(Progress { done: records.len(), planned });
        Ok(records)
    }

    fn pair(&mut self, pair: Pair, model: &mut dyn Model, double: &mut DoubleModel) -> Result<Record, Error> {
        let inputs = self.transformed(pair.sample, &pair.element, false);
        let outcome = self.calls.evaluate("audit", model, pair.sample, &inputs)?;
        let (working, failure) = self.errors(&pair, &outcome, false);
        let in_double = match double {
            DoubleModel::Copy(copy) => {
                let inputs = self.transformed(pair.sample, &pair.element, true);
                let outcome = self.calls.evaluate("float64 audit", copy.as_mut(), pair.sample, &inputs)?;
                Some(self.errors(&pair, &outcome, true).0)
            }
            DoubleModel::Same => Some(working.clone()),
            _ => None,
        };
        Ok(Record { pair, working, double: in_double, failure })
    }

    /// Error and failure per output.
    fn errors(
        &self,
        pair: &Pair,
        outcome: &Evaluation,
        double: bool,
    ) -> (Vec<measure::Error>, Vec<Option<String>>) {
        let case = &self.cases[pair.sample];
        let base = if double { case.double.as_ref().unwrap_or(&case.base) } else { &case.base };
        let scales = &if double { &self.own_scales_double } else { &self.own_scales }[pair.sample];
        let values = match outcome {
            Ok(values) => values,
            Err(why) => {
                let count = base.len();
                let error = measure::Error::infinite("the call");
                return (
                    vec![error; count],
                    vec![Some(format!("the model raises on a transformed input: {why}")); count],
                );
            }
        };
        let expected = self.expected(pair.sample, &pair.element, double);
        let mut errors = Vec::new();
        let mut failures = Vec::new();
        for (o, ((value, base), expected)) in values.iter().zip(base).zip(&expected).enumerate() {
            let layout = &case.outputs[o];
            let failure = if value.shape != base.shape {
                Some(format!("the shape changes from {:?} to {:?} under the group", base.shape, value.shape))
            } else if value.dtype != base.dtype {
                Some(format!("the type changes from {} to {}", base.dtype.name(), value.dtype.name()))
            } else if base.values.iter().any(|v| !v.is_finite()) {
                Some("the output is not finite on an input as it was given".to_owned())
            } else if value.values.iter().any(|v| !v.is_finite()) {
                Some("the output is not finite on a transformed input".to_owned())
            } else {
                None
            };
            errors.push(if failure.is_some() {
                measure::Error::infinite("the whole output")
            } else {
                scales[o].measure(layout, &(&value.values - expected), expected)
            });
            failures.push(failure);
        }
        (errors, failures)
    }
}

/// Everything measured beside the pairs.
struct Measured {
    noise: Vec<Noise>,
    proven: Proven,
    vacuity: Vec<Vec<VacuityRow>>,
    repeatability: Vec<Repeatability>,
    roundoff: f64,
    levels: Levels,
    planned: usize,
}

/// The block whose median figure is least.
fn least_block(figures: &mut BTreeMap<String, Vec<f64>>) -> Option<(String, f64)> {
    figures
        .iter_mut()
        .map(|(block, sizes)| (block.clone(), median(sizes)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// Norm of the difference over the norm of the reference; infinite where they cannot be compared.
fn relative_difference(value: &Value, reference: &Value) -> f64 {
    if value.shape != reference.shape {
        return f64::INFINITY;
    }
    let same = value.values.iter().zip(&reference.values).all(|(a, b)| a.to_bits() == b.to_bits());
    if same {
        return 0.0;
    }
    let difference = norm(&(&value.values - &reference.values));
    let scale = norm(&reference.values);
    if difference.is_nan() { f64::INFINITY } else { difference / scale.max(f64::MIN_POSITIVE) }
}

impl EndToEnd<'_> {
    fn report(
        mut self,
        model: &mut dyn Model,
        double: &DoubleModel,
        records: &[Record],
        measured: &Measured,
        translation_scale: f64,
    ) -> Report {
        let outputs: Vec<OutputResult> =
            (0..self.outputs().len()).map(|o| self.output(o, double, records, measured)).collect();
        let mut info = model.info();
        if info.dtype.is_empty() {
            dtype_of(measured.roundoff).clone_into(&mut info.dtype);
        }
        let verdict = outputs.iter().map(|o| o.verdict).max().unwrap_or(Verdict::NeedsAttention);
        let discontinuous: Vec<bool> = measured.noise.iter().map(|n| n.discontinuous).collect();
        let rounding: Vec<f64> =
            measured.noise.iter().map(|n| n.rounding.max(2.0 * measured.roundoff)).collect();
        let precisions_differ: Vec<f64> = measured.noise.iter().map(|n| n.precisions_differ).collect();
        let findings = diagnosis::diagnose(&diagnosis::Evidence {
            group: self.specification.group(),
            outputs: &outputs,
            levels: &measured.levels,
            written_inputs: &self.written,
            discontinuous: &discontinuous,
            precisions_differ: &precisions_differ,
            rounding: &rounding,
        });
        // A finding of medium or high severity is something that a person must look at.
        let verdict = if findings.iter().any(|f| f.severity >= diagnosis::Severity::Medium) {
            verdict.max(Verdict::NeedsAttention)
        } else {
            verdict
        };
        self.remarks(records.len(), measured);
        let recommendations = diagnosis::recommendations(&findings, verdict);
        let declared: Vec<&str> = self.specification.outputs().iter().map(|(n, _)| n.as_str()).collect();
        let not_audited = self
            .first_outputs
            .iter()
            .filter(|o| !declared.contains(&o.name.as_str()))
            .map(|o| o.name.clone())
            .chain(
                self.specification
                    .outputs()
                    .iter()
                    .filter(|(_, layout)| layout.is_none())
                    .map(|(n, _)| n.clone()),
            )
            .collect();
        let distinct: HashSet<Vec<u64>> = records
            .iter()
            .filter(|r| !r.pair.element.is_identity())
            .map(|r| r.pair.element.fingerprint())
            .collect();
        let not_run = |what: &str| Stage::NotRun { reason: format!("{what} is not in this version") };
        Report {
            format_version: FORMAT_VERSION,
            equicheck_version: env!("CARGO_PKG_VERSION").to_owned(),
            group: self.specification.group().to_string(),
            verdict,
            transforms: self.transform_rows(),
            levels: measured.levels,
            outputs,
            not_audited,
            layers: not_run("the layer-wise stage"),
            gradients: not_run("the gradient stage"),
            findings,
            recommendations,
            plan: ExecutedPlan {
                seed: self.options.seed,
                samples: self.cases.len(),
                transformations: distinct.len(),
                pairs: records.len(),
                planned_pairs: measured.planned,
                calls: self.calls.total(),
                calls_by_purpose: std::mem::take(&mut self.calls.by_purpose),
                translation_scale,
                confidence: CONFIDENCE,
            },
            environment: environment(model),
            model: info,
            timings: Some(Timings {
                total: self.started.elapsed().as_secs_f64(),
                model: self.calls.time.as_secs_f64(),
            }),
            notes: self.notes,
        }
    }

    fn transform_rows(&self) -> Vec<TransformRow> {
        let group = self.specification.group();
        let case = &self.cases[0];
        let mut rows = Vec::new();
        for (((name, layout), tensor), bound) in
            self.specification.inputs().iter().zip(&case.inputs).zip(&case.layouts)
        {
            rows.push(TransformRow {
                role: "input".to_owned(),
                name: name.clone(),
                layout: layout.as_ref().map(ToString::to_string),
                shape: tensor.shape().to_vec(),
                dtype: tensor.dtype().name().to_owned(),
                description: bound
                    .as_ref()
                    .map_or_else(|| "not transformed".to_owned(), |bound| bound.describe(group)),
            });
        }
        for (((name, layout), value), bound) in self.outputs().iter().zip(&case.base).zip(&case.outputs) {
            rows.push(TransformRow {
                role: "output".to_owned(),
                name: (*name).to_owned(),
                layout: Some(layout.to_string()),
                shape: value.shape.clone(),
                dtype: value.dtype.name().to_owned(),
                description: bound.describe(group),
            });
        }
        rows
    }

    fn remarks(&mut self, done: usize, measured: &Measured) {
        if self.cases.len() == 1 {
            self.notes.push(
                "one test sample: what holds for it may fail for others; give a list of samples, or a function of a \
                 seed"
                    .to_owned(),
            );
        }
        if done < measured.planned {
            self.notes
                .push(format!("the time budget ended the audit after {done} of {} pairs", measured.planned));
        }
        let group = self.specification.group();
        let tensors = self.specification.inputs().iter().zip(&self.cases[0].layouts);
        for ((name, _), bound) in tensors {
            for axis in bound.iter().flat_map(|bound| bound.suspicious_axes(group)) {
                self.notes.push(format!("input `{name}`: `{axis}` is plain: did you mean `vector`?"));
            }
        }
        for ((name, _), bound) in self.outputs().iter().zip(&self.cases[0].outputs) {
            for axis in bound.suspicious_axes(group) {
                self.notes.push(format!("output `{name}`: `{axis}` is plain: did you mean `vector`?"));
            }
        }
    }

    /// All figures and the decision for one output.
    fn output(
        &self,
        o: usize,
        double: &DoubleModel,
        records: &[Record],
        measured: &Measured,
    ) -> OutputResult {
        let (name, layout) = self.outputs()[o];
        let noise = measured.noise[o];
        let repeatability = measured.repeatability[o];
        let haar: Vec<&Record> = records.iter().filter(|r| r.pair.kind == "haar").collect();
        let figures = |records: &[&Record], figure: &dyn Fn(&Record) -> f64| -> Vec<f64> {
            records.iter().map(|r| figure(r)).collect()
        };
        let all: Vec<&Record> = records.iter().collect();
        let absolute = |r: &Record| r.working[o].absolute;
        let relative = |r: &Record| r.working[o].relative;
        let scaled = |r: &Record| r.working[o].scaled;
        let double_relative = |r: &Record| r.double.as_ref().map_or(f64::NAN, |d| d[o].relative);
        let double_scaled = |r: &Record| r.double.as_ref().map_or(f64::NAN, |d| d[o].scaled);
        let float64 = match (double, &measured.proven.outputs[o]) {
            (DoubleModel::NotRequested, _) => Float64::NotRequested,
            (DoubleModel::Unavailable(reason), _) => Float64::Unavailable { reason: reason.clone() },
            (_, Proof::Drops { input, effective_precision }) => {
                Float64::Void { effective_precision: *effective_precision, input: input.clone() }
            }
            // Two precisions of one function differ by rounding; more than a tenth is another function.
            _ if noise.precisions_differ > 0.1 => Float64::Unavailable {
                reason: format!(
                    "the double-precision copy computes another function: the two differ by {:.1e} on equal inputs",
                    noise.precisions_differ
                ),
            },
            _ => Float64::Available {
                max_relative: maximum(&figures(&all, &double_relative)),
                mean_relative: summary(&figures(&haar, &double_relative), &[]).mean,
                noise: noise.double,
                constants: noise.constants,
            },
        };
        let counts = matches!(float64, Float64::Available { .. });
        let vacuous = measured.vacuity[o]
            .iter()
            .find_map(|row| row.vacuous.as_ref().map(|why| format!("`{}`: {why}", row.factor)))
            .or_else(|| self.copied_input(o));
        let evidence = Evidence {
            failure: records.iter().find_map(|r| r.failure[o].clone()),
            scaled: maximum(&figures(&all, &scaled)),
            relative: maximum(&figures(&all, &relative)),
            noise: noise.rounding.max(2.0 * measured.roundoff).max(if counts {
                noise.precisions_differ
            } else {
                0.0
            }),
            repeat: repeatability.seeded,
            double: counts.then(|| Double {
                scaled: maximum(&figures(&all, &double_scaled)),
                relative: maximum(&figures(&all, &double_relative)),
                noise: noise.double.max(2f64.powi(-52)),
                constants: noise.constants,
                repeat: noise.repeat_double,
            }),
            vacuous,
            cut_short: self.cut_short(&haar, measured.planned > records.len()),
            tolerance: self.options.tolerances.get(name).copied().or(self.options.tolerance),
        };
        let decision = decide(&evidence, &measured.levels);
        let judged: &dyn Fn(&Record) -> f64 = if counts { &double_scaled } else { &scaled };
        let invariant =
            !self.specification.group().factors().iter().any(|f| self.cases[0].outputs[o].is_moved_by(f));
        OutputResult {
            name: name.to_owned(),
            layout: layout.to_string(),
            symmetry_type: if invariant { SymmetryType::Invariant } else { SymmetryType::Equivariant },
            classification: decision.classification,
            verdict: decision.verdict,
            level: decision.level,
            reason: decision.reason.clone(),
            absolute: summary(&figures(&haar, &absolute), &figures(&all, &absolute)),
            relative: summary(&figures(&haar, &relative), &figures(&all, &relative)),
            scaled_max: evidence.scaled,
            scale: self.scales[o].whole,
            violation: decision.violation,
            noise: evidence.noise,
            worst: worst_case(records, o),
            factors: self.factor_rows(&haar, o, &decision, counts, judged),
            planned: planned_rows(records, o, counts),
            float64,
            repeatability,
            vacuity: measured.vacuity[o].clone(),
            tolerance: evidence.tolerance,
        }
    }

    /// Whether a budget left any part of the group with too few pairs to say anything.
    fn cut_short(&self, haar: &[&Record], cut: bool) -> Option<String> {
        if !cut {
            return None;
        }
        let mut parts = sampling::cycle(self.specification.group());
        parts.dedup();
        parts.into_iter().find_map(|part| {
            let pairs = haar.iter().filter(|r| r.pair.part == part).count();
            (pairs < LEAST_PAIRS).then(|| {
                format!(
                    "the time budget left {pairs} pairs for {}, fewer than the {LEAST_PAIRS} that bound anything: raise \
                     `budget`",
                    part.name()
                )
            })
        })
    }

    /// Rows for all parts of the group; for a group with reflections also by the sign of the determinant.
    fn factor_rows(
        &self,
        haar: &[&Record],
        o: usize,
        decision: &Decision,
        counts: bool,
        judged: &dyn Fn(&Record) -> f64,
    ) -> Vec<FactorRow> {
        let mut parts: Vec<Part> = vec![Part::Joint];
        let factors = self.specification.group().factors();
        if factors.len() > 1 {
            parts.extend(factors.iter().cloned().map(Part::Alone));
        }
        // All bounds of the report hold together: each gets its part of the error probability.
        let alpha = (1.0 - CONFIDENCE) / (parts.len() * self.outputs().len()) as f64;
        let row = |label: String, records: Vec<&Record>| FactorRow {
            factor: label,
            pairs: records.len(),
            mean_relative: summary(&records.iter().map(|r| r.working[o].relative).collect::<Vec<_>>(), &[])
                .mean,
            max_relative: maximum(&records.iter().map(|r| r.working[o].relative).collect::<Vec<_>>()),
            max_relative_f64: counts.then(|| {
                let figures: Vec<f64> =
                    records.iter().map(|r| r.double.as_ref().map_or(f64::NAN, |d| d[o].relative)).collect();
                maximum(&figures)
            }),
            exceeding: records.iter().filter(|r| exceeds(judged(r), decision.allowance)).count(),
            share_bound: {
                let k = records.iter().filter(|r| exceeds(judged(r), decision.allowance)).count();
                if records.is_empty() { 1.0 } else { clopper_pearson_upper(k, records.len(), alpha) }
            },
        };
        let mut rows = Vec::new();
        for part in &parts {
            let of_part: Vec<&Record> = haar.iter().filter(|r| r.pair.part == *part).copied().collect();
            let improper = match part {
                Part::Joint => {
                    factors.len() == 1 && matches!(factors[0], Factor::Linear { improper: true, .. })
                }
                Part::Alone(factor) => matches!(factor, Factor::Linear { improper: true, .. }),
            };
            rows.push(row(part.name(), of_part.clone()));
            if improper {
                for (sign, label) in [(1.0, "det +1"), (-1.0, "det -1")] {
                    let chosen: Vec<&Record> =
                        of_part.iter().filter(|r| r.pair.element.determinant() == sign).copied().collect();
                    rows.push(row(format!("{}, {label}", part.name()), chosen));
                }
            }
        }
        rows
    }
}

/// NaN exceeds everything.
fn exceeds(error: f64, allowance: f64) -> bool {
    error.is_nan() || error > allowance
}

fn worst_case(records: &[Record], o: usize) -> Option<WorstCase> {
    let size = |r: &&Record| {
        let error = r.working[o].relative;
        if error.is_nan() { f64::INFINITY } else { error }
    };
    let worst = records.iter().filter(|r| size(r) > 0.0).max_by(|a, b| size(a).total_cmp(&size(b)))?;
    Some(WorstCase {
        sample: worst.pair.sample,
        index: worst.pair.index,
        element: worst.pair.element.to_string(),
        factor: worst.pair.part.name(),
        kind: worst.pair.kind.to_owned(),
        block: worst.working[o].place.clone(),
    })
}

fn planned_rows(records: &[Record], o: usize, counts: bool) -> Vec<PlannedRow> {
    let mut rows: Vec<PlannedRow> = Vec::new();
    for record in records.iter().filter(|r| r.pair.kind != "haar") {
        let relative = record.working[o].relative;
        let in_double = record.double.as_ref().filter(|_| counts).map(|d| d[o].relative);
        match rows.iter_mut().find(|row| row.kind == record.pair.kind) {
            Some(row) => {
                row.pairs += 1;
                row.max_relative = maximum(&[row.max_relative, relative]);
                row.max_relative_f64 = row.max_relative_f64.zip(in_double).map(|(a, b)| maximum(&[a, b]));
            }
            None => rows.push(PlannedRow {
                kind: record.pair.kind.to_owned(),
                pairs: 1,
                max_relative: relative,
                max_relative_f64: in_double,
            }),
        }
    }
    rows
}

fn environment(model: &dyn Model) -> BTreeMap<String, String> {
    let mut environment = model.environment();
    environment.insert("equicheck".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    environment.insert("platform".to_owned(), format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH));
    environment
}

fn dtype_of(roundoff: f64) -> &'static str {
    [DType::Float64, DType::Float32, DType::Float16, DType::BFloat16]
        .into_iter()
        .find(|dtype| dtype.unit_roundoff() == Some(roundoff))
        .map_or("float32", DType::name)
}

/// Entries along a `point` axis, as vectors; empty for complex or integer tensors.
fn points(tensor: &Tensor, layout: &BoundLayout) -> Vec<Array1<f64>> {
    let Some(axis) = layout.point_axis() else { return Vec::new() };
    if tensor.dtype().is_complex() {
        return Vec::new();
    }
    tensor.to_real().lanes(NdAxis(axis)).into_iter().map(|lane| lane.to_owned()).collect()
}

/// Root mean square distance of the sample's points from their centroid.
fn spread_of_points(inputs: &[Tensor], layouts: &[Option<BoundLayout>]) -> Option<f64> {
    let points: Vec<Array1<f64>> = inputs
        .iter()
        .zip(layouts)
        .filter_map(|(tensor, layout)| Some(points(tensor, layout.as_ref()?)))
        .flatten()
        .collect();
    let first = points.first()?;
    let n = points.len() as f64;
    let centroid: Array1<f64> = points.iter().fold(Array1::<f64>::zeros(first.len()), |sum, p| sum + p) / n;
    let squares: f64 = points.iter().map(|p| (p - &centroid).iter().map(|v| v * v).sum::<f64>()).sum();
    Some((squares / n).sqrt()).filter(|s| *s > 0.0)
}

/// Unit vectors between points of the sample, or of its vectors when it has no points: what planned turns bring
/// onto the poles.
fn directions(inputs: &[Tensor], layouts: &[Option<BoundLayout>]) -> Vec<Array1<f64>> {
    let unit = |v: Array1<f64>| {
        let length = v.dot(&v).sqrt();
        (length > 0.0 && length.is_finite()).then(|| v / length)
    };
    for (tensor, layout) in inputs.iter().zip(layouts) {
        let Some(layout) = layout else { continue };
        let points = points(tensor, layout);
        if points.len() > 1 {
            return points.windows(2).filter_map(|pair| unit(&pair[1] - &pair[0])).take(2).collect();
        }
        if let Some(axis) = layout.vector_axis()
            && tensor.dtype().is_inexact()
            && !tensor.dtype().is_complex()
        {
            let values = tensor.to_real();
            return values
                .lanes(NdAxis(axis))
                .into_iter()
                .filter_map(|l| unit(l.to_owned()))
                .take(2)
                .collect();
        }
    }
    Vec::new()
}
