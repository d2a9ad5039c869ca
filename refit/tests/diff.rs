//! What a comparison of two engines says.

mod common;

use common::*;
use engine_format::{EngineFlags, Tensor};
use refit::diff;

#[test]
fn equal_engines_do_not_differ() {
    let (a, b) =
        (engine(EngineFlags::REFIT, &weights(0.0)), engine(EngineFlags::REFIT, &weights(0.0)));
    assert!(diff(&a, &b).is_empty());
}

#[test]
fn changed_weights_come_with_their_distance() {
    let values = |v: &[f32]| vec![("same", ramp(&[2], 0.0)), ("w", Tensor::from_slice(&[4], v))];
    let a = engine(EngineFlags::REFIT, &values(&[1.0, 2.0, 3.0, f32::NAN]));
    let b = engine(EngineFlags::REFIT, &values(&[1.0, 2.5, 1.0, 0.0]));
    let diff = diff(&a, &b);
    let [changed] = &diff.changed[..] else { panic!("{diff:?}") };
    assert_eq!((changed.name.as_str(), changed.elements, changed.of), ("w", 3, 4));
    assert_eq!(changed.max_abs, Some(2.0));
    assert_eq!(changed.mean_abs, Some(2.5 / 3.0));
    assert_eq!(changed.not_finite, 1);
    assert!(diff.graph.is_empty() && diff.flags.is_none() && !diff.is_empty());
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["changed"][0]["max_abs"], 2.0);
}

#[test]
fn flags_types_and_rows_are_compared() {
    let a = engine(EngineFlags::REFIT, &[("a", ramp(&[2], 0.0)), ("t", ramp(&[2, 3], 0.0))]);
    let b =
        engine(EngineFlags::REFIT_IDENTICAL, &[("b", ramp(&[2], 0.0)), ("t", ramp(&[3, 2], 0.0))]);
    let diff = diff(&a, &b);
    let flags = diff.flags.as_ref().unwrap();
    assert_eq!(
        (&flags.a[..], &flags.b[..]),
        (&["REFIT".to_owned()][..], &["REFIT_IDENTICAL".to_owned()][..])
    );
    assert_eq!(
        (&diff.only_in_a[..], &diff.only_in_b[..]),
        (&["a".to_owned()][..], &["b".to_owned()][..])
    );
    assert_eq!(
        (diff.retyped[0].a.as_str(), diff.retyped[0].b.as_str()),
        ("f32[2, 3]", "f32[3, 2]")
    );
    assert_eq!(diff.graph, ["weight table"]);
}

#[test]
fn stripped_weights_are_unknown_unless_their_digests_tell() {
    let full = engine(EngineFlags::REFIT, &weights(0.0));
    let unknown = diff(&full, &full.strip().unwrap());
    assert_eq!(unknown.unknown, ["embedding", "empty", "half", "layer.bias", "layer.weight"]);
    assert!(unknown.changed.is_empty());

    let full = engine(EngineFlags::REFIT_IDENTICAL, &weights(0.0));
    let other = engine(EngineFlags::REFIT_IDENTICAL, &weights(1.0));
    assert!(diff(&full, &full.strip().unwrap()).changed.is_empty());
    let told = diff(&other, &full.strip().unwrap());
    assert_eq!(told.changed.len(), 4);
    assert!(told.changed.iter().all(|w| w.max_abs.is_none()));
}
