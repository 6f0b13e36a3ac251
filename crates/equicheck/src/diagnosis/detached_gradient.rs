//! A gradient that transforms as it must and is not the derivative: a path is cut, or the backward is an estimate.

use super::wrong_backward::{disagreeing, is_broken, targets};
use super::{Evidence, Finding, Severity};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (output, rows) in disagreeing(evidence) {
        if is_broken(evidence, output) {
            continue;
        }
        findings.push(Finding {
            mode: "detached-gradient".to_owned(),
            location: format!("output `{output}` by {}", targets(&rows)),
            severity: Severity::Low,
            message: "the gradient transforms as it must, but it is not the derivative of the forward: a path is cut \
                      (`detach`, `no_grad`, `stop_gradient`), or the backward is an estimate (straight-through)"
                .to_owned(),
            evidence: rows.iter().map(|row| row.reason.clone()).collect(),
            fix: "nothing, if the gradient is stopped on purpose; else take out the `detach`, or correct the custom \
                  backward: its gradient is not that of its forward"
                .to_owned(),
        });
    }
    findings
}
