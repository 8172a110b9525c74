"""Exported graphs compute what the model computes; an export that does not is not written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import openvino
import orjson
import pytest
import torch
from torch import nn

from deploy.exported import (
    RUNNERS,
    SIZE,
    compact,
    compact_graphs,
    idol_graphs,
    images,
    open_graphs,
    small_idol,
)
from ookd.cli import main
from ookd.deploy import export as exporting
from ookd.deploy.convert import SMALL, write_graphs
from ookd.deploy.dense import dense_outputs, weighted_nodes
from ookd.deploy.export import export
from ookd.deploy.folder import Kind, Precision
from ookd.deploy.graph import OnnxGraphs, split
from ookd.deploy.parity import Parity, require
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.backbones.efficientnet_lite import SameConv
from ookd.models.compact.family import COMPACT
from ookd.models.idol.family import IDOL
from ookd.models.preprocess import IMAGENET

MODELS = {"compact": (lambda: zoo.load(compact()).model, compact_graphs), "idol": (small_idol, idol_graphs)}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", RUNNERS)
def test_both_graphs_together_are_the_model(name: str, kind: Kind, tmp_path: Path) -> None:
    model, graphs = (make() for make in MODELS[name])
    write_graphs(graphs, tmp_path, kind, "fp32", [])
    runner = open_graphs(tmp_path, kind)
    frame = images()[0].copy()
    frame[50:], frame[:, 90:] = 200, 200  # outside the image: must not matter
    size = np.array([50, 90])
    actual = runner.start({"frames": frame[None], "size": size})()

    pad = torch.ones(1, *SIZE, dtype=torch.bool)
    pad[:, :50, :90] = False
    with torch.no_grad():
        expected, _ = model(IMAGENET.normalise(torch.from_numpy(frame).permute(2, 0, 1)[None], pad), pad)
        for chosen in [[2]], [[4, 0, 4, 1]]:
            given = {name: actual[name] for name in graphs.shared}
            masks = runner.masks({**given, "select": np.array(chosen)})
            close(masks, expected.masks(torch.tensor(chosen)))
    close(actual["logits"], expected.logits)
    close(actual["embed"], expected.embed)
    if name == "idol":
        close(actual["boxes"], expected.boxes)
    else:
        assert "boxes" not in actual


def close(actual: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-4 * max(1, expected.abs().max().item()))


def test_int8_is_for_the_convolutions_and_products_that_all_cells_pass_through() -> None:
    mask_features = 1  # a convolution whose weights are means of others
    found = weighted_nodes(compact_graphs().frame, COMPACT.dense)
    assert len(found) == len(dense_layers()) + mask_features


def test_int8_is_for_the_broad_layers_of_idols_decoder_too() -> None:
    layers = len(small_idol().decoder.layers)
    broad = weighted_nodes(idol_graphs().frame, IDOL.broad)
    assert len(broad) == 3 * layers  # two in the feed-forward, one after attention


def test_deformable_attention_keeps_all_of_its_graph_in_single_precision(tmp_path: Path) -> None:
    frames = [{"frames": image[None], "size": np.array(SIZE)} for image in images()[:2]]
    files = write_graphs(idol_graphs(), tmp_path, "openvino", "int8", iter(frames))
    assert [file.name for file in files] == ["frame.xml", "frame.bin", "masks.xml", "masks.bin"]
    outputs = open_graphs(tmp_path, "openvino").start(frames[0])()
    exact = computed(onnx.inliner.inline_local_functions(idol_graphs().frame), frames[0])
    assert np.abs(outputs["boxes"] - exact["boxes"]).max() < 0.02


def test_an_onnx_file_holds_no_weight_that_nothing_reads(tmp_path: Path) -> None:
    for file in write_graphs(idol_graphs(), tmp_path, "onnx", "fp32", []):
        graph = onnx.load(file).graph
        read = {name for node in graph.node for name in node.input}
        assert read.issuperset(weight.name for weight in graph.initializer)


@pytest.mark.parametrize("kind", RUNNERS)
def test_exported_files_do_not_say_where_the_program_lies(kind: Kind, tmp_path: Path) -> None:
    for file in write_graphs(compact_graphs(), tmp_path, kind, "fp32", []):
        content = file.read_bytes()
        for place in (Path.home(), Path(torch.__file__).parents[1], Path(exporting.__file__).parents[2]):
            assert str(place).encode() not in content.replace(b"\0", b""), file.name


def dense_layers() -> list[nn.Module]:
    """All layers of the encoder, and those of the decoder that run on its cells."""
    model = zoo.load(compact()).model
    encoder = [x for x in model.encoder.modules() if isinstance(x, SameConv | nn.Conv2d | nn.Linear)]
    return encoder + [x for layer in model.layers for x in (layer.look.coarse.key, layer.look.coarse.value)]


@pytest.mark.parametrize("graphs", [compact_graphs, idol_graphs])
def test_dense_parts_and_the_rest_together_are_the_frame_graph(graphs: Callable[[], OnnxGraphs]) -> None:
    frame, modules = graphs().frame, graphs().family.dense
    names = dense_outputs(frame, modules)
    dense, rest = split(frame, names)
    assert len(weighted_nodes(dense, modules)) == len(weighted_nodes(frame, modules))
    assert not weighted_nodes(rest, modules)
    given = {"frames": images()[0][None], "size": np.array([50, 90])}
    values = computed(dense, given)
    expected, actual = computed(frame, given), values | computed(rest, given | values)
    assert values.keys() == set(names)
    assert all(np.abs(actual[name] - expected[name]).max() < 1e-4 for name in expected)


def computed(graph: onnx.ModelProto, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


@pytest.mark.parametrize(("precision", "error"), [("bf16", 0.1), ("int8", 0.2)])
def test_openvino_computes_the_dense_parts_in_bfloat16(
    precision: Precision, error: float, tmp_path: Path
) -> None:
    given = {"frames": images()[0][None], "size": np.array(SIZE)}
    write_graphs(compact_graphs(), tmp_path, "openvino", precision, iter([given]))

    def compiled(part: str, arithmetic: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        options = {"INFERENCE_PRECISION_HINT": arithmetic}
        graph = openvino.Core().compile_model(tmp_path / f"{part}.xml", "CPU", options)
        return {port.get_any_name(): value for port, value in graph(inputs).items()}

    values = compiled("dense", "bf16", given)
    frame = compact_graphs().frame
    for name, exact in computed(split(frame, dense_outputs(frame, COMPACT.dense))[0], given).items():
        assert np.abs(values[name] - exact).mean() < error * np.abs(exact).mean()
    expected = compiled("frame", "f32", given | values)
    runner = open_graphs(tmp_path, "openvino")
    for _ in range(2):  # the second time with requests that were used before
        actual = runner.start(given)()
        assert all(np.array_equal(actual[name], expected[name]) for name in expected)


def test_fp16_halves_the_file_and_int8_quarters_the_encoder(tmp_path: Path) -> None:
    sizes, queries = {}, zoo.load(compact()).model.config.queries
    frames = [{"frames": image[None], "size": np.array(SIZE)} for image in images()[:2]]
    for precision in ("fp32", "fp16", "int8"):
        (tmp_path / precision).mkdir()
        frame, _ = write_graphs(compact_graphs(), tmp_path / precision, "onnx", precision, iter(frames))
        sizes[precision] = frame.stat().st_size
        assert onnxruntime.InferenceSession(frame).run(["logits"], frames[0])[0].shape == (1, queries, 14)
    saved = 4 * sum(p.numel() for p in zoo.load(compact()).model.parameters())
    assert sizes["fp32"] - sizes["fp16"] == pytest.approx(saved / 2, rel=0.05)
    dense = 3 * sum(layer.weight.numel() for layer in dense_layers())
    assert sizes["fp32"] - sizes["int8"] == pytest.approx(dense, rel=0.1)


def test_openvino_halves_weights_but_not_the_few_numbers_that_say_where_things_are(tmp_path: Path) -> None:
    constants, sizes = {}, {}
    for precision in ("fp32", "fp16"):
        (tmp_path / precision).mkdir()
        files = write_graphs(compact_graphs(), tmp_path / precision, "openvino", precision, [])
        sizes[precision] = files[1].stat().st_size
        nodes = openvino.Core().read_model(files[0]).get_ops()
        single = [
            n for n in nodes if n.get_type_name() == "Constant" and n.get_element_type() == openvino.Type.f32
        ]
        constants[precision] = [node.data for node in single]
    assert all(data.size < SMALL for data in constants["fp16"])
    kept = {(data.shape, data.tobytes()) for data in constants["fp16"]}
    small = {(data.shape, data.tobytes()) for data in constants["fp32"] if data.size < SMALL}
    assert small
    assert small <= kept
    halved = sum(data.size for data in constants["fp32"] if data.size >= SMALL)
    assert sizes["fp32"] - sizes["fp16"] == pytest.approx(2 * halved, rel=0.02)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Callable[[OnnxGraphs], None]:
    """Hand `export` graphs that were traced before."""

    def use(graphs: OnnxGraphs) -> None:
        monkeypatch.setattr(exporting, "trace", lambda model, size: graphs)

    return use


def test_an_export_that_differs_from_its_model_is_not_written(
    tmp_path: Path, traced: Callable[[OnnxGraphs], None]
) -> None:
    good = compact_graphs()
    frame = onnx.ModelProto()
    frame.CopyFrom(good.frame)
    for weight in frame.graph.initializer:
        if weight.name.endswith("heads.classify.bias"):
            weight.raw_data = np.ones(weight.dims, np.float32).tobytes()
    traced(replace(good, frame=frame))
    with pytest.raises(UserError, match="not written, because the exported model differs"):
        export(compact(), tmp_path / "out", "onnx", "fp32", SIZE, scenes=0)
    assert not list(tmp_path.iterdir())


def test_bf16_is_refused_where_it_would_move_the_sampling_points_of_attention(
    tmp_path: Path, traced: Callable[[OnnxGraphs], None]
) -> None:
    traced(idol_graphs())
    with pytest.raises(UserError, match="bf16 cannot hold the sampling points"):
        export(compact(), tmp_path / "out", "openvino", "bf16", SIZE, scenes=0)


def test_what_an_export_must_reach() -> None:
    require(Parity(0.9995, 0.0005), "fp32")
    for worse in (Parity(0.99, 0.0005), Parity(0.9995, 0.01), Parity(float("nan"), 0.0)):
        with pytest.raises(UserError, match="fp32 must reach"):
            require(worse, "fp32")


def test_the_command_writes_a_folder_and_tells_the_cost(
    tmp_path: Path, traced: Callable[[OnnxGraphs], None], capsys: pytest.CaptureFixture[str]
) -> None:
    traced(compact_graphs())
    out = tmp_path / "out"
    command = ["export", str(compact()), str(out), "--size", "64x96", "--to", "onnx", "--scenes", "1"]
    assert main([*command, "--json"]) == 0
    summary = orjson.loads(capsys.readouterr().out)
    assert summary["ap"][0] == pytest.approx(summary["ap"][1], abs=0.02)
    assert summary["mask_overlap"] > 0.999
    assert main(command) == 2
    assert "exists; give another name or --overwrite" in capsys.readouterr().err


def test_what_cannot_be_exported_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for options, message in {
        ("--size", "160"): "--size 160: should be height x width, as in 160x288",
        ("--size", "100x160"): "size 100x160: height and width must be multiples of 32",
        ("--to", "onnx", "--precision", "bf16"): "bf16 is for openvino",
    }.items():
        assert main(["export", str(compact()), out, *options]) == 2
        assert message in capsys.readouterr().err
    assert not Path(out).exists()
