//! Examples, the first of each worked by hand.

use crate::case::{Case, ramp};
use crate::kernels::nchwc::BLOCK;
use engine_format::{Attr, Tensor};

/// `[1, ⌈c / 16⌉, positions, 1, 16]` of rows of `c` channels, one a position.
fn lanes(rows: &[&[f32]]) -> Tensor {
    let blocks = rows[0].len().div_ceil(BLOCK);
    let mut all = vec![0.0; blocks * rows.len() * BLOCK];
    for (p, row) in rows.iter().enumerate() {
        for (c, &value) in row.iter().enumerate() {
            all[(c / BLOCK * rows.len() + p) * BLOCK + c % BLOCK] = value;
        }
    }
    Tensor::from_slice(&[1, blocks, rows.len(), 1, BLOCK], &all)
}

pub(super) fn to_blocks() -> Vec<Case> {
    vec![
        Case::new(
            "two channels",
            vec![Tensor::from_slice(&[1, 2, 3, 1], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])],
        )
        .expect(vec![lanes(&[&[1.0, 4.0], &[2.0, 5.0], &[3.0, 6.0]])]),
        Case::new("more than a block, two images", vec![ramp(&[2, 37, 5, 7])]),
        Case::new("no images", vec![ramp(&[0, 3, 5, 5])]),
    ]
}

pub(super) fn from_blocks() -> Vec<Case> {
    let channels = |n| Attr::Int(n);
    vec![
        Case::new("two channels", vec![lanes(&[&[1.0, 4.0], &[2.0, 5.0], &[3.0, 6.0]])])
            .attr("channels", channels(2))
            .expect(vec![Tensor::from_slice(&[1, 2, 3, 1], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])]),
        Case::new("more than a block, two images", vec![ramp(&[2, 3, 5, 7, BLOCK])])
            .attr("channels", channels(37)),
    ]
}

pub(super) fn conv() -> Vec<Case> {
    let ints = |values: &[i64]| Attr::Ints(values.to_vec());
    let stages = |names: &[&str]| Attr::Strs(names.iter().map(|&n| n.to_owned()).collect());
    let conv = |name, x: &[usize], w: &[usize]| Case::new(name, vec![ramp(x), ramp(w)]);
    let mut filters = vec![0.0f32; BLOCK * 2];
    filters[..4].copy_from_slice(&[1.0, -1.0, 2.0, 0.5]);
    let mut expected = [[0.0f32; BLOCK]; 3];
    for (position, values) in expected.iter_mut().zip([[-1.0, 3.0], [-1.0, 5.5], [f32::NAN; 2]]) {
        position[..2].copy_from_slice(&values);
    }
    expected[2][2..].fill(f32::NAN);
    let expected: Vec<&[f32]> = expected.iter().map(|p| &p[..]).collect();
    vec![
        // Sums of neighbours: a filter of zeros gives NaN where one of them is.
        Case::new(
            "worked by hand, from rows",
            vec![
                Tensor::from_slice(&[1, 1, 4, 1], &[1.0f32, 2.0, 3.0, f32::NAN]),
                Tensor::from_slice(&[BLOCK, 1, 2, 1], &filters),
            ],
        )
        .expect(vec![lanes(&expected)]),
        conv(
            "pointwise, more than a block of channels and filters",
            &[2, 3, 5, 7, BLOCK],
            &[40, 37, 1, 1],
        )
        .input(Some(ramp(&[40])))
        .input(Some(ramp(&[2, 3, 5, 7, BLOCK])))
        .attr("stages", stages(&["Add", "Relu"])),
        conv("image, strided and padded", &[1, 3, 20, 21], &[24, 3, 3, 3])
            .input(Some(ramp(&[24])))
            .attr("pads", ints(&[1, 1, 1, 1]))
            .attr("strides", ints(&[2, 2])),
        conv("padded on one side, dilated", &[1, 2, 9, 13, BLOCK], &[48, 20, 3, 2])
            .attr("pads", ints(&[0, 3, 2, 0]))
            .attr("dilations", ints(&[1, 2])),
        conv("strided, in place", &[2, 2, 9, 9, BLOCK], &[16, 32, 1, 1])
            .attr("strides", ints(&[2, 2])),
        conv("many channels, from rows", &[1, 35, 6, 30], &[33, 35, 3, 3])
            .attr("pads", ints(&[1, 1, 1, 1])),
        conv(
            "three by three, over tiles that end inside and outside",
            &[2, 2, 14, 13, BLOCK],
            &[40, 32, 3, 3],
        )
        .input(Some(ramp(&[40])))
        .input(Some(ramp(&[2, 3, 14, 13, BLOCK])))
        .attr("stages", stages(&["Add", "HardSwish"]))
        .attr("pads", ints(&[1, 1, 1, 1])),
        conv("groups of blocks", &[2, 4, 5, 6, BLOCK], &[32, 32, 3, 3])
            .attr("group", Attr::Int(2))
            .attr("pads", ints(&[1, 1, 1, 1])),
        conv("depthwise", &[2, 2, 9, 30, BLOCK], &[20, 1, 3, 3])
            .input(Some(ramp(&[20])))
            .attr("group", Attr::Int(20))
            .attr("stages", stages(&["HardSwish"]))
            .attr("pads", ints(&[1, 1, 1, 1])),
        conv(
            "depthwise, strided and dilated, wider than the input",
            &[1, 1, 5, 4, BLOCK],
            &[16, 1, 5, 7],
        )
        .attr("group", Attr::Int(16))
        .attr("strides", ints(&[2, 2]))
        .attr("dilations", ints(&[1, 2]))
        .attr("pads", ints(&[2, 9, 2, 9])),
    ]
}
