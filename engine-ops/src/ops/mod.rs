//! The list. Adding an operator is its `.rs`, its `.wgsl` and two lines here: the `mod` and the row.

use crate::OpDef;

pub use cast::onnx_dtype;

mod activation;
mod arg;
mod attention;
mod batch_norm;
mod binary;
mod bit_cast;
mod cast;
mod clip;
mod col2im;
mod compare;
mod concat;
mod control;
mod conv;
mod conv_transpose;
mod cumsum;
mod deform_im2col;
mod depth_space;
mod det;
mod dft;
mod einsum;
mod elementwise;
mod expand;
mod eye_like;
mod fused;
mod gather;
mod gather_elements;
mod gather_nd;
mod gemm;
mod global_pool;
mod grid_sample;
mod image_decoder;
mod label_encoder;
mod linear_attention;
mod logic;
mod matmul;
mod max_roi_pool;
mod max_unpool;
mod mel_weight_matrix;
mod nchwc;
mod non_max_suppression;
mod non_zero;
mod norm;
mod numeric;
mod one_hot;
mod order;
mod pad;
mod pairwise_coupling;
mod pool;
mod pow;
mod random;
mod range;
mod recurrent;
mod reduce;
mod regex_full_match;
mod resize;
mod reverse_sequence;
mod roi_align;
mod scatter;
mod sequence;
mod shape;
mod slice;
mod softmax;
mod split;
mod string_concat;
mod string_normalizer;
mod string_split;
mod tensor_scatter;
mod tf_idf;
mod top_k;
mod transpose;
mod tree_ensemble;
mod trigonometry;
mod trilu;
mod unary;
mod unique;
mod variadic;
mod view;
mod r#where;

pub(crate) use activation::GELU_BY_TANH;
pub(crate) use elementwise::PRELUDE;
pub(crate) use unary::FUNCTIONS;

