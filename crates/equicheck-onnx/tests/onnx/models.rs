//! Both backends give what the references give.

use equicheck::model::{Model, Tensor};
use equicheck_onnx::{Backend, Description, Dim, OnnxModel};

use crate::files::{call, cases, data, difference, open, options};

/// Every committed model with a reference, and whether tract and ONNX Runtime compute it.
const MODELS: [(&str, bool, bool); 35] = [
    ("bend", true, true),
    ("bend_scoped", true, true),
    ("block", true, true),
    ("branch", true, true),
    ("celu", false, true),
    ("circular", true, true),
    ("det", false, true),
    ("egnn", true, true),
    ("egnn_leak", true, true),
    ("embedding", true, true),
    ("external", true, true),
    ("function", false, true),
    ("functions", true, true),
    ("gated", true, true),
    ("gemm", true, true),
    ("gemm_turned", true, true),
    ("grid_sample", true, true),
    ("gru_reverse", false, true),
    ("half", true, true),
    ("half_inside", true, true),
    ("integers", true, true),
    ("loop", false, true),
    ("norm_parts", true, true),
    ("norms", true, true),
    ("old", true, true),
    ("opset11", true, true),
    ("opset13", true, true),
    ("opset17", true, true),
    ("opset21", true, true),
    ("opset23", true, true),
    ("opset9", true, true),
    ("overflow", true, true),
    ("resize", true, true),
    ("resize_nearest", true, true),
    ("swish", false, false),
];

fn agrees(name: &str, backend: Backend) {
    let mut model = open(name, backend);
    // Twice: the second call of a shape finds a plan.
    for case in cases(name).iter().chain(&cases(name)) {
        let returned = call(&mut model, &case.inputs);
        assert!(returned.written_inputs.is_empty());
        let names: Vec<&str> = returned.outputs.iter().map(|output| output.name.as_str()).collect();
        let wanted: Vec<&str> = case.outputs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, wanted, "{name} with {backend}");
        for (output, (path, wanted)) in returned.outputs.iter().zip(&case.outputs) {
            let tensor = output.tensor.as_ref().unwrap();
            assert_eq!(tensor.dtype(), wanted.dtype(), "{name} with {backend}: {path}");
            let roundoff = wanted.dtype().unit_roundoff().unwrap_or(0.0);
            let apart = difference(tensor, wanted);
            assert!(apart <= 16.0 * roundoff, "{name} with {backend}: {path} is {apart:e} off");
        }
    }
}

#[test]
fn every_committed_model_is_listed() {
    let mut names: Vec<String> = std::fs::read_dir(data(""))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    let mut listed: Vec<&str> = MODELS.iter().map(|(name, ..)| *name).chain(["zeros"]).collect();
    listed.sort_unstable();
    assert_eq!(names, listed);
}

#[test]
fn tract_gives_what_the_references_give() {
    for (name, ..) in MODELS.iter().filter(|(_, tract, _)| *tract) {
        agrees(name, Backend::Tract);
    }
}

#[test]
fn onnx_runtime_gives_what_the_references_give() {
    for (name, ..) in MODELS.iter().filter(|(.., runtime)| *runtime) {
        agrees(name, Backend::OnnxRuntime);
    }
}

#[test]
fn tensors_without_entries_go_in_and_out() {
    let pos = Tensor::Float32(ndarray::arr2(&[[0.5_f32, -1.0, 2.0], [1.0, 0.25, 3.0]]).into_dyn());
    let features = Tensor::Float32(ndarray::Array2::ones((2, 4)).into_dyn());
    let edges = Tensor::Int64(ndarray::Array2::zeros((2, 0)).into_dyn());
    for backend in Backend::ALL {
        // Without edges nothing moves.
        let outputs =
            call(&mut open("egnn", backend), &[pos.clone(), features.clone(), edges.clone()]).outputs;
        assert_eq!(outputs[0].tensor.as_ref(), Some(&pos), "{backend}");
    }
}

/// The standard's default is one zero in single precision, whatever a backend takes.
#[test]
fn a_constant_of_a_shape_without_a_value_is_a_zero_in_single_precision() {
    for backend in Backend::ALL {
        agrees("zeros", backend);
    }
}

