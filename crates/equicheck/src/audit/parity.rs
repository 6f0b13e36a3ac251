//! Do two models compute the same function? An exported model against its source.

use crate::Error;
use crate::model::{Call, CallError, Model, Samples, Tensor};
use crate::report::Verdict;

use super::measure::{median, norm};
use super::noise::{holds_labels, moved_by_one_ulp};
use super::sampling::{Draws, Purpose};

/// Differences within as many times the noise are rounding.
pub const MARGIN: f64 = super::verdict::MARGIN;

/// Inputs per sample that differ from it by one unit in the last place: what rounding makes of the source.
const MOVED: u64 = 4;

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Parity {
    /// One per output of the source, in its order, and one per output that the source lacks.
    pub rows: Vec<ParityRow>,
    /// Samples that were compared.
    pub samples: usize,
    /// Samples that the source answers and the export fails on, with its message: they are not compared, since a
    /// runtime that lacks something says nothing about the graph.
    pub failures: Vec<(usize, String)>,
    /// Whether the source's rounding was measured in double precision too; else why not.
    pub double: Result<(), String>,
    /// The worst of the rows; of samples that could be compared alone.
    pub verdict: Verdict,
}

/// One output of both models.
#[derive(Debug, Clone, PartialEq)]
pub struct ParityRow {
    /// Name in the source; empty if it has no such output.
    pub source: String,
    /// Name in the export; empty if it has no such output.
    pub export: String,
    /// Largest norm of the difference.
    pub max_absolute: f64,
    /// Largest norm of the difference over that of the source's output, which counts at least as its median over the
    /// samples.
    pub max_relative: f64,
    /// What rounding explains, in the same unit: the source's own error beside its double-precision copy, and its
    /// change where inputs move by one unit in the last place.
    pub noise: f64,
    /// PASS within [`MARGIN`] times the noise, FAIL from 1 % on or where no number describes the difference.
    pub verdict: Verdict,
    /// One sentence: why.
    pub reason: String,
}

/// Compares an export with its source on `count` samples, output by output in their order.
///
/// # Errors
/// The source fails on a sample, or the export on all of them, or the user interrupted.
pub fn parity(
    source: &mut dyn Model,
    export: &mut dyn Model,
    samples: &mut dyn Samples,
    count: usize,
    seed: u64,
) -> Result<Parity, Error> {
    let count = samples.count().map_or(count, |given| given.min(count));
    let mut double = Err("it was not asked for".to_owned());
    let mut copy: Option<Box<dyn Model>> = None;
    let mut sides: Vec<Vec<Side>> = Vec::new();
    let mut failures: Vec<(usize, String)> = Vec::new();
    for sample in 0..count {
        let inputs = samples.get(sample)?;
        let fails = |why| Error::ModelFails { sample, why };
        let own = called(source, sample, &inputs)?.map_err(fails)?;
        if sample == 0 {
            match source.double() {
                Ok(made) => (copy, double) = (Some(made), Ok(())),
                Err(why) => double = Err(why.0),
            }
        }
        let other = match called(export, sample, &inputs)? {
            Ok(outputs) => outputs,
            Err(why) => {
                failures.push((sample, why));
                continue;
            }
        };
        let wide: Vec<Tensor> = inputs.iter().map(Tensor::double).collect();
        let exact = match &mut copy {
            Some(copy) => called(copy.as_mut(), sample, &wide)?.ok(),
            None => None,
        };
        let mut moved = Vec::new();
        for k in 0..MOVED {
            let mut draws = Draws::new(seed, sample, k, Purpose::Rounding);
            let nudged: Vec<Tensor> = inputs
                .iter()
                .map(|tensor| {
                    if holds_labels(tensor, false) {
                        tensor.clone()
                    } else {
                        moved_by_one_ulp(tensor, None, &mut draws)
                    }
                })
                .collect();
            moved.extend(called(source, sample, &nudged)?.ok());
        }
        sides.push(compare(&own, &other, exact.as_deref(), &moved));
    }
    if let (true, Some((sample, why))) = (sides.is_empty(), failures.first()) {
        return Err(Error::ExportFails { sample: *sample, why: why.clone() });
    }
    let rows: Vec<ParityRow> = (0..sides.iter().map(Vec::len).max().unwrap_or(0))
        .map(|o| row(&sides.iter().filter_map(|side| side.get(o)).collect::<Vec<_>>()))
        .collect();
    let verdict = rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::NeedsAttention);
    Ok(Parity { rows, samples: sides.len(), failures, double, verdict })
}

type Outputs = Vec<(String, Tensor)>;

