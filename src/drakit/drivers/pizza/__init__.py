"""The teaching driver (dra.pizza): a kitchen that publishes pizzas and hands containers what they ordered.

A pizza's properties are attributes of the domain `kitchen.pizza.example`. The container finds its order in
its environment and, as a menu card, in a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from drakit.driver import AllocatedDevice, Claim, Device, Driver, Mount, PreparedClaim, PreparedDevice, device
from drakit.driver.checkpoint import write_file
from drakit.drivers.option import Options

DOMAIN = "kitchen.pizza.example"
MAX_PIZZAS = 1000


class Pizza(Struct, frozen=True):
    dough: str
    sauce: str
    cheese: str
    toppings: str
    extra_cheese_available: bool
    available_slices: int


MENU: Mapping[str, Pizza] = {
    "margherita": Pizza("thin", "tomato", "mozzarella", "basil", True, 8),
    "salami": Pizza("classic", "tomato", "mozzarella", "salami", True, 8),
    "funghi": Pizza("thin", "tomato", "mozzarella", "mushrooms", False, 6),
    "bianca": Pizza("sourdough", "cream", "gorgonzola", "walnuts", False, 4),
    "marinara": Pizza("wholegrain", "tomato", "none", "garlic", False, 8),
}


class PizzaDriver(Driver):
    """`count` pizzas, around the menu."""

    name = "dra.pizza"

    def __init__(self, node_name: str, count: int) -> None:
        super().__init__(node_name)
        names = list(MENU)
        self._pizzas = {f"pizza-{index}": names[index % len(names)] for index in range(count)}

    def devices(self) -> Sequence[Device]:
        return [
            device(name, {f"{DOMAIN}/{key}": value for key, value in properties(MENU[kind]).items()})
            for name, kind in self._pizzas.items()
        ]

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        return [self._serve(pizza, claim) for pizza in claim.devices]

    async def unprepare(self, claim: PreparedClaim) -> None:
        for card in self._cards.glob(f"*{claim.uid}-*"):
            card.unlink(missing_ok=True)

    @property
    def _cards(self) -> Path:
        return self.folder / "orders"

    def _serve(self, pizza: AllocatedDevice, claim: Claim) -> PreparedDevice:
        kind = self._pizzas[pizza.name]
        order = properties(MENU[kind])
        card = self._cards / f"{claim.uid}-{pizza.name}"
        lines = [f"order: {claim.namespace}/{claim.name}", f"pizza: {kind}"]
        lines += [f"{key}: {_word(value)}" for key, value in order.items()]
        write_file(card, ("\n".join(lines) + "\n").encode())
        variable = f"PIZZA_{pizza.name.removeprefix('pizza-')}"
        return pizza.prepared(
            env={variable: kind}
            | {f"{variable}_{_upper(key)}": _word(value) for key, value in order.items()},
            mounts=[
                Mount(
                    host_path=str(card),
                    container_path=f"/etc/pizza/{pizza.name}",
                    options=["ro", "bind"],
                )
            ],
        )


def properties(pizza: Pizza) -> dict[str, str | bool | int]:
    """What a pizza is, by attribute name."""
    return {
        "dough": pizza.dough,
        "sauce": pizza.sauce,
        "cheese": pizza.cheese,
        "toppings": pizza.toppings,
        "extraCheeseAvailable": pizza.extra_cheese_available,
        "availableSlices": pizza.available_slices,
    }


def _upper(key: str) -> str:
    """`availableSlices` as AVAILABLE_SLICES."""
    return re.sub(r"(?=[A-Z])", "_", key).upper()


def _word(value: str | bool | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build(options: dict[str, str], node_name: str) -> Driver:
    """Option: `count` (5), how many pizzas the kitchen makes."""
    reader = Options("pizza", options)
    count = reader.integer("count", len(MENU), 0, MAX_PIZZAS)
    reader.done()
    return PizzaDriver(node_name, count)
