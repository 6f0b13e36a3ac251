//! Tensors inside a graph.

use equicheck::Error;
use equicheck::audit::{self, Options, Precision, Specification};
use equicheck::model::{
    Call, CallError, DType, Model, Patch, Samples, Tensor, Trace, TracedLeaf, Tracing, Unavailable,
};
use equicheck::report::{BreakKind, Confidence, LayerRow, LayerVerdict, Layers, Report, Verdict};
use equicheck_onnx::{Backend, OnnxError};
use ndarray::Array2;

use crate::files::{call, cases, difference, open};

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

/// Vectors, another number of them each time.
struct Vectors;

impl Samples for Vectors {
    fn count(&self) -> Option<usize> {
        Some(3)
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        let wave = |i: usize, k: usize| ((7 * i + 3 * k + 31 * index) as f64 * 12.9898).sin() * 1.3;
        let values = Array2::from_shape_fn((4 + index, 3), |(i, k)| wave(i, k));
        Ok(vec![Tensor::from_real(values.into_dyn(), DType::Float32)])
    }
}

fn audited(name: &str, backend: Backend, precision: Precision) -> Report {
    let layout = |name: &str, text: &str| (name.to_owned(), Some(text.to_owned()));
    let outputs = [layout("y", "nodes vector"), layout("energy", "")];
    let specification =
        Specification::parse("O(3) x S(nodes)", &[layout("x", "nodes vector")], &outputs).unwrap();
    let options =
        Options { transforms: Some(6), budget: None, precision, gradients: true, ..Options::default() };
    let mut model = open(name, backend);
    audit::audit(&specification, &options, &mut model, &mut Vectors, &mut |_| ()).unwrap()
}

fn layers(report: &Report) -> &Layers {
    report.layers.layers().unwrap_or_else(|| panic!("{:?}", report.layers))
}

fn row<'a>(layers: &'a Layers, location: &str) -> &'a LayerRow {
    let known: Vec<&str> = layers.rows.iter().map(|row| row.location.as_str()).collect();
    layers.rows.iter().find(|row| row.location == location).unwrap_or_else(|| panic!("{location}: {known:?}"))
}

const EVERYWHERE: [(Backend, Precision); 4] = [
    (Backend::Tract, Precision::AsIs),
    (Backend::Tract, Precision::Both),
    (Backend::OnnxRuntime, Precision::AsIs),
    (Backend::OnnxRuntime, Precision::Both),
];

#[test]
fn a_planted_break_is_found_at_its_node() {
    for (backend, precision) in EVERYWHERE {
        let report = audited("bend", backend, precision);
        assert_eq!(report.verdict, Verdict::Fail);
        let layers = layers(&report);
        assert_eq!(layers.precision.is_empty(), precision == Precision::AsIs);
        let [found] = layers.breaks.as_slice() else {
            panic!("{backend}, {precision:?}: {:?}", layers.breaks)
        };
        assert_eq!(
            (found.location.as_str(), found.class.as_str()),
            ("bend", "Tanh"),
            "{backend}, {precision:?}"
        );
        assert_eq!((found.kind, found.confidence), (BreakKind::Module, Confidence::High));
        assert_eq!(row(layers, "bend").verdict, LayerVerdict::Breaks);
        assert_eq!(row(layers, "gate").verdict, LayerVerdict::Ok);
    }
}

