//! Proof by mutation for models whose framework is not at hand: their file is the checkpoint, and the graph as it is, without binding and
//! without passes, is the framework. Moving a float tensor has to move the outputs of the engine that was bound, optimised, stripped and
//! refitted exactly if it moves those, and to the same values.

use crate::oracle::Tensors;
use crate::proof::agree;
use engine_builder::{Binding, BuildOptions, build, build_bound};
use engine_format::{DType, Engine, FitPolicy, MapSource, Tensor, WeightSource};
use engine_onnx::Model;
use engine_ops::Tolerance;
use engine_runtime::{Device, LiveModule, Module, RefitError};
use std::collections::BTreeSet;
use std::fmt;

/// Outputs that differ by less of their largest element did not move: what the order of additions makes.
const STILL: f32 = 1e-6;
/// Those that differ by more did. What lies between is decided by rounding.
const MOVED: f32 = 1e-5;

/// What moving every float tensor of a model showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutated {
    /// Tensors that move the outputs of both.
    pub moving: usize,
    /// Tensors that move neither.
    pub still: usize,
    /// Tensors that the engine takes in one value only, and says so.
    pub fixed: Vec<String>,
}

impl fmt::Display for Mutated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { moving, still, fixed } = self;
        write!(f, "{moving} move both, {still} move neither, {} are refused", fixed.len())
    }
}

/// The tensors of a model that a layer may have learned, floats and quantised ones, by their names within it. Some files hold them as
/// `Constant` nodes: those without axes are numbers of the program.
fn learned(model: &Model) -> Result<MapSource, Box<dyn std::error::Error>> {
    let initializers: BTreeSet<&str> =
        model.graph.initializers.iter().map(|initializer| &*initializer.qualified).collect();
    let mut found = MapSource::default();
    for constant in model.constants() {
        let tensor = constant.data.tensor()?;
        let is_number = tensor.shape().is_empty() && !initializers.contains(&*constant.name);
        if is_learned(tensor.dtype()) && !tensor.is_empty() && !is_number {
            found.insert(constant.name, tensor);
        }
    }
    Ok(found)
}

fn is_learned(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I8 | DType::U8)
}

/// How far tensors are moved, as a part of their size: first as a step of training does, then far, for outputs that hardly move.
const STEPS: [f32; 2] = [0.01, 0.5];

/// A tensor after a step: every element another one, what is positive throughout stays so.
fn stepped(tensor: &Tensor, by: f32) -> Result<Tensor, Box<dyn std::error::Error>> {
    if let Ok(values) = tensor.as_slice::<i8>() {
        let values: Vec<i8> = values.iter().map(|x| if *x > 100 { x - 9 } else { x + 9 }).collect();
        return Ok(Tensor::from_slice(tensor.shape(), &values));
    }
    if let Ok(values) = tensor.as_slice::<u8>() {
        let values: Vec<u8> = values.iter().map(|x| if *x > 200 { x - 9 } else { x + 9 }).collect();
        return Ok(Tensor::from_slice(tensor.shape(), &values));
    }
    let values = tensor.as_slice::<f32>()?;
    let size = values.iter().fold(0.01f32, |most, x| most.max(x.abs()));
    let step = |(i, x): (usize, &f32)| (1.0 + by) * x + by * size * ((i % 7 + 1) as f32 / 7.0);
    Ok(Tensor::from_slice(tensor.shape(), &values.iter().enumerate().map(step).collect::<Vec<_>>()))
}

/// An engine on the CPU, and what it gives with its first weights.
struct Subject {
    module: LiveModule,
    base: Tensors,
}

impl Subject {
    fn new(engine: Engine, inputs: &Tensors) -> Result<Self, Box<dyn std::error::Error>> {
        let module = LiveModule::load(engine, &Device::cpu())?;
        let base = module.run(inputs)?.tensors;
        Ok(Self { module, base })
    }

