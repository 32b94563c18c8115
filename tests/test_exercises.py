"""Every exercise of every chapter: a right answer passes, and a wrong one is told what is wrong."""

import importlib
import math
import pkgutil

import pytest
import torch
from right_answers import RIGHT, frechet, turn

from fmtutor import exercises
from fmtutor.exercises.grading import GradeError
from fmtutor.exercises.results import as_result
from fmtutor.metrics import frechet_distance

MODULES = {m.name for m in pkgutil.iter_modules(exercises.__path__)} - {"grading", "results"}
CHAPTERS = {name: importlib.import_module(f"fmtutor.exercises.{name}") for name in sorted(MODULES)}
GRADERS = {
    f"{chapter}.{name}": getattr(module, name)
    for chapter, module in CHAPTERS.items()
    for name in module.__all__
}
EXERCISES = {name: grader.exercise for name, grader in GRADERS.items()}
# Many answers are right: what these return is not compared with the reference's.
OPEN = {"continuity.grade_second_field", "flows.grade_matching", "scale.grade_zero_start"}

# Where another multiple of a right answer is a right answer.
SCALED = {"scale.grade_zero_start"}

every = pytest.mark.parametrize("name", GRADERS)
every_closed = pytest.mark.parametrize("name", sorted(GRADERS.keys() - OPEN))


def told(name, answer):
    """What is said about a wrong answer."""
    with pytest.raises(GradeError) as error:
        GRADERS[name](answer)
    start = f"✗ {EXERCISES[name].name}: "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start)


def changed(answer, change):
    """An answer whose results, also those of a function that it returns, are changed."""

    def apply(value):
        if callable(value):
            return lambda *arguments: apply(value(*arguments))
        if isinstance(value, tuple):
            return tuple(apply(part) for part in value)
        return change(torch.as_tensor(value, dtype=torch.float64))

    return lambda *arguments: apply(answer(*arguments))


def test_every_exercise_has_an_independent_right_answer():
    assert RIGHT.keys() == GRADERS.keys()
    assert len({(name.split(".")[0], e.name) for name, e in EXERCISES.items()}) == len(EXERCISES)


@every
@pytest.mark.parametrize("whose", ["reference", "independent"])
def test_a_right_answer_passes(name, whose, capsys):
    GRADERS[name](EXERCISES[name].reference if whose == "reference" else RIGHT[name])
    assert capsys.readouterr().out == f"✓ {EXERCISES[name].name}\n"


@every
def test_each_mistake_gets_its_own_diagnosis(name):
    mistakes = EXERCISES[name].mistakes
    assert [told(name, answer) for _, answer in mistakes] == [text for text, _ in mistakes]


def not_written(*arguments):
    raise NotImplementedError  # your turn


@every
def test_an_empty_answer_is_not_attempted(name, capsys):
    for empty in (not_written, lambda *a: None, lambda *a: ..., lambda *a: (None, ...)):
        GRADERS[name](empty)
        assert capsys.readouterr().out == f"○ {EXERCISES[name].name}: not attempted yet\n"


@pytest.mark.parametrize(
    "name", ["continuity.grade_clock", "guidance.grade_interval", "notation.grade_convert"]
)
def test_a_function_has_to_be_returned_and_to_be_written(name, capsys):
    GRADERS[name](lambda *arguments: not_written)
    assert capsys.readouterr().out == f"○ {EXERCISES[name].name}: not attempted yet\n"
    assert told(name, lambda *arguments: 1.0) == "a function is expected, but a float came back"


@every
def test_an_answer_that_raises_is_named(name):
    def broken(*arguments):
        raise KeyError("oops")

    assert told(name, broken).startswith("your function raised KeyError: 'oops' (it was called")


@pytest.mark.parametrize("name", sorted(name for name, e in EXERCISES.items() if len(e.inputs) > 1))
@pytest.mark.parametrize("nothing", [lambda *a: None, not_written])
def test_nothing_for_some_of_the_inputs_is_wrong(name, nothing):
    for empty in (0, len(EXERCISES[name].inputs) - 1):
        calls = iter(range(100))

        def partly(*arguments, calls=calls, empty=empty):
            return (nothing if next(calls) == empty else EXERCISES[name].reference)(*arguments)

        assert told(name, partly).startswith("your function returns nothing here, though it does")


USUAL = [
    (lambda value: value[None], "the entries are there, the axes are not"),
    (lambda value: value * math.nan, "the result is NaN or infinite"),
    (torch.neg, "the sign is flipped"),
    (lambda value: 3 * value, "right up to a constant factor: yours is 3 times"),
    (lambda value: value + 2, "right up to a constant: yours is 2 too large"),
]


@pytest.mark.parametrize("name", sorted(GRADERS.keys() - SCALED))
def test_the_usual_differences_are_told(name):
    exercise = EXERCISES[name]
    known = [text for text, _ in exercise.mistakes]
    if as_result(exercise.probe(exercise.reference, *exercise.inputs[0])).numel() == 1:
        known.append("some values are off")  # one number is always a multiple of another
    for change, diagnosis in USUAL:
        message = told(name, changed(exercise.reference, change))
        assert name in OPEN or any(text in message for text in [diagnosis, *known]), message


def ends_in_a_time(exercise):
    t = exercise.inputs[0][-1]
    return exercise.takes.count("times `[b]`") == 1 and isinstance(t, torch.Tensor) and t.ndim == 1


@pytest.mark.parametrize(
    "name", sorted(n for n in GRADERS.keys() - OPEN if ends_in_a_time(EXERCISES[n]))
)
def test_time_reversed_is_told(name):
    reference = EXERCISES[name].reference
    message = told(name, lambda *arguments: reference(*arguments[:-1], 1 - arguments[-1]))
    own = [text for text, _ in EXERCISES[name].mistakes]
    assert message in own or message.startswith("time runs backward")


