//! Shape arithmetic, conditions and values that a plan must wait for.

use super::toy::{Toy, close, floats, live, node, poisoned, run};
use crate::{Inputs, LiveModule, Module, RunErrorKind};
use engine_format::{Attr, Block, DType, Engine, EngineFlags, Node, Tensor};

/// `x` flattened by shape arithmetic: `Reshape(x, Concat(Gather(Shape(x), 0), [-1]))`, then Exp.
fn flatten() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["b", "c", "d"]);
    let shape = toy.run("Shape", &[x], &[]);
    let zero = toy.ints(&[0]);
    let first = toy.run("Gather", &[shape, zero], &[]);
    let rest = toy.ints(&[-1]);
    let target = toy.run("Concat", &[first, rest], &[("axis", Attr::Int(0))]);
    let flat = toy.run("Reshape", &[x, target], &[]);
    let y = toy.run("Exp", &[flat], &[]);
    toy.output("y", y, DType::F32);
    toy.output("target", target, DType::I64);
    toy.build()
}

#[test]
fn shape_arithmetic_is_done_while_planning() {
    let module = live(&flatten());
    for (b, c, d) in [(2, 3, 4), (1, 5, 1), (2, 3, 4), (0, 3, 2)] {
        let inputs = Inputs::from([("x".into(), engine_ops::case::ramp(&[b, c, d]))]);
        let out = run(&module, &inputs).tensors;
        let expected: Vec<f32> =
            inputs["x"].as_slice::<f32>().unwrap().iter().map(|x| x.exp()).collect();
        if b > 0 {
            assert_eq!(out["y"].shape(), [b, c * d]);
        }
        close(&floats(&out["y"]), &expected);
        assert_eq!(out["target"].to_i64s().unwrap(), [b as i64, -1]);
    }
}

/// Marks: `y = If(pick(flags)) { Exp(h) } else { Relu(h) }` with `h = Tanh(x)`; `pick` takes the first of many flags.
/// The branches also read a weight.
pub(super) fn choice(flags: usize) -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let marks = toy.input("flags", DType::Bool, &[&flags.to_string()]);
    let w = toy.weight("w", &[2]);
    let h = toy.run("Tanh", &[x], &[]);
    let (starts, ends) = (toy.ints(&[0]), toy.ints(&[1]));
    let first = toy.run("Slice", &[marks, starts, ends], &[]);
    let branch = |toy: &mut Toy, op: &str| {
        let inner = toy.node(op, &[h], &[]);
        let joined = toy.node("Concat", &[inner.outputs[0].unwrap(), w], &[("axis", Attr::Int(0))]);
        let outputs = vec![joined.outputs[0].unwrap()];
        Attr::Block(Block { inputs: Vec::new(), nodes: vec![inner, joined], outputs })
    };
    let (yes, no) = (branch(&mut toy, "Exp"), branch(&mut toy, "Relu"));
    let y = toy.run("If", &[first], &[("then_branch", yes), ("else_branch", no)]);
    let z = toy.run("Sigmoid", &[y], &[]);
    toy.output("z", z, DType::F32);
    toy.output("h", h, DType::F32);
    toy.build()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A condition whose operand is small is part of the plan's key; one computed from many values suspends the plan.
#[test]
fn a_condition_takes_its_branch_whether_known_before_or_during_the_run() {
    for flags in [1, 5000] {
        let engine = choice(flags);
        let module = live(&engine);
        let w = engine.parts().weights[0].tensor().unwrap();
        let x: Vec<f32> = (0..7).map(|i| i as f32 / 3.0 - 1.0).collect();
        for taken in [true, false, true] {
            let mut marks = vec![false; flags];
            marks[0] = taken;
            let inputs = Inputs::from([
                ("x".into(), Tensor::from_slice(&[7], &x)),
                ("flags".into(), Tensor::from_bools(&[flags], &marks)),
            ]);
            let out = run(&module, &inputs).tensors;
            let h: Vec<f32> = x.iter().map(|x| x.tanh()).collect();
            let branch = |h: &f32| if taken { h.exp() } else { h.max(0.0) };
            let tail = w.as_slice::<f32>().unwrap().iter().copied();
            let z: Vec<f32> = h.iter().map(branch).chain(tail).map(sigmoid).collect();
            close(&floats(&out["z"]), &z);
            close(&floats(&out["h"]), &h);
        }
    }
}

