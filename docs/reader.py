"""Reads engine files as docs/FORMAT.md describes them, with nothing but Python and a zstd decoder.

reader.py FILE prints what the file is and its weights, as JSON; reader.py FILE WEIGHT OUT.npy writes one weight as a NumPy array. It ends
with 1 and one line if the file is not as sections 1 to 6 of that page say, and with 3 if there is no zstd decoder.
"""
import ctypes.util
import json
import math
import pathlib
import struct
import sys

FLAGS = ["REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL", "EXCLUDE_WEIGHTS", "COMPRESSED", "F16", "BF16"]
KINDS = {1: "program", 2: "weights", 3: "table", 4: "probes"}
# The NumPy type that holds elements of each dtype; elements that NumPy has no type for are their codes.
NUMPY = {"f32": "<f4", "f64": "<f8", "f16": "<f2", "bf16": "<u2", "i8": "|i1", "i16": "<i2", "i32": "<i4", "i64": "<i8", "u16": "<u2",
         "u32": "<u4", "u64": "<u8", "bool": "|b1", "i4": "|i1", "i2": "|i1",
         **dict.fromkeys("u8 u4 u2 f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz f8e8m0 f4e2m1".split(), "|u1")}
# MessagePack's tags with the number that follows: how it is written, the least that is not written shorter, what it is.
FORMS = {tag + i: (">" + form, 1 << 4 * struct.calcsize(form) if i else least, kind) for tag, forms, least, kind in (
    (0xC4, "BHI", 0, "bytes"), (0xCC, "BHIQ", 128, "number"), (0xD9, "BHI", 32, "text"), (0xDC, "HI", 16, "array"), (0xDE, "HI", 16, "map"),
) for i, form in enumerate(forms)}
FORMS.update({0xD0: (">b", 32, "below"), 0xD1: (">h", 1 << 7, "below"), 0xD2: (">i", 1 << 15, "below"), 0xD3: (">q", 1 << 31, "below"),
              0xCA: (">f", None, "number"), 0xCB: (">d", None, "number")})


def must(holds, what):
    if not holds:
        raise ValueError(what)


