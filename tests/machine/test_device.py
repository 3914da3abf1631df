"""What "auto" turns out to be, and that what is asked for is what is taken."""

from __future__ import annotations

import pytest

from lra.machine.device import resolve_device, resolve_dtype


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_what_is_asked_for_is_taken(dtype: str, device: str) -> None:
    assert resolve_dtype(dtype, device) == dtype
    assert resolve_device(device) == device


def test_auto_is_bf16_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (resolve_dtype("auto", "cuda"), resolve_dtype("auto", "cpu")) == ("bf16", "float32")
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert resolve_device("auto") == device
