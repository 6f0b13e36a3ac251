//! Two audits of one model, before and after a change: what got better, and what got worse.
//!
//! A regression is a verdict that got worse, or a violation that grew by more than the noise floors of both reports
//! explain. Figures that a report itself explains by rounding are never one, however they compare.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::rows::kinds;
use super::{
    Classification, Finding, Float64, GradientCheck, GradientRow, LayerRow, LayerStage, LayerVerdict, Level,
    Levels, Outcome, OutputResult, Report, Rows, Shard, Verdict, figure,
};
use crate::audit::MARGIN;

/// A figure or verdict of both reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<T> {
    /// In the first report.
    pub before: T,
    /// In the second.
    pub after: T,
}

/// An error of both reports; `None` where it was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// In the first report, relative.
    #[serde(with = "figure::optional")]
    pub before: Option<f64>,
    /// In the second, relative.
    #[serde(with = "figure::optional")]
    pub after: Option<f64>,
}

kinds! {
    /// Which way something went, the best first.
    Trend {
        /// Its verdict is better, or its violation fell by more than noise explains.
        Better = "better",
        /// Neither.
        Same = "same",
        /// Its verdict is worse, or its violation grew by more than noise explains.
        Worse = "worse",
    }
}

/// An output of both audits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputChange {
    /// Its path.
    pub name: String,
    /// Its violation.
    pub violation: Figures,
    /// Up to which difference of the two violations noise explains it: `MARGIN` times the sum of both floors.
    #[serde(with = "figure")]
    pub explained: f64,
    /// Band of the raw error.
    pub level: Change<Level>,
    /// What the evidence says.
    pub classification: Change<Classification>,
    /// Its verdict.
    pub verdict: Change<Verdict>,
    /// What follows.
    pub trend: Trend,
}

/// A call of a module in both audits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerChange {
    /// Dotted name as in `named_modules()`.
    pub location: String,
    /// The how many-th call, from 0.
    pub call: usize,
    /// Its class.
    pub class: Change<String>,
    /// Largest relative error on clean inputs.
    pub own_error: Figures,
    /// Largest relative error in the pass over T x.
    pub propagated_error: Figures,
    /// Up to which difference noise explains either.
    #[serde(with = "figure")]
    pub explained: f64,
    /// What is said of it.
    pub verdict: Change<LayerVerdict>,
    /// What follows.
    pub trend: Trend,
}

/// A row of the gradient stage in both audits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientChange {
    /// What is compared.
    pub check: GradientCheck,
    /// `eval`, `train` or `as_is`.
    pub mode: String,
    /// The output.
    pub output: String,
    /// The input or parameter; absent for a row about all of them.
    pub target: Option<String>,
    /// Largest relative error: in double precision where both have it, else in the models' own.
    pub error: Figures,
    /// Up to which difference noise explains it.
    #[serde(with = "figure")]
    pub explained: f64,
    /// What it says.
    pub outcome: Change<Outcome>,
    /// What follows for the report; absent where no verdict hangs on the row.
    pub verdict: Change<Option<Verdict>>,
    /// What follows.
    pub trend: Trend,
}

/// The rows of one stage that both audits have, and what one of them has alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matched<R> {
    /// What both have.
    pub rows: Vec<R>,
    /// What the first has alone, by name.
    pub only_before: Vec<String>,
    /// What the second has alone, by name.
    pub only_after: Vec<String>,
    /// Why there is nothing to compare, if a stage did not run on both sides.
    pub not_compared: Option<String>,
}

/// Findings, matched by mode and location.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingChanges {
    /// What the first report has alone.
    pub went: Vec<Finding>,
    /// What both have, as the second has it.
    pub stayed: Vec<Finding>,
    /// What the second report has alone.
    pub came: Vec<Finding>,
}

/// What became of a model between two audits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether anything got worse.
    pub regressed: bool,
    /// What got worse, one sentence each.
    pub regressions: Vec<String>,
    /// The model's name.
    pub model: Change<String>,
    /// The group of both.
    pub group: String,
    /// The verdict over all.
    pub verdict: Change<Verdict>,
    /// Results by output.
    pub outputs: Vec<OutputChange>,
    /// Module calls, matched by location and call.
    pub layers: Matched<LayerChange>,
    /// Rows of the gradient stage.
    pub gradients: Matched<GradientChange>,
    /// Findings.
    pub findings: FindingChanges,
    /// What to know when reading the figures.
    pub notes: Vec<String>,
}

