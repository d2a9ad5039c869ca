//! Module paths: how names of nodes, initializers and checkpoint tensors speak of the same module.

/// The steps of a dotted name: `encoder.layer.0.weight`.
pub(super) fn steps(name: &str) -> Vec<&str> {
    name.split(['.', '/']).filter(|step| !step.is_empty()).collect()
}

/// The module of a tensor or module: its name without the last step.
pub(super) fn module(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(module, _)| module)
}

/// The module around that of a tensor.
pub(super) fn around(tensor: &str) -> &str {
    module(module(tensor))
}

/// The module of a node called as PyTorch's exporters do, `/encoder/layer.0/layer.0.1/MatMul_3`: one segment for each
/// module, one for the operator. A module in a list is called after its list too, and a list inside a list repeats the outer
/// one's name. `None` for other names, which say nothing.
pub(super) fn module_of_node(node: &str) -> Option<Vec<String>> {
    let segments: Vec<&str> = node.strip_prefix('/')?.split('/').collect();
    let (_operator, modules) = segments.split_last()?;
    let mut steps = Vec::new();
    for (i, segment) in modules.iter().enumerate() {
        let repeated =
            |next: &&str| next.strip_prefix(segment).is_some_and(|rest| rest.starts_with('.'));
        if modules.get(i + 1).is_none_or(|next| !repeated(next)) {
            steps.extend(segment.split('.').map(str::to_owned));
        }
    }
    Some(steps)
}

/// How many steps two paths have in common from the end, if one of them ends with the whole of the other: a model may be
/// wrapped (`inner.encoder…`), and so may a checkpoint (`bert.encoder…`).
pub(super) fn agreement<A: AsRef<str>, B: AsRef<str>>(a: &[A], b: &[B]) -> Option<usize> {
    let pairs = a.iter().rev().zip(b.iter().rev());
    let common = pairs.take_while(|(a, b)| a.as_ref() == b.as_ref()).count();
    (common == a.len().min(b.len())).then_some(common)
}

/// What operators call their operands, in the words of PyTorch's modules: operator, operand, names.
static ROLES: &[(&str, usize, &[&str])] = &[
    ("BatchNormalization", 1, &["weight"]),
    ("BatchNormalization", 2, &["bias"]),
    ("BatchNormalization", 3, &["running_mean"]),
    ("BatchNormalization", 4, &["running_var"]),
    ("InstanceNormalization", 1, &["weight"]),
    ("InstanceNormalization", 2, &["bias"]),
    ("LayerNormalization", 1, &["weight", "gamma"]),
    ("LayerNormalization", 2, &["bias", "beta"]),
    ("GroupNormalization", 1, &["weight"]),
    ("GroupNormalization", 2, &["bias"]),
    ("RMSNormalization", 1, &["weight"]),
    ("Conv", 1, &["weight"]),
    ("Conv", 2, &["bias"]),
    ("ConvTranspose", 1, &["weight"]),
    ("ConvTranspose", 2, &["bias"]),
    ("Gemm", 1, &["weight"]),
    ("Gemm", 2, &["bias"]),
    ("MatMul", 0, &["weight"]),
    ("MatMul", 1, &["weight"]),
    ("Gather", 0, &["weight"]),
    ("PRelu", 1, &["weight"]),
    ("Mul", 0, &["weight", "gamma"]),
    ("Mul", 1, &["weight", "gamma"]),
    ("Add", 0, &["bias", "beta"]),
    ("Add", 1, &["bias", "beta"]),
];

/// Whether an operand is called `leaf`; `None` if the operator or the name is not known.
pub(super) fn is_role(op: &str, operand: usize, leaf: &str) -> Option<bool> {
    let known = ROLES.iter().any(|(.., names)| names.contains(&leaf));
    let (.., names) = ROLES.iter().find(|(o, i, _)| *o == op && *i == operand)?;
    known.then(|| names.contains(&leaf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_nodes() {
        let module = |node: &str| module_of_node(node).map(|steps| steps.join("."));
        assert_eq!(module("/conv1/Conv").as_deref(), Some("conv1"));
        assert_eq!(module("/Flatten").as_deref(), Some(""));
        assert_eq!(
            module("/layer1/layer1.0/bn1/BatchNormalization").as_deref(),
            Some("layer1.0.bn1")
        );
        assert_eq!(
            module("/features/features.0/features.0.1/Conv").as_deref(),
            Some("features.0.1")
        );
        assert_eq!(
            module("/inner/encoder/layer.0/attention/self/query/MatMul").as_deref(),
            Some("inner.encoder.layer.0.attention.self.query")
        );
        assert_eq!(module("/layer.1/layer.10/Mul").as_deref(), Some("layer.1.layer.10"));
        assert_eq!(module("node_MatMul_3"), None);
    }

    #[test]
    fn paths_agree_from_the_end() {
        let agree = |a: &str, b: &str| agreement(&steps(a), &steps(b));
        assert_eq!(agree("inner.encoder.weight", "encoder.weight"), Some(2));
        assert_eq!(agree("encoder.weight", "bert.encoder.weight"), Some(2));
        assert_eq!(agree("encoder.weight", "decoder.weight"), None);
        assert_eq!(agree("", "decoder"), Some(0));
    }

    #[test]
    fn roles() {
        assert_eq!(is_role("BatchNormalization", 4, "running_var"), Some(true));
        assert_eq!(is_role("BatchNormalization", 4, "weight"), Some(false));
        assert_eq!(is_role("MatMul", 1, "in_proj_weight"), None);
        assert_eq!(is_role("Sub", 1, "weight"), None);
    }
}
