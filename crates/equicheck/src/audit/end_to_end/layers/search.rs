//! Where symmetry is lost, by intervention: mend what is suspected in the pass over T x, and see whether the model's
//! error goes away (METHOD 14).

use crate::Error;
use crate::model::{Action, Model, ModuleCall, Patch, Tensor, Trace, TracedLeaf};
use crate::report::{Break, BreakKind, Confidence, Examination};
use crate::symmetry::{BoundLayout, Element};

use super::super::super::evidence::Evidence;
use super::super::EndToEnd;
use super::calls;
use super::hidden;
use super::matching::is_known;
use super::timeline::{Status, Suspect, first_suspect, name};
use super::{Figures, LAST, Looked, MARGIN, Passes, Probe, Sighting, error, noise_of, tracing_of, value};

/// Causes that are looked for, and suspects that are tried, at most.
const CAUSES: usize = 8;
const ROUNDS: usize = 16;
/// A suspect takes part in the break if no more than this is left of the error when it is mended.
const TAKES_PART: f64 = 0.9;
/// What may be left of the model's error when its cause is mended (METHOD 14; at 0.05 a healthy module was blamed).
const GONE: f64 = 1e-3;

/// A suspect, and what the report says of it.
pub(super) struct Found {
    pub(super) suspect: Suspect,
    pub(super) broken: Break,
}

/// One pass over x and what is known of it, to interfere with a pass over T x.
pub(super) struct Scene<'a> {
    pub(super) sample: usize,
    pub(super) probe: Probe,
    inputs: Vec<Tensor>,
    pub(super) clean: Trace,
    /// The pass over T x as it is.
    pub(super) moved: Trace,
    /// By tensor of `clean`: its layout, or those that it may have.
    pub(super) layouts: Vec<Vec<BoundLayout>>,
    /// By tensor of `clean`: whether these fit in no pass.
    guessed: Vec<bool>,
    /// By tensor of `clean`: a fit in a basis of its own.
    pub(super) private: Vec<Option<BoundLayout>>,
    /// By tensor of `clean`: what rounding explains.
    pub(super) noise: Vec<f64>,
    /// Outputs whose error is no rounding.
    broken: &'a [usize],
    pub(super) wide: bool,
    /// The error of these, and what rounding explains of it.
    before: f64,
    floor: f64,
}

/// A suspect that was mended.
struct Cause {
    suspect: Suspect,
    /// Whether it breaks when it is called alone.
    alone: bool,
    mend: Vec<Patch>,
    /// Relative error that arises there.
    own: f64,
    /// The model's error with it and those before it mended.
    left: f64,
}

