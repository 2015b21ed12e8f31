"""Why a token was chosen, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mamba2_lab.generation import Explanation
from mamba2_lab.widgets.playground.labels import FIELDS
from mamba2_lab.words import counted, percent, quoted


def in_words(explanation: Explanation, names: Sequence[str]) -> list[str]:
    """What each filter did, a sentence each: first the choice, then the filters in their order.

    Args:
        names: of the candidates of the explanation.
    """
    chosen = explanation.candidates.index(explanation.token)
    before, after = (explanation.probabilities[stage][chosen] for stage in (0, -1))
    sentences = [
        f"The model gave {quoted(names[chosen])} a probability of {percent(before)} "
        f"(log-probability {explanation.logprob:.2f}, {-explanation.logprob / math.log(2):.1f} bits). "
        f"{_filtered(explanation)} {percent(after)}."
    ]
    for stage in range(1, len(explanation.stages)):
        sentences.append(_what_it_did(explanation, names, stage))
    return sentences


def _filtered(explanation: Explanation) -> str:
    left = explanation.left[-1]
    rest = "it alone was left" if left == 1 else f"{left:,} tokens were left"
    return f"It was drawn when {rest} to draw from, with"


def _what_it_did(explanation: Explanation, names: Sequence[str], stage: int) -> str:
    name = FIELDS[explanation.stages[stage]]
    count = explanation.left[stage - 1] - explanation.left[stage]
    if count == 0:
        return f"{name}: removed nothing" + ("; it changed the odds." if _changed(explanation, stage) else ".")
    rows = zip(names, explanation.probabilities[stage - 1], explanation.probabilities[stage], strict=True)
    gone = [quoted(text) for text, before, after in rows if before > 0 and after == 0]
    among = f", among them {', '.join(gone[:5])}" if gone else ""
    return f"{name}: removed {counted(count, 'token')} that had {percent(explanation.removed[stage])} together{among}."


def _changed(explanation: Explanation, stage: int) -> bool:
    pairs = zip(explanation.probabilities[stage - 1], explanation.probabilities[stage], strict=True)
    return any(abs(before - after) > 1e-6 for before, after in pairs)
