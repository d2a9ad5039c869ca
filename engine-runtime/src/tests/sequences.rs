//! What the planner makes of operators on sequences: which steps are left of them, which values they are, and what it refuses.

use super::toy::{Toy, floats, live};
use crate::executor::Programs;
use crate::plan::item::{Layout, RunInputs};
use crate::plan::walk::{Planned, ResidentMetas, Rest};
use crate::{Inputs, MemoryLimits, Module, Outputs, RunError, RunErrorKind};
use engine_format::{Attr, DType, Engine, EngineFlags, Tensor, ValueId};

fn ramp(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
    Tensor::from_slice(shape, &values)
}

fn plan(engine: &Engine, inputs: &[Tensor]) -> Planned {
    let programs = Programs::check(engine).unwrap();
    let layout = vec![Layout::Tensor; inputs.len()];
    let given = RunInputs { tensors: inputs, held: &[], layout: &layout };
    programs.execute.plan(given, &ResidentMetas::new(), MemoryLimits::default()).unwrap()
}

/// The steps of a plan that ends with the run.
fn steps(engine: &Engine, inputs: &[Tensor]) -> Vec<&'static str> {
    let planned = plan(engine, inputs);
    assert!(matches!(planned.rest, Rest::Outputs(_)));
    planned.segment.steps.iter().map(|step| step.def.name).collect()
}

/// An engine of floats `x` whose output `y` is what `make` makes of it.
fn of(shape: &[&str], dtype: DType, make: impl FnOnce(&mut Toy, ValueId) -> ValueId) -> Engine {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, shape);
    let y = make(&mut toy, x);
    toy.output("y", y, dtype);
    toy.build()
}

fn run(engine: &Engine, x: &Tensor) -> Result<Outputs, RunError> {
    live(engine).run(&Inputs::from([("x".to_owned(), x.clone())]))
}

/// The one output, and its shape.
fn result(engine: &Engine, x: &Tensor) -> (Vec<usize>, Vec<f32>) {
    let out = run(engine, x).unwrap();
    (out.tensors["y"].shape().to_vec(), floats(&out.tensors["y"]))
}

fn refused(engine: &Engine, x: &Tensor) -> String {
    let error = run(engine, x).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Node);
    error.to_string()
}

fn scalar(toy: &mut Toy, value: i64) -> ValueId {
    toy.literal(Tensor::from_slice(&[], &[value]))
}

fn axis(along: i64) -> (&'static str, Attr) {
    ("axis", Attr::Int(along))
}

#[test]
fn what_is_put_together_and_taken_apart_again_takes_no_step() {
    let engine = of(&["n"], DType::F32, |toy, x| {
        let one = toy.run("Relu", &[x], &[]);
        let all = toy.run("SequenceConstruct", &[one, x], &[]);
        let all = toy.run("SequenceInsert", &[all, x], &[]);
        let last = scalar(toy, -1);
        let all = toy.run("SequenceErase", &[all, last], &[]);
        let first = scalar(toy, 0);
        toy.run("SequenceAt", &[all, first], &[])
    });
    assert_eq!(steps(&engine, &[ramp(&[3])]), ["Relu"]);
    assert_eq!(result(&engine, &Tensor::from_slice(&[2], &[-1.0f32, 2.0])).1, [0.0, 2.0]);
}

#[test]
fn an_erased_element_is_the_last_where_no_position_says_which() {
    let engine = of(&["n"], DType::I64, |toy, x| {
        let all = toy.run("SequenceConstruct", &[x, x, x], &[]);
        let all = toy.run("SequenceErase", &[all], &[]);
        toy.run("SequenceLength", &[all], &[])
    });
    assert!(steps(&engine, &[ramp(&[3])]).is_empty(), "lengths are known while planning");
    assert_eq!(run(&engine, &ramp(&[3])).unwrap().tensors["y"].to_i64s().unwrap(), [2]);
}

