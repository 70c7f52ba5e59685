"""What the backbones of all families share."""

RESIDUALS = ("add", "pre_activation")


def per_stage(name, value, stages):
    """A tuple with one value per stage, from that or from one value for all."""
    value = (value,) * stages if isinstance(value, int | str) else tuple(value)
    if len(value) != stages:
        raise ValueError(
            f"{name} must be one value, or one for each of the {stages} stages. "
            f"Received: {name}={value}"
        )
    return value


def check(holds, rule, **received):
    """Raise `ValueError` with the rule and what was received unless it holds."""
    if not holds:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise ValueError(f"{rule}. Received: {values}")
