//! The control for interpolated grids (METHOD 10): the error of the model on inputs that are known between pixels,
//! beside that of a reference that no model can beat by much.
//!
//! Every grid of a probed sample is replaced by smooth fields of its channels' mean and standard deviation. `T x` is
//! sampled directly at the transformed points, so that no input is interpolated and no pixel is undefined; an output's
//! own grid still is, under `T'`. The reference blurs the same fields and keeps the positive part, which commutes with
//! every rotation in the continuum: what it gets wrong is discretisation and interpolation alone.

use std::collections::BTreeSet;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_4};

use ndarray::{Array1, Array2, ArrayD, IxDyn};

use crate::Error;
use crate::model::{Model, Tensor};
use crate::report::{InterpolationControl, InterpolationScaling};
use crate::symmetry::grid::{Domain, GridWarp, Interpolation};
use crate::symmetry::{BoundLayout, Element, Factor, Layout, Sampled};

use super::super::calls::Value;
use super::super::fields::{LEAST_SIZE, ReceptiveField, Reference, SmoothField, index_of};
use super::super::measure::Scales;
use super::super::sampling::{self, Draws, Part, Purpose, Space};
use super::{DoubleModel, EndToEnd};

/// Elements per probed sample.
const ELEMENTS: usize = 8;
/// Draws among which these are looked for: most elements of a finite group may be of the lattice.
const TRIED: u64 = 64;
/// Fewer pixels than those of one 3 x 3 window say nothing about a dense output.
const LEAST_PIXELS: usize = 9;
/// Least and largest number of the reference's channels: the change of a single invariant may be near zero by chance.
const CHANNELS: (usize, usize) = (8, 16);
/// Other draws of the fields per sample, whose median change says how much outputs vary.
const OTHERS: u64 = 4;
/// How much longer the waves are on which scaling is measured.
const STRETCH: f64 = 2.0;
/// Changes beyond as many units of rounding of the largest output are changes.
const BEYOND_ROUNDING: f64 = 1e3;

/// Smooth fields in place of the channels of one input.
struct Channels {
    /// Those of the tensor, and more of the same for the reference if they are few.
    fields: Vec<SmoothField>,
    mean: Vec<f64>,
    amplitude: Vec<f64>,
    grid: Sampled,
    /// Length of the last axis of complex values.
    trailing: Option<usize>,
}

/// One probed sample, its grids replaced by smooth fields.
struct Run {
    sample: usize,
    /// By input.
    fields: Vec<Option<Channels>>,
    inputs: Vec<Tensor>,
    base: Vec<Value>,
    /// Fields of other draws, and what the model makes of them: how much outputs vary.
    others: Vec<(Vec<Option<Channels>>, Vec<Value>)>,
    moved: Vec<(Element, Vec<Value>)>,
}

impl Channels {
    /// Fields for a tensor of this layout; `None` if it has no grid that is moved.
    fn draw(layout: &BoundLayout, tensor: &Tensor, draws: &mut Draws) -> Option<Self> {
        let grid = layout.sampled()?;
        if !tensor.dtype().is_inexact() || tensor.is_empty() {
            return None;
        }
        let trailing = tensor.dtype().is_complex().then_some(2);
        let channels = layout.by_channel(&tensor.to_real());
        let mut result = Self { fields: Vec::new(), mean: Vec::new(), amplitude: Vec::new(), grid, trailing };
        for k in 0..channels.nrows().max(CHANNELS.0) {
            let channel = channels.row(k % channels.nrows());
            // Padding with NaN or infinity has no part in it.
            let known: Vec<f64> = channel.iter().copied().filter(|v| v.is_finite()).collect();
            let count = known.len().max(1) as f64;
            let mean = known.iter().sum::<f64>() / count;
            let variance = known.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            result.fields.push(SmoothField::draw(&result.grid.sizes, draws));
            result.mean.push(mean);
            result.amplitude.push(variance.sqrt());
        }
        Some(result)
    }

