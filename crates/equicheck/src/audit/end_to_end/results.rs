//! From the state of the stage to the evidence that the report is made from.

use std::collections::BTreeMap;

use crate::Error;
use crate::model::{DType, Model, Tensor};
use crate::report::{Inquiries, LayerStage, Replay, Rows, Stop, Timings, TransformRow};
use crate::symmetry::{Axis, BoundLayout, Element, Layout, UpTo};

use super::super::evidence::{DoubleStatus, Evidence, OutputRecord, PartRecord, Record, WorstRecord};
use super::super::sampling::{self, Part};
use super::super::verdict::MARGIN;
use super::super::{Options, Randomness};
use super::judgement::Ground;
use super::probes::Point;
use super::{DoubleModel, EndToEnd, Measured, Noise, Pair};

/// Points of the plan draw other random numbers than those of the probes before it.
const PAIRS: u64 = 1 << 32;

impl EndToEnd<'_> {
    /// All parts of the group that the plan tests: jointly, and each factor alone where there are several.
    pub(super) fn parts(&self) -> Vec<Part> {
        let factors = self.specification.group().factors();
        let mut parts = vec![Part::Joint];
        if factors.len() > 1 {
            parts.extend(factors.into_iter().map(Part::Alone));
        }
        parts
    }

    /// The evidence before any pair: what was declared, and what the probes showed.
    pub(super) fn evidence(
        &mut self,
        model: &mut dyn Model,
        double: &DoubleModel,
        measured: &Measured,
        translation_scale: f64,
    ) -> Evidence {
        let group = self.specification.group();
        let factors = group.factors();
        let parts = self.parts().into_iter().map(|part| PartRecord {
            name: part.name(),
            improper: match &part {
                Part::Joint => factors.len() == 1 && factors[0].has_improper(),
                Part::Alone(factor) => factor.has_improper(),
            },
            order: sampling::order(group, &part).filter(|_| self.specification.custom_action().is_none()),
        });
        let parts = parts.collect();
        let outputs = (0..self.outputs().len()).map(|o| {
            let (name, layout) = self.outputs()[o];
            OutputRecord {
                name: name.to_owned(),
                layout: layout.to_string(),
                invariant: !factors.iter().any(|f| self.cases[0].outputs[o].is_moved_by(f)),
                scale: self.scales[o].whole,
                noise: measured.noise[o],
                proof: measured.proven.outputs[o].clone(),
                repeatability: measured.repeatability[o],
                vacuity: measured.vacuity[o].clone(),
                copied: self.copied_input(o),
                interpolation: measured.interpolation[o].clone(),
                tolerance: self.options.tolerances.get(name).copied().or(self.options.tolerance),
                law: self.laws.get(o).cloned().flatten(),
            }
        });
        let outputs = outputs.collect();
        let mut info = model.info();
        if info.dtype.is_empty() {
            dtype_of(measured.roundoff).clone_into(&mut info.dtype);
        }
        self.remarks();
        Evidence {
            shard: self.options.shard,
            settings: self.options.settings(),
            whole: 0,
            group: group.to_string(),
            custom: self.specification.custom_action().is_some(),
            grids: self.cases.iter().any(|case| !case.space.grid.is_empty()),
            parts,
            seed: self.options.seed,
            randomness: self.options.randomness.name(),
            replayed: self.calls.replay.is_some(),
            samples: self.cases.len(),
            rattled: self.cases[self.cases.len() - self.rattled..].iter().map(|case| case.source).collect(),
            composition: not_here(self.options),
            stress: not_here(self.options),
            layers: LayerStage::NotRun { reason: String::new() },
            gradients: not_here(self.options),
            inquiries: Inquiries::default(),
            planned: 0,
            stop: Stop::Completed,
            batch: 1,
            translation_scale,
            roundoff: measured.roundoff,
            levels: measured.levels,
            broken: self.options.levels.approximate,
            transforms: self.transform_rows(),
            outputs,
            double: match double {
                DoubleModel::Same | DoubleModel::Copy(_) => DoubleStatus::Available,
                DoubleModel::Unavailable(reason) => DoubleStatus::Unavailable(reason.clone()),
                DoubleModel::NotRequested => DoubleStatus::NotRequested,
            },
            records: Vec::new(),
            worst: Vec::new(),
            written: std::mem::take(&mut self.written),
            not_audited: self.not_audited(),
            notes: std::mem::take(&mut self.notes),
            environment: environment(model, double),
            model: info,
            calls_by_purpose: BTreeMap::new(),
            timings: Timings::default(),
        }
    }

    /// Describes the pairs that stand out, and measures noise at those that are worst: an ill-conditioned input is
    /// judged by its own noise.
    pub(super) fn refine(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        ground: Ground<'_>,
        evidence: &mut Evidence,
    ) -> Result<(), Error> {
        let ill_conditioned = evidence.ill_conditioned();
        let mut described: Vec<WorstRecord> = Vec::new();
        let mut points: Vec<Point> = Vec::new();
        for place in evidence.noteworthy() {
            let probe = ill_conditioned.contains(&place);
            let known = |w: &WorstRecord| w.place == place && !(probe && w.noise.is_empty());
            if evidence.worst.iter().any(known) {
                continue;
            }
            let Some(record) = evidence.at(place) else { continue };
            let (sample, element) = (record.sample, self.element_of(record));
            described.push(WorstRecord { place, element: self.describe(&element), noise: Vec::new() });
            if probe {
                points.push(Point { id: PAIRS + place as u64, sample, element });
            }
        }
        let noise = match points[..] {
            [] => Vec::new(),
            _ => self.probe_noise(model, double, ground.proven, &points, true)?,
        };
        // By output: the largest error in double precision.
        let errors =
            |o: usize| evidence.records.iter().filter_map(move |r| Some(r.double.as_ref()?[o].scaled));
        let largest: Vec<f64> = (0..evidence.outputs.len()).map(|o| errors(o).fold(0.0, f64::max)).collect();
        for (point, mut noise) in points.iter().zip(noise) {
            let place = (point.id - PAIRS) as usize;
            self.compare_shared(model, double, place, &mut noise, ground, evidence)?;
            // Outputs whose error is nowhere clearly one.
            let small = |(noise, largest): (&Noise, &f64)| {
                (MARGIN * noise.double..=ground.levels.excellent).contains(largest)
            };
            let small: Vec<bool> = noise.iter().zip(&largest).map(small).collect();
            if let DoubleModel::Copy(copy) = double
                && small.contains(&true)
            {
                for (o, change) in self.probe_given(copy.as_mut(), point)? {
                    if small[o] {
                        noise[o].constants = noise[o].constants.max(change);
                    }
                }
            }
            if let Some(worst) = described.iter_mut().find(|worst| worst.place == place) {
                worst.noise = noise;
            }
        }
        evidence.worst.retain(|old| described.iter().all(|new| new.place != old.place));
        evidence.worst.append(&mut described);
        Ok(())
    }

    /// The worst pair of each output once more, kept with its tensors.
    pub(super) fn replays(
        &mut self,
        model: &mut dyn Model,
        evidence: &Evidence,
    ) -> Result<Vec<Replay>, Error> {
        let names = self.input_names();
        let named = |tensors: &[Tensor]| names.iter().cloned().zip(tensors.iter().cloned()).collect();
        let mut replays = Vec::new();
        for o in 0..self.outputs().len() {
            let Some(record) = evidence.quoted(o) else { continue };
            let (sample, element) = (record.sample, self.element_of(record));
            let transformed = self.transformed(sample, &element, false)?;
            let returned = self.calls.evaluate_at("replay", model, sample, Some(&element), &transformed)?;
            replays.push(Replay {
                output: self.outputs()[o].0.to_owned(),
                sample,
                inputs: named(&self.cases[sample].inputs),
                transformed: named(&transformed),
                expected: self.expected(sample, &element, false)?.swap_remove(o),
                returned: returned.ok().map(|mut values| values.swap_remove(o).values),
                element,
            });
        }
        Ok(replays)
    }

    /// The element of a record.
    pub(super) fn element_of(&self, record: &Record) -> Element {
        self.element(&Pair {
            place: record.place,
            sample: record.sample,
            index: record.index,
            part: self.parts().swap_remove(record.part),
            kind: record.kind.clone(),
        })
    }

    /// Outputs that the model returned and nobody declared, or that were left out.
    fn not_audited(&self) -> Vec<String> {
        let outputs = self.specification.outputs();
        let declared: Vec<&str> = outputs.iter().map(|(n, _)| n.as_str()).collect();
        let returned = self.first_outputs.iter().map(|o| &o.name);
        let left_out = outputs.iter().filter(|(_, layout)| layout.is_none()).map(|(n, _)| n);
        returned.filter(|name| !declared.contains(&name.as_str())).chain(left_out).cloned().collect()
    }

    pub(super) fn transform_rows(&self) -> Vec<TransformRow> {
        let group = self.specification.group();
        let case = &self.cases[0];
        let mut rows = Vec::new();
        for (((name, layout), tensor), bound) in
            self.specification.inputs().iter().zip(&case.inputs).zip(&case.layouts)
        {
            rows.push(TransformRow {
                role: "input".to_owned(),
                name: name.clone(),
                layout: layout.as_ref().map(ToString::to_string),
                shape: tensor.shape().to_vec(),
                dtype: tensor.dtype().name().to_owned(),
                description: bound
                    .as_ref()
                    .map_or_else(|| "not transformed".to_owned(), |bound| bound.describe(group)),
            });
        }
        for (((name, layout), value), bound) in self.outputs().iter().zip(&case.base).zip(&case.outputs) {
            rows.push(TransformRow {
                role: "output".to_owned(),
                name: (*name).to_owned(),
                layout: Some(layout.to_string()),
                shape: value.shape.clone(),
                dtype: value.dtype.name().to_owned(),
                description: bound.describe(group),
            });
        }
        rows.extend(self.noise_rows());
        rows
    }

    fn remarks(&mut self) {
        if self.cases.len() - self.rattled == 1 {
            self.notes.push(
                "one test sample: what holds for it may fail for others; give a list of samples, or a function of a \
                 seed"
                    .to_owned(),
            );
        }
        let group = self.specification.group();
        let tensors = self.specification.inputs().iter().zip(&self.cases[0].layouts);
        for ((name, _), bound) in tensors {
            // Lattice vectors are asked for where the group turns them.
            if self.specification.cells().any(|(cell, _)| cell == name) {
                continue;
            }
            for axis in bound.iter().flat_map(|bound| bound.suspicious_axes(group)) {
                self.notes.push(format!("input `{name}`: `{axis}` is plain: did you mean `vector`?"));
            }
            // Who writes `edges!` has thought of it.
            let listed = bound.iter().map(BoundLayout::layout).filter(|layout| layout.values().is_some());
            for axis in listed.flat_map(Layout::axes) {
                if let Axis::Plain { name: axis, marked: false } = axis {
                    self.notes.push(format!(
                        "input `{name}`: the order along `{axis}` stays as it is given: the group `{group} x S({axis})` \
                         tests whether it matters"
                    ));
                }
            }
        }
        let first = &self.cases[0];
        for (((name, layout), bound), value) in self.outputs().iter().zip(&first.outputs).zip(&first.base) {
            if let (Some(up_to), Some(chance)) =
                (layout.up_to(), bound.chance_level(value.dtype.is_complex()))
            {
                let parity = if *up_to == UpTo::Sign { ", which hides a wrong parity" } else { "" };
                self.notes.push(format!(
                    "output `{name}` is compared up to {up_to}{parity}; one that points anywhere would be off by \
                     {chance:.2} of its length"
                ));
            }
            for axis in bound.suspicious_axes(group) {
                self.notes.push(format!("output `{name}`: `{axis}` is plain: did you mean `vector`?"));
            }
        }
    }
}

/// What a stage shows before it ran, or where it does not.
fn not_here<T>(options: &Options) -> Rows<T> {
    let reason = match () {
        () if options.shard.index > 0 => "shard 0 runs it for all",
        () if options.randomness != Randomness::Fixed => {
            "it compares calls, and the model draws random numbers"
        }
        () => "",
    };
    Rows::NotRun { reason: reason.to_owned() }
}

/// What decides the figures: of the model, and of the double-precision copy where that is run by something else.
fn environment(model: &dyn Model, double: &DoubleModel) -> BTreeMap<String, String> {
    let mut environment = model.environment();
    if let DoubleModel::Copy(copy) = double {
        for (key, value) in copy.environment() {
            if environment.get(&key) != Some(&value) {
                environment.insert(format!("{key} (double precision)"), value);
            }
        }
    }
    environment.insert("equicheck".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    environment.insert("platform".to_owned(), format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH));
    environment
}

fn dtype_of(roundoff: f64) -> &'static str {
    [DType::Float64, DType::Float32, DType::Float16, DType::BFloat16]
        .into_iter()
        .find(|dtype| dtype.unit_roundoff() == Some(roundoff))
        .map_or("float32", DType::name)
}
