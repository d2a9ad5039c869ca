//! What a source may and may not bring. Every test lists the whole report.

use crate::sample::{self, MODES};
use engine_format::{
    Alias, Bytes, DType, Digest, Engine, EngineFlags, FitPolicy, FormatErrorKind, MapSource,
    Misfit, Naming, SerializeFlags, SourceError, Spare, Taken, Tensor, TensorInfo, View, ViewPart,
    Weight, WeightSource, check_fit, fill_to,
};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const EXACT: FitPolicy = FitPolicy { partial: false, allow_extra: false };
const PARTIAL: FitPolicy = FitPolicy { partial: true, allow_extra: false };
const EXTRA: FitPolicy = FitPolicy { partial: false, allow_extra: true };

fn engine(flags: EngineFlags) -> Engine {
    Engine::new(sample::parts(flags, 1)).unwrap()
}

/// The source of an engine with other weights.
fn others() -> MapSource {
    sample::source(&sample::parts(EngineFlags::REFIT, 2))
}

fn misfits(engine: &Engine, source: &MapSource, policy: FitPolicy) -> Vec<String> {
    let report = check_fit(engine, source, policy).unwrap();
    let filled = engine.fill(source, policy);
    let mut out = Cursor::new(Vec::new());
    let streamed = fill_to(engine, source, policy, SerializeFlags::default(), &mut out);
    assert_eq!(filled.is_ok(), report.is_fit());
    assert_eq!(filled.is_ok(), streamed.is_ok());
    if !report.is_fit() {
        assert!(out.get_ref().is_empty(), "nothing is written of what does not fit");
        assert_eq!(filled.unwrap_err(), streamed.unwrap_err());
    }
    report.misfits.iter().map(ToString::to_string).collect()
}

#[test]
fn everything_that_is_wrong_is_listed_at_once() {
    let stripped = engine(EngineFlags::REFIT).strip().unwrap();
    let source = MapSource::from_iter([
        ("decoder.weight".to_owned(), sample::floats(&[2], 0)),
        ("encoder.weight".to_owned(), Tensor::zeros(DType::F16, &[3, 5])),
        ("epsilon".to_owned(), Tensor::zeros(DType::F32, &[1])),
        ("axes".to_owned(), Tensor::from_slice(&[2], &[0i64, 2])),
        ("table".to_owned(), Tensor::from_slice(&[20], &[8i64; 20])),
    ]);
    let expected = Digest::of(Tensor::from_slice(&[20], &[7i64; 20]).bytes());
    let found = Digest::of(Tensor::from_slice(&[20], &[8i64; 20]).bytes());
    assert_eq!(
        misfits(&stripped, &source, EXACT),
        [
            "another graph: the program's constant \"axes\": expected i64[2] [0, 1], found i64[2] [0, 2]",
            "extra \"decoder.weight\": found f32[2], which the engine does not know",
            "missing \"encoder.bias\": expected f32[3]",
            "wrong shape of \"encoder.weight\": expected [5, 3], found [3, 5]",
            "wrong dtype of \"encoder.weight\": expected f32, found f16",
            "wrong shape of \"epsilon\": expected [], found [1]",
            &format!(
                "wrong values of \"table\" (pinned: it also decides the shape of /model/Reshape_9): \
                 expected digest {expected}, found {found}"
            ),
        ]
    );
    let error = stripped.fill(&source, EXACT).unwrap_err();
    assert_eq!(error.kind(), FormatErrorKind::UnfitWeights);
    assert_eq!(error.to_string().lines().count(), 8, "{error}");
}

#[test]
fn extras_are_accepted_on_request() {
    let stripped = engine(EngineFlags::REFIT).strip().unwrap();
    let mut source = others();
    source.insert("decoder.weight", sample::floats(&[2], 0));
    assert_eq!(misfits(&stripped, &source, EXACT).len(), 1);
    let report = check_fit(&stripped, &source, EXTRA).unwrap();
    assert!(report.is_fit());
    assert_eq!(report.unused, ["decoder.weight"]);
}

