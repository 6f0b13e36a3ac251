//! What the layer-wise stage found.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Examination, figure};

/// The layer-wise stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum LayerStage {
    /// It did not run.
    NotRun {
        /// Why.
        reason: String,
    },
    /// It ran.
    Ran(Box<Layers>),
}

impl LayerStage {
    /// What was found, if it ran.
    pub fn layers(&self) -> Option<&Layers> {
        match self {
            LayerStage::NotRun { .. } => None,
            LayerStage::Ran(layers) => Some(layers),
        }
    }
}

/// Every module call, and where symmetry is lost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// `float64` where a double-precision copy was looked at, else the model's own.
    pub precision: String,
    /// Samples by elements that were traced.
    pub probes: usize,
    /// One row per module call, in the order in which calls ended.
    pub rows: Vec<LayerRow>,
    /// Where symmetry is lost, in the order of the pass; several where several causes are needed to explain the error.
    pub breaks: Vec<Break>,
    /// The modules that are blamed, looked at by themselves.
    #[serde(default)]
    pub examinations: Vec<Examination>,
    /// Tensors whose values were not kept, for want of room.
    pub skipped: Vec<String>,
    /// Calls whose local error the budget cut off.
    #[serde(default)]
    pub left_out: usize,
    /// Remarks.
    pub notes: Vec<String>,
}

/// What a module does, as far as its class tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// A convolution, or a message passing.
    Convolution,
    /// An activation.
    Nonlinearity,
    /// A normalisation.
    Normalisation,
    /// A pooling, or another aggregation.
    Pooling,
    /// A linear map.
    Linear,
    /// An attention.
    Attention,
    /// It calls other modules.
    Container,
    /// Anything else.
    Other,
}

impl LayerKind {
    /// What comparing its outputs on x and T x says about it.
    pub fn checked(self) -> &'static str {
        match self {
            LayerKind::Convolution => "kernel equivariance",
            LayerKind::Nonlinearity => "preserves the representation",
            LayerKind::Normalisation => "statistics are invariant",
            LayerKind::Pooling => "aggregation is equivariant",
            LayerKind::Linear => "weight sharing pattern",
            LayerKind::Attention => "weights move with the permutation",
            LayerKind::Container => "the whole of its parts",
            LayerKind::Other => "equivariance",
        }
    }
}

/// Where a layout comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `hidden_layouts`.
    Declared,
    /// The library's own metadata.
    Library,
    /// The tensor is an input or an output of the model.
    Model,
    /// No element that was tried changes it.
    Invariant,
    /// It transforms by the layout of another tensor of its shape, as far as the passes show.
    Inferred,
}

/// A tensor that goes into a module or comes out of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HiddenTensor {
    /// Its path among the arguments or results.
    pub name: String,
    /// Shape on the first sample.
    pub shape: Vec<usize>,
    /// Type.
    pub dtype: String,
    /// How it transforms, and who says so.
    pub layout: Option<(String, Origin)>,
}

/// What is said of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerVerdict {
    /// Its error is no more than rounding.
    Ok,
    /// Its output transforms linearly in a basis of its own, by matrices that are not orthogonal.
    AnisotropicBasis,
    /// It is not equivariant, and the model as a whole is.
    RestoredLater,
    /// Symmetry is lost here.
    Breaks,
    /// Its inputs were broken before.
    Inherits,
    /// Rounding and violation cannot be told apart, or its tensors are zero.
    Undetermined,
    /// It reads what is not among its arguments, or its calls differ from pass to pass.
    CannotJudge,
    /// The layout of some tensor is not known.
    NotKnown,
    /// No element moves what goes in or comes out.
    NotMoved,
}

impl fmt::Display for LayerVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LayerVerdict::Ok => "ok",
            LayerVerdict::AnisotropicBasis => "anisotropic basis",
            LayerVerdict::RestoredLater => "not equivariant alone, restored later",
            LayerVerdict::Breaks => "breaks",
            LayerVerdict::Inherits => "inherits",
            LayerVerdict::Undetermined => "undetermined",
            LayerVerdict::CannotJudge => "cannot judge",
            LayerVerdict::NotKnown => "not known",
            LayerVerdict::NotMoved => "not moved by the group",
        })
    }
}

