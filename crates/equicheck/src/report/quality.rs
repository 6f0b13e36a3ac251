//! How good an audit was, from 1 to 5: `docs/quality-rubric.md` is the specification, and says why.
//!
//! A pure function of the record. Wall-clock figures do not enter: a reproducible file leaves them out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diagnosis::{Finding, Mode, Severity};
use crate::symmetry::Group;

use super::rows::kinds;
use super::{
    Bound, Confidence, FactorRow, Float64, GradientCheck, LayerStage, LayerVerdict, Outcome, OutputResult,
    Report, Rows, Stop, Verdict, figure,
};

kinds! {
    /// What an audit is scored by.
    Aspect {
        /// Was enough tried to see a violation?
        TestThoroughness = "test thoroughness",
        /// Is known what the errors are made of, and where they arise?
        ErrorAnalysis = "error analysis",
        /// Was each thing that is wrong located and named?
        IssueDiagnosis = "issue diagnosis",
        /// Is said what to do, in which order, and how to see that it worked?
        Recommendations = "recommendations",
        /// Can someone else read, trust and repeat it?
        Documentation = "documentation",
    }
}

impl Aspect {
    /// Its share of the overall score, in hundredths: the sum of these is exact.
    fn weight(self) -> f64 {
        match self {
            Aspect::TestThoroughness | Aspect::ErrorAnalysis | Aspect::IssueDiagnosis => 25.0,
            Aspect::Recommendations => 15.0,
            Aspect::Documentation => 10.0,
        }
    }
}

/// One dimension of the score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dimension {
    /// Which.
    pub name: Aspect,
    /// Its share of the overall score, from 0 to 1.
    #[serde(with = "figure")]
    pub weight: f64,
    /// From 1 to 5.
    #[serde(with = "figure")]
    pub score: f64,
    /// What would raise it, most gain first; empty at 5.
    pub raise: Vec<String>,
}

/// How good an audit was: no score of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// The weighted mean of the dimensions, from 1 to 5.
    #[serde(with = "figure")]
    pub overall: f64,
    /// All of them, in the order of [`Aspect::ALL`].
    pub dimensions: Vec<Dimension>,
}

impl Quality {
    /// The score of one dimension, from 1 to 5; NaN where a file lacks it.
    pub fn score(&self, aspect: Aspect) -> f64 {
        self.dimensions.iter().find(|of| of.name == aspect).map_or(f64::NAN, |of| of.score)
    }

    /// What the overall score means, as it is printed.
    pub fn in_words(&self) -> &'static str {
        match (self.overall * 10.0).round() {
            tenths if tenths >= 45.0 => "complete: the verdict can be relied on within the stated bounds",
            tenths if tenths >= 35.0 => "sound: named gaps, none of which changes what was seen",
            tenths if tenths >= 25.0 => "partial: a violation may be missed or unexplained",
            _ => "a spot check",
        }
    }
}

/// Scores an audit by what its report records. The report's own `quality` is not looked at.
pub fn quality(report: &Report) -> Quality {
    let facts = Facts::of(report);
    let dimension = |aspect: &Aspect| {
        let mut items = match aspect {
            Aspect::TestThoroughness => thoroughness(&facts),
            Aspect::ErrorAnalysis => analysis(&facts),
            Aspect::IssueDiagnosis => diagnosis(&facts),
            Aspect::Recommendations => recommendations(&facts),
            Aspect::Documentation => documentation(&facts),
        };
        items.retain(|item| item.value.is_some());
        let total: f64 = items.iter().map(|item| item.weight).sum();
        let lost: f64 = items.iter().map(Item::lost).sum();
        // Ties stay in the order of the tables.
        items.sort_by(|a, b| b.lost().total_cmp(&a.lost()));
        let raise = items.into_iter().filter(|item| item.lost() > 0.0).map(|item| item.raise).collect();
        let score = if total > 0.0 { 5.0 - 4.0 * lost / total } else { 5.0 };
        Dimension { name: *aspect, weight: aspect.weight() / 100.0, score, raise }
    };
    let dimensions: Vec<Dimension> = Aspect::ALL.iter().map(dimension).collect();
    let overall = dimensions.iter().map(|of| of.name.weight() * of.score).sum::<f64>() / 100.0;
    Quality { overall, dimensions }
}

