//! Inputs from files: against what other people's software wrote, and against damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use equicheck::model::{Samples, Tensor};
use equicheck::spec::{AuditFile, NoStructures, SpecError, SpecSamples, Structure, Structures};
use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

use crate::{file, samples_in};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/spec")
}

/// A file under a group that moves no input `x` read from a file.
fn reading(keys: &str) -> String {
    file(&format!(
        "[sizes]\nnodes = 4\n[inputs.x]\nlayout = false\n{keys}\n[inputs.pos]\nlayout = \"nodes point\"\ngenerate = {{ kind = \"normal\", shape = [\"nodes\", 3] }}"
    ))
}

fn read(keys: &str) -> Result<SpecSamples, SpecError> {
    samples_in(&folder(), &reading(keys))
}

/// Input `x` of the first sample.
fn first(keys: &str) -> Tensor {
    let mut samples = read(keys).unwrap_or_else(|error| panic!("{keys}: {}", error.to_text()));
    samples.get(0).expect("it was read").swap_remove(0)
}

fn refusal(keys: &str) -> String {
    read(keys).expect_err(keys).to_text()
}

fn expected() -> BTreeMap<String, BTreeMap<String, Value>> {
    let text = fs::read_to_string(folder().join("expected.json")).expect("it is committed");
    serde_json::from_str(&text).expect("it is JSON")
}

fn assert_is(tensor: &Tensor, expected: &Value, what: &str) {
    assert_eq!(tensor.dtype().name(), expected["dtype"], "{what}");
    assert_eq!(serde_json::json!(tensor.shape()), expected["shape"], "{what}");
    let values: Vec<f64> = tensor.to_real().iter().copied().collect();
    assert_eq!(serde_json::json!(values), expected["values"], "{what}");
}

#[test]
fn files_hold_what_was_written() {
    let mut count = 0;
    for (name, keys) in expected().iter().filter(|(name, _)| *name != "versions") {
        for (key, value) in keys {
            let what = format!("{name} {key}");
            let keys = match key.as_str() {
                "" => format!("file = \"{name}\""),
                "raw" => format!("file = \"{name}\"\ndtype = \"int32\""),
                key => format!("file = \"{name}\"\nkey = \"{key}\""),
            };
            assert_is(&first(&keys), value, &what);
            count += 1;
        }
    }
    assert_eq!(count, 19 + 2 + 3 + 2 + 8 + 14);
}

#[test]
fn what_no_tensor_holds_is_refused_in_words() {
    for (keys, why) in [
        ("file = 'objects.npz'", "arrays of Python objects are not read"),
        ("file = 'records.npy'", "arrays of records are no tensors"),
        ("file = 'words.npy'", "numpy's type `<U2` has no tensor"),
        ("file = 'too_large.npz'", "int64 does not hold the uint64 value 9223372036854775808"),
        ("file = 'bomb.npz'", "takes 24 bytes, and 20000024 are there"),
        ("file = 'lying_bomb.npz'", "cut short or damaged"),
        ("file = 'arrays.npz'", "it holds no array `x`; `key` may be float16, float32"),
        ("file = 'arrays.npz'\nkey = 'float23'", "did you mean `float32`?"),
        ("file = 'tensors.safetensors'\nkey = 'int46'", "did you mean `int64`?"),
        ("file = 'nowhere.npz'", "no such file"),
        ("file = 'nowhere/*.npz'", "no file matches the pattern"),
        ("file = '[.npz'", "this is no pattern"),
        (
            "file = 'expected.json'",
            "reading `expected.json` needs the Python package: pip install equicheck ase",
        ),
        ("file = 'rgb.png'\nkey = 'x'", "a .png file has no keys"),
        ("file = 'single.npy'\nkey = 'x'", "a .npy file has no keys"),
        ("file = 'gray_16.png'\ndtype = 'uint8'", "uint8 does not hold the whole number"),
        ("file = 'arrays.npz'\nkey = 'int64'\ndtype = 'int32'", "int32 does not hold the whole number"),
        ("file = 'arrays.npz'\nkey = 'number'\nstacked = true", "no axis that could count samples"),
        ("file = 'arrays.npz'\nkey = 'empty'\nstacked = true", "there is no sample"),
    ] {
        let text = refusal(keys);
        assert!(text.contains(why), "{keys}: {text}");
    }
}

