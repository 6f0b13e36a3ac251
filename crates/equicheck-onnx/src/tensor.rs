//! Values in files and values of the engine.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use equicheck::model::{DType, Tensor};
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use crate::OnnxError;
use crate::graph::LONGEST;
use crate::guard::one_line;
use crate::proto::{TensorProto, data_type};

/// Bytes of one element of a type whose values are a whole number of bytes; `None` for the others.
fn width(kind: i32) -> Option<usize> {
    Some(match kind {
        data_type::BOOL | data_type::UINT8 | data_type::INT8 | 17..=20 | 24 => 1,
        data_type::UINT16 | data_type::INT16 | data_type::FLOAT16 | data_type::BFLOAT16 => 2,
        data_type::FLOAT | data_type::INT32 | data_type::UINT32 => 4,
        data_type::DOUBLE | data_type::INT64 | data_type::UINT64 | data_type::COMPLEX64 => 8,
        data_type::COMPLEX128 => 16,
        _ => return None,
    })
}

/// Where tensors come from: the file and its folder.
pub(crate) struct Source<'a> {
    path: &'a Path,
    /// Bytes that were read from files beside it: several tensors may name the same ones.
    beside: u64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { path, beside: 0 }
    }

    /// Makes all values raw bytes inside the message, as many as the shape says.
    pub(crate) fn settle(&mut self, tensor: &mut TensorProto, name: &str) -> Result<(), OnnxError> {
        let wrong =
            |why: String| OnnxError::Tensor { path: self.path.to_owned(), tensor: one_line(name), why };
        let mut count = 1_usize;
        for dim in &tensor.dims {
            let dim = usize::try_from(*dim).map_err(|_| wrong(format!("the length {dim} of an axis")))?;
            count = count
                .checked_mul(dim)
                .ok_or_else(|| wrong(format!("the shape {:?} is too large", tensor.dims)))?;
        }
        if tensor.data_type == data_type::STRING {
            return if tensor.string_data.len() == count {
                Ok(())
            } else {
                Err(wrong(format!("{} texts for the shape {:?}", tensor.string_data.len(), tensor.dims)))
            };
        }
        let kind = data_type::name(tensor.data_type);
        let Some(width) = width(tensor.data_type) else {
            return Err(wrong(format!("values of {kind} are not supported")));
        };
        let bytes = count
            .checked_mul(width)
            .ok_or_else(|| wrong(format!("the shape {:?} is too large", tensor.dims)))?;
        if tensor.data_location == Some(1) {
            tensor.raw_data = self.external(tensor, name, bytes)?;
        } else if tensor.raw_data.is_empty() {
            tensor.raw_data = typed_data(tensor);
        }
        if tensor.raw_data.len() != bytes {
            return Err(wrong(format!(
                "{} bytes of {kind} for the shape {:?}, which needs {bytes}",
                tensor.raw_data.len(),
                tensor.dims
            )));
        }
        tensor.data_location = None;
        tensor.external_data = Vec::new();
        tensor.float_data = Vec::new();
        tensor.double_data = Vec::new();
        tensor.int32_data = Vec::new();
        tensor.int64_data = Vec::new();
        tensor.uint64_data = Vec::new();
        tensor.name.shrink_to_fit();
        Ok(())
    }

    /// Values from a file beside the model.
    fn external(&mut self, tensor: &TensorProto, name: &str, needed: usize) -> Result<Vec<u8>, OnnxError> {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let location = entry("location").unwrap_or_default().to_owned();
        let wrong = |why: String| OnnxError::ExternalData {
            tensor: one_line(name),
            location: one_line(&location),
            why,
        };
        let number = |key: &str| {
            entry(key)
                .map(|text| {
                    text.parse::<u64>()
                        .map_err(|_| wrong(format!("its {key} `{}` is no number", one_line(text))))
                })
                .transpose()
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let (mut file, size) = open_beside(self.path, &location).map_err(wrong)?;
        let rest = size.saturating_sub(offset);
        let length = length.unwrap_or(rest);
        if length > rest {
            return Err(wrong(format!(
                "bytes {offset} to {} of a file of {size} bytes",
                offset.saturating_add(length)
            )));
        }
        if length != needed as u64 {
            return Err(wrong(format!("{length} bytes are there, and the shape needs {needed}")));
        }
        self.beside = self.beside.saturating_add(length);
        if self.beside > LONGEST {
            return Err(OnnxError::TooLarge { path: self.path.to_owned(), bytes: self.beside });
        }
        let mut values = vec![0; needed];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut values))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(values)
    }
}

/// A file in the folder of the model or below, and its size. Neither `..` nor links lead out of there.
fn open_beside(model: &Path, location: &str) -> Result<(File, u64), String> {
    let relative = Path::new(location);
    if location.is_empty() {
        return Err("no file is named".to_owned());
    }
    // A backslash or a drive is a way out where the model may be opened next, too.
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || location.contains(['\\', ':']) {
        return Err("this leads out of the folder".to_owned());
    }
    let folder = match model.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let file = folder.join(relative).canonicalize().map_err(|error| error.to_string())?;
    if !file.starts_with(&folder) {
        return Err("a link leads out of the folder".to_owned());
    }
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("this is no file".to_owned());
    }
    Ok((File::open(&file).map_err(|error| error.to_string())?, metadata.len()))
}

