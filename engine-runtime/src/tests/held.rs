//! Values that stay on the device from run to run.

use super::on_gpu::gpu;
use super::suspend::choice;
use super::toy::{Toy, poisoned, run};
use crate::{
    Decoder, Device, DeviceTensor, Inputs, LiveModule, MemoryLimits, Module, Outputs, PackedModule,
    Recurrence, RunErrorKind, RunOptions, Value, Values,
};
use engine_format::{Attr, DType, Engine, EngineFlags, SerializeFlags, Tensor};
use engine_ops::case::ramp;

/// Attention of one new position over a cache that grows by it: `token: f32[1, 4]`, `past: f32[n, 4]` → `y`, `present: f32[n + 1, 4]`.
fn growing() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let token = toy.input("token", DType::F32, &["1", "4"]);
    let past = toy.input("past", DType::F32, &["n", "4"]);
    let (query, key) = (toy.weight("query", &[4, 4]), toy.weight("key", &[4, 4]));
    let new = toy.run("MatMul", &[token, key], &[]);
    let present = toy.run("Concat", &[past, new], &[("axis", Attr::Int(0))]);
    let query = toy.run("MatMul", &[token, query], &[]);
    let keys = toy.run("Transpose", &[present], &[("perm", Attr::Ints(vec![1, 0]))]);
    let scores = toy.run("MatMul", &[query, keys], &[]);
    let scores = toy.run("Softmax", &[scores], &[("axis", Attr::Int(-1))]);
    let y = toy.run("MatMul", &[scores, present], &[]);
    toy.output("y", y, DType::F32);
    toy.output("present", present, DType::F32);
    toy.build()
}

/// A state of one size, given on as it is and as a view: `token: f32[1, 4]`, `past: f32[3, 4]` → `y`, `present: f32[3, 4]`.
fn steady() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let token = toy.input("token", DType::F32, &["1", "4"]);
    let past = toy.input("past", DType::F32, &["3", "4"]);
    let weight = toy.weight("weight", &[4, 4]);
    let moved = toy.run("MatMul", &[past, weight], &[]);
    let moved = toy.run("Add", &[moved, token], &[]);
    let bent = toy.run("Tanh", &[moved], &[]);
    let y = toy.run("Exp", &[bent], &[]);
    let flat = toy.ints(&[12]);
    let flat = toy.run("Reshape", &[bent, flat], &[]);
    let shape = toy.ints(&[3, 4]);
    let present = toy.run("Reshape", &[flat, shape], &[]);
    toy.output("y", y, DType::F32);
    toy.output("present", present, DType::F32);
    toy.build()
}

/// The CPU, and GPUs on which different nodes run on the host.
fn devices() -> Vec<Device> {
    let placements: [&[&str]; 4] = [&[], &["Concat", "Tanh"], &["Softmax"], &["MatMul", "Add"]];
    std::iter::once(poisoned()).chain(placements.into_iter().filter_map(gpu)).collect()
}

fn both(engine: &Engine, device: &Device) -> [Box<dyn Module>; 2] {
    let file = engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap();
    [
        Box::new(LiveModule::load(engine.clone(), device).unwrap()),
        Box::new(PackedModule::load(file.into(), device).unwrap()),
    ]
}

fn token(step: usize) -> Tensor {
    let values: Vec<f32> = (0..4).map(|i| ((step * 7 + i * 3) % 11) as f32 / 5.0 - 1.0).collect();
    Tensor::from_slice(&[1, 4], &values)
}

fn staying(names: &[&str]) -> RunOptions {
    let on_device = names.iter().map(|name| (*name).to_owned()).collect();
    RunOptions { on_device, ..RunOptions::default() }
}

fn given(step: usize, past: Value) -> Values {
    Values::from([("token".to_owned(), token(step).into()), ("past".to_owned(), past)])
}

/// Runs `steps` from `past` on with the state on the host, and gives `y` and the state of each.
fn by_host(module: &dyn Module, past: &Tensor, steps: usize) -> Vec<(Tensor, Tensor)> {
    let mut past = past.clone();
    let step = |i| {
        let mut out = module.run_with(&given(i, past.clone().into()), &RunOptions::default());
        let tensors = &mut out.as_mut().unwrap().tensors;
        past = tensors.remove("present").unwrap();
        (tensors.remove("y").unwrap(), past.clone())
    };
    (0..steps).map(step).collect()
}

