//! What PyTorch's exporters write, in all their spellings: each block of a network becomes the fused operator for it, agrees with
//! ONNX Runtime, and keeps every promise of refit.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::exports::{Exported, export, has_torch};
use conformance::oracle::{Tensors, onnxruntime};
use conformance::proof::prove;
use engine_builder::{BuildOptions, build};
use engine_format::{Attr, Engine, Tensor};
use engine_onnx::Model;
use engine_ops::{Agreement, Tolerance, compare};
use engine_runtime::{Device, LiveModule, Module};
use std::collections::BTreeMap;

/// What exporters and ONNX Runtime make of the order of additions, where the largest element is 1.
const TOLERANCE: Tolerance = Tolerance { atol: 2e-4, rtol: 1e-3 };

/// [`TOLERANCE`] for a tensor of other sizes: networks of random weights may give small ones.
fn tolerance(expected: &Tensor) -> Tolerance {
    let elements = expected.as_slice::<f32>().unwrap();
    let largest = elements.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    Tolerance { atol: TOLERANCE.atol * f64::from(largest), ..TOLERANCE }
}

/// Both exporters, with what they fold left alone and folded, and the newest operators that they write.
const EXPORTERS: [&[&str]; 5] = [
    &["--exporter", "torchscript"],
    &["--exporter", "torchscript", "--fold"],
    &["--exporter", "dynamo"],
    &["--exporter", "dynamo", "--fold"],
    &["--exporter", "dynamo", "--fold", "--opset", "23"],
];

/// Operators that calculate with every element of an activation. How many of each a model is left with is stated; one that is
/// not stated must not be there. The others move elements, or make masks and positions.
const WATCHED: &[&str] = &[
    "Attention",
    "BatchNormalization",
    "Clip",
    "Conv",
    "Div",
    "Elementwise",
    "Erf",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gelu",
    "Gemm",
    "HardSigmoid",
    "HardSwish",
    "IsNaN",
    "LayerNormalization",
    "MatMul",
    "Pow",
    "RMSNormalization",
    "ReduceMean",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Swish",
    "Tanh",
];

/// How many of an operator.
type Counts = &'static [(&'static str, usize)];

/// Products without stages are counted as plain ones: which form they have says how their operands lie.
fn counts(engine: &Engine) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for node in &engine.parts().execute.nodes {
        let plain =
            matches!(node.attrs.get("stages"), Some(Attr::Strs(stages)) if stages.is_empty());
        let op = match node.op.as_str() {
            "FusedMatMul" if plain => "MatMul",
            op => op,
        };
        if WATCHED.contains(&op) {
            *counts.entry(op).or_default() += 1;
        }
    }
    counts
}

fn built(exported: &Exported) -> Engine {
    build(&Model::open(&exported.onnx()).unwrap(), &BuildOptions::default()).unwrap()
}

/// Holds an engine to ONNX Runtime on each device.
fn agrees(what: &str, exported: &Exported, engine: &Engine, runs: &[Tensors], devices: &[Device]) {
    let expected = onnxruntime(&exported.onnx(), runs, &[]).unwrap();
    for device in devices {
        let module = LiveModule::load(engine.clone(), device).unwrap();
        let mut worst = Agreement::default();
        for (inputs, expected) in runs.iter().zip(&expected) {
            let found = module.run(inputs).unwrap().tensors;
            for (name, expected) in expected {
                let near = compare(&found[name], expected, tolerance(expected));
                worst =
                    worst.join(near.unwrap_or_else(|e| panic!("{what}, {name} on {device}: {e}")));
            }
        }
        println!("{what} on {device}: {} nodes, {worst}", engine.parts().execute.nodes.len());
    }
}

/// Builds a model as every exporter writes it and holds it to its counts, to ONNX Runtime and to the proof.
fn hold(
    name: &'static str,
    expected: impl Fn(&[&str]) -> Counts,
    runs: impl Fn(&[&str]) -> Vec<Tensors>,
) {
    for options in EXPORTERS {
        let what = format!("{name} {}", options.join(" "));
        let exported = export(name, options, None).unwrap();
        let engine = built(&exported);
        let wanted: BTreeMap<&str, usize> = expected(options).iter().copied().collect();
        assert_eq!(counts(&engine), wanted, "{what}");
        let runs = runs(options);
        agrees(&what, &exported, &engine, &runs, &conformance::devices());
        let onnx = std::fs::read(exported.onnx()).unwrap();
        prove(&onnx, &runs[0], &[Device::cpu()], TOLERANCE)
            .unwrap_or_else(|broken| panic!("{what}: {broken}"));
    }
}

