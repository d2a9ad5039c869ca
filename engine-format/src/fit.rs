//! Whether a source's tensors fit an engine: one report that lists everything.

use crate::digest::Hasher;
use crate::meaning::{Meaning, Meanings};
use crate::{
    Alias, Bytes, DType, Digest, Engine, EngineFlags, EngineParts, FormatError, FormatErrorKind,
    SourceError, Tensor, TensorInfo, View, Weight, WeightData, WeightSource,
};
use std::collections::BTreeSet;
use std::fmt;

/// How complete and how exact a source has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FitPolicy {
    /// Weights that the source lacks keep the values they have. Without values they are missing still.
    pub partial: bool,
    /// Tensors that the engine does not know are left alone.
    pub allow_extra: bool,
}

/// A weight that is taken from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The engine's name.
    pub weight: String,
    /// The source's name: the same, or an alias; for a view, its words.
    pub source: String,
}

/// Why a source does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// The engine is frozen: no weight may change.
    Frozen,
    /// A weight the source does not have.
    Missing {
        /// The weight.
        name: String,
        /// What it has to be.
        expected: TensorInfo,
    },
    /// A tensor the engine does not know.
    Extra {
        /// The tensor.
        name: String,
        /// What it is.
        found: TensorInfo,
    },
    /// A model file's tensor that is called as a weight is and is not that tensor: the exporter calculated it.
    Calculated {
        /// The name.
        name: String,
        /// What the weight has to be.
        expected: TensorInfo,
    },
    /// Another shape.
    Shape {
        /// The name in the source.
        name: String,
        /// The engine's shape.
        expected: Vec<usize>,
        /// The source's shape.
        found: Vec<usize>,
    },
    /// Another element type.
    DType {
        /// The name in the source.
        name: String,
        /// The engine's type.
        expected: crate::DType,
        /// The source's type.
        found: crate::DType,
    },
    /// Other values than those the weight was built with, and only these are accepted.
    Values {
        /// The name in the source.
        name: String,
        /// Why only the built values are accepted.
        reason: String,
        /// Digest of the engine's values.
        expected: Digest,
        /// Digest of the source's values.
        found: Digest,
    },
    /// A constant of the program with another value: the source belongs to another graph.
    Literal {
        /// The constant.
        name: String,
        /// The engine's value.
        expected: String,
        /// The source's value.
        found: String,
    },
    /// Two names of one weight with different tensors.
    Conflict {
        /// The weight.
        name: String,
        /// The names in the source.
        sources: Vec<String>,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::Frozen => write!(f, "the engine is frozen: no weight may change"),
            Misfit::Missing { name, expected } => {
                write!(f, "missing {name:?}: expected {expected}")
            }
            Misfit::Calculated { name, expected } => write!(
                f,
                "missing {name:?}: expected {expected} as the checkpoint has it; what the model file holds under this name is something \
                 that the exporter made of it"
            ),
            Misfit::Extra { name, found } => {
                write!(f, "extra {name:?}: found {found}, which the engine does not know")
            }
            Misfit::Shape { name, expected, found } => {
                write!(f, "wrong shape of {name:?}: expected {expected:?}, found {found:?}")
            }
            Misfit::DType { name, expected, found } => {
                write!(f, "wrong dtype of {name:?}: expected {expected}, found {found}")
            }
            Misfit::Values { name, reason, expected, found } => write!(
                f,
                "wrong values of {name:?} ({reason}): expected digest {expected}, found {found}"
            ),
            Misfit::Literal { name, expected, found } => write!(
                f,
                "another graph: the program's constant {name:?}: expected {expected}, found {found}"
            ),
            Misfit::Conflict { name, sources } => {
                write!(f, "different tensors for {name:?} under the names {}", sources.join(", "))
            }
        }
    }
}

impl Misfit {
    /// The name it is about; `None` for a frozen engine.
    pub fn name(&self) -> Option<&str> {
        match self {
            Misfit::Frozen => None,
            Misfit::Missing { name, .. }
            | Misfit::Extra { name, .. }
            | Misfit::Calculated { name, .. }
            | Misfit::Shape { name, .. }
            | Misfit::DType { name, .. }
            | Misfit::Values { name, .. }
            | Misfit::Literal { name, .. }
            | Misfit::Conflict { name, .. } => Some(name),
        }
    }

