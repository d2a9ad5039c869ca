//! ONNX Runtime as the oracle: runs a model in a Python process of its own, tensors as `.npy` files. For measurements it, and
//! OpenVINO, stay as a peer that is timed in turns.

use crate::assets::{self, AssetError};
use engine_format::{Bytes, Tensor};
use refit::npy;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

/// Named tensors: the inputs or outputs of one run.
pub type Tensors = BTreeMap<String, Tensor>;

/// The Python file `name` of the folder `conformance/oracle`, ready to be given arguments.
pub fn script(name: &str) -> Result<Command, AssetError> {
    let packages = assets::oracle_packages()?;
    let mut command = Command::new(assets::python());
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle").join(name))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// Runs `model` in ONNX Runtime, once for each element of `runs`, in order and in one session. A tensor named `@NAME` in
/// `carry` terms is not needed: state that one run hands to the next is stated as (output, input) pairs in `carry`.
pub fn onnxruntime(
    model: &Path,
    runs: &[Tensors],
    carry: &[(&str, &str)],
) -> Result<Vec<Tensors>, OracleError> {
    let folder = tempfile::tempdir()?;
    for (i, inputs) in runs.iter().enumerate() {
        save(&folder.path().join(format!("in{i}")), inputs)?;
    }
    let mut command = script("run.py")?;
    command.arg(model).arg(folder.path()).arg(runs.len().to_string());
    command.args(carry.iter().map(|(from, to)| format!("{from}={to}")));
    assets::checked(&mut command)?;
    (0..runs.len()).map(|i| load(&folder.path().join(format!("out{i}")))).collect()
}

/// Another runtime in a process that stays, so that it can be timed in turns.
#[derive(Debug)]
pub struct Peer {
    process: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Holds the inputs, and what the peer writes.
    _folder: tempfile::TempDir,
}

/// Bytes that OpenVINO keeps of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The compiled model with its weights.
    pub whole: u64,
    /// The same in its cache when it is asked to leave weights out: all but those that it folded.
    pub weightless: u64,
}

impl Peer {
    /// ONNX Runtime with `model` loaded and `threads` threads; what is timed is a run over `inputs`.
    pub fn start(model: &Path, inputs: &Tensors, threads: usize) -> Result<Self, OracleError> {
        Self::spawn(script("bench.py")?, model, inputs, threads)
    }

    /// OpenVINO with `model` compiled and kept in a file; what is timed is to load that and run it once over `inputs`, with `threads`
    /// threads.
    pub fn openvino(
        model: &Path,
        inputs: &Tensors,
        threads: usize,
    ) -> Result<(Self, Kept), OracleError> {
        let packages = [assets::oracle_packages()?, assets::openvino_packages()?];
        let mut command = script("load.py")?;
        command.env("PYTHONPATH", std::env::join_paths(packages).map_err(std::io::Error::other)?);
        let mut peer = Self::spawn(command, model, inputs, threads)?;
        let bytes = peer.numbers(2)?;
        Ok((peer, Kept { whole: bytes[0], weightless: bytes[1] }))
    }

    fn spawn(
        mut script: Command,
        model: &Path,
        inputs: &Tensors,
        threads: usize,
    ) -> Result<Self, OracleError> {
        let folder = tempfile::tempdir()?;
        save(&folder.path().join("in0"), inputs)?;
        script.arg(model).arg(folder.path()).arg(threads.to_string());
        let mut process = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asked = process.stdin.take().expect("it was asked for");
        let answers = BufReader::new(process.stdout.take().expect("it was asked for"));
        Ok(Self { process, asked, answers, _folder: folder })
    }

    /// Does `runs` times what is timed and gives the time of each.
    pub fn time(&mut self, runs: usize) -> Result<Vec<Duration>, OracleError> {
        writeln!(self.asked, "{runs}")?;
        let seconds = self.numbers(runs)?.into_iter().map(Duration::try_from_secs_f64);
        Ok(seconds.collect::<Result<_, _>>().map_err(std::io::Error::other)?)
    }

    /// A line of `count` numbers.
    fn numbers<T: FromStr>(&mut self, count: usize) -> Result<Vec<T>, OracleError> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers = line.split_whitespace().map(|word| word.parse().ok());
        let numbers = numbers.collect::<Option<Vec<T>>>();
        numbers.filter(|numbers| numbers.len() == count).ok_or_else(|| {
            let why = format!("asked for {count} numbers, the oracle said {line:?}");
            OracleError::Io(std::io::Error::other(why))
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell if it cannot be ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tensors that a script of `conformance/oracle` makes: `script OUT_DIR ARGUMENTS…`.
pub fn generate(name: &str, arguments: &[&OsStr]) -> Result<Tensors, OracleError> {
    let folder = tempfile::tempdir()?;
    assets::checked(script(name)?.arg(folder.path()).args(arguments))?;
    load(folder.path())
}

/// A model whose results are known, made by a script.
#[derive(Debug)]
pub struct Known {
    /// The folder's name.
    pub name: String,
    /// The ONNX file.
    pub model: PathBuf,
    /// Inputs of one run.
    pub inputs: Tensors,
    /// What ONNX Runtime gives for them.
    pub outputs: Tensors,
}

/// The models that a script of `conformance/oracle` writes into `folder`: `script FOLDER`.
pub fn known(name: &str, folder: &Path) -> Result<Vec<Known>, OracleError> {
    assets::checked(script(name)?.arg(folder))?;
    let names = std::fs::read_to_string(folder.join("names.txt"))?;
    let read = |name: &str| {
        let place = folder.join(name);
        Ok(Known {
            name: name.to_owned(),
            model: place.join("model.onnx"),
            inputs: load(&place.join("in0"))?,
            outputs: load(&place.join("out0"))?,
        })
    };
    names.lines().map(read).collect()
}

/// Writes tensors as `0.npy`, `1.npy` … with their names in `names.txt`, so that any name is possible.
fn save(folder: &Path, tensors: &Tensors) -> Result<(), OracleError> {
    std::fs::create_dir_all(folder)?;
    for (i, tensor) in tensors.values().enumerate() {
        std::fs::write(folder.join(format!("{i}.npy")), npy::encode(tensor)?)?;
    }
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    Ok(std::fs::write(folder.join("names.txt"), names.join("\n"))?)
}

fn load(folder: &Path) -> Result<Tensors, OracleError> {
    let names = std::fs::read_to_string(folder.join("names.txt"))?;
    let read = |(i, name): (usize, &str)| {
        let bytes = Bytes::from(std::fs::read(folder.join(format!("{i}.npy")))?);
        Ok((name.to_owned(), npy::decode(&bytes)?))
    };
    names.lines().enumerate().map(read).collect()
}

/// Why the oracle gave no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its source")]
pub enum OracleError {
    #[error(transparent)]
    Asset(#[from] AssetError),
    #[error("exchanging tensors with the oracle: {0}")]
    Io(#[from] std::io::Error),
    #[error("exchanging tensors with the oracle: {0}")]
    Npy(#[from] npy::NpyError),
}
