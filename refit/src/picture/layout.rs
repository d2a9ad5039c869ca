//! Where boxes stand: in layers from top to bottom, groups being boxes with a layout of their own.

use super::boxes::{Arrow, Drawn, Program, Shape};
use super::shortened;
use std::collections::BTreeMap;

/// A place and a size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) w: f64,
    pub(super) h: f64,
}

/// Where everything of a program is, from its upper left corner.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// By box.
    pub(super) boxes: Vec<Rect>,
    /// Groups and how often each is there, the outer ones before those inside.
    pub(super) groups: Vec<(Rect, usize)>,
    /// Arrows with the points that they go through.
    pub(super) arrows: Vec<(Arrow, Vec<[f64; 2]>)>,
    /// Boxes that an arrow would have a long way from, by the box that it would lead to.
    pub(super) far: BTreeMap<usize, Vec<usize>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// The width of a character and the height of a line.
pub(super) const CHARACTER: f64 = 6.6;
pub(super) const LINE: f64 = 15.0;
/// Space around the text of a box.
pub(super) const PADDING: f64 = 8.0;
/// Characters of a line at most.
pub(super) const LONGEST_LINE: usize = 48;
/// Operands that a box shows.
const MOST_CHIPS: usize = 4;
/// Space between boxes of a layer, between layers, around the boxes of a group, and for what is said of it.
const BESIDE: f64 = 18.0;
const BELOW: f64 = 30.0;
const AROUND: f64 = 14.0;
const HEAD: f64 = 18.0;
/// Layers that an arrow crosses at most; from farther away the box says where it would come from.
const LONGEST_ARROW: usize = 8;
/// Times that the order in layers, and then places in them, are improved.
const SWEEPS: usize = 6;

/// What a box says below its title: the name, operands, what comes from far away.
pub(super) fn lines(shape: &Shape, far: &[usize], boxes: &[Shape]) -> Vec<Line> {
    let mut lines = vec![Line { role: None, text: shortened(&shape.name, LONGEST_LINE) }];
    lines.retain(|line| !line.text.is_empty());
    for chip in shape.chips.iter().take(MOST_CHIPS) {
        let text = shortened(&chip.text, LONGEST_LINE - 2);
        lines.push(Line { role: Some(chip.role), text });
    }
    if shape.chips.len() > MOST_CHIPS {
        let text = format!("and {} more", shape.chips.len() - MOST_CHIPS);
        lines.push(Line { role: None, text });
    }
    for &from in far.iter().take(MOST_CHIPS) {
        let Shape { title, name, .. } = &boxes[from];
        let text = shortened(&format!("↑ {title} {name}"), LONGEST_LINE);
        lines.push(Line { role: None, text });
    }
    if far.len() > MOST_CHIPS {
        lines.push(Line { role: None, text: format!("↑ and {} more", far.len() - MOST_CHIPS) });
    }
    lines
}

/// A line of a box, with a mark if it is an operand.
pub(super) struct Line {
    pub(super) role: Option<super::boxes::Role>,
    pub(super) text: String,
}

impl Layout {
    pub(super) fn new(program: &Program) -> Self {
        let forward: Vec<Arrow> =
            program.arrows.iter().copied().filter(|arrow| !arrow.is_carried).collect();
        let mut layout =
            Self { boxes: vec![Rect::default(); program.boxes.len()], ..Self::default() };
        let mut near = Vec::new();
        find_far(&program.items, &forward, &mut near, &mut layout.far);
        for (index, shape) in program.boxes.iter().enumerate() {
            let far = layout.far.get(&index).map_or(&[][..], Vec::as_slice);
            let lines = lines(shape, far, &program.boxes);
            let widest = lines
                .iter()
                .map(|line| line.text.chars().count() + if line.role.is_some() { 2 } else { 0 });
            let widest = widest.chain([shape.title.chars().count() + 1]).max().unwrap_or(0);
            layout.boxes[index].w = widest as f64 * CHARACTER + 2.0 * PADDING;
            layout.boxes[index].h = (lines.len() + 1) as f64 * LINE + 2.0 * PADDING - 4.0;
        }
        let arranged = arrange(&program.items, &near, &layout.boxes);
        (layout.width, layout.height) = (arranged.width, arranged.height);
        layout.place(&arranged, [0.0, 0.0]);
        layout.carried(program);
        layout
    }

