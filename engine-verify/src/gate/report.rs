//! What a gate found.

use crate::comparison::{Comparison, Numbers, nan_count};
use crate::scenario::{Path, Scenario, Which};
use crate::verify::tolerance;
use engine_format::{EngineFlags, Tensor};
use engine_ops::{compare, to_f64s};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How far outputs may be from the unoptimised graph's. Without any limit they may differ as
/// [`tolerance`](crate::verify::tolerance) says; with one or both, by what these say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Limits {
    /// The largest absolute difference.
    pub max_diff: Option<f64>,
    /// The least cosine of the angle between an output and the reference's, as vectors.
    pub cosine: Option<f64>,
}

impl Limits {
    /// Which limit does not hold, in words.
    fn broken_by(self, numbers: &Numbers) -> Option<String> {
        let Numbers { max_abs, cosine, .. } = *numbers;
        if let Some(limit) = self.max_diff.filter(|limit| max_abs > *limit) {
            return Some(format!("max |a-b| {max_abs:.2e}, expected at most {limit:e}"));
        }
        // Two zero vectors have no angle between them, and are the same.
        let same = f64::from(u8::from(max_abs == 0.0));
        let cosine = cosine.unwrap_or(same);
        let limit = self.cosine.filter(|limit| cosine < *limit)?;
        Some(format!("cosine {cosine}, expected at least {limit}"))
    }

    /// Why an output is too far from the reference's.
    fn problem(
        self,
        found: &Tensor,
        expected: &Tensor,
        numbers: Option<&Numbers>,
        flags: EngineFlags,
    ) -> Option<String> {
        match numbers {
            Some(numbers) if self != Self::default() && found.dtype() == expected.dtype() => {
                self.broken_by(numbers)
            }
            _ => compare(found, expected, tolerance(expected, flags))
                .err()
                .map(|mismatch| mismatch.to_string()),
        }
    }
}

/// Bytes of the engine's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// With its weights, not compressed.
    pub full: u64,
    /// Without them.
    pub stripped: u64,
}

/// Times in milliseconds, through a live module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Of loading the engine.
    pub load_ms: f64,
    /// Of refits from one set of weights to the other, in order.
    pub refit_ms: Vec<f64>,
    /// Of warm runs, in order.
    pub run_ms: Vec<f64>,
}

/// One output with one set of weights, held against the unoptimised graph's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// The set of weights: `A` or `B`.
    pub weights: String,
    /// The inputs: a file's name, or `made up`.
    pub inputs: String,
    /// What it is held against: the unoptimised graph, or another runtime.
    pub against: String,
    /// The output.
    pub output: String,
    /// Largest absolute difference; `None` where there is none between the two.
    pub max_abs: Option<f64>,
    /// Cosine of the angle between the two; `None` where there is none.
    pub cosine: Option<f64>,
    /// How many elements differ by how much, in the order of [`BINS`]; empty where nothing can be subtracted.
    pub histogram: Vec<usize>,
    /// Elements that are no number in what was expected, of which nothing is proven.
    pub nan: usize,
    /// Why that is too far; `None` if it is not.
    pub problem: Option<String>,
}

impl Compared {
    /// What was compared, in words.
    pub(super) fn name(&self) -> String {
        let Self { weights, inputs, against, output, .. } = self;
        format!("{output} with weights {weights} on inputs {inputs:?} against {against}")
    }

    pub(super) fn new(
        which: Which,
        output: &str,
        found: Option<&Tensor>,
        expected: &Tensor,
        limits: Limits,
        flags: EngineFlags,
    ) -> Self {
        let numbers = found
            .and_then(|found| Comparison::new(found, expected, tolerance(expected, flags)).numbers);
        let nan = nan_count(expected);
        let problem = match found {
            None => Some("it is not there".to_owned()),
            Some(_) if nan > 0 && nan == expected.len() => {
                Some("no element is a number: nothing is proven, give other inputs".to_owned())
            }
            Some(found) => limits.problem(found, expected, numbers.as_ref(), flags),
        };
        let histogram = match (found, &numbers) {
            (Some(found), Some(_)) => histogram(&to_f64s(found), &to_f64s(expected)),
            _ => Vec::new(),
        };
        Self {
            weights: format!("{which:?}"),
            inputs: String::new(),
            against: String::new(),
            output: output.to_owned(),
            max_abs: numbers.as_ref().map(|numbers| numbers.max_abs),
            cosine: numbers.and_then(|numbers| numbers.cosine),
            histogram,
            nan,
            problem,
        }
    }
}

/// What the differences of elements are counted by: none, each up to the power of ten that is named, and more.
pub const BINS: [&str; 12] =
    ["0", "1e-9", "1e-8", "1e-7", "1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1", "more"];