#[test]
fn a_healthy_graph_has_no_break_and_every_node_is_called_again_bit_for_bit() {
    for (backend, precision) in EVERYWHERE {
        let report = audited("gated", backend, precision);
        let layers = layers(&report);
        assert!(layers.breaks.is_empty(), "{:?}", layers.breaks);
        let noted: Vec<_> = layers.rows.iter().filter(|row| row.note.is_some()).collect();
        // Squares of components are no vector, and all of them together are none either.
        let unfit = |row: &&&LayerRow| row.verdict == LayerVerdict::NotKnown;
        assert!(noted.iter().all(|row| unfit(&row)), "{backend}, {precision:?}: {noted:?}");
        for location in ["first", "gated", "bend", "last"] {
            let own = row(layers, location).own_error.unwrap_or_else(|| panic!("{backend}: {location}"));
            assert!(own < 1e-5, "{location}: {own:e}");
        }
        // Shapes are arguments, and nothing that would be judged.
        assert!(layers.rows.iter().all(|row| row.location != "shape"));
        let gradients = format!("{:?}", report.gradients);
        assert!(gradients.contains("an ONNX graph has no gradients: audit the model that"), "{gradients}");
    }
}

#[test]
fn modules_of_the_exporter_are_calls_around_their_nodes() {
    for backend in Backend::ALL {
        let report = audited("bend_scoped", backend, Precision::Both);
        let layers = layers(&report);
        let [found] = layers.breaks.as_slice() else { panic!("{:?}", layers.breaks) };
        // A module of one node is that node.
        assert_eq!((found.location.as_str(), found.class.as_str()), ("head.bend", "torch.nn.Tanh"));
        assert_eq!(found.source.as_deref(), Some("/src/net.py:12"));
        let act = row(layers, "layers.0.act");
        assert_eq!((act.class.as_str(), act.verdict), ("net.Act", LayerVerdict::Ok));
        assert!(act.own_error.is_some_and(|own| own < 1e-12), "{act:?}");
        let names = |row: &LayerRow| -> (Vec<String>, Vec<String>) {
            let of = |tensors: &[equicheck::report::HiddenTensor]| {
                tensors.iter().map(|t| t.name.clone()).collect()
            };
            (of(&row.inputs), of(&row.outputs))
        };
        // What goes on from there are the gates and the vectors.
        assert_eq!(names(act), (vec!["p".to_owned()], vec!["g".to_owned(), "h".to_owned()]));
        assert_eq!(row(layers, "layers.0.act/gate").class, "Sigmoid");
        assert_eq!(row(layers, "last").class, "Add");
    }
}

fn traced(model: &mut dyn Tracing, inputs: &[Tensor], patches: &[Patch], limit: usize) -> Trace {
    let call = Call { sample: 0, inputs, reset_generators: true, restore_state: true };
    model.trace(&call, patches, limit, true).unwrap()
}

/// Modules too, whose nodes a backend would make one of if it were let.
#[test]
fn every_call_is_made_again_bit_for_bit() {
    for (name, least) in [("egnn", 50), ("block", 5)] {
        for (backend, double) in Backend::ALL.into_iter().flat_map(|b| [(b, false), (b, true)]) {
            let mut model = open(name, backend);
            let mut inputs = cases(name).remove(0).inputs;
            let wanted = call(&mut model, &inputs);
            let mut copy;
            let model: &mut dyn Model = if double {
                inputs = inputs.iter().map(Tensor::double).collect();
                copy = model.double().unwrap();
                copy.as_mut()
            } else {
                &mut model
            };
            let tracing = model.tracing().unwrap();
            let trace = traced(tracing, &inputs, &[], usize::MAX);
            for (own, wanted) in trace.outputs.iter().zip(&wanted.outputs) {
                assert_eq!(own.name, wanted.name);
                let (own, wanted) = (own.tensor.as_ref().unwrap(), wanted.tensor.as_ref().unwrap());
                assert!(difference(own, wanted) < 1e-5);
            }
            assert!(trace.calls.len() > least);
            let values = |leaf: &TracedLeaf| trace.tensors[leaf.tensor].values.clone().unwrap();
            for (k, module) in trace.calls.iter().enumerate().skip(1) {
                let given: Vec<Tensor> = module.inputs.iter().map(values).collect();
                let again = tracing.replay(k, &given);
                let again = again.unwrap_or_else(|error| panic!("{backend}: {}: {error:?}", module.path));
                let same = again.iter().zip(module.outputs.iter().map(values)).all(|(a, b)| a.same_bits(&b));
                let whole = again.len() == module.outputs.len();
                assert!(same && whole, "{backend}, double {double}: {}", module.path);
            }
        }
    }
}

