//! Names of operators that are written down in code.

use crate::{OpDef, lookup, ops::FAMILIES};
use engine_format::Node;
use std::fmt;

/// The name of an operator: a constant that [`operators!`](crate::operators) makes, which the table has or it does not compile, or
/// what a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpName<'a>(&'a str);

impl OpName<'static> {
    /// The name of a row.
    ///
    /// # Panics
    /// If the table has no such row; in a constant, that is an error of the compiler.
    pub const fn of_row(name: &'static str) -> Self {
        let mut family = 0;
        while family < FAMILIES.len() {
            let mut row = 0;
            while row < FAMILIES[family].len() {
                if equal(FAMILIES[family][row].name, name) {
                    return Self(name);
                }
                row += 1;
            }
            family += 1;
        }
        panic!("the table has no such operator")
    }
}

impl<'a> OpName<'a> {
    /// The operator of a node.
    pub fn of(node: &'a Node) -> Self {
        Self(&node.op)
    }

    /// The name alone.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The row of the current version; none for a name that only a node says.
    pub fn def(self) -> Option<&'static OpDef> {
        lookup(self.0, 1)
    }
}

impl fmt::Display for OpName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl From<&'static OpDef> for OpName<'static> {
    fn from(row: &'static OpDef) -> Self {
        Self(row.name)
    }
}

const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// Constants for operators, called as they are: `operators!(Add MatMul)`. One that is not in the table does not compile:
///
/// ```
/// engine_ops::operators!(Add MatMul);
/// assert_eq!(Add.as_str(), "Add");
/// ```
/// ```compile_fail
/// engine_ops::operators!(Add MatMull);
/// ```
#[macro_export]
macro_rules! operators {
    ($($name:ident)*) => {$(
        #[doc = concat!("The operator ", stringify!($name), ".")]
        #[expect(non_upper_case_globals, reason = "called as the operator is")]
        pub(crate) const $name: $crate::OpName<'static> = $crate::OpName::of_row(stringify!($name));
    )*};
}
