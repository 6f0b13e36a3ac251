//! An ONNX model as the engine sees it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use equicheck::model::{
    Call, CallError, DType, Differentiation, Model, ModelInfo, Output, Pullback, PullbackError, Returned,
    StateKind, StateTensor, Tensor, Tracing, Unavailable,
};

use crate::backend::{Backend, Optimisation, Runner, located, start};
use crate::graph::{Holder, constants_mut, draws, graph_mut, graph_of, nodes_mut, try_nodes};
use crate::guard::one_line;
use crate::layers::Inside;
use crate::port::{self, Description, Dim, Port};
use crate::proto::{AttributeProto, AttributeType, ModelProto, ValueInfoProto, data_type};
use crate::schema::{Doubling, doubling};
use crate::{OnnxError, double, graph, lower, tensor};

/// Versions of the standard's operators that this crate is tested with.
const TESTED: std::ops::RangeInclusive<i64> = 11..=21;

/// How to open a model.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Who computes.
    pub backend: Backend,
    /// The library of ONNX Runtime; where it is not given, `ORT_DYLIB_PATH` counts, and then `search`.
    pub onnxruntime: Option<PathBuf>,
    /// Folders that Python packages are installed in (`site-packages`), where the package `onnxruntime` may be.
    pub search: Vec<PathBuf>,
}

/// An ONNX model, ready to run.
pub struct OnnxModel {
    path: PathBuf,
    model: Rc<ModelProto>,
    options: OpenOptions,
    description: Description,
    runner: Box<dyn Runner>,
    /// Names of operators that draw random numbers; empty for most models.
    random: Vec<String>,
    /// Inputs of the first call that gave something, on which a double-precision copy is compared with this.
    first: Option<Vec<Tensor>>,
    /// What looks into it, once it was asked for.
    inside: Option<Inside>,
    /// Of a double-precision copy that was made before any call: the model that its first call is compared with.
    origin: Option<Box<OnnxModel>>,
}

impl std::fmt::Debug for OnnxModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxModel")
            .field("path", &self.path)
            .field("backend", &self.options.backend)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

