//! Values of arguments from their text.

use engine_runtime::Recurrence;
use engine_verify::Fill;
use refit::TensorFile;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many probes to keep, and the seed of the first one's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    pub count: u64,
    pub seed: u64,
}

pub fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, dims) = text.rsplit_once('=').ok_or("expected NAME=1x3x224x224")?;
    // A scalar has no dimensions.
    let dims = if dims.is_empty() { Vec::new() } else { dims.split('x').collect() };
    let number = |dim: &str| {
        dim.parse().map_err(|error| format!("the dimension {dim:?} is not a number: {error}"))
    };
    Ok((name.to_owned(), dims.into_iter().map(number).collect::<Result<_, _>>()?))
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

/// What is given for inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// What an input is filled with.
    Fill(String, Fill),
    /// A file for one input.
    File(String, PathBuf),
    /// A file that has inputs by name.
    All(PathBuf),
}

pub fn parse_given(text: &str) -> Result<Given, String> {
    match text.split_once('=') {
        Some((name, values)) => match values.parse() {
            Ok(fill) => Ok(Given::Fill(name.to_owned(), fill)),
            // What begins as a constant and is none is no file either.
            Err(why) if values.starts_with("const:") => Err(why),
            Err(_) => Ok(Given::File(name.to_owned(), values.into())),
        },
        None if TensorFile::of(Path::new(text)).is_some() => Ok(Given::All(text.into())),
        None => Err("expected NAME=zeros|ones|rand|randn|const:NUMBER, NAME=FILE, or a .npz or .safetensors file".to_owned()),
    }
}

pub fn parse_recurrence(text: &str) -> Result<Recurrence, String> {
    match text.split_once('=') {
        Some((output, input)) if !output.is_empty() && !input.is_empty() => {
            Ok(Recurrence { output: output.to_owned(), input: input.to_owned() })
        }
        _ => Err("expected OUTPUT=INPUT".to_owned()),
    }
}

/// What an engine is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The unoptimised graph of a model.
    Onnx(PathBuf),
    /// A model in ONNX Runtime.
    Onnxruntime(PathBuf),
    /// The tensors of a file.
    Tensors(PathBuf),
    /// Another engine.
    Engine(PathBuf),
}

pub fn parse_reference(text: &str) -> Result<Reference, Infallible> {
    let path = Path::new(text);
    Ok(match (text.split_once(':'), TensorFile::of(path)) {
        (Some(("onnx", model)), _) => Reference::Onnx(model.into()),
        (Some(("ort", model)), _) => Reference::Onnxruntime(model.into()),
        (_, Some(_)) => Reference::Tensors(path.to_owned()),
        _ if path.extension().is_some_and(|ending| ending == "onnx") => {
            Reference::Onnx(path.to_owned())
        }
        _ => Reference::Engine(path.to_owned()),
    })
}

pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds.ok_or_else(|| "expected a number of seconds that is not negative, as in 2.5".to_owned())
}

pub fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 => Ok(number),
        _ => Err("expected a number that is not negative".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_numbers_and_those_of_scalars_are_empty() {
        assert_eq!(parse_shape("a=b=2x30"), Ok(("a=b".to_owned(), vec![2, 30])));
        assert_eq!(parse_shape("x="), Ok(("x".to_owned(), vec![])));
        for wrong in ["x", "x=2xx3", "x=x", "x=2x", "x=-1", "x=2,3"] {
            assert!(parse_shape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn references_are_told_apart_by_their_names() {
        for (text, reference) in [
            ("onnx:a.onnx", Reference::Onnx("a.onnx".into())),
            ("a.onnx", Reference::Onnx("a.onnx".into())),
            ("ort:a.onnx", Reference::Onnxruntime("a.onnx".into())),
            ("a.npz", Reference::Tensors("a.npz".into())),
            ("a.engine", Reference::Engine("a.engine".into())),
            ("./ort:a", Reference::Engine("./ort:a".into())),
        ] {
            assert_eq!(parse_reference(text), Ok(reference), "{text}");
        }
        assert_eq!(parse_tolerance("1e-3"), Ok(1e-3));
        assert!(["-1", "NaN", "x"].iter().all(|text| parse_tolerance(text).is_err()));
        assert_eq!(parse_seconds("2.5"), Ok(Duration::from_millis(2500)));
        assert!(["-1", "NaN", "1e30", "x"].iter().all(|text| parse_seconds(text).is_err()));
    }

    #[test]
    fn inputs_are_fills_files_or_files_of_all() {
        let name = || "x".to_owned();
        for (text, given) in [
            ("x=zeros", Given::Fill(name(), Fill::Constant(0.0))),
            ("x=const:-1", Given::Fill(name(), Fill::Constant(-1.0))),
            ("x=./zeros", Given::File(name(), "./zeros".into())),
            ("x=a=b.npy", Given::File(name(), "a=b.npy".into())),
            ("all.npz", Given::All("all.npz".into())),
        ] {
            assert_eq!(parse_given(text), Ok(given), "{text}");
        }
        for wrong in ["x", "x.npy", "x=const:one"] {
            assert!(parse_given(wrong).is_err(), "{wrong}");
        }
    }
}
