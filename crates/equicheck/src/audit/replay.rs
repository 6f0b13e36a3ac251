//! `randomness = "transform"`: the random draws that the model makes on x are recorded, and replayed on T x acted on
//! by T (METHOD 17).
//!
//! Sound only where T leaves the law of the draws as it is: a standard Gaussian under orthogonal maps, any independent
//! draws under permutations of their entries. A layout that does anything else is refused.

use std::collections::{BTreeMap, HashMap};

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Call, CallError, DType, Draw, Model, Returned, Tensor};
use crate::report::TransformRow;
use crate::symmetry::{BoundLayout, Element, Group, Layout};

use super::measure::norm;
use super::sampling::{Draws, Purpose};
use super::{NoiseLayouts, Options, Randomness};

/// How a failure begins that is about the draws and not about what the model raised.
pub(crate) const DIFFER: &str = "the random draws";
/// Draws that an error lists; the rest is counted.
const LISTED: usize = 12;
/// Largest relative change of a norm that counts as the roundoff of an orthogonal map in double precision.
const ORTHOGONAL: f64 = 1e-9;

/// Recorded draws by sample, and how they transform.
#[derive(Debug)]
pub(crate) struct Replay {
    layouts: Declared,
    recorded: HashMap<usize, Recorded>,
}

#[derive(Debug)]
enum Declared {
    All(Option<Layout>),
    Each(Vec<Option<Layout>>),
}

#[derive(Debug)]
struct Recorded {
    /// In double precision: the model rounds them to its own type.
    draws: Vec<Draw>,
    /// The types that they were drawn in.
    types: Vec<DType>,
    bound: Vec<Option<BoundLayout>>,
    out_of_reach: Vec<String>,
    /// A draw that comes out the same whatever state the generators start from.
    seeded: Option<usize>,
}

/// What of a sample decides how layouts bind to its draws.
pub(crate) struct Context<'a> {
    pub(crate) sample: usize,
    pub(crate) group: &'a Group,
    /// Lengths of named axes that the inputs tell.
    pub(crate) lengths: &'a BTreeMap<String, usize>,
    /// Lengths of the permuted axes.
    pub(crate) axes: &'a BTreeMap<String, usize>,
    /// Puts a layout on the sample's grid.
    pub(crate) on_grid: &'a dyn Fn(BoundLayout) -> BoundLayout,
    /// Elements that must leave the law of the draws as it is.
    pub(crate) elements: &'a [Element],
}

impl Replay {
    /// What the options ask for; `None` unless draws are to be transformed.
    ///
    /// # Errors
    /// A layout that does not parse, a host that cannot record draws, no layouts by a group that needs them.
    pub(crate) fn new(
        options: &Options,
        group: &Group,
        has_layouts: bool,
        model: &dyn Model,
    ) -> Result<Option<Self>, Error> {
        let Randomness::Transform(layouts) = &options.randomness else { return Ok(None) };
        if !has_layouts {
            return Err(option(
                "randomness",
                "\"transform\" acts on noise by layouts, and a custom action has none: use \"distribution\""
                    .to_owned(),
            ));
        }
        model
            .replays_draws()
            .map_err(|why| option("randomness", format!("\"transform\" is not available: {}", why.0)))?;
        let parse = |k: Option<usize>, text: &Option<String>| {
            let subject = k.map_or_else(|| "noise layout".to_owned(), |k| format!("noise layout {k}"));
            text.as_ref()
                .map(|text| Layout::parse(text, group).map_err(|error| error.about(subject)))
                .transpose()
        };
        let layouts = match layouts {
            // Asked for once the draws are known, so that the error can list them.
            NoiseLayouts::NotGiven => Declared::Each(Vec::new()),
            NoiseLayouts::All(text) => Declared::All(parse(None, &Some(text.clone()))?),
            NoiseLayouts::Each(texts) => {
                let parsed = texts.iter().enumerate().map(|(k, text)| parse(Some(k), text));
                Declared::Each(parsed.collect::<Result<_, _>>()?)
            }
        };
        Ok(Some(Self { layouts, recorded: HashMap::new() }))
    }

    /// A call with the sample's draws, acted on by `element`. The first call for a sample records them.
    pub(crate) fn call(
        &mut self,
        model: &mut dyn Model,
        call: &Call<'_>,
        element: Option<&Element>,
    ) -> Result<Returned, CallError> {
        let Some(recorded) = self.recorded.get(&call.sample) else {
            let drawn = model.forward_with_draws(call, None)?;
            // The generators go on from where the first call left them. Once is enough: it is the model's own code.
            let again = if self.recorded.is_empty() && !drawn.draws.is_empty() {
                let call = Call { reset_generators: false, ..*call };
                model.forward_with_draws(&call, None)?.draws
            } else {
                Vec::new()
            };
            let seeded = drawn.draws.iter().zip(&again).position(|(a, b)| a.is_continuous() && a == b);
            let wide = |draw: Draw| Draw { values: draw.values.map(|values| values.double()), ..draw };
            let types = drawn.draws.iter().filter_map(|draw| Some(draw.values.as_ref()?.dtype())).collect();
            let recorded = Recorded {
                types,
                draws: drawn.draws.into_iter().map(wide).collect(),
                bound: Vec::new(),
                out_of_reach: drawn.out_of_reach,
                seeded,
            };
            self.recorded.insert(call.sample, recorded);
            return Ok(drawn.returned);
        };
        let acted = recorded.acted(element);
        let drawn = model.forward_with_draws(call, Some(&acted))?;
        match difference(&recorded.draws, &drawn.draws) {
            Some(why) => Err(CallError::Raised(why)),
            None => Ok(drawn.returned),
        }
    }