/// What a dimension is made of.
struct Item {
    weight: f64,
    /// From 0 to 1; nothing where it has no meaning for the report.
    value: Option<f64>,
    /// What would raise it.
    raise: String,
}

impl Item {
    fn lost(&self) -> f64 {
        self.weight * (1.0 - self.value.unwrap_or(1.0))
    }
}

fn item(weight: u8, value: Option<f64>, raise: impl FnOnce() -> String) -> Item {
    let lacks = value.is_some_and(|value| value < 1.0);
    Item { weight: f64::from(weight), value, raise: if lacks { raise() } else { String::new() } }
}

const AGAIN: &str = "audit again with this version";

/// For what every version records now: 1 or nothing.
fn recorded(weight: u8, what: &str, value: Option<f64>) -> Item {
    item(weight, value, || format!("{AGAIN}: {what}"))
}

fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

fn share(values: impl IntoIterator<Item = bool>) -> Option<f64> {
    mean(values.into_iter().map(earned))
}

fn earned(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// The first three of them, and how many more there are.
fn listed(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().collect();
    let more = names.len().saturating_sub(3);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// How to have a stage that did not run: its option where that was off, else nothing but what stood in its way.
fn option(name: &str, reason: &str) -> Option<String> {
    let off = reason.is_empty() || reason.starts_with(name) || reason == super::rows::NOT_RECORDED;
    off.then(|| format!("set `{name}=True`"))
}

/// The same in a sentence that says what was not done.
fn to_run(name: &str, what: &str, reason: &str) -> String {
    match option(name, reason) {
        Some(set) => format!("{set}: {what} not looked at"),
        None => format!("{what} not looked at: {reason}"),
    }
}

/// The report, and what several items ask of it.
struct Facts<'a> {
    report: &'a Report,
    /// Labels of the group's factors; nothing for a group of the user's own functions.
    factors: Option<Vec<String>>,
}

impl<'a> Facts<'a> {
    fn of(report: &'a Report) -> Self {
        // Canonical group strings can be read again; the name of a custom action is none.
        let group = Group::parse(&report.group).ok();
        let factors = group.map(|group| group.factors().iter().map(ToString::to_string).collect());
        Self { report, factors }
    }

    fn custom(&self) -> bool {
        self.factors.is_none()
    }

    /// Whether laws are compared in place of calls.
    fn random(&self) -> bool {
        self.report.plan.randomness.as_deref() == Some("distribution")
    }

    /// Outputs that are judged pair by pair.
    fn compared(&self) -> impl Iterator<Item = &'a OutputResult> {
        self.report.outputs.iter().filter(|output| output.distribution.is_none())
    }

    /// What was tried of the group, or of one of its factors: not the halves of either, nor single samples.
    fn rows<'b>(&'b self, output: &'a OutputResult) -> impl Iterator<Item = &'a FactorRow> + 'b {
        output.factors.iter().filter(|row| row.factor == "joint" || self.is_factor(&row.factor))
    }

    fn is_factor(&self, label: &str) -> bool {
        self.factors.as_ref().is_some_and(|factors| factors.iter().any(|factor| factor == label))
    }

    /// By factor, whether it acted alone on an output; a group of one factor acts alone when it acts jointly.
    fn alone(&self, output: &OutputResult) -> Vec<(String, bool)> {
        let tried = |label: &str| output.factors.iter().any(|row| row.factor == label && row.pairs > 0);
        match self.factors.as_deref() {
            None => vec![(self.report.group.clone(), tried("joint"))],
            Some([only]) => vec![(only.clone(), tried("joint") || tried(only))],
            Some(all) => all.iter().map(|factor| (factor.clone(), tried(factor))).collect(),
        }
    }

    /// Findings that the verdict hangs on, with their numbers in the report.
    fn serious(&self) -> impl Iterator<Item = (usize, &'a Finding)> {
        (1..).zip(&self.report.findings).filter(|(_, finding)| finding.severity >= Severity::Medium)
    }
}

