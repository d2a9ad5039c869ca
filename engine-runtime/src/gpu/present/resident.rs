//! Weights and prepared constants on the device.

use super::context::Pool;
use super::device::GpuDevice;
use super::scope::Scope;
use super::words::{gpu_len, widen};
use crate::backend::{Constants, same};
use crate::gpu::{GpuError, GpuErrorKind};
use engine_format::{Tensor, ValueId};
use engine_ops::cpu::TensorMeta;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use wgpu::Buffer;

/// Bytes that may wait in staging memory before they are sent on: bounds what an upload of all weights holds twice.
const UPLOAD_BATCH: u64 = 64 << 20;

/// A program's constants: on the device where they can be kept there, and on the host for the nodes that run there. Versions share those
/// that are the same.
pub struct GpuResident {
    /// Tells one set of constants from another.
    pub(crate) id: u64,
    constants: BTreeMap<ValueId, Arc<Constant>>,
}

/// A constant.
pub(crate) struct Constant {
    host: Tensor,
    /// `None` if the type has no word layout or the tensor is larger than a binding.
    buffer: Option<Buffer>,
    /// Where bind groups over it may lie.
    users: Mutex<Vec<Weak<Pool>>>,
}

impl GpuResident {
    /// Uploads `constants`, except those that `previous` holds already: the very same host memory.
    pub(crate) fn load(
        device: &GpuDevice,
        constants: &Constants,
        previous: Option<&GpuResident>,
    ) -> Result<Self, GpuError> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let kept = |id: ValueId, tensor: &Tensor| {
            let old = previous?.constants.get(&id)?;
            same(&old.host, tensor).then(|| old.clone())
        };
        let constants = device.scoped(GpuErrorKind::Launch, "the weights", |scope| {
            let mut waiting = 0;
            let mut all = BTreeMap::new();
            for (&id, tensor) in constants {
                let constant = match kept(id, tensor) {
                    Some(constant) => constant,
                    None => {
                        let buffer = upload(scope, tensor)?;
                        waiting += buffer.as_ref().map_or(0, Buffer::size);
                        let (host, users) = (tensor.clone(), Mutex::default());
                        Arc::new(Constant { host, buffer, users })
                    }
                };
                if waiting >= UPLOAD_BATCH {
                    // An empty submission sends the queued writes; waiting for it frees their staging memory.
                    device.wait(device.queue().submit([]))?;
                    waiting = 0;
                }
                all.insert(id, constant);
            }
            Ok::<_, GpuError>(all)
        })?;
        Ok(Self { id: IDS.fetch_add(1, Ordering::Relaxed), constants })
    }

    /// The constant on the host.
    pub(crate) fn host(&self, id: ValueId) -> &Tensor {
        &self.constants[&id].host
    }

    pub(crate) fn constant(&self, id: ValueId) -> Option<&Arc<Constant>> {
        self.constants.get(&id)
    }
}

impl Constant {
    /// Its memory on the device, if it is kept there.
    pub(crate) fn buffer(&self) -> Option<&Buffer> {
        self.buffer.as_ref()
    }

    /// Notes that contexts of `pool` may hold bind groups over it.
    pub(crate) fn used_by(&self, pool: &Arc<Pool>) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if !users.iter().any(|user| std::ptr::eq(user.as_ptr(), Arc::as_ptr(pool))) {
            users.retain(|user| user.strong_count() > 0);
            users.push(Arc::downgrade(pool));
        }
    }
}

impl Drop for Constant {
    /// Bind groups keep their buffers, so the ones that idle contexts hold go too.
    fn drop(&mut self) {
        let users = self.users.get_mut().unwrap_or_else(PoisonError::into_inner);
        users.iter().filter_map(Weak::upgrade).for_each(|pool| pool.sweep());
    }
}

/// A tensor in a buffer of its own; `None` if it cannot be kept on the device.
pub(crate) fn upload(scope: &Scope<'_>, tensor: &Tensor) -> Result<Option<Buffer>, GpuError> {
    let meta = TensorMeta { dtype: tensor.dtype(), shape: tensor.shape().to_vec() };
    let Some(bytes) = gpu_len(&meta).filter(|&n| n <= scope.max_binding()) else {
        return Ok(None);
    };
    let buffer = scope.storage("constant", bytes)?;
    if bytes > 0 {
        let words = widen(tensor.dtype(), tensor.bytes());
        scope.queue().write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
    }
    Ok(Some(buffer))
}
