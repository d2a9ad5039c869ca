//! A progress bar for work that takes over a second, on a terminal; none in a pipe.

use crate::output::manner;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long work goes on before a bar appears.
const PATIENCE: Duration = Duration::from_secs(1);

/// Follows one piece of work.
pub struct Progress {
    what: &'static str,
    /// How far it is, in indicatif's words.
    position: &'static str,
    begun: Instant,
    /// Whether somebody sees a bar, and wants one.
    shown: bool,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    /// Begins following `what`, in bytes.
    pub fn new(what: &'static str) -> Self {
        Self::following(what, "{bytes}/{total_bytes}")
    }

    /// Begins following `what`, in steps.
    pub fn in_steps(what: &'static str) -> Self {
        Self::following(what, "{pos}/{len}")
    }

    fn following(what: &'static str, position: &'static str) -> Self {
        Self {
            what,
            position,
            begun: Instant::now(),
            shown: std::io::stderr().is_terminal() && !manner().no_progress && !manner().quiet,
            bar: OnceLock::new(),
        }
    }

    /// Shows how far the work is, once it has taken long enough to be worth a bar.
    pub fn update(&self, done: u64, total: u64) {
        if !self.shown || self.begun.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            let template = format!("{{msg}} {{bar:30}} {} {{eta}}", self.position);
            let style =
                ProgressStyle::with_template(&template).expect("the template is well-formed");
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar.set_message(self.what);
            bar
        });
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