/// The numbers of findings of which something does not hold, as the report lists them.
fn lacking<'a>(
    findings: impl Iterator<Item = (usize, &'a Finding)>,
    holds: impl Fn(&Finding) -> bool,
) -> String {
    let lacking: Vec<String> =
        findings.filter(|(_, finding)| !holds(finding)).map(|(number, _)| number.to_string()).collect();
    format!("finding{} {}", if lacking.len() > 1 { "s" } else { "" }, listed(lacking))
}

fn thoroughness(facts: &Facts<'_>) -> Vec<Item> {
    let report = facts.report;
    let plan = &report.plan;
    let target = match report.model.parameters.unwrap_or(0) {
        ..1_000_000 => 50,
        1_000_000..100_000_000 => 100,
        _ => 200,
    };
    let samples = match plan.samples {
        given if given >= target => 1.0,
        10.. => 0.75,
        3.. => 0.5,
        2 => 0.25,
        _ => 0.0,
    };
    let pairs = if plan.stop == Stop::Early {
        1.0
    } else {
        (plan.pairs as f64 / plan.planned_pairs.max(1) as f64).min(1.0)
    };
    let alone: Vec<(String, bool)> = facts.compared().flat_map(|output| facts.alone(output)).collect();
    let never = || {
        let mut labels: Vec<String> = Vec::new();
        for (label, _) in alone.iter().filter(|(_, tried)| !tried) {
            if !labels.contains(label) {
                labels.push(label.clone());
            }
        }
        listed(labels)
    };
    let planned = share(facts.compared().map(|output| output.planned.iter().any(|row| row.pairs > 0)));
    let could_fail = |output: &OutputResult| {
        !output.vacuity.is_empty() && output.vacuity.iter().all(|row| row.vacuous.is_none())
    };
    let audited = report.outputs.len() as f64;
    vec![
        item(2, Some(samples), || {
            format!(
                "give {target} test samples, rather than {}: other inputs may break what these do not",
                plan.samples
            )
        }),
        item(2, Some(pairs), || {
            format!(
                "raise `budget=`, or set `thorough=True`: {} of {} pairs were evaluated",
                plan.pairs, plan.planned_pairs
            )
        }),
        item(2, share(alone.iter().map(|(_, tried)| *tried)), || {
            format!(
                "raise `transforms=`, so that each factor of the group is tried alone: {} never acted so",
                never()
            )
        }),
        item(1, planned.filter(|_| !facts.custom()), || {
            "raise `budget=`: no special elements of the group (half-turns, inversions and so on) were tried"
                .to_owned()
        }),
        item(3, mean(facts.compared().map(|output| in_double(&output.float64))), || double_precision(facts)),
        item(3, share(report.outputs.iter().map(could_fail)), || {
            let vacuous = report.outputs.iter().filter(|output| !could_fail(output));
            format!(
                "give inputs that the group moves and that the output depends on, or leave it out (`None`): the test of \
                 {} could not have failed",
                listed(vacuous.map(|output| quoted(&output.name)))
            )
        }),
        stress(facts),
        composition(facts),
        item(1, Some(audited / (audited + report.not_audited.len() as f64).max(1.0)), || {
            format!("give a layout to {}", listed(report.not_audited.iter().map(|name| quoted(name))))
        }),
    ]
}

fn in_double(comparison: &Float64) -> f64 {
    match comparison {
        Float64::Available { .. } => 1.0,
        Float64::Void { .. } => 0.5,
        Float64::Unavailable { .. } | Float64::NotRequested => 0.0,
    }
}

