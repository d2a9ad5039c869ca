//! `cargo xtask release`: everything that must hold before a release, check by check, and what blocks it.

mod checks;

use checks::{CHECKS, Check, Tool};
use miette::{Context, IntoDiagnostic, Result, ensure};
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Which checks, and what is let pass.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the checks that hold for every change.
    #[arg(long)]
    quick: bool,
    /// A check whose tool is not installed does not block.
    #[arg(long)]
    allow_missing: bool,
    /// Only the checks with these names; all without one.
    #[arg(value_name = "CHECK", value_parser = checks::names())]
    names: Vec<String>,
}

impl Arguments {
    fn takes(&self, check: &Check) -> bool {
        let is_named = self.names.is_empty() || self.names.iter().any(|name| name == check.name);
        is_named && (!self.quick || check.quick)
    }
}

/// Does every check, whatever came of those before, and fails if one of them blocks.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let chosen: Vec<&Check> = CHECKS.iter().filter(|check| arguments.takes(check)).collect();
    let tally = Tally::of(&chosen, arguments.allow_missing, |check| outcome(root, check))?;
    println!("\n{tally}");
    let blocking = tally.blocking();
    ensure!(blocking.is_empty(), "what blocks: {}", blocking.join(", "));
    Ok(())
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Missing(&'static Tool),
}

/// Does a check; what it says is seen as it comes.
fn outcome(root: &Path, check: &Check) -> Result<Outcome> {
    if let Some(tool) = check.tools.iter().find(|tool| !tool.is_there()) {
        return Ok(Outcome::Missing(tool));
    }
    println!("\n{}: {}", check.name, check.command());
    // With CI set, what cannot be checked on this machine fails instead of being skipped.
    let mut command = Command::new(env!("CARGO"));
    command.args(check.cargo).current_dir(root);
    command.envs(check.variables.iter().copied()).env("CI", "true");
    let status = command.status().into_diagnostic();
    let status = status.wrap_err_with(|| format!("starting {}", check.command()))?;
    Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
}

/// What came of all checks, and how long each took.
struct Tally<'a> {
    lines: Vec<(&'a Check, Outcome, Duration)>,
    allow_missing: bool,
}

impl<'a> Tally<'a> {
    fn of(
        checks: &[&'a Check],
        allow_missing: bool,
        outcome: impl Fn(&Check) -> Result<Outcome>,
    ) -> Result<Self> {
        let line = |&check: &&'a Check| {
            let begun = Instant::now();
            Ok((check, outcome(check)?, begun.elapsed()))
        };
        Ok(Self { lines: checks.iter().map(line).collect::<Result<_>>()?, allow_missing })
    }

    fn blocks(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Passed => false,
            Outcome::Failed => true,
            Outcome::Missing(_) => !self.allow_missing,
        }
    }

    fn blocking(&self) -> Vec<&'static str> {
        let lines = self.lines.iter();
        lines.filter(|(_, outcome, _)| self.blocks(*outcome)).map(|(c, ..)| c.name).collect()
    }
}

impl fmt::Display for Tally<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (check, outcome, took) in &self.lines {
            let word = if self.blocks(*outcome) { "BLOCKS" } else { "ok" };
            let (word, next) = match outcome {
                Outcome::Passed => (word, check.shows.to_owned()),
                Outcome::Failed => (word, check.command()),
                Outcome::Missing(tool) => {
                    let word = if self.allow_missing { "missing" } else { word };
                    (word, format!("not installed: {}", tool.install))
                }
            };
            writeln!(f, "{word:<8} {:<18} {:>7.1} s  {next}", check.name, took.as_secs_f64())?;
        }
        let all: Duration = self.lines.iter().map(|(.., took)| *took).sum();
        let (checks, blocking) = (self.lines.len(), self.blocking().len());
        write!(f, "{blocking} of {checks} checks block, {:.1} minutes", all.as_secs_f64() / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Tool = Tool { probe: &["lint"], prints: "", install: "cargo install cargo-lint" };

    fn tally(allow_missing: bool) -> Tally<'static> {
        let checks: Vec<&Check> = CHECKS.iter().take(4).collect();
        let outcome = |check: &Check| match CHECKS.iter().position(|c| c.name == check.name) {
            Some(0) => Ok(Outcome::Failed),
            Some(2) => Ok(Outcome::Missing(&TOOL)),
            _ => Ok(Outcome::Passed),
        };
        Tally::of(&checks, allow_missing, outcome).unwrap()
    }

    #[test]
    fn what_fails_or_is_missing_blocks_and_nothing_else_is_left_out() {
        let tally = tally(false);
        assert_eq!(tally.blocking(), [CHECKS[0].name, CHECKS[2].name]);
        let said = tally.to_string();
        assert_eq!(said.matches("BLOCKS").count(), 2, "{said}");
        assert!(said.contains(&CHECKS[0].command()) && said.contains(TOOL.install), "{said}");
        assert!(said.contains(CHECKS[3].name) && said.contains("2 of 4 checks block"), "{said}");
    }

    #[test]
    fn what_is_missing_may_be_let_pass_and_is_said_still() {
        let tally = tally(true);
        assert_eq!(tally.blocking(), [CHECKS[0].name]);
        assert!(tally.to_string().contains(TOOL.install));
    }
}
