//! How fast bytes come onto a GPU at best, by wgpu alone: what a refit there is held against.

use super::Times;
use miette::{IntoDiagnostic, Result, bail, miette};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wgpu::{
    Backends, Buffer, BufferDescriptor, BufferUsages, Device, DeviceDescriptor, Instance,
    InstanceDescriptor, MapMode, PollType, Queue, SubmissionIndex,
};

/// Bytes of a copy where copies overlap with the filling of memory.
const CHUNK: usize = 4 << 20;

/// Chunks of a thread: one is filled while the other is copied.
const CHUNKS: usize = 2;

/// Threads that fill.
const THREADS: [usize; 4] = [1, 2, 4, 8];

/// A GPU, and bytes with a place for them there.
pub struct Uploads {
    device: Device,
    queue: Queue,
    host: Vec<u8>,
    target: Mutex<Buffer>,
    /// Of [`CHUNK`] bytes each.
    staging: Vec<Buffer>,
}

fn buffer(device: &Device, size: u64, usage: BufferUsages) -> Buffer {
    let mapped_at_creation = usage.contains(BufferUsages::MAP_WRITE);
    device.create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation })
}

/// Memory on the GPU for `bytes`.
fn target(device: &Device, bytes: &[u8]) -> Buffer {
    buffer(device, bytes.len() as u64, BufferUsages::STORAGE | BufferUsages::COPY_DST)
}

impl Uploads {
    /// For `bytes` on the adapter of this name.
    pub fn new(adapter: &str, bytes: u64) -> Result<Self> {
        let instance = Instance::new(InstanceDescriptor {
            backends: Backends::PRIMARY,
            ..InstanceDescriptor::new_without_display_handle()
        });
        let adapters = pollster::block_on(instance.enumerate_adapters(Backends::PRIMARY));
        let found = adapters.into_iter().find(|found| found.get_info().name == adapter);
        let adapter = found.ok_or_else(|| miette!("there is no adapter {adapter:?}"))?;
        let required_limits = adapter.limits();
        let descriptor = DeviceDescriptor { required_limits, ..Default::default() };
        let opened = pollster::block_on(adapter.request_device(&descriptor)).into_diagnostic()?;
        let (device, queue) = opened;
        let host: Vec<u8> = (0..bytes.next_multiple_of(4)).map(|i| (i % 251) as u8).collect();
        let target = Mutex::new(target(&device, &host));
        let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
        let most = THREADS.into_iter().max().unwrap_or(1) * CHUNKS;
        let staging = (0..most).map(|_| buffer(&device, CHUNK as u64, usage)).collect();
        Ok(Self { device, queue, host, target, staging })
    }

    /// The best median of all ways; prints each, and beside them what it takes to have the memory on the GPU anew as well, as a refit does that
    /// leaves the old weights in place.
    pub fn best(&self, rounds: usize) -> Result<Duration> {
        let mut ways = vec![("write_buffer".to_owned(), self.median(rounds, || self.written())?)];
        for threads in THREADS {
            let name = format!("staging, {threads} threads");
            ways.push((name, self.median(rounds, || self.staged(threads))?));
        }
        let best = ways.iter().map(|(_, time)| *time).min().unwrap_or_default();
        let anew = || {
            *self.target() = target(&self.device, &self.host);
            self.staged(8)
        };
        ways.push(("staging, 8, new memory".to_owned(), self.median(rounds, anew)?));
        for (name, time) in &ways {
            let rate = self.host.len() as f64 / 1e9 / time.as_secs_f64();
            println!("  upload by {name:<22} {:>7.2} ms: {rate:.2} GB/s", time.as_secs_f64() * 1e3);
        }
        Ok(best)
    }

    fn median(&self, rounds: usize, upload: impl Fn() -> Result<()>) -> Result<Duration> {
        upload()?;
        let mut times = Times::default();
        (0..rounds).try_for_each(|_| times.take(&upload))?;
        Ok(times.median())
    }

    fn written(&self) -> Result<()> {
        self.queue.write_buffer(&self.target(), 0, &self.host);
        self.wait(self.queue.submit([]))
    }

    /// Fills staging memory with so many threads and copies from it, a chunk at a time.
    fn staged(&self, threads: usize) -> Result<()> {
        let part = self.host.len().div_ceil(threads).next_multiple_of(CHUNK);
        let parts = self.host.chunks(part).enumerate().zip(self.staging.chunks(CHUNKS));
        let last = std::thread::scope(|scope| {
            let fill = |((i, bytes), staging)| {
                scope.spawn(move || self.fill(bytes, (i * part) as u64, staging))
            };
            let threads: Vec<_> = parts.map(fill).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| match thread.join() {
                Ok(filled) => filled,
                Err(_) => bail!("a thread that fills staging memory panicked"),
            };
            threads.into_iter().try_for_each(join)
        });
        last?;
        self.wait(self.queue.submit([]))
    }

    fn target(&self) -> MutexGuard<'_, Buffer> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, bytes: &[u8], offset: u64, staging: &[Buffer]) -> Result<()> {
        let target = self.target().clone();
        let mut copies: Vec<Option<SubmissionIndex>> = vec![None; staging.len()];
        for (i, chunk) in bytes.chunks(CHUNK).enumerate() {
            let which = i % staging.len();
            if let Some(copy) = copies[which].take() {
                self.wait(copy)?;
            }
            let (buffer, len) = (&staging[which], chunk.len() as u64);
            buffer.get_mapped_range_mut(..len).into_diagnostic()?.slice(..).copy_from_slice(chunk);
            buffer.unmap();
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let at = offset + (i * CHUNK) as u64;
            encoder.copy_buffer_to_buffer(buffer, 0, &target, at, len);
            copies[which] = Some(self.queue.submit([encoder.finish()]));
            // A chunk that could not be mapped says so when it is filled next.
            buffer.map_async(MapMode::Write, .., |_| {});
        }
        copies.into_iter().flatten().try_for_each(|copy| self.wait(copy))
    }

    fn wait(&self, submission: SubmissionIndex) -> Result<()> {
        let poll = PollType::Wait { submission_index: Some(submission), timeout: None };
        self.device.poll(poll).map(drop).into_diagnostic()
    }
}
