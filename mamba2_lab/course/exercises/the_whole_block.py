"""Exercises of notebook 06."""
# mypy: allow-untyped-defs

import math

import torch
import torch.nn.functional as F

from mamba2_lab.config import Mamba2Config
from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.exercises.a_memory_that_fades import discretise
from mamba2_lab.course.inputs import Draws
from mamba2_lab.layers import Mamba2
from mamba2_lab.scan import chunked


def silu(v):
    return v / (1 + torch.exp(-v))


# The way in


@reference(
    stars=1,
    hints=(
        "The first d_inner entries are z, the last nheads are raw_dt. What lies between is xBC.",
        "`projected.split([...], dim=-1)` cuts the last axis into pieces of the widths that you list.",
    ),
)
def split_projection(projected, d_inner, nheads):
    """(..., d_inner + conv_dim + nheads) -> z (..., d_inner), xBC (..., conv_dim), raw_dt (..., nheads)."""
    conv_dim = projected.shape[-1] - d_inner - nheads
    return projected.split([d_inner, conv_dim, nheads], dim=-1)


split_projection.returns("`z`", "`xBC`", "`raw_dt`")


@split_projection.cases
def a_row_of_numbers_and_a_batch():
    return [given(torch.arange(1.0, 13.0), 4, 2), given(Draws(20).normal(2, 3, 23), 8, 3)]


@split_projection.oracle
def column_by_column(projected, d_inner, nheads):
    columns = projected.double().unbind(-1)
    kinds = ["z" if i < d_inner else "raw_dt" if i >= len(columns) - nheads else "xBC" for i in range(len(columns))]
    return [
        torch.stack([column for column, kind in zip(columns, kinds, strict=True) if kind == wanted], dim=-1)
        for wanted in ("z", "xBC", "raw_dt")
    ]


split_projection.slip(
    "z and xBC are exchanged. The rows of the matrix come in the official order: z first, then xBC, raw_dt at the end.",
    puts_the_gate_in_the_middle={
        "return projected": "xBC, z, raw_dt = projected",
        "[d_inner, conv_dim, nheads], dim=-1)": "[conv_dim, d_inner, nheads], dim=-1)\n    return z, xBC, raw_dt",
    },
)

split_projection.slip(
    "The step sizes are taken from the front. They stand at the end, behind z and xBC: nheads numbers for each token.",
    takes_the_step_sizes_first={
        "return projected": "raw_dt, z, xBC = projected",
        "[d_inner, conv_dim, nheads], dim=-1)": "[nheads, d_inner, conv_dim], dim=-1)\n    return z, xBC, raw_dt",
    },
)

split_projection.slip(
    "xBC is made as wide as z, and raw_dt gets what is left. But xBC holds x, which is as wide as z, and B and C "
    "beside it: all but the first d_inner and the last nheads entries.",
    forgets_the_room_of_b_and_c={
        "[d_inner, conv_dim, nheads]": "[d_inner, d_inner, projected.shape[-1] - 2 * d_inner]"
    },
)


@reference(
    stars=2,
    hints=(
        "Put the window in front of x, along the tokens: then the first token has its predecessors, and l outputs come "
        "out without any padding.",
        "`F.conv1d(inputs, weight, bias, groups=channels)` wants channels before tokens, (b, channels, tokens); `.mT` "
        "exchanges the two, before and after.",
        "The activation comes last: `F.silu` of all of it.",
    ),
)
def causal_conv(x, weight, bias, window):
    """Each channel's weighted sum of its last `width` values, then silu.

    x (b,l,channels), weight (channels,1,width), bias (channels,) or None, window (b,width-1,channels) the inputs
    before x -> (b,l,channels)
    """
    inputs = torch.cat([window, x], dim=1).mT  # (b,channels,width-1+l)
    mixed = F.conv1d(inputs, weight, bias, groups=weight.shape[0])
    return F.silu(mixed.mT)