#[test]
fn what_the_model_had_besides_weights_is_accepted() {
    let stripped = engine(EngineFlags::REFIT).strip().unwrap();
    let mut source = others();
    source.insert("position_ids", Tensor::from_slice(&[1], &[5i64]));
    source.insert("axes", Tensor::from_slice(&[2], &[0i64, 1]));
    let report = check_fit(&stripped, &source, EXACT).unwrap();
    assert!(report.is_fit(), "{report}");
    assert_eq!(report.unused, ["axes", "position_ids"]);
    assert!(report.kept.is_empty(), "the source has what is pinned, with its value");
}

#[test]
fn parameters_are_optional_and_changed_if_there() {
    let stripped = engine(EngineFlags::REFIT).strip().unwrap();
    let mut source = others();
    source.insert("epsilon", Tensor::from_slice(&[], &[1e-3f32]));
    let value = |engine: &Engine| {
        engine.weight("epsilon").unwrap().tensor().unwrap().as_slice::<f32>().unwrap()[0]
    };
    assert_eq!(value(&stripped.fill(&source, EXACT).unwrap()), 1e-3);
    source.remove("epsilon");
    let report = check_fit(&stripped, &source, EXACT).unwrap();
    assert_eq!(report.kept, ["epsilon"]);
    assert_eq!(value(&stripped.fill(&source, EXACT).unwrap()), 1e-5);
}

#[test]
fn an_alias_fills_too() {
    let built = engine(EngineFlags::REFIT);
    let mut source = others();
    let tensor = source.remove("encoder.weight").unwrap();
    source.insert("onnx::MatMul_12", tensor.clone());
    let report = check_fit(&built, &source, EXACT).unwrap();
    let taken = Taken { weight: "encoder.weight".to_owned(), source: "onnx::MatMul_12".to_owned() };
    assert!(report.is_fit() && report.taken.contains(&taken), "{report:?}");
    let filled = built.fill(&source, EXACT).unwrap();
    assert_eq!(filled.version(), built.fill(&others(), EXACT).unwrap().version());
    // Both names: fine if they agree, and nothing is guessed if they do not.
    source.insert("encoder.weight", tensor);
    assert!(misfits(&built, &source, EXACT).is_empty());
    source.insert("encoder.weight", sample::floats(&[5, 3], 77));
    assert_eq!(
        misfits(&built, &source, EXACT),
        [
            "different tensors for \"encoder.weight\" under the names encoder.weight, onnx::MatMul_12"
        ]
    );
}

#[test]
fn a_partial_fill_needs_weights_to_keep() {
    let built = engine(EngineFlags::REFIT);
    let mut source = others();
    source.remove("encoder.bias");
    assert_eq!(misfits(&built, &source, EXACT), ["missing \"encoder.bias\": expected f32[3]"]);
    let refitted = built.fill(&source, PARTIAL).unwrap();
    assert_eq!(refitted.weight("encoder.bias"), built.weight("encoder.bias"));
    assert_ne!(refitted.weight("encoder.weight"), built.weight("encoder.weight"));

    let stripped = built.strip().unwrap();
    let error = stripped.fill(&source, PARTIAL).unwrap_err();
    assert_eq!(error.kind(), FormatErrorKind::MissingWeights);
    assert_eq!(misfits(&stripped, &source, PARTIAL).len(), 1);
}

#[test]
fn identical_takes_the_built_values_only() {
    let built = engine(EngineFlags::REFIT_IDENTICAL);
    let own = sample::source(built.parts());
    for engine in [built.clone(), built.strip().unwrap()] {
        assert_eq!(engine.fill(&own, EXACT).unwrap().version(), built.version());
        let mut source = others();
        source.insert("epsilon", Tensor::from_slice(&[], &[1e-3f32]));
        let report = check_fit(&engine, &source, EXACT).unwrap();
        let kinds: Vec<_> = report.misfits.iter().map(|m| (m.kind(), m.name())).collect();
        let wrong =
            ["encoder.bias", "encoder.weight", "epsilon"].map(|name| ("values", Some(name)));
        assert_eq!(kinds, wrong);
    }
}

