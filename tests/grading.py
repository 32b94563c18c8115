"""The three tests that the graders of every chapter have in common."""

from collections.abc import Callable

import pytest

from fmtutor.checks import GradeError


def grader_tests(right: list, wrong: list) -> tuple[Callable, Callable, Callable]:
    """Make the tests from pairs (grader, answer) and triples (grader, answer, diagnosis)."""

    @pytest.mark.parametrize(("grader", "answer"), right)
    def test_right_answer_passes(grader: Callable, answer: Callable, capsys) -> None:
        grader(answer)
        assert capsys.readouterr().out.startswith("✓ ")

    @pytest.mark.parametrize(("grader", "answer", "diagnosis"), wrong)
    def test_mistake_is_named(grader: Callable, answer: Callable, diagnosis: str) -> None:
        with pytest.raises(GradeError, match=diagnosis):
            grader(answer)

    @pytest.mark.parametrize(("grader", "_"), right)
    def test_no_attempt_is_no_mistake(grader: Callable, _: Callable, capsys) -> None:
        def unanswered(*arguments: object) -> None:
            raise NotImplementedError

        grader(unanswered)
        assert "not attempted yet" in capsys.readouterr().out

    return test_right_answer_passes, test_mistake_is_named, test_no_attempt_is_no_mistake
