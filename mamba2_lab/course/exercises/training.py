"""Exercises of notebook 08."""
# mypy: allow-untyped-defs

import math

import torch

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws

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
    return [given(2 * Draws(1).normal(1, 4, 3), square), given(3 * Draws(0).normal(2, 5, 6), ids)]


@next_token_loss.oracle
def surprise_of_each_token(logits, ids):
    b, l = ids.shape
    surprises = []
    for row in range(b):
        for t in range(l - 1):
            weights = [math.exp(logit) for logit in logits[row, t].tolist()]
            surprises.append(-math.log(weights[ids[row, t + 1]] / sum(weights)))
    return math.fsum(surprises) / len(surprises)


next_token_loss.slip(
    "The logits are compared with the token that the model has just read, not with the next one. Such a model learns "
    "to copy: its loss falls nearly to 0, and it can say nothing about what comes.",
    does_not_shift={"logits[:, :-1]": "logits", "ids[:, 1:]": "ids"},
)

next_token_loss.slip(
    "Shifted the wrong way: the logits at t are a guess of token t + 1, here they are compared with token t - 1, which "
    "the model has read.",
    shifts_the_wrong_way={"logits[:, :-1]": "logits[:, 1:]", "ids[:, 1:]": "ids[:, :-1]"},
)

next_token_loss.slip(
    "`roll` brings the first token round to the end, and the last logits are asked for it. The last position has no "
    "target: leave it out.",
    rolls_round={"logits[:, :-1]": "logits", "ids[:, 1:]": "ids.roll(-1, dims=1)"},
)

next_token_loss.slip(
    "`cross_entropy` takes logits and does the softmax itself. Given probabilities it takes their softmax once more: "
    "all differences are flattened, and the gradient with them.",
    takes_softmax_twice={"logits[:, :-1]": "logits[:, :-1].softmax(dim=-1)"},
)

next_token_loss.slip(
    "`cross_entropy` takes the second axis for the kinds of token, and here it is the time. Join rows and time first, "
    "so that (tokens, v) meets (tokens,).",
    takes_time_for_the_vocabulary={".flatten(0, 1)": "", ".flatten()": ""},
)

next_token_loss.slip(
    "This is the sum over the tokens, not their mean. It grows with the batch and the length, and the gradient and the "
    "best learning rate with it.",
    sums_over_tokens={"ids[:, 1:].flatten()": 'ids[:, 1:].flatten(), reduction="sum"'},
)

next_token_loss.slip(
    "The mean was taken of the probabilities, and then one logarithm. Surprise belongs to a token: first the logarithm "
    "of each, then the mean.",
    averages_probabilities={
        "return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())": (
            "return -logits[:, :-1].softmax(dim=-1).gather(2, ids[:, 1:, None]).mean().log()"
        ),
    },
)

next_token_loss.slip(
    "Rows and time were joined first and shifted afterwards: the end of each row is asked for the beginning of the "
    "next. Shift each row by itself.",
    shifts_across_rows={
        "logits[:, :-1].flatten(0, 1)": "logits.flatten(0, 1)[:-1]",
        "ids[:, 1:].flatten()": "ids.flatten()[1:]",
    },
)

next_token_loss.slip(
    "Only the last token counts. Every token but the first was guessed: take the mean over all of them.",
    takes_the_last_token={"logits[:, :-1].flatten(0, 1)": "logits[:, -2]", "ids[:, 1:].flatten()": "ids[:, -1]"},
)

next_token_loss.slip(
    "This is how sure the model is, of whatever token it likes best. The surprise is that of the token that came: "
    "look it up by `ids`.",
    takes_the_likeliest={"ids[:, 1:].flatten()": "logits[:, :-1].flatten(0, 1).argmax(dim=-1)"},
)


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
    """step counts from 0 -> a line up to the peak in its first `warmup` steps, then half a cosine down to peak / 10."""
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


learning_rate.also_right(
    reaches_the_end_in_the_last_step={"(steps - warmup)": "(steps - 1 - warmup)"},
    has_the_peak_in_one_step_only={
        "(step - warmup)": "(step + 1 - warmup)",
        "(steps - warmup)": "(steps + 1 - warmup)",
    },
    does_both={"(step - warmup)": "(step + 1 - warmup)"},
)

learning_rate.slip(
    "The line goes on in step `warmup`, above the peak. Its steps are counted from 0 too: the last of them is "
    "`warmup` - 1.",
    rises_one_step_too_long={"step < warmup": "step <= warmup"},
)

