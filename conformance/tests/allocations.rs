//! What a warm run asks the system's allocator for: the memory of its outputs, and nothing for its steps.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::models::MODELS;
use engine_builder::{BuildOptions, build};
use engine_onnx::Model;
use engine_ops::cpu::Cpu;
use engine_ops::lookup;
use engine_runtime::{Device, LiveModule, Module, Profile, RunOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The system's allocator, counted.
struct Counted;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Allocations up to the end of the last step, if there was one, and the planned steps that made any.
#[derive(Default)]
struct Steps {
    last: Option<usize>,
    /// By operator: steps, and allocations.
    made: BTreeMap<&'static str, (usize, usize)>,
    planned: usize,
}

impl Steps {
    fn ended(&mut self, op: &'static str) {
        let now = CALLS.load(Ordering::Relaxed);
        let is_planned = matches!(lookup(op, 1).unwrap().cpu, Cpu::Planned(_));
        // Before the first step is what the run itself asks for, for its outputs first of all.
        if let Some(made) = self.last.map(|last| now - last).filter(|_| is_planned) {
            self.planned += 1;
            if made > 0 {
                let entry = self.made.entry(op).or_default();
                *entry = (entry.0 + 1, entry.1 + made);
            }
        }
        self.last = Some(CALLS.load(Ordering::Relaxed));
    }
}

#[test]
fn planned_steps_of_a_warm_run_allocate_nothing() {
    let steps = Arc::new(Mutex::new(Steps::default()));
    let seen = steps.clone();
    let profile = Profile::new(move |step| seen.lock().unwrap().ended(step.op));
    let options = RunOptions { profile: Some(profile), ..RunOptions::default() };
    for case in MODELS {
        let model = Model::open(&case.asset.path().unwrap()).unwrap();
        let engine = build(&model, &BuildOptions::default()).unwrap();
        let module = LiveModule::load(engine, &Device::cpu().with_threads(2)).unwrap();
        let inputs = (case.runs)().unwrap().remove(0);
        let inputs = inputs.into_iter().map(|(name, tensor)| (name, tensor.into())).collect();
        for _ in 0..2 {
            module.run_with(&inputs, &options).unwrap();
        }
        *steps.lock().unwrap() = Steps::default();
        module.run_with(&inputs, &options).unwrap();
        let steps = steps.lock().unwrap();
        eprintln!("{}: {} planned steps", case.name, steps.planned);
        assert!(steps.made.is_empty(), "{}: {:?} (steps, allocations)", case.name, steps.made);
    }
}
