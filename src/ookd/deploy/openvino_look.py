"""Deformable attention as an operator of OpenVINO, which has none that is fast."""

from __future__ import annotations

from typing import Any

import openvino as ov


class Look(ov.Op):  # type: ignore[misc]
    """value [1, S, M, D], offsets [1, Q, M*L*P*2], weights [1, Q, M, L*P], reference [1, Q, L, 2 or 4] and
    shapes [L, 2] -> what was seen, [1, Q, M*D]."""

    def __init__(self, inputs: list[Any] | None = None) -> None:
        super().__init__(self)
        if inputs is not None:
            self.set_arguments(inputs)
            self.constructor_validate_and_infer_types()

    def validate_and_infer_types(self) -> None:
        frames, _, heads, dim = self.get_input_shape(0)
        queries = self.get_input_shape(1)[1]
        shape = ov.PartialShape([frames, queries, heads * dim])
        self.set_output_type(0, self.get_input_element_type(0), shape)

    def clone_with_new_inputs(self, inputs: list[Any]) -> Look:
        return Look(inputs)

    def visit_attributes(self, visitor: Any) -> bool:
        return True

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: list[Any], inputs: list[Any]) -> bool:
        from ookd.deploy.look import look  # heavy, and few models need it

        value, offsets, weights, reference, shapes = (tensor.data for tensor in inputs)
        look(value, offsets, weights, reference, shapes, outputs[0].data)
        return True