#[test]
fn individual_changes_marked_weights_only() {
    let mut parts = sample::parts(EngineFlags::REFIT_INDIVIDUAL, 1);
    parts.weights[0].refittable = false;
    let built = Engine::new(parts).unwrap();
    for engine in [built.clone(), built.strip().unwrap()] {
        let report = check_fit(&engine, &others(), EXACT).unwrap();
        assert_eq!(report.misfits.len(), 1, "{report}");
        assert!(report.to_string().starts_with("wrong values of \"encoder.bias\" (frozen)"));
        // The frozen one with its own value, or not at all, is fine.
        let mut source = others();
        source.remove("encoder.bias");
        let without = engine.fill(&source, EXACT).unwrap();
        let own = built.weight("encoder.bias").unwrap().tensor().unwrap();
        source.insert("encoder.bias", own);
        assert_eq!(engine.fill(&source, EXACT).unwrap().version(), without.version());
    }
}

#[test]
fn what_the_source_lacks_and_what_is_not_used_is_reported() {
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    parts.ignored = ["encoder.mask", "encoder.steps", "head.scale"].map(str::to_owned).to_vec();
    let built = Engine::new(parts).unwrap();
    let mut source = others();
    // Pinned with the value that it has: the source has it, and it is not changed.
    source.insert("table", Tensor::from_slice(&[20], &[7i64; 20]));
    source.insert("encoder.mask", sample::floats(&[2], 0));
    source.insert("encoder.steps", Tensor::from_slice(&[1], &[5i64]));
    source.insert("head.scale", sample::floats(&[2], 0));
    source.remove("epsilon");
    let report = check_fit(&built, &source, EXACT).unwrap();
    assert_eq!(
        (report.kept.as_slice(), report.stray.as_slice()),
        (&["epsilon".to_owned()][..], &["encoder.mask".to_owned()][..])
    );
    assert_eq!(
        report.remarks(),
        [
            "not in the source, keep their values (1): epsilon",
            "in the source and not used, though the engine uses others of their modules (1): encoder.mask",
            "in the source and not used (2): encoder.steps, head.scale",
        ]
    );
    let filled = built.fill_into(&source, EXACT, &Spare::default()).unwrap();
    assert_eq!(filled.fit, report);
    let streamed =
        fill_to(&built, &source, EXACT, SerializeFlags::default(), &mut Cursor::new(Vec::new()));
    assert_eq!(streamed.unwrap().fit, report);
    // Whether a tensor was known at build makes no difference to whether it is said.
    source.insert("encoder.scale", sample::floats(&[2], 0));
    assert_eq!(misfits(&built, &source, EXACT).len(), 1);
    let report = check_fit(&built, &source, EXTRA).unwrap();
    assert_eq!(report.stray, ["encoder.mask", "encoder.scale"]);
    source.remove("encoder.bias");
    let policy = FitPolicy { partial: true, allow_extra: true };
    assert_eq!(check_fit(&built, &source, policy).unwrap().kept, ["encoder.bias", "epsilon"]);
}

