//! Any text is read as a layout under any group or refused: what is read prints and reads back, an error points at
//! characters, and what fits a tensor is described and acts by the identity. Input: group, line break, layout.
#![no_main]

use std::collections::BTreeMap;
use std::rc::Rc;

use equicheck::Error;
use equicheck::model::Tensor;
use equicheck::symmetry::{BoundLayout, Element, Group, Layout, Representations, UserRepresentation};
use libfuzzer_sys::fuzz_target;
use ndarray::{Array2, ArrayD, IxDyn};

/// `@a`: the sign of the determinant, twice.
struct Signs;

impl UserRepresentation for Signs {
    fn name(&self) -> &str {
        "a"
    }

    fn matrix(&self, element: &Element) -> Result<ArrayD<f64>, Error> {
        Ok((Array2::eye(2) * element.determinant()).into_dyn())
    }
}

fuzz_target!(|text: &str| {
    let Some((group, layout)) = text.split_once('\n') else { return };
    let Ok(group) = Group::parse(group) else { return };
    let signs = Rc::new(Signs) as Rc<dyn UserRepresentation>;
    let table = Representations::new([signs]).expect("`a` is a name");
    match Layout::parse_with(layout, &group, &table, None) {
        Ok(read) => {
            let printed = read.to_string();
            let again = Layout::parse_with(&printed, &group, &table, None)
                .unwrap_or_else(|error| panic!("{layout:?} prints as {printed:?}: {error}"));
            assert_eq!(again, read, "{layout:?} prints as {printed:?}");
            assert_eq!(again.to_string(), printed, "{layout:?}");
            for length in [1, 2, 3, 5, 6] {
                let shape = vec![length; read.axes().len().min(5)];
                let Ok(bound) = BoundLayout::new(&read, &shape, &group, "x") else { continue };
                assert!(!bound.describe(&group).is_empty());
                let x = Tensor::Float64(ArrayD::from_elem(IxDyn(&shape), 0.5));
                let identity = Element::identity(group.dimension().unwrap_or(0), &BTreeMap::new());
                assert!(bound.act(&identity, &x).same_bits(&x), "{layout:?}");
            }
        }
        Err(error) => {
            assert_eq!(error.text, layout);
            assert!(layout.get(error.span.clone()).is_some(), "{:?} of {layout:?}", error.span);
            assert!(!error.to_string().is_empty());
        }
    }
});
