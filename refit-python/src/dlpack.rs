//! DLPack: tensors that other frameworks take from here, and give, without a copy. The structures are those of `dlpack.h`, version 1.
//!
//! This is the one file of the crate with unsafe code. Three things make it sound: a tensor given away owns its memory, which nothing in
//! Rust reads or writes through a reference while it is out; a tensor taken keeps its producer alive until the last byte of it was read; and
//! what a producer says of a tensor is checked before it is followed. That nobody writes to a tensor while a run reads it is the
//! caller's promise, as with every framework of the kind.

use engine_format::{AlignedBuf, Bytes, DType, OutOfMemory, size};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods};
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// Memory on the host, and such memory that a CUDA device reads too.
const HOST: [i32; 2] = [1, 3];

/// The version that is written, and up to whose major version is read.
const VERSION: Version = Version { major: 1, minor: 1 };

#[repr(C)]
#[derive(Clone, Copy)]
struct Version {
    major: u32,
    minor: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Device {
    kind: i32,
    id: i32,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct RawTensor {
    data: *mut c_void,
    device: Device,
    ndim: i32,
    dtype: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Unversioned {
    tensor: RawTensor,
    context: *mut c_void,
    deleter: Option<Deleter<Self>>,
}

#[repr(C)]
struct Versioned {
    version: Version,
    context: *mut c_void,
    deleter: Option<Deleter<Self>>,
    flags: u64,
    tensor: RawTensor,
}

type Deleter<M> = unsafe extern "C" fn(*mut M);

/// The two structures that a capsule may hold.
trait Managed: Sized + 'static {
    /// The capsule's name until it is taken, and after.
    const NAME: &'static CStr;
    const USED: &'static CStr;

    fn new(tensor: RawTensor, context: *mut c_void, deleter: Deleter<Self>) -> Self;
    fn tensor(&self) -> &RawTensor;
    fn context(&self) -> *mut c_void;
    fn deleter(&self) -> Option<Deleter<Self>>;
}

impl Managed for Unversioned {
    const NAME: &'static CStr = c"dltensor";
    const USED: &'static CStr = c"used_dltensor";

    fn new(tensor: RawTensor, context: *mut c_void, deleter: Deleter<Self>) -> Self {
        Self { tensor, context, deleter: Some(deleter) }
    }
    fn tensor(&self) -> &RawTensor {
        &self.tensor
    }
    fn context(&self) -> *mut c_void {
        self.context
    }
    fn deleter(&self) -> Option<Deleter<Self>> {
        self.deleter
    }
}

impl Managed for Versioned {
    const NAME: &'static CStr = c"dltensor_versioned";
    const USED: &'static CStr = c"used_dltensor_versioned";

    fn new(tensor: RawTensor, context: *mut c_void, deleter: Deleter<Self>) -> Self {
        Self { version: VERSION, context, deleter: Some(deleter), flags: 0, tensor }
    }
    fn tensor(&self) -> &RawTensor {
        &self.tensor
    }
    fn context(&self) -> *mut c_void {
        self.context
    }
    fn deleter(&self) -> Option<Deleter<Self>> {
        self.deleter
    }
}

/// Element types by code and bits.
const TYPES: [(DType, u8, u8); 18] = [
    (DType::I8, 0, 8),
    (DType::I16, 0, 16),
    (DType::I32, 0, 32),
    (DType::I64, 0, 64),
    (DType::U8, 1, 8),
    (DType::U16, 1, 16),
    (DType::U32, 1, 32),
    (DType::U64, 1, 64),
    (DType::F16, 2, 16),
    (DType::F32, 2, 32),
    (DType::F64, 2, 64),
    (DType::BF16, 4, 16),
    (DType::Bool, 6, 8),
    (DType::F8E4M3FN, 10, 8),
    (DType::F8E4M3FNUZ, 11, 8),
    (DType::F8E5M2, 12, 8),
    (DType::F8E5M2FNUZ, 13, 8),
    (DType::F8E8M0, 14, 8),
];

/// Memory of an output, which is nobody else's in Rust: frameworks that take it may write to it.
#[derive(Debug)]
pub(crate) struct Memory {
    address: usize,
    len: usize,
    _owner: AlignedBuf,
}

impl Memory {
    pub(crate) fn new(mut owner: AlignedBuf) -> Self {
        let (address, len) = (owner.as_mut_ptr().expose_provenance(), owner.len());
        Self { address, len, _owner: owner }
    }

    /// Where it is, for protocols that pass numbers.
    pub(crate) fn address(&self) -> usize {
        self.address
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the owner keeps `len` bytes at the address, and is never borrowed itself.
        unsafe { slice::from_raw_parts(std::ptr::with_exposed_provenance(self.address), self.len) }
    }
}

/// A tensor that was given away, and what its structure points to.
struct Export<M> {
    managed: Option<M>,
    shape: Box<[i64]>,
    strides: Box<[i64]>,
    _memory: Arc<Memory>,
}

/// A capsule with a row-major tensor; `None` for an element type that DLPack does not have as it lies here.
pub(crate) fn export<'py>(
    py: Python<'py>,
    memory: Arc<Memory>,
    dtype: DType,
    shape: &[usize],
    versioned: bool,
) -> PyResult<Option<Bound<'py, PyCapsule>>> {
    match versioned {
        true => export_as::<Versioned>(py, memory, dtype, shape),
        false => export_as::<Unversioned>(py, memory, dtype, shape),
    }
}

