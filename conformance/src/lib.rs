//! The flag matrix, suites against oracles, verification, and the assets they use.

pub mod assets;
pub mod oracle;
