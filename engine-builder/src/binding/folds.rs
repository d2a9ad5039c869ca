//! What an exporter folded into a filter or a matrix: a batch norm behind it, the parametrisations of PyTorch.
//!
//! A layer `w` with a batch norm becomes `w · γ / √(σ² + ε)` with the bias `(b − μ) · γ / √(σ² + ε) + β`. Every output channel of
//! the filter is then one number times that of `w`, so the pair is found by these numbers, and ε is the one of a short list
//! that explains them; all are held to a few units of the last place.

use super::expression::Expression;
use super::index::Index;
use super::pair::{Decision, Stands};
use super::path::{agreement, steps};
use super::recipe::{Recipe, inverse, is_identity};
use super::search::{is_weak, orders, whole};
use super::uses::Place;
use super::{Initializer, Why, open, unclaimed};
use crate::error::BuildError;
use engine_format::{DType, Tensor, TensorInfo};
use std::collections::{BTreeMap, BTreeSet};

/// The values of ε in use.
const EPSILONS: [f64; 6] = [1e-5, 1e-3, 1e-6, 1e-4, 1e-8, 1e-12];

/// The relative error of a few operations in f32.
const CLOSE: f64 = 1e-6;

/// A batch norm of the checkpoint.
struct Norm {
    module: String,
    /// In the order γ, β, μ, σ²; the first two may be missing.
    gamma: Option<Vec<f64>>,
    beta: Option<Vec<f64>>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    epsilons: Vec<f64>,
}

/// A filter with a factor for every channel of `axis`.
struct Scaled {
    name: String,
    shape: Vec<usize>,
    axis: usize,
    /// From the checkpoint's order of axes to the initializer's.
    perm: Vec<usize>,
    shape_there: Vec<usize>,
    ratios: Vec<f64>,
}

/// The tensors that were read, by name.
#[derive(Default)]
struct Cache(BTreeMap<String, Tensor>);

impl Cache {
    fn read(&mut self, index: &Index<'_>, name: &str) -> Result<Tensor, BuildError> {
        if let Some(tensor) = self.0.get(name) {
            return Ok(tensor.clone());
        }
        let tensor = index.tensor(name)?;
        self.0.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }
}

fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(tensor.as_slice::<f32>().ok()?.iter().map(|&x| f64::from(x)).collect())
}

fn name(module: &str, leaf: &str) -> String {
    if module.is_empty() { leaf.to_owned() } else { format!("{module}.{leaf}") }
}

/// Batch norms of which nothing was bound.
fn norms(decisions: &[Decision], index: &Index<'_>) -> Result<Vec<Norm>, BuildError> {
    let mut norms = Vec::new();
    for (found, _) in unclaimed(index, decisions) {
        let Some(module) = found.strip_suffix("running_var") else { continue };
        let module = module.strip_suffix('.').unwrap_or(module);
        let read = |leaf: &str| -> Result<Option<Vec<f64>>, BuildError> {
            Ok(index.read(&name(module, leaf))?.as_ref().and_then(floats))
        };
        let (Some(mean), Some(variance)) = (read("running_mean")?, read("running_var")?) else {
            continue;
        };
        let (gamma, beta) = (read("weight")?, read("bias")?);
        norms.push(Norm {
            module: module.to_owned(),
            gamma,
            beta,
            mean,
            variance,
            epsilons: EPSILONS.to_vec(),
        });
    }
    Ok(norms)
}

impl Norm {
    fn channels(&self) -> usize {
        self.variance.len()
    }

    fn factor(&self, channel: usize, epsilon: f64) -> f64 {
        self.gamma.as_ref().map_or(1.0, |gamma| gamma[channel])
            / (self.variance[channel] + epsilon).sqrt()
    }

    /// The values of ε with which the batch norm has these factors.
    fn explains(&self, ratios: &[f64]) -> Vec<f64> {
        let fits = |epsilon: f64| {
            let mut channels = ratios.iter().enumerate();
            channels.all(|(c, ratio)| close(*ratio, self.factor(c, epsilon), 0.0))
        };
        match ratios.len() == self.channels() {
            true => self.epsilons.iter().copied().filter(|&epsilon| fits(epsilon)).collect(),
            false => Vec::new(),
        }
    }

