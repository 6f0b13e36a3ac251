//! A nonlinearity, or a norm of components, acts on the components of what the group turns.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::{BreakKind, Confidence};

/// Norms over components.
const NORMS: [&str; 5] = ["native_layer_norm", "layer_norm", "rms_norm", "native_group_norm", "group_norm"];

/// Nonlinear functions of single numbers.
const POINTWISE: [&str; 12] = [
    "tanh",
    "relu",
    "silu",
    "sigmoid",
    "gelu",
    "elu",
    "selu",
    "celu",
    "softplus",
    "leaky_relu",
    "hardtanh",
    "mish",
];

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let seen = case.seen?;
    if !case.turns_break() {
        return None;
    }
    if seen.componentwise != Some(true) || seen.linear != Some(false) {
        return None;
    }
    let message = format!("{} is a nonlinear function of each component by itself", case.place());
    let fact = "a component that is wrong depends on the same component of the input alone, and not linearly";
    let mut finding = case.finding(Mode::NonequivariantNonlinearity, message, vec![fact.to_owned()]);
    finding.evidence.extend(Case::stabiliser(&case.holds_under()));
    Some(finding)
}

/// What keeps exchanges of the axes, and no other turn, takes each component by itself and all alike.
pub(super) fn by_axes(case: &Case<'_>) -> Option<Finding> {
    let seen = case.seen?;
    let held = case.holds_under();
    let alike = ["exchanges of the axes", "thirds of a turn about the diagonals"];
    let exchanges = held.iter().any(|row| alike.contains(&row.group.as_str()));
    let right_angles = held.iter().any(|row| row.group == "quarter turns") && !case.on_grid();
    // A cutoff shaped like a box keeps these too.
    let pointwise = case.operations(&POINTWISE);
    if !(exchanges || right_angles)
        || pointwise.is_empty()
        || seen.linear == Some(true)
        || seen.constant == Some(true)
    {
        return None;
    }
    let message = format!("{} treats the components along the axes alike, and each by itself", case.place());
    let mut facts = Case::stabiliser(&held);
    facts.extend(pointwise.iter().map(|name| format!("operation: {name}")));
    let mut finding = case.finding(Mode::NonequivariantNonlinearity, message, facts);
    finding.confidence = finding.confidence.min(Confidence::Medium);
    Some(finding)
}

/// The same by its operations, where nothing that was measured says more.
pub(super) fn by_operations(case: &Case<'_>) -> Option<Finding> {
    if !case.turns_break() {
        return None;
    }
    let norms = case.operations(&NORMS);
    // Code between calls cannot be called alone: its operations tell.
    let between = case.broken.is_some_and(|broken| broken.kind == BreakKind::Functional);
    let pointwise = if between { case.operations(&POINTWISE) } else { Vec::new() };
    if norms.is_empty() && pointwise.is_empty() {
        return None;
    }
    let (message, fact) = if norms.is_empty() {
        (
            format!("a nonlinear function of single components is among the operations of {}", case.place()),
            format!("operation: {}", pointwise.join(", ")),
        )
    } else {
        (
            format!("{} normalises the components of what the group turns", case.place()),
            format!("operation: {}", norms.join(", ")),
        )
    };
    let mut finding = case.finding(Mode::NonequivariantNonlinearity, message, vec![fact]);
    // Other operations stand beside it.
    finding.confidence = finding.confidence.min(Confidence::Medium);
    finding.evidence.extend(Case::stabiliser(&case.holds_under()));
    Some(finding)
}
