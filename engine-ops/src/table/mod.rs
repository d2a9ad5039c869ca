//! What a row of the table says, and what is asked of the whole table.

pub(crate) mod attrs;
pub mod case;
pub mod control;
pub(crate) mod def;
pub mod demand;
pub mod dependence;
pub(crate) mod dtypes;
pub(crate) mod eval;
pub(crate) mod function;
pub mod hostile;
pub mod infer;
pub mod layout;
pub(crate) mod operand;
pub(crate) mod ready;
pub(crate) mod text;
pub(crate) mod tolerance;
