//! Single operators with weights of their own, without a model or a file.
//!
//! ```
//! use engine_format::{Attrs, Tensor};
//! use engine_runtime::{Device, layer::Layer};
//!
//! # fn main() -> Result<(), engine_runtime::layer::LayerError> {
//! let mut product = Layer::new("MatMul", Attrs::new(), &Device::cpu())?;
//! product.set("B", Tensor::from_slice(&[2, 1], &[10.0f32, 1.0]))?;
//! let y = product.run(&[Tensor::from_slice(&[1, 2], &[3.0f32, 4.0])])?;
//! assert_eq!(y[0].as_slice::<f32>().ok(), Some(&[34.0][..]));
//! # Ok(())
//! # }
//! ```
//!
//! [`Linear`], [`Conv`] and [`LayerNorm`] say in types what the operator table says in names.

mod front;

pub use front::{Conv, ConvOptions, LayerNorm, Linear};

use crate::device::Device;
use crate::error::{LoadError, RefitError, RunError};
use crate::module::{LiveModule, Module};
use crate::value::Inputs;
use engine_format::{
    Attrs, Block, DType, Digest, Engine, EngineFlags, EngineParts, FitPolicy, Form, FormatError,
    Literal, MapSource, Node, Port, Tensor, ValueId, Weight, WeightClass, WeightData,
};
use engine_ops::{Kind, OpDef, OpError, Role, TABLE};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a layer was not made, set or run.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The operator table has no such operator, or it needs nested programs.
    #[error("no layer of operator {0:?}: the operator table has none that runs by itself")]
    UnknownOperator(String),
    /// The attributes are not what the operator takes.
    #[error("attributes of {op}: {why}")]
    Attributes {
        /// The operator.
        op: &'static str,
        /// What is wrong.
        why: OpError,
    },
    /// The operator has no such operand.
    #[error("{op} has no operand {found:?}, it has {expected:?}")]
    UnknownOperand {
        /// The operator.
        op: &'static str,
        /// The name asked for.
        found: String,
        /// The operator's operands.
        expected: Vec<&'static str>,
    },
    /// More inputs than operands that are not set.
    #[error("{op} was given {found} inputs, but only {expected} operands are not set")]
    TooManyInputs {
        /// The operator.
        op: &'static str,
        /// Operands that take an input.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// The operator in this form is not an engine.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The device does not take it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A new weight was refused.
    #[error(transparent)]
    Refit(#[from] RefitError),
    /// The run failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// One operator on a device. Operands that are set stay; the others are inputs of a run.
///
/// An operand that flows into the result becomes a weight, and setting it again is a refit; one that decides shapes or
/// indices becomes part of the program, and setting it again plans anew.
pub struct Layer {
    def: &'static OpDef,
    attrs: Attrs,
    outputs: usize,
    device: Device,
    set: BTreeMap<usize, Tensor>,
    /// One module for each combination of inputs seen.
    modules: Mutex<Vec<(Signature, Arc<LiveModule>)>>,
}

/// The last place of a repeated operand that can be set.
const MOST_REPEATED: usize = 1 << 16;

/// Which operands are inputs, and their types.
type Signature = Vec<(usize, DType)>;

impl Layer {
    /// The newest version of operator `op`. Attributes that are not given take their defaults.
    ///
    /// # Errors
    /// `UnknownOperator`, or `Attributes` that the operator does not take.
    pub fn new(op: &str, attrs: Attrs, device: &Device) -> Result<Self, LayerError> {
        let versions = TABLE.iter().filter(|def| def.name == op && def.kind != Kind::Control);
        let def = versions.max_by_key(|def| def.version);
        let def = def.ok_or_else(|| LayerError::UnknownOperator(op.to_owned()))?;
        let attrs =
            def.normalise(attrs).map_err(|why| LayerError::Attributes { op: def.name, why })?;
        let modules = Mutex::default();
        Ok(Self { def, attrs, outputs: 1, device: device.clone(), set: BTreeMap::new(), modules })
    }

    /// The layer with so many results instead of one.
    #[must_use]
    pub fn with_outputs(mut self, outputs: usize) -> Self {
        self.outputs = outputs;
        self.modules = Mutex::default();
        self
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The value an operand is set to.
    pub fn get(&self, operand: &str) -> Option<&Tensor> {
        self.set.get(&self.position(operand)?)
    }

    /// Sets an operand by its name in the operator table; a repeated operand's further ones are `NAME.1`, `NAME.2` ….
    ///
    /// # Errors
    /// `UnknownOperand`; what a refit gives, and then nothing changes.
    pub fn set(&mut self, operand: &str, tensor: Tensor) -> Result<(), LayerError> {
        let at = self.position(operand).ok_or_else(|| LayerError::UnknownOperand {
            op: self.def.name,
            found: operand.to_owned(),
            expected: self.def.inputs.iter().map(|o| o.name).collect(),
        })?;
        let modules = self.modules.get_mut().unwrap_or_else(PoisonError::into_inner);
        let same = self.set.get(&at).is_some_and(|old| {
            is_weight(self.def, at, old)
                && (old.dtype(), old.shape()) == (tensor.dtype(), tensor.shape())
        });
        if same {
            let source: MapSource = [(name(self.def, at), tensor.clone())].into_iter().collect();
            let refitted = refit(modules, &source)?;
            *modules = refitted;
        } else {
            modules.clear();
        }
        self.set.insert(at, tensor);
        Ok(())
    }

    /// Runs it. `inputs` are the operands that are not set, in order; optional ones at the end may be left out.
    ///
    /// # Errors
    /// `TooManyInputs`, `Load` where a required operand is missing, `Run`.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, LayerError> {
        let operands = self.def.inputs.len().max(self.set.len() + inputs.len());
        let open: Vec<usize> = (0..operands)
            .filter(|i| !self.set.contains_key(i) && self.def.operand(*i).is_some())
            .collect();
        if inputs.len() > open.len() {
            let (expected, found) = (open.len(), inputs.len());
            return Err(LayerError::TooManyInputs { op: self.def.name, expected, found });
        }
        let signature: Signature =
            open.iter().zip(inputs).map(|(&at, tensor)| (at, tensor.dtype())).collect();
        let named = open.iter().zip(inputs).map(|(&at, t)| (name(self.def, at), t.clone()));
        let named: Inputs = named.collect();
        let mut outputs = self.module(signature)?.run(&named)?.tensors;
        let take = |i| outputs.remove(&output(i)).expect("the engine has this output");
        Ok((0..self.outputs).map(take).collect())
    }

    /// The position of an operand.
    fn position(&self, operand: &str) -> Option<usize> {
        let (base, repeat) = match operand.rsplit_once('.') {
            Some((base, repeat)) if self.def.variadic_input => (base, repeat.parse().ok()?),
            _ => (operand, 0),
        };
        let at = self.def.inputs.iter().position(|o| o.name == base)?;
        let last = at + 1 == self.def.inputs.len();
        (repeat == 0 || last && repeat <= MOST_REPEATED).then_some(at + repeat)
    }

    /// The module for these inputs, made if it is not there.
    fn module(&self, signature: Signature) -> Result<Arc<LiveModule>, LayerError> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, module)) = modules.iter().find(|(there, _)| *there == signature) {
            return Ok(module.clone());
        }
        let module = Arc::new(LiveModule::load(self.engine(&signature)?, &self.device)?);
        modules.push((signature, module.clone()));
        Ok(module)
    }

    /// The program of one node.
    fn engine(&self, signature: &Signature) -> Result<Engine, LayerError> {
        let mut draft = Draft::default();
        for &(at, dtype) in signature {
            let port = Port {
                name: name(self.def, at),
                value: draft.operand(at),
                form: Form::Tensor,
                dtype,
                shape: None,
            };
            draft.inputs.push(port);
        }
        for (&at, tensor) in &self.set {
            let value = draft.operand(at);
            if is_weight(self.def, at, tensor) {
                draft.weights.push(weight(name(self.def, at), value, tensor));
            } else {
                draft.literals.push(Literal { value, tensor: tensor.clone() });
            }
        }
        Ok(Engine::new(draft.parts(self))?)
    }
}

