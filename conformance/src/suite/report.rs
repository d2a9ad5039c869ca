//! What a run of the suite says.

use super::expect::{Expectations, Verdict, bare};
use super::run::{Outcome, Runtime};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Counts of one runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed, as expected.
    pub passed: usize,
    /// Failures that are not listed, and passes of cases that are.
    pub failed: usize,
    /// Failures that are listed.
    pub expected: usize,
}

impl Counts {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::ExpectedFailure => self.expected += 1,
            Verdict::Failed | Verdict::UnexpectedPass => self.failed += 1,
        }
    }
}

impl Outcome {
    /// What the case is about: its operator, or its name if it has several.
    pub fn subject(&self) -> String {
        let mut operators = self.operators.iter();
        match (operators.next(), operators.next()) {
            (Some(one), None) => one.clone(),
            _ => bare(&self.case).to_owned(),
        }
    }
}

/// Holds outcomes against the expectations of their groups, by group name: counts of every runtime, and one line for everything
/// that makes the run fail.
pub fn judge(
    outcomes: &[Outcome],
    expectations: &BTreeMap<&str, Expectations>,
) -> (BTreeMap<Runtime, Counts>, Vec<String>) {
    let mut counts = BTreeMap::<Runtime, Counts>::new();
    let mut failures = Vec::new();
    for outcome in outcomes {
        let group = outcome.case.split_once('/').map_or("", |(group, _)| group);
        let listed = &expectations[group];
        for (runtime, result) in &outcome.results {
            let verdict = listed.judge(bare(&outcome.case), *runtime, result.is_ok());
            counts.entry(*runtime).or_default().add(verdict);
            let place = format!("{} on {}", outcome.case, runtime.name());
            match (verdict, result) {
                (Verdict::Failed, Err(failure)) => failures.push(format!("{place}: {failure}")),
                (Verdict::UnexpectedPass, _) => {
                    failures.push(format!("{place}: passes, and is listed as failing"));
                }
                _ => {}
            }
        }
    }
    (counts, failures)
}

/// Failures of `runtime` by operator or reason, most first: lines of count, reason, and cases.
pub fn by_reason(outcomes: &[Outcome], runtime: Runtime) -> String {
    let mut groups = BTreeMap::<String, Vec<String>>::new();
    for outcome in outcomes {
        if let Some((_, Err(failure))) = outcome.results.iter().find(|(r, _)| *r == runtime) {
            let reason = failure.reason(&outcome.subject());
            groups.entry(reason).or_default().push(outcome.case.clone());
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(a, x), (b, y)| y.len().cmp(&x.len()).then(a.cmp(b)));
    let mut out = String::new();
    for (reason, cases) in groups {
        let line = format!("{:5}  {reason}: {}", cases.len(), cases.join(" "));
        writeln!(out, "{line}").expect("writing to a String does not fail");
    }
    out
}

/// Passed and failed cases of `runtime` by the operator that they are about, those with failures only, most failures first.
pub fn by_operator(outcomes: &[Outcome], runtime: Runtime) -> String {
    let mut rows = BTreeMap::<String, (usize, usize)>::new();
    for outcome in outcomes {
        let result = outcome.results.iter().find(|(r, _)| *r == runtime).map(|(_, result)| result);
        let (passed, failed) = rows.entry(outcome.subject()).or_default();
        match result {
            Some(Ok(())) => *passed += 1,
            Some(Err(_)) => *failed += 1,
            None => {}
        }
    }
    let mut rows: Vec<_> = rows.into_iter().filter(|(_, (_, failed))| *failed > 0).collect();
    rows.sort_by(|(a, (_, x)), (b, (_, y))| y.cmp(x).then(a.cmp(b)));
    let mut out = String::new();
    for (operator, (passed, failed)) in rows {
        let all = passed + failed;
        writeln!(out, "{failed:5} of {all:4} fail  {operator}")
            .expect("writing to a String does not fail");
    }
    out
}

/// Cases that pass on the GPU with nothing left on the CPU, and the operators that were left there in others: lines of
/// count, operator, reason, and cases.
pub fn fallbacks(outcomes: &[Outcome]) -> (usize, String) {
    let passed = outcomes.iter().filter(|outcome| outcome.passed(Runtime::Gpu));
    let whole = passed.filter(|outcome| outcome.fallbacks.is_empty()).count();
    let mut groups = BTreeMap::<&(&str, String), Vec<&str>>::new();
    for outcome in outcomes {
        for fallen in &outcome.fallbacks {
            groups.entry(fallen).or_default().push(bare(&outcome.case));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(a, x), (b, y)| y.len().cmp(&x.len()).then(a.cmp(b)));
    let mut out = String::new();
    for ((operator, why), cases) in groups {
        let line = format!("{:5}  {operator}: {why}: {}", cases.len(), cases.join(" "));
        writeln!(out, "{line}").expect("writing to a String does not fail");
    }
    (whole, out)
}
