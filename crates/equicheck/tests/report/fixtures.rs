//! Reports written by hand: the figures are plausible, not measured.

use equicheck::report::{
    Bound, Classification, CompositionKind, CompositionRow, Distribution, DistributionTest, ExecutedPlan,
    FORMAT_VERSION, FactorRow, Finding, Float64, Inquiries, InterpolationControl, InterpolationScaling,
    LawStatistic, LayerStage, Level, Levels, Mode, ModelInfo, Outcome, OutputResult, PlannedRow,
    Repeatability, Report, Rows, Severity, Shard, Stop, StressKind, StressRow, Summary, SymmetryType,
    Timings, TransformRow, VacuityRow, Verdict, WorstCase, quality,
};

// Beside this file, wherever it is included from.
#[path = "inside.rs"]
pub(crate) mod inside;

fn summary(mean: f64, max: f64) -> Summary {
    Summary { mean, standard_deviation: mean / 4.0, median: mean * 0.9, quantile_95: max * 0.8, max }
}

/// In double precision rounding is 1e-9 of what it was, a bug is what it was.
fn in_double(max_relative: f64) -> f64 {
    if max_relative < 1e-5 { max_relative * 1e-9 } else { max_relative }
}

pub(crate) fn factor(factor: &str, max_relative: f64, exceeding: usize, share_bound: f64) -> FactorRow {
    FactorRow {
        factor: factor.to_owned(),
        pairs: 250,
        mean_relative: max_relative / 3.0,
        max_relative,
        max_relative_f64: Some(in_double(max_relative)),
        exceeding,
        bound: Bound::ClopperPearson,
        share_bound,
    }
}

fn planned(kind: &str, pairs: usize, max_relative: f64) -> PlannedRow {
    PlannedRow { kind: kind.to_owned(), pairs, max_relative, max_relative_f64: Some(in_double(max_relative)) }
}

fn transform(
    role: &str,
    name: &str,
    layout: Option<&str>,
    shape: &[usize],
    description: &str,
) -> TransformRow {
    TransformRow {
        role: role.to_owned(),
        name: name.to_owned(),
        layout: layout.map(str::to_owned),
        shape: shape.to_vec(),
        dtype: "float32".to_owned(),
        description: description.to_owned(),
    }
}

fn available(max_relative: f64) -> Float64 {
    Float64::Available { max_relative, mean_relative: max_relative / 3.0, noise: 5.5e-16, constants: 0.0 }
}

/// An output that passes, exact in double precision.
pub(crate) fn output(name: &str, layout: &str, symmetry_type: SymmetryType) -> OutputResult {
    OutputResult {
        name: name.to_owned(),
        layout: layout.to_owned(),
        symmetry_type,
        classification: Classification::Exact,
        verdict: Verdict::Pass,
        level: Level::Perfect,
        reason: "the error in double precision, 9.63e-16, is not above its noise floor".to_owned(),
        absolute: summary(1.5e-7, 6.25e-7),
        relative: summary(3.21e-7, 9.63e-7),
        scaled_max: 9.63e-7,
        row_quantile: Some(8.0e-7),
        pulled_back: None,
        scale: 12.5,
        violation: 9.63e-16,
        noise: 4.4e-7,
        worst: Some(WorstCase {
            sample: 3,
            rattled_from: None,
            index: 17,
            element: "rotation by 131.2° about (0.21, -0.91, 0.36), det -1".to_owned(),
            factor: "joint".to_owned(),
            kind: "haar".to_owned(),
            block: "row 7".to_owned(),
        }),
        factors: vec![
            factor("joint", 9.63e-7, 0, 0.011_911),
            factor("E(3)", 8.5e-7, 0, 0.011_911),
            factor("S(nodes)", 2.0e-7, 0, 0.011_911),
        ],
        planned: vec![planned("identity", 50, 0.0), planned("half-turn", 10, 4.1e-7)],
        float64: available(9.63e-16),
        repeatability: Repeatability::default(),
        vacuity: vec![VacuityRow {
            factor: "E(3)".to_owned(),
            sensitivity: 0.8,
            discrimination: Some(1.3),
            vacuous: None,
        }],
        tolerance: None,
        distribution: None,
        interpolation: None,
    }
}

