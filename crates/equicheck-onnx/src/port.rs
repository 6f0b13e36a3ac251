//! What a graph takes and gives.

use std::collections::HashSet;
use std::fmt;

use crate::proto::{DimensionValue, GraphProto, TypeProto, TypeValue, ValueInfoProto, data_type};

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

/// Inputs that a caller gives: old files list initializers among them.
pub(crate) fn inputs(graph: &GraphProto) -> Vec<Port> {
    given(graph).map(Port::of).collect()
}

/// The same as the file has them.
pub(crate) fn given(graph: &GraphProto) -> impl Iterator<Item = &ValueInfoProto> {
    let held: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.iter().filter(move |input| !held.contains(input.name.as_str()))
}

/// What the graph gives.
pub(crate) fn outputs(graph: &GraphProto) -> Vec<Port> {
    graph.output.iter().map(Port::of).collect()
}
