//! `cargo xtask codegen`: files that are made from the operator table, and the README's list of verbs from the program's interface.

use engine_builder::composed;
use engine_format::{Attrs, DType, Tensor};
use engine_ops::case::Case;
use engine_ops::infer::{Facts, InferCtx, InferError};
use engine_ops::{Kind, OnnxName, OpDef, Role, TABLE, eval, lookup};
use miette::{IntoDiagnostic, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::AssertUnwindSafe;
use std::path::Path;

/// Where the list of verbs is.
const README: &str = "README.md";

/// Where the table of operators is.
const SUPPORT: &str = "docs/SUPPORT.md";

const HEADER: &str = "\
# Operators

Made by `cargo xtask codegen` from the operator table; CI checks that it is up to date. What each does is said in the table itself
(`engine-ops/src/ops`).

## In the table

*Opsets* are those that import one to one; older forms are rewritten on import. *Element types* are those with which the CPU kernel
runs the operator's own cases, all data operands being of that type; operators that only move data take every type, and of those
that are made from shapes and numbers it is the types of their results. On the *GPU*
an operator with a kernel takes the types that are kept there (all but f64 and strings) as far as its kernel does;
the rest runs on the CPU, visibly (`Module::placement`).

| operator | opsets | element types | GPU |
|---|---|---|---|
";

const COMPOSED: &str = "
## Composed on import

Written in terms of the operators above, and as fast as they are.

| ONNX operator | opsets |
|---|---|
";

/// Writes the files; with `check` set only says whether they are up to date.
pub fn run(root: &Path, check: bool) -> Result<()> {
    // A kernel that panics is named with all others, in one error.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let (text, wrong) = support();
    std::panic::set_hook(loud);
    ensure!(
        wrong.is_empty(),
        "{} kernels do not take what their shape rules let through; a rule must refuse such a type by name:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let found = std::fs::read_to_string(root.join(README)).into_diagnostic()?;
    for (file, text) in [(SUPPORT, text), (README, with_usage(&found)?)] {
        let path = root.join(file);
        if check {
            let found = std::fs::read_to_string(&path).into_diagnostic()?;
            ensure!(found == text, "{file} is out of date; `cargo xtask codegen` makes it anew");
        } else {
            std::fs::write(path, text).into_diagnostic()?;
        }
    }
    Ok(())
}

/// The README with the list of verbs in the place of what stands between its marks.
fn with_usage(readme: &str) -> Result<String> {
    const BEGIN: &str = "<!-- made by `cargo xtask codegen` -->\n";
    const END: &str = "<!-- end -->\n";
    let parts =
        readme.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) =
        parts.ok_or_else(|| miette::miette!("{README} has no marks around its list of verbs"))?;
    Ok(format!("{head}{BEGIN}```text\n{}```\n{END}{tail}", refit_cli::usage()))
}

/// The text, and what is wrong with operators: one line each.
fn support() -> (String, Vec<String>) {
    let (mut out, mut wrong) = (HEADER.to_owned(), Vec::new());
    let mut rows: Vec<&OpDef> = TABLE.to_vec();
    rows.sort_by_key(|def| (def.name, def.version));
    for def in rows {
        let opsets: Vec<String> = def.onnx.iter().map(|name| opsets(def, name)).collect();
        let gpu = match (def.kind, def.gpu) {
            (Kind::View, _) => "no copy",
            (Kind::Control, _) => "planned",
            (_, Some(_)) => "yes",
            (_, None) => "–",
        };
        let row = format!(
            "| {} | {} | {} | {gpu} |",
            def.name,
            opsets.join(", "),
            types(def, &mut wrong)
        );
        writeln!(out, "{row}").expect("writing to a String does not fail");
    }
    out += COMPOSED;
    let mut ranges = BTreeMap::<String, Vec<String>>::new();
    for (domain, op, since, until) in composed() {
        let domain = if domain.is_empty() { String::new() } else { format!("{domain}.") };
        ranges.entry(format!("{domain}{op}")).or_default().push(range(since, until));
    }
    for (op, ranges) in ranges {
        writeln!(out, "| {op} | {} |", ranges.join(", "))
            .expect("writing to a String does not fail");
    }
    (out, wrong)
}

/// The opsets of an ONNX name, with the name where it is not the row's.
fn opsets(def: &OpDef, name: &OnnxName) -> String {
    let range = range(name.since, name.until);
    let domain = if name.domain.is_empty() { String::new() } else { format!("{}.", name.domain) };
    match domain.is_empty() && name.name == def.name {
        true => range,
        false => format!("{domain}{} {range}", name.name),
    }
}

fn range(since: i64, until: i64) -> String {
    match until {
        OnnxName::LATEST => format!("{since}+"),
        until if until == since => since.to_string(),
        until => format!("{since}–{until}"),
    }
}

/// The element types with which a case of the operator runs. Where its shape rule takes a type and its kernel does not, a line
/// is added to `wrong`.
fn types(def: &OpDef, wrong: &mut Vec<String>) -> String {
    if def.kind == Kind::Control {
        return "all".to_owned();
    }
    let cases = (def.cases)();
    if !def.inputs.iter().any(|operand| matches!(operand.role, Role::Data | Role::Type)) {
        return made(def, &cases);
    }
    let mut taken = Vec::new();
    for dtype in DType::ALL {
        let results: Vec<Result<bool, String>> =
            cases.iter().map(|case| runs(def, case, dtype)).collect();
        if results.contains(&Ok(true)) {
            taken.push(dtype.name());
        }
        let refused = results.into_iter().find_map(Result::err);
        wrong.extend(refused.map(|why| format!("  {def:?} with operands of {dtype}: {why}")));
    }
    let moves = matches!(def.kind, Kind::Move | Kind::View);
    if moves || taken.len() == DType::ALL.len() {
        return "all".to_owned();
    }
    taken.join(" ")
}

/// The element types of what the cases of an operator make that takes shapes and numbers alone.
fn made(def: &OpDef, cases: &[Case]) -> String {
    let type_of = |case: &Case| {
        let given = case.attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let results = eval(def, &def.normalise(given.collect()).ok()?, &case.inputs, 1).ok()?;
        results.first().map(Tensor::dtype)
    };
    let made: Vec<DType> = cases.iter().filter_map(type_of).collect();
    let made = DType::ALL.into_iter().filter(|dtype| made.contains(dtype)).map(DType::name);
    made.collect::<Vec<_>>().join(" ")
}

/// Whether a case runs with every operand of its first operand's type in type `dtype` instead; false if its shape rule refuses
/// that, an error if its kernel does.
fn runs(def: &OpDef, case: &Case, dtype: DType) -> Result<bool, String> {
    let first = case.inputs.iter().flatten().next();
    let Some(own) = first.map(Tensor::dtype) else { return Ok(false) };
    let given = case.attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let attrs = def.normalise(given.collect()).map_err(|why| why.to_string())?;
    let changed = |(i, input): (usize, &Option<Tensor>)| {
        let Some(input) = input else { return Some(None) };
        let shapes = def.operand(i).is_some_and(|operand| operand.role != Role::Data);
        let changes = input.dtype() == own && !shapes;
        if changes { cast(input, dtype).map(Some) } else { Some(Some(input.clone())) }
    };
    let inputs: Option<Vec<Option<Tensor>>> = case.inputs.iter().enumerate().map(changed).collect();
    let Some(inputs) = inputs else { return Ok(false) };
    let facts: Vec<_> = inputs.iter().map(|input| input.clone().map(Facts::constant)).collect();
    match def.results(&InferCtx { attrs: &attrs, inputs: &facts, outputs: case.outputs }) {
        Ok(_) | Err(InferError::DataDependent) => {}
        Err(_) => return Ok(false),
    }
    let run = AssertUnwindSafe(|| eval(def, &attrs, &inputs, case.outputs));
    match std::panic::catch_unwind(run) {
        Ok(Ok(_)) => Ok(true),
        // What strings say decides whether they are taken.
        Ok(Err(_)) if [own, dtype].contains(&DType::String) => Ok(false),
        Ok(Err(why)) => Err(format!("case {:?}: {why}", case.name)),
        Err(_) => Err(format!("case {:?}: panics", case.name)),
    }
}

/// The tensor in another type; strings need not be numbers.
fn cast(tensor: &Tensor, to: DType) -> Option<Tensor> {
    let def = lookup("CastLike", 1).expect("the table has CastLike");
    let attrs = def.normalise(Attrs::new()).expect("every attribute has a default");
    let operands = [Some(tensor.clone()), Some(Tensor::zeros(to, &[]))];
    eval(def, &attrs, &operands, 1).ok()?.into_iter().next()
}
