//! The law of a random output changes under the group: a bias of the noise, or of what it is added to.

use std::collections::BTreeSet;

use super::{Evidence, Finding, Mode, figure, severity};
use crate::report::{Distribution, DistributionTest, OutputResult};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    evidence
        .outputs
        .iter()
        .filter(|output| output.classification.is_violation() && output.violation.is_finite())
        .filter_map(|output| Some((output, output.distribution.as_ref()?)))
        .map(|(output, law)| finding(output, law))
        .collect()
}

fn finding(output: &OutputResult, law: &Distribution) -> Finding {
    let names = |differ: bool| -> BTreeSet<&str> {
        let tests = law.tests.iter().filter(|test| (test.adjusted_p_value <= law.significance) == differ);
        tests.map(|test| test.factor.as_str()).collect()
    };
    let (differ, others) = (names(true), names(false));
    let list = |names: &mut dyn Iterator<Item = &&str>| names.copied().collect::<Vec<_>>().join(", ");
    let mut facts = Vec::new();
    if let Some(second) = &law.second_look {
        facts.push(figure("shift of the mean, in units of the spread over draws", second.shift));
        facts.push(figure(
            &format!("difference of the {}, in units of the spread", second.statistic),
            second.difference,
        ));
        facts.push(figure("p value on fresh draws", second.adjusted_p_value));
    }
    for (label, names) in [
        ("differs under", list(&mut differ.iter())),
        ("no difference seen under", list(&mut others.difference(&differ))),
    ] {
        if !names.is_empty() {
            facts.push(format!("{label}: {names}"));
        }
    }
    let by_mean = law.second_look.as_ref().is_some_and(DistributionTest::is_of_mean);
    Finding {
        location: format!("output `{}`", output.name),
        severity: severity(output.verdict),
        message: if by_mean {
            "the mean over draws does not transform as declared".to_owned()
        } else {
            "the noise does not transform as declared: its covariance or shape refers to a fixed frame or order"
                .to_owned()
        },
        evidence: facts,
        fix: format!(
            "{}; randomness=\"transform\" with noise_layouts= tells the noise from what the model computes of it, on \
             the way to `{}`",
            if by_mean {
                "look for a constant that is added to the noise, noise of non-zero mean, a mean network that is not \
                 equivariant"
            } else {
                "draw the noise with one variance for all components of a vector (and all nodes alike), before any \
                 scaling that depends on components or on the order of the nodes"
            },
            output.name
        ),
        ..Finding::of(Mode::RandomLaw)
    }
}
