"""YAML as people mean it: names stay as they were written, and nothing is given twice."""

from collections.abc import Hashable
from typing import Any, Final

import yaml

ERRORS: Final = (yaml.YAMLError, ValueError, RecursionError)
"""What `loads` raises; ValueError is an impossible date."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        self.flatten_mapping(node)
        found: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            # YAML 1.1 would read the names 000001, on and 1_0 as 1, True and 10.
            scalar = isinstance(key_node, yaml.ScalarNode)
            key = key_node.value if scalar else self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "a name must be text", key_node.start_mark)
            if key in found:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=deep)
        return found


def loads(text: str) -> Any:
    """Return what YAML `text` holds, with every name of a mapping as the text that was written.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: see `ERRORS`.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
