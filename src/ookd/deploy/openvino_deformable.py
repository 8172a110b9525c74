"""Deformable attention as an OpenVINO operator, because OpenVINO has no fast one."""

from __future__ import annotations

from typing import Any

import openvino as ov


class Look(ov.Op):  # type: ignore[misc]
    """Deformable attention. OpenVINO takes the operator's type in graph files from the name of this class.

    Inputs: value [1, S, M, D], offsets [1, Q, M*L*P*2], weights [1, Q, M, L*P], reference [1, Q, L, 2 or 4],
    shapes [L, 2]. Output: [1, Q, M*D].
    """

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

    def evaluate(self, outputs: list[ov.Tensor], inputs: list[ov.Tensor]) -> bool:
        from ookd.deploy.deformable_attention import deformable_attention  # slow to import, and rarely needed

        deformable_attention(*(tensor.data for tensor in [*inputs, *outputs]))
        return True