/// Every operator, by family.
pub static TABLE: &[&OpDef] = &[
    // Two operands, elementwise.
    &binary::ADD,
    &binary::SUB,
    &binary::MUL,
    &binary::DIV,
    &binary::MOD,
    &binary::PRELU,
    &pow::POW,
    &compare::EQUAL,
    &compare::GREATER,
    &compare::GREATER_OR_EQUAL,
    &compare::LESS,
    &compare::LESS_OR_EQUAL,
    &logic::AND,
    &logic::OR,
    &logic::XOR,
    &logic::BITWISE_AND,
    &logic::BITWISE_OR,
    &logic::BITWISE_XOR,
    &logic::BIT_SHIFT,
    // Any number of operands, elementwise.
    &variadic::MAX,
    &variadic::MIN,
    &variadic::SUM,
    &variadic::MEAN,
    &r#where::WHERE,
    // Along axes.
    &cumsum::CUM_SUM,
    &cumsum::CUM_PROD,
    &reduce::SUM,
    &reduce::MEAN,
    &reduce::MAX,
    &reduce::MIN,
    &reduce::PROD,
    &reduce::L1,
    &reduce::L2,
    &reduce::LOG_SUM,
    &reduce::LOG_SUM_EXP,
    &reduce::SUM_SQUARE,
    &arg::ARG_MAX,
    &arg::ARG_MIN,
    &softmax::SOFTMAX,
    &softmax::LOG_SOFTMAX,
    &norm::LAYER_NORMALIZATION,
    &norm::RMS_NORMALIZATION,
    &norm::INSTANCE_NORMALIZATION,
    &norm::GROUP_NORMALIZATION,
    &batch_norm::BATCH_NORMALIZATION,
    // One operand, elementwise.
    &cast::CAST,
    &cast::CAST_LIKE,
    &bit_cast::BIT_CAST,
    &clip::CLIP,
    &numeric::RELU,
    &numeric::ABS,
    &numeric::NEG,
    &numeric::SIGN,
    &numeric::NOT,
    &numeric::BITWISE_NOT,
    &numeric::IS_NAN,
    &numeric::IS_INF,
    &unary::SIGMOID,
    &unary::EXP,
    &unary::LOG,
    &unary::SQRT,
    &unary::RECIPROCAL,
    &unary::ERF,
    &unary::CEIL,
    &unary::FLOOR,
    &unary::ROUND,
    &trigonometry::SIN,
    &trigonometry::COS,
    &trigonometry::TAN,
    &trigonometry::ASIN,
    &trigonometry::ACOS,
    &trigonometry::ATAN,
    &trigonometry::SINH,
    &trigonometry::COSH,
    &trigonometry::TANH,
    &trigonometry::ASINH,
    &trigonometry::ACOSH,
    &trigonometry::ATANH,
    &activation::SOFTPLUS,
    &activation::SOFTSIGN,
    &activation::HARD_SIGMOID,
    &activation::HARD_SWISH,
    &activation::ELU,
    &activation::SELU,
    &activation::CELU,
    &activation::LEAKY_RELU,
    &activation::THRESHOLDED_RELU,
    &activation::GELU,
    &activation::MISH,
    &activation::SWISH,
    &activation::SHRINK,
    // Several of them in one pass.
    &fused::ELEMENTWISE,
    // The same bytes under another shape.
    &view::RESHAPE,
    &view::SQUEEZE,
    &view::UNSQUEEZE,
    &view::FLATTEN,
    &view::IDENTITY,
    // Shape arithmetic.
    &shape::SHAPE,
    &shape::SIZE,
    // Data movement.
    &transpose::TRANSPOSE,
    &expand::EXPAND,
    &expand::TILE,
    &concat::CONCAT,
    &split::SPLIT,
    &slice::SLICE,
    &gather::GATHER,
    &gather_elements::GATHER_ELEMENTS,
    &gather_nd::GATHER_ND,
    &gather_elements::SCATTER_ELEMENTS,
    &gather_nd::SCATTER_ND,
    &pad::PAD,
    &resize::RESIZE,
    &depth_space::DEPTH_TO_SPACE,
    &depth_space::SPACE_TO_DEPTH,
    &trilu::TRILU,
    &one_hot::ONE_HOT,
    &reverse_sequence::REVERSE_SEQUENCE,
    // Made from shapes and scalars.
    &range::RANGE,
    &eye_like::EYE_LIKE,
    // Drawn by chance.
    &random::RANDOM_UNIFORM,
    &random::RANDOM_NORMAL,
    // Sorted, or as many as the data says.
    &top_k::TOP_K,
    &non_zero::NON_ZERO,
    &non_zero::COMPRESS,
    &unique::UNIQUE,
    // Recurrence.
    &recurrent::LSTM,
    &recurrent::GRU,
    &recurrent::RNN,
    // Control.
    &control::IF,
    &control::LOOP,
    &control::SCAN,
    &control::REFUSE,
    // Sequences and optional values.
    &sequence::SEQUENCE_CONSTRUCT,
    &sequence::SEQUENCE_EMPTY,
    &sequence::SEQUENCE_INSERT,
    &sequence::SEQUENCE_ERASE,
    &sequence::SEQUENCE_AT,
    &sequence::SEQUENCE_LENGTH,
    &sequence::CONCAT_FROM_SEQUENCE,
    &sequence::SPLIT_TO_SEQUENCE,
    &sequence::OPTIONAL,
    &sequence::OPTIONAL_HAS_ELEMENT,
    &sequence::OPTIONAL_GET_ELEMENT,
    // Products.
    &matmul::MATMUL,
    &matmul::FUSED_MATMUL,
    &gemm::GEMM,
    &gemm::FUSED_GEMM,
    &attention::ATTENTION,
    &conv::CONV,
    &conv::FUSED_CONV,
    &conv_transpose::CONV_TRANSPOSE,
    &conv_transpose::FUSED_CONV_TRANSPOSE,
    &deform_im2col::DEFORM_IM2COL,
    // Over images whose channels lie in blocks.
    &nchwc::BLOCKED_CONV,
    &nchwc::TO_BLOCKS,
    &nchwc::FROM_BLOCKS,
    // Pools.
    &pool::MAX_POOL,
    &pool::AVERAGE_POOL,
    &pool::LP_POOL,
    &global_pool::GLOBAL_MAX_POOL,
    &global_pool::GLOBAL_AVERAGE_POOL,
    // Signals, images, boxes.
    &dft::DFT,
    &dft::STFT,
    &mel_weight_matrix::MEL_WEIGHT_MATRIX,
    &linear_attention::LINEAR_ATTENTION,
    &einsum::EINSUM,
    &grid_sample::GRID_SAMPLE,
    &col2im::COL2IM,
    &non_max_suppression::NON_MAX_SUPPRESSION,
    &det::DET,
    &tensor_scatter::TENSOR_SCATTER,
    &max_unpool::MAX_UNPOOL,
    &image_decoder::IMAGE_DECODER,
    &roi_align::ROI_ALIGN,
    &max_roi_pool::MAX_ROI_POOL,
    &tf_idf::TF_IDF_VECTORIZER,
    // Classical models.
    &label_encoder::LABEL_ENCODER,
    &tree_ensemble::TREE_ENSEMBLE,
    &pairwise_coupling::PAIRWISE_COUPLING,
    // Strings, on the host.
    &string_concat::STRING_CONCAT,
    &string_split::STRING_SPLIT,
    &string_normalizer::STRING_NORMALIZER,
    &regex_full_match::REGEX_FULL_MATCH,
];
