//! `randomness = "distribution"`: the law of f(T x) against the law of T' f(x), by independent draws.
//!
//! For a few (sample, element) pairs, f is called as often on x as on T x, and the two sets of outputs are compared by
//! the energy distance (`audit/energy.rs`). All tests of a report together raise a false alarm with a probability of
//! at most [`SIGNIFICANCE`] (Holm); what they find must show again on fresh draws, at the same level, so that an
//! alarm without a cause has a probability of at most `SIGNIFICANCE^2` = 1e-6 per audit.

use ndarray::{ArrayD, Axis, Slice};

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::model::{Call, Model};
use crate::report::figure;
use crate::report::{
    Classification, Distribution, DistributionTest, Float64, LawStatistic, Level, Levels, OutputResult,
    Report, Summary, Verdict,
};
use crate::symmetry::{BoundLayout, Element};

use super::super::calls::Value;
use super::super::energy::{Pooled, holm};
use super::super::evidence::Noise;
use super::super::measure::{median, norm};
use super::super::sampling::{Draws, Part, Purpose};
use super::super::statistics::summary;
use super::super::verdict::MARGIN;
use super::super::{Progress, Randomness};
use super::EndToEnd;
use super::randomness::call_failure;

/// Error probability of all first looks together, and of all second looks.
const SIGNIFICANCE: f64 = 1e-3;
/// Calls on each side of a test: enough for a shift of 0.6 of the spread of a single number.
const DRAWS: usize = 150;
/// With fewer, tests are given up for more draws in each.
const FEW_DRAWS: usize = 50;
/// Fewer calls than this on each side test nothing.
const LEAST_DRAWS: usize = 8;
/// Elements of the whole group that are tried; each factor alone comes on top.
const JOINT: usize = 3;
/// Calls by which it is seen whether an output is random at all.
const PROBING: usize = 4;
/// Numbers that the draws of one test may hold (1 GB).
const LARGEST: usize = 1 << 27;
/// A test that would not even find a shift as large as the noise itself says nothing.
const SUFFICIENT: f64 = 1.0;
/// Blocks with less spread than this share of the largest are not blown up beyond it.
const LEAST_SPREAD: f64 = 1e-3;

/// What the tests showed of one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Law {
    distribution: Distribution,
    /// The output's size.
    #[serde(with = "figure")]
    scale: f64,
    /// Norms of the differences of the means, per test, as they were seen.
    shifts: Vec<f64>,
    /// A call that failed, or gave what cannot be compared.
    failure: Option<String>,
    /// Why the calls ended before the plan did: another output failed.
    ended: Option<String>,
    /// Whether the budget ended the tests before a second look.
    unconfirmed: bool,
    /// Whether only elements that need no interpolation could be tried.
    lattice_only: bool,
    /// Pairs.
    planned: usize,
    done: usize,
}

/// A (sample, element) pair whose laws are compared.
#[derive(Debug, Clone)]
struct LawPair {
    sample: usize,
    element: Element,
    part: Part,
    /// Whether a lattice element stands in for one that would interpolate.
    lattice: bool,
}

/// Outputs of one test, one row of numbers per call.
#[derive(Debug, Clone, Default)]
struct Sides {
    /// f(T x).
    moved: Vec<Vec<f64>>,
    /// T' f(x).
    expected: Vec<Vec<f64>>,
    /// Shape of the numbers.
    shape: Vec<usize>,
}

/// Draws of one pair by random output, or why there are none.
enum Drawn {
    Sides(Vec<Sides>),
    /// By which output, if by one alone.
    Failed(Option<usize>, String),
    OutOfTime,
}

/// Figures of one test that its report does not hold.
struct Tested {
    test: DistributionTest,
    spread: f64,
    /// Norm of the difference of the means as it was seen.
    seen: f64,
    /// Smallest difference that would be found: of the values a shift in units of the spread, of second moments a
    /// relative change of the spread.
    detectable: f64,
}

/// What of the outputs a test compares. Noise of the wrong covariance moves single values little, but the sums of their
/// squares over an output much.
const STATISTICS: [LawStatistic; 2] = [LawStatistic::Values, LawStatistic::SecondMoments];