#[test]
fn a_fill_says_which_weights_it_changed_while_it_goes_on() {
    let full = engine(EngineFlags::REFIT);
    let told = |engine: &Engine, source: &MapSource| {
        let told = Mutex::new(BTreeMap::new());
        let changed = |row: usize, weight: &Weight| {
            told.lock().unwrap().insert(row, (weight.name.clone(), weight.tensor().unwrap()));
        };
        let filled = engine.fill_with(source, EXTRA, &Spare::default(), &changed).unwrap().made;
        let told = told.into_inner().unwrap();
        for (&row, (name, tensor)) in &told {
            let weight = &filled.parts().weights[row];
            assert_eq!((&weight.name, weight.tensor().as_ref()), (name, Some(tensor)));
        }
        told.into_values().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let own: MapSource =
        full.parts().weights.iter().map(|w| (w.name.clone(), w.tensor().unwrap())).collect();
    assert_eq!(told(&full, &own), [""; 0]);
    let mut one = own.clone();
    let bias = others().read("encoder.bias").unwrap().unwrap();
    one.insert("encoder.bias", bias);
    assert_eq!(told(&full, &one), ["encoder.bias"]);
    // An engine without its weights has none that could be the same.
    let lacking = full.strip().unwrap();
    let all = told(&lacking, &own);
    assert!(lacking.missing().iter().all(|name| all.contains(name)), "{all:?}");
}

#[test]
fn a_prefix_in_front_of_every_name_is_recognised() {
    let stripped = engine(EngineFlags::REFIT).strip().unwrap();
    let named = |prefix: &str, names: &[&str]| -> MapSource {
        let own = others();
        let tensor = |name: &&str| own.read(name).unwrap().unwrap();
        names.iter().map(|name| (format!("{prefix}{name}"), tensor(name))).collect()
    };
    let prefix = |source: MapSource, policy| {
        let report = check_fit(&stripped, &source, policy).unwrap();
        report.prefix().map(str::to_owned)
    };
    let all = ["encoder.bias", "encoder.weight"];
    for policy in [EXACT, EXTRA] {
        assert_eq!(prefix(named("module.", &all), policy).as_deref(), Some("module."));
        assert_eq!(prefix(named("a.b.", &all), policy).as_deref(), Some("a.b."));
        assert_eq!(prefix(named("module.", &all[..1]), policy), None, "one is missing");
        assert_eq!(prefix(named("x", &all), policy), None, "no step");
        assert_eq!(prefix(others(), policy), None, "nothing is missing");
    }
}

/// A source whose tensors are not what it announces, or change from one read to the next.
struct Liar {
    shape: Vec<usize>,
    reads: AtomicU32,
}

impl WeightSource for Liar {
    fn origin(&self) -> String {
        "a liar".to_owned()
    }
    fn names(&self) -> Vec<String> {
        vec!["encoder.bias".to_owned(), "encoder.weight".to_owned()]
    }
    fn info(&self, name: &str) -> Option<TensorInfo> {
        let shape = if name == "encoder.bias" { vec![3] } else { vec![5, 3] };
        Some(TensorInfo { dtype: DType::F32, shape })
    }
    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        if name == "encoder.bias" {
            return Ok(Some(sample::floats(&self.shape, 1)));
        }
        // The right values at the first read, others later.
        let seed = 2 + self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(Some(sample::floats(&[5, 3], seed)))
    }
}

#[test]
fn a_source_that_lies_is_found_out() {
    let stripped = engine(EngineFlags::REFIT).strip().unwrap();
    let liar = Liar { shape: vec![4], reads: AtomicU32::new(0) };
    let error = stripped.fill(&liar, EXACT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "reading \"encoder.bias\" from a liar: expected f32[3] as announced, found f32[4]"
    );
    // Digested is what is used: the second read is checked again.
    let stripped = engine(EngineFlags::REFIT_IDENTICAL).strip().unwrap();
    let liar = Liar { shape: vec![3], reads: AtomicU32::new(0) };
    assert!(check_fit(&stripped, &liar, EXACT).unwrap().is_fit());
    liar.reads.store(0, Ordering::Relaxed);
    let error = stripped.fill(&liar, EXACT).unwrap_err();
    assert!(error.to_string().contains("wrong values of \"encoder.weight\""), "{error}");
}

#[test]
fn a_misfit_is_found_without_reading_weights() {
    struct Unreadable;
    impl WeightSource for Unreadable {
        fn origin(&self) -> String {
            "a broken disk".to_owned()
        }
        fn names(&self) -> Vec<String> {
            vec!["encoder.bias".to_owned()]
        }
        fn info(&self, _: &str) -> Option<TensorInfo> {
            Some(TensorInfo { dtype: DType::F32, shape: vec![3] })
        }
        fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
            let (name, origin) = (name.to_owned(), self.origin());
            Err(SourceError { name, origin, why: "it is broken".to_owned() })
        }
    }
    let built = engine(EngineFlags::REFIT);
    let report = check_fit(&built.strip().unwrap(), &Unreadable, EXACT).unwrap();
    assert!(
        matches!(&report.misfits[..], [Misfit::Missing { name, .. }] if name == "encoder.weight")
    );
    let error = built.fill(&Unreadable, PARTIAL).unwrap_err();
    assert_eq!(error.kind(), FormatErrorKind::Io);
}