    /// The first channels by pixels, without their means, at the points where the warp takes its pixels from.
    fn at(&self, warp: Option<&GridWarp>, count: usize) -> Array2<f64> {
        let sizes = &self.grid.sizes;
        let n = sizes.len();
        let (base, step) = if let Some(warp) = warp {
            let (base, step) = warp.sources();
            (base.to_vec(), step.to_vec())
        } else {
            let unit = |a| (0..n).map(|b| f64::from(u8::from(a == b))).collect();
            (vec![0.0; n], (0..n).map(unit).collect())
        };
        let mut result = Array2::zeros((count, sizes.iter().product()));
        for ((mut row, field), amplitude) in
            result.rows_mut().into_iter().zip(&self.fields).zip(&self.amplitude)
        {
            row.assign(&Array1::from(field.at(sizes, &base, &step)));
            row *= *amplitude;
        }
        result
    }

    /// The tensor's values under the element, or as they are.
    fn values(&self, layout: &BoundLayout, element: Option<&Element>) -> ArrayD<f64> {
        let warp = element.and_then(|element| layout.grid_warp(element));
        let mut channels = self.at(warp.as_deref(), layout.channels(self.trailing));
        for (mut row, mean) in channels.rows_mut().into_iter().zip(&self.mean) {
            row += *mean;
        }
        let values = layout.of_channels(&channels, self.trailing);
        element.map_or_else(|| values.clone(), |element| layout.without_grid().act_on_real(element, &values))
    }

    /// The same with waves longer by a factor.
    fn stretched(&self, factor: f64) -> Self {
        Self {
            fields: self.fields.iter().map(|field| field.stretched(factor)).collect(),
            mean: self.mean.clone(),
            amplitude: self.amplitude.clone(),
            grid: self.grid.clone(),
            trailing: self.trailing,
        }
    }
}

/// The largest errors of model and reference over all pairs that could be judged.
#[derive(Default)]
struct Errors {
    model: f64,
    control: f64,
    pairs: usize,
    reach: Option<f64>,
}

