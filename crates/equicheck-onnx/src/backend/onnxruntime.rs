//! ONNX Runtime: a library that is loaded when it is first asked for, once per process.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use equicheck::model::Tensor;
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, Value};
use prost::Message;

use super::{Backend, Optimisation, Runner, remedy};
use crate::graph::{node_name, operator_name, try_nodes};
use crate::guard::{caught, one_line};
use crate::proto::ModelProto;
use crate::{OnnxError, OpenOptions};

/// The library's own variable.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library in use: a process can hold one.
struct Loaded {
    path: PathBuf,
    version: String,
    environment: Environment,
}

static LOADED: Mutex<Option<Arc<Loaded>>> = Mutex::new(None);

/// Loads the library, or finds it loaded.
fn load(options: &OpenOptions) -> Result<Arc<Loaded>, OnnxError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = &*loaded {
        return match &options.onnxruntime {
            Some(asked) if !same_file(asked, &known.path) => {
                Err(OnnxError::OtherLibrary { asked: asked.clone(), loaded: known.path.clone() })
            }
            _ => Ok(Arc::clone(known)),
        };
    }
    let path = find(options)?;
    let wrong = |why: &str| OnnxError::Library { path: path.clone(), why: one_line(why) };
    let started = caught(|| -> ort::Result<Environment> {
        // Absolute, or it would be looked for beside this program first.
        let environment = ort::init_from(&path)
            .map_err(|error| error.to_string())
            .map(|builder| builder.with_telemetry(false).with_name("equicheck").build());
        match environment {
            Ok(built) => built,
            Err(why) => Err(ort::Error::new(why)),
        }
    });
    // Messages are returned as errors; the library's own log would repeat them on the terminal.
    let environment = started.map_err(|why| wrong(&why))?.map_err(|error| wrong(error.message()))?;
    environment.set_log_level(LogLevel::Fatal);
    let version = version_of(&path);
    let known = Arc::new(Loaded { path, version, environment });
    *loaded = Some(Arc::clone(&known));
    Ok(known)
}

/// The version: the end of the file's name has all of it on most systems, the library itself tells two numbers.
fn version_of(path: &Path) -> String {
    let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = name.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let numbers = name.split_once("onnxruntime.").map_or("", |(_, rest)| rest);
    let numbers = numbers.trim_start_matches("so.").trim_end_matches(".dylib");
    if numbers.starts_with("1.") {
        return numbers.to_owned();
    }
    ort::util::probe(path).map_or_else(|| "unknown".to_owned(), |minor| format!("1.{minor}"))
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// The library: as told, as the environment says, or in a wheel that is installed in one of the folders.
fn find(options: &OpenOptions) -> Result<PathBuf, OnnxError> {
    let variable = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = options.onnxruntime.clone().or(variable) {
        return match path.metadata() {
            Ok(_) => Ok(std::path::absolute(&path).unwrap_or(path)),
            Err(error) => Err(OnnxError::Library { path, why: error.to_string() }),
        };
    }
    let found = options.search.iter().find_map(|folder| in_wheel(&folder.join("onnxruntime").join("capi")));
    found.ok_or_else(|| OnnxError::LibraryNotFound { searched: options.search.clone() })
}

/// The library in the folder where the Python package keeps it; its name ends with its version on some systems.
fn in_wheel(folder: &Path) -> Option<PathBuf> {
    let is_library = |name: &str| {
        name == "onnxruntime.dll"
            || name == "libonnxruntime.so"
            || name.starts_with("libonnxruntime.so.")
            || (name.starts_with("libonnxruntime.") && Path::new(name).extension() == Some("dylib".as_ref()))
    };
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_library))
        .collect();
    found.sort();
    found.pop().map(|path| std::path::absolute(&path).unwrap_or(path))
}

