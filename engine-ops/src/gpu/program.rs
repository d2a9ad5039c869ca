//! GPU kernels as data: WGSL text, bindings, parameters, workgroups.
//!
//! On a GPU every element takes one 32-bit word, 64-bit integers two (low word first):
//!
//! | host | word in WGSL |
//! |---|---|
//! | f32 | `f32` |
//! | f16, bf16 | `f32` (kernels round results to the type); some constants lie as they are, two in a word ([`GpuCtx::halves`]) |
//! | i8, i16, i32 | `i32` |
//! | u8, u16, u32 | `u32` |
//! | bool | `u32`, 0 or 1 |
//! | floats of 8 and 4 bits | `u32`, the code |
//! | i4, i2 | `i32` |
//! | u4, u2 | `u32` |
//! | i64, u64 | two `u32` |
//! | f64 | not on the GPU |

use crate::{OpError, cpu::TensorMeta};
use engine_format::{Attrs, DType, Tensor};
use std::borrow::Cow;

/// Gives the dispatches of a node for known shapes, or `None` where this node (its dtypes, its size) is not for the
/// GPU: it then runs on the CPU with copies.
pub type GpuKernel = fn(&GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError>;

/// Another kernel of a row, for some shapes and devices: it gives `None` where it does not work, and the row's own kernel always does.
#[derive(Clone, Copy, Debug)]
pub struct GpuCandidate {
    /// What it is called by whoever chooses.
    pub name: &'static str,
    /// The kernel.
    pub kernel: GpuKernel,
    /// Whether it is the better one where it works, by the shapes and the device alone.
    pub pays: fn(&GpuCtx<'_>) -> bool,
}

/// What is there when a GPU program is made.
pub struct GpuCtx<'a> {
    /// Normalised attributes.
    pub attrs: &'a Attrs,
    /// Operands; omitted ones are `None`.
    pub inputs: &'a [Option<TensorMeta>],
    /// Contents of operands that the plan knows (literals, shape arithmetic). Operands with the role `Shape` always are.
    pub values: &'a [Option<Tensor>],
    /// Results; `None` where nobody asked.
    pub outputs: &'a [Option<TensorMeta>],
    /// By operand, whether it lies in its buffer as halves, two in a word, the first in the lower bits: some constants of `f16` and `bf16` do.
    /// Those that are not listed do not.
    pub halves: &'a [bool],
    /// What the device can do.
    pub limits: &'a GpuLimits,
}

impl<'a> GpuCtx<'a> {
    /// A required operand.
    pub fn input(&self, i: usize) -> &'a TensorMeta {
        self.inputs[i].as_ref().expect("the table says this operand is required")
    }

    /// An optional operand.
    pub fn opt_input(&self, i: usize) -> Option<&'a TensorMeta> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Whether an operand lies in its buffer as halves.
    pub fn lies_in_halves(&self, i: usize) -> bool {
        self.halves.get(i) == Some(&true)
    }

    /// Contents of an operand, if the plan knows them.
    pub fn value(&self, i: usize) -> Option<&'a Tensor> {
        self.values.get(i).and_then(Option::as_ref)
    }

    /// The first result.
    pub fn output(&self) -> &'a TensorMeta {
        self.outputs[0].as_ref().expect("the first result is never omitted")
    }
}

/// Limits that kernels adapt to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GpuLimits {
    /// Workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Invocations of one workgroup.
    pub max_invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Whether there are cooperative matrices of 16 × 16 halves with sums of `f32`, and all subgroups have 32 invocations.
    pub matrix_units: bool,
}

impl GpuLimits {
    /// The WebGPU baseline.
    pub const BASELINE: Self = Self {
        max_workgroups: 65_535,
        max_invocations: 256,
        workgroup_memory: 16_384,
        matrix_units: false,
    };

    /// Workgroups for `items` invocations in workgroups of `size`, folded into two dimensions where one is too short.
    /// The shader finds its item as `gid.x + gid.y * (num_workgroups.x * size)` and checks it against the count.
    pub fn linear(&self, items: usize, size: u32) -> [u32; 3] {
        // What is more than any device has is refused by whoever holds the program to its device's limits.
        let groups = u32::try_from(items.div_ceil(size as usize)).unwrap_or(u32::MAX);
        if groups <= self.max_workgroups {
            return [groups, 1, 1];
        }
        let y = groups.div_ceil(self.max_workgroups);
        [groups.div_ceil(y), y, 1]
    }
}

/// The work of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuProgram {
    /// Dispatches in order; each sees what those before it wrote.
    pub dispatches: Vec<Dispatch>,
    /// Sizes in words of temporary buffers ([`Bind::Scratch`]).
    pub scratch: Vec<usize>,
}

impl GpuProgram {
    /// A node done by one dispatch.
    pub fn one(dispatch: Dispatch) -> Self {
        Self { dispatches: vec![dispatch], scratch: Vec::new() }
    }
}

