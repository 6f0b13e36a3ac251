//! Batches taken apart and put together: entries along a `batch` axis, or graphs whose nodes lie one behind the other.

use std::collections::BTreeMap;

use crate::model::Tensor;
use crate::symmetry::{BoundLayout, Selection};

use super::subset::{self, Members, Sample, Torn};

/// Names of axes with one entry per graph.
const PER_GRAPH: [&str; 2] = ["batch", "graphs"];

/// What the entries of a batch are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Batch {
    /// Entries along the axes of this name.
    Axis {
        /// `batch` or `graphs`.
        name: &'static str,
        count: usize,
    },
    /// Graphs: by graph, what belongs to it along each axis.
    Graphs { members: Vec<Members>, labels: Vec<usize> },
}

impl Batch {
    /// What the sample's entries are; `segments` are permuted axis -> input with its labels.
    ///
    /// # Errors
    /// In words, why the sample cannot be taken apart.
    pub(crate) fn of(sample: Sample<'_>, segments: &BTreeMap<String, String>) -> Result<Self, String> {
        if !segments.is_empty() {
            return Self::graphs(sample, segments);
        }
        let lengths = |axis: &str| -> Vec<usize> {
            sample
                .described()
                .flat_map(|(_, _, _, layout)| {
                    layout.positions(axis).into_iter().map(|at| layout.length(at)).collect::<Vec<_>>()
                })
                .collect()
        };
        let found = PER_GRAPH.into_iter().find_map(|name| {
            let found = lengths(name);
            (!found.is_empty()).then_some((name, found))
        });
        let Some((name, found)) = found else {
            return Err("no input has a `batch` axis, and no `segments=` are given".to_owned());
        };
        if found.iter().any(|n| *n != found[0]) {
            return Err(format!("the inputs' `{name}` axes differ in length"));
        }
        if name == "graphs" {
            // A set that is not split along `graphs` is split by labels that nobody named.
            let apart = sample.described().find(|(_, _, _, layout)| {
                layout.positions(name).is_empty() && layout.permuted_lengths().next().is_some()
            });
            if let Some((_, input, ..)) = apart {
                return Err(format!(
                    "which entries of input `{input}` belong to which graph is not known: give `segments=`"
                ));
            }
        }
        Ok(Batch::Axis { name, count: found[0] })
    }

    fn graphs(sample: Sample<'_>, segments: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut by_label: BTreeMap<usize, Members> = BTreeMap::new();
        for (axis, input) in segments {
            let Some(tensor) = sample.names.iter().position(|name| name == input).map(|k| &sample.tensors[k])
            else {
                return Err(format!("no input `{input}`"));
            };
            for (i, label) in tensor.to_real().iter().enumerate() {
                let label = usize::try_from(*label as i64)
                    .map_err(|_| format!("input `{input}` holds the label {label}"))?;
                by_label.entry(label).or_default().entry(axis.clone()).or_default().push(i);
            }
        }
        let labels: Vec<usize> = by_label.keys().copied().collect();
        for (_, name, _, layout) in sample.described() {
            for axis in PER_GRAPH {
                for at in layout.positions(axis) {
                    if labels.iter().any(|label| *label >= layout.length(at)) {
                        return Err(format!(
                            "input `{name}` has {} entries along `{axis}`, and labels run up to {}",
                            layout.length(at),
                            labels.last().copied().unwrap_or(0)
                        ));
                    }
                }
            }
        }
        let members = by_label
            .into_iter()
            .map(|(label, mut own)| {
                for axis in segments.keys() {
                    own.entry(axis.clone()).or_default();
                }
                let mut members = subset::complete(sample, own, Torn::Refuse)?;
                for axis in PER_GRAPH {
                    members.entry(axis.to_owned()).or_insert_with(|| vec![label]);
                }
                Ok(members)
            })
            .collect::<Result<Vec<_>, String>>()?;
        let several = |layout: &BoundLayout| {
            let own = layout.axis_names().into_iter().filter(|axis| members[0].contains_key(*axis));
            own.map(|axis| layout.positions(axis).len()).sum::<usize>() > 1
        };
        if let Some((_, name, ..)) = sample.described().find(|(.., layout)| several(layout)) {
            return Err(format!("input `{name}` has several axes of which each graph holds a part"));
        }
        Ok(Batch::Graphs { members, labels })
    }

