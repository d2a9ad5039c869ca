// The place on an axis of `size` elements that the index of `width` words at word `at` of `indices` means. Place 0 stands for one
// outside.
fn position(at: u32, width: u32, size: u32) -> u32 {
    let low = indices[at];
    let sign = bitcast<u32>(bitcast<i32>(low) >> 31u);
    let high = select(sign, indices[at + width - 1u], width == 2u);
    let index = select(low, low + size, sign != 0u);
    if (high == sign && index < size) { return index; }
    note_outside(1u, size, vec2<u32>(low, high));
    return 0u;
}
