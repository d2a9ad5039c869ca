//! What only shows inside a session on a GPU: runs that suspend, and versions that live side by side.
//!
//! Without an adapter the tests say so and pass; `REFIT_REQUIRE_GPU=1` makes that a failure.

use super::loops::while_small;
use super::suspend::{choice, twice};
use super::toy::{Toy, bits, close, floats, live, model, run, weights, x};
use crate::executor::{Executor, Programs};
use crate::gpu::{GpuChoice, GpuDevice, GpuOptions, adapters};
use crate::placement::Obstacle;
use crate::{Device, Inputs, LiveModule, Module, RunOptions};
use engine_format::{Attr, DType, Engine, EngineFlags, FitPolicy, Tensor};

/// The first adapter, software or not, with these operators kept on the CPU.
#[cfg_attr(
    not(feature = "gpu"),
    expect(unreachable_code, reason = "without GPUs there is no value of the device's type")
)]
pub(crate) fn opened(on_cpu: &[&str]) -> Option<GpuDevice> {
    let Some(adapter) = adapters().into_iter().next() else {
        let required = std::env::var_os("REFIT_REQUIRE_GPU").is_some_and(|v| v == "1");
        assert!(!required, "REFIT_REQUIRE_GPU=1, but there is no adapter");
        println!("SKIPPED: there is no adapter");
        return None;
    };
    let on_cpu = on_cpu.iter().map(|op| (*op).to_owned()).collect();
    let options = GpuOptions { on_cpu, ..GpuOptions::default() };
    Some(GpuDevice::open(&GpuChoice::Named(adapter.name), options).unwrap())
}

/// The same as a device of modules.
pub(super) fn gpu(on_cpu: &[&str]) -> Option<Device> {
    opened(on_cpu).map(Device::gpu)
}

/// Where a value lies when a run suspends depends on which side made it and which side reads it.
pub(super) const PLACEMENTS: [&[&str]; 6] =
    [&[], &["Tanh"], &["Slice"], &["Exp", "Relu"], &["Tanh", "Sigmoid"], &["Concat", "Exp"]];

fn agrees_wherever_operators_run(engine: &Engine, runs: &[Inputs]) {
    let on_cpu = live(engine);
    for placement in PLACEMENTS {
        let Some(device) = gpu(placement) else { return };
        let on_gpu = LiveModule::load(engine.clone(), &device).unwrap();
        for inputs in runs {
            let (found, expected) = (run(&on_gpu, inputs), run(&on_cpu, inputs));
            for (name, expected) in &expected.tensors {
                let found = &found.tensors[name];
                assert_eq!(found.shape(), expected.shape(), "{name} with {placement:?} on the CPU");
                match expected.dtype() {
                    DType::F32 => close(&floats(found), &floats(expected)),
                    _ => assert_eq!(found, expected, "{name} with {placement:?} on the CPU"),
                }
            }
        }
    }
}

/// `y = Exp(NonZero(x))`: the host runs NonZero, whose result's shape no plan can know.
fn found() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let at = toy.run("NonZero", &[x], &[]);
    let at = toy.run("Cast", &[at], &[("to", Attr::Int(1))]);
    let y = toy.run("Exp", &[at], &[]);
    toy.output("y", y, DType::F32);
    toy.build()
}

#[test]
fn nodes_that_the_host_runs_between_two_plans_are_listed() {
    let inputs = Inputs::from([("x".into(), Tensor::from_slice(&[3], &[0.0f32, 2.0, 3.0]))]);
    let on_cpu = live(&found());
    let expected = run(&on_cpu, &inputs);
    assert!(on_cpu.placement().is_empty(), "on the CPU there is no choice");
    let Some(device) = gpu(&[]) else { return };
    let on_gpu = LiveModule::load(found(), &device).unwrap();
    close(&floats(&run(&on_gpu, &inputs).tensors["y"]), &floats(&expected.tensors["y"]));
    let placed: Vec<_> = on_gpu.placement().into_iter().map(|p| (p.op, p.obstacle)).collect();
    assert!(placed.contains(&("NonZero", Some(Obstacle::DataDependent))), "{placed:?}");
    assert!(placed.contains(&("Exp", None)), "{placed:?}");
}

#[test]
fn values_are_carried_over_a_suspension() {
    let inputs = |taken: bool, from: f32| {
        let x: Vec<f32> = (0..7).map(|i| from + i as f32 / 3.0).collect();
        let mut marks = vec![false; 5000];
        marks[0] = taken;
        Inputs::from([
            ("x".into(), Tensor::from_slice(&[7], &x)),
            ("flags".into(), Tensor::from_bools(&[5000], &marks)),
        ])
    };
    let runs = [(true, -1.0), (false, -2.0), (true, 0.5), (false, -1.0)];
    agrees_wherever_operators_run(&choice(5000), &runs.map(|(taken, from)| inputs(taken, from)));
}

#[test]
fn values_are_carried_over_two_suspensions() {
    let inputs = |one: [i64; 2], two: [i64; 2]| {
        let mut sizes = vec![0i64; 1000];
        sizes[..2].copy_from_slice(&one);
        sizes[2..4].copy_from_slice(&two);
        Inputs::from([
            ("sizes".into(), Tensor::from_slice(&[1000], &sizes)),
            ("x".into(), engine_ops::case::ramp(&[4, 3])),
        ])
    };
    let runs = [([6, 2], [3, 4]), ([6, 2], [1, 12]), ([2, 6], [12, 1]), ([6, 2], [3, 4])];
    agrees_wherever_operators_run(&twice(), &runs.map(|(one, two)| inputs(one, two)));
}

/// What is stacked and what the body captures is carried from iteration to iteration.
#[test]
fn loops_carry_values_over_the_suspension_of_every_iteration() {
    let inputs = |scale: f32| {
        let x: Vec<f32> = (0..5).map(|i| scale * (i as f32 - 2.0)).collect();
        Inputs::from([("x".into(), Tensor::from_slice(&[5], &x))])
    };
    agrees_wherever_operators_run(&while_small(), &[1.0, 0.3, 1.0].map(inputs));
}

/// Two versions of a program share its plans and the memory of its runs; each must read its own weights.
#[test]
fn versions_that_live_side_by_side_keep_their_weights() {
    let Some(device) = gpu(&[]) else { return };
    let engine = model(EngineFlags::REFIT);
    let programs = Programs::check(&engine).unwrap();
    let old = Executor::load(&engine, programs, &device, &RunOptions::default()).unwrap();
    let other = engine.fill(&weights(&engine, 9), FitPolicy::default()).unwrap();
    let new = old.refit(&other, &RunOptions::default()).unwrap();
    let (inputs, now) = (crate::value::values(&x(3)), RunOptions::default());
    let (a, b) = (bits(&old.run(&inputs, &now).unwrap()), bits(&new.run(&inputs, &now).unwrap()));
    assert_ne!(a, b, "the outputs depend on the weights");
    for _ in 0..3 {
        assert_eq!(bits(&old.run(&inputs, &now).unwrap()), a);
        assert_eq!(bits(&new.run(&inputs, &now).unwrap()), b);
    }
}
