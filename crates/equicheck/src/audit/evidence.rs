//! Everything that a report is made from, apart from the model and its inputs: what the pairs and the probes showed.
//!
//! [`Evidence::report`] is a pure function of it, so that shards of one audit that were run apart merge into the report
//! of the whole.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::diagnosis;
use crate::report::figure;
use crate::report::{
    Bound, CompositionRow, ExecutedPlan, FORMAT_VERSION, FactorRow, Float64, GradientRow, Inquiries,
    InterpolationControl, LayerStage, Levels, ModelInfo, OutputResult, PlannedRow, Repeatability, Report,
    Rows, Shard, Stop, StressRow, SymmetryType, Timings, TransformRow, VacuityRow, Verdict, WorstCase,
    quality,
};
use crate::symmetry::Group;

use super::end_to_end::laws::Law;
use super::measure;
use super::precision::Proof;
use super::statistics::{clopper_pearson_upper, confidence_sequence_upper, maximum, summary};
use super::verdict::{self, Decision, Double, decide};

/// Confidence of all bounds of one report together.
pub(crate) const CONFIDENCE: f64 = 0.95;
/// Fewer Haar-drawn pairs than this for any part of the group bound its violating share by no better than two
/// fifths at 95 % confidence: a budget that cuts below it leaves the audit undetermined.
const LEAST_PAIRS: usize = 11;
/// The kind of pairs that enter means, quantiles and bounds.
pub(crate) const HAAR: &str = "haar";

/// A part of the group that is tested on its own: all factors together, or one alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    /// `joint`, or the factor's group string.
    pub(crate) name: String,
    /// Whether its elements of determinant -1 get a row of their own.
    pub(crate) improper: bool,
    /// Number of elements where they are enumerated.
    pub(crate) order: Option<usize>,
}

/// What one pair showed, per output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Position in the plan.
    pub(crate) place: usize,
    pub(crate) sample: usize,
    pub(crate) index: u64,
    /// Position among the parts of the group.
    pub(crate) part: usize,
    pub(crate) kind: Cow<'static, str>,
    /// +1 or -1.
    #[serde(with = "figure")]
    pub(crate) determinant: f64,
    /// Tells elements apart; `None` for the identity.
    pub(crate) fingerprint: Option<u64>,
    /// Whether some grid had to be interpolated: its error is not the model's alone.
    pub(crate) interpolated: bool,
    /// By how much the element enlarges rounding: e^(2 rapidity) (METHOD 2).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) stretch: f64,
    pub(crate) working: Vec<measure::Error>,
    pub(crate) double: Option<Vec<measure::Error>>,
    pub(crate) failure: Vec<Option<String>>,
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, clippy::float_cmp, reason = "serde's signature; 1 is exact")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// Noise figures of one output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// In the precision under audit: moves of one unit in the last place.
    #[serde(with = "figure")]
    pub(crate) rounding: f64,
    #[serde(with = "figure")]
    pub(crate) double: f64,
    #[serde(with = "figure")]
    pub(crate) constants: f64,
    pub(crate) discontinuous: bool,
    /// Relative difference of the two precisions on equal inputs.
    #[serde(with = "figure")]
    pub(crate) precisions_differ: f64,
    #[serde(with = "figure")]
    pub(crate) repeat_double: f64,
}

/// Two precisions of one function differ by rounding; more than a tenth is another function.
const ANOTHER_FUNCTION: f64 = 0.1;

impl Noise {
    /// What moves of one unit in the last place explain, and at least two roundoffs.
    pub(crate) fn floor(&self, roundoff: f64) -> f64 {
        self.rounding.max(2.0 * roundoff)
    }

    /// Noise of the precision under audit: where double precision `counts`, with all the rounding that it shows.
    pub(crate) fn working(&self, roundoff: f64, counts: bool) -> f64 {
        self.floor(roundoff).max(if counts { self.precisions_differ } else { 0.0 })
    }

    /// Whether the double-precision copy computes the same function as the model.
    pub(crate) fn same_function(&self) -> bool {
        self.precisions_differ <= ANOTHER_FUNCTION
    }

    /// The double-precision side of a decision, for these errors.
    pub(crate) fn in_double(&self, scaled: f64, relative: f64) -> Double {
        Double {
            scaled,
            relative,
            noise: self.double.max(2f64.powi(-52)),
            constants: self.constants,
            repeat: self.repeat_double,
        }
    }

    /// The larger of both, figure by figure.
    pub(crate) fn join(&mut self, other: &Self) {
        self.rounding = self.rounding.max(other.rounding);
        self.double = self.double.max(other.double);
        self.constants = self.constants.max(other.constants);
        self.discontinuous |= other.discontinuous;
        self.precisions_differ = self.precisions_differ.max(other.precisions_differ);
        self.repeat_double = self.repeat_double.max(other.repeat_double);
    }
}

/// Where the double-precision comparison stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DoubleStatus {
    Available,
    /// From this place of the plan on.
    Failed(usize, String),
    Unavailable(String),
    NotRequested,
}

/// What the probes showed of one output, and what was declared of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OutputRecord {
    pub(crate) name: String,
    pub(crate) layout: String,
    pub(crate) invariant: bool,
    /// Median norm over the base inputs.
    #[serde(with = "figure")]
    pub(crate) scale: f64,
    /// Measured beside the pairs; what the worst pairs add is in `refined`.
    pub(crate) noise: Noise,
    pub(crate) proof: Proof,
    pub(crate) repeatability: Repeatability,
    pub(crate) vacuity: Vec<VacuityRow>,
    /// Why it is a mere copy of an input, if it is.
    pub(crate) copied: Option<String>,
    /// Errors on inputs that are known between pixels, where elements interpolate a grid.
    #[serde(default)]
    pub(crate) interpolation: Option<InterpolationControl>,
    #[serde(with = "figure::optional")]
    pub(crate) tolerance: Option<f64>,
    /// The comparison of laws, where there was one.
    pub(crate) law: Option<Law>,
}

