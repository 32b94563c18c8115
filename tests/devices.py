"""Tensors that behave as on devices that the tests' machine has not."""

import torch


class NoFloat64(torch.Tensor):
    """A tensor of a device without float64."""

    @classmethod
    def __torch_function__(cls, f, types, args=(), kwargs=None):
        if f is torch.Tensor.double:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        if f is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        return super().__torch_function__(f, types, args, kwargs or {})
