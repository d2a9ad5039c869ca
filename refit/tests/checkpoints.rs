//! Checkpoints as trainings save them: weights inside dictionaries beside everything else, tensors of every kind, several files.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

mod common;

use common::{engine, ramp, save_safetensors};
use engine_format::{DType, EngineFlags, FitPolicy, Tensor, WeightSource, check_fit};
use refit::{BoxedSource, RefitErrorKind, TorchSource, open_source, open_sources};
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

fn tensor(source: &dyn WeightSource, name: &str) -> Tensor {
    let tensor = source.read(name).unwrap().unwrap();
    let info = source.info(name).unwrap();
    assert_eq!((info.dtype, info.shape.as_slice()), (tensor.dtype(), tensor.shape()));
    let mut streamed = Vec::new();
    assert!(source.stream(name, &mut |piece| streamed.extend_from_slice(piece)).unwrap());
    assert_eq!(streamed, **tensor.bytes());
    tensor
}

/// The weights of `make.py`, or their average, which is 10 more.
fn is_linear(source: &dyn WeightSource, more: f32) {
    assert_eq!(source.names(), ["bias", "weight"], "{}", source.origin());
    assert_eq!(tensor(source, "weight"), Tensor::from_slice(&[2, 3], &[1.0 + more; 6]));
    assert_eq!(tensor(source, "bias"), Tensor::from_slice(&[2], &[2.0 + more; 2]));
}

fn refused(path: &Path) -> String {
    let Err(error) = open_source(path) else { panic!("{} is read", path.display()) };
    assert_eq!(error.kind(), RefitErrorKind::InvalidSource, "{error}");
    error.to_string()
}

#[test]
fn weights_are_found_beside_everything_that_a_training_saves() {
    for (name, at) in [
        ("training.pt", "state_dict"),
        ("protocol5.pt", "state_dict"),
        ("older_training.pt", "state_dict"),
        ("nested.pt", "checkpoint/model"),
        ("alone.pt", "my_net"),
    ] {
        let source = open_source(&file(name)).unwrap();
        is_linear(&*source, 0.0);
        let [said] = source.remarks().try_into().unwrap();
        assert!(
            said.contains(&format!("the weights are those under {at:?}; not read: ")),
            "{said}"
        );
        for other in [
            "\"args\" (an object of argparse.Namespace, which is not executed)",
            "\"best_acc1\" (a tensor)",
            "\"epoch\" (an integer)",
            "\"huge\" (a number beyond 64 bits)",
            "\"loss\" (numpy._core.multiarray.scalar, which is not executed)",
            "\"optimizer\" (a dictionary)",
            "\"optimizer_by_name\" (a dictionary)",
            "\"rng_state\" (a tensor)",
        ] {
            assert!(said.contains(other), "{name}: {other}: {said}");
        }
    }
    let said = open_source(&file("nested.pt")).unwrap().remarks().concat();
    assert!(said.contains("\"checkpoint/ema\" (a dictionary)"), "{said}");
    // A state dict by itself leaves nothing to say.
    assert!(open_source(&file("state.pt")).unwrap().remarks().is_empty());
}

