//! The end-to-end stage: f(T x) against T' f(x), many inputs by many elements.

mod batching;
mod cases;
mod composition;
mod custom;
mod dependence;
mod gradients;
mod inquiries;
mod interpolation;
mod judgement;
pub(super) mod laws;
mod layers;
mod probes;
mod randomness;
mod rattle;
mod representations;
mod results;
mod stress;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Call, Model, Output, Samples, Tensor};
use crate::report::{
    InterpolationControl, Levels, ModelInfo, Repeatability, Report, Shard, Stop, Timings, VacuityRow, Verdict,
};
use crate::symmetry::{BoundLayout, Element, Layout};

use super::calls::{Calls, Evaluation, Value};
use super::evidence::{DoubleStatus, Evidence, HAAR, Noise, Record};
use super::measure::{self, Scales};
use super::precision::Proven;
use super::sampling::{self, Draws, Part, Purpose, Space};
use super::{Options, Plan, Precision, Progress, Randomness, Specification};
use batching::{Batching, Drawn, Waiting};
use judgement::Ground;

/// Samples on which the probes (noise, vacuity, precision) are run.
const PROBED_SAMPLES: usize = 3;
/// Samples for which the planned elements are tried.
const PLANNED_SAMPLES: usize = 3;
/// Share of the group that may violate at most, at the report's confidence, for an early end of an audit that found
/// nothing.
const ENOUGH: f64 = 0.05;
/// Least number of pairs between two looks at whether the answer is known.
const LOOK: usize = 100;

/// One test sample, with everything that is known of it.
struct Case {
    /// Which of the user's samples it is, or is a copy of: what is no tensor comes from there.
    source: usize,
    inputs: Vec<Tensor>,
    layouts: Vec<Option<BoundLayout>>,
    space: Space,
    /// f(x), declared outputs.
    base: Vec<Value>,
    outputs: Vec<BoundLayout>,
    /// The same in double precision.
    double: Option<Vec<Value>>,
}

impl Case {
    /// Layouts of inputs and outputs.
    fn bound(&self) -> impl Iterator<Item = &BoundLayout> {
        self.layouts.iter().flatten().chain(&self.outputs)
    }

    /// Whether all grids admit the element.
    fn admits(&self, element: &Element) -> bool {
        self.bound().all(|layout| layout.admits(element).is_ok())
    }

    /// Whether some grid has to be interpolated under the element.
    fn interpolates(&self, element: &Element) -> bool {
        self.bound().any(|layout| layout.interpolates(element))
    }
}

/// One (sample, element) pair of the plan. The element is drawn when its turn comes, and again when it is needed
/// again: a plan for large sets would not fit into memory with its permutations.
#[derive(Debug, Clone)]
struct Pair {
    /// Position in the plan.
    place: usize,
    sample: usize,
    index: u64,
    part: Part,
    kind: Cow<'static, str>,
}

/// The double-precision model.
enum DoubleModel {
    /// The model under audit is in double precision itself.
    Same,
    Copy(Box<dyn Model>),
    Unavailable(String),
    NotRequested,
}

pub(super) fn run(
    specification: &Specification,
    options: &Options,
    model: &mut dyn Model,
    samples: &mut dyn Samples,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    let started = Instant::now();
    if options.precision == Precision::Float64 {
        let mut copy = model.double().map_err(|why| Error::Option {
            option: "precision".to_owned(),
            why: format!("\"float64\" is not available: {}", why.0),
        })?;
        let mut doubled = DoubledSamples(samples);
        return run_as_it_is(specification, options, started, copy.as_mut(), &mut doubled, progress);
    }
    run_as_it_is(specification, options, started, model, samples, progress)
}

