//! Looking into a graph: passes with every tensor of it, calls of single nodes and modules, and interventions.
//!
//! All of it runs without the backend's optimisations, so that a node computes the same wherever it stands.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use equicheck::model::{
    Action, Call, CallError, ModuleCall, Output, Patch, Tensor, Trace, TracedLeaf, TracedTensor, Tracing,
};

use crate::OnnxError;
use crate::anatomy::{Anatomy, GraphCall, rename, used_by};
use crate::backend::{Optimisation, Runner, located, start};
use crate::double::taken;
use crate::graph::{graph_mut, graph_of};
use crate::model::{OnnxModel, OpenOptions};
use crate::port::given;
use crate::proto::{
    Dimension, GraphProto, ModelProto, NodeProto, TensorShapeProto, TensorType, TypeProto, TypeValue,
    ValueInfoProto,
};
use crate::tensor;

type Values = HashMap<String, Tensor>;

/// A graph that runs, with the names of what it gives.
struct Session {
    model: Rc<ModelProto>,
    runner: Box<dyn Runner>,
    outputs: Vec<String>,
}

impl Session {
    fn start(model: ModelProto, options: &OpenOptions) -> Result<Self, OnnxError> {
        let runner = start(&model, options, Optimisation::None)?;
        let outputs = graph_of(&model).output.iter().map(|output| output.name.clone()).collect();
        Ok(Self { model: Rc::new(model), runner, outputs })
    }

    /// What it gives, by name; what is no tensor is left out.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Values, OnnxError> {
        let outputs = self.runner.run(inputs).map_err(|error| located(&self.model, error))?;
        Ok(self
            .outputs
            .iter()
            .cloned()
            .zip(outputs)
            .filter_map(|(name, value)| Some((name, value?)))
            .collect())
    }
}

/// A place where other values go on than those that the graph has computed.
#[derive(Debug, Clone, PartialEq)]
struct Cut {
    call: usize,
    input: bool,
    tensor: String,
}

/// What looks into one model.
pub(crate) struct Inside {
    anatomy: Anatomy,
    options: OpenOptions,
    /// What no name in the graph begins with.
    prefix: String,
    /// The graph as it is, with every tensor of it.
    whole: Session,
    /// The latest one with cuts in it.
    cut: Option<(Vec<Cut>, Session)>,
    /// Tensors that depend on shapes, in the pass that was kept.
    kept: Option<Values>,
    /// The call that was made again last.
    again: Option<(usize, Session)>,
}