    /// Whether it says that the source does not have a weight.
    fn is_missing(&self) -> bool {
        matches!(self, Misfit::Missing { .. } | Misfit::Calculated { .. })
    }

    /// A short word for machines: `missing`, `extra`, `shape`, …
    pub fn kind(&self) -> &'static str {
        match self {
            Misfit::Frozen => "frozen",
            Misfit::Missing { .. } => "missing",
            Misfit::Extra { .. } => "extra",
            Misfit::Calculated { .. } => "calculated",
            Misfit::Shape { .. } => "shape",
            Misfit::DType { .. } => "dtype",
            Misfit::Values { .. } => "values",
            Misfit::Literal { .. } => "literal",
            Misfit::Conflict { .. } => "conflict",
        }
    }
}

/// What a fill or refit from a source would do, and everything that speaks against it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FitReport {
    /// Weights that take the source's bytes, in table order.
    pub taken: Vec<Taken>,
    /// Weights that the source does not have and that keep the values they have, in table order.
    pub kept: Vec<String>,
    /// Tensors of the source that are accepted and not used, sorted.
    pub unused: Vec<String>,
    /// Those of them that hold floats of a module of which the engine takes other tensors, sorted. The program has no use for them, or the
    /// caller allowed extras; whoever trained them may expect that it had.
    pub stray: Vec<String>,
    /// Everything that is wrong.
    pub misfits: Vec<Misfit>,
}

impl FitReport {
    /// Whether nothing is wrong.
    pub fn is_fit(&self) -> bool {
        self.misfits.is_empty()
    }

    /// What there is to say beside misfits: what keeps its value because the source does not have it, and what of the source is not
    /// used. One line each; none if the source has all of the engine's tensors and no others.
    pub fn remarks(&self) -> Vec<String> {
        let others = self.unused.iter().filter(|name| self.stray.binary_search(name).is_err());
        let lines = [
            listed("not in the source, keep their values", self.kept.iter()),
            listed(
                "in the source and not used, though the engine uses others of their modules",
                self.stray.iter(),
            ),
            listed("in the source and not used", others),
        ];
        lines.into_iter().flatten().collect()
    }

    /// What stands in front of every missing tensor's name in the source, as wrappers put it there: `module.`. `None` if that is not what
    /// is wrong.
    pub fn prefix(&self) -> Option<&str> {
        let names = |kind: &'static str| {
            let of = self.misfits.iter().filter(move |misfit| misfit.kind() == kind);
            of.filter_map(Misfit::name)
        };
        let there: BTreeSet<&str> =
            names("extra").chain(self.unused.iter().map(String::as_str)).collect();
        let first = names("missing").next()?;
        let prefixes = there.iter().filter_map(|name| name.strip_suffix(first));
        let wraps = |prefix: &str| {
            names("missing").all(|name| there.contains(format!("{prefix}{name}").as_str()))
        };
        prefixes.filter(|prefix| prefix.ends_with('.')).find(|prefix| wraps(prefix))
    }

    /// The class of error this is: `NotRefittable`, `MissingWeights` if nothing but missing weights is
    /// wrong, else `UnfitWeights`. `None` if it fits.
    pub fn error_kind(&self) -> Option<FormatErrorKind> {
        if self.is_fit() {
            None
        } else if self.misfits.contains(&Misfit::Frozen) {
            Some(FormatErrorKind::NotRefittable)
        } else if self.misfits.iter().all(Misfit::is_missing) {
            Some(FormatErrorKind::MissingWeights)
        } else {
            Some(FormatErrorKind::UnfitWeights)
        }
    }
}

/// How many there are, and all of them; `None` for none.
fn listed<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("{what} ({}): {}", names.len(), names.join(", ")))
}

