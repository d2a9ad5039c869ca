//! Small hand-made ONNX models, each for one thing that refit must get right, and models with other weights.

use crate::oracle::Tensors;
use engine_format::{DType, Tensor};
use engine_onnx::proto::{
    AttributeProto, DimensionProto, ElementTypeProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type, data_type,
};
use engine_verify::inputs;
use half::f16;
use prost::Message;

/// A hand-made model.
pub struct Sketch {
    /// Short name.
    pub name: &'static str,
    /// What it is there to show.
    pub shows: &'static str,
    /// The model's file.
    pub onnx: fn() -> Vec<u8>,
}

/// The small models of the flag matrix.
pub const SKETCHES: [Sketch; 12] = [
    Sketch {
        name: "mlp",
        shows: "weights used as they are, a parameter, a dynamic batch",
        onnx: mlp,
    },
    Sketch {
        name: "folded",
        shows: "weights that only `prepare` sees: transposed, scaled, joined",
        onnx: folded,
    },
    Sketch { name: "branch", shows: "weights inside the branches of an If", onnx: branch },
    Sketch {
        name: "loop",
        shows: "weights inside the body of a Loop whose condition an input decides, one of them through `prepare`",
        onnx: repeated,
    },
    Sketch {
        name: "shared",
        shows: "one weight used by two nodes, one of them in `prepare`, and one that no node uses",
        onnx: shared,
    },
    Sketch {
        name: "conv",
        shows: "a convolution with a shape computed at run time behind it",
        onnx: conv,
    },
    Sketch {
        name: "blocked",
        shows: "filters that the CPU reads in a form of its own, a folded batch norm, two outputs of them",
        onnx: blocked,
    },
    Sketch {
        name: "small",
        shows: "weights of a few bytes: a slope, a norm's scale and bias, a bias of one element",
        onnx: small,
    },
    Sketch {
        name: "quantised",
        shows: "weights of 8 bits with scales of their own, and two outputs",
        onnx: quantised,
    },
    Sketch { name: "half", shows: "weights of 16 bits, calculated with as such", onnx: half },
    Sketch {
        name: "four bits",
        shows: "weights of 4 bits with scales of their own for blocks of rows",
        onnx: four_bits,
    },
    Sketch {
        name: "outputs",
        shows: "an output that is a sequence, and one that is a weight",
        onnx: of_outputs,
    },
];

fn mlp() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("x", DType::F32, &["batch", "6"]);
    g.weight("fc1.weight", &[9, 6]);
    g.weight("fc1.bias", &[9, 1, 9]);
    g.weight("fc2.weight", &[9, 5]);
    g.constant("val_9", &Tensor::from_slice(&[], &[0.5f32]));
    g.node("Transpose", &["fc1.weight"], "fc1.t", vec![ints("perm", &[1, 0])]);
    g.node("MatMul", &["x", "fc1.t"], "h0", vec![]);
    g.node("Relu", &["h0"], "h1", vec![]);
    g.node("MatMul", &["h1", "fc2.weight"], "h2", vec![]);
    g.node("ReduceMax", &["fc1.bias", "axes"], "bias", vec![int("keepdims", 0)]);
    g.constant("axes", &Tensor::from_slice(&[2], &[1i64, 2]));
    g.node("MatMul", &["h1", "bias"], "h3", vec![]);
    g.node("Unsqueeze", &["h3", "last"], "h4", vec![]);
    g.constant("last", &Tensor::from_slice(&[1], &[-1i64]));
    g.node("Add", &["h2", "h4"], "h5", vec![]);
    g.node("Mul", &["h5", "val_9"], "y", vec![]);
    g.finish(&["y"])
}

fn folded() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("x", DType::F32, &["3", "8"]);
    for name in ["q.weight", "k.weight", "v.weight"] {
        g.weight(name, &[4, 8]);
    }
    g.weight("norm.scale", &[1, 24]);
    g.constant("val_6", &Tensor::from_slice(&[1], &[0.001f32]));
    g.node("Concat", &["q.weight", "k.weight", "v.weight"], "qkv", vec![int("axis", 0)]);
    g.node("Transpose", &["qkv"], "qkv.t", vec![ints("perm", &[1, 0])]);
    g.node("MatMul", &["x", "qkv.t"], "joined", vec![]);
    g.node("Slice", &["norm.scale", "zero", "twelve", "one"], "half", vec![]);
    for (name, value) in [("zero", 0i64), ("twelve", 12), ("one", 1)] {
        g.constant(name, &Tensor::from_slice(&[1], &[value]));
    }
    g.node("Mul", &["half", "half"], "squared", vec![]);
    g.node("Add", &["squared", "val_6"], "variance", vec![]);
    g.node("Sqrt", &["variance"], "deviation", vec![]);
    g.node("Div", &["joined", "deviation"], "y", vec![]);
    g.finish(&["y"])
}

