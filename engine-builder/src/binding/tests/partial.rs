//! Checkpoints that are a part of a whole.

use super::*;
use crate::testing::longs;

/// A checkpoint that is a part of a whole: what it lacks is no constant of the program, whatever layer reads it.
#[test]
fn what_a_part_of_a_checkpoint_lacks_is_an_open_question() {
    type Layer = fn(Onnx) -> Onnx;
    let layers: [(&str, Layer); 5] = [
        ("matrix", |m| {
            m.constant(value("onnx::MatMul_9", &random(&[20, 7], 3)))
                .node("y = MatMul(h, onnx::MatMul_9)", vec![])
        }),
        ("gemm", |m| {
            m.constant(value("onnx::Gemm_9", &random(&[20, 7], 3)))
                .node("y = Gemm(h, onnx::Gemm_9)", vec![])
        }),
        ("slopes", |m| {
            m.constant(value("onnx::PRelu_9", &random(&[3, 20], 3)))
                .node("y = PRelu(h, onnx::PRelu_9)", vec![])
        }),
        ("table", |m| {
            m.constant(value("onnx::Gather_9", &random(&[7, 9], 3)))
                .constant(longs("rows", &[2], &[1, 5]))
                .node("rows_of = Gather(onnx::Gather_9, rows)", vec![])
                .node("t = ReduceSum(rows_of)", vec![int("keepdims", 0)])
                .node("y = Add(h, t)", vec![])
        }),
        ("filter", |m| {
            m.constant(value("onnx::Conv_9", &random(&[5, 1, 7], 3)))
                .constant(longs("sizes", &[3], &[3, 1, 20]))
                .node("image = Reshape(h, sizes)", vec![])
                .node("y = Conv(image, onnx::Conv_9)", vec![])
        }),
    ];
    for (what, layer) in layers {
        let body = vec![("body.weight", random(&[11, 20], 1))];
        let model = Onnx::new(17)
            .input("x: f32[3, 11]")
            .constant(value("body.weight", of(&body, "body.weight")))
            .node("h = MatMul(x, body.weight)", vec![]);
        let model = layer(model).output("y").model();
        for checkpoint in [body, Checkpoint::new()] {
            let weights = source(&checkpoint);
            let error =
                build_bound(&model, &BuildOptions::default(), &Binding::to(&weights)).unwrap_err();
            assert_eq!(error.kind(), BuildErrorKind::Unbound, "{what}");
            let unbound = &error.binding().unwrap().unbound;
            assert!(unbound.iter().any(|open| open.initializer.ends_with("_9")), "{what}: {error}");
        }
    }
}
