//! The models of `tests/data`, what they must give, and the library of ONNX Runtime.

use std::fs;
use std::path::{Path, PathBuf};

use equicheck::model::{Call, Model, Returned, Tensor};
use equicheck_onnx::{Backend, OnnxModel, OpenOptions};
use half::f16;
use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;
use serde_json::Value;

/// A file of `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("data").join(name)
}

/// Folders of packages in the repository's own environment.
pub(crate) fn site_packages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join("..").join(".venv");
    let mut folders: Vec<PathBuf> = fs::read_dir(root.join("lib"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages")))
        .chain([root.join("Lib").join("site-packages")])
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    folders
}

pub(crate) fn options(backend: Backend) -> OpenOptions {
    let search = site_packages();
    let installed = search.iter().any(|folder| folder.join("onnxruntime").is_dir());
    assert!(
        installed || std::env::var_os("ORT_DYLIB_PATH").is_some() || backend == Backend::Tract,
        "ONNX Runtime is not there: `make develop` installs it into .venv"
    );
    OpenOptions { backend, onnxruntime: None, search }
}

pub(crate) fn open(name: &str, backend: Backend) -> OnnxModel {
    OnnxModel::open(data(&format!("{name}.onnx")), &options(backend))
        .unwrap_or_else(|error| panic!("{name} with {backend}: {error}"))
}

#[derive(Deserialize)]
struct Written {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    values: Vec<Value>,
}

#[derive(Deserialize)]
struct WrittenCase {
    inputs: Vec<Written>,
    outputs: Vec<Written>,
}

/// Inputs of a call and what it must give, by name.
pub(crate) struct Case {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<(String, Tensor)>,
}

/// What a model must give.
pub(crate) fn cases(name: &str) -> Vec<Case> {
    let text = fs::read_to_string(data(&format!("{name}.json"))).unwrap();
    let cases: Vec<WrittenCase> = serde_json::from_str(&text).unwrap();
    cases
        .iter()
        .map(|case| Case {
            inputs: case.inputs.iter().map(tensor).collect(),
            outputs: case.outputs.iter().map(|output| (output.name.clone(), tensor(output))).collect(),
        })
        .collect()
}

fn tensor(written: &Written) -> Tensor {
    fn array<T>(written: &Written, each: impl Fn(&Value) -> T) -> ArrayD<T> {
        let values = written.values.iter().map(each).collect();
        ArrayD::from_shape_vec(IxDyn(&written.shape), values).unwrap()
    }
    let float = |v: &Value| v.as_f64().unwrap();
    let integer = |v: &Value| v.as_i64().unwrap();
    match written.dtype.as_str() {
        "bool" => Tensor::Bool(array(written, |v| v.as_bool().unwrap())),
        "uint8" => Tensor::UInt8(array(written, |v| integer(v) as u8)),
        "int8" => Tensor::Int8(array(written, |v| integer(v) as i8)),
        "int32" => Tensor::Int32(array(written, |v| integer(v) as i32)),
        "int64" => Tensor::Int64(array(written, integer)),
        "float16" => Tensor::Float16(array(written, |v| f16::from_f64(float(v)))),
        "float32" => Tensor::Float32(array(written, |v| float(v) as f32)),
        other => panic!("{other} is not read"),
    }
}

/// One call, as the engine makes it.
pub(crate) fn call(model: &mut dyn Model, inputs: &[Tensor]) -> Returned {
    let call = Call { sample: 0, inputs, reset_generators: true, restore_state: true };
    model.forward(&call).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Relative difference in the norm; 0 for equal tensors of any kind.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_real(), b.to_real());
    let norm = |values: &ArrayD<f64>| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let apart = norm(&(&a - &b));
    if apart == 0.0 { 0.0 } else { apart / norm(&b).max(f64::MIN_POSITIVE) }
}