/// Two suspensions, one after another, with values carried over both.
pub(super) fn twice() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let sizes = toy.input("sizes", DType::I64, &["n"]);
    let x = toy.input("x", DType::F32, &["a", "b"]);
    let bent = toy.run("Tanh", &[x], &[]);
    let at = |toy: &mut Toy, from: i64| {
        let (starts, ends) = (toy.ints(&[from]), toy.ints(&[from + 2]));
        toy.run("Slice", &[sizes, starts, ends], &[])
    };
    let (one, two) = (at(&mut toy, 0), at(&mut toy, 2));
    let first = toy.run("Reshape", &[bent, one], &[]);
    let first = toy.run("Exp", &[first], &[]);
    let second = toy.run("Reshape", &[first, two], &[]);
    let joined = toy.run("Concat", &[second, second], &[("axis", Attr::Int(1))]);
    toy.output("first", first, DType::F32);
    toy.output("joined", joined, DType::F32);
    toy.output("bent", bent, DType::F32);
    toy.build()
}

#[test]
fn suspensions_follow_one_another() {
    let module = live(&twice());
    for (one, two) in [([6, 2], [3, 4]), ([6, 2], [1, 12]), ([2, 6], [12, 1]), ([6, 2], [3, 4])] {
        let mut sizes = vec![0i64; 1000];
        sizes[..2].copy_from_slice(&one);
        sizes[2..4].copy_from_slice(&two);
        let inputs = Inputs::from([
            ("sizes".into(), Tensor::from_slice(&[1000], &sizes)),
            ("x".into(), engine_ops::case::ramp(&[4, 3])),
        ]);
        let out = run(&module, &inputs).tensors;
        let bent: Vec<f32> =
            inputs["x"].as_slice::<f32>().unwrap().iter().map(|x| x.tanh()).collect();
        let first: Vec<f32> = bent.iter().map(|x| x.exp()).collect();
        close(&floats(&out["bent"]), &bent);
        assert_eq!(out["first"].shape(), one.map(|d| d as usize));
        close(&floats(&out["first"]), &first);
        let joined: Vec<f32> =
            first.chunks(two[1] as usize).flat_map(|row| [row, row].concat()).collect();
        assert_eq!(out["joined"].shape(), [two[0] as usize, 2 * two[1] as usize]);
        close(&floats(&out["joined"]), &joined);
    }
}

/// A weight that decides a shape at run time: the plan waits for its contents, so another value is another plan.
#[test]
fn a_weight_that_decides_a_shape_is_read_at_run_time() {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let shape = toy.weight_of("shape", Tensor::from_slice(&[2], &[2i64, 3]));
    let y = toy.run("Reshape", &[x, shape], &[]);
    let y = toy.run("Relu", &[y], &[]);
    toy.output("y", y, DType::F32);
    let module = live(&toy.build());
    let inputs = Inputs::from([("x".into(), engine_ops::case::ramp(&[6]))]);
    assert_eq!(run(&module, &inputs).tensors["y"].shape(), [2, 3]);
    let turned = Tensor::from_slice(&[2], &[3i64, 2]);
    let source: engine_format::MapSource = [("shape".to_owned(), turned)].into_iter().collect();
    module.refit(&source, Default::default()).unwrap();
    assert_eq!(run(&module, &inputs).tensors["y"].shape(), [3, 2]);
}

