//! What an audit found, as data, and its renderings.
//!
//! [`Report`] is the one record that every format is made from: each renderer is a pure function of it, in a file
//! of its own. The JSON form is this structure itself, versioned by [`FORMAT_VERSION`].

mod by_name;
mod compare;
mod document;
mod exit;
pub(crate) mod figure;
mod gradients;
mod inquiries;
mod json;
mod layers;
mod markdown;
mod quality;
mod rows;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use crate::model::Tensor;
use crate::symmetry::Element;

pub use crate::audit::Evidence;
pub use crate::diagnosis::{Finding, Mode, Severity};
pub use compare::{
    Change, Comparison, Figures, FindingChanges, GradientChange, LayerChange, Matched, OutputChange, Trend,
    compare,
};
pub use exit::ExitStatus;
pub use gradients::{Fault, GradientCheck, GradientRow};
pub(crate) use inquiries::is_narrowing;
pub use inquiries::{
    Alternative, Dependence, Dependent, Examination, Inquiries, OtherMode, Placement, SizeRow, Subgroup,
    Unread, Variation,
};
pub use json::{comparison_to_json, from_json, to_json};
pub use layers::{
    Break, BreakKind, Confidence, HiddenTensor, LayerCheck, LayerKind, LayerRow, LayerStage, LayerVerdict,
    Layers, Origin, Under,
};
pub use markdown::{comparison_to_markdown, to_markdown};
pub use quality::{Aspect, Dimension, Quality, quality};
pub use rows::{CompositionKind, CompositionRow, Outcome, Rows, StressKind, StressRow};
pub use text::{comparison_to_text, modes_to_text, page_to_text, to_text};

/// Version of the serialised form; it grows when a reader of the previous one could be misled.
pub const FORMAT_VERSION: u32 = 1;

/// The overall answer, and the answer for one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// The declared symmetry holds, up to rounding that was accounted for.
    Pass,
    /// Something that a person must look at: a small violation, a vacuous test, amplified rounding.
    NeedsAttention,
    /// The declared symmetry does not hold.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Pass => "PASS",
            Verdict::NeedsAttention => "NEEDS_ATTENTION",
            Verdict::Fail => "FAIL",
        })
    }
}

/// What the evidence says about one output (DESIGN, table of classes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    /// The violation is not above the measured noise floor of the double-precision comparison.
    Exact,
    /// No double-precision comparison was possible; the error is not above the measured rounding noise.
    Consistent,
    /// A violation above the noise floor, below the `approximate` level.
    Approximate,
    /// A violation at or above the `approximate` level, a non-finite value, a changed shape, a raise on one side.
    Broken,
    /// Rounding and violation cannot be told apart, the test was vacuous, or it was cut short.
    Undetermined,
}

impl Classification {
    /// Whether more than noise was seen.
    pub(crate) fn is_violation(self) -> bool {
        matches!(self, Classification::Approximate | Classification::Broken)
    }
}

impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Classification::Exact => "exact",
            Classification::Consistent => "consistent",
            Classification::Approximate => "approximate",
            Classification::Broken => "broken",
            Classification::Undetermined => "undetermined",
        })
    }
}

/// Band of the raw relative error in the precision under audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Below [`Levels::perfect`].
    Perfect,
    /// Below [`Levels::excellent`].
    Excellent,
    /// Below [`Levels::approximate`].
    Approximate,
    /// At or above [`Levels::approximate`], or not finite.
    Broken,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Perfect => "perfect",
            Level::Excellent => "excellent",
            Level::Approximate => "approximate",
            Level::Broken => "broken",
        })
    }
}

/// Upper bounds of the levels, as relative errors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// Below: perfect.
    #[serde(with = "figure")]
    pub perfect: f64,
    /// Below: excellent, and RESULT in the report is PASS.
    #[serde(with = "figure")]
    pub excellent: f64,
    /// Below: approximate; at or above: broken.
    #[serde(with = "figure")]
    pub approximate: f64,
}

impl Default for Levels {
    fn default() -> Self {
        Self { perfect: 1e-6, excellent: 1e-4, approximate: 1e-2 }
    }
}

