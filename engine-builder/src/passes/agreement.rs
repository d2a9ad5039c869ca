//! The graphs of all texts, run as they are and after all passes: what passes do must not show in the results.

use super::optimise;
use crate::graph::Graph;
use crate::graph::parse::parse;
use crate::report::Notes;
use crate::testing::run_nodes;
use engine_format::{DType, Dim, Tensor, ValueId};
use engine_ops::case::ramp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Sizes that symbols are tried with.
const SIZES: [usize; 2] = [1, 3];

/// A tensor for an input, every symbol of whose shape is `size`, so that whatever should broadcast does.
fn input(graph: &Graph, id: ValueId, size: usize) -> Tensor {
    let facts = graph.facts(id);
    let dims = facts.shape.as_ref().unwrap();
    let known = |dim: &Dim| dim.known().map_or(size, |n| usize::try_from(n).unwrap());
    let shape: Vec<usize> = dims.iter().map(known).collect();
    let n = shape.iter().product::<usize>();
    match facts.dtype {
        DType::F32 => ramp(&shape),
        DType::I64 => Tensor::from_slice(&shape, &vec![1i64; n]),
        DType::Bool => Tensor::from_bools(&shape, &(0..n).map(|i| i % 3 != 1).collect::<Vec<_>>()),
        other => panic!("no input of {other} is made up"),
    }
}

fn run(graph: &Graph, size: usize) -> Result<Vec<Tensor>, String> {
    let mut values: BTreeMap<ValueId, Tensor> =
        graph.constants.iter().map(|(&id, constant)| (id, constant.tensor.clone())).collect();
    for &id in &graph.inputs {
        values.insert(id, input(graph, id, size));
    }
    run_nodes(&graph.prepare, &mut values)?;
    run_nodes(&graph.execute, &mut values)?;
    Ok(graph.outputs.iter().map(|output| values[&output.value].clone()).collect())
}

fn assert_agree(what: &str, expected: &[Tensor], found: &[Tensor]) {
    for (e, f) in expected.iter().zip(found) {
        assert_eq!((e.dtype(), e.shape()), (f.dtype(), f.shape()), "{what}");
        let (Ok(e), Ok(f)) = (e.as_slice::<f32>(), f.as_slice::<f32>()) else {
            assert_eq!(e, f, "{what}");
            continue;
        };
        for (i, (e, f)) in e.iter().zip(f).enumerate() {
            let near = (e - f).abs() <= 1e-5 + 1e-4 * e.abs() || (e.is_nan() && f.is_nan());
            assert!(near, "{what}, element {i}: expected {e}, found {f}");
        }
    }
}

#[test]
fn optimised_graphs_give_what_their_originals_give() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/passes/cases");
    let mut ran = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let fixed = path.ends_with("values.txt");
        for case in text.split("==== ").filter(|case| !case.trim().is_empty()) {
            let (title, body) = case.split_once('\n').unwrap();
            let before = body.split_once("----\n").map_or(body, |(before, _)| before);
            let mut graph = parse(before);
            let what = format!("{} {title:?}", path.display());
            let expected = SIZES.map(|size| run(&graph, size));
            optimise(&mut graph, fixed, &mut Notes::default()).unwrap();
            // A target of a Reshape may suit one size only.
            assert!(expected.iter().any(Result::is_ok), "{what}: {expected:?}");
            for (size, expected) in SIZES.into_iter().zip(expected) {
                let Ok(expected) = expected else { continue };
                assert_agree(&what, &expected, &run(&graph, size).unwrap());
                ran += 1;
            }
        }
    }
    assert!(ran >= 40, "only {ran} runs were compared");
}
