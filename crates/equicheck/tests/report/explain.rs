//! Pages of failure modes as text.

use equicheck::diagnosis::{Library, Page, page};
use equicheck::report::{Mode, modes_to_text, page_to_text};

fn written() -> Page {
    Page {
        mode: Mode::Parity,
        summary: "Rotations hold, reflections do not.",
        symptom: "A paragraph that goes\nover two lines.\n\nAnother one.",
        cause: "One of:\n- a cross product\n  of two vectors\n- a sign\n\nOr both.",
        recognised: "1. look\n2. look again\n\n| det | holds |\n| --- | --- |\n| -1 | no |",
        fix: "In general.",
        fixes: vec![
            (Library::PyTorch, "Write:\n\n```python\n# a comment\nif x:\n    y = f(x)\n```\n\nDone."),
            (Library::E3nn, "- in a list:\n\n  ```python\n  irreps = \"1e\"\n  ```"),
        ],
        verify: "`equicheck audit`",
        text: "",
    }
}

#[test]
fn a_page_as_text() {
    insta::assert_snapshot!(page_to_text(&written(), None));
}

#[test]
fn one_library_alone() {
    let text = page_to_text(&written(), Some(Library::E3nn));
    assert_eq!(
        text,
        "parity\n======\nRotations hold, reflections do not.\n\nFIX:\n----\n\ne3nn:\n- in a list:\n\n    irreps = \"1e\"\n"
    );
    let text = page_to_text(&written(), Some(Library::Jax));
    assert!(
        text.ends_with("Nothing is written for JAX in particular. In general:\n\nIn general.\n"),
        "{text}"
    );
}

#[test]
fn every_page_can_be_shown_and_is_listed() {
    let list = modes_to_text();
    for mode in Mode::ALL {
        let text = page_to_text(page(*mode), None);
        for heading in ["SYMPTOM:", "CAUSE:", "HOW IT IS RECOGNISED:", "FIX:", "VERIFY:"] {
            assert!(text.lines().any(|line| line == heading), "{mode}: {heading}\n{text}");
        }
        assert!(!text.contains("```"), "{mode}");
        assert!(list.contains(&format!("- {mode}: ")), "{mode}");
    }
}
