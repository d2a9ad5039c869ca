//! The checks behind [`crate::Engine::new`] and [`crate::Engine::read`]: what an engine must be beyond
//! being well encoded.

use crate::{
    Alias, Attr, Block, DType, Digest, EngineFlags, EngineParts, FormatError, FormatErrorKind,
    Node, Port, ValueId, Weight, WeightData, limits, size,
};
use std::collections::BTreeSet;
use std::fmt::Display;

/// Checks everything but the weights' digests.
pub(crate) fn check(parts: &EngineParts) -> Result<(), FormatError> {
    parts.flags.check()?;
    check_strings(parts)?;
    check_ports(&parts.inputs, "input")?;
    check_ports(&parts.outputs, "output")?;
    check_sorted(parts.source_literals.iter().map(|l| l.name.as_str()), "source literals")?;
    check_sorted(parts.ignored.iter().map(String::as_str), "ignored names")?;
    for literal in &parts.literals {
        check_rank(literal.tensor.shape(), &format!("the literal of value {}", literal.value.0))?;
    }
    check_weights(parts)?;
    check_values(parts)
}

/// Checks that what is stored has the digest that is claimed.
pub(crate) fn check_digests(weights: &[Weight]) -> Result<(), FormatError> {
    for weight in weights {
        if let (WeightData::Stored(bytes), Some(claimed)) = (&weight.data, weight.digest) {
            let found = Digest::of(bytes);
            if found != claimed {
                return Err(invalid("bytes do not match their digest", &weight_place(weight))
                    .expected(claimed)
                    .found(found));
            }
        }
    }
    Ok(())
}

fn invalid(what: impl Into<String>, place: &dyn Display) -> FormatError {
    FormatError::new(FormatErrorKind::InvalidEngine, what).at(place)
}

fn over(what: &str, place: &dyn Display, cap: usize, found: usize) -> FormatError {
    FormatError::new(FormatErrorKind::LimitExceeded, what)
        .at(place)
        .expected(format!("at most {cap}"))
        .found(found)
}

fn weight_place(weight: &Weight) -> String {
    format!("weight {:?}", weight.name)
}

/// A name: not empty, within the cap.
fn check_name(name: &str, place: &dyn Display) -> Result<(), FormatError> {
    if name.is_empty() {
        return Err(invalid("empty name", place));
    }
    if name.len() > limits::NAME_BYTES {
        return Err(over("bytes of a name", place, limits::NAME_BYTES, name.len()));
    }
    Ok(())
}

fn check_rank(shape: &[usize], place: &dyn Display) -> Result<(), FormatError> {
    if shape.len() > limits::RANK {
        return Err(over("number of dimensions", place, limits::RANK, shape.len()));
    }
    Ok(())
}

/// Free text is capped too, so that what is written can be read.
fn check_text(text: &str, place: &dyn Display) -> Result<(), FormatError> {
    if text.len() > limits::STRING_BYTES {
        return Err(over("bytes of a string", place, limits::STRING_BYTES, text.len()));
    }
    Ok(())
}

fn check_strings(parts: &EngineParts) -> Result<(), FormatError> {
    let mut metadata = parts.metadata.iter().flat_map(|(key, value)| [key, value]);
    metadata.try_for_each(|text| check_text(text, &"metadata"))?;
    let mut weights = parts.weights.iter();
    weights.try_for_each(|w| check_text(w.pinned.as_deref().unwrap_or_default(), &weight_place(w)))
}

fn check_sorted<'a>(
    mut names: impl Iterator<Item = &'a str>,
    place: &str,
) -> Result<(), FormatError> {
    let mut before: Option<&str> = None;
    names.try_for_each(|name| {
        check_name(name, &place)?;
        if let Some(before) = before.filter(|&before| before >= name) {
            return Err(invalid("names not sorted, or one twice", &place)
                .expected(format!("a name after {before:?}"))
                .found(format!("{name:?}")));
        }
        before = Some(name);
        Ok(())
    })
}