impl Levels {
    /// The level of a relative error; a value that is not finite is broken.
    pub fn level(&self, relative: f64) -> Level {
        if relative < self.perfect {
            Level::Perfect
        } else if relative < self.excellent {
            Level::Excellent
        } else if relative < self.approximate {
            Level::Approximate
        } else {
            Level::Broken
        }
    }
}

/// Mean, spread and extremes of one error figure over the Haar-drawn elements; `max` also covers planned ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Arithmetic mean over the Haar-drawn elements.
    #[serde(with = "figure")]
    pub mean: f64,
    /// Sample standard deviation over the Haar-drawn elements.
    #[serde(with = "figure")]
    pub standard_deviation: f64,
    /// Median over the Haar-drawn elements.
    #[serde(with = "figure")]
    pub median: f64,
    /// 95 % quantile over the Haar-drawn elements.
    #[serde(with = "figure")]
    pub quantile_95: f64,
    /// Largest value, planned elements included.
    #[serde(with = "figure")]
    pub max: f64,
}

/// The input and element that gave the largest error, enough to replay it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstCase {
    /// Index of the test sample.
    pub sample: usize,
    /// The sample of which it is a rattled copy, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rattled_from: Option<usize>,
    /// Index of the element in that sample's plan.
    pub index: u64,
    /// The element in words, e.g. `rotation by 131.2° about (0.21, -0.91, 0.36), det -1`.
    pub element: String,
    /// Factor of the group that acted: `joint`, or a group string such as `O(3)`.
    pub factor: String,
    /// How the element was chosen: `haar`, `identity`, `near-identity`, ...
    pub kind: String,
    /// Block of the output in which the error was largest, e.g. `1o (component 4..7)` or `row 17`.
    pub block: String,
}

/// Errors under one factor of the group alone, or under all jointly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactorRow {
    /// `joint`, or the factor's group string.
    pub factor: String,
    /// Haar-drawn (input, element) pairs.
    pub pairs: usize,
    /// Mean relative error.
    #[serde(with = "figure")]
    pub mean_relative: f64,
    /// Largest relative error.
    #[serde(with = "figure")]
    pub max_relative: f64,
    /// Largest relative error in double precision; absent when there was no such comparison.
    #[serde(with = "figure::optional")]
    pub max_relative_f64: Option<f64>,
    /// Pairs whose error exceeds what was allowed for.
    pub exceeding: usize,
    /// What kind of bound `share_bound` is.
    #[serde(default)]
    pub bound: Bound,
    /// Upper bound on the share of the group that violates, or that share itself where every element was tried.
    #[serde(with = "figure")]
    pub share_bound: f64,
}

/// How a share of the group that violates is bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Nothing was drawn.
    None,
    /// Pairs interpolate a grid, so that none of them alone violates or holds: their control judges them together.
    Interpolated,
    /// Every element of a finite group was tried on every sample: the share itself.
    Exact,
    /// Clopper and Pearson's upper confidence bound, for a plan that was carried out in full.
    #[default]
    ClopperPearson,
    /// A confidence sequence, which holds whenever and for whatever reason the audit stopped (METHOD 5).
    ConfidenceSequence,
}

/// One of several runs that share the pairs of one plan: pair `p` belongs to shard `p mod count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which one, from 0.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

impl Shard {
    /// All pairs.
    pub const WHOLE: Self = Self { index: 0, count: 1 };
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// Why no more pairs were evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The plan was carried out.
    #[default]
    Completed,
    /// The answer was known, and an early end had been asked for.
    Early,
    /// The time budget was spent.
    Budget,
}

/// Errors under the planned elements of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRow {
    /// `identity`, `near-identity`, `inversion`, `half-turn`, `axis-alignment`, ...
    pub kind: String,
    /// (input, element) pairs.
    pub pairs: usize,
    /// Largest relative error.
    #[serde(with = "figure")]
    pub max_relative: f64,
    /// Largest relative error in double precision, where available.
    #[serde(with = "figure::optional")]
    pub max_relative_f64: Option<f64>,
}

