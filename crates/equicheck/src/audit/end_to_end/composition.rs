//! The composition of batches: is an entry's output the same alone, among others, and in another order.

use std::borrow::Cow;

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Model, Tensor};
use crate::report::{CompositionKind, CompositionRow, Outcome, Rows};
use crate::symmetry::{BoundLayout, Element};

use super::super::calls::Value;
use super::super::composition::Batch;
use super::super::sampling::{Draws, Part, Purpose};
use super::super::subset::Sample;
use super::super::vacuity;
use super::super::verdict::MARGIN;
use super::judgement::{Figures, Ground};
use super::{DoubleModel, EndToEnd, Noise};

/// What was seen of one output under one change of the batch.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    kind: CompositionKind,
    output: usize,
    batches: usize,
    figures: Option<Figures>,
    /// What kept a batch from being judged, or an answer that no number describes.
    remark: Option<(Outcome, String)>,
}

/// A batch as it was given, or put together from two.
pub(super) struct Whole {
    pub(super) inputs: Vec<Tensor>,
    pub(super) layouts: Vec<Option<BoundLayout>>,
    base: Vec<Value>,
    double: Option<Vec<Value>>,
    outputs: Vec<BoundLayout>,
}

const PURPOSE: &str = "batch composition";

impl EndToEnd<'_> {
    /// Calls the model on entries alone, reordered and among others; judged by [`composition_rows`](Self::composition_rows).
    pub(super) fn compose(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Rows<Compared>, Error> {
        let not_run = |reason: String| Ok(Rows::NotRun { reason });
        if self.specification.custom_action().is_some() {
            return not_run("a custom action does not say what a batch is".to_owned());
        }
        let mut rows: Vec<Compared> = Vec::new();
        let mut why = None;
        for sample in 0..self.probed {
            if sample > 0 && self.spent(0.3) {
                break;
            }
            match self.whole(sample, model, double)? {
                Ok((batch, whole)) => {
                    self.compare(sample, &batch, &whole, model, double, &mut rows)?;
                    if rows.is_empty() {
                        why =
                            why.or(Some(format!("no output has one entry per entry of `{}`", batch.name())));
                    }
                }
                Err(reason) => why = why.or(Some(reason)),
            }
        }
        if rows.is_empty() {
            // Who says what the graphs of a batch are expects them to be compared.
            if let Some(why) = why.as_ref().filter(|_| !self.options.segments.is_empty()) {
                self.notes.push(format!(
                    "the graphs of a batch were not compared with themselves alone, so that whether one sees another is \
                     not known: {why}"
                ));
            }
            return not_run(why.map_or_else(String::new, |why| format!("not applicable: {why}")));
        }
        rows.sort_by_key(|row| (row.output, row.kind));
        Ok(Rows::Ran { rows })
    }

    /// A sample's batch of at least two entries.
    pub(super) fn whole(
        &mut self,
        sample: usize,
        model: &mut dyn Model,
        double: &mut DoubleModel,
    ) -> Result<Result<(Batch, Whole), String>, Error> {
        let names = self.input_names();
        let case = &self.cases[sample];
        let segments = &self.options.segments;
        let own = Sample { names: &names, tensors: &case.inputs, layouts: &case.layouts };
        let batch = match Batch::of(own, segments) {
            Ok(batch) => batch,
            Err(why) => return Ok(Err(why)),
        };
        if let Some(why) = undescribed(own, &batch) {
            return Ok(Err(why));
        }
        if batch.count() > 1 {
            let whole = Whole {
                inputs: case.inputs.clone(),
                layouts: case.layouts.clone(),
                base: case.base.clone(),
                double: case.double.clone(),
                outputs: case.outputs.clone(),
            };
            return Ok(Ok((batch, whole)));
        }
        let single = format!("the samples have {} entry along `{}`", batch.count(), batch.name());
        if batch.count() == 0 {
            return Ok(Err(single));
        }
        let mut reason = single.clone();
        let others = (0..self.cases.len()).filter(|other| *other != sample).map(Some);
        // Where no other sample fits, a copy of the same one, changed by what is no symmetry, is a neighbour that
        // differs in all that a model may take from it.
        for other in others.chain([None]) {
            let second = match other {
                Some(other) => Cow::Borrowed(&self.cases[other].inputs),
                None => match self.neighbour(sample)? {
                    Some(changed) => Cow::Owned(changed),
                    None => continue,
                },
            };
            let joined = match self.joined(sample, &batch, &second) {
                Ok(joined) => joined,
                Err(why) => {
                    let with = other.map_or("a changed copy of it".to_owned(), |other| other.to_string());
                    reason = format!("{single}, and samples {sample} and {with} cannot be joined: {why}");
                    continue;
                }
            };
            let case = match self.bound_case(PURPOSE, sample, joined, model) {
                Ok(case) => case,
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(why) => return Ok(Err(format!("{single}, and two of them joined are no input: {why}"))),
            };
            let wide = self.in_double(PURPOSE, sample, &case.inputs, &case.base, double)?;
            let own = Sample { names: &names, tensors: &case.inputs, layouts: &case.layouts };
            let batch = match Batch::of(own, &self.options.segments) {
                Ok(batch) => batch,
                Err(why) => return Ok(Err(why)),
            };
            let (inputs, layouts, base, outputs) = (case.inputs, case.layouts, case.base, case.outputs);
            return Ok(Ok((batch, Whole { inputs, layouts, base, double: wide, outputs })));
        }
        Ok(Err(reason))
    }

    /// The sample under a change that is no symmetry, as large as what the group does to it.
    fn neighbour(&self, sample: usize) -> Result<Option<Vec<Tensor>>, Error> {
        let Some(factor) = self.specification.group().factors().into_iter().next() else { return Ok(None) };
        let mut draws = Draws::new(self.options.seed, sample, 1, Purpose::Composition);
        let (element, transformed) = self.moving_element(sample, &Part::Joint, &mut draws)?;
        let case = &self.cases[sample];
        Ok(vacuity::perturbed(&case.inputs, &transformed, &case.layouts, &element, &factor, &mut draws))
    }

    /// The batches of two samples as one.
    fn joined(&self, sample: usize, batch: &Batch, second: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let names = self.input_names();
        let case = &self.cases[sample];
        let own = Sample { names: &names, tensors: &case.inputs, layouts: &case.layouts };
        match batch {
            Batch::Axis { .. } => batch.join(own, &case.inputs, second),
            // Labels and positions of the second count on from those of the first.
            Batch::Graphs { .. } => batch.append(own, &self.options.segments, second),
        }
    }

    /// f in double precision, where it gives values that can be compared with `base`.
    pub(super) fn in_double(
        &mut self,
        purpose: &str,
        sample: usize,
        inputs: &[Tensor],
        base: &[Value],
        double: &mut DoubleModel,
    ) -> Result<Option<Vec<Value>>, Error> {
        let DoubleModel::Copy(copy) = double else { return Ok(None) };
        let wide: Vec<Tensor> = inputs.iter().map(Tensor::double).collect();
        let values = self.calls.evaluate(purpose, copy.as_mut(), sample, &wide)?;
        let finite = |v: &Value| v.values.iter().all(|v| v.is_finite());
        Ok(values.ok().filter(|values| values.iter().zip(base).all(|(v, b)| v.comparable(b) && finite(v))))
    }

    fn compare(
        &mut self,
        sample: usize,
        batch: &Batch,
        whole: &Whole,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        rows: &mut Vec<Compared>,
    ) -> Result<(), Error> {
        let n = batch.count();
        let mut draws = Draws::new(self.options.seed, sample, 0, Purpose::Composition);
        let mut shuffled: Vec<usize> = (0..n).collect();
        // The identity order shows nothing.
        while n > 1 && shuffled.iter().enumerate().all(|(k, from)| k == *from) {
            draws.shuffle(&mut shuffled);
        }
        let trials = [
            (CompositionKind::Alone, vec![0]),
            (CompositionKind::Alone, vec![n - 1]),
            (CompositionKind::Reordered, shuffled),
            (CompositionKind::OtherNeighbours, vec![draws.below(n); n]),
        ];
        let names = self.input_names();
        for (kind, order) in trials {
            let own = Sample { names: &names, tensors: &whole.inputs, layouts: &whole.layouts };
            let inputs = batch.inputs(own, &self.options.segments, &order);
            let working = match &inputs {
                Ok(inputs) => self
                    .calls
                    .evaluate(PURPOSE, model, sample, inputs)?
                    .map_err(|why| format!("the model raises: {why}")),
                Err(why) => Err(why.clone()),
            };
            let wide = match (&mut *double, &inputs, &whole.double) {
                (DoubleModel::Copy(copy), Ok(inputs), Some(_)) => {
                    let inputs: Vec<Tensor> = inputs.iter().map(Tensor::double).collect();
                    self.calls.evaluate(PURPOSE, copy.as_mut(), sample, &inputs)?.ok()
                }
                _ => None,
            };
            for o in 0..whole.base.len() {
                let layout = &whole.outputs[o];
                let Some(selections) = batch.of_output(layout, &order) else { continue };
                let seen = self.entry_error(sample, o, layout, &selections, &whole.base[o], &working, false);
                let seen = match (seen, double.is_same()) {
                    (Ok(figures), true) => {
                        Ok(Figures { double: Some((figures.scaled, figures.relative)), ..figures })
                    }
                    (Ok(figures), false) => {
                        let base = whole.double.as_ref().map(|values| &values[o]);
                        let double = base.zip(wide.as_ref()).and_then(|(base, wide)| {
                            let wide = Ok(wide.clone());
                            self.entry_error(sample, o, layout, &selections, base, &wide, true).ok()
                        });
                        Ok(Figures { double: double.map(|d| (d.scaled, d.relative)), ..figures })
                    }
                    (Err(remark), _) => Err(remark),
                };
                let place = rows.iter().position(|row| row.kind == kind && row.output == o);
                let place = place.unwrap_or_else(|| {
                    rows.push(Compared { kind, output: o, batches: 0, figures: None, remark: None });
                    rows.len() - 1
                });
                let row = &mut rows[place];
                match seen {
                    Ok(figures) => {
                        row.figures = Some(row.figures.map_or(figures, |before| before.worse(figures)));
                        row.batches += 1;
                    }
                    Err(remark) => row.remark = row.remark.take().max(Some(remark)),
                }
            }
        }
        Ok(())
    }

    /// Error of the entries that were taken, against the same entries of the whole batch.
    #[expect(clippy::too_many_arguments, reason = "two sides of one comparison")]
    fn entry_error(
        &self,
        sample: usize,
        o: usize,
        layout: &BoundLayout,
        selections: &[crate::symmetry::Selection],
        base: &Value,
        outcome: &Result<Vec<Value>, String>,
        double: bool,
    ) -> Result<Figures, (Outcome, String)> {
        let unjudged = |why: String| (Outcome::NotJudged, why);
        let value = &outcome.as_ref().map_err(|why| unjudged(why.clone()))?[o];
        let expected: ArrayD<f64> = layout.take_real(&base.values, selections);
        if value.values.shape() != expected.shape() {
            return Err(unjudged(format!(
                "the output has shape {:?} where these entries of the whole batch have {:?}",
                value.values.shape(),
                expected.shape()
            )));
        }
        if expected.iter().any(|v| !v.is_finite()) {
            return Err(unjudged("the output of the whole batch is not finite".to_owned()));
        }
        if value.values.iter().any(|v| !v.is_finite()) {
            let why = "the output is not finite, and in the whole batch it is".to_owned();
            return Err((Outcome::NotFinite, why));
        }
        let (name, declared) = self.outputs()[o];
        if declared.cells().next().is_some() {
            return Err(unjudged("it is compared modulo the lattice of each batch".to_owned()));
        }
        // Flattened axes are taken apart by what is known of the sizes of this batch.
        let known = layout
            .words()
            .into_iter()
            .map(|(at, word)| {
                let taken = selections.iter().find(|(own, _)| *own == at).map(|(_, index)| index.len());
                (word.to_string(), taken.unwrap_or_else(|| layout.length(at)))
            })
            .collect();
        let group = self.specification.group();
        let what = format!("output `{name}`");
        let bound = BoundLayout::with_lengths(declared, &value.shape, group, &what, &known)
            .map_err(|error| unjudged(error.to_string()))?;
        let scales = &if double { &self.own_scales_double } else { &self.own_scales }[sample][o];
        let difference = bound.difference(&Element::default(), &value.values, &expected);
        let error = scales.measure(&bound, &difference, &expected);
        Ok(Figures { scaled: error.scaled, relative: error.relative, double: None })
    }

    /// The rows, judged by the noise of the whole audit.
    pub(super) fn composition_rows(
        &self,
        compared: &Rows<Compared>,
        noise: &[Noise],
        ground: Ground<'_>,
    ) -> Rows<CompositionRow> {
        let rows = match compared {
            Rows::NotRun { reason } => return Rows::NotRun { reason: reason.clone() },
            Rows::Ran { rows } => rows,
        };
        let judged = rows.iter().map(|row| {
            let o = row.output;
            let judgement = row.figures.map(|figures| (figures, self.judge(o, figures, &noise[o], ground)));
            let (mut outcome, mut reason) = (Outcome::NotJudged, String::new());
            if let Some((figures, judgement)) = &judgement {
                outcome = match judgement.outcome {
                    // Rounding is amplified in the model whatever the batch: the audit says so elsewhere.
                    Outcome::Amplified => Outcome::Holds,
                    outcome => outcome,
                };
                reason.clone_from(&judgement.reason);
                // An entry of an ill-conditioned model moves with the order of its sums (METHOD 8).
                let at = figures.double.filter(|_| judgement.counts).map(|(scaled, _)| scaled);
                if outcome == Outcome::Violated && at.is_some_and(|e| e <= MARGIN * noise[o].double) {
                    outcome = Outcome::Undetermined;
                    "moves of one unit in the last place change the output as much".clone_into(&mut reason);
                }
            }
            if let Some((worse, why)) = &row.remark
                && (*worse > outcome || row.figures.is_none())
            {
                (outcome, reason) = (*worse, why.clone());
            }
            CompositionRow {
                kind: row.kind,
                output: self.outputs()[o].0.to_owned(),
                batches: row.batches,
                max_relative: row.figures.map(|f| f.relative),
                max_relative_f64: judgement
                    .as_ref()
                    .filter(|(_, j)| j.counts)
                    .and_then(|(f, _)| f.double.map(|d| d.1)),
                noise: judgement.as_ref().map(|(_, j)| j.noise),
                outcome,
                reason,
            }
        });
        Rows::Ran { rows: judged.collect() }
    }
}

impl DoubleModel {
    fn is_same(&self) -> bool {
        matches!(self, DoubleModel::Same)
    }
}

/// Why an input that no layout describes, or whose leading axes none names, may hold one part per entry: it would not
/// go along with the others.
fn undescribed(sample: Sample<'_>, batch: &Batch) -> Option<String> {
    let mut lengths = vec![batch.count()];
    if let Batch::Graphs { members, .. } = batch {
        let axes = members[0].keys();
        lengths.extend(
            axes.map(|axis| members.iter().map(|own| own.get(axis).map_or(0, Vec::len)).sum::<usize>()),
        );
    }
    sample.names.iter().zip(sample.tensors).zip(sample.layouts).find_map(|((name, tensor), layout)| {
        let unknown = match layout {
            None => tensor.shape().first().copied(),
            Some(layout) => {
                let leading = tensor.shape().len() > layout.words().len() && !layout.is_flattened();
                leading.then(|| tensor.shape()[0])
            }
        };
        let length = unknown.filter(|n| *n > 1 && lengths.contains(n))?;
        Some(format!(
            "the layout of input `{name}` does not say what its {length} entries are: name its first axis"
        ))
    })
}
