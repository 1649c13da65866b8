import csv
import io
from pathlib import Path

import pytest

from gpmt.errors import FigureError
from gpmt.report.tables.forms import FORMS, comma_separated, form_of, latex, markdown, written
from gpmt.report.tables.table import Table

TABLE = Table(
    title="A & B",
    heads=["method", "90 %"],
    rows=[["GP_1 <b>|x|</b>", "10.14 ± 0.20"], ["$x^2${}\\~#\n", "97.00"], ["total", "–"]],
    bold=frozenset({(1, 1)}),
    totals=True,
    notes=["† a layer\nhas no weight left"],
    records=[{"method": 'a "b", c', "top1": 0.1014084507042254}, {"method": "d\ne", "top1": None}],
)


def test_latex_has_booktabs_and_no_character_with_a_meaning_of_its_own():
    assert (
        latex(TABLE)
        == r"""% needs \usepackage{booktabs}
\begin{tabular}{lr}
\toprule
method & 90 \% \\
\midrule
GP\_1 \textless{}b\textgreater{}\textbar{}x\textbar{}\textless{}/b\textgreater{} & 10.14 $\pm$ 0.20 \\
\$x\textasciicircum{}2\$\{\}\textbackslash{}\textasciitilde{}\#  & \textbf{97.00} \\
\midrule
total & -- \\
\bottomrule
\end{tabular}
% † a layer has no weight left
"""
    )


def test_markdown_keeps_its_columns_whatever_the_names():
    lines = markdown(TABLE).splitlines()
    assert lines[0] == "| method | 90 % |"
    assert lines[2] == r"| GP\_1 \<b\>\|x\|\</b\> | 10.14 ± 0.20 |"
    assert lines[3].endswith("| **97.00** |")
    assert all(line.replace(r"\|", "").count("|") == 3 for line in lines[:5])
    assert lines[-1] == "† a layer has no weight left"


def test_csv_has_all_digits_and_reads_back():
    rows = list(csv.DictReader(io.StringIO(comma_separated(TABLE), newline="")))
    assert [row["method"] for row in rows] == ['a "b", c', "d\ne"]
    assert float(rows[0]["top1"]) == 0.1014084507042254
    assert rows[1]["top1"] == ""


@pytest.mark.parametrize("form", FORMS)
def test_empty_tables(form):
    assert written([Table("", ["method"], [])], form).endswith("\n")


def test_several_tables_have_their_titles():
    other = Table("C", ["method"], [["x"]], records=[{"method": "f", "top1": 1}])
    assert written([TABLE, other], "markdown").startswith("**A &amp; B**\n\n| method")
    assert "% C\n" in written([TABLE, other], "latex")
    rows = list(csv.DictReader(io.StringIO(written([TABLE, other], "csv"), newline="")))
    assert [row["of"] for row in rows] == ["A & B", "A & B", "C"]


def test_forms_that_there_are_not():
    with pytest.raises(FigureError, match="there is no form latx of tables; did you mean latex"):
        form_of("latx", None)
    with pytest.raises(
        FigureError, match=r"a.txt does not say its form; let its name end in .md, .tex or .csv"
    ):
        form_of(None, Path("a.txt"))