#[test]
fn samples_are_counted() {
    let count = |keys: &str| read(keys).map_err(|error| error.to_text()).map(|samples| samples.count());
    // One sample serves all that are generated.
    assert_eq!(count("file = 'single.npy'"), Ok(None));
    assert_eq!(count("file = 'sample_?.npz'\nkey = 'pos'"), Ok(Some(3)));
    assert_eq!(count("file = ['sample_2.npz', 'sample_[01].npz']\nkey = 'pos'"), Ok(Some(3)));
    assert_eq!(count("file = 'packed.npz'\nkey = 'pos'\nstacked = true"), Ok(Some(3)));
    assert_eq!(count("file = ['packed.npz', 'packed.npz']\nkey = 'pos'\nstacked = true"), Ok(Some(6)));
    let two = |a: &str, b: &str| {
        let text =
            file(&format!("[inputs.x]\nlayout = \"nodes point\"\n{a}\n[inputs.z]\nlayout = false\n{b}"));
        samples_in(&folder(), &text).map_err(|error| error.to_text()).map(|samples| samples.count())
    };
    let (three, one) = ("file = 'sample_*.npz'\nkey = 'pos'", "file = 'sample_0.npz'\nkey = 'pos'");
    let six = "file = ['packed.npz', 'packed.npz']\nkey = 'pos'\nstacked = true";
    assert_eq!(two(one, one), Ok(Some(1)));
    assert_eq!(two(one, three), Ok(Some(3)));
    assert_eq!(two(three, one), Ok(Some(3)));
    let why = two(three, six).expect_err("the numbers differ");
    assert!(why.contains("input `z` has 6 samples, and input `x` has 3"), "{why}");
}

#[test]
fn samples_come_in_order() {
    let wanted = expected();
    let mut listed = read("file = ['sample_2.npz', 'sample_[01].npz']\nkey = 'pos'").expect("they are there");
    for (k, name) in ["sample_2.npz", "sample_0.npz", "sample_1.npz"].into_iter().enumerate() {
        assert_is(&listed.get(k).expect("it is there")[0], &wanted[name]["pos"], name);
    }
    assert!(
        listed.get(3).expect_err("there are three").to_string().contains("sample 3: there is no sample 3")
    );
    assert!(listed.get(1).is_ok());
    let mut stacked = read("file = 'packed.npz'\nkey = 'pos'\nstacked = true").expect("it is there");
    let whole = first("file = 'packed.npz'\nkey = 'pos'");
    for k in [2, 0, 1] {
        let part = stacked.get(k).expect("it is there").remove(0);
        assert_eq!(part, whole.select(0, &[k]).reshape(&[5, 3]));
    }
    // The input's own name is the key.
    let text = file("[inputs.pos]\nlayout = \"nodes point\"\nfile = \"sample_1.npz\"");
    let mut samples = samples_in(&folder(), &text).expect("it is there");
    assert_is(&samples.get(0).expect("it is there")[0], &wanted["sample_1.npz"]["pos"], "by name");
    assert_eq!(samples.names().collect::<Vec<_>>(), ["pos"]);
}

