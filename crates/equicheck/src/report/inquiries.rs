//! What a model was asked beyond the plan, because evidence asked for it: other declarations, smaller groups, the other
//! mode, and the modules that are blamed, one by one. Diagnosis reads it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::figure;
use super::gradients::Fault;
use super::rows::kinds;

/// All that was asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inquiries {
    /// Other declarations under which an output that breaks holds.
    pub alternatives: Vec<Alternative>,
    /// How many other declarations were tried.
    pub tried: usize,
    /// Smaller groups, by output that breaks.
    pub subgroups: Vec<Subgroup>,
    /// The other of train and eval mode, by output that breaks.
    pub other_mode: Vec<OtherMode>,
    /// Samples by output that breaks, where some hold.
    pub sizes: Vec<SizeRow>,
    /// The input of points that lies furthest from the origin, in units of their spread.
    pub offset: Option<(String, f64)>,
    /// Where an output comes to depend on what it should not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependences: Vec<Dependent>,
    /// Why some were not asked.
    pub left_out: Option<String>,
}

kinds! {
    /// What an output should not depend on.
    Dependence {
        /// Calls that were made before.
        EarlierCalls = "earlier calls",
        /// Nothing that can be repeated.
        Chance = "chance",
        /// Random generators.
        RandomNumbers = "random numbers",
        /// The other entries of a batch.
        RestOfTheBatch = "the rest of the batch",
    }
}

/// A module that gives something else where it is given the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dependent {
    /// What it depends on.
    pub on: Dependence,
    /// The module.
    pub fault: Fault,
}

kinds! {
    /// What another declaration changes.
    Variation {
        /// `vector` for `pseudovector`, `scalar` for `pseudoscalar`, an irrep for that of the other parity.
        Parity = "the other parity",
        /// `point` for `vector`, or the reverse.
        Affine = "moved by translations, or not",
        /// `covector` for `vector`, or the reverse.
        Dual = "the dual",
        /// The action of the inverse.
        Inverse = "the inverse",
        /// Another power of a scale, another charge.
        Weight = "another weight",
        /// The same components in another order.
        Order = "another order of components",
        /// A component of the opposite sign: an axis that points the other way.
        Flip = "an axis that points the other way",
        /// Another representation in place of the user's own.
        Representation = "another representation",
        /// An input that was left alone is transformed.
        Moved = "transformed at all",
    }
}

/// A declaration that would pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// The outputs that hold by it.
    pub outputs: Vec<String>,
    /// Whether it is an input's, rather than that output's own.
    pub input: bool,
    /// Of which tensor.
    pub name: String,
    /// Its layout as declared.
    pub declared: String,
    /// The layout by which it holds; in words where the language has none.
    pub holds_as: String,
    /// What is changed.
    pub variation: Variation,
    /// Largest relative error as declared, over the same pairs.
    #[serde(with = "figure")]
    pub before: f64,
    /// And by this declaration.
    #[serde(with = "figure")]
    pub after: f64,
    /// (sample, element) pairs.
    pub pairs: usize,
}

/// Whether an output holds under a smaller group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subgroup {
    /// The output.
    pub output: String,
    /// The group.
    pub group: String,
    /// Pairs.
    pub pairs: usize,
    /// Largest relative error.
    #[serde(with = "figure")]
    pub error: f64,
    /// Whether rounding explains it.
    pub holds: bool,
}

/// How an output does in the other mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OtherMode {
    /// The output.
    pub output: String,
    /// `train` or `eval`.
    pub mode: String,
    /// Pairs.
    pub pairs: usize,
    /// Largest relative error.
    #[serde(with = "figure")]
    pub error: f64,
    /// Whether rounding explains it.
    pub holds: bool,
}

/// Samples of one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SizeRow {
    /// The output.
    pub output: String,
    /// Lengths of the axes that the group permutes or shifts.
    pub sizes: BTreeMap<String, usize>,
    /// Pairs.
    pub pairs: usize,
    /// How many of them violate.
    pub exceeding: usize,
}

kinds! {
    /// Where the outputs of a module differ whose inputs are alike at all places.
    Placement {
        /// Nowhere.
        Uniform = "nowhere",
        /// At some places, towards an end.
        Border = "towards the border",
        /// From each place to the next.
        Everywhere = "from place to place",
    }
}

kinds! {
    /// Places of a module's input that it does not read.
    Unread {
        /// None.
        Nothing = "none",
        /// At an end.
        Border = "at the border",
        /// Between others.
        Between = "between others",
    }
}

/// A module that is blamed, looked at by itself on the activations of one sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Examination {
    /// The module.
    pub location: String,
    /// Which call.
    pub call: usize,
    /// Classes of the modules in it.
    pub classes: Vec<String>,
    /// Operations of the framework in it and in them.
    pub operations: Vec<String>,
    /// Whether its wrong components depend on the same components of its input alone, within their rows.
    pub componentwise: Option<bool>,
    /// Whether they do so linearly, apart from an offset.
    pub linear: Option<bool>,
    /// Whether each place of its output depends on the same place of its inputs alone.
    pub pointwise: Option<bool>,
    /// Whether it is given the numbers of the places: 0, 1, 2 and so on.
    pub counts: bool,
    /// Whether nothing that it is given moves under the element at which it was blamed.
    #[serde(default)]
    pub unmoved: bool,
    /// Where its outputs differ when its inputs are alike at all places.
    pub placement: Option<Placement>,
    /// Places of its input that it does not read.
    pub unread: Option<Unread>,
    /// Places along a grid's axis that go out for one that comes in.
    #[serde(with = "figure::optional")]
    pub resampling: Option<f64>,
    /// Share of its output's rows that are right under the element at which it was blamed.
    #[serde(with = "figure::optional")]
    pub exact_rows: Option<f64>,
    /// Whether those that are wrong lie along the border of the grid, or of its image, and all further inside are right.
    #[serde(default)]
    pub border: Option<bool>,
    /// Share of the entries that are wrong by being zero either before or after, and not both.
    #[serde(default, with = "figure::optional")]
    pub dropped: Option<f64>,
    /// Whether what it adds that does not turn is the same in all rows.
    pub constant: Option<bool>,
    /// The layouts by which it would be equivariant, where only the order of components differs.
    pub order: Option<String>,
    /// Whether its output transforms linearly in a basis of its own.
    pub own_basis: bool,
    /// By how much it enlarges rounding, where it does so more than all others together.
    #[serde(with = "figure::optional")]
    pub amplifies: Option<f64>,
    /// The smallest relative change of its inputs that most of its output feels, where smaller ones are swallowed.
    #[serde(with = "figure::optional")]
    pub precision: Option<f64>,
    /// The number at which a list of neighbours is cut.
    pub cap: Option<usize>,
}

impl Examination {
    /// Whether it casts to a floating type of less precision.
    pub fn narrows(&self) -> bool {
        self.operations.iter().any(|operation| is_narrowing(operation))
    }
}

/// Whether an operation is a cast to a floating type of less precision.
pub(crate) fn is_narrowing(operation: &str) -> bool {
    let bits = |name: &str| match name {
        "float64" => Some(53),
        "float32" => Some(24),
        "float16" => Some(11),
        "bfloat16" => Some(8),
        _ => None,
    };
    let mut words = operation.split(' ');
    match (words.next(), words.next().and_then(bits), words.next().and_then(bits)) {
        (Some("cast"), Some(from), Some(to)) => to < from,
        _ => false,
    }
}
