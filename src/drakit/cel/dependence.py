"""What the nodes of a loop depend on: which loop's variables they read, and how big they are."""

from __future__ import annotations

from drakit.cel.attribute import Slot
from drakit.cel.frame import Step
from drakit.cel.loop import Loop, Looped
from drakit.cel.syntax import Fold, Ident, Node


class Dependence:
    """Answers for the nodes of one tree, planned as `steps`. `places` has the names and depths of the slots
    of loop variables, `binds` the binding and its depth of those of `cel.bind`; both grow while statements
    are written."""

    def __init__(self, steps: dict[int, Step]) -> None:
        self._steps = steps
        self.places: dict[int, tuple[str, int]] = {}
        self.binds: dict[int, tuple[Loop, int]] = {}
        self._free: dict[int, frozenset[int]] = {}
        self._sizes: dict[int, int] = {}

    def _free_slots(self, node: Node) -> frozenset[int]:
        known = self._free.get(node.number)
        if known is None:
            step = self._steps.get(node.number)
            if isinstance(node, Ident) and isinstance(step, Slot):
                known = frozenset((step.slot,))
            else:
                parts = [self._free_slots(child) for child in node.children()]
                known = frozenset().union(*parts)
                if isinstance(step, Looped):
                    loop = step.loop
                    known -= {loop.accu_slot, loop.first_slot, loop.second_slot}
            self._free[node.number] = known
        return known

    def size(self, node: Node) -> int:
        """How many nodes it has, those of loops inside it not counted, which tell the meter themselves."""
        known = self._sizes.get(node.number)
        if known is None:
            is_loop = isinstance(node, Fold) and node.macro != "bind"
            known = self._sizes[node.number] = 1 + (0 if is_loop else sum(map(self.size, node.children())))
        return known

    def depth_of(self, node: Node) -> int:
        """The innermost loop whose variables the node reads."""
        depth = 0
        for slot in self._free_slots(node):
            if slot in self.places:
                depth = max(depth, self.places[slot][1])
            elif slot in self.binds:
                depth = max(depth, self.binds[slot][1])
        return depth
