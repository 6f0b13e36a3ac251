//! An audit: what to test, how much of it, and the stages that do it.

mod calls;
mod composition;
mod end_to_end;
mod energy;
mod evidence;
mod fields;
mod measure;
mod noise;
mod parity;
mod precision;
mod replay;
pub(crate) mod sampling;
mod statistics;
mod stress;
mod subset;
mod vacuity;
mod verdict;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use crate::Error;
use crate::model::{CustomAction, Model, Samples};
use crate::report::{Levels, ModelInfo, Report, Shard, TransformRow};
use crate::symmetry::grid::{Domain, Interpolation};
use crate::symmetry::{Axis, Factor, Group, Layout, Representation, Representations, Term};

pub use evidence::Evidence;
pub use parity::{MARGIN, Parity, ParityRow, parity};
pub(crate) use sampling::WRAPPED;
pub use statistics::{clopper_pearson_upper, confidence_sequence_upper, quantile};

/// The group, and how every input and output transforms.
#[derive(Clone)]
pub struct Specification {
    group: Group,
    inputs: Vec<(String, Option<Layout>)>,
    outputs: Vec<(String, Option<Layout>)>,
    custom: Option<Rc<dyn CustomAction>>,
    representations: Representations,
}

impl PartialEq for Specification {
    /// Custom actions are equal when they are the same object.
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.custom, &other.custom) {
            (Some(a), Some(b)) => Rc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same && self.group == other.group
            && self.inputs == other.inputs
            && self.outputs == other.outputs
            && self.representations == other.representations
    }
}

impl fmt::Debug for Specification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Specification")
            .field("group", &self.group)
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

impl Specification {
    /// Symmetry by a custom action: no layouts. `inputs` are all tensors of a sample by path, in its order; all
    /// tensors that the model returns are audited, except `left_out` and what is below these paths.
    pub fn custom(action: Rc<dyn CustomAction>, inputs: &[String], left_out: &[String]) -> Self {
        let group = Group::custom(&action.name());
        let inputs = inputs.iter().map(|name| (name.clone(), Some(untouched(&group)))).collect();
        let outputs = left_out.iter().map(|name| (name.clone(), None)).collect();
        Self { group, inputs, outputs, custom: Some(action), representations: Representations::default() }
    }