fn branch() -> Vec<u8> {
    let side = |name: &str, op: &str| {
        let mut g = Builder::new();
        g.weight("fc.weight", &[6, 6]);
        g.node("MatMul", &["x", "fc.weight"], &format!("{name}.h"), vec![]);
        g.node(op, &[&format!("{name}.h")], &format!("{name}.y"), vec![]);
        g.outputs(&[&format!("{name}.y")]);
        g.graph
    };
    let mut g = Builder::new();
    g.input("x", DType::F32, &["batch", "6"]);
    g.input("rate", DType::I64, &[]);
    g.constant("five", &Tensor::from_slice(&[], &[5i64]));
    g.node("Less", &["rate", "five"], "slow", vec![]);
    let sides = vec![
        graph("then_branch", side("slow", "Relu")),
        graph("else_branch", side("fast", "Tanh")),
    ];
    g.node("If", &["slow"], "y", sides);
    g.finish(&["y"])
}

fn repeated() -> Vec<u8> {
    let mut body = Builder::new();
    body.input("iteration", DType::I64, &[]);
    body.input("before", DType::Bool, &[]);
    body.input("h", DType::F32, &["batch", "6"]);
    body.weight("fc1.weight", &[6, 6]);
    body.weight("fc2.weight", &[6, 6]);
    body.node("Transpose", &["fc2.weight"], "fc2.t", vec![ints("perm", &[1, 0])]);
    body.node("MatMul", &["h", "fc1.weight"], "h1", vec![]);
    body.node("Tanh", &["h1"], "h2", vec![]);
    body.node("MatMul", &["h2", "fc2.t"], "h3", vec![]);
    body.node("Less", &["iteration", "rate"], "again", vec![]);
    body.graph.output.push(value("again", data_type::BOOL, None));
    body.outputs(&["h3"]);
    let mut g = Builder::new();
    g.input("x", DType::F32, &["batch", "6"]);
    g.input("rate", DType::I64, &[]);
    g.constant("most", &Tensor::from_slice(&[], &[3i64]));
    g.node("Loop", &["most", "", "x"], "y", vec![graph("body", body.graph)]);
    g.finish(&["y"])
}

fn shared() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("ids", DType::I64, &["batch", "seq"]);
    g.weight("embedding.weight", &[10, 8]);
    g.weight("pooler.weight", &[8, 8]);
    g.node("Gather", &["embedding.weight", "ids"], "hidden", vec![]);
    g.node("Transpose", &["embedding.weight"], "head", vec![ints("perm", &[1, 0])]);
    g.node("MatMul", &["hidden", "head"], "logits", vec![]);
    g.node("Softmax", &["logits"], "y", vec![int("axis", -1)]);
    g.finish(&["y", "hidden"])
}

fn conv() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("x", DType::F32, &["n", "2", "8", "8"]);
    g.weight("stem.weight", &[4, 2, 3, 3]);
    g.weight("stem.bias", &[4]);
    g.node(
        "Conv",
        &["x", "stem.weight", "stem.bias"],
        "h",
        vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])],
    );
    g.node("Shape", &["h"], "sizes", vec![]);
    g.node("Slice", &["sizes", "zero", "two"], "leading", vec![]);
    g.constant("zero", &Tensor::from_slice(&[1], &[0i64]));
    g.constant("two", &Tensor::from_slice(&[1], &[2i64]));
    g.constant("rest", &Tensor::from_slice(&[1], &[-1i64]));
    g.node("Concat", &["leading", "rest"], "flat", vec![int("axis", 0)]);
    g.node("Reshape", &["h", "flat"], "y", vec![]);
    g.finish(&["y"])
}

