//! The loop of matrix products over tiles: one text, which products and convolutions give their operands.

use super::{GpuCandidate, GpuCtx, GpuKernel, GpuLimits, render};
use std::fmt::Write;

/// How much of a product a workgroup calculates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tile {
    /// 64 × 64 elements, 4 × 4 an invocation: on every device, for products of every size.
    Small,
    /// 128 × 128 elements, 8 × 8 an invocation: half as many loads for each multiplication.
    Large,
}

/// Vectors of four rows and of four columns that workgroups of 256 invocations hold for a term: so many of either for each block of an
/// invocation.
const LINE: usize = 16;

/// Terms that are multiplied at a time.
const TERMS: usize = 16;

/// Workgroups that give every part of a large GPU something to do.
const MANY: usize = 128;

impl Tile {
    /// Blocks of 4 rows, and of 4 columns, of an invocation.
    const fn blocks(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Large => 2,
        }
    }

    /// Rows and columns.
    pub(crate) const fn side(self) -> usize {
        64 * self.blocks()
    }

    /// Tiles down and across a product.
    pub(crate) fn grid(self, rows: usize, cols: usize) -> [usize; 2] {
        [rows, cols].map(|n| n.div_ceil(self.side()))
    }

    /// Vectors of one operand in workgroup memory.
    const fn vectors(self) -> usize {
        TERMS * (LINE * self.blocks() + 1)
    }

    /// Whether a device has the workgroup memory for it.
    pub(crate) fn fits(self, limits: &GpuLimits) -> bool {
        2 * self.vectors() * 16 <= limits.workgroup_memory as usize
    }

    /// Whether products of this size are calculated faster in tiles like this than in small ones: there are enough tiles to fill a GPU, and
    /// little of them is outside the product.
    pub(crate) fn pays(self, batch: usize, rows: usize, cols: usize) -> bool {
        let area = |tile: Self| {
            let [down, across] = tile.grid(rows, cols);
            down.saturating_mul(across).saturating_mul(batch).saturating_mul(tile.blocks().pow(2))
        };
        let own = area(self);
        own / self.blocks().pow(2) >= MANY
            && own.saturating_mul(4) <= area(Self::Small).saturating_mul(5)
    }

    /// The loop, over elements of a type that is still to be put in.
    pub(crate) fn wgsl(self) -> String {
        let blocks = self.blocks();
        let rows = 4 * blocks;
        let (mut places, mut load, mut multiply, mut put) = Default::default();
        // Text that grows cannot fail.
        let line = |text: &mut String, line: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "{line}");
        };
        for b in 0..blocks {
            let at = b * LINE;
            line(&mut places, format_args!("    let left{b} = row0 + (left_4 + {at}u) * 4u;"));
            line(
                &mut places,
                format_args!("    let right{b} = right_place(col0 + (right_4 + {at}u) * 4u);"),
            );
            line(
                &mut load,
                format_args!(
                    "        left_tile[left_k * LINE + left_4 + {at}u] = left(at, left{b}, k0 + left_k);"
                ),
            );
            line(
                &mut load,
                format_args!(
                    "        right_tile[right_k * LINE + right_4 + {at}u] = right(at, right{b}, k0 + right_k);"
                ),
            );
            line(
                &mut multiply,
                format_args!("            let a{b} = left_tile[k * LINE + hi + {at}u];"),
            );
            line(
                &mut multiply,
                format_args!("            let b{b} = right_tile[k * LINE + lo + {at}u];"),
            );
        }
        for row in 0..rows {
            let (a, axis) = (row / 4, ["x", "y", "z", "w"][row % 4]);
            for b in 0..blocks {
                line(&mut places, format_args!("    var s{row}_{b} = vec4<{{{{T}}}}>();"));
                line(&mut multiply, format_args!("            s{row}_{b} += a{a}.{axis} * b{b};"));
                let (down, right) = (a * LINE, b * LINE);
                line(
                    &mut put,
                    format_args!(
                        "    put_row(item, row0 + (hi + {down}u) * 4u + {}u, col0 + (lo + {right}u) * 4u, s{row}_{b});",
                        row % 4
                    ),
                );
            }
        }
        let numbers = [self.side(), rows, LINE * blocks + 1, self.vectors()].map(|n| n.to_string());
        let [side, each, line, vectors] = numbers.each_ref().map(String::as_str);
        let values = [
            ("side", side),
            ("each", each),
            ("line", line),
            ("vectors", vectors),
            ("places", places.trim_end()),
            ("load", load.trim_end()),
            ("multiply", multiply.trim_end()),
            ("put", put.trim_end()),
        ];
        render(include_str!("product.wgsl"), &values)
    }
}

/// The candidate that calculates in large tiles.
pub(crate) const fn in_large_tiles(
    kernel: GpuKernel,
    pays: fn(&GpuCtx<'_>) -> bool,
) -> GpuCandidate {
    GpuCandidate { name: "tiles of 128", kernel, pays }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tiles_are_for_large_products_that_fill_them() {
        let pays = |batch, rows, cols| Tile::Large.pays(batch, rows, cols);
        assert!(pays(1, 4096, 768), "a batch of sentences");
        assert!(pays(1, 4096, 4096) && pays(64, 196, 196 * 2));
        assert!(!pays(1, 128, 768), "too few tiles");
        assert!(!pays(1, 129, 1 << 20) && !pays(1 << 10, 64, 64), "half of each tile is outside");
        assert!(!pays(0, 4096, 4096) && !pays(1, 0, 4096));
        assert!(pays(usize::MAX, usize::MAX, usize::MAX), "sizes do not wrap");
    }

    #[test]
    fn the_small_tile_fits_every_device() {
        assert!(Tile::Small.fits(&GpuLimits::BASELINE));
        assert!(!Tile::Large.fits(&GpuLimits::BASELINE), "it takes more than 16 KiB");
        assert!(Tile::Large.fits(&GpuLimits { workgroup_memory: 32 << 10, ..GpuLimits::BASELINE }));
    }
}
