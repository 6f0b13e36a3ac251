//! Questions that are asked of the model because outputs break: would another declaration pass, which smaller group is
//! respected, what about the other mode, and does it depend on the size? Diagnosis reads the answers (DESIGN 9).
//!
//! They cost no more calls of the model than the audit did before.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;

use crate::Error;
use crate::model::{Model, Tensor};
use crate::report::{Alternative, Inquiries, OtherMode, SizeRow, Subgroup, Variation};
use crate::symmetry::{
    Axis, BoundLayout, Element, Factor, Layout, Other, alternatives, relabelled, transformed,
};

use super::super::calls::{Evaluation, Value};
use super::super::evidence::{Evidence, HAAR, Judgement, Record};
use super::super::sampling::{Draws, Part, Purpose};
use super::cases::{centroid_and_spread, points};
use super::layers::relative_error;
use super::{DoubleModel, EndToEnd};

/// Share of the budget that is spent when nothing further is asked.
const LAST: f64 = 0.8;
/// Pairs that violate, and others, by which another declaration is judged.
const VIOLATING: usize = 5;
const OTHERS: usize = 3;
/// Pairs on which the other mode is tried.
const FIRST: usize = 3;
/// What may be left of an error by its cause mended (METHOD 14).
const GONE: f64 = 1e-3;
/// Chance that a group which does not hold is taken for one that does.
const CHANCE: f64 = 0.01;
/// Elements of a smaller group, at least and at most.
const FEWEST: usize = 4;
const MOST: usize = 32;
/// Small translations, in units of the scale of translations.
const NEAR: f64 = 1e-3;
/// Share of its pairs that a size must violate to be told from one that holds: a few elements of a finite group may leave
/// alone what the others show.
const NEARLY_ALL: f64 = 0.75;

/// A pair with what the model gave.
struct Witness {
    sample: usize,
    element: Element,
    values: Vec<Value>,
    /// By output: whether it violates.
    violates: Vec<bool>,
}

struct Inquiry<'a> {
    judged: &'a [Judgement],
    /// Outputs that break.
    broken: Vec<usize>,
    wide: bool,
    /// Calls that may still be made.
    left: usize,
    found: Inquiries,
}

