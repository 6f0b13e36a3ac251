//! Where a gradient goes wrong: every module call is differentiated by itself, and held against differences of itself, as
//! METHOD 18 has it for the whole. The innermost call that is wrong alone is at fault; where none is, the code between
//! them.

use crate::Error;
use crate::model::{DType, Differentiation, Gradient, Model, PullbackError, Tensor, Trace, Tracing};
use crate::report::{BreakKind, Fault, GradientCheck, GradientRow, Outcome, Verdict};

use super::super::super::evidence::Evidence;
use super::super::super::measure::{norm, root_mean_square};
use super::super::super::noise;
use super::super::super::precision::Proof;
use super::super::super::sampling::{Draws, Purpose};
use super::super::super::verdict::MARGIN;
use super::super::{EndToEnd, Measured};
use super::differences::{
    AGREE, CLEAR, COARSE_AGREE, COARSE_STEPS, DIRECTIONS, REDRAWN, STEPS, Slope, inner, least_allowed, slope,
};
use super::pull::{Pulled, Slot};
use super::{LAST, Objective, Pair, Subject};
use crate::diagnosis::is_wrong_derivative;

/// Factors by which cotangents are stretched to see whether a backward is linear: powers of two round nothing.
const STRETCHED: [f64; 2] = [1024.0, 1.0 / 1024.0];
/// Parameters whose gradients are looked into at most.
const PARAMETERS: usize = 8;

/// What is wrong with the gradients of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symptom {
    /// They are not the derivative.
    Derivative,
    /// Their own derivative is wrong.
    SecondOrder,
    /// They are not finite.
    NotFinite,
}

/// What a module call showed.
enum Shown {
    Right,
    /// So do the outputs that a gradient leads to; others depend on its inputs and carry none.
    InPart,
    /// By how much, relative, and in words.
    Wrong(Option<f64>, String),
    /// It could not be judged: it reads state, crosses kinks, gives something else.
    Unknown,
}

/// A module call that is made again.
struct Again<'t> {
    position: usize,
    inputs: Vec<&'t Tensor>,
    /// By output of a floating type: its leaf's name, its position and its values.
    outputs: Vec<(String, usize, &'t Tensor)>,
    /// How many tensors it returns.
    returned: usize,
}

impl<'t> Again<'t> {
    /// A call whose tensors are all known and that something can be differentiated by.
    fn of(trace: &'t Trace, position: usize) -> Option<Self> {
        let call = &trace.calls[position];
        let value = |t: usize| trace.tensors[t].values.as_ref();
        let inputs: Vec<&Tensor> =
            call.inputs.iter().map(|leaf| value(leaf.tensor)).collect::<Option<_>>()?;
        let all: Vec<&Tensor> = call.outputs.iter().map(|leaf| value(leaf.tensor)).collect::<Option<_>>()?;
        let inexact = |(k, tensor): (usize, &'t Tensor)| {
            tensor.dtype().is_inexact().then(|| (call.outputs[k].name.clone(), k, tensor))
        };
        let returned = all.len();
        let outputs: Vec<_> = all.into_iter().enumerate().filter_map(inexact).collect();
        (!outputs.is_empty()).then_some(Self { position, inputs, outputs, returned })
    }

    fn has_inexact_inputs(&self) -> bool {
        self.inputs.iter().any(|tensor| tensor.dtype().is_inexact() && !tensor.is_empty())
    }

    fn owned(&self) -> Vec<Tensor> {
        self.inputs.iter().map(|tensor| (*tensor).clone()).collect()
    }

    /// Whether everything is in double precision.
    fn is_wide(&self) -> bool {
        let outputs = self.outputs.iter().map(|(_, _, tensor)| *tensor);
        let mut inexact = self.inputs.iter().copied().chain(outputs).filter(|t| t.dtype().is_inexact());
        inexact.all(|tensor| tensor.dtype().double() == tensor.dtype())
    }