impl EndToEnd<'_> {
    pub(super) fn breaks(
        &mut self,
        model: &mut dyn Model,
        evidence: &Evidence,
        looked: &Looked<'_>,
        sighted: Option<Sighting>,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<Found>, Vec<Examination>), Error> {
        let Looked { reference, figures, broken, wide, .. } = *looked;
        let floor = output_noise(self, &reference.trace, figures, broken);
        let shows = |sighting: &Sighting| sighting.error > MARGIN * floor;
        let sighted = match sighted.filter(shows) {
            Some(sighting) => Some(sighting),
            None => self.sighted_by_plan(model, looked, evidence)?.filter(shows),
        };
        let Some(Sighting { sample, probe, clean, moved, error: before }) = sighted else {
            notes.push(
                "the error did not show in the passes that were looked into: where it arises is not known"
                    .to_owned(),
            );
            return Ok(Default::default());
        };
        let here = hidden::matched(&hidden::places(&reference.trace), &clean);
        let in_order = self.bound_hidden(&reference.layouts, &here, &clean, sample);
        let inputs = self.transformed(sample, &probe.element, wide)?;
        let mut layouts = vec![Vec::new(); clean.tensors.len()];
        let mut guessed = vec![false; clean.tensors.len()];
        let mut private = vec![None; clean.tensors.len()];
        let mut noise = vec![0.0; clean.tensors.len()];
        for (t, (layout, at)) in in_order.into_iter().zip(&here).enumerate() {
            let Some(at) = *at else { continue };
            noise[at] = figures[t].noise;
            guessed[at] = layout.is_none();
            let own = reference.private[t].as_ref();
            private[at] = own.and_then(|own| self.bound_to(own, &clean.tensors[at].shape, sample));
            layouts[at] = match layout {
                Some(layout) => vec![layout],
                None => reference.candidates[t]
                    .iter()
                    .filter_map(|layout| self.bound_to(layout, &clean.tensors[at].shape, sample))
                    .collect(),
            };
        }
        let scene = Scene {
            sample,
            probe,
            inputs,
            clean,
            moved,
            layouts,
            guessed,
            private,
            noise,
            broken,
            wide,
            before,
            floor,
        };
        // What is restored later breaks alone and is no cause: it counts only where nothing else explains the error.
        let (causes, conclusive) = self.search(model, &scene, looked, false)?;
        let causes = if conclusive || self.spent(LAST) {
            causes
        } else {
            let (others, _) = self.search(model, &scene, looked, true)?;
            if self.spent(LAST) { causes } else { others }
        };
        let causes = self.of_another_type(model, &scene, causes)?;
        let found = self.described(model, &scene, causes, looked)?;
        let examinations = self.examined(model, &scene, &found, evidence)?;
        Ok((found, examinations))
    }

    /// Code that adds tensors of different types breaks, and the module to blame is the one whose output has another type
    /// than the rest (METHOD 14): where mending that output by the type of the sum mends the model, it is named instead.
    fn of_another_type(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        mut causes: Vec<Cause>,
    ) -> Result<Vec<Cause>, Error> {
        for k in 0..causes.len() {
            let Cause { suspect, mend, .. } = &causes[k];
            if suspect.kind != BreakKind::Functional || self.spent(LAST) {
                continue;
            }
            let others: Vec<Patch> = causes
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != k)
                .flat_map(|(_, c)| c.mend.clone())
                .collect();
            let layouts = scene.mended_by(suspect, mend);
            // Behind it everything is invariant: whatever is put there mends the model.
            let unmoved = scene.overwritten(suspect, &Element::default(), 0);
            let all: Vec<Patch> = others.iter().cloned().chain(unmoved).collect();
            if self.patched(model, scene, &all)?.is_some_and(|(_, error)| scene.gone(error)) {
                continue;
            }
            let there = scene.there(&scene.moved);
            let mut children: Vec<(Suspect, BoundLayout)> = Vec::new();
            for layout in layouts {
                for (call, tensor) in scene.called_before(suspect) {
                    // It may have other numbers of channels, and be taken apart before it is added.
                    let shape = &scene.clean.tensors[tensor].shape;
                    let bound = self.bound_to(layout.layout(), shape, scene.sample);
                    let Some(bound) = bound.filter(|bound| scene.differs(tensor, there[tensor], bound))
                    else {
                        continue;
                    };
                    let (kind, between) = (BreakKind::Module, None);
                    children.push((Suspect { call, kind, between, seen_at: call, input: false }, bound));
                }
            }
            for (child, layout) in children {
                if self.spent(LAST) {
                    break;
                }
                let patches = scene.overwritten_by(&child, &layout);
                let all: Vec<Patch> = others.iter().chain(&patches).cloned().collect();
                let Some((_, error)) = self.patched(model, scene, &all)? else { continue };
                if scene.gone(error) {
                    let Cause { alone, own, .. } = causes[k];
                    causes[k] = Cause { suspect: child, alone, mend: patches, own, left: error };
                    break;
                }
            }
        }
        Ok(causes)
    }

    /// Suspects in the order of the pass, each mended in turn, until the model's error is gone. `lenient` counts those that
    /// break alone among the causes even where mending them mends nothing, as what breaks later may hide it. Whether what
    /// was found explains all, and cannot hide a cause before it.
    fn search(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        looked: &Looked<'_>,
        lenient: bool,
    ) -> Result<(Vec<Cause>, bool), Error> {
        let mut causes: Vec<Cause> = Vec::new();
        let mut ruled_out: Vec<Suspect> = Vec::new();
        let mut excused = false;
        let mut left = scene.before;
        // The pass with the causes so far mended.
        let mut mended: Option<Trace> = None;
        // Where one basis of its own is no break, the others are not suspected either, unless nothing else is left.
        let mut believed = Some(false);
        for _ in 0..ROUNDS {
            if causes.len() == CAUSES || self.spent(LAST) {
                break;
            }
            let patches: Vec<Patch> = causes.iter().flat_map(|cause| cause.mend.clone()).collect();
            let errors = scene.errors(mended.as_ref().unwrap_or(&scene.moved));
            let mut status = scene.statuses(&errors);
            for suspect in causes.iter().map(|cause| &cause.suspect).chain(&ruled_out) {
                for tensor in tensors_of(&scene.clean, suspect) {
                    status[tensor] = Status::Fine;
                }
            }
            if believed == Some(true) {
                for (status, private) in status.iter_mut().zip(&scene.private) {
                    if private.is_some() {
                        *status = Status::Fine;
                    }
                }
            }
            let suspect = first_suspect(&scene.clean, &status);
            if believed == Some(true) && suspect.as_ref().is_none_or(|suspect| suspect.seen_at == 0) {
                believed = None;
                continue;
            }
            let Some(suspect) = suspect else { break };
            let own = tensors_of(&scene.clean, &suspect).filter_map(|t| errors[t]).fold(0.0, f64::max);
            if suspect.seen_at == 0 {
                if suspect.kind == BreakKind::Functional && ruled_out.is_empty() {
                    // All that modules return is right, and what the model returns is not: there is nothing else.
                    causes.push(Cause { suspect, alone: false, mend: Vec::new(), own, left: 0.0 });
                } else if suspect.kind != BreakKind::Functional {
                    ruled_out.push(suspect);
                } else if let (Some(first), true) = (ruled_out.first(), causes.is_empty()) {
                    // Somewhere behind the first that could not be mended.
                    let between = (name(&scene.clean, first.seen_at), "the end of its forward".to_owned());
                    let suspect = Suspect { kind: BreakKind::Bracket, between: Some(between), ..suspect };
                    causes.push(Cause { suspect, alone: false, mend: Vec::new(), own, left });
                }
                break;
            }
            let mut best: Option<(Vec<Patch>, f64, Trace)> = None;
            for mend in scene.mends(&suspect) {
                let all: Vec<Patch> = patches.iter().cloned().chain(mend.iter().cloned()).collect();
                let Some((trace, error)) = self.patched(model, scene, &all)? else { continue };
                if best.as_ref().is_none_or(|(_, other, _)| error < *other) {
                    best = Some((mend, error, trace));
                }
                if scene.gone(error) {
                    break;
                }
            }
            let alone = looked.breaks_alone(scene, &suspect);
            match best {
                // It takes part if what is left is clearly less, and perhaps if it breaks alone: what breaks later may
                // hide it.
                Some((mend, error, trace))
                    if scene.gone(error) || error < TAKES_PART * left || alone && lenient =>
                {
                    let suspect = scene.behind_private(suspect, &ruled_out);
                    causes.push(Cause { suspect, alone, mend, own, left: error });
                    if scene.gone(error) {
                        break;
                    }
                    left = error;
                    mended = Some(trace);
                }
                _ => {
                    if believed.is_some()
                        && tensors_of(&scene.clean, &suspect).any(|t| scene.private[t].is_some())
                    {
                        believed = Some(true);
                    }
                    excused |= alone;
                    ruled_out.push(suspect);
                }
            }
        }
        self.without_the_needless(model, scene, &mut causes)?;
        let hides = |cause: &Cause| cause.mend.iter().any(|patch| matches!(patch, Patch::Overwrite { .. }));
        let gone = causes.last().is_some_and(|cause| !cause.mend.is_empty() && scene.gone(cause.left));
        // Where nothing was excused, the other way would find the same.
        let conclusive = !excused || gone && !causes.iter().any(hides);
        if causes.is_empty() {
            // Nothing that was mended mended the model: the first suspect is a lead.
            let lead = ruled_out.into_iter().next();
            causes.extend(lead.map(|suspect| Cause {
                suspect,
                alone: false,
                mend: Vec::new(),
                own: 0.0,
                left: scene.before,
            }));
        }
        Ok((causes, conclusive))
    }

    /// Drops causes that the others do without: they only led there. But what is overwritten hides all that led to it.
    fn without_the_needless(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        causes: &mut Vec<Cause>,
    ) -> Result<(), Error> {
        if causes.last().is_some_and(|cause| scene.gone(cause.left)) {
            let mut k = 0;
            while k < causes.len() && causes.len() > 1 {
                let hidden = causes[k + 1..]
                    .iter()
                    .any(|later| later.mend.iter().any(|patch| matches!(patch, Patch::Overwrite { .. })));
                if hidden && causes[k].alone {
                    k += 1;
                    continue;
                }
                let others = causes.iter().enumerate().filter(|(other, _)| *other != k);
                let others: Vec<Patch> = others.flat_map(|(_, cause)| cause.mend.clone()).collect();
                match self.patched(model, scene, &others)? {
                    Some((_, error)) if scene.gone(error) => {
                        causes.remove(k);
                        if let Some(last) = causes.last_mut() {
                            last.left = error;
                        }
                    }
                    _ => k += 1,
                }
            }
        }
        Ok(())
    }

    fn described(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        causes: Vec<Cause>,
        looked: &Looked<'_>,
    ) -> Result<Vec<Found>, Error> {
        let mended = causes.last().is_some_and(|cause| scene.gone(cause.left));
        let mut found = Vec::new();
        let mut before = scene.before;
        for Cause { suspect, own, left, .. } in causes {
            let took_part = left < (1.0 - GONE) * before;
            before = left;
            let confidence = if !mended || !took_part || suspect.kind == BreakKind::Bracket {
                Confidence::Low
            } else if suspect.seen_at != 0 && self.is_vacuous(model, scene, &suspect)? {
                Confidence::Medium
            } else {
                Confidence::High
            };
            let call = &scene.clean.calls[suspect.call];
            // The same call in the first sample's pass, which replays were made of.
            let mut calls = looked.reference.trace.calls.iter();
            let there = calls.position(|other| (&other.path, other.number) == (&call.path, call.number));
            let replayed =
                there.filter(|_| suspect.kind == BreakKind::Module).and_then(|k| looked.seen[k].own);
            let broken = Break {
                location: call.path.clone(),
                call: call.number,
                class: call.class.clone(),
                kind: suspect.kind,
                between: suspect.between.clone(),
                source: call.source.clone(),
                own_error: replayed.or((own > 0.0).then_some(own)),
                remaining: left / scene.before,
                factor: scene.probe.part.clone(),
                confidence,
            };
            let suspect = Suspect { call: there.unwrap_or(suspect.call), ..suspect };
            found.push(Found { suspect, broken });
        }
        Ok(found)
    }

    /// Whether the untransformed activation mends the model too: then everything behind is invariant, and any cut there
    /// would do.
    fn is_vacuous(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        suspect: &Suspect,
    ) -> Result<bool, Error> {
        let unmoved = scene.overwritten(suspect, &Element::default(), 0);
        Ok(self.patched(model, scene, &unmoved)?.is_some_and(|(_, error)| scene.gone(error)))
    }

    /// The pass over T x with patches, and the model's error in it; `None` where it fails.
    fn patched(
        &mut self,
        model: &mut dyn Model,
        scene: &Scene<'_>,
        patches: &[Patch],
    ) -> Result<Option<(Trace, f64)>, Error> {
        let Some(tracing) = tracing_of(model) else { return Ok(None) };
        let Ok(mut trace) = self.traced(tracing, scene.sample, &scene.inputs, patches, false)? else {
            return Ok(None);
        };
        calls::put_in_order_of(&scene.moved, &mut trace);
        let element = &scene.probe.element;
        let error = self.end_error(scene.sample, element, &trace, scene.wide, scene.broken)?;
        Ok(Some((trace, error)))
    }

    /// The largest error of the outputs that break.
    fn end_error(
        &self,
        sample: usize,
        element: &Element,
        trace: &Trace,
        wide: bool,
        broken: &[usize],
    ) -> Result<f64, Error> {
        let outcome = self.calls.pick(trace.outputs.clone());
        let (errors, _) = self.errors(sample, element, &outcome, wide)?;
        Ok(broken.iter().map(|o| errors[*o].scaled).fold(0.0, f64::max))
    }

    /// The better of what was sighted before and of these passes: elements that permute nothing first, since lists of
    /// whole numbers are not moved back.
    pub(super) fn sighted(
        &self,
        before: Option<Sighting>,
        passes: Passes,
        (sample, wide): (usize, bool),
        (broken, floor): (&[usize], f64),
    ) -> Result<Option<Sighting>, Error> {
        let worth = |permutes: bool, error: f64| (error > MARGIN * floor, !permutes, error);
        let mut best: Option<(usize, bool, f64)> = None;
        for (k, (probe, trace)) in passes.moved.iter().enumerate() {
            let error = self.end_error(sample, &probe.element, trace, wide, broken)?;
            let own = worth(probe.permutes, error);
            if !error.is_nan() && best.is_none_or(|(_, permutes, other)| own > worth(permutes, other)) {
                best = Some((k, probe.permutes, error));
            }
        }
        let Some((k, permutes, error)) = best else { return Ok(before) };
        let own = worth(permutes, error);
        if let Some(before) = before.filter(|before| worth(before.probe.permutes, before.error) >= own) {
            return Ok(Some(before));
        }
        let Passes { clean, mut moved, .. } = passes;
        let (probe, moved) = moved.swap_remove(k);
        Ok(Some(Sighting { sample, probe, clean, moved, error }))
    }

    /// The same for the pairs of the plan with the largest errors: what breaks at rare elements alone shows there.
    fn sighted_by_plan(
        &mut self,
        model: &mut dyn Model,
        looked: &Looked<'_>,
        evidence: &Evidence,
    ) -> Result<Option<Sighting>, Error> {
        let Looked { reference, figures, broken, wide, .. } = *looked;
        let floor = output_noise(self, &reference.trace, figures, broken);
        let mut best = None;
        for (sample, probe) in self.worst_pairs(evidence, broken) {
            let (plain, moved) = (self.inputs(sample, wide), self.transformed(sample, &probe.element, wide)?);
            let Some(tracing) = tracing_of(model) else { break };
            let Ok(clean) = self.traced(tracing, sample, &plain, &[], false)? else { continue };
            let Ok(mut trace) = self.traced(tracing, sample, &moved, &[], false)? else { continue };
            calls::put_in_order(&clean, &mut trace, self.half_digits(wide));
            let here = hidden::matched(&hidden::places(&reference.trace), &clean);
            let bound = self.bound_hidden(&reference.layouts, &here, &clean, sample);
            let mut moved = (probe, trace);
            moved.0.element = self.ordered(reference, &bound, (&clean, &here), &moved, sample);
            let passes = Passes { clean, quiet: Vec::new(), moved: vec![moved] };
            best = self.sighted(best, passes, (sample, wide), (broken, floor))?;
        }
        Ok(best)
    }

    /// The pairs of the plan with the largest errors.
    fn worst_pairs(&self, evidence: &Evidence, broken: &[usize]) -> Vec<(usize, Probe)> {
        broken
            .iter()
            .filter_map(|o| {
                let record = evidence
                    .records
                    .iter()
                    .filter(|record| !record.interpolated && record.failure[*o].is_none())
                    .max_by(|a, b| a.working[*o].scaled.total_cmp(&b.working[*o].scaled))?;
                let element = self.element_of(record);
                let permutes = element.permuted_axes().next().is_some();
                let part = self.parts()[record.part].name();
                Some((record.sample, Probe { element, part, permutes, discrete: true }))
            })
            .collect()
    }
}

