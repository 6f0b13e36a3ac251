//! A parameter whose gradient breaks the symmetry although forward and backward are right: the symmetry holds at these
//! values alone. A step along it shows so (METHOD 16).

use crate::Error;
use crate::model::{Model, Tensor};
use crate::report::{GradientCheck, GradientRow, Outcome, Verdict};

use super::super::super::evidence::Evidence;
use super::super::super::measure::root_mean_square;
use super::super::super::sampling::{Draws, Purpose};
use super::super::super::verdict::MARGIN;
use super::super::EndToEnd;
use super::{LAST, Objective, Pair, Subject};

/// Parameters that are stepped along at most.
const TRIED: usize = 8;
/// Pairs that the forward is compared on.
const PAIRS: usize = 4;
/// Sizes of the steps relative to the parameters' own, one twice the other: small enough to be in proportion, far above
/// the rounding of single precision.
const STEPS: [f64; 2] = [1.0 / 512.0, 1.0 / 256.0];

impl EndToEnd<'_> {
    pub(super) fn step_rows(
        &mut self,
        subject: &mut Subject<'_>,
        objective: &Objective,
        pairs: &[Pair],
        evidence: &Evidence,
        rows: &mut Vec<GradientRow>,
    ) -> Result<(), Error> {
        let Some(o) = objective.output else { return Ok(()) };
        let of = |check: GradientCheck| {
            let own = rows.iter().filter(|row| row.output == objective.name && row.mode == subject.mode);
            own.filter(move |row| row.check == check && row.outcome == Outcome::Violated)
        };
        let holds = evidence.decisions().get(o).is_some_and(|decision| decision.verdict == Verdict::Pass);
        let wrong = of(GradientCheck::Input).chain(of(GradientCheck::Derivative)).next().is_some();
        let suspects: Vec<String> =
            of(GradientCheck::Parameter).filter_map(|row| row.target.clone()).take(TRIED).collect();
        if !holds || wrong || suspects.is_empty() {
            return Ok(());
        }
        let wide = subject.double.is_some();
        let model: &mut dyn Model = match subject.double.as_deref_mut() {
            Some(double) => double,
            None => &mut *subject.model,
        };
        let Ok(state) = model.state() else { return Ok(()) };
        let typical = state.iter().map(|s| root_mean_square(&s.tensor.to_real())).fold(0.0, f64::max);
        let Some(before) = self.forward_error(model, wide, o, pairs)? else { return Ok(()) };
        for name in suspects {
            let Some(k) = state.iter().position(|s| s.name == name) else { continue };
            if self.spent(LAST) {
                break;
            }
            let real = state[k].tensor.to_real();
            let size = root_mean_square(&real).max(0.1 * typical);
            let size = if size > 0.0 { size } else { 1.0 };
            let mut draws = Draws::new(self.options.seed, 0, k as u64, Purpose::Directions);
            let direction = real.mapv(|_| size * draws.normal());
            let mut after = Vec::new();
            for step in STEPS {
                let moved = Tensor::from_real(&real + &(&direction * step), state[k].tensor.dtype());
                let Ok(mut moved) = model.with_state(&[(k, moved)]) else { break };
                after.extend(self.forward_error(moved.as_mut(), wide, o, pairs)?);
            }
            let [once, twice] = after[..] else { continue };
            // In proportion, with room for curvature and for the other sample being the worst.
            let grows = (1.5..3.0).contains(&(twice / once)) && once > MARGIN * before;
            rows.push(GradientRow {
                check: GradientCheck::Step,
                mode: subject.mode.clone(),
                output: objective.name.clone(),
                target: Some(name.clone()),
                pairs: pairs.len().min(PAIRS),
                max_relative: if wide { None } else { Some(once) },
                max_relative_f64: wide.then_some(once),
                noise: Some(before),
                outcome: if grows { Outcome::Violated } else { Outcome::Undetermined },
                verdict: None,
                reason: format!(
                    "the forward's error is {before:.1e} as the model is, {once:.1e} after a random step of {:.1e} of \
                     the size of `{name}`, and {twice:.1e} after twice that",
                    STEPS[0]
                ),
                faults: Vec::new(),
            });
        }
        Ok(())
    }

    /// Largest error of one output over the first pairs, at its scale; `None` where the model gives no answer.
    pub(super) fn forward_error(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        o: usize,
        pairs: &[Pair],
    ) -> Result<Option<f64>, Error> {
        let mut worst = 0.0_f64;
        for pair in pairs.iter().take(PAIRS) {
            let inputs = self.inputs(pair.sample, wide);
            let transformed = self.transformed(pair.sample, &pair.element, wide)?;
            let (purpose, at) = ("gradients, forward", Some(&pair.element));
            let Ok(at_x) = self.calls.evaluate(purpose, model, pair.sample, &inputs)? else {
                return Ok(None);
            };
            let Ok(at_tx) = self.calls.evaluate_at(purpose, model, pair.sample, at, &transformed)? else {
                return Ok(None);
            };
            let comparable = |values: &[super::super::super::calls::Value]| {
                values.iter().zip(&self.cases[pair.sample].base).all(|(v, base)| v.comparable(base))
            };
            if !comparable(&at_x) || !comparable(&at_tx) {
                return Ok(None);
            }
            let expected = self.acted(pair.sample, &pair.element, &at_x)?.swap_remove(o);
            let layout = &self.cases[pair.sample].outputs[o];
            let difference = layout.difference(&pair.element, &at_tx[o].values, &expected);
            let scales = &if wide { &self.scales_double } else { &self.scales }[o];
            worst = worst.max(scales.measure(layout, &difference, &expected).scaled);
        }
        Ok(Some(worst))
    }
}
