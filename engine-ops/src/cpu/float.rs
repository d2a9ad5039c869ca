//! What kernels need of a float type that they calculate in.

use crate::convert::Calc;

/// Arithmetic that `f32` and `f64` share.
pub(crate) trait Float: Calc + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    const INFINITY: Self;
    fn of(value: f32) -> Self;
    fn of64(value: f64) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn div(self, other: Self) -> Self;
    fn divided_by(self, count: usize) -> Self;
    fn floor(self) -> Self;
    /// A whole number as an index below `size`, if it is one.
    fn index(self, size: usize) -> Option<usize>;
    fn is_nan(self) -> bool;
    fn is_finite(self) -> bool;
}

macro_rules! float {
    ($t:ty, $exp:path, $ln:path) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = <$t>::INFINITY;
            fn of64(value: f64) -> Self {
                value as $t
            }
            fn of(value: f32) -> Self {
                value.into()
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                self / other
            }
            fn divided_by(self, count: usize) -> Self {
                self / count as $t
            }
            #[inline(always)]
            fn floor(self) -> Self {
                <$t>::floor(self)
            }
            #[inline(always)]
            fn index(self, size: usize) -> Option<usize> {
                (self >= 0.0 && self < size as $t).then_some(self as usize)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
        }
    };
}
float!(f32, crate::approx::exp, crate::approx::ln);
float!(f64, libm::exp, libm::log);
