//! Operators that backends have in single precision alone, in terms of those that they have in double precision.

use std::collections::{HashMap, HashSet};

use equicheck::model::Tensor;

use crate::anatomy::STANDS_FOR;
use crate::backend::Backend;
use crate::graph::{constants_mut, is_standard, node_name, nodes_mut, tensor_attribute, try_nodes};
use crate::guard::one_line;
use crate::proto::{
    AttributeProto, AttributeType, ModelProto, NodeProto, StringStringEntryProto, TensorProto, data_type,
};
use crate::tensor;

/// Operators that take doubles and compute with less inside: found by comparing every operator of the standard, in
/// double precision on each backend, with the standard's reference implementation.
const SINGLE_INSIDE: [(Backend, &[&str]); 2] = [
    (
        Backend::Tract,
        &["Attention", "GridSample", "GroupNormalization", "RMSNormalization", "Resize", "Upsample"],
    ),
    (
        Backend::OnnxRuntime,
        &["AffineGrid", "Attention", "BlackmanWindow", "DFT", "DeformConv", "GridSample", "HammingWindow"],
    ),
];

/// Whether a backend computes all of a double-precision graph in double precision.
///
/// # Errors
/// The operator that it does not, and the node.
pub(crate) fn check(model: &ModelProto, backend: Backend) -> Result<(), String> {
    let (_, short) = SINGLE_INSIDE.iter().find(|(of, _)| *of == backend).expect("both are listed");
    try_nodes(model, &mut |node| {
        if is_standard(&node.domain) && short.contains(&node.op_type.as_str()) {
            let title = backend.title();
            return Err(format!(
                "`{}` at node `{}`: {title} computes it in single precision inside",
                node.op_type,
                one_line(node_name(node))
            ));
        }
        Ok(())
    })
}

/// Replaces them in a graph in double precision.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the method itself is not general enough")]
pub(crate) fn lower(model: &mut ModelProto, names: &mut HashSet<String>) {
    replace_nodes(model, names, |parts, node| parts.replace(node));
}

/// Replaces each node that `replacement` knows to replace.
fn replace_nodes(
    model: &mut ModelProto,
    names: &mut HashSet<String>,
    replacement: impl Fn(&mut Parts<'_>, &NodeProto) -> bool,
) {
    nodes_mut(model, &mut |nodes| {
        let mut result = Vec::with_capacity(nodes.len());
        for node in nodes.drain(..) {
            let mut parts = Parts { nodes: Vec::new(), names, base: node_name(&node).to_owned() };
            if is_standard(&node.domain) && replacement(&mut parts, &node) {
                let original = [node.name.clone(), node.op_type.clone()];
                let mut metadata = node.metadata_props;
                metadata.extend(
                    STANDS_FOR
                        .iter()
                        .zip(original)
                        .map(|(key, value)| StringStringEntryProto { key: (*key).to_owned(), value }),
                );
                for mut part in parts.nodes {
                    part.metadata_props.clone_from(&metadata);
                    result.push(part);
                }
            } else {
                result.push(node);
            }
        }
        *nodes = result;
    });
}

/// Circular padding of a known width in terms of slices, whatever the element type.
pub(crate) fn lower_circular_padding(model: &mut ModelProto, names: &mut HashSet<String>) {
    let integers = integers(model);
    replace_nodes(model, names, |parts, node| parts.wrap(node, &integers));
}

/// Whether a node pads circularly.
fn wraps(node: &NodeProto) -> bool {
    node.op_type == "Pad" && node.attribute.iter().any(|a| a.name == "mode" && a.s == b"wrap")
}

/// All constants of 64-bit integers, by name.
fn integers(model: &mut ModelProto) -> HashMap<String, Vec<i64>> {
    let mut found = HashMap::new();
    constants_mut(model, &mut |_, name, held| {
        if let Some(Tensor::Int64(values)) = tensor::read(held) {
            found.insert(name.to_owned(), values.iter().copied().collect());
        }
    });
    found
}

/// Nodes that stand for one.
struct Parts<'a> {
    nodes: Vec<NodeProto>,
    names: &'a mut HashSet<String>,
    base: String,
}

