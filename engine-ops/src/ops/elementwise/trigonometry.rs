//! Trigonometric and hyperbolic functions, and their inverses.

use super::unary::{INF, NAN, unary};
use crate::approx;

unary!(
    SIN,
    "Sin",
    7,
    [],
    "The sine.",
    |x, p| libm::sinf(x),
    libm::sin(x),
    "sine(x)",
    [
        (0.5, 0.479_425_54),
        (-2.0, -0.909_297_4),
        (100.0, -0.506_365_6),
        (1e3, 0.826_879_56),
        (65_537.0, -0.233_478_44),
        (1e6, -0.349_993_5),
        (1e7, 0.420_547_78),
        (-3e7, -0.964_130_3),
        (1e30, -0.791_163_44),
        (3.4e38, -0.244_084_88),
        (INF, NAN),
        (NAN, NAN)
    ]
);
unary!(
    COS,
    "Cos",
    7,
    [],
    "The cosine.",
    |x, p| libm::cosf(x),
    libm::cos(x),
    "cosine(x)",
    [
        (0.5, 0.877_582_55),
        (-2.0, -0.416_146_84),
        (100.0, 0.862_318_9),
        (1e3, 0.562_379_06),
        (65_537.0, -0.972_362),
        (1e6, 0.936_752_14),
        (1e7, -0.907_270_4),
        (-3e7, -0.265_429_4),
        (1e30, -0.611_604_8),
        (3.4e38, 0.969_753_86),
        (INF, NAN),
        (NAN, NAN)
    ]
);
unary!(
    TAN,
    "Tan",
    7,
    [],
    "The tangent.",
    |x, p| libm::tanf(x),
    libm::tan(x),
    "tangent(x)",
    [
        (0.5, 0.546_302_5),
        (-2.0, 2.185_04),
        (1e3, 1.470_324_2),
        (65_537.0, 0.240_114_73),
        (1e6, -0.373_624_44),
        (1e7, -0.463_530_84),
        (-3e7, 3.632_341_6),
        (1e30, 1.293_585_1),
        (3.4e38, -0.251_697_75),
        (INF, NAN),
        (NAN, NAN)
    ]
);
unary!(
    ASIN,
    "Asin",
    7,
    [],
    "The arc sine; outside −1..1 it is NaN.",
    |x, p| libm::asinf(x),
    libm::asin(x),
    "arc_sine(x)",
    [
        (0.5, std::f32::consts::FRAC_PI_6),
        (-1.0, -std::f32::consts::FRAC_PI_2),
        (2.0, NAN),
        (NAN, NAN)
    ]
);
unary!(
    ACOS,
    "Acos",
    7,
    [],
    "The arc cosine; outside −1..1 it is NaN.",
    |x, p| libm::acosf(x),
    libm::acos(x),
    "arc_cosine(x)",
    [
        (0.5, std::f32::consts::FRAC_PI_3),
        (-1.0, std::f32::consts::PI),
        (1.0, 0.0),
        (2.0, NAN),
        (NAN, NAN)
    ]
);
unary!(
    ATAN,
    "Atan",
    7,
    [],
    "The arc tangent.",
    |x, p| libm::atanf(x),
    libm::atan(x),
    "arc_tangent(x)",
    [
        (0.25, 0.244_978_66),
        (1.0, std::f32::consts::FRAC_PI_4),
        (-5.0, -1.373_400_8),
        (INF, std::f32::consts::FRAC_PI_2),
        (NAN, NAN)
    ]
);
unary!(
    SINH,
    "Sinh",
    9,
    [],
    "The hyperbolic sine.",
    |x, p| libm::sinhf(x),
    libm::sinh(x),
    "sine_hyperbolic(x)",
    [(0.5, 0.521_095_3), (-3.0, -10.017_875), (INF, INF), (-INF, -INF), (NAN, NAN)]
);
unary!(
    COSH,
    "Cosh",
    9,
    [],
    "The hyperbolic cosine.",
    |x, p| libm::coshf(x),
    libm::cosh(x),
    "cosine_hyperbolic(x)",
    [(0.5, 1.127_626), (-3.0, 10.067_662), (-INF, INF), (NAN, NAN)]
);
unary!(
    TANH,
    "Tanh",
    6,
    [],
    "The hyperbolic tangent.",
    |x, p| approx::tanh(x),
    libm::tanh(x),
    "tangens_hyperbolicus(x)",
    [(0.5, 0.462_117_17), (-40.0, -1.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN)]
);
unary!(
    ASINH,
    "Asinh",
    9,
    [],
    "The inverse of the hyperbolic sine.",
    |x, p| libm::asinhf(x),
    libm::asinh(x),
    "area_sine(x)",
    [(0.1, 0.099_834_08), (-3.0, -1.818_446_5), (INF, INF), (NAN, NAN)]
);
unary!(
    ACOSH,
    "Acosh",
    9,
    [],
    "The inverse of the hyperbolic cosine; below 1 it is NaN.",
    |x, p| libm::acoshf(x),
    libm::acosh(x),
    "area_cosine(x)",
    [(1.0, 0.0), (3.0, 1.762_747_2), (0.5, NAN), (INF, INF), (NAN, NAN)]
);
unary!(
    ATANH,
    "Atanh",
    9,
    [],
    "The inverse of the hyperbolic tangent; outside −1..1 it is NaN.",
    |x, p| libm::atanhf(x),
    libm::atanh(x),
    "area_tangent(x)",
    [(0.1, 0.100_335_35), (0.5, 0.549_306_15), (1.0, INF), (-1.0, -INF), (1.5, NAN), (NAN, NAN)]
);
