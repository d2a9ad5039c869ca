//! Files that others change while they are mapped: an error of whatever reads them next, where the system would end the process.
//! Others than Unix do not let a mapped file be changed so.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::graphs::{SKETCHES, with_other_weights};
use engine_builder::{BuildOptions, build};
use engine_format::{
    Engine, FitError, FitPolicy, FormatErrorKind, MapSource, SerializeFlags, Tensor, WeightSource,
};
use engine_onnx::{Model, OnnxErrorKind, map_file};
use engine_runtime::{
    Device, LiveModule, LoadError, Module, PackedModule, RefitError, RunErrorKind, RunOptions,
    Values,
};
use engine_verify::inputs::{self, Freedom, Sizes};
use refit::{EngineSource, OnnxSource, TensorFile, map_sources, open_engine, open_sources};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const PARTIAL: FitPolicy = FitPolicy { partial: true, allow_extra: false };

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Truncated,
    Grown,
    WrittenOver,
    Replaced,
    Removed,
}

impl Change {
    const ALL: [Self; 5] =
        [Self::Truncated, Self::Grown, Self::WrittenOver, Self::Replaced, Self::Removed];

    /// Whether what is mapped stays what it was.
    fn is_harmless(self) -> bool {
        matches!(self, Self::Replaced | Self::Removed)
    }

    fn befall(self, path: &Path) {
        let file = || File::options().write(true).open(path).unwrap();
        match self {
            Self::Truncated => file().set_len(0).unwrap(),
            Self::Grown => file().set_len(fs::metadata(path).unwrap().len() + 1).unwrap(),
            Self::WrittenOver => {
                let zeros = vec![0; fs::read(path).unwrap().len()];
                std::os::unix::fs::FileExt::write_all_at(&file(), &zeros, 0).unwrap();
            }
            Self::Replaced => {
                let other = path.with_extension("other");
                fs::write(&other, b"something else").unwrap();
                fs::rename(other, path).unwrap();
            }
            Self::Removed => fs::remove_file(path).unwrap(),
        }
    }
}

