//! What is wrong, why, and what fixes it: one file per failure mode, each a rule that reads evidence.

mod batch_cross_talk;
mod broken_call;
mod chart_singularity;
mod detached_gradient;
mod discontinuity;
mod input_mutation;
mod mode;
mod nan_gradient;
mod nearest_images;
mod numerical_precision;
mod page;
mod parity;
mod permutation;
mod random_law;
mod randomness;
mod size_dependence;
mod state_drift;
mod translation_leak;
mod undiagnosed;
mod unstable_parameters;
mod vacuous_test;
mod wrong_backward;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use mode::Mode;
pub use page::{Library, Page, page};
pub(crate) use wrong_backward::is_wrong_derivative;

use crate::audit::MARGIN;
use crate::report::{
    Break, Classification, CompositionRow, Confidence, FactorRow, GradientRow, Inquiries, Layers, Levels,
    Outcome, OutputResult, StressKind, StressRow, Verdict,
};
use crate::symmetry::{Factor, Group};

/// How much a finding matters to the model's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing; the verdict does not hang on it.
    Low,
    /// The verdict is `NEEDS_ATTENTION` because of it.
    Medium,
    /// The declared symmetry does not hold.
    High,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Low => "Low",
            Severity::Medium => "Medium",
            Severity::High => "High",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Failure mode.
    pub mode: Mode,
    /// Where: a module as in `named_modules()`, code between two of its calls, an output, an input.
    pub location: String,
    /// Class of that module, with the module that defines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// `file.py:line` of that class's forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How severe.
    pub severity: Severity,
    /// How sure.
    #[serde(default = "high")]
    pub confidence: Confidence,
    /// What was seen, in one sentence.
    pub message: String,
    /// The figures that support it, one per line.
    pub evidence: Vec<String>,
    /// What follows from it elsewhere: outputs that are wrong because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
    /// What to do about it.
    pub fix: String,
    /// How to see that the fix has worked: a command.
    #[serde(default)]
    pub verify: String,
}

/// What a file of an earlier version says about it.
fn high() -> Confidence {
    Confidence::High
}

impl Finding {
    /// One of this mode, of which nothing is said yet.
    pub fn of(mode: Mode) -> Self {
        Self {
            mode,
            location: String::new(),
            class: None,
            source: None,
            severity: Severity::Low,
            confidence: Confidence::High,
            message: String::new(),
            evidence: Vec::new(),
            effects: Vec::new(),
            fix: String::new(),
            verify: String::new(),
        }
    }
}

/// What the rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The declared group.
    pub group: &'a Group,
    /// Whether translations shift a grid, rather than points.
    pub grids: bool,
    /// Results by output.
    pub outputs: &'a [OutputResult],
    /// Level bounds in force.
    pub levels: &'a Levels,
    /// Inputs that the model wrote to.
    pub written_inputs: &'a [String],
    /// Whether random draws were recorded and replayed.
    pub replayed: bool,
    /// By output: whether a probe of rounding met a jump.
    pub discontinuous: &'a [bool],
    /// By output: relative difference of the two precisions on equal inputs.
    pub precisions_differ: &'a [f64],
    /// By output: relative effect of moves of one unit in the last place.
    pub rounding: &'a [f64],
    /// Whether entries of a batch depend on each other.
    pub composition: &'a [CompositionRow],
    /// Inputs at the edge of what the model is used on.
    pub stress: &'a [StressRow],
    /// Gradients.
    pub gradients: &'a [GradientRow],
    /// What was asked because of the errors.
    pub inquiries: &'a Inquiries,
    /// What the passes through layers showed.
    pub layers: Option<&'a Layers>,
    /// `eval`, `train` or `as_is`.
    pub mode: &'a str,
    /// Where symmetry is lost, if layers were looked into.
    pub breaks: &'a [Break],
}

/// A failure mode's rule.
type Rule = fn(&Evidence<'_>) -> Vec<Finding>;

/// One rule per failure mode, in the order in which equally severe findings are listed.
const RULES: [Rule; 20] = [
    broken_call::findings,
    random_law::findings,
    parity::findings,
    translation_leak::findings,
    nearest_images::findings,
    permutation::findings,
    undiagnosed::findings,
    batch_cross_talk::findings,
    randomness::findings,
    state_drift::findings,
    chart_singularity::findings,
    size_dependence::findings,
    discontinuity::findings,
    numerical_precision::findings,
    vacuous_test::findings,
    input_mutation::findings,
    wrong_backward::findings,
    unstable_parameters::findings,
    detached_gradient::findings,
    nan_gradient::findings,
];

/// Runs all rules; the most severe findings come first.
pub fn diagnose(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(evidence)).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// What to do, in the order of the findings, each once.
pub fn recommendations(findings: &[Finding], verdict: Verdict) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for finding in findings {
        if !list.contains(&finding.fix) {
            list.push(finding.fix.clone());
        }
    }
    if list.is_empty() {
        list.push(match verdict {
            Verdict::Pass => "nothing to fix: keep this audit as a test, so that it stays true".to_owned(),
            _ => "read the reason given for each output above".to_owned(),
        });
    }
    list
}

