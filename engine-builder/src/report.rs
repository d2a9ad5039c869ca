//! What a build did to a graph, and what it nearly did.

use std::fmt;

/// What the passes of one build reported ([`build_with_report`](crate::build_with_report)).
///
/// `Display` writes it for people: one paragraph for each pass that has something to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildReport {
    /// By pass, in the order in which the passes first spoke; within a pass what was done comes before what was not.
    pub notes: Vec<Note>,
}

/// One thing that a pass did, or did not do although it came close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Name of the pass.
    pub pass: &'static str,
    /// Path of the node in the model.
    pub node: String,
    /// Whether the graph was changed there.
    pub outcome: Outcome,
    /// What was done, or what stood in the way.
    pub text: String,
}

/// Whether a pass changed the graph at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did.
    Done,
    /// It did not; the node looked like one of its own, and the note says what was missing.
    Kept,
}

impl fmt::Display for BuildReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for notes in self.notes.chunk_by(|a, b| a.pass == b.pass) {
            let done = notes.iter().filter(|note| note.outcome == Outcome::Done).count();
            writeln!(f, "{}: {done} done, {} kept", notes[0].pass, notes.len() - done)?;
            for note in notes {
                let outcome = match note.outcome {
                    Outcome::Done => "done",
                    Outcome::Kept => "kept",
                };
                writeln!(f, "  {outcome} {}: {}", note.node, note.text)?;
            }
        }
        Ok(())
    }
}

/// Collects what passes say while they run.
///
/// Passes run again and again: what they did adds up, while of what they did not do only the last look counts.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pass: &'static str,
    notes: Vec<Note>,
}

impl Notes {
    /// What follows is said by `pass`, which looks at the whole graph.
    pub(crate) fn begin(&mut self, pass: &'static str) {
        self.pass = pass;
        self.notes.retain(|note| note.pass != pass || note.outcome == Outcome::Done);
    }

    /// The graph was changed at this node.
    pub(crate) fn done(&mut self, node: &str, text: impl Into<String>) {
        self.note(node, Outcome::Done, text.into());
    }

    /// The graph was not changed at this node, and why.
    pub(crate) fn kept(&mut self, node: &str, text: impl Into<String>) {
        self.note(node, Outcome::Kept, text.into());
    }

    fn note(&mut self, node: &str, outcome: Outcome, text: String) {
        self.notes.push(Note { pass: self.pass, node: node.to_owned(), outcome, text });
    }

    /// The report, ordered for readers.
    pub(crate) fn finish(self) -> BuildReport {
        let mut order: Vec<&'static str> = Vec::new();
        for note in &self.notes {
            if !order.contains(&note.pass) {
                order.push(note.pass);
            }
        }
        let mut notes = self.notes;
        let place = |pass| order.iter().position(|&p| p == pass);
        notes.sort_by_key(|note| (place(note.pass), note.outcome == Outcome::Kept));
        BuildReport { notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_adds_up_and_only_the_last_look_at_what_was_not() {
        let mut notes = Notes::default();
        notes.begin("scale");
        notes.kept("/b", "the weight is large");
        notes.begin("dead");
        notes.done("/c", "nobody reads it");
        notes.begin("scale");
        notes.kept("/d", "it is read twice");
        notes.done("/b", "folded");
        let report = notes.finish();
        insta::assert_snapshot!(report, @r"
        dead: 1 done, 0 kept
          done /c: nobody reads it
        scale: 1 done, 1 kept
          done /b: folded
          kept /d: it is read twice
        ");
    }
}
