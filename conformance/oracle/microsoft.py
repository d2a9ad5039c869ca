"""microsoft.py OUT_DIR: small models of ONNX Runtime's own operators, and of forms of ONNX's that the standard's tests lack, for
each a folder with model.onnx, the inputs in in0 and what ONNX Runtime gives in out0; names.txt lists the folders.

Every case is an operator, its attributes and its operands. An operand is an array; one whose name begins with "w." is a weight of
the model, the others are inputs. Numbers are drawn anew for each case from a generator seeded by the case's name.

Results are the same on every processor. Where one has no VNNI, ONNX Runtime adds pairs of products of an unsigned and a signed byte
in 16 bits that saturate, so products with signed operands are run with these moved into the unsigned range: see `unsigned`.
"""

import pathlib
import sys
import zlib

import numpy as np
import onnx
import onnxruntime
import tensors
from onnx import TensorProto, helper, numpy_helper

F32, I32, I64, U8, I8 = np.float32, np.int32, np.int64, np.uint8, np.int8
CASES = {}

# The operators that take signed bytes one by one. Every other one may add their products in saturating pairs.
ELEMENTWISE = {"DequantizeLinear", "QuantizeLinear", "QLinearAdd", "QLinearMul"}


class Draw:
    """Arrays of a case."""

    def __init__(self, name):
        self.generator = np.random.default_rng(zlib.crc32(name.encode()))

    def __call__(self, *shape, scale=1.0):
        return (self.generator.standard_normal(shape) * scale).astype(F32)

    def ints(self, low, high, *shape, dtype=I32):
        return self.generator.integers(low, high, shape).astype(dtype)


def case(name, op, operands, outputs=1, domain="com.microsoft", same=None, known=None, opset=17, **attributes):
    """A case: operands are a function of the draw that gives (name, array or None) pairs; outputs is how many are asked for, or
    a list with empty names for those that are not, and names with a bar in front for those that are not compared. Where ONNX
    Runtime has no CPU kernel for a form, or one whose results depend on the processor, `same` gives the operands of one that means
    the same, and that is run instead; or `known` gives the results for the operands by name."""
    assert name not in CASES, name
    CASES[name] = (op, operands, outputs, domain, same, known, opset, attributes)


def unsigned(operands, zero):
    """The same operands with the signed bytes, zero points among them, moved by 128 and made unsigned; `zero` is where the zero
    point of the weights belongs, and if it is left out there, it is 128 afterwards. Products of two unsigned bytes are exact on
    every processor."""

    def same(d):
        pairs = list(operands(d))
        if pairs[zero][1] is None:
            pairs[zero] = ("w.zero_of_weights", np.array(0, I8))
        move = lambda a: (a.astype(I32) + 128).astype(U8) if a is not None and a.dtype == I8 else a
        return [(name, move(array)) for name, array in pairs]

    return same


