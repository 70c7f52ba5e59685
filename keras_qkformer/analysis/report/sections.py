"""The sections of a model's page that hold its numbers."""

from keras_qkformer.analysis.report import charts, words
from keras_qkformer.analysis.report.energies import totals
from keras_qkformer.analysis.report.markup import section, tag
from keras_qkformer.analysis.report.tables import pairs, table


def headline(record):
    """Make the numbers at the top: accuracy, size, operations, rate, energies.

    Args:
        record: dict, see `analysis.analyze`.
    """
    model, data = record["model"], record["data"]
    operations, neurons = record["operations"], record["neurons"]
    count = sum(layer["count"] for layer in neurons)
    spikes = sum(layer["rate"] * layer["count"] for layer in neurons)
    facts = [
        *_accuracies(model, data),
        (words.amount(model["parameters"]), "parameters", "that training changes"),
        (
            words.amount(sum(x["dense_macs"] for x in operations)),
            "dense MACs",
            f"per example, all {model['time_steps']} time steps",
        ),
        (
            words.amount(sum(x["synaptic_operations"] for x in operations)),
            "synaptic operations",
            "per example, counted from the spikes",
        ),
        (
            words.percent(spikes / count if count else None),
            "firing rate",
            f"spikes per neuron and step, {words.amount(count)} neurons",
        ),
    ]
    stats = [
        tag(
            "li",
            tag("strong", value),
            tag("span", what, class_="what"),
            tag("span", note, class_="note"),
        )
        for value, what, note in facts
    ]
    return tag("ul", stats, class_="stats"), totals(record["energy"])


def _accuracies(model, data):
    where = f"{data['examples']:,} examples"
    if data["accuracy"] is None:
        yield f"{data['examples']:,}", "examples", "without labels, so no accuracy"
        return
    note = f"measured on {where}"
    reported = (model["reported"] or {}).get("accuracy_percent")
    if reported is not None:
        note += f"; reported: {reported:.2f} %"
    yield words.percent(data["accuracy"]), "top-1 accuracy", note


def operations(record):
    """Make the section on operations: a table with all counts of every layer.

    Args:
        record: dict, see `analysis.analyze`.
    """
    conventions = record["energy"]["conventions"]
    head = [("Operation", False), ("Kind", False), ("Stage", False)]
    head += [("Parameters", True), ("Dense MACs", True), ("Synaptic operations", True)]
    head += [("by value", True)]
    head += [("Input mean", True), ("Input not 0", True), ("Input max", True)]
    head += [("Input values", False), ("Activations", True)]
    head += [(f"{name}, mJ", True) for name in conventions]
    rows = []
    for i, x in enumerate(record["operations"]):
        values = "0 and 1" if x["input_is_binary"] else "real"
        if x["input_is_whole"] and not x["input_is_binary"]:
            values = "whole"
        rows.append(
            [
                words.layer(x["path"]),
                words.name(x["kind"]),
                words.layer(x["stage"]),
                (x["parameters"], f"{x['parameters']:,}"),
                (x["dense_macs"], words.amount(x["dense_macs"])),
                (x["synaptic_operations"], words.amount(x["synaptic_operations"])),
                _if_known(x["synaptic_operations_by_value"]),
                (x["input_mean"], words.plain(x["input_mean"])),
                (x["input_nonzero"], words.percent(x["input_nonzero"])),
                (x["input_max"], words.plain(x["input_max"])),
                values,
                (x["activation_bytes"], f"{words.amount(x['activation_bytes'])}B"),
                *(
                    (
                        each["by_operation_mj"][i],
                        words.plain(each["by_operation_mj"][i]),
                    )
                    for each in conventions.values()
                ),
            ]
        )
    return section(
        "Operations",
        tag(
            "p",
            "Dense MACs are those of a non-spiking layer of the same shape, padding "
            "counted, without biases. Synaptic operations are the connections that the "
            "spikes of these examples passed, fan-out at borders counted exactly; by "
            "value, a 3 counts as three spikes, which says nothing of pixels, a mean "
            "over tokens, or other inputs that are no whole numbers (-). The head of a "
            "column sorts by it.",
        ),
        table("Operations of one example", head, rows),
    )


