//! Could the test have failed at all? Changes of the inputs that are no symmetry (METHOD 11).

use std::cell::RefCell;

use ndarray::ArrayD;

use crate::model::Tensor;
use crate::symmetry::{BoundLayout, Element, Factor};

use super::measure::norm;
use super::sampling::Draws;

/// A change of a sample's inputs that is no symmetry and as large as what `element` does to them, which is
/// `transformed`: floating inputs that it moves get normal noise of the size of `Tx - x`, entries of integer inputs that it permutes are redrawn along
/// that axis with replacement. `None` if it moves nothing.
pub(crate) fn perturbed(
    inputs: &[Tensor],
    transformed: &[Tensor],
    layouts: &[Option<BoundLayout>],
    element: &Element,
    factor: &Factor,
    draws: &mut Draws,
) -> Option<Vec<Tensor>> {
    let mut result = inputs.to_vec();
    let mut changed = false;
    for (k, (tensor, moved)) in inputs.iter().zip(transformed).enumerate() {
        if !tensor.dtype().is_inexact() {
            continue;
        }
        let before = tensor.to_real();
        // Padding with NaN or infinity stays as it is.
        let change = (moved.to_real() - &before).mapv(finite);
        let distance = norm(&change);
        if distance > 0.0 {
            result[k] = Tensor::from_real(with_noise(&before, distance, draws), tensor.dtype());
            changed = true;
        }
    }
    if let Factor::Custom(_) = factor
        && !changed
    {
        // Integers alone, and no word on what they mean: each becomes any other of its tensor.
        for (k, (tensor, moved)) in inputs.iter().zip(transformed).enumerate() {
            if !tensor.same_bits(moved)
                && let Some(mixed) = mixed(tensor, draws)
            {
                result[k] = mixed;
                changed = true;
            }
        }
    }
    let Some(axis) = factor.permuted_axis() else { return changed.then_some(result) };
    let floating = changed;
    for (k, (tensor, layout)) in inputs.iter().zip(layouts).enumerate() {
        let Some(layout) = layout else { continue };
        if tensor.dtype().is_inexact() || transformed[k].same_bits(tensor) {
            continue;
        }
        if let Some(at) = layout.position_of(axis) {
            let n = layout.length(at);
            let drawn: Vec<usize> = (0..n).map(|_| draws.below(n)).collect();
            result[k] = layout.select(tensor, at, &drawn);
            changed = true;
        } else if let Some(values) = layout.layout().values()
            && !floating
        {
            // Index tensors alone: each value goes to a random position.
            let n = element.permutation(&values.axis).map_or(0, <[usize]>::len);
            let targets: Vec<i64> = (0..n).map(|_| draws.below(n) as i64).collect();
            let relabel = |v: i64| usize::try_from(v).ok().and_then(|v| targets.get(v)).copied().unwrap_or(v);
            if let Some(relabelled) = tensor.map_integers(relabel) {
                result[k] = relabelled;
                changed = true;
            }
        }
    }
    changed.then_some(result)
}

/// An integer tensor with values drawn from its own, with replacement; `None` for other types.
fn mixed(tensor: &Tensor, draws: &mut Draws) -> Option<Tensor> {
    let values = RefCell::new(Vec::new());
    tensor.map_integers(|v| {
        values.borrow_mut().push(v);
        v
    })?;
    let values = values.into_inner();
    let draws = RefCell::new(draws);
    tensor.map_integers(|_| values[draws.borrow_mut().below(values.len())])
}

/// Normal noise whose norm is `distance`.
fn with_noise(values: &ArrayD<f64>, distance: f64, draws: &mut Draws) -> ArrayD<f64> {
    let noise = values.mapv(|_| draws.normal());
    let size = norm(&noise);
    if size == 0.0 { values.clone() } else { values + &(noise * (distance / size)) }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// `share` of the way from `own` to `changed`: integers do not go along, unless nothing else does.
pub(crate) fn towards(own: &[Tensor], changed: &[Tensor], share: f64) -> Vec<Tensor> {
    let moves = |(own, changed): (&Tensor, &Tensor)| own.dtype().is_inexact() && !own.same_bits(changed);
    if share == 1.0 || !own.iter().zip(changed).any(moves) {
        return changed.to_vec();
    }
    own.iter()
        .zip(changed)
        .map(|(own, changed)| {
            if !own.dtype().is_inexact() {
                return own.clone();
            }
            let (from, to) = (own.to_real(), changed.to_real());
            let step = (to - &from).mapv(finite) * share;
            Tensor::from_real(from + step, own.dtype())
        })
        .collect()
}
