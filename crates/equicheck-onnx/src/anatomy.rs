//! The calls inside a graph: a node is one, and so are the modules that exporters say nodes come from.

use std::collections::{HashMap, HashSet};

use crate::graph::{draws, graph_of, is_standard, operator_name};
use crate::proto::{GraphProto, ModelProto, NodeProto};

/// The whole, as in traces of other hosts.
pub(crate) const ROOT: &str = "(root)";
/// Metadata of nodes that stand for one of another operator: its name and its operator.
pub(crate) const STANDS_FOR: [&str; 2] = ["equicheck.node", "equicheck.operator"];
/// Metadata of torch's exporter: dotted names and classes of the modules around, and where in the source.
const NAME_SCOPES: &str = "pkg.torch.onnx.name_scopes";
const CLASSES: &str = "pkg.torch.onnx.class_hierarchy";
const STACK: &str = "pkg.torch.onnx.stack_trace";

/// One call of a node or of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GraphCall {
    /// Dotted name of a module, or the node's name behind that of its module.
    pub(crate) path: String,
    /// The how many-th call of this path.
    pub(crate) number: usize,
    pub(crate) parent: Option<usize>,
    /// The operator, or the module's class; empty where it is not known.
    pub(crate) class: String,
    pub(crate) source: Option<String>,
    pub(crate) began: usize,
    pub(crate) ended: usize,
    /// Positions of its nodes in the graph.
    pub(crate) nodes: Vec<usize>,
    /// Names of tensors that go into it.
    pub(crate) inputs: Vec<String>,
    /// Names of tensors that come out of it and are used.
    pub(crate) outputs: Vec<String>,
}

/// What can be watched in a graph.
#[derive(Debug, Clone, Default)]
pub(crate) struct Anatomy {
    /// In the order in which they begin; the first is the whole.
    pub(crate) calls: Vec<GraphCall>,
    /// Tensors of the calls, in the order in which they appear, inputs of the graph first.
    pub(crate) tensors: Vec<String>,
    /// Tensors that depend on nothing but the file.
    pub(crate) constant: HashSet<String>,
    /// Tensors that depend on shapes beside, and that calls use: arguments, but no data.
    pub(crate) sized: Vec<String>,
}

/// One node of the graph, or those that stand for it.
struct Step {
    nodes: Vec<usize>,
    name: String,
    class: String,
    source: Option<String>,
    /// Dotted name and class of each module around, from the outermost in.
    scopes: Vec<(String, String)>,
}

impl Anatomy {
    pub(crate) fn of(model: &ModelProto) -> Self {
        let graph = graph_of(model);
        let mut constant: HashSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
        constant.extend(graph.sparse_initializer.iter().flat_map(|s| &s.values).map(|t| t.name.clone()));
        let mut fixed = constant.clone();
        let mut data: Vec<usize> = Vec::new();
        for (k, node) in graph.node.iter().enumerate() {
            let used = used_by(node);
            let measures = is_standard(&node.domain) && matches!(node.op_type.as_str(), "Shape" | "Size");
            let random = draws(node);
            if !random && used.iter().all(|name| constant.contains(*name)) {
                constant.extend(node.output.iter().cloned());
            }
            if !random && (measures || used.iter().all(|name| fixed.contains(*name))) {
                fixed.extend(node.output.iter().cloned());
            } else {
                data.push(k);
            }
        }
        let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
        for k in &data {
            for name in used_by(&graph.node[*k]) {
                users.entry(name).or_default().push(*k);
            }
        }
        let steps = steps(graph, &data);
        let (calls, counts) = (Vec::new(), HashMap::new());
        let mut builder = Builder { graph, fixed: &fixed, users: &users, calls, counts, clock: 0 };
        builder.begin(ROOT.to_owned(), root_class(graph), None, None, data.clone());
        builder.build(&steps, 0, 0);
        builder.end(0);
        let mut calls = builder.calls;
        calls[0].inputs = crate::port::given(graph).map(|input| input.name.clone()).collect();
        calls[0].outputs = graph.output.iter().map(|output| output.name.clone()).collect();
        let mut seen = HashSet::new();
        let outputs = calls.iter().flat_map(|call| &call.outputs);
        let leaves: HashSet<&String> = outputs.chain(calls.iter().flat_map(|call| &call.inputs)).collect();
        let made = graph.node.iter().flat_map(|node| &node.output);
        let tensors: Vec<String> = calls[0]
            .inputs
            .iter()
            .chain(made)
            .chain(&calls[0].outputs)
            .filter(|name| leaves.contains(name) && seen.insert(name.as_str()))
            .cloned()
            .collect();
        let mut seen = HashSet::new();
        let sized = data
            .iter()
            .flat_map(|k| used_by(&graph.node[*k]))
            .filter(|name| fixed.contains(*name) && !constant.contains(*name) && seen.insert(*name))
            .map(str::to_owned)
            .collect();
        Self { calls, tensors, constant, sized }
    }