/// A weight that decides a branch through arithmetic: a refit takes the other one.
#[test]
fn a_refit_of_a_learned_condition_takes_the_other_branch() {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let gate = |sign: f32| Tensor::from_slice(&[20], &[sign; 20]);
    let (gate_of, zero) =
        (toy.weight_of("gate", gate(1.0)), toy.weight_of("zero", floats_of(&[0.0])));
    let sum = toy.run("ReduceSum", &[gate_of], &[("keepdims", Attr::Int(0))]);
    let c = toy.run("Greater", &[sum, zero], &[]);
    let branch = |toy: &mut Toy, op: &str| {
        let inner = toy.node(op, &[x], &[]);
        let outputs = vec![inner.outputs[0].unwrap()];
        Attr::Block(Block { inputs: Vec::new(), nodes: vec![inner], outputs })
    };
    let (yes, no) = (branch(&mut toy, "Exp"), branch(&mut toy, "Relu"));
    let y = toy.run("If", &[c], &[("then_branch", yes), ("else_branch", no)]);
    toy.output("y", y, DType::F32);
    let module = live(&toy.build());
    let inputs = Inputs::from([("x".into(), floats_of(&[-1.0, 2.0]))]);
    for (sign, expected) in
        [(1.0, [(-1f32).exp(), 2f32.exp()]), (-1.0, [0.0, 2.0]), (1.0, [(-1f32).exp(), 2f32.exp()])]
    {
        let source: engine_format::MapSource =
            [("gate".to_owned(), gate(sign)), ("zero".to_owned(), floats_of(&[0.0]))]
                .into_iter()
                .collect();
        module.refit(&source, Default::default()).unwrap();
        close(&floats(&run(&module, &inputs).tensors["y"]), &expected);
    }
}

fn floats_of(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values)
}

/// What stands for an invalid branch is an error only where it is taken.
#[test]
fn a_refusal_is_an_error_where_it_is_taken() {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let c = toy.input("c", DType::Bool, &["1"]);
    let inner = toy.node("Relu", &[x], &[]);
    let outputs = vec![inner.outputs[0].unwrap()];
    let fits = Attr::Block(Block { inputs: Vec::new(), nodes: vec![inner], outputs });
    let value = toy.value();
    let attrs = [("why", Attr::Str("two widths".to_owned())), ("types", Attr::Ints(vec![1]))];
    let refusal = node("Refuse", "gate.else_branch", &[], &[value], &attrs);
    let wrong =
        Attr::Block(Block { inputs: Vec::new(), nodes: vec![refusal], outputs: vec![value] });
    let y = toy.run("If", &[c], &[("then_branch", fits), ("else_branch", wrong)]);
    toy.output("y", y, DType::F32);
    let module = live(&toy.build());
    let inputs = |taken: bool| {
        Inputs::from([
            ("x".into(), floats_of(&[-1.0, 2.0])),
            ("c".into(), Tensor::from_bools(&[1], &[taken])),
        ])
    };
    assert_eq!(floats(&run(&module, &inputs(true)).tensors["y"]), [0.0, 2.0]);
    let error = module.run(&inputs(false)).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Node);
    let text = error.to_string();
    assert!(text.contains("gate.else_branch") && text.contains("two widths"), "{text}");
}

#[test]
fn a_node_that_does_not_take_its_operands_is_named() {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n", "m"]);
    let shape = toy.ints(&[5, 5]);
    let y = toy.value();
    let named: Node = node("Reshape", "encoder/reshape", &[x, shape], &[y], &[]);
    toy.push(named);
    toy.output("y", y, DType::F32);
    let module = live(&toy.build());
    let error =
        module.run(&Inputs::from([("x".into(), engine_ops::case::ramp(&[2, 3]))])).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Node);
    let text = error.to_string();
    assert!(text.contains("encoder/reshape") && text.contains("f32[2, 3], i64[2]"), "{text}");
}

#[test]
fn branches_of_different_arity_and_conditions_of_many_elements_are_errors() {
    let engine = |results: usize| {
        let mut toy = Toy::new(EngineFlags::REFIT);
        let cond = toy.input("cond", DType::Bool, &["n"]);
        let x = toy.input("x", DType::F32, &["m"]);
        let branch = |outputs| Attr::Block(Block { outputs, ..Block::default() });
        let branches =
            [("then_branch", branch(vec![x])), ("else_branch", branch(vec![x; results]))];
        let y = toy.run("If", &[cond], &branches);
        toy.output("y", y, DType::F32);
        toy.build()
    };
    let error = LiveModule::load(engine(0), &poisoned()).unwrap_err();
    assert!(error.to_string().contains("else_branch gives 0 results, the node names 1"), "{error}");
    let module = live(&engine(1));
    let inputs = Inputs::from([
        ("cond".into(), Tensor::from_bools(&[2], &[true, true])),
        ("x".into(), engine_ops::case::ramp(&[3])),
    ]);
    let error = module.run(&inputs).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Node);
    assert!(error.to_string().contains("bool[2], expected one bool or integer"), "{error}");
}
