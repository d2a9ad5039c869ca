//! Valid models to start from.

use conformance::{generate, graphs};
use engine_format::{Attr, DType, Tensor};
use engine_onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
};
use engine_ops::case::Case;
use engine_ops::hostile::Call;
use engine_ops::{OnnxName, Role, TABLE};
use prost::Message;
use std::path::Path;
use std::sync::{LazyLock, OnceLock};

/// Elements that an operand of a seed may have; larger ones only make the executions slow.
const MOST_ELEMENTS: usize = 2048;

/// Bytes of a file of somebody else's that becomes a seed.
const MOST_BYTES: u64 = 64 << 10;

static OTHERS: OnceLock<Vec<ModelProto>> = OnceLock::new();

/// All seeds: the sketches of the flag matrix, a few generated models, every case of the operator table as a model of one
/// node, and those that were [added](add).
pub fn all() -> &'static [ModelProto] {
    static ALL: LazyLock<Vec<ModelProto>> = LazyLock::new(|| {
        let sketches = graphs::SKETCHES.iter().map(|sketch| (sketch.onnx)());
        let steps: [&[u8]; 3] = [&[0, 2, 5, 9], &[1, 3, 4, 7, 8], &[3, 4, 6, 0, 2]];
        let images = steps.iter().map(|steps| generate::image_model(steps));
        let rows = steps.iter().map(|steps| generate::row_model(steps));
        let files = sketches.chain(images).chain(rows);
        let mut all: Vec<ModelProto> =
            files.filter_map(|file| ModelProto::decode(file.as_slice()).ok()).collect();
        for def in TABLE {
            let cases = (def.cases)();
            let names = def.onnx.iter().flat_map(|name| cases.iter().map(move |case| (name, case)));
            all.extend(names.filter_map(|(name, case)| {
                let decides = |i| def.operand(i).is_some_and(|o| o.role != Role::Data);
                node_model(name, &call_of(case), |i| i > 0 || decides(i))
            }));
        }
        all.extend(OTHERS.get().cloned().unwrap_or_default());
        all
    });
    &ALL
}

/// Makes the `.onnx` files below `folder` seeds, too. Has to be called before the first use of [`all`].
///
/// # Errors
/// The folder, or a file in it, cannot be read.
pub fn add(folder: &Path) -> std::io::Result<usize> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(next)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let (path, meta) = (entry.path(), entry.metadata()?);
            if meta.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "onnx") && meta.len() <= MOST_BYTES
            {
                found.extend(ModelProto::decode(std::fs::read(path)?.as_slice()).ok());
            }
        }
    }
    let count = found.len();
    // A second folder would come too late for those who have read the first one's.
    OTHERS.set(found).map_err(|_| std::io::Error::other("seeds were added before"))?;
    Ok(count)
}

fn call_of(case: &Case) -> Call {
    let attrs = case.attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Call { attrs: attrs.collect(), inputs: case.inputs.clone(), outputs: case.outputs }
}

/// A call of an operator as a model of one node; `constant` says which operands are initializers, the others being inputs.
pub fn node_model(
    name: &OnnxName,
    call: &Call,
    mut constant: impl FnMut(usize) -> bool,
) -> Option<ModelProto> {
    let operands: Vec<Option<&Tensor>> = call.inputs.iter().map(Option::as_ref).collect();
    let small = |tensor: &&Tensor| tensor.len() <= MOST_ELEMENTS;
    if !operands.iter().flatten().all(small) {
        return None;
    }
    let mut graph = GraphProto { name: "seed".into(), ..GraphProto::default() };
    let mut node = NodeProto {
        op_type: name.name.into(),
        domain: name.domain.into(),
        name: "node".into(),
        output: (0..call.outputs).map(|i| format!("y{i}")).collect(),
        attribute: call.attrs.iter().filter_map(|(name, value)| attribute(name, value)).collect(),
        ..NodeProto::default()
    };
    for (i, operand) in operands.into_iter().enumerate() {
        let Some(tensor) = operand else {
            node.input.push(String::new());
            continue;
        };
        let name = format!("x{i}");
        match constant(i) {
            true => graph.initializer.push(initializer(&name, tensor)?),
            false => graph.input.push(value(&name, tensor.dtype(), tensor.shape())),
        }
        node.input.push(name);
    }
    let outputs =
        node.output.iter().map(|name| ValueInfoProto { name: name.clone(), r#type: None });
    graph.output = outputs.collect();
    graph.node.push(node);
    let mut opsets =
        vec![OperatorSetIdProto { domain: String::new(), version: name.until.min(25) }];
    if name.domain.is_empty() {
        opsets[0].version = name.until.min(25).max(name.since);
    } else {
        opsets.push(OperatorSetIdProto { domain: name.domain.into(), version: name.since });
    }
    Some(ModelProto {
        ir_version: Some(10),
        opset_import: opsets,
        graph: Some(graph),
        ..ModelProto::default()
    })
}

/// An attribute as ONNX has it; blocks are no attributes of cases.
pub fn attribute(name: &str, value: &Attr) -> Option<AttributeProto> {
    let bytes = |text: &String| text.clone().into_bytes().into();
    let empty = AttributeProto { name: name.into(), ..AttributeProto::default() };
    Some(match value {
        Attr::Float(f) => AttributeProto { f: Some(*f), r#type: attribute_type::FLOAT, ..empty },
        Attr::Int(i) => AttributeProto { i: Some(*i), r#type: attribute_type::INT, ..empty },
        Attr::Str(s) => {
            AttributeProto { s: Some(bytes(s)), r#type: attribute_type::STRING, ..empty }
        }
        Attr::Floats(list) => {
            AttributeProto { floats: list.clone(), r#type: attribute_type::FLOATS, ..empty }
        }
        Attr::Ints(list) => {
            AttributeProto { ints: list.clone(), r#type: attribute_type::INTS, ..empty }
        }
        Attr::Strs(list) => AttributeProto {
            strings: list.iter().map(bytes).collect(),
            r#type: attribute_type::STRINGS,
            ..empty
        },
        _ => return None,
    })
}

/// ONNX's number of an element type.
pub fn data_type(dtype: DType) -> Option<i32> {
    (0..64).find(|&number| engine_onnx::dtype_of(number) == Some(dtype))
}

fn initializer(name: &str, tensor: &Tensor) -> Option<TensorProto> {
    let mut proto = TensorProto {
        name: name.into(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: data_type(tensor.dtype())?,
        ..TensorProto::default()
    };
    match tensor.strings() {
        Ok(texts) => {
            let texts = texts.iter().map(|text| text.as_bytes().to_vec().into());
            proto.string_data = texts.collect();
        }
        Err(_) => proto.raw_data = Some(tensor.bytes().to_vec().into()),
    }
    Some(proto)
}

/// A port of these types and sizes.
pub fn value(name: &str, dtype: DType, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| DimensionProto { dim_value: Some(d as i64), dim_param: None };
    let tensor_type = TensorTypeProto {
        elem_type: data_type(dtype).unwrap_or(0),
        shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() }),
    }
}
