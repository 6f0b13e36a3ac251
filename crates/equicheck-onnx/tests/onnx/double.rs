//! The same graphs in double precision.

use equicheck::model::{Call, CallError, DType, Model, Tensor};
use equicheck_onnx::{Backend, OnnxModel};

use crate::files::{call, cases, difference, open};

/// By model: who computes the double-precision graph when tract, and when ONNX Runtime, had the model; `None`: nobody.
const DOUBLES: [(&str, Option<&str>, Option<&str>); 19] = [
    ("branch", Some("tract"), Some("onnxruntime")),
    ("circular", Some("tract"), Some("tract")),
    ("egnn", Some("tract"), Some("onnxruntime")),
    ("embedding", Some("tract"), Some("onnxruntime")),
    ("external", Some("tract"), Some("onnxruntime")),
    ("functions", Some("tract"), Some("onnxruntime")),
    ("gemm", Some("tract"), Some("onnxruntime")),
    ("gemm_turned", Some("tract"), Some("onnxruntime")),
    ("grid_sample", None, None),
    ("half", Some("tract"), Some("onnxruntime")),
    ("half_inside", None, None),
    ("norm_parts", Some("tract"), Some("onnxruntime")),
    ("norms", Some("onnxruntime"), Some("onnxruntime")),
    ("old", Some("tract"), Some("onnxruntime")),
    ("opset11", Some("tract"), Some("onnxruntime")),
    ("opset9", Some("tract"), Some("onnxruntime")),
    ("overflow", None, None),
    ("resize", None, None),
    ("resize_nearest", None, None),
];

fn doubled(name: &str, backend: Backend, called: bool) -> Result<(OnnxModel, Box<dyn Model>), String> {
    let mut model = open(name, backend);
    if called {
        call(&mut model, &cases(name)[0].inputs);
    }
    let copy = model.double().map_err(|why| why.0)?;
    Ok((model, copy))
}

#[test]
fn double_precision_is_there_where_a_backend_has_all_operators() {
    for (name, tract, runtime) in DOUBLES {
        for (backend, wanted) in Backend::ALL.into_iter().zip([tract, runtime]) {
            match (doubled(name, backend, true), wanted) {
                (Ok((_, copy)), Some(on)) => {
                    assert!(copy.environment().contains_key(on), "{name} with {backend}");
                }
                (Err(_), None) => {}
                (Err(why), Some(_)) => panic!("{name} with {backend}: {why}"),
                (Ok(_), None) => panic!("{name} with {backend} has double precision"),
            }
        }
    }
    // tract has no loop.
    assert!(doubled("loop", Backend::OnnxRuntime, true).is_ok());
}

/// A response in proportion to moves that single precision cannot see is what the engine's proof asks for; here it is
/// compared with the slope at large.
#[test]
fn what_is_computed_is_double_precision_indeed() {
    for (name, tract, runtime) in DOUBLES {
        for (backend, there) in Backend::ALL.into_iter().zip([tract, runtime]) {
            let floats = cases(name)[0].inputs.iter().any(|t| t.dtype().is_inexact());
            if there.is_none() || !floats {
                continue;
            }
            let (_, mut copy) = doubled(name, backend, true).unwrap();
            let inputs: Vec<Tensor> = cases(name)[0].inputs.iter().map(Tensor::double).collect();
            let mut at = |step: f64| {
                let moved: Vec<Tensor> = inputs
                    .iter()
                    .map(|t| {
                        if !t.dtype().is_inexact() {
                            return t.clone();
                        }
                        let mut k = 0.0;
                        let move_one = |v: f64| {
                            k += 1.0;
                            v + step * f64::sin(k)
                        };
                        Tensor::Float64(t.to_real().mapv(move_one))
                    })
                    .collect();
                let outputs = call(&mut *copy, &moved).outputs;
                let tensor = outputs[0].tensor.clone().unwrap();
                assert_eq!(tensor.dtype(), DType::Float64, "{name}");
                tensor.to_real()
            };
            let base = at(0.0);
            let slope = |values: ndarray::ArrayD<f64>, step: f64| (values - &base) / step;
            let (fine, coarse) = (2f64.powi(-32), 2f64.powi(-16));
            let (fine, coarse) = (slope(at(fine), fine), slope(at(coarse), coarse));
            let apart = difference(&Tensor::Float64(fine), &Tensor::Float64(coarse));
            assert!(apart < 1e-3, "{name} with {backend}: the slopes differ by {apart:e}");
        }
    }
}