learning_rate.slip(
    "Step 0 has the rate 0: a whole batch is read, nothing is learned from it. Let step 0 have 1 / warmup of the peak.",
    starts_at_zero={"(step + 1)": "step"},
)

learning_rate.slip(
    "The way down ends at 0. The last steps would do nothing; here a tenth of the peak is left at the end.",
    falls_to_zero={"(0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)": "(1 + math.cos(math.pi * done)) / 2"},
)

learning_rate.slip(
    "The cosine starts at step 0, so the rate jumps where the two formulas meet. Count the way down from the end of "
    "the warm-up.",
    counts_from_the_beginning={"(step - warmup) / (steps - warmup)": "step / steps"},
)

learning_rate.slip(
    "A whole wave of the cosine: the rate falls until halfway and then climbs back to the peak. Half a wave, up to pi, "
    "ends at the bottom.",
    goes_a_whole_wave={"math.pi * done": "2 * math.pi * done"},
)

learning_rate.slip(
    "This is a quarter of a wave: it falls fastest at the end. Half a wave, up to pi, is level at both ends.",
    goes_a_quarter_of_a_wave={"(1 + math.cos(math.pi * done)) / 2": "math.cos(math.pi / 2 * done)"},
)

learning_rate.slip(
    "This falls in a straight line. The cosine stays near the peak at first and is gentle at the end.",
    falls_in_a_line={"(0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)": "(1 - 0.9 * done)"},
)

learning_rate.slip(
    "It ends at 0.1, whatever the peak is. A tenth of the peak is meant: multiply all of it by the peak.",
    ends_at_a_tenth={
        "peak * (0.1 + 0.9 * (1": "0.1 + (peak - 0.1) * (1",
        "done)) / 2)": "done)) / 2",
    },
)


@learning_rate.wrong("There is no warmup: the cosine begins with the first step. At first go up in a line.")
def starts_at_the_peak(step, steps, peak, warmup):
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)


learning_rate.slip(
    "It begins at a tenth of the peak and grows. The cosine goes down: 1 + cos, not 1 - cos.",
    goes_up={"(1 + math.cos": "(1 - math.cos"},
)


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


parameter_groups.returns("the first group", "the second group")


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
    block = {name: Draws(seed).normal(*shape) for seed, (name, shape) in enumerate(shapes.items())}
    return [given(block, 0.1), given(block, 0.02)]


@parameter_groups.oracle
def picked_by_hand(named, weight_decay):
    weights = list(named.values())
    return [
        {"params": [weights[i] for i in (0, 1, 5, 6, 7)], "weight_decay": weight_decay},
        {"params": [weights[i] for i in (2, 3, 4)], "weight_decay": 0.0},
    ]


parameter_groups.slip(
    "No weight was exempt. The full names have a path in front, as in `layers.0.mixer.A_log`: compare the last part.",
    compares_whole_names={
        'name.split(".")[-1] not in exempt': "name not in exempt",
        'name.split(".")[-1] in exempt': "name in exempt",
    },
)

parameter_groups.slip(
    "The groups are exchanged: the memory is pulled towards zero, and the matrices are not.",
    exchanges_the_groups={"[-1] not in exempt": "[-1] in exempt", "[-1] in exempt": "[-1] not in exempt"},
)

parameter_groups.slip(
    "This goes by shape: every vector is exempt. A common rule elsewhere; here norms and biases are decayed, and only "
    "what sets time scales and passes (dt_bias, A_log, D) is not.",
    exempts_all_vectors={
        'name.split(".")[-1] not in exempt': "weight.ndim > 1",
        'name.split(".")[-1] in exempt': "weight.ndim == 1",
    },
)

parameter_groups.slip(
    "The exempt weights are in no group at all, so the optimiser does not know them and they are never trained. Not to "
    "be decayed is not the same as not to be learned.",
    leaves_them_out={'"params": free': '"params": []'},
)

parameter_groups.slip(
    "Every bias is exempt, that of the convolution too. Only `dt_bias`, `A_log` and `D` are: compare the whole last "
    "part of the name.",
    exempts_every_bias={
        'name.split(".")[-1] not in exempt': 'not name.endswith(("bias", "A_log", "D"))',
        'name.split(".")[-1] in exempt': 'name.endswith(("bias", "A_log", "D"))',
    },
)

