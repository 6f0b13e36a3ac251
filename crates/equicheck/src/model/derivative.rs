//! What a host that differentiates is asked for.

use super::{Draw, Output, Tensor};

/// The gradient with respect to one parameter tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Gradient {
    /// Its values, in the parameter's shape.
    Values(Tensor),
    /// The differentiated outputs do not depend on it by any path that gradients take.
    NoPath,
    /// The parameter does not ask for one.
    Frozen,
}

/// What is differentiated, and with respect to what: the inputs always.
#[derive(Debug, Clone, Copy, Default)]
pub struct Differentiation<'a> {
    /// Cotangents by output, of its shape and type; complex ones are the gradient by real and imaginary part. `None`:
    /// the user's loss, a function of all that the model returns.
    pub cotangents: Option<&'a [(String, Tensor)]>,
    /// Whether gradients with respect to parameters are wanted too.
    pub parameters: bool,
    /// Second order: directions by input (`None`: not along this one). Differentiated is then the inner product of the
    /// first gradient with respect to the inputs with them.
    pub directions: Option<&'a [Option<Tensor>]>,
    /// Random draws to replay.
    pub draws: Option<&'a [Draw]>,
}

/// Gradients.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pullback {
    /// What the model returned.
    pub outputs: Vec<Output>,
    /// By input; `None` for types without gradient, and where there is no gradient path.
    pub inputs: Vec<Option<Tensor>>,
    /// By parameter, in the order and with the names of the model's state; empty unless asked for.
    pub parameters: Vec<(String, Gradient)>,
}

/// Why there are no gradients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullbackError {
    /// The host cannot, with the reason.
    Unavailable(String),
    /// The model or its backward raised; its own error, in one line.
    Raised(String),
    /// The user interrupted.
    Interrupted,
}