impl EndToEnd<'_> {
    /// Compares laws, if that was asked for; returns whether that judges all outputs.
    pub(super) fn compare_laws(
        &mut self,
        model: &mut dyn Model,
        noise: &[Noise],
        roundoff: f64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<bool, Error> {
        if self.options.randomness != Randomness::Distribution {
            return Ok(false);
        }
        let count = self.outputs().len();
        let floor = |o: usize| noise[o].floor(roundoff);
        let random = self.random_outputs(model, &floor)?;
        self.laws = vec![None; count];
        let names: Vec<&str> = self.outputs().iter().map(|(name, _)| *name).collect();
        if random.is_empty() {
            self.notes.push(
                "`randomness=\"distribution\"`: no output varies over calls by more than rounding explains, so that all were \
                 compared call by call"
                    .to_owned(),
            );
            return Ok(false);
        }
        let fixed: Vec<String> =
            (0..count).filter(|o| !random.contains(o)).map(|o| format!("`{}`", names[o])).collect();
        if !fixed.is_empty() {
            let (verb, were) = if fixed.len() == 1 { ("does", "was") } else { ("do", "were") };
            self.notes.push(format!(
                "{} {verb} not vary over calls and {were} compared call by call, the other outputs by their laws",
                fixed.join(", ")
            ));
        }
        for o in &random {
            // A shift of a thing without a sign or a place has no size.
            if let Some(clause) = self.cases[0].outputs[*o].compared_modulo() {
                return Err(Error::Option {
                    option: "randomness".to_owned(),
                    why: format!(
                        "output `{}` is compared {clause}, which \"distribution\" cannot: declare what does not depend on \
                         it (such as the projector, or differences within the cell), or leave the output out (None)",
                        names[*o]
                    ),
                });
            }
        }
        let mut pairs = self.law_pairs()?;
        let planned = pairs.len();
        let draws = self.law_draws(&mut pairs, &random);
        self.test_laws(model, &pairs, planned, draws, &random, &floor, progress)?;
        Ok(random.len() == count)
    }

    /// Outputs that vary over calls with the same input by more than rounding explains.
    fn random_outputs(
        &mut self,
        model: &mut dyn Model,
        floor: &dyn Fn(usize) -> f64,
    ) -> Result<Vec<usize>, Error> {
        let count = self.outputs().len();
        let mut random = vec![false; count];
        for sample in 0..self.probed {
            let inputs = self.inputs(sample, false);
            let mut first: Option<Vec<Value>> = None;
            for k in 0..PROBING {
                let reset = sample == 0 && k == 0;
                let call = Call { sample, inputs: &inputs, reset_generators: reset, restore_state: true };
                let Ok((outputs, _)) = self.calls.raw("draws", model, &call)? else { continue };
                let Ok(values) = self.calls.pick(outputs) else { continue };
                let Some(before) = &first else {
                    first = Some(values);
                    continue;
                };
                for (o, random) in random.iter_mut().enumerate() {
                    if !values[o].comparable(&before[o]) {
                        *random = true;
                        continue;
                    }
                    let size = norm(&before[o].values).max(self.scales[o].whole);
                    let change = norm(&(&values[o].values - &before[o].values));
                    *random |= change.is_nan() || change > MARGIN * floor(o) * size;
                }
            }
        }
        Ok((0..count).filter(|o| random[*o]).collect())
    }

    /// The whole group on several samples, each factor alone in between.
    fn law_pairs(&self) -> Result<Vec<LawPair>, Error> {
        let mut parts = self.parts();
        parts.extend(std::iter::repeat_n(Part::Joint, JOINT - 1));
        let mut pairs: Vec<LawPair> = Vec::new();
        for (k, part) in parts.into_iter().enumerate() {
            let sample = k % self.cases.len().min(JOINT);
            let mut draws = Draws::new(self.options.seed, sample, k as u64, Purpose::Law);
            let (element, _) = self.moving_element(sample, &part, &mut draws)?;
            if !self.cases[sample].interpolates(&element) {
                pairs.push(LawPair { sample, element, part, lattice: false });
                continue;
            }
            // Interpolated noise has another law, whatever the model.
            let lattice: Vec<Element> = self
                .planned_elements(sample)
                .into_iter()
                .map(|(_, element)| element)
                .filter(|element| !element.is_identity() && !self.cases[sample].interpolates(element))
                .collect();
            if !lattice.is_empty() {
                let element = lattice[k % lattice.len()].clone();
                pairs.push(LawPair { sample, element, part: Part::Joint, lattice: true });
            }
        }
        Ok(pairs)
    }

    /// Calls on each side of a test, by the time and memory there is; too few, and the last pairs are given up.
    fn law_draws(&self, pairs: &mut Vec<LawPair>, random: &[usize]) -> usize {
        let numbers: usize = random.iter().map(|o| self.cases[0].base[*o].values.len()).sum();
        let by_memory = LARGEST / (3 * numbers.max(1));
        let call = self.calls.time.as_secs_f64() / self.calls.by_purpose.values().sum::<u64>().max(1) as f64;
        let left = self.options.budget.map(|budget| {
            // Half of what is left: the second looks, the tests themselves and outputs that are not random need time.
            0.5 * budget.saturating_sub(self.started.elapsed()).as_secs_f64()
        });
        let affordable = |pairs: usize| {
            let calls = left.map_or(f64::INFINITY, |left| left / call.max(1e-9));
            DRAWS.min(by_memory).min((calls / (2 * (pairs + random.len())) as f64) as usize)
        };
        while pairs.len() > 1 && affordable(pairs.len()) < FEW_DRAWS.min(by_memory) {
            pairs.pop();
        }
        affordable(pairs.len()).max(LEAST_DRAWS)
    }

    #[expect(clippy::too_many_arguments, reason = "the plan, in parts")]
    fn test_laws(
        &mut self,
        model: &mut dyn Model,
        pairs: &[LawPair],
        planned: usize,
        draws: usize,
        random: &[usize],
        floor: &dyn Fn(usize) -> f64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let per_pair = random.len() * STATISTICS.len();
        let tests = pairs.len() * per_pair;
        let levels = [SIGNIFICANCE / tests.max(1) as f64, SIGNIFICANCE / random.len() as f64];
        // As many splits as it takes to get below the strictest level of either look, twice over.
        let splits = (2.0 / levels[0].min(levels[1])).ceil() as usize;
        let mut failure = None;
        let mut tested: Vec<(usize, Vec<Tested>)> = Vec::new();
        for (k, pair) in pairs.iter().enumerate() {
            progress(Progress { done: k, planned: pairs.len(), expected: None });
            let sides = match self.draw(model, pair, draws, random)? {
                Drawn::Sides(sides) => sides,
                Drawn::Failed(by, why) => {
                    failure = Some((by, why));
                    break;
                }
                Drawn::OutOfTime => break,
            };
            let mut found = Vec::new();
            for (r, (sides, o)) in sides.iter().zip(random).enumerate() {
                for (s, statistic) in STATISTICS.into_iter().enumerate() {
                    let turn = (k * per_pair + r * STATISTICS.len() + s) as u64;
                    found.push(self.test(pair, sides, *o, statistic, turn, splits, Some(levels), floor(*o)));
                }
            }
            tested.push((k, found));
        }
        progress(Progress { done: tested.len(), planned: pairs.len(), expected: None });
        let p_values: Vec<f64> =
            tested.iter().flat_map(|(_, tests)| tests.iter().map(|t| t.test.p_value)).collect();
        for (k, adjusted) in holm(&p_values).into_iter().enumerate() {
            tested[k / per_pair].1[k % per_pair].test.adjusted_p_value = adjusted;
        }
        let mut laws: Vec<Law> = Vec::new();
        for (r, o) in random.iter().enumerate() {
            let of_output = |statistic: LawStatistic| -> Vec<&Tested> {
                let own = r * STATISTICS.len()..(r + 1) * STATISTICS.len();
                let tests = tested.iter().flat_map(|(_, tests)| &tests[own.clone()]);
                tests.filter(|t| t.test.statistic == statistic).collect()
            };
            let values = of_output(LawStatistic::Values);
            let mut spreads: Vec<f64> = values.iter().map(|t| t.spread).collect();
            let spread = median(&mut spreads);
            let worst = |tests: &[&Tested]| {
                tests.iter().map(|t| t.detectable).reduce(f64::max).unwrap_or(f64::INFINITY)
            };
            let detectable = worst(&values);
            let own =
                tested.iter().flat_map(|(_, tests)| &tests[r * STATISTICS.len()..(r + 1) * STATISTICS.len()]);
            laws.push(Law {
                distribution: Distribution {
                    draws,
                    significance: SIGNIFICANCE,
                    spread,
                    detectable,
                    detectable_relative: detectable * spread / self.law_scale(*o, spread),
                    detectable_spread: worst(&of_output(LawStatistic::SecondMoments)),
                    tests: own.map(|t| t.test.clone()).collect(),
                    second_look: None,
                },
                scale: self.law_scale(*o, spread),
                shifts: values.iter().map(|t| t.seen).collect(),
                failure: failure
                    .as_ref()
                    .filter(|(by, _)| by.is_none_or(|by| by == *o))
                    .map(|(_, why)| why.clone()),
                ended: failure
                    .as_ref()
                    .filter(|(by, _)| by.is_some_and(|by| by != *o))
                    .map(|(_, why)| why.clone()),
                unconfirmed: false,
                lattice_only: pairs.iter().any(|pair| pair.lattice),
                planned,
                done: tested.len(),
            });
        }
        if failure.is_none() {
            self.look_again(model, pairs, &tested, draws, random, splits, floor, &mut laws)?;
        }
        for (law, o) in laws.into_iter().zip(random) {
            self.laws[*o] = Some(law);
        }
        Ok(())
    }

    /// The most significant test of each output again, on fresh draws.
    #[expect(clippy::too_many_arguments, reason = "the plan, in parts")]
    fn look_again(
        &mut self,
        model: &mut dyn Model,
        pairs: &[LawPair],
        tested: &[(usize, Vec<Tested>)],
        draws: usize,
        random: &[usize],
        splits: usize,
        floor: &dyn Fn(usize) -> f64,
        laws: &mut [Law],
    ) -> Result<(), Error> {
        let mut again: Vec<usize> = Vec::new();
        for (r, o) in random.iter().enumerate() {
            let own = r * STATISTICS.len()..(r + 1) * STATISTICS.len();
            let all =
                tested.iter().flat_map(|(k, tests)| tests[own.clone()].iter().map(move |t| (*k, &t.test)));
            // Of equal p values the largest difference.
            let strongest =
                all.filter(|(_, test)| test.adjusted_p_value <= SIGNIFICANCE).max_by(|(_, a), (_, b)| {
                    b.p_value.total_cmp(&a.p_value).then(a.difference.total_cmp(&b.difference))
                });
            let Some((k, test)) = strongest else { continue };
            // Streams of their own, behind those of the first looks.
            let turn = u64::MAX - r as u64;
            match self.draw(model, &pairs[k], draws, &[*o])? {
                Drawn::Sides(sides) => {
                    let statistic = test.statistic;
                    let second =
                        self.test(&pairs[k], &sides[0], *o, statistic, turn, splits, None, floor(*o));
                    laws[r].distribution.second_look = Some(second.test);
                    again.push(r);
                }
                Drawn::Failed(_, why) => laws[r].failure = Some(why),
                Drawn::OutOfTime => laws[r].unconfirmed = true,
            }
        }
        let p_values: Vec<f64> = again
            .iter()
            .map(|r| laws[*r].distribution.second_look.as_ref().map_or(1.0, |test| test.p_value))
            .collect();
        for (r, adjusted) in again.into_iter().zip(holm(&p_values)) {
            if let Some(test) = &mut laws[r].distribution.second_look {
                test.adjusted_p_value = adjusted;
            }
        }
        Ok(())
    }

    /// Calls on x and on T x in turn, from generators that run on.
    fn draw(
        &mut self,
        model: &mut dyn Model,
        pair: &LawPair,
        draws: usize,
        random: &[usize],
    ) -> Result<Drawn, Error> {
        let sample = pair.sample;
        let own = self.inputs(sample, false);
        let moved = self.transformed(sample, &pair.element, false)?;
        let mut sides: Vec<Sides> = vec![Sides::default(); random.len()];
        for _ in 0..draws {
            if self.spent(0.95) {
                return Ok(Drawn::OutOfTime);
            }
            for (inputs, on_x) in [(&own, true), (&moved, false)] {
                let call = Call { sample, inputs, reset_generators: false, restore_state: true };
                let outcome =
                    self.calls.raw("draws", model, &call)?.and_then(|(outputs, _)| self.calls.pick(outputs));
                let values = match outcome {
                    Ok(values) => values,
                    Err(why) if on_x => {
                        let why = format!(
                            "the model raises now and then on sample {sample} as it was given: {why}"
                        );
                        return Ok(Drawn::Failed(None, why));
                    }
                    Err(why) => return Ok(Drawn::Failed(None, call_failure(&why))),
                };
                if let Some((by, why)) = self.incomparable(sample, &values, random, on_x) {
                    return Ok(Drawn::Failed(Some(by), why));
                }
                let values: Vec<ArrayD<f64>> = if on_x {
                    self.acted(sample, &pair.element, &values)?
                } else {
                    values.into_iter().map(|value| value.values).collect()
                };
                for (sides, o) in sides.iter_mut().zip(random) {
                    sides.shape = values[*o].shape().to_vec();
                    let side = if on_x { &mut sides.expected } else { &mut sides.moved };
                    side.push(values[*o].iter().copied().collect());
                }
            }
        }
        Ok(Drawn::Sides(sides))
    }

    /// Why draws of the random outputs cannot be compared with what they were at first.
    fn incomparable(
        &self,
        sample: usize,
        values: &[Value],
        random: &[usize],
        on_x: bool,
    ) -> Option<(usize, String)> {
        let input = if on_x { "an input as it was given" } else { "a transformed input" };
        random.iter().find_map(|o| {
            let (value, base) = (&values[*o], &self.cases[sample].base[*o]);
            let name = self.outputs()[*o].0;
            if !value.comparable(base) {
                let why = format!(
                    "the shape of output `{name}` varies over calls, from {:?} to {:?} on {input}: laws of one shape \
                     alone can be compared",
                    base.shape, value.shape
                );
                return Some((*o, why));
            }
            let finite = value.values.iter().all(|v| v.is_finite());
            (!finite).then(|| (*o, format!("output `{name}` is not finite on {input}")))
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the plan, in parts")]
    fn test(
        &self,
        pair: &LawPair,
        sides: &Sides,
        o: usize,
        statistic: LawStatistic,
        turn: u64,
        splits: usize,
        levels: Option<[f64; 2]>,
        floor: f64,
    ) -> Tested {
        let layout = &self.cases[pair.sample].outputs[o];
        let rounding = MARGIN * MARGIN * floor * self.scales[o].whole;
        let weights = weights(layout, &pair.element, sides, rounding);
        let weighted = Sides {
            moved: times(&sides.moved, &weights),
            expected: times(&sides.expected, &weights),
            shape: sides.shape.clone(),
        };
        let defined: Vec<bool> = weights.iter().map(|w| *w != 0.0).collect();
        let (spread, seen, shift) = means(sides, &defined);
        let mut draws = Draws::new(self.options.seed, o, turn, Purpose::Splits);
        let mut look = |compared: &Sides| {
            let pooled = Pooled::new(&compared.moved, &compared.expected);
            let p_value = pooled.p_value(splits, &mut draws);
            let shifts = pooled.shifts(&mut draws);
            let detectable = levels.map_or(f64::NAN, |levels| shifts.detectable(levels));
            (p_value, detectable, shifts.equivalent(pooled.energy_distance()))
        };
        let (p_value, detectable, difference) = match statistic {
            LawStatistic::Values => look(&weighted),
            LawStatistic::SecondMoments => {
                let moments = Moments::new(layout, &weighted);
                let (p_value, detectable, _) = look(&moments.sides);
                (p_value, detectable * moments.unit, moments.change)
            }
        };
        Tested {
            test: DistributionTest {
                sample: pair.sample,
                element: self.describe(&pair.element),
                factor: pair.part.name(),
                statistic,
                p_value,
                adjusted_p_value: p_value,
                shift: match () {
                    () if shift == 0.0 => 0.0,
                    () if spread == 0.0 => f64::INFINITY,
                    () => shift / spread,
                },
                difference,
            },
            spread,
            seen,
            detectable,
        }
    }

    /// What shifts are compared with: the output's size, or its spread where that is all there is.
    fn law_scale(&self, o: usize, spread: f64) -> f64 {
        let scale = self.scales[o].whole;
        if scale > 0.0 { scale } else { spread.max(f64::MIN_POSITIVE) }
    }
}

impl Law {
    /// The result of an output whose laws were compared, in place of `output`.
    pub(crate) fn judge(
        &self,
        output: OutputResult,
        noise: f64,
        levels: &Levels,
        broken: f64,
    ) -> OutputResult {
        let relative: Vec<f64> = self.shifts.iter().map(|shift| shift / self.scale).collect();
        let vacuous = output
            .vacuity
            .iter()
            .find_map(|row| row.vacuous.as_ref().map(|why| format!("`{}`: {why}", row.factor)));
        let evidence =
            LawEvidence { law: self, vacuous, scale: self.scale, noise, tolerance: output.tolerance };
        let decision = decide(&evidence, broken);
        OutputResult {
            classification: decision.classification,
            verdict: decision.verdict,
            level: level(levels, &decision),
            reason: decision.reason,
            absolute: whole(&self.shifts),
            relative: whole(&relative),
            scaled_max: relative.iter().copied().fold(0.0, f64::max),
            row_quantile: None,
            pulled_back: None,
            violation: decision.violation,
            noise,
            worst: None,
            factors: Vec::new(),
            planned: Vec::new(),
            float64: Float64::NotRequested,
            distribution: Some(self.distribution.clone()),
            ..output
        }
    }

    /// Adds the tests that were done and planned, and the distinct elements among them, to a report's plan.
    pub(crate) fn enter(&self, report: &mut Report) {
        let elements: BTreeSet<&str> =
            self.distribution.tests.iter().map(|test| test.element.as_str()).collect();
        report.plan.pairs += self.done;
        report.plan.planned_pairs += self.planned;
        report.plan.transformations += elements.len();
        if self.done < self.planned && self.failure.is_none() && self.ended.is_none() {
            report
                .notes
                .push(format!("the time budget left {} of {} comparisons of laws", self.done, self.planned));
        }
    }
}

fn whole(values: &[f64]) -> Summary {
    summary(values, values)
}

fn level(levels: &Levels, decision: &LawDecision) -> Level {
    if decision.classification == Classification::Broken {
        Level::Broken
    } else {
        levels.level(decision.violation)
    }
}

/// Factors by which entries are multiplied before they are compared: so that all blocks (irreps) count alike, and
/// entries that the element leaves undefined not at all. Pooled over both sides: exchanging them changes nothing.
fn weights(layout: &BoundLayout, element: &Element, sides: &Sides, rounding: f64) -> Vec<f64> {
    let shape = ndarray::IxDyn(&sides.shape);
    let ones = ArrayD::from_elem(shape.clone(), 1.0);
    let mask = layout.difference(element, &ones, &ArrayD::zeros(shape.clone()));
    let variance = pooled_variances(sides);
    let variance = ArrayD::from_shape_vec(shape.clone(), variance).unwrap_or_else(|_| ones.clone());
    let expanded = layout.expand(&variance);
    let blocks = layout.blocks();
    let slice = |block: &Option<(usize, std::ops::Range<usize>)>| match block {
        None => expanded.sum(),
        Some((axis, range)) => expanded.slice_axis(Axis(*axis), Slice::from(range.clone())).sum(),
    };
    let spreads: Vec<f64> = blocks.iter().map(|block| slice(&block.range).sqrt()).collect();
    let floor =
        (LEAST_SPREAD * spreads.iter().copied().fold(0.0, f64::max)).max(rounding).max(f64::MIN_POSITIVE);
    let mut weights = ArrayD::from_elem(expanded.raw_dim(), 0.0);
    for (block, spread) in blocks.iter().zip(&spreads) {
        let weight = 1.0 / spread.max(floor);
        match &block.range {
            None => weights.fill(weight),
            Some((axis, range)) => {
                weights.slice_axis_mut(Axis(*axis), Slice::from(range.clone())).fill(weight);
            }
        }
    }
    weights.iter().zip(&mask).map(|(weight, mask)| weight * mask).collect()
}

fn times(side: &[Vec<f64>], weights: &[f64]) -> Vec<Vec<f64>> {
    side.iter().map(|row| row.iter().zip(weights).map(|(v, w)| v * w).collect()).collect()
}

/// Components between which all products are formed.
const PRODUCTS: usize = 16;

/// Sums of squares of every draw about the mean of all, along each axis, and of products between the components along
/// the axis of representations.
struct Moments {
    /// Each kind of sum over its own spread.
    sides: Sides,
    /// Half of the largest relative difference of their means, without what chance adds: a relative change of the
    /// spread, as variances grow twice as fast.
    change: f64,
    /// What a shift of these sums by one of their spreads is, as a relative change of the spread.
    unit: f64,
}

impl Moments {
    fn new(layout: &BoundLayout, sides: &Sides) -> Self {
        let (a, b) = (mean(&sides.moved), mean(&sides.expected));
        let centre: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect();
        let kinds = |row: &Vec<f64>| {
            let about: Vec<f64> = row.iter().zip(&centre).map(|(v, c)| v - c).collect();
            let about = ArrayD::from_shape_vec(ndarray::IxDyn(&sides.shape), about);
            about.map_or_else(|_| Vec::new(), |about| second_moments(layout, &layout.expand(&about)))
        };
        let moved: Vec<Vec<Vec<f64>>> = sides.moved.iter().map(kinds).collect();
        let expected: Vec<Vec<Vec<f64>>> = sides.expected.iter().map(kinds).collect();
        let count = moved.first().map_or(0, Vec::len);
        let mut result = Sides {
            moved: vec![Vec::new(); moved.len()],
            expected: vec![Vec::new(); expected.len()],
            shape: Vec::new(),
        };
        let (mut change, mut unit): (f64, f64) = (0.0, 0.0);
        for kind in 0..count {
            let pick = |side: &[Vec<Vec<f64>>]| side.iter().map(|row| row[kind].clone()).collect::<Vec<_>>();
            let own = Sides { moved: pick(&moved), expected: pick(&expected), shape: Vec::new() };
            let defined = vec![true; own.moved.first().map_or(0, Vec::len)];
            let (spread, _, shift) = means(&own, &defined);
            let size = mean(&own.moved)
                .iter()
                .zip(mean(&own.expected))
                .map(|(a, b)| ((a + b) / 2.0).powi(2))
                .sum::<f64>()
                .sqrt();
            if size > 0.0 && spread > 0.0 {
                change = change.max(0.5 * shift / size);
                // Of all kinds together a spread is the root of their number.
                unit = unit.max(0.5 * spread / size * (count as f64).sqrt());
            }
            let unit_spread = pooled_variances(&own).iter().sum::<f64>().sqrt();
            let weights = vec![if unit_spread > 0.0 { 1.0 / unit_spread } else { 1.0 }; defined.len()];
            for (whole, own) in [(&mut result.moved, &own.moved), (&mut result.expected, &own.expected)] {
                for (row, part) in whole.iter_mut().zip(times(own, &weights)) {
                    row.extend(part);
                }
            }
        }
        Self { sides: result, change, unit }
    }
}

/// Sums along each axis that has more than one entry; along the axis of representations also of products, for a
/// covariance that is turned is known by both alone.
fn second_moments(layout: &BoundLayout, values: &ArrayD<f64>) -> Vec<Vec<f64>> {
    let squares = values.mapv(|v| v * v);
    let products = |axis: usize| {
        let n = values.shape()[axis];
        let along = |k: usize| values.index_axis(Axis(axis), k);
        let pairs: Vec<(usize, usize)> = if layout.component_axis() == Some(axis) && n <= PRODUCTS {
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).collect()
        } else {
            Vec::new()
        };
        pairs.into_iter().map(|(i, j)| (&along(i) * &along(j)).sum()).collect::<Vec<f64>>()
    };
    let kinds: Vec<Vec<f64>> = (0..values.ndim())
        .filter(|axis| values.shape()[*axis] > 1)
        .map(|axis| {
            let sums = squares.axis_iter(Axis(axis)).map(|slice| slice.sum());
            sums.chain(products(axis)).collect()
        })
        .collect();
    if kinds.is_empty() { vec![vec![squares.sum()]] } else { kinds }
}

/// Variance of each entry about the mean of all draws: what is weighed by it stays exchangeable between the sides, as
/// the permutation test asks.
fn pooled_variances(sides: &Sides) -> Vec<f64> {
    let all: Vec<Vec<f64>> = sides.moved.iter().chain(&sides.expected).cloned().collect();
    let mean = mean(&all);
    let mut sums = vec![0.0; mean.len()];
    for row in &all {
        for (sum, (v, m)) in sums.iter_mut().zip(row.iter().zip(&mean)) {
            *sum += (v - m) * (v - m);
        }
    }
    sums.iter().map(|sum| sum / (all.len() as f64 - 1.0).max(1.0)).collect()
}

/// Variance of each entry about the mean of its side, both sides together.
fn variances(sides: &Sides) -> Vec<f64> {
    let width = sides.moved.first().map_or(0, Vec::len);
    let mut sums = vec![0.0; width];
    let mut degrees = 0.0;
    for side in [&sides.moved, &sides.expected] {
        let mean = mean(side);
        for row in side {
            for (sum, (v, m)) in sums.iter_mut().zip(row.iter().zip(&mean)) {
                *sum += (v - m) * (v - m);
            }
        }
        degrees += side.len() as f64 - 1.0;
    }
    sums.iter().map(|sum| sum / degrees.max(1.0)).collect()
}

fn mean(side: &[Vec<f64>]) -> Vec<f64> {
    let n = side.len() as f64;
    let mut mean = vec![0.0; side.first().map_or(0, Vec::len)];
    for row in side {
        for (sum, v) in mean.iter_mut().zip(row) {
            *sum += v / n;
        }
    }
    mean
}

/// Root mean square distance from the mean, the distance of the two means as it was seen, and without what chance adds
/// to it: the variances of both means. In the output's own unit, over entries that are defined.
fn means(sides: &Sides, defined: &[bool]) -> (f64, f64, f64) {
    let pick = |values: Vec<f64>| -> f64 {
        values.iter().zip(defined).filter(|(_, defined)| **defined).map(|(v, _)| v).sum()
    };
    let variance = pick(variances(sides));
    let (a, b) = (mean(&sides.moved), mean(&sides.expected));
    let square = pick(a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).collect());
    let chance = variance * 2.0 / sides.moved.len() as f64;
    (variance.sqrt(), square.sqrt(), (square - chance).max(0.0).sqrt())
}

/// What is known about the law of one output.
struct LawEvidence<'a> {
    law: &'a Law,
    vacuous: Option<String>,
    /// The output's size.
    scale: f64,
    /// Noise floor, relative.
    noise: f64,
    tolerance: Option<f64>,
}