    /// γ / √(σ² + ε)
    fn written_factor(&self, epsilon: f64) -> Expression {
        let variance = Expression::tensor(&name(&self.module, "running_var"));
        let sum = Expression::node("Add", vec![variance, Expression::scalar(epsilon as f32)]);
        let deviation = Expression::node("Sqrt", vec![sum]);
        match &self.gamma {
            Some(_) => Expression::node(
                "Div",
                vec![Expression::tensor(&name(&self.module, "weight")), deviation],
            ),
            None => Expression::node("Reciprocal", vec![deviation]),
        }
    }

    /// (b − μ) · γ / √(σ² + ε) + β
    fn written_shift(&self, bias: Option<&str>, epsilon: f64) -> Expression {
        let mean = Expression::tensor(&name(&self.module, "running_mean"));
        let centred = match bias {
            Some(bias) => Expression::node("Sub", vec![Expression::tensor(bias), mean]),
            None => Expression::node("Neg", vec![mean]),
        };
        let scaled = Expression::node("Mul", vec![centred, self.written_factor(epsilon)]);
        match &self.beta {
            Some(_) => Expression::node(
                "Add",
                vec![scaled, Expression::tensor(&name(&self.module, "bias"))],
            ),
            None => scaled,
        }
    }

    /// Whether `values` is the shift of a layer with this bias.
    fn shifts(&self, values: &[f64], bias: Option<&[f64]>, epsilon: f64) -> bool {
        values.len() == self.channels()
            && values.iter().enumerate().all(|(c, value)| {
                let bias = bias.map_or(0.0, |bias| bias[c]);
                let (scaled, beta) = (
                    (bias - self.mean[c]) * self.factor(c, epsilon),
                    self.beta.as_ref().map_or(0.0, |beta| beta[c]),
                );
                let terms = (bias.abs() + self.mean[c].abs()) * self.factor(c, epsilon).abs();
                close(*value, scaled + beta, terms + beta.abs())
            })
    }
}

/// Within a few units of the last place, of the largest term of a sum where `terms` is more.
fn close(found: f64, expected: f64, terms: f64) -> bool {
    (found - expected).abs() <= CLOSE * expected.abs().max(terms) + 1e-30
}

/// An initializer that holds the factors of a batch norm, times a filter or alone.
struct Folded {
    initializer: usize,
    norm: usize,
    /// The values of ε that explain the factors.
    explained: Vec<f64>,
    filter: Option<Scaled>,
}

/// Looks for open initializers among what exporters fold.
pub(super) fn find(
    initializers: &[Initializer],
    decisions: &mut [Decision],
    index: &Index<'_>,
) -> Result<(), BuildError> {
    let parametrised = parametrised(index);
    for i in strong(initializers, decisions) {
        if let Some(recipe) = parametrisation(&initializers[i].tensor, &parametrised, index)? {
            decisions[i] = Decision::Stands(Stands::everywhere(recipe));
        }
    }
    let mut norms = norms(decisions, index)?;
    if norms.is_empty() {
        return Ok(());
    }
    let mut cache = Cache::default();
    let folded = factors(initializers, decisions, &norms, index, &mut cache)?;
    settle_epsilons(&mut norms, &folded);
    for Folded { initializer, norm, filter, .. } in &folded {
        let norm = &norms[*norm];
        let [epsilon] = norm.epsilons[..] else { continue };
        let recipe = match filter {
            Some(filter) => filter.recipe(norm, epsilon),
            None => {
                let label = format!("the factor of {} (epsilon {epsilon:e})", norm.module);
                let shape = initializers[*initializer].tensor.shape();
                Recipe::computed(label, norm.written_factor(epsilon).reshaped(shape))
            }
        };
        decisions[*initializer] = Decision::Stands(Stands::everywhere(recipe));
    }
    shifts(initializers, decisions, &norms, &folded, index, &mut cache)
}

/// The open initializers whose contents prove something.
fn strong(initializers: &[Initializer], decisions: &[Decision]) -> Vec<usize> {
    let strong = |i: &usize| {
        let tensor = &initializers[*i].tensor;
        tensor.dtype() == DType::F32 && !is_weak(tensor)
    };
    open(decisions).into_iter().filter(strong).collect()
}

