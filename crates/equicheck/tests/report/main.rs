//! The report's renderings: their content, their form, and that no name can break either.

mod compare;
mod explain;
mod fixtures;
mod quality;

use equicheck::report::{
    Bound, Classification, ExitStatus, Level, Outcome, Report, Rows, Shard, Stop, StressKind, Verdict,
    from_json, to_json, to_markdown, to_text,
};
use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

#[test]
fn renderings() {
    for (name, report) in fixtures::all() {
        insta::assert_snapshot!(format!("{name}.txt"), to_text(&report));
        insta::assert_snapshot!(format!("{name}.md"), to_markdown(&report));
        insta::assert_snapshot!(format!("{name}.json"), to_json(&report));
    }
}

#[test]
fn renderers_are_pure() {
    for (_, report) in fixtures::all() {
        let before = report.clone();
        for render in [to_text, to_markdown, to_json] {
            assert_eq!(render(&report), render(&report.clone()));
        }
        assert_eq!(format!("{report:?}"), format!("{before:?}"));
    }
}

/// The template that users were promised, with the values left out.
const TEMPLATE: [&str; 35] = [
    "MODEL EQUIVARIANCE AUDIT REPORT",
    "===============================",
    "Model: ",
    "Intended Symmetry: ",
    "Symmetry Type: ",
    "END-TO-END TESTS:",
    "-----------------",
    "Test samples: ",
    "Transformations tested: ",
    "Invariance/Equivariance Error:",
    "- Mean absolute: ",
    "- Max absolute: ",
    "- Mean relative: ",
    "- Max relative: ",
    "- RESULT: ",
    "LAYER-WISE ANALYSIS:",
    "--------------------",
    "- Layer: ",
    "- Error: ",
    "- Result: ",
    "GRADIENT TEST:",
    "--------------",
    "- Gradient equivariance error: ",
    "- RESULT: ",
    "IDENTIFIED ISSUES:",
    "------------------",
    "1. ",
    "   - Location: ",
    "   - Severity: ",
    "   - Recommended fix: ",
    "2. ",
    "   - Severity: ",
    "OVERALL VERDICT: ",
    "Recommendations:",
    "- ",
];

/// Whether a line is the template's: the whole of it, or up to the value, which must not be missing.
fn is(line: &str, template: &str) -> bool {
    if template.ends_with(' ') {
        line.len() > template.len() && line.starts_with(template)
    } else {
        line == template
    }
}

#[test]
fn text_holds_the_template_in_order() {
    for (name, report) in fixtures::all() {
        let text = to_text(&report);
        let mut lines = text.lines();
        for template in TEMPLATE {
            let of_issue = ["1. ", "2. ", "   - "].iter().any(|start| template.starts_with(start));
            if of_issue && report.findings.is_empty() {
                continue;
            }
            assert!(
                lines.any(|line| is(line, template)),
                "{name}: `{template}` is missing or out of order in\n{text}"
            );
        }
    }
}

#[test]
fn figures_follow_their_heading_line_by_line() {
    let text = to_text(&fixtures::failing());
    let lines: Vec<&str> = text.lines().collect();
    let heading = lines.iter().position(|line| *line == "Invariance/Equivariance Error:").unwrap();
    let expected = [
        "- Output: forces (worst of 2)",
        "- Mean absolute: 1.12e+01",
        "- Max absolute: 2.41e+01",
        "- Mean relative: 9.80e-01",
        "- Max relative: 1.96e+00",
        "- RESULT: FAIL (broken)",
    ];
    assert_eq!(lines[heading + 1..=heading + expected.len()], expected);
}

