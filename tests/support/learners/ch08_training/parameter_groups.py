"""Answers to `parameter_groups`."""

from support.learners.collect import right, wrong


def _is_exempt(name):
    return name.split(".")[-1] in {"dt_bias", "A_log", "D"}


@wrong("parameter_groups", "No weight was exempt")
def by_the_whole_name(named, weight_decay):
    exempt = [w for name, w in named.items() if name in ("dt_bias", "A_log", "D")]
    rest = [w for name, w in named.items() if name not in ("dt_bias", "A_log", "D")]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


@wrong("parameter_groups", "This goes by shape")
def all_vectors_exempt(named, weight_decay):
    exempt = [w for w in named.values() if w.ndim < 2]
    rest = [w for w in named.values() if w.ndim >= 2]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


@wrong("parameter_groups", "Every bias is exempt, that of the convolution too")
def by_a_last_letter(named, weight_decay):
    special = [name for name in named if name.endswith(("bias", "A_log", "D"))]
    return [
        {"params": [w for name, w in named.items() if name not in special], "weight_decay": weight_decay},
        {"params": [named[name] for name in special], "weight_decay": 0.0},
    ]


@wrong("parameter_groups", "This goes by shape: every vector is exempt. A common rule")
def every_vector_is_exempt(named, weight_decay):
    decay = [w for w in named.values() if w.ndim >= 2]
    no_decay = [w for w in named.values() if w.ndim < 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


@wrong("parameter_groups", "No weight was exempt. The full names have a path in front,")
def whole_names_compared(named, weight_decay):
    exempt = {"dt_bias", "A_log", "D"}
    return [
        {"params": [w for n, w in named.items() if n not in exempt], "weight_decay": weight_decay},
        {"params": [w for n, w in named.items() if n in exempt], "weight_decay": 0.0},
    ]


@wrong("parameter_groups", "The groups are exchanged: the memory is pulled towards")
def decay_for_the_exempt(named, weight_decay):
    exempt = ("dt_bias", "A_log", "D")
    yes = [w for n, w in named.items() if n.split(".")[-1] in exempt]
    no = [w for n, w in named.items() if n.split(".")[-1] not in exempt]
    return [{"params": yes, "weight_decay": weight_decay}, {"params": no, "weight_decay": 0.0}]


@wrong("parameter_groups", "It comes out as if `'D'` were left out.")
def forgets_d(named, weight_decay):
    exempt = [w for n, w in named.items() if n.endswith(("dt_bias", "A_log"))]
    rest = [w for n, w in named.items() if not n.endswith(("dt_bias", "A_log"))]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


@wrong("parameter_groups", "It comes out as if `{'params': decayed, 'weight_decay':")
def exempt_first(named, weight_decay):
    groups = ([], [])
    for name, weight in named.items():
        groups[name.split(".")[-1] not in ("dt_bias", "A_log", "D")].append(weight)
    return [{"params": groups[0], "weight_decay": 0.0}, {"params": groups[1], "weight_decay": weight_decay}]


@wrong("parameter_groups", "It comes out as if `name` stood where `weight` belongs, at")
def names_for_weights(named, weight_decay):
    free = [name for name in named if name.split(".")[-1] in ("dt_bias", "A_log", "D")]
    rest = [name for name in named if name not in free]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "This goes by shape: every vector is exempt. A common rule")
def biases_and_norms_too(named, weight_decay):
    def is_free(name):
        return name.endswith(("dt_bias", "A_log", ".D", "bias")) or "norm" in name or name == "D"

    return [
        {"params": [w for name, w in named.items() if not is_free(name)], "weight_decay": weight_decay},
        {"params": [w for name, w in named.items() if is_free(name)], "weight_decay": 0.0},
    ]


@wrong("parameter_groups", "It comes out as if 0.0 stood where `weight_decay` belongs.")
def no_decay_anywhere(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "A_log", "D")]
    rest = [w for name, w in named.items() if name.split(".")[-1] not in ("dt_bias", "A_log", "D")]
    return [{"params": rest, "weight_decay": 0.0}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "No weight was exempt. The full names have a path in front, as")
def all_in_the_first_group(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "A_log", "D")]
    return [{"params": list(named.values()), "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "It comes out as if `'A_log'` were left out.")
def forgets_a_log(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "D")]
    rest = [w for name, w in named.items() if name.split(".")[-1] not in ("dt_bias", "D")]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "No weight was exempt. The full names have a path in front, as")
def first_part_of_the_name(named, weight_decay):
    exempt = ("dt_bias", "A_log", "D")
    free = [w for name, w in named.items() if name.split(".")[0] in exempt]
    rest = [w for name, w in named.items() if name.split(".")[0] not in exempt]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@right("parameter_groups")
def a_tuple_of_groups(named, weight_decay):
    rest = [w for name, w in named.items() if not _is_exempt(name)]
    exempt = [w for name, w in named.items() if _is_exempt(name)]
    return {"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0}


@right("parameter_groups")
def with_tuples_of_weights(named, weight_decay):
    rest = tuple(w for name, w in named.items() if not _is_exempt(name))
    exempt = tuple(w for name, w in named.items() if _is_exempt(name))
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


@right("parameter_groups")
def filled_in_a_loop(named, weight_decay):
    groups = [{"weight_decay": weight_decay, "params": []}, {"weight_decay": 0.0, "params": []}]
    for name, w in named.items():
        groups[_is_exempt(name)]["params"].append(w)
    return groups
