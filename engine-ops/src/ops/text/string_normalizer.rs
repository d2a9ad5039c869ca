//! Strings without stop words, in one case.

use super::string_concat::check_strings;
use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Text};
use crate::{AttrKind, AttrsExt, Default};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};
use std::collections::BTreeSet;

/// StringNormalizer.
pub static STRING_NORMALIZER: OpDef = OpDef {
    name: "StringNormalizer",
    doc: "The strings of a vector `[C]` or row `[1, C]` that are none of `stopwords` (in whichever case, unless \
          `is_case_sensitive`), in the case that `case_change_action` says: LOWER, UPPER or, as they are, NONE. One empty string if \
          none is left. Cases are Unicode's; a `locale` with rules of its own (Turkish, Azeri, Lithuanian) is an error.",
    onnx: &[OnnxName::since("StringNormalizer", 10)],
    attrs: &[
        AttrDef::str("case_change_action", "NONE"),
        AttrDef::int("is_case_sensitive", 0),
        AttrDef { name: "locale", kind: AttrKind::Str, default: Default::Absent },
        AttrDef { name: "stopwords", kind: AttrKind::Strs, default: Default::Absent },
    ],
    inputs: &[Operand::data("X").of(&[DType::String])],
    infer,
    text: Text::Kernel(run),
    cpu: Cpu::Dynamic(run),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_strings(ctx, 0)?;
    changed(ctx.attrs)?;
    let shape = ctx.facts(0)?.shape.as_deref();
    match shape {
        None | Some([_]) => {}
        Some([rows, _]) if rows.known().is_none_or(|rows| rows == 1) => {}
        Some(other) => {
            return Err(InferError::invalid(format!(
                "X is of shape {other:?}, expected [C] or [1, C]"
            )));
        }
    }
    Ok(vec![Facts::unranked(DType::String)])
}

/// What is done to strings that stay.
fn changed(attrs: &Attrs) -> Result<fn(&str) -> String, OpError> {
    if let Some(Attr::Str(locale)) = attrs.get("locale") {
        let language = locale.split(['_', '-', '.']).next().unwrap_or_default();
        if ["tr", "az", "lt"].contains(&language.to_lowercase().as_str()) {
            return Err(OpError::new(format!(
                "locale {locale:?} has rules for cases of its own, expected one with those of Unicode"
            )));
        }
    }
    match attrs.str("case_change_action") {
        "NONE" => Ok(str::to_owned),
        "LOWER" => Ok(str::to_lowercase),
        "UPPER" => Ok(str::to_uppercase),
        other => Err(OpError::new(format!(
            "case_change_action {other:?}, expected LOWER, UPPER or NONE"
        ))),
    }
}

fn run(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.input(0);
    let rank = x.shape.len();
    if rank == 0 || rank > 2 || (rank == 2 && x.shape[0] != 1) {
        let shape: Vec<Dim> = x.shape.iter().map(|&d| Dim::from(d)).collect();
        return Err(OpError::new(format!("X is of shape {shape:?}, expected [C] or [1, C]")));
    }
    let exact = ctx.attrs.int("is_case_sensitive") != 0;
    let key = |text: &str| if exact { text.to_owned() } else { text.to_lowercase() };
    let stop: BTreeSet<String> =
        ctx.attrs.strs("stopwords").unwrap_or_default().iter().map(|word| key(word)).collect();
    let change = changed(ctx.attrs)?;
    let texts = x.strings();
    let stays = |text: &&&str| stop.is_empty() || !stop.contains(&key(text));
    let mut kept: Vec<String> = texts.iter().filter(stays).map(|text| change(text)).collect();
    if kept.is_empty() {
        kept.push(String::new());
    }
    let mut shape = x.shape.to_vec();
    shape[rank - 1] = kept.len();
    Ok(vec![Tensor::from_strings(&shape, &kept)])
}

fn cases() -> Vec<Case> {
    let days = || Tensor::from_strings(&[1, 3], &["Monday", "tuesday", "Größe"]);
    let stop = || Attr::Strs(vec!["monday".to_owned()]);
    let action = |name: &str| Attr::Str(name.to_owned());
    vec![
        Case::new("in any case", vec![days()])
            .attr("stopwords", stop())
            .attr("case_change_action", action("UPPER"))
            .expect(vec![Tensor::from_strings(&[1, 2], &["TUESDAY", "GRÖSSE"])]),
        Case::new("in one case", vec![days()])
            .attr("stopwords", stop())
            .attr("is_case_sensitive", Attr::Int(1))
            .attr("case_change_action", action("LOWER"))
            .expect(vec![Tensor::from_strings(&[1, 3], &["monday", "tuesday", "größe"])]),
        Case::new("nothing is left", vec![Tensor::from_strings(&[2], &["monday", "MONDAY"])])
            .attr("stopwords", stop())
            .expect(vec![Tensor::from_strings(&[1], &[""])]),
    ]
}
