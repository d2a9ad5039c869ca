//! What a run and a refit make on a GPU, counted.

use super::loops::while_small;
use super::on_gpu::{PLACEMENTS, opened};
use super::suspend::choice;
use super::toy::{Toy, bits, run, seeded, weights, x};
use crate::executor::{Executor, Programs};
use crate::gpu::GpuCounts;
use crate::{Device, Inputs, LiveModule, Module, RunOptions};
use engine_format::{Attr, DType, Engine, EngineFlags, FitPolicy, MapSource, Tensor, ValueId};
use engine_ops::case::ramp;

const PARTIAL: FitPolicy = FitPolicy { partial: true, allow_extra: false };

/// Weights of a layer of [`encoder`].
const LAYER: [&str; 5] = ["query", "key", "value", "norm.scale", "norm.bias"];
const LAYERS: usize = 4;

/// Layers of self-attention with a residual and a normalisation, over `x: f32[n, 8]`.
fn encoder() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let mut h = toy.input("x", DType::F32, &["n", "8"]);
    for layer in 0..LAYERS {
        h = block(&mut toy, h, layer);
    }
    toy.output("y", h, DType::F32);
    toy.build()
}

fn block(toy: &mut Toy, h: ValueId, layer: usize) -> ValueId {
    let [query, key, value, scale, bias] = LAYER.map(|part| {
        let shape: &[usize] = if part.starts_with("norm") { &[8] } else { &[8, 8] };
        toy.weight(&format!("layer.{layer}.{part}"), shape)
    });
    let [q, k, v] = [query, key, value].map(|w| toy.run("MatMul", &[h, w], &[]));
    let k = toy.run("Transpose", &[k], &[("perm", Attr::Ints(vec![1, 0]))]);
    let scores = toy.run("MatMul", &[q, k], &[]);
    let scores = toy.run("Softmax", &[scores], &[("axis", Attr::Int(-1))]);
    let attended = toy.run("MatMul", &[scores, v], &[]);
    let sum = toy.run("Add", &[h, attended], &[]);
    toy.run("LayerNormalization", &[sum, scale, bias], &[])
}

/// Other values for the weights of `layer` of which `taken` holds.
fn other(layer: usize, engine: &Engine, taken: impl Fn(&str) -> bool) -> MapSource {
    let prefix = format!("layer.{layer}.");
    let weights = engine.parts().weights.iter();
    let layer = weights.filter_map(|w| w.name.strip_prefix(&prefix).map(|part| (w, part)));
    let taken = layer.filter(|(_, part)| taken(part));
    taken.map(|(w, _)| (w.name.clone(), seeded(&w.name, 5, &w.shape))).collect()
}

#[test]
fn a_refit_of_one_layer_rebinds_its_readers_alone() {
    let Some(gpu) = opened(&[]) else { return };
    let engine = encoder();
    let module = LiveModule::load(engine.clone(), &Device::gpu(gpu.clone())).unwrap();
    let inputs = Inputs::from([("x".to_owned(), ramp(&[5, 8]))]);
    let shorter = Inputs::from([("x".to_owned(), ramp(&[3, 8]))]);
    let before = gpu.counts();
    run(&module, &inputs);
    let made = gpu.counts().since(&before);
    // One for each node: none of them takes two launches at these sizes.
    assert_eq!(made.bind_groups, LAYERS as u64 * 9);
    run(&module, &shorter);

    let cases: [(&[&str], u64); 3] = [(&LAYER, 4), (&["key"], 1), (&["norm.scale"], 1)];
    for (layer, (parts, readers)) in cases.into_iter().enumerate() {
        let source = other(layer, &engine, |part| parts.contains(&part));
        let before = gpu.counts();
        module.refit(&source, PARTIAL).unwrap();
        let made = gpu.counts().since(&before);
        let moved = parts.len() as u64;
        let expected = GpuCounts { buffers: moved, scopes: moved, ..GpuCounts::default() };
        assert_eq!(made, expected, "{parts:?}");
        let old = gpu.counts();
        let found = run(&module, &inputs);
        let made = gpu.counts().since(&old);
        let expected = GpuCounts { bind_groups: readers, scopes: 1, ..GpuCounts::default() };
        assert_eq!(made, expected, "{parts:?}");
        // The plan for the other shape rebinds when it is run.
        let old = gpu.counts();
        run(&module, &shorter);
        assert_eq!(gpu.counts().since(&old), expected, "{parts:?}");
        // What was rebound is right.
        let fresh = LiveModule::load(module.engine(), module.device()).unwrap();
        assert_eq!(bits(&found), bits(&run(&fresh, &inputs)), "{parts:?}");
    }
}

