"""Only packages whose authors allow it are learned from."""

from email.message import Message
from types import SimpleNamespace

import pytest

from mamba2_lab.data import Package, licences, permissive_packages
from mamba2_lab.data.licences import is_permissive, stated_licence


def fields(*pairs: tuple[str, str]) -> Message:
    message = Message()
    for name, value in pairs:
        message[name] = value
    return message


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([("License-Expression", "MIT"), ("License", "something else")], "MIT"),
        ([("Classifier", "License :: OSI Approved :: BSD License"), ("License", "see LICENSE")], "BSD License"),
        (
            [
                ("Classifier", "License :: OSI Approved :: MIT License"),
                ("Classifier", "Topic :: Software Development"),
                ("Classifier", "License :: OSI Approved :: Apache Software License"),
            ],
            "MIT License, Apache Software License",
        ),
        ([("Classifier", "License :: OSI Approved"), ("License", " BSD 3-Clause ")], "BSD 3-Clause"),
        ([("License", "Permission is hereby granted, free of charge, " * 9)], ""),
        ([], ""),
    ],
)
def test_the_licence_is_the_one_that_the_package_states(stated, expected) -> None:
    assert stated_licence(fields(*stated)) == expected


@pytest.mark.parametrize(
    ("licence", "verdict"),
    [
        ("MIT", True),
        ("BSD-3-Clause", True),
        ("Apache-2.0 OR BSD-2-Clause", True),
        ("Apache Software License", True),
        ("Python Software Foundation License", True),
        ("BSL-1.0", True),
        ("GNU General Public License v3 (GPLv3)", False),
        ("MIT OR GPL-2.0-only", False),
        ("LGPL-3.0", False),
        ("MPL-2.0 AND MIT", False),
        ("Other/Proprietary License", False),
        ("LicenseRef-NVIDIA-Proprietary", False),
        ("PERMITTED", False),  # no name of a licence, though MIT is in it
        ("", False),
    ],
)
def test_a_licence_is_permissive_or_not(licence, verdict) -> None:
    assert is_permissive(licence) is verdict


def test_packages_come_by_import_name_and_only_if_all_who_share_it_allow_it(monkeypatch) -> None:
    stated = {"Good": "MIT", "Also": "BSD-2-Clause", "Bad": "GPL-3.0", "Silent": ""}
    names = {"good": ["Good", "Good"], "shared": ["Bad", "Good"], "both": ["Good", "Also"], "silent": ["Silent"]}

    def distribution(name: str) -> SimpleNamespace:
        return SimpleNamespace(metadata=fields(("Name", name), ("License-Expression", stated[name])), version="1.0")

    fake = SimpleNamespace(packages_distributions=lambda: names, distribution=distribution)
    monkeypatch.setattr(licences, "metadata", fake)
    assert permissive_packages() == {
        "good": Package("Good", "1.0", "MIT"),
        "both": Package("Also", "1.0", "BSD-2-Clause"),
    }


def test_what_is_installed_here_is_sorted_out() -> None:
    found = permissive_packages()
    assert found["einops"].licence.startswith("MIT") and found["torch"].name == "torch"
    assert "hypothesis" not in found  # Mozilla Public License
