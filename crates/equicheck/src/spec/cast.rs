//! From one element type to another, where that says the same.
//!
//! Floating-point numbers are rounded: that is what a model of lower precision is given anyway. Whole numbers are not:
//! an index, a label or a count that changes is another input, so a type that cannot hold them is refused.

use half::{bf16, f16};
use ndarray::{ArrayD, Axis, IxDyn};

use crate::model::{DType, Tensor};

/// The smallest positive normal number and the largest number of a real floating-point type.
pub(crate) fn finite_range(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::Float16 => (f16::MIN_POSITIVE.to_f64(), f16::MAX.to_f64()),
        DType::BFloat16 => (bf16::MIN_POSITIVE.to_f64(), bf16::MAX.to_f64()),
        DType::Float32 | DType::Complex64 => (f32::MIN_POSITIVE.into(), f32::MAX.into()),
        _ => (f64::MIN_POSITIVE, f64::MAX),
    }
}

/// Whole numbers, those of a boolean included.
fn integers(tensor: &Tensor) -> Option<ArrayD<i64>> {
    Some(match tensor {
        Tensor::Bool(a) => a.mapv(i64::from),
        Tensor::UInt8(a) => a.mapv(i64::from),
        Tensor::Int8(a) => a.mapv(i64::from),
        Tensor::Int16(a) => a.mapv(i64::from),
        Tensor::Int32(a) => a.mapv(i64::from),
        Tensor::Int64(a) => a.clone(),
        _ => return None,
    })
}

/// Whether a type holds this whole number itself.
pub(crate) fn holds(dtype: DType, value: i64) -> bool {
    let exact = |bits: u32| {
        value == 0 || {
            // Significant bits, without trailing zeros.
            64 - value.unsigned_abs().leading_zeros() - value.trailing_zeros() <= bits
        }
    };
    match dtype {
        DType::Bool => (0..=1).contains(&value),
        DType::UInt8 => u8::try_from(value).is_ok(),
        DType::Int8 => i8::try_from(value).is_ok(),
        DType::Int16 => i16::try_from(value).is_ok(),
        DType::Int32 => i32::try_from(value).is_ok(),
        DType::Int64 => true,
        DType::Float16 => exact(11) && value.unsigned_abs() <= 65504,
        DType::BFloat16 => exact(8),
        DType::Float32 | DType::Complex64 => exact(24),
        DType::Float64 | DType::Complex128 => exact(53),
    }
}

/// Whole numbers as this type.
///
/// # Errors
/// It does not hold one of them.
pub(crate) fn from_integers(values: &ArrayD<i64>, dtype: DType) -> Result<Tensor, String> {
    if let Some(value) = values.iter().find(|value| !holds(dtype, **value)) {
        return Err(format!("{} does not hold the whole number {value}", dtype.name()));
    }
    Ok(match dtype {
        DType::Bool => Tensor::Bool(values.mapv(|v| v != 0)),
        DType::UInt8 => Tensor::UInt8(values.mapv(|v| v as u8)),
        DType::Int8 => Tensor::Int8(values.mapv(|v| v as i8)),
        DType::Int16 => Tensor::Int16(values.mapv(|v| v as i16)),
        DType::Int32 => Tensor::Int32(values.mapv(|v| v as i32)),
        DType::Int64 => Tensor::Int64(values.clone()),
        _ => from_reals(values.mapv(|v| v as f64), dtype),
    })
}

/// Real numbers as an inexact type.
fn from_reals(values: ArrayD<f64>, dtype: DType) -> Tensor {
    if !dtype.is_complex() {
        return Tensor::from_real(values, dtype);
    }
    let mut shape = values.shape().to_vec();
    shape.push(2);
    let mut parts = ArrayD::zeros(IxDyn(&shape));
    parts.index_axis_mut(Axis(shape.len() - 1), 0).assign(&values);
    Tensor::from_real(parts, dtype)
}

