//! The flag rule: what a file is after a caller's wish.

use crate::{EngineFlags, FormatError, FormatErrorKind, SerializeFlags};

/// Whether an engine's weights are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightsPresence {
    /// Every weight's bytes are here.
    Present,
    /// At least one weight has no bytes.
    Missing,
}

/// The flags of the file that an engine with `flags` and `weights` is written to under `wish`.
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
    wish: SerializeFlags,
) -> Result<EngineFlags, FormatError> {
    use WeightsPresence::{Missing, Present};
    flags.check()?;
    if !SerializeFlags::all().contains(wish) {
        return Err(FormatError::new(FormatErrorKind::InvalidFlags, "unknown bits in the wish")
            .expected("bits 0 to 2 only")
            .found(format!("{:#x}", wish.bits())));
    }
    let (mode, precision) = (flags.refit_mode(), flags.precision());
    let mut rest = precision;
    rest.set(EngineFlags::COMPRESSED, wish.contains(SerializeFlags::COMPRESS));
    let keep_mode = wish.contains(SerializeFlags::INCLUDE_REFIT);
    match (weights, wish.contains(SerializeFlags::EXCLUDE_WEIGHTS)) {
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
        let wishes: Vec<_> = (0..8).map(SerializeFlags::from_bits_truncate).collect();
        let mut table = String::from(
            "engine: R REFIT, I REFIT_IDENTICAL, N REFIT_INDIVIDUAL, X EXCLUDE_WEIGHTS, C COMPRESSED, - none\n\
             wish:   x EXCLUDE_WEIGHTS, r INCLUDE_REFIT, c COMPRESS, - none\n\
             cell:   the new file's flags, or !flags InvalidFlags, !missing MissingWeights, !frozen NotRefittable\n\n\
             engine weights ",
        );
        for wish in &wishes {
            write!(table, " {:>8}", letters(wish.bits().into(), "xrc")).unwrap();
        }
        table.push('\n');
        for bits in 0..=(EngineFlags::all() - EngineFlags::PRECISIONS).bits() {
            for presence in [Present, Missing] {
                let flags = EngineFlags::from_bits_truncate(bits);
                let name = format!("{presence:?}").to_lowercase();
                write!(table, "{:<6} {name:<8}", letters(bits, "RINXC")).unwrap();
                for &wish in &wishes {
                    write!(table, " {:>8}", cell(serialized_flags(flags, presence, wish))).unwrap();
                }
                table.push('\n');
            }
        }
        insta::assert_snapshot!(table);
    }

    const MODES: [EngineFlags; 3] =
        [EngineFlags::REFIT, EngineFlags::REFIT_IDENTICAL, EngineFlags::REFIT_INDIVIDUAL];
    const NO_WISH: SerializeFlags = SerializeFlags::empty();
    const EXCLUDE: SerializeFlags = SerializeFlags::EXCLUDE_WEIGHTS;
    const REFIT: SerializeFlags = SerializeFlags::INCLUDE_REFIT;

    fn kind(flags: EngineFlags, weights: WeightsPresence, wish: SerializeFlags) -> FormatErrorKind {
        serialized_flags(flags, weights, wish).unwrap_err().kind()
    }

    #[test]
    fn full_refittable_stays_refittable_iff_asked() {
        for mode in MODES {
            assert_eq!(serialized_flags(mode, Present, REFIT), Ok(mode));
            assert_eq!(serialized_flags(mode, Present, NO_WISH), Ok(EngineFlags::empty()));
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
        assert_eq!(serialized_flags(frozen, Present, NO_WISH), Ok(frozen));
        assert_eq!(serialized_flags(frozen, Present, REFIT), Ok(frozen));
        assert_eq!(kind(frozen, Present, EXCLUDE), FormatErrorKind::NotRefittable);
    }

    #[test]
    fn without_weights_only_a_stripped_file_is_written() {
        for mode in MODES {
            let stripped = mode | EngineFlags::EXCLUDE_WEIGHTS;
            assert_eq!(kind(stripped, Missing, REFIT), FormatErrorKind::MissingWeights);
            assert_eq!(kind(stripped, Missing, NO_WISH), FormatErrorKind::MissingWeights);
            assert_eq!(serialized_flags(stripped, Missing, EXCLUDE), Ok(stripped));
        }
    }

    #[test]
    fn every_file_keeps_the_precision() {
        for bits in 0..=(EngineFlags::all() - EngineFlags::PRECISIONS).bits() {
            let flags = EngineFlags::from_bits_truncate(bits);
            for precision in [EngineFlags::F16, EngineFlags::BF16] {
                for (presence, wish) in [Present, Missing]
                    .into_iter()
                    .flat_map(|presence| (0..8).map(move |wish| (presence, wish)))
                {
                    let wish = SerializeFlags::from_bits_truncate(wish);
                    let plain = serialized_flags(flags, presence, wish);
                    let found = serialized_flags(flags | precision, presence, wish);
                    let kind = |error: FormatError| error.kind();
                    let expected = plain.map(|file| file | precision).map_err(kind);
                    assert_eq!(found.map_err(kind), expected, "{flags:?}, {wish:?}");
                }
            }
        }
    }

    #[test]
    fn compression_follows_the_wish_alone() {
        for mode in MODES {
            for before in [EngineFlags::empty(), EngineFlags::COMPRESSED] {
                let packed = mode | EngineFlags::COMPRESSED;
                let wish = REFIT | SerializeFlags::COMPRESS;
                assert_eq!(serialized_flags(mode | before, Present, wish), Ok(packed));
                assert_eq!(serialized_flags(mode | before, Present, REFIT), Ok(mode));
            }
        }
    }

    #[test]
    fn an_unknown_wish_is_refused() {
        let wish = SerializeFlags::from_bits_retain(1 << 9);
        assert_eq!(kind(EngineFlags::REFIT, Present, wish), FormatErrorKind::InvalidFlags);
    }
}
