"""The table of contents: one list for the map in notebook 00, the README and the tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """One notebook: its number, its title, the part it belongs to, and what it does in one line."""

    number: int
    title: str
    part: str
    summary: str

    @property
    def slug(self) -> str:
        """Name of its notebook file, without the ending: 00_start_here."""
        return f"{self.number:02d}_{self.topic}"

    @property
    def topic(self) -> str:
        """Name of its modules of figures and of exercises: start_here."""
        return "_".join("".join(letter if letter.isalnum() else " " for letter in self.title.lower()).split())


CHAPTERS = (
    Chapter(0, "Start here", "Begin", "your machine, first words, a first look"),
    Chapter(1, "A memory that fades", "Memory", "one number that forgets, and how fast"),
    Chapter(2, "One system, three computations", "Memory", "a loop, a convolution, a matrix: equal"),
    Chapter(3, "Choosing what to remember", "Memory", "a memory that looks at its input"),
    Chapter(4, "Duality", "Algorithm", "the same map as masked attention"),
    Chapter(5, "Chunks", "Algorithm", "attention inside, recurrence between"),
    Chapter(6, "The whole block", "Model", "every piece of Mamba-2, built and tested"),
    Chapter(7, "The language model", "Model", "blocks on a residual stream"),
    Chapter(8, "Training", "Model", "from noise to Python, in bits per byte"),
    Chapter(9, "Generation", "Use", "prefill, step, sample; the playground"),
    Chapter(10, "Watching memory", "Use", "what is in the state, token by token"),
    Chapter(11, "Limits", "Use", "what a state of fixed size cannot hold"),
    Chapter(12, "MPS vs CPU", "Further", "honest timing on this machine"),
    Chapter(13, "Turning states", "Further", "complex decays, and Mamba-3"),
    Chapter(14, "Real checkpoints", "Further", "the published models, loaded here"),
)
