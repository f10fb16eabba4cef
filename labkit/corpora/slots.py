"""The names of placeholders in delexicalised text, and the classes that scoring maps them to.

MultiWOZ systems spell placeholders in several ways (`[restaurant_name]`, `[value_name]`, `[name]`). For scoring they
are mapped to the unified ontology of Nekvinda & Dušek (2021), "Shades of BLEU, Flavours of Success": slots.toml.
"""

from labkit.storage import shipped


def _class_of() -> dict[str, str]:
    """{placeholder: its class}; slots.toml has it the other way round."""
    classes = {}
    for label, names in shipped(__file__, "slots.toml").items():
        for name in names:
            classes[name] = label
    return classes


CLASS_OF = _class_of()


def placeholder(domain: str, slot: str) -> str:
    """The placeholder of a slot, with its domain where scoring knows that spelling.

    >>> placeholder("restaurant", "name"), placeholder("booking", "bookday"), placeholder("restaurant", "ref")
    ('[restaurant_name]', '[bookday]', '[restaurant_reference]')
    """
    slot = slot.lower()
    spelled = "reference" if slot == "ref" else slot
    named = f"{domain}_{spelled}"
    if named in CLASS_OF:
        return f"[{named}]"
    return f"[{slot}]"