#[test]
fn every_mode_fills_from_its_own_weights() {
    for mode in MODES {
        let built = engine(mode);
        let stripped = built.strip().unwrap();
        assert!(misfits(&stripped, &sample::source(built.parts()), EXACT).is_empty(), "{mode}");
    }
}

/// Gives out tensors that count how many of them are alive.
struct Counting {
    tensors: MapSource,
    alive: Arc<AtomicU32>,
    most: AtomicU32,
}

/// Bytes that say when they are dropped.
struct Counted(Bytes, Arc<AtomicU32>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WeightSource for Counting {
    fn origin(&self) -> String {
        "a counting source".to_owned()
    }
    fn names(&self) -> Vec<String> {
        self.tensors.names()
    }
    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.info(name)
    }
    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let Some(tensor) = self.tensors.read(name)? else { return Ok(None) };
        let alive = self.alive.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(alive, Ordering::Relaxed);
        let bytes = Bytes::from_owner(Counted(tensor.bytes().clone(), self.alive.clone()));
        Ok(Some(Tensor::new(tensor.dtype(), tensor.shape(), bytes).unwrap()))
    }
}

#[test]
fn a_streamed_fill_holds_one_weight_at_a_time() {
    for mode in MODES {
        let mut parts = sample::parts(mode, 1);
        for index in 0..40 {
            let name = format!("layers.{index:02}.weight");
            let value = parts.values;
            parts.values += 1;
            let tensor = sample::floats(&[50, 3], value);
            parts.weights.push(sample::weight(&name, value, &tensor, mode));
        }
        parts.weights.sort_by(|a, b| a.name.cmp(&b.name));
        let built = Engine::new(parts).unwrap();
        let stripped = built.strip().unwrap();
        for options in [SerializeFlags::INCLUDE_REFIT, SerializeFlags::COMPRESS] {
            let tensors = sample::source(built.parts());
            let source = Counting { tensors, alive: Arc::default(), most: AtomicU32::new(0) };
            let mut out = Cursor::new(Vec::new());
            fill_to(&stripped, &source, EXACT, options, &mut out).unwrap();
            assert_eq!(*out.get_ref(), built.serialize(options).unwrap());
            assert_eq!(source.most.into_inner(), 1, "{mode}");
            assert_eq!(source.alive.load(Ordering::Relaxed), 0, "{mode}");
        }
    }
}

/// `a` is the transposed first half of `packed`, `b` its second half; `packed` is also the name of a weight of its own, which a
/// model file calls `third`. `c` is what the model calls `a`.
fn with_views() -> Engine {
    let part = |name: &str, shape: &[usize], perm: &[usize], range| ViewPart {
        name: name.into(),
        info: TensorInfo { dtype: DType::F32, shape: shape.to_vec() },
        perm: perm.to_vec(),
        range,
    };
    let view = |axis, parts: &[ViewPart]| Alias::View(View { axis, parts: parts.to_vec() });
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    let flags = parts.flags;
    parts.weights = vec![
        sample::weight("a", 3, &sample::floats(&[3, 2], 1), flags),
        sample::weight("b", 4, &sample::floats(&[4, 3], 2), flags),
        sample::weight("c", 5, &sample::floats(&[2], 3), flags),
        sample::weight("packed", 6, &sample::floats(&[2], 4), flags),
    ];
    parts.weights[0].aliases = vec![view(1, &[part("packed", &[4, 3], &[1, 0], Some((0, 2)))])];
    let (top, bottom) =
        (part("packed", &[4, 3], &[0, 1], Some((2, 4))), part("d", &[3, 2], &[1, 0], None));
    parts.weights[1].aliases = vec![view(0, &[top, bottom])];
    parts.weights[2].aliases = vec![view(0, &[part("a", &[2], &[0], None)])];
    parts.weights[3].aliases = vec!["third".to_owned().into()];
    parts.prepare = Default::default();
    parts.execute = Default::default();
    parts.execute.outputs = vec![engine_format::ValueId(0)];
    parts.outputs[0].value = engine_format::ValueId(0);
    Engine::new(parts).unwrap()
}