    /// The position of a call.
    pub(crate) fn find(&self, path: &str, number: usize) -> Option<usize> {
        self.calls.iter().position(|call| call.path == path && call.number == number)
    }
}

/// Names of tensors that a node uses, those that its subgraphs take from around them among them.
pub(crate) fn used_by(node: &NodeProto) -> Vec<&str> {
    fn from_around<'a>(graph: &'a GraphProto, found: &mut Vec<&'a str>) {
        let mut own: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        own.extend(graph.initializer.iter().map(|t| t.name.as_str()));
        own.extend(graph.sparse_initializer.iter().flat_map(|s| &s.values).map(|t| t.name.as_str()));
        own.extend(graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
        let inside = graph.node.iter().flat_map(used_by);
        let returned = graph.output.iter().map(|output| output.name.as_str());
        found.extend(inside.chain(returned).filter(|name| !own.contains(name)));
    }
    let mut found: Vec<&str> =
        node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for graph in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
        from_around(graph, &mut found);
    }
    found
}

/// Gives another name to a tensor that a node uses.
pub(crate) fn rename(node: &mut NodeProto, from: &str, to: &str) {
    for name in node.input.iter_mut().filter(|name| *name == from) {
        to.clone_into(name);
    }
    let graphs =
        node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
    for graph in graphs {
        // What is made inside has a name of its own: names are given once in a whole graph.
        graph.node.iter_mut().for_each(|node| rename(node, from, to));
        for output in graph.output.iter_mut().filter(|output| output.name == from) {
            to.clone_into(&mut output.name);
        }
    }
}

fn metadata<'a>(node: &'a NodeProto, key: &str) -> Option<&'a str> {
    node.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// The class of the module that was exported, else the graph's name.
fn root_class(graph: &GraphProto) -> String {
    let exported = graph.node.iter().find_map(|node| quoted(metadata(node, CLASSES)?).into_iter().next());
    exported.filter(|class| !class.is_empty()).unwrap_or_else(|| graph.name.clone())
}

/// Texts of a list as Python prints it.
fn quoted(list: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = list;
    while let Some(start) = rest.find(['\'', '"']) {
        let (quote, after) = (&rest[start..=start], &rest[start + 1..]);
        let Some(end) = after.find(quote) else { break };
        texts.push(after[..end].to_owned());
        rest = &after[end + 1..];
    }
    texts
}

/// `FILE:LINE` of the innermost call that is no library's, in a stack as Python prints it.
fn source(stack: &str) -> Option<String> {
    let frames = stack.lines().filter_map(|line| {
        let (file, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((file, number))
    });
    let frames: Vec<(&str, String)> = frames.collect();
    let own = frames.iter().rev().find(|(file, _)| !file.contains("site-packages"));
    own.or(frames.last()).map(|(file, number)| format!("{file}:{number}"))
}

/// The modules around a node: by the exporter's metadata, else by a name such as `/layer1/layer1.0/conv1/Conv`, in which
/// children of a list repeat its name.
fn scopes(node: &NodeProto, name: &str) -> Vec<(String, String)> {
    if let Some(names) = metadata(node, NAME_SCOPES) {
        let names = quoted(names);
        let mut classes = metadata(node, CLASSES).map(quoted).unwrap_or_default();
        classes.resize(names.len(), String::new());
        // The first is the whole, the last the node itself.
        let inner = names.len().saturating_sub(1);
        return names.into_iter().zip(classes).take(inner).filter(|(name, _)| !name.is_empty()).collect();
    }
    let Some(name) = name.strip_prefix('/') else { return Vec::new() };
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    let mut scopes: Vec<(String, String)> = Vec::new();
    for k in 0..parts.len().saturating_sub(1) {
        let outer = scopes.last().map_or("", |(path, _)| path.as_str());
        let inside = (k > 0).then(|| parts[k].strip_prefix(parts[k - 1])?.strip_prefix('.')).flatten();
        let own = inside.unwrap_or(parts[k]);
        let path = if outer.is_empty() { own.to_owned() } else { format!("{outer}.{own}") };
        scopes.push((path, String::new()));
    }
    scopes
}

/// Nodes in their order, those that stand for one together, with names of their own.
fn steps(graph: &GraphProto, data: &[usize]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut last: Option<(&str, &str)> = None;
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut taken: HashSet<String> = HashSet::new();
    for k in data {
        let node = &graph.node[*k];
        let original = metadata(node, STANDS_FOR[0]).zip(metadata(node, STANDS_FOR[1]));
        if let (Some(_), true, Some(step)) = (original, original == last, steps.last_mut()) {
            step.nodes.push(*k);
            continue;
        }
        last = original;
        let class = original.map_or_else(|| operator_name(node), |(_, operator)| operator.to_owned());
        let own = original.map_or(node.name.as_str(), |(name, _)| name);
        let scopes = scopes(node, own);
        let count = counts.entry(class.clone()).or_default();
        let mut name = if own.is_empty() { format!("{class}_{count}") } else { own.to_owned() };
        *count += usize::from(own.is_empty());
        if let (Some((around, _)), false) = (scopes.last(), name.starts_with('/')) {
            name = format!("{around}/{name}");
        }
        if !taken.insert(name.clone()) {
            name = format!("{name} ({})", node.output.first().map_or("", String::as_str));
            taken.insert(name.clone());
        }
        let source = metadata(node, STACK).and_then(source);
        steps.push(Step { nodes: vec![*k], name, class, source, scopes });
    }
    steps
}

struct Builder<'a> {
    graph: &'a GraphProto,
    fixed: &'a HashSet<String>,
    /// Nodes that use a tensor and compute with data.
    users: &'a HashMap<&'a str, Vec<usize>>,
    calls: Vec<GraphCall>,
    /// Calls of a path so far.
    counts: HashMap<String, usize>,
    clock: usize,
}