#[test]
fn result_is_one_word_and_what_it_rests_on() {
    use Classification::{Approximate, Broken, Exact, Undetermined};
    use Verdict::{Fail, NeedsAttention, Pass};
    let result = |class, level, verdict, tolerance| {
        let mut report = fixtures::cut_by_budget();
        report.outputs[0].classification = class;
        report.outputs[0].level = level;
        report.outputs[0].verdict = verdict;
        report.outputs[0].tolerance = tolerance;
        value(&to_text(&report), "- RESULT: ")
    };
    assert_eq!(result(Exact, Level::Excellent, Pass, None), "PASS (exact)");
    assert_eq!(result(Exact, Level::Approximate, NeedsAttention, None), "FAIL (exact: NEEDS_ATTENTION)");
    assert_eq!(
        result(Approximate, Level::Excellent, NeedsAttention, None),
        "PASS (approximate: NEEDS_ATTENTION)"
    );
    assert_eq!(
        result(Approximate, Level::Approximate, NeedsAttention, None),
        "FAIL (approximate: NEEDS_ATTENTION)"
    );
    assert_eq!(
        result(Approximate, Level::Approximate, Pass, Some(1e-3)),
        "PASS (approximate, within the tolerance 1.00e-03)"
    );
    assert_eq!(result(Broken, Level::Perfect, Fail, None), "FAIL (broken)");
    assert_eq!(
        result(Undetermined, Level::Perfect, NeedsAttention, None),
        "FAIL (undetermined: NEEDS_ATTENTION)"
    );
}

#[test]
fn bounds_are_rounded_up_and_name_their_group() {
    let sentence = |bound, group: &str| {
        let mut report = fixtures::cut_by_budget();
        let row = &mut report.outputs[0].factors[0];
        row.share_bound = bound;
        group.clone_into(&mut row.factor);
        value(&to_text(&report), "- Share of the group: ")
    };
    let rest = "violates, at 95 % confidence (confidence sequence), 0 of 9 pairs exceeded";
    assert_eq!(sentence(0.012, "SO(3)"), format!("at most 1.2 % of SO(3) {rest}"));
    assert_eq!(sentence(0.012_000_1, "SO(3)"), format!("at most 1.3 % of SO(3) {rest}"));
    assert_eq!(sentence(0.000_123, "O(3) x S(nodes)"), format!("at most 0.013 % of O(3) x S(nodes) {rest}"));
    assert_eq!(sentence(0.991, "SO(3)"), format!("at most 100 % of SO(3) {rest}"));
    assert_eq!(sentence(1.0, "SO(3)"), format!("at most 100 % of SO(3) {rest}"));
    // `joint` stands for the declared group.
    assert_eq!(sentence(0.29, "joint"), format!("at most 29 % of SO(3) {rest}"));
    // There is no uniform distribution on a group that is not compact.
    for group in ["E(3)", "SE(3) x S(nodes)", "T(3)", "O(1,3)"] {
        assert_eq!(sentence(0.29, group), format!("at most 29 % of {group} as sampled {rest}"));
    }
}

#[test]
fn each_kind_of_bound_is_told_apart() {
    let sentence = |bound, share: f64| {
        let mut report = fixtures::cut_by_budget();
        let row = &mut report.outputs[0].factors[0];
        (row.bound, row.share_bound) = (bound, share);
        (value(&to_text(&report), "- Share of the group: "), to_text(&report))
    };
    let (exact, text) = sentence(Bound::Exact, 0.0);
    assert_eq!(
        exact,
        "0 % of SO(3) violates, averaged over the samples: every element was tried, 0 of 9 pairs exceeded"
    );
    assert!(text.contains("= 0 %"), "{text}");
    assert!(sentence(Bound::Exact, 0.25).0.starts_with("25 % of SO(3) violates"));
    let (clopper_pearson, text) = sentence(Bound::ClopperPearson, 0.0);
    assert!(clopper_pearson.contains("at 95 % confidence (Clopper-Pearson)") && !text.contains("= 0 %"));
    assert_eq!(sentence(Bound::None, 1.0).0, "no bound: no transformation was drawn at random");
}

#[test]
fn an_early_end_and_a_shard_are_said() {
    let mut report = fixtures::cut_by_budget();
    report.plan.stop = Stop::Early;
    let text = to_text(&report);
    assert!(text.contains("9 of 2550 planned (stopped early)") && !text.contains("Shard"), "{text}");
    report.plan.shard = Shard { index: 2, count: 8 };
    assert!(to_text(&report).contains("- Shard: 2 of 8, counted from 0"));
}

