//! Sizes that inputs decide, against the limits of a device: an error that says all there is to know, and nothing is allocated.

use super::toy::Toy;
use crate::layer::{Layer, LayerError};
use crate::{CpuOptions, Device, LiveModule, MemoryLimits, Module, RunError, RunErrorKind};
use engine_format::{Attr, Attrs, DType, EngineFlags, Tensor};
use engine_ops::hostile;
use engine_ops::{Kind, TABLE};

fn limited(tensor: u64, run: u64) -> Device {
    Device::cpu().with_limits(MemoryLimits { tensor, run })
}

/// `op` over a vector of floats and a vector of integers.
fn run(device: &Device, op: &str, x: &[f32], sizes: &[i64]) -> Result<Tensor, RunError> {
    let layer = Layer::new(op, Attrs::new(), device).unwrap();
    let operands = [Tensor::from_slice(&[x.len()], x), Tensor::from_slice(&[sizes.len()], sizes)];
    match layer.run(&operands) {
        Ok(mut results) => Ok(results.remove(0)),
        Err(LayerError::Run(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_tensor_over_the_limit_names_the_node_the_sizes_and_the_limit() {
    let device = limited(4096, 1 << 20);
    assert_eq!(run(&device, "Tile", &[1.0; 4], &[256]).unwrap().len(), 1024);
    let error = run(&device, "Tile", &[1.0; 4], &[257]).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::OutOfMemory);
    let text = error.to_string();
    for part in ["node \"Tile\"", "f32[4], i64[1]", "f32[1028]", "4112 bytes", "4096 bytes"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_run_over_the_limit_names_its_largest_node() {
    let mut toy = Toy::new(EngineFlags::empty());
    let x = toy.input("x", DType::F32, &["n"]);
    let shape = toy.ints(&[8, 8]);
    let wide = toy.run("Expand", &[x, shape], &[]);
    let sum = toy.run("Add", &[wide, x], &[]);
    toy.output("y", sum, DType::F32);
    let engine = toy.build();
    let inputs = [("x".to_owned(), Tensor::from_slice(&[8], &[1.0f32; 8]))].into();
    let run = |limit: u64| {
        LiveModule::load(engine.clone(), &limited(1 << 20, limit)).unwrap().run(&inputs)
    };
    assert!(run(1 << 20).is_ok());
    let error = run(300).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::OutOfMemory);
    let text = error.to_string();
    for part in ["512 bytes at once", "limit of 300", "f32[8, 8]"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// What a kernel lists for itself counts too: in a step of a plan, in a node between two segments, and in the caller's pool.
#[test]
fn lists_of_kernels_are_held_to_the_limit_of_the_run() {
    let x = Tensor::from_slice(&[1024], &[1.0f32; 1024]);
    let halves = x.converted_exactly(DType::F16).unwrap();
    let at: Vec<i64> = (0..1024).collect();
    let added = Attrs::from([("reduction".to_owned(), Attr::Str("add".to_owned()))]);
    let scattered = [halves.clone(), Tensor::from_slice(&[1024], &at), halves];
    for options in [CpuOptions::default(), CpuOptions::with_threads(2)] {
        let run = |op: &str, attrs: &Attrs, operands: &[Tensor], limit: u64| {
            let limits = MemoryLimits { tensor: 1 << 20, run: limit };
            let device = Device::cpu_with(options.clone()).with_limits(limits);
            let layer = Layer::new(op, attrs.clone(), &device).unwrap();
            match layer.run(operands) {
                Ok(_) => None,
                Err(LayerError::Run(error)) => {
                    assert_eq!(error.kind(), RunErrorKind::OutOfMemory);
                    Some(error.to_string())
                }
                Err(other) => panic!("{other}"),
            }
        };
        // The result takes 2048 bytes, the list of its sums in floats twice as many.
        let scatter = |limit: u64| run("ScatterElements", &added, &scattered, 2048 + limit);
        assert_eq!(scatter(4096), None);
        let text = scatter(4095).unwrap();
        for part in ["ScatterElements", "f16[1024]", "1024 elements of 4 bytes", "4095 bytes"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let places = |limit| run("NonZero", &Attrs::new(), std::slice::from_ref(&x), limit);
        assert_eq!(places(1 << 20), None);
        let text = places(512).unwrap();
        for part in ["NonZero", "f32[1024]", "1024 elements", "512 bytes"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

/// Sizes that no memory holds, by way of the operators that make them out of contents.
#[test]
fn sizes_that_contents_decide_do_not_wrap() {
    let device = Device::cpu();
    for (op, x, sizes) in [
        ("Tile", &[1.0f32; 4][..], &[1i64 << 62][..]),
        ("Tile", &[1.0; 4], &[1 << 61]),
        ("Tile", &[1.0; 3], &[i64::MAX]),
        ("Expand", &[1.0], &[1 << 40, 1]),
        ("Expand", &[1.0], &[1 << 62, 1 << 62]),
        ("Pad", &[1.0; 2], &[1 << 61, 1 << 61]),
        ("Pad", &[1.0; 2], &[i64::MAX, i64::MAX]),
        ("Reshape", &[1.0; 4], &[1 << 62, 4]),
    ] {
        let error = run(&device, op, x, sizes).unwrap_err().to_string();
        assert!(error.contains(op), "{error}");
    }
    let shaped = |op: &str, attrs: Attrs, operands: &[Tensor]| {
        Layer::new(op, attrs, &device).unwrap().run(operands).unwrap_err().to_string()
    };
    let many = Tensor::from_slice(&[], &[1i64 << 62]);
    let one = Tensor::from_slice(&[1], &[0i64]);
    let bits = Tensor::from_slice(&[2], &[0.0f32, 1.0]);
    shaped("OneHot", Attrs::new(), &[one, many.clone(), bits]);
    let number = |n: i64| Tensor::from_slice(&[], &[n]);
    shaped("Range", Attrs::new(), &[number(0), many, number(1)]);
    let image = Tensor::from_slice(&[1, 1, 2], &[1.0f32; 2]);
    let wide = Attrs::from([
        ("kernel_shape".to_owned(), Attr::Ints(vec![2])),
        ("strides".to_owned(), Attr::Ints(vec![1 << 62])),
    ]);
    shaped("MaxUnpool", wide, &[image.clone(), Tensor::zeros(DType::I64, &[1, 1, 2])]);
    let scale = Tensor::from_slice(&[3], &[1.0f32, 1.0, 4.6e18]);
    let mut resize = Layer::new("Resize", Attrs::new(), &device).unwrap();
    resize.set("scales", scale).unwrap();
    assert!(resize.run(&[image]).is_err());
}

/// Every row through planning and a run: what the table holds alone, it holds in an engine.
#[test]
fn made_up_calls_are_planned_or_refused() {
    let device = limited(1 << 20, 1 << 24);
    let (mut results, mut errors) = (0, 0);
    for def in TABLE.iter().filter(|def| def.kind != Kind::Control) {
        for seed in 1000..1030 {
            let call = hostile::call(def, seed);
            let Ok(layer) = Layer::new(def.name, call.attrs, &device) else { continue };
            let mut layer = layer.with_outputs(call.outputs);
            let mut given = Vec::new();
            // Some operands are inputs, which come first; the others are weights and literals.
            let inputs = seed as usize % 3;
            for (i, operand) in call.inputs.into_iter().enumerate() {
                match (operand, def.inputs.get(i)) {
                    (Some(tensor), _) if given.len() == i && i < inputs => given.push(tensor),
                    (Some(tensor), Some(operand)) => layer.set(operand.name, tensor).unwrap(),
                    _ => {}
                }
            }
            match layer.run(&given) {
                Ok(_) => results += 1,
                Err(_) => errors += 1,
            }
        }
    }
    println!("{results} with results, {errors} with errors");
    assert!(results > 500 && errors > 500, "{results} results, {errors} errors");
}
