//! Several pairs in one call of the model: transformed inputs one behind the other along their `batch` axes, outputs
//! taken apart again. Only where entries of a batch were seen not to influence each other; x itself is never among T x.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ndarray::{Axis, Slice};

use crate::Error;
use crate::model::{Model, Tensor};
use crate::report::{CompositionKind, CompositionRow, Outcome, Repeatability, Rows, Shard, Stop};
use crate::symmetry::{BoundLayout, Element};

use super::super::calls::{Evaluation, Value};
use super::super::evidence::Evidence;
use super::super::sampling::{Draws, Part, Purpose};
use super::super::{BatchSize, Randomness};
use super::judgement::{Figures, Ground};
use super::{Case, DoubleModel, EndToEnd, Noise, Pair};

/// The purpose of calls that compare entries alone with entries among others.
const PURPOSE: &str = "batch size";
/// Largest size that is tried by timing, as a share of the pairs: trying must not take longer than what it spares.
const SHARE: usize = 8;
/// Numbers that inputs and outputs of one call hold, at most, while sizes are tried: what a model keeps between its
/// layers is many times as much.
const NUMBERS: usize = 1 << 23;
/// Share of what is left of the time budget that may go into comparing calls of one size with calls on one.
const TRIAL: f64 = 0.1;
/// Evaluations of one pair, at most, that this takes for each kind of sample and each pair of a call.
const COMPARED: u32 = 4;
/// Calls of one size, of which the fastest counts.
const TIMED: usize = 2;

/// How pairs share calls.
#[derive(Debug)]
pub(super) struct Batching {
    /// Pairs per call, at most.
    pub(super) size: usize,
    /// By case: equal numbers may share a call.
    kinds: Vec<usize>,
    /// By place of the plan: the places of the call that it shared, in their order.
    shared: BTreeMap<usize, Vec<usize>>,
    /// What one pair takes, by the calls that were compared.
    pub(super) per_pair: Duration,
    /// Why its results count no more.
    pub(super) refuted: Option<String>,
}

/// A pair whose turn it is.
pub(super) struct Drawn {
    pub(super) pair: Pair,
    pub(super) element: Element,
}

/// Pairs that wait for others to share their call with: by kind of sample, and whether the element is the identity.
pub(super) type Waiting = BTreeMap<(usize, bool), Vec<Drawn>>;

