"""What was measured: rows against their bars, as a table, as JSON, and a plot."""

import dataclasses
import json


@dataclasses.dataclass
class Row:
    scenario: str
    what: str
    figure: float
    unit: str
    bar: str = ""
    ratio: float | None = None
    met: bool | None = None
    points: dict | None = None  # the figure at 1, 4, 16 ... clients, where there are several


def against(scenario, what, figure, unit, base, of, at_least=None, at_most=None):
    """A row whose figure has to be so many times `base`."""
    ratio = times(figure, base)
    bar = f"≥ {at_least:g} × {of}" if at_most is None else f"≤ {at_most:g} × {of}"
    met = ratio >= at_least if at_most is None else ratio <= at_most
    return Row(scenario, what, figure, unit, bar, ratio, met)


def times(figure, base):
    """A peer that sold nothing in a short run must not end the benchmark."""
    return figure / base if base else float("inf")


def number(figure):
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def cells(row):
    yield row.scenario
    yield row.what
    figures = row.points.values() if row.points else [row.figure]
    yield f"{'  '.join(map(number, figures))} {row.unit}"
    yield "" if row.ratio is None else f"{row.ratio:.3g}"
    yield row.bar
    yield {None: "", True: "yes", False: "NO"}[row.met]


def table(rows):
    lines = [["scenario", "what", "figure", "ratio", "bar", "met"]]
    lines += [list(cells(row)) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    lines.insert(1, ["-" * width for width in widths])
    text = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in lines
    )
    return "\n".join(text)


def as_json(facts, rows):
    return (
        json.dumps(
            {"facts": facts, "rows": [dataclasses.asdict(row) for row in rows]},
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
    )


def plot(lines, file):
    """Purchases/s against clients; `lines` has the points by kind and label."""
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "flashsale"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 6.5), layout="constrained")
    axes.set_prop_cycle(color=pyplot.get_cmap("tab20").colors)
    styles = {"ours": "-o", "peer": "--s", "ceiling": ":^"}
    for (kind, label), points in lines.items():
        width = 2.5 if label == "grouped" else 1.3
        axes.plot(
            *zip(*sorted(points.items())), styles[kind], label=label, linewidth=width, markersize=4
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="clients",
        ylabel="purchases/s",
        title="One hot item, durable commits",
    )
    clients = sorted({clients for points in lines.values() for clients in points})
    axes.set_xticks(clients, labels=map(str, clients))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(file, metadata={"Date": None})