impl Looked<'_> {
    /// Whether a module was seen to be not equivariant on exactly transformed clean inputs.
    fn breaks_alone(&self, scene: &Scene<'_>, suspect: &Suspect) -> bool {
        let call = &scene.clean.calls[suspect.call];
        let calls = self.reference.trace.calls.iter().zip(self.seen);
        let mut same = calls.filter(|(other, _)| (&other.path, other.number) == (&call.path, call.number));
        suspect.kind == BreakKind::Module
            && same.next().is_some_and(|(other, seen)| {
                let noise = noise_of(&other.outputs, self.figures);
                seen.own.is_some_and(|own| own > MARGIN * noise)
            })
    }
}

/// What rounding explains of the outputs' errors.
pub(super) fn output_noise(
    stage: &EndToEnd<'_>,
    trace: &Trace,
    figures: &[Figures],
    broken: &[usize],
) -> f64 {
    let outputs = stage.outputs();
    let names: Vec<&str> = broken.iter().map(|o| outputs[*o].0).collect();
    let leaves = trace.calls.first().map(|root| root.outputs.as_slice()).unwrap_or_default();
    noise_of(leaves.iter().filter(|leaf| names.contains(&leaf.name.as_str())), figures)
}

/// The tensors at which a suspect shows.
fn tensors_of<'a>(trace: &'a Trace, suspect: &Suspect) -> impl Iterator<Item = usize> + use<'a> {
    let seen = &trace.calls[suspect.seen_at];
    let (input, module) = (suspect.input, suspect.kind == BreakKind::Module);
    let calls = trace
        .calls
        .iter()
        .filter(move |call| call.path == seen.path && (module || call.number == seen.number));
    calls.flat_map(move |call| if input { &call.inputs } else { &call.outputs }).map(|leaf| leaf.tensor)
}