fn export_as<'py, M: Managed>(
    py: Python<'py>,
    memory: Arc<Memory>,
    dtype: DType,
    shape: &[usize],
) -> PyResult<Option<Bound<'py, PyCapsule>>> {
    let Some(&(_, code, bits)) = TYPES.iter().find(|(known, ..)| *known == dtype) else {
        return Ok(None);
    };
    let address = memory.address;
    let mut strides = vec![1i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis] as i64);
    }
    let export = Box::new(Export::<M> {
        managed: None,
        shape: shape.iter().map(|&n| n as i64).collect(),
        strides: strides.into(),
        _memory: memory,
    });
    let export = Box::into_raw(export);
    // SAFETY: the box was just made and is reached through this pointer alone; what the tensor points to lies in it or in the
    // memory that it owns, so it lives until `free` is called, once, by whoever has the capsule last.
    unsafe {
        let parts = &mut *export;
        let tensor = RawTensor {
            data: std::ptr::with_exposed_provenance_mut(address),
            device: Device { kind: HOST[0], id: 0 },
            ndim: shape.len() as i32,
            dtype: DataType { code, bits, lanes: 1 },
            shape: parts.shape.as_mut_ptr(),
            strides: parts.strides.as_mut_ptr(),
            byte_offset: 0,
        };
        let managed: *mut M = parts.managed.insert(M::new(tensor, export.cast(), free::<M>));
        let pointer = NonNull::new_unchecked(managed).cast();
        let capsule =
            PyCapsule::new_with_pointer_and_destructor(py, pointer, M::NAME, Some(discard::<M>));
        if capsule.is_err() {
            free::<M>(managed);
        }
        capsule.map(Some)
    }
}

/// Frees a tensor that was given away; takes no lock of Python's, so any thread may call it.
unsafe extern "C" fn free<M: Managed>(managed: *mut M) {
    // SAFETY: the context is the box that the structure lies in, and the consumer calls this once.
    unsafe { drop(Box::from_raw((*managed).context().cast::<Export<M>>())) }
}

/// Ends a capsule that nobody took.
unsafe extern "C" fn discard<M: Managed>(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls it with the capsule, which has its first name only if its tensor is still in it.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, M::NAME.as_ptr()) == 1 {
            free(ffi::PyCapsule_GetPointer(capsule, M::NAME.as_ptr()).cast::<M>());
        }
    }
}

/// A tensor of another framework on the host, in any order of axes.
pub(crate) struct Foreign {
    dtype: DType,
    shape: Vec<usize>,
    /// In bytes.
    strides: Vec<isize>,
    start: *const u8,
    _owner: Box<dyn Owner>,
}

// SAFETY: its bytes are only read, and DLPack lets every thread read a tensor and call its deleter.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

/// Keeps a tensor alive.
trait Owner {}

struct Taken<M: Managed>(NonNull<M>);

impl<M: Managed> Owner for Taken<M> {}

impl<M: Managed> Drop for Taken<M> {
    fn drop(&mut self) {
        // SAFETY: the structure was taken out of its capsule, so its deleter is called here and nowhere else.
        unsafe {
            if let Some(deleter) = self.0.as_ref().deleter() {
                deleter(self.0.as_ptr());
            }
        }
    }
}

impl Foreign {
    /// Takes the tensor out of a capsule; an error says why it cannot be read here.
    pub(crate) fn take(capsule: &Bound<'_, PyCapsule>) -> Result<Self, String> {
        if capsule.is_valid_checked(Some(Versioned::NAME)) {
            let taken = taken::<Versioned>(capsule)?;
            // SAFETY: a structure of any version begins with its version.
            let found = unsafe { taken.0.as_ref().version.major };
            if found != VERSION.major {
                return Err(format!("it is of DLPack {found}, expected {}", VERSION.major));
            }
            Self::of(taken)
        } else {
            Self::of(taken::<Unversioned>(capsule)?)
        }
    }

