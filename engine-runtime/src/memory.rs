//! What a module holds in memory, by kind.

/// Bytes that a module holds ([`Module::memory`](crate::Module::memory)). What modules share counts for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// The engine's weights on the host, those in a mapped file included; nothing after
    /// [`Module::drop_sources`](crate::Module::drop_sources).
    pub weights: u64,
    /// The weights before the last refit, as far as they are others: what [`Module::rollback`](crate::Module::rollback) goes back to.
    pub previous: u64,
    /// What runs read on the host beyond [`Self::weights`]: what was calculated of weights, and weights themselves after
    /// [`Module::drop_sources`](crate::Module::drop_sources).
    pub constants: u64,
    /// Weights, and what was calculated of them, on a GPU.
    pub on_device: u64,
    /// Other forms of constants, which kernels read in their place.
    pub forms: u64,
    /// Memory of runs that are over, kept for later ones ([`Module::trim`](crate::Module::trim) gives it up). Modules on one CPU device share it.
    pub runs: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { weights, previous, constants, on_device, forms, runs } = *self;
        weights + previous + constants + on_device + forms + runs
    }
}
