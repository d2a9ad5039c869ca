//! The planner: walks a program with concrete facts.

use super::Segment;
use super::frame::{Exit, Frame};
use super::item::{Call, Item, Layout, Origin, RunInputs, Sequence, Val};
use super::node::Applied;
use super::program::{Op, Program};
use super::segment::Builder;
use crate::cpu::kernel;
use crate::error::{RunError, RunErrorKind};
use crate::held::DeviceTensor;
use crate::limits::MemoryLimits;
use engine_format::{Tensor, ValueId};
use engine_ops::cpu::TensorMeta;
use engine_ops::{Kind, OpDef, OpError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Types of the values that are resident on the device.
pub(crate) type ResidentMetas = BTreeMap<ValueId, TensorMeta>;

/// A given tensor whose contents decide a shape is part of the plan's key up to this many bytes. A larger one (an image on
/// which a condition is computed) is data: the plan suspends at the value that decides.
const KEYED_TENSOR: usize = 4096;

/// A segment, and what comes after it.
pub(crate) struct Planned {
    pub segment: Segment,
    pub rest: Rest,
}

/// What comes after a segment.
pub(crate) enum Rest {
    /// Nothing: what it leaves on the host are the program's outputs, made up of tensors in this way.
    Outputs(Vec<Layout>),
    /// Another one.
    Suspension(Suspension),
}

/// A walk that waits for the contents of values.
pub(crate) struct Suspension {
    state: State,
    wants: Wants,
}

/// What a walk waits for.
#[derive(Clone, Copy)]
pub(super) enum Wants {
    /// The contents of one value: a shape, a condition.
    Contents(ValueId),
    /// The results of the node at which the walk stands, whose shapes depend on data.
    Results,
    /// Nothing: the segment is long enough.
    Turn,
}

/// Where a walk stands.
#[derive(Clone)]
pub(super) struct State {
    /// What the walk has met; constants are looked up in the program.
    env: BTreeMap<ValueId, Item>,
    /// Blocks being walked, each in the one before it.
    pub frames: Vec<Frame>,
    /// Host tensors given so far.
    inputs: usize,
}

/// Why planning a node went no further.
pub(super) enum Stop {
    /// It must wait.
    Suspend(Wants),
    /// It cannot be done.
    Error(RunError),
}

impl Stop {
    /// The contents of operand `i` must be known first.
    pub fn contents(op: &Op, i: usize) -> Self {
        let id = op.inputs[i].expect("an operand whose contents are needed is there");
        Stop::Suspend(Wants::Contents(id))
    }
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        Stop::Error(error)
    }
}

