"""Shows training on standard error: a live line on a terminal, otherwise a plain line every few steps."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class StepProgress:
    """A finished step."""

    step: int
    terms: dict[str, float]
    rate: float  # learning rate
    speed: float  # frames/s
    memory: float  # MB
    left: float  # seconds of training, without validation


# how the names of terms begin that are not shown unless asked: losses of the decoder's earlier layers, and
# what distillation notes besides its losses
DETAILS = ("aux_", "kept_", "exact_", "share_", "agree_")


class Display:
    """Losses, learning rate, AP of the last validation, speed, memory and time left.

    The main losses, or every term with `verbose`.
    """

    def __init__(
        self, steps: int, quiet: bool = False, console: Console | None = None, verbose: bool = False
    ) -> None:
        self.steps, self.verbose = steps, verbose
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.ap: float | None = None  # of the last validation, in 0..1
        self._live: Live | None = None

    def step(self, progress: StepProgress, line: bool) -> None:
        """Show a step; without a terminal, only if it should print a `line`."""
        if not self.console.is_terminal:
            if line:
                self.note(self.line(progress))
            return
        self._show(self._picture(progress))

    def busy(self, doing: str) -> None:
        """Show on a terminal what happens between steps."""
        if self.console.is_terminal:
            self._show(Text(f"{doing} ..."))

    def line(self, progress: StepProgress) -> str:
        return f"step {progress.step}/{self.steps}  {self._losses(progress.terms)}  {self._rest(progress)}"

    def note(self, text: str) -> None:
        """Print a message that stays, above the live line."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Remove the live line."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, picture: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self.console, transient=True, refresh_per_second=4)
            self._live.start()
        self._live.update(picture)

    def _picture(self, progress: StepProgress) -> Group:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(self.steps, progress.step, width=30),
            Text(f"step {progress.step}/{self.steps}  {self._rest(progress)}"),
        )
        return Group(bar, Text(self._losses(progress.terms), style="dim"))

    def _rest(self, progress: StepProgress) -> str:
        ap = "" if self.ap is None else f"AP {100 * self.ap:.1f}  "
        return (
            f"lr {progress.rate:.2e}  {ap}{progress.speed:.1f} frames/s  {progress.memory:.0f} MB  "
            f"{clock(progress.left)} left"
        )

    def _losses(self, terms: dict[str, float]) -> str:
        """The main terms, without their copies for each decoder layer."""
        return " ".join(
            f"{name} {value:.3f}"
            for name, value in terms.items()
            if self.verbose or not (name[-1].isdigit() or name.startswith(DETAILS))
        )


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
