//! Cases, worked out by hand.

use crate::case::Case;
use engine_format::{Attr, Element, Tensor};

/// One tree of two tests, on features 0 and 1, with three leaves; then a tree that is a leaf.
fn forest<T: Element>(x: Tensor, splits: &[T], votes: &[T]) -> Vec<Tensor> {
    vec![
        x,
        // x₀ ≤ 1 → x₁ > 5 (or NaN) → leaf 0, else leaf 1; else leaf 2.
        Tensor::from_slice(&[2, 4], &[0, 0, 1, -3, 1, 3 + 8, -1, -2]),
        Tensor::from_slice(&[2], splits),
        Tensor::from_slice(&[2], &[0, -4]),
        Tensor::from_slice(&[5], &[0, 1, 3, 4, 5]),
        Tensor::from_slice(&[5], &[0, 0, 1, 1, 0]),
        Tensor::from_slice(&[5], votes),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let n = f32::NAN;
    let x = || Tensor::from_slice(&[4, 2], &[1f32, 6.0, 0.0, 5.0, 2.0, 0.0, 1.0, n]);
    let f32s = || forest(x(), &[1f32, 5.0], &[10f32, 20.0, 30.0, 40.0, 1.0]);
    let table = |name, aggregate: &str, y: [f32; 8]| {
        Case::new(name, f32s())
            .attr("aggregate", Attr::Str(aggregate.to_owned()))
            .attr("n_targets", Attr::Int(2))
            .expect(vec![Tensor::from_slice(&[4, 2], &y)])
    };
    let many: Vec<f32> = (0..200).map(|i| (i % 3) as f32).collect();
    let doubles = Tensor::from_slice(&[1, 2], &[1.0f64 + 1e-12, 0.0]);
    vec![
        table("sums", "SUM", [11.0, 0.0, 21.0, 30.0, 1.0, 40.0, 11.0, 0.0]),
        table("averages", "AVERAGE", [5.5, 0.0, 10.5, 15.0, 0.5, 20.0, 5.5, 0.0]),
        table("minima", "MIN", [1.0, 0.0, 1.0, 30.0, 1.0, 40.0, 1.0, 0.0]),
        table("maxima", "MAX", [10.0, 0.0, 20.0, 30.0, 1.0, 40.0, 10.0, 0.0]),
        Case::new("rows of several tasks", {
            let x = Tensor::from_slice(&[100, 2], &many);
            forest(x, &[1f32, 5.0], &[1f32, 2.0, 3.0, 4.0, 5.0])
        })
        .attr("n_targets", Attr::Int(2)),
        Case::new("f64 tells close thresholds apart", {
            forest(doubles, &[1.0f64, 5.0], &[1.0f64, 2.0, 3.0, 4.0, 5.0])
        })
        .attr("n_targets", Attr::Int(2))
        .expect(vec![Tensor::from_slice(&[1, 2], &[5.0f64, 4.0])]),
        Case::new(
            "no rows",
            forest(Tensor::from_slice::<f32>(&[0, 2], &[]), &[1f32, 5.0], &[0f32; 5]),
        )
        .attr("n_targets", Attr::Int(3)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{eval, ops::classic::tree_ensemble::TREE_ENSEMBLE};
    use engine_format::Attrs;

    /// The message for a forest in which one operand was replaced.
    fn refused(operand: usize, tensor: Tensor) -> String {
        let x = Tensor::from_slice(&[1, 2], &[0f32, 0.0]);
        let mut inputs = forest(x, &[1f32, 5.0], &[0f32; 5]);
        inputs[operand] = tensor;
        let attrs = Attrs::from([("n_targets".to_owned(), Attr::Int(2))]);
        let attrs = TREE_ENSEMBLE.normalise(attrs).unwrap();
        let inputs: Vec<_> = inputs.into_iter().map(Some).collect();
        eval(&TREE_ENSEMBLE, &attrs, &inputs, 1).unwrap_err().to_string()
    }

    #[test]
    fn trees_that_lead_astray_are_refused() {
        let nodes = |v: [i32; 8]| Tensor::from_slice(&[2, 4], &v);
        let circle = refused(1, nodes([0, 0, 1, -1, 0, 0, 0, -1]));
        assert!(circle.contains("node 1 leads to node 0"), "{circle}");
        let own = refused(1, nodes([0, 0, 0, 0, 0, 0, -1, -1]));
        assert!(own.contains("node 0 leads to node 0"), "{own}");
        let node = refused(1, nodes([0, 0, 9, 9, 0, 0, -1, -1]));
        assert!(node.contains("node 9 of a tree, but there are 2"), "{node}");
        let feature = refused(1, nodes([7, 0, -1, -1, 0, 0, -1, -1]));
        assert!(feature.contains("feature 7 of a tree, but there are 2"), "{feature}");
        let leaf = refused(3, Tensor::from_slice(&[1], &[-9]));
        assert!(leaf.contains("leaf 8 of a tree, but there are 4"), "{leaf}");
        let target = refused(5, Tensor::from_slice(&[5], &[0, 4, 0, 0, 4]));
        assert!(target.contains("target 4 of a tree, but there are 2"), "{target}");
        let starts = refused(4, Tensor::from_slice(&[5], &[0, 9, 1, 9, 5]));
        assert!(starts.contains("of a tree"), "{starts}");
    }
}
