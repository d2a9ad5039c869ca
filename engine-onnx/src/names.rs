//! Names that do not clash.

use std::collections::{HashMap, HashSet};

/// The names in use at one level, or in a whole model.
#[derive(Default)]
pub(crate) struct Names {
    used: HashSet<String>,
    next: HashMap<String, u32>,
}

impl Names {
    /// Takes note of a name that is given.
    pub(crate) fn reserve(&mut self, name: &str) {
        if !self.used.contains(name) {
            self.used.insert(name.to_owned());
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.used.contains(name)
    }

    /// `preferred` if nobody has it, else `preferred_2`, `preferred_3` …
    pub(crate) fn fresh(&mut self, preferred: String) -> String {
        if self.used.insert(preferred.clone()) {
            return preferred;
        }
        loop {
            let next = self.next.entry(preferred.clone()).or_insert(1);
            *next += 1;
            let name = format!("{preferred}_{next}");
            if self.used.insert(name.clone()) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_skip_names_in_use() {
        let mut names = Names::default();
        names.reserve("a_2");
        let got: Vec<_> = (0..3).map(|_| names.fresh("a".to_owned())).collect();
        assert_eq!(got, ["a", "a_3", "a_4"]);
    }
}
