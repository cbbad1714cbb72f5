"""A tiny translator with random weights that writes a lot."""

from pathlib import Path

import torch

from riverrun.speech.bundle import FORMAT, TranslatorBundleConfig, save_bundle
from riverrun.speech.decoders import DecoderConfig
from riverrun.speech.encoders import ConformerConfig
from riverrun.speech.models import Translator, TranslatorConfig

from .tiny import tiny_tokenizer


def tiny_network(languages: tuple[str, ...] = ("de",), seed: int = 1, vocabulary: int = 40, ctc: bool = True) -> Translator:
    """Random weights, spread so that next labels differ clearly and the end comes now and then."""
    config = TranslatorConfig(
        vocabulary=vocabulary,
        source_vocabulary=40 if ctc else None,
        languages=languages,
        encoder=ConformerConfig(dim=16, layers=2, heads=2, feed_forward=32, kernel=5, subsampling_channels=4),
        decoder=DecoderConfig(dim=16, layers=2, heads=2, feed_forward=32, left=40),
        attention_layer=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Translator(config).eval()
        with torch.no_grad():
            # tied weights like to repeat what they read, and at first they read the boundary: shout it down
            for layer in network.decoder.layers:
                for part, factor in ((layer.cross.query, 4), (layer.cross.out, 20), (layer.attention.out, 20), (layer.feed_forward[4], 30)):
                    part.weight.mul_(factor)
            end = network.decoder.embedding.weight[0]
            network.decoder.norm.bias.copy_(-1.5 * end / end.square().sum())
            if network.ctc is not None:
                network.ctc.weight.mul_(12)
                network.ctc.bias[29:] += 10  # of `tiny_tokenizer`, the labels that begin words: a translator waits for a word
    return network


def tiny_translator(folder: Path, languages: tuple[str, ...] = ("de",), ctc: bool = True, weights: str = "float16") -> Path:
    """Write a translator's bundle; return its folder."""
    tokenizer, network = tiny_tokenizer(folder), tiny_network(languages, ctc=ctc)
    about = TranslatorBundleConfig(FORMAT, "tiny-st", "random weights, for tests", ("en",), "Apache-2.0", network.config)
    source = tokenizer if ctc else None
    save_bundle(folder / "translator", about, network, tokenizer, "# tiny-st\n", source=source, weights=weights)
    return folder / "translator"
