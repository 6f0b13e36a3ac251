//! Arrays from files. Nothing is believed that a file claims about its size: memory grows with what is really there.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use num_complex::Complex;
use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};
use safetensors::{Dtype, SafeTensors};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::{nearest, sentence};
use crate::model::{DType, Tensor};

use super::cast::convert;

/// Bytes of an array at most: far beyond what an audit can use, and little enough to be read.
const LARGEST: u64 = 1 << 31;
/// Bytes of a picture's pixels at most.
const LARGEST_PICTURE: usize = 1 << 28;
/// Bytes of the text that describes an .npy array; numpy itself reads no longer one.
const LARGEST_HEADER: usize = 10_000;

/// The endings that are read here.
pub(crate) const ENDINGS: [&str; 4] = ["npz", "npy", "safetensors", "png"];

/// Reads the array `key` of a file, or the only one of a file without keys. `ending` is one of [`ENDINGS`].
///
/// # Errors
/// Why it is not there or damaged, in one lowercase sentence.
pub(crate) fn array(path: &Path, ending: &str, key: &str) -> Result<Tensor, String> {
    let file = File::open(path).map_err(|error| sentence(&error))?;
    let length = file.metadata().map_err(|error| sentence(&error))?.len();
    let reader = BufReader::new(file);
    match ending {
        "npz" => npz(reader, key),
        "npy" => npy(reader, length),
        "safetensors" => safe(reader, length, key),
        "png" => picture(reader),
        other => Err(format!("files that end in .{other} are not read here")),
    }
}

fn too_large() -> String {
    format!(
        "the array has more than {} GiB: keep the samples that an audit needs, some hundreds",
        LARGEST >> 30
    )
}

/// The `npz` archive's member `key.npy`.
fn npz(reader: impl Read + Seek, key: &str) -> Result<Tensor, String> {
    let damaged = |error: ZipError| match error {
        ZipError::Io(error) => format!("the archive is damaged: {}", sentence(&error)),
        other => format!("this is no .npz archive that can be read: {other}"),
    };
    let mut archive = ZipArchive::new(reader).map_err(damaged)?;
    let names: Vec<String> = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let member = format!("{key}.npy");
    if !names.contains(&member) {
        let keys: Vec<&str> = names.iter().map(|name| name.strip_suffix(".npy").unwrap_or(name)).collect();
        return Err(no_array(key, &keys));
    }
    let file = archive.by_name(&member).map_err(damaged)?;
    let length = file.size();
    // The member's check sum is compared at its end, which `npy` reads up to.
    npy(BufReader::new(file), length).map_err(|why| format!("array `{}`: {why}", key.escape_debug()))
}

fn no_array(key: &str, keys: &[&str]) -> String {
    let key_shown = key.escape_debug();
    match (nearest(key, keys.iter().copied()), keys) {
        (_, []) => "it holds no array".to_owned(),
        (Some(near), _) => {
            format!("it holds no array `{key_shown}`; did you mean `{}`?", near.escape_debug())
        }
        (None, _) => {
            // A list that helps is one that can be read.
            let some: Vec<String> = keys.iter().take(10).map(|key| key.escape_debug().to_string()).collect();
            let more = if keys.len() > some.len() { ", ..." } else { "" };
            format!("it holds no array `{key_shown}`; `key` may be {}{more}", some.join(", "))
        }
    }
}

