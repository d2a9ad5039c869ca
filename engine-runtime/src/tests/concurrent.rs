//! Runs and refits at the same time; any number of threads.

use super::toy::{Toy, bits, live, model, run, weights, x};
use crate::{CpuOptions, Device, Inputs, LiveModule, Module, PackedModule};
use engine_format::{Attr, Bytes, DType, EngineFlags, SerializeFlags};
use engine_ops::case::ramp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Every output is that of the version it says it is of.
#[test]
fn runs_during_refits_finish_on_the_weights_they_began_with() {
    let full = model(EngineFlags::REFIT);
    let sources: Vec<_> = (0..3).map(|seed| weights(&full, seed)).collect();
    let mut expected = BTreeMap::new();
    let reference = live(&full);
    for source in &sources {
        let version = reference.refit(source, Default::default()).unwrap().version;
        for batch in 1..4 {
            expected.insert((version, batch), bits(&run(&reference, &x(batch))));
        }
    }
    let file = Bytes::from(full.serialize(SerializeFlags::INCLUDE_REFIT).unwrap());
    let packed = PackedModule::load(file, &Device::cpu()).unwrap();
    let modules: [Box<dyn Module>; 2] = [Box::new(live(&full)), Box::new(packed)];
    for module in &modules {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (done, expected) = (&done, &expected);
                scope.spawn(move || {
                    let mut runs = 0;
                    while !done.load(Ordering::Relaxed) || runs < 10 {
                        let batch = 1 + (runs + thread) % 3;
                        let out = run(&**module, &x(batch));
                        assert_eq!(bits(&out), expected[&(out.version, batch)]);
                        runs += 1;
                    }
                });
            }
            for round in 0..30 {
                module.refit(&sources[round % 3], Default::default()).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

/// Products long and wide enough that kernels split them.
fn wide() -> engine_format::Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n", "300"]);
    let (a, b) = (toy.weight("a", &[300, 170]), toy.weight("b", &[170, 301]));
    let turned = toy.prepare("Transpose", &[b], &[("perm", Attr::Ints(vec![1, 0]))]);
    let both = toy.prepare("MatMul", &[a, b], &[]);
    toy.prepared(&[turned, both]);
    let h = toy.run("MatMul", &[x, a], &[]);
    let h = toy.run("Tanh", &[h], &[]);
    let y = toy.run("MatMul", &[h, b], &[]);
    let z = toy.run("MatMul", &[y, turned], &[]);
    let direct = toy.run("MatMul", &[x, both], &[]);
    toy.output("z", z, DType::F32);
    toy.output("direct", direct, DType::F32);
    toy.build()
}

#[test]
fn the_number_of_threads_does_not_show() {
    let engine = wide();
    let results: Vec<_> = [1, 2, 5]
        .map(|threads| {
            let options = CpuOptions { poison: true, ..CpuOptions::with_threads(threads) };
            let module = LiveModule::load(engine.clone(), &Device::cpu_with(options)).unwrap();
            [1, 67].map(|n| {
                let inputs = Inputs::from([("x".into(), ramp(&[n, 300]))]);
                bits(&run(&module, &inputs))
            })
        })
        .into();
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}
