//! Every kind of error, from what really causes it where that can be had.

use std::fs;
use std::path::{Path, PathBuf};

use equicheck::model::{Call, CallError, Model, Tensor};
use equicheck_onnx::{Backend, OnnxError, OnnxModel, OpenOptions};

use crate::files::{cases, data, open, options};

/// An empty folder for one test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn refusal(path: &Path, backend: Backend) -> OnnxError {
    let error = OnnxModel::open(path, &options(backend)).expect_err("it is refused");
    assert_in_words(&error);
    error
}

/// One sentence, without a final stop.
fn assert_in_words(error: &OnnxError) {
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.ends_with('.') && text.len() < 900, "{text}");
}

/// Fails to compile when a kind is added that no test below has.
fn kind(error: &OnnxError) -> &'static str {
    match error {
        OnnxError::Read { .. } => "read",
        OnnxError::NotOnnx { .. } => "not onnx",
        OnnxError::Tensor { .. } => "tensor",
        OnnxError::ExternalData { .. } => "external data",
        OnnxError::TooLarge { .. } => "too large",
        OnnxError::UnknownBackend { .. } => "unknown backend",
        OnnxError::NotBuilt { .. } => "not built",
        OnnxError::LibraryNotFound { .. } => "library not found",
        OnnxError::Library { .. } => "library",
        OnnxError::OtherLibrary { .. } => "other library",
        OnnxError::Operator { .. } => "operator",
        OnnxError::Refused { .. } => "refused",
        OnnxError::Run { .. } => "run",
        OnnxError::Input { .. } => "input",
        OnnxError::InputCount { .. } => "input count",
        OnnxError::UnknownTensor { .. } => "unknown tensor",
    }
}

#[test]
fn files_that_cannot_be_read_or_are_none() {
    let error = refusal(&data("no_such_file.onnx"), Backend::Tract);
    assert_eq!(kind(&error), "read");
    assert!(error.to_string().contains("no_such_file.onnx: the file cannot be read: "), "{error}");
    assert_eq!(kind(&refusal(&data(""), Backend::Tract)), "read");

    let folder = folder("none");
    let other = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).unwrap();
        let error = refusal(&folder.join(name), Backend::OnnxRuntime);
        assert_eq!(kind(&error), "not onnx", "{error}");
        error.to_string()
    };
    assert!(other("empty.onnx", b"").contains("the file is empty"));
    assert!(other("text.onnx", b"This is a text, and no model.\n").contains("this is no whole ONNX model"));
    assert!(other("zip.onnx", b"PK\x03\x04\x14\x00\x08\x08").contains("this is no whole ONNX model"));
    let whole = fs::read(data("egnn.onnx")).unwrap();
    assert!(other("half.onnx", &whole[..whole.len() / 2]).contains("export the model again"));
    // A message of another kind that decodes.
    assert!(other("other.onnx", &[8, 8]).contains("it holds no graph"));
}

#[test]
fn files_beyond_the_length_of_a_message() {
    let path = folder("large").join("large.onnx");
    // A hole in the file: it takes no room.
    fs::File::create(&path).unwrap().set_len(1 << 32).unwrap();
    let error = refusal(&path, Backend::Tract);
    assert_eq!(error, OnnxError::TooLarge { path, bytes: 1 << 32 });
    assert!(error.to_string().contains("more than 2 GiB"));
}