/// What holds the factors of batch norms.
fn factors(
    initializers: &[Initializer],
    decisions: &[Decision],
    norms: &[Norm],
    index: &Index<'_>,
    cache: &mut Cache,
) -> Result<Vec<Folded>, BuildError> {
    let mut folded = Vec::new();
    for initializer in open(decisions) {
        if let Some(found) = by_name(&initializers[initializer], norms, index, cache)? {
            let (norm, explained, filter) = found;
            folded.push(Folded { initializer, norm, explained, filter: Some(filter) });
        }
    }
    for initializer in strong(initializers, decisions) {
        if folded.iter().any(|folded| folded.initializer == initializer) {
            continue;
        }
        let tensor = &initializers[initializer].tensor;
        let mut alone = floats(tensor).into_iter().flat_map(|values| {
            let fitting = move |n: &usize| !norms[*n].explains(&values).is_empty();
            (0..norms.len()).filter(fitting)
        });
        if let (Some(norm), None) = (alone.next(), alone.next()) {
            let explained =
                floats(tensor).map_or_else(Vec::new, |values| norms[norm].explains(&values));
            folded.push(Folded { initializer, norm, explained, filter: None });
        } else if let Some((filter, norm)) =
            filter(&initializers[initializer], decisions, norms, index, cache)?
        {
            let explained = norms[norm].explains(&filter.ratios);
            folded.push(Folded { initializer, norm, explained, filter: Some(filter) });
        }
    }
    Ok(folded)
}

/// The filter that an initializer is called after, times the batch norm whose module its node is of: factors of zero leave nothing to be
/// found by. Gives the batch norm, the values of ε and the filter.
fn by_name(
    initializer: &Initializer,
    norms: &[Norm],
    index: &Index<'_>,
    cache: &mut Cache,
) -> Result<Option<(usize, Vec<f64>, Scaled)>, BuildError> {
    let ([found], Some(values)) = (&*initializer.uses, floats(&initializer.tensor)) else {
        return Ok(None);
    };
    let shape = initializer.tensor.shape();
    let at = |norm: &usize| {
        let module = steps(&norms[*norm].module);
        found.module.as_ref().is_some_and(|place| agreement(place, &module) == Some(module.len()))
    };
    let mut named = index.infos().filter(|(name, info)| {
        super::pair::by_name(&initializer.name, name).is_some() && info.shape == shape
    });
    let ((Some((name, _)), None), "Conv" | "ConvTranspose") =
        ((named.next(), named.next()), found.place.op.as_str())
    else {
        return Ok(None);
    };
    let axis = usize::from(found.place.op == "ConvTranspose");
    let norm = (0..norms.len()).filter(at).max_by_key(|&norm| norms[norm].module.len());
    let Some(norm) = norm.filter(|&norm| shape.get(axis) == Some(&norms[norm].channels())) else {
        return Ok(None);
    };
    let inner: usize = shape[axis + 1..].iter().product();
    let Some(there) = floats(&cache.read(index, name)?) else { return Ok(None) };
    let explains = |epsilon: &f64| {
        let factors: Vec<f64> =
            (0..shape[axis]).map(|channel| norms[norm].factor(channel, *epsilon)).collect();
        let mut pairs = values.iter().zip(&there).enumerate();
        pairs.all(|(i, (value, from))| close(*value, from * factors[i / inner % shape[axis]], 0.0))
    };
    let explained: Vec<f64> = EPSILONS.into_iter().filter(explains).collect();
    let perm = (0..shape.len()).collect();
    let (name, shape) = (name.to_owned(), shape.to_vec());
    let filter = Scaled { name, axis, perm, shape_there: shape.clone(), shape, ratios: Vec::new() };
    Ok((!explained.is_empty()).then_some((norm, explained, filter)))
}

/// Leaves every batch norm the values of ε that explain its factors; where several do, the one that explains all batch norms, for
/// a network is written with one.
fn settle_epsilons(norms: &mut [Norm], folded: &[Folded]) {
    let mut seen = vec![false; norms.len()];
    for Folded { norm, explained, .. } in folded {
        norms[*norm].epsilons.retain(|epsilon| explained.contains(epsilon));
        seen[*norm] = true;
    }
    let explains_all = |epsilon: &f64| {
        norms.iter().zip(&seen).all(|(norm, seen)| !seen || norm.epsilons.contains(epsilon))
    };
    let common: Vec<f64> = EPSILONS.into_iter().filter(explains_all).collect();
    for norm in norms.iter_mut().filter(|norm| norm.epsilons.len() > 1) {
        if let [only] = common[..] {
            norm.epsilons = vec![only];
        }
    }
}

