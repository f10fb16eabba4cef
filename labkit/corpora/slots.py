"""The names of placeholders in delexicalised text, and the classes that scoring maps them to.

MultiWOZ systems spell placeholders in several ways (`[restaurant_name]`, `[value_name]`, `[name]`). For scoring they
are mapped to the unified ontology of Nekvinda & Dušek (2021), "Shades of BLEU, Flavours of Success".
"""

VENUES = ("restaurant", "hotel", "attraction")
WITH_ADDRESS = ("attraction", "hospital", "hotel", "police", "restaurant")


def _names(slots: str, prefixed: str = "", domains: tuple[str, ...] = ()) -> set[str]:
    """Bare names, and the `prefixed` slots (by default the bare ones) with each domain before them."""
    bare = slots.split("|")
    return set(bare) | {
        f"{domain}_{slot}" for domain in domains for slot in (prefixed.split("|") if prefixed else bare)
    }


# class -> the placeholder names that it takes
CLASSES: dict[str, set[str]] = {
    "ADDRESS": _names("address", domains=(*WITH_ADDRESS, "value")),
    "AREA": _names("area", domains=("value", *VENUES)),
    "TIME": _names("booktime|time|duration|arriveby|arrive by|leaveat|leave at")
    | _names("value_time|value_duration|value_arrive|value_leave|taxi_arriveby|taxi_leaveat")
    | _names("train_duration|train_arriveby|train_arrive|train_leaveat|train_leave"),
    "DAY": _names("day|bookday|value_day|train_day"),
    "PLACE": _names("destination|departure", domains=("value", "train", "taxi")) | {"value_place"},
    "FOOD": _names("food|value_food|restaurant_food"),
    "NAME": _names("name", domains=(*WITH_ADDRESS, "value")),
    "PHONE": _names("phone", domains=(*WITH_ADDRESS, "taxi", "value")),
    "POST": _names("postcode", domains=(*WITH_ADDRESS, "value")),
    "PRICE": _names("price|pricerange|price range|entrancefee|entrance fee|value_price|value_pricerange|train_price")
    | _names("attraction_price|attraction_entrancefee")
    | {f"{venue}_pricerange" for venue in VENUES},
    "REFERENCE": _names("ref|reference", "reference", (*VENUES, "train", "value")),
    "COUNT": _names("stars|bookstay|stay|bookpeople|people|choice|hotel_stars|value_stars|value_stay|value_people")
    | _names("value_count|value_choice|train_choice")
    | {f"{venue}_choice" for venue in VENUES},
    "TYPE": _names("type|car|value_type|value_car|taxi_type|taxi_car") | {f"{venue}_type" for venue in VENUES},
    "TRAINID": _names("trainid|train_id|value_id|id|train|train_trainid"),
    "INTERNET": _names("internet|hotel_internet"),
    "PARKING": _names("parking|hotel_parking"),
    "ID": _names("hospital_id|attraction_id|restaurant_id"),
    "DEPARTMENT": _names("department|value_department|hospital_department"),
    "OPEN": _names("openhours"),
}
CLASS_OF: dict[str, str] = {name: label for label, names in CLASSES.items() for name in names}


def placeholder(domain: str, slot: str) -> str:
    """The placeholder of a slot, with its domain where scoring knows that spelling.

    >>> placeholder("restaurant", "name"), placeholder("booking", "bookday"), placeholder("restaurant", "ref")
    ('[restaurant_name]', '[bookday]', '[restaurant_reference]')
    """
    slot = slot.lower()
    named = f"{domain}_{'reference' if slot == 'ref' else slot}"
    return f"[{named}]" if named in CLASS_OF else f"[{slot}]"
