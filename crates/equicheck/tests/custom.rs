//! Custom actions: the verdict of a group by name, and laws that are checked before the model.

use std::collections::BTreeMap;
use std::rc::Rc;

use equicheck::audit::{Options, Specification};
use equicheck::model::{
    Call, CallError, CustomAction, CustomElement, DType, Model, ModelInfo, Output, Returned, Samples, Tensor,
};
use equicheck::report::{Report, SymmetryType, Verdict};
use equicheck::symmetry::Group;
use equicheck::{Error, audit};
use ndarray::{Array2, ArrayD, Ix2, array};

/// Points `n x 3` to a vector per point, and the sum of squared lengths.
#[derive(Clone, Copy)]
struct Pull {
    /// Share of a constant direction in it: no symmetry for anything but 0.
    wrong: f64,
}

impl Model for Pull {
    fn info(&self) -> ModelInfo {
        ModelInfo::default()
    }

    fn environment(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
        let tensor = &call.inputs[0];
        let x = tensor.to_real().into_dimensionality::<Ix2>().expect("points have two axes");
        let squares: f64 = x.iter().map(|v| v * v).sum();
        let y = &x * squares.sqrt() + array![[self.wrong, 0.0, 0.0]];
        let output = |name: &str, values: ArrayD<f64>| Output {
            name: name.to_owned(),
            positional: false,
            tensor: Some(Tensor::from_real(values, tensor.dtype())),
        };
        Ok(Returned {
            outputs: vec![output("force", y.into_dyn()), output("energy", ndarray::arr0(squares).into_dyn())],
            written_inputs: Vec::new(),
        })
    }

    fn double(&mut self) -> Result<Box<dyn Model>, equicheck::model::Unavailable> {
        Ok(Box::new(*self))
    }
}

struct Points;

impl Samples for Points {
    fn count(&self) -> Option<usize> {
        Some(3)
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        let x = Array2::from_shape_fn((4, 3), |(i, k)| ((7 * i + 3 * k + 5 * index) as f64).sin() + 0.3);
        Ok(vec![Tensor::from_real(x.into_dyn(), DType::Float32)])
    }
}

/// What may be wrong with a loop over rotations.
#[derive(Clone, Copy, PartialEq)]
enum Slip {
    None,
    /// `output` acts by the inverse.
    InverseOnOutputs,
    /// `compose(T, S)` is `S T`.
    Swapped,
    /// Matrices in single precision.
    Single,
    /// The identity is a rotation.
    WrongIdentity,
    /// `input` does nothing.
    Idle,
}

/// Rotations of row vectors.
struct Rotations(Slip);

