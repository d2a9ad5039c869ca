//! Initializers that are put together from rows of tensors: gates in another order, layers stacked, tables read at constant
//! indices, joins with constant parts.
//!
//! The initializer is cut into rows, in whole trailing axes, and every row is looked up among those of the checkpoint's tensors.
//! What comes out is a list of runs, each a range of rows of one tensor or a constant. It is then calculated as a refit would,
//! and compared bit for bit.

use super::expression::Expression;
use super::index::Index;
use super::pair::{Decision, Stands};
use super::recipe::{Recipe, inverse, is_identity};
use super::search::{is_plain, is_weak, orders};
use super::{Initializer, open, unclaimed};
use crate::error::BuildError;
use engine_format::{DType, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Runs beyond which an initializer is not joined of ranges.
const MOST_RUNS: usize = 64;

/// Runs of one table beyond which they are indices.
const FEW_RUNS: usize = 4;

/// Single elements of a table beyond which one of them proves nothing: any number may be among so many.
const MOST_ELEMENTS: usize = 1 << 16;

/// Looks for what was found in no simpler way: first in tensors that nothing is made of yet, then in all.
pub(super) fn find(
    initializers: &[Initializer],
    decisions: &mut [Decision],
    index: &Index<'_>,
) -> Result<(), BuildError> {
    for all in [false, true] {
        let names: Vec<&str> = match all {
            true => index.names().collect(),
            false => unclaimed(index, decisions).map(|(name, _)| name).collect(),
        };
        let mut tables = Tables {
            index,
            names: names.into_iter().map(str::to_owned).collect(),
            made: BTreeMap::new(),
        };
        for i in open(decisions) {
            let tensor = &initializers[i].tensor;
            if tensor.shape().is_empty() || tensor.dtype() == DType::String || is_weak(tensor) {
                continue;
            }
            if let Some(recipe) = tables.recipe(tensor)? {
                decisions[i] = Decision::Stands(Stands::everywhere(recipe));
            }
        }
    }
    Ok(())
}

/// Where a row lies: the table and the row in it.
type Spot = (usize, usize);

/// A tensor of the checkpoint as rows, its axes possibly exchanged.
struct Table {
    name: String,
    perm: Vec<usize>,
    /// Number of rows.
    rows: usize,
}

/// Rows of one length, by digest.
#[derive(Default)]
struct Rows {
    tables: Vec<Table>,
    spots: HashMap<u64, Vec<Spot>>,
}

struct Tables<'a> {
    index: &'a Index<'a>,
    names: Vec<String>,
    /// By element type and elements of a row.
    made: BTreeMap<(DType, usize), Rows>,
}