/// The comparison in double precision, with the proof that it is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Float64 {
    /// Not asked for.
    NotRequested,
    /// Copy, cast or call failed.
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The model drops precision inside: the comparison does not count for this output.
    Void {
        /// Smallest relative change of an input to which the output still responds in proportion.
        #[serde(with = "figure")]
        effective_precision: f64,
        /// Input through which precision is lost.
        input: String,
    },
    /// The comparison counts.
    Available {
        /// Largest relative error, over all pairs.
        #[serde(with = "figure")]
        max_relative: f64,
        /// Mean relative error over the Haar-drawn pairs.
        #[serde(with = "figure")]
        mean_relative: f64,
        /// Noise floor: relative change under moves of one unit in the last place.
        #[serde(with = "figure")]
        noise: f64,
        /// Change of the error when constants that were rounded to f32 when the model was built, or inputs that were given in
        /// f32, move by half a unit in the last place.
        #[serde(with = "figure")]
        constants: f64,
    },
}

impl Float64 {
    /// Whether the comparison counts.
    pub(crate) fn counts(&self) -> bool {
        matches!(self, Float64::Available { .. })
    }
}

/// Non-determinism of one output, as relative differences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Repeatability {
    /// Called again with equal generator state.
    #[serde(with = "figure")]
    pub seeded: f64,
    /// Called again without resetting the generators.
    #[serde(with = "figure")]
    pub unseeded: f64,
    /// Called again after other calls, state not restored in between.
    #[serde(with = "figure")]
    pub drift: f64,
}

/// Could this output have failed under this factor at all?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VacuityRow {
    /// Factor of the group.
    pub factor: String,
    /// Relative change of the output under a non-symmetry change of the inputs as large as the transformation.
    #[serde(with = "figure")]
    pub sensitivity: f64,
    /// Relative size of `T'f(x) - f(x)`; absent for an output that this factor leaves alone.
    #[serde(with = "figure::optional")]
    pub discrimination: Option<f64>,
    /// Why the test was vacuous, if it was.
    pub vacuous: Option<String>,
}

/// Errors on inputs that are known between pixels, where elements of the group interpolate a grid: an interpolated
/// array's own error is the model's and the interpolation's together (METHOD 10).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterpolationControl {
    /// Largest relative error of the model on smooth fields that were sampled at the transformed points. Absent where
    /// nothing could be judged.
    #[serde(with = "figure::optional")]
    pub model: Option<f64>,
    /// The same of a reference that is equivariant in the continuum (isotropic blur, then the positive part): what
    /// discretisation and the output's interpolation explain.
    #[serde(with = "figure::optional")]
    pub control: Option<f64>,
    /// (sample, element) pairs.
    pub pairs: usize,
    /// How far the influence of one pixel of the input reaches along an axis of the output, in pixels of the input; absent
    /// for an output without a grid.
    #[serde(default, with = "figure::optional")]
    pub receptive_field: Option<f64>,
    /// How the errors scale, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<InterpolationScaling>,
    /// Why nothing could be judged, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl InterpolationControl {
    /// Nothing could be judged.
    pub(crate) fn cannot(why: String) -> Self {
        Self { model: None, control: None, pairs: 0, receptive_field: None, scaling: None, note: Some(why) }
    }
}

/// How the errors of the control change on one sample as discretisation is refined (METHOD 10): what interpolation
/// makes falls with it, what breaks a symmetry at the scale of the image does not. Evidence beside the control, and no
/// part of the decision: a kernel of a few pixels that is not isotropic fades on smooth inputs too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterpolationScaling {
    /// The model's error on fields with waves twice as long, over that on the control's own, of the same elements.
    #[serde(with = "figure::optional")]
    pub model: Option<f64>,
    /// The same ratio of the reference's errors.
    #[serde(with = "figure::optional")]
    pub control: Option<f64>,
    /// For outputs on a grid under linear interpolation: the model's error where `T'` interpolates by cubics, over that
    /// where it does linearly.
    #[serde(default, with = "figure::optional")]
    pub order: Option<f64>,
}

/// Whether an output is declared to move under the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SymmetryType {
    /// No factor moves it.
    Invariant,
    /// At least one factor moves it.
    Equivariant,
}

