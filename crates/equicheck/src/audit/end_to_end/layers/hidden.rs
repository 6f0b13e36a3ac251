//! Tensors inside a pass: which is which in another pass, and how they transform.

use std::collections::BTreeMap;

use crate::Error;
use crate::error::most_alike;
use crate::model::{Trace, TracedLeaf};
use crate::report::{HiddenTensor, Origin};
use crate::symmetry::{BoundLayout, Layout};

use super::super::EndToEnd;
use super::{ABOVE_NOISE, Passes, change, error, value};

/// Layouts that are tried on a tensor, at most (METHOD 14: six sufficed).
const CANDIDATES: usize = 6;

/// How a hidden tensor transforms, and who says so.
#[derive(Debug, Clone)]
pub(super) struct Hidden {
    pub(super) layout: Layout,
    pub(super) origin: Origin,
}

/// Where a tensor first appears.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place<'a> {
    path: &'a str,
    number: usize,
    input: bool,
    leaf: &'a str,
}

/// By tensor of the trace.
pub(super) fn places(trace: &Trace) -> Vec<Option<Place<'_>>> {
    let mut places: Vec<Option<Place<'_>>> = vec![None; trace.tensors.len()];
    for (place, tensor) in all_places(trace) {
        places[tensor].get_or_insert(place);
    }
    places
}

fn all_places(trace: &Trace) -> impl Iterator<Item = (Place<'_>, usize)> {
    trace.calls.iter().flat_map(|call| {
        let inputs = call.inputs.iter().map(move |leaf| {
            (Place { path: &call.path, number: call.number, input: true, leaf: &leaf.name }, leaf.tensor)
        });
        let outputs = call.outputs.iter().map(move |leaf| {
            (Place { path: &call.path, number: call.number, input: false, leaf: &leaf.name }, leaf.tensor)
        });
        inputs.chain(outputs)
    })
}

