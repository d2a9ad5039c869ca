//! Rotary embeddings: positions as angles by which pairs of elements are turned.

use super::attention::{iota, joined_heads, split_heads};
use super::microsoft::DOMAIN;
use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("RotaryEmbedding", ALL, rotary_embedding),
    Adapter { domain: DOMAIN, ..row("RotaryEmbedding", (1, 1), with_positions) },
];

/// x, cosines, sines, and positions if these are tables to look up.
fn rotary_embedding(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, positions) = (call.input(0)?, call.opt(3));
    let heads = call.int("num_heads", 0)?;
    let flat = call.rank(x)? == 3;
    let split = if flat { split_heads(call, x, heads)? } else { x };
    let angles = Angles::read(call, [1, 2], positions)?;
    let y = angles.turn(call, split)?;
    if flat { joined_heads(call, y) } else { call.finish("Identity", [y], vec![]) }
}

/// ONNX Runtime's form: x, positions (one number is that of the first element), tables of cosines and sines.
fn with_positions(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, mut positions) = (call.input(0)?, call.input(1)?);
    if call.float("scale", 1.0)? != 1.0 || call.int("is_packed_batching", 0)? != 0 {
        return Err(OpError::new(
            "scale is not 1 or is_packed_batching is not 0: neither is taken",
        ));
    }
    let flat = call.rank(x)? == 3;
    let split = match (flat, call.int("num_heads", 0)?) {
        (false, _) => x,
        (true, 0) => {
            // Without a number of heads the tables say how large one is.
            let half = call.facts(call.input(2)?).shape.as_ref().and_then(|s| s.last()?.known());
            let half = half.ok_or_else(|| OpError::new("the width of cos_cache must be known"))?;
            let shape = call.vector(&[0, 0, -1, 2 * half]);
            let apart = call.emit("Reshape", [x, shape], vec![])?;
            super::attention::swapped(call, apart)?
        }
        (true, heads) => split_heads(call, x, heads)?,
    };
    if call.rank(positions)? == 1 {
        let count = call.sizes(split, 2, 3)?;
        let steps = iota(call, count)?;
        let first = call.cast(positions, DType::I64)?;
        let line = call.emit("Add", [steps, first], vec![])?;
        let axis = call.vector(&[0]);
        positions = call.emit("Unsqueeze", [line, axis], vec![])?;
    }
    let angles = Angles::read(call, [2, 3], Some(positions))?;
    let y = angles.turn(call, split)?;
    if flat { joined_heads(call, y) } else { call.finish("Identity", [y], vec![]) }
}

/// Cosines and sines as (batch, 1, length, half a head), and which elements are pairs.
pub(super) struct Angles {
    cos: ValueId,
    sin: ValueId,
    interleaved: bool,
    /// Elements of a head that are turned, 0 for all.
    turned: i64,
}

impl Angles {
    /// Reads the tables at two operands, looked up by position if there are positions, and the attributes `interleaved` (or
    /// `rotary_interleaved`) and `rotary_embedding_dim`.
    pub(super) fn read(
        call: &mut Call<'_>,
        tables: [usize; 2],
        positions: Option<ValueId>,
    ) -> Result<Self, OpError> {
        let [cos, sin] = [call.input(tables[0])?, call.input(tables[1])?];
        let interleaved =
            call.int("interleaved", 0)? != 0 || call.int("rotary_interleaved", 0)? != 0;
        let turned = call.int("rotary_embedding_dim", 0)?;
        let (cos, sin) = (rows(call, cos, positions)?, rows(call, sin, positions)?);
        Ok(Self { cos, sin, interleaved, turned })
    }

    /// The angles of the queries `q` (batch, heads, length, size), of which `past` come before the first: pairs of the first
    /// `turned` elements of a head, half of these apart, are turned by their place times 10000 to the power of `−2 · pair / turned`.
    pub(super) fn of_places(
        call: &mut Call<'_>,
        q: ValueId,
        past: Option<ValueId>,
        turned: i64,
    ) -> Result<Self, OpError> {
        let half = usize::try_from(turned / 2).unwrap_or(0);
        let rate = |pair: usize| 10000f64.powf(-2.0 * pair as f64 / turned as f64) as f32;
        let rates: Vec<f32> = (0..half).map(rate).collect();
        let rates = call.literal(Tensor::from_slice(&[half], &rates));
        let count = call.sizes(q, 2, 3)?;
        let mut places = iota(call, count)?;
        if let Some(past) = past {
            places = call.emit("Add", [places, past], vec![])?;
        }
        let places = call.cast(places, DType::F32)?;
        let (behind, front) = (call.vector(&[1]), call.vector(&[0, 1]));
        let places = call.emit("Unsqueeze", [places, behind], vec![])?;
        let angles = call.emit("Mul", [places, rates], vec![])?;
        let angles = call.emit("Unsqueeze", [angles, front], vec![])?;
        let dtype = call.facts(q).dtype;
        let (cos, sin) = (call.emit("Cos", [angles], vec![])?, call.emit("Sin", [angles], vec![])?);
        let (cos, sin) = (call.cast(cos, dtype)?, call.cast(sin, dtype)?);
        Ok(Self { cos, sin, interleaved: false, turned })
    }

    /// Turns pairs of elements of (batch, heads, length, size): neighbours if interleaved, else those half a head apart.
    pub(super) fn turn(&self, call: &mut Call<'_>, x: ValueId) -> Result<ValueId, OpError> {
        let Self { cos, sin, interleaved, turned } = *self;
        let (part, rest) = match turned {
            0 => (x, None),
            n => (slice(call, x, 0, n)?, Some(slice(call, x, n, i64::MAX)?)),
        };
        let dtype = call.facts(part).dtype;
        let [x, cos, sin] = [part, cos, sin].map(|id| call.cast(id, DType::F32));
        let pairs = vec![("interleaved", Attr::Int(interleaved.into()))];
        let turned = call.emit("Rotary", [x?, cos?, sin?], pairs)?;
        let mut y = call.cast(turned, dtype)?;
        if let Some(rest) = rest {
            y = call.emit("Concat", [y, rest], vec![("axis", Attr::Int(-1))])?;
        }
        Ok(y)
    }
}

/// Rows of a table for positions (batch, length), with an axis for heads.
fn rows(
    call: &mut Call<'_>,
    table: ValueId,
    positions: Option<ValueId>,
) -> Result<ValueId, OpError> {
    let rows = match positions {
        Some(positions) => call.emit("Gather", [table, positions], vec![("axis", Attr::Int(0))])?,
        None => table,
    };
    let axis = call.vector(&[1]);
    call.emit("Unsqueeze", [rows, axis], vec![])
}

/// Elements `from..to` of the last of four axes.
fn slice(call: &mut Call<'_>, x: ValueId, from: i64, to: i64) -> Result<ValueId, OpError> {
    let [from, to, axis] = [from, to, 3].map(|n| call.vector(&[n]));
    call.emit("Slice", [x, from, to, axis], vec![])
}
