//! Models that draw random numbers inside: replayed draws, and laws.

use std::collections::BTreeMap;

use equicheck::audit::{NoiseLayouts, Options, Randomness, Specification};
use equicheck::model::{
    Call, CallError, DType, Draw, Drawn, Model, ModelInfo, Output, Returned, Samples, Tensor, Unavailable,
};
use equicheck::report::{Classification, LawStatistic, Report, Verdict};
use equicheck::{Error, audit};
use ndarray::{Array2, Ix2};

const NODES: usize = 4;

/// One step of a diffusion: points about their centre, and noise.
#[derive(Debug, Clone, Copy)]
struct Step {
    sigma: f64,
    /// Added along z.
    drift: f64,
    /// The z components of the noise are larger by this factor, less 1.
    stretch: f64,
    /// Nodes in the upper half of the lab draw once more.
    uneven: bool,
    /// State of the generator, and the one that it is reset to.
    state: u64,
    seed: u64,
}

const HEALTHY: Step = Step { sigma: 0.5, drift: 0.0, stretch: 0.0, uneven: false, state: 1, seed: 1 };

impl Step {
    /// Uniform on (0, 1): splitmix64.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / 2f64.powi(53)
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

impl Model for Step {
    fn info(&self) -> ModelInfo {
        ModelInfo::default()
    }

    fn environment(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
        Ok(self.forward_with_draws(call, None)?.returned)
    }

