//! Loops and scans: unrolled while planning, suspended where data decides, the same for every set of weights.

use super::toy::{Toy, bits, close, floats, live, node, run, weights};
use crate::MemoryLimits;
use crate::plan::item::{Layout, RunInputs};
use crate::plan::walk::Rest;
use crate::{Inputs, Module, PackedModule, RunErrorKind};
use engine_format::{
    Attr, Block, DType, Engine, EngineFlags, Node, SerializeFlags, Tensor, ValueId,
};
use engine_ops::case::ramp;

/// A block of a loop being written down.
struct Body {
    inputs: Vec<ValueId>,
    nodes: Vec<Node>,
}

impl Body {
    fn new(toy: &mut Toy, parameters: usize) -> Self {
        Self { inputs: (0..parameters).map(|_| toy.value()).collect(), nodes: Vec::new() }
    }

    fn run(&mut self, toy: &mut Toy, op: &str, inputs: &[ValueId]) -> ValueId {
        let node = toy.node(op, inputs, &[]);
        self.nodes.push(node);
        self.nodes.last().unwrap().outputs[0].unwrap()
    }

    fn done(self, outputs: &[ValueId]) -> Attr {
        let Self { inputs, nodes } = self;
        Attr::Block(Block { inputs, nodes, outputs: outputs.to_vec() })
    }
}

fn trips(n: i64) -> Tensor {
    Tensor::from_slice(&[], &[n])
}

/// `for _ in 0..n { x = tanh(x + w); stack x }` with `n` an input; `w` is a weight that only the body reads.
fn recurrence() -> Engine {
    recurrence_of(&[])
}

fn recurrence_of(shape_of_n: &[&str]) -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let n = toy.input("n", DType::I64, shape_of_n);
    let x = toy.input("x", DType::F32, &["k"]);
    let w = toy.weight("body/w", &[3]);
    let yes = toy.literal(Tensor::from_bools(&[], &[true]));
    let mut body = Body::new(&mut toy, 3);
    let (go, h) = (body.inputs[1], body.inputs[2]);
    let sum = body.run(&mut toy, "Add", &[h, w]);
    let bent = body.run(&mut toy, "Tanh", &[sum]);
    let body = body.done(&[go, bent, bent]);
    let (last, all) = (toy.value(), toy.value());
    let empty = Attr::Ints(vec![1, 1, 0]);
    let attrs = [("body", body), ("empty_types", empty)];
    toy.push(node("Loop", "rnn", &[n, yes, x], &[last, all], &attrs));
    toy.output("last", last, DType::F32);
    toy.output("all", all, DType::F32);
    toy.build()
}

fn expected(engine: &Engine, n: i64, x: &Tensor) -> Vec<Vec<f32>> {
    let w = engine.weight("body/w").unwrap().tensor().unwrap();
    let mut all = vec![floats(x)];
    for _ in 0..n {
        let step = all.last().unwrap().iter().zip(floats(&w)).map(|(x, w)| (x + w).tanh());
        all.push(step.collect());
    }
    all
}

fn given(n: i64) -> Inputs {
    Inputs::from([("n".into(), trips(n)), ("x".into(), ramp(&[3]))])
}

#[test]
fn a_loop_gives_what_it_carried_and_what_it_stacked_for_any_number_of_iterations() {
    let engine = recurrence();
    let module = live(&engine);
    for n in [3, 1, 7, 3] {
        let out = run(&module, &given(n)).tensors;
        let all = expected(&engine, n, &ramp(&[3]));
        close(&floats(&out["last"]), all.last().unwrap());
        assert_eq!(out["all"].shape(), [n as usize, 3]);
        close(&floats(&out["all"]), &all[1..].concat());
    }
    for n in [0, -5] {
        let out = run(&module, &given(n)).tensors;
        assert_eq!(out["last"], ramp(&[3]));
        assert_eq!((out["all"].dtype(), out["all"].shape()), (DType::F32, &[0, 0][..]));
    }
}

/// The body's weight is refitted like any other, on both paths, and in a file that was stripped.
#[test]
fn a_weight_of_a_body_is_stripped_filled_and_refitted() {
    let engine = recurrence();
    let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
    let packed = PackedModule::load(stripped.into(), &super::toy::poisoned()).unwrap();
    let error = packed.run(&given(2)).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::MissingWeights);
    assert_eq!(error.details(), ["body/w"]);
    let modules: [Box<dyn Module>; 2] = [Box::new(live(&engine)), Box::new(packed)];
    for seed in [1, 2, 1] {
        let source = weights(&engine, seed);
        let outs = modules.each_ref().map(|module| {
            module.refit(&source, Default::default()).unwrap();
            let out = run(&**module, &given(4));
            let all = expected(&module.engine(), 4, &ramp(&[3]));
            close(&floats(&out.tensors["last"]), &all[4]);
            bits(&out)
        });
        assert_eq!(outs[0], outs[1]);
    }
}