struct Runtime {
    library: Arc<Loaded>,
    session: Session,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

pub(super) fn start(
    model: &ModelProto,
    options: &OpenOptions,
    optimisation: Optimisation,
) -> Result<Box<dyn Runner>, OnnxError> {
    let level = match optimisation {
        Optimisation::Full => GraphOptimizationLevel::All,
        Optimisation::None => GraphOptimizationLevel::Disable,
    };
    let library = load(options)?;
    let bytes = model.encode_to_vec();
    let session = caught(|| {
        // One thread: more of them add in another order, and wait for each other on a busy machine.
        let builder = Session::builder(&library.environment)?;
        let builder = builder.with_intra_threads(1).map_err(|error| ort::Error::new(error.message()))?;
        let builder = builder.with_inter_threads(1).map_err(|error| ort::Error::new(error.message()))?;
        let builder =
            builder.with_optimization_level(level).map_err(|error| ort::Error::new(error.message()))?;
        let mut builder =
            builder.with_log_level(LogLevel::Fatal).map_err(|error| ort::Error::new(error.message()))?;
        builder.commit_from_memory(&bytes)
    });
    let refused = |why: String| OnnxError::Refused { backend: Backend::OnnxRuntime, why };
    let session = session.map_err(refused)?.map_err(|error| because(model, &one_line(error.message())))?;
    let names = |outlets: &[ort::value::Outlet]| outlets.iter().map(|o| o.name().to_owned()).collect();
    let (inputs, outputs) = (names(session.inputs()), names(session.outputs()));
    Ok(Box::new(Runtime { library, session, inputs, outputs }))
}

/// The refusal, with the operator named where it is one that the library lacks.
fn because(model: &ModelProto, why: &str) -> OnnxError {
    // "No Op registered for Frobnicate with ...", "...Frobnicate(-1) is not a registered function/op", "Could not find an implementation for Erf(13) node with name
    // 'x'", "Failed to find kernel for Swish(24) (node:'x' ep:'...')".
    let unknown = why.contains("is not a registered function/op") || why.contains("No Op registered for ");
    let no_kernel = ["find an implementation for ", "Failed to find kernel for "]
        .into_iter()
        .find_map(|before| why.split_once(before)?.1.split_once('('))
        .map(|(operator, _)| operator);
    let mut lacking = None;
    let _ = try_nodes(model, &mut |node| {
        let named = match no_kernel {
            Some(operator) => {
                let (a, b) = (format!("name '{}'", node.name), format!("(node:'{}'", node.name));
                operator == node.op_type && (why.contains(&a) || why.contains(&b))
            }
            None => unknown && why.contains(&node.op_type) && !crate::schema::knows(node),
        };
        if named {
            lacking = Some(node.clone());
            return Err(());
        }
        Ok(())
    });
    let Some(node) = lacking else {
        return OnnxError::Refused { backend: Backend::OnnxRuntime, why: why.to_owned() };
    };
    let lacks = if unknown { "has no such operator" } else { "does not compute it with these element types" };
    OnnxError::Operator {
        operator: one_line(&operator_name(&node)),
        node: one_line(node_name(&node)),
        backend: Backend::OnnxRuntime,
        why: lacks.to_owned(),
        remedy: remedy(model, Backend::OnnxRuntime, &node),
    }
}

impl Runner for Runtime {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Option<Tensor>>, OnnxError> {
        let failed = |why: String| OnnxError::Run { backend: Backend::OnnxRuntime, at: None, why };
        let result = caught(|| -> ort::Result<Vec<Option<Tensor>>> {
            let values = self
                .inputs
                .iter()
                .zip(inputs)
                .map(|(name, tensor)| Ok((Cow::from(name.as_str()), to_value(tensor)?)))
                .collect::<ort::Result<Vec<(Cow<'_, str>, SessionInputValue<'_>)>>>()?;
            let outputs = self.session.run(values)?;
            self.outputs.iter().map(|name| outputs.get(name).map_or(Ok(None), from_value)).collect()
        });
        result.map_err(failed)?.map_err(|error| failed(one_line(error.message())))
    }

    fn version(&self) -> String {
        self.library.version.clone()
    }
}

fn to_value(tensor: &Tensor) -> ort::Result<SessionInputValue<'static>> {
    fn of<T>(array: &ArrayD<T>) -> ort::Result<SessionInputValue<'static>>
    where
        T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
    {
        let values: Vec<T> = array.iter().cloned().collect();
        Ok(Value::from_array((array.shape().to_vec(), values))?.into())
    }
    match tensor {
        Tensor::Bool(a) => of(a),
        Tensor::UInt8(a) => of(a),
        Tensor::Int8(a) => of(a),
        Tensor::Int16(a) => of(a),
        Tensor::Int32(a) => of(a),
        Tensor::Int64(a) => of(a),
        Tensor::Float16(a) => of(a),
        Tensor::BFloat16(a) => of(a),
        Tensor::Float32(a) => of(a),
        Tensor::Float64(a) => of(a),
        Tensor::Complex64(_) | Tensor::Complex128(_) => {
            Err(ort::Error::new(format!("{} cannot be given to it", tensor.dtype().name())))
        }
    }
}

fn from_value(value: &DynValue) -> ort::Result<Option<Tensor>> {
    fn of<T: PrimitiveTensorElementType + Clone>(value: &DynValue) -> ort::Result<ArrayD<T>> {
        let (shape, values) = value.try_extract_tensor::<T>()?;
        let shape: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
        ArrayD::from_shape_vec(IxDyn(&shape), values.to_vec()).map_err(|e| ort::Error::new(e.to_string()))
    }
    let Some(kind) = value.dtype().tensor_type() else { return Ok(None) };
    // Unsigned integers fit the next signed type, as the engine has none of them.
    Ok(Some(match kind {
        TensorElementType::Bool => Tensor::Bool(of(value)?),
        TensorElementType::Uint8 => Tensor::UInt8(of(value)?),
        TensorElementType::Int8 => Tensor::Int8(of(value)?),
        TensorElementType::Int16 => Tensor::Int16(of(value)?),
        TensorElementType::Int32 => Tensor::Int32(of(value)?),
        TensorElementType::Int64 => Tensor::Int64(of(value)?),
        TensorElementType::Uint16 => Tensor::Int32(of::<u16>(value)?.mapv(i32::from)),
        TensorElementType::Uint32 => Tensor::Int64(of::<u32>(value)?.mapv(i64::from)),
        TensorElementType::Uint64 => Tensor::Int64(of::<u64>(value)?.mapv(|v| v as i64)),
        TensorElementType::Float16 => Tensor::Float16(of::<f16>(value)?),
        TensorElementType::Bfloat16 => Tensor::BFloat16(of::<bf16>(value)?),
        TensorElementType::Float32 => Tensor::Float32(of(value)?),
        TensorElementType::Float64 => Tensor::Float64(of(value)?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_off_the_name() {
        for name in ["libonnxruntime.so.1.32.0", "libonnxruntime.1.32.0.dylib"] {
            assert_eq!(version_of(&Path::new("/no/such/folder").join(name)), "1.32.0");
        }
        assert_eq!(version_of(Path::new("/no/such/folder/onnxruntime.dll")), "unknown");
    }
}
