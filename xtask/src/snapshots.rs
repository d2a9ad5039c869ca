//! `cargo xtask snapshots`: a snapshot that changes is something that users notice, and the changelog says it.

use miette::{IntoDiagnostic, Result, ensure, miette};
use std::path::Path;
use std::process::Command;

const CHANGELOG: &str = "CHANGELOG.md";

/// Checks what was changed since a revision, committed or not: that a line of the changelog comes with changed snapshots. Outside of a
/// repository, and where the revision is not there (a shallow clone), it is skipped by name.
pub fn run(root: &Path, since: &str) -> Result<()> {
    let mut command = Command::new("git");
    command.args(["diff", "--numstat", "--no-renames", since, "--"]).current_dir(root);
    let output = command.output().into_diagnostic()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        println!("SKIPPED: snapshots since {since}: {}", why.lines().next().unwrap_or_default());
        return Ok(());
    }
    let changes = String::from_utf8_lossy(&output.stdout);
    let changes: Vec<Change> = changes.lines().map(Change::parse).collect::<Result<_>>()?;
    let unsaid = unsaid(&changes);
    ensure!(
        unsaid.is_empty(),
        "{} changed since {since}, and {CHANGELOG} has no new line that says what users see of it",
        unsaid.join(", ")
    );
    Ok(())
}

/// A file that was changed, and how many lines it has that it had not.
#[derive(Debug, PartialEq)]
struct Change {
    added: u64,
    path: String,
}

impl Change {
    /// A line of `git diff --numstat`: lines added, lines removed, path. A binary file has dashes.
    fn parse(line: &str) -> Result<Self> {
        let mut columns = line.splitn(3, '\t');
        match (columns.next(), columns.nth(1)) {
            (Some(added), Some(path)) => {
                Ok(Self { added: added.parse().unwrap_or(0), path: path.to_owned() })
            }
            _ => Err(miette!("not a line of git diff --numstat: {line:?}")),
        }
    }
}

/// Snapshots that changed without a new line in the changelog.
fn unsaid(changes: &[Change]) -> Vec<&str> {
    let is_said = changes.iter().any(|change| change.path == CHANGELOG && change.added > 0);
    let snapshots = changes.iter().map(|change| change.path.as_str());
    snapshots.filter(|path| path.ends_with(".snap") && !is_said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_snapshot_needs_a_line() {
        let changes = |lines: &[&str]| -> Vec<Change> {
            lines.iter().map(|line| Change::parse(line).unwrap()).collect()
        };
        let snapshot = "2\t1\tconformance/tests/snapshots/matrix.snap";
        for (lines, expected) in [
            (&[snapshot][..], 1),
            (&[snapshot, "1\t0\tCHANGELOG.md"], 0),
            (&[snapshot, "0\t3\tCHANGELOG.md"], 1),
            (&[snapshot, "1\t0\tdocs/CHANGELOG.md"], 1),
            (&["5\t0\tsrc/lib.rs", "-\t-\tmodel.onnx"], 0),
            (&[], 0),
        ] {
            assert_eq!(unsaid(&changes(lines)).len(), expected, "{lines:?}");
        }
        assert!(Change::parse("nothing").is_err());
    }
}
