"""The kitchen."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakit.driver import Claim, PreparedClaim
from drakit.drivers import build
from drakit.drivers.pizza import MENU, PizzaDriver

pytestmark = pytest.mark.anyio

DOMAIN = "kitchen.pizza.example"


def test_menu() -> None:
    devices = build("pizza", {"count": "7"}, "n1").devices()
    assert [device.name for device in devices] == [f"pizza-{index}" for index in range(7)]
    first = devices[0].attributes
    assert first[f"{DOMAIN}/dough"].string == "thin"
    assert first[f"{DOMAIN}/sauce"].string == "tomato"
    assert first[f"{DOMAIN}/cheese"].string == "mozzarella"
    assert first[f"{DOMAIN}/toppings"].string == "basil"
    assert first[f"{DOMAIN}/extraCheeseAvailable"].bool_ is True
    assert first[f"{DOMAIN}/availableSlices"].int_ == 8
    assert devices[5].attributes == first
    assert len(MENU) == 5


async def test_order(tmp_path: Path) -> None:
    driver = build("pizza", {}, "n1")
    assert isinstance(driver, PizzaDriver)
    driver.folder = tmp_path
    result = {"request": "pizza", "driver": "dra.pizza", "pool": "n1", "device": "pizza-2"}
    document = {
        "metadata": {"namespace": "default", "name": "my-order", "uid": "u1"},
        "status": {"allocation": {"devices": {"results": [result]}}},
    }
    (pizza,) = await driver.prepare(Claim.of(document, "dra.pizza"))
    assert pizza.edits.env[:2] == ["PIZZA_2=funghi", "PIZZA_2_DOUGH=thin"]
    assert "PIZZA_2_EXTRA_CHEESE_AVAILABLE=false" in pizza.edits.env
    (mount,) = pizza.edits.mounts
    assert (mount.container_path, mount.options) == ("/etc/pizza/pizza-2", ["ro", "bind"])
    card = Path(mount.host_path)
    assert card.read_text().splitlines()[:2] == ["order: default/my-order", "pizza: funghi"]
    await driver.unprepare(PreparedClaim(namespace="default", name="my-order", uid="u1"))
    await driver.unprepare(PreparedClaim(namespace="default", name="my-order", uid="u1"))
    assert not card.exists()
