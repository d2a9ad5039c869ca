//! Which GPUs there are, and which one is taken.

use crate::gpu::{AdapterDetails, AdapterKind, AdapterSummary, GpuChoice, SOFTWARE_GPU};
use crate::gpu::{GpuError, GpuErrorKind};
use std::sync::LazyLock;
use wgpu::{Adapter, Backends, DeviceType, Features, Instance, InstanceDescriptor, InstanceFlags};
use wgpu::{CooperativeMatrixProperties, CooperativeScalarType};

impl AdapterSummary {
    pub(crate) fn of(info: &wgpu::AdapterInfo) -> Self {
        Self {
            name: info.name.clone(),
            backend: info.backend.to_string(),
            software: info.device_type == DeviceType::Cpu,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        }
    }
}

/// Features that kernels for matrix units need.
pub(super) const MATRIX_UNITS: Features =
    Features::SHADER_F16.union(Features::EXPERIMENTAL_COOPERATIVE_MATRIX);

/// One instance for the process: each one loads every driver anew.
static INSTANCE: LazyLock<Instance> = LazyLock::new(|| {
    // The defaults validate indirect calls and cap buffers below 4 GiB even in release builds; nothing here
    // makes indirect calls.
    let flags = if cfg!(debug_assertions) {
        InstanceFlags::VALIDATION | InstanceFlags::DEBUG
    } else {
        InstanceFlags::empty()
    };
    Instance::new(InstanceDescriptor {
        backends: Backends::PRIMARY,
        flags,
        ..InstanceDescriptor::new_without_display_handle()
    })
});

/// Every adapter, those that are more likely to be fast first.
pub fn adapters() -> Vec<AdapterSummary> {
    found().iter().map(|a| AdapterSummary::of(&a.get_info())).collect()
}

/// Every adapter with what kernels can have of it, in the order of [`adapters`].
pub fn adapter_details() -> Vec<AdapterDetails> {
    let found = found();
    let all: Vec<AdapterSummary> =
        found.iter().map(|a| AdapterSummary::of(&a.get_info())).collect();
    let mut indices = 0..;
    let details = found.iter().zip(all).map(|(adapter, summary)| {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let is_eligible = !summary.software || software_allowed();
        let subgroups = (info.subgroup_min_size, info.subgroup_max_size);
        AdapterDetails {
            summary,
            kind: match info.device_type {
                DeviceType::DiscreteGpu => AdapterKind::Discrete,
                DeviceType::IntegratedGpu => AdapterKind::Integrated,
                DeviceType::VirtualGpu => AdapterKind::Virtual,
                DeviceType::Cpu => AdapterKind::Software,
                DeviceType::Other => AdapterKind::Other,
            },
            index: is_eligible.then(|| indices.next()).flatten(),
            f16: features.contains(Features::SHADER_F16),
            subgroups: features.contains(Features::SUBGROUP).then_some(subgroups),
            max_buffer: limits.max_buffer_size,
            max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
        }
    });
    details.collect()
}

fn found() -> Vec<Adapter> {
    let mut found = pollster::block_on(INSTANCE.enumerate_adapters(Backends::PRIMARY));
    found.sort_by_key(|a| rank(a.get_info().device_type));
    found
}

/// Position of a device type in the list. The sort is stable, so adapters of one type keep the order of the driver.
fn rank(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// The adapter that `choice` names.
pub(crate) fn choose(choice: &GpuChoice) -> Result<Adapter, GpuError> {
    let mut found = found();
    let all: Vec<AdapterSummary> =
        found.iter().map(|a| AdapterSummary::of(&a.get_info())).collect();
    match pick(choice, &all, software_allowed()) {
        Some(i) => Ok(found.swap_remove(i)),
        None => Err(not_found(choice, &all)),
    }
}

/// Whether it multiplies 16 × 16 halves with sums of `f32`, in subgroups that all have 32 invocations.
pub(super) fn has_matrix_units(adapter: &Adapter) -> bool {
    let (info, features) = (adapter.get_info(), adapter.features());
    let is_meant = |p: &CooperativeMatrixProperties| {
        (p.m_size, p.n_size, p.k_size) == (16, 16, 16)
            && p.ab_type == CooperativeScalarType::F16
            && p.cr_type == CooperativeScalarType::F32
    };
    features.contains(MATRIX_UNITS)
        && (info.subgroup_min_size, info.subgroup_max_size) == (32, 32)
        && adapter.cooperative_matrix_properties().iter().any(is_meant)
}

/// Whether the environment lets software adapters count as GPUs.
fn software_allowed() -> bool {
    std::env::var_os(SOFTWARE_GPU).is_some_and(|v| v == "1")
}

/// Position in `all` of the adapter that `choice` names.
fn pick(choice: &GpuChoice, all: &[AdapterSummary], software: bool) -> Option<usize> {
    let mut eligible = (0..all.len()).filter(|&i| software || !all[i].software);
    match choice {
        GpuChoice::First => eligible.next(),
        GpuChoice::Index(n) => eligible.nth(*n),
        GpuChoice::Named(part) => {
            let part = part.to_lowercase();
            all.iter().position(|a| a.name.to_lowercase().contains(&part))
        }
    }
}

fn not_found(choice: &GpuChoice, all: &[AdapterSummary]) -> GpuError {
    let mut message = String::from("no such GPU; ");
    if all.is_empty() {
        message.push_str("found no adapters at all");
    } else {
        let list: Vec<String> = all.iter().map(ToString::to_string).collect();
        message.push_str(&format!("found {}", list.join(", ")));
        if all.iter().any(|a| a.software) && !software_allowed() {
            message
                .push_str(&format!("; a software adapter is taken by name or if {SOFTWARE_GPU}=1"));
        }
    }
    GpuError::new(
        GpuErrorKind::NoAdapter,
        format!("device {choice:?}", choice = choice.to_string()),
        message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<AdapterSummary> {
        let adapter = |name: &str, software| AdapterSummary {
            name: name.to_owned(),
            backend: "vulkan".to_owned(),
            software,
            driver: String::new(),
        };
        vec![adapter("Acme 9000", false), adapter("Iris", false), adapter("llvmpipe (LLVM)", true)]
    }

    #[test]
    fn software_adapters_are_gpus_only_when_named_or_allowed() {
        let all = machine();
        assert_eq!(pick(&GpuChoice::First, &all, false), Some(0));
        assert_eq!(pick(&GpuChoice::Index(1), &all, false), Some(1));
        assert_eq!(pick(&GpuChoice::Index(2), &all, false), None);
        assert_eq!(pick(&GpuChoice::Index(2), &all, true), Some(2));
        assert_eq!(pick(&GpuChoice::Named("LLVM".into()), &all, false), Some(2));
        assert_eq!(pick(&GpuChoice::First, &all[2..], false), None);
        assert_eq!(pick(&GpuChoice::First, &all[2..], true), Some(0));
    }

    #[test]
    fn the_error_lists_what_was_found() {
        let text = not_found(&GpuChoice::Index(7), &machine()).to_string();
        assert!(text.contains("\"gpu:7\""), "{text}");
        assert!(
            text.contains("Acme 9000 (vulkan), Iris (vulkan), llvmpipe (LLVM) (vulkan, software)"),
            "{text}"
        );
        let none = not_found(&GpuChoice::First, &[]).to_string();
        assert!(none.contains("found no adapters at all"), "{none}");
    }
}
