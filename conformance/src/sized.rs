//! Models of the size and structure of well-known ones with random weights, for measurements that need no download.

use crate::graphs::{Builder, int, ints};
use engine_format::{DType, Tensor};
use engine_verify::inputs;

/// A model of a real one's size.
pub struct Sized {
    /// Short name.
    pub name: &'static str,
    /// The model's file.
    pub onnx: fn() -> Vec<u8>,
    /// Part of the names of one layer's weights.
    pub layer: &'static str,
}

/// The models there are.
pub const SIZED: [Sized; 2] = [
    Sized { name: "bert-base", onnx: bert_base, layer: "layer.3." },
    Sized { name: "resnet-50", onnx: resnet_50, layer: "layer4.2." },
];

/// Width of BERT-base.
const HIDDEN: usize = 768;

/// BERT-base without its pooler (Devlin et al., 2018): 12 layers over 768 values, weights stored as PyTorch does, output first.
fn bert_base() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("input_ids", DType::I64, &["batch", "seq"]);
    g.input("attention_mask", DType::F32, &["batch", "1", "1", "seq"]);
    g.weight("embeddings.word_embeddings.weight", &[30_522, HIDDEN]);
    g.weight("embeddings.position_embeddings.weight", &[512, HIDDEN]);
    for (name, values) in [
        ("from", &[0i64] as &[i64]),
        ("first", &[0]),
        ("split", &[0, 0, 12, 64]),
        ("join", &[0, 0, 768]),
    ] {
        g.constant(name, &Tensor::from_slice(&[values.len()], values));
    }
    g.node("Gather", &["embeddings.word_embeddings.weight", "input_ids"], "words", vec![]);
    g.node("Shape", &["input_ids"], "length", vec![int("start", 1)]);
    let positions = ["embeddings.position_embeddings.weight", "from", "length", "first"];
    g.node("Slice", &positions, "positions", vec![]);
    g.node("Add", &["words", "positions"], "embedded", vec![]);
    layer_norm(&mut g, "embedded", "embeddings.LayerNorm", "hidden.0");
    g.constant("scale", &Tensor::from_slice(&[], &[0.125f32]));
    for layer in 0..12 {
        bert_layer(&mut g, &format!("hidden.{layer}"), layer);
    }
    g.finish(&["hidden.12"])
}

fn bert_layer(g: &mut Builder, x: &str, layer: usize) {
    let at = |part: &str| format!("encoder.layer.{layer}.{part}");
    let heads = |g: &mut Builder, part: &str, perm: &[i64]| {
        let name = at(&format!("attention.self.{part}"));
        linear(g, x, &name, [HIDDEN, HIDDEN]);
        g.node("Reshape", &[&format!("{name}.y"), "split"], &format!("{name}.split"), vec![]);
        let turned = format!("{name}.heads");
        g.node("Transpose", &[&format!("{name}.split")], &turned, vec![ints("perm", perm)]);
        turned
    };
    let query = heads(g, "query", &[0, 2, 1, 3]);
    let key = heads(g, "key", &[0, 2, 3, 1]);
    let value = heads(g, "value", &[0, 2, 1, 3]);
    g.node("MatMul", &[&query, &key], &at("products"), vec![]);
    g.node("Mul", &[&at("products"), "scale"], &at("scaled"), vec![]);
    g.node("Add", &[&at("scaled"), "attention_mask"], &at("masked"), vec![]);
    g.node("Softmax", &[&at("masked")], &at("shares"), vec![int("axis", -1)]);
    g.node("MatMul", &[&at("shares"), &value], &at("context.heads"), vec![]);
    let perm = vec![ints("perm", &[0, 2, 1, 3])];
    g.node("Transpose", &[&at("context.heads")], &at("context.split"), perm);
    g.node("Reshape", &[&at("context.split"), "join"], &at("context"), vec![]);
    let dense = at("attention.output.dense");
    linear(g, &at("context"), &dense, [HIDDEN, HIDDEN]);
    g.node("Add", &[&format!("{dense}.y"), x], &at("attended"), vec![]);
    layer_norm(g, &at("attended"), &at("attention.output.LayerNorm"), &at("attention"));
    let (inner, outer) = (at("intermediate.dense"), at("output.dense"));
    linear(g, &at("attention"), &inner, [4 * HIDDEN, HIDDEN]);
    g.node("Gelu", &[&format!("{inner}.y")], &at("gelu"), vec![]);
    linear(g, &at("gelu"), &outer, [HIDDEN, 4 * HIDDEN]);
    g.node("Add", &[&format!("{outer}.y"), &at("attention")], &at("sum"), vec![]);
    layer_norm(g, &at("sum"), &at("output.LayerNorm"), &format!("hidden.{}", layer + 1));
}

/// `NAME.y = x · NAME.weightᵀ + NAME.bias`, for weights `[outputs, inputs]`.
fn linear(g: &mut Builder, x: &str, name: &str, shape: [usize; 2]) {
    let part = |part: &str| format!("{name}.{part}");
    g.weight(&part("weight"), &shape);
    g.weight(&part("bias"), &shape[..1]);
    g.node("Transpose", &[&part("weight")], &part("turned"), vec![ints("perm", &[1, 0])]);
    g.node("MatMul", &[x, &part("turned")], &part("product"), vec![]);
    g.node("Add", &[&part("product"), &part("bias")], &part("y"), vec![]);
}

