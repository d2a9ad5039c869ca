//! `refit devices`: what there is to run on.

use super::human;
use crate::failure::Failure;
use crate::output::{give, say};
use engine_ops::kernels::instruction_sets;
use engine_runtime::gpu::{AdapterDetails, SOFTWARE_GPU, adapter_details};
use engine_runtime::{DeviceInfo, MemoryLimits, default_threads};
use serde::Serialize;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    cpu: Cpu,
    gpus: Vec<Gpu>,
    auto: Auto,
}

#[derive(Serialize)]
struct Cpu {
    /// Threads of runs, unless another number is asked for.
    threads: usize,
    /// Instruction sets that kernels have, the one that they use first.
    instruction_sets: Vec<&'static str>,
    /// Bytes that a run may take.
    max_memory: u64,
}

#[derive(Serialize)]
struct Gpu {
    /// What `--device` calls it.
    device: String,
    name: String,
    backend: String,
    kind: String,
    driver: String,
    f16: bool,
    /// The smallest and the largest size of a subgroup; null where shaders cannot use subgroups.
    subgroups: Option<[u32; 2]>,
    max_buffer: u64,
    max_binding: u64,
    max_storage_buffers: u32,
    max_workgroups: u32,
    max_invocations: u32,
    workgroup_memory: u32,
}

/// What `auto` takes, and why.
#[derive(Serialize)]
struct Auto {
    device: String,
    why: String,
}

pub fn run() -> Result<(), Failure> {
    let gpus: Vec<Gpu> = adapter_details().into_iter().map(gpu).collect();
    let report = Report {
        cpu: Cpu {
            threads: default_threads(),
            instruction_sets: instruction_sets(),
            max_memory: MemoryLimits::default().run,
        },
        auto: auto(&gpus),
        gpus,
    };
    give(&report, None, || print(&report))
}

fn gpu(details: AdapterDetails) -> Gpu {
    let AdapterDetails { summary, kind, .. } = details;
    Gpu {
        // A software adapter that does not count as a GPU is taken by its name.
        device: details.index.map_or_else(|| summary.name.clone(), |index| format!("gpu:{index}")),
        name: summary.name,
        backend: summary.backend,
        kind: kind.to_string(),
        driver: summary.driver,
        f16: details.f16,
        subgroups: details.subgroups.map(|(least, most)| [least, most]),
        max_buffer: details.max_buffer,
        max_binding: details.max_binding,
        max_storage_buffers: details.max_storage_buffers,
        max_workgroups: details.max_workgroups,
        max_invocations: details.max_invocations,
        workgroup_memory: details.workgroup_memory,
    }
}

fn auto(gpus: &[Gpu]) -> Auto {
    let (device, why) = match DeviceInfo::auto() {
        DeviceInfo::Gpu(_) => ("gpu:0", "the first hardware GPU".to_owned()),
        DeviceInfo::Cpu if gpus.is_empty() => ("cpu", "there is no GPU adapter".to_owned()),
        DeviceInfo::Cpu => (
            "cpu",
            format!(
                "the adapters are software; such a one is taken by its name, or as gpu:N if {SOFTWARE_GPU}=1"
            ),
        ),
    };
    Auto { device: device.to_owned(), why }
}

fn print(report: &Report) {
    let Report { cpu, gpus, auto } = report;
    let threads = match cpu.threads {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    say!("cpu");
    say!("  runs      {threads}, kernels in {}", cpu.instruction_sets.join(", "));
    say!("  memory    runs up to {}", human(cpu.max_memory));
    for gpu in gpus {
        say!("{}", gpu.device);
        say!("  adapter   {}, {}, {}", gpu.name, gpu.kind, gpu.backend);
        say!("  driver    {}", gpu.driver);
        let subgroups = match gpu.subgroups {
            Some([least, most]) if least == most => format!("subgroups of {least}"),
            Some([least, most]) => format!("subgroups of {least} to {most}"),
            None => "no subgroups".to_owned(),
        };
        say!("  shaders   {}, {subgroups}", if gpu.f16 { "f16" } else { "no f16" });
        say!(
            "  memory    tensors up to {}, buffers up to {}, {} of them in a kernel",
            human(gpu.max_binding),
            human(gpu.max_buffer),
            gpu.max_storage_buffers
        );
        say!(
            "  kernels   {} invocations and {} in a workgroup, {} workgroups in a dimension",
            gpu.max_invocations,
            human(gpu.workgroup_memory.into()),
            gpu.max_workgroups
        );
    }
    say!("auto");
    say!("  takes     {}: {}", auto.device, auto.why);
}
