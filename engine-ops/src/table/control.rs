//! How Loop and Scan tie their block to their operands and results, and how they describe what they stack. The planner,
//! the analysis of demands and the builder's inference follow the same ties.

use crate::OpError;
use crate::onnx_dtype;
use engine_format::{Attr, Attrs, Block, DType, Node};

/// Ties of a Loop or Scan.
///
/// Carried value `i` begins as operand `first_operand + i`, is parameter `first_parameter + i` and result `first_result + i` of the
/// block, and ends as result `i` of the node. The operands, parameters and results after the carried ones are, in order, what
/// Scan cuts, its slices, and what is stacked, which is also in order of the node's further results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ties {
    /// Operands before the carried values: 2 of a Loop.
    pub first_operand: usize,
    /// Parameters of the block before the carried values: 2 of a Loop.
    pub first_parameter: usize,
    /// Results of the block before the carried values: the condition of a Loop.
    pub first_result: usize,
    /// Number of carried values.
    pub carried: usize,
    /// Number of operands that Scan cuts into slices.
    pub cut: usize,
    /// Number of results that are stacked.
    pub stacked: usize,
}

/// Where the values of a block are read from: anything that has parameters and results.
#[derive(Clone, Copy, Debug)]
pub struct Arity {
    /// Number of parameters.
    pub parameters: usize,
    /// Number of results.
    pub results: usize,
}

impl From<&Block> for Arity {
    fn from(block: &Block) -> Self {
        Self { parameters: block.inputs.len(), results: block.outputs.len() }
    }
}

impl Ties {
    /// The ties of operator `op` with so many operands and results and a block of this arity.
    ///
    /// # Errors
    /// If `op` has no ties, or the numbers do not fit one another.
    pub fn of(
        op: &str,
        attrs: &Attrs,
        operands: usize,
        results: usize,
        body: Arity,
    ) -> Result<Self, OpError> {
        let (first, first_result, cut) = match op {
            "Loop" => (2, 1, 0),
            "Scan" => match attrs.get("num_scan_inputs") {
                Some(Attr::Int(n)) => (0, 0, *n),
                _ => return Err(OpError::new("attribute \"num_scan_inputs\" is missing")),
            },
            _ => return Err(OpError::new(format!("{op} does not repeat a block"))),
        };
        let given = operands.saturating_sub(first);
        let cut = usize::try_from(cut).ok().filter(|&n| n <= given);
        let cut = cut.ok_or_else(|| {
            OpError::new(format!("num_scan_inputs is not a number of its {given} operands"))
        })?;
        let carried = given - cut;
        if body.parameters != first + given {
            let (found, expected) = (body.parameters, first + given);
            return Err(OpError::new(format!(
                "its body takes {found} values, expected {expected}"
            )));
        }
        let Some(stacked) = body.results.checked_sub(first_result + carried) else {
            let (found, expected) = (body.results, first_result + carried);
            return Err(OpError::new(format!(
                "its body gives {found} values, expected {expected} at least"
            )));
        };
        if results > carried + stacked {
            let gives = carried + stacked;
            return Err(OpError::new(format!("{results} results are asked for, it gives {gives}")));
        }
        Ok(Self {
            first_operand: first,
            first_parameter: first,
            first_result,
            carried,
            cut,
            stacked,
        })
    }

    /// The ties of a node and its block, if it is a Loop or Scan in order.
    pub fn of_node(node: &Node) -> Option<(Self, &Block)> {
        let Some(Attr::Block(body)) = node.attrs.get("body") else { return None };
        let (operands, results) = (node.inputs.len(), node.outputs.len());
        let ties = Self::of(&node.op, &node.attrs, operands, results, body.into()).ok()?;
        Some((ties, body))
    }
}

/// Type of one element of what is stacked, sizes that are not known being 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyType {
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Vec<usize>,
}

/// The attribute `empty_types` as types. `None` if it says something else than it may.
pub fn empty_types(numbers: &[i64]) -> Option<Vec<EmptyType>> {
    let mut types = Vec::new();
    let mut rest = numbers;
    while let [dtype, rank, more @ ..] = rest {
        let rank = usize::try_from(*rank).ok()?;
        let sizes = more.get(..rank)?;
        let shape = sizes.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<_>>()?;
        types.push(EmptyType { dtype: onnx_dtype(*dtype).ok()?, shape });
        rest = &more[rank..];
    }
    rest.is_empty().then_some(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_nothing_are_read_to_the_end_or_not_at_all() {
        let types = empty_types(&[1, 2, 3, 0, 9, 0]).unwrap();
        let f32s = EmptyType { dtype: DType::F32, shape: vec![3, 0] };
        assert_eq!(types, [f32s, EmptyType { dtype: DType::Bool, shape: vec![] }]);
        for wrong in [&[1, 2, 3][..], &[1], &[99, 0], &[1, -1], &[1, 1, -5]] {
            assert_eq!(empty_types(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_told() {
        let body = |parameters, results| Arity { parameters, results };
        let attrs = |n| Attrs::from([("num_scan_inputs".to_owned(), Attr::Int(n))]);
        let ties = Ties::of("Loop", &Attrs::new(), 3, 2, body(3, 3)).unwrap();
        assert_eq!((ties.carried, ties.stacked, ties.first_result), (1, 1, 1));
        let ties = Ties::of("Scan", &attrs(2), 3, 1, body(3, 3)).unwrap();
        assert_eq!((ties.carried, ties.cut, ties.stacked), (1, 2, 2));
        // Omitted operands at the end are not stored.
        assert!(Ties::of("Loop", &Attrs::new(), 0, 1, body(2, 2)).is_ok());
        for (op, n, operands, results, body) in [
            ("Loop", 0, 3, 1, body(2, 2)),
            ("Loop", 0, 3, 1, body(3, 1)),
            ("Loop", 0, 3, 3, body(3, 3)),
            ("Scan", 4, 3, 1, body(3, 3)),
            ("Scan", -1, 3, 1, body(3, 3)),
            ("If", 0, 1, 1, body(0, 1)),
        ] {
            assert!(Ties::of(op, &attrs(n), operands, results, body).is_err(), "{op} {operands}");
        }
    }
}
