//! The flag rule: what a file is with a caller's options.

use crate::{EngineFlags, FormatError, FormatErrorKind, SerializeFlags};

/// Whether an engine's weights are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightsPresence {
    /// Every weight's bytes are here.
    Present,
    /// At least one weight has no bytes.
    Missing,
}

/// The flags of the file that an engine with `flags` and `weights` is written to under `options`.
///
/// This is the only place that decides it. The result depends on the three arguments alone; the
/// presence of the weights counts, not what an `EXCLUDE_WEIGHTS` flag remembers of an earlier file.
/// The precision is a fact of the program, which every file keeps.
///
/// # Errors
/// - `InvalidFlags`: `flags` has no meaning, or weights are missing although it does not say so.
/// - `MissingWeights`: a full file of an engine without its weights.
/// - `NotRefittable`: a frozen engine cannot leave its weights out.
pub fn serialized_flags(
    flags: EngineFlags,
    weights: WeightsPresence,
    options: SerializeFlags,
) -> Result<EngineFlags, FormatError> {
    use WeightsPresence::{Missing, Present};
    flags.check()?;
    if !SerializeFlags::all().contains(options) {
        return Err(FormatError::new(FormatErrorKind::InvalidFlags, "unknown bits in the options")
            .expected("bits 0 to 2 only")
            .found(format!("{:#x}", options.bits())));
    }
    let (mode, precision) = (flags.refit_mode(), flags.precision());
    let mut rest = precision;
    rest.set(EngineFlags::COMPRESSED, options.contains(SerializeFlags::COMPRESS));
    let keep_mode = options.contains(SerializeFlags::INCLUDE_REFIT);
    match (weights, options.contains(SerializeFlags::EXCLUDE_WEIGHTS)) {
        (Missing, _) if !flags.contains(EngineFlags::EXCLUDE_WEIGHTS) => {
            Err(FormatError::new(FormatErrorKind::InvalidFlags, "weights are missing")
                .at("flags")
                .expected("EXCLUDE_WEIGHTS")
                .found(flags))
        }
        (Missing, false) => Err(FormatError::new(
            FormatErrorKind::MissingWeights,
            "the engine's weights are missing",
        )),
        (_, true) if mode.is_empty() => Err(FormatError::new(
            FormatErrorKind::NotRefittable,
            "a frozen engine cannot leave its weights out",
        )
        .found(flags)),
        (_, true) => Ok(mode | EngineFlags::EXCLUDE_WEIGHTS | rest),
        (Present, false) if keep_mode => Ok(mode | rest),
        (Present, false) => Ok(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::WeightsPresence::{Missing, Present};
    use super::*;
    use std::fmt::Write as _;

    /// One letter a flag, in the order of the bits; `-` is a frozen, raw, full engine.
    fn letters(bits: u64, alphabet: &str) -> String {
        let set: String = alphabet
            .chars()
            .enumerate()
            .filter(|(i, _)| bits >> i & 1 == 1)
            .map(|(_, c)| c)
            .collect();
        if set.is_empty() { "-".to_owned() } else { set }
    }

    fn cell(result: Result<EngineFlags, FormatError>) -> String {
        match result {
            Ok(flags) => letters(flags.bits(), "RINXC"),
            Err(error) => match error.kind() {
                FormatErrorKind::InvalidFlags => "!flags".to_owned(),
                FormatErrorKind::MissingWeights => "!missing".to_owned(),
                FormatErrorKind::NotRefittable => "!frozen".to_owned(),
                other => format!("!{other:?}"),
            },
        }
    }

    #[test]
    fn the_whole_table() {
        let all_options: Vec<_> = (0..8).map(SerializeFlags::from_bits_truncate).collect();
        let mut table = String::from(
            "engine: R REFIT, I REFIT_IDENTICAL, N REFIT_INDIVIDUAL, X EXCLUDE_WEIGHTS, C COMPRESSED, - none\n\
             options:   x EXCLUDE_WEIGHTS, r INCLUDE_REFIT, c COMPRESS, - none\n\
             cell:   the new file's flags, or !flags InvalidFlags, !missing MissingWeights, !frozen NotRefittable\n\n\
             engine weights ",
        );
        for options in &all_options {
            write!(table, " {:>8}", letters(options.bits().into(), "xrc")).unwrap();
        }
        table.push('\n');
        for bits in 0..=(EngineFlags::all() - EngineFlags::PRECISIONS).bits() {
            for presence in [Present, Missing] {
                let flags = EngineFlags::from_bits_truncate(bits);
                let name = format!("{presence:?}").to_lowercase();
                write!(table, "{:<6} {name:<8}", letters(bits, "RINXC")).unwrap();
                for &options in &all_options {
                    write!(table, " {:>8}", cell(serialized_flags(flags, presence, options)))
                        .unwrap();
                }
                table.push('\n');
            }
        }
        insta::assert_snapshot!(table);
    }

    const MODES: [EngineFlags; 3] =
        [EngineFlags::REFIT, EngineFlags::REFIT_IDENTICAL, EngineFlags::REFIT_INDIVIDUAL];
    const NO_OPTIONS: SerializeFlags = SerializeFlags::empty();
    const EXCLUDE: SerializeFlags = SerializeFlags::EXCLUDE_WEIGHTS;
    const REFIT: SerializeFlags = SerializeFlags::INCLUDE_REFIT;

    fn kind(
        flags: EngineFlags,
        weights: WeightsPresence,
        options: SerializeFlags,
    ) -> FormatErrorKind {
        serialized_flags(flags, weights, options).unwrap_err().kind()
    }

    #[test]
    fn full_refittable_stays_refittable_iff_asked() {
        for mode in MODES {
            assert_eq!(serialized_flags(mode, Present, REFIT), Ok(mode));
            assert_eq!(serialized_flags(mode, Present, NO_OPTIONS), Ok(EngineFlags::empty()));
        }
    }

    #[test]
    fn stripping_keeps_the_mode_whatever_include_refit_says() {
        for mode in MODES {
            let stripped = Ok(mode | EngineFlags::EXCLUDE_WEIGHTS);
            assert_eq!(serialized_flags(mode, Present, EXCLUDE), stripped);
            assert_eq!(serialized_flags(mode, Present, EXCLUDE | REFIT), stripped);
        }
    }

    #[test]
    fn frozen_stays_frozen() {
        let frozen = EngineFlags::empty();
        assert_eq!(serialized_flags(frozen, Present, NO_OPTIONS), Ok(frozen));
        assert_eq!(serialized_flags(frozen, Present, REFIT), Ok(frozen));
        assert_eq!(kind(frozen, Present, EXCLUDE), FormatErrorKind::NotRefittable);
    }

    #[test]
    fn without_weights_only_a_stripped_file_is_written() {
        for mode in MODES {
            let stripped = mode | EngineFlags::EXCLUDE_WEIGHTS;
            assert_eq!(kind(stripped, Missing, REFIT), FormatErrorKind::MissingWeights);
            assert_eq!(kind(stripped, Missing, NO_OPTIONS), FormatErrorKind::MissingWeights);
            assert_eq!(serialized_flags(stripped, Missing, EXCLUDE), Ok(stripped));
        }
    }

    #[test]
    fn every_file_keeps_the_precision() {
        for bits in 0..=(EngineFlags::all() - EngineFlags::PRECISIONS).bits() {
            let flags = EngineFlags::from_bits_truncate(bits);
            for precision in [EngineFlags::F16, EngineFlags::BF16] {
                for (presence, options) in [Present, Missing]
                    .into_iter()
                    .flat_map(|presence| (0..8).map(move |options| (presence, options)))
                {
                    let options = SerializeFlags::from_bits_truncate(options);
                    let plain = serialized_flags(flags, presence, options);
                    let found = serialized_flags(flags | precision, presence, options);
                    let kind = |error: FormatError| error.kind();
                    let expected = plain.map(|file| file | precision).map_err(kind);
                    assert_eq!(found.map_err(kind), expected, "{flags:?}, {options:?}");
                }
            }
        }
    }

    #[test]
    fn compression_follows_the_options_alone() {
        for mode in MODES {
            for before in [EngineFlags::empty(), EngineFlags::COMPRESSED] {
                let packed = mode | EngineFlags::COMPRESSED;
                let options = REFIT | SerializeFlags::COMPRESS;
                assert_eq!(serialized_flags(mode | before, Present, options), Ok(packed));
                assert_eq!(serialized_flags(mode | before, Present, REFIT), Ok(mode));
            }
        }
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let options = SerializeFlags::from_bits_retain(1 << 9);
        assert_eq!(kind(EngineFlags::REFIT, Present, options), FormatErrorKind::InvalidFlags);
    }
}
