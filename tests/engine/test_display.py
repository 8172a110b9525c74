"""What a person sees while a run goes."""

from __future__ import annotations

import io

from rich.console import Console

from ookd.engine.display import Display, StepProgress

STEP = StepProgress(120, {"class": 0.5, "class_3": 9.0, "total": 4.25}, 5e-4, 57.3, 812.0, 3725.0)


def shown(terminal: bool, **more: bool) -> tuple[Display, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, height=20, **more)  # type: ignore[arg-type]
    return Display(400, console=console), out


def test_plain_lines_only_where_one_is_due() -> None:
    display, out = shown(terminal=False)
    display.step(STEP, line=False)
    assert out.getvalue() == ""
    display.ap = 0.4321
    display.step(STEP, line=True)
    display.busy("validating")
    assert out.getvalue() == (
        "step 120/400  class 0.500 total 4.250  lr 5.00e-04  AP 43.2  57.3 frames/s  812 MB  1:02:05 left\n"
    )


def test_a_distillation_has_short_lines_unless_asked() -> None:
    terms = {"class": 0.5, "aux_class": 0.4, "kd_relation": 0.3, "kept_share": 0.9, "agree_top": 1.0}
    step = StepProgress(1, terms, 1e-3, 5.0, 1.0, 1.0)
    lines = [Display(9, quiet=True, verbose=verbose).line(step) for verbose in (False, True)]
    assert "step 1/9  class 0.500 kd_relation 0.300  lr" in lines[0]
    assert all(f"{name} {value:.3f}" in lines[1] for name, value in terms.items())


def test_a_live_line_on_a_terminal_that_goes_away() -> None:
    display, out = shown(terminal=True)
    display.step(STEP, line=False)
    display.note("step 100: AP 12.0")
    display.close()
    text = out.getvalue()
    assert "step 120/400" in text
    assert "class 0.500 total 4.250" in text
    assert "57.3 frames/s  812 MB  1:02:05 left" in text
    assert "step 100: AP 12.0" in text
    assert "\x1b[2K" in text  # erased
    display.close()  # again is no harm
