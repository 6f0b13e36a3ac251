//! The failure modes, by their stable ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Ids that are written with hyphens everywhere: in reports, JSON, commands and documents.
macro_rules! modes {
    ($($(#[$about:meta])* $member:ident = $id:literal,)*) => {
        /// A failure mode.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Mode {
            $($(#[$about])* #[serde(rename = $id)] $member,)*
        }

        impl Mode {
            /// All of them, in the order in which they are listed to people.
            pub const ALL: &'static [Self] = &[$(Mode::$member,)*];

            /// The stable id, e.g. `numerical-precision`.
            pub fn id(self) -> &'static str {
                match self {
                    $(Mode::$member => $id,)*
                }
            }

            /// Its page as it is written: a mode without one does not compile.
            pub(super) fn source(self) -> &'static str {
                match self {
                    $(Mode::$member => include_str!(concat!("pages/", $id, ".md")),)*
                }
            }
        }
    };
}

modes! {
    /// A nonlinearity acts on the components of a vector or irrep one by one.
    NonequivariantNonlinearity = "nonequivariant-nonlinearity",
    /// A batch normalisation has statistics or weights for single components, or mixes the entries of a batch.
    BatchNorm = "batch-norm",
    /// A user's own representation is not the one by which the tensor transforms.
    WrongOutputTransform = "wrong-output-transform",
    /// The symmetry holds up to rounding that is larger than passes.
    NumericalPrecision = "numerical-precision",
    /// One layer of the user's own violates a constraint.
    CustomLayerBug = "custom-layer-bug",
    /// Padding, or the end of the array, enters where the grid has none.
    PaddingBoundary = "padding-boundary",
    /// An input that belongs to the geometry is not transformed.
    UntransformedInput = "untransformed-input",
    /// Rotations hold, reflections do not.
    Parity = "parity",
    /// An absolute coordinate reaches the output.
    TranslationLeak = "translation-leak",
    /// The order of a set matters.
    Permutation = "permutation",
    /// The place in the array, or the number of an element, is an input.
    PositionalEncoding = "positional-encoding",
    /// Components of a vector, irrep or symmetric tensor are read in another order than they are written.
    ComponentOrder = "component-order",
    /// A stride keeps some of the shifts or turns alone.
    StridingAliasing = "striding-aliasing",
    /// A resampling follows the array rather than the space.
    Interpolation = "interpolation",
    /// A list of neighbours is cut at a number.
    NeighbourCap = "neighbour-cap",
    /// The output jumps: a cutoff without an envelope, a sign or an order that is anyone's choice.
    Discontinuity = "discontinuity",
    /// Coordinates or frames degenerate near an axis or a pole.
    ChartSingularity = "chart-singularity",
    /// A direction of the laboratory is built into the model.
    LabFrameConstant = "lab-frame-constant",
    /// The model draws random numbers.
    Randomness = "randomness",
    /// Equal calls with equal generators differ.
    Nondeterminism = "nondeterminism",
    /// Calls change what later calls give.
    StateDrift = "state-drift",
    /// Precision is dropped inside the model.
    LowPrecision = "low-precision",
    /// A backward is not the derivative of its forward.
    WrongBackward = "wrong-backward",
    /// A gradient is cut off.
    DetachedGradient = "detached-gradient",
    /// A gradient does not transform as it must.
    GradientNotEquivariant = "gradient-not-equivariant",
    /// The same gradient differs from call to call.
    GradientDrift = "gradient-drift",
    /// The symmetry holds at these values of the parameters alone.
    UnstableParameters = "unstable-parameters",
    /// A gradient is not finite.
    NanGradient = "nan-gradient",
    /// The symmetry holds in one of train and eval mode alone.
    TrainEvalDifference = "train-eval-difference",
    /// An entry of a batch depends on the others.
    BatchCrossTalk = "batch-cross-talk",
    /// Rounding is amplified beyond the level of a pass.
    RoundingAmplification = "rounding-amplification",
    /// The symmetry holds at some sizes of the input alone.
    SizeDependence = "size-dependence",
    /// The test could not have failed.
    VacuousTest = "vacuous-test",
    /// The declaration of a tensor is not how it transforms.
    WrongDeclaration = "wrong-declaration",
    /// Atoms that cross the border of the cell change the output.
    NearestImages = "nearest-images",
    /// The model fails, or its output changes shape or type, under the group.
    BrokenCall = "broken-call",
    /// The law of a random output does not transform as declared.
    RandomLaw = "random-law",
    /// The model writes to its inputs.
    InputMutation = "input-mutation",
    /// A violation that nothing above explains.
    Undiagnosed = "undiagnosed",
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl FromStr for Mode {
    type Err = String;

    /// # Errors
    /// What is no mode, with the nearest that is.
    fn from_str(id: &str) -> Result<Self, String> {
        let wanted = id.trim().to_lowercase().replace(['_', ' '], "-");
        if let Some(mode) = Self::ALL.iter().find(|mode| mode.id() == wanted) {
            return Ok(*mode);
        }
        let near = crate::error::nearest(&wanted, Self::ALL.iter().map(|mode| mode.id()));
        let hint = near.map_or_else(
            || ": `equicheck explain` lists them".to_owned(),
            |near| format!(": did you mean `{near}`?"),
        );
        Err(format!("`{id}` is no failure mode{hint}"))
    }
}
