//! Rounding, measured: inputs and state moved by units in the last place (METHOD 8-9).

use half::{bf16, f16};

use crate::model::{DType, Model, StateKind, StateTensor, Tensor, Unavailable};

use super::sampling::Draws;

/// Every inexact value moved by one unit in the last place, up or down at random; zeros stay, as rounding would
/// leave them. `precision` is the relative size of a unit where it is coarser than the type's own (a model that
/// drops precision inside).
pub(crate) fn moved_by_one_ulp(tensor: &Tensor, precision: Option<f64>, draws: &mut Draws) -> Tensor {
    let dtype = tensor.dtype();
    let Some(roundoff) = dtype.unit_roundoff() else { return tensor.clone() };
    let unit = 2.0 * precision.unwrap_or(roundoff).max(roundoff);
    let (smallest, largest) = normal_range(dtype);
    // Relative to the binade below the value, so that the move is at least one unit and at most two. A mask of the
    // largest finite value must not become infinite.
    let moved = tensor.to_real().mapv(|v| {
        if v == 0.0 || !v.is_finite() {
            return v;
        }
        (v + draws.sign() * unit * binade(v).max(smallest)).clamp(-largest, largest)
    });
    Tensor::from_real(moved, dtype)
}

/// Smallest normal and largest finite number of an inexact type.
fn normal_range(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::Float16 => (f16::MIN_POSITIVE.to_f64(), f16::MAX.to_f64()),
        DType::BFloat16 => (bf16::MIN_POSITIVE.to_f64(), bf16::MAX.to_f64()),
        DType::Float32 | DType::Complex64 => (f32::MIN_POSITIVE.into(), f32::MAX.into()),
        _ => (f64::MIN_POSITIVE, f64::MAX),
    }
}

/// Whether a floating tensor holds labels: whole numbers that the group does not turn (atomic numbers, masks, one-hot
/// features). Rounding does not touch them, and a model may look them up in a table.
pub(crate) fn holds_labels(tensor: &Tensor, turned: bool) -> bool {
    !turned && tensor.dtype().is_inexact() && tensor.to_real().iter().all(|v| v.fract() == 0.0)
}

/// The largest power of two not above `|v|`, read off the exponent; 0 for what is not finite or not normal.
fn binade(v: f64) -> f64 {
    if v.is_finite() { f64::from_bits(v.to_bits() & f64::INFINITY.to_bits()) } else { 0.0 }
}

/// A copy of the model whose whole floating state is moved by one unit in the last place, of `precision` where that is
/// coarser than the state's own.
pub(crate) fn with_moved_state(
    model: &mut dyn Model,
    precision: Option<f64>,
    draws: &mut Draws,
) -> Result<Box<dyn Model>, Unavailable> {
    let state = model.state()?;
    let values: Vec<(usize, Tensor)> = state
        .iter()
        .enumerate()
        .filter(|(_, s)| s.tensor.dtype().is_inexact())
        .map(|(k, s)| (k, moved_by_one_ulp(&s.tensor, precision, draws)))
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
        .map(|(k, s)| (k, moved_by_half_a_single(&s.tensor, 1.0, draws)))
        .collect();
    if values.is_empty() { Ok(None) } else { model.with_state(&values).map(Some) }
}

/// Values in double precision, moved by a share of half a unit in the last place of f32: as far as rounding to it moves at
/// most. Small whole numbers and their simple fractions, which it holds exactly, stay: they may be labels.
pub(crate) fn moved_by_half_a_single(tensor: &Tensor, share: f64, draws: &mut Draws) -> Tensor {
    let moved = tensor.to_real().mapv(|v| {
        let step = share * draws.sign() * 2f64.powi(-24) * binade(v);
        if is_exact(v) { v } else { v + step }
    });
    Tensor::from_real(moved, tensor.dtype())
}

/// Whether single precision holds it exactly, or it is no number.
fn is_exact(v: f64) -> bool {
    (v * 1024.0).fract() == 0.0 || !v.is_finite()
}

