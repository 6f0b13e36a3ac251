//! The graph in double precision: the same nodes, every float a double, but where the standard asks for a float.

use std::collections::{HashMap, HashSet};

use crate::graph::{draws, is_standard, node_name, operator_name, opset, tensor_attribute, try_nodes};
use crate::guard::one_line;
use crate::lower::lower;
use crate::port::Port;
use crate::proto::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, TypeValue,
    ValueInfoProto, data_type,
};
use crate::schema::{Doubling, doubling};
use crate::tensor;

/// Attributes that name an element type which floats may have.
const TYPES: [&str; 5] = ["to", "dtype", "output_datatype", "output_dtype", "softmax_precision"];

/// Operators that make or compute single precision if an attribute does not say otherwise, and since when it exists.
const DEFAULTS: [(&str, &str, i64); 8] = [
    ("BlackmanWindow", "output_datatype", 17),
    ("HammingWindow", "output_datatype", 17),
    ("HannWindow", "output_datatype", 17),
    ("MelWeightMatrix", "output_datatype", 17),
    ("SequenceEmpty", "dtype", 11),
    ("GroupNormalization", "stash_type", 21),
    ("RMSNormalization", "stash_type", 23),
    ("Range", "stash_type", 27),
];

/// Rewrites a settled model.
///
/// # Errors
/// Which operator, at which node, has no double-precision form.
pub(crate) fn rewrite(model: &ModelProto) -> Result<ModelProto, String> {
    let mut model = model.clone();
    let version = opset(&model);
    let functions: HashSet<(String, String)> =
        model.functions.iter().map(|f| (f.domain.clone(), f.name.clone())).collect();
    let mut names = taken(&model);
    let mut rewriter = Rewriter { version, functions: &functions, names: &mut names };
    if let Some(graph) = &mut model.graph {
        rewriter.graph(graph, &mut Vec::new())?;
    }
    for function in &mut model.functions {
        let own = function.opset_import.iter().find(|set| is_standard(&set.domain));
        rewriter.version = own.map_or(version, |set| set.version);
        function.value_info.clear();
        for attribute in &mut function.attribute_proto {
            double_attribute(attribute);
        }
        rewriter.nodes(&mut function.node, &mut vec![HashMap::new()])?;
    }
    lower(&mut model, &mut names);
    Ok(model)
}

/// Where a graph of longer floats rounds to shorter ones inside: a copy in double precision would not, and call what that
/// rounding does exact.
pub(crate) fn rounds_inside(model: &ModelProto) -> Result<(), String> {
    let graph = model.graph.iter();
    let ports = graph.flat_map(|graph| graph.input.iter().chain(&graph.output)).filter_map(Port::kind);
    let short = |kind: i32| data_type::is_shorter_float(kind) && kind != data_type::FLOAT;
    if ports.into_iter().any(short) {
        return Ok(());
    }
    try_nodes(model, &mut |node| {
        let target = node.attribute.iter().find(|a| a.name == "to").map(|a| a.i as i32);
        match target.filter(|kind| node.op_type == "Cast" && short(*kind)) {
            None => Ok(()),
            Some(kind) => Err(format!(
                "the graph rounds to {} inside, at node `{}`, and would not in double precision",
                data_type::name(kind),
                node_name(node)
            )),
        }
    })
}

/// Puts operators that backends have in double precision into the place of those that they lack there, in a model whose
/// floats are doubles already.
pub(crate) fn settle(model: &mut ModelProto) {
    if shortest_float(model) == data_type::DOUBLE {
        let mut names = taken(model);
        lower(model, &mut names);
    }
}

/// Names of tensors in the whole model, which new ones must differ from.
pub(crate) fn taken(model: &ModelProto) -> HashSet<String> {
    fn graph(graph: &GraphProto, names: &mut HashSet<String>) {
        names.extend(graph.input.iter().map(|v| v.name.clone()));
        names.extend(graph.initializer.iter().map(|t| t.name.clone()));
        nodes(&graph.node, names);
    }
    fn nodes(list: &[NodeProto], names: &mut HashSet<String>) {
        for node in list {
            names.extend(node.output.iter().cloned());
            for inner in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                graph(inner, names);
            }
        }
    }
    let mut names = HashSet::new();
    if let Some(inner) = &model.graph {
        graph(inner, &mut names);
    }
    for function in &model.functions {
        names.extend(function.input.iter().cloned());
        nodes(&function.node, &mut names);
    }
    names
}

/// By graph, from the outermost in: constants as they were.
type Scope = Vec<HashMap<String, TensorProto>>;

