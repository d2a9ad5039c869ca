//! Pictures of engines.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use engine_format::{
    Attrs, Block, DType, Engine, EngineFlags, EngineParts, Form, Node, Port, ValueId, Weight,
    WeightClass, WeightData,
};
use refit::{Around, Picture, PictureOptions};

/// Names that would be markup if they were not escaped.
const HOSTILE: &str = "<script>alert(\"&'\u{1}]]>\\";

fn node(op: &str, name: String, inputs: &[u32], output: u32) -> Node {
    Node {
        op: op.to_owned(),
        version: 1,
        name,
        inputs: inputs.iter().map(|&value| Some(ValueId(value))).collect(),
        outputs: vec![Some(ValueId(output))],
        attrs: Attrs::new(),
    }
}

/// `layers` layers of a product with weights of its own, transposed by `prepare`, an activation and a residual; named by `path`.
fn layers(layers: u32, path: &dyn Fn(u32) -> String) -> Engine {
    let (mut weights, mut prepare, mut execute) = (Vec::new(), Vec::new(), Vec::new());
    let (mut value, mut last) = (1, 0);
    let mut next = || {
        value += 1;
        value - 1
    };
    let mut prepared = Vec::new();
    for layer in 0..layers {
        let path = path(layer);
        let [weight, turned, product, active, sum] = [(); 5].map(|()| next());
        weights.push(Weight {
            name: format!("{path}.weight"),
            aliases: Vec::new(),
            value: ValueId(weight),
            dtype: DType::F32,
            shape: vec![4, 4],
            class: WeightClass::Weight,
            pinned: None,
            refittable: true,
            digest: None,
            data: WeightData::Missing,
        });
        prepare.push(node("Transpose", format!("{path}/Transpose"), &[weight], turned));
        prepared.push(ValueId(turned));
        execute.push(node("MatMul", format!("{path}/MatMul"), &[last, turned], product));
        execute.push(node("Relu", format!("{path}/Relu"), &[product], active));
        execute.push(node("Add", format!("{path}/Add"), &[active, last], sum));
        last = sum;
    }
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    let port = |name: &str, value: u32| Port {
        name: name.to_owned(),
        value: ValueId(value),
        form: Form::Tensor,
        dtype: DType::F32,
        shape: Some(vec![4.into()]),
    };
    let parts = EngineParts {
        flags: EngineFlags::REFIT | EngineFlags::EXCLUDE_WEIGHTS,
        metadata: Default::default(),
        inputs: vec![port("x", 0)],
        outputs: vec![port("y", last)],
        values: next(),
        literals: vec![],
        weights,
        prepare: Block { inputs: vec![], nodes: prepare, outputs: prepared },
        execute: Block { inputs: vec![], nodes: execute, outputs: vec![ValueId(last)] },
        source_literals: vec![],
        ignored: vec![],
    };
    Engine::new(parts).unwrap()
}

fn plain(count: u32) -> Engine {
    layers(count, &|layer| format!("layer.{layer}"))
}

fn picture<'a>(engine: &'a Engine, options: &PictureOptions) -> Picture<'a> {
    Picture::new(engine, "an engine", options)
}

/// Every element that is opened is closed, in order, and nothing stands in a tag that is not an attribute.
fn assert_well_formed(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").unwrap();
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split_whitespace().next().unwrap()),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
}

#[test]
fn layers_are_folded_and_name_the_weights_of_all() {
    let engine = plain(12);
    let folded = picture(&engine, &PictureOptions::default());
    assert_eq!(folded.counts(), (48, 4), "one layer, and its transposition");
    let svg = folded.svg();
    assert_eq!(svg.matches("× 12").count(), 2, "in both programs");
    for part in ["layer.*.weight f32[4, 4]", "layer.*/MatMul", ">prepare<", ">execute<"] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(svg.contains("class=\"carried\""), "a layer reads what the one before gives");
    let whole = picture(&engine, &PictureOptions { unfolded: true, ..Default::default() });
    assert_eq!(whole.counts(), (48, 48));
    for layer in 0..12 {
        assert!(whole.svg().contains(&format!("layer.{layer}/MatMul")), "{layer}");
    }
}

#[test]
fn the_nodes_that_a_weight_reaches_stand_out() {
    let engine = plain(3);
    let options = PictureOptions {
        marked: vec!["layer.1.weight".to_owned()],
        unfolded: true,
        ..PictureOptions::default()
    };
    let svg = picture(&engine, &options).svg();
    let marked: Vec<&str> =
        svg.lines().filter(|line| line.starts_with("<g ") && line.contains(" marked ")).collect();
    assert_eq!(marked.len(), 2, "its transposition, and the product: {marked:?}");
    assert!(
        picture(&engine, &PictureOptions { marked: vec![], ..options.clone() })
            .svg()
            .matches("marked w")
            .count()
            == 0
    );
}

#[test]
fn the_same_engine_gives_the_same_text() {
    for options in
        [PictureOptions::default(), PictureOptions { unfolded: true, ..Default::default() }]
    {
        let texts = || {
            let engine = plain(9);
            let picture = picture(&engine, &options);
            [picture.svg(), picture.html(), picture.dot(), picture.json()]
        };
        assert_eq!(texts(), texts());
    }
}