fn left(outputs: &Outputs, name: &str) -> DeviceTensor {
    match &outputs.structures[name] {
        Value::OnDevice(tensor) => tensor.clone(),
        other => panic!("{name} is {other}"),
    }
}

#[test]
fn a_state_that_stays_on_the_device_gives_the_same_bits() {
    for (engine, past) in [(growing(), ramp(&[2, 4])), (steady(), ramp(&[3, 4]))] {
        for device in devices() {
            for module in both(&engine, &device) {
                let expected = by_host(&*module, &past, 8);
                let mut state = Value::from(past.clone());
                let mut all = Vec::new();
                for (i, (y, _)) in expected.iter().enumerate() {
                    let out = module.run_with(&given(i, state), &staying(&["present"])).unwrap();
                    assert_eq!(&out.tensors["y"], y, "step {i} on {device}");
                    assert!(!out.tensors.contains_key("present"));
                    let present = left(&out, "present");
                    all.push(present.clone());
                    state = present.into();
                }
                // What is held is what it was, whatever was run since.
                for (i, (held, (_, expected))) in all.iter().zip(&expected).enumerate() {
                    assert_eq!(&held.to_host().unwrap(), expected, "state {i} on {device}");
                    assert_eq!(held.shape(), expected.shape());
                }
            }
        }
    }
}

#[test]
fn a_value_outlives_its_module_and_goes_to_another_one_of_the_device() {
    for device in devices() {
        let first = LiveModule::load(steady(), &device).unwrap();
        let expected = by_host(&first, &ramp(&[3, 4]), 1).remove(0).1;
        let out = first.run_with(&given(0, ramp(&[3, 4]).into()), &staying(&["y", "present"]));
        let out = out.unwrap();
        drop(first);
        let present = left(&out, "present");
        let second = LiveModule::load(growing(), &device).unwrap();
        let by_host = by_host(&second, &expected, 1).remove(0);
        let next = second.run_with(&given(0, present.clone().into()), &RunOptions::default());
        assert_eq!(next.unwrap().tensors["y"], by_host.0);
        drop(second);
        assert_eq!(present.to_host().unwrap(), expected);
        assert_eq!(Value::from(present).to_host().unwrap(), Value::Tensor(expected));
    }
}

#[test]
fn outputs_that_no_run_makes_may_stay_too() {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let w = toy.weight("w", &[3]);
    let k = toy.ints(&[7, 8]);
    let y = toy.run("Exp", &[x], &[]);
    for (name, value) in [("x", x), ("w", w)] {
        toy.output(name, value, DType::F32);
    }
    toy.output("k", k, DType::I64);
    toy.output("y", y, DType::F32);
    let engine = toy.build();
    let names = ["k", "w", "x", "y"];
    for device in devices() {
        let module = LiveModule::load(engine.clone(), &device).unwrap();
        for n in [5, 0] {
            let inputs = Inputs::from([("x".to_owned(), ramp(&[n]))]);
            let expected = run(&module, &inputs).tensors;
            let out = module.run_with(&crate::value::values(&inputs), &staying(&names)).unwrap();
            assert!(out.tensors.is_empty());
            for name in names {
                assert_eq!(left(&out, name).to_host().unwrap(), expected[name], "{name}");
            }
            // And what a run is given may be what it gives.
            let same = Values::from([("x".to_owned(), out.structures["x"].clone())]);
            let again = module.run_with(&same, &staying(&["x"])).unwrap();
            assert_eq!(again.tensors["y"], expected["y"]);
            assert_eq!(left(&again, "x").to_host().unwrap(), expected["x"]);
        }
    }
}

#[test]
fn contents_that_plans_depend_on_are_brought_to_the_host() {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::I64, &["n"]);
    let y = toy.run("Add", &[x, x], &[]);
    toy.output("y", y, DType::I64);
    let sizes = toy.build();
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let shape = toy.input("shape", DType::I64, &["2"]);
    let bent = toy.run("Exp", &[x], &[]);
    let y = toy.run("Reshape", &[bent, shape], &[]);
    toy.output("y", y, DType::F32);
    let reshaped = toy.build();
    for device in devices() {
        let sizes = LiveModule::load(sizes.clone(), &device).unwrap();
        let reshaped = LiveModule::load(reshaped.clone(), &device).unwrap();
        for half in [[1i64, 3], [3, 1]] {
            let inputs = Values::from([("x".to_owned(), Tensor::from_slice(&[2], &half).into())]);
            let shape = sizes.run_with(&inputs, &staying(&["y"])).unwrap().structures;
            let inputs = Values::from([
                ("x".to_owned(), ramp(&[12]).into()),
                ("shape".to_owned(), shape["y"].clone()),
            ]);
            let y = reshaped.run_with(&inputs, &RunOptions::default()).unwrap();
            assert_eq!(y.tensors["y"].shape(), half.map(|n| 2 * n as usize));
        }
    }
}