/// The values of the field that is meant for the type, as little-endian bytes.
fn typed_data(tensor: &TensorProto) -> Vec<u8> {
    let wide = || tensor.int32_data.iter();
    match tensor.data_type {
        data_type::FLOAT | data_type::COMPLEX64 => {
            tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        data_type::DOUBLE | data_type::COMPLEX128 => {
            tensor.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        data_type::INT64 => tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        data_type::UINT64 => tensor.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        data_type::UINT32 => tensor.uint64_data.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect(),
        data_type::INT32 => wide().flat_map(|v| v.to_le_bytes()).collect(),
        data_type::UINT16 | data_type::INT16 | data_type::FLOAT16 | data_type::BFLOAT16 => {
            wide().flat_map(|v| (*v as u16).to_le_bytes()).collect()
        }
        _ => wide().map(|v| *v as u8).collect(),
    }
}

/// A settled tensor's values; `None` for types that the engine has no use for.
pub(crate) fn read(tensor: &TensorProto) -> Option<Tensor> {
    let shape: Vec<usize> = tensor.dims.iter().map(|d| *d as usize).collect();
    let bytes = &tensor.raw_data;
    macro_rules! array {
        ($type:ty) => {{
            const WIDTH: usize = size_of::<$type>();
            let values = bytes
                .chunks_exact(WIDTH)
                .map(|chunk| <$type>::from_le_bytes(chunk.try_into().expect("as wide")))
                .collect();
            ArrayD::from_shape_vec(IxDyn(&shape), values).ok()?
        }};
    }
    Some(match tensor.data_type {
        data_type::BOOL => Tensor::Bool(array!(u8).mapv(|v| v != 0)),
        data_type::UINT8 => Tensor::UInt8(array!(u8)),
        data_type::INT8 => Tensor::Int8(array!(i8)),
        data_type::INT16 => Tensor::Int16(array!(i16)),
        data_type::INT32 => Tensor::Int32(array!(i32)),
        data_type::INT64 => Tensor::Int64(array!(i64)),
        data_type::FLOAT16 => Tensor::Float16(array!(f16)),
        data_type::BFLOAT16 => Tensor::BFloat16(array!(bf16)),
        data_type::FLOAT => Tensor::Float32(array!(f32)),
        data_type::DOUBLE => Tensor::Float64(array!(f64)),
        _ => return None,
    })
}

/// Puts the values of a real floating-point tensor into a message, its type with them.
pub(crate) fn write(tensor: &mut TensorProto, values: &Tensor) {
    *tensor = TensorProto { name: std::mem::take(&mut tensor.name), ..written(values).expect("it is real") };
}

/// Values as a message without a name; `None` for complex ones.
pub(crate) fn written(values: &Tensor) -> Option<TensorProto> {
    fn bytes<T: Copy, const N: usize>(array: &ArrayD<T>, to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        array.iter().flat_map(|v| to(*v)).collect()
    }
    let (kind, data) = match values {
        Tensor::Float16(a) => (data_type::FLOAT16, bytes(a, f16::to_le_bytes)),
        Tensor::BFloat16(a) => (data_type::BFLOAT16, bytes(a, bf16::to_le_bytes)),
        Tensor::Float32(a) => (data_type::FLOAT, bytes(a, f32::to_le_bytes)),
        Tensor::Float64(a) => (data_type::DOUBLE, bytes(a, f64::to_le_bytes)),
        Tensor::Bool(a) => (data_type::BOOL, bytes(a, |v| [u8::from(v)])),
        Tensor::UInt8(a) => (data_type::UINT8, bytes(a, u8::to_le_bytes)),
        Tensor::Int8(a) => (data_type::INT8, bytes(a, i8::to_le_bytes)),
        Tensor::Int16(a) => (data_type::INT16, bytes(a, i16::to_le_bytes)),
        Tensor::Int32(a) => (data_type::INT32, bytes(a, i32::to_le_bytes)),
        Tensor::Int64(a) => (data_type::INT64, bytes(a, i64::to_le_bytes)),
        Tensor::Complex64(_) | Tensor::Complex128(_) => return None,
    };
    let dims = values.shape().iter().map(|d| *d as i64).collect();
    Some(TensorProto { data_type: kind, dims, raw_data: data, ..TensorProto::default() })
}

/// The standard's number for an element type of the engine.
pub(crate) fn kind(dtype: DType) -> i32 {
    match dtype {
        DType::Bool => data_type::BOOL,
        DType::UInt8 => data_type::UINT8,
        DType::Int8 => data_type::INT8,
        DType::Int16 => data_type::INT16,
        DType::Int32 => data_type::INT32,
        DType::Int64 => data_type::INT64,
        DType::Float16 => data_type::FLOAT16,
        DType::BFloat16 => data_type::BFLOAT16,
        DType::Float32 => data_type::FLOAT,
        DType::Float64 => data_type::DOUBLE,
        DType::Complex64 => data_type::COMPLEX64,
        DType::Complex128 => data_type::COMPLEX128,
    }
}

/// Bytes of one element.
pub(crate) fn size(dtype: DType) -> usize {
    width(kind(dtype)).unwrap_or(1)
}

/// The engine's element type.
pub(crate) fn dtype(kind: i32) -> Option<DType> {
    Some(match kind {
        data_type::BOOL => DType::Bool,
        data_type::UINT8 => DType::UInt8,
        data_type::INT8 => DType::Int8,
        data_type::INT16 => DType::Int16,
        data_type::INT32 => DType::Int32,
        data_type::INT64 => DType::Int64,
        data_type::FLOAT16 => DType::Float16,
        data_type::BFLOAT16 => DType::BFloat16,
        data_type::FLOAT => DType::Float32,
        data_type::DOUBLE => DType::Float64,
        data_type::COMPLEX64 => DType::Complex64,
        data_type::COMPLEX128 => DType::Complex128,
        _ => return None,
    })
}
