//! From records to the report.

use std::collections::{BTreeMap, HashSet};

use crate::diagnosis;
use crate::model::{DType, Model};
use crate::report::{
    ExecutedPlan, FORMAT_VERSION, FactorRow, Float64, OutputResult, PlannedRow, Report, Stage, SymmetryType,
    Timings, TransformRow, Verdict, WorstCase,
};

use super::super::precision::Proof;
use super::super::sampling::{self, Part};
use super::super::statistics::{clopper_pearson_upper, maximum, summary};
use super::super::verdict::{Decision, Double, Evidence, decide};
use super::{CONFIDENCE, DoubleModel, EndToEnd, HAAR, LEAST_PAIRS, Measured, Record};

impl EndToEnd<'_> {
    pub(super) fn report(
        mut self,
        model: &mut dyn Model,
        double: &DoubleModel,
        records: &[Record],
        measured: &Measured,
        translation_scale: f64,
    ) -> Report {
        let outputs: Vec<OutputResult> =
            (0..self.outputs().len()).map(|o| self.output(o, double, records, measured)).collect();
        let mut info = model.info();
        if info.dtype.is_empty() {
            dtype_of(measured.roundoff).clone_into(&mut info.dtype);
        }
        let verdict = outputs.iter().map(|o| o.verdict).max().unwrap_or(Verdict::NeedsAttention);
        let discontinuous: Vec<bool> = measured.noise.iter().map(|n| n.discontinuous).collect();
        let rounding: Vec<f64> =
            measured.noise.iter().map(|n| n.rounding.max(2.0 * measured.roundoff)).collect();
        let precisions_differ: Vec<f64> = measured.noise.iter().map(|n| n.precisions_differ).collect();
        let findings = diagnosis::diagnose(&diagnosis::Evidence {
            group: self.specification.group(),
            grids: self.cases.iter().any(|case| !case.space.grid.is_empty()),
            outputs: &outputs,
            levels: &measured.levels,
            written_inputs: &self.written,
            discontinuous: &discontinuous,
            precisions_differ: &precisions_differ,
            rounding: &rounding,
            composition: measured.composition.rows(),
            stress: measured.stress.rows(),
            mode: &info.mode,
        });
        // A finding of medium or high severity is something that a person must look at.
        let verdict = if findings.iter().any(|f| f.severity >= diagnosis::Severity::Medium) {
            verdict.max(Verdict::NeedsAttention)
        } else {
            verdict
        };
        self.remarks(records.len(), measured);
        let recommendations = diagnosis::recommendations(&findings, verdict);
        let declared: Vec<&str> = self.specification.outputs().iter().map(|(n, _)| n.as_str()).collect();
        let not_audited = self
            .first_outputs
            .iter()
            .filter(|o| !declared.contains(&o.name.as_str()))
            .map(|o| o.name.clone())
            .chain(
                self.specification
                    .outputs()
                    .iter()
                    .filter(|(_, layout)| layout.is_none())
                    .map(|(n, _)| n.clone()),
            )
            .collect();
        let distinct: HashSet<u64> = records.iter().filter_map(|r| r.fingerprint).collect();
        let not_run = |what: &str| Stage::NotRun { reason: format!("{what} is not in this version") };
        Report {
            format_version: FORMAT_VERSION,
            equicheck_version: env!("CARGO_PKG_VERSION").to_owned(),
            group: self.specification.group().to_string(),
            verdict,
            transforms: self.transform_rows(),
            levels: measured.levels,
            outputs,
            not_audited,
            composition: measured.composition.clone(),
            stress: measured.stress.clone(),
            layers: not_run("the layer-wise stage"),
            gradients: not_run("the gradient stage"),
            findings,
            recommendations,
            plan: ExecutedPlan {
                seed: self.options.seed,
                samples: self.cases.len(),
                transformations: distinct.len(),
                pairs: records.len(),
                planned_pairs: measured.planned,
                calls: self.calls.total(),
                calls_by_purpose: std::mem::take(&mut self.calls.by_purpose),
                translation_scale,
                confidence: CONFIDENCE,
            },
            environment: environment(model),
            model: info,
            timings: Some(Timings {
                total: self.started.elapsed().as_secs_f64(),
                model: self.calls.time.as_secs_f64(),
            }),
            notes: self.notes,
        }
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
        rows
    }

    pub(super) fn remarks(&mut self, done: usize, measured: &Measured) {
        if self.cases.len() == 1 {
            self.notes.push(
                "one test sample: what holds for it may fail for others; give a list of samples, or a function of a \
                 seed"
                    .to_owned(),
            );
        }
        if done < measured.planned {
            self.notes
                .push(format!("the time budget ended the audit after {done} of {} pairs", measured.planned));
        }
        let group = self.specification.group();
        let tensors = self.specification.inputs().iter().zip(&self.cases[0].layouts);
        for ((name, _), bound) in tensors {
            for axis in bound.iter().flat_map(|bound| bound.suspicious_axes(group)) {
                self.notes.push(format!("input `{name}`: `{axis}` is plain: did you mean `vector`?"));
            }
        }
        for ((name, _), bound) in self.outputs().iter().zip(&self.cases[0].outputs) {
            for axis in bound.suspicious_axes(group) {
                self.notes.push(format!("output `{name}`: `{axis}` is plain: did you mean `vector`?"));
            }
        }
    }

    /// All figures and the decision for one output.
    pub(super) fn output(
        &self,
        o: usize,
        double: &DoubleModel,
        records: &[Record],
        measured: &Measured,
    ) -> OutputResult {
        let (name, layout) = self.outputs()[o];
        let noise = measured.noise[o];
        let repeatability = measured.repeatability[o];
        let haar: Vec<&Record> = records.iter().filter(|r| r.pair.kind == HAAR).collect();
        let figures = |records: &[&Record], figure: &dyn Fn(&Record) -> f64| -> Vec<f64> {
            records.iter().map(|r| figure(r)).collect()
        };
        let all: Vec<&Record> = records.iter().filter(|r| !r.interpolated).collect();
        let everything: Vec<&Record> = records.iter().collect();
        let interpolated: Vec<&Record> = records.iter().filter(|r| r.interpolated).collect();
        let absolute = |r: &Record| r.working[o].absolute;
        let relative = |r: &Record| r.working[o].relative;
        let scaled = |r: &Record| r.working[o].scaled;
        let double_relative = |r: &Record| r.double.as_ref().map_or(f64::NAN, |d| d[o].relative);
        let double_scaled = |r: &Record| r.double.as_ref().map_or(f64::NAN, |d| d[o].scaled);
        let float64 = match (double, &measured.proven.outputs[o]) {
            (DoubleModel::NotRequested, _) => Float64::NotRequested,
            (DoubleModel::Unavailable(reason), _) => Float64::Unavailable { reason: reason.clone() },
            (_, Proof::Drops { input, effective_precision }) => {
                Float64::Void { effective_precision: *effective_precision, input: input.clone() }
            }
            // Two precisions of one function differ by rounding; more than a tenth is another function.
            _ if noise.precisions_differ > 0.1 => Float64::Unavailable {
                reason: format!(
                    "the double-precision copy computes another function: the two differ by {:.1e} on equal inputs",
                    noise.precisions_differ
                ),
            },
            _ => Float64::Available {
                max_relative: maximum(&figures(&all, &double_relative)),
                mean_relative: summary(&figures(&haar, &double_relative), &[]).mean,
                noise: noise.double,
                constants: noise.constants,
            },
        };
        let counts = matches!(float64, Float64::Available { .. });
        let vacuous = measured.vacuity[o]
            .iter()
            .find_map(|row| row.vacuous.as_ref().map(|why| format!("`{}`: {why}", row.factor)))
            .or_else(|| self.copied_input(o));
        let evidence = Evidence {
            failure: records.iter().find_map(|r| r.failure[o].clone()),
            scaled: maximum(&figures(&all, &scaled)),
            relative: maximum(&figures(&all, &relative)),
            noise: noise.rounding.max(2.0 * measured.roundoff).max(if counts {
                noise.precisions_differ
            } else {
                0.0
            }),
            rounding: noise.rounding.max(2.0 * measured.roundoff),
            repeat: repeatability.seeded.max(repeatability.unseeded),
            double: counts.then(|| Double {
                scaled: maximum(&figures(&all, &double_scaled)),
                relative: maximum(&figures(&all, &double_relative)),
                noise: noise.double.max(2f64.powi(-52)),
                constants: noise.constants,
                repeat: noise.repeat_double,
            }),
            vacuous,
            interpolated: (!interpolated.is_empty()).then(|| maximum(&figures(&interpolated, &relative))),
            cut_short: self.cut_short(&haar, measured.planned > records.len()),
            tolerance: self.options.tolerances.get(name).copied().or(self.options.tolerance),
        };
        let decision = decide(&evidence, &measured.levels, self.options.levels.approximate);
        let judged: &dyn Fn(&Record) -> f64 = if counts { &double_scaled } else { &scaled };
        let invariant =
            !self.specification.group().factors().iter().any(|f| self.cases[0].outputs[o].is_moved_by(f));
        OutputResult {
            name: name.to_owned(),
            layout: layout.to_string(),
            symmetry_type: if invariant { SymmetryType::Invariant } else { SymmetryType::Equivariant },
            classification: decision.classification,
            verdict: decision.verdict,
            level: decision.level,
            reason: decision.reason.clone(),
            absolute: summary(&figures(&haar, &absolute), &figures(&everything, &absolute)),
            relative: summary(&figures(&haar, &relative), &figures(&everything, &relative)),
            scaled_max: evidence.scaled,
            scale: self.scales[o].whole,
            violation: decision.violation,
            noise: evidence.noise,
            worst: worst_case(self, records, o),
            factors: self.factor_rows(&haar, o, &decision, counts, judged),
            planned: planned_rows(records, o, counts),
            float64,
            repeatability,
            vacuity: measured.vacuity[o].clone(),
            tolerance: evidence.tolerance,
        }
    }

    /// Whether a budget left any part of the group with too few pairs to say anything.
    pub(super) fn cut_short(&self, haar: &[&Record], cut: bool) -> Option<String> {
        if !cut {
            return None;
        }
        let mut parts = sampling::cycle(self.specification.group());
        parts.dedup();
        parts.into_iter().find_map(|part| {
            let pairs = haar.iter().filter(|r| r.pair.part == part).count();
            (pairs < LEAST_PAIRS).then(|| {
                format!(
                    "the time budget left {pairs} pairs for {}, fewer than the {LEAST_PAIRS} that bound anything: raise \
                     `budget`",
                    part.name()
                )
            })
        })
    }

    /// Rows for all parts of the group; for a group with reflections also by the sign of the determinant.
    pub(super) fn factor_rows(
        &self,
        haar: &[&Record],
        o: usize,
        decision: &Decision,
        counts: bool,
        judged: &dyn Fn(&Record) -> f64,
    ) -> Vec<FactorRow> {
        let mut parts: Vec<Part> = vec![Part::Joint];
        let factors = self.specification.group().factors();
        if factors.len() > 1 {
            parts.extend(factors.iter().cloned().map(Part::Alone));
        }
        // All bounds of the report hold together: each gets its part of the error probability.
        let split = factors.iter().filter(|f| f.has_improper()).count();
        let alpha = (1.0 - CONFIDENCE) / ((parts.len() + 2 * split) * self.outputs().len()) as f64;
        let row = |label: String, records: Vec<&Record>| FactorRow {
            factor: label,
            pairs: records.len(),
            mean_relative: summary(&records.iter().map(|r| r.working[o].relative).collect::<Vec<_>>(), &[])
                .mean,
            max_relative: maximum(&records.iter().map(|r| r.working[o].relative).collect::<Vec<_>>()),
            max_relative_f64: counts.then(|| {
                let figures: Vec<f64> =
                    records.iter().map(|r| r.double.as_ref().map_or(f64::NAN, |d| d[o].relative)).collect();
                maximum(&figures)
            }),
            exceeding: records.iter().filter(|r| exceeds(judged(r), decision.allowance)).count(),
            share_bound: {
                let k = records.iter().filter(|r| exceeds(judged(r), decision.allowance)).count();
                if records.is_empty() { 1.0 } else { clopper_pearson_upper(k, records.len(), alpha) }
            },
        };
        let mut rows = Vec::new();
        for part in &parts {
            let of_part: Vec<&Record> = haar.iter().filter(|r| r.pair.part == *part).copied().collect();
            let improper = match part {
                Part::Joint => factors.len() == 1 && factors[0].has_improper(),
                Part::Alone(factor) => factor.has_improper(),
            };
            rows.push(row(part.name(), of_part.clone()));
            if improper {
                for (sign, label) in [(1.0, "det +1"), (-1.0, "det -1")] {
                    let chosen: Vec<&Record> =
                        of_part.iter().filter(|r| r.determinant == sign).copied().collect();
                    rows.push(row(format!("{}, {label}", part.name()), chosen));
                }
            }
        }
        rows
    }
}

