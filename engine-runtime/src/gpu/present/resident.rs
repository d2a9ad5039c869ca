//! Weights and prepared constants on the device.

use super::device::GpuDevice;
use super::scope::Scope;
use super::staging::send;
use super::transfer::Readback;
use super::words::{gpu_len, is_halves, paired, pairs, unpaired};
use crate::cpu::kernel::meta;
use crate::gpu::{GpuError, GpuErrorKind};
use engine_format::{Tensor, ValueId};
use engine_ops::cpu::{TensorMeta, TensorRef};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use wgpu::Buffer;

/// A program's constants. Versions share those that are the same.
pub struct GpuResident {
    /// Tells one set of constants from another.
    pub(crate) id: u64,
    pub(crate) constants: BTreeMap<ValueId, Arc<Constant>>,
}

/// A constant: on the device if it can be kept there, on the host otherwise, and there too once a node that runs there has read it.
pub struct Constant {
    meta: TensorMeta,
    /// Whether its elements lie two in a word.
    halves: bool,
    host: Mutex<Option<Tensor>>,
    /// `None` if the type has no word layout or the tensor is larger than a binding.
    buffer: Option<Buffer>,
    /// Where bind groups over it may lie.
    users: Mutex<Vec<Weak<dyn Holder>>>,
}

/// What holds bind groups over constants.
pub(crate) trait Holder: Send + Sync {
    /// Lets go of those over constants that are gone.
    fn sweep(&self);
}

impl GpuResident {
    pub(crate) fn new(constants: BTreeMap<ValueId, Arc<Constant>>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self { id: IDS.fetch_add(1, Ordering::Relaxed), constants }
    }

    pub(crate) fn constant(&self, id: ValueId) -> Option<&Arc<Constant>> {
        self.constants.get(&id)
    }
}

impl Constant {
    /// Moves a tensor to the device, if it can be kept there: as halves if they are wanted and it has such elements.
    pub(crate) fn new(device: &GpuDevice, tensor: &Tensor, halves: bool) -> Result<Self, GpuError> {
        let halves = halves && is_halves(tensor.dtype());
        let buffer = device.scoped(GpuErrorKind::Launch, "a constant", |scope| match halves {
            true => upload(scope, &paired(tensor)),
            false => upload(scope, tensor),
        })?;
        Ok(Self::made(tensor, halves, buffer))
    }

    fn made(tensor: &Tensor, halves: bool, buffer: Option<Buffer>) -> Self {
        let host = Mutex::new(buffer.is_none().then(|| tensor.clone()));
        Self { meta: meta(tensor), halves, host, buffer, users: Mutex::default() }
    }

    /// A constant that is not on the device, in the memory of `tensor`; `None` for one that is there.
    pub(crate) fn relocated(&self, tensor: &Tensor) -> Option<Self> {
        self.buffer.is_none().then(|| Self::made(tensor, self.halves, None))
    }

    /// The constant on the host, if it is there.
    #[cfg(test)]
    pub(crate) fn on_host(&self) -> Option<Tensor> {
        self.lock().clone()
    }

    /// Brings the constant to the host if it is not there yet, and keeps it there.
    pub(crate) fn fetch(&self, scope: &Scope<'_>) -> Result<Tensor, GpuError> {
        // Locked meanwhile, so that of several runs one brings it.
        let mut host = self.lock();
        match (&*host, &self.buffer) {
            (Some(tensor), _) => Ok(tensor.clone()),
            (None, Some(buffer)) => {
                let lies = if self.halves { pairs(&self.meta) } else { self.meta.clone() };
                let readback = Readback::new(scope, &[lies])?;
                let submission = scope.submit(|encoder| readback.record(encoder, 0, buffer));
                let read = readback.read(scope, submission)?.swap_remove(0);
                let tensor = if self.halves { unpaired(&self.meta, &read) } else { read };
                Ok(host.insert(tensor).clone())
            }
            (None, None) => Err(GpuError::new(
                GpuErrorKind::Launch,
                "a constant",
                "internal error: it is neither on the device nor on the host",
            )),
        }
    }