    /// What the entries are called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Batch::Axis { name, .. } => name,
            Batch::Graphs { .. } => "graphs",
        }
    }

    /// How many entries there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Batch::Axis { count, .. } => *count,
            Batch::Graphs { members, .. } => members.len(),
        }
    }

    /// The batch of these entries, in this order; an entry may come more than once.
    ///
    /// # Errors
    /// In words, what cannot be put together.
    pub(crate) fn inputs(
        &self,
        sample: Sample<'_>,
        segments: &BTreeMap<String, String>,
        order: &[usize],
    ) -> Result<Vec<Tensor>, String> {
        match self {
            Batch::Axis { name, .. } => subset::take(sample, &[((*name).to_owned(), order.to_vec())].into()),
            Batch::Graphs { members, .. } => {
                let mut joined: Option<Vec<Tensor>> = None;
                let mut offsets: BTreeMap<&str, i64> = BTreeMap::new();
                for (copy, entry) in order.iter().enumerate() {
                    let own = &members[*entry];
                    let mut alone = subset::take(sample, own)?;
                    for (k, name, _, layout) in sample.described() {
                        if segments.values().any(|input| input == name) {
                            alone[k] = filled(&alone[k], copy as i64);
                        } else if let Some(values) = layout.layout().values() {
                            let offset = offsets.get(values.axis.as_str()).copied().unwrap_or(0);
                            let n = own.get(&values.axis).map_or(0, Vec::len) as i64;
                            let shift = |v: i64| {
                                if (0..n).contains(&v) && values.sentinel != Some(v) { v + offset } else { v }
                            };
                            if let Some(shifted) = alone[k].map_integers(shift) {
                                alone[k] = shifted;
                            }
                        }
                    }
                    for (axis, kept) in own {
                        *offsets.entry(axis).or_default() += kept.len() as i64;
                    }
                    joined = Some(match joined {
                        None => alone,
                        Some(before) => self.join(sample, &before, &alone)?,
                    });
                }
                joined.ok_or_else(|| "no graph was chosen".to_owned())
            }
        }
    }

    /// Two batches one behind the other.
    ///
    /// # Errors
    /// In words, what does not fit together.
    pub(crate) fn join(
        &self,
        sample: Sample<'_>,
        first: &[Tensor],
        second: &[Tensor],
    ) -> Result<Vec<Tensor>, String> {
        let split = |layout: &BoundLayout| match self {
            Batch::Axis { name, .. } => layout.positions(name).first().copied(),
            Batch::Graphs { members, .. } => {
                subset::selections(layout, &members[0]).first().map(|(at, _)| *at)
            }
        };
        first
            .iter()
            .zip(second)
            .enumerate()
            .map(|(k, (a, b))| {
                let name = &sample.names[k];
                match sample.layouts[k].as_ref().and_then(|layout| Some((layout, split(layout)?))) {
                    Some((layout, at)) => layout.join(a, b, at).ok_or_else(|| {
                        format!("input `{name}` has shapes {:?} and {:?}", a.shape(), b.shape())
                    }),
                    None if a.same_bits(b) => Ok(a.clone()),
                    None => Err(format!("input `{name}` has no `{}` axis and differs", self.name())),
                }
            })
            .collect()
    }

    /// The batch of another sample behind the sample's own: its labels and positions count on.
    ///
    /// # Errors
    /// In words, what does not fit together.
    pub(crate) fn append(
        &self,
        sample: Sample<'_>,
        segments: &BTreeMap<String, String>,
        second: &[Tensor],
    ) -> Result<Vec<Tensor>, String> {
        let Batch::Graphs { labels, .. } = self else { return self.join(sample, sample.tensors, second) };
        let next = labels.last().map_or(0, |label| *label as i64 + 1);
        let mut second = second.to_vec();
        for (k, name, _, layout) in sample.described() {
            let shifted = if segments.values().any(|input| input == name) {
                second[k].map_integers(|v| v + next)
            } else if let Some(values) = layout.layout().values() {
                let n = subset::length_of(sample, &values.axis) as i64;
                second[k].map_integers(|v| if v < 0 || values.sentinel == Some(v) { v } else { v + n })
            } else {
                None
            };
            if let Some(shifted) = shifted {
                second[k] = shifted;
            }
        }
        self.join(sample, sample.tensors, &second)
    }

    /// Where the entry at `position` of the batch in this order may lie along an axis of such a length: one list of places
    /// for each way in which entries may be laid along it, in the same order for all lengths.
    pub(crate) fn blocks(&self, length: usize, order: &[usize], position: usize) -> Vec<Option<Vec<usize>>> {
        match self {
            Batch::Axis { .. } => {
                let (n, own) = (order.len(), length / order.len());
                let fits = own > 0 && length == own * n;
                // One entry behind the other, or what they have at one place.
                let behind = fits.then(|| (position * own..(position + 1) * own).collect());
                let between = fits.then(|| (position..length).step_by(n).collect());
                vec![behind, between]
            }
            Batch::Graphs { members, .. } => {
                let along = |axis: &String| {
                    let own = |entry: &usize| members[*entry].get(axis).map_or(0, Vec::len);
                    let start: usize = order[..position].iter().map(own).sum();
                    let total: usize = order.iter().map(own).sum();
                    let end = start + own(&order[position]);
                    (total == length && start < end).then(|| (start..end).collect())
                };
                members[0].keys().map(along).collect()
            }
        }
    }

    /// Where an output's entries for this order are found in its value for the whole batch; `None` for an output
    /// that is not split by entry.
    pub(crate) fn of_output(&self, layout: &BoundLayout, order: &[usize]) -> Option<Vec<Selection>> {
        if layout.layout().values().is_some() {
            return None;
        }
        let mut kept = Members::new();
        match self {
            Batch::Axis { name, .. } => {
                kept.insert((*name).to_owned(), order.to_vec());
            }
            Batch::Graphs { members, .. } => {
                for entry in order {
                    for (axis, own) in &members[*entry] {
                        kept.entry(axis.clone()).or_default().extend(own);
                    }
                }
            }
        }
        let selections = subset::selections(layout, &kept);
        let fits = |(at, index): &Selection| index.iter().all(|i| *i < layout.length(*at));
        // Nodes by nodes of a batch has blocks off the diagonal that a graph alone knows nothing of.
        (selections.len() == 1 && selections.iter().all(fits)).then_some(selections)
    }
}

