//! Two-way expectations: which cases do not pass, where, and why.

use super::run::{Outcome, Runtime};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The cases of one group that are known not to pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    by_case: BTreeMap<(String, String), Why>,
}

/// A reason, and whether it was derived from the error rather than written by a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Why {
    reason: String,
    derived: bool,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    expected: Vec<Entry>,
}

/// Cases that fail for one reason.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    reason: String,
    /// Whether the reason follows from the error. Such a reason is derived anew by a bless; one without this line was
    /// written by a person and stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    derived: bool,
    devices: Vec<String>,
    cases: Vec<String>,
}

/// What a result means beside what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes and is not listed.
    Passed,
    /// It does not pass, as listed.
    ExpectedFailure,
    /// It does not pass and is not listed.
    Failed,
    /// It passes although it is listed.
    UnexpectedPass,
}

impl Verdict {
    /// Whether the run fails for it.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::UnexpectedPass)
    }
}

/// Why a file of expectations is not read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct ExpectError {
    path: String,
    why: String,
}

impl Expectations {
    /// Reads a file; one that is not there expects everything to pass.
    pub fn read(path: &Path) -> Result<Self, ExpectError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path).map_err(error(path))?;
        Self::parse(&text).map_err(error(path))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut by_case = BTreeMap::new();
        for Entry { reason, derived, devices, cases } in file.expected {
            for device in devices {
                if !Runtime::ALL.iter().any(|runtime| runtime.name() == device) {
                    let known = Runtime::ALL.map(Runtime::name);
                    return Err(format!("device {device:?}, expected one of {known:?}"));
                }
                for case in &cases {
                    let why = Why { reason: reason.clone(), derived };
                    if by_case.insert((case.clone(), device.clone()), why).is_some() {
                        return Err(format!("case {case:?} is listed twice for {device}"));
                    }
                }
            }
        }
        Ok(Self { by_case })
    }

    /// Writes the file, sorted; removes it if nothing is expected to fail.
    pub fn write(&self, path: &Path) -> Result<(), ExpectError> {
        if self.by_case.is_empty() {
            return match path.exists() {
                true => std::fs::remove_file(path).map_err(error(path)),
                false => Ok(()),
            };
        }
        std::fs::write(path, self.text()).map_err(error(path))
    }

    fn text(&self) -> String {
        let mut devices = BTreeMap::<(&Why, &String), Vec<&String>>::new();
        for ((case, device), why) in &self.by_case {
            devices.entry((why, case)).or_default().push(device);
        }
        let mut groups = BTreeMap::<(&Why, Vec<&String>), Vec<String>>::new();
        for ((why, case), devices) in devices {
            groups.entry((why, devices)).or_default().push(case.clone());
        }
        let entry = |((why, devices), cases): ((&Why, Vec<&String>), Vec<String>)| Entry {
            reason: why.reason.clone(),
            derived: why.derived,
            devices: devices.into_iter().cloned().collect(),
            cases,
        };
        let file = File { expected: groups.into_iter().map(entry).collect() };
        let body = toml::to_string_pretty(&file).expect("strings and lists have a form in TOML");
        format!("{HEADER}\n{body}")
    }

    /// Entries, one for each case and device.
    pub fn len(&self) -> usize {
        self.by_case.len()
    }

    /// Whether everything is expected to pass.
    pub fn is_empty(&self) -> bool {
        self.by_case.is_empty()
    }

    /// The cases that are listed.
    pub fn cases(&self) -> BTreeSet<&str> {
        self.by_case.keys().map(|(case, _)| case.as_str()).collect()
    }

    /// What it means that `case` passed or not.
    pub fn judge(&self, case: &str, runtime: Runtime, passed: bool) -> Verdict {
        let listed = self.by_case.contains_key(&(case.to_owned(), runtime.name().to_owned()));
        match (passed, listed) {
            (true, false) => Verdict::Passed,
            (false, true) => Verdict::ExpectedFailure,
            (false, false) => Verdict::Failed,
            (true, true) => Verdict::UnexpectedPass,
        }
    }

    /// Takes over what a run found, for the cases and runtimes that it had. A reason that a person wrote stays as long as its
    /// case does not pass.
    pub fn bless(&mut self, outcomes: &[&Outcome]) {
        for outcome in outcomes {
            let name = bare(&outcome.case).to_owned();
            for ran in &outcome.results {
                let key = (name.clone(), ran.runtime.name().to_owned());
                match &ran.result {
                    Ok(()) => drop(self.by_case.remove(&key)),
                    Err(_) if self.by_case.get(&key).is_some_and(|why| !why.derived) => {}
                    Err(failure) => {
                        let reason = failure.reason(&outcome.subject());
                        self.by_case.insert(key, Why { reason, derived: true });
                    }
                }
            }
        }
    }

    /// Forgets cases that are not in `existing`.
    pub fn retain(&mut self, existing: &BTreeSet<&str>) {
        self.by_case.retain(|(case, _), _| existing.contains(case.as_str()));
    }
}

