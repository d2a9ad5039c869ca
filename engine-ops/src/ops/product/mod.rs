//! Products of matrices and what is built of them: attention, recurrence, transforms.

use crate::OpDef;

pub(crate) mod attention;
pub(crate) mod det;
pub(crate) mod dft;
pub(crate) mod einsum;
pub(crate) mod gemm;
pub(crate) mod linear_attention;
pub(crate) mod matmul;
pub(crate) mod recurrent;
pub(crate) mod rotary;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &recurrent::LSTM,
    &recurrent::GRU,
    &recurrent::RNN,
    &matmul::MATMUL,
    &matmul::FUSED_MATMUL,
    &gemm::GEMM,
    &gemm::FUSED_GEMM,
    &attention::ATTENTION,
    &rotary::ROTARY,
    &dft::DFT,
    &dft::STFT,
    &linear_attention::LINEAR_ATTENTION,
    &einsum::EINSUM,
    &det::DET,
];