/// An array in numpy's format, which is all of `length` bytes.
fn npy(mut reader: impl Read, length: u64) -> Result<Tensor, String> {
    let cut = |_: io::Error| "the file is cut short or damaged".to_owned();
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(cut)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err("this is no array of numpy's".to_owned());
    }
    let (size, before) = match start[6] {
        1 => {
            let mut bytes = [0; 2];
            reader.read_exact(&mut bytes).map_err(cut)?;
            (usize::from(u16::from_le_bytes(bytes)), 10)
        }
        2 | 3 => {
            let mut bytes = [0; 4];
            reader.read_exact(&mut bytes).map_err(cut)?;
            (u32::from_le_bytes(bytes) as usize, 12)
        }
        version => return Err(format!("version {version} of numpy's format is not known")),
    };
    if size > LARGEST_HEADER {
        return Err("the array's description is longer than any that numpy reads".to_owned());
    }
    let mut header = vec![0; size];
    reader.read_exact(&mut header).map_err(cut)?;
    let header = std::str::from_utf8(&header).map_err(|_| "the array's description is damaged".to_owned())?;
    let Description { kind, little, fortran, shape } = description(header)?;
    let count = shape.iter().try_fold(1u64, |count, n| count.checked_mul(*n as u64));
    let bytes = count.and_then(|count| count.checked_mul(kind.bytes() as u64)).ok_or_else(too_large)?;
    let left = length.saturating_sub(before + size as u64);
    if bytes != left {
        return Err(format!(
            "an array of shape {shape:?} and type {} takes {bytes} bytes, and {left} are there: the file is cut short \
             or damaged",
            kind.name()
        ));
    }
    if bytes > LARGEST {
        return Err(too_large());
    }
    let mut data = Vec::new();
    // One byte more, so that the end is reached: an archive compares its check sum there.
    reader
        .take(bytes + 1)
        .read_to_end(&mut data)
        .map_err(|error| format!("the data are damaged: {}", sentence(&error)))?;
    if data.len() as u64 != bytes {
        return Err("the file is cut short or damaged".to_owned());
    }
    tensor(kind, &data, little, fortran, &shape)
}

/// What an .npy file says about its array.
struct Description {
    kind: Kind,
    little: bool,
    fortran: bool,
    shape: Vec<usize>,
}

/// Element types of files: those of tensors, and unsigned ones that become signed ones of twice the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Of(DType),
    UInt16,
    UInt32,
    UInt64,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::Of(DType::Bool | DType::UInt8 | DType::Int8) => 1,
            Kind::Of(DType::Int16 | DType::Float16 | DType::BFloat16) | Kind::UInt16 => 2,
            Kind::Of(DType::Int32 | DType::Float32) | Kind::UInt32 => 4,
            Kind::Of(DType::Int64 | DType::Float64 | DType::Complex64) | Kind::UInt64 => 8,
            Kind::Of(DType::Complex128) => 16,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Of(dtype) => dtype.name(),
            Kind::UInt16 => "uint16",
            Kind::UInt32 => "uint32",
            Kind::UInt64 => "uint64",
        }
    }
}

/// Reads `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`: a literal of Python's, of which these forms alone
/// are ever written for plain arrays. A reader of all literals would be a larger door for damaged files.
fn description(text: &str) -> Result<Description, String> {
    let mut words = Words { rest: text };
    let (mut kind, mut fortran, mut shape) = (None, None, None);
    words.expect("{")?;
    while !words.takes("}") {
        let key = words.string()?;
        words.expect(":")?;
        match key {
            "descr" => {
                if words.peeks("[") {
                    return Err("arrays of records are no tensors: store each field as an array".to_owned());
                }
                kind = Some(element(words.string()?)?);
            }
            "fortran_order" => {
                fortran = Some(if words.takes("True") {
                    true
                } else {
                    words.expect("False")?;
                    false
                });
            }
            "shape" => shape = Some(words.tuple()?),
            _ => return Err(DAMAGED.to_owned()),
        }
        if !words.takes(",") {
            words.expect("}")?;
            break;
        }
    }
    match (kind, fortran, shape) {
        (Some((kind, little)), Some(fortran), Some(shape)) if words.rest.trim().is_empty() => {
            Ok(Description { kind, little, fortran, shape })
        }
        _ => Err(DAMAGED.to_owned()),
    }
}

const DAMAGED: &str = "the array's description is damaged";

