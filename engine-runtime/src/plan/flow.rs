//! Planning control flow: branches that are taken, blocks that are repeated.
//!
//! A loop is unrolled as it is walked: every iteration enters the block anew, with the values it begins with in the places of
//! the block's parameters. What an iteration decides by data ends the segment.

use super::frame::{Exit, Frame, Repeat};
use super::item::{Item, Sequence, Val};
use super::program::Op;
use super::sequence;
use super::walk::{Stop, Walk, Wants};
use crate::error::RunError;
use engine_format::{Node, Tensor};
use engine_ops::AttrsExt;
use engine_ops::control::{Arity, Ties, empty_types};
use engine_ops::infer::axis;
use std::sync::Arc;

/// A segment is ended between two iterations once it has this many steps, so that a long loop takes no more memory than this
/// many steps do. The walk through them costs about as much as two hundred submissions, so one more is not felt.
const LONGEST_SEGMENT: usize = 4096;

/// What is wrong with the blocks of a node, or with the node if the planner does not know it.
pub(super) fn problem(node: &Node) -> Option<String> {
    let block = |name: &str| match node.attrs.get(name) {
        Some(engine_format::Attr::Block(block)) => Some(block),
        _ => None,
    };
    match node.op.as_str() {
        "If" => ["then_branch", "else_branch"].into_iter().find_map(|name| {
            let (gives, asked) = (block(name)?.outputs.len(), node.outputs.len());
            (gives != asked)
                .then(|| format!("{name} gives {gives} results, the node names {asked}"))
        }),
        "Loop" | "Scan" => {
            let arity = Arity::from(block("body")?);
            let (operands, results) = (node.inputs.len(), node.outputs.len());
            let ties = Ties::of(&node.op, &node.attrs, operands, results, arity);
            let omitted =
                |ties: Ties| node.inputs[ties.first_operand.min(operands)..].contains(&None);
            match ties {
                Ok(ties) if omitted(ties) => Some("a carried value is omitted".to_owned()),
                Ok(_) => None,
                Err(why) => Some(why.to_string()),
            }
        }
        "Refuse" => None,
        op if sequence::find(op).is_some() => None,
        _ => Some("this control operator is not known here".to_owned()),
    }
}

