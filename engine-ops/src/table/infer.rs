//! Types, symbolic shapes and small known values.

use crate::OpError;
use engine_format::{Attrs, DType, Dim, Tensor, size};
use std::fmt;

/// The rule that gives the facts of a node's results from those of its operands.
pub type InferRule = fn(&InferCtx<'_>) -> Result<Vec<Facts>, InferError>;

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Element type.
    pub dtype: DType,
    /// Shape; `None` if not even the rank is known.
    pub shape: Option<Vec<Dim>>,
    /// Contents, where they are known before a run.
    pub value: Option<Known>,
}

/// `f32[batch, 3]`, or `f32[?]` where the rank is not known.
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            None => write!(f, "{}[?]", self.dtype),
            Some(dims) => write!(f, "{}{dims:?}", self.dtype),
        }
    }
}

/// Contents known before a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// All of them.
    Tensor(Tensor),
    /// A scalar or vector of `i64` whose elements are expressions over symbols.
    Dims(Vec<Dim>),
}

impl Facts {
    /// A value of known type and shape and unknown contents.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> Self {
        Self { dtype, shape: Some(shape), value: None }
    }

    /// A value whose rank is not known.
    pub fn unranked(dtype: DType) -> Self {
        Self { dtype, shape: None, value: None }
    }

    /// A constant.
    pub fn constant(tensor: Tensor) -> Self {
        let shape = tensor.shape().iter().map(|&d| Dim::from(d)).collect();
        Self { dtype: tensor.dtype(), shape: Some(shape), value: Some(Known::Tensor(tensor)) }
    }

    /// A scalar or vector of `i64` with these contents: a tensor where all of them are numbers.
    pub fn of_dims(shape: Vec<Dim>, dims: Vec<Dim>) -> Self {
        let numbers: Option<Vec<i64>> = dims.iter().map(Dim::known).collect();
        let mut facts = Self::new(DType::I64, shape);
        // Integers of a tensor wrap where sizes must not: their kernel knows.
        if dims.iter().any(Dim::is_undefined) {
            return facts;
        }
        facts.value = Some(match (numbers, facts.concrete()) {
            (Some(numbers), Some(shape)) => Known::Tensor(Tensor::from_slice(&shape, &numbers)),
            _ => Known::Dims(dims),
        });
        facts
    }

    /// A vector of `i64` with these contents.
    pub fn vector(dims: Vec<Dim>) -> Self {
        Self::of_dims(vec![Dim::from(dims.len())], dims)
    }

    /// A scalar `i64` with these contents.
    pub fn scalar(dim: Dim) -> Self {
        Self::of_dims(Vec::new(), vec![dim])
    }

    /// Whether dimensions, where they are known, are sizes, and a tensor of them fits the address space. What is wrong, else.
    pub(crate) fn check_size(&self) -> Result<(), OpError> {
        let Some(shape) = &self.shape else { return Ok(()) };
        if shape.iter().any(Dim::is_undefined) {
            return Err(OpError::new(format!("has a size that no tensor can have: {self}")));
        }
        if let Some(axis) = shape.iter().position(|dim| dim.known().is_some_and(|n| n < 0)) {
            return Err(OpError::new(format!("has a negative size on axis {axis}: {self}")));
        }
        let known: Result<Vec<usize>, _> =
            shape.iter().filter_map(Dim::known).map(usize::try_from).collect();
        match known {
            Ok(known) if size::byte_len(self.dtype, &known).is_some() => Ok(()),
            _ => Err(OpError::new(format!("does not fit the address space: {self}"))),
        }
    }

    /// The shape as numbers, if every dimension is one.
    pub fn concrete(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(|d| usize::try_from(d.known()?).ok()).collect()
    }
}

/// Why a rule gave no facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// The operands are not what the operator takes.
    #[error(transparent)]
    Invalid(#[from] OpError),
    /// The result's shape depends on the contents of this operand.
    #[error("the contents of operand {0} are needed")]
    NeedsValue(usize),
    /// The rank of this operand is needed and not known.
    #[error("the rank of operand {0} is needed")]
    NeedsRank(usize),
    /// The result's shape is only known after the node ran (NonZero).
    #[error("the result's shape depends on data")]
    DataDependent,
}

