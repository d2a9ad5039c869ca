//! Finds the cases of the suite.

use crate::assets::{AssetError, ONNX_TESTS};
use engine_ops::Tolerance;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// How ONNX's own runner compares where a case does not say otherwise.
const TOLERANCE: Tolerance = Tolerance { atol: 1e-7, rtol: 1e-3 };

/// A folder of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// One operator each.
    Node,
    /// Layers of PyTorch, converted.
    PytorchConverted,
    /// Operators of PyTorch.
    PytorchOperator,
    /// A few operators together.
    Simple,
    /// Whole networks whose weights are made up by nodes.
    Light,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 5] =
        [Self::Node, Self::PytorchConverted, Self::PytorchOperator, Self::Simple, Self::Light];

    /// The folder's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::PytorchConverted => "pytorch-converted",
            Self::PytorchOperator => "pytorch-operator",
            Self::Simple => "simple",
            Self::Light => "light",
        }
    }
}

/// A model with inputs and expected outputs.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it is from.
    pub group: Group,
    /// The folder's name, without `test_`.
    pub name: String,
    /// The ONNX file.
    pub model: PathBuf,
    /// One run each.
    pub sets: Vec<DataSet>,
    /// How outputs are compared.
    pub tolerance: Tolerance,
}

/// Inputs and expected outputs of one run, one file each, in the order of the model's ports.
#[derive(Clone, Debug, Default)]
pub struct DataSet {
    /// Inputs; `None` if they are to be made up as the suite's own runner does it.
    pub inputs: Option<Vec<PathBuf>>,
    /// Expected outputs.
    pub outputs: Vec<PathBuf>,
}

/// Why the cases are not there.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its source")]
pub enum CaseError {
    #[error(transparent)]
    Asset(#[from] AssetError),
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Json { path: String, source: serde_json::Error },
}

impl Case {
    /// `GROUP/NAME`, which is unique.
    pub fn path(&self) -> String {
        format!("{}/{}", self.group.name(), self.name)
    }
}

/// Every case of `groups`, sorted by name, fetched on first use.
pub fn cases(groups: &[Group]) -> Result<Vec<Case>, CaseError> {
    let root = ONNX_TESTS.path()?;
    let mut out = Vec::new();
    for &group in groups {
        let mut found = match group {
            Group::Light => light(&root)?,
            group => folders(&root, group)?,
        };
        found.sort_by(|a, b| a.name.cmp(&b.name));
        out.extend(found);
    }
    Ok(out)
}

fn folders(root: &Path, group: Group) -> Result<Vec<Case>, CaseError> {
    let case = |folder: PathBuf| {
        let mut sets = Vec::new();
        for set in entries(&folder)?.into_iter().filter(|path| path.is_dir()) {
            let files = entries(&set)?;
            sets.push(DataSet {
                inputs: Some(numbered(&files, "input")),
                outputs: numbered(&files, "output"),
            });
        }
        let model = folder.join("model.onnx");
        Ok(Case { group, name: name_of(&folder), model, sets, tolerance: tolerance(&folder)? })
    };
    entries(&root.join(group.name()))?.into_iter().filter(|path| path.is_dir()).map(case).collect()
}

/// The networks: model and output lie in one folder, the tolerance in another, and the input is made up.
fn light(root: &Path) -> Result<Vec<Case>, CaseError> {
    let case = |folder: PathBuf| {
        let name = name_of(&folder);
        let files = root.join("light");
        let model = files.join(format!("light_{name}.onnx"));
        let outputs = vec![files.join(format!("light_{name}_output_0.pb"))];
        let sets = vec![DataSet { inputs: None, outputs }];
        Ok(Case { group: Group::Light, name, model, sets, tolerance: tolerance(&folder)? })
    };
    entries(&root.join("real"))?.into_iter().filter(|path| path.is_dir()).map(case).collect()
}

fn name_of(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("test_").unwrap_or(&name).to_owned()
}

/// What `data.json` says, if it is there.
fn tolerance(folder: &Path) -> Result<Tolerance, CaseError> {
    #[derive(Deserialize)]
    struct Said {
        atol: Option<f64>,
        rtol: Option<f64>,
    }
    let path = folder.join("data.json");
    if !path.exists() {
        return Ok(TOLERANCE);
    }
    let text = std::fs::read_to_string(&path).map_err(io(&path))?;
    let said: Said = serde_json::from_str(&text)
        .map_err(|source| CaseError::Json { path: path.display().to_string(), source })?;
    Ok(Tolerance {
        atol: said.atol.unwrap_or(TOLERANCE.atol),
        rtol: said.rtol.unwrap_or(TOLERANCE.rtol),
    })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, CaseError> {
    let paths = std::fs::read_dir(folder).map_err(io(folder))?;
    let mut paths: Vec<PathBuf> =
        paths.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>().map_err(io(folder))?;
    paths.sort();
    Ok(paths)
}

/// `KIND_0.pb`, `KIND_1.pb` … as far as they go.
fn numbered(files: &[PathBuf], kind: &str) -> Vec<PathBuf> {
    let file = |i: usize| {
        let name = format!("{kind}_{i}.pb");
        files.iter().find(|path| path.file_name().is_some_and(|n| *n == *name)).cloned()
    };
    (0..).map_while(file).collect()
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CaseError {
    let path = path.display().to_string();
    move |source| CaseError::Io { path, source }
}
