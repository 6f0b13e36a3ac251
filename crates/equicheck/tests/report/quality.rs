//! How good an audit was: each dimension rests on what the report records, and falls when that is deleted.

use equicheck::report::{
    Aspect, Bound, Classification, Confidence, FactorRow, Finding, Float64, GradientCheck, LayerKind,
    LayerStage, LayerVerdict, Layers, Level, Mode, Outcome, OutputResult, Report, Rows, Severity, Stop,
    StressKind, Verdict, from_json, quality, to_json, to_markdown, to_text,
};

use super::fixtures::{
    self, compared, factor,
    inside::{gradient, inside, layer},
    stressed,
};
use equicheck::report::CompositionKind;

/// Something that is done to a report.
type Change = fn(&mut Report);

fn changed(report: &Report, change: Change) -> Report {
    let mut report = report.clone();
    change(&mut report);
    report
}

fn ran(report: &mut Report) -> &mut Layers {
    match &mut report.layers {
        LayerStage::Ran(layers) => layers,
        LayerStage::NotRun { .. } => panic!("layers did not run"),
    }
}

/// Rows of each factor of the group, of which rotations and reflections, and so all jointly, violate in `exceeding` pairs.
fn tried(error: f64, exceeding: usize) -> Vec<FactorRow> {
    let share = if exceeding > 0 { 1.0 } else { 0.011_911 };
    vec![
        factor("joint", error, exceeding, share),
        factor("O(3)", error, exceeding, share),
        factor("T(3)", 2.0e-7, 0, 0.011_911),
        factor("S(nodes)", 2.0e-7, 0, 0.011_911),
    ]
}

/// A healthy model, audited with all that there is.
fn healthy() -> Report {
    let mut report = fixtures::passing();
    for output in &mut report.outputs {
        output.factors = tried(2.0e-7, 0);
    }
    report.environment.insert("platform".to_owned(), "linux x86_64".to_owned());
    report.plan.calls_by_purpose.insert("noise".to_owned(), 100);
    report.recommendations =
        vec!["nothing to fix: keep this audit as a test, so that it stays true".to_owned()];
    report.stress =
        Rows::Ran { rows: vec![stressed(StressKind::Collinear, 2.0e-7, Outcome::Holds, "rounding")] };
    report.composition =
        Rows::Ran { rows: vec![compared(CompositionKind::Alone, 2.0e-7, Outcome::Holds, "rounding")] };
    let rows = [(GradientCheck::Input, "pos"), (GradientCheck::Parameter, "weight")];
    report.gradients = Rows::Ran {
        rows: rows.map(|(check, of)| gradient(check, Some(of), 3.0e-7, Outcome::Holds, "rounding")).into(),
    };
    report.layers = LayerStage::Ran(Box::new(Layers {
        precision: "float64".to_owned(),
        probes: 8,
        rows: vec![
            layer("mix", "net.Linear", LayerKind::Linear, Some(4.0e-16), LayerVerdict::Ok),
            layer("act", "net.NormTanh", LayerKind::Nonlinearity, Some(2.0e-16), LayerVerdict::Ok),
        ],
        ..Layers::default()
    }));
    report
}

/// A model that breaks, audited as well, with the cause named and located.
fn explained() -> Report {
    let mut report = healthy();
    report.verdict = Verdict::Fail;
    let forces = report.outputs[1].clone();
    report.outputs[1] = OutputResult {
        classification: Classification::Broken,
        verdict: Verdict::Fail,
        level: Level::Broken,
        reason: "the violation 1.96 is above 1.00e-02".to_owned(),
        violation: 1.96,
        factors: tried(1.96, 250),
        ..forces
    };
    if let LayerStage::Ran(layers) = inside().layers {
        ran(&mut report).breaks = layers.breaks;
    }
    report.findings = vec![Finding {
        location: "act".to_owned(),
        class: Some("torch.nn.Tanh".to_owned()),
        source: Some("activation.py:380".to_owned()),
        severity: Severity::High,
        message: "`act` acts on components one by one".to_owned(),
        evidence: vec!["violation: 1.96e0".to_owned(), "broken by: O(3)".to_owned()],
        effects: vec!["output `forces`: violation 2.0e0, FAIL".to_owned()],
        fix: "let scalars gate vectors".to_owned(),
        verify: "audit again: the output passes".to_owned(),
        ..Finding::of(Mode::NonequivariantNonlinearity)
    }];
    report.recommendations = vec!["let scalars gate vectors".to_owned()];
    report
}

