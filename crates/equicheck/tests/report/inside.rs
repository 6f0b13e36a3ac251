//! A report on a model that was looked into, written by hand.

use equicheck::report::{
    Break, BreakKind, Confidence, Examination, GradientCheck, GradientRow, HiddenTensor, LayerCheck,
    LayerKind, LayerRow, LayerStage, LayerVerdict, Layers, Origin, Outcome, Placement, Report, Rows, Under,
    Unread, Verdict,
};

use super::failing;

fn tensor(name: &str, shape: &[usize], layout: Option<(&str, Origin)>) -> HiddenTensor {
    HiddenTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        dtype: "float64".to_owned(),
        layout: layout.map(|(layout, origin)| (layout.to_owned(), origin)),
    }
}

pub(crate) fn layer(
    location: &str,
    class: &str,
    kind: LayerKind,
    own: Option<f64>,
    verdict: LayerVerdict,
) -> LayerRow {
    let layout = Some(("nodes channel vector", Origin::Declared));
    LayerRow {
        location: location.to_owned(),
        call: 0,
        class: class.to_owned(),
        source: Some("net.py:12".to_owned()),
        kind,
        inputs: vec![tensor("v", &[17, 8, 3], layout)],
        outputs: vec![tensor("", &[17, 8, 3], layout)],
        own_error: own,
        propagated_error: own,
        noise: 3.1e-16,
        local_error: own,
        checks: vec![],
        verdict,
        note: None,
    }
}

fn check(under: Under, error: Option<f64>) -> LayerCheck {
    LayerCheck { under, error, noise: 3.1e-16 }
}

pub(crate) fn gradient(
    check: GradientCheck,
    target: Option<&str>,
    error: f64,
    outcome: Outcome,
    reason: &str,
) -> GradientRow {
    GradientRow {
        check,
        mode: "eval".to_owned(),
        output: "energy".to_owned(),
        target: target.map(str::to_owned),
        pairs: 12,
        max_relative: Some(error),
        max_relative_f64: Some(error),
        noise: Some(2.4e-7),
        outcome,
        verdict: Some(match outcome {
            Outcome::Violated => Verdict::Fail,
            _ => Verdict::Pass,
        }),
        reason: reason.to_owned(),
        faults: Vec::new(),
    }
}

/// One layer breaks, another would on other inputs, and a parameter is about to.
pub(crate) fn inside() -> Report {
    let mix = LayerRow {
        checks: vec![check(Under::Permutations, Some(0.0)), check(Under::GenericInputs, Some(0.21))],
        local_error: Some(1.5e-11),
        note: Some("equivariant on these activations, not on generic inputs: error 2.1e-1".to_owned()),
        ..layer("mix", "net.Linear", LayerKind::Linear, Some(4.0e-16), LayerVerdict::Ok)
    };
    let norm = LayerRow {
        checks: vec![check(Under::EntriesTurnedApart, Some(2.0e-16)), check(Under::GenericInputs, None)],
        note: Some("could not be checked on generic inputs".to_owned()),
        local_error: None,
        ..layer("norm", "net.CloudNorm", LayerKind::Normalisation, Some(2.0e-16), LayerVerdict::Ok)
    };
    let act = layer("act", "torch.nn.Tanh", LayerKind::Nonlinearity, Some(0.38), LayerVerdict::Breaks);
    let head = LayerRow {
        outputs: vec![tensor("", &[17, 5], None)],
        own_error: None,
        propagated_error: None,
        ..layer("head", "net.Head", LayerKind::Other, None, LayerVerdict::NotKnown)
    };
    let parameter = |k: usize| {
        let target = format!("layers.{k}.weight");
        gradient(GradientCheck::Parameter, Some(&target), 3.0e-7, Outcome::Holds, "rounding")
    };
    let only_here = "equivariant only at these parameter values: one optimiser step on bias breaks it";
    let mut rows = vec![
        gradient(GradientCheck::Input, Some("pos"), 4.4e-7, Outcome::Holds, "rounding"),
        gradient(GradientCheck::Parameter, Some("bias"), 0.78, Outcome::Violated, only_here),
    ];
    rows.extend((0..10).map(parameter));
    rows.push(GradientRow {
        max_relative: None,
        max_relative_f64: None,
        noise: None,
        verdict: None,
        ..gradient(
            GradientCheck::SecondOrder,
            None,
            0.0,
            Outcome::NotApplicable,
            "the model has no second derivative",
        )
    });
    Report {
        verdict: Verdict::Fail,
        layers: LayerStage::Ran(Box::new(Layers {
            precision: "float64".to_owned(),
            probes: 8,
            rows: vec![mix, norm, act, head],
            breaks: vec![Break {
                location: "act".to_owned(),
                call: 0,
                class: "torch.nn.Tanh".to_owned(),
                kind: BreakKind::Module,
                between: None,
                source: Some("activation.py:380".to_owned()),
                own_error: Some(0.38),
                remaining: 1.2e-15,
                factor: "O(3)".to_owned(),
                confidence: Confidence::High,
            }],
            examinations: vec![Examination {
                location: "act.3".to_owned(),
                classes: vec!["torch.nn.modules.activation.Tanh".to_owned()],
                operations: vec!["tanh".to_owned()],
                componentwise: Some(true),
                linear: Some(false),
                placement: Some(Placement::Uniform),
                unread: Some(Unread::Nothing),
                exact_rows: Some(0.25),
                ..Examination::default()
            }],
            skipped: vec!["encoder.big".to_owned()],
            left_out: 2,
            notes: vec![],
        })),
        gradients: Rows::Ran { rows },
        ..failing()
    }
}
