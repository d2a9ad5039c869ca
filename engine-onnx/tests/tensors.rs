//! Contents of tensors in every form the file format has.

mod common;

use common::*;
use engine_format::{DType, Tensor};
use engine_onnx::proto::*;
use engine_onnx::{Model, OnnxError, OnnxErrorKind, TensorData};
use half::{bf16, f16};
use prost::Message;

fn load(tensor: TensorProto) -> Result<TensorData, OnnxError> {
    let model = parse(&model_of(GraphProto { initializer: vec![tensor], ..Default::default() }))?;
    Ok(model.graph.initializers[0].data.clone())
}

fn decode(tensor: TensorProto) -> Result<Tensor, OnnxError> {
    load(tensor)?.tensor()
}

fn typed(data_type: i32, values: TensorProto) -> TensorProto {
    TensorProto { name: "t".into(), data_type, dims: vec![2], ..values }
}

fn i32s(data_type: i32, values: &[i32]) -> TensorProto {
    typed(data_type, TensorProto { int32_data: values.to_vec(), ..Default::default() })
}

fn u64s(data_type: i32, values: &[u64]) -> TensorProto {
    typed(data_type, TensorProto { uint64_data: values.to_vec(), ..Default::default() })
}

/// One tensor in its typed form, with what it holds.
fn typed_forms() -> Vec<(TensorProto, Tensor)> {
    let f64s = TensorProto { double_data: vec![0.1, f64::MAX], ..Default::default() };
    vec![
        (floats("t", &[2], &[1.5, f32::NAN]), Tensor::from_slice(&[2], &[1.5, f32::NAN])),
        (typed(data_type::DOUBLE, f64s), Tensor::from_slice(&[2], &[0.1, f64::MAX])),
        (
            i32s(data_type::FLOAT16, &[0x3c00, 0xfc00]),
            Tensor::from_slice(&[2], &[f16::ONE, f16::NEG_INFINITY]),
        ),
        (
            i32s(data_type::BFLOAT16, &[0x3f80, 0xff80]),
            Tensor::from_slice(&[2], &[bf16::ONE, bf16::NEG_INFINITY]),
        ),
        (i32s(data_type::INT8, &[-128, 127]), Tensor::from_slice(&[2], &[-128i8, 127])),
        (i32s(data_type::INT16, &[-32768, 7]), Tensor::from_slice(&[2], &[-32768i16, 7])),
        (i32s(data_type::INT32, &[i32::MIN, 7]), Tensor::from_slice(&[2], &[i32::MIN, 7])),
        (int64s("t", &[2], &[i64::MIN, -1]), Tensor::from_slice(&[2], &[i64::MIN, -1])),
        (i32s(data_type::UINT8, &[0, 255]), Tensor::from_slice(&[2], &[0u8, 255])),
        (i32s(data_type::UINT16, &[1, 65535]), Tensor::from_slice(&[2], &[1u16, 65535])),
        (
            u64s(data_type::UINT32, &[1, u64::from(u32::MAX)]),
            Tensor::from_slice(&[2], &[1, u32::MAX]),
        ),
        (u64s(data_type::UINT64, &[1, u64::MAX]), Tensor::from_slice(&[2], &[1, u64::MAX])),
        (i32s(data_type::BOOL, &[1, 0]), Tensor::from_bools(&[2], &[true, false])),
    ]
}

#[test]
fn every_element_type_in_its_typed_and_its_raw_form() {
    let forms = typed_forms();
    let mut dtypes: Vec<DType> = forms.iter().map(|(_, t)| t.dtype()).collect();
    dtypes.sort();
    let sized = |dtype: &DType| !dtype.is_compact() && *dtype != DType::String;
    let whole: Vec<DType> = DType::ALL.into_iter().filter(sized).collect();
    assert_eq!(dtypes, whole);
    for (proto, expected) in forms {
        let data_type = proto.data_type;
        // Bits are compared, so that NaN equals itself.
        assert_eq!(decode(proto).unwrap().bytes(), expected.bytes(), "{expected:?}");
        let from_raw = decode(raw("t", data_type, &[2], expected.bytes())).unwrap();
        assert_eq!(from_raw.bytes(), expected.bytes(), "{expected:?}");
        assert_eq!(from_raw.dtype(), expected.dtype());
    }
}