    fn of<M: Managed>(taken: Taken<M>) -> Result<Self, String> {
        // SAFETY: a producer gives a whole structure, whose shape and strides, if it has them, have `ndim` entries.
        let (dtype, shape, strides, start) = unsafe {
            let tensor = taken.0.as_ref().tensor();
            if !HOST.contains(&tensor.device.kind) {
                return Err(format!("it is on another device (DLPack's {})", tensor.device.kind));
            }
            let DataType { code, bits, lanes } = tensor.dtype;
            let known = TYPES.iter().find(|(_, c, b)| (*c, *b, 1) == (code, bits, lanes));
            let Some(&(dtype, ..)) = known else {
                return Err(format!(
                    "its element type is not known here (DLPack's {code} of {bits} bits)"
                ));
            };
            let axes = usize::try_from(tensor.ndim).map_err(|_| "its rank is negative")?;
            let sizes = entries(tensor.shape, axes);
            let shape = sizes.iter().map(|&n| usize::try_from(n)).collect::<Result<Vec<_>, _>>();
            let strides =
                (!tensor.strides.is_null()).then(|| entries(tensor.strides, axes).to_vec());
            let start =
                tensor.data.cast::<u8>().cast_const().wrapping_add(tensor.byte_offset as usize);
            (dtype, shape.map_err(|_| "a size is negative")?, strides, start)
        };
        if size::byte_len(dtype, &shape).is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return Err(format!("{dtype}{shape:?} is larger than any memory"));
        }
        let width = dtype.width() as isize;
        let strides = match strides {
            Some(strides) => strides.iter().map(|&stride| stride as isize * width).collect(),
            None => dense(&shape, width),
        };
        if start.is_null() && !shape.contains(&0) {
            return Err("it has no memory".to_owned());
        }
        Ok(Self { dtype, shape, strides, start, _owner: Box::new(taken) })
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.width()
    }

    /// The bytes, if they lie in row-major order without gaps.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        if self.shape.contains(&0) {
            return Some(&[]);
        }
        let strides = dense(&self.shape, self.dtype.width() as isize);
        let mut axes = self.shape.iter().zip(self.strides.iter().zip(&strides));
        if !axes.all(|(&n, (found, dense))| n == 1 || found == dense) {
            return None;
        }
        // SAFETY: the producer keeps all elements of the shape alive with the owner, and they follow one another.
        Some(unsafe { slice::from_raw_parts(self.start, self.byte_len()) })
    }

    /// Copies the elements in row-major order.
    pub(crate) fn copy_to(&self, out: &mut [u8]) {
        match self.bytes() {
            Some(bytes) => out.copy_from_slice(bytes),
            None => {
                assert_eq!(out.len(), self.byte_len(), "room for all elements");
                // SAFETY: every offset below is that of an element of the shape, which the producer keeps alive.
                unsafe { gather(self.start, &self.shape, &self.strides, self.dtype.width(), out) }
            }
        }
    }

    /// The elements in row-major order, in this very memory if they lie so and are many.
    pub(crate) fn into_bytes(self) -> Result<Bytes, OutOfMemory> {
        /// Bytes up to which a copy costs less than it saves trouble: who changes an input while it is read.
        const COPIED: usize = 64 << 10;
        if self.bytes().is_some_and(|bytes| bytes.len() > COPIED) {
            return Ok(Bytes::from_owner(Dense(self)));
        }
        let mut buf = AlignedBuf::try_zeroed(self.byte_len())?;
        self.copy_to(&mut buf);
        Ok(buf.into())
    }
}

/// A tensor whose elements lie in row-major order.
struct Dense(Foreign);

impl AsRef<[u8]> for Dense {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes().unwrap_or_default()
    }
}

/// Takes the structure out of a capsule, which is then used.
fn taken<M: Managed>(capsule: &Bound<'_, PyCapsule>) -> Result<Taken<M>, String> {
    let pointer = capsule.pointer_checked(Some(M::NAME)).map_err(|error| error.to_string())?;
    // SAFETY: the capsule has its first name, so the structure is still in it, and the name says which structure it is.
    match unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), M::USED.as_ptr()) } {
        0 => Ok(Taken(pointer.cast())),
        _ => Err("its capsule cannot be taken".to_owned()),
    }
}

/// # Safety
/// `start` has `axes` entries, or there are none.
unsafe fn entries<'a>(start: *const i64, axes: usize) -> &'a [i64] {
    match axes {
        0 => &[],
        // SAFETY: by the condition of the function.
        _ => unsafe { slice::from_raw_parts(start, axes) },
    }
}

/// Strides in bytes of elements that follow one another.
fn dense(shape: &[usize], width: isize) -> Vec<isize> {
    let mut strides = vec![width; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].wrapping_mul(shape[axis] as isize);
    }
    strides
}

/// Copies elements in row-major order.
///
/// # Safety
/// Every element of `shape`, by `strides` from `start` on, may be read; `out` has room for exactly these.
unsafe fn gather(
    start: *const u8,
    shape: &[usize],
    strides: &[isize],
    width: usize,
    out: &mut [u8],
) {
    match (shape, strides) {
        (&[n], &[stride]) if stride == width as isize => {
            // SAFETY: by the condition of the function.
            out.copy_from_slice(unsafe { slice::from_raw_parts(start, n * width) });
        }
        (&[n, ref inner @ ..], &[stride, ref strides @ ..]) if n > 0 => {
            for (i, part) in out.chunks_exact_mut(out.len() / n).enumerate() {
                // SAFETY: by the condition of the function, of which this is a part.
                unsafe { gather(start.offset(i as isize * stride), inner, strides, width, part) }
            }
        }
        // SAFETY: by the condition of the function.
        _ => out.copy_from_slice(unsafe { slice::from_raw_parts(start, out.len()) }),
    }
}