impl InferError {
    /// States what was found and what is taken.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(OpError::new(message))
    }
}

/// The longest vector that rules follow element by element.
const MAX_KNOWN_DIMS: i64 = 256;

/// What a rule sees.
pub struct InferCtx<'a> {
    /// Normalised attributes.
    pub attrs: &'a Attrs,
    /// Operands; omitted ones are `None`.
    pub inputs: &'a [Option<Facts>],
    /// How many results the node names.
    pub outputs: usize,
}

impl<'a> InferCtx<'a> {
    /// Facts of a required operand.
    pub fn facts(&self, i: usize) -> Result<&'a Facts, InferError> {
        self.opt(i).ok_or_else(|| InferError::invalid(format!("operand {i} is missing")))
    }

    /// Facts of an optional operand.
    pub fn opt(&self, i: usize) -> Option<&'a Facts> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Element type of a required operand.
    pub fn dtype(&self, i: usize) -> Result<DType, InferError> {
        Ok(self.facts(i)?.dtype)
    }

    /// Shape of a required operand.
    pub fn shape(&self, i: usize) -> Result<&'a [Dim], InferError> {
        self.facts(i)?.shape.as_deref().ok_or(InferError::NeedsRank(i))
    }

    /// Contents of a required integer operand (scalar or vector) as expressions.
    pub fn dims(&self, i: usize) -> Result<Vec<Dim>, InferError> {
        match &self.facts(i)?.value {
            Some(Known::Dims(dims)) => Ok(dims.clone()),
            Some(Known::Tensor(t)) => {
                let ints = t.to_i64s().ok_or_else(|| {
                    InferError::invalid(format!("operand {i} is {t:?}, expected integers"))
                })?;
                Ok(ints.into_iter().map(Dim::from).collect())
            }
            None => Err(InferError::NeedsValue(i)),
        }
    }

    /// Contents of an operand of shape arithmetic, a scalar or vector of `i64`, if they are known: what a rule moves
    /// or computes on to give its result known contents too ([`Facts::of_dims`]). Long vectors are data, not shapes.
    pub fn known_dims(&self, i: usize) -> Option<Vec<Dim>> {
        let facts = self.opt(i)?;
        let small = match facts.shape.as_deref()? {
            [] => true,
            [n] => n.known().is_some_and(|n| n <= MAX_KNOWN_DIMS),
            _ => false,
        };
        if facts.dtype != DType::I64 || !small {
            return None;
        }
        self.dims(i).ok()
    }

    /// Contents of a required integer operand as numbers.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>, InferError> {
        self.dims(i)?.iter().map(|d| d.known().ok_or(InferError::NeedsValue(i))).collect()
    }

    /// Contents of a required operand.
    pub fn tensor(&self, i: usize) -> Result<&'a Tensor, InferError> {
        match &self.facts(i)?.value {
            Some(Known::Tensor(t)) => Ok(t),
            _ => Err(InferError::NeedsValue(i)),
        }
    }
}

/// An axis in `-rank..rank` as an index.
pub fn axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let index = if axis < 0 { axis.saturating_add(signed) } else { axis };
    usize::try_from(index).ok().filter(|&i| i < rank).ok_or_else(|| {
        OpError::new(format!("axis {axis} of a tensor of rank {rank}, expected -{rank}..{rank}"))
    })
}

/// The shape that shapes broadcast to, NumPy's rule. Two different symbols are an error only once they are numbers;
/// before that the one that is not 1 wins.
pub fn broadcast(shapes: &[&[Dim]]) -> Result<Vec<Dim>, OpError> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![Dim::from(1i64); rank];
    for shape in shapes {
        for (slot, dim) in out[rank - shape.len()..].iter_mut().zip(*shape) {
            let one = Some(1);
            match (slot.known(), dim.known()) {
                (_, d) if d == one => {}
                (s, _) if s == one => *slot = dim.clone(),
                (Some(a), Some(b)) if a != b => {
                    return Err(OpError::new(format!("shapes {shapes:?} do not broadcast")));
                }
                (None, Some(_)) => *slot = dim.clone(),
                _ => {}
            }
        }
    }
    Ok(out)
}