/// Severity that goes with an output's verdict.
fn severity(verdict: Verdict) -> Severity {
    match verdict {
        Verdict::Fail => Severity::High,
        Verdict::NeedsAttention => Severity::Medium,
        Verdict::Pass => Severity::Low,
    }
}

/// Whether equal calls differ by as much as all noise that was measured, and by more than passes: nothing that is said of
/// rounding holds then.
fn is_unrepeatable(output: &OutputResult, levels: &Levels) -> bool {
    let repeat = output.repeatability.seeded;
    output.distribution.is_none() && repeat > levels.excellent && MARGIN * repeat >= output.noise
}

/// Outputs that show a violation: not rounding, not a failed call.
fn violated<'a>(evidence: &Evidence<'a>) -> impl Iterator<Item = &'a OutputResult> {
    evidence.outputs.iter().filter(|output| {
        output.distribution.is_none()
            && matches!(output.classification, Classification::Approximate | Classification::Broken)
            && output.violation.is_finite()
    })
}

/// Rows of the group's parts that were tested, by label.
fn row<'a>(output: &'a OutputResult, label: &str) -> Option<&'a FactorRow> {
    output.factors.iter().find(|row| row.factor == label && row.pairs > 0)
}

/// The factors of the group with the rows in which each acted alone; a group of one factor acts alone when it acts
/// jointly.
fn alone<'a>(evidence: &Evidence<'_>, output: &'a OutputResult) -> Vec<(Factor, &'a FactorRow)> {
    let factors = evidence.group.factors();
    let single = factors.len() == 1;
    factors
        .into_iter()
        .filter_map(|factor| {
            let label = if single { "joint".to_owned() } else { factor.to_string() };
            Some((factor, row(output, &label)?))
        })
        .collect()
}

/// The only factor that breaks the symmetry, if it is one alone and the others were tested.
fn only_breaking<'a>(evidence: &Evidence<'_>, output: &'a OutputResult) -> Option<(Factor, &'a FactorRow)> {
    let rows = alone(evidence, output);
    let mut breaking = rows.iter().filter(|(_, row)| row.exceeding > 0);
    let first = breaking.next()?.clone();
    breaking.next().is_none().then_some(first)
}

/// Whether `parity` explains the violation: only elements of determinant -1 show it.
fn only_improper(evidence: &Evidence<'_>, output: &OutputResult) -> bool {
    let Some((Factor::Linear { improper: true, .. }, _)) = only_breaking(evidence, output) else {
        return false;
    };
    let label = |sign: &str| {
        let single = evidence.group.factors().len() == 1;
        let factor = evidence.group.factors().into_iter().find(|f| matches!(f, Factor::Linear { .. }));
        let name = if single { "joint".to_owned() } else { factor.map_or(String::new(), |f| f.to_string()) };
        format!("{name}, det {sign}")
    };
    let (Some(proper), Some(improper)) = (row(output, &label("+1")), row(output, &label("-1"))) else {
        return false;
    };
    // That no rotation exceeds must not be chance: were rotations as bad as reflections, it would happen in fewer
    // than 1 % of audits.
    let share = improper.exceeding as f64 / improper.pairs as f64;
    proper.exceeding == 0 && (1.0 - share).powi(proper.pairs as i32) < 0.01
}

/// Stress inputs of these kinds on which something clearly goes wrong, by the output that shows it: one on which ordinary
/// inputs show no violation, which would be no news.
fn stressed<'a>(
    evidence: &Evidence<'a>,
    kinds: &[StressKind],
    wrong: &[Outcome],
) -> Vec<(&'a str, Vec<&'a StressRow>)> {
    let mut found: Vec<(&str, Vec<&StressRow>)> = Vec::new();
    for row in evidence.stress.iter().filter(|row| kinds.contains(&row.kind) && wrong.contains(&row.outcome))
    {
        let Some(name) = &row.output else { continue };
        if violated(evidence).any(|output| output.name == *name) {
            continue;
        }
        match found.iter_mut().find(|(output, _)| output == name) {
            Some((_, rows)) => rows.push(row),
            None => found.push((name, vec![row])),
        }
    }
    found
}

/// A low finding on stress inputs: no verdict hangs on them.
fn of_stress(mode: Mode, output: &str, rows: &[&StressRow], message: &str, fix: &str) -> Finding {
    let kinds: Vec<String> = rows.iter().map(|row| row.kind.to_string()).collect();
    Finding {
        location: format!("output `{output}`"),
        severity: Severity::Low,
        message: format!("{message}: {}", kinds.join(", ")),
        evidence: rows.iter().map(|row| format!("{}: {}", row.kind, row.reason)).collect(),
        fix: fix.to_owned(),
        ..Finding::of(mode)
    }
}

fn figure(name: &str, value: f64) -> String {
    format!("{name}: {value:.2e}")
}