impl OnnxModel {
    /// Reads a model and gives it to a backend.
    ///
    /// # Errors
    /// The file is no whole ONNX model, values beside it cannot be taken from there, the backend is not there, or it
    /// refuses the graph.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, OnnxError> {
        let path = path.as_ref();
        if !options.backend.is_built() {
            return Err(OnnxError::NotBuilt { backend: options.backend });
        }
        let mut model = graph::read(path)?;
        double::settle(&mut model);
        Self::of(path, Rc::new(model), options)
    }

    fn of(path: &Path, model: Rc<ModelProto>, options: &OpenOptions) -> Result<Self, OnnxError> {
        let mut random = Vec::new();
        let _ = try_nodes(&model, &mut |node| -> Result<(), ()> {
            if draws(node) && !random.contains(&node.op_type) {
                random.push(node.op_type.clone());
            }
            Ok(())
        });
        let runner = start(&model, options, Optimisation::Full)?;
        let description = Description::of(&model);
        Ok(Self {
            path: path.to_owned(),
            model,
            options: options.clone(),
            description,
            runner,
            random,
            first: None,
            inside: None,
            origin: None,
        })
    }

    /// The same model with another graph.
    fn with(&self, model: ModelProto) -> Result<Self, OnnxError> {
        Self::of(&self.path, Rc::new(model), &self.options)
    }

    /// What the file says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What a call needs, in order.
    pub fn inputs(&self) -> &[Port] {
        &self.description.inputs
    }

    /// What a call gives, in order.
    pub fn outputs(&self) -> &[Port] {
        &self.description.outputs
    }

    /// Who computes.
    pub fn backend(&self) -> Backend {
        self.options.backend
    }

    /// Tensors that nodes of the graph make and that are no outputs, in order: what [`exposing`](Self::exposing)
    /// takes. Constants and what subgraphs make are not among them.
    pub fn intermediates(&self) -> Vec<&str> {
        let graph = graph_of(&self.model);
        graph
            .node
            .iter()
            .filter(|node| !graph::is_constant(node))
            .flat_map(|node| &node.output)
            .map(String::as_str)
            .filter(|name| !name.is_empty() && !self.outputs().iter().any(|output| output.name == *name))
            .collect()
    }

    /// The same model with intermediate tensors as additional outputs, behind its own.
    ///
    /// # Errors
    /// No node makes a tensor of that name, or the backend refuses the graph.
    pub fn exposing(&self, names: &[&str]) -> Result<Self, OnnxError> {
        let made = self.intermediates();
        let mut model = (*self.model).clone();
        let outputs = &mut graph_mut(&mut model).output;
        for name in names {
            if outputs.iter().any(|output| output.name == *name) {
                continue;
            }
            if !made.contains(name) {
                let nearest = equicheck::most_alike(name, made.iter().copied());
                return Err(OnnxError::UnknownTensor {
                    name: (*name).to_owned(),
                    nearest: nearest.map(str::to_owned),
                });
            }
            // Its type and shape follow from the graph.
            outputs.push(ValueInfoProto { name: (*name).to_owned(), r#type: None });
        }
        self.with(model)
    }

    /// Calls it.
    ///
    /// # Errors
    /// The inputs do not fit the graph, or the backend fails on them.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Option<Tensor>>, OnnxError> {
        self.check(inputs)?;
        self.runner.run(inputs).map_err(|error| located(&self.model, error))
    }

    /// Numbers of inputs, their types and axes, before a backend says it less clearly.
    pub(crate) fn check(&self, inputs: &[Tensor]) -> Result<(), OnnxError> {
        if inputs.len() != self.inputs().len() {
            let names = self.inputs().iter().map(|port| one_line(&port.to_string())).collect();
            return Err(OnnxError::InputCount { given: inputs.len(), names });
        }
        for (port, tensor) in self.inputs().iter().zip(inputs) {
            let wrong =
                |why: String| Err(OnnxError::Input { input: one_line(&port.name), why: one_line(&why) });
            let dtype = tensor.dtype().name();
            if dtype != port.dtype {
                return wrong(format!("{dtype} was given, and the graph takes {}", port.dtype));
            }
            let Some(dims) = &port.dims else { continue };
            let fits = |(dim, length): (&Dim, &usize)| !matches!(dim, Dim::Fixed(n) if n != length);
            if dims.len() != tensor.shape().len() || !dims.iter().zip(tensor.shape()).all(fits) {
                return wrong(format!("shape {:?} was given, and the graph takes {port}", tensor.shape()));
            }
        }
        Ok(())
    }

    /// What looks into it.
    pub(crate) fn inside(&mut self) -> Result<&mut Inside, OnnxError> {
        let inside = match self.inside.take() {
            Some(inside) => inside,
            None => Inside::of(&self.model, &self.options)?,
        };
        Ok(self.inside.insert(inside))
    }

    /// Names of tensors whose last digits decide shapes: rounding must not touch them.
    fn shaping(&self) -> Vec<String> {
        let version = self.description.opset;
        let mut names = Vec::new();
        let _ = try_nodes(&self.model, &mut |node| -> Result<(), ()> {
            if node.op_type == "Range" {
                names.extend(node.input.iter().cloned());
            }
            if let Doubling::Double(positions) = doubling(&node.op_type, version) {
                names.extend(positions.iter().filter_map(|k| node.input.get(*k).cloned()));
            }
            Ok(())
        });
        names
    }

    /// Floating-point initializers and constants: the position among all that the file holds, and the tensor. Whole
    /// numbers (exponents, masks, zeros) are exact in any precision, and stay what they are.
    fn floats(&self) -> Vec<(usize, StateTensor)> {
        let shaping = self.shaping();
        let mut result = Vec::new();
        let mut k = 0;
        let mut model = (*self.model).clone();
        constants_mut(&mut model, &mut |holder, name, held| {
            if let Some(values) = tensor::read(held)
                && values.dtype().is_inexact()
                && !shaping.iter().any(|other| other == name)
                && !values.to_real().iter().all(|v| v.fract() == 0.0)
            {
                let kind = match holder {
                    // Exporters write numbers of the code (square roots, factors) as scalars, rounded.
                    Holder::Initializer if held.dims.is_empty() => StateKind::Constant,
                    Holder::Initializer => StateKind::Parameter,
                    Holder::Constant => StateKind::Constant,
                };
                result.push((k, StateTensor { name: name.to_owned(), kind, tensor: values }));
            }
            k += 1;
        });
        result
    }

    /// The double-precision graph on the first backend that takes it, its own before the other one.
    fn doubled(&mut self) -> Result<Self, String> {
        double::rounds_inside(&self.model)?;
        let model = Rc::new(double::rewrite(&self.model)?);
        let mut reasons: Vec<String> = Vec::new();
        for backend in [self.options.backend, self.options.backend.other()] {
            let options = OpenOptions { backend, ..self.options.clone() };
            if let Err(why) = lower::check(&model, backend) {
                reasons.push(why);
                continue;
            }
            let tried = Self::of(&self.path, Rc::clone(&model), &options)
                .map_err(|error| error.to_string())
                .and_then(|mut copy| {
                    if let Some(inputs) = self.first.clone() {
                        self.agrees(&mut copy, &inputs)?;
                    }
                    Ok(copy)
                });
            match tried {
                Ok(copy) => return Ok(copy),
                Err(why) => reasons.push(why),
            }
        }
        Err(reasons.join("; "))
    }

    /// Whether a double-precision copy gives on the same inputs what this model gives, to half of the digits of the
    /// shortest type that it computes in: far more than rounding takes, far less than another function keeps.
    fn agrees(&mut self, copy: &mut Self, inputs: &[Tensor]) -> Result<(), String> {
        let short = self.run(inputs).map_err(|error| error.to_string())?;
        let inputs: Vec<Tensor> = inputs.iter().map(Tensor::double).collect();
        let long = copy.run(&inputs).map_err(|error| error.to_string())?;
        let kind = double::shortest_float(&self.model);
        let roundoff = tensor::dtype(kind).and_then(DType::unit_roundoff).unwrap_or(f64::EPSILON);
        let tolerance = roundoff.sqrt();
        for ((port, short), long) in self.outputs().iter().zip(&short).zip(&long) {
            let (Some(short), Some(long)) = (short, long) else { continue };
            let what =
                format!("output `{}` in double precision ({})", one_line(&port.name), copy.options.backend);
            if long.dtype() != short.dtype().double() || long.shape() != short.shape() {
                return Err(format!(
                    "{what} is {} of shape {:?}, and {} of shape {:?} without",
                    long.dtype().name(),
                    long.shape(),
                    short.dtype().name(),
                    short.shape()
                ));
            }
            if !short.dtype().is_inexact() {
                continue;
            }
            let (short, long) = (short.to_real(), long.to_real());
            let (mut difference, mut size) = (0.0, 0.0);
            for (a, b) in short.iter().zip(&long) {
                // Equal infinities, and NaN on both sides, agree.
                if a == b || (a.is_nan() && b.is_nan()) {
                    continue;
                }
                difference += (a - b).powi(2);
                size += b.powi(2);
            }
            let relative = if difference == 0.0 { 0.0 } else { (difference / size).sqrt() };
            if relative.is_nan() || relative > tolerance {
                return Err(format!("{what} differs by {relative:.1e}: it is another function there"));
            }
        }
        Ok(())
    }

    /// A copy whose random draws begin anew: seeds are written into it, and no call has been made.
    fn reseeded(&self) -> Result<Box<dyn Runner>, OnnxError> {
        let mut model = (*self.model).clone();
        let mut seed = 0_u16;
        nodes_mut(&mut model, &mut |nodes| {
            for node in nodes.iter_mut().filter(|node| draws(node)) {
                seed = seed.wrapping_add(1);
                if !node.attribute.iter().any(|a| a.name == "seed") {
                    node.attribute.push(AttributeProto {
                        name: "seed".to_owned(),
                        r#type: AttributeType::Float as i32,
                        f: f32::from(seed),
                        ..AttributeProto::default()
                    });
                }
            }
        });
        start(&model, &self.options, Optimisation::Full)
    }
}