#[test]
fn functions_in_double_precision_are_good_to_its_last_digits() {
    let (_, mut copy) = doubled("functions", Backend::Tract, true).unwrap();
    let x = ndarray::Array1::linspace(-7.0, 7.0, 281);
    let outputs = call(&mut *copy, &[Tensor::Float64(x.clone().into_dyn())]).outputs;
    let given = |name: &str| {
        let output = outputs.iter().find(|o| o.name == name).unwrap();
        output.tensor.as_ref().unwrap().to_real()
    };
    // The error function by its series (small) and by the continued fraction of its complement (large).
    let erf = |x: f64| {
        let size = x.abs();
        if size < 2.0 {
            let (mut term, mut sum) = (size, size);
            for n in 1..60 {
                term *= -size * size / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return (std::f64::consts::FRAC_2_SQRT_PI * sum).copysign(x);
        }
        let fraction = (1..200).rev().fold(size, |tail, n| size + f64::from(n) / 2.0 / tail);
        (1.0 - (-size * size).exp() / std::f64::consts::PI.sqrt() / fraction).copysign(x)
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
    let (alpha, gamma) = (f64::from(1.673_263_2_f32), f64::from(1.050_701_f32));
    let wanted: [(&str, &dyn Fn(f64) -> f64); 9] = [
        ("erf", &erf),
        ("gelu", &|x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()))),
        ("gelu_tanh", &tanh),
        ("sigmoid", &sigmoid),
        ("hard_swish", &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        ("leaky", &|x| if x < 0.0 { 0.25 * x } else { x }),
        ("elu", &|x| if x < 0.0 { 0.5 * x.exp_m1() } else { x }),
        ("softplus", &|x| x.exp().ln_1p()),
        ("selu", &|x| gamma * if x < 0.0 { alpha * x.exp_m1() } else { x }),
    ];
    for (name, function) in wanted {
        let worst = given(name).iter().zip(&x).map(|(y, x)| (y - function(*x)).abs()).fold(0.0, f64::max);
        assert!(worst < 4e-15, "{name} is {worst:e} off");
    }
}

#[test]
fn functions_in_double_precision_have_their_limits() {
    let (_, mut copy) = doubled("functions", Backend::Tract, true).unwrap();
    let x = ndarray::arr1(&[-1e4, -800.0, 800.0, 1e4, f64::NAN]).into_dyn();
    let outputs = call(&mut *copy, &[Tensor::Float64(x)]).outputs;
    for (name, low, high) in
        [("erf", -1.0, 1.0), ("sigmoid", 0.0, 1.0), ("gelu", -0.0, 1e4), ("softplus", 0.0, 1e4)]
    {
        let values = outputs.iter().find(|o| o.name == name).unwrap().tensor.as_ref().unwrap().to_real();
        assert_eq!((values[0], values[3]), (low, high), "{name}");
        assert!(values[4].is_nan(), "{name}");
    }
}

#[test]
fn what_has_no_double_precision_says_which_operator_at_which_node() {
    for (name, backend, wanted) in [
        ("celu", Backend::OnnxRuntime, "`Celu` at node `bend` is defined in single precision alone"),
        (
            "random_seeded",
            Backend::Tract,
            "`RandomNormal` at node `noise` draws other numbers in another precision",
        ),
        (
            "random",
            Backend::OnnxRuntime,
            "`RandomNormal` at node `noise` draws other numbers in another precision",
        ),
        (
            "grid_sample",
            Backend::Tract,
            "`GridSample` at node `sample`: the embedded backend (tract) computes it in single precision inside; \
             `GridSample` at node `sample`: ONNX Runtime computes it in single precision inside",
        ),
    ] {
        let why = open(name, backend).double().err().unwrap().0;
        assert_eq!(why, wanted, "{name}");
    }
}

#[test]
fn a_copy_that_was_made_before_any_call_is_checked_on_its_first() {
    for backend in Backend::ALL {
        let (mut model, mut copy) = doubled("egnn", backend, false).unwrap();
        let case = &cases("egnn")[1];
        let inputs: Vec<Tensor> = case.inputs.iter().map(Tensor::double).collect();
        let long = call(&mut *copy, &inputs).outputs;
        for (short, long) in call(&mut model, &case.inputs).outputs.iter().zip(&long) {
            let (short, long) = (short.tensor.as_ref().unwrap(), long.tensor.as_ref().unwrap());
            assert_eq!(long.dtype(), DType::Float64);
            assert!(difference(short, long) < 1e-5);
        }
    }
}

#[test]
fn a_copy_that_is_another_function_is_refused() {
    for backend in Backend::ALL {
        let why = doubled("overflow", backend, true).err().unwrap();
        assert!(why.contains("output `y` in double precision"), "{why}");
        assert!(why.contains("differs by 1.0e0: it is another function there"), "{why}");
        let (_, mut copy) = doubled("overflow", backend, false).unwrap();
        let inputs = [cases("overflow")[0].inputs[0].double()];
        let call = Call { sample: 0, inputs: &inputs, reset_generators: true, restore_state: true };
        // Each time: it never becomes the same one.
        for _ in 0..2 {
            let CallError::Raised(why) = copy.forward(&call).unwrap_err() else {
                panic!("nobody interrupts")
            };
            assert!(why.contains("it is another function there"), "{why}");
        }
    }
}

/// A copy that does not round where the graph does would call the rounding's effects exact.
#[test]
fn a_graph_that_rounds_to_half_precision_inside_has_no_double() {
    let Err(why) = doubled("half_inside", Backend::Tract, true) else { panic!("it was doubled") };
    assert!(why.contains("rounds to float16 inside, at node `"), "{why}");
}

#[test]
fn state_of_a_double_precision_copy_can_be_written_too() {
    let (_, mut copy) = doubled("egnn", Backend::Tract, true).unwrap();
    let state = copy.state().unwrap();
    assert!(state.iter().all(|s| s.tensor.dtype() == DType::Float64));
    let k = state.iter().position(|s| s.name == "embed.weight").unwrap();
    let inputs: Vec<Tensor> = cases("egnn")[0].inputs.iter().map(Tensor::double).collect();
    let before = call(&mut *copy, &inputs).outputs[1].tensor.clone().unwrap();
    let moved = Tensor::Float64(state[k].tensor.to_real() * (1.0 + 1e-12));
    let mut other = copy.with_state(&[(k, moved)]).unwrap();
    let after = call(&mut *other, &inputs).outputs[1].tensor.clone().unwrap();
    let apart = difference(&before, &after);
    assert!(apart > 0.0 && apart < 1e-10, "{apart:e}");
}
