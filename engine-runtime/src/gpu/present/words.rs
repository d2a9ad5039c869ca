//! Host elements ↔ the 32-bit words of the GPU, as `engine_ops::gpu` lays them out.

use bytemuck::{cast_slice, cast_slice_mut};
use engine_format::{AlignedBuf, Bytes, DType, Tensor};
use engine_ops::cpu::TensorMeta;
use engine_ops::gpu::words;
use half::{bf16, f16};
use rayon::prelude::*;
use std::borrow::Cow;

/// Bytes that a thread copies at a time.
pub(super) const PIECE: usize = 1 << 20;

/// Bytes a tensor takes on the GPU; `None` for element types that are not kept there.
pub(crate) fn gpu_len(meta: &TensorMeta) -> Option<u64> {
    Some(meta.len() as u64 * words(meta.dtype)? as u64 * 4)
}

/// Whether elements of this type may lie in a buffer as they are, two in a word.
pub(crate) fn is_halves(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// The words of a tensor whose elements lie two in a word.
pub(crate) fn pairs(meta: &TensorMeta) -> TensorMeta {
    TensorMeta { dtype: DType::U32, shape: vec![meta.len().div_ceil(2)] }
}

/// The elements of `tensor`, two in a word: the tensor's own memory, unless there is one more.
pub(crate) fn paired(tensor: &Tensor) -> Tensor {
    let bytes = match tensor.len() % 2 {
        0 => tensor.bytes().clone(),
        _ => {
            let mut padded = AlignedBuf::zeroed(tensor.bytes().len() + 2);
            padded[..tensor.bytes().len()].copy_from_slice(tensor.bytes());
            padded.into()
        }
    };
    let TensorMeta { dtype, shape } = pairs(&TensorMeta::from(tensor));
    Tensor::new(dtype, &shape, bytes).expect("as many words as the bytes make")
}

/// The tensor whose elements [`paired`] put two in a word.
pub(crate) fn unpaired(meta: &TensorMeta, words: &Tensor) -> Tensor {
    let bytes = Bytes::copy_from(&words.bytes()[..meta.byte_len()]);
    Tensor::new(meta.dtype, &meta.shape, bytes).expect("as many elements as before")
}

/// The type by which elements become words: codes are numbers here.
fn stored(dtype: DType) -> DType {
    if dtype.is_compact() { dtype.storage() } else { dtype }
}

/// The GPU's words for host bytes of `dtype`: borrowed where the layouts agree.
///
/// # Panics
/// If `dtype` is not kept on the GPU, or `host` is not aligned for it (tensors are).
pub(crate) fn widen(dtype: DType, host: &[u8]) -> Cow<'_, [u32]> {
    fn each<T: bytemuck::AnyBitPattern>(host: &[u8], f: impl Fn(T) -> u32) -> Cow<'static, [u32]> {
        Cow::Owned(cast_slice::<u8, T>(host).iter().map(|&x| f(x)).collect())
    }
    match stored(dtype) {
        DType::F32 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => {
            Cow::Borrowed(cast_slice(host))
        }
        DType::F16 => each(host, |x: f16| x.to_f32().to_bits()),
        DType::BF16 => each(host, |x: bf16| x.to_f32().to_bits()),
        DType::I8 => each(host, |x: i8| i32::from(x) as u32),
        DType::I16 => each(host, |x: i16| i32::from(x) as u32),
        DType::U8 | DType::Bool => each(host, |x: u8| u32::from(x)),
        DType::U16 => each(host, |x: u16| u32::from(x)),
        other => panic!("{other} is not kept on the GPU"),
    }
}

/// The host bytes for the GPU's words of `dtype`. Values that a kernel left outside the element type wrap around.
///
/// # Panics
/// If `dtype` is not kept on the GPU, or `gpu` does not have `len` elements.
pub(crate) fn narrow(dtype: DType, len: usize, gpu: &[u8]) -> AlignedBuf {
    fn each<W: bytemuck::AnyBitPattern, T: bytemuck::NoUninit + bytemuck::AnyBitPattern>(
        gpu: &[u8],
        out: &mut [u8],
        f: impl Fn(W) -> T,
    ) {
        for (word, slot) in gpu.chunks_exact(4).zip(cast_slice_mut::<u8, T>(out)) {
            *slot = f(bytemuck::pod_read_unaligned(word));
        }
    }
    let per = words(dtype).expect("only types that are kept on the GPU are read back") * 4;
    assert_eq!(gpu.len(), len * per, "a read-back of {len} elements of {dtype}");
    let mut out = AlignedBuf::zeroed(len * dtype.width());
    match stored(dtype) {
        // Memory fresh from the system is filled faster by several threads.
        DType::F32 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => out
            .par_chunks_mut(PIECE)
            .zip(gpu.par_chunks(PIECE))
            .for_each(|(out, gpu)| out.copy_from_slice(gpu)),
        DType::F16 => each(gpu, &mut out, f16::from_f32),
        DType::BF16 => each(gpu, &mut out, bf16::from_f32),
        DType::I8 => each(gpu, &mut out, |x: i32| x as i8),
        DType::I16 => each(gpu, &mut out, |x: i32| x as i16),
        DType::U8 => each(gpu, &mut out, |x: u32| x as u8),
        DType::U16 => each(gpu, &mut out, |x: u32| x as u16),
        DType::Bool => each(gpu, &mut out, |x: u32| u8::from(x != 0)),
        other => panic!("{other} is not kept on the GPU"),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_pattern_of_bits_survives_the_round_trip(bits in prop::collection::vec(any::<u64>(), 0..20)) {
            for dtype in DType::ALL.into_iter().filter(|d| words(*d).is_some()) {
                let mut host = cast_slice::<u64, u8>(&bits).to_vec();
                if dtype == DType::Bool {
                    host.iter_mut().for_each(|b| *b &= 1);
                }
                let host = engine_format::Bytes::copy_from(&host);
                let len = host.len() / dtype.width();
                let back = narrow(dtype, len, cast_slice(&widen(dtype, &host)));
                // A NaN of a half type may come back as another NaN.
                let same = match dtype {
                    DType::F16 => cast_slice::<u8, f16>(&back).iter().zip(cast_slice::<u8, f16>(&host))
                        .all(|(a, b)| a == b || (a.is_nan() && b.is_nan())),
                    DType::BF16 => cast_slice::<u8, bf16>(&back).iter().zip(cast_slice::<u8, bf16>(&host))
                        .all(|(a, b)| a == b || (a.is_nan() && b.is_nan())),
                    _ => *back == *host,
                };
                prop_assert!(same, "{dtype}");
            }
        }
    }

    #[test]
    fn halves_in_pairs_are_had_back() {
        for len in [0, 1, 2, 7, 8] {
            let values: Vec<f16> = (0..len).map(|i| f16::from_f32(i as f32 - 2.5)).collect();
            let tensor = Tensor::from_slice(&[len], &values);
            let words = paired(&tensor);
            assert_eq!(words.shape(), [len.div_ceil(2)]);
            assert_eq!(unpaired(&TensorMeta::from(&tensor), &words), tensor);
        }
    }

    #[test]
    fn small_types_take_one_word_each() {
        assert_eq!(&*widen(DType::I8, &[0xff, 1]), &[u32::MAX, 1]);
        assert_eq!(&*widen(DType::U8, &[0xff]), &[255]);
    }
}
