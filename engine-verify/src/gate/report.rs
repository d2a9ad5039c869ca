//! What a gate found.

use crate::comparison::{Comparison, Numbers};
use crate::scenario::{Path, Scenario, Which};
use crate::verify::TOLERANCE;
use engine_format::{EngineFlags, Tensor};
use engine_ops::compare;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How far outputs may be from the unoptimised graph's. Without any limit they may differ as
/// [`TOLERANCE`](crate::verify::TOLERANCE) says; with one or both, by what these say.
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
    ) -> Option<String> {
        match numbers {
            Some(numbers) if self != Self::default() && found.dtype() == expected.dtype() => {
                self.broken_by(numbers)
            }
            _ => compare(found, expected, TOLERANCE).err().map(|mismatch| mismatch.to_string()),
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
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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
    /// The output.
    pub output: String,
    /// Largest absolute difference; `None` where there is none between the two.
    pub max_abs: Option<f64>,
    /// Cosine of the angle between the two; `None` where there is none.
    pub cosine: Option<f64>,
    /// Why that is too far; `None` if it is not.
    pub problem: Option<String>,
}

impl Compared {
    pub(super) fn new(
        which: Which,
        output: &str,
        found: Option<&Tensor>,
        expected: &Tensor,
        limits: Limits,
    ) -> Self {
        let numbers = found.and_then(|found| Comparison::new(found, expected, TOLERANCE).numbers);
        let problem = match found {
            Some(found) => limits.problem(found, expected, numbers.as_ref()),
            None => Some("it is not there".to_owned()),
        };
        Self {
            weights: format!("{which:?}"),
            output: output.to_owned(),
            max_abs: numbers.as_ref().map(|numbers| numbers.max_abs),
            cosine: numbers.and_then(|numbers| numbers.cosine),
            problem,
        }
    }
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
}

impl OnDevice {
    /// How many checks there are, and how many did not hold.
    fn count(&self) -> (usize, usize) {
        let problems = self.problems().count();
        (self.outputs.len() + self.scenarios.len(), problems)
    }

    /// What does not hold, each in a line.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let outputs = self.outputs.iter().filter_map(|compared| {
            let Compared { weights, output, problem, .. } = compared;
            Some(format!("{output} with weights {weights}: {}", problem.as_ref()?))
        });
        let scenarios = self.scenarios.iter().filter_map(|held| {
            let Held { scenario, file, path, problem, .. } = held;
            Some(format!("{scenario}, {file} file, {path} module: {}", problem.as_ref()?))
        });
        outputs.chain(scenarios)
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
        Compared::new(Which::A, "y", Some(found), expected, limits).problem.is_none()
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
        assert!(Compared::new(Which::A, "y", None, &a, limits).problem.is_some());
    }
}
