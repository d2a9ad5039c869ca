//! The operator table, checked row by row: what a row says holds, and each of its cases runs.

use engine_format::{AlignedBuf, Attr, Attrs, DType, Tensor};
use engine_ops::case::Case;
use engine_ops::cpu::{Cpu, CpuCtx, CpuShapes, Draws, TensorMeta, TensorMut, TensorRef};
use engine_ops::infer::{Facts, InferCtx, InferError};
use engine_ops::{Kind, OpDef, Role, TABLE, compare, eval};
use std::collections::BTreeSet;

fn attrs(def: &OpDef, case: &Case) -> Attrs {
    let given = case.attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    def.normalise(given).unwrap_or_else(|e| panic!("{def:?} case {:?}: {e}", case.name))
}

/// A row that says it is elementwise gives results of the shape to which its operands broadcast; what runs as a function of one
/// element is elementwise; and learned operands are data.
#[test]
fn roles_of_rows_and_operands_hold() {
    for def in TABLE.iter().copied() {
        assert!(def.elementwise || def.function.is_none(), "{def:?} is a function of one element");
        for operand in def.inputs.iter().filter(|operand| operand.learned) {
            assert_eq!(operand.role, Role::Data, "{def:?}, {}", operand.name);
            assert!(!def.elementwise || def.name == "PRelu", "{def:?}, {}", operand.name);
        }
        for case in (def.cases)().into_iter().filter(|_| def.elementwise) {
            let read = |i: usize| def.operand(i).is_none_or(|o| o.role != Role::Type);
            let operands = case.inputs.iter().enumerate().filter(|(i, _)| read(*i));
            let shapes: Vec<&[usize]> =
                operands.filter_map(|(_, tensor)| Some(tensor.as_ref()?.shape())).collect();
            let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or_default();
            let size = |axis: usize| {
                let sizes =
                    shapes.iter().filter_map(|s| s.get((axis + s.len()).checked_sub(rank)?));
                sizes.copied().find(|&size| size != 1).unwrap_or(1)
            };
            let expected: Vec<usize> = (0..rank).map(size).collect();
            let results = eval(def, &attrs(def, &case), &case.inputs, 1).unwrap();
            assert_eq!(results[0].shape(), expected, "{def:?}, {:?}", case.name);
        }
    }
}

/// A row's fused form takes the same operands and then those of its stages, and gives the same where there are no stages.
#[test]
fn fused_rows_are_their_rows_and_then_stages() {
    let mut pairs = 0;
    for (def, fused) in TABLE.iter().filter_map(|def| Some((*def, def.fused?))) {
        assert!(TABLE.iter().any(|row| std::ptr::eq(*row, fused)), "{fused:?} is a row");
        let names = |def: &OpDef| def.inputs.iter().map(|operand| operand.name).collect::<Vec<_>>();
        let (_, own) = names(fused).split_last().map(|(last, own)| (*last, own.to_vec())).unwrap();
        assert_eq!(own, names(def), "operands of {fused:?}");
        assert!(fused.variadic_input && fused.attrs.iter().any(|attr| attr.name == "stages"));
        for case in (def.cases)() {
            let f32s = |i: &Option<Tensor>| i.as_ref().is_none_or(|i| i.dtype() == DType::F32);
            let given = attrs(def, &case);
            let mut bare = given.clone();
            bare.insert("stages".to_owned(), Attr::Strs(Vec::new()));
            let Some(bare) = fused.normalise(bare).ok().filter(|_| case.inputs.iter().all(f32s))
            else {
                continue;
            };
            let mut operands = case.inputs.clone();
            operands.resize(def.inputs.len(), None);
            let result =
                |def, attrs, inputs: &[Option<Tensor>]| eval(def, attrs, inputs, 1).unwrap();
            let (plain, same) =
                (result(def, &given, &case.inputs), result(fused, &bare, &operands));
            assert_eq!(plain, same, "{fused:?}, case {:?} of {def:?}", case.name);
            pairs += 1;
        }
    }
    assert!(pairs > 20, "{pairs} cases were compared");
}

/// Every case of every operator that has a kernel or is a view.
fn runnable() -> impl Iterator<Item = (&'static OpDef, Case)> {
    TABLE
        .iter()
        .filter(|def| def.kind != Kind::Control)
        .flat_map(|def| (def.cases)().into_iter().map(move |case| (*def, case)))
}

#[test]
fn rows_are_complete_and_unique() {
    let mut seen = BTreeSet::new();
    let mut onnx = BTreeSet::new();
    for def in TABLE {
        assert!(seen.insert((def.name, def.version)), "{def:?} is listed twice");
        assert!(def.doc.len() > 5, "{def:?} has no documentation");
        // Control flow is held to models, whose blocks a case could not name.
        let cased = !(def.cases)().is_empty() || def.kind == Kind::Control;
        assert!(cased, "{def:?} has no cases");
        let names: BTreeSet<_> = def.attrs.iter().map(|a| a.name).collect();
        assert_eq!(names.len(), def.attrs.len(), "{def:?} lists an attribute twice");
        let names: BTreeSet<_> = (def.cases)().iter().map(|c| c.name).collect();
        assert_eq!(names.len(), (def.cases)().len(), "{def:?} has two cases of one name");
        for name in def.onnx {
            for opset in name.since..=name.until {
                let key = (name.domain, name.name, opset);
                assert!(onnx.insert(key), "{def:?}: {key:?} imports as two operators");
            }
        }
        let runs = matches!(def.cpu, Cpu::Kernel { .. } | Cpu::Planned(_) | Cpu::Dynamic(_));
        let planned = matches!(def.kind, Kind::View | Kind::Control);
        assert!(runs || planned, "{def:?} can run nowhere");
    }
}

