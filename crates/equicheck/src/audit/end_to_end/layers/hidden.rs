//! Tensors inside a pass: which is which in another pass, and how they transform.

use std::collections::BTreeMap;

use crate::Error;
use crate::error::most_alike;
use crate::model::{Trace, TracedLeaf};
use crate::report::{HiddenTensor, Origin};
use crate::symmetry::grid::Domain;
use crate::symmetry::{Axis, BoundLayout, GRID_AXES, Lattice, Layout};

use super::super::EndToEnd;
use super::infer;

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

    pub(super) fn parsed(&self, text: &str) -> Result<Layout, crate::error::ParseError> {
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
        let (known, lattices) = self.told_by_inputs(sample);
        layouts
            .iter()
            .zip(here)
            .map(|(hidden, at)| {
                let shape = &trace.tensors[(*at)?].shape;
                self.bound_knowing(&hidden.as_ref()?.layout, shape, sample, (&known, &lattices))
            })
            .collect()
    }

    /// A layout bound to the shape of a tensor of a sample's pass.
    pub(in super::super) fn bound_to(
        &self,
        layout: &Layout,
        shape: &[usize],
        sample: usize,
    ) -> Option<BoundLayout> {
        let (known, lattices) = self.told_by_inputs(sample);
        self.bound_knowing(layout, shape, sample, (&known, &lattices))
    }

    /// Lengths of named axes, and lattices: what layouts are bound with.
    pub(super) fn told_by_inputs(
        &self,
        sample: usize,
    ) -> (BTreeMap<String, usize>, BTreeMap<String, Lattice>) {
        let case = &self.cases[sample];
        let lattices = self.lattices(&case.inputs, &case.layouts).unwrap_or_default();
        (self.named_lengths(&case.inputs), lattices)
    }

    pub(super) fn bound_knowing(
        &self,
        layout: &Layout,
        shape: &[usize],
        sample: usize,
        (known, lattices): (&BTreeMap<String, usize>, &BTreeMap<String, Lattice>),
    ) -> Option<BoundLayout> {
        let case = &self.cases[sample];
        let group = self.specification.group();
        let bound = BoundLayout::with_lengths(layout, shape, group, "hidden", known).ok()?;
        let bound = if case.space.periodic {
            bound.on_grid(Domain::Periodic, self.options.interpolation, &case.space.grid)
        } else {
            self.on_grid("hidden", bound, &case.space.grid)
        };
        // An axis that was taken for another in the first sample.
        let lengths = &case.space.axes;
        if bound.permuted_lengths().any(|(name, n)| lengths.get(name).is_some_and(|own| *own != n)) {
            return None;
        }
        bound.in_lattices(lattices, &case.space.segments, "hidden").ok()
    }

    /// Axes that the group permutes, and their lengths in a sample.
    pub(in super::super) fn permuted_lengths_of(&self, sample: usize) -> Vec<(String, usize)> {
        let axes = &self.cases[sample].space.axes;
        axes.iter().map(|(name, n)| (name.clone(), *n)).collect()
    }

    /// Where the grid of the inputs may be in a tensor, at this or a coarser or finer resolution: last axes first.
    pub(super) fn grids_on(&self, shape: &[usize], sample: usize) -> Vec<Vec<Axis>> {
        let grid = &self.cases[sample].space.grid;
        let names: Vec<(&str, usize)> =
            GRID_AXES.iter().filter_map(|name| Some((*name, *grid.get(*name)?))).collect();
        let Some(last) = shape.len().checked_sub(names.len()).filter(|_| !names.is_empty()) else {
            return Vec::new();
        };
        let fits = |own: usize, of: usize| {
            own > 0 && of > 0 && (of.div_ceil(own) * own == of || own.div_ceil(of) * of == own)
        };
        (0..=last)
            .rev()
            .filter(|start| {
                names.iter().zip(&shape[*start..]).all(|((_, of), own)| *own > 1 && fits(*own, *of))
            })
            .map(|start| {
                let mut axes = infer::plain(shape);
                for (k, (name, _)) in names.iter().enumerate() {
                    axes[start + k] = Axis::Grid((*name).to_owned());
                }
                axes
            })
            .collect()
    }
}
