//! A program that loads an engine, refits it from another engine of the same model and runs it on zeros, on the CPU: what
//! `cargo xtask lean` measures the size of.
//!
//! `lean ENGINE [WEIGHTS]`, where `WEIGHTS` is an engine too.

use engine_format::{Bytes, Engine, FitPolicy, MapSource, Tensor};
use engine_runtime::{Device, Inputs, LiveModule, Module};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1);
    let path = paths.next().ok_or("usage: lean ENGINE [WEIGHTS]")?;
    let engine = Engine::read(Bytes::from(std::fs::read(path)?))?;
    let module = LiveModule::load(engine, &Device::cpu())?;
    if let Some(path) = paths.next() {
        let other = Engine::read(Bytes::from(std::fs::read(path)?))?;
        let tensor = |weight: &engine_format::Weight| Some((weight.name.clone(), weight.tensor()?));
        let source: MapSource = other.parts().weights.iter().filter_map(tensor).collect();
        println!("version {}", module.refit(&source, FitPolicy::default())?.version);
    }
    let mut inputs = Inputs::new();
    for port in module.inputs() {
        let sizes = port.shape.iter().flatten().map(|dim| dim.known().map_or(1, |n| n as usize));
        inputs.insert(port.name.clone(), Tensor::zeros(port.dtype, &sizes.collect::<Vec<_>>()));
    }
    for (name, tensor) in module.run(&inputs)?.tensors {
        println!("{name}: {tensor:?}");
    }
    Ok(())
}