/// What stands in the way of double precision, the worst first.
fn double_precision(facts: &Facts<'_>) -> String {
    let worst = facts.compared().map(|o| &o.float64).min_by(|a, b| in_double(a).total_cmp(&in_double(b)));
    match worst {
        Some(Float64::Unavailable { reason }) => {
            format!(
                "give `factory=`, or `module=` for a callable, for a comparison in double precision: {reason}"
            )
        }
        Some(Float64::Void { input, .. }) => format!(
            "keep double precision inside the model, or give a `factory=` that does: small changes of `{input}` are lost"
        ),
        _ => "set `precision=\"both\"`: nothing was compared in double precision".to_owned(),
    }
}

fn stress(facts: &Facts<'_>) -> Item {
    let value = match &facts.report.stress {
        _ if facts.custom() || facts.random() => None,
        Rows::NotRun { .. } => Some(0.0),
        Rows::Ran { rows } => rows.iter().any(|row| row.outcome != Outcome::NotApplicable).then_some(1.0),
    };
    item(2, value, || {
        let reason = match &facts.report.stress {
            Rows::NotRun { reason } => reason.as_str(),
            Rows::Ran { .. } => "",
        };
        to_run("stress", "inputs at the edge (degenerate, far away, huge) were", reason)
    })
}

fn composition(facts: &Facts<'_>) -> Item {
    let unjudged = |outcome: Outcome| matches!(outcome, Outcome::NotJudged | Outcome::NotApplicable);
    let value = match &facts.report.composition {
        _ if facts.custom() => None,
        Rows::NotRun { reason } if reason.starts_with("not applicable") => None,
        Rows::NotRun { .. } => Some(0.0),
        Rows::Ran { rows } => share(rows.iter().map(|row| !unjudged(row.outcome))),
    };
    item(1, value, || {
        let why = match &facts.report.composition {
            Rows::NotRun { reason } => reason.clone(),
            Rows::Ran { rows } => rows
                .iter()
                .find(|row| unjudged(row.outcome))
                .map_or_else(String::new, |row| row.reason.clone()),
        };
        format!("give batches of two or more entries, and `segments=` for graphs: {why}")
    })
}

fn analysis(facts: &Facts<'_>) -> Vec<Item> {
    let report = facts.report;
    let drawn = facts.compared().flat_map(|output| facts.rows(output)).map(|row| match row.bound {
        Bound::Exact | Bound::Interpolated => 1.0,
        _ => (row.pairs as f64 / 10.0).min(1.0),
    });
    let called =
        |purpose: &str| earned(report.plan.calls_by_purpose.get(purpose).is_some_and(|calls| *calls > 0));
    let some = facts.compared().next().is_some();
    let seen = |output: &OutputResult| output.worst.is_some() || output.relative.max == 0.0;
    vec![
        item(2, mean(drawn), || {
            "raise `transforms=`, or give more samples: ten random pairs for each factor of the group"
                .to_owned()
        }),
        item(2, some.then(|| called("noise")), || "raise `budget=`: rounding was not measured".to_owned()),
        item(1, Some(called("repeat")), || {
            "raise `budget=`: whether equal calls agree was not measured".to_owned()
        }),
        item(3, mean(facts.compared().map(bounded)), || unseen(facts)),
        layers(facts),
        gradients(facts),
        // Laws have no worst pair.
        recorded(1, "the worst case was not recorded", share(facts.compared().map(seen))),
    ]
}

fn joint(output: &OutputResult) -> Option<&FactorRow> {
    output.factors.iter().find(|row| row.factor == "joint")
}

/// How tightly the share of the group that violates is bounded.
fn bounded(output: &OutputResult) -> f64 {
    let Some(row) = joint(output).filter(|row| row.bound != Bound::None) else { return 0.0 };
    // Where a violation was seen, no bound has to tell that there is none.
    if row.exceeding > 0 || matches!(row.bound, Bound::Exact | Bound::Interpolated) {
        return 1.0;
    }
    match row.share_bound {
        ..=0.05 => 1.0,
        ..=0.1 => 0.75,
        ..=0.3 => 0.5,
        ..=0.6 => 0.25,
        _ => 0.0,
    }
}

