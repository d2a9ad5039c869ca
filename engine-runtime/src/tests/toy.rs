//! Small engines, written down node by node.

use crate::{Device, Inputs, LiveModule, Module, Outputs};
use engine_format::{
    Attr, Attrs, Block, DType, Digest, Engine, EngineFlags, EngineParts, Form, Literal, MapSource,
    Node, Port, Tensor, ValueId, Weight, WeightClass, WeightData,
};
use engine_ops::{TABLE, case};
use std::collections::BTreeMap;

/// An engine being written down.
pub struct Toy {
    parts: EngineParts,
}

impl Toy {
    pub fn new(flags: EngineFlags) -> Self {
        let parts = EngineParts {
            flags,
            metadata: BTreeMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            values: 0,
            literals: Vec::new(),
            weights: Vec::new(),
            prepare: Block::default(),
            execute: Block::default(),
            source_literals: Vec::new(),
            ignored: Vec::new(),
        };
        Self { parts }
    }

    pub fn value(&mut self) -> ValueId {
        self.parts.values += 1;
        ValueId(self.parts.values - 1)
    }

    pub fn input(&mut self, name: &str, dtype: DType, dims: &[&str]) -> ValueId {
        let value = self.value();
        let shape = Some(dims.iter().map(|d| d.parse().unwrap()).collect());
        self.parts.inputs.push(Port { name: name.into(), value, form: Form::Tensor, dtype, shape });
        value
    }

    /// An input that need not be a tensor, of any shape.
    pub fn input_of(&mut self, name: &str, form: Form, dtype: DType) -> ValueId {
        let value = self.value();
        self.parts.inputs.push(Port { name: name.into(), value, form, dtype, shape: None });
        value
    }

    pub fn literal(&mut self, tensor: Tensor) -> ValueId {
        let value = self.value();
        self.parts.literals.push(Literal { value, tensor });
        value
    }

    pub fn ints(&mut self, values: &[i64]) -> ValueId {
        self.literal(Tensor::from_slice(&[values.len()], values))
    }

    /// A weight with values of its own, made from its name.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.weight_of(name, seeded(name, 0, shape))
    }

    pub fn weight_of(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let value = self.value();
        self.parts.weights.push(Weight {
            name: name.into(),
            aliases: Vec::new(),
            value,
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            class: WeightClass::Weight,
            pinned: None,
            refittable: self
                .parts
                .flags
                .intersects(EngineFlags::REFIT | EngineFlags::REFIT_IDENTICAL),
            digest: Some(Digest::of(tensor.bytes())),
            data: WeightData::Stored(tensor.bytes().clone()),
        });
        value
    }

    pub fn node(&mut self, op: &str, inputs: &[ValueId], attrs: &[(&str, Attr)]) -> Node {
        let value = self.value();
        node(op, &format!("{op}_{}", value.0), inputs, &[value], attrs)
    }

    /// Adds a node to `execute`.
    pub fn run(&mut self, op: &str, inputs: &[ValueId], attrs: &[(&str, Attr)]) -> ValueId {
        let node = self.node(op, inputs, attrs);
        let value = node.outputs[0].unwrap();
        self.parts.execute.nodes.push(node);
        value
    }

    pub fn push(&mut self, node: Node) {
        self.parts.execute.nodes.push(node);
    }

    pub fn push_prepare(&mut self, node: Node) {
        self.parts.prepare.nodes.push(node);
    }

    /// Adds a node to `prepare`.
    pub fn prepare(&mut self, op: &str, inputs: &[ValueId], attrs: &[(&str, Attr)]) -> ValueId {
        let node = self.node(op, inputs, attrs);
        let value = node.outputs[0].unwrap();
        self.parts.prepare.nodes.push(node);
        value
    }

    /// Says that `execute` reads these values of `prepare`.
    pub fn prepared(&mut self, values: &[ValueId]) {
        self.parts.prepare.outputs.extend(values);
    }

    pub fn output(&mut self, name: &str, value: ValueId, dtype: DType) {
        self.output_of(name, value, Form::Tensor, dtype);
    }

    /// An output that need not be a tensor.
    pub fn output_of(&mut self, name: &str, value: ValueId, form: Form, dtype: DType) {
        self.parts.execute.outputs.push(value);
        self.parts.outputs.push(Port { name: name.into(), value, form, dtype, shape: None });
    }

    pub fn build(mut self) -> Engine {
        self.parts.weights.sort_by(|a, b| a.name.cmp(&b.name));
        Engine::new(self.parts).unwrap()
    }
}

