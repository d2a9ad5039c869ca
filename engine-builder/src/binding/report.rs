//! What was bound, what was not, and why.

use super::Initializer;
use super::index::Index;
use super::pair::{Decision, by_name};
use super::recipe::Recipe;
use super::search::is_weak;
use engine_format::TensorInfo;
use std::collections::BTreeSet;
use std::fmt;

/// What [`build_bound`](crate::build_bound) found. `Display` writes it for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingReport {
    /// Where the checkpoint comes from.
    pub checkpoint: String,
    /// Initializers that are tensors of the checkpoint, or made of them.
    pub bound: Vec<BoundTo>,
    /// Weights that are not in the checkpoint, and parameters that may be.
    pub unbound: Vec<Unbound>,
    /// Tensors of the checkpoint that the model does not use; sources may bring them, sorted.
    pub unused: Vec<String>,
    /// Modules of batch norm of which nothing is in the model: an exporter folded them into the weights in front.
    pub folded: Vec<String>,
}

/// An initializer and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundTo {
    /// Name in the model.
    pub initializer: String,
    /// The node it stands there for, if equal tensors were merged into the initializer.
    pub node: Option<String>,
    /// The checkpoint's tensor, or tensors and what is done to them.
    pub tensor: String,
    /// Whether anything is done to it.
    pub transformed: bool,
}

/// An initializer without a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbound {
    /// Name in the model.
    pub initializer: String,
    /// Its type.
    pub info: TensorInfo,
    /// Whether it is small enough to be a parameter, which a checkpoint need not have.
    pub parameter: bool,
    /// Why it has none.
    pub why: Why,
}

/// Why an initializer was not bound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// No tensor of the checkpoint has its contents, in any order of axes, as a part or joined with others.
    NotFound,
    /// A tensor of its name is there, with other contents.
    OtherValues {
        /// The tensor.
        tensor: String,
    },
    /// Several have its contents, or one has contents that prove too little, and nothing tells them apart.
    Ambiguous {
        /// The tensors, or what would have to be done to them.
        candidates: Vec<String>,
    },
    /// The map says so.
    Own,
}

impl Why {
    /// Several recipes fit.
    pub(super) fn ambiguous(recipes: &[Recipe]) -> Self {
        let candidates: BTreeSet<String> = recipes.iter().map(ToString::to_string).collect();
        Self::Ambiguous { candidates: candidates.into_iter().collect() }
    }

    /// Whether only the caller can decide.
    pub(super) fn needs_map(&self) -> bool {
        matches!(self, Why::Ambiguous { .. })
    }
}

impl Unbound {
    /// Whether a checkpoint could not refit the engine because of it.
    pub(super) fn is_error(&self) -> bool {
        match self.why {
            Why::NotFound => !self.parameter,
            Why::OtherValues { .. } | Why::Ambiguous { .. } => true,
            Why::Own => false,
        }
    }
}

impl BindingReport {
    /// Whether the initializer keeps the model's value for good.
    pub(super) fn pins(&self, initializer: &str) -> bool {
        let mut unbound = self.unbound.iter();
        unbound.any(|u| u.initializer == initializer && (u.is_error() || u.why == Why::Own))
    }
}

/// The report on all decisions.
pub(super) fn report(
    initializers: &[Initializer],
    decisions: &[Decision],
    index: &Index<'_>,
    unused: &BTreeSet<String>,
) -> BindingReport {
    let mut report = BindingReport {
        checkpoint: index.origin(),
        unused: unused.iter().cloned().collect(),
        folded: folded(unused),
        ..BindingReport::default()
    };
    for (initializer, decision) in initializers.iter().zip(decisions) {
        match decision {
            Decision::Stands(stands) => {
                report.bound.extend(stands.recipes.iter().map(|(place, recipe)| BoundTo {
                    initializer: initializer.name.clone(),
                    node: place.as_ref().map(|place| place.node.clone()),
                    tensor: recipe.to_string(),
                    transformed: recipe.as_is().is_none(),
                }));
            }
            Decision::Not(why) => {
                let why = match why {
                    Why::NotFound => other_values(initializer, index),
                    why => why.clone(),
                };
                if initializer.parameter && why == Why::NotFound {
                    continue;
                }
                report.unbound.push(Unbound {
                    initializer: initializer.name.clone(),
                    info: initializer.info(),
                    parameter: initializer.parameter,
                    why,
                });
            }
        }
    }
    report
}