    /// Without any draws: [`put`](Self::put) gives them.
    pub(crate) fn empty() -> Self {
        Self { layouts: Declared::Each(Vec::new()), recorded: HashMap::new() }
    }

    /// Takes draws that were recorded elsewhere, and how each moves.
    pub(crate) fn put(&mut self, sample: usize, draws: Vec<Draw>, bound: Vec<Option<BoundLayout>>) {
        let types = draws.iter().filter_map(|draw| Some(draw.values.as_ref()?.dtype())).collect();
        let wide = |draw: Draw| Draw { values: draw.values.map(|values| values.double()), ..draw };
        let draws = draws.into_iter().map(wide).collect();
        let recorded = Recorded { draws, types, bound, out_of_reach: Vec::new(), seeded: None };
        self.recorded.insert(sample, recorded);
    }

    /// The draws of a sample that was called, acted on by `element`.
    pub(crate) fn acted(&self, sample: usize, element: Option<&Element>) -> Option<Vec<Draw>> {
        self.recorded.get(&sample).map(|recorded| recorded.acted(element))
    }

    /// Binds the layouts to the draws of a sample that was called.
    ///
    /// # Errors
    /// Draws out of reach, layouts that do not fit the draws in number, shape or law.
    pub(crate) fn bind(&mut self, context: &Context<'_>) -> Result<(), Error> {
        let Some(recorded) = self.recorded.get_mut(&context.sample) else { return Ok(()) };
        let fail = |why: String| Err(option("noise_layouts", why));
        if let Some(operation) = recorded.out_of_reach.first() {
            return Err(option(
                "randomness",
                format!(
                    "\"transform\" cannot record what `{operation}` draws inside its kernel: switch it off (attention: \
                     `dropout_p=0`, or the math backend), or use \"distribution\""
                ),
            ));
        }
        let sample = context.sample;
        let list = listed(&recorded.draws);
        if recorded.draws.is_empty() {
            return fail(format!(
                "the model makes no random draw on sample {sample} that could be transformed (mode=\"eval\" turns \
                 dropout off; draws by numpy and python's `random` are not seen): use randomness=\"fixed\""
            ));
        }
        if let Some(k) = recorded.seeded {
            return Err(option(
                "randomness",
                format!(
                    "draw {k} has the same values in every call: the model seeds its generator itself, so that nothing \
                     is random that could be transformed: use randomness=\"fixed\"; {list}"
                ),
            ));
        }
        let layouts: Vec<Option<&Layout>> = match &self.layouts {
            Declared::All(layout) => vec![layout.as_ref(); recorded.draws.len()],
            Declared::Each(layouts) if layouts.len() == recorded.draws.len() => {
                layouts.iter().map(Option::as_ref).collect()
            }
            Declared::Each(layouts) if layouts.is_empty() => {
                return fail(format!(
                    "say how each random draw transforms, None for \"replayed as it is\"; {list}"
                ));
            }
            Declared::Each(layouts) => {
                let (given, made) = (layouts.len(), recorded.draws.len());
                return fail(format!(
                    "{given} layout{} for {made} random draw{}: give one for each, in order, or one string for all; on \
                     sample {sample} {list}",
                    if given == 1 { "" } else { "s" },
                    if made == 1 { "" } else { "s" },
                ));
            }
        };
        let mut bound = Vec::new();
        for (k, (draw, layout)) in recorded.draws.iter().zip(layouts).enumerate() {
            let Some(layout) = layout else {
                bound.push(None);
                continue;
            };
            let what = format!("random draw {k} ({})", draw.kind);
            let fitted =
                BoundLayout::with_lengths(layout, &draw.shape, context.group, &what, context.lengths)
                    .map_err(|error| option("noise_layouts", format!("{error}; {list}")))?;
            for (axis, length) in fitted.permuted_lengths() {
                if let Some(expected) = context.axes.get(axis).filter(|n| **n != length) {
                    return fail(format!(
                        "{what}: `{axis}` has length {length}, and {expected} in the inputs; {list}"
                    ));
                }
            }
            let fitted = (context.on_grid)(fitted);
            check_law(&what, draw, &fitted, context.elements)?;
            bound.push(Some(fitted));
        }
        recorded.bound = bound;
        Ok(())
    }