/// Compares an audit with an earlier one.
///
/// # Errors
/// The two did not ask the same of the model: a sentence that says in what they differ.
pub fn compare(before: &Report, after: &Report) -> Result<Comparison, String> {
    let differences = differences(before, after);
    if !differences.is_empty() {
        return Err(format!(
            "the two audits cannot be compared: {}; audit the model in the same way before and after its change",
            differences.join("; ")
        ));
    }
    let mut worse = Vec::new();
    let verdict = Change { before: before.verdict, after: after.verdict };
    if verdict.after > verdict.before {
        worse.push(format!("the verdict was {} and is {}", verdict.before, verdict.after));
    }
    let outputs = outputs(before, after, &mut worse);
    let layers = layers(&before.layers, &after.layers, &mut worse);
    let gradients = gradients(&before.gradients, &after.gradients, &mut worse);
    Ok(Comparison {
        regressed: !worse.is_empty(),
        regressions: worse,
        model: Change { before: before.model.name.clone(), after: after.model.name.clone() },
        group: after.group.clone(),
        verdict,
        outputs,
        layers,
        gradients,
        findings: findings(&before.findings, &after.findings),
        notes: notes(before, after),
    })
}

/// In what two audits differ so that their verdicts do not mean the same.
fn differences(before: &Report, after: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, a: &str, b: &str| {
        if a != b {
            let quoted = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("`{text}`") };
            found.push(format!("{what} is {} before and {} after", quoted(a), quoted(b)));
        }
    };
    differ("the group", &before.group, &after.group);
    differ("the precision under audit", &before.model.dtype, &after.model.dtype);
    differ("what is computed in", &before.model.computes_in, &after.model.computes_in);
    differ("the mode", &before.model.mode, &after.model.mode);
    let treated = |report: &Report| report.plan.randomness.clone().unwrap_or_else(|| "fixed".to_owned());
    differ("`randomness`", &treated(before), &treated(after));
    let levels = |Levels { perfect, excellent, approximate }: Levels| {
        format!("{perfect:.0e}, {excellent:.0e}, {approximate:.0e}")
    };
    if before.levels != after.levels {
        differ("what the levels are bounded by", &levels(before.levels), &levels(after.levels));
    }
    // A tensor without a layout is not transformed, which is a declaration too.
    let inputs = |report: &Report| {
        let rows = report.transforms.iter().filter(|row| row.role == "input");
        rows.map(|row| (row.name.clone(), row.layout.clone().unwrap_or_else(|| "not transformed".to_owned())))
            .collect::<BTreeMap<_, _>>()
    };
    declared("input", &inputs(before), &inputs(after), &mut found);
    let outputs = |report: &Report| {
        let tolerance = |output: &OutputResult| {
            output.tolerance.map_or(String::new(), |bound| format!(", tolerance {bound:e}"))
        };
        let shown = |output: &OutputResult| {
            let layout = if output.layout.is_empty() { "\"\"" } else { &output.layout };
            (output.name.clone(), format!("{layout}{}", tolerance(output)))
        };
        report.outputs.iter().map(shown).collect::<BTreeMap<_, _>>()
    };
    declared("output", &outputs(before), &outputs(after), &mut found);
    for (report, which) in [(before, "before"), (after, "after")] {
        let Shard { index, count } = report.plan.shard;
        if count > 1 {
            let merge = "`equicheck merge` joins the shards";
            found.push(format!("the report {which} is shard {index} of {count}: {merge}"));
        }
    }
    found
}

fn declared(
    role: &str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    found: &mut Vec<String>,
) {
    for (name, layout) in before {
        match after.get(name) {
            None => found.push(format!("{role} `{name}` is declared before and not after")),
            Some(other) if other != layout => {
                found.push(format!("{role} `{name}` is `{layout}` before and `{other}` after"));
            }
            Some(_) => {}
        }
    }
    let new = after.keys().filter(|name| !before.contains_key(*name));
    found.extend(new.map(|name| format!("{role} `{name}` is declared after and not before")));
}

/// A figure to compare with: what could not be computed is the worst.
fn order(figure: f64) -> f64 {
    if figure.is_nan() { f64::INFINITY } else { figure }
}

