//! A drawing as SVG: text, lines and rectangles alone.

use super::boxes::{Kind, Program, Role, Scene, Shape};
use super::escaped;
use super::layout::{CHARACTER, LINE, Layout, PADDING, Rect, lines};
use std::fmt::Write;

/// Space around all, between the programs, and above them for what they are called.
const MARGIN: f64 = 24.0;
const BETWEEN: f64 = 90.0;
const HEAD: f64 = 64.0;
/// Arrows from `prepare` to `execute` that are drawn at most; boxes say what was prepared in any case.
const MOST_PREPARED: usize = 64;

pub(super) const STYLE: &str = "\
.refit{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}
.refit text{fill:#1f2328}.refit .title{font-weight:bold}.refit .quiet{fill:#656d76}
.refit .head{font-size:15px;font-weight:bold}
.refit rect{stroke:#8c959f;fill:#fff;rx:4px}
.refit .page{fill:#fff;stroke:none}
.refit .port rect{fill:#eaeef2}.refit .reads rect{fill:#ddf4ff;stroke:#54aeff}
.refit .prepare rect{fill:#fbefff;stroke:#c297ff}
.refit .group{fill:none;stroke:#8c959f;stroke-dasharray:5 4}
.refit .marked rect{stroke:#cf222e;stroke-width:3}
.refit path{fill:none;stroke:#57606a}.refit .carried{stroke-dasharray:5 4}
.refit .crossing{stroke:#a475f9;stroke-dasharray:2 4}
.refit .any{fill:#1a7f37}.refit .same{fill:#bf8700}.refit .none{fill:#8c959f}.refit .prepared{fill:#8250df}
@media (prefers-color-scheme:dark){
.refit .page{fill:#0d1117}.refit text{fill:#e6edf3}.refit .quiet{fill:#8d96a0}
.refit rect{fill:#161b22;stroke:#6e7681}.refit .port rect{fill:#21262d}.refit .reads rect{fill:#0c2d6b;stroke:#388bfd}
.refit .prepare rect{fill:#271052;stroke:#8957e5}.refit path{stroke:#8d96a0}.refit .crossing{stroke:#8957e5}
.refit .any{fill:#3fb950}.refit .same{fill:#d29922}.refit .prepared{fill:#a371f7}}
";

/// The whole file.
pub(super) fn drawing(scene: &Scene, title: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", element(scene, title))
}

/// The element, which a page may contain too.
pub(super) fn element(scene: &Scene, title: &str) -> String {
    let layouts: Vec<Layout> = scene.programs.iter().map(Layout::new).collect();
    let mut x = MARGIN;
    let mut origins = Vec::new();
    for layout in &layouts {
        origins.push([x, MARGIN + HEAD]);
        x += layout.width + BETWEEN;
    }
    let roles = Role::ALL.map(Role::meaning);
    let legend = 2.0 + roles.iter().map(|text| text.chars().count() + 4).sum::<usize>() as f64;
    let width = (x - BETWEEN + MARGIN).max(legend * CHARACTER + 2.0 * MARGIN);
    let tallest = layouts.iter().map(|layout| layout.height).fold(0.0, f64::max);
    let height = tallest + HEAD + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"refit\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n<rect class=\"page\" width=\"{w}\" height=\"{h}\"/>\n",
        escaped(title),
        w = round(width),
        h = round(height),
    );
    explain(&mut out);
    if scene.prepared.len() <= MOST_PREPARED
        && let ([prepare, execute], [a, b]) = (&layouts[..], &origins[..])
    {
        for &(from, to) in &scene.prepared {
            let (from, to) = (prepare.boxes[from], execute.boxes[to]);
            let from = [a[0] + from.x + from.w, a[1] + from.y + from.h / 2.0];
            let to = [b[0] + to.x, b[1] + to.y + to.h / 2.0];
            let bend = (to[0] - from[0]) / 2.0;
            let (near, past) = ([from[0] + bend, from[1]], [to[0] - bend, to[1]]);
            let curve = [near, past, to].map(point).join(" ");
            line(&mut out, "crossing", &format!("M{} C{curve}", point(from)));
        }
    }
    for ((program, layout), origin) in scene.programs.iter().zip(&layouts).zip(origins) {
        draw(&mut out, program, layout, origin);
    }
    out += "</svg>\n";
    out
}

/// What marks mean.
fn explain(out: &mut String) {
    let mut x = MARGIN;
    for role in Role::ALL {
        mark(out, role, x, MARGIN + 4.0);
        text(out, "quiet", [x + 12.0, MARGIN + 8.0], role.meaning());
        x += (role.meaning().chars().count() + 4) as f64 * CHARACTER;
    }
}

fn draw(out: &mut String, program: &Program, layout: &Layout, [x, y]: [f64; 2]) {
    let _ = writeln!(
        out,
        "<g class=\"{}\" transform=\"translate({} {})\">",
        program.name,
        round(x),
        round(y)
    );
    text(out, "head", [0.0, -14.0], program.name);
    for (rect, times) in &layout.groups {
        let _ = writeln!(out, "<rect class=\"group\" style=\"fill:none\" {}/>", place(*rect));
        text(out, "title", [rect.x + 10.0, rect.y + 19.0], &format!("× {times}"));
    }
    for (arrow, points) in &layout.arrows {
        let class = if arrow.is_carried { "carried" } else { "" };
        let [first, rest @ ..] = &points[..] else { continue };
        let mut path = format!("M{}", point(*first));
        let mut last = *first;
        for &to in rest {
            match arrow.is_carried {
                true => path += &format!(" L{}", point(to)),
                false => {
                    let middle = f64::midpoint(last[1], to[1]);
                    let curve = [[last[0], middle], [to[0], middle], to].map(point).join(" ");
                    path += &format!(" C{curve}");
                }
            }
            last = to;
        }
        line(out, class, &path);
        tip(out, last, arrow.is_carried);
    }
    for (index, (shape, rect)) in program.boxes.iter().zip(&layout.boxes).enumerate() {
        let far = layout.far.get(&index).map_or(&[][..], Vec::as_slice);
        draw_box(out, shape, *rect, far, program);
    }
    *out += "</g>\n";
}

fn draw_box(out: &mut String, shape: &Shape, rect: Rect, far: &[usize], program: &Program) {
    let kind = match shape.kind {
        Kind::Input | Kind::Output => "port",
        Kind::Node if shape.chips.is_empty() => "node",
        Kind::Node => "reads",
    };
    let marked = if shape.is_marked { " marked" } else { "" };
    let rows = shape.chips.iter().flat_map(|chip| &chip.weights);
    let rows: std::collections::BTreeSet<usize> = rows.copied().collect();
    let rows = rows.iter().map(|row| format!(" w{row}")).collect::<String>();
    let _ = writeln!(out, "<g class=\"{kind}{marked}{rows}\">");
    let whole = shape.chips.iter().map(|chip| format!("\n{}: {}", chip.role.meaning(), chip.text));
    let whole = format!("{} {}{}", shape.title, shape.name, whole.collect::<String>());
    // Line ends show in a title, and are no characters to be replaced.
    let whole = whole.split('\n').map(escaped).collect::<Vec<_>>().join("\n");
    let _ = writeln!(out, "<title>{whole}</title><rect {}/>", place(rect));
    let mut y = rect.y + PADDING + 9.0;
    text(out, "title", [rect.x + PADDING, y], &shape.title);
    for super::layout::Line { role, text: said } in lines(shape, far, &program.boxes) {
        y += LINE;
        let x = rect.x + PADDING;
        match role {
            Some(role) => {
                mark(out, role, x, y - 4.0);
                text(out, "", [x + 2.0 * CHARACTER, y], &said);
            }
            None => text(out, "quiet", [x, y], &said),
        }
    }
    *out += "</g>\n";
}

fn place(Rect { x, y, w, h }: Rect) -> String {
    let [x, y, w, h] = [x, y, w, h].map(round);
    format!("x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"")
}

fn text(out: &mut String, class: &str, [x, y]: [f64; 2], said: &str) {
    let (x, y, said) = (round(x), round(y), escaped(said));
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{said}</text>");
}

/// A dot before an operand.
fn mark(out: &mut String, role: Role, x: f64, y: f64) {
    let (class, x, y) = (role.class(), round(x + 4.0), round(y));
    let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"4\"/>");
}

fn line(out: &mut String, class: &str, path: &str) {
    let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
}

/// The tip of an arrow, downward, or to the left where it comes back.
fn tip(out: &mut String, [x, y]: [f64; 2], left: bool) {
    let wings = match left {
        true => [[x + 6.0, y - 4.0], [x, y], [x + 6.0, y + 4.0]],
        false => [[x - 4.0, y - 6.0], [x, y], [x + 4.0, y - 6.0]],
    };
    let [a, b, c] = wings.map(point);
    line(out, "", &format!("M{a} L{b} L{c}"));
}

fn point([x, y]: [f64; 2]) -> String {
    format!("{} {}", round(x), round(y))
}

/// A tenth of a pixel is as exact as anybody sees, and the same on every machine.
fn round(value: f64) -> String {
    let tenths = (value * 10.0).round() as i64;
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        _ => format!("{}", tenths as f64 / 10.0),
    }
}