/// Counts |found − expected| by [`BINS`]; where both are no number they are the same, and where one is the difference is as large as can be.
fn histogram(found: &[f64], expected: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; BINS.len()];
    for (x, y) in found.iter().zip(expected) {
        let difference = (x - y).abs();
        let bin = match x == y || (x.is_nan() && y.is_nan()) {
            true => 0,
            false => {
                let up_to = |bin: &usize| difference <= 10f64.powi(*bin as i32 - 10);
                (1..BINS.len() - 1).find(up_to).unwrap_or(BINS.len() - 1)
            }
        };
        counts[bin] += 1;
    }
    counts
}

/// A report of before, of which only times are read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Baseline {
    /// What was found on each device.
    pub devices: Vec<BaselineDevice>,
}

/// Times on one device before.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BaselineDevice {
    /// The device.
    pub device: String,
    /// Its times.
    pub times: Times,
}

/// A time held against that of a report of before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slowdown {
    /// `refit` or `run`.
    pub what: &'static str,
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// The same before; `None` if that report has no such time on this device.
    pub before_ms: Option<f64>,
    /// Why that is too slow; `None` if it is not.
    pub problem: Option<String>,
}

impl Slowdown {
    fn new(what: &'static str, now: &[f64], before: Option<&[f64]>, limit: f64) -> Self {
        let median_ms = median(now);
        let before_ms = before.filter(|times| !times.is_empty()).map(median);
        let problem = match before_ms {
            None => Some(format!("{what}: the report of before has no such time on this device")),
            Some(before) if median_ms <= limit * before => None,
            Some(before) => Some(format!(
                "{what}: {median_ms:.3} ms, before {before:.3} ms: {:.2} times as long, expected at most {limit}",
                median_ms / before
            )),
        };
        Self { what, median_ms, before_ms, problem }
    }
}

/// The upper one of the two in the middle; 0 without any.
pub(super) fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// One scenario with one file through one path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// The scenario.
    pub scenario: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// What the file has: `full` or `stripped`.
    pub file: &'static str,
    /// The module path: `live` or `packed`.
    pub path: &'static str,
    /// What each step has to give.
    pub expected: String,
    /// What is not as it has to be; `None` if all is.
    pub problem: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Held {
    pub(super) fn new(
        scenario: &Scenario,
        flags: EngineFlags,
        path: Path,
        result: Result<(), String>,
        time: Duration,
    ) -> Self {
        let stripped = flags.contains(EngineFlags::EXCLUDE_WEIGHTS);
        let words = scenario.expected(flags);
        Self {
            scenario: scenario.name,
            shows: scenario.shows,
            file: if stripped { "stripped" } else { "full" },
            path: match path {
                Path::Live => "live",
                Path::Packed => "packed",
            },
            expected: words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            problem: result.err(),
            seconds: time.as_secs_f64(),
        }
    }
}

/// What was found on one device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnDevice {
    /// The device.
    pub device: String,
    /// Every output with either set of weights.
    pub outputs: Vec<Compared>,
    /// Every scenario with every file through every path.
    pub scenarios: Vec<Held>,
    /// Times.
    pub times: Times,
    /// Times against those of a report of before; empty without one.
    pub slowdowns: Vec<Slowdown>,
}

impl OnDevice {
    /// How many checks there are, and how many did not hold.
    fn count(&self) -> (usize, usize) {
        let problems = self.problems().count();
        (self.outputs.len() + self.scenarios.len() + self.slowdowns.len(), problems)
    }

    /// What does not hold, each in a line.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let outputs = self.outputs.iter().filter_map(|compared| {
            Some(format!("{}: {}", compared.name(), compared.problem.as_ref()?))
        });
        let scenarios = self.scenarios.iter().filter_map(|held| {
            let Held { scenario, file, path, problem, .. } = held;
            Some(format!("{scenario}, {file} file, {path} module: {}", problem.as_ref()?))
        });
        let slowdowns = self.slowdowns.iter().filter_map(|slowdown| slowdown.problem.clone());
        outputs.chain(scenarios).chain(slowdowns)
    }
}

/// What a gate found: everything that was held, whether it holds or not. Its JSON form is described in `docs/JSON.md`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The engine's flags.
    pub flags: Vec<String>,
    /// Rows of its weight table.
    pub weights: usize,
    /// Versions of both sets of weights.
    pub versions: Vec<String>,
    /// Inputs that were made up.
    pub made_up: Vec<String>,
    /// Whether the outputs for these inputs are others with other weights: if not, nothing that is held says that a refit does anything.
    pub tells_apart: bool,
    /// What outputs may differ.
    pub limits: Limits,
    /// Bytes of its files.
    pub sizes: Sizes,
    /// What was found on each device.
    pub devices: Vec<OnDevice>,
}

