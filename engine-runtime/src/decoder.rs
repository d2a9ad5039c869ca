//! Runs in a row, each over what the one before left on the device.

use crate::error::{RunError, RunErrorKind};
use crate::module::Module;
use crate::options::RunOptions;
use crate::value::{Outputs, Values, port_type};
use engine_format::Port;

/// An output that is an input of the next run: a cache of keys or values, the state of a recurrent layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// Name of the output.
    pub output: String,
    /// Name of the input.
    pub input: String,
}

/// What the names of an output and of the input that takes it differ by, as exporters of decoders write them.
const ENDS: [(&str, &str); 4] = [
    ("present_key_values", "past_key_values"),
    ("present", "past_key_values"),
    ("present", "past"),
    ("_out", "_in"),
];

impl Recurrence {
    /// The recurrences that the names of a module's ports tell: `present.0.key` goes to `past_key_values.0.key`, `present_0` to
    /// `past_0`, `state_out` to `state_in`. Both ends have one element type and one rank.
    pub fn by_names(inputs: &[Port], outputs: &[Port]) -> Vec<Self> {
        let input_of = |output: &Port| {
            let names = ENDS.iter().filter(|(from, _)| output.name.contains(from));
            let mut names = names.map(|(from, to)| output.name.replacen(from, to, 1));
            names.find_map(|name| inputs.iter().find(|port| port.name == name && fit(port, output)))
        };
        let pair = |output: &Port| {
            let input = input_of(output)?.name.clone();
            Some(Self { output: output.name.clone(), input })
        };
        outputs.iter().filter_map(pair).collect()
    }
}

/// Whether a value of one port may be one of the other, as far as type, form and rank are known.
fn fit(input: &Port, output: &Port) -> bool {
    let rank = |port: &Port| port.shape.as_ref().map(Vec::len);
    let same_rank = rank(input).zip(rank(output)).is_none_or(|(a, b)| a == b);
    input.dtype == output.dtype && input.form == output.form && same_rank
}

/// A module whose runs follow one another: what [`Recurrence`]s name stays on the device from one step to the next and
/// never visits the host. It holds what the last step left, which on a GPU keeps the memory of that step's run.
pub struct Decoder<'m> {
    module: &'m dyn Module,
    recurrences: Vec<Recurrence>,
    options: RunOptions,
    state: Values,
}

impl<'m> Decoder<'m> {
    /// A decoder that begins with `state`: values of inputs, of the recurrences and any others that are the same at each step. Each
    /// step is done as `options` say.
    ///
    /// # Errors
    /// `InvalidInputs`: a recurrence of ports that are not there, or that do not fit; an input that two of them feed.
    pub fn new(
        module: &'m dyn Module,
        recurrences: Vec<Recurrence>,
        state: Values,
        mut options: RunOptions,
    ) -> Result<Self, RunError> {
        let find = |ports: &'m [Port], name: &str, what: &str| {
            let names = || ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>();
            let found = ports.iter().find(|port| port.name == name);
            found.ok_or_else(|| {
                invalid(format!("there is no {what} {name:?}: found {}", names().join(", ")))
            })
        };
        for (i, Recurrence { output, input }) in recurrences.iter().enumerate() {
            let from = find(module.outputs(), output, "output")?;
            let to = find(module.inputs(), input, "input")?;
            if !fit(to, from) {
                let (is, wants) = (port_type(from), port_type(to));
                return Err(invalid(format!(
                    "output {output:?} is {is}, which input {input:?} does not take: expected {wants}"
                )));
            }
            if recurrences[..i].iter().any(|other| other.input == *input || other.output == *output)
            {
                return Err(invalid(format!("{output:?} or {input:?} is in two recurrences")));
            }
        }
        options.on_device.extend(recurrences.iter().map(|pair| pair.output.clone()));
        Ok(Self { module, recurrences, options, state })
    }

    /// Runs once over `inputs` and what the step before left, and gives the outputs that are no recurrences. After an error the state is
    /// what it was.
    ///
    /// # Errors
    /// Those of [`Module::run_with`].
    pub fn step(&mut self, inputs: Values) -> Result<Outputs, RunError> {
        let mut all = self.state.clone();
        all.extend(inputs);
        let mut outputs = self.module.run_with(&all, &self.options)?;
        // What this step read is given up before the next one asks for memory.
        drop(all);
        for Recurrence { output, input } in &self.recurrences {
            let tensor = outputs.tensors.remove(output).map(Into::into);
            let value = tensor.or_else(|| outputs.structures.remove(output));
            self.state.extend(value.map(|value| (input.clone(), value)));
        }
        Ok(outputs)
    }

    /// How each step is done. What stays on the device is among it.
    pub fn options(&mut self) -> &mut RunOptions {
        &mut self.options
    }

    /// Values of inputs that the next step has without being given them.
    pub fn state(&self) -> &Values {
        &self.state
    }
}

fn invalid(what: String) -> RunError {
    RunError::new(RunErrorKind::InvalidInputs, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::{DType, Dim, Form, ValueId};

    fn port(name: &str, dtype: DType, rank: usize) -> Port {
        let shape = Some(vec![Dim::from(1i64); rank]);
        Port { name: name.to_owned(), value: ValueId(0), form: Form::Tensor, dtype, shape }
    }

    #[test]
    fn names_tell_recurrences_where_types_agree() {
        let f32s = |names: &[&str]| -> Vec<Port> {
            names.iter().map(|name| port(name, DType::F32, 4)).collect()
        };
        for (input, output) in [
            ("past_key_values.0.decoder.key", "present.0.decoder.key"),
            ("past_key_values.3.value", "present_key_values.3.value"),
            ("past_12", "present_12"),
            ("state_in", "state_out"),
        ] {
            let found = Recurrence::by_names(&f32s(&["ids", input]), &f32s(&["logits", output]));
            let pair = Recurrence { output: output.to_owned(), input: input.to_owned() };
            assert_eq!(found, [pair]);
        }
        let outputs = f32s(&["present.0.key", "logits_out"]);
        for input in [
            port("past_key_values.0.key", DType::F16, 4),
            port("past_key_values.0.key", DType::F32, 3),
            port("past_key_values.1.key", DType::F32, 4),
        ] {
            assert_eq!(Recurrence::by_names(&[input], &outputs), []);
        }
    }
}
