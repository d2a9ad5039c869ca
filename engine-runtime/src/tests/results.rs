//! Nodes of several results, of which a model reads some: what these are does not depend on the others.

use super::on_gpu::gpu;
use super::toy::{Toy, node, poisoned};
use crate::{Device, Inputs, LiveModule, Module};
use engine_format::{Attr, DType, Engine, EngineFlags, Tensor};
use engine_ops::case::Case;
use engine_ops::{Kind, OpDef, Role, TABLE};
use std::collections::BTreeMap;

/// The case as an engine that gives those of its results that `read` lists; operands that decide shapes are literals.
fn engine(def: &'static OpDef, case: &Case, read: &[usize]) -> (Engine, Inputs) {
    let mut toy = Toy::new(EngineFlags::empty());
    let mut inputs = Inputs::default();
    let mut operands = Vec::new();
    for (i, tensor) in case.inputs.iter().enumerate() {
        operands.push(tensor.as_ref().map(|tensor| {
            if def.operand(i).is_some_and(|operand| operand.role == Role::Shape) {
                return toy.literal(tensor.clone());
            }
            let (name, sizes) = (format!("in {i}"), tensor.shape());
            let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
            let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
            inputs.insert(name.clone(), tensor.clone());
            toy.input(&name, tensor.dtype(), &sizes)
        }));
    }
    while operands.last() == Some(&None) {
        operands.pop();
    }
    let results: Vec<_> = (0..case.outputs).map(|_| toy.value()).collect();
    let attrs: Vec<(&str, Attr)> = case.attrs.clone();
    let mut node = node(def.name, "node", &[], &results, &attrs);
    node.version = def.version;
    node.inputs = operands;
    toy.push(node);
    for &i in read {
        toy.output(&format!("out {i}"), results[i], DType::F32);
    }
    (toy.build(), inputs)
}

fn outputs(
    device: &Device,
    def: &'static OpDef,
    case: &Case,
    read: &[usize],
) -> BTreeMap<String, Tensor> {
    let (engine, inputs) = engine(def, case, read);
    let module = LiveModule::load(engine, device);
    let module = module.unwrap_or_else(|e| panic!("{def:?} case {:?}: {e}", case.name));
    let outputs = module.run(&inputs);
    outputs.unwrap_or_else(|e| panic!("{def:?} case {:?}, {read:?}: {e}", case.name)).tensors
}

/// Every case of the table with several results.
fn cases() -> impl Iterator<Item = (&'static OpDef, Case)> {
    let defs = TABLE.iter().filter(|def| def.kind != Kind::Control && !def.random);
    let cases = defs.flat_map(|def| (def.cases)().into_iter().map(move |case| (*def, case)));
    cases.filter(|(_, case)| case.outputs > 1)
}

#[test]
fn results_do_not_depend_on_which_of_them_are_read() {
    let mut devices = vec![poisoned()];
    devices.extend(gpu(&[]));
    let mut held = 0;
    for (def, case) in cases() {
        for device in &devices {
            let all: Vec<usize> = (0..case.outputs).collect();
            let whole = outputs(device, def, &case, &all);
            for chosen in 1..1u32 << case.outputs.min(5) {
                let read: Vec<usize> =
                    all.iter().copied().filter(|i| chosen >> i & 1 == 1).collect();
                for (name, found) in outputs(device, def, &case, &read) {
                    let label = format!("{def:?} case {:?}, {read:?} on {device}", case.name);
                    assert_eq!(found.shape(), whole[&name].shape(), "{label}: {name}");
                    assert!(found.bytes() == whole[&name].bytes(), "{label}: {name}");
                    held += 1;
                }
            }
        }
    }
    assert!(held > 100, "only {held} results were held");
}