@causal_conv.cases
def one_channel_then_a_continued_text():
    draw = Draws(21).normal
    one = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
    return [
        given(one, torch.tensor([[[0.5, 0.25, 1.0]]]), torch.tensor([-0.5]), torch.zeros(1, 2, 1)),
        given(draw(2, 6, 5), draw(5, 1, 4), draw(5), draw(2, 3, 5)),
        given(draw(1, 2, 3), draw(3, 1, 4), None, draw(1, 3, 3)),
    ]


@causal_conv.oracle
def tap_by_tap(x, weight, bias, window):
    channels, _, width = weight.shape
    past = [*window.double().unbind(1), *x.double().unbind(1)]
    mixed = [
        sum(past[t + i] * weight[:, 0, i].double() for i in range(width))
        + (torch.zeros(channels) if bias is None else bias).double()
        for t in range(x.shape[1])
    ]
    return silu(torch.stack(mixed, dim=1))


causal_conv.slip(
    "Tokens see what comes after them: the window stands behind x here. It holds what came before, so it belongs in "
    "front.",
    puts_the_window_behind={"[window, x]": "[x, window]"},
)

causal_conv.slip(
    "The window is forgotten: zeros stand in front of x, as if the text began here. The first tokens of a text that "
    "goes on come out wrong.",
    starts_from_zeros={"[window, x]": "[torch.zeros_like(window), x]"},
)

causal_conv.slip(
    "The taps are turned around. The last tap, `weight[..., -1]`, meets the token itself, the first one the oldest. "
    "`F.conv1d` has it so already.",
    turns_the_taps_around={"inputs, weight,": "inputs, weight.flip(-1),"},
)

causal_conv.slip(
    "The weighted sum is right, the activation is missing: `F.silu` of it.",
    leaves_out_the_activation={"F.silu(mixed.mT)": "mixed.mT"},
)

causal_conv.slip(
    "The activation comes too early: silu is taken of each input, and then they are mixed. Mix first; window and x are "
    "raw.",
    activates_before_mixing={
        "torch.cat([window, x], dim=1)": "F.silu(torch.cat([window, x], dim=1))",
        "F.silu(mixed.mT)": "mixed.mT",
    },
)


@reference(
    stars=1,
    atol=0.0,
    hints=(
        "Three things in this order: the bias is added, softplus makes it positive, the limit holds it.",
        "`F.softplus` and `Tensor.clamp(low, high)`. A pair can be passed as two arguments: `f(*pair)`.",
    ),
)
def step_size(raw_dt, dt_bias, dt_limit):
    """raw_dt (..., h), dt_bias (h,), dt_limit a pair (low, high) -> the step size dt (..., h), above 0."""
    return F.softplus(raw_dt + dt_bias).clamp(*dt_limit)


@step_size.cases
def without_and_with_limits():
    draw = Draws(22).normal
    plain = given(torch.tensor([[-3.0, 0.0, 3.0]]), torch.tensor([0.5, -1.0, -2.0]), (0.0, math.inf))
    far_out = given(torch.tensor([[100.0, 1.0, -20.0]]), torch.zeros(3), (0.0, math.inf))
    drawn = [given(2 * draw(2, 6, 4), draw(4), limit) for limit in ((0.0, math.inf), (0.25, 1.5))]
    return [plain, *drawn, far_out]


@step_size.oracle
def logarithm_of_one_plus_exp(raw_dt, dt_bias, dt_limit):
    softplus = torch.log1p(torch.exp(raw_dt.double() + dt_bias.double()))
    return softplus.apply_(lambda value: min(max(value, dt_limit[0]), dt_limit[1]))


step_size.slip(
    "Step sizes come out negative, or are cut off at 0: softplus is missing. Time would run backwards and memory would "
    "grow, or a head would stand still and never learn.",
    forgets_softplus={"F.softplus(raw_dt + dt_bias)": "(raw_dt + dt_bias)"},
)

step_size.slip(
    "The bias is added after softplus. It shifts the raw number, before softplus, so that the sum may be negative and "
    "the step still is not.",
    adds_the_bias_last={"F.softplus(raw_dt + dt_bias)": "(F.softplus(raw_dt) + dt_bias)"},
)

