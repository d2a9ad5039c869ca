//! Strings, on the host.

use crate::OpDef;

pub(crate) mod regex_full_match;
pub(crate) mod string_concat;
pub(crate) mod string_normalizer;
pub(crate) mod string_split;
pub(crate) mod tf_idf;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &tf_idf::TF_IDF_VECTORIZER,
    &string_concat::STRING_CONCAT,
    &string_split::STRING_SPLIT,
    &string_normalizer::STRING_NORMALIZER,
    &regex_full_match::REGEX_FULL_MATCH,
];