impl EndToEnd<'_> {
    /// By output: the control, where elements of the group interpolate a grid.
    pub(super) fn interpolation(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Vec<Option<InterpolationControl>>, Error> {
        let count = self.outputs().len();
        let mut runs: Vec<Run> = Vec::new();
        if self.specification.custom_action().is_some() {
            return Ok(vec![None; count]);
        }
        for sample in self.probes() {
            let elements = self.interpolating_elements(sample);
            if elements.is_empty() || (self.spent(0.4) && !runs.is_empty()) {
                continue;
            }
            match self.analytic_run(sample, elements, 1.0, model)? {
                Ok(run) => runs.push(run),
                Err(why) => return Ok(vec![Some(InterpolationControl::cannot(why)); count]),
            }
        }
        if runs.is_empty() {
            return Ok(vec![None; count]);
        }
        let fields = match self.receptive_fields(&runs, model, double)? {
            Ok(fields) => fields,
            Err(why) => return Ok(vec![Some(InterpolationControl::cannot(why)); count]),
        };
        // Where the model refuses even smoother inputs, or time is short, nothing is said of scaling.
        let elements = runs[0].moved.iter().map(|(element, _)| element.clone()).collect();
        let smoother = if self.spent(0.4) {
            None
        } else {
            self.analytic_run(runs[0].sample, elements, STRETCH, model)?.ok()
        };
        Ok((0..count).map(|o| Some(self.control(o, &runs, smoother.as_ref(), &fields))).collect())
    }

    /// Elements of the whole group that no grid admits without interpolation, 45 degrees among them where the group has
    /// all angles. Shifts stay small: what leaves the image is missed by every model.
    fn interpolating_elements(&self, sample: usize) -> Vec<Element> {
        let case = &self.cases[sample];
        let group = self.specification.group();
        if !case.bound().any(|layout| layout.sampled().is_some_and(|grid| grid.domain == Domain::Open)) {
            return Vec::new();
        }
        let mut space: Space = case.space.clone();
        space.grid.values_mut().for_each(|size| *size = size.div_ceil(4));
        let diagonal = group.factors().into_iter().find_map(|factor| match factor {
            Factor::Linear { dimension, .. } if dimension > 1 => {
                let mut turn = Array2::eye(dimension);
                let (sine, cosine) = FRAC_PI_4.sin_cos();
                (turn[[0, 0]], turn[[0, 1]], turn[[1, 0]], turn[[1, 1]]) = (cosine, -sine, sine, cosine);
                Some(space.identity().with_linear(turn))
            }
            _ => None,
        });
        let drawn = (0..TRIED).map(|index| {
            let mut draws = Draws::new(self.options.seed, sample, index, Purpose::Analytic);
            sampling::haar(group, &Part::Joint, &space, None, &mut draws)
        });
        let mut seen = BTreeSet::new();
        let usable = |element: &Element| case.admits(element) && case.interpolates(element);
        let elements = diagonal.into_iter().chain(drawn).filter(usable);
        elements.filter(|element| seen.insert(element.fingerprint())).take(ELEMENTS).collect()
    }

    fn draw_fields(&self, sample: usize, index: u64, stretch: f64) -> Vec<Option<Channels>> {
        let case = &self.cases[sample];
        let mut draws = Draws::new(self.options.seed, sample, TRIED + index, Purpose::Analytic);
        let inputs = case.inputs.iter().zip(&case.layouts);
        inputs
            .map(|(tensor, layout)| Channels::draw(layout.as_ref()?, tensor, &mut draws))
            .map(|channels| channels.map(|channels| channels.stretched(stretch)))
            .collect()
    }

    /// The sample with these fields, under an element.
    fn analytic(&self, sample: usize, fields: &[Option<Channels>], element: Option<&Element>) -> Vec<Tensor> {
        let case = &self.cases[sample];
        let inputs = case.inputs.iter().zip(&case.layouts).zip(fields);
        let result = inputs.map(|((tensor, layout), fields)| match (layout, fields) {
            (Some(layout), Some(fields)) => Tensor::from_real(fields.values(layout, element), tensor.dtype()),
            (Some(layout), None) => {
                element.map_or_else(|| tensor.clone(), |element| layout.act(element, tensor))
            }
            (None, _) => tensor.clone(),
        });
        result.collect()
    }

    /// Calls the model on smooth fields, their waves longer by a factor. In words: why nothing can be said.
    fn analytic_run(
        &mut self,
        sample: usize,
        elements: Vec<Element>,
        stretch: f64,
        model: &mut dyn Model,
    ) -> Result<Result<Run, String>, Error> {
        let fields = self.draw_fields(sample, 0, stretch);
        let small = |channels: &Channels| channels.grid.sizes.iter().any(|size| *size < LEAST_SIZE);
        if fields.iter().flatten().any(small) {
            return Ok(Err(format!(
                "a smooth field does not fit on a grid of fewer than {LEAST_SIZE} pixels along an axis"
            )));
        }
        let inputs = self.analytic(sample, &fields, None);
        let mut evaluate =
            |stage: &mut Self, inputs: &[Tensor]| -> Result<Result<Vec<Value>, String>, Error> {
                let outcome = stage.calls.evaluate("interpolation control", model, sample, inputs)?;
                let case = &stage.cases[sample];
                Ok(match outcome {
                    Err(why) => Err(format!("the model raises on smooth inputs: {why}")),
                    Ok(values) if values.iter().zip(&case.base).any(|(v, base)| !v.comparable(base)) => {
                        Err("an output has another shape on smooth inputs".to_owned())
                    }
                    Ok(values) if values.iter().any(|v| v.values.iter().any(|x| !x.is_finite())) => {
                        Err("an output is not finite on smooth inputs".to_owned())
                    }
                    Ok(values) => Ok(values),
                })
            };
        macro_rules! values {
            ($inputs:expr) => {
                match evaluate(self, $inputs)? {
                    Ok(values) => values,
                    Err(why) => return Ok(Err(why)),
                }
            };
        }
        let base = values!(&inputs);
        let mut others = Vec::new();
        for index in 1..=OTHERS {
            let different = self.draw_fields(sample, index, stretch);
            let inputs = self.analytic(sample, &different, None);
            others.push((different, values!(&inputs)));
        }
        let mut moved = Vec::new();
        for element in elements {
            let transformed = self.analytic(sample, &fields, Some(&element));
            let values = values!(&transformed);
            moved.push((element, values));
        }
        Ok(Ok(Run { sample, fields, inputs, base, others, moved }))
    }

    /// By output on a grid: how far the influence of the central pixel reaches, over all runs.
    fn receptive_fields(
        &mut self,
        runs: &[Run],
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Result<Vec<Option<ReceptiveField>>, String>, Error> {
        let mut found: Vec<Option<ReceptiveField>> = vec![None; self.outputs().len()];
        let dense = |stage: &Self| stage.cases[runs[0].sample].outputs.iter().any(|l| l.sampled().is_some());
        if !dense(self) {
            return Ok(Ok(found));
        }
        let wide = matches!(double, DoubleModel::Copy(_));
        let roundoff =
            if wide || matches!(double, DoubleModel::Same) { 2f64.powi(-53) } else { self.roundoff("") };
        let model: &mut dyn Model = match double {
            DoubleModel::Copy(copy) => copy.as_mut(),
            _ => model,
        };
        let purpose = "receptive field";
        for run in runs {
            let Some(first) = run.fields.iter().flatten().next() else { continue };
            let (input, sample) = (first.grid.clone(), run.sample);
            let own: Vec<Tensor> =
                run.inputs.iter().map(|t| if wide { t.double() } else { t.clone() }).collect();
            let before = match self.calls.evaluate(purpose, model, sample, &own)? {
                Ok(values) => values,
                Err(why) => return Ok(Err(format!("the model raises on smooth inputs: {why}"))),
            };
            let mut draws = Draws::new(self.options.seed, sample, u64::MAX, Purpose::Analytic);
            // The centre up and down, as a unit may be switched off in one of them, and a region about it.
            for (sign, half) in [(Some(1.0), 0), (Some(-1.0), 0), (None, 1)] {
                let mut changed = own.clone();
                for (k, fields) in run.fields.iter().enumerate() {
                    let (Some(fields), Some(layout)) = (fields, &self.cases[sample].layouts[k]) else {
                        continue;
                    };
                    let mut channels = layout.by_channel(&own[k].to_real());
                    for pixel in central(&fields.grid.sizes, half) {
                        for (value, amplitude) in channels.column_mut(pixel).iter_mut().zip(&fields.amplitude)
                        {
                            *value += amplitude * sign.unwrap_or_else(|| draws.normal());
                        }
                    }
                    changed[k] =
                        Tensor::from_real(layout.of_channels(&channels, fields.trailing), own[k].dtype());
                }
                let after = match self.calls.evaluate(purpose, model, sample, &changed)? {
                    Ok(values) => values,
                    Err(why) => return Ok(Err(format!("the model raises where one pixel changes: {why}"))),
                };
                for (o, (after, before)) in after.iter().zip(&before).enumerate() {
                    let layout = &self.cases[sample].outputs[o];
                    let Some(output) = layout.sampled() else { continue };
                    if !after.comparable(before) {
                        continue;
                    }
                    let change = layout.by_channel(&(&after.values - &before.values));
                    let sizes: Vec<f64> = change.columns().into_iter().map(|c| c.dot(&c).sqrt()).collect();
                    let largest = before.values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
                    let ratio = |a: usize| input.strides[a] / output.strides[a];
                    let centre = |n: usize| (n as f64 - 1.0) / 2.0;
                    let at: Vec<f64> = (0..output.sizes.len())
                        .map(|a| {
                            let offset = ((input.sizes[a] - 1) / 2) as f64 - centre(input.sizes[a]);
                            centre(output.sizes[a]) + offset * ratio(a)
                        })
                        .collect();
                    let half: Vec<f64> = (0..output.sizes.len()).map(|a| half as f64 * ratio(a)).collect();
                    let rounding = BEYOND_ROUNDING * roundoff * largest;
                    let mut field = ReceptiveField::new(&sizes, &output.sizes, &at, &half, rounding);
                    for (a, radius) in field.radius.iter_mut().enumerate() {
                        // Behind a stride the neighbours of the central pixel may reach one pixel further.
                        *radius += if ratio(a) == 1.0 { 0.0 } else { 1.0 };
                    }
                    match &mut found[o] {
                        Some(known) => known.join(&field),
                        None => found[o] = Some(field),
                    }
                }
            }
        }
        Ok(Ok(found))
    }

    /// The largest errors of model and reference over all runs and elements, and how they scale.
    fn control(
        &self,
        o: usize,
        runs: &[Run],
        smoother: Option<&Run>,
        fields: &[Option<ReceptiveField>],
    ) -> InterpolationControl {
        let found = self.largest_errors(o, runs, fields, None);
        if found.pairs == 0 {
            return InterpolationControl {
                receptive_field: found.reach,
                ..InterpolationControl::cannot(
                    "the receptive field of its pixels is the whole image, or leaves none of them inside it"
                        .to_owned(),
                )
            };
        }
        InterpolationControl {
            model: Some(found.model),
            control: Some(found.control),
            pairs: found.pairs,
            receptive_field: found.reach,
            scaling: self.scaling(o, &runs[0], smoother, fields),
            note: None,
        }
    }

    fn scaling(
        &self,
        o: usize,
        run: &Run,
        smoother: Option<&Run>,
        fields: &[Option<ReceptiveField>],
    ) -> Option<InterpolationScaling> {
        let errors = |run: &Run, with| {
            Some(self.largest_errors(o, std::slice::from_ref(run), fields, with)).filter(|e| e.pairs > 0)
        };
        let own = errors(run, None)?;
        let ratio = |refined: f64, own: f64| (own > 0.0).then(|| refined / own);
        let smooth = smoother.and_then(|run| errors(run, None));
        let linear = self.cases[run.sample].outputs[o].sampled().is_some()
            && self.options.interpolation == Interpolation::Linear;
        let cubic = linear.then(|| errors(run, Some(Interpolation::Cubic))).flatten();
        let scaling = InterpolationScaling {
            model: smooth.as_ref().and_then(|smooth| ratio(smooth.model, own.model)),
            control: smooth.as_ref().and_then(|smooth| ratio(smooth.control, own.control)),
            order: cubic
                .filter(|cubic| cubic.pairs == own.pairs)
                .and_then(|cubic| ratio(cubic.model, own.model)),
        };
        (scaling.model.is_some() || scaling.order.is_some()).then_some(scaling)
    }

    /// The largest errors over these runs; `interpolation` takes the place of the output's own.
    fn largest_errors(
        &self,
        o: usize,
        runs: &[Run],
        fields: &[Option<ReceptiveField>],
        interpolation: Option<Interpolation>,
    ) -> Errors {
        let field = fields[o].as_ref();
        let mut found = Errors::default();
        for run in runs {
            let Some((k, channels)) = run.fields.iter().enumerate().find_map(|(k, f)| Some((k, f.as_ref()?)))
            else {
                continue;
            };
            let case = &self.cases[run.sample];
            let own = &case.outputs[o];
            let layout = &interpolation.map_or_else(|| own.clone(), |by| own.clone().interpolated_by(by));
            let grid = layout.sampled();
            if let Some(grid) = &grid {
                let Some(field) = field else { continue };
                let radii = field.radius.iter().zip(&grid.strides).map(|(r, stride)| r * stride);
                found.reach = Some(radii.fold(0.0, f64::max));
            }
            let reference = self.reference(&channels.grid, grid.as_ref(), o, fields);
            let count = channels.fields.len().min(CHANNELS.1);
            let still = channels.at(None, count);
            let others =
                run.others.iter().filter_map(|(fields, _)| Some(fields[k].as_ref()?.at(None, count)));
            let different: Vec<Array2<f64>> = others.collect();
            let base = &run.base[o].values;
            let changes: Vec<ArrayD<f64>> =
                run.others.iter().map(|(_, values)| &values[o].values - base).collect();
            let dense = |input: &Array2<f64>| match &grid {
                Some(grid) => reference_on(&reference, input, &grid.sizes),
                None => pooled_on(&reference, input),
            };
            let plain = self.plain_layout(count, grid.as_ref());
            let base_reference = dense(&still);
            let changes_reference: Vec<ArrayD<f64>> =
                different.iter().map(|other| dense(other) - &base_reference).collect();
            for (element, values) in &run.moved {
                let output = layout.grid_warp(element);
                let pixels = match (&grid, field) {
                    (Some(grid), Some(field)) => Some(judged_pixels(grid, field, output.as_deref())),
                    _ => None,
                };
                if pixels.as_ref().is_some_and(|pixels| pixels.len() < LEAST_PIXELS) {
                    continue;
                }
                let expected = layout.act_on_real(element, base);
                let difference = layout.difference(element, &values[o].values, &expected);
                let own = size(layout, pixels.as_deref(), &difference, &expected, base, &changes);
                let warp = case.layouts[k].as_ref().and_then(|layout| layout.grid_warp(element));
                let turned = dense(&channels.at(warp.as_deref(), count));
                let axes: Vec<usize> = (1..turned.ndim()).collect();
                let expected = match &output {
                    Some(warp) => warp.apply(&base_reference, &axes),
                    None => base_reference.clone(),
                };
                let difference = turned - &expected;
                let explained = size(
                    &plain,
                    pixels.as_deref(),
                    &difference,
                    &expected,
                    &base_reference,
                    &changes_reference,
                );
                found.pairs += 1;
                found.model = found.model.max(own);
                found.control = found.control.max(explained);
            }
        }
        found
    }

    /// A layout that is plain but for the grid, for as many channels.
    fn plain_layout(&self, channels: usize, grid: Option<&Sampled>) -> BoundLayout {
        let group = self.specification.group();
        let names = grid.map_or(&[][..], |grid| &grid.names);
        let text =
            std::iter::once("channel").chain(names.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        let shape: Vec<usize> = std::iter::once(channels)
            .chain(grid.iter().flat_map(|grid| grid.sizes.iter().copied()))
            .collect();
        let layout = Layout::parse(&text, group).expect("`channel` and the names of a grid are words");
        BoundLayout::new(&layout, &shape, group, "the reference").expect("one length per word")
    }

    /// The reference for an output: blurred as far as the model reaches, by what is known of this output or else of
    /// another one; if nothing is, as by one binomial kernel of 3 x 3 pixels, the smallest that smooths.
    fn reference(
        &self,
        input: &Sampled,
        output: Option<&Sampled>,
        o: usize,
        fields: &[Option<ReceptiveField>],
    ) -> Reference {
        let measured = |k: usize| {
            let field = fields[k].as_ref()?;
            let grid = self.cases[0].outputs[k].sampled()?;
            let strides = grid.strides.iter().zip(&input.strides).map(|(out, own)| out / own);
            Some(field.deviation * strides.fold(0.0, f64::max))
        };
        let deviation = measured(o).or_else(|| (0..fields.len()).find_map(measured)).unwrap_or(FRAC_1_SQRT_2);
        match output {
            Some(output) => {
                let strides: Vec<f64> =
                    output.strides.iter().zip(&input.strides).map(|(out, own)| out / own).collect();
                Reference::new(&input.sizes, &output.sizes, &strides, deviation)
            }
            None => Reference::new(&input.sizes, &input.sizes, &vec![1.0; input.sizes.len()], deviation),
        }
    }
}

/// Pixels within `half` of the central one; of two in the middle the first.
fn central(sizes: &[usize], half: usize) -> Vec<usize> {
    let pixels: usize = sizes.iter().product();
    (0..pixels)
        .filter(|pixel| {
            index_of(*pixel, sizes).iter().zip(sizes).all(|(i, n)| i.abs_diff((n - 1) / 2) <= half)
        })
        .collect()
}

/// Pixels of an output that are defined under its warp and depend, like those that they come from, on nothing beyond
/// the border.
fn judged_pixels(grid: &Sampled, field: &ReceptiveField, warp: Option<&GridWarp>) -> Vec<usize> {
    let pixels: usize = grid.sizes.iter().product();
    // Neighbours that the interpolation looks at. Fourier's looks at all, those far away hardly.
    let rim = match warp.map(GridWarp::interpolation) {
        Some(Interpolation::Linear) => 1.0,
        Some(Interpolation::Cubic) => 2.0,
        Some(Interpolation::Fourier) | None => 0.0,
    };
    let inside = |pixel: &usize| {
        let index: Vec<f64> = index_of(*pixel, &grid.sizes).iter().map(|i| *i as f64).collect();
        if !field.is_inside(&index, &grid.sizes) {
            return false;
        }
        let Some(warp) = warp else { return true };
        let (base, step) = warp.sources();
        let source = |by: f64| -> Vec<f64> {
            base.iter()
                .zip(step)
                .map(|(base, row)| base + row.iter().zip(&index).map(|(s, i)| s * i).sum::<f64>() + by)
                .collect()
        };
        warp.mask()[*pixel]
            && field.is_inside(&source(-rim), &grid.sizes)
            && field.is_inside(&source(rim), &grid.sizes)
    };
    (0..pixels).filter(inside).collect()
}

/// The reference's output channels on a grid of this shape.
fn reference_on(reference: &Reference, channels: &Array2<f64>, sizes: &[usize]) -> ArrayD<f64> {
    let shape: Vec<usize> = std::iter::once(channels.nrows()).chain(sizes.iter().copied()).collect();
    let values = channels.rows().into_iter().flat_map(|row| reference.dense(&row.to_vec())).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), values).expect("one value per pixel")
}

