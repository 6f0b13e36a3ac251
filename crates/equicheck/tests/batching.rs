//! Several pairs in one call: how many calls, what is refused, and what is found all the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use equicheck::audit::{BatchSize, Options, Specification, merge};
use equicheck::model::{Call, CallError, Model, ModelInfo, Output, Returned, Samples, Tensor};
use equicheck::report::{Report, Shard, Stop, Verdict, to_json, to_text};
use equicheck::{Error, audit};
use ndarray::{Array2, ArrayD, ArrayView1, Axis, Ix2};

const SAMPLES: usize = 4;
const BUGS: [Bug; 2] = [Bug::Along(0.3), Bug::Along(0.0)];

/// What is wrong with a network that takes each vector to a multiple of it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    /// Nothing, or a constant vector along x.
    Along(f64),
    /// Raises where there are more entries.
    RaisesAbove(usize),
    /// Takes the mean off where there are more entries.
    MixesAbove(usize),
    /// The entry behind a vector that points up is another, and only then.
    MixesBehind(f64),
    /// Where there are more entries, gives one too few.
    DropsAbove(usize),
    /// Raises on a vector that points up.
    RaisesAt(f64),
    /// Rounds otherwise where there are more entries: this relative difference.
    RoundsAbove(usize, f64),
    /// Counts its calls in what it gives.
    Counts,
    /// Gives NaN for all entries where one of more than four points up.
    SpreadsNan(f64),
}

struct Network {
    bug: Bug,
    /// Whether samples differ in tensors alone.
    shares: bool,
    /// Vectors by call.
    calls: Rc<RefCell<Vec<Vec<[f64; 3]>>>>,
}

fn points_up(v: &ArrayView1<'_, f64>, cosine: f64) -> bool {
    v[2] > cosine * v.dot(v).sqrt()
}

impl Model for Network {
    fn info(&self) -> ModelInfo {
        ModelInfo::default()
    }

    fn environment(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn shares_arguments(&mut self, _: usize, _: usize) -> bool {
        self.shares
    }

    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
        let x = call.inputs[0].to_real().into_dimensionality::<Ix2>().expect("vectors in a batch");
        self.calls.borrow_mut().push(x.rows().into_iter().map(|v| [v[0], v[1], v[2]]).collect());
        let factor = call.inputs[1].to_real()[[0]];
        let n = x.nrows();
        let mut y = &x * &x.mapv(|v| v * v).sum_axis(Axis(1)).insert_axis(Axis(1)) * factor;
        match self.bug {
            Bug::Along(shift) => y.column_mut(0).iter_mut().for_each(|v| *v += shift),
            Bug::RaisesAbove(most) if n > most => return Err(CallError::Raised(format!("{n} are too many"))),
            Bug::MixesAbove(most) if n > most => y = &y - &y.mean_axis(Axis(0)).expect("there are entries"),
            Bug::DropsAbove(most) if n > most => y = y.slice_move(ndarray::s![1.., ..]),
            Bug::RoundsAbove(most, change) if n > most => y *= 1.0 + change,
            Bug::Counts => y *= 1.0 + 0.01 * self.calls.borrow().len() as f64,
            Bug::MixesBehind(cosine) => {
                for i in 1..n {
                    if points_up(&x.row(i - 1), cosine) {
                        y[[i, 0]] += 0.5;
                    }
                }
            }
            Bug::RaisesAt(cosine) if x.rows().into_iter().any(|v| points_up(&v, cosine)) => {
                return Err(CallError::Raised("a vector points up".to_owned()));
            }
            Bug::SpreadsNan(cosine) if n > 4 && x.rows().into_iter().any(|v| points_up(&v, cosine)) => {
                y.fill(f64::NAN);
            }
            _ => {}
        }
        let tensor = Some(Tensor::Float64(y.into_dyn()));
        let output = Output { name: "y".to_owned(), positional: false, tensor };
        Ok(Returned { outputs: vec![output], written_inputs: Vec::new() })
    }
}

/// Batches of one and two vectors, none of which points up.
struct Vectors;

impl Samples for Vectors {
    fn count(&self) -> Option<usize> {
        Some(SAMPLES)
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        let value = |(i, k)| if k == 2 { -0.1 } else { 0.7 + ((5 * i + 3 * k + 7 * index) as f64).sin() };
        let x = Array2::from_shape_fn((1 + index % 2, 3), value);
        let factor = ArrayD::from_elem(vec![1], 1.5);
        Ok(vec![Tensor::Float64(x.into_dyn()), Tensor::Float64(factor)])
    }
}