impl fmt::Display for SymmetryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SymmetryType::Invariant => "Invariant",
            SymmetryType::Equivariant => "Equivariant",
        })
    }
}

/// Everything that was found about one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputResult {
    /// Path of the output, e.g. `forces` or `aux.0.mean`; `output` when the model returns one tensor.
    pub name: String,
    /// Its layout, canonical.
    pub layout: String,
    /// Declared to move or not.
    pub symmetry_type: SymmetryType,
    /// What the evidence says.
    pub classification: Classification,
    /// The verdict that follows.
    pub verdict: Verdict,
    /// Band of the raw error.
    pub level: Level,
    /// One sentence: why this class and verdict.
    pub reason: String,
    /// Norm of `f(Tx) - T'f(x)` over the whole output, per pair.
    pub absolute: Summary,
    /// The same relative to the output (worst block), per pair.
    pub relative: Summary,
    /// Largest error relative to `max(norm of the block, its scale over the run)`: the level is read off it, because a
    /// scalar that passes through zero makes `relative` large by chance.
    #[serde(with = "figure")]
    pub scaled_max: f64,
    /// Rows (nodes, pixels) apart: the largest over all pairs of the 99.9 % quantile of their relative errors. Far below
    /// `relative.max`, few rows are wrong. Absent for an output without rows.
    #[serde(default, with = "figure::optional")]
    pub row_quantile: Option<f64>,
    /// Largest `||T'^-1 f(Tx) - f(x)||`, relative, where T' changes lengths (boosts, dilations): there the error of
    /// `f(Tx) - T'f(x)` depends on how far T' stretches it. Absent elsewhere.
    #[serde(default, with = "figure::optional")]
    pub pulled_back: Option<f64>,
    /// Median norm of the output over the base inputs.
    #[serde(with = "figure")]
    pub scale: f64,
    /// What remains after rounding is accounted for: the double-precision error, else the raw one.
    #[serde(with = "figure")]
    pub violation: f64,
    /// Noise floor of the precision under audit, relative.
    #[serde(with = "figure")]
    pub noise: f64,
    /// The largest error: where.
    pub worst: Option<WorstCase>,
    /// By factor of the group, alone and jointly.
    pub factors: Vec<FactorRow>,
    /// Planned elements, in rows of their own.
    pub planned: Vec<PlannedRow>,
    /// Double precision.
    pub float64: Float64,
    /// Non-determinism.
    pub repeatability: Repeatability,
    /// Vacuous tests.
    pub vacuity: Vec<VacuityRow>,
    /// The control for elements that interpolate a grid, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<InterpolationControl>,
    /// The user's tolerance, when one was given for this output.
    #[serde(with = "figure::optional")]
    pub tolerance: Option<f64>,
    /// The comparison of laws, for an output that the model draws at random, where it was asked for: then `absolute`,
    /// `relative` and `scaled_max` are of the shift of the mean over draws as it was seen, chance included, one figure
    /// per test, and `violation` is what is left of the difference without chance: 0 where none was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
}

/// Whether f(T x) and T' f(x) of a model that draws random numbers follow one law: two-sample permutation tests of the
/// energy distance (Szekely and Rizzo, J. Stat. Plan. Inference 143, 2013).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Independent calls on each side of a test.
    pub draws: usize,
    /// Error probability of all first looks of the report together (Holm), and of all second looks.
    #[serde(with = "figure")]
    pub significance: f64,
    /// Root mean square distance of the output from its mean over draws, median over the tests.
    #[serde(with = "figure")]
    pub spread: f64,
    /// Smallest shift, in units of the spread, that the tests would find with 80 % probability: the largest over the
    /// tests. Infinite where none that was tried would be.
    #[serde(with = "figure")]
    pub detectable: f64,
    /// The same over the output's scale.
    #[serde(with = "figure")]
    pub detectable_relative: f64,
    /// The same of a relative change of the spread.
    #[serde(with = "figure")]
    pub detectable_spread: f64,
    /// Two per (sample, element) pair: of the values, and of their second moments.
    pub tests: Vec<DistributionTest>,
    /// The most significant test again, on fresh draws, where it was significant.
    pub second_look: Option<DistributionTest>,
}