/// A constant in double precision all of whose values fit single precision, and which are not all dyadic fractions
/// of small numerators (0, 1, 1/2, -3 ...), which single precision holds exactly.
fn is_rounded_constant(state: &StateTensor) -> bool {
    if state.kind != StateKind::Constant || state.tensor.dtype() != DType::Float64 {
        return false;
    }
    let values = state.tensor.to_real();
    let fits = values.iter().all(|v| f64::from(*v as f32) == *v || v.is_nan());
    let exact = values.iter().all(|v| is_exact(*v));
    fits && !exact
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, array};
    use num_complex::Complex;

    use super::*;
    use crate::audit::sampling::Purpose;

    fn draws() -> Draws {
        Draws::new(1, 0, 0, Purpose::Rounding)
    }

    /// Generic magnitudes, powers of two and their neighbours, subnormal numbers of every type, both signs.
    fn values(dtype: DType) -> ArrayD<f64> {
        let (smallest, _) = normal_range(dtype);
        let u = dtype.unit_roundoff().unwrap();
        let mut values: Vec<f64> =
            (1..200).map(|k| (f64::from(k) * 0.37).sin() * 1.3f64.powi(k % 20)).collect();
        values.extend([
            1.0,
            2.0,
            0.5,
            1.0 - u,
            2.0 - 2.0 * u,
            1.0 + 2.0 * u,
            smallest,
            smallest * 0.75,
            smallest * 2.0 * u,
        ]);
        values.extend(values.clone().iter().map(|v| -v));
        Tensor::from_real(ArrayD::from_shape_vec(vec![values.len()], values).unwrap(), dtype).to_real()
    }

    /// Position among the numbers of the type: neighbours differ by one, across zero too.
    fn rank(tensor: &Tensor) -> Vec<i64> {
        let order = |bits: i64, sign: bool| if sign { -bits } else { bits };
        match tensor {
            Tensor::Float16(a) => {
                a.iter().map(|v| order((v.to_bits() & 0x7fff).into(), v.is_sign_negative())).collect()
            }
            Tensor::BFloat16(a) => {
                a.iter().map(|v| order((v.to_bits() & 0x7fff).into(), v.is_sign_negative())).collect()
            }
            Tensor::Float32(a) => {
                a.iter().map(|v| order(v.abs().to_bits().into(), v.is_sign_negative())).collect()
            }
            Tensor::Float64(a) => {
                a.iter().map(|v| order(v.abs().to_bits() as i64, v.is_sign_negative())).collect()
            }
            _ => unreachable!("real types"),
        }
    }

    const TYPES: [DType; 4] = [DType::Float16, DType::BFloat16, DType::Float32, DType::Float64];

    #[test]
    fn every_number_moves_by_one_or_two_units_in_the_last_place() {
        for dtype in TYPES {
            let before = Tensor::from_real(values(dtype), dtype);
            let after = moved_by_one_ulp(&before, None, &mut draws());
            assert_eq!(after.dtype(), dtype);
            let (mut up, mut double) = (0, 0);
            let ranks = rank(&before);
            for (old, new) in ranks.iter().zip(rank(&after)) {
                assert!((1..=2).contains(&(new - old).abs()), "{dtype:?}: from {old} to {new}");
                up += usize::from(new > *old);
                double += usize::from((new - old).abs() == 2);
            }
            assert!((ranks.len() / 4..3 * ranks.len() / 4).contains(&up), "{dtype:?}: {up} up");
            // Two units only below a power of two, where they halve.
            assert!(double <= 10, "{dtype:?}: {double}");
        }
    }

    #[test]
    fn zeros_infinities_and_integers_stay_and_the_largest_number_stays_finite() {
        for dtype in TYPES {
            let special = array![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY].into_dyn();
            let before = Tensor::from_real(special, dtype);
            let after = moved_by_one_ulp(&before, None, &mut draws());
            assert!(
                Tensor::Float64(after.to_real()).same_bits(&Tensor::Float64(before.to_real())),
                "{dtype:?}"
            );
            let (_, largest) = normal_range(dtype);
            let mask = Tensor::from_real(ArrayD::from_elem(vec![50], -largest), dtype);
            let moved = moved_by_one_ulp(&mask, None, &mut draws()).to_real();
            assert!(moved.iter().all(|v| v.is_finite()), "{dtype:?}");
            assert!(moved.iter().any(|v| *v != -largest), "{dtype:?}");
        }
        let nan = moved_by_one_ulp(&Tensor::Float32(array![f32::NAN].into_dyn()), None, &mut draws());
        assert!(nan.to_real()[0].is_nan());
        let integers = Tensor::Int64(array![1, 2, 3].into_dyn());
        assert_eq!(moved_by_one_ulp(&integers, None, &mut draws()), integers);
    }

    #[test]
    fn both_parts_of_complex_numbers_move() {
        let before =
            Tensor::Complex64(array![Complex::new(1.5_f32, -0.7), Complex::new(0.0, 3.0)].into_dyn());
        let after = moved_by_one_ulp(&before, None, &mut draws()).to_real();
        let step = (&after - &before.to_real()).mapv(f64::abs);
        let eps = 2f64.powi(-23);
        assert_eq!(step, array![[eps, eps / 2.0], [0.0, 2.0 * eps]].into_dyn());
    }

    #[test]
    fn a_coarser_precision_moves_further_and_a_finer_one_does_not_matter() {
        let before = Tensor::Float32(array![1.5_f32, -5.0].into_dyn());
        let step = |precision| {
            let after = moved_by_one_ulp(&before, Some(precision), &mut draws()).to_real();
            (after - before.to_real()).mapv(f64::abs)
        };
        assert_eq!(step(2f64.powi(-11)), array![2f64.powi(-10), 2f64.powi(-8)].into_dyn());
        assert_eq!(step(2f64.powi(-53)), array![2f64.powi(-23), 2f64.powi(-21)].into_dyn());
    }

    #[test]
    fn binades_are_exact_powers_of_two() {
        for (value, wanted) in [
            (1.0, 1.0),
            (-1.999, 1.0),
            (0.75, 0.5),
            // Below a power of two by one unit: a logarithm rounds up to it.
            (2f64.powi(100) * (1.0 - 2f64.powi(-53)), 2f64.powi(99)),
            (f64::MIN_POSITIVE, f64::MIN_POSITIVE),
            (f64::MAX, 2f64.powi(1023)),
            (0.0, 0.0),
            (f64::INFINITY, 0.0),
            (f64::NAN, 0.0),
        ] {
            assert_eq!(binade(value), wanted, "{value:e}");
        }
    }

    fn state(kind: StateKind, tensor: Tensor) -> StateTensor {
        StateTensor { name: "x".to_owned(), kind, tensor }
    }

    #[test]
    fn constants_that_were_rounded_when_the_model_was_built_are_recognised() {
        let wide = |values: &[f64]| {
            Tensor::Float64(ArrayD::from_shape_vec(vec![values.len()], values.to_vec()).unwrap())
        };
        let rounded = |values: &[f64]| wide(&values.iter().map(|v| f64::from(*v as f32)).collect::<Vec<_>>());
        let third = [1.0 / 3.0, 0.1];
        assert!(is_rounded_constant(&state(StateKind::Constant, rounded(&third))));
        assert!(is_rounded_constant(&state(StateKind::Constant, rounded(&[1.0, 0.0, 0.1, f64::NAN]))));
        assert!(!is_rounded_constant(&state(StateKind::Constant, wide(&third))), "double precision indeed");
        assert!(!is_rounded_constant(&state(StateKind::Parameter, rounded(&third))), "the user's own");
        assert!(!is_rounded_constant(&state(StateKind::Constant, wide(&[0.0, 1.0, -3.5, 1024.0]))), "exact");
        assert!(!is_rounded_constant(&state(StateKind::Constant, wide(&[1.0, f64::INFINITY]))), "a mask");
        assert!(!is_rounded_constant(&state(StateKind::Constant, wide(&[]))));
        let single = Tensor::Float32(array![0.1_f32].into_dyn());
        assert!(!is_rounded_constant(&state(StateKind::Constant, single)), "not a double-precision model");
    }
}