struct Run {
    report: Report,
    calls: Vec<Vec<[f64; 3]>>,
}

fn run(bug: Bug, batch: usize) -> Run {
    run_with(bug, true, Options { batch: BatchSize::Pairs(batch), ..Options::default() })
}

fn run_with(bug: Bug, shares: bool, options: Options) -> Run {
    let named = |name: &str, text: &str| (name.to_owned(), Some(text.to_owned()));
    let inputs = [named("x", "batch vector"), named("factor", "1")];
    // Every fourth element of the finite one is the identity.
    let group = if bug == Bug::Along(0.1) { "C4 @ (0,0,1)" } else { "SO(3)" };
    let specification = Specification::parse(group, &inputs, &[named("y", "batch vector")]).unwrap();
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut model = Network { bug, shares, calls: Rc::clone(&calls) };
    let options = Options { transforms: options.transforms.or(Some(24)), budget: None, ..options };
    let report = audit::audit(&specification, &options, &mut model, &mut Vectors, &mut |_| ()).unwrap();
    drop(model);
    let calls = Rc::into_inner(calls).expect("the model is gone").into_inner();
    Run { report, calls }
}

/// What must not depend on how the model is called.
fn answer(report: &Report) -> (Verdict, Vec<String>, Vec<String>) {
    let classes = report.outputs.iter().map(|o| format!("{:?} {:?}", o.classification, o.verdict));
    let findings = report.findings.iter().map(|f| format!("{} {} {}", f.mode, f.location, f.severity));
    (report.verdict, classes.collect(), findings.collect())
}

fn audit_calls(report: &Report) -> u64 {
    report.plan.calls_by_purpose["audit"]
}

/// The only note about the size of batches.
fn note(report: &Report) -> &str {
    let found: Vec<&String> = report.notes.iter().filter(|note| note.starts_with("batch=")).collect();
    assert_eq!(found.len(), 1, "{:?}", report.notes);
    found[0]
}

#[test]
fn pairs_share_calls_and_the_answer_is_the_same() {
    for bug in BUGS {
        let single = run(bug, 1).report;
        let shared = run(bug, 8);
        let pairs = single.plan.pairs;
        assert_eq!(answer(&shared.report), answer(&single), "{bug:?}");
        assert_eq!(shared.report.plan.pairs, pairs);
        assert_eq!(audit_calls(&single), pairs as u64);
        // The identity of each probed sample is a call of its own, and the last call need not be full.
        let most = 3 + (pairs - 3).div_ceil(8) as u64;
        assert_eq!(audit_calls(&shared.report), most, "{bug:?}");
        assert_eq!(shared.report.plan.calls, shared.calls.len() as u64, "a shared call is one call");
        assert_eq!(shared.report.plan.batch, 8);
        let (a, b) = (&single.outputs[0], &shared.report.outputs[0]);
        assert_eq!(
            a.worst.as_ref().map(|w| (w.sample, w.index)),
            b.worst.as_ref().map(|w| (w.sample, w.index))
        );
        assert!((a.relative.mean - b.relative.mean).abs() <= 1e-12 * a.relative.mean.max(1e-3), "{bug:?}");
        assert!(
            !shared.report.notes.iter().any(|note| note.starts_with("batch=")),
            "{:?}",
            shared.report.notes
        );
        assert!(to_text(&shared.report).contains("up to 8, along `batch`"));
    }
}

#[test]
fn an_audit_of_single_calls_says_nothing_of_batches() {
    let report = run(Bug::Along(0.0), 1).report;
    assert!(!to_json(&report).contains("\"batch\""));
    assert!(!to_text(&report).contains("Pairs per call"));
}

#[test]
fn equal_plans_give_equal_reports() {
    let reports = [0, 1].map(|_| run(Bug::Along(0.3), 5).report);
    assert_eq!(
        Report { timings: None, ..reports[0].clone() },
        Report { timings: None, ..reports[1].clone() }
    );
}

