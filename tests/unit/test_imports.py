"""No module imports itself by way of others, imports for type checkers counted."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def circle(imports: dict[str, set[str]]) -> list[str]:
    """One circle of modules, each of which imports the next; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]
    return []


def test_there_is_no_circle() -> None:
    graph = grimp.build_graph("pglido", exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 200
    # For type checkers alone, and counted.
    assert "pglido.worker.pool_runtime" in imports["pglido.worker.connections"]
    assert circle(imports) == []


@pytest.mark.parametrize("third", [set(), {"a"}])
def test_a_circle_is_found(third: set[str]) -> None:
    found = circle({"a": {"b"}, "b": {"c"}, "c": third, "d": {"a"}})
    assert set(found) == ({"a", "b", "c"} if third else set())