impl fmt::Display for FitReport {
    /// One line for each misfit, all of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, misfit) in self.misfits.iter().enumerate() {
            write!(f, "{}{misfit}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// Why an engine was not filled. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// The source does not fit.
    #[error("the weights do not fit the engine:\n{0}")]
    Unfit(FitReport),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The engine could not be written, or not in the way that was asked for.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl FitError {
    /// The class of the error.
    pub fn kind(&self) -> FormatErrorKind {
        match self {
            FitError::Unfit(report) => report.error_kind().unwrap_or(FormatErrorKind::UnfitWeights),
            FitError::Source(_) => FormatErrorKind::Io,
            FitError::Format(error) => error.kind(),
        }
    }
}

/// Compares what `source` has with what `engine` needs. Bytes are read only where values decide, one
/// tensor at a time.
///
/// # Errors
/// If the source cannot bring what it says it has. That it does not fit is no error here.
pub fn check_fit(
    engine: &Engine,
    source: &dyn WeightSource,
    policy: FitPolicy,
) -> Result<FitReport, SourceError> {
    Ok(Examined::new(engine, source, policy)?.report)
}

/// A report and where each weight's bytes come from.
pub(crate) struct Examined {
    pub report: FitReport,
    /// For each row of the table what to read; `None` keeps what is there.
    pub from: Vec<Option<Way>>,
}

/// What of a source a weight's bytes are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Way {
    /// One tensor as it is.
    Tensor(String),
    /// Several, or one rearranged.
    View(View),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Tensor(name) => f.write_str(name),
            Way::View(view) => view.fmt(f),
        }
    }
}

impl Examined {
    pub(crate) fn new(
        engine: &Engine,
        source: &dyn WeightSource,
        policy: FitPolicy,
    ) -> Result<Self, SourceError> {
        let parts = engine.parts();
        let mut examined = Self { report: FitReport::default(), from: Vec::new() };
        if engine.flags().is_frozen() {
            examined.report.misfits.push(Misfit::Frozen);
            return Ok(examined);
        }
        let meanings = Meanings::of(engine);
        let modules: BTreeSet<&str> = taken_names(parts).filter_map(module).collect();
        let mut candidates: Vec<Vec<Way>> = vec![Vec::new(); parts.weights.len()];
        let mut brought = BTreeSet::new();
        let mut calculated = BTreeSet::new();
        for name in source.names() {
            match meanings.meaning(&name, source.naming(&name)) {
                Some(Meaning::Weight(index)) => candidates[index].push(Way::Tensor(name)),
                Some(Meaning::Part) => {
                    brought.insert(name);
                }
                Some(Meaning::Calculated(index)) => {
                    calculated.insert(index);
                }
                Some(Meaning::Literal(index)) => {
                    let expected = &parts.source_literals[index].tensor;
                    examined.literal(name, expected, source)?;
                }
                Some(Meaning::Torn) => {
                    let expected = info(source, &name)?;
                    examined.report.misfits.push(Misfit::Calculated { name, expected });
                }
                Some(Meaning::Ignored) => examined.report.unused.push(name),
                None if policy.allow_extra => examined.report.unused.push(name),
                None => {
                    let found = info(source, &name)?;
                    examined.report.misfits.push(Misfit::Extra { name, found });
                }
            }
        }
        let is_learned = |dtype: DType| dtype.is_float() || dtype.is_compact();
        let is_stray = |name: &String| {
            module(name).is_some_and(|module| modules.contains(module))
                && source.info(name).is_some_and(|info| is_learned(info.dtype))
        };
        examined.report.stray =
            examined.report.unused.iter().filter(|name| is_stray(name)).cloned().collect();
        for (index, (weight, mut ways)) in parts.weights.iter().zip(candidates).enumerate() {
            ways.extend(examined.views(weight, ways.is_empty(), &brought));
            let absent = ways.is_empty();
            if absent && calculated.contains(&index) {
                let (name, expected) = (weight.name.clone(), weight.info());
                examined.report.misfits.push(Misfit::Calculated { name, expected });
                examined.from.push(None);
                continue;
            }
            let from = examined.weight(engine.flags(), weight, ways, source, policy)?;
            match &from {
                Some(way) => examined
                    .report
                    .taken
                    .push(Taken { weight: weight.name.clone(), source: way.to_string() }),
                None if absent && weight.data != WeightData::Missing => {
                    examined.report.kept.push(weight.name.clone());
                }
                None => {}
            }
            examined.from.push(from);
        }
        Ok(examined)
    }

    /// The views of a weight whose parts the source brings. If there is `nothing_else`, a view of which some parts are there
    /// and some are not lacks them: the parts that are there must not be passed over in silence.
    fn views(
        &mut self,
        weight: &Weight,
        nothing_else: bool,
        brought: &BTreeSet<String>,
    ) -> Vec<Way> {
        let views = weight.aliases.iter().filter_map(|alias| match alias {
            Alias::View(view) => Some(view),
            Alias::Name(_) => None,
        });
        let there = |name: &str| brought.contains(name);
        let (whole, rest): (Vec<&View>, Vec<&View>) =
            views.partition(|view| view.names().all(there));
        if whole.is_empty() && nothing_else {
            for view in rest.into_iter().filter(|view| view.names().any(there)) {
                let lacking = view.parts.iter().filter(|part| !there(&part.name));
                self.report.misfits.extend(lacking.map(|part| Misfit::Missing {
                    name: part.name.clone(),
                    expected: part.info.clone(),
                }));
            }
        }
        whole.into_iter().cloned().map(Way::View).collect()
    }

