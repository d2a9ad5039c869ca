//! Small models in which weights decide what is read, how much of it there is and how often: routers, quantisers, length
//! regulators. Nothing computed from a weight makes it a part of the program.

use crate::graphs::{Builder, graph, int, ints, value};
use engine_format::{DType, Tensor};
use engine_onnx::proto::data_type;
use engine_verify::inputs;

/// A model in which weights decide.
pub struct Deciding {
    /// Short name.
    pub name: &'static str,
    /// What its weights decide.
    pub shows: &'static str,
    /// The model's file with the weights that a seed gives.
    pub onnx: fn(u64) -> Vec<u8>,
}

/// The models. Every float tensor of theirs is a weight, however small, but for scalars without axes.
pub const DECIDING: [Deciding; 7] = [
    Deciding { name: "tokens", shows: "the tokens with the highest scores", onnx: tokens },
    Deciding { name: "quantiser", shows: "the nearest row of a codebook", onnx: quantiser },
    Deciding { name: "lengths", shows: "how often each row is repeated", onnx: lengths },
    Deciding { name: "mask", shows: "which rows are kept, by NonZero", onnx: mask },
    Deciding { name: "experts", shows: "the experts of a mixture", onnx: experts },
    Deciding { name: "halting", shows: "how often a block is repeated", onnx: halting },
    Deciding { name: "alone", shows: "sizes and indices of weights alone", onnx: alone },
];

/// A graph being written, with the seed of its weights.
struct Draft {
    graph: Builder,
    seed: u64,
}

impl Draft {
    fn new(seed: u64) -> Self {
        Self { graph: Builder::new(), seed }
    }

    fn weight(&mut self, name: &str, shape: &[usize]) {
        let of_name = name.bytes().map(u64::from).sum::<u64>();
        let tensor = inputs::random(DType::F32, shape, of_name + 1000 * self.seed);
        self.graph.constant(name, &tensor);
    }

    fn longs(&mut self, name: &str, values: &[i64]) {
        self.graph.constant(name, &Tensor::from_slice(&[values.len()], values));
    }

    fn long(&mut self, name: &str, value: i64) {
        self.graph.constant(name, &Tensor::from_slice(&[], &[value]));
    }

    fn float(&mut self, name: &str, value: f32) {
        self.graph.constant(name, &Tensor::from_slice(&[], &[value]));
    }

    fn plain(&mut self, op: &str, inputs: &[&str], output: &str) {
        self.graph.node(op, inputs, output, vec![]);
    }

    fn finish(self) -> Vec<u8> {
        self.graph.finish(&["y"])
    }
}

fn tokens(seed: u64) -> Vec<u8> {
    let mut d = Draft::new(seed);
    d.graph.input("x", DType::F32, &["batch", "9", "32"]);
    d.weight("score.weight", &[32, 1]);
    d.weight("value.weight", &[32, 24]);
    d.longs("last", &[-1]);
    d.longs("two", &[2]);
    d.longs("like", &[1, 1, 24]);
    d.plain("MatMul", &["x", "score.weight"], "column");
    d.plain("Squeeze", &["column", "last"], "scores");
    d.graph.node("TopK", &["scores", "two"], "best", vec![int("axis", -1)]);
    d.graph.second_result("indices");
    d.plain("Unsqueeze", &["indices", "last"], "places");
    d.plain("Expand", &["places", "like"], "wide");
    d.plain("MatMul", &["x", "value.weight"], "values");
    d.graph.node("GatherElements", &["values", "wide"], "y", vec![int("axis", 1)]);
    d.finish()
}