fn check_ports(ports: &[Port], what: &str) -> Result<(), FormatError> {
    let mut names = BTreeSet::new();
    for port in ports {
        let place = format!("{what} {:?}", port.name);
        check_name(&port.name, &place)?;
        if !names.insert(&port.name) {
            return Err(invalid("two of one name", &place));
        }
        let shape = port.shape.as_deref().unwrap_or_default();
        if shape.len() > limits::RANK {
            return Err(over("number of dimensions", &place, limits::RANK, shape.len()));
        }
        for dim in shape {
            if dim.known().is_some_and(|size| size < 0) {
                return Err(invalid("negative dimension", &place).found(dim));
            }
            if dim.known().is_none() {
                check_name(&dim.to_string(), &place)?;
            }
        }
    }
    Ok(())
}

fn check_weights(parts: &EngineParts) -> Result<(), FormatError> {
    if parts.weights.len() > limits::WEIGHTS {
        let found = parts.weights.len();
        return Err(over("number of weights", &"the weight table", limits::WEIGHTS, found));
    }
    check_sorted(parts.weights.iter().map(|weight| weight.name.as_str()), "the weight table")?;
    let own: BTreeSet<&str> = parts.weights.iter().map(|w| w.name.as_str()).collect();
    let mut names = own.clone();
    let other_names = parts
        .source_literals
        .iter()
        .map(|literal| (&literal.name, "a source literal"))
        .chain(parts.weights.iter().flat_map(plain_aliases).map(|name| (name, "an alias")));
    let twice = |name: &str, what: &str| {
        Err(invalid("a name that stands for two things", &what).found(format!("{name:?}")))
    };
    for (name, what) in other_names {
        check_name(name, &what)?;
        if !names.insert(name) {
            return twice(name, what);
        }
    }
    check_views(&parts.weights, &names, &own, &twice)?;
    // A weight's own name is ignored where the exporter calculated something and called it so.
    for name in &parts.ignored {
        if !names.insert(name) && !own.contains(name.as_str()) {
            return twice(name, "an ignored name");
        }
    }
    let mut total = 0u64;
    for weight in &parts.weights {
        total = check_weight(weight, parts.flags)?.saturating_add(total);
        if total > limits::TOTAL_BYTES {
            let cap = limits::TOTAL_BYTES as usize;
            return Err(over("bytes of all weights", &weight_place(weight), cap, total as usize));
        }
    }
    let individual = parts.flags.contains(EngineFlags::REFIT_INDIVIDUAL);
    if individual && !parts.weights.iter().any(Weight::is_strippable) {
        return Err(FormatError::new(
            FormatErrorKind::InvalidFlags,
            "REFIT_INDIVIDUAL marks no weight as refittable",
        )
        .at("the weight table"));
    }
    Ok(())
}

fn plain_aliases(weight: &Weight) -> impl Iterator<Item = &String> {
    weight.aliases.iter().filter_map(|alias| match alias {
        Alias::Name(name) => Some(name),
        Alias::View(_) => None,
    })
}

/// A view gives its weight, of names that mean nothing else in a model file: one may be a weight's own name or an ignored one,
/// which it then is in checkpoints only.
fn check_views(
    weights: &[Weight],
    names: &BTreeSet<&str>,
    own: &BTreeSet<&str>,
    twice: &dyn Fn(&str, &str) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    for weight in weights {
        let place = weight_place(weight);
        for alias in &weight.aliases {
            let Alias::View(view) = alias else { continue };
            for part in &view.parts {
                check_name(&part.name, &place)?;
                check_rank(&part.info.shape, &place)?;
                let bytes = size::elements(&part.info.shape);
                if bytes.is_none_or(|n| n as u64 > limits::TOTAL_BYTES / 8) {
                    let cap = limits::TOTAL_BYTES as usize;
                    return Err(over("bytes of a tensor of a view", &place, cap, usize::MAX));
                }
                if names.contains(part.name.as_str()) && !own.contains(part.name.as_str()) {
                    return twice(&part.name, "a view");
                }
            }
            if !view.gives(&weight.info()) {
                return Err(invalid("a view that does not give its weight", &place)
                    .expected(weight.info())
                    .found(view));
            }
        }
    }
    Ok(())
}