    /// Checks what the source has for a weight and says which to take.
    fn weight(
        &mut self,
        flags: EngineFlags,
        weight: &Weight,
        mut ways: Vec<Way>,
        source: &dyn WeightSource,
        policy: FitPolicy,
    ) -> Result<Option<Way>, SourceError> {
        let misfits = self.report.misfits.len();
        // The engine's own name comes first; aliases are checked against it.
        ways.sort_by_key(|way| !matches!(way, Way::Tensor(name) if *name == weight.name));
        let Some(way) = ways.first().cloned() else {
            let stored = weight.data != WeightData::Missing;
            let may_keep = stored && (policy.partial || !weight.is_strippable());
            if !may_keep {
                let (name, expected) = (weight.name.clone(), weight.info());
                self.report.misfits.push(Misfit::Missing { name, expected });
            }
            return Ok(None);
        };
        for way in &ways {
            match way {
                Way::Tensor(name) => self.type_of(name, &weight.info(), &info(source, name)?),
                Way::View(view) => {
                    for part in &view.parts {
                        self.type_of(&part.name, &part.info, &info(source, &part.name)?);
                    }
                }
            }
        }
        if self.report.misfits.len() > misfits {
            return Ok(None);
        }
        let locked = locked(weight, flags);
        if locked.is_some() || ways.len() > 1 {
            let digests = ways
                .iter()
                .map(|way| digest(source, way, weight))
                .collect::<Result<Vec<_>, SourceError>>()?;
            if digests.iter().any(|digest| *digest != digests[0]) {
                let sources = ways.iter().map(ToString::to_string).collect();
                self.report.misfits.push(Misfit::Conflict { name: weight.name.clone(), sources });
            } else if let Some((reason, expected)) = locked.filter(|(_, e)| *e != digests[0]) {
                let (name, found) = (way.to_string(), digests[0]);
                self.report.misfits.push(Misfit::Values { name, reason, expected, found });
                return Ok(None);
            }
            if self.report.misfits.len() > misfits {
                return Ok(None);
            }
        }
        let keep = locked_and_stored(weight, flags);
        Ok((!keep).then_some(way))
    }

    fn type_of(&mut self, name: &str, expected: &TensorInfo, found: &TensorInfo) {
        if found.shape != expected.shape {
            self.report.misfits.push(Misfit::Shape {
                name: name.to_owned(),
                expected: expected.shape.clone(),
                found: found.shape.clone(),
            });
        }
        if found.dtype != expected.dtype {
            self.report.misfits.push(Misfit::DType {
                name: name.to_owned(),
                expected: expected.dtype,
                found: found.dtype,
            });
        }
    }

    fn literal(
        &mut self,
        name: String,
        expected: &Tensor,
        source: &dyn WeightSource,
    ) -> Result<(), SourceError> {
        let found = read_any(source, &name)?;
        if *expected == found {
            self.report.unused.push(name);
        } else {
            let (expected, found) = (expected.to_string(), found.to_string());
            self.report.misfits.push(Misfit::Literal { name, expected, found });
        }
        Ok(())
    }
}

/// Every name under which the engine takes a weight or a part of one.
fn taken_names(parts: &EngineParts) -> impl Iterator<Item = &str> {
    parts.weights.iter().flat_map(|weight| {
        std::iter::once(weight.name.as_str()).chain(weight.aliases.iter().flat_map(Alias::names))
    })
}

/// The path of the module that a tensor is of: its name without the last step. A name of one step may be anybody's.
fn module(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(module, _)| module)
}

/// Why only the built values of a weight are accepted, and their digest.
pub(crate) fn locked(weight: &Weight, flags: EngineFlags) -> Option<(String, Digest)> {
    let reason = weight.fixed(flags)?;
    Some((reason, weight.digest.expect("weights that take one value only have its digest")))
}