/// What was seen at one pair that is the worst of its run in some respect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorstRecord {
    pub(crate) place: usize,
    /// The element in words.
    pub(crate) element: String,
    /// Noise there, per output; nothing where it was not asked for.
    pub(crate) noise: Vec<Noise>,
}

/// All that a report is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub(crate) shard: Shard,
    /// Version of the writer, and every option that shapes what is measured.
    pub(crate) settings: String,
    /// Pairs of the whole plan.
    pub(crate) whole: usize,
    pub(crate) group: String,
    /// Whether the group is a custom action's, whose name says nothing.
    pub(crate) custom: bool,
    /// Whether translations shift a grid, rather than points.
    pub(crate) grids: bool,
    pub(crate) parts: Vec<PartRecord>,
    pub(crate) seed: u64,
    /// What became of random numbers that the model draws.
    pub(crate) randomness: Option<String>,
    /// Whether they were recorded and replayed.
    pub(crate) replayed: bool,
    /// Rattled copies included.
    pub(crate) samples: usize,
    /// By rattled copy, the last of the samples: of which sample.
    pub(crate) rattled: Vec<usize>,
    pub(crate) composition: Rows<CompositionRow>,
    pub(crate) stress: Rows<StressRow>,
    pub(crate) layers: LayerStage,
    #[serde(default)]
    pub(crate) gradients: Rows<GradientRow>,
    #[serde(default)]
    pub(crate) inquiries: Inquiries,
    /// Pairs of the plan that are this shard's.
    pub(crate) planned: usize,
    pub(crate) stop: Stop,
    /// Pairs that one call evaluated, at most.
    #[serde(default = "crate::report::one")]
    pub(crate) batch: usize,
    pub(crate) translation_scale: f64,
    pub(crate) roundoff: f64,
    /// Scaled to the precision under audit.
    pub(crate) levels: Levels,
    /// What a violation is judged by, in any precision.
    pub(crate) broken: f64,
    pub(crate) transforms: Vec<TransformRow>,
    pub(crate) outputs: Vec<OutputRecord>,
    pub(crate) double: DoubleStatus,
    pub(crate) records: Vec<Record>,
    pub(crate) worst: Vec<WorstRecord>,
    /// Inputs that the model wrote to.
    pub(crate) written: Vec<String>,
    pub(crate) not_audited: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) model: ModelInfo,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) calls_by_purpose: BTreeMap<String, u64>,
    /// Not compared, and summed over shards.
    pub(crate) timings: Timings,
}

/// How one output's errors are judged.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    /// Whether it shows a violation.
    pub(crate) violates: bool,
    /// Whether in double precision.
    pub(crate) wide: bool,
    /// Up to what error at the output's scale noise explains a pair.
    pub(crate) allowance: f64,
    pub(crate) factors: Vec<FactorRow>,
}

impl Judgement {
    /// A pair's error at the output's scale, as far as it was measured in the precision that counts.
    pub(crate) fn error(&self, record: &Record, o: usize) -> f64 {
        let wide = record.double.as_ref().filter(|_| self.wide);
        wide.unwrap_or(&record.working)[o].scaled
    }
}

/// One figure of an output's error.
type FigureOf = fn(&measure::Error) -> f64;

impl Evidence {
    /// Pairs that are the worst of some output, by the raw error that the report quotes.
    pub(crate) fn quoted(&self, o: usize) -> Option<&Record> {
        let size = |r: &&Record| {
            let error = r.working[o].relative;
            if error.is_nan() { f64::INFINITY } else { error }
        };
        let worst = self.records.iter().filter(|r| size(r) > 0.0);
        // The first of equals, whatever the order in which shards come.
        worst.max_by(|a, b| size(a).total_cmp(&size(b)).then(b.place.cmp(&a.place)))
    }

    /// Places of the pairs whose noise is measured again: an ill-conditioned input is judged by its own noise.
    pub(crate) fn ill_conditioned(&self) -> BTreeSet<usize> {
        let scaled: FigureOf = |error| error.scaled;
        let mut places = BTreeSet::new();
        for o in 0..self.outputs.len() {
            let of_working = |r: &Record| scaled(&r.working[o]);
            let of_double = |r: &Record| r.double.as_ref().map_or(0.0, |d| scaled(&d[o]));
            let figures: [&dyn Fn(&Record) -> f64; 2] = [&of_working, &of_double];
            for figure in figures {
                let usable = self.records.iter().filter(|r| figure(r).is_finite() && figure(r) > 0.0);
                let worst = usable.max_by(|a, b| figure(a).total_cmp(&figure(b)).then(b.place.cmp(&a.place)));
                places.extend(worst.map(|record| record.place));
            }
        }
        places
    }

    /// Places of all pairs that are described in words.
    pub(crate) fn noteworthy(&self) -> BTreeSet<usize> {
        let quoted = (0..self.outputs.len()).filter_map(|o| self.quoted(o).map(|r| r.place));
        self.ill_conditioned().into_iter().chain(quoted).collect()
    }

    /// The record at a place of the plan.
    pub(crate) fn at(&self, place: usize) -> Option<&Record> {
        self.records.iter().find(|record| record.place == place)
    }

    /// By output, with what the worst pairs add.
    fn noise(&self) -> Vec<Noise> {
        let places = self.ill_conditioned();
        let mut noise: Vec<Noise> = self.outputs.iter().map(|output| output.noise).collect();
        for worst in self.worst.iter().filter(|worst| places.contains(&worst.place)) {
            for (slot, there) in noise.iter_mut().zip(&worst.noise) {
                slot.join(there);
            }
        }
        noise
    }

