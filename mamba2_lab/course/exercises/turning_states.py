"""Exercises of notebook 13."""
# mypy: allow-untyped-defs

import math

import torch
import torch.nn.functional as F

from mamba2_lab.config import Mamba3Fields
from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.exercises.chunks import chunked
from mamba2_lab.course.inputs import Draws
from mamba2_lab.layers.mamba3 import Mamba3, heavy_tail


@reference(
    stars=2,
    hints=(
        "Press again and again, and write down what stands in the memory after one, two and three presses. It moves "
        "one way only.",
        "Odd, even, odd: the memory would have to cross the threshold twice, and come back for that. So it is wrong "
        "after one press, after two, or after three. Try them.",
        "`(h > threshold)` is what it says, `(presses % 2 == 1)` what is true.",
    ),
)
def refute(decay, write, threshold):
    """A number of presses after which a memory is wrong: h, at first 0, becomes decay h + write at each press.

    It says odd where h > threshold. 0 < decay < 1, write not 0 -> a whole number
    """
    h = 0.0
    for presses in (1, 2, 3):
        h = decay * h + write
        if (h > threshold) != (presses % 2 == 1):
            return presses


@refute.cases
def memories_that_err_after_one_two_and_three():
    return [
        given(0.5, 1.0, 2.0),
        given(0.5, 1.0, 0.5),
        given(0.5, -1.0, -1.2),
        given(0.5, -1.0, -1.8),
        given(0.9, -2.0, -3.0),
        given(0.25, 4.0, 4.5),
        given(0.99, 0.1, 0.05),
    ]


def errs(decay, write, threshold, presses):
    """By the sum of a geometric series."""
    return (write * (1 - decay**presses) / (1 - decay) > threshold) != (presses % 2 == 1)


@refute.oracle
def the_first_that_errs(decay, write, threshold):
    return next(presses for presses in range(1, 4) if errs(decay, write, threshold, presses))


@refute.observe
def where_the_memory_is_wrong(answer, decay, write, threshold):
    """Any number of presses that refutes it counts as the first."""
    presses = answer(decay, write, threshold)
    whole = isinstance(presses, int) and presses >= 0
    return the_first_that_errs(decay, write, threshold) if whole and errs(decay, write, threshold, presses) else presses


refute.slip(
    "After so many presses the memory is right. Look for a number at which what it says and what is true differ.",
    finds_where_it_is_right={"!=": "=="},
)

refute.slip(
    "The number is one too small: the first press brings the memory from 0 to `write`.",
    counts_from_zero={"return presses": "return presses - 1"},
)


@refute.wrong(
    "One number for all memories will not do. If `write` is above 0 and the threshold low, the memory is right after "
    "three presses, and wrong after two."
)
def always_three(decay, write, threshold):
    return 3


@refute.wrong("Two presses do not refute them all: a memory that falls says odd, then even, and fails at the third.")
def one_or_two(decay, write, threshold):
    return 2 if write > threshold else 1


refute.slip(
    "It starts as if something had been written already. Before the first press h is 0.",
    starts_with_a_press={"h = 0.0": "h = write"},
)

refute.slip(
    "Nothing fades here. At each press what is there is multiplied by `decay`, then `write` is added.",
    never_fades={"decay * h + write": "h + write"},
)

refute.slip(
    "It fades what it writes as well. What is written at a press has not faded yet: decay h + write.",
    fades_what_it_writes={"decay * h + write": "decay * (h + write)"},
)

refute.slip(
    "Only even numbers of presses are looked at. A memory may be wrong after one press, too: it must say odd then.",
    looks_at_even_ones={
        "for presses in (1, 2, 3):": "for presses in range(1, 9):",
        "(h > threshold) != (presses % 2 == 1)": "presses % 2 == 0 and h > threshold",
    },
)