/// A folder with the files of a small model, written long ago: a change has another time however coarse the system's clock is.
struct Files {
    folder: tempfile::TempDir,
    inputs: Values,
    other: MapSource,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sketch = SKETCHES.iter().find(|sketch| sketch.name == "mlp").unwrap();
        let onnx = (sketch.onnx)();
        let engine_of = |onnx: &[u8]| {
            let model = Model::parse(onnx.to_vec().into(), None).unwrap();
            build(&model, &BuildOptions::default()).unwrap()
        };
        let engine = engine_of(&onnx);
        let other = weights(&engine_of(&with_other_weights(&onnx, &|_| true)));
        let sizes = Sizes::from([("batch".to_owned(), 3)]);
        let freedom = Freedom { size: 4, integers: 10 };
        let ports = &engine.parts().inputs;
        let inputs = inputs::seeded(ports, &Values::new(), &sizes, freedom, 1).unwrap();
        let files = Self { folder, inputs, other };
        fs::write(files.path("m.onnx"), onnx).unwrap();
        let options = SerializeFlags::INCLUDE_REFIT;
        fs::write(files.path("m.engine"), engine.serialize(options).unwrap()).unwrap();
        let tensors = files.path("m.safetensors");
        TensorFile::Safetensors.write_source(&tensors, &weights(&engine), None).unwrap();
        for name in ["m.onnx", "m.engine", "m.safetensors"] {
            let file = File::options().write(true).open(files.path(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn outputs(&self, module: &dyn Module) -> Result<BTreeMap<String, Tensor>, RunErrorKind> {
        let outputs = module.run_with(&self.inputs, &RunOptions::default());
        outputs.map(|outputs| outputs.tensors).map_err(|error| error.kind())
    }

    fn load(&self, packed: bool, device: &Device) -> Result<Box<dyn Module>, LoadError> {
        let path = self.path("m.engine");
        Ok(match packed {
            true => Box::new(PackedModule::load(map_file(&path).unwrap(), device)?),
            false => Box::new(LiveModule::load(open_engine(&path).unwrap(), device)?),
        })
    }
}

fn weights(engine: &Engine) -> MapSource {
    let rows = engine.parts().weights.iter();
    rows.filter_map(|weight| Some((weight.name.clone(), weight.tensor()?))).collect()
}

fn is_changed(error: &RefitError) -> bool {
    match error {
        RefitError::Fit(FitError::Format(error)) | RefitError::Format(error) => {
            error.kind() == FormatErrorKind::Io
        }
        RefitError::Prepare(error) => error.kind() == RunErrorKind::Changed,
        _ => false,
    }
}

#[test]
fn between_opening_and_loading() {
    for change in Change::ALL {
        let files = Files::new();
        let path = files.path("m.engine");
        let (engine, bytes) = (open_engine(&path).unwrap(), map_file(&path).unwrap());
        change.befall(&path);
        let (device, full) = (Device::cpu(), SerializeFlags::INCLUDE_REFIT);
        let live = LiveModule::load(engine.clone(), &device).map(drop);
        let packed = PackedModule::load(bytes, &device).map(drop);
        let (read, written) = (engine.fill(&files.other, PARTIAL), engine.serialize(full));
        let none = engine.fill(&MapSource::new(), PARTIAL);
        assert!(read.is_ok(), "nothing of the file is left: {change:?}");
        if change.is_harmless() {
            assert!(live.is_ok() && packed.is_ok() && written.is_ok() && none.is_ok());
            continue;
        }
        let Err(LoadError::Prepare(error)) = live else { panic!("{change:?}: {live:?}") };
        assert_eq!(error.kind(), RunErrorKind::Changed);
        assert!(error.to_string().contains("m.engine changed while it was in use"), "{error}");
        let Err(LoadError::Format(error)) = packed else { panic!("{change:?}: {packed:?}") };
        assert_eq!(error.kind(), FormatErrorKind::Io);
        assert_eq!(written.unwrap_err().kind(), FormatErrorKind::Io);
        assert!(matches!(none, Err(FitError::Format(e)) if e.kind() == FormatErrorKind::Io));
    }
}

#[test]
fn after_loading() {
    for device in conformance::devices() {
        for (change, packed) in Change::ALL.into_iter().flat_map(|c| [(c, false), (c, true)]) {
            let what = format!("{change:?}, packed: {packed}, on {device}");
            let files = Files::new();
            let module = files.load(packed, &device).unwrap();
            let before = files.outputs(&*module).unwrap();
            let copy = module.boxed_clone();
            change.befall(&files.path("m.engine"));
            let full = SerializeFlags::INCLUDE_REFIT;
            let refits = [
                module.refit(&MapSource::new(), PARTIAL),
                copy.fork_weights(&MapSource::new(), PARTIAL).map(|fork| match fork.state() {
                    engine_runtime::State::Ready(version) => {
                        engine_runtime::Refitted { version, fit: Default::default() }
                    }
                    state => panic!("{state:?}"),
                }),
            ];
            if change.is_harmless() {
                assert!(refits.iter().all(Result::is_ok), "{what}: {refits:?}");
                assert_eq!(files.outputs(&*module), Ok(before), "{what}");
                assert!(module.serialize(full).is_ok(), "{what}");
                continue;
            }
            assert!(refits.iter().all(|r| r.as_ref().is_err_and(is_changed)), "{what}: {refits:?}");
            assert_eq!(module.serialize(full).unwrap_err().kind(), FormatErrorKind::Io, "{what}");
            // What a GPU runs with was copied to it.
            let expected = if device.is_gpu() { Ok(before) } else { Err(RunErrorKind::Changed) };
            for module in [&module, &copy] {
                assert_eq!(files.outputs(&**module), expected, "{what}");
            }
            // What reads nothing of the file any more does not need it.
            let whole = module.refit(&files.other, FitPolicy::default());
            match packed {
                true => assert!(is_changed(&whole.unwrap_err()), "{what}"),
                false => {
                    let version = whole.unwrap().version;
                    assert!(files.outputs(&*module).is_ok() && module.serialize(full).is_ok());
                    assert_eq!(module.engine().version(), Some(version));
                }
            }
        }
    }
}

#[test]
fn a_module_that_gave_up_its_sources_does_not_read_the_file() {
    for packed in [false, true] {
        let files = Files::new();
        let module = files.load(packed, &Device::cpu()).unwrap();
        let before = files.outputs(&*module);
        module.drop_sources().unwrap();
        Change::Truncated.befall(&files.path("m.engine"));
        assert_eq!(files.outputs(&*module), before);
    }
}

/// Opens one of the files as a source.
type Open = dyn Fn(&Files) -> (PathBuf, Box<dyn WeightSource>);

#[test]
fn sources_that_are_read_later() {
    let of_source = |open: &Open| {
        for change in Change::ALL {
            let files = Files::new();
            let (path, source) = open(&files);
            change.befall(&path);
            let name = "fc1.weight";
            let (read, mut bytes) = (source.read(name), 0);
            let streamed = source.stream(name, &mut |piece| bytes += piece.len());
            if change.is_harmless() {
                assert_eq!(read.unwrap().unwrap().bytes().len(), bytes);
                assert_eq!(streamed, Ok(true));
                continue;
            }
            let said = read.unwrap_err().to_string();
            assert!(said.contains("changed while it was in use"), "{change:?}: {said}");
            assert_eq!(bytes, 0, "{change:?}: what is read is handed over before it is known");
            assert_eq!(streamed.unwrap_err().name, name);
        }
    };
    of_source(&|files| {
        let path = files.path("m.engine");
        (path.clone(), Box::new(EngineSource::open(&path).unwrap()))
    });
    of_source(&|files| {
        let path = files.path("m.onnx");
        (path.clone(), Box::new(OnnxSource::open(&path).unwrap()))
    });
    of_source(&|files| {
        let path = files.path("m.safetensors");
        (path.clone(), map_sources(&[&path]).unwrap())
    });
}

/// Sources whose tensors are copies: what was handed over before the change was seen is wrong, and the error says so.
#[test]
fn sources_that_are_copied() {
    for change in Change::ALL {
        let files = Files::new();
        let path = files.path("m.safetensors");
        let source = open_sources(&[&path]).unwrap();
        change.befall(&path);
        let read = source.read("fc1.weight");
        assert_eq!(read.is_ok(), change.is_harmless(), "{change:?}: {read:?}");
    }
}

#[test]
fn a_model_that_is_built_later() {
    for change in Change::ALL {
        let files = Files::new();
        let path = files.path("m.onnx");
        let model = Model::open(&path).unwrap();
        change.befall(&path);
        let tensor = model.constants().swap_remove(0).data.tensor();
        let built = build(&model, &BuildOptions::default());
        if change.is_harmless() {
            assert!(tensor.is_ok() && built.is_ok(), "{change:?}");
            continue;
        }
        assert_eq!(tensor.unwrap_err().kind(), OnnxErrorKind::Io, "{change:?}");
        let said = built.unwrap_err().to_string();
        assert!(said.contains("changed while it was in use"), "{change:?}: {said}");
    }
}
