"""A tiny model with random weights: the shape of the real ones, at a fraction of the size."""

from pathlib import Path

import sentencepiece
import torch

from riverrun.speech.bundle import FORMAT, BundleConfig, load_bundle, save_bundle
from riverrun.speech.encoders import ConformerConfig
from riverrun.speech.model import SpeechModel
from riverrun.speech.models import Recogniser, RecogniserConfig, TransducerConfig
from riverrun.speech.tokenizer import Tokenizer

TEXT = "the quick brown fox jumps over the lazy dog and all the other animals look on in silent wonder at such a waste of effort"


def tiny_tokenizer(folder: Path) -> Tokenizer:
    (folder / "text.txt").write_text("\n".join(TEXT.split() + [TEXT]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "tokens"),
        vocab_size=40,
        pad_id=0,
        pad_piece="<blk>",
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return Tokenizer.from_file(folder / "tokens.model")


def tiny_bundle(folder: Path, ctc: bool = True, transducer: str | None = "stateless", seed: int = 0) -> Path:
    """Write a bundle of random weights that talks a lot; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(folder)
    config = RecogniserConfig(
        vocabulary=len(tokenizer),
        encoder=ConformerConfig(dim=16, layers=2, heads=2, feed_forward=32, kernel=5, subsampling_channels=4),
        ctc=ctc,
        transducer=TransducerConfig(predictor=transducer, dim=16, joiner=16) if transducer else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Recogniser(config)
    with torch.no_grad():  # random heads almost never choose the same few labels at the right rate: spread and calm them
        for head in [network.ctc] if network.ctc is not None else []:
            head.weight.mul_(12)
            head.bias[0] += 2
        if network.joiner is not None:
            network.joiner.output.weight.mul_(12)
            network.joiner.output.bias[0] += 2
    about = BundleConfig(FORMAT, "tiny", "random weights, for tests", ("en",), "Apache-2.0", config)
    save_bundle(folder / "bundle", about, network, tokenizer, "# tiny\n")
    return folder / "bundle"


def tiny_model(folder: Path, **options: object) -> SpeechModel:
    return SpeechModel(load_bundle(str(tiny_bundle(folder, **options))))  # type: ignore[arg-type]
