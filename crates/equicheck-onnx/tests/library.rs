//! The library of ONNX Runtime is looked for, loaded once, and kept: a process of its own, as it can hold one.

use std::path::{Path, PathBuf};
use std::process::Command;

use equicheck_onnx::{Backend, OnnxError, OnnxModel, OpenOptions};

const CHILD: &str = "EQUICHECK_ONNX_LIBRARY_TEST";
const VARIABLE: &str = "ORT_DYLIB_PATH";

fn open(onnxruntime: Option<PathBuf>, search: Vec<PathBuf>) -> Result<OnnxModel, OnnxError> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/opset13.onnx");
    OnnxModel::open(model, &OpenOptions { backend: Backend::OnnxRuntime, onnxruntime, search })
}

/// The library in the repository's environment, or where the variable says.
fn installed() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv");
    let folders = std::fs::read_dir(root.join("lib")).into_iter().flatten();
    let capi = |folder: PathBuf| folder.join("onnxruntime").join("capi");
    folders
        .filter_map(|entry| Some(capi(entry.ok()?.path().join("site-packages"))))
        .chain([capi(root.join("Lib").join("site-packages"))])
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name == "onnxruntime.dll" || (name.starts_with("libonnxruntime.") && !name.contains("providers"))
        })
        .or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from))
        .expect("ONNX Runtime is not there: `make develop` installs it into .venv")
}

#[test]
fn the_library_is_found_loaded_once_and_kept() {
    if let Some(library) = std::env::var_os(CHILD) {
        return in_a_process_of_its_own(Path::new(&library));
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_library_is_found_loaded_once_and_kept", "--nocapture"])
        .env(CHILD, installed())
        .env_remove(VARIABLE)
        .output()
        .unwrap();
    let text = [child.stdout, child.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

fn in_a_process_of_its_own(library: &Path) {
    let nowhere = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    let error = open(None, vec![nowhere.clone()]).unwrap_err();
    assert_eq!(error, OnnxError::LibraryNotFound { searched: vec![nowhere.clone()] });

    // Files that are no libraries, and none at all.
    let text = nowhere.join("no_library.so");
    std::fs::write(&text, "a text").unwrap();
    for path in [text, nowhere.join("no_such_file.so")] {
        let error = open(Some(path.clone()), Vec::new()).unwrap_err();
        assert!(matches!(&error, OnnxError::Library { path: at, .. } if *at == path), "{error}");
    }

    // A failure does not stand in the way of the next attempt.
    let model = open(Some(library.to_owned()), Vec::new()).unwrap();
    assert_eq!(model.backend(), Backend::OnnxRuntime);
    // It is loaded: nothing is looked for any more, and another one is refused.
    assert!(open(None, Vec::new()).is_ok());
    assert!(open(Some(library.to_owned()), Vec::new()).is_ok());
    let other = nowhere.join("another.so");
    std::fs::copy(library, &other).unwrap();
    let error = open(Some(other.clone()), Vec::new()).unwrap_err();
    assert!(matches!(&error, OnnxError::OtherLibrary { asked, .. } if *asked == other), "{error}");
    std::fs::remove_file(other).unwrap();
}