/// A run that suspends carries what it was given on, and what stays is that of its last part.
#[test]
fn values_stay_over_suspensions() {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["7"]);
    let y = toy.run("Sin", &[x], &[]);
    toy.output("y", y, DType::F32);
    let sine = toy.build();
    for device in devices() {
        let sine = LiveModule::load(sine.clone(), &device).unwrap();
        let chosen = LiveModule::load(choice(5000), &device).unwrap();
        for taken in [true, false, true] {
            let mut marks = vec![false; 5000];
            marks[0] = taken;
            let inputs = Values::from([("x".to_owned(), ramp(&[7]).into())]);
            let x = sine.run_with(&inputs, &staying(&["y"])).unwrap().structures["y"].clone();
            let given = |x: Value| {
                let flags = Tensor::from_bools(&[5000], &marks);
                Values::from([("x".to_owned(), x), ("flags".to_owned(), flags.into())])
            };
            let host = given(x.clone().to_host().unwrap());
            let expected = chosen.run_with(&host, &RunOptions::default()).unwrap().tensors;
            let found = chosen.run_with(&given(x), &staying(&["h", "z"])).unwrap();
            for name in ["h", "z"] {
                assert_eq!(left(&found, name).to_host().unwrap(), expected[name], "{name}");
            }
        }
    }
}

#[test]
fn a_value_of_another_device_is_refused_by_name() {
    let Some(device) = gpu(&[]) else { return };
    let module = LiveModule::load(steady(), &device).unwrap();
    let first = given(0, ramp(&[3, 4]).into());
    let out = module.run_with(&first, &staying(&["present"])).unwrap();
    let present = out.structures["present"].clone();
    for other in [poisoned(), gpu(&[]).unwrap()] {
        let elsewhere = LiveModule::load(steady(), &other).unwrap();
        let given = given(1, present.clone());
        let error = elsewhere.run_with(&given, &RunOptions::default()).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::InvalidInputs);
        let text = error.to_string();
        assert!(
            text.contains("input \"past\" is f32[3, 4] on ") && text.contains("to_host"),
            "{text}"
        );
        // What a run on the CPU leaves is on the host, and taken everywhere.
        let on_host = present.clone().to_host().unwrap();
        let given = super::held::given(1, on_host);
        let left = elsewhere.run_with(&given, &staying(&["present"])).unwrap();
        if !other.is_gpu() {
            let given = super::held::given(2, left.structures["present"].clone());
            module.run_with(&given, &RunOptions::default()).unwrap();
        }
    }
    // Types are checked as those of tensors are.
    let grown = LiveModule::load(growing(), &device).unwrap();
    let long = grown.run_with(&given(0, ramp(&[5, 4]).into()), &staying(&["present"])).unwrap();
    let error =
        module.run_with(&given(0, long.structures["present"].clone()), &RunOptions::default());
    let text = error.unwrap_err().to_string();
    assert!(text.contains("axis 0 of input \"past\" is 6, expected 3"), "{text}");
}

#[test]
fn names_of_outputs_that_stay_are_checked() {
    let module = LiveModule::load(steady(), &poisoned()).unwrap();
    let first = given(0, ramp(&[3, 4]).into());
    let error = module.run_with(&first, &staying(&["future"])).unwrap_err().to_string();
    assert!(error.contains("\"future\"") && error.contains("\"present\""), "{error}");
    let options = RunOptions { outputs: Some(vec!["y".to_owned()]), ..staying(&["present"]) };
    let error = module.run_with(&first, &options).unwrap_err().to_string();
    assert!(error.contains("\"present\"") && error.contains("wanted"), "{error}");
    let options = RunOptions { outputs: Some(vec!["present".to_owned()]), ..staying(&["present"]) };
    let out = module.run_with(&first, &options).unwrap();
    assert_eq!((out.tensors.len(), out.structures.len()), (0, 1));
}

