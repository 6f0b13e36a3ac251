//! Tensors of the element types that models use, on `ndarray`.

use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};
use num_complex::Complex;

/// Element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are numpy's")]
pub enum DType {
    Bool,
    UInt8,
    Int8,
    Int16,
    Int32,
    Int64,
    Float16,
    BFloat16,
    Float32,
    Float64,
    Complex64,
    Complex128,
}

impl DType {
    /// numpy's name of it.
    pub fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::UInt8 => "uint8",
            DType::Int8 => "int8",
            DType::Int16 => "int16",
            DType::Int32 => "int32",
            DType::Int64 => "int64",
            DType::Float16 => "float16",
            DType::BFloat16 => "bfloat16",
            DType::Float32 => "float32",
            DType::Float64 => "float64",
            DType::Complex64 => "complex64",
            DType::Complex128 => "complex128",
        }
    }

    /// Unit roundoff `u` (half the distance from 1 to the next number) of inexact types.
    pub fn unit_roundoff(self) -> Option<f64> {
        match self {
            DType::BFloat16 => Some(2f64.powi(-8)),
            DType::Float16 => Some(2f64.powi(-11)),
            DType::Float32 | DType::Complex64 => Some(2f64.powi(-24)),
            DType::Float64 | DType::Complex128 => Some(2f64.powi(-53)),
            _ => None,
        }
    }

    /// The double-precision type of the same kind; integers stay.
    #[must_use]
    pub fn double(self) -> Self {
        match self {
            DType::Float16 | DType::BFloat16 | DType::Float32 => DType::Float64,
            DType::Complex64 => DType::Complex128,
            other => other,
        }
    }

    /// Floating-point or complex.
    pub fn is_inexact(self) -> bool {
        self.unit_roundoff().is_some()
    }

    /// Complex.
    pub fn is_complex(self) -> bool {
        matches!(self, DType::Complex64 | DType::Complex128)
    }
}

/// A tensor with its element type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of DType")]
pub enum Tensor {
    Bool(ArrayD<bool>),
    UInt8(ArrayD<u8>),
    Int8(ArrayD<i8>),
    Int16(ArrayD<i16>),
    Int32(ArrayD<i32>),
    Int64(ArrayD<i64>),
    Float16(ArrayD<f16>),
    BFloat16(ArrayD<bf16>),
    Float32(ArrayD<f32>),
    Float64(ArrayD<f64>),
    Complex64(ArrayD<Complex<f32>>),
    Complex128(ArrayD<Complex<f64>>),
}

/// Evaluates an expression on the array inside, whatever its element type.
macro_rules! on_array {
    ($tensor:expr, $array:ident => $body:expr) => {
        match $tensor {
            Tensor::Bool($array) => $body,
            Tensor::UInt8($array) => $body,
            Tensor::Int8($array) => $body,
            Tensor::Int16($array) => $body,
            Tensor::Int32($array) => $body,
            Tensor::Int64($array) => $body,
            Tensor::Float16($array) => $body,
            Tensor::BFloat16($array) => $body,
            Tensor::Float32($array) => $body,
            Tensor::Float64($array) => $body,
            Tensor::Complex64($array) => $body,
            Tensor::Complex128($array) => $body,
        }
    };
}

