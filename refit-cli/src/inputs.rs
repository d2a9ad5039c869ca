//! What goes into an engine: values from files, and what is made up.

mod picture;

use crate::args::{Given, Inputs};
use crate::failure::{Class, Context, Failure};
use engine_format::{Bytes, Port, Tensor, WeightSource};
use engine_runtime::{Value, Values};
use engine_verify::Recipe;
use picture::Pictures;
use refit::{TensorFile, npy};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// Inputs that are given, and how the others are made up.
pub struct Prepared {
    pub given: Values,
    pub recipe: Recipe,
}

/// Reads what the command line says of the inputs of `ports`.
///
/// # Errors
/// `Usage` for names that are no inputs, and for one that is given twice; files that cannot be read.
pub fn prepare(ports: &[Port], args: &Inputs) -> Result<Prepared, Failure> {
    let pictures = Pictures::new(args)?;
    let mut given = Values::new();
    let mut recipe = Recipe::seeded(args.seed);
    for input in &args.input {
        match input {
            Given::Fill(name, fill) => {
                if recipe.fills.insert(name.clone(), *fill).is_some() {
                    return Err(twice(name));
                }
            }
            Given::File(name, file) => {
                let port = ports.iter().find(|port| port.name == *name);
                let tensor = match port {
                    Some(port) if picture::is_one(file) => pictures.read(port, file)?,
                    _ => read_tensor(name, file, port)?,
                };
                insert(&mut given, name, tensor, port)?;
            }
            Given::All(file) => insert_all(&mut given, ports, file)?,
        }
    }
    for (name, shape) in &args.shape {
        if recipe.shapes.insert(name.clone(), shape.clone()).is_some() {
            return Err(twice(name));
        }
    }
    Ok(Prepared { given, recipe })
}

fn twice(name: &str) -> Failure {
    Failure::new(Class::Usage, format!("input {name:?} is given twice"))
}

/// Adds a tensor: the next element of an input that is a sequence, else the input.
fn insert(
    given: &mut Values,
    name: &str,
    tensor: Tensor,
    port: Option<&Port>,
) -> Result<(), Failure> {
    match given.get_mut(name) {
        Some(Value::Sequence(elements)) => elements.push(tensor),
        Some(_) => return Err(twice(name)),
        None => {
            let value = match port.is_some_and(|port| port.form.is_sequence()) {
                true => Value::from(vec![tensor]),
                false => tensor.into(),
            };
            given.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

/// Adds every tensor of a file under its name. Element 3 of a sequence is called `NAME.3`, as `run --out` calls it.
fn insert_all(given: &mut Values, ports: &[Port], file: &Path) -> Result<(), Failure> {
    let source = refit::open_source(file)?;
    let mut left: BTreeSet<String> = source.names().into_iter().collect();
    let mut take = |name: &str| -> Result<Option<Tensor>, Failure> {
        if !left.remove(name) {
            return Ok(None);
        }
        read_from(&*source, name)
    };
    for port in ports {
        if port.form.is_sequence() {
            let mut index = 0;
            while let Some(tensor) = take(&format!("{}.{index}", port.name))? {
                insert(given, &port.name, tensor, Some(port))?;
                index += 1;
            }
        } else if let Some(tensor) = take(&port.name)? {
            insert(given, &port.name, tensor, Some(port))?;
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let left = left.into_iter().collect::<Vec<_>>().join(", ");
    let ports: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let ports = ports.join(", ");
    let what = format!("{} has tensors that are no inputs: {left}", file.display());
    let help = format!("the inputs are {ports}; --input NAME={} takes one alone", file.display());
    Err(Failure::with_help(Class::Usage, what, help))
}

/// A tensor of a file that is in the form `--input NAME=FILE`: that of a `.npy` file, or of a file of several the one of the input's
/// name, or the only one.
fn read_tensor(name: &str, file: &Path, port: Option<&Port>) -> Result<Tensor, Failure> {
    if TensorFile::of(file).is_none() {
        let doing = || format!("reading {}", file.display());
        let bytes = Bytes::from(read(file)?);
        let tensor = match port {
            Some(port) => npy::decode_as(&bytes, port.dtype),
            None => npy::decode(&bytes),
        };
        return tensor.map_err(|error| Failure::new(Class::InvalidFile, error).context(doing()));
    }
    let source = refit::open_source(file)?;
    let names = source.names();
    let found = match names.as_slice() {
        [only] => Some(only.as_str()),
        _ => names.iter().find(|found| *found == name).map(String::as_str),
    };
    let tensor = found.map(|found| read_from(&*source, found)).transpose()?.flatten();
    tensor.ok_or_else(|| {
        let what = format!(
            "{} has several tensors, and none is called {name:?}: found {}",
            file.display(),
            names.join(", ")
        );
        Failure::new(Class::Usage, what)
    })
}

fn read_from(source: &dyn WeightSource, name: &str) -> Result<Option<Tensor>, Failure> {
    source.read(name).map_err(|error| Failure::new(Class::InvalidFile, error))
}

/// The bytes of a file, and of nothing else that has a name.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let opened = engine_onnx::open_regular(file);
    let read = opened.and_then(|mut file| file.read_to_end(&mut bytes));
    read.doing(format!("reading {}", file.display()))?;
    Ok(bytes)
}
