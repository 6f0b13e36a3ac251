//! The layer-wise stage: one pass over x and one over each T x show every module call's inputs and outputs (DESIGN 7).
//!
//! For each call two numbers: the *propagated* error of its output, and its *own* error, that of its output on exactly
//! transformed clean inputs. Where symmetry is lost is settled by intervention (METHOD 14).

mod alone;
mod calls;
mod checks;
mod examine;
mod hidden;
mod infer;
mod local;
mod matching;
mod private;
mod search;
mod segments;
mod timeline;

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Call, CallError, Model, Patch, Tensor, Trace, TracedLeaf, Tracing};
use crate::report::{
    LayerCheck, LayerKind, LayerRow, LayerStage, LayerVerdict, Layers, Origin, Shard, Variation,
};
use crate::symmetry::{BoundLayout, Element, Factor, Layout};

use super::super::evidence::Evidence;
use super::super::measure::{Scales, norm};
use super::super::noise;
use super::super::sampling::{Draws, Part, Purpose};
use super::super::verdict::MARGIN;
use super::{DoubleModel, EndToEnd};
use alone::{Alone, Scene};
use hidden::Hidden;
use local::Local;
use matching::{Located, Order, Use};
use timeline::Status;

/// Samples that are traced.
const SAMPLES: usize = 2;
/// Elements of the whole group for samples after the first, whose factors were looked at one by one; elements of a
/// factor that has matrices, or is alone (METHOD 14: one sample and one element are not enough).
const ELEMENTS: usize = 2;
/// Numbers of the streams for elements of the whole group, and for directions along which entries are told apart.
const JOINT: u64 = 1 << 32;
const ORDERS: u64 = JOINT + 1;
/// Bytes of hidden tensors that are kept in one pass.
const LIMIT: usize = 1 << 30;
/// Share of the budget that is spent when nothing further is looked into.
const LAST: f64 = 0.9;

/// One traced pass over T x.
struct Probe {
    element: Element,
    /// The part of the group, as reports call it.
    part: String,
    permutes: bool,
    /// Whether it moves entries, so that some may come in another order.
    discrete: bool,
}

/// What was seen of one module call, over all passes.
#[derive(Debug, Clone, Default)]
struct Seen {
    own: Option<f64>,
    /// Whether it gives the same again on its own inputs.
    repeats: bool,
    reads_state: bool,
    fails: bool,
    local: Option<Local>,
    checks: Vec<LayerCheck>,
}

/// What was seen of one tensor of the first sample's pass, over all passes.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    /// Largest relative error; `None` where no layout is known.
    propagated: Option<f64>,
    /// Largest relative change by rounding.
    noise: f64,
    /// Whether it is zero everywhere.
    vanishes: bool,
    /// Whether it was not there in some pass, or in another shape.
    lost: bool,
    /// Whether it transforms by no layout of the tensors of its shape.
    unfit: bool,
}

impl Figures {
    fn status(&self) -> Status {
        match self.propagated {
            _ if self.lost => Status::Unknown,
            None if self.unfit => Status::Broken,
            None => Status::Unknown,
            Some(error) if error > MARGIN * self.noise => Status::Broken,
            Some(_) => Status::Fine,
        }
    }
}

/// The passes over one sample.
struct Passes {
    clean: Trace,
    /// Passes that differ by rounding from the clean one, or from one of `moved`.
    quiet: Vec<(Option<usize>, Trace)>,
    /// Passes over T x.
    moved: Vec<(Probe, Trace)>,
}

/// The pass over T x in which the model's error shows best.
struct Sighting {
    sample: usize,
    probe: Probe,
    clean: Trace,
    moved: Trace,
    error: f64,
}

/// The first sample's pass.
struct Reference {
    trace: Trace,
    /// By tensor.
    layouts: Vec<Option<Hidden>>,
    /// By tensor without a layout: those that were tried in vain.
    candidates: Vec<Vec<Layout>>,
    /// By tensor without a layout: a fit in a basis of its own, which a broken layer may have given it.
    private: Vec<Option<Layout>>,
    /// By tensor: whether this basis is not orthogonal.
    anisotropic: Vec<bool>,
    /// Axes whose order differs from pass to pass.
    orders: Vec<Order>,
}

/// Everything that the passes showed.
struct Looked<'a> {
    reference: &'a Reference,
    figures: &'a [Figures],
    seen: &'a [Seen],
    /// Outputs whose error is no rounding.
    broken: &'a [usize],
    wide: bool,
}

