"""Exercises of notebook 10."""
# mypy: allow-untyped-defs

import math

import torch

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws

# How fast it fades


@reference(
    stars=1,
    hints=(
        "All tokens together multiply the state by the product of their decays. A constant decay that fades as much "
        "has the same product.",
        "The logarithm of a product is a sum, so the constant one has the mean log decay. Then it is notebook 01.",
    ),
)
def half_life_here(log_decay):
    """log_decay (l,h) <= 0 -> (h,): half-life, in tokens, of the constant decay that fades as much in all."""
    return math.log(2) / -log_decay.mean(dim=0)


@half_life_here.cases
def even_and_uneven_heads():
    return [
        given(torch.tensor([[-0.1, -0.02, -3.0], [-0.1, -0.9, -0.01], [-0.1, -0.01, -0.01], [-0.1, -0.3, -0.02]])),
        given(-Draws(100).normal(9, 4).exp()),
        given(torch.tensor([[-0.5, -2.0]])),
    ]


@half_life_here.oracle
def from_the_product_of_all_decays(log_decay):
    l = len(log_decay)
    products = [math.exp(math.fsum(head)) for head in log_decay.T.tolist()]
    return [math.log(0.5) / math.log(product ** (1 / l)) for product in products]


half_life_here.slip(
    "It averages the decays. They are multiplied, not added: a single decay of 0 would empty the state, and hardly "
    "move their mean. Average the log decays.",
    averages_the_decays={"log_decay.mean(dim=0)": "log_decay.exp().mean(dim=0).log()"},
)

half_life_here.slip(
    "It averages half-lives of single tokens. One token that keeps nearly all has a huge one, and rules the mean, "
    "whatever the others do. First the mean log decay, then its half-life.",
    averages_half_lives={"math.log(2) / -log_decay.mean(dim=0)": "(math.log(2) / -log_decay).mean(dim=0)"},
)

half_life_here.slip(
    "This is the time after which 1/e is left, about 37 %. For one half a factor ln 2 is missing.",
    forgets_ln_2={"math.log(2)": "1"},
)

half_life_here.slip(
    "A half-life is a time that passes, so it is positive. Log decays are below 0: turn their sign.",
    forgets_the_sign={"-log_decay": "log_decay"},
)

half_life_here.slip(
    "It takes the middle token in place of the mean. A head that resets now and then keeps nearly all at the middle "
    "token, and loses it all the same.",
    takes_the_median={"mean(dim=0)": "quantile(0.5, dim=0)"},
)

half_life_here.slip(
    "The log decays are added up over the text, so this counts texts, not tokens. Their mean is the log decay of one "
    "token.",
    counts_texts_instead_of_tokens={
        "log_decay.mean(dim=0)": "log_decay.sum(dim=0)",
    },
)

half_life_here.slip(
    "It takes the mean over all heads, so each gets the same half-life. Each head fades in its own way: take the mean "
    "over the tokens alone.",
    makes_all_heads_one={"log_decay.mean(dim=0)": "log_decay.mean().expand(log_decay.shape[1])"},
)

half_life_here.slip(
    "This is the half-life of the one token that faded most. A single strong decay counts once among the others: take "
    "the mean of the log decays.",
    takes_the_strongest={"log_decay.mean(dim=0)": "log_decay.amin(dim=0)"},
)


# A pair, written and read


@reference(
    stars=2,
    hints=(
        "Two things happen to the pair at each token: the state fades, then it is read. How much is left after the "
        "first token's decay? And after the second's?",
        "What is left after token t is the product of decays 0 to t, the exponential of a running sum. What C finds of "
        "it is its product with the key.",
    ),
)
def overlap(log_decay, C, key):
    """log_decay (l,), C (l,n), key (n,) -> (l,): how much of a value written with key the next l tokens read."""
    return log_decay.cumsum(dim=0).exp() * (C @ key)


@overlap.cases
def queries_of_both_signs_and_a_single_token():
    return [
        given(torch.tensor([-0.7, -0.1, -1.2, -0.3]), Draws(101).normal(4, 3), torch.tensor([2.0, -1.0, 0.5])),
        given(-Draws(102).normal(7).exp(), Draws(103).normal(7, 5), Draws(104).normal(5)),
        given(torch.tensor([-0.5]), torch.tensor([[1.0, 2.0]]), torch.tensor([3.0, -1.0])),
    ]


