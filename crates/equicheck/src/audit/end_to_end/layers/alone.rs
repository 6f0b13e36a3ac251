//! Module calls by themselves: those whose tensors all have layouts, to be called again on other inputs.

use std::collections::BTreeMap;

use crate::Error;
use crate::model::{CallError, Tensor, Trace, TracedLeaf, Tracing};
use crate::symmetry::{BoundLayout, Element};

use super::super::EndToEnd;
use super::matching::is_known;
use super::{Figures, Passes, Reference, error, noise_of};

/// A tensor of such a call.
#[derive(Clone, Copy)]
pub(super) struct Leaf<'a> {
    /// Its number in the reference's pass.
    pub(super) tensor: usize,
    pub(super) value: &'a Tensor,
    /// How it transforms; whole numbers may lack it.
    pub(super) layout: Option<&'a BoundLayout>,
}

impl Leaf<'_> {
    /// As an element moves it.
    pub(super) fn acted(&self, element: &Element) -> Tensor {
        self.layout.map_or_else(|| self.value.clone(), |layout| layout.act(element, self.value))
    }
}

/// A module call whose tensors are all known, with values.
pub(super) struct Alone<'a> {
    /// Position in the reference's pass.
    pub(super) row: usize,
    /// Position in the pass that is kept.
    pub(super) position: usize,
    pub(super) inputs: Vec<Leaf<'a>>,
    pub(super) outputs: Vec<Leaf<'a>>,
}

impl<'a> Alone<'a> {
    /// All calls of this kind but the root, in the order in which they began. `here` and `bound` are by tensor of the
    /// reference's pass: the tensor of the clean pass, and its layout.
    pub(super) fn all(
        reference: &Trace,
        clean: &'a Trace,
        here: &[Option<usize>],
        bound: &'a [Option<BoundLayout>],
    ) -> Vec<Self> {
        let positions: BTreeMap<(&str, usize), usize> =
            clean.calls.iter().enumerate().map(|(k, call)| ((call.path.as_str(), call.number), k)).collect();
        let leaves = |leaves: &[TracedLeaf]| -> Option<Vec<Leaf<'a>>> {
            let known = leaves.iter().map(|leaf| {
                let value = clean.tensors[here[leaf.tensor]?].values.as_ref()?;
                let layout = bound[leaf.tensor].as_ref();
                let judged = layout.is_some() || !value.dtype().is_inexact();
                judged.then_some(Leaf { tensor: leaf.tensor, value, layout })
            });
            known.collect()
        };
        let calls = reference.calls.iter().enumerate().skip(1);
        calls
            .filter_map(|(row, call)| {
                let position = *positions.get(&(call.path.as_str(), call.number))?;
                let (inputs, outputs) = (leaves(&call.inputs)?, leaves(&call.outputs)?);
                (!outputs.is_empty()).then_some(Self { row, position, inputs, outputs })
            })
            .collect()
    }

    /// Its own inputs, as they were or acted on.
    pub(super) fn inputs(&self, element: Option<&Element>) -> Vec<Tensor> {
        let acted = |leaf: &Leaf<'_>| element.map_or_else(|| leaf.value.clone(), |g| leaf.acted(g));
        self.inputs.iter().map(acted).collect()
    }

    /// The largest error of what it returned on inputs that were acted on; `None` without layouts.
    pub(super) fn error(&self, element: &Element, returned: &[Tensor]) -> Option<f64> {
        let errors = self.outputs.iter().zip(returned).filter_map(|(leaf, after)| {
            Some(error(leaf.layout?, None, element, leaf.value, Some(after)).unwrap_or(f64::INFINITY))
        });
        errors.reduce(f64::max)
    }

    /// Whether the element says how every axis of its tensors moves.
    pub(super) fn knows(&self, element: &Element) -> bool {
        self.leaves().filter_map(|leaf| leaf.layout).all(|layout| is_known(layout, element))
    }

    /// Inputs and outputs.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf<'a>> {
        self.inputs.iter().chain(&self.outputs)
    }
}

/// What the passes over one sample showed of all tensors.
pub(super) struct Scene<'a> {
    pub(super) reference: &'a Reference,
    pub(super) passes: &'a Passes,
    pub(super) figures: &'a [Figures],
    pub(super) sample: usize,
    pub(super) wide: bool,
}

impl Scene<'_> {
    /// What rounding explains of a call's outputs, relative.
    pub(super) fn noise(&self, call: &Alone<'_>) -> f64 {
        noise_of(&self.reference.trace.calls[call.row].outputs, self.figures)
    }
}

impl EndToEnd<'_> {
    /// What the module gives on other inputs; nothing where it raises or gives something else.
    pub(super) fn again(
        &mut self,
        tracing: &mut dyn Tracing,
        call: &Alone<'_>,
        inputs: &[Tensor],
    ) -> Result<Option<Vec<Tensor>>, Error> {
        self.replayed(tracing, call.position, inputs, call.outputs.len())
    }

    /// The same of any call of the pass that is kept, which gave so many tensors.
    pub(in super::super) fn replayed(
        &mut self,
        tracing: &mut dyn Tracing,
        position: usize,
        inputs: &[Tensor],
        outputs: usize,
    ) -> Result<Option<Vec<Tensor>>, Error> {
        self.calls.count("replays of modules");
        match tracing.replay(position, inputs) {
            Ok(tensors) if tensors.len() == outputs => Ok(Some(tensors)),
            Ok(_) | Err(CallError::Raised(_)) => Ok(None),
            Err(CallError::Interrupted) => Err(Error::Interrupted),
        }
    }
}
