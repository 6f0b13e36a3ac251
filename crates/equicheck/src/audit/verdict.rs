//! From evidence to class and verdict (DESIGN 5, METHOD 8-9). The one place where thresholds meet.

use crate::report::{Classification, InterpolationControl, Level, Levels, Verdict};

/// An error within this many noise floors is rounding: the floor is measured at a few points, the error is the
/// largest of thousands.
pub(crate) const MARGIN: f64 = 10.0;
/// Beyond this many floors it is no rounding; in between the two cannot be told apart.
const CLEAR: f64 = 100.0;
/// A double-precision computation whose own noise exceeds single precision's roundoff is no reference: more than
/// that never excuses an error.
const REFERENCE_NOISE: f64 = 1.0 / 16_777_216.0;

/// The double-precision figures of one output, relative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Double {
    /// Largest error at the output's scale.
    pub(crate) scaled: f64,
    /// Largest error, METHOD 7.
    pub(crate) relative: f64,
    /// Noise floor.
    pub(crate) noise: f64,
    /// Effect of constants rounded to f32.
    pub(crate) constants: f64,
    /// Difference of two equal calls.
    pub(crate) repeat: f64,
}

/// What is known about one output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Evidence {
    /// Raises, changed shapes, values that are not finite: the first one, in words.
    pub(crate) failure: Option<String>,
    /// Largest error at the output's scale, in the precision under audit.
    pub(crate) scaled: f64,
    /// The same with each pair's divided by what its boost enlarges rounding by: what levels are told from.
    pub(crate) at_rest: f64,
    /// Largest error, METHOD 7.
    pub(crate) relative: f64,
    /// Noise floor of the precision under audit.
    pub(crate) noise: f64,
    /// The part of it that moves of one unit in the last place explain.
    pub(crate) rounding: f64,
    /// Difference of two calls with the same input, whether seeds were equal or not.
    pub(crate) repeat: f64,
    /// Absent: no comparison that counts.
    pub(crate) double: Option<Double>,
    /// Why the test was vacuous.
    pub(crate) vacuous: Option<String>,
    /// Why it was cut too short to mean anything.
    pub(crate) cut_short: Option<String>,
    /// Largest error under elements that had to interpolate a grid, if there were any: what of it is interpolation is
    /// not known, so that it decides nothing (METHOD 10). They are left out of the other figures.
    pub(crate) interpolated: Option<f64>,
    /// What of it interpolation explains, as far as that was measured.
    pub(crate) control: Option<InterpolationControl>,
    /// The user's tolerance.
    pub(crate) tolerance: Option<f64>,
}

/// Class, verdict, and one sentence that says why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) classification: Classification,
    pub(crate) verdict: Verdict,
    pub(crate) level: Level,
    pub(crate) violation: f64,
    /// Errors above it count as a violation.
    pub(crate) allowance: f64,
    pub(crate) reason: String,
}

/// `levels` are scaled to the precision under audit; a violation is judged by the unscaled bound `broken`.
pub(crate) fn decide(evidence: &Evidence, levels: &Levels, broken: f64) -> Decision {
    let decision = decide_exact(evidence, levels, broken);
    match evidence.interpolated {
        Some(error) if decision.verdict == Verdict::Pass => {
            decide_interpolated(evidence, levels, error, broken, &decision)
        }
        _ => decision,
    }
}