/// The bytes of the model with external data, with another location or another number in them.
fn with_external(from: &str, to: &str) -> Vec<u8> {
    let mut bytes = fs::read(data("external.onnx")).unwrap();
    assert_eq!(from.len(), to.len(), "lengths are part of the message");
    let mut found = 0;
    for k in 0..bytes.len() - from.len() {
        if bytes[k..].starts_with(from.as_bytes()) {
            bytes[k..k + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{from} is not there");
    bytes
}

#[test]
fn values_beside_the_model_lie_in_its_own_folder_and_have_the_lengths_that_it_says() {
    let folder = folder("external");
    let inner = folder.join("inner");
    fs::create_dir(&inner).unwrap();
    let values = fs::read(data("external.data")).unwrap();
    let path = inner.join("model.onnx");
    let attempt = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let results = Backend::ALL.map(|backend| OnnxModel::open(&path, &options(backend)).map(|_| ()));
        let [first, second] = results;
        assert_eq!(first, second, "the backends are not asked");
        first.map_err(|error| {
            assert_eq!(kind(&error), "external data", "{error}");
            assert_in_words(&error);
            error.to_string()
        })
    };
    let whole = fs::read(data("external.onnx")).unwrap();

    let text = attempt(&whole).unwrap_err();
    assert!(text.contains("has its values in `external.data`"), "{text}");
    fs::write(inner.join("external.data"), &values).unwrap();
    assert_eq!(attempt(&whole), Ok(()));

    // Ways out: upwards, absolute, by a link; all of them lead to a file that is there.
    fs::write(folder.join("ernal.data"), &values).unwrap();
    assert!(
        attempt(&with_external("external.data", "../ernal.data")).unwrap_err().contains("out of the folder")
    );
    for (to, why) in [("/etc/hostname", "out of the folder"), ("C:\\ernal.data", "out of the folder")] {
        assert!(attempt(&with_external("external.data", to)).unwrap_err().contains(why), "{to}");
    }
    assert!(attempt(&with_external("external.data", "./ternal.data")).is_err(), "no such file");
    #[cfg(unix)]
    {
        fs::remove_file(inner.join("external.data")).unwrap();
        std::os::unix::fs::symlink(folder.join("ernal.data"), inner.join("external.data")).unwrap();
        assert!(attempt(&whole).unwrap_err().contains("a link leads out of the folder"));
        // A link within the folder leads nowhere else.
        fs::remove_file(inner.join("external.data")).unwrap();
        fs::write(inner.join("values"), &values).unwrap();
        std::os::unix::fs::symlink(inner.join("values"), inner.join("external.data")).unwrap();
        assert_eq!(attempt(&whole), Ok(()));
        fs::remove_file(inner.join("external.data")).unwrap();
    }

    // A file that ends early; a folder of that name.
    fs::write(inner.join("external.data"), &values[..values.len() - 1]).unwrap();
    assert!(attempt(&whole).unwrap_err().contains("of a file of"));
    fs::remove_file(inner.join("external.data")).unwrap();
    fs::create_dir(inner.join("external.data")).unwrap();
    assert!(attempt(&whole).unwrap_err().contains("this is no file"));
}

#[test]
fn tensors_that_contradict_themselves() {
    // The weight of the old model: its only tensor of three floats, made one of two by its shape.
    let mut bytes = fs::read(data("old.onnx")).unwrap();
    let place = bytes.windows(4).position(|w| w == [8, 3, 16, 1]).expect("shape and type of the weight");
    bytes[place + 1] = 2;
    let path = folder("tensor").join("old.onnx");
    fs::write(&path, bytes).unwrap();
    for backend in Backend::ALL {
        let error = refusal(&path, backend);
        assert_eq!(kind(&error), "tensor");
        let text = error.to_string();
        assert!(text.contains("tensor `w`: 12 bytes of float32 for the shape [2], which needs 8"), "{text}");
    }
}

#[test]
fn backends_have_names() {
    for backend in Backend::ALL {
        assert_eq!(backend.word().parse(), Ok(backend));
        assert_eq!(backend.to_string(), backend.word());
    }
    for (word, nearest) in [("ort", "onnxruntime"), ("onnx", "onnxruntime"), ("Tract", "tract")] {
        let error = word.parse::<Backend>().unwrap_err();
        assert_eq!(kind(&error), "unknown backend");
        assert_in_words(&error);
        assert!(error.to_string().contains(&format!("did you mean `{nearest}`?")), "{error}");
    }
    assert_eq!(Backend::default(), Backend::Tract);
    assert_eq!(OpenOptions::default().backend, Backend::Tract);
}

#[test]
fn operators_that_a_backend_lacks_are_named_with_their_nodes() {
    for (name, backend, wanted) in [
        (
            "det",
            Backend::Tract,
            "`Det` at node `/volume/det`: the embedded backend (tract) has no such operator; --backend onnxruntime may \
             run it",
        ),
        (
            "unknown",
            Backend::Tract,
            "`Frobnicate` at node `f`: the embedded backend (tract) has no such operator; it is none of the standard's \
             operators: export the model without it",
        ),
        (
            "unknown",
            Backend::OnnxRuntime,
            "`Frobnicate` at node `f`: ONNX Runtime has no such operator; it is none of the standard's operators: \
             export the model without it",
        ),
        (
            "function",
            Backend::Tract,
            "`local.Twice` at node `twice`: the embedded backend (tract) has no such operator; --backend onnxruntime \
             may run it",
        ),
        (
            "celu",
            Backend::Tract,
            "`Celu` at node `bend`: the embedded backend (tract) ignores its attribute `alpha`; --backend onnxruntime \
             may run it",
        ),
        (
            "swish",
            Backend::Tract,
            "`Swish` at node `gate`: the embedded backend (tract) ignores its attribute `alpha`; --backend onnxruntime \
             may run it",
        ),
        (
            "gru_reverse",
            Backend::Tract,
            "`GRU` at node `back`: the embedded backend (tract) computes it in the wrong direction; --backend \
             onnxruntime may run it",
        ),
    ] {
        let error = refusal(&data(&format!("{name}.onnx")), backend);
        assert_eq!(kind(&error), "operator");
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn graphs_that_a_backend_refuses() {
    // The mode of a Resize, misspelt: known to be wrong before any call.
    let mut bytes = fs::read(data("resize.onnx")).unwrap();
    let place = bytes.windows(6).position(|w| w == b"linear").unwrap();
    bytes[place..place + 6].copy_from_slice(b"lunear");
    let path = folder("refused").join("resize.onnx");
    fs::write(&path, bytes).unwrap();
    for backend in Backend::ALL {
        let error = refusal(&path, backend);
        assert_eq!(kind(&error), "refused", "{error}");
        assert!(error.to_string().contains("cannot take the model: "), "{error}");
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let raised = |name: &str, backend: Backend, inputs: &[Tensor]| {
        let mut model = open(name, backend);
        let call = Call { sample: 0, inputs, reset_generators: true, restore_state: true };
        match model.forward(&call).expect_err("it is refused") {
            CallError::Raised(text) => text,
            CallError::Interrupted => panic!("nobody interrupts"),
        }
    };
    let rows = |n: usize, d: usize| Tensor::Float32(ndarray::Array2::<f32>::ones((n, d)).into_dyn());
    for backend in Backend::ALL {
        for (inputs, wanted) in [
            (vec![], "0 inputs were given, and the graph has 1: x: float32[n, 3]"),
            (vec![rows(2, 3).double()], "input `x`: float64 was given, and the graph takes float32"),
            (vec![rows(2, 4)], "input `x`: shape [2, 4] was given, and the graph takes x: float32[n, 3]"),
            (
                vec![Tensor::Float32(ndarray::Array1::ones(3).into_dyn())],
                "input `x`: shape [3] was given, and the graph takes x: float32[n, 3]",
            ),
        ] {
            assert_eq!(raised("opset13", backend, &inputs), wanted);
        }
        // An index beyond the table is the backend's to find; no panic of its own comes through.
        let mut inputs = cases("embedding").remove(0).inputs;
        inputs[0] = Tensor::Int64(ndarray::arr1(&[1_i64, 99, 3]).into_dyn());
        let mut model = open("embedding", backend);
        let error = model.run(&inputs).unwrap_err();
        assert_eq!(kind(&error), "run", "{error}");
        assert_in_words(&error);
        let text = error.to_string();
        // tract panics there, and says nowhere which node it was.
        let named =
            text.contains(" fails at `Gather`, node `node_embedding`: indices element out of data bounds");
        assert_eq!(named, backend == Backend::OnnxRuntime, "{text}");
        let other = if backend == Backend::Tract { "onnxruntime" } else { "tract" };
        assert!(text.ends_with(&format!("; --backend {other} may run it")), "{text}");
    }
    let mut model = open("opset13", Backend::Tract);
    assert_eq!(kind(&model.run(&[]).unwrap_err()), "input count");
    assert_eq!(kind(&model.run(&[rows(2, 4)]).unwrap_err()), "input");
    assert_eq!(kind(&model.exposing(&["q"]).unwrap_err()), "unknown tensor");
}

/// Those that need another build, or a process of their own (`tests/library.rs`).
#[test]
fn errors_about_installations_say_what_to_do() {
    let path = PathBuf::from("lib.so");
    let not_built = OnnxError::NotBuilt { backend: Backend::OnnxRuntime };
    let not_found = OnnxError::LibraryNotFound { searched: vec![PathBuf::from("a"), PathBuf::from("b")] };
    let unusable = OnnxError::Library { path: path.clone(), why: "it is old".to_owned() };
    let other = OnnxError::OtherLibrary { asked: path.clone(), loaded: path };
    for (error, name, wanted) in [
        (not_built, "not built", "built without the backend `onnxruntime`"),
        (not_found, "library not found", "looked in a, b"),
        (unusable, "library", "lib.so: this library of ONNX Runtime cannot be loaded: it is old"),
        (other, "other library", "can hold one of them"),
    ] {
        assert_eq!(kind(&error), name);
        assert_in_words(&error);
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let nowhere = OnnxError::LibraryNotFound { searched: vec![] }.to_string();
    assert!(
        nowhere.contains("`pip install onnxruntime`") && nowhere.contains("--onnxruntime PATH"),
        "{nowhere}"
    );
}