/// Where the files are, one for each group that has failures.
pub const FOLDER: &str = "conformance/expectations";

/// What stands on top of every file.
const HEADER: &str = "\
# Cases that do not pass, by reason. A case that is not listed must pass, and a case that is listed must not.
# `cargo xtask conformance --suite onnx --bless` writes this file; reasons without `derived = true` are a person's and stay.
";

/// A case's name without its group.
pub fn bare(case: &str) -> &str {
    case.split_once('/').map_or(case, |(_, name)| name)
}

fn error<E: ToString>(path: &Path) -> impl FnOnce(E) -> ExpectError {
    let path = path.display().to_string();
    move |why| ExpectError { path, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::failure::{Failure, Stage};
    use crate::suite::run::Ran;
    use std::time::Duration;

    fn outcome(case: &str, passed: bool) -> Outcome {
        let failure = || Failure::new(Stage::Run, "rank 3");
        Outcome {
            case: format!("node/{case}"),
            operators: BTreeSet::from(["Foo".to_owned()]),
            results: vec![Ran {
                runtime: Runtime::CpuLive,
                result: if passed { Ok(()) } else { Err(failure()) },
                time: Duration::ZERO,
            }],
            on_gpu: 0,
            fallbacks: BTreeSet::new(),
            replaced: 0,
            time: Duration::ZERO,
        }
    }

    const LISTED: &str = "[[expected]]\nreason = \"nobody needs it\"\ndevices = [\"cpu-live\"]\ncases = [\"a\", \"b\"]\n";

    #[test]
    fn a_listed_pass_and_an_unlisted_failure_fail() {
        let expectations = Expectations::parse(LISTED).expect("is valid");
        let judge = |case, passed| expectations.judge(case, Runtime::CpuLive, passed);
        assert_eq!(judge("a", false), Verdict::ExpectedFailure);
        assert_eq!(judge("c", true), Verdict::Passed);
        assert!(judge("a", true).is_failure());
        assert!(judge("c", false).is_failure());
        // Listed for one runtime is not listed for another.
        assert_eq!(expectations.judge("a", Runtime::Gpu, false), Verdict::Failed);
    }

    #[test]
    fn a_bless_keeps_written_reasons_and_drops_what_passes() {
        let mut expectations = Expectations::parse(LISTED).expect("is valid");
        let found = [outcome("a", false), outcome("b", true), outcome("c", false)];
        expectations.bless(&found.iter().collect::<Vec<_>>());
        let text = expectations.text();
        let again = Expectations::parse(&text).expect("what is written can be read");
        assert_eq!(again, expectations);
        assert!(text.contains("nobody needs it"), "{text}");
        assert!(text.contains("Foo: does not run"), "{text}");
        assert_eq!(again.cases(), BTreeSet::from(["a", "c"]));
    }

    /// A bless derives reasons from errors; before it is kept, a person says why the case cannot or need not pass.
    #[test]
    fn every_listed_case_has_a_reason_that_a_person_wrote() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FOLDER);
        for file in std::fs::read_dir(folder).expect("the folder of expectations") {
            let path = file.expect("an entry of the folder").path();
            let listed = Expectations::read(&path).expect("a file of expectations");
            let derived = listed.by_case.iter().filter(|(_, why)| why.derived);
            let derived: Vec<&String> = derived.map(|((case, _), _)| case).collect();
            assert!(derived.is_empty(), "{}: {derived:?}", path.display());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let twice = format!("{LISTED}{LISTED}");
        assert!(Expectations::parse(&twice).expect_err("listed twice").contains("twice"));
        let device = LISTED.replace("cpu-live", "tpu");
        assert!(Expectations::parse(&device).expect_err("no such device").contains("tpu"));
        assert!(Expectations::parse("[[expected]]\ncases = []\n").is_err());
    }
}
