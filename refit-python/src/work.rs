//! Long calls: without Python's lock, so that other threads go on, and with an ear for Ctrl-C.

use crate::failure::{Class, Failure};
use engine_runtime as runtime;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How often a long call looks whether Ctrl-C was pressed.
const LOOK: Duration = Duration::from_millis(50);

/// Stack of a thread that does a long call: models are nested.
const STACK: usize = 16 << 20;

/// Ends calls early, from any thread.
///
/// Given to `Module.run`, `Module.refit` and others as `cancel=`; any number of calls may share one. What is cancelled stays so, and the
/// calls raise `refit.Cancelled`.
#[pyclass(frozen, module = "refit")]
#[derive(Default)]
pub(crate) struct Cancel {
    pub(crate) cancel: runtime::Cancel,
}

#[pymethods]
impl Cancel {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ends the calls that have it, as soon as they look: between two steps of a run, between two pieces of a weight.
    fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Whether it was cancelled.
    #[getter]
    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// What a long call is told from outside, and tells.
pub(crate) trait Watch {
    /// Tells the work to end early; whether it will.
    fn cancel(&self) -> bool;

    /// Is called now and then, with Python's lock held.
    fn tell(&self, py: Python<'_>) -> PyResult<()>;
}

/// Work that cannot be ended: after Ctrl-C nobody waits for it.
pub(crate) struct Unwatched;

impl Watch for Unwatched {
    fn cancel(&self) -> bool {
        false
    }

    fn tell(&self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }
}

impl Watch for runtime::Cancel {
    fn cancel(&self) -> bool {
        runtime::Cancel::cancel(self);
        true
    }

    fn tell(&self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }
}

/// Does `work` on a thread of its own while this one, without Python's lock, waits and looks for signals.
pub(crate) fn long<T: Send + 'static>(
    py: Python<'_>,
    watch: &(dyn Watch + Sync),
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> PyResult<T> {
    started()?;
    py.detach(|| {
        let (send, receive) = channel();
        let work = move || drop(send.send(catch_unwind(AssertUnwindSafe(work))));
        let thread = thread::Builder::new().name("refit-call".to_owned()).stack_size(STACK);
        thread
            .spawn(work)
            .map_err(|error| PyRuntimeError::new_err(format!("no thread: {error}")))?;
        let mut raised = None;
        loop {
            match receive.recv_timeout(LOOK) {
                Ok(done) => {
                    return match (raised, done) {
                        (Some(error), _) => Err(error),
                        (None, done) => {
                            done.unwrap_or_else(|panic| Err(bug(&*panic))).map_err(PyErr::from)
                        }
                    };
                }
                Err(RecvTimeoutError::Timeout) if raised.is_none() => {
                    let looked =
                        Python::attach(|py| py.check_signals().and_then(|()| watch.tell(py)));
                    let Err(error) = looked else { continue };
                    if !watch.cancel() {
                        return Err(error);
                    }
                    raised = Some(error);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PyRuntimeError::new_err("the thread of a call was lost"));
                }
            }
        }
    })
}

/// Does `work` on this thread, without Python's lock: for what is known to end soon.
pub(crate) fn short<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> PyResult<T> {
    started()?;
    py.detach(|| catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(bug(&*panic))))
        .map_err(PyErr::from)
}

/// A panic, which is a bug, as an ordinary exception.
fn bug(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure::new(Class::Error, format!("a bug of refit, please report it: {text}"))
}

/// The process in which threads were started first; it is this one if there was none before.
fn process() -> u32 {
    static PROCESS: OnceLock<u32> = OnceLock::new();
    *PROCESS.get_or_init(process::id)
}

/// Whether this process was forked from the one whose threads work. What waits for them, waits for ever.
pub(crate) fn is_forked() -> bool {
    process() != process::id()
}

/// Threads do not live on in a process that was forked: a call there is refused.
pub(crate) fn started() -> Result<(), Failure> {
    match is_forked() {
        false => Ok(()),
        true => Err(Failure::new(
            Class::Error,
            "refit was used before this process was forked, and its threads are not here: fork before the first use, or start \
             processes with multiprocessing.get_context(\"spawn\") or \"forkserver\"",
        )),
    }
}
