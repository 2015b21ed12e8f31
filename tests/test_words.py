"""What people read: numbers with their nouns and units, and tables whose columns stand below one another."""

import pytest

from mamba2_lab.words import counted, in_binary_bytes, in_bytes, markdown, percent, quoted, table


@pytest.mark.parametrize(("number", "text"), [(0, "0 tokens"), (1, "1 token"), (2, "2 tokens"), (2000, "2,000 tokens")])
def test_one_is_one_and_thousands_are_set_apart(number, text):
    assert counted(number, "token") == text


@pytest.mark.parametrize(
    "size, text",
    [(900, "900 B"), (15_360, "15.4 kB"), (1_730_560, "1.73 MB"), (2e9, "2 GB"), (999.9, "1 kB"), (5e12, "5,000 GB")],
)
def test_sizes_are_written_in_thousands(size, text):
    assert in_bytes(size) == text


@pytest.mark.parametrize("size, text", [(1000, "0.977 KiB"), (1_572_864, "1.5 MiB"), (2**30, "1 GiB")])
def test_memory_is_written_in_powers_of_1024(size, text):
    assert in_binary_bytes(size) == text


@pytest.mark.parametrize(("probability", "text"), [(0, "0.0 %"), (1e-9, "< 0.1 %"), (0.0005, "0.1 %"), (1, "100.0 %")])
def test_percent(probability, text):
    assert percent(probability) == text


def test_blanks_in_a_token_are_seen():
    assert quoted(" a\tb\n") == "'·a→b↵'"


ROWS = [("exp", "3", "a"), ("cumsum", "12", "bc")]


@pytest.mark.parametrize(
    ("sides", "lines"),
    [
        ("<", ["exp     3   a", "cumsum  12  bc"]),
        (">", ["   exp   3   a", "cumsum  12  bc"]),
        ("<>", ["exp      3   a", "cumsum  12  bc"]),
        ("<><", ["exp      3  a", "cumsum  12  bc"]),
    ],
)
def test_the_cells_of_a_column_stand_below_one_another(sides, lines):
    assert table(ROWS, sides).splitlines() == lines


def test_a_table_in_markdown_reads_well_as_it_stands():
    assert markdown(["", "n", "value"], ROWS).splitlines() == [
        "|        |  n | value |",
        "| ------ | -: | ----: |",
        "| exp    |  3 |     a |",
        "| cumsum | 12 |    bc |",
    ]
