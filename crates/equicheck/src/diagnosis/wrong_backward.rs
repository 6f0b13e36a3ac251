//! A backward that is not the derivative of the forward and breaks the symmetry, or is wrong in the second order.

use super::{Evidence, Finding, Mode, Severity, at_faults, severity};
use crate::audit::MARGIN;
use crate::report::{GradientCheck, GradientRow, Outcome, Verdict};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let disagreeing = disagreeing(evidence);
    for (output, rows) in &disagreeing {
        if !is_broken(evidence, output) {
            continue;
        }
        let mut facts: Vec<String> = rows.iter().map(|row| row.reason.clone()).collect();
        facts.extend(clipped(evidence, output));
        let finding = Finding {
            location: format!("output `{output}` by {}", targets(rows)),
            severity: severity(worst(evidence, output).unwrap_or(Verdict::NeedsAttention)),
            message: "the backward is not the derivative of the forward, and it breaks the symmetry"
                .to_owned(),
            evidence: facts,
            fix: fix(evidence, output),
            ..Finding::of(Mode::WrongBackward)
        };
        findings.push(at_faults(finding, rows));
    }
    // Equivariance that is lost in the gradient alone, where no difference could be taken.
    let mut outputs: Vec<&str> = Vec::new();
    for row in evidence.gradients.iter().filter(|row| is_violation(row)) {
        if !outputs.contains(&row.output.as_str()) {
            outputs.push(&row.output);
        }
    }
    for output in outputs {
        let known = disagreeing.iter().any(|(name, _)| *name == output);
        let stable = evidence.gradients.iter().any(|row| {
            row.check == GradientCheck::Step && row.output == output && row.outcome == Outcome::Violated
        });
        let forward = evidence.outputs.iter().any(|o| o.name == output && o.verdict != Verdict::Pass);
        if known || stable || forward {
            continue;
        }
        let rows: Vec<&GradientRow> =
            evidence.gradients.iter().filter(|row| is_violation(row) && row.output == output).collect();
        let mut facts: Vec<String> = rows.iter().take(5).map(|row| row.reason.clone()).collect();
        let clipped = clipped(evidence, output);
        let trained = rows.iter().all(|row| row.mode == "train");
        let linear = clipped.is_empty();
        facts.extend(clipped);
        let finding = Finding {
            location: format!(
                "output `{output}` by {}{}",
                targets(&rows),
                if trained { ", in train mode" } else { "" }
            ),
            severity: severity(worst(evidence, output).unwrap_or(Verdict::NeedsAttention)),
            message: if trained {
                "in eval mode output and gradient keep the symmetry, in train mode the gradient does not"
                    .to_owned()
            } else if linear {
                "the output keeps the symmetry and its gradient does not".to_owned()
            } else {
                "the backward is not linear, as no derivative is, and it breaks the symmetry".to_owned()
            },
            evidence: facts,
            fix: if trained {
                "drop whole vectors and irreps, not components of them, and take batch statistics of norms"
                    .to_owned()
            } else {
                fix(evidence, output)
            },
            ..Finding::of(if linear || trained { Mode::GradientNotEquivariant } else { Mode::WrongBackward })
        };
        findings.push(at_faults(finding, &rows));
    }
    findings.extend(of_rows(evidence));
    findings.extend(of_second_order(evidence));
    findings
}

/// One finding for each output whose backward has a wrong backward.
fn of_second_order(evidence: &Evidence<'_>) -> Vec<Finding> {
    let wrong =
        |row: &&GradientRow| row.check == GradientCheck::SecondOrder && row.outcome == Outcome::Violated;
    let of = |output: &crate::report::OutputResult| {
        let rows: Vec<&GradientRow> =
            evidence.gradients.iter().filter(wrong).filter(|row| row.output == output.name).collect();
        let finding = || {
            Finding {
            location: format!("output `{}` by {}, second order", output.name, targets(&rows)),
            severity: Severity::Medium,
            message: "the backward of the backward is not the derivative of the backward".to_owned(),
            evidence: rows.iter().take(4).map(|row| row.reason.clone()).collect(),
            fix: "let the custom backward consist of differentiable operations on saved tensors (no `detach`, no \
                  `.data`), or check its double backward by torch.autograd.gradgradcheck"
                .to_owned(),
            ..Finding::of(Mode::WrongBackward)
        }
        };
        (!rows.is_empty()).then(|| at_faults(finding(), &rows))
    };
    evidence.outputs.iter().filter_map(of).collect()
}