    /// The same with the tensors that the model was seen to return, unless they are left out.
    fn with_returned<'a>(&self, returned: impl Iterator<Item = &'a str>) -> Self {
        let mut result = self.clone();
        for name in returned {
            let below = |(path, _): &(String, Option<Layout>)| {
                name.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if !self.outputs.iter().any(below) {
                result.outputs.push((name.to_owned(), Some(untouched(&self.group))));
            }
        }
        result
    }

    /// The custom action, if there is one.
    pub fn custom_action(&self) -> Option<&dyn CustomAction> {
        self.custom.as_deref()
    }

    /// Parses the group and the layouts; `None` means "not transformed" for an input and "not audited" for an output.
    ///
    /// # Errors
    /// A text that does not parse, a permuted axis that no input mentions.
    pub fn parse(
        group: &str,
        inputs: &[(String, Option<String>)],
        outputs: &[(String, Option<String>)],
    ) -> Result<Self, Error> {
        Self::parse_with(group, inputs, outputs, Representations::default())
    }

    /// The same with a user's representations, for the words `@name` in layouts.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); a representation that no layout uses.
    pub fn parse_with(
        group: &str,
        inputs: &[(String, Option<String>)],
        outputs: &[(String, Option<String>)],
        representations: Representations,
    ) -> Result<Self, Error> {
        let group = Group::parse(group)?;
        let names: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
        let parse = |role: &str, tensors: &[(String, Option<String>)]| {
            tensors
                .iter()
                .map(|(name, text)| {
                    let layout = text.as_ref().map(|text| {
                        Layout::parse_with(text, &group, &representations, Some(&names))
                            .map_err(|e| e.about(format!("layout of {role} `{name}`")))
                    });
                    Ok((name.clone(), layout.transpose()?))
                })
                .collect::<Result<Vec<_>, Error>>()
        };
        let inputs = parse("input", inputs)?;
        let outputs = parse("output", outputs)?;
        for axis in group.permuted_axes() {
            let mentions =
                |layout: &Layout| layout.axes().iter().flat_map(Axis::parts).any(|a| a.to_string() == axis);
            if !inputs.iter().flat_map(|(_, layout)| layout).any(mentions) {
                return Err(Error::AxisNotMentioned { axis: axis.to_owned() });
            }
        }
        let layouts = || inputs.iter().chain(&outputs).filter_map(|(_, layout)| layout.as_ref());
        for user in representations.iter() {
            if !layouts().flat_map(Layout::users).any(|used| used == user) {
                let why = format!("no layout uses `@{}`: write it in one, or leave it out", user.name());
                return Err(Error::Option { option: "representations".to_owned(), why });
            }
        }
        let specification = Self { group, inputs, outputs, custom: None, representations };
        specification.check_cells()?;
        Ok(specification)
    }

    /// Inputs that hold lattice vectors which some layout refers to.
    fn cells(&self) -> impl Iterator<Item = (&str, Option<&Layout>)> {
        let layouts = || self.inputs.iter().chain(&self.outputs).filter_map(|(_, layout)| layout.as_ref());
        let referred = move |name: &str| layouts().any(|layout| layout.cells().any(|cell| cell == name));
        self.inputs
            .iter()
            .filter(move |(name, _)| referred(name))
            .map(|(name, layout)| (name.as_str(), layout.as_ref()))
    }

    /// Lattice vectors must turn with what lies in the lattice.
    fn check_cells(&self) -> Result<(), Error> {
        if !self.group.factors().iter().any(Factor::is_linear) {
            return Ok(());
        }
        for (name, layout) in self.cells() {
            let vectors = Axis::of(Representation::Vector);
            if layout.and_then(|layout| layout.axes().iter().rfind(|axis| !axis.is_weight()))
                != Some(&vectors)
            {
                let written = layout.map_or_else(|| "None".to_owned(), |layout| format!("`{layout}`"));
                return Err(Error::Option {
                    option: "in_layouts".to_owned(),
                    why: format!(
                        "input `{name}` is named as a lattice, whose vectors `{}` turns, and its layout is {written}: \
                         write `3 vector` (rows are lattice vectors)",
                        self.group
                    ),
                });
            }
        }
        Ok(())
    }

    /// The group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The user's representations.
    pub fn representations(&self) -> &Representations {
        &self.representations
    }

    /// Inputs by path, in the order in which a sample lists them.
    pub fn inputs(&self) -> &[(String, Option<Layout>)] {
        &self.inputs
    }

    /// Declared outputs by path.
    pub fn outputs(&self) -> &[(String, Option<Layout>)] {
        &self.outputs
    }
}

/// Which precisions are audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The model's own, and double precision beside it.
    #[default]
    Both,
    /// The model's own alone.
    AsIs,
    /// Double precision alone.
    Float64,
}

/// How random numbers that the model draws inside its calls are treated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Randomness {
    /// The calls on x and T x start from equal generator states.
    #[default]
    Fixed,
    /// The draws made on x are recorded, and replayed on T x acted on by T.
    Transform(NoiseLayouts),
    /// The law of f(T x) against the law of T' f(x), by independent draws.
    Distribution,
}

impl Randomness {
    /// As reports call it; `None` for the default.
    fn name(&self) -> Option<String> {
        match self {
            Randomness::Fixed => None,
            Randomness::Transform(_) => Some("transform".to_owned()),
            Randomness::Distribution => Some("distribution".to_owned()),
        }
    }
}

/// How recorded draws transform.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoiseLayouts {
    /// Not said: an error that lists the draws.
    #[default]
    NotGiven,
    /// All draws by one layout.
    All(String),
    /// In the order of the draws; `None`: replayed as it is.
    Each(Vec<Option<String>>),
}

/// How many pairs of the end-to-end stage one call of the model evaluates, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// So many, at least 1.
    Pairs(usize),
    /// As many as are fastest on this machine, by timing.
    Auto,
}

impl Default for BatchSize {
    fn default() -> Self {
        BatchSize::Pairs(1)
    }
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchSize::Pairs(pairs) => write!(f, "{pairs}"),
            BatchSize::Auto => f.write_str("\"auto\""),
        }
    }
}

