//! What the standard says of its operators and double precision.

use crate::graph::is_standard;
use crate::proto::NodeProto;

/// Written by `tests/data/make_schemas.py`, which explains the lines.
const SCHEMAS: &str = include_str!("schemas.txt");

/// Whether an operator can compute in double precision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubling {
    /// It can; the inputs at these positions stay in single precision.
    Double(Vec<usize>),
    /// It can, but for the outputs at these positions.
    ShortOutputs(Vec<usize>),
    /// It computes in single precision or less.
    Single,
    /// It is not among the standard's operators, or no longer.
    Unknown,
}

/// The line that holds for an operator in a version of the operator set.
pub(crate) fn doubling(operator: &str, opset: i64) -> Doubling {
    let mut found = Doubling::Unknown;
    for line in SCHEMAS.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some(operator) {
            continue;
        }
        let since: i64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(i64::MAX);
        // The first line also holds below its version: a file that names none means the oldest.
        if since > opset.max(1) {
            break;
        }
        let verdict = words.next();
        let positions = words.filter_map(|word| word.parse().ok()).collect();
        found = match verdict {
            Some("double") => Doubling::Double(positions),
            Some("outputs") => Doubling::ShortOutputs(positions),
            Some("single") => Doubling::Single,
            _ => Doubling::Unknown,
        };
    }
    found
}

/// Whether some version of the standard has the operator.
pub(crate) fn knows(node: &NodeProto) -> bool {
    let mut names = SCHEMAS.lines().filter_map(|line| line.split_whitespace().next());
    is_standard(&node.domain) && names.any(|name| name == node.op_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_version_in_use_holds() {
        assert_eq!(doubling("MatMul", 13), Doubling::Double(vec![]));
        assert_eq!(doubling("Resize", 10), Doubling::Double(vec![1]));
        assert_eq!(doubling("Resize", 19), Doubling::Double(vec![2]));
        assert_eq!(doubling("Upsample", 9), Doubling::Double(vec![1]));
        assert_eq!(doubling("Upsample", 18), Doubling::Unknown, "removed in 10");
        assert_eq!(doubling("Celu", 21), Doubling::Single);
        assert_eq!(doubling("LayerNormalization", 17), Doubling::ShortOutputs(vec![1, 2]));
        assert_eq!(doubling("Einsum", 11), Doubling::Unknown, "it came with 12");
        assert_eq!(doubling("NoSuchOperator", 18), Doubling::Unknown);
        assert_eq!(doubling("#", 18), Doubling::Unknown);
    }
}
