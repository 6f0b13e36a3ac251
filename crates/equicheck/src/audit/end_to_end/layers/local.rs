//! The local error of a module: its Lie derivative (METHOD 18-19; Gruver et al., The Lie derivative for measuring learned
//! equivariance, 2022).
//!
//! For X in a basis of the group's Lie algebra, `L M(h) = d/dt rho_out(exp(t X))^-1 M(rho_in(exp(t X)) h)` at t = 0, or,
//! where `d rho` is known in closed form, the same as `DM(h) d rho_in(X) h - d rho_out(X) M(h)`.

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Model, Tensor, Trace};
use crate::symmetry::grid::{Domain, Interpolation};
use crate::symmetry::{BoundLayout, Element, Generator};

use super::super::super::measure::{Scales, norm, root_mean_square};
use super::super::EndToEnd;
use super::alone::{Alone, Leaf, Scene};
use super::{LAST, MARGIN, Seen, tracing_of};

/// Step of the differences in double precision, in units of the generators: of the truncation, `h^2` of the size of the
/// third derivative, and the roundoff, `2^-53 / h`, either is below 1e-9.
const STEP: f64 = 1.0 / 131_072.0;
/// The same on grids, in pixels. A cubic interpolant's second derivative jumps at the pixels, so that the truncation is
/// of order h.
const PIXEL_STEP: f64 = 1.0 / 1_048_576.0;
/// The same in single precision: the truncation and the roundoff, `2^-24 / h`, are below 1e-4.
const COARSE_STEP: f64 = 1.0 / 256.0;
/// Two steps must agree to this share of the output, in double and in single precision.
const AGREE: (f64, f64) = (1e-6, 1e-3);
/// Fewer pixels than those of one 3 x 3 window say nothing.
const LEAST_PIXELS: usize = 9;

/// What was found of one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Local {
    /// Root mean square over the generators, relative to the output.
    Error(f64),
    /// Two steps differ by this share of the output.
    Unsteady(f64),
}

impl Local {
    pub(super) fn error(self) -> Option<f64> {
        match self {
            Local::Error(error) => Some(error),
            Local::Unsteady(_) => None,
        }
    }

    /// Why there is none, for the report.
    pub(super) fn remark(self) -> Option<String> {
        let Local::Unsteady(apart) = self else { return None };
        Some(format!(
            "no local error: two steps of its derivative differ by {apart:.1e} of its output (a kink, a jump, or rounding)"
        ))
    }
}

/// What calls the module on other inputs.
type Again<'a> = &'a mut dyn FnMut(&[Tensor]) -> Result<Option<Vec<Tensor>>, Error>;

/// A tensor, and how it transforms; whole numbers need not.
pub(super) struct Known<'a> {
    value: &'a Tensor,
    layout: Option<BoundLayout>,
}

/// A generator as it acts on the tensors of one call.
struct Flow {
    generator: Generator,
    step: f64,
    /// `d rho(X)` of inputs and outputs, where that is known of all.
    tangents: Option<Tangents>,
}

/// `d rho(X)` of a module's tensors; of inputs that have a layout.
struct Tangents {
    inputs: Vec<Option<ArrayD<f64>>>,
    outputs: Vec<ArrayD<f64>>,
}

/// A module and its clean tensors.
pub(super) struct Module<'a> {
    pub(super) inputs: Vec<Known<'a>>,
    pub(super) outputs: Vec<Known<'a>>,
    /// The element that acts on nothing.
    pub(super) identity: Element,
    pub(super) wide: bool,
    /// What rounding explains of its output, relative.
    pub(super) noise: f64,
}