/// A source with the names of a model file.
struct ModelFile(MapSource);

impl WeightSource for ModelFile {
    fn origin(&self) -> String {
        "model".to_owned()
    }
    fn names(&self) -> Vec<String> {
        self.0.names()
    }
    fn naming(&self, _name: &str) -> Naming {
        Naming::Model
    }
    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.0.info(name)
    }
    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        self.0.read(name)
    }
}

/// What a model file calls the weights of [`with_views`].
fn model_file() -> MapSource {
    MapSource::from_iter([
        ("packed".to_owned(), sample::floats(&[4, 3], 10)),
        ("d".to_owned(), sample::floats(&[3, 2], 11)),
        ("a".to_owned(), sample::floats(&[2], 12)),
        ("third".to_owned(), sample::floats(&[2], 13)),
    ])
}

#[test]
fn a_model_file_fills_through_views() {
    let engine = with_views();
    let filled = engine.fill(&ModelFile(model_file()), EXACT).unwrap();
    let (packed, d) = (sample::floats(&[4, 3], 10), sample::floats(&[3, 2], 11));
    let weight = |name: &str| filled.weight(name).unwrap().tensor().unwrap();
    assert_eq!(weight("a"), packed.range(0, 0..2).permuted(&[1, 0]));
    let b = Tensor::joined(0, &[packed.range(0, 2..4), d.permuted(&[1, 0])]);
    assert_eq!(weight("b"), b);
    assert_eq!(weight("c"), sample::floats(&[2], 12));
    assert_eq!(weight("packed"), sample::floats(&[2], 13));
    // Streamed, stripped, written and read again: the same.
    let mut out = Cursor::new(Vec::new());
    let stripped = engine.strip().unwrap();
    let options = SerializeFlags::default();
    fill_to(&stripped, &ModelFile(model_file()), EXACT, options, &mut out).unwrap();
    assert_eq!(filled.serialize(options).unwrap(), *out.get_ref());
    let read = Engine::read(Bytes::from(out.into_inner())).unwrap();
    assert_eq!(read.parts(), filled.parts());
    // A checkpoint's own names mean the weights themselves.
    let checkpoint = sample::source(filled.parts());
    assert_eq!(engine.fill(&checkpoint, EXACT).unwrap().version(), filled.version());
}

#[test]
fn a_name_of_a_view_never_stands_in_for_a_checkpoints_own() {
    let engine = with_views();
    let mut checkpoint = sample::source(engine.parts());
    checkpoint.remove("c");
    // `a` is there, and in a model file it would be `c`: in a checkpoint it is not.
    assert_eq!(misfits(&engine, &checkpoint, EXACT), ["missing \"c\": expected f32[2]"]);
    let report = check_fit(&engine, &checkpoint, PARTIAL).unwrap();
    assert_eq!(report.kept, ["c"]);
}

