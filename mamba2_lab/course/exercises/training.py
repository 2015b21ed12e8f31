"""Exercises of notebook 08."""
# mypy: allow-untyped-defs

import math

import torch

from mamba2_lab.course.declare import given, reference


def _drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# The loss


@reference(
    stars=2,
    hints=(
        "The logits at a position were made from the tokens up to it. Which token are they a guess of? Is there one "
        "for the last position?",
        "Leave out the last logits, which have nothing to be compared with, and the first token, which nobody had to "
        "guess.",
        "`cross_entropy` wants (tokens, v) and (tokens,): `flatten(0, 1)` joins the first two axes.",
    ),
)
def next_token_loss(logits, ids):
    """logits (b,l,v), made by reading ids (b,l) -> mean surprise in nats over the b (l-1) tokens that were guessed."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@next_token_loss.cases
def two_rows_and_as_many_tokens_as_kinds():
    ids = torch.tensor([[0, 2, 1, 1, 4], [3, 0, 0, 2, 1]])
    square = torch.tensor([[0, 2, 1, 1]])  # as many guesses as kinds: axes in the wrong order do not raise
    return [given(2 * _drawn(1, 4, 3, seed=1), square), given(3 * _drawn(2, 5, 6), ids)]


@next_token_loss.oracle
def surprise_of_each_token(logits, ids):
    b, l = ids.shape
    surprises = []
    for row in range(b):
        for t in range(l - 1):
            weights = [math.exp(logit) for logit in logits[row, t].tolist()]
            surprises.append(-math.log(weights[ids[row, t + 1]] / sum(weights)))
    return math.fsum(surprises) / len(surprises)


@next_token_loss.wrong(
    "The logits are compared with the token that the model has just read, not with the next one. Such a model learns "
    "to copy: its loss falls nearly to 0, and it can say nothing about what comes."
)
def does_not_shift(logits, ids):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())


@next_token_loss.wrong(
    "Shifted the wrong way: the logits at t are a guess of token t + 1, here they are compared with token t - 1, which "
    "the model has read."
)
def shifts_the_wrong_way(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:, 1:].flatten(0, 1), ids[:, :-1].flatten())


@next_token_loss.wrong(
    "`roll` brings the first token round to the end, and the last logits are asked for it. The last position has no "
    "target: leave it out."
)
def rolls_round(logits, ids):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.roll(-1, dims=1).flatten())


@next_token_loss.wrong(
    "`cross_entropy` takes logits and does the softmax itself. Given probabilities it takes their softmax once more: "
    "all differences are flattened, and the gradient with them."
)
def takes_softmax_twice(logits, ids):
    probabilities = logits[:, :-1].softmax(dim=-1)
    return torch.nn.functional.cross_entropy(probabilities.flatten(0, 1), ids[:, 1:].flatten())


@next_token_loss.wrong(
    "`cross_entropy` takes the second axis for the kinds of token, and here it is the time. Join rows and time first, "
    "so that (tokens, v) meets (tokens,)."
)
def takes_time_for_the_vocabulary(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:, :-1], ids[:, 1:])


@next_token_loss.wrong(
    "This is the sum over the tokens, not their mean. It grows with the batch and the length, and the gradient and the "
    "best learning rate with it."
)
def sums_over_tokens(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")


# The schedule


@reference(
    stars=2,
    hints=(
        "Two formulas, joined at step = warmup. In the first, step 0 is already one part of the way up.",
        "How much of the way down has been gone is (step - warmup) / (steps - warmup), from 0 to 1. Half a wave of the "
        "cosine leads from 1 to -1 meanwhile.",
        "Bring that cosine from (1, -1) to (1, 0) by adding 1 and halving. Then 0.9 of the peak follows it, and 0.1 of "
        "the peak is always there.",
    ),
)
def learning_rate(step, steps, peak, warmup):
    """step counts from 0 -> a line up to the peak in its first `warmup` steps, then half a cosine down: step `steps`,
    one after the last, would have peak / 10."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


@learning_rate.cases
def on_the_way_up_at_the_peak_and_on_the_way_down():
    return [given(step, 100, 0.02, 10) for step in (4, 0, 9, 10, 25, 70, 99)] + [given(30, 60, 1e-3, 5)]


