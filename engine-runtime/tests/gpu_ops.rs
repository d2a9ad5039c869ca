//! Every case of the operator table on the GPU, held against the CPU kernels and the expected results.
//!
//! Runs under what the adapter offers and again under the WebGPU baseline. Without an adapter the tests say so and
//! pass; `REFIT_REQUIRE_GPU=1` makes that a failure.

mod support;

use engine_format::{AlignedBuf, Attr, Attrs, DType, Tensor};
use engine_ops::case::Case;
use engine_ops::cpu::{Cpu, CpuCtx, CpuShapes, Draws, TensorMeta, TensorMut, TensorRef};
use engine_ops::infer::{Facts, InferCtx};
use engine_ops::{Kind, OpDef, TABLE, compare};
use engine_runtime::Obstacle;
use engine_runtime::gpu::{GpuCandidates, GpuDevice, GpuOptions};
use std::collections::BTreeSet;
use support::device;

#[test]
fn operators_agree_with_the_cpu_under_the_adapters_limits() {
    if let Some(device) = device(GpuOptions::default()) {
        run_table(&device);
    }
}

#[test]
fn operators_agree_with_the_cpu_under_the_webgpu_baseline() {
    if let Some(device) = device(GpuOptions { baseline: true, ..GpuOptions::default() }) {
        assert!(device.max_binding() <= 128 << 20);
        run_table(&device);
    }
}

/// Each kernel that a row has besides its own, on the cases of the row, whether or not it would be chosen for their sizes.
#[test]
fn candidates_agree_with_the_cpu() {
    let names: BTreeSet<&str> =
        TABLE.iter().flat_map(|def| def.gpu_candidates).map(|candidate| candidate.name).collect();
    assert!(!names.is_empty());
    for name in names {
        let candidates = GpuCandidates::Always(name.to_owned());
        let options = GpuOptions { candidates, ..GpuOptions::default() };
        let Some(device) = device(options) else { return };
        let rows = |def: &&OpDef| def.gpu_candidates.iter().any(|c| c.name == name);
        run_rows(&device, TABLE.iter().copied().filter(rows));
    }
}

/// What the rule chooses, at sizes for which it chooses otherwise than for small ones, is as right as what always works.
#[test]
fn what_is_chosen_for_large_products_is_right() {
    let open = |candidates| device(GpuOptions { candidates, ..GpuOptions::default() });
    let (Some(ruled), Some(last)) = (open(GpuCandidates::ByRule), open(GpuCandidates::Last)) else {
        return;
    };
    let conv = |x: &[usize], w: &[usize]| node("Conv", &[], vec![floats(x), floats(w)]);
    let subjects = [
        node("MatMul", &[], vec![floats(&[1_500, 19]), floats(&[19, 1_400])]),
        node("MatMul", &[], vec![floats(&[130, 120, 17]), floats(&[130, 17, 125])]),
        node("Gemm", &[("transB", Attr::Int(1))], vec![floats(&[1_500, 5]), floats(&[1_400, 5])]),
        conv(&[2, 3, 96, 97], &[128, 3, 3, 3]),
    ];
    for (def, case) in subjects {
        run_case(&last, def, &case).unwrap().unwrap();
        run_case(&ruled, def, &case).unwrap().unwrap();
    }
}

fn run_table(device: &GpuDevice) {
    run_rows(device, TABLE.iter().copied());
}

fn run_rows(device: &GpuDevice, rows: impl Iterator<Item = &'static OpDef>) {
    let mut failures = Vec::new();
    let (mut ran, mut on_cpu) = (0, Vec::new());
    // One operator alone, to work on it.
    let only = std::env::var("REFIT_OP").ok();
    let wanted = |def: &&OpDef| {
        // Views are never copied, control flow never is a step, and what makes its results' shapes from data
        // runs on the host between two segments: none of them reaches a device.
        let step =
            !matches!(def.kind, Kind::View | Kind::Control) && !matches!(def.cpu, Cpu::Dynamic(_));
        step && only.as_ref().is_none_or(|name| name == def.name)
    };
    for def in rows.filter(wanted) {
        let numbers = |t: &Option<Tensor>| t.as_ref().is_none_or(|t| t.dtype() != DType::String);
        // Strings stay on the host.
        let on_device = |case: &Case| {
            let expected = case.expected.iter().flatten().all(|t| t.dtype() != DType::String);
            expected && case.inputs.iter().all(numbers)
        };
        for case in (def.cases)().into_iter().filter(on_device) {
            let label = format!("{def:?} {:?}", case.name);
            match run_case(device, def, &case) {
                Ok(Ok(())) => ran += 1,
                Ok(Err(why)) => on_cpu.push(format!("{label}: {why}")),
                Err(message) => failures.push(format!("{label}: {message}")),
            }
        }
    }
    println!("{device:?}: {ran} cases ran, {} did not:", on_cpu.len());
    on_cpu.iter().for_each(|line| println!("  {line}"));
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(ran > 0 || only.is_some(), "no case ran");
}