impl Module<'_> {
    /// The generators that move its tensors.
    fn flows(&self, basis: &[Generator]) -> Vec<Flow> {
        let known = || self.inputs.iter().chain(&self.outputs);
        let layouts = || known().filter_map(|known| known.layout.as_ref());
        let mut flows = Vec::new();
        for generator in basis.iter().filter(|g| layouts().any(|layout| layout.is_moved_by(g.factor()))) {
            let grids = layouts().filter(|layout| layout.is_moved_by(generator.factor()));
            let extent = grids.flat_map(BoundLayout::grid_sizes).map(|(_, n)| n).max();
            let turns = generator.matrix().is_some();
            let step = match extent {
                // The corners of a grid move the more the larger it is.
                Some(n) if turns => PIXEL_STEP / (n as f64 / 2.0).max(1.0),
                Some(_) => PIXEL_STEP,
                None if self.wide => STEP,
                None => COARSE_STEP,
            };
            let element = generator.element(&self.identity, step);
            if extent.is_some() && !self.wide || layouts().any(|layout| layout.admits(&element).is_err()) {
                continue;
            }
            let tangent =
                |known: &Known<'_>| known.layout.as_ref()?.tangent(generator, &known.value.to_real());
            let inputs: Vec<_> = self.inputs.iter().map(tangent).collect();
            let all = inputs.iter().zip(&self.inputs).all(|(v, known)| v.is_some() || known.layout.is_none());
            let zero = |known: &Known<'_>| known.value.to_real() * 0.0;
            let outputs: Option<Vec<_>> = self
                .outputs
                .iter()
                .map(|known| if known.layout.is_some() { tangent(known) } else { Some(zero(known)) })
                .collect();
            let tangents = outputs.filter(|_| all).map(|outputs| Tangents { inputs, outputs });
            flows.push(Flow { generator: generator.clone(), step, tangents });
        }
        flows
    }

    /// The central difference of step `h`, by output; nothing where the module raises.
    fn difference(&self, flow: &Flow, h: f64, again: Again<'_>) -> Result<Option<Vec<ArrayD<f64>>>, Error> {
        let mut ends = Vec::new();
        for t in [h, -h] {
            let Some(returned) = again(&self.moved(flow, t))? else { return Ok(None) };
            let inverse = flow.generator.element(&self.identity, -t);
            let mut values = Vec::new();
            for (after, known) in returned.iter().zip(&self.outputs) {
                if after.shape() != known.value.shape() {
                    return Ok(None);
                }
                let after = after.to_real();
                values.push(match &known.layout {
                    Some(layout) if flow.tangents.is_none() => layout.act_on_real(&inverse, &after),
                    _ => after,
                });
            }
            ends.push(values);
        }
        let (Some(down), Some(up)) = (ends.pop(), ends.pop()) else { return Ok(None) };
        let of = |o: usize| {
            let difference = match &self.outputs[o].layout {
                Some(layout) => layout.change(&Element::default(), &up[o], &down[o]),
                None => &up[o] - &down[o],
            };
            let slope = difference / (2.0 * h);
            flow.tangents.as_ref().map_or_else(|| slope.clone(), |tangents| &slope - &tangents.outputs[o])
        };
        Ok(Some((0..self.outputs.len()).map(of).collect()))
    }

    /// The inputs at parameter t: along the subgroup, or along its tangent.
    fn moved(&self, flow: &Flow, t: f64) -> Vec<Tensor> {
        let element = flow.generator.element(&self.identity, t);
        let of = |(k, known): (usize, &Known<'_>)| match (&known.layout, &flow.tangents) {
            (None, _) => known.value.clone(),
            (Some(_), Some(tangents)) if known.value.dtype().is_inexact() => match &tangents.inputs[k] {
                Some(tangent) => Tensor::from_real(known.value.to_real() + tangent * t, known.value.dtype()),
                None => known.value.clone(),
            },
            (Some(layout), _) => layout.act(&element, known.value),
        };
        self.inputs.iter().enumerate().map(of).collect()
    }

    /// By output: the pixels that count, `None` for all. Those whose value depends on pixels that have no derivative,
    /// for want of neighbours, do not (METHOD 10).
    fn pixels(&self, flows: &[Flow], again: Again<'_>) -> Result<Option<Vec<Option<Vec<usize>>>>, Error> {
        let ends = || {
            flows
                .iter()
                .flat_map(|flow| [flow.step, -flow.step].map(|t| flow.generator.element(&self.identity, t)))
        };
        // By pixel: whether it is defined wherever the flows go.
        let mask = |layout: &BoundLayout| -> Option<Vec<bool>> {
            let warps = ends().filter_map(|element| layout.grid_warp(&element));
            let joined = warps.map(|warp| warp.mask().to_vec());
            let joined = joined.reduce(|a, b| a.iter().zip(&b).map(|(a, b)| *a && *b).collect());
            joined.filter(|mask| mask.contains(&false))
        };
        let mut rimless = Vec::new();
        let mut open = false;
        for known in &self.inputs {
            let rim = known.layout.as_ref().and_then(|layout| Some((layout, mask(layout)?)));
            let Some((layout, mask)) = rim else {
                rimless.push(known.value.clone());
                continue;
            };
            open = true;
            let values = known.value.to_real();
            let mut channels = layout.by_channel(&values);
            for (mut pixel, _) in
                channels.columns_mut().into_iter().zip(&mask).filter(|(_, inside)| !**inside)
            {
                pixel.fill(0.0);
            }
            let trailing = known.value.dtype().is_complex().then_some(2);
            rimless.push(Tensor::from_real(layout.of_channels(&channels, trailing), known.value.dtype()));
        }
        if !open {
            return Ok(Some(vec![None; self.outputs.len()]));
        }
        let Some(returned) = again(&rimless)? else { return Ok(None) };
        let mut judged = Vec::new();
        for (after, known) in returned.iter().zip(&self.outputs) {
            let Some(layout) = &known.layout else {
                judged.push(None);
                continue;
            };
            let before = known.value.to_real();
            if after.shape() != known.value.shape() {
                return Ok(None);
            }
            let rounding = MARGIN * self.noise * root_mean_square(&before);
            let changed = layout.by_channel(&(after.to_real() - &before));
            let by_rim: Vec<bool> =
                changed.columns().into_iter().map(|pixel| pixel.iter().any(|v| v.abs() > rounding)).collect();
            let near = layout.sampled().map_or_else(|| by_rim.clone(), |grid| near(&by_rim, &grid.sizes));
            let own = mask(layout);
            let counts = |pixel: &usize| own.as_ref().is_none_or(|mask| mask[*pixel]) && !near[*pixel];
            let pixels: Vec<usize> = (0..changed.ncols()).filter(counts).collect();
            if pixels.len() < LEAST_PIXELS.min(changed.ncols()) {
                return Ok(None);
            }
            judged.push((pixels.len() < changed.ncols()).then_some(pixels));
        }
        Ok(Some(judged))
    }

    /// Four calls for each generator that moves its tensors, and one more on grids with an edge; `None` without such
    /// generators, where the module raises, or where all depends on the edge.
    pub(super) fn local_error(&self, basis: &[Generator], again: Again<'_>) -> Result<Option<Local>, Error> {
        let flows = self.flows(basis);
        let vanishes = |known: &Known<'_>| known.value.to_real().iter().all(|v| *v == 0.0);
        if flows.is_empty() || self.outputs.iter().all(vanishes) {
            return Ok(None);
        }
        let Some(pixels) = self.pixels(&flows, again)? else { return Ok(None) };
        let agree = if self.wide { AGREE.0 } else { AGREE.1 };
        let mut squares = vec![0.0; self.outputs.len()];
        for flow in &flows {
            let Some(coarse) = self.difference(flow, flow.step, again)? else { return Ok(None) };
            let Some(fine) = self.difference(flow, flow.step / 2.0, again)? else { return Ok(None) };
            for (o, known) in self.outputs.iter().enumerate() {
                let Some(layout) = known.layout.as_ref().filter(|_| known.value.dtype().is_inexact()) else {
                    continue;
                };
                let at = |values: &ArrayD<f64>| match &pixels[o] {
                    Some(pixels) => layout.at_pixels(values, pixels),
                    None => values.clone(),
                };
                let layout = match &pixels[o] {
                    Some(pixels) => &layout.of_pixels(pixels.len()),
                    None => layout,
                };
                let (coarse, fine) = (at(&coarse[o]), at(&fine[o]));
                let (clean, slope) = (at(&known.value.to_real()), (&fine * 4.0 - &coarse) / 3.0);
                let apart = norm(&(&fine - &coarse)) / norm(&clean).max(norm(&slope));
                if apart.is_nan() || apart > agree {
                    let nothing = norm(&clean) == 0.0 && norm(&slope) == 0.0;
                    if nothing {
                        continue;
                    }
                    return Ok(Some(Local::Unsteady(if apart.is_nan() { f64::INFINITY } else { apart })));
                }
                let scales = Scales::new([(layout, &clean)].into_iter());
                squares[o] += scales.measure(layout, &slope, &clean).scaled.powi(2);
            }
        }
        let largest = squares.into_iter().reduce(f64::max);
        Ok(largest.map(|square| Local::Error((square / flows.len() as f64).sqrt())))
    }
}