#[test]
fn x_is_never_in_a_call_with_transformed_inputs() {
    let run = run(Bug::Along(0.1), 8);
    let own: Vec<[f64; 3]> = (0..SAMPLES)
        .flat_map(|k| {
            let x = Vectors.get(k).unwrap()[0].to_real().into_dimensionality::<Ix2>().unwrap();
            x.rows().into_iter().map(|v| [v[0], v[1], v[2]]).collect::<Vec<_>>()
        })
        .collect();
    let mut both = [0, 0];
    for call in run.calls.iter().filter(|call| call.len() > 4) {
        let clean = call.iter().filter(|v| own.contains(v)).count();
        assert!(clean == 0 || clean == call.len(), "{clean} of {} vectors as they were given", call.len());
        both[usize::from(clean == 0)] += 1;
    }
    assert!(both.iter().all(|calls| *calls > 0));
}

#[test]
fn samples_share_calls_only_where_nothing_but_tensors_differs() {
    let options = Options { batch: BatchSize::Pairs(20), ..Options::default() };
    let apart = run_with(Bug::Along(0.0), false, options).report;
    // The last calls of each sample are not full.
    let together = run(Bug::Along(0.0), 20).report;
    assert!(audit_calls(&apart) > audit_calls(&together));
    assert_eq!(answer(&apart), answer(&together));
}

#[test]
fn what_calls_on_several_inputs_get_wrong_is_evaluated_call_by_call() {
    let single = answer(&run(Bug::Along(0.0), 1).report);
    for (bug, why) in [
        (Bug::RaisesAbove(6), "the model raises in a call on 8 inputs: 8 are too many"),
        (Bug::MixesAbove(6), "in a call on several inputs output `y` differs from calls on one by"),
        (
            Bug::DropsAbove(6),
            "in a call on several inputs output `y` has shape [7, 3] where [8, 3] is expected",
        ),
        // Entries that see each other in any batch: the composition of batches tells.
        (Bug::MixesAbove(1), "entries of a batch influence each other in output `y`"),
    ] {
        let report = run(bug, 8).report;
        assert_eq!(audit_calls(&report), report.plan.pairs as u64, "{bug:?}");
        assert_eq!(report.plan.batch, 1, "{bug:?}");
        let note = note(&report);
        assert!(note.starts_with("batch=8 was not used, each pair is a call of its own: "), "{note}");
        assert!(note.contains(why), "{note}");
        if bug != Bug::MixesAbove(1) {
            assert_eq!(answer(&report), single, "{bug:?}");
        }
    }
}

#[test]
fn state_keeps_calls_apart() {
    let report = run(Bug::Counts, 8).report;
    assert_eq!(audit_calls(&report), report.plan.pairs as u64);
    assert!(
        note(&report).ends_with("two calls differ although input, generators and state are the same"),
        "{}",
        note(&report)
    );
}

#[test]
fn what_a_batch_rounds_otherwise_is_noise() {
    // Eight units in the last place: below ten times what moves of one unit make, above once.
    let change = 8.0 * f64::EPSILON;
    let (single, shared) = (run(Bug::RoundsAbove(4, change), 1), run(Bug::RoundsAbove(4, change), 8));
    assert_eq!(shared.report.plan.batch, 8, "{:?}", shared.report.notes);
    let noise = |run: &Run| run.report.outputs[0].noise;
    assert!(noise(&single) < 0.6 * change, "{:e}", noise(&single));
    assert!(noise(&shared) > 0.9 * change, "{:e}", noise(&shared));
    assert_eq!(answer(&shared.report), answer(&single.report));
}

/// Nothing shows before the pairs: a vector of the plan points up, none of the probes' does.
#[test]
fn a_worst_pair_that_is_another_alone_takes_back_all_calls_that_were_shared() {
    let options = || Options { batch: BatchSize::Pairs(4), transforms: Some(200), ..Options::default() };
    let seed = (0..40).find(|seed| {
        let report = run_with(Bug::MixesBehind(0.98), true, Options { seed: *seed, ..options() }).report;
        report.notes.iter().any(|note| note.contains("differs from calls on one"))
            && report.plan.calls_by_purpose["audit"] > report.plan.pairs as u64
    });
    let seed = seed.expect("some seed meets the bug in the plan alone");
    let report = run_with(Bug::MixesBehind(0.98), true, Options { seed, ..options() }).report;
    let single =
        run_with(Bug::Along(0.0), true, Options { seed, transforms: Some(200), ..Options::default() });
    assert_eq!(answer(&report), answer(&single.report));
    assert_eq!(report.plan.batch, 1);
    assert_eq!(report.outputs[0].noise, single.report.outputs[0].noise);
    assert!(note(&report).starts_with("batch=4 was not used"));
}