/// The same with nothing named: what is known is what was excluded.
fn unexplained() -> Report {
    changed(&explained(), |report| {
        let finding = &mut report.findings[0];
        finding.mode = Mode::Undiagnosed;
        finding.evidence.push("excluded: 7 other declarations, none of which passes".to_owned());
    })
}

/// That each change lowers this dimension of the report, no change raises any, and the gap is said in these words.
fn lowers(report: &Report, aspect: Aspect, changes: &[(&str, Change, &str)]) {
    let before = quality(report);
    for (what, change, words) in changes {
        let changed = changed(report, *change);
        let after = quality(&changed);
        assert!(after.score(aspect) < before.score(aspect), "{what} does not lower {aspect}");
        assert!(after.overall < before.overall, "{what}");
        for other in Aspect::ALL {
            assert!(after.score(*other) <= before.score(*other), "{what} raises {other}");
        }
        let raise = |of: &equicheck::report::Quality| {
            of.dimensions.iter().find(|dimension| dimension.name == aspect).unwrap().raise.clone()
        };
        let news: Vec<String> =
            raise(&after).into_iter().filter(|line| !raise(&before).contains(line)).collect();
        assert!(news.iter().any(|line| line.contains(words)), "{what}: `{words}` is not in {news:?}");
    }
}

#[test]
fn a_complete_audit_of_a_healthy_model_has_the_best_score() {
    for report in [healthy(), explained()] {
        let quality = quality(&report);
        for dimension in &quality.dimensions {
            assert_eq!((dimension.score, dimension.raise.as_slice()), (5.0, &[][..]), "{}", dimension.name);
        }
        assert_eq!(quality.overall, 5.0);
        assert!(quality.in_words().starts_with("complete"));
    }
}

#[test]
fn thoroughness_falls_with_what_was_not_tried() {
    lowers(
        &healthy(),
        Aspect::TestThoroughness,
        &[
            ("fewer samples", |report| report.plan.samples = 49, "give 50 test samples, rather than 49"),
            ("a larger model", |report| report.model.parameters = Some(1_000_000), "give 100 test samples"),
            ("a huge model", |report| report.model.parameters = Some(100_000_000), "give 200 test samples"),
            (
                "a budget that ended it",
                |report| {
                    report.plan.pairs = 700;
                    report.plan.stop = Stop::Budget;
                },
                "700 of 810 pairs",
            ),
            (
                "a factor that was not tried alone",
                |report| report.outputs[0].factors.truncate(3),
                "is tried alone: S(nodes) never",
            ),
            ("no planned elements", |report| report.outputs[1].planned.clear(), "no special elements"),
            (
                "double precision that was turned off",
                |report| report.outputs[1].float64 = Float64::NotRequested,
                "set `precision=\"both\"`",
            ),
            (
                "double precision that failed",
                |report| report.outputs[1].float64 = Float64::Unavailable { reason: "no copy".to_owned() },
                "give `factory=`, or `module=` for a callable, for a comparison in double precision: no copy",
            ),
            (
                "double precision that is lost inside",
                |report| {
                    report.outputs[1].float64 =
                        Float64::Void { effective_precision: 6e-8, input: "positions".to_owned() };
                },
                "small changes of `positions` are lost",
            ),
            (
                "a vacuous test",
                |report| report.outputs[1].vacuity[0].vacuous = Some("it does not respond".to_owned()),
                "the test of `forces` could not have failed",
            ),
            ("no test of vacuity", |report| report.outputs[0].vacuity.clear(), "the test of `energy`"),
            ("no stress", |report| report.stress = fixtures::passing().stress, "set `stress=True`"),
            (
                "no composition of batches",
                |report| report.composition = Rows::NotRun { reason: "batches of one entry".to_owned() },
                "`segments=` for graphs: batches of one entry",
            ),
            (
                "a composition that was not judged",
                |report| {
                    report.composition = Rows::Ran {
                        rows: vec![compared(CompositionKind::Alone, 0.1, Outcome::NotJudged, "it raises")],
                    };
                },
                "it raises",
            ),
            (
                "an output that was not audited",
                |report| report.not_audited = vec!["aux".to_owned()],
                "give a layout to `aux`",
            ),
        ],
    );
}

#[test]
fn thoroughness_falls_step_by_step_with_samples() {
    let scores = [50, 49, 10, 9, 3, 2, 1].map(|samples| {
        let mut report = healthy();
        report.plan.samples = samples;
        quality(&report).score(Aspect::TestThoroughness)
    });
    let steps: Vec<bool> = scores.windows(2).map(|pair| pair[0] > pair[1]).collect();
    assert_eq!(steps, [true, false, true, false, true, true], "{scores:?}");
}