impl Scene<'_> {
    /// `call` is one of the clean pass.
    fn overwrite(&self, call: &ModuleCall, input: bool, leaf: &TracedLeaf, values: Tensor) -> Patch {
        let number = calls::executed(&self.moved, call);
        Patch::Overwrite { path: call.path.clone(), number, input, leaf: leaf.name.clone(), values }
    }

    /// Whether an error of the model is as good as none.
    fn gone(&self, error: f64) -> bool {
        error <= (GONE * self.before).max(MARGIN * self.floor)
    }

    /// By tensor of the clean pass: where it is in another.
    pub(super) fn there(&self, trace: &Trace) -> Vec<Option<usize>> {
        hidden::matched(&hidden::places(&self.clean), trace)
    }

    /// By tensor of the clean pass: its relative error in a pass over T x, by the layout that fits it best.
    pub(super) fn errors(&self, trace: &Trace) -> Vec<Option<f64>> {
        let there = self.there(trace);
        let of = |t: usize| {
            let before = value(&self.clean, Some(t))?;
            let after = value(trace, there[t]);
            let errors = self.layouts[t].iter().map(|layout| {
                // A basis of its own enlarges rounding.
                let error = error(layout, None, &self.probe.element, before, after)?;
                Some(error / layout.layout().condition())
            });
            errors.flatten().reduce(f64::min)
        };
        (0..self.clean.tensors.len()).map(of).collect()
    }

    fn statuses(&self, errors: &[Option<f64>]) -> Vec<Status> {
        let own: Vec<Status> = errors
            .iter()
            .enumerate()
            .map(|(t, error)| match error {
                Some(error) if *error > MARGIN * self.noise[t] => Status::Broken,
                Some(_) => Status::Fine,
                None if self.is_plain(t) => Status::Fine,
                None => Status::Unknown,
            })
            .collect();
        // A tensor whose every use gives what it must does no harm: its layout is one that the language lacks.
        let is_served = |t: usize| {
            let mut users =
                self.clean.calls.iter().filter(|call| call.inputs.iter().any(|leaf| leaf.tensor == t));
            let mut used = false;
            let fine = users.all(|call| {
                used = true;
                !call.outputs.is_empty() && call.outputs.iter().all(|leaf| own[leaf.tensor] == Status::Fine)
            });
            used && fine
        };
        let restored = self.restored(&own);
        let mended = |(t, status): (usize, &Status)| {
            let doubtful = *status == Status::Broken || self.guessed[t];
            if restored[t] || doubtful && is_served(t) { Status::Fine } else { *status }
        };
        own.iter().enumerate().map(mended).collect()
    }

    /// By tensor: whether all that it is used for is inside a module that returns what it must, as where rows and columns
    /// change places and are added.
    fn restored(&self, own: &[Status]) -> Vec<bool> {
        let calls = &self.clean.calls;
        let is_known = |t: usize| own[t] == Status::Fine && !self.guessed[t] && !self.is_plain(t);
        let right = |call: &&ModuleCall| {
            call.parent.is_some()
                && !call.outputs.is_empty()
                && call.outputs.iter().all(|leaf| is_known(leaf.tensor))
        };
        // By tensor: the first and the last moment at which a call takes or gives it.
        let mut extent = vec![None; own.len()];
        for call in calls {
            for leaf in call.inputs.iter().chain(&call.outputs) {
                let (began, ended) = extent[leaf.tensor].get_or_insert((call.began, call.ended));
                (*began, *ended) = ((*began).min(call.began), (*ended).max(call.ended));
            }
        }
        let mut restored = vec![false; own.len()];
        for outer in calls.iter().filter(right) {
            for (restored, extent) in restored.iter_mut().zip(&extent) {
                *restored |= extent.is_some_and(|(began, ended)| began > outer.began && ended < outer.ended);
            }
        }
        restored
    }

    /// Whether the group's action does not matter to a tensor: whole numbers without a layout.
    fn is_plain(&self, t: usize) -> bool {
        self.layouts[t].is_empty() && value(&self.clean, Some(t)).is_some_and(|v| !v.dtype().is_inexact())
    }

    /// Ways to mend a suspect: one for each layout that its tensors may have.
    fn mends(&self, suspect: &Suspect) -> Vec<Vec<Patch>> {
        let choices = tensors_of(&self.clean, suspect).map(|t| self.layouts[t].len()).max().unwrap_or(0);
        // Mended itself, where that can be done, before what it was given is mended with it.
        let conjugated = (0..if suspect.input { 0 } else { choices }).map(|k| self.conjugated(suspect, k));
        let overwritten = (0..choices).map(|k| self.overwritten(suspect, &self.probe.element, k));
        conjugated.chain(overwritten).filter(|mend| !mend.is_empty()).collect()
    }

    /// The layouts by which a suspect's tensors were mended.
    fn mended_by(&self, suspect: &Suspect, mend: &[Patch]) -> Vec<BoundLayout> {
        let element = &self.probe.element;
        let of = |t: usize| {
            let before = value(&self.clean, Some(t))?;
            let values = mend.iter().find_map(|patch| match patch {
                Patch::Overwrite { values, .. } if values.shape() == before.shape() => Some(values),
                _ => None,
            });
            let by = |layout: &&BoundLayout| {
                is_known(layout, element)
                    && values.is_none_or(|values| layout.act(element, before).same_bits(values))
            };
            self.layouts[t].iter().find(by).cloned()
        };
        let mut layouts: Vec<BoundLayout> = Vec::new();
        for layout in tensors_of(&self.clean, suspect).filter_map(of) {
            if !layouts.contains(&layout) {
                layouts.push(layout);
            }
        }
        layouts
    }

    /// The modules with one output that the code called before its own wrong tensor, each with that output.
    fn called_before(&self, suspect: &Suspect) -> Vec<(usize, usize)> {
        let seen = &self.clean.calls[suspect.seen_at];
        let end = if suspect.input { seen.began } else { seen.ended };
        let calls = self.clean.calls.iter().enumerate();
        calls
            .filter(|(_, call)| call.parent == Some(suspect.call) && call.ended < end)
            .filter_map(|(k, call)| match &call.outputs[..] {
                [leaf] => Some((k, leaf.tensor)),
                _ => None,
            })
            .collect()
    }

    /// Whether a tensor, which is at `there` in the pass over T x, does not transform by this layout.
    fn differs(&self, t: usize, there: Option<usize>, layout: &BoundLayout) -> bool {
        let Some(before) = value(&self.clean, Some(t)) else { return false };
        error(layout, None, &self.probe.element, before, value(&self.moved, there))
            .is_some_and(|error| error > MARGIN * self.noise[t])
    }

    fn overwritten_by(&self, suspect: &Suspect, layout: &BoundLayout) -> Vec<Patch> {
        let element = &self.probe.element;
        let of = |call: &ModuleCall| {
            let [leaf] = &call.outputs[..] else { return None };
            let before = value(&self.clean, Some(leaf.tensor))?;
            let fits = before.shape() == layout.shape();
            fits.then(|| self.overwrite(call, false, leaf, layout.act(element, before)))
        };
        self.calls_of(suspect).filter_map(of).collect()
    }

    /// A module whose inputs come from others that fit nothing, and whose mending mended nothing, is where a basis of its
    /// own ends: what lies between is not known (METHOD 14).
    fn behind_private(&self, suspect: Suspect, ruled_out: &[Suspect]) -> Suspect {
        if suspect.kind != BreakKind::Module {
            return suspect;
        }
        let inputs = &self.clean.calls[suspect.seen_at].inputs;
        let fits_nothing = |t: &usize| self.guessed[*t] && self.private[*t].is_none();
        let mut fits_nothing = inputs.iter().map(|leaf| leaf.tensor).filter(fits_nothing);
        let shows = |other: &Suspect, t: usize| tensors_of(&self.clean, other).any(|tensor| tensor == t);
        if !fits_nothing.any(|t| ruled_out.iter().any(|other| shows(other, t))) {
            return suspect;
        }
        // Code that only arranges what it was given, as padding does, is no basis of its own.
        let Some(first) = ruled_out.iter().find(|other| other.kind == BreakKind::Module) else {
            return suspect;
        };
        let names = (name(&self.clean, first.seen_at), name(&self.clean, suspect.seen_at));
        let parent = self.clean.calls[suspect.call].parent.unwrap_or(0);
        Suspect { call: parent, kind: BreakKind::Bracket, between: Some(names), ..suspect }
    }

    /// The layout of a tensor, where it is known, or the one of its candidates that is tried.
    fn layout(&self, tensor: usize, choice: usize) -> Option<&BoundLayout> {
        let layouts = &self.layouts[tensor];
        layouts.get(choice).or_else(|| layouts.first())
    }

    /// The calls at which a suspect is mended: all of a module together.
    fn calls_of<'a>(&'a self, suspect: &Suspect) -> impl Iterator<Item = &'a ModuleCall> {
        let seen = &self.clean.calls[suspect.seen_at];
        let module = suspect.kind == BreakKind::Module;
        self.clean
            .calls
            .iter()
            .filter(move |call| call.path == seen.path && (module || call.number == seen.number))
    }

    fn overwritten(&self, suspect: &Suspect, element: &Element, choice: usize) -> Vec<Patch> {
        let input = suspect.input;
        self.calls_of(suspect)
            .flat_map(|call| {
                let leaves = if input { &call.inputs } else { &call.outputs };
                leaves.iter().filter_map(move |leaf| {
                    let layout =
                        self.layout(leaf.tensor, choice).filter(|layout| is_known(layout, element))?;
                    let before = value(&self.clean, Some(leaf.tensor))?;
                    Some(self.overwrite(call, input, leaf, layout.act(element, before)))
                })
            })
            .collect()
    }

    /// `rho_out(g) M(rho_in(g)^-1 ...)` for every call of the module; nothing where a layout is missing.
    fn conjugated(&self, suspect: &Suspect, choice: usize) -> Vec<Patch> {
        let element = &self.probe.element;
        let inverse = element.inverse();
        let actions = |leaves: &[TracedLeaf], element: &Element, given: bool| {
            leaves
                .iter()
                .filter(|leaf| !self.is_plain(leaf.tensor))
                .map(|leaf| {
                    // What goes in is as it is; what comes out is what may be wrong.
                    let own = self.private[leaf.tensor].as_ref().filter(|_| given);
                    let layout = own
                        .or_else(|| self.layout(leaf.tensor, choice))
                        .filter(|layout| is_known(layout, element))?;
                    let layout = layout.clone();
                    Some((leaf.name.clone(), Action::new(layout, element.clone())))
                })
                .collect::<Option<Vec<_>>>()
        };
        let patches: Option<Vec<Patch>> = self
            .calls_of(suspect)
            .map(|call| {
                Some(Patch::Conjugate {
                    path: call.path.clone(),
                    number: calls::executed(&self.moved, call),
                    inputs: actions(&call.inputs, &inverse, true)?,
                    outputs: actions(&call.outputs, element, false)?,
                })
            })
            .collect();
        patches.unwrap_or_default()
    }
}
