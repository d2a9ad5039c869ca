//! `cargo xtask test`: every test of the workspace, with an adapter for those that need a GPU.

use crate::vulkan;
use miette::{Context, IntoDiagnostic, Result, ensure};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How many of the programs that took longest are named at the end.
const LONGEST: usize = 10;

/// Runs the tests, all of them even if some fail, and names these at the end, and the programs that took longest. Without any adapter the GPU tests are skipped by
/// name, and `CI` makes that a failure.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    // Asked for before anything is built: that may put another program in the place of this one, which is what is asked.
    let environment = vulkan::environment(&root.join("target"));
    let mut tally = Tally { programs: programs(root, arguments)?, ..Tally::default() };
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace", "--no-fail-fast"]).args(arguments).current_dir(root);
    match environment {
        Ok(environment) => {
            command.envs(environment).env("REFIT_REQUIRE_GPU", "1");
        }
        Err(why) if std::env::var_os("CI").is_some() => return Err(why),
        Err(why) => println!("SKIPPED: all GPU tests, because there is no Vulkan adapter: {why:?}"),
    }
    // One pipe for both, so that what a test program writes stays below the line that names it.
    let (output, writer) = std::io::pipe().into_diagnostic()?;
    command.stdout(writer.try_clone().into_diagnostic()?).stderr(writer);
    let mut cargo = command.spawn().into_diagnostic().wrap_err("starting cargo test")?;
    // It holds the pipe's other end, which would never be closed.
    drop(command);
    let begun = Instant::now();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.into_diagnostic()?;
        let line = tally.read(&String::from_utf8_lossy(&line), begun.elapsed());
        writeln!(std::io::stdout(), "{line}").into_diagnostic()?;
    }
    let status = cargo.wait().into_diagnostic()?;
    tally.end(begun.elapsed());
    println!("{tally}");
    ensure!(status.success(), "cargo test ended with {status}");
    Ok(())
}

/// Builds the tests and counts their programs.
fn programs(root: &Path, arguments: &[String]) -> Result<usize> {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .args(arguments.iter().take_while(|argument| *argument != "--"))
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .into_diagnostic()
        .wrap_err("starting cargo test --no-run")?;
    ensure!(output.status.success(), "the tests are not built: cargo ended with {}", output.status);
    let artifacts = output.stdout.split(|byte| *byte == b'\n');
    let artifacts = artifacts.filter_map(|line| serde_json::from_slice(line).ok());
    let is_test = |artifact: &serde_json::Value| {
        artifact["profile"]["test"] == true && artifact["executable"].is_string()
    };
    Ok(artifacts.filter(is_test).count())
}

/// What is known from the lines that cargo and the test programs wrote so far.
#[derive(Debug, Default)]
struct Tally {
    /// Test programs that there are.
    programs: usize,
    /// Those that were begun.
    begun: usize,
    /// Tests of the present program that failed.
    failing: Vec<String>,
    /// The arguments under which cargo runs a failed program again, and the failed tests that it named.
    failed: Vec<(String, Vec<String>)>,
    /// The program that runs, and when it began.
    running: Option<(String, Duration)>,
    /// How long each took that ended.
    times: Vec<(Duration, String)>,
}

impl Tally {
    /// Takes a line in that was written after this time, and gives it as it is to be shown.
    fn read(&mut self, line: &str, at: Duration) -> String {
        if let Some(program) = line.trim_start().strip_prefix("Running ") {
            self.end(at);
            self.running = Some((name_of(program).to_owned(), at));
            self.begun += 1;
            self.failing.clear();
            return format!("     Running {} of {}: {program}", self.begun, self.programs);
        }
        if let Some(package) = line.trim_start().strip_prefix("Doc-tests ") {
            self.end(at);
            self.running = Some((format!("examples of {package}"), at));
            self.failing.clear();
        }
        let test = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        self.failing.extend(test.map(str::to_owned));
        if let Some((_, again)) = line.split_once("to rerun pass `") {
            let again = again.trim_end_matches('`').to_owned();
            self.failed.push((again, std::mem::take(&mut self.failing)));
        }
        line.to_owned()
    }

    /// The program that runs ends.
    fn end(&mut self, at: Duration) {
        let ended = self.running.take();
        self.times.extend(ended.map(|(program, begun)| (at.saturating_sub(begun), program)));
    }
}

/// The name of a test program out of cargo's words, which end with its path; that ends with a digest.
fn name_of(program: &str) -> &str {
    let file = program.rsplit(['/', '\\']).next().unwrap_or(program);
    file.rsplit_once('-').map_or(file, |(name, _)| name)
}

/// How many test programs ran, how long the longest took, and what failed, a line for each test.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.times.clone();
        times.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
        for (took, program) in times.iter().take(LONGEST) {
            write!(f, "\n{:>7.1} s  {program}", took.as_secs_f64())?;
        }
        write!(f, "\n{} of {} test programs ran", self.begun, self.programs)?;
        for (again, tests) in &self.failed {
            write!(f, "\nfailed: cargo test {again}")?;
            if tests.is_empty() {
                write!(f, "\n    ended before it named a failed test")?;
            }
            tests.iter().try_for_each(|test| write!(f, "\n    {test}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_named_with_the_program_it_is_in() {
        let lines = "
     Running unittests src/lib.rs (target/debug/deps/one-0123)
test a ... ok
test inner::b ... FAILED
test inner::c ... FAILED
test result: FAILED. 1 passed; 2 failed
error: test failed, to rerun pass `-p one --lib`
     Running tests/ends.rs (target/debug/deps/ends-0123)
error: test failed, to rerun pass `-p one --test ends`
     Running tests/fine.rs (target/debug/deps/fine-0123)
test d ... ok
   Doc-tests one
test one/src/lib.rs - f (line 3) ... FAILED
error: doctest failed, to rerun pass `-p one --doc`";
        let mut tally = Tally { programs: 3, ..Tally::default() };
        let after = |(i, line): (usize, &str)| tally.read(line, Duration::from_secs(i as u64));
        let shown: Vec<String> = lines.lines().enumerate().map(after).collect();
        tally.end(Duration::from_secs(100));
        assert_eq!(
            shown[1],
            "     Running 1 of 3: unittests src/lib.rs (target/debug/deps/one-0123)"
        );
        assert_eq!(tally.begun, 3);
        let expected = "
   89.0 s  examples of one
    6.0 s  one
    2.0 s  ends
    2.0 s  fine
3 of 3 test programs ran
failed: cargo test -p one --lib
    inner::b
    inner::c
failed: cargo test -p one --test ends
    ended before it named a failed test
failed: cargo test -p one --doc
    one/src/lib.rs - f (line 3)";
        assert_eq!(tally.to_string(), expected);
    }
}