struct Rewriter<'a> {
    version: i64,
    functions: &'a HashSet<(String, String)>,
    names: &'a mut HashSet<String>,
}

impl Rewriter<'_> {
    fn graph(&mut self, graph: &mut GraphProto, scope: &mut Scope) -> Result<(), String> {
        scope.push(graph.initializer.iter().map(|t| (t.name.clone(), t.clone())).collect());
        for tensor in &mut graph.initializer {
            double_tensor(tensor);
        }
        for values in graph.sparse_initializer.iter_mut().flat_map(|sparse| &mut sparse.values) {
            double_tensor(values);
        }
        for value in graph.input.iter_mut().chain(&mut graph.output) {
            double_value(value);
        }
        // Backends find them out.
        graph.value_info.clear();
        self.nodes(&mut graph.node, scope)?;
        scope.pop();
        Ok(())
    }

    fn nodes(&mut self, nodes: &mut Vec<NodeProto>, scope: &mut Scope) -> Result<(), String> {
        let mut result = Vec::with_capacity(nodes.len());
        for mut node in nodes.drain(..) {
            if crate::graph::is_constant(&node)
                && let (Some(name), Some(tensor)) =
                    (node.output.first(), node.attribute.iter().find_map(|a| a.t.as_ref()))
            {
                let innermost = scope.last_mut().expect("nodes stand in a graph");
                innermost.insert(name.clone(), tensor.clone());
            }
            for position in self.check(&node)? {
                let Some(input) = node.input.get(position).filter(|name| !name.is_empty()).cloned() else {
                    continue;
                };
                let name = self.fresh(&input);
                // A constant keeps its value as a constant: some backends ask for one.
                let held = scope.iter().rev().find_map(|graph| graph.get(&input)).cloned();
                result.push(match held {
                    Some(tensor) => constant(&name, tensor),
                    None => cast(&input, &name, data_type::FLOAT),
                });
                node.input[position] = name;
            }
            self.attributes(&mut node, scope)?;
            result.push(node);
        }
        *nodes = result;
        Ok(())
    }

    /// The inputs that stay in single precision.
    fn check(&self, node: &NodeProto) -> Result<Vec<usize>, String> {
        let at = || format!("`{}` at node `{}`", one_line(&operator_name(node)), one_line(node_name(node)));
        if self.functions.contains(&(node.domain.clone(), node.op_type.clone())) {
            return Ok(Vec::new());
        }
        if !is_standard(&node.domain) {
            return Err(format!("{} is none of the standard's operators", at()));
        }
        if node.op_type == "BitCast" {
            return Err(format!("{} depends on the width of its input", at()));
        }
        if draws(node) {
            return Err(format!("{} draws other numbers in another precision", at()));
        }
        match doubling(&node.op_type, self.version) {
            Doubling::Double(positions) => Ok(positions),
            Doubling::ShortOutputs(positions) => {
                let used = |k: &usize| node.output.get(*k).is_some_and(|name| !name.is_empty());
                match positions.iter().find(|k| used(k)) {
                    Some(k) => {
                        Err(format!("output `{}` of {} has no double precision", node.output[*k], at()))
                    }
                    None => Ok(Vec::new()),
                }
            }
            Doubling::Single => Err(format!("{} is defined in single precision alone", at())),
            Doubling::Unknown => {
                Err(format!("{} is not among the operators of version {}", at(), self.version))
            }
        }
    }

    fn attributes(&mut self, node: &mut NodeProto, scope: &mut Scope) -> Result<(), String> {
        for attribute in &mut node.attribute {
            let names_type = TYPES.contains(&attribute.name.as_str())
                || (attribute.name == "stash_type" && node.op_type != "LayerNormalization");
            if names_type {
                if !attribute.ref_attr_name.is_empty() {
                    return Err(format!(
                        "`{}` at node `{}` takes its type from the function around it",
                        node.op_type,
                        node.output.first().map_or("", String::as_str)
                    ));
                }
                if data_type::is_shorter_float(attribute.i as i32) {
                    attribute.i = data_type::DOUBLE.into();
                }
            }
            double_attribute(attribute);
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                self.graph(graph, scope)?;
            }
        }
        for (operator, name, since) in DEFAULTS {
            let absent = !node.attribute.iter().any(|a| a.name == name);
            if node.op_type == operator && self.version >= since && absent {
                node.attribute.push(AttributeProto {
                    name: name.to_owned(),
                    r#type: AttributeType::Int as i32,
                    i: data_type::DOUBLE.into(),
                    ..AttributeProto::default()
                });
            }
        }
        Ok(())
    }

    fn fresh(&mut self, name: &str) -> String {
        let mut k = 0;
        loop {
            let candidate = format!("{name}/single{k}");
            if self.names.insert(candidate.clone()) {
                return candidate;
            }
            k += 1;
        }
    }
}