    fn replays_draws(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    fn forward_with_draws(&mut self, call: &Call<'_>, replayed: Option<&[Draw]>) -> Result<Drawn, CallError> {
        if call.reset_generators {
            self.state = self.seed;
        }
        let tensor = &call.inputs[0];
        let x = tensor.to_real().into_dimensionality::<Ix2>().expect("points have two axes");
        let mean = x.mean_axis(ndarray::Axis(0)).expect("there are points");
        let about = &x - &mean;
        let mut draws = Vec::new();
        let turns = 1 + usize::from(self.uneven && x[[0, 2]] > 0.0);
        let mut noise = Array2::zeros((NODES, 3));
        for turn in 0..turns {
            let own = Array2::from_shape_simple_fn((NODES, 3), || self.normal());
            let given = replayed.and_then(|given| given.get(turn)?.values.clone());
            noise = given.map_or(own, |values| values.to_real().into_dimensionality::<Ix2>().unwrap());
            draws.push(Draw {
                kind: "normal".to_owned(),
                gaussian: true,
                shape: vec![NODES, 3],
                values: replayed.is_none().then(|| Tensor::Float64(noise.clone().into_dyn())),
            });
        }
        let mut y = about + &noise * self.sigma;
        for (mut row, noise) in y.rows_mut().into_iter().zip(noise.rows()) {
            row[2] += self.sigma * (self.stretch * noise[2] + self.drift);
        }
        let output = Output {
            name: "x".to_owned(),
            positional: false,
            tensor: Some(Tensor::from_real(y.into_dyn(), tensor.dtype())),
        };
        let returned = Returned { outputs: vec![output], written_inputs: Vec::new() };
        Ok(Drawn { returned, draws, out_of_reach: Vec::new() })
    }

    fn double(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        Ok(Box::new(*self))
    }
}

struct Points;

impl Samples for Points {
    fn count(&self) -> Option<usize> {
        Some(3)
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        let x = Array2::from_shape_fn((NODES, 3), |(i, k)| ((7 * i + 3 * k + 5 * index) as f64).sin() + 0.3);
        Ok(vec![Tensor::from_real(x.into_dyn(), DType::Float32)])
    }
}

fn run(mut model: Step, randomness: Randomness, seed: u64) -> Result<Report, Error> {
    let layout = |name: &str, text: &str| vec![(name.to_owned(), Some(text.to_owned()))];
    let inputs = layout("x", "nodes point");
    let specification = Specification::parse("E(3) x S(nodes)", &inputs, &layout("x", "nodes vector"))?;
    let options = Options { randomness, seed, transforms: Some(8), budget: None, ..Options::default() };
    audit::audit(&specification, &options, &mut model, &mut Points, &mut |_| ())
}

fn transform() -> Randomness {
    Randomness::Transform(NoiseLayouts::All("nodes vector".to_owned()))
}

#[test]
fn transformed_draws_make_a_healthy_step_exact_and_a_biased_one_fail() {
    let report = run(HEALTHY, transform(), 0).unwrap();
    assert_eq!((report.verdict, report.outputs[0].classification), (Verdict::Pass, Classification::Exact));
    assert!(report.transforms.iter().any(|row| row.role == "noise"));
    for biased in [Step { drift: 1e-3, ..HEALTHY }, Step { stretch: 1e-3, ..HEALTHY }] {
        let report = run(biased, transform(), 0).unwrap();
        assert_eq!(report.outputs[0].classification, Classification::Approximate);
    }
    for biased in [Step { drift: 0.3, ..HEALTHY }, Step { stretch: 0.3, ..HEALTHY }] {
        assert_eq!(run(biased, transform(), 0).unwrap().verdict, Verdict::Fail);
    }
    // Replayed as they are, the draws do not follow the input.
    let as_they_are = Randomness::Transform(NoiseLayouts::Each(vec![None]));
    assert_eq!(run(HEALTHY, as_they_are, 0).unwrap().verdict, Verdict::Fail);
}

#[test]
fn another_sequence_of_draws_is_a_failure_in_words() {
    let report = run(Step { uneven: true, ..HEALTHY }, transform(), 0).unwrap();
    assert_eq!(report.verdict, Verdict::Fail);
    let reason = &report.outputs[0].reason;
    assert!(reason.starts_with("the random draws on the transformed input are others"), "{reason}");
}

#[test]
fn laws_of_healthy_steps_agree_whatever_the_seed() {
    for seed in 0..12 {
        let report = run(Step { seed: 1000 + seed, ..HEALTHY }, Randomness::Distribution, seed).unwrap();
        let output = &report.outputs[0];
        assert_eq!((output.verdict, output.classification), (Verdict::Pass, Classification::Consistent));
        let law = output.distribution.as_ref().unwrap();
        assert!(law.tests.len() == 12 && law.detectable < 0.5 && law.detectable_spread < 0.5);
        assert_eq!((report.plan.pairs, report.plan.planned_pairs), (6, 6));
        assert!(report.findings.is_empty());
    }
}

#[test]
fn laws_of_biased_steps_differ_in_what_is_biased() {
    let cases = [
        (Step { drift: 0.6, ..HEALTHY }, LawStatistic::Values, Verdict::Fail),
        (Step { stretch: 0.6, ..HEALTHY }, LawStatistic::SecondMoments, Verdict::Fail),
        // A mean that moves by less than a per cent of the output, a spread that changes by a third of itself.
        (Step { drift: 0.6, sigma: 0.005, ..HEALTHY }, LawStatistic::Values, Verdict::NeedsAttention),
        (Step { stretch: 0.6, sigma: 0.005, ..HEALTHY }, LawStatistic::SecondMoments, Verdict::Fail),
    ];
    for (biased, statistic, verdict) in cases {
        let report = run(biased, Randomness::Distribution, 3).unwrap();
        let output = &report.outputs[0];
        assert_eq!(output.verdict, verdict, "{biased:?}: {}", output.reason);
        let law = output.distribution.as_ref().unwrap();
        let second = law.second_look.as_ref().unwrap();
        assert_eq!(second.statistic, statistic, "{biased:?}");
        assert!(second.adjusted_p_value <= 1e-3);
        for test in &law.tests {
            // Permutations and translations leave the bias where it is.
            let moved = test.factor == "O(3)" || test.factor == "joint";
            assert!(moved || test.adjusted_p_value > 1e-3, "{test:?}");
        }
        assert_eq!(report.findings[0].mode.id(), "random-law");
    }
    // The mean that moves is measured right: z by 0.3 per node is turned to anywhere, at most doubled.
    let report = run(Step { drift: 0.6, ..HEALTHY }, Randomness::Distribution, 3).unwrap();
    let law = report.outputs[0].distribution.as_ref().unwrap();
    let shift = law.second_look.as_ref().unwrap().shift * law.spread;
    let drift = 0.5 * 0.6 * 2.0; // per node, times the root of the number of nodes
    assert!(shift > 0.8 * drift && shift < 2.2 * drift, "{shift}");
}
