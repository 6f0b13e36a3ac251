//! The gradient stage: its rows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rows::kinds;
use super::{BreakKind, Outcome, Verdict, figure};

kinds! {
    /// What a row of the gradient stage compares.
    GradientCheck {
        /// `A+ vjp(Tx, w)` with `vjp(x, B+ w)`, by input.
        Input = "input gradient",
        /// The gradients of `<w, f(Tx)>` and `<B+ w, f(x)>`, by parameter tensor.
        Parameter = "parameter gradient",
        /// `vjp(x, 2 w)` with `2 vjp(x, w)`.
        Linearity = "linear in the cotangent",
        /// The second and the third of three equal calls with the first.
        Repetition = "three equal calls",
        /// The backward with central differences of the forward.
        Derivative = "finite differences",
        /// The backward of the backward with central differences of the backward.
        SecondOrder = "second order",
        /// An output with the derivative of a scalar one, where both agree to within a tenth.
        Claim = "derivative of",
        /// The forward after a step of a parameter along a random direction.
        Step = "after a parameter step",
        /// Whether gradients are finite, at the samples and at degenerate inputs.
        Finite = "finite",
    }
}

/// What the audit found about the gradients of one output with respect to one input or parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientRow {
    /// What is compared.
    pub check: GradientCheck,
    /// `eval`, `train` or `as_is`.
    pub mode: String,
    /// The output whose cotangent is pulled back; `loss` for the user's loss.
    pub output: String,
    /// The input or parameter; absent for a row about all of them.
    pub target: Option<String>,
    /// (sample, element) pairs, or directions of differences.
    pub pairs: usize,
    /// Largest relative error, over `max(norm of the gradient, its root mean square over samples and cotangents)`.
    #[serde(with = "figure::optional")]
    pub max_relative: Option<f64>,
    /// The same in double precision, where that counts.
    #[serde(with = "figure::optional")]
    pub max_relative_f64: Option<f64>,
    /// Noise floor, relative.
    #[serde(with = "figure::optional")]
    pub noise: Option<f64>,
    /// What it says.
    pub outcome: Outcome,
    /// What follows for the report; absent where no verdict hangs on the row.
    pub verdict: Option<Verdict>,
    /// Why, in one sentence.
    pub reason: String,
    /// Where what is wrong arises: the innermost calls of modules that are wrong by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// A module that is wrong when it is called alone: in its gradient, or in what it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The module, as in `named_modules()`; the root is `(root)`.
    pub location: String,
    /// Which call of it, from 0.
    pub call: usize,
    /// Its class.
    pub class: String,
    /// `module`, or `functional` where it is right in all modules that it calls.
    pub kind: BreakKind,
    /// `file.py:line` of that class's forward.
    pub source: Option<String>,
    /// Relative error of its own gradient, or difference of what it gives, where one is measured.
    #[serde(with = "figure::optional")]
    pub own_error: Option<f64>,
    /// What it showed, in one sentence.
    pub reason: String,
}
