//! Keys and values that came before the queries.

use super::attention::Heads;
use crate::import::adapters::attention::iota;
use crate::import::call::Call;
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;

/// How keys and values that came before are kept, (batch, heads, length, size): just them, or at the front of a buffer that has room for
/// what is new.
pub(super) struct Cache {
    /// How many places of a buffer are used, as a vector of one element.
    used: Option<ValueId>,
}

impl Cache {
    /// `used` is an integer in a tensor of one element, absent for a cache without room.
    pub(super) fn new(call: &mut Call<'_>, used: Option<ValueId>) -> Result<Self, OpError> {
        let vector = |used| {
            let (used, one) = (call.cast(used, DType::I64)?, call.vector(&[1]));
            call.emit("Reshape", [used, one], vec![])
        };
        Ok(Self { used: used.map(vector).transpose()? })
    }

    /// How many keys come before the first query, as a vector of one element.
    pub(super) fn length(&self, call: &mut Call<'_>, past: ValueId) -> Result<ValueId, OpError> {
        match self.used {
            Some(used) => Ok(used),
            None => call.sizes(past, 2, 3),
        }
    }

    /// What is new behind what came before; what is kept for the next step is results 1 and 2.
    pub(super) fn join(
        &self,
        call: &mut Call<'_>,
        new: Heads,
        past: [ValueId; 2],
    ) -> Result<Heads, OpError> {
        let (all, [k, v]) = self.joined(call, new, past)?;
        call.give(1, k);
        call.give(2, v);
        Ok(all)
    }

    /// What is new behind what came before, and the keys and values that are kept for the next step.
    pub(super) fn joined(
        &self,
        call: &mut Call<'_>,
        new: Heads,
        [past_k, past_v]: [ValueId; 2],
    ) -> Result<(Heads, [ValueId; 2]), OpError> {
        let Heads { q, k, v } = new;
        let ((k, kept_k), (v, kept_v)) = (self.put(call, past_k, k)?, self.put(call, past_v, v)?);
        Ok((Heads { q, k, v }, [kept_k, kept_v]))
    }

    /// Of keys or values all that a query may see, and what is kept.
    fn put(
        &self,
        call: &mut Call<'_>,
        past: ValueId,
        new: ValueId,
    ) -> Result<(ValueId, ValueId), OpError> {
        let Some(used) = self.used else {
            let all = call.emit("Concat", [past, new], vec![("axis", Attr::Int(2))])?;
            return Ok((all, all));
        };
        let (batch, count) = (call.sizes(new, 0, 1)?, call.sizes(new, 2, 3)?);
        let begin = call.emit("Expand", [used, batch], vec![])?;
        let axis = vec![("axis", Attr::Int(2))];
        let kept = call.emit("TensorScatter", [past, new, begin], axis)?;
        let end = call.emit("Add", [used, count], vec![])?;
        let (zero, axis) = (call.vector(&[0]), call.vector(&[2]));
        Ok((call.emit("Slice", [kept, zero, end, axis], vec![])?, kept))
    }
}

/// Which text of the batch holds each key and value of each text: a beam that was continued from another has its past there.
pub(super) struct Beams {
    /// (batch, 1, length, 1)
    from: ValueId,
}

impl Beams {
    /// `indirection` says for (batch, beam, place) in which beam the token at that place was; the places before `past` are looked
    /// up.
    pub(super) fn new(
        call: &mut Call<'_>,
        indirection: ValueId,
        past: ValueId,
        q: ValueId,
    ) -> Result<Self, OpError> {
        let (width, room) = (call.sizes(indirection, 1, 2)?, call.sizes(indirection, 2, 3)?);
        let rows = call.vector(&[-1]);
        let flat = call.emit("Concat", [rows, room], vec![("axis", Attr::Int(0))])?;
        let beams = call.cast(indirection, DType::I64)?;
        let beams = call.emit("Reshape", [beams, flat], vec![])?;
        let (zero, axis) = (call.vector(&[0]), call.vector(&[1]));
        let beams = call.emit("Slice", [beams, zero, past, axis], vec![])?;
        let batch = call.sizes(q, 0, 1)?;
        let texts = iota(call, batch)?;
        let group = call.emit("Div", [texts, width], vec![])?;
        let first = call.emit("Mul", [group, width], vec![])?;
        let first = call.emit("Unsqueeze", [first, axis], vec![])?;
        let before = call.emit("Add", [beams, first], vec![])?;
        let count = call.sizes(q, 2, 3)?;
        let new = call.emit("Concat", [batch, count], vec![("axis", Attr::Int(0))])?;
        let own = call.emit("Unsqueeze", [texts, axis], vec![])?;
        let own = call.emit("Expand", [own, new], vec![])?;
        let from = call.emit("Concat", [before, own], vec![("axis", Attr::Int(1))])?;
        let axes = call.vector(&[1, 3]);
        Ok(Self { from: call.emit("Unsqueeze", [from, axes], vec![])? })
    }

    /// Keys or values of each text from where they are.
    pub(super) fn pick(&self, call: &mut Call<'_>, all: ValueId) -> Result<ValueId, OpError> {
        let shape = call.emit("Shape", [all], vec![])?;
        let from = call.emit("Expand", [self.from, shape], vec![])?;
        call.emit("GatherElements", [all, from], vec![("axis", Attr::Int(0))])
    }
}
