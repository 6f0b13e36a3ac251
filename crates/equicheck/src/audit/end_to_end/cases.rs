//! Test samples: bound to their layouts, evaluated once, measured for what the sampling needs.

use ndarray::{Array1, Axis as NdAxis};

use crate::Error;
use crate::model::{Model, Samples, Tensor};
use crate::symmetry::{Axis, BoundLayout, permuted_lengths};

use super::super::help_for_idle;
use super::super::measure::median;
use super::super::sampling::Space;
use super::{Case, EndToEnd};

impl EndToEnd<'_> {
    pub(super) fn bind_inputs(&self, inputs: &[Tensor]) -> Result<Vec<Option<BoundLayout>>, Error> {
        let group = self.specification.group();
        self.specification
            .inputs()
            .iter()
            .zip(inputs)
            .map(|((name, layout), tensor)| {
                let Some(layout) = layout else { return Ok(None) };
                let what = format!("input `{name}`");
                let bound = BoundLayout::new(layout, tensor.shape(), group, &what)?;
                let fail = |why: String| Error::Shape {
                    tensor: what.clone(),
                    layout: layout.to_string(),
                    shape: tensor.shape().to_vec(),
                    why,
                };
                if !tensor.dtype().is_inexact() && layout.axes().iter().any(Axis::is_spatial) {
                    return Err(fail(format!(
                        "{} values cannot be turned: give floating values, or None to leave the input alone",
                        tensor.dtype().name()
                    )));
                }
                if layout.values().is_some() && tensor.map_integers(|v| v).is_none() {
                    return Err(fail(format!(
                        "`:` says that values are positions, and {} values are no integers",
                        tensor.dtype().name()
                    )));
                }
                Ok(Some(bound))
            })
            .collect()
    }

    /// Evaluates f(x) for one more sample.
    pub(super) fn case(
        &mut self,
        index: usize,
        model: &mut dyn Model,
        samples: &mut dyn Samples,
    ) -> Result<Case, Error> {
        let inputs = samples.get(index)?;
        let layouts = self.bind_inputs(&inputs)?;
        let names: Vec<String> = self.input_names().iter().map(|n| format!("input `{n}`")).collect();
        let bound = names.iter().zip(&layouts).filter_map(|(n, l)| Some((n.as_str(), l.as_ref()?)));
        let axes = permuted_lengths(bound)?;
        for ((what, layout), tensor) in names.iter().zip(&layouts).zip(&inputs) {
            let Some(values) = layout.as_ref().and_then(|layout| layout.layout().values()) else { continue };
            let positions = axes.get(&values.axis).copied().unwrap_or(0);
            if tensor.largest_integer().is_some_and(|largest| largest < positions as i64 - 1) {
                return Err(Error::Shape {
                    tensor: what.clone(),
                    layout: layout.as_ref().map_or_else(String::new, |layout| layout.layout().to_string()),
                    shape: tensor.shape().to_vec(),
                    why: format!(
                        "{} cannot hold all {positions} positions along `{}`: give int64",
                        tensor.dtype().name(),
                        values.axis
                    ),
                });
            }
        }
        let mut space = Space {
            dimension: self.specification.group().dimension().unwrap_or(0),
            axes,
            ..Space::default()
        };
        for (axis, input) in &self.options.segments {
            let position = self.specification.inputs().iter().position(|(name, _)| name == input);
            let labels: Vec<i64> = position
                .and_then(|k| inputs.get(k))
                .filter(|tensor| tensor.map_integers(|v| v).is_some())
                .map(|tensor| tensor.to_real().iter().map(|v| *v as i64).collect())
                .unwrap_or_default();
            if labels.len() != space.axes.get(axis).copied().unwrap_or(0) {
                return Err(Error::Option {
                    option: "segments".to_owned(),
                    why: format!(
                        "input `{input}` must hold one integer label per entry of `{axis}`: {} labels for {} entries",
                        labels.len(),
                        space.axes.get(axis).copied().unwrap_or(0)
                    ),
                });
            }
            space.segments.insert(axis.clone(), labels);
        }
        space.directions = directions(&inputs, &layouts);
        let base = self
            .calls
            .evaluate("base", model, index, &inputs)?
            .map_err(|why| Error::ModelFails { sample: index, why })?;
        let outputs = self
            .outputs()
            .iter()
            .zip(&base)
            .map(|((name, layout), value)| {
                let shape = if value.dtype.is_complex() {
                    &value.values.shape()[..value.shape.len()]
                } else {
                    &value.shape[..]
                };
                let what = format!("output `{name}`");
                let bound = BoundLayout::new(layout, shape, self.specification.group(), &what)?;
                for (axis, length) in bound.permuted_lengths() {
                    if let Some(expected) = space.axes.get(axis).filter(|n| **n != length) {
                        return Err(Error::AxisLength {
                            axis: axis.to_owned(),
                            first: *expected,
                            first_tensor: "the inputs".to_owned(),
                            second: length,
                            second_tensor: what,
                        });
                    }
                }
                Ok(bound)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Case { inputs, layouts, space, base, outputs, double: None })
    }

    /// Every factor must be able to move some input.
    pub(super) fn check_factors(&self) -> Result<(), Error> {
        let group = self.specification.group();
        for factor in group.factors() {
            let moved = |case: &Case| case.layouts.iter().flatten().any(|layout| layout.is_moved_by(&factor));
            if !self.cases.iter().any(moved) {
                let help = help_for_idle(&factor, group);
                return Err(Error::FactorMovesNothing { factor: factor.to_string(), help });
            }
        }
        Ok(())
    }

    /// Spread of the points: root mean square distance from their centroid, median over samples.
    pub(super) fn set_translation_scale(&mut self) -> f64 {
        let scale = self.options.translation_scale.unwrap_or_else(|| {
            let mut spreads: Vec<f64> =
                self.cases.iter().filter_map(|case| spread_of_points(&case.inputs, &case.layouts)).collect();
            let spread = median(&mut spreads);
            if spread > 0.0 && spread.is_finite() { spread } else { 1.0 }
        });
        for case in &mut self.cases {
            case.space.translation_scale = scale;
        }
        scale
    }
}

