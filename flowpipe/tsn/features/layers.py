"""Network + name of a layer -> the output of the layer, averaged over space and time."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from flowpipe.errors import UsageError
from flowpipe.words import unknown_name

GLOBAL_POOL = "global_pool"
"""Name of the default layer: the input of the classifier, after the global average pooling."""
_CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.AdaptiveAvgPool3d)


class LayerOutput:
    """Keeps the output of one layer of a network, averaged over all axes but the channels.

    Parameters
    ----------
    network : Module
        Network whose layer is kept.
    name : str
        Name of the layer, as in ``network.named_modules()``.
    channels_last : bool
        True if layers of the network return (N, T, H, W, C) or (N, H, W, C).

    Raises
    ------
    UsageError
        If there is no such layer; the message lists the layers.
    """

    def __init__(self, network: nn.Module, name: str, channels_last: bool = False) -> None:
        layers = dict(network.named_modules())
        del layers[""]
        if name not in layers:
            known = [GLOBAL_POOL, *layers]
            raise UsageError(
                f"{unknown_name('layer', name, known)}; all layers: {', '.join(known)}"
            )
        self.name = name
        self._value: Tensor | None = None
        self._channels_last = channels_last and not isinstance(layers[name], _CHANNELS_FIRST)
        layers[name].register_forward_hook(self._keep)

    def take(self) -> Tensor:
        """Return the output of the last forward pass, (N, C)."""
        value, self._value = self._value, None
        if value is None:
            raise UsageError(f"layer {self.name} is not part of the network's forward pass")
        return value

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        # Averaged at once: a layer that works in place would change the output afterwards.
        value = output[0] if isinstance(output, tuple) else output
        if not isinstance(value, Tensor) or not 2 <= value.dim() <= 5:
            raise UsageError(
                f"layer {self.name} does not return features of images; choose another with --layer"
            )
        if value.dim() == 2:
            self._value = value.clone()
        elif value.dim() == 3 or self._channels_last:  # tokens (N, tokens, C)
            self._value = value.flatten(1, -2).mean(1)
        else:
            self._value = value.flatten(2).mean(2)
