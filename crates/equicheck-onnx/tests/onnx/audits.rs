//! Whole audits of exported networks.

use equicheck::Error;
use equicheck::audit::{self, Options, Specification};
use equicheck::model::{DType, Samples, Tensor};
use equicheck::report::{Float64, Report, Verdict};
use equicheck_onnx::Backend;
use ndarray::{Array2, ArrayD};

use crate::files::open;

/// Points with features and all their pairs, of other sizes each time.
struct Graphs;

impl Samples for Graphs {
    fn count(&self) -> Option<usize> {
        Some(4)
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        let nodes = 5 + index % 2;
        let wave = |a: f64| ((a + 13.0 * index as f64) * 12.9898).sin() * 1.7;
        let pos = Array2::from_shape_fn((nodes, 3), |(i, k)| wave((7 * i + 3 * k) as f64));
        let features = Array2::from_shape_fn((nodes, 4), |(i, k)| wave(0.5 + (11 * i + 5 * k) as f64));
        let pairs: Vec<[i64; 2]> = (0..nodes as i64)
            .flat_map(|i| (0..nodes as i64).map(move |j| [i, j]))
            .filter(|[i, j]| i != j)
            .collect();
        let edges = ArrayD::from_shape_fn(vec![2, pairs.len()], |place| pairs[place[1]][place[0]]);
        let float = |values: Array2<f64>| Tensor::from_real(values.into_dyn(), DType::Float32);
        Ok(vec![float(pos), float(features), Tensor::Int64(edges)])
    }
}

fn run(name: &str, backend: Backend) -> Report {
    let layout = |name: &str, text: &str| (name.to_owned(), Some(text.to_owned()));
    let inputs = [
        layout("pos", "nodes point"),
        layout("features", "nodes features"),
        layout("edges", "2 edges! : nodes"),
    ];
    let outputs = [layout("x", "nodes point"), layout("energy", "")];
    let specification = Specification::parse("E(3) x S(nodes)", &inputs, &outputs).unwrap();
    let options = Options { transforms: Some(8), budget: None, ..Options::default() };
    let mut model = open(name, backend);
    audit::audit(&specification, &options, &mut model, &mut Graphs, &mut |_| ()).unwrap()
}

#[test]
fn an_equivariant_network_passes_and_a_planted_bug_fails() {
    for backend in Backend::ALL {
        let report = run("egnn", backend);
        assert_eq!(report.verdict, Verdict::Pass, "{backend}");
        assert_eq!(report.model.framework, "onnx");
        assert!(report.environment.contains_key(backend.word()));
        for output in &report.outputs {
            let Float64::Available { max_relative, .. } = output.float64 else {
                panic!("{} with {backend}: {:?}", output.name, output.float64)
            };
            assert!(max_relative < 1e-13, "{} with {backend}: {max_relative:e}", output.name);
        }

        let layers = report.layers.layers().unwrap_or_else(|| panic!("{:?}", report.layers));
        assert!(layers.breaks.is_empty() && layers.rows.len() > 50, "{:?}", layers.breaks);
        // Every node was called again by itself, and gave the same.
        let apart =
            layers.rows.iter().find(|row| row.note.as_deref().is_some_and(|note| note.contains("alone")));
        assert_eq!(apart, None);

        let report = run("egnn_leak", backend);
        assert_eq!(report.verdict, Verdict::Fail, "{backend}");
        let layers = report.layers.layers().unwrap_or_else(|| panic!("{:?}", report.layers));
        assert!(!layers.breaks.is_empty(), "{backend}: {:?}", layers.notes);
    }
}