    /// Whether all is of single precision or better.
    fn is_narrow(&self) -> bool {
        let outputs = self.outputs.iter().map(|(_, _, tensor)| *tensor);
        let single = DType::Float32.unit_roundoff().unwrap_or(1.0);
        let mut all = self.inputs.iter().copied().chain(outputs);
        all.any(|tensor| tensor.dtype().unit_roundoff().is_some_and(|unit| unit > single))
    }

    /// The same without the outputs that carry no gradient.
    fn carrying(&self, names: &[String]) -> Self {
        let outputs = self.outputs.iter().filter(|(name, ..)| names.contains(name)).cloned().collect();
        Self { inputs: self.inputs.clone(), outputs, ..*self }
    }

    fn cotangents(&self, draws: &mut Draws) -> Vec<(String, Tensor)> {
        let each = self.outputs.iter().map(|(name, _, tensor)| {
            let values = tensor.to_real().mapv(|_| draws.normal());
            (name.clone(), Tensor::from_real(values, tensor.dtype()))
        });
        each.collect()
    }

    /// A direction along each input, of its size.
    fn directions(&self, draws: &mut Draws) -> Vec<Option<Tensor>> {
        let each = self.inputs.iter().map(|tensor| {
            tensor.dtype().is_inexact().then(|| {
                let real = tensor.to_real();
                let size = root_mean_square(&real);
                let size = if size > 0.0 && size.is_finite() { size } else { 1.0 };
                Tensor::from_real(real.mapv(|_| size * draws.normal()), tensor.dtype())
            })
        });
        each.collect()
    }

    /// `<w, returned - recorded>`; nothing where shapes differ or something is not finite.
    fn change(&self, cotangents: &[(String, Tensor)], returned: &[Tensor]) -> Option<f64> {
        let mut change = 0.0;
        for ((_, k, before), (_, w)) in self.outputs.iter().zip(cotangents) {
            let after = returned.get(*k).filter(|after| after.shape() == before.shape())?;
            change += inner(&(after.to_real() - before.to_real()), &w.to_real());
        }
        change.is_finite().then_some(change)
    }
}

/// `x + h u`.
fn moved(inputs: &[&Tensor], directions: &[Option<Tensor>], h: f64) -> Vec<Tensor> {
    let along = |(tensor, direction): (&&Tensor, &Option<Tensor>)| match direction {
        Some(u) => Tensor::from_real(tensor.to_real() + u.to_real() * h, tensor.dtype()),
        None => (*tensor).clone(),
    };
    inputs.iter().zip(directions).map(along).collect()
}

fn stretched(cotangents: &[(String, Tensor)], factor: f64) -> Vec<(String, Tensor)> {
    let each =
        cotangents.iter().map(|(name, w)| (name.clone(), Tensor::from_real(w.to_real() * factor, w.dtype())));
    each.collect()
}

/// The gradient along directions.
fn along(pulled: &Pulled, directions: &[Option<Tensor>]) -> f64 {
    let each = pulled.inputs.iter().zip(directions).map(|(g, u)| match (g, u) {
        (Some(g), Some(u)) => inner(g, &u.to_real()),
        _ => 0.0,
    });
    each.sum()
}

/// The norm of gradients by inputs that are as large as the directions.
fn scale_of(pulled: &Pulled, directions: &[Option<Tensor>]) -> f64 {
    let each = pulled.inputs.iter().zip(directions).map(|(g, u)| match (g, u) {
        (Some(g), Some(u)) => (norm(g) * root_mean_square(&u.to_real())).powi(2),
        _ => 0.0,
    });
    each.sum::<f64>().sqrt()
}