    /// Gives up the copy on the host of what is on the device.
    pub(crate) fn compact(&self) -> Option<Self> {
        let mut host = self.lock();
        if self.buffer.is_some() {
            *host = None;
        }
        host.as_ref().map(|tensor| Self::made(&tensor.compact(), self.halves, None))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tensor>> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes on the host, and on the device.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        let host = self.lock().as_ref().map_or(0, |tensor| tensor.bytes().len() as u64);
        [host, self.buffer.as_ref().map_or(0, Buffer::size)]
    }

    /// Its memory on the device, if it is kept there.
    pub(crate) fn buffer(&self) -> Option<&Buffer> {
        self.buffer.as_ref()
    }

    /// Notes that `holder` may hold bind groups over it.
    pub(crate) fn used_by(&self, holder: &Weak<dyn Holder>) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if !users.iter().any(|user| user.ptr_eq(holder)) {
            users.retain(|user| user.strong_count() > 0);
            users.push(holder.clone());
        }
    }
}

impl Drop for Constant {
    /// Bind groups keep their buffers, so the ones that idle contexts hold go too.
    fn drop(&mut self) {
        let users = self.users.get_mut().unwrap_or_else(PoisonError::into_inner);
        users.iter().filter_map(Weak::upgrade).for_each(|holder| holder.sweep());
    }
}

/// A tensor in a buffer of its own; `None` if it cannot be kept on the device.
pub(crate) fn upload(scope: &Scope<'_>, tensor: &Tensor) -> Result<Option<Buffer>, GpuError> {
    let Some(bytes) = gpu_len(&meta(tensor)).filter(|&n| n <= scope.max_binding()) else {
        return Ok(None);
    };
    let buffer = scope.storage("constant", bytes)?;
    send(scope, TensorRef::from(tensor), &buffer)?;
    Ok(Some(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::on_gpu::opened;
    use engine_format::{Bytes, DType};

    /// Bytes without a pattern.
    fn tensor(dtype: DType, len: usize) -> Tensor {
        let mut state = len as u32;
        let bytes: Vec<u8> = (0..len * dtype.width())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        Tensor::new(dtype, &[len], Bytes::copy_from(&bytes)).unwrap()
    }

    /// Sizes around those at which the way to the device changes, by many threads at once.
    #[test]
    fn constants_arrive_whole_and_are_had_back_bit_by_bit() {
        let Some(gpu) = opened(&[]) else { return };
        let mega = 1 << 20;
        let sizes = [0, 1, 3, 16_384, 16_385, mega - 1, mega, mega + 1, 3 * mega + 5];
        std::thread::scope(|threads| {
            for dtype in [DType::F32, DType::I64, DType::U8, DType::I16, DType::F16] {
                let gpu = &gpu;
                threads.spawn(move || {
                    for len in sizes {
                        let tensor = tensor(dtype, len);
                        let constant = Constant::new(gpu, &tensor, true).unwrap();
                        assert!(constant.on_host().is_none(), "it is on the device");
                        let fetched = gpu
                            .scoped(GpuErrorKind::Launch, "a test", |scope| constant.fetch(scope));
                        assert_eq!(fetched.unwrap(), tensor, "{dtype}[{len}]");
                    }
                });
            }
        });
        // Staging memory is bounded, and kept: 60 chunks' worth goes through 16 of them, whenever they were made.
        let large = tensor(DType::F32, 20 * mega);
        let before = gpu.counts();
        for _ in 0..3 {
            assert!(Constant::new(&gpu, &large, false).unwrap().buffer().is_some());
        }
        let made = gpu.counts().since(&before).buffers;
        assert!(made <= 3 + 16, "{made} buffers, expected three constants and 16 chunks at most");
    }

    #[test]
    fn what_the_device_cannot_keep_stays_on_the_host() {
        let Some(gpu) = opened(&[]) else { return };
        let tensor = Tensor::from_slice(&[2], &[1.0f64, 2.0]);
        let constant = Constant::new(&gpu, &tensor, false).unwrap();
        assert!(constant.buffer().is_none());
        assert_eq!(constant.on_host(), Some(tensor.clone()));
        assert_eq!(constant.compact().unwrap().on_host(), Some(tensor));
    }
}