/// What of a difference both noise floors explain.
fn explained(before: f64, after: f64) -> f64 {
    let floor = |noise: f64| if noise.is_finite() { noise.max(0.0) } else { 0.0 };
    MARGIN * (floor(before) + floor(after))
}

/// Whether a figure is larger than another by more than noise explains.
fn exceeds(larger: f64, smaller: f64, explained: f64) -> bool {
    order(larger) > order(smaller) + explained
}

fn trend(worse: bool, better: bool) -> Trend {
    match (worse, better) {
        (true, _) => Trend::Worse,
        (false, true) => Trend::Better,
        (false, false) => Trend::Same,
    }
}

/// The noise floor of the precision that an output's violation was measured in.
fn floor(output: &OutputResult, levels: &Levels) -> f64 {
    match output.float64 {
        // Constants explain an error only while what they explain stays below the level of a pass.
        Float64::Available { noise, constants, .. } => noise.max(constants.min(levels.excellent / MARGIN)),
        _ => output.noise,
    }
}

/// Whether an output's own report says that its violation is one, by its size alone: laws are tested against chance, and
/// interpolation against a reference.
fn is_violation(output: &OutputResult) -> bool {
    let by_reference = output.distribution.is_some() || output.interpolation.is_some();
    match output.classification {
        Classification::Broken => output.distribution.is_none(),
        Classification::Approximate => !by_reference,
        Classification::Exact | Classification::Consistent | Classification::Undetermined => false,
    }
}

fn outputs(before: &Report, after: &Report, worse: &mut Vec<String>) -> Vec<OutputChange> {
    let mut changes = Vec::new();
    for new in &after.outputs {
        let Some(old) = before.outputs.iter().find(|output| output.name == new.name) else { continue };
        let explained = explained(floor(old, &before.levels), floor(new, &after.levels));
        let grew = is_violation(new) && exceeds(new.violation, old.violation, explained);
        let fell = is_violation(old) && exceeds(old.violation, new.violation, explained);
        let name = &new.name;
        if new.verdict > old.verdict {
            worse.push(format!("output `{name}`: its verdict was {} and is {}", old.verdict, new.verdict));
        }
        if grew {
            worse.push(format!(
                "output `{name}`: its violation grew from {:.2e} to {:.2e}, and noise explains a difference of {explained:.1e}",
                old.violation, new.violation
            ));
        }
        changes.push(OutputChange {
            name: name.clone(),
            violation: Figures { before: Some(old.violation), after: Some(new.violation) },
            explained,
            level: Change { before: old.level, after: new.level },
            classification: Change { before: old.classification, after: new.classification },
            verdict: Change { before: old.verdict, after: new.verdict },
            trend: trend(grew || new.verdict > old.verdict, fell || new.verdict < old.verdict),
        });
    }
    changes
}

/// Pairs rows by their names, equal ones in their order.
fn matched<'a, R>(
    before: &'a [R],
    after: &'a [R],
    name: impl Fn(&R) -> String,
) -> (Vec<(&'a R, &'a R)>, Vec<String>, Vec<String>) {
    let mut left: Vec<(String, &R)> = before.iter().map(|row| (name(row), row)).collect();
    let (mut pairs, mut only_after) = (Vec::new(), Vec::new());
    for row in after {
        let own = name(row);
        match left.iter().position(|(other, _)| *other == own) {
            Some(k) => pairs.push((left.remove(k).1, row)),
            None => only_after.push(own),
        }
    }
    (pairs, left.into_iter().map(|(name, _)| name).collect(), only_after)
}

/// Of two stages one or both of which did not run.
fn not_compared<R>(what: &str, before: Option<&str>, after: Option<&str>) -> Matched<R> {
    let mut text = format!("{what} were not audited");
    match (before, after) {
        (Some(before), Some(after)) if before == after => {
            let _ = write!(text, " ({before})");
        }
        (Some(before), Some(after)) => {
            let _ = write!(text, " (before: {before}; after: {after})");
        }
        (Some(before), None) => {
            let _ = write!(text, " before ({before})");
        }
        (None, after) => {
            let _ = write!(text, " after ({})", after.unwrap_or("not said why"));
        }
    }
    Matched { rows: vec![], only_before: vec![], only_after: vec![], not_compared: Some(text) }
}

