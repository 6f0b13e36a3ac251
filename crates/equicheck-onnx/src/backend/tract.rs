//! tract: the graph is optimised for the shapes of each call, and the latest of these plans are kept.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use equicheck::model::{DType, Tensor};
use half::f16;
use ndarray::{ArrayD, IxDyn};
use prost::Message;
use tract_onnx::prelude::{
    Datum, DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, TValue,
    Tensor as TractTensor, TractError, TractResult, TypedRunnableModel,
};

use super::{Backend, Optimisation, Runner, remedy};
use crate::OnnxError;
use crate::double::taken;
use crate::graph::{Holder, constants_mut, is_standard, node_name, nodes_mut, operator_name, try_nodes};
use crate::guard::{caught, one_line};
use crate::lower::lower_circular_padding;
use crate::port::Port;
use crate::proto::{ModelProto, NodeProto, data_type};

/// Plans that are kept: an audit goes through the sizes of its samples again and again.
const KEPT: usize = 16;

/// The version that Cargo.toml pins: the crate does not tell its own.
const VERSION: &str = "0.23.9";

/// Domains of operators that tract has beside those of the standard; it looks at their names alone.
const DOMAINS: [&str; 2] = ["com.microsoft", "ai.onnx.ml"];

type Shapes = Vec<(DType, Vec<usize>)>;
type Plan = Arc<TypedRunnableModel>;

struct Tract {
    model: InferenceModel,
    /// Whether the graph is run as it is.
    plain: bool,
    /// Latest last.
    plans: VecDeque<(Shapes, Plan)>,
}

pub(super) fn start(model: &ModelProto, optimisation: Optimisation) -> Result<Box<dyn Runner>, OnnxError> {
    let refused = |why: String| OnnxError::Refused { backend: Backend::Tract, why };
    // Exporters write shapes that tract cannot unify with those that it finds itself.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    try_nodes(model, &mut |node| {
        let known = is_standard(&node.domain) || DOMAINS.contains(&node.domain.as_str());
        let why = if known && onnx.op_register.0.contains_key(&node.op_type) {
            misread(node)
        } else {
            Some("has no such operator".to_owned())
        };
        let Some(why) = why else { return Ok(()) };
        Err(OnnxError::Operator {
            operator: one_line(&operator_name(node)),
            node: one_line(node_name(node)),
            backend: Backend::Tract,
            why,
            remedy: remedy(model, Backend::Tract, node),
        })
    })?;
    let mut lowered = model.clone();
    lower_circular_padding(&mut lowered, &mut taken(model));
    name_apart(&mut lowered);
    let parsed = caught(|| -> TractResult<InferenceModel> {
        let proto = tract_onnx::pb::ModelProto::decode(&lowered.encode_to_vec()[..])?;
        onnx.model_for_proto_model(&proto)
    });
    let parsed = parsed.map_err(refused)?.map_err(|error| refused(chain(&error)))?;
    let ports = model.graph.iter().flat_map(|graph| graph.input.iter().chain(&graph.output));
    let double = ports.filter_map(Port::kind).any(|kind| kind == data_type::DOUBLE);
    // In its optimised form tract fuses normalisations into one operator that computes in single precision.
    let plain = double || optimisation == Optimisation::None;
    Ok(Box::new(Tract { model: parsed, plain, plans: VecDeque::new() }))
}

/// Gives nodes names of their own: the standard does not ask for them, and tract wants them different from each other
/// and from those of inputs and initializers.
fn name_apart(model: &mut ModelProto) {
    let mut names = HashSet::new();
    let ports = model.graph.iter().flat_map(|graph| &graph.input).map(|input| input.name.clone());
    names.extend(ports);
    constants_mut(model, &mut |holder, name, _| {
        if holder == Holder::Initializer {
            names.insert(name.to_owned());
        }
    });
    nodes_mut(model, &mut |nodes| {
        for node in nodes {
            let name = node_name(node).to_owned();
            let mut own = name.clone();
            let mut k = 1;
            while !names.insert(own.clone()) {
                own = format!("{name}/{k}");
                k += 1;
            }
            node.name = own;
        }
    });
}

/// What tract takes a node for without a word, where the standard's own test cases say otherwise.
fn misread(node: &NodeProto) -> Option<String> {
    let find = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let ignored = |name: &str| find(name).map(|_| format!("ignores its attribute `{name}`"));
    match node.op_type.as_str() {
        "Celu" | "Swish" => find("alpha").filter(|alpha| alpha.f != 1.0).and_then(|_| ignored("alpha")),
        "RNN" | "GRU" | "LSTM" => find("direction")
            .filter(|direction| direction.s == b"reverse")
            .map(|_| "computes it in the wrong direction".to_owned()),
        "SpaceToDepth" => ignored("mode"),
        "Attention" => {
            let past = node.input.get(4).is_some_and(|name| !name.is_empty());
            let causal = find("is_causal").is_some_and(|causal| causal.i != 0);
            let masked = (past && causal).then(|| "takes its causal mask from another place".to_owned());
            ["left_window_size", "right_window_size"].into_iter().find_map(ignored).or(masked)
        }
        _ => None,
    }
}

