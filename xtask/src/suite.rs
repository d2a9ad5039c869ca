//! `cargo xtask conformance --suite onnx`: the tests of the ONNX standard on every runtime, and with weights against every promise of
//! refit; all with two-way expectations.

use crate::vulkan;
use ::conformance::suite::{
    Case, Expectations, Group, Options, Outcome, Runtime, case, expect, report, run as run_cases,
};
use engine_runtime::{Device, DeviceSelector};
use miette::{IntoDiagnostic, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Node cases that have to run wholly in WGSL.
const WHOLE_ON_GPU: usize = 1533;

/// Slowest cases that are named.
const SLOWEST: usize = 8;

/// What is run and what is done with it.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only groups whose name contains this: node, pytorch-converted, pytorch-operator, simple, light; of the zoo the ways to export,
    /// architectures, or models.
    #[arg(long, default_value = "", requires = "suite")]
    pub group: String,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "", requires = "suite")]
    pub case: String,
    /// Writes what fails into the expectations, with reasons derived from the errors; of the zoo the table of docs/ARCHITECTURES.md.
    #[arg(long, requires = "suite")]
    pub bless: bool,
    /// Prints every failure by reason, and a table by operator, expected ones too.
    #[arg(long, requires = "suite")]
    all: bool,
    /// Not on a GPU.
    #[arg(long, requires = "suite")]
    cpu: bool,
    /// Longest time of a case on one runtime, in seconds.
    #[arg(long, default_value_t = 120, requires = "suite")]
    limit: u64,
    /// The variables of the GPU are set already.
    #[arg(long, hide = true)]
    pub inner: bool,
}

/// Runs the suite; with `inner` unset it first looks for a GPU and starts itself anew where its variables are set.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    if arguments.inner || arguments.cpu {
        return run_suite(root, arguments);
    }
    let mut command = Command::new(std::env::current_exe().into_diagnostic()?);
    command.args(std::env::args_os().skip(1)).arg("--inner").current_dir(root);
    match vulkan::environment(&root.join("target")) {
        Ok(environment) => drop(command.envs(environment).env("REFIT_REQUIRE_GPU", "1")),
        Err(why) if std::env::var_os("CI").is_some() => return Err(why),
        Err(why) => {
            println!("SKIPPED: everything on a GPU, because there is no Vulkan adapter: {why:?}")
        }
    }
    let status = command.status().into_diagnostic()?;
    ensure!(status.success(), "the suite ended with {status}");
    Ok(())
}

fn run_suite(root: &Path, arguments: &Arguments) -> Result<()> {
    let groups: Vec<Group> =
        Group::ALL.into_iter().filter(|group| group.name().contains(&arguments.group)).collect();
    let all = case::cases(&groups).into_diagnostic()?;
    let existing: BTreeMap<&str, BTreeSet<&str>> = groups
        .iter()
        .map(|group| {
            let of_group = all.iter().filter(|case| case.group == *group);
            (group.name(), of_group.map(|case| case.name.as_str()).collect())
        })
        .collect();
    let chosen: Vec<Case> =
        all.iter().filter(|case| case.name.contains(&arguments.case)).cloned().collect();
    ensure!(!chosen.is_empty(), "no case has {:?} in its name", arguments.case);
    let options = Options {
        gpu: gpu(arguments)?,
        limit: Duration::from_secs(arguments.limit),
        threads: std::thread::available_parallelism().map_or(2, usize::from),
    };
    let start = Instant::now();
    let outcomes = run_cases(&chosen, &options);
    let time = start.elapsed();
    let mut expectations = BTreeMap::new();
    for (&group, existing) in &existing {
        let path = file(root, group);
        let mut listed = Expectations::read(&path).into_diagnostic()?;
        if arguments.bless {
            let prefix = format!("{group}/");
            let of_group: Vec<&Outcome> =
                outcomes.iter().filter(|o| o.case.starts_with(&prefix)).collect();
            listed.bless(&of_group);
            listed.retain(existing);
            listed.write(&path).into_diagnostic()?;
        }
        let unknown: Vec<&str> = listed.cases().difference(existing).copied().collect();
        ensure!(
            unknown.is_empty(),
            "{} lists cases that do not exist: {unknown:?}",
            path.display()
        );
        expectations.insert(group, listed);
    }
    print(&outcomes, &expectations, &options, arguments, time)
}

