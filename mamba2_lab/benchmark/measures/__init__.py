"""What is timed: each measure sets up its contestants, which compute the same thing from the same numbers.

A measure is a function of settings that returns contestants by name. "ours" is the code of this package as it stands;
"transformers" its Mamba2 in plain torch, given the same weights, "llama.cpp" and "mlx-lm" those programs; a floor is
what the machine would need for the indispensable part alone. Only the three generations of Mamba compute different
things, at one size.
"""

from mamba2_lab.benchmark.measures.bits import precisions as precisions
from mamba2_lab.benchmark.measures.bits import precisions_bytes as precisions_bytes
from mamba2_lab.benchmark.measures.contestants import Contestants as Contestants
from mamba2_lab.benchmark.measures.generations import GENERATIONS as GENERATIONS
from mamba2_lab.benchmark.measures.generations import generations_decode as generations_decode
from mamba2_lab.benchmark.measures.generations import generations_parameters as generations_parameters
from mamba2_lab.benchmark.measures.generations import generations_prefill as generations_prefill
from mamba2_lab.benchmark.measures.generations import generations_state as generations_state
from mamba2_lab.benchmark.measures.generations import generations_training as generations_training
from mamba2_lab.benchmark.measures.mixers import ceilings as ceilings
from mamba2_lab.benchmark.measures.mixers import parts as parts
from mamba2_lab.benchmark.measures.mixers import two_places as two_places
from mamba2_lab.benchmark.measures.models import MANY_STEPS as MANY_STEPS
from mamba2_lab.benchmark.measures.models import STEPS as STEPS
from mamba2_lab.benchmark.measures.models import after_reading as after_reading
from mamba2_lab.benchmark.measures.models import beside as beside
from mamba2_lab.benchmark.measures.models import decode as decode
from mamba2_lab.benchmark.measures.models import kept_bytes as kept_bytes
from mamba2_lab.benchmark.measures.models import prefill as prefill
from mamba2_lab.benchmark.measures.models import reading as reading
from mamba2_lab.benchmark.measures.peers import PEERS as PEERS
from mamba2_lab.benchmark.measures.peers import peers_beside as peers_beside
from mamba2_lab.benchmark.measures.peers import peers_decode as peers_decode
from mamba2_lab.benchmark.measures.peers import peers_prefill as peers_prefill
from mamba2_lab.benchmark.measures.peers import peers_without as peers_without
from mamba2_lab.benchmark.measures.peers import peers_without_prefill as peers_without_prefill
from mamba2_lab.benchmark.measures.scans import LARGE_SHAPES as LARGE_SHAPES
from mamba2_lab.benchmark.measures.scans import REPLAYS as REPLAYS
from mamba2_lab.benchmark.measures.scans import scan_alone as scan_alone
from mamba2_lab.benchmark.measures.scans import scan_bfloat16 as scan_bfloat16
from mamba2_lab.benchmark.measures.scans import scan_forward as scan_forward
from mamba2_lab.benchmark.measures.scans import scan_inputs as scan_inputs
from mamba2_lab.benchmark.measures.scans import scan_ways as scan_ways
from mamba2_lab.benchmark.measures.training import training_step as training_step