impl FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(BatchSize::Auto),
            number => {
                match number.parse() {
                    Ok(pairs) if pairs > 0 => Ok(BatchSize::Pairs(pairs)),
                    _ => Err("give the number of pairs per call, 1 or more, or `auto` to find it by timing"
                        .to_owned()),
                }
            }
        }
    }
}

/// Everything about an audit that is not the model, its inputs or its symmetry.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "one switch for each stage and habit, all independent")]
pub struct Options {
    /// Test samples, at most; by default the mission's number for the model's size.
    pub samples: Option<usize>,
    /// Haar-drawn elements per sample; by default the mission's number for the model's size.
    pub transforms: Option<usize>,
    /// Wall-clock limit; `None` lifts it.
    pub budget: Option<Duration>,
    /// Seed of all draws.
    pub seed: u64,
    /// Standard deviation of each component of a drawn translation; by default the spread of the points.
    pub translation_scale: Option<f64>,
    /// Level bounds for single precision; they scale with the unit roundoff of lower ones.
    pub levels: Levels,
    /// Violations below it pass although they are no rounding: for all outputs, unless named in `tolerances`.
    pub tolerance: Option<f64>,
    /// The same by output.
    pub tolerances: BTreeMap<String, f64>,
    /// Which precisions.
    pub precision: Precision,
    /// Permuted axis -> input whose integer values label the segments within which it is permuted.
    pub segments: BTreeMap<String, String>,
    /// How grids end, for all tensors that `domains` does not name: needed where translations act on grids.
    pub domain: Option<Domain>,
    /// The same by input or output.
    pub domains: BTreeMap<String, Domain>,
    /// How values between pixels are found.
    pub interpolation: Interpolation,
    /// Largest rapidity of drawn boosts.
    pub rapidity: f64,
    /// Which of the plan's pairs are evaluated.
    pub shard: Shard,
    /// Whether the audit ends as soon as its answer is known: a failure at once, a pass when all bounds on violating
    /// shares are below 5 %, by a confidence sequence.
    pub early_stop: bool,
    /// Random numbers that the model draws.
    pub randomness: Randomness,
    /// Whether inputs at the edge of what the model is used on are derived from the samples and tried too.
    pub stress: bool,
    /// The distance at which the model cuts off, for the stress inputs at that edge.
    pub cutoff: Option<f64>,
    /// How many pairs one call of the model evaluates.
    pub batch: BatchSize,
    /// Whether module calls are looked into.
    pub layers: bool,
    /// (module, `in` or `out`, path of the tensor there; empty for the only one) -> layout.
    pub hidden_layouts: BTreeMap<(String, String, String), String>,
    /// Whether gradients are audited.
    pub gradients: bool,
    /// Whether the host was given an invariant loss, whose gradients are audited beside those of the outputs.
    pub loss: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            samples: None,
            transforms: None,
            budget: Some(Duration::from_mins(2)),
            seed: 0,
            translation_scale: None,
            levels: Levels::default(),
            tolerance: None,
            tolerances: BTreeMap::new(),
            precision: Precision::Both,
            segments: BTreeMap::new(),
            domain: None,
            domains: BTreeMap::new(),
            interpolation: Interpolation::Linear,
            rapidity: 2.0,
            shard: Shard::WHOLE,
            early_stop: false,
            randomness: Randomness::Fixed,
            stress: false,
            cutoff: None,
            batch: BatchSize::default(),
            layers: true,
            hidden_layouts: BTreeMap::new(),
            gradients: false,
            loss: false,
        }
    }
}

/// How far an audit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// (input, element) pairs done.
    pub done: usize,
    /// (input, element) pairs planned.
    pub planned: usize,
    /// What all of them are expected to take by the first calls, budget or not.
    pub expected: Option<Duration>,
}

/// What an audit would do: its tensors, and the pairs of its plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What is known of the model.
    pub model: ModelInfo,
    /// The group, canonical.
    pub group: String,
    /// How every tensor is transformed.
    pub transforms: Vec<TransformRow>,
    /// Test samples.
    pub samples: usize,
    /// Pairs (sample, element).
    pub pairs: usize,
    /// What they take by the first calls, double precision counted as the model's own.
    pub expected: Option<Duration>,
}

