"""What a network's exported graph may hold, checked before torch reads it.

`torch.export.load` unpickles records that ask for it, evaluates the graph's symbolic sizes and guards as Python, looks
operators up by any path below `torch`, and writes the graph's names into source that it runs. A graph of ours needs
none of that but plain sizes, ATen operators and identifiers, so whatever is more is refused.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from lenet_lab.records import LabError

_RECORDS = re.compile(
    r"model/(archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id|models/model\.json"
    r"|data/weights/weight_\d+|data/weights/model_weights_config\.json"
    r"|data/constants/tensor_\d+|data/constants/model_constants_config\.json|data/sample_inputs/model\.pt)"
)
_MAX = 1 << 30
_OPERATOR = (
    r"torch\.ops\.aten\.\w+\.\w+|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge)"
)
_NODE_STACK = r"[\w.,;@:\[\]()<> -]*"
_RULES = {
    "stack_trace": r"(?s:.*)",
    "nn_module_stack": _NODE_STACK,
    "torch_fn": _NODE_STACK,
    "torch_version": r"[\w.+-]*",
}
_SYMBOLIC = {
    "Symbol",
    "Integer",
    "Mul",
    "Add",
    "Mod",
    "FloorDiv",
    "integer",
    "positive",
    "nonnegative",
    "True",
    "False",
}
_NOT_OURS = {
    "as_operator",
    "as_custom_obj",
    "as_graph",
    "as_opaque",
    "custom_obj",
    "custom_obj_values",
    "guards_code",
    "treespec_namedtuple_fields",
    "source_fn_stack",
    "from_node",
    "custom",
}


def check(path: Path) -> None:
    """Refuse an exported network that asks torch for more than tensors and ATen operators.

    Raises:
        LabError: names the record and what is wrong with it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _MAX or len({info.filename for info in infos}) != len(infos):
                raise LabError("is too large, or holds a record twice")
            for info in infos:
                if not _RECORDS.fullmatch(info.filename):
                    raise LabError(f"record {info.filename[:80]!r} is none of an exported network of lenet_lab")
            for name in archive.namelist():
                if name.endswith("_config.json"):
                    _check_payloads(name, json.loads(archive.read(name)))
            _check_graph(json.loads(archive.read("model/models/model.json")), "")
    except LabError as error:
        raise LabError(f"{path.name}: {error}") from None
    except Exception:  # whatever damage or malice makes of a zip or of JSON
        raise LabError(f"{path.name}: is no exported network that can be read") from None


def _check_payloads(name: str, config: Any) -> None:
    for payload in config["config"].values():
        if payload["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"]):
            raise LabError(f"record {name} asks for unpickling")
        _check_graph(payload, "")


def _check_graph(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for inner, content in value.items():
            if inner in _NOT_OURS and content:
                raise LabError(f"the graph holds {inner!r}, which no network of lenet_lab needs")
            _check_text(inner, "")
            if inner == "target" and "inputs" in value:
                _check_operator(content)
            else:
                _check_graph(content, inner)
    elif isinstance(value, list):
        for content in value:
            _check_graph(content, key)
    elif isinstance(value, str):
        _check_text(value, key)


def _check_operator(target: Any) -> None:
    if not isinstance(target, str) or not re.fullmatch(_OPERATOR, target):
        raise LabError(f"the graph calls {str(target)[:80]!r}, which is no operator of a network")


def _check_text(text: str, key: str) -> None:
    if key == "expr_str":
        bare = re.sub(r"'[su]\d+'", "", text)
        good = set(re.findall(r"[^\W\d]\w*", bare)) <= _SYMBOLIC and re.fullmatch(r"[\w\s(),=-]*", bare) is not None
    elif key in ("in_spec", "out_spec"):
        _check_spec(json.loads(text))
        return
    else:
        good = re.fullmatch(_RULES.get(key, r"[\w.]*"), text) is not None
    if not good or (key != "stack_trace" and len(text) > 5000):
        raise LabError(f"the graph holds a text that is none of a network's: {text[:80]!r}")


def _check_spec(spec: Any) -> None:
    """How arguments are nested: plain tuples, lists and dictionaries."""
    if isinstance(spec, list):
        for part in spec:
            _check_spec(part)
    elif isinstance(spec, dict):
        kind, context = spec.get("type"), spec.get("context")
        if kind not in (None, "builtins.tuple", "builtins.list", "builtins.dict"):
            raise LabError(f"the graph's arguments are of type {str(kind)[:80]!r}")
        if context is not None and not re.fullmatch(r'null|\[[\w", ]*\]', context):
            raise LabError("the graph's arguments are nested in a way that no network of lenet_lab needs")
        _check_spec(spec["children_spec"])
