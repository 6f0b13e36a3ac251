//! Comparisons of two reports: what counts as a regression, what does not, and what cannot be compared.

use equicheck::audit::MARGIN;
use equicheck::report::{
    Classification, Comparison, Finding, Float64, LayerRow, LayerStage, LayerVerdict, Mode, Outcome, Report,
    Rows, Severity, Shard, Trend, Verdict, compare, comparison_to_json, comparison_to_markdown,
    comparison_to_text,
};

use super::fixtures::{failing, inside::inside, passing, random};

/// What to change in a report, and what is said of it.
type Case<'a> = (&'a dyn Fn(&mut Report), &'a str);

/// Of two audits that can be compared.
fn compared(before: &Report, after: &Report) -> Comparison {
    compare(before, after).unwrap()
}

fn change(report: &Report, how: impl Fn(&mut Report)) -> Report {
    let mut changed = report.clone();
    how(&mut changed);
    changed
}

fn row<'a>(report: &'a mut Report, location: &str) -> &'a mut LayerRow {
    let LayerStage::Ran(layers) = &mut report.layers else { panic!("no layers") };
    layers.rows.iter_mut().find(|row| row.location == location).unwrap()
}

/// The report on the model after its activation was mended, and nothing else.
fn mended() -> Report {
    let mut report = inside();
    report.verdict = Verdict::NeedsAttention;
    let exact = passing().outputs;
    report.outputs[1] = exact[1].clone();
    let act = row(&mut report, "act");
    (act.own_error, act.propagated_error, act.verdict) = (Some(2e-16), Some(3e-16), LayerVerdict::Ok);
    "net.Gate".clone_into(&mut act.class);
    report.findings.remove(0);
    report.findings.push(Finding {
        location: "input `x`".to_owned(),
        message: "the model writes to its input".to_owned(),
        ..Finding::of(Mode::InputMutation)
    });
    report
}

#[test]
fn a_report_has_not_changed_against_itself() {
    for (name, report) in super::fixtures::all() {
        let comparison = compared(&report, &report);
        assert!(!comparison.regressed, "{name}: {:?}", comparison.regressions);
        assert!(comparison.outputs.iter().all(|row| row.trend == Trend::Same), "{name}");
        assert!(comparison.layers.rows.iter().all(|row| row.trend == Trend::Same), "{name}");
        assert!(comparison.gradients.rows.iter().all(|row| row.trend == Trend::Same), "{name}");
        assert_eq!(comparison.findings.stayed, report.findings, "{name}");
        assert!(comparison.notes.iter().all(|note| !note.contains("did not try the same")), "{name}");
    }
}

#[test]
fn renderings() {
    let comparison = compared(&inside(), &mended());
    assert!(!comparison.regressed, "{:?}", comparison.regressions);
    insta::assert_snapshot!("mended.txt", comparison_to_text(&comparison));
    insta::assert_snapshot!("mended.md", comparison_to_markdown(&comparison));
    let back = compared(&mended(), &inside());
    assert!(back.regressed);
    insta::assert_snapshot!("spoilt.txt", comparison_to_text(&back));
    let json = comparison_to_json(&comparison);
    assert_eq!(serde_json::from_str::<Comparison>(&json).unwrap(), comparison);
    assert!(json.contains("\"regressed\": false"), "{json}");
}

#[test]
fn a_worse_verdict_of_an_output_is_a_regression_and_a_better_one_is_not() {
    let comparison = compared(&passing(), &failing());
    assert!(comparison.regressed);
    assert_eq!(comparison.regressions[0], "the verdict was PASS and is FAIL");
    assert!(comparison.regressions.contains(&"output `forces`: its verdict was PASS and is FAIL".to_owned()));
    let trends: Vec<Trend> = comparison.outputs.iter().map(|row| row.trend).collect();
    assert_eq!(trends, [Trend::Worse, Trend::Worse]);
    let comparison = compared(&failing(), &passing());
    assert_eq!(comparison.regressions, Vec::<String>::new());
    assert_eq!(comparison.outputs[1].trend, Trend::Better);
    // One verdict hides behind another: over all it is FAIL in both.
    let before = change(&failing(), |report| report.outputs[0] = passing().outputs[0].clone());
    assert!(
        compared(&before, &failing()).regressions[0].starts_with("output `energy`: its verdict was PASS")
    );
}

