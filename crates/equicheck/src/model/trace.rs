//! What happens inside a model: its module calls, and what a host must offer to look at them and to interfere.

use super::{Call, CallError, Differentiation, Output, Pullback, PullbackError, Tensor};
use crate::symmetry::{BoundLayout, Element};

/// One distinct tensor of a traced call; a module may hand on the very tensor that it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedTensor {
    /// Shape.
    pub shape: Vec<usize>,
    /// Name of its type, whether the engine knows it or not.
    pub dtype: String,
    /// Its values when it was first seen; `None` where there was no room for them, or of an unknown type.
    pub values: Option<Tensor>,
}

/// A tensor among the arguments or results of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedLeaf {
    /// Path: for an argument it begins with the parameter's name (`x`, `batch.pos`); empty for a single result.
    pub name: String,
    /// Position in [`Trace::tensors`].
    pub tensor: usize,
    /// Its layout in the library's own metadata, in the layout language.
    pub layout: Option<String>,
}

/// One call of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleCall {
    /// Dotted name as in `named_modules()`, without wrappers; `(root)` for the whole.
    pub path: String,
    /// The how many-th call of this module in the pass, from 0.
    pub number: usize,
    /// Position of the call that it happened in; `None` for the root.
    pub parent: Option<usize>,
    /// Class, with the module that defines it: `torch.nn.modules.linear.Linear`.
    pub class: String,
    /// `file.py:line` of the class's forward, where that is known.
    pub source: Option<String>,
    /// Reading of the pass's clock when it began; each beginning and each end is one tick.
    pub began: usize,
    /// The same when it ended.
    pub ended: usize,
    /// Tensors among its arguments.
    pub inputs: Vec<TracedLeaf>,
    /// Tensors among what it returned.
    pub outputs: Vec<TracedLeaf>,
}

/// A call of the model, seen from inside.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// Module calls in the order in which they began; the first is the root.
    pub calls: Vec<ModuleCall>,
    /// All distinct tensors.
    pub tensors: Vec<TracedTensor>,
    /// What the model returned.
    pub outputs: Vec<Output>,
    /// Whether the model differentiates inside its call.
    pub differentiates: bool,
}

/// The action of one element on one tensor, for a host that applies it inside a call.
#[derive(Debug, Clone)]
pub struct Action {
    layout: BoundLayout,
    element: Element,
}

impl Action {
    /// The action of `element` on tensors of this layout and shape.
    pub fn new(layout: BoundLayout, element: Element) -> Self {
        Self { layout, element }
    }

    /// `rho(g) x`, in the tensor's own type. A tensor of another shape, as it may have behind a break, is left as it is,
    /// here and below.
    pub fn apply(&self, tensor: &Tensor) -> Tensor {
        if tensor.shape() != self.layout.shape() {
            return tensor.clone();
        }
        self.layout.act(&self.element, tensor)
    }

    /// The linear part alone: what a tangent is pushed forward by.
    pub fn linear(&self, tensor: &Tensor) -> Tensor {
        if tensor.shape() != self.layout.shape() {
            return tensor.clone();
        }
        let values = tensor.to_real();
        let origin = self.layout.act_on_real(&self.element, &ndarray::ArrayD::zeros(values.shape()));
        Tensor::from_real(self.layout.act_on_real(&self.element, &values) - origin, tensor.dtype())
    }

    /// `rho(g)^T y` by the linear part: what a gradient is pulled back by.
    pub fn transpose(&self, tensor: &Tensor) -> Tensor {
        if tensor.shape() != self.layout.shape() {
            return tensor.clone();
        }
        Tensor::from_real(self.layout.act_transposed(&self.element, &tensor.to_real()), tensor.dtype())
    }
}

/// An intervention in a call: on one module, at one or at all of its calls.
#[derive(Debug, Clone)]
pub enum Patch {
    /// Other values for a tensor that goes into a module or comes out of it.
    Overwrite {
        /// The module.
        path: String,
        /// Which call.
        number: usize,
        /// Into it, rather than out of it.
        input: bool,
        /// Which leaf.
        leaf: String,
        /// The values.
        values: Tensor,
    },
    /// The module becomes `rho_out(g) M(rho_in(g)^-1 ...)`, which keeps the graph for models that differentiate inside
    /// their call (METHOD 14).
    Conjugate {
        /// The module.
        path: String,
        /// Which call.
        number: usize,
        /// By leaf of its arguments: `rho_in(g)^-1`.
        inputs: Vec<(String, Action)>,
        /// By leaf of its results: `rho_out(g)`.
        outputs: Vec<(String, Action)>,
    },
}

/// A module's path, the number of its call, and the names of the operations in it.
pub type Performed = (String, usize, Vec<String>);

/// What a host that looks inside a model offers.
pub trait Tracing {
    /// Calls the model and records every call of a module in it, with `patches` in force. Values are kept up to
    /// `limit` bytes, in the order in which they appear. With `keep`, [`replay`](Tracing::replay) refers to this pass.
    ///
    /// # Errors
    /// The model raised, or the user interrupted.
    fn trace(
        &mut self,
        call: &Call<'_>,
        patches: &[Patch],
        limit: usize,
        keep: bool,
    ) -> Result<Trace, CallError>;

    /// Calls one module again: the `position`-th call of the pass that was kept, with other values for its tensor
    /// arguments, in their order. Arguments that are no tensors, and generators, are as they were. The results are in
    /// the order of [`ModuleCall::outputs`].
    ///
    /// # Errors
    /// The module raised, or the user interrupted.
    fn replay(&mut self, position: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>, CallError>;

    /// Makes such a call again and pulls cotangents of what it returns, by the names of its leaves, back to its tensor
    /// arguments and, if wanted, to its parameters, by their names in the model. Of its outputs, the names of those that
    /// carry a gradient come back.
    ///
    /// # Errors
    /// The host cannot differentiate, the module or its backward raised, or the user interrupted.
    fn replay_pullback(
        &mut self,
        _position: usize,
        _inputs: &[Tensor],
        _wanted: &Differentiation<'_>,
    ) -> Result<Pullback, PullbackError> {
        Err(PullbackError::Unavailable("the host cannot differentiate a module".to_owned()))
    }

    /// Calls the model and tells which of the host's operations each call of a module consists of, but for those in
    /// modules that it calls: module, number of the call, names in the order in which they first appear. Casts are
    /// `cast float32 float16`. Empty where the host cannot tell.
    ///
    /// # Errors
    /// The model raised, or the user interrupted.
    fn operations(&mut self, _call: &Call<'_>) -> Result<Vec<Performed>, CallError> {
        Ok(Vec::new())
    }

    /// Forgets the pass that was kept.
    fn forget(&mut self);
}