/// What a module is looked at under, beside its clean activations and elements that permute nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Under {
    /// Normal noise in place of its inputs, each of its own size.
    GenericInputs,
    /// Its clean inputs, permuted along the axes that the group permutes.
    Permutations,
    /// Its clean inputs, one half of the batch turned and the other not.
    EntriesTurnedApart,
}

/// A check of one module beside its own error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerCheck {
    /// What it was looked at under.
    pub under: Under,
    /// Largest relative error; `None` where it could not be called there, or gave values that are not finite.
    #[serde(with = "figure::optional")]
    pub error: Option<f64>,
    /// What rounding explains of it.
    #[serde(with = "figure")]
    pub noise: f64,
}

/// One call of a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Dotted name as in `named_modules()`.
    pub location: String,
    /// The how many-th call, from 0.
    pub call: usize,
    /// Its class.
    pub class: String,
    /// `file.py:line` of its class's forward.
    pub source: Option<String>,
    /// What it does.
    pub kind: LayerKind,
    /// Tensors among its arguments.
    pub inputs: Vec<HiddenTensor>,
    /// Tensors among its results.
    pub outputs: Vec<HiddenTensor>,
    /// Largest relative error of its output on exactly transformed clean inputs, everything else frozen.
    #[serde(with = "figure::optional")]
    pub own_error: Option<f64>,
    /// Largest relative error of its output in the pass over T x.
    #[serde(with = "figure::optional")]
    pub propagated_error: Option<f64>,
    /// What rounding explains of either.
    #[serde(with = "figure")]
    pub noise: f64,
    /// Its Lie derivative on clean inputs, relative to its output: root mean square over the generators of the group's
    /// continuous factors. `None` without such, for calls that hold others that have one, and where it does not exist.
    #[serde(default, with = "figure::optional")]
    pub local_error: Option<f64>,
    /// What else was looked at.
    #[serde(default)]
    pub checks: Vec<LayerCheck>,
    /// What follows.
    pub verdict: LayerVerdict,
    /// Why, where the verdict alone does not say it.
    pub note: Option<String>,
}

/// How a break is located.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakKind {
    /// One module.
    Module,
    /// Code of a module's own forward, between two calls.
    Functional,
    /// Somewhere between two calls: what lies between has no known layout.
    Bracket,
}

impl fmt::Display for BreakKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            BreakKind::Module => "module",
            BreakKind::Functional => "functional",
            BreakKind::Bracket => "bracket",
        })
    }
}

/// How sure a break is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// It is the first whose output is wrong; to mend it did not mend the model.
    Low,
    /// To mend it mends the model, and so would much else there: everything behind is invariant.
    Medium,
    /// To mend it, and nothing else, mends the model.
    High,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        })
    }
}

impl Break {
    /// Where it is, in words: `act.3 (Tanh)`, `code in the forward of (root) (Net), between act.2 and lin.3`.
    pub fn place(&self) -> String {
        let class = self.class.rsplit('.').next().unwrap_or(&self.class);
        let call = if self.call > 0 { format!(", call {}", self.call) } else { String::new() };
        let module = format!("{} ({class}{call})", self.location);
        match (&self.kind, &self.between) {
            (BreakKind::Module, _) | (_, None) => module,
            (BreakKind::Functional, Some((after, before))) => {
                format!("code in the forward of {module}, between {after} and {before}")
            }
            (BreakKind::Bracket, Some((after, before))) => {
                format!("{module}, somewhere between {after} and {before}")
            }
        }
    }
}

/// Where symmetry is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Break {
    /// The module, as in `named_modules()`; the root is `(root)`. For code between two calls the module whose forward
    /// holds it.
    pub location: String,
    /// Which call of it, from 0.
    pub call: usize,
    /// Class of the module.
    pub class: String,
    /// What it is.
    pub kind: BreakKind,
    /// For what is no module: the calls before and after it.
    pub between: Option<(String, String)>,
    /// `file.py:line` of that class's forward.
    pub source: Option<String>,
    /// Relative error that arises there.
    #[serde(with = "figure::optional")]
    pub own_error: Option<f64>,
    /// Share of the model's error that is left when it is mended.
    #[serde(with = "figure")]
    pub remaining: f64,
    /// The part of the group that breaks.
    pub factor: String,
    /// How sure.
    pub confidence: Confidence,
}
