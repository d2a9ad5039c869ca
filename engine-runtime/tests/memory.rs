//! How much memory a loaded engine takes. Alone in its binary, because it looks at the whole process.
#![cfg(target_os = "linux")]

use engine_format::{
    Attr, Attrs, Block, Bytes, DType, Digest, Engine, EngineFlags, EngineParts, Form, Node, Port,
    SerializeFlags, Tensor, ValueId, Weight, WeightClass, WeightData,
};
use engine_runtime::{Device, Inputs, Module, PackedModule};

const SIDE: usize = 4096;
const WEIGHTS: usize = SIDE * SIDE * 4;

/// `y = x · wᵀ` with the transposition in `prepare`: every byte of the weights has a prepared twin.
fn file() -> Vec<u8> {
    let values: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
    let w = Tensor::from_slice(&[SIDE, SIDE], &values);
    let weight = Weight {
        name: "w".into(),
        aliases: vec![],
        value: ValueId(1),
        dtype: DType::F32,
        shape: vec![SIDE, SIDE],
        class: WeightClass::Weight,
        pinned: None,
        refittable: true,
        digest: Some(Digest::of(w.bytes())),
        data: WeightData::Stored(w.bytes().clone()),
    };
    let node = |op: &str, inputs: &[u32], output: u32, attrs: Attrs| Node {
        op: op.into(),
        version: 1,
        name: op.into(),
        inputs: inputs.iter().map(|&i| Some(ValueId(i))).collect(),
        outputs: vec![Some(ValueId(output))],
        attrs,
    };
    let perm = Attrs::from([("perm".to_owned(), Attr::Ints(vec![1, 0]))]);
    let port = |name: &str, value| Port {
        name: name.into(),
        value: ValueId(value),
        form: Form::Tensor,
        dtype: DType::F32,
        shape: None,
    };
    let block =
        |node, output| Block { inputs: vec![], nodes: vec![node], outputs: vec![ValueId(output)] };
    let engine = Engine::new(EngineParts {
        flags: EngineFlags::REFIT,
        metadata: Default::default(),
        inputs: vec![port("x", 0)],
        outputs: vec![port("y", 3)],
        values: 4,
        literals: vec![],
        weights: vec![weight],
        prepare: block(node("Transpose", &[1], 2, perm), 2),
        execute: block(node("MatMul", &[0, 2], 3, Attrs::new()), 3),
        source_literals: vec![],
        ignored: vec![],
    });
    let engine = engine.expect("the engine is valid");
    engine.serialize(SerializeFlags::INCLUDE_REFIT).expect("a full engine is written")
}

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|l| l.strip_prefix(key)).expect("it has this line");
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    number.parse::<usize>().expect("it is a number of kilobytes") * 1024
}

#[test]
fn loading_and_running_stays_under_2_2_times_the_weights() {
    let file = file();
    let without = status("VmRSS").saturating_sub(file.len());
    // Makes the peak that the kernel remembers start anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let module = PackedModule::load(Bytes::from(file), &Device::cpu()).unwrap();
    for batch in [1, 7] {
        let x = Tensor::from_slice(&[batch, SIDE], &vec![1.0f32; batch * SIDE]);
        module.run(&Inputs::from([("x".to_owned(), x)])).unwrap();
    }
    let taken = (status("VmHWM") - without) as f64 / WEIGHTS as f64;
    assert!(taken < 2.2, "{taken:.2} times the weights");
    assert!(
        taken > 1.9,
        "{taken:.2} times the weights: the file and its transposed twin take more"
    );
}