/// Two outputs, both exact.
pub(crate) fn passing() -> Report {
    Report {
        format_version: FORMAT_VERSION,
        equicheck_version: "0.1.0".to_owned(),
        model: ModelInfo {
            name: "PotentialNet".to_owned(),
            framework: "torch".to_owned(),
            parameters: Some(412_525),
            dtype: "float32".to_owned(),
            device: "cpu".to_owned(),
            mode: "eval".to_owned(),
            computes_in: String::new(),
        },
        group: "E(3) x S(nodes)".to_owned(),
        verdict: Verdict::Pass,
        transforms: vec![
            transform(
                "input",
                "positions",
                Some("nodes point"),
                &[12, 3],
                "rows permuted; each row x becomes g x + t",
            ),
            transform("input", "numbers", Some("nodes"), &[12], "rows permuted"),
            transform("input", "cutoff", None, &[], "not transformed"),
            transform("output", "energy", Some(""), &[], "unchanged"),
            transform(
                "output",
                "forces",
                Some("nodes vector"),
                &[12, 3],
                "rows permuted; each row v becomes g v",
            ),
        ],
        levels: Levels::default(),
        outputs: vec![
            output("energy", "", SymmetryType::Invariant),
            OutputResult {
                violation: 2.0e-15,
                ..output("forces", "nodes vector", SymmetryType::Equivariant)
            },
        ],
        not_audited: vec![],
        composition: Rows::NotRun {
            reason: "not applicable: no input has a `batch` axis, and no `segments=` are given".to_owned(),
        },
        stress: Rows::NotRun { reason: "stress=True runs it".to_owned() },
        layers: LayerStage::NotRun { reason: "layers=False".to_owned() },
        gradients: Rows::NotRun { reason: "gradients=False".to_owned() },
        inquiries: Inquiries::default(),
        findings: vec![],
        recommendations: vec![],
        quality: None,
        notes: vec![],
        plan: ExecutedPlan {
            seed: 18_446_744_073_709_551_615,
            samples: 50,
            rattled: 0,
            transformations: 750,
            pairs: 810,
            planned_pairs: 810,
            shard: Shard::WHOLE,
            stop: Stop::Completed,
            batch: 1,
            calls_by_purpose: [("base", 50), ("transformed", 810), ("repeat", 150), ("float64", 860)]
                .map(|(purpose, calls)| (purpose.to_owned(), calls))
                .into(),
            calls: 1870,
            translation_scale: 4.2,
            confidence: 0.95,
            randomness: None,
        },
        environment: [("python", "3.12.3"), ("torch", "2.15.0"), ("threads", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        timings: Some(Timings { total: 12.345, model: 11.9 }),
        evidence: None,
        replays: vec![],
    }
}

pub(crate) fn compared(kind: CompositionKind, error: f64, outcome: Outcome, reason: &str) -> CompositionRow {
    CompositionRow {
        kind,
        output: "energy".to_owned(),
        batches: 3,
        max_relative: Some(error),
        max_relative_f64: Some(in_double(error)),
        noise: Some(4.4e-7),
        outcome,
        reason: reason.to_owned(),
    }
}

pub(crate) fn stressed(kind: StressKind, error: f64, outcome: Outcome, reason: &str) -> StressRow {
    StressRow {
        kind,
        sample: Some(0),
        output: Some("forces".to_owned()),
        elements: 4,
        max_relative: Some(error),
        max_relative_f64: Some(in_double(error)),
        noise: Some(4.4e-7),
        outcome,
        reason: reason.to_owned(),
    }
}

/// One with all that a finding may have, one with little.
fn findings() -> Vec<Finding> {
    vec![
        Finding {
            location: "head.forces".to_owned(),
            class: Some("shop.models.Head".to_owned()),
            source: Some("models.py:31".to_owned()),
            severity: Severity::High,
            message: "forces transform as a pseudovector, not as the vector that was declared".to_owned(),
            evidence: vec![
                "declared `vector`: max relative error 1.96e+00".to_owned(),
                "as `pseudovector`: max relative error 9.10e-07".to_owned(),
            ],
            effects: vec!["output `forces`".to_owned()],
            verify: "equicheck run audit.toml".to_owned(),
            fix: "if the output is axial, declare `nodes pseudovector`; else remove the cross product, or \
                  multiply it by a pseudoscalar of the input, so that parity is restored"
                .to_owned(),
            ..Finding::of(Mode::WrongDeclaration)
        },
        Finding {
            location: "energy".to_owned(),
            severity: Severity::Medium,
            message: "energy changes by 4.10e-05 in any precision".to_owned(),
            evidence: vec![],
            fix: "look for a cutoff, a table or a constant that refers to an axis".to_owned(),
            ..Finding::of(Mode::LabFrameConstant)
        },
    ]
}

/// A parity bug in one output, an approximate one beside it, findings for both.
pub(crate) fn failing() -> Report {
    let mut report = passing();
    report.verdict = Verdict::Fail;
    report.outputs[0] = OutputResult {
        classification: Classification::Approximate,
        verdict: Verdict::NeedsAttention,
        level: Level::Excellent,
        reason: "the error does not vanish in double precision".to_owned(),
        relative: summary(2.0e-5, 4.1e-5),
        violation: 4.1e-5,
        factors: vec![factor("joint", 4.1e-5, 231, 0.95)],
        float64: available(4.1e-5),
        ..report.outputs[0].clone()
    };
    report.outputs[1] = OutputResult {
        classification: Classification::Broken,
        verdict: Verdict::Fail,
        level: Level::Broken,
        reason: "the violation 1.96 is above 1.00e-02".to_owned(),
        absolute: summary(11.2, 24.1),
        relative: summary(0.98, 1.96),
        violation: 1.96,
        float64: available(1.96),
        factors: vec![
            factor("joint", 1.96, 124, 0.55),
            factor("E(3)", 1.96, 250, 1.0),
            factor("S(nodes)", 2.0e-7, 0, 0.011_911),
        ],
        repeatability: Repeatability { seeded: 0.0, unseeded: 3.0e-3, drift: 0.0 },
        ..report.outputs[1].clone()
    };
    report.not_audited = vec!["aux.debug".to_owned(), "hidden".to_owned()];
    report.composition = Rows::Ran {
        rows: vec![
            compared(
                CompositionKind::Alone,
                4.1e-3,
                Outcome::Violated,
                "a violation of 4.1e-3 in double precision",
            ),
            compared(CompositionKind::Reordered, 2.0e-7, Outcome::Holds, "rounding"),
        ],
    };
    report.stress = Rows::Ran {
        rows: vec![
            stressed(
                StressKind::FarFromOrigin,
                2.0e-4,
                Outcome::Holds,
                "in double precision it holds; the inputs' own rounding changes the output by 1.5e-4 at this scale",
            ),
            stressed(StressKind::HugeScale, 3.0e-7, Outcome::Holds, "rounding"),
            stressed(
                StressKind::Collinear,
                0.7,
                Outcome::Violated,
                "a violation of 7.0e-1 in double precision",
            ),
            StressRow {
                output: None,
                max_relative: None,
                max_relative_f64: None,
                noise: None,
                ..stressed(
                    StressKind::AtCutoff,
                    0.0,
                    Outcome::NotApplicable,
                    "what distance the model cuts off at is not known: give `cutoff=`",
                )
            },
        ],
    };
    report.findings = findings();
    report.recommendations = vec![
        "Fix forces first: its error explains itself.".to_owned(),
        "Run again with layers=True to see where energy loses its symmetry.".to_owned(),
    ];
    report.timings = None;
    report
}

/// Double precision void, a vacuous factor, figures that are not finite, a tolerance.
pub(crate) fn hard() -> Report {
    let mut report = passing();
    report.verdict = Verdict::Fail;
    report.outputs = vec![
        OutputResult {
            classification: Classification::Broken,
            verdict: Verdict::Fail,
            level: Level::Broken,
            reason: "the output holds NaN for 3 of 810 transformed inputs".to_owned(),
            absolute: Summary {
                mean: f64::NAN,
                standard_deviation: f64::NAN,
                median: 1e-7,
                quantile_95: f64::INFINITY,
                max: f64::INFINITY,
            },
            relative: Summary {
                mean: f64::NAN,
                standard_deviation: f64::NAN,
                median: 1e-7,
                quantile_95: f64::INFINITY,
                max: f64::NAN,
            },
            violation: f64::NAN,
            noise: f64::NEG_INFINITY,
            float64: Float64::Void { effective_precision: 5.96e-8, input: "positions".to_owned() },
            factors: vec![FactorRow {
                max_relative_f64: None,
                share_bound: f64::NAN,
                ..factor("joint", f64::NAN, 3, 0.0)
            }],
            planned: vec![PlannedRow { max_relative_f64: None, ..planned("inversion", 1, f64::INFINITY) }],
            ..output("energy", "", SymmetryType::Invariant)
        },
        OutputResult {
            classification: Classification::Undetermined,
            verdict: Verdict::NeedsAttention,
            reason: "the output does not depend on anything that E(3) moves".to_owned(),
            violation: 0.0,
            float64: Float64::Unavailable { reason: "the copy failed: cannot pickle a generator".to_owned() },
            worst: None,
            factors: vec![],
            planned: vec![],
            vacuity: vec![VacuityRow {
                factor: "E(3)".to_owned(),
                sensitivity: 0.0,
                discrimination: None,
                vacuous: Some("the output does not respond to the inputs that E(3) moves".to_owned()),
            }],
            ..output("charge", "nodes", SymmetryType::Invariant)
        },
        OutputResult {
            classification: Classification::Approximate,
            level: Level::Approximate,
            reason: "the violation 3.00e-04 is below the tolerance".to_owned(),
            relative: summary(1e-4, 3e-4),
            violation: 3e-4,
            tolerance: Some(1e-3),
            float64: Float64::NotRequested,
            ..output("stress", "vector vector", SymmetryType::Equivariant)
        },
    ];
    report.notes = vec!["inputs are in float32 although the model computes in float64".to_owned()];
    report.timings = None;
    report
}

/// One output, the plan cut short by the budget.
pub(crate) fn cut_by_budget() -> Report {
    let mut report = passing();
    report.verdict = Verdict::NeedsAttention;
    "SO(3)".clone_into(&mut report.group);
    report.transforms.truncate(1);
    report.outputs = vec![OutputResult {
        classification: Classification::Undetermined,
        verdict: Verdict::NeedsAttention,
        level: Level::Approximate,
        reason: "cut short: 9 pairs bound the violating share by 28.4 %, 1.2 % was asked for".to_owned(),
        relative: summary(1e-4, 2e-4),
        factors: vec![FactorRow {
            pairs: 9,
            bound: Bound::ConfidenceSequence,
            ..factor("SO(3)", 2e-4, 0, 0.283_2)
        }],
        planned: vec![],
        vacuity: vec![],
        ..output("output", "nodes 8x0e+4x1o", SymmetryType::Equivariant)
    }];
    report.plan = ExecutedPlan {
        samples: 1,
        transformations: 9,
        pairs: 9,
        planned_pairs: 2550,
        stop: Stop::Budget,
        batch: 64,
        calls: 31,
        ..report.plan
    };
    report.notes = vec!["one sample was given: nothing is known about other inputs".to_owned()];
    report.recommendations = vec!["Give the audit more time (budget=) and more samples.".to_owned()];
    report
}

/// Images turned by all angles: one output that interpolation explains, one that cannot be judged.
pub(crate) fn interpolated() -> Report {
    let mut report = passing();
    report.verdict = Verdict::NeedsAttention;
    "SO(2)".clone_into(&mut report.group);
    report.transforms.truncate(1);
    let factors = vec![FactorRow { bound: Bound::Interpolated, ..factor("joint", 3e-2, 0, 1.0) }];
    report.outputs = vec![
        OutputResult {
            classification: Classification::Consistent,
            reason: "under all others its error is 1.2e-03 on smooth inputs known between pixels".to_owned(),
            factors: factors.clone(),
            interpolation: Some(InterpolationControl {
                model: Some(1.23e-3),
                control: Some(1.5e-2),
                pairs: 24,
                receptive_field: None,
                scaling: Some(InterpolationScaling { model: Some(0.21), control: Some(0.26), order: None }),
                note: None,
            }),
            ..output("logits", "batch classes", SymmetryType::Invariant)
        },
        OutputResult {
            classification: Classification::Undetermined,
            verdict: Verdict::NeedsAttention,
            reason: "how much of the error 3.0e-02 is the interpolation's is not known".to_owned(),
            factors,
            interpolation: Some(InterpolationControl {
                model: None,
                control: None,
                pairs: 0,
                receptive_field: Some(31.0),
                scaling: None,
                note: Some("the receptive field of its pixels is the whole image".to_owned()),
            }),
            ..output("mask", "batch height width", SymmetryType::Equivariant)
        },
    ];
    report
}

/// A test of the law of a random output, which no element breaks unless it differs.
fn law_test(factor: &str, statistic: LawStatistic, p_value: f64, difference: f64) -> DistributionTest {
    DistributionTest {
        sample: 1,
        element: "rotation by 113.28 degrees about (0.5090, -0.2622, 0.8198), with inversion".to_owned(),
        factor: factor.to_owned(),
        statistic,
        p_value,
        adjusted_p_value: (4.0 * p_value).min(1.0),
        shift: 0.02,
        difference,
    }
}

/// Two random outputs, judged by their laws: one differs in its covariance, of the other nothing is known.
pub(crate) fn random() -> Report {
    let mut report = passing();
    report.verdict = Verdict::Fail;
    let tests = vec![
        law_test("joint", LawStatistic::Values, 0.31, 0.084),
        law_test("joint", LawStatistic::SecondMoments, 4.17e-5, 0.92),
    ];
    let judged = |name: &str| OutputResult {
        level: Level::Broken,
        absolute: summary(0.4, 0.6),
        relative: summary(0.09, 0.14),
        scaled_max: 0.14,
        worst: None,
        factors: vec![],
        planned: vec![],
        float64: Float64::NotRequested,
        ..output(name, "nodes vector", SymmetryType::Equivariant)
    };
    let law = Distribution {
        draws: 150,
        significance: 1e-3,
        spread: 3.02,
        detectable: 0.27,
        detectable_relative: 0.16,
        detectable_spread: 0.19,
        tests: tests.clone(),
        second_look: Some(tests[1].clone()),
    };
    report.outputs = vec![
        OutputResult {
            classification: Classification::Broken,
            verdict: Verdict::Fail,
            reason: "the law of f(T x) is not that of T' f(x)".to_owned(),
            violation: 0.92,
            distribution: Some(law.clone()),
            ..judged("x")
        },
        OutputResult {
            classification: Classification::Undetermined,
            verdict: Verdict::NeedsAttention,
            level: Level::Perfect,
            reason: "no two laws were compared".to_owned(),
            violation: 0.0,
            tolerance: Some(1e-3),
            distribution: Some(Distribution {
                detectable: f64::INFINITY,
                detectable_relative: f64::INFINITY,
                detectable_spread: f64::INFINITY,
                tests: vec![],
                second_look: None,
                ..law
            }),
            ..judged("h")
        },
    ];
    report.plan.randomness = Some("distribution".to_owned());
    report.timings = None;
    report
}

/// All of them, by name, and scored.
pub(crate) fn all() -> [(&'static str, Report); 7] {
    let reports = [
        ("passing", passing()),
        ("failing", failing()),
        ("hard", hard()),
        ("cut_by_budget", cut_by_budget()),
        ("random", random()),
        ("interpolated", interpolated()),
        ("inside", inside::inside()),
    ];
    reports.map(|(name, report)| (name, Report { quality: Some(quality(&report)), ..report }))
}