#[test]
fn a_picture_gets_the_axis_of_its_layout() {
    let shape = |layout: &str, name: &str| {
        let text = file(&format!("[inputs.x]\nlayout = \"{layout}\"\nfile = \"{name}\""))
            .replace("E(3) x S(nodes)", "C4");
        let mut samples = samples_in(&folder(), &text).unwrap_or_else(|error| panic!("{}", error.to_text()));
        samples.get(0).expect("it was read")[0].shape().to_vec()
    };
    assert_eq!(shape("channel height width", "rgb.png"), [3, 4, 5]);
    assert_eq!(shape("batch channel height width", "rgb.png"), [1, 3, 4, 5]);
    assert_eq!(shape("... channel height width", "rgb.png"), [3, 4, 5]);
    let eight = first("file = 'rgb.png'\ndtype = 'uint8'");
    assert_eq!(eight.dtype().name(), "uint8");
    let double = first("file = 'gray_16.png'\ndtype = 'float64'").to_real();
    assert!(double.iter().all(|x| (0.0..=1.0).contains(x) && (x * 65535.0).round() / 65535.0 == *x));
}

#[test]
fn element_types_change_where_nothing_is_lost() {
    let cast = first("file = 'arrays.npz'\nkey = 'uint8'\ndtype = 'float32'");
    assert_eq!(
        (cast.dtype().name(), cast.to_real().into_raw_vec_and_offset().0),
        ("float32", vec![0.0, 255.0])
    );
    assert_eq!(
        first("file = 'arrays.npz'\nkey = 'float64'\ndtype = 'float32'"),
        first("file = 'arrays.npz'\nkey = 'float32'")
    );
}

#[test]
fn a_layout_is_held_against_what_was_read() {
    let text = file(
        "[inputs.x]\nlayout = \"nodes point\"\nfile = \"single.npy\"\n[inputs.z]\nlayout = \"nodes\"\nfile = \"single.npy\"",
    );
    let error = samples_in(&folder(), &text).expect_err("a matrix is no list");
    assert_eq!(error.problems().len(), 1);
    assert!(
        error.to_text().contains("input `z`: layout `nodes` does not fit shape [2, 3]"),
        "{}",
        error.to_text()
    );
    let span = error.problems()[0].span.clone().expect("it is at the layout");
    assert_eq!(&text[span], "\"nodes\"");
}

/// Structures by the name of their file, and how often a file was read.
#[derive(Default)]
struct Frames {
    reads: Vec<PathBuf>,
}

impl Structures for Frames {
    fn read(&mut self, path: &Path) -> Result<Vec<Structure>, String> {
        self.reads.push(path.to_owned());
        let frame = |k: usize| {
            let positions = ArrayD::from_elem(IxDyn(&[k + 2, 3]), k as f64);
            let numbers = ArrayD::from_elem(IxDyn(&[k + 2]), 6);
            Structure::from([
                ("positions".to_owned(), Tensor::Float64(positions)),
                ("numbers".to_owned(), Tensor::Int64(numbers)),
            ])
        };
        Ok((0..3).map(frame).collect())
    }
}

#[test]
fn each_frame_of_structures_is_a_sample() {
    // Any file that is there will do: the reader above looks at none.
    let with = |key: &str| {
        file(&format!(
            "[inputs.pos]\nlayout = \"nodes point\"\nfile = \"expected.json\"\nkey = \"{key}\"\ndtype = \
             \"float32\"\n[inputs.z]\nlayout = \"nodes\"\nfile = \"expected.json\"\nkey = \"numbers\""
        ))
    };
    let mut frames = Frames::default();
    let parsed = AuditFile::parse(&with("positions"), "x").expect("it is right");
    let mut samples = parsed.samples(&folder(), &mut frames).expect("they are there");
    assert_eq!(frames.reads, [folder().join("expected.json")], "a file is read once");
    assert_eq!(samples.count(), Some(3));
    let sample = samples.get(2).expect("it is there");
    assert_eq!((sample[0].dtype().name(), sample[0].shape()), ("float32", &[4, 3][..]));
    assert_eq!((sample[1].dtype().name(), sample[1].shape()), ("int64", &[4][..]));
    let parsed = AuditFile::parse(&with("position"), "x").expect("it is right");
    let why =
        parsed.samples(&folder(), &mut Frames::default()).expect_err("there is no such array").to_text();
    assert!(why.contains("a structure has no array `position`; did you mean `positions`?"), "{why}");
}

