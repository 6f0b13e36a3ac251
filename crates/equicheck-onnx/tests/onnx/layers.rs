//! Tensors inside a graph.

use equicheck::model::Tensor;
use equicheck_onnx::{Backend, OnnxError};

use crate::files::{call, cases, open};

#[test]
fn an_exposed_tensor_has_the_value_that_the_graph_goes_on_with() {
    for backend in Backend::ALL {
        let model = open("opset13", backend);
        assert_eq!(model.intermediates(), ["y", "s", "z"]);
        let mut exposed = model.exposing(&["y", "z"]).unwrap();
        let names: Vec<&str> = exposed.outputs().iter().map(|port| port.name.as_str()).collect();
        assert_eq!(names, ["out", "y", "z"]);
        for case in cases("opset13") {
            let outputs = call(&mut exposed, &case.inputs).outputs;
            let real = |k: usize| outputs[k].tensor.as_ref().unwrap().to_real();
            // Swish of what the first layer gives, whatever that is.
            let swish = real(1).mapv(|v| v / (1.0 + (-v).exp()));
            assert_eq!(swish.shape(), real(2).shape());
            assert!((&swish - &real(2)).iter().all(|v| v.abs() < 1e-6), "{backend}");
            assert!(swish.iter().any(|v| v.abs() > 0.1));
            // What was an output stays what it was.
            let wanted = case.outputs[0].1.to_real();
            assert!((&real(0) - &wanted).iter().all(|v| v.abs() < 1e-5), "{backend}");
        }
    }
}

/// The graph of a network, with shapes that are known at the time of the call alone.
#[test]
fn every_tensor_of_an_exported_network_can_be_exposed_at_once() {
    for backend in Backend::ALL {
        let model = open("egnn", backend);
        let names: Vec<String> = model.intermediates().iter().map(|name| (*name).to_owned()).collect();
        assert!(names.len() > 50);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut exposed = model.exposing(&names).unwrap();
        let case = &cases("egnn")[0];
        let outputs = call(&mut exposed, &case.inputs).outputs;
        assert_eq!(outputs.len(), 2 + names.len());
        let first = |name: &str| outputs.iter().find(|o| o.name == name).unwrap().tensor.clone().unwrap();
        // The first tensor of the graph: an embedding of five nodes.
        let embedded = names.iter().find(|name| first(name).shape() == [5, 16]).unwrap();
        assert!(matches!(first(embedded), Tensor::Float32(_)));
    }
}

#[test]
fn outputs_are_exposed_once_and_strangers_are_refused_with_the_nearest_name() {
    let model = open("opset13", Backend::Tract);
    assert_eq!(model.exposing(&["out", "y", "y"]).unwrap().outputs().len(), 2);
    let OnnxError::UnknownTensor { name, nearest } = model.exposing(&["Z"]).unwrap_err() else { panic!() };
    assert_eq!((name.as_str(), nearest.is_some()), ("Z", true));
    // Inputs and parameters are known to the caller.
    for name in ["x", "w"] {
        assert!(matches!(model.exposing(&[name]), Err(OnnxError::UnknownTensor { .. })));
    }
}