#[test]
fn which_of_several_dictionaries_is_said_and_not_guessed() {
    let named = |name: &str, key: &str| open_source(&file(&format!("{name}:{key}")));
    is_linear(&*named("nested.pt", "checkpoint/ema").unwrap(), 10.0);
    is_linear(&*named("nested.pt", "checkpoint").unwrap(), 0.0);
    let error = refused(&file("several.pt"));
    let expected = "the weights may be those of \"discriminator\", \"generator\"; say which";
    assert!(error.contains(expected), "{error}");
    is_linear(&*named("several.pt", "generator").unwrap(), 0.0);
    is_linear(&TorchSource::open_at(&file("several.pt"), "discriminator").unwrap(), 10.0);
    let error = refused(&file("several.pt:critic"));
    assert!(error.contains("no dictionary is called \"critic\", there are"), "{error}");
    let error = refused(&file("nested.pt:epoch"));
    assert!(error.contains("\"epoch\" is an integer, expected a dictionary"), "{error}");
    let outermost = named("training.pt", ".").unwrap();
    assert_eq!(outermost.names(), ["best_acc1", "rng_state"]);
    let error = refused(&file("object.pt"));
    let expected = "an object of torch.nn.modules.linear.Linear, which is not executed, expected a dictionary of tensors";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn tensors_of_every_kind() {
    ["kinds.pt", "older_kinds.pt"].into_iter().for_each(are_of_every_kind);
}

fn are_of_every_kind(name: &str) {
    let source = open_source(&file(name)).unwrap();
    let base = ramp(&[4, 6], 0.0);
    let row = |i: usize| base.range(0, i..i + 1).reshaped(&[6]).unwrap();
    assert_eq!(tensor(&*source, "attributed"), row(0));
    assert_eq!(tensor(&*source, "tagged"), row(1));
    let codes = Tensor::new(DType::F8E4M3FN, &[6], vec![0, 0x28, 0x30, 0x34, 0x38, 0x3a].into());
    assert_eq!(tensor(&*source, "eight"), codes.unwrap());
    assert_eq!(tensor(&*source, "wide"), Tensor::from_slice(&[5], &[0u16, 1, 2, 3, 4]));
    let second = [0.0f32, 0.75, 3.0, 3.75];
    assert_eq!(tensor(&*source, "every_second"), Tensor::from_slice(&[2, 2], &second));
    let numbers: [half::bf16; 24] = std::array::from_fn(|i| half::bf16::from_f32(i as f32));
    let cube = Tensor::from_slice(&[2, 3, 4], &numbers).permuted(&[2, 0, 1]);
    assert_eq!(tensor(&*source, "cube"), cube);
    assert_eq!(tensor(&*source, "nothing"), Tensor::zeros(DType::F32, &[3, 5, 0]));
    assert_eq!(tensor(&*source, "last"), Tensor::from_slice(&[1, 1], &[5.75f32]));
    // What is not read says so once it is asked for, and not before.
    for (name, why) in [
        ("sparse", "a tensor of torch._utils._rebuild_sparse_tensor"),
        ("quantized", "a tensor of torch._utils._rebuild_qtensor"),
        ("negated", "a negated or conjugated view"),
        ("expanded", "it repeats elements of its storage"),
    ] {
        assert!(source.names().contains(&name.to_owned()) && source.info(name).is_none());
        let error = source.read(name).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(name), "{error}");
        assert!(source.stream(name, &mut |_| ()).is_err());
    }
    let wants = |name: &str| engine(EngineFlags::REFIT, &[(name, row(0))]);
    let policy = FitPolicy { allow_extra: true, ..FitPolicy::default() };
    assert!(check_fit(&wants("attributed"), &*source, policy).unwrap().is_fit());
    let error = check_fit(&wants("negated"), &*source, policy).unwrap_err().to_string();
    assert!(error.contains("save tensor.clone()"), "{error}");
}

#[test]
fn damaged_checkpoints_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["training.pt", "kinds.pt", "orders.npz", "mixed.npz"] {
        let whole = std::fs::read(file(name)).unwrap();
        let path = folder.path().join(name);
        for at in (0..whole.len()).step_by(3) {
            let mut changed = whole.clone();
            changed[at] ^= [0x01, 0x80, 0xff][at % 2];
            std::fs::write(&path, changed).unwrap();
            let Ok(source) = open_source(&path) else { continue };
            source.names().iter().for_each(|name| drop(source.read(name)));
        }
    }
}

#[test]
fn arrays_by_columns_and_of_the_other_byte_order() {
    let source = open_source(&file("orders.npz")).unwrap();
    assert_eq!(tensor(&*source, "columns"), ramp(&[4, 6], 0.0));
    assert_eq!(tensor(&*source, "big"), ramp(&[4, 6], 0.0));
    let numbers: [i16; 24] = std::array::from_fn(|i| i as i16);
    assert_eq!(tensor(&*source, "both"), Tensor::from_slice(&[2, 3, 4], &numbers));
    let wanted = engine(EngineFlags::REFIT, &[("columns", ramp(&[4, 6], 7.0))]);
    let policy = FitPolicy { allow_extra: true, ..FitPolicy::default() };
    let filled = wanted.fill(&*source, policy).unwrap();
    assert_eq!(filled.weight("columns").unwrap().tensor().unwrap(), ramp(&[4, 6], 0.0));
}

#[test]
fn arrays_that_are_no_tensors_do_not_refuse_the_others() {
    let source = open_source(&file("mixed.npz")).unwrap();
    assert_eq!(source.names(), ["complex", "weight"]);
    assert_eq!(tensor(&*source, "weight"), ramp(&[4, 6], 0.0));
    let [said] = source.remarks().try_into().unwrap();
    for other in [
        "\"classes\" (strings)",
        "\"objects\" (elements of \"|O\")",
        "\"day\"",
        "\"raw\"",
        "\"records\" (elements of \"a record\")",
    ] {
        assert!(said.contains(other), "{other}: {said}");
    }
    assert!(source.info("complex").is_none());
    let error = source.read("complex").unwrap_err().to_string();
    assert!(error.contains("<c16") && error.contains("complex"), "{error}");
}