fn known<'a>(leaves: &[Leaf<'a>]) -> Vec<Known<'a>> {
    let known = |leaf: &Leaf<'a>| Known { value: leaf.value, layout: leaf.layout.map(smooth) };
    leaves.iter().map(known).collect()
}

/// By pixel: whether a cubic stencil there, on either side of it, reads a marked one.
fn near(marked: &[bool], sizes: &[usize]) -> Vec<bool> {
    let mut near = marked.to_vec();
    // One axis after the other, as stencils are products.
    for axis in 0..sizes.len() {
        let stride: usize = sizes[axis + 1..].iter().product();
        let before = near.clone();
        for (pixel, slot) in near.iter_mut().enumerate() {
            let at = pixel / stride % sizes[axis];
            let within = at.saturating_sub(2)..(at + 3).min(sizes[axis]);
            *slot = within.into_iter().any(|other| before[pixel + other * stride - at * stride]);
        }
    }
    near
}

/// The layout with an interpolant that has a derivative at every pixel: Fourier's, or where a grid has an edge, which
/// that one would wrap around, the cubic one.
fn smooth(layout: &BoundLayout) -> BoundLayout {
    let smooth = match layout.sampled().map(|grid| grid.domain) {
        None => return layout.clone(),
        Some(Domain::Periodic) => Interpolation::Fourier,
        Some(Domain::Open) => Interpolation::Cubic,
    };
    layout.clone().interpolated_by(smooth)
}