fn constant(output: &str, tensor: TensorProto) -> NodeProto {
    NodeProto {
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: "Constant".to_owned(),
        attribute: vec![tensor_attribute("value", tensor)],
        ..NodeProto::default()
    }
}

fn cast(input: &str, output: &str, to: i32) -> NodeProto {
    NodeProto {
        input: vec![input.to_owned()],
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: "Cast".to_owned(),
        attribute: vec![AttributeProto {
            name: "to".to_owned(),
            r#type: AttributeType::Int as i32,
            i: to.into(),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    }
}

fn double_tensor(tensor: &mut TensorProto) {
    if data_type::is_shorter_float(tensor.data_type)
        && let Some(values) = tensor::read(tensor)
    {
        tensor::write(tensor, &values.double());
    }
}

fn double_attribute(attribute: &mut AttributeProto) {
    for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
        double_tensor(tensor);
    }
    for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
        sparse.values.iter_mut().for_each(double_tensor);
    }
    attribute.tp.iter_mut().chain(&mut attribute.type_protos).for_each(double_type);
}

fn double_value(value: &mut ValueInfoProto) {
    value.r#type.iter_mut().for_each(double_type);
}

fn double_type(of: &mut TypeProto) {
    match &mut of.value {
        Some(TypeValue::Tensor(tensor) | TypeValue::SparseTensor(tensor))
            if data_type::is_shorter_float(tensor.elem_type) =>
        {
            tensor.elem_type = data_type::DOUBLE;
        }
        Some(TypeValue::Sequence(inner) | TypeValue::Optional(inner)) => {
            inner.elem_type.iter_mut().for_each(|inner| double_type(inner));
        }
        Some(TypeValue::Map(inner)) => inner.value_type.iter_mut().for_each(|inner| double_type(inner)),
        _ => {}
    }
}

/// The shortest type that floats of the graph pass through: of its inputs and outputs, its constants and its casts.
pub(crate) fn shortest_float(model: &ModelProto) -> i32 {
    let mut kinds = HashSet::new();
    let held = |graph: &GraphProto, kinds: &mut HashSet<i32>| {
        kinds.extend(graph.input.iter().chain(&graph.output).filter_map(Port::kind));
        kinds.extend(graph.initializer.iter().map(|tensor| tensor.data_type));
    };
    model.graph.iter().for_each(|graph| held(graph, &mut kinds));
    let _ = try_nodes(model, &mut |node| -> Result<(), ()> {
        for attribute in &node.attribute {
            attribute.g.iter().chain(&attribute.graphs).for_each(|graph| held(graph, &mut kinds));
            kinds.extend(attribute.t.iter().map(|tensor| tensor.data_type));
            if TYPES.contains(&attribute.name.as_str()) {
                kinds.insert(attribute.i as i32);
            }
        }
        Ok(())
    });
    [data_type::BFLOAT16, data_type::FLOAT16, data_type::FLOAT]
        .into_iter()
        .find(|kind| kinds.contains(kind))
        .unwrap_or(data_type::DOUBLE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The standard's type of what makes a tensor: of a constant, or the target of a cast.
    fn made(graph: &GraphProto, name: &str) -> (String, i32) {
        let node = graph.node.iter().find(|node| node.output[0] == name).expect("it is made");
        let kind = node.attribute.iter().find_map(|a| match (a.name.as_str(), &a.t) {
            ("to", _) => Some(a.i as i32),
            (_, Some(tensor)) => Some(tensor.data_type),
            _ => None,
        });
        (node.op_type.clone(), kind.unwrap_or_default())
    }

    #[test]
    fn scales_stay_in_single_precision_and_all_else_becomes_double() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/resize_nearest.onnx");
        let before = crate::graph::read(&path).unwrap();
        let after = rewrite(&before).unwrap().graph.unwrap();
        assert!(after.initializer.iter().all(|tensor| tensor.data_type == data_type::DOUBLE));
        let ports = after.input.iter().chain(&after.output);
        assert!(ports.filter_map(Port::kind).all(|kind| kind == data_type::DOUBLE));
        let resizes: Vec<&NodeProto> = after.node.iter().filter(|n| n.op_type == "Resize").collect();
        let scales: Vec<_> = resizes.iter().map(|node| made(&after, &node.input[2])).collect();
        assert_eq!(
            scales,
            [("Cast".to_owned(), data_type::FLOAT), ("Constant".to_owned(), data_type::FLOAT)]
        );
    }
}