impl EndToEnd<'_> {
    /// Names the places of what rows of this objective found wrong.
    pub(super) fn locate_faults(
        &mut self,
        subject: &mut Subject<'_>,
        objective: &Objective,
        pairs: &[Pair],
        evidence: &Evidence,
        measured: &Measured,
        rows: &mut [GradientRow],
    ) -> Result<(), Error> {
        let Some(pair) = pairs.first() else { return Ok(()) };
        let mode = subject.mode.clone();
        let own = |row: &GradientRow| row.output == objective.name && row.mode == mode;
        let violated = |row: &GradientRow| own(row) && row.outcome == Outcome::Violated;
        // A forward that breaks the symmetry explains gradients that do.
        let keeps = objective
            .output
            .is_none_or(|o| evidence.decisions().get(o).is_some_and(|d| d.verdict == Verdict::Pass));
        let unstable = rows.iter().any(|row| violated(row) && row.check == GradientCheck::Step);
        let is_first_order = |row: &GradientRow| {
            violated(row)
                && match row.check {
                    GradientCheck::Derivative => is_wrong_derivative(row),
                    GradientCheck::Linearity => true,
                    GradientCheck::Input | GradientCheck::Parameter => keeps && !unstable,
                    _ => false,
                }
        };
        let is_second_order = |row: &GradientRow| violated(row) && row.check == GradientCheck::SecondOrder;
        let wide = subject.double.is_some()
            && objective.output.is_none_or(|o| measured.proven.outputs[o] == Proof::Double);
        let model: &mut dyn Model = match subject.double.as_deref_mut() {
            Some(double) if wide => double,
            _ => &mut *subject.model,
        };
        for (symptom, concerns) in [
            (Symptom::Derivative, &is_first_order as &dyn Fn(&GradientRow) -> bool),
            (Symptom::SecondOrder, &is_second_order),
        ] {
            let wrong: Vec<&GradientRow> = rows.iter().filter(|row| concerns(row)).collect();
            if wrong.is_empty() {
                continue;
            }
            let parameters: Vec<String> = wrong
                .iter()
                .filter(|row| matches!(row.check, GradientCheck::Derivative | GradientCheck::Parameter))
                .filter_map(|row| row.target.clone())
                .collect();
            let inputs = self.inputs(pair.sample, wide);
            let faults = self.faults(model, pair.sample, &inputs, symptom, &parameters)?;
            for row in rows.iter_mut().filter(|row| concerns(row)) {
                row.faults.clone_from(&faults);
            }
        }
        let in_own = |row: &GradientRow| {
            violated(row) && row.check == GradientCheck::Derivative && !is_wrong_derivative(row)
        };
        if let (true, Some(double)) = (rows.iter().any(in_own), subject.double.as_deref_mut()) {
            let coarse = Self::gradient_levels(&measured.levels).excellent;
            let faults = self.faults_in_own_precision(subject.model, double, pair.sample, coarse)?;
            for row in rows.iter_mut().filter(|row| in_own(row)) {
                row.faults.clone_from(&faults);
            }
        }
        let model: &mut dyn Model = match subject.double.as_deref_mut() {
            Some(double) if wide => double,
            _ => &mut *subject.model,
        };
        let not_finite = |row: &GradientRow| {
            own(row) && row.outcome == Outcome::NotFinite && row.faults.is_empty() && row.verdict.is_some()
        };
        if rows.iter().any(not_finite) {
            let inputs = self.inputs(pair.sample, wide);
            let faults = self.not_finite_at(model, pair.sample, &inputs)?;
            for row in rows.iter_mut().filter(|row| not_finite(row)) {
                row.faults.clone_from(&faults);
            }
        }
        if rows.iter().any(|row| violated(row) && row.check == GradientCheck::Step) {
            let inputs = self.inputs(pair.sample, wide);
            let Ok(tracing) = model.tracing() else { return Ok(()) };
            let Ok(trace) = self.traced(tracing, pair.sample, &inputs, &[], false)? else { return Ok(()) };
            for row in rows.iter_mut().filter(|row| violated(row) && row.check == GradientCheck::Step) {
                let owner = row.target.as_deref().and_then(|name| owner(&trace, name));
                row.faults.extend(owner.map(|k| {
                    fault(&trace, k, row.max_relative_f64.or(row.max_relative), {
                        "the symmetry holds at the present values of its parameter alone".to_owned()
                    })
                }));
            }
        }
        Ok(())
    }

    /// The calls that are at fault for gradients at these inputs that are not finite.
    pub(super) fn not_finite_at(
        &mut self,
        model: &mut dyn Model,
        sample: usize,
        inputs: &[Tensor],
    ) -> Result<Vec<Fault>, Error> {
        self.faults(model, sample, inputs, Symptom::NotFinite, &[])
    }

    /// The innermost calls whose gradient in the model's own precision is not that in double precision, on equal inputs.
    fn faults_in_own_precision(
        &mut self,
        model: &mut dyn Model,
        double: &mut dyn Model,
        sample: usize,
        coarse: f64,
    ) -> Result<Vec<Fault>, Error> {
        let (Ok(own), Ok(exact)) = (model.tracing(), double.tracing()) else { return Ok(Vec::new()) };
        let inputs = self.inputs(sample, false);
        let Ok(trace) = self.traced(own, sample, &inputs, &[], true)? else { return Ok(Vec::new()) };
        let inputs = self.inputs(sample, true);
        let Ok(wide) = self.traced(exact, sample, &inputs, &[], true)? else { return Ok(Vec::new()) };
        let names = |trace: &Trace| -> Vec<(String, usize)> {
            trace.calls.iter().map(|call| (call.path.clone(), call.number)).collect()
        };
        let mut faults = Vec::new();
        if names(&trace) != names(&wide) {
            return Ok(faults);
        }
        let mut explained = vec![false; trace.calls.len()];
        for k in innermost_first(&trace) {
            if explained[k] || self.spent(LAST) {
                continue;
            }
            let Some(call) = Again::of(&trace, k).filter(Again::has_inexact_inputs) else { continue };
            let mut draws = Draws::new(self.options.seed, sample, (k as u64) << 8, Purpose::Cotangents);
            let cotangents = call.cotangents(&mut draws);
            let wanted = Differentiation { cotangents: Some(&cotangents), ..Differentiation::default() };
            let doubled: Vec<(String, Tensor)> =
                cotangents.iter().map(|(name, w)| (name.clone(), w.double())).collect();
            let exactly = Differentiation { cotangents: Some(&doubled), ..Differentiation::default() };
            let inputs = call.owned();
            let nudged: Vec<Tensor> =
                inputs.iter().map(|tensor| noise::moved_by_one_ulp(tensor, None, &mut draws)).collect();
            let exact_inputs: Vec<Tensor> = inputs.iter().map(Tensor::double).collect();
            let (Some((low, _)), Some((other, _)), Some((high, _))) = (
                self.pulled_again(own, k, &inputs, &wanted)?,
                self.pulled_again(own, k, &nudged, &wanted)?,
                self.pulled_again(exact, k, &exact_inputs, &exactly)?,
            ) else {
                continue;
            };
            let (off, noise, whole) = (size(&low.less(&high)), size(&other.less(&low)), size(&high));
            if off > (CLEAR * noise).max(coarse * whole) {
                mark_above(&trace, k, &mut explained);
                let reason =
                    "called alone, its gradient in the model's own precision is not that in double precision";
                faults.push(fault(&trace, k, Some(off / whole), reason.to_owned()));
            }
        }
        own.forget();
        exact.forget();
        Ok(faults)
    }

    /// The innermost calls that show the symptom alone.
    fn faults(
        &mut self,
        model: &mut dyn Model,
        sample: usize,
        inputs: &[Tensor],
        symptom: Symptom,
        parameters: &[String],
    ) -> Result<Vec<Fault>, Error> {
        let Ok(tracing) = model.tracing() else { return Ok(Vec::new()) };
        let Ok(trace) = self.traced(tracing, sample, inputs, &[], true)? else { return Ok(Vec::new()) };
        // Calls that hold one that is at fault.
        let mut all_judged = true;
        let mut faults = Vec::new();
        // Outputs that are detached on purpose, as statistics are, count only where nothing else is wrong.
        for detached in [false, true] {
            let mut explained = vec![false; trace.calls.len()];
            let mut uncertain = vec![false; trace.calls.len()];
            let mut in_part = false;
            all_judged = true;
            for k in innermost_first(&trace) {
                if self.spent(LAST) {
                    all_judged = false;
                    break;
                }
                if explained[k] {
                    continue;
                }
                match self.shown(tracing, &trace, k, sample, (symptom, detached))? {
                    Shown::Right => {}
                    Shown::InPart => {
                        in_part = true;
                        mark_above(&trace, k, &mut uncertain);
                    }
                    // What is wrong in a container may be so in what it calls.
                    Shown::Wrong(..) if uncertain[k] => all_judged = false,
                    Shown::Unknown => {
                        all_judged = false;
                        mark_above(&trace, k, &mut uncertain);
                    }
                    Shown::Wrong(off, reason) => {
                        mark_above(&trace, k, &mut explained);
                        faults.push(fault(&trace, k, off, reason));
                    }
                }
            }
            if !faults.is_empty() || !in_part {
                break;
            }
        }
        tracing.forget();
        if faults.is_empty() && symptom == Symptom::Derivative {
            let (found, all) = self.faults_of_parameters(model, (sample, inputs), &trace, parameters)?;
            faults = found;
            all_judged &= all;
        }
        if faults.is_empty() && all_judged {
            let reason = if trace.calls.len() > 1 {
                "no module that it calls is wrong by itself".to_owned()
            } else {
                "it calls no modules".to_owned()
            };
            faults.push(fault(&trace, 0, None, reason));
        }
        Ok(faults)
    }

    fn shown(
        &mut self,
        tracing: &mut dyn Tracing,
        trace: &Trace,
        k: usize,
        sample: usize,
        (symptom, detached): (Symptom, bool),
    ) -> Result<Shown, Error> {
        let Some(call) = Again::of(trace, k) else {
            // What gives no floating tensors has no gradient.
            let inexact =
                trace.calls[k].outputs.iter().any(|leaf| trace.tensors[leaf.tensor].values.is_none());
            return Ok(if inexact { Shown::Unknown } else { Shown::Right });
        };
        // Gradients by parameters may be infinite without any.
        if !call.has_inexact_inputs() && symptom != Symptom::NotFinite {
            return Ok(Shown::Right);
        }
        let unchanged = self
            .replayed(tracing, k, &call.owned(), call.returned)?
            .is_some_and(|returned| call.outputs.iter().all(|(_, j, before)| returned[*j].same_bits(before)));
        let finite = |tensor: &Tensor| tensor.to_real().iter().all(|v| v.is_finite());
        let outputs = call.outputs.iter().map(|(_, _, tensor)| *tensor);
        if !unchanged || !call.inputs.iter().copied().chain(outputs).all(finite) {
            return Ok(Shown::Unknown);
        }
        let index = (k as u64) << 8;
        let mut draws = Draws::new(self.options.seed, sample, index, Purpose::Cotangents);
        let cotangents = call.cotangents(&mut draws);
        let inputs = call.owned();
        let wanted = Differentiation {
            cotangents: Some(&cotangents),
            parameters: symptom == Symptom::NotFinite,
            ..Differentiation::default()
        };
        let Some((pulled, carrying)) = self.pulled_again(tracing, k, &inputs, &wanted)? else {
            return Ok(Shown::Unknown);
        };
        let in_part = !carrying.is_empty() && carrying.len() < call.outputs.len();
        let (call, cotangents) = if in_part && !detached {
            let own = cotangents.into_iter().filter(|(name, _)| carrying.contains(name)).collect();
            (call.carrying(&carrying), own)
        } else {
            (call, cotangents)
        };
        let mut draws = Draws::new(self.options.seed, sample, index, Purpose::Directions);
        let shown = match symptom {
            Symptom::NotFinite => not_finite(&pulled),
            Symptom::Derivative => {
                self.against_differences(tracing, &call, &cotangents, &pulled, &mut draws)?
            }
            Symptom::SecondOrder if !call.is_wide() => Shown::Unknown,
            Symptom::SecondOrder => {
                self.against_second_differences(tracing, &call, &cotangents, &mut draws)?
            }
        };
        Ok(match shown {
            Shown::Right if in_part && !detached && symptom == Symptom::Derivative => Shown::InPart,
            shown => shown,
        })
    }

    /// Whether the gradient is linear in the cotangent and what differences of the call say.
    fn against_differences(
        &mut self,
        tracing: &mut dyn Tracing,
        call: &Again<'_>,
        cotangents: &[(String, Tensor)],
        pulled: &Pulled,
        draws: &mut Draws,
    ) -> Result<Shown, Error> {
        let inputs = call.owned();
        // What the backward rounds.
        let nudged: Vec<Tensor> =
            inputs.iter().map(|tensor| noise::moved_by_one_ulp(tensor, None, draws)).collect();
        let wanted = Differentiation { cotangents: Some(cotangents), ..Differentiation::default() };
        let Some((other, _)) = self.pulled_again(tracing, call.position, &nudged, &wanted)? else {
            return Ok(Shown::Unknown);
        };
        let whole = size(pulled);
        let noise = if whole > 0.0 { size(&other.less(pulled)) / whole } else { 0.0 };
        // Less than single precision over- and underflows.
        for factor in STRETCHED.into_iter().filter(|_| !call.is_narrow()) {
            let longer = stretched(cotangents, factor);
            let wanted = Differentiation { cotangents: Some(&longer), ..Differentiation::default() };
            let Some((other, _)) = self.pulled_again(tracing, call.position, &inputs, &wanted)? else {
                continue;
            };
            let off = size(&other.scaled(1.0 / factor).less(pulled));
            let own = if call.is_wide() { 2f64.powi(-52) } else { 2f64.powi(-23) };
            if off > MARGIN * MARGIN * noise.max(own) * whole {
                let reason = format!(
                    "called alone, the gradient of {factor} times the cotangent is not {factor} times the gradient: \
                     its backward is not linear"
                );
                return Ok(Shown::Wrong(Some(off / whole), reason));
            }
        }
        let (steps, agree): (&[i32], f64) =
            if call.is_wide() { (&STEPS, AGREE) } else { (&COARSE_STEPS, COARSE_AGREE) };
        let mut compared = 0;
        for _ in 0..DIRECTIONS * REDRAWN {
            if compared == DIRECTIONS {
                break;
            }
            let directions = call.directions(draws);
            let scale = scale_of(pulled, &directions);
            let found = slope(steps, agree, scale, &mut |h| {
                let moved = moved(&call.inputs, &directions, h);
                let returned = self.replayed(tracing, call.position, &moved, call.returned)?;
                Ok(returned.and_then(|returned| call.change(cotangents, &returned)))
            })?;
            let Slope::Value(slope, agreed) = found else { continue };
            compared += 1;
            let backward = along(pulled, &directions);
            let larger = slope.abs().max(scale);
            let off = if backward == slope { 0.0 } else { (backward - slope).abs() / larger };
            if off > MARGIN * agreed.max(noise).max(least_allowed(call.is_wide())) {
                let reason = format!(
                    "called alone, its derivative along a random direction is {slope:.6e} by central differences and \
                     {backward:.6e} by its backward"
                );
                return Ok(Shown::Wrong(Some(off), reason));
            }
        }
        Ok(if compared > 0 { Shown::Right } else { Shown::Unknown })
    }

    /// The second order, as for the whole.
    fn against_second_differences(
        &mut self,
        tracing: &mut dyn Tracing,
        call: &Again<'_>,
        cotangents: &[(String, Tensor)],
        draws: &mut Draws,
    ) -> Result<Shown, Error> {
        let inputs = call.owned();
        let directions = call.directions(draws);
        let first = Differentiation { cotangents: Some(cotangents), ..Differentiation::default() };
        let wanted = Differentiation { directions: Some(&directions), ..first };
        let Some((second, _)) = self.pulled_again(tracing, call.position, &inputs, &wanted)? else {
            return Ok(Shown::Unknown);
        };
        let accepted = self.differences_along(&directions, &inputs, &mut |stage, moved| {
            Ok(stage.pulled_again(tracing, call.position, moved, &first)?.map(|(pulled, _)| pulled))
        })?;
        let Some((coarse, fine)) = accepted else { return Ok(Shown::Unknown) };
        let largest = fine.all().map(|(_, g)| norm(g)).fold(0.0, f64::max);
        for (wrt, differences) in fine.all() {
            let size = norm(differences);
            if size <= AGREE * largest {
                continue;
            }
            let Some(found) = second.of(wrt) else {
                let reason = "called alone, its backward depends on its inputs, and no path of second order leads to them";
                return Ok(Shown::Wrong(Some(1.0), reason.to_owned()));
            };
            let apart = coarse.of(wrt).map_or(0.0, |coarse| norm(&(differences - coarse)));
            let off = norm(&(found - differences)) / size.max(norm(found));
            if off > MARGIN * (apart / size).max(AGREE) {
                let reason = format!(
                    "called alone, its second derivative is off by {off:.1e} from differences of its backward"
                );
                return Ok(Shown::Wrong(Some(off), reason));
            }
        }
        Ok(Shown::Right)
    }

    /// Where gradients by the inputs are right everywhere: the calls whose gradient by one of these parameters is not, and
    /// whether all of these could be judged.
    fn faults_of_parameters(
        &mut self,
        model: &mut dyn Model,
        (sample, inputs): (usize, &[Tensor]),
        trace: &Trace,
        names: &[String],
    ) -> Result<(Vec<Fault>, bool), Error> {
        let mut faults: Vec<Fault> = Vec::new();
        let Ok(state) = model.state() else { return Ok((faults, names.is_empty())) };
        let mut left = names.len();
        for name in names.iter().take(PARAMETERS) {
            // Inputs are named among them, and were judged.
            let Some(k) = state.iter().position(|s| s.name == *name) else {
                left -= 1;
                continue;
            };
            let Some(owner) = owner(trace, name) else { continue };
            if owner == 0 {
                left -= 1;
                continue;
            }
            let Some(call) = Again::of(trace, owner) else { continue };
            if self.spent(LAST) {
                break;
            }
            let mut draws = Draws::new(self.options.seed, sample, 1 << 40 | k as u64, Purpose::Directions);
            let cotangents = call.cotangents(&mut draws);
            let real = state[k].tensor.to_real();
            let size = root_mean_square(&real);
            let size = if size > 0.0 { size } else { 1.0 };
            let direction = real.mapv(|_| size * draws.normal());
            let wanted = Differentiation {
                cotangents: Some(&cotangents),
                parameters: true,
                ..Differentiation::default()
            };
            let Ok(tracing) = model.tracing() else { break };
            if self.traced(tracing, sample, inputs, &[], true)?.is_err() {
                break;
            }
            let pulled = self.pulled_again(tracing, owner, &call.owned(), &wanted)?;
            tracing.forget();
            let Some((pulled, _)) = pulled else { continue };
            let gradient = pulled.parameters.iter().find(|(other, _)| other == name);
            let Some(gradient) = gradient.and_then(|(_, slot)| slot.values()) else { continue };
            let scale = norm(gradient) * size;
            let (steps, agree): (&[i32], f64) =
                if call.is_wide() { (&STEPS, AGREE) } else { (&COARSE_STEPS, COARSE_AGREE) };
            let found = slope(steps, agree, scale, &mut |h| {
                let values = Tensor::from_real(&real + &(&direction * h), state[k].tensor.dtype());
                let Ok(mut other) = model.with_state(&[(k, values)]) else { return Ok(None) };
                let Ok(tracing) = other.tracing() else { return Ok(None) };
                if self.traced(tracing, sample, inputs, &[], true)?.is_err() {
                    return Ok(None);
                }
                let returned = self.replayed(tracing, owner, &call.owned(), call.returned)?;
                Ok(returned.and_then(|returned| call.change(&cotangents, &returned)))
            })?;
            let Slope::Value(slope, agreed) = found else { continue };
            let backward = inner(gradient, &direction);
            let off = (backward - slope).abs() / slope.abs().max(scale);
            left -= 1;
            if off > MARGIN * agreed.max(least_allowed(call.is_wide())) {
                let reason = format!(
                    "called alone, its derivative by `{name}` along a random direction is {slope:.6e} by central \
                     differences and {backward:.6e} by its backward"
                );
                let found = fault(trace, owner, Some(off), reason);
                if faults.iter().all(|other| other.location != found.location) {
                    faults.push(found);
                }
            }
        }
        Ok((faults, left == 0))
    }

    /// Gradients of a call of the pass that is kept, with the names of its outputs that carry one; nothing where it raises.
    fn pulled_again(
        &mut self,
        tracing: &mut dyn Tracing,
        position: usize,
        inputs: &[Tensor],
        wanted: &Differentiation<'_>,
    ) -> Result<Option<(Pulled, Vec<String>)>, Error> {
        self.calls.count("replays of modules");
        let pulled = match tracing.replay_pullback(position, inputs, wanted) {
            Ok(pulled) => pulled,
            Err(PullbackError::Unavailable(_) | PullbackError::Raised(_)) => return Ok(None),
            Err(PullbackError::Interrupted) => return Err(Error::Interrupted),
        };
        let slot = |gradient: Gradient| match gradient {
            Gradient::Values(tensor) => Slot::Values(tensor.to_real()),
            Gradient::NoPath => Slot::NoPath,
            Gradient::Frozen => Slot::Frozen,
        };
        let carrying = pulled.outputs.into_iter().map(|output| output.name).collect();
        let pulled = Pulled {
            outputs: Vec::new(),
            inputs: pulled.inputs.iter().map(|g| g.as_ref().map(Tensor::to_real)).collect(),
            parameters: pulled.parameters.into_iter().map(|(name, g)| (name, slot(g))).collect(),
        };
        Ok(Some((pulled, carrying)))
    }
}

