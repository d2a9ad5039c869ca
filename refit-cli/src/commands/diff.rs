//! `refit diff`: compares two engines.

use super::open_engine;
use crate::args::Diff;
use crate::failure::{Class, Failure};
use crate::output::{give, say};
use refit::EngineDiff;

pub fn run(args: Diff) -> Result<(), Failure> {
    let diff = refit::diff(&open_engine(&args.a)?, &open_engine(&args.b)?);
    let what = format!("{} and {} differ", args.a.display(), args.b.display());
    let failure = (!diff.is_empty()).then(|| Failure::new(Class::Different, what));
    give(&diff, failure, || print(&diff))
}

fn print(diff: &EngineDiff) {
    let EngineDiff { flags, graph, nodes, changed, retyped, only_in_a, only_in_b, unknown } = diff;
    if let Some(flags) = flags {
        say!("flags      {:?} | {:?}", flags.a, flags.b);
    }
    for part in graph {
        say!("graph      {part}");
    }
    for node in nodes {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "not there".to_owned());
        say!("node       {} {}: {} | {}", node.program, node.node, side(&node.a), side(&node.b));
    }
    for weight in changed {
        let number =
            |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |v| format!("{v:.3e}"));
        say!(
            "changed    {}: {} of {} elements, max {}, mean {}",
            weight.name,
            weight.elements,
            weight.of,
            number(weight.max_abs),
            number(weight.mean_abs)
        );
    }
    for weight in retyped {
        say!("retyped    {}: {} | {}", weight.name, weight.a, weight.b);
    }
    for (label, names) in [("only in A", only_in_a), ("only in B", only_in_b), ("unknown", unknown)]
    {
        names.iter().for_each(|name| say!("{label:<10} {name}"));
    }
    if diff.is_empty() {
        say!("no difference");
    }
}