impl EndToEnd<'_> {
    /// Whether more than one pair per call was asked for.
    pub(super) fn wants_batches(&self) -> bool {
        self.options.batch != BatchSize::default()
    }

    /// What speaks against several pairs per call, by what is declared and by repeated calls.
    pub(super) fn unfit_for_batches(&self, repeatability: &[Repeatability]) -> Option<String> {
        let group = self.specification.group();
        if self.specification.custom_action().is_some() {
            return Some("a custom action does not say what a batch is".to_owned());
        }
        if self.options.randomness != Randomness::Fixed {
            return Some("the model draws random numbers".to_owned());
        }
        if !self.options.segments.is_empty() {
            return Some("batches of graphs that `segments` describes are not put together".to_owned());
        }
        if group.permutes("batch") {
            return Some("the group permutes `batch`".to_owned());
        }
        if let Some(why) = self.cases.iter().find_map(|case| self.no_batch(case)) {
            return Some(why);
        }
        if repeatability.iter().any(|r| r.seeded > 0.0) {
            return Some("two calls differ although input, generators and state are the same".to_owned());
        }
        if repeatability.iter().any(|r| r.unseeded > 0.0) {
            return Some("the model draws random numbers".to_owned());
        }
        if repeatability.iter().any(|r| r.drift > 0.0) {
            return Some("the model keeps state between calls, which changes its outputs".to_owned());
        }
        None
    }

    /// Why a sample cannot be put into one call with others, if it cannot.
    fn no_batch(&self, case: &Case) -> Option<String> {
        let factors = self.specification.group().factors();
        let mentions = |layout: &BoundLayout| !layout.positions("batch").is_empty();
        if !case.layouts.iter().flatten().any(mentions) {
            return Some("no input has a `batch` axis".to_owned());
        }
        let mut entries = None;
        for ((name, layout), tensor) in self.input_names().iter().zip(&case.layouts).zip(&case.inputs) {
            let Some(layout) = layout else { continue };
            match layout.whole_batch_axis() {
                Some(at) => {
                    let own = tensor.shape()[at];
                    if entries.is_some_and(|entries| entries != own) {
                        return Some("the inputs' `batch` axes differ in length".to_owned());
                    }
                    entries = Some(own);
                }
                None if mentions(layout) => {
                    return Some(format!(
                        "`batch` is no axis of its own in input `{name}`, or stands there twice"
                    ));
                }
                None if factors.iter().any(|factor| layout.is_moved_by(factor)) => {
                    return Some(format!("the group moves input `{name}`, which has no `batch` axis"));
                }
                None => {}
            }
        }
        let Some(entries) = entries.filter(|entries| *entries > 0) else {
            return Some("a sample has no entry along `batch`".to_owned());
        };
        self.outputs().iter().zip(&case.outputs).find_map(|((name, _), layout)| {
            match layout.whole_batch_axis() {
                Some(at) if layout.shape()[at] == entries => None,
                Some(at) => Some(format!(
                    "output `{name}` has {} entries along `batch`, the inputs have {entries}",
                    layout.shape()[at]
                )),
                None => Some(format!("output `{name}` has no axis that is `batch` alone")),
            }
        })
    }

    /// Why the composition of batches has not shown that entries do not influence each other.
    pub(super) fn unshown(&self, rows: &Rows<CompositionRow>) -> Option<String> {
        let rows = match rows {
            Rows::NotRun { reason } => {
                return Some(format!(
                    "whether entries of a batch influence each other was not compared ({reason})"
                ));
            }
            Rows::Ran { rows } => rows,
        };
        let kinds = [CompositionKind::Alone, CompositionKind::Reordered, CompositionKind::OtherNeighbours];
        self.outputs().iter().find_map(|(name, _)| {
            kinds.into_iter().find_map(|kind| {
                let row = rows.iter().find(|row| row.output == *name && row.kind == kind);
                match row {
                    Some(row) if row.outcome == Outcome::Holds => None,
                    Some(row) if matches!(row.outcome, Outcome::Violated | Outcome::NotFinite) => {
                        Some(format!(
                            "entries of a batch influence each other in output `{name}` (BATCH COMPOSITION)"
                        ))
                    }
                    Some(row) => Some(format!(
                        "whether entries of a batch influence each other in output `{name}` is not known: {}",
                        row.reason
                    )),
                    None => Some(format!(
                        "whether entries of a batch influence each other in output `{name}` was not compared"
                    )),
                }
            })
        })
    }

    /// Says that pairs are evaluated one by one, and why.
    pub(super) fn say_one_by_one(&mut self, why: &str) {
        let asked = self.options.batch;
        self.notes.push(format!("batch={asked} was not used, each pair is a call of its own: {why}"));
    }

    /// Puts pairs together from now on, if calls on several inputs give what calls on one give; their difference is noise
    /// of this way of calling.
    pub(super) fn prepare_batches(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        ground: Ground<'_>,
        evidence: &mut Evidence,
    ) -> Result<(), Error> {
        let kinds = self.kinds(model);
        self.batching = Some(Batching {
            size: 1,
            kinds,
            shared: BTreeMap::new(),
            per_pair: Duration::ZERO,
            refuted: None,
        });
        let size = match self.options.batch {
            // More than there are pairs would be compared in vain.
            BatchSize::Pairs(size) => self.affordable_size(size.min(self.whole_plan)),
            BatchSize::Auto => self.fastest_size(model)?.and_then(|size| self.affordable_size(size)),
        };
        let size = match size {
            Ok(size) => size,
            Err(why) => {
                self.batching = None;
                self.say_one_by_one(&why);
                return Ok(());
            }
        };
        if let Some(batching) = &mut self.batching {
            batching.size = size;
        }
        let noise: Vec<Noise> = evidence.outputs.iter().map(|output| output.noise).collect();
        for sample in self.one_of_each_kind() {
            let seen = match self.compare_sizes(sample, size, model, double)? {
                Ok(seen) => self.explained(&seen, &noise, ground).map(|()| seen),
                Err(why) => Err(why),
            };
            match seen {
                Ok(seen) => {
                    for (output, figures) in evidence.outputs.iter_mut().zip(&seen) {
                        add(&mut output.noise, figures);
                    }
                }
                Err(why) => {
                    self.batching = None;
                    self.say_one_by_one(&why);
                    for (output, noise) in evidence.outputs.iter_mut().zip(&noise) {
                        output.noise = *noise;
                    }
                    return Ok(());
                }
            }
        }
        evidence.batch = size;
        Ok(())
    }

    /// By case: which others may share a call with it. Their tensors differ in length along `batch` alone, those without
    /// such an axis not at all, and neither do arguments that are no tensors.
    fn kinds(&self, model: &mut dyn Model) -> Vec<usize> {
        let mut first: Vec<usize> = Vec::new();
        let mut kinds = Vec::new();
        for case in 0..self.cases.len() {
            let kind = first.iter().position(|other| {
                let (a, b) = (self.calls.source(*other), self.calls.source(case));
                self.alike(*other, case) && (a == b || model.shares_arguments(a, b))
            });
            kinds.push(kind.unwrap_or_else(|| {
                first.push(case);
                first.len() - 1
            }));
        }
        kinds
    }

    /// The probed samples, but one for each kind.
    fn one_of_each_kind(&self) -> Vec<usize> {
        let mut probes = self.probes();
        if let Some(batching) = &self.batching {
            let mut known = BTreeSet::new();
            probes.retain(|sample| known.insert(batching.kinds[*sample]));
        }
        probes
    }

    fn alike(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.cases[a], &self.cases[b]);
        let inputs = a.inputs.iter().zip(&a.layouts).zip(b.inputs.iter().zip(&b.layouts));
        let outputs = a.outputs.iter().zip(&a.base).zip(b.outputs.iter().zip(&b.base));
        inputs.into_iter().all(|((tensor, layout), (other, of_other))| {
            match (batch_axis(layout.as_ref()), batch_axis(of_other.as_ref())) {
                (Some(at), Some(of_other)) => {
                    let (shape, other_shape) = (tensor.shape(), other.shape());
                    at == of_other && tensor.dtype() == other.dtype() && fits(shape, other_shape, at)
                }
                (None, None) => tensor.same_bits(other),
                _ => false,
            }
        }) && outputs.into_iter().all(|((layout, value), (of_other, other))| {
            match (layout.whole_batch_axis(), of_other.whole_batch_axis()) {
                (Some(at), Some(of_other)) => {
                    at == of_other && value.dtype == other.dtype && fits(&value.shape, &other.shape, at)
                }
                _ => false,
            }
        })
    }

    /// Whether so much time may be spent before the first pair; shards do all of it alike.
    fn affords(&self, predicted: Duration) -> bool {
        self.options.shard != Shard::WHOLE
            || self.options.budget.is_none_or(|budget| {
                predicted <= budget.saturating_sub(self.started.elapsed()).mul_f64(TRIAL)
            })
    }

    /// The largest size up to this one that the time budget lets be compared with calls on one pair, by the time that the
    /// last of those took.
    fn affordable_size(&mut self, size: usize) -> Result<usize, String> {
        if size < 2 {
            return Err("the plan has one pair".to_owned());
        }
        let kinds = u32::try_from(self.one_of_each_kind().len()).unwrap_or(1);
        let each = self.calls.last * COMPARED * kinds;
        let mut within = size;
        while within > 1 && !self.affords(each * u32::try_from(within).unwrap_or(u32::MAX)) {
            within /= 2;
        }
        if within < 2 {
            return Err(
                "to compare it with calls on one pair would take more than a tenth of the time budget"
                    .to_owned(),
            );
        }
        if within < size {
            self.notes.push(format!(
                "pairs share calls by {within}, not {size}: to compare more with calls on one would take more than a \
                 tenth of the time budget"
            ));
        }
        Ok(within)
    }

    /// The size at which a pair takes least time, on copies of the first sample: powers of two, until it takes no less.
    fn fastest_size(&mut self, model: &mut dyn Model) -> Result<Result<usize, String>, Error> {
        let sample = 0;
        let case = &self.cases[sample];
        let numbers: usize = case.inputs.iter().map(Tensor::len).sum::<usize>()
            + case.base.iter().map(|value| value.values.len()).sum::<usize>();
        let inputs = case.inputs.clone();
        let (mut best, mut least) = (1, f64::INFINITY);
        let mut size = 1;
        while size == 1 || (size <= self.whole_plan / SHARE && size * numbers <= NUMBERS) {
            if size > 1 && !self.affords(Duration::from_secs_f64(least * (size * TIMED) as f64)) {
                break;
            }
            let copies = vec![inputs.clone(); size];
            let mut fastest = Duration::MAX;
            for _ in 0..TIMED {
                match self.together(PURPOSE, model, &vec![sample; size], &copies)? {
                    Err(why) if best < 2 => return Ok(Err(why)),
                    Err(_) => return Ok(Ok(best)),
                    Ok(_) => {}
                }
                fastest = fastest.min(self.calls.last);
            }
            let per_pair = fastest.as_secs_f64() / size as f64;
            if per_pair >= least {
                break;
            }
            (best, least) = (size, per_pair);
            size *= 2;
        }
        let why = "no size that was tried, up to an eighth of the pairs, takes less time per input than a call on one";
        Ok(if best < 2 { Err(why.to_owned()) } else { Ok(best) })
    }

    /// What calls on several inputs change, by output: x among copies of itself against f(x), and the first and the last
    /// of several T x against calls on each alone.
    fn compare_sizes(
        &mut self,
        sample: usize,
        size: usize,
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Result<Vec<Figures>, String>, Error> {
        let kind = |case: usize| self.batching.as_ref().map(|batching| batching.kinds[case]);
        let alike: Vec<usize> = (0..self.cases.len()).filter(|case| kind(*case) == kind(sample)).collect();
        let start = alike.iter().position(|case| *case == sample).unwrap_or(0);
        let identity = Element::default();
        let copies: Vec<(usize, Element)> = vec![(sample, identity); size];
        let turned: Vec<(usize, Element)> = (0..size)
            .map(|k| {
                let case = alike[(start + k) % alike.len()];
                let mut draws = Draws::new(self.options.seed, sample, k as u64, Purpose::Batching);
                (case, self.drawn_element(case, &Part::Joint, &mut draws))
            })
            .collect();
        let mut worst = vec![Figures::default(); self.outputs().len()];
        for (members, alone) in [(copies, None), (turned, Some([0, size - 1]))] {
            let seen =
                match self.difference(&members, alone.as_ref().map(<[usize; 2]>::as_slice), model, double)? {
                    Ok(seen) => seen,
                    Err(why) => return Ok(Err(why)),
                };
            for (worst, seen) in worst.iter_mut().zip(seen) {
                *worst = Figures {
                    double: join(worst.double, seen.double),
                    scaled: worst.scaled.max(seen.scaled),
                    relative: worst.relative.max(seen.relative),
                };
            }
        }
        Ok(Ok(worst))
    }

    /// By output, how far a call on all members is from calls on those that are named alone; without names, from f(x) of
    /// all, which are then not transformed.
    fn difference(
        &mut self,
        members: &[(usize, Element)],
        alone: Option<&[usize]>,
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Result<Vec<Figures>, String>, Error> {
        let mut figures = vec![Figures::default(); self.outputs().len()];
        let mut per_pair = Duration::ZERO;
        for wide in [false, true] {
            let target: &mut dyn Model = match (&mut *double, wide) {
                (_, false) => &mut *model,
                (DoubleModel::Copy(copy), true) => copy.as_mut(),
                _ => continue,
            };
            let samples: Vec<usize> = members.iter().map(|(sample, _)| *sample).collect();
            let inputs = members.iter().map(|(sample, element)| self.transformed(*sample, element, wide));
            let inputs = inputs.collect::<Result<Vec<_>, Error>>()?;
            let together = match self.together(PURPOSE, target, &samples, &inputs)? {
                Ok(values) => values,
                Err(why) => return Ok(Err(why)),
            };
            per_pair += self.calls.last.div_f64(members.len() as f64);
            let all: Vec<usize> = (0..members.len()).collect();
            for k in alone.unwrap_or(&all) {
                let (sample, element) = &members[*k];
                let single = if alone.is_some() {
                    match self.calls.evaluate_at(PURPOSE, target, *sample, Some(element), &inputs[*k])? {
                        Ok(values) => values,
                        Err(why) => {
                            return Ok(Err(format!("the model raises on a transformed input: {why}")));
                        }
                    }
                } else {
                    let case = &self.cases[*sample];
                    if wide { case.double.as_ref().unwrap_or(&case.base) } else { &case.base }.clone()
                };
                let scales = &if wide { &self.own_scales_double } else { &self.own_scales }[*sample];
                for (o, (value, reference)) in together[*k].iter().zip(&single).enumerate() {
                    if !value.comparable(reference) || value.dtype != reference.dtype {
                        return Ok(Err(self.other_shape(o, &value.shape, &reference.shape)));
                    }
                    let layout = &self.cases[*sample].outputs[o];
                    let change = layout.change(element, &value.values, &reference.values);
                    let error = scales[o].measure(layout, &change, &reference.values);
                    let seen = &mut figures[o];
                    if wide {
                        seen.double = join(seen.double, Some((error.scaled, error.relative)));
                    } else {
                        seen.scaled = seen.scaled.max(error.scaled);
                        seen.relative = seen.relative.max(error.relative);
                    }
                }
            }
        }
        if matches!(double, DoubleModel::Same) {
            for seen in &mut figures {
                seen.double = Some((seen.scaled, seen.relative));
            }
        }
        if let Some(batching) = &mut self.batching {
            batching.per_pair = per_pair;
        }
        Ok(Ok(figures))
    }

    /// Whether rounding explains what calls on several inputs change.
    fn explained(&self, seen: &[Figures], noise: &[Noise], ground: Ground<'_>) -> Result<(), String> {
        for (o, figures) in seen.iter().enumerate() {
            let judgement = self.judge(o, *figures, &noise[o], ground);
            if judgement.outcome != Outcome::Holds {
                return Err(format!(
                    "in a call on several inputs output `{}` differs from calls on one by {:.1e}: {}",
                    self.outputs()[o].0,
                    figures.relative,
                    judgement.reason
                ));
            }
        }
        Ok(())
    }

    /// One call on the inputs of several samples; by sample its outputs, or what is wrong with them.
    fn together(
        &mut self,
        purpose: &str,
        model: &mut dyn Model,
        samples: &[usize],
        inputs: &[Vec<Tensor>],
    ) -> Result<Result<Vec<Vec<Value>>, String>, Error> {
        let joined = match self.one_behind_the_other(samples[0], inputs) {
            Ok(joined) => joined,
            Err(why) => return Ok(Err(why)),
        };
        let count = samples.len();
        Ok(match self.calls.evaluate(purpose, model, samples[0], &joined)? {
            Ok(values) => self.taken_apart(samples, &values),
            Err(why) => Err(format!("the model raises in a call on {count} inputs: {why}")),
        })
    }

    /// The inputs of several pairs one behind the other.
    fn one_behind_the_other(&self, sample: usize, inputs: &[Vec<Tensor>]) -> Result<Vec<Tensor>, String> {
        let layouts = &self.cases[sample].layouts;
        let one = |k: usize| {
            let tensors: Vec<&Tensor> = inputs.iter().map(|inputs| &inputs[k]).collect();
            match batch_axis(layouts[k].as_ref()) {
                Some(at) => Tensor::concatenate_all(&tensors, at),
                None => tensors.iter().all(|t| t.same_bits(tensors[0])).then(|| tensors[0].clone()),
            }
            .ok_or_else(|| format!("input `{}` is not alike in all of them", self.input_names()[k]))
        };
        (0..layouts.len()).map(one).collect()
    }

    /// The outputs of one call on several samples, by sample.
    fn taken_apart(&self, samples: &[usize], values: &[Value]) -> Result<Vec<Vec<Value>>, String> {
        let mut apart: Vec<Vec<Value>> = vec![Vec::new(); samples.len()];
        for (o, value) in values.iter().enumerate() {
            let axes = samples.iter().map(|sample| {
                let base = &self.cases[*sample].base[o];
                let at = self.cases[*sample].outputs[o].whole_batch_axis()?;
                Some((at, base.shape[at]))
            });
            let axes: Vec<(usize, usize)> =
                axes.collect::<Option<_>>().ok_or_else(|| "an output has no `batch` axis".to_owned())?;
            let (at, total) = (axes[0].0, axes.iter().map(|(_, length)| length).sum());
            let mut expected = self.cases[samples[0]].base[o].shape.clone();
            expected[at] = total;
            if value.shape != expected {
                return Err(self.other_shape(o, &value.shape, &expected));
            }
            let mut start = 0;
            for ((_, length), own) in axes.iter().zip(&mut apart) {
                let range = Slice::from(start..start + length);
                let mut shape = value.shape.clone();
                shape[at] = *length;
                let values = value.values.slice_axis(Axis(at), range).as_standard_layout().into_owned();
                own.push(Value { shape, dtype: value.dtype, values });
                start += length;
            }
        }
        Ok(apart)
    }

    fn other_shape(&self, o: usize, shape: &[usize], expected: &[usize]) -> String {
        format!(
            "in a call on several inputs output `{}` has shape {shape:?} where {expected:?} is expected",
            self.outputs()[o].0
        )
    }

    /// The next pairs that share a call: as many as may, or one alone. `look` is the number of pairs after which all that
    /// wait go first.
    pub(super) fn next_unit(
        &self,
        plan: &mut dyn Iterator<Item = Pair>,
        waiting: &mut Waiting,
        taken: &mut usize,
        look: Option<usize>,
    ) -> Option<Vec<Drawn>> {
        loop {
            let due = look.is_some_and(|look| taken.is_multiple_of(look));
            if due && let Some((_, unit)) = waiting.pop_first() {
                return Some(unit);
            }
            let Some(pair) = plan.next() else { return waiting.pop_first().map(|(_, unit)| unit) };
            *taken += 1;
            let element = self.element(&pair);
            let Some(batching) = &self.batching else { return Some(vec![Drawn { pair, element }]) };
            // The cheapest look at randomness and at inputs that are written to is that of single calls.
            if pair.kind == "identity" {
                return Some(vec![Drawn { pair, element }]);
            }
            // x goes with others of its kind, never with a T x.
            let key = (batching.kinds[pair.sample], element.is_identity());
            let unit = waiting.entry(key).or_default();
            unit.push(Drawn { pair, element });
            if unit.len() >= batching.size {
                return waiting.remove(&key);
            }
        }
    }

    /// What the model gives on all members; where a call on all of them fails, by calls on each.
    pub(super) fn outcomes(
        &mut self,
        purpose: &str,
        model: &mut dyn Model,
        unit: &[Drawn],
        wide: bool,
    ) -> Result<Vec<Evaluation>, Error> {
        let inputs = unit.iter().map(|drawn| self.transformed(drawn.pair.sample, &drawn.element, wide));
        let inputs = inputs.collect::<Result<Vec<_>, Error>>()?;
        let mut trouble = None;
        if unit.len() > 1 && self.batching.as_ref().is_some_and(|batching| batching.size > 1) {
            let samples: Vec<usize> = unit.iter().map(|drawn| drawn.pair.sample).collect();
            match self.together(purpose, model, &samples, &inputs)? {
                Ok(values) if values.iter().all(|values| finite(values)) => {
                    let places: Vec<usize> = unit.iter().map(|drawn| drawn.pair.place).collect();
                    if let Some(batching) = &mut self.batching {
                        batching.shared.extend(places.iter().map(|place| (*place, places.clone())));
                    }
                    return Ok(values.into_iter().map(Ok).collect());
                }
                Ok(_) => trouble = Some("in a call on several inputs an output is not finite".to_owned()),
                Err(why) => trouble = Some(why),
            }
        }
        let mut outcomes = Vec::new();
        let mut fine = true;
        for (drawn, inputs) in unit.iter().zip(&inputs) {
            let sample = drawn.pair.sample;
            let outcome = self.calls.evaluate_at(purpose, model, sample, Some(&drawn.element), inputs)?;
            let base = &self.cases[sample].base;
            fine &= outcome.as_ref().is_ok_and(|values| {
                finite(values) && values.iter().zip(base).all(|(value, base)| value.comparable(base))
            });
            outcomes.push(outcome);
        }
        // What single calls fail at too is no matter of how the model is called.
        if let Some(why) = trouble.filter(|_| fine)
            && let Some(batching) = &mut self.batching
        {
            let size = std::mem::replace(&mut batching.size, 1);
            self.notes.push(format!(
                "batch={size} was given up at pair {} of the plan, from where each pair is a call of its own: {why}, \
                 where calls on one give what they should",
                unit[0].pair.place
            ));
        }
        Ok(outcomes)
    }

    /// The pairs at these places, which shared calls, alone: what that changes is noise there, or shows that results of
    /// shared calls do not count.
    pub(super) fn compare_shared(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        place: usize,
        known: &mut [Noise],
        ground: Ground<'_>,
        evidence: &Evidence,
    ) -> Result<(), Error> {
        let Some(places) = self.batching.as_ref().and_then(|batching| batching.shared.get(&place)).cloned()
        else {
            return Ok(());
        };
        let members = places.iter().map(|place| {
            let record = evidence.at(*place)?;
            Some((record.sample, self.element_of(record)))
        });
        let Some(members) = members.collect::<Option<Vec<_>>>() else { return Ok(()) };
        let own = places.iter().position(|other| *other == place).unwrap_or(0);
        let seen = match self.difference(&members, Some(&[own]), model, double)? {
            Ok(seen) => {
                // Noise at the pair itself, and that of all others.
                let noise = evidence.outputs.iter().zip(known.iter()).map(|(output, there)| {
                    let mut noise = output.noise;
                    noise.join(there);
                    noise
                });
                let noise: Vec<Noise> = noise.collect();
                self.explained(&seen, &noise, ground).map(|()| seen)
            }
            Err(why) => Err(why),
        };
        match seen {
            Ok(seen) => known.iter_mut().zip(&seen).for_each(|(noise, figures)| add(noise, figures)),
            Err(why) => {
                if let Some(batching) = &mut self.batching {
                    batching.refuted = Some(why);
                }
            }
        }
        Ok(())
    }

    /// Forgets all pairs where a pair that stands out was another alone; whether that is so.
    pub(super) fn refuted(&mut self, evidence: &mut Evidence, noise: &[Noise]) -> bool {
        let Some(why) = self.batching.as_mut().and_then(|batching| batching.refuted.take()) else {
            return false;
        };
        self.batching = None;
        self.say_one_by_one(&why);
        evidence.records.clear();
        evidence.worst.clear();
        evidence.stop = Stop::Completed;
        evidence.batch = 1;
        // They have the time budget that the others had.
        self.forgiven = self.started.elapsed();
        for (output, noise) in evidence.outputs.iter_mut().zip(noise) {
            output.noise = *noise;
        }
        true
    }
}

fn batch_axis(layout: Option<&BoundLayout>) -> Option<usize> {
    layout.and_then(BoundLayout::whole_batch_axis)
}

/// Whether two shapes differ along `axis` alone.
fn fits(a: &[usize], b: &[usize], axis: usize) -> bool {
    a.len() == b.len() && a.iter().zip(b).enumerate().all(|(k, (a, b))| k == axis || a == b)
}

fn finite(values: &[Value]) -> bool {
    values.iter().all(|value| value.values.iter().all(|v| v.is_finite()))
}

/// The larger of both figures, of what is there.
fn join(a: Option<(f64, f64)>, b: Option<(f64, f64)>) -> Option<(f64, f64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.max(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// Differences of two ways of calling enter the noise.
fn add(noise: &mut Noise, seen: &Figures) {
    noise.rounding = noise.rounding.max(seen.scaled);
    if let Some((scaled, _)) = seen.double {
        noise.double = noise.double.max(scaled);
    }
}
