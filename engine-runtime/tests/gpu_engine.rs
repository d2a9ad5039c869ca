//! Whole engines on the GPU, held against the CPU: programs made up from a seed, with operators pushed to the CPU to
//! exercise the copies between the two.
//!
//! Without an adapter the tests say so and pass; `REFIT_REQUIRE_GPU=1` makes that a failure.

mod support;

use engine_format::{
    Attr, Attrs, Block, DType, Digest, Dim, Engine, EngineFlags, EngineParts, FitPolicy, Form,
    Literal, MapSource, Node, Port, Tensor, ValueId, Weight, WeightClass, WeightData,
};
use engine_runtime::Obstacle;
use engine_runtime::gpu::GpuOptions;
use engine_runtime::{Device, Inputs, LiveModule, Module, PackedModule};
use std::collections::BTreeMap;

/// Numbers without a pattern, the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| self.below(4001) as f32 / 1000.0 - 2.0).collect();
        Tensor::from_slice(shape, &values)
    }
}

/// A program of matrices under construction.
#[derive(Default)]
struct Sketch {
    nodes: Vec<Node>,
    literals: Vec<Literal>,
    /// Values and their shapes.
    values: Vec<(ValueId, [usize; 2])>,
    ids: u32,
}

impl Sketch {
    fn id(&mut self) -> ValueId {
        self.ids += 1;
        ValueId(self.ids - 1)
    }

    fn node(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        shapes: &[[usize; 2]],
        attrs: &[(&str, Attr)],
    ) {
        let outputs: Vec<ValueId> = shapes.iter().map(|_| self.id()).collect();
        self.values.extend(outputs.iter().copied().zip(shapes.iter().copied()));
        self.nodes.push(Node {
            op: op.to_owned(),
            version: 1,
            name: format!("{op}_{}", self.nodes.len()),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outputs.into_iter().map(Some).collect(),
            attrs: attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<Attrs>(),
        });
    }

    /// One more node over values that are there.
    fn grow(&mut self, random: &mut Random) {
        let (a, [rows, columns]) = self.values[random.below(self.values.len())];
        match random.below(7) {
            0 => self.node("Relu", &[a], &[[rows, columns]], &[]),
            1 => self.node("Sigmoid", &[a], &[[rows, columns]], &[]),
            2 => self.node("Tanh", &[a], &[[rows, columns]], &[]),
            3 => {
                let perm = Attr::Ints(vec![1, 0]);
                self.node("Transpose", &[a], &[[columns, rows]], &[("perm", perm)]);
            }
            4 => {
                let shape = self.id();
                let tensor = Tensor::from_slice(&[2], &[columns as i64, rows as i64]);
                self.literals.push(Literal { value: shape, tensor });
                let allowzero = Attr::Int(1);
                self.node("Reshape", &[a, shape], &[[columns, rows]], &[("allowzero", allowzero)]);
            }
            5 => {
                let below: Vec<_> = self.values.iter().filter(|v| v.1[1] == columns).collect();
                let &(b, [more, _]) = below[random.below(below.len())];
                if rows + more <= 64 {
                    self.node(
                        "Concat",
                        &[a, b],
                        &[[rows + more, columns]],
                        &[("axis", Attr::Int(0))],
                    );
                }
            }
            _ => {
                // Zero rows are wanted too: an empty tensor is never bound.
                let first = rows.div_ceil(2);
                let attrs = [("axis", Attr::Int(0)), ("num_outputs", Attr::Int(2))];
                self.node("Split", &[a], &[[first, columns], [rows - first, columns]], &attrs);
            }
        }
    }
}

fn port(name: &str, value: ValueId, shape: [usize; 2]) -> Port {
    let shape = Some(shape.iter().map(|&d| Dim::from(d)).collect());
    Port { name: name.to_owned(), value, form: Form::Tensor, dtype: DType::F32, shape }
}

fn weight(name: &str, value: ValueId, tensor: &Tensor) -> Weight {
    Weight {
        name: name.to_owned(),
        aliases: Vec::new(),
        value,
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        class: WeightClass::Weight,
        pinned: None,
        refittable: true,
        digest: Some(Digest::of(tensor.bytes())),
        data: WeightData::Stored(tensor.bytes().clone()),
    }
}

/// An engine of `nodes` nodes, two inputs and two weights; every third value is an output.
fn engine(seed: u64, nodes: usize) -> Engine {
    let mut random = Random(seed);
    let mut sketch = Sketch::default();
    let shapes = [[3, 5], [8, 2], [5, 3], [2, 8]];
    let given: Vec<ValueId> = shapes.iter().map(|_| sketch.id()).collect();
    sketch.values.extend(given.iter().copied().zip(shapes));
    (0..nodes).for_each(|_| sketch.grow(&mut random));
    let outputs: Vec<Port> = sketch.values[4..]
        .iter()
        .step_by(3)
        .map(|&(value, shape)| port(&format!("y{}", value.0), value, shape))
        .collect();
    Engine::new(EngineParts {
        flags: EngineFlags::REFIT,
        metadata: BTreeMap::new(),
        inputs: vec![port("x0", given[0], shapes[0]), port("x1", given[1], shapes[1])],
        execute: Block {
            inputs: Vec::new(),
            nodes: sketch.nodes,
            outputs: outputs.iter().map(|p| p.value).collect(),
        },
        outputs,
        values: sketch.ids,
        literals: sketch.literals,
        weights: vec![
            weight("w0", given[2], &random.tensor(&shapes[2])),
            weight("w1", given[3], &random.tensor(&shapes[3])),
        ],
        prepare: Block::default(),
        source_literals: Vec::new(),
        ignored: Vec::new(),
    })
    .expect("the sketch makes valid programs")
}

