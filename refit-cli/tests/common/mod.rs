//! A folder in which the program runs.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![allow(dead_code, reason = "each test file uses its own part")]

use conformance::graphs::SKETCHES;
use engine_format::{Engine, SerializeFlags, Tensor};
use refit::TensorFile;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A small model.
pub fn sketch(name: &str) -> Vec<u8> {
    (SKETCHES.iter().find(|sketch| sketch.name == name).unwrap().onnx)()
}

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With the model `mlp`, and the full, the stripped and the frozen engine of it.
    pub fn built() -> Self {
        let folder = Self::new();
        std::fs::write(folder.at("model.onnx"), sketch("mlp")).unwrap();
        folder.ok(&["build", "model.onnx", "-o", "full"]);
        folder.ok(&["strip", "full", "-o", "stripped"]);
        folder.ok(&["build", "model.onnx", "-o", "frozen", "--refit", "none"]);
        folder
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_refit"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output and standard error of a run that succeeds.
    pub fn ok(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments).0).unwrap()
    }

    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// The object that a run which ends with this code prints under `--json`.
    pub fn object(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let (text, said) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&text))
        })
    }

    pub fn save(&self, name: &str, engine: &Engine) {
        std::fs::write(self.at(name), engine.serialize(SerializeFlags::default()).unwrap())
            .unwrap();
    }

    pub fn write(&self, name: &str, tensors: &[(&str, Tensor)]) {
        let tensors: Vec<_> = tensors.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
        let path = self.at(name);
        TensorFile::of(&path).unwrap().write(&path, &tensors).unwrap();
    }
}