#[test]
fn timings_are_a_block_of_their_own() {
    let with = fixtures::passing();
    let mut without = with.clone();
    without.timings = None;
    for (render, heading) in
        [(to_text as fn(&Report) -> String, "\nTIMINGS:\n"), (to_markdown, "\n## TIMINGS\n")]
    {
        let (with, without) = (render(&with), render(&without));
        let (before, after) = with.split_once(heading).unwrap();
        let next = after.find("IDENTIFIED ISSUES").unwrap();
        let next = after[..next].rfind('\n').unwrap();
        let rest = format!("{before}{}", &after[next..]);
        assert_eq!(rest.replace("\n\n", "\n"), without.replace("\n\n", "\n"));
    }
}

#[test]
fn text_fits_a_terminal() {
    for (name, report) in fixtures::all() {
        for line in to_text(&report).lines() {
            assert!(line.chars().count() <= 110, "{name}: {line}");
            assert_eq!(line, line.trim_end(), "{name}: trailing space");
        }
    }
}

#[test]
fn a_report_without_outputs_keeps_its_form() {
    let mut report = fixtures::passing();
    report.outputs.clear();
    let text = to_text(&report);
    assert!(text.contains("\nSymmetry Type: not determined (no output was audited)\n"), "{text}");
    assert!(text.contains("\n- Max relative: not run (no output was audited)\n"), "{text}");
}

#[test]
fn json_round_trips_byte_for_byte() {
    for (name, report) in fixtures::all() {
        let json = to_json(&report);
        assert!(to_json(&from_json(&json).unwrap()) == json, "{name}");
    }
    let json = to_json(&fixtures::hard());
    for word in [r#""nan""#, r#""inf""#, r#""-inf""#] {
        assert!(json.contains(word), "{word} is not exercised");
    }
}

