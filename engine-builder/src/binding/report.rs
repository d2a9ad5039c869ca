//! What was bound, what was not, and why.

use super::index::Index;
use super::pair::{Decision, by_name};
use super::recipe::Recipe;
use super::search::is_weak;
use super::{Initializer, constants, path, unclaimed};
use engine_format::TensorInfo;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What [`build_bound`](crate::build_bound) found. `Display` writes it for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BindingReport {
    /// Where the checkpoint comes from.
    pub checkpoint: String,
    /// Initializers that are tensors of the checkpoint, or made of them.
    pub bound: Vec<BoundTo>,
    /// Constants of the model that are part of the program.
    pub kept: Vec<Kept>,
    /// Open questions: what may be weights and is not known how.
    pub unbound: Vec<Unbound>,
    /// Tensors of the checkpoint that the model does not use; sources may bring them, sorted.
    pub unused: Vec<String>,
    /// Tensors under other names of the checkpoint than the model's, and the bound one that each is tied to: a source may bring either
    /// name, and both only with the same contents.
    pub tied: BTreeMap<String, String>,
    /// Tensors that the model does without although it uses their modules: an exporter drops what adds nothing and computes equal
    /// things once, and a refit with other values would go unnoticed. Open questions too.
    pub lost: Vec<String>,
    /// Modules of batch norm of which nothing is in the model: an exporter folded them into the weights in front.
    pub folded: Vec<String>,
}

/// An initializer and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BoundTo {
    /// Name in the model.
    pub initializer: String,
    /// The node it stands there for, if equal tensors were merged into the initializer.
    pub node: Option<String>,
    /// The checkpoint's tensor, or tensors and what is done to them.
    pub tensor: String,
    /// Whether anything is done to it.
    pub transformed: bool,
    /// Whether it is calculated of tensors, so that the model's own tensor cannot fill them.
    pub computed: bool,
}

/// A constant that nobody learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Name in the model.
    pub initializer: String,
    /// Its type.
    #[serde(serialize_with = "as_text")]
    pub info: TensorInfo,
    /// Why it is nobody's weight.
    #[serde(serialize_with = "as_text")]
    pub reason: Reason,
}

/// Why a constant is nobody's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The map says so.
    Mapped,
    /// The caller asked to take the model's word for it.
    Asked,
    /// Whole numbers, truth values or text.
    Whole,
    /// It holds few plain numbers, and of the checkpoint nothing is left over that it could have been made of.
    Plain,
    /// It follows a formula, and of the checkpoint nothing small is left over that the formula could have been given.
    Formula,
    /// Every float of the checkpoint is bound, and it has a size that none of them has: it was not made of them alone. And it is no
    /// operand that layers learn, which a checkpoint that is a part of a whole may lack.
    NothingLeft,
    /// Another export of the model, from other weights, has the same.
    EqualInOther,
}

/// An initializer that may be a weight, and is not known how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unbound {
    /// Name in the model.
    pub initializer: String,
    /// Its type.
    #[serde(serialize_with = "as_text")]
    pub info: TensorInfo,
    /// Why it was not bound.
    #[serde(serialize_with = "as_text")]
    pub why: Why,
}

/// Why an initializer was not bound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// No tensor of the checkpoint has its contents, and nothing that exporters make of tensors gives them.
    NotFound {
        /// Tensors of the checkpoint that nothing was bound to, of which it may have been made.
        suspects: Vec<String>,
    },
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
    /// It is no weight.
    Constant(Reason),
}

impl Why {
    /// Not found, and nothing known yet of what it may have been made of.
    pub(super) fn not_found() -> Self {
        Self::NotFound { suspects: Vec::new() }
    }

    /// Several recipes fit.
    pub(super) fn ambiguous(recipes: &[Recipe]) -> Self {
        let candidates: BTreeSet<String> = recipes.iter().map(ToString::to_string).collect();
        Self::Ambiguous { candidates: candidates.into_iter().collect() }
    }
}

/// As people read it.
fn as_text<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// The report on all decisions.
pub(super) fn report(
    initializers: &[Initializer],
    decisions: &[Decision],
    index: &Index<'_>,
) -> BindingReport {
    let unused: Vec<String> =
        unclaimed(index, decisions).map(|(name, _)| name.to_owned()).collect();
    let mut report = BindingReport {
        checkpoint: index.origin(),
        folded: folded(&unused, decisions),
        unused,
        ..BindingReport::default()
    };
    for (initializer, decision) in initializers.iter().zip(decisions) {
        let name = || initializer.name.clone();
        match decision {
            Decision::Stands(stands) => {
                report.bound.extend(stands.recipes.iter().map(|(place, recipe)| BoundTo {
                    initializer: name(),
                    node: place.as_ref().map(|place| place.node.clone()),
                    tensor: recipe.to_string(),
                    transformed: recipe.as_is().is_none(),
                    computed: matches!(recipe, Recipe::Computed(_)),
                }));
            }
            Decision::Not(Why::Constant(reason)) => {
                report.kept.push(Kept {
                    initializer: name(),
                    info: initializer.info(),
                    reason: *reason,
                });
            }
            Decision::Not(why) => {
                let other = match why {
                    Why::NotFound { .. } => other_values(initializer, index),
                    _ => None,
                };
                let why = other.unwrap_or_else(|| why.clone());
                report.unbound.push(Unbound { initializer: name(), info: initializer.info(), why });
            }
        }
    }
    report
}

