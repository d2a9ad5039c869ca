//! Symbolic dimensions: polynomials over named sizes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The size of one axis: a number, or an expression over symbols such as `batch` or `2*seq + 1`.
///
/// Expressions are kept in a normal form (a sum of integer multiples of products of atoms), so
/// that equal polynomials compare equal. An atom is a symbol or a quotient that does not divide out.
///
/// Arithmetic is total: it never wraps and never panics. What no `i64` can hold, a quotient by zero and an expression that has
/// grown out of all proportion are [`Dim::UNDEFINED`], and so is all that is calculated from it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Known(i64),
    Poly(Arc<Terms>),
    Undefined,
}

/// Atoms of the largest expression, those within quotients included. Models stay below it by far; it bounds the time that
/// arithmetic takes and how deep quotients nest.
const MOST_ATOMS: usize = 4096;

/// Product of atoms (sorted, with repetition) → coefficient (never 0).
type Terms = BTreeMap<Vec<Atom>, i64>;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Arc<str>),
    FloorDiv(Dim, Dim),
}

impl Dim {
    /// A symbol. Names are those of the model's `dim_param`s; what is not known at all gets a fresh
    /// name from its maker.
    pub fn symbol(name: &str) -> Self {
        Self(Repr::Poly(Arc::new(BTreeMap::from([(vec![Atom::Symbol(name.into())], 1)]))))
    }

    /// What arithmetic gives that has no result.
    pub const UNDEFINED: Self = Self(Repr::Undefined);

    /// Whether this is what arithmetic gives that has no result: too large for `i64`, or a quotient by zero.
    pub fn is_undefined(&self) -> bool {
        matches!(self.0, Repr::Undefined)
    }

    /// The number, if this is one.
    pub fn known(&self) -> Option<i64> {
        match self.0 {
            Repr::Known(n) => Some(n),
            Repr::Poly(_) | Repr::Undefined => None,
        }
    }

