//! What a graph takes and gives.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use crate::proto::{
    DimensionValue, GraphProto, ModelProto, TensorProto, TypeProto, TypeValue, ValueInfoProto, data_type,
};
use crate::{OnnxError, graph};

/// The length of one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Any; equal for equal names within one call.
    Symbol(String),
    /// Any.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(length) => write!(f, "{length}"),
            Dim::Symbol(name) => f.write_str(name),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Element type, by numpy's name (`float32`); `sequence`, `map`, `optional` or `unknown` for what is no tensor or
    /// not stated.
    pub dtype: String,
    /// Axes; `None` where not even their number is stated.
    pub dims: Option<Vec<Dim>>,
}

impl Port {
    /// Element type by the standard's number; `None` for what is no tensor or not stated.
    pub(crate) fn kind(value: &ValueInfoProto) -> Option<i32> {
        match &value.r#type.as_ref()?.value {
            Some(TypeValue::Tensor(tensor)) => Some(tensor.elem_type),
            _ => None,
        }
    }

    fn of(value: &ValueInfoProto) -> Self {
        let name = value.name.clone();
        let other = |dtype: &str| Self { name: name.clone(), dtype: dtype.to_owned(), dims: None };
        match &value.r#type {
            Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), .. }) => {
                let dims = tensor.shape.as_ref().map(|shape| {
                    let dim = |value: &Option<DimensionValue>| match value {
                        Some(DimensionValue::Value(length)) => {
                            usize::try_from(*length).map_or(Dim::Unknown, Dim::Fixed)
                        }
                        Some(DimensionValue::Param(symbol)) if !symbol.is_empty() => {
                            Dim::Symbol(symbol.clone())
                        }
                        _ => Dim::Unknown,
                    };
                    shape.dim.iter().map(|d| dim(&d.value)).collect()
                });
                Self { name, dtype: data_type::name(tensor.elem_type), dims }
            }
            Some(TypeProto { value: Some(value), .. }) => other(match value {
                TypeValue::Sequence(_) => "sequence",
                TypeValue::Map(_) => "map",
                TypeValue::Optional(_) => "optional",
                TypeValue::Tensor(_) | TypeValue::SparseTensor(_) => "sparse tensor",
            }),
            _ => other("unknown"),
        }
    }
}

impl fmt::Display for Port {
    /// `pos: float32[nodes, 3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.dtype)?;
        let Some(dims) = &self.dims else { return Ok(()) };
        let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

/// What a file says of itself, whether or not a backend can run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The name of the graph, which may be empty.
    pub graph_name: String,
    /// What a call needs, in order. Old files list their parameters among the inputs: these are left out.
    pub inputs: Vec<Port>,
    /// What a call gives, in order.
    pub outputs: Vec<Port>,
    /// The version of the standard's operators that the graph uses; 0 where it names none.
    pub opset: i64,
    /// The program that wrote the file and its version, which may be empty.
    pub producer: String,
    /// Number of scalars in the graph's initializers, and in floating-point arrays of its `Constant` nodes, where some
    /// exporters keep all weights.
    pub parameters: u64,
}

impl Description {
    /// Reads a file; no backend is asked.
    ///
    /// # Errors
    /// The file is no whole ONNX model, or values beside it cannot be taken from there.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, OnnxError> {
        graph::read(path.as_ref()).map(|model| Self::of(&model))
    }

    pub(crate) fn of(model: &ModelProto) -> Self {
        let graph = graph::graph_of(model);
        Self {
            graph_name: graph.name.clone(),
            inputs: given(graph).map(Port::of).collect(),
            outputs: graph.output.iter().map(Port::of).collect(),
            opset: graph::opset(model),
            producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
            parameters: graph.initializer.iter().map(scalars).sum::<u64>() + weights_in_nodes(graph),
        }
    }
}

fn scalars(tensor: &TensorProto) -> u64 {
    tensor.dims.iter().product::<i64>() as u64
}

/// Scalars of floating-point arrays in `Constant` nodes; single numbers are exponents, bounds and the like.
fn weights_in_nodes(graph: &GraphProto) -> u64 {
    let nodes = graph.node.iter().filter(|node| graph::is_constant(node));
    let tensors = nodes.flat_map(|node| &node.attribute).filter_map(|attribute| attribute.t.as_ref());
    let floating = |kind: i32| data_type::is_shorter_float(kind) || kind == data_type::DOUBLE;
    tensors.filter(|tensor| floating(tensor.data_type)).map(scalars).filter(|count| *count > 1).sum()
}

/// Inputs that a caller gives, as the file has them: old files list initializers among them.
pub(crate) fn given(graph: &GraphProto) -> impl Iterator<Item = &ValueInfoProto> {
    let held: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.iter().filter(move |input| !held.contains(input.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AttributeProto, NodeProto};

    #[test]
    fn weights_that_an_exporter_keeps_in_nodes_are_parameters() {
        let node = |data_type: i32, dims: &[i64]| {
            let tensor = TensorProto { dims: dims.to_vec(), data_type, ..TensorProto::default() };
            let attribute = AttributeProto { t: Some(tensor), ..AttributeProto::default() };
            NodeProto { op_type: "Constant".to_owned(), attribute: vec![attribute], ..NodeProto::default() }
        };
        let other = NodeProto { op_type: "Mystery".to_owned(), ..node(data_type::FLOAT, &[50]) };
        let node = vec![
            node(data_type::FLOAT, &[3, 4]),
            node(data_type::FLOAT, &[]),
            node(data_type::INT64, &[7]),
            other,
        ];
        assert_eq!(weights_in_nodes(&GraphProto { node, ..GraphProto::default() }), 12);
    }
}