fn quantiser(seed: u64) -> Vec<u8> {
    let mut d = Draft::new(seed);
    d.graph.input("x", DType::F32, &["n", "12"]);
    d.weight("pre.weight", &[12, 20]);
    d.weight("pre.bias", &[20]);
    d.weight("codebook", &[7, 20]);
    d.longs("one", &[1]);
    d.longs("last", &[-1]);
    d.float("square", 2.0);
    d.plain("MatMul", &["x", "pre.weight"], "product");
    d.plain("Add", &["product", "pre.bias"], "latent");
    d.plain("Unsqueeze", &["latent", "one"], "rows");
    d.plain("Sub", &["rows", "codebook"], "differences");
    d.plain("Pow", &["differences", "square"], "squares");
    d.graph.node("ReduceSum", &["squares", "last"], "distances", vec![int("keepdims", 0)]);
    let nearest = vec![int("axis", -1), int("keepdims", 0)];
    d.graph.node("ArgMin", &["distances"], "nearest", nearest);
    d.plain("Gather", &["codebook", "nearest"], "y");
    d.finish()
}

fn lengths(seed: u64) -> Vec<u8> {
    let mut d = Draft::new(seed);
    d.graph.input("x", DType::F32, &["6", "20"]);
    d.weight("duration.weight", &[20, 1]);
    d.weight("duration.bias", &[1, 1]);
    d.longs("one", &[1]);
    d.longs("flat", &[-1]);
    d.long("first", 0);
    d.long("last", -1);
    d.long("step", 1);
    d.float("most", 4.0);
    d.plain("MatMul", &["x", "duration.weight"], "product");
    d.plain("Add", &["product", "duration.bias"], "logits");
    d.plain("Sigmoid", &["logits"], "rates");
    d.plain("Mul", &["rates", "most"], "durations");
    d.plain("Ceil", &["durations"], "whole");
    d.graph.node("Cast", &["whole"], "counts", vec![int("to", 7)]);
    d.plain("Reshape", &["counts", "flat"], "row");
    d.plain("CumSum", &["row", "first"], "ends");
    d.plain("Gather", &["ends", "last"], "total");
    d.plain("Range", &["first", "total", "step"], "positions");
    d.plain("Unsqueeze", &["positions", "one"], "column");
    d.plain("GreaterOrEqual", &["column", "ends"], "behind");
    d.graph.node("Cast", &["behind"], "passed", vec![int("to", 7)]);
    d.graph.node("ReduceSum", &["passed", "one"], "rows", vec![int("keepdims", 0)]);
    d.plain("Gather", &["x", "rows"], "y");
    d.finish()
}

fn mask(seed: u64) -> Vec<u8> {
    let mut d = Draft::new(seed);
    d.graph.input("x", DType::F32, &["9", "20"]);
    d.weight("gate.weight", &[20, 1]);
    d.weight("out.weight", &[20, 5]);
    d.longs("flat", &[-1]);
    d.float("half", 0.5);
    d.plain("MatMul", &["x", "gate.weight"], "logits");
    d.plain("Sigmoid", &["logits"], "gates");
    d.plain("Reshape", &["gates", "flat"], "row");
    d.plain("Greater", &["row", "half"], "open");
    d.plain("NonZero", &["open"], "found");
    d.plain("Reshape", &["found", "flat"], "rows");
    d.plain("Gather", &["x", "rows"], "kept");
    d.plain("MatMul", &["kept", "out.weight"], "y");
    d.finish()
}