/// `while sum(x) < limit { x = x * x }` on data that no plan knows: every iteration waits for its condition.
pub(super) fn while_small() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let outside = toy.run("Exp", &[x], &[]);
    let limit = toy.weight_of("limit", Tensor::from_slice(&[1], &[40.0f32]));
    let yes = toy.literal(Tensor::from_bools(&[], &[true]));
    let mut body = Body::new(&mut toy, 3);
    let (number, h) = (body.inputs[0], body.inputs[2]);
    // The body captures a value made outside, which must outlive every suspension.
    let next = body.run(&mut toy, "Add", &[h, outside]);
    let sum = body.run(&mut toy, "ReduceSum", &[next]);
    let go = body.run(&mut toy, "Less", &[sum, limit]);
    let flag = body.run(&mut toy, "Flatten", &[go]);
    let body = body.done(&[flag, next, next, number]);
    let (last, all, numbers) = (toy.value(), toy.value(), toy.value());
    let mut repeat =
        node("Loop", "while", &[yes, yes, x], &[last, all, numbers], &[("body", body)]);
    repeat.inputs[0] = None;
    toy.push(repeat);
    toy.output("last", last, DType::F32);
    toy.output("all", all, DType::F32);
    toy.output("numbers", numbers, DType::I64);
    toy.output("outside", outside, DType::F32);
    toy.build()
}

pub(super) fn while_small_expected(x: &[f32]) -> Vec<Vec<f32>> {
    let mut all = vec![x.to_vec()];
    loop {
        let step = all.last().unwrap().iter().zip(x).map(|(h, x)| h + x.exp());
        all.push(step.collect());
        if all.last().unwrap().iter().sum::<f32>() >= 40.0 {
            all.remove(0);
            return all;
        }
    }
}

#[test]
fn a_condition_that_data_decides_suspends_every_iteration() {
    let engine = while_small();
    let module = live(&engine);
    for scale in [1.0f32, 3.0, 0.1, 1.0] {
        let x: Vec<f32> = floats(&ramp(&[5])).iter().map(|x| x * scale).collect();
        let inputs = Inputs::from([("x".into(), Tensor::from_slice(&[5], &x))]);
        let out = run(&module, &inputs).tensors;
        let all = while_small_expected(&x);
        close(&floats(&out["last"]), all.last().unwrap());
        close(&floats(&out["all"]), &all.concat());
        let numbers: Vec<i64> = (0..all.len() as i64).collect();
        assert_eq!(out["numbers"].to_i64s().unwrap(), numbers);
    }
}

#[test]
fn a_long_loop_is_planned_in_segments_that_hold_on_to_what_is_stacked() {
    let engine = recurrence();
    let programs = crate::executor::Programs::check(&engine).unwrap();
    let residents = engine.parts().weights.iter();
    let meta = |t: &Tensor| crate::cpu::kernel::meta(t);
    let residents = residents.map(|w| (w.value, meta(&w.tensor().unwrap()))).collect();
    let tensors = [trips(5000), ramp(&[3])];
    let given_all = RunInputs { tensors: &tensors, held: &[], layout: &[Layout::Tensor; 2] };
    let mut planned =
        programs.execute.plan(given_all, &residents, MemoryLimits::default()).unwrap();
    let mut segments = 1;
    while let Rest::Suspension(rest) = &planned.rest {
        assert!(planned.segment.steps.len() <= 4100 && planned.segment.host.is_empty());
        planned = programs.execute.resume(rest, &[], &residents, MemoryLimits::default()).unwrap();
        segments += 1;
    }
    assert_eq!(segments, 3, "two steps an iteration");
    let out = run(&live(&engine), &given(5000)).tensors;
    let all = expected(&engine, 5000, &ramp(&[3]));
    assert_eq!(out["all"].shape(), [5000, 3]);
    close(&floats(&out["all"]), &all[1..].concat());
}

/// A loop over known values costs a run nothing; its counter decides a shape.
#[test]
fn known_iterations_are_folded() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n"]);
    let (n, yes) = (toy.literal(trips(4)), toy.literal(Tensor::from_bools(&[], &[true])));
    let start = toy.ints(&[1]);
    let mut body = Body::new(&mut toy, 3);
    let (go, size) = (body.inputs[1], body.inputs[2]);
    let double = body.run(&mut toy, "Add", &[size, size]);
    let body = body.done(&[go, double]);
    let size = toy.run("Loop", &[n, yes, start], &[("body", body)]);
    let wide = toy.run("Expand", &[x, size], &[]);
    toy.output("y", wide, DType::F32);
    let engine = toy.build();
    let out = run(&live(&engine), &Inputs::from([("x".into(), ramp(&[1]))])).tensors;
    assert_eq!(out["y"].shape(), [16]);
}

