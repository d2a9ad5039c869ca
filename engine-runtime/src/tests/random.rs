//! Generated programs: planned, aliased and run in shared memory, against every node computed by itself.

use super::toy::{Toy, live, node, run, seeded};
use crate::cpu::kernel;
use crate::{Inputs, Module, PackedModule};
use engine_format::{Attr, Bytes, DType, EngineFlags, Node, SerializeFlags, Tensor, ValueId};
use engine_ops::cpu::Draws;
use engine_ops::infer::{Facts, InferCtx};
use engine_ops::{Kind, lookup};

/// A small generator of numbers.
struct Dice(u32);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % n
    }
}

/// A value of the program and what it has to be.
#[derive(Clone)]
struct Made {
    id: ValueId,
    tensor: Tensor,
    /// Depends on weights only, so it may be computed in `prepare`.
    constant: bool,
}

/// An operator, its attributes and its operands after the first.
type Choice = (&'static str, Vec<(&'static str, Attr)>, Vec<(ValueId, Tensor)>);

/// One node, computed by itself.
fn alone(node: &Node, inputs: &[Tensor]) -> Vec<Tensor> {
    let def = lookup(&node.op, node.version).unwrap();
    let facts: Vec<_> = inputs.iter().map(|t| Some(Facts::constant(t.clone()))).collect();
    let ctx = InferCtx { attrs: &node.attrs, inputs: &facts, outputs: node.outputs.len() };
    let shapes: Vec<Vec<usize>> =
        (def.infer)(&ctx).unwrap().iter().map(|f| f.concrete().unwrap()).collect();
    if def.kind == Kind::View {
        return vec![inputs[0].reshaped(&shapes[0]).unwrap()];
    }
    let meta = |shape: &Vec<usize>| {
        Some(engine_ops::cpu::TensorMeta { dtype: DType::F32, shape: shape.clone() })
    };
    let metas: Vec<_> = shapes.iter().map(meta).collect();
    let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
    kernel::evaluate(def, &node.attrs, &inputs, &metas, Draws::fresh())
        .unwrap()
        .into_iter()
        .flatten()
        .collect()
}

/// Adds one node over values made so far, in `prepare` if that is possible.
fn grow(toy: &mut Toy, dice: &mut Dice, made: &mut Vec<Made>) {
    let x = made[dice.roll(made.len())].clone();
    let (rows, columns) = (x.tensor.shape()[0], x.tensor.shape()[1]);
    let axis = dice.roll(2);
    let fits = |m: &&Made| m.tensor.shape()[1 - axis] == x.tensor.shape()[1 - axis];
    let partner = made.iter().rev().filter(fits).nth(dice.roll(2)).unwrap_or(&x).clone();
    let axis = Attr::Int(axis as i64);
    let int = |v: usize| i64::try_from(v).unwrap();
    let literal = |toy: &mut Toy, v: &[usize]| {
        let values: Vec<i64> = v.iter().map(|&v| int(v)).collect();
        (toy.ints(&values), Tensor::from_slice(&[values.len()], &values))
    };
    let (op, attrs, mut operands): Choice = match dice.roll(8) {
        0 => ("Tanh", vec![], vec![]),
        1 => ("Relu", vec![], vec![]),
        2 => ("Sigmoid", vec![], vec![]),
        3 if partner.tensor.len() + x.tensor.len() < 5000 => {
            ("Concat", vec![("axis", axis)], vec![(partner.id, partner.tensor)])
        }
        4 => ("Transpose", vec![("perm", Attr::Ints(vec![1, 0]))], vec![]),
        5 => ("Reshape", vec![], vec![literal(toy, &[columns, rows])]),
        6 if rows > 1 => {
            let operands = vec![literal(toy, &[1]), literal(toy, &[rows])];
            ("Slice", vec![], operands)
        }
        7 if columns % 2 == 0 => {
            let attrs = vec![("axis", Attr::Int(1)), ("num_outputs", Attr::Int(2))];
            ("Split", attrs, vec![])
        }
        _ => ("Exp", vec![], vec![]),
    };
    operands.insert(0, (x.id, x.tensor));
    let (ids, tensors): (Vec<_>, Vec<_>) = operands.into_iter().unzip();
    let outputs: Vec<ValueId> = (0..1 + usize::from(op == "Split")).map(|_| toy.value()).collect();
    let node = node(op, &format!("{op} {}", outputs[0].0), &ids, &outputs, &attrs);
    let results = alone(&node, &tensors);
    let constant = x.constant && (op != "Concat" || partner.constant) && dice.roll(4) > 0;
    for (&id, tensor) in outputs.iter().zip(&results) {
        made.push(Made { id, tensor: tensor.clone(), constant });
    }
    match constant {
        true => {
            toy.push_prepare(node);
            toy.prepared(&outputs);
        }
        false => toy.push(node),
    }
}

#[test]
fn generated_programs_give_what_their_nodes_give() {
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let mut toy = Toy::new(EngineFlags::REFIT);
        let mut made = Vec::new();
        let mut inputs = Inputs::new();
        for i in 0..2 {
            let (name, shape) = (format!("in{i}"), [1 + dice.roll(6), 1 + dice.roll(6)]);
            let dims = shape.map(|d| d.to_string());
            let id = toy.input(&name, DType::F32, &[&dims[0], &dims[1]]);
            let tensor = seeded(&name, seed, &shape);
            inputs.insert(name, tensor.clone());
            made.push(Made { id, tensor, constant: false });
        }
        for i in 0..3 {
            let (name, shape) = (format!("w{i}"), [1 + dice.roll(6), 1 + dice.roll(6)]);
            let id = toy.weight(&name, &shape);
            made.push(Made { id, tensor: seeded(&name, 0, &shape), constant: true });
        }
        for _ in 0..40 {
            grow(&mut toy, &mut dice, &mut made);
        }
        let mut expected = Vec::new();
        for i in 0..6 {
            let value = made[dice.roll(made.len())].clone();
            toy.output(&format!("out{i}"), value.id, DType::F32);
            expected.push(value.tensor);
        }
        let engine = toy.build();
        let file = Bytes::from(engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap());
        let packed = PackedModule::load(file, &super::toy::poisoned()).unwrap();
        let modules: [Box<dyn Module>; 2] = [Box::new(live(&engine)), Box::new(packed)];
        for module in &modules {
            // Twice: the second run finds what the first left in memory.
            for _ in 0..2 {
                let outputs = run(&**module, &inputs).tensors;
                for (output, expected) in outputs.values().zip(&expected) {
                    assert_eq!(output.shape(), expected.shape(), "seed {seed}");
                    assert_eq!(output.bytes(), expected.bytes(), "seed {seed}");
                }
            }
        }
    }
}