#[test]
fn a_graph_is_known_before_it_runs() {
    for backend in Backend::ALL {
        let model = open("egnn", backend);
        let written: Vec<String> = model.inputs().iter().map(ToString::to_string).collect();
        assert_eq!(
            written,
            ["pos: float32[nodes, 3]", "features: float32[nodes, 4]", "edges: int64[2, edges]"]
        );
        assert_eq!(model.inputs()[0].dims, Some(vec![Dim::Symbol("nodes".to_owned()), Dim::Fixed(3)]));
        let outputs: Vec<&str> = model.outputs().iter().map(|port| port.name.as_str()).collect();
        assert_eq!(outputs, ["x", "energy"]);
        assert_eq!(model.outputs()[1].dims, Some(vec![]));
        let description = model.description();
        assert_eq!((description.opset, description.graph_name.as_str()), (18, "main_graph"));
        assert!(description.producer.starts_with("pytorch 2."), "{}", description.producer);
        assert_eq!(Description::read(data("egnn.onnx")).as_ref(), Ok(description));
        assert_eq!(model.backend(), backend);

        let info = model.info();
        assert_eq!((info.name.as_str(), info.framework.as_str()), ("egnn", "onnx"));
        assert_eq!(
            (info.dtype.as_str(), info.device.as_str(), info.mode.as_str()),
            ("float32", "cpu", "eval")
        );
        assert_eq!(info.parameters, Some(description.parameters));

        let environment = model.environment();
        let version = if backend == Backend::Tract { "0." } else { "1." };
        assert!(environment[backend.word()].starts_with(version), "{environment:?}");
        assert_eq!(environment["onnx operators"], "18");
    }
}

#[test]
fn a_graph_that_no_backend_runs_is_described_all_the_same() {
    let description = Description::read(data("unknown.onnx")).unwrap();
    assert_eq!(description.inputs[0].to_string(), "x: float32[3]");
    assert_eq!(description.producer, "equicheck 1");
}

#[test]
fn parameters_are_the_scalars_of_initializers() {
    // 3 x 5 + 5 + 5 x 2.
    assert_eq!(open("opset13", Backend::Tract).description().parameters, 30);
    assert_eq!(open("half", Backend::Tract).info().dtype, "float16");
    // Without initializers the inputs tell.
    assert_eq!(open("zeros", Backend::Tract).info().dtype, "float32");
    assert_eq!(open("integers", Backend::Tract).info().dtype, "");
}

#[test]
fn parameters_that_old_files_list_among_their_inputs_are_no_inputs() {
    for backend in Backend::ALL {
        let names: Vec<String> = open("old", backend).inputs().iter().map(|port| port.name.clone()).collect();
        assert_eq!(names, ["x"]);
    }
}

#[test]
fn operators_of_versions_that_were_not_tested_are_noted() {
    for (name, noted) in [("opset9", true), ("opset11", false), ("opset21", false), ("opset23", true)] {
        let environment = open(name, Backend::Tract).environment();
        assert_eq!(environment["onnx operators"].contains("tested are 11 to 21"), noted, "{name}");
    }
}

#[test]
fn random_numbers_are_equal_after_a_reset_alone() {
    use equicheck::model::Call;
    let x = Tensor::Float32(ndarray::arr1(&[0.0_f32, 0.0, 0.0]).into_dyn());
    for name in ["random", "random_seeded"] {
        for backend in Backend::ALL {
            let mut model = open(name, backend);
            assert_eq!(model.environment()["onnx random operators"], "RandomNormal");
            let mut draw = |reset_generators| {
                let inputs = std::slice::from_ref(&x);
                let call = Call { sample: 0, inputs, reset_generators, restore_state: true };
                model.forward(&call).unwrap().outputs.remove(0).tensor.unwrap()
            };
            let (free, reset) = ([draw(false), draw(false)], [draw(true), draw(true)]);
            assert_eq!(reset[0], reset[1], "{name} with {backend}");
            assert!(reset[0].to_real().iter().any(|v| *v != 0.0));
            // What a seed means from call to call is the backend's own affair.
            if name == "random" {
                assert_ne!(free[0], free[1], "{backend}");
            }
        }
    }
}

#[test]
fn a_path_without_a_folder_opens_too() {
    // Values beside the model are looked for in the folder of the process.
    let here = std::env::current_dir().unwrap();
    let folder = data("");
    let relative = folder.strip_prefix(&here).map(|path| path.join("external.onnx"));
    let path = relative.unwrap_or_else(|_| folder.join("external.onnx"));
    assert!(OnnxModel::open(path, &options(Backend::Tract)).is_ok());
}