parameter_groups.slip(
    "The second group is decayed too: its weight_decay must be 0.",
    decays_both_groups={
        '"params": free, "weight_decay": 0.0': '"params": free, "weight_decay": weight_decay',
    },
)


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
        given([torch.tensor([0.8]), torch.tensor([0.9]), torch.tensor([0.1, -0.2])], 0.9),
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


clip_gradients.slip(
    "Short gradients are made longer: every step would be of the same length, even where the loss is nearly flat. The "
    "factor is at most 1.",
    always_scales_to_the_limit={"min(1.0, max_norm / norm)": "max_norm / norm"},
)

clip_gradients.slip(
    "This is the root mean square, the size of a typical entry. The length of a vector is the root of the sum of all "
    "squares.",
    takes_the_mean_square={
        "torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()": (
            "torch.cat([gradient.flatten() for gradient in gradients]).square().mean().sqrt()"
        ),
    },
)

clip_gradients.slip(
    "The lengths of the parts were added. Lengths do not add up (3 and 4 make 5), their squares do.",
    adds_the_norms={
        "torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()": (
            "sum(gradient.norm() for gradient in gradients)"
        ),
    },
)

clip_gradients.slip(
    "That is the sum of the sizes of all entries. The length of a vector is the root of the sum of squares.",
    adds_up_sizes={"gradient.square().sum()": "gradient.abs().sum()", ".sum().sqrt()": ".sum()"},
)

clip_gradients.slip(
    "What is too long is thrown away. It only has to be made shorter.",
    throws_long_ones_away={"min(1.0, max_norm / norm)": "float(norm <= max_norm)"},
)

clip_gradients.slip(
    "The quotient is upside down: what is twice too long has to be halved.",
    turns_the_quotient_round={"max_norm / norm": "norm / max_norm"},
)


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


adamw.returns("`weight`", "`m`", "`v`")


@adamw.cases
def the_first_step_a_later_one_and_hardly_any_gradient():
    weight, gradient, m, v = (Draws(seed).normal(4) for seed in range(4))
    none = torch.zeros(4)
    faint = torch.tensor([0.0, 1e-8, -1e-8, 1.0])  # epsilon decides
    zeros = torch.zeros(2)
    return [
        given(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 4.0]), zeros, zeros, 1, 0.5, 0.25),
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


adamw.slip(
    "m and v start at 0 and are too small at first, and not by the same share: the first steps have the wrong length. "
    "Divide each by 1 - beta^step.",
    trusts_the_means_at_once={
        "(m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)": "m / (v.sqrt() + 1e-8)"
    },
)

adamw.slip(
    "The decay went into the gradient, and is then divided by the root of v like the rest: weights with large "
    "gradients are hardly decayed. That is Adam with L2; in AdamW the decay acts on the weight directly.",
    decays_through_the_gradient={
        "m = 0.9 * m": "gradient = gradient + decay * weight\n    m = 0.9 * m",
        "(direction + decay * weight)": "direction",
    },
)

adamw.slip(
    "The decay is not scaled by the rate: each step would take away that share of the weight, even at the end, when "
    "the steps are small.",
    decays_at_full_rate={"rate * (direction + decay * weight)": "rate * direction - decay * weight"},
)

adamw.slip(
    "v is the mean of the square: take its root before dividing. Without it, a gradient twice as large makes a step "
    "half as long.",
    forgets_the_root={"(v / (1 - 0.95**step)).sqrt()": "v / (1 - 0.95**step)"},
)

adamw.slip(
    "The corrected means are returned, and the next step would correct them again. The correction is for use only: "
    "return m and v as they are.",
    returns_the_corrected_means={
        "0.9 * m + 0.1 * gradient": "(0.9 * m + 0.1 * gradient) / (1 - 0.9**step)",
        "0.95 * v + 0.05 * gradient**2": "(0.95 * v + 0.05 * gradient**2) / (1 - 0.95**step)",
        "(m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)": "m / (v.sqrt() + 1e-8)",
    },
)


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


joined_loss.slip(
    "This is the sum over all tokens. Divide it by how many there are.",
    forgets_to_divide={" / counts.sum()": ""},
)

joined_loss.slip(
    "It divides by the number of parts. The losses were multiplied by their tokens, so divide by all tokens.",
    divides_by_the_number_of_parts={
        "/ counts.sum()": "/ len(means)",
    },
)
