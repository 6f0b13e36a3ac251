//! Stages whose results are rows: stress inputs and the composition of batches.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::figure;

/// A stage of the audit that gives one row per question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Rows<R> {
    /// It did not run.
    NotRun {
        /// Why.
        reason: String,
    },
    /// It ran.
    Ran {
        /// What it found.
        rows: Vec<R>,
    },
}

/// Why a stage did not run, as far as a file of an earlier version says it.
pub(crate) const NOT_RECORDED: &str = "not recorded";

impl<R> Default for Rows<R> {
    /// What a file of an earlier version says about it.
    fn default() -> Self {
        Rows::NotRun { reason: NOT_RECORDED.to_owned() }
    }
}

impl<R> Rows<R> {
    /// The rows; none of a stage that did not run.
    pub fn rows(&self) -> &[R] {
        match self {
            Rows::NotRun { .. } => &[],
            Rows::Ran { rows } => rows,
        }
    }
}

/// Names for an enumeration's members: JSON has them with underscores, people with blanks.
macro_rules! kinds {
    ($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $member:ident = $words:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$about])* $member,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$($name::$member,)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $($name::$member => $words,)*
                })
            }
        }
    };
}

pub(crate) use kinds;

kinds! {
    /// What a row says, the mildest first.
    Outcome {
        /// The question has no meaning for this model or its inputs.
        NotApplicable = "not applicable",
        /// The model gives no answer that could be judged.
        NotJudged = "not judged",
        /// What differs is rounding.
        Holds = "holds",
        /// What differs is rounding, amplified beyond the level of a pass and beyond what the inputs' own rounding
        /// explains.
        Amplified = "rounding amplified",
        /// Rounding and a violation cannot be told apart.
        Undetermined = "undetermined",
        /// The output jumps here.
        Discontinuous = "jumps",
        /// A value that is not finite, where there was none.
        NotFinite = "not finite",
        /// The model raises, where it did not.
        Raises = "raises",
        /// More than rounding explains.
        Violated = "violated",
    }
}

kinds! {
    /// An input at the edge of what a model is used on, derived from one of the test samples.
    StressKind {
        /// All points 1000 spreads away.
        FarFromOrigin = "far from the origin",
        /// All that the group moves 1000 times as small, points about their centroid.
        TinyScale = "tiny scale",
        /// All that the group moves 1000 times as large, points about their centroid.
        HugeScale = "huge scale",
        /// One element of the set alone.
        OneNode = "one node",
        /// Two elements of the set alone.
        TwoNodes = "two nodes",
        /// Two elements of the set at one place.
        Coincident = "coincident nodes",
        /// Everything on a line in a generic direction.
        Collinear = "collinear",
        /// Everything on the line of the second coordinate axis.
        AlongY = "along the y axis",
        /// Everything on the line of the last coordinate axis.
        AlongZ = "along the last axis",
        /// Everything in a generic plane.
        Planar = "planar",
        /// Zero for everything but points that the group turns.
        ZeroVectors = "zero vectors",
        /// Two elements of the set closer than the cutoff by 1e-6 of it.
        BelowCutoff = "below the cutoff",
        /// Two elements of the set at the cutoff.
        AtCutoff = "at the cutoff",
        /// Two elements of the set farther than the cutoff by 1e-6 of it.
        AboveCutoff = "above the cutoff",
        /// The step of the output from just below to just above the cutoff.
        AcrossCutoff = "across the cutoff",
        /// Grids without contrast.
        ConstantImage = "constant image",
        /// Grids with one pixel, at the centre, that is not zero.
        CentrePixel = "one pixel, centre",
        /// Grids with one pixel, in a corner, that is not zero.
        BorderPixel = "one pixel, corner",
        /// Four-vectors without mass.
        LightLike = "light-like",
        /// Four-vectors without momentum.
        AtRest = "at rest",
        /// Four-vectors with momenta along one line.
        CollinearMomenta = "collinear momenta",
        /// One entry of the batch alone.
        BatchOfOne = "batch of one",
    }
}

/// What the audit found on one kind of stress input, over the outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StressRow {
    /// The kind.
    pub kind: StressKind,
    /// The test sample that the input was derived from; absent where there was none.
    pub sample: Option<usize>,
    /// The output with the worst outcome; absent where none was measured.
    pub output: Option<String>,
    /// Elements of the group that were tried.
    pub elements: usize,
    /// Largest relative error.
    #[serde(with = "figure::optional")]
    pub max_relative: Option<f64>,
    /// The same in double precision, where that counts.
    #[serde(with = "figure::optional")]
    pub max_relative_f64: Option<f64>,
    /// Noise floor at this input, relative.
    #[serde(with = "figure::optional")]
    pub noise: Option<f64>,
    /// What it says.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: String,
}

kinds! {
    /// What was done to a batch.
    CompositionKind {
        /// One entry without the others.
        Alone = "alone",
        /// The same entries in another order.
        Reordered = "reordered",
        /// The entry with copies of itself in place of the others.
        OtherNeighbours = "among copies of itself",
    }
}

/// Whether an output's entries depend on the batch that they are in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompositionRow {
    /// What was done to the batch.
    pub kind: CompositionKind,
    /// The output.
    pub output: String,
    /// Batches that were compared.
    pub batches: usize,
    /// Largest relative difference of an entry.
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
    /// Why, in one sentence.
    pub reason: String,
}