fn unseen(facts: &Facts<'_>) -> String {
    let loose = facts.compared().filter(|output| bounded(output) < 1.0);
    let bounds =
        loose.map(|output| joint(output).filter(|row| row.bound != Bound::None).map(|row| row.share_bound));
    let advice = "raise `transforms=`, or give more samples";
    match bounds.into_iter().try_fold(0.0, |worst: f64, bound| Some(worst.max(bound?))) {
        Some(bound) if bound < 1.0 => {
            format!(
                "{advice}: up to {:.0} % of the group may violate and not have been seen",
                (100.0 * bound).ceil()
            )
        }
        _ => format!("{advice}: what share of the group may violate is not bounded"),
    }
}

/// The share of calls that are judged from which on nothing is lacking: some hidden tensors have no layout in any model.
const MOST_CALLS: f64 = 0.9;

fn layers(facts: &Facts<'_>) -> Item {
    let layers = match &facts.report.layers {
        LayerStage::NotRun { reason } => {
            return item(4, Some(0.0), || to_run("layers", "layers were", reason));
        }
        LayerStage::Ran(layers) => layers,
    };
    let unjudged = [LayerVerdict::NotKnown, LayerVerdict::CannotJudge, LayerVerdict::Undetermined];
    let moved: Vec<bool> = layers
        .rows
        .iter()
        .filter(|row| row.verdict != LayerVerdict::NotMoved)
        .map(|row| !unjudged.contains(&row.verdict))
        .collect();
    let none_moved = earned(!layers.rows.is_empty());
    let value = share(moved.iter().copied()).map_or(none_moved, |judged| (judged / MOST_CALLS).min(1.0));
    item(4, Some(value), || {
        if layers.rows.is_empty() {
            return "give `module=` for a callable: no module was called".to_owned();
        }
        let open = moved.iter().filter(|judged| !**judged).count();
        format!("declare `hidden_layouts=`: {open} of {} calls of modules could not be judged", moved.len())
    })
}

fn gradients(facts: &Facts<'_>) -> Item {
    if facts.custom() || facts.random() {
        return item(3, None, String::new);
    }
    let rows = match &facts.report.gradients {
        Rows::NotRun { reason } => {
            return item(3, Some(0.0), || to_run("gradients", "gradients were", reason));
        }
        Rows::Ran { rows } => rows,
    };
    let open = |check: GradientCheck| {
        let mut own = rows.iter().filter(|row| row.check == check).peekable();
        own.peek().is_some()
            && own.all(|row| matches!(row.outcome, Outcome::NotJudged | Outcome::NotApplicable))
    };
    let checks = [(GradientCheck::Input, "inputs"), (GradientCheck::Parameter, "parameters")];
    let value = if rows.is_empty() { Some(0.0) } else { share(checks.map(|(check, _)| !open(check))) };
    item(3, value, || {
        let lacking = checks.iter().filter(|(check, _)| rows.is_empty() || open(*check));
        let names: Vec<&str> = lacking.map(|(_, name)| *name).collect();
        let why = rows.iter().find(|row| checks.iter().any(|(check, _)| row.check == *check && open(*check)));
        let why = why.map_or_else(String::new, |row| format!(": {}", row.reason));
        format!("make the gradients by {} comparable{why}", names.join(" and "))
    })
}

