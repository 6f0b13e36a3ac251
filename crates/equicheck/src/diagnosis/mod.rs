//! What is wrong, why, and what fixes it: one file per failure mode, each a rule that reads evidence.

mod batch_cross_talk;
mod batch_norm;
mod broken_call;
mod case;
mod chart_singularity;
mod component_order;
mod custom_layer_bug;
mod detached_gradient;
mod discontinuity;
mod input_mutation;
mod interpolation;
mod lab_frame_constant;
mod mode;
mod nan_gradient;
mod nearest_images;
mod neighbour_cap;
mod nondeterminism;
mod nonequivariant_nonlinearity;
mod numerical_precision;
mod padding_boundary;
mod page;
mod parity;
mod permutation;
mod positional_encoding;
mod random_law;
mod randomness;
mod size_dependence;
mod state_drift;
mod striding_aliasing;
mod train_eval_difference;
mod translation_leak;
mod undiagnosed;
mod unstable_parameters;
mod untransformed_input;
mod vacuous_test;
mod wrong_backward;
mod wrong_declaration;
mod wrong_output_transform;

use std::fmt;

use serde::{Deserialize, Serialize};

use case::Case;
pub use mode::Mode;
pub use page::{Library, Page, page};
pub(crate) use wrong_backward::is_wrong_derivative;

use crate::audit::MARGIN;
use crate::audit::sampling::Part;
use crate::report::{
    Break, BreakKind, CompositionRow, Confidence, Dependence, Examination, FactorRow, Fault, GradientRow,
    Inquiries, LayerRow, Layers, Levels, Outcome, OutputResult, StressKind, StressRow, Verdict,
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
    /// The same in code, for the library in use, as Markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How to see that the fix has worked.
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
            code: None,
            verify: String::new(),
        }
    }
}

/// A finding about a module that was looked at, of which nothing else is said yet.
fn at(mode: Mode, (seen, row): (&Examination, Option<&LayerRow>)) -> Finding {
    Finding {
        location: seen.location.clone(),
        class: row.map(|row| row.class.clone()),
        source: row.and_then(|row| row.source.clone()),
        ..Finding::of(mode)
    }
}

/// What is said of gradients that rows found wrong, at the place where that arises, if it is known.
fn at_faults(finding: Finding, rows: &[&GradientRow]) -> Finding {
    at_places(finding, rows.iter().flat_map(|row| &row.faults))
}

/// What is said of an output that depends on what it should not, at the place where it comes to.
fn where_dependent(finding: Finding, on: Dependence, evidence: &Evidence<'_>) -> Finding {
    let own = evidence.inquiries.dependences.iter().filter(|found| found.on == on);
    at_places(finding, own.map(|found| &found.fault))
}

fn at_places<'f>(finding: Finding, places: impl Iterator<Item = &'f Fault>) -> Finding {
    let mut faults: Vec<&Fault> = Vec::new();
    for fault in places {
        if !faults.iter().any(|other| (&other.location, other.call) == (&fault.location, fault.call)) {
            faults.push(fault);
        }
    }
    let Some(first) = faults.first() else { return finding };
    let mut evidence = vec![format!("seen in {}", finding.location)];
    evidence.extend(faults.iter().map(|fault| match fault.kind {
        BreakKind::Module => format!("`{}`: {}", fault.location, fault.reason),
        _ => format!("code of the forward of `{}`: {}", fault.location, fault.reason),
    }));
    evidence.extend(finding.evidence);
    Finding {
        location: first.location.clone(),
        class: Some(first.class.clone()),
        source: first.source.clone(),
        evidence,
        ..finding
    }
}

/// A finding about an output that differs from call to call, of which nothing else is said yet.
fn of_repeats(mode: Mode, output: &OutputResult) -> Finding {
    Finding {
        location: format!("output `{}`", output.name),
        severity: Severity::Medium,
        evidence: vec![
            figure("relative difference with equal seeds", output.repeatability.seeded),
            figure("relative difference without", output.repeatability.unseeded),
        ],
        ..Finding::of(mode)
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
    /// Unit roundoff of the precision under audit.
    pub roundoff: f64,
    /// What the model runs in.
    pub framework: &'a str,
    /// `eval`, `train` or `as_is`.
    pub mode: &'a str,
}

impl<'a> Evidence<'a> {
    /// Where symmetry is lost, if layers were looked into.
    fn breaks(&self) -> &'a [Break] {
        self.layers.map_or(&[], |layers| &layers.breaks)
    }

    /// The first module that was looked at and is of this kind, with its row.
    fn examined(
        &self,
        which: impl Fn(&Examination) -> bool,
    ) -> Option<(&'a Examination, Option<&'a LayerRow>)> {
        let layers = self.layers?;
        let seen = layers.examinations.iter().find(|seen| which(seen))?;
        let row = layers.rows.iter().find(|row| row.location == seen.location && row.call == seen.call);
        Some((seen, row))
    }
}

