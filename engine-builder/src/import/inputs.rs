//! Types of the model's inputs, with the shapes that the caller fixed.

use crate::error::BuildError;
use crate::graph::{FRESH, Typed, fresh_shape};
use crate::options::BuildOptions;
use engine_format::Dim;
use engine_onnx::{Model, ValueInfo};
use engine_ops::infer::Facts;
use std::collections::BTreeMap;

/// Inputs of the main graph with their facts, without those that are weights.
pub(super) fn inputs(
    model: &Model,
    options: &BuildOptions,
) -> Result<Vec<(String, Typed)>, BuildError> {
    let is_weight = |info: &&ValueInfo| {
        model.graph.initializer(&info.name).is_some() && !options.keep_inputs.contains(&info.name)
    };
    let infos: Vec<&ValueInfo> = model.graph.inputs.iter().filter(|i| !is_weight(i)).collect();
    let names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    let asked = options.keep_inputs.iter().chain(options.shapes.keys());
    if let Some(name) = asked.into_iter().find(|name| !names.contains(&name.as_str())) {
        return Err(BuildError::options(format!(
            "the model has no input {name:?}; its inputs are {names:?}"
        )));
    }
    let bound = bind_symbols(&infos, &options.shapes)?;
    infos
        .into_iter()
        .map(|info| {
            let facts = facts(info, options.shapes.get(&info.name), &bound)?;
            Ok((info.name.clone(), Typed { form: info.form, facts }))
        })
        .collect()
}

/// The numbers that fixed shapes give to symbols.
fn bind_symbols(
    infos: &[&ValueInfo],
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<BTreeMap<String, usize>, BuildError> {
    let mut bound = BTreeMap::<String, usize>::new();
    for info in infos {
        let (Some(fixed), Some(declared)) = (shapes.get(&info.name), &info.shape) else { continue };
        let fits = |(&size, dim): (&usize, &Dim)| dim.known().is_none_or(|n| n == size as i64);
        if fixed.len() != declared.len() || !fixed.iter().zip(declared).all(fits) {
            return Err(BuildError::options(format!(
                "shape {fixed:?} was asked for input {:?}, the model says {declared:?}",
                info.name
            )));
        }
        for (&size, dim) in fixed.iter().zip(declared) {
            let Some(symbol) = dim.as_symbol() else { continue };
            let before = *bound.entry(symbol.to_owned()).or_insert(size);
            if before != size {
                return Err(BuildError::options(format!(
                    "the shapes that were asked for make {symbol:?} both {before} and {size}"
                )));
            }
        }
    }
    Ok(bound)
}

fn facts(
    info: &ValueInfo,
    fixed: Option<&Vec<usize>>,
    bound: &BTreeMap<String, usize>,
) -> Result<Facts, BuildError> {
    let dtype = info.dtype.ok_or_else(|| {
        BuildError::model(format!("input {:?} is a {}, not taken here", info.name, info.type_name))
    })?;
    if let Some(fixed) = fixed {
        return Ok(Facts::new(dtype, fixed.iter().map(|&n| Dim::from(n)).collect()));
    }
    let Some(declared) = &info.shape else { return Ok(Facts::unranked(dtype)) };
    if info.form.is_sequence() {
        // A symbol may stand for another size in each element.
        let own = |(dim, own): (&Dim, Dim)| if dim.known().is_some() { dim.clone() } else { own };
        let fresh = fresh_shape(&info.name, declared.len());
        return Ok(Facts::new(dtype, declared.iter().zip(fresh).map(own).collect()));
    }
    let dim = |(axis, dim): (usize, &Dim)| match dim.as_symbol() {
        Some(symbol) => match bound.get(symbol) {
            Some(&size) => Dim::from(size),
            None => own_symbol(dim, symbol, &info.name, axis),
        },
        None => dim.clone(),
    };
    Ok(Facts::new(dtype, declared.iter().enumerate().map(dim).collect()))
}

/// Keeps a model's symbols apart from those that inference makes up.
fn own_symbol(dim: &Dim, symbol: &str, input: &str, axis: usize) -> Dim {
    match symbol.starts_with(FRESH) {
        true => Dim::symbol(&format!("{input}[{axis}]")),
        false => dim.clone(),
    }
}