    fn float64(&self, o: usize, noise: &Noise) -> Float64 {
        let decisive: Vec<&Record> = self.records.iter().filter(|r| !r.interpolated).collect();
        let relative = |r: &Record| r.double.as_ref().map_or(f64::NAN, |d| d[o].relative);
        match (&self.double, &self.outputs[o].proof) {
            (DoubleStatus::NotRequested, _) => Float64::NotRequested,
            (DoubleStatus::Unavailable(reason) | DoubleStatus::Failed(_, reason), _) => {
                Float64::Unavailable { reason: reason.clone() }
            }
            (_, Proof::Drops { input, effective_precision }) => {
                Float64::Void { effective_precision: *effective_precision, input: input.clone() }
            }
            _ if !noise.same_function() => Float64::Unavailable {
                reason: format!(
                    "the double-precision copy computes another function: the two differ by {:.1e} on equal inputs",
                    noise.precisions_differ
                ),
            },
            _ => {
                let haar: Vec<f64> = self.haar().filter(|r| !r.interpolated).map(&relative).collect();
                Float64::Available {
                    max_relative: maximum(&decisive.iter().map(|r| relative(r)).collect::<Vec<_>>()),
                    mean_relative: summary(&haar, &[]).mean,
                    noise: noise.double,
                    constants: noise.constants,
                }
            }
        }
    }