/// An index that says where each tensor is.
fn index(folder: &Path, name: &str, map: &[(&str, &str)]) -> PathBuf {
    let map: Vec<_> = map.iter().map(|(tensor, shard)| format!("{tensor:?}: {shard:?}")).collect();
    let path = folder.join(name);
    std::fs::write(&path, format!("{{\"weight_map\": {{{}}}}}", map.join(", "))).unwrap();
    path
}

#[test]
fn shards_may_be_of_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(file("training.pt"), at("pytorch_model-00001-of-00002.bin")).unwrap();
    save_safetensors(&[("more", ramp(&[2], 0.0))], &at("two.safetensors"));
    let one = "pytorch_model-00001-of-00002.bin";
    let whole = [("bias", one), ("weight", one), ("more", "two.safetensors")];
    let source =
        open_source(&index(folder.path(), "pytorch_model.bin.index.json", &whole)).unwrap();
    assert_eq!(source.names(), ["bias", "more", "weight"]);
    assert_eq!(tensor(&*source, "bias"), Tensor::from_slice(&[2], &[2.0f32; 2]));
    assert_eq!(tensor(&*source, "more"), ramp(&[2], 0.0));
    assert_eq!(source.remarks().len(), 1);
    let error = |map: &[(&str, &str)]| {
        let Err(error) = open_source(&index(folder.path(), "b.index.json", map)) else {
            panic!("{map:?} is read")
        };
        error.to_string()
    };
    let missing = error(&[("bias", one), ("weight", "gone.bin")]);
    assert!(missing.contains("gone.bin"), "{missing}");
    assert!(error(&[("bias", one)]).contains("\"weight\" in \"pytorch"), "one is not listed");
    let itself = error(&[("bias", "b.index.json")]);
    assert!(itself.contains("\"b.index.json\": a file of unknown kind"), "{itself}");
}

/// A hub's cache: what has names are links, and what they lead to is called by its digest.
#[cfg(unix)]
#[test]
fn a_cache_of_links_is_read() {
    use std::os::unix::fs::symlink;
    let outer = tempfile::tempdir().unwrap();
    let at = |name: &str| outer.path().join(name);
    for folder in ["blobs", "snapshots/0123", "elsewhere"] {
        std::fs::create_dir_all(at(folder)).unwrap();
    }
    std::fs::copy(file("training.pt"), at("blobs/11")).unwrap();
    save_safetensors(&[("more", ramp(&[2], 0.0))], &at("blobs/22"));
    save_safetensors(&[("more", ramp(&[2], 5.0))], &at("elsewhere/secret"));
    let map = [("bias", "m-1.bin"), ("weight", "m-1.bin"), ("more", "m-2.safetensors")];
    index(&at("blobs"), "33", &map);
    let link = |name: &str, target: &str| {
        symlink(Path::new("../..").join(target), at("snapshots/0123").join(name)).unwrap();
    };
    link("m-1.bin", "blobs/11");
    link("m-2.safetensors", "blobs/22");
    link("m.index.json", "blobs/33");
    link("out.safetensors", "elsewhere/secret");
    let path = at("snapshots/0123/m.index.json");
    assert_eq!(open_source(&path).unwrap().names(), ["bias", "more", "weight"]);
    is_linear(&*open_source(&at("snapshots/0123/m-1.bin")).unwrap(), 0.0);
    let own = index(&at("snapshots/0123"), "own.index.json", &[("more", "out.safetensors")]);
    let error = refused(&own);
    assert!(error.contains("leaves the folder"), "{error}");
    index(&at("blobs"), "33", &[("more", "out.safetensors")]);
    assert!(refused(&path).contains("leaves the folder"));
}

#[test]
fn two_files_of_one_checkpoint_are_one_source() {
    let folder = tempfile::tempdir().unwrap();
    let more = folder.path().join("more.safetensors");
    save_safetensors(&[("more", ramp(&[2], 0.0))], &more);
    let both: BoxedSource = open_sources(&[file("training.pt"), more]).unwrap();
    assert_eq!(both.names(), ["bias", "more", "weight"]);
    assert_eq!(both.remarks().len(), 1);
}