/// Cut along the second axis backward, and stacked along the last one in reverse.
fn scan() -> Engine {
    let mut toy = Toy::new(EngineFlags::empty());
    let (state, x) =
        (toy.input("state", DType::F32, &["2"]), toy.input("x", DType::F32, &["m", "n"]));
    let mut body = Body::new(&mut toy, 2);
    let (h, slice) = (body.inputs[0], body.inputs[1]);
    let sum = body.run(&mut toy, "Add", &[h, slice]);
    let body = body.done(&[sum, sum]);
    let (last, all) = (toy.value(), toy.value());
    let attrs = [
        ("body", body),
        ("num_scan_inputs", Attr::Int(1)),
        ("scan_input_axes", Attr::Ints(vec![-1])),
        ("scan_input_directions", Attr::Ints(vec![1])),
        ("scan_output_axes", Attr::Ints(vec![1])),
        ("scan_output_directions", Attr::Ints(vec![1])),
        ("empty_types", Attr::Ints(vec![1, 1, 2])),
    ];
    toy.push(node("Scan", "scan", &[state, x], &[last, all], &attrs));
    toy.output("last", last, DType::F32);
    toy.output("all", all, DType::F32);
    toy.build()
}

#[test]
fn a_scan_follows_axes_and_directions() {
    let module = live(&scan());
    let inputs = |n: usize, x: &[f32]| {
        let x = Tensor::from_slice(&[2, n], x);
        Inputs::from([("state".into(), Tensor::from_slice(&[2], &[0.0f32, 10.0])), ("x".into(), x)])
    };
    let out = run(&module, &inputs(3, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0])).tensors;
    assert_eq!(floats(&out["last"]), [7.0, 66.0]);
    assert_eq!(out["all"].shape(), [2, 3]);
    // Sums from the right, each where its slice was.
    assert_eq!(floats(&out["all"]), [7.0, 6.0, 4.0, 66.0, 58.0, 42.0]);
    let out = run(&module, &inputs(0, &[])).tensors;
    assert_eq!((floats(&out["last"]), out["all"].shape()), (vec![0.0, 10.0], &[2, 0][..]));
}

/// The message of a run that must fail.
fn refused(engine: Engine, inputs: &[(&str, Tensor)]) -> String {
    let inputs = inputs.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
    let error = live(&engine).run(&inputs).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Node);
    error.to_string()
}

#[test]
fn what_a_loop_cannot_take_is_an_error_with_its_path() {
    let two = Tensor::from_slice(&[2], &[1i64, 2]);
    let text = refused(recurrence_of(&["2"]), &[("n", two), ("x", ramp(&[3]))]);
    let n = "operand 0: i64[2], expected one bool or integer";
    assert_eq!(text, format!("node \"rnn\", Loop v1 of (i64[2], bool[], f32[3]): {n}"));

    // Each iteration gives one element more.
    let mut toy = Toy::new(EngineFlags::empty());
    let (n, x) = (toy.input("n", DType::I64, &[]), toy.input("x", DType::F32, &["k"]));
    let yes = toy.literal(Tensor::from_bools(&[], &[true]));
    let mut body = Body::new(&mut toy, 3);
    let (go, h) = (body.inputs[1], body.inputs[2]);
    let longer = toy.node("Concat", &[h, x], &[("axis", Attr::Int(0))]);
    let next = longer.outputs[0].unwrap();
    body.nodes.push(longer);
    let body = body.done(&[go, next, next]);
    let (last, all) = (toy.value(), toy.value());
    toy.push(node("Loop", "grow", &[n, yes, x], &[last, all], &[("body", body)]));
    toy.output("last", last, DType::F32);
    toy.output("all", all, DType::F32);
    let engine = toy.build();
    let text = refused(engine.clone(), &[("n", trips(3)), ("x", ramp(&[2]))]);
    assert!(
        text.ends_with(
            "iteration 1 gives f32[6] to be stacked as further result 0, iteration 0 gave f32[4]"
        ),
        "{text}"
    );
    let text = refused(engine, &[("n", trips(0)), ("x", ramp(&[2]))]);
    assert!(text.contains("\"grow\"") && text.contains("empty_types"), "{text}");

    let text = refused(scan(), &[("state", ramp(&[2])), ("x", ramp(&[3, 4]))]);
    assert!(text.contains("Add v1 of (f32[2], f32[3])"), "{text}");
}

#[test]
fn blocks_that_do_not_fit_are_refused_at_load() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["k"]);
    let yes = toy.literal(Tensor::from_bools(&[], &[true]));
    let body = Body::new(&mut toy, 2);
    let outputs = [body.inputs[1]];
    let body = body.done(&outputs);
    let y = toy.run("Loop", &[yes, yes, x], &[("body", body)]);
    toy.output("y", y, DType::F32);
    let error = crate::LiveModule::load(toy.build(), &super::toy::poisoned()).unwrap_err();
    assert!(error.to_string().contains("its body takes 2 values, expected 3"), "{error}");
}
