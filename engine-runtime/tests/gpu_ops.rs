//! Every case of the operator table on the GPU, held against the CPU kernels and the expected results.
//!
//! Runs under what the adapter offers and again under the WebGPU baseline. Without an adapter the tests say so and
//! pass; `REFIT_REQUIRE_GPU=1` makes that a failure.

mod support;

use engine_format::{AlignedBuf, Attrs, DType, Tensor};
use engine_ops::case::Case;
use engine_ops::cpu::{Cpu, CpuCtx, CpuShapes, TensorMeta, TensorMut, TensorRef};
use engine_ops::infer::{Facts, InferCtx};
use engine_ops::{Kind, OpDef, TABLE, Tolerance};
use engine_runtime::gpu::{GpuDevice, GpuOptions, Obstacle};
use half::{bf16, f16};
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

fn run_table(device: &GpuDevice) {
    let mut failures = Vec::new();
    let (mut ran, mut on_cpu) = (0, Vec::new());
    // One operator alone, to work on it.
    let only = std::env::var("REFIT_OP").ok();
    let wanted = |def: &&&OpDef| {
        // Views are never copied, control flow never is a step, and what makes its results' shapes from data
        // runs on the host between two segments: none of them reaches a device.
        let step =
            !matches!(def.kind, Kind::View | Kind::Control) && !matches!(def.cpu, Cpu::Dynamic(_));
        step && only.as_ref().is_none_or(|name| name == def.name)
    };
    for def in TABLE.iter().filter(wanted) {
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
    let Cpu::Kernel { run, scratch } = def.cpu else {
        return Err("has a GPU kernel and no plain CPU kernel".into());
    };
    let metas: Vec<_> = case
        .inputs
        .iter()
        .map(|t| t.as_ref().map(|t| TensorMeta { dtype: t.dtype(), shape: t.shape().to_vec() }))
        .collect();
    let asked: Vec<_> = outputs.iter().cloned().map(Some).collect();
    let bytes = scratch(&CpuShapes { attrs, inputs: &metas, outputs: &asked });
    let inputs: Vec<_> = case.inputs.iter().map(|t| t.as_ref().map(TensorRef::from)).collect();
    let mut buffers: Vec<AlignedBuf> =
        outputs.iter().map(|m| AlignedBuf::zeroed(m.byte_len())).collect();
    let mut muts: Vec<_> = outputs
        .iter()
        .zip(&mut buffers)
        .map(|(m, b)| Some(TensorMut { dtype: m.dtype, shape: &m.shape, bytes: b }))
        .collect();
    run(&mut CpuCtx {
        attrs,
        inputs: &inputs,
        outputs: &mut muts,
        scratch: &mut AlignedBuf::zeroed(bytes),
    })
    .map_err(|e| format!("CPU kernel: {e}"))?;
    let tensor = |(m, b): (&TensorMeta, AlignedBuf)| {
        Tensor::new(m.dtype, &m.shape, b.into()).map_err(|e| e.to_string())
    };
    outputs.iter().zip(buffers).map(tensor).collect()
}

/// Elementwise |a − b| ≤ atol + rtol·|b|; NaN equals NaN, infinities equal themselves. Half types may besides differ
/// by one unit in the last place, which is what two correct roundings of nearly equal numbers can differ by.
fn compare(a: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<(), String> {
    if (a.dtype(), a.shape()) != (expected.dtype(), expected.shape()) {
        return Err(format!("is {a:?}, expected {expected:?}"));
    }
    let extra = match a.dtype() {
        _ if tolerance == Tolerance::EXACT => 0.0,
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => 0.0,
    };
    let (left, right) = (numbers(a), numbers(expected));
    let wrong = left.iter().zip(&right).enumerate().filter(|(_, (a, b))| {
        let same = a == b || (a.is_nan() && b.is_nan());
        // Written so that a comparison with NaN counts as wrong.
        let near = (*a - *b).abs() <= tolerance.atol + (tolerance.rtol + extra) * b.abs();
        !(same || near && b.is_finite())
    });
    let wrong: Vec<_> = wrong.collect();
    match wrong.first() {
        None => Ok(()),
        Some((i, (a, b))) => Err(format!(
            "{} of {} elements of {expected:?} differ, the first at {i}: is {a}, expected {b}",
            wrong.len(),
            left.len(),
        )),
    }
}

/// The elements as `f64`; 64-bit integers beyond its precision do not occur in cases.
fn numbers(t: &Tensor) -> Vec<f64> {
    match t.dtype() {
        DType::F32 => floats(t, |x: f32| f64::from(x)),
        DType::F64 => floats(t, |x: f64| x),
        DType::F16 => floats(t, f16::to_f64),
        DType::BF16 => floats(t, bf16::to_f64),
        DType::U64 => floats(t, |x: u64| x as f64),
        compact if compact.is_compact() => t.bytes().iter().map(|&code| f64::from(code)).collect(),
        _ => t.to_i64s().expect("the rest are integers").iter().map(|&x| x as f64).collect(),
    }
}

fn floats<T: engine_format::Element>(t: &Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
    t.as_slice::<T>().expect("the caller matched the type").iter().map(|&x| f(x)).collect()
}
