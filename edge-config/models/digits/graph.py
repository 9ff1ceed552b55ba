"""Owns the ONNX graph: how it is built from trained weights, and how its work is counted.

One graph makes the 66 views, runs the same network over all of them as one batch, and averages the probabilities:

    image [n,1,8,8] -> views [66n,1,8,8] -> network -> softmax [66n,10] -> mean over views, log -> logits [n,10]

n stays dynamic. Only operators of opset 17, and `kernel_shape` on every Conv, since the engine `rten` requires it.
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import views
from network import CONVOLUTIONS, FEATURES, LAST_CHANNELS, POOLED, Weights
from split import CLASSES, MAX_PIXEL, SIDE

OPSET = 17
# The first format version that carries opset 17.
IR_VERSION = 8
VIEW_PROBABILITIES = "view_probabilities"
# Added to the mean probability before the logarithm, so that a class that all views rule out gives -69, not -inf,
# which JSON cannot carry. Far below what moves any other answer.
PROBABILITY_FLOOR = 1e-30


class Flop(NamedTuple):
    """Floating point operations of one image: two for each multiply-add of Conv, MatMul and Gemm.

    `total` counts as is usual, by output size and kernel. `on_image` leaves out products with a convolution's padding.
    """

    total: int
    on_image: int


def build_model(weights: Weights) -> onnx.ModelProto:
    """The whole model, checked, with weights in FP32."""
    graph = helper.make_graph(
        view_nodes() + network_nodes() + vote_nodes(),
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        initializer=[numpy_helper.from_array(v, k) for k, v in (constants() | onnx_weights(weights)).items()],
    )
    model = helper.make_model(
        graph, producer_name="tidegate", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def view_nodes() -> list[onnx.NodeProto]:
    """image to `views` [66n,1,8,8]. Rows go first, so that one product a row serves all images and views."""
    return [
        helper.make_node("Div", ["image", "max_pixel"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape_rows"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["by_row"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["by_row", "horizontal"], ["leaned"]),
        helper.make_node("Reshape", ["leaned", "shape_columns"], ["columns"]),
        helper.make_node("MatMul", ["vertical", "columns"], ["resampled"]),
        helper.make_node("Reshape", ["resampled", "shape_grid"], ["grid"]),
        helper.make_node("Transpose", ["grid"], ["by_view"], perm=[2, 3, 0, 1, 4]),
        helper.make_node("Reshape", ["by_view", "shape_views"], ["views"]),
    ]


def network_nodes() -> list[onnx.NodeProto]:
    """`views` to the probabilities of each view [66n,10]."""
    nodes, flow = [], "views"
    for name, (side, _) in CONVOLUTIONS.items():
        shape = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "strides": [1, 1]}
        nodes += [
            helper.make_node("Conv", [flow, name + ".w", name + ".b"], [name], **shape),
            helper.make_node("Relu", [name], [name + ".relu"]),
        ]
        flow = name + ".relu"
    return nodes + [
        helper.make_node("MaxPool", [flow], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["pooled", "shape_features"], ["features"]),
        helper.make_node("Gemm", ["features", "linear.w", "linear.b"], ["view_scores"]),
        helper.make_node("Softmax", ["view_scores"], [VIEW_PROBABILITIES], axis=1),
    ]


def vote_nodes() -> list[onnx.NodeProto]:
    """Each view's probabilities to one answer an image: the logarithm of their mean."""
    return [
        helper.make_node("Reshape", [VIEW_PROBABILITIES, "shape_votes"], ["votes"]),
        helper.make_node("ReduceMean", ["votes"], ["mean_probability"], axes=[1], keepdims=0),
        helper.make_node("Add", ["mean_probability", "probability_floor"], ["floored"]),
        helper.make_node("Log", ["floored"], ["logits"]),
    ]


def constants() -> dict[str, np.ndarray]:
    """What the graph needs beside weights: the resampling tables, shapes and two numbers."""
    horizontal, vertical = len(views.HORIZONTAL), len(views.VERTICAL)
    return {
        "max_pixel": np.array(MAX_PIXEL, dtype=np.float32),
        "probability_floor": np.array(PROBABILITY_FLOOR, dtype=np.float32),
        "horizontal": views.horizontal_table(),
        "vertical": views.vertical_table(),
        "shape_rows": np.array([-1, SIDE, SIDE]),
        "shape_columns": np.array([SIDE, -1]),
        "shape_grid": np.array([vertical, SIDE, -1, horizontal, SIDE]),
        "shape_views": np.array([-1, 1, SIDE, SIDE]),
        "shape_features": np.array([-1, FEATURES]),
        "shape_votes": np.array([-1, views.VIEWS, CLASSES]),
    }


def onnx_weights(weights: Weights) -> dict[str, np.ndarray]:
    """Channels last to ONNX's order: [out, in, row, column], and a linear layer that reads [channel, row, column]."""
    turned = dict(weights)
    for name, (side, channels) in CONVOLUTIONS.items():
        kernel = weights[name + ".w"].reshape(side, side, -1, channels)
        turned[name + ".w"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    linear = weights["linear.w"].reshape(POOLED, POOLED, LAST_CHANNELS, CLASSES)
    turned["linear.w"] = np.ascontiguousarray(linear.transpose(2, 0, 1, 3)).reshape(FEATURES, CLASSES)
    return turned


def operators(model: onnx.ModelProto) -> list[str]:
    """Operator names in the order of execution."""
    return [node.op_type for node in model.graph.node]


def weight_count(model: onnx.ModelProto) -> int:
    """Trained numbers: the initialisers of Conv and Gemm."""
    trained = {name for node in model.graph.node if node.op_type in ("Conv", "Gemm") for name in node.input[1:]}
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.name in trained)


def count_flop(model: onnx.ModelProto) -> Flop:
    """Counts one image's work from the graph's own shapes."""
    shape = shapes_of_one_image(model)
    counted = [node_flop(node, shape) for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    return Flop(sum(f.total for f in counted), sum(f.on_image for f in counted))


def shapes_of_one_image(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The shape of every tensor for n = 1, by ONNX's own strict shape inference."""
    one = onnx.ModelProto()
    one.CopyFrom(model)
    for value in (*one.graph.input, *one.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(one, strict_mode=True, data_prop=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    shape = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    return shape | {t.name: list(t.dims) for t in inferred.initializer}


def node_flop(node: onnx.NodeProto, shape: dict[str, list[int]]) -> Flop:
    """Work of a Conv, MatMul or Gemm: two operations for each output and each term of its sum."""
    output = shape[node.output[0]]
    assert all(output), f"the shape of {node.output[0]} is not known: {output}"
    if node.op_type != "Conv":
        flop = 2 * int(np.prod(output)) * shape[node.input[0]][-1]
        return Flop(flop, flop)
    _, inputs, *kernel = shape[node.input[1]]
    each_tap = 2 * output[0] * output[1] * inputs
    size = shape[node.input[0]][2:]
    pads = next(list(a.ints) for a in node.attribute if a.name == "pads")
    total = each_tap * int(np.prod(kernel)) * int(np.prod(output[2:]))
    rows, columns = (taps_on_image(size[axis], kernel[axis], pads[axis]) for axis in (0, 1))
    return Flop(total, each_tap * rows * columns)


def taps_on_image(size: int, kernel: int, pad: int) -> int:
    """How many taps of a kernel that slides along `size` pixels at stride 1 read the image and not its padding."""
    positions = range(size + 2 * pad - kernel + 1)
    return sum(0 <= start + tap - pad < size for start in positions for tap in range(kernel))
