//! Attributes: what a row says of them, and how kernels read them.

use engine_format::{Attr, Attrs};

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct AttrDef {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: AttrKind,
    /// What an absent one means.
    pub default: Default,
}

impl AttrDef {
    /// An integer with a default.
    pub const fn int(name: &'static str, default: i64) -> Self {
        Self { name, kind: AttrKind::Int, default: Default::Int(default) }
    }

    /// A float with a default.
    pub const fn float(name: &'static str, default: f32) -> Self {
        Self { name, kind: AttrKind::Float, default: Default::Float(default) }
    }

    /// A string with a default.
    pub const fn str(name: &'static str, default: &'static str) -> Self {
        Self { name, kind: AttrKind::Str, default: Default::Str(default) }
    }

    /// A list of integers that may be absent.
    pub const fn opt_ints(name: &'static str) -> Self {
        Self { name, kind: AttrKind::Ints, default: Default::Absent }
    }

    /// An attribute that must be given.
    pub const fn required(name: &'static str, kind: AttrKind) -> Self {
        Self { name, kind, default: Default::Required }
    }
}

/// Type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mirrors engine_format::Attr")]
pub enum AttrKind {
    Int,
    Float,
    Str,
    Ints,
    Floats,
    Strs,
    Block,
}

impl AttrKind {
    pub(crate) fn admits(self, value: &Attr) -> bool {
        matches!(
            (self, value),
            (AttrKind::Int, Attr::Int(_))
                | (AttrKind::Float, Attr::Float(_))
                | (AttrKind::Str, Attr::Str(_))
                | (AttrKind::Ints, Attr::Ints(_))
                | (AttrKind::Floats, Attr::Floats(_))
                | (AttrKind::Strs, Attr::Strs(_))
                | (AttrKind::Block, Attr::Block(_))
        )
    }
}

/// What an absent attribute means.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Default {
    Required,
    Absent,
    Int(i64),
    Float(f32),
    Str(&'static str),
    Ints(&'static [i64]),
    Floats(&'static [f32]),
}

/// Typed reading of normalised attributes.
///
/// The kinds were checked by [`crate::OpDef::normalise`] at build and again at load, so a mismatch here is a bug in the
/// operator's own file and panics.
pub trait AttrsExt {
    /// An integer that the table gives a default or requires.
    fn int(&self, name: &str) -> i64;
    /// A float that the table gives a default or requires.
    fn float(&self, name: &str) -> f32;
    /// A string that the table gives a default or requires.
    fn str(&self, name: &str) -> &str;
    /// A list of integers, if present.
    fn ints(&self, name: &str) -> Option<&[i64]>;
    /// A list of floats, if present.
    fn floats(&self, name: &str) -> Option<&[f32]>;
    /// A list of strings, if present.
    fn strs(&self, name: &str) -> Option<&[String]>;
    /// An optional integer, if present.
    fn opt_int(&self, name: &str) -> Option<i64>;
}

impl AttrsExt for Attrs {
    fn int(&self, name: &str) -> i64 {
        self.opt_int(name).unwrap_or_else(|| panic!("attribute {name:?} was not normalised"))
    }

    fn float(&self, name: &str) -> f32 {
        match self.get(name) {
            Some(Attr::Float(v)) => *v,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn str(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Attr::Str(v)) => v,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.get(name) {
            Some(Attr::Ints(v)) => Some(v),
            None => None,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn floats(&self, name: &str) -> Option<&[f32]> {
        match self.get(name) {
            Some(Attr::Floats(v)) => Some(v),
            None => None,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn strs(&self, name: &str) -> Option<&[String]> {
        match self.get(name) {
            Some(Attr::Strs(v)) => Some(v),
            None => None,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn opt_int(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Attr::Int(v)) => Some(*v),
            None => None,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }
}