fn diagnosis(facts: &Facts<'_>) -> Vec<Item> {
    let report = facts.report;
    let not_passed: Vec<&OutputResult> =
        report.outputs.iter().filter(|output| output.verdict != Verdict::Pass).collect();
    if not_passed.is_empty() && facts.serious().next().is_none() {
        return Vec::new();
    }
    let covered = |output: &OutputResult| report.findings.iter().any(|finding| covers(finding, &output.name));
    let named = |finding: &Finding| finding.mode != Mode::Undiagnosed;
    let broken = report.layers.layers().map_or(&[][..], |layers| &layers.breaks);
    let near = broken.iter().any(|broken| broken.confidence >= Confidence::Medium);
    let located = |finding: &Finding| match &finding.class {
        Some(class) if !class.is_empty() => 1.0,
        _ if near => 0.5,
        _ => 0.0,
    };
    let to_locate = || facts.serious().filter(|(_, finding)| has_place(finding.mode));
    let sure = |finding: &Finding| match finding.confidence {
        _ if !named(finding) => 0.0,
        Confidence::High => 1.0,
        Confidence::Medium => 0.6,
        Confidence::Low => 0.2,
    };
    let several = |finding: &Finding| finding.evidence.len() >= 2;
    let undiagnosed = || facts.serious().filter(|(_, finding)| !named(finding) && !facts.custom());
    let violated = report.outputs.iter().any(OutputResult::is_violated);
    let looked = earned(report.layers.layers().is_some());
    vec![
        item(2, share(not_passed.iter().map(|output| covered(output))), || {
            let open = not_passed.iter().filter(|output| !covered(output));
            format!(
                "no finding covers {}: see the reason given",
                listed(open.map(|output| quoted(&output.name)))
            )
        }),
        item(4, mean(to_locate().map(|(_, finding)| located(finding))), || {
            let open = lacking(to_locate(), |finding| located(finding) >= 1.0);
            let unknown = format!("no place in the model is known for {open}");
            match &report.layers {
                LayerStage::Ran(_) => format!("declare `hidden_layouts=`: {unknown}"),
                LayerStage::NotRun { reason } => match option("layers", reason) {
                    Some(set) => format!("{set}: {unknown}"),
                    None => format!("{unknown}, as layers were not looked at: {reason}"),
                },
            }
        }),
        item(4, share(facts.serious().map(|(_, finding)| named(finding))), || unnamed(facts)),
        item(2, mean(facts.serious().map(|(_, finding)| sure(finding))), || {
            let open = lacking(facts.serious(), |finding| sure(finding) >= 1.0);
            format!(
                "raise `transforms=`, give more samples or declare `hidden_layouts=`, for more confidence in {open}"
            )
        }),
        item(1, share(facts.serious().map(|(_, finding)| several(finding))), || {
            let open = lacking(facts.serious(), several);
            format!("raise `budget=`, so that more than one figure supports {open}")
        }),
        item(2, mean(undiagnosed().map(|(_, finding)| excluded(finding))), || {
            let open = lacking(undiagnosed(), |finding| excluded(finding) >= 1.0);
            format!("raise `budget=` and `transforms=`, so that more can be excluded for {open}")
        }),
        item(2, (violated && !facts.custom()).then_some(looked), || {
            let reason = match &report.layers {
                LayerStage::NotRun { reason } => reason.as_str(),
                LayerStage::Ran(_) => "",
            };
            to_run("layers", "where symmetry is lost was", reason)
        }),
    ]
}

fn covers(finding: &Finding, output: &str) -> bool {
    let name = quoted(output);
    finding.location.contains(&name) || finding.effects.iter().any(|effect| effect.contains(&name))
}

/// What it takes to name what is undiagnosed.
fn unnamed(facts: &Facts<'_>) -> String {
    let open = lacking(facts.serious(), |finding| finding.mode != Mode::Undiagnosed);
    format!(
        "give more evidence (`hidden_layouts=`, `factory=`, samples of other sizes), or raise `budget=`, so that more \
         can be asked about {open}"
    )
}

/// What an undiagnosed finding says to have excluded: half where it also says that not all was tried.
fn excluded(finding: &Finding) -> f64 {
    let says = |starts: &[&str]| {
        finding.evidence.iter().any(|line| starts.iter().any(|start| line.starts_with(start)))
    };
    match (
        says(&["excluded: ", "does not hold under ", "in train mode ", "in eval mode "]),
        says(&["not all was tried"]),
    ) {
        (false, _) => 0.0,
        (true, true) => 0.5,
        (true, false) => 1.0,
    }
}