impl Tensor {
    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Tensor::Bool(_) => DType::Bool,
            Tensor::UInt8(_) => DType::UInt8,
            Tensor::Int8(_) => DType::Int8,
            Tensor::Int16(_) => DType::Int16,
            Tensor::Int32(_) => DType::Int32,
            Tensor::Int64(_) => DType::Int64,
            Tensor::Float16(_) => DType::Float16,
            Tensor::BFloat16(_) => DType::BFloat16,
            Tensor::Float32(_) => DType::Float32,
            Tensor::Float64(_) => DType::Float64,
            Tensor::Complex64(_) => DType::Complex64,
            Tensor::Complex128(_) => DType::Complex128,
        }
    }

    /// Shape.
    pub fn shape(&self) -> &[usize] {
        on_array!(self, array => array.shape())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        on_array!(self, array => array.len())
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values as f64; a complex tensor gets a last axis of length 2 (real, imaginary).
    pub fn to_real(&self) -> ArrayD<f64> {
        match self {
            Tensor::Bool(a) => a.mapv(|v| f64::from(u8::from(v))),
            Tensor::UInt8(a) => a.mapv(f64::from),
            Tensor::Int8(a) => a.mapv(f64::from),
            Tensor::Int16(a) => a.mapv(f64::from),
            Tensor::Int32(a) => a.mapv(f64::from),
            Tensor::Int64(a) => a.mapv(|v| v as f64),
            Tensor::Float16(a) => a.mapv(f64::from),
            Tensor::BFloat16(a) => a.mapv(f64::from),
            Tensor::Float32(a) => a.mapv(f64::from),
            Tensor::Float64(a) => a.as_standard_layout().into_owned(),
            Tensor::Complex64(a) => split_complex(&a.view(), f64::from),
            Tensor::Complex128(a) => split_complex(&a.view(), |v| v),
        }
    }

    /// The reverse of [`to_real`](Tensor::to_real): one rounding into `dtype`.
    ///
    /// Only for inexact types: integers do not go through f64.
    pub fn from_real(values: ArrayD<f64>, dtype: DType) -> Self {
        match dtype {
            DType::Float16 => Tensor::Float16(values.mapv(|v| f16::from_f32(to_odd(v)))),
            DType::BFloat16 => Tensor::BFloat16(values.mapv(|v| bf16::from_f32(to_odd(v)))),
            DType::Float32 => Tensor::Float32(values.mapv(|v| v as f32)),
            DType::Complex64 => Tensor::Complex64(join_complex(&values, |v| v as f32)),
            DType::Complex128 => Tensor::Complex128(join_complex(&values, |v| v)),
            _ => Tensor::Float64(values),
        }
    }

    /// The same values in another inexact type of the same kind; integers stay.
    #[must_use]
    pub fn cast(&self, dtype: DType) -> Self {
        if self.dtype() == dtype || !self.dtype().is_inexact() {
            self.clone()
        } else {
            Self::from_real(self.to_real(), dtype)
        }
    }

    /// The same values in the double-precision type of their kind; integers stay.
    #[must_use]
    pub fn double(&self) -> Self {
        self.cast(self.dtype().double())
    }

    /// Entries along `axis` in the order given by `index` (repetitions allowed).
    #[must_use]
    pub fn select(&self, axis: usize, index: &[usize]) -> Self {
        match self {
            Tensor::Bool(a) => Tensor::Bool(a.select(Axis(axis), index)),
            Tensor::UInt8(a) => Tensor::UInt8(a.select(Axis(axis), index)),
            Tensor::Int8(a) => Tensor::Int8(a.select(Axis(axis), index)),
            Tensor::Int16(a) => Tensor::Int16(a.select(Axis(axis), index)),
            Tensor::Int32(a) => Tensor::Int32(a.select(Axis(axis), index)),
            Tensor::Int64(a) => Tensor::Int64(a.select(Axis(axis), index)),
            Tensor::Float16(a) => Tensor::Float16(a.select(Axis(axis), index)),
            Tensor::BFloat16(a) => Tensor::BFloat16(a.select(Axis(axis), index)),
            Tensor::Float32(a) => Tensor::Float32(a.select(Axis(axis), index)),
            Tensor::Float64(a) => Tensor::Float64(a.select(Axis(axis), index)),
            Tensor::Complex64(a) => Tensor::Complex64(a.select(Axis(axis), index)),
            Tensor::Complex128(a) => Tensor::Complex128(a.select(Axis(axis), index)),
        }
    }

    /// The entries of both along `axis`, one behind the other; `None` where types or other lengths differ.
    #[must_use]
    pub fn concatenate(&self, other: &Self, axis: usize) -> Option<Self> {
        Self::concatenate_all(&[self, other], axis)
    }

    /// The entries of all along `axis`, one behind the other; `None` of none, or where types or other lengths differ.
    #[must_use]
    pub fn concatenate_all(tensors: &[&Self], axis: usize) -> Option<Self> {
        macro_rules! joined {
            ($($kind:ident)*) => {
                match tensors.first()? {
                    $(Tensor::$kind(_) => {
                        let views = tensors.iter().map(|tensor| match tensor {
                            Tensor::$kind(array) => Some(array.view()),
                            _ => None,
                        });
                        let views = views.collect::<Option<Vec<_>>>()?;
                        let joined = ndarray::concatenate(Axis(axis), &views).ok()?;
                        Some(Tensor::$kind(joined.as_standard_layout().into_owned()))
                    })*
                }
            };
        }
        joined!(Bool UInt8 Int8 Int16 Int32 Int64 Float16 BFloat16 Float32 Float64 Complex64 Complex128)
    }

    /// The same entries, row-major, in another shape of as many.
    ///
    /// # Panics
    /// If the number of entries differs.
    #[must_use]
    pub fn reshape(&self, shape: &[usize]) -> Self {
        fn to<T: Clone>(array: &ArrayD<T>, shape: &[usize]) -> ArrayD<T> {
            let data = array.iter().cloned().collect();
            ArrayD::from_shape_vec(IxDyn(shape), data).expect("as many entries")
        }
        if self.shape() == shape {
            return self.clone();
        }
        match self {
            Tensor::Bool(a) => Tensor::Bool(to(a, shape)),
            Tensor::UInt8(a) => Tensor::UInt8(to(a, shape)),
            Tensor::Int8(a) => Tensor::Int8(to(a, shape)),
            Tensor::Int16(a) => Tensor::Int16(to(a, shape)),
            Tensor::Int32(a) => Tensor::Int32(to(a, shape)),
            Tensor::Int64(a) => Tensor::Int64(to(a, shape)),
            Tensor::Float16(a) => Tensor::Float16(to(a, shape)),
            Tensor::BFloat16(a) => Tensor::BFloat16(to(a, shape)),
            Tensor::Float32(a) => Tensor::Float32(to(a, shape)),
            Tensor::Float64(a) => Tensor::Float64(to(a, shape)),
            Tensor::Complex64(a) => Tensor::Complex64(to(a, shape)),
            Tensor::Complex128(a) => Tensor::Complex128(to(a, shape)),
        }
    }

    /// The largest value of an integer type; `None` for other types.
    pub fn largest_integer(&self) -> Option<i64> {
        match self {
            Tensor::UInt8(_) => Some(u8::MAX.into()),
            Tensor::Int8(_) => Some(i8::MAX.into()),
            Tensor::Int16(_) => Some(i16::MAX.into()),
            Tensor::Int32(_) => Some(i32::MAX.into()),
            Tensor::Int64(_) => Some(i64::MAX),
            _ => None,
        }
    }

    /// Integer values mapped one by one; `None` for types that are not integers.
    pub fn map_integers(&self, map: impl Fn(i64) -> i64) -> Option<Self> {
        Some(match self {
            Tensor::UInt8(a) => Tensor::UInt8(a.mapv(|v| map(v.into()) as u8)),
            Tensor::Int8(a) => Tensor::Int8(a.mapv(|v| map(v.into()) as i8)),
            Tensor::Int16(a) => Tensor::Int16(a.mapv(|v| map(v.into()) as i16)),
            Tensor::Int32(a) => Tensor::Int32(a.mapv(|v| map(v.into()) as i32)),
            Tensor::Int64(a) => Tensor::Int64(a.mapv(map)),
            _ => return None,
        })
    }

    /// Whether both hold the same bits (NaNs of equal bits are equal).
    pub fn same_bits(&self, other: &Self) -> bool {
        fn same<T>(a: &ArrayD<T>, b: &ArrayD<T>, equal: impl Fn(&T, &T) -> bool) -> bool {
            a.shape() == b.shape() && a.iter().zip(b).all(|(x, y)| equal(x, y))
        }
        match (self, other) {
            (Tensor::Float16(a), Tensor::Float16(b)) => same(a, b, |x, y| x.to_bits() == y.to_bits()),
            (Tensor::BFloat16(a), Tensor::BFloat16(b)) => same(a, b, |x, y| x.to_bits() == y.to_bits()),
            (Tensor::Float32(a), Tensor::Float32(b)) => same(a, b, |x, y| x.to_bits() == y.to_bits()),
            (Tensor::Float64(a), Tensor::Float64(b)) => same(a, b, |x, y| x.to_bits() == y.to_bits()),
            (Tensor::Complex64(a), Tensor::Complex64(b)) => {
                let bits = |z: &Complex<f32>| (z.re.to_bits(), z.im.to_bits());
                same(a, b, |x, y| bits(x) == bits(y))
            }
            (Tensor::Complex128(a), Tensor::Complex128(b)) => {
                let bits = |z: &Complex<f64>| (z.re.to_bits(), z.im.to_bits());
                same(a, b, |x, y| bits(x) == bits(y))
            }
            _ => self == other,
        }
    }
}