#[test]
fn every_operator_has_a_case_with_expected_values() {
    for def in TABLE.iter().filter(|def| def.kind != Kind::Control) {
        let shown = (def.cases)()
            .iter()
            .any(|c| c.expected.as_ref().is_some_and(|e| e.iter().any(|t| !t.is_empty())));
        assert!(shown, "{def:?} has no case that writes its expected values down");
    }
}

#[test]
fn every_case_gives_its_expected_values_on_the_cpu() {
    let mut failures = Vec::new();
    for (def, case) in runnable() {
        match eval(def, &attrs(def, &case), &case.inputs, case.outputs) {
            Err(e) => failures.push(format!("{def:?} case {:?}: {e}", case.name)),
            Ok(found) => {
                assert_eq!(found.len(), case.outputs, "{def:?} case {:?}", case.name);
                let expected = case.expected.iter().flatten();
                for (i, (e, f)) in expected.zip(&found).enumerate() {
                    if let Err(d) = compare(f, e, def.tolerance) {
                        failures.push(format!("{def:?} case {:?} result {i}: {d}", case.name));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a plan knows before a run: shapes, and the contents of operands that decide shapes. The rule must then give
/// the kernel's own types and shapes, also where it does not see contents that a constant would show it.
#[test]
fn inference_from_shapes_agrees_with_the_kernels() {
    for (def, case) in runnable() {
        let attrs = attrs(def, &case);
        let facts: Vec<_> = case
            .inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let full = Facts::constant(input.clone()?);
                let seen = def.operand(i).is_some_and(|o| o.role == Role::Shape);
                Some(if seen { full } else { Facts { value: None, ..full } })
            })
            .collect();
        let ctx = InferCtx { attrs: &attrs, inputs: &facts, outputs: case.outputs };
        let inferred = match (def.infer)(&ctx) {
            Ok(inferred) => inferred,
            Err(InferError::DataDependent) if matches!(def.cpu, Cpu::Dynamic(_)) => {
                continue;
            }
            Err(e) => panic!("{def:?} case {:?}: {e}", case.name),
        };
        let found = eval(def, &attrs, &case.inputs, case.outputs).unwrap();
        for (i, (facts, tensor)) in inferred.iter().zip(&found).enumerate() {
            let what = format!("{def:?} case {:?} result {i}", case.name);
            assert_eq!(facts.dtype, tensor.dtype(), "{what}");
            if matches!(def.cpu, Cpu::Kernel { .. } | Cpu::Planned(_)) || def.kind == Kind::View {
                assert_eq!(facts.concrete().as_deref(), Some(tensor.shape()), "{what}");
            }
        }
    }
}

/// One thread and several must give the same bits.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let (one, many) = (pool(1), pool(3));
    for (def, case) in runnable() {
        let attrs = attrs(def, &case);
        let run = || eval(def, &attrs, &case.inputs, case.outputs).unwrap();
        let (a, b) = (one.install(run), many.install(run));
        for (a, b) in a.iter().zip(&b) {
            assert!(a.bytes() == b.bytes(), "{def:?} case {:?}", case.name);
        }
    }
}

/// A kernel reads a constant in the form that it asks for or as it is, with the same bits.
#[test]
fn forms_change_no_bits() {
    let mut formed = BTreeSet::new();
    for (def, case) in runnable().filter(|(def, _)| matches!(def.cpu, Cpu::Planned(_))) {
        let attrs = attrs(def, &case);
        let plain = eval(def, &attrs, &case.inputs, case.outputs).unwrap();
        let metas = |tensor: &Option<Tensor>| tensor.as_ref().map(TensorMeta::from);
        let inputs: Vec<_> = case.inputs.iter().map(metas).collect();
        let outputs: Vec<_> = plain.iter().map(|t| Some(TensorMeta::from(t))).collect();
        let shapes =
            CpuShapes { attrs: &attrs, inputs: &inputs, values: &case.inputs, outputs: &outputs };
        if shapes.nothing_to_write() {
            continue;
        }
        let kernel = def.ready(&shapes).unwrap();
        let made: Vec<Option<Vec<f32>>> = (0..inputs.len())
            .map(|i| {
                let form = kernel.form(i)?;
                let mut made = vec![f32::NAN; form.len()];
                let constant = case.inputs[i].as_ref()?;
                form.make(constant.dtype(), constant.bytes(), &mut made);
                formed.insert(def.name);
                Some(made)
            })
            .collect();
        let forms: Vec<Option<&[f32]>> = made.iter().map(Option::as_deref).collect();
        let refs: Vec<_> = case.inputs.iter().map(|t| t.as_ref().map(TensorRef::from)).collect();
        let mut written: Vec<AlignedBuf> =
            plain.iter().map(|t| AlignedBuf::zeroed(t.bytes().len())).collect();
        let mut results: Vec<_> = plain
            .iter()
            .zip(&mut written)
            .map(|(t, bytes)| Some(TensorMut { dtype: t.dtype(), shape: t.shape(), bytes }))
            .collect();
        let mut scratch = AlignedBuf::zeroed(kernel.scratch());
        let ctx = &mut CpuCtx {
            attrs: &attrs,
            inputs: &refs,
            outputs: &mut results,
            scratch: &mut scratch,
            forms: &forms,
            draws: Draws::fresh(),
        };
        kernel.run(ctx).unwrap();
        for (plain, written) in plain.iter().zip(&written) {
            assert!(plain.bytes()[..] == written[..], "{def:?} case {:?}", case.name);
        }
    }
    let asks =
        ["BlockedConv", "FusedConv", "FusedConvTranspose", "FusedGemm", "FusedMatMul", "MatMul"];
    assert_eq!(formed, BTreeSet::from(asks), "rows whose cases ask for forms");
}
