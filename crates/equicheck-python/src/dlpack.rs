//! Tensors across the border: `DLPack` both ways, without copying on export.

use std::ffi::c_void;

use dlpark::ffi::{
    DLDataType, DLDataTypeCode, DLDevice, DLDeviceType, DLManagedTensor, DLManagedTensorVersioned,
};
use dlpark::metadata::Dynamic;
use dlpark::python::{ExportRequest, from_dlpack};
use dlpark::{DlpackFlags, Managed, ManagedTensorBase};
use equicheck::model::Tensor;
use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};
use num_complex::Complex;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A tensor of the engine on its way to a framework: `torch.from_dlpack(buffer)` takes its memory over. It can be
/// taken once.
#[pyclass(module = "equicheck._equicheck")]
pub(crate) struct Buffer(Option<Tensor>);

impl Buffer {
    pub(crate) fn new(tensor: Tensor) -> Self {
        Self(Some(tensor))
    }
}

#[pymethods]
impl Buffer {
    /// `(kDLCPU, 0)`.
    #[expect(clippy::unused_self, reason = "the protocol calls it on an instance")]
    fn __dlpack_device__(&self) -> (i32, i32) {
        (1, 0)
    }

    #[pyo3(signature = (**kwargs))]
    fn __dlpack__(&mut self, py: Python<'_>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Py<PyAny>> {
        let get = |name: &str| kwargs.and_then(|k| k.get_item(name).ok().flatten());
        let given = |name: &str| get(name).filter(|value| !value.is_none());
        let request = ExportRequest::parse(
            given("stream").as_ref(),
            given("max_version").map(|version| version.extract()).transpose()?,
            given("dl_device").map(|device| device.extract()).transpose()?,
            given("copy").map(|copy| copy.extract()).transpose()?,
        )?;
        let tensor =
            self.0.take().ok_or_else(|| PyBufferError::new_err("this buffer was taken over already"))?;
        // Only one of the two closures runs; a cell lets either take the tensor.
        let slot = std::cell::RefCell::new(Some(tensor));
        let take = || slot.borrow_mut().take().ok_or_else(|| PyBufferError::new_err("buffer taken twice"));
        request.export_zero_copy(
            py,
            DLDevice::CPU,
            DlpackFlags::empty(),
            || managed::<DLManagedTensor>(take()?),
            || managed::<DLManagedTensorVersioned>(take()?),
        )
    }
}

fn managed<M: ManagedTensorBase>(tensor: Tensor) -> PyResult<Managed<M>> {
    use DLDataTypeCode as Code;
    match tensor {
        Tensor::Bool(a) => own(a, Code::BOOL, 8),
        Tensor::UInt8(a) => own(a, Code::UINT, 8),
        Tensor::Int8(a) => own(a, Code::INT, 8),
        Tensor::Int16(a) => own(a, Code::INT, 16),
        Tensor::Int32(a) => own(a, Code::INT, 32),
        Tensor::Int64(a) => own(a, Code::INT, 64),
        Tensor::Float16(a) => own(a, Code::FLOAT, 16),
        Tensor::BFloat16(a) => own(a, Code::BFLOAT, 16),
        Tensor::Float32(a) => own(a, Code::FLOAT, 32),
        Tensor::Float64(a) => own(a, Code::FLOAT, 64),
        Tensor::Complex64(a) => own(a, Code::COMPLEX, 64),
        Tensor::Complex128(a) => own(a, Code::COMPLEX, 128),
    }
}

fn own<T, M>(array: ArrayD<T>, code: DLDataTypeCode, bits: u8) -> PyResult<Managed<M>>
where
    T: Clone + Send + 'static,
    M: ManagedTensorBase,
{
    let array = if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() };
    let shape: Vec<i64> = array.shape().iter().map(|n| *n as i64).collect();
    let strides: Vec<i64> = array.strides().iter().map(|n| *n as i64).collect();
    let data =
        if array.is_empty() { std::ptr::null_mut() } else { array.as_ptr().cast::<c_void>().cast_mut() };
    let prepared = Dynamic::new(&shape[..], &strides[..])
        .prepare_as::<M>()
        .map_err(|error| PyBufferError::new_err(error.to_string()))?;
    let mut initialized = prepared.initialize(Box::new(array));
    initialized.set_data(data);
    initialized.set_dtype(DLDataType::scalar(code, bits));
    initialized.set_device(DLDevice::CPU);
    // SAFETY: the box owns the allocation behind `data` and lives until the deleter runs; shape, strides and type
    // are the array's own.
    Ok(unsafe { initialized.finish() })
}

