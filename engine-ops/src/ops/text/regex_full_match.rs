//! Whether strings match a pattern.

use super::string_concat::check_strings;
use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Text};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, DType, Tensor};
use regex::Regex;

/// RegexFullMatch.
pub static REGEX_FULL_MATCH: OpDef = OpDef {
    name: "RegexFullMatch",
    doc: "Whether each string as a whole matches `pattern`, which is in the syntax of RE2 (`\\w`, `\\d`, `\\s` and `\\b` are ASCII's). \
          `\\Q…\\E` and `\\C` are not taken.",
    onnx: &[OnnxName::since("RegexFullMatch", 20)],
    attrs: &[AttrDef::required("pattern", AttrKind::Str)],
    inputs: &[Operand::data("X").of(&[DType::String])],
    infer,
    text: Text::Kernel(run),
    cpu: Cpu::Dynamic(run),
    cases: || {
        let text = |v: &[&str]| Tensor::from_strings(&[v.len()], v);
        let pattern = |p: &str| Attr::Str(p.to_owned());
        vec![
            Case::new("addresses", vec![text(&["www.google.com", "www.bbc.co.uk", ""])])
                .attr("pattern", pattern(r"www\.[\w.-]+\.\bcom\b"))
                .expect(vec![Tensor::from_bools(&[3], &[true, false, false])]),
            Case::new("the whole of one alternative", vec![text(&["ab", "abc", "b"])])
                .attr("pattern", pattern("a|ab"))
                .expect(vec![Tensor::from_bools(&[3], &[true, false, false])]),
            Case::new("letters of ASCII", vec![text(&["é", "a", "["])])
                .attr("pattern", pattern(r"[[\w]"))
                .expect(vec![Tensor::from_bools(&[3], &[false, true, true])]),
        ]
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_strings(ctx, 0)?;
    compiled(ctx.attrs.str("pattern"))?;
    Ok(vec![Facts { dtype: DType::Bool, value: None, ..ctx.facts(0)?.clone() }])
}

fn run(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.input(0);
    let pattern = compiled(ctx.attrs.str("pattern"))?;
    let found: Vec<bool> = x.strings().iter().map(|text| pattern.is_match(text)).collect();
    Ok(vec![Tensor::from_bools(x.shape, &found)])
}

fn compiled(pattern: &str) -> Result<Regex, OpError> {
    let whole = format!(r"\A(?:{})\z", translated(pattern));
    Regex::new(&whole).map_err(|error| OpError::new(format!("pattern {pattern:?}: {error}")))
}

/// A pattern of RE2 in the syntax of the crate `regex`, which reads classes as Unicode's and gives some characters inside
/// brackets a meaning that they do not have in RE2.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                let escaped = rest.next();
                match escaped {
                    Some('w') => out.push_str("[0-9A-Za-z_]"),
                    Some('W') => out.push_str("[^0-9A-Za-z_]"),
                    Some('d') => out.push_str("[0-9]"),
                    Some('D') => out.push_str("[^0-9]"),
                    Some('s') => out.push_str(r"[\t\n\f\r ]"),
                    Some('S') => out.push_str(r"[^\t\n\f\r ]"),
                    Some('b') if !in_class => out.push_str(r"(?-u:\b)"),
                    Some('B') if !in_class => out.push_str(r"(?-u:\B)"),
                    other => {
                        out.push('\\');
                        out.extend(other);
                    }
                }
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                // Right after the opening, a bracket stands for itself.
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if rest.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            '[' if rest.peek() != Some(&':') => out.push_str(r"\["),
            '&' | '~' if in_class => out.extend(['\\', c]),
            ']' if in_class => {
                // The end of `[:name:]` is no end of the class around it.
                in_class = named(&out);
                out.push(']');
            }
            _ => out.push(c),
        }
    }
    out
}

/// Whether `text` ends inside the name of a class such as `[:alpha:`.
fn named(text: &str) -> bool {
    text.rsplit_once("[:").is_some_and(|(_, name)| {
        name.strip_suffix(':')
            .is_some_and(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '^'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_re2_mean_what_they_mean_there() {
        // Pattern, what matches, what does not. The answers are those of ONNX Runtime, which uses RE2.
        let table: &[(&str, &[&str], &[&str])] = &[
            (r".", &["é", "a"], &["\n", ""]),
            (r"\d+", &["12"], &["٣", ""]),
            (r"\W", &["é", "-"], &["a", "_"]),
            (r"[^\w]", &["é"], &["a"]),
            (r"[[:alpha:]x-]+", &["a-x"], &["1", "["]),
            (r"[]a]+", &["]a"], &["[", "b"]),
            (r"[^]a]", &["b"], &["]", "a"]),
            (r"[a&&b]+", &["a&b"], &["c"]),
            (r"[[a]", &["[", "a"], &["b"]),
            (r"(?i)ab", &["AB", "ab"], &["a"]),
            (r"\.\[\]", &[".[]"], &["a[]"]),
            (r"a{2,3}", &["aa", "aaa"], &["a", "aaaa"]),
            (r"\pL+", &["éa"], &["1"]),
            ("", &[""], &["a"]),
        ];
        for (pattern, yes, no) in table {
            let compiled = compiled(pattern).unwrap();
            yes.iter().for_each(|text| assert!(compiled.is_match(text), "{pattern} {text:?}"));
            no.iter().for_each(|text| assert!(!compiled.is_match(text), "{pattern} {text:?}"));
        }
    }

    #[test]
    fn what_is_no_pattern_here_is_an_error() {
        for pattern in ["(", r"\Qa\E", r"\C", r"(a)\1", r"a(?=b)"] {
            let error = compiled(pattern).unwrap_err().to_string();
            assert!(error.contains(&format!("{pattern:?}")), "{error}");
        }
    }
}