/// An error if the case has a GPU kernel and it is wrong.
fn run_case(
    device: &GpuDevice,
    def: &'static OpDef,
    case: &Case,
) -> Result<Result<(), Obstacle>, String> {
    let attrs = case.attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let attrs = def.normalise(attrs).map_err(|e| e.to_string())?;
    let metas = outputs(def, &attrs, case)?;
    let asked: Vec<_> = metas.iter().cloned().map(Some).collect();
    let ran = device.run_node(def, &attrs, &case.inputs, &asked).map_err(|e| e.to_string())?;
    let gpu: Vec<Tensor> = match ran {
        Ok(results) => results.into_iter().map(|r| r.expect("all were asked for")).collect(),
        Err(why) => return Ok(Err(why)),
    };
    let cpu = on_cpu(def, &attrs, case, &metas)?;
    for (i, (gpu, cpu)) in gpu.iter().zip(&cpu).enumerate() {
        compare(gpu, cpu, def.tolerance).map_err(|e| format!("result {i} against the CPU: {e}"))?;
        if let Some(expected) = &case.expected {
            compare(gpu, &expected[i], def.tolerance)
                .map_err(|e| format!("result {i} against what is expected: {e}"))?;
        }
    }
    Ok(Ok(()))
}

fn outputs(def: &OpDef, attrs: &Attrs, case: &Case) -> Result<Vec<TensorMeta>, String> {
    let inputs: Vec<_> = case.inputs.iter().map(|t| t.clone().map(Facts::constant)).collect();
    let ctx = InferCtx { attrs, inputs: &inputs, outputs: case.outputs };
    let facts = (def.infer)(&ctx).map_err(|e| format!("infer: {e}"))?;
    facts
        .iter()
        .map(|f| {
            let shape = f.concrete().ok_or_else(|| format!("infer left {f:?} open"))?;
            Ok(TensorMeta { dtype: f.dtype, shape })
        })
        .collect()
}

fn on_cpu(
    def: &OpDef,
    attrs: &Attrs,
    case: &Case,
    outputs: &[TensorMeta],
) -> Result<Vec<Tensor>, String> {
    let metas: Vec<_> = case
        .inputs
        .iter()
        .map(|t| t.as_ref().map(|t| TensorMeta { dtype: t.dtype(), shape: t.shape().to_vec() }))
        .collect();
    let asked: Vec<_> = outputs.iter().cloned().map(Some).collect();
    let kernel = def
        .ready(&CpuShapes { attrs, inputs: &metas, values: &case.inputs, outputs: &asked })
        .map_err(|e| format!("CPU kernel: {e}"))?;
    let inputs: Vec<_> = case.inputs.iter().map(|t| t.as_ref().map(TensorRef::from)).collect();
    let mut buffers: Vec<AlignedBuf> =
        outputs.iter().map(|m| AlignedBuf::zeroed(m.byte_len())).collect();
    let mut muts: Vec<_> = outputs
        .iter()
        .zip(&mut buffers)
        .map(|(m, b)| Some(TensorMut { dtype: m.dtype, shape: &m.shape, bytes: b }))
        .collect();
    let mut scratch = AlignedBuf::zeroed(kernel.scratch());
    kernel
        .run(&mut CpuCtx {
            attrs,
            inputs: &inputs,
            outputs: &mut muts,
            scratch: &mut scratch,
            forms: &[],
            draws: Draws::fresh(),
        })
        .map_err(|e| format!("CPU kernel: {e}"))?;
    let tensor = |(m, b): (&TensorMeta, AlignedBuf)| {
        Tensor::new(m.dtype, &m.shape, b.into()).map_err(|e| e.to_string())
    };
    outputs.iter().zip(buffers).map(tensor).collect()
}