/// Whether a failure of this mode is somewhere in the model, rather than in a declaration, in all of it, or in gradients,
/// whose places are parameters and outputs.
fn has_place(mode: Mode) -> bool {
    match mode {
        Mode::WrongDeclaration
        | Mode::WrongOutputTransform
        | Mode::UntransformedInput
        | Mode::VacuousTest
        | Mode::Randomness
        | Mode::Nondeterminism
        | Mode::StateDrift
        | Mode::RandomLaw
        | Mode::BrokenCall
        | Mode::NearestImages
        | Mode::BatchCrossTalk
        | Mode::NumericalPrecision
        | Mode::UnstableParameters
        | Mode::WrongBackward
        | Mode::DetachedGradient
        | Mode::GradientNotEquivariant
        | Mode::GradientDrift
        | Mode::NanGradient
        | Mode::InputMutation => false,
        Mode::NonequivariantNonlinearity
        | Mode::BatchNorm
        | Mode::CustomLayerBug
        | Mode::PaddingBoundary
        | Mode::Parity
        | Mode::TranslationLeak
        | Mode::Permutation
        | Mode::PositionalEncoding
        | Mode::ComponentOrder
        | Mode::StridingAliasing
        | Mode::Interpolation
        | Mode::NeighbourCap
        | Mode::Discontinuity
        | Mode::ChartSingularity
        | Mode::LabFrameConstant
        | Mode::LowPrecision
        | Mode::TrainEvalDifference
        | Mode::RoundingAmplification
        | Mode::SizeDependence
        | Mode::Undiagnosed => true,
    }
}

fn recommendations(facts: &Facts<'_>) -> Vec<Item> {
    let Report { findings, recommendations, .. } = facts.report;
    let falls = findings.windows(2).all(|pair| pair[0].severity >= pair[1].severity);
    let first = match (recommendations.first(), findings.first()) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(advice), Some(finding)) => *advice == finding.fix,
    };
    let named = facts.serious().map(|(_, finding)| finding.mode != Mode::Undiagnosed);
    vec![
        recorded(2, "a finding has no fix", share(findings.iter().map(|finding| !finding.fix.is_empty()))),
        recorded(
            2,
            "a finding does not say how its fix is verified",
            share(findings.iter().map(|finding| !finding.verify.is_empty())),
        ),
        item(2, share(named), || unnamed(facts)),
        recorded(1, "what to do is not ranked", Some(earned(falls && first))),
    ]
}

fn documentation(facts: &Facts<'_>) -> Vec<Item> {
    let Report { transforms, plan, environment, model, .. } = facts.report;
    let described = !transforms.is_empty() && transforms.iter().all(|row| !row.description.is_empty());
    let replayable = plan.pairs > 0 && plan.calls > 0 && plan.confidence > 0.0;
    let versions = environment.contains_key(&model.framework) || environment.len() >= 3;
    let fields = [
        ("name", &model.name),
        ("framework", &model.framework),
        ("dtype", &model.dtype),
        ("device", &model.device),
        ("mode", &model.mode),
    ];
    let breaks = facts.report.layers.layers().map_or(&[][..], |layers| &layers.breaks);
    let sourced = breaks.iter().map(|broken| {
        broken.source.as_ref().is_some_and(|source| !source.is_empty()) || !broken.class.is_empty()
    });
    let outputs = &facts.report.outputs;
    vec![
        item(2, (!facts.custom()).then_some(earned(described)), || {
            "give layouts for all tensors: how they are transformed is not said in words".to_owned()
        }),
        recorded(2, "what was executed is not recorded", Some(earned(replayable))),
        recorded(
            2,
            "versions and platform are not recorded",
            Some(earned(environment.contains_key("platform") && versions)),
        ),
        item(1, share(fields.map(|(_, value)| !value.is_empty())), || {
            let open = fields.iter().filter(|(_, value)| value.is_empty());
            format!(
                "give `module=`, so that what the model is can be said: {}",
                listed(open.map(|(name, _)| (*name).to_owned()))
            )
        }),
        item(1, share(sourced), || {
            "export the model with the names of its modules, or audit its source: a place has neither class nor line".to_owned()
        }),
        recorded(1, "an output has no reason", share(outputs.iter().map(|output| !output.reason.is_empty()))),
    ]
}