fn layer_norm(g: &mut Builder, x: &str, name: &str, y: &str) {
    let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
    g.weight(&weight, &[HIDDEN]);
    g.weight(&bias, &[HIDDEN]);
    g.node("LayerNormalization", &[x, &weight, &bias], y, vec![int("axis", -1)]);
}

/// ResNet-50 in its common form (He et al., 2015, stride in the 3×3 convolution), batch normalisation as nodes of its own.
fn resnet_50() -> Vec<u8> {
    let mut g = Builder::new();
    g.input("image", DType::F32, &["batch", "3", "224", "224"]);
    conv(&mut g, "image", "conv1", [64, 3, 7], 2);
    g.node("Relu", &["conv1.y"], "stem", vec![]);
    let pool = vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
    g.node("MaxPool", &["stem"], "pooled", pool);
    let (mut x, mut channels) = ("pooled".to_owned(), 64);
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        let width = 64 << stage;
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            x = bottleneck(&mut g, &x, &name, [channels, width], stride);
            channels = 4 * width;
        }
    }
    g.node("GlobalAveragePool", &[&x], "averages", vec![]);
    g.node("Flatten", &["averages"], "features", vec![]);
    g.weight("fc.weight", &[1000, 2048]);
    g.weight("fc.bias", &[1000]);
    g.node("Gemm", &["features", "fc.weight", "fc.bias"], "logits", vec![int("transB", 1)]);
    g.finish(&["logits"])
}

/// A block of three convolutions around a shortcut; gives back its result's name.
fn bottleneck(
    g: &mut Builder,
    x: &str,
    name: &str,
    [inputs, width]: [usize; 2],
    stride: i64,
) -> String {
    let part = |part: &str| format!("{name}.{part}");
    conv(g, x, &part("conv1"), [width, inputs, 1], 1);
    g.node("Relu", &[&part("conv1.y")], &part("a"), vec![]);
    conv(g, &part("a"), &part("conv2"), [width, width, 3], stride);
    g.node("Relu", &[&part("conv2.y")], &part("b"), vec![]);
    conv(g, &part("b"), &part("conv3"), [4 * width, width, 1], 1);
    let shortcut = if inputs == 4 * width {
        x.to_owned()
    } else {
        conv(g, x, &part("downsample"), [4 * width, inputs, 1], stride);
        part("downsample.y")
    };
    g.node("Add", &[&part("conv3.y"), &shortcut], &part("sum"), vec![]);
    g.node("Relu", &[&part("sum")], &part("out"), vec![]);
    part("out")
}

/// `NAME.y`: a convolution `[outputs, inputs, side]` that keeps the size but for its stride, batch normalised.
fn conv(g: &mut Builder, x: &str, name: &str, [outputs, inputs, side]: [usize; 3], stride: i64) {
    let part = |part: &str| format!("{name}.{part}");
    g.weight(&part("weight"), &[outputs, inputs, side, side]);
    let pad = side as i64 / 2;
    let attributes = vec![ints("pads", &[pad; 4]), ints("strides", &[stride; 2])];
    g.node("Conv", &[x, &part("weight")], &part("product"), attributes);
    let norm: Vec<String> =
        ["weight", "bias", "running_mean", "running_var"].map(|n| part(&format!("bn.{n}"))).into();
    norm[..3].iter().for_each(|name| g.weight(name, &[outputs]));
    // What a convolution of values around 1 gives varies about as much as it adds.
    let spread = (inputs * side * side) as f32 / 3.0;
    let random = inputs::random(DType::F32, &[outputs], outputs as u64);
    let variance = random.as_slice::<f32>().expect("f32 was asked for").iter();
    let variance: Vec<f32> = variance.map(|v| spread * (1.0 + 0.5 * v)).collect();
    g.constant(&norm[3], &Tensor::from_slice(&[outputs], &variance));
    let mut operands = vec![part("product")];
    operands.extend(norm);
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    g.node("BatchNormalization", &operands, &part("y"), vec![]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_builder::{BuildOptions, build};
    use engine_format::WeightClass;
    use engine_onnx::Model;

    /// Parameters of the originals: torchvision's ResNet-50 with its running statistics, BERT-base without pooler and token types.
    #[test]
    fn they_have_the_size_of_what_they_stand_for() {
        for (sized, elements) in SIZED.iter().zip([108_890_112, 25_610_152]) {
            let model = Model::parse((sized.onnx)().into(), None).expect("the model reads");
            let engine = build(&model, &BuildOptions::default()).expect("the model builds");
            let weights = engine.parts().weights.iter();
            let weights: Vec<_> = weights.filter(|w| w.class == WeightClass::Weight).collect();
            let found: usize = weights.iter().map(|w| w.shape.iter().product::<usize>()).sum();
            assert_eq!(found, elements, "{}", sized.name);
            assert!(weights.iter().any(|w| w.name.contains(sized.layer)), "{}", sized.name);
        }
    }
}