/// The same values as another type.
///
/// # Errors
/// A whole number that it does not hold, a complex number for a real type, a fraction for whole numbers, a finite
/// number beyond its largest.
pub(crate) fn convert(tensor: &Tensor, dtype: DType) -> Result<Tensor, String> {
    if tensor.dtype() == dtype {
        return Ok(tensor.clone());
    }
    if let Some(values) = integers(tensor) {
        return from_integers(&values, dtype);
    }
    let (from, to) = (tensor.dtype().name(), dtype.name());
    if tensor.dtype().is_complex() && !dtype.is_complex() {
        return Err(format!("{from} values are complex, and {to} holds real numbers"));
    }
    let values = tensor.to_real();
    if dtype.is_inexact() {
        let cast =
            if tensor.dtype().is_complex() { tensor.cast(dtype) } else { from_reals(values.clone(), dtype) };
        // Of a real tensor that becomes complex, no part that is added is infinite.
        let infinite = |values: &ArrayD<f64>| values.iter().filter(|x| x.is_infinite()).count();
        if infinite(&cast.to_real()) > infinite(&values) {
            return Err(format!("a {from} value is beyond the largest number of {to}"));
        }
        return Ok(cast);
    }
    // Up to 2^53 every whole number is one of double precision.
    if let Some(value) = values.iter().find(|x| x.fract() != 0.0 || x.is_nan() || x.abs() > 2f64.powi(53)) {
        return Err(format!("{to} does not hold the {from} value {value}"));
    }
    from_integers(&values.mapv(|x| x as i64), dtype)
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use ndarray::arr1;

    use super::{convert, holds};
    use crate::model::{DType, Tensor};

    #[test]
    fn whole_numbers_are_held_or_refused() {
        for (dtype, largest, beyond) in [
            (DType::Float16, 2048, 2049),
            (DType::Float16, 65504, 65536),
            (DType::BFloat16, 256, 257),
            (DType::Float32, 1 << 24, (1 << 24) + 1),
            (DType::Complex64, -(1 << 24), -(1 << 24) - 1),
            (DType::Float64, 1 << 53, (1 << 53) + 1),
            (DType::Int8, -128, -129),
            (DType::UInt8, 255, -1),
            (DType::Bool, 1, 2),
            (DType::Int32, i64::from(i32::MAX), 1 << 31),
            (DType::Float64, i64::MIN, i64::MAX),
        ] {
            assert!(holds(dtype, largest), "{dtype:?} {largest}");
            assert!(!holds(dtype, beyond), "{dtype:?} {beyond}");
            let given = Tensor::Int64(arr1(&[0, largest]).into_dyn());
            let cast = convert(&given, dtype).expect("it is held");
            assert_eq!(cast.dtype(), dtype);
            assert!(
                (cast.to_real().iter().step_by(1 + usize::from(dtype.is_complex())).nth(1))
                    .is_some_and(|x| *x == largest as f64)
            );
            let why = convert(&Tensor::Int64(arr1(&[beyond]).into_dyn()), dtype).expect_err("it is not held");
            assert_eq!(why, format!("{} does not hold the whole number {beyond}", dtype.name()));
        }
    }

    #[test]
    fn real_numbers_are_rounded_and_never_cut() {
        let given = Tensor::Float64(arr1(&[0.1, f64::NAN, f64::INFINITY]).into_dyn());
        let Ok(Tensor::Float32(cast)) = convert(&given, DType::Float32) else { panic!("it is float32") };
        assert_eq!((cast[0], cast[1].is_nan(), cast[2]), (0.1, true, f32::INFINITY));
        let large = Tensor::Float64(arr1(&[1e39]).into_dyn());
        assert!(convert(&large, DType::Float32).is_err());
        assert!(convert(&large, DType::Complex64).is_err());
        assert!(convert(&large, DType::Complex128).is_ok());
        assert!(convert(&given, DType::Int64).is_err());
        let whole = Tensor::BFloat16(arr1(&[bf16::from_f32(-3.0)]).into_dyn());
        assert_eq!(convert(&whole, DType::Int8), Ok(Tensor::Int8(arr1(&[-3]).into_dyn())));
        let half = Tensor::Float32(arr1(&[0.5]).into_dyn());
        assert_eq!(convert(&half, DType::Int8), Err("int8 does not hold the float32 value 0.5".to_owned()));
        let complex = convert(&half, DType::Complex64).expect("real numbers are complex");
        assert!(convert(&complex, DType::Float32).is_err());
    }
}