fn digest(row: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

/// The sizes of rows into which whole trailing axes cut a tensor, longest first.
fn cuts(shape: &[usize]) -> Vec<usize> {
    let mut cuts: Vec<usize> =
        (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
    cuts.dedup();
    cuts
}

impl Rows {
    fn of(
        index: &Index<'_>,
        names: &[String],
        dtype: DType,
        length: usize,
    ) -> Result<Self, BuildError> {
        let mut rows = Self::default();
        for name in names {
            let Some(info) = index.info(name).filter(|info| info.dtype == dtype) else { continue };
            // A matrix may be read column by column.
            let perms = orders(&info.shape).into_iter().filter(|perm| {
                let long = info.shape.iter().filter(|&&n| n != 1).count();
                (is_identity(perm) || long == 2) && length > 0
            });
            let fitting: Vec<Vec<usize>> = perms
                .filter(|perm| {
                    let shape: Vec<usize> = perm.iter().map(|&axis| info.shape[axis]).collect();
                    let says = length > 1
                        || (is_identity(perm)
                            && info.shape.iter().product::<usize>() <= MOST_ELEMENTS);
                    cuts(&shape).contains(&length) && says
                })
                .collect();
            if fitting.is_empty() {
                continue;
            }
            let tensor = index.tensor(name)?;
            for perm in fitting {
                let form = tensor.permuted(&perm);
                let table = rows.tables.len();
                let bytes = length * dtype.width();
                for (row, bytes) in form.bytes().chunks_exact(bytes).enumerate() {
                    rows.spots.entry(digest(bytes)).or_default().push((table, row));
                }
                rows.tables.push(Table { name: name.clone(), perm, rows: tensor.len() / length });
            }
        }
        Ok(rows)
    }

    fn spots(&self, row: &[u8]) -> &[Spot] {
        self.spots.get(&digest(row)).map_or(&[], Vec::as_slice)
    }
}

/// A part of an initializer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Run {
    /// Rows of a table from one on.
    From { table: usize, row: usize, length: usize },
    /// Rows that hold one value, the one of this row of the initializer.
    Constant { at: usize, length: usize },
}

impl Tables<'_> {
    fn rows(&mut self, dtype: DType, length: usize) -> Result<&Rows, BuildError> {
        use std::collections::btree_map::Entry;
        match self.made.entry((dtype, length)) {
            Entry::Occupied(made) => Ok(made.into_mut()),
            Entry::Vacant(free) => {
                Ok(free.insert(Rows::of(self.index, &self.names, dtype, length)?))
            }
        }
    }

    /// Long rows come first: they say most.
    fn recipe(&mut self, tensor: &Tensor) -> Result<Option<Recipe>, BuildError> {
        let index = self.index;
        let cut = |order: Vec<usize>| {
            let form = tensor.permuted(&order);
            let lengths = cuts(form.shape());
            lengths.into_iter().map(move |length| (length, order.clone(), form.clone()))
        };
        let mut forms: Vec<_> = orders(tensor.shape()).into_iter().flat_map(cut).collect();
        forms.retain(|(length, ..)| *length > 0);
        forms.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
        for (length, order, form) in forms {
            let rows = self.rows(tensor.dtype(), length)?;
            let Some((label, mut expression)) = assembled(rows, &form, length) else { continue };
            expression = expression.reshaped(form.shape());
            if !is_identity(&order) {
                expression = expression.permuted(&inverse(&order));
            }
            if expression.evaluate(&mut |name| index.tensor(name))?.as_ref() == Some(tensor) {
                return Ok(Some(Recipe::computed(label, expression)));
            }
        }
        Ok(None)
    }
}

/// The rows of `form`, put together from those of the tables.
fn assembled(rows: &Rows, form: &Tensor, length: usize) -> Option<(String, Expression)> {
    let runs = runs(rows, form, length)?;
    let part = |run: &Run| {
        let (start, taken) = match *run {
            Run::From { table, row, length } => (Some((table, row)), length),
            Run::Constant { length, .. } => (None, length),
        };
        (start, taken)
    };
    let mut at = 0;
    let mut strong = runs.len() <= MOST_RUNS;
    for run in &runs {
        let (start, taken) = part(run);
        strong &= start.is_none() || !is_weak(&slice(form, length, at, taken));
        at += taken;
    }
    let constants = runs.iter().filter(|run| matches!(run, Run::Constant { .. })).count();
    if 2 * constants > runs.len() + 1 || constants == runs.len() {
        return None;
    }
    let table = if runs.len() > FEW_RUNS { gathered(rows, form, &runs, length) } else { None };
    match (table, strong) {
        (None, true) => Some(joined(rows, form, length, &runs)),
        (None, false) => gathered(rows, form, &runs, length),
        (table, _) => table,
    }
}

/// Rows `at` to `at + taken` of `form`.
fn slice(form: &Tensor, length: usize, at: usize, taken: usize) -> Tensor {
    let all = form.len() / length;
    let cut = form.reshaped(&[all, length]).expect("rows of the tensor's own elements");
    cut.range(0, at..at + taken)
}