/// Where the expectations of a group are.
fn file(root: &Path, group: &str) -> PathBuf {
    root.join(expect::FOLDER).join(format!("onnx-{group}.toml"))
}

fn gpu(arguments: &Arguments) -> Result<Option<Device>> {
    if arguments.cpu {
        return Ok(None);
    }
    let selector: DeviceSelector = "gpu".parse().unwrap_or_default();
    match Device::open(&selector) {
        Ok(device) => {
            println!("GPU: {}", device.info());
            Ok(Some(device))
        }
        Err(why) => {
            println!("SKIPPED: everything on a GPU: {why}");
            Ok(None)
        }
    }
}

fn print(
    outcomes: &[Outcome],
    expectations: &BTreeMap<&str, Expectations>,
    options: &Options,
    arguments: &Arguments,
    time: Duration,
) -> Result<()> {
    let (counts, failures) = report::judge(outcomes, expectations);
    if arguments.all {
        for runtime in options.runtimes() {
            println!(
                "\n{}: failures by reason\n{}",
                runtime.name(),
                report::by_reason(outcomes, runtime)
            );
        }
    }
    for runtime in options.runtimes() {
        let table = report::by_operator(outcomes, runtime);
        if !table.is_empty() {
            println!("\n{}: operators with failures\n{table}", runtime.name());
        }
    }
    if options.gpu.is_some() {
        let table = report::fallbacks(outcomes);
        println!("\ngpu: operators that ran on the CPU: in how many cases, why, in which\n{table}");
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    let mut slowest: Vec<&Outcome> = outcomes.iter().collect();
    slowest.sort_by_key(|outcome| std::cmp::Reverse(outcome.time));
    let slowest = slowest.iter().take(SLOWEST);
    let slowest: Vec<String> =
        slowest.map(|o| format!("{} {:.1} s", o.case, o.time.as_secs_f32())).collect();
    println!(
        "\n{} cases in {:.0} s; slowest: {}",
        outcomes.len(),
        time.as_secs_f32(),
        slowest.join(", ")
    );
    for runtime in options.runtimes() {
        let seconds = report::time(outcomes, runtime).as_secs_f32();
        println!("{}: {seconds:.0} s of all cases, {} at a time", runtime.name(), options.threads);
    }
    let replaced = outcomes.iter().map(|outcome| outcome.replaced).filter(|&n| n > 0);
    println!(
        "promises: {} cases had weights to replace, {} altogether",
        replaced.clone().count(),
        replaced.sum::<usize>()
    );
    for group in expectations.keys() {
        let prefix = format!("{group}/");
        let of_group: Vec<&Outcome> =
            outcomes.iter().filter(|o| o.case.starts_with(&prefix)).collect();
        let passes = |runtime: &Runtime| {
            let passed = of_group.iter().filter(|o| o.passed(*runtime)).count();
            format!("{passed} on {}", runtime.name())
        };
        let passes: Vec<String> = options.runtimes().iter().map(passes).collect();
        println!("{group}: of {} cases pass {}", of_group.len(), passes.join(", "));
        if options.gpu.is_some() {
            print_shares(group, report::shares(of_group.iter().copied()));
        }
    }
    let sum = |of: fn(&report::Counts) -> usize| counts.values().map(of).sum::<usize>();
    let (passed, failed) = (sum(|c| c.passed), sum(|c| c.failed));
    println!("{passed} passed, {failed} failed, {} expected failures listed", sum(|c| c.expected));
    println!("{passed} passed, {failed} failed");
    ensure!(
        failed == 0,
        "{failed} results are not as expected; `--bless` writes them to {}",
        expect::FOLDER
    );
    let complete = arguments.case.is_empty() && expectations.contains_key(Group::Node.name());
    if options.gpu.is_some() && complete {
        let node = |outcome: &&Outcome| outcome.case.starts_with(Group::Node.name());
        let whole = report::shares(outcomes.iter().filter(node)).whole;
        ensure!(
            whole >= WHOLE_ON_GPU,
            "{whole} node cases run wholly in WGSL, expected {WHOLE_ON_GPU} at least; the table above says what fell back"
        );
    }
    Ok(())
}

fn print_shares(group: &str, shares: report::Shares) {
    println!(
        "{group} on gpu: {} pass wholly in WGSL, {} with nodes on the CPU, {} with nothing for kernels to do (views, \
         shape arithmetic, constants)",
        shares.whole, shares.part, shares.nothing
    );
}