/// A file of this name and content in a folder of its own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("equicheck-spec-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("it can be made");
        Self(folder)
    }

    /// What reading these bytes gives, over and over again.
    fn read(&self, ending: &str, keys: &str, bytes: &[u8]) -> Result<Tensor, String> {
        let name = format!("x.{ending}");
        fs::write(self.0.join(&name), bytes).expect("it can be written");
        let text = reading(&format!("file = \"{name}\"\n{keys}"));
        let parsed = AuditFile::parse(&text, "x").expect("it is right");
        let samples = parsed.samples(&self.0, &mut NoStructures);
        samples
            .map_err(|error| error.to_text())
            .map(|mut samples| samples.get(0).expect("it was read").swap_remove(0))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that stays behind harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

const DAMAGED: [(&str, &str, &str); 7] = [
    ("packed.npz", "npz", "key = 'pos'"),
    ("sample_0.npz", "npz", "key = 'pos'"),
    ("single.npy", "npy", ""),
    ("tensors.safetensors", "safetensors", "key = 'float32'"),
    ("rgb.png", "png", ""),
    ("gray_16.png", "png", ""),
    ("palette.png", "png", ""),
];

#[test]
fn files_cut_short_are_refused() {
    let scratch = Scratch::new("cut");
    for (name, ending, keys) in DAMAGED {
        let bytes = fs::read(folder().join(name)).expect("it is committed");
        let whole = scratch.read(ending, keys, &bytes).expect("it is whole");
        for length in 0..bytes.len() {
            match scratch.read(ending, keys, &bytes[..length]) {
                // The last bytes of a picture are a mark without content.
                Ok(read) => {
                    assert!(
                        ending == "png" && length + 12 >= bytes.len() && read == whole,
                        "{name} {length}"
                    );
                }
                Err(why) => assert!(
                    why.contains("cannot read") || why.contains("input `x`"),
                    "{name} {length}: {why}"
                ),
            }
        }
    }
}

#[test]
fn flipped_bits_are_seen_where_there_are_check_sums() {
    let scratch = Scratch::new("flipped");
    for (name, ending, keys) in DAMAGED {
        let bytes = fs::read(folder().join(name)).expect("it is committed");
        let whole = scratch.read(ending, keys, &bytes).expect("it is whole");
        for k in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[k] ^= 1 << (k % 8);
            let read = scratch.read(ending, keys, &damaged);
            // Other files cannot know, and what they give is then another tensor.
            if matches!(ending, "npz" | "png")
                && let Ok(read) = read
            {
                assert_eq!(read, whole, "{name} {k}");
            }
        }
    }
}

#[test]
fn claims_of_size_take_no_memory() {
    let scratch = Scratch::new("claims");
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,)}\n";
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    let why = scratch.read("npy", "", &npy).expect_err("it claims too much");
    assert!(why.contains("takes 8000000000000000 bytes, and 0 are there"), "{why}");
    let header =
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[1000000000000000],\"data_offsets\":[0,8000000000000000]}}";
    let mut safe = (header.len() as u64).to_le_bytes().to_vec();
    safe.extend(header.as_bytes());
    assert!(scratch.read("safetensors", "", &safe).is_err());
    assert!(scratch.read("safetensors", "", &u64::MAX.to_le_bytes()).is_err());
    // The width and height of a picture with their check sum.
    let mut png = fs::read(folder().join("rgb.png")).expect("it is committed");
    png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let sum = check_sum(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&sum);
    let why = scratch.read("png", "", &png).expect_err("it claims too much");
    assert!(why.contains("the picture is too large"), "{why}");
}

/// The check sum of a chunk of PNG: CRC-32.
fn check_sum(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}