fn run_as_it_is(
    specification: &Specification,
    options: &Options,
    started: Instant,
    model: &mut dyn Model,
    samples: &mut dyn Samples,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    if specification.custom_action().is_none() {
        return EndToEnd::new(specification, options, started).run(model, samples, progress);
    }
    // Without layouts only the model can tell what its outputs are.
    let mut calls = Calls::new(Vec::new());
    let first = first_call(&mut calls, model, &samples.get(0)?)?;
    let returned = first.0.iter().filter(|o| o.tensor.is_some()).map(|o| o.name.as_str());
    let specification = specification.with_returned(returned);
    options.check(&specification)?;
    let mut stage = EndToEnd::new(&specification, options, started);
    calls.names.clone_from(&stage.calls.names);
    stage.calls = calls;
    stage.first = Some(first);
    stage.run(model, samples, progress)
}

/// Test samples, and elements per sample, by the number of a model's parameters: targets and upper limits (DESIGN 4).
fn targets(parameters: Option<u64>) -> (usize, usize) {
    match parameters.unwrap_or(0) {
        0..1_000_000 => (50, 50),
        1_000_000..100_000_000 => (100, 100),
        _ => (200, 100),
    }
}

/// What an audit would do, by its first calls.
pub(super) fn plan(
    specification: &Specification,
    options: &Options,
    model: &mut dyn Model,
    samples: &mut dyn Samples,
) -> Result<Plan, Error> {
    let mut stage = EndToEnd::new(specification, options, Instant::now());
    let info = model.info();
    let transforms = stage.begin(&info, model, samples)?;
    stage.decide_probed();
    stage.mark_moved()?;
    stage.check_factors()?;
    // Once more on a sample that is known: a first call may prepare what later ones keep.
    let last = stage.cases.len() - 1;
    let inputs = stage.cases[last].inputs.clone();
    let _ = stage.calls.evaluate("plan", model, last, &inputs)?;
    let mut per_pair = stage.calls.last;
    let copy = match options.precision {
        Precision::AsIs => None,
        // A model in double precision is its own reference.
        _ if stage.roundoff("") <= 2f64.powi(-53) => None,
        _ => model.double().ok(),
    };
    if let Some(mut copy) = copy {
        let inputs: Vec<Tensor> = inputs.iter().map(Tensor::double).collect();
        let _ = stage.calls.evaluate("plan", copy.as_mut(), last, &inputs)?;
        if stage.calls.evaluate("plan", copy.as_mut(), last, &inputs)?.is_ok() {
            let alone = options.precision == Precision::Float64;
            per_pair = stage.calls.last + if alone { Duration::ZERO } else { per_pair };
        }
    }
    let pairs = stage.plan(transforms).len();
    Ok(Plan {
        group: specification.group().to_string(),
        transforms: stage.transform_rows(),
        samples: stage.cases.len(),
        pairs,
        expected: per_pair.checked_mul(pairs as u32),
        model: info,
    })
}