    /// Gives what was arranged its place in the whole.
    fn place(&mut self, arranged: &Arranged, [x, y]: [f64; 2]) {
        for item in &arranged.items {
            let rect = Rect { x: item.rect.x + x, y: item.rect.y + y, ..item.rect };
            match &item.what {
                What::Box(index) => self.boxes[*index] = rect,
                What::Group(times, inner) => {
                    self.groups.push((rect, *times));
                    self.place(inner, [rect.x + AROUND, rect.y + AROUND + HEAD]);
                }
            }
        }
        for (arrow, bends) in &arranged.arrows {
            let [from, to] = [self.boxes[arrow.from], self.boxes[arrow.to]];
            let mut points = vec![[from.x + from.w / 2.0, from.y + from.h]];
            points.extend(bends.iter().map(|[a, b]| [a + x, b + y]));
            points.push([to.x + to.w / 2.0, to.y]);
            self.arrows.push((*arrow, points));
        }
    }

    /// Arrows to the next repetition go up at the right of what they pass.
    fn carried(&mut self, program: &Program) {
        for arrow in program.arrows.iter().filter(|arrow| arrow.is_carried) {
            let [from, to] = [self.boxes[arrow.from], self.boxes[arrow.to]];
            let between = self.boxes[arrow.to..=arrow.from].iter();
            let right = between.map(|rect| rect.x + rect.w).fold(0.0, f64::max) + AROUND / 2.0;
            let points = vec![
                [from.x + from.w, from.y + from.h / 2.0],
                [right, from.y + from.h / 2.0 - LINE],
                [right, to.y + to.h / 2.0 + LINE],
                [to.x + to.w, to.y + to.h / 2.0],
            ];
            self.arrows.push((*arrow, points));
        }
    }
}

/// Parts of a layout, from its own upper left corner.
struct Arranged {
    items: Vec<Placed>,
    /// Arrows between different parts, with their bends.
    arrows: Vec<(Arrow, Vec<[f64; 2]>)>,
    width: f64,
    height: f64,
}

struct Placed {
    what: What,
    rect: Rect,
}

enum What {
    Box(usize),
    Group(usize, Arranged),
}

/// The item of each box, of those at one level or inside of them.
fn items_of_boxes(items: &[Drawn]) -> BTreeMap<usize, usize> {
    fn inner(item: &Drawn, found: &mut dyn FnMut(usize)) {
        match item {
            Drawn::Box(index) => found(*index),
            Drawn::Group(_, items) => items.iter().for_each(|item| inner(item, found)),
        }
    }
    let mut of = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        inner(item, &mut |shape| {
            of.insert(shape, index);
        });
    }
    of
}

/// Arrows between the items of a level as pairs of items, and those inside of each item.
struct Level {
    between: Vec<(Arrow, usize, usize)>,
    inside: Vec<Vec<Arrow>>,
}

impl Level {
    fn new(items: &[Drawn], arrows: &[Arrow]) -> Self {
        let of = items_of_boxes(items);
        let mut level = Self { between: Vec::new(), inside: vec![Vec::new(); items.len()] };
        for arrow in arrows {
            match (of[&arrow.from], of[&arrow.to]) {
                (from, to) if from == to => level.inside[from].push(*arrow),
                (from, to) => level.between.push((*arrow, from, to)),
            }
        }
        level
    }

