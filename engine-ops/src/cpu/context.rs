//! What a CPU kernel sees, and how one is made ready for known shapes.

use super::mersenne::Draws;
use crate::OpError;
use crate::form::Form;
use engine_format::{Attrs, DType, Element, Tensor, decode_strings, size};
use std::fmt;

/// How an operator runs on the CPU.
#[derive(Clone, Copy)]
pub enum Cpu {
    /// Not at all: the planner handles it (views, control flow).
    None,
    /// Writes into outputs whose shapes are known before.
    Kernel {
        /// The kernel.
        run: fn(&mut CpuCtx<'_>) -> Result<(), OpError>,
        /// Bytes of scratch it needs for these shapes; asked through [`super::Ready::scratch`].
        scratch: fn(&CpuShapes<'_>) -> usize,
    },
    /// Chooses a kernel for these shapes, once; the ready step runs many times.
    Planned(fn(&CpuShapes<'_>) -> Result<Box<dyn CpuStep>, OpError>),
    /// Makes its outputs itself, because their shapes depend on data.
    Dynamic(fn(&CpuCtx<'_>) -> Result<Vec<Tensor>, OpError>),
}

impl Cpu {
    /// A kernel that needs no scratch.
    pub const fn kernel(run: fn(&mut CpuCtx<'_>) -> Result<(), OpError>) -> Self {
        Self::Kernel { run, scratch: |_| 0 }
    }
}

/// A kernel chosen for known shapes: how work is cut, which algorithm, which forms of constants it reads. A run decides
/// nothing of that.
pub trait CpuStep: Send + Sync {
    /// Bytes of scratch that a run takes.
    fn scratch(&self) -> usize {
        0
    }

    /// The form in which the step would read operand `i`, should it be a constant. A run is right, and has the same bits,
    /// whether it gets the form ([`CpuCtx::forms`]) or not.
    fn form(&self, _i: usize) -> Option<Form> {
        None
    }

    /// Writes the results.
    fn run(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError>;
}

/// A step that is a plan and what runs it.
struct Plan<P> {
    plan: P,
    scratch: usize,
    run: fn(&P, &mut CpuCtx<'_>) -> Result<(), OpError>,
}

impl<P: Send + Sync> CpuStep for Plan<P> {
    fn scratch(&self) -> usize {
        self.scratch
    }

    fn run(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
        (self.run)(&self.plan, ctx)
    }
}

/// The step that follows a plan, with so many bytes of scratch: for [`Cpu::Planned`].
pub(crate) fn planned<P: Send + Sync + 'static>(
    plan: P,
    scratch: usize,
    run: fn(&P, &mut CpuCtx<'_>) -> Result<(), OpError>,
) -> Result<Box<dyn CpuStep>, OpError> {
    Ok(Box::new(Plan { plan, scratch, run }))
}

/// Types of a node's operands and results, all known.
pub struct CpuShapes<'a> {
    /// Normalised attributes.
    pub attrs: &'a Attrs,
    /// Operands.
    pub inputs: &'a [Option<TensorMeta>],
    /// Contents of operands, where they are known. Those of operands with the role `Shape` always are.
    pub values: &'a [Option<Tensor>],
    /// Results.
    pub outputs: &'a [Option<TensorMeta>],
}

impl CpuShapes<'_> {
    /// A required operand.
    pub fn input(&self, i: usize) -> &TensorMeta {
        self.inputs[i].as_ref().expect("the table says this operand is required")
    }

    /// The integers that an operand holds, if it is there.
    pub(crate) fn ints(&self, i: usize) -> Option<Vec<i64>> {
        self.values.get(i)?.as_ref()?.to_i64s()
    }

    /// The first result.
    pub fn output(&self) -> &TensorMeta {
        self.outputs[0].as_ref().expect("the first result is never omitted")
    }

    /// Whether all results are empty: then no kernel is called.
    pub fn nothing_to_write(&self) -> bool {
        self.outputs.iter().flatten().all(TensorMeta::is_empty)
    }
}

/// Element type and shape of a value whose shape is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorMeta {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Vec<usize>,
}

impl TensorMeta {
    /// Number of elements; `usize::MAX` where they do not fit the address space, which no result of an operator is
    /// ([`OpDef::results`](crate::OpDef::results)).
    pub fn len(&self) -> usize {
        size::elements(&self.shape).unwrap_or(usize::MAX)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Bytes on the host; `usize::MAX` where they do not fit the address space. Strings are never in a buffer of a plan, and
    /// of them it is the least that they take.
    pub fn byte_len(&self) -> usize {
        size::byte_len(self.dtype, &self.shape).unwrap_or(usize::MAX)
    }
}

/// `f32[2, 3]`.
impl fmt::Display for TensorMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

impl From<&Tensor> for TensorMeta {
    fn from(t: &Tensor) -> Self {
        Self { dtype: t.dtype(), shape: t.shape().to_vec() }
    }
}

/// An operand.
#[derive(Clone, Copy)]
pub struct TensorRef<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: &'a [usize],
    /// Row-major contents, aligned for the element type.
    pub bytes: &'a [u8],
}

impl<'a> TensorRef<'a> {
    /// The elements. A kernel asks for the type that it matched on, so a mismatch is its bug and panics. Bools
    /// read as `u8`.
    pub fn slice<T: Element>(&self) -> &'a [T] {
        let same = T::DTYPE == self.dtype || T::DTYPE == self.dtype.storage();
        assert!(same, "kernel read {} as {}", self.dtype, T::DTYPE);
        bytemuck::cast_slice(self.bytes)
    }

    /// The elements of an operand of strings. A kernel asks where it matched on them, so another type is its bug and panics.
    pub fn strings(&self) -> Vec<&'a str> {
        assert_eq!(self.dtype, DType::String, "kernel read {} as strings", self.dtype);
        decode_strings(self.shape, self.bytes).expect("tensors are checked when they are made")
    }

    /// The elements as plain words of the element type's size: for kernels that only move them ([`for_size!`]).
    ///
    /// [`for_size!`]: crate::for_size
    pub fn raw<T: bytemuck::AnyBitPattern>(&self) -> &'a [T] {
        assert_eq!(
            size_of::<T>(),
            self.dtype.width(),
            "kernel read {} by another size",
            self.dtype
        );
        bytemuck::cast_slice(self.bytes)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self.dtype.size() {
            Some(size) => self.bytes.len() / size,
            None => self.shape.iter().product(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a Tensor> for TensorRef<'a> {
    fn from(t: &'a Tensor) -> Self {
        Self { dtype: t.dtype(), shape: t.shape(), bytes: t.bytes() }
    }
}

/// A result. Its bytes hold anything until they are written; every element must be.
pub struct TensorMut<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: &'a [usize],
    /// Row-major contents, aligned for the element type.
    pub bytes: &'a mut [u8],
}

impl TensorMut<'_> {
    /// The elements, to be written. Bools are written as `u8`.
    pub fn slice<T: Element>(&mut self) -> &mut [T] {
        let same = T::DTYPE == self.dtype || T::DTYPE == self.dtype.storage();
        assert!(same, "kernel wrote {} as {}", self.dtype, T::DTYPE);
        bytemuck::cast_slice_mut(self.bytes)
    }

    /// The elements as plain words of the element type's size, to be written.
    pub fn raw<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        assert_eq!(
            size_of::<T>(),
            self.dtype.width(),
            "kernel wrote {} by another size",
            self.dtype
        );
        bytemuck::cast_slice_mut(self.bytes)
    }
}

/// One call of a CPU kernel. Kernels spread over the threads that [`crate::parallel`] gives where they are called; their
/// results do not depend on how many there are.
pub struct CpuCtx<'a> {
    /// Normalised attributes.
    pub attrs: &'a Attrs,
    /// Operands; omitted ones are `None`.
    pub inputs: &'a [Option<TensorRef<'a>>],
    /// Results; `None` where nobody asked.
    pub outputs: &'a mut [Option<TensorMut<'a>>],
    /// As many bytes as the kernel asked for, 8-byte aligned, contents anything.
    pub scratch: &'a mut [u8],
    /// By operand, the form that the step asked for, where it is there.
    pub forms: &'a [Option<&'a [f32]>],
    /// Where draws begin that have no seed.
    pub draws: &'a Draws,
}

