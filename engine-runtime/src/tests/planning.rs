//! What plans look like: what is folded, aliased, dropped, shared; and that it never shows in the results.

use super::toy::{Toy, bits, close, floats, live, model, node, poisoned, run, weights, x};
use crate::MemoryLimits;
use crate::cpu::kernel;
use crate::executor::Programs;
use crate::plan::item::{Layout, RunInputs};
use crate::plan::program::{Body, Op, Program};
use crate::plan::walk::{Planned, ResidentMetas, Rest, Suspension};
use crate::plan::{End, Place, assign};
use crate::session::Session;
use crate::{Inputs, LiveModule, LoadError, RunOptions};
use engine_format::{Attr, Block, DType, Engine, EngineFlags, Tensor, ValueId};
use engine_ops::case::ramp;
use engine_ops::cpu::{Cpu, TensorMeta};
use engine_ops::demand::demands;
use engine_ops::infer::InferError;
use engine_ops::{OpDef, Operand};
use std::collections::BTreeMap;
use std::sync::Arc;

fn residents(engine: &Engine) -> ResidentMetas {
    let weights = engine.parts().weights.iter();
    weights.map(|w| (w.value, TensorMeta { dtype: w.dtype, shape: w.shape.clone() })).collect()
}

fn plan(engine: &Engine, inputs: &[Tensor]) -> Planned {
    let programs = Programs::check(engine).unwrap();
    let layout = vec![Layout::Tensor; inputs.len()];
    let given = RunInputs { tensors: inputs, held: &[], layout: &layout };
    programs.execute.plan(given, &residents(engine), MemoryLimits::default()).unwrap()
}

/// What the plan waits for, if it is not the last.
fn rest(planned: &Planned) -> Option<&Suspension> {
    match &planned.rest {
        Rest::Suspension(rest) => Some(rest),
        Rest::Outputs(_) => None,
    }
}

fn names(planned: &Planned) -> Vec<&str> {
    planned.segment.steps.iter().map(|step| step.def.name).collect()
}

#[test]
fn views_and_shapes_take_no_step_and_unread_nodes_fall_out() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n", "m"]);
    let h = toy.run("Tanh", &[x], &[]);
    let _unread = toy.run("Exp", &[h], &[]);
    let shape = toy.run("Shape", &[h], &[]);
    let back = toy.ints(&[-1]);
    let flat = toy.run("Reshape", &[h, back], &[]);
    let same = toy.run("Reshape", &[flat, shape], &[]);
    let y = toy.run("Relu", &[same], &[]);
    toy.output("y", y, DType::F32);
    toy.output("flat", flat, DType::F32);
    let planned = plan(&toy.build(), &[ramp(&[2, 3])]);
    assert_eq!(names(&planned), ["Tanh", "Relu"]);
    let segment = &planned.segment;
    assert!(matches!(segment.end, End::Done) && rest(&planned).is_none());
    let (relu, flat) = (segment.steps[1].inputs[0].as_ref().unwrap(), &segment.host[1]);
    assert_eq!((relu.place, &relu.meta.shape[..]), (Place::Buffer(0), &[2, 3][..]));
    assert_eq!((flat.place, &flat.meta.shape[..]), (Place::Buffer(0), &[6][..]));
    assert!(segment.buffers[0].kept, "an output views it");
}

#[test]
fn what_moves_nothing_is_a_view() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n", "h", "d"]);
    let h = toy.run("Tanh", &[x], &[]);
    let heads = toy.run("Transpose", &[h], &[("perm", Attr::Ints(vec![1, 0, 2]))]);
    let shape = toy.ints(&[1, 1, 1]);
    let same = toy.run("Expand", &[heads, shape], &[]);
    let y = toy.run("Exp", &[same], &[]);
    toy.output("y", y, DType::F32);
    let engine = toy.build();
    // One row of heads has them in the order that it is to have.
    for shape in [[1, 3, 4], [3, 1, 4], [1, 1, 4]] {
        assert_eq!(names(&plan(&engine, &[ramp(&shape)])), ["Tanh", "Exp"], "{shape:?}");
    }
    assert_eq!(names(&plan(&engine, &[ramp(&[2, 3, 4])])), ["Tanh", "Transpose", "Exp"]);
}

#[test]
fn a_chain_runs_in_two_slots() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n"]);
    let y = (0..9).fold(x, |v, i| toy.run(["Tanh", "Relu", "Exp"][i % 3], &[v], &[]));
    toy.output("y", y, DType::F32);
    let planned = plan(&toy.build(), &[ramp(&[100])]);
    let slots = assign(&planned.segment, TensorMeta::byte_len);
    assert_eq!(slots.sizes, [400, 400]);
    assert_eq!(slots.of[8], None, "the output leaves, so it has memory of its own");
}

