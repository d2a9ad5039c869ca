//! Which of a checkpoint's dictionaries holds the weights.

use super::StateDict;
use super::machine::Dicts;
use super::value::Value;
use std::collections::BTreeMap;

/// Keys under which checkpoints hold the weights of a model, those that prevail first. Averages come last: they are of another model.
const WEIGHTS: [&str; 14] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "params",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema_model",
    "params_ema",
];

/// Parts of keys under which the state of a training is, whose tensors are of no model.
const TRAINING: [&str; 5] = ["optim", "sched", "scaler", "rng", "_extra_state"];

/// Dictionaries inside one another.
const MAX_DEPTH: usize = 16;

/// What stands for the outermost dictionary where a key is asked for.
const OUTERMOST: &str = ".";

/// Finds the state dict below `root`.
pub(super) fn find(root: &Value, dicts: &Dicts, key: Option<&str>) -> Result<StateDict, String> {
    let Value::Dict(mut at) = *root else {
        return Err(format!(
            "it holds {}, expected a dictionary of tensors: save model.state_dict()",
            root.words()
        ));
    };
    let tree = Tree { dicts, holds: holding(dicts) };
    let mut path = Vec::new();
    let mut others = Vec::new();
    let mut asked = key.filter(|key| *key != OUTERMOST).into_iter().flat_map(|key| key.split('/'));
    while path.len() < MAX_DEPTH {
        let next = match (asked.next(), key) {
            (Some(key), _) => Some(tree.asked(at, key)?),
            (None, Some(OUTERMOST)) => None,
            (None, _) => tree.next(at).map_err(|why| within(&path, &why))?,
        };
        let below = next.as_ref().map(|(key, _)| key.as_str());
        let beside = tree.dicts[at].iter().filter(|(key, value)| {
            Some(key.as_str()) != below && (below.is_some() || !is_tensor(value))
        });
        others.extend(beside.map(|(key, value)| (keys(&path, key), value.words())));
        match next {
            Some((key, below)) => {
                path.push(key);
                at = below;
            }
            None => return tree.state_dict(at, path, others),
        }
    }
    Err(format!("dictionaries {MAX_DEPTH} deep in one another: {}", path.join("/")))
}

/// A key and those that lead to it.
fn keys(path: &[String], key: &str) -> String {
    path.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join("/")
}

fn within(path: &[String], why: &str) -> String {
    if path.is_empty() { why.to_owned() } else { format!("in {}: {why}", path.join("/")) }
}

fn is_tensor(value: &Value) -> bool {
    matches!(value, Value::Tensor(_) | Value::Unread(_))
}

/// Whether what is under this key is the state of a training.
fn is_training(key: &str) -> bool {
    let key = key.to_lowercase();
    TRAINING.iter().any(|part| key.contains(part))
}

/// Whether a dictionary under this key may be, or hold, a state dict. A name with dots is one of a tensor.
fn may_hold(key: &str) -> bool {
    !key.contains('.') && !is_training(key)
}

/// The dictionaries that have tensors, or dictionaries with tensors in them.
fn holding(dicts: &Dicts) -> Vec<bool> {
    let mut around: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut found = Vec::new();
    for (index, dict) in dicts.iter().enumerate() {
        for (key, value) in dict {
            match value {
                Value::Dict(inner) if may_hold(key) => {
                    around.entry(*inner).or_default().push(index);
                }
                value if is_tensor(value) => found.push(index),
                _ => {}
            }
        }
    }
    let mut holds = vec![false; dicts.len()];
    while let Some(index) = found.pop() {
        if !std::mem::replace(&mut holds[index], true) {
            found.extend(around.get(&index).into_iter().flatten());
        }
    }
    holds
}

struct Tree<'a> {
    dicts: &'a Dicts,
    /// Of each dictionary, whether there are tensors in it or below.
    holds: Vec<bool>,
}

impl Tree<'_> {
    /// The dictionary that the caller asks for.
    fn asked(&self, at: usize, key: &str) -> Result<(String, usize), String> {
        match self.dicts[at].get(key) {
            Some(Value::Dict(inner)) => Ok((key.to_owned(), *inner)),
            Some(other) => Err(format!("{key:?} is {}, expected a dictionary", other.words())),
            None => {
                let inner = |(key, value): (&String, &Value)| {
                    matches!(value, Value::Dict(_)).then(|| format!("{key:?}"))
                };
                let there: Vec<_> = self.dicts[at].iter().filter_map(inner).collect();
                Err(format!("no dictionary is called {key:?}, there are {}", there.join(", ")))
            }
        }
    }

    /// The dictionary in the one at `at` that leads to the state dict; `None` if this is it.
    fn next(&self, at: usize) -> Result<Option<(String, usize)>, String> {
        let inner: BTreeMap<&str, usize> = (self.dicts[at].iter())
            .filter_map(|(key, value)| match value {
                Value::Dict(inner) if may_hold(key) && self.holds[*inner] => {
                    Some((key.as_str(), *inner))
                }
                _ => None,
            })
            .collect();
        let step = |key: &str| inner.get(key).map(|&below| Some((key.to_owned(), below)));
        if let Some(step) = WEIGHTS.into_iter().find_map(step) {
            return Ok(step);
        }
        // Numbers beside a state dict are no weights: the best accuracy so far, the last loss.
        let own = self.dicts[at].iter().any(|(key, value)| match value {
            Value::Tensor(tensor) => !is_training(key) && !tensor.shape.is_empty(),
            other => is_tensor(other),
        });
        let mut several = inner.iter();
        match (own, several.next(), several.next()) {
            (_, None, _) => Ok(None),
            (false, Some((key, below)), None) => Ok(Some(((*key).to_owned(), *below))),
            (own, ..) => {
                let mut keys: Vec<_> = inner.keys().map(|key| format!("{key:?}")).collect();
                if own {
                    keys.push(format!("the outermost dictionary itself ({OUTERMOST:?})"));
                }
                Err(format!(
                    "the weights may be those of {}; say which behind the file's name, FILE:KEY",
                    keys.join(", ")
                ))
            }
        }
    }

    fn state_dict(
        &self,
        at: usize,
        path: Vec<String>,
        others: Vec<(String, String)>,
    ) -> Result<StateDict, String> {
        let tensors: BTreeMap<_, _> = (self.dicts[at].iter())
            .filter_map(|(name, value)| match value {
                Value::Tensor(tensor) => Some((name.clone(), Ok((**tensor).clone()))),
                Value::Unread(why) => Some((name.clone(), Err(format!("it is {why}")))),
                _ => None,
            })
            .collect();
        if tensors.is_empty() {
            let there: Vec<_> =
                others.iter().map(|(key, what)| format!("{key:?} is {what}")).collect();
            let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
            return Err(within(
                &path,
                &format!("no dictionary holds tensors: {there}; save model.state_dict()"),
            ));
        }
        Ok(StateDict { path, tensors, others })
    }
}
