//! Rounding, measured: inputs and state moved by units in the last place (METHOD 8-9).

use crate::model::{DType, Model, StateKind, StateTensor, Tensor, Unavailable};

use super::sampling::Draws;

/// Every inexact value moved by one unit in the last place, up or down at random; zeros stay, as rounding would
/// leave them. `precision` is the relative size of a unit where it is coarser than the type's own (a model that
/// drops precision inside).
pub(crate) fn moved_by_one_ulp(tensor: &Tensor, precision: Option<f64>, draws: &mut Draws) -> Tensor {
    let dtype = tensor.dtype();
    let Some(roundoff) = dtype.unit_roundoff() else { return tensor.clone() };
    let unit = 2.0 * precision.unwrap_or(roundoff).max(roundoff);
    // Relative to the binade below the value, so that the move is at least one unit and less than two.
    let moved = tensor.to_real().mapv(|v| if v == 0.0 { v } else { v + draws.sign() * unit * binade(v) });
    Tensor::from_real(moved, dtype)
}

/// The largest power of two not above `|v|`.
fn binade(v: f64) -> f64 {
    if v.is_finite() && v != 0.0 { 2f64.powi(v.abs().log2().floor() as i32) } else { 0.0 }
}

/// A copy of the model whose whole floating state is moved by one unit in the last place.
pub(crate) fn with_moved_state(
    model: &mut dyn Model,
    draws: &mut Draws,
) -> Result<Box<dyn Model>, Unavailable> {
    let state = model.state()?;
    let values: Vec<(usize, Tensor)> = state
        .iter()
        .enumerate()
        .filter(|(_, s)| s.tensor.dtype().is_inexact())
        .map(|(k, s)| (k, moved_by_one_ulp(&s.tensor, None, draws)))
        .collect();
    if values.is_empty() {
        return Err(Unavailable("the model has no floating-point state".to_owned()));
    }
    model.with_state(&values)
}

/// A copy of a double-precision model whose constants that were rounded to f32 when it was built are moved by half
/// a unit in the last place of f32. `None` when it has no such constants.
pub(crate) fn with_moved_constants(
    model: &mut dyn Model,
    draws: &mut Draws,
) -> Result<Option<Box<dyn Model>>, Unavailable> {
    let state = model.state()?;
    let values: Vec<(usize, Tensor)> = state
        .iter()
        .enumerate()
        .filter(|(_, s)| is_rounded_constant(s))
        .map(|(k, s)| {
            let moved = s.tensor.to_real().mapv(|v| v + draws.sign() * 2f64.powi(-24) * binade(v));
            (k, Tensor::from_real(moved, s.tensor.dtype()))
        })
        .collect();
    if values.is_empty() { Ok(None) } else { model.with_state(&values).map(Some) }
}

/// A constant in double precision all of whose values fit single precision, and which are not all dyadic fractions
/// of small numerators (0, 1, 1/2, -3 ...), which single precision holds exactly.
fn is_rounded_constant(state: &StateTensor) -> bool {
    if state.kind != StateKind::Constant || state.tensor.dtype() != DType::Float64 {
        return false;
    }
    let values = state.tensor.to_real();
    let fits = values.iter().all(|v| f64::from(*v as f32) == *v || v.is_nan());
    let exact = values.iter().all(|v| (v * 1024.0).fract() == 0.0 || !v.is_finite());
    fits && !exact
}
