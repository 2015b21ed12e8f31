"""The files that say what is installed agree: pyproject.toml, constraints.txt, environment.yml, Makefile."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PIN_LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]

# A marker is judged with these in place of the machine that runs the test.
MARKER_NAMES = ("sys_platform", "platform_system", "os_name", "platform_machine")
PLATFORMS = {
    "Linux": ("linux", "Linux", "posix", "x86_64"),
    "macOS": ("darwin", "Darwin", "posix", "arm64"),
    "Windows": ("win32", "Windows", "nt", "AMD64"),
}
PYTHONS = ["3.11.2", "3.11.9", "3.12.3", "3.13.1", "3.14.0"]  # Debian 12's 3.11.2 has a pin of its own

# torch demands exact versions of these itself, and other ones for other releases of CUDA.
LEFT_TO_TORCH = re.compile(r"(cuda|nvidia)-|triton$")


def environment(platform: str, python: str) -> dict[str, str]:
    return dict(zip(MARKER_NAMES, PLATFORMS[platform], strict=True)) | {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def pins(where: dict[str, str] | None = None) -> dict[str, list[str]]:
    """{package: its versions in constraints.txt} on the platform `where`, by default on this machine."""
    found: dict[str, list[str]] = {}
    for line in PIN_LINES:
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(where):
            found.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    return found


def requirements(extras: set[str]) -> list[Requirement]:
    """What pyproject.toml asks for with these extras, those that refer to its own extras followed."""
    found = [Requirement(line) for line in PROJECT["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, EXTRAS[extra]):
            if requirement.name == PROJECT["name"]:
                found += requirements(requirement.extras)
            else:
                found.append(requirement)
    return found


def test_each_constraint_is_an_exact_public_pin():
    """No option, address, path or local build such as +cpu: the pins must hold on every machine."""
    pin = re.compile(r"[\w.-]+==[\w.]+( ; [\w\s.'<>=!()]+)?")
    assert [line for line in PIN_LINES if not pin.fullmatch(line)] == []


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_dependency_has_one_pin_inside_its_range(platform, python):
    where = environment(platform, python)
    pinned = pins(where)
    assert {name: versions for name, versions in pinned.items() if len(versions) > 1} == {}
    for requirement in requirements(set(EXTRAS)):
        if requirement.marker is not None and not requirement.marker.evaluate(where):
            continue
        versions = pinned.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement} has no pin in constraints.txt; run `make pins`"
        assert requirement.specifier.contains(versions[0]), f"{requirement} forbids its pin {versions[0]}"


def test_everything_installed_for_the_project_is_pinned():
    """Follow the dependencies of dependencies, as installed here: none is left to chance."""
    pinned, waiting, seen = pins(), requirements(set(EXTRAS)), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or LEFT_TO_TORCH.match(name):
            continue
        seen.add(key)
        assert name in pinned, f"{name} is installed but has no pin in constraints.txt; run `make pins`"
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            pytest.fail(f"{name} is not installed; `make test` installs what the tests need")
        for needed in map(Requirement, lines):
            extras = ["", *requirement.extras]
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)


def test_torch_is_pinned_to_the_version_the_makefile_names():
    version = re.search(r"^TORCH\s*=\s*(\S+)$", MAKEFILE, re.MULTILINE)[1]
    assert f"torch=={version}" in PIN_LINES


def test_makefile_asks_for_the_python_that_pyproject_requires():
    minimum = re.search(r"^MIN_PYTHON\s*=\s*(\S+)$", MAKEFILE, re.MULTILINE)[1]
    assert PROJECT["requires-python"] == f">={minimum}"


def test_ipykernel_is_new_enough_not_to_hang():
    specifier = next(line.specifier for line in requirements({"lab"}) if line.name == "ipykernel")
    assert not specifier.contains("7.3.0"), "7.1 and 7.3 hang when a cell prints under an Output widget"
    assert specifier.contains("7.4.0")


def test_conda_environment_installs_the_same():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    python = next(entry for entry in conda["dependencies"] if str(entry).startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python=") + ".0")
    assert "--constraint constraints.txt" in pip
    editable = next(line.removeprefix("--editable ") for line in pip if line.startswith("--editable "))
    chosen = set(re.fullmatch(r"\.\[(.+)\]", editable)[1].split(","))
    everything = {str(line) for line in requirements(set(EXTRAS))}
    assert {str(line) for line in requirements(chosen)} == everything


def test_citation_names_the_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_workflow_tries_the_oldest_torch_that_is_allowed():
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    oldest = re.search(r"torch==([\d.]+)", workflow)[1]
    torch = next(line for line in requirements(set()) if line.name == "torch")
    assert str(torch.specifier) == f">={oldest.removesuffix('.0')}"
