//! Sequences and optional values: between ports, through loops and branches, and what they refuse.

use super::toy::{Toy, floats, live, node, poisoned};
use crate::{
    LiveModule, Module, Outputs, PackedModule, RunError, RunErrorKind, RunOptions, Value, Values,
};
use engine_format::{
    Attr, Block, DType, Engine, EngineFlags, Form, SerializeFlags, Tensor, ValueId,
};
use std::collections::BTreeMap;

fn vector(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values)
}

fn position(at: i64) -> Tensor {
    Tensor::from_slice(&[], &[at])
}

fn run(module: &dyn Module, inputs: &Values) -> Result<Outputs, RunError> {
    module.run_with(inputs, &RunOptions::default())
}

/// `all = insert(list, x, at); one = all[at] + w; joined = concat(all); n = len(all)`.
fn edits() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let list = toy.input_of("list", Form::Sequence, DType::F32);
    let x = toy.input("x", DType::F32, &["n"]);
    let at = toy.input("at", DType::I64, &[]);
    let w = toy.weight("w", &[1]);
    let all = toy.run("SequenceInsert", &[list, x, at], &[]);
    let one = toy.run("SequenceAt", &[all, at], &[]);
    let one = toy.run("Add", &[one, w], &[]);
    let joined = toy.run("ConcatFromSequence", &[all], &[("axis", Attr::Int(0))]);
    let n = toy.run("SequenceLength", &[all], &[]);
    toy.output("one", one, DType::F32);
    toy.output("joined", joined, DType::F32);
    toy.output("n", n, DType::I64);
    toy.output_of("all", all, Form::Sequence, DType::F32);
    toy.build()
}

fn given(list: &[&[f32]], at: i64) -> Values {
    let list: Vec<Tensor> = list.iter().map(|values| vector(values)).collect();
    Values::from([
        ("list".to_owned(), list.into()),
        ("x".to_owned(), vector(&[7.0, 8.0]).into()),
        ("at".to_owned(), position(at).into()),
    ])
}

/// Both paths, the packed one from a file that was stripped and filled.
fn both_paths(engine: &Engine) -> [Box<dyn Module>; 2] {
    let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
    let packed = PackedModule::load(stripped.into(), &poisoned()).unwrap();
    assert_eq!(packed.inputs(), engine.parts().inputs);
    let source: engine_format::MapSource =
        engine.parts().weights.iter().map(|w| (w.name.clone(), w.tensor().unwrap())).collect();
    packed.refit(&source, Default::default()).unwrap();
    [Box::new(live(engine)), Box::new(packed)]
}

#[test]
fn sequences_come_in_and_go_out_on_both_paths() {
    let engine = edits();
    let w = engine.weight("w").unwrap().tensor().unwrap().as_slice::<f32>().unwrap()[0];
    for module in both_paths(&engine) {
        // Another number of elements, another shape of one, another position: each is another plan.
        for (list, at, joined) in [
            (&[&[1.0f32, 2.0][..], &[3.0]][..], 1, vec![1.0f32, 2.0, 7.0, 8.0, 3.0]),
            (&[&[1.0], &[2.0]], -2, vec![7.0, 8.0, 1.0, 2.0]),
            (&[], 0, vec![7.0, 8.0]),
            (&[&[1.0, 2.0], &[3.0]], 1, vec![1.0, 2.0, 7.0, 8.0, 3.0]),
        ] {
            let out = run(&*module, &given(list, at)).unwrap();
            assert_eq!(floats(&out.tensors["joined"]), joined);
            assert_eq!(out.tensors["n"].to_i64s().unwrap(), [list.len() as i64 + 1]);
            let Value::Sequence(all) = &out.structures["all"] else { panic!("{out:?}") };
            assert_eq!(all.len(), list.len() + 1);
            if at >= 0 {
                assert_eq!(floats(&out.tensors["one"]), [7.0 + w, 8.0 + w]);
                assert_eq!(all[at as usize], vector(&[7.0, 8.0]));
            }
        }
    }
}

#[test]
fn what_a_sequence_cannot_do_is_an_error_with_its_path() {
    let module = live(&edits());
    let error = run(&module, &given(&[&[1.0]], 2)).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Node);
    let text = error.to_string();
    assert!(text.contains("SequenceInsert v1 of (a sequence of 1 f32 tensors, f32[2], i64[])"));
    assert!(text.ends_with("position 2 in a sequence of 1, expected -1..2"), "{text}");
    let mut inputs = given(&[&[1.0]], 0);
    inputs.insert("x".to_owned(), vec![vector(&[1.0])].into());
    let error = run(&module, &inputs).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::InvalidInputs);
    let wrong = "input \"x\" is a sequence of 1 tensors, expected f32[n]";
    assert_eq!(error.details(), [wrong]);
    let tensors = BTreeMap::from([("list".to_owned(), vector(&[1.0]))]);
    let error = module.run(&tensors).unwrap_err().to_string();
    assert!(error.contains("\"list\" is f32[1], expected sequence(f32 of any shape)"), "{error}");

    let mut toy = Toy::new(EngineFlags::empty());
    let list = toy.input_of("list", Form::Sequence, DType::F32);
    let y = toy.run("Relu", &[list], &[]);
    toy.output("y", y, DType::F32);
    let inputs = Values::from([("list".to_owned(), Value::Sequence(Vec::new()))]);
    let error = run(&live(&toy.build()), &inputs).unwrap_err().to_string();
    let found = "operand 0 is a sequence of 0 f32 tensors, expected a tensor";
    assert!(error.starts_with("node \"Relu_") && error.ends_with(found), "{error}");
}