fn locked_and_stored(weight: &Weight, flags: EngineFlags) -> bool {
    weight.data != WeightData::Missing && locked(weight, flags).is_some()
}

fn broken(source: &dyn WeightSource, name: &str, why: String) -> SourceError {
    SourceError { name: name.to_owned(), origin: source.origin(), why }
}

fn info(source: &dyn WeightSource, name: &str) -> Result<TensorInfo, SourceError> {
    if let Some(info) = source.info(name) {
        return Ok(info);
    }
    // The source knows best why: an element type that nothing here has, say.
    source.read(name)?;
    Err(broken(source, name, "it is listed but has no type".to_owned()))
}

fn read_any(source: &dyn WeightSource, name: &str) -> Result<Tensor, SourceError> {
    let tensor = source.read(name)?;
    tensor.ok_or_else(|| broken(source, name, "it is listed but cannot be read".to_owned()))
}

/// The digest of what was found to fit, read piece by piece.
fn digest(source: &dyn WeightSource, way: &Way, weight: &Weight) -> Result<Digest, SourceError> {
    let mut hasher = Hasher::default();
    stream(source, way, weight, &mut |piece| hasher.update(piece))?;
    Ok(hasher.finish())
}

/// Reads what was found to fit, piece by piece; a view as a whole.
pub(crate) fn stream(
    source: &dyn WeightSource,
    way: &Way,
    weight: &Weight,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), SourceError> {
    let name = match way {
        Way::Tensor(name) => name,
        Way::View(view) => {
            sink(view.read(&weight.info(), source)?.bytes());
            return Ok(());
        }
    };
    let mut found = 0usize;
    let known = source.stream(name, &mut |piece| {
        found += piece.len();
        sink(piece);
    })?;
    has_length(source, name, weight, known.then_some(found))
}

/// As [`stream`], into `out`, which has room for the weight.
pub(crate) fn stream_into(
    source: &dyn WeightSource,
    way: &Way,
    weight: &Weight,
    out: &mut [u8],
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), SourceError> {
    match way {
        Way::Tensor(name) => {
            // The memory may hold an older version: what was not handed over was not read.
            let mut seen = 0usize;
            let found = source.stream_into(name, out, &mut |piece| {
                seen += piece.len();
                sink(piece);
            })?;
            has_length(source, name, weight, found)?;
            has_length(source, name, weight, Some(seen))
        }
        Way::View(_) => stream(source, way, weight, &mut |whole| {
            out.copy_from_slice(whole);
            sink(whole);
        }),
    }
}

/// Whether as many bytes were streamed as the source announced.
fn has_length(
    source: &dyn WeightSource,
    name: &str,
    weight: &Weight,
    found: Option<usize>,
) -> Result<(), SourceError> {
    let expected = weight.byte_len();
    match found {
        Some(found) if found == expected => Ok(()),
        Some(found) => {
            let why = format!("expected {expected} bytes as announced, found {found}");
            Err(broken(source, name, why))
        }
        None => Err(broken(source, name, "it is listed but cannot be read".to_owned())),
    }
}

/// Reads what was found to fit.
pub(crate) fn read(
    source: &dyn WeightSource,
    way: &Way,
    weight: &Weight,
) -> Result<Tensor, SourceError> {
    let name = match way {
        Way::Tensor(name) => name,
        Way::View(view) => return view.read(&weight.info(), source),
    };
    let tensor = read_any(source, name)?;
    if tensor.dtype() != weight.dtype || tensor.shape() != weight.shape {
        let why = format!("expected {} as announced, found {tensor:?}", weight.info());
        return Err(broken(source, name, why));
    }
    Ok(tensor)
}

/// Whether what was found to fit is memory that is there already, or a view, which is put together in new memory.
pub(crate) fn is_resident(source: &dyn WeightSource, way: &Way) -> bool {
    match way {
        Way::Tensor(name) => source.is_resident(name),
        Way::View(_) => true,
    }
}

/// Bytes that were streamed, if they are values that the weight's type has.
pub(crate) fn checked(
    source: &dyn WeightSource,
    way: &Way,
    weight: &Weight,
    bytes: Bytes,
) -> Result<Bytes, SourceError> {
    let tensor = Tensor::new(weight.dtype, &weight.shape, bytes);
    let tensor = tensor.map_err(|error| broken(source, &way.to_string(), error.to_string()))?;
    Ok(tensor.bytes().clone())
}