/// The norm of all gradients together.
fn size(pulled: &Pulled) -> f64 {
    pulled.all().map(|(_, g)| norm(g).powi(2)).sum::<f64>().sqrt()
}

/// All calls but the root's, those that a module makes before its own.
pub(in super::super) fn innermost_first(trace: &Trace) -> Vec<usize> {
    let mut order: Vec<usize> = (1..trace.calls.len()).collect();
    order.sort_by_key(|k| trace.calls[*k].ended);
    order
}

/// Marks the calls that a call is made in.
pub(in super::super) fn mark_above(trace: &Trace, k: usize, marked: &mut [bool]) {
    let mut above = trace.calls[k].parent;
    while let Some(parent) = above {
        marked[parent] = true;
        above = trace.calls[parent].parent;
    }
}

fn not_finite(pulled: &Pulled) -> Shown {
    match pulled.all().find(|(_, g)| g.iter().any(|v| !v.is_finite())) {
        None => Shown::Right,
        Some(_) => Shown::Wrong(
            None,
            "called alone, it gives finite values on finite ones, and a gradient that is not finite"
                .to_owned(),
        ),
    }
}

/// The call of the module that holds a parameter, or of the nearest one around it that is called.
fn owner(trace: &Trace, parameter: &str) -> Option<usize> {
    let mut path = parameter;
    while let Some((module, _)) = path.rsplit_once('.') {
        if let Some(k) = trace.calls.iter().position(|call| call.path == module) {
            return Some(k);
        }
        path = module;
    }
    (!trace.calls.is_empty()).then_some(0)
}

pub(in super::super) fn fault(trace: &Trace, k: usize, own_error: Option<f64>, reason: String) -> Fault {
    let call = &trace.calls[k];
    let calls = trace.calls.iter().any(|other| other.parent == Some(k));
    Fault {
        location: call.path.clone(),
        call: call.number,
        class: call.class.clone(),
        // What it calls was looked at before.
        kind: if calls { BreakKind::Functional } else { BreakKind::Module },
        source: call.source.clone(),
        own_error,
        reason,
    }
}