step_size.slip(
    "The exponential makes numbers positive too, but large ones explode. softplus(v) = log(1 + exp(v)) is nearly v for "
    "large v.",
    takes_the_exponential={"F.softplus": "torch.exp"},
)

step_size.slip(
    "The limit is ignored. With dt_limit = (0, inf) nobody notices; here it is narrower.",
    ignores_the_limit={".clamp(*dt_limit)": ""},
)

step_size.slip(
    "The raw numbers are clamped, and softplus is taken afterwards. The limit is one for step sizes.",
    limits_the_raw_numbers={"(raw_dt + dt_bias).clamp(*dt_limit)": "((raw_dt + dt_bias).clamp(*dt_limit))"},
)

step_size.slip(
    "Right on paper, but exp overflows and 1 + a tiny number is 1: this gives inf at 100, and 0 at -20, where time "
    "would stand still. `F.softplus` keeps both.",
    takes_the_logarithm_of_one_plus_exp={
        "F.softplus(raw_dt + dt_bias)": "torch.log(1 + torch.exp(raw_dt + dt_bias))",
    },
)

step_size.slip(
    "The lower limit is left out: dt_limit is a pair, and a step may not be shorter than its first number.",
    knows_no_lower_limit={
        ".clamp(*dt_limit)": ".clamp(max=dt_limit[1])",
    },
)

step_size.slip(
    "The upper limit is left out: dt_limit is a pair, and a step may not be longer than its second number.",
    knows_no_upper_limit={
        ".clamp(*dt_limit)": ".clamp(min=dt_limit[0])",
    },
)


# The way out


@reference(
    stars=1,
    hints=(
        "Each head has one factor, for all of its p channels: `D[:, None]` has shape (h, 1) and fits x.",
        "`flatten(-2)` joins the last two axes, head after head.",
    ),
)
def skip(y, x, D):
    """y, x (b,l,h,p), D (h,) -> (b,l,d_inner): y + D x, the heads side by side."""
    return (y + D[:, None] * x).flatten(-2)


@skip.cases
def as_many_channels_as_heads_then_more():
    draw = Draws(23).normal
    y, x = torch.tensor([[[[[1.0, 2.0], [3.0, 4.0]]]], [[[[1.0, 0.0], [2.0, 1.0]]]]])
    return [given(y, x, torch.tensor([2.0, -1.0])), given(draw(2, 3, 4, 5), draw(2, 3, 4, 5), draw(4))]


@skip.oracle
def head_by_head(y, x, D):
    heads = [
        one.double() + d * other.double() for one, other, d in zip(y.unbind(2), x.unbind(2), D.tolist(), strict=True)
    ]
    return torch.cat(heads, dim=-1)


skip.slip(
    "Nothing passes by the state here: D x is missing.",
    leaves_the_input_out={"(y + D[:, None] * x)": "y"},
)

skip.slip(
    "D is laid along the channels. It holds a factor for each head, so it needs an axis for the channels behind it: "
    "`D[:, None]`.",
    scales_channels_instead_of_heads={"D[:, None]": "D"},
)

skip.slip(
    "D scales what was read from the state, and x is added as it is. It is the other way round: y + D x.",
    scales_what_was_read={"y + D[:, None] * x": "D[:, None] * y + x"},
)

skip.slip(
    "The channels of different heads are shuffled into each other. Heads stay whole: all channels of the first, then "
    "all of the second.",
    shuffles_the_heads={".flatten(-2)": ".mT.flatten(-2)"},
)

skip.slip(
    "All heads get the same D. Each has its own, for all of its channels.",
    shares_one_d={"D[:, None]": "D.mean()"},
)


