//! One model built frozen and built refittable: the same speed, or refit is not free. The last line is the ratio of both,
//! measured in turns.

use conformance::inputs::run_seeded;
use conformance::sized::SIZED;
use criterion::{Criterion, criterion_group, criterion_main};
use engine_builder::{BuildOptions, RefitMode, build};
use engine_onnx::Model;
use engine_runtime::{Device, LiveModule, Module, RunOptions, Values};
use std::time::{Duration, Instant};

/// Rounds of the comparison in turns.
const ROUNDS: usize = 25;

fn refit_modes(criterion: &mut Criterion) {
    for sized in SIZED {
        let model = Model::parse((sized.onnx)().into(), None).expect("the model reads");
        let load = |refit| {
            let options = BuildOptions { refit, ..BuildOptions::default() };
            let engine = build(&model, &options).expect("the model builds");
            LiveModule::load(engine, &Device::cpu()).expect("the engine loads")
        };
        let modules = [("none", load(RefitMode::None)), ("all", load(RefitMode::All))];
        let seeded = run_seeded(&modules[0].1, &Values::new(), 1);
        let inputs = seeded.expect("it runs at some size").inputs;
        let mut group = criterion.benchmark_group(sized.name);
        group.sample_size(10);
        for (mode, module) in &modules {
            group.bench_function(format!("--refit {mode}"), |b| {
                b.iter(|| module.run_with(&inputs, &RunOptions::default()))
            });
        }
        group.finish();
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            for ((_, module), times) in modules.iter().zip(&mut times) {
                let begun = Instant::now();
                module.run_with(&inputs, &RunOptions::default()).expect("it ran before");
                times.push(begun.elapsed());
            }
        }
        let [none, all] = times.map(median);
        println!("{}: a run refittable / frozen = {:.3}", sized.name, all / none);
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

criterion_group!(benches, refit_modes);
criterion_main!(benches);
