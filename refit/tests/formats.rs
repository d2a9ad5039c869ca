//! Checkpoints in other formats than safetensors: files that NumPy and PyTorch wrote, and GGUF files made here.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

mod common;

use common::ramp;
use engine_format::{DType, Tensor, WeightSource};
use half::{bf16, f16};
use refit::{RefitErrorKind, open_bytes, open_source};
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

/// A tensor of a source, as a whole and piece by piece.
fn tensor(source: &dyn WeightSource, name: &str) -> Tensor {
    let tensor = source.read(name).unwrap().unwrap();
    let info = source.info(name).unwrap();
    assert_eq!((info.dtype, info.shape.as_slice()), (tensor.dtype(), tensor.shape()));
    let mut streamed = Vec::new();
    assert!(source.stream(name, &mut |piece| streamed.extend_from_slice(piece)).unwrap());
    assert_eq!(streamed, **tensor.bytes());
    tensor
}

/// Opens every beginning of a file and reads what it claims to hold; none may be taken for the whole.
fn no_beginning_is_a_file(name: &str) {
    let whole = std::fs::read(file(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let Err(error) = open_source(&path) else { panic!("{name} cut at {cut} is read") };
        assert_eq!(error.kind(), RefitErrorKind::InvalidSource, "{name} cut at {cut}: {error}");
    }
}

/// Flips bits all over a file; whatever is still read is read without a panic.
fn damage_is_survived(name: &str) {
    let whole = std::fs::read(file(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= [0x01, 0x80, 0xff][at % 3];
        std::fs::write(&path, changed).unwrap();
        let Ok(source) = open_source(&path) else { continue };
        for name in source.names() {
            let _ = source.read(&name);
        }
    }
}

#[test]
fn arrays_of_numpy() {
    for name in ["stored.npz", "deflated.npz"] {
        let source = open_source(&file(name)).unwrap();
        assert_eq!(source.names(), ["a.weight", "n", "scalar", "x/y"]);
        assert_eq!(tensor(&*source, "a.weight"), ramp(&[4, 6], 0.0));
        assert_eq!(tensor(&*source, "n"), Tensor::from_slice(&[3], &[0i64, 1, 2]));
        assert_eq!(tensor(&*source, "scalar"), Tensor::from_slice(&[], &[0.5f64]));
        let halves = [1.0, -2.0].map(f16::from_f32);
        assert_eq!(tensor(&*source, "x/y"), Tensor::from_slice(&[2], &halves));
        assert!(source.read("a.weight.npy").unwrap().is_none());
        no_beginning_is_a_file(name);
        damage_is_survived(name);
    }
}

#[test]
fn an_array_that_was_changed_does_not_have_its_checksum() {
    let mut bytes = std::fs::read(file("stored.npz")).unwrap();
    let elements: Vec<u8> = ramp(&[4, 6], 0.0).bytes().to_vec();
    let at = bytes.windows(elements.len()).position(|window| window == elements).unwrap();
    bytes[at] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    std::fs::write(&path, bytes).unwrap();
    let error = open_source(&path).unwrap().read("a.weight").unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn state_dicts_of_pytorch() {
    for name in ["state.pt", "checkpoint.pth", "older.pt"] {
        let source = open_source(&file(name)).unwrap();
        let whole = ramp(&[4, 6], 0.0);
        assert_eq!(tensor(&*source, "whole"), whole);
        assert_eq!(tensor(&*source, "turned"), whole.permuted(&[1, 0]), "strides");
        assert_eq!(tensor(&*source, "part"), whole.range(0, 1..3).range(1, 2..5), "an offset");
        let row = |i: usize| whole.range(0, i..i + 1).reshaped(&[6]).unwrap();
        assert_eq!(tensor(&*source, "half"), row(0).converted_exactly(DType::F16).unwrap());
        assert_eq!(tensor(&*source, "brain"), row(1).converted_exactly(DType::BF16).unwrap());
        assert_eq!(tensor(&*source, "parameter"), row(2));
        assert_eq!(tensor(&*source, "count"), Tensor::from_slice(&[], &[7i64]));
        assert_eq!(tensor(&*source, "flags"), Tensor::from_bools(&[3], &[true, false, true]));
        assert_eq!(tensor(&*source, "empty"), Tensor::zeros(DType::F32, &[0, 3]));
        assert_eq!(source.names().len(), 9);
    }
    let module = open_source(&file("module.bin")).unwrap();
    assert_eq!(tensor(&*module, "0.weight"), Tensor::from_slice(&[2, 3], &[1.0f32; 6]));
    assert_eq!(tensor(&*module, "1.running_var"), Tensor::from_slice(&[2], &[6.0f32; 2]));
    assert_eq!(tensor(&*module, "1.num_batches_tracked"), Tensor::from_slice(&[], &[7i64]));
}

#[test]
fn damaged_state_dicts() {
    no_beginning_is_a_file("module.bin");
    damage_is_survived("module.bin");
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let Err(error) = open_source(&path) else { panic!("{name} is read") };
        assert_eq!(error.kind(), RefitErrorKind::InvalidSource);
        error.to_string()
    };
    // A tensor whose strides lead out of its storage.
    let whole = std::fs::read(file("module.bin")).unwrap();
    let strides = b"K\x02K\x03\x86";
    let at = whole.windows(strides.len()).position(|window| window == strides).unwrap();
    let mut changed = whole;
    changed[at + 3] = 200;
    let error = refused("strides.pt", changed);
    // The pickle's own checksum comes first.
    assert!(error.contains("checksum of the member"), "{error}");
}

#[test]
fn damaged_state_dicts_of_the_older_form() {
    no_beginning_is_a_file("older.pt");
    damage_is_survived("older.pt");
    let folder = tempfile::tempdir().unwrap();
    let refused = |changed: &[u8]| {
        let path = folder.path().join("a.pt");
        std::fs::write(&path, changed).unwrap();
        let Err(error) = open_source(&path) else { panic!("it is read") };
        assert_eq!(error.kind(), RefitErrorKind::InvalidSource);
        error.to_string()
    };
    let mark = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";
    let series = |object: &[u8], rest: &[u8]| {
        [mark.as_slice(), b"\x80\x02M\xe9\x03.\x80\x02}.", object, rest].concat()
    };
    // `{'w': <a window of 2 elements from element 1 of storage 7, which has 4 of them>}`.
    let text =
        |text: &str| [b"X", (text.len() as u32).to_le_bytes().as_slice(), text.as_bytes()].concat();
    let object = |kind: &str, window: &[u8]| {
        let storage =
            [b"((".to_vec(), text("storage"), format!("ctorch\n{kind}\n").into_bytes()].concat();
        let key =
            [text("7"), text("cpu"), b"K\x04".to_vec(), window.to_vec(), b"tQ".to_vec()].concat();
        let tensor = b"K\x00K\x02\x85K\x01\x85tR".to_vec();
        let rebuild = b"ctorch._utils\n_rebuild_tensor\n".to_vec();
        [b"\x80\x02}".to_vec(), text("w"), rebuild, storage, key, tensor, b"s.".to_vec()].concat()
    };
    let keys = [b"\x80\x02](".to_vec(), text("7"), b"e.".to_vec()].concat();
    let floats: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let stored = [keys.clone(), 4u64.to_le_bytes().to_vec(), floats].concat();
    let window = [b"(".to_vec(), text("8"), b"K\x01K\x02t".to_vec()].concat();
    let path = folder.path().join("b.pt");
    for (window, expected) in [(window.clone(), [2.0f32, 3.0]), (b"N".to_vec(), [1.0, 2.0])] {
        std::fs::write(&path, series(&object("FloatStorage", &window), &stored)).unwrap();
        let source = open_source(&path).unwrap();
        assert_eq!(tensor(&*source, "w"), Tensor::from_slice(&[2], &expected));
    }
    let outside = [b"(".to_vec(), text("8"), b"K\x03K\x02t".to_vec()].concat();
    let error = refused(&series(&object("FloatStorage", &outside), &stored));
    assert!(
        error.contains("the pickle of the object at offset 25")
            && error.contains("items of a storage"),
        "{error}"
    );
    // Storages that reach out of the file, belong to nothing, come twice, are of unknown types.
    let whole = object("FloatStorage", b"N");
    let error = refused(&series(&whole, &[keys.clone(), u64::MAX.to_le_bytes().to_vec()].concat()));
    assert!(error.contains("storage \"7\"") && error.contains("reach out of the file"), "{error}");
    let error = refused(&series(&whole, &keys));
    assert!(error.contains("reaches out of the file"), "{error}");
    let other = [b"\x80\x02](".to_vec(), text("9"), b"e.".to_vec()].concat();
    assert!(refused(&series(&whole, &other)).contains("storage \"9\" belongs to no tensor"));
    let twice = [b"\x80\x02](".to_vec(), text("7"), text("7"), b"e.".to_vec()].concat();
    let counts = [&twice[..], &[0; 16]].concat();
    assert!(refused(&series(&whole, &counts)).contains("storage \"7\" is there twice"));
    let unknown = object("StrangeStorage", b"N");
    assert!(refused(&series(&unknown, &stored)).contains("of a type whose size is not known"));
    let version = [mark.as_slice(), b"\x80\x02M\xe8\x03."].concat();
    assert!(refused(&version).contains("version 1000, expected 1001"));
    // A module as a whole: its class comes with its source, and is not executed.
    let class = [b"\x80\x02(".to_vec(), text("module"), b"cnet\nNet\nNNtQ)\x81.".to_vec()].concat();
    assert!(
        refused(&series(&class, b"\x80\x02]."))
            .contains("an object of net.Net, which is not executed")
    );
}

/// A GGUF file of one key-value pair and these tensors: name, sizes as the format lists them, kind, data.
fn gguf(tensors: &[(&str, &[u64], u32, Vec<u8>)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(2u64.to_le_bytes());
    // A list of strings, and the alignment.
    out.extend([text("tokens"), 9u32.to_le_bytes().to_vec(), 8u32.to_le_bytes().to_vec()].concat());
    out.extend([2u64.to_le_bytes().to_vec(), text("a"), text("bc")].concat());
    out.extend([text("general.alignment"), 4u32.to_le_bytes().to_vec()].concat());
    out.extend(64u32.to_le_bytes());
    let mut data = Vec::new();
    for (name, sizes, kind, bytes) in tensors {
        out.extend(text(name));
        out.extend((sizes.len() as u32).to_le_bytes());
        sizes.iter().for_each(|size| out.extend(size.to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(64), 0);
    }
    out.resize(out.len().next_multiple_of(64), 0);
    out.extend(data);
    out
}

/// A block of q8_0 and one of q4_0 with their scale.
fn blocks() -> (Vec<u8>, Vec<u8>) {
    let scale = f16::from_f32(0.5).to_le_bytes();
    let wide = (0..32).map(|i| (i as i8 - 16) as u8);
    let narrow = (0..16).map(|i| i | (15 - i) << 4);
    (scale.into_iter().chain(wide).collect(), scale.into_iter().chain(narrow).collect())
}

#[test]
fn tensors_of_gguf() {
    let (q8, q4) = blocks();
    let plain: Vec<u8> = ramp(&[2, 3], 0.0).bytes().to_vec();
    let halves: Vec<u8> =
        [1.0f32, 2.0].into_iter().flat_map(|v| f16::from_f32(v).to_le_bytes()).collect();
    let brains: Vec<u8> =
        [1.0f32, 2.0].into_iter().flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect();
    let whole = gguf(&[
        ("plain", &[3, 2], 0, plain),
        ("halves", &[2], 1, halves),
        ("brains", &[2, 1], 30, brains),
        ("q8", &[32, 2], 8, [q8.as_slice(), &q8].concat()),
        ("q4", &[32], 2, q4),
        ("other", &[256], 12, vec![0; 144]),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, &whole).unwrap();
    let source = open_source(&path).unwrap();
    assert_eq!(tensor(&*source, "plain"), ramp(&[2, 3], 0.0));
    assert_eq!(
        tensor(&*source, "halves"),
        Tensor::from_slice(&[2], &[1.0, 2.0].map(f16::from_f32))
    );
    assert_eq!(
        tensor(&*source, "brains"),
        Tensor::from_slice(&[1, 2], &[1.0, 2.0].map(bf16::from_f32))
    );
    let row: Vec<f32> = (0..32).map(|i| (i - 16) as f32 * 0.5).collect();
    assert_eq!(
        tensor(&*source, "q8"),
        Tensor::from_slice(&[2, 32], &[row.as_slice(), &row].concat())
    );
    let low = (0..16).map(|i| (i - 8) as f32 * 0.5);
    let high = (0..16).map(|i| (7 - i) as f32 * 0.5);
    let expected: Vec<f32> = low.chain(high).collect();
    assert_eq!(tensor(&*source, "q4"), Tensor::from_slice(&[32], &expected));
    assert!(source.info("other").is_none());
    let error = source.read("other").unwrap_err().to_string();
    assert!(error.contains("its type 12 is not read here"), "{error}");

    // Without the last tensor, whose kind says nothing about its length, every beginning lacks something.
    let (q8, q4) = blocks();
    let whole = gguf(&[("a", &[32], 8, q8), ("b", &[32], 2, q4)]);
    for cut in 0..whole.len() - 46 {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(open_source(&path).is_err(), "cut at {cut}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= [0x01, 0x80, 0xff][at % 3];
        std::fs::write(&path, changed).unwrap();
        let Ok(source) = open_source(&path) else { continue };
        source.names().iter().for_each(|name| drop(source.read(name)));
    }
    let refused = |tensors: &[(&str, &[u64], u32, Vec<u8>)]| {
        std::fs::write(&path, gguf(tensors)).unwrap();
        open_source(&path).err().unwrap().to_string()
    };
    assert!(refused(&[("a", &[33], 8, vec![0; 68])]).contains("no whole blocks"));
    assert!(refused(&[("a", &[1 << 40, 1 << 40], 0, vec![])]).contains("too large"));
    assert!(refused(&[("a", &[64], 0, vec![0; 4])]).contains("reaches out of the file"));
    assert!(
        refused(&[("a", &[1], 0, vec![0; 4]), ("a", &[1], 0, vec![0; 4])]).contains("two tensors")
    );
}

#[test]
fn files_in_memory_are_what_they_are_on_disk() {
    for name in ["stored.npz", "deflated.npz", "state.pt", "protocol5.pt"] {
        let on_disk = open_source(&file(name)).unwrap();
        let in_memory = open_bytes(std::fs::read(file(name)).unwrap().into()).unwrap();
        assert_eq!(in_memory.names(), on_disk.names(), "{name}");
        for tensor_name in on_disk.names() {
            let (a, b) = (on_disk.read(&tensor_name), in_memory.read(&tensor_name));
            assert_eq!(
                a.map_err(|error| error.why),
                b.map_err(|error| error.why),
                "{name}: {tensor_name}"
            );
        }
    }
    let whole = gguf(&[("a", &[3], 0, vec![0; 12])]);
    assert_eq!(open_bytes(whole.into()).unwrap().names(), ["a"]);
}
