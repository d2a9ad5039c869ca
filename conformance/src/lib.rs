//! The flag matrix, suites against oracles, verification, and the assets they use.

pub mod assets;
pub mod compare;
pub mod graphs;
pub mod inputs;
pub mod models;
pub mod oracle;
