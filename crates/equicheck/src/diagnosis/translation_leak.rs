//! Only translations break the symmetry: an absolute coordinate reaches the output, or the border of a grid.

use crate::symmetry::Factor;

use super::{Evidence, Finding, Mode, figure, only_breaking, severity, violated};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    violated(evidence)
        .filter(|output| matches!(only_breaking(evidence, output), Some((Factor::Translation(_), _))))
        .map(|output| Finding {
            location: format!("output `{}`", output.name),
            severity: severity(output.verdict),
            message: "translations break the symmetry, the other factors hold".to_owned(),
            evidence: vec![figure("violation", output.violation)],
            fix: if evidence.grids {
                format!(
                    "on the way to `{}` pad circularly where the grid wraps around, and not at all where it ends; a stride \
                     or pooling of k keeps shifts by multiples of k alone (`kT(n)`); take out positional encodings",
                    output.name
                )
            } else {
                format!(
                    "use differences of coordinates (or coordinates about the centroid) on the way to `{}`; if it is a \
                     position, declare it as `point` (`point mod cell` if it is wrapped into a cell), if it is a \
                     displacement or force, as `vector`",
                    output.name
                )
            },
            ..Finding::of(Mode::TranslationLeak)
        })
        .collect()
}