#[test]
fn a_violation_grows_by_more_than_both_noise_floors_or_not_at_all() {
    // Both floors are 5.5e-16.
    let explained = 2.0 * MARGIN * 5.5e-16;
    let before = failing();
    let grown = |by: f64| change(&before, |report| report.outputs[0].violation += by);
    assert!(!compared(&before, &grown(0.9 * explained)).regressed);
    let comparison = compared(&before, &grown(2.0 * explained));
    assert!(comparison.regressions[0].starts_with("output `energy`: its violation grew"));
    assert_eq!(comparison.outputs[0].explained, explained);
    assert_eq!(compared(&grown(2.0 * explained), &before).outputs[0].trend, Trend::Better);
    // Where the violation was measured in the model's own precision, its noise counts.
    let single = |report: &Report| change(report, |report| report.outputs[0].float64 = Float64::NotRequested);
    assert!(!compared(&single(&before), &single(&grown(2.0 * explained))).regressed);
    assert!(compared(&single(&before), &single(&grown(3.0 * MARGIN * 4.4e-7))).regressed);
    // What cannot be computed is the worst.
    assert!(compared(&before, &grown(f64::NAN)).regressed);
    assert!(!compared(&grown(f64::NAN), &grown(f64::NAN)).regressed);
    assert_eq!(compared(&grown(f64::INFINITY), &before).outputs[0].trend, Trend::Better);
}

#[test]
fn what_a_report_explains_by_rounding_has_not_grown() {
    // A scalar that passes through zero: large beside itself, nothing at the scale of the run.
    let after = change(&passing(), |report| report.outputs[0].violation = 1e-11);
    assert!(!compared(&passing(), &after).regressed);
    let broken = change(&after, |report| report.outputs[0].classification = Classification::Broken);
    assert!(compared(&passing(), &broken).regressed);
    // Chance, not rounding, is what laws are tested against.
    let after = change(&random(), |report| report.outputs[0].violation = 0.95);
    assert!(!compared(&random(), &after).regressed);
}

#[test]
fn layers_are_matched_by_location_and_call() {
    let before = inside();
    let lost = change(&before, |report| row(report, "norm").verdict = LayerVerdict::Breaks);
    assert_eq!(compared(&before, &lost).regressions, ["layer `norm`: it was `ok` and is `breaks`"]);
    // What inherits has lost nothing of its own, and what cannot be judged tells nothing.
    for verdict in [LayerVerdict::Inherits, LayerVerdict::CannotJudge, LayerVerdict::RestoredLater] {
        let other = change(&before, |report| row(report, "norm").verdict = verdict);
        assert!(!compared(&before, &other).regressed, "{verdict}");
        let healed = compared(&other, &before);
        let norm = healed.layers.rows.iter().find(|row| row.location == "norm").unwrap();
        assert_eq!(norm.trend == Trend::Better, verdict == LayerVerdict::Inherits, "{verdict}");
    }
    let own = |error: f64| change(&before, |report| row(report, "act").own_error = Some(error));
    assert!(!compared(&before, &own(0.38 + 19.0 * 3.1e-16)).regressed);
    assert!(compared(&before, &own(0.39)).regressions[0].starts_with("layer `act`: its own error grew"));
    assert_eq!(compared(&own(0.39), &before).layers.rows[2].trend, Trend::Better);
    // A second call is another row; what one side has alone is said.
    let called = change(&before, |report| row(report, "act").call = 1);
    let comparison = compared(&before, &called);
    assert!(!comparison.regressed);
    assert_eq!(comparison.layers.only_before, ["act"]);
    assert_eq!(comparison.layers.only_after, ["act (call 1)"]);
    let without = change(&before, |report| report.layers = passing().layers);
    let comparison = compared(&before, &without);
    assert!(!comparison.regressed);
    let why = comparison.layers.not_compared.as_deref();
    assert_eq!(why, Some("layers were not audited after (layers=False)"));
}

#[test]
fn gradients_are_matched_by_row() {
    let before = inside();
    let with = |how: &dyn Fn(&mut equicheck::report::GradientRow), k: usize| {
        change(&before, |report| {
            let Rows::Ran { rows } = &mut report.gradients else { panic!("no gradients") };
            how(&mut rows[k]);
        })
    };
    let worse = with(&|row| (row.verdict, row.outcome) = (Some(Verdict::Fail), Outcome::Violated), 0);
    let comparison = compared(&before, &worse);
    assert_eq!(
        comparison.regressions,
        ["input gradient, eval, `energy` by `pos`: its verdict was PASS and is FAIL"]
    );
    assert_eq!(compared(&worse, &before).gradients.rows[0].trend, Trend::Better);
    // Ten times both floors of 2.4e-7.
    let grown = |by: f64| with(&|row| row.max_relative_f64 = Some(0.78 + by), 1);
    assert!(!compared(&before, &grown(4.0e-6)).regressed);
    assert!(compared(&before, &grown(6.0e-6)).regressions[0].contains("by `bias`: its error grew"));
    // Of rows that hold, errors are rounding.
    assert!(!compared(&before, &with(&|row| row.max_relative_f64 = Some(1e-3), 0)).regressed);
    let comparison = compared(&before, &with(&|row| row.target = Some("x".to_owned()), 0));
    assert!(!comparison.regressed);
    assert_eq!(comparison.gradients.only_before, ["input gradient, eval, `energy` by `pos`"]);
    assert_eq!(comparison.gradients.only_after, ["input gradient, eval, `energy` by `x`"]);
}

