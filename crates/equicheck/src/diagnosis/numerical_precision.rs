//! Rounding that is amplified, precision that is dropped inside, constants that were rounded when the model was built.

use super::MARGIN;
use super::case::Case;
use super::{Evidence, Finding, Mode, Severity, figure, is_unrepeatable, of_stress, stressed};
use super::{at, page};
use crate::report::{Classification, Float64, Level, Outcome, OutputResult, StressKind, Verdict};

/// Unit in the last place of single precision: what rounds as coarsely drops precision in a network of double precision.
const SINGLE: f64 = f32::EPSILON as f64;

/// Parts of the names of operations that divide, or whose slope has no bound.
const DIVISIONS: [&str; 12] =
    ["div", "reciprocal", "rsqrt", "sqrt", "norm", "inv", "solve", "acos", "asin", "eig", "svd", "log"];

/// What a module rounds inside explains the violation.
pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let inside = case.seen.and_then(|seen| seen.precision).filter(|kept| *kept > SINGLE);
    let own = case.broken.and_then(|broken| broken.own_error);
    if let (Some(kept), Some(own)) = (inside, own)
        && own <= MARGIN * kept
    {
        let message = format!("{} rounds inside: that is as large as its error", case.place());
        let facts = vec![
            figure("smallest relative change of its input that it feels", kept),
            figure("its own error", own),
        ];
        return Some(case.finding(Mode::LowPrecision, message, facts));
    }
    let kept = |output: &&OutputResult| match output.float64 {
        Float64::Void { effective_precision, .. } => Some(effective_precision),
        _ => None,
    };
    let effective = case.outputs.iter().filter_map(kept).reduce(f64::max)?;
    // Rounding of that size, as amplified as the measured noise is over a unit in the last place.
    let explains = case.outputs.iter().all(|output| {
        output.violation <= MARGIN * effective * (output.noise / case.evidence.roundoff).max(1.0)
    });
    if !explains {
        return None;
    }
    let casts = case.operations(&["cast float*"]);
    let message = format!("precision is dropped inside the model, at {}", case.place());
    let facts = std::iter::once(figure("effective precision", effective))
        .chain(casts.iter().map(|name| format!("operation: {name}")));
    Some(case.finding(Mode::LowPrecision, message, facts.collect()))
}

/// What is said of points that lie far from the origin.
fn far_off(evidence: &Evidence<'_>) -> Option<String> {
    let (input, far) = evidence.inquiries.offset.as_ref().filter(|(_, far)| *far > MARGIN)?;
    Some(format!("points of `{input}` lie {far:.0} times as far from the origin as from their mean"))
}

