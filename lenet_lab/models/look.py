"""What a network makes of images, layer by layer."""

from __future__ import annotations

from torch import Tensor, nn, no_grad


def activations(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The output of every leaf layer by its name, in the order of the layers; images (n, C, H, W).

    The net runs once in evaluation mode and is left as it was.
    """
    seen: dict[str, Tensor] = {}
    leaves = {name: module for name, module in net.named_modules() if not list(module.children())}

    def keep(name: str) -> object:
        return leaves[name].register_forward_hook(lambda module, given, output: seen.update({name: output.detach()}))

    modes = [(module, module.training) for module in net.modules()]
    hooks = [keep(name) for name in leaves]
    try:
        with no_grad():
            net.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()  # type: ignore[attr-defined]
        for module, training in modes:
            module.training = training
    return seen
