//! Rounding that is amplified, precision that is dropped inside, constants that were rounded when the model was built.

use super::{Evidence, Finding, Mode, Severity, figure, is_unrepeatable, of_stress, stressed};
use crate::report::{Classification, Float64, Level, Outcome, OutputResult, StressKind, Verdict};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (output, differ) in evidence.outputs.iter().zip(evidence.precisions_differ) {
        let location = format!("output `{}`", output.name);
        if is_unrepeatable(output, evidence.levels) {
            continue;
        }
        if amplified(output) {
            findings.push(Finding {
                location: location.clone(),
                severity: Severity::Medium,
                message: if output.classification == Classification::Exact {
                    "the symmetry holds, but rounding is amplified beyond the level of a pass".to_owned()
                } else {
                    "the error is no larger than the measured noise, which is beyond the level of a pass".to_owned()
                },
                evidence: vec![
                    figure("error at the output's scale", output.scaled_max),
                    figure("the two precisions differ by", *differ),
                ],
                fix: "centre coordinates before differences are taken, normalise intermediate scales, or run the \
                      sensitive part in double precision"
                    .to_owned(),
                ..Finding::of(Mode::RoundingAmplification)
            });
        }
        if let Float64::Void { effective_precision, input } = &output.float64 {
            let passes = output.verdict == Verdict::Pass;
            findings.push(Finding {
                location: location.clone(),
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
                ..Finding::of(Mode::LowPrecision)
            });
        }
        if output.classification == Classification::Undetermined
            && output.float64.counts()
            && output.reason.contains("constants")
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