/// A tensor whose name the initializer bears, if there is one: that it was not bound means other contents.
fn other_values(initializer: &Initializer, index: &Index<'_>) -> Why {
    let exact = index.info(&initializer.name).map(|_| initializer.name.clone());
    let alike = || {
        let mut names = index.infos().filter(|(name, info)| {
            by_name(&initializer.name, name).is_some_and(|common| common > 1)
                && info.shape == initializer.tensor.shape()
        });
        let first = names.next();
        first
            .filter(|_| names.next().is_none() && !is_weak(&initializer.tensor))
            .map(|(name, _)| name.to_owned())
    };
    match exact.or_else(alike) {
        Some(tensor) => Why::OtherValues { tensor },
        None => Why::NotFound,
    }
}

/// Modules of which the running mean and the running variance are both unused.
fn folded(unused: &BTreeSet<String>) -> Vec<String> {
    let module = |name: &String| {
        let module = name.strip_suffix(".running_mean")?;
        unused.contains(&format!("{module}.running_var")).then(|| module.to_owned())
    };
    unused.iter().filter_map(module).collect()
}

/// Names shown of a long list.
const SHOWN: usize = 8;

fn list(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        n if n > SHOWN => format!("{shown} and {} more", n - SHOWN),
        _ => shown,
    }
}

impl fmt::Display for BindingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transformed = self.bound.iter().filter(|bound| bound.transformed).count();
        write!(
            f,
            "{}: {} bound, {transformed} of them through a transform, {} not bound",
            self.checkpoint,
            self.bound.len(),
            self.unbound.len()
        )?;
        for bound in &self.bound {
            if bound.tensor == bound.initializer {
                continue;
            }
            write!(f, "\n  bound {}", bound.initializer)?;
            if let Some(node) = &bound.node {
                write!(f, " at {node}")?;
            }
            write!(f, " = {}", bound.tensor)?;
        }
        for unbound in &self.unbound {
            write!(f, "\n  not bound {} {}: {}", unbound.initializer, unbound.info, unbound.why)?;
        }
        if !self.unused.is_empty() {
            write!(f, "\n  not used by the model, accepted from sources: {}", list(&self.unused))?;
        }
        if !self.folded.is_empty() && !self.unbound.is_empty() {
            write!(f, "\n{}", Folded(&self.folded))?;
        }
        Ok(())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NotFound => f.write_str(
                "nothing in the checkpoint has its contents, whole, permuted, as a part or joined",
            ),
            Why::OtherValues { tensor } => write!(
                f,
                "{tensor} of the checkpoint has other contents: something was folded into it, or the model was exported \
                 from other weights"
            ),
            Why::Ambiguous { candidates } => write!(
                f,
                "it may be {}; say which in a map (--bind), or that it is none of them",
                list(candidates)
            ),
            Why::Own => f.write_str("the map leaves it with the model's value"),
        }
    }
}

/// The advice on batch norm that an exporter folded.
struct Folded<'a>(&'a [String]);

impl fmt::Display for Folded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} batch norms of the checkpoint are not in the model ({}): the exporter folded them into the weights in front, \
             and no checkpoint can refit what was mixed. Export without folding; nothing is lost, the same folding runs at \
             refit:\n  torch.onnx.export(model.eval(), ..., dynamo=False, do_constant_folding=False, \
             training=torch.onnx.TrainingMode.PRESERVE)\n  torch.onnx.export(model.eval(), ..., dynamo=True, optimize=False)",
            self.0.len(),
            list(self.0)
        )
    }
}