@reference(
    stars=2,
    hints=(
        "Forget the groups first: the mean of the squares over the last axis, `keepdim=True`, plus eps; its root is "
        "what to divide by.",
        "For groups, cut the last axis in two, `unflatten(-1, (ngroups, -1))`, do the same, and join it again.",
        "The gate is `F.silu(z)`. It multiplies y before the norm; with norm_before_gate, the scaled result after it.",
    ),
)
def gated_rms_norm(y, z, weight, ngroups, norm_before_gate, eps):
    """y, z (..., d_inner), weight (d_inner,) -> (..., d_inner).

    Each of ngroups runs of channels is divided by its own root mean square, sqrt(mean square + eps), and scaled by
    weight. The gate silu(z) comes before that, or after it if norm_before_gate.
    """
    gate = F.silu(z)
    if not norm_before_gate:
        y = y * gate
    grouped = y.unflatten(-1, (ngroups, -1))
    rms = torch.sqrt(grouped.square().mean(dim=-1, keepdim=True) + eps)
    normed = (grouped / rms).flatten(-2) * weight
    return normed * gate if norm_before_gate else normed


@gated_rms_norm.cases
def one_group_two_groups_a_whisper_and_the_other_order():
    draw = Draws(24).normal
    plain = given(torch.tensor([3.0, -4.0]), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5]), 1, False, 1e-5)
    two = given(draw(2, 3, 8), draw(2, 3, 8), draw(8), 2, False, 1e-3)
    whisper = given(1e-3 * draw(2, 8), draw(2, 8), draw(8), 2, False, 1e-5)
    return [plain, two, whisper, given(draw(2, 3, 8), draw(2, 3, 8), draw(8), 4, True, 1e-5)]


@gated_rms_norm.oracle
def group_after_group(y, z, weight, ngroups, norm_before_gate, eps):
    y, gate = y.double(), silu(z.double())
    y = y if norm_before_gate else y * gate
    size = y.shape[-1] // ngroups
    groups = [y[..., i : i + size] for i in range(0, y.shape[-1], size)]
    lengths = [torch.linalg.vector_norm(group, dim=-1, keepdim=True) for group in groups]
    normed = [group * (length**2 / size + eps) ** -0.5 for group, length in zip(groups, lengths, strict=True)]
    result = torch.cat(normed, dim=-1) * weight.double()
    return result * gate if norm_before_gate else result


gated_rms_norm.slip(
    "One root mean square is taken over all channels. Each group has its own: what one group holds must not change "
    "another.",
    normalises_all_groups_together={"(ngroups, -1)": "(1, -1)"},
)

gated_rms_norm.slip(
    "The order is exchanged: with norm_before_gate = False the gate comes first, and its product with y is normalised.",
    exchanges_norm_and_gate={
        "if not norm_before_gate": "if norm_before_gate",
        "normed * gate if norm_before_gate else normed": "normed if norm_before_gate else normed * gate",
    },
)

gated_rms_norm.slip(
    "The gate here is sigmoid(z). It is silu(z) = z * sigmoid(z), which can be negative and large.",
    gates_with_a_sigmoid={"F.silu(z)": "torch.sigmoid(z)"},
)

gated_rms_norm.slip(
    "The mean is subtracted, as a LayerNorm does. An RMSNorm divides by the root of the mean square, and that is all.",
    subtracts_the_mean={"(ngroups, -1))": "(ngroups, -1))\n    grouped = grouped - grouped.mean(dim=-1, keepdim=True)"},
)

gated_rms_norm.slip(
    "eps is added to the root; it belongs under it. For ordinary sizes nobody sees a difference, where little comes in "
    "it decides.",
    adds_eps_to_the_root={"torch.sqrt(grouped": "grouped", " + eps)": ".sqrt() + eps"},
)

gated_rms_norm.slip(
    "The gate always comes first here. With norm_before_gate = True, y is normalised alone and gated afterwards.",
    always_gates_first={
        "if not norm_before_gate:\n        y = y * gate": "y = y * gate",
        "normed * gate if norm_before_gate else normed": "normed",
    },
)

gated_rms_norm.slip(
    "The gate always comes last here. With norm_before_gate = False, y is gated first and the product is normalised.",
    always_gates_last={
        "if not norm_before_gate:\n        y = y * gate\n    ": "",
        "normed * gate if norm_before_gate else normed": "normed * gate",
    },
)

