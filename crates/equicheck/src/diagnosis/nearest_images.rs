//! Atoms that cross the border of the cell change the output: the model takes no nearest images.

use super::{Evidence, Finding, Mode, alone, figure, severity, violated};
use crate::audit::WRAPPED;
use crate::report::OutputResult;

/// Whether nothing breaks the symmetry but bringing atoms back into the cell.
pub(super) fn applies(evidence: &Evidence<'_>, output: &OutputResult) -> bool {
    output.worst.as_ref().is_some_and(|worst| worst.kind == WRAPPED)
        && alone(evidence, output).iter().all(|(_, row)| row.exceeding == 0)
}

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    violated(evidence)
        .filter(|output| applies(evidence, output))
        .map(|output| Finding {
            location: format!("output `{}`", output.name),
            severity: severity(output.verdict),
            message: "atoms that cross the border of the cell and are brought back into it change the output".to_owned(),
            evidence: vec![
                figure("violation", output.violation),
                "holds while all atoms move together, without being brought back".to_owned(),
            ],
            fix: format!(
                "take differences of coordinates at their nearest images on the way to `{0}`, and declare `{0}` modulo the \
                 lattice too if it is a position; if coordinates are not meant modulo the cell (a slab, a molecule in a \
                 box), declare them as `point`",
                output.name
            ),
            ..Finding::of(Mode::NearestImages)
        })
        .collect()
}