    /// The symbol's name, if this is a bare symbol.
    pub fn as_symbol(&self) -> Option<&str> {
        match &self.0 {
            Repr::Poly(terms) if terms.len() == 1 => match terms.iter().next() {
                Some((atoms, 1)) => match atoms.as_slice() {
                    [Atom::Symbol(name)] => Some(name),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether this cannot be negative, its symbols being sizes of axes: a sum of products of sizes without a minus.
    pub fn is_size(&self) -> bool {
        let atom = |atom: &Atom| match atom {
            Atom::Symbol(_) => true,
            Atom::FloorDiv(a, b) => a.is_size() && b.is_size(),
        };
        let term =
            |(atoms, &coefficient): (&Vec<Atom>, &i64)| coefficient > 0 && atoms.iter().all(atom);
        match &self.0 {
            Repr::Known(n) => *n >= 0,
            Repr::Poly(terms) => terms.iter().all(term),
            Repr::Undefined => false,
        }
    }

    /// Quotient rounded towards negative infinity; exact where every coefficient divides. Undefined where `rhs` is 0.
    #[must_use]
    pub fn floor_div(&self, rhs: &Dim) -> Dim {
        if self.is_undefined() || rhs.is_undefined() || rhs.known() == Some(0) {
            return Dim::UNDEFINED;
        }
        match (self.known(), rhs.known()) {
            (Some(a), Some(b)) => return floor_quotient(a, b).into(),
            (Some(0), _) => return Dim::from(0),
            (_, Some(1)) => return self.clone(),
            _ => {}
        }
        if self == rhs {
            return Dim::from(1);
        }
        if let Some(exact) = self.divide_exactly(rhs) {
            return exact;
        }
        let atom = Atom::FloorDiv(self.clone(), rhs.clone());
        Self::from_terms(BTreeMap::from([(vec![atom], 1)]))
    }

    /// `self / rhs` where `rhs` is one term that divides every term of `self`.
    fn divide_exactly(&self, rhs: &Dim) -> Option<Dim> {
        let rhs = rhs.terms();
        let (divisor, &by) = rhs.iter().next().filter(|_| rhs.len() == 1)?;
        let mut out = Terms::new();
        for (atoms, coefficient) in self.terms() {
            if coefficient.checked_rem(by)? != 0 {
                return None;
            }
            let mut rest = atoms;
            for atom in divisor {
                let at = rest.iter().position(|a| a == atom)?;
                rest.remove(at);
            }
            out.insert(rest, coefficient / by);
        }
        Some(Self::from_terms(out))
    }

    fn terms(&self) -> Terms {
        match &self.0 {
            Repr::Known(0) => Terms::new(),
            Repr::Known(n) => BTreeMap::from([(Vec::new(), *n)]),
            Repr::Poly(terms) => (**terms).clone(),
            Repr::Undefined => unreachable!("operators have dealt with what is undefined"),
        }
    }

    fn from_terms(mut terms: Terms) -> Self {
        terms.retain(|_, coefficient| *coefficient != 0);
        match terms.len() {
            0 => Dim::from(0),
            1 if terms.contains_key(&Vec::new()) => Dim::from(terms[&Vec::new()]),
            _ if atoms(&terms) > MOST_ATOMS => Dim::UNDEFINED,
            _ => Self(Repr::Poly(Arc::new(terms))),
        }
    }
}

/// Terms and atoms, those within quotients included. Every expression that there is stays below [`MOST_ATOMS`], so counting
/// does not take long.
fn atoms(terms: &Terms) -> usize {
    let nested = |dim: &Dim| match &dim.0 {
        Repr::Poly(terms) => atoms(terms),
        Repr::Known(_) | Repr::Undefined => 0,
    };
    let weight = |atom: &Atom| match atom {
        Atom::Symbol(_) => 1,
        Atom::FloorDiv(a, b) => 1 + nested(a) + nested(b),
    };
    terms.keys().map(|atoms| 1 + atoms.iter().map(weight).sum::<usize>()).sum()
}

/// Rounded towards negative infinity; `None` where it does not fit. `b` is not 0.
fn floor_quotient(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    let below = a % b != 0 && (a < 0) != (b < 0);
    Some(quotient - i64::from(below))
}

/// What is not there is undefined.
impl From<Option<i64>> for Dim {
    fn from(n: Option<i64>) -> Self {
        n.map_or(Dim::UNDEFINED, Dim::from)
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Self {
        Self(Repr::Known(n))
    }
}

impl From<i32> for Dim {
    fn from(n: i32) -> Self {
        Self::from(i64::from(n))
    }
}

/// Undefined from 2^63 on.
impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::from(i64::try_from(n).ok())
    }
}

impl std::ops::Add for &Dim {
    type Output = Dim;
    fn add(self, rhs: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.known(), rhs.known()) {
            return a.checked_add(b).into();
        }
        if self.is_undefined() || rhs.is_undefined() {
            return Dim::UNDEFINED;
        }
        let mut terms = self.terms();
        for (atoms, coefficient) in rhs.terms() {
            let sum = terms.entry(atoms).or_insert(0);
            let Some(total) = sum.checked_add(coefficient) else { return Dim::UNDEFINED };
            *sum = total;
        }
        Dim::from_terms(terms)
    }
}

impl std::ops::Mul for &Dim {
    type Output = Dim;
    fn mul(self, rhs: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.known(), rhs.known()) {
            return a.checked_mul(b).into();
        }
        if self.is_undefined() || rhs.is_undefined() {
            return Dim::UNDEFINED;
        }
        let (left, right) = (self.terms(), rhs.terms());
        if left.len().saturating_mul(right.len()) > MOST_ATOMS {
            return Dim::UNDEFINED;
        }
        let mut terms = Terms::new();
        for (a, x) in &left {
            for (b, y) in &right {
                let mut atoms: Vec<Atom> = a.iter().chain(b).cloned().collect();
                atoms.sort();
                let sum = terms.entry(atoms).or_insert(0);
                let Some(total) = x.checked_mul(*y).and_then(|xy| sum.checked_add(xy)) else {
                    return Dim::UNDEFINED;
                };
                *sum = total;
            }
        }
        Dim::from_terms(terms)
    }
}

impl std::ops::Sub for &Dim {
    type Output = Dim;
    fn sub(self, rhs: &Dim) -> Dim {
        self + &(&Dim::from(-1) * rhs)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(name) => f.write_str(name),
            Atom::FloorDiv(a, b) => write!(f, "floor({a}, {b})"),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = match &self.0 {
            Repr::Known(n) => return write!(f, "{n}"),
            Repr::Poly(terms) => terms,
            Repr::Undefined => return f.write_str("(too large)"),
        };
        // Symbols read better before the constant, which sorts first.
        for (i, (atoms, &coefficient)) in terms.iter().rev().enumerate() {
            let sign = if coefficient < 0 { "-" } else { "+" };
            match (i, coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                _ => write!(f, " {sign} ")?,
            }
            let factor = coefficient.unsigned_abs();
            if factor != 1 || atoms.is_empty() {
                write!(f, "{factor}{}", if atoms.is_empty() { "" } else { "*" })?;
            }
            for (j, atom) in atoms.iter().enumerate() {
                write!(f, "{}{atom}", if j == 0 { "" } else { "*" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Dim {
    type Err = std::convert::Infallible;

    /// A decimal number is a number; every other text is a symbol of that name. Ports hold numbers and
    /// symbols only, so this reads back what a file stores.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse::<i64>().map_or_else(|_| Dim::symbol(text), Dim::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_polynomials_compare_equal() {
        let (b, s) = (Dim::symbol("b"), Dim::symbol("s"));
        assert_eq!(&(&b * &s) + &(&s * &b), &Dim::from(2) * &(&s * &b));
        assert_eq!(&(&b + &Dim::from(3)) - &b, Dim::from(3));
        assert_eq!((&b - &b).known(), Some(0));
    }

    #[test]
    fn sums_and_quotients_of_sizes_are_sizes() {
        let (b, s) = (Dim::symbol("b"), Dim::symbol("s"));
        assert!((&(&b * &s) + &Dim::from(1)).is_size() && s.floor_div(&b).is_size());
        assert!(!(&s - &Dim::from(1)).is_size() && !Dim::from(-1).is_size());
    }

    #[test]
    fn quotients_divide_out_or_stay_atoms() {
        let s = Dim::symbol("s");
        let double = &Dim::from(2) * &s;
        assert_eq!(double.floor_div(&Dim::from(2)), s);
        assert_eq!(double.floor_div(&s), Dim::from(2));
        let half = s.floor_div(&Dim::from(2));
        assert_eq!(half.to_string(), "floor(s, 2)");
        assert_eq!((&half - &half).known(), Some(0));
        assert_eq!(Dim::from(-7).floor_div(&Dim::from(2)), Dim::from(-4));
        assert_eq!(Dim::from(7).floor_div(&Dim::from(-2)), Dim::from(-4));
    }

    #[test]
    fn what_does_not_fit_is_undefined_and_stays_so() {
        let (most, least) = (Dim::from(i64::MAX), Dim::from(i64::MIN));
        let (one, s) = (Dim::from(1), Dim::symbol("s"));
        let wrapping = [
            &most + &one,
            &least - &one,
            &most * &Dim::from(2),
            &(&most * &s) + &s,
            &(&most * &s) * &Dim::from(2),
            least.floor_div(&Dim::from(-1)),
            one.floor_div(&Dim::from(0)),
            s.floor_div(&Dim::from(0)),
            Dim::from(usize::MAX),
        ];
        for dim in wrapping {
            assert!(dim.is_undefined() && dim.known().is_none() && !dim.is_size(), "{dim}");
            assert!((&dim + &one).is_undefined() && (&s * &dim).is_undefined());
            assert!((&dim - &dim).is_undefined() && s.floor_div(&dim).is_undefined());
        }
        assert_eq!((&most + &Dim::from(0)).known(), Some(i64::MAX));
    }

    #[test]
    fn expressions_do_not_grow_without_end() {
        let mut product = Dim::from(1);
        for i in 0..40 {
            product = &product * &(&Dim::symbol(&format!("s{i}")) + &Dim::from(1));
        }
        assert!(product.is_undefined());
        let mut quotient = Dim::symbol("s");
        for _ in 0..10_000 {
            quotient = (&quotient + &Dim::from(1)).floor_div(&Dim::from(2));
        }
        assert!(quotient.is_undefined());
    }

    #[test]
    fn display_reads_like_arithmetic() {
        let s = Dim::symbol("seq");
        assert_eq!((&(&Dim::from(2) * &s) - &Dim::from(1)).to_string(), "2*seq - 1");
    }
}