/// The decision on elements that interpolate, where all others pass: never exact, never broken (METHOD 10). A network
/// that only has the symmetry of the lattice may come as near as the interpolation's own error on smooth inputs, so that
/// nothing but an error at the level of a pass, or below what the user tolerates, is one.
fn decide_interpolated(
    evidence: &Evidence,
    levels: &Levels,
    error: f64,
    broken: f64,
    decision: &Decision,
) -> Decision {
    let holds = "it holds under the elements that move pixels onto pixels";
    let known = evidence.control.as_ref().and_then(|control| control.model.zip(control.control));
    let Some((model, control)) = known else {
        let why = evidence.control.as_ref().and_then(|control| control.note.as_deref());
        let why = why.map_or(String::new(), |why| format!(" (cannot judge: {why})"));
        return Decision {
            classification: Classification::Undetermined,
            verdict: Verdict::NeedsAttention,
            reason: format!(
                "{holds}; under all others the grid is interpolated, and how much of the error {error:.1e} is the \
                 interpolation's is not known{why}: audit under the group of the lattice (`C4`, `D4`, `Oh`) for a verdict"
            ),
            ..decision.clone()
        };
    };
    let figures = format!(
        "{model:.1e} on smooth inputs known between pixels, where a reference that is equivariant in the continuum has \
         {control:.1e}"
    );
    let explained = model <= MARGIN * control.max(evidence.noise);
    let on_grid = evidence.control.as_ref().is_some_and(|control| control.receptive_field.is_some());
    let help = if on_grid {
        "`interpolation=\"bicubic\"`, `\"fourier\"` or a finer grid shows more"
    } else {
        "a finer grid shows more"
    };
    let tolerated = evidence.tolerance.is_some_and(|tolerance| model < tolerance.min(broken));
    let accepted = tolerated || model < levels.excellent.min(broken);
    let (classification, verdict, says) = match (explained, accepted) {
        (true, true) => (
            if decision.classification == Classification::Exact {
                Classification::Consistent
            } else {
                decision.classification
            },
            Verdict::Pass,
            format!(
                "under all others its error is {figures}: consistent with discretisation and interpolation"
            ),
        ),
        (true, false) => (
            Classification::Undetermined,
            Verdict::NeedsAttention,
            format!(
                "under all others its error is {figures}: interpolation may explain it, or hide a violation as large; \
                 `tolerance=` says what is small enough, {help}"
            ),
        ),
        (false, _) => (
            Classification::Approximate,
            if tolerated { Verdict::Pass } else { Verdict::NeedsAttention },
            format!(
                "under all others its error is {figures}: {:.0} times as much, beyond what interpolation explains",
                model / control.max(evidence.noise)
            ),
        ),
    };
    Decision { classification, verdict, reason: format!("{holds}; {says}"), ..decision.clone() }
}

/// The decision on what needed no interpolation.
fn decide_exact(evidence: &Evidence, levels: &Levels, broken: f64) -> Decision {
    let (floor, violation, scaled) = match &evidence.double {
        Some(double) => (double.floor(levels), double.relative, double.scaled),
        None => (evidence.noise, evidence.relative, evidence.scaled),
    };
    let allowance = MARGIN * floor;
    // A boost enlarges rounding, and no violation.
    let level = levels.level(if scaled <= allowance { evidence.at_rest } else { evidence.scaled });
    let decision = |classification, verdict, reason| Decision {
        classification,
        verdict,
        level,
        violation,
        allowance,
        reason,
    };
    if let Some(failure) = &evidence.failure {
        return Decision {
            level: Level::Broken,
            ..decision(Classification::Broken, Verdict::Fail, failure.clone())
        };
    }
    let repeat = evidence.double.as_ref().map_or(evidence.repeat, |d| d.repeat.max(evidence.repeat));
    if scaled > allowance && repeat > floor && scaled <= MARGIN * repeat {
        return decision(
            Classification::Undetermined,
            Verdict::NeedsAttention,
            format!(
                "two calls with the same input differ by {repeat:.1e}, as much as the error {scaled:.1e}: a violation \
                 could not be seen; if the model draws random numbers, audit with randomness=\"transform\" or \
                 \"distribution\""
            ),
        );
    }
    if scaled <= allowance {
        return within_noise(evidence, levels, level, floor, &decision);
    }
    let clear = match &evidence.double {
        Some(double) => scaled > CLEAR * double.constants_floor(levels),
        None => scaled > CLEAR * floor,
    };
    if !clear {
        let reason = if evidence.double.is_some() {
            format!(
                "the double-precision error {scaled:.1e} could come from what was rounded to f32 before (that explains \
                 about {floor:.1e}): build the model's constants under a float64 default (`factory=`), or give inputs \
                 in float64"
            )
        } else {
            format!(
                "the error {scaled:.1e} is {:.0} times the measured rounding noise {floor:.1e}, and no double-precision \
                 comparison counts: rounding and a violation cannot be told apart",
                scaled / floor
            )
        };
        return decision(Classification::Undetermined, Verdict::NeedsAttention, reason);
    }
    let where_from =
        if evidence.double.is_some() { "in double precision" } else { "in the model's own precision" };
    let seen =
        format!("a violation of {violation:.1e} {where_from}, rounding explains at most {allowance:.1e}");
    if violation >= broken || violation.is_nan() {
        return decision(Classification::Broken, Verdict::Fail, seen);
    }
    match evidence.tolerance {
        Some(tolerance) if violation < tolerance && evidence.vacuous.is_none() => decision(
            Classification::Approximate,
            Verdict::Pass,
            format!("{seen}; below the given tolerance {tolerance:.1e}"),
        ),
        _ => decision(Classification::Approximate, Verdict::NeedsAttention, seen),
    }
}