/// All of an error, outermost first, in one line.
fn chain(error: &TractError) -> String {
    one_line(&format!("{error:#}"))
}

impl Tract {
    fn plan(&mut self, shapes: Shapes) -> TractResult<Plan> {
        if let Some(k) = self.plans.iter().position(|(known, _)| *known == shapes) {
            let found = self.plans.remove(k).expect("it is there");
            self.plans.push_back(found);
        } else {
            let mut model = self.model.clone();
            for (k, (dtype, shape)) in shapes.iter().enumerate() {
                let kind = datum_type(*dtype).expect("inputs were converted");
                model.set_input_fact(k, InferenceFact::dt_shape(kind, shape))?;
            }
            let plan = if self.plain {
                model.into_typed()?.into_runnable()?
            } else {
                model.into_optimized()?.into_runnable()?
            };
            if self.plans.len() == KEPT {
                self.plans.pop_front();
            }
            self.plans.push_back((shapes, plan));
        }
        Ok(Arc::clone(&self.plans.back().expect("one was added").1))
    }
}

impl Runner for Tract {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Option<Tensor>>, OnnxError> {
        let failed = |why: String| OnnxError::Run { backend: Backend::Tract, at: None, why };
        let shapes: Shapes = inputs.iter().map(|t| (t.dtype(), t.shape().to_vec())).collect();
        let result = caught(|| -> TractResult<Vec<Option<Tensor>>> {
            let values = inputs
                .iter()
                .map(|tensor| Ok(TValue::from(to_tract(tensor)?)))
                .collect::<TractResult<_>>()?;
            let outputs = self.plan(shapes)?.run(values)?;
            outputs.iter().map(|value| from_tract(value).map(Some)).collect()
        });
        result.map_err(failed)?.map_err(|error| failed(chain(&error)))
    }

    fn version(&self) -> String {
        VERSION.to_owned()
    }
}

fn datum_type(dtype: DType) -> Option<DatumType> {
    Some(match dtype {
        DType::Bool => DatumType::Bool,
        DType::UInt8 => DatumType::U8,
        DType::Int8 => DatumType::I8,
        DType::Int16 => DatumType::I16,
        DType::Int32 => DatumType::I32,
        DType::Int64 => DatumType::I64,
        DType::Float16 => DatumType::F16,
        DType::Float32 => DatumType::F32,
        DType::Float64 => DatumType::F64,
        DType::BFloat16 | DType::Complex64 | DType::Complex128 => return None,
    })
}

fn to_tract(tensor: &Tensor) -> TractResult<TractTensor> {
    fn of<T: Datum + Copy>(array: &ArrayD<T>) -> TractResult<TractTensor> {
        let values: Vec<T> = array.iter().copied().collect();
        TractTensor::from_shape(array.shape(), &values)
    }
    match tensor {
        Tensor::Bool(a) => of(a),
        Tensor::UInt8(a) => of(a),
        Tensor::Int8(a) => of(a),
        Tensor::Int16(a) => of(a),
        Tensor::Int32(a) => of(a),
        Tensor::Int64(a) => of(a),
        Tensor::Float16(a) => of(a),
        Tensor::Float32(a) => of(a),
        Tensor::Float64(a) => of(a),
        Tensor::BFloat16(_) | Tensor::Complex64(_) | Tensor::Complex128(_) => {
            let name = tensor.dtype().name();
            Err(TractError::msg(format!("it does not compute with {name}: --backend onnxruntime may")))
        }
    }
}

fn from_tract(tensor: &TractTensor) -> TractResult<Tensor> {
    fn of<T: Datum + Copy>(tensor: &TractTensor) -> TractResult<ArrayD<T>> {
        let values: Vec<T> = tensor.to_plain_array_view::<T>()?.iter().copied().collect();
        Ok(ArrayD::from_shape_vec(IxDyn(tensor.shape()), values)?)
    }
    let kind = tensor.datum_type();
    Ok(match kind {
        DatumType::Bool => Tensor::Bool(of(tensor)?),
        DatumType::U8 => Tensor::UInt8(of(tensor)?),
        DatumType::I8 => Tensor::Int8(of(tensor)?),
        DatumType::I16 => Tensor::Int16(of(tensor)?),
        DatumType::I32 => Tensor::Int32(of(tensor)?),
        DatumType::I64 => Tensor::Int64(of(tensor)?),
        DatumType::F16 => Tensor::Float16(of::<f16>(tensor)?),
        DatumType::F32 => Tensor::Float32(of(tensor)?),
        DatumType::F64 => Tensor::Float64(of(tensor)?),
        // Unsigned integers fit the next signed type, as the engine has none of them; sizes are symbolic inside.
        _ => Tensor::Int64(of(&*tensor.cast_to::<i64>()?)?),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../../Cargo.lock");
        let entry = lock.split("[[package]]").find(|entry| entry.contains("name = \"tract-onnx\"")).unwrap();
        assert!(entry.contains(&format!("version = \"{}\"", super::VERSION)), "{entry}");
    }
}
