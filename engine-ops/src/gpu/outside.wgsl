// What counts of an index that lies outside: 1 where those from the end are taken too, else 2; the size of its axis; the index.
@group(0) @binding({{binding}}) var<storage, read_write> outside: array<atomic<u32>>;

fn note_outside(kind: u32, size: u32, index: vec2<u32>) {
    if (atomicOr(&outside[0], kind) == 0u) {
        atomicStore(&outside[1], size);
        atomicStore(&outside[2], index.x);
        atomicStore(&outside[3], index.y);
    }
}
