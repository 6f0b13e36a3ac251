//! Damaged files: one clear error, or a model that runs or says why not. Never a panic.

use std::fs;
use std::path::Path;

use equicheck_onnx::{Backend, OnnxModel};

use crate::errors::folder;
use crate::files::{cases, data, options};

/// Models of few bytes that hold all that a message can: subgraphs, functions, types, attributes.
const MODELS: [&str; 12] = [
    "branch",
    "celu",
    "embedding",
    "external",
    "function",
    "half",
    "integers",
    "loop",
    "old",
    "random",
    "resize",
    "zeros",
];

/// Uniform numbers that any run draws alike: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Opens a file, and calls what opens.
fn attempt(path: &Path, name: &str, backend: Backend) -> bool {
    let mut model = match OnnxModel::open(path, &options(backend)) {
        Ok(model) => model,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
            return false;
        }
    };
    // A loop whose number of turns is damaged is a long one, and no damaged file.
    if name != "loop" && data(&format!("{name}.json")).exists() {
        for case in cases(name) {
            if let Err(error) = model.run(&case.inputs) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
    true
}

fn damaged(
    kind: &str,
    backend: Backend,
    each: impl Fn(&[u8], &mut Numbers) -> Vec<Vec<u8>>,
) -> (usize, usize) {
    let folder = folder(&format!("{kind}-{backend}"));
    fs::copy(data("external.data"), folder.join("external.data")).unwrap();
    let path = folder.join("model.onnx");
    let (mut opened, mut refused) = (0, 0);
    for (k, name) in MODELS.into_iter().enumerate() {
        let whole = fs::read(data(&format!("{name}.onnx"))).unwrap();
        for bytes in each(&whole, &mut Numbers(k as u64)) {
            fs::write(&path, bytes).unwrap();
            if attempt(&path, name, backend) {
                opened += 1;
            } else {
                refused += 1;
            }
        }
    }
    (opened, refused)
}

fn flips(whole: &[u8], numbers: &mut Numbers) -> Vec<Vec<u8>> {
    (0..150)
        .map(|_| {
            let mut bytes = whole.to_vec();
            for _ in 0..=numbers.below(3) {
                let place = numbers.below(bytes.len());
                bytes[place] ^= 1 << numbers.below(8);
            }
            bytes
        })
        .collect()
}

fn cuts(whole: &[u8], numbers: &mut Numbers) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..40).map(|_| whole[..numbers.below(whole.len())].to_vec()).collect();
    // A piece from the middle is missing.
    all.extend((0..40).map(|_| {
        let (a, b) = (numbers.below(whole.len()), numbers.below(whole.len()));
        [&whole[..a.min(b)], &whole[a.max(b)..]].concat()
    }));
    all
}

#[test]
fn flipped_bits_are_one_error_or_a_model() {
    for backend in Backend::ALL {
        let (opened, refused) = damaged("flips", backend, flips);
        // Names and values may change without harm; lengths and kinds may not.
        assert!(opened > 100 && refused > 100, "{opened} {refused}");
    }
}

#[test]
fn files_with_missing_pieces_are_one_error() {
    for backend in Backend::ALL {
        let (opened, refused) = damaged("cuts", backend, cuts);
        assert!(refused > 10 * opened, "{opened} {refused}");
    }
}