#[test]
fn what_is_put_into_the_place_of_a_tensor_is_what_the_graph_goes_on_with() {
    for backend in Backend::ALL {
        let mut model = open("bend", backend);
        let inputs = cases("bend").remove(0).inputs;
        let real = |trace: &Trace, name: &str| {
            trace.outputs.iter().find(|o| o.name == name).unwrap().tensor.as_ref().unwrap().to_real()
        };
        let x = inputs[0].to_real();
        let values = Tensor::from_real(x.mapv(|v| 2.0 * v), DType::Float32);
        let patch = |path: &str, input: bool, leaf: &str| Patch::Overwrite {
            path: path.to_owned(),
            number: 0,
            input,
            leaf: leaf.to_owned(),
            values: values.clone(),
        };
        let tracing = model.tracing().unwrap();
        let trace = traced(tracing, &inputs, &[patch("bend", false, "")], usize::MAX);
        assert!((real(&trace, "y") - x.mapv(|v| 3.0 * v)).iter().all(|v| v.abs() < 1e-6), "{backend}");
        let bend = trace.calls.iter().find(|call| call.path == "bend").unwrap();
        assert_eq!(trace.tensors[bend.outputs[0].tensor].values.as_ref(), Some(&values));
        // Into one of the two that use it, and together with another.
        let trace =
            traced(tracing, &inputs, &[patch("bend", true, "u"), patch("last", true, "x")], usize::MAX);
        assert!((real(&trace, "y") - x.mapv(|v| (2.0 * v).tanh() + 2.0 * v)).iter().all(|v| v.abs() < 1e-6));
        // What goes into the square does not go into the product.
        let before = real(&traced(tracing, &inputs, &[], usize::MAX), "y");
        let trace = traced(tracing, &inputs, &[patch("square", true, "p")], usize::MAX);
        let gate = |row: usize| {
            let squares = x.outer_iter().nth(row).unwrap().mapv(|v| 4.0 * v * v).sum();
            1.0 / (1.0 + (-squares.sqrt()).exp())
        };
        let bent = ndarray::ArrayD::from_shape_fn(x.shape(), |at| {
            // 1.7 is the scale of the file; the first factor of the square is replaced as well as the second.
            (1.7 * x[&at] * gate(at[0])).tanh() + x[&at]
        });
        assert!((real(&trace, "y") - &bent).iter().all(|v| v.abs() < 1e-5), "{backend}");
        assert!((before - bent).iter().any(|v| v.abs() > 1e-2));
        // A turn there and back is none, and what has no room is not kept.
        let turn = Patch::Conjugate { path: "gated".to_owned(), number: 0, inputs: vec![], outputs: vec![] };
        let room = inputs[0].len() * 4;
        let trace = traced(tracing, &inputs, &[turn], room);
        let kept: Vec<usize> =
            (0..trace.tensors.len()).filter(|k| trace.tensors[*k].values.is_some()).collect();
        assert_eq!(kept, [0]);
        assert_eq!(trace.tensors[1].shape, inputs[0].shape());
    }
}

#[test]
fn random_numbers_inside_are_said_and_not_watched() {
    let mut model = open("random", Backend::OnnxRuntime);
    let Err(Unavailable(why)) = model.tracing().map(|_| ()) else { panic!("it is watched") };
    assert!(why.contains("draws random numbers (`RandomNormal`)"), "{why}");
    let mut model = open("bend", Backend::Tract);
    let tracing = model.tracing().unwrap();
    assert_eq!(tracing.replay(1, &[]), Err(CallError::Raised("no pass was kept".to_owned())));
}