    /// The layer of each item: below all that it reads; what reads nothing is just above what reads it.
    fn layers(&self, count: usize) -> Vec<usize> {
        let mut reads = vec![Vec::new(); count];
        let mut readers = vec![Vec::new(); count];
        for &(_, from, to) in &self.between {
            reads[to].push(from);
            readers[from].push(to);
        }
        let mut layers = vec![0usize; count];
        for item in 0..count {
            let above = reads[item].iter().filter(|&&from| from < item);
            layers[item] = above.map(|&from| layers[from] + 1).max().unwrap_or(0);
        }
        for item in 0..count {
            if reads[item].is_empty()
                && let Some(first) = readers[item].iter().map(|&to| layers[to]).min()
            {
                layers[item] = first.saturating_sub(1);
            }
        }
        layers
    }
}

/// Tells near arrows from those that are not drawn, at every level.
fn find_far(
    items: &[Drawn],
    arrows: &[Arrow],
    near: &mut Vec<Arrow>,
    far: &mut BTreeMap<usize, Vec<usize>>,
) {
    let level = Level::new(items, arrows);
    let layers = level.layers(items.len());
    for &(arrow, from, to) in &level.between {
        match layers[to].saturating_sub(layers[from]) > LONGEST_ARROW {
            true => far.entry(arrow.to).or_default().push(arrow.from),
            false => near.push(arrow),
        }
    }
    for (item, inside) in items.iter().zip(&level.inside) {
        if let Drawn::Group(_, items) = item {
            find_far(items, inside, near, far);
        }
    }
}