/// Holds a model of the size that people have to its counts and to ONNX Runtime.
fn hold_large(
    name: &'static str,
    exporters: &[&[&str]],
    expected: impl Fn(&[&str]) -> Vec<(&'static str, usize)>,
    runs: &[Tensors],
) {
    for options in exporters {
        let what = format!("{name} {}", options.join(" "));
        let exported = export(name, options, None).unwrap();
        let engine = built(&exported);
        let wanted: BTreeMap<&str, usize> = expected(options).into_iter().collect();
        assert_eq!(counts(&engine), wanted, "{what}");
        agrees(&what, &exported, &engine, runs, &[Device::cpu()]);
    }
}

fn ids(batch: usize, length: usize) -> Tensor {
    let ids: Vec<i64> = (0..batch * length).map(|i| (i * 37 + 11) as i64 % 1000).collect();
    Tensor::from_slice(&[batch, length], &ids)
}

/// The last text is two tokens shorter, filled up on the left for a decoder, which puts its first two queries before all they may
/// see.
fn mask(batch: usize, length: usize, left: bool) -> Tensor {
    let shorter = |i: usize| if left { i % length < 2 } else { i % length + 2 >= length };
    let mask: Vec<i64> =
        (0..batch * length).map(|i| i64::from(i / length + 1 < batch || !shorter(i))).collect();
    Tensor::from_slice(&[batch, length], &mask)
}

/// Texts for an encoder, of two lengths.
fn texts() -> Vec<Tensors> {
    let run = |batch, length| {
        Tensors::from([
            ("input_ids".to_owned(), ids(batch, length)),
            ("attention_mask".to_owned(), mask(batch, length, false)),
            (
                "token_type_ids".to_owned(),
                Tensor::from_slice(&[batch, length], &vec![0i64; batch * length]),
            ),
        ])
    };
    vec![run(2, 7), run(3, 19)]
}

/// Texts for a decoder without a cache; with `one`, each by itself.
fn prompts(one: bool) -> Vec<Tensors> {
    let run = |batch, length| {
        Tensors::from([
            ("input_ids".to_owned(), ids(batch, length)),
            ("attention_mask".to_owned(), mask(batch, length, true)),
        ])
    };
    match one {
        true => vec![run(1, 7), run(1, 19)],
        false => vec![run(2, 7), run(3, 19)],
    }
}

/// Tokens after a cache of two layers: some after some, and one after many.
fn continuations(heads: usize, size: usize, one: bool) -> Vec<Tensors> {
    let run = |batch: usize, past: usize, length: usize| {
        let shape = [batch, heads, past, size];
        let kept = |layer: usize| {
            let at = |i: usize| ((i * 29 + layer * 7) % 61) as f32 / 30.0 - 1.0;
            Tensor::from_slice(&shape, &(0..shape.iter().product()).map(at).collect::<Vec<_>>())
        };
        let mut inputs = Tensors::from([
            ("input_ids".to_owned(), ids(batch, length)),
            ("attention_mask".to_owned(), mask(batch, past + length, true)),
        ]);
        for layer in 0..2 {
            inputs.insert(format!("past.key.{layer}"), kept(2 * layer));
            inputs.insert(format!("past.value.{layer}"), kept(2 * layer + 1));
        }
        inputs
    };
    match one {
        true => vec![run(1, 6, 4), run(1, 17, 1)],
        false => vec![run(2, 6, 4), run(3, 17, 1)],
    }
}

fn pictures(size: usize, batches: &[usize]) -> Vec<Tensors> {
    let run = |&batch: &usize| {
        let at = |i: usize| ((i * 37 % 256) as f32 - 128.0) / 64.0;
        let pixels: Vec<f32> = (0..batch * 3 * size * size).map(at).collect();
        Tensors::from([("input".to_owned(), Tensor::from_slice(&[batch, 3, size, size], &pixels))])
    };
    batches.iter().map(run).collect()
}

/// Whether ONNX's own operators for attention and rotary embeddings are written.
fn newest(options: &[&str]) -> bool {
    options.ends_with(&["23"])
}

#[test]
fn bert() {
    if has_torch() {
        const EXPECTED: Counts =
            &[("Attention", 2), ("FusedGemm", 1), ("FusedMatMul", 8), ("LayerNormalization", 5)];
        hold("bert-small", |_| EXPECTED, |_| texts());
        // ONNX's operator gives zeros where a query sees nothing: one pass behind attention.
        const WITH_ZEROS: Counts = &[
            ("Attention", 2),
            ("Elementwise", 2),
            ("FusedGemm", 1),
            ("FusedMatMul", 8),
            ("LayerNormalization", 5),
        ];
        let expected = |options: &[&str]| if newest(options) { WITH_ZEROS } else { EXPECTED };
        hold("bert-small-sdpa", expected, |_| texts());
    }
}

#[test]
fn gpt2_with_and_without_a_cache() {
    if has_torch() {
        const EXPECTED: Counts =
            &[("Attention", 2), ("FusedMatMul", 8), ("LayerNormalization", 5), ("MatMul", 1)];
        const WITH_ZEROS: Counts = &[
            ("Attention", 2),
            ("Elementwise", 2),
            ("FusedMatMul", 8),
            ("LayerNormalization", 5),
            ("MatMul", 1),
        ];
        let zeros = |options: &[&str]| if newest(options) { WITH_ZEROS } else { EXPECTED };
        hold("gpt2-small", |_| EXPECTED, |_| prompts(false));
        hold("gpt2-small-sdpa", zeros, |_| prompts(false));
        hold("gpt2-cache-small", |_| EXPECTED, |_| continuations(4, 16, false));
        hold("gpt2-cache-small-sdpa", zeros, |_| continuations(4, 16, false));
    }
}

/// What a Llama of two layers becomes, with so many passes over elements.
const fn llama(passes: usize) -> [(&'static str, usize); 5] {
    [
        ("Attention", 2),
        ("Elementwise", passes),
        ("FusedMatMul", 6),
        ("MatMul", 5),
        ("RMSNormalization", 5),
    ]
}

/// Passes over elements are the rotation of queries and keys, the angles unless a factor of 1 was folded, and zeros where a query
/// sees nothing. ONNX Runtime takes rotary embeddings of one text alone where all have the same positions.
#[test]
fn llama_with_and_without_a_cache() {
    static LEFT_ALONE: [(&str, usize); 5] = llama(6);
    static FOLDED: [(&str, usize); 5] = llama(4);
    static ROTARY_EMBEDDING: [(&str, usize); 5] = llama(8);
    static WITH_ZEROS: [(&str, usize); 5] = llama(10);
    fn passes(options: &[&str]) -> Counts {
        match options {
            [_, "torchscript", ..] | [_, "dynamo"] => &LEFT_ALONE,
            _ if newest(options) => &ROTARY_EMBEDDING,
            _ => &FOLDED,
        }
    }
    if has_torch() {
        let zeros = |options: &[&str]| if newest(options) { &WITH_ZEROS } else { passes(options) };
        hold("llama", passes, |options| prompts(newest(options)));
        hold("llama-sdpa", zeros, |options| prompts(newest(options)));
        hold("llama-cache", passes, |options| continuations(2, 32, newest(options)));
        hold("llama-cache-sdpa", zeros, |options| continuations(2, 32, newest(options)));
    }
}

#[test]
fn vit() {
    const EXPECTED: Counts = &[
        ("Attention", 2),
        ("Conv", 1),
        ("FusedMatMul", 8),
        ("Gemm", 1),
        ("LayerNormalization", 5),
    ];
    if has_torch() {
        hold("vit-small", |_| EXPECTED, |_| pictures(32, &[1, 3]));
    }
}

/// A convolutional network.
struct Network {
    name: &'static str,
    convolutions: usize,
    /// Those without stages, with batch norm left alone and folded by the exporter: where a weight is large, its norm is left with a
    /// factor for each channel, which is a stage.
    plain: [usize; 2],
    /// What is left beside them. Means are written as ReduceMean by dynamo, as GlobalAveragePool by torchscript.
    others: Counts,
    means: usize,
}

static NETWORKS: [Network; 3] = [
    Network { name: "resnet50", convolutions: 53, plain: [2, 4], others: &[("Gemm", 1)], means: 1 },
    Network {
        name: "mobilenet-v3-large",
        convolutions: 62,
        plain: [2, 5],
        others: &[("FusedGemm", 1), ("Gemm", 1)],
        means: 9,
    },
    Network {
        name: "efficientnet-b0",
        convolutions: 81,
        plain: [3, 7],
        others: &[("Gemm", 1)],
        means: 17,
    },
];

#[test]
fn convolutional_networks() {
    if has_torch() {
        for network in &NETWORKS {
            let expected = |options: &[&str]| {
                let plain = network.plain[usize::from(options.contains(&"--fold"))];
                let fused = network.convolutions - plain;
                let mut counts = network.others.to_vec();
                counts.extend([("Conv", plain), ("FusedConv", fused)]);
                counts.extend((options[1] == "dynamo").then_some(("ReduceMean", network.means)));
                counts
            };
            hold_large(network.name, &EXPORTERS[..4], expected, &pictures(224, &[1]));
        }
    }
}

#[test]
fn transformers_of_the_size_that_people_have() {
    if has_torch() {
        // Projections of this width are not joined.
        const BERT: Counts =
            &[("Attention", 12), ("FusedGemm", 1), ("FusedMatMul", 72), ("LayerNormalization", 25)];
        const VIT: Counts = &[
            ("Attention", 12),
            ("Conv", 1),
            ("FusedMatMul", 48),
            ("Gemm", 1),
            ("LayerNormalization", 25),
        ];
        const GPT2: Counts =
            &[("Attention", 12), ("FusedMatMul", 48), ("LayerNormalization", 25), ("MatMul", 1)];
        hold_large("bert-base-sdpa", &EXPORTERS[1..2], |_| BERT.to_vec(), &texts());
        hold_large("vit-b-16", &EXPORTERS[3..4], |_| VIT.to_vec(), &pictures(224, &[1]));
        hold_large("gpt2", &EXPORTERS[3..4], |_| GPT2.to_vec(), &prompts(false));
    }
}
