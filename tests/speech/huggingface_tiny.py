"""Tiny checkpoints of transformers with random weights and tokenizers made on the spot, one of each supported family."""

import json
from pathlib import Path

import sentencepiece
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

transformers.utils.logging.disable_progress_bar()
TEXT = "der hund läuft schnell über die straße , und ein kind sieht ihm nach . ja nein auf wieder sehen"
WORDS = TEXT.split()
PIECES = sorted({part for word in WORDS for part in ("▁" + word, word[:2], word[2:]) if part})


def _byte_level(special: list[str]) -> dict[str, int]:
    """A vocabulary of byte-level BPE: all bytes, words with and without a space before, special tokens."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"Ġ{w}" for w in ("the", "dog", "runs", "over", "street")), "ing", "er"]
    return {piece: i for i, piece in enumerate([*pieces, *special])}


def _shake(network: torch.nn.Module, seed: int, scale: float = 0.35) -> None:
    """Weights that make a tiny network change its mind as it hears."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1 and "embed_positions" not in name:
                weight.copy_(torch.randn(weight.shape, generator=draw) * scale)


def _save(folder: Path, network: torch.nn.Module, *others: object) -> Path:
    network.generation_config._from_model_config = False  # else what is added to it is lost when it is read
    network.save_pretrained(folder)
    for other in others:
        other.save_pretrained(folder)
    return folder


def whisper(folder: Path, multilingual: bool = True, seed: int = 0) -> Path:
    special = ["<|endoftext|>", "<|startoftranscript|>"]
    special += ["<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"] if multilingual else []
    vocabulary = _byte_level([*special, "<|notimestamps|>", "<|0.00|>", "<|0.02|>"])
    tokenizer = transformers.WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_tokens([AddedToken(token, special=True) for token in [*special, "<|notimestamps|>"]], special_tokens=True)
    tokenizer.add_tokens([AddedToken(token, special=False) for token in ("<|0.00|>", "<|0.02|>")])
    config = transformers.WhisperConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_mel_bins=8,
        max_source_positions=200,
        max_target_positions=60,
        decoder_start_token_id=vocabulary["<|startoftranscript|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
        bos_token_id=vocabulary["<|endoftext|>"],
    )
    network = transformers.WhisperForConditionalGeneration(config)
    _shake(network, seed)
    generation = network.generation_config
    generation.no_timestamps_token_id = vocabulary["<|notimestamps|>"]
    generation.alignment_heads = [[1, 0], [2, 1]]
    generation.suppress_tokens = [vocabulary["!"]]
    generation.begin_suppress_tokens = [vocabulary["Ġ"], vocabulary["<|endoftext|>"]]
    generation.max_length = 60
    if multilingual:
        generation.lang_to_id = {token: vocabulary[token] for token in ("<|en|>", "<|de|>")}
        generation.task_to_id = {task: vocabulary[f"<|{task}|>"] for task in ("translate", "transcribe")}
    return _save(folder, network, transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=4), tokenizer)


def _sentencepiece(folder: Path, special: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("\n".join([TEXT] * 3))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "pieces"),
        vocab_size=37 + len(special),
        hard_vocab_limit=False,
        user_defined_symbols=special,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return folder / "pieces.model"


def speech_to_text(folder: Path, languages: str | None = None, seed: int = 0) -> Path:
    codes = ["<lang:de>", "<lang:fr>", *(f"<lang:{c}>" for c in ("es", "it", "nl", "pt", "ro", "ru"))] if languages else []
    pieces = _sentencepiece(folder, codes)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    (folder / "vocab.json").write_text(json.dumps({processor.IdToPiece(i): i for i in range(len(processor))}))
    options = {"lang_codes": languages, "tgt_lang": "de"} if languages else {}
    tokenizer = transformers.Speech2TextTokenizer(str(folder / "vocab.json"), str(pieces), **options)
    config = transformers.Speech2TextConfig(
        vocab_size=len(processor),
        d_model=16,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        input_feat_per_channel=8,
        conv_channels=16,
        max_source_positions=400,
        max_target_positions=80,
        decoder_start_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    network = transformers.Speech2TextForConditionalGeneration(config)
    _shake(network, seed)
    return _save(folder, network, transformers.Speech2TextFeatureExtractor(feature_size=8, num_mel_bins=8), tokenizer)


def seamless(folder: Path, version: int = 2, seed: int = 0) -> Path:
    tags = ["__deu__", "__eng__", "__fra__"]
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "<unk>", "<s>", "</s>", *PIECES, *tags])}
    tokenizer = transformers.SeamlessM4TTokenizer(
        vocab=vocabulary, merges=[], additional_special_tokens=tags, src_lang="eng", tgt_lang="deu"
    )
    kind = "SeamlessM4Tv2" if version == 2 else "SeamlessM4T"
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(vocabulary),
        hidden_size=16,
        speech_encoder_layers=2,
        speech_encoder_attention_heads=2,
        speech_encoder_intermediate_size=16,
        feature_projection_input_dim=16,
        num_adapter_layers=1,
        encoder_layers=1,
        decoder_layers=3,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=80,
        t2u_encoder_layers=1,
        t2u_decoder_layers=1,
        conv_depthwise_kernel_size=3,
        left_max_position_embeddings=4,
        right_max_position_embeddings=2,
        max_source_positions=200,
    )
    network = getattr(transformers, f"{kind}ForSpeechToText")(config)
    _shake(network, seed, 0.25)
    network.generation_config.text_decoder_lang_to_code_id = {tag.strip("_"): vocabulary[tag] for tag in tags}
    features = transformers.SeamlessM4TFeatureExtractor(feature_size=8, num_mel_bins=8, stride=2)
    return _save(folder, network, features, tokenizer)


