//! What the names of a source mean to an engine, in a checkpoint and in a model file.

use crate::{Alias, Engine, Naming};
use std::collections::BTreeMap;

/// What a name of the source stands for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Meaning {
    /// Index of a weight.
    Weight(usize),
    /// Index of a source literal.
    Literal(usize),
    /// Part of one or more views.
    Part,
    /// Something that the exporter made and called as a weight is; index of that weight.
    Calculated(usize),
    Ignored,
    /// One thing in the checkpoint and another in the model, where it has to be the same.
    Torn,
}

/// What every name that a source may bring means. A weight's own name that is also ignored or part of a view is the weight in a
/// checkpoint; in a model file it is what the exporter made of it or the part.
pub(crate) struct Meanings<'a> {
    in_checkpoints: BTreeMap<&'a str, Meaning>,
    in_models: BTreeMap<&'a str, Meaning>,
}

impl<'a> Meanings<'a> {
    pub(crate) fn of(engine: &'a Engine) -> Self {
        let parts = engine.parts();
        let rows = || parts.weights.iter().enumerate();
        let own: BTreeMap<&str, usize> = rows().map(|(i, w)| (w.name.as_str(), i)).collect();
        let aliases = || rows().flat_map(|(i, w)| w.aliases.iter().map(move |alias| (i, alias)));
        let plain = aliases().filter_map(|(i, alias)| match alias {
            Alias::Name(name) => Some((name.as_str(), Meaning::Weight(i))),
            Alias::View(_) => None,
        });
        let literals = parts.source_literals.iter().enumerate();
        let literals = literals.map(|(i, literal)| (literal.name.as_str(), Meaning::Literal(i)));
        let everywhere: BTreeMap<&str, Meaning> = plain.chain(literals).collect();
        let views = aliases().filter(|(_, alias)| matches!(alias, Alias::View(_)));
        let views: BTreeMap<&str, Meaning> =
            views.flat_map(|(_, view)| view.names().map(|name| (name, Meaning::Part))).collect();
        let weights = own.iter().map(|(&name, &i)| (name, Meaning::Weight(i)));
        let ignored = || parts.ignored.iter().map(String::as_str);
        let passed_over = ignored().map(|name| (name, Meaning::Ignored));
        let made = ignored().map(|name| {
            (name, own.get(name).map_or(Meaning::Ignored, |&i| Meaning::Calculated(i)))
        });
        // What comes last prevails.
        let all = || everywhere.clone().into_iter();
        Self {
            in_checkpoints: (views.clone().into_iter())
                .chain(passed_over)
                .chain(all())
                .chain(weights.clone())
                .collect(),
            in_models: weights.chain(all()).chain(made).chain(views).collect(),
        }
    }

    /// What a name means.
    pub(crate) fn meaning(&self, name: &str, naming: Naming) -> Option<Meaning> {
        let (checkpoint, model) = (self.in_checkpoints.get(name), self.in_models.get(name));
        let meaning = match naming {
            Naming::Checkpoint => checkpoint,
            Naming::Model => model,
            Naming::Both if checkpoint == model && checkpoint != Some(&Meaning::Part) => model,
            Naming::Both => Some(&Meaning::Torn),
        };
        meaning.copied()
    }
}