/// The text of a description, word by word.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn peeks(&mut self, word: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(word)
    }

    fn takes(&mut self, word: &str) -> bool {
        let there = self.peeks(word);
        if there {
            self.rest = &self.rest[word.len()..];
        }
        there
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.takes(word) { Ok(()) } else { Err(DAMAGED.to_owned()) }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        for quote in ["'", "\""] {
            if self.takes(quote) {
                let (text, rest) = self.rest.split_once(quote).ok_or(DAMAGED)?;
                self.rest = rest;
                return Ok(text);
            }
        }
        Err(DAMAGED.to_owned())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect("(")?;
        let mut entries = Vec::new();
        while !self.takes(")") {
            self.rest = self.rest.trim_start();
            let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = self.rest.split_at(digits);
            self.rest = rest;
            // Python 2 wrote long numbers with an L.
            self.takes("L");
            entries.push(number.parse().map_err(|_| DAMAGED.to_owned())?);
            if !self.takes(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(entries)
    }
}

/// The element type by numpy's word for it, and whether the least byte comes first.
fn element(word: &str) -> Result<(Kind, bool), String> {
    let little = match word.chars().next() {
        Some('<' | '|') => true,
        Some('=') => cfg!(target_endian = "little"),
        Some('>') => false,
        _ => return Err(DAMAGED.to_owned()),
    };
    let kind = match &word[1..] {
        "b1" => Kind::Of(DType::Bool),
        "u1" => Kind::Of(DType::UInt8),
        "u2" => Kind::UInt16,
        "u4" => Kind::UInt32,
        "u8" => Kind::UInt64,
        "i1" => Kind::Of(DType::Int8),
        "i2" => Kind::Of(DType::Int16),
        "i4" => Kind::Of(DType::Int32),
        "i8" => Kind::Of(DType::Int64),
        "f2" => Kind::Of(DType::Float16),
        "f4" => Kind::Of(DType::Float32),
        "f8" => Kind::Of(DType::Float64),
        "c8" => Kind::Of(DType::Complex64),
        "c16" => Kind::Of(DType::Complex128),
        "O" => return Err("arrays of Python objects are not read: they would run code".to_owned()),
        _ => return Err(format!("numpy's type `{}` has no tensor", word.escape_debug())),
    };
    Ok((kind, little))
}

/// A tensor from its bytes, as many as it takes.
fn tensor(kind: Kind, data: &[u8], little: bool, fortran: bool, shape: &[usize]) -> Result<Tensor, String> {
    /// The array of what `read` makes of each `N` bytes, given with the least one first.
    fn of<T: Clone, const N: usize>(
        data: &[u8],
        little: bool,
        fortran: bool,
        shape: &[usize],
        read: impl Fn([u8; N]) -> T,
    ) -> Result<ArrayD<T>, String> {
        let values = data.as_chunks::<N>().0.iter().map(|bytes| {
            let mut bytes = *bytes;
            if !little {
                bytes.reverse();
            }
            read(bytes)
        });
        let array = ArrayD::from_shape_vec(IxDyn(shape).set_f(fortran), values.collect())
            .map_err(|_| format!("no array has the shape {shape:?}"))?;
        Ok(array.as_standard_layout().into_owned())
    }
    macro_rules! array {
        ($read:expr) => {
            of(data, little, fortran, shape, $read)?
        };
    }
    Ok(match kind {
        Kind::Of(DType::Bool) => Tensor::Bool(array!(|[byte]: [u8; 1]| byte != 0)),
        Kind::Of(DType::UInt8) => Tensor::UInt8(array!(u8::from_le_bytes)),
        Kind::Of(DType::Int8) => Tensor::Int8(array!(i8::from_le_bytes)),
        Kind::Of(DType::Int16) => Tensor::Int16(array!(i16::from_le_bytes)),
        Kind::Of(DType::Int32) => Tensor::Int32(array!(i32::from_le_bytes)),
        Kind::Of(DType::Int64) => Tensor::Int64(array!(i64::from_le_bytes)),
        Kind::Of(DType::Float16) => Tensor::Float16(array!(f16::from_le_bytes)),
        Kind::Of(DType::BFloat16) => Tensor::BFloat16(array!(bf16::from_le_bytes)),
        Kind::Of(DType::Float32) => Tensor::Float32(array!(f32::from_le_bytes)),
        Kind::Of(DType::Float64) => Tensor::Float64(array!(f64::from_le_bytes)),
        Kind::Of(DType::Complex64) => Tensor::Complex64(array!(|bytes: [u8; 8]| {
            // Reversed as a whole, the imaginary part comes first.
            let (a, b) = (part::<8, 4>(&bytes, 0), part::<8, 4>(&bytes, 4));
            let (a, b) = (f32::from_le_bytes(a), f32::from_le_bytes(b));
            if little { Complex::new(a, b) } else { Complex::new(b, a) }
        })),
        Kind::Of(DType::Complex128) => Tensor::Complex128(array!(|bytes: [u8; 16]| {
            let (a, b) = (part::<16, 8>(&bytes, 0), part::<16, 8>(&bytes, 8));
            let (a, b) = (f64::from_le_bytes(a), f64::from_le_bytes(b));
            if little { Complex::new(a, b) } else { Complex::new(b, a) }
        })),
        Kind::UInt16 => Tensor::Int32(array!(|bytes| u16::from_le_bytes(bytes).into())),
        Kind::UInt32 => Tensor::Int64(array!(|bytes| u32::from_le_bytes(bytes).into())),
        Kind::UInt64 => {
            let values = array!(u64::from_le_bytes);
            if let Some(value) = values.iter().find(|value| i64::try_from(**value).is_err()) {
                return Err(format!("int64 does not hold the uint64 value {value}"));
            }
            Tensor::Int64(values.mapv(|value| value as i64))
        }
    })
}

fn part<const N: usize, const M: usize>(bytes: &[u8; N], start: usize) -> [u8; M] {
    std::array::from_fn(|k| bytes[start + k])
}

fn safe(reader: impl Read, length: u64, key: &str) -> Result<Tensor, String> {
    if length > LARGEST {
        return Err(too_large());
    }
    let mut data = Vec::new();
    reader.take(LARGEST).read_to_end(&mut data).map_err(|error| sentence(&error))?;
    let tensors = SafeTensors::deserialize(&data)
        .map_err(|error| format!("the file is damaged: {}", error.to_string().to_lowercase()))?;
    let Ok(view) = tensors.tensor(key) else { return Err(no_array(key, &tensors.names())) };
    let kind = match view.dtype() {
        Dtype::BOOL => Kind::Of(DType::Bool),
        Dtype::U8 => Kind::Of(DType::UInt8),
        Dtype::I8 => Kind::Of(DType::Int8),
        Dtype::I16 => Kind::Of(DType::Int16),
        Dtype::U16 => Kind::UInt16,
        Dtype::F16 => Kind::Of(DType::Float16),
        Dtype::BF16 => Kind::Of(DType::BFloat16),
        Dtype::I32 => Kind::Of(DType::Int32),
        Dtype::U32 => Kind::UInt32,
        Dtype::F32 => Kind::Of(DType::Float32),
        Dtype::F64 => Kind::Of(DType::Float64),
        Dtype::I64 => Kind::Of(DType::Int64),
        Dtype::U64 => Kind::UInt64,
        Dtype::C64 => Kind::Of(DType::Complex64),
        other => {
            return Err(format!("array `{}` is of type {other:?}, which has no tensor", key.escape_debug()));
        }
    };
    tensor(kind, view.data(), true, false, view.shape())
}

/// A picture as [channels, height, width], 8 or 16 bits as they are.
fn picture(reader: impl BufRead + Seek) -> Result<Tensor, String> {
    let damaged = |error: DecodingError| match error {
        DecodingError::LimitsExceeded => "the picture is too large".to_owned(),
        other => format!("the picture is damaged: {}", other.to_string().to_lowercase()),
    };
    let mut decoder = Decoder::new_with_limits(reader, Limits { bytes: LARGEST_PICTURE });
    // Palettes become colours, and few bits eight.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let size = reader.output_buffer_size().filter(|size| *size <= LARGEST_PICTURE);
    let size = size.ok_or_else(|| "the picture is too large".to_owned())?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(damaged)?;
    reader.finish().map_err(damaged)?;
    data.truncate(frame.buffer_size());
    let (height, width) = (frame.height as usize, frame.width as usize);
    let channels = match frame.color_type {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => return Err("the picture's palette is missing".to_owned()),
    };
    let (kind, little) = match frame.bit_depth {
        BitDepth::Eight => (Kind::Of(DType::UInt8), true),
        BitDepth::Sixteen => (Kind::UInt16, false),
        depth => return Err(format!("a picture of {depth:?} bits is not read")),
    };
    let pixels = tensor(kind, &data, little, false, &[height, width, channels])?;
    Ok(match pixels {
        Tensor::UInt8(a) => Tensor::UInt8(channels_first(a)),
        Tensor::Int32(a) => Tensor::Int32(channels_first(a)),
        other => other,
    })
}

fn channels_first<T: Clone>(pixels: ArrayD<T>) -> ArrayD<T> {
    pixels.permuted_axes(IxDyn(&[2, 0, 1])).as_standard_layout().into_owned()
}

/// A picture's numbers as they are for whole numbers, and between 0 and 1 for others, float32 by default.
///
/// # Errors
/// A type that does not hold 16 bits.
pub(crate) fn as_picture(pixels: &Tensor, dtype: Option<DType>) -> Result<Tensor, String> {
    let dtype = dtype.unwrap_or(DType::Float32);
    if !dtype.is_inexact() {
        return convert(pixels, dtype);
    }
    let largest = if pixels.dtype() == DType::UInt8 { 255.0 } else { 65535.0 };
    convert(&Tensor::Float64(pixels.to_real() / largest), dtype)
}

#[cfg(test)]
mod tests {
    use super::{Kind, description, npy};
    use crate::model::DType;

    #[test]
    fn descriptions() {
        let read = |text: &str| description(text).map(|d| (d.kind, d.little, d.fortran, d.shape));
        let f4 = Kind::Of(DType::Float32);
        let given = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }      \n";
        assert_eq!(read(given), Ok((f4, true, false, vec![3, 4])));
        let given = "{\"shape\":(7L,),\"descr\":\">f4\",\"fortran_order\":True}\n";
        assert_eq!(read(given), Ok((f4, false, true, vec![7])));
        assert_eq!(read("{'descr': '|b1', 'fortran_order': False, 'shape': ()}").map(|d| d.3), Ok(vec![]));
        for damaged in [
            "",
            "{",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': Fals, 'shape': (3,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} x",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
            "{'descr': '', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '\u{e9}f4', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '<U3', 'fortran_order': False, 'shape': (3,)}",
        ] {
            assert!(read(damaged).is_err(), "{damaged}");
        }
    }

    #[test]
    fn what_a_header_claims_is_not_believed() {
        let file = |shape: &str| {
            let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.as_bytes());
            bytes
        };
        for shape in [
            "(1000000000000000,)",
            "(4294967296, 4294967296, 4294967296)",
            "(2305843009213693952,)",
            "(1,)",
            "(0, 18446744073709551615, 18446744073709551615)",
        ] {
            let bytes = file(shape);
            let read = npy(bytes.as_slice(), bytes.len() as u64);
            assert!(read.is_err(), "{shape}: {read:?}");
        }
        let bytes = file("(0, 3)");
        assert_eq!(npy(bytes.as_slice(), bytes.len() as u64).expect("it is empty").shape(), [0, 3]);
        let endless = [b"\x93NUMPY\x02\x00".as_slice(), &[255; 4], &[b' '; 100]].concat();
        assert!(npy(endless.as_slice(), endless.len() as u64).is_err());
    }
}
