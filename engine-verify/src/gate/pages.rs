//! A report as pages: JUnit's XML for servers that run tests, HTML for people.

use super::report::median;
use super::{BINS, Compared, Held, OnDevice, Report};
use askama::Template;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

impl Report {
    /// The report in JUnit's form: a suite for each device, a case for each check. `name` stands for the engine.
    ///
    /// # Errors
    /// If it cannot be written as XML.
    pub fn junit(&self, name: &str) -> Result<String, quick_junit::SerializeError> {
        let mut report = quick_junit::Report::new(name);
        let mut inputs = TestSuite::new("inputs");
        let same = (!self.tells_apart).then(|| "they do not".to_owned());
        let what = "outputs tell both sets of weights apart".to_owned();
        inputs.add_test_case(case(what, same.as_deref()));
        report.add_test_suite(inputs);
        for on in &self.devices {
            let mut suite = TestSuite::new(&on.device);
            let outputs = on.outputs.iter().map(|c| case(c.name(), c.problem.as_deref()));
            suite.add_test_cases(outputs);
            let slowdowns = on.slowdowns.iter().map(|slowdown| {
                case(format!("time of {}", slowdown.what), slowdown.problem.as_deref())
            });
            suite.add_test_cases(slowdowns);
            let scenarios = on.scenarios.iter().map(|held| {
                let Held { scenario, file, path, problem, seconds, .. } = held;
                let mut held = case(format!("{scenario} ({file}, {path})"), problem.as_deref());
                held.set_time(Duration::from_secs_f64(*seconds));
                held
            });
            suite.add_test_cases(scenarios);
            report.add_test_suite(suite);
        }
        report.to_string()
    }

    /// The report as one page of HTML that needs nothing else. `name` stands for the engine.
    ///
    /// # Errors
    /// If it cannot be formatted.
    pub fn html(&self, name: &str) -> Result<String, askama::Error> {
        let (checks, failed) = self.count();
        let devices = self.devices.iter().map(DevicePage::of).collect();
        Page { name, report: self, checks, failed, devices }.render()
    }
}

fn case(name: String, problem: Option<&str>) -> TestCase {
    let status = match problem {
        None => TestCaseStatus::success(),
        Some(problem) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(problem);
            status
        }
    };
    TestCase::new(name, status)
}

#[derive(Template)]
#[template(path = "gate.html")]
struct Page<'a> {
    name: &'a str,
    report: &'a Report,
    checks: usize,
    failed: usize,
    devices: Vec<DevicePage<'a>>,
}

/// A device's part of the page.
struct DevicePage<'a> {
    on: &'a OnDevice,
    load: String,
    outputs: Vec<Row<'a>>,
    /// The columns of the table of scenarios: file and path.
    columns: Vec<(&'static str, &'static str)>,
    /// A scenario, and what it gave in each column.
    rows: Vec<Vec<&'a Held>>,
    problems: Vec<String>,
    strips: Vec<Strip>,
}

impl<'a> DevicePage<'a> {
    fn of(on: &'a OnDevice) -> Self {
        let mut columns = Vec::new();
        let mut rows: Vec<Vec<&Held>> = Vec::new();
        for held in &on.scenarios {
            let column = (held.file, held.path);
            if !columns.contains(&column) {
                columns.push(column);
            }
            match rows.iter_mut().find(|row| row[0].scenario == held.scenario) {
                Some(row) => row.push(held),
                None => rows.push(vec![held]),
            }
        }
        let strips =
            vec![Strip::of("refit", &on.times.refit_ms), Strip::of("run", &on.times.run_ms)];
        let load = milliseconds(on.times.load_ms);
        let outputs = on.outputs.iter().map(Row::of).collect();
        Self { on, load, outputs, columns, rows, problems: on.problems().collect(), strips }
    }
}

/// A line of the table of outputs.
struct Row<'a> {
    compared: &'a Compared,
    max_abs: String,
    cosine: String,
    bars: Vec<Bar>,
}

/// A bar of a histogram, in a box of 12 × 20.
struct Bar {
    x: usize,
    height: f64,
    /// What it counts.
    title: String,
}

impl Bar {
    /// On a logarithmic scale: one element of a million is seen.
    fn of(histogram: &[usize]) -> Vec<Self> {
        let scale = |count: usize| (count as f64 + 1.0).log10();
        let most = histogram.iter().max().map_or(1.0, |&most| scale(most.max(1)));
        let bars = histogram.iter().zip(BINS).enumerate().filter(|(_, (count, _))| **count > 0);
        let bar = |(x, (&count, bin)): (usize, (&usize, &str))| {
            let up_to = match bin {
                "0" => "are the same".to_owned(),
                "more" => "differ by more than 1".to_owned(),
                bin => format!("differ by at most {bin}"),
            };
            Self { x, height: 20.0 * scale(count) / most, title: format!("{count} {up_to}") }
        };
        bars.map(bar).collect()
    }
}

impl<'a> Row<'a> {
    fn of(compared: &'a Compared) -> Self {
        let none = || "–".to_owned();
        let max_abs = compared.max_abs.map_or_else(none, |difference| format!("{difference:.2e}"));
        let cosine = compared.cosine.map_or_else(none, |cosine| format!("{cosine:.9}"));
        Self { compared, max_abs, cosine, bars: Bar::of(&compared.histogram) }
    }
}

fn milliseconds(time: f64) -> String {
    format!("{time:.3} ms")
}

/// Times as dots along a line from 0 to the longest.
struct Strip {
    what: &'static str,
    median: String,
    longest: String,
    /// Places of the dots, in parts of 1000.
    dots: Vec<u32>,
}

impl Strip {
    fn of(what: &'static str, times: &[f64]) -> Self {
        let longest = times.iter().copied().fold(0.0, f64::max);
        let median = median(times);
        let place = |time: &f64| (time / longest.max(f64::MIN_POSITIVE) * 1000.0) as u32;
        let (median, longest, dots) =
            (milliseconds(median), milliseconds(longest), times.iter().map(place).collect());
        Self { what, median, longest, dots }
    }
}
