//! Any text is read as a group or refused: what is read prints and reads back, an error points at characters.
#![no_main]

use equicheck::symmetry::Group;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Group::parse(text) {
        Ok(group) => {
            let printed = group.to_string();
            let again = Group::parse(&printed)
                .unwrap_or_else(|error| panic!("{text:?} prints as {printed:?}: {error}"));
            assert_eq!(again, group, "{text:?} prints as {printed:?}");
            assert_eq!(again.to_string(), printed, "{text:?}");
            assert!(!group.factors().is_empty(), "{text:?}");
        }
        Err(error) => {
            assert_eq!(error.text, text);
            assert!(text.get(error.span.clone()).is_some(), "{:?} of {text:?}", error.span);
            assert!(!error.to_string().is_empty());
        }
    }
});