/// A weight whose name a model file has for something else takes no tensor of a model file, whatever else is asked for, and every
/// tensor of a checkpoint.
#[test]
fn what_a_model_file_calls_as_a_weight_and_is_not_it_fills_nothing() {
    let mut parts = with_views().parts().clone();
    parts.weights[3].aliases.clear();
    parts.ignored = vec!["packed".to_owned()];
    parts.weights[0].aliases.clear();
    parts.weights[1].aliases.clear();
    let engine = Engine::new(parts).unwrap();
    let header = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
    assert_eq!(engine_format::Header::parse(&header).unwrap().minor, 3);
    assert_eq!(Engine::read(Bytes::from(header)).unwrap().parts().ignored, engine.parts().ignored);
    let checkpoint = sample::source(engine.parts());
    assert_eq!(engine.fill(&checkpoint, EXACT).unwrap().version(), engine.version());
    let both = FitPolicy { partial: true, allow_extra: true };
    for (policy, stripped) in [(EXACT, false), (PARTIAL, false), (both, false), (EXACT, true)] {
        let engine = if stripped { engine.strip().unwrap() } else { engine.clone() };
        let model = MapSource::from_iter([("packed".to_owned(), sample::floats(&[2], 13))]);
        let report = check_fit(&engine, &ModelFile(model), policy).unwrap();
        let found: Vec<&Misfit> =
            report.misfits.iter().filter(|m| m.name() == Some("packed")).collect();
        assert!(matches!(found[..], [Misfit::Calculated { .. }]), "{report}");
        assert_eq!(report.error_kind(), Some(FormatErrorKind::MissingWeights));
    }
}

/// An adapter changes what a checkpoint calls so: it is of no use for a model file's tensor that is called so and is another one.
#[test]
fn a_tensor_of_both_namings_is_taken_only_where_they_agree() {
    struct Adapted(MapSource);
    impl WeightSource for Adapted {
        fn origin(&self) -> String {
            "adapted".to_owned()
        }
        fn names(&self) -> Vec<String> {
            self.0.names()
        }
        fn naming(&self, name: &str) -> Naming {
            if name == "a" { Naming::Both } else { Naming::Model }
        }
        fn info(&self, name: &str) -> Option<TensorInfo> {
            self.0.info(name)
        }
        fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
            self.0.read(name)
        }
    }
    // `a` is `c` in the model, and the tensor that was meant is a part of `packed`.
    let report = check_fit(&with_views(), &Adapted(model_file()), PARTIAL).unwrap();
    let calculated = |m: &Misfit| matches!(m, Misfit::Calculated { name, .. } if name == "a");
    assert!(report.misfits.iter().all(calculated) && !report.is_fit(), "{report}");
    // Where a name means one weight alone, it is taken.
    let engine = engine(EngineFlags::REFIT);
    let name = engine.parts().weights[0].name.clone();
    let all = Adapted(sample::source(engine.parts()));
    let report = check_fit(&engine, &all, EXACT).unwrap();
    assert!(report.taken.iter().any(|taken| taken.weight == name), "{report}");
}

#[test]
fn half_a_view_is_no_view() {
    let engine = with_views();
    let mut model = model_file();
    model.remove("d");
    let report = check_fit(&engine, &ModelFile(model), PARTIAL).unwrap();
    let misfits: Vec<String> = report.misfits.iter().map(ToString::to_string).collect();
    assert_eq!(misfits, ["missing \"d\": expected f32[3, 2]"]);
    let mut model = model_file();
    model.insert("d", sample::floats(&[2, 3], 0));
    model.insert("packed", Tensor::zeros(DType::F16, &[4, 3]));
    let report = check_fit(&engine, &ModelFile(model), EXACT).unwrap();
    let misfits: Vec<String> = report.misfits.iter().map(ToString::to_string).collect();
    let dtype = "wrong dtype of \"packed\": expected f32, found f16";
    assert_eq!(misfits, [dtype, dtype, "wrong shape of \"d\": expected [3, 2], found [2, 3]"]);
}

#[test]
fn a_file_with_views_or_ports_that_are_no_tensors_says_that_it_is_newer() {
    let minor = |engine: &Engine| {
        let file = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
        engine_format::Header::parse(&file).unwrap().minor
    };
    assert_eq!(minor(&engine(EngineFlags::REFIT)), 0);
    assert_eq!(minor(&with_views()), 1);
    let forms = Engine::new(sample::parts_1_1(EngineFlags::REFIT, 1)).unwrap();
    assert_eq!(minor(&forms), 1);
}