fn within_noise(
    evidence: &Evidence,
    levels: &Levels,
    level: Level,
    floor: f64,
    decision: &impl Fn(Classification, Verdict, String) -> Decision,
) -> Decision {
    if let Some(why) = &evidence.vacuous {
        return decision(Classification::Undetermined, Verdict::NeedsAttention, format!("vacuous: {why}"));
    }
    if let Some(why) = &evidence.cut_short {
        return decision(Classification::Undetermined, Verdict::NeedsAttention, why.clone());
    }
    if let Some(double) = &evidence.double
        && evidence.scaled > CLEAR * evidence.rounding.max(double.scaled)
    {
        // METHOD 8: e_P <= e_64 + n_P always holds; but n_P may be a bug of this precision alone.
        return decision(
            Classification::Undetermined,
            Verdict::NeedsAttention,
            format!(
                "the symmetry holds in double precision, but the error {:.1e} in the model's own is {:.0} times what \
                 rounding of inputs and parameters explains: something else differs between the precisions",
                evidence.scaled,
                evidence.scaled / evidence.rounding
            ),
        );
    }
    let (classification, seen) = match &evidence.double {
        Some(double) => (
            Classification::Exact,
            format!(
                "the double-precision error {:.1e} is rounding (noise floor {floor:.1e}), so what is left in the \
                 model's own precision is rounding too",
                double.scaled
            ),
        ),
        None => (
            Classification::Consistent,
            format!("the error {:.1e} is within the measured rounding noise ({floor:.1e})", evidence.scaled),
        ),
    };
    if level <= Level::Excellent {
        return decision(classification, Verdict::Pass, seen);
    }
    decision(
        classification,
        Verdict::NeedsAttention,
        format!(
            "{seen}; but that rounding is amplified to {:.1e}, above {:.0e}",
            evidence.at_rest, levels.excellent
        ),
    )
}

impl Double {
    fn floor(&self, levels: &Levels) -> f64 {
        self.noise.min(REFERENCE_NOISE).max(self.constants_floor(levels))
    }