/// Findings that are of one row each.
fn of_rows(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in evidence.gradients {
        if row.check == GradientCheck::Derivative && row.outcome == Outcome::Violated && in_own_precision(row)
        {
            let finding = Finding {
                location: format!(
                    "output `{}` by `{}`, in the model's own precision",
                    row.output,
                    row.target.as_deref().unwrap_or("all")
                ),
                severity: Severity::Medium,
                message: "the backward is the derivative in double precision alone".to_owned(),
                evidence: vec![row.reason.clone()],
                fix: "look for a kernel or a branch of the backward that is taken in this precision alone, or for \
                      values that overflow or cancel there"
                    .to_owned(),
                ..Finding::of(Mode::WrongBackward)
            };
            findings.push(at_faults(finding, &[row]));
        }
        if row.check == GradientCheck::Claim
            && row.outcome == Outcome::Violated
            && row.verdict != Some(Verdict::Fail)
        {
            let scalar = row.target.as_deref().unwrap_or("a scalar");
            findings.push(Finding {
                location: format!("output `{}`", row.output),
                severity: severity(row.verdict.unwrap_or(Verdict::NeedsAttention)),
                message: format!(
                    "the output is nearly the derivative of `{scalar}`, and not to rounding: if it is meant to be, a \
                     part of the path is cut or wrong"
                ),
                evidence: vec![row.reason.clone()],
                fix: format!(
                    "compute `{}` by automatic differentiation of `{scalar}` with nothing detached on the way (cutoffs, \
                     envelopes, normalisations)",
                    row.output
                ),
                ..Finding::of(Mode::WrongBackward)
            });
        }
        if row.check == GradientCheck::Repetition && row.outcome == Outcome::Violated {
            findings.push(Finding {
                location: format!("output `{}` by `{}`", row.output, row.target.as_deref().unwrap_or("all")),
                severity: Severity::Medium,
                message: "equal calls give different gradients".to_owned(),
                evidence: vec![row.reason.clone()],
                fix: "look for a cache, a counter or a random number in the backward or in a hook".to_owned(),
                ..Finding::of(Mode::GradientDrift)
            });
        }
    }
    findings
}

fn fix(evidence: &Evidence<'_>, output: &str) -> String {
    if clipped(evidence, output).is_empty() {
        "compare the custom backward with its forward (torch.autograd.gradcheck), and look for hooks that change \
         gradients component by component"
            .to_owned()
    } else {
        "clip gradients by the norm of whole vectors, or of all gradients together, not component by component"
            .to_owned()
    }
}

/// Rows whose backward is not linear.
fn clipped(evidence: &Evidence<'_>, output: &str) -> Vec<String> {
    let rows = evidence.gradients.iter().filter(|row| {
        row.check == GradientCheck::Linearity && row.output == output && row.outcome == Outcome::Violated
    });
    rows.take(3)
        .map(|row| format!("by `{}`: {}", row.target.as_deref().unwrap_or("all"), row.reason))
        .collect()
}

fn is_violation(row: &GradientRow) -> bool {
    matches!(row.check, GradientCheck::Input | GradientCheck::Parameter) && row.outcome == Outcome::Violated
}

/// Whether some gradient of the output breaks the symmetry although the output keeps it.
pub(super) fn is_broken(evidence: &Evidence<'_>, output: &str) -> bool {
    evidence.gradients.iter().any(|row| row.output == output && is_violation(row))
}

fn worst(evidence: &Evidence<'_>, output: &str) -> Option<Verdict> {
    evidence.gradients.iter().filter(|row| row.output == output).filter_map(|row| row.verdict).max()
}

/// Whether only the model's own precision shows it: then it is not meant.
fn in_own_precision(row: &GradientRow) -> bool {
    row.max_relative_f64.zip(row.noise).is_some_and(|(error, noise)| error <= MARGIN * noise)
}

/// Whether the row says that the backward is not the forward's derivative, in double precision too.
pub(crate) fn is_wrong_derivative(row: &GradientRow) -> bool {
    row.check == GradientCheck::Derivative && row.outcome == Outcome::Violated && !in_own_precision(row)
}

/// Rows whose backward is not the forward's derivative, by output.
pub(super) fn disagreeing<'a>(evidence: &Evidence<'a>) -> Vec<(&'a str, Vec<&'a GradientRow>)> {
    let mut found: Vec<(&str, Vec<&GradientRow>)> = Vec::new();
    for row in evidence.gradients.iter().filter(|row| is_wrong_derivative(row)) {
        match found.iter_mut().find(|(output, _)| *output == row.output) {
            Some((_, rows)) => rows.push(row),
            None => found.push((&row.output, vec![row])),
        }
    }
    found
}

/// `x`, `layer.weight` and 3 more.
pub(super) fn targets(rows: &[&GradientRow]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in rows.iter().filter_map(|row| row.target.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let shown: Vec<String> = names.iter().take(4).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(4);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}