pub fn node(
    op: &str,
    name: &str,
    inputs: &[ValueId],
    outputs: &[ValueId],
    attrs: &[(&str, Attr)],
) -> Node {
    let def = TABLE.iter().find(|def| def.name == op).unwrap();
    let attrs: Attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    Node {
        op: op.into(),
        version: def.version,
        name: name.into(),
        inputs: inputs.iter().copied().map(Some).collect(),
        outputs: outputs.iter().copied().map(Some).collect(),
        attrs: def.normalise(attrs).unwrap(),
    }
}

/// Values that differ from name to name and seed to seed.
pub fn seeded(name: &str, seed: u32, shape: &[usize]) -> Tensor {
    let mut state =
        name.bytes().fold(seed.wrapping_mul(977) | 1, |s, b| s.rotate_left(5) ^ u32::from(b));
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    Tensor::from_slice(shape, &values)
}

/// Other values for every weight of `engine`.
pub fn weights(engine: &Engine, seed: u32) -> MapSource {
    let weights = engine.parts().weights.iter();
    weights.map(|w| (w.name.clone(), seeded(&w.name, seed, &w.shape))).collect()
}

/// A model with weights that are used directly, prepared, and prepared from two others:
/// `y = relu(concat(x, w + …))`, see the code. Input `x: f32[batch, 8]`.
pub fn model(flags: EngineFlags) -> Engine {
    let mut toy = Toy::new(flags);
    let x = toy.input("x", DType::F32, &["batch", "8"]);
    let direct = toy.weight("direct", &[2, 8]);
    let single = toy.weight("single", &[8, 3]);
    let (a, b) = (toy.weight("pair.a", &[1, 8]), toy.weight("pair.b", &[4, 8]));
    let perm = Attr::Ints(vec![1, 0]);
    let turned = toy.prepare("Transpose", &[single], &[("perm", perm)]);
    let bent = toy.prepare("Tanh", &[turned], &[]);
    let joined = toy.prepare("Concat", &[a, b], &[("axis", Attr::Int(0))]);
    let pair = toy.prepare("Sigmoid", &[joined], &[]);
    toy.prepared(&[bent, pair]);
    let all = toy.run("Concat", &[x, direct, bent, pair], &[("axis", Attr::Int(0))]);
    let y = toy.run("Relu", &[all], &[]);
    let z = toy.run("Exp", &[y], &[]);
    let shape = toy.run("Shape", &[x], &[("start", Attr::Int(0))]);
    toy.output("y", y, DType::F32);
    toy.output("z", z, DType::F32);
    toy.output("shape", shape, DType::I64);
    toy.build()
}

pub fn x(batch: usize) -> Inputs {
    Inputs::from([("x".to_owned(), case::ramp(&[batch, 8]))])
}

pub fn live(engine: &Engine) -> LiveModule {
    LiveModule::load(engine.clone(), &poisoned()).unwrap()
}

/// A CPU whose memory is filled with 0xFF before it is written.
pub fn poisoned() -> Device {
    Device::cpu_with(crate::CpuOptions { pool: None, poison: true })
}

/// The outputs' raw bytes.
pub fn bits(outputs: &Outputs) -> Vec<Vec<u8>> {
    outputs.tensors.values().map(|t| t.bytes().to_vec()).collect()
}

pub fn run(module: &dyn Module, inputs: &Inputs) -> Outputs {
    module.run(inputs).unwrap()
}

pub fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.as_slice::<f32>().unwrap().to_vec()
}

/// Kernels approximate functions in their own way; this holds them against the standard library's.
#[track_caller]
pub fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 + 1e-4 * b.abs();
    assert!(found.iter().zip(expected).all(near), "{found:?}, expected {expected:?}");
}
