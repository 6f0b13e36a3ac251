//! Verdicts on rows beside the plan: the same evidence and the same decision as for an output.

use crate::report::{Classification, Level, Levels, Outcome, Repeatability};

use super::super::precision::{Proof, Proven};
use super::super::verdict::{Decision, Evidence, decide};
use super::{EndToEnd, Noise};

/// What is known of the outputs whatever the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) proven: &'a Proven,
    pub(super) repeatability: &'a [Repeatability],
    pub(super) roundoff: f64,
    pub(super) levels: &'a Levels,
}

/// Largest errors of one output in one row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Figures {
    pub(super) scaled: f64,
    pub(super) relative: f64,
    /// The same two in double precision.
    pub(super) double: Option<(f64, f64)>,
}

impl Figures {
    /// The worse of both. A comparison in double precision that is missing once is missing.
    pub(super) fn worse(self, other: Self) -> Self {
        Self {
            scaled: self.scaled.max(other.scaled),
            relative: self.relative.max(other.relative),
            double: self.double.zip(other.double).map(|(a, b)| (a.0.max(b.0), a.1.max(b.1))),
        }
    }
}

/// What follows for a row.
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) reason: String,
    pub(super) noise: f64,
    /// Whether the double-precision figures count.
    pub(super) counts: bool,
}

impl EndToEnd<'_> {
    pub(super) fn judge(&self, o: usize, seen: Figures, noise: &Noise, ground: Ground<'_>) -> Judgement {
        let counts = ground.proven.outputs[o] == Proof::Double && noise.same_function();
        let repeat = ground.repeatability[o];
        let double =
            seen.double.filter(|_| counts).map(|(scaled, relative)| noise.in_double(scaled, relative));
        let evidence = Evidence {
            failure: None,
            scaled: seen.scaled,
            at_rest: seen.scaled,
            relative: seen.relative,
            noise: noise.working(ground.roundoff, double.is_some()),
            rounding: noise.floor(ground.roundoff),
            repeat: repeat.seeded.max(repeat.unseeded),
            double,
            vacuous: None,
            cut_short: None,
            interpolated: None,
            control: None,
            tolerance: None,
        };
        let decision = decide(&evidence, ground.levels, self.options.levels.approximate);
        Judgement {
            outcome: outcome(&decision),
            noise: evidence.noise,
            counts: double.is_some(),
            reason: decision.reason,
        }
    }
}

/// What a decision says of a row.
pub(super) fn outcome(decision: &Decision) -> Outcome {
    match decision.classification {
        Classification::Exact | Classification::Consistent if decision.level <= Level::Excellent => {
            Outcome::Holds
        }
        Classification::Exact | Classification::Consistent => Outcome::Amplified,
        Classification::Approximate | Classification::Broken => Outcome::Violated,
        Classification::Undetermined => Outcome::Undetermined,
    }
}