/// The rotation of a unit quaternion made of the key's digits.
fn rotation(key: u64) -> Array2<f64> {
    let digit = |k: u32| ((key >> (16 * k)) & 0xffff) as f64 / 32768.0 - 1.0;
    let q = [digit(0), digit(1), digit(2), digit(3)];
    let length = q.iter().map(|v| v * v).sum::<f64>().sqrt();
    let [w, x, y, z] = q.map(|v| v / length);
    array![
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
}

impl Rotations {
    fn matrix(&self, element: CustomElement) -> Array2<f64> {
        let drawn = |key| {
            let exact = rotation(key);
            if self.0 == Slip::Single { exact.mapv(|v| f64::from(v as f32)) } else { exact }
        };
        match element {
            CustomElement::Identity if self.0 == Slip::WrongIdentity => rotation(0x8000_8000_8100_f000),
            CustomElement::Identity => Array2::eye(3),
            CustomElement::Drawn(key) => drawn(key),
            CustomElement::Inverse(key) => drawn(key).t().to_owned(),
            CustomElement::Product(t, s) if self.0 == Slip::Swapped => drawn(s).dot(&drawn(t)),
            CustomElement::Product(t, s) => drawn(t).dot(&drawn(s)),
        }
    }
}

fn turned(tensor: &Tensor, matrix: &Array2<f64>) -> Tensor {
    let rows = tensor.to_real().into_dimensionality::<Ix2>().expect("vectors have two axes");
    Tensor::from_real(rows.dot(&matrix.t()).into_dyn(), tensor.dtype())
}

impl CustomAction for Rotations {
    fn name(&self) -> String {
        "rotations".to_owned()
    }

    fn has_identity(&self) -> bool {
        true
    }

    fn has_inverse(&self) -> bool {
        true
    }

    fn has_compose(&self) -> bool {
        true
    }

    fn act_on_inputs(
        &self,
        element: CustomElement,
        _sample: usize,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, Error> {
        assert!(inputs.iter().all(|tensor| tensor.dtype() == DType::Float64), "in double precision");
        if self.0 == Slip::Idle {
            return Ok(inputs.to_vec());
        }
        Ok(inputs.iter().map(|tensor| turned(tensor, &self.matrix(element))).collect())
    }

    fn act_on_outputs(
        &self,
        element: CustomElement,
        outputs: &[(&str, Tensor)],
    ) -> Result<Vec<Tensor>, Error> {
        let matrix = self.matrix(element);
        let matrix = if self.0 == Slip::InverseOnOutputs { matrix.t().to_owned() } else { matrix };
        Ok(outputs
            .iter()
            .map(|(name, tensor)| if *name == "force" { turned(tensor, &matrix) } else { tensor.clone() })
            .collect())
    }
}

fn run(specification: &Specification, wrong: f64) -> Result<Report, Error> {
    let options = Options { transforms: Some(6), ..Options::default() };
    audit(specification, &options, &mut Pull { wrong }, &mut Points, &mut |_| {})
}

fn by_functions(slip: Slip, wrong: f64) -> Result<Report, Error> {
    run(&Specification::custom(Rc::new(Rotations(slip)), &["x".to_owned()], &[]), wrong)
}

#[track_caller]
fn refused(slip: Slip) -> String {
    by_functions(slip, 0.0).expect_err("the action is wrong").to_string()
}

#[test]
fn the_verdict_is_that_of_the_group() {
    let named = |name: &str, layout: &str| (name.to_owned(), Some(layout.to_owned()));
    let outputs = [named("force", "4 vector"), named("energy", "")];
    let group = Specification::parse("SO(3)", &[named("x", "4 vector")], &outputs).unwrap();
    for (wrong, verdict) in [(0.0, Verdict::Pass), (0.1, Verdict::Fail)] {
        let reports = [run(&group, wrong).unwrap(), by_functions(Slip::None, wrong).unwrap()];
        for report in &reports {
            assert_eq!(report.verdict, verdict, "{}: {report:#?}", report.group);
            let kinds: Vec<SymmetryType> = report.outputs.iter().map(|o| o.symmetry_type).collect();
            assert_eq!(kinds, [SymmetryType::Equivariant, SymmetryType::Invariant], "{}", report.group);
            assert_eq!(report.outputs[1].verdict, Verdict::Pass, "{report:#?}");
        }
        // Relative to the same scale, and the worst of as many elements.
        let ratio = reports[1].outputs[0].scaled_max / reports[0].outputs[0].scaled_max;
        assert!((0.2..5.0).contains(&ratio), "{ratio}");
    }
}

#[test]
fn what_is_left_out_is_not_audited() {
    let action = Rc::new(Rotations(Slip::None));
    let report = run(&Specification::custom(action, &["x".to_owned()], &["force".to_owned()]), 0.1).unwrap();
    assert_eq!(report.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["energy"]);
    assert_eq!(report.not_audited, ["force"]);
    assert_eq!(report.verdict, Verdict::Pass, "{report:#?}");
}

#[test]
fn broken_laws_are_errors_before_the_model_is_blamed() {
    let message = refused(Slip::InverseOnOutputs);
    assert!(message.contains("`output(y, T)` does not follow `compose`"), "{message}");
    assert!(message.contains("as if T were its inverse"), "{message}");
    let message = refused(Slip::Swapped);
    assert!(message.contains("swap its arguments"), "{message}");
    let message = refused(Slip::WrongIdentity);
    assert!(message.contains("input(x, identity()) is not x"), "{message}");
    let message = refused(Slip::Single);
    assert!(message.contains("single precision"), "{message}");
    let message = refused(Slip::Idle);
    assert!(message.contains("moves no input"), "{message}");
}

#[test]
fn the_name_is_the_group() {
    let group = Group::custom("rotations");
    assert_eq!(group.to_string(), "rotations");
    assert_eq!(group.factors().iter().map(ToString::to_string).collect::<Vec<_>>(), ["rotations"]);
    assert_eq!(group.dimension(), None);
}
