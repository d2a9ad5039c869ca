//! The times of runs.

use serde_json::{Value, json};
use std::time::Duration;

/// When each run began and how long it took, and how long all took together.
pub struct Times {
    /// By beginning.
    runs: Vec<(Duration, Duration)>,
    /// The times alone, the shortest first.
    sorted: Vec<Duration>,
    wall: Duration,
}

impl Times {
    /// Of at least one run.
    pub fn new(mut runs: Vec<(Duration, Duration)>, wall: Duration) -> Self {
        runs.sort();
        let mut sorted: Vec<Duration> = runs.iter().map(|(_, time)| *time).collect();
        sorted.sort();
        Self { runs, sorted, wall }
    }

    /// How many runs there were.
    pub fn count(&self) -> usize {
        self.runs.len()
    }

    /// The smallest time that `percent` of the runs do not exceed, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).map_or(0.0, |time| milliseconds(*time))
    }

    /// In milliseconds.
    pub fn mean(&self) -> f64 {
        milliseconds(self.sorted.iter().sum::<Duration>()) / self.sorted.len().max(1) as f64
    }

    /// Runs in a second.
    pub fn throughput(&self) -> f64 {
        self.count() as f64 / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// What `--save-times` writes.
    pub fn object(&self, device: &str) -> Value {
        let run = |(start, time): &(Duration, Duration)| json!({ "start_ms": milliseconds(*start), "ms": milliseconds(*time) });
        json!({ "device": device, "runs": self.runs.iter().map(run).collect::<Vec<_>>() })
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_of_runs() {
        let run = |ms: u64| (Duration::from_millis(100 - ms), Duration::from_millis(ms));
        let times = Times::new((1..=10).map(run).collect(), Duration::from_secs(2));
        let found = [0, 50, 90, 91, 99, 100].map(|percent| times.percentile(percent));
        assert_eq!(found, [1.0, 5.0, 9.0, 10.0, 10.0, 10.0]);
        assert_eq!((times.mean(), times.throughput()), (5.5, 5.0));
        let first = &times.object("cpu")["runs"][0];
        assert_eq!((&first["start_ms"], &first["ms"]), (&json!(90.0), &json!(10.0)));
        let one = Times::new(vec![run(3)], Duration::from_secs(1));
        assert_eq!([0, 50, 99, 100].map(|percent| one.percentile(percent)), [3.0; 4]);
    }
}