/// A node of the table with its operands, of which the first result is asked for.
fn node(op: &str, attrs: &[(&'static str, Attr)], inputs: Vec<Tensor>) -> (&'static OpDef, Case) {
    let def = engine_ops::lookup(op, 1).expect("the table has the operator");
    let case = Case::new("", inputs);
    (def, attrs.iter().fold(case, |case, (name, attr)| case.attr(name, attr.clone())))
}

fn floats(shape: &[usize]) -> Tensor {
    engine_ops::case::ramp(shape)
}

fn longs(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_slice(shape, values)
}

/// What lies outside is an error on a GPU too, whichever word of the index says so.
#[test]
fn an_index_outside_is_an_error() {
    let Some(device) = device(GpuOptions::default()) else { return };
    let add = [("reduction", Attr::Str("add".to_owned()))];
    let nodes = |index: i64| {
        let at = |shape: &[usize]| longs(shape, &vec![index; shape.iter().product()]);
        let (x, rows) = (floats(&[5, 5]), floats(&[2, 5]));
        vec![
            node("Gather", &[], vec![x.clone(), at(&[3])]),
            node("GatherElements", &[], vec![x.clone(), at(&[2, 5])]),
            node("GatherND", &[], vec![x.clone(), at(&[3, 2])]),
            node("ScatterElements", &[], vec![x.clone(), at(&[2, 5]), rows.clone()]),
            node("ScatterElements", &add, vec![x.clone(), at(&[2, 5]), rows.clone()]),
            node("ScatterND", &[], vec![x.clone(), at(&[2, 1]), rows.clone()]),
            node("ScatterND", &add, vec![x, at(&[2, 1]), rows]),
        ]
    };
    let mut wrong = Vec::new();
    for index in [0, 4, -1, -5, 5, -6, 1 << 32, -(1 << 32), i64::MAX, i64::MIN] {
        for (def, case) in nodes(index) {
            let found = run_case(&device, def, &case);
            let inside = (-5..5).contains(&index);
            let named = |why: &String| why.contains(&format!("index {index}, expected -5..5"));
            let fits = match &found {
                Ok(Ok(())) => inside,
                Err(why) => !inside && named(why),
                Ok(Err(_)) => false,
            };
            if !fits {
                wrong.push(format!("{def:?}, index {index}: {found:?}"));
            }
        }
    }
    let three = |values: &[f32]| Tensor::from_slice(&[1, 1, values.len()], values);
    let others = [
        node("TensorScatter", &[], vec![floats(&[1, 4, 2]), floats(&[1, 2, 2]), longs(&[1], &[3])]),
        node("ReverseSequence", &[], vec![floats(&[4, 2]), longs(&[2], &[1, 5])]),
        node(
            "MaxUnpool",
            &[("kernel_shape", Attr::Ints(vec![2])), ("strides", Attr::Ints(vec![2]))],
            vec![three(&[1.0, 2.0]), longs(&[1, 1, 2], &[0, 4])],
        ),
        node(
            "RoiAlign",
            &[("sampling_ratio", Attr::Int(1))],
            vec![floats(&[1, 1, 4, 4]), floats(&[1, 4]), longs(&[1], &[1])],
        ),
    ];
    for (def, case) in others {
        let found = run_case(&device, def, &case);
        if !matches!(&found, Err(why) if why.contains("expected 0..")) {
            wrong.push(format!("{def:?}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Loops as long as the data are right, or the adapter that would cut them off does not run them.
#[test]
fn long_loops_are_right_or_refused() {
    let Some(device) = device(GpuOptions::default()) else { return };
    let n = 70_000;
    // Sums of ones are exact in every order.
    let ones = |shape: &[usize]| Tensor::from_slice(shape, &vec![1.0f32; shape.iter().product()]);
    let quarters: Vec<i64> = (0..n as i64).map(|i| i % 4).collect();
    let add = [("reduction", Attr::Str("add".to_owned()))];
    let cases = [
        node("CumSum", &[], vec![ones(&[n]), longs(&[], &[0])]),
        node("ScatterElements", &add, vec![ones(&[4]), longs(&[n], &quarters), ones(&[n])]),
        node("ScatterND", &add, vec![ones(&[4]), longs(&[n, 1], &quarters), ones(&[n])]),
        node("Conv", &[], vec![ones(&[1, 70, 32, 32]), ones(&[1, 70, 32, 32])]),
        node("ConvTranspose", &[], vec![ones(&[1, n, 1]), ones(&[n, 1, 1])]),
        node("MatMul", &[], vec![ones(&[1, n]), ones(&[n, 1])]),
        node(
            "Einsum",
            &[("equation", Attr::Str("i,i->".to_owned()))],
            vec![ones(&[n]), ones(&[n])],
        ),
        node(
            "AveragePool",
            &[("kernel_shape", Attr::Ints(vec![300, 300]))],
            vec![ones(&[1, 1, 300, 300])],
        ),
        node("ReduceSum", &[], vec![ones(&[n, 2]), longs(&[1], &[0])]),
        node("Softmax", &[("axis", Attr::Int(0))], vec![floats(&[n, 2])]),
        node("ArgMax", &[], vec![floats(&[n])]),
        node("GlobalAveragePool", &[], vec![ones(&[1, 1, n])]),
        node("LayerNormalization", &[], vec![floats(&[1, n]), floats(&[n])]),
        node(
            "Attention",
            &[("stages", Attr::Strs(Vec::new()))],
            vec![ones(&[1, 1, 64]), ones(&[1, n, 64]), ones(&[1, n, 64])],
        ),
    ];
    let mut refused = Vec::new();
    for (def, case) in cases {
        match run_case(&device, def, &case) {
            Ok(Ok(())) => {}
            Ok(Err(Obstacle::TooManyRounds { .. })) => refused.push(def.name),
            other => panic!("{def:?}: {other:?}"),
        }
    }
    println!("{device:?} does not run {refused:?}");
    // Loops of 70,000 rounds are the ones that Mesa's software adapter would cut off.
    let cuts_off = device.adapter().driver.contains("llvmpipe");
    assert!(refused.contains(&"CumSum") == cuts_off, "{refused:?}");
}
