//! What is built for this program is what is built for the tests.

use crate::root;
use std::collections::BTreeSet;
use std::process::Command;

/// Every package that cargo builds of a selection of this workspace, with its version and features.
fn packages(selection: &[&str], edges: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--format", "{p} {f}", "--edges", edges])
        .args(selection)
        .current_dir(root())
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree ended with {}: {said}", output.status);
    let text = String::from_utf8(output.stdout).expect("names of packages are UTF-8");
    // Behind a package that was listed before stands a mark.
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

/// `cargo xtask` and `cargo doc` select other packages than `cargo test --workspace` does, and cargo builds a package, and all that depends on it, once for each set
/// of features that a selection comes to.
#[test]
fn nothing_is_built_twice_for_other_features() {
    let tests = packages(&["--workspace"], "normal,build,dev");
    for selection in [&["--workspace"][..], &["--package", "xtask"]] {
        let built = packages(selection, "normal,build");
        assert!(built.len() > 100, "{} packages", built.len());
        let other: Vec<_> = built.difference(&tests).collect();
        assert!(other.is_empty(), "with other features than in the tests: {other:?}");
    }
}
