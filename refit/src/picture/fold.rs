//! Blocks that repeat.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

/// What is compared of a node: what it does, and which nodes its operands come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// Number of what it does: operator, attributes, types of weights.
    pub(super) kind: usize,
    /// The nodes of the same program that its operands come from; inputs of the engine are as if they were nodes before the first.
    pub(super) producers: Vec<Option<i64>>,
    /// Path of the node in the model.
    pub(super) path: String,
}

/// A part of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A node.
    Node(usize),
    /// A block that is there several times, the first of them standing for all.
    Repeat {
        /// How often.
        times: usize,
        /// Nodes from the beginning of one to that of the next, all inner blocks unfolded.
        period: usize,
        /// The first.
        body: Vec<Item>,
    },
}

/// The nodes of a range, blocks that repeat one after the other being folded, also inside of one another. Where blocks could be folded
/// in several ways it is the one that leaves out the most nodes.
pub(super) fn fold(nodes: &[Signature], range: Range<usize>) -> Vec<Item> {
    let mut found = runs(nodes, &range);
    found.sort_by_key(|run| (std::cmp::Reverse(run.gain()), run.period, run.start));
    let mut folded = BTreeMap::<usize, Run>::new();
    for run in found {
        let before = folded.range(..run.end()).next_back();
        if before.is_none_or(|(_, before)| before.end() <= run.start) {
            folded.insert(run.start, run);
        }
    }
    let mut items = Vec::new();
    let mut next = range.start;
    for Run { start, slack, period, times } in folded.into_values() {
        let start = aligned(nodes, start..=start + slack, period);
        items.extend((next..start).map(Item::Node));
        items.push(Item::Repeat { times, period, body: fold(nodes, start..start + period) });
        next = start + times * period;
    }
    items.extend((next..range.end).map(Item::Node));
    items
}

/// `times` blocks of `period` nodes, which may begin at `start` or up to `slack` nodes later.
struct Run {
    start: usize,
    slack: usize,
    period: usize,
    times: usize,
}

impl Run {
    /// Of so many nodes, each of which does in the next block what it does in its own.
    fn new(alike: Range<usize>, period: usize) -> Self {
        let times = alike.len() / period + 1;
        Self { start: alike.start, slack: alike.len() % period, period, times }
    }

    /// Nodes that are left out.
    fn gain(&self) -> usize {
        (self.times - 1) * self.period
    }

    fn end(&self) -> usize {
        self.start + self.slack + self.times * self.period
    }
}

/// Nodes that a fold leaves out at least: less is no gain over what it takes to read one.
const LEAST_GAIN: usize = 3;

/// Nodes of a block at most. Beyond it blocks are not looked for, which bounds the time.
const LONGEST: usize = 1024;

/// All blocks that repeat, of all lengths.
fn runs(nodes: &[Signature], range: &Range<usize>) -> Vec<Run> {
    let mut found = Vec::new();
    for period in 1..=(range.len() / 2).min(LONGEST) {
        let mut start = range.start;
        let end = range.end - period;
        for i in range.start..=end {
            if i < end && alike(&nodes[i], &nodes[i + period], period) {
                continue;
            }
            if i - start >= period {
                found.push(Run::new(start..i, period));
            }
            start = i + 1;
        }
    }
    found.retain(|run| run.gain() >= LEAST_GAIN);
    found
}

/// Whether the second node does in the next block what the first does in this one: each operand comes from the same place of the
/// block, or from the same node before all of them.
fn alike(a: &Signature, b: &Signature, period: usize) -> bool {
    a.kind == b.kind
        && a.producers.len() == b.producers.len()
        && a.producers.iter().zip(&b.producers).all(|(a, b)| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => a == b || b - a == period as i64,
            _ => false,
        })
}

/// Where blocks begin that may begin at several nodes: where the paths of a block's nodes have the most in common.
fn aligned(nodes: &[Signature], starts: RangeInclusive<usize>, period: usize) -> usize {
    let common = |start: usize| {
        let mut paths = nodes[start..start + period].iter().map(|node| node.path.as_str());
        let first = paths.next().unwrap_or_default();
        paths.fold(first.len(), |shared, path| {
            let same = first.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
            shared.min(same)
        })
    };
    let first = *starts.start();
    starts.max_by_key(|&start| (common(start), usize::MAX - start)).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of a chain: what each does by its letter.
    fn chain(letters: &str) -> Vec<Signature> {
        let node = |(i, letter): (usize, u8)| Signature {
            kind: letter.into(),
            producers: vec![Some(i as i64 - 1)],
            path: String::new(),
        };
        letters.bytes().enumerate().map(node).collect()
    }

    fn text(items: &[Item], letters: &str) -> String {
        let item = |item: &Item| match item {
            Item::Node(i) => letters[*i..=*i].to_owned(),
            Item::Repeat { times, body, .. } => format!("{times}({})", text(body, letters)),
        };
        items.iter().map(item).collect()
    }

    #[test]
    fn blocks_fold_and_blocks_in_blocks() {
        for (letters, expected) in [
            ("", ""),
            ("abc", "abc"),
            ("abcabc", "2(abc)"),
            ("xabcabcabcy", "x3(abc)y"),
            ("aab", "aab"),
            ("zaaaaab", "z5(a)b"),
            ("aaaabaaaabaaaab", "3(4(a)b)"),
            ("abababxyzxyz", "3(ab)2(xyz)"),
        ] {
            let nodes = chain(letters);
            let items = fold(&nodes, 0..nodes.len());
            let folded = text(&items, letters);
            assert_eq!(folded, expected, "{letters}");
        }
    }

    /// Many small blocks take no longer than few large ones.
    #[test]
    fn thousands_of_blocks_fold() {
        let letters: Vec<String> =
            (0..1000).map(|i| format!("aaaa{}", "bcdefgh".repeat(i % 3))).collect();
        let letters = letters.concat();
        let items = fold(&chain(&letters), 0..letters.len());
        assert!(items.len() < letters.len() / 2, "{}", items.len());
    }

    #[test]
    fn what_is_wired_in_another_way_is_no_repetition() {
        let mut nodes = chain("xabcabcabcabc");
        // The third block reads what is before the second.
        nodes[8].producers = vec![Some(2)];
        let items = fold(&nodes, 0..nodes.len());
        let whole = items.iter().any(|item| matches!(item, Item::Repeat { times: 4, .. }));
        assert!(!whole, "{items:?}");
    }

    #[test]
    fn blocks_begin_where_their_paths_do() {
        // A run "LaaL aaL aaL" may begin with the first L or after it.
        let mut nodes = chain("xLabLabLabL");
        for (i, node) in nodes.iter_mut().enumerate() {
            let layer = i.saturating_sub(2) / 3;
            node.path = if i < 2 { "embed".to_owned() } else { format!("layer.{layer}") };
        }
        let items = fold(&nodes, 0..nodes.len());
        assert_eq!(text(&items, "xLabLabLabL"), "xL3(abL)");
    }
}