/// The runs of rows; `None` if a row is nowhere, or in several places that nothing tells apart.
fn runs(rows: &Rows, form: &Tensor, length: usize) -> Option<Vec<Run>> {
    let bytes = length * form.dtype().width();
    let cut: Vec<&[u8]> = form.bytes().chunks_exact(bytes).collect();
    let mut runs: Vec<Run> = Vec::new();
    let mut at = 0;
    while at < cut.len() {
        let constant =
            is_plain(&slice(form, length, at, 1)) && uniform(cut[at], form.dtype().width());
        let spots = rows.spots(cut[at]);
        // What holds one plain value is a part of a tensor only where the row before it is too.
        if constant {
            match runs.last_mut() {
                Some(Run::Constant { at: first, length }) if cut[*first] == cut[at] => *length += 1,
                _ => runs.push(Run::Constant { at, length: 1 }),
            }
            at += 1;
            continue;
        }
        let mut longest: Option<(Spot, usize)> = None;
        let mut several = false;
        for &(table, row) in spots {
            let ahead = (0..cut.len() - at).take_while(|&i| {
                row + i < rows.tables[table].rows
                    && rows.spots(cut[at + i]).contains(&(table, row + i))
            });
            let found = ahead.count();
            match longest {
                Some((_, most)) if found < most => {}
                Some((_, most)) if found == most => several = true,
                _ => (longest, several) = (Some(((table, row), found)), false),
            }
        }
        let ((table, mut row), mut found) = longest.filter(|_| !several)?;
        let end = at + found;
        // Plain values in front may have been the tensor's own.
        while let Some(Run::Constant { length, .. }) = runs.last_mut() {
            let before = end - found;
            if row == 0 || !rows.spots(cut[before - 1]).contains(&(table, row - 1)) {
                break;
            }
            (row, found) = (row - 1, found + 1);
            *length -= 1;
            if *length == 0 {
                runs.pop();
            }
        }
        runs.push(Run::From { table, row, length: found });
        at = end;
    }
    Some(runs)
}

fn uniform(row: &[u8], width: usize) -> bool {
    row.chunks_exact(width).all(|element| *element == row[..width])
}

impl Table {
    fn expression(&self, length: usize) -> Expression {
        let mut tensor = Expression::tensor(&self.name);
        if !is_identity(&self.perm) {
            tensor = tensor.permuted(&self.perm);
        }
        tensor.reshaped(&[self.rows, length])
    }
}

/// The runs one after another.
fn joined(rows: &Rows, form: &Tensor, length: usize, runs: &[Run]) -> (String, Expression) {
    let mut label = Vec::new();
    let parts = runs.iter().map(|run| match *run {
        Run::From { table, row, length: taken } => {
            let table = &rows.tables[table];
            let whole = row == 0 && taken == table.rows;
            label.push(match whole {
                true => table.name.clone(),
                false => format!("{} from {row} to {}", table.name, row + taken),
            });
            let rows = table.expression(length);
            if whole { rows } else { rows.range(0, row, row + taken) }
        }
        Run::Constant { at, length: taken } => {
            label.push("a constant".to_owned());
            Expression::Literal(slice(form, length, at, taken))
        }
    });
    let expression = Expression::joined(parts.collect(), 0);
    let verb = if runs.len() > 1 { " joined" } else { "" };
    (format!("{}{verb}, in rows of {length}", label.join(", ")), expression)
}

/// Rows of one table at constant indices. At least half of the different rows, and more than a few, say enough by themselves that
/// chance is no explanation for finding them in the table.
fn gathered(
    rows: &Rows,
    form: &Tensor,
    runs: &[Run],
    length: usize,
) -> Option<(String, Expression)> {
    const ENOUGH: usize = 3;
    let mut indices = Vec::<i64>::new();
    let mut only = None;
    for run in runs {
        let Run::From { table, row, length } = *run else { return None };
        if *only.get_or_insert(table) != table {
            return None;
        }
        indices.extend((row..row + length).map(|row| row as i64));
    }
    let mut first = BTreeMap::new();
    for (at, row) in indices.iter().enumerate() {
        first.entry(*row).or_insert(at);
    }
    let strong = first.values().filter(|&&at| !is_weak(&slice(form, length, at, 1))).count();
    if 2 * strong < first.len() || (length == 1 && strong < ENOUGH) || strong == 0 {
        return None;
    }
    let table = &rows.tables[only?];
    let indices = Tensor::from_slice(&[indices.len()], &indices);
    Some((
        format!("{} at constant indices", table.name),
        table.expression(length).gathered(indices),
    ))
}