#[test]
fn names_are_never_markup() {
    let engine = layers(3, &|layer| format!("{HOSTILE}{layer}"));
    for unfolded in [false, true] {
        let picture = Picture::new(
            &engine,
            HOSTILE,
            &PictureOptions { unfolded, ..PictureOptions::default() },
        );
        assert_well_formed(&picture.svg());
        assert!(!picture.svg().contains("<script"));
        let html = picture.html();
        assert_eq!(html.matches("<script").count(), 1, "its own");
        assert!(!html.contains('\u{1}'));
        let dot = picture.dot();
        let quotes = |line: &str| line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert!(dot.lines().all(|line| quotes(line) % 2 == 0), "{dot}");
    }
    assert_well_formed(&picture(&plain(2), &PictureOptions::default()).svg());
}

/// Netron looks for the signature first, and takes values by their positions.
#[test]
fn the_json_is_what_netron_reads() {
    let engine = plain(4);
    let text = picture(&engine, &PictureOptions::default()).json();
    assert!(text.starts_with("{\"signature\":\"netron:refit\","), "{}", &text[..60]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let graphs = json["graphs"].as_array().unwrap();
    let nodes = |graph: usize| graphs[graph]["nodes"].as_array().unwrap();
    assert_eq!((nodes(0).len(), nodes(1).len()), (12, 4));
    for graph in graphs {
        let values = graph["values"].as_array().unwrap();
        let nodes = graph["nodes"].as_array().unwrap().iter();
        let ports = nodes.flat_map(|node| [&node["inputs"], &node["outputs"]]);
        for port in ports
            .chain([&graph["inputs"], &graph["outputs"]])
            .flat_map(|ports| ports.as_array().unwrap())
        {
            let value = port["value"][0].as_u64().unwrap();
            assert!((value as usize) < values.len(), "{port}");
        }
    }
    let operand = &nodes(1)[0]["inputs"][0]["value"][0];
    let weight = &graphs[1]["values"][operand.as_u64().unwrap() as usize];
    assert_eq!(weight["name"], "layer.0.weight");
    assert_eq!(weight["initializer"]["type"]["shape"]["dimensions"], serde_json::json!([4, 4]));
}

/// What does not repeat is drawn whole, however much it is.
#[test]
fn thousands_of_nodes_are_drawn() {
    // Layers of every other kind, so that nothing repeats, would be another engine; unfolded is as large.
    let engine = plain(2000);
    let options = PictureOptions { unfolded: true, ..Default::default() };
    let drawn = picture(&engine, &options);
    assert_eq!(drawn.counts(), (8000, 8000));
    assert!(drawn.svg().matches("<g class=").count() > 8000);
    assert_eq!(picture(&engine, &PictureOptions::default()).counts(), (8000, 4));
}

#[test]
fn what_is_near_is_drawn_and_nothing_else() {
    let engine = layers(5, &|layer| format!("layer.{layer}"));
    let near = |name: &str, depth| {
        let around = Around { names: vec![name.to_owned()], depth };
        PictureOptions { around: Some(around), unfolded: true, ..PictureOptions::default() }
    };
    // The product of a layer reads the transposed weight and the sum before it.
    for (name, depth, drawn) in [
        ("layer.2/MatMul", 0, 1),
        ("layer.2/MatMul", 1, 4),
        ("layer.2.weight", 0, 1),
        ("layer.2.weight", 1, 2),
        ("layer.0/Relu", 1, 3),
        ("layer.2/MatMul", 100, 20),
    ] {
        let options = near(name, depth);
        let picture = picture(&engine, &options);
        assert_eq!(picture.counts(), (20, drawn), "{name} {depth}");
        assert_eq!(picture.json_count(), drawn, "{name} {depth}");
        assert_well_formed(&picture.svg());
        let json: serde_json::Value = serde_json::from_str(&picture.json()).unwrap();
        let graphs = json["graphs"].as_array().unwrap();
        let nodes = graphs.iter().map(|graph| graph["nodes"].as_array().unwrap().len());
        assert_eq!(nodes.sum::<usize>(), drawn, "{name} {depth}");
        assert!(picture.html().contains("layer.4.weight") && !picture.dot().is_empty());
    }
    // Only what touches the part is a port of it.
    let first = picture(&engine, &near("layer.0/MatMul", 0)).json();
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    let graph = &first["graphs"][0];
    assert_eq!(graph["inputs"].as_array().unwrap().len(), 1);
    assert_eq!(graph["outputs"].as_array().unwrap().len(), 0);
}

#[test]
fn nodes_are_marked_by_their_paths() {
    let engine = layers(3, &|layer| format!("layer.{layer}"));
    let marked_nodes = vec!["layer.1/Relu".to_owned()];
    let options = PictureOptions { marked_nodes, unfolded: true, ..PictureOptions::default() };
    assert_eq!(
        picture(&engine, &options).svg().matches(" marked").count(),
        1 + picture(&engine, &PictureOptions::default()).svg().matches(" marked").count()
    );
}