#[test]
fn values_that_stay_count_in_the_limits_of_a_run() {
    for device in [Some(poisoned()), gpu(&[])].into_iter().flatten() {
        let needed = |options: &RunOptions| {
            let fits = |&bytes: &u64| {
                let limits = MemoryLimits { tensor: u64::MAX, run: bytes };
                let module = LiveModule::load(steady(), &device.clone().with_limits(limits));
                let first = given(0, ramp(&[3, 4]).into());
                module.unwrap().run_with(&first, options).is_ok()
            };
            (0..4096).step_by(16).find(fits).unwrap()
        };
        let only = |options| RunOptions { outputs: Some(vec!["present".to_owned()]), ..options };
        let by_host = needed(&only(RunOptions::default()));
        assert_eq!(needed(&only(staying(&["present"]))), by_host, "on {device}");
        assert!(by_host >= 48, "the value itself");
    }
}

/// A chain of runs takes turns between two sets of memory, once both are there.
#[cfg(feature = "gpu")]
#[test]
fn a_warm_chain_of_runs_makes_nothing_and_reads_nothing_back() {
    use crate::gpu::GpuCounts;
    let Some(gpu) = super::on_gpu::opened(&[]) else { return };
    let module = LiveModule::load(steady(), &Device::gpu(gpu.clone())).unwrap();
    let options = RunOptions { outputs: Some(vec!["present".to_owned()]), ..staying(&["present"]) };
    let mut state = Value::from(ramp(&[3, 4]));
    let expected = by_host(&module, &ramp(&[3, 4]), 12);
    for step in 0..12 {
        let before = gpu.counts();
        let out = module.run_with(&given(step, state), &options).unwrap();
        state = out.structures["present"].clone();
        let made = gpu.counts().since(&before);
        if step >= 4 {
            let only = GpuCounts { scopes: 1, ..GpuCounts::default() };
            assert_eq!(made, only, "step {step}");
        }
    }
    assert_eq!(state.to_host().unwrap(), Value::Tensor(expected[11].1.clone()));
}

fn present_to_past() -> Vec<Recurrence> {
    vec![Recurrence { output: "present".to_owned(), input: "past".to_owned() }]
}

#[test]
fn a_decoder_gives_what_runs_by_the_host_give() {
    for (engine, past) in [(growing(), ramp(&[2, 4])), (steady(), ramp(&[3, 4]))] {
        for device in devices() {
            for module in both(&engine, &device) {
                let by_names = Recurrence::by_names(module.inputs(), module.outputs());
                assert_eq!(by_names, present_to_past());
                let state = Values::from([("past".to_owned(), past.clone().into())]);
                let options = RunOptions::default();
                let mut decoder = Decoder::new(&*module, by_names, state, options).unwrap();
                let token = |i| Values::from([("token".to_owned(), token(i).into())]);
                for (i, (y, present)) in by_host(&*module, &past, 6).into_iter().enumerate() {
                    // An error leaves the state as it was.
                    assert!(decoder.step(Values::new()).is_err());
                    let out = decoder.step(token(i)).unwrap();
                    assert_eq!(out.tensors.keys().collect::<Vec<_>>(), ["y"]);
                    assert_eq!((&out.tensors["y"], out.structures.len()), (&y, 0));
                    let state = decoder.state()["past"].clone();
                    assert!(matches!(state, Value::OnDevice(_)), "{state}");
                    assert_eq!(
                        state.to_host().unwrap(),
                        Value::Tensor(present),
                        "step {i} on {device}"
                    );
                }
            }
        }
    }
}

#[test]
fn recurrences_that_cannot_be_are_refused() {
    let module = LiveModule::load(steady(), &poisoned()).unwrap();
    let pair =
        |output: &str, input: &str| Recurrence { output: output.into(), input: input.into() };
    for (recurrences, part) in [
        (vec![pair("presence", "past")], "found y, present"),
        (vec![pair("present", "future")], "found token, past"),
        (vec![pair("present", "past"), pair("y", "past")], "in two recurrences"),
        (vec![pair("present", "past"), pair("present", "token")], "in two recurrences"),
    ] {
        let made = Decoder::new(&module, recurrences, Values::new(), RunOptions::default());
        let error = made.err().unwrap();
        assert_eq!(error.kind(), RunErrorKind::InvalidInputs);
        assert!(error.to_string().contains(part), "{error}");
    }
}
