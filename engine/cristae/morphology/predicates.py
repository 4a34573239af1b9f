"""Predicates: which objects a polars predicate may still keep, when only the index is known.

A predicate is cut at its ANDs. A part that asks for index columns alone is simply evaluated. A part that also asks for
columns nobody has computed is evaluated with those as null, and true-or-null stays: by Kleene's logic a false then
does not depend on them. That holds for comparisons, arithmetic, and, or, not; a part with anything else in it (is_null,
fill_null, when, a Python function) is left for later, when the columns are there.

Whatever stays is only a candidate: the predicate itself is applied again to the finished rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

OPERATORS = frozenset(
    {"And", "Or", "LogicalAnd", "LogicalOr", "Eq", "NotEq", "Lt", "LtEq", "Gt", "GtEq"}
    | {"Plus", "Minus", "Multiply", "Divide", "TrueDivide", "FloorDivide", "Modulus"}
)
"""Of polars' own tree: null where an operand is null, or Kleene's and, or."""


def candidates(predicate: pl.Expr, index: pl.DataFrame, schema: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of `index` that `predicate` may keep, whatever the columns say that are in `schema` but not in it."""
    unknown = [name for name in predicate.meta.root_names() if name not in index.columns]
    frame = index.with_columns(pl.lit(None, dtype=schema[name]).alias(name) for name in dict.fromkeys(unknown))
    for part, tree in conjuncts(predicate):
        if set(part.meta.root_names()) <= set(index.columns) or passes_null(tree):
            frame = frame.filter(part.fill_null(True))
    return frame.select(index.columns)


def conjuncts(predicate: pl.Expr) -> Iterator[tuple[pl.Expr, Any]]:
    """The parts of a predicate that must all be true, each with its tree; None for a tree that polars does not show."""
    tree = _tree(predicate)
    if isinstance(tree, dict) and tree.get("BinaryExpr", {}).get("op") == "And":
        for part in predicate.meta.pop():
            yield from conjuncts(part)
    else:
        yield predicate, tree


def passes_null(tree: Any) -> bool:
    """Whether a false of this expression, with some columns null, stays false whatever their values."""
    match tree:
        case {"Column": _} | {"Literal": _}:
            return True
        case {"BinaryExpr": {"left": left, "op": str(op), "right": right}}:
            return op in OPERATORS and passes_null(left) and passes_null(right)
        case {"Function": {"input": inputs, "function": {"Boolean": "Not" | "IsNan" | "IsNotNan" | "IsFinite"}}}:
            return all(map(passes_null, inputs))
        case {"Function": {"input": inputs, "function": {"Boolean": {"IsBetween": _}}}}:
            return all(map(passes_null, inputs))
        case {"Function": {"input": [item, {"Literal": _}], "function": {"Boolean": {"IsIn": {"nulls_equal": False}}}}}:
            return passes_null(item)
        case {"Cast": {"expr": inner}}:
            return passes_null(inner)
    return False


def _tree(expression: pl.Expr) -> Any:
    # What holds Python code may not be serialisable; it is then one opaque part.
    try:
        return json.loads(expression.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError):
        return None