@overlap.oracle
def token_by_token(log_decay, C, key):
    read, state = [], key.double()
    for step, query in zip(log_decay.tolist(), C.double(), strict=True):
        state = state * math.exp(step)
        read.append(math.fsum((query * state).tolist()))
    return read


overlap.slip(
    "The first token does not fade what it finds. Each token first multiplies the state by its decay and then reads, "
    "the first one too.",
    spares_the_first_token={"log_decay.cumsum(dim=0)": "(log_decay.cumsum(dim=0) - log_decay)"},
)

overlap.slip(
    "Nothing fades: it is only how well each C fits the key. Multiply by what is left of the pair.",
    forgets_to_fade={"log_decay.cumsum(dim=0).exp() * (C @ key)": "C @ key"},
)

overlap.slip(
    "Each token applies its own decay alone. Those of the tokens before it have passed over the pair as well.",
    fades_by_one_token_only={".cumsum(dim=0)": ""},
)

overlap.slip(
    "Its sign is gone. A token whose C points away from the key reads the value with a minus, and subtracts it.",
    loses_the_sign={"(C @ key)": "(C @ key).abs()"},
)

overlap.slip(
    "It takes the angle between C and key, but their lengths count as well: the state is read by a plain product.",
    takes_the_cosine={"(C @ key)": "(C @ key) / (C.norm(dim=-1) * key.norm())"},
)


# Who made an output


@reference(
    stars=1,
    hints=(
        "A part that points where the whole points helps to make it; one that points the other way takes from it. "
        "Which product of two vectors tells?",
        "The shares must add up to 1, and the parts add up to the whole: divide by the product of the whole with "
        "itself.",
    ),
)
def shares(parts, whole):
    """parts (k,p), whole (p,) their sum -> (k,): how far each part goes in the direction of the whole, 1 in all."""
    return parts @ whole / (whole @ whole)


@shares.cases
def parts_that_help_and_parts_that_hinder():
    cases = []
    for parts in (torch.tensor([[3.0, 1.0], [-1.0, 0.0], [-1.0, 1.0]]), Draws(105).normal(6, 4)):
        cases.append(given(parts, parts.sum(dim=0)))
    return cases


@shares.oracle
def by_length_and_angle(parts, whole):
    parts, whole = parts.double(), whole.double()
    cosines = torch.nn.functional.cosine_similarity(parts, whole[None], dim=1)
    return parts.norm(dim=1) * cosines / whole.norm()


@shares.wrong(
    "It shares out lengths. A part that points against the whole takes from it, and has to have a negative share."
)
def shares_out_lengths(parts, whole):
    return parts.norm(dim=1) / parts.norm(dim=1).sum()


shares.slip(
    "These are products, but the shares do not add up to 1 yet. Divide by the product of the whole with itself.",
    forgets_to_divide={" / (whole @ whole)": ""},
)

shares.slip(
    "It divides by the length of the whole once. The product has that length in it twice: once in the whole, once in "
    "the sum of all parts.",
    divides_by_the_length={"(whole @ whole)": "whole.norm()"},
)

shares.slip(
    "A softmax makes positive shares of anything: a part that subtracts seems to be one that hardly counts. Leave the "
    "products as they are.",
    takes_a_softmax={"parts @ whole / (whole @ whole)": "(parts @ whole / (whole @ whole)).softmax(dim=0)"},
)

shares.slip(
    "This compares lengths. A long part may stand across the whole, or against it, and add nothing: measure along the "
    "whole, with the dot product.",
    compares_lengths={
        "parts @ whole / (whole @ whole)": "parts.norm(dim=1) / whole.norm()",
    },
)

shares.slip(
    "This is the cosine: how well a part points along the whole, however long it is. The length of the part counts as "
    "well; divide by that of the whole alone, squared.",
    takes_the_cosine={
        "parts @ whole / (whole @ whole)": "parts @ whole / (parts.norm(dim=1) * whole.norm())",
    },
)

shares.slip(
    "The shares were made to add up to 1 in size. With their signs they do so by themselves: divide by the product of "
    "the whole with itself.",
    adds_up_sizes={"(whole @ whole)": "(parts @ whole).abs().sum()"},
)

shares.slip(
    "Squares have no sign. A part that points against the whole takes from it, and has to have a negative share.",
    shares_out_squares={"parts @ whole / (whole @ whole)": "(parts @ whole).square() / (parts @ whole).square().sum()"},
)

