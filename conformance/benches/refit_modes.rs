//! One model built frozen and built refittable: the same speed, or refit is not free. Criterion times one after the other, so that
//! whatever else the machine does shows as a difference between them; the line below is about pairs of runs, one right after the
//! other, and says how far their ratios are spread.

use conformance::sized::SIZED;
use criterion::{Criterion, criterion_group, criterion_main};
use engine_builder::{BuildOptions, RefitMode, build};
use engine_onnx::Model;
use engine_runtime::{Device, LiveModule, Module, RunOptions, Values};
use engine_verify::inputs::run_seeded;
use std::time::Instant;

/// Pairs of runs.
const PAIRS: usize = 40;

fn refit_modes(criterion: &mut Criterion) {
    for sized in SIZED {
        let model = Model::parse((sized.onnx)().into(), None).expect("the model reads");
        let load = |refit| {
            let options = BuildOptions { refit, ..BuildOptions::default() };
            let engine = build(&model, &options).expect("the model builds");
            LiveModule::load(engine, &Device::cpu()).expect("the engine loads")
        };
        let (frozen, refittable) = (load(RefitMode::None), load(RefitMode::All));
        let seeded = run_seeded(&frozen, &Values::new(), 1);
        let inputs = seeded.expect("it runs at some size").inputs;
        let run = |module: &LiveModule| {
            module.run_with(&inputs, &RunOptions::default()).expect("it ran before")
        };
        let mut group = criterion.benchmark_group(sized.name);
        group.sample_size(10);
        for (mode, module) in [("frozen", &frozen), ("refittable", &refittable)] {
            group.bench_function(mode, |b| b.iter(|| run(module)));
        }
        group.finish();
        let seconds = |module: &LiveModule| {
            let begun = Instant::now();
            run(module);
            begun.elapsed().as_secs_f64()
        };
        // Each of them goes first in half of the pairs.
        let pair = |i: usize| {
            let first = i.is_multiple_of(2).then(|| seconds(&refittable));
            let frozen = seconds(&frozen);
            first.unwrap_or_else(|| seconds(&refittable)) / frozen
        };
        let mut ratios: Vec<f64> = (0..PAIRS).map(pair).collect();
        ratios.sort_by(f64::total_cmp);
        let [low, median, high] = [1, 2, 3].map(|quarter| ratios[quarter * PAIRS / 4]);
        println!(
            "{}: a run refittable / frozen = {median:.3}; half of {PAIRS} pairs between {low:.3} and {high:.3}\n",
            sized.name
        );
    }
}

criterion_group!(benches, refit_modes);
criterion_main!(benches);
