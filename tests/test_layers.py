"""The import rules of ARCHITECTURE.md, enforced on the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted((ROOT / "proxy").rglob("*.py"))}

# Neither clock nor chance nor anything outside: such a module's functions depend on their arguments alone.
PURE_LAYERS = (
    "proxy/ocsp/",
    "proxy/cache/layout",
    "proxy/cache/room",
    "proxy/tls/clienthello",
    "proxy/tls/engine",
    "proxy/tls/opening",
    "proxy/http/head",
    "proxy/http/codec",
    "proxy/http/messages",
    "proxy/http/fields",
    "proxy/http/chunked",
    "proxy/http/body",
    "proxy/http/patience",
    "proxy/http/forwarded",
    "proxy/http/balance",
    "proxy/http/routes",
    "proxy/http/rewriting",
    "proxy/settings/httpd/lines",
    "proxy/settings/httpd/nesting",
    "proxy/settings/httpd/envvars",
    "proxy/settings/httpd/tree",
    "proxy/settings/toml_text",
    "proxy/settings/httpd/block",
    "proxy/settings/httpd/sites",
    "proxy/settings/httpd/table",
    "proxy/settings/httpd/directives",
    "proxy/settings/httpd/rows_",
    "proxy/settings/httpd/addresses",
    "proxy/settings/httpd/naming",
    "proxy/settings/httpd/stapling",
    "proxy/settings/httpd/managed",
    "proxy/settings/httpd/tls",
    "proxy/settings/httpd/proxying",
    "proxy/settings/httpd/backends",
    "proxy/settings/httpd/headers",
    "proxy/settings/httpd/redirecting",
    "proxy/settings/httpd/http",
    "proxy/settings/httpd/locks",
    "proxy/settings/httpd/numbers",
    "proxy/settings/httpd/told",
    "proxy/entrances",
    "proxy/inheritance",
    "proxy/page",
    "proxy/svg",
    "proxy/names",
    "proxy/proxyprotocol",
    "proxy/redirect_answer",
    "proxy/clientcerts",
    "proxy/hsts",
    "proxy/forecast",
    "proxy/limits",
    "proxy/accesslog/record",
    "proxy/accesslog/fields",
    "proxy/accesslog/formats",
    "proxy/lab/compare_",
    "proxy/keeper/admin_access",
    "proxy/keeper/admin_answers",
    "proxy/keeper/admin_openapi",
    "proxy/keeper/admin_query",
    "proxy/keeper/admin_routes",
    "proxy/keeper/metrics_table",
    "proxy/keeper/metrics_text",
    "proxy/counters_layout",
    "proxy/counters_totals",
    "proxy/tls/failures",
    "proxy/log_repeats",
    "proxy/cli/status_view",
    "proxy/keeper/lanes",
    "proxy/keeper/status",
    "proxy/keeper/traffic",
    "proxy/keeper/watched",
    "proxy/keeper/freshness",
    "proxy/keeper/fleet/decide",
    "proxy/keeper/fleet/scripts",
    "proxy/keeper/fleet/value",
    "proxy/bench/arrivals",
    "proxy/bench/channel",
    "proxy/bench/difference",
    "proxy/bench/histogram",
    "proxy/bench/outcomes",
    "proxy/bench/plan",
    "proxy/bench/plot",
    "proxy/bench/report",
    "proxy/bench/staples",
    "proxy/bench/steps",
    "proxy/bench/tally",
)
IMPURE = (
    "asyncio",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uvloop",
)

# (what is imported) -> (who may import it); everybody else may not. Prefixes of module paths.
ONLY = {
    "OpenSSL": ("proxy/tls/", "proxy/lab/client", "proxy/bench/context", "proxy/bench/crowd", "proxy/bench/channel"),
    "aiohttp": ("proxy/keeper/", "proxy/lab/"),
    "redis": ("proxy/keeper/fleet/",),
    "proxy.keeper.fleet": ("proxy/keeper/",),
    "uvloop": ("proxy/worker", "proxy/bench/process"),
    "proxy.bench": ("proxy/bench/", "proxy/cli/"),
    "proxy.lab": ("proxy/lab/", "proxy/cli/"),
    "proxy.keeper": ("proxy/keeper/", "proxy/generation", "proxy/cli/"),
    "proxy.cli": ("proxy/cli/", "proxy/__main__"),
    "proxy.master": ("proxy/cli/",),
    "proxy.worker": ("proxy/generation", "proxy/plan"),
    "proxy.supervisor": ("proxy/master", "proxy/starting", "proxy/draining", "proxy/upgrade"),
}

# (who) -> (what it may not import)
NEVER = {
    "proxy/tls/": ("proxy.http", "proxy.keeper", "proxy.ocsp"),
    "proxy/http/": ("proxy.tls", "proxy.keeper", "proxy.ocsp", "proxy.cache"),
    "proxy/worker": ("proxy.keeper", "aiohttp"),
    "proxy/ocsp/": ("proxy.keeper", "proxy.tls", "proxy.http", "proxy.cache"),
    "proxy/bench/": ("proxy.keeper", "proxy.cache", "proxy.lab"),
    "proxy/cache/": ("proxy.keeper", "proxy.tls", "proxy.http", "proxy.ocsp"),
}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports when it runs, wherever in it the import stands."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def clocks_in(path: Path) -> set[str]:
    """Calls that tell the time or read a file without any import that shows it."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    names = {ast.unparse(call) for call in calls}
    return {name for name in names if name == "open" or name.rpartition(".")[2] in {"now", "utcnow", "today"}}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(PURE_LAYERS)])
def test_a_pure_module_is_told_the_time(name: str) -> None:
    """Time is an argument there, and nothing is opened."""
    assert clocks_in(MODULES[name]) == set()


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_what_its_layer_may(name: str) -> None:
    """Each rule is a line above; a file that breaks one is named with the import."""
    imported = imports_of(MODULES[name])
    broken = [
        f"{name} imports {module}"
        for module in sorted(imported)
        if (name.startswith(PURE_LAYERS) and any(is_within(module, impure) for impure in IMPURE))
        or any(is_within(module, what) and not name.startswith(who) for what, who in ONLY.items())
        or any(name.startswith(who) and any(is_within(module, each) for each in what) for who, what in NEVER.items())
    ]
    assert broken == []


def test_the_rules_speak_of_files_that_exist() -> None:
    """A rule about a file that was renamed would hold for ever."""
    prefixes = {*PURE_LAYERS, *NEVER, *(who for names in ONLY.values() for who in names)}
    assert [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in MODULES)] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import asyncio.tasks", {"asyncio.tasks"}),
        ("def f():\n    from proxy.keeper import fetch", {"proxy.keeper.fetch"}),
        ("if TYPE_CHECKING:\n    import socket", set()),
    ],
)
def test_the_walker_sees_imports_everywhere_but_for_typing(tmp_path: Path, source: str, expected: set[str]) -> None:
    """The checker itself: nested imports count, those for the type checker do not."""
    path = tmp_path / "module.py"
    path.write_text(source)
    assert imports_of(path) == expected