fn layers(before: &LayerStage, after: &LayerStage, worse: &mut Vec<String>) -> Matched<LayerChange> {
    let reason = |stage: &LayerStage| match stage {
        LayerStage::NotRun { reason } => Some(reason.clone()),
        LayerStage::Ran(_) => None,
    };
    let (Some(old), Some(new)) = (before.layers(), after.layers()) else {
        return not_compared("layers", reason(before).as_deref(), reason(after).as_deref());
    };
    let (pairs, only_before, only_after) = matched(&old.rows, &new.rows, |row: &LayerRow| {
        if row.call == 0 { row.location.clone() } else { format!("{} (call {})", row.location, row.call) }
    });
    let rows = pairs.into_iter().map(|(old, new)| layer(old, new, worse)).collect();
    Matched { rows, only_before, only_after, not_compared: None }
}

/// Whether symmetry is lost there: yes or no, `None` where it cannot be told.
fn loses(verdict: LayerVerdict) -> Option<bool> {
    match verdict {
        LayerVerdict::Ok
        | LayerVerdict::AnisotropicBasis
        | LayerVerdict::RestoredLater
        | LayerVerdict::NotMoved => Some(false),
        LayerVerdict::Breaks => Some(true),
        // What comes in is broken already: of itself nothing is said.
        LayerVerdict::Inherits
        | LayerVerdict::Undetermined
        | LayerVerdict::CannotJudge
        | LayerVerdict::NotKnown => None,
    }
}

fn layer(old: &LayerRow, new: &LayerRow, worse: &mut Vec<String>) -> LayerChange {
    let explained = explained(old.noise, new.noise);
    let beyond = |larger: &LayerRow, smaller: &LayerRow| {
        let own = larger.own_error.zip(smaller.own_error);
        loses(larger.verdict) == Some(true) && own.is_some_and(|(a, b)| exceeds(a, b, explained))
    };
    let (grew, fell) = (beyond(new, old), beyond(old, new));
    let (before, after) = (loses(old.verdict), loses(new.verdict));
    let lost = (before, after) == (Some(false), Some(true));
    let name = if new.call == 0 {
        format!("layer `{}`", new.location)
    } else {
        format!("layer `{}`, call {}", new.location, new.call)
    };
    if lost {
        worse.push(format!("{name}: it was `{}` and is `{}`", old.verdict, new.verdict));
    } else if grew {
        worse.push(format!(
            "{name}: its own error grew from {:.2e} to {:.2e}, and noise explains a difference of {explained:.1e}",
            old.own_error.unwrap_or(f64::NAN),
            new.own_error.unwrap_or(f64::NAN)
        ));
    }
    // An heir whose inputs are whole again got better too, through no change of its own.
    let mended = after == Some(false) && (before == Some(true) || old.verdict == LayerVerdict::Inherits);
    LayerChange {
        location: new.location.clone(),
        call: new.call,
        class: Change { before: old.class.clone(), after: new.class.clone() },
        own_error: Figures { before: old.own_error, after: new.own_error },
        propagated_error: Figures { before: old.propagated_error, after: new.propagated_error },
        explained,
        verdict: Change { before: old.verdict, after: new.verdict },
        trend: trend(lost || grew, mended || fell),
    }
}

fn gradients(
    before: &Rows<GradientRow>,
    after: &Rows<GradientRow>,
    worse: &mut Vec<String>,
) -> Matched<GradientChange> {
    let reason = |stage: &Rows<GradientRow>| match stage {
        Rows::NotRun { reason } => Some(reason.clone()),
        Rows::Ran { .. } => None,
    };
    if let (old, new) = (reason(before), reason(after))
        && (old.is_some() || new.is_some())
    {
        return not_compared("gradients", old.as_deref(), new.as_deref());
    }
    let (pairs, only_before, only_after) = matched(before.rows(), after.rows(), gradient_name);
    let rows = pairs.into_iter().map(|(old, new)| gradient(old, new, worse)).collect();
    Matched { rows, only_before, only_after, not_compared: None }
}

fn gradient_name(row: &GradientRow) -> String {
    let target = row.target.as_ref().map_or(String::new(), |target| format!(" by `{target}`"));
    format!("{}, {}, `{}`{target}", row.check, row.mode, row.output)
}

