//! The flag matrix, suites against oracles, verification, and the assets they use.

pub mod assets;
pub mod canaries;
pub mod deciding;
pub mod exports;
pub mod generate;
pub mod graphs;
pub mod leaks;
pub mod matrix;
pub mod models;
pub mod mutation;
pub mod oracle;
pub mod parallel;
pub mod proof;
pub mod sized;
pub mod soak;
pub mod suite;
pub mod zoo;

use engine_runtime::{Device, DeviceSelector};

/// The devices that tests run on: the CPU, and a GPU if there is one. Without one the skip is printed, and is a failure where
/// `REFIT_REQUIRE_GPU` is set.
///
/// # Panics
/// If `REFIT_REQUIRE_GPU` is set and there is no GPU.
pub fn devices() -> Vec<Device> {
    let gpu: DeviceSelector = "gpu".parse().unwrap_or_default();
    match Device::open(&gpu) {
        Ok(gpu) => vec![Device::cpu(), gpu],
        Err(why) => {
            assert!(std::env::var_os("REFIT_REQUIRE_GPU").is_none(), "a GPU is required: {why}");
            eprintln!("SKIPPED: everything on a GPU: {why}");
            vec![Device::cpu()]
        }
    }
}

/// The example of the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
