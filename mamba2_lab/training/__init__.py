"""Training a model: `fit`, and what stands around its loop.

step.py         READ FIRST: a step: batch, loss, gradients, clipping, update
loop.py         `fit`, and the loop: step after step, records, measurements, checkpoints
settings.py     what can be set, and which of it may change in the middle of a run
loss.py         what is made small, and what is measured: bits per byte
optimiser.py    what is decayed and what is not; how the learning rate rises and falls
lora.py         adapters: small matrices that are trained in the place of the weights
memory.py       how much memory it will need, told before it begins
records.py      what is kept of each step
process.py      one process or many, float32 or half precision, by Hugging Face accelerate
ctrl_c.py       an end that is asked for, beside work that must stay whole
restoring.py    what is put back, whatever ends a training
keeping.py      what a training writes while it runs
run_folder.py   what is kept on disk, and how it is known to be whole
resuming.py     whether what a folder holds is the run that is to go on
folder_lock.py  one training at a time in a folder
"""

from mamba2_lab.training.loop import fit as fit
from mamba2_lab.training.loss import bits_per_byte as bits_per_byte
from mamba2_lab.training.loss import next_token_loss as next_token_loss
from mamba2_lab.training.optimiser import learning_rate as learning_rate
from mamba2_lab.training.optimiser import parameter_groups as parameter_groups
from mamba2_lab.training.process import is_main_process as is_main_process
from mamba2_lab.training.process import number_of_processes as number_of_processes
from mamba2_lab.training.process import require_a_compiler as require_a_compiler
from mamba2_lab.training.records import Record as Record
from mamba2_lab.training.settings import PRECISIONS as PRECISIONS
from mamba2_lab.training.settings import TrainingConfig as TrainingConfig