impl Scaled {
    /// The tensor with the factors of a batch norm, as the initializer lies.
    fn recipe(&self, norm: &Norm, epsilon: f64) -> Recipe {
        let mut shape = vec![1; self.shape_there.len()];
        shape[self.axis] = norm.channels();
        let factor = norm.written_factor(epsilon).reshaped(&shape);
        let product = Expression::node("Mul", vec![Expression::tensor(&self.name), factor]);
        let expression = product.permuted(&self.perm).reshaped(&self.shape);
        let label =
            format!("{} times the factor of {} (epsilon {epsilon:e})", self.name, norm.module);
        Recipe::computed(label, expression)
    }
}

/// The tensor and the batch norm whose product an open filter is; `None` if there is none or more than one.
fn filter(
    initializer: &Initializer,
    decisions: &[Decision],
    norms: &[Norm],
    index: &Index<'_>,
    cache: &mut Cache,
) -> Result<Option<(Scaled, usize)>, BuildError> {
    let tensor = &initializer.tensor;
    let axis = usize::from(initializer.uses.iter().any(|found| found.place.op == "ConvTranspose"));
    let fitting = |info: &TensorInfo| {
        info.dtype == DType::F32
            && info.shape.len() > 1
            && info.shape.iter().product::<usize>() == tensor.len()
            && norms.iter().any(|norm| norm.channels() == info.shape[axis])
    };
    let candidates = unclaimed(index, decisions).filter(|(_, info)| fitting(info));
    let mut pairs = Vec::new();
    for (name, info) in candidates {
        let there = cache.read(index, name)?;
        for order in orders(tensor.shape()) {
            // Either the axes were moved or the shape was changed.
            if !is_identity(&order) && order.len() != info.shape.len() {
                continue;
            }
            let form = tensor.permuted(&order);
            let Ok(form) = form.reshaped(&info.shape) else { continue };
            let Some(ratios) = ratios(&form, &there, axis) else { continue };
            let perm = match is_identity(&order) {
                true => (0..info.shape.len()).collect(),
                false => inverse(&order),
            };
            let fitting = (0..norms.len()).filter(|&n| !norms[n].explains(&ratios).is_empty());
            if let Some(norm) = only(fitting.collect(), norms, initializer) {
                let (name, shape) = (name.to_owned(), tensor.shape().to_vec());
                let shape_there = info.shape.clone();
                pairs.push((Scaled { name, shape, axis, perm, shape_there, ratios }, norm));
            }
        }
    }
    Ok((pairs.len() == 1).then(|| pairs.remove(0)))
}

/// The one of several batch norms, or the one whose module the node is of: an exporter that folds a batch norm may leave the layer in its
/// place.
fn only(fitting: Vec<usize>, norms: &[Norm], initializer: &Initializer) -> Option<usize> {
    if let [only] = *fitting {
        return Some(only);
    }
    let [found] = &*initializer.uses else { return None };
    let place = found.module.as_ref()?;
    let fit = |norm: usize| {
        let module = steps(&norms[norm].module);
        let common = agreement(place, &module).filter(|&common| common > 0)?;
        Some((place.len() == module.len(), common))
    };
    let most = fitting.iter().filter_map(|&norm| fit(norm)).max()?;
    let mut best = fitting.into_iter().filter(|&norm| fit(norm) == Some(most));
    best.next().filter(|_| best.next().is_none())
}

/// What every channel of `to` is of that of `from`; `None` if a channel is not one number times the other.
fn ratios(to: &Tensor, from: &Tensor, axis: usize) -> Option<Vec<f64>> {
    let (Ok(to_values), Ok(from_values)) = (to.as_slice::<f32>(), from.as_slice::<f32>()) else {
        return None;
    };
    let channels = from.shape()[axis];
    let inner: usize = from.shape()[axis + 1..].iter().product();
    let outer: usize = from.shape()[..axis].iter().product();
    let mut ratios = Vec::with_capacity(channels);
    for channel in 0..channels {
        let elements = || {
            (0..outer).flat_map(move |o| {
                let start = (o * channels + channel) * inner;
                start..start + inner
            })
        };
        let largest =
            elements().max_by(|&a, &b| from_values[a].abs().total_cmp(&from_values[b].abs()))?;
        let ratio = f64::from(to_values[largest]) / f64::from(from_values[largest]);
        let holds = elements()
            .all(|k| close(f64::from(to_values[k]), ratio * f64::from(from_values[k]), 0.0));
        if !holds || !ratio.is_finite() {
            return None;
        }
        ratios.push(ratio);
    }
    Some(ratios)
}