impl Parts<'_> {
    /// Whether there is a replacement; its last node makes what the node made.
    fn replace(&mut self, node: &NodeProto) -> bool {
        let float = |name: &str, default: f64| {
            node.attribute.iter().find(|a| a.name == name).map_or(default, |a| f64::from(a.f))
        };
        let flag = |name: &str| node.attribute.iter().any(|a| a.name == name && a.i != 0);
        let (Some(x), Some(output)) = (node.input.first(), node.output.first()) else { return false };
        // Inside a function an attribute may be the caller's.
        if node.attribute.iter().any(|a| !a.ref_attr_name.is_empty()) {
            return false;
        }
        let result = match node.op_type.as_str() {
            "Sigmoid" => self.sigmoid(x),
            "Swish" => {
                let alpha = self.number(float("alpha", 1.0));
                let scaled = self.op("Mul", &[x, &alpha]);
                let gate = self.sigmoid(&scaled);
                self.op("Mul", &[x, &gate])
            }
            "HardSwish" => {
                let (sixth, half) = (self.number(1.0 / 6.0), self.number(0.5));
                let (zero, one) = (self.number(0.0), self.number(1.0));
                let line = self.op("Mul", &[x, &sixth]);
                let line = self.op("Add", &[&line, &half]);
                let gate = self.op("Max", &[&line, &zero]);
                let gate = self.op("Min", &[&gate, &one]);
                self.op("Mul", &[x, &gate])
            }
            "LeakyRelu" => {
                let zero = self.number(0.0);
                let alpha = self.number(float("alpha", 0.01));
                let (above, below) = (self.op("Max", &[x, &zero]), self.op("Min", &[x, &zero]));
                let below = self.op("Mul", &[&below, &alpha]);
                self.op("Add", &[&above, &below])
            }
            "Elu" => self.elu(x, float("alpha", 1.0), 1.0),
            // Its defaults were written out when the file was read.
            "Selu" => self.elu(x, float("alpha", 0.0), float("gamma", 0.0)),
            "Softplus" => {
                let (zero, one) = (self.number(0.0), self.number(1.0));
                let size = self.op("Abs", &[x]);
                let minus = self.op("Neg", &[&size]);
                let power = self.op("Exp", &[&minus]);
                let sum = self.op("Add", &[&power, &one]);
                let rest = self.op("Log", &[&sum]);
                let above = self.op("Max", &[x, &zero]);
                self.op("Add", &[&above, &rest])
            }
            "Erf" => self.erf(x),
            "Gelu" => {
                let tanh = node.attribute.iter().any(|a| a.name == "approximate" && a.s == b"tanh");
                self.gelu(x, tanh)
            }
            "Gemm" => {
                let Some(b) = node.input.get(1) else { return false };
                let a = if flag("transA") { self.transposed(x) } else { x.clone() };
                let b = if flag("transB") { self.transposed(b) } else { b.clone() };
                let mut result = self.op("MatMul", &[&a, &b]);
                let alpha = float("alpha", 1.0);
                if alpha != 1.0 {
                    let alpha = self.number(alpha);
                    result = self.op("Mul", &[&result, &alpha]);
                }
                match node.input.get(2).filter(|c| !c.is_empty()) {
                    Some(c) => {
                        let beta = self.number(float("beta", 1.0));
                        let c = self.op("Mul", &[c, &beta]);
                        self.op("Add", &[&result, &c])
                    }
                    None => result,
                }
            }
            _ => return false,
        };
        let last = self.nodes.last_mut().expect("every replacement has nodes");
        debug_assert_eq!(last.output[0], result);
        last.output[0].clone_from(output);
        true
    }

    /// The same for padding: for each axis the end, the whole and the beginning, one behind the other.
    fn wrap(&mut self, node: &NodeProto, integers: &HashMap<String, Vec<i64>>) -> bool {
        let known = |k: usize| node.input.get(k).and_then(|name| integers.get(name));
        let given = |k: usize| node.input.get(k).is_some_and(|name| !name.is_empty());
        let (Some(x), Some(output), Some(pads)) = (node.input.first(), node.output.first(), known(1)) else {
            return false;
        };
        let rank = pads.len() / 2;
        let axes = match known(3) {
            Some(axes) => axes.clone(),
            None if given(3) => return false,
            None => (0..rank as i64).collect(),
        };
        let padded = pads.iter().any(|pad| *pad > 0) && pads.iter().all(|pad| *pad >= 0);
        if !wraps(node) || !padded || axes.len() != rank || pads.len() % 2 != 0 {
            return false;
        }
        let mut whole = x.clone();
        for (k, axis) in axes.iter().enumerate() {
            let (before, after) = (pads[k], pads[k + rank]);
            let mut pieces = Vec::new();
            if before > 0 {
                pieces.push(self.slice(&whole, -before, i64::MAX, *axis));
            }
            pieces.push(whole.clone());
            if after > 0 {
                pieces.push(self.slice(&whole, 0, after, *axis));
            }
            if pieces.len() > 1 {
                let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                let along = AttributeProto {
                    name: "axis".to_owned(),
                    r#type: AttributeType::Int as i32,
                    i: *axis,
                    ..AttributeProto::default()
                };
                whole = self.push("Concat", &pieces, vec![along]);
            }
        }
        self.nodes.last_mut().expect("something is padded").output[0].clone_from(output);
        true
    }

    fn slice(&mut self, x: &str, start: i64, end: i64, axis: i64) -> String {
        let [start, end, axis] = [start, end, axis].map(|value| {
            let tensor = TensorProto {
                dims: vec![1],
                data_type: data_type::INT64,
                raw_data: value.to_le_bytes().to_vec(),
                ..TensorProto::default()
            };
            self.push("Constant", &[], vec![tensor_attribute("value", tensor)])
        });
        self.push("Slice", &[x, &start, &end, &axis], Vec::new())
    }

    fn fresh(&mut self) -> String {
        let mut k = self.nodes.len();
        loop {
            let name = format!("{}/part{k}", self.base);
            if self.names.insert(name.clone()) {
                return name;
            }
            k += 1;
        }
    }

    fn push(&mut self, op_type: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = self.fresh();
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op_type.to_owned(),
            attribute,
            ..NodeProto::default()
        });
        name
    }

    fn op(&mut self, op_type: &str, inputs: &[&str]) -> String {
        self.push(op_type, inputs, Vec::new())
    }

    fn number(&mut self, value: f64) -> String {
        let tensor = TensorProto {
            data_type: data_type::DOUBLE,
            raw_data: value.to_le_bytes().to_vec(),
            ..TensorProto::default()
        };
        self.push("Constant", &[], vec![tensor_attribute("value", tensor)])
    }

    fn transposed(&mut self, x: &str) -> String {
        let order = AttributeProto {
            name: "perm".to_owned(),
            r#type: AttributeType::Ints as i32,
            ints: vec![1, 0],
            ..AttributeProto::default()
        };
        self.push("Transpose", &[x], vec![order])
    }

    /// 1 / (1 + exp(-x)), which is 0 where the exponential is infinite.
    fn sigmoid(&mut self, x: &str) -> String {
        let one = self.number(1.0);
        let minus = self.op("Neg", &[x]);
        let power = self.op("Exp", &[&minus]);
        let sum = self.op("Add", &[&one, &power]);
        self.op("Div", &[&one, &sum])
    }

    /// `gamma` times x above 0, and times `alpha` (exp(x) - 1) below.
    fn elu(&mut self, x: &str, alpha: f64, gamma: f64) -> String {
        let (zero, one) = (self.number(0.0), self.number(1.0));
        let (alpha, gamma) = (self.number(alpha), self.number(gamma));
        let (above, below) = (self.op("Max", &[x, &zero]), self.op("Min", &[x, &zero]));
        let power = self.op("Exp", &[&below]);
        let bent = self.op("Sub", &[&power, &one]);
        let bent = self.op("Mul", &[&bent, &alpha]);
        let sum = self.op("Add", &[&above, &bent]);
        self.op("Mul", &[&sum, &gamma])
    }

    fn gelu(&mut self, x: &str, tanh: bool) -> String {
        let (one, half) = (self.number(1.0), self.number(0.5));
        let inner = if tanh {
            let cubic = self.number(0.044_715);
            let scale = self.number(std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2);
            let square = self.op("Mul", &[x, x]);
            let bent = self.op("Mul", &[&square, &cubic]);
            let bent = self.op("Add", &[&bent, &one]);
            let bent = self.op("Mul", &[x, &bent]);
            let bent = self.op("Mul", &[&bent, &scale]);
            self.op("Tanh", &[&bent])
        } else {
            let root = self.number(std::f64::consts::FRAC_1_SQRT_2);
            let scaled = self.op("Mul", &[x, &root]);
            self.erf(&scaled)
        };
        let sum = self.op("Add", &[&one, &inner]);
        let halved = self.op("Mul", &[x, &half]);
        self.op("Mul", &[&halved, &sum])
    }

    /// Cody's rational approximations (Mathematics of Computation 23, 1969), good to 5e-16 of the value: one in x^2 for
    /// small x, one in |x| of the complement elsewhere. From 6 on the complement is nothing.
    #[expect(clippy::excessive_precision, reason = "as they were published")]
    fn erf(&mut self, x: &str) -> String {
        const SMALL: ([f64; 5], [f64; 5]) = (
            [
                1.857_777_061_846_031_53e-1,
                3.161_123_743_870_565_6,
                1.138_641_541_510_501_56e2,
                3.774_852_376_853_020_21e2,
                3.209_377_589_138_469_47e3,
            ],
            [
                1.0,
                2.360_129_095_234_412_09e1,
                2.440_246_379_344_441_73e2,
                1.282_616_526_077_372_28e3,
                2.844_236_833_439_170_62e3,
            ],
        );
        const LARGE: ([f64; 9], [f64; 9]) = (
            [
                2.153_115_354_744_038_46e-8,
                5.641_884_969_886_700_89e-1,
                8.883_149_794_388_375_94,
                6.611_919_063_714_162_95e1,
                2.986_351_381_974_001_31e2,
                8.819_522_212_417_690_9e2,
                1.712_047_612_634_070_58e3,
                2.051_078_377_826_071_47e3,
                1.230_339_354_797_997_25e3,
            ],
            [
                1.0,
                1.574_492_611_070_983_47e1,
                1.176_939_508_913_124_99e2,
                5.371_811_018_620_098_58e2,
                1.621_389_574_566_690_19e3,
                3.290_799_235_733_459_63e3,
                4.362_619_090_143_247_16e3,
                3.439_367_674_143_721_64e3,
                1.230_339_354_803_749_42e3,
            ],
        );
        let one = self.number(1.0);
        let (limit, bound) = (self.number(6.0), self.number(0.5));
        let size = self.op("Abs", &[x]);
        let size = self.op("Min", &[&size, &limit]);
        let square = self.op("Mul", &[&size, &size]);

        let (top, bottom) = (self.polynomial(&SMALL.0, &square), self.polynomial(&SMALL.1, &square));
        let ratio = self.op("Div", &[&top, &bottom]);
        let small = self.op("Mul", &[x, &ratio]);

        let (top, bottom) = (self.polynomial(&LARGE.0, &size), self.polynomial(&LARGE.1, &size));
        let ratio = self.op("Div", &[&top, &bottom]);
        let minus = self.op("Neg", &[&square]);
        let bell = self.op("Exp", &[&minus]);
        let rest = self.op("Mul", &[&bell, &ratio]);
        let large = self.op("Sub", &[&one, &rest]);
        let sign = self.op("Sign", &[x]);
        let large = self.op("Mul", &[&sign, &large]);

        let near = self.op("Less", &[&size, &bound]);
        self.op("Where", &[&near, &small, &large])
    }

    /// Coefficients from the highest power down.
    fn polynomial(&mut self, coefficients: &[f64], x: &str) -> String {
        let mut result = self.number(coefficients[0]);
        for coefficient in &coefficients[1..] {
            let coefficient = self.number(*coefficient);
            let product = self.op("Mul", &[&result, x]);
            result = self.op("Add", &[&product, &coefficient]);
        }
        result
    }
}