/// Single precision, rounded to odd: what is not exact gets an odd last bit. A second rounding to a much shorter type
/// is then the correct one (Boldo and Melquiond, IEEE Transactions on Computers 57, 2008). `half`'s own conversions
/// from f64 round twice or drop bits, depending on the processor.
fn to_odd(v: f64) -> f32 {
    let near = v as f32;
    if f64::from(near) == v || !near.is_finite() {
        return near;
    }
    let toward_zero = near.to_bits() - u32::from(f64::from(near).abs() > v.abs());
    f32::from_bits(toward_zero | 1)
}

fn split_complex<T: Copy>(array: &ArrayViewD<'_, Complex<T>>, widen: impl Fn(T) -> f64) -> ArrayD<f64> {
    let mut shape = array.shape().to_vec();
    shape.push(2);
    let values = array.iter().flat_map(|z| [widen(z.re), widen(z.im)]).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), values).expect("two parts per complex number")
}

fn join_complex<T>(values: &ArrayD<f64>, narrow: impl Fn(f64) -> T) -> ArrayD<Complex<T>> {
    let shape = &values.shape()[..values.ndim() - 1];
    let parts: Vec<f64> = values.iter().copied().collect();
    let joined = parts.chunks_exact(2).map(|z| Complex::new(narrow(z[0]), narrow(z[1]))).collect();
    ArrayD::from_shape_vec(IxDyn(shape), joined).expect("one complex number per two parts")
}