def _if_known(amount):
    return "-" if amount is None else (amount, words.amount(amount))


def rates(record):
    """Make the section on firing rates: per layer, step, channel and class.

    Args:
        record: dict, see `analysis.analyze`.
    """
    layers = record["neurons"]
    most = max((rate for x in layers for rate in x["rate_by_step"]), default=0)
    head = [("Neurons of", False), ("Rate", True), ("0 to 100 %", False)]
    head += [("By step", False)]
    head += [("By channel", False), ("Count", True), ("Max", True)]
    head += [("Never fire", True), ("Always fire", True)]
    rows = []
    for x in layers:
        path = words.layer(x["path"])
        text = words.percent(x["rate"])
        steps = ", ".join(words.percent(rate) for rate in x["rate_by_step"])
        rows.append(
            [
                path,
                (x["rate"], text),
                charts.bar(x["rate"], "rate", f"{path}: {text}"),
                charts.columns(x["rate_by_step"], most, f"{path}, by step: {steps}"),
                charts.profile(
                    x["rate_by_channel"],
                    f"{path}: rates of {len(x['rate_by_channel'])} channels, sorted",
                ),
                (x["count"], f"{x['count']:,}"),
                (x["max"], words.plain(x["max"])),
                (x["dead"], _marked(x["dead"], x["count"])),
                (x["saturated"], _marked(x["saturated"], x["count"])),
            ]
        )
    return section(
        "Firing rates",
        tag(
            "p",
            "The rate is the mean number of spikes per neuron and time step. Columns "
            f"by step are full at {words.percent(most)}; channels are sorted by their "
            "rate, and the busiest of a layer fills the height.",
        ),
        table("Firing rate of every layer of neurons", head, rows),
        _silent(layers),
        _by_class(layers),
    )


def _marked(count, of):
    if not count:
        return "0"
    return tag("span", f"{count:,} ({words.percent(count / of)})", class_="warn")


def _silent(layers):
    silent = [words.layer(x["path"]) for x in layers if x["count"] and not x["rate"]]
    if not silent:
        return tag("p", "Every layer fires.")
    return tag("p", tag("strong", "Layers that never fire: "), ", ".join(silent), ".")


def _by_class(layers):
    """Which classes make a layer fire least and most."""
    rows = []
    for x in layers:
        by_class = {
            name: rate
            for name, rate in (x["rate_by_class"] or {}).items()
            if rate is not None
        }
        if len(by_class) > 1:
            low, high = (f(by_class, key=by_class.get) for f in (min, max))
            path = words.layer(x["path"])
            rows.append(
                [
                    path,
                    (
                        by_class[low],
                        f"{words.percent(by_class[low])}  {words.name(low, 40)}",
                    ),
                    (
                        by_class[high],
                        f"{words.percent(by_class[high])}  {words.name(high, 40)}",
                    ),
                    charts.profile(
                        list(by_class.values()),
                        f"{path}: rates of the {len(by_class)} classes, sorted",
                    ),
                ]
            )
    if not rows:
        return None
    head = [("Neurons of", False), ("Quietest class", True), ("Busiest class", True)]
    return tag(
        "details",
        tag("summary", "Rates by class"),
        table("Firing rates by class", [*head, ("All classes", False)], rows),
    )


def origin(record):
    """Make the section on what made the numbers: command, versions, settings.

    Args:
        record: dict, see `analysis.analyze`.
    """
    settings = [
        (words.name(key), words.name(value, 400))
        for key, value in record["settings"].items()
    ]
    versions = {**record["versions"]}
    for key in ("machine", "commit"):
        if record.get(key):
            versions[key] = record[key]
    versions = [(words.name(key), words.name(x)) for key, x in versions.items()]
    return section(
        "How it was made",
        tag("pre", tag("code", words.name(record["command"], 4000)), tabindex=0),
        pairs([("date", words.name(record["date"])), *versions]),
        tag("details", tag("summary", "Settings"), pairs(settings))
        if settings
        else None,
    )
