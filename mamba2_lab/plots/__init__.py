"""Figures: data in, a matplotlib Figure out, nothing else.

`style` holds the style sheet and `show`, which puts a figure into a notebook with text for those who cannot see it; the
other modules hold the figures, chapter by chapter.
"""

from mamba2_lab.plots.a_memory_that_fades import (
    barrels,
    exact_and_simple,
    explosions,
    fading,
    looks,
    rain_and_level,
)
from mamba2_lab.plots.choosing_what_to_remember import (
    decay_tables,
    held_at_end,
    kept_over_a_line,
    painted_memory,
    recall_by_length,
    two_step_sizes,
)
from mamba2_lab.plots.chunks import chunk_steps, costs, errors_after_a_cut
from mamba2_lab.plots.debugger import attention_rows, film_strip, strengths
from mamba2_lab.plots.duality import below_the_diagonal, error_by_length, word_tables
from mamba2_lab.plots.generation import beam_tree, filters, memory_by_length, surprises
from mamba2_lab.plots.limits import bits_along, interference, needle_by_distance, recall
from mamba2_lab.plots.mps_vs_cpu import (
    error_ledger,
    ratio_map,
    repeats,
    roofline,
    time_by_size,
    timeline,
    timings,
)
from mamba2_lab.plots.one_system_three_computations import (
    echoes,
    matrices,
    multiply_adds_by_length,
    three_computations,
    two_outputs,
)
from mamba2_lab.plots.playground import candidates
from mamba2_lab.plots.real_checkpoints import half_lives_by_model, where_it_lies
from mamba2_lab.plots.start_here import course_map, state_changes
from mamba2_lab.plots.style import as_html, show
from mamba2_lab.plots.the_language_model import (
    expectations,
    logit_lens,
    memory_reach,
    model_map,
    signal_through_depth,
    weight_shares,
)
from mamba2_lab.plots.the_whole_block import block_diagram, cages, standing_still, step_sizes
from mamba2_lab.plots.training import (
    Live,
    comparison,
    gradient_errors,
    kept_for_gradients,
    learning_curve,
    learning_rates,
    losses,
    rate_and_norm,
    recall_curves,
    rounded_memories,
)
from mamba2_lab.plots.turning_states import (
    errors_by_step,
    errors_by_token,
    hands,
    one_way,
    surprise_by_position,
)
from mamba2_lab.plots.watching_memory import (
    fading_pair,
    gate_openers,
    half_lives,
    head_effects,
    losses_by_token,
    probe_scores,
    reaches,
    signed_maps,
)
from mamba2_lab.words import visible

__all__ = [
    "Live",
    "as_html",
    "attention_rows",
    "barrels",
    "beam_tree",
    "below_the_diagonal",
    "bits_along",
    "block_diagram",
    "cages",
    "candidates",
    "chunk_steps",
    "comparison",
    "costs",
    "course_map",
    "decay_tables",
    "echoes",
    "error_by_length",
    "error_ledger",
    "errors_after_a_cut",
    "errors_by_step",
    "errors_by_token",
    "exact_and_simple",
    "expectations",
    "explosions",
    "fading",
    "fading_pair",
    "film_strip",
    "filters",
    "gate_openers",
    "gradient_errors",
    "half_lives",
    "half_lives_by_model",
    "hands",
    "head_effects",
    "held_at_end",
    "interference",
    "kept_for_gradients",
    "kept_over_a_line",
    "learning_curve",
    "learning_rates",
    "logit_lens",
    "looks",
    "losses",
    "losses_by_token",
    "matrices",
    "memory_by_length",
    "memory_reach",
    "model_map",
    "multiply_adds_by_length",
    "needle_by_distance",
    "one_way",
    "painted_memory",
    "probe_scores",
    "rain_and_level",
    "rate_and_norm",
    "ratio_map",
    "reaches",
    "recall",
    "recall_by_length",
    "recall_curves",
    "repeats",
    "roofline",
    "rounded_memories",
    "show",
    "signal_through_depth",
    "signed_maps",
    "standing_still",
    "state_changes",
    "step_sizes",
    "strengths",
    "surprise_by_position",
    "surprises",
    "three_computations",
    "time_by_size",
    "timeline",
    "timings",
    "two_outputs",
    "two_step_sizes",
    "visible",
    "weight_shares",
    "where_it_lies",
    "word_tables",
]
