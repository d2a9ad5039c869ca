//! Weights and prepared constants on the device.

use super::context::Pool;
use super::device::GpuDevice;
use super::error::GpuError;
use super::words::gpu_len;
use crate::backend::Constants;
use crate::backend::same;
use engine_format::{Tensor, ValueId};
use engine_ops::cpu::{TensorMeta, TensorRef};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use wgpu::Buffer;

/// Bytes that may wait in staging memory before they are sent on: bounds what an upload of all weights holds twice.
const UPLOAD_BATCH: u64 = 64 << 20;

/// A program's constants: on the device where they can be kept there, and on the host for the nodes that run there.
pub struct GpuResident {
    /// Tells one set of constants from another: bind groups are made for one of them.
    pub(crate) id: u64,
    entries: BTreeMap<ValueId, Entry>,
    /// Where bind groups over these constants may lie.
    users: Mutex<Vec<Weak<Pool>>>,
}

struct Entry {
    host: Tensor,
    /// `None` if the type has no word layout or the tensor is larger than a binding.
    buffer: Option<Buffer>,
}

impl GpuResident {
    /// Uploads `constants`, except those that `previous` holds already: the very same host memory.
    pub(crate) fn load(
        device: &GpuDevice,
        constants: &Constants,
        previous: Option<&GpuResident>,
    ) -> Result<Self, GpuError> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let mut entries = BTreeMap::new();
        let mut waiting = 0;
        for (&id, tensor) in constants {
            let old = previous.and_then(|p| p.entries.get(&id)).filter(|e| same(&e.host, tensor));
            let buffer = match old {
                Some(entry) => entry.buffer.clone(),
                None => {
                    let buffer = upload(device, tensor)?;
                    waiting += buffer.as_ref().map_or(0, Buffer::size);
                    buffer
                }
            };
            if waiting >= UPLOAD_BATCH {
                // An empty submission sends the queued writes; waiting for it frees their staging memory.
                device.wait(device.queue().submit([]))?;
                waiting = 0;
            }
            entries.insert(id, Entry { host: tensor.clone(), buffer });
        }
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, entries, users: Mutex::default() })
    }

    /// Notes that contexts of `pool` may hold bind groups over these constants.
    pub(crate) fn used_by(&self, pool: &Arc<Pool>) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if !users.iter().any(|user| std::ptr::eq(user.as_ptr(), Arc::as_ptr(pool))) {
            users.retain(|user| user.strong_count() > 0);
            users.push(Arc::downgrade(pool));
        }
    }

    /// The constant on the host.
    pub(crate) fn host(&self, id: ValueId) -> &Tensor {
        &self.entries[&id].host
    }

    /// The constant on the device, if it is kept there.
    pub(crate) fn buffer(&self, id: ValueId) -> Option<&Buffer> {
        self.entries.get(&id)?.buffer.as_ref()
    }
}

impl Drop for GpuResident {
    /// Bind groups keep their buffers, so the ones that idle contexts hold go too: a refit would otherwise leave the old
    /// weights on the device until every shape was run again.
    fn drop(&mut self) {
        let users = std::mem::take(&mut *self.users.lock().unwrap_or_else(PoisonError::into_inner));
        for pool in users.iter().filter_map(Weak::upgrade) {
            pool.forget(self.id);
        }
    }
}

/// A tensor in a buffer of its own; `None` if it cannot be kept on the device.
pub(crate) fn upload(device: &GpuDevice, tensor: &Tensor) -> Result<Option<Buffer>, GpuError> {
    let meta = TensorMeta { dtype: tensor.dtype(), shape: tensor.shape().to_vec() };
    let Some(bytes) = gpu_len(&meta).filter(|&n| n <= device.max_binding()) else {
        return Ok(None);
    };
    let buffer = device.storage("constant", bytes)?;
    device.write(&buffer, TensorRef::from(tensor));
    Ok(Some(buffer))
}
