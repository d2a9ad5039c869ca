//! Each element of the result from one of each operand.

use crate::OpDef;

pub(crate) mod activation;
pub(crate) mod binary;
pub(crate) mod bit_cast;
pub(crate) mod cast;
pub(crate) mod clip;
pub(crate) mod compare;
pub(crate) mod logic;
pub(crate) mod numeric;
pub(crate) mod pow;
pub(crate) mod trigonometry;
pub(crate) mod unary;
pub(crate) mod variadic;
pub(crate) mod r#where;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &binary::ADD,
    &binary::SUB,
    &binary::MUL,
    &binary::DIV,
    &binary::MOD,
    &binary::PRELU,
    &pow::POW,
    &compare::EQUAL,
    &compare::GREATER,
    &compare::GREATER_OR_EQUAL,
    &compare::LESS,
    &compare::LESS_OR_EQUAL,
    &logic::AND,
    &logic::OR,
    &logic::XOR,
    &logic::BITWISE_AND,
    &logic::BITWISE_OR,
    &logic::BITWISE_XOR,
    &logic::BIT_SHIFT,
    &variadic::MAX,
    &variadic::MIN,
    &variadic::SUM,
    &variadic::MEAN,
    &r#where::WHERE,
    &cast::CAST,
    &cast::CAST_LIKE,
    &bit_cast::BIT_CAST,
    &clip::CLIP,
    &numeric::RELU,
    &numeric::ABS,
    &numeric::NEG,
    &numeric::SIGN,
    &numeric::NOT,
    &numeric::BITWISE_NOT,
    &numeric::IS_NAN,
    &numeric::IS_INF,
    &unary::SIGMOID,
    &unary::EXP,
    &unary::LOG,
    &unary::SQRT,
    &unary::RECIPROCAL,
    &unary::ERF,
    &unary::CEIL,
    &unary::FLOOR,
    &unary::ROUND,
    &trigonometry::SIN,
    &trigonometry::COS,
    &trigonometry::TAN,
    &trigonometry::ASIN,
    &trigonometry::ACOS,
    &trigonometry::ATAN,
    &trigonometry::SINH,
    &trigonometry::COSH,
    &trigonometry::TANH,
    &trigonometry::ASINH,
    &trigonometry::ACOSH,
    &trigonometry::ATANH,
    &activation::SOFTPLUS,
    &activation::SOFTSIGN,
    &activation::HARD_SIGMOID,
    &activation::HARD_SWISH,
    &activation::ELU,
    &activation::SELU,
    &activation::CELU,
    &activation::LEAKY_RELU,
    &activation::THRESHOLDED_RELU,
    &activation::GELU,
    &activation::MISH,
    &activation::SWISH,
    &activation::SHRINK,
];
