"""Answers to `suspects`."""

import pickletools

from support.learners.collect import right, wrong


@wrong("suspects", "Each name stands there once, in the order of the alphabet.")
def each_name_once(code, allowed):
    found = set()
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument not in allowed:
            found.add(argument)
        elif op.name == "STACK_GLOBAL":
            found.add("?")
    return sorted(found)


@wrong("suspects", "`allowed` has a blank between module and name, as the")
def with_a_dot(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument.replace(" ", ".") not in allowed:
            found.append(argument.replace(" ", "."))
        elif op.name == "STACK_GLOBAL":
            found.append("?")
    return found


@wrong("suspects", "It comes out as if `argument not in allowed` were left out.")
def all_that_is_looked_up(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST"):
            found.append(argument)
        elif op.name == "STACK_GLOBAL":
            found.append("?")
    return found


@wrong("suspects", "The result holds only a part of each entry: give all of it.")
def names_without_their_module(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument not in allowed:
            found.append(argument.split()[1])
        elif op.name == "STACK_GLOBAL":
            found.append("?")
    return found


@wrong("suspects", "The result is how many there are: give the entries themselves.")
def how_many(code, allowed):
    found = 0
    for op, argument, _ in pickletools.genops(code):
        found += op.name in ("GLOBAL", "INST") and argument not in allowed
        found += op.name == "STACK_GLOBAL"
    return found


@wrong("suspects", 'Each look-up is noted, the "?" as well: the second')
def trusts_new_ones_where_nothing_else_is(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument not in allowed:
            found.append(argument)
        elif op.name == "STACK_GLOBAL" and "?" not in found:
            found.append("?")
    return found


@wrong("suspects", "The result holds the right entries, in another order.")
def backwards(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument not in allowed:
            found.insert(0, argument)
        elif op.name == "STACK_GLOBAL":
            found.insert(0, "?")
    return found


@right("suspects")
def in_one_list(code, allowed):
    looked_up = [
        "?" if op.name == "STACK_GLOBAL" else argument
        for op, argument, _ in pickletools.genops(code)
        if op.name in ("GLOBAL", "INST", "STACK_GLOBAL")
    ]
    return [name for name in looked_up if name not in allowed]


@right("suspects")
def as_a_generator_in_a_tuple(code, allowed):
    def each():
        for op, argument, _ in pickletools.genops(code):
            if op.code == "\x93":
                yield "?"
            elif op.code in "ci" and argument not in allowed:
                yield argument

    return tuple(each())


@right("suspects")
def name_by_name(code, allowed):
    trusted = {tuple(name.split(" ")) for name in allowed}
    found = []
    for op, argument, _ in pickletools.genops(code):
        if "GLOBAL" in op.name and argument is None:
            found += ["?"]
        elif op.name in {"GLOBAL", "INST"} and tuple(argument.split(" ")) not in trusted:
            found += [argument]
    return found
