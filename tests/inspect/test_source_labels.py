"""Labels of Python source, against digits written by hand and against the syntax tree of Python's own parser."""

import ast
from collections.abc import Iterator
from itertools import accumulate

import pytest
import torch
from support.oracle.mamba2 import raises

from mamba2_lab.data import Document, standard_library
from mamba2_lab.inspect import python_labels

# A line of source, and what holds after each of its bytes; the last digit is that of the line's end.
SNIPPETS = {
    "indent": [
        ("if a:", "000000"),
        ("    # no statement yet", "00000000000000000000000"),
        ("    b", "111111"),
        ("", "1"),
        ("    if c:", "1111111111"),
        ("        d", "2222222222"),
        ("# after", "22222222"),
        ("    e = [", "2222111111"),  # the four spaces come before it is known that a block has ended
        ("  f]", "11111"),
        ("g", "00"),
    ],
    "in_string": [
        ("a = 'b'", "00001100"),
        ('Rb"c"+""', "001100100"),
        ("'''d", "00111"),
        ("'\"\"'''", "1111100"),
        ("'\\'' # 'e'", "11100000000"),
        ("f'{g[\"h\"]}('", "0111111111100"),
        ("'é'", "11100"),
    ],
    "brackets": [
        ("a = [(b, {", "00001222233"),
        ("    '(': ']', # )", "333333333333333333"),
        ("})]", "2100"),
        ("f'{c(d)}'", "0000000000"),
    ],
}


def digits(source: str, field: str) -> str:
    return "".join(str(int(value)) for value in getattr(python_labels(source), field))


@pytest.mark.parametrize("field", SNIPPETS)
def test_snippets_have_the_labels_written_below_them(field: str) -> None:
    source = "".join(f"{line}\n" for line, _ in SNIPPETS[field])
    assert digits(source, field) == "".join(expected for _, expected in SNIPPETS[field])


def test_a_text_may_end_without_a_line_end_or_be_empty() -> None:
    assert digits("x = (1)", "brackets") == "0000110"
    assert digits("if a:\n  b", "indent") == "000000111"
    assert digits("if a:\n  'b'", "in_string") == "00000000110"
    assert all(label.shape == (0,) for label in vars(python_labels("")).values())


@pytest.mark.parametrize("source", ["'''open", "x = (", "if a:\n    b\n  c\n", "x = 'a\n"])
def test_source_that_is_not_python_is_an_error(source: str) -> None:
    with raises(ValueError, "source must be Python that the tokenizer can read"):
        python_labels(source)


# Whole files

DOCUMENTS = [document for document in standard_library().held_out if 3_000 < document.bytes < 30_000][:8]
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


class Tree:
    """A file's syntax tree with byte offsets in place of rows and columns."""

    def __init__(self, document: Document) -> None:
        self.bytes = document.text.encode("utf-8")
        self.tree = ast.parse(document.text)
        self._lines = list(accumulate((len(line) + 1 for line in self.bytes.split(b"\n")), initial=0))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self._lines[node.lineno - 1] + node.col_offset
        return start, self._lines[node.end_lineno - 1] + node.end_col_offset

    def outside_f_strings(self, node: ast.AST) -> Iterator[ast.AST]:
        """Every node below, those inside f-strings left out: before 3.12 their positions are wrong."""
        for child in ast.iter_child_nodes(node):
            yield child
            if not isinstance(child, ast.JoinedStr):
                yield from self.outside_f_strings(child)

    def statements(self, node: ast.AST, depth: int) -> Iterator[tuple[ast.stmt, int]]:
        """Statements and the number of blocks they stand in."""
        for _, body in ast.iter_fields(node):
            for child in body if isinstance(body, list) else []:
                if isinstance(child, ast.stmt):
                    is_elif = isinstance(child, ast.If) and self.bytes.startswith(b"elif", self.span(child)[0])
                    own = depth - is_elif
                    yield child, own
                    yield from self.statements(child, own + 1)
                elif isinstance(child, ast.ExceptHandler):
                    yield from self.statements(child, depth)
                elif isinstance(child, ast.match_case):
                    yield from self.statements(child, depth + 1)


@every_document
def test_strings_are_those_of_the_syntax_tree(document: Document) -> None:
    tree, in_string = Tree(document), python_labels(document.text).in_string
    assert len(in_string) == document.bytes
    may_be = torch.zeros_like(in_string)
    count = 0
    for node in tree.outside_f_strings(tree.tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        if is_text or isinstance(node, ast.JoinedStr):
            start, end = tree.span(node)
            may_be[start:end] = 1
            assert in_string[end - 1] == 0 and in_string[end - 2] == 1  # after the closing quote, and before
            quote = min(tree.bytes.index(mark, start) for mark in (b"'", b'"') if mark in tree.bytes[start:end])
            assert in_string[start:quote].count_nonzero() == 0
            count += 1
    assert count > 3 and ((may_be - in_string) >= 0).all()


@every_document
def test_blocks_and_brackets_are_those_of_the_syntax_tree(document: Document) -> None:
    tree, labels = Tree(document), python_labels(document.text)
    count = 0
    for statement, depth in tree.statements(tree.tree, 0):
        start, _ = tree.span(statement)
        start = min([start, *(tree.span(mark)[0] - 1 for mark in getattr(statement, "decorator_list", []))])
        if tree.bytes[:start].rpartition(b"\n")[2].strip() == b"":  # not behind a colon or a semicolon
            assert labels.indent[start] == depth, tree.bytes[start : start + 40]
            assert start == 0 or labels.brackets[start - 1] == 0
            count += 1
    assert count > 3
    for node in tree.outside_f_strings(tree.tree):
        if isinstance(node, ast.List | ast.Dict | ast.Set):
            start, end = tree.span(node)
            inside = labels.brackets[start : end - 1]
            assert inside.min() == inside[0] == labels.brackets[end - 1] + 1
