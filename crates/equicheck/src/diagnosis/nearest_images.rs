//! Atoms that cross the border of the cell change the output: the model takes no nearest images.

use super::case::Case;
use super::{Finding, Mode, alone};
use crate::audit::WRAPPED;
use crate::report::OutputResult;

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    // Nothing breaks the symmetry but bringing atoms back into the cell.
    let by_wrapping = |output: &&OutputResult| {
        output.worst.as_ref().is_some_and(|worst| worst.kind == WRAPPED)
            && alone(case.evidence, output).iter().all(|(_, row)| row.exceeding == 0)
    };
    if !case.outputs.iter().all(by_wrapping) {
        return None;
    }
    let message =
        "atoms that cross the border of the cell and are brought back into it change the output".to_owned();
    let fact = "holds while all atoms move together, without being brought back".to_owned();
    Some(case.finding(Mode::NearestImages, message, vec![fact]))
}
