//! Prints the graph's size and every constant of the models given as arguments.

use engine_onnx::{AttrValue, Graph, Model};
use std::path::Path;

fn main() -> std::process::ExitCode {
    let mut failed = false;
    for path in std::env::args().skip(1) {
        if let Err(error) = print(Path::new(&path)) {
            eprintln!("{error}");
            failed = true;
        }
    }
    u8::from(failed).into()
}

fn print(path: &Path) -> Result<(), engine_onnx::OnnxError> {
    let model = Model::open(path)?;
    let (nodes, constants) = (nodes(&model.graph), model.constants());
    println!("{}: {nodes} nodes, {} constants", path.display(), constants.len());
    for constant in constants {
        match constant.data.tensor() {
            Ok(tensor) => println!("  {} {tensor:?}", constant.name),
            Err(error) => println!("  {} {error}", constant.name),
        }
    }
    Ok(())
}

fn nodes(graph: &Graph) -> usize {
    let inner = graph.nodes.iter().flat_map(|node| node.attrs.values().flat_map(AttrValue::graphs));
    graph.nodes.len() + inner.map(nodes).sum::<usize>()
}