/// Modules like `modules` with the weight of `source`. The old ones stay as they are, so an error changes nothing.
fn refit(
    modules: &[(Signature, Arc<LiveModule>)],
    source: &MapSource,
) -> Result<Vec<(Signature, Arc<LiveModule>)>, LayerError> {
    let options = FitPolicy { partial: true, allow_extra: false };
    let refit = |(signature, module): &(Signature, Arc<LiveModule>)| {
        let module = LiveModule::clone(module);
        module.refit(source, options)?;
        Ok((signature.clone(), Arc::new(module)))
    };
    modules.iter().map(refit).collect()
}

/// What an engine of one node is made of.
#[derive(Default)]
struct Draft {
    values: u32,
    operands: Vec<Option<ValueId>>,
    inputs: Vec<Port>,
    weights: Vec<Weight>,
    literals: Vec<Literal>,
}

impl Draft {
    fn value(&mut self) -> ValueId {
        self.values += 1;
        ValueId(self.values - 1)
    }

    fn operand(&mut self, at: usize) -> ValueId {
        let value = self.value();
        if self.operands.len() <= at {
            self.operands.resize(at + 1, None);
        }
        self.operands[at] = Some(value);
        value
    }

    fn parts(mut self, layer: &Layer) -> EngineParts {
        let outputs: Vec<ValueId> = (0..layer.outputs).map(|_| self.value()).collect();
        let node = Node {
            op: layer.def.name.to_owned(),
            version: layer.def.version,
            name: layer.def.name.to_owned(),
            inputs: self.operands,
            outputs: outputs.iter().copied().map(Some).collect(),
            attrs: layer.attrs.clone(),
        };
        let flags = match self.weights.is_empty() {
            true => EngineFlags::empty(),
            false => EngineFlags::REFIT,
        };
        self.weights.sort_by(|a, b| a.name.cmp(&b.name));
        // The element types of results are only known to the operator's shape rule; nothing reads them here.
        let port = |(i, &value): (usize, &ValueId)| Port {
            name: output(i),
            value,
            form: Form::Tensor,
            dtype: DType::F32,
            shape: None,
        };
        EngineParts {
            flags,
            metadata: BTreeMap::new(),
            inputs: self.inputs,
            outputs: outputs.iter().enumerate().map(port).collect(),
            values: self.values,
            literals: self.literals,
            weights: self.weights,
            prepare: Block::default(),
            execute: Block { inputs: Vec::new(), nodes: vec![node], outputs },
            source_literals: Vec::new(),
            ignored: Vec::new(),
        }
    }
}

fn weight(name: String, value: ValueId, tensor: &Tensor) -> Weight {
    Weight {
        name,
        aliases: Vec::new(),
        value,
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        class: WeightClass::Weight,
        pinned: None,
        refittable: true,
        digest: Some(Digest::of(tensor.bytes())),
        data: WeightData::Stored(tensor.bytes().clone()),
    }
}

/// Whether a set operand is a weight, rather than part of the program, as strings always are.
fn is_weight(def: &OpDef, at: usize, tensor: &Tensor) -> bool {
    let data = def.operand(at).is_some_and(|operand| operand.role == Role::Data);
    data && tensor.dtype() != DType::String
}

/// The name of the operand at a position.
fn name(def: &OpDef, at: usize) -> String {
    match at.checked_sub(def.inputs.len().saturating_sub(1)) {
        Some(repeat) if repeat > 0 => {
            let base = def.operand(at).map_or("", |operand| operand.name);
            format!("{base}.{repeat}")
        }
        _ => def.inputs[at].name.to_owned(),
    }
}

fn output(i: usize) -> String {
    format!("output {i}")
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("op", &self.def)
            .field("attrs", &self.attrs)
            .field("set", &self.set.keys().map(|&at| name(self.def, at)).collect::<Vec<_>>())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
