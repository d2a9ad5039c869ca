//! Where results of a run are written: a folder of arrays, or one file.

use crate::failure::{Class, Context, Failure};
use crate::output::remark;
use engine_format::{Port, Tensor};
use refit::{TensorFile, npy};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A place for results.
pub enum Destination {
    /// A folder that gets each as `NAME.npy`.
    Folder(PathBuf),
    /// A file that gets all of them.
    File(PathBuf, TensorFile),
}

/// The file that a result is in, and what it is called there if there are others.
pub type Place = (PathBuf, Option<String>);

impl Destination {
    /// What `path` says, after making a folder, and checking that the file can hold the outputs.
    ///
    /// # Errors
    /// `Usage` for an element type that the kind of file does not have; a folder that cannot be made.
    pub fn new(path: &Path, outputs: &[Port]) -> Result<Self, Failure> {
        match TensorFile::of(path).filter(|_| !path.is_dir()) {
            Some(kind) => {
                let unfit = outputs.iter().find(|port| !kind.holds(port.dtype));
                if let Some(Port { name, dtype, .. }) = unfit {
                    let what = format!(
                        "{}: output {name:?} is {dtype}, which the format does not have",
                        path.display()
                    );
                    return Err(Failure::with_help(
                        Class::Usage,
                        what,
                        "name a folder, or a .npz file",
                    ));
                }
                Ok(Self::File(path.to_owned(), kind))
            }
            // A file's name by mistake would become a folder's.
            None if !is_folder(path) => {
                let what = format!("{}: a file of unknown kind", path.display());
                let help =
                    format!("name a .safetensors or .npz file, or a folder: {}/", path.display());
                Err(Failure::with_help(Class::Usage, what, help))
            }
            None => {
                std::fs::create_dir_all(path).doing(format!("making {}", path.display()))?;
                Ok(Self::Folder(path.to_owned()))
            }
        }
    }

    /// Writes every tensor under its name, which is unique, and says where it is if the place is not called as it is.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn write(&self, names: &[String], tensors: &[&Tensor]) -> Result<Vec<Place>, Failure> {
        match self {
            Self::Folder(folder) => {
                let files = named_apart(names, file_name);
                let named = names.iter().zip(files).zip(tensors);
                let write = |((name, file), tensor): ((&String, String), &&Tensor)| -> Result<Place, Failure> {
                    let path = folder.join(format!("{file}.npy"));
                    if file != *name {
                        remark!("output {name:?} is written to {}", path.display());
                    }
                    let doing = || format!("writing {}", path.display());
                    let bytes = npy::encode(tensor)
                        .map_err(|error| Failure::new(Class::Unsupported, error).context(doing()))?;
                    refit::write_file(&path, &bytes)?;
                    Ok((path, None))
                };
                named.map(write).collect()
            }
            Self::File(path, kind) => {
                let named = names.iter().cloned().zip(tensors.iter().map(|&tensor| tensor.clone()));
                kind.write(path, &named.collect::<Vec<_>>())?;
                Ok(names.iter().map(|name| (path.clone(), Some(name.clone()))).collect())
            }
        }
    }
}

/// Whether a path is a folder, or says that it is to be one: it has no ending, or a separator in its place.
fn is_folder(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let separated = text.last().is_some_and(|&last| std::path::is_separator(last.into()));
    path.is_dir() || separated || path.extension().is_none()
}

/// Bytes of a name that every file system takes, with room for a number and an ending.
const LONGEST: usize = 200;

/// The name of a file for an output: no separator of any system, not too long.
fn file_name(output: &str) -> String {
    let unfit = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    let mut name: String = output.chars().map(|c| if unfit(c) { '_' } else { c }).collect();
    while name.len() > LONGEST {
        name.pop();
    }
    if name.is_empty() { "_".to_owned() } else { name }
}

/// Names that differ, and are what `change` makes of `names` where that is free: a name that needs no change keeps itself, one that
/// is taken gets a number.
pub fn named_apart(names: &[String], change: impl Fn(&str) -> String) -> Vec<String> {
    let key = |name: &str| match cfg!(any(windows, target_os = "macos")) {
        // File systems that do not tell cases apart.
        true => name.to_lowercase(),
        false => name.to_owned(),
    };
    let mut apart: Vec<Option<String>> = vec![None; names.len()];
    let mut taken = BTreeSet::new();
    for (name, apart) in names.iter().zip(&mut apart) {
        if change(name) == *name && taken.insert(key(name)) {
            *apart = Some(name.clone());
        }
    }
    let others = names.iter().zip(apart).map(|(name, apart)| {
        apart.unwrap_or_else(|| {
            let plain = change(name);
            let numbered = (2..).map(|number| format!("{plain}_{number}"));
            let mut free = std::iter::once(plain.clone()).chain(numbered);
            let free = free.find(|name| taken.insert(key(name)));
            free.expect("there are more numbers than names")
        })
    });
    others.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_no_ending_or_a_separator() {
        for (path, expected) in [("out", true), ("out.d/", true), (".", true), ("y.npy", false)] {
            assert_eq!(is_folder(Path::new(path)), expected, "{path}");
        }
    }

    fn files(names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        named_apart(&names, file_name)
    }

    #[test]
    fn every_output_has_a_file_of_its_own() {
        assert_eq!(files(&["a/b", "a_b", "a:b", "a_b_2"]), ["a_b_3", "a_b", "a_b_4", "a_b_2"]);
        assert_eq!(files(&["x", "x", "y.0", "y.0"]), ["x", "x_2", "y.0", "y.0_2"]);
        assert_eq!(
            files(&["", "/", "_", "a\nb", "..", "a\\b"]),
            ["__2", "__3", "_", "a_b", "..", "a_b_2"]
        );
        let long = ["é".repeat(300), "é".repeat(301)];
        let [a, b] = files(&[&long[0], &long[1]]).try_into().unwrap_or_default();
        assert!(a != b && a.len() <= LONGEST && b.len() <= LONGEST + 2, "{a} {b}");
    }
}
