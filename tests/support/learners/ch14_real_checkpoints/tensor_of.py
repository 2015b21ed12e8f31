"""Answers to `tensor_of`."""

import json
import math

import numpy as np
import safetensors.torch
import torch
from support.learners.collect import right, unexplained, wrong


@wrong("tensor_of", "It comes out as if `.float(...)` were left out.")
def in_the_dtype_of_the_file(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = torch.float32 if entry["dtype"] == "F32" else torch.bfloat16
    return torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype).reshape(entry["shape"])


@wrong("tensor_of", "You are eight bytes late: the length of the header is counted")
def the_length_counted_twice(content, name):
    n = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + n])[name]
    begin, end = (8 + 8 + n + offset for offset in entry["data_offsets"])
    dtype = torch.float32 if entry["dtype"] == "F32" else torch.bfloat16
    return torch.frombuffer(bytearray(content[begin:end]), dtype=dtype).reshape(entry["shape"]).float()


@wrong("tensor_of", "The result holds the right numbers in the right order, only")
def shape_the_other_way_round(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = torch.float32 if entry["dtype"] == "F32" else torch.bfloat16
    numbers = torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype)
    return numbers.reshape(entry["shape"][::-1]).float()


@wrong("tensor_of", "You read from where the numbers begin, whatever the tensor.")
def the_end_for_the_beginning(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[entry["dtype"]]
    return (
        torch.frombuffer(bytearray(content[start:]), dtype=dtype, count=math.prod(entry["shape"]))
        .reshape(entry["shape"])
        .float()
    )


@wrong("tensor_of", "You are eight bytes early: before the header stands its own")
def eight_bytes_of_header(content, name):
    start = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + start])[name]
    begin, end = entry["data_offsets"]
    dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[entry["dtype"]]
    return (
        torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype).reshape(entry["shape"]).float()
    )


@wrong("tensor_of", "Every tensor is read as float32. One in BF16 has two bytes a")
def all_as_float32(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    return torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=torch.float32).reshape(
        entry["shape"]
    )


@unexplained("tensor_of")
def the_last_number_lost(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[entry["dtype"]]
    return torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype)[:-1].float()


@right("tensor_of")
def by_the_library(content, name):
    return safetensors.torch.load(content)[name].float()


@right("tensor_of")
def by_shifting_bits(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    part = content[start + begin : start + end]
    if entry["dtype"] == "BF16":
        numbers = (np.frombuffer(part, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        numbers = np.frombuffer(part, dtype="<f4")
    return numbers.reshape(entry["shape"])


@right("tensor_of")
def with_an_offset_and_a_count(content, name):
    n = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + n].decode())[name]
    dtype = torch.bfloat16 if entry["dtype"] == "BF16" else torch.float32
    count = math.prod(entry["shape"])
    raw = torch.frombuffer(bytearray(content), dtype=torch.uint8)[8 + n + entry["data_offsets"][0] :]
    return raw[: count * dtype.itemsize].clone().view(dtype).view(entry["shape"]).to(torch.float32)
