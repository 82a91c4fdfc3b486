"""The size of figures, of their text and of their margins.

TensorBoard shows a picture 350 pixels wide, and leaves out rows and columns of a larger one: a figure has exactly that width,
and its text is 9 pixels high or more. Figures in files are wider.
"""

from matplotlib.figure import Figure

WIDTH, DPI = 3.5, 100  # 350 pixels
TEXT, TITLE = 7.0, 8.0  # points: 9.7 and 11 pixels


def new_figure(width: float, shape: float) -> Figure:
    """Returns a figure of this width, in inches, and `shape` times that height. Not pyplot: no global state."""
    return Figure(figsize=(width, shape * width), dpi=DPI)


def write_title(figure: Figure, title: str) -> None:
    """Writes a title over the whole width: the axes are narrower."""
    figure.suptitle(title, fontsize=TITLE, y=1 - 0.08 / figure.get_figheight(), va="top")


def margins(figure: Figure, left: float = 0.5, bottom: float = 0.42, top: float = 0.3, **others: float) -> dict[str, float]:
    """Returns fixed margins, given in inches, for labels and a title: a layout engine would double the time of drawing."""
    width, height = figure.get_size_inches()
    return {"left": left / width, "right": 1 - 0.12 / width, "bottom": bottom / height, "top": 1 - top / height, **others}
