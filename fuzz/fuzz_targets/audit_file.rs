//! Any text is read as an audit file or refused: every place that is named is one of the text, and what is read with all
//! questions answered makes a specification, options and a first sample, or says why not.
#![no_main]

use std::path::Path;

use equicheck::model::Samples;
use equicheck::spec::{AuditFile, NoStructures, SpecError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let read = || -> Result<(), SpecError> {
        let file = AuditFile::parse(text, "equicheck.toml")?;
        assert_eq!(file.text(), text);
        let questions = file.open_questions();
        for question in &questions {
            assert!(text[question.span.clone()].contains('?'), "{question:?} of {text:?}");
        }
        if !questions.is_empty() {
            let refused = file.specification().expect_err("a question is open");
            assert_eq!(refused.problems().len(), questions.len());
        }
        file.options()?;
        // Inputs may be large: what they could take is held back by a limit, and time by this one.
        let small = file.sizes.iter().all(|(_, size)| size.get().is_none_or(|size| size.largest < 100));
        if small && text.len() < 1000 && !text.contains("0000") {
            let mut samples = file.samples(Path::new("nowhere"), &mut NoStructures)?;
            let sample = samples.get(0).expect("the first sample was made before");
            assert_eq!(sample.len(), file.inputs.len());
        }
        Ok(())
    };
    if let Err(error) = read() {
        assert!(!error.problems().is_empty());
        assert!(!error.to_text().is_empty());
        for problem in error.problems() {
            let inside = problem.span.as_ref().is_none_or(|span| text.get(span.clone()).is_some());
            assert!(inside, "{problem:?} of {text:?}");
        }
    }
});