def blake3(data):
    """BLAKE3 without a key, 32 bytes of output."""
    iv = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
    columns = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))

    def rotated(x, by):
        return (x >> by | x << 32 - by) & 0xFFFFFFFF

    def compress(chain, block, counter, flags):
        words = struct.unpack("<16I", block.ljust(64, b"\0"))
        v = [*chain, *iv[:4], counter & 0xFFFFFFFF, counter >> 32, len(block), flags]
        for _ in range(7):
            for i, (a, b, c, d) in enumerate(columns):
                for word, right, left in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                    v[a] = v[a] + v[b] + word & 0xFFFFFFFF
                    v[d] = rotated(v[d] ^ v[a], right)
                    v[c] = v[c] + v[d] & 0xFFFFFFFF
                    v[b] = rotated(v[b] ^ v[c], left)
            words = [words[i] for i in (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)]
        return [v[i] ^ v[i + 8] for i in range(8)]

    def chunk(index, last):
        chain, blocks = iv, range(index * 1024, max(min(index * 1024 + 1024, len(data)), index * 1024 + 1), 64)
        for at in blocks:  # The flags: 1 a chunk's first block, 2 its last one, 4 a parent, 8 the root.
            chain = compress(chain, data[at:at + 64], index, (at == blocks[0]) | (2 | last if at == blocks[-1] else 0))
        return chain

    def tree(first, chunks, last):
        if chunks == 1:
            return chunk(first, last)
        left = 1 << (chunks - 1).bit_length() - 1
        both = tree(first, left, 0) + tree(first + left, chunks - left, 0)
        return compress(iv, struct.pack("<16I", *both), 0, 4 | last)

    return struct.pack("<8I", *tree(0, max(-(-len(data) // 1024), 1), 8))


def unpack_zstd(frame, length):
    try:
        from compression.zstd import decompress
        out = decompress(frame)
    except ImportError:
        library, out = ctypes.util.find_library("zstd"), ctypes.create_string_buffer(length + 1)
        if library is None:
            print("there is no zstd decoder: Python 3.14 has one, the library libzstd is one", file=sys.stderr)
            sys.exit(3)
        decompress, size = ctypes.CDLL(library).ZSTD_decompress, ctypes.c_size_t
        decompress.argtypes, decompress.restype = [ctypes.c_void_p, size, ctypes.c_char_p, size], size
        count = decompress(out, length + 1, frame, len(frame))
        out = out.raw[:count]
    must(len(out) == length, "a frame unpacks to another length than announced")
    return out


def message(data):
    """The one MessagePack value that `data` is, in its canonical encoding."""
    at = 0

    def take(count):
        nonlocal at
        must(at + count <= len(data), "MessagePack ends early")
        at += count
        return data[at - count:at]

    def mapping(count):
        pairs = [(value(), value()) for _ in range(count)]
        keys = [key.encode() for key, _ in pairs]
        must(keys == sorted(set(keys)), "keys that do not rise")
        return dict(pairs)

    def value():
        tag = take(1)[0]
        if tag < 0x80 or tag >= 0xE0:
            return tag if tag < 0x80 else tag - 0x100
        if tag in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
        if tag < 0xC0:
            kind, found = ("map", tag & 15) if tag < 0x90 else ("array", tag & 15) if tag < 0xA0 else ("text", tag & 31)
        else:
            form, least, kind = FORMS[tag]
            found, = struct.unpack(form, take(struct.calcsize(form)))
            must(least is None or (found < -least if kind == "below" else found >= least), "MessagePack that is not in its shortest form")
        read = {"map": mapping, "array": lambda n: [value() for _ in range(n)], "text": lambda n: take(n).decode(), "bytes": take}
        return read[kind](found) if kind in read else found

    out = value()
    must(at == len(data), "bytes after the MessagePack value")
    return out


def sections(file):
    """Flags, minor version, and what each section holds, by name: the value of a message, or bytes."""
    must(len(file) >= 512 and file[:8] == b"\x93REFIT\r\n", "not an engine file")
    major, minor, count, flags, length = struct.unpack_from("<HHIQQ", file, 8)
    must(major == 1, f"version {major}.{minor}, and 1.x is read")
    must(blake3(file[:480]) == file[480:512], "the prefix does not match its digest")
    must(length == len(file) and count <= 7 and not any(file[32 + 64 * count:480]), "the length of the file, or its section table")
    must(flags >> len(FLAGS) == 0, "unknown flags")
    flags = {name for i, name in enumerate(FLAGS) if flags >> i & 1}
    modes = len(flags & set(FLAGS[:3]))
    must((modes == 1 or modes == 0 and "EXCLUDE_WEIGHTS" not in flags) and not {"F16", "BF16"} <= flags, f"flags that have no meaning: {sorted(flags)}")
    found, end, before = {}, 512, 0
    for i in range(count):
        kind, encoding, offset, length, unpacked, digest = struct.unpack_from("<IIQQQ32s", file, 32 + 64 * i)
        must(kind in KINDS and kind > before, "kinds of sections that do not rise")
        align = 4096 if kind == 2 and "EXCLUDE_WEIGHTS" not in flags else 64
        must(encoding == (kind != 2) and length > 0 and offset == -(-end // align) * align, f"entry {i} of the section table")
        must(not any(file[end:offset]) and offset + length <= len(file), "padding that is not zero, or a section out of the file")
        end, before, data = offset + length, kind, file[offset:offset + length]
        must(unpacked == length and not any(digest) if kind == 2 else blake3(data) == digest, f"the digest of the section {KINDS[kind]}")
        found[KINDS[kind]] = data if kind == 2 else message(unpack_zstd(data, unpacked))
    must(end == len(file) and "program" in found and "table" in found, "bytes at the end, or sections that are not there")
    return flags, minor, found


def weights(flags, found):
    """The rows of the weight table, each with its raw bytes (`None`: stripped) and their digest."""
    data, end, names = found.get("weights", b""), 0, [row["name"].encode() for row in found["table"]["weights"]]
    must(names == sorted(set(names)), "names of weights that do not rise")
    for row in found["table"]["weights"]:
        name, length = row["name"], int(NUMPY[row["dtype"]][2]) * math.prod(row["shape"])
        refittable = bool(flags & {"REFIT", "REFIT_IDENTICAL"}) or "REFIT_INDIVIDUAL" in flags and row.get("refittable", False)
        strippable = refittable and not row.get("parameter", False) and "pinned" not in row
        if strippable and "EXCLUDE_WEIGHTS" in flags:
            case, raw = {"digest"} if "REFIT_IDENTICAL" in flags else set(), None
        elif length == 0 or not strippable and length <= (4194304 if row.get("parameter") else 64):
            case, raw = {"data"}, row.get("data")
        else:
            case, raw = {"digest", "offset"} | ({"packed"} if "COMPRESSED" in flags else set()), row.get("offset")
        must({"data", "digest", "offset", "packed"} & set(row) == case, f"the fields of {name!r} do not go with where its bytes are")
        if "offset" in case:
            must(raw == -(-end // 64) * 64 and not any(data[end:raw]), f"{name!r} overlaps another weight or leaves a hole")
            end = raw + (row["packed"]["length"] if "packed" in case else length)
            frame = data[raw:end]
            must(end <= len(data), f"{name!r} reaches out of its section")
            must("packed" not in case or blake3(frame) == row["packed"]["digest"], f"the frame of {name!r} does not match its digest")
            raw = unpack_zstd(frame, length) if "packed" in case else frame
            must(blake3(raw) == row["digest"], f"{name!r} does not match its digest")
        must(raw is None or len(raw) == length, f"{name!r} has {length} bytes by its type and shape")
        yield row, raw, row.get("digest") or (None if raw is None else blake3(raw))
    must(end == len(data), "bytes after the last weight")


def npy(row, raw):
    head = str({"descr": NUMPY[row["dtype"]], "fortran_order": False, "shape": tuple(row["shape"])})
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + raw


def main(path, name=None, out=None):
    flags, minor, found = sections(pathlib.Path(path).read_bytes())
    rows = list(weights(flags, found))
    if name is not None:
        arrays = [npy(row, raw) for row, raw, _ in rows if row["name"] == name and raw is not None]
        must(arrays, f"{name!r} is not in the file")
        return pathlib.Path(out).write_bytes(arrays[0])
    framed = [struct.pack("<Q", len(row["name"].encode())) + row["name"].encode() + digest for row, raw, digest in rows if raw is not None]
    version = blake3(b"".join(framed)).hex() if len(framed) == len(rows) else None
    listed = [{"name": row["name"], "dtype": row["dtype"], "shape": row["shape"], "stored": raw is not None,
               "digest": digest and digest.hex()} for row, raw, digest in rows]
    ports = {key: [port["name"] for port in found["program"][key]] for key in ("inputs", "outputs")}
    print(json.dumps({"minor": minor, "flags": [name for name in FLAGS if name in flags], **ports, "version": version, "weights": listed}))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ValueError, KeyError, struct.error) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