impl EndToEnd<'_> {
    /// Local errors of the innermost calls whose tensors are all known: none of them holds another, so that together
    /// they cost no more than four passes per generator. Calls that the budget cuts off are counted.
    pub(super) fn local_errors(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        calls: &[Alone<'_>],
        seen: &mut [Seen],
    ) -> Result<usize, Error> {
        let space = &self.cases[scene.sample].space;
        let length = if space.grid.is_empty() { space.translation_scale } else { 1.0 };
        let basis = Generator::basis(self.specification.group(), length);
        let identity = space.identity();
        let Some(tracing) = tracing_of(model) else { return Ok(0) };
        if basis.is_empty() {
            return Ok(0);
        }
        let mut left_out = 0;
        for call in innermost(&scene.reference.trace, calls) {
            if !seen[call.row].repeats {
                continue;
            }
            if self.spent(LAST) {
                left_out += 1;
                continue;
            }
            let module = Module {
                inputs: known(&call.inputs),
                outputs: known(&call.outputs),
                identity: identity.clone(),
                wide: scene.wide,
                noise: scene.noise(call),
            };
            seen[call.row].local =
                module.local_error(&basis, &mut |inputs| self.again(tracing, call, inputs))?;
        }
        Ok(left_out)
    }
}

/// Those that hold no other of them.
fn innermost<'a, 'b>(trace: &Trace, calls: &'a [Alone<'b>]) -> Vec<&'a Alone<'b>> {
    let mut holds = vec![false; trace.calls.len()];
    for call in calls {
        let mut parent = trace.calls[call.row].parent;
        while let Some(at) = parent.filter(|at| !holds[*at]) {
            holds[at] = true;
            parent = trace.calls[at].parent;
        }
    }
    calls.iter().filter(|call| !holds[call.row]).collect()
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn pixels_near_a_marked_one_are_those_whose_stencils_reach_it() {
        // 5 rows of 6 pixels; the one at (1, 4) is marked.
        let marked: Vec<bool> = (0..30).map(|pixel| pixel == 10).collect();
        let rows: Vec<String> = near(&marked, &[5, 6])
            .chunks(6)
            .map(|row| row.iter().map(|near| if *near { '#' } else { '.' }).collect())
            .collect();
        assert_eq!(rows, ["..####", "..####", "..####", "..####", "......"]);
    }
}
