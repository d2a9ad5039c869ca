//! A checkpoint in several files with a JSON index: `model.safetensors.index.json`, `pytorch_model.bin.index.json`.

use super::file::Access;
use super::{BoxedSource, SHARDS, kind_of, unreadable};
use crate::{RefitError, RefitErrorKind};
use engine_format::{SourceError, Tensor, TensorInfo, WeightSource};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes an index may take, as a safetensors header.
const MAX_INDEX: u64 = 100_000_000;

/// The tensors of a sharded checkpoint: `*.index.json` and the files beside it that it names, safetensors or PyTorch's.
pub struct ShardedSource {
    path: PathBuf,
    shards: BTreeMap<String, BoxedSource>,
    /// Tensor → shard.
    map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ShardedSource {
    /// Opens the index and every shard, and checks that they agree.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource`: a shard outside the index's folders ([`engine_onnx::contained_path`]), a tensor that is listed and
    /// absent or present and not listed.
    pub fn open(path: &Path) -> Result<Self, RefitError> {
        Self::with_access(path, Access::Read)
    }

    pub(crate) fn with_access(path: &Path, access: Access) -> Result<Self, RefitError> {
        let index = read_index(path)?;
        let mut shards = BTreeMap::new();
        for shard in index.weight_map.values().collect::<BTreeSet<_>>() {
            let failed = |kind, why: String| {
                RefitError::new(kind, format!("shard {shard:?}: {why}")).at(path.display())
            };
            let inside = engine_onnx::contained_path(path, shard).map_err(|error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::InvalidInput => RefitErrorKind::InvalidSource,
                    _ => RefitErrorKind::Io,
                };
                failed(kind, error.to_string())
            })?;
            // In a cache of links the file itself is called by its digest: the index says what it is.
            let open = kind_of(SHARDS, shard).ok_or_else(|| {
                let known: Vec<_> = SHARDS.iter().map(|(ending, _)| format!("*{ending}")).collect();
                let why = format!("a file of unknown kind, expected {}", known.join(", "));
                failed(RefitErrorKind::InvalidSource, why)
            })?;
            shards.insert(shard.clone(), open(&inside, access)?);
        }
        let source = Self { path: path.to_owned(), shards, map: index.weight_map };
        source.check()?;
        Ok(source)
    }

    /// The index and the shards list the same tensors.
    fn check(&self) -> Result<(), RefitError> {
        let listed: BTreeSet<(&str, &str)> =
            self.map.iter().map(|(name, shard)| (shard.as_str(), name.as_str())).collect();
        let names: Vec<_> = self.shards.iter().map(|(s, source)| (s, source.names())).collect();
        let present: BTreeSet<(&str, &str)> = (names.iter())
            .flat_map(|(shard, names)| names.iter().map(move |n| (shard.as_str(), n.as_str())))
            .collect();
        let show = |pair: Option<&&(&str, &str)>| {
            pair.map(|(shard, name)| format!("{name:?} in {shard:?}"))
        };
        let failed = |what: &str, found: String| {
            Err(RefitError::source(what).at(self.path.display()).found(found))
        };
        if let Some(found) = show(listed.difference(&present).collect::<Vec<_>>().first()) {
            return failed("tensor of the index is not in its shard", found);
        }
        if let Some(found) = show(present.difference(&listed).collect::<Vec<_>>().first()) {
            return failed("tensor of a shard is not in the index", found);
        }
        Ok(())
    }

    fn shard(&self, name: &str) -> Option<&BoxedSource> {
        self.shards.get(self.map.get(name)?)
    }
}

fn read_index(path: &Path) -> Result<Index, RefitError> {
    let mut text = Vec::new();
    engine_onnx::open_regular(path)
        .and_then(|file| file.take(MAX_INDEX + 1).read_to_end(&mut text))
        .map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > MAX_INDEX {
        return Err(RefitError::source("length of the index")
            .at(path.display())
            .expected(format_args!("at most {MAX_INDEX} bytes")));
    }
    serde_json::from_slice(&text).map_err(|error| {
        RefitError::source(format!("not an index of shards: {error}")).at(path.display())
    })
}

impl WeightSource for ShardedSource {
    fn origin(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.map.keys().cloned().collect()
    }

    fn remarks(&self) -> Vec<String> {
        self.shards.values().flat_map(|shard| shard.remarks()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.shard(name)?.info(name)
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        self.shard(name).map_or(Ok(None), |shard| shard.read(name))
    }

    fn is_resident(&self, name: &str) -> bool {
        self.shard(name).is_some_and(|shard| shard.is_resident(name))
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        self.shard(name).map_or(Ok(false), |shard| shard.stream(name, sink))
    }

    fn stream_into(
        &self,
        name: &str,
        out: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, SourceError> {
        self.shard(name).map_or(Ok(None), |shard| shard.stream_into(name, out, sink))
    }
}
