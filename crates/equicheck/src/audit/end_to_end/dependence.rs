//! Where an output comes to depend on what it should not: on earlier calls, on chance, on the rest of the batch. Two
//! passes are traced, and the innermost call that is given the same and gives something else is named.

use crate::Error;
use crate::model::{Call, Model, Tensor, Trace, Tracing};
use crate::report::{CompositionRow, Dependence, Dependent, Fault, Outcome, Repeatability, Rows};

use super::super::composition::Batch;
use super::super::subset::Sample;
use super::gradients::faults::{fault, innermost_first, mark_above};
use super::{DoubleModel, EndToEnd};

/// Share of the budget that is spent when no further pass is traced.
const LAST: f64 = 0.85;
/// Entries of a batch that are followed at most.
const ENTRIES: usize = 3;
/// Calls with equal seeds that are compared at most.
const CALLS: usize = 4;

/// Relative difference of two values of one tensor, 0 where they are the same; `None` where they cannot be compared.
type Apart<'a> = dyn Fn(&Tensor, &Tensor) -> Option<f64> + 'a;

impl EndToEnd<'_> {
    pub(super) fn dependences(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        repeatability: &[Repeatability],
        composition: &Rows<CompositionRow>,
    ) -> Result<Vec<Dependent>, Error> {
        let mut found = Vec::new();
        if !self.options.layers || self.spent(LAST) {
            return Ok(found);
        }
        let any = |of: fn(&Repeatability) -> f64| repeatability.iter().any(|r| of(r) > 0.0);
        let on = match () {
            () if any(|r| r.seeded) => Some(Dependence::Chance),
            () if any(|r| r.unseeded) => Some(Dependence::RandomNumbers),
            () if any(|r| r.drift) => Some(Dependence::EarlierCalls),
            () => None,
        };
        if let (Some(on), Ok(tracing)) = (on, model.tracing()) {
            let faults = self.between_equal_calls(tracing, on)?;
            found.extend(faults.into_iter().map(|fault| Dependent { on, fault }));
        }
        let talks = |row: &CompositionRow| matches!(row.outcome, Outcome::Violated | Outcome::NotFinite);
        if let Rows::Ran { rows } = composition
            && rows.iter().any(talks)
        {
            let faults = self.between_batches(model, double)?;
            let on = Dependence::RestOfTheBatch;
            found.extend(faults.into_iter().map(|fault| Dependent { on, fault }));
        }
        Ok(found)
    }

    /// Passes over one sample that should be the same.
    fn between_equal_calls(
        &mut self,
        tracing: &mut dyn Tracing,
        on: Dependence,
    ) -> Result<Vec<Fault>, Error> {
        let inputs = self.inputs(0, false);
        let call = Call {
            sample: self.calls.source(0),
            inputs: &inputs,
            reset_generators: true,
            restore_state: true,
        };
        let Ok(first) = self.traced_call(tracing, &call, &[], false)? else { return Ok(Vec::new()) };
        if on == Dependence::EarlierCalls {
            // What other inputs leave behind shows when the calls in between are about another sample.
            let sample = self.cases.len().min(2) - 1;
            let inputs = self.inputs(sample, false);
            let sample = self.calls.source(sample);
            let between = Call { sample, inputs: &inputs, reset_generators: false, restore_state: false };
            for _ in 0..2 {
                if self.traced_call(tracing, &between, &[], false)?.is_err() {
                    return Ok(Vec::new());
                }
            }
        }
        let again = match on {
            Dependence::EarlierCalls => Call { restore_state: false, ..call },
            Dependence::RandomNumbers => Call { reset_generators: false, ..call },
            Dependence::Chance | Dependence::RestOfTheBatch => call,
        };
        // Bugs that appear on some calls alone exist.
        for _ in 0..CALLS {
            let Ok(second) = self.traced_call(tracing, &again, &[], false)? else { break };
            let apart = |a: &Tensor, b: &Tensor| {
                if a.same_bits(b) {
                    return Some(0.0);
                }
                (a.shape() == b.shape()).then(|| apart(a, b))
            };
            let faults = differing(
                &first,
                &second,
                &apart,
                match on {
                    Dependence::EarlierCalls => {
                        "called again on the same after other calls, it gives something else"
                    }
                    Dependence::RandomNumbers => {
                        "called again on the same with other seeds, it gives something else"
                    }
                    _ => "called again on the same with equal seeds, it gives something else",
                },
            );
            if !faults.is_empty() {
                return Ok(faults);
            }
        }
        Ok(Vec::new())
    }

    /// A batch, and the same with copies of one entry in place of the others.
    fn between_batches(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Vec<Fault>, Error> {
        let sample = 0;
        let Ok((batch, whole)) = self.whole(sample, model, double)? else { return Ok(Vec::new()) };
        let wide = match double {
            DoubleModel::Copy(copy) => copy.tracing().is_ok(),
            _ => false,
        };
        let model: &mut dyn Model = match double {
            DoubleModel::Copy(copy) if wide => copy.as_mut(),
            _ => model,
        };
        let Ok(tracing) = model.tracing() else { return Ok(Vec::new()) };
        let names = self.input_names();
        let n = batch.count();
        let tolerance = self.half_digits(wide);
        for entry in 0..n.min(ENTRIES) {
            let mut traces = Vec::new();
            let orders = [(0..n).collect::<Vec<_>>(), vec![entry; n]];
            for order in &orders {
                let own = Sample { names: &names, tensors: &whole.inputs, layouts: &whole.layouts };
                let Ok(inputs) = batch.inputs(own, &self.options.segments, order) else { break };
                let inputs: Vec<Tensor> =
                    if wide { inputs.iter().map(Tensor::double).collect() } else { inputs };
                let call = Call {
                    sample: self.calls.source(sample),
                    inputs: &inputs,
                    reset_generators: true,
                    restore_state: true,
                };
                traces.extend(self.traced_call(tracing, &call, &[], false)?.ok());
            }
            let [first, second] = &traces[..] else { break };
            let apart = |a: &Tensor, b: &Tensor| {
                if !a.dtype().is_inexact() || !b.dtype().is_inexact() {
                    return Some(0.0);
                }
                let least = parts(a, b, &batch, &orders, entry).map(|(a, b)| apart(&a, &b)).reduce(f64::min);
                least.map(|least| if least <= tolerance { 0.0 } else { least })
            };
            let reason = format!(
                "what it gives for entry {entry} of a batch changes with the others, what it is given for it does not"
            );
            let faults = differing(first, second, &apart, &reason);
            if !faults.is_empty() {
                return Ok(faults);
            }
        }
        Ok(Vec::new())
    }
}

