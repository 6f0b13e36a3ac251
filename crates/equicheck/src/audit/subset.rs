//! A part of a sample: fewer elements of its sets, and the edges between what is kept.

use std::collections::BTreeMap;

use crate::model::Tensor;
use crate::symmetry::{BoundLayout, Selection};

/// What becomes of entries that point to something that is kept and to something that is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Torn {
    /// They go.
    Drop,
    /// There must be none.
    Refuse,
}

/// The tensors of one sample with their layouts and names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample<'a> {
    pub(crate) names: &'a [String],
    pub(crate) tensors: &'a [Tensor],
    pub(crate) layouts: &'a [Option<BoundLayout>],
}

impl<'a> Sample<'a> {
    /// Tensors that have a layout.
    pub(crate) fn described(self) -> impl Iterator<Item = (usize, &'a str, &'a Tensor, &'a BoundLayout)> {
        self.names
            .iter()
            .zip(self.tensors)
            .zip(self.layouts)
            .enumerate()
            .filter_map(|(k, ((name, tensor), layout))| Some((k, name.as_str(), tensor, layout.as_ref()?)))
    }
}

/// Kept positions by the name of the axis, in order.
pub(crate) type Members = BTreeMap<String, Vec<usize>>;

/// Completes `start` by the axes of index tensors: an edge is kept if all that it points to is.
///
/// # Errors
/// In words, what cannot be reduced.
pub(crate) fn complete(sample: Sample<'_>, start: Members, torn: Torn) -> Result<Members, String> {
    let mut members = start;
    // Positions may point along an axis that is itself kept in part because of other positions (triplets of edges).
    loop {
        let mut grown = false;
        for (_, name, tensor, layout) in sample.described() {
            let Some(values) = layout.layout().values() else { continue };
            let Some(kept) = members.get(&values.axis) else { continue };
            let Some(axis) = layout.axis_names().into_iter().find(|axis| *axis != values.axis) else {
                continue;
            };
            // A table with one row per kept element keeps or loses whole rows.
            let by_element = layout.axis_names().iter().any(|axis| members.contains_key(*axis));
            if by_element {
                continue;
            }
            let [at] = layout.positions(axis)[..] else {
                return Err(format!("input `{name}` has `{axis}` twice"));
            };
            let length = layout.length(at);
            let real = layout.expand(&tensor.to_real());
            let targets = targets(kept, length_of(sample, &values.axis));
            let mut kept_entries = Vec::new();
            for entry in 0..length {
                let (mut inside, mut outside) = (0, 0);
                for value in real.index_axis(ndarray::Axis(at), entry) {
                    match position(*value, targets.len(), values.sentinel).map(|v| targets[v]) {
                        Some(Some(_)) => inside += 1,
                        Some(None) => outside += 1,
                        None => {}
                    }
                }
                if outside == 0 {
                    kept_entries.push(entry);
                } else if inside > 0 && torn == Torn::Refuse {
                    return Err(format!(
                        "entry {entry} along `{axis}` of input `{name}` joins different parts of `{}`",
                        values.axis
                    ));
                }
            }
            members.insert(axis.to_owned(), kept_entries);
            grown = true;
        }
        if !grown {
            break;
        }
    }
    // Integers whose meaning no layout states could count or index what goes.
    for (k, (name, tensor)) in sample.names.iter().zip(sample.tensors).enumerate() {
        let known = sample.layouts[k].as_ref().is_some_and(|layout| {
            layout.layout().values().is_some()
                || layout.axis_names().iter().any(|axis| members.contains_key(*axis))
        });
        if !known && tensor.map_integers(|v| v).is_some() && !tensor.shape().is_empty() {
            return Err(format!(
                "input `{name}` holds integers, and its layout does not say whether they count or point to what is \
                 left out"
            ));
        }
    }
    Ok(members)
}

/// The tensors with the kept entries alone, positions counted among them.
///
/// # Errors
/// A table of positions that point to what is left out, and that has no value for "none".
pub(crate) fn take(sample: Sample<'_>, members: &Members) -> Result<Vec<Tensor>, String> {
    let mut taken = sample.tensors.to_vec();
    for (k, name, tensor, layout) in sample.described() {
        let mut reduced = layout.take(tensor, &selections(layout, members));
        if let Some(values) = layout.layout().values()
            && let Some(kept) = members.get(&values.axis)
        {
            let targets = targets(kept, length_of(sample, &values.axis));
            // For a position: its place among what is kept, if it is.
            let target = |v: i64| position(v as f64, targets.len(), values.sentinel).map(|v| targets[v]);
            let lost = reduced.to_real().iter().any(|v| target(*v as i64) == Some(None));
            if lost && values.sentinel.is_none() {
                return Err(format!(
                    "input `{name}` points to what is left out, and its layout has no value for none (`: {} | -1`)",
                    values.axis
                ));
            }
            let none = values.sentinel.unwrap_or(0);
            let relabel = |v: i64| match target(v) {
                Some(Some(new)) => new as i64,
                Some(None) => none,
                None => v,
            };
            if let Some(relabelled) = reduced.map_integers(relabel) {
                reduced = relabelled;
            }
        }
        taken[k] = reduced;
    }
    Ok(taken)
}