/// Reads a tensor in host memory that offers `__dlpack__`.
///
/// # Errors
/// An element type that the engine does not know, memory that is not the host's.
pub(crate) fn read(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let imported = from_dlpack(object.as_borrowed(), None, None)?;
    let view = imported.validate().map_err(|error| PyBufferError::new_err(error.to_string()))?;
    if view.device().device_type != DLDeviceType::CPU {
        return Err(PyBufferError::new_err("a tensor in host memory is needed: move it with `.cpu()`"));
    }
    let shape: Vec<usize> = view.shape().iter().map(|n| *n as usize).collect();
    let strides: Vec<usize> = view
        .strides_or_compact()
        .map_err(|error| PyBufferError::new_err(error.to_string()))?
        .iter()
        .map(|n| {
            usize::try_from(*n).map_err(|_| PyBufferError::new_err("negative strides: copy the tensor first"))
        })
        .collect::<PyResult<_>>()?;
    // SAFETY: `validate` checked the descriptor; nothing is read through a null pointer because empty tensors are
    // answered before.
    let data =
        unsafe { view.offset_bytes_ptr() }.map_err(|error| PyBufferError::new_err(error.to_string()))?;
    let kind = view.dtype();
    macro_rules! copy {
        ($element:ty, $variant:ident) => {
            // SAFETY: the producer keeps the memory alive until `imported` is dropped, after the copy; the element
            // type is the one that the producer declared.
            Tensor::$variant(unsafe { copied::<$element>(data, &shape, &strides) }?)
        };
    }
    Ok(match (kind.code, kind.bits, kind.lanes) {
        (DLDataTypeCode::BOOL, 8, 1) => {
            // SAFETY: as above; read as bytes, because a byte that is neither 0 nor 1 is no `bool`.
            let bytes = unsafe { copied::<u8>(data, &shape, &strides) }?;
            Tensor::Bool(bytes.mapv(|b| b != 0))
        }
        (DLDataTypeCode::UINT, 8, 1) => copy!(u8, UInt8),
        (DLDataTypeCode::INT, 8, 1) => copy!(i8, Int8),
        (DLDataTypeCode::INT, 16, 1) => copy!(i16, Int16),
        (DLDataTypeCode::INT, 32, 1) => copy!(i32, Int32),
        (DLDataTypeCode::INT, 64, 1) => copy!(i64, Int64),
        (DLDataTypeCode::FLOAT, 16, 1) => copy!(f16, Float16),
        (DLDataTypeCode::BFLOAT, 16, 1) => copy!(bf16, BFloat16),
        (DLDataTypeCode::FLOAT, 32, 1) => copy!(f32, Float32),
        (DLDataTypeCode::FLOAT, 64, 1) => copy!(f64, Float64),
        (DLDataTypeCode::COMPLEX, 64, 1) => copy!(Complex<f32>, Complex64),
        (DLDataTypeCode::COMPLEX, 128, 1) => copy!(Complex<f64>, Complex128),
        (code, bits, lanes) => {
            return Err(PyTypeError::new_err(format!(
                "element type {code:?} with {bits} bits and {lanes} lanes is not supported: bool, integers up to 64 \
                 bits, float16, bfloat16, float32, float64 and complex are"
            )));
        }
    })
}

/// # Safety
/// `data` points to elements of type `T` laid out by `shape` and `strides` (in elements), valid for reads.
unsafe fn copied<T: Clone>(data: *const u8, shape: &[usize], strides: &[usize]) -> PyResult<ArrayD<T>> {
    if shape.contains(&0) {
        return ArrayD::from_shape_vec(IxDyn(shape), Vec::new())
            .map_err(|error| PyBufferError::new_err(error.to_string()));
    }
    // Frameworks align their allocations to the element type, but a view may start anywhere.
    if data.align_offset(align_of::<T>()) != 0 {
        return Err(PyBufferError::new_err("the tensor's memory is not aligned: copy it first"));
    }
    // SAFETY: by the caller's promise; expanded axes (stride 0) are read several times, never written.
    let view = unsafe { ArrayViewD::from_shape_ptr(IxDyn(shape).strides(IxDyn(strides)), data.cast::<T>()) };
    Ok(view.as_standard_layout().into_owned())
}