fn experts(seed: u64) -> Vec<u8> {
    let mut d = Draft::new(seed);
    d.graph.input("x", DType::F32, &["tokens", "20"]);
    d.weight("in.weight", &[20, 20]);
    d.weight("norm.weight", &[20]);
    d.weight("router.weight", &[20, 18]);
    d.weight("router.bias", &[18]);
    d.weight("up.weight", &[18, 20, 12]);
    d.weight("down.weight", &[18, 12, 20]);
    d.longs("two", &[2]);
    d.longs("one", &[1]);
    d.longs("last", &[-1]);
    d.longs("places", &[1, 2]);
    d.plain("MatMul", &["x", "in.weight"], "mixed");
    d.plain("Mul", &["mixed", "norm.weight"], "normal");
    d.plain("MatMul", &["normal", "router.weight"], "product");
    d.plain("Add", &["product", "router.bias"], "logits");
    d.graph.node("TopK", &["logits", "two"], "best", vec![int("axis", -1)]);
    d.graph.second_result("chosen");
    d.graph.node("Softmax", &["best"], "shares", vec![int("axis", -1)]);
    d.plain("Gather", &["up.weight", "chosen"], "ups");
    d.plain("Gather", &["down.weight", "chosen"], "downs");
    d.plain("Unsqueeze", &["normal", "places"], "rows");
    d.plain("MatMul", &["rows", "ups"], "hidden");
    d.plain("Relu", &["hidden"], "active");
    d.plain("MatMul", &["active", "downs"], "each");
    d.plain("Unsqueeze", &["shares", "places_behind"], "wide");
    d.longs("places_behind", &[2, 3]);
    d.plain("Mul", &["each", "wide"], "weighted");
    d.graph.node("ReduceSum", &["weighted", "one"], "summed", vec![int("keepdims", 0)]);
    d.plain("Squeeze", &["summed", "one"], "y");
    d.finish()
}

fn halting(seed: u64) -> Vec<u8> {
    let mut body = Draft::new(seed);
    body.graph.input("iteration", DType::I64, &[]);
    body.graph.input("before", DType::Bool, &[]);
    body.graph.input("h", DType::F32, &["4", "20"]);
    body.weight("cell.weight", &[20, 20]);
    body.weight("halt.weight", &[20, 1]);
    body.plain("MatMul", &["h", "cell.weight"], "mixed");
    body.plain("Tanh", &["mixed"], "next");
    body.plain("MatMul", &["next", "halt.weight"], "votes");
    body.graph.node("ReduceSum", &["votes"], "vote", vec![int("keepdims", 0)]);
    body.plain("Less", &["vote", "enough"], "again");
    let outputs = [value("again", data_type::BOOL, None), value("next", data_type::FLOAT, None)];
    body.graph.graph.output.extend(outputs);
    let mut d = Draft::new(seed);
    d.graph.input("x", DType::F32, &["4", "20"]);
    d.long("most", 5);
    d.float("enough", 0.5);
    let body = vec![graph("body", body.graph.graph)];
    d.graph.node("Loop", &["most", "", "x"], "y", body);
    d.finish()
}

fn alone(seed: u64) -> Vec<u8> {
    let mut d = Draft::new(seed);
    d.graph.input("x", DType::F32, &["20", "20"]);
    d.weight("gates", &[20]);
    d.weight("norms", &[20]);
    d.weight("lengths", &[20]);
    d.longs("flat", &[-1]);
    d.longs("four", &[4]);
    d.longs("none", &[0]);
    d.longs("along", &[1]);
    d.float("half", 0.5);
    d.long("first", 0);
    d.long("step", 1);
    // The rows whose gate is open, then those of the largest norms.
    d.plain("Greater", &["gates", "half"], "open");
    d.plain("NonZero", &["open"], "found");
    d.plain("Reshape", &["found", "flat"], "rows");
    d.plain("TopK", &["norms", "four"], "largest");
    d.graph.second_result("chosen");
    d.graph.node("Concat", &["rows", "chosen"], "all", vec![int("axis", 0)]);
    d.plain("Gather", &["x", "all"], "kept");
    // As many columns as the lengths say, in the order of a Range.
    d.plain("Abs", &["lengths"], "sizes");
    d.graph.node("ReduceSum", &["sizes"], "sum", vec![int("keepdims", 0)]);
    d.plain("Floor", &["sum"], "whole");
    d.graph.node("Cast", &["whole"], "count", vec![int("to", 7)]);
    d.plain("Range", &["first", "count", "step"], "columns");
    d.graph.node("Gather", &["kept", "columns"], "cut", vec![int("axis", 1)]);
    d.graph.node("Transpose", &["cut"], "y", vec![ints("perm", &[1, 0])]);
    d.finish()
}