/// What of the outputs a two-sample test compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LawStatistic {
    /// All values.
    Values,
    /// Sums of squares along each axis, and of products of components: what shows the covariance of noise.
    SecondMoments,
}

impl fmt::Display for LawStatistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LawStatistic::Values => "values",
            LawStatistic::SecondMoments => "second moments",
        })
    }
}

/// One two-sample test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistributionTest {
    /// Index of the test sample.
    pub sample: usize,
    /// The element in words.
    pub element: String,
    /// Factor of the group that acted: `joint`, or a group string such as `O(3)`.
    pub factor: String,
    /// What is compared.
    pub statistic: LawStatistic,
    /// Of the permutation test.
    #[serde(with = "figure")]
    pub p_value: f64,
    /// The same adjusted for all tests of the report (Holm, Scand. J. Statist. 6, 1979).
    #[serde(with = "figure")]
    pub adjusted_p_value: f64,
    /// Norm of the difference of the means over draws, without what chance adds to it, in units of the spread.
    #[serde(with = "figure")]
    pub shift: f64,
    /// How much differs: of the values the shift that would give this energy distance, in units of the spread; of the
    /// second moments the relative change of the spread.
    #[serde(with = "figure")]
    pub difference: f64,
}

impl DistributionTest {
    /// Whether the means explain most of the difference.
    pub(crate) fn is_of_mean(&self) -> bool {
        self.statistic == LawStatistic::Values && self.shift >= 0.5 * self.difference
    }
}

/// How one tensor is transformed, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformRow {
    /// `input`, `output`, or `noise` for a random draw that was recorded.
    pub role: String,
    /// Path of the tensor.
    pub name: String,
    /// Its layout, canonical; absent when it is not transformed.
    pub layout: Option<String>,
    /// Shape in the first sample.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: String,
    /// In words.
    pub description: String,
}

/// What is known about the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Class or function name.
    pub name: String,
    /// `torch`, `numpy`, ...
    pub framework: String,
    /// Number of scalar parameters, where known.
    pub parameters: Option<u64>,
    /// Precision under audit, e.g. `float32`.
    pub dtype: String,
    /// Device, e.g. `cpu`.
    pub device: String,
    /// `eval`, `train` or `as_is`.
    pub mode: String,
    /// What single-precision numbers are computed in, where that is coarser: `bfloat16` or `float16` under autocast,
    /// `tf32`. Empty elsewhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub computes_in: String,
}

impl ModelInfo {
    /// Unit roundoff of what single-precision numbers are computed in, if it is coarser than theirs.
    pub(crate) fn coarser_roundoff(&self) -> Option<f64> {
        match self.computes_in.as_str() {
            "bfloat16" => Some(2f64.powi(-8)),
            // Significands of ten bits and the hidden one.
            "float16" | "tf32" => Some(2f64.powi(-11)),
            _ => None,
        }
    }
}

/// What was executed; replaying it gives the same report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutedPlan {
    /// Seed of all draws.
    pub seed: u64,
    /// Test samples used.
    pub samples: usize,
    /// Rattled copies of them that were added, as their symmetry forces outputs to zero.
    #[serde(default)]
    pub rattled: usize,
    /// Distinct transformations, without the identity.
    pub transformations: usize,
    /// (input, element) pairs evaluated, planned ones included.
    pub pairs: usize,
    /// Pairs that the plan asked for; more than `pairs` when the budget cut it.
    pub planned_pairs: usize,
    /// Which shard of how many.
    #[serde(default)]
    pub shard: Shard,
    /// Why it ended.
    #[serde(default)]
    pub stop: Stop,
    /// Pairs that one call of the model evaluated, at most; absent for 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub batch: usize,
    /// Calls of the model, by purpose.
    pub calls_by_purpose: BTreeMap<String, u64>,
    /// Calls of the model in all.
    pub calls: u64,
    /// Standard deviation of each component of a drawn translation, in the inputs' units.
    #[serde(with = "figure")]
    pub translation_scale: f64,
    /// Confidence of the bounds, e.g. 0.95.
    #[serde(with = "figure")]
    pub confidence: f64,
    /// How random numbers that the model draws were treated: `transform` or `distribution`; absent where calls started
    /// from equal generator states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub randomness: Option<String>,
}