#[test]
fn small_constants_are_computed_once_and_shared_and_big_ones_are_left_to_the_run() {
    for (side, steps) in [(4i64, vec!["Concat"]), (400, vec!["Expand", "Concat"])] {
        let mut toy = Toy::new(EngineFlags::empty());
        let x = toy.input("x", DType::F32, &["n", "m"]);
        let one = toy.literal(Tensor::from_slice(&[1, 1], &[1.5f32]));
        let shape = toy.ints(&[side, side]);
        let ones = toy.run("Expand", &[one, shape], &[]);
        let y = toy.run("Concat", &[x, ones, ones], &[("axis", Attr::Int(0))]);
        toy.output("y", y, DType::F32);
        let side = side as usize;
        let planned = plan(&toy.build(), &[ramp(&[1, side])]);
        assert_eq!(names(&planned), steps);
        let constants = &planned.segment.constants;
        if side == 4 {
            assert_eq!(constants.len(), 1, "both operands are one constant");
            assert_eq!(constants[0].tensor, Tensor::from_slice(&[4, 4], &[1.5f32; 16]));
        }
    }
}

#[test]
fn a_plan_waits_where_contents_are_computed_from_much_data() {
    let mut toy = Toy::new(EngineFlags::empty());
    let marks = toy.input("marks", DType::Bool, &["n"]);
    let x = toy.input("x", DType::F32, &["m"]);
    let (from, to) = (toy.ints(&[0]), toy.ints(&[1]));
    let h = toy.run("Tanh", &[x], &[]);
    let first = toy.run("Slice", &[marks, from, to], &[]);
    let block = |v: ValueId| Attr::Block(Block { outputs: vec![v], ..Block::default() });
    let y = toy.run("If", &[first], &[("then_branch", block(h)), ("else_branch", block(x))]);
    toy.output("y", y, DType::F32);
    let engine = toy.build();
    let few = plan(&engine, &[Tensor::zeros(DType::Bool, &[2]), ramp(&[3])]);
    assert!(rest(&few).is_none() && few.segment.steps.is_empty(), "y is x");
    let many = plan(&engine, &[Tensor::zeros(DType::Bool, &[10_000]), ramp(&[3])]);
    assert!(matches!(many.segment.end, End::Suspend));
    assert_eq!(names(&many), ["Tanh", "Slice"]);
    assert_eq!((many.segment.host.len(), many.segment.carry.len()), (1, 1));
    let rest = rest(&many).unwrap();
    let programs = Programs::check(&engine).unwrap();
    let yes = rest.absorb(vec![Tensor::from_bools(&[1], &[true])]).unwrap();
    let next =
        programs.execute.resume(rest, &yes, &residents(&engine), MemoryLimits::default()).unwrap();
    assert_eq!(next.segment.host[0].place, Place::Carried(0));
    let no = rest.absorb(vec![Tensor::from_bools(&[1], &[false])]).unwrap();
    let next =
        programs.execute.resume(rest, &no, &residents(&engine), MemoryLimits::default()).unwrap();
    assert_eq!(next.segment.host[0].place, Place::Input(1));
}

/// The positive elements: an operator whose result's shape depends on data.
static POSITIVE: OpDef = OpDef {
    name: "Positive",
    inputs: &[Operand::data("X")],
    infer: |_| Err(InferError::DataDependent),
    cpu: Cpu::Dynamic(|ctx| {
        let x = ctx.input(0).slice::<f32>();
        let found: Vec<f32> = x.iter().copied().filter(|&x| x > 0.0).collect();
        Ok(vec![Tensor::from_slice(&[found.len()], &found)])
    }),
    ..OpDef::BASE
};

/// The operator table has no such operator yet, so the program is put together here.
#[test]
fn a_node_whose_shape_depends_on_data_runs_between_two_segments() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n"]);
    let bent = toy.run("Tanh", &[x], &[]);
    let found = toy.run("Relu", &[bent], &[]);
    let y = toy.run("Concat", &[bent, found, found], &[("axis", Attr::Int(0))]);
    toy.output("y", y, DType::F32);
    let engine = toy.build();
    let parts = engine.parts();
    let mut body = Arc::into_inner(Body::check(&parts.execute, &mut Vec::new())).unwrap();
    let relu: &mut Op = Arc::get_mut(&mut body.nodes[1]).unwrap();
    relu.def = &POSITIVE;
    let program = Arc::new(Program {
        body: Arc::new(body),
        values: parts.values as usize,
        inputs: vec![x],
        halves: Arc::default(),
        known: Arc::default(),
        demands: Arc::new(demands(parts.values as usize, &[&parts.execute])),
        on_device: Default::default(),
    });
    let backend = Arc::new(crate::cpu::CpuBackend::new(poisoned().cpu_options()));
    let session = Session::new(backend, program, BTreeMap::new(), MemoryLimits::default());
    for x in [[-1.0f32, 2.0, -3.0, 4.0], [-1.0, -2.0, -3.0, 4.0], [1.0, 2.0, -3.0, 4.0]] {
        let tensors = [Tensor::from_slice(&[4], &x)];
        let given = RunInputs { tensors: &tensors, held: &[], layout: &[Layout::Tensor] };
        let y = session.run(&Default::default(), given, &Default::default()).unwrap();
        let bent: Vec<f32> = x.iter().map(|x| x.tanh()).collect();
        let found: Vec<f32> = bent.iter().copied().filter(|&x| x > 0.0).collect();
        close(&floats(&y[0].tensors()[0]), &[bent, found.clone(), found].concat());
    }
}

