//! Activation functions of recurrent layers.

use crate::OpError;
use crate::def::AttrsExt;
use engine_format::{Attr, Attrs};

/// An activation function with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Activation {
    pub function: Function,
    pub alpha: f32,
    pub beta: f32,
}

/// The functions that ONNX names. The numbers are the shader's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Sigmoid = 0,
    Tanh = 1,
    Relu = 2,
    Affine = 3,
    LeakyRelu = 4,
    ThresholdedRelu = 5,
    ScaledTanh = 6,
    HardSigmoid = 7,
    Elu = 8,
    Softsign = 9,
    Softplus = 10,
}

/// Names with the parameters that each takes and their defaults.
const FUNCTIONS: [(&str, Function, Option<f32>, Option<f32>); 11] = [
    ("Sigmoid", Function::Sigmoid, None, None),
    ("Tanh", Function::Tanh, None, None),
    ("Relu", Function::Relu, None, None),
    ("Affine", Function::Affine, Some(1.0), Some(0.0)),
    ("LeakyRelu", Function::LeakyRelu, Some(0.01), None),
    ("ThresholdedRelu", Function::ThresholdedRelu, Some(1.0), None),
    ("ScaledTanh", Function::ScaledTanh, Some(1.0), Some(1.0)),
    ("HardSigmoid", Function::HardSigmoid, Some(0.2), Some(0.5)),
    ("Elu", Function::Elu, Some(1.0), None),
    ("Softsign", Function::Softsign, None, None),
    ("Softplus", Function::Softplus, None, None),
];

impl Activation {
    /// The activations of `dirs` directions: those that the node names, else `usual` for each. The lists of parameters go to
    /// the functions that take them, in order.
    pub fn all(attrs: &Attrs, usual: &[&str], dirs: usize) -> Result<Vec<Self>, OpError> {
        let names: Vec<&str> = match attrs.get("activations") {
            Some(Attr::Strs(names)) => names.iter().map(String::as_str).collect(),
            _ => usual.repeat(dirs),
        };
        if names.len() != usual.len() * dirs {
            return Err(OpError::new(format!(
                "activations {names:?}, expected {} for {dirs} directions",
                usual.len() * dirs
            )));
        }
        let mut alphas = attrs.floats("activation_alpha").unwrap_or_default().iter();
        let mut betas = attrs.floats("activation_beta").unwrap_or_default().iter();
        let find = |name: &str| {
            let known = FUNCTIONS.iter().find(|f| f.0.eq_ignore_ascii_case(name));
            let &(_, function, alpha, beta) =
                known.ok_or_else(|| OpError::new(format!("unknown activation {name:?}")))?;
            let parameter = |default: Option<f32>, list: &mut std::slice::Iter<'_, f32>| {
                default.map_or(0.0, |d| list.next().copied().unwrap_or(d))
            };
            let (alpha, beta) = (parameter(alpha, &mut alphas), parameter(beta, &mut betas));
            Ok(Self { function, alpha, beta })
        };
        names.into_iter().map(find).collect()
    }

    /// Its value.
    pub fn apply(&self, x: f32) -> f32 {
        let (a, b) = (self.alpha, self.beta);
        match self.function {
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::Tanh => x.tanh(),
            Function::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Function::Affine => a * x + b,
            Function::LeakyRelu => {
                if x < 0.0 {
                    a * x
                } else {
                    x
                }
            }
            Function::ThresholdedRelu => {
                if x <= a {
                    0.0
                } else {
                    x
                }
            }
            Function::ScaledTanh => a * (b * x).tanh(),
            Function::HardSigmoid => (a * x + b).clamp(0.0, 1.0),
            Function::Elu => {
                if x < 0.0 {
                    a * x.exp_m1()
                } else {
                    x
                }
            }
            Function::Softsign => x / (1.0 + x.abs()),
            // Written so that e^x cannot overflow.
            Function::Softplus if x.is_nan() => x,
            Function::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }
}
