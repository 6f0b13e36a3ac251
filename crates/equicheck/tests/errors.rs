//! Every error that an audit can end with, as a user meets it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use equicheck::audit::{Options, Specification, audit, parity, plan};
use equicheck::model::{
    Call, CallError, CustomAction, CustomElement, DType, Model, ModelInfo, Output, Returned, Samples, Tensor,
    Unavailable,
};
use equicheck::symmetry::{Element, Representations, UserRepresentation};
use equicheck::{Error, ParseError};
use ndarray::{ArrayD, IxDyn};

/// Answers every call by a function of the inputs.
struct Function<F>(F);

impl<F: FnMut(&[Tensor]) -> Result<Vec<Output>, CallError>> Model for Function<F> {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: "f".to_owned(),
            framework: "rust".to_owned(),
            parameters: None,
            dtype: "float64".to_owned(),
            device: "cpu".to_owned(),
            mode: "eval".to_owned(),
            computes_in: String::new(),
        }
    }

    fn environment(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
        Ok(Returned { outputs: (self.0)(call.inputs)?, written_inputs: Vec::new() })
    }
}

/// Acts on inputs by dropping their last row.
struct Shortening;

impl CustomAction for Shortening {
    fn name(&self) -> String {
        "shortening".to_owned()
    }

    fn act_on_inputs(&self, _: CustomElement, _: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        Ok(inputs.iter().map(|x| x.select(0, &(1..x.shape()[0]).collect::<Vec<_>>())).collect())
    }

    fn act_on_outputs(&self, _: CustomElement, outputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, Error> {
        Ok(outputs.iter().map(|(_, y)| y.clone()).collect())
    }
}

/// The same tensors for every sample.
struct Always(Vec<Tensor>);

impl Samples for Always {
    fn count(&self) -> Option<usize> {
        Some(1)
    }

    fn get(&mut self, _index: usize) -> Result<Vec<Tensor>, Error> {
        Ok(self.0.clone())
    }
}

struct Failing;

impl Samples for Failing {
    fn count(&self) -> Option<usize> {
        Some(1)
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        Err(Error::Host(format!("sample {index}: the generator raised ValueError")))
    }
}

fn ones(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::Float64(ArrayD::from_shape_vec(IxDyn(shape), (0..n).map(|k| (k as f64).cos()).collect()).unwrap())
}

fn output(name: &str, tensor: Option<Tensor>) -> Output {
    Output { name: name.to_owned(), positional: name.parse::<usize>().is_ok(), tensor }
}

/// Returns its first input.
#[expect(clippy::unnecessary_wraps, reason = "models can fail")]
fn echo(inputs: &[Tensor]) -> Result<Vec<Output>, CallError> {
    Ok(vec![output("output", Some(inputs[0].clone()))])
}

type Layouts<'a> = &'a [(&'a str, Option<&'a str>)];

fn specification(group: &str, inputs: Layouts<'_>, outputs: Layouts<'_>) -> Result<Specification, Error> {
    let own = |layouts: Layouts<'_>| {
        let owned = layouts.iter().map(|(name, layout)| ((*name).to_owned(), layout.map(str::to_owned)));
        owned.collect::<Vec<_>>()
    };
    Specification::parse(group, &own(inputs), &own(outputs))
}

/// The error of an audit of a model.
fn error_of(
    group: &str,
    inputs: Layouts<'_>,
    outputs: Layouts<'_>,
    tensors: &[Tensor],
    options: &Options,
    model: impl FnMut(&[Tensor]) -> Result<Vec<Output>, CallError>,
) -> Error {
    let specification = specification(group, inputs, outputs).unwrap_or_else(|error| panic!("{error}"));
    let mut samples = Always(tensors.to_vec());
    match audit(&specification, options, &mut Function(model), &mut samples, &mut |_| {}) {
        Ok(_) => panic!("no error"),
        Err(error) => error,
    }
}

const VARIANTS: usize = 14;

