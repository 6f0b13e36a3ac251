//! What a written report says and in which order, before any markup.
//!
//! Text and Markdown render the same [`Document`], so they cannot come to differ in what they say. Strings from users
//! and models are carried verbatim; making them harmless is each renderer's duty, done in one place for all of them.

mod comparison;
mod explanation;
mod gradients;
mod layers;
mod rows;

pub(super) use comparison::comparison;
pub(super) use explanation::{explanation, modes};

use std::fmt::Write as _;

use crate::symmetry::{Factor, Group};

use super::{
    Bound, Classification, Dimension, Distribution, DistributionTest, ExecutedPlan, FactorRow, Finding,
    Float64, InterpolationControl, InterpolationScaling, Level, ModelInfo, OutputResult, PlannedRow, Quality,
    Report, Shard, Stop, SymmetryType, Timings, TransformRow, VacuityRow, Verdict, WorstCase,
};

/// A piece of running text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Span {
    /// Prose.
    Text(String),
    /// A name, layout, group or other literal that is not to be broken or interpreted.
    Code(String),
}

/// Running text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Inline(pub(super) Vec<Span>);

impl Inline {
    fn code(literal: impl Into<String>) -> Self {
        Self(vec![Span::Code(literal.into())])
    }

    fn then(mut self, prose: impl Into<String>) -> Self {
        self.0.push(Span::Text(prose.into()));
        self
    }

    fn then_code(mut self, literal: impl Into<String>) -> Self {
        self.0.push(Span::Code(literal.into()));
        self
    }
}

impl<S: Into<String>> From<S> for Inline {
    fn from(prose: S) -> Self {
        Self(vec![Span::Text(prose.into())])
    }
}

/// Alignment of a table's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A captioned table; every row has one cell per column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) caption: &'static str,
    pub(super) columns: Vec<(&'static str, Align)>,
    pub(super) rows: Vec<Vec<Inline>>,
}

