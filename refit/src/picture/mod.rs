//! Pictures of an engine's two programs: `prepare` beside `execute`, with the weights that each node reads, and blocks that repeat drawn
//! once.

mod around;
mod boxes;
mod dot;
mod fold;
mod html;
mod layout;
mod netron;
mod svg;

pub use around::Around;

use boxes::Scene;
use engine_format::{Engine, EngineParts};
use std::borrow::Cow;

/// What is to be seen of an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PictureOptions {
    /// Weights whose nodes stand out.
    pub marked: Vec<String>,
    /// Nodes that stand out, by their paths.
    pub marked_nodes: Vec<String>,
    /// Draws no more than what is near; all of it without.
    pub around: Option<Around>,
    /// Draws every node, also of blocks that repeat.
    pub unfolded: bool,
}

/// A picture of an engine, as text of several kinds. The same engine gives the same text, and what its names say is never markup.
#[derive(Debug)]
pub struct Picture<'a> {
    engine: &'a Engine,
    /// What is seen of it.
    parts: Cow<'a, EngineParts>,
    title: String,
    scene: Scene,
}

impl<'a> Picture<'a> {
    /// Looks at `engine`, which is called `title`.
    pub fn new(engine: &'a Engine, title: impl Into<String>, options: &PictureOptions) -> Self {
        let parts = match &options.around {
            Some(around) => Cow::Owned(around::near(engine.parts(), around)),
            None => Cow::Borrowed(engine.parts()),
        };
        let scene = Scene::new(&parts, options);
        Self { engine, parts, title: title.into(), scene }
    }

    /// Nodes of both programs of the engine, and how many of them are drawn.
    pub fn counts(&self) -> (usize, usize) {
        let drawn = self.scene.programs.iter().map(|program| program.nodes);
        (count(self.engine.parts()), drawn.sum())
    }

    /// Nodes that [`Picture::json`] has.
    pub fn json_count(&self) -> usize {
        count(&self.parts)
    }

    /// A drawing.
    pub fn svg(&self) -> String {
        svg::drawing(&self.scene, &self.title)
    }

    /// A page with the drawing and a list of the weights, in one file that asks for no others.
    pub fn html(&self) -> String {
        html::page(self.engine, &self.scene, &self.title)
    }

    /// The language of Graphviz.
    pub fn dot(&self) -> String {
        dot::graph(&self.scene, &self.title)
    }

    /// All nodes of both programs that are to be seen, nothing folded, in the JSON that Netron opens.
    pub fn json(&self) -> String {
        netron::model(&self.parts, &self.title)
    }
}

/// Nodes of both programs.
fn count(parts: &EngineParts) -> usize {
    parts.prepare.nodes.len() + parts.execute.nodes.len()
}

/// Text as XML and HTML have it, and without characters that XML does not have.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// At most so many characters of a text, the end rather than the beginning: names differ at their ends.
fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    match count <= most {
        true => text.to_owned(),
        false => std::iter::once('…').chain(text.chars().skip(count - most + 1)).collect(),
    }
}
