//! What a file is and what a caller wants. The rule between them is [`crate::serialized_flags`].

use crate::{FormatError, FormatErrorKind};
use std::fmt;

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
        /// Products and convolutions read their weights rounded to `f16`, and sum in `f32`.
        const F16 = 1 << 5;
        /// The same with weights rounded to `bf16`.
        const BF16 = 1 << 6;
    }
}

bitflags::bitflags! {
    /// Options of serializing an engine.
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

impl EngineFlags {
    /// The three refit modes, of which an engine has at most one.
    pub const REFIT_MODES: Self =
        Self::REFIT.union(Self::REFIT_IDENTICAL).union(Self::REFIT_INDIVIDUAL);

    /// The types to which weights may be rounded, of which an engine has at most one; none is `f32`.
    pub const PRECISIONS: Self = Self::F16.union(Self::BF16);

    /// The type to which products round their weights alone; empty for an engine that rounds none.
    #[must_use]
    pub fn precision(self) -> Self {
        self & Self::PRECISIONS
    }

    /// The refit mode alone; empty for a frozen engine.
    #[must_use]
    pub fn refit_mode(self) -> Self {
        self & Self::REFIT_MODES
    }

    /// Whether no weight may change.
    pub fn is_frozen(self) -> bool {
        self.refit_mode().is_empty()
    }

    /// Checks that the combination has a meaning: known bits, at most one refit mode, at most one precision, and
    /// `EXCLUDE_WEIGHTS` only with a refit mode.
    pub fn check(self) -> Result<(), FormatError> {
        let invalid = |what: &str, expected: &str| {
            Err(FormatError::new(FormatErrorKind::InvalidFlags, what)
                .at("flags")
                .expected(expected)
                .found(self))
        };
        if !Self::all().contains(self) {
            return invalid("unknown flag bits", "bits 0 to 6 only");
        }
        if self.refit_mode().iter().count() > 1 {
            return invalid("more than one refit mode", "at most one of the refit modes");
        }
        if self.precision() == Self::PRECISIONS {
            return invalid("more than one precision", "at most one of F16 and BF16");
        }
        if self.contains(Self::EXCLUDE_WEIGHTS) && self.is_frozen() {
            return invalid("EXCLUDE_WEIGHTS in a frozen engine", "a refit mode");
        }
        Ok(())
    }

    /// The names of the flags set; an unknown bit is a name like `bit 7`.
    pub fn flag_names(self) -> Vec<String> {
        let unknown = self.bits() & !Self::all().bits();
        let known = self.iter_names().map(|(name, _)| name.to_owned());
        let bits = (0..u64::BITS).filter(|bit| unknown >> bit & 1 == 1);
        known.chain(bits.map(|bit| format!("bit {bit}"))).collect()
    }
}

impl fmt::Display for EngineFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flag_names() {
            names if names.is_empty() => f.write_str("no flags"),
            names => f.write_str(&names.join(" | ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_combination_needs_a_meaning() {
        let refused: Vec<String> = (0..256)
            .map(EngineFlags::from_bits_retain)
            .filter(|flags| flags.check().is_err())
            .map(|flags| flags.to_string())
            .collect();
        let accepted = 256 - refused.len();
        // Frozen or one of three modes × compressed or not, and stripped for the three modes, each in three precisions.
        assert_eq!(accepted, ((1 + 3) * 2 + 3 * 2) * 3, "{refused:#?}");
        assert!(refused.contains(&"EXCLUDE_WEIGHTS".to_owned()));
        assert!(refused.contains(&"REFIT | REFIT_IDENTICAL".to_owned()));
        assert!(refused.contains(&"REFIT | F16 | BF16".to_owned()));
        assert!(refused.contains(&"REFIT | bit 7".to_owned()));
    }

    #[test]
    fn a_refused_combination_says_what_was_found() {
        let error = EngineFlags::from_bits_retain(1 << 40).check().unwrap_err();
        assert_eq!(error.kind(), FormatErrorKind::InvalidFlags);
        assert_eq!(
            error.to_string(),
            "unknown flag bits at flags: expected bits 0 to 6 only, found bit 40"
        );
    }
}
