//! The gradient stage: do gradients transform as the symmetry says, and are they derivatives (METHOD 15-18).
//!
//! From `f(Tx) = T' f(x)` follow, for a cotangent w of the output, `A+ vjp(Tx, w) = vjp(x, B+ w)` and the equality of
//! the gradients of `<w, f(Tx)>` and `<B+ w, f(x)>` with respect to every parameter, A and B being the linear parts of
//! T and T', and + the transpose over the reals.

mod claimed;
mod differences;
pub(super) mod faults;
mod finite;
mod pull;
mod second;
mod steps;
mod tally;
mod train;

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Model, Tensor};
use crate::report::{GradientCheck, GradientRow, Levels, Outcome, Rows};
use crate::symmetry::{BoundLayout, Element, UpTo};

use super::super::Randomness;
use super::super::evidence::Evidence;
use super::super::noise;
use super::super::sampling::{Draws, Part, Purpose};
use super::{DoubleModel, EndToEnd, Measured};
use pull::{Place, Pulled};
use tally::{Tallies, Wrt};

/// Samples on which gradients are taken.
const SAMPLES: usize = 3;
/// Elements of the whole group per sample, beside one of each factor alone.
const ELEMENTS: usize = 3;
/// Share of the budget that is spent when no further pair is begun.
const LAST: f64 = 0.9;
/// How often an element is drawn again that a grid would have to interpolate under.
const DRAWN_AGAIN: usize = 64;
/// A gradient's level of a pass is ten times that of an output (DESIGN 5).
const COARSER: f64 = 10.0;

/// What is differentiated: one output against a cotangent, or the user's loss.
#[derive(Debug, Clone)]
struct Objective {
    /// Position among the declared outputs; `None` for the loss.
    output: Option<usize>,
    name: String,
}

impl Objective {
    /// A row without figures, on which no verdict hangs.
    fn row(
        &self,
        check: GradientCheck,
        mode: &str,
        target: Option<String>,
        pairs: usize,
        outcome: Outcome,
        reason: impl Into<String>,
    ) -> GradientRow {
        GradientRow {
            check,
            mode: mode.to_owned(),
            output: self.name.clone(),
            target,
            pairs,
            max_relative: None,
            max_relative_f64: None,
            noise: None,
            outcome,
            verdict: None,
            reason: reason.into(),
            faults: Vec::new(),
        }
    }
}

/// One (sample, element) pair.
#[derive(Debug, Clone)]
struct Pair {
    id: u64,
    sample: usize,
    element: Element,
}

/// A model in one mode, with its double-precision version where there is one.
struct Subject<'m> {
    mode: String,
    model: &'m mut dyn Model,
    double: Option<&'m mut dyn Model>,
    /// Whether the model itself is in double precision.
    is_double: bool,
}