def _fast(pieces: list[str], special: list[str], **names: str) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer of whole words in SentencePiece's spelling."""
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate([*special, *pieces])}, special[0]))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    inner.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first")
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=special[0], **names)


CANARY_PROMPT = (
    "{% for turn in messages %}{% for part in turn.content %}{% if part.type == 'text' %}<|startofcontext|><|startoftranscript|>"
    "<|{{ part.source_language }}|><|{{ part.target_language }}|>{{ '<|pnc|>' if part.punctuation else '<|nopnc|>' }}"
    "{% endif %}{% endfor %}{% endfor %}"
)


def canary(folder: Path, seed: int = 0) -> Path:
    special = ["<unk>", "<pad>", "<|endoftext|>", "<|startofcontext|>", "<|startoftranscript|>", "<|pnc|>", "<|nopnc|>"]
    special += ["<|en|>", "<|de|>", "<|fr|>"]
    tokenizer = _fast(PIECES, special, pad_token="<pad>", eos_token="<|endoftext|>")
    encoder = transformers.ParakeetEncoderConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        num_mel_bins=8,
        subsampling_conv_channels=4,
        scale_input=False,
    )
    decoder = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 80,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }
    config = transformers.CanaryConfig(
        encoder_config=encoder.to_dict(),
        decoder_config=decoder,
        vocab_size=len(tokenizer),
        pad_token_id=1,
        eos_token_id=2,
        bos_token_id=3,
        decoder_start_token_id=3,
    )
    network = transformers.CanaryForConditionalGeneration(config)
    _shake(network, seed)
    network.generation_config.eos_token_id, network.generation_config.pad_token_id = 2, 1
    features = transformers.ParakeetFeatureExtractor(feature_size=8)
    processor = transformers.CanaryProcessor(features, tokenizer, chat_template=CANARY_PROMPT)
    return _save(folder, network, processor)


def moonshine(folder: Path, seed: int = 0, normalise: bool = False) -> Path:
    tokenizer = _fast(PIECES, ["<unk>", "<s>", "</s>", "<pad>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    config = transformers.MoonshineStreamingConfig(
        encoder_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "sliding_windows": [[8, 4], [8, 0]],
            "head_dim": 8,
        },
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=200,
        pad_token_id=3,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    network = transformers.MoonshineStreamingForConditionalGeneration(config)
    _shake(network, seed)
    return _save(folder, network, transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise), tokenizer)


def qwen2_audio(folder: Path, seed: int = 0) -> Path:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
    vocabulary = _byte_level(special)
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special], special_tokens=True)
    text = {
        "model_type": "qwen2",
        "vocab_size": len(vocabulary),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 600,
        "eos_token_id": vocabulary["<|im_end|>"],
        "bos_token_id": vocabulary["<|endoftext|>"],
        "pad_token_id": vocabulary["<|endoftext|>"],
    }
    audio = {
        "model_type": "qwen2_audio_encoder",
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "num_mel_bins": 8,
        "max_source_positions": 200,
    }
    config = transformers.Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=vocabulary["<|AUDIO|>"])
    network = transformers.Qwen2AudioForConditionalGeneration(config)
    _shake(network, seed, 0.3)
    network.generation_config.eos_token_id = [vocabulary["<|im_end|>"], vocabulary["<|endoftext|>"]]
    network.generation_config.do_sample = True
    network.generation_config.top_p = 0.5
    features = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=4)
    return _save(folder, network, transformers.Qwen2AudioProcessor(features, tokenizer))


def granite_speech(folder: Path, seed: int = 0) -> Path:
    special = ["<|end_of_text|>", "<|audio|>", "<|user|>", "<|assistant|>"]
    vocabulary = _byte_level(special)
    tokenizer = transformers.GPT2Tokenizer(
        vocab=vocabulary, merges=[], unk_token=special[0], bos_token=special[0], eos_token=special[0], pad_token=special[0]
    )
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special], special_tokens=True)
    text = {
        "model_type": "granite",
        "vocab_size": len(vocabulary),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 600,
        "eos_token_id": vocabulary[special[0]],
        "bos_token_id": vocabulary[special[0]],
        "pad_token_id": vocabulary[special[0]],
    }
    encoder = {
        "model_type": "granite_speech_encoder",
        "input_dim": 160,
        "num_layers": 2,
        "hidden_dim": 16,
        "feedforward_mult": 1,
        "num_heads": 2,
        "dim_head": 8,
        "output_dim": 8,
        "context_size": 20,
        "max_pos_emb": 32,
        "conv_kernel_size": 3,
    }
    projector = {
        "model_type": "blip_2_qformer",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "encoder_hidden_size": 16,
        "cross_attention_frequency": 1,
        "vocab_size": 1,
    }
    config = transformers.GraniteSpeechConfig(
        text_config=text,
        encoder_config=encoder,
        projector_config=projector,
        audio_token_index=vocabulary["<|audio|>"],
        has_lora_adapter=False,
    )
    network = transformers.GraniteSpeechForConditionalGeneration(config)
    _shake(network, seed, 0.3)
    network.generation_config.eos_token_id = vocabulary[special[0]]
    template = "{% for turn in messages %}<|user|>{{ turn.content }}{% endfor %}<|assistant|>"
    processor = transformers.GraniteSpeechProcessor(transformers.GraniteSpeechFeatureExtractor(), tokenizer, chat_template=template)
    return _save(folder, network, processor)
