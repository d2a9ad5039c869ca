//! Models that PyTorch exports on the spot: the script `export/export.py` in a Python that has torch.

use crate::assets::{self, AssetError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of one export, cached under the folder of assets.
#[derive(Clone, Debug)]
pub struct Exported {
    folder: PathBuf,
    name: &'static str,
}

impl Exported {
    /// The model.
    pub fn onnx(&self) -> PathBuf {
        self.folder.join(format!("{}.onnx", self.name))
    }

    /// The framework's state dict.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join(format!("{}.safetensors", self.name))
    }

    /// The model after every tensor was changed, exported anew.
    pub fn tuned_onnx(&self) -> PathBuf {
        self.folder.join(format!("{}.tuned.onnx", self.name))
    }

    /// The state dict of that.
    pub fn tuned_checkpoint(&self) -> PathBuf {
        self.folder.join(format!("{}.tuned.safetensors", self.name))
    }
}

/// The Python that has torch: `REFIT_TORCH_PYTHON`, or that of the oracle.
pub(crate) fn python() -> std::ffi::OsString {
    std::env::var_os("REFIT_TORCH_PYTHON").unwrap_or_else(assets::python)
}

/// Whether PyTorch can be asked. Without it the answer is `false` and a line on stderr says why; under `REFIT_REQUIRE_TORCH` that is
/// a panic.
pub fn has_torch() -> bool {
    let modules = "import onnx, onnxscript, safetensors, torch, torchvision, transformers";
    let found = Command::new(python()).args(["-c", modules]).output();
    let why = match found {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let why = format!(
        "no PyTorch to export with: install torch, torchvision, transformers, onnx, onnxscript and safetensors for {} or name a \
         Python that has them in REFIT_TORCH_PYTHON: {}",
        python().to_string_lossy(),
        why.lines().last().unwrap_or_default()
    );
    assert!(std::env::var_os("REFIT_REQUIRE_TORCH").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
    false
}

/// Exports a model of `export/models.py` with these options, unless that was done before.
///
/// # Errors
/// What the script says.
pub fn export(
    name: &'static str,
    options: &[&str],
    checkpoint: Option<&Path>,
) -> Result<Exported, AssetError> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("export");
    let mut key = Sha256::new();
    for file in ["export.py", "models.py"] {
        let path = script.join(file);
        key.update(
            std::fs::read(&path).map_err(|e| AssetError::new(path.display().to_string(), e))?,
        );
    }
    key.update(options.join(" "));
    key.update(checkpoint.map_or_else(String::new, |path| path.display().to_string()));
    let tag = assets::hex(&key.finalize());
    let folder = assets::folder().join(format!("exports-{name}-{}", &tag[..12]));
    let _guard = assets::lock(&tag)?;
    let done = folder.join("complete");
    if !done.exists() {
        let mut command = Command::new(python());
        command.args(["-W", "ignore"]).arg(script.join("export.py")).arg(&folder).arg(name);
        command.args(options).env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(checkpoint) = checkpoint {
            command.arg("--checkpoint").arg(checkpoint);
        }
        assets::checked(&mut command)?;
        std::fs::write(&done, "").map_err(|e| AssetError::new(done.display().to_string(), e))?;
    }
    Ok(Exported { folder, name })
}
