"""Models from elsewhere: a plain module, Hugging Face and TransformerLens, probed by naming sites."""

import numpy as np
import pytest
import torch
from torch import nn

from pcnet.baselines import GRU
from pcnet.probing import Protocol, Rows, probe
from pcnet.probing.rows.passes import Cover, passes
from pcnet.probing.rows.prefix_walk import walk
from pcnet.processes import golden_mean, mess3, rrxor, sample, words


class Reader(nn.Module):
    """A plain causal module with nothing of ours in it: a GRU, dropout and a read-out."""

    def __init__(self, vocab_size: int, both_ways: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, 6)
        self.rnn = nn.GRU(6, 8, batch_first=True, bidirectional=both_ways)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16 if both_ways else 8, vocab_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.rnn(self.embed(tokens))[0]))


class Stepper(nn.Module):
    """A plain module whose cell fires once for each token, and that returns no logits."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = torch.zeros(len(tokens), 5)
        for column in nn.functional.one_hot(tokens, 2).float().unbind(1):
            hidden = self.cell(column, hidden)
        return hidden


def alone(model: nn.Module, site: str, tokens: list[int]) -> torch.Tensor:
    """What a site holds after one word, run by itself without our code."""
    seen = []
    handle = model.get_submodule(site).register_forward_hook(
        lambda module, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        model(torch.tensor([tokens]))
    handle.remove()
    return seen[-1][0] if seen[-1].ndim == 2 else seen[-1][0, -1]


def require_rows(model: nn.Module, sites: list[str], rows, chunk: int = 11) -> None:
    """Every row of a walk is what the model makes of that word alone."""
    seen = walk(model, rows, sites, chunk)
    model.eval()
    for row in range(0, len(rows.lengths), 3):
        word = rows.tokens[row, : rows.lengths[row]].tolist()
        for site in sites:
            torch.testing.assert_close(seen.sites[site][row], alone(model, site, word), rtol=0, atol=1e-5)


ROWS = {
    "unique": lambda: words(rrxor(), 6),
    "dead ends": lambda: words(golden_mean(), 5),
    "sampled": lambda: Rows.of_sequences(sample(rrxor(), 9, 6, torch.Generator().manual_seed(0))),
    "joined": lambda: Rows.of_words(words(rrxor(), 4)),
}


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_a_plain_module_is_walked_right(make) -> None:
    torch.manual_seed(0)
    require_rows(Reader(2), ["embed", "rnn", "head"], make())
    require_rows(Stepper(), ["cell"], make())


def test_modes_are_left_as_they_were() -> None:
    model = Reader(2).train()
    model.head.eval()
    walk(model, words(rrxor(), 4), "rnn")
    assert model.training and model.drop.training and not model.head.training


def test_logits_are_found_or_absent() -> None:
    torch.manual_seed(0)
    model, rows = Reader(2), words(rrxor(), 5)
    seen = walk(model, rows, "head")
    assert torch.equal(seen.logits, seen.sites["head"])
    assert walk(Stepper(), rows, "cell").logits is None


def test_no_more_sequences_run_than_words_that_nothing_continues() -> None:
    all_words = words(rrxor(), 7)
    cover = Cover.of(all_words)
    assert sum(map(len, cover.sequences)) == len(all_words.levels[-1].last_tokens)
    counted = []
    model = Reader(2)
    model.register_forward_pre_hook(lambda module, inputs: counted.append(len(inputs[0])))
    list(passes(model, all_words, "rnn", chunk=50))
    assert sum(counted) == len(all_words.levels[-1].last_tokens) + 2  # two more show that the model is causal


def test_our_own_models_go_both_ways() -> None:
    torch.manual_seed(0)
    model, all_words = GRU(2, 5), words(rrxor(), 6)
    down = walk(model, all_words, "cells.*.hidden").features("cells.*.hidden")
    parts = list(passes(model, all_words, "cells.0.hidden", chunk=13))
    found = torch.empty_like(down)
    for part in parts:
        found[part.rows] = part.sites["cells.0.hidden"]
    torch.testing.assert_close(found, down, rtol=0, atol=1e-6)


def test_a_model_that_looks_ahead_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="rnn changes at earlier positions"):
        walk(Reader(2, both_ways=True), words(rrxor(), 4), "rnn")


def test_sites_that_are_not_per_token_are_refused() -> None:
    class Pooled(Reader):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(tokens).mean(1)[:, :1].expand(-1, 8))

    with pytest.raises(ValueError, match=r"head gave \(1, 2\) for tokens of shape \(1, 4\)"):
        walk(Pooled(2), words(rrxor(), 4), "head")


def test_a_site_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"nothing matches 'blocks.0'; there are embed, rnn, drop, head"):
        walk(Reader(2), words(rrxor(), 3), "blocks.0")


def test_a_site_in_a_file_is_probed_like_one_in_memory(tmp_path) -> None:
    torch.manual_seed(0)
    model, rows = Reader(2), words(rrxor(), 8)
    held = walk(model, rows, "rnn").sites["rnn"]
    np.save(tmp_path / "rnn.npy", held.numpy())
    on_disk = np.load(tmp_path / "rnn.npy", mmap_mode="r")
    quick = Protocol(fold_seeds=(0,), alphas=(1e-8, 1e-4))
    arguments = (rows.filtered, rows, quick)
    assert probe(on_disk, *arguments).equals(probe(np.array(on_disk), *arguments))


def require_sense(model: nn.Module, site: str, process, length: int) -> None:
    """The site of an untrained model knows the last token: its held-out score of that is nearly 1, of the belief less."""
    rows = words(process, length)
    features = walk(model, rows, site).features(site)
    quick = Protocol(fold_seeds=(0,), alphas=(1e-8, 1e-6, 1e-4, 1e-2))
    newest = nn.functional.one_hot(rows.last_tokens, process.vocab_size).double()
    score = {}
    for name, targets in (("newest", newest), ("belief", rows.filtered)):
        table = probe(features, targets, rows, quick, (True,))
        score[name] = table[(table["position"] == "all") & (table["weights"] == "equal")]["r2"].item()
    assert score["newest"] > 0.95
    assert 0.3 < score["belief"] < 1


def test_hugging_face() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra huggingface")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=3, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    rows = words(mess3(), 5)
    require_rows(model, ["transformer.h.0", "transformer.h.1.mlp", "transformer.ln_f"], rows, chunk=300)
    seen = walk(model, rows, "transformer.ln_f")
    with torch.no_grad():
        expected = model.lm_head(seen.sites["transformer.ln_f"])
    torch.testing.assert_close(seen.logits, expected, rtol=0, atol=1e-5)
    require_sense(model, "transformer.h.1", mess3(), 6)
    with pytest.raises(ValueError, match=r"nothing matches 'h.0'; there are transformer, transformer.wte"):
        walk(model, rows, "h.0")


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated")
def test_transformer_lens() -> None:
    lens = pytest.importorskip("transformer_lens", reason="needs the extra transformer-lens")
    settings = {"n_layers": 2, "d_model": 16, "n_ctx": 8, "d_head": 8, "d_vocab": 3, "act_fn": "relu", "seed": 0}
    model = lens.HookedTransformer(lens.HookedTransformerConfig(**settings, device="cpu")).eval()
    rows = words(mess3(), 5)
    sites = ["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "ln_final.hook_normalized"]
    seen = walk(model, rows, sites)
    # against the library's own recording of every word by itself
    for row in range(0, rows.num_words, 7):
        word = rows.tokens[row, : rows.lengths[row]][None]
        with torch.no_grad():
            logits, cache = model.run_with_cache(word)
        torch.testing.assert_close(seen.logits[row], logits[0, -1], rtol=0, atol=1e-5)
        for site in sites:
            torch.testing.assert_close(seen.sites[site][row], cache[site][0, -1], rtol=0, atol=1e-5)
    require_sense(model, "hook_embed", mess3(), 6)
