#![doc = include_str!("../README.md")]

pub mod adapters;
pub mod bind;
mod canary;
pub mod choices;
mod damage;
pub mod engine;
mod exercise;
mod forge;
pub mod images;
pub mod onnx;
mod scratch;
pub mod sources;
pub mod watch;

use engine_ops::hostile::Random;

/// Something that takes what strangers give: any choices have to end in a value or an error. A panic, an abort, memory out of
/// proportion or a promise that does not hold is a finding.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it takes.
    pub about: &'static str,
    /// Runs it on one case.
    pub run: fn(&[u8]),
    /// Bytes of choices that a case takes at most.
    pub choices: usize,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "engine-damaged",
        about: "engine files with damage",
        run: engine::damaged,
        choices: 64,
    },
    Target {
        name: "engine-forged",
        about: "engine files changed behind their digests, then run",
        run: engine::forged,
        choices: 128,
    },
    Target {
        name: "onnx-models",
        about: "valid models with other nodes, attributes, types and constants: built, stripped, filled and run",
        run: onnx::models,
        choices: 192,
    },
    Target {
        name: "onnx-rows",
        about: "made-up calls of an operator as models of one node, built and run",
        run: onnx::rows,
        choices: 32,
    },
    Target {
        name: "onnx-bytes",
        about: "ONNX files with damage, built and run",
        run: onnx::bytes,
        choices: 64,
    },
    Target {
        name: "source-safetensors",
        about: "safetensors files",
        run: sources::safetensors,
        choices: 96,
    },
    Target {
        name: "source-sharded",
        about: "safetensors files with an index",
        run: sources::sharded,
        choices: 96,
    },
    Target { name: "source-npz", about: "NumPy archives", run: sources::npz, choices: 96 },
    Target { name: "npy", about: "NumPy arrays", run: sources::npy, choices: 64 },
    Target { name: "source-torch", about: "PyTorch archives", run: sources::torch, choices: 96 },
    Target {
        name: "source-pickle",
        about: "pickles in PyTorch archives",
        run: sources::pickle,
        choices: 96,
    },
    Target { name: "source-gguf", about: "GGUF files", run: sources::gguf, choices: 96 },
    Target {
        name: "source-engine",
        about: "engine files as sources",
        run: sources::engine,
        choices: 96,
    },
    Target {
        name: "source-onnx",
        about: "ONNX files with external data as sources",
        run: sources::onnx,
        choices: 96,
    },
    Target { name: "images", about: "image files with damage", run: images::images, choices: 64 },
    Target { name: "lora", about: "adapters over a checkpoint", run: adapters::lora, choices: 128 },
    Target {
        name: "bind",
        about: "maps between model and checkpoint",
        run: bind::maps,
        choices: 128,
    },
];

/// Targets that fail in the ways in which a target can, to show that this is seen. They run only when they are named.
pub const CANARIES: &[Target] = &[
    Target { name: "canary-panic", about: "panics", run: canary::panics, choices: 8 },
    Target { name: "canary-memory", about: "takes memory", run: canary::takes_memory, choices: 8 },
    Target { name: "canary-stall", about: "does not end", run: canary::stalls, choices: 8 },
];

impl Target {
    /// The target of this name, which may be a canary.
    pub fn named(name: &str) -> Option<&'static Target> {
        TARGETS.iter().chain(CANARIES).find(|target| target.name == name)
    }

    /// The choices of case `index` of a seed: the same on every machine.
    pub fn case(&self, seed: u64, index: u64) -> Vec<u8> {
        let name = self
            .name
            .bytes()
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut random = Random::new(name ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let len = 1 + random.below(self.choices);
        let words = (0..len.div_ceil(8)).flat_map(|_| random.number().to_le_bytes());
        words.take(len).collect()
    }
}