/// Checks one row and returns its bytes.
fn check_weight(weight: &Weight, flags: EngineFlags) -> Result<u64, FormatError> {
    let place = weight_place(weight);
    check_rank(&weight.shape, &place)?;
    if weight.dtype.size().is_none() {
        return Err(invalid("a weight of strings", &place)
            .expected("a literal: strings are part of the program"));
    }
    let bytes = size::byte_len(weight.dtype, &weight.shape).ok_or_else(|| {
        over("bytes of a weight", &place, limits::TOTAL_BYTES as usize, usize::MAX)
    })?;
    if !flags.contains(EngineFlags::REFIT_INDIVIDUAL) && weight.refittable == flags.is_frozen() {
        return Err(invalid("the refittable mark contradicts the flags", &place)
            .expected(!flags.is_frozen())
            .found(weight.refittable));
    }
    let strippable = weight.is_strippable();
    match &weight.data {
        WeightData::Stored(data) => {
            if strippable && flags.contains(EngineFlags::EXCLUDE_WEIGHTS) {
                return Err(invalid("a stored weight under EXCLUDE_WEIGHTS", &place));
            }
            check_stored(weight, data, bytes, &place)?;
        }
        WeightData::Missing if !strippable => {
            return Err(FormatError::new(
                FormatErrorKind::MissingWeights,
                "a parameter, pinned or frozen weight without bytes",
            )
            .names(vec![weight.name.clone()]));
        }
        WeightData::Missing if !flags.contains(EngineFlags::EXCLUDE_WEIGHTS) => {
            return Err(FormatError::new(
                FormatErrorKind::MissingWeights,
                "a weight without bytes, but no EXCLUDE_WEIGHTS",
            )
            .names(vec![weight.name.clone()]));
        }
        WeightData::Missing => {
            let identical = flags.contains(EngineFlags::REFIT_IDENTICAL);
            if weight.digest.is_some() != identical {
                return Err(invalid("digest of a missing weight", &place).expected(if identical {
                    "one: REFIT_IDENTICAL checks it"
                } else {
                    "none"
                }));
            }
        }
    }
    Ok(bytes as u64)
}

fn check_stored(
    weight: &Weight,
    data: &[u8],
    bytes: usize,
    place: &str,
) -> Result<(), FormatError> {
    if data.len() != bytes {
        return Err(invalid("bytes of a weight", &place).expected(bytes).found(data.len()));
    }
    if weight.digest.is_none() {
        return Err(invalid("a stored weight without a digest", &place));
    }
    let dtype = weight.dtype;
    if dtype.is_restricted()
        && let Some(at) = data.iter().position(|&byte| !dtype.is_code(byte))
    {
        return Err(invalid(format!("byte {at} of a {dtype} weight"), &place)
            .expected(if dtype == DType::Bool { "0 or 1" } else { "one of the type's values" })
            .found(data[at]));
    }
    Ok(())
}

/// What is known of a value id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Undefined,
    Visible,
    /// Defined where it cannot be seen from here: inside a block that ended, or in `prepare`.
    Hidden,
}

struct Values {
    states: Vec<State>,
    /// Defined so far, in order; the end of it is the scope of the current block.
    defined: Vec<ValueId>,
}

fn check_values(parts: &EngineParts) -> Result<(), FormatError> {
    if parts.values as usize > limits::VALUES {
        return Err(over("number of values", &"values", limits::VALUES, parts.values as usize));
    }
    let mut values =
        Values { states: vec![State::Undefined; parts.values as usize], defined: Vec::new() };
    for literal in &parts.literals {
        values.define(literal.value, &"a literal")?;
    }
    for weight in &parts.weights {
        values.define(weight.value, &weight.name)?;
    }
    check_prepare(&mut values, &parts.prepare)?;
    for port in &parts.inputs {
        values.define(port.value, &port.name)?;
    }
    if !parts.execute.inputs.is_empty() {
        return Err(invalid("block inputs: the engine's inputs are its ports", &"execute"));
    }
    values.nodes(&parts.execute, "execute", 0)?;
    let ports: Vec<ValueId> = parts.outputs.iter().map(|port| port.value).collect();
    if parts.execute.outputs != ports {
        return Err(invalid("outputs", &"execute")
            .expected(format!("the values of the output ports, {ports:?}"))
            .found(format!("{:?}", parts.execute.outputs)));
    }
    Ok(())
}

