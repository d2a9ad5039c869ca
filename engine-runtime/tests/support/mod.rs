//! What the GPU tests share.

use engine_runtime::gpu::{
    AdapterSummary, GpuChoice, GpuDevice, GpuErrorKind, GpuOptions, adapters,
};

/// The GPU under test: a hardware one, else a software one; nothing else about the tests depends on which.
pub fn device(options: GpuOptions) -> Option<GpuDevice> {
    let software = adapters().into_iter().find(|a| a.software);
    let named = |a: AdapterSummary| GpuChoice::Named(a.name);
    let opened = match (GpuDevice::open(&GpuChoice::First, options.clone()), software.map(named)) {
        (Err(e), Some(choice)) if e.kind() == GpuErrorKind::NoAdapter => {
            GpuDevice::open(&choice, options)
        }
        (first, _) => first,
    };
    match opened {
        Ok(device) => Some(device),
        Err(e) if e.kind() == GpuErrorKind::NoAdapter => {
            let required = std::env::var_os("REFIT_REQUIRE_GPU").is_some_and(|v| v == "1");
            assert!(!required, "REFIT_REQUIRE_GPU=1, but {e}");
            println!("SKIPPED: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}
