//! The steps of timed runs: how long each took, and when.

use engine_ops::cpu::TensorMeta;
use engine_runtime::StepTime;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The time of one step, and what it is.
#[derive(Serialize)]
pub struct Line {
    pub mean_ms: f64,
    pub min_ms: f64,
    /// Multiplications and additions in a second, by the least time, in units of 10⁹; null where memory decides how long the step takes.
    pub gflops: Option<f64>,
    /// Bytes of the operands and the results that were read and written in a second, by the least time, in units of 10⁹.
    pub gbytes: f64,
    pub op: &'static str,
    /// Types of the operands and the first result.
    pub types: String,
    pub path: String,
}

/// Events that a trace holds at most: a few hundred megabytes of text, which viewers still open.
const MOST_EVENTS: usize = 1 << 20;

/// Times of steps in the order in which they first ran, and when they ran if that is wanted.
pub struct Steps {
    begun: Instant,
    /// Whether shapes are others in each run, as those of growing caches are: steps are told by their nodes alone then.
    grows: bool,
    at: HashMap<(&'static str, String, String), usize>,
    sums: Vec<Sum>,
    events: Option<Vec<Event>>,
}

struct Sum {
    /// As the step had them last, as what follows.
    types: String,
    time: Duration,
    least: Duration,
    count: u32,
    multiplications: Option<u64>,
    bytes: usize,
}

/// A step of a run, or the run itself.
struct Event {
    /// The step; none for a run.
    step: Option<usize>,
    thread: usize,
    start: Duration,
    time: Duration,
}

impl Steps {
    /// No steps yet. Events are kept if there is to be a trace.
    pub fn new(traced: bool, grows: bool) -> Self {
        let (at, sums, events) = (HashMap::new(), Vec::new(), traced.then(Vec::new));
        Self { begun: Instant::now(), grows, at, sums, events }
    }

    /// A step of a run in a thread.
    pub fn add(&mut self, thread: usize, step: &StepTime<'_>) {
        let text = |meta: Option<&TensorMeta>| meta.map_or("–".to_owned(), TensorMeta::to_string);
        let inputs: Vec<_> = step.inputs().map(text).collect();
        let outputs: Vec<_> = step.outputs().map(text).collect();
        let types = format!("{} → {}", inputs.join(" "), outputs.join(" "));
        let next = self.sums.len();
        let told_by = if self.grows { String::new() } else { types.clone() };
        let at = *self.at.entry((step.op, told_by, step.path.to_owned())).or_insert(next);
        let metas = step.inputs().chain(step.outputs()).flatten();
        let bytes = metas.map(|meta| meta.len() * meta.dtype.width()).sum();
        let multiplications = step.multiplications();
        if at == next {
            let (time, least) = (Duration::ZERO, Duration::MAX);
            self.sums.push(Sum { types, time, least, count: 0, multiplications, bytes });
        } else if self.grows {
            (self.sums[at].types, self.sums[at].bytes) = (types, bytes);
            self.sums[at].multiplications = multiplications;
        }
        let sum = &mut self.sums[at];
        sum.time += step.time;
        sum.least = sum.least.min(step.time);
        sum.count += 1;
        self.event(Some(at), thread, step.end, step.time);
    }

    /// A run that ended at `end`.
    pub fn add_run(&mut self, thread: usize, end: Instant, time: Duration) {
        self.event(None, thread, end, time);
    }

    fn event(&mut self, step: Option<usize>, thread: usize, end: Instant, time: Duration) {
        let start = end.saturating_duration_since(self.begun).saturating_sub(time);
        if let Some(events) = self.events.as_mut().filter(|events| events.len() < MOST_EVENTS) {
            events.push(Event { step, thread, start, time });
        }
    }

    /// The times of the steps, in order.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<_> = self.at.iter().collect();
        lines.sort_by_key(|(_, at)| **at);
        let line = |((op, _, path), at): (&(&'static str, String, String), &usize)| {
            let Sum { ref types, time, least, count, multiplications, bytes } = self.sums[*at];
            // A clock may be too coarse for a step.
            let a_second = |n: f64| n / least.as_nanos().max(1) as f64;
            Line {
                mean_ms: time.as_secs_f64() * 1e3 / f64::from(count),
                min_ms: least.as_secs_f64() * 1e3,
                gflops: multiplications.map(|n| a_second(2.0 * n as f64)),
                gbytes: a_second(bytes as f64),
                op,
                types: types.clone(),
                path: path.clone(),
            }
        };
        lines.into_iter().map(line).collect()
    }

    /// What viewers of Chrome's traces read: complete events in microseconds, one row for each thread of runs.
    pub fn trace(&self, device: &str) -> Value {
        let lines = self.lines();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let event = |event: &Event| {
            let (name, category, args) = match event.step.map(|at| &lines[at]) {
                Some(line) => (line.op, "step", json!({ "node": line.path, "types": line.types })),
                None => ("run", "run", json!({})),
            };
            json!({
                "name": name,
                "cat": category,
                "ph": "X",
                "ts": micros(event.start),
                "dur": micros(event.time),
                "pid": 1,
                "tid": event.thread + 1,
                "args": args,
            })
        };
        let process =
            json!({ "name": "process_name", "ph": "M", "pid": 1, "args": { "name": device } });
        let events = self.events.iter().flatten().map(event);
        json!({ "displayTimeUnit": "ms", "traceEvents": std::iter::once(process).chain(events).collect::<Vec<_>>() })
    }
}