@learning_rate.oracle
def a_point_on_a_circle(step, steps, peak, warmup):
    """The height of a point that goes half round a circle, by the half-angle formula: cos^2(a / 2)."""
    if step < warmup:
        return sum(peak / warmup for _ in range(step + 1))
    angle = math.pi * (step - warmup) / (steps - warmup)
    return 0.1 * peak + (peak - 0.1 * peak) * math.cos(angle / 2) ** 2


@learning_rate.wrong(
    "Step 0 has the rate 0: a whole batch is read, nothing is learned from it. Let step 0 have 1 / warmup of the peak."
)
def starts_at_zero(step, steps, peak, warmup):
    if step < warmup:
        return peak * step / warmup
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2)


@learning_rate.wrong(
    "The way down ends at 0. The last steps would do nothing; here a tenth of the peak is left at the end."
)
def falls_to_zero(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


@learning_rate.wrong(
    "The cosine starts at step 0, so the rate jumps where the two formulas meet. Count the way down from the end of "
    "the warm-up."
)
def counts_from_the_beginning(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)


@learning_rate.wrong(
    "A whole wave of the cosine: the rate falls until halfway and then climbs back to the peak. Half a wave, up to pi, "
    "ends at the bottom."
)
def goes_a_whole_wave(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.1 + 0.9 * (1 + math.cos(2 * math.pi * (step - warmup) / (steps - warmup))) / 2)


@learning_rate.wrong(
    "The way down ends at the last step. That is a fair way to end, and some do it so; here it ends one step later, as "
    "in `fit`, whose losses yours will be compared with. Divide by steps - warmup."
)
def ends_at_the_last_step(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - warmup) / (steps - 1 - warmup))) / 2)


@learning_rate.wrong("This falls in a straight line. The cosine stays near the peak at first and is gentle at the end.")
def falls_in_a_line(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 - 0.9 * (step - warmup) / (steps - warmup))


# Which weights are pulled to zero


@reference(
    stars=1,
    hints=(
        "What counts is the last part of a name: `layers.0.mixer.A_log` ends in `A_log`.",
        '`name.split(".")[-1]` is that last part. Sort the tensors into two lists by it.',
    ),
)
def parameter_groups(named, weight_decay):
    """{name: weight} -> two groups {"params": list, "weight_decay": number}; the second: dt_bias, A_log, D, with 0."""
    exempt = ("dt_bias", "A_log", "D")
    decayed = [weight for name, weight in named.items() if name.split(".")[-1] not in exempt]
    free = [weight for name, weight in named.items() if name.split(".")[-1] in exempt]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@parameter_groups.cases