gated_rms_norm.slip(
    "It divides by the length, the root of the sum of squares. A root mean square does not grow with the number of "
    "channels: take the mean of the squares.",
    divides_by_the_length={"grouped.square().mean(dim=-1, keepdim=True)": "grouped.square().sum(dim=-1, keepdim=True)"},
)

gated_rms_norm.slip(
    "It gates twice, before the norm and after it. `norm_before_gate` says which of the two it is.",
    gates_twice={
        "normed * gate if norm_before_gate else normed": "normed * gate",
        "if not norm_before_gate:": "if True:",
    },
)


# All of it


@reference(
    stars=3,
    atol=1e-5,
    hints=(
        "Follow the picture from left to right: every box is a function that you have called in this notebook. Only "
        "the sizes are called `config.d_inner`, `config.nheads` and so on now.",
        'Some models have biases, others have none: `weights.get("in_proj.bias")` gives None where there is none, and '
        "`F.linear` and `causal_conv` take None.",
        "A text begins with an empty window, (b, d_conv-1, conv_dim), and an empty state, (b,h,p,n): "
        "`u.new_zeros(shape)` makes them where u is.",
        "A = -exp(A_log). For `discretise`, give dt and A an axis for the channels: `dt[..., None]` and `A[:, None]`; "
        "the log decays then have one too many, `log_decay[..., 0]`.",
    ),
)
def mamba2_block(u, weights, config, scan):
    """u (b,l,d_model) -> (b,l,d_model): the whole mixer, on a text from its beginning.

    weights holds tensors under their official names, config the sizes.
    scan(x, log_decay, B, C, initial_state, chunk_size) -> y, final_state.
    """
    projected = F.linear(u, weights["in_proj.weight"], weights.get("in_proj.bias"))
    z, xBC, raw_dt = split_projection(projected, config.d_inner, config.nheads)
    window = u.new_zeros(len(u), config.d_conv - 1, config.conv_dim)
    xBC = causal_conv(xBC, weights["conv1d.weight"], weights.get("conv1d.bias"), window)
    per_group = config.ngroups * config.d_state
    x, B, C = xBC.split([config.d_inner, per_group, per_group], dim=-1)
    x = x.unflatten(-1, (config.nheads, config.headdim))
    B, C = (part.unflatten(-1, (config.ngroups, config.d_state)) for part in (B, C))
    dt, A = step_size(raw_dt, weights["dt_bias"], config.dt_limit), -torch.exp(weights["A_log"])
    x_dt, log_decay = discretise(x, dt[..., None], A[:, None])
    empty = u.new_zeros(len(u), config.nheads, config.headdim, config.d_state)
    y, _ = scan(x_dt, log_decay[..., 0], B, C, empty, config.chunk_size)
    y = skip(y, x, weights["D"])
    y = gated_rms_norm(y, z, weights["norm.weight"], config.ngroups, config.norm_before_gate, config.norm_eps)
    return F.linear(y, weights["out_proj.weight"], weights.get("out_proj.bias"))


def drawn_block(seed, b, l, **fields):
    """A text and a block for it, of weights none of which is a mere 0 or 1."""
    draw, config = Draws(seed).normal, Mamba2Config(d_state=3, headdim=2, chunk_size=3, **fields)
    shapes = {
        name: tuple(weight.shape) for name, weight in Mamba2(**config.mixer_fields(), device="meta").named_parameters()
    }
    weights = {name: draw(*shape) / (math.sqrt(shape[-1]) if len(shape) > 1 else 1) for name, shape in shapes.items()}
    return given(draw(b, l, config.d_model), weights, config, chunked)


@mamba2_block.cases
def a_plain_block_and_one_with_everything():
    everything = {"ngroups": 2, "bias": True, "norm_before_gate": True, "dt_limit": (0.1, 1.5)}
    return [drawn_block(25, 1, 5, d_model=4), drawn_block(26, 2, 8, d_model=6, **everything)]