#[test]
fn findings_are_matched_by_mode_and_location() {
    let before = failing();
    let moved = change(&before, |report| "tail.forces".clone_into(&mut report.findings[0].location));
    let findings = compared(&before, &moved).findings;
    assert_eq!(findings.went, before.findings[..1]);
    assert_eq!(findings.stayed, before.findings[1..]);
    assert_eq!(findings.came, moved.findings[..1]);
    // Two of one kind at one place are two.
    let twice = change(&before, |report| report.findings.push(before.findings[1].clone()));
    let findings = compared(&before, &twice).findings;
    assert_eq!((findings.went.len(), findings.stayed.len(), findings.came.len()), (0, 2, 1));
    // What is said of it may change.
    let milder = change(&before, |report| report.findings[0].severity = Severity::Medium);
    assert_eq!(compared(&before, &milder).findings.stayed, milder.findings);
}

#[test]
fn audits_that_asked_otherwise_are_not_compared() {
    let before = passing();
    let refused = |how: &dyn Fn(&mut Report)| compare(&before, &change(&before, how)).unwrap_err();
    let cases: [Case<'_>; 12] = [
        (&|r| "SE(3)".clone_into(&mut r.group), "the group is `E(3) x S(nodes)` before and `SE(3)` after"),
        (
            &|r| "float64".clone_into(&mut r.model.dtype),
            "the precision under audit is `float32` before and `float64`",
        ),
        (
            &|r| "bfloat16".clone_into(&mut r.model.computes_in),
            "what is computed in is none before and `bfloat16`",
        ),
        (&|r| "train".clone_into(&mut r.model.mode), "the mode is `eval` before and `train` after"),
        (&|r| r.plan.randomness = Some("transform".to_owned()), "`randomness` is `fixed` before"),
        (&|r| r.levels.excellent = 1e-3, "what the levels are bounded by is `1e-6, 1e-4, 1e-2` before"),
        (
            &|r| r.transforms[0].layout = None,
            "input `positions` is `nodes point` before and `not transformed` after",
        ),
        (&|r| drop(r.transforms.remove(1)), "input `numbers` is declared before and not after"),
        (&|r| drop(r.outputs.pop()), "output `forces` is declared before and not after"),
        (
            &|r| "nodes".clone_into(&mut r.outputs[0].layout),
            "output `energy` is `\"\"` before and `nodes` after",
        ),
        (&|r| r.outputs[0].tolerance = Some(1e-3), "and `\"\", tolerance 1e-3` after"),
        (
            &|r| r.plan.shard = Shard { index: 0, count: 2 },
            "the report after is shard 0 of 2: `equicheck merge`",
        ),
    ];
    for (how, said) in cases {
        let why = refused(how);
        assert!(
            why.starts_with("the two audits cannot be compared: ") && why.contains(said),
            "{why}\n{said}"
        );
    }
    // All at once, and in both directions.
    let other = change(&before, |r| {
        "SE(3)".clone_into(&mut r.group);
        "pair".clone_into(&mut r.outputs[0].name);
    });
    let why = compare(&before, &other).unwrap_err();
    for said in
        ["the group", "`energy` is declared before and not after", "`pair` is declared after and not before"]
    {
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn what_else_differs_is_noted() {
    let other = change(&passing(), |report| {
        report.plan.seed = 1;
        report.plan.samples = 20;
        report.transforms[0].shape = vec![9, 3];
        "cuda:0".clone_into(&mut report.model.device);
        "0.2.0".clone_into(&mut report.equicheck_version);
        report.outputs[0].float64 = Float64::NotRequested;
    });
    let notes = compared(&passing(), &other).notes.join("\n");
    for said in [
        "samples 50 before, 20 after",
        "not the same shapes",
        "the device was `cpu` and is `cuda:0`",
        "was `0.1.0` and is `0.2.0`",
        "output `energy`: double precision counts before and not after",
    ] {
        assert!(notes.contains(said), "{notes}\n{said}");
    }
}
