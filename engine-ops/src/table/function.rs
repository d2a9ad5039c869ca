//! What stages of chains can be.

/// An operator as a function of one `f32`, where it is one.
#[derive(Clone, Copy)]
pub struct Function {
    /// Writes the function of every element of the first slice to the second, which is as long, given the parameters.
    pub block: fn(&[f32], &mut [f32], [f32; 3]),
    /// The WGSL expression of `x`, `p0`, `p1` and `p2`.
    pub wgsl: &'static str,
}
