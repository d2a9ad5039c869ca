//! What a file is, what a caller wants, and the one rule between them.

bitflags::bitflags! {
    /// Facts about an engine. Stored as a `u64`; unknown bits are an error.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct EngineFlags: u64 {
        /// Every weight takes any values of its dtype and shape.
        const REFIT = 1;
        /// Every weight takes only the values it was built with, checked by digest.
        const REFIT_IDENTICAL = 1 << 1;
        /// Only weights marked refittable may change; the others are frozen.
        const REFIT_INDIVIDUAL = 1 << 2;
        /// The refittable weights' bytes are not in this file.
        const EXCLUDE_WEIGHTS = 1 << 3;
        /// Weight bytes are zstd-compressed, each weight by itself.
        const COMPRESSED = 1 << 4;
    }
}

bitflags::bitflags! {
    /// Wishes of a caller that serializes an engine.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct SerializeFlags: u32 {
        /// Leave the refittable weights out.
        const EXCLUDE_WEIGHTS = 1;
        /// Keep a full file refittable.
        const INCLUDE_REFIT = 1 << 1;
        /// Compress weight bytes.
        const COMPRESS = 1 << 2;
    }
}

impl Default for SerializeFlags {
    fn default() -> Self {
        Self::INCLUDE_REFIT
    }
}
