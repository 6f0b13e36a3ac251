//! A gradient that transforms as it must and is not the derivative: a path is cut, or the backward is an estimate.

use super::wrong_backward::{disagreeing, is_broken, targets};
use super::{Evidence, Finding, Mode, Severity, at_faults, severity};
use crate::report::{GradientCheck, GradientRow, Verdict};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (output, rows) in disagreeing(evidence) {
        let claims: Vec<&GradientRow> =
            failing(evidence).filter(|row| row.target.as_deref() == Some(output)).collect();
        if !claims.is_empty() {
            findings.push(at_faults(of_claims(output, &claims), &rows));
            continue;
        }
        // Its gradient is wrong for the same reason as it is.
        if is_broken(evidence, output) || failing(evidence).any(|row| row.output == output) {
            continue;
        }
        let finding = Finding {
            location: format!("output `{output}` by {}", targets(&rows)),
            severity: Severity::Low,
            message: "the gradient transforms as it must, but it is not the derivative of the forward: a path is cut \
                      (`detach`, `no_grad`, `stop_gradient`), or the backward is an estimate (straight-through)"
                .to_owned(),
            evidence: rows.iter().map(|row| row.reason.clone()).collect(),
            fix: "nothing, if the gradient is stopped on purpose; else take out the `detach`, or correct the custom \
                  backward: its gradient is not that of its forward"
                .to_owned(),
            ..Finding::of(Mode::DetachedGradient)
        };
        findings.push(at_faults(finding, &rows));
    }
    findings
}

/// Outputs that are the backward of another one, where that is not the derivative.
fn failing<'a>(evidence: &Evidence<'a>) -> impl Iterator<Item = &'a GradientRow> {
    let rows = evidence.gradients.iter();
    rows.filter(|row| row.check == GradientCheck::Claim && row.verdict == Some(Verdict::Fail))
}

/// What is returned as a derivative has to be one.
fn of_claims(scalar: &str, rows: &[&GradientRow]) -> Finding {
    let names: Vec<String> = rows.iter().map(|row| format!("`{}`", row.output)).collect();
    Finding {
        location: format!("output {}", names.join(", ")),
        severity: severity(Verdict::Fail),
        message: format!(
            "it is what automatic differentiation of `{scalar}` gives, and not the derivative of `{scalar}`: a path is \
             cut (`detach`, `no_grad`), or a custom backward is wrong"
        ),
        evidence: rows.iter().map(|row| row.reason.clone()).collect(),
        fix: format!(
            "take out every `detach` between the input and `{scalar}` (edge vectors, cutoffs, filters, frames), and \
             compare custom backwards with their forwards (torch.autograd.gradcheck)"
        ),
        ..Finding::of(Mode::DetachedGradient)
    }
}
