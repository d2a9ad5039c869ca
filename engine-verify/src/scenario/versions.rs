//! The sets of weights that scenarios use, and fresh builds with them.

use super::adapter::Adapter;
use super::seeded;
use crate::verify::VerifyError;
use engine_format::{
    Bytes, DType, Digest, Engine, EngineFlags, FitPolicy, FormatError, MapSource, SerializeFlags,
    Tensor, Weight, WeightSource,
};
use engine_runtime::{Device, LiveModule, Module, Outputs, Values};
use refit::LoraSource;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A set of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Those that the engine was built with.
    A,
    /// Others.
    B,
    /// Every second weight of B that differs, and A's for the rest.
    C,
    /// A's, with NaNs of unusual bits among them.
    N,
    /// A's, with an adapter merged into every second one that can have one.
    L,
}

impl Which {
    /// All of them, in the order of what [`Versions`] holds.
    pub const ALL: [Self; 5] = [Self::A, Self::B, Self::C, Self::N, Self::L];
}

/// What does not fit about a source of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One weight is not there.
    Missing,
    /// There is a tensor that the engine does not know.
    Extra,
    /// One weight is transposed, or has an axis more.
    Shape,
    /// One weight has another type.
    DType,
    /// One weight cannot be read.
    BreaksOff,
}

/// A version: its weights as a source, and a fresh build with them where the engine takes them.
struct Version {
    weights: MapSource,
    fresh: Option<Fresh>,
}

/// A full engine that was never refitted, and what a module gives that was loaded from it and never refitted.
pub(super) struct Fresh {
    engine: Engine,
    pub version: Option<Digest>,
    pub outputs: Outputs,
    /// Digests of its file, by what was asked for.
    files: Mutex<BTreeMap<u8, Digest>>,
}

impl Fresh {
    fn new(engine: Engine, device: &Device, inputs: &Values) -> Result<Self, VerifyError> {
        let module = LiveModule::load(engine.clone(), device)?;
        let outputs = module.run_with(inputs, &seeded())?;
        let version = engine.version();
        Ok(Self { engine, version, outputs, files: Mutex::default() })
    }

    /// The digest of the file that this build is written to.
    pub fn file(&self, options: SerializeFlags) -> Result<Digest, FormatError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let key = options.bits() as u8;
        if let Some(file) = files.get(&key) {
            return Ok(*file);
        }
        let file = Digest::of(&self.engine.serialize(options)?);
        files.insert(key, file);
        Ok(file)
    }
}

/// Versions of one engine on one device: what its modules are held against.
pub struct Versions {
    versions: [Version; 5],
    /// The weights of C that are not A's.
    part: MapSource,
    adapter: Adapter,
    /// Names of the weights that a stripped file lacks, sorted.
    strippable: Vec<String>,
    takes_others: bool,
}

impl Versions {
    /// The versions of a full engine, given other weights for all that it has. `rebuilt` is a build with these; without it the engine is filled.
    /// Every fresh build is run once on `device`.
    ///
    /// # Errors
    /// If one does not load or run.
    pub fn new(
        own: &Engine,
        other: &MapSource,
        rebuilt: Option<&Engine>,
        device: &Device,
        inputs: &Values,
    ) -> Result<Self, VerifyError> {
        let weights = weights_of(own);
        let strippable: Vec<&Weight> =
            own.parts().weights.iter().filter(|weight| weight.is_strippable()).collect();
        let differs = |weight: &&&Weight| {
            let other = other.read(&weight.name).ok().flatten();
            other.is_some_and(|other| Some(other) != weight.tensor())
        };
        let of_other = |weight: &&Weight| {
            let tensor = other.read(&weight.name).ok().flatten()?;
            Some((weight.name.clone(), tensor))
        };
        let part: MapSource =
            strippable.iter().filter(differs).step_by(2).filter_map(of_other).collect();
        let marked = marked(&weights, &strippable);
        let adapter = Adapter::of(&weights, &strippable);
        let policy = FitPolicy { partial: true, ..FitPolicy::default() };
        let filled = |source: &MapSource| own.fill(source, policy).ok();
        let fresh = |engine: Option<Engine>| {
            engine.map(|engine| Fresh::new(engine, device, inputs)).transpose()
        };
        let with = |part: &MapSource| -> MapSource {
            let mixed = weights.names().into_iter().filter_map(|name| {
                let of = |source: &MapSource| source.read(&name).ok().flatten();
                let tensor = of(part).or_else(|| of(&weights))?;
                Some((name, tensor))
            });
            mixed.collect()
        };
        let (b, c, n, l) = (
            rebuilt.cloned().or_else(|| filled(other)),
            Version { fresh: fresh(filled(&part))?, weights: with(&part) },
            Version { fresh: fresh(filled(&marked))?, weights: marked },
            Version { fresh: fresh(filled(adapter.adapted()))?, weights: with(adapter.adapted()) },
        );
        let a = Version { fresh: fresh(Some(own.clone()))?, weights };
        let mut others = other.clone();
        for (name, tensor) in passed_over(own) {
            if others.info(&name).is_none() {
                others.insert(name, tensor);
            }
        }
        let b = Version { fresh: fresh(b)?, weights: others };
        let takes_others =
            !own.flags().is_frozen() && !own.flags().contains(EngineFlags::REFIT_IDENTICAL);
        let strippable = strippable.into_iter().map(|weight| weight.name.clone()).collect();
        Ok(Self { versions: [a, b, c, n, l], part, adapter, strippable, takes_others })
    }

    /// All weights of a version.
    pub fn weights(&self, which: Which) -> &MapSource {
        &self.versions[which as usize].weights
    }