/// All outputs, and the positions of inputs that were written to.
fn first_call(
    calls: &mut Calls,
    model: &mut dyn Model,
    inputs: &[Tensor],
) -> Result<(Vec<Output>, Vec<usize>), Error> {
    let call = Call { sample: 0, inputs, reset_generators: true, restore_state: true };
    calls.raw("first call", model, &call)?.map_err(|why| Error::ModelFails { sample: 0, why })
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
    /// Time that counts for nothing: pairs that were evaluated in vain.
    forgiven: Duration,
    calls: Calls,
    notes: Vec<String>,
    /// What is to be said of users' functions, by name, that multiply in the reverse order, unless the audit shows what they
    /// mean.
    refused: Vec<(String, Error)>,
    cases: Vec<Case>,
    /// By output.
    scales: Vec<Scales>,
    scales_double: Vec<Scales>,
    /// By sample and output: the same with that sample's own variation of scalars.
    own_scales: Vec<Vec<Scales>>,
    own_scales_double: Vec<Vec<Scales>>,
    /// The first call, where it was needed to know the outputs.
    first: Option<(Vec<Output>, Vec<usize>)>,
    first_outputs: Vec<Output>,
    written: Vec<String>,
    /// Samples on which the probes run.
    probed: usize,
    /// Pairs of the plan, all shards together.
    whole_plan: usize,
    /// How many of the last cases are rattled copies of the first.
    rattled: usize,
    /// By output: whether it vanishes on the samples as given, by their symmetry. Empty without rattled copies.
    forced: Vec<bool>,
    /// Unit roundoff of what single-precision numbers are computed in, where that is coarser.
    computes_in: Option<f64>,
    /// By sample: elements that random draws are unlikely to hit.
    planned: BTreeMap<usize, Vec<(&'static str, Element)>>,
    /// By output: the comparison of laws, where there was one.
    laws: Vec<Option<laws::Law>>,
    /// How pairs share calls, where they do.
    batching: Option<Batching>,
}

impl<'a> EndToEnd<'a> {
    fn new(specification: &'a Specification, options: &'a Options, started: Instant) -> Self {
        let names = declared(specification).map(|(name, _)| name.to_owned()).collect();
        Self {
            specification,
            options,
            started,
            forgiven: Duration::ZERO,
            calls: Calls::new(names),
            notes: Vec::new(),
            refused: Vec::new(),
            cases: Vec::new(),
            scales: Vec::new(),
            scales_double: Vec::new(),
            own_scales: Vec::new(),
            own_scales_double: Vec::new(),
            first: None,
            first_outputs: Vec::new(),
            written: Vec::new(),
            probed: 1,
            whole_plan: 0,
            rattled: 0,
            forced: Vec::new(),
            computes_in: None,
            planned: BTreeMap::new(),
            laws: Vec::new(),
            batching: None,
        }
    }

    fn input_names(&self) -> Vec<String> {
        self.specification.inputs().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether the share of the budget is spent.
    fn spent(&self, share: f64) -> bool {
        let elapsed = self.started.elapsed().saturating_sub(self.forgiven);
        self.options.budget.is_some_and(|budget| elapsed >= budget.mul_f64(share.min(1.0)))
    }

    /// The same for what is done before the pairs. Shards do all of it, or they would not be of one audit.
    fn late(&self, share: f64) -> bool {
        self.options.shard == Shard::WHOLE && self.spent(share)
    }

    fn run(
        mut self,
        model: &mut dyn Model,
        samples: &mut dyn Samples,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Report, Error> {
        let info = model.info();
        let transforms = self.begin(&info, model, samples)?;
        self.decide_probed();
        self.mark_moved()?;
        self.check_factors()?;
        self.rattle(model)?;
        let translation_scale = self.set_translation_scale();
        let deviation = self.check_representations()?;
        self.scales = self.scales_of(false);
        let roundoff = self.roundoff(&info.dtype);
        let levels = self.levels(roundoff);
        let mut double = self.double_model(model, roundoff)?;
        Self::without_exact_representations(deviation, &mut double);
        self.scales_double = match double {
            DoubleModel::Copy(_) => self.scales_of(true),
            _ => self.scales.clone(),
        };
        let proven = self.prove(model, &mut double)?;
        let vacuity = self.vacuity(model, &mut double)?;
        self.variation(model)?;
        let repeatability = self.repeat(model, false)?;
        let mut noise = self.noise(model, &mut double, &proven)?;
        Self::add_representations(deviation, &mut noise);
        let repeat_double = match &mut double {
            DoubleModel::Copy(copy) => self.repeat(copy.as_mut(), true)?.iter().map(|r| r.seeded).collect(),
            _ => repeatability.iter().map(|r| r.seeded).collect::<Vec<f64>>(),
        };
        for (noise, repeat) in noise.iter_mut().zip(repeat_double) {
            noise.repeat_double = repeat;
        }
        // Outputs that are random are judged by their laws; where all are, no pair is compared call by call.
        let by_law = self.compare_laws(model, &noise, roundoff, progress)?;
        let interpolation =
            if by_law { vec![None; noise.len()] } else { self.interpolation(model, &mut double)? };
        let measured = Measured { noise, proven, vacuity, repeatability, interpolation, roundoff, levels };
        let mut evidence = self.evidence(model, &double, &measured, translation_scale);
        let ground = Ground {
            proven: &measured.proven,
            repeatability: &measured.repeatability,
            roundoff,
            levels: &measured.levels,
        };
        // One shard does for all what is no matter of pairs; other inputs than the samples are drawn on differently.
        let beside = self.options.shard.index == 0 && self.options.randomness == Randomness::Fixed;
        let plan = if by_law { Vec::new() } else { self.plan(transforms) };
        let unfit = self.wants_batches().then(|| self.unfit_for_batches(ground.repeatability));
        // All shards must call the model alike.
        if beside || unfit == Some(None) {
            let compared = self.compose(model, &mut double)?;
            let rows = self.composition_rows(&compared, &measured.noise, ground);
            if unfit == Some(None) {
                match self.unshown(&rows) {
                    None => self.prepare_batches(model, &mut double, ground, &mut evidence)?,
                    Some(why) => self.say_one_by_one(&why),
                }
            }
            if beside {
                evidence.composition = rows;
            }
        }
        if let Some(Some(why)) = unfit {
            self.say_one_by_one(&why);
        }
        let repeated = self.batching.is_some().then(|| plan.clone());
        self.pairs(plan, model, &mut double, ground, &mut evidence, progress)?;
        self.refine(model, &mut double, ground, &mut evidence)?;
        if let Some(plan) = repeated
            && self.refuted(&mut evidence, &measured.noise)
        {
            self.pairs(plan, model, &mut double, ground, &mut evidence, progress)?;
            self.refine(model, &mut double, ground, &mut evidence)?;
        }
        if self.options.shard.index == 0 && !by_law {
            evidence.inquiries = self.inquire(model, &mut double, &evidence)?;
            evidence.inquiries.dependences =
                self.dependences(model, &mut double, &measured.repeatability, &evidence.composition)?;
        }
        self.refuse(&evidence)?;
        evidence.layers = self.layers(model, &mut double, &evidence)?;
        if self.options.shard.index == 0 {
            evidence.gradients = self.gradients(model, &mut double, &measured, &evidence)?;
        }
        let replays = self.replays(model, &evidence)?;
        if beside {
            evidence.stress = self.stress(model, &mut double, ground)?;
        }
        for note in std::mem::take(&mut self.notes) {
            if !evidence.notes.contains(&note) {
                evidence.notes.push(note);
            }
        }
        evidence.calls_by_purpose = std::mem::take(&mut self.calls.by_purpose);
        evidence.timings =
            Timings { total: self.started.elapsed().as_secs_f64(), model: self.calls.time.as_secs_f64() };
        Ok(Report { replays, ..evidence.report() })
    }

    /// The first calls, as many as there are samples; the number of random elements per sample.
    fn begin(
        &mut self,
        info: &ModelInfo,
        model: &mut dyn Model,
        samples: &mut dyn Samples,
    ) -> Result<usize, Error> {
        let (default_samples, transforms) = targets(info.parameters);
        let wanted = self.options.samples.unwrap_or(default_samples);
        let wanted = samples.count().map_or(wanted, |given| wanted.min(given));
        self.prepare_replay(model)?;
        self.first_call(model, samples)?;
        // Only a call shows what the host computes in.
        self.computes_in = model.info().coarser_roundoff();
        while self.cases.len() < wanted && (self.cases.len() < PROBED_SAMPLES || !self.late(0.1)) {
            let case = self.case(self.cases.len(), model, samples)?;
            self.cases.push(case);
        }
        Ok(self.options.transforms.unwrap_or(transforms))
    }

    fn outputs(&self) -> Vec<(&'a str, &'a Layout)> {
        declared(self.specification).collect()
    }

    /// The first call tells what the model returns, and whether it writes to its inputs.
    fn first_call(&mut self, model: &mut dyn Model, samples: &mut dyn Samples) -> Result<(), Error> {
        let inputs = samples.get(0)?;
        let layouts = self.bind_inputs(&inputs)?;
        // Before the model meets it: what it makes of a singular cell is no news.
        self.lattices(&inputs, &layouts)?;
        let (outputs, written) = match self.first.take() {
            Some(first) => first,
            None => first_call(&mut self.calls, model, &inputs)?,
        };
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
        self.check_laws(&inputs, &outputs)?;
        let names = self.input_names();
        self.written = written.iter().filter_map(|k| names.get(*k).cloned()).collect();
        self.first_outputs = outputs;
        Ok(())
    }

    /// Unit roundoff of the precision under audit: the coarsest of the transformed inputs' floating types, else the outputs',
    /// else the model's; for single precision what it is computed in.
    fn roundoff(&self, model_dtype: &str) -> f64 {
        let case = &self.cases[0];
        let factors = self.specification.group().factors();
        let moved = |layout: &Option<BoundLayout>| {
            layout.as_ref().is_some_and(|layout| factors.iter().any(|f| layout.is_moved_by(f)))
        };
        let of = |which: bool| {
            let tensors = case.inputs.iter().zip(&case.layouts);
            tensors
                .filter(|(_, layout)| moved(layout) == which)
                .filter_map(|(t, _)| t.dtype().unit_roundoff())
                .reduce(f64::max)
        };
        let outputs = self.cases[0].base.iter().filter_map(|v| v.dtype.unit_roundoff());
        let single = 2f64.powi(-24);
        let own = of(true).or_else(|| of(false)).or_else(|| outputs.reduce(f64::max)).unwrap_or(
            match model_dtype {
                "float64" => 2f64.powi(-53),
                _ => single,
            },
        );
        self.computes_in.filter(|_| own == single).unwrap_or(own)
    }

    /// The same of what is run: the double-precision copy, or the model as it is.
    fn roundoff_in(&self, wide: bool) -> f64 {
        if wide { 2f64.powi(-53) } else { self.roundoff("") }
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
                if !value.comparable(base) {
                    return Ok(DoubleModel::Unavailable(format!(
                        "output `{name}` is {} {:?} in double precision and {} {:?} in the model's own",
                        value.dtype.name(),
                        value.shape,
                        base.dtype.name(),
                        base.shape
                    )));
                }
            }
            self.cases[index].double = Some(values);
        }
        Ok(DoubleModel::Copy(copy))
    }

    fn inputs(&self, sample: usize, double: bool) -> Vec<Tensor> {
        let inputs = &self.cases[sample].inputs;
        if double { inputs.iter().map(Tensor::double).collect() } else { inputs.clone() }
    }

    /// T x in the tensors' own types, or in double precision.
    fn transformed(&self, sample: usize, element: &Element, double: bool) -> Result<Vec<Tensor>, Error> {
        self.taken_by(sample, element, &self.inputs(sample, double))
    }

    /// T x for inputs of a sample's shapes, in their own types.
    fn taken_by(&self, sample: usize, element: &Element, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        if let Some((action, element)) = self.custom_element(element) {
            let wide = self.acted_inputs(action, element, sample, inputs)?;
            return Ok(wide.iter().zip(inputs).map(|(wide, own)| wide.cast(own.dtype())).collect());
        }
        let layouts = &self.cases[sample].layouts;
        let act = |(tensor, layout): (&Tensor, &Option<BoundLayout>)| match layout {
            Some(layout) => layout.act(element, tensor),
            None => tensor.clone(),
        };
        let transformed = inputs.iter().zip(layouts).map(act).collect();
        self.specification.representations().check()?;
        Ok(transformed)
    }

    /// T' f(x) per output.
    fn expected(&self, sample: usize, element: &Element, double: bool) -> Result<Vec<ArrayD<f64>>, Error> {
        let case = &self.cases[sample];
        let base = if double { case.double.as_ref().unwrap_or(&case.base) } else { &case.base };
        self.acted(sample, element, base)
    }

    /// Planned elements for the first samples, then Haar-drawn ones; any prefix of the latter is balanced over
    /// samples and over the parts of the group. Of a finite group that is enumerated every element comes once.
    fn plan(&mut self, transforms: usize) -> Vec<Pair> {
        let group = self.specification.group();
        let tried = self.probes().into_iter().take(PLANNED_SAMPLES);
        self.planned = tried.map(|sample| (sample, self.planned_elements(sample))).collect();
        let mut planned: Vec<Pair> = Vec::new();
        for (sample, elements) in &self.planned {
            planned.extend(elements.iter().enumerate().map(|(k, (kind, _))| Pair {
                place: 0,
                sample: *sample,
                index: k as u64,
                part: Part::Joint,
                kind: Cow::Borrowed(kind),
            }));
        }
        // The identity first: it is the cheapest look at randomness and mutation.
        planned.sort_by_key(|pair| pair.kind != "identity");
        let cycle = sampling::cycle(group);
        let transforms = match sampling::indices_of_all(group, &cycle) {
            Some(all) if self.specification.custom_action().is_none() => transforms.min(all),
            _ => transforms,
        };
        let mut haar = (0..transforms).flat_map(|index| {
            // Samples start at different places of the cycle, so that few elements per sample cover all parts.
            let cycle = &cycle;
            (0..self.cases.len()).map(move |sample| {
                let part = cycle[(index + sample) % cycle.len()].clone();
                Pair { place: 0, sample, index: index as u64, part, kind: Cow::Borrowed(HAAR) }
            })
        });
        // Two random elements for each planned one, so that a budget cuts both alike.
        let mut pairs = Vec::new();
        for pair in planned {
            pairs.push(pair);
            pairs.extend(haar.by_ref().take(2));
        }
        pairs.extend(haar);
        for (place, pair) in pairs.iter_mut().enumerate() {
            pair.place = place;
        }
        self.whole_plan = pairs.len();
        let Shard { index, count } = self.options.shard;
        pairs.retain(|pair| pair.place % count == index);
        pairs
    }

    fn planned_elements(&self, sample: usize) -> Vec<(&'static str, Element)> {
        let mut draws = Draws::new(self.options.seed, sample, 0, Purpose::NearIdentity);
        let mut elements =
            sampling::planned(self.specification.group(), &self.cases[sample].space, &mut draws);
        // A grid with unequal sides has no quarter turns.
        elements.retain(|(_, element)| self.cases[sample].admits(element));
        if self.specification.custom_action().is_some_and(|action| !action.has_identity()) {
            elements.retain(|(_, element)| !element.is_identity());
        }
        elements
    }

    /// The element of a pair: the same whenever it is asked for.
    fn element(&self, pair: &Pair) -> Element {
        if pair.kind == HAAR {
            let mut draws = Draws::new(self.options.seed, pair.sample, pair.index, Purpose::Haar);
            let space = &self.cases[pair.sample].space;
            let group = self.specification.group();
            let turn = sampling::turn(&sampling::cycle(group), &pair.part, pair.sample, pair.index);
            sampling::haar(group, &pair.part, space, Some(turn), &mut draws)
        } else {
            self.planned[&pair.sample][pair.index as usize].1.clone()
        }
    }

    fn pairs(
        &mut self,
        plan: Vec<Pair>,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        ground: Ground<'_>,
        evidence: &mut Evidence,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let planned = plan.len();
        evidence.planned = planned;
        evidence.whole = self.whole_plan;
        if plan.is_empty() {
            return Ok(());
        }
        let one = self.calls.fastest("base") + self.calls.fastest("float64 base");
        let per_pair = self.batching.as_ref().map_or(one, |batching| batching.per_pair);
        let expected = per_pair.checked_mul(planned as u32);
        // Blocks of whole rounds over samples and parts; what was planned comes before any look.
        let round = self.cases.len() * sampling::cycle(self.specification.group()).len();
        let block = round * LOOK.div_ceil(round.max(1));
        let look = self.options.early_stop.then_some(block);
        let last_planned = plan.iter().rposition(|pair| pair.kind != HAAR).unwrap_or(0);
        let mut decided = false;
        let (mut plan, mut waiting, mut taken) = (plan.into_iter(), Waiting::new(), 0);
        loop {
            let done = evidence.records.len();
            // What follows the pairs (noise at the worst of them, stress inputs) takes its time.
            if self.spent(self.share_of_pairs()) && done > 0 && done < planned {
                progress(Progress { done, planned, expected });
                evidence.stop = Stop::Budget;
                break;
            }
            let Some(unit) = self.next_unit(&mut plan, &mut waiting, &mut taken, look) else { break };
            progress(Progress { done, planned, expected });
            for record in self.unit(unit, model, double)? {
                if let (DoubleModel::Unavailable(why), DoubleStatus::Available) = (&*double, &evidence.double)
                    && record.double.is_none()
                {
                    evidence.double = DoubleStatus::Failed(record.place, why.clone());
                }
                evidence.records.push(record);
            }
            let done = evidence.records.len();
            let look = look.is_some_and(|block| done.is_multiple_of(block)) && done > last_planned;
            if look && done < planned {
                evidence.records.sort_by_key(|record| record.place);
                let decided = self.decided(model, double, ground, evidence, &mut decided)?;
                if self.batching.as_ref().is_some_and(|batching| batching.refuted.is_some()) {
                    return Ok(());
                }
                if decided {
                    evidence.stop = Stop::Early;
                    break;
                }
            }
        }
        // In whatever order they were evaluated.
        evidence.records.sort_by_key(|record| record.place);
        progress(Progress { done: evidence.records.len(), planned, expected });
        Ok(())
    }

    /// Whether the answer is known: a failure that its own noise does not explain, or a pass with bounds that hold
    /// although one looked (METHOD 5).
    fn decided(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        ground: Ground<'_>,
        evidence: &mut Evidence,
        failed_once: &mut bool,
    ) -> Result<bool, Error> {
        let worst = |evidence: &Evidence| evidence.decisions().iter().map(|d| d.verdict).max();
        match worst(evidence) {
            Some(Verdict::Fail) if !*failed_once => {
                *failed_once = true;
                self.refine(model, double, ground, evidence)?;
                Ok(worst(evidence) == Some(Verdict::Fail))
            }
            Some(Verdict::Pass) => {
                evidence.stop = Stop::Early;
                let enough = evidence.largest_share() <= ENOUGH;
                evidence.stop = Stop::Completed;
                Ok(enough)
            }
            _ => Ok(false),
        }
    }

    /// Evaluates pairs that may share a call.
    fn unit(
        &mut self,
        unit: Vec<Drawn>,
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Vec<Record>, Error> {
        let outcomes = self.outcomes("audit", model, &unit, false)?;
        let mut in_double = match double {
            DoubleModel::Copy(copy) => {
                self.outcomes("float64 audit", copy.as_mut(), &unit, true)?.into_iter()
            }
            _ => Vec::new().into_iter(),
        };
        let mut records = Vec::with_capacity(unit.len());
        for (drawn, outcome) in unit.into_iter().zip(&outcomes) {
            records.push(self.record(drawn, outcome, in_double.next(), double)?);
        }
        Ok(records)
    }

    fn record(
        &self,
        Drawn { pair, element }: Drawn,
        outcome: &Evaluation,
        in_double: Option<Evaluation>,
        double: &mut DoubleModel,
    ) -> Result<Record, Error> {
        let (working, failure) = self.errors(pair.sample, &element, outcome, false)?;
        let in_double = match (&*double, in_double) {
            (DoubleModel::Copy(_), Some(outcome)) => {
                let (errors, failures) = self.errors(pair.sample, &element, &outcome, true)?;
                // What fails in double precision alone is the copy's failure, not the model's.
                let alone = failures
                    .into_iter()
                    .zip(&failure)
                    .find_map(|(double, own)| double.filter(|_| own.is_none()));
                if let Some(why) = alone {
                    *double = DoubleModel::Unavailable(format!("in double precision {why}"));
                    None
                } else {
                    Some(errors)
                }
            }
            (DoubleModel::Same, _) => Some(working.clone()),
            _ => None,
        };
        Ok(Record {
            place: pair.place,
            sample: pair.sample,
            index: pair.index,
            part: self.parts().iter().position(|part| *part == pair.part).unwrap_or(0),
            interpolated: self.cases[pair.sample].interpolates(&element),
            stretch: element.stretch(),
            kind: pair.kind,
            determinant: element.determinant(),
            fingerprint: (!element.is_identity()).then(|| element.fingerprint()),
            working,
            double: in_double,
            failure,
        })
    }

    /// Error and failure per output.
    fn errors(
        &self,
        sample: usize,
        element: &Element,
        outcome: &Evaluation,
        double: bool,
    ) -> Result<(Vec<measure::Error>, Vec<Option<String>>), Error> {
        let case = &self.cases[sample];
        let base = if double { case.double.as_ref().unwrap_or(&case.base) } else { &case.base };
        let scales = &if double { &self.own_scales_double } else { &self.own_scales }[sample];
        let values = match outcome {
            Ok(values) => values,
            Err(why) => {
                let count = base.len();
                let error = measure::Error::infinite("the call");
                return Ok((vec![error; count], vec![Some(randomness::call_failure(why)); count]));
            }
        };
        let expected = self.expected(sample, element, double)?;
        let mut errors = Vec::new();
        let mut failures = Vec::new();
        for (o, ((value, base), expected)) in values.iter().zip(base).zip(&expected).enumerate() {
            let layout = &case.outputs[o];
            let failure = if value.shape != base.shape {
                Some(format!("the shape changes from {:?} to {:?} under the group", base.shape, value.shape))
            } else if value.dtype != base.dtype {
                Some(format!("the type changes from {} to {}", base.dtype.name(), value.dtype.name()))
            } else if base.values.iter().any(|v| !v.is_finite()) {
                Some(format!(
                    "the output is not finite on an input as it was given{}",
                    self.own_fault(sample)
                ))
            } else if value.values.iter().any(|v| !v.is_finite()) {
                Some("the output is not finite on a transformed input".to_owned())
            } else {
                None
            };
            errors.push(if failure.is_some() {
                measure::Error::infinite("the whole output")
            } else {
                let difference = layout.difference(element, &value.values, expected);
                let mut error = scales[o].measure(layout, &difference, expected);
                // The user's own functions are asked for no more than they must give.
                if !element.preserves_norms()
                    && element.custom().is_none()
                    && layout.layout().cells().next().is_none()
                {
                    let back = layout.act_on_real(&element.inverse(), &value.values);
                    let difference = layout.change(&Element::default(), &back, &base.values);
                    error.pulled_back = Some(scales[o].measure(layout, &difference, &base.values).relative);
                }
                error
            });
            failures.push(failure);
        }
        Ok((errors, failures))
    }
}

impl EndToEnd<'_> {
    /// What the user's own data have to do with outputs that are not finite.
    fn own_fault(&self, sample: usize) -> String {
        let names = self.input_names();
        let not_finite = |tensor: &Tensor| {
            tensor.dtype().is_inexact() && tensor.to_real().iter().any(|value| !value.is_finite())
        };
        let inputs = self.cases[sample].inputs.iter().zip(names);
        let found: Vec<String> =
            inputs.filter(|(tensor, _)| not_finite(tensor)).map(|(_, name)| format!("`{name}`")).collect();
        if found.is_empty() {
            return String::new();
        }
        let noun = if found.len() == 1 { "input" } else { "inputs" };
        format!(": sample {sample} holds NaN or infinity itself, in {noun} {}", found.join(" and "))
    }
}

/// Everything measured beside the pairs.
struct Measured {
    noise: Vec<Noise>,
    proven: Proven,
    vacuity: Vec<Vec<VacuityRow>>,
    repeatability: Vec<Repeatability>,
    interpolation: Vec<Option<InterpolationControl>>,
    roundoff: f64,
    levels: Levels,
}