fn called(model: &mut dyn Model, sample: usize, inputs: &[Tensor]) -> Result<Result<Outputs, String>, Error> {
    let call = Call { sample, inputs, reset_generators: true, restore_state: true };
    match model.forward(&call) {
        Ok(returned) => Ok(Ok(returned
            .outputs
            .into_iter()
            .filter_map(|output| Some((output.name, output.tensor?)))
            .collect())),
        Err(CallError::Raised(why)) => Ok(Err(why)),
        Err(CallError::Interrupted) => Err(Error::Interrupted),
    }
}

/// One output on one sample.
struct Side {
    source: String,
    export: String,
    /// What no number describes otherwise.
    figures: Result<Figures, String>,
}

struct Figures {
    /// Norms of the source's output (of its finite entries), the difference, and what rounding makes of the source.
    size: f64,
    error: f64,
    rounding: f64,
    /// Unit roundoff of the output's type; 0 of integers.
    roundoff: f64,
}

fn compare(
    own: &[(String, Tensor)],
    other: &[(String, Tensor)],
    exact: Option<&[(String, Tensor)]>,
    moved: &[Outputs],
) -> Vec<Side> {
    let name = |side: Option<&(String, Tensor)>| side.map_or_else(String::new, |(name, _)| name.clone());
    let one = |o: usize| {
        let mine = own.get(o);
        let theirs = other.get(o);
        let figures = match (mine, theirs) {
            (Some(_), None) => Err("the export has no such output".to_owned()),
            (None, _) => Err("the source has no such output".to_owned()),
            (Some((_, mine)), Some((_, theirs))) => difference(mine, theirs).map(|error| {
                let against = |outputs: &[(String, Tensor)]| {
                    outputs.get(o).and_then(|(_, tensor)| difference(mine, tensor).ok()).unwrap_or(0.0)
                };
                let rounding = exact.map_or(0.0, against);
                let rounding = moved.iter().map(|outputs| against(outputs)).fold(rounding, f64::max);
                let roundoff = mine.dtype().unit_roundoff().unwrap_or(0.0);
                // Beside an infinity or NaN, which both may have, every other difference would vanish.
                let size = norm(&mine.to_real().mapv(|v| if v.is_finite() { v } else { 0.0 }));
                Figures { size, error, rounding, roundoff }
            }),
        };
        Side { source: name(mine), export: name(theirs), figures }
    };
    (0..own.len().max(other.len())).map(one).collect()
}

/// Norm of the difference; in words where there is none.
fn difference(mine: &Tensor, theirs: &Tensor) -> Result<f64, String> {
    if mine.shape() != theirs.shape() {
        return Err(format!(
            "the export's output has shape {:?}, the source's {:?}",
            theirs.shape(),
            mine.shape()
        ));
    }
    let (a, b) = (mine.to_real(), theirs.to_real());
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
    if a.iter().zip(&b).any(|(a, b)| !same(*a, *b) && !(a - b).is_finite()) {
        return Err("one of the outputs is not finite where the other is".to_owned());
    }
    let mut difference = a.clone();
    difference.zip_mut_with(&b, |a, b| *a = if same(*a, *b) { 0.0 } else { *a - b });
    Ok(norm(&difference))
}

fn row(sides: &[&Side]) -> ParityRow {
    let first = sides[0];
    let mut sizes: Vec<f64> =
        sides.iter().filter_map(|side| side.figures.as_ref().ok()).map(|f| f.size).collect();
    let floor = median(&mut sizes);
    let mut result = ParityRow {
        source: first.source.clone(),
        export: first.export.clone(),
        max_absolute: 0.0,
        max_relative: 0.0,
        noise: 0.0,
        verdict: Verdict::Pass,
        reason: "rounding explains the difference".to_owned(),
    };
    for side in sides {
        match &side.figures {
            Ok(figures) => {
                let scale = figures.size.max(floor);
                let relative = |v: f64| if v == 0.0 { 0.0 } else { v / scale };
                result.max_absolute = result.max_absolute.max(figures.error);
                result.max_relative = result.max_relative.max(relative(figures.error));
                // Sums in another order differ by some units in the last place where a change of the inputs shows none.
                result.noise = result.noise.max(relative(figures.rounding)).max(8.0 * figures.roundoff);
            }
            Err(why) => {
                (result.verdict, result.reason) = (Verdict::Fail, why.clone());
                (result.max_absolute, result.max_relative) = (f64::NAN, f64::NAN);
                return result;
            }
        }
    }
    if result.max_relative > MARGIN * result.noise {
        (result.verdict, result.reason) = if result.max_relative >= 1e-2 {
            (Verdict::Fail, "the outputs differ, and rounding does not explain it".to_owned())
        } else {
            (Verdict::NeedsAttention, "the outputs differ by more than rounding explains".to_owned())
        };
    } else if result.max_relative >= 1e-4 {
        result.verdict = Verdict::NeedsAttention;
        "rounding explains the difference, and it is large: the model amplifies it"
            .clone_into(&mut result.reason);
    }
    result
}