/// Walks `prepare` and leaves only its outputs visible. Engine inputs are not defined yet, so that a
/// use of one is an error.
fn check_prepare(values: &mut Values, prepare: &Block) -> Result<(), FormatError> {
    if !prepare.inputs.is_empty() {
        return Err(invalid("block inputs: it starts from weights and literals", &"prepare"));
    }
    let scope = values.defined.len();
    values.nodes(prepare, "prepare", 0)?;
    let own: BTreeSet<ValueId> = values.defined[scope..].iter().copied().collect();
    values.leave(scope);
    for &output in &prepare.outputs {
        if !own.contains(&output) {
            return Err(
                invalid("an output that no node of prepare makes", &"prepare").found(output.0)
            );
        }
        let state = &mut values.states[output.index()];
        if *state == State::Visible {
            return Err(invalid("an output twice", &"prepare").found(output.0));
        }
        *state = State::Visible;
    }
    Ok(())
}

impl Values {
    fn define(&mut self, value: ValueId, place: &dyn Display) -> Result<(), FormatError> {
        let count = self.states.len();
        let state = self.states.get_mut(value.index()).ok_or_else(|| {
            invalid("value id out of range", place)
                .expected(format!("below {count}"))
                .found(value.0)
        })?;
        if *state != State::Undefined {
            return Err(invalid("value defined twice", place).found(value.0));
        }
        *state = State::Visible;
        self.defined.push(value);
        Ok(())
    }

    fn used(&self, value: ValueId, place: &dyn Display) -> Result<(), FormatError> {
        match self.states.get(value.index()) {
            Some(State::Visible) => Ok(()),
            Some(State::Hidden) => {
                Err(invalid("value used outside the block that defines it", place).found(value.0))
            }
            _ => Err(invalid("value used before it is defined", place).found(value.0)),
        }
    }

    /// Hides what was defined since `scope`.
    fn leave(&mut self, scope: usize) {
        for value in self.defined.drain(scope..) {
            self.states[value.index()] = State::Hidden;
        }
    }

    /// The nodes and outputs of a block, in the current scope.
    fn nodes(&mut self, block: &Block, place: &str, depth: usize) -> Result<(), FormatError> {
        for node in &block.nodes {
            self.node(node, depth)?;
        }
        block.outputs.iter().try_for_each(|&output| self.used(output, &place))
    }

    fn node(&mut self, node: &Node, depth: usize) -> Result<(), FormatError> {
        let place = format!("node {:?} ({})", node.name, node.op);
        check_name(&node.op, &place)?;
        check_name(&node.name, &place)?;
        if node.inputs.last() == Some(&None) {
            return Err(invalid("a trailing omitted operand, which is not stored", &place));
        }
        node.inputs.iter().flatten().try_for_each(|&input| self.used(input, &place))?;
        for (name, attr) in &node.attrs {
            check_name(name, &place)?;
            match attr {
                Attr::Block(block) => {
                    self.inner(block, &format!("{name} of {place}"), depth + 1)?;
                }
                Attr::Str(text) => check_text(text, &place)?,
                Attr::Strs(texts) => texts.iter().try_for_each(|text| check_text(text, &place))?,
                Attr::Int(_) | Attr::Float(_) | Attr::Ints(_) | Attr::Floats(_) => {}
            }
        }
        node.outputs.iter().flatten().try_for_each(|&output| self.define(output, &place))
    }

    fn inner(&mut self, block: &Block, place: &str, depth: usize) -> Result<(), FormatError> {
        if depth > limits::BLOCK_DEPTH {
            return Err(over("blocks inside blocks", &place, limits::BLOCK_DEPTH, depth));
        }
        let scope = self.defined.len();
        block.inputs.iter().try_for_each(|&input| self.define(input, &place))?;
        self.nodes(block, place, depth)?;
        self.leave(scope);
        Ok(())
    }
}
