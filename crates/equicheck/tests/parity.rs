//! An export beside its source: what is rounding, what is another function, what is no answer.

#![expect(clippy::unnecessary_wraps, reason = "one signature for models that answer and models that do not")]

use std::collections::BTreeMap;

use equicheck::Error;
use equicheck::audit::{Parity, parity};
use equicheck::model::{Call, CallError, Model, ModelInfo, Output, Returned, Samples, Tensor};
use equicheck::report::Verdict;
use ndarray::{ArrayD, IxDyn};

type Outputs = Result<Vec<Tensor>, String>;
type Map = fn(&ArrayD<f64>) -> Outputs;

/// A model that is a function of its one input.
struct Function(Map);

impl Model for Function {
    fn info(&self) -> ModelInfo {
        ModelInfo::default()
    }

    fn environment(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
        let outputs = (self.0)(&call.inputs[0].to_real()).map_err(CallError::Raised)?;
        let named = outputs.into_iter().enumerate().map(|(k, tensor)| Output {
            name: format!("y{k}"),
            positional: false,
            tensor: Some(tensor),
        });
        Ok(Returned { outputs: named.collect(), written_inputs: Vec::new() })
    }
}

struct Rows;

impl Samples for Rows {
    fn count(&self) -> Option<usize> {
        Some(3)
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        let value = |k: usize| (1.0 + index as f64 + 0.3 * k as f64).sin();
        Ok(vec![single((0..5).map(value))])
    }
}

fn single(values: impl IntoIterator<Item = f64>) -> Tensor {
    let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    Tensor::Float32(ArrayD::from_shape_vec(IxDyn(&[values.len()]), values).unwrap())
}

fn whole(values: Vec<i64>) -> Tensor {
    Tensor::Int64(ArrayD::from_shape_vec(IxDyn(&[values.len()]), values).unwrap())
}

fn source(x: &ArrayD<f64>) -> Outputs {
    Ok(vec![single(x.iter().map(|v| v.exp())), whole(vec![x.len() as i64])])
}

fn scaled(x: &ArrayD<f64>, factor: f64) -> Outputs {
    Ok(vec![single(x.iter().map(|v| factor * v.exp())), whole(vec![x.len() as i64])])
}

fn compared(export: Map) -> Parity {
    parity(&mut Function(source), &mut Function(export), &mut Rows, 10, 0).unwrap()
}

#[test]
fn the_size_of_the_difference_decides() {
    let verdicts = |export| {
        let parity = compared(export);
        assert_eq!(parity.samples, 3);
        assert_eq!(parity.verdict, parity.rows[0].verdict);
        assert_eq!(parity.rows[1].verdict, Verdict::Pass);
        (parity.verdict, parity.rows[0].max_relative)
    };
    assert_eq!(verdicts(source), (Verdict::Pass, 0.0));
    // A unit in the last place: sums in another order.
    let (verdict, error) = verdicts(|x| scaled(x, 1.0 + 1e-7));
    assert!(verdict == Verdict::Pass && error < 2e-7, "{error}");
    let (verdict, error) = verdicts(|x| scaled(x, 1.001));
    assert!(verdict == Verdict::NeedsAttention && (error - 1e-3).abs() < 1e-6, "{error}");
    let (verdict, error) = verdicts(|x| scaled(x, 1.1));
    assert!(verdict == Verdict::Fail && (error - 0.1).abs() < 1e-6, "{error}");
}

#[test]
fn what_no_number_describes_fails_and_says_why() {
    let cases: [(Map, &str); 5] = [
        (|x| Ok(source(x)?[..1].to_vec()), "the export has no such output"),
        (|x| Ok([source(x)?, vec![single([1.0])]].concat()), "the source has no such output"),
        (
            |x| Ok(vec![single([1.0; 4]), source(x)?.remove(1)]),
            "the export's output has shape [4], the source's [5]",
        ),
        (|x| scaled(x, f64::NAN), "one of the outputs is not finite where the other is"),
        (|x| Ok(vec![source(x)?.remove(0), whole(vec![x.len() as i64 + 1])]), "rounding does not explain it"),
    ];
    for (export, why) in cases {
        let parity = compared(export);
        assert_eq!(parity.verdict, Verdict::Fail, "{why}");
        assert!(parity.rows.iter().any(|row| row.reason.contains(why)), "{why}: {:?}", parity.rows);
    }
}

/// A runtime that cannot run a graph says nothing about whether the graph is right.
#[test]
fn an_export_that_cannot_be_run_is_no_different_function() {
    let never: Map = |_| Err("no such operator".to_owned());
    let error = parity(&mut Function(source), &mut Function(never), &mut Rows, 10, 0).unwrap_err();
    assert_eq!(error, Error::ExportFails { sample: 0, why: "no such operator".to_owned() });
    // The second sample begins with sin(2), the largest.
    let partly: Map = |x| if x[0] > 0.9 { Err("too large".to_owned()) } else { source(x) };
    let parity = compared(partly);
    assert_eq!((parity.samples, parity.verdict), (2, Verdict::Pass));
    assert_eq!(parity.failures, [(1, "too large".to_owned())]);
}

/// A source that multiplies rounding cannot be told from another function: that is for a person to see.
#[test]
fn amplified_rounding_is_no_pass() {
    fn amplifying(x: &ArrayD<f64>) -> Outputs {
        Ok(vec![single(x.iter().map(|v| (1e5 * v).sin()))])
    }
    fn export(x: &ArrayD<f64>) -> Outputs {
        Ok(vec![single(x.iter().map(|v| (1e5 * (v + 5e-9)).sin()))])
    }
    let parity = parity(&mut Function(amplifying), &mut Function(export), &mut Rows, 3, 0).unwrap();
    assert_eq!(parity.verdict, Verdict::NeedsAttention);
    assert!(parity.rows[0].reason.contains("the model amplifies it"), "{:?}", parity.rows);
    assert_eq!(parity.double, Err("the host has no double-precision copy of a model".to_owned()));
}