/// The tensors of `trace` at the places of another pass.
pub(super) fn matched(places: &[Option<Place<'_>>], trace: &Trace) -> Vec<Option<usize>> {
    let there: BTreeMap<Place<'_>, usize> = all_places(trace).collect();
    places.iter().map(|place| there.get(place.as_ref()?).copied()).collect()
}

pub(super) fn described(leaf: &TracedLeaf, trace: &Trace, layouts: &[Option<Hidden>]) -> HiddenTensor {
    let tensor = &trace.tensors[leaf.tensor];
    let layout = layouts[leaf.tensor].as_ref().map(|hidden| (hidden.layout.to_string(), hidden.origin));
    HiddenTensor { name: leaf.name.clone(), shape: tensor.shape.clone(), dtype: tensor.dtype.clone(), layout }
}

impl EndToEnd<'_> {
    /// By tensor: declared, else as an input or output of the model, else by the library.
    pub(super) fn hidden_layouts(&self, trace: &Trace, sample: usize) -> Result<Vec<Option<Hidden>>, Error> {
        let mut found: Vec<Option<Hidden>> = vec![None; trace.tensors.len()];
        self.declared_layouts(trace, &mut found)?;
        if let Some(root) = trace.calls.first() {
            let inputs = self.specification.inputs();
            let outputs = self.specification.outputs();
            for (leaves, declared) in [(&root.inputs, inputs), (&root.outputs, outputs)] {
                for leaf in leaves {
                    let layout = declared.iter().find(|(name, _)| *name == leaf.name);
                    if let Some((_, Some(layout))) = layout {
                        found[leaf.tensor]
                            .get_or_insert(Hidden { layout: layout.clone(), origin: Origin::Model });
                    }
                }
            }
        }
        // What a module returns is told by that module; what it takes only where nobody else tells.
        let outputs = trace.calls.iter().flat_map(|call| &call.outputs);
        let inputs = trace.calls.iter().flat_map(|call| &call.inputs);
        for leaf in outputs.chain(inputs) {
            if found[leaf.tensor].is_some() {
                continue;
            }
            let Some(text) = &leaf.layout else { continue };
            let text = self.with_named_axes(text, &trace.tensors[leaf.tensor].shape, sample);
            if let Ok(layout) = self.parsed(&text) {
                found[leaf.tensor] = Some(Hidden { layout, origin: Origin::Library });
            }
        }
        Ok(found)
    }

    fn declared_layouts(&self, trace: &Trace, found: &mut [Option<Hidden>]) -> Result<(), Error> {
        let fail = |why: String| Error::Option { option: "hidden_layouts".to_owned(), why };
        for ((path, side, leaf), text) in &self.options.hidden_layouts {
            let calls = || trace.calls.iter().filter(|call| call.path == *path);
            if calls().next().is_none() {
                let paths = trace.calls.iter().map(|call| call.path.as_str());
                let nearest = most_alike(path, paths)
                    .map_or_else(String::new, |nearest| format!("; the nearest is `{nearest}`"));
                return Err(fail(format!("no module `{path}` is called{nearest}")));
            }
            let layout = self.parsed(text).map_err(|why| fail(format!("`{path}`: {why}")))?;
            for call in calls() {
                let leaves = if side == "in" { &call.inputs } else { &call.outputs };
                let named = leaves.iter().find(|other| other.name == *leaf);
                // One tensor needs no name.
                let only = || leaves.first().filter(|_| leaf.is_empty() && leaves.len() == 1);
                let Some(leaf) = named.or_else(only) else {
                    let names: Vec<String> = leaves.iter().map(|other| format!("`{}`", other.name)).collect();
                    return Err(fail(format!(
                        "`{path}` has no tensor `{leaf}` at \"{side}\": it has {}",
                        names.join(", ")
                    )));
                };
                let shape = &trace.tensors[leaf.tensor].shape;
                let what = format!("{side} of `{path}`");
                BoundLayout::new(&layout, shape, self.specification.group(), &what)?;
                found[leaf.tensor] = Some(Hidden { layout: layout.clone(), origin: Origin::Declared });
            }
        }
        Ok(())
    }

    fn parsed(&self, text: &str) -> Result<Layout, crate::error::ParseError> {
        let names: Vec<&str> = self.specification.inputs().iter().map(|(name, _)| name.as_str()).collect();
        Layout::parse_with(
            text,
            self.specification.group(),
            self.specification.representations(),
            Some(&names),
        )
    }

    /// Libraries leave leading axes open: one as long as a permuted axis, and as no other, is that axis.
    fn with_named_axes(&self, text: &str, shape: &[usize], sample: usize) -> String {
        let axes = &self.cases[sample].space.axes;
        let (Some(rest), false) = (text.strip_prefix("..."), axes.is_empty()) else { return text.to_owned() };
        let own =
            self.parsed(rest).map_or(1, |layout| layout.axes().iter().filter(|a| !a.is_weight()).count());
        let Some(leading) = shape.len().checked_sub(own) else { return text.to_owned() };
        let mut words: Vec<String> = Vec::new();
        for length in &shape[..leading] {
            let mut named = axes.iter().filter(|(_, n)| *n == length).map(|(name, _)| name);
            match (named.next(), named.next()) {
                (Some(name), None) if !words.contains(name) => words.push(name.clone()),
                _ => words.push(format!("axis{}!", words.len())),
            }
        }
        format!("{} {}", words.join(" "), rest.trim_start())
    }

    /// By tensor of the first sample's pass: the layout bound to the shape that it has in `trace`.
    pub(super) fn bound_hidden(
        &self,
        layouts: &[Option<Hidden>],
        here: &[Option<usize>],
        trace: &Trace,
        sample: usize,
    ) -> Vec<Option<BoundLayout>> {
        let case = &self.cases[sample];
        let known = self.named_lengths(&case.inputs);
        let lattices = self.lattices(&case.inputs, &case.layouts).unwrap_or_default();
        layouts
            .iter()
            .zip(here)
            .map(|(hidden, at)| {
                let shape = &trace.tensors[(*at)?].shape;
                let layout = &hidden.as_ref()?.layout;
                let group = self.specification.group();
                let bound = BoundLayout::with_lengths(layout, shape, group, "hidden", &known).ok()?;
                let bound = self.on_grid("hidden", bound, &case.space.grid);
                bound.in_lattices(&lattices, &case.space.segments, "hidden").ok()
            })
            .collect()
    }

    /// Layouts for tensors that have none: invariant, or that of another tensor of its shape, where all passes agree.
    /// Returns by tensor those that were tried in vain.
    pub(super) fn infer(
        &self,
        passes: &Passes,
        layouts: &mut [Option<Hidden>],
        sample: usize,
        roundoff: f64,
    ) -> Vec<Vec<Layout>> {
        let clean = &passes.clean;
        let places = places(clean);
        let mut by_shape: BTreeMap<&[usize], Vec<Layout>> = BTreeMap::new();
        for (hidden, tensor) in layouts.iter().zip(&clean.tensors) {
            let Some(hidden) = hidden else { continue };
            let of_shape = by_shape.entry(&tensor.shape).or_default();
            if !of_shape.contains(&hidden.layout) {
                of_shape.push(hidden.layout.clone());
            }
        }
        let mut in_vain = vec![Vec::new(); layouts.len()];
        let still = self.parsed("...").ok();
        let at_places = |trace: &Trace| matched(&places, trace);
        let quiet: Vec<_> = passes.quiet.iter().map(|trace| (trace, at_places(trace))).collect();
        let elements: Vec<_> = passes
            .moved
            .iter()
            .filter(|(probe, _)| !probe.permutes)
            .map(|(probe, trace)| (&probe.element, trace, at_places(trace)))
            .collect();
        for t in 0..layouts.len() {
            let Some(before) = value(clean, Some(t)) else { continue };
            if layouts[t].is_some() || !before.dtype().is_inexact() || elements.is_empty() {
                continue;
            }
            let fits = |layout: &Layout| {
                let bound = self.bound_hidden_as(layout, clean, t, sample);
                let Some(bound) = bound else { return false };
                let noise = quiet
                    .iter()
                    .filter_map(|(trace, at)| change(Some(&bound), None, Some(before), value(trace, at[t])))
                    .fold(2.0 * roundoff, f64::max);
                elements.iter().all(|(element, trace, at)| {
                    error(&bound, None, element, before, value(trace, at[t]))
                        .is_some_and(|error| error <= ABOVE_NOISE * noise)
                })
            };
            if let Some(layout) = still.clone().filter(|layout| fits(layout)) {
                layouts[t] = Some(Hidden { layout, origin: Origin::Invariant });
                continue;
            }
            let known = by_shape.get(clean.tensors[t].shape.as_slice()).map_or(&[][..], Vec::as_slice);
            let tried = &known[..known.len().min(CANDIDATES)];
            match tried.iter().find(|layout| fits(layout)) {
                Some(layout) => {
                    layouts[t] = Some(Hidden { layout: layout.clone(), origin: Origin::Inferred });
                }
                None => in_vain[t] = tried.to_vec(),
            }
        }
        in_vain
    }

    /// A layout bound to the shape of a tensor.
    pub(super) fn bound_hidden_as(
        &self,
        layout: &Layout,
        trace: &Trace,
        tensor: usize,
        sample: usize,
    ) -> Option<BoundLayout> {
        let hidden = Some(Hidden { layout: layout.clone(), origin: Origin::Inferred });
        self.bound_hidden(&[hidden], &[Some(tensor)], trace, sample).pop()?
    }
}
