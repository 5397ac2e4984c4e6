"""What the sources must never do: unpickle, run code that comes with a model, trust a text, put code into a page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import BASE_DIR

PACKAGES = ("accounts", "benchmarks", "clients", "config", "demo", "labeling", "rewardmodel", "training")
# Readers of formats that can run code while they are read.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
MARKS_SAFE = {"labeling/display/rendering.py"}  # behind the sanitizer
TAG = re.compile(r"\{%.*?%\}", re.DOTALL)
INLINE = re.compile(
    r"""<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+\s*=|\shx-on|javascript:|\shx-vals=['"]?js:""", re.IGNORECASE
)
TRUSTING = re.compile(r"\|\s*safe(?:seq)?\b|autoescape\s+off")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((BASE_DIR / package).rglob("*.py"))]


def named(call: ast.Call) -> str:
    """`torch.load` of `torch.load(...)`."""
    return ast.unparse(call.func)


def option(call: ast.Call, name: str) -> object:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), None)


def breaches(tree: ast.AST, path: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            yield from (f"imports {module}" for module in modules if module.split(".")[0] in UNSAFE_MODULES)
            names = [name.name for name in node.names] if isinstance(node, ast.ImportFrom) else []
            if {"mark_safe", "SafeData"} & set(names) and path not in MARKS_SAFE:
                yield "marks a text as safe"
        if not isinstance(node, ast.Call):
            continue
        call = named(node)
        if call in ("eval", "exec", "compile", "os.system", "os.popen"):
            yield f"calls {call}"
        if call == "torch.load" and option(node, "weights_only") != "True":
            yield "loads tensors that may be more than tensors"
        if call.endswith("np.load") or call == "numpy.load":
            yield "loads arrays that may be more than arrays"
        if option(node, "shell") == "True":
            yield f"{call} through a shell"
        if option(node, "trust_remote_code") not in (None, "False") or option(node, "allow_pickle") == "True":
            yield f"{call} runs what comes with a file"
        model = re.search(r"AutoModel\w*\.from_pretrained$|^auto\.from_pretrained$", call)
        if model and path.startswith(("rewardmodel/", "training/")) and option(node, "use_safetensors") != "True":
            yield f"{call} may read other weights than safetensors"


def test_no_source_reads_what_can_run() -> None:
    found = [
        f"{name}: {breach}"
        for path in sources()
        for name in [str(path.relative_to(BASE_DIR))]
        for breach in breaches(ast.parse(path.read_text()), name)
    ]
    assert found == []
    assert len(sources()) > 150


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "from django.utils.safestring import mark_safe",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "subprocess.run(line, shell=True)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        "transformers.AutoModelForCausalLM.from_pretrained(name)",
        "eval(text)",
    ],
)
def test_the_check_finds_each_of_them(source: str) -> None:
    assert len(list(breaches(ast.parse(source), "training/any.py"))) == 1


def in_template(text: str) -> list[str]:
    return [match[0].strip() for match in (*INLINE.finditer(TAG.sub("", text)), *TRUSTING.finditer(text))]


def test_no_template_has_code_or_style_in_it_or_trusts_a_text() -> None:
    templates = sorted((BASE_DIR / "templates").rglob("*.html"))
    found = {str(path.relative_to(BASE_DIR)): found for path in templates if (found := in_template(path.read_text()))}
    assert found == {}
    for bad in ("<script>x</script>", '<b style="x">', '<b onclick="x">', "{{ text|safe }}", "{% autoescape off %}"):
        assert len(in_template(bad)) == 1
    assert not in_template('{% with one=1 %}<script src="/x.js"></script>{{ url|json_script:"x" }}')
