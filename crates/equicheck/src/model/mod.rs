//! What the engine asks of a model. Every framework is an adapter behind [`Model`]; whatever it cannot do is reported.

mod custom;
mod derivative;
mod tensor;
mod trace;

use std::collections::BTreeMap;

pub use crate::report::ModelInfo;
pub use custom::{CustomAction, CustomElement};
pub use derivative::{Differentiation, Gradient, Pullback, PullbackError};
pub use tensor::{DType, Tensor};
pub use trace::{Action, ModuleCall, Patch, Performed, Trace, TracedLeaf, TracedTensor, Tracing};

/// One call of the model.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Which sample the inputs belong to; arguments that are no tensors come from it.
    pub sample: usize,
    /// The tensors of that sample, transformed or not, in its order.
    pub inputs: &'a [Tensor],
    /// Whether all random generators are put to the same state before the call.
    pub reset_generators: bool,
    /// Whether buffers are put back to what they were before the audit.
    pub restore_state: bool,
}

/// One leaf of what the model returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Path, e.g. `aux.0.mean`; `output` for a single unnamed tensor.
    pub name: String,
    /// Whether its last step is a position in a tuple or list, which must be declared.
    pub positional: bool,
    /// The values; `None` for what is no tensor.
    pub tensor: Option<Tensor>,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Returned {
    /// All leaves, in the model's order.
    pub outputs: Vec<Output>,
    /// Positions of inputs that the model wrote to.
    pub written_inputs: Vec<usize>,
}

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The model raised; its own error, in one line.
    Raised(String),
    /// The user interrupted.
    Interrupted,
}

/// A capability that this model does not offer, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// A random draw that the model made inside a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// The distribution: `normal`, `uniform`, `bernoulli`, ...
    pub kind: String,
    /// Whether the values are standard Gaussian: those of `mean + std * z` are `z`.
    pub gaussian: bool,
    /// Shape.
    pub shape: Vec<usize>,
    /// The values, where they were recorded.
    pub values: Option<Tensor>,
}

impl Draw {
    /// Whether equal values are no coincidence: drawn from a distribution with a density.
    pub(crate) fn is_continuous(&self) -> bool {
        (self.gaussian || self.kind == "uniform")
            && self.values.as_ref().is_some_and(|values| !values.is_empty())
    }
}

/// What a call gave whose random draws were recorded or replayed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drawn {
    /// What any call gives.
    pub returned: Returned,
    /// The draws that were made, in order.
    pub draws: Vec<Draw>,
    /// Operations that drew random numbers out of the host's reach (fused kernels), by name.
    pub out_of_reach: Vec<String>,
}

/// What a tensor of the model's state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// Trained.
    Parameter,
    /// Everything else that is a floating tensor: buffers, plain attributes.
    Constant,
}

/// One tensor of the model's state.
#[derive(Debug, Clone, PartialEq)]
pub struct StateTensor {
    /// Dotted name.
    pub name: String,
    /// What it is.
    pub kind: StateKind,
    /// Its values.
    pub tensor: Tensor,
}

/// A model, as the engine sees it.
pub trait Model {
    /// What is known about it.
    fn info(&self) -> ModelInfo;

    /// Versions, threads and whatever else decides its figures.
    fn environment(&self) -> BTreeMap<String, String>;

    /// Calls it.
    ///
    /// # Errors
    /// The model raised, or the user interrupted.
    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError>;

    /// Whether two samples differ in nothing but their tensors, so that those of both may go into one call.
    fn shares_arguments(&mut self, _first: usize, _second: usize) -> bool {
        false
    }

    /// Whether [`forward_with_draws`](Model::forward_with_draws) is there.
    ///
    /// # Errors
    /// Why it is not.
    fn replays_draws(&self) -> Result<(), Unavailable> {
        Err(Unavailable("the host cannot record and replay the random draws of a model".to_owned()))
    }

    /// Calls it and records its random draws, or gives it `replayed` ones in their place, in their order. A draw of
    /// another kind or shape than the one whose turn it is stays the model's own; so do those beyond the last.
    ///
    /// # Errors
    /// The model raised, or the user interrupted.
    fn forward_with_draws(
        &mut self,
        _call: &Call<'_>,
        _replayed: Option<&[Draw]>,
    ) -> Result<Drawn, CallError> {
        Err(CallError::Raised("the host cannot record and replay the random draws of a model".to_owned()))
    }

    /// Calls it and pulls cotangents of its outputs back to inputs and parameters, leaving its own gradients alone.
    ///
    /// # Errors
    /// The host cannot differentiate, the model or its backward raised, or the user interrupted.
    fn pullback(
        &mut self,
        _call: &Call<'_>,
        _wanted: &Differentiation<'_>,
    ) -> Result<Pullback, PullbackError> {
        Err(PullbackError::Unavailable("the host cannot differentiate a model".to_owned()))
    }

    /// The same model in train mode; its state is put back before each call, as the model's own.
    ///
    /// # Errors
    /// Why there is none.
    fn training(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        Err(Unavailable("the host knows no train mode".to_owned()))
    }

    /// The same model in eval mode, likewise.
    ///
    /// # Errors
    /// Why there is none.
    fn evaluating(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        Err(Unavailable("the host knows no eval mode".to_owned()))
    }

    /// The same function in double precision, on a copy.
    ///
    /// # Errors
    /// Why there is none.
    fn double(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        Err(Unavailable("the host has no double-precision copy of a model".to_owned()))
    }

    /// Its floating-point state.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn state(&mut self) -> Result<Vec<StateTensor>, Unavailable> {
        Err(Unavailable("the host cannot read a model's state".to_owned()))
    }

    /// What looks inside it.
    ///
    /// # Errors
    /// Why nothing does.
    fn tracing(&mut self) -> Result<&mut dyn Tracing, Unavailable> {
        Err(Unavailable("the host cannot look inside a model".to_owned()))
    }

    /// A copy with other values for the state tensors of [`state`](Model::state), by position.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn with_state(&mut self, _values: &[(usize, Tensor)]) -> Result<Box<dyn Model>, Unavailable> {
        Err(Unavailable("the host cannot write a model's state".to_owned()))
    }
}

/// Test inputs.
pub trait Samples {
    /// How many there are; `None` when they are generated, as many as asked for.
    fn count(&self) -> Option<usize>;

    /// The tensors of one sample, in the order of the specification's inputs. Equal for equal `index`.
    ///
    /// # Errors
    /// The host's own message.
    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, crate::Error>;
}
