//! What PyTorch's exporter writes of where a node comes from: the module, the parameters that were read there, and what its rewriting did.

use std::collections::{BTreeMap, BTreeSet};

/// Origins by the path of a node.
pub(crate) type Origins = BTreeMap<String, Origin>;

/// Where a node comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The steps of the path of the module.
    pub(crate) module: Vec<String>,
    /// The parameters and buffers that the framework's operator reads, as its graph calls them: `layer1_0_bn1_weight`.
    pub(crate) reads: BTreeSet<String>,
    /// The values that the call takes in its order, as the framework's graph calls them: `add_4`, `p_layer1_0_bn1_weight`.
    pub(crate) arguments: Vec<String>,
    /// The framework's operator: `torch.ops.aten.group_norm.default`.
    pub(crate) target: String,
    /// Whether a bias was taken away because it held only zeros.
    pub(crate) lost_bias: bool,
}

impl Origin {
    /// What a node's metadata says; `None` if it says nothing of its origin.
    pub(crate) fn of(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let scopes = metadata.get("pkg.torch.onnx.name_scopes")?;
        let call = metadata.get("pkg.torch.onnx.fx_node")?;
        let rules = metadata.get("pkg.onnxscript.rewriter.rule_name");
        // A list of paths, from the outermost module to the operator itself.
        let inner = scopes.trim().strip_prefix('[')?.strip_suffix(']')?;
        let paths: Vec<&str> =
            inner.split(", ").map(|path| path.trim_matches(['\'', '"'])).collect();
        let module = match paths.as_slice() {
            [.., module, _operator] => module.split('.').filter(|step| !step.is_empty()),
            _ => return None,
        };
        let target = call.split_once("[target=").and_then(|(_, rest)| rest.split_once(']'));
        Some(Self {
            module: module.map(str::to_owned).collect(),
            reads: reads(call),
            arguments: arguments(call).map(str::to_owned).collect(),
            target: target.map_or_else(String::new, |(target, _)| target.to_owned()),
            lost_bias: rules.is_some_and(|rules| rules.contains("RemoveOptionalBias")),
        })
    }
}

/// The parameters `%p_…` and buffers `%b_…` among the arguments of a call.
fn reads(call: &str) -> BTreeSet<String> {
    let named = arguments(call)
        .filter_map(|name| name.strip_prefix("p_").or_else(|| name.strip_prefix("b_")));
    named.map(str::to_owned).collect()
}

/// The names of the values among the arguments of a call, behind that of its own result.
fn arguments(call: &str) -> impl Iterator<Item = &str> {
    call.split('%').skip(2).map(|operand| {
        let end = operand.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &operand[..end.unwrap_or(operand.len())]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_from_metadata() {
        let entry = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let metadata: BTreeMap<String, String> = [
            ("pkg.torch.onnx.name_scopes", "['', 'layer1', 'layer1.0', 'layer1.0.bn1', '_native_batch_norm_legit_no_training_1']"),
            (
                "pkg.torch.onnx.fx_node",
                "%_native_batch_norm_legit_no_training_1 : [num_users=1] = call_function[target=torch.ops.aten._native_batch_norm_legit_no_training.default](args = (%conv2d_1, %p_layer1_0_bn1_weight, %b_layer1_0_bn1_running_mean, 0.1), kwargs = {})",
            ),
            ("pkg.onnxscript.rewriter.rule_name", "FuseBatchNormIntoConv, RemoveOptionalBiasFromConv"),
        ]
        .into_iter()
        .map(entry)
        .collect();
        let origin = Origin::of(&metadata).unwrap();
        assert_eq!(origin.module, ["layer1", "0", "bn1"]);
        assert_eq!(
            origin.arguments,
            ["conv2d_1", "p_layer1_0_bn1_weight", "b_layer1_0_bn1_running_mean"]
        );
        assert_eq!(
            origin.reads.iter().collect::<Vec<_>>(),
            ["layer1_0_bn1_running_mean", "layer1_0_bn1_weight"]
        );
        assert!(origin.lost_bias && origin.target.contains("native_batch_norm"));
        assert_eq!(Origin::of(&BTreeMap::new()), None);
    }
}
