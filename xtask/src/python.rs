//! `cargo xtask python`: the Python module, built, and tested in the Python of this machine.

use crate::vulkan;
use crate::workspace::checked;
use ::conformance::assets::{self, Asset};
use miette::{Context, IntoDiagnostic, Result, ensure, miette};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What runs the tests.
const TOOLS: [&str; 2] = ["pytest==9.2.0", "mypy==2.4.1"];

/// The model of the README's examples. Of its package no more is used.
const MODEL: [&str; 2] = ["--no-deps", "magika==1.0.3"];

/// What a script of onnxruntime is run with, by both.
const MODELS: [Asset; 6] = [
    assets::MAGIKA,
    assets::YUNET,
    assets::MINILM_L3,
    assets::TINYOCR_REC,
    assets::MULTISTYLE,
    assets::U2NETP,
];

/// Builds wheels.
const BUILDER: [&str; 1] = ["maturin==1.16.0"];

/// The oldest Python that the module runs in.
const OLDEST: (u32, u32) = (3, 10);

/// Builds the module, runs its tests and checks its types. By default the library of the workspace's own test build is laid out as
/// a package, so that nothing is built twice; `release` builds the wheel and installs it. On a machine without Python it is skipped by
/// name, and `CI` makes that a failure.
pub fn run(root: &Path, release: bool, arguments: &[String]) -> Result<()> {
    match check_version() {
        Ok(()) => {}
        Err(why) if std::env::var_os("CI").is_some() => return Err(why),
        Err(why) => {
            println!("SKIPPED: the tests of the Python module: {why:?}");
            return Ok(());
        }
    }
    let folder = root.join("target/python");
    let site = match release {
        true => wheel(root, &folder)?,
        false => lay_out(root, &folder)?,
    };
    let mut path = vec![site, assets::oracle_packages().into_diagnostic()?];
    for packages in [&TOOLS[..], &MODEL] {
        path.push(assets::packages(packages).into_diagnostic()?);
    }
    let cache = folder.join("mypy").display().to_string();
    let source = root.join("refit-python");
    let types = ["mypy", "--strict", "--cache-dir", &cache, "python/refit"];
    let stubs = ["mypy.stubtest", "refit._refit", "--mypy-config-file", "pyproject.toml"];
    for check in [&types[..], &stubs] {
        checked(&mut python(&path, &source, check)?)?;
    }
    let mut tests = vec!["pytest", "-q", "-p", "no:cacheprovider", "tests"];
    tests.extend(arguments.iter().map(String::as_str));
    let models = MODELS.iter().map(Asset::path).collect::<Result<Vec<_>, _>>().into_diagnostic()?;
    let models = std::env::join_paths(models).into_diagnostic()?;
    let mut tests = python(&path, &source, &tests)?;
    tests.env("REFIT_MODELS", models);
    match vulkan::environment(&root.join("target")) {
        Ok(environment) => drop(tests.envs(environment)),
        Err(why) => println!("SKIPPED: the module on a GPU: {why:?}"),
    }
    checked(&mut tests)
}

/// Whether the machine's Python will do.
fn check_version() -> Result<()> {
    let program = assets::python();
    let ask = "import sys, pip; print(*sys.version_info[:2])";
    let output = Command::new(&program).args(["-c", ask]).output().into_diagnostic();
    let output = output.wrap_err_with(|| format!("starting {}", program.display()))?;
    ensure!(output.status.success(), "{} with pip is needed", program.display());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u32> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [major, minor] = numbers[..] else { return Err(miette!("no version of Python: {text:?}")) };
    let (least, and) = OLDEST;
    ensure!(
        (major, minor) >= OLDEST,
        "Python {least}.{and} or newer is needed, found {major}.{minor}"
    );
    Ok(())
}