shares.slip(
    "Each part was divided by its own length, so this says how much of the whole lies along the part. Divide by the "
    "product of the whole with itself, the same for all.",
    measures_along_the_parts={"(whole @ whole)": "parts.square().sum(dim=1)"},
)

shares.slip(
    "The numbers of each part were added up. That is how far it goes along (1, 1, ...); multiply by the whole, to see "
    "how far it goes along that.",
    adds_up_numbers={"parts @ whole / (whole @ whole)": "parts.sum(dim=1) / whole.sum()"},
)

shares.slip(
    "Each entry is divided by that of the whole, and all count alike, so a tiny entry of the whole decides. Multiply, "
    "add up, and divide once.",
    means_of_ratios={"parts @ whole / (whole @ whole)": "(parts / whole).mean(dim=1)"},
)

shares.slip(
    "Sizes are added up, so what points against the whole counts as if it pointed along it. Multiply with the whole.",
    adds_sizes_not_products={"parts @ whole / (whole @ whole)": "parts.abs().sum(dim=1) / whole.abs().sum()"},
)

shares.slip(
    "A softmax makes shares of any numbers, and none of them is below 0. A part that works against the whole has a "
    "share below 0: divide by what all have together.",
    takes_a_softmax_of_products={"parts @ whole / (whole @ whole)": "(parts @ whole).softmax(dim=0)"},
)


# The convolution taken apart


@reference(
    stars=3,
    hints=(
        "silu(v) = v * sigmoid(v), and v is a sum. What if sigmoid(v) were a mere number, the same for each of its "
        "terms?",
        "It is, once v is known: multiply each term by the sigmoid of the whole sum. The bias is a term as well.",
        "`terms = torch.cat([taps * inputs, bias[None]])` holds all terms of v, (w+1,p).",
    ),
)
def through_silu(inputs, taps, bias):
    """inputs (w,p), taps (w,p), bias (p,) -> (w+1,p): what each input, and the bias, adds to silu(v)."""
    terms = torch.cat([taps * inputs, bias[None]])
    return terms * torch.sigmoid(terms.sum(dim=0))


@through_silu.cases
def terms_that_cancel_in_part():
    return [
        given(
            torch.tensor([[1.0, -2.0], [3.0, 0.5]]), torch.tensor([[0.5, 1.0], [-1.0, 2.0]]), torch.tensor([0.3, -0.4])
        ),
        given(Draws(106).normal(4, 3), Draws(107).normal(4, 3), Draws(108).normal(3)),
    ]


@through_silu.oracle
def the_same_part_of_silu_as_of_the_sum(inputs, taps, bias):
    terms = [*(taps.double() * inputs.double()).unbind(0), bias.double()]
    v = sum(terms)
    return torch.stack([torch.nn.functional.silu(v) * term / v for term in terms])


through_silu.slip(
    "It bends each term by itself, and bent terms do not add up to the bent sum. One factor, that of the whole sum, is "
    "for all of them.",
    bends_each_term={"terms.sum(dim=0)": "terms"},
)

through_silu.slip(
    "The bias is missing inside the sigmoid: the convolution adds it before the silu, so it has its part in the "
    "factor.",
    leaves_the_bias_out_of_the_sigmoid={"terms.sum(dim=0)": "(taps * inputs).sum(dim=0)"},
)

through_silu.slip(
    "It shares silu(v) out evenly. That adds up too, but an input with tap 0 had no part in it and gets as much as the "
    "others.",
    shares_out_evenly={
        "terms * torch.sigmoid(terms.sum(dim=0))": (
            "torch.nn.functional.silu(terms.sum(dim=0)).expand_as(terms) / len(terms)"
        ),
    },
)


@through_silu.wrong(
    "It multiplies by the slope of silu at v. That says what a small change of a term would do, and does not add up to "
    "silu(v)."
)
def takes_the_slope(inputs, taps, bias):
    terms = torch.cat([taps * inputs, bias[None]])
    v = terms.sum(dim=0)
    gate = torch.sigmoid(v)
    return terms * gate * (1 + v * (1 - gate))


through_silu.slip(
    "The taps are turned round: `taps[-1]` belongs to the last input, the token's own.",
    turns_the_taps_round={"taps * inputs": "taps.flip(0) * inputs"},
)

through_silu.slip(
    "These are the terms of v, before silu. silu(v) = v * sigmoid(v): each term takes the sigmoid of the sum with it.",
    leaves_silu_out={
        " * torch.sigmoid(terms.sum(dim=0))": "",
    },
)

