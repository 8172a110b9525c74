"""A window that shows what is tracked, where there is a display."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ookd.errors import UserError


class Window:
    """One image after the other. Escape, q or the window's own button close it."""

    def __init__(self, title: str) -> None:
        self.closed = False
        try:
            import tkinter

            self._root: Any = tkinter.Tk()
        except ImportError:
            raise UserError(
                "--show: this Python has no tkinter; `ookd serve` shows it in a browser"
            ) from None
        except tkinter.TclError as error:
            raise UserError(
                f"--show: there is no display ({error}); `ookd serve` shows it in a browser"
            ) from None
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self.close())
        self._label: Any = tkinter.Label(self._root)
        self._label.pack()

    def show(self, picture: NDArray[np.uint8]) -> None:
        if self.closed:
            return
        from PIL import ImageTk

        self._photo = ImageTk.PhotoImage(Image.fromarray(picture))  # Tk does not keep it
        self._label.configure(image=self._photo)
        self._root.update()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._root.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