fn blocked() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("x", DType::F32, &["n", "16", "8", "8"]);
    let padded = || vec![ints("pads", &[1, 1, 1, 1])];
    g.weight("first.weight", &[32, 16, 3, 3]);
    g.node("Conv", &["x", "first.weight"], "h0", padded());
    for (name, seed) in [("scale", 1), ("bias", 2), ("mean", 3)] {
        g.constant(&format!("norm.{name}"), &inputs::random(DType::F32, &[32], seed));
    }
    let variance: Vec<f32> = (0..32).map(|i| 0.5 + i as f32 / 16.0).collect();
    g.constant("norm.variance", &Tensor::from_slice(&[32], &variance));
    let norm = ["h0", "norm.scale", "norm.bias", "norm.mean", "norm.variance"];
    g.node("BatchNormalization", &norm, "h1", vec![]);
    g.node("Relu", &["h1"], "h2", vec![]);
    g.weight("second.weight", &[16, 32, 3, 3]);
    g.node("Conv", &["h2", "second.weight"], "h3", padded());
    g.node("GlobalAveragePool", &["h3"], "y", vec![]);
    g.finish(&["y", "h2"])
}

fn small() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("x", DType::F32, &["batch", "4"]);
    g.weight("norm.weight", &[4]);
    g.weight("norm.bias", &[4]);
    g.node("LayerNormalization", &["x", "norm.weight", "norm.bias"], "h0", vec![]);
    g.weight("act.weight", &[2]);
    g.weight("fc.weight", &[4, 2]);
    g.node("MatMul", &["h0", "fc.weight"], "h1", vec![]);
    g.node("PRelu", &["h1", "act.weight"], "h2", vec![]);
    g.weight("head.weight", &[2, 1]);
    g.weight("head.bias", &[1]);
    g.node("Gemm", &["h2", "head.weight", "head.bias"], "y", vec![]);
    g.finish(&["y"])
}

fn quantised() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("x", DType::F32, &["batch", "8"]);
    for (name, rows, columns) in [("fc1", 8, 6), ("fc2", 6, 4)] {
        let values: Vec<i8> = (0..rows * columns).map(|i| (i * 37 % 255) as i8).collect();
        g.constant(&format!("{name}.weight"), &Tensor::from_slice(&[rows, columns], &values));
        let scales: Vec<f32> = (0..columns).map(|i| 0.01 + i as f32 / 500.0).collect();
        g.constant(&format!("{name}.scale"), &Tensor::from_slice(&[columns], &scales));
    }
    let per_column = || vec![int("axis", 1)];
    g.node("DequantizeLinear", &["fc1.weight", "fc1.scale"], "w1", per_column());
    g.node("DequantizeLinear", &["fc2.weight", "fc2.scale"], "w2", per_column());
    g.node("MatMul", &["x", "w1"], "h0", vec![]);
    g.node("Tanh", &["h0"], "h1", vec![]);
    g.node("MatMul", &["h1", "w2"], "y", vec![]);
    g.finish(&["y", "h1"])
}

fn half() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("x", DType::F16, &["batch", "6"]);
    for (name, shape) in [("fc1.weight", &[6, 8][..]), ("fc1.bias", &[8]), ("fc2.weight", &[8, 3])]
    {
        g.weight_of(DType::F16, name, shape);
    }
    g.node("MatMul", &["x", "fc1.weight"], "h0", vec![]);
    g.node("Add", &["h0", "fc1.bias"], "h1", vec![]);
    g.node("Relu", &["h1"], "h2", vec![]);
    g.node("MatMul", &["h2", "fc2.weight"], "h3", vec![]);
    g.node("Cast", &["h3"], "y", vec![int("to", data_type::FLOAT.into())]);
    g.finish(&["y"])
}

fn four_bits() -> Vec<u8> {
    const BLOCK: i64 = 4;
    /// The element type of ONNX.
    const INT4: i32 = 22;
    let mut g = Builder::new();
    g.input("x", DType::F32, &["batch", "8"]);
    // Two elements in a byte.
    let packed: Vec<u8> = (0..24u8).map(|i| i.wrapping_mul(37)).collect();
    g.graph.initializer.push(TensorProto {
        name: "fc.weight".to_owned(),
        dims: vec![8, 6],
        data_type: INT4,
        raw_data: Some(packed.into()),
        ..Default::default()
    });
    g.weight("fc.scale", &[2, 6]);
    let blocks = vec![int("axis", 0), int("block_size", BLOCK)];
    g.node("DequantizeLinear", &["fc.weight", "fc.scale"], "w", blocks);
    g.node("MatMul", &["x", "w"], "h", vec![]);
    g.node("Tanh", &["h"], "y", vec![]);
    g.finish(&["y"])
}