impl EndToEnd<'_> {
    /// All that is asked.
    pub(super) fn inquire(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        evidence: &Evidence,
    ) -> Result<Inquiries, Error> {
        let judged = evidence.judgements();
        let broken: Vec<usize> = (0..judged.len()).filter(|o| judged[*o].violates).collect();
        let mut inquiry =
            Inquiry { judged: &judged, broken, wide: false, left: 0, found: Inquiries::default() };
        inquiry.found.offset = self.offset();
        if inquiry.broken.is_empty() || self.specification.custom_action().is_some() {
            return Ok(inquiry.found);
        }
        inquiry.wide =
            matches!(double, DoubleModel::Copy(_)) && inquiry.broken.iter().all(|o| judged[*o].wide);
        let model: &mut dyn Model = match double {
            DoubleModel::Copy(copy) if inquiry.wide => copy.as_mut(),
            _ => model,
        };
        let made: u64 = self.calls.by_purpose.values().sum();
        inquiry.left = evidence.records.len().max(usize::try_from(made).unwrap_or(usize::MAX));
        self.by_size(evidence, &mut inquiry);
        let witnesses = self.witnesses(model, evidence, &mut inquiry)?;
        self.other_layouts(&witnesses, &mut inquiry);
        // Not more than half of what is left: many groups may be tried in vain.
        let reserved = inquiry.left / 2;
        inquiry.left -= reserved;
        self.smaller_groups(model, &mut inquiry)?;
        let exhausted = inquiry.left == 0;
        inquiry.left += reserved;
        self.other_inputs(model, &witnesses, &mut inquiry)?;
        self.other_mode(model, &witnesses, &mut inquiry)?;
        if inquiry.left == 0 || exhausted {
            inquiry.found.left_out = Some("as many calls as the audit itself took were made".to_owned());
        } else if self.spent(LAST) {
            inquiry.found.left_out = Some("the time budget was spent".to_owned());
        }
        Ok(inquiry.found)
    }

    /// How far points are from the origin, in units of how far they are from their mean, at most.
    fn offset(&self) -> Option<(String, f64)> {
        let names = self.input_names();
        let inputs = self.cases.iter().flat_map(|case| case.inputs.iter().zip(&case.layouts).zip(&names));
        let ratios = inputs.filter_map(|((tensor, layout), name)| {
            let layout = layout.as_ref().filter(|layout| layout.point_axis().is_some())?;
            let (centroid, spread) = centroid_and_spread(&points(tensor, layout))?;
            let ratio = centroid.dot(&centroid).sqrt() / spread;
            ratio.is_finite().then(|| (name.clone(), ratio))
        });
        ratios.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// f(T x); nothing where no call is left, or the model fails.
    fn asked(
        &mut self,
        model: &mut dyn Model,
        (sample, element): (usize, &Element),
        inputs: &[Tensor],
        inquiry: &mut Inquiry<'_>,
    ) -> Result<Option<Vec<Value>>, Error> {
        if inquiry.left == 0 || self.spent(LAST) {
            return Ok(None);
        }
        inquiry.left -= 1;
        let given: Evaluation = self.calls.evaluate_at("diagnosis", model, sample, Some(element), inputs)?;
        Ok(given.ok())
    }

    /// Pairs that violate, the worst of each output first and of different samples, and some that do not.
    fn witnesses(
        &mut self,
        model: &mut dyn Model,
        evidence: &Evidence,
        inquiry: &mut Inquiry<'_>,
    ) -> Result<Vec<Witness>, Error> {
        let usable = |record: &&Record| {
            !record.interpolated && record.fingerprint.is_some() && record.failure.iter().all(Option::is_none)
        };
        let judged = inquiry.judged;
        let violates = |record: &Record, o: usize| judged[o].error(record, o) > judged[o].allowance;
        let mut chosen: Vec<&Record> = Vec::new();
        for &o in &inquiry.broken {
            let mut worst: Vec<&Record> =
                evidence.records.iter().filter(usable).filter(|record| violates(record, o)).collect();
            let size = |record: &Record| judged[o].error(record, o);
            worst.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.place.cmp(&b.place)));
            // Of each part of the group and each sample one, then the rest.
            let mut seen = BTreeSet::new();
            let (first, rest): (Vec<_>, Vec<_>) =
                worst.into_iter().partition(|record| seen.insert((record.part, record.sample)));
            chosen.extend(first.into_iter().chain(rest).take(VIOLATING));
        }
        let holds =
            |record: &&Record| record.kind == HAAR && !inquiry.broken.iter().any(|o| violates(record, *o));
        chosen.extend(evidence.records.iter().filter(usable).filter(holds).take(OTHERS));
        let mut places = BTreeSet::new();
        chosen.retain(|record| places.insert(record.place));
        let mut witnesses = Vec::new();
        for record in chosen {
            let element = self.element_of(record);
            let inputs = self.transformed(record.sample, &element, inquiry.wide)?;
            let Some(values) = self.asked(model, (record.sample, &element), &inputs, inquiry)? else {
                continue;
            };
            let violates = (0..judged.len()).map(|o| violates(record, o)).collect();
            witnesses.push(Witness { sample: record.sample, element, values, violates });
        }
        Ok(witnesses)
    }

    /// The value of an output on a sample as it was given.
    fn base_of(&self, sample: usize, o: usize, wide: bool) -> &Value {
        let case = &self.cases[sample];
        let base = case.double.as_ref().filter(|_| wide).unwrap_or(&case.base);
        &base[o]
    }

    /// The largest error of an output over witnesses by another layout, or by the inverse; `None` where that does not
    /// apply to one of them.
    fn error_by(
        &self,
        witnesses: &[Witness],
        o: usize,
        wide: bool,
        layout: Option<&Layout>,
        inverse: bool,
    ) -> Option<f64> {
        let mut worst: f64 = 0.0;
        for witness in witnesses {
            let base = self.base_of(witness.sample, o, wide);
            let value = &witness.values[o];
            if value.shape != base.shape {
                return None;
            }
            let bound = match layout {
                None => self.cases[witness.sample].outputs[o].clone(),
                Some(layout) => self.bound_to(layout, &base.shape, witness.sample)?,
            };
            let element = if inverse { witness.element.inverse() } else { witness.element.clone() };
            worst = worst.max(relative_error(&bound, None, &element, &base.values, &value.values)?);
        }
        Some(worst)
    }

    /// Outputs by other layouts than the declared ones.
    fn other_layouts(&self, witnesses: &[Witness], inquiry: &mut Inquiry<'_>) {
        let wide = inquiry.wide;
        for o in inquiry.broken.clone() {
            if !witnesses.iter().any(|witness| witness.violates[o]) {
                continue;
            }
            let Some(before) = self.error_by(witnesses, o, wide, None, false) else { continue };
            let allowed = inquiry.allowed(o, before);
            let (name, declared) = self.outputs()[o];
            let shape = self.base_of(0, o, wide).shape.clone();
            let mut candidates = alternatives(declared, &shape, self.specification.group());
            // Without the group's own order the inverse is told apart from a representation.
            let inverse = Other {
                layout: declared.clone(),
                variation: Variation::Inverse,
                words: Some(format!("`{declared}` of the inverse")),
            };
            candidates.push(inverse);
            for other in candidates {
                inquiry.found.tried += 1;
                // All that is declared at the inverse element, or a user's own function alone.
                let whole = other.layout == *declared;
                let layout = (!whole).then_some(&other.layout);
                let Some(after) = self.error_by(witnesses, o, wide, layout, whole) else { continue };
                if after <= allowed {
                    inquiry.found.alternatives.push(Alternative {
                        outputs: vec![name.to_owned()],
                        input: false,
                        name: name.to_owned(),
                        declared: declared.to_string(),
                        holds_as: other.name(),
                        variation: other.variation,
                        before,
                        after,
                        pairs: witnesses.len(),
                    });
                    break;
                }
            }
        }
    }

    /// Inputs that should have been transformed, or otherwise.
    fn other_inputs(
        &mut self,
        model: &mut dyn Model,
        witnesses: &[Witness],
        inquiry: &mut Inquiry<'_>,
    ) -> Result<(), Error> {
        let explained: Vec<String> =
            inquiry.found.alternatives.iter().flat_map(|found| found.outputs.clone()).collect();
        let outputs = self.outputs();
        let broken: Vec<usize> = inquiry
            .broken
            .iter()
            .copied()
            .filter(|o| !explained.iter().any(|name| name == outputs[*o].0))
            .collect();
        let violating: Vec<&Witness> =
            witnesses.iter().filter(|witness| broken.iter().any(|o| witness.violates[*o])).collect();
        if broken.is_empty() || violating.is_empty() {
            return Ok(());
        }
        let group = self.specification.group();
        let names: Vec<(String, Option<Layout>)> = self.specification.inputs().to_vec();
        for (i, (name, declared)) in names.iter().enumerate() {
            let tensor = &self.cases[0].inputs[i];
            let whole = !tensor.dtype().is_inexact();
            let still = self.cases[0].layouts[i].as_ref().is_none_or(|layout| {
                !group.factors().iter().any(|f| f.permuted_axis().is_none() && layout.is_moved_by(f))
            });
            let shape = tensor.shape().to_vec();
            let candidates = if whole {
                let lengths = self.permuted_lengths_of(0);
                relabelled(declared.as_ref(), &tensor.to_real(), &lengths)
            } else if still {
                transformed(declared.as_ref(), &shape, group)
            } else {
                let declared = declared.as_ref();
                declared.map(|layout| alternatives(layout, &shape, group)).unwrap_or_default()
            };
            // A position that is declared a displacement stays where it is: then nothing is tested any more.
            let tests = |other: &Other| {
                other.variation != Variation::Affine || other.layout.axes().iter().any(Axis::is_affine)
            };
            for other in candidates.into_iter().filter(tests) {
                inquiry.found.tried += 1;
                let errors =
                    self.errors_with_input(model, &violating, (i, &other.layout), &broken, inquiry)?;
                let Some(errors) = errors else { continue };
                let declared = declared.as_ref().map_or_else(|| "None".to_owned(), ToString::to_string);
                inquiry.found.alternatives.push(Alternative {
                    outputs: broken.iter().map(|o| outputs[*o].0.to_owned()).collect(),
                    input: true,
                    name: name.clone(),
                    declared: if declared.is_empty() { "\"\"".to_owned() } else { declared },
                    holds_as: other.name(),
                    variation: other.variation,
                    before: errors.0,
                    after: errors.1,
                    pairs: violating.len(),
                });
                return Ok(());
            }
        }
        Ok(())
    }

    /// The largest error as declared and with an input transformed by another layout, where all broken outputs hold then.
    fn errors_with_input(
        &mut self,
        model: &mut dyn Model,
        witnesses: &[&Witness],
        (i, layout): (usize, &Layout),
        broken: &[usize],
        inquiry: &mut Inquiry<'_>,
    ) -> Result<Option<(f64, f64)>, Error> {
        let (mut before, mut after): (f64, f64) = (0.0, 0.0);
        for witness in witnesses {
            let sample = witness.sample;
            let own = self.inputs(sample, inquiry.wide);
            let Some(bound) = self.bound_to(layout, own[i].shape(), sample) else { return Ok(None) };
            if bound.admits(&witness.element).is_err() || bound.interpolates(&witness.element) {
                return Ok(None);
            }
            let mut inputs = self.transformed(sample, &witness.element, inquiry.wide)?;
            inputs[i] = bound.act(&witness.element, &own[i]);
            let Some(values) = self.asked(model, (sample, &witness.element), &inputs, inquiry)? else {
                return Ok(None);
            };
            for &o in broken {
                let layout = &self.cases[sample].outputs[o];
                let base = self.base_of(sample, o, inquiry.wide);
                let error = |values: &[Value]| {
                    relative_error(layout, None, &witness.element, &base.values, &values[o].values)
                };
                let (Some(own), Some(other)) = (error(&witness.values), error(&values)) else {
                    return Ok(None);
                };
                before = before.max(own);
                after = after.max(other);
                if other > inquiry.allowed(o, own) {
                    return Ok(None);
                }
            }
        }
        Ok(Some((before, after)))
    }

    /// Elements of smaller groups, for each factor that breaks alone.
    fn smaller_groups(&mut self, model: &mut dyn Model, inquiry: &mut Inquiry<'_>) -> Result<(), Error> {
        let group = self.specification.group();
        for (f, factor) in group.factors().into_iter().enumerate() {
            let label = Part::of(group, &factor).name();
            // Outputs with the elements that tell a group which holds from one that does not, and their errors.
            let mut open: Vec<(usize, usize, f64)> = Vec::new();
            for &o in &inquiry.broken {
                let rows = &inquiry.judged[o].factors;
                let Some(row) = rows.iter().find(|row| row.factor == label && row.exceeding > 0) else {
                    continue;
                };
                let share = row.exceeding as f64 / row.pairs as f64;
                let needed = (CHANCE.ln() / (1.0 - share.min(0.99)).ln()).ceil() as usize;
                if needed <= MOST {
                    open.push((o, needed.max(FEWEST), row.max_relative));
                }
            }
            for (k, within) in subgroups_of(&factor).into_iter().enumerate() {
                let asked = open.iter().filter(|(o, _, largest)| {
                    // A leak falls with the shift: it must stay above the noise to be told from none.
                    within != Within::Near || NEAR * largest > inquiry.judged[*o].allowance
                });
                let asked: Vec<(usize, usize)> = asked.map(|(o, count, _)| (*o, *count)).collect();
                let held = self.within(model, &within, &asked, (f * 64 + k) as u64, inquiry)?;
                open.retain(|(o, ..)| !held.contains(o));
            }
        }
        Ok(())
    }

    /// The outputs that hold under so many elements of a smaller group each.
    fn within(
        &mut self,
        model: &mut dyn Model,
        within: &Within,
        asked: &[(usize, usize)],
        stream: u64,
        inquiry: &mut Inquiry<'_>,
    ) -> Result<BTreeSet<usize>, Error> {
        let mut draws = Draws::new(self.options.seed, 0, stream, Purpose::Subgroups);
        // By output: the largest error, and pairs.
        let mut found: BTreeMap<usize, (f64, usize)> = asked.iter().map(|(o, _)| (*o, (0.0, 0))).collect();
        let most = asked.iter().map(|(_, count)| *count).max().unwrap_or(0);
        for n in 0..most {
            let left: Vec<usize> = asked
                .iter()
                .filter(|(o, count)| n < *count && found[o].0 <= inquiry.judged[*o].allowance)
                .map(|(o, _)| *o)
                .collect();
            if left.is_empty() {
                break;
            }
            let sample = n % self.cases.len();
            let Some(element) = self.element_within(within, sample, &mut draws) else { break };
            let Some(errors) = self.errors_at(model, (sample, &element), inquiry)? else { break };
            for o in left {
                let (worst, pairs) = found[&o];
                let Some(error) = errors[o] else { continue };
                found.insert(o, (worst.max(error), pairs + 1));
            }
        }
        let mut held = BTreeSet::new();
        for (o, count) in asked {
            let (error, pairs) = found[o];
            let holds = pairs == *count && error <= inquiry.judged[*o].allowance;
            // What was not tried to the end neither holds nor fails.
            if holds || error > inquiry.judged[*o].allowance {
                let output = self.outputs()[*o].0.to_owned();
                let group = within.name(&self.cases[0].space.grid);
                inquiry.found.subgroups.push(Subgroup { output, group, pairs, error, holds });
            }
            if holds {
                held.insert(*o);
            }
        }
        Ok(held)
    }

    /// All outputs' errors at one element; `None` where it could not be asked.
    fn errors_at(
        &mut self,
        model: &mut dyn Model,
        (sample, element): (usize, &Element),
        inquiry: &mut Inquiry<'_>,
    ) -> Result<Option<Vec<Option<f64>>>, Error> {
        if !self.cases[sample].admits(element) || self.cases[sample].interpolates(element) {
            return Ok(None);
        }
        let inputs = self.transformed(sample, element, inquiry.wide)?;
        let Some(values) = self.asked(model, (sample, element), &inputs, inquiry)? else { return Ok(None) };
        let (errors, failures) = self.errors(sample, element, &Ok(values), inquiry.wide)?;
        let each =
            errors.iter().zip(&failures).map(|(error, failure)| failure.is_none().then_some(error.scaled));
        Ok(Some(each.collect()))
    }

    /// The other of train and eval mode, on the pairs that violate.
    fn other_mode(
        &mut self,
        model: &mut dyn Model,
        witnesses: &[Witness],
        inquiry: &mut Inquiry<'_>,
    ) -> Result<(), Error> {
        let (mode, other) = match model.info().mode.as_str() {
            "eval" => ("train", model.training()),
            "train" => ("eval", model.evaluating()),
            _ => return Ok(()),
        };
        let Ok(mut other) = other else { return Ok(()) };
        // It draws other random numbers, if any, than those that are replayed.
        let replay = self.calls.replay.take();
        let asked = self.in_other_mode(other.as_mut(), mode, witnesses, inquiry);
        self.calls.replay = replay;
        asked
    }

    fn in_other_mode(
        &mut self,
        other: &mut dyn Model,
        mode: &str,
        witnesses: &[Witness],
        inquiry: &mut Inquiry<'_>,
    ) -> Result<(), Error> {
        let outputs = self.outputs();
        let mut errors: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
        let broken = inquiry.broken.clone();
        let violating = witnesses.iter().filter(|w| broken.iter().any(|o| w.violates[*o])).take(FIRST);
        for witness in violating {
            let (sample, element) = (witness.sample, &witness.element);
            let identity = Element::default();
            let plain = self.inputs(sample, inquiry.wide);
            let moved = self.transformed(sample, element, inquiry.wide)?;
            let Some(before) = self.asked(other, (sample, &identity), &plain, inquiry)? else {
                return Ok(());
            };
            let Some(after) = self.asked(other, (sample, element), &moved, inquiry)? else {
                return Ok(());
            };
            for &o in broken.iter().filter(|o| witness.violates[**o]) {
                let layout = &self.cases[sample].outputs[o];
                let error = relative_error(layout, None, element, &before[o].values, &after[o].values);
                let entry = errors.entry(o).or_insert((0.0, 0));
                *entry = (entry.0.max(error.unwrap_or(f64::INFINITY)), entry.1 + 1);
            }
        }
        for (o, (error, pairs)) in errors {
            let holds = error <= inquiry.judged[o].allowance;
            let output = outputs[o].0.to_owned();
            inquiry.found.other_mode.push(OtherMode { output, mode: mode.to_owned(), pairs, error, holds });
        }
        Ok(())
    }

    /// Whether samples of some sizes hold where those of others violate in nearly all pairs.
    fn by_size(&self, evidence: &Evidence, inquiry: &mut Inquiry<'_>) {
        for &o in &inquiry.broken {
            let judged = &inquiry.judged[o];
            let mut rows: BTreeMap<BTreeMap<String, usize>, (usize, usize)> = BTreeMap::new();
            let counts = |record: &&Record| {
                record.kind == HAAR
                    && !record.interpolated
                    && record.fingerprint.is_some()
                    && judged.factors.iter().any(|row| {
                        // A part of the group that never breaks says nothing about sizes.
                        row.exceeding > 0 && row.factor == evidence.parts[record.part].name
                    })
            };
            for record in evidence.records.iter().filter(counts) {
                let case = &self.cases[record.sample];
                let sizes = case.space.axes.iter().chain(&case.space.grid).map(|(k, n)| (k.clone(), *n));
                let row = rows.entry(sizes.chain(grid_sizes(&case.layouts)).collect()).or_default();
                row.0 += 1;
                row.1 += usize::from(judged.error(record, o) > judged.allowance);
            }
            // Were the sizes that hold as the others, they would hold by chance in fewer than 1 % of audits.
            let (pairs, exceeding) = rows
                .values()
                .filter(|(_, exceeding)| *exceeding > 0)
                .fold((0, 0), |(pairs, exceeding), row| (pairs + row.0, exceeding + row.1));
            let share = exceeding as f64 / pairs.max(1) as f64;
            let mut holding = rows.values().filter(|(_, exceeding)| *exceeding == 0).peekable();
            if holding.peek().is_some()
                && pairs >= 2
                && rows.values().all(|(pairs, n)| *n == 0 || *n as f64 >= NEARLY_ALL * *pairs as f64)
                && holding.all(|(pairs, _)| *pairs >= 2 && (1.0 - share).powi(*pairs as i32) < CHANCE)
            {
                let name = self.outputs()[o].0;
                inquiry.found.sizes.extend(rows.into_iter().map(|(sizes, (pairs, exceeding))| SizeRow {
                    output: name.to_owned(),
                    sizes,
                    pairs,
                    exceeding,
                }));
            }
        }
    }

    /// One of its elements; `None` where the sample's grid has none.
    fn element_within(&self, within: &Within, sample: usize, draws: &mut Draws) -> Option<Element> {
        let space = &self.cases[sample].space;
        let identity = space.identity();
        let n = space.dimension;
        let element = match within {
            Within::Axis(axis) => {
                let angle = std::f64::consts::TAU * draws.uniform();
                identity.with_linear(about(*axis, angle))
            }
            Within::RightAngles => identity.with_linear(signed_order(n, draws, true, true, false)),
            Within::Exchanges { improper } => {
                identity.with_linear(signed_order(n, draws, true, false, *improper))
            }
            Within::Mirrors { improper } => {
                identity.with_linear(signed_order(n, draws, false, true, *improper))
            }
            Within::Rotations => {
                let mut matrix = Array2::eye(4);
                matrix.slice_mut(ndarray::s![1.., 1..]).assign(&draws.orthogonal(3, false));
                identity.with_lorentz(matrix)
            }
            Within::Multiples(step) => {
                let mut element = identity;
                for (axis, size) in &space.grid {
                    let most = size / step;
                    if most < 2 {
                        return None;
                    }
                    let shift = step * (1 + draws.below(most - 1));
                    element = element.with_shift(axis, shift as f64);
                }
                (!space.grid.is_empty()).then_some(element)?
            }
            Within::Along(k) => {
                let (axis, size) = space.grid.iter().nth(*k)?;
                if space.grid.len() < 2 || *size < 2 {
                    return None;
                }
                identity.with_shift(axis, (1 + draws.below(size - 1)) as f64)
            }
            Within::Near => {
                let small = NEAR * space.translation_scale;
                let shift = (0..n).map(|_| small * draws.normal()).collect();
                identity.with_translation(shift)
            }
        };
        Some(element)
    }
}

