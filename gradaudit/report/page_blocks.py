"""The blocks of the page's own form: page one, the matrix, cards, folded lines, figures, gallery.

Like those of ``blocks`` they hold text as it is and numbers already worded; ``page.html`` renders
each kind in one way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gradaudit.report.blocks import Block
from gradaudit.report.comparisons import RowName
from gradaudit.report.figures.shapes import Plot


@dataclass(frozen=True)
class State:
    """A look (see ``comparisons.LOOKS``) and the words that stand beside its shape."""

    look: str
    words: str


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class StoredPicture:
    """One image of the gallery, stored once in the page and drawn wherever it is shown.

    outlines : region's number -> checked path data
    """

    number: int
    width: int
    height: int
    image: str
    heat: str
    outlines: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Picture:
    """A stored picture as it is drawn: which outline lies on it, and what it shows in words."""

    number: int
    width: int
    height: int
    outline: int | None
    label: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureRow:
    """Up to three pictures of one side, with what they stand for."""

    title: str
    value: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Six(Block):
    """The pictures nearest to the two figures that a finding states."""

    kind = "six"
    rows: tuple[PictureRow, ...]
    note: str = ""


# ── the matrix ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class MatrixColumn:
    title: str
    unit: str
    axis: Plot | None


@dataclass(frozen=True)
class MatrixCell:
    """One comparison in one column: shape, hidden word, number, mini interval.

    word : stands hidden before the number; "" where there is nothing to say
    text : the number, or a word where there is none
    after : words after the number ("points (32 to 40)"); hidden, but on hover and focus they take
        the mini's place
    """

    look: str = ""
    word: str = ""
    text: str = ""
    after: str = ""
    mini: Plot | None = None
    link: str = ""
    quiet: bool = False


@dataclass(frozen=True)
class MatrixRow:
    name: RowName
    n: str
    cells: tuple[MatrixCell, ...]
    link: str = ""


@dataclass(frozen=True)
class Matrix(Block):
    """Comparisons as rows, outcomes as columns, each column on one scale with its axis in the head.

    groups : rows of one attribute stand together
    size : "" | mid | wide, by the number of columns; dense : smaller rows
    """

    kind = "matrix"
    caption: str
    unit: str
    columns: tuple[MatrixColumn, ...]
    groups: tuple[tuple[MatrixRow, ...], ...]
    size: str = ""
    dense: bool = False

    @property
    def rows(self) -> tuple[MatrixRow, ...]:
        return tuple(row for group in self.groups for row in group)


# ── page one ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class PageOne(Block):
    """The page that decides: what was found, how sure, what it cannot tell, and who signs.

    identity : term, text, code        tally : what is counted, then one state each, which is the legend
    answers : question and answer; "" as the question where there is a sentence alone
    """

    kind = "page_one"
    title: str
    notice: str
    identity: tuple[tuple[str, str, str], ...]
    state: str
    words: str
    fact: str
    limit: str
    second: str
    answers: tuple[tuple[str, str], ...]
    counted: str
    tally: tuple[State, ...]
    pictures: Six | None
    matrix: Matrix | None
    note: tuple[str, ...]
    cannot_tell: tuple[str, ...]
    declared: tuple[str, ...]


# ── findings ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ForestRow:
    name: RowName
    line: Plot
    number: str
    span: str
    state: State
    n: str = ""


@dataclass(frozen=True)
class Forest(Block):
    """Rows of words and one line each, on one scale; the axis below."""

    kind = "forest"
    rows: tuple[ForestRow, ...]
    axis: Plot


@dataclass(frozen=True)
class Drawing(Block):
    """One plot, or several side by side, each with a caption of its own."""

    kind = "drawing"
    plots: tuple[Plot, ...]
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure(Block):
    """A figure: its title says what it shows, its subtitle in which unit.

    span : full | half | third | two, of the width
    """

    kind = "figure"
    title: str
    subtitle: str
    block: Block
    span: str = "half"


@dataclass(frozen=True)
class Figures(Block):
    kind = "figures"
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Card(Block):
    """One finding: its word, its fact as the title, sentences, figures, and where to read on."""

    kind = "card"
    anchor: str
    state: State
    title: str
    texts: tuple[str, ...]
    figures: tuple[Figure, ...]
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Fold(Block):
    """Blocks behind one line, which carries what is in them.

    name : a name of the user's own; title follows it
    keep : unfolded in print      open : unfolded on the screen
    """

    kind = "fold"
    anchor: str
    name: str
    title: str
    states: tuple[State, ...]
    blocks: tuple[Block, ...]
    open: bool = False
    keep: bool = False


@dataclass(frozen=True)
class Folds(Block):
    """Folded lines that belong together, under a heading; ``find``: a filter box above them."""

    kind = "folds"
    title: str
    lede: str
    folds: tuple[Fold, ...]
    find: str = ""


# ── intersections, data, gallery, checks ──────────────────────────────────────────────────────────


@dataclass(frozen=True)
class HeatCell:
    """A mean share; ``step``: how many steps of 5 points above (below 0: below) the overall mean."""

    text: str
    step: int = 0
    departs: bool = False
    hidden: str = ""


@dataclass(frozen=True)
class HeatRowOfCells:
    attribute: str
    level: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True)
class HeatTable(Block):
    """Where two attributes meet: columns are the levels of one, rows those of all others."""

    kind = "heat_table"
    caption: str
    subtitle: str
    attribute: str
    columns: tuple[str, ...]
    rows: tuple[HeatRowOfCells, ...]
    note: str = ""


@dataclass(frozen=True)
class FlowStep:
    """One step of the flow: how many came through, and what became of the others."""

    strong: str
    text: str
    aside: str = ""


@dataclass(frozen=True)
class FlowGroup:
    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Flow(Block):
    kind = "flow"
    steps: tuple[FlowStep, ...]
    groups: tuple[FlowGroup, ...]


@dataclass(frozen=True)
class Tile:
    """One image of the gallery.

    groups : marks of its groups, for the filters; heat, decision, why : shown by the viewer
    """

    picture: Picture
    anchor: str
    file: str
    strong: str
    text: str
    verdict: str
    groups: str
    heat: str
    decision: str
    why: str


@dataclass(frozen=True)
class Gallery(Block):
    """Tiles and what the filters offer; complete without the filters."""

    kind = "gallery"
    tiles: tuple[Tile, ...]
    choices: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = field(default=())
    first: int = 24
