//! `cargo xtask api`: the public interface of every crate that is published, held against the one that is kept in `docs/api`.

use crate::workspace;
use miette::{Context, IntoDiagnostic, Result, ensure};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the interfaces are kept, a file a crate.
const FOLDER: &str = "docs/api";

/// Lists each interface with `cargo public-api` and compares, or writes it with `bless`.
pub fn run(root: &Path, bless: bool) -> Result<()> {
    let folder = root.join(FOLDER);
    std::fs::create_dir_all(&folder).into_diagnostic()?;
    let mut changed = Vec::new();
    for name in workspace::published(root)? {
        let (path, found) = (folder.join(format!("{name}.txt")), interface(root, &name)?);
        if bless {
            std::fs::write(&path, found).into_diagnostic()?;
            continue;
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        for line in differences(&kept, &found) {
            println!("{name}: {line}");
        }
        if kept != found {
            changed.push(name);
        }
    }
    ensure!(
        changed.is_empty(),
        "the public interface changed: {}; if it should, CHANGELOG.md says so and `cargo xtask api --bless` keeps it",
        changed.join(", ")
    );
    Ok(())
}

/// One line an item, without what every type has: blanket, automatic and derived implementations.
fn interface(root: &Path, package: &str) -> Result<String> {
    // In a folder of its own: another compiler would have everything else built anew.
    let output = Command::new(env!("CARGO"))
        .args(["public-api", "-sss", "--all-features", "--package", package])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target/api"))
        // The toolchain that cargo set for this program is not the one that the tool asks for.
        .env_remove("RUSTUP_TOOLCHAIN")
        .stderr(Stdio::inherit())
        .output()
        .into_diagnostic()
        .wrap_err("starting cargo public-api")?;
    ensure!(output.status.success(), "cargo public-api of {package} ended with {}", output.status);
    String::from_utf8(output.stdout).into_diagnostic()
}

/// Lines that only one of two interfaces has, with the sign of a diff.
fn differences(kept: &str, found: &str) -> Vec<String> {
    let [kept, found] = [kept, found].map(|text| text.lines().collect::<BTreeSet<_>>());
    let gone = kept.difference(&found).map(|line| format!("-{line}"));
    gone.chain(found.difference(&kept).map(|line| format!("+{line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_and_what_is_new_is_said() {
        let found = differences("pub fn a()\npub fn b()\n", "pub fn b()\npub fn c()\n");
        assert_eq!(found, ["-pub fn a()", "+pub fn c()"]);
        assert_eq!(differences("pub fn a()\n", "pub fn a()\n"), [""; 0]);
    }
}
