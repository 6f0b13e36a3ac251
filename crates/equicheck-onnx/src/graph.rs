//! Reading a file into one settled message, and walking through it.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use prost::Message;

use crate::OnnxError;
use crate::guard::one_line;
use crate::proto::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, TensorProto, data_type,
};
use crate::tensor::Source;

/// The longest message that protobuf allows.
pub(crate) const LONGEST: u64 = i32::MAX as u64;

/// The domain of the standard's own operators has two names.
pub(crate) fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The version of the standard's operators that a model uses; 0 where it names none.
pub(crate) fn opset(model: &ModelProto) -> i64 {
    model.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(0, |set| set.version)
}

/// The graph of a model that was read.
pub(crate) fn graph_of(model: &ModelProto) -> &GraphProto {
    model.graph.as_ref().expect("a model without a graph is not read")
}

/// The same, to be written to.
pub(crate) fn graph_mut(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().expect("a model without a graph is not read")
}

/// What a node is called in messages: its name, or the first tensor that it makes.
pub(crate) fn node_name(node: &NodeProto) -> &str {
    if !node.name.is_empty() {
        return &node.name;
    }
    node.output.iter().find(|output| !output.is_empty()).map_or("without a name", |output| output)
}

/// The operator, with its domain where that is not the standard's.
pub(crate) fn operator_name(node: &NodeProto) -> String {
    if is_standard(&node.domain) { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) }
}

/// Every node, those of subgraphs and functions included, until one is an error.
pub(crate) fn try_nodes<E>(
    model: &ModelProto,
    each: &mut impl FnMut(&NodeProto) -> Result<(), E>,
) -> Result<(), E> {
    fn inside<E>(nodes: &[NodeProto], each: &mut impl FnMut(&NodeProto) -> Result<(), E>) -> Result<(), E> {
        for node in nodes {
            each(node)?;
            for attribute in &node.attribute {
                for graph in attribute.g.iter().chain(&attribute.graphs) {
                    inside(&graph.node, each)?;
                }
            }
        }
        Ok(())
    }
    let lists = model.graph.iter().map(|graph| &graph.node).chain(model.functions.iter().map(|f| &f.node));
    for nodes in lists {
        inside(nodes, each)?;
    }
    Ok(())
}

/// All graphs, subgraphs included, outer ones first.
fn try_graphs_mut<E>(
    graph: &mut GraphProto,
    each: &mut impl FnMut(&mut GraphProto) -> Result<(), E>,
) -> Result<(), E> {
    each(graph)?;
    try_subgraphs_mut(&mut graph.node, each)
}

fn try_subgraphs_mut<E>(
    nodes: &mut [NodeProto],
    each: &mut impl FnMut(&mut GraphProto) -> Result<(), E>,
) -> Result<(), E> {
    for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            try_graphs_mut(graph, each)?;
        }
    }
    Ok(())
}

/// Which part of a graph holds a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A named value of the graph.
    Initializer,
    /// A node that makes nothing else.
    Constant,
}

/// Every list of nodes, those of subgraphs and functions included, to be written to; outer ones first.
pub(crate) fn nodes_mut(model: &mut ModelProto, each: &mut impl FnMut(&mut Vec<NodeProto>)) {
    fn inside(nodes: &mut Vec<NodeProto>, each: &mut impl FnMut(&mut Vec<NodeProto>)) {
        each(nodes);
        for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                inside(&mut graph.node, each);
            }
        }
    }
    let graph = model.graph.iter_mut().map(|graph| &mut graph.node);
    for nodes in graph.chain(model.functions.iter_mut().map(|function| &mut function.node)) {
        inside(nodes, each);
    }
}