/// Where rounding is amplified: at one module, more than at all others together, or by the size of the numbers themselves.
fn amplification(evidence: &Evidence<'_>, output: &OutputResult, differ: f64) -> Finding {
    let mut facts = vec![
        figure("error at the output's scale", output.scaled_max),
        figure("the two precisions differ by", differ),
    ];
    let message = if output.classification == Classification::Exact {
        "the symmetry holds, but rounding is amplified beyond the level of a pass"
    } else {
        "the error is no larger than the measured noise, which is beyond the level of a pass"
    };
    let severity = Severity::Medium;
    if let Some(found) = evidence.examined(|seen| seen.amplifies.is_some()) {
        let (seen, _) = found;
        facts.extend(
            seen.amplifies.map(|by| format!("rounding of its input comes out {by:.0e} times as large")),
        );
        // Differences of what lies far off lose digits by that alone.
        let far = far_off(evidence);
        let is_far = far.is_some();
        facts.extend(far);
        let divides = seen.operations.iter().any(|name| DIVISIONS.iter().any(|part| name.contains(part)));
        // Sums and products cancel; what is divided by what should be zero has no bound.
        let mode = if is_far || !divides { Mode::NumericalPrecision } else { Mode::RoundingAmplification };
        return Finding {
            severity,
            message: format!("{message}: at `{}`, more than anywhere else", seen.location),
            evidence: facts,
            effects: vec![format!("output `{}`", output.name)],
            fix: page(mode).advice(),
            ..at(mode, found)
        };
    }
    // Where modules were looked at, none of them does.
    let mode = if evidence.layers.is_some() { Mode::NumericalPrecision } else { Mode::RoundingAmplification };
    Finding {
        location: format!("output `{}`", output.name),
        severity,
        message: message.to_owned(),
        evidence: facts,
        fix: page(mode).advice(),
        ..Finding::of(mode)
    }
}

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (output, differ) in evidence.outputs.iter().zip(evidence.precisions_differ) {
        let location = format!("output `{}`", output.name);
        if is_unrepeatable(output, evidence.levels) {
            continue;
        }
        if amplified(output) {
            findings.push(amplification(evidence, output, *differ));
        }
        if let Float64::Void { effective_precision, input } = &output.float64 {
            let passes = output.verdict == Verdict::Pass;
            let cast = evidence.examined(|seen| seen.amplifies.is_none() && seen.narrows());
            findings.push(Finding {
                effects: cast.iter().map(|_| location.clone()).collect(),
                // Below the precision that the audit was asked for, it is the model's own doing.
                severity: if passes { Severity::Low } else { Severity::Medium },
                message: format!(
                    "precision is dropped inside the model on the way from `{input}`: {}",
                    if passes { "rounding explains the error" } else { "no double-precision comparison was possible" }
                ),
                evidence: vec![figure("effective precision", *effective_precision)],
                fix: "look for a cast (`.float()`, `.half()`, `dtype=`) or a converter that fixes the type, and let the \
                      input's type pass through, to get a double-precision comparison"
                    .to_owned(),
                ..cast.map_or_else(
                    || Finding { location: location.clone(), ..Finding::of(Mode::LowPrecision) },
                    |found| at(Mode::LowPrecision, found),
                )
            });
        }
        if output.classification == Classification::Undetermined
            && output.float64.counts()
            && output.reason.contains("rounded to f32")
        {
            findings.push(Finding {
                location,
                severity: Severity::Medium,
                message: output.reason.clone(),
                evidence: vec![figure("violation", output.violation)],
                fix: "build the model under torch.set_default_dtype(torch.float64) and pass it as `factory=`, so that \
                      its constants are not rounded"
                    .to_owned(),
                ..Finding::of(Mode::NumericalPrecision)
            });
        }
    }
    if let Some(far) = far_off(evidence) {
        let noisy = evidence.outputs.iter().filter(|output| {
            output.classification == Classification::Exact && output.level == Level::Excellent
        });
        findings.extend(noisy.map(|output| Finding {
            location: format!("output `{}`", output.name),
            severity: Severity::Low,
            message: format!("the symmetry holds, and rounding shows: {far}"),
            evidence: vec![
                figure("error at the output's scale", output.scaled_max),
                figure("tolerance that the measured noise supports", MARGIN * output.noise),
            ],
            fix: page(Mode::NumericalPrecision).advice(),
            ..Finding::of(Mode::NumericalPrecision)
        }));
    }
    let scales = [StressKind::FarFromOrigin, StressKind::TinyScale, StressKind::HugeScale];
    findings.extend(stressed(evidence, &scales, &[Outcome::Amplified]).into_iter().map(|(output, rows)| {
        of_stress(
            Mode::RoundingAmplification,
            output,
            &rows,
            "the symmetry holds, but the model amplifies rounding at unusual scales, more than the rounding of the \
             inputs explains",
            "take differences before squares and products (`cdist` by matrix products, `x.square() - 2 x y`), centre \
             coordinates, or run the sensitive part in double precision",
        )
    }));
    findings
}

fn amplified(output: &OutputResult) -> bool {
    matches!(output.classification, Classification::Exact | Classification::Consistent)
        && output.level >= Level::Approximate
}