    fn haar(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.kind == HAAR)
    }

    /// What decides about one output.
    fn gathered(&self, o: usize, noise: &Noise) -> (verdict::Evidence, Float64) {
        let output = &self.outputs[o];
        let float64 = self.float64(o, noise);
        let counts = float64.counts();
        let of = |interpolated: bool, figure: &dyn Fn(&Record) -> f64| {
            let chosen = self.records.iter().filter(|r| r.interpolated == interpolated);
            maximum(&chosen.map(figure).collect::<Vec<_>>())
        };
        let double =
            |figure: FigureOf| move |r: &Record| r.double.as_ref().map_or(f64::NAN, |d| figure(&d[o]));
        let vacuous = output
            .vacuity
            .iter()
            .find_map(|row| row.vacuous.as_ref().map(|why| format!("`{}`: {why}", row.factor)))
            .or_else(|| output.copied.clone());
        let evidence = verdict::Evidence {
            failure: self.records.iter().find_map(|r| r.failure[o].clone()),
            scaled: of(false, &|r| r.working[o].scaled),
            at_rest: of(false, &|r| r.working[o].scaled / r.stretch),
            relative: of(false, &|r| r.working[o].relative),
            noise: noise.working(self.roundoff, counts),
            rounding: noise.floor(self.roundoff),
            repeat: output.repeatability.seeded.max(output.repeatability.unseeded),
            double: counts.then(|| {
                noise.in_double(of(false, &double(|e| e.scaled)), of(false, &double(|e| e.relative)))
            }),
            vacuous,
            interpolated: self
                .records
                .iter()
                .any(|r| r.interpolated)
                .then(|| of(true, &|r| r.working[o].relative)),
            control: output.interpolation.clone(),
            cut_short: self.cut_short(),
            tolerance: output.tolerance,
        };
        (evidence, float64)
    }

    /// Class and verdict of every output, on what is known so far.
    pub(crate) fn decisions(&self) -> Vec<Decision> {
        let decided = self.noise().into_iter().enumerate().map(|(o, noise)| self.decided(o, &noise).0);
        decided.collect()
    }

    /// By output: how its errors are judged, pair by pair.
    pub(crate) fn judgements(&self) -> Vec<Judgement> {
        let judged = self.noise().into_iter().enumerate().map(|(o, noise)| {
            let (decision, _, float64) = self.decided(o, &noise);
            let wide = float64.counts();
            let factors = self.factor_rows(o, &decision, wide);
            let violates = self.outputs[o].law.is_none()
                && decision.classification.is_violation()
                && decision.violation.is_finite();
            Judgement { violates, wide, allowance: decision.allowance, factors }
        });
        judged.collect()
    }

    fn decided(&self, o: usize, noise: &Noise) -> (Decision, verdict::Evidence, Float64) {
        let (evidence, float64) = self.gathered(o, noise);
        (decide(&evidence, &self.levels, self.broken), evidence, float64)
    }

    /// Whether a budget left any part of the group with too few pairs to say anything.
    fn cut_short(&self) -> Option<String> {
        if self.stop != Stop::Budget {
            return None;
        }
        self.parts.iter().enumerate().find_map(|(k, part)| {
            let pairs = self.haar().filter(|r| r.part == k).count();
            (pairs < LEAST_PAIRS).then(|| {
                format!(
                    "the time budget left {pairs} pairs for {}, fewer than the {LEAST_PAIRS} that bound anything: raise \
                     `budget`",
                    part.name
                )
            })
        })
    }

    /// The largest upper bound of the report on a share of the group that violates.
    pub(crate) fn largest_share(&self) -> f64 {
        self.share_bounds().into_iter().fold(0.0, f64::max)
    }

    /// All upper bounds of the report.
    fn share_bounds(&self) -> Vec<f64> {
        let rows = self.noise().into_iter().enumerate().flat_map(|(o, noise)| {
            let (decision, _, float64) = self.decided(o, &noise);
            self.factor_rows(o, &decision, float64.counts())
        });
        rows.map(|row| row.share_bound).collect()
    }

    /// Rows for all parts of the group; for a group with reflections also by the sign of the determinant.
    fn factor_rows(&self, o: usize, decision: &Decision, counts: bool) -> Vec<FactorRow> {
        let double = |r: &Record, figure: FigureOf| r.double.as_ref().map_or(f64::NAN, |d| figure(&d[o]));
        let judged = |r: &Record| {
            let scaled: FigureOf = |error| error.scaled;
            if counts { double(r, scaled) } else { scaled(&r.working[o]) }
        };
        // All bounds of the report hold together: each gets its part of the error probability.
        let split = self.parts.iter().filter(|part| part.improper).count();
        let kinds = if self.rattled.is_empty() { 0 } else { 2 };
        let bounds = (self.parts.len() + 2 * split + kinds) * self.outputs.len();
        let alpha = (1.0 - CONFIDENCE) / bounds as f64;
        let row = |label: String, records: &[&Record], order: Option<usize>| {
            let relative: Vec<f64> = records.iter().map(|r| r.working[o].relative).collect();
            // Interpolated pairs are judged together, by their control: neither do they exceed nor do they hold.
            let interpolated = records.iter().any(|r| r.interpolated);
            let exceeding =
                records.iter().filter(|r| !r.interpolated && exceeds(judged(r), decision.allowance)).count();
            let (bound, share_bound) = match order {
                _ if interpolated => (Bound::Interpolated, 1.0),
                // Every element on every sample: nothing is left to chance.
                Some(order) if exhausted(records, order * self.samples) => {
                    let distinct: BTreeSet<_> = records.iter().map(|r| (r.sample, r.fingerprint)).collect();
                    let violating: BTreeSet<_> = records
                        .iter()
                        .filter(|r| exceeds(judged(r), decision.allowance))
                        .map(|r| (r.sample, r.fingerprint))
                        .collect();
                    (Bound::Exact, violating.len() as f64 / distinct.len() as f64)
                }
                _ if records.is_empty() => (Bound::None, 1.0),
                _ if self.stop == Stop::Completed => {
                    (Bound::ClopperPearson, clopper_pearson_upper(exceeding, records.len(), alpha))
                }
                _ => (Bound::ConfidenceSequence, confidence_sequence_upper(exceeding, records.len(), alpha)),
            };
            FactorRow {
                factor: label,
                pairs: records.len(),
                mean_relative: summary(&relative, &[]).mean,
                max_relative: maximum(&relative),
                max_relative_f64: counts
                    .then(|| maximum(&records.iter().map(|r| double(r, |e| e.relative)).collect::<Vec<_>>())),
                exceeding,
                bound,
                share_bound,
            }
        };
        let mut rows = Vec::new();
        for (k, part) in self.parts.iter().enumerate() {
            let of_part: Vec<&Record> = self.haar().filter(|r| r.part == k).collect();
            rows.push(row(part.name.clone(), &of_part, part.order));
            if part.improper {
                for (sign, label) in [(1.0, "det +1"), (-1.0, "det -1")] {
                    let chosen: Vec<&Record> =
                        of_part.iter().filter(|r| r.determinant == sign).copied().collect();
                    // Half of the elements are proper, where some are not.
                    let order = part.order.map(|order| order / 2);
                    rows.push(row(format!("{}, {label}", part.name), &chosen, order));
                }
            }
        }
        if !self.rattled.is_empty() {
            let given = self.samples - self.rattled.len();
            for (label, copies) in [("samples as given", false), ("rattled copies", true)] {
                let chosen: Vec<&Record> = self.haar().filter(|r| (r.sample >= given) == copies).collect();
                rows.push(row(label.to_owned(), &chosen, None));
            }
        }
        rows
    }

    fn planned_rows(&self, o: usize, counts: bool) -> Vec<PlannedRow> {
        let mut rows: Vec<PlannedRow> = Vec::new();
        for record in self.records.iter().filter(|r| r.kind != HAAR) {
            let relative = record.working[o].relative;
            let in_double = record.double.as_ref().filter(|_| counts).map(|d| d[o].relative);
            match rows.iter_mut().find(|row| row.kind == record.kind) {
                Some(row) => {
                    row.pairs += 1;
                    row.max_relative = maximum(&[row.max_relative, relative]);
                    row.max_relative_f64 = row.max_relative_f64.zip(in_double).map(|(a, b)| maximum(&[a, b]));
                }
                None => rows.push(PlannedRow {
                    kind: record.kind.to_string(),
                    pairs: 1,
                    max_relative: relative,
                    max_relative_f64: in_double,
                }),
            }
        }
        rows
    }

    fn worst_case(&self, o: usize) -> Option<WorstCase> {
        let worst = self.quoted(o)?;
        let described = self.worst.iter().find(|w| w.place == worst.place);
        Some(WorstCase {
            sample: worst.sample,
            rattled_from: (worst.sample + self.rattled.len())
                .checked_sub(self.samples)
                .and_then(|k| self.rattled.get(k).copied()),
            index: worst.index,
            element: described.map_or_else(String::new, |w| w.element.clone()),
            factor: self.parts[worst.part].name.clone(),
            kind: worst.kind.to_string(),
            block: worst.working[o].place.clone(),
        })
    }

    /// Largest value of a figure in the precision under audit; `None` where no pair has it.
    fn largest(&self, o: usize, figure: impl Fn(&measure::Error) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.records.iter().filter_map(|r| figure(&r.working[o])).collect();
        (!values.is_empty()).then(|| maximum(&values))
    }

    /// All figures and the decision for one output.
    fn output(&self, o: usize, noise: &Noise) -> OutputResult {
        let output = &self.outputs[o];
        let (decision, evidence, float64) = self.decided(o, noise);
        let counts = float64.counts();
        let summed = |figure: FigureOf| {
            let haar: Vec<f64> = self.haar().map(|r| figure(&r.working[o])).collect();
            let all: Vec<f64> = self.records.iter().map(|r| figure(&r.working[o])).collect();
            summary(&haar, &all)
        };
        let result = OutputResult {
            name: output.name.clone(),
            layout: output.layout.clone(),
            symmetry_type: if output.invariant { SymmetryType::Invariant } else { SymmetryType::Equivariant },
            classification: decision.classification,
            verdict: decision.verdict,
            level: decision.level,
            reason: decision.reason.clone(),
            absolute: summed(|error| error.absolute),
            relative: summed(|error| error.relative),
            scaled_max: evidence.scaled,
            row_quantile: self.largest(o, |e| e.row_quantile),
            pulled_back: self.largest(o, |e| e.pulled_back),
            scale: output.scale,
            violation: decision.violation,
            noise: evidence.noise,
            worst: self.worst_case(o),
            factors: self.factor_rows(o, &decision, counts),
            planned: self.planned_rows(o, counts),
            float64,
            repeatability: output.repeatability,
            vacuity: output.vacuity.clone(),
            interpolation: output.interpolation.clone(),
            tolerance: output.tolerance,
            distribution: None,
        };
        match &output.law {
            Some(law) => law.judge(result, evidence.rounding, &self.levels, self.broken),
            None => result,
        }
    }

    /// The report: verdict, figures, findings.
    pub fn report(&self) -> Report {
        let noise = self.noise();
        let outputs: Vec<OutputResult> =
            noise.iter().enumerate().map(|(o, noise)| self.output(o, noise)).collect();
        let verdict = outputs.iter().map(|o| o.verdict).max().unwrap_or(Verdict::NeedsAttention);
        let verdict = self.gradients.rows().iter().filter_map(|row| row.verdict).fold(verdict, Verdict::max);
        let of = |figure: &dyn Fn(&Noise) -> f64| noise.iter().map(figure).collect::<Vec<_>>();
        let discontinuous: Vec<bool> = noise.iter().map(|n| n.discontinuous).collect();
        // A text that is no group's names a custom one; of merged shards that was checked.
        let group = match Group::parse(&self.group) {
            Ok(group) if !self.custom => group,
            _ => Group::custom(&self.group),
        };
        let findings = diagnosis::diagnose(&diagnosis::Evidence {
            group: &group,
            grids: self.grids,
            outputs: &outputs,
            levels: &self.levels,
            written_inputs: &self.written,
            replayed: self.replayed,
            discontinuous: &discontinuous,
            precisions_differ: &of(&|n| n.precisions_differ),
            rounding: &of(&|n| n.floor(self.roundoff)),
            composition: self.composition.rows(),
            stress: self.stress.rows(),
            gradients: self.gradients.rows(),
            inquiries: &self.inquiries,
            layers: self.layers.layers(),
            roundoff: self.roundoff,
            framework: &self.model.framework,
            mode: &self.model.mode,
        });
        // A finding of medium or high severity is something that a person must look at.
        let verdict = if findings.iter().any(|f| f.severity >= diagnosis::Severity::Medium) {
            verdict.max(Verdict::NeedsAttention)
        } else {
            verdict
        };
        let distinct: HashSet<u64> = self.records.iter().filter_map(|r| r.fingerprint).collect();
        let mut report = Report {
            format_version: FORMAT_VERSION,
            equicheck_version: env!("CARGO_PKG_VERSION").to_owned(),
            group: self.group.clone(),
            verdict,
            transforms: self.transforms.clone(),
            levels: self.levels,
            not_audited: self.not_audited.clone(),
            composition: self.composition.clone(),
            stress: self.stress.clone(),
            layers: self.layers.clone(),
            gradients: self.gradients.clone(),
            inquiries: self.inquiries.clone(),
            recommendations: diagnosis::recommendations(&findings, verdict),
            findings,
            outputs,
            plan: ExecutedPlan {
                seed: self.seed,
                samples: self.samples - self.rattled.len(),
                rattled: self.rattled.len(),
                transformations: distinct.len(),
                pairs: self.records.len(),
                planned_pairs: self.planned,
                shard: self.shard,
                stop: self.stop,
                batch: self.batch,
                calls: self.calls_by_purpose.values().sum(),
                calls_by_purpose: self.calls_by_purpose.clone(),
                translation_scale: self.translation_scale,
                confidence: CONFIDENCE,
                randomness: self.randomness.clone(),
            },
            environment: self.environment.clone(),
            model: self.model.clone(),
            timings: Some(self.timings),
            notes: self.remarks(),
            quality: None,
            evidence: (self.shard.count > 1).then(|| Box::new(self.clone())),
            replays: Vec::new(),
        };
        if let Some(law) = self.outputs.iter().find_map(|output| output.law.as_ref()) {
            law.enter(&mut report);
        }
        // Last, as it reads all the rest.
        report.quality = Some(quality(&report));
        report
    }

    fn remarks(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.shard.count > 1 {
            notes.push(format!(
                "shard {} of {}: its figures are those of its own pairs; merge all shards for the audit's",
                self.shard.index, self.shard.count
            ));
        }
        notes.extend(self.notes.iter().cloned());
        let (done, planned) = (self.records.len(), self.planned);
        match self.stop {
            Stop::Completed => {}
            Stop::Budget => {
                notes.push(format!("the time budget ended the audit after {done} of {planned} pairs"));
            }
            Stop::Early => {
                notes.push(format!("the audit stopped early, being decided after {done} of {planned} pairs"));
            }
        }
        notes
    }

    /// Joins the shards of one audit, in any order.
    ///
    /// # Errors
    /// In words: shards that are missing, come twice, or are of different audits.
    pub fn merge(shards: &[Self]) -> Result<Self, String> {
        let Some(first) = shards.first() else { return Err("there are no shards to merge".to_owned()) };
        let count = first.shard.count;
        let mut by_index: BTreeMap<usize, &Self> = BTreeMap::new();
        for shard in shards {
            if shard.shard.count != count {
                return Err(format!(
                    "one shard is of {count}, another of {}: they are of different audits",
                    shard.shard.count
                ));
            }
            if by_index.insert(shard.shard.index, shard).is_some() {
                return Err(format!("shard {} of {count} is given twice", shard.shard.index));
            }
        }
        if let Some(missing) = (0..count).find(|index| !by_index.contains_key(index)) {
            return Err(format!("shard {missing} of {count} is missing"));
        }
        for shard in by_index.values() {
            shard.check().map_err(|why| format!("shard {} is damaged: {why}", shard.shard.index))?;
        }
        let mut whole = (*by_index.values().next().unwrap_or(&first)).clone();
        for shard in by_index.values().skip(1) {
            if let Some(what) = whole.differs(shard) {
                return Err(format!(
                    "shard {} is of another audit than shard 0: {what} differs",
                    shard.shard.index
                ));
            }
            whole.take(shard);
        }
        whole.shard = Shard::WHOLE;
        whole.records.sort_by_key(|record| record.place);
        Ok(whole)
    }

    /// Whether a shard that was read from a file holds together.
    fn check(&self) -> Result<(), String> {
        if !self.custom && Group::parse(&self.group).is_err() {
            return Err(format!("`{}` is no group", self.group));
        }
        let outputs = self.outputs.len();
        let mut places = BTreeSet::new();
        for record in &self.records {
            let lengths = [Some(record.working.len()), record.double.as_ref().map(Vec::len)];
            let complete =
                lengths.iter().flatten().all(|length| *length == outputs) && record.failure.len() == outputs;
            if !complete || record.part >= self.parts.len() || record.sample >= self.samples {
                return Err(format!("pair {} is incomplete", record.place));
            }
            let own = record.place % self.shard.count == self.shard.index && record.place < self.whole;
            if !own || !places.insert(record.place) {
                return Err(format!("pair {} is another shard's, or comes twice", record.place));
            }
        }
        if self.stop == Stop::Completed && places.len() != self.planned {
            return Err(format!("it holds {} of its {} pairs", places.len(), self.planned));
        }
        if self.rattled.len() > self.samples {
            return Err("it holds more rattled copies than samples".to_owned());
        }
        Ok(())
    }

    /// What shows that another shard is not of the same audit, if anything does.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        let names = |e: &Self| -> Vec<(String, String)> {
            e.outputs.iter().map(|o| (o.name.clone(), o.layout.clone())).collect()
        };
        let scales = |e: &Self| -> Vec<u64> { e.outputs.iter().map(|o| o.scale.to_bits()).collect() };
        let tolerances = |e: &Self| -> Vec<Option<f64>> { e.outputs.iter().map(|o| o.tolerance).collect() };
        let checks: [(&str, bool); 11] = [
            ("the group", self.group == other.group && self.parts == other.parts),
            ("the seed", self.seed == other.seed),
            ("the version of equicheck or an option", self.settings == other.settings),
            ("the size of the plan", self.whole == other.whole),
            ("the model", self.model == other.model),
            (
                "the declaration of tensors",
                self.transforms == other.transforms && names(self) == names(other),
            ),
            ("the number of samples", self.samples == other.samples),
            ("the scale of translations", self.translation_scale == other.translation_scale),
            ("the set of levels", self.levels == other.levels && self.broken == other.broken),
            ("the tolerance", tolerances(self) == tolerances(other)),
            ("the size of the model's outputs on the same inputs", scales(self) == scales(other)),
        ];
        checks.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }

    fn take(&mut self, other: &Self) {
        self.planned += other.planned;
        self.stop = self.stop.max(other.stop);
        self.batch = self.batch.max(other.batch);
        self.double = match (&self.double, &other.double) {
            (DoubleStatus::Failed(a, why), DoubleStatus::Failed(b, other)) => {
                if a <= b {
                    DoubleStatus::Failed(*a, why.clone())
                } else {
                    DoubleStatus::Failed(*b, other.clone())
                }
            }
            (DoubleStatus::Available, other) => other.clone(),
            (own, _) => own.clone(),
        };
        for (own, other) in self.outputs.iter_mut().zip(&other.outputs) {
            own.noise.join(&other.noise);
        }
        self.records.extend(other.records.iter().cloned());
        self.worst.extend(other.worst.iter().cloned());
        for note in &other.notes {
            if !self.notes.contains(note) {
                self.notes.push(note.clone());
            }
        }
        for (purpose, calls) in &other.calls_by_purpose {
            *self.calls_by_purpose.entry(purpose.clone()).or_default() += calls;
        }
        self.timings.total += other.timings.total;
        self.timings.model += other.timings.model;
    }
}

