//! Activation functions of recurrent layers.

use crate::AttrsExt;
use crate::OpError;
use crate::float::Float;
use crate::kernels::blocked::{Mat, multiply};
use crate::kernels::gemm::{Gemm, MatRef};
use engine_format::{Attr, Attrs};
use std::ops::{Add, Div, Mul, Neg, Sub};

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
    pub fn apply<T: Real>(&self, x: T) -> T {
        let (a, b) = (T::of(self.alpha), T::of(self.beta));
        let negative = x < T::ZERO;
        match self.function {
            Function::Sigmoid => T::ONE / (T::ONE + (-x).exponential()),
            Function::Tanh => x.tanh(),
            Function::Relu if negative => T::ZERO,
            Function::LeakyRelu if negative => a * x,
            Function::Elu if negative => a * x.exp_m1(),
            Function::Relu | Function::LeakyRelu | Function::Elu => x,
            Function::Affine => a * x + b,
            Function::ThresholdedRelu if x > a => x,
            Function::ThresholdedRelu => T::ZERO,
            Function::ScaledTanh => a * (b * x).tanh(),
            Function::HardSigmoid => within(a * x + b, T::ZERO, T::ONE),
            Function::Softsign => x / (T::ONE + x.abs()),
            // Written so that e^x cannot overflow.
            Function::Softplus => {
                let positive = if negative { T::ZERO } else { x };
                positive + (-x.abs()).exponential().ln_1p()
            }
        }
    }
}

/// `x` held between two bounds; NaN stays.
pub(super) fn within<T: Real>(x: T, low: T, high: T) -> T {
    match x {
        x if x < low => low,
        x if x > high => high,
        x => x,
    }
}

/// What recurrent layers need of the float type that they calculate in.
pub(super) trait Real: Float + Arithmetic {
    fn exponential(self) -> Self;
    fn tanh(self) -> Self;
    fn exp_m1(self) -> Self;
    fn ln_1p(self) -> Self;
    /// The product of the rows `a` with the transposed rows `b`, both of `sizes.k` elements.
    fn multiply(sizes: Gemm, a: &[Self], b: &[Self], out: &mut [Self], scratch: &mut [u8]);
}

/// The operators of arithmetic.
pub(super) trait Arithmetic:
    Sized
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
}

impl Arithmetic for f32 {}
impl Arithmetic for f64 {}

impl Real for f32 {
    fn exponential(self) -> Self {
        self.exp()
    }
    fn tanh(self) -> Self {
        self.tanh()
    }
    fn exp_m1(self) -> Self {
        self.exp_m1()
    }
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }
    fn multiply(sizes: Gemm, a: &[f32], b: &[f32], out: &mut [f32], scratch: &mut [u8]) {
        let (a, b) = (MatRef::rows(a, sizes.k), MatRef::rows(b, sizes.k).t());
        sizes.run(|_| (a, b), out, scratch, None);
    }
}

impl Real for f64 {
    fn exponential(self) -> Self {
        libm::exp(self)
    }
    fn tanh(self) -> Self {
        libm::tanh(self)
    }
    fn exp_m1(self) -> Self {
        libm::expm1(self)
    }
    fn ln_1p(self) -> Self {
        libm::log1p(self)
    }
    fn multiply(sizes: Gemm, a: &[f64], b: &[f64], out: &mut [f64], _: &mut [u8]) {
        let a = Mat { data: a, row: sizes.k, col: 1 };
        let b = Mat { data: b, row: 1, col: sizes.k };
        multiply(a, b, (sizes.n, sizes.k), out, |sum, _, _| sum);
    }
}