impl Report {
    /// Holds the medians of refits and runs to at most `limit` times those of a report of before, made on the same machine.
    pub fn hold_times(&mut self, baseline: &Baseline, limit: f64) {
        for on in &mut self.devices {
            let before = baseline.devices.iter().find(|before| before.device == on.device);
            let times = before.map(|before| &before.times);
            let (refit, run) = (times.map(|t| &*t.refit_ms), times.map(|t| &*t.run_ms));
            on.slowdowns = vec![
                Slowdown::new("refit", &on.times.refit_ms, refit, limit),
                Slowdown::new("run", &on.times.run_ms, run, limit),
            ];
        }
    }

    /// Whether everything holds.
    pub fn passed(&self) -> bool {
        self.problems().next().is_none()
    }

    /// How many checks there are, and how many did not hold.
    pub fn count(&self) -> (usize, usize) {
        let counts = self.devices.iter().map(OnDevice::count);
        let start = (1, usize::from(!self.tells_apart));
        counts.fold(start, |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    /// What does not hold, each in a line.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        let same = "with these inputs both sets of weights give the same outputs: nothing tells them apart, give other inputs";
        let same = (!self.tells_apart).then(|| same.to_owned());
        let on_devices = self
            .devices
            .iter()
            .flat_map(|on| on.problems().map(|problem| format!("{}: {problem}", on.device)));
        same.into_iter().chain(on_devices)
    }
}

/// The problems, a line each, and how many checks there were.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems() {
            writeln!(f, "{problem}")?;
        }
        let (checks, failed) = self.count();
        write!(f, "{} of {checks} checks hold", checks - failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(
        found: &Tensor,
        expected: &Tensor,
        max_diff: Option<f64>,
        cosine: Option<f64>,
    ) -> bool {
        let limits = Limits { max_diff, cosine };
        Compared::new(Which::A, "y", Some(found), expected, limits, EngineFlags::REFIT)
            .problem
            .is_none()
    }

    #[test]
    fn outputs_are_held_to_the_limits_that_are_given() {
        let tensor = |values: &[f32]| Tensor::from_slice(&[values.len()], values);
        // Their angle has the cosine 0.96.
        let (a, b) = (tensor(&[3.0, 4.0]), tensor(&[4.0, 3.0]));
        assert!(holds(&a, &a, None, None) && !holds(&a, &b, None, None));
        assert!(holds(&a, &b, Some(1.0), None) && !holds(&a, &b, Some(0.9), None));
        assert!(holds(&a, &b, None, Some(0.95)) && !holds(&a, &b, None, Some(0.97)));
        assert!(holds(&a, &b, Some(1.0), Some(0.95)) && !holds(&a, &b, Some(0.9), Some(0.95)));
        let nan = tensor(&[3.0, f32::NAN]);
        assert!(!holds(&nan, &a, Some(1e9), None) && holds(&nan, &nan, Some(0.0), None));
        let nothing = tensor(&[f32::NAN; 2]);
        assert!(!holds(&nothing, &nothing, None, None), "nothing is proven");
        let zero = tensor(&[0.0, 0.0]);
        assert!(holds(&zero, &zero, None, Some(1.0)) && !holds(&zero, &a, None, Some(0.1)));
        let longer = tensor(&[3.0, 4.0, 0.0]);
        assert!(!holds(&longer, &a, Some(1e9), Some(-1.0)));
        let integers = Tensor::from_slice(&[2], &[3i64, 4]);
        assert!(!holds(&integers, &a, Some(1e9), Some(-1.0)));
        let words = |word: &str| Tensor::from_strings(&[1], &[word]);
        assert!(holds(&words("a"), &words("a"), Some(0.0), None));
        assert!(!holds(&words("a"), &words("b"), Some(1e9), None));
        let limits = Limits::default();
        assert!(
            Compared::new(Which::A, "y", None, &a, limits, EngineFlags::REFIT).problem.is_some()
        );
    }

    #[test]
    fn differences_are_counted_by_powers_of_ten() {
        let expected = [1.0, 1.0, 1.0, f64::NAN, f64::NAN, 1.0];
        let found = [1.0, 1.0 + 5e-10, 1.05, f64::NAN, 1.0, 12.0];
        let counts = histogram(&found, &expected);
        let of = |bin: &str| counts[BINS.iter().position(|name| *name == bin).unwrap()];
        assert_eq!([of("0"), of("1e-9"), of("1e-1"), of("more")], [2, 1, 1, 2]);
        assert_eq!(counts.iter().sum::<usize>(), expected.len());
    }

    #[test]
    fn times_are_held_against_those_of_before() {
        let now = [30.0, 10.0, 20.0];
        let slow = |before: Option<&[f64]>, limit| Slowdown::new("run", &now, before, limit);
        assert_eq!(slow(Some(&[10.0]), 2.0).problem, None);
        let problem = slow(Some(&[10.0]), 1.5).problem.unwrap();
        assert!(problem.contains("2.00 times as long, expected at most 1.5"), "{problem}");
        assert!(slow(None, 2.0).problem.is_some() && slow(Some(&[]), 2.0).problem.is_some());
    }
}