@reference(
    stars=2,
    hints=(
        "`x[..., 0 : 2 * s : 2]` holds the first channel of each of the first s pairs; from 1 on, the second.",
        "A quarter of a turn takes (1, 0) to (0, 1): with cos 0 and sin 1, a cos - b sin and a sin + b cos do that.",
        "`torch.stack([first, second], dim=-1).flatten(-2)` puts them side by side again; the rest is put behind.",
    ),
)
def rotate_pairs(x, angle):
    """x (..., n), angle (..., s) in radians -> (..., n): channels 2i and 2i+1 turned counter-clockwise, for i < s."""
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = torch.cos(angle), torch.sin(angle)
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)


@rotate_pairs.cases
def a_quarter_then_many():
    draw = Draws(130)
    quarter = given(torch.tensor([1.0, 0.0, 0.0, 2.0]), torch.tensor([math.pi / 2, math.pi]))
    return [
        quarter,
        given(draw.normal(3, 6), draw.normal(3, 3)),
        given(draw.normal(2, 3, 8), draw.normal(2, 3, 2)),
    ]


@rotate_pairs.oracle
def as_complex_numbers(x, angle):
    x, angle = x.double().clone(), angle.double()
    for i in range(angle.shape[-1]):
        number = torch.complex(x[..., 2 * i], x[..., 2 * i + 1]) * torch.exp(1j * angle[..., i])
        x[..., 2 * i], x[..., 2 * i + 1] = number.real, number.imag
    return x


rotate_pairs.slip(
    "It turns clockwise. A quarter of a turn counter-clockwise takes (1, 0) to (0, 1), not to (0, -1).",
    turns_clockwise={"a * cos - b * sin": "a * cos + b * sin", "a * sin + b * cos": "b * cos - a * sin"},
)


@rotate_pairs.wrong(
    "Halves are paired here: channel i with i + n/2. That is how Mamba-3 with several ranks does it; with one rank "
    "neighbours belong together, 2i and 2i + 1."
)
def pairs_halves(x, angle):
    s, half = angle.shape[-1], x.shape[-1] // 2
    a, b = x[..., :s], x[..., half : half + s]
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.cat([a * cos - b * sin, x[..., s:half], a * sin + b * cos, x[..., half + s :]], dim=-1)


rotate_pairs.slip(
    "The pairs are turned, but come out as all first channels, then all second ones: put them side by side again.",
    leaves_them_apart={"dim=-1).flatten(-2)": "dim=-2).flatten(-2)"},
)

rotate_pairs.slip(
    "The second channel is made from the first as it is after turning. Both need the first as it was.",
    uses_the_turned_one={"a * sin + b * cos": "(a * cos - b * sin) * sin + b * cos"},
)

rotate_pairs.slip(
    "Sine and cosine are exchanged: an angle of 0 must leave everything as it is.",
    exchanges_sine_and_cosine={"torch.cos(angle), torch.sin(angle)": "torch.sin(angle), torch.cos(angle)"},
)


@reference(
    stars=2,
    hints=(
        "What s wrote has been turned, by the time t reads, by all angles after s up to t: the sum up to t minus the "
        "sum up to s.",
        "Two vectors that are turned alike keep their dot product. So turn the whole picture back by the sum up to "
        "t, and the state stands still.",
        "`angle.cumsum(dim=-2)` is the sum up to each token. B and C are turned back by it, each by that of its token.",
    ),
)
def turn_onto(B, C, angle):
    """B, C (..., l, n) of a state that turns, by angle (..., l, s) at each token -> B, C of one that stands still."""
    since_start = angle.cumsum(dim=-2)
    return rotate_pairs(B, -since_start), rotate_pairs(C, -since_start)


@turn_onto.cases
def quarters_then_two_heads():
    draw = Draws(131)
    quarters = torch.tensor([[1.0], [2.0], [1.0]]) * math.pi / 2
    plain = given(torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[1.0, 2.0]] * 3), quarters)
    return [plain, given(draw.normal(2, 5, 6), draw.normal(2, 5, 6), draw.normal(2, 5, 2))]