impl Walk<'_> {
    /// Plans a node that the planner handles itself.
    pub fn control(&mut self, op: &Arc<Op>) -> Result<(), Stop> {
        let operands = self.operands(op);
        match op.def.name {
            "If" => self.branch(op, &operands),
            "Loop" => self.begin_loop(op, &operands),
            "Scan" => self.begin_scan(op, &operands),
            "Refuse" => Err(op.error(&operands, op.attrs.str("why")).into()),
            name => {
                let plan = sequence::find(name).expect("checked at load: the planner knows it");
                let result = plan(self, op, &operands)?;
                self.bind(op, 0, result);
                self.advance();
                Ok(())
            }
        }
    }

    /// Does what follows the last node of the innermost block. `false` at the end of the program.
    pub fn leave(&mut self) -> Result<bool, Stop> {
        let frame = self.state.frames.last().expect("the program's own block is left last");
        match &frame.exit {
            Exit::Program => return Ok(false),
            Exit::Branch(results) => {
                let results = results.clone();
                let items: Vec<Item> = frame.body.outputs.iter().map(|&v| self.get(v)).collect();
                self.state.frames.pop();
                for (id, item) in results.into_iter().zip(items) {
                    if let Some(id) = id {
                        self.define(id, item);
                    }
                }
            }
            Exit::Repeat(_) => self.end_iteration()?,
        }
        Ok(true)
    }

    /// Enters the branch of an `If`.
    fn branch(&mut self, op: &Arc<Op>, operands: &[Option<Item>]) -> Result<(), Stop> {
        let taken = self.flag(op, operands, 0)?;
        let name = if taken { "then_branch" } else { "else_branch" };
        let body = op.bodies[name].clone();
        self.advance();
        let exit = Exit::Branch(op.outputs.clone());
        self.state.frames.push(Frame { body, next: 0, exit });
        Ok(())
    }

    fn begin_loop(&mut self, op: &Arc<Op>, operands: &[Option<Item>]) -> Result<(), Stop> {
        let given = |i: usize| operands.get(i).is_some_and(Option::is_some);
        let trips = match given(0) {
            true => self.number(op, operands, 0)?,
            false => i64::MAX,
        };
        let go = !given(1) || self.flag(op, operands, 1)?;
        self.begin(op, operands, if go { trips } else { 0 }, Vec::new())
    }

    fn begin_scan(&mut self, op: &Arc<Op>, operands: &[Option<Item>]) -> Result<(), Stop> {
        let cut = op.attrs.int("num_scan_inputs") as usize;
        let first = operands.len() - cut;
        let mut trips: Option<usize> = None;
        let mut slices = Vec::with_capacity(cut);
        for i in 0..cut {
            let val = self.tensor(op, operands, first + i)?;
            let along = list(op, "scan_input_axes", i);
            let along = axis(along, val.meta.shape.len())
                .map_err(|why| op.error(operands, format!("operand {}: {why}", first + i)))?;
            let size = val.meta.shape[along];
            let same = *trips.get_or_insert(size);
            if size != same {
                let what = format!(
                    "operand {} has {size} slices along axis {along}, operand {first} has {same}",
                    first + i
                );
                return Err(op.error(operands, what).into());
            }
            let mut pieces = self.split(op, &val, along, &vec![1; size])?;
            if list(op, "scan_input_directions", i) == 1 {
                pieces.reverse();
            }
            let mut shape = val.meta.shape.clone();
            shape.remove(along);
            slices.push(pieces.into_iter().map(|piece| piece.reshaped(shape.clone())).collect());
        }
        let trips = trips.ok_or_else(|| op.error(operands, "it has no operand to cut"))?;
        self.begin(op, operands, trips as i64, slices)
    }

    /// Begins the first iteration, or ends a loop that has none.
    fn begin(
        &mut self,
        op: &Arc<Op>,
        operands: &[Option<Item>],
        trips: i64,
        slices: Vec<Vec<Val>>,
    ) -> Result<(), Stop> {
        let body = op.bodies["body"].clone();
        let arity = Arity { parameters: body.inputs.len(), results: body.outputs.len() };
        let ties = Ties::of(op.def.name, &op.attrs, op.inputs.len(), op.outputs.len(), arity)
            .expect("checked at load: the block fits the node");
        let carried = operands.iter().skip(ties.first_operand).take(ties.carried).flatten();
        let carried: Vec<Item> = carried.cloned().collect();
        let read = |i: usize| op.outputs.get(ties.carried + i).is_some_and(Option::is_some);
        let stacked = (0..ties.stacked).map(|i| read(i).then(Vec::new)).collect();
        let repeat = Repeat { op: op.clone(), ties, trips, done: 0, slices, stacked };
        self.advance();
        if trips <= 0 {
            return Ok(self.end_loop(&repeat, carried)?);
        }
        let frame = Frame { body, next: 0, exit: Exit::Repeat(Box::new(repeat)) };
        self.state.frames.push(frame);
        self.begin_iteration(carried);
        Ok(())
    }

    /// Gives the innermost block's parameters the values with which its next iteration begins.
    fn begin_iteration(&mut self, carried: Vec<Item>) {
        let frame = self.state.frames.last_mut().expect("a loop's block is being walked");
        let Exit::Repeat(repeat) = &frame.exit else { unreachable!("only loops have iterations") };
        frame.next = 0;
        let (ties, body) = (repeat.ties, frame.body.clone());
        let mut items = Vec::with_capacity(body.inputs.len());
        if ties.first_parameter == 2 {
            let number = Tensor::from_slice(&[], &[repeat.done]);
            let go = Tensor::from_bools(&[], &[true]);
            items.extend([number, go].map(|tensor| Item::Tensor(Val::known(None, tensor))));
        }
        items.extend(carried);
        let at = repeat.done as usize;
        items.extend(repeat.slices.iter().map(|slices| Item::Tensor(slices[at].clone())));
        for (&id, item) in body.inputs.iter().zip(items) {
            self.define(id, item);
        }
    }

    /// Takes what an iteration gave, and goes on to the next one or leaves the loop.
    fn end_iteration(&mut self) -> Result<(), Stop> {
        let frame = self.state.frames.last().expect("a loop's block is being walked");
        let Exit::Repeat(repeat) = &frame.exit else { unreachable!("only loops have iterations") };
        let (op, ties, body) = (repeat.op.clone(), repeat.ties, frame.body.clone());
        let results: Vec<Option<Item>> = body.outputs.iter().map(|&v| Some(self.get(v))).collect();
        let at = |i: usize| format!("result {i} of iteration {}", repeat.done);
        let go = match ties.first_result {
            0 => true,
            _ => match contents(&results, 0) {
                Ok(flag) => flag.map_err(|why| op.error(&results, format!("{}: {why}", at(0))))?,
                Err(Unknown) => return Err(Stop::Suspend(Wants::Contents(body.outputs[0]))),
            }
            .ne(&0),
        };
        let first = ties.first_result + ties.carried;
        let mut stacked = Vec::with_capacity(ties.stacked);
        for (i, item) in results.iter().enumerate().skip(first) {
            match item {
                Some(Item::Tensor(val)) => stacked.push(val.clone()),
                Some(other) => {
                    let why = format!("{} is {other}, expected a tensor", at(i));
                    return Err(op.error(&results, why).into());
                }
                None => unreachable!("every result of a block is there"),
            }
        }
        let carried = results.into_iter().flatten().skip(ties.first_result).take(ties.carried);
        let carried = carried.collect();
        let frame = self.state.frames.last_mut().expect("a loop's block is being walked");
        let Exit::Repeat(repeat) = &mut frame.exit else { unreachable!("as above") };
        for (list, val) in repeat.stacked.iter_mut().zip(stacked) {
            list.as_mut().into_iter().for_each(|list| list.push(val.clone()));
        }
        repeat.done += 1;
        if go && repeat.done < repeat.trips {
            self.begin_iteration(carried);
            return match self.builder.len() >= LONGEST_SEGMENT {
                true => Err(Stop::Suspend(Wants::Turn)),
                false => Ok(()),
            };
        }
        let frame = self.state.frames.pop().expect("a loop's block is being walked");
        let Exit::Repeat(repeat) = frame.exit else { unreachable!("as above") };
        Ok(self.end_loop(&repeat, carried)?)
    }

    /// Gives the node's results: what is carried, and what is stacked.
    fn end_loop(&mut self, repeat: &Repeat, carried: Vec<Item>) -> Result<(), RunError> {
        let op = &repeat.op;
        let carried_count = repeat.ties.carried;
        for (i, list) in repeat.stacked.iter().enumerate() {
            let Some(list) = list else { continue };
            let val = match list.is_empty() {
                true => nothing(op, i)?,
                false => self.stack(op, i, list)?,
            };
            self.bind(op, carried_count + i, Item::Tensor(val));
        }
        for (i, item) in carried.into_iter().enumerate() {
            self.bind(op, i, item);
        }
        Ok(())
    }

    /// What the iterations gave, along a new axis.
    fn stack(&mut self, op: &Arc<Op>, i: usize, list: &[Val]) -> Result<Val, RunError> {
        let first = &list[0].meta;
        if let Some(at) = list.iter().position(|val| val.meta != *first) {
            let found = &list[at].meta;
            let why = format!(
                "iteration {at} gives {}{:?} to be stacked as further result {i}, iteration 0 gave {}{:?}",
                found.dtype, found.shape, first.dtype, first.shape
            );
            return Err(op.error(&self.operands(op), why));
        }
        let along = stacking_axis(op, i, first.shape.len())?;
        let mut vals = list.to_vec();
        if op.def.name == "Scan" && self::list(op, "scan_output_directions", i) == 1 {
            vals.reverse();
        }
        self.join(op, vals, along, true)
    }

    /// The tensor that is operand `i`.
    pub fn tensor(&self, op: &Op, operands: &[Option<Item>], i: usize) -> Result<Val, RunError> {
        match operands.get(i) {
            Some(Some(Item::Tensor(val))) => Ok(val.clone()),
            Some(Some(other)) => {
                Err(op.error(operands, format!("operand {i} is {other}, expected a tensor")))
            }
            _ => Err(op.error(operands, format!("operand {i} is missing"))),
        }
    }

    /// The sequence that is operand `i`.
    pub fn sequence(
        &self,
        op: &Op,
        operands: &[Option<Item>],
        i: usize,
    ) -> Result<Sequence, RunError> {
        match operands.get(i) {
            Some(Some(Item::Sequence(sequence))) => Ok(sequence.clone()),
            Some(Some(other)) => {
                Err(op.error(operands, format!("operand {i} is {other}, expected a sequence")))
            }
            _ => Err(op.error(operands, format!("operand {i} is missing"))),
        }
    }

    /// The integer that is operand `i`, for which the walk waits.
    pub fn number(&self, op: &Op, operands: &[Option<Item>], i: usize) -> Result<i64, Stop> {
        match contents(operands, i) {
            Ok(number) => {
                Ok(number.map_err(|why| op.error(operands, format!("operand {i}: {why}")))?)
            }
            Err(Unknown) => Err(Stop::contents(op, i)),
        }
    }

    /// The bool that is operand `i`, for which the walk waits.
    fn flag(&self, op: &Op, operands: &[Option<Item>], i: usize) -> Result<bool, Stop> {
        Ok(self.number(op, operands, i)? != 0)
    }
}

