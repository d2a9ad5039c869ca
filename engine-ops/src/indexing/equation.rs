//! Equations of Einsum: which axes of operands are multiplied, summed and kept.

use crate::OpError;
use std::collections::BTreeMap;

/// An axis: a letter of the equation, or a position, counted from the last, of those that `...` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// One of the axes that `...` stands for; 0 is the last.
    Broadcast(usize),
    /// A letter.
    Letter(char),
}

/// The labels of every operand's axes and of the result's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equation {
    /// Of each operand's axes.
    pub operands: Vec<Vec<Label>>,
    /// Of the result's axes.
    pub result: Vec<Label>,
}

impl Equation {
    /// Reads an equation for operands of these ranks. An error says what in it does not fit.
    pub fn new(text: &str, ranks: &[usize]) -> Result<Self, OpError> {
        let wrong = |why: String| OpError::new(format!("equation {text:?}: {why}"));
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match compact.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (compact.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            let (terms, operands) = (terms.len(), ranks.len());
            return Err(wrong(format!("{terms} terms for {operands} operands")));
        }
        let operands: Vec<Vec<Label>> = terms
            .iter()
            .zip(ranks)
            .map(|(term, &rank)| {
                let letters = term.replace("...", "").chars().count();
                let open =
                    rank.checked_sub(letters).filter(|&open| open == 0 || term.contains("..."));
                let open = open
                    .ok_or_else(|| wrong(format!("term {term:?} for an operand of rank {rank}")))?;
                Self::labels(term, open).map_err(wrong)
            })
            .collect::<Result<_, _>>()?;
        let widest = operands.iter().flatten().filter(|l| matches!(l, Label::Broadcast(_)));
        let open =
            widest.map(|l| if let Label::Broadcast(i) = l { i + 1 } else { 0 }).max().unwrap_or(0);
        let result = match right {
            Some(term) => Self::labels(term, open).map_err(wrong)?,
            // Broadcast axes, then the letters that occur once, in order.
            None => {
                let mut count = BTreeMap::<Label, usize>::new();
                operands.iter().flatten().for_each(|&label| *count.entry(label).or_default() += 1);
                let alone = |(label, n): (Label, usize)| {
                    matches!(label, Label::Letter(_))
                        .then_some(())
                        .filter(|()| n == 1)
                        .map(|()| label)
                };
                let open = (0..open).rev().map(Label::Broadcast);
                open.chain(count.into_iter().filter_map(alone)).collect()
            }
        };
        if let Some(unknown) = result.iter().find(|l| !operands.iter().flatten().any(|o| o == *l)) {
            let Label::Letter(letter) = unknown else {
                return Err(wrong("`...` in the result only".into()));
            };
            return Err(wrong(format!("{letter:?} in the result only")));
        }
        Ok(Self { operands, result })
    }

    fn labels(term: &str, open: usize) -> Result<Vec<Label>, String> {
        let mut out = Vec::new();
        let (before, after) = term.split_once("...").map_or((term, None), |(b, a)| (b, Some(a)));
        let letters = |part: &str, out: &mut Vec<Label>| {
            for letter in part.chars() {
                if !letter.is_ascii_alphabetic() {
                    return Err(format!("{letter:?} is no letter"));
                }
                out.push(Label::Letter(letter));
            }
            Ok(())
        };
        letters(before, &mut out)?;
        if let Some(after) = after {
            out.extend((0..open).rev().map(Label::Broadcast));
            letters(after, &mut out)?;
        }
        Ok(out)
    }
}
