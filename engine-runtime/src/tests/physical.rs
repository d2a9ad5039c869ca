//! Plans whose values are laid out for the CPU.

use super::toy::{Toy, seeded, weights};
use crate::{CpuOptions, Device, Inputs, LiveModule, Module, PackedModule, RefitOptions};
use engine_format::{
    Attr, Attrs, Bytes, Changed, DType, Engine, EngineFlags, FitPolicy, MapSource, Mapped,
    SerializeFlags, Tensor, ValueId,
};
use engine_ops::{Tolerance, compare, eval, lookup};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

fn ints(values: &[i64]) -> Attr {
    Attr::Ints(values.to_vec())
}

/// Convolutions of every kind with what follows them and what cannot: a pool, a gate, a sum of both layouts, a join, a slice over
/// channels, and outputs in the middle; and products of many rows by a large matrix, as it lies and transposed.
fn network() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    let x = toy.input("x", DType::F32, &["n", "3", "h", "20"]);
    let pads = ("pads", ints(&[1, 1, 1, 1]));
    let stem = toy.weight("stem", &[24, 3, 3, 3]);
    let bias = toy.weight("bias", &[24]);
    let y = toy.run("Conv", &[x, stem, bias], &[pads.clone(), ("strides", ints(&[2, 2]))]);
    let relu = toy.run("Relu", &[y], &[]);
    let depth = toy.weight("depth", &[24, 1, 3, 3]);
    let y = toy.run("Conv", &[relu, depth], &[pads.clone(), ("group", Attr::Int(24))]);
    let mean = toy.run("GlobalAveragePool", &[y], &[]);
    let gate = toy.weight("gate", &[24, 24, 1, 1]);
    let gate = toy.run("Conv", &[mean, gate], &[]);
    let gate = toy.run("Sigmoid", &[gate], &[]);
    let y = toy.run("Mul", &[gate, y], &[]);
    let factor = toy.weight("factor", &[24, 1, 1]);
    let y = toy.run("Mul", &[y, factor], &[]);
    let line = toy.weight("line", &[1, 1, 1, 10]);
    let y = toy.run("Add", &[y, line], &[]);
    let sum = toy.run("Add", &[y, relu], &[]);
    let wide = toy.weight("wide", &[32, 24, 1, 1]);
    let wide = toy.run("Conv", &[sum, wide], &[]);
    let most = [pads, ("kernel_shape", ints(&[3, 3])), ("strides", ints(&[2, 2]))];
    let pool = toy.run("MaxPool", &[wide], &most);
    let joined = toy.run("Concat", &[pool, pool], &[("axis", Attr::Int(-3))]);
    let last = toy.weight("last", &[16, 64, 1, 3]);
    let last = toy.run("Conv", &[joined, last], &[("auto_pad", Attr::Str("SAME_UPPER".into()))]);
    let swapped = toy.run("Transpose", &[last], &[("perm", ints(&[0, 2, 3, 1]))]);
    let matrix = toy.weight("matrix", &[20, 1000]);
    let product = toy.run("MatMul", &[x, matrix], &[]);
    let stages = [("transB", Attr::Int(1)), ("stages", Attr::Strs(vec!["Relu".into()]))];
    let turned = toy.weight("turned", &[30, 1000]);
    let turned = toy.run("FusedMatMul", &[product, turned], &stages);
    for (name, value) in [
        ("sum", sum),
        ("mean", mean),
        ("pool", pool),
        ("last", last),
        ("swapped", swapped),
        ("product", product),
        ("turned", turned),
    ] {
        toy.output(name, value, DType::F32);
    }
    toy.build()
}

/// The outputs, node by node, without a plan.
fn by_nodes(engine: &Engine, x: Tensor) -> BTreeMap<String, Tensor> {
    let parts = engine.parts();
    let mut values: BTreeMap<ValueId, Tensor> = BTreeMap::from([(parts.inputs[0].value, x)]);
    values.extend(parts.weights.iter().map(|w| (w.value, w.tensor().unwrap())));
    for node in &parts.execute.nodes {
        let def = lookup(&node.op, 1).unwrap();
        let operands: Vec<_> = node.inputs.iter().map(|i| i.map(|i| values[&i].clone())).collect();
        let attrs = def.normalise(Attrs::clone(&node.attrs)).unwrap();
        let result = eval(def, &attrs, &operands, 1).unwrap().remove(0);
        values.insert(node.outputs[0].unwrap(), result);
    }
    parts.outputs.iter().map(|port| (port.name.clone(), values[&port.value].clone())).collect()
}