/// Every initializer and constant with the name of the tensor that it makes, subgraphs included, in the file's order.
pub(crate) fn constants_mut(model: &mut ModelProto, each: &mut impl FnMut(Holder, &str, &mut TensorProto)) {
    let in_nodes = |nodes: &mut Vec<NodeProto>, each: &mut dyn FnMut(Holder, &str, &mut TensorProto)| {
        for node in nodes.iter_mut().filter(|node| is_constant(node)) {
            let Some(name) = node.output.first().cloned() else { continue };
            for tensor in node.attribute.iter_mut().filter_map(|attribute| attribute.t.as_mut()) {
                each(Holder::Constant, &name, tensor);
            }
        }
    };
    let mut in_graph = |graph: &mut GraphProto| -> Result<(), ()> {
        for tensor in &mut graph.initializer {
            let name = tensor.name.clone();
            each(Holder::Initializer, &name, tensor);
        }
        in_nodes(&mut graph.node, each);
        Ok(())
    };
    if let Some(graph) = &mut model.graph {
        let _ = try_graphs_mut(graph, &mut in_graph);
    }
}

pub(crate) fn is_constant(node: &NodeProto) -> bool {
    node.op_type == "Constant" && is_standard(&node.domain)
}

/// Whether a node draws random numbers.
pub(crate) fn draws(node: &NodeProto) -> bool {
    const RANDOM: [&str; 6] = [
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    ];
    // The third input of Dropout puts it into training.
    let training = node.op_type == "Dropout" && node.input.get(2).is_some_and(|name| !name.is_empty());
    is_standard(&node.domain) && (training || RANDOM.contains(&node.op_type.as_str()))
}

/// Reads a file and brings its message into one form: all values are raw bytes inside, as many as their shapes say;
/// constants are tensors; what the standard leaves to a default is written out where a backend has another one.
pub(crate) fn read(path: &Path) -> Result<ModelProto, OnnxError> {
    let unread = |error: std::io::Error| OnnxError::Read { path: path.to_owned(), why: error.to_string() };
    let not_onnx = |why: String| OnnxError::NotOnnx { path: path.to_owned(), why: one_line(&why) };
    let file = File::open(path).map_err(unread)?;
    let metadata = file.metadata().map_err(unread)?;
    if metadata.is_dir() {
        return Err(OnnxError::Read { path: path.to_owned(), why: "this is a folder".to_owned() });
    }
    let too_large = |bytes| OnnxError::TooLarge { path: path.to_owned(), bytes };
    if metadata.len() > LONGEST {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    // A pipe has no length beforehand: what was read counts.
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > LONGEST {
        return Err(too_large(bytes.len() as u64));
    }
    if bytes.is_empty() {
        return Err(not_onnx("the file is empty".to_owned()));
    }
    let mut model = ModelProto::decode(&bytes[..]).map_err(|error| not_onnx(error.to_string()))?;
    drop(bytes);
    if model.ir_version <= 0 {
        return Err(not_onnx("it states no version of the format".to_owned()));
    }
    let Some(graph) = &mut model.graph else { return Err(not_onnx("it holds no graph".to_owned())) };
    if graph.output.is_empty() {
        return Err(not_onnx("the graph has no output".to_owned()));
    }
    check_names(graph, &HashSet::new()).map_err(not_onnx)?;
    let mut source = Source::new(path);
    try_graphs_mut(graph, &mut |graph| {
        for tensor in &mut graph.initializer {
            let name = tensor.name.clone();
            source.settle(tensor, &name)?;
        }
        for sparse in &mut graph.sparse_initializer {
            for tensor in sparse.values.iter_mut().chain(&mut sparse.indices) {
                let name = tensor.name.clone();
                source.settle(tensor, &name)?;
            }
        }
        settle_nodes(&mut graph.node, &mut source)
    })?;
    for function in &mut model.functions {
        settle_nodes(&mut function.node, &mut source)?;
        try_subgraphs_mut(&mut function.node, &mut |graph| settle_nodes(&mut graph.node, &mut source))?;
    }
    let bytes = model.encoded_len() as u64;
    if bytes > LONGEST {
        return Err(too_large(bytes));
    }
    Ok(model)
}

/// Every tensor that is used must be made by somebody, and once.
fn check_names(graph: &GraphProto, outside: &HashSet<&str>) -> Result<(), String> {
    let mut known = outside.clone();
    known.extend(graph.input.iter().map(|input| input.name.as_str()));
    known.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    known.extend(graph.sparse_initializer.iter().flat_map(|s| &s.values).map(|t| t.name.as_str()));
    // Subgraphs may see all that the graph around them makes, whatever the order.
    let made = graph.node.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty());
    let mut seen = HashSet::new();
    for name in made {
        if !seen.insert(name.as_str()) {
            return Err(format!("two nodes make `{name}`"));
        }
    }
    known.extend(seen);
    for node in &graph.node {
        if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !known.contains(name.as_str()))
        {
            return Err(format!("node `{}` uses `{name}`, which nobody makes", node_name(node)));
        }
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                check_names(inner, &known)?;
            }
        }
    }
    match graph.output.iter().find(|output| !known.contains(output.name.as_str())) {
        Some(output) => Err(format!("nobody makes the output `{}`", output.name)),
        None => Ok(()),
    }
}