/// A walk and the segment it collects.
pub(super) struct Walk<'a> {
    program: &'a Program,
    residents: &'a ResidentMetas,
    pub state: State,
    pub builder: Builder,
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
        op.call(&op.asked()).run(&inputs)
    }

    /// For each tensor that [`Self::absorb`] gave: whether plans depend on its contents, not only on its type.
    pub fn keyed(&self, program: &Program, given: &[Tensor]) -> Vec<bool> {
        match self.wants {
            Wants::Contents(_) | Wants::Turn => vec![true; given.len()],
            Wants::Results => {
                let outputs = self.op().outputs.iter().zip(given);
                let keys = |id, t: &Tensor| program.keys(id, t.bytes().len());
                outputs.map(|(id, t)| id.is_some_and(|id| keys(id, t))).collect()
            }
        }
    }

    /// Whether what [`Self::absorb`] gives joins the run's host tensors; else it only tells the plan contents of a
    /// value that is already somewhere.
    pub fn joins_inputs(&self) -> bool {
        matches!(self.wants, Wants::Results)
    }

    /// About how many bytes it takes to keep.
    pub fn cost(&self) -> usize {
        let vals = |item: &Item| item.vals().len();
        let stacked = self.state.frames.iter().map(|frame| frame.exit.vals().count());
        let all = self.state.env.values().map(vals).sum::<usize>() + stacked.sum::<usize>();
        all * 2 * size_of::<Val>()
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

impl Op {
    /// For each result whether the node names it.
    fn asked(&self) -> Vec<bool> {
        self.outputs.iter().map(Option::is_some).collect()
    }

    fn call<'a>(&'a self, asked: &'a [bool]) -> Call<'a> {
        Call { def: self.def, attrs: &self.attrs, path: &self.path, asked }
    }

    /// An error at this node, with what it was given.
    pub fn error(&self, operands: &[Option<Item>], why: impl Into<String>) -> RunError {
        let given = operands.iter().map(|item| item.as_ref().map(Item::to_string));
        let given: Vec<Option<String>> = given.collect();
        let why = OpError::new(why);
        kernel::described_error(RunErrorKind::Node, self.def, &self.path, &given, &why)
    }
}

impl Program {
    /// Plans the program from its start for inputs in port order. The contents of an input are used only where
    /// [`Self::keys`] says so.
    pub fn plan(
        &self,
        given: RunInputs<'_>,
        residents: &ResidentMetas,
        limits: MemoryLimits,
    ) -> Result<Planned, RunError> {
        let mut env = BTreeMap::new();
        let mut vals = given.tensors.iter().enumerate();
        let mut held = given.held.iter().enumerate();
        for (id, layout) in self.inputs.iter().zip(given.layout) {
            let mut val = |(i, tensor): (usize, &Tensor)| {
                let mut val = Val::new(Origin::Input(i), kernel::meta(tensor));
                val.value = self.keys(*id, tensor.bytes().len()).then(|| tensor.clone());
                val
            };
            let mut own = vals.by_ref().take(layout.tensors()).map(&mut val);
            let item = match *layout {
                Layout::Absent => Some(Item::Absent),
                Layout::Tensor => own.next().map(Item::Tensor),
                Layout::OnDevice => {
                    let val = |(i, held): (usize, &DeviceTensor)| {
                        Item::Tensor(Val::new(Origin::Carried(i), held.meta()))
                    };
                    held.next().map(val)
                }
                Layout::Sequence(dtype, _) => {
                    Some(Item::Sequence(Sequence { dtype, elements: own.collect() }))
                }
            };
            env.insert(*id, item.expect("as many tensors are given as the layouts say"));
        }
        let frame = Frame { body: self.body.clone(), next: 0, exit: Exit::Program };
        let state = State { env, frames: vec![frame], inputs: given.tensors.len() };
        self.walk(state, residents, limits)
    }

    /// For each tensor of the inputs: whether plans depend on its contents.
    pub fn keyed(&self, given: RunInputs<'_>) -> Vec<bool> {
        let ids = self.inputs.iter().zip(given.layout);
        let ids = ids.flat_map(|(&id, layout)| std::iter::repeat_n(id, layout.tensors()));
        ids.zip(given.tensors).map(|(id, tensor)| self.keys(id, tensor.bytes().len())).collect()
    }

    /// Whether plans depend on the contents of a given tensor of so many bytes, not only on its type.
    pub fn keys(&self, id: ValueId, bytes: usize) -> bool {
        self.demands[id.index()].plans() && bytes <= KEYED_TENSOR
    }

    /// Goes on after a suspension with the tensors that [`Suspension::absorb`] gave.
    pub fn resume(
        &self,
        from: &Suspension,
        given: &[Tensor],
        residents: &ResidentMetas,
        limits: MemoryLimits,
    ) -> Result<Planned, RunError> {
        let mut state = from.state.clone();
        match from.wants {
            Wants::Turn => {}
            Wants::Contents(id) => {
                let item =
                    state.env.get_mut(&id).expect("a suspension keeps the value it asks for");
                if let Item::Tensor(val) = item {
                    val.value = given.first().cloned();
                }
            }
            Wants::Results => {
                let frame = state.frames.last_mut().expect("a suspended walk stands in a block");
                let op = frame.body.nodes[frame.next].clone();
                frame.next += 1;
                for (id, tensor) in op.outputs.iter().zip(given) {
                    let mut val = Val::new(Origin::Input(state.inputs), kernel::meta(tensor));
                    state.inputs += 1;
                    let Some(id) = id else { continue };
                    val.value = self.keys(*id, tensor.bytes().len()).then(|| tensor.clone());
                    state.env.insert(*id, Item::Tensor(val));
                }
            }
        }
        self.walk(state, residents, limits)
    }

    fn walk(
        &self,
        state: State,
        residents: &ResidentMetas,
        limits: MemoryLimits,
    ) -> Result<Planned, RunError> {
        let builder = Builder::new(limits);
        let mut walk = Walk { program: self, residents, state, builder };
        loop {
            match walk.step() {
                Ok(true) => {}
                Ok(false) => return Ok(walk.finish()),
                Err(Stop::Suspend(wants)) => return Ok(walk.suspend(wants)),
                Err(Stop::Error(error)) => return Err(error),
            }
        }
    }
}

impl Walk<'_> {
    /// Plans the next node, or what follows the last one of a block. `false` at the end of the program.
    fn step(&mut self) -> Result<bool, Stop> {
        let frame = self.state.frames.last().expect("the program's own block is left last");
        let Some(op) = frame.body.nodes.get(frame.next).cloned() else {
            return self.leave();
        };
        match op.def.kind {
            Kind::Control => self.control(&op)?,
            _ => self.plain(&op)?,
        }
        Ok(true)
    }

    /// Goes on to the next node of the innermost block.
    pub fn advance(&mut self) {
        if let Some(frame) = self.state.frames.last_mut() {
            frame.next += 1;
        }
    }

    /// What is known of a value.
    pub fn get(&self, id: ValueId) -> Item {
        if let Some(item) = self.state.env.get(&id) {
            return item.clone();
        }
        if let Some(tensor) = self.program.known.get(&id) {
            return Item::Tensor(Val::known(Some(id), tensor.clone()));
        }
        let meta = self.residents.get(&id);
        let meta = meta.expect("Engine checked that values are defined before their use");
        Item::Tensor(Val::new(Origin::Resident(id), meta.clone()))
    }

    /// What is known of a node's operands.
    pub fn operands(&self, op: &Op) -> Vec<Option<Item>> {
        op.inputs.iter().map(|id| id.map(|id| self.get(id))).collect()
    }

    /// Defines a value, or defines it anew in another iteration of the block that it belongs to.
    pub fn define(&mut self, id: ValueId, item: Item) {
        self.state.env.insert(id, item);
    }

    /// Defines a result of a node, if the node names it.
    pub fn bind(&mut self, op: &Op, result: usize, item: Item) {
        if let Some(Some(id)) = op.outputs.get(result) {
            self.define(*id, item);
        }
    }

    /// Plans a node whose operator has a kernel.
    fn plain(&mut self, op: &Op) -> Result<(), Stop> {
        let operands = self.operands(op);
        if op.def.name == "Identity" {
            // It gives back values of every kind.
            let item = operands.into_iter().next().flatten();
            self.bind(op, 0, item.expect("checked at load: the operand is there"));
            self.advance();
            return Ok(());
        }
        let tensor = |(i, item): (usize, &Option<Item>)| match item {
            None => Ok(None),
            Some(Item::Tensor(val)) => Ok(Some(val.clone())),
            Some(other) => {
                let why = format!("operand {i} is {other}, expected a tensor");
                Err(op.error(&operands, why))
            }
        };
        let inputs = operands.iter().enumerate().map(tensor).collect::<Result<Vec<_>, _>>()?;
        match op.call(&op.asked()).apply(&inputs, &mut self.builder)? {
            Applied::Results(vals) => {
                for (i, val) in vals.into_iter().enumerate() {
                    if let Some(val) = val {
                        self.bind(op, i, Item::Tensor(val));
                    }
                }
                self.advance();
                Ok(())
            }
            Applied::Needs(i) => Err(Stop::contents(op, i)),
            Applied::OnHost => Err(Stop::Suspend(Wants::Results)),
        }
    }

    fn finish(self) -> Planned {
        let outputs: Vec<Item> = self.program.body.outputs.iter().map(|v| self.get(*v)).collect();
        let (mut host, mut carry, mut layout) = (Vec::new(), Vec::new(), Vec::new());
        for (i, output) in outputs.into_iter().enumerate() {
            match output {
                Item::Tensor(val) if self.program.on_device.contains(&i) => {
                    layout.push(Layout::OnDevice);
                    carry.push(val);
                }
                other => {
                    layout.push(other.layout());
                    host.extend_from_slice(other.vals());
                }
            }
        }
        let segment = self.builder.finish(&host, &carry, false);
        Planned { segment, rest: Rest::Outputs(layout) }
    }

    fn suspend(mut self, wants: Wants) -> Planned {
        let host = self.wanted(wants);
        let carry = self.hand_over(wants);
        let segment = self.builder.finish(&host, &carry, true);
        Planned { segment, rest: Rest::Suspension(Suspension { state: self.state, wants }) }
    }

    /// The values a suspension wants on the host.
    fn wanted(&mut self, wants: Wants) -> Vec<Val> {
        let ids = match wants {
            Wants::Turn => Vec::new(),
            Wants::Contents(id) => {
                // A weight that decides: what its contents turn out to be is noted beside the walk's own values.
                let item = self.get(id);
                self.define(id, item);
                vec![id]
            }
            Wants::Results => {
                let frame = self.state.frames.last().expect("a suspended walk stands in a block");
                frame.body.nodes[frame.next].inputs.iter().flatten().copied().collect()
            }
        };
        ids.into_iter().flat_map(|id| self.get(id).vals().to_vec()).collect()
    }

    /// The values that the rest of the program reads.
    fn live(&self, wants: Wants) -> BTreeSet<ValueId> {
        let mut live = BTreeSet::new();
        for (depth, frame) in self.state.frames.iter().enumerate() {
            // A node that runs on the host has read its operands when the next segment starts.
            let innermost = depth + 1 == self.state.frames.len();
            let start = frame.next + usize::from(innermost && matches!(wants, Wants::Results));
            frame.body.reads_from(start, &mut |v| {
                live.insert(v);
            });
            if frame.exit.repeats() {
                live.extend(&frame.body.captures);
            }
        }
        live
    }

    /// The values made so far that the rest of the program reads, renamed to what the next segment calls them. All that the
    /// rest does not read is dropped.
    fn hand_over(&mut self, wants: Wants) -> Vec<Val> {
        let mut live = self.live(wants);
        if let Wants::Contents(id) = wants {
            live.insert(id);
        }
        self.state.env.retain(|id, _| live.contains(id));
        let mut carry = Carry::default();
        for (id, item) in &mut self.state.env {
            if matches!(wants, Wants::Contents(wanted) if wanted == *id) {
                // The next plan is made for these contents: to it they are a constant.
                item.vals_mut().iter_mut().filter(|val| is_made(val)).for_each(|val| {
                    val.origin = Origin::Known(None);
                });
                continue;
            }
            item.vals_mut().iter_mut().for_each(|val| carry.rename(val));
        }
        for frame in &mut self.state.frames {
            frame.exit.vals_mut().for_each(|val| carry.rename(val));
        }
        carry.vals
    }
}

/// Whether a step wrote it, so that it is only there while the segment's memory is.
fn is_made(val: &Val) -> bool {
    matches!(val.origin, Origin::Buffer(_) | Origin::Carried(_))
}

/// Values to be handed over; each buffer once.
#[derive(Default)]
struct Carry {
    vals: Vec<Val>,
    at: BTreeMap<Origin, usize>,
}

impl Carry {
    /// Renames a value to what the next segment calls it.
    fn rename(&mut self, val: &mut Val) {
        if !is_made(val) {
            return;
        }
        let at = *self.at.entry(val.origin).or_insert_with(|| {
            self.vals.push(val.clone());
            self.vals.len() - 1
        });
        val.origin = Origin::Carried(at);
    }
}