/// One element of a report.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    Title(&'static str),
    Section(&'static str),
    Heading(Inline),
    /// `label: value` on a line of its own.
    Field(&'static str, Inline),
    /// `label: value` in a list.
    Item(Inline, Inline),
    /// An entry of a list.
    Bullet(Inline),
    /// A numbered entry with labelled particulars.
    Numbered(usize, Inline, Vec<(&'static str, Inline)>),
    Table(Table),
    /// Prose on its own.
    Paragraph(Inline),
    /// Lines that stay as they are.
    Code(Vec<String>),
    Verdict(Verdict),
    /// What a comparison comes to.
    Result(&'static str),
}

/// A report, in order.
pub(super) type Document = Vec<Block>;

/// Lays out a report.
pub(super) fn document(report: &Report) -> Document {
    let mut blocks = vec![
        Block::Title("MODEL EQUIVARIANCE AUDIT REPORT"),
        Block::Field("Model", model(&report.model)),
        Block::Field("Intended Symmetry", Inline::code(&report.group)),
        Block::Field("Symmetry Type", symmetry_type(&report.outputs)),
    ];
    if !report.transforms.is_empty() {
        blocks.push(Block::Table(transforms(&report.transforms)));
    }
    end_to_end(report, &mut blocks);
    rows::composition(&report.composition, &mut blocks);
    rows::stress(&report.stress, report.levels.excellent, &mut blocks);
    layers::layers(&report.layers, &mut blocks);
    gradients::gradients(&report.gradients, &mut blocks);
    if !report.notes.is_empty() {
        blocks.push(Block::Section("NOTES"));
        blocks.extend(report.notes.iter().map(|note| Block::Bullet(note.into())));
    }
    executed_plan(report, &mut blocks);
    environment(report, &mut blocks);
    if let Some(quality) = &report.quality {
        blocks.push(Block::Section("AUDIT QUALITY"));
        blocks.push(item("Overall", format!("{:.1} of 5 ({})", quality.overall, quality.in_words())));
        blocks.push(Block::Table(dimensions(quality)));
    }
    if let Some(timings) = &report.timings {
        blocks.push(Block::Section("TIMINGS"));
        blocks.extend(timing_items(timings));
    }
    blocks.push(Block::Section("IDENTIFIED ISSUES"));
    if report.findings.is_empty() {
        blocks.push(Block::Bullet("none".into()));
    }
    blocks.extend(report.findings.iter().zip(1..).map(|(finding, number)| issue(number, finding)));
    blocks.push(Block::Verdict(report.verdict));
    blocks.push(Block::Heading("Recommendations".into()));
    if report.recommendations.is_empty() {
        blocks.push(Block::Bullet("none".into()));
    }
    blocks.extend(report.recommendations.iter().map(|advice| Block::Bullet(advice.into())));
    blocks
}

fn item(label: &str, value: impl Into<Inline>) -> Block {
    Block::Item(label.into(), value.into())
}

fn model(model: &ModelInfo) -> Inline {
    let mut particulars = Vec::new();
    if !model.framework.is_empty() {
        particulars.push(model.framework.clone());
    }
    if let Some(parameters) = model.parameters {
        particulars.push(format!("{} parameters", grouped(parameters)));
    }
    match (model.dtype.is_empty(), model.device.is_empty()) {
        (false, false) => particulars.push(format!("{} on {}", model.dtype, model.device)),
        (false, true) => particulars.push(model.dtype.clone()),
        (true, false) => particulars.push(format!("on {}", model.device)),
        (true, true) => {}
    }
    if !model.computes_in.is_empty() {
        particulars.push(format!("computing in {}", model.computes_in));
    }
    if !model.mode.is_empty() {
        particulars.push(format!("mode {}", model.mode));
    }
    let name = Inline::code(&model.name);
    if particulars.is_empty() { name } else { name.then(format!(" ({})", particulars.join(", "))) }
}

fn symmetry_type(outputs: &[OutputResult]) -> Inline {
    let overall = if outputs.is_empty() {
        return "not determined (no output was audited)".into();
    } else if outputs.iter().any(|output| output.symmetry_type == SymmetryType::Equivariant) {
        SymmetryType::Equivariant
    } else {
        SymmetryType::Invariant
    };
    let mut line = Inline::from(overall.to_string());
    if outputs.len() > 1 {
        for (index, output) in outputs.iter().enumerate() {
            line = line.then(if index == 0 { " (" } else { "; " }).then_code(&output.name);
            line = line.then(format!(": {}", output.symmetry_type));
        }
        line = line.then(")");
    }
    line
}

fn transforms(rows: &[TransformRow]) -> Table {
    Table {
        caption: "How each tensor is transformed",
        columns: ["role", "name", "layout", "shape", "type", "in words"].map(|c| (c, Align::Left)).into(),
        rows: rows
            .iter()
            .map(|row| {
                let layout = row.layout.as_deref().map_or_else(|| Inline::from("none"), layout);
                let shape = row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
                vec![
                    Inline::from(&row.role),
                    Inline::code(&row.name),
                    layout,
                    Inline::from(format!("[{shape}]")),
                    Inline::from(&row.dtype),
                    Inline::from(&row.description),
                ]
            })
            .collect(),
    }
}

/// The layout of a scalar has no words; it is shown as users write it.
fn layout(layout: &str) -> Inline {
    Inline::code(if layout.is_empty() { "\"\"" } else { layout })
}

fn end_to_end(report: &Report, blocks: &mut Document) {
    let plan = &report.plan;
    blocks.push(Block::Section("END-TO-END TESTS"));
    let rattled =
        if plan.rattled == 0 { String::new() } else { format!(" and {} rattled copies", plan.rattled) };
    blocks.push(Block::Field("Test samples", format!("{}{rattled}", plan.samples).into()));
    blocks.push(Block::Field("Transformations tested", plan.transformations.to_string().into()));
    blocks.push(Block::Field("Pairs (sample, transformation) evaluated", pairs(plan).into()));
    if !report.not_audited.is_empty() {
        let mut names = Inline::default();
        for (index, name) in report.not_audited.iter().enumerate() {
            names = if index == 0 { names } else { names.then(", ") }.then_code(name);
        }
        blocks.push(Block::Field("Outputs not audited (returned, but no layout declared)", names));
    }
    blocks.push(Block::Heading("Invariance/Equivariance Error".into()));
    let Some(worst) = report.worst_output() else {
        for label in ["Mean absolute", "Max absolute", "Mean relative", "Max relative", "RESULT"] {
            blocks.push(item(label, "not run (no output was audited)"));
        }
        return;
    };
    if let [only] = report.outputs.as_slice() {
        figures(only, blocks);
        details(only, report, blocks);
        return;
    }
    let count = report.outputs.len();
    blocks.push(item("Output", Inline::code(&worst.name).then(format!(" (worst of {count})"))));
    figures(worst, blocks);
    blocks.push(Block::Table(overview(&report.outputs)));
    for output in &report.outputs {
        let kind = match output.symmetry_type {
            SymmetryType::Invariant => "Invariance Error of ",
            SymmetryType::Equivariant => "Equivariance Error of ",
        };
        blocks.push(Block::Heading(Inline::from(kind).then_code(&output.name)));
        figures(output, blocks);
        details(output, report, blocks);
    }
}

fn pairs(plan: &ExecutedPlan) -> String {
    let of = |why: &str| format!("{} of {} planned ({why})", plan.pairs, plan.planned_pairs);
    match plan.stop {
        Stop::Early => of("stopped early"),
        _ if plan.pairs < plan.planned_pairs => of("cut short"),
        _ => plan.pairs.to_string(),
    }
}

fn overview(outputs: &[OutputResult]) -> Table {
    Table {
        caption: "All outputs",
        columns: vec![
            ("output", Align::Left),
            ("max absolute", Align::Right),
            ("max relative", Align::Right),
            ("violation", Align::Right),
            ("noise floor", Align::Right),
            ("level", Align::Left),
            ("class", Align::Left),
            ("verdict", Align::Left),
        ],
        rows: outputs
            .iter()
            .map(|output| {
                vec![
                    Inline::code(&output.name),
                    figure(output.absolute.max).into(),
                    figure(output.relative.max).into(),
                    figure(output.violation).into(),
                    figure(output.noise).into(),
                    // A law has no level: whether it was seen to differ says it all.
                    output
                        .distribution
                        .as_ref()
                        .map_or_else(|| output.level.to_string(), |_| "-".to_owned())
                        .into(),
                    output.classification.to_string().into(),
                    output.verdict.to_string().into(),
                ]
            })
            .collect(),
    }
}

fn figures(output: &OutputResult, blocks: &mut Document) {
    let what =
        if output.distribution.is_some() { " (shift of the mean over draws, chance included)" } else { "" };
    for (label, value) in [
        ("Mean absolute", output.absolute.mean),
        ("Max absolute", output.absolute.max),
        ("Mean relative", output.relative.mean),
        ("Max relative", output.relative.max),
    ] {
        blocks.push(item(label, format!("{}{what}", figure(value))));
    }
    blocks.push(item("RESULT", result(output)));
}

/// RESULT knows two words; class and verdict stand beside it so that neither word misleads.
fn result(output: &OutputResult) -> String {
    let passes = match output.verdict {
        Verdict::Pass => true,
        Verdict::Fail => false,
        // What could not be told, vacuous tests among it, did not pass.
        Verdict::NeedsAttention => {
            output.classification != Classification::Undetermined && output.level <= Level::Excellent
        }
    };
    let mut why = output.classification.to_string();
    if output.vacuity.iter().any(|row| row.vacuous.is_some()) {
        why.push_str(", vacuous");
    }
    match (output.verdict, output.tolerance) {
        (Verdict::NeedsAttention, _) => why.push_str(": NEEDS_ATTENTION"),
        (Verdict::Pass, Some(tolerance)) if output.level > Level::Excellent => {
            let _ = write!(why, ", within the tolerance {}", figure(tolerance));
        }
        _ => {}
    }
    format!("{} ({why})", if passes { "PASS" } else { "FAIL" })
}

fn details(output: &OutputResult, report: &Report, blocks: &mut Document) {
    if let Some(law) = &output.distribution {
        return law_details(output, law, blocks);
    }
    let classification = format!(
        "{}, level {}, verdict {}: {}",
        output.classification, output.level, output.verdict, output.reason
    );
    blocks.push(item("Class", classification));
    blocks.push(item("Layout", layout(&output.layout).then(format!(" ({})", output.symmetry_type))));
    let relative = &output.relative;
    let spread = format!(
        "median {}, 95 % quantile {}, standard deviation {}",
        figure(relative.median),
        figure(relative.quantile_95),
        figure(relative.standard_deviation)
    );
    blocks.push(item("Relative error", spread));
    if let Some(quantile) = output.row_quantile {
        let rows = format!("99.9 % quantile {}, max {}", figure(quantile), figure(relative.max));
        blocks.push(item("Relative error of single rows (nodes, pixels)", rows));
    }
    if let Some(pulled_back) = output.pulled_back {
        blocks.push(item("Max relative error pulled back by T'^-1", figure(pulled_back)));
    }
    blocks.push(item("Violation (what rounding does not explain)", figure(output.violation)));
    // The level is read off this one, and the noise floor compares with it: a scalar near zero does not disturb it.
    blocks.push(item("Max error at the output's scale", figure(output.scaled_max)));
    blocks.push(item("Noise floor (relative)", figure(output.noise)));
    blocks.push(item("Median norm of the output", figure(output.scale)));
    blocks.push(item("Double precision", float64(&output.float64)));
    if let Some(worst) = &output.worst {
        blocks.push(item("Worst case", worst_case(worst)));
    }
    if let Some(tolerance) = output.tolerance {
        blocks.push(item("Tolerance", figure(tolerance)));
    }
    let repeat = &output.repeatability;
    if [repeat.seeded, repeat.unseeded, repeat.drift] != [0.0; 3] {
        let differences = format!(
            "relative difference {} when called again, {} without resetting the generators, {} after other calls",
            figure(repeat.seeded),
            figure(repeat.unseeded),
            figure(repeat.drift)
        );
        blocks.push(item("Not repeatable", differences));
    }
    if let Some(control) = &output.interpolation {
        blocks.push(item("Interpolation control", interpolation(control)));
    }
    blocks.extend(output.vacuity.iter().filter_map(vacuous));
    // The joint action is the declared group; a single factor stands in where it alone was tested.
    if let Some(row) = output.factors.iter().find(|row| row.factor == "joint").or(output.factors.first()) {
        blocks.push(item("Share of the group", share(row, report)));
    }
    if !output.factors.is_empty() {
        blocks.push(Block::Table(factors(&output.factors)));
    }
    if !output.planned.is_empty() {
        blocks.push(Block::Table(planned(&output.planned)));
    }
}

/// An output that was judged by its law over draws.
fn law_details(output: &OutputResult, law: &Distribution, blocks: &mut Document) {
    let classification = format!("{}, verdict {}: {}", output.classification, output.verdict, output.reason);
    blocks.push(item("Class", classification));
    blocks.push(item("Layout", layout(&output.layout).then(format!(" ({})", output.symmetry_type))));
    let tests = format!(
        "energy distance, {} tests of {} draws a side, {} error probability together",
        law.tests.len(),
        law.draws,
        percent(law.significance)
    );
    blocks.push(item("Comparison of laws", tests));
    blocks.push(item("Violation (what chance does not explain)", figure(output.violation)));
    blocks.push(item("Spread of the output over draws", figure(law.spread)));
    let power = if law.detectable.is_finite() {
        format!(
            "{} of the spread, {} of the output; change of the spread {} of itself",
            figure(law.detectable),
            figure(law.detectable_relative),
            figure(law.detectable_spread)
        )
    } else {
        "none of those that were tried".to_owned()
    };
    blocks.push(item("Smallest shift that would be found (80 %)", power));
    blocks.push(item("Noise floor (relative)", figure(output.noise)));
    blocks.push(item("Median norm of the output", figure(output.scale)));
    if let Some(second) = &law.second_look {
        let text = format!(
            "{} on sample {}, {}: p {}, adjusted {}, shift of the mean {}, difference {}",
            second.statistic,
            second.sample,
            second.element,
            figure(second.p_value),
            figure(second.adjusted_p_value),
            figure(second.shift),
            figure(second.difference)
        );
        blocks.push(item("Second look, on fresh draws", text));
    }
    if let Some(tolerance) = output.tolerance {
        blocks.push(item("Tolerance", figure(tolerance)));
    }
    blocks.extend(output.vacuity.iter().filter_map(vacuous));
    if !law.tests.is_empty() {
        blocks.push(Block::Table(law_tests(&law.tests)));
    }
}

fn law_tests(tests: &[DistributionTest]) -> Table {
    Table {
        caption: "Tests of the law (shifts and differences in units of the spread)",
        columns: vec![
            ("sample", Align::Right),
            ("factor", Align::Left),
            ("compared", Align::Left),
            ("p", Align::Right),
            ("adjusted p", Align::Right),
            ("shift of the mean", Align::Right),
            ("difference", Align::Right),
            ("element", Align::Left),
        ],
        rows: tests
            .iter()
            .enumerate()
            .map(|(k, test)| {
                // One element follows another in two tests: it is long, and said once.
                let said =
                    k > 0 && (tests[k - 1].sample, &tests[k - 1].element) == (test.sample, &test.element);
                vec![
                    test.sample.to_string().into(),
                    Inline::code(&test.factor),
                    test.statistic.to_string().into(),
                    figure(test.p_value).into(),
                    figure(test.adjusted_p_value).into(),
                    figure(test.shift).into(),
                    figure(test.difference).into(),
                    Inline::from(if said { "" } else { &test.element }),
                ]
            })
            .collect(),
    }
}

fn float64(comparison: &Float64) -> Inline {
    match comparison {
        Float64::NotRequested => "not requested".into(),
        Float64::Unavailable { reason } => format!("not available: {reason}").into(),
        Float64::Void { effective_precision, input } => {
            Inline::from("void: the model drops precision inside, changes of input ")
                .then_code(input)
                .then(format!(" below {} relative are lost", figure(*effective_precision)))
        }
        Float64::Available { max_relative, mean_relative, noise, constants } => format!(
            "max relative {}, mean relative {}, noise floor {}, rounded constants {}",
            figure(*max_relative),
            figure(*mean_relative),
            figure(*noise),
            figure(*constants)
        )
        .into(),
    }
}

fn interpolation(control: &InterpolationControl) -> String {
    let reach = control
        .receptive_field
        .map_or(String::new(), |radius| format!("; receptive field {radius:.0} pixels to each side"));
    match (control.model, control.control) {
        (Some(model), Some(reference)) => format!(
            "on smooth inputs the model's error is {}, that of the reference (blur, then positive part) {}, over {} \
             pairs{reach}{}",
            figure(model),
            figure(reference),
            control.pairs,
            control.scaling.as_ref().map_or(String::new(), scaling)
        ),
        _ => format!("cannot judge: {}{reach}", control.note.as_deref().unwrap_or("nothing was measured")),
    }
}

fn scaling(scaling: &InterpolationScaling) -> String {
    let mut text = String::new();
    if let Some(model) = scaling.model {
        let reference =
            scaling.control.map_or(String::new(), |ratio| format!(" (the reference's by {ratio:.2})"));
        let _ =
            write!(text, "; on waves twice as long the model's changes by a factor of {model:.2}{reference}");
    }
    if let Some(order) = scaling.order {
        let _ = write!(text, "; with bicubic in place of bilinear interpolation by a factor of {order:.2}");
    }
    text
}

fn worst_case(worst: &WorstCase) -> Inline {
    let WorstCase { sample, rattled_from, index, element, factor, kind, block } = worst;
    let copied = rattled_from.map_or(String::new(), |of| format!(" (a rattled copy of {of})"));
    Inline::from(format!("sample {sample}{copied}, element {index} ({kind}, "))
        .then_code(factor)
        .then(format!("): {element}; block: {block}"))
}

fn vacuous(row: &VacuityRow) -> Option<Block> {
    let why = row.vacuous.as_ref()?;
    let mut text = format!("{why} (sensitivity {}", figure(row.sensitivity));
    if let Some(discrimination) = row.discrimination {
        let _ = write!(text, ", discrimination {}", figure(discrimination));
    }
    text.push(')');
    Some(Block::Item(Inline::from("Vacuous under ").then_code(&row.factor), text.into()))
}

fn share(row: &FactorRow, report: &Report) -> Inline {
    let group = if row.factor == "joint" { &report.group } else { &row.factor };
    let counted = format!("{} of {} pairs exceeded", row.exceeding, row.pairs);
    let confidence = percent(report.plan.confidence);
    let how = match row.bound {
        Bound::Interpolated => {
            return "no bound: transformations that interpolate the grid are judged by their control".into();
        }
        Bound::None => return "no bound: no transformation was drawn at random".into(),
        Bound::Exact => {
            return Inline::from(format!("{} of ", exactly(row.share_bound)))
                .then_code(group)
                .then(format!(" violates, averaged over the samples: every element was tried, {counted}"));
        }
        Bound::ClopperPearson => format!("{confidence} confidence (Clopper-Pearson)"),
        Bound::ConfidenceSequence => format!("{confidence} confidence (confidence sequence)"),
    };
    // A share of a group that is not compact refers to the distribution that its elements were drawn from.
    let sampling = if compact(group) { "" } else { " as sampled" };
    Inline::from(format!("at most {} of ", percent_up(row.share_bound)))
        .then_code(group)
        .then(format!("{sampling} violates, at {how}, {counted}"))
}

/// A share as a percentage; what is not 0 does not print as 0.
fn exactly(share: f64) -> String {
    if share == 0.0 { "0 %".to_owned() } else { percent_up(share) }
}

/// Whether every factor of a canonical group string is compact; a group of the user's own functions may be anything.
fn compact(group: &str) -> bool {
    Group::parse(group).is_ok_and(|group| group.factors().iter().all(Factor::is_compact))
}

fn factors(rows: &[FactorRow]) -> Table {
    Table {
        caption: "By factor of the group",
        columns: vec![
            ("factor", Align::Left),
            ("pairs", Align::Right),
            ("mean relative", Align::Right),
            ("max relative", Align::Right),
            ("max relative f64", Align::Right),
            ("exceeding", Align::Right),
            ("share at most", Align::Right),
        ],
        rows: rows
            .iter()
            .map(|row| {
                vec![
                    Inline::code(&row.factor),
                    row.pairs.to_string().into(),
                    figure(row.mean_relative).into(),
                    figure(row.max_relative).into(),
                    optional(row.max_relative_f64),
                    row.exceeding.to_string().into(),
                    match row.bound {
                        Bound::Exact => format!("= {}", exactly(row.share_bound)),
                        Bound::Interpolated => "-".to_owned(),
                        _ => percent_up(row.share_bound),
                    }
                    .into(),
                ]
            })
            .collect(),
    }
}

fn planned(rows: &[PlannedRow]) -> Table {
    Table {
        caption: "Planned elements (in no mean, quantile or bound)",
        columns: vec![
            ("kind", Align::Left),
            ("pairs", Align::Right),
            ("max relative", Align::Right),
            ("max relative f64", Align::Right),
        ],
        rows: rows
            .iter()
            .map(|row| {
                vec![
                    Inline::from(&row.kind),
                    row.pairs.to_string().into(),
                    figure(row.max_relative).into(),
                    optional(row.max_relative_f64),
                ]
            })
            .collect(),
    }
}

fn not_run(reason: &str) -> String {
    if reason.is_empty() { "not run".to_owned() } else { format!("not run ({reason})") }
}

fn executed_plan(report: &Report, blocks: &mut Document) {
    let ExecutedPlan { seed, calls, calls_by_purpose, translation_scale, confidence, .. } = &report.plan;
    blocks.push(Block::Section("EXECUTED PLAN"));
    blocks.push(item("Seed", seed.to_string()));
    blocks.push(item("Pairs", format!("{} of {} planned", report.plan.pairs, report.plan.planned_pairs)));
    let Shard { index, count } = report.plan.shard;
    if count > 1 {
        blocks.push(item("Shard", format!("{index} of {count}, counted from 0")));
    }
    if report.plan.batch > 1 {
        blocks.push(item("Pairs per call", format!("up to {}, along `batch`", report.plan.batch)));
    }
    let purposes: Vec<String> =
        calls_by_purpose.iter().map(|(purpose, count)| format!("{purpose} {count}")).collect();
    let purposes = if purposes.is_empty() { String::new() } else { format!(" ({})", purposes.join(", ")) };
    blocks.push(item("Model calls", format!("{calls}{purposes}")));
    if let Some(randomness) = &report.plan.randomness {
        blocks.push(item("Randomness", randomness.clone()));
    }
    blocks.push(item("Translation scale", figure(*translation_scale)));
    blocks.push(item("Confidence of the bounds", percent(*confidence)));
    let levels = format!(
        "perfect below {}, excellent below {}, approximate below {}, then broken",
        figure(report.levels.perfect),
        figure(report.levels.excellent),
        figure(report.levels.approximate)
    );
    blocks.push(item("Levels (relative error)", levels));
}

fn environment(report: &Report, blocks: &mut Document) {
    blocks.push(Block::Section("ENVIRONMENT"));
    let version = format!("{} (report format {})", report.equicheck_version, report.format_version);
    blocks.push(item("equicheck", version));
    let others = report.environment.iter().filter(|(name, _)| *name != "equicheck");
    blocks.extend(others.map(|(name, value)| Block::Item(name.into(), value.into())));
}

fn dimensions(quality: &Quality) -> Table {
    let mut rows = Vec::new();
    for Dimension { name, weight, score, raise } in &quality.dimensions {
        // A dimension is named once, beside the first of what would raise it.
        let mut cells: [Inline; 3] =
            [name.to_string().into(), format!("{weight:.2}").into(), format!("{score:.1}").into()];
        // Numbers tell where one ends and the next begins, as lines are folded.
        let numbered = raise.iter().zip(1..).map(|(advice, number)| format!("{number}. {advice}"));
        let nothing = raise.is_empty().then(|| "-".to_owned());
        for advice in numbered.chain(nothing) {
            rows.push(std::mem::take(&mut cells).into_iter().chain([advice.into()]).collect());
        }
    }
    Table {
        caption: "How good the audit was, from 1 to 5, whatever the model is",
        columns: vec![
            ("dimension", Align::Left),
            ("weight", Align::Right),
            ("score", Align::Right),
            ("what would raise it, most gain first", Align::Left),
        ],
        rows,
    }
}

fn timing_items(timings: &Timings) -> [Block; 2] {
    let Timings { total, model } = *timings;
    let share = if total > 0.0 {
        format!(" ({})", percent((model / total * 100.0).round() / 100.0))
    } else {
        String::new()
    };
    [item("Total", format!("{total:.2} s")), item("Inside the model's calls", format!("{model:.2} s{share}"))]
}

fn issue(number: usize, finding: &Finding) -> Block {
    let mut place = Inline::code(&finding.location);
    if let Some(class) = &finding.class {
        place = place.then(format!(" ({})", class.rsplit('.').next().unwrap_or(class)));
    }
    if let Some(source) = &finding.source {
        place = place.then(" at ").then_code(source);
    }
    let sure = format!("{}, confidence {}", finding.severity, finding.confidence);
    let mut particulars = vec![("Location", place), ("Severity", sure.into())];
    particulars.extend(finding.evidence.iter().map(|line| ("Evidence", Inline::from(line))));
    particulars.extend(finding.effects.iter().map(|line| ("Effect", Inline::from(line))));
    particulars.push(("Recommended fix", (&finding.fix).into()));
    if !finding.verify.is_empty() {
        particulars.push(("Verify", (&finding.verify).into()));
    }
    let message = Inline::from(&finding.message).then(" [").then_code(finding.mode.id()).then("]");
    Block::Numbered(number, message, particulars)
}

/// Three significant digits, e.g. `3.21e-07`; an exact zero is `0`.
fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let text = format!("{value:.2e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn optional(value: Option<f64>) -> Inline {
    value.map_or_else(|| "-".to_owned(), figure).into()
}

/// A share as a percentage, as precisely as it was given, up to four digits.
fn percent(share: f64) -> String {
    format!("{} %", (share * 1e4).round() / 1e2)
}

/// An upper bound as a percentage of two significant digits, rounded up: the printed bound holds too.
fn percent_up(bound: f64) -> String {
    let percentage = bound * 100.0;
    if percentage.is_nan() {
        return "nan %".to_owned();
    }
    if !(percentage > 0.0 && percentage < 100.0) {
        return format!("{percentage} %");
    }
    // Decimals that leave two significant digits; the slack keeps 1.2 from becoming 1.3 by its own rounding.
    let decimals = (1 - percentage.log10().floor() as i32).clamp(0, 12);
    let unit = 10f64.powi(decimals);
    let rounded = (percentage * unit * (1.0 - 4.0 * f64::EPSILON)).ceil() / unit;
    format!("{rounded:.*} %", decimals as usize)
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Makes a string harmless on one line: control characters, line separators and characters that reorder or hide text
/// become escapes such as `\n` or `\u{202e}`.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hides = matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}');
        if c.is_control() || hides {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