through_silu.slip(
    "These are shares of v, which add up to 1. They have to add up to silu(v): multiply them by it.",
    gives_shares_of_v={"* torch.sigmoid(terms.sum(dim=0))": "/ terms.sum(dim=0)"},
)

through_silu.slip(
    "The bias stands first. The inputs come first, in their order, and the bias last.",
    puts_the_bias_first={
        "[taps * inputs, bias[None]]": "[bias[None], taps * inputs]",
    },
)

through_silu.slip(
    "Each term is multiplied by silu of the sum, so the sum comes in twice: silu(v) = v * sigmoid(v), and the terms "
    "already add up to v.",
    multiplies_by_silu={
        "torch.sigmoid(": "torch.nn.functional.silu(",
    },
)

through_silu.slip(
    "The bias is shared out among the inputs. It is a part of its own, and has the last row.",
    shares_the_bias={"torch.cat([taps * inputs, bias[None]])": "taps * inputs + bias / len(inputs)"},
)

through_silu.slip(
    "Each one gets all of silu(v). Together they should add up to it: give each its own term, times sigmoid(v).",
    gives_the_whole_to_each={"terms * torch.sigmoid": "terms.sum(dim=0).expand_as(terms) * torch.sigmoid"},
)


# How sure one can be


@reference(
    stars=2,
    hints=(
        "One row of `picks` is a collection of files, some of them twice. `sums[picks]` has the sums of each such "
        "collection, (r,f).",
        "The mean over all bytes of a collection is the sum of its sums over the sum of its counts.",
    ),
)
def resampled(sums, counts, picks):
    """sums (f,), counts (f,) of f files, picks (r,f) file numbers -> (r,): each row's mean over all bytes."""
    return sums[picks].sum(dim=1) / counts[picks].sum(dim=1)


@resampled.cases
def files_of_very_different_sizes():
    sums, counts = torch.tensor([3.0, 40.0, 5.0]), torch.tensor([10, 20, 50])
    return [
        given(sums, counts, torch.tensor([[2, 2, 0], [0, 1, 2], [1, 1, 1], [0, 2, 0]])),
        given(sums[:2], counts[:2], torch.tensor([[1, 1], [1, 0]])),
    ]


@resampled.oracle
def by_counting_bytes(sums, counts, picks):
    means = []
    for row in picks.tolist():
        each_byte = [float(sums[i]) / int(counts[i]) for i in row for _ in range(int(counts[i]))]
        means.append(math.fsum(each_byte) / len(each_byte))
    return means


@resampled.wrong(
    "It averages the files' means, so that a file of ten bytes says as much as one of ten thousand. Add up sums and "
    "counts first, then divide."
)
def averages_the_means(sums, counts, picks):
    return (sums / counts)[picks].mean(dim=1)


resampled.slip(
    "It divides by the bytes of all files. Each row of `picks` has a size of its own, because large files may be in it "
    "twice, or not at all.",
    divides_by_all_bytes={"counts[picks].sum(dim=1)": "counts.sum()"},
)


@resampled.wrong(
    "A file that was drawn twice counts once here. It has to count as often as it was drawn: that is what makes the "
    "collections differ as much as real ones would."
)
def counts_each_file_once(sums, counts, picks):
    drawn = torch.zeros(len(picks), len(sums), dtype=torch.bool).scatter(1, picks, True)
    return (drawn * sums).sum(dim=1) / (drawn * counts).sum(dim=1)


resampled.slip(
    "It gives sums. Divide by the bytes that were counted, so that large and small collections compare.",
    forgets_to_count={" / counts[picks].sum(dim=1)": ""},
)

resampled.slip(
    "It divides by the number of files picked. The mean is over bytes: divide by the counts of the files picked, "
    "added up.",
    divides_by_the_number_of_files={
        "counts[picks].sum(dim=1)": "picks.shape[1]",
    },
)

resampled.slip(
    "It takes the median of the files. A mean over all bytes is wanted, in which long files weigh more.",
    takes_the_median={
        "sums[picks].sum(dim=1) / counts[picks].sum(dim=1)": "(sums[picks] / counts[picks]).median(dim=1).values"
    },
)

resampled.slip(
    "The means of the files are added up. Add up sums and bytes first, each for itself, then divide.",
    adds_up_the_means={"sums[picks].sum(dim=1) / counts[picks].sum(dim=1)": "(sums[picks] / counts[picks]).sum(dim=1)"},
)