fn of_outputs() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("x", DType::F32, &["batch", "5"]);
    g.weight("fc.weight", &[5, 4]);
    g.weight("table.weight", &[3, 2]);
    g.node("MatMul", &["x", "fc.weight"], "h", vec![]);
    g.node("SplitToSequence", &["h"], "parts", vec![int("axis", 1)]);
    let tensor_type = Some(TensorTypeProto { elem_type: data_type::FLOAT, shape: None });
    let element = TypeProto { tensor_type, ..Default::default() };
    let element = ElementTypeProto { elem_type: Some(Box::new(element)) };
    let sequence = TypeProto { sequence_type: Some(Box::new(element)), ..Default::default() };
    g.graph.output.push(ValueInfoProto { name: "parts".to_owned(), r#type: Some(sequence) });
    g.finish(&["table.weight"])
}

/// The same model with the float tensors of more than one element that `chosen` picks by name given other values: what a training
/// step would leave.
pub fn with_other_weights(onnx: &[u8], chosen: &dyn Fn(&str) -> bool) -> Vec<u8> {
    let mut model = ModelProto::decode(onnx).expect("the models of this crate are ONNX files");
    change(model.graph.as_mut().expect("an ONNX file has a graph"), "", chosen);
    model.encode_to_vec()
}

/// The same model with two weights of one shape in each other's place: nodes that read the one read the other. `None` if no two have the same
/// shape and more than one element.
pub fn with_exchanged_weights(onnx: &[u8]) -> Option<Vec<u8>> {
    let mut model = ModelProto::decode(onnx).expect("the models of this crate are ONNX files");
    let graph = model.graph.as_mut().expect("an ONNX file has a graph");
    let is_weight = |tensor: &&TensorProto| {
        tensor.data_type == data_type::FLOAT && tensor.dims.iter().product::<i64>() > 1
    };
    let weights: Vec<&TensorProto> = graph.initializer.iter().filter(is_weight).collect();
    let (a, b) = weights.iter().enumerate().find_map(|(i, a)| {
        let b = weights[i + 1..].iter().find(|b| a.dims == b.dims)?;
        Some((a.name.clone(), b.name.clone()))
    })?;
    for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        if *input == a {
            input.clone_from(&b);
        } else if *input == b {
            input.clone_from(&a);
        }
    }
    Some(model.encode_to_vec())
}

/// The same model with inputs made weights that have the values of `weights`; all others stay inputs.
pub fn with_weights(onnx: &[u8], weights: &Tensors) -> Vec<u8> {
    let mut model = ModelProto::decode(onnx).expect("what becomes of it was read from it before");
    let graph = model.graph.as_mut().expect("an ONNX file has a graph");
    graph.input.retain(|input| !weights.contains_key(&input.name));
    graph.initializer.extend(weights.iter().map(|(name, tensor)| initializer(name, tensor)));
    model.encode_to_vec()
}

/// The same model with another value of an initializer.
pub fn with_initializer(onnx: &[u8], name: &str, tensor: &Tensor) -> Vec<u8> {
    let mut model = ModelProto::decode(onnx).expect("what becomes of it was read from it before");
    let graph = model.graph.as_mut().expect("an ONNX file has a graph");
    for held in graph.initializer.iter_mut().filter(|held| held.name == name) {
        *held = initializer(name, tensor);
    }
    model.encode_to_vec()
}

/// Changes the constants of `graph`, whose names within the model begin with `scope`.
fn change(graph: &mut GraphProto, scope: &str, chosen: &dyn Fn(&str) -> bool) {
    for node in &mut graph.node {
        let constant = node.op_type == "Constant";
        for attribute in &mut node.attribute {
            if let Some(tensor) = attribute
                .t
                .as_mut()
                .filter(|_| constant && chosen(&format!("{scope}{}", node.output[0])))
            {
                perturb(tensor);
            }
            if let Some(inner) = &mut attribute.g {
                change(inner, &format!("{scope}{}/{}/", node.name, attribute.name), chosen);
            }
        }
    }
    for tensor in &mut graph.initializer {
        if chosen(&format!("{scope}{}", tensor.name)) {
            perturb(tensor);
        }
    }
}

