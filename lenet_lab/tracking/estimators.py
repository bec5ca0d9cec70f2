"""What a stored classical model may hold, checked before skops builds anything.

skops trusts every scikit-learn estimator, NumPy's and SciPy's functions and more; a model of ours is made of the few
types below. skops can check types alone, not that the numbers in them are sound: `sound` does that, and the sizes that
a tree is allocated by are checked here.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

import numpy as np

from lenet_lab.models.classical import Learned
from lenet_lab.records import LabError

TREE = "sklearn.tree._tree.Tree"
TRUSTED = {
    "DictNode": {"builtins.dict"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
    "TypeNode": {"builtins.str"},
    "JsonNode": {f"builtins.{name}" for name in ("str", "int", "float", "bool", "NoneType")},
    "NdArrayNode": {f"numpy.{name}" for name in ("ndarray", "float32", "float64", "int32", "int64")},
    "ObjectNode": {
        "sklearn.cluster._kmeans.KMeans",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.neighbors._classification.KNeighborsClassifier",
        "sklearn.svm._classes.SVC",
        "sklearn.tree._classes.DecisionTreeClassifier",
    },
    "TreeNode": {TREE},
}
_MAX = 1 << 32


def load(content: bytes) -> Learned:
    """What a classical model has learned, from a skops file.

    Raises:
        LabError: it cannot be read, or holds anything but the types above.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _MAX or len({info.filename for info in infos}) != len(infos):
                raise LabError("is too large, or holds a record twice")
            for info in infos:
                if not re.fullmatch(r"schema\.json|\d+\.npy", info.filename):
                    raise LabError(f"record {info.filename[:80]!r} is none of a classical model of lenet_lab")
            _check(json.loads(archive.read("schema.json")), archive, {})
        return Learned(**_loads(content))
    except LabError:
        raise
    except Exception:  # whatever damage or malice makes of a zip, of JSON or of arrays
        raise LabError("is no classical model that can be read") from None


def _loads(content: bytes) -> Any:
    import skops.io

    return skops.io.loads(content, trusted=[TREE])


def _check(node: Any, archive: zipfile.ZipFile, seen: dict[Any, Any]) -> None:
    """Every node of the schema; `seen` holds them by id, since skops builds those of one id once."""
    if isinstance(node, dict):
        if "__class__" in node or "__module__" in node or "__loader__" in node:
            kind = f"{node.get('__module__')}.{node.get('__class__')}"
            if kind not in TRUSTED.get(str(node.get("__loader__")), ()):
                raise LabError(f"holds {kind[:80]!r}, a type that no classical model of lenet_lab is made of")
            if kind == TREE:
                _check_tree(node["__reduce__"]["args"]["content"], archive)
            first = seen.setdefault(node["__id__"], node) if "__id__" in node else node
            if first is not node and _bare(first) != _bare(node):
                raise LabError("holds two things by one id")
        for inner in node.values():
            _check(inner, archive, seen)
    elif isinstance(node, list):
        for inner in node:
            _check(inner, archive, seen)


def _bare(node: Any) -> Any:
    """A node without the ids in it: those of passing objects differ when one thing is written twice."""
    if isinstance(node, dict):
        return {key: _bare(inner) for key, inner in node.items() if key != "__id__"}
    return [_bare(inner) for inner in node] if isinstance(node, list) else node


def _check_tree(arguments: Any, archive: zipfile.ZipFile) -> None:
    """A tree is allocated by its arguments: features, classes of each output, outputs."""
    _, classes, outputs = arguments
    counts = np.load(io.BytesIO(archive.read(classes["file"])), allow_pickle=False)
    if json.loads(outputs["content"]) != 1 or counts.shape != (1,) or counts.dtype != np.int64:
        raise LabError("holds a tree of more than one output")