    /// One row per draw of a sample, for the table of how tensors are transformed.
    pub(crate) fn rows(&self, sample: usize, group: &Group) -> Vec<TransformRow> {
        let Some(recorded) = self.recorded.get(&sample) else { return Vec::new() };
        let row = |(k, draw): (usize, &Draw)| {
            let bound = recorded.bound.get(k).and_then(Option::as_ref);
            TransformRow {
                role: "noise".to_owned(),
                name: format!("draw {k} ({})", draw.kind),
                layout: bound.map(|bound| bound.layout().to_string()),
                shape: draw.shape.clone(),
                dtype: recorded.types.get(k).map_or("", |dtype| dtype.name()).to_owned(),
                description: match bound {
                    Some(bound) => format!("recorded, replayed: {}", bound.describe(group)),
                    None => "recorded, replayed as it is".to_owned(),
                },
            }
        };
        recorded.draws.iter().enumerate().map(row).collect()
    }
}

impl Recorded {
    fn acted(&self, element: Option<&Element>) -> Vec<Draw> {
        let draws = self.draws.iter().enumerate();
        draws
            .map(|(k, draw)| match (element, self.bound.get(k).and_then(Option::as_ref), &draw.values) {
                (Some(element), Some(layout), Some(values)) => {
                    Draw { values: Some(layout.act(element, values)), ..draw.clone() }
                }
                _ => draw.clone(),
            })
            .collect()
    }
}

fn option(name: &str, why: String) -> Error {
    Error::Option { option: name.to_owned(), why }
}

/// `draw 0 is normal [5, 3], draw 1 bernoulli [5, 16]`.
fn listed(draws: &[Draw]) -> String {
    let name = |(k, draw): (usize, &Draw)| format!("{k}: {} {:?}", draw.kind, draw.shape);
    let mut names: Vec<String> = draws.iter().enumerate().take(LISTED).map(name).collect();
    if draws.len() > LISTED {
        names.push(format!("and {} more", draws.len() - LISTED));
    }
    format!("the draws are {}", names.join(", "))
}

/// How two sequences of draws differ, if they do.
fn difference(before: &[Draw], after: &[Draw]) -> Option<String> {
    let advice =
        "the transformed draws cannot be replayed; randomness=\"distribution\" compares laws instead";
    for (k, (own, other)) in before.iter().zip(after).enumerate() {
        if own.kind != other.kind || own.shape != other.shape {
            return Some(format!(
                "{DIFFER} on the transformed input are others than on the input as it was given: draw {k} is {} {:?} \
                 instead of {} {:?}; {advice}",
                other.kind, other.shape, own.kind, own.shape
            ));
        }
    }
    (before.len() != after.len()).then(|| {
        format!(
            "{DIFFER} on the transformed input are others than on the input as it was given: {} instead of {}; {advice}",
            after.len(),
            before.len()
        )
    })
}

/// The action must leave the law of the draw as it is: orthogonal maps do for a standard Gaussian, maps that only move
/// entries do for any independent draws.
fn check_law(what: &str, draw: &Draw, layout: &BoundLayout, elements: &[Element]) -> Result<(), Error> {
    let Some(values) = &draw.values else { return Ok(()) };
    let fail =
        |why: &str| Err(option("noise_layouts", format!("{what}: layout `{}` {why}", layout.layout())));
    let dtype = values.dtype();
    if let Some(why) = layout.refuses(dtype) {
        return fail(&format!("does not fit: {why}"));
    }
    let shape = values.to_real().raw_dim();
    let probe = |draws: &mut Draws| ArrayD::from_shape_simple_fn(shape.clone(), || draws.normal());
    let float = if dtype.is_complex() { dtype } else { DType::Float64 };
    for (k, element) in elements.iter().enumerate() {
        let mut draws = Draws::new(0, 0, k as u64, Purpose::Perturbation);
        let before = probe(&mut draws);
        let act =
            |values: &ArrayD<f64>| layout.act(element, &Tensor::from_real(values.clone(), float)).to_real();
        let after = act(&before);
        if draw.gaussian {
            let kept = (norm(&after) - norm(&before)).abs() <= ORTHOGONAL * norm(&before);
            if !kept || norm(&act(&ArrayD::zeros(shape.clone()))) > 0.0 {
                return fail(
                    "is no orthogonal action (translations, dilations, boosts, interpolated or cut grids), so that \
                     transformed Gaussian noise is no longer standard Gaussian: declare noise as `vector`, irreps or \
                     another orthogonal layout, or use randomness=\"distribution\"",
                );
            }
        } else {
            let sorted = |values: &ArrayD<f64>| {
                let mut values: Vec<f64> = values.iter().copied().collect();
                values.sort_by(f64::total_cmp);
                values
            };
            if sorted(&before) != sorted(&after) {
                return fail(
                    "computes with the values, which changes the law of draws that are not Gaussian: only layouts that \
                     move entries about (`nodes channel`) keep it; None replays the draw as it is",
                );
            }
        }
    }
    Ok(())
}