/// A module of Python, to be run in `folder` with these folders of packages.
fn python(packages: &[PathBuf], folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(assets::python());
    command.arg("-m").args(arguments).current_dir(folder);
    command.env("PYTHONPATH", std::env::join_paths(packages).into_diagnostic()?);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// The package out of the Python sources and the library of a test build of the workspace.
fn lay_out(root: &Path, folder: &Path) -> Result<PathBuf> {
    let library = library(root)?;
    let (site, source) = (folder.join("site"), root.join("refit-python/python/refit"));
    let package = site.join("refit");
    if package.exists() {
        fs::remove_dir_all(&package).into_diagnostic()?;
    }
    fs::create_dir_all(&package).into_diagnostic()?;
    for entry in fs::read_dir(&source).into_diagnostic()? {
        let file = entry.into_diagnostic()?.path();
        if let Some(name) = file.file_name().filter(|_| file.is_file()) {
            fs::copy(&file, package.join(name)).into_diagnostic()?;
        }
    }
    let name = if cfg!(windows) { "_refit.pyd" } else { "_refit.abi3.so" };
    fs::copy(library, package.join(name)).into_diagnostic()?;
    Ok(site)
}

/// Builds the extension with the features that the workspace's tests have, so that all it depends on is there already.
fn library(root: &Path) -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--workspace",
            "--lib",
            "--tests",
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .into_diagnostic()
        .wrap_err("starting cargo build")?;
    ensure!(output.status.success(), "the module is not built: cargo ended with {}", output.status);
    let artifacts = output.stdout.split(|byte| *byte == b'\n');
    let artifacts =
        artifacts.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let mut extensions = artifacts.filter(|artifact| artifact["target"]["name"] == "refit_python");
    let extension =
        extensions.next().ok_or_else(|| miette!("cargo built no library refit_python"))?;
    let file = extension["filenames"][0].as_str();
    file.map(PathBuf::from).ok_or_else(|| miette!("cargo names no file of the library"))
}

/// The package out of the wheel that users install.
fn wheel(root: &Path, folder: &Path) -> Result<PathBuf> {
    let builder = assets::packages(&BUILDER).into_diagnostic()?;
    let (wheels, site) = (folder.join("wheels"), folder.join("installed"));
    for old in [&wheels, &site] {
        if old.exists() {
            fs::remove_dir_all(old).into_diagnostic()?;
        }
    }
    let source = root.join("refit-python");
    let out = wheels.display().to_string();
    let program = builder.join("bin").join(format!("maturin{}", std::env::consts::EXE_SUFFIX));
    let mut maturin = Command::new(program);
    maturin.args(["build", "--release", "--locked", "--out", &out]).current_dir(&source);
    // Panics say where in the sources they are; what is in front of that is this machine's.
    let remap = |(folder, name): (&PathBuf, &str)| {
        format!("--remap-path-prefix={}={name}", folder.display())
    };
    let folders = own_folders(root)?;
    let flags = folders.iter().zip(["cargo", "refit"]).map(remap).collect::<Vec<_>>();
    checked(maturin.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))?;
    let mut files = fs::read_dir(&wheels).into_diagnostic()?;
    let file = files.next().ok_or_else(|| miette!("maturin built no wheel"))?.into_diagnostic()?;
    let (file, target) = (file.path().display().to_string(), site.display().to_string());
    println!("{file}");
    let install = ["pip", "install", "--quiet", "--no-deps", "--target", &target, &file];
    checked(&mut python(&[], &source, &install)?)?;
    for folder in folders {
        names_nowhere(&site.join("refit"), &folder.display().to_string())?;
    }
    Ok(site)
}

/// The folders whose names no published file has: of cargo, and of this repository.
fn own_folders(root: &Path) -> Result<[PathBuf; 2]> {
    let home = || std::env::home_dir().map(|home| home.join(".cargo"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    let cargo = cargo.ok_or_else(|| miette!("cargo has no home"))?;
    Ok([cargo, root.to_owned()])
}

/// Checks that no file under `folder` has this text in it.
fn names_nowhere(folder: &Path, text: &str) -> Result<()> {
    for entry in fs::read_dir(folder).into_diagnostic()? {
        let path = entry.into_diagnostic()?.path();
        if path.is_dir() {
            names_nowhere(&path, text)?;
            continue;
        }
        let bytes = fs::read(&path).into_diagnostic()?;
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        ensure!(!found, "{} names {text}, a folder of this machine", path.display());
    }
    Ok(())
}
