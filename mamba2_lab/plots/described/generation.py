"""What is on the figures of notebook 09, and what to see in them."""

DESCRIBED = {
    "filters: temperature": (
        "Bar charts of the probabilities of 18 bytes at two places, as they are and at temperatures 0.5 and 2. At "
        "0.5 the first bars grow and the last ones vanish; at 2 the bars come closer to each other.",
        "Outlines show what the model says. A temperature changes every bar, and removes none.",
    ),
    "filters: top-k": (
        "Bar charts at two places before and after top-k: five bars are left at each. Above they are much larger "
        "than before, below hardly.",
        "Pale letters are removed. Above, letters are gone that could well begin a name; below, some are kept that "
        "hardly fit.",
    ),
    "filters: top-p and min-p": (
        "Bar charts at two places before and after top-p and min-p. Above most bars are kept, below two.",
        "Both filters keep many bytes where the model is unsure, and few where it is sure.",
    ),
    "filters: penalty": (
        "Bar charts at two places before and after penalties of 1.1 and 1.5 for the bytes of the header. The bars of "
        "letters that the header holds shrink, the others grow.",
        "The letters of the header lose, though no word was repeated. On bytes a penalty is a blunt tool.",
    ),
    "beam_tree": (
        "A tree that grows from left to right over 24 steps in six rows, a byte at each node. Many branches end; the "
        "best text of the last step is drawn as a thick line that crosses from row to row.",
        "Thick: where the best text of the last step comes from. Pale: beams that were given up.",
    ),
    "memory_by_length": (
        "Bytes kept against tokens read, both logarithmic. Two straight lines rise, those of KV caches of 32 and of "
        "16 bits. They cross the level line of medium's cache at about two hundred, and at twice as many, tokens.",
        "Before the crossing a transformer remembers at a lower price. At a million tokens it needs thousands of "
        "times as much.",
    ),
    "surprises": (
        "Four rows of bars over the same 80 bytes: the bits each byte takes if all is kept, if states are lost, if "
        "windows are lost, and if both are. The first row is mostly flat with a few peaks; the second has higher "
        "ones, and more; the last two are high nearly everywhere.",
        "Without states words are still spelled. Compare the two upper rows where lines end, and where they begin.",
    ),
    "candidates": (
        "Bars for the twelve likeliest bytes after the header, in five panels: as the model says, and after penalty, "
        "temperature, top-p and min-p. From panel to panel the upper bars grow, and the lower ones shrink.",
        "The byte that was drawn has a colour of its own.",
    ),
}