/// Without a wildcard: a new variant does not compile before it stands here and has an example below.
fn covered(error: &Error) -> usize {
    match error {
        Error::Parse(ParseError { .. }) => 0,
        Error::Shape { .. } => 1,
        Error::AxisLength { .. } => 2,
        Error::AxisNotMentioned { .. } => 3,
        Error::FactorMovesNothing { .. } => 4,
        Error::MissingOutput { .. } => 5,
        Error::NothingToAudit { .. } => 6,
        Error::Option { .. } => 7,
        Error::ModelFails { .. } => 8,
        Error::Host(_) => 9,
        Error::Interrupted => 10,
        Error::CustomAction { .. } => 11,
        Error::Representation { .. } => 12,
        Error::ExportFails { .. } => 13,
    }
}

const SPACE: Layouts<'static> = &[("pos", Some("nodes point"))];
const FORCES: Layouts<'static> = &[("output", Some("nodes vector"))];
const ALL: &str = "E(3) x S(nodes)";

type Example = (Error, &'static str);

/// What does not parse or fit together, and its whole message.
fn bad_specifications() -> Vec<Example> {
    vec![
        (
            specification("E(3) x S(4)", &[], &[]).unwrap_err(),
            "group: a permutation group needs the name of the axis that it permutes\n    E(3) x S(4)\n             ^\n\
             example: `S(nodes)`, with `nodes` in the layouts; the point group is `S4 @ (0,0,1)`",
        ),
        (
            specification(ALL, &[("pos", Some("nodes pont"))], &[]).unwrap_err(),
            "layout of input `pos`: unknown word `pont`\n    nodes pont\n          ^^^^\n\
             did you mean `point`? a plain axis of that name is written `pont!`",
        ),
        (
            specification(ALL, SPACE, &[("aux.0", Some("nodes 1x1"))]).unwrap_err(),
            "layout of output `aux.0`: irreps `1x1`: `1x1` at bytes 0..3 lacks a parity: write `1e` (even) or `1o` \
             (odd)\n    nodes 1x1\n          ^^^\nirreps are written as in e3nn: `8x0e+4x1o+2x2e`",
        ),
        (
            specification(ALL, &[("pos", Some("atoms! point"))], FORCES).unwrap_err(),
            "the group permutes `nodes`, but no input's layout has an axis `nodes`: name it in a layout, or drop \
             `S(nodes)` from the group",
        ),
    ]
}

/// Inputs and outputs that do not fit what was declared.
fn bad_tensors() -> Vec<Example> {
    let options = Options::default();
    let points = [ones(&[4, 3])];
    let of = |group, inputs, outputs, tensors: &[Tensor]| {
        error_of(group, inputs, outputs, tensors, &options, echo)
    };
    let pair = |inputs: &[Tensor]| Ok(["0", "1"].map(|name| output(name, Some(inputs[0].clone()))).to_vec());
    let two: Layouts<'_> = &[("pos", Some("nodes point")), ("mass", Some("nodes"))];
    let edges: Layouts<'_> = &[("pos", Some("nodes point")), ("index", Some("2 edges : nodes | 0"))];
    let index = Tensor::Int64(ArrayD::zeros(IxDyn(&[2, 5])));
    vec![
        (
            of(ALL, SPACE, FORCES, &[ones(&[4, 2])]),
            "input `pos`: layout `nodes point` does not fit shape [4, 2]: `point` needs length 3, axis 1 has 2",
        ),
        (
            of(ALL, SPACE, &[("output", Some("vector"))], &points),
            "output `output`: layout `vector` does not fit shape [4, 3]: it names 1 axes, the tensor has 2",
        ),
        (
            of(ALL, edges, FORCES, &[points[0].clone(), index]),
            "input `index`: layout `2 edges : nodes | 0` does not fit shape [2, 5]: 0 is also a position along \
             `nodes`, which has length 4: mark what is no position with a value outside 0..4",
        ),
        (
            of(ALL, two, FORCES, &[ones(&[4, 3]), ones(&[5])]),
            "axis `nodes` has length 4 in input `pos` and 5 in input `mass`: tensors that share a permuted axis must \
             agree on its length",
        ),
        (
            of("SE(3)", &[("v", Some("nodes vector"))], FORCES, &points),
            "factor `T(3)` of the group moves no input, so nothing about it can be tested: declare coordinates as \
             `point`, or `fractional(cell)` (a `vector` is not translated), or audit under `SO(3)`",
        ),
        (
            of("SO(3)", &[("h", Some("4x0e"))], &[("output", Some("4x0e"))], &[ones(&[4])]),
            "factor `SO(3)` of the group moves no input, so nothing about it can be tested: declare an input as \
             `vector`, `point` or irreps, or a grid's axes as `height width`",
        ),
        (
            of(ALL, SPACE, &[("energy", Some(""))], &points),
            "the model returned no output `energy`; it returned `output` [4, 3]",
        ),
        (
            of(ALL, SPACE, &[("output", None)], &points),
            "no output has a layout, so there is nothing to audit; the model returned `output` [4, 3]",
        ),
        (
            error_of(ALL, SPACE, &[("0", Some("nodes vector"))], &points, &options, pair),
            "`out_layouts`: output `1` is an entry of a tuple and has no layout: give one, or None to leave it out",
        ),
    ]
}

fn bad_options() -> Vec<Example> {
    let with = |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        error_of(ALL, SPACE, FORCES, &[ones(&[4, 3])], &options, echo)
    };
    vec![
        (with(|o| o.samples = Some(0)), "`samples`: at least 1 is needed"),
        (with(|o| o.transforms = Some(0)), "`transforms`: at least 1 is needed"),
        (
            with(|o| o.translation_scale = Some(f64::NAN)),
            "`translation_scale`: a positive, finite length is needed",
        ),
        (with(|o| o.tolerance = Some(-1.0)), "`tolerance`: a relative error of at least 0 is needed"),
        (
            with(|o| o.tolerances = [("energy".to_owned(), 1e-3)].into()),
            "`tolerance`: no output `energy` has a layout; outputs: output",
        ),
        (
            with(|o| o.levels.excellent = 1.0),
            "`levels`: perfect <= excellent <= approximate are needed, all positive",
        ),
        (
            with(|o| o.segments = [("edges".to_owned(), "pos".to_owned())].into()),
            "`segments`: the group does not permute `edges`",
        ),
        (
            with(|o| o.segments = [("nodes".to_owned(), "batch".to_owned())].into()),
            "`segments`: no input `batch`; inputs: pos",
        ),
        (
            with(|o| o.segments = [("nodes".to_owned(), "pos".to_owned())].into()),
            "`segments`: input `pos` must hold one integer label per entry of `nodes`: 0 labels for 4 entries",
        ),
    ]
}

