"""YAML that people write: whatever cannot be read raises one kind of error, and a key that stands twice is no secret.

Nothing heavy is imported here, because the Snakefile reads this module in every cluster job.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml


def load_yaml(text: str | bytes, parser: Any = yaml.SafeLoader) -> Any:
    """Return what one document of YAML holds, as plain values; None of an empty one. `parser` is one of PyYAML's safe loaders.

    Raises
    ------
    yaml.YAMLError
        If it is no YAML, holds a value that is none (a month 13, too deep a list), or a key twice in one section: the second would
        silently take the place of the first, with all that stands below it.
    """
    loader = parser(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repeated_keys(node)
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except Exception as error:  # PyYAML lets through whatever Python says of a date, a number, or a tag that does not fit
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None
    finally:
        loader.dispose()


def _refuse_repeated_keys(root: yaml.Node) -> None:
    waiting, known = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        inner = list(node.value) if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            inner = [value for _, value in node.value]
            _refuse_repeated(key for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        new = [each for each in inner if id(each) not in known]  # an anchor leads to the same part again
        known.update(map(id, new))
        waiting += new


def _refuse_repeated(keys: Iterable[yaml.ScalarNode]) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key in keys:
        line = key.start_mark.line + 1
        if (key.tag, key.value) in lines:
            first = lines[key.tag, key.value]
            raise yaml.YAMLError(f"the key {key.value!r} stands twice in one section, in line {first} and in line {line}")
        lines[key.tag, key.value] = line
