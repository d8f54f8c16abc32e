"""A causal transformer: the architecture in which belief geometry was found, at the published size by default.

Pre-norm blocks, ReLU, learned positions, untied read-out (Shai et al. 2024, arXiv 2405.15943, appendix). It sees a whole
sequence in one parallel pass, and can go token by token with cached keys and values.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from pcnet.predictor import Predictor, check_sizes
from pcnet.sites import Site
from pcnet.typing import State


class Attention(nn.Module):
    """Causal self-attention. New queries may look at every cached token and at new tokens up to their own."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * heads * head_width)
        self.output = nn.Linear(heads * head_width, width)

    def forward(
        self, x: Float[Tensor, "B L D"], keys: Float[Tensor, "B past A"], values: Float[Tensor, "B past A"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B total A"], Float[Tensor, "B total A"]]:
        q, k, v = self.queries_keys_values(x).chunk(3, dim=-1)  # (B, L, heads * head_width)
        keys, values = torch.cat([keys, k], 1), torch.cat([values, v], 1)
        q, k, v = (rearrange(part, "b l (h d) -> b h l d", h=self.heads) for part in (q, keys, values))
        past = keys.shape[1] - x.shape[1]
        mask = (
            None
            if x.shape[1] == 1
            else torch.ones(x.shape[1], keys.shape[1], dtype=torch.bool, device=x.device).tril(past)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output(rearrange(mixed, "b h l d -> b l (h d)")), keys, values


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, width: int, heads: int, head_width: int, mlp_width: int) -> None:
        super().__init__()
        self.resid_pre, self.attn, self.mlp, self.resid_post = Site(), Site(), Site(), Site()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, mlp_width), nn.ReLU(), nn.Linear(mlp_width, width))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.resid_pre(x)
        attended, keys, values = self.attention(self.norm_attention(x), keys, values)
        x = x + self.attn(attended)
        x = x + self.mlp(self.feedforward(self.norm_feedforward(x)))
        return self.resid_post(x), keys, values


class Transformer(Predictor):
    """Decoder-only transformer.

    Sites: `blocks.0.resid_pre|attn|mlp|resid_post`.

    Args:
        vocab_size: distinct tokens.
        context: longest sequence.
        layers: number of blocks.
        width: of the residual stream (d_model).
        heads: attention heads per block.
        head_width: of each head.
        mlp_width: hidden units of each block's feedforward part.
        scale: weights start as normal noise of standard deviation scale / sqrt(fan-in).

    Reference: arXiv 2405.15943; defaults are its Mess3 experiment.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int = 10,
        layers: int = 4,
        width: int = 64,
        heads: int = 1,
        head_width: int = 8,
        mlp_width: int = 256,
        scale: float = 0.6,
    ) -> None:
        super().__init__(vocab_size)
        check_sizes(
            context=context, layers=layers, width=width, heads=heads, head_width=head_width, mlp_width=mlp_width
        )
        self.context = context
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, head_width, mlp_width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, vocab_size)
        self._initialise(scale)

    @torch.no_grad()
    def _initialise(self, scale: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0.0, scale / module.in_features**0.5)
                module.bias.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, scale)

    def forward(self, tokens: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        self.check_tokens(tokens)
        return self._advance(self.start(tokens.shape[0]), tokens)[0]

    def start(self, batch_size: int) -> State:
        """Empty keys and values, two tensors per block."""
        attention_width = self.blocks[0].attention.output.in_features
        return tuple(self.readout.weight.new_zeros(batch_size, 0, attention_width) for _ in range(2 * len(self.blocks)))

    def step(self, memory: State, tokens: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        logits, memory = self._advance(memory, tokens.unsqueeze(1))
        return logits.squeeze(1), memory

    def _advance(self, memory: State, tokens: Int[Tensor, "B L"]) -> tuple[Float[Tensor, "B L V"], State]:
        past = memory[0].shape[1]
        if past + tokens.shape[1] > self.context:
            raise ValueError(f"tokens: {past + tokens.shape[1]} are more than the context of {self.context}")
        x = self.embedding(tokens) + self.positions.weight[past : past + tokens.shape[1]]  # (B, L, D)
        caches = []
        for block, keys, values in zip(self.blocks, memory[::2], memory[1::2], strict=True):
            x, *cache = block(x, keys, values)
            caches += cache
        return self.readout(self.norm(x)), tuple(caches)

    def flops(self, length: int, iterations: float) -> float:
        block = self.blocks[0]
        attention_width = block.attention.output.in_features
        linears = [
            block.attention.queries_keys_values,
            block.attention.output,
            block.feedforward[0],
            block.feedforward[2],
        ]
        per_block = sum(2 * linear.weight.numel() for linear in linears) + 4 * length * attention_width
        return length * (len(self.blocks) * per_block + 2 * self.readout.weight.numel())

    def sequential_depth(self, length: int, iterations: float) -> float:
        """Queries, scores, mixture, output and two of the feedforward part in every block; then the read-out."""
        return 6 * len(self.blocks) + 1