impl<'a> CpuCtx<'a> {
    /// A required operand: the planner checked that it is there.
    pub fn input(&self, i: usize) -> TensorRef<'a> {
        self.inputs[i].expect("the table says this operand is required")
    }

    /// An optional operand.
    pub fn opt_input(&self, i: usize) -> Option<TensorRef<'a>> {
        self.inputs.get(i).copied().flatten()
    }

    /// The first result.
    pub fn output(&mut self) -> &mut TensorMut<'a> {
        self.outputs[0].as_mut().expect("the first result is never omitted")
    }
}

/// Calls `$body` with the type parameter `$t` bound to the Rust type of a dtype, for the listed dtypes; others give
/// an [`OpError`] that names what is taken.
#[macro_export]
macro_rules! for_dtype {
    ($dtype:expr, [$($d:ident => $t:ty),* $(,)?], $name:ident => $body:expr) => {
        match $dtype {
            $(engine_format::DType::$d => { type $name = $t; $body })*
            other => Err($crate::OpError::new(format!(
                "element type {other} is not taken; takes {:?}", [$(engine_format::DType::$d),*]
            ))),
        }
    };
}

/// Calls `$body` with the type parameter `$name` bound to the unsigned integer as wide as an element: kernels that only
/// move elements have four instances instead of thirteen.
#[macro_export]
macro_rules! for_size {
    ($dtype:expr, $name:ident => $body:expr) => {
        match $dtype.width() {
            1 => {
                type $name = u8;
                $body
            }
            2 => {
                type $name = u16;
                $body
            }
            4 => {
                type $name = u32;
                $body
            }
            _ => {
                type $name = u64;
                $body
            }
        }
    };
}
