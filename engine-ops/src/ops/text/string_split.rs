//! Strings cut at a delimiter.

use super::string_concat::check_strings;
use crate::AttrsExt;
use crate::case::{Case, ints};
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, AttrKind, Default, OnnxName, OpDef, OpError, Operand, Text};
use engine_format::{Attr, DType, Tensor};

/// StringSplit.
pub static STRING_SPLIT: OpDef = OpDef {
    name: "StringSplit",
    doc: "The parts of each string between delimiters, along a new last axis as long as the most parts need, filled up with empty \
          strings; and the number of parts of each. Without a delimiter, or with an empty one, strings are cut at stretches of \
          white space, that around them being dropped. After `maxsplit` cuts the rest is one part.",
    onnx: &[OnnxName::since("StringSplit", 20)],
    attrs: &[
        AttrDef::str("delimiter", ""),
        AttrDef { name: "maxsplit", kind: AttrKind::Int, default: Default::Absent },
    ],
    inputs: &[Operand::data("X").of(&[DType::String])],
    outputs: &["Y", "Z"],
    infer,
    text: Text::Kernel(run),
    cpu: Cpu::Dynamic(run),
    cases: || {
        let text = |v: &[&str]| Tensor::from_strings(&[v.len()], v);
        vec![
            Case::new("at dots", vec![text(&["a.b", ".c.", ""])])
                .attr("delimiter", Attr::Str(".".to_owned()))
                .expect(vec![
                    Tensor::from_strings(&[3, 3], &["a", "b", "", "", "c", "", "", "", ""]),
                    ints(&[2, 3, 1]),
                ]),
            Case::new("at white space", vec![text(&["  hello   world ", "\t"])]).expect(vec![
                Tensor::from_strings(&[2, 2], &["hello", "world", "", ""]),
                ints(&[2, 0]),
            ]),
            Case::new("once at white space", vec![text(&[" a b  c "])])
                .attr("maxsplit", Attr::Int(1))
                .expect(vec![Tensor::from_strings(&[1, 2], &["a", "b  c"]), ints(&[2])]),
            Case::new("nothing", vec![text(&[])])
                .expect(vec![Tensor::from_strings(&[0, 0], &[""; 0]), ints(&[])]),
        ]
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_strings(ctx, 0)?;
    let counts = Facts { dtype: DType::I64, value: None, ..ctx.facts(0)?.clone() };
    let mut out = vec![Facts::unranked(DType::String), counts];
    out.truncate(ctx.outputs.max(1));
    Ok(out)
}

fn run(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.input(0);
    let most = match ctx.attrs.opt_int("maxsplit") {
        Some(cuts) => usize::try_from(cuts)
            .map_err(|_| OpError::new(format!("maxsplit is {cuts}, expected none or more")))?,
        None => usize::MAX,
    };
    let texts = x.strings();
    let parts: Vec<Vec<&str>> = match ctx.attrs.str("delimiter") {
        "" => texts.iter().map(|text| words(text, most)).collect(),
        delimiter => {
            let most = most.saturating_add(1);
            texts.iter().map(|text| text.splitn(most, delimiter).collect()).collect()
        }
    };
    let width = parts.iter().map(Vec::len).max().unwrap_or(0);
    let blank = |row: &Vec<&str>| std::iter::repeat_n("", width - row.len());
    let cells: Vec<&str> =
        parts.iter().flat_map(|row| row.iter().copied().chain(blank(row))).collect();
    let counts: Vec<i64> = parts.iter().map(|row| row.len() as i64).collect();
    let shape = [x.shape, &[width]].concat();
    Ok(vec![Tensor::from_strings(&shape, &cells), Tensor::from_slice(x.shape, &counts)])
}

/// What stands between stretches of white space, after `most` cuts all of the rest.
fn words(text: &str, most: usize) -> Vec<&str> {
    let mut rest = text.trim();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let cut = if out.len() < most { rest.find(char::is_whitespace) } else { None };
        let (word, behind) = rest.split_at(cut.unwrap_or(rest.len()));
        out.push(word);
        rest = behind.trim_start();
    }
    out
}