impl Inside {
    pub(crate) fn of(model: &ModelProto, options: &OpenOptions) -> Result<Self, OnnxError> {
        let anatomy = Anatomy::of(model);
        let mut exposed = model.clone();
        let graph = graph_mut(&mut exposed);
        let given: HashSet<String> = given(graph).map(|input| input.name.clone()).collect();
        for name in anatomy.tensors.iter().chain(&anatomy.sized) {
            if !given.contains(name) && !graph.output.iter().any(|output| output.name == *name) {
                // Its type and shape follow from the graph.
                graph.output.push(ValueInfoProto { name: name.clone(), r#type: None });
            }
        }
        let names = taken(model);
        let mut prefix = "overwritten".to_owned();
        while names.iter().any(|name| name.starts_with(&prefix)) {
            prefix.push('_');
        }
        let whole = Session::start(exposed, options)?;
        Ok(Self { anatomy, options: options.clone(), prefix, whole, cut: None, kept: None, again: None })
    }

    /// The name of the input that stands for the k-th cut.
    fn fresh(&self, k: usize) -> String {
        format!("{}/{k}", self.prefix)
    }

    /// A pass over some inputs, with other values at some places: all tensors by name. What was put into a call stands
    /// under the name of [`fresh`](Self::fresh).
    fn pass(&mut self, inputs: &[Tensor], cuts: &[(Cut, Tensor)]) -> Result<Values, OnnxError> {
        let names: Vec<String> = given(graph_of(&self.whole.model)).map(|input| input.name.clone()).collect();
        let mut values = if cuts.is_empty() {
            self.whole.run(inputs)?
        } else {
            let places: Vec<Cut> = cuts.iter().map(|(cut, _)| cut.clone()).collect();
            if self.cut.as_ref().is_none_or(|(known, _)| *known != places) {
                // Not two of them at a time.
                self.cut = None;
                let model = self.with_cuts(cuts);
                self.cut = Some((places, Session::start(model, &self.options)?));
            }
            let (_, session) = self.cut.as_mut().expect("it was made");
            let all: Vec<Tensor> =
                inputs.iter().chain(cuts.iter().map(|(_, values)| values)).cloned().collect();
            session.run(&all)?
        };
        values.extend(names.into_iter().zip(inputs.iter().cloned()));
        for (k, (cut, tensor)) in cuts.iter().enumerate() {
            values.insert(self.fresh(k), tensor.clone());
            if !cut.input {
                values.insert(cut.tensor.clone(), tensor.clone());
            }
        }
        Ok(values)
    }

    /// The whole graph with a further input for each cut, which those use that used the tensor before.
    fn with_cuts(&self, cuts: &[(Cut, Tensor)]) -> ModelProto {
        let mut model = (*self.whole.model).clone();
        let graph = graph_mut(&mut model);
        // What comes out of calls first: what goes into one comes after it.
        let mut now: HashMap<&str, Vec<String>> = HashMap::new();
        for into in [false, true] {
            for (k, (cut, _)) in cuts.iter().enumerate().filter(|(_, (cut, _))| cut.input == into) {
                let name = self.fresh(k);
                let inside = &self.anatomy.calls[cut.call].nodes;
                let olds = now.entry(&cut.tensor).or_insert_with(|| vec![cut.tensor.clone()]);
                for (position, node) in graph.node.iter_mut().enumerate() {
                    if inside.contains(&position) == into {
                        for old in olds.iter() {
                            rename(node, old, &name);
                        }
                    }
                }
                olds.push(name);
            }
        }
        let ports = cuts.iter().enumerate().map(|(k, (_, values))| port(self.fresh(k), values));
        graph.input.extend(ports);
        model
    }

    /// Some nodes of a graph as a graph of their own, which takes `inputs` and holds everything else that they use.
    fn alone(
        &self,
        model: &ModelProto,
        call: &GraphCall,
        inputs: &[(String, Tensor)],
        others: &Values,
    ) -> Result<Session, OnnxError> {
        let whole = graph_of(model);
        let mut nodes: Vec<usize> = call.nodes.clone();
        // What they use of constants that are computed, and what these use in turn.
        let mut wanted: Vec<String> = Vec::new();
        let mut seen: HashSet<String> = inputs.iter().map(|(name, _)| name.clone()).collect();
        let makers: HashMap<&str, usize> = whole
            .node
            .iter()
            .enumerate()
            .flat_map(|(k, node)| node.output.iter().map(move |name| (name.as_str(), k)))
            .collect();
        let mut open = nodes.clone();
        let own: HashSet<usize> = nodes.iter().copied().collect();
        while let Some(k) = open.pop() {
            for name in used_by(&whole.node[k]) {
                let maker = makers.get(name).copied();
                if maker.is_some_and(|maker| own.contains(&maker)) || !seen.insert(name.to_owned()) {
                    continue;
                }
                match maker.filter(|_| self.anatomy.constant.contains(name)) {
                    Some(maker) if !nodes.contains(&maker) => {
                        nodes.push(maker);
                        open.push(maker);
                    }
                    Some(_) => {}
                    None => wanted.push(name.to_owned()),
                }
            }
        }
        nodes.sort_unstable();
        let held = |name: &String| whole.initializer.iter().find(|tensor| tensor.name == *name).cloned();
        let sparse = whole
            .sparse_initializer
            .iter()
            .filter(|sparse| sparse.values.as_ref().is_some_and(|values| wanted.contains(&values.name)));
        let shaped = |name: &String| {
            let mut tensor = tensor::written(others.get(name)?)?;
            name.clone_into(&mut tensor.name);
            Some(tensor)
        };
        let graph = GraphProto {
            node: nodes.iter().map(|k| whole.node[*k].clone()).collect(),
            name: whole.name.clone(),
            initializer: wanted.iter().filter_map(|name| held(name).or_else(|| shaped(name))).collect(),
            sparse_initializer: sparse.cloned().collect(),
            input: inputs.iter().map(|(name, values)| port(name.clone(), values)).collect(),
            output: call
                .outputs
                .iter()
                .map(|name| ValueInfoProto { name: name.clone(), r#type: None })
                .collect(),
            value_info: Vec::new(),
        };
        let model = ModelProto {
            // Before 4, initializers were inputs too.
            ir_version: model.ir_version.max(4),
            opset_import: model.opset_import.clone(),
            producer_name: model.producer_name.clone(),
            producer_version: model.producer_version.clone(),
            domain: model.domain.clone(),
            model_version: model.model_version,
            graph: Some(graph),
            metadata_props: Vec::new(),
            functions: model.functions.clone(),
        };
        Session::start(model, &self.options)
    }

    /// A pass with patches in force, and the places at which they are.
    fn patched(
        &mut self,
        inputs: &[Tensor],
        patches: &[Patch],
    ) -> Result<(Values, Vec<(Cut, Tensor)>), OnnxError> {
        let mut cuts: Vec<(Cut, Tensor)> = Vec::new();
        let mut turns: BTreeMap<usize, Turn<'_>> = BTreeMap::new();
        for patch in patches {
            match patch {
                Patch::Overwrite { path, number, input, leaf, values } => {
                    let Some(call) = self.anatomy.find(path, *number) else { continue };
                    let Some(tensor) = self.named(call, *input, leaf) else { continue };
                    put(&mut cuts, Cut { call, input: *input, tensor }, values.clone());
                }
                Patch::Conjugate { path, number, inputs, outputs } => {
                    let Some(call) = self.anatomy.find(path, *number) else { continue };
                    turns.insert(call, Turn { inputs, outputs });
                }
            }
        }
        // In the order of the pass: each with what those before it have made of its arguments.
        for (call, turn) in turns {
            let values = self.pass(inputs, &cuts)?;
            for (tensor, value) in self.turned(call, &turn, &values, &cuts)? {
                put(&mut cuts, Cut { call, input: false, tensor }, value);
            }
        }
        let values = self.pass(inputs, &cuts)?;
        Ok((values, cuts))
    }

    /// What a call makes of turned arguments, turned, in a pass with these values.
    fn turned(
        &self,
        call: usize,
        turn: &Turn<'_>,
        values: &Values,
        cuts: &[(Cut, Tensor)],
    ) -> Result<Vec<(String, Tensor)>, OnnxError> {
        let model = match &self.cut {
            Some((_, session)) if !cuts.is_empty() => &session.model,
            _ => &self.whole.model,
        };
        let call = &self.anatomy.calls[call];
        let nodes: Vec<&NodeProto> = call.nodes.iter().map(|k| &graph_of(model).node[*k]).collect();
        let made: HashSet<&str> = nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let mut given: Vec<(String, Tensor)> = Vec::new();
        for name in nodes.iter().flat_map(|node| used_by(node)) {
            let Some(value) = values.get(name) else { continue };
            let is_size = self.anatomy.sized.iter().any(|sized| sized == name);
            if is_size || made.contains(name) || given.iter().any(|(known, _)| known == name) {
                continue;
            }
            // Where values are overwritten, nodes use another name than that of the leaf.
            let cut = cuts.iter().enumerate().find(|(k, _)| self.fresh(*k) == name);
            let leaf = cut.map_or(name, |(_, (cut, _))| cut.tensor.as_str());
            given.push((name.to_owned(), acted(turn.inputs, leaf, value)));
        }
        let mut session = self.alone(model, call, &given, values)?;
        let given: Vec<Tensor> = given.into_iter().map(|(_, value)| value).collect();
        let returned = session.run(&given)?;
        let outputs = call.outputs.iter().filter_map(|name| {
            let leaf = leaf_name(&call.outputs, name);
            Some((name.clone(), acted(turn.outputs, leaf, returned.get(name)?)))
        });
        Ok(outputs.collect())
    }

    /// The tensor that a leaf of a call is.
    fn named(&self, call: usize, input: bool, leaf: &str) -> Option<String> {
        let call = &self.anatomy.calls[call];
        if input {
            return call.inputs.iter().find(|name| *name == leaf).cloned();
        }
        call.outputs.iter().find(|name| leaf_name(&call.outputs, name) == leaf).cloned()
    }

    fn traced(&self, mut values: Values, cuts: Vec<(Cut, Tensor)>, limit: usize) -> Trace {
        let outputs = self.anatomy.calls[0].outputs.iter().map(|name| Output {
            name: name.clone(),
            positional: false,
            tensor: values.get(name).cloned(),
        });
        let outputs = outputs.collect();
        let mut held = 0;
        let mut record = |value: Option<Tensor>| {
            let Some(value) = value else {
                return TracedTensor { shape: Vec::new(), dtype: "no tensor".to_owned(), values: None };
            };
            let size = value.len() * tensor::size(value.dtype());
            let room = held + size <= limit;
            held += if room { size } else { 0 };
            TracedTensor {
                shape: value.shape().to_vec(),
                dtype: value.dtype().name().to_owned(),
                values: room.then_some(value),
            }
        };
        let mut tensors: Vec<TracedTensor> =
            self.anatomy.tensors.iter().map(|name| record(values.remove(name))).collect();
        let places: HashMap<&str, usize> =
            self.anatomy.tensors.iter().enumerate().map(|(k, name)| (name.as_str(), k)).collect();
        let mut calls: Vec<ModuleCall> = self
            .anatomy
            .calls
            .iter()
            .map(|call| {
                let leaf = |name: &String, shown: &str| TracedLeaf {
                    name: shown.to_owned(),
                    tensor: places[name.as_str()],
                    layout: None,
                };
                let root = call.parent.is_none();
                ModuleCall {
                    path: call.path.clone(),
                    number: call.number,
                    parent: call.parent,
                    class: call.class.clone(),
                    source: call.source.clone(),
                    began: call.began,
                    ended: call.ended,
                    inputs: call.inputs.iter().map(|name| leaf(name, name)).collect(),
                    outputs: call
                        .outputs
                        .iter()
                        .map(|name| leaf(name, if root { name } else { leaf_name(&call.outputs, name) }))
                        .collect(),
                }
            })
            .collect();
        for (cut, value) in cuts.into_iter().filter(|(cut, _)| cut.input) {
            tensors.push(record(Some(value)));
            let leaves = calls[cut.call].inputs.iter_mut();
            for leaf in leaves.filter(|leaf| leaf.name == cut.tensor) {
                leaf.tensor = tensors.len() - 1;
            }
        }
        Trace { calls, tensors, outputs, differentiates: false }
    }
}

/// Arguments and results of a call that are acted on, by leaf.
struct Turn<'a> {
    inputs: &'a [(String, Action)],
    outputs: &'a [(String, Action)],
}

fn acted(actions: &[(String, Action)], leaf: &str, value: &Tensor) -> Tensor {
    let action = actions.iter().find(|(name, _)| name == leaf);
    action.map_or_else(|| value.clone(), |(_, action)| action.apply(value))
}

/// The later of two values for one place counts.
fn put(cuts: &mut Vec<(Cut, Tensor)>, cut: Cut, values: Tensor) {
    match cuts.iter_mut().find(|(known, _)| *known == cut) {
        Some((_, known)) => *known = values,
        None => cuts.push((cut, values)),
    }
}

/// One result needs no name.
fn leaf_name<'a>(outputs: &[String], name: &'a str) -> &'a str {
    if outputs.len() == 1 { "" } else { name }
}

/// An input of a graph for such values: of their type, and of any lengths.
fn port(name: String, values: &Tensor) -> ValueInfoProto {
    let dim = values.shape().iter().map(|_| Dimension::default()).collect();
    let tensor =
        TensorType { elem_type: tensor::kind(values.dtype()), shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() };
    ValueInfoProto { name, r#type: Some(kind) }
}

fn raised(error: &OnnxError) -> CallError {
    CallError::Raised(error.to_string())
}

impl Tracing for OnnxModel {
    fn trace(
        &mut self,
        call: &Call<'_>,
        patches: &[Patch],
        limit: usize,
        keep: bool,
    ) -> Result<Trace, CallError> {
        self.check(call.inputs).map_err(|error| raised(&error))?;
        let inside = self.inside().map_err(|error| raised(&error))?;
        let (values, cuts) = inside.patched(call.inputs, patches).map_err(|error| raised(&error))?;
        if keep {
            let sized = inside.anatomy.sized.iter();
            inside.kept =
                Some(sized.filter_map(|name| Some((name.clone(), values.get(name)?.clone()))).collect());
            inside.again = None;
        }
        Ok(inside.traced(values, cuts, limit))
    }

    fn replay(&mut self, position: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>, CallError> {
        let inside = self.inside().map_err(|error| raised(&error))?;
        let missing = |what: &str| CallError::Raised(what.to_owned());
        let call =
            inside.anatomy.calls.get(position).cloned().ok_or_else(|| missing("there is no such call"))?;
        if inside.again.as_ref().is_none_or(|(known, _)| *known != position) {
            let kept = inside.kept.as_ref().ok_or_else(|| missing("no pass was kept"))?;
            let named: Vec<(String, Tensor)> =
                call.inputs.iter().cloned().zip(inputs.iter().cloned()).collect();
            let session = inside.alone(&inside.whole.model, &call, &named, kept);
            inside.again = Some((position, session.map_err(|error| raised(&error))?));
        }
        let Some((_, session)) = &mut inside.again else { return Err(missing("no pass was kept")) };
        let mut values = session.run(inputs).map_err(|error| raised(&error))?;
        call.outputs
            .iter()
            .map(|name| values.remove(name).ok_or_else(|| missing("a result is no tensor")))
            .collect()
    }

    fn forget(&mut self) {
        if let Ok(inside) = self.inside() {
            (inside.kept, inside.again) = (None, None);
        }
    }
}