impl Model for OnnxModel {
    fn info(&self) -> ModelInfo {
        // The type that most floating-point numbers of the graph have; its inputs where it holds none.
        let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
        let float = |kind: i32| data_type::is_shorter_float(kind) || kind == data_type::DOUBLE;
        for held in graph_of(&self.model).initializer.iter().filter(|t| float(t.data_type)) {
            *counts.entry(held.data_type).or_default() += held.dims.iter().product::<i64>() as u64;
        }
        if counts.values().all(|count| *count == 0) {
            for kind in port::given(graph_of(&self.model)).filter_map(Port::kind).filter(|k| float(*k)) {
                *counts.entry(kind).or_default() += 1;
            }
        }
        let dominant = counts.into_iter().max_by_key(|(_, count)| *count);
        ModelInfo {
            name: self.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
            framework: "onnx".to_owned(),
            parameters: Some(self.description.parameters),
            dtype: dominant.map_or_else(String::new, |(kind, _)| data_type::name(kind)),
            device: "cpu".to_owned(),
            mode: "eval".to_owned(),
            computes_in: String::new(),
        }
    }

    fn shares_arguments(&mut self, _first: usize, _second: usize) -> bool {
        true
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let version = self.description.opset;
        let opset = if TESTED.contains(&version) {
            version.to_string()
        } else {
            format!("{version} (tested are {} to {})", TESTED.start(), TESTED.end())
        };
        let mut environment = BTreeMap::from([
            (self.options.backend.to_string(), self.runner.version()),
            (format!("{} threads", self.options.backend), "1".to_owned()),
            ("onnx operators".to_owned(), opset),
        ]);
        let producer = &self.description.producer;
        if !producer.is_empty() {
            environment.insert("onnx producer".to_owned(), producer.clone());
        }
        if !self.random.is_empty() {
            environment.insert("onnx random operators".to_owned(), self.random.join(", "));
        }
        environment
    }

    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
        let raised = |error: OnnxError| CallError::Raised(error.to_string());
        if let Some(mut origin) = self.origin.take() {
            let short: Vec<Tensor> = call
                .inputs
                .iter()
                .zip(port::given(graph_of(&origin.model)))
                .map(|(tensor, port)| {
                    let dtype = Port::kind(port).and_then(tensor::dtype);
                    dtype.map_or_else(|| tensor.clone(), |dtype| tensor.cast(dtype))
                })
                .collect();
            if let Err(why) = origin.agrees(self, &short) {
                self.origin = Some(origin);
                return Err(CallError::Raised(why));
            }
        }
        self.check(call.inputs).map_err(raised)?;
        let outputs = if call.reset_generators && !self.random.is_empty() {
            // Backends go on with their random numbers from call to call: only a new copy draws the same ones.
            self.reseeded().and_then(|mut fresh| fresh.run(call.inputs))
        } else {
            self.runner.run(call.inputs)
        };
        let outputs = outputs.map_err(|error| raised(located(&self.model, error)))?;
        if self.first.is_none() {
            self.first = Some(call.inputs.to_vec());
        }
        let outputs = self
            .outputs()
            .iter()
            .zip(outputs)
            .map(|(port, tensor)| Output { name: port.name.clone(), positional: false, tensor })
            .collect();
        // A backend reads its inputs, and a graph has no state.
        Ok(Returned { outputs, written_inputs: Vec::new() })
    }

    fn pullback(
        &mut self,
        _call: &Call<'_>,
        _wanted: &Differentiation<'_>,
    ) -> Result<Pullback, PullbackError> {
        let why = "an ONNX graph has no gradients: audit the model that it was exported from";
        Err(PullbackError::Unavailable(why.to_owned()))
    }

    fn tracing(&mut self) -> Result<&mut dyn Tracing, Unavailable> {
        if let Some(operator) = self.random.first() {
            return Err(Unavailable(format!(
                "the graph draws random numbers (`{operator}`), and a node that is called again would draw others"
            )));
        }
        self.inside().map_err(|error| Unavailable(format!("the graph cannot be watched: {error}")))?;
        Ok(self)
    }

    fn double(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        let mut copy = self.doubled().map_err(Unavailable)?;
        if self.first.is_none() {
            let origin = self.with((*self.model).clone()).map_err(|error| Unavailable(error.to_string()))?;
            copy.origin = Some(Box::new(origin));
        }
        Ok(Box::new(copy))
    }

    fn state(&mut self) -> Result<Vec<StateTensor>, Unavailable> {
        Ok(self.floats().into_iter().map(|(_, state)| state).collect())
    }

    fn with_state(&mut self, values: &[(usize, Tensor)]) -> Result<Box<dyn Model>, Unavailable> {
        let floats = self.floats();
        let mut written: BTreeMap<usize, &Tensor> = BTreeMap::new();
        for (k, values) in values {
            let Some((place, state)) = floats.get(*k) else {
                return Err(Unavailable(format!(
                    "the model has {} state tensors: there is no {k}",
                    floats.len()
                )));
            };
            if values.dtype() != state.tensor.dtype() || values.shape() != state.tensor.shape() {
                return Err(Unavailable(format!(
                    "`{}` is {} of shape {:?}: {} of shape {:?} was given",
                    state.name,
                    state.tensor.dtype().name(),
                    state.tensor.shape(),
                    values.dtype().name(),
                    values.shape()
                )));
            }
            written.insert(*place, values);
        }
        let mut model = (*self.model).clone();
        let mut k = 0;
        constants_mut(&mut model, &mut |_, _, held| {
            if let Some(values) = written.get(&k) {
                tensor::write(held, values);
            }
            k += 1;
        });
        let mut copy = self.with(model).map_err(|error| Unavailable(error.to_string()))?;
        copy.first.clone_from(&self.first);
        Ok(Box::new(copy))
    }
}