/// A rule that says what caused a violation, if it did.
type Cause = fn(&Case<'_>) -> Option<Finding>;

/// What a violation may be caused by, the surest first: what is right under another declaration or in another mode, then
/// what the place where symmetry is lost shows, then what the factors that break show alone.
const CAUSES: [Cause; 25] = [
    untransformed_input::cause,
    wrong_declaration::cause,
    component_order::cause,
    wrong_output_transform::cause,
    nondeterminism::cause,
    randomness::cause,
    batch_norm::cause,
    train_eval_difference::cause,
    numerical_precision::cause,
    discontinuity::cause,
    parity::cause,
    neighbour_cap::cause,
    positional_encoding::cause,
    padding_boundary::cause,
    size_dependence::cause,
    permutation::cause,
    striding_aliasing::cause,
    nearest_images::cause,
    nonequivariant_nonlinearity::cause,
    chart_singularity::cause,
    lab_frame_constant::cause,
    nonequivariant_nonlinearity::by_operations,
    interpolation::cause,
    nonequivariant_nonlinearity::by_axes,
    translation_leak::cause,
];

/// A rule about what is no violation of the symmetry on the samples, or is one by itself.
type Rule = fn(&Evidence<'_>) -> Vec<Finding>;

/// In the order in which equally severe findings are listed.
const RULES: [Rule; 16] = [
    state_drift::findings,
    neighbour_cap::findings,
    batch_norm::findings,
    batch_cross_talk::findings,
    nondeterminism::findings,
    randomness::findings,
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
    let mut findings = broken_call::findings(evidence);
    findings.extend(random_law::findings(evidence));
    for case in case::cases(evidence) {
        let cause = CAUSES.iter().chain([&(custom_layer_bug::cause as Cause)]).find_map(|rule| rule(&case));
        findings.push(cause.unwrap_or_else(|| undiagnosed::cause(&case)));
    }
    for rule in RULES {
        for finding in rule(evidence) {
            take_up(&mut findings, finding);
        }
    }
    for finding in &mut findings {
        finish(finding, evidence);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Adds a finding, unless it follows from one that is there: then it is listed among its effects.
fn take_up(findings: &mut Vec<Finding>, finding: Finding) {
    let concerns = |other: &&mut Finding| {
        let output = finding.location.trim_start_matches("outputs ").trim_start_matches("output ");
        other.location.contains(output) || other.effects.iter().any(|effect| effect.contains(output))
    };
    // What moves on every call, or depends on order or size, does so in batches too.
    let mixes = [
        Mode::StateDrift,
        Mode::Nondeterminism,
        Mode::Randomness,
        Mode::BatchNorm,
        Mode::Permutation,
        Mode::PositionalEncoding,
        Mode::SizeDependence,
    ];
    let follows = |other: &&mut Finding| {
        other.mode == finding.mode && other.severity >= finding.severity
            || finding.mode == Mode::BatchCrossTalk && mixes.contains(&other.mode)
            || finding.mode == Mode::LowPrecision && other.mode == Mode::RoundingAmplification
            || matches!(
                finding.mode,
                Mode::RoundingAmplification | Mode::Discontinuity | Mode::NumericalPrecision
            ) && other.mode == Mode::NeighbourCap
    };
    let alike = |other: &&mut Finding| {
        (other.mode, &other.message, &other.fix, other.severity)
            == (finding.mode, &finding.message, &finding.fix, finding.severity)
            && other.location.starts_with("output")
            && finding.location.starts_with("output ")
    };
    if let Some(other) = findings.iter_mut().find(alike) {
        let own = finding.location.trim_start_matches("output ").to_owned();
        other.location =
            format!("outputs {}, {own}", other.location.split_once(' ').map_or("", |(_, names)| names));
        other.evidence.extend(finding.evidence.iter().map(|line| format!("{own}: {line}")));
    } else if let Some(other) = findings.iter_mut().filter(concerns).find(follows) {
        let known = other.mode == finding.mode;
        if !known {
            other.effects.push(format!("{}: {} [{}]", finding.location, finding.message, finding.mode));
        }
    } else {
        findings.push(finding);
    }
}

/// The library that a module is of, or that the model uses.
fn library(finding: &Finding, evidence: &Evidence<'_>) -> Library {
    let of = |class: &str| match class.split('.').next().unwrap_or("") {
        "e3nn" | "nequip" | "mace" | "cuequivariance" => Some(Library::E3nn),
        "escnn" => Some(Library::Escnn),
        "torch_geometric" => Some(Library::Geometric),
        _ => None,
    };
    let rows = evidence.layers.map_or(&[][..], |layers| &layers.rows);
    let own = finding.class.as_deref().and_then(of);
    own.or_else(|| rows.iter().find_map(|row| of(&row.class))).unwrap_or(match evidence.framework {
        framework if framework.contains("onnx") => Library::Onnx,
        framework if framework.contains("jax") => Library::Jax,
        _ => Library::PyTorch,
    })
}

/// What every finding has: code for the library in use, and how to verify the fix.
fn finish(finding: &mut Finding, evidence: &Evidence<'_>) {
    let page = page(finding.mode);
    let library = library(finding, evidence);
    finding.code = page.fix_for(library).or_else(|| page.fix_for(Library::PyTorch)).map(ToOwned::to_owned);
    if finding.verify.is_empty() {
        finding.verify = page.verify.split_whitespace().collect::<Vec<_>>().join(" ");
    }
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
    evidence.outputs.iter().filter(|output| output.is_violated())
}

/// Rows of the group's parts that were tested, by label.
fn row<'a>(output: &'a OutputResult, label: &str) -> Option<&'a FactorRow> {
    output.factors.iter().find(|row| row.factor == label && row.pairs > 0)
}

/// The factors of the group with the rows in which each acted alone; a group of one factor acts alone when it acts
/// jointly.
fn alone<'a>(evidence: &Evidence<'_>, output: &'a OutputResult) -> Vec<(Factor, &'a FactorRow)> {
    let factors = evidence.group.factors().into_iter();
    let rows = factors.map(|factor| (row(output, &Part::of(evidence.group, &factor).name()), factor));
    rows.filter_map(|(row, factor)| Some((factor, row?))).collect()
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
    let Some((factor, _)) = only_breaking(evidence, output).filter(|(factor, _)| factor.has_improper())
    else {
        return false;
    };
    let name = Part::of(evidence.group, &factor).name();
    let label = |sign: &str| format!("{name}, det {sign}");
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