/// NaN exceeds everything.
fn exceeds(error: f64, allowance: f64) -> bool {
    error.is_nan() || error > allowance
}

fn worst_case(stage: &EndToEnd<'_>, records: &[Record], o: usize) -> Option<WorstCase> {
    let size = |r: &&Record| {
        let error = r.working[o].relative;
        if error.is_nan() { f64::INFINITY } else { error }
    };
    let worst = records.iter().filter(|r| size(r) > 0.0).max_by(|a, b| size(a).total_cmp(&size(b)))?;
    Some(WorstCase {
        sample: worst.pair.sample,
        index: worst.pair.index,
        element: stage.describe(&stage.element(&worst.pair)),
        factor: worst.pair.part.name(),
        kind: worst.pair.kind.to_owned(),
        block: worst.working[o].place.clone(),
    })
}

fn planned_rows(records: &[Record], o: usize, counts: bool) -> Vec<PlannedRow> {
    let mut rows: Vec<PlannedRow> = Vec::new();
    for record in records.iter().filter(|r| r.pair.kind != HAAR) {
        let relative = record.working[o].relative;
        let in_double = record.double.as_ref().filter(|_| counts).map(|d| d[o].relative);
        match rows.iter_mut().find(|row| row.kind == record.pair.kind) {
            Some(row) => {
                row.pairs += 1;
                row.max_relative = maximum(&[row.max_relative, relative]);
                row.max_relative_f64 = row.max_relative_f64.zip(in_double).map(|(a, b)| maximum(&[a, b]));
            }
            None => rows.push(PlannedRow {
                kind: record.pair.kind.to_owned(),
                pairs: 1,
                max_relative: relative,
                max_relative_f64: in_double,
            }),
        }
    }
    rows
}

fn environment(model: &dyn Model) -> BTreeMap<String, String> {
    let mut environment = model.environment();
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