@every_closed
def test_an_answer_may_write_to_its_arguments(name, capsys):
    def greedy(answer):
        def apply(*arguments):
            result = answer(*arguments)
            if callable(result):
                return greedy(result)
            result = changed(lambda: result, torch.clone)()
            for tensor in arguments:
                if isinstance(tensor, torch.Tensor):
                    tensor.zero_()
            return result

        return apply

    exercise = EXERCISES[name]
    before = [[torch.as_tensor(a).clone() if isinstance(a, torch.Tensor) else a for a in arguments]
              for arguments in exercise.inputs]  # fmt: skip
    GRADERS[name](greedy(exercise.reference))
    assert capsys.readouterr().out.startswith("✓ ")
    for diagnosis, mistake in exercise.mistakes[:1]:
        assert told(name, greedy(mistake)) == diagnosis
    for arguments, old in zip(exercise.inputs, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(arguments, old, strict=True)
                   if isinstance(a, torch.Tensor))  # fmt: skip


@every
def test_help_says_what_is_asked(name):
    chapter, _, own = name.partition(".")
    grader, exercise = GRADERS[name], EXERCISES[name]
    assert (grader.__name__, grader.__module__) == (own, f"fmtutor.exercises.{chapter}")
    text = " ".join(grader.__doc__.split())
    assert text.startswith(f"Grade {exercise.task}. Args: answer: Takes {exercise.takes}. Raises:")
    assert "; returns " in exercise.takes
    assert text.endswith(f"Chapter: {chapter}")
    assert max(map(len, grader.__doc__.splitlines())) <= 96


def circulation(x, t):
    return torch.stack([x[:, 1] / (1 + t) ** 2, -x[:, 0]], dim=1)


def with_field(add, factor=1.0):
    def field(x, t):
        return factor * torch.stack([0 * t, x[:, 1] / (1 + t)], dim=1) + add(x, t)

    return field


def shear(x, t):
    return torch.tensor([-2 * math.log(2), 0.0], dtype=x.dtype) * x


def naive(log_weights, values):
    weights = log_weights.exp()
    return (weights @ values) / weights.sum(1, keepdim=True)


# What an exercise's own probe says, and what is neither a declared mistake nor tested for all.
WRONG = [
    ("continuity.grade_second_field", with_field(lambda x, t: 0 * x), "the field that was given"),
    ("continuity.grade_second_field", circulation, "contains only what may be added"),
    ("continuity.grade_second_field", with_field(lambda x, t: -turn(x)), "has no divergence"),
    ("continuity.grade_second_field", with_field(lambda x, t: x), "the residual of the continuity"),
    ("continuity.grade_second_field", lambda x, t: x[:, 0], "the result has shape"),
    ("flows.grade_matching", lambda x, t: -math.log(2) * x, "ends at x0/2"),
    ("flows.grade_matching", lambda x, t: turn(x), "keeps volumes"),
    ("flows.grade_matching", lambda x, t: torch.zeros_like(x), "no particle moves"),
    ("flows.grade_matching", shear, "but the cloud is not N"),
    ("flows.grade_matching", lambda x, t: -x, "off by up to"),
    ("flows.grade_matching", lambda x, t: 50 * x**3, "infinity"),
    ("flows.grade_matching", lambda x, t: x[:, 0], "the result has shape"),
    ("likelihood.grade_augmented", lambda v, y, t: v(y, t), "sees the point alone"),
    (
        "guidance.grade_average",
        lambda u, log_p, prior: (
            torch.einsum("k,kb,kbd->bd", prior, log_p.exp(), u) / (prior @ log_p.exp())[:, None]
        ),
        "NaN or infinite",
    ),
    ("notation.grade_contraction", lambda time: time, "time runs backward"),
    ("paths.grade_target", lambda x0, x1, t: 2 * (x1 - x0).flatten(1).sum(1), "the result has"),
    ("paths.grade_clock", lambda path, t: (path.alpha(t),), "the result has shape"),
    ("quickstart.grade_point", lambda x, t, c: (c - x)[:, 0], "the result has shape"),
    ("paths.grade_clock", lambda path, t: (path.alpha(t), None), "NoneType"),
]


@pytest.mark.parametrize(("name", "answer", "diagnosis"), WRONG)
def test_other_wrong_answers(name, answer, diagnosis):
    assert diagnosis in told(name, answer)


def twist(x, t):
    return -math.log(2) * x + x.square().sum(1, keepdim=True).exp().reciprocal() * 4 * turn(x)


OTHERS = [
    ("continuity.grade_second_field", with_field(circulation)),
    ("continuity.grade_second_field", with_field(lambda x, t: 0.5 * circulation(x, t))),
    (
        "continuity.grade_second_field",
        with_field(lambda x, t: -3 * (1 + t[:, None]) * circulation(x, t)),
    ),
    ("flows.grade_matching", twist),
    ("guidance.grade_negative", lambda s: (s, 1 - s)),
]


@pytest.mark.parametrize(("name", "answer"), OTHERS)
def test_where_many_answers_are_right_they_pass(name, answer, capsys):
    GRADERS[name](answer)
    assert capsys.readouterr().out.startswith("✓ ")


def test_the_package_agrees_with_the_formula_of_the_exercise():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, generator=g, dtype=torch.float64)
    y = 1.5 * torch.randn(400, 3, generator=g, dtype=torch.float64) + 0.3
    moments = [m for z in (x, y) for m in (z.mean(0), z.T.cov())]
    torch.testing.assert_close(frechet_distance(x, y), frechet(*moments), atol=1e-6, rtol=1e-6)