    /// Constants explain an error only while what they explain stays below the level of a pass.
    fn constants_floor(&self, levels: &Levels) -> f64 {
        self.constants.min(levels.excellent / MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact() -> Evidence {
        Evidence {
            failure: None,
            scaled: 1e-7,
            at_rest: 1e-7,
            relative: 2e-7,
            noise: 1e-7,
            rounding: 1e-7,
            repeat: 0.0,
            double: Some(Double {
                scaled: 1e-15,
                relative: 2e-15,
                noise: 5e-16,
                constants: 0.0,
                repeat: 0.0,
            }),
            vacuous: None,
            cut_short: None,
            interpolated: None,
            control: None,
            tolerance: None,
        }
    }

    fn outcome(evidence: &Evidence) -> (Classification, Verdict) {
        let decision = decide(evidence, &Levels::default(), Levels::default().approximate);
        (decision.classification, decision.verdict)
    }

    fn with_double(change: impl Fn(&mut Double)) -> Evidence {
        let mut evidence = exact();
        change(evidence.double.as_mut().unwrap());
        evidence
    }

    #[test]
    fn rounding_in_both_precisions_is_exact() {
        assert_eq!(outcome(&exact()), (Classification::Exact, Verdict::Pass));
    }

    #[test]
    fn amplified_rounding_is_exact_but_needs_attention() {
        let evidence = Evidence { scaled: 2e-4, at_rest: 2e-4, noise: 1e-4, rounding: 1e-4, ..exact() };
        assert_eq!(outcome(&evidence), (Classification::Exact, Verdict::NeedsAttention));
    }

    #[test]
    fn rounding_that_a_boost_enlarges_is_not_the_models() {
        let boosted = Evidence { scaled: 2e-4, at_rest: 2e-5, noise: 1e-4, rounding: 1e-4, ..exact() };
        assert_eq!(outcome(&boosted), (Classification::Exact, Verdict::Pass));
    }

    #[test]
    fn a_violation_under_boosts_has_the_level_of_its_size() {
        let mut violated = with_double(|double| (double.scaled, double.relative) = (5e-3, 5e-3));
        (violated.scaled, violated.at_rest) = (5e-3, 5e-5);
        let decision = decide(&violated, &Levels::default(), Levels::default().approximate);
        assert_eq!(
            (decision.classification, decision.level),
            (Classification::Approximate, Level::Approximate)
        );
    }

    #[test]
    fn an_error_of_this_precision_alone_is_not_called_rounding() {
        let evidence = Evidence { scaled: 5e-5, at_rest: 5e-5, noise: 5e-5, ..exact() };
        assert_eq!(outcome(&evidence), (Classification::Undetermined, Verdict::NeedsAttention));
    }

    #[test]
    fn a_violation_is_judged_by_the_unscaled_bound() {
        let evidence = with_double(|d| (d.scaled, d.relative) = (0.45, 0.45));
        let half = Levels { perfect: 8e-3, excellent: 0.8, approximate: 0.8 };
        let decision = decide(&evidence, &half, Levels::default().approximate);
        assert_eq!((decision.classification, decision.verdict), (Classification::Broken, Verdict::Fail));
    }

    #[test]
    fn a_violation_below_single_precision_noise_is_not_excused() {
        let evidence = Evidence { noise: 1e-4, ..with_double(|d| (d.scaled, d.relative) = (1e-9, 1e-9)) };
        assert_eq!(outcome(&evidence), (Classification::Approximate, Verdict::NeedsAttention));
    }

    #[test]
    fn one_per_cent_divides_approximate_from_broken() {
        let below = with_double(|d| (d.scaled, d.relative) = (0.0099, 0.0099));
        let at = with_double(|d| (d.scaled, d.relative) = (0.01, 0.01));
        assert_eq!(outcome(&below), (Classification::Approximate, Verdict::NeedsAttention));
        assert_eq!(outcome(&at), (Classification::Broken, Verdict::Fail));
    }

    #[test]
    fn a_noisy_reference_excuses_nothing_beyond_single_precision() {
        let evidence = with_double(|d| (d.scaled, d.relative, d.noise) = (0.77, 0.77, 0.77));
        assert_eq!(outcome(&evidence), (Classification::Broken, Verdict::Fail));
    }

    #[test]
    fn rounded_constants_give_exact_then_undetermined_then_a_violation() {
        let at = |error| with_double(|d| (d.scaled, d.relative, d.constants) = (error, error, 1e-8));
        assert_eq!(outcome(&at(9e-8)), (Classification::Exact, Verdict::Pass));
        assert_eq!(outcome(&at(5e-7)), (Classification::Undetermined, Verdict::NeedsAttention));
        assert_eq!(outcome(&at(2e-6)), (Classification::Approximate, Verdict::NeedsAttention));
    }

    #[test]
    fn without_double_precision_the_best_is_consistent() {
        let at = |error| Evidence {
            scaled: error,
            at_rest: error,
            relative: error,
            noise: 1e-7,
            double: None,
            ..exact()
        };
        assert_eq!(outcome(&at(5e-7)), (Classification::Consistent, Verdict::Pass));
        assert_eq!(outcome(&at(5e-6)), (Classification::Undetermined, Verdict::NeedsAttention));
        assert_eq!(outcome(&at(5e-5)), (Classification::Approximate, Verdict::NeedsAttention));
        assert_eq!(outcome(&at(5e-2)), (Classification::Broken, Verdict::Fail));
        let amplified = Evidence { noise: 1e-4, ..at(2e-4) };
        assert_eq!(outcome(&amplified), (Classification::Consistent, Verdict::NeedsAttention));
    }

    #[test]
    fn vacuous_and_cut_short_never_pass_but_a_violation_stays_one() {
        let vacuous = Evidence { vacuous: Some("constant".to_owned()), ..exact() };
        assert_eq!(outcome(&vacuous), (Classification::Undetermined, Verdict::NeedsAttention));
        let cut = Evidence { cut_short: Some("budget".to_owned()), ..exact() };
        assert_eq!(outcome(&cut), (Classification::Undetermined, Verdict::NeedsAttention));
        let broken = Evidence {
            vacuous: Some("copy of an input".to_owned()),
            ..with_double(|d| (d.scaled, d.relative) = (0.5, 0.5))
        };
        assert_eq!(outcome(&broken), (Classification::Broken, Verdict::Fail));
    }

    #[test]
    fn a_tolerance_passes_what_is_approximate_and_nothing_that_is_broken() {
        let at = |error, tolerance| Evidence {
            tolerance: Some(tolerance),
            ..with_double(|d| (d.scaled, d.relative) = (error, error))
        };
        assert_eq!(outcome(&at(1e-3, 2e-3)), (Classification::Approximate, Verdict::Pass));
        assert_eq!(outcome(&at(3e-3, 2e-3)), (Classification::Approximate, Verdict::NeedsAttention));
        assert_eq!(outcome(&at(0.1, 0.5)), (Classification::Broken, Verdict::Fail));
    }

    /// A lattice part that passes, with these errors of model and reference on smooth inputs.
    fn interpolated(model: f64, control: f64) -> Evidence {
        let measured = InterpolationControl {
            model: Some(model),
            control: Some(control),
            pairs: 24,
            receptive_field: None,
            scaling: None,
            note: None,
        };
        Evidence { interpolated: Some(0.3), control: Some(measured), ..exact() }
    }

    #[test]
    fn interpolation_alone_is_never_exact_and_never_broken() {
        use Classification::{Approximate, Consistent, Undetermined};
        use Verdict::{NeedsAttention, Pass};
        for (model, control, expected) in [
            (9.9e-5, 1e-3, (Consistent, Pass)),
            (9.9e-3, 1e-3, (Undetermined, NeedsAttention)),
            (1e-15, 0.0, (Consistent, Pass)),
            (9.9e-3, 9.8e-4, (Approximate, NeedsAttention)),
            (1e-2, 1e-2, (Undetermined, NeedsAttention)),
            (0.9, 0.1, (Undetermined, NeedsAttention)),
            (2.0, 0.1, (Approximate, NeedsAttention)),
            (f64::NAN, 0.1, (Approximate, NeedsAttention)),
        ] {
            assert_eq!(outcome(&interpolated(model, control)), expected, "{model:e} beside {control:e}");
        }
        let tolerated =
            |model, tolerance| outcome(&Evidence { tolerance: Some(tolerance), ..interpolated(model, 1e-2) });
        assert_eq!(tolerated(5e-3, 8e-3), (Consistent, Pass));
        assert_eq!(tolerated(9e-3, 8e-3), (Undetermined, NeedsAttention));
        assert_eq!(tolerated(0.05, 0.5), (Undetermined, NeedsAttention));
        // Both figures are said.
        let decision = decide(&interpolated(2.0, 0.123), &Levels::default(), 1e-2);
        assert!(
            decision.reason.contains("2.0e0") && decision.reason.contains("1.2e-1"),
            "{}",
            decision.reason
        );
    }

    #[test]
    fn without_a_control_interpolation_decides_nothing() {
        let unknown = Evidence { interpolated: Some(1e-9), ..exact() };
        assert_eq!(outcome(&unknown), (Classification::Undetermined, Verdict::NeedsAttention));
        let control = Some(InterpolationControl::cannot("the whole image".to_owned()));
        let cannot = decide(&Evidence { control, ..unknown }, &Levels::default(), 1e-2);
        assert!(cannot.reason.contains("(cannot judge: the whole image)"), "{}", cannot.reason);
    }

    #[test]
    fn a_control_excuses_nothing_on_the_lattice() {
        let broken = Evidence {
            double: with_double(|d| (d.scaled, d.relative) = (0.5, 0.5)).double,
            ..interpolated(1e-3, 1e-2)
        };
        assert_eq!(outcome(&broken), (Classification::Broken, Verdict::Fail));
        let vacuous = Evidence { vacuous: Some("constant".to_owned()), ..interpolated(1e-3, 1e-2) };
        assert_eq!(outcome(&vacuous), (Classification::Undetermined, Verdict::NeedsAttention));
    }

    #[test]
    fn a_tolerance_passes_what_interpolation_does_not_explain() {
        let at = |tolerance| Evidence { tolerance: Some(tolerance), ..interpolated(9.9e-3, 1e-5) };
        assert_eq!(outcome(&at(2e-2)), (Classification::Approximate, Verdict::Pass));
        assert_eq!(outcome(&at(5e-3)), (Classification::Approximate, Verdict::NeedsAttention));
        // Nothing that is as large as a violation.
        let large = Evidence { tolerance: Some(0.9), ..interpolated(0.5, 1e-5) };
        assert_eq!(outcome(&large), (Classification::Approximate, Verdict::NeedsAttention));
    }

    #[test]
    fn failures_and_random_models() {
        let failing = Evidence { failure: Some("raises".to_owned()), ..exact() };
        assert_eq!(outcome(&failing), (Classification::Broken, Verdict::Fail));
        let random = with_double(|d| (d.scaled, d.relative, d.noise, d.repeat) = (0.3, 0.3, 0.2, 0.2));
        assert_eq!(outcome(&random), (Classification::Undetermined, Verdict::NeedsAttention));
    }
}