impl Inquiry<'_> {
    /// Up to what error another declaration is right, where the declared one had this.
    fn allowed(&self, o: usize, before: f64) -> f64 {
        self.judged[o].allowance.max(GONE * before)
    }
}

/// Subgroups that are tried, and how their elements are drawn.
#[derive(Debug, Clone, PartialEq)]
enum Within {
    /// Rotations about a coordinate axis.
    Axis(usize),
    /// Quarter turns.
    RightAngles,
    /// Exchanges of the axes, all of which then are treated alike.
    Exchanges { improper: bool },
    /// Mirrors at planes between the axes, or half turns about them.
    Mirrors { improper: bool },
    /// Rotations of space, among Lorentz transformations.
    Rotations,
    /// Shifts of a grid by multiples of this.
    Multiples(usize),
    /// Shifts along one of the grid's axes.
    Along(usize),
    /// Translations that are small against the scale of translations.
    Near,
}

impl Within {
    fn name(&self, grid: &BTreeMap<String, usize>) -> String {
        match self {
            Within::Axis(k) => format!("SO(2) @ {}", ["(1,0,0)", "(0,1,0)", "(0,0,1)"][*k]),
            Within::RightAngles => "quarter turns".to_owned(),
            Within::Exchanges { improper: true } => "exchanges of the axes".to_owned(),
            Within::Exchanges { improper: false } => "thirds of a turn about the diagonals".to_owned(),
            Within::Mirrors { improper: true } => "mirrors of the axes".to_owned(),
            Within::Mirrors { improper: false } => "half turns about the axes".to_owned(),
            Within::Rotations => "SO(3)".to_owned(),
            Within::Multiples(step) => format!("{step}T({})", grid.len()),
            Within::Along(k) => {
                format!("T(1) @ {}", grid.keys().nth(*k).map_or("another axis", String::as_str))
            }
            Within::Near => "small translations".to_owned(),
        }
    }
}