fn inputs(random: &mut Random) -> Inputs {
    Inputs::from([
        ("x0".to_owned(), random.tensor(&[3, 5])),
        ("x1".to_owned(), random.tensor(&[8, 2])),
    ])
}

fn assert_near(on_gpu: &BTreeMap<String, Tensor>, on_cpu: &BTreeMap<String, Tensor>, what: &str) {
    assert_eq!(on_gpu.len(), on_cpu.len());
    for (name, expected) in on_cpu {
        let found = &on_gpu[name];
        assert_eq!(found.shape(), expected.shape(), "{what}: {name}");
        let floats = |t: &'_ Tensor| t.as_slice::<f32>().expect("outputs are f32").to_vec();
        for (i, (a, b)) in floats(found).into_iter().zip(floats(expected)).enumerate() {
            let near = (a - b).abs() <= 1e-5 + 1e-4 * b.abs();
            assert!(near, "{what}: element {i} of {name} is {a}, expected {b}");
        }
    }
}

/// Devices that place operators differently.
fn devices() -> Vec<(Device, Vec<String>)> {
    let choices: [&[&str]; 4] =
        [&[], &["Tanh"], &["Concat", "Relu"], &["Sigmoid", "Split", "Transpose"]];
    let open = |names: &&[&str]| {
        let on_cpu: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let options = GpuOptions { on_cpu: on_cpu.clone(), ..GpuOptions::default() };
        Some((Device::gpu(support::device(options)?), on_cpu))
    };
    choices.iter().filter_map(open).collect()
}

#[test]
fn made_up_programs_agree_with_the_cpu_wherever_their_operators_run() {
    let devices = devices();
    for seed in 0..24 {
        let engine = engine(seed, 40);
        let on_cpu = LiveModule::load(engine.clone(), &Device::cpu()).unwrap();
        for (device, kept_off) in &devices {
            let what = format!("seed {seed} with {kept_off:?} on the CPU");
            let on_gpu = LiveModule::load(engine.clone(), device).unwrap();
            let mut random = Random(seed + 1000);
            for _ in 0..3 {
                let inputs = inputs(&mut random);
                let expected = on_cpu.run(&inputs).unwrap();
                let found = on_gpu.run(&inputs).unwrap();
                assert_near(&found.tensors, &expected.tensors, &what);
                let again = on_gpu.run(&inputs).unwrap();
                assert_eq!(found.tensors, again.tensors, "{what}: a second run differs");
            }
            for line in on_gpu.placement() {
                let expected = kept_off.iter().any(|op| op == line.op).then_some(Obstacle::KeptOff);
                assert_eq!(line.obstacle, expected, "{what}: {line:?}");
            }
        }
    }
}

#[test]
fn runs_of_one_module_may_overlap() {
    for (device, kept_off) in devices() {
        let module = LiveModule::load(engine(3, 60), &device).unwrap();
        let wanted: Vec<_> = (0..4)
            .map(|i| {
                let inputs = inputs(&mut Random(i));
                let tensors = module.run(&inputs).unwrap().tensors;
                (inputs, tensors)
            })
            .collect();
        std::thread::scope(|scope| {
            for (inputs, tensors) in &wanted {
                let (module, kept_off) = (&module, &kept_off);
                scope.spawn(move || {
                    for _ in 0..10 {
                        assert_eq!(&module.run(inputs).unwrap().tensors, tensors, "{kept_off:?}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_refit_reaches_the_device_on_both_paths() {
    let engine = engine(11, 40);
    let mut random = Random(5);
    let inputs = inputs(&mut random);
    let (w0, w1) = (random.tensor(&[5, 3]), random.tensor(&[2, 8]));
    let first: MapSource =
        engine.parts().weights.iter().map(|w| (w.name.clone(), w.tensor().unwrap())).collect();
    let second: MapSource = [("w0".to_owned(), w0), ("w1".to_owned(), w1)].into_iter().collect();
    let cpu = LiveModule::load(engine.clone(), &Device::cpu()).unwrap();
    let before = cpu.run(&inputs).unwrap();
    cpu.refit(&second, FitPolicy::default()).unwrap();
    let after = cpu.run(&inputs).unwrap();
    assert_ne!(before.tensors, after.tensors, "the outputs depend on the weights");
    let file = engine.serialize(engine_format::SerializeFlags::INCLUDE_REFIT).unwrap();
    for (device, kept_off) in devices() {
        let what = format!("with {kept_off:?} on the CPU");
        let paths: [Box<dyn Module>; 2] = [
            Box::new(LiveModule::load(engine.clone(), &device).unwrap()),
            Box::new(PackedModule::load(file.clone().into(), &device).unwrap()),
        ];
        let runs: Vec<_> = paths
            .iter()
            .map(|module| {
                let a = module.run(&inputs).unwrap().tensors;
                module.refit(&second, FitPolicy::default()).unwrap();
                let b = module.run(&inputs).unwrap().tensors;
                module.refit(&first, FitPolicy::default()).unwrap();
                let c = module.run(&inputs).unwrap().tensors;
                assert_near(&a, &before.tensors, &what);
                assert_near(&b, &after.tensors, &what);
                assert_eq!(a, c, "{what}: there and back");
                (a, b)
            })
            .collect();
        assert_eq!(runs[0], runs[1], "{what}: the two paths differ");
    }
}
