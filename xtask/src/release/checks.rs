//! The table of checks.

use std::process::{Command, Stdio};

/// One thing that must hold: a command of cargo that succeeds.
pub struct Check {
    /// Short name.
    pub name: &'static str,
    /// What holds if it succeeds.
    pub shows: &'static str,
    /// What cargo is called with.
    pub cargo: &'static [&'static str],
    /// Variables that are set for it.
    pub variables: &'static [(&'static str, &'static str)],
    /// What it takes beside cargo.
    pub tools: &'static [&'static Tool],
    /// It holds for every change, not for a release alone.
    pub quick: bool,
}

/// A program that does not come with cargo.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    /// A command that succeeds if it is there,
    pub probe: &'static [&'static str],
    /// and then prints a line that begins like this.
    pub prints: &'static str,
    /// How it gets there.
    pub install: &'static str,
}

const DENY: Tool = Tool {
    probe: &["cargo-deny", "--version"],
    prints: "",
    install: "cargo install cargo-deny --locked --version 0.20.2",
};

const PUBLIC_API: Tool = Tool {
    probe: &["cargo-public-api", "--version"],
    prints: "",
    install: "cargo install cargo-public-api --locked --version 0.52.0",
};

const NPM: Tool = Tool {
    probe: &["npm", "--version"],
    prints: "",
    install: "the packages nodejs and npm of the system",
};

const NIGHTLY: Tool = Tool {
    probe: &["rustup", "run", "nightly", "rustdoc", "--version"],
    prints: "",
    install: "rustup toolchain install nightly",
};

const WASM: Tool = Tool {
    probe: &["rustup", "target", "list", "--installed"],
    prints: "wasm32-unknown-unknown",
    install: "rustup target add wasm32-unknown-unknown",
};

impl Check {
    const fn new(
        name: &'static str,
        shows: &'static str,
        cargo: &'static [&'static str],
        quick: bool,
    ) -> Self {
        Self { name, shows, cargo, variables: &[], tools: &[], quick }
    }

    const fn quick(
        name: &'static str,
        shows: &'static str,
        cargo: &'static [&'static str],
    ) -> Self {
        Self::new(name, shows, cargo, true)
    }

    const fn long(name: &'static str, shows: &'static str, cargo: &'static [&'static str]) -> Self {
        Self::new(name, shows, cargo, false)
    }

    /// What does the same in a shell.
    pub fn command(&self) -> String {
        let variables: String =
            self.variables.iter().map(|(name, value)| format!("{name}={value:?} ")).collect();
        format!("{variables}cargo {}", self.cargo.join(" "))
    }
}

impl Tool {
    /// Whether it is installed.
    pub fn is_there(&self) -> bool {
        let [program, arguments @ ..] = self.probe else { return false };
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        output.is_ok_and(|output| {
            let mut lines = str::from_utf8(&output.stdout).unwrap_or_default().split('\n');
            output.status.success() && lines.any(|line| line.starts_with(self.prints))
        })
    }
}

/// Every check, in the order in which they are done.
pub const CHECKS: [Check; 21] = [
    Check::quick("fmt", "sources are formatted", &["fmt", "--all", "--check"]),
    Check::quick(
        "clippy",
        "lints find nothing",
        &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
    ),
    Check::quick(
        "clippy-lean",
        "nor in a runtime without GPUs",
        &[
            "clippy",
            "--package",
            "engine-runtime",
            "--example",
            "lean",
            "--no-default-features",
            "--",
            "-D",
            "warnings",
        ],
    ),
    Check {
        tools: &[&WASM],
        ..Check::quick(
            "wasm",
            "the libraries build for WebAssembly",
            &[
                "check",
                "--target=wasm32-unknown-unknown",
                "--package=engine-format",
                "--package=engine-ops",
                "--package=engine-onnx",
                "--package=engine-builder",
                "--package=engine-runtime",
                "--package=engine-verify",
                "--package=refit",
            ],
        )
    },
    Check {
        variables: &[("RUSTDOCFLAGS", "-D warnings")],
        ..Check::quick(
            "doc",
            "documentation builds without a warning",
            &["doc", "--workspace", "--no-deps", "--quiet"],
        )
    },
    Check::quick(
        "test",
        "every test, with the flag matrix, its canaries and old files",
        &["xtask", "test"],
    ),
    Check {
        tools: &[&NPM],
        ..Check::quick("tint", "browsers take every shader", &["xtask", "tint"])
    },
    Check::quick("python", "the Python module", &["xtask", "python"]),
    Check::quick(
        "codegen",
        "what follows from the operator table is up to date",
        &["xtask", "codegen", "--check"],
    ),
    Check::quick("snapshots", "the changelog says what changed in them", &["xtask", "snapshots"]),
    Check::quick(
        "suite-onnx",
        "ONNX's own tests, and refit's promises on them",
        &["xtask", "conformance", "--suite", "onnx"],
    ),
    Check::long(
        "suite-models",
        "every tensor of the real models moves what it moves in the model",
        &["xtask", "conformance", "--suite", "zoo", "--group", "models"],
    ),
    Check::long(
        "canaries",
        "the flag matrix sees every known fault",
        &["xtask", "conformance", "--canaries"],
    ),
    Check::long(
        "golden-files",
        "engine files of every version are read",
        &["test", "--workspace", "--test", "suite", "old_files"],
    ),
    Check::long(
        "soak",
        "outputs under refits are of one version, and memory is given back",
        &["xtask", "soak"],
    ),
    Check::long("fuzz", "a minute of every fuzz target", &["xtask", "fuzz", "--minutes", "1"]),
    Check::long(
        "bench",
        "no model is slower beside ONNX Runtime than it was",
        &["xtask", "bench", "models", "--baseline", "docs/benchmarks/ratios.json"],
    ),
    Check {
        tools: &[&PUBLIC_API, &NIGHTLY],
        ..Check::long("api", "public interfaces are those of docs/api", &["xtask", "api"])
    },
    Check {
        tools: &[&DENY],
        ..Check::long(
            "licences",
            "licences and origins of what this is built upon",
            &["deny", "--all-features", "check", "licenses", "bans", "sources"],
        )
    },
    Check {
        tools: &[&DENY],
        ..Check::long(
            "advisories",
            "no vulnerability is known of what this is built upon",
            &["deny", "--all-features", "check", "advisories"],
        )
    },
    Check::long("package", "what is published builds by itself", &["xtask", "package"]),
];

/// The names of all checks.
pub fn names() -> [&'static str; CHECKS.len()] {
    CHECKS.each_ref().map(|check| check.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arguments;
    use clap::Parser as _;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_has_a_name_of_its_own() {
        assert_eq!(BTreeSet::from(names()).len(), CHECKS.len());
    }

    #[test]
    fn a_tool_is_there_if_its_command_succeeds() {
        let is_there = |probe, prints| Tool { probe, prints, install: "" }.is_there();
        let version: &[&str] = &[env!("CARGO"), "--version"];
        assert!(is_there(version, "") && is_there(version, "cargo "));
        assert!(!is_there(version, "argo "));
        assert!(!is_there(&[env!("CARGO"), "no-such-command"], ""));
        assert!(!is_there(&["no-such-program-anywhere"], ""));
    }

    #[test]
    fn checks_that_are_verbs_of_this_program_are_understood_by_it() {
        let verbs: Vec<_> = CHECKS.iter().filter(|check| check.cargo[0] == "xtask").collect();
        assert!(verbs.len() > 5);
        for check in verbs {
            if let Err(error) = Arguments::try_parse_from(check.cargo) {
                panic!("{}: {error}", check.command());
            }
        }
    }
}
