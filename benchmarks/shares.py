"""Whose instructions they are: a callgrind profile summed up by the libraries that they were executed in. PURE.

cryptography's wheel has OpenSSL inside, linked statically into a library that holds its Rust code and cffi's glue too;
those are told apart by the names of the functions, which the wheel keeps.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable

Owner = Literal["OpenSSL", "libc", "Python", "glue", "the program", "others"]
OWNERS: tuple[Owner, ...] = get_args(Owner)
OUTSIDE: tuple[Owner, ...] = ("Python", "glue", "the program", "others")
"""What is neither OpenSSL nor libc."""

_WHEEL = "_rust.abi3.so"
# cffi's generated functions, pyo3 and the rest of the Rust code; all else in that library is OpenSSL's.
_GLUE = re.compile(r"_cffi_|.*::|_R[A-Z]|_ZN|<|core::|PyInit|rust_|__rust|PyO3")
_COSTS = (*"0123456789+-*",)
_POSITION = re.compile(r"(ob|fl|fi|fe|fn|cob|cfi|cfl|cfn)=\((\d+)\)(?: (.*))?")
_LIBRARIES: tuple[tuple[str, Owner], ...] = (
    (r"lib(ssl|crypto)\.so", "OpenSSL"),
    (r"(libc|libm|libpthread|libdl|ld-linux.*|libc-\d.*)\.so", "libc"),
    (r"libpython|python3|uvloop|_cffi_backend|lib-dynload|\.cpython-|\.abi3\.", "Python"),
    (r"(nginx|apache2|haproxy|hitch)$|mod_\w+\.so|libapr", "the program"),
)


def owner(library: str, function: str) -> Owner:
    if library.endswith(_WHEEL):
        return "glue" if _GLUE.match(function) else "OpenSSL"
    name = library.rpartition("/")[2]
    return next((found for pattern, found in _LIBRARIES if re.search(pattern, name)), "others")


def by_function(profile: Iterable[str]) -> Counter[tuple[str, str]]:
    """Sum up what each function executed by itself: (library, function) -> instructions.

    Reads callgrind's own format: names are numbered when they first come, and the line after ``calls=`` is the cost of
    the function that was called, which is counted there.
    """
    names: dict[str, str] = {}
    library = function = ""
    is_called = False
    costs: Counter[tuple[str, str]] = Counter()
    for line in profile:
        if line.startswith(_COSTS):
            if is_called:
                is_called = False
            else:
                costs[library, function] += int((*line.split(), "0")[1])  # a cost of 0 is left out
        elif line.startswith("calls="):
            is_called = True
        elif found := _POSITION.match(line):
            what, number, name = found.groups()
            kind = "fn" if what.endswith("fn") else "ob" if what.endswith("ob") else "fl"
            if name is not None:
                names[kind + number] = name.strip()
            if what == "ob":
                library = names[kind + number]
            elif what == "fn":
                function = names[kind + number]
    return costs


def by_owner(profile: Iterable[str]) -> dict[Owner, int]:
    shares: Counter[Owner] = Counter()
    for (library, function), cost in by_function(profile).items():
        shares[owner(library, function)] += cost
    return dict(shares)
