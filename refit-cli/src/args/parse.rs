//! Values of arguments from their text.

use std::path::PathBuf;

/// How many probes to keep, and the seed of the first one's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    pub count: u64,
    pub seed: u64,
}

pub fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, dims) = text.rsplit_once('=').ok_or("expected NAME=1x3x224x224")?;
    let dims: Result<Vec<usize>, _> =
        dims.split('x').filter(|d| !d.is_empty()).map(str::parse).collect();
    Ok((name.to_owned(), dims.map_err(|e| format!("a dimension is not a number: {e}"))?))
}

/// Probes an engine may be asked for.
const MAX_PROBES: u64 = 1000;

pub fn parse_probes(text: &str) -> Result<Probes, String> {
    let (count, seed) = text.split_once(':').unwrap_or((text, "1"));
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let (count, seed) = (number(count)?, number(seed)?);
    if !(1..=MAX_PROBES).contains(&count) || seed.checked_add(count).is_none() {
        return Err(format!("expected 1 to {MAX_PROBES} probes and a seed, as in 3 or 3:42"));
    }
    Ok(Probes { count, seed })
}

pub fn parse_input(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE")?;
    Ok((name.to_owned(), file.into()))
}
