//! Whether a machine is quiet enough to measure on.

use std::time::Duration;

/// How long is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The largest share of the processors' time that others may take.
const MOST: f64 = 0.1;

/// Why what is measured now is not what a quiet machine would give; `None` if it would, or the system does not say. Of two runtimes that have the machine in
/// turns, a busy neighbour slows the one down more that waits for all of its threads.
pub fn busy() -> Option<String> {
    let look = || std::fs::read_to_string("/proc/stat").ok();
    let before = look()?;
    std::thread::sleep(LOOK);
    let taken = share(&before, &look()?).filter(|taken| *taken > MOST)?;
    Some(format!("others take {:.0} % of the processors' time", taken * 100.0))
}

/// The share of time that was not idle between two looks at Linux's counters.
fn share(before: &str, after: &str) -> Option<f64> {
    let [(idle, all), (idle_then, all_then)] = [counters(after)?, counters(before)?];
    let (idle, all) = (idle.checked_sub(idle_then)?, all.checked_sub(all_then)?);
    (all > 0).then(|| 1.0 - idle as f64 / all as f64)
}

/// Time that was idle, and all, in ticks of all processors. What follows the eighth number is counted in those before it.
fn counters(stat: &str) -> Option<(u64, u64)> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let numbers: Vec<u64> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let idle = numbers.get(3)? + numbers.get(4)?;
    Some((idle, numbers.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_idle_is_taken() {
        let before = "cpu  100 0 50 800 50 0 0 0 90 0\ncpu0 1 2 3\n";
        let quiet = "cpu  100 0 50 1000 50 0 0 0 90 0\n";
        let half = "cpu  180 0 60 880 60 5 5 0 500 0\n";
        assert_eq!(share(before, quiet), Some(0.0));
        assert_eq!(share(before, half), Some(1.0 - 90.0 / 190.0));
        assert_eq!(share(before, before), None, "no time went by");
        assert_eq!(share(before, "intr 1 2 3\n"), None);
    }
}