impl EndToEnd<'_> {
    pub(super) fn gradients(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        measured: &Measured,
        evidence: &Evidence,
    ) -> Result<Rows<GradientRow>, Error> {
        let not_run = |reason: &str| Ok(Rows::NotRun { reason: reason.to_owned() });
        if !self.options.gradients {
            return not_run("gradients=True runs it");
        }
        if self.specification.custom_action().is_some() {
            return not_run("a custom action gives no transpose, which gradients are pulled back by");
        }
        if self.options.randomness == Randomness::Distribution {
            return not_run("it compares calls, and the model draws random numbers");
        }
        let mut rows = Vec::new();
        let objectives = self.objectives(&model.info().mode, &mut rows);
        let pairs = self.gradient_pairs(evidence);
        let Some(first) = pairs.first() else {
            return not_run("no element of the group moves pixels onto pixels and keeps all of them");
        };
        // Whether the host can differentiate at all.
        let place = Place { sample: first.sample, element: None, wide: false };
        let inputs = self.inputs(first.sample, false);
        if let Some(objective) = objectives.first() {
            let cotangent = self.cotangent(first, objective);
            if let Err(pull::Failure::Unavailable(why)) =
                self.pull(model, &place, &inputs, objective, cotangent.as_ref(), false)?
            {
                return Ok(Rows::NotRun { reason: why });
            }
        }
        let mode = model.info().mode;
        let mode = if mode.is_empty() { "as_is".to_owned() } else { mode };
        let is_double = matches!(double, DoubleModel::Same);
        let copy: Option<&mut dyn Model> = match double {
            DoubleModel::Copy(copy) => Some(copy.as_mut()),
            _ => None,
        };
        let mut subject = Subject { mode, model, double: copy, is_double };
        for objective in &objectives {
            let tallies = self.tallied(&mut subject, objective, &pairs)?;
            self.judge_gradients(&subject, objective, &tallies, measured, &mut rows);
            self.derivative_rows(&mut subject, objective, &pairs, &tallies, measured, &mut rows)?;
            self.step_rows(&mut subject, objective, &pairs, evidence, &mut rows)?;
            self.second_order_rows(&mut subject, objective, &pairs, measured, &mut rows)?;
            self.claimed_rows(&mut subject, objective, &pairs, measured, &mut rows)?;
            self.finite_rows(&mut subject, objective, &pairs, &mut rows)?;
            self.locate_faults(&mut subject, objective, &pairs, evidence, measured, &mut rows)?;
        }
        self.train_rows(model, double, &objectives, &pairs, measured, &mut rows)?;
        Ok(Rows::Ran { rows })
    }

    /// The outputs that can be differentiated, and the loss; rows for the others.
    fn objectives(&self, mode: &str, rows: &mut Vec<GradientRow>) -> Vec<Objective> {
        let mut objectives = Vec::new();
        for (o, (name, layout)) in self.outputs().into_iter().enumerate() {
            let why = match layout.up_to() {
                _ if !self.cases[0].base[o].dtype.is_inexact() => Some("it is not of a floating type"),
                Some(UpTo::Phase | UpTo::Order(_)) => {
                    Some("it is compared up to a phase or an order, which the gradient would have to follow")
                }
                _ => None,
            };
            let objective = Objective { output: Some(o), name: name.to_owned() };
            match why {
                None => objectives.push(objective),
                Some(why) => {
                    let outcome = Outcome::NotApplicable;
                    rows.push(objective.row(GradientCheck::Input, mode, None, 0, outcome, why));
                }
            }
        }
        if self.options.loss {
            objectives.push(Objective { output: None, name: "loss".to_owned() });
        }
        objectives
    }

    /// Elements on the first samples: joint ones, each factor alone, and the worst pairs of the forward.
    fn gradient_pairs(&self, evidence: &Evidence) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = Vec::new();
        let samples: Vec<usize> = self.probes().into_iter().take(SAMPLES).collect();
        let alone = self.parts().into_iter().filter(|part| *part != Part::Joint);
        let parts: Vec<Part> = (0..ELEMENTS).map(|_| Part::Joint).chain(alone).collect();
        let mut add = |sample: usize, element: Element| {
            pairs.push(Pair { id: pairs.len() as u64, sample, element });
        };
        for (k, part) in parts.iter().enumerate() {
            for &sample in &samples {
                let mut draws = Draws::new(self.options.seed, sample, k as u64, Purpose::Gradients);
                if let Some(element) = self.exact_element(sample, part, &mut draws) {
                    add(sample, element);
                }
            }
        }
        for o in 0..self.outputs().len() {
            let Some(record) = evidence.quoted(o) else { continue };
            let element = self.element_of(record);
            if self.acts_exactly(record.sample, &element) {
                add(record.sample, element);
            }
        }
        pairs
    }

    /// An element of a part that needs no interpolation: drawn, or one of the planned ones.
    fn exact_element(&self, sample: usize, part: &Part, draws: &mut Draws) -> Option<Element> {
        for _ in 0..DRAWN_AGAIN {
            let element = self.drawn_element(sample, part, draws);
            if self.acts_exactly(sample, &element) {
                return Some(element);
            }
        }
        let planned = self.planned_elements(sample);
        let usable: Vec<Element> =
            planned.into_iter().map(|(_, e)| e).filter(|e| self.acts_exactly(sample, e)).collect();
        (!usable.is_empty()).then(|| usable[draws.below(usable.len())].clone())
    }

    /// Whether the element moves entries onto entries, loses none and brings nothing back into a cell.
    fn acts_exactly(&self, sample: usize, element: &Element) -> bool {
        let case = &self.cases[sample];
        let whole = |layout: &BoundLayout| {
            layout.grid_sizes().count() == 0 || {
                let ones = ArrayD::ones(layout.shape());
                layout.difference(element, &ones, &ArrayD::zeros(layout.shape())).iter().all(|v| *v != 0.0)
            }
        };
        !element.is_identity()
            && !element.wraps()
            && case.admits(element)
            && !case.interpolates(element)
            && case.bound().all(whole)
    }

    /// A Gaussian cotangent of the pair, of the output's shape, representable in its type; `None` for the loss.
    fn cotangent(&self, pair: &Pair, objective: &Objective) -> Option<ArrayD<f64>> {
        let o = objective.output?;
        let base = &self.cases[pair.sample].base[o];
        let index = pair.id * 64 + o as u64;
        let mut draws = Draws::new(self.options.seed, pair.sample, index, Purpose::Cotangents);
        Some(Tensor::from_real(base.values.mapv(|_| draws.normal()), base.dtype).to_real())
    }

    /// `B+ w`, with the sign that the forward chose where an output is defined up to it. `at_tx` is what the model
    /// returned on T x.
    fn pulled_back_cotangent(
        &self,
        pair: &Pair,
        o: usize,
        cotangent: &ArrayD<f64>,
        at_tx: &ArrayD<f64>,
        wide: bool,
    ) -> Result<(ArrayD<f64>, ArrayD<f64>), Error> {
        let layout = &self.cases[pair.sample].outputs[o];
        let up_to_sign = layout.layout().up_to() == Some(&UpTo::Sign) || layout.holds_quaternions();
        let (mut at_x, mut own) = (cotangent.clone(), cotangent.clone());
        if up_to_sign {
            let expected = self.expected(pair.sample, &pair.element, wide)?.swap_remove(o);
            let difference = layout.difference(&pair.element, at_tx, &expected);
            let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            for (((at_x, own), (value, expected)), difference) in
                at_x.iter_mut().zip(own.iter_mut()).zip(at_tx.iter().zip(&expected)).zip(&difference)
            {
                let same = (difference - (value - expected)).abs();
                let turned = (difference.abs() - (value + expected).abs()).abs();
                if value.abs() < 1e-3 * largest {
                    // Too small for its sign to be told: left out.
                    (*at_x, *own) = (0.0, 0.0);
                } else if turned < same {
                    *at_x = -*at_x;
                }
            }
        }
        Ok((layout.act_transposed(&pair.element, &at_x), own))
    }

    /// Errors and noise of one objective.
    fn tallied(
        &mut self,
        subject: &mut Subject<'_>,
        objective: &Objective,
        pairs: &[Pair],
    ) -> Result<Tallies, Error> {
        let mut tallies = Tallies::default();
        for (done, pair) in pairs.iter().enumerate() {
            if done > 0 && self.spent(LAST) {
                let note = format!(
                    "the time budget left {done} of {} pairs for the gradients of `{}`",
                    pairs.len(),
                    objective.name
                );
                self.notes.push(note);
                break;
            }
            self.compare_sides(subject.model, false, pair, objective, &mut tallies)?;
            if let Some(double) = subject.double.as_deref_mut() {
                self.compare_sides(double, true, pair, objective, &mut tallies)?;
            }
        }
        // Where noise is measured: on two samples, if there are two, and at the worst pairs.
        let other = pairs.iter().find(|pair| pair.sample != pairs[0].sample);
        let worst = tallies.worst_pairs();
        let chosen = |pair: &&Pair| {
            pair.id == pairs[0].id || other.is_some_and(|o| o.id == pair.id) || worst.contains(&pair.id)
        };
        for pair in pairs.iter().filter(chosen) {
            self.gradient_noise(subject, pair, objective, &mut tallies)?;
        }
        Ok(tallies)
    }

    /// Both sides of the identities on one pair.
    fn compare_sides(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        pair: &Pair,
        objective: &Objective,
        tallies: &mut Tallies,
    ) -> Result<(), Error> {
        let (at_tx, at_x) = match self.both_sides(model, wide, pair, objective)? {
            Ok(both) => both,
            Err(failure) => {
                tallies.failed(wide, failure);
                return Ok(());
            }
        };
        tallies.pairs[usize::from(wide)] += 1;
        let skipped = self.cells_that_move(pair);
        let case = &self.cases[pair.sample];
        for (i, (left, right)) in at_tx.inputs.iter().zip(&at_x.inputs).enumerate() {
            if skipped.contains(&i) {
                continue;
            }
            let left = left.as_ref().map(|left| match &case.layouts[i] {
                Some(layout) => layout.act_transposed(&pair.element, left),
                None => left.clone(),
            });
            if case.inputs[i].dtype().is_inexact() {
                tallies.compared(Wrt::Input(i), wide, pair.id, left.as_ref(), right.as_ref());
            }
        }
        for (p, (left, right)) in at_tx.parameters.iter().zip(&at_x.parameters).enumerate() {
            tallies.name(p, &left.0, left.1.is_frozen());
            if !left.1.is_frozen() {
                tallies.compared(Wrt::Parameter(p), wide, pair.id, left.1.values(), right.1.values());
            }
        }
        Ok(())
    }

    /// Gradients at T x by w, and at x by B+ w.
    fn both_sides(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        pair: &Pair,
        objective: &Objective,
    ) -> Result<Result<(Pulled, Pulled), pull::Failure>, Error> {
        let transformed = self.transformed(pair.sample, &pair.element, wide)?;
        let inputs = self.inputs(pair.sample, wide);
        let at_tx = Place { sample: pair.sample, element: Some(&pair.element), wide };
        let at_x = Place { element: None, ..at_tx };
        let cotangent = self.cotangent(pair, objective);
        let mut left = match self.pull(model, &at_tx, &transformed, objective, cotangent.as_ref(), true)? {
            Ok(pulled) => pulled,
            Err(failure) => return Ok(Err(failure)),
        };
        let right = match objective.output.zip(cotangent.as_ref()) {
            None => self.pull(model, &at_x, &inputs, objective, None, true)?,
            Some((o, cotangent)) => {
                let value = &left.outputs[o];
                if !value.comparable(&self.cases[pair.sample].base[o]) {
                    return Ok(Err(pull::Failure::Raised("the output changes its shape".to_owned())));
                }
                let (back, own) =
                    self.pulled_back_cotangent(pair, o, cotangent, &value.values.clone(), wide)?;
                if own != *cotangent {
                    left = match self.pull(model, &at_tx, &transformed, objective, Some(&own), true)? {
                        Ok(pulled) => pulled,
                        Err(failure) => return Ok(Err(failure)),
                    };
                }
                self.pull(model, &at_x, &inputs, objective, Some(&back), true)?
            }
        };
        Ok(right.map(|right| (left, right)))
    }

    /// Lattices that fractional coordinates are translated by: their gradient picks up a part of the coordinates', so
    /// that it has no identity of its own.
    fn cells_that_move(&self, pair: &Pair) -> Vec<usize> {
        if pair.element.translation().iter().all(|t| *t == 0.0) {
            return Vec::new();
        }
        let cells: Vec<&str> = self.specification.cells().map(|(name, _)| name).collect();
        let inputs = self.specification.inputs().iter().enumerate();
        inputs.filter(|(_, (name, _))| cells.contains(&name.as_str())).map(|(i, _)| i).collect()
    }

    /// What moves of one unit in the last place of inputs, cotangent and state change, and the two precisions beside
    /// each other (METHOD 8).
    fn gradient_noise(
        &mut self,
        subject: &mut Subject<'_>,
        pair: &Pair,
        objective: &Objective,
        tallies: &mut Tallies,
    ) -> Result<(), Error> {
        let Pair { sample, element, .. } = pair;
        let cotangent = self.cotangent(pair, objective);
        self.gradient_rounding(subject.model, false, pair, objective, cotangent.as_ref(), tallies)?;
        let Some(double) = subject.double.as_deref_mut() else { return Ok(()) };
        self.gradient_rounding(double, true, pair, objective, cotangent.as_ref(), tallies)?;
        let rounded = self.transformed(*sample, element, false)?;
        let exact: Vec<Tensor> = rounded.iter().map(Tensor::double).collect();
        let place = Place { sample: *sample, element: Some(element), wide: false };
        let low = self.pull(subject.model, &place, &rounded, objective, cotangent.as_ref(), true)?;
        let place = Place { wide: true, ..place };
        let high = self.pull(double, &place, &exact, objective, cotangent.as_ref(), true)?;
        if let (Ok(low), Ok(high)) = (low, high) {
            low.differences(&high, &mut |wrt, size| tallies.of(wrt).differ.push(size));
        }
        // Constants that were rounded to single precision when the model was built (METHOD 9).
        for round in 0..2 {
            let mut draws = Draws::new(self.options.seed, 0, round, Purpose::Constants);
            let Ok(Some(mut moved)) = noise::with_moved_constants(double, &mut draws) else { break };
            let before = self.both_sides(double, true, pair, objective)?;
            let after = self.both_sides(moved.as_mut(), true, pair, objective)?;
            if let (Ok(before), Ok(after)) = (before, after) {
                let layouts = &self.cases[*sample].layouts;
                let error = |sides: &(Pulled, Pulled)| sides.0.back(layouts, element).less(&sides.1);
                error(&after).differences(&error(&before), &mut |wrt, size| {
                    tallies.of(wrt).constants.push(size);
                });
            }
        }
        Ok(())
    }

    fn gradient_rounding(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        pair: &Pair,
        objective: &Objective,
        cotangent: Option<&ArrayD<f64>>,
        tallies: &mut Tallies,
    ) -> Result<(), Error> {
        let Pair { id, sample, element } = pair;
        let inputs = self.transformed(*sample, element, wide)?;
        let place = Place { sample: *sample, element: Some(element), wide };
        let Ok(reference) = self.pull(model, &place, &inputs, objective, cotangent, true)? else {
            return Ok(());
        };
        // Twice more: bugs that appear on the third call exist.
        for _ in 0..2 {
            if let Ok(again) = self.pull(model, &place, &inputs, objective, cotangent, true)? {
                again.differences(&reference, &mut |wrt, size| tallies.of(wrt).repeated(wide, size));
            }
        }
        // Linear in the cotangent, exactly: a factor of two rounds nothing (METHOD 15).
        if let Some(cotangent) = cotangent {
            let twice = cotangent * 2.0;
            if let Ok(doubled) = self.pull(model, &place, &inputs, objective, Some(&twice), true)? {
                doubled.scaled(0.5).differences(&reference, &mut |wrt, size| {
                    tallies.of(wrt).nonlinear(wide, size);
                });
            }
        }
        let mut draws = Draws::new(self.options.seed, 0, u64::from(wide), Purpose::Parameters);
        let coarser = self.computes_in.filter(|_| !wide);
        let mut moved_state = noise::with_moved_state(model, coarser, &mut draws).ok();
        for round in 0..3 {
            let mut draws = Draws::new(self.options.seed, *sample, id * 3 + round, Purpose::Rounding);
            let moved = self.nudged(*sample, &inputs, &|_| coarser, &mut draws);
            let cotangent = cotangent.map(|w| {
                let dtype = self.cotangent_type(*sample, objective, wide);
                noise::moved_by_one_ulp(&Tensor::from_real(w.clone(), dtype), coarser, &mut draws).to_real()
            });
            let target: &mut dyn Model = match &mut moved_state {
                Some(copy) if round > 0 => copy.as_mut(),
                _ => &mut *model,
            };
            if let Ok(pulled) = self.pull(target, &place, &moved, objective, cotangent.as_ref(), true)? {
                // As the identity has it: A+ may stretch what is rounding.
                let layouts = &self.cases[*sample].layouts;
                pulled
                    .less(&reference)
                    .back(layouts, element)
                    .sizes(&mut |wrt, size| tallies.of(wrt).rounded(wide, size));
            }
        }
        let Some((o, cotangent)) = objective.output.zip(cotangent) else { return Ok(()) };
        self.rounding_at_x(model, wide, pair, objective, (o, cotangent), &reference, tallies)
    }

    /// The same at x: `B+ w` may be as large as what cancels in it.
    #[expect(clippy::too_many_arguments, reason = "one side of the identity, in parts")]
    fn rounding_at_x(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        pair: &Pair,
        objective: &Objective,
        (o, cotangent): (usize, &ArrayD<f64>),
        at_tx: &Pulled,
        tallies: &mut Tallies,
    ) -> Result<(), Error> {
        let Some(value) = at_tx.outputs.get(o).filter(|v| v.comparable(&self.cases[pair.sample].base[o]))
        else {
            return Ok(());
        };
        let (back, _) = self.pulled_back_cotangent(pair, o, cotangent, &value.values, wide)?;
        let place = Place { sample: pair.sample, element: None, wide };
        let inputs = self.inputs(pair.sample, wide);
        let dtype = self.cotangent_type(pair.sample, objective, wide);
        let coarser = self.computes_in.filter(|_| !wide);
        let Ok(reference) = self.pull(model, &place, &inputs, objective, Some(&back), true)? else {
            return Ok(());
        };
        for round in 0..2 {
            let index = (1 << 20) | (pair.id * 2 + round);
            let mut draws = Draws::new(self.options.seed, pair.sample, index, Purpose::Rounding);
            let moved = self.nudged(pair.sample, &inputs, &|_| coarser, &mut draws);
            let cotangent =
                noise::moved_by_one_ulp(&Tensor::from_real(back.clone(), dtype), coarser, &mut draws);
            if let Ok(pulled) =
                self.pull(model, &place, &moved, objective, Some(&cotangent.to_real()), true)?
            {
                pulled.less(&reference).sizes(&mut |wrt, size| tallies.of(wrt).rounded(wide, size));
            }
        }
        Ok(())
    }

    /// Levels of gradients: a pass reaches ten times as far as for outputs.
    fn gradient_levels(levels: &Levels) -> Levels {
        Levels { excellent: (COARSER * levels.excellent).min(levels.approximate), ..*levels }
    }
}