fn perturb(tensor: &mut TensorProto) {
    let raw = tensor.raw_data.clone().unwrap_or_default();
    let changed = |values: &mut [f32]| {
        // What has one element may be a size or an axis.
        let is_weight = values.len() > 1;
        for (i, value) in values.iter_mut().enumerate().filter(|_| is_weight) {
            *value = 0.9 * *value + 0.001 * ((i % 7) as f32 - 3.0);
        }
    };
    let bytes: Vec<u8> = match tensor.data_type {
        data_type::FLOAT => {
            let mut values: Vec<f32> =
                raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            values.append(&mut tensor.float_data);
            changed(&mut values);
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        data_type::FLOAT16 if !raw.is_empty() => {
            let of = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
            let mut values: Vec<f32> = raw.chunks_exact(2).map(of).collect();
            changed(&mut values);
            values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
        }
        _ => return,
    };
    tensor.raw_data = Some(bytes.into());
}

/// Puts a model together node by node.
pub(crate) struct Builder {
    pub(crate) graph: GraphProto,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { graph: GraphProto { name: "main".to_owned(), ..Default::default() } }
    }

    /// Dimensions that are not numbers are symbols.
    pub(crate) fn input(&mut self, name: &str, dtype: DType, dims: &[&str]) {
        let dim = |text: &&str| match text.parse() {
            Ok(value) => DimensionProto { dim_value: Some(value), ..Default::default() },
            Err(_) => DimensionProto { dim_param: Some((*text).to_owned()), ..Default::default() },
        };
        let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
        self.graph.input.push(value(name, element_type(dtype), Some(shape)));
    }

    /// A float initializer whose values follow from its name.
    pub(crate) fn weight(&mut self, name: &str, shape: &[usize]) {
        self.weight_of(DType::F32, name, shape);
    }

    /// The same of another float type.
    pub(crate) fn weight_of(&mut self, dtype: DType, name: &str, shape: &[usize]) {
        let seed = name.bytes().map(u64::from).sum::<u64>() + shape.len() as u64;
        self.constant(name, &inputs::random(dtype, shape, seed));
    }

    pub(crate) fn constant(&mut self, name: &str, tensor: &Tensor) {
        self.graph.initializer.push(initializer(name, tensor));
    }

    pub(crate) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.graph.node.push(NodeProto {
            op_type: op.to_owned(),
            name: format!("{op}/{output}"),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..Default::default()
        });
    }

    /// Names the second result of the node that was added last.
    pub(crate) fn second_result(&mut self, name: &str) {
        let last = self.graph.node.last_mut().expect("a node was added before its second result");
        last.output.push(name.to_owned());
    }

    fn outputs(&mut self, names: &[&str]) {
        let output = |name: &&str| value(name, data_type::FLOAT, None);
        self.graph.output.extend(names.iter().map(output));
    }

    pub(crate) fn finish(mut self, outputs: &[&str]) -> Vec<u8> {
        self.outputs(outputs);
        let model = ModelProto {
            ir_version: Some(10),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 21 }],
            metadata_props: vec![StringStringEntryProto {
                key: "made".to_owned(),
                value: "by hand".to_owned(),
            }],
            graph: Some(self.graph),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

fn initializer(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: element_type(tensor.dtype()),
        raw_data: Some(tensor.bytes().to_vec().into()),
        ..Default::default()
    }
}

pub(crate) fn value(name: &str, elem_type: i32, shape: Option<TensorShapeProto>) -> ValueInfoProto {
    let tensor_type = Some(TensorTypeProto { elem_type, shape });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type, ..Default::default() }),
    }
}

fn element_type(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => data_type::FLOAT,
        DType::F16 => data_type::FLOAT16,
        DType::I64 => data_type::INT64,
        DType::Bool => data_type::BOOL,
        DType::I8 => data_type::INT8,
        other => unreachable!("no sketch has a tensor of {other}"),
    }
}

pub(crate) fn graph(name: &str, inner: GraphProto) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        g: Some(Box::new(inner)),
        r#type: attribute_type::GRAPH,
        ..Default::default()
    }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        i: Some(i),
        r#type: attribute_type::INT,
        ..Default::default()
    }
}

pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ints: ints.to_vec(),
        r#type: attribute_type::INTS,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sketch_has_weights_and_other_weights() {
        for sketch in SKETCHES {
            let onnx = (sketch.onnx)();
            let other = with_other_weights(&onnx, &|_| true);
            assert_eq!(
                onnx,
                with_other_weights(&onnx, &|_| false),
                "{}: nothing was chosen",
                sketch.name
            );
            assert_eq!(onnx.len(), other.len(), "{}: only values differ", sketch.name);
            assert_ne!(onnx, other, "{}", sketch.name);
            let model = engine_onnx::Model::parse(onnx.into(), None).unwrap();
            assert!(!model.constants().is_empty(), "{}: {}", sketch.name, sketch.shows);
        }
    }
}