/// A tensor of the same shape and integer type with one value throughout.
fn filled(tensor: &Tensor, value: i64) -> Tensor {
    tensor.map_integers(|_| value).unwrap_or_else(|| tensor.clone())
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, array};

    use super::*;
    use crate::symmetry::{Group, Layout};

    const NAMES: [&str; 5] = ["x", "edges", "weight", "batch", "cell"];

    fn names() -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    fn bound(text: &str, shape: &[usize]) -> BoundLayout {
        let group = Group::parse("E(3) x S(nodes)").unwrap();
        let known = [("graphs".to_owned(), 2)].into();
        let layout = Layout::parse(text, &group).unwrap();
        BoundLayout::with_lengths(&layout, shape, &group, "input", &known).unwrap()
    }

    /// Two graphs: nodes 0 1 2 and 3 4, edges within each.
    fn graphs() -> (Vec<Tensor>, Vec<Option<BoundLayout>>, BTreeMap<String, String>) {
        let tensors = vec![
            Tensor::Float64(array![10.0, 11.0, 12.0, 20.0, 21.0].into_dyn()),
            Tensor::Int64(array![[0, 2, 1, 4], [1, 0, -1, 3]].into_dyn()),
            Tensor::Float32(array![0.5_f32, 1.5, 2.5, 3.5].into_dyn()),
            Tensor::Int32(array![0, 0, 0, 1, 1].into_dyn()),
            Tensor::Float64(ArrayD::from_shape_fn(vec![6, 3], |i| (3 * i[0] + i[1]) as f64)),
        ];
        let texts = ["nodes", "2 edges : nodes | -1", "edges", "nodes", "(graphs 3) vector"];
        let layouts = texts.iter().zip(&tensors).map(|(text, t)| Some(bound(text, t.shape()))).collect();
        (tensors, layouts, [("nodes".to_owned(), "batch".to_owned())].into())
    }

    #[test]
    fn graphs_are_taken_apart_and_put_together_in_another_order() {
        let (tensors, layouts, segments) = graphs();
        let names = names();
        let sample = Sample { names: &names, tensors: &tensors, layouts: &layouts };
        let batch = Batch::of(sample, &segments).unwrap();
        assert_eq!((batch.count(), batch.name()), (2, "graphs"));
        let second = batch.inputs(sample, &segments, &[1]).unwrap();
        assert_eq!(second[0], Tensor::Float64(array![20.0, 21.0].into_dyn()));
        assert_eq!(second[1], Tensor::Int64(array![[1], [0]].into_dyn()));
        assert_eq!(second[2], Tensor::Float32(array![3.5_f32].into_dyn()));
        assert_eq!(second[3], Tensor::Int32(array![0, 0].into_dyn()));
        assert_eq!(second[4].to_real()[[0, 0]], 9.0, "the second cell");
        assert_eq!(second[4].shape(), [3, 3]);
        let swapped = batch.inputs(sample, &segments, &[1, 0]).unwrap();
        assert_eq!(swapped[0], Tensor::Float64(array![20.0, 21.0, 10.0, 11.0, 12.0].into_dyn()));
        assert_eq!(swapped[1], Tensor::Int64(array![[1, 2, 4, 3], [0, 3, 2, -1]].into_dyn()));
        assert_eq!(swapped[3], Tensor::Int32(array![0, 0, 1, 1, 1].into_dyn()));
        let twice = batch.inputs(sample, &segments, &[1, 1]).unwrap();
        assert_eq!(twice[1], Tensor::Int64(array![[1, 3], [0, 2]].into_dyn()));
        assert_eq!(twice[3], Tensor::Int32(array![0, 0, 1, 1].into_dyn()));
        // In the order as it was given nothing changes, bit for bit.
        assert_eq!(batch.inputs(sample, &segments, &[0, 1]).unwrap(), tensors);
    }

    #[test]
    fn entries_of_outputs_are_found_where_their_graphs_are() {
        let (tensors, layouts, segments) = graphs();
        let names = names();
        let sample = Sample { names: &names, tensors: &tensors, layouts: &layouts };
        let batch = Batch::of(sample, &segments).unwrap();
        let of = |text: &str, shape: &[usize]| batch.of_output(&bound(text, shape), &[1, 0]);
        assert_eq!(of("nodes vector", &[5, 3]), Some(vec![(0, vec![3, 4, 0, 1, 2])]));
        assert_eq!(of("channel graphs", &[7, 2]), Some(vec![(1, vec![1, 0])]));
        assert_eq!(of("batch", &[2]), Some(vec![(0, vec![1, 0])]));
        assert_eq!(of("vector", &[3]), None, "a sum over the batch");
        assert_eq!(of("nodes nodes", &[5, 5]), None);
        assert_eq!(of("graphs", &[1]), None, "no entry for the second graph");
    }

    #[test]
    fn a_second_sample_counts_on() {
        let (tensors, layouts, segments) = graphs();
        let names = names();
        let sample = Sample { names: &names, tensors: &tensors, layouts: &layouts };
        let joined = Batch::of(sample, &segments).unwrap().append(sample, &segments, &tensors).unwrap();
        assert_eq!(joined[3], Tensor::Int32(array![0, 0, 0, 1, 1, 2, 2, 2, 3, 3].into_dyn()));
        let edges = array![[0, 2, 1, 4, 5, 7, 6, 9], [1, 0, -1, 3, 6, 5, -1, 8]];
        assert_eq!(joined[1], Tensor::Int64(edges.into_dyn()));
    }

    #[test]
    fn what_cannot_be_taken_apart_says_why() {
        let (mut tensors, layouts, segments) = graphs();
        let names = names();
        tensors[1] = Tensor::Int64(array![[0, 2, 1, 4], [1, 3, -1, 3]].into_dyn());
        let why = |tensors: &[Tensor], layouts: &[Option<BoundLayout>], segments| {
            Batch::of(Sample { names: &names[..tensors.len()], tensors, layouts }, segments).unwrap_err()
        };
        assert_eq!(
            why(&tensors, &layouts, &segments),
            "entry 1 along `edges` of input `edges` joins different parts of `nodes`"
        );
        let none = BTreeMap::new();
        assert_eq!(
            why(&tensors, &layouts, &none),
            "which entries of input `x` belong to which graph is not known: give `segments=`"
        );
        assert_eq!(
            why(&tensors[..1], &layouts[..1], &none),
            "no input has a `batch` axis, and no `segments=` are given"
        );
        let two = [tensors[0].clone(), Tensor::Float64(array![1.0].into_dyn())];
        let unequal = [Some(bound("batch", &[5])), Some(bound("batch", &[1]))];
        assert_eq!(why(&two, &unequal, &none), "the inputs' `batch` axes differ in length");
    }
}