    /// What a fresh build with these weights gives; `None` if the engine does not take them.
    pub fn outputs(&self, which: Which) -> Option<&Outputs> {
        self.fresh(which).map(|fresh| &fresh.outputs)
    }

    pub(super) fn fresh(&self, which: Which) -> Option<&Fresh> {
        self.versions[which as usize].fresh.as_ref()
    }

    /// The weights of C that are not A's.
    pub(super) fn part(&self) -> &MapSource {
        &self.part
    }

    /// A's adapted weights alone, with the adapter or without it.
    pub(super) fn adapter_source(&self, on: bool) -> Result<LoraSource, String> {
        let source = self.adapter.over(self.weights(Which::A), on);
        source.map_err(|error| format!("the adapter: {error}"))
    }

    /// Names of the weights that a stripped file lacks.
    pub(super) fn strippable(&self) -> &[String] {
        &self.strippable
    }

    /// The version with this digest: the first, if some are the same.
    pub(super) fn of(&self, version: Digest) -> Option<Which> {
        Which::ALL
            .into_iter()
            .find(|which| self.fresh(*which).is_some_and(|fresh| fresh.version == Some(version)))
    }

    /// The version that stands for all that are the same as this one.
    pub(super) fn canonical(&self, which: Which) -> Which {
        let version = self.fresh(which).and_then(|fresh| fresh.version);
        version.and_then(|version| self.of(version)).unwrap_or(which)
    }

    /// Weights that would fit but for this damage: B's, or A's where the engine takes no others.
    pub(super) fn damaged(&self, damage: Damage) -> MapSource {
        let which = if self.takes_others { Which::B } else { Which::A };
        let mut source = self.weights(which).clone();
        let tensor = |name: &String| source.read(name).ok().flatten();
        let Some(first) = self.strippable.first() else { return source };
        match damage {
            Damage::Missing => drop(source.remove(first)),
            Damage::Extra => {
                let extra = Tensor::from_slice(&[1], &[1.0f32]);
                source.insert("a tensor that no engine has", extra);
            }
            Damage::Shape => {
                let transposed = |name: &String| Some((name.clone(), transposed(&tensor(name)?)?));
                let longer = |name: &String| {
                    let tensor = tensor(name)?;
                    let shape = [tensor.shape(), &[1]].concat();
                    Some((name.clone(), tensor.reshaped(&shape).ok()?))
                };
                let unfit = self.strippable.iter().find_map(transposed).or_else(|| longer(first));
                if let Some((name, tensor)) = unfit {
                    source.insert(name, tensor);
                }
            }
            Damage::DType => {
                if let Some(tensor) = tensor(first) {
                    let is_double = tensor.dtype() == DType::F64;
                    let dtype = if is_double { DType::F32 } else { DType::F64 };
                    source.insert(first, Tensor::zeros(dtype, tensor.shape()));
                }
            }
            Damage::BreaksOff => {}
        }
        source
    }
}

/// All weights that an engine holds, parameters too, beside what it passes over: as a source has them that knows nothing of engines.
fn weights_of(engine: &Engine) -> MapSource {
    let rows = engine.parts().weights.iter();
    let rows = rows.filter_map(|weight| Some((weight.name.clone(), weight.tensor()?)));
    rows.chain(passed_over(engine)).collect()
}

/// A tensor for each name of the model that nothing of it reads.
fn passed_over(engine: &Engine) -> impl Iterator<Item = (String, Tensor)> {
    let weights = &engine.parts().weights;
    let is_free = |name: &&String| weights.iter().all(|weight| weight.name != **name);
    let ignored = engine.parts().ignored.iter().filter(is_free);
    ignored.map(|name| (name.clone(), Tensor::from_slice(&[1], &[1.0f32])))
}

/// The bits of two NaNs of a float type: one that signals, and one with a payload and a sign.
fn nans(dtype: DType) -> Option<[Vec<u8>; 2]> {
    match dtype {
        DType::F32 => Some([0x7fa0_0001u32, 0xffc1_2345].map(|bits| bits.to_le_bytes().to_vec())),
        DType::F16 => Some([0x7d01u16, 0xfe45].map(|bits| bits.to_le_bytes().to_vec())),
        _ => None,
    }
}

/// The same weights, the first of floats with NaNs at its ends.
fn marked(weights: &MapSource, strippable: &[&Weight]) -> MapSource {
    let mut marked = weights.clone();
    let floats = strippable.iter().filter(|weight| weight.byte_len() > 0);
    let first =
        floats.filter_map(|weight| Some((weight, nans(weight.dtype)?, weight.tensor()?))).next();
    if let Some((weight, [signals, carries], tensor)) = first {
        let mut bytes = tensor.bytes().to_vec();
        let end = bytes.len() - carries.len();
        bytes[end..].copy_from_slice(&carries);
        bytes[..signals.len()].copy_from_slice(&signals);
        let bytes = Bytes::copy_from(&bytes);
        let tensor = Tensor::new(tensor.dtype(), tensor.shape(), bytes);
        marked.insert(weight.name.clone(), tensor.expect("bytes of the same length"));
    }
    marked
}

/// A matrix transposed; `None` if that has the same shape.
fn transposed(tensor: &Tensor) -> Option<Tensor> {
    let &[rows, columns] = tensor.shape() else { return None };
    if rows == columns || tensor.is_empty() {
        return None;
    }
    let width = tensor.bytes().len() / (rows * columns);
    let element = |row, column| {
        let at = (row * columns + column) * width;
        &tensor.bytes()[at..at + width]
    };
    let bytes = (0..columns).flat_map(|c| (0..rows).flat_map(move |r| element(r, c)));
    let bytes: Vec<u8> = bytes.copied().collect();
    Tensor::new(tensor.dtype(), &[columns, rows], bytes.into()).ok()
}