impl EndToEnd<'_> {
    pub(super) fn layers(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        evidence: &Evidence,
    ) -> Result<LayerStage, Error> {
        let not_run = |reason: String| Ok(LayerStage::NotRun { reason });
        if !self.options.layers {
            return not_run("layers=False".to_owned());
        }
        if self.options.shard != Shard::WHOLE && self.options.shard.index > 0 {
            return not_run("the first shard runs it".to_owned());
        }
        if self.specification.custom_action().is_some() {
            return not_run(
                "a custom action says nothing about hidden tensors: give the group by name".to_owned(),
            );
        }
        if self.spent(LAST) {
            return not_run("the time budget was spent before it: raise `budget`".to_owned());
        }
        // Where a copy in double precision counts, small violations stand clear of rounding.
        let wide = match double {
            DoubleModel::Copy(copy) => copy.tracing().is_ok(),
            _ => false,
        };
        let model: &mut dyn Model = match double {
            DoubleModel::Copy(copy) if wide => copy.as_mut(),
            _ => model,
        };
        if let Err(why) = model.tracing() {
            return not_run(why.0);
        }
        match self.look_inside(model, wide, evidence)? {
            Ok(layers) => Ok(LayerStage::Ran(Box::new(layers))),
            Err(reason) => not_run(reason),
        }
    }

    /// All passes, and what follows; the reason why there is nothing otherwise.
    fn look_inside(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        evidence: &Evidence,
    ) -> Result<Result<Layers, String>, Error> {
        let roundoff = self.roundoff_in(wide);
        let broken = broken(evidence);
        let mut constants = self.copy_with_moved_constants(model);
        let mut reference: Option<Reference> = None;
        let mut figures: Vec<Figures> = Vec::new();
        let mut seen: Vec<Seen> = Vec::new();
        let mut sighted: Option<Sighting> = None;
        let (mut probes, mut left_out) = (0, 0);
        for sample in self.probes().into_iter().take(SAMPLES) {
            let first = reference.is_none();
            if !first && self.spent(LAST) {
                break;
            }
            let mut passes =
                match self.passes(model, constants.take().as_deref_mut(), (sample, first), wide)? {
                    Ok(passes) => passes,
                    Err(why) if first => {
                        return Ok(Err(format!("the model fails when it is watched: {why}")));
                    }
                    Err(_) => break,
                };
            probes += passes.moved.len();
            if first {
                figures = vec![Figures { vanishes: true, ..Figures::default() }; passes.clean.tensors.len()];
                seen = vec![Seen::default(); passes.clean.calls.len()];
                reference = Some(self.first_look(&passes, sample, roundoff, broken.is_empty())?);
            }
            let Some(reference) = &reference else { break };
            let places = hidden::places(&reference.trace);
            let here = hidden::matched(&places, &passes.clean);
            let bound = self.bound_hidden(&reference.layouts, &here, &passes.clean, sample);
            for k in 0..passes.moved.len() {
                let element =
                    self.ordered(reference, &bound, (&passes.clean, &here), &passes.moved[k], sample);
                passes.moved[k].0.element = element;
            }
            take_up(&mut figures, &passes, (reference, &places), (&here, &bound), roundoff);
            let calls = Alone::all(&reference.trace, &passes.clean, &here, &bound);
            self.own_errors(model, &passes, &calls, &mut seen)?;
            if first {
                let scene = Scene { reference, passes: &passes, figures: &figures, sample, wide };
                self.checks(model, &scene, &calls, &mut seen)?;
                left_out = self.local_errors(model, &scene, &calls, &mut seen)?;
            }
            if let Some(tracing) = tracing_of(model) {
                tracing.forget();
            }
            if !broken.is_empty() {
                let floor = search::output_noise(self, &reference.trace, &figures, &broken);
                sighted = self.sighted(sighted, passes, (sample, wide), (&broken, floor))?;
            }
        }
        let Some(reference) = reference else { return Ok(Err("no pass could be traced".to_owned())) };
        for (figure, candidates) in figures.iter_mut().zip(&reference.candidates) {
            figure.unfit = !candidates.is_empty();
        }
        let mut notes = Vec::new();
        let (breaks, examinations) = if broken.is_empty() {
            let sample = self.probes().first().copied().unwrap_or(0);
            let found = self.suspected(model, (&reference, &figures), (sample, wide), evidence)?;
            (Vec::new(), found)
        } else {
            let looked =
                Looked { reference: &reference, figures: &figures, seen: &seen, broken: &broken, wide };
            self.breaks(model, evidence, &looked, sighted, &mut notes)?
        };
        let rows = rows(&reference, &figures, &seen, &breaks, broken.is_empty());
        Ok(Ok(Layers {
            precision: if wide { "float64".to_owned() } else { String::new() },
            probes,
            skipped: skipped(&reference.trace),
            left_out,
            rows,
            examinations,
            breaks: breaks.into_iter().map(|found| found.broken).collect(),
            notes,
        }))
    }

    /// Everything that is looked at of one sample.
    fn passes(
        &mut self,
        model: &mut dyn Model,
        constants: Option<&mut (dyn Model + 'static)>,
        (sample, first): (usize, bool),
        wide: bool,
    ) -> Result<Result<Passes, String>, Error> {
        let inputs = self.inputs(sample, wide);
        let Some(tracing) = tracing_of(model) else { return Ok(Err("it cannot be watched".to_owned())) };
        let clean = match self.traced(tracing, sample, &inputs, &[], true)? {
            Ok(trace) => trace,
            Err(why) => return Ok(Err(why)),
        };
        let mut quiet = Vec::new();
        let mut moved = Vec::new();
        // Rounding: constants that were rounded when the model was built; inputs moved by a unit in the last place, those
        // of T x where they may be larger (METHOD 8).
        if let Some(tracing) = constants.and_then(|copy| copy.tracing().ok()) {
            quiet.extend(self.traced(tracing, sample, &inputs, &[], false)?.ok().map(|trace| (None, trace)));
        }
        let probes = if first { self.layer_probes(sample) } else { self.joint_probes(sample) };
        let enlarges = |probe: &Probe| {
            let element = &probe.element;
            !element.preserves_norms() || element.translation().iter().any(|t| *t != 0.0)
        };
        let enlarged = probes.iter().position(|probe| !probe.element.preserves_norms());
        let mut nudged = enlarged.or_else(|| probes.iter().position(enlarges));
        for (k, probe) in probes.into_iter().enumerate() {
            let inputs = self.transformed(sample, &probe.element, wide)?;
            let Some(tracing) = tracing_of(model) else { break };
            match self.traced(tracing, sample, &inputs, &[], false)? {
                Ok(mut trace) => {
                    calls::put_in_order(&clean, &mut trace, self.half_digits(wide));
                    moved.push((probe, trace));
                }
                // The others have other numbers then.
                Err(_) => nudged = nudged.filter(|nudged| *nudged < k),
            }
        }
        let nudged = nudged.filter(|k| *k < moved.len());
        let inputs = match nudged {
            Some(k) => self.transformed(sample, &moved[k].0.element, wide)?,
            None => inputs,
        };
        let mut draws = Draws::new(self.options.seed, sample, 0, Purpose::Layers);
        let inputs = self.nudged(sample, &inputs, &|_| None, &mut draws);
        if let Some(tracing) = tracing_of(model)
            && let Ok(mut trace) = self.traced(tracing, sample, &inputs, &[], false)?
        {
            if let Some(k) = nudged {
                calls::put_in_order_of(&moved[k].1, &mut trace);
            }
            quiet.push((nudged, trace));
        }
        Ok(Ok(Passes { clean, quiet, moved }))
    }

    /// A probe's element, with the orders in which lists come in its pass.
    fn ordered(
        &self,
        reference: &Reference,
        bound: &[Option<BoundLayout>],
        (clean, here): (&Trace, &[Option<usize>]),
        (probe, moved): &(Probe, Trace),
        sample: usize,
    ) -> Element {
        if reference.orders.is_empty() {
            return probe.element.clone();
        }
        let there = hidden::matched(&hidden::places(&reference.trace), moved);
        let bound = |place: &Use| match &place.layout {
            Some(layout) => self.bound_to(layout, &clean.tensors[here[place.tensor]?].shape, sample),
            None => bound[place.tensor].clone(),
        };
        let clean = Located { trace: clean, at: here };
        let moved = Located { trace: moved, at: &there };
        let mut draws = Draws::new(self.options.seed, 0, ORDERS, Purpose::Layers);
        matching::with_orders(&reference.orders, &bound, &clean, &moved, &probe.element, &mut draws)
    }

    /// The pass that all others are held against, with a layout for every tensor that has one.
    fn first_look(
        &self,
        passes: &Passes,
        sample: usize,
        roundoff: f64,
        healthy: bool,
    ) -> Result<Reference, Error> {
        let trace = passes.clean.clone();
        let mut layouts = self.hidden_layouts(&trace, sample)?;
        let infer::Inferred { mut candidates, private, anisotropic, orders } =
            self.infer(passes, &mut layouts, sample, roundoff);
        if healthy {
            // Nothing is broken, so that these are no breaks either.
            for (t, layout) in private.iter().enumerate() {
                if let Some(layout) = layout {
                    layouts[t] = Some(Hidden { layout: layout.clone(), origin: Origin::Inferred });
                    candidates[t].clear();
                }
            }
        }
        Ok(Reference { trace, layouts, candidates, private, anisotropic, orders })
    }

    /// A copy whose constants are moved by the rounding that they were built with, if it has such.
    fn copy_with_moved_constants(&self, model: &mut dyn Model) -> Option<Box<dyn Model>> {
        let mut draws = Draws::new(self.options.seed, 0, 0, Purpose::Constants);
        noise::with_moved_constants(model, &mut draws).ok().flatten()
    }

    /// Up to what two numbers count as the same where nothing says what rounding does: half of the digits.
    pub(super) fn half_digits(&self, wide: bool) -> f64 {
        (2.0 * self.roundoff_in(wide)).sqrt()
    }

    /// A pass with every module call in it.
    pub(super) fn traced(
        &mut self,
        tracing: &mut dyn Tracing,
        sample: usize,
        inputs: &[Tensor],
        patches: &[Patch],
        keep: bool,
    ) -> Result<Result<Trace, String>, Error> {
        let source = self.calls.source(sample);
        let call = Call { sample: source, inputs, reset_generators: true, restore_state: true };
        self.traced_call(tracing, &call, patches, keep)
    }

    pub(super) fn traced_call(
        &mut self,
        tracing: &mut dyn Tracing,
        call: &Call<'_>,
        patches: &[Patch],
        keep: bool,
    ) -> Result<Result<Trace, String>, Error> {
        self.calls.count("layers");
        let start = std::time::Instant::now();
        let traced = tracing.trace(call, patches, LIMIT, keep);
        self.calls.time += start.elapsed();
        match traced {
            Ok(trace) => Ok(Ok(trace)),
            Err(CallError::Raised(why)) => Ok(Err(why)),
            Err(CallError::Interrupted) => Err(Error::Interrupted),
        }
    }

    /// Elements of each factor alone, so that what breaks is known by factor; on grids those that need no interpolation.
    fn layer_probes(&self, sample: usize) -> Vec<Probe> {
        let group = self.specification.group();
        let factors = group.factors();
        let mut probes = Vec::new();
        for (k, factor) in factors.iter().enumerate() {
            let part = Part::of(group, factor);
            let permutes = factor.permuted_axis().is_some();
            let on_grid = !self.cases[sample].space.grid.is_empty();
            let discrete = permutes || on_grid || matches!(factor, Factor::Finite(_));
            let count = if factor.is_linear() || factors.len() == 1 { ELEMENTS } else { 1 };
            let mut elements = self.exact_elements(sample, &part, 1 + k as u64, count);
            if elements.is_empty() {
                let planned = self.planned_elements(sample).into_iter().map(|(_, element)| element);
                let exact =
                    |element: &Element| !element.is_identity() && !self.cases[sample].interpolates(element);
                elements = planned.filter(exact).take(count).collect();
            }
            let probe = |element| Probe { element, part: part.name(), permutes, discrete };
            probes.extend(elements.into_iter().map(probe));
        }
        probes
    }

    /// Elements of the whole group.
    fn joint_probes(&self, sample: usize) -> Vec<Probe> {
        let elements = self.exact_elements(sample, &Part::Joint, JOINT, ELEMENTS);
        if elements.is_empty() {
            return self.layer_probes(sample);
        }
        let probe = |element: Element| {
            let permutes = element.permuted_axes().next().is_some();
            Probe { element, part: Part::Joint.name(), permutes, discrete: true }
        };
        elements.into_iter().map(probe).collect()
    }

    /// Drawn elements that move whole pixels, of both components of a group with reflections.
    fn exact_elements(&self, sample: usize, part: &Part, index: u64, count: usize) -> Vec<Element> {
        let mut draws = Draws::new(self.options.seed, sample, index, Purpose::Layers);
        let case = &self.cases[sample];
        let mut found: Vec<Element> = Vec::new();
        for attempt in 0..64 {
            if found.len() == count {
                break;
            }
            let element = self.drawn_element(sample, part, &mut draws);
            if element.is_identity() || !case.admits(&element) || case.interpolates(&element) {
                continue;
            }
            let proper = element.determinant() > 0.0;
            if attempt < 32 && found.first().is_some_and(|other| (other.determinant() > 0.0) == proper) {
                continue;
            }
            found.push(element);
        }
        found
    }

    /// Each call on exactly transformed clean inputs against its transformed clean output.
    fn own_errors(
        &mut self,
        model: &mut dyn Model,
        passes: &Passes,
        calls: &[Alone<'_>],
        seen: &mut [Seen],
    ) -> Result<(), Error> {
        let Some(tracing) = tracing_of(model) else { return Ok(()) };
        for call in calls {
            if self.spent(LAST) {
                break;
            }
            let seen = &mut seen[call.row];
            let Some(repeated) = self.again(tracing, call, &call.inputs(None))? else {
                seen.fails = true;
                continue;
            };
            if !repeated.iter().zip(&call.outputs).all(|(a, b)| a.same_bits(b.value)) {
                seen.reads_state = true;
                continue;
            }
            seen.repeats = true;
            let probes = passes.moved.iter().map(|(probe, _)| probe);
            for probe in probes.filter(|probe| !probe.permutes && call.knows(&probe.element)) {
                let Some(returned) = self.again(tracing, call, &call.inputs(Some(&probe.element)))? else {
                    seen.fails = true;
                    break;
                };
                let error = call.error(&probe.element, &returned);
                seen.own = [seen.own, error].into_iter().flatten().reduce(f64::max);
            }
        }
        Ok(())
    }
}

/// What the passes over a sample add to the figures.
fn take_up(
    figures: &mut [Figures],
    passes: &Passes,
    (reference, places): (&Reference, &[Option<hidden::Place<'_>>]),
    (here, bound): (&[Option<usize>], &[Option<BoundLayout>]),
    roundoff: f64,
) {
    let at_places = |trace: &Trace| hidden::matched(places, trace);
    let quiet: Vec<_> = passes.quiet.iter().map(|(base, trace)| (*base, trace, at_places(trace))).collect();
    let moved: Vec<_> =
        passes.moved.iter().map(|(probe, trace)| (&probe.element, trace, at_places(trace))).collect();
    for (t, figure) in figures.iter_mut().enumerate() {
        let before = value(&passes.clean, here[t]);
        let zero = before.is_some_and(|v| v.to_real().iter().all(|x| *x == 0.0));
        figure.vanishes &= zero;
        let condition = reference.layouts[t].as_ref().map_or(1.0, |hidden| hidden.layout.condition());
        figure.noise = figure.noise.max(2.0 * roundoff * condition);
        let scales = scales_of(bound[t].as_ref(), before);
        for (base, trace, there) in &quiet {
            let after = value(trace, there[t]);
            let before = match base {
                Some(k) => value(moved[*k].1, moved[*k].2[t]),
                None => before,
            };
            let change = change(bound[t].as_ref(), scales.as_ref(), before, after);
            figure.noise = figure.noise.max(change.unwrap_or(0.0) * condition);
        }
        let (Some(layout), Some(before)) = (&bound[t], before) else { continue };
        for (element, trace, there) in &moved {
            match error(layout, scales.as_ref(), element, before, value(trace, there[t])) {
                Some(error) => figure.propagated = Some(figure.propagated.unwrap_or(0.0).max(error)),
                None if matching::is_known(layout, element) => figure.lost = true,
                // In which order its entries come is not known here.
                None => {}
            }
        }
    }
}

/// What looks inside; `None` cannot happen after it was there once.
fn tracing_of(model: &mut dyn Model) -> Option<&mut dyn Tracing> {
    model.tracing().ok()
}

fn value(trace: &Trace, at: Option<usize>) -> Option<&Tensor> {
    trace.tensors.get(at?)?.values.as_ref()
}

/// `T' before`; `None` where that is not known, not admitted, or takes interpolation.
fn acted(layout: &BoundLayout, element: &Element, before: &ArrayD<f64>) -> Option<ArrayD<f64>> {
    let exact = matching::is_known(layout, element)
        && layout.admits(element).is_ok()
        && !layout.interpolates(element);
    exact.then(|| layout.act_on_real(element, before))
}

/// Relative size of `after - T' before`; `None` where they cannot be compared.
fn error(
    layout: &BoundLayout,
    scales: Option<&Scales>,
    element: &Element,
    before: &Tensor,
    after: Option<&Tensor>,
) -> Option<f64> {
    let after = after?;
    if after.shape() != before.shape() || layout.shape() != before.shape() {
        return None;
    }
    relative_error(layout, scales, element, &before.to_real(), &after.to_real())
}

/// The same of numbers of one shape.
pub(super) fn relative_error(
    layout: &BoundLayout,
    scales: Option<&Scales>,
    element: &Element,
    before: &ArrayD<f64>,
    after: &ArrayD<f64>,
) -> Option<f64> {
    if before.shape() != after.shape() {
        return None;
    }
    let expected = acted(layout, element, before)?;
    let difference = layout.difference(element, after, &expected);
    let own;
    let scales = if let Some(scales) = scales {
        scales
    } else {
        own = Scales::new([(layout, before)].into_iter());
        &own
    };
    Some(scales.measure(layout, &difference, &expected).scaled)
}

/// The same between two passes over one input.
fn change(
    layout: Option<&BoundLayout>,
    scales: Option<&Scales>,
    before: Option<&Tensor>,
    after: Option<&Tensor>,
) -> Option<f64> {
    let (before, after) = (before?, after?);
    if before.shape() != after.shape() {
        return None;
    }
    if let Some(layout) = layout {
        return error(layout, scales, &Element::default(), before, Some(after));
    }
    let (before, after) = (before.to_real(), after.to_real());
    let size = norm(&before);
    let difference = norm(&(after - &before));
    (size > 0.0 && difference.is_finite()).then(|| difference / size)
}

fn scales_of(layout: Option<&BoundLayout>, before: Option<&Tensor>) -> Option<Scales> {
    Some(Scales::new([(layout?, &before?.to_real())].into_iter()))
}

/// What rounding explains of tensors.
fn noise_of<'a>(leaves: impl IntoIterator<Item = &'a TracedLeaf>, figures: &[Figures]) -> f64 {
    leaves.into_iter().map(|leaf| figures[leaf.tensor].noise).fold(0.0, f64::max)
}

/// Outputs whose error is no rounding, and whose declaration is not what is wrong: no layer is to blame for that.
fn broken(evidence: &Evidence) -> Vec<usize> {
    let decisions = evidence.decisions();
    let misdeclared = |k: usize| {
        let alternatives = &evidence.inquiries.alternatives;
        alternatives.iter().any(|other| {
            other.variation != Variation::Order && other.outputs.contains(&evidence.outputs[k].name)
        })
    };
    let breaks = |k: &usize| decisions[*k].classification.is_violation();
    (0..decisions.len()).filter(breaks).filter(|k| !misdeclared(*k)).collect()
}

/// Outputs of modules whose values were not kept.
fn skipped(trace: &Trace) -> Vec<String> {
    let leaves = trace.calls.iter().flat_map(|call| call.outputs.iter().map(move |leaf| (call, leaf)));
    leaves
        .filter(|(_, leaf)| trace.tensors[leaf.tensor].values.is_none())
        .map(|(call, leaf)| format!("{} {}", call.path, leaf.name).trim_end().to_owned())
        .collect()
}

/// What a module does, as far as its class tells.
fn kind_of(class: &str, container: bool) -> LayerKind {
    let name = class.rsplit('.').next().unwrap_or(class).to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if any(&["attention", "attn"]) {
        LayerKind::Attention
    } else if name != "norm" && name.trim_end_matches(['1', '2', '3', 'd']).ends_with("norm")
        || any(&["normali", "batchnorm", "layernorm"])
    {
        LayerKind::Normalisation
    } else if any(&["pool", "aggr", "readout"]) {
        LayerKind::Pooling
    } else if any(&["conv", "message", "interaction"]) {
        LayerKind::Convolution
    } else if any(&[
        "relu", "gelu", "silu", "swish", "tanh", "sigmoid", "softplus", "elu", "gate", "act", "nonlin",
        "softmax", "mish",
    ]) {
        LayerKind::Nonlinearity
    } else if container {
        LayerKind::Container
    } else if any(&["linear", "dense", "tensorproduct", "gemm", "matmul"]) {
        LayerKind::Linear
    } else {
        LayerKind::Other
    }
}

fn rows(
    reference: &Reference,
    figures: &[Figures],
    seen: &[Seen],
    breaks: &[search::Found],
    healthy: bool,
) -> Vec<LayerRow> {
    let Reference { trace, layouts, .. } = reference;
    let status: Vec<Status> = figures.iter().map(Figures::status).collect();
    let is_unmoved = |leaf: &TracedLeaf| {
        let hidden = layouts[leaf.tensor].as_ref();
        hidden.is_none_or(|hidden| hidden.origin == Origin::Invariant)
    };
    let mut order: Vec<usize> = (1..trace.calls.len()).collect();
    order.sort_by_key(|k| trace.calls[*k].ended);
    let tensors = |leaves: &[TracedLeaf]| {
        leaves.iter().map(|leaf| hidden::described(leaf, trace, layouts)).collect::<Vec<_>>()
    };
    order
        .into_iter()
        .map(|k| {
            let call = &trace.calls[k];
            let of = |leaves: &[TracedLeaf], wanted: Status| {
                leaves.iter().any(|leaf| status[leaf.tensor] == wanted)
            };
            let outputs = || call.outputs.iter().map(|leaf| &figures[leaf.tensor]);
            let noise = noise_of(&call.outputs, figures);
            let propagated = outputs().filter_map(|f| f.propagated).reduce(f64::max);
            let seen = &seen[k];
            let own_breaks = seen.own.is_some_and(|own| own > MARGIN * noise);
            let blamed = breaks.iter().any(|found| found.suspect.call == k);
            let lost = outputs().any(|f| f.lost);
            let stretched = |leaf: &TracedLeaf| reference.anisotropic[leaf.tensor];
            let stretches = call.outputs.iter().any(stretched) && !call.inputs.iter().any(stretched);
            let (verdict, note) = if blamed {
                (LayerVerdict::Breaks, None)
            } else if stretches && !own_breaks {
                (LayerVerdict::AnisotropicBasis, None)
            } else if lost {
                (
                    LayerVerdict::CannotJudge,
                    Some(
                        "its output is missing in some pass, of another shape, or does not admit an element"
                            .to_owned(),
                    ),
                )
            } else if own_breaks && healthy {
                (LayerVerdict::RestoredLater, None)
            } else if own_breaks {
                let note = "not equivariant alone; to mend it does not mend the model";
                (LayerVerdict::Undetermined, Some(note.to_owned()))
            } else if healthy && outputs().any(|f| f.unfit) {
                (LayerVerdict::NotKnown, Some("its output transforms by no layout that was tried".to_owned()))
            } else if of(&call.outputs, Status::Broken) && !healthy {
                (LayerVerdict::Inherits, None)
            } else if of(&call.outputs, Status::Broken) {
                (LayerVerdict::RestoredLater, None)
            } else if call.outputs.is_empty() || of(&call.outputs, Status::Unknown) {
                (LayerVerdict::NotKnown, None)
            } else if !call.outputs.is_empty() && outputs().all(|f| f.vanishes) {
                (LayerVerdict::Undetermined, Some("its output is zero".to_owned()))
            } else if call.inputs.iter().chain(&call.outputs).all(is_unmoved) {
                (LayerVerdict::NotMoved, None)
            } else {
                (LayerVerdict::Ok, None)
            };
            let note = note.or_else(|| {
                if seen.reads_state {
                    Some("reads state that is not its argument: not judged alone".to_owned())
                } else if seen.fails {
                    Some("cannot be called again alone".to_owned())
                } else {
                    None
                }
            });
            let beside = seen.checks.iter().filter(|_| !own_breaks).filter_map(checks::remark);
            let local = seen.local.and_then(Local::remark);
            let notes: Vec<String> = note.into_iter().chain(beside).chain(local).collect();
            let container = trace.calls.iter().any(|other| other.parent == Some(k));
            LayerRow {
                location: call.path.clone(),
                call: call.number,
                class: call.class.clone(),
                source: call.source.clone(),
                kind: kind_of(&call.class, container),
                inputs: tensors(&call.inputs),
                outputs: tensors(&call.outputs),
                own_error: seen.own,
                propagated_error: propagated,
                noise,
                local_error: seen.local.and_then(Local::error),
                checks: seen.checks.clone(),
                verdict,
                note: (!notes.is_empty()).then(|| notes.join("; ")),
            }
        })
        .collect()
}
