"""Which installed packages may be learned from: those whose authors say that their source is free to use so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

# Licences that ask for no more than a notice, as classifiers, SPDX expressions and free text name them.
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|Python-2\.0|Zlib|Unlicense|HPND|CC0|Boost|BSL-1\.0)\b"
)
# One of these beside them, and a person would have to read what is meant.
OTHER = re.compile(r"GPL|Affero|Proprietary|NVIDIA|EULA|Commercial|MPL|Mozilla|Creative Commons|CC-BY", re.IGNORECASE)
LONGEST_NAME = 100  # characters; beyond that the field holds the text of a licence, not its name


@dataclass(frozen=True)
class Package:
    """A distribution under a permissive licence: what it is called, which version, and the licence in its words."""

    name: str
    version: str
    licence: str


def permissive_packages() -> dict[str, Package]:
    """Installed packages under a permissive licence, by the name they are imported by.

    A package that states no licence, or one that is not known to be permissive, is left out, and so is a name that
    several packages share unless all of them qualify.
    """
    packages = {}
    for imported, names in metadata.packages_distributions().items():
        found = [_package(metadata.distribution(name)) for name in sorted(set(names))]
        if all(found):
            packages[imported] = found[0]
    return {name: package for name, package in sorted(packages.items()) if package is not None}


def _package(distribution: metadata.Distribution) -> Package | None:
    licence = stated_licence(distribution.metadata)
    if not is_permissive(licence):
        return None
    return Package(distribution.metadata["Name"], distribution.version, licence)


def stated_licence(fields: metadata.PackageMetadata) -> str:
    """The licence that a package names: its SPDX expression, else its classifiers, else its free text; "" for none."""
    if "License-Expression" in fields:
        return fields["License-Expression"]
    classifiers = [text for text in fields.get_all("Classifier") or [] if text.startswith("License ::")]
    named = [text.split(" :: ")[-1] for text in classifiers if text.count(" :: ") > 1]  # not just "OSI Approved"
    if named:
        return ", ".join(named)
    text = fields["License"].strip() if "License" in fields else ""
    return text if len(text) <= LONGEST_NAME else ""


def is_permissive(licence: str) -> bool:
    """Whether the name is one of a licence that asks for no more than a notice."""
    return bool(PERMISSIVE.search(licence)) and not OTHER.search(licence)
