//! A nonlinearity, or a norm of components, acts on the components of what the group turns.

use super::case::Case;
use super::{Finding, Mode};

/// Norms over components.
const NORMS: [&str; 5] = ["native_layer_norm", "layer_norm", "rms_norm", "native_group_norm", "group_norm"];

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let seen = case.seen?;
    if !case.turns_break() {
        return None;
    }
    let componentwise = seen.componentwise == Some(true) && seen.linear == Some(false);
    let norms = case.operations(&NORMS);
    if !componentwise && norms.is_empty() {
        return None;
    }
    let (message, fact) = if componentwise {
        (
            format!("{} is a nonlinear function of each component by itself", case.place()),
            "a component that is wrong depends on the same component of the input alone, and not linearly"
                .to_owned(),
        )
    } else {
        (
            format!("{} normalises the components of what the group turns", case.place()),
            format!("operation: {}", norms.join(", ")),
        )
    };
    Some(case.finding(Mode::NonequivariantNonlinearity, message, vec![fact]))
}
