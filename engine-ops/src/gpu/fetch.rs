//! How tiles of an operand are brought to workgroup memory: which invocation reads which vector of four elements.

/// In which direction four neighbouring elements of an operand are read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Along {
    /// Of one row (column), for four terms.
    Terms,
    /// Of one term, for four rows (columns).
    Side,
}

/// An operand's tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patch<'a> {
    /// What the operand's functions are called.
    pub(crate) name: &'a str,
    /// Where its rows (columns) begin.
    pub(crate) start: &'a str,
    /// How many there are.
    pub(crate) side: usize,
    pub(crate) terms: usize,
    /// Invocations that bring it.
    pub(crate) invocations: usize,
    pub(crate) along: Along,
}

/// A vector of four elements that an invocation brings: WGSL of its value, and of the row (column) and the term of the first.
pub(crate) struct Brought {
    /// Its number among those of the invocation.
    pub(crate) i: usize,
    pub(crate) value: String,
    pub(crate) side: String,
    pub(crate) term: String,
}

/// Lines of a loop over terms that bring an operand to workgroup memory.
#[derive(Default)]
pub(crate) struct Fetch {
    /// Before the loop.
    pub(crate) places: String,
    /// From registers to workgroup memory.
    pub(crate) store: String,
    /// The next terms to registers.
    pub(crate) load: String,
}

impl Fetch {
    /// The lines for a tile whose vectors `store` puts to workgroup memory.
    pub(crate) fn new(tile: Patch<'_>, store: &dyn Fn(&Brought) -> String) -> Self {
        let mut fetch = Self::default();
        let Patch { name, start, side, terms, invocations, along } = tile;
        // Neighbouring invocations read neighbouring vectors.
        let run = match along {
            Along::Terms => terms / 4,
            Along::Side => side / 4,
        };
        let (near, far) = match along {
            Along::Terms => ("k", "s"),
            Along::Side => ("s", "k"),
        };
        line!(fetch.places, "    let {name}_{near} = local % {run}u * 4u;");
        if along == Along::Side {
            line!(fetch.places, "    let {name}_at = {name}_place(at, {start} + {name}_s);");
        }
        for i in 0..side * terms / 4 / invocations {
            let offset = i * (invocations / run);
            line!(fetch.places, "    let {name}_{far}{i} = local / {run}u + {offset}u;");
            let (place, side, term) = match along {
                Along::Terms => {
                    (format!("{name}_at{i}"), format!("{name}_s{i}"), format!("{name}_k"))
                }
                Along::Side => (format!("{name}_at"), format!("{name}_s"), format!("{name}_k{i}")),
            };
            if along == Along::Terms {
                line!(fetch.places, "    let {place} = {name}_place(at, {start} + {side});");
            }
            line!(fetch.places, "    var {name}_v{i} = {name}({place}, first + {term}, end);");
            line!(
                fetch.load,
                "        {name}_v{i} = {name}({place}, k0 + {terms}u + {term}, end);"
            );
            let value = format!("{name}_v{i}");
            fetch.store += &store(&Brought { i, value, side, term });
        }
        fetch
    }
}
