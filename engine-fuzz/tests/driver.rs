//! The driver sees what a target can do wrong.

use std::process::Command;

/// Runs the driver over so many cases of a target that a canary's fault is among them.
fn drive(target: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_engine-fuzz"))
        .arg(target)
        .args([
            "--threads",
            "1",
            "--executions",
            "2000",
            "--minutes",
            "60",
            "--memory",
            "8192",
            "--out",
        ])
        .arg(folder.path().join("findings"))
        .output()
        .expect("the driver starts");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_panic_and_an_abort_are_findings() {
    for (target, words) in [("canary-panic", "a canary"), ("canary-memory", "ended with")] {
        let (code, said) = drive(target);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{words}\n{said}");
    }
}

#[test]
fn an_unknown_target_is_an_error() {
    assert_eq!(drive("elsewhere").0, Some(2));
}