struct LawDecision {
    classification: Classification,
    verdict: Verdict,
    violation: f64,
    reason: String,
}

/// From tests to class and verdict. A difference is broken from `broken` on, approximate below (DESIGN 5). A shift of
/// the mean is measured like any other error of the output, against the output's size. Where the means agree, the
/// difference is one of the noise, whose own size is its spread: against that it is measured.
fn decide(evidence: &LawEvidence<'_>, broken: f64) -> LawDecision {
    let Law { distribution, .. } = evidence.law;
    let decision = |classification, verdict, violation, reason| LawDecision {
        classification,
        verdict,
        violation,
        reason,
    };
    let undetermined =
        |reason: String| decision(Classification::Undetermined, Verdict::NeedsAttention, 0.0, reason);
    if let Some(failure) = &evidence.law.failure {
        return decision(Classification::Broken, Verdict::Fail, f64::INFINITY, failure.clone());
    }
    let first = distribution.tests.iter().map(|test| test.adjusted_p_value).fold(1.0, f64::min);
    if evidence.law.unconfirmed {
        return undetermined(format!(
            "the laws of f(T x) and T' f(x) differ (p = {first:.1e}), but the time budget ended before this could be \
             seen again on fresh draws: raise `budget`"
        ));
    }
    let not_again =
        match distribution.second_look.as_ref().map(|second| seen_again(evidence, second, first, broken)) {
            None => String::new(),
            Some(Ok(decision)) => return decision,
            Some(Err(why)) => why,
        };
    if let Some(why) = &evidence.vacuous {
        return undetermined(format!("vacuous: {why}"));
    }
    if let Some(why) = &evidence.law.ended {
        return undetermined(format!("the comparison of laws ended early: {why}"));
    }
    let Distribution { draws, detectable, detectable_relative, detectable_spread, .. } = distribution;
    let tests = distribution.tests.len();
    if tests == 0 {
        return undetermined(
            "no two laws were compared: the time budget left no test, or every element would interpolate a grid; \
             raise `budget`, audit under the group of the lattice"
                .to_owned(),
        );
    }
    let seen = format!(
        "no difference between the laws of f(T x) and T' f(x) in {tests} tests of {draws} draws a side (least p = \
         {first:.1e} for all together){not_again}"
    );
    if *detectable > SUFFICIENT {
        let power = if detectable.is_finite() {
            format!("shifts below {detectable:.1e} of the output's spread over draws")
        } else {
            "shifts of any size".to_owned()
        };
        return undetermined(format!(
            "{seen}; but {power} would have been missed more often than in 20 % of audits: raise `budget`"
        ));
    }
    if evidence.law.lattice_only {
        return undetermined(format!(
            "{seen}; but only elements that move pixels onto pixels could be tried, interpolated noise having another \
             law: audit under the group of the lattice (`C4`, `D4`, `Oh`) for a verdict"
        ));
    }
    decision(
        Classification::Consistent,
        Verdict::Pass,
        0.0,
        format!(
            "{seen}; a shift of {detectable:.1e} of the output's spread over draws ({detectable_relative:.1e} of the \
             output), or a change of that spread by {detectable_spread:.1e} of itself, would have been found with a \
             probability of 80 %"
        ),
    )
}

