//! A violation that no other rule explains: what was found, and what was excluded.

use super::{
    Evidence, Finding, Mode, alone, figure, nearest_images, only_breaking, only_improper, severity, violated,
};
use crate::symmetry::Factor;

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    violated(evidence)
        .filter(|output| {
            !only_improper(evidence, output)
                && !nearest_images::applies(evidence, output)
                && !matches!(
                    only_breaking(evidence, output),
                    Some((Factor::Translation(_) | Factor::Permutation { .. }, _))
                )
        })
        .map(|output| {
            let rows = alone(evidence, output);
            let list = |breaking: bool| -> String {
                let names: Vec<String> = rows
                    .iter()
                    .filter(|(_, row)| (row.exceeding > 0) == breaking)
                    .map(|(factor, _)| factor.to_string())
                    .collect();
                names.join(", ")
            };
            let mut facts = vec![figure("violation", output.violation)];
            for (label, names) in [("broken by", list(true)), ("holds under", list(false))] {
                if !names.is_empty() {
                    facts.push(format!("{label}: {names}"));
                }
            }
            facts.extend(evidence.breaks.iter().map(|broken| {
                format!("lost at: {}, confidence {}", broken.place(), broken.confidence)
            }));
            Finding {
                location: format!("output `{}`", output.name),
                severity: severity(output.verdict),
                message: output.reason.clone(),
                evidence: facts,
                fix: if evidence.group.factors().iter().any(|f| matches!(f, Factor::Custom(_))) {
                    format!(
                        "check first that the custom action's `input` and `output` say what the model computes, then \
                         look for the operations on the way to `{}` that break it",
                        output.name
                    )
                } else if let Some(first) = evidence.breaks.first() {
                    let source = first.source.as_ref().map_or_else(String::new, |at| format!(" at {at}"));
                    format!(
                        "start at {}{source}: what goes in transforms as it must, what comes out does not; look there \
                         for operations that treat components of a vector or irrep one by one",
                        first.place()
                    )
                } else { format!(
                    "check first that the layouts say what the model computes (table at the top), then look for the \
                     operations on the way to `{}` that treat components of a vector or irrep one by one",
                    output.name
                )},
                ..Finding::of(Mode::Undiagnosed)
            }
        })
        .collect()
}
