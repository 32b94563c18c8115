"""The graders of `notation`: the right answer passes, each usual mistake is named."""

from grading import grader_tests

from fmtutor.exercises import notation

RIGHT = [
    (notation.grade_align, lambda t, x: t.reshape(len(t), *[1] * (x.ndim - 1))),
    (notation.grade_convert, lambda model: lambda x, t: -model(x, 1000 * (1 - t))),
    (notation.grade_guidance, lambda c, u, w: u + (1 + w) * (c - u)),
    (notation.grade_contraction, lambda time: 1 - time),
]

WRONG = [
    (notation.grade_align, lambda t, x: t, "shape"),
    (notation.grade_align, lambda t, x: t[:, None], "shape"),
    (notation.grade_convert, lambda model: lambda x, t: model(x, 1000 * (1 - t)), "sign is not"),
    (notation.grade_convert, lambda model: lambda x, t: -model(x, 1000 * t), "clock is not"),
    (notation.grade_convert, lambda model: lambda x, t: model(x, 1000 * t), "sign and clock"),
    (notation.grade_convert, lambda model: lambda x, t: -model(x, 1 - t), "runs to 1000"),
    (notation.grade_guidance, lambda c, u, w: u + w * (c - u), "0 is off there"),
    (notation.grade_guidance, lambda c, u, w: c + (1 + w) * (u - c), "swapped"),
    (notation.grade_contraction, lambda time: 1 / (1 - time), "the flow contracts"),
    (notation.grade_contraction, lambda time: time, "runs backward"),
]


TestGraders = grader_tests(notation, RIGHT, WRONG)
