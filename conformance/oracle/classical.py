"""classical.py OUT: small models of strings and of ai.onnx.ml, for each a folder with model.onnx, the inputs in in0 and what ONNX
Runtime gives in out0; names.txt lists the folders.
"""

import itertools
import pathlib
import sys

import numpy
import onnxruntime
import tensors
from onnx import TensorProto, helper, numpy_helper

ML = "ai.onnx.ml"
FLOAT, DOUBLE, INT, LONG, TEXT, BOOL = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.STRING,
    TensorProto.BOOL,
)
TYPES = {"float32": FLOAT, "float64": DOUBLE, "int32": INT, "int64": LONG, "object": TEXT, "bool": BOOL}
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]

random = numpy.random.default_rng(5)
out = pathlib.Path(sys.argv[1])
names = []
onnxruntime.set_default_logger_severity(4)


def case(name, nodes, inputs, outputs, opset=5):
    """Writes a model of (operator, operands, results, attributes) rows; operators of the default domain start with a dot."""

    def node(op, operands, results, **attributes):
        domain = "" if op.startswith(".") else ML
        return helper.make_node(op.lstrip("."), operands, results, domain=domain, **attributes)

    dims = lambda name, array: [f"n_{name}"] + [int(d) for d in array.shape[1:]] if array.ndim else []
    graph = helper.make_graph(
        [node(*row[:3], **row[3]) for row in nodes],
        name,
        [helper.make_tensor_value_info(n, TYPES[a.dtype.name], dims(n, a)) for n, a in inputs.items()],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    results = dict(zip(outputs, session.run(list(outputs), inputs)))
    folder = out / name
    tensors.save(folder / "in0", inputs)
    tensors.save(folder / "out0", results)
    (folder / "model.onnx").write_bytes(model)
    names.append(name)


def rows(count, features, dtype="float32"):
    return random.uniform(-2, 2, (count, features)).astype(dtype)


def tree(depth, features, leaf, start=0):
    """Attributes of one random tree of the older operators; `leaf(node)` gives (target, weight) pairs."""
    nodes, votes = {}, []

    def grow(at, level):
        if level == depth or (level > 1 and random.random() < 0.2):
            nodes[at] = (0, 0.0, "LEAF", 0, 0)
            votes.extend((at, *vote) for vote in leaf(at))
            return at + 1
        mode = random.choice(["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"])
        after = grow(at + 1, level + 1)
        end = grow(after, level + 1)
        nodes[at] = (int(random.integers(features)), float(random.uniform(-2, 2)), str(mode), at + 1, after)
        return end

    grow(start, 0)
    return nodes, votes


def forest(count, depth, features, leaf, prefix, missing=False, double=False):
    columns = {key: [] for key in ["treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids"]}
    votes = []
    for index in range(count):
        nodes, voted = tree(depth, features, leaf)
        for at, (feature, value, mode, yes, no) in sorted(nodes.items()):
            for key, item in zip(columns, (index, at, feature, value, mode, yes, no)):
                columns[key].append(item)
        votes += [(index, *vote) for vote in voted]
    attributes = {f"nodes_{key}": column for key, column in columns.items()}
    ids = [list(column) for column in zip(*votes)]
    for key, column in zip(["treeids", "nodeids", "ids", "weights"], ids):
        attributes[f"{prefix}_{key}"] = column
    if missing:
        flags = random.integers(0, 2, len(columns["modes"]))
        attributes["nodes_missing_value_tracks_true"] = [int(f) for f in flags]
    if double:
        for key in ["nodes_values", f"{prefix}_weights"]:
            attributes[f"{key}_as_tensor"] = numpy_helper.from_array(numpy.array(attributes.pop(key)))
    return attributes


def regressors():
    targets = lambda count: lambda _: [(t, float(random.normal())) for t in range(count)]
    for aggregate in ["SUM", "AVERAGE", "MIN", "MAX"]:
        x = rows(70, 5)
        x[::7, 2] = numpy.nan
        attributes = forest(20, 6, 5, targets(3), "target", missing=True)
        attributes |= dict(aggregate_function=aggregate, n_targets=3, base_values=[0.5, -1.0, 2.0])
        case(f"tree regressor {aggregate}", [("TreeEnsembleRegressor", ["x"], ["y"], attributes)], {"x": x}, {"y": FLOAT}, 3)
    for how in TRANSFORMS:
        attributes = forest(3, 4, 4, lambda _: [(t, float(random.uniform(0.05, 0.3))) for t in range(2)], "target")
        attributes |= dict(n_targets=2, post_transform=how)
        case(f"tree regressor {how}", [("TreeEnsembleRegressor", ["x"], ["y"], attributes)], {"x": rows(9, 4)}, {"y": FLOAT}, 3)
    attributes = forest(5, 4, 3, targets(1), "target", double=True) | dict(n_targets=1)
    case("tree regressor f64", [("TreeEnsembleRegressor", ["x"], ["y"], attributes)], {"x": rows(9, 3, "float64")}, {"y": FLOAT}, 3)


def classifiers():
    results = {"y": LONG, "z": FLOAT}
    for how, kind in itertools.product(TRANSFORMS, ["three", "first", "first sure", "second", "second sure"]):
        sure = "sure" in kind or how == "PROBIT"
        weight = lambda: float(random.uniform(0.02, 0.3) if sure else random.normal())
        classes = 3 if kind == "three" else 2
        voted = {"first": [0], "second": [1]}.get(kind.split()[0], [0, 1, 2])
        if how == "PROBIT" and voted == [0]:
            continue  # ONNX Runtime leaves the second score unwritten.
        attributes = forest(3, 4, 4, lambda _: [(t, weight()) for t in voted], "class")
        attributes |= dict(classlabels_int64s=[10, 20, 30][:classes], post_transform=how)
        if classes == 3:
            attributes["base_values"] = [0.1, 0.2, 0.05]
        case(f"tree classifier {how} {kind}", [("TreeEnsembleClassifier", ["x"], ["y", "z"], attributes)], {"x": rows(40, 4)}, results, 3)
    attributes = forest(4, 5, 4, lambda _: [(t, float(random.uniform(0.1, 1))) for t in range(3)], "class")
    attributes |= dict(classlabels_strings=["no", "naïve", "yes"])
    x = random.integers(-3, 3, (9, 4))
    case("tree classifier i64", [("TreeEnsembleClassifier", ["x"], ["y", "z"], attributes)], {"x": x}, {"y": TEXT, "z": FLOAT}, 3)
    case("tree classifier names", [("TreeEnsembleClassifier", ["x"], ["y", "z"], attributes)], {"x": rows(40, 4)}, {"y": TEXT, "z": FLOAT}, 3)


def ensembles():
    """TreeEnsemble, the trees of `tree` laid out anew."""
    for (aggregate, number), dtype in itertools.product([("SUM", 1), ("MIN", 2)], ["float32", "float64"]):
        parts = {key: [] for key in ["featureids", "splits", "modes", "truenodeids", "trueleafs", "falsenodeids", "falseleafs"]}
        roots, weights, targets = [], [], []
        modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"]
        for _ in range(6):
            nodes, votes = tree(5, 4, lambda _: [(int(random.integers(2)), float(random.normal()))])
            inner = {at: len(parts["modes"]) + i for i, at in enumerate(sorted(n for n in nodes if nodes[n][2] != "LEAF"))}
            leaves = {vote[0]: len(weights) + i for i, vote in enumerate(votes)}
            weights += [vote[2] for vote in votes]
            targets += [vote[1] for vote in votes]
            roots.append(inner[0])
            for at in inner:
                feature, value, mode, yes, no = nodes[at]
                place = lambda child: (inner[child], 0) if child in inner else (leaves[child], 1)
                row = (feature, value, modes.index(mode), *place(yes), *place(no))
                for key, item in zip(parts, row):
                    parts[key].append(item)
        attributes = {f"nodes_{key}": column for key, column in parts.items()}
        attributes["nodes_splits"] = numpy_helper.from_array(numpy.array(parts["splits"], dtype))
        attributes["nodes_modes"] = numpy_helper.from_array(numpy.array(parts["modes"], "uint8"))
        attributes["leaf_weights"] = numpy_helper.from_array(numpy.array(weights, dtype))
        attributes |= dict(leaf_targetids=targets, tree_roots=roots, n_targets=2, aggregate_function=number)
        x = rows(70, 4, dtype)
        case(f"tree ensemble {aggregate} {dtype}", [("TreeEnsemble", ["x"], ["y"], attributes)], {"x": x}, {"y": TYPES[dtype]})


def linear():
    for how in TRANSFORMS:
        small = lambda *shape: [float(v) for v in random.uniform(0.01, 0.1, shape).flatten()]
        x = random.uniform(0, 1, (6, 3)).astype("float32")
        attributes = dict(coefficients=small(2, 3), intercepts=small(2), targets=2, post_transform=how)
        case(f"linear regressor {how}", [("LinearRegressor", ["x"], ["y"], attributes)], {"x": x}, {"y": FLOAT}, 1)
        attributes = dict(coefficients=small(3, 3), intercepts=small(3), classlabels_strings=["a", "b", "c"], post_transform=how)
        case(f"linear classifier {how}", [("LinearClassifier", ["x"], ["y", "z"], attributes)], {"x": x}, {"y": TEXT, "z": FLOAT}, 1)
        if how != "PROBIT":
            attributes = dict(coefficients=[0.5, -0.3, 0.1], intercepts=[-0.2], classlabels_ints=[3, 9], post_transform=how)
            case(f"linear classifier {how} pair", [("LinearClassifier", ["x"], ["y", "z"], attributes)], {"x": rows(8, 3)}, {"y": LONG, "z": FLOAT}, 1)
    attributes = dict(offset=[1.0, 2.0, -1.0], scale=[0.5, 2.0, 3.0])
    case("scaler", [("Scaler", ["x"], ["y"], attributes)], {"x": random.integers(-9, 9, (4, 3))}, {"y": FLOAT}, 1)
    case("scaler one", [("Scaler", ["x"], ["y"], dict(offset=[1.0], scale=[0.5]))], {"x": rows(4, 3, "float64")}, {"y": FLOAT}, 1)
    for norm in ["MAX", "L1", "L2"]:
        x = rows(5, 4)
        x[2] = 0
        case(f"normalizer {norm}", [("Normalizer", ["x"], ["y"], dict(norm=norm))], {"x": x}, {"y": FLOAT}, 1)


def vector_machines():
    kernels = dict(LINEAR=[0.0, 0.0, 0.0], POLY=[0.4, 0.7, 3.0], RBF=[0.6, 0.0, 0.0], SIGMOID=[0.3, 0.1, 0.0])
    numbers = lambda *shape: [float(v) for v in random.normal(size=shape).flatten()]
    for kernel, parameters in kernels.items():
        shared = dict(kernel_type=kernel, kernel_params=parameters)
        attributes = shared | dict(support_vectors=numbers(7, 3), coefficients=numbers(7), rho=[0.3], n_supports=7)
        for one in [0, 1]:
            case(f"svm regressor {kernel} {one}", [("SVMRegressor", ["x"], ["y"], attributes | dict(one_class=one))], {"x": rows(20, 3)}, {"y": FLOAT}, 1)
        for classes, sure in itertools.product([2, 3, 4], [False, True]):
            pairs = classes * (classes - 1) // 2
            counts = [2, 3, 1, 4][:classes]
            attributes = shared | dict(
                support_vectors=numbers(sum(counts), 3),
                vectors_per_class=counts,
                coefficients=numbers(classes - 1, sum(counts)),
                rho=numbers(pairs),
                classlabels_ints=list(range(5, 5 + classes)),
            )
            if sure:
                attributes |= dict(prob_a=[-1.0 - 0.1 * p for p in range(pairs)], prob_b=numbers(pairs))
            name = f"svm classifier {kernel} {classes}{' sure' if sure else ''}"
            case(name, [("SVMClassifier", ["x"], ["y", "z"], attributes)], {"x": rows(20, 3)}, {"y": LONG, "z": FLOAT}, 1)
    attributes = dict(kernel_type="LINEAR", kernel_params=[0.0] * 3, coefficients=numbers(3, 4), rho=[0.2], classlabels_strings=["p", "q", "r"])
    case("svm classifier without vectors", [("SVMClassifier", ["x"], ["y", "z"], attributes)], {"x": rows(9, 4)}, {"y": TEXT, "z": FLOAT}, 1)
    for how in ["LOGISTIC", "SOFTMAX"]:
        attributes = dict(
            kernel_type="RBF",
            kernel_params=[0.5, 0.0, 0.0],
            support_vectors=numbers(3, 3),
            vectors_per_class=[1, 2],
            coefficients=numbers(3),
            rho=[0.1],
            classlabels_ints=[0, 1],
            post_transform=how,
        )
        case(f"svm classifier {how}", [("SVMClassifier", ["x"], ["y", "z"], attributes)], {"x": rows(9, 3)}, {"y": LONG, "z": FLOAT}, 1)


def words(*texts):
    return numpy.array(texts, dtype=object)


def features():
    x = rows(3, 4)
    which = numpy.array([3, 0, 0])
    case("array feature extractor", [("ArrayFeatureExtractor", ["x", "i"], ["y"], {})], {"x": x, "i": which}, {"y": FLOAT}, 1)
    names = numpy.array([["a", "b"], ["c", "d"]], dtype=object)
    case("array feature extractor names", [("ArrayFeatureExtractor", ["x", "i"], ["y"], {})], {"x": names, "i": numpy.array([1])}, {"y": TEXT}, 1)
    case("binarizer", [("Binarizer", ["x"], ["y"], dict(threshold=0.25))], {"x": x}, {"y": FLOAT}, 1)
    gaps = x.copy()
    gaps[1, 2] = gaps[0, 0] = numpy.nan
    attributes = dict(imputed_value_floats=[1.0, 2.0, 3.0, 4.0], replaced_value_float=float("nan"))
    case("imputer", [("Imputer", ["x"], ["y"], attributes)], {"x": gaps}, {"y": FLOAT}, 1)
    attributes = dict(imputed_value_int64s=[7], replaced_value_int64=-1)
    case("imputer i64", [("Imputer", ["x"], ["y"], attributes)], {"x": numpy.array([[1, -1], [-1, 0]])}, {"y": LONG}, 1)
    case("one hot", [("OneHotEncoder", ["x"], ["y"], dict(cats_int64s=[3, 1, 2]))], {"x": numpy.array([[1, 2], [9, 3]])}, {"y": FLOAT}, 1)
    case("one hot names", [("OneHotEncoder", ["x"], ["y"], dict(cats_strings=["b", "ä"]))], {"x": words("ä", "c", "b")}, {"y": FLOAT}, 1)
    case("one hot floats", [("OneHotEncoder", ["x"], ["y"], dict(cats_int64s=[1, 2]))], {"x": numpy.array([1.0, 2.5], "float32")}, {"y": FLOAT}, 1)
    case("feature vectorizer", [("FeatureVectorizer", ["x", "w"], ["y"], dict(inputdimensions=[4, 2]))], {"x": x, "w": rows(3, 2)}, {"y": FLOAT}, 1)
    case("category mapper", [("CategoryMapper", ["x"], ["y"], dict(cats_strings=["a", "b"], cats_int64s=[5, 6]))], {"x": words("b", "z")}, {"y": LONG}, 1)


def labels():
    nan = float("nan")
    table = [
        ("names to numbers", words("a", "z", "a"), LONG, dict(keys_strings=["a", "b"], values_int64s=[3, 4])),
        ("names to names", words("a", "z"), TEXT, dict(keys_strings=["a"], values_strings=["ü"], default_string="?")),
        ("numbers to names", numpy.array([[1, 2]]), TEXT, dict(keys_int64s=[2, 3], values_strings=["two", "three"])),
        ("floats to floats", numpy.array([nan, 1.5, 2], "float32"), FLOAT, dict(keys_floats=[nan, 1.5], values_floats=[1.0, 2.0], default_float=9.0)),
        ("numbers to floats", numpy.array([4, 5]), FLOAT, dict(keys_int64s=[5], values_floats=[0.5])),
        ("floats to numbers", numpy.array([0.5, 7], "float32"), LONG, dict(keys_floats=[0.5], values_int64s=[8])),
    ]
    for name, x, result, attributes in table:
        case(f"label encoder {name}", [("LabelEncoder", ["x"], ["y"], attributes)], {"x": x}, {"y": result}, 4)
    pair = lambda keys, values: dict(keys_tensor=numpy_helper.from_array(keys), values_tensor=numpy_helper.from_array(values))
    attributes = pair(numpy.array([0.5, nan]), numpy.array([10.0, 20.0])) | dict(default_tensor=numpy_helper.from_array(numpy.array([-1.0])))
    case("label encoder f64", [("LabelEncoder", ["x"], ["y"], attributes)], {"x": numpy.array([nan, 0.5, 3.0])}, {"y": DOUBLE}, 4)
    case("label encoder classes", [("LabelEncoder", ["x"], ["y"], dict(classes_strings=["a", "b"]))], {"x": words("b", "c")}, {"y": LONG}, 1)


def strings():
    x = words(" the quick  fox", "jumps", "")
    case("split", [(".StringSplit", ["x"], ["y", "n"], {})], {"x": x}, {"y": TEXT, "n": LONG})
    case("split at o", [(".StringSplit", ["x"], ["y", "n"], dict(delimiter="o", maxsplit=1))], {"x": words("foo", "o", "zoom")}, {"y": TEXT, "n": LONG})
    parts = numpy.array([["a"], ["ß"]], dtype=object)
    case("concat", [(".StringConcat", ["x", "w"], ["y"], {})], {"x": parts, "w": words("1", "2")}, {"y": TEXT})
    patterns = [r"[\w.-]+@\w+\.com", r"\d{2,}", r"(?i)abc|x", r"[^a-c]*", r".\b.*", r"[[:alpha:]]+"]
    for pattern in patterns:
        x = words("a.b@c.com", "12", "1", "ABC", "xyz", "é", "", "a b")
        case(f"regex {patterns.index(pattern)}", [(".RegexFullMatch", ["x"], ["y"], dict(pattern=pattern))], {"x": x}, {"y": BOOL})
    attributes = dict(stopwords=["the"], case_change_action="NONE", is_case_sensitive=1)
    case("normalizer of strings", [(".StringNormalizer", ["x"], ["y"], attributes)], {"x": words("the", "The", "fox")}, {"y": TEXT})
    numbers = numpy.array([0.1, -2.5, 1e-7, 1e20, 3.0, 123456.0], "float32")
    case("cast to string", [(".Cast", ["x"], ["y"], dict(to=TEXT))], {"x": numbers}, {"y": TEXT})
    case("cast from string", [(".Cast", ["x"], ["y"], dict(to=FLOAT))], {"x": words("0.5", "-1e3", "INF")}, {"y": FLOAT})
    pool = ["a", "b", "c", "a", "b", "b", "c"]
    attributes = dict(
        mode="TFIDF", min_gram_length=1, max_gram_length=2, max_skip_count=1, ngram_counts=[0, 3],
        ngram_indexes=[0, 1, 2, 3, 4], pool_strings=pool, weights=[1.0, 2.0, 0.5, 3.0, 4.0],
    )
    x = numpy.array([["a", "b", "c", "x"], ["c", "b", "a", "b"]], dtype=object)
    case("tf idf of strings", [(".TfIdfVectorizer", ["x"], ["y"], attributes)], {"x": x}, {"y": FLOAT})
    chain = [
        (".StringNormalizer", ["x"], ["lower"], dict(case_change_action="NONE", stopwords=["stop"], is_case_sensitive=1)),
        ("LabelEncoder", ["lower"], ["ids"], dict(keys_strings=["go", "left", "right"], values_int64s=[0, 1, 2])),
        (".Cast", ["ids"], ["numbers"], dict(to=FLOAT)),
        (".Mul", ["numbers", "numbers"], ["squares"], {}),
        (".Cast", ["squares"], ["texts"], dict(to=TEXT)),
        (".StringConcat", ["lower", "texts"], ["y"], {}),
        (".Gather", ["y", "ids"], ["picked"], {}),
        (".Equal", ["y", "picked"], ["same"], {}),
    ]
    case("chain", chain, {"x": words("go", "stop", "right", "left")}, {"y": TEXT, "squares": FLOAT, "same": BOOL}, 2)


for family in [regressors, classifiers, ensembles, linear, vector_machines, features, labels, strings]:
    family()
(out / "names.txt").write_text("\n".join(names))