/// A vertex of a level: an item, or where an arrow crosses a layer.
struct Vertex {
    item: Option<usize>,
    width: f64,
    /// Middle.
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

fn arrange(items: &[Drawn], arrows: &[Arrow], boxes: &[Rect]) -> Arranged {
    let level = Level::new(items, arrows);
    let layers = level.layers(items.len());
    let mut placed: Vec<Placed> = items
        .iter()
        .zip(&level.inside)
        .map(|(item, inside)| match item {
            Drawn::Box(index) => Placed { what: What::Box(*index), rect: boxes[*index] },
            Drawn::Group(times, items) => {
                let inner = arrange(items, inside, boxes);
                let (w, h) = (inner.width + 2.0 * AROUND, inner.height + 2.0 * AROUND + HEAD);
                Placed { what: What::Group(*times, inner), rect: Rect { w, h, ..Rect::default() } }
            }
        })
        .collect();
    let mut vertices: Vec<Vertex> = placed
        .iter()
        .enumerate()
        .map(|(item, placed)| Vertex {
            item: Some(item),
            width: placed.rect.w,
            x: 0.0,
            above: Vec::new(),
            below: Vec::new(),
        })
        .collect();
    let count = layers.iter().max().map_or(0, |last| last + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (item, &layer) in layers.iter().enumerate() {
        rows[layer].push(item);
    }
    let mut ways = Vec::new();
    for &(arrow, from, to) in &level.between {
        let (mut last, mut way) = (from, Vec::new());
        let crossed = layers[from] + 1..layers[to];
        for (layer, row) in rows.iter_mut().enumerate().take(crossed.end).skip(crossed.start) {
            let bend = vertices.len();
            let (above, below) = (Vec::new(), Vec::new());
            vertices.push(Vertex { item: None, width: 2.0, x: 0.0, above, below });
            row.push(bend);
            link(&mut vertices, last, bend);
            way.push((bend, layer));
            last = bend;
        }
        link(&mut vertices, last, to);
        ways.push((arrow, way));
    }
    order(&mut rows, &vertices);
    spread(&rows, &mut vertices);

    let left = vertices.iter().map(|vertex| vertex.x - vertex.width / 2.0).fold(f64::MAX, f64::min);
    let right =
        vertices.iter().map(|vertex| vertex.x + vertex.width / 2.0).fold(f64::MIN, f64::max);
    let mut middles = Vec::with_capacity(rows.len());
    let mut y = 0.0;
    for row in &rows {
        let of = row.iter().filter_map(|&vertex| vertices[vertex].item);
        let height = of.map(|item| placed[item].rect.h).fold(0.0, f64::max);
        for &vertex in row {
            let Some(item) = vertices[vertex].item else { continue };
            let rect = &mut placed[item].rect;
            rect.x = vertices[vertex].x - rect.w / 2.0 - left;
            rect.y = y + (height - rect.h) / 2.0;
        }
        middles.push(y + height / 2.0);
        y += height + BELOW;
    }
    let bends = |way: &[(usize, usize)]| {
        way.iter().map(|&(bend, layer)| [vertices[bend].x - left, middles[layer]]).collect()
    };
    let arrows = ways.iter().map(|(arrow, way)| (*arrow, bends(way))).collect();
    let (width, height) = ((right - left).max(0.0), (y - BELOW).max(0.0));
    Arranged { items: placed, arrows, width, height }
}

fn link(vertices: &mut [Vertex], from: usize, to: usize) {
    vertices[from].below.push(to);
    vertices[to].above.push(from);
}

/// Orders each layer so that arrows cross seldom: by the mean position of what a vertex hangs on, from above and from below in turns.
fn order(rows: &mut [Vec<usize>], vertices: &[Vertex]) {
    let mut position = vec![0.0; vertices.len()];
    let number = |row: &[usize], position: &mut [f64]| {
        for (place, &vertex) in row.iter().enumerate() {
            position[vertex] = place as f64;
        }
    };
    rows.iter().for_each(|row| number(row, &mut position));
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        for step in 0..rows.len() {
            let row = &mut rows[if down { step } else { rows.len() - 1 - step }];
            let key = |&vertex: &usize| {
                let Vertex { above, below, .. } = &vertices[vertex];
                mean(if down { above } else { below }, &position).unwrap_or(position[vertex])
            };
            let mut keyed: Vec<(f64, usize)> = row.iter().map(|v| (key(v), *v)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *row = keyed.into_iter().map(|(_, vertex)| vertex).collect();
            number(row, &mut position);
        }
    }
}

fn mean(of: &[usize], values: &[f64]) -> Option<f64> {
    (!of.is_empty()).then(|| of.iter().map(|&i| values[i]).sum::<f64>() / of.len() as f64)
}

/// Gives each vertex a place close to those it hangs on, in the order of its layer.
fn spread(rows: &[Vec<usize>], vertices: &mut [Vertex]) {
    for row in rows {
        let wanted = vec![0.0; row.len()];
        settle(row, &wanted, vertices);
    }
    for sweep in 0..2 * SWEEPS {
        let down = sweep % 2 == 0;
        for step in 0..rows.len() {
            let row = &rows[if down { step } else { rows.len() - 1 - step }];
            let wanted: Vec<f64> = row
                .iter()
                .map(|&vertex| {
                    let Vertex { above, below, x, .. } = &vertices[vertex];
                    let of = if down { above } else { below };
                    let sum: f64 = of.iter().map(|&other| vertices[other].x).sum();
                    if of.is_empty() { *x } else { sum / of.len() as f64 }
                })
                .collect();
            settle(row, &wanted, vertices);
        }
    }
}

/// The places that are least far from the wanted ones, squared, without boxes that overlap: neighbours that would are moved together
/// (pool adjacent violators).
fn settle(row: &[usize], wanted: &[f64], vertices: &mut [Vertex]) {
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(row.len());
    for (place, &vertex) in row.iter().enumerate() {
        if place > 0 {
            let before = vertices[row[place - 1]].width;
            offset += (before + vertices[vertex].width) / 2.0 + BESIDE;
        }
        offsets.push(offset);
    }
    // Sums of wanted places less their offsets, and numbers of vertices, of those that move together.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (&wanted, &offset) in wanted.iter().zip(&offsets) {
        pools.push((wanted - offset, 1));
        while let [.., (a, n), (b, m)] = pools[..]
            && a / n as f64 > b / m as f64
        {
            pools.truncate(pools.len() - 2);
            pools.push((a + b, n + m));
        }
    }
    let places = pools.iter().flat_map(|&(sum, n)| std::iter::repeat_n(sum / n as f64, n));
    for ((place, &vertex), &offset) in places.zip(row).zip(&offsets) {
        vertices[vertex].x = place + offset;
    }
}
