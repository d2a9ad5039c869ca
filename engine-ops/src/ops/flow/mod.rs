//! Control flow, sequences and optional values: the planner's.

use crate::OpDef;

pub(crate) mod control;
pub(crate) mod sequence;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &control::IF,
    &control::LOOP,
    &control::SCAN,
    &control::REFUSE,
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
];