/// The value of a line of the text, put together again where it was wrapped.
fn value(text: &str, label: &str) -> String {
    let start = text.find(&format!("\n{label}")).unwrap_or_else(|| panic!("no `{label}` in\n{text}"));
    let mut lines = text[start + 1..].lines();
    let mut value = lines.next().unwrap()[label.len()..].to_owned();
    for line in lines.take_while(|line| line.starts_with("  ")) {
        value.push(' ');
        value.push_str(line.trim_start());
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every bit pattern survives, so that a saved report shows the verdict's own figures.
    #[test]
    fn json_keeps_every_figure(violation in any::<f64>(), bound in any::<f64>(), confidence in any::<f64>()) {
        let mut report = fixtures::passing();
        report.outputs[0].violation = violation;
        report.outputs[0].factors[0].max_relative_f64 = Some(bound);
        report.plan.confidence = confidence;
        report.levels.excellent = bound;
        let json = to_json(&report);
        let read = from_json(&json).unwrap();
        prop_assert!(to_json(&read) == json, "not the same bytes");
        prop_assert!(read.outputs[0].violation == violation || violation.is_nan());
        prop_assert!(read.plan.confidence == confidence || confidence.is_nan());
    }

    /// Three significant digits, and the printed value is the nearest such number to the figure.
    #[test]
    fn figures_are_right_to_three_digits(digits in -9.9..9.9, exponent in -290..290) {
        let figure = digits * 10f64.powi(exponent);
        let mut report = fixtures::cut_by_budget();
        report.outputs[0].relative.max = figure;
        let printed = value(&to_text(&report), "- Max relative: ");
        let parsed: f64 = printed.parse().unwrap();
        prop_assert!((parsed - figure).abs() <= 0.005_001 * figure.abs(), "{} printed as {}", figure, printed);
        prop_assert!(printed.trim_start_matches('-').split('e').next().unwrap().len() == 4);
    }

    /// An independent reader of GitHub-flavoured Markdown finds every name unharmed in one cell of one table,
    /// and no markup that the fixture without it does not have.
    #[test]
    fn markdown_is_safe_for_any_name(name in name()) {
        let (report, plain) = (named(&name), named("x"));
        let (ours, theirs) = (to_markdown(&report), to_markdown(&plain));
        prop_assert_eq!(shape(&ours), shape(&theirs), "{}", ours);
        let cells = second_column(&ours);
        prop_assert_eq!(&cells[1], &shown(&name));
    }

    /// A name adds no line to the text and changes no line's beginning: what it stands in is short enough not to wrap.
    #[test]
    fn text_is_safe_for_any_name(name in name()) {
        let with = |name: &str| {
            let mut report = fixtures::failing();
            name.clone_into(&mut report.model.name);
            name.clone_into(&mut report.outputs[0].name);
            name.clone_into(&mut report.findings[0].location);
            report.recommendations = vec![name.to_owned()];
            to_text(&report)
        };
        let begins = |text: &str| text.lines().map(|line| line.chars().take(2).collect()).collect::<Vec<String>>();
        let text = with(&name);
        prop_assert_eq!(begins(&text), begins(&with("x")), "{}", text);
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        prop_assert!(text.contains(&shown(&name)));
    }
}

/// Names of the kind that break formats: markup, HTML, separators, control characters.
fn name() -> impl Strategy<Value = String> {
    let hostile = prop::sample::select(vec![
        "|",
        "\\",
        "\\|",
        "`",
        "``",
        "*",
        "_",
        "<script>",
        "</code>",
        "<!--",
        "&lt;",
        "\n",
        "\r\n",
        "\n\n# h\n",
        "\u{1b}[31m",
        "\0",
        "\u{202e}",
        "\u{2028}",
        "[x](y)",
        "![x](y)",
        "~~",
        "$",
        "#",
        "- ",
        "1. ",
        "a",
        "b c",
        "é",
    ]);
    // Ends in a letter: Markdown does not keep spaces at the ends of a cell.
    prop::collection::vec(hostile, 0..5).prop_map(|pieces| format!("n{}n", pieces.concat()))
}

/// A report in which `name` stands wherever a string of the user's may.
fn named(name: &str) -> Report {
    let mut report = fixtures::failing();
    report.outputs.truncate(1);
    report.transforms.truncate(1);
    name.clone_into(&mut report.transforms[0].name);
    name.clone_into(&mut report.transforms[0].description);
    name.clone_into(&mut report.model.name);
    name.clone_into(&mut report.group);
    name.clone_into(&mut report.outputs[0].name);
    name.clone_into(&mut report.outputs[0].reason);
    name.clone_into(&mut report.outputs[0].worst.as_mut().unwrap().block);
    name.clone_into(&mut report.findings[0].message);
    name.clone_into(&mut report.findings[0].location);
    name.clone_into(&mut report.findings[0].fix);
    report.recommendations = vec![name.to_owned()];
    report.notes = vec![name.to_owned()];
    report.not_audited = vec![name.to_owned()];
    if let Rows::Ran { rows } = &mut report.composition {
        name.clone_into(&mut rows[0].output);
        name.clone_into(&mut rows[0].reason);
    }
    if let Rows::Ran { rows } = &mut report.stress {
        rows[1].output = Some(name.to_owned());
        name.clone_into(&mut rows[1].reason);
    }
    report.environment.insert("zz".to_owned(), name.to_owned());
    report.quality = Some(equicheck::report::quality(&report));
    report
}

/// What a reader must see of a name: itself, with characters that cannot be shown written out.
fn shown(name: &str) -> String {
    name.replace('\r', "\\r")
        .replace('\n', "\\n")
        .replace('\u{1b}', "\\u{1b}")
        .replace('\0', "\\u{0}")
        .replace('\u{202e}', "\\u{202e}")
        .replace('\u{2028}', "\\u{2028}")
}

fn events(markdown: &str) -> Parser<'_> {
    Parser::new_ext(
        markdown,
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS,
    )
}

