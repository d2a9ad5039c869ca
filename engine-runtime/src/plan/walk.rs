//! The planner: walks a program with concrete facts.

use super::Segment;
use super::program::{Body, Op, Program};
use super::segment::{Builder, Origin, Val};
use crate::cpu::kernel;
use crate::error::{RunError, RunErrorKind};
use engine_format::{Dim, Tensor, ValueId};
use engine_ops::cpu::{Cpu, TensorMeta};
use engine_ops::infer::{Facts, InferCtx, InferError, Known};
use engine_ops::{Kind, OpDef, OpError, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Types of the values that are resident on the device.
pub(crate) type ResidentMetas = BTreeMap<ValueId, TensorMeta>;

/// Results up to this many bytes are computed while planning, if all operands are known.
const FOLDED_RESULT: usize = 64 * 1024;
/// … and no operand is larger than this.
const FOLDED_OPERAND: usize = 1024 * 1024;
/// A given tensor whose contents decide a shape is part of the plan's key up to this many bytes. A larger one (an image on
/// which a condition is computed) is data: the plan suspends at the value that decides.
const KEYED_TENSOR: usize = 4096;

/// A segment, and how to go on after it if it is not the last.
pub(crate) struct Planned {
    pub segment: Segment,
    pub rest: Option<Suspension>,
}

/// A walk that waits for the contents of values.
pub(crate) struct Suspension {
    state: State,
    wants: Wants,
}

enum Wants {
    /// The contents of one value: a shape, a condition.
    Contents(ValueId),
    /// The results of the node at which the walk stands, whose shapes depend on data.
    Results,
}

/// Where a walk stands.
#[derive(Clone)]
struct State {
    env: Vec<Option<Val>>,
    frames: Vec<Frame>,
    /// Host tensors given so far.
    inputs: usize,
}

/// A block being walked. Branches are pushed on top of the block they are in.
#[derive(Clone)]
struct Frame {
    body: Arc<Body>,
    next: usize,
    /// What the block's results are called outside.
    results: Vec<Option<ValueId>>,
}

/// What a node asks of the walk.
enum Flow {
    Next,
    Enter(Frame),
    Suspend(Wants),
}

impl Suspension {
    /// Turns what the segment left on the host into what [`Program::resume`] takes: the contents asked for, or the
    /// results of the node that had to run first.
    pub fn absorb(&self, host: Vec<Tensor>) -> Result<Vec<Tensor>, RunError> {
        let Wants::Results = self.wants else { return Ok(host) };
        let op = self.op();
        let mut given = host.into_iter();
        let inputs: Vec<Option<Tensor>> =
            op.inputs.iter().map(|i| i.and_then(|_| given.next())).collect();
        kernel::dynamic(op.def, &op.attrs, &inputs, op.outputs.len())
            .map_err(|why| node_error(op, &inputs.iter().map(meta_of).collect::<Vec<_>>(), &why))
    }

    /// For each tensor that [`Self::absorb`] gave: whether plans depend on its contents, not only on its type.
    pub fn keyed(&self, program: &Program, given: &[Tensor]) -> Vec<bool> {
        match self.wants {
            Wants::Contents(_) => vec![true],
            Wants::Results => {
                let outputs = self.op().outputs.iter().zip(given);
                outputs.map(|(id, t)| id.is_some_and(|id| program.keys(id, t))).collect()
            }
        }
    }

    /// Whether what [`Self::absorb`] gives joins the run's host tensors; else it only tells the plan contents of a
    /// value that is already somewhere.
    pub fn joins_inputs(&self) -> bool {
        matches!(self.wants, Wants::Results)
    }

    /// The node that the host runs before the plan goes on, if there is one: its path and operator.
    pub fn on_host(&self) -> Option<(&Arc<str>, &'static OpDef)> {
        self.joins_inputs().then(|| (&self.op().path, self.op().def))
    }

    fn op(&self) -> &Op {
        let frame = self.state.frames.last().expect("a suspended walk stands in a block");
        &frame.body.nodes[frame.next]
    }
}

fn meta_of(tensor: &Option<Tensor>) -> Option<TensorMeta> {
    tensor.as_ref().map(kernel::meta)
}

impl Program {
    /// Plans the program from its start for inputs of these types. The contents of an input are used only where
    /// [`Self::keys`] says so.
    pub fn plan(&self, inputs: &[Tensor], residents: &ResidentMetas) -> Result<Planned, RunError> {
        let mut env: Vec<Option<Val>> = vec![None; self.values];
        for (id, meta) in residents {
            env[id.index()] = Some(Val::new(Origin::Resident(*id), meta.clone()));
        }
        for (id, tensor) in self.known.iter() {
            env[id.index()] = Some(Val::known(Some(*id), tensor.clone()));
        }
        for (i, (id, tensor)) in self.inputs.iter().zip(inputs).enumerate() {
            let mut val = Val::new(Origin::Input(i), kernel::meta(tensor));
            val.value = self.keys(*id, tensor).then(|| tensor.clone());
            env[id.index()] = Some(val);
        }
        let frame = Frame { body: self.body.clone(), next: 0, results: Vec::new() };
        self.walk(State { env, frames: vec![frame], inputs: inputs.len() })
    }

    /// Whether plans depend on the contents of a given tensor, not only on its type.
    pub fn keys(&self, id: ValueId, tensor: &Tensor) -> bool {
        self.demands[id.index()].shape && tensor.bytes().len() <= KEYED_TENSOR
    }

    /// Goes on after a suspension with the tensors that [`Suspension::absorb`] gave.
    pub fn resume(&self, from: &Suspension, given: &[Tensor]) -> Result<Planned, RunError> {
        let mut state = from.state.clone();
        match from.wants {
            Wants::Contents(id) => {
                let val = state.env[id.index()].as_mut().expect("the value asked for is defined");
                val.value = given.first().cloned();
            }
            Wants::Results => {
                let frame = state.frames.last_mut().expect("a suspended walk stands in a block");
                let op = &frame.body.nodes[frame.next];
                frame.next += 1;
                for (id, tensor) in op.outputs.iter().zip(given) {
                    let mut val = Val::new(Origin::Input(state.inputs), kernel::meta(tensor));
                    state.inputs += 1;
                    let Some(id) = id else { continue };
                    val.value = self.keys(*id, tensor).then(|| tensor.clone());
                    state.env[id.index()] = Some(val);
                }
            }
        }
        self.walk(state)
    }

    fn walk(&self, mut state: State) -> Result<Planned, RunError> {
        let mut builder = Builder::default();
        while let Some(frame) = state.frames.last() {
            let Some(op) = frame.body.nodes.get(frame.next) else {
                if state.frames.len() == 1 {
                    break;
                }
                leave(&mut state);
                continue;
            };
            let body = frame.body.clone();
            match node(op, &mut state.env, &mut builder)? {
                Flow::Next => advance(&mut state),
                Flow::Enter(frame) => {
                    advance(&mut state);
                    state.frames.push(frame);
                }
                Flow::Suspend(wants) => {
                    let op = &body.nodes[state.frames.last().map_or(0, |f| f.next)];
                    let host = wanted(&wants, op, &state.env);
                    let carry = hand_over(&mut state, &wants);
                    let segment = builder.finish(&host, &carry, true);
                    return Ok(Planned { segment, rest: Some(Suspension { state, wants }) });
                }
            }
        }
        let outputs: Vec<Val> =
            self.body.outputs.iter().map(|v| get(&state.env, *v).clone()).collect();
        Ok(Planned { segment: builder.finish(&outputs, &[], false), rest: None })
    }
}

fn advance(state: &mut State) {
    if let Some(frame) = state.frames.last_mut() {
        frame.next += 1;
    }
}

/// Ends a branch: its results take the names they have outside.
fn leave(state: &mut State) {
    let Some(frame) = state.frames.pop() else { return };
    for (inner, outer) in frame.body.outputs.iter().zip(&frame.results) {
        if let Some(outer) = outer {
            state.env[outer.index()] = state.env[inner.index()].clone();
        }
    }
}

fn get(env: &[Option<Val>], id: ValueId) -> &Val {
    env[id.index()].as_ref().expect("Engine checked that values are defined before their use")
}

/// The values a suspension wants on the host.
fn wanted(wants: &Wants, op: &Op, env: &[Option<Val>]) -> Vec<Val> {
    match wants {
        Wants::Contents(id) => vec![get(env, *id).clone()],
        Wants::Results => op.inputs.iter().flatten().map(|id| get(env, *id).clone()).collect(),
    }
}

/// The values made so far that the rest of the program reads, renamed in `state` to what the next segment calls
/// them. All that the rest does not read is dropped.
fn hand_over(state: &mut State, wants: &Wants) -> Vec<Val> {
    let mut live = BTreeSet::new();
    for (depth, frame) in state.frames.iter().enumerate() {
        // A node that runs on the host has read its operands when the next segment starts.
        let innermost = depth + 1 == state.frames.len();
        let start = frame.next + usize::from(innermost && matches!(wants, Wants::Results));
        frame.body.reads_from(start, &mut |v| {
            live.insert(v);
        });
    }
    let mut carry: Vec<Val> = Vec::new();
    for (index, slot) in state.env.iter_mut().enumerate() {
        let id = ValueId(u32::try_from(index).expect("value ids are 32 bits wide"));
        if !live.contains(&id) {
            *slot = None;
            continue;
        }
        let Some(val) = slot else { continue };
        if !matches!(val.origin, Origin::Buffer(_) | Origin::Carried(_)) {
            continue;
        }
        if matches!(wants, Wants::Contents(wanted) if *wanted == id) {
            // The next plan is made for these contents: to it they are a constant.
            val.origin = Origin::Known(None);
            continue;
        }
        let at = carry.iter().position(|c| c.origin == val.origin).unwrap_or_else(|| {
            carry.push(val.clone());
            carry.len() - 1
        });
        val.origin = Origin::Carried(at);
    }
    carry
}

/// Plans one node.
fn node(op: &Op, env: &mut [Option<Val>], builder: &mut Builder) -> Result<Flow, RunError> {
    let inputs: Vec<Option<Val>> =
        op.inputs.iter().map(|i| i.map(|id| get(env, id).clone())).collect();
    if op.def.kind == Kind::Control {
        return branch(op, &inputs);
    }
    // Kernels rely on the contents of such operands too, even where the shape rule does not ask for them.
    if let Some(id) = undecided(op, &inputs) {
        return Ok(Flow::Suspend(Wants::Contents(id)));
    }
    let metas = || inputs.iter().map(|i| i.as_ref().map(|i| i.meta.clone())).collect::<Vec<_>>();
    let fail = |why: &OpError| node_error(op, &metas(), why);
    let facts: Vec<Option<Facts>> = inputs.iter().map(|i| i.as_ref().map(facts_of)).collect();
    let ctx = InferCtx { attrs: &op.attrs, inputs: &facts, outputs: op.outputs.len() };
    let results = match op.def.results(&ctx) {
        Ok(results) => results,
        Err(InferError::NeedsValue(i)) => return needs_value(op, &inputs, i),
        Err(InferError::DataDependent) => return dynamic(op, env, &inputs),
        Err(InferError::Invalid(why)) => return Err(fail(&why)),
        Err(why @ InferError::NeedsRank(_)) => return Err(fail(&OpError::new(why.to_string()))),
    };
    if matches!(op.def.cpu, Cpu::Dynamic(_)) {
        return dynamic(op, env, &inputs);
    }
    let results = concrete(op, results).map_err(|why| fail(&why))?;
    if op.def.kind == Kind::View {
        let origin = inputs[0].as_ref().expect("views have an operand");
        bind(env, op, 0, view(origin, &results[0]).map_err(|why| fail(&why))?);
        return Ok(Flow::Next);
    }
    if let Some(values) = folded(op, &inputs, &results).map_err(|why| fail(&why))? {
        for (i, value) in values.into_iter().enumerate() {
            if let Some(value) = value {
                bind(env, op, i, Val::known(None, value));
            }
        }
        return Ok(Flow::Next);
    }
    let metas: Vec<TensorMeta> = results.into_iter().map(|r| r.meta).collect();
    for (i, val) in builder.step(op, inputs, metas).into_iter().enumerate() {
        if let Some(val) = val {
            bind(env, op, i, val);
        }
    }
    Ok(Flow::Next)
}

/// An operand that decides shapes or axes and whose contents are not known yet.
fn undecided(op: &Op, inputs: &[Option<Val>]) -> Option<ValueId> {
    let shape = |i: usize| op.def.operand(i).is_some_and(|operand| operand.role == Role::Shape);
    let unknown = |v: &Option<Val>| v.as_ref().is_some_and(|v| v.value.is_none());
    let at = inputs.iter().enumerate().position(|(i, v)| shape(i) && unknown(v))?;
    op.inputs[at]
}

fn bind(env: &mut [Option<Val>], op: &Op, result: usize, val: Val) {
    if let Some(Some(id)) = op.outputs.get(result) {
        env[id.index()] = Some(val);
    }
}

/// Replaces an `If` by its branch.
fn branch(op: &Op, inputs: &[Option<Val>]) -> Result<Flow, RunError> {
    let condition = inputs[0].as_ref().expect("checked at load: If has a condition");
    let fail = |why: String| node_error(op, &[Some(condition.meta.clone())], &OpError::new(why));
    let Some(value) = &condition.value else {
        let id = op.inputs[0].expect("checked at load: If has a condition");
        return Ok(Flow::Suspend(Wants::Contents(id)));
    };
    let taken = match value.to_i64s().as_deref() {
        Some([flag]) => *flag != 0,
        _ => return Err(fail(format!("the condition is {value:?}, expected one bool"))),
    };
    let name = if taken { "then_branch" } else { "else_branch" };
    let body = op.bodies.get(name).ok_or_else(|| fail(format!("it has no block {name:?}")))?;
    if body.outputs.len() != op.outputs.len() {
        return Err(fail(format!(
            "{name} gives {} results, the node names {}",
            body.outputs.len(),
            op.outputs.len()
        )));
    }
    Ok(Flow::Enter(Frame { body: body.clone(), next: 0, results: op.outputs.clone() }))
}

fn needs_value(op: &Op, inputs: &[Option<Val>], i: usize) -> Result<Flow, RunError> {
    let id = op.inputs.get(i).copied().flatten();
    let unknown = inputs.get(i).is_some_and(|v| v.as_ref().is_some_and(|v| v.value.is_none()));
    match id {
        Some(id) if unknown => Ok(Flow::Suspend(Wants::Contents(id))),
        _ => {
            let metas: Vec<_> = inputs.iter().map(|i| i.as_ref().map(|i| i.meta.clone())).collect();
            let why = format!("its shape rule cannot use the contents of operand {i}");
            Err(node_error(op, &metas, &OpError::new(why)))
        }
    }
}

/// A node whose results' shapes depend on data: done now if all is known, else between two segments.
fn dynamic(op: &Op, env: &mut [Option<Val>], inputs: &[Option<Val>]) -> Result<Flow, RunError> {
    if !inputs.iter().flatten().all(|v| v.value.is_some()) {
        return Ok(Flow::Suspend(Wants::Results));
    }
    let tensors: Vec<Option<Tensor>> =
        inputs.iter().map(|v| v.as_ref().and_then(|v| v.value.clone())).collect();
    let metas: Vec<_> = tensors.iter().map(meta_of).collect();
    let results = kernel::dynamic(op.def, &op.attrs, &tensors, op.outputs.len())
        .map_err(|why| node_error(op, &metas, &why))?;
    for (i, tensor) in results.into_iter().enumerate() {
        bind(env, op, i, Val::known(None, tensor));
    }
    Ok(Flow::Next)
}

/// A result of a shape rule whose shape is known.
struct Concrete {
    meta: TensorMeta,
    value: Option<Tensor>,
}

fn concrete(op: &Op, results: Vec<Facts>) -> Result<Vec<Concrete>, OpError> {
    if results.len() < op.outputs.len().max(1) {
        let wrong =
            format!("its shape rule gave {} of {} results", results.len(), op.outputs.len());
        return Err(OpError::new(wrong));
    }
    let known = |(i, facts): (usize, Facts)| {
        let shape = facts.concrete().ok_or_else(|| {
            OpError::new(format!("the shape of result {i} is {:?}, expected numbers", facts.shape))
        })?;
        let meta = TensorMeta { dtype: facts.dtype, shape };
        let value = match facts.value {
            Some(Known::Tensor(tensor)) => Some(tensor),
            Some(Known::Dims(dims)) => dims_tensor(&meta, &dims),
            None => None,
        };
        Ok(Concrete { meta, value })
    };
    results.into_iter().enumerate().map(known).collect()
}

fn dims_tensor(meta: &TensorMeta, dims: &[Dim]) -> Option<Tensor> {
    let ints: Vec<i64> = dims.iter().map(Dim::known).collect::<Option<_>>()?;
    (meta.dtype == engine_format::DType::I64 && meta.len() == ints.len())
        .then(|| Tensor::from_slice(&meta.shape, &ints))
}

/// The operand's bytes under the result's type.
fn view(origin: &Val, result: &Concrete) -> Result<Val, OpError> {
    let meta = result.meta.clone();
    if meta.dtype != origin.meta.dtype || meta.len() != origin.meta.len() {
        return Err(OpError::new(format!(
            "a view of {}{:?} cannot be {}{:?}",
            origin.meta.dtype, origin.meta.shape, meta.dtype, meta.shape
        )));
    }
    let value = match &origin.value {
        Some(tensor) => tensor.reshaped(&meta.shape).ok(),
        None => result.value.clone(),
    };
    Ok(Val { origin: origin.origin, meta, value })
}

/// The results of a node that need no step: the rule knew them, or all operands are known and small.
fn folded(
    op: &Op,
    inputs: &[Option<Val>],
    results: &[Concrete],
) -> Result<Option<Vec<Option<Tensor>>>, OpError> {
    let asked = |i: usize| op.outputs.get(i).is_some_and(Option::is_some);
    if results.iter().enumerate().all(|(i, r)| r.value.is_some() || !asked(i)) {
        return Ok(Some(results.iter().map(|r| r.value.clone()).collect()));
    }
    let known = |v: &Val| v.value.is_some() && v.meta.byte_len() <= FOLDED_OPERAND;
    let small = results.iter().map(|r| r.meta.byte_len()).sum::<usize>() <= FOLDED_RESULT;
    if !small || !inputs.iter().flatten().all(known) {
        return Ok(None);
    }
    let tensors: Vec<Option<Tensor>> =
        inputs.iter().map(|v| v.as_ref().and_then(|v| v.value.clone())).collect();
    let metas: Vec<Option<TensorMeta>> = results.iter().map(|r| Some(r.meta.clone())).collect();
    kernel::evaluate(op.def, &op.attrs, &tensors, &metas[..op.outputs.len().max(1)]).map(Some)
}

fn facts_of(val: &Val) -> Facts {
    let shape = val.meta.shape.iter().map(|&d| Dim::from(d)).collect();
    let value = val.value.clone().map(Known::Tensor);
    Facts { value, ..Facts::new(val.meta.dtype, shape) }
}

/// An error at a node, with what it was given.
fn node_error(op: &Op, inputs: &[Option<TensorMeta>], why: &OpError) -> RunError {
    kernel::node_error(RunErrorKind::Node, op.def, &op.path, inputs, why)
}