/// A tensor whose name the initializer bears, if there is one: that it was not bound means other contents.
fn other_values(initializer: &Initializer, index: &Index<'_>) -> Option<Why> {
    let exact = index.info(&initializer.name).map(|_| initializer.name.clone());
    let alike = || {
        let mut names = index.infos().filter(|(name, info)| {
            by_name(&initializer.name, name).is_some_and(|(_, common)| common > 1)
                && info.shape == initializer.tensor.shape()
        });
        let first = names.next();
        first
            .filter(|_| names.next().is_none() && !is_weak(&initializer.tensor))
            .map(|(name, _)| name.to_owned())
    };
    exact.or_else(alike).map(|tensor| Why::OtherValues { tensor })
}

/// Modules of which the running mean and the running variance are both unused, and nothing that lies in them or around them shows
/// that the model does without.
fn folded(unused: &[String], decisions: &[Decision]) -> Vec<String> {
    let open = decisions
        .iter()
        .any(|decision| matches!(decision, Decision::Not(why) if !matches!(why, Why::Constant(_))));
    let used = constants::used_modules(decisions);
    let module = |name: &String| {
        let module = name.strip_suffix("running_mean")?;
        let counts = open || used.contains(path::around(name));
        (counts && unused.contains(&format!("{module}running_var")))
            .then(|| module.trim_end_matches('.').to_owned())
    };
    unused.iter().filter_map(module).collect()
}

/// Names shown of a long list.
const SHOWN: usize = 64;

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
            "{}: {} bound, {transformed} of them through a transform, {} not bound, {} constants of the program",
            self.checkpoint,
            self.bound.len(),
            self.unbound.len(),
            self.kept.len()
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
        for kept in &self.kept {
            write!(f, "\n  constant {} {}: {}", kept.initializer, kept.info, kept.reason)?;
        }
        for unbound in &self.unbound {
            write!(f, "\n  not bound {} {}: {}", unbound.initializer, unbound.info, unbound.why)?;
        }
        for (name, tensor) in &self.tied {
            write!(f, "\n  tied {name} = {tensor}")?;
        }
        if !self.unused.is_empty() {
            write!(f, "\n  not used by the model, accepted from sources: {}", list(&self.unused))?;
        }
        if !self.lost.is_empty() {
            write!(f, "\n{}", Lost(&self.lost))?;
        }
        if !self.folded.is_empty() && !self.unbound.is_empty() {
            write!(f, "\n{}", Folded(&self.folded))?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Mapped => "the map says so",
            Reason::Asked => "the model holds it as a constant, and --pin-unbound takes its word",
            Reason::Whole => "whole numbers are not learned",
            Reason::Plain => {
                "it holds few plain numbers, and nothing is left over that could be in it"
            }
            Reason::Formula => "it follows a formula: frequencies, positions, slopes or a grid",
            Reason::NothingLeft => "every float of the checkpoint is bound, none has its sizes, and no layer reads it as its own",
            Reason::EqualInOther => "the other export, from other weights, has the same",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NotFound { suspects } => {
                f.write_str(
                    "nothing in the checkpoint has its contents, whole, permuted, as a part, joined or through a known function",
                )?;
                match suspects.is_empty() {
                    true => f.write_str(
                        "; it has the name or the place of a weight: give every file of the checkpoint. If no checkpoint will hold it, say \
                         so in a map (--bind): = \"constant\"",
                    ),
                    false => write!(
                        f,
                        "; it may have been made of {}, to which nothing was bound. Prove that it was not with a second export \
                         from other weights (--other), or say in a map (--bind) that it is \"constant\" or that they are \"none\" \
                         of the model's",
                        list(suspects)
                    ),
                }
            }
            Why::OtherValues { tensor } => write!(
                f,
                "{tensor} of the checkpoint has other contents: something was folded into it, or the model was exported \
                 from other weights"
            ),
            Why::Ambiguous { candidates } => write!(
                f,
                "it may be {}; say which in a map (--bind), or that it is a \"constant\"",
                list(candidates)
            ),
            Why::Constant(reason) => fmt::Display::fmt(reason, f),
        }
    }
}

/// The advice on tensors that an exporter dropped.
struct Lost<'a>(&'a [String]);

impl fmt::Display for Lost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tensors are of modules that the model uses, and it does without them ({}): the exporter drops zeros and ones, which change \
             nothing, and calculates once what is equal, so that the values of another checkpoint would have no place. Export \
             without its rewriting, \
             torch.onnx.export(model.eval(), ..., dynamo=True, optimize=False), or say in a map (--bind) that they are \"none\" of the \
             model's",
            self.0.len(),
            list(self.0)
        )
    }
}

/// The advice on batch norm that an exporter folded.
struct Folded<'a>(&'a [String]);

impl fmt::Display for Folded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} batch norms of the checkpoint are not in the model ({}): the exporter folded them into the weights in front \
             in a way that could not be proven. Export without folding; nothing is lost, the same folding runs at \
             refit:\n  torch.onnx.export(model.eval(), ..., dynamo=False, do_constant_folding=False, \
             training=torch.onnx.TrainingMode.PRESERVE)\n  torch.onnx.export(model.eval(), ..., dynamo=True, optimize=False)",
            self.0.len(),
            list(self.0)
        )
    }
}