@turn_onto.oracle
def matches_of_a_state_that_turns(B, C, angle):
    l = B.shape[-2]
    found = torch.zeros(*B.shape[:-1], l, dtype=torch.float64)
    for s in range(l):
        written = B[..., s, :].double()
        for t in range(s, l):
            written = as_complex_numbers(written, angle[..., t, :]) if t > s else written
            found[..., t, s] = (C[..., t, :].double() * written).sum(dim=-1)
    return found


@turn_onto.observe
def what_each_token_reads_of_each_before_it(answer, B, C, angle):
    """Only how C meets B counts, so both may be turned on together."""
    B, C = answer(B, C, angle)
    return torch.tril(C @ B.mT)


turn_onto.slip(
    "Each is turned by the angle of its own token alone. Angles add up from token to token: take the running sum.",
    does_not_add_up={"angle.cumsum(dim=-2)": "angle"},
)

turn_onto.slip(
    "Both are turned forward. Then the state seems to turn the other way: what s wrote and t reads must come out "
    "turned by the sum up to t minus the sum up to s, and C is on the other side of the product.",
    turns_forward={"angle.cumsum(dim=-2)": "-angle.cumsum(dim=-2)"},
)

turn_onto.slip(
    "Only C is turned. Then a token reads itself turned, as if it had been written at the beginning: turn B as well.",
    turns_C_only={"rotate_pairs(B, -since_start)": "B"},
)

turn_onto.slip(
    "B is turned forward and C back: the two sums add up. A token must read itself as it is, so both are turned alike.",
    turns_them_apart={"rotate_pairs(B, -since_start)": "rotate_pairs(B, since_start)"},
)

turn_onto.slip(
    "The sums stop at the token before. The state turns first and is then written to: a token's own angle turns all "
    "that was there, so it belongs to the sum.",
    leaves_out_its_own_angle={"angle.cumsum(dim=-2)": "angle.cumsum(dim=-2) - angle"},
)