#[test]
fn analysis_falls_with_what_is_not_known_of_errors() {
    lowers(
        &explained(),
        Aspect::ErrorAnalysis,
        &[
            (
                "few pairs for a factor",
                |report| report.outputs[1].factors[2].pairs = 9,
                "ten random pairs for each factor",
            ),
            (
                "rounding that was not measured",
                |report| _ = report.plan.calls_by_purpose.remove("noise"),
                "rounding was not measured",
            ),
            (
                "calls that were not repeated",
                |report| _ = report.plan.calls_by_purpose.remove("repeat"),
                "whether equal calls agree",
            ),
            (
                "a loose bound",
                |report| report.outputs[0].factors[0].share_bound = 0.283_2,
                "up to 29 % of the group may violate",
            ),
            ("no bound", |report| report.outputs[0].factors[0].bound = Bound::None, "is not bounded"),
            (
                "no layers",
                |report| report.layers = LayerStage::NotRun { reason: "layers=False".to_owned() },
                "set `layers=True`",
            ),
            (
                "layers that could not run",
                |report| {
                    report.layers = LayerStage::NotRun { reason: "a function has no modules".to_owned() }
                },
                "not looked at: a function has no modules",
            ),
            (
                "layers that could not be judged",
                |report| ran(report).rows[0].verdict = LayerVerdict::NotKnown,
                "declare `hidden_layouts=`: 1 of 2 calls",
            ),
            ("layers without rows", |report| ran(report).rows.clear(), "no module was called"),
            ("no gradients", |report| report.gradients = Rows::default(), "set `gradients=True`"),
            (
                "gradients that could not be judged",
                |report| {
                    if let Rows::Ran { rows } = &mut report.gradients {
                        rows[1].outcome = Outcome::NotJudged;
                        "no parameter has a gradient".clone_into(&mut rows[1].reason);
                    }
                },
                "by parameters comparable: no parameter has a gradient",
            ),
            ("no worst case", |report| report.outputs[1].worst = None, "the worst case"),
        ],
    );
}

#[test]
fn diagnosis_falls_with_what_is_not_explained() {
    let without_layers: Change =
        |report| report.layers = LayerStage::NotRun { reason: "layers=False".to_owned() };
    lowers(
        &explained(),
        Aspect::IssueDiagnosis,
        &[
            ("no layers", without_layers, "where symmetry is lost was not looked at"),
            (
                "an output that nothing covers",
                |report| report.findings[0].effects.clear(),
                "no finding covers `forces`",
            ),
            (
                "a finding without a place",
                |report| report.findings[0].class = None,
                "declare `hidden_layouts=`: no place in the model is known for finding 1",
            ),
            (
                "a finding without a name",
                |report| {
                    report.findings[0].mode = Mode::Undiagnosed;
                    report.findings[0].evidence.push("excluded: 7 other declarations".to_owned());
                },
                "can be asked about finding 1",
            ),
            (
                "a finding that is not sure",
                |report| report.findings[0].confidence = Confidence::Medium,
                "for more confidence in finding 1",
            ),
            (
                "a single figure",
                |report| report.findings[0].evidence.truncate(1),
                "more than one figure supports finding 1",
            ),
            ("no finding", |report| report.findings.clear(), "no finding covers `forces`"),
        ],
    );
    lowers(
        &unexplained(),
        Aspect::IssueDiagnosis,
        &[
            ("no layers", without_layers, "where symmetry is lost was not looked at"),
            (
                "no layers, and so no place",
                |report| {
                    report.findings[0].class = None;
                    report.layers = LayerStage::NotRun { reason: "layers=False".to_owned() };
                },
                "set `layers=True`: no place in the model is known for finding 1",
            ),
            (
                "layers that could not run, and so no place",
                |report| {
                    report.findings[0].class = None;
                    report.layers = LayerStage::NotRun { reason: "a function has no modules".to_owned() };
                },
                "for finding 1, as layers were not looked at: a function has no modules",
            ),
            (
                "nothing that was excluded",
                |report| report.findings[0].evidence.truncate(2),
                "so that more can be excluded for finding 1",
            ),
            (
                "some that was not tried",
                |report| {
                    let left_out = "not all was tried: the time budget was spent";
                    report.findings[0].evidence.push(left_out.to_owned());
                },
                "so that more can be excluded for finding 1",
            ),
        ],
    );
    // Half a place: a break is known, and the finding does not name it.
    let place = |change: Change| quality(&changed(&explained(), change)).score(Aspect::IssueDiagnosis);
    let near = place(|report| report.findings[0].class = None);
    let far = place(|report| {
        report.findings[0].class = None;
        ran(report).breaks[0].confidence = Confidence::Low;
    });
    assert!(near > far);
    // A wrong declaration is nowhere in the model.
    assert_eq!(
        place(|report| {
            report.findings[0].mode = Mode::WrongDeclaration;
            report.findings[0].class = None;
        }),
        5.0
    );
}