/// The contents of a value are not known yet.
struct Unknown;

/// The one element of an item that decides, or what is wrong with it.
fn contents(items: &[Option<Item>], i: usize) -> Result<Result<i64, String>, Unknown> {
    let val = match items.get(i) {
        Some(Some(Item::Tensor(val))) if val.meta.len() == 1 && !val.meta.dtype.is_float() => val,
        Some(Some(other)) => {
            return Ok(Err(format!("{other}, expected one bool or integer")));
        }
        _ => return Ok(Err("it is missing".to_owned())),
    };
    let Some(tensor) = &val.value else { return Err(Unknown) };
    Ok(match tensor.to_i64s().as_deref() {
        Some([number]) => Ok(*number),
        _ => Err(format!("{tensor:?}, expected one bool or integer")),
    })
}

/// An element of an attribute that lists integers, 0 where it does not.
fn list(op: &Op, name: &str, i: usize) -> i64 {
    op.attrs.ints(name).and_then(|list| list.get(i)).copied().unwrap_or(0)
}

/// The axis along which further result `i` is stacked, where an element has so many axes.
fn stacking_axis(op: &Op, i: usize, rank: usize) -> Result<usize, RunError> {
    let along = if op.def.name == "Scan" { list(op, "scan_output_axes", i) } else { 0 };
    axis(along, rank + 1).map_err(|why| op.error(&[], format!("further result {i}: {why}")))
}

/// What a loop without iterations stacks.
fn nothing(op: &Op, i: usize) -> Result<Val, RunError> {
    let types = op.attrs.ints("empty_types").and_then(empty_types);
    let found = types.and_then(|types| types.get(i).cloned());
    let found = found.ok_or_else(|| {
        let why = "it has no iteration, and its attribute empty_types does not say what is stacked";
        op.error(&[], format!("further result {i}: {why}"))
    })?;
    let mut shape = found.shape;
    shape.insert(stacking_axis(op, i, shape.len())?, 0);
    let none = Tensor::try_zeros(found.dtype, &shape);
    let none = none.map_err(|why| op.error(&[], format!("further result {i}: {why}")))?;
    Ok(Val::known(None, none))
}
