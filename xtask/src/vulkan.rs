//! A Vulkan adapter for machines without one: Mesa's lavapipe from the distribution's packages, unpacked under the build
//! folder without root.

use miette::{Context, IntoDiagnostic, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for programs that shall take a software adapter as a GPU.
const SOFTWARE: (&str, &str) = ("REFIT_SOFTWARE_GPU", "1");

/// Variables under which a program sees a Vulkan adapter.
pub type Environment = Vec<(String, String)>;

/// Finds an adapter, bringing lavapipe where there is none. An error says why none can be had.
pub fn environment(root: &Path) -> Result<Environment> {
    // Mesa's layer that chooses devices looks for a display, and complains on standard error where there is none.
    let quiet = ("NODEVICE_SELECT".to_owned(), "1".to_owned());
    let mut environment = vec![(SOFTWARE.0.to_owned(), SOFTWARE.1.to_owned()), quiet];
    if sees_adapter(&environment)? {
        return Ok(environment);
    }
    let folder = root.join("lavapipe");
    if !folder.join("complete").exists() {
        println!("No Vulkan adapter: unpacking Mesa's lavapipe under {}", folder.display());
        unpack(&folder)?;
    }
    environment.extend(variables(&folder)?);
    ensure!(
        sees_adapter(&environment)?,
        "lavapipe was unpacked in {} but its adapter is not seen",
        folder.display()
    );
    Ok(environment)
}

/// Asks a fresh process, because the Vulkan loader reads its variables once. That there is none yet is no error to be shown.
fn sees_adapter(environment: &Environment) -> Result<bool> {
    let program = std::env::current_exe().into_diagnostic()?;
    let status = Command::new(program)
        .arg("adapters")
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .into_diagnostic()
        .wrap_err("starting this program again, to see whether it finds an adapter")?;
    Ok(status.success())
}

/// The driver and the loader.
const ROOTS: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];

/// Downloads the driver, the loader and what they need and this machine lacks, and unpacks them.
fn unpack(folder: &Path) -> Result<()> {
    let debs = folder.join("debs");
    for sub in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(folder.join(sub)).into_diagnostic()?;
    }
    fs::create_dir_all(&debs).into_diagnostic()?;
    let lists = format!("Dir::State::Lists={}", folder.join("lists").display());
    let cache = format!("Dir::Cache={}", folder.join("cache").display());
    let apt = |program: &str| {
        let mut command = Command::new(program);
        command.args(["-o", &lists, "-o", &cache]);
        command
    };
    output(apt("apt-get").args(["-qq", "update"])).wrap_err(
        "lavapipe is brought by apt on Debian and Ubuntu; on other systems install a Vulkan driver",
    )?;
    let closure = output(apt("apt-cache").args([
        "depends",
        "--recurse",
        "--no-recommends",
        "--no-suggests",
        "--no-conflicts",
        "--no-breaks",
        "--no-replaces",
        "--no-enhances",
        ROOTS[0],
        ROOTS[1],
    ]))?;
    let needed: BTreeSet<&str> =
        closure.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_alphanumeric())).collect();
    // The driver and the loader are brought even where the distribution says they are installed: they were not found.
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|package| ROOTS.contains(package) || !installed(package))
        .collect();
    output(apt("apt-get").arg("-qq").arg("download").args(&missing).current_dir(&debs))?;
    let system = folder.join("system");
    for entry in fs::read_dir(&debs).into_diagnostic()? {
        let deb = entry.into_diagnostic()?.path();
        output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&system))?;
    }
    fs::write(folder.join("complete"), missing.join("\n")).into_diagnostic()
}

fn installed(package: &str) -> bool {
    let status =
        output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]));
    status.is_ok_and(|s| s.starts_with("installed"))
}

/// Where the unpacked loader and driver are. The driver's manifest names an absolute path, so one of our own is written.
fn variables(folder: &Path) -> Result<Environment> {
    let driver = find(&folder.join("system"), "libvulkan_lvp.so")?;
    let libraries = driver.parent().expect("a found file has a folder");
    let manifest = folder.join("lvp_icd.json");
    let text = format!(
        "{{\"file_format_version\": \"1.0.0\", \"ICD\": {{\"api_version\": \"1.1.0\", \"library_path\": \"{}\"}}}}\n",
        driver.display()
    );
    fs::write(&manifest, text).into_diagnostic()?;
    let mut path = libraries.display().to_string();
    if let Ok(before) = std::env::var("LD_LIBRARY_PATH") {
        path = format!("{path}:{before}");
    }
    Ok(vec![
        ("LD_LIBRARY_PATH".to_owned(), path),
        ("VK_DRIVER_FILES".to_owned(), manifest.display().to_string()),
        ("VK_ICD_FILENAMES".to_owned(), manifest.display().to_string()),
    ])
}

fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_diagnostic()? {
            let path = entry.into_diagnostic()?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.file_name().is_some_and(|n| n == name) {
                return path.canonicalize().into_diagnostic();
            }
        }
    }
    bail!("no {name} under {}", folder.display())
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().into_diagnostic().wrap_err_with(|| format!("starting {program}"))?;
    ensure!(
        output.status.success(),
        "{program} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