/// Whether all elements came on all samples.
fn exhausted(records: &[&Record], wanted: usize) -> bool {
    wanted > 0
        && records.len() >= wanted
        && records.iter().map(|r| (r.sample, r.fingerprint)).collect::<BTreeSet<_>>().len() == wanted
}

/// NaN exceeds everything.
fn exceeds(error: f64, allowance: f64) -> bool {
    error.is_nan() || error > allowance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sampling::{Draws, Purpose};

    /// What a violation and its absence look like in double precision.
    const BAD: f64 = 0.5;
    const GOOD: f64 = 1e-15;

    fn error(size: f64) -> measure::Error {
        measure::Error { absolute: size, relative: size, scaled: size, ..measure::Error::infinite("") }
    }

    /// An audit of as many outputs whose double-precision comparison counts, before any pair.
    fn empty(parts: &[(&str, Option<usize>)], outputs: usize) -> Evidence {
        let output = |o: usize| OutputRecord {
            name: format!("y{o}"),
            layout: "vector".to_owned(),
            invariant: false,
            scale: 1.0,
            noise: Noise { rounding: 1e-7, double: 1e-15, ..Noise::default() },
            proof: Proof::Double,
            repeatability: Repeatability::default(),
            vacuity: Vec::new(),
            copied: None,
            interpolation: None,
            tolerance: None,
            law: None,
        };
        Evidence {
            shard: Shard::WHOLE,
            settings: String::new(),
            whole: 0,
            group: "SO(3)".to_owned(),
            custom: false,
            grids: false,
            parts: parts
                .iter()
                .map(|(name, order)| PartRecord { name: (*name).to_owned(), improper: false, order: *order })
                .collect(),
            seed: 0,
            randomness: None,
            replayed: false,
            samples: 1,
            rattled: Vec::new(),
            composition: Rows::NotRun { reason: String::new() },
            stress: Rows::NotRun { reason: String::new() },
            layers: LayerStage::NotRun { reason: String::new() },
            gradients: Rows::NotRun { reason: String::new() },
            inquiries: Inquiries::default(),
            planned: 0,
            stop: Stop::Completed,
            batch: 1,
            translation_scale: 1.0,
            roundoff: 2f64.powi(-24),
            levels: Levels::default(),
            broken: 1e-2,
            transforms: Vec::new(),
            outputs: (0..outputs).map(output).collect(),
            double: DoubleStatus::Available,
            records: Vec::new(),
            worst: Vec::new(),
            written: Vec::new(),
            not_audited: Vec::new(),
            notes: Vec::new(),
            model: ModelInfo::default(),
            environment: BTreeMap::new(),
            calls_by_purpose: BTreeMap::new(),
            timings: Timings::default(),
        }
    }

    impl Evidence {
        /// One more random pair, which violates outputs as told.
        fn see(&mut self, part: usize, violates: &[bool]) {
            let place = self.records.len();
            let errors: Vec<_> = violates.iter().map(|bad| error(if *bad { BAD } else { GOOD })).collect();
            self.records.push(Record {
                place,
                sample: 0,
                index: place as u64,
                part,
                kind: Cow::Borrowed(HAAR),
                determinant: 1.0,
                fingerprint: Some(place as u64),
                interpolated: false,
                stretch: 1.0,
                working: errors.clone(),
                double: Some(errors),
                failure: vec![None; violates.len()],
            });
        }
    }

    const AUDITS: u64 = 10_000;

    /// Shares of audits, as many as are counted, that a test of `AUDITS` cannot tell from `share`: five standard errors.
    fn near(share: f64) -> std::ops::RangeInclusive<f64> {
        let slack = 5.0 * (share * (1.0 - share) / AUDITS as f64).sqrt();
        share - slack..=share + slack
    }

    /// Nominal 95 % covers 95 %, where the bound is tight: just above one of the values that it takes. Elsewhere it
    /// covers more, as its values are few (Brown et al., Statistical Science 16, 2001).
    #[test]
    fn bounds_of_a_fixed_plan_cover_the_truth_as_often_as_they_say() {
        for (n, k) in [(50, 0), (50, 3), (100, 1)] {
            let truth = clopper_pearson_upper(k, n, 1.0 - CONFIDENCE) * (1.0 + 1e-9);
            let mut covered = 0;
            for audit in 0..AUDITS {
                let mut draws = Draws::new(audit, n, k as u64, Purpose::Haar);
                let mut evidence = empty(&[("joint", None)], 1);
                for _ in 0..n {
                    evidence.see(0, &[draws.uniform() < truth]);
                }
                covered += u64::from(evidence.share_bounds()[0] >= truth);
            }
            let share = covered as f64 / AUDITS as f64;
            assert!((0.94..=0.96).contains(&share) && near(CONFIDENCE).contains(&share), "{n}, {k}: {share}");
        }
    }

    /// Two outputs under three parts of a group: all six bounds of a report hold together.
    #[test]
    fn all_bounds_of_a_report_hold_together() {
        let parts = [("joint", None), ("A", None), ("B", None)];
        let (n, alpha) = (40, (1.0 - CONFIDENCE) / 6.0);
        // With no violation or one, the bounds of six times the error probability would pass too.
        let truth = clopper_pearson_upper(3, n, alpha) * (1.0 + 1e-9);
        let mut covered = 0;
        for audit in 0..AUDITS {
            let mut draws = Draws::new(audit, 2, 0, Purpose::Haar);
            let mut evidence = empty(&parts, 2);
            for pair in 0..3 * n {
                evidence.see(pair % 3, &[draws.uniform() < truth, draws.uniform() < truth]);
            }
            covered += u64::from(evidence.share_bounds().into_iter().all(|bound| bound >= truth));
        }
        // Independent bounds, each of which fails with probability alpha.
        let expected = (1.0 - alpha).powi(6);
        let share = covered as f64 / AUDITS as f64;
        assert!(near(expected).contains(&share) && (0.94..=0.96).contains(&share), "{share}");
    }

    /// What an optional stop does to a bound: the audit looks after each block and stops when it likes what it sees.
    /// The confidence sequence covers all the same; the fixed bound, had it been used, would not.
    #[test]
    fn bounds_hold_although_one_stops_when_one_likes() {
        let (block, looks) = (5, 40);
        for truth in [0.06, 0.2] {
            let (mut sequence, mut fixed) = (0, 0);
            for audit in 0..AUDITS {
                let mut draws = Draws::new(audit, 3, 0, Purpose::Haar);
                let mut evidence = empty(&[("joint", None)], 1);
                evidence.stop = Stop::Early;
                let (mut caught_by_sequence, mut caught_by_fixed) = (false, false);
                let mut k = 0;
                for look in 1..=looks {
                    for _ in 0..block {
                        let bad = draws.uniform() < truth;
                        k += usize::from(bad);
                        evidence.see(0, &[bad]);
                    }
                    // The worst of all rules: stop as soon as the bound is wrong.
                    caught_by_fixed |= clopper_pearson_upper(k, look * block, 1.0 - CONFIDENCE) < truth;
                    if !caught_by_sequence
                        && confidence_sequence_upper(k, look * block, 1.0 - CONFIDENCE) < truth
                    {
                        caught_by_sequence = true;
                    }
                }
                let printed = confidence_sequence_upper(k, looks * block, 1.0 - CONFIDENCE);
                assert_eq!(evidence.share_bounds(), [printed], "the report prints the sequence's bound");
                sequence += u64::from(caught_by_sequence);
                fixed += u64::from(caught_by_fixed);
            }
            let (sequence, fixed) = (sequence as f64 / AUDITS as f64, fixed as f64 / AUDITS as f64);
            assert!(sequence <= 1.0 - CONFIDENCE, "share {truth}: wrong in {sequence} of audits");
            assert!(
                fixed > 0.1,
                "share {truth}: peeking at the fixed bound was wrong in {fixed} of audits only"
            );
        }
    }

    #[test]
    fn a_finite_group_that_was_tried_whole_has_an_exact_share() {
        let mut evidence = empty(&[("joint", Some(4))], 1);
        for bad in [false, true, false, false] {
            evidence.see(0, &[bad]);
        }
        let row = |evidence: &Evidence| evidence.report().outputs[0].factors[0].clone();
        assert_eq!((row(&evidence).bound, row(&evidence).share_bound), (Bound::Exact, 0.25));
        // One element is missing, the first came twice.
        let mut partial = evidence.clone();
        partial.records[3].fingerprint = partial.records[0].fingerprint;
        assert_eq!(row(&partial).bound, Bound::ClopperPearson);
        // Two samples, of which one saw but two elements.
        let mut partial = evidence.clone();
        partial.samples = 2;
        assert_eq!(row(&partial).bound, Bound::ClopperPearson);
        partial.records[2].sample = 1;
        assert_eq!(row(&partial).bound, Bound::ClopperPearson);
        // What was cut short is a matter of chance again, but for what was tried whole.
        evidence.stop = Stop::Budget;
        assert_eq!(row(&evidence).bound, Bound::Exact);
        evidence.records.pop();
        assert_eq!(row(&evidence).bound, Bound::ConfidenceSequence);
    }

    fn shards(count: usize) -> (Evidence, Vec<Evidence>) {
        let mut whole = empty(&[("joint", None)], 2);
        let mut draws = Draws::new(1, 0, 0, Purpose::Haar);
        for _ in 0..20 {
            whole.see(0, &[draws.uniform() < 0.3, false]);
            let record = whole.records.last_mut().unwrap();
            record.working[0].relative *= draws.uniform();
            record.working[1].scaled *= draws.uniform();
        }
        (whole.planned, whole.whole) = (20, 20);
        let described = |evidence: &mut Evidence| {
            let ill_conditioned = evidence.ill_conditioned();
            evidence.worst = evidence
                .noteworthy()
                .into_iter()
                .map(|place| WorstRecord {
                    place,
                    element: format!("element {place}"),
                    noise: if ill_conditioned.contains(&place) {
                        let noise = Noise { rounding: 1e-7 * place as f64, ..Noise::default() };
                        vec![noise; 2]
                    } else {
                        Vec::new()
                    },
                })
                .collect();
        };
        let parts = (0..count)
            .map(|index| {
                let mut part = whole.clone();
                part.shard = Shard { index, count };
                part.records.retain(|record| record.place % count == index);
                part.planned = part.records.len();
                described(&mut part);
                part
            })
            .collect();
        described(&mut whole);
        (whole, parts)
    }

    #[test]
    fn shards_merge_into_the_report_of_the_whole() {
        for count in [2, 3, 7] {
            let (whole, mut parts) = shards(count);
            assert!(parts.iter().any(|part| part.report().outputs != whole.report().outputs));
            parts.reverse();
            let merged = Evidence::merge(&parts).unwrap();
            assert_eq!(merged.report(), whole.report(), "{count} shards");
            // Of all that the report holds in the end.
            assert_eq!(merged.report().quality, Some(quality(&merged.report())), "{count} shards");
        }
    }

    #[test]
    fn shards_of_different_audits_do_not_merge() {
        type Change = dyn Fn(&mut Vec<Evidence>);
        let merged = |change: &Change| {
            let (_, mut parts) = shards(3);
            change(&mut parts);
            Evidence::merge(&parts).map(|_| ()).unwrap_err()
        };
        let cases: [(&Change, &str); 20] = [
            (&|parts| parts.clear(), "there are no shards to merge"),
            (&|parts| drop(parts.remove(1)), "shard 1 of 3 is missing"),
            (&|parts| parts[1].shard.index = 2, "shard 2 of 3 is given twice"),
            (
                &|parts| parts[1].shard.count = 4,
                "one shard is of 3, another of 4: they are of different audits",
            ),
            (&|parts| parts[1].seed = 1, "shard 1 is of another audit than shard 0: the seed differs"),
            (
                &|parts| "SO(2)".clone_into(&mut parts[2].group),
                "shard 2 is of another audit than shard 0: the group differs",
            ),
            (&|parts| parts[1].settings.push('x'), "the version of equicheck or an option differs"),
            (
                &|parts| (0..3).for_each(|k| parts[k].whole = 20 + usize::from(k == 2)),
                "the size of the plan differs",
            ),
            (&|parts| parts[1].records[0].working.clear(), "shard 1 is damaged: pair 1 is incomplete"),
            (&|parts| parts[1].records[0].part = 7, "shard 1 is damaged: pair 1 is incomplete"),
            (
                &|parts| parts[1].records = parts[0].records.clone(),
                "shard 1 is damaged: pair 0 is another shard's, or comes twice",
            ),
            (&|parts| drop(parts[2].records.pop()), "shard 2 is damaged: it holds 5 of its 6 pairs"),
            (&|parts| parts[0].group.push('x'), "shard 0 is damaged: `SO(3)x` is no group"),
            (&|parts| parts[1].model.name.push('x'), "the model differs"),
            (&|parts| parts[1].outputs[0].layout.push('x'), "the declaration of tensors differs"),
            (&|parts| parts[1].samples = 2, "the number of samples differs"),
            (&|parts| parts[1].translation_scale = 2.0, "the scale of translations differs"),
            (&|parts| parts[1].broken = 2.0, "the set of levels differs"),
            (&|parts| parts[1].outputs[1].tolerance = Some(1.0), "the tolerance differs"),
            (
                &|parts| parts[1].outputs[1].scale = 2.0,
                "the size of the model's outputs on the same inputs differs",
            ),
        ];
        for (change, wanted) in cases {
            let message = merged(change);
            assert!(message.ends_with(wanted), "{message}");
        }
    }
}
