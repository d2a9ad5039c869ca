//! `refit verify`: an engine against the unoptimised graph of its model.

use super::{open_filled, open_model, open_weights};
use crate::args::{Verify, Weights};
use crate::failure::{Exit, Failure};
use conformance::verify::{VerifyError, verify};
use engine_runtime::{Device, LiveModule};

/// Seeds of the inputs that are compared.
const SEEDS: [u64; 3] = [1, 2, 3];

pub fn run(args: Verify) -> Result<(), Failure> {
    let engine = open_filled(&args.file, &args.weights)?;
    let model = open_model(&args.onnx)?;
    let Weights { sources, changes } = &args.weights;
    let source = open_weights(sources, changes, &|| Ok(engine.clone()))?;
    let device = Device::open(&args.device.device)?;
    let module = LiveModule::load(engine, &device)?;
    let mut different = 0;
    for seed in SEEDS {
        let source = source.as_deref().map(|s| s as &dyn engine_format::WeightSource);
        for compared in verify(&module, &model, source, seed)? {
            match compared.result {
                Ok(agreement) => println!("seed {seed}, {}: agrees, {agreement}", compared.output),
                Err(mismatch) => {
                    different += 1;
                    println!("seed {seed}, {}: DIFFERENT: {mismatch}", compared.output);
                }
            }
        }
    }
    if different > 0 {
        let message = format!(
            "{different} outputs of {} differ from {}",
            args.file.display(),
            args.onnx.display()
        );
        return Err(Failure::new(Exit::Different, message));
    }
    Ok(())
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Run(error) => error.into(),
            VerifyError::Fit(error) => error.into(),
            VerifyError::Load(error) => error.into(),
            VerifyError::Outputs { .. } => Self::new(Exit::Different, error),
            error => Self::new(Exit::File, error),
        }
    }
}
