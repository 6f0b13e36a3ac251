//! Initializers and constants as the state of a model.

use equicheck::model::{Model, StateKind, Tensor};
use equicheck_onnx::Backend;

use crate::files::{call, cases, difference, open};

#[test]
fn the_state_is_what_rounding_may_move() {
    let mut model = open("egnn", Backend::Tract);
    let state = model.state().unwrap();
    // Weights and biases; exponents, zeros and indices are whole numbers.
    assert_eq!(state.len(), 28);
    assert!(state.iter().all(|s| s.kind == StateKind::Parameter));
    assert!(state.iter().any(|s| s.name == "embed.weight" && s.tensor.shape() == [16, 4]));

    // A number of the code, which the exporter rounded, is a constant; what is trained has axes.
    let leak = open("egnn_leak", Backend::Tract).state().unwrap();
    let (numbers, weights): (Vec<_>, Vec<_>) = leak.iter().partition(|s| s.tensor.shape().is_empty());
    assert!(numbers.len() == 1 && numbers[0].kind == StateKind::Constant, "{numbers:?}");
    assert!(weights.iter().all(|s| s.kind == StateKind::Parameter));

    // Scales of a resize decide shapes.
    let names = |name: &str| -> Vec<String> {
        open(name, Backend::Tract).state().unwrap().iter().map(|s| s.name.clone()).collect()
    };
    assert_eq!(names("resize"), ["w"]);
    // Constants of branches and bodies of loops count.
    assert_eq!(names("branch"), ["else_c", "then_c"]);
    let body = open("loop", Backend::OnnxRuntime).state().unwrap();
    assert_eq!(body.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["factor"]);
    let kinds: Vec<StateKind> =
        open("branch", Backend::Tract).state().unwrap().iter().map(|s| s.kind).collect();
    assert_eq!(kinds, [StateKind::Constant, StateKind::Constant]);
}

#[test]
fn another_state_gives_the_outputs_that_it_must_and_leaves_the_model_alone() {
    for backend in Backend::ALL {
        let case = &cases("opset13")[0];
        let mut model = open("opset13", backend);
        let state = model.state().unwrap();
        let k = state.iter().position(|s| s.name == "v").unwrap();
        let doubled = Tensor::from_real(state[k].tensor.to_real() * 2.0, state[k].tensor.dtype());
        let mut other = model.with_state(&[(k, doubled.clone())]).unwrap();
        let first = |model: &mut dyn Model| call(model, &case.inputs).outputs[0].tensor.clone().unwrap();
        let wanted = &case.outputs[0].1;
        // The last layer is linear in it.
        assert!(difference(&first(&mut *other), &Tensor::Float64(wanted.to_real() * 2.0)) < 1e-6);
        assert!(difference(&first(&mut model), wanted) < 1e-6);
        assert_eq!(other.state().unwrap()[k].tensor, doubled);
        assert_eq!(model.state().unwrap()[k].tensor, state[k].tensor);

        // In a subgraph too: a branch multiplies by it.
        let mut model = open("branch", backend);
        let zero = Tensor::Float32(ndarray::arr0(0.0_f32).into_dyn());
        let mut other = model.with_state(&[(0, zero)]).unwrap();
        for (case, wanted) in cases("branch").iter().zip([false, true]) {
            let values = call(&mut *other, &case.inputs).outputs[0].tensor.as_ref().unwrap().to_real();
            assert_eq!(values.iter().all(|v| *v == 0.0), wanted, "{backend}: {values}");
        }
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_in_words() {
    let mut model = open("opset13", Backend::Tract);
    let refusal = |model: &mut dyn Model, k, tensor| model.with_state(&[(k, tensor)]).err().unwrap().0;
    let wrong = Tensor::Float32(ndarray::arr1(&[1.0_f32]).into_dyn());
    let text = refusal(&mut model, 0, wrong.clone());
    assert_eq!(text, "`w` is float32 of shape [5, 3]: float32 of shape [1] was given");
    assert!(refusal(&mut model, 7, wrong).contains("there is no 7"));
    let state = model.state().unwrap();
    assert!(refusal(&mut model, 0, state[0].tensor.double()).contains("float64 of shape [5, 3]"));
}