#[test]
fn recommendations_fall_with_findings_that_do_not_help() {
    lowers(
        &explained(),
        Aspect::Recommendations,
        &[
            (
                "a finding without a fix",
                |report| {
                    report.findings[0].fix.clear();
                    report.recommendations = vec![String::new()];
                },
                "no fix",
            ),
            ("a finding without verification", |report| report.findings[0].verify.clear(), "verified"),
            ("a finding without a name", |report| report.findings[0].mode = Mode::Undiagnosed, "finding 1"),
            ("no recommendation", |report| report.recommendations.clear(), "not ranked"),
            (
                "another recommendation first",
                |report| report.recommendations.insert(0, "try again".to_owned()),
                "not ranked",
            ),
            (
                "a milder finding first",
                |report| {
                    let milder = Finding { severity: Severity::Low, ..report.findings[0].clone() };
                    report.findings.insert(0, milder);
                },
                "not ranked",
            ),
        ],
    );
}

#[test]
fn documentation_falls_with_what_is_not_recorded() {
    lowers(
        &explained(),
        Aspect::Documentation,
        &[
            ("no transforms", |report| report.transforms.clear(), "give layouts for all tensors"),
            ("a tensor without words", |report| report.transforms[0].description.clear(), "in words"),
            ("no calls", |report| report.plan.calls = 0, "executed"),
            ("no confidence", |report| report.plan.confidence = f64::NAN, "executed"),
            ("no environment", |report| report.environment.clear(), "versions and platform"),
            ("no platform", |report| _ = report.environment.remove("platform"), "versions and platform"),
            ("no device", |report| report.model.device.clear(), "can be said: device"),
            (
                "a break without a source",
                |report| {
                    let broken = &mut ran(report).breaks[0];
                    broken.source = None;
                    broken.class.clear();
                },
                "names of its modules",
            ),
            ("an output without a reason", |report| report.outputs[0].reason.clear(), "no reason"),
        ],
    );
}

#[test]
fn a_complete_audit_is_worth_three() {
    let worst = changed(&unexplained(), |report| {
        report.plan.samples = 1;
        report.composition = Rows::default();
        for output in &mut report.outputs {
            output.vacuity.clear();
            output.worst = None;
            for row in &mut output.factors {
                (row.pairs, row.exceeding, row.share_bound) = (1, 0, 1.0);
            }
        }
        ran(report).rows.truncate(1);
        ran(report).breaks.clear();
        report.gradients = Rows::Ran {
            rows: [GradientCheck::Input, GradientCheck::Parameter]
                .map(|check| gradient(check, None, 1.0, Outcome::NotJudged, "it raises"))
                .into(),
        };
        let finding = &mut report.findings[0];
        finding.class = None;
        finding.evidence.truncate(1);
    });
    let of = quality(&worst);
    assert!(of.overall >= 3.0, "{of:?}");
    assert!(of.overall < 3.3, "{of:?}");
}

#[test]
fn what_has_no_meaning_costs_nothing() {
    // No batch axis, a group of the user's own functions, random draws: questions that cannot be asked.
    let cases: [(&str, Change); 5] = [
        ("no batch", |report| report.composition = fixtures::passing().composition),
        ("an early end", |report| {
            report.plan.pairs = 9;
            report.plan.stop = Stop::Early;
        }),
        ("a custom action", |report| {
            "Roll".clone_into(&mut report.group);
            report.stress = Rows::NotRun { reason: "a custom action".to_owned() };
            report.composition = Rows::NotRun { reason: "a custom action".to_owned() };
            report.gradients = Rows::NotRun { reason: "a custom action".to_owned() };
            report.outputs.iter_mut().for_each(|output| output.planned.clear());
        }),
        ("stress inputs that do not exist", |report| {
            if let Rows::Ran { rows } = &mut report.stress {
                rows[0].outcome = Outcome::NotApplicable;
            }
        }),
        ("a layer that nothing moves", |report| ran(report).rows[0].verdict = LayerVerdict::NotMoved),
    ];
    for (what, change) in cases {
        assert_eq!(quality(&changed(&healthy(), change)).overall, 5.0, "{what}");
    }
    let random = quality(&fixtures::random());
    let asked = random.dimensions.iter().flat_map(|of| &of.raise);
    for line in asked {
        for option in ["stress=", "gradients=", "precision=", "worst case"] {
            assert!(!line.contains(option), "{line}");
        }
    }
}

