//! From a stripped file and a file of weights to the first output, in turns with OpenVINO, which loads the whole model that it
//! compiled before.

use super::{PAUSE, Times, milliseconds, ratio};
use ::conformance::oracle::Peer;
use engine_runtime::Inputs;
use miette::{IntoDiagnostic, Result};
use std::path::Path;
use std::thread::sleep;

/// Prints how long it takes to `begin`, whose result is let go of when the time has been taken, beside what OpenVINO takes for
/// the model `onnx` and the same inputs. Where OpenVINO cannot be had, that is said.
pub fn in_turns<T>(
    begin: &dyn Fn() -> Result<T>,
    onnx: &Path,
    inputs: &Inputs,
    threads: usize,
    rounds: usize,
) -> Result<()> {
    let mut peer = Peer::openvino(onnx, inputs, threads);
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for round in 0..=rounds {
        // The first round warms caches and is not counted.
        if round == 1 {
            (ours, theirs) = Default::default();
        }
        sleep(PAUSE);
        drop(ours.take(begin)?);
        if let Ok((peer, _)) = &mut peer {
            sleep(PAUSE);
            theirs.0.extend(peer.time(1).into_diagnostic()?);
        }
    }
    let (ours, theirs) = (ours.median(), theirs.median());
    let beside = match &peer {
        Ok(_) => format!(
            "; {:.2} times OpenVINO's load of its compiled model and a first run, {:.2} ms",
            ratio(ours, theirs),
            milliseconds(theirs)
        ),
        Err(why) => format!("; OpenVINO is not there: {why}"),
    };
    println!(
        "  stripped to first output  {:>10.2} ms: load, fill and a first run{beside}",
        milliseconds(ours)
    );
    if let Ok((_, kept)) = &peer {
        println!(
            "  OpenVINO's files          {:>10} bytes when asked to leave weights out, {} whole",
            kept.weightless, kept.whole
        );
    }
    Ok(())
}