/// One dispatch of one shader.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// Name for traces and errors: the operator and the variant.
    pub label: Cow<'static, str>,
    /// The whole WGSL text, entry point `main`. Equal texts share a pipeline, so shapes belong in `params`, not here.
    pub wgsl: Cow<'static, str>,
    /// What `@group(0) @binding(0..)` are, in order: `var<storage, read>` for inputs, `read_write` for the others.
    pub binds: Vec<Bind>,
    /// Contents of the `var<uniform>` at the binding after the last of `binds`; absent if empty. Padded with zeros to a
    /// multiple of 16 bytes.
    pub params: Vec<u32>,
    /// Workgroups.
    pub groups: [u32; 3],
    /// At most so many rounds are made by all loops of one invocation together; 0 if the text has no loop. Some adapters end loops
    /// after a number of rounds.
    pub rounds: usize,
}

/// More rounds than are made by loops whose ends no size decides: over the axes of a tensor, the bits of a number, the halves of a
/// workgroup.
pub(crate) const FEW_ROUNDS: usize = 1_000;

/// A storage buffer of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// An operand, read.
    In(usize),
    /// A result, written.
    Out(usize),
    /// A temporary, read and written.
    Scratch(usize),
    /// Four atomic words of the node's own, zeros at first, in which the shader notes an index that lies outside: the run ends with an
    /// error then, as on the CPU ([`outside`]).
    Outside,
}

/// What a shader has noted in [`Bind::Outside`], as an error: whether indices from the end are taken (1) or not (2), 0 for nothing; the
/// size of the axis; and the index of 64 bits.
pub fn outside([kind, size, low, high]: [u32; 4]) -> Option<OpError> {
    let index = (u64::from(high) << 32 | u64::from(low)) as i64;
    let from = if kind == 1 { format!("-{size}") } else { "0".to_owned() };
    (kind != 0).then(|| OpError::new(format!("index {index}, expected {from}..{size}")))
}

/// WGSL of `note_outside`, which notes an index that lies outside in binding `binding`, a [`Bind::Outside`].
pub(crate) fn outside_wgsl(binding: usize) -> String {
    render(include_str!("outside.wgsl"), &[("binding", &binding.to_string())])
}

/// WGSL of `position`, which reads an index of `indices` and notes one that lies outside in binding `binding`.
pub(crate) fn position_wgsl(binding: usize) -> String {
    outside_wgsl(binding) + include_str!("position.wgsl")
}

/// 32-bit words an element takes on the GPU; `None` for types that are not kept there.
pub const fn words(dtype: DType) -> Option<usize> {
    match dtype {
        DType::F64 | DType::String => None,
        DType::I64 | DType::U64 => Some(2),
        _ => Some(1),
    }
}

/// The WGSL type of an element's word; `None` for types that take two words or are not kept on the GPU.
pub const fn wgsl_type(dtype: DType) -> Option<&'static str> {
    match dtype.storage() {
        DType::F32 | DType::F16 | DType::BF16 => Some("f32"),
        DType::I8 | DType::I16 | DType::I32 => Some("i32"),
        DType::U8 | DType::U16 | DType::U32 | DType::Bool => Some("u32"),
        _ => None,
    }
}

/// WGSL of the function `narrow`, which rounds a result (of the type that [`wgsl_type`] gives) to `dtype`'s precision.
pub const fn narrowing(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "fn narrow(y: f32) -> f32 { return quantizeToF16(y); }",
        // To nearest, ties to even, on the upper 16 bits; NaN and infinity pass.
        DType::BF16 => {
            "fn narrow(y: f32) -> f32 {
    let bits = bitcast<u32>(y);
    if ((bits & 0x7f800000u) == 0x7f800000u) { return y; }
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}"
        }
        DType::F32 | DType::F64 => "fn narrow(y: f32) -> f32 { return y; }",
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => {
            "fn narrow(y: i32) -> i32 { return y; }"
        }
        // No shader that calculates has a result of a compact type.
        _ => "fn narrow(y: u32) -> u32 { return y; }",
    }
}

/// Replaces every `{{key}}` of a template. A key that stays unreplaced is caught by the shader validation test.
pub fn render(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(2 * template.len());
    write_rendered(&mut out, template, values);
    out
}

/// A value may have keys that come after its own.
fn write_rendered(out: &mut String, template: &str, values: &[(&str, &str)]) {
    let mut rest = template;
    while let Some((before, (key, after))) =
        rest.split_once("{{").and_then(|(before, keyed)| Some((before, keyed.split_once("}}")?)))
    {
        out.push_str(before);
        match values.iter().position(|(name, _)| *name == key) {
            Some(at) => {
                write_rendered(out, values[at].1, &values[at + 1..]);
                rest = after;
            }
            None => {
                out.push('{');
                rest = &rest[before.len() + 1..];
            }
        }
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_replaced_also_in_values_of_keys_before_them() {
        let values = [("a", "<{{b}}{{a}}>"), ("b", "2"), ("long key", "")];
        let text = "{{a}} {{b}}{{b}} {{none}} {{{b}}} {{long key}}{{ }} {{";
        assert_eq!(render(text, &values), "<2{{a}}> 22 {{none}} {2} {{ }} {{");
    }
}
