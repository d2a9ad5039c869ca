//! The flag matrix, suites against oracles, verification, and the assets they use.
