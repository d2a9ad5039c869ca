//! What a run of the suite says.

use super::expect::{Expectations, Verdict, bare};
use super::run::{Outcome, Ran, Runtime, Share};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

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
        for Ran { runtime, result, .. } in &outcome.results {
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
        if let Some(Ran { result: Err(failure), .. }) = outcome.on(runtime) {
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
        let (passed, failed) = rows.entry(outcome.subject()).or_default();
        match outcome.on(runtime).map(|ran| &ran.result) {
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

/// Of the cases in `outcomes`, how many passed on the GPU with their nodes where.
pub fn shares<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Shares {
    let mut shares = Shares::default();
    for share in outcomes.into_iter().filter_map(Outcome::share) {
        match share {
            Share::Whole => shares.whole += 1,
            Share::Part => shares.part += 1,
            Share::Nothing => shares.nothing += 1,
        }
    }
    shares
}

/// Counts of cases that pass on the GPU, by [`Share`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// [`Share::Whole`].
    pub whole: usize,
    /// [`Share::Part`].
    pub part: usize,
    /// [`Share::Nothing`].
    pub nothing: usize,
}

/// The operators that the CPU ran although the runtime was a GPU: for each a line with its cases' number, then a line for
/// each reason with the cases' names.
pub fn fallbacks(outcomes: &[Outcome]) -> String {
    let mut operators = BTreeMap::<&str, BTreeMap<&str, Vec<&str>>>::new();
    for outcome in outcomes {
        for (operator, why) in &outcome.fallbacks {
            let reasons = operators.entry(operator).or_default();
            reasons.entry(why).or_default().push(bare(&outcome.case));
        }
    }
    let mut rows: Vec<_> = operators
        .into_iter()
        .map(|(operator, reasons)| {
            let cases: BTreeSet<&str> = reasons.values().flatten().copied().collect();
            (cases.len(), operator, reasons)
        })
        .collect();
    rows.sort_by(|(x, a, _), (y, b, _)| y.cmp(x).then(a.cmp(b)));
    let mut out = String::new();
    for (cases, operator, reasons) in rows {
        let mut text = format!("{cases:5}  {operator}\n");
        for (why, cases) in reasons {
            text = format!("{text}         {why}: {}\n", cases.join(" "));
        }
        out.push_str(&text);
    }
    out
}

/// How long the cases took on `runtime`, each by itself, added up.
pub fn time(outcomes: &[Outcome], runtime: Runtime) -> Duration {
    outcomes.iter().filter_map(|outcome| outcome.on(runtime)).map(|ran| ran.time).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::run::Ran;

    fn outcome(case: &str, on_gpu: usize, fallbacks: &[(&'static str, &str)]) -> Outcome {
        let ran = Ran { runtime: Runtime::Gpu, result: Ok(()), time: Duration::from_secs(2) };
        Outcome {
            case: format!("node/{case}"),
            operators: BTreeSet::new(),
            results: vec![ran],
            on_gpu,
            fallbacks: fallbacks.iter().map(|(op, why)| (*op, (*why).to_owned())).collect(),
            replaced: 0,
            time: Duration::ZERO,
        }
    }

    #[test]
    fn only_cases_that_kernels_ran_altogether_count_as_whole() {
        let outcomes = [
            outcome("add", 1, &[]),
            outcome("reshape", 0, &[]),
            outcome("nonzero", 0, &[("NonZero", "data")]),
            outcome("loop", 2, &[("Loop", "data"), ("NonZero", "data")]),
        ];
        assert_eq!(shares(&outcomes), Shares { whole: 1, part: 2, nothing: 1 });
        assert_eq!(
            fallbacks(&outcomes),
            "    2  NonZero\n         data: nonzero loop\n    1  Loop\n         data: loop\n"
        );
        assert_eq!(time(&outcomes, Runtime::Gpu), Duration::from_secs(8));
        assert_eq!(time(&outcomes, Runtime::CpuLive), Duration::ZERO);
    }
}
