//! What is done with an engine, wherever it is from.

use crate::choices::Choices;
use engine_format::{
    Attr, Block, Bytes, Dim, Engine, EngineFlags, MapSource, Port, SerializeFlags, Tensor,
};
use engine_runtime::{
    Cancel, Device, LiveModule, MemoryLimits, Module, PackedModule, RunError, RunErrorKind,
    RunOptions, Values,
};
use engine_verify::inputs::{Freedom, Sizes, seeded};
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Elements that an input is made with.
const MOST_ELEMENTS: usize = 1 << 14;

/// What a tensor and a run may take: so much that no machine lacks it, and that a kernel ends soon.
const LIMITS: MemoryLimits = MemoryLimits { tensor: 16 << 20, run: 64 << 20 };

/// After which a run is given up.
const LONGEST: Duration = Duration::from_secs(2);

/// Writes, reads, strips, fills, loads and runs an engine, and holds the two module paths against each other.
pub fn engine(engine: Engine, choices: &mut Choices<'_>) {
    let mut options = match engine.is_full() {
        true => SerializeFlags::default(),
        false => SerializeFlags::EXCLUDE_WEIGHTS,
    };
    options.set(SerializeFlags::COMPRESS, engine.flags().contains(EngineFlags::COMPRESSED));
    let file = engine.serialize(options).expect("an engine serializes as what it is");
    let again = Engine::read(Bytes::from(file.clone())).expect("what was written is read");
    assert!(again.serialize(options).as_ref() == Ok(&file), "the same engine gives the same bytes");
    let engine = match engine.is_full() {
        true => engine,
        false => match fill(&engine) {
            Some(full) => full,
            None => return,
        },
    };
    run(engine, choices);
}

/// The engine with zeros for weights, if they are not too large and it takes any.
fn fill(engine: &Engine) -> Option<Engine> {
    let mut source = MapSource::new();
    for weight in &engine.parts().weights {
        if weight.byte_len() > MOST_ELEMENTS {
            return None;
        }
        let zeros = Tensor::zeros(weight.dtype, &weight.shape);
        source.insert(weight.name.clone(), zeros);
    }
    engine.fill(&source, Default::default()).ok()
}

fn run(engine: Engine, choices: &mut Choices<'_>) {
    static DEVICE: LazyLock<Device> = LazyLock::new(|| Device::cpu().with_limits(LIMITS));
    let live = LiveModule::load(engine.clone(), &DEVICE);
    let file = engine.serialize(SerializeFlags::default()).expect("a full engine serializes");
    let packed = PackedModule::load(file.into(), &DEVICE);
    let (live, packed) = match (live, packed) {
        (Ok(live), Ok(packed)) => (live, packed),
        (Err(_), Err(_)) => return,
        (live, packed) => panic!("loaded live: {}, packed: {}", live.is_ok(), packed.is_ok()),
    };
    let Some(inputs) = inputs(live.inputs(), choices) else { return };
    let (a, b) = (outcome(&live, &inputs), outcome(&packed, &inputs));
    let cancelled = |outcome: &Result<Results, RunError>| {
        outcome.as_ref().is_err_and(|error| error.kind() == RunErrorKind::Cancelled)
    };
    if !cancelled(&a) && !cancelled(&b) && !is_random(&engine) {
        let [a, b] = [a, b].map(|outcome| outcome.map_err(|error| error.to_string()));
        assert!(a == b, "both module paths give the same: {}", difference(&a, &b));
    }
}

fn difference(a: &Result<Results, String>, b: &Result<Results, String>) -> String {
    match (a, b) {
        (Ok(_), Ok(_)) => "other values".to_owned(),
        (a, b) => format!("{:?} and {:?}", a.as_ref().err(), b.as_ref().err()),
    }
}

/// Whether a node draws by chance, without a seed that makes it give the same twice.
fn is_random(engine: &Engine) -> bool {
    fn any(block: &Block) -> bool {
        block.nodes.iter().any(|node| {
            let random = engine_ops::lookup(&node.op, node.version).is_some_and(|def| def.random);
            let mut blocks = node.attrs.values().filter_map(|attr| match attr {
                Attr::Block(block) => Some(block),
                _ => None,
            });
            random || blocks.any(any)
        })
    }
    any(&engine.parts().execute)
}

/// Tensors, and sequences and optional values.
type Results = (BTreeMap<String, Tensor>, Values);

fn outcome(module: &dyn Module, inputs: &Values) -> Result<Results, RunError> {
    let cancel = Cancel::new();
    watch(&cancel);
    let options = RunOptions { cancel: Some(cancel), ..RunOptions::default() };
    module.run_with(inputs, &options).map(|outputs| (outputs.tensors, outputs.structures))
}

/// Made-up inputs; `None` if the ports ask for more than is worth while.
fn inputs(ports: &[Port], choices: &mut Choices<'_>) -> Option<Values> {
    let size = [1, 2, 3, 0][choices.below(4)];
    let known = |dim: &Dim| dim.known().map_or(Some(3), |n| usize::try_from(n).ok());
    for port in ports {
        let mut dims = port.shape.iter().flatten();
        dims.try_fold(1usize, |n, dim| n.checked_mul(known(dim)?))
            .filter(|&elements| elements <= MOST_ELEMENTS)?;
    }
    let free = Freedom { size, integers: 1 + choices.byte() % 10 };
    seeded(ports, &Values::new(), &Sizes::new(), free, choices.word()).ok()
}

/// Cancels a run that takes too long.
fn watch(cancel: &Cancel) {
    static LAST: Mutex<Option<(Instant, Cancel)>> = Mutex::new(None);
    static WATCHER: LazyLock<()> = LazyLock::new(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(LONGEST / 20);
                let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((_, cancel)) = last.as_ref().filter(|(at, _)| at.elapsed() > LONGEST) {
                    cancel.cancel();
                }
            }
        });
    });
    LazyLock::force(&WATCHER);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = Some((Instant::now(), cancel.clone()));
}
