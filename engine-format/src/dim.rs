//! Symbolic dimensions: polynomials over named sizes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The size of one axis: a number, or an expression over symbols such as `batch` or `2*seq + 1`.
///
/// Expressions are kept in a normal form (a sum of integer multiples of products of atoms), so
/// that equal polynomials compare equal. An atom is a symbol or a quotient that does not divide out.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Known(i64),
    Poly(Arc<Terms>),
}

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

    /// The number, if this is one.
    pub fn known(&self) -> Option<i64> {
        match self.0 {
            Repr::Known(n) => Some(n),
            Repr::Poly(_) => None,
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
        }
    }

    /// Quotient rounded towards negative infinity; exact where every coefficient divides.
    ///
    /// # Panics
    /// If `rhs` is the number 0.
    #[must_use]
    pub fn floor_div(&self, rhs: &Dim) -> Dim {
        assert_ne!(rhs.known(), Some(0), "division of a dimension by zero");
        match (self.known(), rhs.known()) {
            (Some(a), Some(b)) => return Dim::from(a.div_euclid(b)),
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
        Self(Repr::Poly(Arc::new(BTreeMap::from([(vec![atom], 1)]))))
    }

    /// `self / rhs` where `rhs` is one term that divides every term of `self`.
    fn divide_exactly(&self, rhs: &Dim) -> Option<Dim> {
        let rhs = rhs.terms();
        let (divisor, &by) = rhs.iter().next().filter(|_| rhs.len() == 1)?;
        let mut out = Terms::new();
        for (atoms, coefficient) in self.terms() {
            if coefficient % by != 0 {
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
        }
    }

    fn from_terms(mut terms: Terms) -> Self {
        terms.retain(|_, coefficient| *coefficient != 0);
        match terms.len() {
            0 => Dim::from(0),
            1 if terms.contains_key(&Vec::new()) => Dim::from(terms[&Vec::new()]),
            _ => Self(Repr::Poly(Arc::new(terms))),
        }
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

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self(Repr::Known(i64::try_from(n).expect("a dimension is below 2^63")))
    }
}

impl std::ops::Add for &Dim {
    type Output = Dim;
    fn add(self, rhs: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.known(), rhs.known()) {
            return Dim::from(a.wrapping_add(b));
        }
        let mut terms = self.terms();
        for (atoms, coefficient) in rhs.terms() {
            let sum = terms.entry(atoms).or_insert(0);
            *sum = sum.wrapping_add(coefficient);
        }
        Dim::from_terms(terms)
    }
}

impl std::ops::Mul for &Dim {
    type Output = Dim;
    fn mul(self, rhs: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.known(), rhs.known()) {
            return Dim::from(a.wrapping_mul(b));
        }
        let mut terms = Terms::new();
        for (a, x) in self.terms() {
            for (b, y) in rhs.terms() {
                let mut atoms: Vec<Atom> = a.iter().chain(&b).cloned().collect();
                atoms.sort();
                let sum = terms.entry(atoms).or_insert(0);
                *sum = sum.wrapping_add(x.wrapping_mul(y));
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
    }

    #[test]
    fn display_reads_like_arithmetic() {
        let s = Dim::symbol("seq");
        assert_eq!((&(&Dim::from(2) * &s) - &Dim::from(1)).to_string(), "2*seq - 1");
    }
}