impl Builder<'_> {
    fn begin(
        &mut self,
        path: String,
        class: String,
        source: Option<String>,
        parent: Option<usize>,
        nodes: Vec<usize>,
    ) -> usize {
        let count = self.counts.entry(path.clone()).or_default();
        let number = *count;
        *count += 1;
        let (inputs, outputs) = self.leaves(&nodes);
        let (began, ended) = (self.clock, self.clock);
        self.clock += 1;
        self.calls.push(GraphCall {
            path,
            number,
            parent,
            class,
            source,
            began,
            ended,
            nodes,
            inputs,
            outputs,
        });
        self.calls.len() - 1
    }

    fn end(&mut self, call: usize) {
        self.calls[call].ended = self.clock;
        self.clock += 1;
    }

    /// Tensors that go into some nodes, and that come out of them and are used.
    fn leaves(&self, nodes: &[usize]) -> (Vec<String>, Vec<String>) {
        let inside: HashSet<usize> = nodes.iter().copied().collect();
        let made: HashSet<&str> =
            nodes.iter().flat_map(|k| &self.graph.node[*k].output).map(String::as_str).collect();
        let mut seen = HashSet::new();
        let inputs = nodes
            .iter()
            .flat_map(|k| used_by(&self.graph.node[*k]))
            .filter(|name| !made.contains(name) && !self.fixed.contains(*name) && seen.insert(*name))
            .map(str::to_owned)
            .collect();
        let is_used = |name: &str| {
            let outside = self.users.get(name).is_some_and(|users| users.iter().any(|k| !inside.contains(k)));
            outside || self.graph.output.iter().any(|output| output.name == name)
        };
        let outputs = nodes
            .iter()
            .flat_map(|k| &self.graph.node[*k].output)
            .filter(|name| !name.is_empty() && is_used(name))
            .cloned()
            .collect();
        (inputs, outputs)
    }

    /// Calls for steps that lie `depth` modules deep in `parent`.
    fn build(&mut self, steps: &[Step], depth: usize, parent: usize) {
        let mut k = 0;
        while k < steps.len() {
            let step = &steps[k];
            let Some((path, class)) = step.scopes.get(depth) else {
                self.leaf(step, &step.name, &step.class, parent);
                k += 1;
                continue;
            };
            let same = |other: &&Step| other.scopes.get(depth).is_some_and(|(scope, _)| scope == path);
            let run = &steps[k..k + steps[k..].iter().take_while(same).count()];
            if run.len() == 1 && step.scopes.len() == depth + 1 {
                // A module of one node is that node.
                let class = if class.is_empty() { &step.class } else { class };
                self.leaf(step, path, class, parent);
            } else {
                let nodes = run.iter().flat_map(|step| step.nodes.clone()).collect();
                let call = self.begin(path.clone(), class.clone(), None, Some(parent), nodes);
                self.build(run, depth + 1, call);
                self.end(call);
            }
            k += run.len();
        }
    }

    fn leaf(&mut self, step: &Step, path: &str, class: &str, parent: usize) {
        let source = step.source.clone();
        let call = self.begin(path.to_owned(), class.to_owned(), source, Some(parent), step.nodes.clone());
        self.end(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ValueInfoProto;

    fn node(name: &str, op_type: &str, input: &[&str], output: &str) -> NodeProto {
        NodeProto {
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            input: input.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn anatomy(node: Vec<NodeProto>, input: &str, output: &str) -> Anatomy {
        let port = |name: &str| vec![ValueInfoProto { name: name.to_owned(), r#type: None }];
        let graph = GraphProto { node, input: port(input), output: port(output), ..GraphProto::default() };
        Anatomy::of(&ModelProto { graph: Some(graph), ..ModelProto::default() })
    }

    fn call<'a>(anatomy: &'a Anatomy, path: &str) -> &'a GraphCall {
        let paths: Vec<&str> = anatomy.calls.iter().map(|call| call.path.as_str()).collect();
        anatomy.calls.iter().find(|call| call.path == path).unwrap_or_else(|| panic!("{path}: {paths:?}"))
    }

    /// As torch's older exporter names the nodes of `layers = ModuleList([Sequential(Linear, Act)])`, and then `act`.
    #[test]
    fn slashes_in_names_are_modules() {
        let found = anatomy(
            vec![
                node("/layers.0/layers.0.0/Gemm", "Gemm", &["x"], "a"),
                node("/layers.0/layers.0.1/Sigmoid", "Sigmoid", &["a"], "b"),
                node("/layers.0/layers.0.1/Mul", "Mul", &["a", "b"], "c"),
                node("/act/Relu", "Relu", &["c"], "d"),
                node("/Add", "Add", &["d", "x"], "y"),
            ],
            "x",
            "y",
        );
        let paths: Vec<(&str, Option<usize>)> =
            found.calls.iter().map(|call| (call.path.as_str(), call.parent)).collect();
        let wanted = [
            (ROOT, None),
            ("layers.0", Some(0)),
            ("layers.0.0", Some(1)),
            ("layers.0.1", Some(1)),
            ("/layers.0/layers.0.1/Sigmoid", Some(3)),
            ("/layers.0/layers.0.1/Mul", Some(3)),
            ("act", Some(0)),
            ("/Add", Some(0)),
        ];
        assert_eq!(paths, wanted);
        assert_eq!(call(&found, "layers.0.0").class, "Gemm");
        assert_eq!(call(&found, "layers.0.1").inputs, ["a"]);
        assert_eq!(call(&found, "layers.0").outputs, ["c"], "what is used inside alone does not come out");
        let act = call(&found, "layers.0.1");
        assert!(act.began < call(&found, "/layers.0/layers.0.1/Mul").began);
        assert!(
            act.ended > call(&found, "/layers.0/layers.0.1/Mul").ended && act.ended < found.calls[0].ended
        );
    }

    #[test]
    fn nodes_without_names_of_their_own_are_told_apart_and_shapes_are_no_data() {
        let found = anatomy(
            vec![
                node("", "Relu", &["x"], "a"),
                node("", "Shape", &["a"], "s"),
                node("same", "Tanh", &["a"], "b"),
                node("same", "Tanh", &["b"], "c"),
                node("", "Relu", &["c"], "d"),
                node("", "Constant", &[], "k"),
                node("", "Mul", &["s", "k"], "t"),
                node("", "Reshape", &["d", "t"], "y"),
                node("unused", "Abs", &["a"], "z"),
            ],
            "x",
            "y",
        );
        let paths: Vec<&str> = found.calls.iter().map(|call| call.path.as_str()).collect();
        assert_eq!(paths, [ROOT, "Relu_0", "same", "same (c)", "Relu_1", "Reshape_0", "unused"]);
        assert_eq!(call(&found, "Reshape_0").inputs, ["d"]);
        assert_eq!(found.sized, ["t"]);
        assert!(found.constant.contains("k") && !found.constant.contains("t"));
        assert_eq!(found.tensors, ["x", "a", "b", "c", "d", "y"]);
    }

    #[test]
    fn the_line_of_the_source_is_that_of_no_library() {
        let stack = "File \"/a/net.py\", line 11, in forward\n  x = f(x)\n  File \"/lib/site-packages/torch/m.py\", line 3";
        assert_eq!(source(stack).as_deref(), Some("/a/net.py:11"));
        assert_eq!(
            source("File \"/lib/site-packages/t.py\", line 3, in f").as_deref(),
            Some("/lib/site-packages/t.py:3")
        );
        assert_eq!(source("nothing of the kind"), None);
        assert_eq!(quoted("['', 'layers.0', \"it's\"]"), ["", "layers.0", "it's"]);
    }
}