pub(crate) fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(n: &usize) -> bool {
    *n == 1
}

/// Wall-clock figures; kept apart because everything else in a report is reproducible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Seconds in all.
    #[serde(with = "figure")]
    pub total: f64,
    /// Seconds inside the model's own calls.
    #[serde(with = "figure")]
    pub model: f64,
}

/// The record of one audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Version of equicheck.
    pub equicheck_version: String,
    /// The model.
    pub model: ModelInfo,
    /// Canonical group string.
    pub group: String,
    /// Overall verdict: the worst over outputs.
    pub verdict: Verdict,
    /// How each tensor is transformed.
    pub transforms: Vec<TransformRow>,
    /// Level bounds in force, scaled to the precision under audit.
    pub levels: Levels,
    /// One entry per audited output; in JSON an object by name.
    #[serde(with = "by_name")]
    pub outputs: Vec<OutputResult>,
    /// Outputs that the model returned and nobody declared.
    pub not_audited: Vec<String>,
    /// Whether entries of a batch depend on each other.
    #[serde(default)]
    pub composition: Rows<CompositionRow>,
    /// Inputs at the edge of what the model is used on.
    #[serde(default)]
    pub stress: Rows<StressRow>,
    /// Layer-wise stage.
    pub layers: LayerStage,
    /// Gradient stage.
    pub gradients: Rows<GradientRow>,
    /// What was asked because of all that.
    #[serde(default)]
    pub inquiries: Inquiries,
    /// What is wrong, ranked.
    pub findings: Vec<Finding>,
    /// What to do, ranked.
    pub recommendations: Vec<String>,
    /// How good the audit was, as [`quality()`] says; absent in what earlier versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Remarks that are neither findings nor figures.
    pub notes: Vec<String>,
    /// What was executed.
    pub plan: ExecutedPlan,
    /// Versions, threads, platform.
    pub environment: BTreeMap<String, String>,
    /// Wall-clock figures; absent from a reproducible file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// Of a shard: all that [`merge`](crate::audit::merge) needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Box<Evidence>>,
    /// The worst pair of each output; in no file, and none in what was read or merged.
    #[serde(skip)]
    pub replays: Vec<Replay>,
}

/// The pair with the largest error of one output, to be looked at and computed with.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Path of the output.
    pub output: String,
    /// Index of the test sample.
    pub sample: usize,
    /// The element.
    pub element: Element,
    /// x: the sample's tensors by path.
    pub inputs: Vec<(String, Tensor)>,
    /// T x.
    pub transformed: Vec<(String, Tensor)>,
    /// T' f(x), in double precision; complex numbers as a last axis of length 2.
    pub expected: ArrayD<f64>,
    /// f(T x), likewise, of the model under audit; absent where the model raises.
    pub returned: Option<ArrayD<f64>>,
}

impl OutputResult {
    /// Whether the symmetry was seen to be violated, call by call, and no call failed.
    pub(crate) fn is_violated(&self) -> bool {
        self.distribution.is_none() && self.classification.is_violation() && self.violation.is_finite()
    }
}

impl Report {
    /// The output with the worst verdict, ties broken by the larger violation, then by order.
    pub fn worst_output(&self) -> Option<&OutputResult> {
        let mut worst: Option<&OutputResult> = None;
        for output in &self.outputs {
            let beats = worst.is_none_or(|w| {
                (output.verdict, Figure(output.violation)) > (w.verdict, Figure(w.violation))
            });
            if beats {
                worst = Some(output);
            }
        }
        worst
    }
}

/// Orders figures with NaN above everything: a figure that could not be computed is the worst.
#[derive(PartialEq)]
struct Figure(f64);

impl PartialOrd for Figure {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(match (self.0.is_nan(), other.0.is_nan()) {
            (true, true) => std::cmp::Ordering::Equal,
            (true, false) => std::cmp::Ordering::Greater,
            (false, true) => std::cmp::Ordering::Less,
            (false, false) => self.0.total_cmp(&other.0),
        })
    }
}