fn x(height: usize) -> Tensor {
    seeded("x", 1, &[2, 3, height, 20])
}

fn device(threads: usize) -> Device {
    Device::cpu_with(CpuOptions { poison: true, ..CpuOptions::with_threads(threads) })
}

fn outputs(module: &impl Module, height: usize) -> BTreeMap<String, Tensor> {
    module.run(&Inputs::from([("x".to_owned(), x(height))])).unwrap().tensors
}

#[test]
fn layouts_change_no_meaning() {
    let engine = network();
    for height in [16, 17] {
        let expected = by_nodes(&engine, x(height));
        let one = outputs(&LiveModule::load(engine.clone(), &device(1)).unwrap(), height);
        for (name, expected) in &expected {
            compare(&one[name], expected, Tolerance::SUMS)
                .unwrap_or_else(|why| panic!("{name}: {why}"));
        }
        let packed = PackedModule::load(
            engine.serialize(SerializeFlags::empty()).unwrap().into(),
            &device(3),
        )
        .unwrap();
        assert_eq!(outputs(&packed, height), one);
    }
}

/// Who waits finds every form made; who does not finds none that is left to a run.
#[test]
fn a_refit_makes_forms_beside_runs_or_before_them() {
    let engine = network();
    let module = LiveModule::load(engine.clone(), &device(2)).unwrap();
    outputs(&module, 16);
    let seeds = [(1, true), (2, false), (3, true), (4, false)];
    for (seed, wait_for_forms) in seeds {
        let source = weights(&engine, seed);
        let options = RefitOptions { wait_for_forms, ..RefitOptions::default() };
        module.refit_with(&source, &options).unwrap();
        assert_eq!(module.forms_left(), 0, "a run has to make forms");
        let fresh = LiveModule::load(module.engine(), &device(1)).unwrap();
        let expected = outputs(&fresh, 16);
        for _ in 0..4 {
            assert_eq!(outputs(&module, 16), expected);
        }
    }
}

/// The first run makes forms and the second reads them; a refit of one weight keeps those of the others.
#[test]
fn runs_have_the_same_bits_before_and_after_forms_are_made() {
    let engine = network();
    let module = LiveModule::load(engine.clone(), &device(2)).unwrap();
    let first = outputs(&module, 16);
    assert_eq!(outputs(&module, 16), first);
    let other = MapSource::from_iter([("wide".to_owned(), seeded("other", 0, &[32, 24, 1, 1]))]);
    module.refit(&other, FitPolicy { partial: true, ..FitPolicy::default() }).unwrap();
    let changed = outputs(&module, 16);
    let fresh = LiveModule::load(module.engine(), &device(2)).unwrap();
    assert_eq!(outputs(&fresh, 16), changed);
    assert_eq!(changed["sum"], first["sum"]);
    assert_ne!(changed["last"], first["last"]);
    module.rollback().unwrap();
    assert_eq!(outputs(&module, 16), first);
}

/// A file in memory that keeps what was released.
struct File {
    bytes: Bytes,
    released: Arc<Mutex<Vec<Range<usize>>>>,
}

impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Mapped for File {
    fn check(&self) -> Result<(), Changed> {
        Ok(())
    }

    fn release(&self, range: Range<usize>) {
        self.released.lock().unwrap().push(range);
    }
}

/// The memory of a mapped weight is given back once a form is read in its place, and it is still there for who wants it.
#[test]
fn what_is_read_in_a_form_needs_no_memory_as_it_lies() {
    let engine = network();
    let bytes: Bytes = engine.serialize(SerializeFlags::empty()).unwrap().into();
    let released = Arc::<Mutex<Vec<Range<usize>>>>::default();
    let file = File { bytes: bytes.clone(), released: released.clone() };
    let module = PackedModule::load(Bytes::from_mapped(file), &device(2)).unwrap();
    assert!(released.lock().unwrap().is_empty());
    let first = outputs(&module, 16);
    let parts: Vec<Vec<u8>> =
        released.lock().unwrap().iter().map(|range| bytes[range.clone()].to_vec()).collect();
    let weight = |name: &str| {
        let parts = engine.parts();
        let weight = parts.weights.iter().find(|weight| weight.name == name).unwrap();
        weight.tensor().unwrap().bytes().to_vec()
    };
    for read_in_a_form in ["stem", "depth", "wide", "matrix"] {
        assert!(parts.contains(&weight(read_in_a_form)), "{read_in_a_form}");
    }
    assert!(!parts.contains(&weight("bias")));
    assert_eq!(outputs(&module, 16), first);
    assert_eq!(released.lock().unwrap().len(), parts.len(), "released once");
}
