//! Why a case did not pass, and the class of reasons that this belongs to.

use std::fmt;

/// How far a case came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The model file was not read.
    Read,
    /// An input or expected output is nothing that can be fed or compared.
    Data,
    /// The model did not build.
    Build,
    /// The engine did not load onto the device, or its file made no round trip.
    Load,
    /// The run failed.
    Run,
    /// The outputs are wrong.
    Compare,
    /// A promise of refit did not hold.
    Promise,
    /// Something panicked.
    Panic,
    /// It took longer than the limit.
    Time,
}

/// A case that did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How far it came.
    pub stage: Stage,
    /// The error.
    pub message: String,
}

impl Failure {
    /// A failure at `stage`.
    pub fn new(stage: Stage, message: impl Into<String>) -> Self {
        Self { stage, message: message.into() }
    }

    /// The class of the error in a few words, the same for cases that one change would repair. `operator` is the one that
    /// the case is about.
    pub fn reason(&self, operator: &str) -> String {
        let message = &self.message;
        if let Some(kind) = unsupported_type(message) {
            return kind;
        }
        let missing = missing_operators(message);
        if !missing.is_empty() {
            return format!("needs operator {}", missing.join(", "));
        }
        match self.stage {
            Stage::Read => "the model file is refused".to_owned(),
            Stage::Data => "the case's data is refused".to_owned(),
            Stage::Build => format!("{operator}: does not build"),
            Stage::Load => format!("{operator}: does not load"),
            Stage::Run => format!("{operator}: does not run"),
            Stage::Compare => format!("{operator}: wrong result"),
            Stage::Promise => format!("{operator}: breaks a promise of refit"),
            Stage::Panic => format!("{operator}: panics"),
            Stage::Time => format!("{operator}: takes too long"),
        }
    }
}

/// An error at `stage`.
pub(super) fn at<E: fmt::Display>(stage: Stage) -> impl FnOnce(E) -> Failure {
    move |error| Failure::new(stage, error.to_string())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = format!("{:?}", self.stage).to_lowercase();
        write!(f, "{stage}: {}", self.message)
    }
}

/// The value types that are no tensors of numbers, as they are called in messages, and what is said of them.
static TYPES: &[(&str, &str)] = &[
    ("map(", "maps are not taken yet"),
    ("sparse_tensor(", "sparse values are not taken yet"),
    ("complex", "complex numbers are not in the format"),
    ("float8", "8-bit floats are not in the format yet"),
    ("float4", "4-bit floats are not in the format yet"),
    ("int4", "4-bit integers are not in the format yet"),
    ("int2", "2-bit integers are not in the format yet"),
];

/// Numbers of ONNX's element types that this stack does not have, as attributes give them.
const ODD_TYPES: [(&str, &str); 9] = [
    ("element type 17 ", "8-bit floats are not in the format yet"),
    ("element type 18 ", "8-bit floats are not in the format yet"),
    ("element type 19 ", "8-bit floats are not in the format yet"),
    ("element type 20 ", "8-bit floats are not in the format yet"),
    ("element type 21 ", "4-bit integers are not in the format yet"),
    ("element type 22 ", "4-bit integers are not in the format yet"),
    ("element type 23 ", "4-bit floats are not in the format yet"),
    ("element type 24 ", "8-bit floats are not in the format yet"),
    ("element type 25 ", "2-bit integers are not in the format yet"),
];

fn unsupported_type(message: &str) -> Option<String> {
    if let Some((_, reason)) = ODD_TYPES.iter().find(|(text, _)| message.contains(text)) {
        return Some((*reason).to_owned());
    }
    // Only where a message speaks of a port's or a tensor's type; operators have such words in their names.
    let marks = [" is a ", "unsupported element type"];
    let at = marks.iter().find_map(|mark| Some(message.find(mark)? + mark.len()))?;
    let kind = &message[at..];
    TYPES.iter().find(|(word, _)| kind.contains(word)).map(|(_, reason)| (*reason).to_owned())
}

/// The operators that a build error lists as unsupported, one a line: `DOMAIN NAME (opset …`.
fn missing_operators(message: &str) -> Vec<String> {
    let mut lines = message.lines();
    if !lines.next().is_some_and(|line| line.contains("unsupported operators")) {
        return Vec::new();
    }
    let name = |line: &str| {
        let (domain, rest) = line.trim().split_once(' ')?;
        let (name, rest) = rest.split_once(" (opset ")?;
        let inner = rest.split_once(", needs ").map(|(_, needs)| needs);
        let needs = inner.and_then(|needs| needs.split(')').next());
        let domain = if domain == "ai.onnx" { String::new() } else { format!("{domain}.") };
        Some(needs.map_or_else(|| format!("{domain}{name}"), str::to_owned))
    };
    let mut names: Vec<String> = lines.filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_what_is_missing() {
        let build = |message: &str| Failure::new(Stage::Build, message).reason("Foo");
        let two = "2 unsupported operators in 3 nodes:\n  ai.onnx Bar (opset 17): a, b\n  \
                   ai.onnx.ml Scaler (opset 3): c";
        assert_eq!(build(two), "needs operator Bar, ai.onnx.ml.Scaler");
        let inner = "1 unsupported operators in 1 nodes:\n  ai.onnx Mean (opset 13, needs Add): m";
        assert_eq!(build(inner), "needs operator Add");
        assert_eq!(
            build("input \"x\" is a sequence(map(int64, tensor(f32))), not taken here"),
            "maps are not taken yet"
        );
        assert_eq!(build("node \"a\": rank 3"), "Foo: does not build");
    }
}
