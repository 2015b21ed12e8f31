"""Writing on, token by token.

loop.py         read the prompt, then a token at a time: `stream` for one sequence, `generate` for a batch
sampling.py     from logits to the next token: a function for each filter, and a draw
stops.py        where a text ends
explanation.py  how a token came to be chosen
"""

from mamba2_lab.generation.explanation import Explanation as Explanation
from mamba2_lab.generation.explanation import explain as explain
from mamba2_lab.generation.loop import GeneratedToken as GeneratedToken
from mamba2_lab.generation.loop import Position as Position
from mamba2_lab.generation.loop import Stream as Stream
from mamba2_lab.generation.loop import generate as generate
from mamba2_lab.generation.loop import go_on as go_on
from mamba2_lab.generation.loop import stream as stream
from mamba2_lab.generation.sampling import SLACK as SLACK
from mamba2_lab.generation.sampling import SamplingConfig as SamplingConfig
from mamba2_lab.generation.sampling import apply_temperature as apply_temperature
from mamba2_lab.generation.sampling import keep_min_p as keep_min_p
from mamba2_lab.generation.sampling import keep_top_k as keep_top_k
from mamba2_lab.generation.sampling import keep_top_p as keep_top_p
from mamba2_lab.generation.sampling import penalise_repetition as penalise_repetition
from mamba2_lab.generation.sampling import sample as sample
from mamba2_lab.generation.sampling import stages as stages
from mamba2_lab.generation.stops import Stop as Stop
