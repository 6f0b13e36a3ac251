//! Calls of one module that come in another order over T x: a network called on each turned copy of its input, as group
//! averaging does, or on a list of frames.

use std::collections::BTreeMap;

use super::value;
use crate::model::{ModuleCall, Trace};

/// Most calls that are compared each with each.
const MOST: usize = 64;

/// Gives the calls of `moved` the numbers of those of `clean` with the same inputs, up to the order of their entries;
/// `tolerance` is relative. Where no such order is found, calls keep the one in which they were made.
pub(super) fn put_in_order(clean: &Trace, moved: &mut Trace, tolerance: f64) {
    let (by_parent, others) = (children(clean), children(moved));
    // By call of `clean`: that of `moved`.
    let mut there: Vec<Option<usize>> = vec![None; clean.calls.len()];
    if let (Some(root), false) = (there.first_mut(), moved.calls.is_empty()) {
        *root = Some(0);
    }
    let mut changed = false;
    // Parents come before what they call.
    for ((parent, path), calls) in &by_parent {
        let Some(found) = there[*parent].and_then(|parent| others.get(&(parent, *path))) else { return };
        if found.len() != calls.len() {
            return;
        }
        let order = (2..=MOST).contains(&calls.len()).then(|| order(clean, calls, moved, found, tolerance));
        let order = order.flatten().unwrap_or_else(|| (0..calls.len()).collect());
        for (call, k) in calls.iter().zip(order) {
            there[*call] = Some(found[k]);
            changed |= clean.calls[*call].number != moved.calls[found[k]].number;
        }
    }
    if !changed || moved.calls.len() != clean.calls.len() {
        return;
    }
    for (call, there) in clean.calls.iter().zip(there) {
        if let Some(there) = there {
            moved.calls[there].number = call.number;
        }
    }
}

/// The number that the host knows a call by: how many of the module were made before it.
pub(super) fn executed(trace: &Trace, call: &ModuleCall) -> usize {
    let mut same = trace.calls.iter().filter(|other| other.path == call.path);
    same.position(|other| other.number == call.number).unwrap_or(call.number)
}

/// The same numbers as in another pass over the same T x.
pub(super) fn put_in_order_of(moved: &Trace, trace: &mut Trace) {
    let alike = moved.calls.len() == trace.calls.len()
        && moved.calls.iter().zip(&trace.calls).all(|(a, b)| a.path == b.path);
    if alike {
        for (call, other) in trace.calls.iter_mut().zip(&moved.calls) {
            call.number = other.number;
        }
    }
}

/// By parent and module: the calls, in the order in which they began.
fn children(trace: &Trace) -> BTreeMap<(usize, &str), Vec<usize>> {
    let mut found: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
    for (k, call) in trace.calls.iter().enumerate() {
        if let Some(parent) = call.parent {
            found.entry((parent, call.path.as_str())).or_default().push(k);
        }
    }
    found
}

/// For each of `calls`, which of `others` has its inputs; `None` where they have those of their own numbers, or do not
/// come in pairs.
fn order(
    clean: &Trace,
    calls: &[usize],
    moved: &Trace,
    others: &[usize],
    tolerance: f64,
) -> Option<Vec<usize>> {
    let mut before: Vec<Vec<f64>> = calls.iter().map(|k| entries(clean, *k)).collect::<Option<_>>()?;
    let mut after: Vec<Vec<f64>> = others.iter().map(|k| entries(moved, *k)).collect::<Option<_>>()?;
    // In place; else by size, so that permutations leave them as they are.
    paired(&before, &after, tolerance).or_else(|| {
        before.iter_mut().chain(&mut after).for_each(|entries| entries.sort_by(f64::total_cmp));
        paired(&before, &after, tolerance)
    })
}

/// The one order in which these agree, if it is another than the one they are in.
fn paired(before: &[Vec<f64>], after: &[Vec<f64>], tolerance: f64) -> Option<Vec<usize>> {
    let agree = |i: usize, j: usize| {
        let (a, b) = (&before[i], &after[j]);
        let size: f64 = a.iter().map(|v| v * v).sum();
        let apart: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        a.len() == b.len() && apart <= tolerance.powi(2) * size
    };
    if (0..before.len()).all(|k| agree(k, k)) {
        return None;
    }
    let mut taken = vec![false; after.len()];
    (0..before.len())
        .map(|i| {
            let mut found = (0..after.len()).filter(|j| agree(i, *j));
            let (only, None) = (found.next()?, found.next()) else { return None };
            (!std::mem::replace(&mut taken[only], true)).then_some(only)
        })
        .collect()
}

/// The numbers that go into a call.
fn entries(trace: &Trace, call: usize) -> Option<Vec<f64>> {
    let mut all = Vec::new();
    for leaf in &trace.calls[call].inputs {
        let tensor = value(trace, Some(leaf.tensor))?;
        if tensor.dtype().is_inexact() {
            all.extend(tensor.to_real());
        }
    }
    (!all.is_empty()).then_some(all)
}
