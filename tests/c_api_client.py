"""A client of SavedModels without Python's TensorFlow: the C API through ctypes, and NumPy.

    python c_api_client.py LIBRARY FOLDER < requests.json

A request is `{"inputs": [[operation, index, dtype, value], ...], "outputs": {name: [operation,
index]}}`; printed are the outputs of each, as JSON. https://www.tensorflow.org/install/lang_c
"""

import ctypes
import json
import sys
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p

import numpy as np

DTYPES = {"float32": 1, "int32": 3, "uint8": 4, "string": 7, "int64": 9}
NUMPY = {number: name for name, number in DTYPES.items()}
SIZE_OF_STRING = 24  # of TF_TString


class Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


class Client:
    def __init__(self, library, folder):
        self.tf = ctypes.CDLL(library)
        for name in (
            "TF_NewStatus TF_NewGraph TF_NewSessionOptions TF_LoadSessionFromSavedModel "
            "TF_GraphOperationByName TF_AllocateTensor TF_TensorData TF_StringGetDataPointer"
        ).split():
            getattr(self.tf, name).restype = c_void_p
        self.tf.TF_Message.restype = c_char_p
        self.tf.TF_Dim.restype = c_int64
        self.tf.TF_TensorByteSize.restype = self.tf.TF_StringGetSize.restype = c_size_t
        self.status = c_void_p(self.tf.TF_NewStatus())
        self.graph = c_void_p(self.tf.TF_NewGraph())
        options = c_void_p(self.tf.TF_NewSessionOptions())
        tags = (c_char_p * 1)(b"serve")
        self.session = c_void_p(
            self.tf.TF_LoadSessionFromSavedModel(
                options, None, folder.encode(), tags, 1, self.graph, None, self.status
            )
        )
        self.check()

    def check(self):
        if self.tf.TF_GetCode(self.status):
            raise SystemExit(self.tf.TF_Message(self.status).decode())

    def place(self, operation, index):
        found = self.tf.TF_GraphOperationByName(self.graph, operation.encode())
        if not found:
            raise SystemExit(f"no operation {operation}")
        return Output(found, index)

    def tensor(self, dtype, value):
        strings = [text.encode() for text in np.ravel(value)] if dtype == "string" else None
        array = np.asarray(value, None if strings is not None else dtype)
        size = SIZE_OF_STRING * len(strings) if strings is not None else array.nbytes
        sizes = (c_int64 * array.ndim)(*array.shape)
        tensor = c_void_p(
            self.tf.TF_AllocateTensor(DTYPES[dtype], sizes, array.ndim, c_size_t(size))
        )
        data = self.tf.TF_TensorData(tensor)
        if strings is None:
            ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
        for n, text in enumerate(strings or ()):
            place = c_void_p(data + n * SIZE_OF_STRING)
            self.tf.TF_StringInit(place)
            self.tf.TF_StringCopy(place, text, c_size_t(len(text)))
        return tensor

    def value(self, tensor):
        shape = [self.tf.TF_Dim(tensor, n) for n in range(self.tf.TF_NumDims(tensor))]
        data, dtype = self.tf.TF_TensorData(tensor), NUMPY[self.tf.TF_TensorType(tensor)]
        if dtype != "string":
            raw = ctypes.string_at(data, self.tf.TF_TensorByteSize(tensor))
            return np.frombuffer(raw, dtype).reshape(shape).tolist()
        texts = []
        for n in range(int(np.prod(shape))):
            place = c_void_p(data + n * SIZE_OF_STRING)
            start = c_void_p(self.tf.TF_StringGetDataPointer(place))
            texts.append(ctypes.string_at(start, self.tf.TF_StringGetSize(place)).decode())
        return np.reshape(np.array(texts, object), shape).tolist()

    def run(self, inputs, outputs):
        places = (Output * len(inputs))(*[self.place(op, n) for op, n, _, _ in inputs])
        values = (c_void_p * len(inputs))(*[self.tensor(t, v).value for _, _, t, v in inputs])
        wanted = (Output * len(outputs))(*[self.place(*where) for where in outputs.values()])
        results = (c_void_p * len(outputs))()
        self.tf.TF_SessionRun.argtypes = [
            c_void_p, c_void_p, POINTER(Output), POINTER(c_void_p), c_int, POINTER(Output),
            POINTER(c_void_p), c_int, c_void_p, c_int, c_void_p, c_void_p,
        ]  # fmt: skip
        self.tf.TF_SessionRun(
            self.session, None, places, values, len(inputs), wanted, results, len(outputs),
            None, 0, None, self.status,
        )  # fmt: skip
        self.check()
        return {name: self.value(c_void_p(r)) for name, r in zip(outputs, results, strict=True)}


if __name__ == "__main__":
    client = Client(*sys.argv[1:])
    print(json.dumps([client.run(**request) for request in json.load(sys.stdin)]))
