//! Only permutations break the symmetry: something depends on the order of a set.

use crate::symmetry::Factor;

use super::{Evidence, Finding, Mode, figure, only_breaking, severity, violated};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    violated(evidence)
        .filter_map(|output| match only_breaking(evidence, output) {
            Some((Factor::Permutation { axis }, _)) => Some((output, axis)),
            _ => None,
        })
        .map(|(output, axis)| Finding {
            location: format!("output `{}`", output.name),
            severity: severity(output.verdict),
            message: format!("the order of `{axis}` matters, the other factors hold"),
            evidence: vec![figure("violation", output.violation)],
            fix: format!(
                "look for a position encoding, a recurrent or flattening layer over `{axis}`, an aggregation that \
                 depends on order, or an index tensor that lacks `: {axis}` in its layout"
            ),
            ..Finding::of(Mode::Permutation)
        })
        .collect()
}