/// Tensors inside attributes; constants become tensors; constants of a shape and scaled exponential units say which
/// values they have.
fn settle_nodes(nodes: &mut [NodeProto], source: &mut Source<'_>) -> Result<(), OnnxError> {
    for node in nodes {
        let name = node_name(node).to_owned();
        let standard = is_standard(&node.domain);
        for attribute in &mut node.attribute {
            for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                source.settle(tensor, &name)?;
            }
            for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
                for tensor in sparse.values.iter_mut().chain(&mut sparse.indices) {
                    source.settle(tensor, &name)?;
                }
            }
            if standard && node.op_type == "Constant" && attribute.ref_attr_name.is_empty() {
                as_tensor(attribute);
            }
        }
        // The standard's default is one zero in single precision.
        if standard && node.op_type == "ConstantOfShape" && node.attribute.is_empty() {
            let zero = TensorProto {
                dims: vec![1],
                data_type: data_type::FLOAT,
                raw_data: 0_f32.to_le_bytes().to_vec(),
                ..TensorProto::default()
            };
            node.attribute.push(tensor_attribute("value", zero));
        }
        if standard && node.op_type == "Selu" {
            for (name, value) in [("alpha", 1.673_263_2), ("gamma", 1.050_701)] {
                if !node.attribute.iter().any(|attribute| attribute.name == name) {
                    node.attribute.push(AttributeProto {
                        name: name.to_owned(),
                        r#type: AttributeType::Float as i32,
                        f: value,
                        ..AttributeProto::default()
                    });
                }
            }
        }
    }
    Ok(())
}

/// An attribute that holds a tensor.
pub(crate) fn tensor_attribute(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Tensor as i32,
        t: Some(tensor),
        ..AttributeProto::default()
    }
}

/// Numbers of a constant as the tensor that they stand for.
fn as_tensor(attribute: &mut AttributeProto) {
    let (kind, dims, raw_data): (_, _, Vec<u8>) = match attribute.name.as_str() {
        "value_float" => (data_type::FLOAT, vec![], attribute.f.to_le_bytes().to_vec()),
        "value_int" => (data_type::INT64, vec![], attribute.i.to_le_bytes().to_vec()),
        "value_floats" => {
            let bytes = attribute.floats.iter().flat_map(|v| v.to_le_bytes()).collect();
            (data_type::FLOAT, vec![attribute.floats.len() as i64], bytes)
        }
        "value_ints" => {
            let bytes = attribute.ints.iter().flat_map(|v| v.to_le_bytes()).collect();
            (data_type::INT64, vec![attribute.ints.len() as i64], bytes)
        }
        _ => return,
    };
    *attribute =
        tensor_attribute("value", TensorProto { dims, data_type: kind, raw_data, ..TensorProto::default() });
}