/// Relative to the first; infinite where one of two values that differ is not finite.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let (mut size, mut apart) = (0.0, 0.0);
    for (a, b) in a.to_real().iter().zip(b.to_real().iter()) {
        if a.is_finite() {
            size += a * a;
        }
        if a.to_bits() != b.to_bits() && a != b {
            let difference = a - b;
            apart += if difference.is_finite() { difference * difference } else { f64::INFINITY };
        }
    }
    if apart == 0.0 { 0.0 } else { (apart / size.max(f64::MIN_POSITIVE)).sqrt() }
}

/// What two tensors may hold of one entry of a batch: both whole, and the entry's parts along each axis that is long
/// enough for all entries.
fn parts<'t>(
    a: &'t Tensor,
    b: &'t Tensor,
    batch: &'t Batch,
    orders: &'t [Vec<usize>; 2],
    entry: usize,
) -> impl Iterator<Item = (Tensor, Tensor)> + 't {
    let whole = (a.shape() == b.shape()).then(|| (a.clone(), b.clone()));
    let ranks_agree = a.shape().len() == b.shape().len();
    let axes = if ranks_agree { 0..a.shape().len() } else { 0..0 };
    let along = axes.flat_map(move |axis| {
        let blocks = |tensor: &Tensor, order: &[usize]| batch.blocks(tensor.shape()[axis], order, entry);
        let pairs: Vec<_> = blocks(a, &orders[0]).into_iter().zip(blocks(b, &orders[1])).collect();
        pairs.into_iter().filter_map(move |(left, right)| {
            let (Some(left), Some(right)) = (left, right) else { return None };
            let (a, b) = (a.select(axis, &left), b.select(axis, &right));
            (a.shape() == b.shape()).then_some((a, b))
        })
    });
    whole.into_iter().chain(along)
}

/// The innermost calls all of whose inputs agree in both passes and some of whose outputs do not.
fn differing(first: &Trace, second: &Trace, apart: &Apart<'_>, reason: &str) -> Vec<Fault> {
    let alike = first.calls.len() == second.calls.len()
        && first.calls.iter().zip(&second.calls).all(|(a, b)| {
            let names = |leaves: &[crate::model::TracedLeaf]| -> Vec<String> {
                leaves.iter().map(|leaf| leaf.name.clone()).collect()
            };
            (&a.path, a.number, names(&a.inputs), names(&a.outputs))
                == (&b.path, b.number, names(&b.inputs), names(&b.outputs))
        });
    if !alike {
        return Vec::new();
    }
    let of = |k: usize, input: bool| -> Option<f64> {
        let leaves = |trace: &'_ Trace| {
            let call = &trace.calls[k];
            let leaves = if input { &call.inputs } else { &call.outputs };
            leaves.iter().map(|leaf| leaf.tensor).collect::<Vec<_>>()
        };
        let mut worst = 0.0_f64;
        for (a, b) in leaves(first).into_iter().zip(leaves(second)) {
            let (a, b) = (first.tensors[a].values.as_ref()?, second.tensors[b].values.as_ref()?);
            worst = worst.max(apart(a, b)?);
        }
        Some(worst)
    };
    let mut explained = vec![false; first.calls.len()];
    let mut faults = Vec::new();
    for k in innermost_first(first).into_iter().chain([0]) {
        if explained[k] || of(k, true) != Some(0.0) {
            continue;
        }
        if let Some(off) = of(k, false).filter(|off| *off > 0.0) {
            mark_above(first, k, &mut explained);
            faults.push(fault(first, k, Some(off), reason.to_owned()));
        }
    }
    faults
}
