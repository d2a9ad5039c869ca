//! Parameters that a checkpoint has under several names.

use super::calculated::trained;
use super::*;

/// One parameter of two modules, which the exporter keeps under the name of the second.
fn checkpoint(seed: usize) -> Checkpoint {
    vec![
        ("a.weight", trained(&[4, 4], seed)),
        ("a.bias", trained(&[4], seed + 1)),
        ("b.weight", trained(&[4, 4], seed)),
        ("b.bias", trained(&[4], seed + 2)),
    ]
}

fn export(c: &Checkpoint) -> Model {
    Onnx::new(17)
        .input("x: f32[2, 4]")
        .constant(value("b.weight", of(c, "b.weight")))
        .constant(value("a.bias", of(c, "a.bias")))
        .constant(value("b.bias", of(c, "b.bias")))
        .node("q = Add(x, a.bias)", vec![])
        .node("r = MatMul(q, b.weight)", vec![])
        .node("y = Add(r, b.bias)", vec![])
        .output("y")
        .model()
}

#[test]
fn a_tied_parameter_comes_under_any_of_its_names_and_under_all_if_they_agree() {
    let options = BuildOptions::default();
    let weights = source(&checkpoint(1));
    let (engine, _, report) =
        build_bound(&export(&checkpoint(1)), &options, &Binding::to(&weights)).unwrap();
    assert_eq!(report.tied.get("a.weight").map(String::as_str), Some("b.weight"));
    assert!(report.unused.is_empty() && report.lost.is_empty(), "{report}");
    let stripped = engine.strip().unwrap();
    let other = checkpoint(7);
    let expected = outputs(&build(&export(&other), &options).unwrap());
    for left_out in [None, Some("a.weight"), Some("b.weight")] {
        let mut new = source(&other);
        if let Some(name) = left_out {
            new.remove(name);
        }
        let filled = stripped.fill(&new, FitPolicy::default()).unwrap();
        assert_eq!(outputs(&filled), expected, "without {left_out:?}");
    }
    let filled = stripped.fill(&ModelFile::of(&export(&other)), FitPolicy::default()).unwrap();
    assert_eq!(outputs(&filled), expected);
    let mut untied = source(&other);
    untied.insert("a.weight", trained(&[4, 4], 9));
    let error = stripped.fill(&untied, FitPolicy::default()).unwrap_err().to_string();
    assert!(error.contains("a.weight") && error.contains("b.weight"), "{error}");
}

/// What nobody trained is equal to much that it is not tied to.
#[test]
fn ones_are_tied_to_nothing() {
    let ones = Tensor::from_slice(&[4], &[1.0f32; 4]);
    let mut checkpoint = checkpoint(1);
    checkpoint.retain(|(name, _)| *name != "a.weight");
    checkpoint.push(("a.weight", ones.clone()));
    checkpoint.push(("norm.weight", ones));
    let weights = source(&checkpoint);
    let error = build_bound(&export(&checkpoint), &BuildOptions::default(), &Binding::to(&weights));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("a.weight") && !error.contains("tied"), "{error}");
}