@mamba2_block.stages
def what_the_scan_is_given_and_what_comes_after(answer, u, weights, config, scan):
    given_to_scan = []

    def listening(*inputs):
        given_to_scan.append(inputs)
        return scan(*inputs)

    def silent(x, *inputs):
        return torch.zeros_like(x), inputs[3]

    answer(u, weights, config, listening)
    (x, log_decay, B, C, *_), *_ = given_to_scan
    return {
        "`x` times the step size": x,
        "`log_decay`": log_decay,
        "`B`": B,
        "`C`": C,
        "the output without a skip (D = 0)": answer(u, {**weights, "D": 0 * weights["D"]}, config, scan),
        "the output of a scan that gives 0": answer(u, weights, config, silent),
    }


@mamba2_block.oracle
def the_mixer_of_the_package_token_by_token(u, weights, config, scan):
    mixer = Mamba2(**config.mixer_fields()).double()
    mixer.load_state_dict({name: weight.double() for name, weight in weights.items()})
    state, ys = mixer.initial_state(len(u)), []
    with torch.no_grad():
        for u_t in u.double().unbind(1):
            y_t, state = mixer.step(u_t, state)
            ys.append(y_t)
    return torch.stack(ys, dim=1)


mamba2_block.slip(
    "Memory grows instead of fading: the log decays are above 0. A = -exp(A_log), with a minus sign, is negative "
    "whatever is learned.",
    lets_memory_grow={"-torch.exp": "torch.exp"},
)

mamba2_block.slip(
    "A is minus its own logarithm: the exponential is missing. The weight `A_log` holds log(-A), so A = -exp(A_log).",
    forgets_the_exponential={'-torch.exp(weights["A_log"])': '-weights["A_log"]'},
)

mamba2_block.slip(
    "What passes by the state is scaled by dt here. Only what is written is: the scan gets x * dt, the skip gets x.",
    skips_with_what_was_written={"skip(y, x,": "skip(y, x_dt,"},
)

mamba2_block.slip(
    "The biases of the two projections are left out. Most models have none, so it is not noticed until one has: "
    '`weights.get("in_proj.bias")` is None or the bias.',
    leaves_out_the_biases={', weights.get("in_proj.bias")': "", ', weights.get("out_proj.bias")': ""},
)

mamba2_block.slip(
    "B and C are exchanged on the way to the scan: B says where a token writes, C where it reads, and x, B, C come in "
    "this order.",
    exchanges_reading_and_writing={
        "log_decay[..., 0], B, C": "log_decay[..., 0], C, B",
    },
)

mamba2_block.slip(
    "The silu after the convolution is missing: x, B and C go through it, as in `causal_conv`.",
    forgets_silu_after_the_convolution={
        "causal_conv(xBC, ": "F.conv1d(torch.cat([window, xBC], dim=1).mT, ",
        'weights.get("conv1d.bias"), window)': 'weights.get("conv1d.bias"), groups=config.conv_dim).mT',
    },
)

mamba2_block.slip(
    "dt_limit is forgotten: no step may be shorter or longer than `config.dt_limit` says. Most models have no limit, "
    "so it is not noticed until one has.",
    forgets_the_limit={
        "config.dt_limit": '(0.0, float("inf"))',
    },
)

mamba2_block.slip(
    "The scan is given x as it is. What is written is x times the step size, as `discretise` gives it.",
    writes_x_as_it_is={
        "scan(x_dt,": "scan(x,",
    },
)

mamba2_block.slip(
    "Nothing passes by the state: `skip` is left out.",
    forgets_the_skip={
        'skip(y, x, weights["D"])': "y.flatten(-2)",
    },
)

mamba2_block.slip(
    "The last matrix is missing: `out_proj` brings the d_inner channels back to d_model.",
    forgets_the_last_matrix={
        'F.linear(y, weights["out_proj.weight"], weights.get("out_proj.bias"))': "y",
    },
)
