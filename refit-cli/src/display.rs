//! No display for a program that shows nothing.
//!
//! Mesa brings a layer to Vulkan that chooses the first adapter. It asks the display for its own, and where there is none says on
//! standard error that `XDG_RUNTIME_DIR` is invalid, in every run. Here adapters are sorted by what they are, so the layer is not
//! needed. Only a variable that is there when the process begins turns it off.

use engine_runtime::DeviceSelector;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Turns the layer off where it is set, to whatever.
const OFF: &str = "NODEVICE_SELECT";

/// What the layer is told by whoever wants it.
const WANTED: [&str; 2] = ["MESA_VK_DEVICE_SELECT", "DRI_PRIME"];

/// Begins anew without the layer if adapters are going to be looked for. If that is not possible all there is to lose is quiet.
pub fn without(device: Option<&DeviceSelector>) {
    let looks = device.is_some_and(|device| *device != DeviceSelector::Cpu);
    let decided = std::env::var_os(OFF).is_some();
    if !looks || decided || WANTED.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    command.arg0(arguments.next().unwrap_or_default());
    let _ = command.args(arguments).env(OFF, "1").exec();
}