#[test]
fn what_a_runtime_cannot_run_is_listed_at_load() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n"]);
    let mut strange = toy.node("Relu", &[x], &[]);
    strange.op = "Frobnicate".into();
    strange.name = "head/frob".into();
    let mut newer = toy.node("Relu", &[x], &[]);
    newer.version = 9;
    let mut bare = toy.node("Flatten", &[x], &[]);
    bare.attrs.clear();
    let hungry = toy.value();
    let hungry = node("Reshape", "hungry", &[x], &[hungry], &[]);
    let y = hungry.outputs[0].unwrap();
    for node in [strange, newer, bare, hungry] {
        toy.push(node);
    }
    toy.output("y", y, DType::F32);
    let error = LiveModule::load(toy.build(), &poisoned()).unwrap_err();
    let LoadError::Unsupported(problems) = error else { panic!("{error}") };
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert_eq!(problems[0], "head/frob (Frobnicate v1): no such operator here");
    assert!(problems[1].ends_with("this runtime has v1"), "{problems:?}");
    assert!(problems[2].contains("lack defaults"), "{problems:?}");
    assert_eq!(problems[3], "hungry (Reshape v1): operand shape (1) is missing");
}

/// More shapes than the cache holds, each seen twice.
#[test]
fn plans_that_fell_out_are_made_again() {
    let module = live(&model(EngineFlags::REFIT));
    let first: Vec<_> = (0..200).map(|batch| bits(&run(&module, &x(batch)))).collect();
    for (batch, first) in first.iter().enumerate().rev() {
        assert_eq!(bits(&run(&module, &x(batch))), *first);
    }
}

#[test]
fn partial_refits_prepare_only_what_changed() {
    let engine = model(EngineFlags::REFIT);
    let programs = Programs::check(&engine).unwrap();
    let device = poisoned();
    let old = crate::executor::Executor::load(&engine, programs, &device, &RunOptions::default())
        .unwrap();
    let single = weights(&engine, 1);
    let single = engine_format::WeightSource::read(&single, "single").unwrap().unwrap();
    let source: engine_format::MapSource = [("single".to_owned(), single)].into_iter().collect();
    let policy = engine_format::FitPolicy { partial: true, allow_extra: false };
    let new = old.refit(&engine.fill(&source, policy).unwrap(), &RunOptions::default()).unwrap();
    let same = |id: ValueId| {
        let [a, b] = [&old, &new].map(|e| e.on_host(id).unwrap().bytes().as_ptr());
        a == b
    };
    let [bent, pair] = engine.parts().prepare.outputs[..] else { panic!("two prepared values") };
    assert!(!same(bent), "it depends on the weight that changed");
    assert!(same(pair), "it does not");
    let direct = engine.weight("direct").unwrap().value;
    assert!(same(direct));
}

#[test]
fn outputs_that_are_inputs_weights_or_literals_are_themselves() {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n"]);
    let w = toy.weight("w", &[3]);
    let k = toy.ints(&[7, 8]);
    toy.output("x", x, DType::F32);
    toy.output("w", w, DType::F32);
    toy.output("k", k, DType::I64);
    let engine = toy.build();
    let inputs = Inputs::from([("x".into(), ramp(&[5]))]);
    let out = run(&live(&engine), &inputs).tensors;
    assert_eq!(out["x"].bytes().as_ptr(), inputs["x"].bytes().as_ptr(), "nothing is copied");
    assert_eq!(out["w"], engine.parts().weights[0].tensor().unwrap());
    assert_eq!(out["k"].to_i64s().unwrap(), [7, 8]);
    assert_eq!(kernel::meta(&out["k"]).shape, [2]);
}

#[test]
fn a_draw_is_made_anew_in_every_run_unless_a_seed_says_which() {
    let mut toy = Toy::new(EngineFlags::empty());
    let _ = toy.input("x", DType::F32, &["n"]);
    let shape = toy.ints(&[3, 5]);
    for (name, attrs) in [("free", &[][..]), ("seeded", &[("seed", Attr::Int(7))][..])] {
        let y = toy.run("RandomUniform", &[shape], attrs);
        toy.output(name, y, DType::F32);
    }
    let engine = toy.build();
    assert_eq!(names(&plan(&engine, &[ramp(&[2])])), ["RandomUniform"; 2]);
    let module = live(&engine);
    let inputs = Inputs::from([("x".to_owned(), ramp(&[2]))]);
    let (a, b) = (run(&module, &inputs).tensors, run(&module, &inputs).tensors);
    assert_eq!(a["seeded"], b["seeded"]);
    assert_ne!(a["free"], b["free"]);
    assert_ne!(a["free"], a["seeded"]);
}