/// `y = has(maybe) ? get(maybe) : x`, the condition and the branch being decided while planning.
fn either() -> Engine {
    let mut toy = Toy::new(EngineFlags::empty());
    let maybe = toy.input_of("maybe", Form::OptionalTensor, DType::F32);
    let x = toy.input("x", DType::F32, &["n"]);
    let there = toy.run("OptionalHasElement", &[maybe], &[]);
    let get = toy.node("OptionalGetElement", &[maybe], &[]);
    let outputs = vec![get.outputs[0].unwrap()];
    let then = Attr::Block(Block { nodes: vec![get], outputs, ..Block::default() });
    let other = Attr::Block(Block { outputs: vec![x], ..Block::default() });
    let y = toy.run("If", &[there], &[("then_branch", then), ("else_branch", other)]);
    let same = toy.run("Identity", &[maybe], &[]);
    toy.output("y", y, DType::F32);
    toy.output_of("same", same, Form::OptionalTensor, DType::F32);
    toy.build()
}

#[test]
fn an_optional_value_is_the_value_or_absent() {
    let module = live(&either());
    let x = ("x".to_owned(), Value::from(vector(&[1.0])));
    let there = Value::from(vector(&[2.0, 3.0]));
    let with = |maybe: Option<Value>| {
        let maybe = maybe.map(|value| ("maybe".to_owned(), value));
        run(&module, &maybe.into_iter().chain([x.clone()]).collect()).unwrap()
    };
    for absent in [None, Some(Value::Absent)] {
        let out = with(absent);
        assert_eq!(out.tensors["y"], vector(&[1.0]));
        assert_eq!(out.structures["same"], Value::Absent);
    }
    let out = with(Some(there.clone()));
    assert_eq!(out.tensors["y"], vector(&[2.0, 3.0]));
    assert_eq!(out.structures["same"], there);
}

/// The node that gets what is absent is named.
#[test]
fn getting_an_absent_value_is_an_error() {
    let mut toy = Toy::new(EngineFlags::empty());
    let maybe = toy.input_of("maybe", Form::OptionalSequence, DType::F32);
    toy.push(node("OptionalGetElement", "head/get", &[maybe], &[ValueId(1)], &[]));
    let list = toy.value();
    toy.output_of("list", list, Form::Sequence, DType::F32);
    let error = run(&live(&toy.build()), &Values::new()).unwrap_err().to_string();
    let given = "node \"head/get\", OptionalGetElement v1 of (an absent value)";
    assert!(error.starts_with(given), "{error}");
}

/// Every element of a split, in order, through a position that data decides: each iteration reads it back.
fn picks() -> Engine {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n", "2"]);
    let order = toy.input("order", DType::I64, &["m"]);
    let pieces = toy.run("SplitToSequence", &[x], &[("keepdims", Attr::Int(0))]);
    let (n, yes) = (toy.literal(position(2)), toy.literal(Tensor::from_bools(&[], &[true])));
    let empty = toy.run("SequenceEmpty", &[], &[]);
    let [number, go, list] = [toy.value(), toy.value(), toy.value()];
    let pick = toy.node("Gather", &[order, number], &[]);
    let at = pick.outputs[0].unwrap();
    let one = toy.node("SequenceAt", &[pieces, at], &[]);
    let insert = toy.node("SequenceInsert", &[list, one.outputs[0].unwrap()], &[]);
    let outputs = vec![go, insert.outputs[0].unwrap()];
    let inputs = vec![number, go, list];
    let body = Attr::Block(Block { inputs, nodes: vec![pick, one, insert], outputs });
    let all = toy.run("Loop", &[n, yes, empty], &[("body", body)]);
    toy.output_of("all", all, Form::Sequence, DType::F32);
    toy.build()
}

#[test]
fn a_sequence_grows_in_a_loop_from_positions_that_data_decides() {
    let module = LiveModule::load(picks(), &poisoned()).unwrap();
    // Few positions are part of the plan, many are read back in every iteration.
    for m in [2, 3000] {
        for order in [[2i64, 0], [-1, 1]] {
            let mut all = vec![0i64; m];
            all[..2].copy_from_slice(&order);
            let x = Tensor::from_slice(&[3, 2], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
            let inputs = Values::from([
                ("x".to_owned(), x.into()),
                ("order".to_owned(), Tensor::from_slice(&[m], &all).into()),
            ]);
            let out = run(&module, &inputs).unwrap();
            let rows = order.map(|at| {
                let row = at.rem_euclid(3) as f32;
                vector(&[2.0 * row, 2.0 * row + 1.0])
            });
            assert_eq!(out.structures["all"], Value::Sequence(rows.to_vec()));
        }
    }
}

/// Runs of different lengths side by side share the module and nothing else.
#[test]
fn runs_of_many_lengths_at_once_do_not_mix() {
    let module = live(&edits());
    std::thread::scope(|scope| {
        for thread in 0..3usize {
            let module = &module;
            scope.spawn(move || {
                for round in 0..20 {
                    let n = (thread + round) % 5;
                    let list: Vec<Vec<f32>> = (0..n).map(|i| vec![(i * thread) as f32]).collect();
                    let slices: Vec<&[f32]> = list.iter().map(Vec::as_slice).collect();
                    let out = run(module, &given(&slices, 0)).unwrap();
                    let expected: Vec<f32> =
                        [7.0, 8.0].into_iter().chain(list.into_iter().flatten()).collect();
                    assert_eq!(floats(&out.tensors["joined"]), expected);
                }
            });
        }
    });
}