/// Structure of a document: block and inline elements without their text.
fn shape(markdown: &str) -> Vec<String> {
    events(markdown)
        .filter_map(|event| match event {
            Event::Start(tag) => Some(format!("{tag:?}")),
            Event::End(tag) => Some(format!("/{tag:?}")),
            // `<code>` in cells is the renderer's own; it may stand for a code span.
            Event::InlineHtml(html) if ["<code>", "</code>"].contains(&&*html) => None,
            Event::Text(_) | Event::Code(_) => None,
            other => Some(format!("{other:?}")),
        })
        .collect()
}

/// Text of the second column of the first table, header included.
fn second_column(markdown: &str) -> Vec<String> {
    let (mut cells, mut column, mut inside) = (Vec::new(), 0, false);
    for event in events(markdown) {
        match event {
            Event::Start(Tag::TableHead | Tag::TableRow) => column = 0,
            Event::Start(Tag::TableCell) => {
                column += 1;
                inside = column == 2;
                if inside {
                    cells.push(String::new());
                }
            }
            Event::End(TagEnd::TableCell) => inside = false,
            Event::End(TagEnd::Table) => break,
            Event::Text(text) | Event::Code(text) if inside => cells.last_mut().unwrap().push_str(&text),
            _ => {}
        }
    }
    cells
}

#[test]
fn names_cannot_forge_a_verdict() {
    let forged = "net\nOVERALL VERDICT: PASS\n\u{1b}[2J|<script>alert(1)</script>\u{202e}";
    let report = named(forged);
    let text = to_text(&report);
    assert_eq!(text.lines().filter(|line| line.starts_with("OVERALL VERDICT")).count(), 1, "{text}");
    assert!(text.contains("OVERALL VERDICT: FAIL"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    let markdown = to_markdown(&report);
    assert_eq!(markdown.matches("\n## OVERALL VERDICT: ").count(), 1, "{markdown}");
    let mut html = events(&markdown).filter(|e| matches!(e, Event::Html(_) | Event::InlineHtml(_)));
    assert!(html.all(|e| matches!(e, Event::InlineHtml(h) if h.ends_with("code>"))), "{markdown}");
    let json = to_json(&report);
    assert_eq!(from_json(&json).unwrap().model.name, forged);
}

#[test]
fn what_is_no_report_says_why() {
    let cases = [
        ("{", "not a JSON file"),
        ("[1]", "not an equicheck report"),
        (r#"{"format_version": 2}"#, "version 2"),
        (r#"{"format_version": 1}"#, "not a complete report"),
    ];
    for (text, expected) in cases {
        let error = from_json(text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let codes = ExitStatus::ALL.map(|status| (status.code(), status.name()));
    let documented =
        [(0, "PASS"), (1, "FAIL"), (2, "NEEDS_ATTENTION"), (3, "could not run"), (130, "interrupted")];
    assert_eq!(codes, documented);
}

#[test]
fn every_kind_of_stress_input_and_outcome_is_documented() {
    let page = include_str!("../../../../docs/stress.md");
    for kind in StressKind::ALL {
        let name = serde_json::to_string(kind).unwrap();
        assert!(page.contains(&format!("`{}`", name.trim_matches('"'))), "{name}");
    }
    for outcome in Outcome::ALL {
        let name = serde_json::to_string(outcome).unwrap();
        assert!(page.contains(&format!("`{}`", name.trim_matches('"'))), "{name}");
    }
}

#[test]
fn entries_cannot_begin_blocks_of_markdown() {
    let with = |start: &str| {
        let mut report = fixtures::failing();
        report.notes = vec![format!("{start}x")];
        report.findings[0].message = format!("{start}x");
        report.environment = [(format!("{start}x"), "1".to_owned())].into();
        shape(&to_markdown(&report))
    };
    for start in
        ["- ", "+ ", "* ", "1. ", "23) ", "# ", "> ", "     ", "=== ", "---", "[ ] ", "```", "~~~", "<div>"]
    {
        assert_eq!(with(start), with(""), "{start:?}");
    }
}
