"""Asks a gateway everything that Triton's HTTP client can ask of a model, and holds the answers against labelled images.

    python3 triton_client.py HOST:PORT MODEL heldout.bin

heldout.bin has records of 65 bytes: 64 pixels of 0 to 16 and the digit that they show. Exits 1 where an answer is not what
the Open Inference Protocol or the labels say.
"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

BATCH = 20
JSON_BATCHES = 5  # asked again in JSON; the rest in binary only, since each image is real work
LEAST_ACCURACY = 0.97


def check(holds, what):
    if not holds:
        raise SystemExit(f"triton_client: {what}")


def refused(call, what):
    """The server's message, where the client raises because the server refused."""
    try:
        call()
    except InferenceServerException as error:
        check(error.message(), f"{what} is refused without a message")
        return error
    raise SystemExit(f"triton_client: {what} is not refused")


def check_descriptions(client, model):
    check(client.is_server_live() and client.is_server_ready(), "the server is not live and ready")
    check(client.is_model_ready(model) and client.is_model_ready(model, "1"), f"{model} is not ready")
    check(not client.is_model_ready("no-such-model"), "a model that is not there is ready")
    server = client.get_server_metadata()
    check(server["name"] and server["version"], f"server metadata: {server}")
    check("binary_tensor_data" in server["extensions"], f"extensions: {server}")
    metadata = client.get_model_metadata(model)
    check(metadata["name"] == model, f"model metadata: {metadata}")
    expected = [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    check(metadata["inputs"] == expected, f"inputs: {metadata['inputs']}")
    check(metadata["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}], f"outputs: {metadata}")
    config = client.get_model_config(model)
    check(config["name"] == model and config["max_batch_size"] == 0, f"config: {config}")
    check(config["input"][0]["data_type"] == "TYPE_FP32", f"config: {config}")


def infer(client, model, images, binary):
    tensor = triton.InferInput("image", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, binary_data=binary)
    wanted = [triton.InferRequestedOutput("logits", binary_data=binary)]
    answer = client.infer(model, [tensor], outputs=wanted, request_id="r-7")
    check(answer.get_response()["id"] == "r-7", f"another request's id: {answer.get_response()}")
    return answer.as_numpy("logits")


def check_answers(client, model, images, labels):
    """Every image in binary: mostly the right digits. Some in JSON too: the same numbers."""
    right = 0
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        in_binary = infer(client, model, batch, binary=True)
        check(in_binary.shape == (len(batch), 10) and in_binary.dtype == np.float32, f"logits: {in_binary.shape}")
        if start < JSON_BATCHES * BATCH:
            in_json = infer(client, model, batch, binary=False)
            # JSON carries the shortest decimal that reads back as the same float.
            check(np.array_equal(in_json, in_binary), f"JSON and binary differ from image {start} on")
        right += int((in_binary.argmax(axis=1) == labels[start : start + BATCH]).sum())
    accuracy = right / len(images)
    check(accuracy >= LEAST_ACCURACY, f"accuracy {accuracy}")
    return accuracy


def check_refusals(client, model):
    refused(lambda: client.get_model_metadata("no-such-model"), "metadata of a model that is not there")
    wrong_shape = np.zeros((1, 1, 8, 7), dtype=np.float32)
    for binary in (False, True):
        refused(lambda: infer(client, model, wrong_shape, binary), "a wrong shape")
        refused(lambda: infer(client, "no-such-model", wrong_shape, binary), "a model that is not there")


def main():
    address, model, path = sys.argv[1:]
    records = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8).reshape(-1, 65)
    images, labels = records[:, :64].astype(np.float32).reshape(-1, 1, 8, 8), records[:, 64]
    with triton.InferenceServerClient(address) as client:
        check_descriptions(client, model)
        accuracy = check_answers(client, model, images, labels)
        check_refusals(client, model)
    print(f"{len(images)} images in binary, {JSON_BATCHES * BATCH} also in JSON, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