/// What `members` keep along the axes of one tensor.
pub(crate) fn selections(layout: &BoundLayout, members: &Members) -> Vec<Selection> {
    let along = |(axis, index): (&String, &Vec<usize>)| {
        layout.positions(axis).into_iter().map(move |at| (at, index.clone())).collect::<Vec<_>>()
    };
    members.iter().flat_map(along).collect()
}

/// Length of the axis of this name; 0 if no tensor has it.
pub(crate) fn length_of(sample: Sample<'_>, axis: &str) -> usize {
    sample
        .described()
        .find_map(|(_, _, _, layout)| layout.positions(axis).first().map(|at| layout.length(*at)))
        .unwrap_or(0)
}

/// By position: its place among the kept ones.
fn targets(kept: &[usize], positions: usize) -> Vec<Option<usize>> {
    let mut targets = vec![None; positions];
    for (new, old) in kept.iter().enumerate() {
        if let Some(slot) = targets.get_mut(*old) {
            *slot = Some(new);
        }
    }
    targets
}

/// The position that a value stands for; `None` for sentinels and padding (METHOD 1).
pub(crate) fn position(value: f64, positions: usize, sentinel: Option<i64>) -> Option<usize> {
    let v = value as i64;
    usize::try_from(v).ok().filter(|v| *v < positions && sentinel != Some(value as i64))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::symmetry::{Group, Layout};

    const GROUP: &str = "E(3) x S(nodes)";

    fn layouts(texts: &[&str], tensors: &[Tensor]) -> Vec<Option<BoundLayout>> {
        let group = Group::parse(GROUP).unwrap();
        texts
            .iter()
            .zip(tensors)
            .map(|(text, tensor)| {
                let layout = Layout::parse(text, &group).unwrap();
                Some(BoundLayout::new(&layout, tensor.shape(), &group, "input").unwrap())
            })
            .collect()
    }

    fn kept(nodes: &[usize]) -> Members {
        [("nodes".to_owned(), nodes.to_vec())].into()
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|k| k.to_string()).collect()
    }

    #[test]
    fn edges_between_kept_nodes_stay_and_are_relabelled_and_their_features_go_along() {
        let tensors = [
            Tensor::Float64(array![10.0, 11.0, 12.0, 13.0].into_dyn()),
            Tensor::Int64(array![[0, 3, 1, 3], [3, 1, 2, 3]].into_dyn()),
            Tensor::Float32(array![[0.5_f32], [1.5], [2.5], [3.5]].into_dyn()),
        ];
        let layouts = layouts(&["nodes", "2 edges : nodes", "edges channel"], &tensors);
        let names = names(3);
        let sample = Sample { names: &names, tensors: &tensors, layouts: &layouts };
        let members = complete(sample, kept(&[1, 3]), Torn::Drop).unwrap();
        let taken = take(sample, &members).unwrap();
        assert_eq!(taken[0], Tensor::Float64(array![11.0, 13.0].into_dyn()));
        assert_eq!(taken[1], Tensor::Int64(array![[1, 1], [0, 1]].into_dyn()), "3 -> 1 and 3 -> 3");
        assert_eq!(taken[2], Tensor::Float32(array![[1.5_f32], [3.5]].into_dyn()));
        let torn = complete(sample, kept(&[1, 3]), Torn::Refuse).unwrap_err();
        assert_eq!(torn, "entry 0 along `edges` of input `1` joins different parts of `nodes`");
    }

    #[test]
    fn neighbour_tables_need_a_value_for_none() {
        let tensors = [
            Tensor::Float64(array![10.0, 11.0, 12.0].into_dyn()),
            Tensor::Int64(array![[1, 2], [0, -1], [0, -1]].into_dyn()),
        ];
        let names = names(2);
        for (text, expected) in
            [("nodes slots! : nodes | -1", Some(array![[1, -1], [0, -1]])), ("nodes slots! : nodes", None)]
        {
            let layouts = layouts(&["nodes", text], &tensors);
            let sample = Sample { names: &names, tensors: &tensors, layouts: &layouts };
            let members = complete(sample, kept(&[0, 1]), Torn::Drop).unwrap();
            let taken = take(sample, &members);
            match expected {
                Some(table) => assert_eq!(taken.unwrap()[1], Tensor::Int64(table.into_dyn())),
                None => assert!(taken.unwrap_err().contains("no value for none")),
            }
        }
    }

    #[test]
    fn integers_of_unknown_meaning_are_in_the_way() {
        let tensors =
            [Tensor::Float64(array![10.0, 11.0].into_dyn()), Tensor::Int64(array![1, 1].into_dyn())];
        let mut layouts = layouts(&["nodes", "nodes"], &tensors);
        layouts[1] = None;
        let names = names(2);
        let sample = Sample { names: &names, tensors: &tensors, layouts: &layouts };
        assert!(complete(sample, kept(&[0]), Torn::Drop).unwrap_err().contains("input `1` holds integers"));
    }
}