def activations():
    case("gelu", "Gelu", lambda d: [("x", d(3, 70, scale=3))])
    case("bias-gelu", "BiasGelu", lambda d: [("x", d(2, 5, 9, scale=3)), ("w.bias", d(9))])
    case("fast-gelu", "FastGelu", lambda d: [("x", d(2, 5, 9, scale=3))])
    case("fast-gelu-bias", "FastGelu", lambda d: [("x", d(2, 5, 9, scale=3)), ("w.bias", d(9))])
    case("quick-gelu", "QuickGelu", lambda d: [("x", d(4, 33, scale=3))])
    case("quick-gelu-alpha", "QuickGelu", lambda d: [("x", d(4, 33, scale=3))], alpha=0.7)
    product = lambda a, b: lambda d: [("a", d(*a)), ("b", d(*b))]
    case("fused-matmul", "FusedMatMul", product((2, 3, 4), (4, 5)))
    case("fused-matmul-turned", "FusedMatMul", product((2, 4, 3), (2, 5, 4)), transA=1, transB=1, alpha=0.25)
    case("fused-matmul-batch-a", "FusedMatMul", product((3, 2, 4), (2, 4, 5)), transBatchA=1)
    case("fused-matmul-batch-both", "FusedMatMul", product((4, 2, 3), (5, 2, 4)), transBatchA=1, transA=1, transBatchB=1, transB=1)

    gemm = lambda d: [("a", d(3, 4)), ("w.b", d(4, 5)), ("w.c", d(5))]
    for name in ["Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"]:
        case(f"fused-gemm-{name}", "FusedGemm", gemm, activation=name)
    for name, parameters in [
        ("Celu", {"alpha": 0.4}),
        ("Elu", {"alpha": 0.3}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Selu", {"alpha": 1.5, "gamma": 1.2}),
        ("ThresholdedRelu", {"alpha": 0.6}),
    ]:
        given = {f"activation_{parameter}": value for parameter, value in parameters.items()}
        case(f"fused-gemm-{name}", "FusedGemm", gemm, activation=name, **given)
    turned = lambda d: [("a", d(4, 3)), ("w.b", d(5, 4)), ("c", d(3, 1))]
    case("fused-gemm-turned", "FusedGemm", turned, activation="Relu", transA=1, transB=1, alpha=0.5, beta=2.0)
    two = lambda d: gemm(d)[:2]
    case("fused-gemm-without-c", "FusedGemm", two, activation="LeakyRelu", activation_alpha=0.1)

    def conv(d, added=False, bias=True):
        yield from [("x", d(1, 2, 6, 5)), ("w.filters", d(3, 2, 3, 3))]
        yield ("w.bias", d(3)) if bias else ("", None)
        if added:
            yield "added", d(1, 3, 6, 5)

    pads = {"pads": [1, 1, 1, 1]}
    for name, parameters in [
        ("Relu", None),
        ("Sigmoid", None),
        ("Tanh", None),
        ("LeakyRelu", [0.3]),
        ("Clip", [-1.0, 2.0]),
        ("HardSigmoid", [0.3, 0.4]),
        ("HardSwish", [1 / 6, 0.5]),
    ]:
        given = {"activation_params": parameters} if parameters else {}
        case(f"fused-conv-{name}", "FusedConv", conv, activation=name, **given, **pads)
    case("fused-conv-added", "FusedConv", lambda d: conv(d, True), activation="Relu", **pads)
    case("fused-conv-added-without-bias", "FusedConv", lambda d: conv(d, True, False), activation="Relu", **pads)


def normalisations():
    x = lambda d: [("x", d(2, 5, 16)), ("w.scale", d(16))]
    case("simplified", "SimplifiedLayerNormalization", x, domain="", axis=-1, epsilon=1e-5, stash_type=1)
    both = lambda d: [("x", d(2, 5, 16)), ("skip", d(2, 5, 16)), ("w.gamma", d(16))]
    beta, bias = lambda d: [("w.beta", d(16))], lambda d: [("w.bias", d(16))]
    sums = ["y", "", "", "sum"]
    case("skip", "SkipLayerNormalization", lambda d: both(d) + beta(d), epsilon=1e-5)
    case("skip-bias", "SkipLayerNormalization", lambda d: both(d) + beta(d) + bias(d), sums, epsilon=1e-3)
    case("skip-without-beta", "SkipLayerNormalization", lambda d: both(d) + [("", None)] + bias(d))
    one = lambda d: [("x", d(2, 5, 16)), ("skip", d(1, 5, 16)), ("w.gamma", d(16)), ("w.beta", d(16))]
    case("skip-of-one-text", "SkipLayerNormalization", one)
    case("skip-simplified", "SkipSimplifiedLayerNormalization", both, sums, epsilon=1e-6)
    case("skip-simplified-bias", "SkipSimplifiedLayerNormalization", lambda d: both(d) + bias(d), sums)
    every = ["y", "mean", "inverse", "sum"]
    case("skip-statistics", "SkipLayerNormalization", lambda d: both(d) + beta(d) + bias(d), every, epsilon=1e-5)
    case("skip-simplified-statistics", "SkipSimplifiedLayerNormalization", lambda d: both(d) + bias(d), every, epsilon=1e-5)
    case("skip-inverse-alone", "SkipLayerNormalization", lambda d: both(d) + beta(d), ["y", "", "inverse"])
    case("simplified-inverse", "SimplifiedLayerNormalization", x, 2, domain="", axis=-1, epsilon=1e-5)

    # What ONNX Runtime's optimiser writes into models of any opset.
    rows = lambda scale, shift=None: lambda d: [("x", d(2, 5, 16)), ("w.scale", d(*scale))] + ([("w.shift", d(*shift))] if shift else [])
    for opset in [7, 11, 16]:
        case(f"layer-norm-opset-{opset}", "LayerNormalization", rows((16,), (16,)), 3, "", opset=opset, axis=-1, epsilon=1e-4)
    case("layer-norm-without-shift", "LayerNormalization", rows((5, 16)), domain="", opset=12, axis=1)
    # Scales and shifts that are stretched, along rows and across them.
    for name, axis, shapes in [
        ("one", -1, ((1,), (1,))),
        ("scalar", -1, ((), (16,))),
        ("last-axis", 1, ((16,), (16,))),
        ("first-axis", 1, ((5, 1), (1, 16))),
        ("texts", -1, ((2, 1, 16), (16,))),
        ("texts-in-shift", -1, ((16,), (2, 5, 16))),
        ("words", -1, ((5, 1), (5, 16))),
        ("like-a-row", -1, ((16, 16, 1), (16, 16, 16))),
    ]:
        operands = rows(*shapes)
        if name == "like-a-row":
            operands = lambda d: [("x", d(16, 16, 16)), ("w.scale", d(16, 1)), ("w.shift", d(16, 1))]
        case(f"layer-norm-{name}", "LayerNormalization", operands, 3, "", axis=axis)
    given = lambda d: [("x", d(2, 5, 16)), ("scale", d(5, 1)), ("shift", d(2, 1, 1))]
    case("layer-norm-inputs", "LayerNormalization", given, 3, "", axis=2)

    def embedding(d, segments=True, mask=False, positions=False):
        lines = d(2, 16)
        yield "ids", d.ints(0, 30, 2, 6)
        yield ("segments", d.ints(0, 2, 2, 6)) if segments else ("", None)
        yield "w.words", d(30, 16)
        yield "w.places", d(9, 16)
        yield ("w.kinds", d(2, 16)) if segments else ("", None)
        yield "w.gamma", lines[0]
        yield "w.beta", lines[1]
        yield ("mask", np.array([[1] * 6, [1, 1, 1, 0, 0, 0]], I32)) if mask else ("", None)
        if positions:
            yield "positions", d.ints(0, 9, 2, 6)

    three = ["y", "counts", "sum"]
    case("embedding", "EmbedLayerNormalization", embedding, 2, epsilon=1e-12)
    case("embedding-masked", "EmbedLayerNormalization", lambda d: embedding(d, mask=True), three)
    case("embedding-placed", "EmbedLayerNormalization", lambda d: embedding(d, False, True, True), three)


def multi_head():
    def operands(d, kv=5, bias=False, mask=None, extra=None, past=0, wide=18):
        yield "q", d(2, 5, 12)
        yield "k", d(2, kv, 12)
        yield "v", d(2, kv, wide)
        yield ("w.bias", d(24 + wide)) if bias else ("", None)
        yield ("mask", mask(d)) if mask else ("", None)
        yield ("extra", d(*extra)) if extra else ("", None)
        if past:
            yield "past_k", d(2, 3, past, 4)
            yield "past_v", d(2, 3, past, wide // 3)

    op = "MultiHeadAttention"
    keys = lambda n: lambda d: np.stack([np.arange(n) < n - 1, np.arange(n) < n // 2]).astype(I32)
    lengths = lambda d: np.array([7, 3], I32)
    case("multi-head", op, operands, num_heads=3)
    case("multi-head-bias", op, lambda d: operands(d, bias=True), 3, num_heads=3)
    case("multi-head-cross", op, lambda d: operands(d, kv=7), num_heads=3, scale=0.3)
    case("multi-head-causal", op, lambda d: operands(d), num_heads=3, unidirectional=1)
    case("multi-head-lengths", op, lambda d: operands(d, kv=7, mask=lengths), num_heads=3)
    case("multi-head-mask", op, lambda d: operands(d, kv=7, mask=keys(7)), num_heads=3, mask_filter_value=-50.0)
    case("multi-head-extra", op, lambda d: operands(d, extra=(1, 3, 5, 5)), num_heads=3)
    case("multi-head-past", op, lambda d: operands(d, past=4, wide=12), 3, num_heads=3)
    case("multi-head-past-causal", op, lambda d: operands(d, past=4, extra=(2, 3, 5, 9), wide=12), 3, num_heads=3, unidirectional=1)

    def apart(d):
        all = d(2, 5, 3, 3, 4)
        return [(name, all[:, :, :, i].reshape(2, 5, 12)) for i, name in enumerate("qkv")]

    def keys_apart(d):
        q, both = d(2, 5, 12), d(2, 7, 3, 2, 4)
        return [("q", q)] + [(name, both[:, :, :, i].reshape(2, 7, 12)) for i, name in enumerate("kv")]

    case("multi-head-packed", op, lambda d: [("qkv", d(2, 5, 3, 3, 4))], same=apart, num_heads=3)
    pairs = lambda d: [("q", d(2, 5, 12)), ("kv", d(2, 7, 3, 2, 4))]
    case("multi-head-packed-keys", op, pairs, same=keys_apart, num_heads=3)
    split = lambda d: [("q", d(2, 5, 12)), ("k", d(2, 3, 7, 4)), ("v", d(2, 3, 7, 4))]
    case("multi-head-split-keys", op, split, num_heads=3)
    with_scores = ["y", "", "", "scores"]
    case("multi-head-scores", op, lambda d: operands(d, extra=(1, 3, 5, 5)), with_scores, num_heads=3)
    case("multi-head-scores-causal", op, operands, with_scores, num_heads=3, unidirectional=1)

    def shared(d, used, new=1, room=9, mask=None, extra=None):
        """A cache with room, of which `used` places are taken; behind these lies anything."""
        yield from [(name, d(2, new, 12)) for name in ["q", "k", "v"]]
        yield "", None
        yield ("mask", mask) if mask is not None else ("", None)
        yield ("extra", d(*extra)) if extra else ("", None)
        yield from [(name, d(2, 3, room, 4)) for name in ["past_k", "past_v"]]
        yield "used", np.array([used], I32)

    case("multi-head-shared", op, lambda d: shared(d, 4), 3, num_heads=3)
    case("multi-head-shared-empty", op, lambda d: shared(d, 0, 5), 3, num_heads=3)
    case("multi-head-shared-full", op, lambda d: shared(d, 6, 3), 3, num_heads=3)
    case("multi-head-shared-causal", op, lambda d: shared(d, 4, 3, extra=(2, 3, 3, 7)), 3, num_heads=3, unidirectional=1)
    case("multi-head-shared-mask", op, lambda d: shared(d, 4, 3, mask=keys(7)(d)), 3, num_heads=3)

    def decoder(d, used=4, mask=None, extra=None, beams=None, bias=False):
        yield from [(name, d(2, 1, 12)) for name in ["q", "k", "v"]]
        yield ("mask", mask) if mask is not None else ("", None)
        yield ("extra", d(*extra)) if extra else ("", None)
        yield from [(name, d(2, 3, 9, 4)) for name in ["past_k", "past_v"]]
        yield "used", np.array([used], I32)
        yield ("beam_width", np.array([beams.shape[1]], I32)) if beams is not None else ("", None)
        yield ("beams", beams) if beams is not None else ("", None)
        if bias:
            yield "w.bias", d(36)

    op = "DecoderMaskedMultiHeadAttention"
    own = {"num_heads": 3, "past_present_share_buffer": 1}
    four = ["y", "k_kept", "v_kept", "scores"]
    case("decoder-masked", op, decoder, 3, **own)
    case("decoder-masked-first", op, lambda d: decoder(d, 0), 3, **own)
    case("decoder-masked-scale", op, lambda d: decoder(d, 8, bias=True), 3, scale=0.3, **own)
    case("decoder-masked-mask", op, lambda d: decoder(d, mask=keys(5)(d), extra=(1, 3, 1, 5)), four, output_qk=1, **own)
    crossed = np.array([[[1, 0, 1, 1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0, 0]]], I32)
    case("decoder-masked-beams", op, lambda d: decoder(d, beams=crossed), 3, **own)
    other = lambda d: [("q", d(2, 1, 12)), ("k", d(2, 3, 7, 4)), ("v", d(2, 3, 7, 4)), ("mask", keys(7)(d))]
    case("decoder-masked-cross", op, other, with_scores, num_heads=3, output_qk=1)
    others = lambda d: other(d) + [("", None)] * 6 + [("w.bias", d(36))]
    case("decoder-masked-cross-bias", op, others, num_heads=3)


def attention():
    def operands(d, mask=None, past=0, extra=None, width=36, bias=True):
        yield "x", d(2, 5, 8)
        yield "w.weights", d(8, width)
        yield ("w.bias", d(width)) if bias else ("", None)
        yield ("mask", mask) if mask is not None else ("", None)
        yield ("past", d(2, 2, 3, past, 4)) if past else ("", None)
        if extra:
            yield "extra", d(*extra)

    rows = lambda n: np.stack([np.arange(n) < n, np.arange(n) < n // 2]).astype(I32)
    case("attention", "Attention", operands, num_heads=3)
    case("attention-without-bias", "Attention", lambda d: operands(d, bias=False), num_heads=3)
    case("attention-causal", "Attention", lambda d: operands(d), num_heads=3, unidirectional=1, scale=0.9)
    case("attention-lengths", "Attention", lambda d: operands(d, np.array([5, 2], I32)), num_heads=3)
    case("attention-mask", "Attention", lambda d: operands(d, rows(5)), num_heads=3)
    pairs = np.stack([np.tri(5), np.tri(5)[::-1]]).astype(I32)
    case("attention-pairs", "Attention", lambda d: operands(d, pairs), num_heads=3)
    case("attention-past", "Attention", lambda d: operands(d, rows(9), 4), 2, num_heads=3, unidirectional=1)
    case("attention-extra", "Attention", lambda d: operands(d, extra=(2, 3, 5, 5)), num_heads=3)
    case("attention-widths", "Attention", lambda d: operands(d, width=42), num_heads=3, qkv_hidden_sizes=[12, 12, 18])

    def turned(x, first, size):
        """Pairs of elements half of `size` apart, turned by their place times a power of 10000."""
        half = size // 2
        angles = (first + np.arange(x.shape[2]))[:, None] / 10000 ** (np.arange(half) * 2 / size)
        a, b, rest = x[..., :half], x[..., half:size], x[..., size:]
        c, s = np.cos(angles), np.sin(angles)
        return np.concatenate([a * c - b * s, a * s + b * c, rest], -1)

    def causal(arrays, size=4, shared=False):
        """Causal attention of three heads with turned queries and keys, and what is kept of keys and values."""
        projected = (arrays["x"] @ arrays["w.weights"] + arrays["w.bias"]).astype(np.float64)
        q, k, v = [p.reshape(2, -1, 3, 4).transpose(0, 2, 1, 3) for p in np.split(projected, 3, -1)]
        past = arrays.get("past", np.zeros((2, 2, 3, 0, 4)))
        first, new = int(arrays["used"][0]) if shared else past.shape[3], q.shape[2]
        if size:
            q, k = turned(q, first, size), turned(k, first, size)
        k, v = [np.concatenate([p[:, :, :first], n], 2) for p, n in zip(past, [k, v])]
        scores = q @ k.transpose(0, 1, 3, 2) / 2 + np.where(np.tri(new, first + new, first) > 0, 0, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        y = (shares / shares.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(2, new, 12)
        kept = np.stack([k, v])
        kept = np.concatenate([kept, past[:, :, :, first + new :]], 3) if shared else kept
        return [y.astype(F32), kept.astype(F32)]

    # ONNX Runtime turns queries and keys on GPUs alone, and shares buffers there too.
    case("attention-rotary", "Attention", operands, 2, known=causal, num_heads=3, do_rotary=1, unidirectional=1)
    part = lambda arrays: causal(arrays, 2)
    case("attention-rotary-part", "Attention", operands, 2, known=part, num_heads=3, do_rotary=1, unidirectional=1, rotary_embedding_dim=2)
    past = lambda d: operands(d, past=4)
    case("attention-rotary-past", "Attention", past, 2, known=causal, num_heads=3, do_rotary=1, unidirectional=1)
    room = lambda d: list(operands(d, past=11)) + [("", None), ("used", np.array([3], I32))]
    in_room = lambda arrays: causal(arrays, 0, True)
    case("attention-shared", "Attention", room, 2, known=in_room, num_heads=3, unidirectional=1, past_present_share_buffer=1)

    def quantised(d, weight=U8, mask=None, causal=False):
        yield "x", d.ints(0, 255, 2, 5, 8, dtype=U8)
        yield "w.weights", d.ints(0, 127, 8, 36, dtype=weight)
        yield "w.bias", d(36)
        yield "w.x_scale", np.array(0.02, F32)
        yield "w.w_scale", np.array(0.01, F32)
        yield ("mask", mask) if mask is not None else ("", None)
        yield "w.x_zero", np.array(128, U8)
        yield "w.w_zero", np.array(60, weight)

    case("q-attention", "QAttention", quantised, num_heads=3)
    signed = lambda d: quantised(d, I8, np.array([5, 3], I32))
    case("q-attention-mask", "QAttention", signed, same=unsigned(signed, 7), num_heads=3)
    case("q-attention-causal", "QAttention", quantised, num_heads=3, unidirectional=1)


def group_query():
    def angles(size, half):
        turn = np.arange(size)[:, None] / 10.0 ** (np.arange(half) / half)
        return [("w.cos", np.cos(turn).astype(F32)), ("w.sin", np.sin(turn).astype(F32))]

    def operands(d, length=5, past=0, lengths=None, rotary=False, packed=False, room=0, positions=None, extra=None):
        if packed:
            yield from [("qkv", d(2, length, 128)), ("", None), ("", None)]
        else:
            yield from [("q", d(2, length, 64)), ("k", d(2, length, 32)), ("v", d(2, length, 32))]
        if past:
            spare = [(0, 0), (0, 0), (0, room), (0, 0)]
            yield from [(name, np.pad(d(2, 2, past, 16), spare)) for name in ["past_k", "past_v"]]
        else:
            yield from [("", None), ("", None)]
        total = past + length
        yield "lengths", np.array(lengths or [total, total], I32) - 1
        yield "total", np.array(total, I32)
        tables = angles(16, 8) if rotary else [("", None), ("", None)]
        yield from tables
        yield ("positions", positions) if positions is not None else ("", None)
        if extra:
            yield "extra", d(*extra)

    op, heads = "GroupQueryAttention", {"num_heads": 4, "kv_num_heads": 2}
    case("group-query", op, operands, 3, **heads)
    case("group-query-scale", op, operands, 3, scale=0.2, softcap=1.5, **heads)
    case("group-query-window", op, lambda d: operands(d, 9), 3, local_window_size=3, **heads)
    case("group-query-rotary", op, lambda d: operands(d, rotary=True), 3, do_rotary=1, **heads)
    case("group-query-interleaved", op, lambda d: operands(d, rotary=True), 3, do_rotary=1, rotary_interleaved=1, **heads)
    case("group-query-past", op, lambda d: operands(d, 1, 4, rotary=True), 3, do_rotary=1, **heads)
    case("group-query-past-window", op, lambda d: operands(d, 1, 6), 3, local_window_size=4, **heads)
    # Texts of a batch that have filled the cache to different lengths; what lies behind these in the caches is anything.
    ragged = lambda d: operands(d, 1, 4, [5, 3], rotary=True)
    case("group-query-ragged", op, ragged, ["y", "_k", "_v"], do_rotary=1, **heads)
    case("group-query-room", op, lambda d: operands(d, 1, 4, room=3, rotary=True), 3, do_rotary=1, **heads)
    packed = lambda d: operands(d, 1, 4, rotary=True, packed=True)
    case("group-query-packed", op, packed, 3, do_rotary=1, **heads)
    extra = lambda d: operands(d, extra=(1, 4, 5, 5))
    case("group-query-extra", op, extra, 3, **heads)
    placed = np.array([[3, 4, 5, 6, 7]] * 2, I64)
    case("group-query-placed", op, lambda d: operands(d, rotary=True, positions=placed), 3, do_rotary=1, **heads)

    def rotary(d, shape=(2, 5, 24), positions=None, half=4):
        yield "x", d(*shape)
        yield "positions", np.array([2], I64) if positions is None else positions
        yield from angles(16, half)

    each = np.array([[0, 1, 2, 3, 4], [9, 8, 7, 3, 1]], I64)
    case("rotary", "RotaryEmbedding", rotary)
    case("rotary-placed", "RotaryEmbedding", lambda d: rotary(d, positions=each), interleaved=1)
    case("rotary-split", "RotaryEmbedding", lambda d: rotary(d, (2, 3, 5, 8), each))
    part = lambda d: rotary(d, positions=each, half=2)
    case("rotary-part", "RotaryEmbedding", part, num_heads=3, rotary_embedding_dim=4)


def quantised():
    def of_bits(d, bits=4, n=6, k=40, block=16, zero=None, bias=False):
        blocks = -(-k // block)
        yield "x", d(3, 2, k)
        yield "w.packed", d.ints(0, 256, n, blocks, block * bits // 8, dtype=U8)
        yield "w.scales", np.abs(d(n, blocks, scale=0.1)) + F32(0.01)
        if zero == "bytes":
            yield "w.zero", d.ints(0, 256, n, -(-blocks * bits // 8), dtype=U8)
        elif zero == "floats":
            yield "w.zero", d(n, blocks, scale=3)
        elif bias:
            yield "", None
        if bias:
            yield from [("", None), ("w.bias", d(n))]

    for name, n, k, block, attributes in [
        ("n-bits", 6, 32, 16, {}),
        ("n-bits-partial", 6, 40, 16, {}),
        ("n-bits-blocks", 5, 256, 128, {}),
        ("n-bits-zero", 6, 48, 16, {"zero": "bytes"}),
        ("n-bits-float-zero", 6, 48, 16, {"zero": "floats"}),
        ("n-bits-bias", 6, 32, 32, {"bias": True}),
        ("n-bits-8", 6, 64, 32, {"bits": 8}),
        ("n-bits-8-zero", 6, 64, 32, {"bits": 8, "zero": "bytes"}),
    ]:
        operands = lambda d, n=n, k=k, block=block, a=attributes: of_bits(d, n=n, k=k, block=block, **a)
        case(name, "MatMulNBits", operands, N=n, K=k, bits=attributes.get("bits", 4), block_size=block)

    def scaled(d, name, shape, dtype, scale):
        low, high = (0, 256) if dtype == U8 else (-128, 128)
        yield name, d.ints(low, high, *shape, dtype=dtype)
        yield f"w.{name}.scale", np.array(scale, F32)
        yield f"w.{name}.zero", d.ints(0, 20, dtype=dtype).reshape(())

    def ends(dtype, scale=0.07, zero=9):
        return [("w.y.scale", np.array(scale, F32)), ("w.y.zero", np.array(zero, dtype))]

    def two(d, dtype=U8, b=(2, 3, 8)):
        yield from scaled(d, "a", (2, 3, 8), dtype, 0.03)
        yield from scaled(d, "b", b, dtype, 0.05)
        yield from ends(dtype)

    case("q-add", "QLinearAdd", two)
    case("q-add-signed", "QLinearAdd", lambda d: two(d, I8, (8,)))
    case("q-mul", "QLinearMul", two)
    case("q-mul-signed", "QLinearMul", lambda d: two(d, I8, (1, 1, 8)))
    one = lambda scale: lambda d: list(scaled(d, "x", (2, 4, 3, 5), U8, 0.04)) + ends(U8, scale)
    case("q-sigmoid", "QLinearSigmoid", one(1 / 256))
    case("q-leaky-relu", "QLinearLeakyRelu", one(0.05), alpha=0.1)
    case("q-average", "QLinearGlobalAveragePool", one(0.03))
    case("q-average-last", "QLinearGlobalAveragePool", one(0.03), channels_last=1)

    def parts(d):
        yield from ends(U8)
        yield from scaled(d, "a", (2, 3), U8, 0.03)
        yield from scaled(d, "b", (2, 5), U8, 0.06)

    case("q-concat", "QLinearConcat", parts, axis=1)

    def to_float(d, bias=False):
        yield "a", d.ints(0, 256, 2, 3, 8, dtype=U8)
        yield "w.b", d.ints(-128, 128, 8, 5, dtype=I8)
        yield "a_scale", np.array(0.02, F32)
        yield "w.b_scale", np.abs(d(5, scale=0.01))
        yield "a_zero", np.array(100, U8)
        yield ("", None) if not bias else ("w.b_zero", np.zeros(5, I8))
        if bias:
            yield "w.bias", d(5)

    biased = lambda d: to_float(d, True)
    case("matmul-to-float", "MatMulIntegerToFloat", to_float, same=unsigned(to_float, 5))
    case("matmul-to-float-bias", "MatMulIntegerToFloat", biased, same=unsigned(biased, 5))

    def dynamic(d, bias=False):
        yield "a", d(2, 3, 8)
        yield "w.b", d.ints(-128, 128, 8, 5, dtype=I8)
        yield "w.b_scale", np.array([0.01], F32)
        yield ("w.b_zero", np.array([3], I8))
        if bias:
            yield "w.bias", d(5)

    x, z = lambda d: [("x", d(2, 3, 4, scale=3))], lambda values, dtype: [("w.zero", np.array(values, dtype))]
    s = lambda *values: [("w.scale", np.array(values if len(values) > 1 else values[0], F32))]
    case("quantize", "QuantizeLinear", lambda d: x(d) + s(0.1))
    case("quantize-zero", "QuantizeLinear", lambda d: x(d) + s(0.1) + z(3, I8))
    case("quantize-axis", "QuantizeLinear", lambda d: x(d) + s(0.1, 0.2, 0.05) + z([1, 2, 3], U8), axis=1)
    case("quantize-last-axis", "QuantizeLinear", lambda d: x(d) + s(0.1, 0.2, 0.05, 0.3) + z([1, 2, 3, 4], U8), axis=-1)
    case("quantize-16", "QuantizeLinear", lambda d: x(d) + s(0.001) + z(-300, np.int16))
    case("quantize-u16", "QuantizeLinear", lambda d: x(d) + s(0.001) + z(30000, np.uint16))
    whole = lambda low, high, dtype: lambda d: [("w.x", d.ints(low, high, 2, 3, 4, dtype=dtype))]
    case("dequantize", "DequantizeLinear", lambda d: whole(0, 256, U8)(d) + s(0.1) + z(100, U8))
    case("dequantize-axis", "DequantizeLinear", lambda d: whole(-128, 128, I8)(d) + s(0.1, 0.2, 0.05) + z([1, 2, 3], I8), axis=1)
    case("dequantize-16", "DequantizeLinear", lambda d: whole(-9000, 9000, np.int16)(d) + s(0.001) + z(-300, np.int16))
    case("dequantize-32", "DequantizeLinear", lambda d: whole(-9000, 9000, I32)(d) + s(0.001))
    scales = lambda d: [("x", d.ints(0, 256, 2, 3, dtype=U8)), ("scale", np.array([0.1, 0.2, 0.3], F32)), ("zero", np.array([3, 2, 1], U8))]
    case("dequantize-inputs", "DequantizeLinear", scales, axis=-1)
    biased_too = lambda d: dynamic(d, True)
    case("dynamic-matmul", "DynamicQuantizeMatMul", dynamic, same=unsigned(dynamic, 3))
    case("dynamic-matmul-bias", "DynamicQuantizeMatMul", biased_too, same=unsigned(biased_too, 3))


def older():
    """Forms of ONNX's own operators that the standard's tests no longer have."""

    def of(name, op, opset, operands, outputs=1, **attributes):
        case(f"{name}-opset-{opset}", op, operands, outputs, "", opset=opset, **attributes)

    x = lambda *shape: lambda d: [("x", d(*shape))]
    most = lambda k: lambda d: [("x", d(3, 7)), ("w.k", np.array([k], I64))]
    of("top-k", "TopK", 10, most(3), 2)
    of("top-k-axis", "TopK", 10, most(2), 2, axis=0)
    of("top-k-input", "TopK", 10, lambda d: [("x", d(3, 7)), ("k", np.array([4], I64))], 2, axis=-1)
    for opset in [1, 11]:
        of("hardmax", "Hardmax", opset, x(3, 4, 5))
        of("hardmax-axis", "Hardmax", opset, x(3, 4, 5), axis=2)
        of("hardmax-all", "Hardmax", opset, x(3, 4, 5), axis=0)
    for p in [1, 2, 3]:
        of(f"global-lp-pool-{p}", "GlobalLpPool", 2, x(2, 3, 4, 5), p=p)
    of("global-lp-pool-line", "GlobalLpPool", 21, x(2, 3, 7))
    regions = lambda d: np.array([[0.5, 1, 6, 7.5], [-2, 0, 3, 3.5], [4, 4, 4.25, 12]], F32)
    align = lambda d: [("x", d(2, 3, 9, 8)), ("rois", regions(d)), ("batches", np.array([1, 0, 1], I64))]
    sizes = {"output_height": 3, "output_width": 2, "spatial_scale": 0.75}
    for opset in [10, 15]:
        of("roi-align", "RoiAlign", opset, align, **sizes)
        of("roi-align-points", "RoiAlign", opset, align, sampling_ratio=2, **sizes)
        of("roi-align-max", "RoiAlign", opset, align, mode="max", sampling_ratio=2, **sizes)
    numbered = lambda d: np.concatenate([np.array([[1], [0], [1]], F32), regions(d)], 1)
    pool = lambda d: [("x", d(2, 3, 9, 8)), ("rois", numbered(d))]
    for opset in [1, 16]:
        of("max-roi-pool", "MaxRoiPool", opset, pool, pooled_shape=[3, 2])
        of("max-roi-pool-scale", "MaxRoiPool", opset, pool, pooled_shape=[2, 4], spatial_scale=0.75)
    of("max-roi-pool-weights", "MaxRoiPool", 13, lambda d: [("x", d(2, 3, 9, 8)), ("w.rois", numbered(d))], pooled_shape=[1, 1])


def model(name, run=False):
    """The model of a case, the one to be run if there is another, and its inputs."""
    op, operands, outputs, domain, same, _, opset, attributes = CASES[name]
    pairs = list((run and same or operands)(Draw(name)))
    if isinstance(outputs, int):
        outputs = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, [n for n, _ in pairs], outputs, domain=domain, **attributes)
    given = [(n, a) for n, a in pairs if n]
    if run and op not in ELEMENTWISE:
        signed = [n for n, a in given if a.dtype == I8]
        assert not signed, f"{name}: what {op} makes of {signed} depends on the processor; give `same`, as `unsigned` does"
    inputs = {n: a for n, a in given if not n.startswith("w.")}
    info = lambda n, a: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
    weights = [numpy_helper.from_array(a, n) for n, a in given if n.startswith("w.")]
    # The type of scores is not inferred.
    result = lambda n: helper.make_tensor_value_info(n, TensorProto.FLOAT, None) if n == "scores" else onnx.ValueInfoProto(name=n)
    results = [result(n) for n in outputs if n.strip("_") == n != ""]
    graph = helper.make_graph([node], name, [info(n, a) for n, a in inputs.items()], results, weights)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), inputs


def outcome(name, options):
    """The names of a case's outputs, and what they are to be."""
    _, operands, _, _, _, known, _, _ = CASES[name]
    run, feeds = model(name, run=True)
    if known:
        return [output.name for output in run.graph.output], known({n: a for n, a in operands(Draw(name)) if n})
    session = onnxruntime.InferenceSession(run.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [output.name for output in session.get_outputs()], session.run(None, feeds)


def main(folder):
    for family in [activations, normalisations, multi_head, attention, group_query, quantised, older]:
        family()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The operator itself is what is asked for, not what it is optimised to.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name in CASES:
        proto, inputs = model(name)
        place = folder / name
        place.mkdir(parents=True)
        names, results = outcome(name, options)
        onnx.save(proto, place / "model.onnx")
        tensors.save(str(place / "in0"), inputs)
        tensors.save(str(place / "out0"), dict(zip(names, results)))
    (folder / "names.txt").write_text("\n".join(CASES))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