/// Subgroups of a factor that are tried, the largest first.
fn subgroups_of(factor: &Factor) -> Vec<Within> {
    match factor {
        Factor::Linear { dimension: 3, improper } => vec![
            Within::Axis(2),
            Within::Axis(1),
            Within::Axis(0),
            Within::RightAngles,
            // Thirds of a turn about a diagonal: pseudovectors change their sign in single exchanges.
            Within::Exchanges { improper: false },
            Within::Mirrors { improper: *improper },
        ],
        // Half turns and the unit are all proper ones that leave the axes of a plane where they are.
        Factor::Linear { dimension: 2, improper: true } => vec![
            Within::RightAngles,
            Within::Exchanges { improper: true },
            Within::Mirrors { improper: true },
        ],
        Factor::Linear { dimension: 2, .. } => vec![Within::RightAngles],
        Factor::Lorentz { .. } => vec![Within::Rotations],
        Factor::Translation(shift) if shift.along.is_none() => {
            let steps = [2, 3, 4, 8].map(Within::Multiples).into_iter();
            steps.chain([Within::Along(0), Within::Along(1), Within::Near]).collect()
        }
        _ => Vec::new(),
    }
}

/// A rotation about a coordinate axis.
fn about(axis: usize, angle: f64) -> Array2<f64> {
    let (i, j) = ((axis + 1) % 3, (axis + 2) % 3);
    let mut matrix = Array2::eye(3);
    let (sin, cos) = angle.sin_cos();
    (matrix[[i, i]], matrix[[j, j]]) = (cos, cos);
    (matrix[[i, j]], matrix[[j, i]]) = (-sin, sin);
    matrix
}

/// A random matrix, not the unit, that permutes the axes, turns some round, or both; of determinant 1 unless `improper`.
fn signed_order(n: usize, draws: &mut Draws, permutes: bool, flips: bool, improper: bool) -> Array2<f64> {
    loop {
        let mut order: Vec<usize> = (0..n).collect();
        if permutes {
            draws.shuffle(&mut order);
        }
        let mut matrix = Array2::zeros((n, n));
        for (i, j) in order.iter().enumerate() {
            matrix[[i, *j]] = if flips { draws.sign() } else { 1.0 };
        }
        let element = Element::identity(n, &BTreeMap::new()).with_linear(matrix.clone());
        if (improper || element.determinant() > 0.0) && !element.is_identity() {
            return matrix;
        }
    }
}

/// Lengths of the inputs' grid axes.
fn grid_sizes(layouts: &[Option<BoundLayout>]) -> Vec<(String, usize)> {
    let sizes = layouts
        .iter()
        .flatten()
        .flat_map(|layout| layout.grid_sizes().map(|(name, n)| (name.to_owned(), n)).collect::<Vec<_>>());
    sizes.collect()
}