/// Says what [`audit()`] would do, by calling the model once on each sample.
///
/// # Errors
/// As [`audit()`].
pub fn plan(
    specification: &Specification,
    options: &Options,
    model: &mut dyn Model,
    samples: &mut dyn Samples,
) -> Result<Plan, Error> {
    options.check(specification)?;
    end_to_end::plan(specification, options, model, samples)
}

/// Joins the reports of all shards of one audit into the report of the whole.
///
/// # Errors
/// Reports of no shard, of different audits, twice or not at all.
pub fn merge(shards: &[Report]) -> Result<Report, String> {
    let evidence = shards
        .iter()
        .enumerate()
        .map(|(k, report)| {
            report.evidence.as_deref().cloned().ok_or_else(|| {
                format!("report {k} is of a whole audit: only reports of shards (`shard=`) can be merged")
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Evidence::merge(&evidence)?.report())
}

/// Audits a model.
///
/// # Errors
/// The audit could not be run: inputs that do not fit their layouts, a model that raises on an input as it was
/// given, an interruption. What is wrong with the model otherwise is in the report.
pub fn audit(
    specification: &Specification,
    options: &Options,
    model: &mut dyn Model,
    samples: &mut dyn Samples,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    options.check(specification)?;
    end_to_end::run(specification, options, model, samples, progress)
}

/// Beyond it, a boost multiplies rounding by `e^(2 rapidity)` = 2e4 and more, and single precision has nothing left.
const LARGEST_RAPIDITY: f64 = 5.0;

impl Options {
    /// Version and options as text: equal where all that shapes what is measured is. Budgets and shards are no part.
    pub(crate) fn settings(&self) -> String {
        let shaping = Self { shard: Shard::WHOLE, budget: None, ..self.clone() };
        format!("{} {shaping:?}", env!("CARGO_PKG_VERSION"))
    }

    /// How the grid of a tensor ends, if that was said: of it, or of all, or of the others, which then agree.
    pub(crate) fn domain_of(&self, tensor: &str) -> Option<Domain> {
        let common = || {
            let mut given = self.domains.values();
            given.next().filter(|first| given.all(|other| other == *first)).copied()
        };
        self.domains.get(tensor).copied().or(self.domain).or_else(common)
    }

    pub(crate) fn check(&self, specification: &Specification) -> Result<(), Error> {
        let fail = |option: &str, why: String| Err(Error::Option { option: option.to_owned(), why });
        if self.samples == Some(0) {
            return fail("samples", "at least 1 is needed".to_owned());
        }
        if self.transforms == Some(0) {
            return fail("transforms", "at least 1 is needed".to_owned());
        }
        if self.translation_scale.is_some_and(|s| !(s > 0.0 && s.is_finite())) {
            return fail("translation_scale", "a positive, finite length is needed".to_owned());
        }
        if self.shard.index >= self.shard.count {
            return fail(
                "shard",
                format!("{} of {}: shards are counted from 0", self.shard.index, self.shard.count),
            );
        }
        if self.randomness == Randomness::Distribution && self.shard != Shard::WHOLE {
            return fail(
                "shard",
                "a comparison of laws is not shared out: leave out `shard`, or choose another `randomness`"
                    .to_owned(),
            );
        }
        if self.early_stop && self.shard != Shard::WHOLE {
            return fail(
                "early_stop",
                "a shard cannot know what the others find: leave out `early_stop` or `shard`".to_owned(),
            );
        }
        if self.batch == BatchSize::Pairs(0) {
            return fail(
                "batch",
                "at least 1 pair per call is needed, or \"auto\" to find how many".to_owned(),
            );
        }
        if self.batch == BatchSize::Auto && self.shard != Shard::WHOLE {
            return fail(
                "batch",
                "each shard would find another size by \"auto\": give the number".to_owned(),
            );
        }
        if self.cutoff.is_some_and(|c| !(c > 0.0 && c.is_finite())) {
            return fail("cutoff", "a positive, finite distance is needed".to_owned());
        }
        if self.cutoff.is_some() && !self.stress {
            return fail("cutoff", "it is for the stress stage: give `stress=True` too".to_owned());
        }
        if self.loss && !self.gradients {
            return fail("loss", "it is for the gradient stage: give `gradients=True` too".to_owned());
        }
        if !(self.rapidity > 0.0 && self.rapidity <= LARGEST_RAPIDITY) {
            return fail("rapidity", format!("a number above 0 and up to {LARGEST_RAPIDITY} is needed"));
        }
        let tolerances = self.tolerances.values().chain(&self.tolerance);
        if tolerances.into_iter().any(|t| t.is_nan() || *t < 0.0) {
            return fail("tolerance", "a relative error of at least 0 is needed".to_owned());
        }
        let bounds = [self.levels.perfect, self.levels.excellent, self.levels.approximate];
        if !(bounds[0] > 0.0 && bounds[0] <= bounds[1] && bounds[1] <= bounds[2]) {
            return fail("levels", "perfect <= excellent <= approximate are needed, all positive".to_owned());
        }
        for name in self.tolerances.keys() {
            // What a custom action's model returns is not known before the first call.
            let known = specification.custom.is_none()
                || specification.outputs.iter().any(|(_, layout)| layout.is_some());
            if known
                && !specification.outputs.iter().any(|(output, layout)| output == name && layout.is_some())
            {
                let known: Vec<&str> = specification.outputs.iter().map(|(n, _)| n.as_str()).collect();
                let why = format!("no output `{name}` has a layout; outputs: {}", known.join(", "));
                return fail("tolerance", why);
            }
        }
        for name in self.domains.keys() {
            let tensors =
                || specification.inputs.iter().chain(&specification.outputs).map(|(n, _)| n.as_str());
            if specification.custom.is_none() && !tensors().any(|tensor| tensor == name) {
                let known: Vec<&str> = tensors().collect();
                return fail(
                    "domain",
                    format!("no input or output `{name}`; there are {}", known.join(", ")),
                );
            }
        }
        for (axis, input) in &self.segments {
            if !specification.group.permutes(axis) {
                return fail("segments", format!("the group does not permute `{axis}`"));
            }
            if !specification.inputs.iter().any(|(name, _)| name == input) {
                let known: Vec<&str> = specification.inputs.iter().map(|(n, _)| n.as_str()).collect();
                return fail("segments", format!("no input `{input}`; inputs: {}", known.join(", ")));
            }
        }
        Ok(())
    }
}

/// The layout of tensors that only a custom action moves.
fn untouched(group: &Group) -> Layout {
    Layout::parse("...", group).expect("leading axes alone are a layout under every group")
}

/// The word that helps a user whose group has a factor that moves nothing.
fn help_for_idle(factor: &Factor, group: &Group) -> String {
    match factor {
        Factor::Translation(shift) if shift.along.is_some() || shift.step > 1 => {
            format!("`{shift}` shifts grids: declare an input's axes as `height width`, `length` or `depth height width`")
        }
        Factor::Translation(_) => {
            // The group without its translations, if anything is left of it.
            let terms: Vec<String> = group
                .terms()
                .iter()
                .filter_map(|term| match term {
                    Term::SpecialEuclidean(n) => Some(Term::SpecialOrthogonal(*n).to_string()),
                    Term::Euclidean(n) => Some(Term::Orthogonal(*n).to_string()),
                    Term::Translation(shift) if shift.along.is_none() => None,
                    other => Some(other.to_string()),
                })
                .collect();
            let point = "declare coordinates as `point`, or `fractional(cell)` (a `vector` is not translated)";
            if terms.is_empty() {
                point.to_owned()
            } else {
                format!("{point}, or audit under `{}`", terms.join(" x "))
            }
        }
        Factor::Linear { .. } | Factor::Lorentz { .. } | Factor::Generated(_) => {
            "declare an input as `vector`, `point` or irreps, or a grid's axes as `height width`".to_owned()
        }
        Factor::Finite(_) => {
            "declare an input as `vector`, `regular` or another representation, or a grid's axes as `height width`"
                .to_owned()
        }
        Factor::Sign => "declare an input as `sign`".to_owned(),
        Factor::Phase => "declare a complex input as `charge^1`".to_owned(),
        Factor::Scale => "declare an input as `scale^1`".to_owned(),
        Factor::Permutation { axis } | Factor::Permutations { axis, .. } => {
            format!("name an axis `{axis}` in an input's layout")
        }
        Factor::Custom(_) => "`input` returned x as it was for every element that was drawn".to_owned(),
    }
}