/// Its invariants, one per channel.
fn pooled_on(reference: &Reference, channels: &Array2<f64>) -> ArrayD<f64> {
    channels.rows().into_iter().map(|row| reference.pooled(&row.to_vec())).collect::<Array1<f64>>().into_dyn()
}

/// The relative error as the report measures it (METHOD 7), at these pixels.
fn size(
    layout: &BoundLayout,
    pixels: Option<&[usize]>,
    difference: &ArrayD<f64>,
    expected: &ArrayD<f64>,
    base: &ArrayD<f64>,
    changes: &[ArrayD<f64>],
) -> f64 {
    let measured =
        |layout: &BoundLayout, [difference, expected, base]: [&ArrayD<f64>; 3], changes: &[ArrayD<f64>]| {
            let mut scales = Scales::new(std::iter::once((layout, base)));
            scales.set_spread(changes.iter().map(|change| (layout, change)));
            scales.measure(layout, difference, expected).relative
        };
    let Some(pixels) = pixels else { return measured(layout, [difference, expected, base], changes) };
    let chosen = [difference, expected, base].map(|values| layout.at_pixels(values, pixels));
    let changes: Vec<ArrayD<f64>> = changes.iter().map(|change| layout.at_pixels(change, pixels)).collect();
    measured(&layout.of_pixels(pixels.len()), chosen.each_ref(), &changes)
}
