//! The caps of the format. Each is checked before anything is allocated for what it caps, by the
//! writer and by the reader, so that whatever is written can be read.

/// Bytes the program section may unpack to.
pub const PROGRAM_BYTES: usize = 256 << 20;
/// Bytes the weight table section may unpack to.
pub const TABLE_BYTES: usize = 256 << 20;
/// Bytes the probes section may unpack to.
pub const PROBE_BYTES: usize = 64 << 20;
/// Base-2 logarithm of the largest zstd window a frame may ask a reader to allocate.
pub const WINDOW_LOG: u32 = 23;
/// Levels of maps and arrays in the MessagePack of a section.
pub const MESSAGE_DEPTH: usize = 128;
/// Bytes of one string.
pub const STRING_BYTES: usize = 4 << 20;
/// Bytes of a name: a weight, port, node, operator, attribute.
pub const NAME_BYTES: usize = 4096;
/// Values of an engine.
pub const VALUES: usize = 1 << 22;
/// Rows of the weight table.
pub const WEIGHTS: usize = 1 << 20;
/// Levels of blocks inside blocks.
pub const BLOCK_DEPTH: usize = 16;
/// Dimensions of a tensor.
pub const RANK: usize = 32;
/// Bytes of an always-stored weight that the table holds itself.
pub const INLINE_BYTES: usize = 64;
/// Bytes of a parameter that the table holds itself: what no layer learns and yet is large, a mask, compresses well there.
pub const PARAMETER_BYTES: usize = 4 << 20;
/// Bytes of all unpacked weights, and of a file: sizes stay exact in every signed 64-bit integer.
pub const TOTAL_BYTES: u64 = 1 << 62;