#[test]
fn a_refit_moves_no_weight_that_is_the_same() {
    let Some(gpu) = opened(&[]) else { return };
    let engine = encoder();
    let module = LiveModule::load(engine.clone(), &Device::gpu(gpu.clone())).unwrap();
    let inputs = Inputs::from([("x".to_owned(), ramp(&[5, 8]))]);
    run(&module, &inputs);
    let before = gpu.counts();
    let same: MapSource =
        engine.parts().weights.iter().map(|w| (w.name.clone(), w.tensor().unwrap())).collect();
    module.refit(&same, FitPolicy::default()).unwrap();
    run(&module, &inputs);
    let made = gpu.counts().since(&before);
    assert_eq!(made, GpuCounts { scopes: 1, ..GpuCounts::default() }, "one for the run");
}

/// Two sets of weights over one plan, in turns: each has its own bind groups once both were run at once.
#[test]
fn forks_that_take_turns_are_right() {
    let Some(gpu) = opened(&[]) else { return };
    let engine = encoder();
    let module = LiveModule::load(engine.clone(), &Device::gpu(gpu)).unwrap();
    let fork = module.fork_weights(&weights(&engine, 3), FitPolicy::default()).unwrap();
    let inputs = Inputs::from([("x".to_owned(), ramp(&[5, 8]))]);
    let (a, b) = (bits(&run(&module, &inputs)), bits(&run(&*fork, &inputs)));
    assert_ne!(a, b);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    assert_eq!(bits(&run(&module, &inputs)), a);
                    assert_eq!(bits(&run(&*fork, &inputs)), b);
                }
            });
        }
    });
}

#[test]
fn a_warm_run_makes_nothing() {
    let mut marks = vec![false; 5000];
    marks[0] = true;
    let chosen = Inputs::from([
        ("x".into(), ramp(&[7])),
        ("flags".into(), Tensor::from_bools(&[5000], &marks)),
    ]);
    let small = Inputs::from([("x".into(), ramp(&[5]))]);
    let attended = Inputs::from([("x".into(), ramp(&[5, 8]))]);
    let toy = super::toy::model(EngineFlags::REFIT);
    let cases = [
        ("a choice", choice(5000), chosen),
        ("a loop", while_small(), small),
        ("layers", encoder(), attended),
        ("weights of every kind", toy, x(3)),
    ];
    for placement in PLACEMENTS {
        let Some(gpu) = opened(placement) else { return };
        for (name, engine, inputs) in &cases {
            let module = LiveModule::load(engine.clone(), &Device::gpu(gpu.clone())).unwrap();
            let expected = bits(&run(&module, inputs));
            assert_eq!(bits(&run(&module, inputs)), expected);
            for _ in 0..3 {
                let before = gpu.counts();
                assert_eq!(bits(&run(&module, inputs)), expected);
                let made = gpu.counts().since(&before);
                let only = GpuCounts { scopes: made.scopes, ..GpuCounts::default() };
                assert_eq!(made, only, "{name} with {placement:?} on the CPU");
                if *name == "layers" {
                    assert_eq!(made.scopes, 1, "one for the run");
                }
            }
        }
    }
}

/// The host keeps no copy of what only kernels read, but for the engine's own weights.
#[test]
fn constants_on_the_device_are_not_kept_on_the_host() {
    let engine = super::toy::model(EngineFlags::REFIT);
    let programs = Programs::check(&engine).unwrap();
    let prepared = engine.parts().prepare.outputs.clone();
    let direct = engine.weight("direct").unwrap().value;
    let inputs = crate::value::values(&x(3));
    let (now, ids) = (RunOptions::default(), [prepared, vec![direct]].concat());
    for (on_cpu, kept) in [(&[] as &[&str], false), (&["Concat"], true)] {
        let Some(gpu) = opened(on_cpu) else { return };
        let device = Device::gpu(gpu);
        let executor = Executor::load(&engine, programs.clone(), &device, &now).unwrap();
        let on_host = |executor: &Executor, expected: bool| {
            let found = ids.iter().map(|&id| executor.on_host(id).is_some());
            assert!(found.eq(ids.iter().map(|_| expected)), "with {on_cpu:?} on the CPU");
        };
        on_host(&executor, false);
        let expected = executor.run(&inputs, &now).unwrap();
        // What nodes on the host read was brought there, once.
        on_host(&executor, kept);
        let compact = executor.compact().unwrap();
        on_host(&compact, false);
        assert_eq!(bits(&compact.run(&inputs, &now).unwrap()), bits(&expected));
        let other = engine.fill(&weights(&engine, 7), FitPolicy::default()).unwrap();
        let refitted = executor.refit(&other, &now).unwrap();
        on_host(&refitted, false);
        let fresh = Executor::load(&other, programs.clone(), &device, &now).unwrap();
        let found = refitted.run(&inputs, &now).unwrap();
        assert_eq!(bits(&found), bits(&fresh.run(&inputs, &now).unwrap()));
    }
}
