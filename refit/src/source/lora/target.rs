//! Which tensors of a base an adapter's names mean.

use std::collections::BTreeMap;
use std::fmt;

/// What stands in front of a name in the base or in the adapter alone, because the one or the other was wrapped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrapped {
    /// The base's names have it in front.
    Base(String),
    /// The adapter's names do.
    Adapter(String),
}

impl Wrapped {
    fn prefix(&self) -> &str {
        let (Wrapped::Base(prefix) | Wrapped::Adapter(prefix)) = self;
        prefix
    }

    /// Whether it is a layer in a list, which is more than what wraps a model: `layers.0.`, but not `0.`.
    fn is_layer(&self) -> bool {
        let number = |step: &str| !step.is_empty() && step.bytes().all(|c| c.is_ascii_digit());
        self.prefix().split('.').skip(1).any(number)
    }

    /// An adapter's name in the base.
    fn name(&self, of: &str) -> String {
        match self {
            Wrapped::Base(prefix) => format!("{prefix}{of}"),
            Wrapped::Adapter(prefix) => of.strip_prefix(prefix.as_str()).unwrap_or(of).to_owned(),
        }
    }
}

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrapped::Base(prefix) => write!(f, "{prefix:?} in front of the base's names"),
            Wrapped::Adapter(prefix) => write!(f, "{prefix:?} in front of the adapter's names"),
        }
    }
}

/// A tensor that an adapter concerns.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    /// Its name by the adapter.
    pub(super) name: String,
    /// What it is called in messages.
    pub(super) label: &'a str,
    /// Whether the base need not have it.
    pub(super) may_be_new: bool,
}

/// The names in the base of what an adapter wants, in the same order.
///
/// A name is the base's own; or one name of the base ends with it, or it ends with one, since a checkpoint may be wrapped
/// (`bert.encoder…`) and so may the model that was adapted. What wraps is one thing for the whole adapter: two modules that would
/// need different prefixes belong to another model, and so do two that mean one tensor.
///
/// Gives `None` for what has none, and every problem.
pub(super) fn targets(
    base: &[String],
    wanted: &[Wanted<'_>],
) -> (Vec<Option<String>>, Vec<String>) {
    let mut problems = Vec::new();
    let mut found: Vec<Option<String>> = Vec::new();
    let mut wrapped = BTreeMap::<Wrapped, &str>::new();
    for Wanted { name, label, may_be_new } in wanted {
        let alike = alike(base, name);
        let target = match alike.as_slice() {
            [(target, how)] => {
                if let Some(how) = how {
                    wrapped.entry(how.clone()).or_insert(label);
                }
                Some((*target).to_owned())
            }
            [] if *may_be_new => None,
            [] => {
                problems.push(format!("{label}: no weight is called {name:?}"));
                None
            }
            several => {
                let several: Vec<_> = several.iter().map(|(name, _)| format!("{name:?}")).collect();
                problems.push(format!("{label}: {name:?} may be {}", several.join(" or ")));
                None
            }
        };
        found.push(target);
    }
    problems.extend(wrapped.iter().filter(|(how, _)| how.is_layer()).map(|(how, label)| {
        format!("{label}: it is found only by {how}, which is a layer in a list and no wrapper")
    }));
    if wrapped.len() > 1 {
        let each: Vec<_> = wrapped.iter().map(|(how, label)| format!("{how} ({label})")).collect();
        problems.push(format!(
            "expected one prefix for all modules, found {}: the adapter is one of another model",
            each.join(", ")
        ));
    }
    let wrapper = wrapped.keys().next();
    for (target, Wanted { name, may_be_new, .. }) in found.iter_mut().zip(wanted) {
        if target.is_none() && *may_be_new {
            *target = Some(wrapper.map_or_else(|| name.clone(), |how| how.name(name)));
        }
    }
    let mut first = BTreeMap::new();
    for (target, Wanted { label, .. }) in found.iter().zip(wanted) {
        let Some(target) = target else { continue };
        if let Some(before) = first.insert(target, label) {
            problems.push(format!("{before} and {label} both mean {target:?}"));
        }
    }
    (found, problems)
}

/// The names of the base that `name` may mean, and what wraps them: its own if it is there.
fn alike<'a>(base: &'a [String], name: &str) -> Vec<(&'a str, Option<Wrapped>)> {
    if let Some(exact) = base.iter().find(|own| *own == name) {
        return vec![(exact, None)];
    }
    let prefix = |long: &str, short: &str| {
        let prefix = long.strip_suffix(short).filter(|prefix| prefix.ends_with('.'));
        prefix.map(str::to_owned)
    };
    let one = |own: &'a String| {
        let of_base = prefix(own, name).map(Wrapped::Base);
        let how = of_base.or_else(|| prefix(name, own).map(Wrapped::Adapter))?;
        Some((own.as_str(), Some(how)))
    };
    base.iter().filter_map(one).collect()
}