    /// The outputs after a refit of one tensor, which is taken back; `None` if it was refused.
    fn with(
        &self,
        name: &str,
        tensors: [&Tensor; 2],
        inputs: &Tensors,
    ) -> Result<Option<Tensors>, Box<dyn std::error::Error>> {
        let policy = FitPolicy { partial: true, ..FitPolicy::default() };
        let [to, back] =
            tensors.map(|tensor| MapSource::from_iter([(name.to_owned(), tensor.clone())]));
        match self.module.refit(&to, policy) {
            Ok(_) => {}
            Err(RefitError::Fit(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let outputs = self.module.run(inputs)?.tensors;
        self.module.refit(&back, policy)?;
        Ok(Some(outputs))
    }

    /// Whether outputs are others than at first; `None` if rounding decides.
    fn moved(&self, outputs: &Tensors) -> Option<bool> {
        let difference = |(name, base): (&String, &Tensor)| {
            let (Ok(a), Ok(b)) = (outputs[name].as_slice::<f32>(), base.as_slice::<f32>()) else {
                return if outputs[name] == *base { 0.0 } else { 1.0 };
            };
            if a.len() != b.len() {
                return 1.0;
            }
            let largest = b.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
            a.iter().zip(b).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs())) / largest
        };
        match self.base.iter().map(difference).fold(0.0, f32::max) {
            far if far > MOVED => Some(true),
            near if near <= STILL => Some(false),
            _ => None,
        }
    }
}

/// Whether moving a tensor moves the graph and the engine; `None` if one of them refuses another value.
fn moved(
    name: &str,
    tensor: &Tensor,
    [plain, engine]: [&Subject; 2],
    inputs: &Tensors,
    tolerance: Tolerance,
) -> Result<Option<bool>, Box<dyn std::error::Error>> {
    for step in STEPS {
        let stepped = stepped(tensor, step)?;
        let tensors = [&stepped, tensor];
        let (Some(expected), Some(found)) =
            (plain.with(name, tensors, inputs)?, engine.with(name, tensors, inputs)?)
        else {
            return Ok(None);
        };
        let moves = match (plain.moved(&expected), engine.moved(&found)) {
            (Some(true), Some(false)) => return Err(format!("{name} moves the graph alone").into()),
            (Some(false), Some(true)) => {
                return Err(format!("{name} moves the engine alone").into());
            }
            (graph, engine) => graph == Some(true) || engine == Some(true),
        };
        if step == STEPS[0] {
            agree(&found, &expected, tolerance)
                .map_err(|how| format!("with another {name}, {how}"))?;
        }
        if moves {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

/// Moves every float tensor of a model, one at a time.
///
/// # Errors
/// The first tensor that moves one of the two alone, or moves them differently, or is refused although nothing in the engine's table says
/// that it takes one value only; and what does not build or run.
pub fn mutate(
    model: &Model,
    inputs: &Tensors,
    tolerance: Tolerance,
) -> Result<Mutated, Box<dyn std::error::Error>> {
    let checkpoint = learned(model)?;
    let (bound, ..) = build_bound(model, &BuildOptions::default(), &Binding::to(&checkpoint))?;
    hold(&bound, model, &checkpoint, inputs, tolerance)
}

/// Holds an engine to the graph of `model`, whatever the tensors of `checkpoint` are.
fn hold(
    bound: &Engine,
    model: &Model,
    checkpoint: &MapSource,
    inputs: &Tensors,
    tolerance: Tolerance,
) -> Result<Mutated, Box<dyn std::error::Error>> {
    let plain = BuildOptions { optimise: false, ..BuildOptions::default() };
    let plain = Subject::new(build(model, &plain)?, inputs)?;
    let extra = FitPolicy { allow_extra: true, ..FitPolicy::default() };
    let filled = bound.strip()?.fill(checkpoint, extra)?;
    let fixed = |name: &str| {
        let parts = bound.parts();
        let is_pinned = bound.weight(name).is_some_and(|weight| weight.pinned.is_some());
        is_pinned || parts.source_literals.iter().any(|literal| literal.name == name)
    };
    let engine = Subject::new(filled, inputs)?;
    agree(&engine.base, &plain.base, tolerance)?;
    // Nobody trained these weights, and what they make of rounding is more than what trained ones do.
    let wider = Tolerance { atol: 10.0 * tolerance.atol, rtol: 10.0 * tolerance.rtol };
    let mut mutated = Mutated::default();
    for name in checkpoint.names() {
        let tensor = checkpoint.read(&name)?.ok_or("a tensor that is listed is not there")?;
        match moved(&name, &tensor, [&plain, &engine], inputs, wider)? {
            Some(true) => mutated.moving += 1,
            Some(false) => mutated.still += 1,
            None if fixed(&name) => mutated.fixed.push(name),
            None => return Err(format!("{name} is refused, and no reason is in the table").into()),
        }
    }
    Ok(mutated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::{Literal, WeightData};
    use engine_verify::inputs::random;

    /// Once what a refit may change is fixed in silence, the proof fails and names it.
    #[test]
    fn a_weight_that_a_refit_passes_over_is_found() {
        let sketch = &crate::graphs::SKETCHES[0];
        let model = Model::parse((sketch.onnx)().into(), None).expect("the model reads");
        let inputs = Tensors::from([("x".to_owned(), random(DType::F32, &[2, 6], 3))]);
        let tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };
        let proven = mutate(&model, &inputs, tolerance).expect("the engine is right");
        assert_eq!((proven.moving, proven.still), (4, 0), "{proven}");
        let checkpoint = learned(&model).expect("its tensors read");
        let engine = build(&model, &BuildOptions::default()).expect("the model builds");
        for name in ["fc1.weight", "fc1.bias", "fc2.weight"] {
            let mut parts = engine.parts().clone();
            let row = parts.weights.iter().position(|weight| weight.name == name);
            let weight = parts.weights.remove(row.expect("the engine has it"));
            assert_ne!(weight.data, WeightData::Missing);
            let tensor = weight.tensor().expect("it is there");
            parts.literals.push(Literal { value: weight.value, tensor });
            parts.ignored.push(name.to_owned());
            parts.ignored.sort();
            let faulty = Engine::new(parts).expect("it is an engine");
            let found = hold(&faulty, &model, &checkpoint, &inputs, tolerance);
            assert_eq!(found.unwrap_err().to_string(), format!("{name} moves the graph alone"));
        }
    }
}
