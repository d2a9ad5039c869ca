//! When the launches of a run began and ended, by the device's clock: what a profile is told.

use super::device::GpuDevice;
use super::scope::Scope;
use super::transfer::unmapped;
use crate::gpu::GpuError;
use std::ops::Range;
use std::time::Duration;
use wgpu::{
    Buffer, BufferUsages, CommandEncoder, ComputePassTimestampWrites, Features, MapMode, QuerySet,
    QuerySetDescriptor, QueryType,
};

/// Launches whose two stamps a set of queries has room for.
const LAUNCHES: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

/// Bytes of a stamp.
const STAMP: usize = 8;

/// Room for the stamps of all launches of a run.
pub(crate) struct Stamps {
    sets: Vec<QuerySet>,
    launches: usize,
    resolved: Buffer,
    staging: Buffer,
}

impl GpuDevice {
    /// Whether launches are timed here by the device's own clock.
    pub(crate) fn has_clock(&self) -> bool {
        self.wgpu().features().contains(Features::TIMESTAMP_QUERY)
    }
}

impl Stamps {
    /// Room for so many launches; `None` where there are none, or the device has no clock.
    pub(crate) fn new(scope: &Scope<'_>, launches: usize) -> Result<Option<Self>, GpuError> {
        if launches == 0 || !scope.has_clock() {
            return Ok(None);
        }
        let set = |first: usize| {
            let count = (launches - first).min(LAUNCHES) * 2;
            scope.wgpu().create_query_set(&QuerySetDescriptor {
                label: Some("stamps"),
                ty: QueryType::Timestamp,
                count: count as u32,
            })
        };
        let bytes = (launches * 2 * STAMP) as u64;
        let resolved = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let staging = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        Ok(Some(Self {
            sets: (0..launches).step_by(LAUNCHES).map(set).collect(),
            launches,
            resolved: scope.buffer("stamps", bytes, resolved)?,
            staging: scope.buffer("stamps", bytes, staging)?,
        }))
    }

    /// What the pass of launch `i` alone writes.
    pub(crate) fn pass(&self, i: usize) -> ComputePassTimestampWrites<'_> {
        let at = (i % LAUNCHES * 2) as u32;
        ComputePassTimestampWrites {
            query_set: &self.sets[i / LAUNCHES],
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        }
    }

    fn resolve(&self, encoder: &mut CommandEncoder) {
        for (i, set) in self.sets.iter().enumerate() {
            let first = i * LAUNCHES;
            let count = (self.launches - first).min(LAUNCHES) * 2;
            let offset = (first * 2 * STAMP) as u64;
            encoder.resolve_query_set(set, 0..count as u32, &self.resolved, offset);
        }
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, self.staging.size());
    }

    /// When each launch began and ended, counted from the first beginning. All of them were submitted.
    pub(crate) fn read(&self, scope: &Scope<'_>) -> Result<Vec<Range<Duration>>, GpuError> {
        let submission = scope.submit(|encoder| self.resolve(encoder));
        // That the memory cannot be mapped shows below.
        self.staging.map_async(MapMode::Read, .., |_| ());
        scope.wait(submission)?;
        let view = self.staging.get_mapped_range(..).map_err(unmapped)?;
        let ticks: &[[u64; 2]] =
            bytemuck::try_cast_slice(&view[..self.launches * 2 * STAMP]).map_err(unmapped)?;
        let first = ticks.iter().map(|[begun, _]| *begun).min().unwrap_or_default();
        let nanoseconds = f64::from(scope.queue().get_timestamp_period());
        let since = |tick: u64| {
            Duration::from_nanos((tick.saturating_sub(first) as f64 * nanoseconds) as u64)
        };
        let times = ticks.iter().map(|&[begun, ended]| since(begun)..since(ended.max(begun)));
        let times = times.collect();
        drop(view);
        self.staging.unmap();
        Ok(times)
    }
}