def the_names_of_one_block():
    shapes = {
        "embedding.weight": (3, 2),
        "layers.0.norm.weight": (2,),
        "layers.0.mixer.dt_bias": (2,),
        "layers.0.mixer.A_log": (2,),
        "layers.0.mixer.D": (2,),
        "layers.0.mixer.conv1d.weight": (2, 1, 2),
        "layers.0.mixer.conv1d.bias": (2,),
        "layers.0.mixer.out_proj.weight": (2, 2),
    }
    return [given({name: _drawn(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}, 0.1)]


@parameter_groups.oracle
def picked_by_hand(named, weight_decay):
    weights = list(named.values())
    return [
        {"params": [weights[i] for i in (0, 1, 5, 6, 7)], "weight_decay": weight_decay},
        {"params": [weights[i] for i in (2, 3, 4)], "weight_decay": 0.0},
    ]


@parameter_groups.wrong(
    "No weight was exempt. The full names have a path in front, as in `layers.0.mixer.A_log`: compare the last part."
)
def compares_whole_names(named, weight_decay):
    exempt = ("dt_bias", "A_log", "D")
    decayed = [weight for name, weight in named.items() if name not in exempt]
    free = [weight for name, weight in named.items() if name in exempt]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@parameter_groups.wrong("The groups are exchanged: the memory is pulled towards zero, and the matrices are not.")
def exchanges_the_groups(named, weight_decay):
    exempt = ("dt_bias", "A_log", "D")
    decayed = [weight for name, weight in named.items() if name.split(".")[-1] in exempt]
    free = [weight for name, weight in named.items() if name.split(".")[-1] not in exempt]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@parameter_groups.wrong(
    "This goes by shape: every vector is exempt. A common rule elsewhere; here norms and biases are decayed, and only "
    "what sets time scales and passes (dt_bias, A_log, D) is not."
)
def exempts_all_vectors(named, weight_decay):
    decayed = [weight for weight in named.values() if weight.ndim > 1]
    free = [weight for weight in named.values() if weight.ndim == 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@parameter_groups.wrong(
    "The exempt weights are in no group at all, so the optimiser does not know them and they are never trained. Not to "
    "be decayed is not the same as not to be learned."
)
def leaves_them_out(named, weight_decay):
    exempt = ("dt_bias", "A_log", "D")
    decayed = [weight for name, weight in named.items() if name.split(".")[-1] not in exempt]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": [], "weight_decay": 0.0}]


# Clipping


@reference(
    stars=2,
    hints=(
        "All gradients together are one long vector. How long is it, if you know the length of each part?",
        "The squares of the lengths add up. Then one factor for all: max_norm / norm, or 1 if they are short enough.",
    ),
)
def clip_gradients(gradients, max_norm):
    """A list of tensors -> a new list, scaled by one factor: together, as one vector, at most max_norm long."""
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    factor = min(1.0, max_norm / norm)
    return [gradient * factor for gradient in gradients]


@clip_gradients.cases
def too_long_short_enough_and_long_together_only():
    return [
        given([torch.tensor([2.0, 3.0]), torch.tensor([[0.5, -6.0]])], 1.0),
        given([torch.tensor([0.3]), torch.tensor([0.4])], 1.0),
        given([torch.tensor([0.8]), torch.tensor([0.9]), torch.tensor([0.1, -0.2])], 1.0),
    ]


@clip_gradients.oracle
def by_the_length_of_the_whole(gradients, max_norm):
    length = math.hypot(*(entry for gradient in gradients for entry in gradient.flatten().tolist()))
    return [gradient.double() / max(1.0, length / max_norm) for gradient in gradients]


@clip_gradients.wrong(
    "Each tensor is clipped by itself, which changes their proportions, and so the direction. Take one norm over all."
)
def clips_each_alone(gradients, max_norm):
    return [gradient * min(1.0, max_norm / gradient.norm()) for gradient in gradients]


@clip_gradients.wrong(
    "Each entry is cut at max_norm. Large entries are shortened more than small ones, so the direction changes. Scale "
    "all entries by the same factor."
)
def clamps_entries(gradients, max_norm):
    return [gradient.clamp(-max_norm, max_norm) for gradient in gradients]


@clip_gradients.wrong(
    "Short gradients are made longer: every step would be of the same length, even where the loss is nearly flat. The "
    "factor is at most 1."
)
def always_scales_to_the_limit(gradients, max_norm):
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    return [gradient * max_norm / norm for gradient in gradients]


@clip_gradients.wrong("The lengths of the parts were added. Lengths do not add up (3 and 4 make 5), their squares do.")
def adds_the_norms(gradients, max_norm):
    norm = sum(gradient.norm() for gradient in gradients)
    return [gradient * min(1.0, max_norm / norm) for gradient in gradients]


# The update


@reference(
    stars=3,
    hints=(
        "m and v are running means of the gradient and of its square: a share beta is kept, the rest is new.",
        "Both began at 0, so at step 1 they hold only a share 1 - beta of what they should. Divide by 1 - beta^step "
        "before you use them; what is returned stays as it was.",
        "The weight moves by rate times two things: the mean divided by the root of the mean square (plus 1e-8), and "
        "decay times the weight itself. The decay stays out of m and v.",
    ),
)
def adamw(weight, gradient, m, v, step, rate, decay):
    """All tensors of one shape; step counts from 1, betas (0.9, 0.95), epsilon 1e-8 -> new (weight, m, v)."""
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@adamw.cases
def the_first_step_a_later_one_and_hardly_any_gradient():
    weight, gradient, m, v = (_drawn(4, seed=seed) for seed in range(4))
    none = torch.zeros(4)
    faint = torch.tensor([0.0, 1e-8, -1e-8, 1.0])  # epsilon decides
    return [
        given(weight, gradient, none, none, 1, 0.01, 0.1),
        given(weight, gradient, 0.1 * m, v**2, 5, 0.02, 0.4),
        given(weight, faint, none, none, 1, 0.1, 0.0),
    ]


@adamw.oracle
def entry_by_entry(weight, gradient, m, v, step, rate, decay):
    """Loshchilov and Hutter, arXiv:1711.05101, algorithm 2, with the means written as sums of what they hold."""
    rows = []
    for w, g, first, second in zip(*(tensor.double().tolist() for tensor in (weight, gradient, m, v)), strict=True):
        first, second = first + (g - first) / 10, second + (g * g - second) / 20
        ahead, spread = first / -math.expm1(step * math.log(0.9)), second / -math.expm1(step * math.log(0.95))
        rows.append((w * (1 - rate * decay) - rate * ahead / (math.sqrt(spread) + 1e-8), first, second))
    return [list(column) for column in zip(*rows, strict=True)]


@adamw.wrong(
    "m and v start at 0 and are too small at first, and not by the same share: the first steps have the wrong length. "
    "Divide each by 1 - beta^step."
)
def trusts_the_means_at_once(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    return weight - rate * (m / (v.sqrt() + 1e-8) + decay * weight), m, v


@adamw.wrong(
    "The decay went into the gradient, and is then divided by the root of v like the rest: weights with large "
    "gradients are hardly decayed. That is Adam with L2; in AdamW the decay acts on the weight directly."
)
def decays_through_the_gradient(weight, gradient, m, v, step, rate, decay):
    gradient = gradient + decay * weight
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    return weight - rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8), m, v


@adamw.wrong(
    "The decay is not scaled by the rate: each step would take away that share of the weight, even at the end, when "
    "the steps are small."
)
def decays_at_full_rate(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * direction - decay * weight, m, v


@adamw.wrong(
    "v is the mean of the square: take its root before dividing. Without it, a gradient twice as large makes a step "
    "half as long."
)
def forgets_the_root(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = (m / (1 - 0.9**step)) / (v / (1 - 0.95**step) + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@adamw.wrong(
    "The corrected means are returned, and the next step would correct them again. The correction is for use only: "
    "return m and v as they are."
)
def returns_the_corrected_means(weight, gradient, m, v, step, rate, decay):
    m = (0.9 * m + 0.1 * gradient) / (1 - 0.9**step)
    v = (0.95 * v + 0.05 * gradient**2) / (1 - 0.95**step)
    return weight - rate * (m / (v.sqrt() + 1e-8) + decay * weight), m, v


# A batch in parts


@reference(
    stars=1,
    hints=(
        "If one part has 3 tokens and another 300, how much should each weigh?",
        "A mean times its count is the sum of that part. Add up the sums, and divide by all tokens.",
    ),
)
def joined_loss(means, counts):
    """means (k,), the mean loss of each part; counts (k,), its tokens -> the mean over all tokens, a tensor ()."""
    return (means * counts).sum() / counts.sum()


@joined_loss.cases
def parts_of_different_sizes_an_empty_one_and_equal_ones():
    return [
        given(torch.tensor([2.0, 1.0, 4.0]), torch.tensor([300, 10, 90])),
        given(torch.tensor([2.5, 1.5]), torch.tensor([64, 64])),
        given(torch.tensor([3.0, 0.0, 1.0]), torch.tensor([10, 0, 30])),
    ]


@joined_loss.oracle
def token_by_token(means, counts):
    losses = [mean for mean, count in zip(means.tolist(), counts.tolist(), strict=True) for _ in range(count)]
    return math.fsum(losses) / len(losses)


@joined_loss.wrong(
    "A mean of means: a part of 10 tokens weighs as much as one of 300. It is right only if all parts have the same "
    "number of tokens."
)
def takes_the_mean_of_means(means, counts):
    return means.mean()


@joined_loss.wrong("The means were added up, so a batch in k parts gets k times the loss, and k times the gradient.")
def adds_the_means(means, counts):
    return means.sum()


@joined_loss.wrong("This is the sum over all tokens. Divide it by how many there are.")
def forgets_to_divide(means, counts):
    return (means * counts).sum()
