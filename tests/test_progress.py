"""The progress bar, on a terminal and in a log."""

import io

from deeplab_fashion._progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_at_each_tenth():
    log = io.StringIO()
    assert list(progress(range(50), "photos", total=50, stream=log)) == list(range(50))
    lines = log.getvalue().splitlines()
    assert [line.split("] ")[1].split(",")[0] for line in lines] == [
        f"{done}/50" for done in (1, *range(5, 51, 5))
    ]
    assert lines[-1].startswith("photos [########################] 50/50, ")


def test_a_terminal_shows_one_line_that_is_redrawn():
    terminal = Terminal()
    list(progress("abc", "photos", total=3, stream=terminal))
    text = terminal.getvalue()
    assert text.count("\r") == text.count("\x1b[K") == 3
    assert text.count("\n") == 1
    assert text.endswith(" left\x1b[K\n")


def test_a_terminal_is_left_at_the_start_of_a_line_by_an_interruption():
    terminal = Terminal()
    work = progress(range(5), "photos", total=5, stream=terminal)
    assert [next(work), next(work)] == [0, 1]
    work.close()
    assert terminal.getvalue().endswith("\n")


def test_nothing_is_drawn_of_nothing_or_if_not_asked():
    terminal = Terminal()
    assert list(progress([], "photos", total=0, stream=terminal)) == []
    assert list(progress([1, 2], "photos", total=2, show=False, stream=terminal)) == [1, 2]
    assert terminal.getvalue() == ""