/// The shifts of batch norms whose factors were found, alone or with the bias of the layer in front.
fn shifts(
    initializers: &[Initializer],
    decisions: &mut [Decision],
    norms: &[Norm],
    folded: &[Folded],
    index: &Index<'_>,
    cache: &mut Cache,
) -> Result<(), BuildError> {
    // The bias beside a filter that was folded is the shift, however little it says.
    let mut beside = BTreeMap::<usize, Vec<&Folded>>::new();
    for folded in folded.iter().filter(|folded| folded.filter.is_some()) {
        if let Some(bias) = bias_beside(&initializers[folded.initializer], initializers) {
            beside.entry(bias).or_default().push(folded);
        }
    }
    let mut elsewhere = strong(initializers, decisions);
    elsewhere.retain(|i| !beside.contains_key(i));
    let elsewhere = elsewhere.into_iter().map(|i| (i, folded.iter().collect(), false));
    let beside = beside.into_iter().map(|(i, folded)| (i, folded, true));
    let all: Vec<(usize, Vec<&Folded>, bool)> = elsewhere.chain(beside).collect();
    for (i, folded, is_beside) in all {
        let tensor = &initializers[i].tensor;
        let Some(values) = floats(tensor) else { continue };
        let mut recipes: Vec<Recipe> = Vec::new();
        for Folded { norm, filter, .. } in folded {
            let norm = &norms[*norm];
            let ([epsilon], true) = (&norm.epsilons[..], norm.channels() == values.len()) else {
                continue;
            };
            let layer = filter.as_ref().and_then(|filter| filter.name.strip_suffix("weight"));
            let bias = layer
                .map(|module| format!("{module}bias"))
                .filter(|bias| index.info(bias).is_some_and(|info| info.shape == [values.len()]));
            // A layer that has a bias had it in front of the batch norm too, even one of zeros.
            for bias in bias.into_iter().map(Some).chain([None]) {
                let numbers = match &bias {
                    Some(bias) => floats(&cache.read(index, bias)?),
                    None => None,
                };
                if norm.shifts(&values, numbers.as_deref(), *epsilon) {
                    let label = format!("the shift of {} (epsilon {epsilon:e})", norm.module);
                    let shift = norm.written_shift(bias.as_deref(), *epsilon);
                    recipes.push(Recipe::computed(label, shift.reshaped(tensor.shape())));
                    break;
                }
            }
        }
        recipes.dedup();
        match recipes.as_slice() {
            [only] => decisions[i] = Decision::Stands(Stands::everywhere(only.clone())),
            // Beside a folded filter nothing else is the bias, even if it is equal to a tensor.
            _ if is_beside => decisions[i] = Decision::Not(Why::not_found()),
            _ => {}
        }
    }
    Ok(())
}

/// The bias of the only node that reads a filter, if nothing else reads it.
fn bias_beside(filter: &Initializer, initializers: &[Initializer]) -> Option<usize> {
    let [found] = &*filter.uses else { return None };
    let is_bias = |initializer: &Initializer| match &*initializer.uses {
        [bias] => bias.place == Place { operand: 2, ..found.place.clone() },
        _ => false,
    };
    initializers.iter().position(is_bias)
}