/// `@twice`: twice the matrix that it should be.
struct Twice;

impl UserRepresentation for Twice {
    fn name(&self) -> &'static str {
        "twice"
    }

    fn matrix(&self, element: &Element) -> Result<ArrayD<f64>, Error> {
        Ok((element.linear() * 2.0).into_dyn())
    }
}

fn twice() -> Error {
    let table = Representations::new([Rc::new(Twice) as Rc<dyn UserRepresentation>]).unwrap();
    let own = |name: &str, layout: &str| [(name.to_owned(), Some(layout.to_owned()))];
    let (inputs, outputs) = (own("pos", "4 vector"), own("output", "4 @twice"));
    let specification = Specification::parse_with("SO(3)", &inputs, &outputs, table).unwrap();
    let mut samples = Always(vec![ones(&[4, 3])]);
    audit(&specification, &Options::default(), &mut Function(echo), &mut samples, &mut |_| {}).unwrap_err()
}

/// Models and hosts that fail.
fn failures() -> Vec<Example> {
    let options = Options::default();
    let points = [ones(&[4, 3])];
    vec![
        (
            error_of(ALL, SPACE, FORCES, &points, &options, |_| {
                Err(CallError::Raised("RuntimeError: shapes cannot be multiplied (4x3 and 2x2)".to_owned()))
            }),
            "the model fails on sample 0 as it was given: RuntimeError: shapes cannot be multiplied (4x3 and 2x2)",
        ),
        (
            audit(
                &specification(ALL, SPACE, FORCES).unwrap(),
                &options,
                &mut Function(echo),
                &mut Failing,
                &mut |_| {},
            )
            .unwrap_err(),
            "sample 0: the generator raised ValueError",
        ),
        (error_of(ALL, SPACE, FORCES, &points, &options, |_| Err(CallError::Interrupted)), "interrupted"),
        (
            twice(),
            "representation `@twice`: its matrix for the identity is not the identity matrix: the relative difference \
             is 1.0e0",
        ),
        (
            audit(
                &Specification::custom(Rc::new(Shortening), &["pos".to_owned()], &[]),
                &options,
                &mut Function(echo),
                &mut Always(points.to_vec()),
                &mut |_| {},
            )
            .unwrap_err(),
            "custom action: `input(x, T)`: the shape of `pos` changes from [4, 3] to [3, 3]",
        ),
        (
            parity(
                &mut Function(echo),
                &mut Function(|_: &[Tensor]| Err(CallError::Raised("no such operator".to_owned()))),
                &mut Always(points.to_vec()),
                1,
                0,
            )
            .unwrap_err(),
            "the export could not be run on sample 0, which its source answers: no such operator",
        ),
    ]
}