/// The decision on a difference that showed on fresh draws, or why it does not count.
fn seen_again(
    evidence: &LawEvidence<'_>,
    second: &DistributionTest,
    first: f64,
    broken: f64,
) -> Result<LawDecision, String> {
    if second.adjusted_p_value > SIGNIFICANCE {
        return Err(format!(
            "; a difference (p = {first:.1e}) did not show again on fresh draws (p = {:.1e})",
            second.adjusted_p_value
        ));
    }
    let relative = evidence.law.distribution.spread / evidence.scale;
    let in_mean = second.shift * relative;
    let size = second.shift.max(second.difference) * relative;
    if size <= MARGIN * evidence.noise {
        return Err(format!("; a difference of {size:.1e} of the output is rounding"));
    }
    let difference = second.difference;
    let (violation, seen) = match second.statistic {
        _ if second.is_of_mean() => (
            in_mean,
            format!(
                "the mean over draws moves by {in_mean:.1e} of the output, {:.1e} of its spread",
                second.shift
            ),
        ),
        LawStatistic::Values => (
            in_mean.max(difference),
            format!("not in its mean alone, as much as by a shift of {difference:.1e} of the spread"),
        ),
        LawStatistic::SecondMoments => {
            (in_mean.max(difference), format!("the spread over draws changes by {difference:.1e} of itself"))
        }
    };
    let seen = format!(
        "the law of f(T x) is not that of T' f(x): {seen} (p = {first:.1e} for all tests together, {:.1e} again on fresh \
         draws)",
        second.adjusted_p_value
    );
    let (classification, verdict, reason) = match evidence.tolerance {
        _ if violation >= broken || violation.is_nan() => (Classification::Broken, Verdict::Fail, seen),
        Some(tolerance) if violation < tolerance && evidence.vacuous.is_none() => (
            Classification::Approximate,
            Verdict::Pass,
            format!("{seen}; below the given tolerance {tolerance:.1e}"),
        ),
        _ => (Classification::Approximate, Verdict::NeedsAttention, seen),
    };
    Ok(LawDecision { classification, verdict, violation, reason })
}