/// Parametrised layers of a checkpoint: what is written for a refit, and the number of elements.
fn parametrised(index: &Index<'_>) -> Vec<(usize, String, Expression)> {
    let mut all = Vec::new();
    for (found, info) in index.infos() {
        let size = info.shape.iter().product();
        if let Some((magnitude, of)) = magnitude(found, index) {
            let expression = weight_norm(found, &magnitude, &info.shape, &of.shape);
            all.push((size, found.to_owned(), expression));
        }
        let spectral = |from: &str, u: &str, v: &str| {
            let stem = found.strip_suffix(from)?;
            let (u, v) = (format!("{stem}{u}"), format!("{stem}{v}"));
            (index.info(&u).is_some() && index.info(&v).is_some()).then_some((u, v))
        };
        let vectors = spectral("weight_orig", "weight_u", "weight_v")
            .or_else(|| spectral("original", "0._u", "0._v"));
        if let Some((u, v)) = vectors {
            let wide = info.shape.iter().skip(1).product();
            all.push((size, found.to_owned(), spectral_norm(found, (&u, &v), info.shape[0], wide)));
        }
    }
    all
}

/// The magnitude that goes with a direction of this name, under either of the names that PyTorch has given them.
fn magnitude<'a>(name: &str, index: &'a Index<'_>) -> Option<(String, &'a TensorInfo)> {
    let other = |from: &str, to: &str| {
        let other = format!("{}{to}", name.strip_suffix(from)?);
        index.info(&other).map(|info| (other, info))
    };
    other("original1", "original0").or_else(|| other("weight_v", "weight_g"))
}

/// The directions of weights whose magnitudes no initializer holds: the exporter calculated with both. Nothing that is equal to
/// such a direction is it, as an untrained magnitude is the norm of its direction.
pub(super) fn folded_directions(
    initializers: &[Initializer],
    index: &Index<'_>,
) -> BTreeSet<String> {
    let pairs: Vec<(String, String)> = index
        .infos()
        .filter_map(|(name, _)| Some((name.to_owned(), magnitude(name, index)?.0)))
        .collect();
    if pairs.is_empty() {
        return BTreeSet::new();
    }
    let recipes: Vec<Recipe> =
        initializers.iter().flat_map(|initializer| whole(index, &initializer.tensor)).collect();
    let held: BTreeSet<&str> = recipes.iter().flat_map(Recipe::tensors).collect();
    pairs.into_iter().filter(|(_, other)| !held.contains(&**other)).map(|(name, _)| name).collect()
}

/// g · v / ‖v‖, the norm over the axes along which `g` has size 1 (Salimans and Kingma, 2016).
fn weight_norm(v: &str, g: &str, shape: &[usize], magnitudes: &[usize]) -> Expression {
    let summed: Vec<usize> =
        (0..shape.len()).filter(|&axis| magnitudes.get(axis).is_none_or(|&n| n == 1)).collect();
    let norm =
        Expression::node("ReduceL2", vec![Expression::tensor(v), Expression::numbers(&summed)]);
    let factor = Expression::node("Div", vec![Expression::tensor(g), norm]);
    Expression::node("Mul", vec![Expression::tensor(v), factor])
}

/// W / (uᵀ W v) (Miyato et al., 2018).
fn spectral_norm(weight: &str, (u, v): (&str, &str), rows: usize, columns: usize) -> Expression {
    let matrix = Expression::tensor(weight).reshaped(&[rows, columns]);
    let row = Expression::tensor(u).reshaped(&[1, rows]);
    let column = Expression::tensor(v).reshaped(&[columns, 1]);
    let product = Expression::node("MatMul", vec![matrix, column]);
    let sigma = Expression::node("MatMul", vec![row, product]).reshaped(&[]);
    Expression::node("Div", vec![Expression::tensor(weight), sigma])
}

/// The parametrised layer that an initializer is, to the error of its sums.
fn parametrisation(
    tensor: &Tensor,
    layers: &[(usize, String, Expression)],
    index: &Index<'_>,
) -> Result<Option<Recipe>, BuildError> {
    let mut found = Vec::new();
    for (size, name, expression) in layers {
        if *size != tensor.len() {
            continue;
        }
        let Some(made) = expression.evaluate(&mut |name| index.tensor(name))? else { continue };
        for order in orders(tensor.shape()) {
            let form = tensor.permuted(&order);
            let (Some(a), Some(b)) = (floats(&form), floats(&made)) else { continue };
            let equal =
                a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 4.0 * CLOSE * b.abs() + 1e-30);
            if equal {
                let expression =
                    expression.clone().reshaped(form.shape()).permuted(&inverse(&order));
                found.push(Recipe::computed(format!("{name} with its norm"), expression));
            }
        }
    }
    Ok((found.len() == 1).then(|| found.remove(0)))
}