#[test]
fn every_error_says_what_where_and_what_to_do() {
    let mut seen = BTreeSet::new();
    let examples = [bad_specifications(), bad_tensors(), bad_options(), failures()].concat();
    for (error, message) in examples {
        assert_eq!(error.to_string(), message, "{error:?}");
        seen.insert(covered(&error));
    }
    let all: BTreeSet<usize> = (0..VARIANTS).collect();
    assert_eq!(seen, all, "every variant has an example");
}

/// What the user's own data hold is not the model's doing.
#[test]
fn inputs_that_are_not_finite_are_named() {
    let mut values = ArrayD::ones(IxDyn(&[4, 3]));
    values[[1, 2]] = f64::NAN;
    for (given, wanted) in [
        (Tensor::Float64(values), ": sample 0 holds NaN or infinity itself, in input `pos`"),
        (ones(&[4, 3]), "on an input as it was given"),
    ] {
        let clean = wanted.starts_with("on");
        let specification = specification(ALL, SPACE, FORCES).unwrap();
        let mut model = Function(move |inputs: &[Tensor]| {
            let Tensor::Float64(x) = &inputs[0] else { panic!("as given") };
            let y = if clean { x.mapv(|_| f64::INFINITY) } else { x.clone() };
            Ok(vec![output("output", Some(Tensor::Float64(y)))])
        });
        let options = Options::default();
        let report =
            audit(&specification, &options, &mut model, &mut Always(vec![given]), &mut |_| {}).unwrap();
        let reason = &report.outputs[0].reason;
        assert!(reason.contains(wanted) && reason.contains("itself") != clean, "{reason}");
    }
}

/// A copy in double precision takes its own time.
#[test]
fn a_plan_counts_calls_of_each_model_at_their_own_cost() {
    struct Slow(std::time::Duration);
    impl Model for Slow {
        fn info(&self) -> ModelInfo {
            ModelInfo::default()
        }

        fn environment(&self) -> BTreeMap<String, String> {
            BTreeMap::new()
        }

        fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
            std::thread::sleep(self.0);
            let outputs = vec![output("output", Some(call.inputs[0].clone()))];
            Ok(Returned { outputs, written_inputs: Vec::new() })
        }

        fn double(&mut self) -> Result<Box<dyn Model>, Unavailable> {
            Ok(Box::new(Slow(std::time::Duration::from_millis(30))))
        }
    }
    let specification = specification(ALL, SPACE, FORCES).unwrap();
    let mut model = Slow(std::time::Duration::ZERO);
    let single = Tensor::from_real(ones(&[4, 3]).to_real(), DType::Float32);
    let options = Options::default();
    let plan = plan(&specification, &options, &mut model, &mut Always(vec![single])).unwrap();
    let each = plan.expected.unwrap() / plan.pairs as u32;
    assert!(each.as_millis() >= 30, "{each:?}");
}

/// An interruption stops an audit wherever it is, not only in its first call.
#[test]
fn an_interruption_stops_the_audit_at_any_call() {
    let options = Options { transforms: Some(2), ..Options::default() };
    for calls in [2, 5, 10] {
        let mut left = calls;
        let error = error_of(ALL, SPACE, FORCES, &[ones(&[4, 3])], &options, |inputs| {
            left -= 1;
            if left == 0 { Err(CallError::Interrupted) } else { echo(inputs) }
        });
        assert_eq!(error, Error::Interrupted, "after {calls} calls");
    }
}