#[test]
fn elements_of_few_bits_lie_several_to_a_byte_in_a_file_and_one_in_memory() {
    // ONNX's numbers of the types, the file's bytes, and the elements.
    let table: &[(i32, DType, &[u8], &[u8])] = &[
        (17, DType::F8E4M3FN, &[0x2f, 0xfe, 0x7f], &[0x2f, 0xfe, 0x7f]),
        (21, DType::U4, &[0x87, 0x0f], &[7, 8, 15]),
        (22, DType::I4, &[0x87, 0x0f], &[7, -8i8 as u8, -1i8 as u8]),
        (23, DType::F4E2M1, &[0xe2, 0x01], &[2, 14, 1]),
        (25, DType::U2, &[0b10_01_11], &[3, 1, 2]),
        (26, DType::I2, &[0b10_01_11], &[-1i8 as u8, 1, -2i8 as u8]),
    ];
    for &(number, dtype, stored, elements) in table {
        let expected = Tensor::new(dtype, &[3], engine_format::Bytes::copy_from(elements)).unwrap();
        assert_eq!(decode(raw("t", number, &[3], stored)).unwrap(), expected);
        let int32_data = stored.iter().map(|&byte| i32::from(byte)).collect();
        let typed = TensorProto { int32_data, dims: vec![3], ..i32s(number, &[]) };
        assert_eq!(decode(typed).unwrap(), expected);
    }
    assert!(decode(raw("t", 22, &[3], &[0x87])).is_err(), "two elements where three are said");
}

