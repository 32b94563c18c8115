"""The tests that the graders of every chapter have in common."""

from collections.abc import Callable, Sequence
from types import ModuleType

import pytest

from fmtutor.checks import GradeError


def _not_written(*arguments: object) -> None:
    raise NotImplementedError


def grader_tests(
    module: ModuleType,
    right: Sequence[tuple[Callable, Callable]],
    wrong: Sequence[tuple[Callable, Callable, str]],
) -> type:
    """Make the tests from pairs (grader, answer) and triples (grader, answer, diagnosis)."""
    graders = list(dict.fromkeys(grader for grader, _ in right))

    class TestGraders:
        def test_every_public_grader_has_a_right_answer(self) -> None:
            assert {grader.__name__ for grader in graders} == set(module.__all__)

        @pytest.mark.parametrize(("grader", "answer"), right)
        def test_the_right_answer_passes(self, grader, answer, capsys) -> None:
            grader(answer)
            assert capsys.readouterr().out.startswith("✓ ")

        @pytest.mark.parametrize("grader", graders)
        @pytest.mark.parametrize("answer", [_not_written, lambda *a: None, lambda *a: ...])
        def test_an_empty_answer_is_not_attempted(self, grader, answer, capsys) -> None:
            grader(answer)
            out = capsys.readouterr().out
            assert out.startswith("○ ")
            assert out.endswith(": not attempted yet\n")

        @pytest.mark.parametrize("grader", graders)
        def test_an_answer_that_raises_is_named(self, grader) -> None:
            def broken(*arguments: object) -> None:
                raise KeyError("oops")

            with pytest.raises(GradeError, match="KeyError"):
                grader(broken)

        @pytest.mark.parametrize(("grader", "answer", "diagnosis"), wrong)
        def test_a_mistake_gets_its_diagnosis(self, grader, answer, diagnosis) -> None:
            with pytest.raises(GradeError, match=diagnosis):
                grader(answer)

    return TestGraders
