"""The recurrence, in four ways that give the same numbers.

    recurrence   READ FIRST: `step` is one turn, `sequential` all of them in order, as the paper writes it
    dual         `quadratic`: the same map as masked attention
    chunks       `chunked`, SSD: masked attention inside chunks, the recurrence between them; what the model uses
    per_channel  `selective`, the scan of Mamba-1, in which every channel and every number of its state has a decay
    trapezoid    `trapezoidal`, Mamba-3: every token writes twice, and a head may read and write in several ranks
    arguments    what all of them do with their arguments: shapes, dtypes, documents

Notation, everywhere in this package:

    b batch   l length   h heads   p headdim   g groups   n d_state   q chunk_size   c chunks
    x (b,l,h,p)   log_decay (b,l,h), <= 0   B, C (b,l,g,n)   state (b,h,p,n)   y (b,l,h,p)

    h_t = exp(log_decay_t) h_{t-1} + x_t B_t^T,   y_t = h_t C_t

Heads share the B and C of their group: head i reads group i // (h/g). Mamba-2 passes x*dt and dt*A; nothing here knows
about dt. Whatever the dtype of x, decays and states that are carried on are float32 (float64 for float64 inputs): a
decay of 0.999 is 1.0 in bfloat16, and a memory that never fades is another model.

The paper is Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060. What makes all this fast stands in
`mamba2_lab.fast`, beside the definitions that are read here.
"""

from mamba2_lab.scan.arguments import document_starts as document_starts
from mamba2_lab.scan.chunks import chunked as chunked
from mamba2_lab.scan.dual import quadratic as quadratic
from mamba2_lab.scan.dual import segsum as segsum
from mamba2_lab.scan.per_channel import selective as selective
from mamba2_lab.scan.per_channel import selective_advance as selective_advance
from mamba2_lab.scan.recurrence import advance as advance
from mamba2_lab.scan.recurrence import sequential as sequential
from mamba2_lab.scan.recurrence import step as step
from mamba2_lab.scan.trapezoid import Written as Written
from mamba2_lab.scan.trapezoid import trapezoidal as trapezoidal
from mamba2_lab.scan.trapezoid import trapezoidal_step as trapezoidal_step
