//! Operands of floats that lie in a buffer as halves, two in a word: half the memory, half the traffic, on every device.

use super::{GpuCtx, render};
use engine_format::DType;

/// How the elements of a float operand lie in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lying {
    /// One in a word.
    Words,
    /// Two in a word, as `f16`.
    F16,
    /// Two in a word, as `bf16`.
    BF16,
}

impl Lying {
    /// How operand `i` lies.
    pub(crate) fn of(ctx: &GpuCtx<'_>, i: usize) -> Self {
        match ctx.input(i).dtype {
            DType::F16 if ctx.lies_in_halves(i) => Self::F16,
            DType::BF16 if ctx.lies_in_halves(i) => Self::BF16,
            _ => Self::Words,
        }
    }

    /// The type of which an array is bound, for elements of type `{{T}}`: of four elements at once if `quads`.
    pub(crate) fn element(self, quads: bool) -> &'static str {
        match (self, quads) {
            (Self::Words, true) => "vec4<{{T}}>",
            (Self::Words, false) => "{{T}}",
            (_, true) => "vec2<u32>",
            (_, false) => "u32",
        }
    }

    /// WGSL of the function `{array}_at`, which gives an element of `array`, or four if `quads`, by its index.
    pub(crate) fn reader(self, array: &str, quads: bool) -> String {
        let text = match (self, quads) {
            (Self::Words, true) => {
                "fn {{array}}_at(i: u32) -> vec4<{{T}}> { return {{array}}[i]; }"
            }
            (Self::Words, false) => "fn {{array}}_at(i: u32) -> {{T}} { return {{array}}[i]; }",
            (Self::F16, true) => {
                "fn {{array}}_at(i: u32) -> vec4<f32> {
    let words = {{array}}[i];
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}"
            }
            (Self::F16, false) => {
                "fn {{array}}_at(i: u32) -> f32 {
    let pair = unpack2x16float({{array}}[i / 2u]);
    return select(pair.x, pair.y, i % 2u == 1u);
}"
            }
            (Self::BF16, true) => {
                "fn {{array}}_at(i: u32) -> vec4<f32> {
    let words = {{array}}[i];
    let bits = vec4<u32>(words.x << 16u, words.x, words.y << 16u, words.y);
    return bitcast<vec4<f32>>(bits & vec4<u32>(0xffff0000u));
}"
            }
            (Self::BF16, false) => {
                "fn {{array}}_at(i: u32) -> f32 {
    let word = {{array}}[i / 2u];
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, i % 2u == 1u));
}"
            }
        };
        render(text, &[("array", array)])
    }

    /// How many elements an invocation reads at once where all sizes are multiples of what `whole` says: those of 16 bytes, or four.
    pub(crate) fn line(self, whole: impl Fn(usize) -> bool) -> Option<usize> {
        let most = if self == Self::Words { 4 } else { 8 };
        [most, 4].into_iter().find(|&line| whole(line))
    }

    /// The type of which an array is bound of which so many elements are read at once.
    pub(crate) fn line_element(self, line: usize) -> &'static str {
        if line == 4 { self.element(true) } else { "vec4<u32>" }
    }

    /// WGSL of the functions `{array}_low` and, where a line has eight elements, `{array}_high`: the vectors of four elements in a line.
    pub(crate) fn line_reader(self, array: &str, line: usize) -> String {
        let low = match self {
            Self::Words => "return line;",
            Self::F16 => "return vec4<f32>(unpack2x16float(line.x), unpack2x16float(line.y));",
            Self::BF16 => {
                "let bits = vec4<u32>(line.x << 16u, line.x, line.y << 16u, line.y);
    return bitcast<vec4<f32>>(bits & vec4<u32>(0xffff0000u));"
            }
        };
        let high = "fn {{array}}_high(line: vec4<u32>) -> vec4<f32> { return {{array}}_low(line.zwzw); }\n";
        let text = "fn {{array}}_low(line: {{line_type}}) -> vec4<{{T}}> {\n    {{low}}\n}\n";
        let text = text.to_owned() + if line == 4 { "" } else { high };
        let values = [("array", array), ("line_type", self.line_element(line)), ("low", low)];
        render(&text, &values)
    }
}