#[test]
fn an_element_that_fails_is_told_from_those_that_shared_its_call() {
    let options = |batch| Options {
        batch: BatchSize::Pairs(batch),
        transforms: Some(100),
        seed: 3,
        ..Options::default()
    };
    let single = run_with(Bug::RaisesAt(0.97), true, options(1)).report;
    let shared = run_with(Bug::RaisesAt(0.97), true, options(8)).report;
    assert_eq!(single.verdict, Verdict::Fail);
    assert_eq!(answer(&shared), answer(&single));
    let failing =
        |report: &Report| report.outputs[0].factors.iter().map(|row| row.exceeding).collect::<Vec<_>>();
    assert_eq!(failing(&shared), failing(&single));
    // Calls that fail as single ones do are no reason to give up.
    assert!(!shared.notes.iter().any(|note| note.starts_with("batch=")), "{:?}", shared.notes);
    assert!(shared.outputs[0].factors[0].exceeding > 1);
    // NaN that only a batch spreads is no failure of the network.
    let spread = run_with(Bug::SpreadsNan(0.97), true, options(8)).report;
    assert_eq!(answer(&spread), answer(&run_with(Bug::Along(0.0), true, options(1)).report));
    assert!(note(&spread).contains("not finite") || note(&spread).contains("infinite"), "{:?}", spread.notes);
}

#[test]
fn shards_that_share_calls_merge() {
    let shard = |index| {
        let shard = Shard { index, count: 3 };
        run_with(Bug::Along(0.3), true, Options { batch: BatchSize::Pairs(4), shard, ..Options::default() })
            .report
    };
    let shards: Vec<Report> = (0..3).map(shard).collect();
    let again = shard(1);
    assert_eq!(
        Report { timings: None, evidence: None, ..shards[1].clone() },
        Report { timings: None, evidence: None, ..again }
    );
    let merged = merge(&shards).unwrap();
    let whole = run(Bug::Along(0.3), 4).report;
    assert_eq!(answer(&merged), answer(&whole));
    assert_eq!((merged.plan.pairs, merged.plan.batch), (whole.plan.pairs, 4));
    assert!(audit_calls(&merged) < whole.plan.pairs as u64 / 3);
}

#[test]
fn an_early_end_looks_at_whole_rounds() {
    let early = |batch| {
        let options = Options {
            batch: BatchSize::Pairs(batch),
            early_stop: true,
            transforms: Some(300),
            ..Options::default()
        };
        run_with(Bug::Along(0.0), true, options).report
    };
    let (single, shared) = (early(1), early(7));
    assert_eq!((single.plan.stop, shared.plan.stop), (Stop::Early, Stop::Early));
    assert_eq!(single.plan.pairs, shared.plan.pairs);
    assert!(audit_calls(&shared) * 4 < audit_calls(&single));
}

#[test]
fn the_size_is_found_by_timing() {
    let report =
        run_with(Bug::Along(0.0), true, Options { batch: BatchSize::Auto, ..Options::default() }).report;
    // How many is a matter of the machine; what is found is recorded, and serves as a number.
    let again = run(Bug::Along(0.0), report.plan.batch).report;
    assert_eq!(answer(&report), answer(&again));
    let few =
        run_with(Bug::RaisesAbove(3), true, Options { batch: BatchSize::Auto, ..Options::default() }).report;
    assert!(few.plan.batch <= 3);
}

#[test]
fn a_size_that_is_none_says_what_to_give() {
    for (text, wanted) in [
        ("8", Some(BatchSize::Pairs(8))),
        ("auto", Some(BatchSize::Auto)),
        ("0", None),
        ("-1", None),
        ("", None),
    ] {
        assert_eq!(text.parse::<BatchSize>().ok(), wanted, "{text}");
    }
    let named = |name: &str, text: &str| (name.to_owned(), Some(text.to_owned()));
    let layouts = [named("x", "batch vector"), named("factor", "1")];
    let specification = Specification::parse("SO(3)", &layouts, &[named("y", "batch vector")]).unwrap();
    let mut model = Network { bug: Bug::Along(0.0), shares: true, calls: Rc::default() };
    let shard = Shard { index: 0, count: 2 };
    for (options, why) in [
        (Options { batch: BatchSize::Pairs(0), ..Options::default() }, "at least 1 pair per call is needed"),
        (Options { batch: BatchSize::Auto, shard, ..Options::default() }, "give the number"),
    ] {
        let error =
            audit::audit(&specification, &options, &mut model, &mut Vectors, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}