fn gradient(old: &GradientRow, new: &GradientRow, worse: &mut Vec<String>) -> GradientChange {
    // Of one precision on both sides.
    let (before, after) = match (old.max_relative_f64, new.max_relative_f64) {
        (Some(before), Some(after)) => (Some(before), Some(after)),
        _ => (old.max_relative, new.max_relative),
    };
    let explained = explained(old.noise.unwrap_or(0.0), new.noise.unwrap_or(0.0));
    let beyond = |outcome: Outcome, larger: Option<f64>, smaller: Option<f64>| {
        outcome == Outcome::Violated
            && larger.zip(smaller).is_some_and(|(larger, smaller)| exceeds(larger, smaller, explained))
    };
    let (grew, fell) = (beyond(new.outcome, after, before), beyond(old.outcome, before, after));
    // A row that no verdict hangs on does not speak against a pass.
    let verdict = |row: &GradientRow| row.verdict.unwrap_or(Verdict::Pass);
    let (was, is) = (verdict(old), verdict(new));
    let name = gradient_name(new);
    if is > was {
        worse.push(format!("{name}: its verdict was {was} and is {is}"));
    } else if grew {
        worse.push(format!(
            "{name}: its error grew from {:.2e} to {:.2e}, and noise explains a difference of {explained:.1e}",
            before.unwrap_or(f64::NAN),
            after.unwrap_or(f64::NAN)
        ));
    }
    GradientChange {
        check: new.check,
        mode: new.mode.clone(),
        output: new.output.clone(),
        target: new.target.clone(),
        error: Figures { before, after },
        explained,
        outcome: Change { before: old.outcome, after: new.outcome },
        verdict: Change { before: old.verdict, after: new.verdict },
        trend: trend(grew || is > was, fell || is < was),
    }
}

fn findings(before: &[Finding], after: &[Finding]) -> FindingChanges {
    let mut went: Vec<Finding> = before.to_vec();
    let mut changes = FindingChanges::default();
    for finding in after {
        let same = |other: &Finding| (other.mode, &other.location) == (finding.mode, &finding.location);
        match went.iter().position(same) {
            Some(k) => {
                went.remove(k);
                changes.stayed.push(finding.clone());
            }
            None => changes.came.push(finding.clone()),
        }
    }
    FindingChanges { went, ..changes }
}

fn notes(before: &Report, after: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let (old, new) = (&before.plan, &after.plan);
    let tried: Vec<String> = [
        ("seed", old.seed, new.seed),
        ("samples", old.samples as u64, new.samples as u64),
        ("transformations", old.transformations as u64, new.transformations as u64),
        ("pairs", old.pairs as u64, new.pairs as u64),
    ]
    .iter()
    .filter(|(_, before, after)| before != after)
    .map(|(what, before, after)| format!("{what} {before} before, {after} after"))
    .collect();
    if !tried.is_empty() {
        notes.push(format!(
            "the two audits did not try the same ({}): largest errors differ by what was drawn too",
            tried.join("; ")
        ));
    }
    let shapes = |report: &Report| {
        let rows = report.transforms.iter().filter(|row| row.role == "input");
        rows.map(|row| (row.name.clone(), row.shape.clone())).collect::<BTreeMap<_, _>>()
    };
    if shapes(before) != shapes(after) {
        notes.push("the first sample has not the same shapes before and after".to_owned());
    }
    for (what, before, after) in [
        ("the framework", &before.model.framework, &after.model.framework),
        ("the device", &before.model.device, &after.model.device),
        ("the version of equicheck", &before.equicheck_version, &after.equicheck_version),
    ] {
        if before != after {
            notes.push(format!("{what} was `{before}` and is `{after}`"));
        }
    }
    for new in &after.outputs {
        let Some(old) = before.outputs.iter().find(|output| output.name == new.name) else { continue };
        let name = &new.name;
        match (old.float64.counts(), new.float64.counts()) {
            (true, false) => notes.push(format!(
                "output `{name}`: double precision counts before and not after: the violation after holds rounding"
            )),
            (false, true) => notes.push(format!(
                "output `{name}`: double precision counts after and not before: the violation before holds rounding"
            )),
            _ => {}
        }
        if new.classification == Classification::Undetermined && old.violation < new.violation {
            notes.push(format!("output `{name}`: whether its violation grew cannot be told: {}", new.reason));
        }
    }
    notes
}