#[test]
fn a_tensor_is_taken_apart_in_one_step_whatever_its_pieces() {
    let pieces = |split: Option<&[i64]>, alone: bool, keepdims: i64, at: i64| {
        of(&["n", "m"], DType::F32, |toy, x| {
            let mut operands = vec![x];
            if let Some(split) = split {
                operands.push(if alone { scalar(toy, split[0]) } else { toy.ints(split) });
            }
            let keep = ("keepdims", Attr::Int(keepdims));
            let all = toy.run("SplitToSequence", &operands, &[axis(0), keep]);
            let at = scalar(toy, at);
            toy.run("SequenceAt", &[all, at], &[])
        })
    };
    let x = ramp(&[5, 2]);
    let last = vec![8.0, 9.0];
    // Pieces of 2, the last one smaller; sizes one by one; single rows, with their axis and without.
    assert_eq!(result(&pieces(Some(&[2]), true, 1, -1), &x), (vec![1, 2], last.clone()));
    assert_eq!(result(&pieces(Some(&[2]), true, 1, 0), &x), (vec![2, 2], vec![0.0, 1.0, 2.0, 3.0]));
    assert_eq!(result(&pieces(Some(&[4, 1]), false, 1, 1), &x), (vec![1, 2], last.clone()));
    assert_eq!(result(&pieces(None, false, 1, 4), &x), (vec![1, 2], last.clone()));
    assert_eq!(result(&pieces(None, false, 0, 4), &x), (vec![2], last.clone()));
    // Only where no sizes are given the axis goes.
    assert_eq!(result(&pieces(Some(&[1]), true, 0, 4), &x), (vec![1, 2], last));
    // Empty pieces are pieces.
    assert_eq!(result(&pieces(Some(&[0, 5, 0]), false, 1, 2), &x), (vec![0, 2], vec![]));
    assert_eq!(steps(&pieces(Some(&[2]), true, 1, -1), std::slice::from_ref(&x)), ["Split"]);
    assert!(steps(&pieces(Some(&[5]), true, 1, 0), &[x]).is_empty(), "one piece is the tensor");
}

#[test]
fn elements_are_joined_in_one_step_along_an_axis_or_a_new_one() {
    let joined = |count: usize, along: i64, new_axis: i64| {
        of(&["n", "m"], DType::F32, |toy, x| {
            let elements: Vec<ValueId> = (0..count).map(|_| toy.run("Relu", &[x], &[])).collect();
            let all = toy.run("SequenceConstruct", &elements, &[]);
            let new = ("new_axis", Attr::Int(new_axis));
            toy.run("ConcatFromSequence", &[all], &[axis(along), new])
        })
    };
    let x = ramp(&[1, 2]);
    assert_eq!(result(&joined(2, 1, 0), &x), (vec![1, 4], vec![0.0, 1.0, 0.0, 1.0]));
    assert_eq!(result(&joined(2, -1, 1), &x), (vec![1, 2, 2], vec![0.0, 0.0, 1.0, 1.0]));
    assert_eq!(result(&joined(2, 0, 1), &x).0, [2, 1, 2]);
    // One element is the result, seen in another shape.
    assert_eq!(result(&joined(1, 2, 1), &x), (vec![1, 2, 1], vec![0.0, 1.0]));
    assert_eq!(steps(&joined(1, 2, 1), std::slice::from_ref(&x)), ["Relu"]);
    let most = steps(&joined(3, 1, 0), std::slice::from_ref(&x));
    assert_eq!(most.iter().filter(|name| **name == "Concat").count(), 1);
    assert!(refused(&joined(2, 3, 1), &x).contains("axis 3"), "{}", refused(&joined(2, 3, 1), &x));
}