#[test]
fn strings_are_text_in_a_field_of_their_own() {
    let strings = |dims: &[i64], string_data: Vec<prost::bytes::Bytes>| TensorProto {
        name: "t".into(),
        dims: dims.to_vec(),
        data_type: data_type::STRING,
        string_data,
        ..Default::default()
    };
    let two = decode(strings(&[2, 1], vec!["日本".into(), "".into()])).unwrap();
    assert_eq!(two, Tensor::from_strings(&[2, 1], &["日本", ""]));
    assert_eq!(decode(strings(&[0], vec![])).unwrap(), Tensor::from_strings(&[0], &[""; 0]));
    let raw = TensorProto { raw_data: Some(vec![0; 4].into()), ..strings(&[1], vec![]) };
    let number = TensorProto { data_type: data_type::INT64, ..strings(&[1], vec!["1".into()]) };
    let cases = [
        (strings(&[2], vec!["a".into()]), "number of elements"),
        (strings(&[1], vec![vec![0xff].into()]), "element 0 of string_data"),
        (raw, "expected its elements in string_data"),
        (number, "found string_data with 1 elements"),
    ];
    for (proto, message) in cases {
        let error = decode(proto).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn scalars_and_empty_tensors() {
    assert_eq!(decode(floats("t", &[], &[2.0])).unwrap(), Tensor::from_slice(&[], &[2.0f32]));
    let empty = decode(floats("t", &[0, 3], &[])).unwrap();
    assert_eq!((empty.shape(), empty.len()), (&[0, 3][..], 0));
}

#[test]
fn raw_data_is_not_copied_when_aligned() {
    // The position of the bytes in the file depends on what precedes them; one of eight producers aligns them.
    let shared = (0..8).any(|pad| {
        let mut proto = model_of(GraphProto {
            initializer: vec![raw("t", data_type::FLOAT, &[2], &[0; 8])],
            ..Default::default()
        });
        proto.producer_name = "x".repeat(pad + 1);
        let bytes = engine_format::Bytes::copy_from(&proto.encode_to_vec());
        let file = bytes.as_ptr_range();
        let model = Model::parse(bytes, None).unwrap();
        let tensor = model.graph.initializers[0].data.tensor().unwrap();
        file.contains(&tensor.bytes().as_ptr())
    });
    assert!(shared);
}

#[test]
fn contents_that_contradict_the_type_are_errors() {
    let both = TensorProto { raw_data: Some(vec![0; 8].into()), ..floats("t", &[2], &[0.0, 0.0]) };
    let wrong_field = TensorProto { data_type: data_type::INT64, ..floats("t", &[2], &[0.0, 0.0]) };
    let cases = [
        (floats("t", &[3], &[0.0, 0.0]), "number of elements"),
        (raw("t", data_type::FLOAT, &[2], &[0; 7]), "expected 8 bytes for f32[2], found 7"),
        (raw("t", data_type::FLOAT, &[2], &[]), "expected 8 bytes for f32[2], found 0"),
        (raw("t", data_type::BOOL, &[1], &[2]), "bool"),
        (i32s(data_type::INT8, &[0, 128]), "does not fit"),
        (u64s(data_type::UINT32, &[0, 1 << 32]), "does not fit"),
        (wrong_field, "float_data"),
        (both, "stored twice"),
        (floats("t", &[-1], &[]), "negative dimension"),
        (floats("t", &[i64::MAX, i64::MAX, 4], &[]), "size overflows"),
    ];
    for (proto, message) in cases {
        let error = decode(proto).unwrap_err();
        assert_eq!(error.kind(), OnnxErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.place(), Some("tensor \"t\""));
    }
}

#[test]
fn element_types_without_support_are_errors_once_used() {
    let named = [(14, "complex64"), (15, "complex128"), (27, "f6e2m3"), (28, "f6e3m2"), (99, "99")];
    for (data_type, name) in named {
        let data = load(raw("odd", data_type, &[1], &[0; 8])).unwrap();
        for error in [data.dtype().unwrap_err(), data.tensor().unwrap_err()] {
            assert_eq!(error.kind(), OnnxErrorKind::UnsupportedType);
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("odd"), "{text}");
        }
    }
}

#[test]
fn external_data_is_read_from_the_models_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let model_dir = folder.path().join("m");
    std::fs::create_dir(&model_dir).unwrap();
    let stored: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(model_dir.join("w.bin"), &stored).unwrap();
    std::fs::write(folder.path().join("out.bin"), &stored).unwrap();
    let at = |location: &str, offset: &str| {
        let entry = |key: &str, value: &str| StringStringEntryProto {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let tensor = TensorProto {
            data_location: EXTERNAL,
            external_data: vec![
                entry("location", location),
                entry("offset", offset),
                entry("length", "8"),
            ],
            ..raw("w", data_type::FLOAT, &[2], &[])
        };
        let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
        let path = model_dir.join("model.onnx");
        std::fs::write(&path, model_of(graph).encode_to_vec()).unwrap();
        Model::open(&path)?.graph.initializers[0].data.tensor()
    };
    assert_eq!(at("w.bin", "4").unwrap(), Tensor::from_slice(&[2], &[2.0f32, 3.0]));
    for (location, offset) in
        [("../out.bin", "0"), ("w.bin", "8"), ("w.bin", "-4"), ("none.bin", "0"), ("", "0")]
    {
        let error = at(location, offset).unwrap_err();
        assert_eq!(error.kind(), OnnxErrorKind::ExternalData, "{location} {offset}: {error}");
        assert!(error.to_string().contains("model.onnx"), "{error}");
    }
}

fn sparse(values: TensorProto, indices: TensorProto, dims: &[i64]) -> SparseTensorProto {
    SparseTensorProto { values: Some(values), indices: Some(indices), dims: dims.to_vec() }
}

fn load_sparse(tensor: SparseTensorProto) -> Result<Tensor, OnnxError> {
    let graph = GraphProto { sparse_initializer: vec![tensor], ..Default::default() };
    let model = parse(&model_of(graph))?;
    assert_eq!(model.constants()[0].name, "s");
    model.constants()[0].data.tensor()
}

#[test]
fn sparse_initializers_are_made_dense() {
    let dense = Tensor::from_slice(&[2, 3], &[0.0f32, 5.0, 0.0, 0.0, 0.0, 7.0]);
    let values = || floats("s", &[2], &[5.0, 7.0]);
    for indices in [int64s("", &[2], &[1, 5]), int64s("", &[2, 2], &[0, 1, 1, 2])] {
        assert_eq!(load_sparse(sparse(values(), indices, &[2, 3])).unwrap(), dense);
    }
    let bad = [
        (int64s("", &[2], &[1, 6]), &[2, 3][..], OnnxErrorKind::Invalid),
        (int64s("", &[2], &[-1, 5]), &[2, 3], OnnxErrorKind::Invalid),
        (int64s("", &[2, 2], &[0, 3, 0, 0]), &[2, 3], OnnxErrorKind::Invalid),
        (int64s("", &[1], &[1]), &[2, 3], OnnxErrorKind::Invalid),
        (int64s("", &[2], &[1, 5]), &[1 << 20, 1 << 20], OnnxErrorKind::LimitExceeded),
    ];
    for (indices, dims, kind) in bad {
        let error = load_sparse(sparse(values(), indices, dims)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn constants_of_every_form_come_out_as_one() {
    let typed = |name: &str, r#type: i32| AttributeProto { r#type, ..attr(name) };
    let sparse_value = sparse(floats("", &[1], &[4.0]), int64s("", &[1], &[1]), &[2]);
    let forms = [
        (tensor("value", int64s("", &[1], &[3])), Tensor::from_slice(&[1], &[3i64])),
        (int("value_int", 3), Tensor::from_slice(&[], &[3i64])),
        (
            AttributeProto { f: Some(0.5), ..typed("value_float", attribute_type::FLOAT) },
            Tensor::from_slice(&[], &[0.5f32]),
        ),
        (
            AttributeProto { ints: vec![1, 2], ..typed("value_ints", attribute_type::INTS) },
            Tensor::from_slice(&[2], &[1i64, 2]),
        ),
        (
            AttributeProto { floats: vec![], ..typed("value_floats", attribute_type::FLOATS) },
            Tensor::from_slice::<f32>(&[0], &[]),
        ),
        (
            AttributeProto {
                sparse_tensor: Some(Box::new(sparse_value)),
                ..typed("sparse_value", attribute_type::SPARSE_TENSOR)
            },
            Tensor::from_slice(&[2], &[0.0f32, 4.0]),
        ),
        (
            AttributeProto {
                s: Some("ß".into()), ..typed("value_string", attribute_type::STRING)
            },
            Tensor::from_strings(&[], &["ß"]),
        ),
        (
            AttributeProto {
                strings: vec!["a".into(), "".into()],
                ..typed("value_strings", attribute_type::STRINGS)
            },
            Tensor::from_strings(&[2], &["a", ""]),
        ),
    ];
    for (form, expected) in forms {
        let name = form.name.clone();
        let constant = NodeProto { attribute: vec![form], ..node("Constant", &[], &["c"]) };
        let model = parse(&model_of(nodes(vec![constant]))).unwrap();
        let [constant] = &model.constants()[..] else { panic!("{name}") };
        assert_eq!(constant.name, "c");
        assert_eq!(constant.data.tensor().unwrap(), expected, "{name}");
    }
    let none = parse(&model_of(nodes(vec![node("Constant", &[], &["c"])]))).unwrap_err();
    assert!(none.to_string().contains("node \"Constant_0\""), "{none}");
}
