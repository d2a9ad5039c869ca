//! Runs every pass over the texts in `cases/PASS.txt`: each case is a graph, a line `----`, and the graph after the
//! pass. `cases/exporters.txt` holds blocks as exporters write them, for all passes together. `REFIT_BLESS=1 cargo test -p engine-builder` writes what comes out into the files; the diff is the review.

use super::{FINISH, FIXED, Pass, ROUND, SIMPLIFY, apply, optimise};
use crate::graph::parse::parse;
use crate::report::Notes;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Between the graph before and the graph after.
const ARROW: &str = "----\n";

/// Begins a case and its title.
const TITLE: &str = "==== ";

fn passes() -> BTreeMap<&'static str, &'static Pass> {
    let round = ROUND.iter().map(|(_, pass)| pass);
    FIXED.iter().chain(SIMPLIFY).chain(FINISH).chain(round).map(|pass| (pass.name, pass)).collect()
}

fn after(pass: &Pass, before: &str) -> String {
    let mut graph = parse(before);
    graph.verify().unwrap();
    apply(pass, &mut graph, &mut Notes::default()).unwrap();
    let once = graph.to_string();
    assert!(
        !apply(pass, &mut graph, &mut Notes::default()).unwrap(),
        "{} found more on a second look:\n{once}",
        pass.name
    );
    once
}

/// Holds the cases of one file to what `after` makes of them.
fn hold(name: &str, after: impl Fn(&str) -> String) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/passes/cases");
    let bless = std::env::var_os("REFIT_BLESS").is_some();
    let path = folder.join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let mut wrong = Vec::new();
    let mut blessed = String::new();
    let mut cases = 0;
    for case in text.split(TITLE).filter(|case| !case.trim().is_empty()) {
        let (title, body) = case.split_once('\n').unwrap();
        let (before, expected) = body.split_once(ARROW).unwrap_or((body, ""));
        let found = after(before);
        if found.trim() != expected.trim() {
            wrong.push(format!("{name}: {title}\nexpected:\n{expected}\nfound:\n{found}"));
        }
        cases += 1;
        let gap = if blessed.is_empty() { "" } else { "\n" };
        blessed += &format!("{gap}{TITLE}{title}\n{}\n{ARROW}{found}", before.trim_end());
    }
    assert!(cases > 0, "{path:?} has no cases");
    if bless {
        std::fs::write(&path, blessed).unwrap();
    }
    assert!(bless || wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn passes_do_what_their_texts_show() {
    for (name, pass) in passes() {
        hold(name, |before| after(pass, before));
    }
}

#[test]
fn what_exporters_write_is_fused() {
    hold("exporters", |before| {
        let mut graph = parse(before);
        graph.verify().unwrap();
        optimise(&mut graph, false, &mut Notes::default()).unwrap();
        graph.to_string()
    });
}
