"""Makes the models beside it, and what onnxruntime computes of them: pip install onnx onnxruntime numpy; python make.py

NAME.onnx is a model; NAME.json holds the flags for `hecc import`, inputs for `hecc run`, and the results.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(7)


def weight(*shape, scale=0.5):
    return rng.uniform(-scale, scale, shape).astype(np.float32)


def make(name, inputs, outputs, nodes, weights, flags=(), opset=17, batch=3, kind=np.float32):
    """inputs: name -> shape, None standing for the axis of instances; outputs: name -> rank."""
    code = TensorProto.FLOAT if kind == np.float32 else TensorProto.DOUBLE

    def info(key, shape):
        return helper.make_tensor_value_info(key, code, ["N" if d is None else d for d in shape])

    graph = helper.make_graph(
        nodes,
        "main_graph",
        [info(k, s) for k, s in inputs.items()],
        [info(k, s) for k, s in outputs.items()],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="make.py"
    )
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / f"{name}.onnx")
    values = {
        k: rng.uniform(-1, 1, [batch if d is None else d for d in s]).astype(kind)
        for k, s in inputs.items()
    }
    session = onnxruntime.InferenceSession(model.SerializeToString())
    results = dict(zip(outputs, session.run(list(outputs), values)))
    record = {
        "flags": list(flags),
        "inputs": {k: v.astype(np.float64).tolist() for k, v in values.items()},
        "outputs": {k: v.astype(np.float64).tolist() for k, v in results.items()},
    }
    (HERE / f"{name}.json").write_text(json.dumps(record) + "\n")


node = helper.make_node

make(
    "network",
    {"image": (None, 1, 6, 6)},
    {"logits": (None, 3)},
    [
        node("Conv", ["image", "conv.weight", "conv.bias"], ["maps"], "/conv/Conv", strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Mul", ["maps", "maps"], ["/Mul_output_0"], "/Mul"),
        node("AveragePool", ["/Mul_output_0"], ["pooled"], "/pool", kernel_shape=[2, 2], strides=[1, 1]),
        node("Flatten", ["pooled"], ["/Flatten_output_0"], "/Flatten", axis=1),
        node("Gemm", ["/Flatten_output_0", "fc1.weight", "fc1.bias"], ["hidden"], "/fc1/Gemm", transB=1),
        node("Pow", ["hidden", "two"], ["squares"], "/Pow"),
        node("Gemm", ["squares", "fc2.weight", "fc2.bias"], ["logits"], "/fc2/Gemm", alpha=0.5, beta=2.0),
    ],
    {
        "conv.weight": weight(2, 1, 3, 3),
        "conv.bias": weight(2),
        "fc1.weight": weight(4, 8),
        "fc1.bias": weight(4),
        "two": np.float32(2),
        "fc2.weight": weight(4, 3),
        "fc2.bias": weight(1, 3),
    },
    ["--batch", "3", "--range", "maps=-8,8", "--range", "hidden=-8,8", "--range", "logits=-50,50"],
)

make(
    "convolutions",
    {"x": (None, 4, 5, 5)},
    {"same": (None, 2, 3, 3), "lower": (None, 2, 3, 3), "grouped": (None, 4, 5, 5), "depthwise": (None, 8, 2, 2)},
    [
        node("Conv", ["x", "k"], ["same"], "same", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Conv", ["x", "k2"], ["lower"], "lower", auto_pad="SAME_LOWER", strides=[2, 2]),
        node("Conv", ["x", "g", "gb"], ["grouped"], "grouped", group=2, pads=[1, 1, 1, 1]),
        node("Conv", ["x", "d"], ["depthwise"], "depthwise", group=4, strides=[2, 2]),
    ],
    {"k": weight(2, 4, 2, 2), "k2": weight(2, 4, 2, 2), "g": weight(4, 2, 3, 3), "gb": weight(4), "d": weight(8, 1, 3, 3)},
    ["--batch", "3"],
)

make(
    "pools",
    {"x": (None, 2, 5, 6)},
    {
        "blocks": (None, 2, 2, 3),
        "overlap": (None, 2, 4, 5),
        "padded": (None, 2, 3, 3),
        "counted": (None, 2, 3, 3),
        "whole": (None, 2, 1, 1),
    },
    [
        node("AveragePool", ["x"], ["blocks"], kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["x"], ["overlap"], kernel_shape=[2, 2]),
        node("AveragePool", ["x"], ["padded"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        node("AveragePool", ["x"], ["counted"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["x"], ["whole"]),
    ],
    {},
    ["--batch", "3"],
)

make(
    "elementwise",
    {"a": (None, 2, 3), "b": (None, 2, 3)},
    {"y": (None, 2, 3), "z": (None, 2, 3)},
    [
        node("Constant", [], ["half"], value_float=0.5),
        node("Add", ["a", "row"], ["s1"]),
        node("Sub", ["full", "s1"], ["s2"]),
        node("Mul", ["s2", "half"], ["s3"]),
        node("Div", ["s3", "column"], ["s4"]),
        node("Neg", ["s4"], ["s5"]),
        node("Identity", ["s5"], ["s6"]),
        node("Dropout", ["s6"], ["s7"]),
        node("Sum", ["s7", "b", "one"], ["y"]),
        node("Mul", ["a", "b"], ["product"]),
        node("Pow", ["product", "three"], ["z"]),
    ],
    {
        "row": weight(3),
        "full": weight(1, 2, 3),
        "column": weight(2, 1) + 2,
        "one": weight(1, 1, 1),
        "three": np.float32(3),
    },
    ["--batch", "3"],
)

make(
    "shapes",
    {"x": (None, 2, 3, 4)},
    {"reshaped": (None, 6, 4), "turned": (None, 4, 2, 3), "joined": (None, 3, 3, 4), "padded": (None, 2, 4, 7), "summed": (None, 2, 1, 4), "average": (None, 3)},
    [
        node("Reshape", ["x", "to"], ["reshaped"]),
        node("Transpose", ["x"], ["turned"], perm=[0, 3, 1, 2]),
        node("ReduceMean", ["x"], ["first"], axes=[1], keepdims=1),
        node("Concat", ["x", "first"], ["joined"], axis=1),
        node("Pad", ["x", "pads"], ["padded"]),
        node("ReduceSum", ["x", "axes"], ["summed"], keepdims=1),
        node("Unsqueeze", ["x", "axes"], ["wide"]),
        node("Squeeze", ["wide", "axes"], ["narrow"]),
        node("ReduceMean", ["narrow"], ["average"], axes=[1, -1], keepdims=0),
    ],
    {
        "to": np.array([0, -1, 4], np.int64),
        "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64),
        "axes": np.array([2], np.int64),
    },
    ["--batch", "3"],
)

make(
    "normalized",
    {"x": (1, 3, 4)},
    {"y": (1, 2)},
    [
        node("BatchNormalization", ["x", "scale", "shift", "mean", "variance"], ["n"], "/bn", epsilon=1e-3),
        node("Flatten", ["n"], ["f"]),
        node("MatMul", ["f", "w"], ["m"]),
        node("Sigmoid", ["m"], ["g"]),
        node("Add", ["g", "bias"], ["y"]),
    ],
    {
        "scale": weight(3) + 1,
        "shift": weight(3),
        "mean": weight(3),
        "variance": weight(3) + 1,
        "w": weight(12, 2, scale=0.2),
        "bias": weight(1, 2),
    },
    ["--degree", "15", "--range", "m=-4,4"],
    batch=1,
)

make(
    "matrices",
    {"a": (3, 4), "v": (4,)},
    {"y": (2, 2), "u": (3,), "t": (4, 3)},
    [
        node("Gemm", ["w", "a", "c"], ["p"], transA=1),
        node("Gemm", ["p", "q"], ["y"], alpha=-1.5, transB=1),
        node("MatMul", ["a", "v"], ["u"]),
        node("Transpose", ["a"], ["t"]),
    ],
    {"w": weight(3, 2).astype(np.float64), "c": weight(2, 1).astype(np.float64), "q": weight(2, 4).astype(np.float64)},
    kind=np.float64,
)