#[test]
fn sizes_that_data_decides_suspend_the_plan() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n"]);
    let wide = toy.run("ReduceMax", &[x], &[("keepdims", Attr::Int(0))]);
    let size = toy.run("Cast", &[wide], &[("to", Attr::Int(7))]);
    let all = toy.run("SplitToSequence", &[x, size], &[axis(0)]);
    let n = toy.run("SequenceLength", &[all], &[]);
    toy.output("y", n, DType::I64);
    let engine = toy.build();
    // More than a plan evaluates itself.
    let n = 1 << 18;
    let mut values = vec![0.0f32; n];
    values[7] = (n / 2 - 1) as f32;
    let x = Tensor::from_slice(&[n], &values);
    assert!(matches!(plan(&engine, std::slice::from_ref(&x)).rest, Rest::Suspension(_)));
    assert_eq!(run(&engine, &x).unwrap().tensors["y"].to_i64s().unwrap(), [3]);
    let zeros = refused(&engine, &Tensor::zeros(DType::F32, &[n]));
    assert!(zeros.contains("the size of the pieces must be at least 1"), "{zeros}");
}

#[test]
fn what_the_planner_cannot_make_is_refused_with_its_sizes() {
    let x = ramp(&[5]);
    let split = |sizes: &[i64], alone: bool| {
        let sizes = sizes.to_vec();
        of(&["n"], DType::I64, move |toy, x| {
            let given = if alone { scalar(toy, sizes[0]) } else { toy.ints(&sizes) };
            let all = toy.run("SplitToSequence", &[x, given], &[axis(0)]);
            toy.run("SequenceLength", &[all], &[])
        })
    };
    for sizes in [&[2i64, 2][..], &[6], &[-1, 6], &[i64::MAX, i64::MAX, 7], &[]] {
        let text = refused(&split(sizes, false), &x);
        let expected = format!("split {sizes:?} of an axis of size 5, expected sizes that add up");
        assert!(text.contains(&expected), "{text}");
    }
    for size in [0, -2, i64::MIN] {
        let text = refused(&split(&[size], true), &x);
        assert!(text.contains("the size of the pieces must be at least 1"), "{text}");
    }
    let many = Tensor::zeros(DType::F32, &[(1 << 20) + 1]);
    let text = refused(&split(&[1], true), &many);
    assert!(text.contains("1048577 pieces, expected at most 1048576"), "{text}");
    let empty = of(&["n"], DType::F32, |toy, _| {
        let none = toy.run("SequenceEmpty", &[], &[("dtype", Attr::Int(1))]);
        toy.run("ConcatFromSequence", &[none], &[axis(0)])
    });
    assert!(refused(&empty, &x).contains("there is nothing to join: the sequence is empty"));
    let erased = of(&["n"], DType::I64, |toy, _| {
        let none = toy.run("SequenceEmpty", &[], &[("dtype", Attr::Int(1))]);
        let none = toy.run("SequenceErase", &[none], &[]);
        toy.run("SequenceLength", &[none], &[])
    });
    assert!(refused(&erased, &x).contains("there is no element"));
    let mixed = of(&["n"], DType::I64, |toy, x| {
        let other = toy.run("Cast", &[x], &[("to", Attr::Int(11))]);
        let all = toy.run("SequenceConstruct", &[x, other], &[]);
        toy.run("SequenceLength", &[all], &[])
    });
    assert!(refused(&mixed, &x).contains("operand 1 has another element type than operand 0"));
    let typed = of(&["n"], DType::I64, |toy, x| {
        let none = toy.run("SequenceEmpty", &[], &[("dtype", Attr::Int(11))]);
        let all = toy.run("SequenceInsert", &[none, x], &[]);
        toy.run("SequenceLength", &[all], &[])
    });
    assert!(refused(&typed, &x).contains("the tensor has another element type"));
    let shapes = of(&["n"], DType::F32, |toy, x| {
        let twice = toy.run("Concat", &[x, x], &[axis(0)]);
        let all = toy.run("SequenceConstruct", &[x, twice], &[]);
        toy.run("ConcatFromSequence", &[all], &[axis(0), ("new_axis", Attr::Int(1))])
    });
    assert!(refused(&shapes, &x).contains("element 1 has shape [10], element 0 has [5]"));
}
