//! Runs engines on the CPU and, through wgpu, on any GPU; refits them while they serve.