@reference(
    stars=2,
    hints=(
        "The recurrence is linear in what is written. So run it twice, once for what each token writes when it comes, "
        "once for what the token before it writes then, and add what is read.",
        "What the token before writes has faded over the step: its weight is (1 - lam) dt exp(log_decay), all three of "
        "the token that comes.",
        "`F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0))` is x of the token before, and 0 for the first. B moves along with x.",
    ),
)
def trapezoid(x, B, C, log_decay, dt, lam, scan):
    """The recurrence in which a token writes lam dt x B^T when it comes, and the one before it the rest of dt, faded.

    x (b,l,h,p), B, C (b,l,h,n), log_decay, dt, lam (b,l,h) -> y (b,l,h,p)
    scan(x, log_decay, B, C, initial_state, chunk_size) -> y, final_state
    """
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    now, before = lam * dt, (1 - lam) * dt * torch.exp(log_decay)
    last_x, last_B = (F.pad(part[:, :-1], (0, 0, 0, 0, 1, 0)) for part in (x, B))
    y, _ = scan(now[..., None] * x, log_decay, B, C, empty, 64)
    more, _ = scan(before[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y + more


@trapezoid.cases
def a_ramp_then_heads():
    draw = Draws(132)
    one = torch.ones(1, 4, 1, 1)
    ramp = torch.tensor([1.0, 2.0, 4.0, 8.0])[None, :, None]
    step = torch.tensor([1.0, 0.5, 2.0, 1.0])[None, :, None]
    plain = given(ramp[..., None], one, one, step * math.log(0.5), step, torch.full((1, 4, 1), 0.25), chunked)
    dt, lam = draw.uniform(2, 5, 3) + 0.1, draw.uniform(2, 5, 3)
    return [
        plain,
        given(draw.normal(2, 5, 3, 2), *draw.normal(2, 2, 5, 3, 4), -0.7 * dt, dt, lam, chunked),
    ]


@trapezoid.oracle
def token_by_token(x, B, C, log_decay, dt, lam, scan):
    x, B, C, log_decay, dt, lam = (part.double() for part in (x, B, C, log_decay, dt, lam))
    h, last, ys = 0.0, 0.0, []
    for t in range(x.shape[1]):
        alpha, step, own = (part[:, t, :, None, None] for part in (log_decay.exp(), dt, lam))
        new = x[:, t, :, :, None] * B[:, t, :, None, :]
        h = alpha * (h + (1 - own) * step * last) + own * step * new
        last = new
        ys.append((h * C[:, t, :, None, :]).sum(dim=-1))
    return torch.stack(ys, dim=1)


trapezoid.slip(
    "The two ends are exchanged: lam is the share that a token writes when it comes, 1 - lam that of the one before.",
    exchanges_the_ends={"lam * dt, (1 - lam) * dt": "(1 - lam) * dt, lam * dt"},
)

trapezoid.slip(
    "What the token before writes has not faded. It stands at the beginning of the step, and fades over it like all "
    "that was there: times exp(log_decay).",
    does_not_fade_the_look_back={" * torch.exp(log_decay)": ""},
)

trapezoid.slip(
    "Here the token before writes with its own step. The step that passes is that of the token that comes: its dt, its "
    "lam and its decay weigh both ends.",
    weighs_by_the_step_before={
        "(1 - lam) * dt * torch.exp(log_decay)": "F.pad(((1 - lam) * dt * torch.exp(log_decay))[:, :-1], (0, 0, 1, 0))"
    },
)

trapezoid.slip(
    "The x of the token before is written under the B of the token that comes. A pair stays together: shift B too.",
    leaves_B_where_it_is={"last_B, C, empty": "B, C, empty"},
)

trapezoid.slip(
    "The first token looks back at the last one: `roll` goes round in a circle. Before the first there is nothing.",
    goes_round={"F.pad(part[:, :-1], (0, 0, 0, 0, 1, 0))": "part.roll(1, dims=1)"},
)

trapezoid.slip(
    "Each token writes when it comes, and not once more when the next one does. That is the rule of Mamba-2, with "
    "lam dt in the place of dt.",
    writes_once={"y + more": "y"},
)


@reference(
    stars=2,
    hints=(
        "Take the bias into the softplus: softplus(dt + dt_bias). And lam is a share, so it comes out of a sigmoid.",
        "-A is `heavy_tail(A)`, but not below A_floor. Write `-(...)`: a method binds before a minus.",
        "tanh holds an angle within one radian, pi times it within half a turn. Each head turns by its own dt times "
        "the speed that all share: `dt[..., None] * speed[..., None, :]`.",
    ),
)
def discretise_turning(dt, A, trap, angle, dt_bias, A_floor):
    """Raw dt, A, trap (..., h), angle (..., s), dt_bias (h,) -> dt, log decay, lam (..., h), angle (..., h, s)."""
    dt = F.softplus(dt + dt_bias)
    log_decay = dt * -(heavy_tail(A).clamp(min=A_floor))
    speed = math.pi * torch.tanh(angle)
    return dt, log_decay, torch.sigmoid(trap), dt[..., None] * speed[..., None, :]


discretise_turning.returns("`dt`", "the log decay", "`lam`", "the angle")


@discretise_turning.cases
def small_large_and_below_the_floor():
    draw = Draws(133)
    plain = (
        torch.tensor([0.0, 2.0]),
        torch.tensor([-3.0, 1.0]),
        torch.tensor([0.0, 4.0]),
        torch.tensor([0.0, 1.0, -9.0]),
    )
    drawn = *draw.normal(3, 2, 5, 4), 2 * draw.normal(2, 5, 3), draw.normal(4)
    below = torch.tensor([[-5e4, -1.0]])
    return [
        given(*plain, torch.tensor([1.0, -1.0]), 1e-4),
        given(*drawn, 1e-4),
        given(below / 1e4, below, below, draw.normal(1, 2), torch.zeros(2), 0.1),
    ]


@discretise_turning.oracle
def number_by_number(dt, A, trap, angle, dt_bias, A_floor):
    dt, A, trap, angle, dt_bias = (part.double() for part in (dt, A, trap, angle, dt_bias))
    dt = torch.log1p(torch.exp(dt + dt_bias))
    rate = torch.where(A >= 0, 1 + A, 1 / (1 - A)).clamp(min=A_floor)
    half_turns = 1 - 2 / (torch.exp(2 * angle) + 1)
    return dt, -dt * rate, 1 / (1 + torch.exp(-trap)), math.pi * torch.einsum("...h,...s->...hs", dt, half_turns)


discretise_turning.slip(
    "A comes out positive, tiny and the same for every token: nothing fades any more. `-x.clamp(...)` is minus the "
    "clamped number, so a bound from above that is negative meets a number that is not.",
    lets_the_minus_wait={"-(heavy_tail(A).clamp(min=A_floor))": "-heavy_tail(A).clamp(max=-A_floor)"},
)

discretise_turning.slip(
    "The raw angle turns as it is. It has to be held within half a turn for each unit of time: pi * tanh(angle).",
    leaves_out_pi_tanh={"math.pi * torch.tanh(angle)": "angle"},
)

discretise_turning.slip(
    "An angle is at most one radian here, less than a sixth of a turn: pi is missing in front of the tanh.",
    leaves_out_pi={"math.pi * ": ""},
)

discretise_turning.slip(
    "The speed of turning is not multiplied by the time that passes. A token at which time stands still must not turn.",
    turns_without_time={"dt[..., None] * speed": "torch.ones_like(dt)[..., None] * speed"},
)

discretise_turning.slip(
    "Decays come from a softplus. So did the official code's before July 2026; now it is `heavy_tail`.",
    takes_a_softplus={"heavy_tail(A)": "F.softplus(A)"},
)

discretise_turning.slip(
    "The bias comes after the softplus. Then dt can be below 0: add it first.",
    adds_the_bias_late={"F.softplus(dt + dt_bias)": "F.softplus(dt) + dt_bias"},
)

discretise_turning.slip(
    "The decay does not pass through dt: the log decay is dt times A, as in notebook 01.",
    leaves_out_dt={"dt * -(heavy_tail": "-(heavy_tail"},
)

discretise_turning.slip(
    "The floor is held against dt times A. It is a floor of the rate: a short step may fade as little as it likes.",
    floors_the_product={"dt * -(heavy_tail(A).clamp(min=A_floor))": "-(dt * heavy_tail(A)).clamp(min=A_floor)"},
)

discretise_turning.slip(
    "tanh is taken of dt times the angle. It limits the speed, and a long step turns further than a short one: "
    "multiply by dt afterwards.",
    limits_the_angle={
        "dt[..., None] * speed[..., None, :]": "math.pi * torch.tanh(dt[..., None] * angle[..., None, :])"
    },
)


@reference(
    stars=3,
    hints=(
        "The widths of the eight parts are h p, h p, n, n, h, h, h and s: one `split` cuts them.",
        "`F.rms_norm(B, (n,), weight, 1e-5)` first, then `[:, :, None] + bias[:, 0]` makes a B for each head.",
        "`turn_onto` wants tokens next to the last axis: exchange tokens and heads before it and after it. Its state "
        "turns forward, that of Mamba-3 back: hand it minus the angle.",
    ),
)
def mamba3_mixer(u, weights, config, scan):
    """u (b,l,d_model) -> (b,l,d_model): Mamba-3 with one rank, and one B and C for all heads, on a text from its start.

    weights holds tensors under their official names, config the sizes.
    scan(x, log_decay, B, C, initial_state, chunk_size) -> y, final_state
    """
    h, p, n = config.nheads, config.headdim, config.d_state
    widths = [h * p, h * p, n, n, h, h, h, config.angles]
    z, x, B, C, dt, A, trap, angle = F.linear(u, weights["in_proj.weight"]).split(widths, dim=-1)
    x, raw = x.unflatten(-1, (h, p)), (dt, A, trap, angle)
    dt, log_decay, lam, angle = discretise_turning(*raw, weights["dt_bias"], config.A_floor)
    B = F.rms_norm(B, (n,), weights["B_norm.weight"], 1e-5)[:, :, None] + weights["B_bias"][:, 0]
    C = F.rms_norm(C, (n,), weights["C_norm.weight"], 1e-5)[:, :, None] + weights["C_bias"][:, 0]
    B, C = turn_onto(B.transpose(1, 2), C.transpose(1, 2), -angle.transpose(1, 2))
    y = trapezoid(x, B.transpose(1, 2), C.transpose(1, 2), log_decay, dt, lam, scan)
    y = y + weights["D"][:, None] * x
    return F.linear(y.flatten(-2) * F.silu(z), weights["out_proj.weight"])


def drawn_mixer(seed, b, l, **fields):
    """A text and a mixer for it, of weights none of which is a mere 0 or 1."""
    draw, config = Draws(seed).normal, Mamba3Fields(**fields)
    named = Mamba3(config.d_model, device="meta", **{name: fields[name] for name in fields if name != "d_model"})
    shapes = {name: tuple(weight.shape) for name, weight in named.named_parameters()}
    weights = {name: draw(*shape) / (math.sqrt(shape[-1]) if len(shape) == 2 else 1) for name, shape in shapes.items()}
    return given(draw(b, l, config.d_model), weights, config, chunked)


@mamba3_mixer.cases
def half_of_the_pairs_and_all():
    return [
        drawn_mixer(134, 1, 4, d_model=4, d_state=4, headdim=4),
        drawn_mixer(135, 2, 7, d_model=6, d_state=6, headdim=3, rope_fraction=1.0),
    ]


@mamba3_mixer.oracle
def with_complex_states(u, weights, config, scan):
    """Token by token: a state whose pairs are complex numbers that turn, and channels that do not turn."""
    weights = {name: weight.double() for name, weight in weights.items()}
    h, p, n, s = config.nheads, config.headdim, config.d_state, config.angles
    made = u.double() @ weights["in_proj.weight"].T
    z, x, B, C, dt, A, trap, angle = made.split([h * p, h * p, n, n, h, h, h, s], dim=-1)
    dt, log_decay, lam, angle = number_by_number(dt, A, trap, angle, weights["dt_bias"], config.A_floor)
    x = x.unflatten(-1, (h, p))

    def normal(part, name):
        part = part / (part.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}_norm.weight"]
        part = part[..., None, :] + weights[f"{name}_bias"][:, 0]  # (b,l,h,n)
        turning = torch.view_as_complex(part[..., : 2 * s].unflatten(-1, (s, 2)).contiguous())
        return torch.cat([turning, part[..., 2 * s :].to(turning.dtype)], dim=-1)

    B, C = normal(B, "B"), normal(C, "C")
    turn = torch.cat([torch.exp(-1j * angle), torch.ones(*angle.shape[:-1], B.shape[-1] - s)], dim=-1)
    state, last, ys = 0.0, 0.0, []
    for t in range(u.shape[1]):
        alpha, step, own = (part[:, t, :, None, None] for part in (log_decay.exp(), dt, lam))
        new = x[:, t, :, :, None] * B[:, t, :, None, :]
        state = alpha * turn[:, t, :, None, :] * (state + (1 - own) * step * last) + own * step * new
        last = new
        ys.append((state * C[:, t, :, None, :].conj()).sum(dim=-1).real + weights["D"][:, None] * x[:, t])
    y = torch.stack(ys, dim=1).flatten(-2) * z * torch.sigmoid(z)
    return y @ weights["out_proj.weight"].T


mamba3_mixer.slip(
    "The biases of B and C are left out. They are no biases of a projection: each head adds its own to B and C after "
    "their norm.",
    leaves_out_the_biases={
        ' + weights["B_bias"][:, 0]': ".expand(-1, -1, h, -1)",
        ' + weights["C_bias"][:, 0]': ".expand(-1, -1, h, -1)",
    },
)

mamba3_mixer.slip(
    "B and C go into the state without their norms: `F.rms_norm` first, then the bias of each head.",
    leaves_out_the_norms={
        'F.rms_norm(B, (n,), weights["B_norm.weight"], 1e-5)': "B",
        'F.rms_norm(C, (n,), weights["C_norm.weight"], 1e-5)': "C",
    },
)

mamba3_mixer.slip(
    "It turns the other way. Mamba-3 turns B and C forward; `turn_onto` turns them back, so it needs minus the angle.",
    turns_the_other_way={"-angle.transpose(1, 2)": "angle.transpose(1, 2)"},
)

mamba3_mixer.slip(
    "Nothing turns: B and C go to the scan as they are.",
    lets_nothing_turn={"-angle.transpose(1, 2)": "0 * angle.transpose(1, 2)"},
)

mamba3_mixer.slip(
    "z and x are exchanged: the gate comes first in the projection.",
    exchanges_gate_and_x={"z, x, B, C, dt": "x, z, B, C, dt"},
)

mamba3_mixer.slip(
    "dt and A are exchanged: the projection has dt first.",
    exchanges_dt_and_A={"C, dt, A, trap, angle =": "C, A, dt, trap, angle ="},
)

mamba3_mixer.slip(
    "Nothing passes by the state: D x is left out.",
    forgets_the_skip={'y + weights["D"][:, None] * x': "y"},
)

mamba3_mixer.slip(
    "The gate is a sigmoid here. It is a silu, z times its sigmoid.",
    gates_by_a_sigmoid={"F.silu(z)": "torch.sigmoid(z)"},
)

turn_onto.slip(
    "Angles are added up over the pairs of a token. Each pair turns by itself: add up along the tokens.",
    adds_up_pairs={"dim=-2": "dim=-1"},
)

turn_onto.slip(
    "C is turned by the angles of the tokens before it alone. What a token reads has turned at that token too.",
    reads_before_it_turns={"rotate_pairs(C, -since_start)": "rotate_pairs(C, angle - since_start)"},
)

trapezoid.slip(
    "What the token before wrote is weighed with its own dt and lam. Both ends of a step have those of the token that "
    "comes: only x and B are of the one before.",
    weighs_with_the_token_before={
        "before = lam * dt, (1 - lam) * dt * torch.exp(log_decay)": (
            "before = lam * dt, F.pad(((1 - lam) * dt)[:, :-1], (0, 0, 1, 0)) * torch.exp(log_decay)"
        ),
    },
)

trapezoid.slip(
    "Both ends count one half here, whatever lam is. lam is what each token chooses.",
    halves_both={"lam * dt, (1 - lam) * dt": "dt / 2, dt / 2"},
)

trapezoid.slip(
    "It looks at the token that comes next. A scan must not: the other end of the step is the token before.",
    looks_ahead={"part[:, :-1], (0, 0, 0, 0, 1, 0)": "part[:, 1:], (0, 0, 0, 0, 0, 1)"},
)

trapezoid.slip(
    "What comes is written with the B of the token before. Only the look back takes the last B, with the last x.",
    writes_both_with_the_last_B={
        "scan(now[..., None] * x, log_decay, B, C": "scan(now[..., None] * x, log_decay, last_B, C"
    },
)

mamba3_mixer.slip(
    "The gate comes before D x is added, so that D x passes ungated. Add first, then gate.",
    gates_before_the_skip={
        'y = y + weights["D"][:, None] * x': ('y = y * F.silu(z).unflatten(-1, (h, p)) + weights["D"][:, None] * x'),
        "y.flatten(-2) * F.silu(z)": "y.flatten(-2)",
    },
)