#[test]
fn what_would_raise_it_is_in_the_order_of_gain() {
    // Stress weighs 2 of thoroughness, double precision 3, an output without a layout 1 of 3.
    let report = changed(&healthy(), |report| {
        report.stress = Rows::default();
        report.not_audited = vec!["aux".to_owned()];
        for output in &mut report.outputs {
            output.float64 = Float64::NotRequested;
        }
    });
    let of = quality(&report);
    let starts: Vec<String> = of.dimensions[0].raise.iter().map(|line| line[..12].to_owned()).collect();
    assert_eq!(starts, ["set `precisi", "set `stress=", "give a layou"]);
    // The weights of the page: 17 in all, of which 3, 2 and a third are lost.
    let expected = 5.0 - 4.0 * (3.0 + 2.0 + 1.0 / 3.0) / 17.0;
    assert!((of.dimensions[0].score - expected).abs() < 1e-12, "{}", of.dimensions[0].score);
    assert!((of.overall - (5.0 - 0.25 * (5.0 - expected))).abs() < 1e-12);
}

#[test]
fn scores_are_bounded_and_survive_a_file() {
    let mine = [("healthy", healthy()), ("explained", explained()), ("unexplained", unexplained())];
    let empty = changed(&fixtures::passing(), |report| report.outputs.clear());
    for (name, report) in fixtures::all().into_iter().chain(mine).chain([("empty", empty)]) {
        let of = quality(&report);
        assert!((1.0..=5.0).contains(&of.overall), "{name}: {of:?}");
        for dimension in &of.dimensions {
            assert!((1.0..=5.0).contains(&dimension.score), "{name}: {dimension:?}");
            assert_eq!(dimension.raise.is_empty(), dimension.score == 5.0, "{name}: {dimension:?}");
        }
        let scored = Report { quality: Some(of.clone()), ..report };
        let read = from_json(&to_json(&scored)).unwrap();
        assert_eq!(quality(&read), of, "{name}");
        assert_eq!(read.quality.as_ref(), Some(&of), "{name}");
        // A reproducible file leaves wall-clock times out.
        assert_eq!(quality(&Report { timings: None, ..scored }), of, "{name}");
    }
}

#[test]
fn it_is_printed_where_it_was_recorded() {
    let without = fixtures::passing();
    let with = Report { quality: Some(quality(&without)), ..without.clone() };
    let text = to_text(&with);
    let (_, section) = text.split_once("\nAUDIT QUALITY:\n--------------\n").unwrap();
    let lines: Vec<&str> = section.lines().collect();
    let overall = with.quality.as_ref().unwrap().overall;
    assert!(lines[0].starts_with(&format!("- Overall: {overall:.1} of 5 (")), "{}", lines[0]);
    for aspect in Aspect::ALL {
        assert!(lines.iter().any(|line| line.starts_with(&format!("  {aspect}  "))), "{aspect}: {section}");
    }
    for dimension in &with.quality.as_ref().unwrap().dimensions {
        for advice in &dimension.raise {
            let words: Vec<&str> = advice.split(' ').collect();
            assert!(words.iter().all(|word| section.contains(word)), "{advice}");
        }
    }
    assert!(to_markdown(&with).contains("## AUDIT QUALITY"));
    // What an earlier version wrote has none, and is not scored behind its back.
    let json = to_json(&without);
    assert!(!json.contains("quality"));
    let read = from_json(&json).unwrap();
    assert_eq!(read.quality, None);
    assert!(!to_text(&read).contains("AUDIT QUALITY"));
}

#[test]
fn the_page_has_the_weights_and_words() {
    let page = include_str!("../../../../docs/quality-rubric.md");
    let of = quality(&healthy());
    for dimension in &of.dimensions {
        let row = format!("| {} | {:.2} |", dimension.name, dimension.weight);
        assert!(page.contains(&row), "{row}");
    }
    assert!((of.dimensions.iter().map(|dimension| dimension.weight).sum::<f64>() - 1.0).abs() < 1e-12);
    for overall in [5.0, 4.0, 3.0, 2.0] {
        let of = equicheck::report::Quality { overall, ..of.clone() };
        assert!(page.contains(of.in_words()), "{}", of.in_words());
    }
}