/// Entries along a `point` axis, as vectors; empty for complex or integer tensors.
fn points(tensor: &Tensor, layout: &BoundLayout) -> Vec<Array1<f64>> {
    let Some(axis) = layout.point_axis() else { return Vec::new() };
    if tensor.dtype().is_complex() {
        return Vec::new();
    }
    tensor.to_real().lanes(NdAxis(axis)).into_iter().map(|lane| lane.to_owned()).collect()
}

/// Root mean square distance of the sample's points from their centroid.
fn spread_of_points(inputs: &[Tensor], layouts: &[Option<BoundLayout>]) -> Option<f64> {
    let points: Vec<Array1<f64>> = inputs
        .iter()
        .zip(layouts)
        .filter_map(|(tensor, layout)| Some(points(tensor, layout.as_ref()?)))
        .flatten()
        .collect();
    let first = points.first()?;
    let n = points.len() as f64;
    let centroid: Array1<f64> = points.iter().fold(Array1::<f64>::zeros(first.len()), |sum, p| sum + p) / n;
    let squares: f64 = points.iter().map(|p| (p - &centroid).iter().map(|v| v * v).sum::<f64>()).sum();
    Some((squares / n).sqrt()).filter(|s| *s > 0.0)
}

/// Unit vectors between points of the sample, or of its vectors when it has no points: what planned turns bring
/// onto the poles.
fn directions(inputs: &[Tensor], layouts: &[Option<BoundLayout>]) -> Vec<Array1<f64>> {
    let unit = |v: Array1<f64>| {
        let length = v.dot(&v).sqrt();
        (length > 0.0 && length.is_finite()).then(|| v / length)
    };
    for (tensor, layout) in inputs.iter().zip(layouts) {
        let Some(layout) = layout else { continue };
        let points = points(tensor, layout);
        if points.len() > 1 {
            return points.windows(2).filter_map(|pair| unit(&pair[1] - &pair[0])).take(2).collect();
        }
        if let Some(axis) = layout.vector_axis()
            && tensor.dtype().is_inexact()
            && !tensor.dtype().is_complex()
        {
            let values = tensor.to_real();
            return values
                .lanes(NdAxis(axis))
                .into_iter()
                .filter_map(|l| unit(l.to_owned()))
                .take(2)
                .collect();
        }
    }
    Vec::new()
}
